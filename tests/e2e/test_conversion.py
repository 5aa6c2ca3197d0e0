#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Custom resources whose versions a webhook converts: reads, lists, watches and writes in either
version, what is stored, what a webhook must not do, and one that is slow or dead."""
import base64
import http.client
import http.server
import json
import os
import ssl
import subprocess
import threading
from lib import Server, check, equal, holds, run, temp_dir, wait_for

server = Server("--datastore-endpoint", "memory://", "--feature-gates", "StorageVersionMigrator=true",
                "--runtime-config", "storagemigration.k8s.io/v1beta1=true")
k = server.kubectl
V1 = "/apis/conv.example.com/v1/namespaces/default/hosts"
V2 = "/apis/conv.example.com/v2/namespaces/default/hosts"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/hosts.conv.example.com"
MERGE = {"Content-Type": "application/merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}


class Hooks:
    """v1 has spec.hostPort "host:port", v2 spec.host and spec.port. `spoil` changes the answers."""

    def __init__(self):
        self.dir = temp_dir()
        self.key, self.cert = (os.path.join(self.dir, n) for n in ("key.pem", "cert.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-subj", "/CN=hooks", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", self.key, "-out", self.cert], check=True, capture_output=True)
        self.lock, self.asked, self.reviews = threading.Lock(), [], []
        self.spoil, self.gate = None, None
        self.waiting = self.most = 0
        self.admitted, self.dead = [], False
        hooks = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536  # one segment an answer

            def log_message(self, *_):
                pass

            def answer(self, body, status=200):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def admit(self, review):
                request = review["request"]
                hooks.admitted.append(request)
                response = {"uid": request["uid"], "allowed": True}
                if (request.get("object") or {}).get("spec", {}).get("port") == "1":
                    patch = [{"op": "replace", "path": "/spec/port", "value": "9"}]
                    response["patch"] = base64.b64encode(json.dumps(patch).encode()).decode()
                    response["patchType"] = "JSONPatch"
                self.answer({"apiVersion": review["apiVersion"], "kind": "AdmissionReview",
                             "response": response})

            def do_POST(self):
                if hooks.dead:  # what is left of its connections
                    self.close_connection = True
                    return
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path.partition("?")[0].endswith("/admit"):
                    self.admit(review)
                    return
                request = review["request"]
                with hooks.lock:
                    hooks.asked.append((request["desiredAPIVersion"],
                                        [o["metadata"].get("name") for o in request["objects"]]))
                    hooks.reviews.append(review)
                    gate, spoil = hooks.gate, hooks.spoil
                    hooks.waiting += 1
                    hooks.most = max(hooks.most, hooks.waiting)
                if gate:
                    gate.wait(240)
                with hooks.lock:
                    hooks.waiting -= 1
                objects = [convert(o, request["desiredAPIVersion"]) for o in request["objects"]]
                answer = {"apiVersion": review["apiVersion"], "kind": "ConversionReview",
                          "response": {"uid": request["uid"], "convertedObjects": objects,
                                       "result": {"status": "Success"}}}
                status = spoil(answer) if spoil else 200
                self.answer(answer, status or 200)

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):  # a caller that went away
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.cert, self.key)
        self.http.socket = tls.wrap_socket(self.http.socket, server_side=True,
                                           do_handshake_on_connect=False)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"https://127.0.0.1:{self.http.server_address[1]}/convert"

    def client(self):
        with open(self.cert, "rb") as f:
            return {"url": self.url, "caBundle": base64.b64encode(f.read()).decode()}

    def take(self):
        with self.lock:
            asked, self.asked = self.asked, []
        return asked


def convert(o, to):
    o = json.loads(json.dumps(o))
    spec = o.get("spec", {})
    if to.endswith("/v2") and "hostPort" in spec:
        spec["host"], _, spec["port"] = spec.pop("hostPort").partition(":")
    elif to.endswith("/v1") and "host" in spec:
        spec["hostPort"] = spec.pop("host") + ":" + spec.pop("port", "")
    spec["unknown"] = "pruned"
    o["apiVersion"] = to
    o["metadata"].setdefault("annotations", {})["converted-to"] = to[-2:]
    return o


hooks = Hooks()


class Spoiled:
    def __init__(self, spoil):
        self.spoil = spoil

    def __enter__(self):
        hooks.spoil = self.spoil

    def __exit__(self, *_):
        hooks.spoil = None


def version(name, storage, **properties):
    fields = {p: {"type": "string"} for p in properties["spec"]}
    fields["replicas"] = {"type": "integer"}
    if name == "v2":
        fields["port"]["default"] = "80"
    return {"name": name, "served": True, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": fields},
                "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}}},
            "selectableFields": [{"jsonPath": ".spec." + properties["spec"][0]}],
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                                                     "statusReplicasPath": ".status.replicas"}},
            "additionalPrinterColumns": [{"name": f.capitalize(), "type": "string",
                                          "jsonPath": ".spec." + f} for f in properties["spec"]]}


def definition(stored="v1", reviews=("v1",)):
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "hosts.conv.example.com"},
            "spec": {"group": "conv.example.com", "scope": "Namespaced",
                     "names": {"plural": "hosts", "singular": "host", "kind": "Host",
                               "listKind": "HostList"},
                     "conversion": {"strategy": "Webhook", "webhook": {
                         "clientConfig": hooks.client(),
                         "conversionReviewVersions": list(reviews)}},
                     "versions": [version("v1", stored == "v1", spec=["hostPort"]),
                                  version("v2", stored == "v2", spec=["host", "port"])]}}


def host(name, v="v1", **spec):
    return {"apiVersion": "conv.example.com/" + v, "kind": "Host", "metadata": {"name": name},
            "spec": spec}


def set_stored(v):
    server.api("PATCH", CRD, body={"spec": {"versions": definition(v)["spec"]["versions"]}},
               headers=MERGE)


def refused(method, path, body=None, headers=None):
    code, _, text = server.raw(method, path, body=body, headers=headers)
    return code, json.loads(text)["message"]


class Watch:
    """Reads events as they come."""

    def __init__(self, path, query=""):
        self.c = server.connect(60)
        self.c.request("GET", f"{path}?watch=1{query}")
        self.r = self.c.getresponse()

    def next(self):
        line = self.r.readline()
        return json.loads(line) if line.strip() else None

    def close(self):
        self.c.close()


def test_reads():
    k("create", "-f", "-", stdin=json.dumps(definition()))
    server.established("hosts.conv.example.com")
    server.api("POST", V1, host("a", hostPort="x:1", replicas=1))
    equal(hooks.take(), [], "the stored version needs nobody")
    a = server.get(V2 + "/a")
    equal((a["apiVersion"], a["spec"]), ("conv.example.com/v2",
                                         {"host": "x", "port": "1", "replicas": 1}))
    equal(a["metadata"]["annotations"], {"converted-to": "v2"})
    equal(a["metadata"]["uid"], server.get(V1 + "/a")["metadata"]["uid"])
    equal(hooks.take(), [("conv.example.com/v2", ["a"])])
    server.get(V2 + "/a")
    equal(hooks.take(), [], "it is kept with the version")
    question = hooks.reviews[0]
    equal((question["apiVersion"], question["kind"]),
          ("apiextensions.k8s.io/v1", "ConversionReview"))
    check("resourceVersion" not in question["request"]["objects"][0]["metadata"], "as stored")


def test_writes():
    b = server.api("POST", V2, host("b", "v2", host="y"))
    equal(b["spec"], {"host": "y", "port": "80"}, "defaults of the version that was sent")
    equal(hooks.take(), [("conv.example.com/v1", ["b"]), ("conv.example.com/v2", ["b"])])
    equal(server.get(V1 + "/b")["spec"], {"hostPort": "y:80"})
    b["spec"]["port"] = "8080"
    b = server.api("PUT", V2 + "/b", b)
    equal(b["metadata"]["generation"], 2)
    server.api("PATCH", V2 + "/b", body={"spec": {"host": "z"}}, headers=MERGE)
    equal(server.get(V1 + "/b")["spec"], {"hostPort": "z:8080"})
    server.api("PATCH", V2 + "/b/status", body={"status": {"replicas": 3}}, headers=MERGE)
    equal(server.get(V1 + "/b")["status"], {"replicas": 3})
    server.api("PATCH", V2 + "/b/scale", body={"spec": {"replicas": 5}}, headers=MERGE)
    equal(server.get(V1 + "/b")["spec"]["replicas"], 5)
    equal(server.get(V2 + "/b/scale")["spec"]["replicas"], 5)
    k("delete", "hosts.v2.conv.example.com", "b")
    equal(server.raw("GET", V1 + "/b")[0], 404)


def test_managers():
    apply = {"apiVersion": "conv.example.com/v2", "kind": "Host", "metadata": {"name": "m"},
             "spec": {"host": "one", "port": "1"}}
    server.api("PATCH", V2 + "/m?fieldManager=two", body=json.dumps(apply), headers=APPLY)
    entry = server.get(V1 + "/m")["metadata"]["managedFields"][0]
    equal((entry["manager"], entry["apiVersion"]), ("two", "conv.example.com/v2"))
    # Nobody changed what v2's manager owns: both keep what they have, each in its version.
    server.api("PATCH", V1 + "/m?fieldManager=one", headers=APPLY, body=json.dumps(
        {"apiVersion": "conv.example.com/v1", "kind": "Host", "spec": {"replicas": 2}}))
    managers = {e["manager"]: e["apiVersion"]
                for e in server.get(V2 + "/m")["metadata"]["managedFields"]}
    equal(managers, {"two": "conv.example.com/v2", "one": "conv.example.com/v1"})
    # The same value in another version is no conflict; another one is, named as its owner knows it.
    same = {"apiVersion": "conv.example.com/v1", "kind": "Host", "spec": {"hostPort": "one:1"}}
    server.api("PATCH", V1 + "/m?fieldManager=three", headers=APPLY, body=json.dumps(same))
    same["spec"]["hostPort"] = "other:1"
    code, message = refused("PATCH", V1 + "/m?fieldManager=four", json.dumps(same), APPLY)
    equal(code, 409)
    holds(message, 'conflicts with "two":', r"^- \.spec\.host$", '"three"')
    server.api("PATCH", V1 + "/m?fieldManager=four&force=true", headers=APPLY,
               body=json.dumps(same))
    owners = {e["manager"]: json.dumps(e["fieldsV1"])
              for e in server.get(V2 + "/m")["metadata"]["managedFields"]}
    check("f:host\"" not in owners["two"], owners)
    check("f:port" in owners["two"], owners)
    equal(server.get(V2 + "/m")["spec"]["host"], "other")
    server.api("DELETE", V1 + "/m")


def test_lost_races():
    """Others write while a patch has its owners of fields converted, again and again."""
    apply = {"apiVersion": "conv.example.com/v2", "kind": "Host", "metadata": {"name": "race"},
             "spec": {"host": "one", "port": "1"}}
    server.api("PATCH", V2 + "/race?fieldManager=two", body=json.dumps(apply), headers=APPLY)
    busy, left = threading.Lock(), list(range(70))

    def spoil(_):
        if busy.acquire(blocking=False):  # not for the conversions of this one
            try:
                if left:
                    server.api("PATCH", V1 + "/race?fieldManager=racer", headers=MERGE,
                               body={"spec": {"replicas": 100 + left.pop()}})
            finally:
                busy.release()

    with Spoiled(spoil):
        o = server.api("PATCH", V1 + "/race?fieldManager=patch", headers=MERGE,
                       body={"spec": {"replicas": 50}})
    equal((left, o["spec"]), ([], {"hostPort": "one:1", "replicas": 50}))
    equal({e["manager"] for e in o["metadata"].get("managedFields", [])},
          {"two", "patch"}, "owners")
    server.api("DELETE", V1 + "/race")


def test_lists():
    for i in range(5):
        server.api("POST", V1, host(f"l{i}", hostPort=f"h{i}:{i}"))
    hooks.take()
    items = server.get(V2)["items"]
    equal([o["spec"].get("host") for o in items], ["x", "h0", "h1", "h2", "h3", "h4"])
    equal(hooks.take(), [("conv.example.com/v2", [f"l{i}" for i in range(5)])],
          "one call, of those that were not converted yet")
    first = server.get(V2 + "?limit=2")
    equal((len(first["items"]), first["metadata"]["remainingItemCount"]), (2, 4))
    rest = server.get(V2 + "?continue=" + first["metadata"]["continue"])
    equal(len(rest["items"]), 4)
    equal([o["metadata"]["name"] for o in server.get(V2 + "?fieldSelector=spec.host%3Dh3")["items"]],
          ["l3"])
    holds(k("get", "hosts.v2.conv.example.com"), r"^NAME +HOST +PORT$", r"^l1 +h1 +1$")
    holds(k("get", "hosts.v1.conv.example.com"), r"^NAME +HOSTPORT$", r"^l1 +h1:1$")
    # As it was at a revision that is past, when nobody has asked for it in this version.
    def write(prefix):
        for i in range(5):
            server.api("PATCH", f"{V1}/l{i}", headers=MERGE,
                       body={"spec": {"hostPort": f"{prefix}{i}:{i}"}})
        return server.get(V1)["metadata"]["resourceVersion"]

    exact = f"{V2}?resourceVersionMatch=Exact&resourceVersion={write('then')}"
    write("h")
    with Spoiled(lambda a: a["response"].update(result={"message": "not today"})):
        code, message = refused("GET", exact)
        equal(code, 500)
        holds(message, "not today$")
    hooks.take()
    page = server.get(exact + "&limit=2")
    equal([o["spec"].get("host") for o in page["items"]], ["x", "then0"])
    asked = [name for _, names in hooks.take() for name in names]
    check({"l0"} <= set(asked) <= {"one", "l0", "l1"}, f"no more than the page and one: {asked}")
    equal([o["spec"].get("host") for o in server.get(exact)["items"]],
          ["x", "then0", "then1", "then2", "then3", "then4"])


def test_watches():
    rv = server.get(V1)["metadata"]["resourceVersion"]
    watches = [Watch(V2, f"&resourceVersion={rv}") for _ in range(20)]
    old = Watch(V1, f"&resourceVersion={rv}")
    listed = Watch(V2, "&labelSelector=w")
    hooks.take()
    for i in range(3):
        server.api("POST", V1, host(f"w{i}", hostPort=f"h{i}:{i}"))
    server.api("PATCH", V1 + "/w1", body={"spec": {"hostPort": "new:1"},
                                          "metadata": {"labels": {"w": "1"}}}, headers=MERGE)
    server.api("DELETE", V1 + "/w0")
    want = [("ADDED", "w0", "h0"), ("ADDED", "w1", "h1"), ("ADDED", "w2", "h2"),
            ("MODIFIED", "w1", "new"), ("DELETED", "w0", "h0")]
    for w in watches:
        got = [w.next() for _ in want]
        equal([(e["type"], e["object"]["metadata"]["name"], e["object"]["spec"]["host"])
               for e in got], want)
        equal({e["object"]["apiVersion"] for e in got}, {"conv.example.com/v2"})
    equal([old.next()["object"]["spec"]["hostPort"] for _ in want],
          ["h0:0", "h1:1", "h2:2", "new:1", "h0:0"])
    e = listed.next()
    equal((e["type"], e["object"]["spec"]["host"]), ("ADDED", "new"))
    names = [n for _, objects in hooks.take() for n in objects]
    check(len(names) <= 4 * 8, f"{len(names)} conversions of 4 versions by 8 loops at most")
    for w in watches + [old, listed]:
        w.close()


def test_refused_answers():
    of = "conversion webhook for conv.example.com/v1, Kind=Host "

    def object_of(change):
        def spoil(answer):
            change(answer["response"]["convertedObjects"][0])
        return spoil

    def response(**more):
        def spoil(answer):
            answer["response"].update(more)
        return spoil

    cases = [
        (response(uid="no"), r'failed: expected response.uid="[0-9a-f-]{36}", got "no"$'),
        (response(result={"status": "Failed", "message": "not today"}), "failed: not today$"),
        (response(result={}), "failed: response.result.status was '', not 'Success'$"),
        (response(convertedObjects=[]), "returned 0 objects, expected 1$"),
        (object_of(lambda o: o.update(apiVersion="conv.example.com/v3")),
         r"returned invalid object at index 0: invalid groupVersion \(expected "
         r"conv.example.com/v2, received conv.example.com/v3\)$"),
        (object_of(lambda o: o.update(kind="Guest")),
         r"returned invalid object at index 0: invalid kind \(expected Host, received Guest\)$"),
        (object_of(lambda o: o["metadata"].update(name="other")),
         "returned invalid object: must have the same name: s != other$"),
        (object_of(lambda o: o["metadata"].update(uid="1")),
         "returned invalid object: must have the same UID: [0-9a-f-]{36} != 1$"),
        (object_of(lambda o: o["metadata"].update(labels={"a/b/c": "d"})),
         'returned invalid metadata: metadata.labels: Invalid value: "a/b/c": '),
        (lambda answer: answer.update(response=None), "failed: no response provided$"),
        (lambda answer: 500, "failed: an error on the server"),
    ]
    server.api("POST", V1, host("s", hostPort="s:1"))
    for spoil, want in cases:
        with Spoiled(spoil):
            code, message = refused("GET", V2 + "/s")
        equal(code, 500, want)
        holds(message, "^" + of + want)
    # What a webhook does to metadata beyond labels and annotations is not taken.
    with Spoiled(object_of(lambda o: o["metadata"].update(finalizers=["x/y"], ownerReferences=[],
                                                          labels={"new": "label"}))):
        meta = server.get(V2 + "/s")["metadata"]
    equal((meta.get("finalizers"), meta["labels"]), (None, {"new": "label"}))
    with Spoiled(lambda answer: 500):
        code, message = refused("POST", V2, host("t", "v2", host="t"))
        equal(code, 500)
        holds(message, "^conversion webhook for conv.example.com/v2, Kind=Host failed: ")
        server.api("POST", V1, host("t", hostPort="t:1"))
        holds(refused("GET", V2)[1], "^" + of + "failed: an error on the server")
        holds(server.kubectl_fails("get", "hosts.v2.conv.example.com", "t"),
              "Error from server: conversion webhook for conv.example.com/v1, Kind=Host failed: ")
        w = Watch(V2)
        events = []
        while True:
            e = w.next()
            if e is None:
                break
            events.append(e)
        equal((events[-1]["type"], events[-1]["object"]["code"], events[-1]["object"]["reason"]),
              ("ERROR", 500, "InternalError"))
        holds(events[-1]["object"]["message"], "^conversion webhook for ")
        w.close()
    equal(server.get(V2 + "/t")["spec"]["host"], "t", "it comes back when the webhook does")
    holds(server.raw("GET", "/metrics")[2].decode(),
          r'^apiserver_crd_conversion_webhook_duration_seconds_count\{crd_name='
          r'"hosts.conv.example.com",from_version="v1",succeeded="true",to_version="v2"\} [1-9]',
          r'^apiserver_conversion_webhook_request_total\{failure_type='
          r'"conversion_webhook_call_failure",result="failure"\} [1-9]')


def test_slow():
    """Many requests and watches on a webhook that hangs: few calls, others are served."""
    for i in range(300):
        server.api("POST", V1, host(f"z{i}", hostPort=f"z:{i}"))
    hooks.gate = threading.Event()
    hooks.most = 0
    codes = []

    def get(i):
        codes.append(server.raw("GET", f"{V2}/z{i}")[0])
    threads = [threading.Thread(target=get, args=(i,)) for i in range(300)]
    try:
        for t in threads:
            t.start()
        wait_for(lambda: check(hooks.waiting >= 32, "no calls") or True, "calls that hang")
        equal(server.get(V1 + "/z7")["spec"]["hostPort"], "z:7", "others go on")
        server.api("POST", V1, host("beside", hostPort="b:1"))
        equal(codes, [])
    finally:
        hooks.gate.set()
    for t in threads:
        t.join(240)
    hooks.gate = None
    equal(set(codes), {200})
    check(hooks.most <= 64 * 8, f"{hooks.most} calls at a time")
    server.api("DELETE", V1)


def test_admission():
    """Webhooks and policies with rules for v2 see requests of v1 as v2, and their patches go back."""
    rules = [{"operations": ["CREATE", "UPDATE", "DELETE"], "apiGroups": ["conv.example.com"],
              "apiVersions": ["v2"], "resources": ["hosts"]}]
    adm = "/apis/admissionregistration.k8s.io/v1/"
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": "conv"},
        "webhooks": [{"name": "hosts.conv.example.com", "rules": rules, "sideEffects": "None",
                      "clientConfig": dict(hooks.client(), url=hooks.url + "/admit"),
                      "admissionReviewVersions": ["v1"], "matchPolicy": "Equivalent"}]}
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        server.api("POST", f"{adm}{kind.lower()}s", dict(configuration, kind=kind))
    server.api("POST", adm + "validatingadmissionpolicies", {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "conv"}, "spec": {
            "matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": "object == null || object.spec.host != 'forbidden'"}]}})
    server.api("POST", adm + "validatingadmissionpolicybindings", {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "conv"}, "spec": {"policyName": "conv", "validationActions": ["Deny"]}})
    try:
        hooks.admitted = []
        o = server.api("POST", V1, host("adm", hostPort="new:1"))
        equal(o["spec"], {"hostPort": "new:9"}, "what the webhook made of v2")
        equal([(r["kind"]["version"], r["requestKind"]["version"], r["object"]["spec"])
               for r in hooks.admitted],
              [("v2", "v1", {"host": "new", "port": "1"}), ("v2", "v1", {"host": "new", "port": "9"})])
        server.api("PATCH", V1 + "/adm", body={"spec": {"hostPort": "next:9"}}, headers=MERGE)
        equal(hooks.admitted[-1]["oldObject"]["spec"], {"host": "new", "port": "9"})
        code, message = refused("POST", V1, host("no", hostPort="forbidden:1"))
        equal(code, 422)
        holds(message, "ValidatingAdmissionPolicy 'conv' with binding 'conv' denied request")
        server.api("DELETE", V1 + "?fieldSelector=metadata.name%3Dadm")
        equal(hooks.admitted[-1]["operation"], "DELETE")
        equal(hooks.admitted[-1]["oldObject"]["spec"], {"host": "next", "port": "9"})
    finally:
        for plural in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations",
                       "validatingadmissionpolicies", "validatingadmissionpolicybindings"):
            server.api("DELETE", f"{adm}{plural}/conv")


def test_mutating_policy():
    """A mutating policy with rules for v2 changes what comes as v1, with or without a name."""
    adm = "/apis/admissionregistration.k8s.io/v1/"
    server.api("POST", adm + "mutatingadmissionpolicies", {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "port"}, "spec": {
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [
                {"operations": ["CREATE", "UPDATE"], "apiGroups": ["conv.example.com"],
                 "apiVersions": ["v2"], "resources": ["hosts"]}]},
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {
                "expression": "Object{spec: Object.spec{port: '77'}}"}}]}})
    server.api("POST", adm + "mutatingadmissionpolicybindings", {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": "port"}, "spec": {"policyName": "port"}})
    unnamed = host("", hostPort="g:1")
    unnamed["metadata"] = {"generateName": "map-"}
    try:
        hooks.take()
        equal(server.api("POST", V1, host("map", hostPort="x:1"))["spec"], {"hostPort": "x:77"})
        equal([to[-2:] for to, _ in hooks.take()], ["v2", "v1", "v2"], "there, back, to look again")
        o = server.api("POST", V1, unnamed)
        holds(o["metadata"]["name"], "^map-.{5}$")
        equal(o["spec"], {"hostPort": "g:77"})
        server.api("DELETE", f"{V1}/{o['metadata']['name']}")
        o = server.api("PATCH", V1 + "/map", body={"spec": {"hostPort": "x:2"}}, headers=MERGE)
        equal(o["spec"], {"hostPort": "x:77"})
        hooks.take()
        with Spoiled(lambda a: a["response"].update(result={"message": "not today"})):
            holds(refused("POST", V1, host("none", hostPort="x:1"))[1], "not today$")
        equal(len(hooks.take()), 1, "calls")
    finally:
        for plural in ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings"):
            server.api("DELETE", f"{adm}{plural}/port")
        server.raw("DELETE", V1 + "/map")


def test_params():
    """Parameters in another version; one that cannot be converted is asked for once a request."""
    adm = "/apis/admissionregistration.k8s.io/v1/"
    maps = "/api/v1/namespaces/default/configmaps"
    server.api("POST", V1, host("param", hostPort="only:1"))
    server.api("POST", adm + "validatingadmissionpolicies", {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "params"}, "spec": {
            "paramKind": {"apiVersion": "conv.example.com/v2", "kind": "Host"},
            "matchConstraints": {"resourceRules": [
                {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                 "resources": ["configmaps"]}]},
            "validations": [{"expression": "object.data.host == params.spec.host"}]}})
    server.api("POST", adm + "validatingadmissionpolicybindings", {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "params"}, "spec": {
            "policyName": "params", "validationActions": ["Deny"], "paramRef": {
                "name": "param", "namespace": "default", "parameterNotFoundAction": "Deny"}}})

    def config(name, value):
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
                "data": {"host": value}}
    try:
        server.api("POST", maps, config("right", "only"))
        equal(refused("POST", maps, config("wrong", "other"))[0], 422)
        server.api("PATCH", V1 + "/param", body={"spec": {"hostPort": "new:1"}}, headers=MERGE)
        hooks.take()
        with Spoiled(lambda a: a["response"].update(result={"message": "not today"})):
            holds(refused("POST", maps, config("none", "new"))[1], "not today$")
        equal(hooks.take(), [("conv.example.com/v2", ["param"])], "calls")
        server.api("POST", maps, config("new", "new"))
    finally:
        for plural in ("validatingadmissionpolicies", "validatingadmissionpolicybindings"):
            server.api("DELETE", f"{adm}{plural}/params")
        for name in ("right", "new"):
            server.raw("DELETE", f"{maps}/{name}")
        server.api("DELETE", V1 + "/param")


def test_stored_version():
    server.api("POST", V1, host("old", hostPort="o:1"))
    set_stored("v2")
    status = server.get(CRD)["status"]
    equal(status["storedVersions"], ["v1", "v2"])
    hooks.take()
    equal(server.get(V2 + "/old")["spec"], {"host": "o", "port": "1"})
    equal(hooks.take(), [("conv.example.com/v2", ["old"])], "it is still stored as v1")
    before = server.get(V2 + "/old")["metadata"]["resourceVersion"]
    text = k("get", "hosts.v2.conv.example.com", "old", "-o", "json")
    k("replace", "-f", "-", stdin=text)
    hooks.take()
    after = server.get(V2 + "/old")["metadata"]["resourceVersion"]
    check(before != after, "a write of the same rewrites it")
    equal(server.get(V1 + "/old")["spec"], {"hostPort": "o:1"})
    equal(hooks.take(), [("conv.example.com/v1", ["old"])], "now it is stored as v2")
    k("replace", "-f", "-", stdin=k("get", "hosts.v2.conv.example.com", "old", "-o", "json"))
    equal(server.get(V2 + "/old")["metadata"]["resourceVersion"], after, "nothing to rewrite")


def test_migration():
    """A StorageVersionMigration rewrites what is stored as v1, and the definition says so."""
    svm = "/apis/storagemigration.k8s.io/v1beta1/storageversionmigrations"
    set_stored("v1")
    for i in range(300):
        server.api("POST", V1, host(f"s{i}", hostPort=f"m:{i}"))
    set_stored("v2")
    equal(server.get(CRD)["status"]["storedVersions"], ["v1", "v2"])
    before_n = len(server.get(V2)["items"])
    before = server.get(V2 + "/s7")["metadata"]["resourceVersion"]
    for name in ("one", "two"):
        server.api("POST", svm, {
            "apiVersion": "storagemigration.k8s.io/v1beta1", "kind": "StorageVersionMigration",
            "metadata": {"name": name},
            "spec": {"resource": {"group": "conv.example.com", "resource": "hosts"}}})

    def states(name):
        status = server.get(f"{svm}/{name}").get("status", {})
        return {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions", [])}
    over = {"Running": ("False", "MigrationCompleted"),
            "Succeeded": ("True", "StorageVersionMigrationSucceeded")}
    for name in ("one", "two"):
        wait_for(lambda n=name: equal(states(n), over) or True, f"migration {name}")
    equal(server.get(CRD)["status"]["storedVersions"], ["v2"])
    check(server.get(V2 + "/s7")["metadata"]["resourceVersion"] != before, "it was not written")
    hooks.take()
    equal(len(server.get(V2)["items"]), before_n)
    equal(hooks.take(), [], "all are stored as v2")
    conditions = {c["type"]: (c["status"], c["reason"])
                  for c in server.get(CRD)["status"]["conditions"]}
    equal(conditions["StorageMigrating"], ("False", "MigrationSucceeded"))
    server.api("POST", svm, {
        "apiVersion": "storagemigration.k8s.io/v1beta1", "kind": "StorageVersionMigration",
        "metadata": {"name": "maps"}, "spec": {"resource": {"resource": "configmaps"}}})
    wait_for(lambda: equal(states("maps"), over) or True, "migration of config maps")


def test_v1beta1():
    server.api("PATCH", CRD, headers=MERGE, body={"spec": {"conversion": definition(
        reviews=("v9", "v1beta1", "v1"))["spec"]["conversion"]}})
    server.api("POST", V1, host("beta", hostPort="b:1"))

    def anonymous(answer):
        answer["response"].pop("uid")
        answer.pop("apiVersion")
    with Spoiled(anonymous):
        equal(server.get(V1 + "/beta")["spec"], {"hostPort": "b:1"})
    equal(hooks.reviews[-1]["apiVersion"], "apiextensions.k8s.io/v1beta1")


def test_dead():
    hooks.dead = True
    hooks.http.shutdown()
    hooks.http.server_close()
    server.api("POST", V2, host("alone", "v2", host="h"))
    holds(refused("GET", V1 + "/alone")[1],
          r'^conversion webhook for conv.example.com/v2, Kind=Host failed: Post "https://127.0.0.1:'
          r'\d+/convert": ')
    equal(server.get(V2 + "/alone")["spec"], {"host": "h", "port": "80"})
    server.api("DELETE", V2)
    equal(server.get(V2)["items"], [])
    k("delete", "crd", "hosts.conv.example.com")


run(server)
