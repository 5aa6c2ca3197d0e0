#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
"""Bad input gets the Status that kube-apiserver gives, never a crash, never a half-applied write.

The requests are below; what kube-apiserver 1.36.3 answered to them is in bad_input.json. To record
it anew: E2E_KUBECONFIG=upstream's ./test_bad_input.py --record
"""
import json
import os
import re
import socket
import sys
from lib import EXTERNAL, Server, check, config_map, deployment, equal, fail, pod, run, wait_for

server = Server()
NS = "/api/v1/namespaces/bad"
CMS = NS + "/configmaps"
DEPLOYS = "/apis/apps/v1/namespaces/bad/deployments"
RECORDED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bad_input.json")
JSON = {"Content-Type": "application/json"}
YAML = {"Content-Type": "application/yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
JSONPATCH = {"Content-Type": "application/json-patch+json"}
PROTOBUF = {"Content-Type": "application/vnd.kubernetes.protobuf"}


def changed(obj, path, value):
    """A copy of obj with the field at the dotted path set; None takes it away."""
    copy = json.loads(json.dumps(obj))
    *parents, last = path.split(".")
    at = copy
    for key in parents:
        at = at[int(key)] if key.isdigit() else at.setdefault(key, {})
    last = int(last) if last.isdigit() else last
    if value is None:
        del at[last]
    else:
        at[last] = value
    return copy


def cm(path=None, value=None):
    base = config_map("new", {"k": "v"})
    return changed(base, path, value) if path else base


def deploy(path, value):
    return changed(deployment("new", replicas=0), path, value)


def a_pod(path, value):
    return changed(pod("new", "busybox:1"), path, value)


def nested(n, opening, closing, inside="1"):
    return opening * n + inside + closing * n


def in_data(text):
    return '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"new"},"data":%s}' % text


SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "new"}}
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "new"},
           "spec": {"ports": [{"port": 80}]}}
OPTIONS = {"apiVersion": "v1", "kind": "DeleteOptions"}

