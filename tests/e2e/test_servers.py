#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Several servers of one cluster: on one PostgreSQL, and joined by raft."""
import atexit
import base64
import concurrent.futures
import glob
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
from lib import KINGLET, Server, Writers, check, config_map, equal, fail, free_port, holds, \
    moved_config_maps, run, temp_dir, wait_for


class Postgres:
    """A database server in a directory of its own, as nobody when we are root."""

    def __init__(self):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        check(found, "PostgreSQL is not installed (deploy/packages-test.txt)")
        self.bin, self.port = found[-1], free_port()
        self.dir = tempfile.mkdtemp(prefix="kinglet-pg-", dir="/tmp")
        self.who = {"user": "nobody", "group": "nogroup", "extra_groups": []} \
            if os.geteuid() == 0 else {}
        if self.who:
            shutil.chown(self.dir, "nobody", "nogroup")
        atexit.register(self.close)
        subprocess.run([f"{self.bin}/initdb", "-D", f"{self.dir}/data", "-A", "trust", "-U", "kinglet",
                        "--no-sync"], check=True, stdout=subprocess.DEVNULL, cwd=self.dir, **self.who)
        self.log = open(f"{self.dir}/log", "wb")
        self.proc = subprocess.Popen(
            [f"{self.bin}/postgres", "-D", f"{self.dir}/data", "-p", str(self.port), "-k", self.dir,
             "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"], stdout=self.log, stderr=self.log,
            cwd=self.dir, **self.who)
        wait_for(lambda: subprocess.run([f"{self.bin}/pg_isready", "-h", "127.0.0.1", "-p",
                                         str(self.port)], stdout=subprocess.DEVNULL).returncode == 0,
                 "PostgreSQL answers")

    def url(self, name):
        return f"postgres://kinglet@127.0.0.1:{self.port}/{name}?sslmode=disable"

    def close(self):
        if getattr(self, "proc", None) and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGINT)  # "fast"
            self.proc.wait(240)
        shutil.rmtree(self.dir, True)


def server(*flags, data=None):
    return Server("--advertise-address", "127.0.0.1", "--peer-port", str(free_port()), *flags, data=data)


def refused(code, say, *flags, data=None):
    """A server that must not start: one sentence, exit 1."""
    s = server(*flags, data=data)
    r = subprocess.run([KINGLET, "server", *s.flags], capture_output=True, text=True, timeout=240)
    equal(r.returncode, code, f"exit status of {flags}: {r.stderr}")
    lines = [x for x in r.stderr.splitlines() if x.startswith("kinglet: ")]
    equal(len(lines), 1, f"sentences in {r.stderr}")
    holds(lines[0], say)
    return s


def read(path):
    with open(path) as f:
        return f.read().strip()


def with_bearer(s, token, path="/api"):
    c = s.connect(anonymous=True)
    try:
        c.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        return c.getresponse().status
    finally:
        c.close()


def endpoints(s):
    o = s.get("/api/v1/namespaces/default/endpoints/kubernetes")
    return sorted(p["port"] for x in o["subsets"] for p in x["ports"])


postgres = Postgres()
url = postgres.url("cluster")
a = server("--datastore-endpoint", url, "--token", "sesame")
b = server("--datastore-endpoint", url, "--token", "sesame")


def test_one_identity():
    for name in ("server-ca.crt", "server-ca.key", "client-ca.crt", "client-ca.key", "peer-ca.crt",
                 "peer-ca.key", "service.key", "cluster-id"):
        path = f"server/tls/{name}"
        equal(read(f"{b.data}/{path}"), read(f"{a.data}/{path}"), name)
        equal(os.stat(f"{b.data}/{path}").st_mode & 0o777, 0o600, name)
    equal(read(f"{b.data}/server/token"), read(f"{a.data}/server/token"), "token")
    holds(read(f"{b.data}/server/token"), r"^K10[0-9a-f]{64}::server:sesame$")
    for name in ("node-token", "agent-token"):
        equal(read(f"{b.data}/server/{name}"), read(f"{b.data}/server/token"), name)
    check(read(f"{a.data}/server/id") != read(f"{b.data}/server/id"), "two servers have one id")


def status(s):
    r = subprocess.run([KINGLET, "status", "--data-dir", s.data, "-o", "json"], capture_output=True,
                       text=True, timeout=240)
    equal(r.returncode, 0, r.stderr)
    return json.loads(r.stdout)


