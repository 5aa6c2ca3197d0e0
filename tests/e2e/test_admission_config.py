#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""--admission-control-config-file and the plug-ins that are off unless they are asked for."""
import base64
import http.server
import json
import os
import ssl
import subprocess
import threading
from lib import KINGLET, Server, config_map, equal, free_port, holds, pod, run, temp_dir, wait_for

DIR = temp_dir()
POLICY = os.path.join(DIR, "images.kubeconfig")
USERS = os.path.join(DIR, "users.kubeconfig")


def write(name, value):
    path = os.path.join(DIR, name)
    with open(path, "w") as f:
        f.write(value if isinstance(value, str) else json.dumps(value))
    return path


# ---- a program that is asked: about images (plain HTTP), and as an admission webhook (HTTPS)

asked = []
callers = []  # by certificate


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def refuse(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.partition("?")[0]
        asked.append((path, self.headers.get("Authorization"), review))
        if path == "/checked":
            callers.append((self.connection.getpeercert() or {}).get("subject"))
        if self.headers["Authorization"] == "Bearer made-1":
            return self.refuse(401)
        if self.path == "/images":
            images = [c["image"] for c in review["spec"]["containers"]]
            if "broken" in images:
                return self.refuse(500)
            review["status"] = {"allowed": "evil" not in images, "auditAnnotations": {"seen": "yes"}}
            if "evil" in images:
                review["status"]["reason"] = "evil is evil"
        else:
            review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                      "response": {"uid": review["request"]["uid"], "allowed": True}}
        data = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


def serve(tls=None):
    s = Quiet(("127.0.0.1", 0), Handler)
    if tls:
        s.socket = tls.wrap_socket(s.socket, server_side=True)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    return s.server_address[1]


KEY, CERT = os.path.join(DIR, "key.pem"), os.path.join(DIR, "cert.pem")
subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                "/CN=hooks", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", KEY, "-out", CERT],
               check=True, capture_output=True)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERT, KEY)
context.load_verify_locations(CERT)
context.verify_mode = ssl.CERT_OPTIONAL
HOOK = serve(context)
write("images.kubeconfig", {
    "apiVersion": "v1", "kind": "Config", "current-context": "c",
    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{serve()}/images"}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    "users": [{"name": "u", "user": {"exec": {
        "apiVersion": "client.authentication.k8s.io/v1beta1", "command": "sh", "args": ["-c", "echo '%s'" % json.dumps(
            {"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential",
             "status": {"token": "for-images"}})]}}}]})
write("users.kubeconfig", {"apiVersion": "v1", "kind": "Config", "users": [
    {"name": f"*.0.0.1:{HOOK}", "user": {"token": "for-hooks"}}, {"name": "*", "user": {"token": "no"}}]})
# A program that makes credentials: a token, from the second run on a certificate too.
RUNS = os.path.join(DIR, "runs")
MAKER = write("maker", f"""#!/usr/bin/env python3
import json, os
with open({RUNS!r}, "a+") as f:
    f.write(os.environ["KUBERNETES_EXEC_INFO"])
    f.seek(0)
    n = len(f.readlines())
status = {{"token": "made-%d" % n}}
if n > 1:
    status.update(clientCertificateData=open({CERT!r}).read(), clientKeyData=open({KEY!r}).read())
print(json.dumps({{"apiVersion": os.environ["VERSION"], "kind": "ExecCredential", "status": status}}))
""")
os.chmod(MAKER, 0o700)
V1 = "client.authentication.k8s.io/v1"
EXECS = write("execs.kubeconfig", {"apiVersion": "v1", "kind": "Config", "users": [{"name": "*", "user": {
    "exec": {"apiVersion": V1, "command": "./maker", "interactiveMode": "Never",
             "provideClusterInfo": True, "env": [{"name": "VERSION", "value": V1}]}}}]})
write("quota.yaml", """
apiVersion: apiserver.config.k8s.io/v1
kind: ResourceQuotaConfiguration
limitedResources:
- resource: persistentvolumeclaims
  matchContains: [.storageclass.storage.k8s.io/requests.storage]
- resource: pods
  matchScopes:
  - {scopeName: PriorityClass, operator: In, values: [cluster-services]}
""")


