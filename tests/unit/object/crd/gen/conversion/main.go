// SPDX-License-Identifier: Apache-2.0

// Records what apiextensions-apiserver makes of the answers of conversion webhooks.
//
// usage: go run ./conversion > conversion.jsonl
package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/conversion"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/util/webhook"
)

type line struct {
	Review  string            `json:"review"`
	List    bool              `json:"list,omitempty"`
	Objects []json.RawMessage `json:"objects"`
	Answer  string            `json:"answer"`
	Error   string            `json:"error,omitempty"`
	Result  []any             `json:"result,omitempty"`
}

const head = `{"apiVersion":"apiextensions.k8s.io/%s","kind":"ConversionReview","response":{"uid":"{uid}","result":{"status":"Success"},"convertedObjects":%s}}`

const sent = `{"apiVersion":"g.example.com/v1","kind":"Thing","metadata":{"name":"a","namespace":"n","uid":"u","labels":{"k":"v"},"annotations":{"x":"y"},"finalizers":["f/g"],"creationTimestamp":"2020-01-01T00:00:00Z"},"spec":{"x":1}}`
const other = `{"apiVersion":"g.example.com/v1","kind":"Thing","metadata":{"name":"b","namespace":"n","uid":"w"}}`
const done = `{"apiVersion":"g.example.com/v2","kind":"Thing","metadata":{"name":"c","namespace":"n","uid":"z"}}`

func good(change ...string) string {
	s := `{"apiVersion":"g.example.com/v2","kind":"Thing","metadata":{"name":"a","namespace":"n","uid":"u","labels":{"k":"v"},"annotations":{"x":"y"}},"spec":{"y":2}}`
	return strings.NewReplacer(change...).Replace(s)
}

func objects() []string {
	const good2 = `"labels":{"k":"v"}`
	all := []string{good(), `null`, `1`, `"x"`, `[]`, `{}`, `{"kind":"Thing"}`,
		`{"apiVersion":"g.example.com/v2"}`, `{"apiVersion":1,"kind":"Thing"}`, `{"apiVersion":"g.example.com/v2","kind":2}`,
		good("g.example.com/v2", "g.example.com/v1"), good("g.example.com/v2", "v2"), good("g.example.com/v2", "a/b/c"),
		good(`"Thing"`, `"Other"`), good(`"name":"a"`, `"name":"b"`), good(`"name":"a",`, ``), good(`"name":"a"`, `"name":7`),
		good(`"namespace":"n"`, `"namespace":"m"`), good(`"uid":"u"`, `"uid":"v"`), good(`"uid":"u",`, ``),
		`{"apiVersion":"g.example.com/v2","kind":"Thing"}`, `{"apiVersion":"g.example.com/v2","kind":"Thing","metadata":null}`,
		`{"apiVersion":"g.example.com/v2","kind":"Thing","metadata":[]}`, good(`,"finalizers":["f/g"]`, ``),
		good(good2, `"labels":null`), good(good2+`,`, ``), good(good2, `"labels":[]`), good(good2, `"labels":"x"`), good(good2, `"labels":1.5`),
		good(good2, `"labels":{}`), good(good2, `"labels":{"k":"w","l":""}`), good(good2, `"labels":{"k":1}`), good(good2, `"labels":{"k":null}`),
		good(good2, `"labels":{"k":true}`), good(good2, `"labels":{"k":["a"]}`), good(good2, `"labels":{"k":{"a":"b"}}`),
		good(good2, `"labels":{"a/b/c":"v"}`), good(good2, `"labels":{"":"v"}`), good(good2, `"labels":{"k":"not ok"}`),
		good(good2, `"labels":{"k":"`+strings.Repeat("x", 64)+`"}`), good(`"annotations":{"x":"y"}`, `"annotations":{"a b":"c"}`),
		good(`"annotations":{"x":"y"}`, `"annotations":{"X/Y":"c"}`), good(`"annotations":{"x":"y"}`, `"annotations":3`),
		good(`"annotations":{"x":"y"}`, `"annotations":{"x":false}`),
		good(`"labels"`, `"ownerReferences":[{"uid":"1"}],"resourceVersion":"7","labels"`),
		good(`"spec":{"y":2}`, `"items":[]`), good(`"spec":{"y":2}`, `"items":1`)}
	return all
}