# (name, method, path, headers, body)
REQUESTS = [
    # ---- JSON
    ("json empty body", "POST", CMS, JSON, ""),
    ("json cut off", "POST", CMS, JSON, '{"apiVersion":"v1","kind":'),
    ("json garbage", "POST", CMS, JSON, "hello"),
    ("json trailing data", "POST", CMS, JSON, json.dumps(cm()) + "x"),
    ("json two objects", "POST", CMS, JSON, json.dumps(cm()) * 2),
    ("json array", "POST", CMS, JSON, "[]"),
    ("json null", "POST", CMS, JSON, "null"),
    ("json number", "POST", CMS, JSON, "1"),
    ("json single quotes", "POST", CMS, JSON, "{'kind': 'ConfigMap'}"),
    ("json trailing comma", "POST", CMS, JSON, '{"apiVersion":"v1","kind":"ConfigMap",}'),
    ("json control character", "POST", CMS, JSON, in_data('{"k":"a\nb"}')),
    ("json bad escape", "POST", CMS, JSON, in_data(r'{"k":"\x"}')),
    ("json leading zero", "POST", DEPLOYS, JSON,
     json.dumps(deploy("spec.replicas", 777)).replace("777", "07")),
    ("json no kind", "POST", CMS, JSON, cm("kind", None)),
    ("json no apiVersion", "POST", CMS, JSON, cm("apiVersion", None)),
    ("json empty object", "POST", CMS, JSON, "{}"),
    ("json another kind", "POST", CMS, JSON, cm("kind", "Secret")),
    ("json unknown kind", "POST", CMS, JSON, cm("kind", "Nosuch")),
    ("json another version", "POST", CMS, JSON, cm("apiVersion", "v2")),
    ("json another group", "POST", DEPLOYS, JSON, deploy("apiVersion", "extensions/v1beta1")),
    ("json kind is a number", "POST", CMS, JSON, cm("kind", 1)),
    # ---- YAML
    ("yaml tab", "POST", CMS, YAML, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n\tname: new\n"),
    ("yaml unclosed", "POST", CMS, YAML, "apiVersion: v1\nkind: [ConfigMap\n"),
    ("yaml scalar", "POST", CMS, YAML, "hello\n"),
    ("yaml wrong type", "POST", CMS, YAML,
     "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: new\ndata:\n  k: 1\n"),
    ("yaml unknown field", "POST", CMS + "?fieldValidation=Strict", YAML,
     "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: new\nnosuch: 1\n"),
    ("yaml duplicate field", "POST", CMS + "?fieldValidation=Strict", YAML,
     "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: new\n  name: new\n"),
    # ---- unknown and duplicate fields
    ("strict unknown field", "POST", CMS + "?fieldValidation=Strict", JSON, cm("nosuch", 1)),
    ("strict unknown nested", "POST", DEPLOYS + "?fieldValidation=Strict", JSON,
     deploy("spec.template.spec.containers.0.imagePolicy", "x")),
    ("strict two unknown", "POST", DEPLOYS + "?fieldValidation=Strict", JSON,
     changed(deploy("spec.nosuch", 1), "other", 2)),
    ("strict wrong case", "POST", CMS + "?fieldValidation=Strict", JSON, cm("Data", {"k": "v"})),
    ("strict duplicate field", "POST", CMS + "?fieldValidation=Strict", JSON,
     in_data('{"k":"v"},"data":{"k":"w"}')),
    ("strict patch", "PATCH", DEPLOYS + "/there?fieldValidation=Strict", STRATEGIC,
     '{"spec":{"nosuch":1}}'),
    ("strict merge patch", "PATCH", CMS + "/there?fieldValidation=Strict", MERGE,
     '{"nosuch":1}'),
    ("strict merge patch duplicate", "PATCH", CMS + "/there?fieldValidation=Strict", MERGE,
     '{"data":{"a":"1"},"data":{"a":"2"}}'),
    ("strict put", "PUT", CMS + "/there?fieldValidation=Strict", JSON,
     changed(cm("metadata.name", "there"), "nosuch", 1)),
    ("fieldValidation unknown value", "POST", CMS + "?fieldValidation=Maybe", JSON, cm()),
    # ---- wrong types
    ("type string for integer", "POST", DEPLOYS, JSON, deploy("spec.replicas", "3")),
    ("type fraction for integer", "POST", DEPLOYS, JSON, deploy("spec.replicas", 1.5)),
    ("type integer too big", "POST", DEPLOYS, JSON, deploy("spec.replicas", 1 << 40)),
    ("type number for string", "POST", CMS, JSON, cm("data.k", 1)),
    ("type boolean for string", "POST", CMS, JSON, cm("metadata.labels", {"a": True})),
    ("type object for string", "POST", CMS, JSON, cm("metadata.name", {"a": 1})),
    ("type string for object", "POST", CMS, JSON, cm("metadata", "x")),
    ("type object for list", "POST", DEPLOYS, JSON, deploy("spec.template.spec.containers", {})),
    ("type list for object", "POST", DEPLOYS, JSON, deploy("spec.template.spec", [])),
    ("type list for map", "POST", CMS, JSON, cm("data", ["a"])),
    ("type string for boolean", "POST", NS + "/pods", JSON, a_pod("spec.hostNetwork", "yes")),
    ("type bad time", "POST", CMS, JSON, cm("metadata.creationTimestamp", "yesterday")),
    ("type bad base64", "POST", NS + "/secrets", JSON, {**SECRET, "data": {"k": "*"}}),
    ("type bad quantity", "POST", NS + "/pods", JSON,
     a_pod("spec.containers.0.resources", {"requests": {"cpu": "1x"}})),
    ("type boolean for intOrString", "POST", NS + "/services", JSON,
     changed(SERVICE, "spec.ports.0.targetPort", True)),
    # ---- depth and size
    ("depth 10000 arrays", "POST", CMS, JSON,
     '{"apiVersion":"v1","kind":"ConfigMap","nosuch":' + nested(10001, "[", "]") + "}"),
    ("depth 10000 objects", "POST", CMS, JSON, in_data(nested(10001, '{"a":', "}"))),
    ("depth 10000 patch", "PATCH", CMS + "/there", MERGE, nested(10001, '{"a":', "}")),
    ("depth 10000 yaml", "POST", CMS, YAML, "a: " + nested(10001, "[", "]")),
    ("size 3 MiB and one", "POST", CMS, JSON, in_data('{"k":"%s"}' % ("x" * (3 << 20)))),
    ("size patch", "PATCH", CMS + "/there", MERGE, '{"data":{"k":"%s"}}' % ("x" * (3 << 20))),
    ("size data over 1 MiB", "POST", CMS, JSON, cm("data.k", "x" * ((1 << 20) + 1))),
    ("size annotations", "POST", CMS, JSON, cm("metadata.annotations", {"a": "x" * (256 << 10)})),
    # ---- names, labels
    ("name upper case", "POST", CMS, JSON, cm("metadata.name", "New")),
    ("name underscore", "POST", CMS, JSON, cm("metadata.name", "a_b")),
    ("name too long", "POST", CMS, JSON, cm("metadata.name", "a" * 254)),
    ("name missing", "POST", CMS, JSON, cm("metadata.name", None)),
    ("name empty", "POST", CMS, JSON, cm("metadata.name", "")),
    ("name slash", "POST", CMS, JSON, cm("metadata.name", "a/b")),
    ("name of a pod", "POST", NS + "/pods", JSON, a_pod("metadata.name", "a..b")),
    ("name of a service", "POST", NS + "/services", JSON,
     changed(SERVICE, "metadata.name", "a.b")),
    ("name of a namespace", "POST", "/api/v1/namespaces", JSON,
     {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a.b"}}),
    ("generateName bad", "POST", CMS, JSON,
     changed(cm("metadata.name", None), "metadata.generateName", "A_")),
    ("name differs from path", "PUT", CMS + "/there", JSON, cm()),
    ("namespace differs", "POST", CMS, JSON, cm("metadata.namespace", "other")),
    ("namespace not there", "POST", "/api/v1/namespaces/nosuch/configmaps", JSON, cm()),
    ("label key", "POST", CMS, JSON, cm("metadata.labels", {"-a": "1"})),
    ("label key prefix", "POST", CMS, JSON, cm("metadata.labels", {"A/b/c": "1"})),
    ("label value", "POST", CMS, JSON, cm("metadata.labels", {"a": "b c"})),
    ("label value too long", "POST", CMS, JSON, cm("metadata.labels", {"a": "x" * 64})),
    ("label patch", "PATCH", CMS + "/there", MERGE, '{"metadata":{"labels":{"a":"-"}}}'),
    ("annotation key", "POST", CMS, JSON, cm("metadata.annotations", {"a b": "1"})),
    ("finalizer", "POST", CMS, JSON, cm("metadata.finalizers", ["nonsense"])),
    ("owner without uid", "POST", CMS, JSON, cm("metadata.ownerReferences", [
        {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": ""}])),
    # ---- versions
    ("conflict put", "PUT", CMS + "/there", JSON,
     changed(cm("metadata.name", "there"), "metadata.resourceVersion", "1")),
    ("conflict patch", "PATCH", CMS + "/there", MERGE, '{"metadata":{"resourceVersion":"1"}}'),
    ("resourceVersion no number", "PUT", CMS + "/there", JSON,
     changed(cm("metadata.name", "there"), "metadata.resourceVersion", "abc")),
    ("resourceVersion on create", "POST", CMS, JSON, cm("metadata.resourceVersion", "1")),
    ("uid differs", "PUT", CMS + "/there", JSON,
     changed(cm("metadata.name", "there"), "metadata.uid", "u")),
    ("already there", "POST", CMS, JSON, cm("metadata.name", "there")),
    ("put to nothing", "PUT", CMS + "/new?dryRun=All", JSON,
     changed(cm(), "metadata.resourceVersion", "1")),
    ("patch of nothing", "PATCH", CMS + "/nosuch", MERGE, "{}"),
    ("delete precondition", "DELETE", CMS + "/there", JSON,
     {**OPTIONS, "preconditions": {"uid": "other"}}),
    ("delete precondition version", "DELETE", CMS + "/there", JSON,
     {**OPTIONS, "preconditions": {"resourceVersion": "1"}}),
    ("get nothing", "GET", CMS + "/nosuch", {}, None),
    ("get a cluster's nothing", "GET", "/api/v1/nodes/nosuch", {}, None),
    ("delete nothing", "DELETE", DEPLOYS + "/nosuch", {}, None),
    # ---- patches
    ("json patch no array", "PATCH", CMS + "/there", JSONPATCH, "{}"),
    ("json patch bad op", "PATCH", CMS + "/there", JSONPATCH, '[{"op":"frob","path":"/data"}]'),
    ("json patch test", "PATCH", CMS + "/there", JSONPATCH,
     '[{"op":"test","path":"/data/k","value":"x"}]'),
    ("json patch remove nothing", "PATCH", CMS + "/there", JSONPATCH,
     '[{"op":"remove","path":"/data/nosuch"}]'),
    ("json patch cut off", "PATCH", CMS + "/there", JSONPATCH, "[{"),
    ("json patch to a wrong type", "PATCH", CMS + "/there", JSONPATCH,
     '[{"op":"replace","path":"/data","value":1}]'),
    ("merge patch cut off", "PATCH", CMS + "/there", MERGE, '{"data":'),
    ("merge patch array", "PATCH", CMS + "/there", MERGE, "[]"),
    ("merge patch wrong type", "PATCH", CMS + "/there", MERGE, '{"data":{"k":1}}'),
    ("merge patch of the name", "PATCH", CMS + "/there", MERGE, '{"metadata":{"name":"x"}}'),
    ("strategic patch cut off", "PATCH", DEPLOYS + "/there", STRATEGIC, "{"),
    ("strategic patch no key", "PATCH", DEPLOYS + "/there", STRATEGIC,
     '{"spec":{"template":{"spec":{"containers":[{"image":"x"}]}}}}'),
    ("strategic patch bad directive", "PATCH", DEPLOYS + "/there", STRATEGIC,
     '{"spec":{"$patch":"frob"}}'),
    ("patch without a content type", "PATCH", CMS + "/there", {"Content-Type": ""}, "{}"),
    ("patch as json", "PATCH", CMS + "/there", JSON, "{}"),
    # ---- content types
    ("content type text", "POST", CMS, {"Content-Type": "text/plain"}, json.dumps(cm())),
    ("content type xml", "PUT", CMS + "/there", {"Content-Type": "application/xml"}, "<a/>"),
    ("content type garbage", "POST", CMS, {"Content-Type": "garbage"}, json.dumps(cm())),
    ("protobuf garbage", "POST", CMS, PROTOBUF, "hello"),
    ("protobuf cut off", "POST", CMS, PROTOBUF, b"k8s\0\x0a\x20"),
    ("protobuf no type", "POST", CMS, PROTOBUF, b"k8s\0"),
    ("accept html", "GET", CMS, {"Accept": "text/html"}, None),
    ("accept another version of tables", "GET", CMS,
     {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v9"}, None),
    ("accept unknown transform", "GET", CMS,
     {"Accept": "application/json;as=Chair;g=meta.k8s.io;v=v1"}, None),
    # ---- list options
    ("label selector syntax", "GET", CMS + "?labelSelector=a%3D(b", {}, None),
    ("label selector value", "GET", CMS + "?labelSelector=a%3D-b", {}, None),
    ("label selector key", "GET", CMS + "?labelSelector=a%2Fb%2Fc", {}, None),
    ("field selector unknown", "GET", NS + "/pods?fieldSelector=spec.nosuch%3D1", {}, None),
    ("field selector syntax", "GET", NS + "/pods?fieldSelector=spec.nodeName", {}, None),
    ("field selector of another kind", "GET", CMS + "?fieldSelector=spec.nodeName%3Dx", {}, None),
    ("continue garbage", "GET", CMS + "?continue=garbage&limit=1", {}, None),
    ("continue not of us", "GET", CMS + "?continue=eyJ2IjoieCJ9&limit=1", {}, None),
    ("continue with a version", "GET",
     CMS + "?resourceVersion=5&limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOi"
     "JhIn0", {}, None),
    ("limit no number", "GET", CMS + "?limit=abc", {}, None),
    ("resourceVersion garbage", "GET", CMS + "?resourceVersion=abc", {}, None),
    ("resourceVersion negative", "GET", CMS + "?resourceVersion=-1", {}, None),
    ("resourceVersionMatch unknown", "GET",
     CMS + "?resourceVersion=1&resourceVersionMatch=Sometimes", {}, None),
    ("resourceVersionMatch alone", "GET", CMS + "?resourceVersionMatch=Exact", {}, None),
    ("resourceVersionMatch exact zero", "GET",
     CMS + "?resourceVersion=0&resourceVersionMatch=Exact", {}, None),
    ("sendInitialEvents without match", "GET", CMS + "?watch=1&sendInitialEvents=true", {}, None),
    ("sendInitialEvents on list", "GET",
     CMS + "?sendInitialEvents=true&resourceVersionMatch=NotOlderThan", {}, None),
    ("match on watch", "GET", CMS + "?watch=1&resourceVersionMatch=NotOlderThan&resourceVersion=0",
     {}, None),
    ("watch version garbage", "GET", CMS + "?watch=1&resourceVersion=abc", {}, None),
    ("timeoutSeconds garbage", "GET", CMS + "?watch=1&timeoutSeconds=x", {}, None),
    # ---- other options
    ("dryRun unknown", "POST", CMS + "?dryRun=Some", JSON, cm()),
    ("fieldManager too long", "POST", CMS + "?fieldManager=" + "x" * 129, JSON, cm()),
    ("propagationPolicy unknown", "DELETE", CMS + "/there?propagationPolicy=Sideways", {}, None),
    ("propagationPolicy twice", "DELETE", CMS + "/there", JSON,
     {**OPTIONS, "propagationPolicy": "Orphan", "orphanDependents": True}),
    ("gracePeriodSeconds garbage", "DELETE", CMS + "/there?gracePeriodSeconds=x", {}, None),
    ("delete options garbage", "DELETE", CMS + "/there", JSON, "garbage"),
    ("delete options another kind", "DELETE", CMS + "/there", JSON, cm()),
    # ---- where nothing is
    ("resource not there", "GET", NS + "/nosuch", {}, None),
    ("group not there", "GET", "/apis/nosuch.example.com/v1/things", {}, None),
    ("version not there", "GET", "/apis/apps/v9/deployments", {}, None),
    ("path not there", "GET", "/nosuch", {}, None),
    ("core version not there", "GET", "/api/v2", {}, None),
    ("subresource not there", "GET", CMS + "/there/nosuch", {}, None),
    ("post to an object", "POST", CMS + "/there", JSON, cm()),
    ("put to a collection", "PUT", CMS, JSON, cm()),
    ("patch to a collection", "PATCH", CMS, MERGE, "{}"),
    ("namespaced on the cluster", "POST", "/api/v1/configmaps", JSON, cm()),
    ("delete a status", "DELETE", DEPLOYS + "/there/status", {}, None),
    ("unknown method", "PROPFIND", CMS, {}, None),
    # ---- who
    ("anonymous", "GET", CMS, {"X-Test": "anonymous"}, None),
    ("bad token", "GET", CMS, {"X-Test": "anonymous", "Authorization": "Bearer nonsense"}, None),
    ("impersonated", "GET", CMS, {"Impersonate-User": "jane"}, None),
    ("impersonated delete", "DELETE", "/api/v1/nodes/x", {"Impersonate-User": "jane"}, None),
    ("impersonated non-resource", "GET", "/metrics", {"Impersonate-User": "jane"}, None),
    ("impersonated group only", "GET", CMS, {"Impersonate-Group": "g"}, None),
    # ---- what cannot be changed
    ("delete default namespace", "DELETE", "/api/v1/namespaces/default", {}, None),
    ("delete kube-system", "DELETE", "/api/v1/namespaces/kube-system", {}, None),
    ("immutable selector", "PATCH", DEPLOYS + "/there", MERGE,
     '{"spec":{"selector":{"matchLabels":{"app":"x"}},"template":{"metadata":{"labels":{"app":"x"}}}}}'),
    ("immutable secret type", "PATCH", NS + "/secrets/there", MERGE, '{"type":"x/y"}'),
    ("immutable config map", "PATCH", CMS + "/fixed", MERGE, '{"data":{"k":"w"}}'),
    ("immutable pod spec", "PATCH", NS + "/pods/there", STRATEGIC,
     '{"spec":{"nodeSelector":{"a":"b"}}}'),
    ("immutable uid", "PATCH", CMS + "/there", MERGE, '{"metadata":{"uid":"x"}}'),
    # ---- the commonest kinds' own rules
    ("pod without containers", "POST", NS + "/pods", JSON, a_pod("spec.containers", [])),
    ("pod without an image", "POST", NS + "/pods", JSON, a_pod("spec.containers.0.image", "")),
    ("pod container name", "POST", NS + "/pods", JSON, a_pod("spec.containers.0.name", "A")),
    ("pod containers alike", "POST", NS + "/pods", JSON,
     a_pod("spec.containers", [{"name": "a", "image": "a"}, {"name": "a", "image": "b"}])),
    ("pod restartPolicy", "POST", NS + "/pods", JSON, a_pod("spec.restartPolicy", "Sometimes")),
    ("pod port", "POST", NS + "/pods", JSON,
     a_pod("spec.containers.0.ports", [{"containerPort": 70000}])),
    ("pod mount without a volume", "POST", NS + "/pods", JSON,
     a_pod("spec.containers.0.volumeMounts", [{"name": "nosuch", "mountPath": "/x"}])),
    ("pod volumes alike", "POST", NS + "/pods", JSON,
     a_pod("spec.volumes", [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}])),
    ("pod request over limit", "POST", NS + "/pods", JSON,
     a_pod("spec.containers.0.resources", {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})),
    ("pod env name", "POST", NS + "/pods", JSON, a_pod("spec.containers.0.env", [{"name": ""}])),
    ("pod grace", "POST", NS + "/pods", JSON, a_pod("spec.terminationGracePeriodSeconds", -1)),
    ("deployment selector", "POST", DEPLOYS, JSON,
     deploy("spec.selector.matchLabels", {"app": "other"})),
    ("deployment without a selector", "POST", DEPLOYS, JSON, deploy("spec.selector", None)),
    ("deployment replicas", "POST", DEPLOYS, JSON, deploy("spec.replicas", -1)),
    ("deployment strategy", "POST", DEPLOYS, JSON, deploy("spec.strategy", {"type": "Slowly"})),
    ("deployment restartPolicy", "POST", DEPLOYS, JSON,
     deploy("spec.template.spec.restartPolicy", "Never")),
    ("deployment maxUnavailable", "POST", DEPLOYS, JSON,
     deploy("spec.strategy", {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}})),
    ("config map key", "POST", CMS, JSON, cm("data", {"a b": "1"})),
    ("config map key twice", "POST", CMS, JSON, cm("binaryData", {"k": "YQ=="})),
    ("secret key", "POST", NS + "/secrets", JSON, {**SECRET, "data": {"a b": "YQ=="}}),
    ("secret of tls", "POST", NS + "/secrets", JSON, {**SECRET, "type": "kubernetes.io/tls"}),
    ("service without ports", "POST", NS + "/services", JSON,
     changed(SERVICE, "spec.ports", [])),
    ("service port", "POST", NS + "/services", JSON, changed(SERVICE, "spec.ports.0.port", 0)),
    ("service type", "POST", NS + "/services", JSON, changed(SERVICE, "spec.type", "Nosuch")),
    ("service address", "POST", NS + "/services", JSON,
     changed(SERVICE, "spec.clusterIP", "1.2.3")),
    ("scale negative", "PUT", DEPLOYS + "/there/scale", JSON, {
        "apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": -1},
        "metadata": {"name": "there", "namespace": "bad"}}),
    ("log of a pod without a node", "GET", NS + "/pods/there/log", {}, None),
    ("exec of a pod without a node", "POST", NS + "/pods/there/exec?command=x&stdout=1", {}, None),
    ("log of a container not there", "GET", NS + "/pods/there/log?container=x", {}, None),
    ("binding to nothing", "POST", NS + "/pods/there/binding", JSON, {
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "there"}}),
]


# What differs from run to run in an answer.
VARIABLE = [(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
            (r"A_[a-z0-9]{5}", "A_RANDOM"),
            (r"in record \(\d+\)", "in record (N)"),
            (r'(patch: Invalid value: |^Invalid value: )"\{.*\}": ', r"\1OBJECT: "),
            # Go's diff of two Go structs, which a server that is not Go has not got.
            (r"(?s)(if it was previously negative\)).*", r"\1")]


def steady(text):
    for pattern, word in VARIABLE:
        text = re.sub(pattern, word, text)
    return text


def steady_strings(x):
    if isinstance(x, dict):
        return {key: steady_strings(value) for key, value in x.items()}
    if isinstance(x, list):
        # Some kinds upstream validates two or four times over: a cause that comes again says nothing.
        once = []
        for value in (steady_strings(value) for value in x):
            if value not in once:
                once.append(value)
        return once
    return steady(x) if isinstance(x, str) else x


def send(name, method, path, headers, body):
    headers = dict(headers)
    connection = server.connect(anonymous=headers.pop("X-Test", None) == "anonymous")
    try:
        if isinstance(body, dict):
            body = json.dumps(body)
        status, got, text = server.raw(method, path, body, headers, connection)
        if got.get("Content-Type", "").startswith("application/json"):
            answer = json.loads(text)
            if answer.get("kind") != "Status":
                answer = {"kind": answer["kind"]}
        else:
            answer = text.decode(errors="replace")
        warnings = got.get_all("Warning")
        return {"code": status, "type": got.get("Content-Type"),
                **({"warnings": warnings} if warnings else {}), "answer": steady_strings(answer)}
    finally:
        connection.close()


def prepare():
    """Exactly the objects that the requests are about, whatever was there before."""
    n = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bad"}}
    if server.raw("GET", NS)[0] == 404:
        server.api("POST", "/api/v1/namespaces", n)
    wait_for(lambda: server.raw("GET", NS + "/serviceaccounts/default")[0] == 200, "default account")
    wait_for(lambda: server.raw("GET", CMS + "/kube-root-ca.crt")[0] == 200, "root CA")
    for path in KEPT:
        for x in server.get(path)["items"]:
            one = f"{path}/{x['metadata']['name']}"
            if x["metadata"]["name"] != "kube-root-ca.crt":
                server.raw("PATCH", one, '{"metadata":{"finalizers":null}}', MERGE)
                server.raw("DELETE", one + "?gracePeriodSeconds=0")
    server.api("POST", CMS, config_map("there", {"k": "v"}))
    server.api("POST", CMS, {**config_map("fixed", {"k": "v"}), "immutable": True})
    server.api("POST", NS + "/secrets", changed(SECRET, "metadata.name", "there"))
    server.api("POST", DEPLOYS, deployment("there", replicas=0))
    wait_for(lambda: "observedGeneration" in server.get(DEPLOYS + "/there")["status"], "its status")
    server.api("POST", NS + "/pods", changed(pod("there", "busybox:1"), "spec.schedulerName", "no"))


KEPT = (CMS, NS + "/secrets", NS + "/services", DEPLOYS, NS + "/pods")


def everything():
    """What is stored in the namespace, to see that nothing was half applied."""
    return {path: server.get(path)["items"] for path in KEPT}


def difference(got, want):
    """The parts that differ, for people."""
    if got["code"] != want["code"] or not isinstance(got["answer"], type(want["answer"])):
        parts = [(x["code"], x["answer"].get("message", x["answer"].get("kind"))
                  if isinstance(x["answer"], dict) else x["answer"]) for x in (got, want)]
    else:
        flat = [{**x, **(x["answer"] if isinstance(x["answer"], dict) else {})} for x in (got, want)]
        keys = [key for key in ("message", "reason", "details", "warnings", "type", "answer")
                if flat[0].get(key) != flat[1].get(key)]
        parts = [flat[i].get(keys[0]) for i in range(2)] if keys else (got, want)
    return f"got {str(parts[0])[:600]!r}, want {str(parts[1])[:600]!r}"


def test_statuses():
    with open(RECORDED, encoding="utf-8") as f:
        want = steady_strings(json.load(f))
    equal(set(want), {r[0] for r in REQUESTS}, "recorded answers")
    before, failed = None, 0
    for request in REQUESTS:
        name = request[0]
        if before is None:
            prepare()
            before = everything()
        got = send(*request)
        why = None if got == want[name] else difference(got, want[name])
        if got["code"] < 300:  # upstream takes some of these too
            before = None
        elif not why and everything() != before:
            why, before = "refused, but it changed something", None
        failed += bool(why)
        print(f"not ok test_bad_input.py / {name}: {why}" if why else
              f"ok test_bad_input.py / {name}", flush=True)
    check(not failed, f"{failed} of {len(REQUESTS)} differ")


def is_served():
    return server.raw("GET", "/readyz")[2] == b"ok"


def connect_tls():
    return server.ssl.wrap_socket(socket.create_connection(("127.0.0.1", server.port), 10),
                                  server_hostname="127.0.0.1")


def exchange(data, close_early=False):
    """Sends bytes and reads until the server closes; what came back."""
    with connect_tls() as s:
        s.sendall(data)
        if close_early:
            return b""
        got = b""
        while chunk := s.recv(65536):
            got += chunk
            if b"\r\n\r\n" in got and b"Connection: close" not in got:
                break
        return got


def test_half_sent_requests():
    prepare()
    head = (f"POST {CMS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            "Content-Length: 1000\r\n\r\n").encode()
    for cut in (1, 10, len(head) - 1, len(head), len(head) + 20):
        exchange((head + json.dumps(cm()).encode())[:cut], close_early=True)
        check(is_served(), f"server is there after {cut} bytes")
    equal(server.raw("GET", CMS + "/new")[0], 404, "the half-sent object's status")
    waiting = [connect_tls() for _ in range(50)]  # half a request each, and they stay
    for s in waiting:
        s.sendall(head + b'{"apiVersion":')
    check(is_served(), "others are served meanwhile")
    for s in waiting:
        s.close()
    raw = socket.create_connection(("127.0.0.1", server.port), 10)  # half a TLS handshake
    raw.sendall(b"\x16\x03\x01\x02\x00\x01")
    check(is_served(), "others are served meanwhile")
    raw.close()


def test_http_errors():
    def status(data):
        return exchange(data).split(b"\r\n", 1)[0].split(b":")[0]  # Go adds why after a colon

    equal(status(b"GARBAGE\r\n\r\n"), b"HTTP/1.1 400 Bad Request")
    equal(status(b"GET /readyz HTTP/1.1\r\n\r\n"), b"HTTP/1.1 400 Bad Request", "no Host")
    equal(status(b"GET /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
          b"HTTP/1.1 400 Bad Request", "negative length")
    equal(status(b"POST /readyz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                 b"Content-Length: 3\r\n\r\nxyz\r\n")[:12], b"HTTP/1.1 400", "two lengths")
    equal(status(f"POST {CMS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                 "Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode())[:12], b"HTTP/1.1 400", "chunk")
    big = b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * (2 << 20) + b"\r\n\r\n"
    try:
        got = status(big)
    except (ConnectionError, OSError):
        got = b""  # closed while we were still sending
    check(got in (b"", b"HTTP/1.1 431 Request Header Fields Too Large"), got)
    with socket.create_connection(("127.0.0.1", server.port), 10) as s:
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        got = b""
        while chunk := s.recv(1000):
            got += chunk
    equal(got, b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
    check(is_served(), "server is there")


def test_size_of_chunked_body():
    """The limit counts what comes, not only what is announced."""
    def pieces():
        yield b'{"data":"'
        for _ in range(100):
            yield b"x" * 65536
    c = server.connect()
    try:
        c.request("POST", CMS, pieces(), JSON, encode_chunked=True)
        code = c.getresponse().status
    except (ConnectionError, OSError):
        code = 413  # told and closed while we were still sending
    equal(code, 413)
    c.close()
    check(is_served(), "server is there")


def record():
    server.start()
    answers = {}
    for request in REQUESTS:
        prepare()
        answers[request[0]] = send(*request)
        if answers[request[0]]["code"] < 300:
            print(f"accepted: {request[0]}", file=sys.stderr)
    with open(RECORDED, "w", encoding="utf-8") as f:
        json.dump(answers, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--record"]:
        check(EXTERNAL, "E2E_KUBECONFIG is not set")
        record()
    else:
        run(server)
