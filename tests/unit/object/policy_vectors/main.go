// SPDX-License-Identifier: Apache-2.0

// Records what upstream's own code says to random pods, labels, quotas and limits, for
// tests/unit/object/test_policy.c. Usage: go run . >../policy_vectors.txt
//
// Lines: `L labels TAB enforce audit warn {TAB key=value: why}` policies of a namespace;
// `P pod` a pod, followed by `V level from to {message}` for each run of versions with one answer
// (36 is latest), messages being `M reason TAB detail`, numbered from 0; `Q quotas` some quotas, followed by
// `C group plural status TAB object TAB old TAB refusal {TAB used}`; `U group plural TAB object TAB usage`;
// `R limitrange`, followed by `D pod TAB pod` (defaults) and `E kind TAB object {TAB error}`.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota"
	"k8s.io/apiserver/pkg/authentication/user"
	quota "k8s.io/apiserver/pkg/quota/v1"
	"k8s.io/apiserver/pkg/quota/v1/generic"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	api "k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/resource/install"
	"k8s.io/kubernetes/pkg/quota/v1/evaluator/core"
	"k8s.io/kubernetes/plugin/pkg/admission/limitranger"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"k8s.io/utils/clock"
)

var (
	rnd = rand.New(rand.NewSource(36))
	out = bufio.NewWriter(os.Stdout)
)

type obj = map[string]any

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func pick(list ...any) any        { return list[rnd.Intn(len(list))] }
func picks(list ...string) string { return list[rnd.Intn(len(list))] }
func chance(n int) bool           { return rnd.Intn(n) == 0 }

func text(v any) string {
	b, err := json.Marshal(v)
	must(err)
	return string(b)
}

func into[T any](v any) *T {
	var t T
	must(json.Unmarshal([]byte(text(v)), &t))
	return &t
}

func maybe(o obj, n int, key string, v any) {
	if chance(n) {
		o[key] = v
	}
}

// ---- pods

func quantities(names ...string) obj {
	o := obj{}
	values := []string{"1", "2", "500m", "1500m", "64Mi", "1Gi", "1G", "0", "3", "1e3", "100m", "2Gi"}
	for _, n := range names {
		if chance(2) {
			o[n] = values[rnd.Intn(len(values))]
		}
	}
	return o
}

func resources() obj {
	names := []string{"cpu", "memory"}
	if chance(3) {
		names = append(names, "ephemeral-storage", "hugepages-2Mi", "example.com/gpu")
	}
	o := obj{}
	maybe(o, 2, "requests", quantities(names...))
	maybe(o, 2, "limits", quantities(names...))
	return o
}

func profile() obj {
	return obj{"type": picks("RuntimeDefault", "Localhost", "Unconfined", "Other")}
}

func selinux() obj {
	o := obj{}
	maybe(o, 2, "type", picks("container_t", "container_engine_t", "spc_t", "other_t", ""))
	maybe(o, 5, "user", "u")
	maybe(o, 5, "role", "r")
	return o
}

func context() obj {
	o := obj{}
	maybe(o, 6, "privileged", pick(true, false))
	maybe(o, 2, "allowPrivilegeEscalation", pick(true, false, false, false))
	maybe(o, 5, "appArmorProfile", profile())
	maybe(o, 3, "seccompProfile", profile())
	maybe(o, 5, "seLinuxOptions", selinux())
	maybe(o, 5, "procMount", picks("Default", "Unmasked", "Strange"))
	maybe(o, 3, "runAsNonRoot", pick(true, true, false))
	maybe(o, 4, "runAsUser", pick(0, 1000))
	maybe(o, 8, "windowsOptions", pick(obj{"hostProcess": true}, obj{"hostProcess": false}, obj{}))
	if chance(2) {
		c := obj{}
		maybe(c, 2, "drop", pick([]string{"ALL"}, []string{"NET_RAW", "ALL"}, []string{"NET_RAW"}))
		maybe(c, 3, "add", pick([]string{"CHOWN"}, []string{"NET_BIND_SERVICE"}, []string{"SYS_TIME", "NET_RAW"}, []string{"all"}))
		o["capabilities"] = c
	}
	return o
}

func handler() obj {
	o := obj{}
	maybe(o, 2, "httpGet", pick(obj{"port": 80}, obj{"port": 80, "host": "10.0.0.1"}, obj{"port": 80, "host": "a.example"}))
	maybe(o, 3, "tcpSocket", pick(obj{"port": 80}, obj{"port": 80, "host": "10.0.0.2"}))
	return o
}

