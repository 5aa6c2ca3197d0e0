// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

var widgetKind = schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"}

func widgetCRD() *apiextensionsv1.CustomResourceDefinition {
	text := func(p apiextensionsv1.JSONSchemaProps) apiextensionsv1.JSONSchemaProps { p.Type = "string"; return p }
	object := func(p map[string]apiextensionsv1.JSONSchemaProps) apiextensionsv1.JSONSchemaProps {
		return apiextensionsv1.JSONSchemaProps{Type: "object", Properties: p}
	}
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "widgets.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "widgets", Singular: "widget", Kind: "Widget", ListKind: "WidgetList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true,
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: ptr.To(object(map[string]apiextensionsv1.JSONSchemaProps{
					"spec": object(map[string]apiextensionsv1.JSONSchemaProps{
						"color": text(apiextensionsv1.JSONSchemaProps{Pattern: "^[a-z]*$",
							Default: &apiextensionsv1.JSON{Raw: []byte(`"red"`)}}),
					}),
					"status": object(map[string]apiextensionsv1.JSONSchemaProps{"phase": text(apiextensionsv1.JSONSchemaProps{})}),
				}))},
			}},
		},
	}
}

func widget(name string, spec map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(widgetKind)
	u.SetNamespace("default")
	u.SetName(name)
	return u
}

// startEnvtest runs the binary under the names that envtest looks for.
func startEnvtest(t *testing.T, env *envtest.Environment) {
	t.Helper()
	log.SetLogger(logr.Discard())
	kinglet, err := filepath.Abs(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	assets := t.TempDir()
	for name, variable := range map[string]string{"etcd": "TEST_ASSET_ETCD", "kube-apiserver": "TEST_ASSET_KUBE_APISERVER"} {
		link := filepath.Join(assets, name)
		if err := os.Symlink(kinglet, link); err != nil {
			t.Fatal(err)
		}
		t.Setenv(variable, link)
	}
	if _, err := env.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// An operator: for each Widget a ConfigMap that it owns, and a status.
type operator struct{ client.Client }

func (o *operator) Reconcile(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
	w := &unstructured.Unstructured{}
	w.SetGroupVersionKind(widgetKind)
	if err := o.Get(ctx, r.NamespacedName, w); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: r.Name}}
	_, err := controllerutil.CreateOrUpdate(ctx, o.Client, m, func() error {
		color, _, _ := unstructured.NestedString(w.Object, "spec", "color")
		m.Data = map[string]string{"color": color}
		return controllerutil.SetControllerReference(w, m, o.Scheme())
	})
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := unstructured.SetNestedField(w.Object, "done", "status", "phase"); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, o.Status().Update(ctx, w)
}

