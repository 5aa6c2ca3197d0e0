#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Authorisation by a policy file (--authorization-mode=ABAC), beside roles."""
import json
import os
import subprocess
from lib import KINGLET, Server, equal, holds, run, temp_dir

DIR = temp_dir()
V1 = {"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy"}
POLICIES = [
    "# what everybody may",
    json.dumps({**V1, "spec": {"group": "readers", "readonly": True, "resource": "*", "namespace": "*",
                               "apiGroup": "*", "nonResourcePath": "/metrics*"}}),
    json.dumps({**V1, "spec": {"user": "amy", "resource": "configmaps", "namespace": "amys"}}),
    '{"user": "vic", "namespace": "vics", "resource": "pods"}',  # of old
    ""]


def write(name, text):
    path = os.path.join(DIR, name)
    with open(path, "w") as f:
        f.write(text)
    return path


tokens = write("tokens.csv", 'amy-secret,amy,u1,"readers"\nvic-secret,vic,u2\nroo-secret,roo,u3\n')
policies = write("policies", "\n".join(POLICIES))
server = Server("--datastore-endpoint", "memory://", "--token-auth-file", tokens, "--authorization-mode",
                "ABAC,RBAC", "--authorization-policy-file", policies)


def ask(user, method, path, body=None):
    c = server.connect(anonymous=True)
    try:
        status, _, text = server.raw(method, path, body, {"Authorization": f"Bearer {user}-secret"}, connection=c)
        return status, text.decode(errors="replace")
    finally:
        c.close()


def test_policies():
    for ns in ("amys", "vics"):
        server.kubectl("create", "namespace", ns)
    maps = "/api/v1/namespaces/amys/configmaps"
    body = {"metadata": {"name": "m"}, "data": {"a": "b"}}
    equal(ask("amy", "POST", maps, body)[0], 201)
    equal(ask("amy", "GET", "/apis/apps/v1/deployments")[0], 200)
    equal(ask("amy", "GET", "/metrics")[0], 200)
    equal(ask("vic", "GET", "/api/v1/namespaces/vics/pods")[0], 200)
    # A policy is for all subresources and verbs, unless it is for reading.
    equal(ask("vic", "DELETE", "/api/v1/namespaces/vics/pods/none")[0], 404)
    status, text = ask("amy", "POST", "/api/v1/namespaces/vics/configmaps", body)
    equal(status, 403, text)
    equal(json.loads(text)["message"], 'configmaps is forbidden: User "amy" cannot create resource "configmaps" in '
          'API group "" in the namespace "vics": No policy matched.')
    status, text = ask("vic", "GET", "/metrics")
    equal((status, json.loads(text)["message"]),
          (403, 'forbidden: User "vic" cannot get path "/metrics": No policy matched.'))
    for user, method, path in (("roo", "GET", maps), ("vic", "GET", maps),
                               ("amy", "POST", "/apis/apps/v1/namespaces/amys/deployments")):
        equal(ask(user, method, path, {} if method == "POST" else None)[0], 403, f"{user} {method} {path}")
    server.kubectl("create", "clusterrolebinding", "roo", "--clusterrole=view", "--user=roo")
    equal(ask("roo", "GET", maps)[0], 200)


def test_rules():
    """SelfSubjectRulesReview: what policies say stands before what roles do."""
    def rules(user, ns):
        status, text = ask(user, "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
                           {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
                            "spec": {"namespace": ns}})
        equal(status, 201, text)
        return json.loads(text)["status"]
    s = rules("amy", "amys")
    equal(s["resourceRules"][:2], [
        {"verbs": ["get", "list", "watch"], "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["*"], "apiGroups": [""], "resources": ["configmaps"]}])
    equal(s["nonResourceRules"][0], {"verbs": ["get", "list", "watch"], "nonResourceURLs": ["/metrics*"]})
    equal(s["incomplete"], False)
    s = rules("vic", "vics")
    equal(s["resourceRules"][0], {"verbs": ["*"], "apiGroups": ["*"], "resources": ["pods"]})
    equal([x for x in rules("vic", "amys")["resourceRules"] if x["resources"] == ["pods"]], [])


def refused(say, *flags):
    s = Server("--datastore-endpoint", "memory://", *flags)
    r = subprocess.run([KINGLET, "server", *s.flags], capture_output=True, text=True, timeout=240)
    equal(r.returncode, 1, r.stderr)
    holds(r.stderr, say)


def test_files_that_are_no_good():
    bad = write("bad", POLICIES[1] + '\n{"user": 5}\n')
    abac = ("--authorization-mode", "ABAC", "--authorization-policy-file")
    refused(f"error reading policy file {bad}, line 2: .\"user\": 5.: json: cannot unmarshal number into Go struct "
            "field Policy.user of type string", *abac, bad)
    refused("open /nowhere: ", *abac, "/nowhere")
    refused("authorization-mode ABAC's authorization policy file not passed", "--authorization-mode", "ABAC")
    refused("cannot specify --authorization-policy-file without mode ABAC", "--authorization-policy-file", policies)


if __name__ == "__main__":
    run(server)
