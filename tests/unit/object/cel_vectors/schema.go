// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strconv"
	"strings"

	"context"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	celschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/environment"
)

// Rules on a structural schema: the maximum of the estimate, and what validating an object says.
const crdSchema = `{"type":"object","required":["name"],"properties":{
"name":{"type":"string","maxLength":63},"free":{"type":"string"},"kind":{"type":"string"},
"mode":{"type":"string","enum":["Auto","Off"]},"count":{"type":"integer"},"ratio":{"type":"number"},
"on":{"type":"boolean"},"when":{"type":"string","format":"date-time"},
"day":{"type":"string","format":"date"},"wait":{"type":"string","format":"duration"},
"blob":{"type":"string","format":"byte"},"port":{"x-kubernetes-int-or-string":true},
"namespace":{"type":"string"},"my-key":{"type":"string"},"maybe":{"type":"string","nullable":true},
"tags":{"type":"array","maxItems":10,"items":{"type":"string","maxLength":20},"x-kubernetes-list-type":"set"},
"list":{"type":"array","items":{"type":"integer"}},
"ports":{"type":"array","maxItems":5,"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["name"],
"items":{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"port":{"type":"integer"}}}},
"labels":{"type":"object","additionalProperties":{"type":"string","maxLength":30}},
"limits":{"type":"object","maxProperties":4,"additionalProperties":{"type":"integer"}},
"any":{"type":"object","x-kubernetes-preserve-unknown-fields":true},
"nested":{"type":"object","properties":{"deep":{"type":"object","properties":{"x":{"type":"string"}}}}}}}`

const crdObject = `{"name":"web","free":"text","mode":"Auto","count":3,"ratio":2,"on":true,
"when":"2024-02-03T04:05:06Z","day":"2024-02-03","wait":"90s","blob":"aGk=","port":"http",
"namespace":"ns","my-key":"k","maybe":null,"tags":["a","b"],"list":[3,1,2],
"ports":[{"name":"a","port":1},{"name":"b","port":2}],"labels":{"app":"web"},"limits":{"cpu":2},
"any":{"x":1},"nested":{"deep":{"x":"y"}}}`

var crdRules = strings.Split(`self.name == 'web'
self.name.size() < 10
self.free.startsWith('te')
self.mode in ['Auto', 'Off']
self.count + 1 == 4
self.ratio > 1.5
self.on
self.when > timestamp('2024-01-01T00:00:00Z')
self.when.getMonth() == 1
self.day == timestamp('2024-02-03T00:00:00Z')
self.wait == duration('1m30s')
self.blob == b'hi'
self.port == 'http'
type(self.port) == string
self.__namespace__ == 'ns'
self.namespace == 'ns'
self.my__dash__key == 'k'
has(self.maybe)
has(self.kind)
self.kind == 'x'
self.tags.all(t, t.size() < 5)
self.tags == ['b', 'a']
self.tags + ['c'] == ['a', 'b', 'c']
'a' in self.tags
self.list.all(x, x > 0)
self.list.exists(x, self.list.exists(y, x == y))
self.list.map(x, x * 2).sum() == 12
self.list.isSorted()
self.ports.exists(p, p.name == 'a' && p.port == 1)
self.ports.all(p, self.ports.exists_one(q, q.name == p.name))
self.ports == self.ports
self.ports.map(p, p.name).join(',') == 'a,b'
self.labels.all(k, k.size() < 10)
self.labels['app'] == 'web'
self.labels.app == 'web'
'app' in self.labels
self.labels.all(k, v, v.matches('^[a-z]+$'))
self.limits.cpu < 5
self.limits.exists(k, self.limits[k] > 1)
self.nested.deep.x == 'y'
self.nested == self.nested
self == self
self.nested.nope == 1
self.any == self.any
self.nope
self.name + 1 == 2
self.name.contains(self.free)
self.free.contains(self.free)
self.free.matches('a+b')
self.free.replace('a', 'bb').size() > 0
self.free.split(',').size() > 0
self.tags.join(',').size() > 0
self.labels.map(k, self.labels[k]).join('').size() > 0
self.list.map(x, string(x)).join('').size() > 0
self.list.filter(x, x > 1).size() == 2
self.tags.map(t, t + t).exists(t, t == 'aa')
self.ports.map(p, p.name + ':' + string(p.port)).size() == 2
self.?kind.orValue('none') == 'none'
self.?nested.?deep.?x.orValue('') == 'y'
self.list.sort() == [1, 2, 3]
self.list.distinct().size() == 3
sets.contains(self.tags, ['a'])
quantity(self.name) == quantity('1')
isURL(self.free)
self.list[0] == 3
self.list[5] == 3
self.ports[0].name == 'a'
self.free.lowerAscii() == self.free
(self.on ? self.name : self.free).size() > 0
self.tags.transformMap(i, t, t.size()).size() == 2
self.list.transformList(i, x, i + x).size() == 3
dyn(self.list) == [3, 1, 2]
self.list.min() < self.list.max()
self.name.indexOf('e') == 1
format.dns1123Label().validate(self.name).hasValue()
self.free.find('[a-z]+') == 'text'
self.free.findAll('t').size() == 2
self.name < self.free
self.ports + [{'name': 'a', 'port': 5}] == self.ports
self.count == oldSelf.count
self.tags.all(t, t in oldSelf.tags)
oldSelf.name == self.name`, "\n")

// ["rule", maxCost as text, error of compiling, detail of a failed validation or ""]
func schemaVectors(emit func([]any)) {
	var props v1.JSONSchemaProps
	if err := json.Unmarshal([]byte(crdSchema), &props); err != nil {
		panic(err)
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(crdObject), &object); err != nil {
		panic(err)
	}
	object = integers(object).(map[string]any)
	for _, rule := range crdRules {
		var internal apiextensions.JSONSchemaProps
		p := props
		p.XValidations = v1.ValidationRules{{Rule: rule}}
		if err := v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&p, &internal, nil); err != nil {
			panic(err)
		}
		s, err := schema.NewStructural(&internal)
		if err != nil {
			panic(err)
		}
		declType := model.SchemaDeclType(s, false)
		results, err := celschema.Compile(s, declType, 1000000,
			environment.MustBaseEnvSet(version.MajorMinor(1, 36)), celschema.NewExpressionsEnvLoader())
		if err != nil {
			panic(err)
		}
		if results[0].Error != nil {
			detail := results[0].Error.Detail
			if strings.Contains(detail, "selfType") {
				continue // has a random number
			}
			emit([]any{rule, "", detail, ""})
			continue
		}
		validator := celschema.NewValidator(s, false, 10000000)
		found, budget := validator.Validate(context.Background(), field.NewPath("r"), s, object, object, 10000000)
		said := ""
		for _, f := range found {
			said = f.Detail
		}
		emit([]any{rule, strconv.FormatUint(results[0].MaxCost, 10), strconv.FormatInt(10000000-budget, 10), said})
	}
}

// As the API server decodes JSON: whole numbers are int64.
func integers(v any) any {
	switch t := v.(type) {
	case map[string]any:
		for k, e := range t {
			t[k] = integers(e)
		}
	case []any:
		for i, e := range t {
			t[i] = integers(e)
		}
	case float64:
		if t == float64(int64(t)) {
			return int64(t)
		}
	}
	return v
}
