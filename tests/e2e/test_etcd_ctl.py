#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# lane: etcd
"""etcdctl (Debian's etcd-client, or ETCDCTL) against `kinglet etcd`: what people type, and what they
are told. What answers look like byte by byte is the differential test's business (tests/etcd)."""
import atexit
import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from lib import KINGLET, Background, check, equal, fail, free_port, holds, run, temp_dir, wait_for

ETCDCTL = os.environ.get("ETCDCTL") or shutil.which("etcdctl")
BIG = 1536 * 1024


class Etcd:
    def __init__(self, datastore, *flags):
        self.flags = flags
        self.datastore, self.port, self.log = datastore, free_port(), os.path.join(temp_dir(), "log")
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None
        atexit.register(self.close)

    def start(self, healthy=(200, )):
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([KINGLET, "etcd", "--listen-client-urls", self.url,
                                             "--datastore-endpoint", self.datastore, *self.flags], stderr=log, stdout=log)
        wait_for(lambda: self.healthy(healthy) or self.process.poll() is not None, "healthy")
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8") as log:
                fail("kinglet etcd ended: " + log.read()[-500:])

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(240)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def http(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def call(self, path, **body):
        """The JSON gateway's answer, of an error too."""
        r = urllib.request.Request(self.url + "/v3/" + path, json.dumps(body).encode())
        try:
            with urllib.request.urlopen(r, timeout=240) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)

    def healthy(self, statuses=(200, )):
        try:
            return self.http("/health")[0] in statuses
        except OSError:
            return False

    def argv(self, *args):
        return [ETCDCTL, "--endpoints", self.url, "--command-timeout=120s", "--dial-timeout=60s", *args]

    def run(self, *args, stdin=None):
        env = dict(os.environ, ETCDCTL_API="3")
        return subprocess.run(self.argv(*args), input=stdin, capture_output=True, timeout=240, env=env,
                              check=False)

    def __call__(self, *args, stdin=None):
        done = self.run(*args, stdin=stdin)
        if done.returncode:
            fail(f"etcdctl {' '.join(args)}: {done.stderr.decode(errors='replace')[-400:]}")
        return done.stdout.decode()

    def json(self, *args, stdin=None):
        return json.loads(self(*args, "-w", "json", stdin=stdin))

    def refuses(self, words, *args, stdin=None):
        done = self.run(*args, stdin=stdin)
        check(done.returncode != 0, f"etcdctl {' '.join(args)[:100]} succeeded")
        holds(done.stderr.decode(errors="replace"), words)

    def revision(self):
        return self.json("get", "nothing")["header"]["revision"]


def text(b64):
    return base64.b64decode(b64).decode()


etcd = Etcd("memory://") if ETCDCTL else None


def test_keys():
    rev = etcd.revision()
    equal(etcd("put", "a", "1"), "OK\n")
    equal(etcd("put", "a", "2", "--prev-kv"), "OK\na\n1\n")
    got = etcd.json("get", "a")
    kv = got["kvs"][0]
    equal((text(kv["value"]), kv["version"], kv["create_revision"], kv["mod_revision"], got["count"]),
          ("2", 2, rev + 1, rev + 2, 1))
    equal(got["header"]["revision"], rev + 2)
    check(got["header"]["raft_term"] > 0 and got["header"]["cluster_id"], got["header"])
    for key in "bdc":
        etcd("put", key, "x" + key)
    equal(etcd("get", "a", "z", "--keys-only").split(), ["a", "b", "c", "d"])
    equal(etcd("get", "a", "--from-key", "--order=DESCEND", "--keys-only").split(), ["d", "c", "b", "a"])
    equal(etcd("get", "", "--prefix", "--sort-by=MODIFY", "--keys-only").split(), ["a", "b", "d", "c"])
    page = etcd.json("get", "", "--prefix", "--limit=2")
    equal((len(page["kvs"]), page["more"], page["count"]), (2, True, 4))
    equal(etcd("get", "a", "--rev", str(rev + 1), "--print-value-only"), "1\n")
    equal(etcd("del", "b", "d", "--prev-kv"), "2\nb\nxb\nc\nxc\n")
    equal(etcd("del", "b"), "0\n")
    equal(etcd("put", "a", "--ignore-value", "--ignore-lease"), "OK\n")
    equal(etcd("get", "a", "--print-value-only"), "2\n")
    etcd.refuses("etcdserver: key not found", "put", "none", "--ignore-value")
    etcd.refuses("etcdserver: mvcc: required revision is a future revision", "get", "a", "--rev=999999")
    etcd.refuses("etcdserver: requested lease not found", "put", "a", "v", "--lease=77")


