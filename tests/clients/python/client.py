#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Python client: create, list in pages, watch, patch, server-side apply, errors, the dynamic
client, create_from_yaml. KUBECONFIG names the server. Prints what it did; the status says whether
all was as it should be."""
import os
import tempfile
from kubernetes import client, config, dynamic, utils, watch

config.load_kube_config(os.environ["KUBECONFIG"])
core, apps = client.CoreV1Api(), client.AppsV1Api()

for i in range(7):
    core.create_namespaced_config_map("default", client.V1ConfigMap(
        metadata=client.V1ObjectMeta(name=f"p{i}", labels={"by": "python"}), data={"i": str(i)}))
names, cont = [], None
while True:
    page = core.list_namespaced_config_map("default", label_selector="by=python", limit=3, _continue=cont)
    names += [m.metadata.name for m in page.items]
    cont = page.metadata._continue  # pylint: disable=protected-access
    if not cont:
        break
assert names == [f"p{i}" for i in range(7)], names

w, seen = watch.Watch(), []
core.patch_namespaced_config_map("p3", "default", {"data": {"i": "x"}})
core.delete_namespaced_config_map("p4", "default")
for event in w.stream(core.list_namespaced_config_map, "default", label_selector="by=python",
                      resource_version=page.metadata.resource_version, timeout_seconds=30):
    seen.append((event["type"], event["object"].metadata.name))
    if len(seen) == 2:
        w.stop()
assert seen == [("MODIFIED", "p3"), ("DELETED", "p4")], seen

try:
    core.read_namespaced_config_map("none", "default")
    raise SystemExit("a ConfigMap that is not there was read")
except client.ApiException as e:
    assert e.status == 404 and 'configmaps \\"none\\" not found' in e.body, e

deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
              "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}},
                       "template": {"metadata": {"labels": {"a": "b"}},
                                    "spec": {"containers": [{"name": "c", "image": "x:1"}]}}}}
apps.create_namespaced_deployment("default", deployment)
scale = apps.read_namespaced_deployment_scale("web", "default")
scale.spec.replicas = 5
apps.replace_namespaced_deployment_scale("web", "default", scale)
assert apps.read_namespaced_deployment("web", "default").spec.replicas == 5

dyn = dynamic.DynamicClient(client.ApiClient())
api = dyn.resources.get(api_version="v1", kind="ConfigMap")
applied = api.server_side_apply(namespace="default", name="applied", field_manager="python", body={
    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "b"}})
assert applied.metadata.managedFields[0].operation == "Apply", applied.metadata.managedFields

with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
    f.write("apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  ports: [{port: 80}]\n"
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: made}\n")
    f.flush()
    utils.create_from_yaml(client.ApiClient(), f.name)
assert core.read_namespaced_service("s", "default").spec.cluster_ip.startswith("10.0.0.")
assert client.VersionApi().get_code().minor == "36"
print("python: done")
