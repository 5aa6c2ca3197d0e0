#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
"""kinglet called as kube-apiserver, over kinglet called as etcd: upstream's command line and words,
certificates it makes and is given, two servers of one etcd. What is refused and how was recorded
from kube-apiserver 1.36.3."""
import atexit
import json
import os
import re
import ssl
import subprocess
import urllib.error
import urllib.request
from lib import KINGLET, check, equal, fail, free_port, holds, run, temp_dir, wait_for

ASSETS = temp_dir()
for asset in ("etcd", "kube-apiserver"):
    os.symlink(os.path.abspath(KINGLET), os.path.join(ASSETS, asset))
TOKEN = "a-token-of-this-test"


class Process:
    def __init__(self, name, *flags):
        self.log = os.path.join(temp_dir(), name + ".log")
        with open(self.log, "wb") as log:
            self.proc = subprocess.Popen([os.path.join(ASSETS, name), *flags], stdout=log, stderr=log,
                                         stdin=subprocess.DEVNULL)
        atexit.register(self.stop)

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def stop(self):
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(240)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        return self.proc.returncode


def etcd():
    port = free_port()
    p = Process("etcd", "--listen-client-urls", f"http://127.0.0.1:{port}", "--data-dir", temp_dir(),
                "--unsafe-no-fsync", f"--listen-peer-urls=http://127.0.0.1:{free_port()}")
    wait_for(lambda: "ready to serve client requests" in p.text(), "etcd is ready")
    p.url = f"http://127.0.0.1:{port}"
    return p


class ApiServer(Process):
    def __init__(self, store, *flags):
        self.dir, self.port = temp_dir(), free_port()
        subprocess.run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out",
                        self.path("sa.key")], check=True, capture_output=True)
        subprocess.run(["openssl", "ec", "-in", self.path("sa.key"), "-pubout", "-out", self.path("sa.pub")],
                       check=True, capture_output=True)
        with open(self.path("tokens"), "w", encoding="utf-8") as f:
            f.write(f'{TOKEN},admin,admin,"system:masters"\n')
        super().__init__("kube-apiserver", f"--etcd-servers={store.url}", "--cert-dir", self.path("certs"),
                         f"--secure-port={self.port}", "--bind-address=127.0.0.1",
                         f"--service-account-issuer=https://127.0.0.1:{self.port}/",
                         f"--service-account-key-file={self.path('sa.pub')}",
                         f"--service-account-signing-key-file={self.path('sa.key')}",
                         "--service-cluster-ip-range=10.0.0.0/24", f"--token-auth-file={self.path('tokens')}",
                         *(flags or ["--authorization-mode=Node,RBAC"]))
        wait_for(self.is_ready, "the API server is ready", 60)

    def path(self, name):
        return os.path.join(self.dir, name)

    def is_ready(self):
        if self.proc.poll() is not None:
            raise SystemExit("not ok test_kube_apiserver.py / start: " + self.text()[-800:])
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path, token=TOKEN, body=None, method=None, kind="application/json", accept=None):
        context = ssl.create_default_context(cafile=self.path("certs/apiserver.crt"))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if accept:
            headers["Accept"] = accept
        if body is not None:
            headers["Content-Type"] = kind
            body = json.dumps(body).encode()
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=240, context=context) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()


def refused(*flags):
    r = subprocess.run([os.path.join(ASSETS, "kube-apiserver"), *flags], capture_output=True, text=True,
                       stdin=subprocess.DEVNULL, timeout=240)
    equal(r.returncode, 1, f"status of {flags}")
    return r.stderr