func container(name string, init bool) obj {
	o := obj{"name": name, "image": "i"}
	maybe(o, 2, "securityContext", context())
	if chance(4) {
		o["ports"] = pick([]obj{{"containerPort": 80}}, []obj{{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81, "hostPort": 90}}, []obj{{"containerPort": 82, "hostPort": 90}})
	}
	maybe(o, 6, "livenessProbe", handler())
	maybe(o, 8, "readinessProbe", handler())
	maybe(o, 8, "startupProbe", handler())
	if chance(8) {
		l := obj{}
		maybe(l, 2, "postStart", handler())
		maybe(l, 2, "preStop", handler())
		o["lifecycle"] = l
	}
	maybe(o, 1, "resources", resources())
	if init && chance(2) {
		o["restartPolicy"] = "Always"
	}
	return o
}

func volume(i int) obj {
	o := obj{"name": fmt.Sprintf("v%d", i)}
	kinds := []string{"emptyDir", "hostPath", "secret", "nfs", "configMap", "gitRepo", "csi", "rbd", "image", "projected",
		"downwardAPI", "ephemeral", "persistentVolumeClaim", "gcePersistentDisk", "awsElasticBlockStore", "iscsi", "glusterfs",
		"flexVolume", "cinder", "cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk",
		"photonPersistentDisk", "portworxVolume", "scaleIO", "storageos"}
	if !chance(15) {
		o[kinds[rnd.Intn(len(kinds))]] = obj{}
	}
	return o
}

func affinity() obj {
	term := obj{"topologyKey": "k"}
	maybe(term, 3, "namespaces", []string{"a"})
	maybe(term, 4, "namespaceSelector", obj{})
	required := obj{"requiredDuringSchedulingIgnoredDuringExecution": []obj{term}}
	preferred := obj{"preferredDuringSchedulingIgnoredDuringExecution": []obj{{"weight": 1, "podAffinityTerm": term}}}
	return pick(obj{"podAffinity": required}, obj{"podAntiAffinity": required}, obj{"podAffinity": preferred},
		obj{"podAntiAffinity": preferred}, obj{}).(obj)
}

func pod() obj {
	meta := obj{"name": "p", "namespace": "n"}
	if chance(4) {
		a := obj{}
		maybe(a, 2, "container.apparmor.security.beta.kubernetes.io/a", picks("runtime/default", "localhost/x", "unconfined", "", "q\"\n"))
		maybe(a, 3, "container.apparmor.security.beta.kubernetes.io/b", picks("unconfined", "é"))
		maybe(a, 2, "seccomp.security.alpha.kubernetes.io/pod", picks("runtime/default", "docker/default", "unconfined"))
		maybe(a, 2, "container.seccomp.security.alpha.kubernetes.io/a", picks("localhost/x", "unconfined", ""))
		meta["annotations"] = a
	}
	spec := obj{}
	containers := []obj{container("a", false)}
	if chance(2) {
		containers = append(containers, container("b", false))
	}
	spec["containers"] = containers
	if chance(2) {
		l := []obj{container("i", true)}
		if chance(2) {
			l = append(l, container("j", true))
		}
		spec["initContainers"] = l
	}
	if chance(6) {
		spec["ephemeralContainers"] = []obj{container("e", false)}
	}
	if chance(2) {
		sc := context()
		for _, k := range []string{"privileged", "allowPrivilegeEscalation", "capabilities", "procMount"} {
			delete(sc, k)
		}
		if chance(3) {
			sc["sysctls"] = []obj{{"name": picks("kernel.shm_rmid_forced", "net.ipv4.tcp_rmem", "net.ipv4.ip_local_reserved_ports", "kernel.x"), "value": "1"},
				{"name": picks("net.ipv4.tcp_fin_timeout", "vm.y"), "value": "1"}}
		}
		spec["securityContext"] = sc
	}
	if chance(3) {
		l := []obj{}
		for i := 0; i <= rnd.Intn(3); i++ {
			l = append(l, volume(i))
		}
		spec["volumes"] = l
	}
	maybe(spec, 8, "hostNetwork", true)
	maybe(spec, 8, "hostPID", true)
	maybe(spec, 8, "hostIPC", true)
	maybe(spec, 6, "hostUsers", pick(true, false))
	maybe(spec, 10, "os", obj{"name": picks("windows", "linux")})
	maybe(spec, 3, "activeDeadlineSeconds", pick(10, 0))
	maybe(spec, 3, "priorityClassName", picks("high", "low"))
	maybe(spec, 4, "affinity", affinity())
	maybe(spec, 6, "overhead", obj{"cpu": "10m", "memory": "1Mi"})
	if chance(5) {
		spec["resources"] = resources()
	}
	status := obj{}
	maybe(status, 8, "phase", picks("Running", "Failed", "Succeeded"))
	if chance(4) {
		cs := obj{"name": "a", "resources": resources(), "allocatedResources": quantities("cpu", "memory")}
		ic := obj{"name": "i", "resources": resources()}
		status["containerStatuses"] = []obj{cs}
		status["initContainerStatuses"] = []obj{ic}
		maybe(status, 3, "conditions", []obj{{"type": "PodResizePending", "status": "True", "reason": picks("Infeasible", "Deferred")}})
	}
	maybe(status, 12, "qosClass", picks("BestEffort", "Burstable"))
	if chance(12) {
		meta["deletionTimestamp"] = picks("2000-01-01T00:00:00Z", "2999-01-01T00:00:00Z")
		meta["deletionGracePeriodSeconds"] = 30
	}
	return obj{"metadata": meta, "spec": spec, "status": status}
}

