#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The audit log: levels, stages, fields and annotations as upstream's; rotation; a webhook."""
import gzip
import http.server
import json
import os
import threading
from lib import Server, check, equal, run, temp_dir, wait_for

DIR = temp_dir()
LOG = os.path.join(DIR, "log", "audit.log")
POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"]
- level: None
  userGroups: ["system:serviceaccounts", "system:nodes"]
- level: None
  nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/metrics"]
- level: Metadata
  resources: [{group: "", resources: ["secrets"]}]
- level: RequestResponse
  omitManagedFields: true
  namespaces: ["full"]
  resources: [{group: "", resources: ["configmaps"]}]
- level: RequestResponse
  resources: [{group: authorization.k8s.io, resources: ["subjectaccessreviews"]}]
- level: Request
  omitStages: []
  verbs: ["create"]
  resources: [{group: "", resources: ["namespaces"]}]
- level: Metadata
"""


class Sink(http.server.BaseHTTPRequestHandler):
    batches, refuse = [], 1
    callers = set()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Sink.callers.add(self.headers.get("Authorization"))
        if Sink.refuse:
            Sink.refuse -= 1
            self.send_response(503)
        else:
            Sink.batches.append(json.loads(body))
            self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def write(name, text):
    path = os.path.join(DIR, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
threading.Thread(target=sink.serve_forever, daemon=True).start()
HOOK = write("hook.yaml", f"""
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{sink.server_port}/audit"}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
users:
- name: u
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      command: sh
      args:
      - -c
      - |
        echo "apiVersion: client.authentication.k8s.io/v1beta1"
        echo "kind: ExecCredential"
        echo "status: {{token: $NAME}}"
      env: [{{name: NAME, value: made-for-audit}}]
