// SPDX-License-Identifier: Apache-2.0
package main

import (
	"bufio"
	"encoding/json"
	"math/rand"
	"regexp"
	"strings"
	"time"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	gvkschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
)

type applyRecord struct {
	Schema  json.RawMessage `json:"schema,omitempty"` // absent: that of the line before
	Op      string          `json:"op"`               // update, apply
	Live    interface{}     `json:"live,omitempty"`
	New     interface{}     `json:"new"`
	Manager string          `json:"manager"`
	Force   bool            `json:"force,omitempty"`
	Managed interface{}     `json:"managed,omitempty"`
	Object  interface{}     `json:"object,omitempty"`
	Error   string          `json:"error,omitempty"`
}

const applySchemas = `
type: object
properties:
  spec:
    type: object
    properties:
      a: {type: string}
      b: {type: integer, default: 7}
      free: {type: object}
      open: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {k: {type: object, properties: {z: {type: string}}}}}
      any: {x-kubernetes-preserve-unknown-fields: true}
      port: {x-kubernetes-int-or-string: true}
      whole: {type: object, x-kubernetes-map-type: atomic, properties: {p: {type: string}, q: {type: string}}}
      list: {type: array, items: {type: string}}
      set: {type: array, x-kubernetes-list-type: set, items: {type: string}}
      map: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [name, proto], items: {type: object, required: [name], properties: {name: {type: string}, proto: {type: string, default: tcp}, v: {type: integer}, tags: {type: array, x-kubernetes-list-type: set, items: {type: string}}}}}
      dict: {type: object, additionalProperties: {type: object, properties: {u: {type: integer}}}}
      emb: {type: object, x-kubernetes-embedded-resource: true, properties: {spec: {type: object, properties: {i: {type: integer}}}}}
  status: {type: object, properties: {phase: {type: string}}}
---
type: object
x-kubernetes-preserve-unknown-fields: true
properties:
  spec: {type: object, properties: {a: {type: string}, list: {type: array, items: {type: string}}}}
---
type: object
`

const applyParts = `
spec:
  a: x
  b: 3
  free: {one: 1, two: {three: [1, 2]}}
  open: {k: {z: q}, l: {m: {"n": 1}}}
  any: {o: [1], p: {q: r}}
  port: 80
  whole: {p: a, q: b}
  list: [a, b]
  set: [a, b, c]
  map: [{name: a, v: 1, tags: [x, z]}, {name: b, proto: udp, v: 2}, {name: a, proto: udp}]
  dict: {d: {u: 1}, e: {u: 2}}
  emb: {apiVersion: v1, kind: K, metadata: {name: e, labels: {l: m}}, spec: {i: 1}}
more: {of: [this], and: {that: 1}}
status: {phase: P}
`

var entryTime = regexp.MustCompile(`"time":"[^"]*"`)

func putWrite(w *bufio.Writer, r applyRecord) {
	raw, err := json.Marshal(r)
	must(err)
	w.Write(entryTime.ReplaceAll(raw, []byte(`"time":"2026-01-01T00:00:00Z"`)))
	w.WriteByte('\n')
}

type applyWorld struct{ s *schema.Structural }