def test_flags_refused():
    for flag, why in (
            ("--nope", 'Error: unknown flag: --nope'),
            ("-nope", "Error: unknown shorthand flag: 'n' in -nope"),
            ("--=x", "Error: bad flag syntax: --=x"), ("---x", "Error: bad flag syntax: ---x"),
            ("--secure_port=x", 'Error: invalid argument "x" for "--secure-port" flag: strconv.ParseInt: parsing "x": invalid syntax'),
            ("--allow-privileged=x", 'Error: invalid argument "x" for "--allow-privileged" flag: strconv.ParseBool: parsing "x": invalid syntax'),
            ("--request-timeout=x", 'Error: invalid argument "x" for "--request-timeout" flag: time: invalid duration "x"'),
            ("--goaway-chance=x", 'Error: invalid argument "x" for "--goaway-chance" flag: strconv.ParseFloat: parsing "x": invalid syntax'),
            ("--service-node-port-range=9-8", 'Error: invalid argument "9-8" for "--service-node-port-range" flag: '
             "end port cannot be less than start port: 9-8"),
            ("--tls-min-version", "Error: flag needs an argument: --tls-min-version"),
            ("extra", 'Error: "kube-apiserver" does not take any arguments, got ["extra"]')):
        equal(refused(flag), why + "\n", flag)
    for flags, why in (
            ([], "[--etcd-servers must be specified, service-account-issuer is a required flag, either "
                 "`--service-account-key-file` or `--service-account-signing-endpoint` must be set, "
                 "--service-account-signing-key-file and --service-account-issuer are required flags]"),
            (["--feature-gates=Foo=true"], "unrecognized feature gate: Foo"),
            (["--feature-gates=APIServerTracing=false"],
             "cannot set feature gate APIServerTracing to false, feature is locked to true"),
            (["--service-cluster-ip-range=x"], "service-cluster-ip-range[0] is not a valid cidr"),
            (["--service-cluster-ip-range=10.0.0.0/24,x"], "service-cluster-ip-range[1] is not an ip net")):
        holds(refused(*flags), r'^E\d{4} .*"command failed" err="' + re.escape(why) + '"$')
    for flags, why in (  # among others
            (["--service-cluster-ip-range=10.0.0.0/24,fd00::/108,10.1.0.0/24"],
             "--service-cluster-ip-range must not contain more than two entries"),
            (["--service-cluster-ip-range=10.0.0.0/24,10.1.0.0/24"],
             "--service-cluster-ip-range[0] and --service-cluster-ip-range[1] must be of different IP family"),
            (["--service-cluster-ip-range=fd00::/108,10.0.0.0/16", "--advertise-address=10.9.9.9"],
             'service IP family \\"fd00::/108\\" must match public address family \\"10.9.9.9\\"'),
            (["--kubernetes-service-node-port=5"],
             "kubernetes service node port range 30000-32767 doesn't contain 5"),
            (["--authorization-mode=RBAC,ABAC"],
             "authorization-mode ABAC's authorization policy file not passed"),
            (["--authorization-policy-file=/x"],
             "cannot specify --authorization-policy-file without mode ABAC")):
        holds(refused(*flags), r'^E\d{4} .*"command failed" err="\[.*[\[ ]' + re.escape(why) + r'[,\]]')


def test_help():
    """What envtest looks into for flags of old."""
    r = subprocess.run([os.path.join(ASSETS, "kube-apiserver"), "--help"], capture_output=True, text=True, timeout=240)
    equal(r.returncode, 0, "status")
    holds(r.stdout, r"^\s*--etcd-servers\b", r"^\s*--authorization-mode\b", r"^\s*--audit-log-truncate-enabled\b")
    check(not re.search(r"^\s*--insecure-port\b", r.stdout, re.M), "a flag that upstream has no more")
    r = subprocess.run([os.path.join(ASSETS, "kube-apiserver"), "--version"], capture_output=True, text=True, timeout=240)
    holds(r.stdout, r"^Kubernetes v1\.\d+\.\d+$")


def test_serves():
    store = etcd()
    one, two = ApiServer(store), ApiServer(store)
    equal(one.get("/healthz", token=None), (200, "ok"), "healthz for anybody")
    equal(one.get("/api/v1/namespaces", token="wrong")[0], 401, "a wrong token")
    equal(one.get("/api/v1/namespaces", token=None)[0], 403, "nobody")
    made, text = one.get("/api/v1/namespaces/default/configmaps", body={"metadata": {"name": "c"}, "data": {"a": "b"}})
    equal(made, 201, text)
    rv = json.loads(text)["metadata"]["resourceVersion"]
    status, text = two.get("/api/v1/namespaces/default/configmaps/c")
    equal((status, json.loads(text)["metadata"]["resourceVersion"]), (200, rv), "the other server's view")
    equal(one.stop(), 0, "status after SIGTERM")
    equal(two.get("/api/v1/namespaces/default/configmaps/c")[0], 200, "the other goes on")


