#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# lane: etcd
# time-limit: 300
"""Clusters of kinglet called as `etcd`, with etcd's own flags and etcdctl: three members that trust
each other by certificates, their failures, members that come and go by MemberAdd and MemberRemove,
and what dashboards and probes read."""
import atexit
import json
import os
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from lib import KINGLET, check, equal, fail, free_port, holds, run, temp_dir, wait_for

ETCDCTL = os.environ.get("ETCDCTL") or shutil.which("etcdctl")


class Certificates:
    """A CA and one certificate for everybody on 127.0.0.1."""

    def __init__(self):
        self.dir = temp_dir()
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        self.openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca")
        self.openssl("req", *new, "-keyout", "any.key", "-out", "any.csr", "-subj", "/CN=member")
        with open(self.path("ext"), "w", encoding="utf-8") as f:
            f.write("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        self.openssl("x509", "-req", "-in", "any.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                     "-extfile", "ext", "-out", "any.crt")

    def openssl(self, *args):
        subprocess.run(("openssl",) + args, cwd=self.dir, check=True, capture_output=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def flags(self, prefix=""):
        return [f"--{prefix}cert-file={self.path('any.crt')}", f"--{prefix}key-file={self.path('any.key')}",
                f"--{prefix}trusted-ca-file={self.path('ca.crt')}", f"--{prefix}client-cert-auth"]

    def context(self):
        c = ssl.create_default_context(cafile=self.path("ca.crt"))
        c.load_cert_chain(self.path("any.crt"), self.path("any.key"))
        return c


class Member:
    def __init__(self, name, certificates=None, peer_certificates=None):
        self.name, self.dir, self.tls = name, temp_dir(), certificates
        self.peer_tls = peer_certificates or certificates
        scheme = "https" if certificates else "http"
        self.url = f"{scheme}://127.0.0.1:{free_port()}"
        self.peer = f"{scheme}://127.0.0.1:{free_port()}"
        self.log, self.process = os.path.join(self.dir, "log"), None
        os.symlink(KINGLET, os.path.join(self.dir, "etcd"))
        atexit.register(self.kill)

    def start(self, cluster, state="new", *more):
        args = [os.path.join(self.dir, "etcd"), "--name", self.name, "--data-dir", os.path.join(self.dir, "data"),
                "--listen-client-urls", self.url, "--advertise-client-urls", self.url, "--listen-peer-urls",
                self.peer, "--initial-advertise-peer-urls", self.peer, "--initial-cluster",
                ",".join(f"{m.name}={m.peer}" for m in cluster), "--initial-cluster-state", state,
                "--initial-cluster-token", "tests", "--heartbeat-interval=100", "--election-timeout=1000",
                "--snapshot-count=10000", "--quota-backend-bytes=8589934592", "--auto-compaction-retention=1",
                "--logger=zap", "--log-outputs=stderr", *more]
        if self.tls:
            args += self.tls.flags() + self.peer_tls.flags("peer-")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(args, stdout=log, stderr=log, cwd=self.dir)
        return self

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        self.process.terminate()
        equal(self.process.wait(240), 0, f"exit status of {self.name}")

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60,
                                    context=self.tls.context() if self.tls else None) as r:
            return r.read().decode()

    def call(self, path, **body):
        rq = urllib.request.Request(self.url + "/v3/" + path, json.dumps(body).encode())
        with urllib.request.urlopen(rq, timeout=240, context=self.tls.context() if self.tls else None) as r:
            return json.load(r)

    def healthy(self):
        if self.process.poll() is not None:
            fail(f"{self.name} ended with {self.process.returncode}: {self.text()[-800:]}")
        try:
            return json.loads(self.get("/health"))["health"] == "true"
        except (OSError, urllib.error.HTTPError):
            return False

    def health(self):
        try:
            return self.get("/health")
        except urllib.error.HTTPError as e:
            return e.read().decode()
        except OSError:
            return ""

    def ctl(self, *args, refused=None):
        tls = ["--cacert", self.tls.path("ca.crt"), "--cert", self.tls.path("any.crt"), "--key",
               self.tls.path("any.key")] if self.tls else []
        done = subprocess.run([ETCDCTL, "--endpoints", self.url, "--command-timeout=120s", *tls, *args],
                              capture_output=True, text=True, timeout=240, check=False,
                              env=dict(os.environ, ETCDCTL_API="3"))
        if refused:
            check(done.returncode, f"{args} succeeded: {done.stdout}")
            holds(done.stderr, refused)
        elif done.returncode:
            fail(f"etcdctl {args} at {self.name}: {done.stderr[-400:]}")
        return done.stdout

    def members(self):
        out = json.loads(self.ctl("member", "list", "-w", "json"))
        return {m["peerURLs"][0]: m for m in out["members"]}

    def voters(self):
        try:
            return sum(not m.get("isLearner") for m in self.members().values())
        except Exception:  # pylint: disable=broad-except
            return -1

    def id(self):
        return json.loads(self.ctl("endpoint", "status", "-w", "json"))[0]["Status"]["header"]["member_id"]

    def metric(self, name):
        lines = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.get("/metrics"), re.M)
        check(lines, f"no {name} in /metrics")
        return sum(float(v) for v in lines)