def test_status_names_all():
    wait_for(lambda: sorted([status(a)["role"], status(b)["role"]]) == ["batch leader", "follower"],
             "one leads", 30)
    ids = sorted(read(f"{s.data}/server/id").split()[0] for s in (a, b))
    ports = sorted(s.flags[s.flags.index("--peer-port") + 1] for s in (a, b))
    for s in (a, b):
        wait_for(lambda s=s: [m["connected"] for m in status(s)["members"]] == [True, True],
                 "connected", 20)
        members = status(s)["members"]
        equal(sorted(m["id"] for m in members), ids, "members")
        equal(sorted(m["address"] for m in members), [f"127.0.0.1:{p}" for p in ports], "addresses")
        equal([m["role"] for m in members if m["self"]], [status(s)["role"]], "own role")
        equal(sorted(m["role"] for m in members), ["batch leader", "follower"], "roles")
    follower = a if status(a)["role"] == "follower" else b
    text = subprocess.run([KINGLET, "status", "--data-dir", follower.data], capture_output=True,
                          text=True, timeout=240).stdout
    holds(text, r"^role: +follower$", r"^members: +[0-9a-f]{16} ", r" follower .* \(this server\)$")


def test_moved_by_any():
    """migrate --online on the server that does not lead, with writes on both."""
    follower, leader = (a, b) if status(a)["role"] == "follower" else (b, a)
    target = f"raft://{temp_dir()}/moved"
    with Writers([a, b]) as w:
        wait_for(lambda: w.count() > 200, "writes")
        r = subprocess.run([KINGLET, "migrate", "--online", "--data-dir", follower.data, "--to",
                            target, "--verify"], capture_output=True, text=True, timeout=240)
        equal(r.returncode, 0, r.stderr)
        print("   ", re.search(r"the pause was \d+ ms", r.stdout).group(0))
        had = w.refused
        wait_for(lambda: w.refused > had + 10, "writes are refused")
    for s in (a, b):
        code, _, text = s.raw("POST", "/api/v1/namespaces/default/configmaps", config_map("late"))
        equal(code, 503, text)
        holds(text.decode(), "takes no writes: it was moved to raft://")
    have = moved_config_maps(target)
    lost = [n for n in w.acked if have.get(n) != w.acked[n]]
    check(not lost, f"{len(lost)} of {len(w.acked)} acknowledged writes were not moved: {lost[:5]}")
    # A server that starts on what was moved says why it cannot go on, until it may.
    leader.stop()
    leader.start(wait=False)
    wait_for(lambda: re.search(r"trying again: the datastore takes no writes: it was moved to raft://",
                               leader.log_tail()), "it says so")
    r = subprocess.run([KINGLET, "migrate", "--unfence", "--data-dir", leader.data],
                       capture_output=True, text=True, timeout=240)
    equal(r.returncode, 0, r.stderr)
    wait_for(leader.is_ready, "it is ready")
    for s in (a, b):
        s.apply(config_map("not-fenced", {"by": str(s.port)}))


def test_credentials_of_one_work_on_the_other():
    a.kubectl("create", "serviceaccount", "bob")
    token = a.kubectl("create", "token", "bob").strip()
    equal(with_bearer(a, token), 200)
    equal(with_bearer(b, token), 200)
    equal(with_bearer(b, token[:-4] + "AAAA"), 401)
    # The admin's certificate of A on B.
    c = http.client.HTTPSConnection("127.0.0.1", b.port, context=a.ssl, timeout=240)
    c.request("GET", "/api/v1/namespaces/kube-system")
    equal(c.getresponse().status, 200)
    c.close()


def client_certificate(name):
    """Of the cluster's own CA, by a certificate request; gives key and certificate in one file."""
    pem = os.path.join(temp_dir(), name)
    subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-subj", f"/CN={name}", "-keyout", pem, "-out", pem + ".csr"], check=True, capture_output=True)
    with open(pem + ".csr", "rb") as f:
        request = base64.b64encode(f.read()).decode()
    a.apply({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
             "spec": {"request": request, "usages": ["client auth"], "signerName": "kubernetes.io/kube-apiserver-client"}})
    b.kubectl("certificate", "approve", name)
    path = f"/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}"
    issued = wait_for(lambda: a.get(path)["status"].get("certificate"), "a certificate")
    with open(pem, "ab") as f:
        f.write(base64.b64decode(issued))
    return pem


def open_watches(s, n, pem=None, token=None):
    """Several, so that loops of all numbers have one."""
    out = []
    for _ in range(n):
        context = ssl.create_default_context(cafile=os.path.join(s.data, "server/tls/server-ca.crt"))
        if pem:
            context.load_cert_chain(pem)
        c = http.client.HTTPSConnection("127.0.0.1", s.port, context=context, timeout=240)
        c.request("GET", "/api/v1/namespaces/default/configmaps?watch=true",
                  headers={"Authorization": f"Bearer {token}"} if token else {})
        r = c.getresponse()
        equal(r.status, 200, "a watch")
        out.append((r, c))
    return out


