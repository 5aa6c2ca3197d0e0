// SPDX-License-Identifier: Apache-2.0

// apiload drives a Kubernetes API server through client-go and prints one line per phase.
//
//	apiload -kubeconfig FILE -clients 32 -n 10000
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

var (
	kubeconfig = flag.String("kubeconfig", "", "kubeconfig")
	clients    = flag.Int("clients", 32, "concurrent workers")
	n          = flag.Int("n", 10000, "objects")
	watchers   = flag.Int("watchers", 50, "watchers in the fan-out phase")
	ctype      = flag.String("content-type", "application/json", "or application/vnd.kubernetes.protobuf")
	kind       = flag.String("kind", "pods", "pods or configmaps")
	phases     = flag.String("phases", "create,get,update,patch,list,rawlist,nslist,watch,delete", "phases")
	label      = flag.String("label", "", "name printed on each line")
	fails      atomic.Int64
)

func pct(l []time.Duration, p float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return l[min(len(l)-1, int(float64(len(l))*p))].Round(10 * time.Microsecond)
}

func phase(name string, total int, op func(w, i int) error) {
	var next, bad atomic.Int64
	lat := make([][]time.Duration, *clients)
	var wg sync.WaitGroup
	start, cpu := time.Now(), serverCPU()
	for w := 0; w < *clients; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				i := int(next.Add(1)) - 1
				if i >= total {
					return
				}
				t := time.Now()
				if err := op(w, i); err != nil && bad.Add(1) == 1 {
					fmt.Fprintln(os.Stderr, name, "first error:", err)
				}
				lat[w] = append(lat[w], time.Since(t))
			}
		}()
	}
	wg.Wait()
	el, used := time.Since(start), serverCPU()-cpu
	var all []time.Duration
	for _, l := range lat {
		all = append(all, l...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	fails.Add(bad.Load())
	fmt.Printf("%-12s %-8s %7d ops %9.1f ops/s  p50 %9s  p99 %9s  max %9s  failed %d%s\n", *label, name, total,
		float64(total)/el.Seconds(), pct(all, .5), pct(all, .99), pct(all, 1), bad.Load(), cpuPerOp(used, total))
}

func pod(i int) *corev1.Pod {
	q := resource.MustParse("100m")
	m := resource.MustParse("64Mi")
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("load-%06d", i), Labels: map[string]string{"app": "load", "tier": fmt.Sprint(i % 10)},
			Annotations: map[string]string{"note": strings.Repeat("x", 200)}},
		Spec: corev1.PodSpec{
			SchedulerName: "none",
			Containers: []corev1.Container{{Name: "c", Image: "registry.example/app:v1", Command: []string{"sleep", "infinity"},
				Env:            []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "NODE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}}},
				Resources:      corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": q, "memory": m}},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}},
			}},
		},
	}
}