def section(name, kind, version="apiserver.config.k8s.io/v1", **fields):
    return {"name": name, "configuration": dict(apiVersion=version, kind=kind, **fields)}


def config(*plugins):
    return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
            "plugins": list(plugins)}


ON = ("NamespaceAutoProvision,EventRateLimit,OwnerReferencesPermissionEnforcement,ImagePolicyWebhook,"
      "PodNodeSelector,PodTolerationRestriction")
FILE = write("admission.json", config(
    section("PodSecurity", "PodSecurityConfiguration", "pod-security.admission.config.k8s.io/v1",
            defaults={"enforce": "baseline", "enforce-version": "v1.30", "warn": "restricted"},
            exemptions={"namespaces": ["exempt"], "usernames": ["priv"], "runtimeClasses": ["kata"]}),
    section("EventRateLimit", "Configuration", "eventratelimit.admission.k8s.io/v1alpha1",
            limits=[{"type": "Namespace", "qps": 1, "burst": 2}]),
    {"name": "ResourceQuota", "path": "quota.yaml"},
    {"name": "ImagePolicyWebhook", "configuration": {"imagePolicy": {
        "kubeConfigFile": POLICY, "allowTTL": 60, "denyTTL": -1, "retryBackoff": 1, "defaultAllow": True}}},
    {"name": "PodNodeSelector", "configuration": {"podNodeSelectorPluginConfig": {
        "clusterDefaultNodeSelector": "pool=shared", "narrow": "pool=shared,disk=ssd"}}},
    section("PodTolerationRestriction", "Configuration",
            "podtolerationrestriction.admission.k8s.io/v1alpha1",
            default=[{"key": "spot", "operator": "Exists"}]),
    section("ValidatingAdmissionWebhook", "WebhookAdmissionConfiguration", kubeConfigFile=EXECS),
    section("MutatingAdmissionWebhook", "WebhookAdmissionConfiguration", kubeConfigFile=USERS)))
s = Server("--datastore-endpoint", "memory://", "--disable", "scheduler",
           "--kube-apiserver-arg", f"enable-admission-plugins={ON}",
           "--kube-apiserver-arg", f"admission-control-config-file={FILE}")


def post(path, obj, headers=None, connection=None):
    status, head, text = s.raw("POST", path, obj, headers=headers, connection=connection)
    return status, json.loads(text), head.get_all("Warning") or []


def namespace(name, **meta):
    equal(post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace",
                                      "metadata": dict(meta, name=name)})[0], 201)
    ready(name)


def ready(name):
    wait_for(lambda: s.try_kubectl("-n", name, "get", "serviceaccount", "default").code == 0,
             f"the ServiceAccount default of {name}")


def pods(ns):
    return f"/api/v1/namespaces/{ns}/pods"


# ---- plug-ins

def test_auto_provision():
    status, made, _ = post("/api/v1/namespaces/made/configmaps", config_map("c"))
    equal((status, made["metadata"]["namespace"]), (201, "made"))
    equal(s.get("/api/v1/namespaces/made")["status"]["phase"], "Active")
    equal(post("/api/v1/namespaces/dry/configmaps?dryRun=All", config_map("c"))[0], 404)
    status, answer, _ = post("/api/v1/namespaces/Not_a_name/configmaps", config_map("c"))
    equal(status, 403)
    holds(answer["message"], r'^configmaps "c" is forbidden: Namespace "Not_a_name" is invalid: metadata.name')


