#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The named character references of HTML, as entities.c searches them: one text of names and what
they stand for, both ended by NUL, and where each begins, in the order of bytes."""
import sys
from html.entities import html5


def quoted(data):
    return "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in data)


with open(sys.argv[-1], "w") as f:
    f.write("// SPDX-License-Identifier: Apache-2.0\n// Made by gen_entities.py.\n"
            '#include "apiserver/proxy/html_int.h"\n\nconst char kl_html_entities[] =\n')
    at, starts = 0, []
    for name in sorted(html5, key=lambda n: n.encode()):
        starts.append(at)
        data = name.encode() + b"\0" + html5[name].encode() + b"\0"
        at += len(data)
        f.write(f'"{quoted(data)}"\n')
    assert at < 1 << 16, "positions have 16 bits"
    f.write(f";\nconst unsigned short kl_html_entity_at[] = {{{','.join(map(str, starts))}}};\n"
            f"const unsigned kl_html_nentities = {len(starts)};\n")
