// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand"
)

// A grammar by type: "I" int, "S" string, "B" bool, "L" list of ints, "D" anything.
type generator struct {
	r     *rand.Rand
	depth int
}

func (g *generator) pick(choices ...func() string) string {
	g.depth++
	defer func() { g.depth-- }()
	if g.depth > 5 {
		return choices[0]()
	}
	return choices[g.r.Intn(len(choices))]()
}

func (g *generator) num() string {
	return g.pick(
		func() string { return fmt.Sprint(g.r.Intn(12) - 3) },
		func() string { return "i" },
		func() string { return "size(" + g.str() + ")" },
		func() string {
			return "(" + g.num() + []string{" + ", " - ", " * ", " / ", " % "}[g.r.Intn(5)] + g.num() + ")"
		},
		func() string { return "(" + g.boolean() + " ? " + g.num() + " : " + g.num() + ")" },
		func() string { return g.list() + "[" + g.num() + "]" },
		func() string { return g.list() + "." + []string{"sum", "max", "min", "size"}[g.r.Intn(4)] + "()" },
		func() string { return g.str() + ".indexOf(" + g.str() + ")" },
		func() string { return "int(" + g.str() + ")" },
		func() string { return "dyno.replicas" },
		func() string { return g.list() + ".indexOf(" + g.num() + ")" },
		func() string { return "optional.of(" + g.num() + ").orValue(" + g.num() + ")" },
		func() string { return "dyno.?replicas.orValue(" + g.num() + ")" },
	)
}

func (g *generator) str() string {
	return g.pick(
		func() string { return []string{"'a'", "''", "'héé'", "'0123456789abc'", "'1.5'", "'7'"}[g.r.Intn(6)] },
		func() string { return "s" },
		func() string { return "string(" + g.num() + ")" },
		func() string { return "(" + g.str() + " + " + g.str() + ")" },
		func() string { return g.str() + ".substring(" + g.num() + ")" },
		func() string { return g.str() + ".replace(" + g.str() + ", " + g.str() + ")" },
		func() string { return g.str() + []string{".upperAscii()", ".lowerAscii()", ".trim()"}[g.r.Intn(3)] },
		func() string { return "ls[" + g.num() + "]" },
		func() string { return "ls.map(x, x + " + g.str() + ").join(" + g.str() + ")" },
		func() string { return "dyno.items[" + g.num() + "].name" },
		func() string { return "ms." + []string{"a", "z"}[g.r.Intn(2)] },
		func() string { return "ms[?" + g.str() + "].orValue(" + g.str() + ")" },
		func() string { return "(" + g.boolean() + " ? " + g.str() + " : " + g.str() + ")" },
		func() string { return "'%s-%d'.format([" + g.str() + ", " + g.num() + "])" },
	)
}

func (g *generator) list() string {
	return g.pick(
		func() string { return "li" },
		func() string { return "[" + g.num() + ", " + g.num() + "]" },
		func() string { return "[1, 2, 3, 4, 5]" },
		func() string { return g.list() + ".map(x, x + " + g.num() + ")" },
		func() string { return g.list() + ".filter(x, x > " + g.num() + ")" },
		func() string { return "(" + g.list() + " + " + g.list() + ")" },
		func() string { return g.list() + "." + []string{"reverse()", "sort()", "distinct()"}[g.r.Intn(3)] },
		func() string { return g.list() + ".slice(0, " + g.num() + ")" },
		func() string { return g.list() + ".transformList(k, v, k + v)" },
		func() string { return "[" + g.list() + ", " + g.list() + "].flatten()" },
		func() string { return g.list() + ".sortBy(x, -x)" },
		func() string { return "[?optional.of(" + g.num() + "), " + g.num() + "]" },
	)
}

func (g *generator) boolean() string {
	return g.pick(
		func() string { return []string{"true", "false", "b"}[g.r.Intn(3)] },
		func() string {
			return g.num() + []string{" < ", " <= ", " > ", " >= ", " == ", " != "}[g.r.Intn(6)] + g.num()
		},
		func() string { return g.str() + []string{" < ", " == ", " != "}[g.r.Intn(3)] + g.str() },
		func() string { return "(" + g.boolean() + []string{" && ", " || "}[g.r.Intn(2)] + g.boolean() + ")" },
		func() string { return "!" + g.boolean() },
		func() string { return g.num() + " in " + g.list() },
		func() string { return g.str() + " in ['a', 'b', 'ccc']" },
		func() string {
			return g.list() + "." + []string{"all", "exists", "exists_one"}[g.r.Intn(3)] + "(x, x > " + g.num() + ")"
		},
		func() string {
			return g.str() + []string{".contains(", ".startsWith(", ".endsWith("}[g.r.Intn(3)] + g.str() + ")"
		},
		func() string { return g.str() + ".matches('^[a-z]+$')" },
		func() string {
			return "has(dyno." + []string{"name", "nope", "labels.app", "labels.nope", "name.x"}[g.r.Intn(5)] + ")"
		},
		func() string { return g.list() + " == " + g.list() },
		func() string { return "dyno.items.exists(x, x.name == " + g.str() + ")" },
		func() string { return "sets.contains(" + g.list() + ", " + g.list() + ")" },
		func() string { return g.list() + ".all(k, v, k < v)" },
	)
}

func randomExpressions(n int) (all []string) {
	g := &generator{r: rand.New(rand.NewSource(1))}
	for len(all) < n {
		x := g.pick(g.boolean, g.num, g.str, g.list)
		if len(x) < 220 {
			all = append(all, x)
		}
	}
	return all
}
