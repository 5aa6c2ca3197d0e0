// SPDX-License-Identifier: Apache-2.0
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand"

	"k8s.io/apimachinery/pkg/runtime"
)

type object = map[string]interface{}

type maker struct{ r *rand.Rand }

func (m *maker) one(n int) bool { return m.r.Intn(n) == 0 }

var names = []string{"a", "b", "c", "name", "kind", "spec", "x-y"}
var texts = []string{"", "a", "abc", "10.0.0.1", "2020-01-02", "2020-01-02T03:04:05Z", "1h", "a@b.c",
	"http://x/y", "aGVsbG8=", "ffffffff-ffff-4fff-8fff-ffffffffffff", "example.com", "héllo", "::1", "10.0.0.0/8"}
var formats = []string{"ipv4", "date", "date-time", "duration", "email", "uri", "byte", "uuid", "hostname",
	"ipv6", "cidr", "int32", "nonsense", "password", "mac"}

func (m *maker) text() string { return texts[m.r.Intn(len(texts))] }

func (m *maker) number() interface{} {
	switch m.r.Intn(6) {
	case 0:
		return float64(m.r.Intn(9)) + 0.5
	case 1:
		return int64(m.r.Intn(1<<30)) * 9
	case 2:
		return float64(m.r.Intn(9)) * 1e21
	default:
		return int64(m.r.Intn(12) - 3)
	}
}

func (m *maker) scalar() interface{} {
	switch m.r.Intn(5) {
	case 0:
		return m.r.Intn(2) == 0
	case 1:
		return nil
	case 2:
		return m.number()
	default:
		return m.text()
	}
}

// Validations of a value, without structure.
func (m *maker) limits(s object, kind string) {
	n := func() interface{} { return int64(m.r.Intn(4)) }
	switch kind {
	case "string":
		if m.one(4) {
			s["minLength"] = n()
		}
		if m.one(4) {
			s["maxLength"] = n()
		}
		if m.one(4) {
			s["format"] = formats[m.r.Intn(len(formats))]
		}
		if m.one(5) {
			s["pattern"] = []string{"^a", "b$", "^[0-9.]+$"}[m.r.Intn(3)]
		}
		if m.one(6) {
			s["enum"] = []interface{}{m.text(), m.text(), "z"}
		}
	case "integer", "number":
		if m.one(4) {
			s["minimum"] = n()
			s["exclusiveMinimum"] = m.one(2)
		}
		if m.one(4) {
			s["maximum"] = float64(m.r.Intn(8)) / 2
			s["exclusiveMaximum"] = m.one(2)
		}
		if m.one(5) {
			s["multipleOf"] = []interface{}{int64(2), 0.5, int64(3)}[m.r.Intn(3)]
		}
		if m.one(4) {
			s["format"] = map[string][]string{"integer": {"int32", "int64", "date"}, "number": {"float", "double", "int32"}}[kind][m.r.Intn(3)]
		}
		if m.one(6) {
			s["enum"] = []interface{}{int64(1), 1.5, int64(4)}
		}
	case "array":
		if m.one(4) {
			s["minItems"] = n()
		}
		if m.one(4) {
			s["maxItems"] = n()
		}
	case "object":
		if m.one(5) {
			s["minProperties"] = n()
		}
		if m.one(5) {
			s["maxProperties"] = int64(m.r.Intn(3) + 1)
		}
		if m.one(4) {
			s["required"] = []interface{}{names[m.r.Intn(len(names))]}
		}
	}
}

