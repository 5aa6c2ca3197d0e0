#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
"""Admission webhooks and policies: a webhook server of our own, kubectl's words for what comes of it."""
import base64
import http.server
import json
import os
import re
import socket
import ssl
import subprocess
import threading
from lib import Server, Skip, check, config_map, equal, holds, run, temp_dir, wait_for

server = Server("--datastore-endpoint", "memory://")
NS = "/api/v1/namespaces/default/configmaps"
ADM = "/apis/admissionregistration.k8s.io/v1/"
CMS = {"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"],
       "resources": ["configmaps"]}


# ---- the webhook server

class Hooks:
    """Answers AdmissionReviews by functions of their path; remembers what was asked."""

    def __init__(self):
        self.dir = temp_dir()
        self.key, self.cert = (os.path.join(self.dir, n) for n in ("key.pem", "cert.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-subj", "/CN=hooks", "-addext", "subjectAltName=IP:127.0.0.1,DNS:hooks.default.svc",
                        "-keyout", self.key, "-out", self.cert], check=True, capture_output=True)
        self.answers, self.asked, self.lock = {}, [], threading.Lock()
        self.release = threading.Event()
        hooks = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                text = self.rfile.read(int(self.headers["Content-Length"]))
                path, _, query = self.path.partition("?")
                review = json.loads(text)
                if review["request"].get("name") != "kube-root-ca.crt":  # a controller's
                    with hooks.lock:
                        hooks.asked.append((path, query, review["request"]))
                hooks.answers[path](self, review)

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):  # a caller that went away
                pass

        self.http = Quiet(("", 0), Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.cert, self.key)
        self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def client(self, path):
        with open(self.cert, "rb") as f:
            ca = base64.b64encode(f.read()).decode()
        return {"url": f"https://127.0.0.1:{self.http.server_address[1]}{path}", "caBundle": ca}

    def on(self, path, **response):
        """Answers with a response; `patch` is a list of operations."""
        def answer(handler, review):
            r = dict(response, uid=review["request"]["uid"])
            r.setdefault("allowed", True)
            if "patch" in r:
                r["patch"] = base64.b64encode(json.dumps(r["patch"]).encode()).decode()
                r["patchType"] = "JSONPatch"
            send(handler, {"apiVersion": review["apiVersion"], "kind": "AdmissionReview",
                           "response": r})
        self.answers[path] = answer

    def calls(self, path):
        with self.lock:
            return [r for p, _, r in self.asked if p == path]

    def forget(self):
        with self.lock:
            self.asked.clear()


def send(handler, body, status=200):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


hooks = Hooks()


def webhook(name, path, rules=None, **more):
    return dict({"name": name, "clientConfig": hooks.client(path), "rules": rules or [CMS],
                 "admissionReviewVersions": ["v1"], "sideEffects": "None"}, **more)


class Config:
    """A configuration that is there for a while."""

    def __init__(self, kind, name, *webhooks):
        self.path = f"{ADM}{kind.lower()}s"
        self.name = name
        self.object = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
                       "metadata": {"name": name}, "webhooks": list(webhooks)}

    def __enter__(self):
        hooks.forget()
        server.api("POST", self.path, self.object)

    def __exit__(self, *_):
        server.api("DELETE", f"{self.path}/{self.name}")


def mutating(*webhooks, name="m"):
    return Config("MutatingWebhookConfiguration", name, *webhooks)


def validating(*webhooks, name="v"):
    return Config("ValidatingWebhookConfiguration", name, *webhooks)


def create(name, want=201, data=None, query="", **meta):
    status, headers, text = server.raw("POST", NS + query, config_map(name, data, **meta))
    equal(status, want, f"status of {name}: {text[:500]!r}")
    return json.loads(text), headers


def gone(*names):
    for name in names:
        server.raw("DELETE", f"{NS}/{name}")


# ---- webhooks

def test_mutate():
    hooks.on("/label", patch=[{"op": "add", "path": "/metadata/labels", "value": {"by": "hook"}}],
             warnings=["be careful"], auditAnnotations={"a": "b"})
    with mutating(webhook("label.example.com", "/label")):
        got, headers = create("m1", data={"k": "v"})
        equal(got["metadata"]["labels"], {"by": "hook"}, "labels")
        equal(headers["Warning"], '299 - "be careful"', "warning")
        [asked] = hooks.calls("/label")
        equal(asked["operation"], "CREATE", "operation")
        equal(asked["object"]["data"], {"k": "v"}, "object")
        equal(asked["object"]["kind"], "ConfigMap", "kind")
        equal(asked["oldObject"], None, "oldObject")
        equal(asked["resource"], {"group": "", "version": "v1", "resource": "configmaps"}, "resource")
        equal(asked["requestKind"], {"group": "", "version": "v1", "kind": "ConfigMap"}, "kind")
        equal((asked["name"], asked["namespace"]), ("m1", "default"), "name")
        equal(asked["options"]["kind"], "CreateOptions", "options")
        equal(asked["dryRun"], False, "dryRun")
        check("system:masters" in asked["userInfo"]["groups"], f"user: {asked['userInfo']}")
        equal(hooks.asked[0][1], "timeout=10s", "query")
        out = server.kubectl("label", "configmap", "m1", "own=1")
        holds(out, "labeled")
        equal(hooks.calls("/label")[-1]["operation"], "UPDATE", "operation")
        equal(hooks.calls("/label")[-1]["oldObject"]["metadata"]["name"], "m1", "oldObject")
        equal(hooks.calls("/label")[-1]["options"]["kind"], "PatchOptions", "options")
        got = server.get(NS + "/m1")
        equal(got["metadata"]["labels"], {"by": "hook"}, "labels after a patch")
        got, _ = create("", generateName="gen-")
        check(got["metadata"]["name"].startswith("gen-"), "a generated name")
        equal(hooks.calls("/label")[-1].get("name", ""), "", "a name that is to be generated")
        equal(hooks.calls("/label")[-1]["object"]["metadata"].get("name", ""), "", "its object")
    gone("m1", got["metadata"]["name"])


