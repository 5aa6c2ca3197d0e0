// SPDX-License-Identifier: Apache-2.0
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"sort"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

type definitionRecord struct {
	Now    json.RawMessage `json:"now"`
	Old    json.RawMessage `json:"old,omitempty"`
	Errors [][3]string     `json:"errors,omitempty"`
	Warn   []string        `json:"warnings,omitempty"`
}

const baseDefinition = `
metadata: {name: widgets.example.com, resourceVersion: "1"}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
`

// Puts what a patch has over a base; lists are replaced, null removes.
func merge(base, patch interface{}) interface{} {
	p, ok := patch.(map[string]interface{})
	b, isMap := base.(map[string]interface{})
	if !ok || !isMap {
		return patch
	}
	out := map[string]interface{}{}
	for k, v := range b {
		out[k] = v
	}
	for k, v := range p {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = merge(out[k], v)
		}
	}
	return out
}

// A document is a patch of the base; "schema" alone is that of its one version; "status: on" there
// gives it the subresource. "was" makes it an update: the patch of the old one.
func expand(doc map[string]interface{}) json.RawMessage {
	v := parse(baseDefinition)
	if s, ok := doc["schema"]; ok {
		version := v["spec"].(map[string]interface{})["versions"].([]interface{})[0].(map[string]interface{})
		version["schema"] = map[string]interface{}{"openAPIV3Schema": s}
		if doc["on"] == true {
			version["subresources"] = map[string]interface{}{"status": map[string]interface{}{}}
		}
	}
	p := map[string]interface{}{}
	for k, x := range doc {
		if k != "schema" && k != "was" && k != "on" {
			p[k] = x
		}
	}
	raw, err := json.Marshal(merge(v, p))
	must(err)
	return raw
}

func definition(scheme *runtime.Scheme, raw []byte) *apiextensions.CustomResourceDefinition {
	var in v1.CustomResourceDefinition
	must(json.Unmarshal(raw, &in))
	scheme.Default(&in)
	var out apiextensions.CustomResourceDefinition
	must(scheme.Convert(&in, &out, nil))
	return &out
}

func definitions(w *bufio.Writer) int {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	strategy := customresourcedefinition.NewStrategy(scheme)
	text, err := os.ReadFile("definitions.yaml")
	must(err)
	n := 0
	for _, part := range strings.Split(string(text), "\n---\n") {
		var doc map[string]interface{}
		raw, err := yaml.YAMLToJSON([]byte(part))
		must(err)
		must(json.Unmarshal(raw, &doc))
		if doc == nil {
			doc = map[string]interface{}{}
		}
		r := definitionRecord{Now: expand(doc)}
		if was, ok := doc["was"].(map[string]interface{}); ok {
			r.Old = expand(was)
			r.Errors = errorsOf(validation.ValidateCustomResourceDefinitionUpdate(context.Background(),
				definition(scheme, r.Now), definition(scheme, r.Old)))
			r.Warn = strategy.WarningsOnUpdate(context.Background(), definition(scheme, r.Now), definition(scheme, r.Old))
		} else {
			r.Warn = strategy.WarningsOnCreate(context.Background(), definition(scheme, r.Now))
			r.Errors = errorsOf(validation.ValidateCustomResourceDefinition(context.Background(),
				definition(scheme, r.Now)))
		}
		sort.Strings(r.Warn)
		for i, e := range r.Errors { // a dump of Go's internal struct
			if j := strings.Index(e[2], "only [Description"); j > 0 {
				r.Errors[i][2] = e[2][j:]
			} else if j := strings.LastIndex(e[2], "}]: must"); j > 0 {
				r.Errors[i][2] = e[2][j:]
			}
		}
		put(w, r)
		n++
	}
	return n
}
