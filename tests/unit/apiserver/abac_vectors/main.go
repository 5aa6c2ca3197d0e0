// SPDX-License-Identifier: Apache-2.0

// Prints what upstream's ABAC authorizer reads in lines of policy files, and what it decides with
// them: GOFLAGS=-mod=mod GOWORK=off go run . > ../abac_vectors.txt
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/kubernetes/pkg/auth/authorizer/abac"
)

const v1 = `"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy"`
const v0 = `"apiVersion":"abac.authorization.kubernetes.io/v0","kind":"Policy"`

// Each is a file of one line.
var lines = []string{
	`{}`,
	`null`,
	`[]`,
	`"x"`,
	`5`,
	`{`,
	`{"user":"a",}`,
	`{"user":"a"} {"user":"b"}`,
	`{"user":"a"}x`,
	`{"readonly": true}`,
	`{"user":"alice"}`,
	`{"group":"admins"}`,
	`{"user":"*"}`,
	`{"group":"*"}`,
	`{"user":"alice","group":"*"}`,
	`{"user":"alice","namespace":"ns"}`,
	`{"user":"alice","resource":"pods"}`,
	`{"user":"alice","resource":"pods","namespace":"ns","readonly":true}`,
	`{"user":"alice","apiGroup":"apps","nonResourcePath":"/x"}`,
	`{"User":"alice"}`,
	`{"user":5}`,
	`{"user":null}`,
	`{"user":["a"]}`,
	`{"user":{"a":1}}`,
	`{"user":true}`,
	`{"readonly":"true"}`,
	`{"readonly":1}`,
	`{"readonly":null,"user":"a"}`,
	`{"namespace":1.5}`,
	`{"resource":false}`,
	`{"user":"a","user":"b"}`,
	`{"unknown":1,"user":"a"}`,
	`{"user":"\u0041\n"}`,
	`{"kind":"Policy","user":"a"}`,
	`{"kind":"Other","user":"a"}`,
	`{"kind":"Policy","apiVersion":"v1","user":"a"}`,
	`{"apiVersion":"v1","user":"a"}`,
	`{"apiVersion":"v0","user":"a"}`,
	`{"apiVersion":"a/b/c","user":"a"}`,
	`{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","user":"a"}`,
	`{"apiVersion":"abac.authorization.kubernetes.io/v0","user":"a"}`,
	`{"apiVersion":"abac.authorization.kubernetes.io/v2","kind":"Policy","user":"a"}`,
	`{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Other","spec":{}}`,
	`{"apiVersion":5,"kind":"Policy"}`,
	`{"kind":["Policy"]}`,
	`{"kind":null,"user":"a"}`,
	`{` + v0 + `}`,
	`{` + v0 + `,"user":"a","namespace":"ns"}`,
	`{` + v0 + `,"user":7}`,
	`{` + v1 + `}`,
	`{` + v1 + `,"spec":null}`,
	`{` + v1 + `,"spec":{}}`,
	`{` + v1 + `,"spec":[]}`,
	`{` + v1 + `,"spec":"x"}`,
	`{` + v1 + `,"user":"a"}`,
	`{` + v1 + `,"spec":{"user":"a"}}`,
	`{` + v1 + `,"spec":{"user":"*","resource":"*"}}`,
	`{` + v1 + `,"spec":{"group":"*","namespace":"ns"}}`,
	`{` + v1 + `,"spec":{"user":"a","group":"*"}}`,
	`{` + v1 + `,"spec":{"user":"a","group":"b","readonly":true,"apiGroup":"apps","resource":"deployments","namespace":"ns","nonResourcePath":"/x*"}}`,
	`{` + v1 + `,"spec":{"user":1}}`,
	`{` + v1 + `,"spec":{"readonly":"x"}}`,
	`{` + v1 + `,"spec":{"apiGroup":{}}}`,
	`{` + v1 + `,"spec":{"nonResourcePath":[1]}}`,
	`{` + v1 + `,"spec":{"User":"a"}}`,
	`{` + v1 + `,"Spec":{"user":"a"}}`,
	`{"apiversion":"abac.authorization.kubernetes.io/v1beta1","KIND":"Policy","spec":{"user":"a"}}`,
	` {"user":"spaces"} `,
	"\t{\"user\":\"tab\"}",
	`user: alice`,
	`{user: alice}`,
	`user: 5`,
	`- a`,
	`a: b: c`,
	`just text`,
	`k8s`,
	`apiVersion: abac.authorization.kubernetes.io/v1beta1`,
}

