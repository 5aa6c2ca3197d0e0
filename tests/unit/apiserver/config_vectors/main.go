// SPDX-License-Identifier: Apache-2.0

// Records what upstream says of sections of the admission configuration: one line for each, JSON
// with the plug-in, the text and the error ("" when there is none).
//
//	GOFLAGS=-mod=mod GOWORK=off go run . > ../config_vectors.txt
package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apiserver/pkg/admission/plugin/resourcequota"
	quota "k8s.io/apiserver/pkg/admission/plugin/resourcequota/apis/resourcequota/validation"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/config"
	"k8s.io/kubernetes/plugin/pkg/admission/eventratelimit"
	events "k8s.io/kubernetes/plugin/pkg/admission/eventratelimit/apis/eventratelimit/validation"
	"k8s.io/pod-security-admission/admission/api/load"
	pods "k8s.io/pod-security-admission/admission/api/validation"
)

func podSecurity(text string) error {
	c, err := load.LoadFromData([]byte(text))
	if err != nil {
		return err
	}
	return pods.ValidatePodSecurityConfiguration(c).ToAggregate()
}

func resourceQuota(text string) error {
	c, err := resourcequota.LoadConfiguration(strings.NewReader(text))
	if err != nil {
		return err
	}
	return quota.ValidateConfiguration(c).ToAggregate()
}

func eventRateLimit(text string) error {
	c, err := eventratelimit.LoadConfiguration(strings.NewReader(text))
	if err != nil {
		return err
	}
	return events.ValidateConfiguration(c).ToAggregate()
}

func webhooks(text string) error {
	_, err := config.LoadConfig(strings.NewReader(text))
	return err
}

const ps = `{"apiVersion":"pod-security.admission.config.k8s.io/v1","kind":"PodSecurityConfiguration"`
const rq = `{"apiVersion":"apiserver.config.k8s.io/v1","kind":"ResourceQuotaConfiguration"`
const er = `{"apiVersion":"eventratelimit.admission.k8s.io/v1alpha1","kind":"Configuration"`
const wh = `{"apiVersion":"apiserver.config.k8s.io/v1","kind":"WebhookAdmissionConfiguration"`

func main() {
	scheme := regexp.MustCompile(` in scheme "[^"]*"`)
	for _, x := range []struct {
		name  string
		check func(string) error
		texts []string
	}{
		{"PodSecurity", podSecurity, []string{
			ps + `}`,
			strings.Replace(ps, "/v1", "/v1beta1", 1) + `}`,
			strings.Replace(ps, "/v1", "/v2", 1) + `}`,
			`{"kind":"PodSecurityConfiguration"}`, `{"apiVersion":"v1"}`, `{}`,
			ps + `,"defaults":{"enforce":"baseline","enforce-version":"v1.25","audit":"restricted","audit-version":"latest","warn":"privileged"}}`,
			ps + `,"defaults":{"enforce":"x","enforce-version":"v1","audit":"Baseline","audit-version":"v1.01","warn":"none","warn-version":"1.2"}}`,
			ps + `,"defaults":{"enforced":"baseline"}}`,
			ps + `,"defaults":{"enforced":"baseline"},"exemption":{},"exemptions":{"user":[]}}`,
			ps + `,"defaults":{"enforce":5}}`,
			ps + `,"defaults":[]}`,
			ps + `,"defaults":"x"}`,
			ps + `,"exemptions":{"namespaces":"a"}}`,
			ps + `,"exemptions":{"namespaces":[1]}}`,
			ps + `,"exemptions":{"namespaces":["a","b","a",""],"usernames":["","u","u"],"runtimeClasses":["k","-","k"]}}`,
			ps + `,"exemptions":{"namespaces":["Upper"]}}`,
			ps + `,"exemptions":null,"defaults":null}`,
		}},
		{"ResourceQuota", resourceQuota, []string{
			rq + `}`,
			rq + `,"limitedResources":[{"resource":"pods","matchContains":["cpu"]}]}`,
			rq + `,"limitedResources":[{"matchContains":["cpu"]},{"apiGroup":"apps"}]}`,
			rq + `,"limitedResources":[{"resource":"pods","matchContain":["cpu"]}]}`,
			rq + `,"limitedResources":{}}`,
			rq + `,"limitedResources":[{"resource":1}]}`,
			`{"apiVersion":"resourcequota.admission.k8s.io/v1beta1","kind":"Configuration","limitedResources":[{}]}`,
			`{"apiVersion":"resourcequota.admission.k8s.io/v1alpha1","kind":"Configuration"}`,
			`{"apiVersion":"apiserver.config.k8s.io/v1","kind":"Configuration"}`,
		}},
		{"EventRateLimit", eventRateLimit, []string{
			er + `}`,
			er + `,"limits":[]}`,
			er + `,"limits":[{"type":"Server","qps":1,"burst":1,"cacheSize":-5}]}`,
			er + `,"limits":[{"type":"User","qps":1,"burst":1,"cacheSize":-5},{"type":"Namespace","qps":-1,"burst":0}]}`,
			er + `,"limits":[{"type":"Server","qps":1.5,"burst":1}]}`,
			er + `,"limits":[{"type":"Server","qps":99999999999,"burst":1}]}`,
			er + `,"limits":[{"type":"Server","qps":"1","burst":1}]}`,
			er + `,"limits":[{"type":true,"qps":1,"burst":1}]}`,
			er + `,"limits":["x"]}`,
			er + `,"limit":1,"limits":[{"type":"SourceAndObject","qps":1,"burst":1,"more":1}]}`,
			strings.Replace(er, "v1alpha1", "v1", 1) + `}`,
		}},
		{"MutatingAdmissionWebhook", webhooks, []string{
			wh + `}`,
			wh + `,"kubeConfigFile":"relative"}`,
			wh + `,"kubeConfig":"/x"}`,
			wh + `,"kubeConfigFile":1}`,
			`{"apiVersion":"apiserver.config.k8s.io/v1","kind":"Foo"}`,
		}},
	} {
		for _, text := range x.texts {
			said := ""
			if err := x.check(text); err != nil {
				said = scheme.ReplaceAllString(err.Error(), "")
			}
			line, _ := json.Marshal(map[string]string{"plugin": x.name, "text": text, "error": said})
			fmt.Println(string(line))
		}
	}
}
