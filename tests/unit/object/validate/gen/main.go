// SPDX-License-Identifier: Apache-2.0

// Records what upstream's own validation says of mutated sample objects, for
// tests/unit/object/validate: the strategies of the real API server are called as its registry
// calls them. Usage: vectors samples.yaml [GATE=BOOL,...] >vectors.txt
// or vectors -warnings samples... >warnings.txt (warnings.go)
//
// Lines: `G gates` what was switched on; `S kind-index apiVersion kind json` a sample; `M text` a message, numbered from 0;
// `P pointer` the place that the following cases change; `<op><mutation>{TAB field TAB type#message}`
// a case: op c(reate), u(pdate), s(tatus update), r(esize), mutations as in mutate(); c= is the
// sample itself, which is wrong in many ways.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kube-aggregator/pkg/apiserver/scheme"
	"k8s.io/kube-aggregator/pkg/registry/apiservice"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/admission/install"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	_ "k8s.io/kubernetes/pkg/apis/apiserverinternal/install"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/certificates/install"
	_ "k8s.io/kubernetes/pkg/apis/coordination/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	_ "k8s.io/kubernetes/pkg/apis/events/install"
	_ "k8s.io/kubernetes/pkg/apis/flowcontrol/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/node/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	_ "k8s.io/kubernetes/pkg/apis/resource/install"
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"
	_ "k8s.io/kubernetes/pkg/apis/storage/install"
	_ "k8s.io/kubernetes/pkg/apis/storagemigration/install"
	"k8s.io/kubernetes/pkg/capabilities"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingwebhookconfiguration"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicybinding"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingwebhookconfiguration"
	"k8s.io/kubernetes/pkg/registry/apiserverinternal/storageversion"
	"k8s.io/kubernetes/pkg/registry/apps/controllerrevision"
	"k8s.io/kubernetes/pkg/registry/apps/daemonset"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/apps/replicaset"
	"k8s.io/kubernetes/pkg/registry/apps/statefulset"
	"k8s.io/kubernetes/pkg/registry/autoscaling/horizontalpodautoscaler"
	"k8s.io/kubernetes/pkg/registry/batch/cronjob"
	"k8s.io/kubernetes/pkg/registry/batch/job"
	"k8s.io/kubernetes/pkg/registry/certificates/certificates"
	"k8s.io/kubernetes/pkg/registry/certificates/clustertrustbundle"
	"k8s.io/kubernetes/pkg/registry/certificates/podcertificaterequest"
	"k8s.io/kubernetes/pkg/registry/coordination/lease"
	"k8s.io/kubernetes/pkg/registry/coordination/leasecandidate"
	"k8s.io/kubernetes/pkg/registry/core/configmap"
	"k8s.io/kubernetes/pkg/registry/core/endpoint"
	"k8s.io/kubernetes/pkg/registry/core/event"
	"k8s.io/kubernetes/pkg/registry/core/limitrange"
	"k8s.io/kubernetes/pkg/registry/core/namespace"
	"k8s.io/kubernetes/pkg/registry/core/node"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolume"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/podtemplate"
	"k8s.io/kubernetes/pkg/registry/core/replicationcontroller"
	"k8s.io/kubernetes/pkg/registry/core/resourcequota"
	"k8s.io/kubernetes/pkg/registry/core/secret"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"k8s.io/kubernetes/pkg/registry/core/serviceaccount"
	"k8s.io/kubernetes/pkg/registry/discovery/endpointslice"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/flowschema"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/prioritylevelconfiguration"
	"k8s.io/kubernetes/pkg/registry/networking/ingress"
	"k8s.io/kubernetes/pkg/registry/networking/ingressclass"
	"k8s.io/kubernetes/pkg/registry/networking/ipaddress"
	"k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
	"k8s.io/kubernetes/pkg/registry/networking/servicecidr"
	"k8s.io/kubernetes/pkg/registry/node/runtimeclass"
	"k8s.io/kubernetes/pkg/registry/policy/poddisruptionbudget"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrole"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrolebinding"
	"k8s.io/kubernetes/pkg/registry/rbac/role"
	"k8s.io/kubernetes/pkg/registry/rbac/rolebinding"
	"k8s.io/kubernetes/pkg/registry/resource/deviceclass"
	"k8s.io/kubernetes/pkg/registry/resource/devicetaintrule"
	"k8s.io/kubernetes/pkg/registry/resource/resourceclaim"
	"k8s.io/kubernetes/pkg/registry/resource/resourceclaimtemplate"
	"k8s.io/kubernetes/pkg/registry/resource/resourcepoolstatusrequest"
	"k8s.io/kubernetes/pkg/registry/resource/resourceslice"
	"k8s.io/kubernetes/pkg/registry/scheduling/podgroup"
	"k8s.io/kubernetes/pkg/registry/scheduling/priorityclass"
	"k8s.io/kubernetes/pkg/registry/scheduling/workload"
	"k8s.io/kubernetes/pkg/registry/storage/csidriver"
	"k8s.io/kubernetes/pkg/registry/storage/csinode"
	"k8s.io/kubernetes/pkg/registry/storage/csistoragecapacity"
	"k8s.io/kubernetes/pkg/registry/storage/storageclass"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattachment"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattributesclass"
	"k8s.io/kubernetes/pkg/registry/storagemigration/storagemigration"
	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"
)

