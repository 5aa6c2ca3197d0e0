#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns facts about protobuf services (messages, enums, methods) into C structs and the field tables
of net/proto.h.

gen_proto.py PLAN FACTS OUT_C OUT_H

PLAN is JSON: `symbol` (prefix of every C name), `macro` (of every constant), `strip` (package names cut
off message names), `methods` (by service; absent: all), `extra_messages`, `skip` (fields left out, by
name), `skip_types` (by prefix of the type; doubles are always left out), `json` (names for
net/proto_json.h too). What is left out is skipped
when decoding. Only messages that a method or an extra message reaches are made, or `messages` names.
"""
import json
import re
import sys

CTYPES = {"string": "struct kl_str", "bytes": "struct kl_str", "bool": "bool",
          "int32": "int32_t", "int64": "int64_t", "uint32": "uint32_t", "uint64": "uint64_t"}
KINDS = {"string": "KL_PROTO_STRING", "bytes": "KL_PROTO_STRING", "bool": "KL_PROTO_BOOL",
         "int32": "KL_PROTO_INT32", "int64": "KL_PROTO_INT64", "uint32": "KL_PROTO_UINT32",
         "uint64": "KL_PROTO_INT64"}
MACROS = {"linux": "linux_", "unix": "unix_"}  # macros of GNU C


def snake(name):
    name = name.replace("URLs", "Urls")
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).replace(".", "_").lower()


class Generator:
    def __init__(self, plan, facts):
        self.plan, self.facts = plan, facts
        facts["messages"].update(plan.get("extra_messages", {}))
        self.methods = plan.get("methods") or {s: [m["name"] for m in ms]
                                               for s, ms in facts["services"].items()}
        self.h, self.c = [], []

    def strip(self, name):
        for p in self.plan["strip"]:
            if name.startswith(p + "."):
                return name[len(p) + 1:]
        return name

    def cname(self, message):
        return self.plan["symbol"] + snake(self.strip(message))

    def fields(self, message):
        skip = tuple(self.plan.get("skip_types", []))
        return [f for f in self.facts["messages"][message]
                if f["name"] not in self.plan.get("skip", []) and f["type"] != "double" and
                not (skip and f["type"].startswith(skip))]

    def called(self):
        for service, names in self.methods.items():
            have = {m["name"]: m for m in self.facts["services"][service]}
            for n in names:
                yield service, have[n]

    def reach(self):
        seen, order = set(), []

        def visit(m):
            if m in seen:
                return
            seen.add(m)
            for f in self.fields(m):
                if f["type"] in self.facts["messages"]:
                    visit(f["type"])
            order.append(m)

        for _, m in self.called():
            visit(m["in"])
            visit(m["out"])
        for m in list(self.plan.get("extra_messages", {})) + self.plan.get("messages", []):
            visit(m)
        return order

    def enums(self):
        for e, values in self.facts["enums"].items():
            name = snake(self.strip(e))
            self.h.append("enum %s%s {" % (self.plan["symbol"], name))
            for v, n in values:
                self.h.append("    %s%s_%s = %d," % (self.plan["macro"], name.upper(), re.sub(
                    "^" + name.upper() + "_", "", v.upper()), n))
            self.h += ["};", ""]
            if self.plan.get("json"):
                self.c += ["static const struct kl_proto_value %s%s_values[] = {" % (self.plan["symbol"], name)]
                self.c += ['    {"%s", %d},' % (v, n) for v, n in values] + ["    {NULL, 0},", "};"]

    def names(self, cn, fields):
        """The table of names, and what the message's description says of it."""
        if not self.plan.get("json") or not fields:
            return ""
        self.c += ["static const struct kl_proto_name %s_names[] = {" % cn]
        for f in fields:
            enum = self.plan["symbol"] + snake(self.strip(f["type"])) + "_values" if f["type"] in \
                self.facts["enums"] else "NULL"
            self.c += ['    {"%s", %s},' % (f["name"], enum)]
        self.c += ["};"]
        return ", %s_names" % cn

    def field(self, cn, f):
        """The member's declaration and the table's row."""
        name, t, rep, flags, sub, count = snake(f["name"]), f["type"], f.get("repeated"), [], "NULL", "0"
        name = MACROS.get(name, name)
        if t.startswith("map<"):
            assert t == "map<string,string>", t
            ct, kind, rep = "struct kl_proto_kv", "KL_PROTO_MAP", True
        elif t in self.facts["messages"]:
            ct, kind, sub = "struct %s" % self.cname(t), "KL_PROTO_MESSAGE", "&%s_desc" % self.cname(t)
        elif t in self.facts["enums"]:
            ct, kind = "int32_t", "KL_PROTO_INT32"
        else:
            ct, kind = CTYPES[t], KINDS[t]
        if rep:
            flags.append("KL_PROTO_REPEATED")
            count = "offsetof(struct %s, n_%s)" % (cn, name)
            member = "    %s *%s;\n    size_t n_%s;" % (ct, name, name)
        else:
            member = "    %s %s%s;" % (ct, "*" if kind == "KL_PROTO_MESSAGE" else "", name)
        if f.get("oneof"):
            flags.append("KL_PROTO_ONEOF")
        if t == "bytes":
            flags.append("KL_PROTO_BYTES")
        if t == "uint64":
            flags.append("KL_PROTO_UNSIGNED")
        row = "    {%d, %s, %s, offsetof(struct %s, %s), %s, sizeof(%s), %s}," % (
            f["n"], kind, " | ".join(flags) or "0", cn, name, count, ct, sub)
        return member, row

    def message(self, m):
        cn = self.cname(m)
        self.h.append("struct %s {" % cn)
        fields = sorted(self.fields(m), key=lambda f: f["n"])
        assert len({f["oneof"] for f in fields if f.get("oneof")}) <= 1, m
        made = {f["n"]: self.field(cn, f) for f in fields}
        self.h += [made[f["n"]][0] for f in self.fields(m)] or ["    char nothing;"]
        self.h += ["};", "extern const struct kl_proto_desc %s_desc;" % cn, ""]
        if made:
            self.c += ["static const struct kl_proto_field %s_fields[] = {" % cn]
            self.c += [made[n][1] for n in sorted(made)] + ["};"]
        repeated = any("REPEATED" in row for _, row in made.values())
        oneof = any("ONEOF" in row for _, row in made.values())
        names = self.names(cn, fields)
        self.c += ["const struct kl_proto_desc %s_desc = {\"%s\", %s, %d, sizeof(struct %s), %d, %d%s};" % (
            cn, self.strip(m), cn + "_fields" if made else "NULL", len(made), cn, repeated, oneof, names), ""]

    def run(self, out_c, out_h):
        head = ["// SPDX-License-Identifier: Apache-2.0", "// Generated by gen_proto.py."]
        self.h += head + ["#pragma once", '#include "net/proto.h"', ""]
        self.c += head + ['#include "%s"' % self.plan["header"], "#include <stddef.h>", ""]
        self.enums()
        for m in self.reach():
            self.message(m)
        sym = self.plan["symbol"]
        self.h.append("enum %smethod {" % sym)
        self.c.append("const struct kl_proto_method %smethods[] = {" % sym)
        for service, m in self.called():
            self.h.append("    %s%s," % (self.plan["macro"], snake(m["name"]).upper()))
            self.c.append('    {"/%s/%s", &%s_desc, &%s_desc},' % (
                service, m["name"], self.cname(m["in"]), self.cname(m["out"])))
        self.h += ["    %sMETHOD_COUNT" % self.plan["macro"], "};",
                   "extern const struct kl_proto_method %smethods[];" % sym]
        self.c.append("};")
        for path, lines in ((out_h, self.h), (out_c, self.c)):
            with open(path, "w", encoding="utf-8") as f:
                f.write("\n".join(lines) + "\n")


def load(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


Generator(load(sys.argv[1]), load(sys.argv[2])).run(sys.argv[3], sys.argv[4])