// ---- Pod Security

var messages = map[string]int{}

func message(reason, detail string) int {
	m := reason + "\t" + detail
	if _, ok := messages[m]; !ok {
		messages[m] = len(messages)
		fmt.Fprintf(out, "M %s\n", m)
	}
	return messages[m]
}

func security() {
	ev, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	must(err)
	levels := []psapi.Level{psapi.LevelBaseline, psapi.LevelRestricted}
	for i := 0; i < 90; i++ {
		p := pod()
		typed := into[corev1.Pod](p)
		fmt.Fprintf(out, "P %s\n", text(p))
		for l, level := range levels {
			last, from := "", 0
			for v := 0; v <= 37; v++ {
				s := ""
				if v <= 36 {
					version := psapi.MajorMinorVersion(1, v)
					if v == 36 {
						version = psapi.LatestVersion()
					}
					r := policy.AggregateCheckResults(ev.EvaluatePod(psapi.LevelVersion{Level: level, Version: version}, &typed.ObjectMeta, &typed.Spec))
					for i := range r.ForbiddenReasons {
						s += fmt.Sprintf(" %d", message(r.ForbiddenReasons[i], r.ForbiddenDetails[i]))
					}
				}
				if v > 0 && (s != last || v == 37) {
					fmt.Fprintf(out, "V %d %d %d%s\n", l+1, from, v-1, last)
					from = v
				}
				last = s
			}
		}
	}
	values := []string{"privileged", "baseline", "restricted", "Restricted", "", "x\"y"}
	versions := []string{"latest", "v1.0", "v1.24", "v1.035", "v2.1", "v1.", "1.2", "v1.99", "v1.9223372036854775808", ""}
	none := psapi.LevelVersion{Level: psapi.LevelPrivileged, Version: psapi.LatestVersion()}
	for i := 0; i < 120; i++ {
		labels := map[string]string{}
		for _, mode := range []string{"enforce", "audit", "warn"} {
			if chance(2) {
				labels["pod-security.kubernetes.io/"+mode] = values[rnd.Intn(len(values))]
			}
			if chance(2) {
				labels["pod-security.kubernetes.io/"+mode+"-version"] = versions[rnd.Intn(len(versions))]
			}
		}
		p, errs := psapi.PolicyToEvaluate(labels, psapi.Policy{Enforce: none, Audit: none, Warn: none})
		fmt.Fprintf(out, "L %s\t%s %s %s", text(labels), p.Enforce.String(), p.Audit.String(), p.Warn.String())
		for _, e := range errs {
			fmt.Fprintf(out, "\t%s %s: %s", e.Field, text(e.BadValue), e.Detail)
		}
		fmt.Fprintln(out)
	}
}

// ---- quotas