type strategies struct{ main, status any }

var kinds = map[string]strategies{
	"Pod":                              {pod.Strategy, pod.StatusStrategy},
	"PodTemplate":                      {podtemplate.Strategy, nil},
	"ReplicationController":            {replicationcontroller.Strategy, replicationcontroller.StatusStrategy},
	"Service":                          {service.Strategy, service.StatusStrategy},
	"ConfigMap":                        {configmap.Strategy, nil},
	"Secret":                           {secret.Strategy, nil},
	"ServiceAccount":                   {serviceaccount.Strategy, nil},
	"Namespace":                        {namespace.Strategy, namespace.StatusStrategy},
	"Node":                             {node.Strategy, node.StatusStrategy},
	"Endpoints":                        {endpoint.Strategy, nil},
	"Event":                            {event.Strategy, nil},
	"LimitRange":                       {limitrange.Strategy, nil},
	"ResourceQuota":                    {resourcequota.Strategy, resourcequota.StatusStrategy},
	"PersistentVolume":                 {persistentvolume.Strategy, persistentvolume.StatusStrategy},
	"PersistentVolumeClaim":            {persistentvolumeclaim.Strategy, persistentvolumeclaim.StatusStrategy},
	"Deployment":                       {deployment.Strategy, deployment.StatusStrategy},
	"ReplicaSet":                       {replicaset.Strategy, replicaset.StatusStrategy},
	"StatefulSet":                      {statefulset.Strategy, statefulset.StatusStrategy},
	"DaemonSet":                        {daemonset.Strategy, daemonset.StatusStrategy},
	"ControllerRevision":               {controllerrevision.Strategy, nil},
	"Job":                              {job.Strategy, job.StatusStrategy},
	"CronJob":                          {cronjob.Strategy, cronjob.StatusStrategy},
	"HorizontalPodAutoscaler":          {horizontalpodautoscaler.Strategy, horizontalpodautoscaler.StatusStrategy},
	"PodDisruptionBudget":              {poddisruptionbudget.Strategy, poddisruptionbudget.StatusStrategy},
	"Ingress":                          {ingress.Strategy, ingress.StatusStrategy},
	"IngressClass":                     {ingressclass.Strategy, nil},
	"NetworkPolicy":                    {networkpolicy.Strategy, nil},
	"IPAddress":                        {ipaddress.Strategy, nil},
	"ServiceCIDR":                      {servicecidr.Strategy, servicecidr.StatusStrategy},
	"Role":                             {role.Strategy, nil},
	"ClusterRole":                      {clusterrole.Strategy, nil},
	"RoleBinding":                      {rolebinding.Strategy, nil},
	"ClusterRoleBinding":               {clusterrolebinding.Strategy, nil},
	"StorageClass":                     {storageclass.Strategy, nil},
	"VolumeAttachment":                 {volumeattachment.Strategy, volumeattachment.StatusStrategy},
	"VolumeAttributesClass":            {volumeattributesclass.Strategy, nil},
	"CSIDriver":                        {csidriver.Strategy, nil},
	"CSINode":                          {csinode.Strategy, nil},
	"CSIStorageCapacity":               {csistoragecapacity.Strategy, nil},
	"Lease":                            {lease.Strategy, nil},
	"PriorityClass":                    {priorityclass.Strategy, nil},
	"RuntimeClass":                     {runtimeclass.Strategy, nil},
	"EndpointSlice":                    {endpointslice.Strategy, nil},
	"FlowSchema":                       {flowschema.Strategy, flowschema.StatusStrategy},
	"PriorityLevelConfiguration":       {prioritylevelconfiguration.Strategy, prioritylevelconfiguration.StatusStrategy},
	"CertificateSigningRequest":        {certificates.Strategy, certificates.StatusStrategy},
	"MutatingWebhookConfiguration":     {mutatingwebhookconfiguration.Strategy, nil},
	"ValidatingWebhookConfiguration":   {validatingwebhookconfiguration.Strategy, nil},
	"ValidatingAdmissionPolicyBinding": {validatingadmissionpolicybinding.Strategy, nil},
	"DeviceClass":                      {deviceclass.Strategy, nil},
	"ResourceSlice":                    {resourceslice.Strategy, nil},
	"ResourceClaim":                    {claims, resourceclaim.NewStatusStrategy(claims)},
	"ResourceClaimTemplate":            {resourceclaimtemplate.NewStrategy(nil), nil},
	"DeviceTaintRule":                  {devicetaintrule.Strategy, devicetaintrule.StatusStrategy},
	"ClusterTrustBundle":               {clustertrustbundle.Strategy, nil},
	"PodCertificateRequest":            {requests, podcertificaterequest.NewStatusStrategy(requests, anyone, clock.RealClock{})},
	"LeaseCandidate":                   {leasecandidate.Strategy, nil},
	"StorageVersion":                   {storageversion.Strategy, storageversion.StatusStrategy},
	"ResourcePoolStatusRequest":        {resourcepoolstatusrequest.Strategy, resourcepoolstatusrequest.StatusStrategy},
	"PodGroup":                         {groups, podgroup.NewStatusStrategy(groups)},
	"Workload":                         {workload.Strategy, nil},
	"StorageVersionMigration":          {storagemigration.Strategy, storagemigration.StatusStrategy},
	"APIService":                       {apiservice.NewStrategy(scheme.Scheme), apiservice.NewStatusStrategy(scheme.Scheme)},
}