def start_all(cluster):
    for m in cluster:
        m.start(cluster)
    for m in cluster:
        wait_for(m.healthy, f"{m.name} is healthy", 60)
    wait_for(lambda: all(m.voters() == len(cluster) for m in cluster), "all are voters, as all know", 60)


def serves(cluster, key):
    cluster[0].ctl("put", key, "value of " + key)
    for m in cluster:
        equal(m.ctl("get", key, "--print-value-only"), f"value of {key}\n", f"{key} at {m.name}")


def trio():
    if not hasattr(trio, "members"):
        tls = Certificates()
        trio.members = [Member(n, tls) for n in ("one", "two", "three")]
        start_all(trio.members)
    return trio.members


def test_three_members_with_certificates():
    cluster = trio()
    serves(cluster, "a")
    holds(cluster[0].ctl("endpoint", "health"), "is healthy|")
    everybody = {x.peer: (x.name, [x.url]) for x in cluster}
    for m in cluster:  # members tell each other after they have met
        wait_for(lambda m=m: {p: (x.get("name"), x.get("clientURLs")) for p, x in m.members().items()} == everybody,
                 "names and client URLs of all members")
    status = json.loads(cluster[0].ctl("endpoint", "status", "--cluster", "-w", "json"))
    equal(sorted(x["Endpoint"] for x in status), sorted(m.url for m in cluster))
    equal(len({x["Status"]["header"]["member_id"] for x in status}), 3, "members that answered")
    told = [m.members() for m in cluster]
    for i, m in enumerate(cluster):
        equal(sorted(told[i]), sorted(x.peer for x in cluster))
        equal(told[i][m.peer]["name"], m.name)
        equal(told[i][m.peer]["clientURLs"], [m.url])
        equal({x["name"] for x in told[i].values()}, {"one", "two", "three"})
    leaders = {json.loads(m.ctl("endpoint", "status", "-w", "json"))[0]["Status"]["leader"] for m in cluster}
    equal(len(leaders), 1, "leaders")
    hashes = {(h["Status"]["hash"] if "Status" in h else h["HashKV"]["hash"])
              for m in cluster for h in json.loads(m.ctl("endpoint", "hashkv", "-w", "json"))}
    equal(len(hashes), 1, "hashes of equal members")


