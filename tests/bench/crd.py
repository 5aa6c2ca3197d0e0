# SPDX-License-Identifier: Apache-2.0
"""Custom resource definitions for tests/bench/run: made up, of the size and shape of real ones."""
import json

PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP, KINDS_IN_GROUP = "bench{}.example.com", 10
TEXT = {"type": "string", "description": "What it is called where it is looked for, if it is."}
NUMBER = {"type": "integer", "format": "int32", "minimum": 0, "maximum": 65535}
LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
CONDITION = {
    "type": "object", "required": ["type", "status"],
    "properties": {"type": TEXT, "reason": TEXT, "message": TEXT,
                   "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                   "lastTransitionTime": {"type": "string", "format": "date-time"}}}
REFERENCE = {
    "type": "object", "required": ["name"],
    "properties": {"name": TEXT, "namespace": TEXT, "kind": TEXT, "port": NUMBER,
                   "weight": {**NUMBER, "default": 1}, "matchLabels": LABELS}}


def group(i):
    return GROUP.format(i // KINDS_IN_GROUP)


def plural(i):
    return f"things{i % KINDS_IN_GROUP}"


def definition(i):
    """JSON of the i-th: 40 fields on three levels, a default, a rule, columns, status."""
    section = {"type": "object", "properties": {
        "enabled": {"type": "boolean"}, "image": TEXT, "labels": LABELS,
        "size": {"x-kubernetes-int-or-string": True},
        "references": {"type": "array", "items": REFERENCE, "maxItems": 16}}}
    spec = {"type": "object", "required": ["replicas"], "properties": {
        "replicas": {**NUMBER, "default": 1}, "paused": {"type": "boolean"}, "selector": LABELS,
        **{name: section for name in ("server", "client", "storage")}},
        "x-kubernetes-validations": [{"rule": "self.replicas <= 100", "message": "too many"}]}
    status = {"type": "object", "properties": {
        "observedGeneration": {"type": "integer", "format": "int64"}, "replicas": NUMBER,
        "conditions": {"type": "array", "items": CONDITION, "x-kubernetes-list-type": "map",
                       "x-kubernetes-list-map-keys": ["type"]}}}
    kind = f"Thing{i % KINDS_IN_GROUP}"
    return json.dumps({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural(i)}.{group(i)}"},
        "spec": {
            "group": group(i), "scope": "Namespaced",
            "names": {"kind": kind, "listKind": kind + "List", "plural": plural(i),
                      "singular": kind.lower()},
            "versions": [{
                "name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": spec, "status": status}}}}]}})


def collection(i):
    return f"/apis/{group(i)}/v1/namespaces/default/{plural(i)}"


def object_of(i):
    return json.dumps({
        "apiVersion": f"{group(i)}/v1", "kind": f"Thing{i % KINDS_IN_GROUP}",
        "metadata": {"name": "one"},
        "spec": {"replicas": 3, "server": {"enabled": True, "image": "registry.example/thing:v1"}}})