// Kinds whose spec never changes.
var frozen = map[string]bool{"ResourceClaim": true, "ResourceClaimTemplate": true, "PodCertificateRequest": true}

var anyone = authorizerfactory.NewAlwaysAllowAuthorizer()
var claims = resourceclaim.NewStrategy(nil, anyone)
var requests = podcertificaterequest.NewStrategy()
var groups = podgroup.NewStrategy()

var out = bufio.NewWriter(os.Stdout)
var messages = map[string]int{}

func message(s string) int {
	// Behind a newline stands a diff of Go structs.
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[:i]
	}
	n, ok := messages[s]
	if !ok {
		n = len(messages)
		messages[s] = n
		fmt.Fprintf(out, "M %s\n", s)
	}
	return n
}

var long = strings.Repeat("a", 300)

// What is put in the place of v; ok false: not for this kind of value. del: the member goes.
func mutate(code byte, v any) (r any, del, ok bool) {
	switch t := v.(type) {
	case string:
		switch code {
		case 'd':
			return nil, true, true
		case 'e':
			return "", false, true
		case 'b':
			return "Bad Value!", false, true
		case 'l':
			return long, false, true
		case 'x':
			return "x", false, true
		case 'h':
			return "-a/b", false, true
		case '1':
			return "1", false, true
		case '2':
			return "2", false, true
		}
	case float64:
		switch code {
		case 'd':
			return nil, true, true
		case 'n':
			return -1, false, true
		case 'z':
			return 0, false, true
		case 'm':
			return 70000, false, true
		case 'g':
			return 3000000000, false, true
		case '1':
			return 1, false, true
		}
	case bool:
		switch code {
		case 'd':
			return nil, true, true
		case 'f':
			return !t, false, true
		}
	case []any:
		switch code {
		case 'd':
			return nil, true, true
		case 'E':
			return []any{}, false, true
		case 'D':
			if len(t) > 0 {
				return append(append([]any{}, t...), t[0]), false, true
			}
		case 'O':
			if len(t) > 1 {
				return append([]any{}, t[1:]...), false, true
			}
		}
	case map[string]any:
		switch code {
		case 'd':
			return nil, true, true
		case 'E':
			return map[string]any{}, false, true
		case 'K':
			c := map[string]any{"Bad Key!": "Bad Value!"}
			for k, x := range t {
				if _, s := x.(string); !s {
					return nil, false, false
				}
				c[k] = x
			}
			return c, false, true
		}
	}
	return nil, false, false
}