// A pod without what quotas do not look at.
func leanPod() obj {
	p := pod()
	spec := p["spec"].(obj)
	for _, k := range []string{"securityContext", "volumes", "ephemeralContainers", "hostNetwork", "hostPID", "hostIPC", "hostUsers", "os"} {
		delete(spec, k)
	}
	delete(p["metadata"].(obj), "annotations")
	for _, k := range []string{"containers", "initContainers"} {
		if spec[k] == nil {
			continue
		}
		for _, c := range spec[k].([]obj) {
			for _, f := range []string{"securityContext", "image", "ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"} {
				delete(c, f)
			}
		}
	}
	return p
}

type kind struct {
	group, plural string
	kind          schema.GroupVersionKind
	make          func() obj
	parse         func(obj) runtime.Object
}

func service() obj {
	ports := []obj{}
	for i := 0; i <= rnd.Intn(3); i++ {
		p := obj{"port": 80 + i}
		maybe(p, 2, "nodePort", 30000+i)
		ports = append(ports, p)
	}
	spec := obj{"type": picks("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"), "ports": ports}
	maybe(spec, 2, "allocateLoadBalancerNodePorts", pick(true, false))
	return obj{"metadata": obj{"name": "s", "namespace": "n"}, "spec": spec}
}

func claim() obj {
	spec := obj{}
	if !chance(5) {
		spec["resources"] = obj{"requests": obj{"storage": picks("1Gi", "1500m", "10G", "5")}}
	}
	maybe(spec, 2, "storageClassName", picks("gold", "silver", ""))
	maybe(spec, 3, "volumeAttributesClassName", picks("fast", "slow"))
	meta := obj{"name": "c", "namespace": "n"}
	maybe(meta, 6, "annotations", obj{"volume.beta.kubernetes.io/storage-class": picks("gold", "")})
	status := obj{}
	maybe(status, 3, "allocatedResources", obj{"storage": picks("2Gi", "1", "1700m")})
	maybe(status, 4, "currentVolumeAttributesClassName", picks("fast", "slow"))
	maybe(status, 5, "modifyVolumeStatus", obj{"targetVolumeAttributesClassName": picks("fast", "new"), "status": "Pending"})
	return obj{"metadata": meta, "spec": spec, "status": status}
}

func deviceRequest() obj {
	o := obj{"deviceClassName": picks("gpu", "nic"), "allocationMode": picks("ExactCount", "All", "Strange")}
	if o["allocationMode"] == "ExactCount" {
		o["count"] = rnd.Intn(3) + 1
	}
	return o
}

func resourceClaim() obj {
	list := []obj{}
	for i := 0; i <= rnd.Intn(3); i++ {
		r := obj{"name": fmt.Sprintf("r%d", i)}
		if chance(3) {
			a, b := deviceRequest(), deviceRequest()
			a["name"], b["name"] = "a", "b"
			r["firstAvailable"] = []obj{a, b}
		} else {
			r["exactly"] = deviceRequest()
		}
		list = append(list, r)
	}
	return obj{"metadata": obj{"name": "r", "namespace": "n"}, "spec": obj{"devices": obj{"requests": list}}}
}

func configMap() obj { return obj{"metadata": obj{"name": "m", "namespace": "n"}} }

func names(list ...string) map[string]string {
	o := map[string]string{}
	values := []string{"0", "1", "2", "3", "10", "1500m", "1Gi", "5Gi", "100"}
	for _, n := range list {
		if chance(6) {
			o[n] = values[rnd.Intn(len(values))]
		}
	}
	return o
}

func aQuota(i int) obj {
	hard := names("pods", "count/pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory",
		"ephemeral-storage", "requests.ephemeral-storage", "limits.ephemeral-storage", "hugepages-2Mi", "requests.hugepages-2Mi",
		"requests.example.com/gpu", "services", "services.nodeports", "services.loadbalancers", "count/services",
		"persistentvolumeclaims", "requests.storage", "gold.storageclass.storage.k8s.io/requests.storage",
		"gold.storageclass.storage.k8s.io/persistentvolumeclaims", "count/persistentvolumeclaims", "configmaps",
		"count/configmaps", "count/deployments.apps", "gpu.deviceclass.resource.k8s.io/devices",
		"count/resourceclaims.resource.k8s.io")
	used := map[string]string{}
	for n := range hard {
		if !chance(40) {
			used[n] = picks("0", "0", "0", "1", "500m", "1Gi")
		}
	}
	spec := obj{}
	if chance(3) {
		spec["scopes"] = []string{picks("Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity", "VolumeAttributesClass")}
	}
	if chance(4) {
		op := picks("In", "NotIn", "Exists", "DoesNotExist")
		e := obj{"scopeName": picks("PriorityClass", "VolumeAttributesClass"), "operator": op}
		if op == "In" || op == "NotIn" {
			e["values"] = pick([]string{"high"}, []string{"low", "fast"}, []string{"slow"})
		}
		spec["scopeSelector"] = obj{"matchExpressions": []obj{e}}
	}
	return obj{"metadata": obj{"name": fmt.Sprintf("q%d", i), "namespace": "n"}, "spec": spec, "status": obj{"hard": hard, "used": used}}
}