def test_deny():
    hooks.on("/deny", allowed=False, status={"message": "no such thing here", "code": 403,
                                             "reason": "Forbidden"})
    hooks.on("/silent", allowed=False)
    with validating(webhook("deny.example.com", "/deny")):
        err = server.kubectl_fails("create", "configmap", "d1")
        holds(err, r'^error: failed to create configmap: admission webhook "deny.example.com" denied '
                   r'the request: no such thing here$')
        status = create("d1", 403)[0]
        equal(status["reason"], "Forbidden", "reason")
    with validating(webhook("silent.example.com", "/silent")):
        status = create("d1", 400)[0]
        equal(status["message"], 'admission webhook "silent.example.com" denied the request without '
                                 'explanation', "message")
    equal(server.raw("GET", NS + "/d1")[0], 404, "nothing was stored")


def test_delete_and_scope():
    hooks.on("/keep", allowed=False, status={"message": "it stays"})
    rule = {"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["*"],
            "scope": "Namespaced"}
    create("k1")
    with validating(webhook("keep.example.com", "/keep", [rule], matchConditions=[
            {"name": "one", "expression": "oldObject.metadata.name == 'k1' && object == null"}])):
        holds(server.kubectl_fails("delete", "configmap", "k1"), "denied the request: it stays")
        [asked] = hooks.calls("/keep")
        equal(asked["oldObject"]["metadata"]["name"], "k1", "oldObject")
        equal(asked["object"], None, "object")
        equal(asked["options"]["kind"], "DeleteOptions", "options")
        create("k2")
        server.kubectl("delete", "configmap", "k2")
        server.kubectl("create", "namespace", "passing")
        server.kubectl("delete", "namespace", "passing", "--wait=false")
    gone("k1")


def test_selectors():
    hooks.on("/sel", allowed=False)
    with validating(webhook("sel.example.com", "/sel",
                            objectSelector={"matchLabels": {"guard": "yes"}},
                            namespaceSelector={"matchExpressions": [
                                {"key": "kubernetes.io/metadata.name", "operator": "NotIn",
                                 "values": ["kube-public"]}]})):
        create("s1")
        create("s2", 400, labels={"guard": "yes"})
        body = config_map("s3", labels={"guard": "yes"})
        server.api("POST", "/api/v1/namespaces/kube-public/configmaps", body)
    gone("s1")
    server.api("DELETE", "/api/v1/namespaces/kube-public/configmaps/s3")


def test_failures():
    port = hooks.http.server_address[1]

    def hang(handler, _):
        hooks.release.wait()

    def garbage(handler, _):
        send(handler, b"<html>")

    def endless(handler, _):
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b" " * 65536)
        except OSError:
            pass

    hooks.answers.update({
        "/hang": hang, "/garbage": garbage, "/endless": endless,
        "/500": lambda h, _: send(h, b"broken", 500), "/404": lambda h, _: send(h, b"", 404),
        "/none": lambda h, r: send(h, {"apiVersion": "admission.k8s.io/v1",
                                       "kind": "AdmissionReview"}),
        "/uid": lambda h, r: send(h, {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                                      "response": {"uid": "other", "allowed": True}}),
        "/kind": lambda h, r: send(h, {"apiVersion": "admission.k8s.io/v1", "kind": "Foo"}),
        "/status": lambda h, r: send(h, {"apiVersion": "v1", "kind": "Status", "status": "Failure",
                                         "message": "not today"}, 503)})
    url = f'"https://127.0.0.1:{port}'
    words = {
        "/hang": rf'failed to call webhook: Post {url}/hang\?timeout=1s": context deadline exceeded',
        "/garbage": "failed to call webhook: couldn't get version/kind; json parse error: ",
        "/endless": rf'failed to call webhook: Post {url}/endless\?timeout=1s": ',
        "/500": r'failed to call webhook: an error on the server \("broken"\) has prevented the '
                r'request from succeeding',
        "/404": "failed to call webhook: the server could not find the requested resource",
        "/none": "received invalid webhook response: webhook response was absent",
        "/uid": r'received invalid webhook response: expected response.uid="[-0-9a-f]{36}", got "other"',
        "/kind": 'failed to call webhook: no kind "Foo" is registered for version "admission.k8s.io/v1" ',
        "/status": "failed to call webhook: not today$",
    }
    for path, want in words.items():
        for make in mutating, validating:
            with make(webhook("bad.example.com", path, timeoutSeconds=1)):
                status = create("f1", 500)[0]
                holds(status["message"],
                      r'^Internal error occurred: failed calling webhook "bad.example.com": ' + want)
                equal(status["reason"], "InternalError", "reason")
            with make(webhook("bad.example.com", path, timeoutSeconds=1, failurePolicy="Ignore")):
                create("f1")
            gone("f1")
    hooks.release.set()
    nobody = webhook("nobody.example.com", "/")
    nobody["clientConfig"]["url"] = "https://127.0.0.1:1/"
    with validating(nobody):
        holds(create("f1", 500)[0]["message"],
              r'Post "https://127.0.0.1:1/\?timeout=10s": dial tcp 127.0.0.1:1: connect: connection '
              r'refused$')
    distrusted = webhook("ca.example.com", "/label")
    del distrusted["clientConfig"]["caBundle"]
    with validating(distrusted):
        holds(create("f1", 500)[0]["message"], "tls: failed to verify certificate: x509: certificate "
                                               "signed by unknown authority")