def test_refused_twice():
    """Where others write too, a refusal is looked at again on what is known for certain: applied,
    with a made-up name, and through a subresource."""
    s = ApiServer(etcd(), "--authorization-mode=RBAC")
    secrets, pods = "/api/v1/namespaces/default/secrets", "/api/v1/namespaces/default/pods"

    def apply(kind):
        return s.get(f"{secrets}/t?fieldManager=m", method="PATCH", kind="application/apply-patch+yaml",
                     body={"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "t"}, "type": kind})
    equal(apply("a/b")[0], 201, "the first")
    status, text = apply("c/d")
    equal(status, 422, text)
    holds(text, "field is immutable")
    equal(s.get(secrets, body={"metadata": {"generateName": "x"}, "type": "kubernetes.io/tls"})[0], 422, "a made-up name")
    equal(s.get(f"{pods}/none/binding",
                body={"metadata": {"name": "none"}, "target": {"name": "n"}})[0], 404, "a binding of nothing")
    reviews = "/apis/authorization.k8s.io/v1"
    for kind in ("subjectaccessreviews", "selfsubjectaccessreviews"):
        status, text = s.get(f"{reviews}/{kind}", body={})
        equal(status, 422, f"an empty one of {kind}")
        holds(text, "exactly one of nonResourceAttributes or resourceAttributes must be specified")
    equal(s.get("/api/v1/namespaces/default/serviceaccounts/none/token", body={})[0], 404, "a token of nobody")
    equal(s.get("/readyz")[0], 200, "it lives")


def test_allow_all():
    """Without --authorization-mode everybody with a name may do everything, and nobody is anonymous."""
    s = ApiServer(etcd(), "--enable-bootstrap-token-auth=true")
    equal(s.get("/api/v1/secrets")[0], 200, "a user")
    equal(s.get("/api/v1/secrets", token=None)[0], 401, "nobody")


def test_health_checks():
    s = ApiServer(etcd(), "--authorization-mode=RBAC", "--runtime-config=resource.k8s.io/v1beta2=true")
    status, text = s.get("/readyz?verbose&exclude=etcd")
    equal(status, 200, text)
    holds(text, r"^\[\+\]ping ok$", r"^\[\+\]etcd excluded: ok$", r"^\[\+\]poststarthook/rbac/bootstrap-roles ok$",
          r"^\[\+\]shutdown ok$", r"^readyz check passed$")
    equal(s.get("/livez/ping"), (200, "ok"), "one check")
    equal(s.get("/livez/none")[0], 404, "none such")
    paths(s)


def paths(s):
    """What is no resource: routes take GET alone, the rest any method, and each path is as it is written."""
    for path, method, want in (("/livez", "POST", 200), ("/livez/", "GET", 404), ("/none", "PUT", 404),
                               ("/version/", "GET", 200), ("/version", "POST", 405), ("/version/x", "DELETE", 404),
                               ("/api/v2", "POST", 404), ("/api/v1", "POST", 405), ("/apis/apps", "POST", 200),
                               ("/apis/apps/v1", "DELETE", 405), ("/metrics/slis", "POST", 200), ("//", "GET", 404)):
        equal((path, method, s.get(path, method=method)[0]), (path, method, want))
    listed = json.loads(s.get("/")[1])["paths"]
    equal(listed, sorted(listed))
    for path in ("/.well-known/openid-configuration", "/apis/", "/apis/apps/v1", "/healthz/ping", "/metrics/slis",
                 "/openapi/v3/", "/readyz/informer-sync", "/statusz", "/version"):
        equal((path, path in listed), (path, True))
    holds(s.get("/metrics/slis")[1], r'kubernetes_healthcheck\{name="ping",type="livez"\} 1')
    equal(s.get("/apis/resource.k8s.io/v1beta2/deviceclasses")[0], 200, "a version that will go")
    holds(s.get("/metrics")[1], r'apiserver_requested_deprecated_apis\{group="resource.k8s.io",removed_release="1.39",'
                                r'resource="deviceclasses",subresource="",version="v1beta2"\} 1')
    holds(s.get("/statusz")[1], r"^apiserver statusz$", r"Emulation version\W+1\.36$", r"Paths\W+/healthz ")
    status = s.get("/statusz", accept="application/json;as=Statusz;v=v1beta1;g=config.k8s.io")
    equal((status[0], json.loads(status[1])["apiVersion"]), (200, "config.k8s.io/v1beta1"))
    for path, accept in (("/statusz", "application/json"), ("/version", "text/plain"),
                         ("/apis", "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList")):
        equal((path, s.get(path, accept=accept)[0]), (path, 406))
    both = s.get("/apis", accept="application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,"
                                 "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
    holds(both[1], r"^apiVersion: apidiscovery\.k8s\.io/v2$")


if __name__ == "__main__":
    run()