func kinds() []kind {
	return []kind{
		{"", "pods", schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, leanPod, func(o obj) runtime.Object { return into[corev1.Pod](o) }},
		{"", "services", schema.GroupVersionKind{Version: "v1", Kind: "Service"}, service, func(o obj) runtime.Object { return into[corev1.Service](o) }},
		{"", "persistentvolumeclaims", schema.GroupVersionKind{Version: "v1", Kind: "PersistentVolumeClaim"}, claim, func(o obj) runtime.Object { return into[corev1.PersistentVolumeClaim](o) }},
		{"resource.k8s.io", "resourceclaims", schema.GroupVersionKind{Group: "resource.k8s.io", Version: "v1", Kind: "ResourceClaim"}, resourceClaim, func(o obj) runtime.Object { return into[resourceapi.ResourceClaim](o) }},
		{"", "configmaps", schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, configMap, func(o obj) runtime.Object { return into[corev1.ConfigMap](o) }},
		{"apps", "deployments", schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, configMap, func(o obj) runtime.Object { return into[corev1.ConfigMap](o) }},
	}
}

func list(l corev1.ResourceList) string {
	names := []string{}
	for k := range l {
		names = append(names, string(k))
	}
	sort.Strings(names)
	for i, k := range names {
		v := l[corev1.ResourceName(k)]
		names[i] = k + "=" + v.String()
	}
	return strings.Join(names, ",")
}

func evaluator(k kind) quota.Evaluator {
	switch k.plural {
	case "pods":
		return core.NewPodEvaluator(nil, clock.RealClock{})
	case "services":
		return core.NewServiceEvaluator(nil)
	case "persistentvolumeclaims":
		return core.NewPersistentVolumeClaimEvaluator(nil)
	case "configmaps":
		return generic.NewObjectCountEvaluator(schema.GroupResource{Resource: k.plural}, nil, "configmaps")
	case "deployments":
		return generic.NewObjectCountEvaluator(schema.GroupResource{Group: k.group, Resource: k.plural}, nil, "")
	}
	return nil
}

// A request of a kind that the evaluator is made to handle, whatever the operation.
type always struct{ quota.Evaluator }

func (always) Handles(admission.Attributes) bool { return true }

func quotas() {
	for _, k := range kinds() {
		ev := evaluator(k)
		for i := 0; ev != nil && i < 30; i++ {
			o := k.make()
			u, err := ev.Usage(k.parse(o))
			must(err)
			fmt.Fprintf(out, "U %s %s\t%s\t%s\n", or(k.group), k.plural, text(o), list(u))
		}
	}
	all := kinds()
	for i := 0; i < 100; i++ {
		qs := []obj{}
		typed := []corev1.ResourceQuota{}
		for j := 0; j <= rnd.Intn(3); j++ {
			q := aQuota(j)
			qs = append(qs, q)
			typed = append(typed, *into[corev1.ResourceQuota](q))
		}
		fmt.Fprintf(out, "Q %s\n", text(qs))
		for j := 0; j < 3; j++ {
			k := all[rnd.Intn(len(all))]
			if chance(2) {
				k = all[0]
			}
			ev := evaluator(k)
			if ev == nil {
				continue
			}
			o := k.make()
			var old obj
			var oldTyped runtime.Object
			op := admission.Create
			if chance(4) {
				old = k.make()
				old["metadata"].(obj)["resourceVersion"] = "5"
				oldTyped = k.parse(old)
				op = admission.Update
			}
			sub := ""
			if old != nil && chance(4) {
				sub = "status"
			}
			at := admission.NewAttributesRecord(k.parse(o), oldTyped, k.kind, "n", "x",
				schema.GroupVersionResource{Group: k.group, Version: k.kind.Version, Resource: k.plural}, sub, op, nil, false, &user.DefaultInfo{})
			after, err := resourcequota.CheckRequest(typed, at, always{ev}, nil)
			status := "0"
			if sub != "" {
				status = "1"
			}
			fmt.Fprintf(out, "C %s %s %s\t%s\t%s\t", or(k.group), k.plural, status, text(o), text(old))
			if err != nil {
				fmt.Fprintf(out, "%s\n", err)
				continue
			}
			for _, q := range after {
				fmt.Fprintf(out, "\t%s", list(q.Status.Used))
			}
			fmt.Fprintln(out)
		}
	}
}