def test_what_dashboards_read():
    cluster = trio()
    m = cluster[0]
    version = json.loads(m.get("/version"))
    equal(set(version), {"etcdserver", "etcdcluster", "storage"})
    for name in ("etcd_server_id", "etcd_server_has_leader", "etcd_server_version", "etcd_cluster_version"):
        equal(m.metric(name), 1.0, name)
    holds(m.get("/metrics"), 'etcd_server_id{server_id="%x"} 1' % m.id())
    equal(m.metric("etcd_server_is_learner"), 0.0)
    equal(sum(x.metric("etcd_server_is_leader") for x in cluster), 1.0, "leaders")
    for name in ("etcd_mvcc_db_total_size_in_bytes", "etcd_mvcc_db_total_size_in_use_in_bytes",
                 "etcd_disk_wal_fsync_duration_seconds_count", "etcd_disk_backend_commit_duration_seconds_count",
                 "etcd_disk_wal_fsync_duration_seconds_bucket", "etcd_server_proposals_committed_total",
                 "etcd_server_proposals_applied_total", "etcd_network_client_grpc_received_bytes_total",
                 "etcd_network_client_grpc_sent_bytes_total", "grpc_server_started_total", "grpc_server_handled_total",
                 "process_resident_memory_bytes", "process_cpu_seconds_total"):
        check(m.metric(name) > 0, f"{name} is 0")
    for name in ("etcd_server_proposals_pending", "etcd_server_proposals_failed_total",
                 "etcd_server_leader_changes_seen_total", "etcd_debugging_mvcc_watcher_total"):
        m.metric(name)
    m.ctl("get", "a", "--rev=999999", refused="future revision")
    holds(m.get("/metrics"), 'grpc_server_handled_total{grpc_code="OutOfRange",grpc_method="Range",'
                             'grpc_service="etcdserverpb.KV",grpc_type="unary"} 1')


def test_an_alarm_is_all_members():
    """Raised at one, it caps all; each has it when it comes back; it is disarmed at any."""
    cluster = trio()
    one, two, three = cluster
    mine = {"memberID": str(one.id()), "alarm": "NOSPACE"}
    equal(one.call("maintenance/alarm", action="ACTIVATE", **mine)["alarms"], [mine])
    for m in cluster:
        equal(m.call("maintenance/alarm")["alarms"], [mine], m.name)
        m.ctl("put", "capped", "x", refused="mvcc: database space exceeded")
    two.stop()
    two.start(cluster)
    wait_for(lambda: "ALARM NOSPACE" in two.health(), "it is back, with the alarm", 60)
    two.ctl("put", "capped", "x", refused="mvcc: database space exceeded")
    holds(three.ctl("alarm", "disarm"), f"memberID:{mine['memberID']} alarm:NOSPACE")
    for m in cluster:
        equal(m.ctl("alarm", "list"), "", m.name)
    for m in cluster:
        wait_for(m.healthy, f"{m.name} is healthy", 60)
        m.ctl("put", "capped no more", m.name)


def test_a_member_dies_and_comes_back():
    cluster = trio()
    leader = next(m for m in cluster if m.metric("etcd_server_is_leader") == 1)
    rest = [m for m in cluster if m is not leader]
    leader.kill()
    wait_for(lambda: sum(m.metric("etcd_server_is_leader") for m in rest) == 1, "another one leads", 60)
    serves(rest, "while one is down")
    equal(rest[0].members()[leader.peer]["clientURLs"], [leader.url], "of one that is down")
    leader.start(cluster)
    wait_for(leader.healthy, "it is back", 60)
    equal(leader.ctl("get", "while one is down", "--print-value-only"), "value of while one is down\n")
    serves([leader] + rest, "back")


def test_nobody_joins_without_the_right_certificate():
    cluster = trio()
    stranger = Member("stranger", cluster[0].tls, Certificates())
    cluster[0].ctl("member", "add", "stranger", f"--peer-urls={stranger.peer}", "--learner")
    stranger.start(cluster + [stranger], "existing")
    # It has nothing until it is let in: the others refuse it, and say so or not; it never serves.
    wait_for(lambda: re.search("certificate|verify|tls|TLS", stranger.text()) or
             stranger.process.poll() is not None, "the refusal is told", 60)
    check(stranger.process.poll() is not None or not stranger.healthy(), "it serves")
    stranger.kill()
    cluster[0].ctl("member", "remove", "%x" % cluster[0].members()[stranger.peer]["ID"])
    equal(sorted(cluster[0].members()), sorted(m.peer for m in cluster))
    serves(cluster, "after the stranger")