func main() {
	flag.Parse()
	cfg, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cfg.QPS, cfg.Burst = -1, 0
	cfg.ContentType = *ctype
	if *ctype != "application/json" {
		cfg.AcceptContentTypes = *ctype + ",application/json"
	}
	cs := kubernetes.NewForConfigOrDie(cfg)
	ctx := context.Background()
	ns := func(i int) string { return fmt.Sprintf("load-%d", i%10) }
	for i := 0; i < 10; i++ {
		cs.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns(i)}}, metav1.CreateOptions{})
		cs.CoreV1().ServiceAccounts(ns(i)).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	}
	name := func(i int) string { return fmt.Sprintf("load-%06d", i) }
	last := make([]*corev1.Pod, *n)
	for _, p := range strings.Split(*phases, ",") {
		switch p {
		case "create":
			phase(p, *n, func(w, i int) (err error) {
				last[i], err = cs.CoreV1().Pods(ns(i)).Create(ctx, pod(i), metav1.CreateOptions{})
				return
			})
		case "get":
			phase(p, *n, func(w, i int) (err error) {
				last[i], err = cs.CoreV1().Pods(ns(i)).Get(ctx, name(i), metav1.GetOptions{})
				return
			})
		case "update":
			phase(p, *n, func(w, i int) (err error) {
				o := last[i].DeepCopy()
				o.Labels["round"] = fmt.Sprint(time.Now().UnixNano())
				last[i], err = cs.CoreV1().Pods(ns(i)).Update(ctx, o, metav1.UpdateOptions{})
				return
			})
		case "patch":
			phase(p, *n, func(w, i int) (err error) {
				_, err = cs.CoreV1().Pods(ns(i)).Patch(ctx, name(i), types.StrategicMergePatchType, []byte(`{"status":{"phase":"Running","podIP":"10.0.0.1","conditions":[{"type":"Ready","status":"True"}]}}`), metav1.PatchOptions{}, "status")
				return
			})
		case "list":
			phase(p, 20, func(w, i int) error {
				l, err := cs.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: "app=load"})
				if err == nil && len(l.Items) != *n {
					err = fmt.Errorf("list: %d items", len(l.Items))
				}
				return err
			})
		case "rawlist": // the server's cost alone: the answer is read, not decoded
			phase(p, 40, func(w, i int) error {
				b, err := cs.CoreV1().RESTClient().Get().AbsPath("/api/v1/pods").Param("labelSelector", "app=load").DoRaw(ctx)
				if err == nil && len(b) < *n*300 {
					err = fmt.Errorf("rawlist: %d bytes", len(b))
				}
				return err
			})
		case "nslist":
			phase(p, 200, func(w, i int) error {
				l, err := cs.CoreV1().Pods(ns(i)).List(ctx, metav1.ListOptions{LabelSelector: "tier=" + fmt.Sprint(i%10)})
				if err == nil && len(l.Items) == 0 {
					err = fmt.Errorf("nslist: none")
				}
				return err
			})
		case "watch":
			m := min(*n, 1000)
			cur, err := cs.CoreV1().Pods("").List(ctx, metav1.ListOptions{Limit: 1})
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			var got atomic.Int64
			var wg sync.WaitGroup
			wctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
			for i := 0; i < *watchers; i++ {
				wg.Add(1)
				go func() {
					defer wg.Done()
					wi, err := cs.CoreV1().Pods("").Watch(wctx, metav1.ListOptions{ResourceVersion: cur.ResourceVersion, LabelSelector: "app=load"})
					if err != nil {
						fmt.Fprintln(os.Stderr, "watch:", err)
						return
					}
					defer wi.Stop()
					seen := 0
					for e := range wi.ResultChan() {
						if e.Type != "MODIFIED" {
							continue
						}
						got.Add(1)
						if seen++; seen >= m {
							return
						}
					}
				}()
			}
			time.Sleep(2 * time.Second)
			t, cpu := time.Now(), serverCPU()
			phase("watched", m, func(w, i int) error {
				_, err := cs.CoreV1().Pods(ns(i)).Patch(ctx, name(i), types.MergePatchType, []byte(fmt.Sprintf(`{"metadata":{"labels":{"w":"%d"}}}`, time.Now().UnixNano())), metav1.PatchOptions{})
				return err
			})
			wg.Wait()
			cancel()
			if got.Load() < int64(m**watchers) {
				fails.Add(1)
			}
			fmt.Printf("%-12s %-8s %7d of %d events to %d watchers, %.0f events/s%s\n", *label, p, got.Load(), m**watchers, *watchers, float64(got.Load())/time.Since(t).Seconds(), cpuPerOp(serverCPU()-cpu, m**watchers))
		case "delete":
			zero := int64(0)
			phase(p, *n, func(w, i int) error {
				return cs.CoreV1().Pods(ns(i)).Delete(ctx, name(i), metav1.DeleteOptions{GracePeriodSeconds: &zero})
			})
		}
	}
	if fails.Load() > 0 {
		os.Exit(1)
	}
}
