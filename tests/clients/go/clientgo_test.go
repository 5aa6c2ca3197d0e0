// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	applyappsv1 "k8s.io/client-go/applyconfigurations/apps/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/watch"
)

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name,
		Labels: map[string]string{"name": name}}, Data: data}
}

// An informer sees every object, every change and every deletion, by list and by watch.
func informer(t *testing.T, config *rest.Config) {
	ctx := testContext(t)
	c := kubernetes.NewForConfigOrDie(config)
	const n = 50
	maps := c.CoreV1().ConfigMaps("default")
	for i := range n / 2 {
		if _, err := maps.Create(ctx, configMap(fmt.Sprintf("m%d", i), nil), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	factory := informers.NewSharedInformerFactoryWithOptions(c, 0, informers.WithNamespace("default"))
	inf := factory.Core().V1().ConfigMaps()
	var added, updated, deleted atomic.Int32
	_, err := inf.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { added.Add(1) },
		UpdateFunc: func(any, any) { updated.Add(1) },
		DeleteFunc: func(any) { deleted.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(ctx.Done())
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			t.Fatalf("%v was not synced", kind)
		}
	}
	for i := n / 2; i < n; i++ {
		if _, err := maps.Create(ctx, configMap(fmt.Sprintf("m%d", i), nil), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		patch := fmt.Appendf(nil, `{"data":{"i":"%d"}}`, i)
		if _, err := maps.Patch(ctx, fmt.Sprintf("m%d", i), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "every ConfigMap is there and changed", func() bool {
		list, err := inf.Lister().List(labels.Everything())
		if err != nil || len(list) != n {
			return false
		}
		for _, m := range list {
			if "m"+m.Data["i"] != m.Name {
				return false
			}
		}
		return true
	})
	if err := maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "every ConfigMap is gone", func() bool { return deleted.Load() == n })
	if added.Load() != n || updated.Load() < 1 {
		t.Fatalf("added %d, updated %d, want %d and some", added.Load(), updated.Load(), n)
	}
}

func TestInformerJSON(t *testing.T)     { informer(t, startServer(t)) }
func TestInformerProtobuf(t *testing.T) { informer(t, asProtobuf(startServer(t))) }

// RetryWatcher and paging are what controllers without informers are made of.
func TestPagesAndWatch(t *testing.T) {
	ctx := testContext(t)
	c := kubernetes.NewForConfigOrDie(asProtobuf(startServer(t)))
	maps := c.CoreV1().ConfigMaps("default")
	for i := range 7 {
		if _, err := maps.Create(ctx, configMap(fmt.Sprintf("m%d", i), nil), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	seen, opts, pages := 0, metav1.ListOptions{Limit: 3}, 0
	rv := ""
	for {
		list, err := maps.List(ctx, opts)
		if err != nil {
			t.Fatal(err)
		}
		seen, pages, rv = seen+len(list.Items), pages+1, list.ResourceVersion
		if opts.Continue = list.Continue; opts.Continue == "" {
			break
		}
	}
	if seen != 7 || pages != 3 {
		t.Fatalf("%d objects on %d pages, want 7 on 3", seen, pages)
	}
	w, err := watch.NewRetryWatcherWithContext(ctx, rv, &cache.ListWatch{WatchFuncWithContext: maps.Watch})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := maps.Delete(ctx, "m3", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-w.ResultChan():
		if m, ok := e.Object.(*corev1.ConfigMap); !ok || e.Type != "DELETED" || m.Name != "m3" {
			t.Fatalf("event %v of %v", e.Type, e.Object)
		}
	case <-ctx.Done():
		t.Fatal("no event")
	}
}

func TestServerSideApply(t *testing.T) {
	ctx := testContext(t)
	c := kubernetes.NewForConfigOrDie(startServer(t))
	deployments := c.AppsV1().Deployments("default")
	want := func(image string) *applyappsv1.DeploymentApplyConfiguration {
		return applyappsv1.Deployment("web", "default").WithSpec(applyappsv1.DeploymentSpec().
			WithSelector(applymetav1.LabelSelector().WithMatchLabels(map[string]string{"a": "b"})).
			WithTemplate(applycorev1.PodTemplateSpec().WithLabels(map[string]string{"a": "b"}).
				WithSpec(applycorev1.PodSpec().WithContainers(
					applycorev1.Container().WithName("main").WithImage(image)))))
	}
	if _, err := deployments.Apply(ctx, want("x:1"), metav1.ApplyOptions{FieldManager: "one"}); err != nil {
		t.Fatal(err)
	}
	_, err := deployments.Apply(ctx, want("x:2"), metav1.ApplyOptions{FieldManager: "two"})
	if !apierrors.IsConflict(err) {
		t.Fatalf("two managers of one image: %v", err)
	}
	got, err := deployments.Apply(ctx, want("x:2"), metav1.ApplyOptions{FieldManager: "two", Force: true})
	if err != nil || got.Spec.Template.Spec.Containers[0].Image != "x:2" {
		t.Fatalf("forced: %v %v", got, err)
	}
	mine, err := applyappsv1.ExtractDeployment(got, "one")
	if err != nil {
		t.Fatal(err)
	}
	if mine.Spec.Template.Spec.Containers[0].Image != nil {
		t.Fatalf("the first manager still owns the image")
	}
	status := applyappsv1.Deployment("web", "default").WithStatus(applyappsv1.DeploymentStatus().WithReplicas(3))
	if got, err = deployments.ApplyStatus(ctx, status, metav1.ApplyOptions{FieldManager: "three"}); err != nil ||
		got.Status.Replicas != 3 {
		t.Fatalf("status: %v %v", got, err)
	}
}

// Two candidates: one leads, and the other when it gives up.
func TestLeaderElection(t *testing.T) {
	ctx := testContext(t)
	c := kubernetes.NewForConfigOrDie(asProtobuf(startServer(t)))
	var mu sync.Mutex
	var led []string
	run := func(ctx context.Context, id string) *sync.WaitGroup {
		var wg sync.WaitGroup
		lock := &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Name: "lock", Namespace: "default"},
			Client: c.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: id}}
		wg.Go(func() {
			leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{Lock: lock,
				ReleaseOnCancel: true, LeaseDuration: 30 * time.Second, RenewDeadline: 20 * time.Second,
				RetryPeriod: 50 * time.Millisecond,
				Callbacks: leaderelection.LeaderCallbacks{
					OnStartedLeading: func(context.Context) { mu.Lock(); led = append(led, id); mu.Unlock() },
					OnStoppedLeading: func() {},
				}})
		})
		return &wg
	}
	leaders := func() string { mu.Lock(); defer mu.Unlock(); return fmt.Sprint(led) }
	first, stopFirst := context.WithCancel(ctx)
	second, stopSecond := context.WithCancel(ctx)
	defer stopSecond()
	one := run(first, "one")
	eventually(t, "one leads", func() bool { return leaders() == "[one]" })
	two := run(second, "two")
	lease := func() string {
		l, err := c.CoordinationV1().Leases("default").Get(ctx, "lock", metav1.GetOptions{})
		if err != nil || l.Spec.HolderIdentity == nil {
			return ""
		}
		return *l.Spec.HolderIdentity
	}
	if lease() != "one" {
		t.Fatalf("the lease is %q's", lease())
	}
	stopFirst()
	one.Wait()
	eventually(t, "two leads", func() bool { return leaders() == "[one two]" && lease() == "two" })
	stopSecond()
	two.Wait()
}

// With controllers a namespace really goes away, and what hangs on an owner with it.
func TestControllers(t *testing.T) {
	ctx := testContext(t)
	c := kubernetes.NewForConfigOrDie(startServer(t, "--controllers", "namespace-controller,garbage-collector-controller"))
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}}
	if _, err := c.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	owner, err := c.CoreV1().ConfigMaps("x").Create(ctx, configMap("owner", nil), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owned := configMap("owned", nil)
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "owner", UID: owner.UID}}
	if _, err := c.CoreV1().ConfigMaps("x").Create(ctx, owned, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.CoreV1().ConfigMaps("x").Delete(ctx, "owner", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was owned is gone", func() bool {
		_, err := c.CoreV1().ConfigMaps("x").Get(ctx, "owned", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	if err := c.CoreV1().Namespaces().Delete(ctx, "x", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace is gone", func() bool {
		_, err := c.CoreV1().Namespaces().Get(ctx, "x", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}