const codes = "debhlx12nzmgfEDOK"

func deep(v any) any {
	b, _ := json.Marshal(v)
	var r any
	_ = json.Unmarshal(b, &r)
	return r
}

// The document with the place changed.
func changed(doc any, path []any, to any, del bool) any {
	doc = deep(doc)
	if len(path) == 0 {
		return to
	}
	at := doc
	var set func(any)
	for i, p := range path {
		last := i == len(path)-1
		switch c := at.(type) {
		case map[string]any:
			if last {
				if del {
					delete(c, p.(string))
				} else {
					c[p.(string)] = to
				}
				return doc
			}
			k := p.(string)
			set = func(x any) { c[k] = x }
			at = c[k]
		case []any:
			n := p.(int)
			if last {
				if del {
					set(append(append([]any{}, c[:n]...), c[n+1:]...))
				} else {
					c[n] = to
				}
				return doc
			}
			set = func(x any) { c[n] = x }
			at = c[n]
		}
	}
	return doc
}

func pointer(path []any) string {
	var b strings.Builder
	for _, p := range path {
		s := fmt.Sprint(p)
		b.WriteString("/" + strings.ReplaceAll(strings.ReplaceAll(s, "~", "~0"), "/", "~1"))
	}
	return b.String()
}

func walk(v any, path []any, f func([]any, any)) {
	if len(path) > 0 {
		f(append([]any{}, path...), v)
	}
	switch t := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(t))
		for k := range t {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			if len(path) == 0 && (k == "apiVersion" || k == "kind") {
				continue
			}
			walk(t[k], append(path, k), f)
		}
	case []any:
		for i, x := range t {
			walk(x, append(path, i), f)
		}
	}
}

func decode(doc any) (runtime.Object, error) {
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	if doc.(map[string]any)["kind"] == "APIService" {
		return runtime.Decode(scheme.Codecs.UniversalDecoder(), b)
	}
	return runtime.Decode(legacyscheme.Codecs.UniversalDecoder(), b)
}

func contextFor(doc any) context.Context {
	m, _ := doc.(map[string]any)["metadata"].(map[string]any)
	ns, _ := m["namespace"].(string)
	ctx := request.WithNamespace(request.NewContext(), ns)
	ctx = request.WithUser(ctx, &user.DefaultInfo{Name: "admin", Groups: []string{"system:masters"}})
	gv, err := apischema.ParseGroupVersion(doc.(map[string]any)["apiVersion"].(string))
	if err != nil {
		panic(err)
	}
	return request.WithRequestInfo(ctx, &request.RequestInfo{
		IsResourceRequest: true, Verb: "update", APIGroup: gv.Group, APIVersion: gv.Version})
}

func run(op byte, st any, doc, base any) (errs error, skip bool) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintln(os.Stderr, "panic", p)
			skip = true
		}
	}()
	obj, err := decode(doc)
	if err != nil {
		return nil, true
	}
	ctx := contextFor(base)
	if op == 'c' {
		s, ok := st.(rest.RESTCreateStrategy)
		if !ok {
			return nil, true
		}
		m, _ := meta.Accessor(obj)
		keep := m.GetUID()
		rest.FillObjectMetaSystemFields(m)
		if keep != types.UID("") {
			m.SetUID(keep)
		}
		if len(m.GetNamespace()) == 0 && s.NamespaceScoped() {
			return nil, true
		}
		if prepared(op, obj, func(o runtime.Object) { s.PrepareForCreate(ctx, o) }) {
			return nil, true
		}
		return rest.BeforeCreate(s, ctx, obj), false
	}
	s, ok := st.(rest.RESTUpdateStrategy)
	if !ok {
		return nil, true
	}
	old, err := decode(base)
	if err != nil {
		return nil, true
	}
	if prepared(op, obj, func(o runtime.Object) { s.PrepareForUpdate(ctx, o, old.DeepCopyObject()) }) {
		return nil, true
	}
	return rest.BeforeUpdate(s, ctx, obj, old), false
}

