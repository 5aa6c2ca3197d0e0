#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kinglet migrate and status with real processes: offline, killed and resumed, online under load."""
import hashlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from lib import Database, KINGLET, Server, check, config_map, equal, fail, holds, run, temp_dir, \
    wait_for

server = Server("--disable-controller-manager", "--disable-scheduler")
work = temp_dir()
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def kinglet(*args, want=0, timeout=240):
    r = subprocess.run([KINGLET, *args], capture_output=True, text=True, timeout=timeout)
    if r.returncode != want:
        fail(f"kinglet {' '.join(args)}: exit {r.returncode}: {r.stdout}{r.stderr}")
    return r.stdout + r.stderr


def path(name):
    return os.path.join(work, name)


def url(name):
    return "sqlite://" + path(name)


def size_of(file):
    try:
        return os.path.getsize(file)
    except OSError:
        return 0


def same(got, want, what):
    """Two results of state(); what differs is named, not all there is."""
    for key in sorted(set(got[0]) | set(want[0])):
        equal(got[0].get(key), want[0].get(key), f"{what}: {key}")
    equal(got[1], want[1], f"{what}: revision")


def state(file):
    """Every current key with all that is kept of it, out of a file that nobody holds."""
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    rows = db.execute("SELECT name, MAX(id), deleted, create_revision, version, lease_id, txn_rev,"
                      " value FROM kine WHERE name <> 'kinglet/fence' GROUP BY name"
                      " HAVING deleted = 0 ORDER BY name")
    got = {r[0]: (r[1], *r[3:7], hashlib.sha256(r[7] or b"").hexdigest()) for r in rows}
    rev = db.execute("SELECT rev FROM kv_meta").fetchone()[0]
    db.close()
    return got, rev


def fill(file, n, size=1000):
    """Keys written past the server into a file that it made."""
    with sqlite3.connect(file) as db:
        rev = db.execute("SELECT rev FROM kv_meta").fetchone()[0]
        rows = [(rev + i, f"/registry/big/{i:08d}", 1, 0, rev + i, 0, 0,
                 os.urandom(8) + b"x" * size, 1) for i in range(1, n + 1)]
        db.executemany("INSERT INTO kine(id, name, created, deleted, create_revision,"
                       " prev_revision, lease, value, version) VALUES(?,?,?,?,?,?,?,?,?)", rows)
        db.execute("UPDATE kv_meta SET rev = ?", (rev + n,))
    db.close()


def database():
    return os.path.join(server.data, "server/db/state.db")


def test_status_of_a_server():
    text = kinglet("status", "--data-dir", server.data)
    holds(text, r"back end: +sqlite", r"server: +running", r"revision: +\d+", r"compacted to: +\d+",
          r"live: ", r"dead: ", r"lag: +0", r"last snapshot: +none")
    got = json.loads(kinglet("status", "--data-dir", server.data, "-o", "json"))
    equal(got["backend"], "sqlite")
    equal(got["served"], True)
    check(got["keys"] > 20 and got["revision"] >= got["keys"], f"{got}")
    check(got["liveBytes"] > 1000, f"{got}")
    mode = os.stat(os.path.join(server.data, "server/admin.sock")).st_mode & 0o777
    equal(mode, 0o600, "mode of the admin socket")


def test_others_may_not():
    if os.geteuid():
        return
    admin_socket = os.path.join(server.data, "server/admin.sock")
    os.chmod(server.data, 0o755)
    os.chmod(os.path.dirname(admin_socket), 0o755)
    os.chmod(admin_socket, 0o666)  # even if the mode let them in
    code = ("import os, socket; os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
            f"s.connect({admin_socket!r}); s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n');"
            "print(s.recv(4000).decode())")
    r = subprocess.run(["python3", "-c", code], capture_output=True, text=True, timeout=240)
    os.chmod(admin_socket, 0o600)
    os.chmod(server.data, 0o700)
    holds(r.stdout, r"^HTTP/1.1 403 ", "user 65534 may not do this")


