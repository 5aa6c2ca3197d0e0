#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes columns_gen.c: the columnDefinitions of each resource as JSON and the function of its cells.

Usage: gen_columns.py columns.json column_text.json resources.json ../table_list.h OUT.c

columns.json has name, type, format and priority; column_text.json the descriptions (those under ""
hold for every resource that has no text of its own); table_list.h the functions.
"""
import json
import re
import sys

from gen_schema import SPDX, NOTE, c_name, c_str, group_short

CUSTOM = "(custom resource without additionalPrinterColumns)"
SCALE = "(subresource scale)"
DEFAULT = "limitranges"  # any of those marked as default


def definitions(key, columns, texts):
    """As upstream writes them: all five members, in the order of TableColumnDefinition."""
    own, common = texts.get(key, {}), texts[""]
    return json.dumps([
        {"name": c["name"], "type": c["type"], "format": c.get("format", ""),
         "description": own.get(c["name"], common.get(c["name"], "")), "priority": c["priority"]}
        for c in columns], separators=(",", ":"), ensure_ascii=True)


def main():
    def load(path):
        with open(path, encoding="utf-8") as f:
            return json.load(f)

    columns, texts, facts = (load(p) for p in sys.argv[1:4])
    with open(sys.argv[4], encoding="utf-8") as f:
        functions = dict(re.findall(r'^X\("([^"]+)",\s*(\w+)\)', f.read(), re.M))
    unknown = set(functions) - set(columns) - {"(default)"}
    assert not unknown, "table_list.h names no resource: %s" % unknown
    texts_done = {}
    with open(sys.argv[5], "w", encoding="utf-8") as out:
        out.write(SPDX + NOTE.replace("gen_schema", "gen_columns"))
        out.write('#include "object/table_int.h"\n\n')

        def define(key):
            text = definitions(key, columns[key]["columns"], texts)
            if text not in texts_done:
                texts_done[text] = "columns_%d" % len(texts_done)
                out.write("static const char %s[] =\n" % texts_done[text])
                for i in range(0, len(text), 96):
                    out.write("    %s\n" % c_str(text[i:i + 96]))
                out.write("    ;\n")
            return texts_done[text]

        rows = []
        for r in facts["resources"]:
            key = r["plural"] + ("." + r["group"] if r["group"] else "")
            found = columns.get(key)
            if not found or found.get("default") or key not in functions:
                key, function = DEFAULT, functions["(default)"]
            else:
                function = functions[key]
            if r["plural"] == "horizontalpodautoscalers" and r["version"] == "v1":
                function += "_v1"
            rows.append("    [KL_RES_%s_%s_%s] = {%s, %s},"
                        % (c_name(group_short(r["group"])), r["version"], c_name(r["plural"]),
                           function, define(key)))
        custom, scale = define(CUSTOM), define(SCALE)
        out.write("\nconst struct kl_table_row kl_table_rows[] = {\n%s\n};\n\n" % "\n".join(rows))
        out.write("const char *const kl_table_custom_columns = %s;\n" % custom)
        out.write("const char *const kl_table_scale_columns = %s;\n" % scale)


if __name__ == "__main__":
    main()