// Whether the registry itself changes the object before it is validated, but for what it sets in
// metadata and the half that the other subresource owns: such a case says nothing about validation.
func prepared(op byte, obj runtime.Object, prepare func(runtime.Object)) bool {
	was, is := obj.DeepCopyObject(), obj.DeepCopyObject()
	prepare(is)
	a, b := reflect.ValueOf(was).Elem(), reflect.ValueOf(is).Elem()
	if x, err := meta.Accessor(was); err == nil {
		if y, err := meta.Accessor(is); err == nil && x.GetName() != y.GetName() {
			return true
		}
	}
	for i := 0; i < a.NumField(); i++ {
		name := a.Type().Field(i).Name
		if name == "Status" && op != 's' || name == "TypeMeta" || name == "ObjectMeta" {
			continue
		}
		if !apiequality.Semantic.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			return true
		}
	}
	return false
}

func result(err error) (string, bool) {
	if err == nil {
		return "", true
	}
	var se *apierrors.StatusError
	if !errors.As(err, &se) || se.ErrStatus.Reason != metav1.StatusReasonInvalid {
		return "", false
	}
	var b strings.Builder
	for _, c := range se.ErrStatus.Details.Causes {
		t := strings.TrimPrefix(string(c.Type), "FieldValue")
		fmt.Fprintf(&b, "\t%s\t%s#%d", c.Field, t, message(c.Message))
	}
	return b.String(), true
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "-warnings" {
		defer out.Flush()
		capabilities.Initialize(capabilities.Capabilities{AllowPrivileged: true})
		recordWarnings(os.Args[2:])
		return
	}
	data, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	if len(os.Args) > 2 {
		if err := utilfeature.DefaultMutableFeatureGate.Set(os.Args[2]); err != nil {
			panic(err)
		}
		fmt.Fprintf(out, "G %s\n", os.Args[2])
	}
	defer out.Flush()
	capabilities.Initialize(capabilities.Capabilities{AllowPrivileged: true})
	for _, text := range strings.Split(string(data), "\n---\n") {
		var doc map[string]any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			panic(err)
		}
		kind, _ := doc["kind"].(string)
		st, ok := kinds[kind]
		if !ok {
			fmt.Fprintln(os.Stderr, "no strategy for", kind)
			continue
		}
		base := deep(doc)
		b, _ := json.Marshal(base)
		if _, err := decode(base); err != nil {
			fmt.Fprintln(os.Stderr, kind, err)
			continue
		}
		fmt.Fprintf(out, "S %s %s %s\n", doc["apiVersion"], kind, b)
		if e, _ := run('c', st.main, base, base); e != nil {
			// Says all there is to say as it stands.
			if text, ok := result(e); ok {
				fmt.Fprintf(out, "P \nc=%s\n", text)
			} else {
				fmt.Fprintln(os.Stderr, kind, "is no valid sample:", e)
			}
			continue
		}
		if e, _ := run('u', st.main, base, base); e != nil {
			fmt.Fprintln(os.Stderr, kind, "is no valid update:", e)
		}
		walk(base, nil, func(path []any, v any) {
			ptr := pointer(path)
			switch {
			case strings.HasPrefix(ptr, "/metadata") && kind != "Namespace" && kind != "ConfigMap" &&
				kind != "Deployment" && ptr != "/metadata/name":
				return
			case strings.HasPrefix(ptr, "/metadata/namespace"), ptr == "/metadata/uid",
				ptr == "/metadata/resourceVersion":
				return
			case kind == "Service" && strings.HasPrefix(ptr, "/spec/clusterIP"):
				return // the allocator fills in one from the other before
			}
			shown := false
			for i := 0; i < len(codes); i++ {
				to, del, ok := mutate(codes[i], v)
				if !ok {
					continue
				}
				next := changed(base, path, to, del)
				for _, op := range "cusr" {
					s := st.main
					if op == 's' {
						s = st.status
					}
					if op == 'r' {
						if kind != "Pod" || !strings.Contains(ptr, "/resources") && !strings.Contains(ptr, "/resizePolicy") {
							continue
						}
						s = pod.ResizeStrategy
					}
					if op == 'u' && frozen[kind] && len(path) > 2 {
						continue // shows the whole spec each time
					}
					inStatus := strings.HasPrefix(ptr, "/status")
					if s == nil || inStatus != (op == 's') {
						continue
					}
					e, skip := run(byte(op), s, next, base)
					if skip {
						continue
					}
					text, ok := result(e)
					if !ok {
						continue
					}
					if !shown {
						fmt.Fprintf(out, "P %s\n", ptr)
						shown = true
					}
					fmt.Fprintf(out, "%c%c%s\n", op, codes[i], text)
				}
			}
		})
	}
}
