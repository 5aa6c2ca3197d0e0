#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The built-in admission plug-ins, as kubectl and a node see them."""
import concurrent.futures
import http.client
import json
import ssl
import subprocess
from lib import Server, config_map, deployment, equal, holds, pod, run, temp_dir, wait_for

s = Server("--disable", "scheduler")
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
              "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def namespace(name, **labels):
    s.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": name, "labels": {f"pod-security.kubernetes.io/{k.replace('_', '-')}": v
                                 for k, v in labels.items()}}})
    wait_for(lambda: s.try_kubectl("-n", name, "get", "serviceaccount", "default").code == 0,
             "the ServiceAccount default")
    return name


def create(ns, obj, plural):
    group = obj["apiVersion"]
    path = f"/api/{group}" if "/" not in group else f"/apis/{group}"
    status, headers, text = s.raw("POST", f"{path}/namespaces/{ns}/{plural}", obj)
    return status, json.loads(text), headers


def refused(ns, obj, plural="pods"):
    status, answer, _ = create(ns, obj, plural)
    equal((status, answer["reason"]), (403, "Forbidden"), f"answer {answer}")
    return answer["message"]


def quota(ns, name, hard, **spec):
    s.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name},
             "spec": {"hard": hard, **spec}}, namespace=ns)
    path = f"/api/v1/namespaces/{ns}/resourcequotas/{name}"
    wait_for(lambda: s.get(path).get("status", {}).get("hard") == hard, "the quota is counted")
    return path


def bounded(name, requests, limits):
    p = pod(name)
    p["spec"]["containers"][0]["resources"] = {"requests": requests, "limits": limits}
    return p


# ---- PodSecurity

def test_pod_security_enforce():
    ns = namespace("ps-restricted", enforce="restricted")
    equal(s.kubectl_fails("-n", ns, "run", "bad", "--image=busybox"),
          'Error from server (Forbidden): pods "bad" is forbidden: violates PodSecurity '
          '"restricted:latest": allowPrivilegeEscalation != false (container "bad" must set '
          'securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container '
          '"bad" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or '
          'container "bad" must set securityContext.runAsNonRoot=true), seccompProfile (pod or '
          'container "bad" must set securityContext.seccompProfile.type to "RuntimeDefault" or '
          '"Localhost")\n')
    good = pod("good")
    good["spec"]["containers"][0]["securityContext"] = RESTRICTED
    equal(create(ns, good, "pods")[0], 201)
    host = pod("host", hostNetwork=True)
    ns = namespace("ps-baseline", enforce="baseline", enforce_version="v1.24")
    equal(refused(ns, host), 'pods "host" is forbidden: violates PodSecurity "baseline:v1.24": '
                             'host namespaces (hostNetwork=true)')


def test_pod_security_warns():
    ns = namespace("ps-warn", warn="baseline", audit="restricted")
    bad = deployment("web")
    bad["spec"]["template"]["spec"]["hostPID"] = True
    r = s.try_kubectl("-n", ns, "create", "-f", "-", stdin=json.dumps(bad))
    equal((r.code, r.err), (0, 'Warning: would violate PodSecurity "baseline:latest": host '
                               'namespaces (hostPID=true)\n'))
    # A level that is enforced from now on tells of the pods there are.
    for name in "a", "b":
        equal(create(ns, pod(name, hostIPC=True), "pods")[0], 201)
    r = s.try_kubectl("label", "namespace", ns, "pod-security.kubernetes.io/enforce=baseline")
    holds(r.err, r'^Warning: existing pods in namespace "ps-warn" violate the new PodSecurity enforce'
                 r' level "baseline:latest"$', r"^Warning: a \(and (1 other pod|\d other pods)\): host "
                 r"namespaces$")
    err = s.kubectl_fails("label", "namespace", ns, "pod-security.kubernetes.io/warn=strict",
                          "--overwrite")
    holds(err, r'The Namespace "ps-warn" is invalid: metadata.labels\[pod-security.kubernetes.io/warn'
               r'\]: Invalid value: "strict": must be one of privileged, baseline, restricted')


