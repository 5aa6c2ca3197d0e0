#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
"""kinglet test-server: ready with one line, objects of files, controllers, gone with its parent."""
import json
import os
import re
import signal
import subprocess
import sys
from lib import KINGLET, KUBECTL, check, equal, fail, holds, run, temp_dir, wait_for


class TestServer:
    def __init__(self, *flags):
        self.proc = subprocess.Popen([KINGLET, "test-server", *flags], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.proc.stdout.readline()
        if not line:
            fail(f"no line: {self.proc.stderr.read()}")
        self.ready = json.loads(line)
        self.home = temp_dir()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.stdin.close()
        equal(self.proc.wait(240), 0, "exit status")
        check(not os.path.exists(self.ready["kubeconfig"]), "the kubeconfig stays")

    def kubectl(self, *args, stdin=None, fails=False):
        r = subprocess.run([KUBECTL, "--kubeconfig", self.ready["kubeconfig"], *args], input=stdin,
                           capture_output=True, text=True, timeout=240,
                           env=dict(os.environ, HOME=self.home))
        check((r.returncode != 0) == fails, f"kubectl {args}: {r.stdout}{r.stderr}")
        return r.stderr if fails else r.stdout


def write(name, text):
    path = os.path.join(temp_dir(), name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def test_ready():
    with TestServer() as s:
        equal(sorted(s.ready), ["kubeconfig", "pid", "readyMs", "server"], "members of the line")
        equal(s.ready["pid"], s.proc.pid, "pid")
        equal(s.kubectl("get", "--raw", "/readyz"), "ok", "readyz")
        holds(s.kubectl("get", "svc", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"), r"^10\.0\.0\.1$")


def test_manifests():
    path = write("objects.yaml", """# the namespace comes after what is in it
apiVersion: v1
kind: ConfigMap
metadata: {name: c, namespace: x}
data: {a: b}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: x}
---
# nothing here
""")
    with TestServer("--manifests", os.path.dirname(path)) as s:
        equal(s.kubectl("-n", "x", "get", "cm", "c", "-o", "jsonpath={.data.a}"), "b", "data")
    bad = write("bad.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {}\n")
    r = subprocess.run([KINGLET, "test-server", "--manifests", bad], stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, timeout=240)
    equal((r.returncode, r.stdout), (1, ""), "a manifest that is refused")
    holds(r.stderr, re.escape(bad) + ": Pod p: .*spec.containers: Required value")


def test_crds():
    path = write("crd.yaml", """apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer, default: 3}}}}}}}
""")
    mine = write("widget.yaml", "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {}\n")
    # What lies beside definitions is no definition, and no fault.
    with open(os.path.join(os.path.dirname(path), "kustomization.yaml"), "w", encoding="utf-8") as f:
        f.write("resources: [crd.yaml]\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: beside}\n")
    with TestServer("--crds", os.path.dirname(path), "--manifests", mine) as s:
        holds(s.kubectl("get", "ns", "beside", fails=True), "NotFound")
        equal(s.kubectl("get", "widget", "w", "-o", "jsonpath={.spec.size}"), "3", "a defaulted custom object")


def test_controllers():
    with TestServer("--controllers", "namespace-controller,garbage-collector-controller") as s:
        s.kubectl("create", "ns", "x")
        s.kubectl("-n", "x", "create", "cm", "c")
        s.kubectl("delete", "ns", "x", "--timeout=180s")
        holds(s.kubectl("get", "ns", "x", fails=True), "NotFound")
        equal(s.kubectl("-n", "default", "get", "sa", "-o", "name"), "", "accounts of a controller that is off")
    r = subprocess.run([KINGLET, "test-server", "--controllers", "*,-nobody"], capture_output=True, text=True,
                       stdin=subprocess.DEVNULL, timeout=240)
    equal(r.returncode, 2, "status of a wrong name")
    holds(r.stderr, 'kinglet test-server: "nobody" is not in the list of known controllers')


def test_gone_with_parent():
    """A program starts one and dies without a word."""
    starts = ("import subprocess,sys,os\n"
              f"p=subprocess.Popen([{KINGLET!r},'test-server'],stdin=subprocess.DEVNULL,stdout=subprocess.PIPE)\n"
              "sys.stdout.write(p.stdout.readline().decode());sys.stdout.flush()\n"
              "os.kill(os.getpid(), 9)\n")
    r = subprocess.run([sys.executable, "-c", starts], stdout=subprocess.PIPE, text=True, timeout=240)
    equal(r.returncode, -signal.SIGKILL, "the parent's end")
    pid = json.loads(r.stdout)["pid"]

    def gone():
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                return f.read().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True
    wait_for(gone, "the server ends with its parent")


def test_runtime_config():
    # api/legacy and versions that are known but gone say nothing.
    with TestServer("--runtime-config", "networking.k8s.io/v1beta1=true,apps/v1/daemonsets=false,"
                    "api/legacy=true,extensions/v1beta1=true,scheduling.k8s.io/v1alpha2=true",
                    "--feature-gates", "CoordinatedLeaderElection=true,HostnameOverride=false") as s:
        apis = json.loads(s.kubectl("get", "--raw", "/apis/networking.k8s.io"))
        equal([v["version"] for v in apis["versions"]], ["v1", "v1beta1"], "served versions")
        s.kubectl("get", "--raw", "/apis/networking.k8s.io/v1beta1/servicecidrs")
        # The version is switched on, the gate of what is in it is not.
        holds(s.kubectl("get", "--raw", "/apis/scheduling.k8s.io/v1alpha2", fails=True), "could not find")
        holds(s.kubectl("get", "--raw", "/apis/apps/v1/daemonsets", fails=True), "could not find the requested resource")
        metrics = s.kubectl("get", "--raw", "/metrics")
        holds(metrics, r'^kubernetes_feature_enabled\{name="CoordinatedLeaderElection",stage="BETA"\} 1$',
              r'^kubernetes_feature_enabled\{name="HostnameOverride",stage="BETA"\} 0$')


def test_wrong_runtime_config():
    for flag, why in {
            "api/all=false": "--runtime-config=api/all=false conflicts with --enable-priority-and-fairness=true",
            "foo/v1=true,bar.example/v2=true,apps/v1=true": "unknown api groups bar.example/v2,foo/v1",
            "apps/v7=true": "group version apps/v7 that has not been registered",
            "apps/v1=maybe": 'invalid value of apps/v1: maybe, err: strconv.ParseBool: parsing "maybe": '
                             "invalid syntax",
            "api/beta=x": "invalid value api/beta=x",
            "nonsense=true": "runtime-config invalid key nonsense"}.items():
        r = subprocess.run([KINGLET, "test-server", "--runtime-config", flag], capture_output=True,
                           text=True, stdin=subprocess.DEVNULL, timeout=240)
        equal((r.stdout, r.stderr), ("", f"kinglet test-server: {why}\n"), flag)


def test_metrics():
    with TestServer() as s:
        s.kubectl("create", "cm", "c")
        s.kubectl("get", "cm", "c")
        s.kubectl("get", "cm", "none", fails=True)
        s.kubectl("get", "secrets", "-A")
        m = s.kubectl("get", "--raw", "/metrics")
        own = 'apiserver_request_total\\{component="apiserver",dry_run="",group="",resource="configmaps",' \
              'scope="resource",subresource="",verb="%s",version="v1",code="%d"\\} 1$'
        holds(m, own % ("POST", 201), own % ("GET", 200), own % ("GET", 404),
              r'^apiserver_request_duration_seconds_bucket\{.*resource="configmaps".*verb="POST".*le="\+Inf"\} 1$',
              r'^apiserver_response_sizes_count\{.*resource="secrets",scope="cluster".*verb="LIST".*\} 1$',
              r'^etcd_request_duration_seconds_count\{group="",operation="create",resource="configmaps"\} 1$',
              r'^apiserver_storage_objects\{resource="namespaces"\} 4$',
              r'^apiserver_current_inflight_requests\{request_kind="readOnly"\} 1$',
              r'^process_resident_memory_bytes \d+$', r'^kubernetes_build_info\{.*minor="36".*\} 1$')
        names = re.findall(r"^# TYPE (\S+) ", m, re.M)
        equal(len(names), len(set(names)), "each name is declared once")
        holds(s.kubectl("get", "--raw", "/debug/pprof/"), "^loops", "^memory", "/registry/configmaps")
    with TestServer("--profiling=false") as s:
        s.kubectl("get", "--raw", "/debug/pprof/", fails=True)


if __name__ == "__main__":
    run()
