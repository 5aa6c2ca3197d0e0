#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# lane: etcd
# time-limit: 3000
"""An upstream kube-apiserver on `kinglet etcd`, over TLS with client certificates: objects, pages,
watches, leases, compaction, and a restart of the datastore under it. KUBE_APISERVER names it; else
the one that tests/bench/peers built; BUILD_PEERS=1 builds it (10 minutes)."""
import atexit
import json
import os
import ssl
import subprocess
import threading
import urllib.request
from lib import KINGLET, KUBECTL, ROOT, check, equal, fail, free_port, holds, run, temp_dir, wait_for

PEERS = os.path.join(ROOT, ".cache/peers")
APISERVER = os.environ.get("KUBE_APISERVER") or os.path.join(PEERS, "k8s/kube-apiserver")
TOKEN = "a-token-of-this-test"


class World:
    """A CA, kinglet etcd on SQLite, the API server."""

    def __init__(self):
        self.dir = temp_dir()
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        self.openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca")
        self.openssl("req", *new, "-keyout", "any.key", "-out", "any.csr", "-subj", "/CN=any")
        self.openssl("genrsa", "-out", "sa.key", "2048")
        self.write("ext", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        self.openssl("x509", "-req", "-in", "any.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                     "-extfile", "ext", "-out", "any.crt")
        self.write("tokens", f'{TOKEN},admin,admin,"system:masters"\n')
        self.etcd_port, self.port = free_port(), free_port()
        self.etcd = self.apiserver = None
        atexit.register(self.kill)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)

    def openssl(self, *args):
        subprocess.run(("openssl",) + args, cwd=self.dir, check=True, capture_output=True)

    def run(self, name, *args):
        with open(self.path(name + ".log"), "ab") as log:
            return subprocess.Popen(args, stdout=log, stderr=log)

    def kill(self):
        for p in (self.apiserver, self.etcd):
            if p and p.poll() is None:
                p.kill()
                p.wait()

    def start_etcd(self):
        self.etcd = self.run("etcd", KINGLET, "etcd", "--listen-client-urls", f"https://127.0.0.1:{self.etcd_port}",
                             "--datastore-endpoint", f"sqlite://{self.path('state.db')}", "--cert-file",
                             self.path("any.crt"), "--key-file", self.path("any.key"), "--trusted-ca-file",
                             self.path("ca.crt"), "--client-cert-auth", "--watch-progress-notify-interval", "5s")

    def start(self):
        self.start_etcd()
        self.apiserver = self.run(
            "apiserver", APISERVER, f"--etcd-servers=https://127.0.0.1:{self.etcd_port}",
            f"--etcd-cafile={self.path('ca.crt')}", f"--etcd-certfile={self.path('any.crt')}",
            f"--etcd-keyfile={self.path('any.key')}", "--etcd-compaction-interval=5s", f"--secure-port={self.port}",
            "--bind-address=127.0.0.1", f"--cert-dir={self.path('apiserver')}",
            f"--service-account-key-file={self.path('sa.key')}", "--service-account-issuer=https://localhost",
            f"--service-account-signing-key-file={self.path('sa.key')}", "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC", f"--token-auth-file={self.path('tokens')}", "--endpoint-reconciler-type=none")
        wait_for(self.ready, "the API server is ready", 240)

    def ready(self):
        if self.apiserver.poll() is not None:
            with open(self.path("apiserver.log"), encoding="utf-8") as f:
                raise SystemExit("not ok test_upstream_apiserver.py / start: " + f.read()[-600:])
        try:
            return self.get("/readyz") == b"ok"
        except OSError:
            return False

    def get(self, path):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}",
                                         headers={"Authorization": "Bearer " + TOKEN})
        with urllib.request.urlopen(request, timeout=240, context=context) as r:
            return r.read()

    def argv(self, *args):
        return [KUBECTL, "--server", f"https://127.0.0.1:{self.port}", "--insecure-skip-tls-verify", "--token", TOKEN,
                "--kubeconfig=/dev/null", *args]

    def kubectl(self, *args, stdin=None):
        done = subprocess.run(self.argv(*args), input=stdin, capture_output=True, text=True, timeout=240, check=False)
        if done.returncode:
            fail(f"kubectl {' '.join(args)}: {done.stderr[-400:]}")
        return done.stdout

    def metric(self, name):
        context = ssl.create_default_context(cafile=self.path("ca.crt"))
        context.load_cert_chain(self.path("any.crt"), self.path("any.key"))
        with urllib.request.urlopen(f"https://127.0.0.1:{self.etcd_port}/metrics", timeout=240, context=context) as r:
            return next(float(line.split()[1]) for line in r.read().decode().splitlines() if line.startswith(name + " "))