def test_pod_security():
    namespace("secure")
    status, answer, _ = post(pods("secure"), pod("host", hostNetwork=True))
    equal((status, answer["message"]),
          (403, 'pods "host" is forbidden: violates PodSecurity "baseline:v1.30": host namespaces '
                '(hostNetwork=true)'))
    status, answer, warnings = post(pods("secure"), pod("plain"))
    equal(status, 201, f"answer {answer}")
    holds(warnings[0], r'would violate PodSecurity \\"restricted:latest\\": allowPrivilegeEscalation')
    status, answer, warnings = post("/api/v1/namespaces", {
        "apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": "exempt", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    equal((status, warnings), (201, ['299 - "namespace \\"exempt\\" is exempt from Pod Security, and the '
                                     'policy (enforce=restricted:v1.30) will be ignored"']))
    ready("exempt")
    equal(post(pods("exempt"), pod("host", hostNetwork=True))[0], 201)


def test_limited_quota():
    namespace("limited")
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
             "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                      "resources": {"requests": {"storage": "1Gi"}}}}
    path = "/api/v1/namespaces/limited/persistentvolumeclaims"
    status, answer, _ = post(path, claim)
    equal((status, answer["message"]),
          (403, 'persistentvolumeclaims "c" is forbidden: insufficient quota to consume: '
                'fast.storageclass.storage.k8s.io/requests.storage'))
    hard = {"fast.storageclass.storage.k8s.io/requests.storage": "5Gi"}
    s.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
             "spec": {"hard": hard}}, namespace="limited")
    quota = "/api/v1/namespaces/limited/resourcequotas/q"
    wait_for(lambda: s.get(quota).get("status", {}).get("used"), "the quota is counted")
    equal(post(path, claim)[0], 201)
    s.apply({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 10,
             "metadata": {"name": "cluster-services"}})
    status, answer, _ = post(pods("limited"), pod("p", priorityClassName="cluster-services"))
    equal((status, answer["message"]),
          (500, "insufficient quota to match these scopes: [{PriorityClass In [cluster-services]}]"))


def test_placement():
    namespace("narrow")
    status, made, _ = post(pods("narrow"), pod("p"))
    equal((status, made["spec"]["nodeSelector"]), (201, {"pool": "shared"}))
    equal([t["key"] for t in made["spec"]["tolerations"] if t["key"] == "spot"], ["spot"])
    status, answer, _ = post(pods("narrow"), pod("q", nodeSelector={"zone": "a"}))
    equal((status, answer["message"]),
          (403, 'pods "q" is forbidden: pod node label selector labels conflict with its namespace '
                'whitelist'))
    equal(post(pods("narrow"), pod("r", nodeSelector={"disk": "ssd"}))[0], 201)


def test_images():
    namespace("images")

    def reviews():
        return [r for path, _, r in asked if path == "/images" and r["spec"]["namespace"] == "images"]
    evil = pod("evil", annotations={"a.image-policy.k8s.io/ticket": "1", "other": "2"})
    evil["spec"]["containers"][0]["image"] = "evil"
    for _ in range(2):  # a refusal is not kept
        status, answer, _ = post(pods("images"), evil)
        equal((status, answer["message"]),
              (403, 'pods "evil" is forbidden: image policy webhook backend denied one or more images: '
                    'evil is evil'))
    equal(len(reviews()), 2)
    review = reviews()[0]
    equal((review["apiVersion"], review["kind"], review["spec"]),
          ("imagepolicy.k8s.io/v1alpha1", "ImageReview",
           {"containers": [{"image": "evil"}], "namespace": "images"}))
    equal({a for path, a, _ in asked if path == "/images"}, {"Bearer for-images"})
    same = s.connect()  # each loop of the server keeps answers of its own
    for name in "good", "better":  # a consent is kept
        equal(post(pods("images"), pod(name), connection=same)[0], 201)
    same.close()
    equal(len(reviews()), 3)