func (m *maker) schema(depth int) object {
	kinds := []string{"string", "integer", "number", "boolean", "object", "array", "object"}
	kind := kinds[m.r.Intn(len(kinds))]
	if depth <= 0 {
		kind = kinds[m.r.Intn(4)]
	}
	s := object{"type": kind}
	if depth == 4 {
		kind = "object"
		s["type"] = kind
	}
	m.limits(s, kind)
	if m.one(6) && depth < 4 {
		s["nullable"] = true
	}
	switch kind {
	case "object":
		switch m.r.Intn(5) {
		case 0:
			if depth < 4 {
				s["additionalProperties"] = m.schema(depth - 1)
				break
			}
			fallthrough
		case 1:
			if m.one(2) && depth < 4 {
				s["x-kubernetes-preserve-unknown-fields"] = true
			}
			fallthrough
		default:
			props := object{}
			for i := m.r.Intn(4) + 1; i > 0; i-- {
				name := names[m.r.Intn(len(names))]
				if depth == 4 && name == "kind" {
					continue
				}
				p := m.schema(depth - 1)
				if m.one(4) {
					p["default"] = m.value(p, 2)
				}
				props[name] = p
			}
			s["properties"] = props
		}
	case "array":
		items := m.schema(depth - 1)
		s["items"] = items
		if m.one(3) {
			s["x-kubernetes-list-type"] = "set"
		} else if m.one(2) && items["type"] == "object" && items["properties"] != nil {
			var keys []interface{}
			for _, k := range sortedKeys(items["properties"].(object)) {
				keys = append(keys, k)
			}
			s["x-kubernetes-list-type"] = "map"
			s["x-kubernetes-list-map-keys"] = keys[:1]
		}
	}
	for _, logic := range []string{"allOf", "anyOf", "oneOf"} {
		if m.one(7) {
			var list []interface{}
			for i := m.r.Intn(2) + 1; i >= 0; i-- {
				b := object{}
				m.limits(b, kind)
				if kind == "object" && s["properties"] != nil {
					for i, k := range sortedKeys(s["properties"].(object)) {
						if i > 0 {
							break
						}
						p := s["properties"].(object)[k]
						b["required"] = []interface{}{k}
						q := object{}
						t, _ := p.(object)["type"].(string)
						m.limits(q, t)
						b["properties"] = object{k: q}
					}
				}
				list = append(list, b)
			}
			s[logic] = list
		}
	}
	if m.one(9) {
		b := object{}
		m.limits(b, kind)
		s["not"] = b
	}
	if m.one(12) && depth < 4 {
		s = object{"x-kubernetes-int-or-string": true}
		m.limits(s, "integer")
		delete(s, "format")
	}
	return s
}

// A value of a schema, most of the time.
func (m *maker) value(s object, depth int) interface{} {
	if m.one(9) {
		return m.scalar()
	}
	if m.one(14) {
		return object{"u": m.scalar(), "a": int64(1)}
	}
	if m.one(20) {
		return []interface{}{m.scalar(), m.scalar()}
	}
	kind, _ := s["type"].(string)
	switch kind {
	case "string":
		if e, ok := s["enum"].([]interface{}); ok && m.one(2) {
			return e[0]
		}
		return m.text()
	case "integer":
		if m.one(8) {
			return float64(m.r.Intn(5))
		}
		return int64(m.r.Intn(8))
	case "number":
		return m.number()
	case "boolean":
		return m.one(2)
	case "array":
		items, _ := s["items"].(object)
		out := []interface{}{}
		for i := m.r.Intn(4); i > 0; i-- {
			out = append(out, m.value(items, depth-1))
		}
		return out
	case "object":
		out := object{}
		if props, ok := s["properties"].(object); ok {
			for _, k := range names {
				if p, ok := props[k].(object); ok && !m.one(4) {
					out[k] = m.value(p, depth-1)
				}
			}
		}
		if extra, ok := s["additionalProperties"].(object); ok {
			for i := m.r.Intn(3); i > 0; i-- {
				out[names[m.r.Intn(len(names))]] = m.value(extra, depth-1)
			}
		}
		if m.one(4) {
			out["more"] = m.scalar()
		}
		return out
	}
	return m.number()
}

// Changes one thing somewhere.
func (m *maker) change(v interface{}) interface{} {
	switch x := v.(type) {
	case object:
		for _, k := range append(names, "more", "u") {
			if c, ok := x[k]; ok && k != "kind" && m.one(2) {
				x[k] = m.change(c)
				return x
			}
		}
		return x
	case []interface{}:
		if len(x) > 0 {
			i := m.r.Intn(len(x))
			x[i] = m.change(x[i])
		}
		return x
	default:
		return m.scalar()
	}
}

func random(w *bufio.Writer, schemas int) int {
	n := 0
	for seed := 0; seed < schemas; seed++ {
		m := &maker{rand.New(rand.NewSource(int64(seed)))}
		s := m.schema(4)
		for _, k := range []string{"nullable", "default"} {
			delete(s, k)
		}
		if props, ok := s["properties"].(object); ok && m.one(4) {
			props["status"] = m.schema(2)
		}
		raw, err := json.Marshal(s)
		must(err)
		world, err := newWorld(raw)
		if err != nil {
			panic(fmt.Sprint(seed, err, string(raw)))
		}
		for i := 0; i < 3; i++ {
			v, ok := m.value(s, 4).(object)
			if !ok {
				continue
			}
			obj := head(v)
			var old object
			if i > 0 {
				old = runtime.DeepCopyJSON(obj)
				for k := m.r.Intn(3); k > 0; k-- {
					m.change(old)
				}
				old = head(old)
			}
			r := world.run(obj, old, i == 2 && m.one(4), false)
			if n == 0 || i == 0 || r.Schema == nil {
				r.Schema = world.text
			}
			put(w, r)
			n++
		}
	}
	return n
}
