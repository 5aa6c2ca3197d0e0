# SPDX-License-Identifier: Apache-2.0
"""clang-format agrees. Only Debian 12's version 14 is asked: others format otherwise."""
import os
import re
import shutil
import subprocess
import sys
from lint import sources

SKIP = 77  # meson's exit code for a skipped test
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
tool = shutil.which("clang-format-14") or shutil.which("clang-format")
version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout if tool else ""
if not re.search(r"version 14\.", version):
    print(f"skipped: clang-format 14 is not there ({version.strip() or 'none'})")
    sys.exit(SKIP)


def is_formatted(text):
    out = subprocess.run([tool, "--assume-filename=base/x.c"], input=text, cwd=ROOT,
                         capture_output=True, text=True, check=True).stdout
    return out == text


if sys.argv[1] == "--self-test":
    good = "int f(int *x)\n{\n    return *x;\n}\n"
    ok = is_formatted(good) and not is_formatted(good.replace("    ", "  "))
    print("the samples are told apart" if ok else "the samples are not told apart")
    sys.exit(not ok)

files = [os.path.join(sys.argv[1], path) for path in sources(sys.argv[1])]
sys.exit(subprocess.run([tool, "--dry-run", "-Werror", "--ferror-limit=3"] + files).returncode)