def test_odd_bytes():
    value = bytes(range(256)) * 3
    etcd("put", "odd\u00fc /\u2713", stdin=value)
    equal(base64.b64decode(etcd.json("get", "odd\u00fc /\u2713")["kvs"][0]["value"]), value)
    etcd("put", "empty", "")
    check("value" not in etcd.json("get", "empty")["kvs"][0], "an empty value")


def test_sizes():
    etcd("put", "big", stdin=b"v" * (BIG - 2000))
    equal(len(etcd("get", "big", "--print-value-only")), BIG - 2000 + 1)
    etcd.refuses("etcdserver: request is too large", "put", "big", stdin=b"v" * BIG)
    etcd.refuses("trying to send message larger than max|received message larger than max", "put", "big",
                 stdin=b"v" * (BIG + 600 * 1024))
    equal(etcd.call("kv/put", key="Yg==", value=base64.b64encode(b"v" * (BIG + 600 * 1024)).decode()),
          (429, {"code": 8, "message": "grpc: received message larger than max"}))
    for i in range(60):
        etcd("put", f"list/{i:03}", stdin=bytes([65 + i % 26]) * 30000)
    kvs = etcd.json("get", "list/", "--prefix")["kvs"]
    equal([(text(kv["key"]), text(kv["value"])) for kv in kvs],
          [(f"list/{i:03}", chr(65 + i % 26) * 30000) for i in range(60)])
    etcd("del", "list/", "--prefix")


def test_transactions():
    etcd("put", "t", "old")
    rev = etcd.revision()
    script = b'value("t") = "old"\nversion("t") > "0"\n\nput t new\nput u first\nget t\n\nget t\n\n'
    got = etcd.json("txn", stdin=script)
    equal(got["succeeded"], True)
    check(got["header"]["revision"] > rev, got)
    # Of 3.7 the member is response_put, of older ones ResponsePut.
    put, put2, read = [next(iter(r["Response"].values())) for r in got["responses"]]
    equal(put["header"]["revision"], got["header"]["revision"])
    equal(put2["header"]["revision"], got["header"]["revision"])
    kv = read["kvs"][0]
    equal((text(kv["value"]), kv["mod_revision"]), ("new", got["header"]["revision"]))
    again = etcd.json("txn", stdin=script)
    check("succeeded" not in again, again)
    equal(text(next(iter(again["responses"][0]["Response"].values()))["kvs"][0]["value"]), "new")
    etcd.refuses("etcdserver: duplicate key given in txn request", "txn", stdin=b"\nput k 1\nput k 2\n\n\n")
    etcd.refuses("etcdserver: too many operations in txn request", "txn",
                 stdin=b"\n" + b"".join(b"put k%d v\n" % i for i in range(129)) + b"\n\n")