func startManager(t *testing.T, env *envtest.Environment, o ctrl.Options, build func(ctrl.Manager) error) client.Client {
	t.Helper()
	o.Metrics = server.Options{BindAddress: "0"}
	m, err := ctrl.NewManager(env.Config, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := build(m); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c, err := client.New(env.Config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEnvtestOperator(t *testing.T) {
	ctx := testContext(t)
	env := &envtest.Environment{CRDs: []*apiextensionsv1.CustomResourceDefinition{widgetCRD()}}
	startEnvtest(t, env)
	c := startManager(t, env, ctrl.Options{}, func(m ctrl.Manager) error {
		kind := &unstructured.Unstructured{}
		kind.SetGroupVersionKind(widgetKind)
		return ctrl.NewControllerManagedBy(m).For(kind).Owns(&corev1.ConfigMap{}).Named("widget").Complete(&operator{m.GetClient()})
	})
	if err := c.Create(ctx, widget("bad", map[string]any{"color": "RED"})); !apierrors.IsInvalid(err) {
		t.Fatalf("a color against the pattern: %v", err)
	}
	if err := c.Create(ctx, widget("one", map[string]any{})); err != nil {
		t.Fatal(err)
	}
	m := &corev1.ConfigMap{}
	eventually(t, "the operator makes the ConfigMap", func() bool {
		return c.Get(ctx, client.ObjectKey{Namespace: "default", Name: "one"}, m) == nil && m.Data["color"] == "red"
	})
	w := widget("one", nil)
	eventually(t, "the operator sets the status", func() bool {
		phase := ""
		if c.Get(ctx, client.ObjectKeyFromObject(w), w) == nil {
			phase, _, _ = unstructured.NestedString(w.Object, "status", "phase")
		}
		return phase == "done"
	})
	w.Object["spec"] = map[string]any{"color": "blue"}
	if err := c.Update(ctx, w); err != nil && !apierrors.IsConflict(err) {
		t.Fatal(err)
	}
	if err := c.Patch(ctx, widget("one", map[string]any{"color": "blue"}), client.Apply, client.ForceOwnership, client.FieldOwner("test")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the operator follows", func() bool {
		return c.Get(ctx, client.ObjectKey{Namespace: "default", Name: "one"}, m) == nil && m.Data["color"] == "blue"
	})
	if !metav1.IsControlledBy(m, w) {
		t.Fatalf("owners: %v", m.OwnerReferences)
	}
}

func TestEnvtestWebhook(t *testing.T) {
	ctx := testContext(t)
	path, fail, none := "/deny", admissionv1.Fail, admissionv1.SideEffectClassNone
	mutate := "/mutate"
	rule := []admissionv1.RuleWithOperations{{Operations: []admissionv1.OperationType{admissionv1.Create},
		Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}}}}
	service := func(p *string) admissionv1.WebhookClientConfig {
		return admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "default", Name: "hook", Path: p}}
	}
	env := &envtest.Environment{WebhookInstallOptions: envtest.WebhookInstallOptions{
		ValidatingWebhooks: []*admissionv1.ValidatingWebhookConfiguration{{ObjectMeta: metav1.ObjectMeta{Name: "deny"},
			Webhooks: []admissionv1.ValidatingWebhook{{Name: "deny.example.com", Rules: rule, FailurePolicy: &fail,
				SideEffects: &none, AdmissionReviewVersions: []string{"v1"}, ClientConfig: service(&path)}}}},
		MutatingWebhooks: []*admissionv1.MutatingWebhookConfiguration{{ObjectMeta: metav1.ObjectMeta{Name: "mutate"},
			Webhooks: []admissionv1.MutatingWebhook{{Name: "mutate.example.com", Rules: rule, FailurePolicy: &fail,
				SideEffects: &none, AdmissionReviewVersions: []string{"v1"}, ClientConfig: service(&mutate)}}}},
	}}
	startEnvtest(t, env)
	hook := webhook.NewServer(webhook.Options{Host: env.WebhookInstallOptions.LocalServingHost,
		Port: env.WebhookInstallOptions.LocalServingPort, CertDir: env.WebhookInstallOptions.LocalServingCertDir})
	c := startManager(t, env, ctrl.Options{WebhookServer: hook}, func(m ctrl.Manager) error {
		m.GetWebhookServer().Register(path, &webhook.Admission{Handler: admission.HandlerFunc(
			func(_ context.Context, r admission.Request) admission.Response {
				if strings.HasPrefix(r.Name, "bad") {
					return admission.Denied("no bad names").WithWarnings("mind the name")
				}
				return admission.Allowed("")
			})})
		m.GetWebhookServer().Register(mutate, &webhook.Admission{Handler: admission.HandlerFunc(
			func(_ context.Context, r admission.Request) admission.Response {
				changed := strings.Replace(string(r.Object.Raw), `"metadata":{`, `"data":{"by":"hook"},"metadata":{`, 1)
				return admission.PatchResponseFromRaw(r.Object.Raw, []byte(changed))
			})})
		return nil
	})
	eventually(t, "the webhook serves", func() bool { return hook.StartedChecker()(&http.Request{}) == nil })
	bad := configMap("bad", nil)
	bad.Namespace = "default"
	err := c.Create(ctx, bad)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `admission webhook "deny.example.com" denied the request: no bad names`) {
		t.Fatalf("a bad name: %v", err)
	}
	good := configMap("good", nil)
	good.Namespace = "default"
	if err := c.Create(ctx, good); err != nil || good.Data["by"] != "hook" {
		t.Fatalf("a good name: %v %v", good.Data, err)
	}
}

func TestEnvtestUser(t *testing.T) {
	ctx := testContext(t)
	env := &envtest.Environment{}
	startEnvtest(t, env)
	u, err := env.AddUser(envtest.User{Name: "nobody", Groups: []string{"none"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(u.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.List(ctx, &corev1.SecretList{}); !apierrors.IsForbidden(err) {
		t.Fatalf("a user without rights: %v", err)
	}
}