def all_end(watches):
    for r, c in watches:
        while r.readline():  # one that stays open runs into the connection's time-out
            pass
        c.close()


def certificate(s, *args):
    r = subprocess.run([KINGLET, "certificate", *args, "--data-dir", s.data], capture_output=True, text=True,
                       timeout=240)
    equal(r.returncode, 0, r.stderr)


def test_revoked_on_one_ends_on_the_other():
    user = "system:serviceaccount:default:eve"
    a.kubectl("create", "serviceaccount", "eve")
    a.kubectl("create", "clusterrolebinding", "watchers", "--clusterrole=view", "--serviceaccount=default:eve",
              "--user=mallory")
    token = a.kubectl("create", "token", "eve").strip()
    for s in (a, b):
        wait_for(lambda s=s: with_bearer(s, token, "/api/v1/namespaces/default/configmaps") == 200, "eve may")
    for here, there in ((a, b), (b, a)):
        watches = open_watches(there, 6, token=token)
        certificate(here, "revoke", user)
        all_end(watches)
        wait_for(lambda s=there: with_bearer(s, token) == 401, "refused there")
        equal(with_bearer(here, token), 401)
        certificate(there, "restore", user)
        for s in (a, b):
            wait_for(lambda s=s: with_bearer(s, token) == 200, "let in again")
    pem = client_certificate("mallory")
    serial = subprocess.run(["openssl", "x509", "-in", pem, "-noout", "-serial"], capture_output=True, text=True,
                            check=True).stdout.strip().split("=")[1]
    watches = open_watches(b, 6, pem=pem)
    others = open_watches(b, 1, token=token)
    certificate(a, "revoke", "0x" + serial)
    all_end(watches)
    # Those of others go on.
    r, c = others[0]
    wait_for(lambda: a.apply(config_map("still", {"n": str(os.urandom(4))})) and r.readline(), "an event")
    c.close()


def test_seen_by_watch():
    with b.kubectl_background("get", "configmaps", "--watch-only", "-o", "name") as w:
        a.apply(config_map("warm"))
        wait_for(lambda: a.apply(config_map("warm", {"n": str(os.urandom(4))})) and w.lines(),
                 "the watch has begun")
        for i in range(20):
            (a if i % 2 else b).apply(config_map(f"seen-{i}", {"i": str(i)}))
        for i in range(20):
            w.wait_text(rf"configmap/seen-{i}$")
    for i in range(20):
        equal(json.loads(a.kubectl("get", "cm", f"seen-{i}", "-o", "json"))["data"], {"i": str(i)})


def test_quota_is_one():
    """Creates on both servers at once never take more than the quota has."""
    a.kubectl("create", "namespace", "shared")
    path = "/api/v1/namespaces/shared/resourcequotas/q"
    a.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
             "spec": {"hard": {"secrets": "20"}}}, namespace="shared")
    for s in (a, b):
        wait_for(lambda s=s: s.get(path).get("status", {}).get("used") == {"secrets": "0"}, "counted")

    def create(i):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"s{i}"}}
        return (a, b)[i % 2].raw("POST", "/api/v1/namespaces/shared/secrets", secret)[0]
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = sorted(pool.map(create, range(40)))
    equal(answers, [201] * 20 + [403] * 20, "answers")
    for s in (a, b):
        wait_for(lambda s=s: s.get(path)["status"]["used"] == {"secrets": "20"}, "charged")
        wait_for(lambda s=s: len(s.get("/api/v1/namespaces/shared/secrets")["items"]) == 20, "stored")


def test_endpoints_are_of_all():
    want = sorted([a.port, b.port])
    for s in (a, b):
        wait_for(lambda s=s: endpoints(s) == want, f"endpoints {want}", 20)
    equal(b.stop(), 0, "exit status")
    wait_for(lambda: endpoints(a) == [a.port], "the one that stopped is gone", 20)
    b.start()
    wait_for(lambda: endpoints(a) == want, "it is back", 20)
    # Killed, it goes when its lease has ended; started again it is back at once.
    b.kill()
    # (a minute later when it led: the next leader goes by what is stored of its leases)
    wait_for(lambda: endpoints(a) == [a.port], "the one that was killed is gone", 100)
    b.start()
    wait_for(lambda: endpoints(a) == want, "it is back", 20)