def test_wrong_use():
    holds(kinglet("migrate", want=2), "--to URL is needed")
    holds(kinglet("migrate", "--to", url("x"), want=2), "--from URL is needed")
    holds(kinglet("migrate", "--from", url("x"), "--to", url("x"), want=2), "are the same")
    holds(kinglet("migrate", "--unfence", "--to", url("x"), want=2), "--from or --data-dir only")
    holds(kinglet("migrate", "--unfence", "--data-dir", work, want=1), "no server runs")
    holds(kinglet("migrate", "--unfence", "--from", url("none.db"), want=1), "there is none")
    holds(kinglet("migrate", "--from", url("none.db"), "--to", url("x"), want=1), "there is none")
    check(not os.path.exists(path("none.db")), "the source was made")
    holds(kinglet("migrate", "--from", "sqlite://" + database(), "--to", url("x"), want=1),
          "in use by another process; stop it, or copy while it serves with --online")
    holds(kinglet("migrate", "--online", "--data-dir", work, "--to", url("x"), want=1),
          "no server runs")


def test_offline():
    server.stop()
    before = state(database())
    holds(kinglet("migrate", "--from", "sqlite://" + database(), "--to", url("dry.db"), "--dry-run"),
          f"would copy {len(before[0])} keys", "would be created")
    check(not os.path.exists(path("dry.db")), "--dry-run made the target")
    out = kinglet("migrate", "--from", "sqlite://" + database(), "--to", url("off.db"), "--verify")
    holds(out, "verified: both sides have digest [0-9a-f]{64}", f"revision {before[1]}$")
    same(state(path("off.db")), before, "target")
    same(state(database()), before, "source")
    holds(kinglet("migrate", "--from", "sqlite://" + database(), "--to", url("off.db"), want=1),
          "holds data; --force")
    kinglet("migrate", "--from", "sqlite://" + database(), "--to", url("off.db"), "--force")
    holds(kinglet("status", "--datastore-endpoint", url("off.db")), r"server: +not running",
          rf"revision: +{before[1]}$")
    server.start()


def test_killed_and_resumed():
    server.stop()
    source = path("big.db")
    kinglet("migrate", "--from", "sqlite://" + database(), "--to", "sqlite://" + source)
    server.start()
    fill(source, 150000)
    want = state(source)
    kills = 0
    for after in (0.3, 0.6, 0.4):
        target = path("killed.db")
        size = size_of(target + "-wal")
        proc = subprocess.Popen([KINGLET, "migrate", "--from", "sqlite://" + source, "--to",
                                 "sqlite://" + target], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

        def writing(proc=proc, target=target, size=size):
            return proc.poll() is not None or size_of(target + "-wal") > size + 1000000
        wait_for(writing, "the copy has begun")
        try:
            proc.wait(after / 4)
        except subprocess.TimeoutExpired:
            proc.send_signal(signal.SIGKILL)
            kills += 1
        proc.communicate()
    check(kills, "every copy was done before it was killed")
    if kills == 3:
        holds(kinglet("status", "--datastore-endpoint", url("killed.db"), want=1), "unfinished copy")
    out = kinglet("migrate", "--from", "sqlite://" + source, "--to", url("killed.db"), "--verify",
                  want=0 if kills == 3 else 1)
    if kills == 3:
        holds(out, "an earlier copy was continued", "verified")
    same(state(path("killed.db")), want, "target")


class Writers:
    """About `rate` writes a second; what the server acknowledged, and what it refused."""

    def __init__(self, rate, threads=4):
        self.acked, self.gone, self.refused, self.errors = {}, set(), 0, []
        self.stop, self.last = False, 0.0
        self.lock = threading.Lock()
        self.gap = threads / rate
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(threads)]
        for t in self.threads:
            t.start()

    def run(self, number):
        connection, i, due = server.connect(), 0, time.monotonic()
        while not self.stop:
            i += 1
            name = f"w{number}-{i}"
            delete = i % 10 == 0
            target = f"w{number}-{i - 5}"
            try:
                if delete:
                    status, _, body = server.raw("DELETE", f"{CONFIG_MAPS}/{target}",
                                                 connection=connection)
                else:
                    status, _, body = server.raw("POST", CONFIG_MAPS,
                                                 config_map(name, {"n": "x" * 300}),
                                                 connection=connection)
            except OSError as e:
                self.errors.append(str(e))
                return
            with self.lock:
                if status in (200, 201):
                    self.last = time.monotonic()
                    if delete:
                        self.gone.add(target)
                        self.acked.pop(target, None)
                    else:
                        self.acked[name] = json.loads(body)["metadata"]["resourceVersion"]
                elif status == 503:
                    self.refused += 1
                elif not (delete and status == 404):
                    self.errors.append(f"{status}: {body[:200]!r}")
            due += self.gap
            time.sleep(max(0.0, due - time.monotonic()))

    def end(self):
        self.stop = True
        for t in self.threads:
            t.join()


