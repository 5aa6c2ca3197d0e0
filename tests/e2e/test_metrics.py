#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""/metrics against upstream's list of stable and beta metrics (metrics.txt); the text of /debug/pprof/."""
import os
import re
from lib import ROOT, Server, check, config_map, equal, run, temp_dir, wait_for

DIR = temp_dir()


def config(name, text, mode="w"):
    path = os.path.join(DIR, name)
    with open(path, mode, encoding="utf-8") as f:
        f.write(text)
    return path


server = Server("--disable-controller-manager", "--disable-scheduler",
                "--kube-apiserver-arg", "authentication-config=" + config("authn.yaml", """
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous: {enabled: true}
"""), "--kube-apiserver-arg", "authorization-config=" + config("authz.yaml", """
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers: [{type: Node, name: node}, {type: RBAC, name: rbac}]
"""))
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


def text(path):
    status, _, got = server.raw("GET", path)
    equal(status, 200, path)
    return got.decode()


def listed():
    with open(os.path.join(ROOT, "tests/e2e/metrics.txt"), encoding="utf-8") as f:
        for line in f:
            if line[0] in "+-":
                here, level, kind, name, *labels = line.split()
                yield here == "+", level, kind, name, set(labels)


def use_all():
    """Something of each kind that is counted when it happens."""
    server.api("POST", WEBHOOKS, {
        "metadata": {"name": "h"},
        "webhooks": [{"name": "h.example.com", "clientConfig": {"url": "https://127.0.0.1:1/"},
                      "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore",
                      "timeoutSeconds": 1,
                      "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                                 "resources": ["configmaps"]}]}]})
    for plural, kind, spec in (
            ("validatingadmissionpolicies", "ValidatingAdmissionPolicy",
             {"matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                                                      "operations": ["CREATE"], "resources": ["configmaps"]}]},
              "validations": [{"expression": "object.metadata.name != 'refused'"}]}),
            ("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding",
             {"policyName": "p", "validationActions": ["Deny"]})):
        server.api("POST", f"/apis/admissionregistration.k8s.io/v1/{plural}", {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "p"}, "spec": spec})
    equal(server.raw("POST", "/api/v1/namespaces/default/configmaps", config_map("refused"))[0], 422)
    server.api("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {
        "metadata": {"name": "ruled.example.com"}, "spec": {
            "group": "example.com", "scope": "Cluster",
            "names": {"plural": "ruled", "singular": "ruled", "kind": "Ruled", "listKind": "RuledList"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"n": {"type": "integer", "x-kubernetes-validations": [
                    {"rule": "self > 0"}]}}}}}]}})
    wait_for(lambda: server.raw("POST", "/apis/example.com/v1/ruled", {
        "apiVersion": "example.com/v1", "kind": "Ruled", "metadata": {"name": "r"}, "n": 1})[0] == 201,
             "the kind is served")
    server.api("POST", "/api/v1/namespaces/default/configmaps", config_map("a", {"k": "v"}))
    server.raw("GET", "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&resourceVersion=0")
    server.raw("GET", "/api/v1/configmaps?watch=1&timeoutSeconds=1&sendInitialEvents=true&allowWatchBookmarks=true"
               "&resourceVersionMatch=NotOlderThan")
    server.get("/api/v1/namespaces/default/endpoints")
    text("/readyz")
    for file, more, subject, status in (("authn.yaml", "# read anew\n", "authentication", "success"),
                                        ("authz.yaml", "nonsense: true\n", "authorization", "failure")):
        config(file, more, "a")
        wait_for(lambda w=rf"\napiserver_{subject}_config_controller_automatic_reloads_total\{{"
                 rf'apiserver_id_hash="sha256:[0-9a-f]+",status="{status}"\}} [1-9]':
                 re.search(w, text("/metrics")), f"{status} of {subject}", 90)


def test_list():
    use_all()
    metrics = text("/metrics")
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", metrics, re.M))
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", metrics, re.M))
    equal(len(kinds), len(re.findall(r"^# TYPE ", metrics, re.M)), "a metric has its type twice")
    for here, level, kind, name, labels in listed():
        if not here:
            check(name not in kinds, f"{name} is served: metrics.txt says it is not")
            continue
        check(name in kinds, f"no {name}")
        if kind != "custom":
            equal(kinds[name], kind, name)
        if level == "STABLE":
            check("[STABLE] " in helps[name], f"{name}: {helps[name]}")
        for row in re.findall(rf"^{name}(?:_bucket|_sum|_count)?\{{(.*)\}} ", metrics, re.M):
            equal(set(re.findall(r'(\w+)="', row)) - {"le"}, labels, f"labels of {name}")


def test_values():
    metrics = text("/metrics")
    for line in ('kubernetes_healthcheck{name="ping",type="readyz"} 1\n',
                 'kubernetes_healthchecks_total{name="etcd",status="success",type="readyz"} ',
                 'apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",'
                 'subresource="",version="v1"} 1\n'):
        check("\n" + line in metrics, f"no {line}")
    check(re.search(r'apiserver_watch_list_duration_seconds_count\{group="",resource="configmaps",scope="cluster",'
                    r'version="v1"\} [1-9]', metrics), "no watch of configmaps that lists")
    check(re.search(r'apiserver_validating_admission_policy_check_total\{enforcement_action="deny",'
                    r'error_type="invalid_error",policy="p",policy_binding="p"\} 1\n', metrics),
          "no check of the policy")
    for step in "compilation", "evaluation":
        check(re.search(rf"apiserver_cel_{step}_duration_seconds_count [1-9]", metrics), f"no {step} of a rule")
    check("componentstatuses" not in re.search(r"(?s)TYPE apiserver_requested_dep.*?# HELP", metrics).group(),
          "a deprecated kind that nobody asked for")
    size = re.search(r'apiserver_storage_size_bytes\{storage_cluster_id="etcd-0"\} (\d+)', metrics)
    check(int(size.group(1)) > 0, "no size of the datastore")


def test_profile():
    page = text("/debug/pprof/")
    rows = {m.group(1): float(m.group(2)) for m in re.finditer(r"^  (\S.*?|  \S.*?) +([\d.]+)$", page, re.M)}
    for part in ("resident", "heap, in use", "  stored values", "  their decoded and encoded forms", "keys"):
        check(rows.get(part, 0) > 0, f"nothing of {part!r} in the profile: {page}")
    check(rows["heap, in use"] <= rows["resident"] * 1.1, f"more heap than memory: {page}")
    check(rows["  stored values"] + rows["  their decoded and encoded forms"] <= rows["heap, in use"],
          f"parts larger than the heap: {page}")
    check(rows["other threads"] <= rows["whole process"], page)


run(server)
