#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What OpenAPI says of types beside their fields, from the API facts: the kinds they are registered
as, and unions.

usage: gen_openapi.py TYPES_JSON OUT
"""
import json
import sys


def text(v):
    return json.dumps(json.dumps(v, separators=(",", ":"), sort_keys=True))


def main():
    types = json.load(open(sys.argv[1]))
    out = ["// SPDX-License-Identifier: Apache-2.0\n",
           "// Made by apiserver/openapi/gen_openapi.py; do not edit.\n",
           '#include "apiserver/openapi/facts_int.h"\n',
           "const struct kl_oa_fact kl_oa_facts[] = {\n"]
    n = 0
    for name in sorted(types):
        t = types[name]
        if t.get("notInOpenAPI"):
            continue
        gvks = [{"group": g, "version": v, "kind": k} for g, v, k in t.get("gvk", [])]
        if not gvks and not t.get("unions"):
            continue
        every = 1 if t.get("everyGroup") else 0
        out.append('    {"%s", %s, %s, %d},\n' % (
            name, text(gvks) if gvks else "NULL", text(t["unions"]) if t.get("unions") else "NULL",
            every))
        n += 1
    out.append("};\nconst unsigned kl_oa_nfacts = %d;\n" % n)
    out.append("const struct kl_oa_granular kl_oa_granular[] = {\n")
    for name in sorted(types):
        for f in types[name].get("fields", []):
            if f.get("mapType") == "granular":
                out.append('    {"%s", "%s"},\n' % (name, f["name"]))
    out.append("    {0, 0},\n};\n")
    open(sys.argv[2], "w").writelines(out)


main()
