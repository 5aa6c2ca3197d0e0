// SPDX-License-Identifier: Apache-2.0

// Records what apiextensions-apiserver makes of custom objects and of CustomResourceDefinitions.
//
// usage: go run . OBJECTS.jsonl DEFINITIONS.jsonl PATHS.jsonl WRITES.jsonl [SCHEMAS]
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	gvkschema "k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/warning"
	"sigs.k8s.io/yaml"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

type record struct {
	Schema    json.RawMessage `json:"schema,omitempty"` // empty: that of the line before
	Object    interface{}     `json:"object"`
	Old       interface{}     `json:"old,omitempty"`
	Status    bool            `json:"status,omitempty"`
	Scale     bool            `json:"scale,omitempty"`
	Refused   string          `json:"refused,omitempty"` // by the decoder
	Unknown   []string        `json:"unknown,omitempty"`
	Pruned    interface{}     `json:"pruned,omitempty"`    // absent: as the object
	Defaulted interface{}     `json:"defaulted,omitempty"` // absent: as pruned
	Errors    [][3]string     `json:"errors,omitempty"`
	Warnings  []string        `json:"warnings,omitempty"`
}

type warnings struct{ texts []string }

func (w *warnings) AddWarning(agent, text string) { w.texts = append(w.texts, text) }

var selfType = regexp.MustCompile(`selfType\d+`)

func errorsOf(list field.ErrorList) [][3]string {
	var out [][3]string
	for _, e := range list {
		body := selfType.ReplaceAllString(e.ErrorBody(), "selfType") // has the time in it
		out = append(out, [3]string{string(e.Type), e.Field, body})
	}
	sort.Slice(out, func(i, j int) bool {
		return strings.Join(out[i][:], "\x00") < strings.Join(out[j][:], "\x00")
	})
	return out
}

// What the handler's decoder does with a body.
func decode(obj map[string]interface{}, s *schema.Structural) ([]string, error) {
	kind, apiVersion := obj["kind"], obj["apiVersion"]
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(obj,
		objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true})
	if err != nil {
		return nil, err
	}
	unknown = append(unknown, pruning.PruneWithOptions(obj, s, true,
		schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})...)
	defaulting.PruneNonNullableNullsWithoutDefaults(obj, s)
	ferr, paths := objectmeta.CoerceWithOptions(nil, obj, s, false,
		objectmeta.CoerceOptions{ReturnUnknownFieldPaths: true})
	if ferr != nil {
		return nil, ferr
	}
	unknown = append(unknown, paths...)
	obj["kind"], obj["apiVersion"] = kind, apiVersion
	if found {
		must(objectmeta.SetObjectMeta(obj, meta))
		if meta.CreationTimestamp.IsZero() {
			unstructured.RemoveNestedField(obj, "metadata", "creationTimestamp")
		}
	}
	for i, p := range unknown {
		unknown[i] = strings.TrimPrefix(p, "<nil>.")
	}
	return unknown, nil
}

type world struct {
	text       json.RawMessage
	structural *schema.Structural
	main, stat validation.SchemaValidator
}

