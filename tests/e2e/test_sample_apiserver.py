#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# lane: clients
# time-limit: 900
"""Upstream's sample-apiserver behind this server, with its own manifests and its own etcd, which is
`kinglet etcd`: its objects, its discovery and OpenAPI among ours, and what it asks us about who calls
and what they may."""
import atexit
import http.client
import json
import os
import ssl
import subprocess
from lib import (KINGLET, ROOT, Failure, Server, check, equal, fail, free_port, holds, own_address, run, temp_dir,
                 wait_for)

CACHE = os.path.join(ROOT, ".cache/clients")
MANIFESTS = os.path.join(CACHE, "sample-apiserver.module/artifacts/example")
GROUP = "wardle.example.com"
V1 = f"v1alpha1.{GROUP}"
FLUNDERS = f"/apis/{GROUP}/v1alpha1/namespaces/default/flunders"
MODEL = "io.k8s.sample-apiserver.pkg.apis.wardle.v1alpha1."
ADDRESS = own_address()
server = Server()


class Sample:
    """The sample, with a service account's token of ours; the etcd that it keeps its objects in."""

    def __init__(self):
        self.dir, self.port, self.etcd_port, self.programs = temp_dir(), free_port(), free_port(), []
        atexit.register(self.stop)

    def path(self, name):
        return os.path.join(self.dir, name)

    def openssl(self, *args):
        subprocess.run(("openssl",) + args, cwd=self.dir, check=True, capture_output=True)

    def certificate(self):
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        self.openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca")
        self.openssl("req", *new, "-keyout", "key", "-out", "csr", "-subj", "/CN=api.wardle.svc")
        with open(self.path("ext"), "w", encoding="utf-8") as f:
            f.write(f"subjectAltName=DNS:api.wardle.svc,IP:{ADDRESS}\n")
        self.openssl("x509", "-req", "-in", "csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                     "-extfile", "ext", "-out", "crt")

    def kubeconfig(self, token):
        with open(server.kubeconfig, encoding="utf-8") as f:
            ca = next(line.split()[1] for line in f if line.strip().startswith("certificate-authority-data:"))
        with open(self.path("kubeconfig"), "w", encoding="utf-8") as f:
            json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "a",
                       "clusters": [{"name": "a", "cluster": {"server": f"https://127.0.0.1:{server.port}",
                                                              "certificate-authority-data": ca}}],
                       "users": [{"name": "a", "user": {"token": token}}],
                       "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}]}, f)
        return self.path("kubeconfig")

    def run(self, name, *args):
        with open(self.path(name + ".log"), "ab") as log:
            self.programs.append(subprocess.Popen(args, stdout=log, stderr=log))

    def start(self, token):
        self.certificate()
        config = self.kubeconfig(token)
        self.run("etcd", KINGLET, "etcd", "--data-dir", self.path("etcd"), "--listen-client-urls",
                 f"http://127.0.0.1:{self.etcd_port}")
        self.run("sample", os.path.join(CACHE, "sample-apiserver"), f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
                 f"--kubeconfig={config}", f"--authentication-kubeconfig={config}",
                 f"--authorization-kubeconfig={config}", f"--secure-port={self.port}", f"--bind-address={ADDRESS}", f"--tls-cert-file={self.path('crt')}",
                 f"--tls-private-key-file={self.path('key')}")
        try:
            wait_for(self.is_ready, "the sample is ready", 120)
        except Failure as e:
            fail(f"{e}: {self.log('sample')}")

    def log(self, name):
        with open(self.path(name + ".log"), encoding="utf-8") as f:
            return f.read()[-3000:]

    def is_ready(self):
        for p, name in zip(self.programs, ("etcd", "sample")):
            if p.poll() is not None:
                fail(f"{name} ends: {self.log(name)}")
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def ask(self, method, path, token=None):
        """A request that does not go through us."""
        context = ssl.create_default_context(cafile=self.path("ca.crt"))
        c = http.client.HTTPSConnection(ADDRESS, self.port, timeout=240, context=context)
        c.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
        r = c.getresponse()
        status, text = r.status, r.read().decode()
        c.close()
        return status, text

    def stop(self):
        for p in reversed(self.programs):
            if p.poll() is None:
                p.terminate()
                p.wait(240)


sample = Sample()


def why_not():
    """Why there is no sample here; None: there is one."""
    if not ADDRESS or ADDRESS.startswith("127."):
        return "this machine has no address but the loopback's"
    r = subprocess.run([os.path.join(ROOT, "tests/clients/install"), "sample"], stdout=subprocess.PIPE, text=True,
                       check=False)
    if r.returncode not in (0, 3):
        raise SystemExit(f"not ok test_sample_apiserver.py / install: {r.stdout}")
    return r.stdout.strip() if r.returncode else None


def test_becomes_available():
    for name in ("ns", "sa", "auth-delegator", "auth-reader", "rbac", "rbac-bind", "service", "apiservice"):
        server.kubectl("apply", "-f", os.path.join(MANIFESTS, name + ".yaml"))
    # What its manifests leave out, since mutating policies are on by default.
    server.kubectl("create", "clusterrole", "policies", "--verb=get,list,watch",
                   "--resource=mutatingadmissionpolicies.admissionregistration.k8s.io,"
                   "mutatingadmissionpolicybindings.admissionregistration.k8s.io")
    server.kubectl("create", "clusterrolebinding", "policies", "--clusterrole=policies",
                   "--serviceaccount=wardle:apiserver")
    server.apply({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                  "metadata": {"name": "api-1", "labels": {"kubernetes.io/service-name": "api"}},
                  "ports": [{"name": "", "port": sample.port}], "endpoints": [{"addresses": [ADDRESS]}]},
                 namespace="wardle")
    sample.start(server.kubectl("-n", "wardle", "create", "token", "apiserver").strip())
    server.kubectl("wait", "apiservice", V1, "--for=condition=Available", "--timeout=180s", timeout=240)


def test_objects():
    server.kubectl("apply", "-f", os.path.join(MANIFESTS, "../flunders/01-flunder.yaml"))
    holds(server.kubectl("get", "flunders"), r"^NAME +CREATED AT$", "^my-first-flunder ")
    server.kubectl("patch", "flunder", "my-first-flunder", "--type=merge", "-p", '{"spec":{"reference":"other"}}')
    got = server.get(FLUNDERS + "/my-first-flunder")
    equal((got["spec"]["reference"], got["metadata"]["labels"]), ("other", {"sample-label": "true"}))
    server.kubectl("label", "flunder", "my-first-flunder", "a=b")
    with server.kubectl_background("get", "flunders", "-w", "-o", "name") as watch:
        wait_for(lambda: len(watch.lines()) == 1, "the watch has begun")
        server.kubectl("create", "-f", "-", stdin=json.dumps({
            "apiVersion": f"{GROUP}/v1alpha1", "kind": "Flunder", "metadata": {"name": "second"}}))
        wait_for(lambda: watch.lines()[1:] == [f"flunder.{GROUP}/second"], "the new one is seen")
    server.kubectl("delete", "flunder", "second")


def account(name, *rules):
    server.kubectl("create", "serviceaccount", name)
    for i, rule in enumerate(rules):
        server.kubectl("create", "clusterrole", f"{name}-{i}", *rule)
        server.kubectl("create", "clusterrolebinding", f"{name}-{i}", f"--clusterrole={name}-{i}",
                       f"--serviceaccount=default:{name}")
    return server.kubectl("create", "token", name).strip()


def test_asks_us():
    """Without us in between: a TokenReview says who it is, a SubjectAccessReview what they may."""
    reader = account("reader", ("--verb=get,list", f"--resource=flunders.{GROUP}"))
    status, text = sample.ask("GET", FLUNDERS, reader)
    equal((status, json.loads(text)["kind"]), (200, "FlunderList"))
    status, text = sample.ask("DELETE", FLUNDERS + "/my-first-flunder", reader)
    equal(status, 403)
    holds(json.loads(text)["message"], 'User "system:serviceaccount:default:reader" cannot delete resource "flunders"')
    equal(sample.ask("GET", FLUNDERS, "not.a.token")[0], 401)
    status, text = sample.ask("GET", FLUNDERS)
    equal(status, 403)
    holds(json.loads(text)["message"], 'User "system:anonymous" cannot list resource "flunders"')
    # Through us both have to allow it.
    equal(server.raw("GET", FLUNDERS, headers={"Authorization": f"Bearer {reader}"}, connection=server.connect(
        anonymous=True))[0], 200)
    holds(server.kubectl_fails("delete", "flunder", "my-first-flunder", "--as", "jane"), 'User "jane" cannot delete')


def test_discovery():
    holds(server.kubectl("api-resources", "--api-group", GROUP),
          r"^flunders +wardle.example.com/v1alpha1 +true +Flunder")
    holds(server.kubectl("api-versions"), f"^{GROUP}/v1alpha1$")


def v2():
    return server.get("/openapi/v2")


def test_openapi():
    d = wait_for(lambda: v2() if MODEL + "Flunder" in v2()["definitions"] else None, "merged")
    ours = set(d["definitions"])
    equal([n for n in sorted(ours) if "_v" in n.rsplit(".", 1)[1]], [], "definitions that differ from ours")
    check(FLUNDERS.replace("default", "{namespace}") + "/{name}" in d["paths"], "its paths")
    equal([p for p in d["paths"] if "/v1beta1/" in p and GROUP in p], [], "paths of other versions")
    kinds = d["definitions"]["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"]["x-kubernetes-group-version-kind"]
    check({"group": GROUP, "kind": "DeleteOptions", "version": "v1alpha1"} in kinds, kinds)
    holds(server.kubectl("explain", "flunders.spec"), "^KIND: +Flunder$", r"reference\s+<string>")
    holds(server.kubectl("explain", "flunders", "--output", "plaintext-openapiv2"), "^KIND: +Flunder$",
          r"^ +APIVersion defines the versioned schema of this representation")
    holds(server.kubectl_fails("create", "-f", "-", "--validate=strict", stdin=json.dumps({
        "apiVersion": f"{GROUP}/v1alpha1", "kind": "Flunder", "metadata": {"name": "wrong"}, "spec": {"no": 1}})),
        'unknown field "spec.no"')


def test_goes_away():
    server.kubectl("delete", "apiservice", V1)
    wait_for(lambda: MODEL + "Flunder" not in v2()["definitions"], "its definitions are gone")
    equal([p for p in v2()["paths"] if GROUP in p], [], "its paths")
    equal(sample.ask("GET", "/readyz")[0], 200)


if __name__ == "__main__":
    reason = why_not()
    if reason:
        print(f"skip test_sample_apiserver.py / all: {reason}")
    else:
        run(server)
