#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the API facts (types.json, resources.json, gates.json) into C headers and constant tables.

usage: gen_schema.py SCHEMADIR OUTDIR

symbols.h        enum KL_F_<field name>: one number per name, in bytewise order of the names
types_gen.h      enum KL_TYPE_<group>_<version>_<Kind>: indexes into kl_type_table
resources_gen.h  enum KL_RES_<group>_<version>_<plural>: indexes into kl_resources
schema_gen.c     symbols, types, fields, gates
resources_gen.c  groups, resources, subresources, kinds
go_names_gen.c   what Go calls the types of fields (go_names.json), for error texts
"""
import json
import os
import re
import sys

MASK64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
SPDX = "// SPDX-License-Identifier: Apache-2.0\n"
NOTE = "// Made by object/schema/gen_schema.py; do not edit.\n"


def name_key(name):
    """kl_name_key of schema_int.h: first and last eight bytes and the length."""
    raw = name.encode()
    n = len(raw)
    if n >= 8:
        first = int.from_bytes(raw[:8], "little")
        last = int.from_bytes(raw[-8:], "little")
    else:
        first, last = int.from_bytes(raw, "little"), 0
    return ((first ^ ((last * GOLDEN) & MASK64)) + (n * 0x0101010101010101)) & MASK64


def find_multiplier(keys):
    """A multiplier and a table size for which no two keys share a slot."""
    bits = max(1, (len(keys) - 1).bit_length())
    while bits <= 12:
        mul = GOLDEN
        for _ in range(400):
            mul = (mul * 6364136223846793005 + 1442695040888963407) & MASK64 | 1
            if len({((k * mul) & MASK64) >> (64 - bits) for k in keys}) == len(keys):
                return mul, bits
        bits += 1
    raise SystemExit("no perfect hash found")


def c_name(name):
    return re.sub(r"[^A-Za-z0-9_]", "_", name.replace("$", "dollar_"))


def c_str(s):
    if s is None:
        return "NULL"
    return '"' + s.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def compact(v):
    return json.dumps(v, separators=(",", ":"), ensure_ascii=False)


KINDS = {
    "string": "STRING", "integer": "INTEGER", "number": "NUMBER", "boolean": "BOOLEAN",
    "bytes": "BYTES", "object": "STRUCT", "array": "ARRAY", "map": "MAP", "any": "ANY",
    "quantity": "QUANTITY", "intOrString": "INT_OR_STRING", "time": "TIME",
    "microtime": "MICROTIME", "duration": "DURATION", "rawExtension": "RAW_EXTENSION",
    "unknown": "UNKNOWN", "fieldsV1": "FIELDS_V1", "json": "JSON",
    "schemaOrArray": "SCHEMA_OR_ARRAY", "schemaOrBool": "SCHEMA_OR_BOOL",
    "schemaOrStringArray": "SCHEMA_OR_STRINGS",
}
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
APIEXT = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
# Kinds that are Go types of their own: a field of the kind has the named type.
NAMED = {
    "quantity": "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "intOrString": "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "time": META + "Time", "microtime": META + "MicroTime", "duration": META + "Duration",
    "fieldsV1": META + "FieldsV1",
    "rawExtension": "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "unknown": "io.k8s.apimachinery.pkg.runtime.Unknown",
    "json": APIEXT + "JSON", "schemaOrArray": APIEXT + "JSONSchemaPropsOrArray",
    "schemaOrBool": APIEXT + "JSONSchemaPropsOrBool",
    "schemaOrStringArray": APIEXT + "JSONSchemaPropsOrStringArray",
}
FORMATS = {None: "NONE", "int32": "INT32", "int64": "INT64", "double": "DOUBLE",
           "byte": "BYTE", "date-time": "DATE_TIME"}
PB_SCALARS = {"bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes"}
# A gate that the sources name differently from the table of gates.
GATE_ALIAS = {"PodCertificateProjection": "PodCertificateRequest"}


def short_type_name(name):
    """io.k8s.api.core.v1.Pod -> core_v1_Pod, ...util.intstr.IntOrString -> intstr_IntOrString"""
    parts = name.split(".")
    keep = 3 if re.fullmatch(r"v\d.*", parts[-2]) else 2
    return c_name("_".join(parts[-keep:]))


class Schema:
    def __init__(self, types, gates):
        self.types = types
        self.names = sorted(types)
        self.index = {n: i for i, n in enumerate(self.names)}
        self.anonymous = {}
        self.rows = []  # of the anonymous types
        self.fields = []
        self.indexes = []
        self.slots = []
        self.lists = {}
        self.key_lists = {}
        self.gate_names = sorted(gates)
        self.gates = gates
        self.gate_pairs = {}
        syms = set()
        for t in types.values():
            for f in t.get("fields", []):
                syms.add(f["name"])
        self.syms = sorted(syms, key=lambda s: s.encode())
        self.sym_index = {s: i + 1 for i, s in enumerate(self.syms)}

    def type_ref(self, d):
        """Index of the type that a field, item or value description names."""
        kind = d["kind"]
        if kind == "ref":
            return self.index[d["ref"]]
        if kind in NAMED:
            return self.index[NAMED[kind]]
        elem, atomic, fmt = None, 0, d.get("format")
        if kind == "array":
            elem = self.type_ref(d["items"])
        elif kind == "map":
            elem = self.type_ref(d["values"])
            atomic = 1 if d.get("mapType") == "atomic" else 0
        elif kind == "bytes":
            fmt = "byte"
        key = (kind, fmt, elem, atomic)
        if key not in self.anonymous:
            self.anonymous[key] = len(self.names) + len(self.rows)
            self.rows.append(key)
        return self.anonymous[key]

    def value_list(self, values):
        return self.lists.setdefault(tuple(values), len(self.lists)) if values else None

    def key_list(self, keys):
        return self.key_lists.setdefault(tuple(keys), len(self.key_lists)) if keys else None

    def gate_ref(self, f):
        """Index + 1 into kl_gates. Two gates make a row of their own behind the named ones."""
        listed = []
        for entry in f.get("gate", []):
            for g in entry.split(","):
                g = GATE_ALIAS.get(g, g)
                if g in self.gates:
                    listed.append(g)
        if not listed:
            return 0
        if len(listed) == 1:
            return self.gate_names.index(listed[0]) + 1
        pair = ",".join(listed)
        self.gate_pairs.setdefault(pair, len(self.gate_pairs))
        return len(self.gate_names) + self.gate_pairs[pair] + 1

    def field_row(self, f):
        flags = []
        for cond, flag in (
                (f.get("required"), "REQUIRED"), (f.get("ptr"), "PTR"),
                (f.get("emit") == "always", "EMIT_ALWAYS"),
                (f.get("emit") == "nonzero", "EMIT_NONZERO"),
                (f.get("pbRepeated"), "PB_REPEATED"),
                ("merge" in f.get("patchStrategy", ""), "PATCH_MERGE"),
                ("retainKeys" in f.get("patchStrategy", ""), "PATCH_RETAIN_KEYS"),
                ("replace" in f.get("patchStrategy", ""), "PATCH_REPLACE"),
                (f.get("enum"), "ENUM_CLOSED"), (f.get("pbIn"), "INLINE_PB"),
                (f.get("mapType") == "granular", "GRANULAR")):
            if cond:
                flags.append("KL_FIELD_" + flag)
        pb_type = f.get("pbType")
        if pb_type is None:
            pb = "NONE"
        elif pb_type in PB_SCALARS:
            pb = pb_type.upper()
        elif pb_type.startswith("map<"):
            pb = "MAP"
        else:
            pb = "MESSAGE"
        values = self.value_list(f.get("enum") or f.get("known"))
        keys = self.key_list(f.get("listMapKeys"))
        row = ["&kl_type_table[%d]" % self.type_ref(f)]
        row.append(c_str(compact(f["default"])) if "default" in f else "NULL")
        row.append("values_%d" % values if values is not None else "NULL")
        row.append("keys_%d" % keys if keys is not None else "NULL")
        row.append("KL_F_" + c_name(f["name"]))
        merge_key = f.get("patchMergeKey")
        row.append("KL_F_" + c_name(merge_key) if merge_key else "0")
        row.append("|".join(flags) or "0")
        row.append(str(f.get("pb", 0)))
        row.append(str(self.gate_ref(f)))
        row.append("KL_PB_" + pb)
        row.append("KL_LIST_" + f["listType"].upper() if "listType" in f else "0")
        row.append("{%s}" % ",".join(str(n) for n in f.get("pbIn", [])) if "pbIn" in f else "{0}")
        return "{" + ",".join(row) + "}"

    def struct_tables(self, fields):
        """Offsets of the rows that fields, by_pb, by_name and slots take in their arrays."""
        first = len(self.fields)
        self.fields.extend(self.field_row(f) for f in fields)
        n = len(fields)
        order = sorted(range(n), key=lambda i: (
            "pb" not in fields[i], fields[i].get("pbIn", []) + [fields[i].get("pb", 0)]))
        by_pb = len(self.indexes)
        self.indexes.extend(order)
        by_name = len(self.indexes)
        self.indexes.extend(sorted(range(n), key=lambda i: fields[i]["name"].encode()))
        keys = [name_key(f["name"]) for f in fields]
        mul, bits = find_multiplier(keys)
        table = [0] * (1 << bits)
        for i, k in enumerate(keys):
            table[((k * mul) & MASK64) >> (64 - bits)] = i + 1
        slots = len(self.slots)
        self.slots.extend(table)
        return first, by_pb, by_name, slots, mul, bits

    def type_rows(self):
        done = {}
        for name in self.names:
            t = self.types[name]
            if t["kind"] == "ref":  # another name of the same Go struct
                t = dict(self.types[t["ref"]], **{k: v for k, v in t.items()
                                                  if k not in ("kind", "ref")})
            kind = t["kind"]
            row = [".name=" + c_str(name), ".kind=KL_T_" + KINDS[kind]]
            if kind == "array":
                row.append(".elem=&kl_type_table[%d]" % self.type_ref(t["items"]))
            if kind.startswith("schemaOr"):
                row.append(".elem=&kl_type_table[%d]" % self.index[APIEXT + "JSONSchemaProps"])
            if kind in ("time", "microtime"):
                row.append(".format=KL_FMT_DATE_TIME")
            fields = t.get("fields", [])
            if fields:
                key = compact(fields)
                if key not in done:
                    done[key] = self.struct_tables(fields)
                first, by_pb, by_name, slots, mul, bits = done[key]
                row.append(".fields=fields+%d,.by_pb=indexes+%d,.by_name=indexes+%d,"
                           ".slots=slots+%d,.slot_mul=%#xu,.slot_bits=%d,.nfields=%d"
                           % (first, by_pb, by_name, slots, mul, bits, len(fields)))
            if t.get("mapType") == "atomic":
                row.append(".map_atomic=1")
            if not t.get("notInOpenAPI"):
                row.append(".in_openapi=1")
            if t.get("gvk"):
                row.append(".has_type_meta=1")
            yield "{" + ",".join(row) + "}"

    def anonymous_rows(self):
        i = 0
        while i < len(self.rows):
            kind, fmt, elem, atomic = self.rows[i]
            row = [".kind=KL_T_" + KINDS[kind], ".format=KL_FMT_" + FORMATS.get(fmt, "OTHER")]
            if elem is not None:
                row.append(".elem=&kl_type_table[%d]" % elem)
            if atomic:
                row.append(".map_atomic=1")
            yield "{" + ",".join(row) + "}"
            i += 1

    def write_symbols_h(self, out):
        out.write(SPDX + NOTE + "// Names of the fields of all built-in types.\n#pragma once\n\n")
        out.write("enum kl_sym {\n    KL_F_none = 0,\n")
        for s in self.syms:
            out.write("    KL_F_%s,\n" % c_name(s))
        out.write("    KL_SYM_BUILTIN_END\n};\n")

    def write_types_h(self, out):
        out.write(SPDX + NOTE + "// Indexes of the named built-in types for kl_type().\n"
                  "#pragma once\n\nenum kl_type_index {\n")
        seen = set()
        for n in self.names:
            short = short_type_name(n)
            assert short not in seen, short
            seen.add(short)
            out.write("    KL_TYPE_%s,\n" % short)
        out.write("    KL_TYPE_NAMED_END\n};\n")

    def write_c(self, out):
        types = list(self.type_rows())
        types += list(self.anonymous_rows())
        out.write(SPDX + NOTE + '#include "object/schema_int.h"\n\n')
        # Symbol text is `"name":` so that an encoder copies it in one piece.
        out.write("const char kl_sym_texts[] =\n")
        offset, rows = 0, ["{0,0}"]
        for s in self.syms:
            text = '"%s":' % s
            out.write("    %s\n" % c_str(text))
            rows.append("{%d,%d}" % (offset, len(s)))
            offset += len(text)
        assert offset < 65536
        out.write('    "%s";\n\n' % (32 * " "))  # KL_SYM_SLACK
        out.write("const struct kl_sym_row kl_sym_rows[] = {\n%s};\n\n" % wrap(rows))
        slots = [0] * 4096
        for s in self.syms:
            i = ((name_key(s) * GOLDEN) & MASK64) >> 52
            while slots[i]:
                i = (i + 1) & 4095
            slots[i] = self.sym_index[s]
        out.write("const uint16_t kl_sym_slots[KL_SYM_SLOTS] = {\n%s};\n\n" % wrap(slots))
        for values, i in self.lists.items():
            out.write("static const char *const values_%d[] = {%s};\n"
                      % (i, ", ".join([c_str(v) for v in values] + ["NULL"])))
        for keys, i in self.key_lists.items():
            out.write("static const uint32_t keys_%d[] = {%s};\n"
                      % (i, ", ".join(["KL_F_" + c_name(k) for k in keys] + ["0"])))
        out.write("\nstatic const struct kl_field fields[] = {\n%s};\n\n"
                  % "".join(r + ",\n" for r in self.fields))
        out.write("static const uint16_t indexes[] = {\n%s};\n\n" % wrap(self.indexes))
        out.write("static const uint8_t slots[] = {\n%s};\n\n" % wrap(self.slots))
        out.write("const struct kl_type kl_type_table[] = {\n%s};\n\n"
                  % "".join(r + ",\n" for r in types))
        out.write("const uint32_t kl_type_table_n = %d;\n" % len(types))
        out.write("const uint16_t kl_ntypes = %d;\n" % len(self.names))
        out.write("const struct kl_type *const kl_types[] = {\n%s};\n\n"
                  % wrap("&kl_type_table[%d]" % i for i in range(len(self.names))))
        gates = [(g, v["default"], v["locked"], v["stage"].upper())
                 for g, v in ((g, self.gates[g]) for g in self.gate_names)]
        for pair in self.gate_pairs:
            parts = [self.gates[g] for g in pair.split(",")]
            gates.append((pair, all(p["default"] for p in parts),
                          all(p["locked"] for p in parts), "PAIR"))
        out.write("// Rows behind kl_ngates are pairs: on when both gates are.\n")
        out.write("const struct kl_gate kl_gates[] = {\n%s};\n" % "".join(
            "{%s,%d,%d,KL_GATE_STAGE_%s},\n" % (c_str(n), on, locked, stage)
            for n, on, locked, stage in gates))
        out.write("const uint16_t kl_ngates = %d;\n" % len(self.gate_names))
        out.write("const uint16_t kl_ngate_rows = %d;\n" % len(gates))


def wrap(items, width=96):
    lines, line = [], ""
    for item in items:
        text = "%s," % item
        if len(line) + len(text) > width:
            lines.append(line)
            line = ""
        line += text
    lines.append(line)
    return "\n".join(lines) + "\n"


VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]


def verb_bits(verbs):
    return "%#x" % sum(1 << VERBS.index(v) for v in verbs)


def group_short(group):
    return c_name(group.split(".")[0]) if group else "core"


def api_version(group, version):
    return group + "/" + version if group else version


def write_resources_h(resources, out):
    out.write(SPDX + NOTE + "// Indexes into kl_resources; rows not served by default have one too.\n"
              "#pragma once\n\nenum kl_res {\n")
    for r in resources:
        out.write("    KL_RES_%s_%s_%s,\n"
                  % (group_short(r["group"]), r["version"], c_name(r["plural"])))
    out.write("    KL_RES_BUILTIN_COUNT\n};\n")


def write_resources_c(data, schema, out):
    def type_ptr(name):
        return "&kl_type_table[%d]" % schema.index[name] if name in schema.index else "NULL"

    resources = data["resources"]
    out.write(SPDX + NOTE + '#include "object/resource.h"\n#include "object/schema_int.h"\n\n')
    lists = {}

    def string_list(values):
        if not values:
            return "NULL"
        return "list_%d" % lists.setdefault(tuple(values), len(lists))

    rows, subs = [], []
    for i, r in enumerate(resources):
        first = len(subs)
        for s in sorted(r.get("subresources", []), key=lambda s: s["name"]):
            subs.append("{%s,%s,%s,%s,%s,%s}" % (
                c_str(s["name"]), c_str(s["group"]), c_str(s["version"]), c_str(s["kind"]),
                type_ptr(s.get("type")), verb_bits(s["verbs"])))
        row = [".%s=%s" % (k, c_str(r[k]))
               for k in ("group", "version", "plural", "singular", "kind")]
        row.append(".api_version=" + c_str(api_version(r["group"], r["version"])))
        row.append(".type=" + type_ptr(r.get("type")))
        row.append(".list_type=" + type_ptr(r.get("listType")))
        for key, member in (("etcdPrefix", "etcd_prefix"), ("storageGroup", "storage_group"),
                            ("storageVersion", "storage_version"),
                            ("storageVersionHash", "storage_hash")):
            row.append(".%s=%s" % (member, c_str(r.get(key))))
        row.append(".short_names=" + string_list(r.get("shortNames")))
        row.append(".categories=" + string_list(r.get("categories")))
        if len(subs) > first:
            row.append(".subresources=subresources+%d,.nsubresources=%d"
                       % (first, len(subs) - first))
        row.append(".verbs=" + verb_bits(r["verbs"]))
        row.append(".index=%d" % i)
        row.append(".namespaced=%d" % r["namespaced"])
        row.append(".enabled=%d" % r["enabledByDefault"])
        row.append(".preferred=%d" % (r["preferredVersion"] == r["version"]))
        row.append(".json_in_store=%d" % (r.get("mediaTypeInEtcd") == "json"))
        rows.append("{" + ",".join(row) + "}")
    groups = []
    for g in data["groups"]:
        enabled = g["enabledByDefault"]
        ordered = enabled + [v for v in g["versions"] if v not in enabled]
        groups.append("{.name=%s,.versions=%s,.preferred=%s,.enabled=%s,.priority=%d}" % (
            c_str(g["group"]), string_list(ordered), c_str(g["preferred"]),
            string_list(enabled) if enabled else "list_empty", g.get("groupPriority", 17900)))
    kinds = []
    for name in schema.names:
        t = schema.types[name]
        for group, version, kind in t.get("gvk", []):
            kinds.append((group, version, kind, schema.index[name], 1 if t.get("everyGroup") else 0))
    kinds.sort(key=lambda k: (k[2], k[0], k[1]))
    out.write("static const char *const list_empty[] = {NULL};\n")
    for values, i in lists.items():
        out.write("static const char *const list_%d[] = {%s};\n"
                  % (i, ", ".join([c_str(v) for v in values] + ["NULL"])))
    out.write("\nstatic const struct kl_subresource subresources[] = {\n%s};\n\n"
              % "".join(s + ",\n" for s in subs))
    out.write("const struct kl_resource kl_resources[] = {\n%s};\n"
              % "".join(r + ",\n" for r in rows))
    out.write("const uint16_t kl_nresources = %d;\n\n" % len(rows))
    out.write("const struct kl_group kl_groups[] = {\n%s};\n" % "".join(g + ",\n" for g in groups))
    out.write("const uint16_t kl_ngroups = %d;\n\n" % len(groups))
    out.write("const struct kl_kind_row kl_kind_rows[] = {\n%s};\n" % "".join(
        "{%s,%s,%s,%d,%d},\n" % (c_str(k[0]), c_str(k[1]), c_str(k[2]), k[3], k[4])
        for k in kinds))
    out.write("const uint16_t kl_nkind_rows = %d;\n" % len(kinds))


def write_go_names_c(names, schema, out):
    """go_names.json: type -> field -> [Go type where it differs from the derived, embedded path]"""
    pool, rows = {"": 0}, []
    text = "\\0"
    length = 1

    def offset(name):
        nonlocal text, length
        if name not in pool:
            pool[name] = length
            text += name + "\\0"
            length += len(name) + 1
        return pool[name]

    for type_name in schema.names:
        for field, (go_type, embedded) in names.get(type_name, {}).items():
            rows.append((schema.index[type_name], schema.sym_index[field], offset(go_type),
                         offset(embedded)))
    assert length < 65536
    out.write(SPDX + NOTE + '#include "object/schema_int.h"\n\n')
    parts = (text + "\n").split("\\0")
    out.write("const char kl_go_texts[] =\n%s;\n\n" % "".join(
        '    "%s\\0"\n' % part for part in parts[:-1]))
    out.write("const struct kl_go_row kl_go_rows[] = {\n%s};\n" % "".join(
        "{%d,%d,%d,%d},\n" % row for row in sorted(rows)))
    out.write("const uint16_t kl_ngo_rows = %d;\n" % len(rows))


def main():
    source, target = sys.argv[1:3]

    def load(name):
        with open(os.path.join(source, name), encoding="utf-8") as f:
            return json.load(f)

    def write(name, writer):
        with open(os.path.join(target, name), "w", encoding="utf-8") as f:
            writer(f)

    data = load("resources.json")
    schema = Schema(load("types.json"), load("gates.json"))
    write("symbols.h", schema.write_symbols_h)
    write("types_gen.h", schema.write_types_h)
    write("resources_gen.h", lambda f: write_resources_h(data["resources"], f))
    write("schema_gen.c", schema.write_c)
    go_names = load("go_names.json")
    write("go_names_gen.c", lambda f: write_go_names_c(go_names, schema, f))
    write("resources_gen.c", lambda f: write_resources_c(data, schema, f))


if __name__ == "__main__":
    main()