def test_members_are_added_and_removed():
    cluster = list(trio())
    one = cluster[0]
    four, five = Member("four", one.tls), Member("five", one.tls)
    holds(one.ctl("member", "add", "four", f"--peer-urls={four.peer}"), "added (as learner )?to cluster")
    equal((one.members()[four.peer].get("name", ""), one.members()[four.peer].get("isLearner")), ("", True))
    one.ctl("member", "add", "x", f"--peer-urls={four.peer}", refused="Peer URLs already exists")
    one.ctl("member", "add", "x", "--peer-urls=ftp://somewhere", refused="given member URLs are invalid|scheme")
    one.ctl("member", "promote", "%x" % one.members()[four.peer]["ID"], refused="in sync with leader")
    one.ctl("member", "promote", "%x" % one.id(), refused="can only promote a learner member")
    four.start(cluster + [four], "existing")
    wait_for(four.healthy, "four serves", 60)
    equal(four.ctl("get", "a", "--print-value-only"), "value of a\n")
    equal(four.metric("etcd_server_is_learner"), 1.0, "even numbers of voters there are not")
    cluster[1].ctl("member", "add", "five", f"--peer-urls={five.peer}")
    five.start(cluster + [four, five], "existing")
    wait_for(lambda: one.voters() == 5, "five voters", 60)
    wait_for(five.healthy, "five serves", 60)
    serves(cluster + [four, five], "of five")
    moved = f"https://127.0.0.1:{free_port()}"
    one.ctl("member", "update", "%x" % five.id(), f"--peer-urls={moved}")
    wait_for(lambda: moved in one.members(), "the new URL")
    one.ctl("member", "update", "%x" % five.id(), f"--peer-urls={five.peer}")
    one.ctl("member", "remove", "12345", refused="member not found")
    one.ctl("member", "remove", "%x" % four.id())
    four.process.wait(240)
    holds(four.text(), "removed from the cluster")
    wait_for(lambda: one.voters() == 3 and len(one.members()) == 4, "three voters and a learner", 60)
    five_id = five.id()
    five.stop()
    one.ctl("member", "remove", "%x" % five_id)
    wait_for(lambda: one.voters() == 3 and len(one.members()) == 3, "three members", 60)
    serves(cluster, "of three again")
    for m in cluster:
        m.stop()


def test_one_member_grows_to_three():
    a, b, c = (Member(n) for n in ("a", "b", "c"))
    a.start([a], "new", "--datastore-endpoint", f"raft://{a.dir}/data")
    wait_for(a.healthy, "a is healthy", 60)
    a.ctl("put", "k", "from the beginning")
    a.ctl("member", "remove", "%x" % a.id(), refused="not enough started members")
    a.ctl("member", "add", "b", f"--peer-urls={b.peer}")
    b.start([a, b], "existing")
    wait_for(b.healthy, "b is healthy", 60)
    b.ctl("member", "add", "c", f"--peer-urls={c.peer}")
    c.start([a, b, c], "existing")
    wait_for(lambda: all(m.voters() == 3 for m in (a, b, c)), "three voters, as all know", 60)
    wait_for(c.healthy, "c is healthy", 60)
    for m in (a, b, c):
        equal(m.ctl("get", "k", "--print-value-only"), "from the beginning\n")
    a.kill()
    wait_for(lambda: sum(m.metric("etcd_server_is_leader") for m in (b, c)) == 1, "one of two leads", 60)
    serves([b, c], "without a")


def test_a_lone_etcd_takes_no_members():
    m = Member("default")
    m.start([m])
    wait_for(m.healthy, "healthy", 60)
    m.ctl("member", "add", "x", "--peer-urls=http://127.0.0.1:1", refused="not capable")
    m.stop()


if not ETCDCTL:
    print("skip test_etcd_cluster.py / all: no etcdctl (package etcd-client)")
else:
    run()