world = None


def config_maps(n, first=0):
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"m{i:04}", "namespace": "many"},
         "data": {"v": "x" * 1000}} for i in range(first, first + n)]})


def test_objects_and_pages():
    world.kubectl("create", "namespace", "many")
    world.kubectl("create", "-f", "-", stdin=config_maps(600))
    seen, go_on, pages = [], "", 0
    while True:
        page = json.loads(world.get(f"/api/v1/namespaces/many/configmaps?limit=250{go_on}"))
        seen += [x["metadata"]["name"] for x in page["items"]]
        pages += 1
        if not page["metadata"].get("continue"):
            break
        go_on = "&continue=" + page["metadata"]["continue"]
        # Pages are of one revision: what changes meanwhile is not in them.
        world.kubectl("-n", "many", "delete", "configmap", f"m{599 - pages:04}")
    equal(pages, 3)
    equal(seen, [f"m{i:04}" for i in range(600)])
    holds(world.kubectl("get", "namespaces"), "kube-system", "many")


def test_watch_and_optimistic_locking():
    events, started = [], threading.Event()
    process = subprocess.Popen(world.argv("-n", "many", "get", "configmap", "m0000", "--watch", "-o",
                                          "jsonpath={.data.v}{'\\n'}"), stdout=subprocess.PIPE, text=True)

    def follow():
        for line in process.stdout:
            events.append(line.strip())
            started.set()
    threading.Thread(target=follow, daemon=True).start()
    check(started.wait(120), "the watch begins")
    for i in range(20):
        world.kubectl("-n", "many", "patch", "configmap", "m0000", "-p", json.dumps({"data": {"v": str(i)}}))
    wait_for(lambda: events[-1] == "19", "the last event", 120)
    equal(events[1:], [str(i) for i in range(20)])
    process.kill()
    old = json.loads(world.kubectl("-n", "many", "get", "configmap", "m0001", "-o", "json"))
    world.kubectl("-n", "many", "patch", "configmap", "m0001", "-p", '{"data":{"v":"newer"}}')
    done = subprocess.run(world.argv("replace", "-f", "-"), input=json.dumps(old), capture_output=True, text=True,
                          timeout=240, check=False)
    holds(done.stderr, "the object has been modified")


def test_what_expires():
    """Events are kept by leases."""
    world.kubectl("-n", "many", "create", "-f", "-", stdin=json.dumps(
        {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "many"}, "reason": "Test",
         "involvedObject": {"kind": "ConfigMap", "name": "m0000", "namespace": "many"}}))
    check(world.metric("etcd_debugging_lease_granted_total") > 0, "no lease was granted")


def test_compaction():
    before = world.metric("etcd_debugging_mvcc_compact_revision")
    wait_for(lambda: world.metric("etcd_debugging_mvcc_compact_revision") > before, "it compacts", 120)


def test_the_datastore_restarts():
    world.etcd.terminate()
    equal(world.etcd.wait(240), 0, "exit status")
    world.start_etcd()
    wait_for(world.ready, "ready again", 240)

    def created():
        world.kubectl("-n", "many", "create", "configmap", "after", "--dry-run=client", "-o", "name")
        return subprocess.run(world.argv("-n", "many", "create", "configmap", "after"), capture_output=True, timeout=240,
                              check=False).returncode == 0
    wait_for(created, "it takes writes", 120)
    equal(len(json.loads(world.get("/api/v1/namespaces/many/configmaps"))["items"]), 599)


def test_everything_goes():
    world.kubectl("-n", "many", "delete", "configmaps", "--all", "--wait=false")
    wait_for(lambda: not json.loads(world.get("/api/v1/namespaces/many/configmaps"))["items"], "all gone", 240)


def build():
    if not os.path.exists(APISERVER) and os.environ.get("BUILD_PEERS") and not os.environ.get("KUBE_APISERVER"):
        subprocess.run([os.path.join(ROOT, "tests/bench/peers"), PEERS], check=True, stdout=subprocess.DEVNULL)
    return os.path.exists(APISERVER)


if __name__ == "__main__":
    if not build():
        print("skip test_upstream_apiserver.py / all: no kube-apiserver (BUILD_PEERS=1 builds it)")
    else:
        world = World()
        run(world)
