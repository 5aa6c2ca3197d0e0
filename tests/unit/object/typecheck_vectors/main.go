// SPDX-License-Identifier: Apache-2.0

// Records what upstream's type checker says of policies: policies.json in, one line of JSON for
// each out (../typecheck_vectors.txt). The names of types, which have the time in them, end with 0.
//
//	GOFLAGS=-mod=mod GOWORK=off go run . < policies.json > ../typecheck_vectors.txt
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"

	v1 "k8s.io/api/admissionregistration/v1"
	crds "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/scheme"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

func main() {
	var policies []v1.ValidatingAdmissionPolicySpec
	if err := json.NewDecoder(os.Stdin).Decode(&policies); err != nil {
		panic(err)
	}
	mapper := meta.NewDefaultRESTMapper(scheme.Scheme.PrioritizedVersionsAllGroups())
	for gvk := range scheme.Scheme.AllKnownTypes() {
		mapper.Add(gvk, meta.RESTScopeNamespace)
	}
	for gvk := range crds.Scheme.AllKnownTypes() {
		mapper.Add(gvk, meta.RESTScopeRoot)
	}
	c := validating.TypeChecker{
		SchemaResolver: resolver.NewDefinitionsSchemaResolver(openapi.GetOpenAPIDefinitions, scheme.Scheme, crds.Scheme),
		RestMapper:     mapper,
	}
	stamp := regexp.MustCompile(`\b([A-Z][A-Za-z]+)[0-9]{3,9}\b`)
	for _, spec := range policies {
		warnings := c.Check(&v1.ValidatingAdmissionPolicy{Spec: spec})
		for i := range warnings {
			warnings[i].Warning = stamp.ReplaceAllString(warnings[i].Warning, "${1}0")
		}
		line, err := json.Marshal(map[string]any{"spec": spec, "warnings": warnings})
		if err != nil {
			panic(err)
		}
		fmt.Println(string(line))
	}
}