def test_compaction():
    etcd("put", "c", "1")
    rev = etcd.revision()
    etcd("put", "c", "2")
    etcd("put", "c", "3")
    equal(etcd("compaction", str(rev + 1)), f"compacted revision {rev + 1}\n")
    etcd.refuses("etcdserver: mvcc: required revision has been compacted", "get", "c", "--rev", str(rev))
    equal(etcd("get", "c", "--rev", str(rev + 1), "--print-value-only"), "2\n")
    etcd.refuses("etcdserver: mvcc: required revision has been compacted", "compaction", str(rev))
    etcd.refuses("etcdserver: mvcc: required revision is a future revision", "compaction", "99999999")
    etcd("compaction", "--physical", str(rev + 2))


def grant(ttl):
    return etcd("lease", "grant", str(ttl)).split()[1]


def test_leases():
    lease = grant(100)
    for key in ("l1", "l2"):
        etcd("put", key, "v", "--lease", lease)
    got = etcd.json("lease", "timetolive", lease, "--keys")
    equal((got["granted-ttl"], sorted(text(k) for k in got["keys"])), (100, ["l1", "l2"]))
    check(90 <= got["ttl"] <= 100, got)
    check(lease in etcd("lease", "list"), "it is listed")
    holds(etcd("lease", "keep-alive", "--once", lease), r"keepalived with TTL\(100\)")
    etcd("lease", "revoke", lease)
    equal(etcd("get", "l", "--prefix"), "")
    equal(etcd.json("lease", "timetolive", lease)["ttl"], -1)
    etcd.refuses("etcdserver: requested lease not found", "lease", "revoke", lease)
    etcd.refuses("etcdserver: too large lease TTL", "lease", "grant", "9000000001")
    short = grant(8)
    etcd("put", "brief", "v", "--lease", short)
    wait_for(lambda: etcd("get", "brief") == "", "the key goes with its lease", 15)


def test_watch():
    etcd("put", "w/0", "before")
    rev = etcd.revision()
    env = dict(os.environ, ETCDCTL_API="3")
    with Background(etcd.argv("watch", "w/", "--prefix", "--prev-kv", "--rev", str(rev)), env=env) as b:
        b.wait_text("before")
        etcd("put", "w/1", "one")
        etcd("put", "w/1", "two")
        etcd("del", "w/1")
        b.wait_text(r"PUT\nw/0\nbefore\nPUT\nw/1\none\nPUT\nw/1\none\nw/1\ntwo\nDELETE\nw/1\ntwo\nw/1\n")


def test_lock_and_election():
    equal(etcd("lock", "lock", "echo", "held"), "held\n")
    env = dict(os.environ, ETCDCTL_API="3")
    with Background(etcd.argv("elect", "chair", "alice"), env=env) as one:
        one.wait_text("alice")
        with Background(etcd.argv("elect", "chair", "bob"), env=env) as two:
            wait_for(lambda: len(etcd("get", "chair/", "--prefix", "--keys-only").split()) == 2, "two")
            check("bob" not in two.text(), "one chair")
            one.proc.send_signal(signal.SIGINT)
            two.wait_text("bob")


def test_maintenance():
    status = etcd.json("endpoint", "status")[0]["Status"]
    holds(status["version"], r"^3\.6\.")
    equal(status["leader"], status["header"]["member_id"])
    check(status["dbSize"] > 0, status)
    equal(etcd("alarm", "list"), "")
    holds(etcd("alarm", "disarm"), "^$")
    etcd("defrag")
    holds(etcd("endpoint", "health", "-w", "table"), "true")
    member = etcd.json("member", "list")["members"]
    equal(len(member), 1)
    equal(member[0]["ID"], status["header"]["member_id"])
    equal(member[0]["clientURLs"], [etcd.url])
    etcd.refuses("etcdserver: member not found", "member", "remove", "1234")
    etcd.refuses("etcdserver: not capable|can only", "member", "add", "x", "--peer-urls=http://127.0.0.1:1")


