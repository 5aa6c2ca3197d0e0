// SPDX-License-Identifier: Apache-2.0

// Makes tests/fixtures/apply/managed.jsonl: what upstream's own field manager says to random
// sequences of creates, updates and applies, for tests/unit/object/test_apply.c. Run by hand:
//
//	go run . TESTDATA >../../../fixtures/apply/managed.jsonl
//	go run . limits >../../../fixtures/apply/limits.jsonl
//
// TESTDATA is testdata/HEAD of the module k8s.io/api. The second is what upstream does at its limits:
// more updaters than an object keeps, an object that nobody followed, last-applied annotations that
// grow too large.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	applyconfigurations "k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

type object = map[string]interface{}

type vector struct {
	Op          string      `json:"op"` // create, update, apply
	Group       string      `json:"group"`
	Version     string      `json:"version"`
	Kind        string      `json:"kind"`
	Live        string      `json:"live,omitempty"`
	New         string      `json:"new"` // create and update: the object; apply: the configuration
	Manager     string      `json:"manager"`
	Subresource string      `json:"subresource,omitempty"`
	Reset       string      `json:"reset,omitempty"`
	Force       bool        `json:"force,omitempty"`
	Now         int64       `json:"now"`
	Managed     string      `json:"managed,omitempty"` // managedFields afterwards
	Object      string      `json:"object,omitempty"`  // of an apply that changes something
	Unchanged   bool        `json:"unchanged,omitempty"`
	Error       string      `json:"error,omitempty"`
	Code        int         `json:"code,omitempty"`
	Causes      [][2]string `json:"causes,omitempty"`
}

var kinds = []struct {
	file  string
	count int
}{
	{"core.v1.Pod", 7}, {"core.v1.Service", 2}, {"core.v1.Node", 2}, {"core.v1.ConfigMap", 2},
	{"core.v1.Secret", 2}, {"core.v1.ServiceAccount", 2}, {"core.v1.PersistentVolumeClaim", 2},
	{"core.v1.Namespace", 2}, {"core.v1.Endpoints", 2}, {"core.v1.Event", 2},
	{"apps.v1.Deployment", 5}, {"apps.v1.StatefulSet", 1}, {"apps.v1.DaemonSet", 1},
	{"batch.v1.CronJob", 2}, {"batch.v1.Job", 2}, {"autoscaling.v2.HorizontalPodAutoscaler", 2},
	{"networking.k8s.io.v1.Ingress", 2}, {"networking.k8s.io.v1.NetworkPolicy", 2},
	{"rbac.authorization.k8s.io.v1.ClusterRole", 2},
	{"rbac.authorization.k8s.io.v1.RoleBinding", 2}, {"coordination.k8s.io.v1.Lease", 2},
	{"discovery.k8s.io.v1.EndpointSlice", 2}, {"policy.v1.PodDisruptionBudget", 2},
	{"storage.k8s.io.v1.StorageClass", 2}, {"storage.k8s.io.v1.CSINode", 2},
	{"certificates.k8s.io.v1.CertificateSigningRequest", 2},
	{"admissionregistration.k8s.io.v1.ValidatingWebhookConfiguration", 2},
	{"flowcontrol.apiserver.k8s.io.v1.FlowSchema", 2},
	{"resource.k8s.io.v1.ResourceClaim", 2}, {"resource.k8s.io.v1.ResourceSlice", 2},
}

var rng = rand.New(rand.NewSource(20260714))
var typeConverter = applyconfigurations.NewTypeConverter(scheme.Scheme)

const start = 1767225600 // 2026-01-01

