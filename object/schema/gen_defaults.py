#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes defaults_gen.c: which types have something to default in or below them, and the way there.

Usage: gen_defaults.py types.json gates.json ../defaults_list.h OUT.c

Reads the facts (types.json), the feature gates that are off (gates.json) and the list of functions
(defaults_list.h: X(type, function)). Defaulting then descends only where the tables lead. The
same tables exist for fields behind a gate that is off.
"""
import json
import re
import sys

from gen_schema import GATE_ALIAS, SPDX, NOTE, c_name, c_str, short_type_name

SHAPES = {"object": "STRUCT", "array": "ARRAY", "map": "MAP"}
# Maps of quantities that are no ResourceList in Go.
NOT_RESOURCES = {("io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus", "resources")}


class Walk:
    """The steps from each type to what is of interest; a row for each type that leads there."""

    def __init__(self, types, wanted):
        self.types = types
        self.wanted = wanted  # type name -> bool: something to do at this very type
        self.leads = {n: wanted(n) for n in types}
        self.spread(self.leads, self.targets)
        # what acts on a value that is not there: only through structs held by value
        self.absent = {n: wanted(n) for n in types}
        self.spread(self.absent, self.by_value)

    @staticmethod
    def spread(marks, reach):
        changed = True
        while changed:
            changed = False
            for n in marks:
                if not marks[n] and any(marks[t] for t in reach(n)):
                    marks[n] = changed = True

    def resolve(self, name):
        t = self.types[name]
        return self.resolve(t["ref"]) if t.get("kind") == "ref" else name

    def step(self, f):
        """(shape, target type) of a field, or None when it does not hold structs."""
        if f["kind"] == "ref":
            return "object", self.resolve(f["ref"])
        items = f.get("items") or f.get("values")
        if f["kind"] in ("array", "map") and items and items["kind"] == "ref":
            return f["kind"], self.resolve(items["ref"])
        return None

    def fields(self, name):
        return self.types[name].get("fields", [])

    def targets(self, name):
        return [s[1] for s in map(self.step, self.fields(name)) if s]

    def by_value(self, name):
        return [s[1] for f in self.fields(name)
                for s in [self.step(f)] if s and s[0] == "object" and not f.get("ptr")]


def literal(f):
    """A schema default as a constant kl_value; None when it is what the zero value says anyway."""
    value, sym = f["default"], "KL_F_" + c_name(f["name"])
    if not value and not f.get("ptr"):
        return None
    if isinstance(value, bool):
        text = ".kind = KL_BOOL, .b = %s" % str(value).lower()
    elif isinstance(value, int):
        text = ".kind = KL_INT, .i = %d" % value
    else:
        text = ".kind = KL_STRING, .n = %d, .s = %s" % (len(value.encode()), c_str(value))
    return "{{.sym = %s, %s}, %d}" % (sym, text, bool(f.get("ptr")))


def is_resources(name, f):
    return (name.startswith("io.k8s.api.core.v1.") and f["kind"] == "map" and
            f["values"]["kind"] == "quantity" and (name, f["name"]) not in NOT_RESOURCES)


def write_rows(out, prefix, walk, names, details):
    """Rows in order; row 0 stands for nothing to do."""
    rows = [n for n in names if walk.leads[n]]
    index = {n: i + 1 for i, n in enumerate(rows)}
    bodies = []
    for n in rows:
        steps, extra = details(n)
        for f in walk.fields(n):
            s = walk.step(f)
            if s and walk.leads[s[1]]:
                absent = s[0] == "object" and not f.get("ptr") and walk.absent[s[1]]
                steps.append("{KL_F_%s, %d, KL_WALK_%s, %d}"
                             % (c_name(f["name"]), index[s[1]], SHAPES[s[0]], absent))
        where = "NULL"
        if steps:
            where = "%s_steps_%d" % (prefix, index[n])
            out.write("static const struct kl_walk_step %s[] = {%s};\n" % (where, ", ".join(steps)))
        bodies.append("    {.steps = %s, .nsteps = %d%s}," % (where, len(steps), extra))
    return rows, index, bodies


def write_index(out, name, names, index):
    out.write("const uint16_t %s[KL_TYPE_NAMED_END] = {\n" % name)
    for n in names:
        if n in index:
            out.write("    [KL_TYPE_%s] = %d,\n" % (short_type_name(n), index[n]))
    out.write("};\n\n")


def write_defaults(out, types, functions):
    names = sorted(types)
    by_short = {short_type_name(n): n for n in names}
    for short in functions:
        assert short in by_short, "defaults_list.h names no type: " + short
    applies = {by_short[s]: f for s, f in functions.items()}
    literals = {n: [x for x in (literal(f) for f in types[n].get("fields", []) if "default" in f)
                    if x] for n in names}
    resources = {n: [f for f in types[n].get("fields", []) if is_resources(n, f)] for n in names}

    def wanted(n):
        return bool(n in applies or literals[n] or resources[n])

    walk = Walk(types, wanted)

    def details(n):
        extra = ""
        if n in applies:
            extra += ", .apply = %s" % applies[n]
        if literals[n]:
            out.write("static const struct kl_default_literal literals_%s[] = {%s};\n"
                      % (short_type_name(n), ", ".join(literals[n])))
            extra += ", .literals = literals_%s, .nliterals = %d" % (short_type_name(n),
                                                                    len(literals[n]))
        return ["{KL_F_%s, 0, KL_WALK_RESOURCES, 0}" % c_name(f["name"])
                for f in resources[n]], extra

    rows, index, bodies = write_rows(out, "default", walk, names, details)
    out.write("\nconst struct kl_default_row kl_default_rows[] = {\n    {.nsteps = 0},\n%s\n};\n\n"
              % "\n".join(bodies))
    write_index(out, "kl_default_row_of", names, index)


def write_gates(out, types, gates):
    """Twice: what is off by default, which every write walks, and all that may be switched."""
    names = sorted(types)

    def gates_of(f):
        listed = [GATE_ALIAS.get(g, g) for pair in f.get("gate", []) for g in pair.split(",")]
        return [gates[g] for g in listed if g in gates]

    def off(f):
        return any(not g["default"] for g in gates_of(f))

    def switched(f):
        return any(not g["locked"] for g in gates_of(f))

    for prefix, wanted in (("gated", off), ("switched", switched)):
        gated = {n: [f for f in types[n].get("fields", []) if wanted(f)] for n in names}
        walk = Walk(types, lambda n, gated=gated: bool(gated[n]))

        def details(n, gated=gated):
            return ["{KL_F_%s, 0, KL_WALK_GATED, 0}" % c_name(f["name"]) for f in gated[n]], ""

        rows, index, bodies = write_rows(out, prefix, walk, names, details)
        types_of = ["    {.nsteps = 0},"]
        types_of += [b.replace("},", ", .type = KL_TYPE_%s}," % short_type_name(n))
                     for n, b in zip(rows, bodies)]
        out.write("\nconst struct kl_gated_row kl_%s_rows[] = {\n%s\n};\n\n"
                  % (prefix, "\n".join(types_of)))
        write_index(out, "kl_%s_row_of" % prefix, names, index)


def main():
    types_file, gates_file, list_file, target = sys.argv[1:5]
    with open(types_file, encoding="utf-8") as f:
        types = json.load(f)
    types = types.get("types", types)
    with open(gates_file, encoding="utf-8") as f:
        gates = json.load(f)
    with open(list_file, encoding="utf-8") as f:
        functions = dict(re.findall(r"^\s*X\((\w+),\s*(\w+)\)", f.read(), re.M))
    with open(target, "w", encoding="utf-8") as out:
        out.write(SPDX + NOTE.replace("gen_schema", "gen_defaults"))
        out.write('#include "object/defaults_int.h"\n\n')
        write_defaults(out, types, functions)
        write_gates(out, types, gates)


if __name__ == "__main__":
    main()
