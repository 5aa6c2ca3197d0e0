// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingadmissionpolicy"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingadmissionpolicybinding"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicy"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicybinding"
	"sigs.k8s.io/yaml"
)

// Those whose strategies are made first, with what only validation asks.
var further = map[string]strategies{
	"ValidatingAdmissionPolicy":        {validatingadmissionpolicy.NewStrategy(nil, nil), nil},
	"ValidatingAdmissionPolicyBinding": {validatingadmissionpolicybinding.NewStrategy(nil, nil, nil), nil},
	"MutatingAdmissionPolicy":          {mutatingadmissionpolicy.NewStrategy(nil, nil), nil},
	"MutatingAdmissionPolicyBinding":   {mutatingadmissionpolicybinding.NewStrategy(nil, nil, nil), nil},
}

// What a sample says of itself beside its object.
type warned struct {
	Object map[string]any // created; what is updated
	Change map[string]any // a merge patch: the update
	Status map[string]any // the same, of the status subresource
}

func merge(doc any, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	d, ok := doc.(map[string]any)
	if !ok {
		d = map[string]any{}
	}
	for k, v := range p {
		if v == nil {
			delete(d, k)
		} else {
			d[k] = merge(d[k], v)
		}
	}
	return d
}

// As it is stored.
func encoded(obj runtime.Object, apiVersion string) []byte {
	gv, err := apischema.ParseGroupVersion(apiVersion)
	if err != nil {
		panic(err)
	}
	b, err := runtime.Encode(legacyscheme.Codecs.LegacyCodec(gv), obj)
	if err != nil {
		panic(err)
	}
	return []byte(strings.TrimSpace(string(b)))
}

func say(list []string) {
	for _, w := range list {
		fmt.Fprintf(out, "W %s\n", strings.ReplaceAll(w, "\n", "\\n"))
	}
}

func recordUpdate(op string, st any, doc, change map[string]any) {
	s, ok := st.(rest.RESTUpdateStrategy)
	if !ok {
		panic(fmt.Sprint("no strategy for ", op, " of ", doc["kind"]))
	}
	version := doc["apiVersion"].(string)
	old, err := decode(doc)
	if err != nil {
		panic(err)
	}
	obj, err := decode(merge(deep(doc), change))
	if err != nil {
		panic(err)
	}
	s.PrepareForUpdate(contextFor(doc), obj, old.DeepCopyObject())
	list := s.WarningsOnUpdate(contextFor(doc), obj, old)
	fmt.Fprintf(out, "%s %s %s %s\t%s\n", op, version, doc["kind"], encoded(old, version), encoded(obj, version))
	say(list)
}

// One of them as it is created; a strategy may ask for what is not there.
func recordCreate(s rest.RESTCreateStrategy, doc map[string]any) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintln(os.Stderr, doc["kind"], "panic", p)
		}
	}()
	version := doc["apiVersion"].(string)
	obj, err := decode(doc)
	if err != nil {
		panic(err)
	}
	s.PrepareForCreate(contextFor(doc), obj)
	list := s.WarningsOnCreate(contextFor(doc), obj)
	fmt.Fprintf(out, "c %s %s %s\n", version, doc["kind"], encoded(obj, version))
	say(list)
}

// What the strategies warn of. Lines: `c apiVersion kind json` an object that is created,
// `u apiVersion kind old{TAB}new` one that is updated, `s` the same by its status; both as the
// strategy made them ready. `W text` for each warning of the line above. Samples of validation are
// objects that are created.
func recordWarnings(names []string) {
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			panic(err)
		}
		for _, text := range strings.Split(string(data), "\n---\n") {
			var w warned
			if err := yaml.Unmarshal([]byte(text), &w); err != nil {
				panic(fmt.Sprint(err, " in ", text))
			}
			if w.Object == nil {
				if err := yaml.Unmarshal([]byte(text), &w.Object); err != nil {
					panic(err)
				}
			}
			doc := deep(w.Object).(map[string]any)
			kind := doc["kind"].(string)
			st, ok := further[kind]
			if !ok {
				st, ok = kinds[kind]
			}
			if !ok || kind == "APIService" {
				fmt.Fprintln(os.Stderr, "no strategy for", kind)
				continue
			}
			if w.Change == nil && w.Status == nil {
				recordCreate(st.main.(rest.RESTCreateStrategy), doc)
			}
			if w.Change != nil {
				recordUpdate("u", st.main, doc, w.Change)
			}
			if w.Status != nil {
				recordUpdate("s", st.status, doc, w.Status)
			}
		}
	}
}
