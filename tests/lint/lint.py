# SPDX-License-Identifier: Apache-2.0
"""What the lints share: the source files, findings, and a main with a self-test.

A lint is a function check(path, text) that yields (line number, message). Its self-test has samples:
each bad one must be found, each good one must not.
"""
import os
import re
import sys

# From the bottom up: a folder includes only itself and what stands before it.
FOLDERS = ["base", "net", "object", "store", "watchcache", "client", "apiserver", "controllers",
           "scheduler", "kubelet", "network", "cli"]


def sources(root, ends=(".c", ".h")):
    """Paths relative to root of the files that are ours."""
    for top in FOLDERS + ["tests", "deploy"]:
        for folder, names, files in os.walk(os.path.join(root, top)):
            names[:] = sorted(n for n in names if not n.startswith(".") and n != "__pycache__")
            for name in sorted(files):
                if name.endswith(ends):
                    yield os.path.relpath(os.path.join(folder, name), root)


def code_only(text):
    """The C text with comments and the insides of literals blanked; lines stay where they are."""
    def blank(match):
        s = match.group(0)
        if s[0] in "\"'":
            return s[0] + s[0]
        return re.sub(r"[^\n]", " ", s)
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text,
                  flags=re.S)


def run(check, bad, good, ends=(".c", ".h")):
    """main of a lint: `x.py ROOT` checks the tree, `x.py --self-test` the samples."""
    if sys.argv[1] == "--self-test":
        wrong = [f"not found: {path}: {text!r}" for path, text in bad if not list(check(path, text))]
        for path, text in good:
            wrong += [f"found in good {path}: {m}" for _, m in check(path, text)]
        print("\n".join(wrong) or f"{len(bad)} bad and {len(good)} good samples are told apart")
        sys.exit(bool(wrong))
    root, files, findings = sys.argv[1], 0, 0
    for path in sources(root, ends):
        files += 1
        with open(os.path.join(root, path), encoding="utf-8") as f:
            for line, message in check(path, f.read()):
                findings += 1
                print(f"{path}:{line}: {message}")
    print(f"{files} files, {findings} findings")
    sys.exit(findings > 0 or files == 0)
