# SPDX-License-Identifier: Apache-2.0
"""Functions that have no place in the product: unbounded, blocking, through a shell, not thread-safe."""
import re
from lint import code_only, run

BANNED = ("strcpy strcat sprintf vsprintf gets system popen usleep sleep strtok atoi atol rand srand "
          "alloca tmpnam mktemp").split()
CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")


def check(path, text):
    if path.startswith("tests/"):
        return
    for number, line in enumerate(code_only(text).split("\n"), 1):
        for call in CALL.finditer(line):
            yield number, f"{call.group(1)}() is banned"


BAD = [("base/x.c", f"int x = {name} (a);\n") for name in BANNED] + [
    ("base/x.c", 'puts("/*");\nstrcpy(a, b);\nputs("*/");\n'),
    ("base/x.c", "char c = '\"'; gets(c);\n"),
    ("base/x.h", "/* a */ return(sleep(1)); // b\n")]
GOOD = [("base/x.c", "// never call strcpy(a, b)\n/* system(\n gets( */\n"),
        ("base/x.c", 'kl_log(l, "x", "sleep(%d) \\" rand()");\n'),
        ("base/x.c", "kl_rand(1); snprintf(b, n, f); vsnprintf(b, n, f, ap); ops->system(1);\n"),
        ("tests/unit/x.c", "sleep(1);\n")]
run(check, BAD, GOOD)