# ---- LimitRanger

def test_limit_range():
    ns = namespace("limits")
    s.apply({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "500m", "memory": "128Mi"},
         "defaultRequest": {"cpu": "250m"}, "max": {"cpu": "1"}, "min": {"memory": "16Mi"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]}}, namespace=ns)
    status, got, _ = create(ns, pod("plain"), "pods")
    equal(status, 201, f"answer {got}")
    equal(got["spec"]["containers"][0]["resources"],
          {"limits": {"cpu": "500m", "memory": "128Mi"}, "requests": {"cpu": "250m", "memory": "128Mi"}})
    equal(got["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
          "LimitRanger plugin set: cpu, memory request for container main; cpu, memory limit for "
          "container main")
    equal(refused(ns, bounded("large", {"cpu": "2", "memory": "8Mi"}, {"cpu": "2", "memory": "8Mi"})),
          'pods "large" is forbidden: [minimum memory usage per Container is 16Mi, but request is '
          '8Mi, maximum cpu usage per Container is 1, but limit is 2]')
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
             "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}}
    equal(refused(ns, claim, "persistentvolumeclaims"),
          'persistentvolumeclaims "c" is forbidden: maximum storage usage per PersistentVolumeClaim '
          'is 1Gi, but request is 2Gi')


# ---- ResourceQuota

def test_quota_race():
    """50 creates at once never take more than there is, and what goes is given back."""
    ns = namespace("race")
    path = quota(ns, "q", {"count/configmaps": "21", "secrets": "5"})  # 1 is kube-root-ca.crt
    wait_for(lambda: s.get(path)["status"]["used"]["count/configmaps"] == "1", "the CA is counted")

    def one(i):
        status, answer, _ = create(ns, config_map(f"c{i}"), "configmaps")
        return status, answer.get("message", "")
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(one, range(50)))
    equal(sorted(status for status, _ in answers), [201] * 20 + [403] * 30)
    for i, (status, message) in enumerate(answers):
        if status == 403:
            equal(message, f'configmaps "c{i}" is forbidden: exceeded quota: q, requested: '
                           'count/configmaps=1, used: count/configmaps=21, limited: '
                           'count/configmaps=21')
    equal(s.get(path)["status"]["used"], {"count/configmaps": "21", "secrets": "0"})
    equal(len(s.get(f"/api/v1/namespaces/{ns}/configmaps")["items"]), 21)
    taken = next(i for i, (status, _) in enumerate(answers) if status == 201)
    s.kubectl("-n", ns, "delete", "configmap", f"c{taken}")
    wait_for(lambda: s.get(path)["status"]["used"]["count/configmaps"] == "20", "it is given back")
    equal(one("again")[0], 201)
    equal(one("more")[0], 403)
    holds(s.kubectl("-n", ns, "describe", "quota", "q"), r"count/configmaps\s+21\s+21")


def test_quota_of_pods():
    ns = namespace("compute")
    path = quota(ns, "q", {"requests.cpu": "1", "limits.memory": "1Gi", "pods": "3"})
    equal(refused(ns, pod("silent")), 'pods "silent" is forbidden: failed quota: q: must specify '
                                      'limits.memory for: main; requests.cpu for: main')
    status, answer, _ = create(ns, limited("one"), "pods")
    equal(status, 201, f"answer {answer}")
    equal(s.get(path)["status"]["used"], {"limits.memory": "512Mi", "pods": "1", "requests.cpu": "600m"})
    equal(refused(ns, limited("two")), 'pods "two" is forbidden: exceeded quota: q, requested: '
                                       'requests.cpu=600m, used: requests.cpu=600m, limited: '
                                       'requests.cpu=1')
    # A dry run takes nothing.
    status, _, _ = s.raw("POST", f"/api/v1/namespaces/{ns}/pods?dryRun=All", limited("dry", "100m"))
    equal(status, 201)
    equal(s.get(path)["status"]["used"]["pods"], "1")
    s.kubectl("-n", ns, "delete", "pod", "one", "--grace-period=0", "--force")
    wait_for(lambda: s.get(path)["status"]["used"]["requests.cpu"] == "0", "it is given back")
    path = quota(ns, "best", {"pods": "0"}, scopes=["BestEffort"])
    equal(create(ns, limited("two"), "pods")[0], 201)