func answers(review string) []string {
	h := func(list string) string { return fmt.Sprintf(head, review, list) }
	ok := h("[" + good() + "]")
	swap := func(change ...string) string { return strings.NewReplacer(change...).Replace(ok) }
	all := []string{h("null"), h("[]"), h("{}"), h(`"x"`), h("[" + good() + "," + good() + "]"), "{", "[]", "1", `"x"`, "null", "{}",
		swap(`"apiextensions.k8s.io/`+review+`"`, `"apiextensions.k8s.io/v9"`), swap(`"apiVersion":"apiextensions.k8s.io/`+review+`",`, ``),
		swap(`"ConversionReview"`, `"Review"`), swap(`"kind":"ConversionReview",`, ``),
		swap(`"uid":"{uid}",`, ``), swap(`"{uid}"`, `"no"`), swap(`"uid":"{uid}"`, `"uid":5`),
		swap(`"status":"Success"`, `"status":"Failed"`), swap(`"status":"Success"`, `"status":"Failed","message":"no \"way\""`),
		swap(`"status":"Success"`, ``), swap(`"status":"Success"`, `"status":"success","message":""`), swap(`{"status":"Success"}`, `null`),
		swap(`"result":{"status":"Success"},`, ``), swap(`"status":"Success"`, `"status":"Success","message":"x","reason":"y","code":500`),
		swap(`{"status":"Success"}`, `[]`), swap(`"Success"`, `1`),
		`{"apiVersion":"apiextensions.k8s.io/` + review + `","kind":"ConversionReview"}`,
		`{"apiVersion":"apiextensions.k8s.io/` + review + `","kind":"ConversionReview","response":null}`,
		`{"apiVersion":"apiextensions.k8s.io/` + review + `","kind":"ConversionReview","response":[]}`,
		`{"apiVersion":"v1","kind":"Status","status":"Failure","message":"gone","reason":"Gone","code":410}`}
	return all
}

func main() {
	var body, uid string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		var review struct {
			Request struct{ UID string } `json:"request"`
		}
		if err := json.Unmarshal(text, &review); err != nil {
			panic(err)
		}
		uid = review.Request.UID
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, strings.ReplaceAll(body, "{uid}", uid))
	}))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	factory, err := conversion.NewCRConverterFactory(nil, func(a webhook.AuthenticationInfoResolver) webhook.AuthenticationInfoResolver { return a })
	if err != nil {
		panic(err)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for _, review := range []string{"v1", "v1beta1"} {
		url := server.URL
		crd := &v1.CustomResourceDefinition{Spec: v1.CustomResourceDefinitionSpec{
			Group:    "g.example.com",
			Versions: []v1.CustomResourceDefinitionVersion{{Name: "v1"}, {Name: "v2"}},
			Conversion: &v1.CustomResourceConversion{Strategy: v1.WebhookConverter, Webhook: &v1.WebhookConversion{
				ClientConfig: &v1.WebhookClientConfig{URL: &url, CABundle: ca}, ConversionReviewVersions: []string{review}}}}}
		crd.Name = "things.g.example.com"
		_, converter, err := factory.NewConverter(crd)
		if err != nil {
			panic(err)
		}
		run := func(list bool, sent []string, answer string) {
			body = answer
			l := line{Review: review, List: list, Answer: answer}
			var in runtime.Object
			parse := func(s string) unstructured.Unstructured {
				var u unstructured.Unstructured
				if err := u.UnmarshalJSON([]byte(s)); err != nil {
					panic(err)
				}
				return u
			}
			if list {
				u := &unstructured.UnstructuredList{}
				u.SetAPIVersion("g.example.com/v2")
				u.SetKind("ThingList")
				for _, s := range sent {
					u.Items = append(u.Items, parse(s))
				}
				in = u
			} else {
				u := parse(sent[0])
				in = &u
			}
			for _, s := range sent {
				if !strings.Contains(s, `"g.example.com/v2"`) {
					l.Objects = append(l.Objects, json.RawMessage(s))
				}
			}
			got, err := converter.ConvertToVersion(in, schema.GroupVersion{Group: "g.example.com", Version: "v2"})
			if err != nil {
				l.Error = strings.ReplaceAll(err.Error(), uid, "{uid}")
			} else if list {
				for _, o := range got.(*unstructured.UnstructuredList).Items {
					if o.GetName() != "c" {
						l.Result = append(l.Result, o.Object)
					}
				}
			} else {
				l.Result = append(l.Result, got.(*unstructured.Unstructured).Object)
			}
			if err := out.Encode(l); err != nil {
				panic(err)
			}
		}
		for _, o := range objects() {
			run(false, []string{sent}, fmt.Sprintf(head, review, "["+o+"]"))
		}
		second := good(`"a"`, `"b"`, `"u"`, `"w"`)
		for _, o := range objects() {
			run(true, []string{done, other, sent}, fmt.Sprintf(head, review, "["+second+","+o+"]"))
		}
		for _, a := range answers(review) {
			run(false, []string{sent}, a)
			run(true, []string{sent, other}, a)
		}
	}
}
