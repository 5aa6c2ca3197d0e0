// SPDX-License-Identifier: Apache-2.0
package main

import (
	"bufio"
	"bytes"
	"reflect"
	"sort"
	"strings"

	"k8s.io/client-go/util/jsonpath"
)

type pathRecord struct {
	Path    string   `json:"path"`
	Bad     string   `json:"bad,omitempty"`
	Failed  bool     `json:"failed,omitempty"`
	Results []string `json:"results,omitempty"`
}

const pathTree = `
spec: {replicas: 3, ratio: 0.5, on: true, none: null, name: web, empty: "", "a.b": dotted, "odd key": 1}
list: [{name: one, n: 1}, {name: two, n: 2, deep: {x: [1, 2]}}, {name: three, n: 3}]
plain: [a, b, c]
`

func paths(w *bufio.Writer) int {
	data := parse(pathTree)
	put(w, map[string]interface{}{"tree": data})
	n := 0
	for _, p := range []string{".spec.replicas", ".spec.ratio", ".spec.on", ".spec.none", ".spec.name", ".spec.empty",
		".spec", ".list[0].name", ".list[-1].name", ".list[0:2].name", ".list[1:].n", ".list[:1].n", ".list[::2].n",
		".list[*].name", ".list[5].name", ".list[0:9].n", ".list[2:1].n", ".list[::0]", ".list[0,2].name", ".missing", ".missing.deeper",
		".spec.missing", ".spec['a.b']", `.spec.a\.b`, ".spec['odd key']", ".list[?(@.n>1)].name", `.list[?(@.name=="two")].n`,
		`.list[?(@.name=='two')].n`, ".list[?(@.deep)].name", ".list[?(@.n<=2)].n", ".list[?(@.n!=2)].n", ".list[?(@.n==2.0)].n",
		".list[?(@.name>1)].n", ".spec[0]", ".spec.name[0]", ".plain[1]", ".plain[*]", ".plain", ".list[1].deep.x", ".list[1].deep.x[1]",
		"..n", "..x", "..name", ".list..n", "...", "....", ".", "", "spec", "$.spec.name", "@.spec.name", "{", "}", ".spec}{.list[0].n",
		".list[", ".list[a]", ".list[1", ".list[?(@.n", ".list[?(@.n>1)", ".list[?(@.n>)]", ".list[?(@.n>=>1)].n", `"text"`, `'te\'xt'`, `"unclosed`, "12", "-1", "1.5", "1.2.3",
		"true", "range .list[*]", "end", "#", ".spec.replicas .spec.name", ".list[0]['name']", ".list[0]['name', 'n']", ".spec.*",
		".plain[-4]", ".plain[-3]", ".plain[3]", ".plain[99999999999999999999]", ".list[?(@.n>1)].deep.x[0]"} {
		j := jsonpath.New("x")
		j.AllowMissingKeys(true)
		r := pathRecord{Path: p}
		if err := j.Parse("{" + p + "}"); err != nil {
			r.Bad = err.Error()
		} else if found, err := j.FindResults(data); err != nil {
			r.Failed = true
		} else if len(found) > 0 {
			for _, v := range found[0] {
				var b bytes.Buffer
				if j.PrintResults(&b, []reflect.Value{reflect.ValueOf(v.Interface())}) == nil {
					r.Results = append(r.Results, b.String())
				} else {
					r.Results = append(r.Results, "?")
				}
			}
		}
		if strings.Contains(p, "..") || strings.Contains(p, ".*") {
			sort.Strings(r.Results) // Go's maps have no order
		}
		put(w, r)
		n++
	}
	return n
}