def test_images_failed_open():
    """Who validates after the plug-in sees that nobody vouched for the images; the stored pod does not."""
    namespace("open")
    group = "/apis/admissionregistration.k8s.io/v1/"
    key = "alpha.image-policy.k8s.io/failed-open"
    rules = [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]
    for plural, kind, spec in (
            ("validatingadmissionpolicies", "ValidatingAdmissionPolicy",
             {"matchConstraints": {"resourceRules": rules}, "validations": [
                 {"expression": f"object.metadata.?annotations['{key}'].orValue('') != 'true'",
                  "message": "nobody vouches for it"}]}),
            ("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding",
             {"policyName": "open", "validationActions": ["Deny"], "matchResources": {
                 "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "open"}}}})):
        equal(post(group + plural, {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
                                    "metadata": {"name": "open"}, "spec": spec})[0], 201)
    broken = pod("broken")
    broken["spec"]["containers"][0]["image"] = "broken"
    status, answer, _ = post(pods("open"), broken)
    equal(status, 422, f"answer {answer}")
    holds(answer["message"], "nobody vouches for it$")
    tries = [r for path, _, r in asked if path == "/images" and r["spec"]["namespace"] == "open"]
    equal(len(tries), 5)
    s.api("DELETE", group + "validatingadmissionpolicybindings/open")
    status, made, _ = post(pods("open"), broken)
    equal((status, key in made["metadata"].get("annotations", {})), (201, False))


def test_event_rate():
    namespace("events")

    def event(name, **query):
        obj = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "events"},
               "involvedObject": {"kind": "Pod", "namespace": "events", "name": "p"}}
        return post("/api/v1/namespaces/events/events" + query.get("query", ""), obj)
    answers = [event(f"e{i}") for i in range(20)]
    equal([a[0] for a in answers[:2]], [201, 201])
    status, answer, _ = next(a for a in answers if a[0] != 201)
    equal((status, answer["reason"], answer["message"]),
          (429, "TooManyRequests", "limit reached on type Namespace for key events"))
    equal(event("dry", query="?dryRun=All")[0], 201)
    wait_for(lambda: event("later")[0] == 201, "the bucket fills")


def test_owner_permissions():
    namespace("owned")
    s.apply({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "w"},
             "rules": [{"apiGroups": [""], "resources": ["configmaps"],
                        "verbs": ["create", "get", "update", "patch"]}]}, namespace="owned")
    s.apply({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "w"},
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "w"},
             "subjects": [{"kind": "User", "name": "eve"}]}, namespace="owned")
    eve, path = {"Impersonate-User": "eve"}, "/api/v1/namespaces/owned/configmaps"
    uid = post(path, config_map("o"))[1]["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": uid}
    equal(post(path, config_map("free", ownerReferences=[owner]), eve)[0], 201)
    blocking = dict(owner, blockOwnerDeletion=True)
    status, answer, _ = post(path, config_map("b", ownerReferences=[blocking]), eve)
    equal((status, answer["message"]),
          (403, 'configmaps "b" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers '
                "to a resource you can't set finalizers on: , <nil>"))
    status, answer, _ = post(path, config_map("b", ownerReferences=[dict(blocking, kind="Foo")]), eve)
    equal((status, answer["message"]),
          (403, 'configmaps "b" is forbidden: cannot set blockOwnerDeletion in this case because cannot '
                'find RESTMapping for APIVersion v1 Kind Foo: no matches for kind "Foo" in version "v1"'))
    equal(post(path, config_map("b", ownerReferences=[blocking]))[0], 201)
    status, _, text = s.raw("PUT", path + "/free", config_map("free"), headers=eve)
    equal((status, json.loads(text)["message"]),
          (403, 'configmaps "free" is forbidden: cannot set an ownerRef on a resource you can\'t delete: '
                ', <nil>'))


def test_webhook_user():
    with open(CERT, "rb") as f:
        ca = base64.b64encode(f.read()).decode()
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    rules = [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
              "resources": ["configmaps"]}]
    equal(post(path, {"apiVersion": "admissionregistration.k8s.io/v1", "kind":
                      "MutatingWebhookConfiguration", "metadata": {"name": "m"}, "webhooks": [{
                          "name": "m.example.com", "rules": rules, "sideEffects": "None",
                          "admissionReviewVersions": ["v1"], "clientConfig": {
                              "url": f"https://127.0.0.1:{HOOK}/hook", "caBundle": ca}}]})[0], 201)
    equal(post("/api/v1/namespaces/default/configmaps", config_map("hooked"))[0], 201)
    s.api("DELETE", f"{path}/m")
    equal({a for p, a, _ in asked if p == "/hook"}, {"Bearer for-hooks"})