func newWorld(text []byte) (*world, error) {
	var props v1.JSONSchemaProps
	if err := json.Unmarshal(text, &props); err != nil {
		return nil, err
	}
	var internal apiextensions.JSONSchemaProps
	if err := v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&props, &internal, nil); err != nil {
		return nil, err
	}
	w := &world{text: text}
	var err error
	if w.structural, err = schema.NewStructural(&internal); err != nil {
		return nil, err
	}
	if w.main, _, err = validation.NewSchemaValidator(&internal); err != nil {
		return nil, err
	}
	if status, ok := internal.Properties["status"]; ok {
		if w.stat, _, err = validation.NewSchemaValidator(&status); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func parse(text string) map[string]interface{} {
	raw, err := yaml.YAMLToJSON([]byte(text))
	must(err)
	var v map[string]interface{}
	must(utiljson.Unmarshal(raw, &v))
	return v
}

func head(v map[string]interface{}) map[string]interface{} {
	if v == nil {
		return nil
	}
	v["apiVersion"], v["kind"] = "example.com/v1", "Widget"
	raw, err := json.Marshal(v) // numbers as a body has them
	must(err)
	must(utiljson.Unmarshal(raw, &v))
	if _, ok := v["metadata"]; !ok {
		v["metadata"] = map[string]interface{}{"name": "w", "namespace": "d", "resourceVersion": "1"}
	}
	return v
}

func (w *world) run(obj, old map[string]interface{}, status, scale bool) record {
	r := record{Object: runtime.DeepCopyJSONValue(obj), Status: status, Scale: scale}
	if old != nil {
		r.Old = runtime.DeepCopyJSONValue(old)
		if _, err := decode(old, w.structural); err != nil {
			panic(err)
		}
		defaulting.Default(old, w.structural)
	}
	unknown, err := decode(obj, w.structural)
	if err != nil {
		r.Refused = err.Error()
		return r
	}
	r.Unknown = unknown
	before, _ := json.Marshal(r.Object)
	a, _ := json.Marshal(obj)
	if string(a) != string(before) {
		r.Pruned = runtime.DeepCopyJSONValue(obj)
	}
	defaulting.Default(obj, w.structural)
	if b, _ := json.Marshal(obj); string(a) != string(b) {
		r.Defaulted = runtime.DeepCopyJSONValue(obj)
	}
	var sc *apiextensions.CustomResourceSubresourceScale
	if scale {
		selector := ".status.selector"
		sc = &apiextensions.CustomResourceSubresourceScale{SpecReplicasPath: ".spec.replicas",
			StatusReplicasPath: ".status.replicas", LabelSelectorPath: &selector}
	}
	st := customresource.NewStrategy(nil, true,
		gvkschema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"},
		w.main, w.stat, w.structural, &apiextensions.CustomResourceSubresourceStatus{}, sc, nil)
	var warn warnings
	ctx := warning.WithWarningRecorder(context.Background(), &warn)
	now := &unstructured.Unstructured{Object: obj}
	switch {
	case old == nil:
		r.Errors = errorsOf(st.Validate(ctx, now))
	case status:
		r.Errors = errorsOf(customresource.NewStatusStrategy(st).ValidateUpdate(ctx, now,
			&unstructured.Unstructured{Object: old}))
	default:
		r.Errors = errorsOf(st.ValidateUpdate(ctx, now, &unstructured.Unstructured{Object: old}))
	}
	sort.Strings(warn.texts)
	r.Warnings = warn.texts
	return r
}

func open(path string) (*bufio.Writer, func()) {
	f, err := os.Create(path)
	must(err)
	w := bufio.NewWriter(f)
	return w, func() { must(w.Flush()); must(f.Close()) }
}

func put(w *bufio.Writer, v interface{}) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	must(e.Encode(v))
}

// Cases in a file: documents apart by "---"; one with "schema" opens a group, others are
// {object, old, status, scale} of it.
func fixed(w *bufio.Writer) int {
	text, err := os.ReadFile("objects.yaml")
	must(err)
	var cur *world
	n, fresh := 0, false
	for _, doc := range strings.Split(string(text), "\n---\n") {
		v := parse(doc)
		if s, ok := v["schema"]; ok {
			raw, _ := json.Marshal(s)
			cur, err = newWorld(raw)
			must(err)
			fresh = true
			continue
		}
		if len(v) == 0 {
			continue
		}
		obj, _ := v["object"].(map[string]interface{})
		old, _ := v["old"].(map[string]interface{})
		status, _ := v["status"].(bool)
		scale, _ := v["scale"].(bool)
		r := cur.run(head(obj), head(old), status, scale)
		if fresh {
			r.Schema = cur.text
			fresh = false
		}
		put(w, r)
		n++
	}
	return n
}

func main() {
	w, done := open(os.Args[1])
	n := fixed(w)
	schemas := 75
	if len(os.Args) > 5 {
		schemas, _ = strconv.Atoi(os.Args[5])
	}
	n += random(w, schemas)
	done()
	w, done = open(os.Args[2])
	m := definitions(w)
	done()
	w, done = open(os.Args[3])
	k := paths(w)
	done()
	w, done = open(os.Args[4])
	l := applies(w)
	done()
	fmt.Println(l, "writes,", n, "objects,", m, "definitions,", k, "paths")
}
