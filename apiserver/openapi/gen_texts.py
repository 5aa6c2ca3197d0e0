#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Packs what upstream says of its types and fields (object/schema/texts.json.gz, recorded by
tests/e2e/openapi/record.py) for apiserver/openapi/texts.c.

usage: gen_texts.py TYPES_JSON TEXTS_JSON_GZ OUT
"""
import gzip
import json
import sys
import zlib


def rows(values):
    return "".join("    %s\n" % " ".join("%d," % v for v in values[i:i + 20])
                   for i in range(0, len(values), 20))


def fields_of(types, name):
    """Of the struct that a type is, perhaps under another's name."""
    while types[name]["kind"] == "ref":
        name = types[name]["ref"]
    return types[name].get("fields", [])


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        types = json.load(f)
    with gzip.open(sys.argv[2]) as f:
        texts = json.load(f)
    # Types of one name in several versions have nearly the same words: next to each other the
    # second costs nearly nothing.
    number = {}
    for name in sorted(types, key=lambda n: (n.rsplit(".", 1)[1], n)):
        said = texts.get(name, {})
        for key in [""] + [f["name"] for f in fields_of(types, name)]:
            if said.get(key):
                number.setdefault(said[key], len(number) + 1)
    first, ids = [], []
    for name in sorted(types):
        said = texts.get(name, {})
        first.append(len(ids))
        ids += [number.get(said.get(key), 0)
                for key in [""] + [f["name"] for f in fields_of(types, name)]]
    # As they stand in a document, between quotes.
    plain = b"".join(json.dumps(t, ensure_ascii=False)[1:-1].encode() + b"\0" for t in number)
    packed = zlib.compress(plain, 9)
    out = ["// SPDX-License-Identifier: Apache-2.0\n",
           "// Made by apiserver/openapi/gen_texts.py; do not edit.\n",
           '#include "apiserver/openapi/facts_int.h"\n',
           "const unsigned kl_oa_texts_npacked = %d, kl_oa_texts_nbytes = %d, kl_oa_ntexts = %d;\n" % (
               len(packed), len(plain), len(number)),
           "const unsigned short kl_oa_text_first[] = {\n", rows(first), "};\n",
           "const unsigned short kl_oa_text_ids[] = {\n", rows(ids), "};\n",
           "const unsigned char kl_oa_texts_packed[] = {\n", rows(packed), "};\n"]
    with open(sys.argv[3], "w", encoding="utf-8") as f:
        f.writelines(out)


main()