func or(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// ---- LimitRanges

func limitItem() obj {
	o := obj{"type": picks("Container", "Container", "Pod", "PersistentVolumeClaim")}
	n := []string{"cpu", "memory"}
	if o["type"] == "PersistentVolumeClaim" {
		n = []string{"storage"}
	}
	maybe(o, 2, "min", quantities(n...))
	maybe(o, 2, "max", quantities(n...))
	if o["type"] == "Container" {
		maybe(o, 2, "default", quantities(n...))
		maybe(o, 2, "defaultRequest", quantities(n...))
	}
	if o["type"] != "PersistentVolumeClaim" {
		maybe(o, 3, "maxLimitRequestRatio", pick(obj{"cpu": "2"}, obj{"memory": "1500m"}, obj{"cpu": "1", "memory": "3"}))
	}
	return o
}

func report(kind string, o obj, err error) {
	fmt.Fprintf(out, "E %s\t%s", kind, text(o))
	s := []string{}
	if a, ok := err.(utilerrors.Aggregate); ok {
		for _, e := range a.Errors() {
			s = append(s, e.Error())
		}
	}
	sort.Strings(s)
	for _, e := range slices.Compact(s) { // as the aggregate's text has each once
		fmt.Fprintf(out, "\t%s", e)
	}
	fmt.Fprintln(out)
}

func limits() {
	for i := 0; i < 50; i++ {
		items := []obj{limitItem()}
		if chance(2) {
			items = append(items, limitItem())
		}
		lr := obj{"metadata": obj{"name": "l", "namespace": "n"}, "spec": obj{"limits": items}}
		typed := into[corev1.LimitRange](lr)
		fmt.Fprintf(out, "R %s\n", text(lr))
		for j := 0; j < 2; j++ {
			p := obj{"metadata": obj{"name": "p"}, "spec": obj{}}
			full := pod()["spec"].(obj)
			small := func(l any) []obj {
				r := []obj{}
				if l == nil {
					return r
				}
				for _, c := range l.([]obj) {
					s := obj{"name": c["name"], "resources": c["resources"]}
					if c["restartPolicy"] != nil {
						s["restartPolicy"] = c["restartPolicy"]
					}
					r = append(r, s)
				}
				return r
			}
			spec := obj{"containers": small(full["containers"]), "initContainers": small(full["initContainers"])}
			if full["resources"] != nil {
				spec["resources"] = full["resources"]
			}
			p["spec"] = spec
			var internal, validated api.Pod
			must(legacyscheme.Scheme.Convert(into[corev1.Pod](p), &validated, nil))
			report("pods", p, limitranger.PodValidateLimitFunc(typed, &validated))
			must(legacyscheme.Scheme.Convert(into[corev1.Pod](p), &internal, nil))
			must(limitranger.PodMutateLimitFunc(typed, &internal))
			var after corev1.Pod
			must(legacyscheme.Scheme.Convert(&internal, &after, nil))
			shown := obj{"annotations": after.Annotations, "containers": obj{}}
			for _, l := range [][]corev1.Container{after.Spec.Containers, after.Spec.InitContainers} {
				for _, c := range l {
					shown["containers"].(obj)[c.Name] = list(c.Resources.Requests) + "|" + list(c.Resources.Limits)
				}
			}
			fmt.Fprintf(out, "D %s\t%s\n", text(p), text(shown))
		}
		c := claim()
		var internal api.PersistentVolumeClaim
		must(legacyscheme.Scheme.Convert(into[corev1.PersistentVolumeClaim](c), &internal, nil))
		report("persistentvolumeclaims", c, limitranger.PersistentVolumeClaimValidateLimitFunc(typed, &internal))
	}
}

func main() {
	defer out.Flush()
	security()
	quotas()
	limits()
}