""")
server = Server("--datastore-endpoint", "memory://", "--audit-policy-file",
                write("policy.yaml", POLICY), "--audit-log-path", LOG, "--audit-log-maxsize", "1",
                "--audit-log-maxbackup", "2", "--audit-webhook-config-file", HOOK,
                "--audit-webhook-batch-max-wait", "100ms", "--audit-webhook-initial-backoff", "50ms")


def read_events(path=None):
    with open(path or LOG, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.endswith("\n")]


def find(**want):
    """The events with these fields; waits until there is one."""
    def look():
        return [e for e in read_events() if all(
            (e.get("objectRef", {}).get(k) if k in ("resource", "name", "namespace", "subresource")
             else e.get(k)) == v for k, v in want.items())]
    return wait_for(look, f"an event {want}")


def test_metadata():
    server.start()
    server.kubectl("create", "secret", "generic", "s1", "--from-literal=password=hush-hush")
    e = find(verb="create", resource="secrets", name="s1")[0]
    equal(e["kind"] + " " + e["apiVersion"], "Event audit.k8s.io/v1")
    equal((e["level"], e["stage"]), ("Metadata", "ResponseComplete"))
    equal(e["requestURI"].split("?")[0], "/api/v1/namespaces/default/secrets")
    equal(e["user"]["username"], "system:admin")
    check("system:masters" in e["user"]["groups"], e["user"])
    equal(e["sourceIPs"], ["127.0.0.1"])
    check(e["userAgent"].startswith("kubectl"), e["userAgent"])
    equal(e["objectRef"], {"resource": "secrets", "namespace": "default", "name": "s1",
                           "apiVersion": "v1"})
    equal(e["responseStatus"], {"metadata": {}, "code": 201})
    equal(e["annotations"]["authorization.k8s.io/decision"], "allow")
    check("requestObject" not in e and "responseObject" not in e, "objects at Metadata")
    with open(LOG, encoding="utf-8") as f:
        check("hush-hush" not in f.read() and "aHVzaC1odXNo" not in f.read(), "a secret in the log")


def test_request_and_response():
    server.kubectl("create", "namespace", "full")
    e = find(verb="create", resource="namespaces", name="full")
    equal([x["stage"] for x in e], ["ResponseComplete"])
    equal(e[0]["requestObject"]["metadata"]["name"], "full")
    equal(e[0]["requestObject"]["kind"], "Namespace")
    check("responseObject" not in e[0], "a response at Request")
    server.kubectl("-n", "full", "create", "configmap", "c1", "--from-literal=a=b")
    e = find(verb="create", resource="configmaps", name="c1")[0]
    equal(e["requestObject"]["data"], {"a": "b"})
    equal(e["responseObject"]["data"], {"a": "b"})
    check(e["responseObject"]["metadata"]["uid"], "the response has what was stored")
    check("managedFields" not in e["responseObject"]["metadata"], "managedFields are left out")
    server.kubectl("-n", "full", "patch", "configmap", "c1", "-p", '{"data":{"a":"c"}}')
    e = find(verb="patch", resource="configmaps", name="c1")[0]
    equal(e["requestObject"], {"data": {"a": "c"}})
    server.kubectl("-n", "full", "get", "configmaps", "-o", "json")
    e = find(verb="list", resource="configmaps", namespace="full")[-1]
    equal(e["responseObject"]["kind"], "ConfigMapList")
    equal([i["data"] for i in e["responseObject"]["items"] if i["metadata"]["name"] == "c1"],
          [{"a": "c"}])


def test_request_that_admission_changed():
    """Of a review too the request is what was sent."""
    adm = "/apis/admissionregistration.k8s.io/v1/"
    server.api("POST", adm + "mutatingadmissionpolicies", {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "reviews"}, "spec": {
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [
                {"operations": ["CREATE"], "apiGroups": ["authorization.k8s.io"],
                 "apiVersions": ["v1"], "resources": ["subjectaccessreviews"]}]},
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {
                "expression": "Object{spec: Object.spec{user: 'made-up'}}"}}]}})
    server.api("POST", adm + "mutatingadmissionpolicybindings", {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": "reviews"}, "spec": {"policyName": "reviews"}})
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
              "spec": {"user": "sent", "nonResourceAttributes": {"path": "/x", "verb": "get"}}}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    wait_for(lambda: server.api("POST", path, review)["spec"]["user"] == "made-up", "the policy")
    e = wait_for(lambda: [x for x in find(verb="create", resource="subjectaccessreviews")
                          if x["responseObject"]["spec"]["user"] == "made-up"], "the review")[0]
    equal(e["requestObject"]["spec"]["user"], "sent")
    for plural in ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings"):
        server.api("DELETE", f"{adm}{plural}/reviews")


def test_lists():
    """A list in the event is the one that was answered, in whatever form that was."""
    connection = server.connect()
    configmaps = "/api/v1/namespaces/full/configmaps"
    for i in range(70):
        server.api("POST", configmaps, {"metadata": {"name": f"l{i}"}, "data": {"i": "x" * 100}},
                   connection=connection)
    names = sorted(i["metadata"]["name"] for i in server.api("GET", configmaps)["items"])
    forms = ["application/json", "application/vnd.kubernetes.protobuf", "application/yaml",
             "application/json;as=Table;v=v1;g=meta.k8s.io"]
    for n, form in enumerate(forms):
        status, _, _ = server.raw("GET", configmaps, connection=connection,
                                  headers={"Accept": form, "Audit-ID": f"list-{n}"})
        equal(status, 200)
        e = find(auditID=f"list-{n}")[0]
        equal(sorted(i["metadata"]["name"] for i in e["responseObject"]["items"]), names, form)
        check(not any("managedFields" in i["metadata"] for i in e["responseObject"]["items"]), form)
        check("audit.k8s.io/truncated" not in e["annotations"], e["annotations"])
    server.raw("GET", f"{configmaps}?limit=2", headers={"Audit-ID": "list-limit"})
    e = find(auditID="list-limit")[0]["responseObject"]
    equal(len(e["items"]), 2)
    equal(e["metadata"]["remainingItemCount"], len(names) - 2)
    server.raw("GET", f"{configmaps}?labelSelector=no%3Dsuch", headers={"Audit-ID": "list-none"})
    equal(find(auditID="list-none")[0]["responseObject"]["items"], [])


def test_failures():
    server.kubectl_fails("get", "configmap", "nothing")
    e = find(verb="get", resource="configmaps", name="nothing")[0]
    equal({k: e["responseStatus"][k] for k in ("status", "reason", "code")},
          {"status": "Failure", "reason": "NotFound", "code": 404})
    equal(e["responseStatus"]["details"], {"name": "nothing", "kind": "configmaps"})
    server.kubectl_fails("get", "pods", "--as", "jane", "--as-group", "people")
    e = find(verb="list", resource="pods")[-1]
    equal(e["impersonatedUser"]["username"], "jane")
    check("people" in e["impersonatedUser"]["groups"], e["impersonatedUser"])
    equal(e["user"]["username"], "system:admin")
    equal(e["annotations"]["authorization.k8s.io/decision"], "forbid")
    equal(e["responseStatus"]["code"], 403)


def test_refused_before_anybody_is_known():
    """One event each, as WithFailedAuthenticationAudit and withFailedRequestAudit write."""
    for audit_id, query, headers, status, message, reason in (
            ("stranger", "", {"Authorization": "Bearer nonsense"}, 401, "Unauthorized", "Unauthorized"),
            ("bad-timeout", "?timeout=x", {}, 400, "invalid timeout specified in the request URL - "
             'time: invalid duration "x"', "BadRequest")):
        c = server.connect(anonymous=True)
        got = server.raw("GET", "/api/v1/pods" + query, None, {"Audit-ID": audit_id, **headers}, c)
        c.close()
        equal((got[0], got[1]["audit-id"]), (status, audit_id))
        events = find(auditID=audit_id)
        equal([(e["stage"], e["verb"], e["user"]) for e in events], [("ResponseStarted", "list", {})])
        equal(events[0]["responseStatus"], {"metadata": {}, "status": "Failure", "message": message,
                                            "reason": reason, "code": status})


def test_allowed_reason():
    server.kubectl("create", "clusterrolebinding", "view-jane", "--clusterrole=view", "--user=jane")
    server.kubectl("get", "services", "--as", "jane")
    e = find(verb="list", resource="services")[-1]
    equal(e["annotations"]["authorization.k8s.io/reason"],
          'RBAC: allowed by ClusterRoleBinding "view-jane" of ClusterRole "view" to User "jane"')


def test_audit_id_and_watch():
    status, headers, _ = server.raw("GET", "/api/v1/namespaces/full", headers={"Audit-ID": "my-id-1"})
    equal(status, 200)
    equal(headers["Audit-Id"], "my-id-1")
    equal(find(auditID="my-id-1")[0]["verb"], "get")
    server.raw("GET", "/api/v1/namespaces?watch=1&timeoutSeconds=1", headers={"Audit-ID": "watch-1"})
    wait_for(lambda: len(find(auditID="watch-1")) == 2, "both stages of a watch")
    equal([e["stage"] for e in find(auditID="watch-1")], ["ResponseStarted", "ResponseComplete"])


def test_webhook():
    def got():
        return [e for b in Sink.batches for e in b["items"] if e["auditID"] == "my-id-1"]
    wait_for(got, "the event at the webhook, after it refused once")
    equal(Sink.refuse, 0)
    equal(Sink.callers, {"Bearer made-for-audit"})
    equal(Sink.batches[0]["kind"] + " " + Sink.batches[0]["apiVersion"], "EventList audit.k8s.io/v1")


def test_rotation():
    connection = server.connect()
    long = "x" * 900

    def old():
        return [n for n in os.listdir(os.path.dirname(LOG)) if n.startswith("audit-")]

    def more():
        for _ in range(300):
            server.raw("GET", f"/api/v1/namespaces/full?{long}", connection=connection)
        return len(old()) >= 2
    wait_for(more, "two files of a MiB", 60)
    for name in old():
        path = os.path.join(os.path.dirname(LOG), name)
        check(os.path.getsize(path) <= 1 << 20, f"{name} is too large")
        check(read_events(path), f"{name} has whole lines")
    more()
    wait_for(lambda: len(old()) <= 2, "no more than two old files")
    equal(server.stop(), 0)


def test_list_that_is_too_long():
    """Above 32 MiB items are left out, and the event says so."""
    log, configmaps = os.path.join(DIR, "long", "audit.log"), "/api/v1/namespaces/full/configmaps"
    with Server("--datastore-endpoint", "memory://", "--audit-policy-file",
                os.path.join(DIR, "policy.yaml"), "--audit-log-path", log) as s:
        connection = s.connect()
        s.api("POST", "/api/v1/namespaces", {"metadata": {"name": "full"}}, connection=connection)
        for i in range(36):
            s.api("POST", configmaps, {"metadata": {"name": f"big{i}"},
                                       "data": {"i": "x" * 1_000_000}}, connection=connection)
        s.raw("GET", configmaps, connection=connection, headers={"Audit-ID": "list-big"})
        equal(s.stop(), 0)
    e = [e for e in read_events(log) if e["auditID"] == "list-big"][0]
    equal(e["annotations"]["audit.k8s.io/truncated"], "true")
    names = [i["metadata"]["name"] for i in e["responseObject"]["items"]]
    check(30 <= len(names) < 36 and names[0] == "big0", names)


def test_end_without_the_webhook():
    """A webhook that is away keeps no server from stopping; old files are packed meanwhile."""
    log = os.path.join(DIR, "packed", "audit.log")
    dead = http.server.HTTPServer(("127.0.0.1", 0), Sink)
    with open(HOOK, encoding="utf-8") as f:
        hook = write("dead.yaml", f.read().replace(f":{sink.server_port}/", f":{dead.server_port}/"))
    dead.server_close()
    s = Server("--datastore-endpoint", "memory://", "--audit-policy-file",
               os.path.join(DIR, "policy.yaml"), "--audit-log-path", log, "--audit-log-maxsize", "1",
               "--audit-log-compress", "--audit-webhook-config-file", hook,
               "--audit-webhook-batch-max-wait", "10ms", "--audit-webhook-batch-max-size", "5",
               "--audit-webhook-initial-backoff", "1h")
    with s:
        connection = s.connect()

        def packed():
            for _ in range(300):
                s.raw("GET", f"/api/v1/namespaces/default?{'x' * 900}", connection=connection)
            return [n for n in os.listdir(os.path.dirname(log)) if n.endswith(".gz") and
                    n[:-3] not in os.listdir(os.path.dirname(log))]
        names = wait_for(packed, "an old file that is packed", 60)
        with gzip.open(os.path.join(os.path.dirname(log), names[0]), "rt", encoding="utf-8") as f:
            check(all(json.loads(line)["kind"] == "Event" for line in f), "whole lines")
        equal(s.stop(), 0)
        check("more events are lost at the end" in s.log_tail(), s.log_tail())


def test_bad_policy():
    bad = write("bad.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Much}]\n")
    s = Server("--datastore-endpoint", "memory://", "--audit-policy-file", bad,
               "--audit-log-path", "-")
    s.start(wait=False)
    equal(s.proc.wait(240), 1)
    check('rules[0].level: Unsupported value: "Much"' in s.log_tail(), s.log_tail())


run()