def limited(name, cpu="600m"):
    return bounded(name, {"cpu": cpu, "memory": "256Mi"}, {"memory": "512Mi"})


def test_quota_of_custom_resources():
    ns = namespace("widgets")
    s.apply({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
             "metadata": {"name": "widgets.example.com"}, "spec": {
                 "group": "example.com", "scope": "Namespaced",
                 "names": {"plural": "widgets", "kind": "Widget"},
                 "versions": [{"name": "v1", "served": True, "storage": True,
                               "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
    s.established("widgets.example.com")
    path = quota(ns, "q", {"count/widgets.example.com": "1"})
    wait_for(lambda: s.get(path)["status"]["used"] == {"count/widgets.example.com": "0"}, "counted")

    def widget(name):
        return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}}
    status, answer, _ = create(ns, widget("a"), "widgets")
    equal(status, 201, f"answer {answer}")
    equal(refused(ns, widget("b"), "widgets"),
          'widgets.example.com "b" is forbidden: exceeded quota: q, requested: '
          'count/widgets.example.com=1, used: count/widgets.example.com=1, limited: '
          'count/widgets.example.com=1')
    s.kubectl("-n", ns, "delete", "widgets.example.com", "a")
    wait_for(lambda: s.get(path)["status"]["used"] == {"count/widgets.example.com": "0"}, "given back")


# ---- NodeRestriction

class Node:
    """The credentials of a kubelet, and requests with them."""

    def __init__(self, name):
        tls, work = f"{s.data}/server/tls", temp_dir()
        for argv in (["req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{work}/key", "-out",
                      f"{work}/csr", "-subj", f"/O=system:nodes/CN=system:node:{name}"],
                     ["x509", "-req", "-in", f"{work}/csr", "-CA", f"{tls}/client-ca.crt", "-CAkey",
                      f"{tls}/client-ca.key", "-CAcreateserial", "-CAserial", f"{work}/serial", "-out",
                      f"{work}/crt", "-days", "1"]):
            subprocess.run(["openssl", *argv], check=True, capture_output=True)
        self.ssl = ssl.create_default_context()
        self.ssl.check_hostname, self.ssl.verify_mode = False, ssl.CERT_NONE
        self.ssl.load_cert_chain(f"{work}/crt", f"{work}/key")

    def ask(self, method, path, body=None, kind="application/json"):
        c = http.client.HTTPSConnection("127.0.0.1", s.port, timeout=240, context=self.ssl)
        c.request(method, path, json.dumps(body) if body else None, {"Content-Type": kind})
        r = c.getresponse()
        answer = json.loads(r.read())
        c.close()
        return r.status, answer

    def refused(self, *args, **kw):
        status, answer = self.ask(*args, **kw)
        equal((status, answer.get("reason")), (403, "Forbidden"), f"answer {answer}")
        return answer["message"]


def test_node_restriction():
    ns, me = namespace("nodes"), Node("n1")
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {
        "kubernetes.io/hostname": "n1"}}}
    other = {**node, "metadata": {"name": "n2"}}
    equal(me.refused("POST", "/api/v1/nodes", other),
          'nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2"')
    steering = json.loads(json.dumps(node))
    steering["metadata"]["labels"]["node-restriction.kubernetes.io/fips"] = "true"
    steering["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = ""
    equal(me.refused("POST", "/api/v1/nodes", steering),
          'nodes "n1" is forbidden: node "n1" is not allowed to set the following labels: '
          'node-restriction.kubernetes.io/fips, node-role.kubernetes.io/control-plane')
    equal(me.ask("POST", "/api/v1/nodes", node)[0], 201)
    merge = "application/merge-patch+json"
    equal(me.refused("PATCH", "/api/v1/nodes/n1", {"spec": {"taints": []}}, kind=merge),
          'nodes "n1" is forbidden: node "n1" is not allowed to modify taints')
    equal(me.refused("PATCH", "/api/v1/nodes/n1/status",
                     {"metadata": {"labels": {"x.k8s.io/y": "z"}}}, kind=merge),
          'nodes "n1" is forbidden: is not allowed to modify labels: x.k8s.io/y')
    equal(me.refused("POST", f"/api/v1/namespaces/{ns}/pods", pod("p", nodeName="n1")),
          'pods "p" is forbidden: pod does not have "kubernetes.io/config.mirror" annotation, node '
          '"n1" can only create mirror pods')
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n2"}}
    equal(me.refused("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease),
          'leases.coordination.k8s.io "n2" is forbidden: can only access node lease with the same name '
          'as the requesting node')
    # Pods of another node are not this one's to report on.
    for name, on in ("mine", "n1"), ("theirs", "n2"):
        equal(create(ns, pod(name, nodeName=on), "pods")[0], 201)
    path = f"/api/v1/namespaces/{ns}/pods"
    status = {"status": {"phase": "Running"}}
    equal(me.ask("PATCH", f"{path}/mine/status", status, kind=merge)[0], 200)
    holds(me.refused("PATCH", f"{path}/theirs/status", status, kind=merge),
          'node "n1" can only update pod status for pods with spec.nodeName set to itself$')
    holds(me.refused("DELETE", f"{path}/theirs"),
          'node "n1" can only delete pods with spec.nodeName set to itself$')
    token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "mine",
                           "uid": s.get(f"{path}/mine")["metadata"]["uid"]}}}
    ask = f"/api/v1/namespaces/{ns}/serviceaccounts/default/token"
    code, answer = me.ask("POST", ask, token)
    equal(code, 201, f"answer {answer}")
    del token["spec"]["boundObjectRef"]
    equal(me.refused("POST", ask, token),
          'serviceaccounts "default" is forbidden: node requested token not bound to a pod')