// A part of the value: members and items are left out with probability p, scalars changed with q.
func part(v interface{}, p, q float64, depth, copies int) interface{} {
	switch t := v.(type) {
	case object:
		out := object{}
		keys := []string{}
		for k := range t {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			if k == "managedFields" || (depth > 1 && k != "name" && k != "key" && k != "type" && rng.Float64() < p) {
				continue
			}
			if depth == 1 && k != "name" && k != "namespace" && k != "uid" && rng.Float64() < p*0.8 {
				continue
			}
			c := part(t[k], p, q, depth+1, copies)
			if c != nil {
				out[k] = c
			}
		}
		if len(out) == 0 && rng.Float64() < 0.8 {
			return nil
		}
		return out
	case []interface{}:
		out := []interface{}{}
		for _, x := range t {
			for n := 1 + rng.Intn(copies); n > 0; n-- {
				if c := part(x, p, q, depth+1, copies); c != nil {
					out = append(out, vary(c))
				}
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case string:
		if rng.Float64() < q {
			return t + string(rune('a'+rng.Intn(3)))
		}
		return t
	case int64:
		if rng.Float64() < q {
			return t + int64(rng.Intn(3))
		}
		return t
	case bool:
		return rng.Float64() < 0.5
	default:
		return v
	}
}

// Gives the items of a list different keys, mostly.
func vary(v interface{}) interface{} {
	switch t := v.(type) {
	case object:
		for _, k := range []string{"name", "type", "key", "ip", "uid", "mountPath", "devicePath"} {
			if s, ok := t[k].(string); ok && rng.Float64() < 0.7 {
				t[k] = s + string(rune('A'+rng.Intn(4)))
			}
		}
		for _, k := range []string{"containerPort", "port"} {
			if n, ok := t[k].(int64); ok {
				t[k] = n + int64(rng.Intn(4))
			}
		}
	case string:
		return t + string(rune('A'+rng.Intn(4)))
	}
	return v
}

func toTyped(u object, gvk schema.GroupVersionKind) (runtime.Object, error) {
	text, err := json.Marshal(u)
	if err != nil {
		return nil, err
	}
	o, err := scheme.Scheme.New(gvk)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, o); err != nil {
		return nil, err
	}
	o.GetObjectKind().SetGroupVersionKind(gvk)
	return o, nil
}

func wire(o interface{}) string {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// What is decoded from the text: in memory Go tells an empty map from none where JSON does not.
func again(text string, gvk schema.GroupVersionKind) runtime.Object {
	o, err := scheme.Scheme.New(gvk)
	if err != nil {
		panic(err)
	}
	if err := json.Unmarshal([]byte(text), o); err != nil {
		panic(err)
	}
	o.GetObjectKind().SetGroupVersionKind(gvk)
	return o
}

// Entries that were written now get the step's time, and their place by it.
func settle(o runtime.Object, now int64) {
	a, _ := meta.Accessor(o)
	entries := a.GetManagedFields()
	for i := range entries {
		if entries[i].Time != nil && entries[i].Time.Unix() > now+3600 {
			t := metav1.Unix(now, 0)
			entries[i].Time = &t
		}
	}
	sort.SliceStable(entries, func(i, j int) bool {
		p, q := entries[i], entries[j]
		if p.Operation != q.Operation {
			return p.Operation < q.Operation
		}
		var ps, qs int64
		if p.Time != nil {
			ps = p.Time.Unix()
		}
		if q.Time != nil {
			qs = q.Time.Unix()
		}
		if ps != qs {
			return ps < qs
		}
		if p.Manager != q.Manager {
			return p.Manager < q.Manager
		}
		if p.APIVersion != q.APIVersion {
			return p.APIVersion < q.APIVersion
		}
		return p.Subresource < q.Subresource
	})
	a.SetManagedFields(entries)
}

func manager(gvk schema.GroupVersionKind, sub, reset string) *managedfields.FieldManager {
	var fields map[fieldpath.APIVersion]fieldpath.Filter
	if reset != "" {
		fields = fieldpath.NewExcludeFilterSetMap(map[fieldpath.APIVersion]*fieldpath.Set{
			fieldpath.APIVersion(gvk.GroupVersion().String()): fieldpath.NewSet(fieldpath.MakePathOrDie(reset)),
		})
	}
	m, err := managedfields.NewDefaultFieldManager(typeConverter, scheme.Scheme, scheme.Scheme,
		scheme.Scheme, gvk, gvk.GroupVersion(), sub, fields)
	if err != nil {
		panic(err)
	}
	return m
}

func endpoint() (sub, reset string) {
	switch rng.Intn(5) {
	case 0:
		return "status", "spec"
	case 1:
		return "", ""
	default:
		return "", "status"
	}
}

func refuse(v *vector, err error) {
	v.Error = err.Error()
	v.Code = 500
	if s, ok := err.(errors.APIStatus); ok {
		st := s.Status()
		v.Code = int(st.Code)
		v.Error = st.Message
		if st.Details != nil {
			for _, c := range st.Details.Causes {
				v.Causes = append(v.Causes, [2]string{c.Message, c.Field})
			}
		}
		sort.Slice(v.Causes, func(i, j int) bool {
			return v.Causes[i][0] < v.Causes[j][0]
		})
	}
}

func run(base object, gvk schema.GroupVersionKind, p float64, managers, steps int, emit func(vector)) {
	var live runtime.Object
	for step := 0; step < steps; step++ {
		now := int64(start + step*10)
		v := vector{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Now: now,
			Manager: fmt.Sprintf("m%d", rng.Intn(managers))}
		v.Subresource, v.Reset = endpoint()
		apply := rng.Intn(2) == 0 && managers < 10
		var source interface{} = base
		q := 0.1
		if live != nil && rng.Intn(2) == 0 {
			source, _ = runtime.DefaultUnstructuredConverter.ToUnstructured(live)
			source = source.(object)
			q = 0.2
		}
		drop := p
		if live != nil && q == 0.2 {
			drop = 0.15
		}
		copies := 2
		if apply && rng.Intn(6) > 0 { // duplicates are refused there
			copies = 1
		}
		u, _ := part(source, drop, q, 0, copies).(object)
		if u == nil {
			continue
		}
		u["apiVersion"], u["kind"] = gvk.GroupVersion().String(), gvk.Kind
		typed, err := toTyped(u, gvk)
		if err != nil {
			continue
		}
		before, _ := scheme.Scheme.New(gvk)
		before.GetObjectKind().SetGroupVersionKind(gvk)
		if live != nil {
			v.Live = wire(live)
			before = again(v.Live, gvk)
		}
		m := manager(gvk, v.Subresource, v.Reset)
		if apply {
			v.Op, v.Force = "apply", rng.Intn(2) == 0
			if md, ok := u["metadata"].(object); ok {
				delete(md, "uid")
				delete(md, "creationTimestamp")
			}
			if rng.Intn(15) == 0 {
				u["surprise"] = "x"
			}
			v.New = wire(u)
			after, err := m.Apply(before, &unstructured.Unstructured{Object: u}, v.Manager, v.Force)
			if err != nil {
				refuse(&v, err)
				if !strings.Contains(v.Error, "errors:") { // upstream lists them in random order
					emit(v)
				}
				continue
			}
			if un, ok := after.(*unstructured.Unstructured); ok {
				if after, err = toTyped(un.Object, gvk); err != nil {
					panic(err)
				}
			}
			settle(after, now)
			a, _ := meta.Accessor(after)
			v.Managed = wire(a.GetManagedFields())
			bare := after.DeepCopyObject()
			b, _ := meta.Accessor(bare)
			b.SetManagedFields(nil)
			v.Object = wire(bare)
			if live == nil {
				a.SetUID("uid")
			}
			emit(v)
			live = after
			continue
		}
		v.Op = "update"
		if live == nil {
			v.Op = "create"
		} else if rng.Intn(3) > 0 { // most clients send back what they were given
			l, _ := meta.Accessor(live)
			a, _ := meta.Accessor(typed)
			a.SetManagedFields(l.GetManagedFields())
		}
		v.New = wire(typed)
		typed = again(v.New, gvk)
		after, err := m.Update(before, typed, v.Manager)
		if err != nil {
			refuse(&v, err)
			emit(v)
			continue
		}
		settle(after, now)
		a, _ := meta.Accessor(after)
		v.Managed = wire(a.GetManagedFields())
		a.SetUID("uid")
		emit(v)
		live = after
	}
}

// One write to live (nil: a create). Emits it and returns what is stored then.
func write(op string, live runtime.Object, o object, who string, now int64, emit func(vector)) runtime.Object {
	gvk := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	o["apiVersion"], o["kind"] = "v1", "ConfigMap"
	v := vector{Op: op, Version: "v1", Kind: "ConfigMap", Now: now, Manager: who, Force: op == "apply"}
	before, _ := scheme.Scheme.New(gvk)
	before.GetObjectKind().SetGroupVersionKind(gvk)
	if live != nil {
		v.Live = wire(live)
		before = again(v.Live, gvk)
	}
	m := manager(gvk, "", "")
	var after runtime.Object
	var err error
	if op == "apply" {
		v.New = wire(o)
		if after, err = m.Apply(before, &unstructured.Unstructured{Object: o}, who, true); err != nil {
			panic(err)
		}
		if un, ok := after.(*unstructured.Unstructured); ok {
			if after, err = toTyped(un.Object, gvk); err != nil {
				panic(err)
			}
		}
	} else {
		typed, err := toTyped(o, gvk)
		if err != nil {
			panic(err)
		}
		v.New = wire(typed)
		if after, err = m.Update(before, again(v.New, gvk), who); err != nil {
			panic(err)
		}
	}
	settle(after, now)
	a, _ := meta.Accessor(after)
	v.Managed = wire(a.GetManagedFields())
	if op == "apply" {
		bare := after.DeepCopyObject()
		b, _ := meta.Accessor(bare)
		b.SetManagedFields(nil)
		v.Object = wire(bare)
	}
	a.SetUID("uid")
	emit(v)
	return after
}

func untyped(o runtime.Object) object {
	u, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		panic(err)
	}
	return u
}

func limits(emit func(vector)) {
	const annotation = "kubectl.kubernetes.io/last-applied-configuration"
	named := func() object { return object{"name": "a", "namespace": "b"} }
	// Sixteen updaters, each with a key of its own; some come again, two at the same time.
	live := write("create", nil, object{"metadata": named(), "data": object{"first": "x"}}, "m00", start, emit)
	for i := 1; i < 24; i++ {
		u := untyped(live)
		who := fmt.Sprintf("m%02d", i%16)
		u["data"].(object)[fmt.Sprintf("key%02d", i)] = "x"
		live = write("update", live, u, who, int64(start+i/2*20), emit)
	}
	// Then one takes everything over.
	u := untyped(live)
	for k := range u["data"].(object) {
		u["data"].(object)[k] = "y"
	}
	live = write("update", live, u, "last", start+1000, emit)
	live = write("apply", live, object{"metadata": named(), "data": object{"key01": "z"}}, "applier", start+1010, emit)
	// An object that nobody followed stays so under updates, until the first apply.
	bare := func(annotations object) runtime.Object {
		md := named()
		md["uid"] = "uid"
		if annotations != nil {
			md["annotations"] = annotations
		}
		o, err := toTyped(object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": md, "data": object{"k": "v"}},
			schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"})
		if err != nil {
			panic(err)
		}
		return o
	}
	live = bare(nil)
	u = untyped(live)
	u["data"].(object)["more"] = "w"
	live = write("update", live, u, "m1", start, emit)
	live = write("apply", live, object{"metadata": named(), "data": object{"k": "v2"}}, "m2", start+10, emit)
	// The annotation follows kubectl's applies, while it fits: 256 KiB of all annotations.
	for _, size := range []int{10, 262144 - 400, 262144 - 100, 300000} {
		live = bare(object{annotation: "{}", "other": "o"})
		for _, who := range []string{"kubectl", "somebody"} {
			write("apply", live, object{"metadata": named(),
				"data": object{"k": strings.Repeat("x", size)}}, who, start+10, emit)
		}
	}
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "limits" {
		out := bufio.NewWriter(os.Stdout)
		defer out.Flush()
		long := regexp.MustCompile("x{1000,}") // the test makes them again
		limits(func(v vector) {
			fmt.Fprintln(out, long.ReplaceAllStringFunc(wire(v), func(s string) string { return fmt.Sprintf("@x%d@", len(s)) }))
		})
		return
	}
	if time.Now().Unix() < start+7200 {
		panic("the clock stands before the times of the vectors")
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	emit := func(v vector) { fmt.Fprintln(out, wire(v)) }
	for _, k := range kinds {
		text, err := os.ReadFile(filepath.Join(os.Args[1], k.file+".json"))
		if err != nil {
			panic(err)
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(text); err != nil {
			panic(err)
		}
		gvk := u.GroupVersionKind()
		for n := 0; n < k.count; n++ {
			p := 0.95
			if k.count > 2 && k.count < 7 {
				p = 0.7 + 0.1*float64(n%3)
			}
			run(u.Object, gvk, p, 3, 4, emit)
		}
	}
	// More updaters than an object keeps.
	text, _ := os.ReadFile(filepath.Join(os.Args[1], "core.v1.ConfigMap.json"))
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(text); err != nil {
		panic(err)
	}
	for i := 0; i < 20; i++ {
		u.Object["data"].(object)[fmt.Sprintf("key%d", i)] = "x"
	}
	run(u.Object, u.GroupVersionKind(), 0.5, 40, 18, emit)
}
