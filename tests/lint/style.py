# SPDX-License-Identifier: Apache-2.0
"""Licence line first, lines of at most 100 columns without tabs, files of at most 1,200 lines."""
from lint import run

SPDX = "// SPDX-License-Identifier: Apache-2.0"


def check(path, text):
    lines = text.split("\n")
    if lines[0] != SPDX:
        yield 1, f"the first line is not {SPDX}"
    for number, line in enumerate(lines, 1):
        if len(line) > 100:
            yield number, f"{len(line)} columns"
        if "\t" in line:
            yield number, "tab"
        if line != line.rstrip():
            yield number, "white space at the end of the line"
    if not text.endswith("\n"):
        yield len(lines), "no newline at the end"
    if len(lines) - 1 > 1200:
        yield 1201, f"{len(lines) - 1} lines: split the file by concept"


BAD = [("base/x.c", "int x;\n"),
       ("base/x.c", "\n" + SPDX + "\n"),
       ("base/x.c", SPDX + "\n" + "x" * 101 + "\n"),
       ("base/x.c", SPDX + "\n\tint x;\n"),
       ("base/x.c", SPDX + "\nint x; \n"),
       ("base/x.c", SPDX + "\nint x;"),
       ("base/x.c", SPDX + "\n" * 1201)]
GOOD = [("base/x.c", SPDX + "\n" + "é" * 100 + "\n"),
        ("base/x.c", SPDX + "\n" * 1200)]
run(check, BAD, GOOD)