def test_alarms_of_a_remote_etcd():
    """They are the process's own: the remote's leases are none."""
    front = Etcd(etcd.url.replace("http://", "etcd://"))
    front.start()
    lease = front.json("lease", "grant", "1000")["ID"]
    equal(front("alarm", "list"), "")
    mine = front.call("maintenance/alarm", action="ACTIVATE", alarm="CORRUPT")[1]["alarms"]
    equal(front.call("maintenance/alarm")[1]["alarms"], mine)
    equal(etcd("alarm", "list"), "")
    holds(front("alarm", "disarm"), "alarm:CORRUPT")
    equal(front("alarm", "list"), "")
    front("lease", "revoke", f"{lease:x}")
    front.close()


def test_downgrade():
    """No older etcd opens what is stored: there is never a job."""
    for action, version, status, code, message in (
            ("VALIDATE", "3.x", 400, 3, "wrong downgrade target version format"),
            ("VALIDATE", "3.4", 400, 3, "invalid downgrade target version"),
            ("ENABLE", "3.5.0", 400, 9, "not capable")):
        equal(etcd.call("maintenance/downgrade", action=action, version=version),
              (status, {"code": code, "message": "etcdserver: " + message}))
    equal(etcd.call("maintenance/downgrade", action="CANCEL")[1]["version"], "3.6")