// Files whose decisions are asked for: upstream's example, and what its tests try.
var files = []string{
	`{` + v1 + `,"spec":{"user":"admin","namespace":"*","resource":"*","apiGroup":"*"}}
{` + v1 + `,"spec":{"user":"scheduler","namespace":"*","resource":"pods","readonly":true}}
{` + v1 + `,"spec":{"user":"scheduler","namespace":"*","resource":"bindings"}}
{` + v1 + `,"spec":{"user":"kubelet","namespace":"*","resource":"events"}}
{` + v1 + `,"spec":{"user":"alice","namespace":"projectCaribou","resource":"*","apiGroup":"*"}}
{` + v1 + `,"spec":{"user":"bob","namespace":"projectCaribou","resource":"*","apiGroup":"*","readonly":true}}
{` + v1 + `,"spec":{"user":"debbie","namespace":"projectCaribou","resource":"pods","readonly":true}}
{` + v1 + `,"spec":{"user":"apigroupuser","namespace":"projectAnyGroup","resource":"*","apiGroup":"*"}}
{` + v1 + `,"spec":{"user":"apigroupuser","namespace":"projectEmptyGroup","resource":"*"}}
{` + v1 + `,"spec":{"user":"apigroupuser","namespace":"projectXGroup","resource":"*","apiGroup":"x"}}
`,
	`{"readonly": true, "resource": "events"   }
{"user":"scheduler", "readonly": true, "resource": "pods"   }
{"user":"scheduler", "resource": "bindings"   }
{"user":"kubelet",   "readonly": true, "resource": "bindings"}
{"user":"kubelet",   "resource": "events"}
{"user":"alice", "namespace": "projectCaribou"}
{"user":"bob", "readonly": true, "namespace": "projectCaribou"}
# a comment
{"user":"debbie", "resource": "pods", "readonly": true, "namespace": "projectCaribou"}
{"user":"admin"}
{"group":"team-a", "namespace": "projectAnyGroup"}
`,
	`{` + v1 + `,"spec":{"group":"system:authenticated","readonly":true,"nonResourcePath":"/version"}}
{` + v1 + `,"spec":{"group":"system:unauthenticated","readonly":true,"nonResourcePath":"/healthz"}}
{` + v1 + `,"spec":{"user":"alice","nonResourcePath":"*"}}
{` + v1 + `,"spec":{"user":"bob","nonResourcePath":"/debug/*"}}
{` + v1 + `,"spec":{"user":"debbie","nonResourcePath":"/logs**"}}
{` + v1 + `,"spec":{"user":"scheduler","group":"team-a","resource":"*","namespace":"","apiGroup":""}}
{` + v1 + `,"spec":{"user":"kubelet","resource":"nodes","namespace":"*","apiGroup":"*","nonResourcePath":"/x"}}
{` + v1 + `,"spec":{"resource":"*","namespace":"*","apiGroup":"*"}}
`,
}

var users = []*user.DefaultInfo{
	{Name: "admin", Groups: []string{"system:authenticated"}},
	{Name: "alice", Groups: []string{"system:authenticated"}},
	{Name: "bob", Groups: []string{"system:authenticated"}},
	{Name: "debbie", Groups: []string{"system:authenticated"}},
	{Name: "scheduler", Groups: []string{"team-a", "system:authenticated"}},
	{Name: "scheduler", Groups: []string{"team-b", "system:authenticated"}},
	{Name: "kubelet", Groups: []string{"team-a", "system:authenticated"}},
	{Name: "apigroupuser", Groups: []string{"system:authenticated"}},
	{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}},
}

type question struct{ verb, group, resource, namespace, path string }

func questions() []question {
	var out []question
	for _, verb := range []string{"get", "list", "watch", "create", "update", "delete"} {
		for _, ns := range []string{"projectCaribou", "projectAnyGroup", "projectEmptyGroup", "projectXGroup", ""} {
			for _, r := range [][2]string{{"", "pods"}, {"", "events"}, {"", "bindings"}, {"x", "pods"}, {"", "nodes"}} {
				out = append(out, question{verb, r[0], r[1], ns, ""})
			}
		}
		for _, path := range []string{"/version", "/healthz", "/debug", "/debug/", "/debug/pprof", "/logs", "/logs/a", "/logsx", "/x", "/"} {
			out = append(out, question{verb: verb, path: path})
		}
	}
	return out
}

func main() {
	dir, err := os.MkdirTemp("", "abac")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	read := func(text string) (abac.PolicyList, error) {
		file := filepath.Join(dir, "f")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			panic(err)
		}
		list, err := abac.NewFromFile(file)
		if err != nil {
			err = fmt.Errorf("%s", strings.ReplaceAll(err.Error(), file, "FILE"))
		}
		return list, err
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetEscapeHTML(false)
	put := func(v ...string) {
		if err := enc.Encode(v); err != nil {
			panic(err)
		}
	}
	for _, line := range lines {
		list, err := read(line + "\n")
		if err != nil {
			put("bad", line, err.Error())
			continue
		}
		s := list[0].Spec
		put("line", line, s.User, s.Group, fmt.Sprint(s.Readonly), s.APIGroup, s.Resource, s.Namespace, s.NonResourcePath)
	}
	for _, n := range []int{65534, 65535, 65536} {
		_, err := read("#" + strings.Repeat("x", n-1) + "\n")
		put("comment", fmt.Sprint(n), fmt.Sprint(err))
		_, err = read("#" + strings.Repeat("x", n-1))
		put("last", fmt.Sprint(n), fmt.Sprint(err))
	}
	_, err = read("\n#c\r\n{\"user\":5}\r\n")
	put("lines", "\n#c\r\n{\"user\":5}\r\n", fmt.Sprint(err))
	for _, text := range files {
		list, err := read(text)
		if err != nil {
			panic(err)
		}
		put("file", text)
		for i, u := range users {
			answers := ""
			for _, q := range questions() {
				d, _, _ := list.Authorize(context.Background(), authorizer.AttributesRecord{
					User: u, Verb: q.verb, APIGroup: q.group, Resource: q.resource, Namespace: q.namespace,
					ResourceRequest: q.path == "", Path: q.path})
				answers += map[authorizer.Decision]string{authorizer.DecisionAllow: "y", authorizer.DecisionNoOpinion: "-", authorizer.DecisionDeny: "n"}[d]
			}
			put("user", fmt.Sprint(i), answers)
		}
	}
}
