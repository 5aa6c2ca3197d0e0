#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# lane: clients
# time-limit: 1500
"""Clients that were written for upstream: client-go and controller-runtime's envtest (tests/clients/go),
the Python and the JavaScript client, kubectl two versions back, helm 4, manifests of well-known
projects. tests/clients/install fetches them; what cannot be had is skipped with its reason."""
import json
import os
import re
import subprocess
from lib import KINGLET, KUBECTL, ROOT, Skip, check, equal, fail, holds, run, temp_dir, wait_for

CLIENTS = os.path.join(ROOT, "tests/clients")
CACHE = os.path.join(ROOT, ".cache/clients")
LAYER = os.path.join(CACHE, "js/layer")


def install(part):
    r = subprocess.run([os.path.join(CLIENTS, "install"), part], stdout=subprocess.PIPE, text=True, check=False)
    if r.returncode == 3:
        raise Skip(r.stdout.strip())
    equal(r.returncode, 0, f"tests/clients/install {part}: {r.stdout}")


class TestServer:
    """One for a test; gives programs an environment with its kubeconfig."""

    def __init__(self, *flags):
        self.proc = subprocess.Popen([KINGLET, "test-server", *flags], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)
        line = self.proc.stdout.readline()
        check(line, "the server does not start")
        self.env = dict(os.environ, KUBECONFIG=json.loads(line)["kubeconfig"], HOME=temp_dir())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.stdin.close()
        self.proc.wait(240)

    def run(self, *argv, timeout=240, cwd=None):
        """Standard output of a program that must succeed."""
        r = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, env=self.env, cwd=cwd, check=False)
        if r.returncode:
            fail(f"{os.path.basename(argv[0])} {' '.join(argv[1:4])}: exit {r.returncode}: {r.stdout}{r.stderr}"[-3000:])
        return r.stdout


def go(pattern):
    install("go")
    r = subprocess.run([os.path.join(CACHE, "go.test"), "-test.run", pattern, "-test.v"], text=True, timeout=600,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                       env=dict(os.environ, KINGLET=os.path.abspath(KINGLET)))
    failed = re.findall(r"^--- FAIL: (\S+)", r.stdout, re.M)
    check(r.returncode == 0 and "--- PASS" in r.stdout, f"{', '.join(failed) or pattern}: {r.stdout[-3000:]}")


def test_client_go():
    go("^Test(Informer|Pages|ServerSide|Leader|Controllers)")


def test_envtest():
    go("^TestEnvtestUser$")


def test_envtest_operator():
    go("^TestEnvtestOperator$")


def test_envtest_webhook():
    go("^TestEnvtestWebhook$")


def test_python():
    install("python")
    with TestServer() as s:
        holds(s.run(os.path.join(CACHE, "venv/bin/python"), os.path.join(CLIENTS, "python/client.py")), "^python: done$")


def test_javascript():
    install("js")
    with TestServer() as s:
        holds(s.run("node", "client.mjs", cwd=os.path.join(CACHE, "js")), "^js: done$")


def test_kubectl_two_back():
    install("js")
    old = os.path.join(LAYER, "kubectl/kubectl")
    with TestServer("--controllers", "*") as s:
        holds(s.run(old, "version", "--client"), r"v1\.34\.")
        s.run(old, "create", "deployment", "web", "--image=x:1", "--replicas=2")
        s.run(old, "expose", "deployment", "web", "--port=80")
        s.run(old, "wait", "deployment/web", "--for=jsonpath={.status.replicas}=2", "--timeout=180s")
        holds(s.run(old, "describe", "deployment", "web"), r"^Replicas: +2 desired")
        s.run(old, "set", "image", "deployment/web", "x=x:2")
        holds(s.run(old, "rollout", "history", "deployment/web"), "^2 ")
        holds(s.run(old, "explain", "deployment.spec.strategy"), "^FIELD: strategy")
        s.run(old, "label", "service", "web", "a=b")
        holds(s.run(old, "get", "all", "-l", "app=web"), "deployment.apps/web", "replicaset.apps/web-")
        s.run(old, "auth", "can-i", "delete", "nodes")
        s.run(old, "delete", "deployment,service", "--all", "--timeout=180s")


def test_helm():
    install("js")
    helm = os.path.join(LAYER, "helm/helm")
    chart = os.path.join(CLIENTS, "helm/app")
    with TestServer() as s:
        holds(s.run(helm, "version"), r'Version:"v4\.')
        s.run(helm, "install", "r", chart)
        s.run(helm, "upgrade", "r", chart, "--set", "color=blue,replicas=3")
        config = json.loads(s.run(KUBECTL, "get", "cm", "r", "-o", "json"))
        equal(config["data"]["color"], "blue", "value of the upgrade")
        holds(config["data"]["version"], r"^v1\.36\.")
        equal(s.run(KUBECTL, "get", "pdb", "r", "-o", "jsonpath={.spec.minAvailable}"), "1", "budget")
        s.run(helm, "rollback", "r", "1")
        equal(s.run(KUBECTL, "get", "deploy", "r", "-o", "jsonpath={.spec.replicas}"), "1", "replicas")
        equal([r["revision"] for r in json.loads(s.run(helm, "history", "r", "-o", "json"))], [1, 2, 3], "history")
        s.run(helm, "uninstall", "r")
        equal(s.run(KUBECTL, "get", "cm,deploy,pdb", "-l", "!x", "-o", "name"), "", "what is left")


def test_bundles():
    """Definitions and objects of prometheus-operator and the Gateway API."""
    install("bundles")
    with TestServer() as s:
        out = s.run(KUBECTL, "apply", "--server-side", "-f", os.path.join(CACHE, "prometheus-operator/bundle.yaml"))
        equal(out.count("customresourcedefinition"), 10, "definitions of prometheus-operator")
        s.run(KUBECTL, "apply", "-f", os.path.join(CACHE, "gateway-api/config/crd/standard"))
        wait_for(lambda: s.run(KUBECTL, "wait", "--for=condition=Established", "crd", "--all",
                               "--timeout=180s"), "the definitions are established")
        monitor = {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "m"},
                   "spec": {"selector": {"matchLabels": {"a": "b"}}, "endpoints": [{"port": "web", "interval": "30s"}]}}
        path = os.path.join(temp_dir(), "monitor.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(monitor, f)
        s.run(KUBECTL, "apply", "-f", path)
        holds(s.run(KUBECTL, "explain", "servicemonitor.spec.endpoints.interval"), "FIELD: interval")
        monitor["spec"]["endpoints"][0]["interval"] = "often"
        with open(path, "w", encoding="utf-8") as f:
            json.dump(monitor, f)
        r = subprocess.run([KUBECTL, "apply", "-f", path], capture_output=True, text=True, timeout=240, env=s.env, check=False)
        holds(r.stderr, r'is invalid: spec.endpoints\[0\].interval: Invalid value: "often"')


if __name__ == "__main__":
    run()
