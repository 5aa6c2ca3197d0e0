// SPDX-License-Identifier: Apache-2.0

// Records what openapiconv makes of version 2 documents, its own test data and those below, as
// JSON: {"name", "v2", "v3"} in a line; those of the test data, cut down to every tenth path and
// definition, first.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Which of the members stay.
func thin(all map[string]any, step int) {
	names := []string{}
	for name := range all {
		names = append(names, name)
	}
	sort.Strings(names)
	for i, name := range names {
		if i%step != 0 {
			delete(all, name)
		}
	}
}

func schema(members string) string {
	return `{"swagger":"2.0","info":{"title":"t","version":"1"},"paths":{},"definitions":{"D":` + members + `}}`
}

func operation(members string) string {
	return `{"swagger":"2.0","info":{"title":"t"},"paths":{"/a":{"get":` + members + `}}}`
}

var small = []string{
	`{"swagger":"2.0"}`,
	`{"swagger":"2.0","info":null,"paths":null,"definitions":null}`,
	`{"swagger":"2.0","info":{"title":"","contact":{},"license":{"name":"L","x-l":1},"x-i":[1],"X-J":null,"other":1}}`,
	`{"swagger":"2.0","info":{"contact":{"name":"n","email":"","url":"u"},"termsOfService":"s"},"host":"h","basePath":"/b",
	  "schemes":["https"],"security":[{"a":[]}],"tags":[{"name":"t"}],"x-root":1,"externalDocs":{"url":"u","description":""}}`,
	`{"swagger":"2.0","info":{},"externalDocs":{}}`,
	`{"swagger":"2.0","info":{"title":"t"},"paths":{"x-p":{"a":1},"other":{},"/a":{},"/b":null}}`,
	`{"swagger":"2.0","info":{"title":"t"},"produces":["application/json"],"responses":{"R":{"description":"d",
	  "schema":{"$ref":"#/definitions/A"},"headers":{"H":{"type":"string"}},"x-r":1}},"parameters":{"P":{"name":"p","in":"query","type":"string"}}}`,
	`{"swagger":"2.0","info":{"title":"t"},"securityDefinitions":{"B":{"type":"apiKey","name":"authorization","in":"header","description":"d"},
	  "O":{"type":"oauth2","flow":"implicit","authorizationUrl":"a","tokenUrl":"t","scopes":{"s":"x"},"x-o":true},"E":{}}}`,
	// schemas
	schema(`{"$ref":"#/definitions/A"}`), schema(`{"$ref":"#/definitions/A","description":"d"}`),
	schema(`{"$ref":"#/definitions/A","description":"","nullable":false}`),
	schema(`{"$ref":"#/definitions/A","default":false}`), schema(`{"$ref":"#/definitions/A","x-k":null}`),
	schema(`{"$ref":"#/definitions/A","required":[]}`), schema(`{"$ref":"#/definitions/A","properties":{}}`),
	schema(`{"$ref":"#/definitions/A","allOf":[{"type":"string"}]}`), schema(`{"$ref":"#/definitions/A","unknown":1}`),
	schema(`{"$ref":"#/elsewhere/A"}`), schema(`{"$ref":"other.json#/definitions/A"}`), schema(`{"$ref":""}`),
	schema(`{"$ref":"#/definitions/A","additionalProperties":false}`), schema(`{"$ref":"#/definitions/A","default":null}`),
	schema(`{"type":"string","default":"","example":"","enum":[],"required":[],"maximum":1.0,"minimum":0,"multipleOf":0.5}`),
	schema(`{"type":["string"],"maxLength":0,"minLength":1,"maxItems":2,"minItems":3,"maxProperties":4,"minProperties":5,"pattern":"a"}`),
	schema(`{"type":["string","null"],"exclusiveMaximum":true,"exclusiveMinimum":true,"uniqueItems":true,"title":"t","id":"i"}`),
	schema(`{"type":[]}`), schema(`{"type":null,"enum":[1,null,"a"],"format":"int32","nullable":true}`),
	schema(`{"items":{"$ref":"#/definitions/A"}}`), schema(`{"items":[{"$ref":"#/definitions/A"},{"type":"string"}]}`),
	schema(`{"items":[]}`), schema(`{"items":{}}`), schema(`{"properties":{"a":{"$ref":"#/definitions/A","default":{}},"b":{}}}`),
	schema(`{"properties":{"a":{"properties":{"b":{"items":{"$ref":"#/definitions/A","description":"d"}}}}}}`),
	schema(`{"additionalProperties":true}`), schema(`{"additionalProperties":false}`), schema(`{"additionalProperties":{"$ref":"#/definitions/A"}}`),
	schema(`{"additionalItems":true}`), schema(`{"additionalItems":{"$ref":"#/definitions/A","title":"t"}}`),
	schema(`{"allOf":[{"$ref":"#/definitions/A"},{"$ref":"#/definitions/B","description":"d"}]}`),
	schema(`{"anyOf":[{"$ref":"#/definitions/A"}],"oneOf":[{"$ref":"#/definitions/A"}],"not":{"$ref":"#/definitions/A","title":"t"}}`),
	schema(`{"not":{}}`), schema(`{"patternProperties":{"p":{"$ref":"#/definitions/A"}},"definitions":{"x":{"$ref":"#/definitions/A"}}}`),
	schema(`{"dependencies":{"a":["b"],"c":{"$ref":"#/definitions/A"}}}`), schema(`{"discriminator":"d","readOnly":true,"externalDocs":{},"example":{"a":1}}`),
	schema(`{"example":0}`), schema(`{"example":{}}`), schema(`{"example":false}`), schema(`{"$schema":"http://json-schema.org/x","unknown":{"a":[1]}}`),
	schema(`{"x-kubernetes-group-version-kind":[{"group":"g","kind":"K","version":"v"}],"X-Upper":1,"x-":2,"x":3}`),
	schema(`{"properties":{"default":{"type":"boolean"},"$ref":{"type":"string"}}}`),
	schema(`{}`), schema(`null`), schema(`{"properties":{"a":null}}`),
	// what its types do not take
	schema(`{"type":1}`), schema(`{"description":1}`), schema(`{"maxLength":1.5}`), schema(`{"maximum":"1"}`), schema(`{"required":"a"}`),
	schema(`{"required":[1]}`), schema(`{"nullable":"true"}`), schema(`{"properties":[]}`), schema(`{"additionalProperties":1}`), schema(`[]`),
	`{"swagger":"2.0","paths":[]}`, `{"swagger":"2.0","info":{"title":1}}`,
	// operations
	operation(`{"responses":{}}`), operation(`{"description":"d","summary":"s","operationId":"o","deprecated":true,"tags":["t"],"schemes":["https"],
	  "security":[{"a":[]}],"externalDocs":{"url":"u"},"responses":{"200":{"description":"OK"},"default":{"description":"no"},"x-e":1},"x-op":{"a":1},"unknown":1}`),
	operation(`{"parameters":[{"name":"p","in":"query","type":"string","description":"d","required":true,"uniqueItems":true,"format":"f",
	  "enum":["a"],"default":"a","maxLength":3,"allowEmptyValue":true,"x-p":1},{"name":"q","in":"query","type":"array","items":{"type":"string"},"collectionFormat":"multi"}],"responses":{}}`),
	operation(`{"parameters":[{"$ref":"#/parameters/p"},{"$ref":"other"}],"responses":{"200":{"$ref":"#/responses/R"}}}`),
	operation(`{"consumes":["a/b","c/d","a/b"],"produces":["a/b"],"parameters":[{"name":"body","in":"body","required":true,
	  "schema":{"$ref":"#/definitions/A"}}],"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/A"}},"default":{"schema":{"type":"string"}}}}`),
	operation(`{"parameters":[{"name":"body","in":"body","schema":{"type":"object"}},{"name":"body","in":"body","schema":{"type":"string"}}],"responses":{"401":{"description":"no","schema":{}}}}`),
	operation(`{"consumes":[],"produces":[],"parameters":[{"name":"body","in":"body","schema":{}}],"responses":{"401":{"schema":{}}}}`),
	operation(`{"parameters":[{"name":"body","in":"body"},{"name":"other","in":"body","schema":{"$ref":"#/definitions/A","description":"d"}}],"responses":{}}`),
	`{"swagger":"2.0","info":{"title":"t"},"paths":{"/a":{"parameters":[{"name":"body","in":"body","schema":{"$ref":"#/definitions/A"}},{"name":"n","in":"path","type":"string"}],
	  "put":{"responses":{}},"post":{"responses":{}},"delete":{"responses":{}},"options":{"responses":{}},"head":{"responses":{}},"patch":{"responses":{}},"x-path":1},
	  "/r":{"$ref":"#/paths/a"}}}`,
}

func put(out *json.Encoder, name string, text []byte) {
	line := map[string]any{"name": name, "v2": json.RawMessage(text)}
	v2 := &spec.Swagger{}
	if err := json.Unmarshal(text, v2); err == nil {
		v3, err := json.Marshal(openapiconv.ConvertV2ToV3(v2))
		must(err)
		line["v3"] = json.RawMessage(v3)
	}
	must(out.Encode(line))
}

// The one argument: the folder of openapiconv.
func main() {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for _, name := range []string{"api.v1", "apiextensions.k8s.io.v1", "batch.v1"} {
		text, err := os.ReadFile(filepath.Join(os.Args[1], "testdata_generated_from_k8s", "v2_"+name+".json"))
		must(err)
		doc := map[string]any{}
		must(json.Unmarshal(text, &doc))
		thin(doc["paths"].(map[string]any), 15)
		thin(doc["definitions"].(map[string]any), 15)
		text, err = json.Marshal(doc)
		must(err)
		put(out, name, text)
	}
	for i, text := range small {
		put(out, fmt.Sprintf("small %d", i), []byte(text))
	}
}