def test_webhook_user_by_program():
    """It runs once; when its token is refused it runs again, for the next call."""
    with open(CERT, "rb") as f:
        ca = base64.b64encode(f.read()).decode()
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    rules = [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
              "resources": ["configmaps"]}]
    equal(post(path, {"apiVersion": "admissionregistration.k8s.io/v1", "kind":
                      "ValidatingWebhookConfiguration", "metadata": {"name": "v"}, "webhooks": [{
                          "name": "v.example.com", "rules": rules, "sideEffects": "None",
                          "objectSelector": {"matchLabels": {"checked": "yes"}},
                          "admissionReviewVersions": ["v1"], "clientConfig": {
                              "url": f"https://127.0.0.1:{HOOK}/checked", "caBundle": ca}}]})[0], 201)
    same = s.connect()  # each loop of the server has a program of its own when it tells it the cluster
    answers = [post("/api/v1/namespaces/default/configmaps", config_map(
        f"checked-{i}", labels={"checked": "yes"}), connection=same) for i in range(3)]
    same.close()
    s.api("DELETE", f"{path}/v")
    equal([a[0] for a in answers], [500, 201, 201])
    holds(answers[0][1]["message"], 'failed calling webhook "v.example.com": failed to call webhook: the '
                                    "server has asked for the client to provide credentials")
    equal([a for p, a, _ in asked if p == "/checked"], ["Bearer made-1", "Bearer made-2", "Bearer made-2"])
    hooks = ((("commonName", "hooks"),),)
    equal(callers, [None, hooks, hooks])
    with open(RUNS) as f:
        told = [json.loads(line) for line in f]
    equal(told, [{"kind": "ExecCredential", "apiVersion": V1, "spec": {"interactive": False, "cluster": {
        "server": f"https://127.0.0.1:{HOOK}", "certificate-authority-data": ca, "config": None}}}] * 2)


# ---- bad configurations

def refused(value, plugins="EventRateLimit"):
    """What the server says of a configuration that it does not start with."""
    path = write("bad.json", value)
    r = subprocess.run([KINGLET, "server", "--data-dir", temp_dir(), "--disable-agent", "--bind-address",
                        "127.0.0.1", "--https-listen-port", str(free_port()), "--datastore-endpoint",
                        "memory://", "--kube-apiserver-arg", f"enable-admission-plugins={plugins}",
                        "--kube-apiserver-arg", f"admission-control-config-file={path}"],
                       capture_output=True, text=True, timeout=240)
    equal(r.returncode != 0, True, "it does not start")
    return r.stderr + r.stdout


def test_refused():
    limits = [{"type": "Pod", "qps": 0, "burst": 1}]
    event = "eventratelimit.admission.k8s.io/v1alpha1"
    for value, want in [
            (config(section("EventRateLimit", "Configuration", event, limits=limits)),
             r"""couldn't init admission plugin "EventRateLimit": \[limits\[0\].type: Unsupported value: """
             r'"Pod": supported values: "Namespace", "Server", "SourceAndObject", "User", limits\[0\].qps: '
             r"Invalid value: 0: must be positive\]"),
            (config(section("EventRateLimit", "Configuration", event, limits=[dict(limits[0], qps="x")])),
             r"json: cannot unmarshal string into Go struct field Limit.limits.qps of type int32"),
            (config(), r"""couldn't init admission plugin "EventRateLimit": limits: Invalid value: null: """
                       r"must not be empty"),
            (dict(config(), plugin=[]),
             r'failed to read plugin config: strict decoding error: unknown field "plugin"'),
            ({"kind": "Foo", "apiVersion": "v1"}, r'no kind "Foo" is registered for version "v1"'),
            ({"kind": "Foo"}, r"Object 'apiVersion' is missing in '{\"kind\":\"Foo\"}'"),
    ]:
        holds(refused(value), want)
    bad = section("PodSecurity", "PodSecurityConfiguration", "pod-security.admission.config.k8s.io/v1",
                  defaults={"enforce": "strict", "audit-version": "1.2"},
                  exemptions={"namespaces": ["A", "b", "b"], "usernames": [""]})
    said = refused(config(bad), "PodNodeSelector")
    holds(said, r'\[defaults.enforce: Invalid value: "strict": must be one of privileged, baseline, '
                r'restricted, defaults.audit-version: Invalid value: "1.2": must be "latest" or "v1.x", '
                r'exemptions.namespaces\[0\]: Invalid value: "A": a lowercase RFC 1123 label must consist',
          r'exemptions.namespaces\[2\]: Duplicate value: "b", exemptions.usernames\[0\]: Invalid value: "": '
          r'username must not be empty\]')
    holds(refused(config(), "ImagePolicyWebhook"),
          r"""couldn't init admission plugin "ImagePolicyWebhook": no config specified""")


if __name__ == "__main__":
    run(s)