# ---- classes and defaults

def test_defaults():
    ns = namespace("classes")
    s.apply({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "x.example/y",
             "metadata": {"name": "fast", "annotations": {
                 "storageclass.kubernetes.io/is-default-class": "true"}}},
            {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
             "spec": {"controller": "x.example/y"}, "metadata": {"name": "web", "annotations": {
                 "ingressclass.kubernetes.io/is-default-class": "true"}}},
            {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 7,
             "globalDefault": True, "metadata": {"name": "usual"}},
            {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "kata",
             "overhead": {"podFixed": {"cpu": "250m"}}, "metadata": {"name": "kata"},
             "scheduling": {"nodeSelector": {"kata": "yes"}}})
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
             "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    got = create(ns, claim, "persistentvolumeclaims")[1]
    equal(got["spec"]["storageClassName"], "fast")
    # Bound, as a binder would say, it may grow where its class lets it.
    s.kubectl("-n", ns, "patch", "pvc", "c", "--subresource=status", "-p",
              '{"status":{"phase":"Bound","capacity":{"storage":"1Gi"}}}')
    grow = ["-n", ns, "patch", "pvc", "c", "-p", '{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}']
    equal(s.kubectl_fails(*grow),
          'Error from server (Forbidden): persistentvolumeclaims "c" is forbidden: only dynamically '
          'provisioned pvc can be resized and the storageclass that provisions the pvc must support '
          'resize\n')
    s.kubectl("patch", "storageclass", "fast", "-p", '{"allowVolumeExpansion":true}')
    s.kubectl(*grow)
    ingress = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i"},
               "spec": {"defaultBackend": {"service": {"name": "x", "port": {"number": 80}}}}}
    equal(create(ns, ingress, "ingresses")[1]["spec"]["ingressClassName"], "web")
    got = create(ns, pod("p", runtimeClassName="kata"), "pods")[1]["spec"]
    equal((got["priority"], got["priorityClassName"], got["overhead"], got["nodeSelector"]),
          (7, "usual", {"cpu": "250m"}, {"kata": "yes"}))
    equal(refused(ns, pod("q", runtimeClassName="none")),
          'pods "q" is forbidden: pod rejected: RuntimeClass "none" not found')
    second = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 8,
              "globalDefault": True, "metadata": {"name": "other"}}
    r = s.try_kubectl("create", "-f", "-", stdin=json.dumps(second))
    holds(r.err, r'priorityclasses.scheduling.k8s.io "other" is forbidden: PriorityClass usual is '
                 r'already marked as default. Only one default can exist')
    s.kubectl("delete", "priorityclass", "usual")