def admin(method, target):
    """One request to the server's admin socket, as the tool makes it."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.path.join(server.data, "server/admin.sock"))
        s.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        got = b""
        while part := s.recv(65536):
            got += part
    holds(got.decode(), r"^HTTP/1.1 200 ")
    return json.loads(got.partition(b"\r\n\r\n")[2])


def test_fence_of_a_killed_tool_ends():
    """A tool that dies while it holds writes off does not renew the fence, nor take it away."""
    rev = admin("POST", "/v1/fence?ms=240000&why=it%20is%20being%20moved")["rev"]
    status, _, body = server.raw("POST", CONFIG_MAPS, config_map("fenced", {}))
    equal(status, 503, body)
    holds(body.decode(), "the datastore takes no writes: it is being moved")
    holds(kinglet("status", "--data-dir", server.data), r"^writes: +none: it is being moved$")
    holds(kinglet("migrate", "--online", "--data-dir", server.data, "--to", url("second.db"),
                  want=1), "the datastore takes no writes: it is being moved")
    server.get(CONFIG_MAPS + "?limit=1")
    admin("DELETE", f"/v1/fence?rev={rev}")
    began = time.monotonic()
    rev = admin("POST", "/v1/fence?ms=2000&why=it%20is%20being%20moved")["rev"]

    def accepted():
        return server.raw("POST", CONFIG_MAPS, config_map("fenced", {}))[0] == 201
    wait_for(accepted, "writes are accepted again", 120)
    check(time.monotonic() - began >= 1.9, "the fence did not hold")
    made = server.get(CONFIG_MAPS + "/fenced")
    check(int(made["metadata"]["resourceVersion"]) > rev, "revisions go on")


def leases(file):
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    rows = db.execute("SELECT id, ttl_ms FROM kv_lease ORDER BY id").fetchall()
    db.close()
    return rows


def test_round_trip():
    """SQLite to PostgreSQL to MariaDB to raft to SQLite: nothing is lost or changed on the way."""
    server.stop()
    source = path("around.db")
    kinglet("migrate", "--from", "sqlite://" + database(), "--to", "sqlite://" + source)
    server.start()
    fill(source, 3000)
    with sqlite3.connect(source) as db:
        far = int(time.time() * 1000) + 3600000
        db.executemany("INSERT OR REPLACE INTO kv_lease VALUES(?, 7200000, ?)",
                       [(i, far) for i in (71, 72)])
        db.execute("UPDATE kine SET lease_id = 71 WHERE name GLOB '/registry/big/*7'")
    db.close()
    want, want_leases = state(source), leases(source)
    with Database("postgres") as pg, Database("mysql") as my:
        hops = ["sqlite://" + source, pg.url, my.url, "raft://" + path("around.raft"),
                url("around-again.db")]
        for source_url, target in zip(hops, hops[1:]):
            holds(kinglet("migrate", "--from", source_url, "--to", target, "--verify"),
                  "verified: both sides have digest [0-9a-f]{64}", f"revision {want[1]}$")
    same(state(path("around-again.db")), want, "after the round")
    equal(leases(path("around-again.db")), want_leases, "leases")


def test_killed_at_the_cut_over():
    """kill -9 of the tool once writes are held off: they go on, the next run moves everything, and a
    target that was whole has all that was acknowledged up to its revision."""
    target, killed = path("cut.db"), 0
    for _ in range(3):
        writers = Writers(500)
        wait_for(lambda w=writers: len(w.acked) > 100, "writes")
        proc = subprocess.Popen([KINGLET, "migrate", "--online", "--data-dir", server.data, "--to",
                                 "sqlite://" + target, "--force", "--verify"],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_for(lambda w=writers, p=proc: w.refused or p.poll() is not None, "the cut-over")
        proc.kill()
        out, _ = proc.communicate()
        writers.end()
        equal(writers.errors, [], "errors")
        check(proc.returncode in (0, -signal.SIGKILL), out)
        killed += proc.returncode != 0
        kinglet("migrate", "--unfence", "--data-dir", server.data)
        server.api("POST", CONFIG_MAPS, config_map(f"after-{killed}-{os.urandom(3).hex()}", {}))
        status = subprocess.run([KINGLET, "status", "--datastore-endpoint", "sqlite://" + target],
                                capture_output=True, text=True, timeout=240)
        if status.returncode:
            holds(status.stderr, "unfinished copy")
        else:
            have, rev = state(target)
            lost = [n for n, v in writers.acked.items()
                    if int(v) <= rev and have.get("/registry/configmaps/default/" + n, (0,))[0] != int(v)]
            equal(lost, [], "acknowledged before its revision, but not there")
            equal([n for n, v in writers.acked.items() if int(v) > rev], [], "acknowledged after it")
        for name in list(writers.acked):
            server.raw("DELETE", f"{CONFIG_MAPS}/{name}")
    print(f"    {killed} of 3 were killed")


def test_online_under_load():
    writers = Writers(500)
    wait_for(lambda: len(writers.acked) > 300, "writes")
    out = kinglet("migrate", "--online", "--data-dir", server.data, "--to", url("online.db"),
                  "--verify")
    returned = time.monotonic()
    wait_for(lambda: writers.refused > 10, "writes are refused now")
    writers.end()
    equal(writers.errors, [], "errors")
    check(writers.last < returned, "a write was accepted after the copy had ended")
    print("   ", re.search(r"the pause was \d+ ms", out).group(0))
    holds(out, "verified: both sides")
    server.get(CONFIG_MAPS + "?limit=1")  # reads go on
    _, _, body = server.raw("POST", CONFIG_MAPS, config_map("late", {}))
    holds(body.decode(), "takes no writes: it was moved to sqlite://.*online.db")
    server.stop()
    source, target = state(database()), state(path("online.db"))
    same(target, source, "target")
    # The next server is the same one on the new datastore.
    server.flags += ["--datastore-endpoint", url("online.db")]
    server.start()
    have = {x["metadata"]["name"]: x["metadata"]["resourceVersion"]
            for x in server.get(CONFIG_MAPS)["items"]}
    for name, version in writers.acked.items():
        equal(have.get(name), version, f"acknowledged {name}")
    equal(sorted(writers.gone & set(have)), [], "deleted keys")
    made = server.api("POST", CONFIG_MAPS, config_map("after", {}))
    check(int(made["metadata"]["resourceVersion"]) > source[1], "revisions go on")
    holds(kinglet("status", "--data-dir", server.data), "online.db")
    # The old one stays as it is, until somebody says otherwise.
    holds(kinglet("status", "--datastore-endpoint", "sqlite://" + database()),
          "^writes: +none: it was moved to sqlite://.*online.db")
    kinglet("migrate", "--unfence", "--from", "sqlite://" + database())
    holds(kinglet("migrate", "--unfence", "--from", "sqlite://" + database(), want=1),
          "is not held off from writes")
    check("writes:" not in kinglet("status", "--datastore-endpoint", "sqlite://" + database()),
          "still fenced")
    equal(sorted(state(database())[0]), sorted(source[0]), "the old one")


def test_online_refused():
    """A target that holds data is refused before anything of the server is held off."""
    proc = subprocess.Popen([KINGLET, "migrate", "--online", "--data-dir", server.data, "--to",
                             url("off.db")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True)
    out, _ = proc.communicate(timeout=240)
    equal(proc.returncode, 1, out)
    holds(out, "holds data")
    server.api("POST", CONFIG_MAPS, config_map("still", {}))  # it was never held off


if __name__ == "__main__":
    run(server)