def own_address():
    """An address of this machine that is not the loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))  # nothing is sent
            address = s.getsockname()[0]
        except OSError:
            address = "127.0.0.1"
    if address.startswith("127."):
        raise Skip("this machine has no address but the loopback's")
    return address


def test_service():
    """A Service is reached at its EndpointSlices, by its name in the certificate."""
    address = own_address()
    hooks.on("/svc/x", allowed=False, status={"message": "by service"})
    by_service = webhook("svc.example.com", "/")
    by_service["clientConfig"] = {"caBundle": by_service["clientConfig"]["caBundle"], "service": {
        "namespace": "default", "name": "hooks", "path": "/svc/x", "port": 8443}}
    post = r'^Internal error occurred: failed calling webhook "svc.example.com": failed to call webhook: ' \
           r'Post "https://hooks.default.svc:8443/svc/x\?timeout=10s": '
    services, slices = "/api/v1/namespaces/default/services", \
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    with validating(by_service):
        holds(create("v1", 500)[0]["message"], post + 'service "hooks" not found$')
        server.api("POST", services, {"metadata": {"name": "hooks"}, "spec": {
            "ports": [{"name": "https", "port": 8443}]}})
        holds(create("v1", 500)[0]["message"], post + 'no endpoints available for service "hooks"$')
        server.api("POST", slices, {
            "metadata": {"name": "hooks-1", "labels": {"kubernetes.io/service-name": "hooks"}},
            "addressType": "IPv4", "endpoints": [{"addresses": [address]}],
            "ports": [{"name": "https", "port": hooks.http.server_address[1]}]})
        equal(create("v1", 400)[0]["message"], 'admission webhook "svc.example.com" denied the request: '
                                               'by service', "message")
    server.api("DELETE", slices + "/hooks-1")
    server.api("DELETE", services + "/hooks")


def test_stalled_does_not_block():
    """While a webhook does not answer, other requests of the same loops do."""
    hooks.release.clear()
    hooks.on("/let")

    def stall(handler, review):
        hooks.release.wait()
        hooks.answers["/let"](handler, review)

    hooks.answers["/stall"] = stall
    with validating(webhook("stall.example.com", "/stall", timeoutSeconds=30, failurePolicy="Ignore",
                            objectSelector={"matchLabels": {"stall": "yes"}})):
        done, lates = [], []
        threads = [threading.Thread(target=lambda i=i: done.append(
            server.raw("POST", NS, config_map(f"st{i}", labels={"stall": "yes"}))[0]))
            for i in range(20)]
        for t in threads:
            t.start()
        wait_for(lambda: len(hooks.calls("/stall")) == 20, "all are asked")
        create("free")
        server.get("/api/v1/namespaces/default")
        equal(done, [], "those that wait")

        def given_up():  # before the webhook's own 30 s, which those above have
            found = re.search(r'webhook_admission_duration_seconds_bucket\{[^}]*name="stall.example.com"[^}]*'
                              r'le="25"\} (\d+)', server.raw("GET", "/metrics")[2].decode())
            return int(found[1]) if found else 0
        apply = {"Content-Type": "application/apply-patch+yaml"}
        for method, place, query, kind in (("PATCH", "/{}", "&fieldManager=x", apply), ("POST", "", "", {})):
            for _ in range(100):
                late, before = f"late{len(lates)}", given_up()
                lates.append(late)
                code, headers, text = server.raw(method, NS + place.format(late) + "?timeout=1s" + query,
                                                 json.dumps(config_map(late, labels={"stall": "yes"})), kind)
                # Else the machine stood still: the webhook's time was over first, or ours before it was asked.
                if code != 201 and any(r["name"] == late for r in hooks.calls("/stall")):
                    break
            # Its call is given up soon after, and nothing is written.
            wait_for(lambda: given_up() > before, "its webhook is given up")  # pylint: disable=W0640
        equal((code, headers["Content-Type"]), (504, "application/json"), "who set a deadline")
        status = json.loads(text)
        equal((status["kind"], status["reason"], status["message"]),
              ("Status", "Timeout", "Timeout: request did not complete within the allotted timeout"))
        holds(server.raw("GET", "/metrics")[2].decode(),
              r'apiserver_request_total\{[^}]*resource="configmaps"[^}]*code="504"\} [1-9]')
        hooks.release.set()
        for t in threads:
            t.join()
        equal(set(done), {201}, "those that waited")
        create("behind")
        equal(server.raw("GET", f"{NS}/{late}")[0], 404, "what had no answer")
    gone("behind", "free", *lates, *(f"st{i}" for i in range(20)))


def test_reinvocation_and_order():
    add = {"op": "add", "path": "/data/first", "value": "1"}
    hooks.on("/first", patch=[add])
    hooks.on("/second", patch=[{"op": "add", "path": "/data/second", "value": "2"}])
    hooks.on("/last")
    with mutating(webhook("a.example.com", "/first", reinvocationPolicy="IfNeeded"),
                  webhook("b.example.com", "/second")), validating(webhook("c.example.com", "/last")):
        got, _ = create("r1", data={"k": "v"})
        equal(got["data"], {"k": "v", "first": "1", "second": "2"}, "data")
        equal([p for p, _, _ in hooks.asked], ["/first", "/second", "/first", "/last"], "order")
        equal(hooks.calls("/last")[0]["object"]["data"], got["data"], "what validation sees")
        check(hooks.calls("/last")[0]["object"]["metadata"]["uid"], "validation sees the uid")
    gone("r1")


def test_dry_run():
    hooks.on("/dry", warnings=["seen"])
    with validating(webhook("dry.example.com", "/dry", sideEffects="NoneOnDryRun")):
        create("y1", query="?dryRun=All")
        equal(hooks.calls("/dry")[0]["dryRun"], True, "dryRun")
        equal(hooks.calls("/dry")[0]["options"]["dryRun"], ["All"], "options")
        equal(server.raw("GET", NS + "/y1")[0], 404, "nothing was stored")


def test_match_conditions():
    hooks.on("/cond", allowed=False)

    def conditions(*expressions, **more):
        return validating(webhook("cond.example.com", "/cond", matchConditions=[
            {"name": f"c{i}", "expression": e} for i, e in enumerate(expressions)], **more))

    with conditions("request.name.startsWith('guarded')",
                    "authorizer.group('').resource('configmaps').namespace('default')"
                    ".check('create').allowed()"):
        create("open")
        create("guarded", 400)
    with conditions("object.data.missing == 'x'"):
        status = create("open2", 403)[0]
        equal(status["message"], 'configmaps "open2" is forbidden: expression \'object.data.missing =='
                                 ' \'x\'\' resulted in error: no such key: data', "message")
    with conditions("object.data.missing == 'x'", failurePolicy="Ignore"):
        create("open2")
    gone("open", "open2")


def test_equivalent():
    hooks.on("/hpa", allowed=False, status={"message": "by v1"})
    rule = {"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"],
            "resources": ["horizontalpodautoscalers"]}
    hpa = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
           "metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "metrics": [
               {"type": "Resource", "resource": {"name": "cpu", "target": {
                   "type": "Utilization", "averageUtilization": 77}}}],
               "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}}
    path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
    with validating(webhook("hpa.example.com", "/hpa", [rule])):
        equal(server.raw("POST", path, hpa)[0], 400, "status")
        [asked] = hooks.calls("/hpa")
        equal(asked["object"]["apiVersion"], "autoscaling/v1", "converted")
        equal(asked["object"]["spec"]["targetCPUUtilizationPercentage"], 77, "converted")
        equal((asked["kind"]["version"], asked["requestKind"]["version"]), ("v1", "v2"), "kinds")
    with validating(webhook("hpa.example.com", "/hpa", [rule], matchPolicy="Exact")):
        server.api("POST", path, hpa)
    server.api("DELETE", path + "/h")


def test_subresources():
    hooks.on("/scale", patch=[{"op": "replace", "path": "/spec/replicas", "value": 2}])
    hooks.on("/bind", allowed=False, status={"message": "not bound"})
    rules = [{"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["*"],
              "resources": ["deployments/scale"]}]
    binds = [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
              "resources": ["pods/binding", "pods/eviction"]}]
    server.kubectl("create", "deployment", "sc", "--image=busybox", "--replicas=0")
    with mutating(webhook("scale.example.com", "/scale", rules)):
        server.kubectl("scale", "deployment", "sc", "--replicas=5")
        [asked] = hooks.calls("/scale")
        equal((asked["object"]["kind"], asked["object"]["spec"]["replicas"]), ("Scale", 5), "object")
        equal(asked["subResource"], "scale", "subresource")
        got = server.get("/apis/apps/v1/namespaces/default/deployments/sc")
        equal(got["spec"]["replicas"], 2, "replicas")
    server.kubectl("delete", "deployment", "sc")
    pods = "/api/v1/namespaces/default/pods"
    server.api("POST", pods, {"metadata": {"name": "p"}, "spec": {
        "schedulingGates": [{"name": "example.com/wait"}],
        "containers": [{"name": "c", "image": "i"}]}})
    with validating(webhook("bind.example.com", "/bind", binds)):
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
                "target": {"kind": "Node", "name": "n"}}
        equal(server.raw("POST", pods + "/p/binding", body)[0], 400, "binding")
        equal(hooks.calls("/bind")[0]["object"]["kind"], "Binding", "object")
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
        equal(server.raw("POST", pods + "/p/eviction", body)[0], 400, "eviction")
    connect = [{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["pods/exec"]}]
    with validating(webhook("exec.example.com", "/bind", connect)):
        status = json.loads(server.raw("POST", pods + "/p/exec?command=ls&command=-l&tty=true")[2])
        equal(status["message"], 'admission webhook "exec.example.com" denied the request: not bound',
              "exec")
        [asked] = hooks.calls("/bind")
        equal((asked["operation"], asked["subResource"], asked["name"]), ("CONNECT", "exec", "p"), "it")
        equal(asked["object"]["kind"], "PodExecOptions", "kind")
        equal((asked["object"]["command"], asked["object"]["tty"]), (["ls", "-l"], True), "options")
    status = json.loads(server.raw("POST", pods + "/p/exec?command=ls")[2])
    equal(status["message"], "pod p does not have a host assigned", "exec without a webhook")
    server.api("DELETE", pods + "/p?gracePeriodSeconds=0")


# ---- policies

def policy(kind, name, spec, *bindings):
    """Creates a policy and its bindings (their specs); gives what takes them away."""
    objects = [{"kind": kind, "metadata": {"name": name}, "spec": spec}]
    objects += [{"kind": kind + "Binding", "metadata": {"name": f"{name}-{i}"},
                 "spec": dict(b, policyName=name)} for i, b in enumerate(bindings)]

    class Policy:
        def __enter__(self):
            for o in objects:
                server.api("POST", path(o), dict(o, apiVersion="admissionregistration.k8s.io/v1"))

        def __exit__(self, *_):
            for o in objects:
                server.api("DELETE", f"{path(o)}/{o['metadata']['name']}")

    def path(o):
        return ADM + {"ValidatingAdmissionPolicy": "validatingadmissionpolicies",
                      "MutatingAdmissionPolicy": "mutatingadmissionpolicies"}.get(
                          o["kind"], o["kind"].lower() + "s")
    return Policy()


def vap(name, *bindings, **spec):
    return policy("ValidatingAdmissionPolicy", name,
                  dict({"matchConstraints": {"resourceRules": [CMS]}}, **spec),
                  *(bindings or [{"validationActions": ["Deny"]}]))


def mapolicy(name, *mutations, bindings=({},), **spec):
    return policy("MutatingAdmissionPolicy", name,
                  dict({"matchConstraints": {"resourceRules": [CMS]}, "mutations": list(mutations),
                        "failurePolicy": "Fail", "reinvocationPolicy": "Never"}, **spec), *bindings)


def test_validating_policy():
    with vap("p1", validations=[
            {"expression": "!has(object.data) || size(object.data) < 2", "message": "too much data"},
            {"expression": "variables.ok", "reason": "Forbidden",
             "messageExpression": "'bad name ' + object.metadata.name"}],
             variables=[{"name": "ok", "expression": "object.metadata.name != 'bad'"}]):
        create("good")
        err = server.kubectl_fails("create", "configmap", "big", "--from-literal=a=1",
                                   "--from-literal=b=2")
        holds(err, r"^error: failed to create configmap: configmaps \"big\" is forbidden: "
                   r"ValidatingAdmissionPolicy 'p1' with binding 'p1-0' denied request: too much data$")
        status = create("big", 422, {"a": "1", "b": "2"})[0]
        equal(status["reason"], "Invalid", "reason")
        status = create("bad", 403)[0]
        holds(status["message"], "denied request: bad name bad$")
        equal(status["reason"], "Forbidden", "reason")
    gone("good")


def test_policy_actions():
    with vap("p2", {"validationActions": ["Warn", "Audit"]},
             validations=[{"expression": "false"}]):
        _, headers = create("warned")
        equal(headers["Warning"], "299 - \"Validation failed for ValidatingAdmissionPolicy 'p2' with "
                                  "binding 'p2-0': failed expression: false\"", "warning")
    with vap("p3", validations=[{"expression": "object.data.x == '1'"}], failurePolicy="Ignore"):
        create("ignored")
    with vap("p3", validations=[{"expression": "object.data.x == '1'"}]):
        holds(create("failing", 422)[0]["message"],
              "denied request: expression 'object.data.x == '1'' resulted in error: no such key: data$")
    gone("warned", "ignored")


def test_params():
    limit = {"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
             "matchConditions": [{"name": "named", "expression": "object.metadata.name.startsWith('x')"}],
             "validations": [{"expression": "size(object.data) <= int(params.data.max)",
                              "messageExpression": "'at most ' + params.data.max"}]}
    create("limits", data={"max": "1"}, labels={"limits": "yes"})
    ref = {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"}
    with vap("p4", {"validationActions": ["Deny"], "paramRef": ref}, **limit):
        create("x1", data={"a": "1"})
        holds(create("x2", 422, {"a": "1", "b": "2"})[0]["message"], "at most 1$")
        server.api("PATCH", NS + "/limits", {"data": {"max": "2"}},
                   {"Content-Type": "application/merge-patch+json"})
        create("x2", data={"a": "1", "b": "2"})
        server.api("DELETE", NS + "/limits")
        holds(create("x3", 422, {"a": "1"})[0]["message"],
              "denied request: failed to configure binding: no params found for policy binding with "
              "`Deny` parameterNotFoundAction$")
    create("limits", data={"max": "0"}, labels={"limits": "yes"})
    ref = {"selector": {"matchLabels": {"limits": "yes"}}, "parameterNotFoundAction": "Allow"}
    with vap("p5", {"validationActions": ["Deny"], "paramRef": ref}, **limit):
        holds(create("x3", 422, {"a": "1"})[0]["message"], "at most 0$")
        server.api("DELETE", NS + "/limits")
        create("x3", data={"a": "1"})
    gone("x1", "x2", "x3")


def test_custom_params():
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    things = "/apis/params.example.com/v1/namespaces/default/limits"
    limit = {"paramKind": {"apiVersion": "params.example.com/v1", "kind": "Limit"},
             "matchConditions": [{"name": "named", "expression": "object.metadata.name.startsWith('x')"}],
             "validations": [{"expression": "size(object.data) <= params.spec.max",
                              "messageExpression": "params.kind + ': ' + string(params.spec.max)"}]}
    ref = {"name": "small", "namespace": "default", "parameterNotFoundAction": "Deny"}
    with vap("p4c", {"validationActions": ["Deny"], "paramRef": ref}, **limit):
        holds(create("x1", 422, {"a": "1"})[0]["message"],
              "denied request: failed to configure policy: failed to find resource referenced by paramKind: "
              "'params.example.com/v1, Kind=Limit'$")
        server.api("POST", crds, {"metadata": {"name": "limits.params.example.com"}, "spec": {
            "group": "params.example.com", "scope": "Namespaced", "names": {"plural": "limits", "kind": "Limit"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {
                    "max": {"type": "integer", "default": 1}}}}}}}]}})
        wait_for(lambda: server.raw("GET", things)[0] == 200, "the kind is served")
        holds(create("x1", 422, {"a": "1"})[0]["message"], "no params found for policy binding")
        server.api("POST", things, {"apiVersion": "params.example.com/v1", "kind": "Limit",
                                    "metadata": {"name": "small"}, "spec": {}})
        create("x1", data={"a": "1"})
        holds(create("x2", 422, {"a": "1", "b": "2"})[0]["message"], "denied request: Limit: 1$")
        server.api("PATCH", things + "/small", {"spec": {"max": 2}}, {"Content-Type": "application/merge-patch+json"})
        create("x2", data={"a": "1", "b": "2"})
    ref = {"selector": {}, "parameterNotFoundAction": "Deny"}
    with vap("p5c", {"validationActions": ["Deny"], "paramRef": ref}, **limit):
        holds(create("x3", 422, {"a": "1", "b": "2", "c": "3"})[0]["message"], "denied request: Limit: 2$")
        server.api("DELETE", crds + "/limits.params.example.com")
        wait_for(lambda: server.raw("GET", things)[0] == 404, "the kind is gone")
        holds(create("x3", 422, {"a": "1"})[0]["message"], "failed to find resource referenced by paramKind")
    gone("x1", "x2")


def test_policy_context():
    with vap("p6", validations=[
            {"expression": "namespaceObject.metadata.name == 'default'"},
            {"expression": "request.userInfo.groups.exists(g, g == 'system:masters')"},
            {"expression": "request.operation == 'CREATE' || oldObject.metadata.uid == "
                           "object.metadata.uid"},
            {"expression": "authorizer.requestResource.check('delete').allowed()"}]):
        create("ctx")
        server.kubectl("label", "configmap", "ctx", "a=b")
    gone("ctx")


def test_policy_bound_to_namespace():
    only = {"validationActions": ["Deny"], "matchResources": {"namespaceSelector": {
        "matchLabels": {"kubernetes.io/metadata.name": "kube-public"}}}}
    with vap("p7", only, validations=[{"expression": "false", "message": "closed"}]):
        create("elsewhere")
        status = server.raw("POST", "/api/v1/namespaces/kube-public/configmaps", config_map("in"))[0]
        equal(status, 422, "status")
    gone("elsewhere")


def test_mutating_policy():
    merge = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
             "Object{metadata: Object.metadata{labels: {'team': variables.team}}}"}}
    patch = {"patchType": "JSONPatch", "jsonPatch": {"expression":
             "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]"}}
    with mapolicy("mp", merge, patch, variables=[
            {"name": "team", "expression": "'team-' + object.metadata.name"}],
            matchConditions=[{"name": "data", "expression": "has(object.data)"}]):
        got, _ = create("mm", data={"k": "v"}, labels={"own": "1"})
        equal(got["metadata"]["labels"], {"own": "1", "team": "team-mm", "a/b": "c"}, "labels")
        got, _ = create("plain")
        equal(got["metadata"].get("labels"), None, "labels of one that does not match")
    bad = {"patchType": "JSONPatch", "jsonPatch": {"expression":
           "[JSONPatch{op: 'replace', path: '/data/none', value: object.data.none}]"}}
    with mapolicy("mq", bad):
        status = create("mn", 403, {"k": "v"})[0]
        holds(status["message"], r"^policy 'mq' with binding 'mq-0' denied request: expression '.*' "
                                 r"resulted in error: no such key: none$")
        equal(status["reason"], "Invalid", "reason")
    gone("mm", "plain")


def test_mutating_by_many_params():
    """Each policy, binding and parameter has its turn, however many they are."""
    names = ["n%d" % i for i in range(130)]
    for name in names:
        create(name, labels={"says": "label"})
    label = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
             "Object{metadata: Object.metadata{labels: {params.metadata.name: 'y'}}}"}}
    ref = {"selector": {"matchLabels": {"says": "label"}}, "parameterNotFoundAction": "Deny"}
    with mapolicy("many", label, paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
                  reinvocationPolicy="IfNeeded", bindings=({"paramRef": ref},)):
        got, _ = create("mm")
        equal(got["metadata"].get("labels"), dict.fromkeys(names, "y"), "labels")
    gone("mm", *names)


def test_validation():
    """What is wrong with a configuration is said when it is made."""
    def refused(path, obj, *want):
        status = json.loads(server.raw("POST", ADM + path, dict(
            obj, apiVersion="admissionregistration.k8s.io/v1"))[2])
        equal([f"{c['field']}: {c['message']}" for c in status["details"].get("causes", [])],
              list(want), status["message"])

    bad = webhook("short", "/x", [dict(CMS, operations=["CREATE", "*"])], timeoutSeconds=31,
                  sideEffects="Some", matchConditions=[{"name": "a", "expression": "object.x =="}])
    bad["clientConfig"]["url"] = "http://hooks/?a=b"
    refused("validatingwebhookconfigurations", {
        "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "bad"}, "webhooks": [bad]},
        'webhooks[0].name: Invalid value: "short": should be a domain with at least three segments '
        'separated by dots',
        'webhooks[0].rules[0].operations: Invalid value: ["CREATE","*"]: if \'*\' is present, must not '
        'specify other operations',
        'webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"',
        'webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 '
        'seconds',
        'webhooks[0].clientConfig.url: Invalid value: "http": \'https\' is the only allowed URL scheme; '
        'desired format: https://host[/path]',
        'webhooks[0].clientConfig.url: Invalid value: "a=b": query parameters are not permitted in the '
        'URL',
        'webhooks[0].matchConditions[0].expression: Invalid value: "object.x ==": compilation failed: '
        'ERROR: <input>:1:12: Syntax error: mismatched input \'<EOF>\' expecting {\'[\', \'{\', \'(\', '
        '\'.\', \'-\', \'!\', \'true\', \'false\', \'null\', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, '
        'IDENTIFIER}\n | object.x ==\n | ...........^')
    refused("validatingadmissionpolicies", {
        "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "bad"}, "spec": {
            "matchConstraints": {"resourceRules": [CMS]}, "variables": [
                {"name": "in", "expression": "1 + 'a'"}],
            "validations": [{"expression": "1"}, {"expression": "true", "messageExpression":
                                                  "authorizer"}]}},
        'spec.variables[0].name: Invalid value: "in": must be a valid CEL identifier',
        'spec.variables[0].expression: Invalid value: "1 + \'a\'": compilation failed: ERROR: '
        '<input>:1:3: found no matching overload for \'_+_\' applied to \'(int, string)\'\n | 1 + \'a\'\n '
        '| ..^',
        'spec.validations[0].expression: Invalid value: "1": must evaluate to bool but got int',
        'spec.validations[1].messageExpression: Invalid value: "authorizer": compilation failed: ERROR: '
        '<input>:1:1: undeclared reference to \'authorizer\' (in container \'\')\n | authorizer\n | ^')
    refused("validatingadmissionpolicybindings", {
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "bad"}, "spec": {
            "policyName": "p", "paramRef": {}, "validationActions": ["Deny", "Warn"]}},
        'spec.paramRef: Required value: one of name or selector must be specified',
        'spec.paramRef.parameterNotFoundAction: Required value',
        'spec.validationActions: Invalid value: ["Deny","Warn"]: must not contain both Deny and Warn '
        '(repeating the same validation failure information in the API response and headers serves no '
        'purpose)')
    refused("mutatingadmissionpolicies", {
        "kind": "MutatingAdmissionPolicy", "metadata": {"name": "bad"}, "spec": {
            "matchConstraints": {"resourceRules": [dict(CMS, operations=["DELETE"])]},
            "reinvocationPolicy": "Never", "mutations": [
                {"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}},
                {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "true"}}]}},
        'spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: '
        '"*", "CONNECT", "CREATE", "UPDATE"',
        'spec.mutations[0].jsonPatch.expression: Invalid value: "[]": must evaluate to list(JSONPatch) '
        'but got list(dyn)',
        'spec.mutations[1].applyConfiguration.expression: Invalid value: "true": must evaluate to Object '
        'but got bool')


CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
THINGS = "/apis/example.com/v1/namespaces/default/things"


def definition(**properties):
    loose = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.example.com", "annotations": {"round": "0"}},
            "spec": {"group": "example.com", "scope": "Namespaced",
                     "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
                     "versions": [{"name": "v1", "served": True, "storage": True, "schema": {
                         "openAPIV3Schema": {"type": "object",
                                             "properties": {"spec": loose, **properties}}}}]}}


def test_definitions():
    """What is written waits for the webhook: what it was made from must last, also where the stored
    object does not stay in memory (definitions, and custom objects whose schema changed often)."""
    everything = {"operations": ["*"], "apiGroups": ["example.com", "apiextensions.k8s.io"],
                  "apiVersions": ["*"], "resources": ["*/*"]}
    k, merge = server.kubectl, {"Content-Type": "application/merge-patch+json"}
    hooks.on("/all", patch=[{"op": "add", "path": "/metadata/labels", "value": {"by": "hook"}}])
    hooks.on("/see")
    with mutating(webhook("all.example.com", "/all", [dict(everything, operations=[
            "CREATE", "UPDATE"])])), validating(webhook("see.example.com", "/see", [everything])):
        k("apply", "--server-side", "-f", "-", stdin=json.dumps(definition()))
        server.established("things.example.com")
        k("create", "-f", "-", stdin=json.dumps({
            "apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"},
            "spec": {"text": "x" * 1000}}))
        for i in range(1, 10):
            k("patch", "crd", "things.example.com", "--type=merge", "-p", json.dumps(
                {"metadata": {"annotations": {"round": str(i)}}}))
            crd = definition(**{f"p{n}": {"type": "string"} for n in range(i)})
            del crd["metadata"]["annotations"]
            k("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(crd))
            server.get(THINGS + "/a")  # decoded anew, by the schema as it is now
        seen = hooks.calls("/see")
        asked = [r for r in seen if r["resource"]["resource"] == "customresourcedefinitions"
                 and r["operation"] == "UPDATE" and not r.get("subResource")]
        check(len(asked) >= 18, f"{len(asked)} updates of the definition")
        for r in asked:
            equal(r["oldObject"]["metadata"]["name"], "things.example.com", "the old definition")
            equal(r["oldObject"]["metadata"]["uid"], r["object"]["metadata"]["uid"], "its uid")
            equal(r["object"]["metadata"]["labels"], {"by": "hook"}, "labels")
        got = server.get(CRDS + "/things.example.com")
        equal(got["metadata"]["labels"], {"by": "hook"}, "labels of the definition")
        equal(got["metadata"]["generation"], 10, "generation")
        check("p8" in json.dumps(got["spec"]), "the last schema")
        check({"kubectl", "kubectl-patch"} <= {m["manager"] for m in got["metadata"]["managedFields"]},
              f"managers: {got['metadata']['managedFields']}")
        hooks.forget()
        for i in range(3):
            got = server.api("PATCH", THINGS + "/a", {"p8": str(i)}, merge)
            equal((got["spec"]["text"], got["p8"]), ("x" * 1000, str(i)), "a custom object")
        for r in hooks.calls("/see"):
            equal(r["oldObject"]["spec"]["text"], "x" * 1000, "the old custom object")
        k("delete", "crd", "things.example.com", "--timeout=180s")
        [asked] = [r for r in hooks.calls("/see") if r["operation"] == "DELETE"
                   and r["resource"]["resource"] == "customresourcedefinitions"]
        equal(asked["oldObject"]["metadata"]["name"], "things.example.com", "what was deleted")


def test_configuration_is_exempt():
    """What is configured can always be mended."""
    everything = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}
    wall = webhook("wall.example.com", "/deny", [everything])
    hooks.on("/deny", allowed=False)
    with validating(wall):
        equal(server.raw("POST", NS, config_map("no"))[0], 400, "status")
        equal(server.raw("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                         {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}})[0],
              400, "reviews are admitted too")
    create("yes")
    gone("yes")

# ---- what is told of them

def typed_policy(name, rules, *validations, **more):
    return {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": dict({"matchConstraints": {"resourceRules": rules},
                          "validations": list(validations)}, **more)}


def test_type_checking():
    """A policy's status says what is wrong with its expressions, in upstream's words."""
    deployments = [{"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["v1"],
                    "resources": ["deployments"]}]
    path = ADM + "validatingadmissionpolicies"
    server.api("POST", path, typed_policy("typed", deployments, {"expression": "object.spec.replica > 5"}))

    def seen(generation):
        status = server.get(f"{path}/typed").get("status", {})
        return status if status.get("observedGeneration") == generation else None
    equal(wait_for(lambda: seen(1), "the policy is checked")["typeChecking"], {"expressionWarnings": [
        {"fieldRef": "spec.validations[0].expression",
         "warning": "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replica'\n"
                    " | object.spec.replica > 5\n | ...........^\n"}]})
    server.kubectl("patch", "validatingadmissionpolicy", "typed", "--type=json", "-p", json.dumps(
        [{"op": "replace", "path": "/spec/validations/0/expression", "value": "object.spec.replicas > 5"}]))
    equal(wait_for(lambda: seen(2), "the policy is checked again")["typeChecking"], {})
    server.api("DELETE", f"{path}/typed")


def test_type_checking_of_custom_kinds():
    """As the server publishes them: with their properties, and all of metadata."""
    schema = {"type": "object", "properties": {
        "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}}},
        "spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    server.api("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "typeds.check.example.com"}, "spec": {
            "group": "check.example.com", "scope": "Namespaced",
            "names": {"plural": "typeds", "singular": "typed", "kind": "Typed", "listKind": "TypedList"},
            "versions": [{"name": "v1", "served": True, "storage": True,
                          "schema": {"openAPIV3Schema": schema}}]}})
    wait_for(lambda: server.raw("GET", "/apis/check.example.com/v1/typeds")[0] == 200, "the kind is served")
    path = ADM + "validatingadmissionpolicies"
    rules = [{"operations": ["*"], "apiGroups": ["check.example.com"], "apiVersions": ["v1"],
              "resources": ["typeds", "unknowns"]}]
    server.api("POST", path, typed_policy("custom", rules, *({"expression": e} for e in (
        "object.spec.size > 5", "object.spec.sise > 5", "object.metadata.labels['a'] == object.kind",
        "object.metadata.label == ''", "object.spec.size == 'big'"))))
    status = wait_for(lambda: server.get(f"{path}/custom").get("status", {}).get("observedGeneration")
                      and server.get(f"{path}/custom")["status"], "the policy is checked")
    warnings = status["typeChecking"].get("expressionWarnings", [])
    equal([w["fieldRef"] for w in warnings], [f"spec.validations[{i}].expression" for i in (1, 3, 4)])
    equal([w["warning"].split("\n")[0] for w in warnings], [
        "check.example.com/v1, Kind=Typed: ERROR: <input>:1:12: undefined field 'sise'",
        "check.example.com/v1, Kind=Typed: ERROR: <input>:1:16: undefined field 'label'",
        "check.example.com/v1, Kind=Typed: ERROR: <input>:1:18: found no matching overload for '_==_' applied to "
        "'(int, string)'"])
    policy = typed_policy("custom-params", [dict(rules[0], apiGroups=["apps"], resources=["deployments"])],
                          {"expression": "object.spec.replicas <= params.spec.size"},
                          {"expression": "params.spec.least == 1"})
    policy["spec"]["paramKind"] = {"apiVersion": "check.example.com/v1", "kind": "Typed"}
    server.api("POST", path, policy)
    status = wait_for(lambda: server.get(f"{path}/custom-params").get("status", {}).get("observedGeneration")
                      and server.get(f"{path}/custom-params")["status"], "the policy is checked")
    equal([(w["fieldRef"], w["warning"].split("\n")[0]) for w in status["typeChecking"].get("expressionWarnings", [])],
          [("spec.validations[1].expression",
            "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'least'")])
    server.api("DELETE", f"{path}/custom-params")
    server.api("DELETE", f"{path}/custom")
    server.api("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/typeds.check.example.com")


def samples(metric, **labels):
    """{labels that are left: value} of a metric."""
    found = {}
    for line in server.raw("GET", "/metrics")[2].decode().splitlines():
        match = re.match(r"(\w+)\{(.*)\} (\S+)$", line)
        if not match or match[1] != metric:
            continue
        has = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
        if all(has.pop(k, None) == v for k, v in labels.items()):
            found[tuple(sorted(has.items()))] = float(match[3])
    return found


def test_metrics():
    hooks.on("/yes")
    hooks.on("/no", allowed=False, status={"message": "no", "code": 418})
    with validating(webhook("m-yes.example.com", "/yes"), webhook("m-no.example.com", "/no")):
        create("counted", want=418)
    with mutating(webhook("m-dead.example.com", "/yes", failurePolicy="Ignore",
                          clientConfig={"url": "https://127.0.0.1:1/"})):
        create("counted")
    gone("counted")
    a = "apiserver_admission_"
    equal(samples(a + "webhook_request_total", name="m-yes.example.com"),
          {(("code", "200"), ("operation", "CREATE"), ("rejected", "false"), ("type", "validating")): 1})
    equal(samples(a + "webhook_rejection_count", name="m-no.example.com"),
          {(("error_type", "no_error"), ("operation", "CREATE"), ("rejection_code", "418"),
            ("type", "validating")): 1})
    equal(samples(a + "webhook_admission_duration_seconds_count", name="m-no.example.com"),
          {(("operation", "CREATE"), ("rejected", "true"), ("type", "validating")): 1})
    equal(samples(a + "webhook_fail_open_count", name="m-dead.example.com"), {(("type", "admit"),): 1})
    for name in "NamespaceLifecycle", "MutatingAdmissionWebhook":
        (count,) = samples(a + "controller_admission_duration_seconds_count", name=name, type="admit",
                           operation="CREATE", rejected="false").values()
        check(count > 0, f"{name} is counted")
    check(samples(a + "step_admission_duration_seconds_count", type="validate", operation="CREATE",
                  rejected="true"), "refusals are counted")
    rules = [dict(CMS, operations=["CREATE"])]
    bind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "counted"},
            "spec": {"policyName": "counted", "validationActions": ["Deny"]}}
    server.api("POST", ADM + "validatingadmissionpolicies", typed_policy(
        "counted", rules, {"expression": "object.metadata.name != 'counted'"}))
    server.api("POST", ADM + "validatingadmissionpolicybindings", bind)
    create("counted", want=422)
    equal(samples("apiserver_validating_admission_policy_check_total", policy="counted"),
          {(("enforcement_action", "deny"), ("error_type", "invalid_error"),
            ("policy_binding", "counted")): 1})
    for kind in "policybindings", "policies":
        server.api("DELETE", f"{ADM}validatingadmission{kind}/counted")


# ---- owners that stand twice

def test_duplicate_owners():
    uid = create("owner")[0]["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    other = dict(owner, blockOwnerDeletion=True)  # not the same
    said = ('299 - ".metadata.ownerReferences contains duplicate entries%s; API server dedups owner '
            'references in 1.20+, and may reject such requests as early as 1.24; please fix your '
            'requests; duplicate UID(s) observed: ' + uid + '"')
    made, headers = create("owned", ownerReferences=[owner, other, owner])
    equal((made["metadata"]["ownerReferences"], headers.get_all("Warning")), ([owner, other], [said % ""]))
    path = f"{NS}/owned"
    made["metadata"]["ownerReferences"] = [other, other]
    status, headers, text = server.raw("PUT", path, made)
    equal((status, json.loads(text)["metadata"]["ownerReferences"], headers.get_all("Warning")),
          (200, [other], [said % ""]))
    patch = [{"op": "replace", "path": "/metadata/ownerReferences", "value": [owner, owner]}]
    status, headers, text = server.raw("PATCH", path, patch,
                                       headers={"Content-Type": "application/json-patch+json"})
    equal((status, json.loads(text)["metadata"]["ownerReferences"], headers.get_all("Warning")),
          (200, [owner], [said % " after mutating admission happens"]))
    hooks.on("/own", patch=[{"op": "add", "path": "/metadata/ownerReferences", "value": [owner, owner]}])
    with mutating(webhook("own.example.com", "/own")):
        made, headers = create("owned-by-hook")
    equal((made["metadata"]["ownerReferences"], headers.get_all("Warning")),
          ([owner], [said % " after mutating admission happens"]))
    gone("owned", "owned-by-hook", "owner")


def test_stop():
    """A server that waits for a webhook stops all the same."""
    hooks.release.clear()
    hooks.answers["/never"] = lambda h, _: hooks.release.wait()
    hooks.forget()
    with Server("--datastore-endpoint", "memory://") as other:
        h = webhook("never.example.com", "/never", timeoutSeconds=30,
                    objectSelector={"matchLabels": {"stall": "yes"}})
        other.api("POST", ADM + "validatingwebhookconfigurations", {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "never"}, "webhooks": [h]})
        got = []
        t = threading.Thread(target=lambda: got.append(
            other.raw("POST", NS, config_map("x", labels={"stall": "yes"}))[0]))
        t.start()
        wait_for(lambda: hooks.calls("/never"), "the webhook is asked")
        equal(other.stop(), 0, "exit status")
        t.join()
        equal(got, [500], "the write that waited")
    hooks.release.set()


run(server)