func (w applyWorld) Default(in runtime.Object) {
	defaulting.Default(in.(*unstructured.Unstructured).Object, w.s)
}
func (applyWorld) New(kind gvkschema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	return u, nil
}
func (applyWorld) Convert(in, out, context interface{}) error { panic("not called") }
func (applyWorld) ConvertToVersion(in runtime.Object, gv runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}
func (applyWorld) ConvertFieldLabel(gvk gvkschema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

func part(r *rand.Rand, v interface{}, depth int) interface{} {
	switch x := v.(type) {
	case object:
		out := object{}
		for _, k := range sortedKeys(x) {
			must := k == "name" || k == "apiVersion" || k == "kind" || depth == 0 && k == "spec"
			if must || r.Intn(3) > 0 {
				out[k] = part(r, x[k], depth+1)
			}
		}
		return out
	case []interface{}:
		out := []interface{}{}
		for _, c := range x {
			if r.Intn(3) > 0 {
				out = append(out, part(r, c, depth+1))
			}
		}
		return out
	case string:
		if len(x) == 1 && r.Intn(4) == 0 {
			return x + string(rune('a'+r.Intn(2)))
		}
	case int64:
		return x + int64(r.Intn(2))
	}
	return v
}

func sortedKeys(m object) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	for i := range keys {
		for j := i; j > 0 && keys[j] < keys[j-1]; j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
	return keys
}

func applies(w *bufio.Writer) int {
	n := 0
	for _, text := range strings.Split(applySchemas, "\n---\n") {
		raw, _ := json.Marshal(parse(text))
		world, err := newWorld(raw)
		must(err)
		var props v1.JSONSchemaProps
		must(json.Unmarshal(raw, &props))
		crd := &v1.CustomResourceDefinition{Spec: v1.CustomResourceDefinitionSpec{Group: "example.com",
			Scope: v1.NamespaceScoped,
			Names: v1.CustomResourceDefinitionNames{Plural: "widgets", Singular: "widget", Kind: "Widget", ListKind: "WidgetList"},
			Versions: []v1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true,
				Schema: &v1.CustomResourceValidation{OpenAPIV3Schema: &props}}}}}
		crd.Name = "widgets.example.com"
		spec, err := builder.BuildOpenAPIV3(crd, "v1", builder.Options{})
		must(err)
		converter, err := managedfields.NewTypeConverter(spec.Components.Schemas, false)
		must(err)
		aw := applyWorld{world.structural}
		gvk := gvkschema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"}
		fm, err := managedfields.NewDefaultCRDFieldManager(converter, aw, aw, aw, gvk, gvk.GroupVersion(), "", nil)
		must(err)
		for seed := int64(0); seed < 12; seed++ {
			n += sequence(w, fm, world, aw, rand.New(rand.NewSource(seed)), seed == 0)
		}
	}
	return n
}

func sequence(w *bufio.Writer, fm *managedfields.FieldManager, world *world, aw applyWorld, r *rand.Rand, first bool) int {
	var live *unstructured.Unstructured
	n := 0
	for time.Now().Nanosecond() > 700e6 { // entries are in the order of their times: one for all
		time.Sleep(10 * time.Millisecond)
	}
	for step := 0; step < 4; step++ {
		obj := part(r, parse(applyParts), 0).(object)
		for _, k := range sortedKeys(obj) { // what the schema does not know, now and then
			_, known := world.structural.Properties[k]
			if !known && !world.structural.XPreserveUnknownFields && r.Intn(6) > 0 {
				delete(obj, k)
			}
		}
		obj["apiVersion"], obj["kind"] = "example.com/v1", "Widget"
		obj["metadata"] = object{"name": "w", "namespace": "d"}
		if r.Intn(2) == 0 {
			obj["metadata"].(object)["labels"] = object{"l": string(rune('a' + r.Intn(3)))}
		}
		apply := live != nil && r.Intn(2) == 0 || live == nil && r.Intn(3) == 0
		if live != nil && !apply {
			obj["metadata"].(object)["uid"] = "u"
		}
		rec := applyRecord{Op: "update", Manager: string(rune('A' + r.Intn(2))), New: runtime.DeepCopyJSON(obj)}
		if first && n == 0 {
			rec.Schema = world.text
		}
		was, _ := (applyWorld{}).New(gvkschema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"})
		if live != nil {
			rec.Live = runtime.DeepCopyJSON(live.Object)
			was = live.DeepCopy()
		}
		var out runtime.Object
		var err error
		if apply {
			rec.Op, rec.Force = "apply", r.Intn(2) == 0
			out, err = fm.Apply(was, &unstructured.Unstructured{Object: obj}, rec.Manager, rec.Force)
		} else {
			_, err = decode(obj, world.structural)
			must(err)
			defaulting.Default(obj, world.structural)
			if live != nil {
				obj["metadata"].(object)["managedFields"] = live.Object["metadata"].(object)["managedFields"]
			}
			out, err = fm.Update(was, &unstructured.Unstructured{Object: obj}, rec.Manager)
		}
		if err != nil {
			rec.Error = err.Error()
			putWrite(w, rec)
			n++
			continue
		}
		if out == nil { // nothing changed
			putWrite(w, rec)
			n++
			continue
		}
		u := out.(*unstructured.Unstructured)
		raw, _ := json.Marshal(u.Object)
		u = &unstructured.Unstructured{Object: parse(string(raw))}
		_, err = decode(u.Object, world.structural) // as it is read from storage
		must(err)
		live = u.DeepCopy()
		live.SetUID("u") // it is not new
		rec.Managed = u.Object["metadata"].(object)["managedFields"]
		delete(u.Object["metadata"].(object), "managedFields")
		if rec.Op == "apply" {
			rec.Object = u.Object
		}
		putWrite(w, rec)
		n++
	}
	return n
}
