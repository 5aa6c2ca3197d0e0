// SPDX-License-Identifier: Apache-2.0

// Records what kube-openapi's aggregator makes of random documents, merged as kube-aggregator merges
// those of APIServices: one case in a line, {"docs": [{group, version, text}], "merged": {...}}.
package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os"

	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

type object = map[string]any

var random = rand.New(rand.NewSource(1))

func pick(names ...string) string { return names[random.Intn(len(names))] }

func definitionName() string {
	return "com.example." + pick("A", "B", "C", "D", "A_v2", "B_v2", "A_v2_v2", "C_v3")
}

func ref(name string) object { return object{"$ref": "#/definitions/" + name} }

func definition(group string) object {
	// Upstream panics when a definition without any extension is to get the kinds of another.
	d := object{"type": "object", "x-kubernetes-map-type": "atomic"}
	if random.Intn(3) == 0 {
		d["description"] = pick("one", "two")
	}
	properties := object{}
	for random.Intn(2) == 0 {
		switch random.Intn(4) {
		case 0:
			properties[pick("a", "b")] = ref(definitionName())
		case 1:
			properties[pick("a", "b")] = object{"type": "array", "items": ref(definitionName())}
		case 2:
			properties["m"] = object{"type": "object", "additionalProperties": ref(definitionName())}
		default:
			properties["s"] = object{"type": pick("string", "integer")}
		}
	}
	if len(properties) > 0 {
		d["properties"] = properties
	}
	if random.Intn(3) == 0 {
		kinds := []any{object{"group": pick(group, "shared.example.com"), "version": "v1", "kind": pick("K", "L")}}
		if random.Intn(2) == 0 {
			kinds = append(kinds, object{"group": group, "version": "v0", "kind": "M"})
		}
		d["x-kubernetes-group-version-kind"] = kinds
	}
	return d
}

func parameter(name string) object {
	p := object{"name": name, "in": "query", "type": pick("string", "string", "integer")}
	if random.Intn(4) == 0 {
		p = object{"name": "body", "in": "body", "schema": ref(definitionName())}
	}
	return p
}

func parameterName() string { return pick("p", "q", "p_v2") }

func document(group string) object {
	paths := object{}
	for i := 0; i < 1+random.Intn(4); i++ {
		path := "/apis/" + group + "/" + pick("v1", "v1", "v1", "v2") + fmt.Sprintf("/x%d", i)
		op := object{"responses": object{"200": object{"description": "OK", "schema": ref(definitionName())}}}
		if random.Intn(2) == 0 {
			op["parameters"] = []any{object{"$ref": "#/parameters/" + parameterName()}}
		}
		paths[path] = object{pick("get", "put"): op}
	}
	definitions, parameters := object{}, object{}
	for i := 0; i < 5; i++ {
		definitions[definitionName()] = definition(group)
	}
	for i := 0; i < 2; i++ {
		name := parameterName()
		parameters[name] = parameter(name)
	}
	return object{"swagger": "2.0", "info": object{"title": "t", "version": "1"}, "paths": paths,
		"definitions": definitions, "parameters": parameters}
}

type source struct {
	Group string          `json:"group"`
	Text  json.RawMessage `json:"text"`
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func parse(text []byte) *spec.Swagger {
	s := &spec.Swagger{}
	must(json.Unmarshal(text, s))
	return s
}

func main() {
	out := json.NewEncoder(os.Stdout)
	for i := 0; i < 90; i++ {
		var docs []source
		merged := &spec.Swagger{}
		for k := 0; k < 1+random.Intn(4); k++ {
			group := fmt.Sprintf("g%d.example.com", k)
			raw, err := json.Marshal(document(group))
			must(err)
			text, err := json.Marshal(parse(raw)) // as its types write it
			must(err)
			docs = append(docs, source{group, text})
			kept := aggregator.FilterSpecByPathsWithoutSideEffects(parse(text), []string{"/apis/" + group + "/v1/"})
			must(aggregator.MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters(merged, kept))
		}
		paths := map[string]spec.PathItem{}
		if merged.Paths != nil {
			paths = merged.Paths.Paths
		}
		must(out.Encode(object{"docs": docs, "merged": object{
			"paths": paths, "definitions": merged.Definitions, "parameters": merged.Parameters}}))
	}
}
