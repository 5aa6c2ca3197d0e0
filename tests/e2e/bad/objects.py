# SPDX-License-Identifier: Apache-2.0
"""What bad requests are made of: a few objects, and copies of them with one thing changed."""
import json
from lib import config_map, deployment, pod

NS = "/api/v1/namespaces/bad"
CMS = NS + "/configmaps"
DEPLOYS = "/apis/apps/v1/namespaces/bad/deployments"
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