def test_quota():
    """A datastore that is too big takes no puts until it was made smaller and the alarm was disarmed."""
    quota = 16 << 20
    full = {"code": 8, "message": "etcdserver: mvcc: database space exceeded"}
    e = Etcd(f"sqlite://{temp_dir()}/state.db", "--quota-backend-bytes", str(quota))
    e.start()

    def size():
        return int(e.call("maintenance/status")[1]["dbSize"])
    value = base64.b64encode(os.urandom(96 << 10)).decode()
    puts = 0
    while (answer := e.call("kv/put", key="%s" % base64.b64encode(b"k%d" % puts).decode(), value=value))[0] == 200:
        puts += 1
        check(puts < 2000, "190 MB were taken")  # SQLite is measured with each checkpoint
    equal(answer, (429, full))
    check(puts > 100, f"{puts} puts")
    equal(e.call("maintenance/status")[1]["dbSizeQuota"], str(quota))
    holds(e("alarm", "list"), "^memberID:[0-9]+ +alarm:NOSPACE")
    holds(e.http("/health")[1], "ALARM NOSPACE")
    holds(e.http("/metrics")[1], f"(?m)^etcd_server_quota_backend_bytes {quota}$")
    e.refuses(full["message"], "put", "small", "x")
    e.refuses(full["message"], "lease", "grant", "10")
    equal(e.call("kv/txn", success=[{"request_put": {"key": "YQ==", "value": "YQ=="}}]), (429, full))
    equal(e.call("kv/txn", success=[{"request_delete_range": {"key": "azA="}}])[0], 200)
    equal(len(e.call("kv/range", key="azE=")[1]["kvs"]), 1)
    equal(int(e.call("kv/deleterange", key="aw==", range_end="bA==")[1]["deleted"]), puts - 1)
    equal(e.call("kv/compaction", revision=str(e.revision()), physical=True)[0], 200)
    wait_for(lambda: size() < quota // 2, "the space goes back", 120)
    e.refuses(full["message"], "put", "small", "x")  # the alarm stands
    equal(e.stop(), 0, "exit status")
    e.start(healthy=(503, ))  # and is not forgotten
    e.refuses(full["message"], "put", "small", "x")
    holds(e("alarm", "list"), "^memberID:[0-9]+ +alarm:NOSPACE *\n$")
    equal(e.call("lease/leases")[1].get("leases", []), [])  # as which it is kept
    revision = e.revision()
    # Another member's, of another kind: any member's counts. None has a revision.
    corrupt = {"memberID": "77", "alarm": "CORRUPT"}
    for _ in range(2):
        equal(e.call("maintenance/alarm", action="ACTIVATE", **corrupt)[1]["alarms"], [corrupt])
    equal(e.call("maintenance/alarm", alarm="CORRUPT")[1]["alarms"], [corrupt])
    equal(len(e.call("maintenance/alarm")[1]["alarms"]), 2)
    equal(len(e.call("maintenance/status")[1]["errors"]), 2)
    holds(str(e.call("maintenance/status")[1]["errors"]), "memberID:77 alarm:CORRUPT ")
    e.refuses("etcdserver: corrupt cluster", "get", "small")
    for left in ([corrupt], None):
        equal(e.call("maintenance/alarm", action="DEACTIVATE", **corrupt)[1].get("alarms"), left)
    equal(e("get", "small"), "")
    holds(e("alarm", "disarm"), "alarm:NOSPACE")
    equal(e("alarm", "list"), "")
    equal(e.revision(), revision)
    e("put", "small", "x")
    e("lease", "grant", "10")
    equal(e.stop(), 0, "exit status")


def test_snapshot_and_restore():
    etcd("put", "kept", "here")
    path = os.path.join(temp_dir(), "snap")
    etcd("snapshot", "save", path)
    with open(path, "rb") as f:
        data = f.read()
    equal(len(data) % 512, 32)
    equal(hashlib.sha256(data[:-32]).digest(), data[-32:])
    etcd("put", "kept", "changed")
    url = f"sqlite://{temp_dir()}/state.db"
    subprocess.run([KINGLET, "snapshot", "restore", path, "--to", url], check=True, timeout=240,
                   capture_output=True)
    restored = Etcd(url)
    restored.start()
    equal(restored("get", "kept", "--print-value-only"), "here\n")
    check(restored.revision() > etcd.revision(), "revisions are not used twice")
    equal(restored.stop(), 0, "exit status")


def test_authentication_is_not_enabled():
    etcd.refuses("etcdserver: root user does not exist", "auth", "enable")
    etcd.refuses("etcdserver: authentication is not enabled", "user", "add", "me:secret")
    etcd.refuses("etcdserver: user name not found", "user", "delete", "me")
    equal(etcd("user", "list"), "")
    equal(etcd("role", "list"), "")
    equal(etcd("auth", "disable"), "Authentication Disabled\n")


def test_http():
    equal(etcd.http("/health"), (200, '{"health":"true","reason":""}'))
    equal(json.loads(etcd.http("/version")[1]),
          {"etcdserver": "3.6.8", "etcdcluster": "3.6.0", "storage": "3.6.0"})
    holds(etcd.http("/metrics")[1], r"(?m)^etcd_server_has_leader 1$", r"(?m)^etcd_mvcc_put_total \d+$")
    equal(etcd.http("/nothing")[0], 404)


def test_restart_and_hash():
    """The same operations give the same hash on another back end, and after a restart."""
    path = os.path.join(temp_dir(), "state.db")
    sql, ram = Etcd(f"sqlite://{path}"), Etcd("memory://")
    sql.start()
    ram.start()
    try:
        for e in (sql, ram):
            for i in range(20):
                e("put", f"k{i % 7}", f"v{i}")
            e("del", "k3")

        def hash_of(e):
            return e.json("endpoint", "hashkv")[0]["HashKV"]["hash"]
        first = hash_of(sql)
        equal(hash_of(ram), first)
        rev = sql.revision()
        equal(sql.stop(), 0, "exit status")
        sql.start()
        equal((hash_of(sql), sql.revision()), (first, rev))
        equal(sql.stop(signal.SIGKILL), -signal.SIGKILL)
        sql.start()
        equal((hash_of(sql), sql.revision()), (first, rev))
        equal(sql("get", "k6", "--print-value-only"), "v13\n")
        sql("put", "k6", "other")
        check(hash_of(sql) != first, "the hash changes with a value")
    finally:
        sql.close()
        ram.close()


if not ETCDCTL:
    print("not ok test_etcd_ctl.py / all: no etcdctl (package etcd-client)")
    raise SystemExit(1)
run(etcd)