def test_service_account_secrets():
    ns = namespace("secrets")
    s.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "strict", "annotations": {
        "kubernetes.io/enforce-mountable-secrets": "true"}}}, namespace=ns)
    p = pod("p", serviceAccountName="strict", volumes=[{"name": "v", "secret": {"secretName": "x"}}])
    equal(refused(ns, p), 'pods "p" is forbidden: volume with secret.secretName="x" is not allowed '
                          'because service account strict does not reference that secret')
    equal(refused(ns, pod("q", serviceAccountName="nobody")),
          'pods "q" is forbidden: error looking up service account secrets/nobody: serviceaccount '
          '"nobody" not found')


def test_optional():
    """Plug-ins that are off unless they are asked for."""
    on = ["AlwaysPullImages", "DenyServiceExternalIPs", "ExtendedResourceToleration", "NamespaceExists",
          "LimitPodHardAntiAffinityTopology", "PodNodeSelector", "PodTolerationRestriction"]
    with Server("--datastore-endpoint", "memory://", "--disable", "scheduler",
                "--kube-apiserver-arg", "enable-admission-plugins=" + ",".join(on)) as o:
        meta = {"name": "ns", "annotations": {
            "scheduler.alpha.kubernetes.io/node-selector": "disk=ssd, zone=a",
            "scheduler.alpha.kubernetes.io/defaultTolerations": '[{"key":"k","operator":"Exists"}]'}}
        o.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        wait_for(lambda: o.try_kubectl("-n", "ns", "get", "serviceaccount", "default").code == 0,
                 "the ServiceAccount default")
        p = pod("p")
        p["spec"]["containers"][0].update(imagePullPolicy="Never", resources={
            "requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "1"}})
        spec = o.api("POST", "/api/v1/namespaces/ns/pods", p)["spec"]
        equal((spec["containers"][0]["imagePullPolicy"], spec["nodeSelector"]),
              ("Always", {"disk": "ssd", "zone": "a"}))
        tolerated = [t["key"] for t in spec["tolerations"]]
        for key in "k", "example.com/gpu":
            equal(tolerated.count(key), 1, f"tolerations of {key} in {tolerated}")
        status, _, text = o.raw("POST", "/api/v1/namespaces/ns/pods", pod("q", nodeSelector={"zone": "b"}))
        equal((status, json.loads(text)["message"]),
              (403, 'pods "q" is forbidden: pod node label selector conflicts with its namespace node '
                    'label selector'))
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
                   "spec": {"ports": [{"port": 80}], "externalIPs": ["192.0.2.1"]}}
        status, _, text = o.raw("POST", "/api/v1/namespaces/ns/services", service)
        equal((status, json.loads(text)["message"]),
              (403, 'services "s" is forbidden: Use of external IPs is denied by admission control'))


if __name__ == "__main__":
    run(s)