def test_wrong_token():
    refused(1, "the token is not that of the cluster in the datastore", "--datastore-endpoint", url,
            "--token", "wrong")
    refused(1, "its token is needed", "--datastore-endpoint", url)
    refused(1, "the token is of another cluster", "--datastore-endpoint", url, "--token",
            "K10" + "0" * 64 + "::server:sesame")
    # One that belongs to the cluster is not changed by a wrong token.
    equal(b.stop(), 0, "exit status")
    before = read(f"{b.data}/server/token")
    refused(1, "the token is not that of the cluster", "--datastore-endpoint", url, "--token", "wrong",
            data=b.data)
    equal(read(f"{b.data}/server/token"), before, "token")
    b.start()


def test_joining_needs_the_token():
    def ask(path, secret=None, method="GET"):
        c = a.connect(anonymous=True)
        try:
            basic = base64.b64encode(f"server:{secret}".encode()).decode()
            c.request(method, path, headers={"Authorization": f"Basic {basic}"} if secret else {})
            r = c.getresponse()
            return r.status, r.read().decode()
        finally:
            c.close()
    equal(ask("/cacerts"), (200, read(f"{a.data}/server/tls/server-ca.crt") + "\n"))
    for path in ("bootstrap", "members", "nothing"):
        for secret in (None, "wrong", "sesam", "sesame!", "x" * 5000):
            status, text = ask(f"/v1-kinglet/{path}", secret)
            equal((status, text), (401, "the token is not that of this cluster\n"), path)
    status, text = ask("/v1-kinglet/bootstrap", "sesame")
    equal(status, 200)
    holds(text, "^server/tls/service.key [0-9]+$")
    equal(ask("/v1-kinglet/nothing", "sesame")[0], 404)
    equal(ask("/v1-kinglet/members?id=1", "sesame", "DELETE")[0], 400)
    status, text = ask("/v1-kinglet/members", "sesame")
    check(status >= 400, f"members of a database: {status} {text}")


def test_another_clusters_directory():
    alone = Server()
    with alone:
        pass
    refused(1, "is not of the cluster in the datastore: use another --data-dir",
            "--datastore-endpoint", url, "--token", "sesame", data=alone.data)


def test_copied_directory():
    copy = temp_dir()
    shutil.copytree(b.data, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
    refused(1, "a server with this one's id [0-9a-f]{16} runs on", "--datastore-endpoint", url,
            "--token", "sesame", data=copy)
    equal(b.get("/api/v1/namespaces/default")["metadata"]["name"], "default")
    refused(1, "another kinglet server runs on", "--datastore-endpoint", url, "--token", "sesame",
            data=b.data)


def test_single_server_directory_goes_in():
    """The layout of a server that was alone: it starts with it, and its identity is stored."""
    s = Server()
    with s:
        s.apply(config_map("kept"))
        equal(read(f"{s.data}/server/token"), read(f"{s.data}/server/node-token"), "node-token")
    os.unlink(f"{s.data}/server/tls/bootstrap.sum")
    with s:
        s.kubectl("get", "cm", "kept")
    check(os.path.exists(f"{s.data}/server/tls/bootstrap.sum"), "the identity was not looked at")


def members(s):
    r = subprocess.run([KINGLET, "member", "list", "-o", "json", "--data-dir", s.data, "--server",
                        f"https://127.0.0.1:{s.port}"], capture_output=True, text=True, timeout=240)
    if r.returncode:
        fail(f"member list: {r.stderr}")
    return json.loads(r.stdout)


def test_raft_join():
    first = server("--cluster-init")
    with first:
        token = read(f"{first.data}/server/token")
        join = ["--server", f"https://127.0.0.1:{first.port}", "--token"]
        refused(1, "the token is not that of this cluster", *join, token + "x")
        refused(1, "is of another cluster: its CA is not the token's", *join,
                "K10" + "1" * 64 + "::server:x")
        first.apply(config_map("before", {"a": "b"}))
        second, third = server(*join, token), server(*join, token)
        with second:
            equal([m["role"] for m in members(first)], ["voter", "learner"], "roles")
            equal([status(first)["role"], status(second)["role"]], ["leader", "learner"], "status")
            second.kubectl("get", "cm", "before")
            with third:
                wait_for(lambda: [m["role"] for m in members(first)] == ["voter"] * 3, "three voters")
                wait_for(lambda: sorted(m["role"] for m in status(third)["members"]) ==
                         ["follower", "follower", "leader"], "status of three")
                third.apply(config_map("third"))
                first.kubectl("get", "cm", "third")
                first.kill()
                wait_for(lambda: second.try_kubectl("create", "cm", "failover").code == 0,
                         "writes go on without the first", 30)
                first.start()  # by itself: no flag is needed again
                wait_for(lambda: all(m["connected"] for m in members(second)), "all are there")
                first.kubectl("get", "cm", "failover")


run(a, b)
