#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a node may ask for, by names and by selectors; and keys of service accounts that change."""
import base64
import json
import os
import subprocess
from lib import Server, check, equal, holds, run, temp_dir

DIR = temp_dir()
server = Server("--datastore-endpoint", "memory://")
NS = "/api/v1/namespaces/default"
TOKENS = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}


def as_node(node, method, path, body=None, want=200):
    status, _, text = server.raw(method, path, body, {"Impersonate-User": f"system:node:{node}",
                                                      "Impersonate-Group": "system:nodes"})
    equal(status, want, f"{node}: {method} {path}: {text[:400]}")
    return json.loads(text)


def test_objects_of_its_pods():
    for n in "12":
        server.api("POST", "/api/v1/nodes", {"metadata": {"name": f"n{n}"}})
        server.api("POST", NS + "/secrets", {"metadata": {"name": f"s{n}"}, "stringData": {"a": n}})
        server.api("POST", NS + "/serviceaccounts", {"metadata": {"name": f"a{n}"}})
        server.api("POST", NS + "/pods", {"metadata": {"name": f"p{n}", "labels": {"app": "x"}}, "spec": {
            "nodeName": f"n{n}", "serviceAccountName": f"a{n}",
            "containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": f"s{n}"}}]}]}})
    equal(base64.b64decode(as_node("n1", "GET", NS + "/secrets/s1")["data"]["a"]), b"1")
    m = as_node("n1", "GET", NS + "/secrets/s2", want=403)["message"]
    equal(m, 'secrets "s2" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in the '
          "namespace \"default\": no relationship found between node 'n1' and this object")
    # A list or a watch of one name is a read of it.
    one = as_node("n1", "GET", NS + "/secrets?fieldSelector=metadata.name%3Ds1")
    equal([o["metadata"]["name"] for o in one["items"]], ["s1"])
    for query in ("", "?fieldSelector=metadata.name%3Ds2", "?fieldSelector=metadata.name!%3Ds2",
                  "?fieldSelector=metadata.name%3Ds1,metadata.name%3Ds2", "?fieldSelector=type%3DOpaque",
                  "?labelSelector=metadata.name%3Ds1", "?watch=true", "?limit=1"):
        as_node("n1", "GET", NS + "/secrets" + query, want=403)
    as_node("n1", "GET", "/api/v1/secrets?fieldSelector=metadata.name%3Ds1", want=403)
    for method, path, body in (("DELETE", "/secrets/s1", None), ("PUT", "/secrets/s1", {"metadata": {"name": "s1"}}),
                               ("POST", "/secrets", {"metadata": {"name": "own"}}), ("GET", "/configmaps/none", None),
                               ("DELETE", "/secrets?fieldSelector=metadata.name%3Ds1", None)):
        as_node("n1", method, NS + path, body, 403)


def test_selectors_of_pods_and_nodes():
    pods = "/api/v1/pods?fieldSelector="
    equal([p["metadata"]["name"] for p in as_node("n1", "GET", pods + "spec.nodeName%3Dn1")["items"]], ["p1"])
    as_node("n1", "GET", NS + "/pods?fieldSelector=spec.nodeName%3D%3Dn1,status.phase!%3DFailed&labelSelector=app")
    for path in ("/api/v1/pods", NS + "/pods", pods + "spec.nodeName%3Dn2", pods + "spec.nodeName!%3Dn1",
                 pods + "spec.nodeName!%3Dn2", pods + "status.phase%3DPending", pods + "spec.nodeName%3D",
                 "/api/v1/pods?labelSelector=spec.nodeName%3Dn1", "/api/v1/pods?watch=1",
                 pods + "spec.nodeName%3Dn1%20", NS + "/pods/p2"):
        as_node("n1", "GET", path, want=403)
    as_node("n1", "GET", NS + "/pods/p1")
    as_node("n1", "GET", "/api/v1/nodes/n1")
    equal(len(as_node("n1", "GET", "/api/v1/nodes?fieldSelector=metadata.name%3Dn1")["items"]), 1)
    for path in ("/api/v1/nodes/n2", "/api/v1/nodes", "/api/v1/nodes?fieldSelector=metadata.name%3Dn2"):
        as_node("n1", "GET", path, want=403)
    as_node("n1", "DELETE", NS + "/pods?fieldSelector=spec.nodeName%3Dn1", want=403)
    as_node("n1", "DELETE", NS + "/pods/p2", want=403)
    as_node("n1", "PATCH", "/api/v1/nodes/n2/status", {}, 403)
    as_node("n1", "DELETE", "/api/v1/nodes/n1", want=403)
    as_node("n1", "POST", NS + "/pods", {"metadata": {"name": "any"}, "spec": {
        "nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}}, 403)


def test_tokens_and_leases_of_its_own():
    uid = server.get(NS + "/pods/p1")["metadata"]["uid"]

    def token(account, want, **ref):
        spec = {"boundObjectRef": dict({"kind": "Pod", "apiVersion": "v1"}, **ref)} if ref else {}
        return as_node("n1", "POST", f"{NS}/serviceaccounts/{account}/token", {**TOKENS, "spec": spec}, want)
    token("a1", 201, name="p1", uid=uid)
    token("a1", 403)
    token("a1", 403, name="p1")
    token("a1", 403, name="p2", uid=server.get(NS + "/pods/p2")["metadata"]["uid"])
    token("a2", 403, name="p2", uid=server.get(NS + "/pods/p2")["metadata"]["uid"])
    token("default", 403, name="p1", uid=uid)
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

    def lease(name):
        return {"metadata": {"name": name}, "spec": {"holderIdentity": name}}
    as_node("n1", "POST", leases, lease("n1"), 201)
    as_node("n1", "POST", leases, lease("n2"), 403)
    as_node("n1", "GET", leases, want=403)
    as_node("n1", "POST", "/apis/coordination.k8s.io/v1/namespaces/default/leases", lease("n1"), 403)
    # Without the group, or without a name, it is no node.
    for user, groups in (("system:node:n1", "system:authenticated"), ("system:node:", "system:nodes"),
                         ("n1", "system:nodes")):
        status, _, text = server.raw("GET", NS + "/secrets/s1", None,
                                     {"Impersonate-User": user, "Impersonate-Group": groups})
        equal(status, 403, text)
    # Gone with the pod.
    server.api("DELETE", NS + "/pods/p1?gracePeriodSeconds=0")
    as_node("n1", "GET", NS + "/secrets/s1", want=403)
    token("a1", 403, name="p1", uid=uid)


def key(name):
    path = os.path.join(DIR, name)
    subprocess.run(["openssl", "genrsa", "-out", path, "2048"], check=True, capture_output=True)
    return path


def test_keys_that_change():
    """A new key signs, tokens of the old one hold as long as its public part is given."""
    old, new = key("old.key"), key("new.key")
    data = temp_dir()

    def start(*flags):
        return Server(*flags, data=data)

    def whoami(s, token):
        c = s.connect(anonymous=True)
        try:
            return s.raw("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {
                "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
                {"Authorization": f"Bearer {token}"}, connection=c)[0]
        finally:
            c.close()

    def made(s):
        return s.kubectl("create", "token", "default").strip()

    def kids(s):
        return [k["kid"] for k in s.get("/openid/v1/jwks")["keys"]]

    def kid(token):
        return json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))["kid"]
    with start("--service-account-signing-key-file", old, "--service-account-key-file", old) as s:
        s.kubectl("create", "serviceaccount", "other")
        first = made(s)
        equal(kids(s), [kid(first)])
        equal(whoami(s, first), 201)
    both = ("--service-account-signing-key-file", new, "--service-account-key-file", old,
            "--service-account-key-file", new)
    with start(*both) as s:
        second = made(s)
        equal(sorted(kids(s)), sorted([kid(first), kid(second)]))
        check(kid(first) != kid(second), "the same key")
        equal((whoami(s, first), whoami(s, second)), (201, 201))
        # The old signature under the new key's name.
        head, claims, signature = first.split(".")
        forged = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": kid(second)}).encode()).rstrip(b"=")
        equal(whoami(s, ".".join((forged.decode(), claims, signature))), 401)
    with start("--service-account-signing-key-file", new, "--service-account-key-file", new) as s:
        equal(kids(s), [kid(second)])
        equal((whoami(s, first), whoami(s, second)), (401, 201))
        holds(s.kubectl("get", "--raw", "/.well-known/openid-configuration"), "RS256")


if __name__ == "__main__":
    run(server)
