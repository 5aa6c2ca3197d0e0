#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time-limit: 1200
"""A datastore goes to kine and comes back: a real kine opens what `kinglet migrate --to-kine` gives
back and serves it, and a server takes it over again. kine is .cache/peers/kine (tests/bench/peers);
with BUILD_KINE=1 it is built from its Go module, which takes some minutes. Without it only what needs
none runs: tests/store/take_over.c checks the same on tables made as kine's."""
import base64
import ctypes
import ctypes.util
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
from lib import Database, KINGLET, ROOT, Server, Skip, check, config_map, equal, fail, free_port, \
    holds, run, temp_dir, wait_for

KINE = os.path.join(ROOT, ".cache/peers/kine")
VERSION = "v0.17.5"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
server = Server("--disable-controller-manager", "--disable-scheduler")


def kinglet(*args, want=0):
    r = subprocess.run([KINGLET, *args], capture_output=True, text=True, timeout=240)
    if r.returncode != want:
        fail(f"kinglet {' '.join(args)}: exit {r.returncode}: {r.stdout}{r.stderr}")
    return r.stdout + r.stderr


def build_kine():
    if os.path.exists(KINE):
        return
    if "BUILD_KINE" not in os.environ or not shutil.which("go"):
        raise Skip("no .cache/peers/kine (BUILD_KINE=1 builds it)")
    source = os.path.join(os.path.dirname(KINE), "src/kine")
    os.makedirs(source, exist_ok=True)
    env = dict(os.environ, GOFLAGS="-mod=mod", GOWORK="off")
    if not os.path.exists(os.path.join(source, "go.mod")):
        with open(os.path.join(source, "go.mod"), "w", encoding="ascii") as f:
            f.write("module peers/kine\n\ngo 1.26.0\n")
    for argv in (["go", "get", f"github.com/k3s-io/kine@{VERSION}"],
                 ["go", "build", "-ldflags", "-s -w", "-o", KINE, "github.com/k3s-io/kine"]):
        r = subprocess.run(argv, cwd=source, env=env, capture_output=True, text=True, timeout=1100)
        if r.returncode:
            fail(f"{' '.join(argv)}: {r.stderr[-500:]}")


def database():
    return os.path.join(server.data, "server/db/state.db")


def kine_list():
    """What kine's own query lists."""
    db = sqlite3.connect(database())
    # kine puts /registry/health at every start.
    rows = db.execute("SELECT name, id, value FROM kine WHERE id IN (SELECT MAX(id) FROM kine"
                      " GROUP BY name) AND deleted = 0 AND name NOT IN ('compact_rev_key',"
                      " 'compact_rev_key_apiserver', '/registry/health') ORDER BY name").fetchall()
    db.close()
    return [(name, id, hashlib.sha256(value or b"").hexdigest()) for name, id, value in rows]


def same(got, want, what):
    """Says which keys differ, not all there are."""
    equal(sorted(set(got) ^ set(want))[:5], [], what)


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def test_there_and_back():
    build_kine()
    for i in range(30):
        server.api("POST", CONFIG_MAPS, config_map(f"c{i}", {"n": str(i)}))
    for i in range(0, 30, 3):
        server.raw("DELETE", f"{CONFIG_MAPS}/c{i}")
    for i in range(0, 30, 6):
        server.api("POST", CONFIG_MAPS, config_map(f"c{i}", {"n": "again"}))
    holds(kinglet("migrate", "--to-kine", "sqlite://" + database(), want=1), "in use by another")
    before = {x["metadata"]["name"]: x for x in server.get(CONFIG_MAPS)["items"]}
    equal(server.stop(), 0, "exit status")
    mine = kine_list()
    holds(kinglet("migrate", "--to-kine", "sqlite://" + database()), "kine and K3s open it again")
    same(kine_list(), mine, "keys")
    port, log = free_port(), os.path.join(server.data, "kine.log")
    with open(log, "wb") as f:
        kine = subprocess.Popen(
            [KINE, "--endpoint", f"sqlite://{database()}", "--listen-address",
             f"127.0.0.1:{port}", "--metrics-bind-address", "0"], stdout=f, stderr=f)
    try:
        wait_for(lambda: kine.poll() is not None or listens(port), "kine listens", 60)
        with open(log, encoding="utf-8") as f:
            text = f.read()
        equal(kine.poll(), None, f"kine's exit status: {text}")
        check(not re.search(r"level=(error|fatal)", text), text)
        r = subprocess.run([KINGLET, "server", *server.flags], capture_output=True, text=True,
                           timeout=240)
        equal(r.returncode, 1, "exit status while kine runs")
        check("in use by" in r.stderr or "locked" in r.stderr or "written by kine" in r.stderr,
              r.stderr)
    finally:
        kine.send_signal(signal.SIGTERM)
        kine.wait(240)
    same(kine_list(), mine, "keys after kine had it")
    r = subprocess.run([KINGLET, "server", *server.flags], capture_output=True, text=True,
                       timeout=240)
    equal(r.returncode, 1, "exit status without --take-over")
    holds(r.stderr, "written by kine or K3s", "--take-over", "--to-kine leads back")
    server.flags += ["--take-over"]
    server.start()
    after = {x["metadata"]["name"]: x for x in server.get(CONFIG_MAPS)["items"]}
    equal(after, before, "objects")
    server.api("POST", CONFIG_MAPS, config_map("new", {}))


def state(s):
    """Every object that matters, with its resource version."""
    return {x["metadata"]["name"]: x for x in s.get(CONFIG_MAPS)["items"]}


def through_kine(url):
    """A real kine opens what --to-kine gave back, and says nothing bad; a client reads from it."""
    port, log = free_port(), os.path.join(temp_dir(), "kine.log")
    with open(log, "wb") as f:
        kine = subprocess.Popen([KINE, "--endpoint", url, "--listen-address", f"127.0.0.1:{port}",
                                 "--metrics-bind-address", "0"], stdout=f, stderr=f)
    try:
        wait_for(lambda: kine.poll() is not None or listens(port), "kine listens", 60)
        with open(log, encoding="utf-8") as f:
            text = f.read()
        equal(kine.poll(), None, f"kine's exit status: {text}")
        check(not re.search(r"level=(error|fatal)", text), text)
    finally:
        kine.send_signal(signal.SIGTERM)
        kine.wait(240)


def refuses_kine(url):
    """kine may not write what is kinglet's: it gives up at its start."""
    r = subprocess.run([KINE, "--endpoint", url, "--listen-address", f"127.0.0.1:{free_port()}",
                        "--metrics-bind-address", "0"], capture_output=True, text=True, timeout=240)
    check(r.returncode, "kine started on a datastore of kinglet's")
    holds(r.stdout + r.stderr, "this datastore is kinglet's")


def there_and_back(kind):
    build_kine()
    with Database(kind) as db, Server("--datastore-endpoint", db.url,
                                      "--disable-controller-manager", "--disable-scheduler") as s:
        for i in range(30):
            s.api("POST", CONFIG_MAPS, config_map(f"c{i}", {"n": str(i)}))
        for i in range(0, 30, 3):
            s.raw("DELETE", f"{CONFIG_MAPS}/c{i}")
        for i in range(0, 30, 6):
            s.api("POST", CONFIG_MAPS, config_map(f"c{i}", {"n": "again"}))
        holds(kinglet("migrate", "--to-kine", db.url, want=1), "is in use by 1 server")
        before = state(s)
        equal(s.stop(), 0, "exit status")
        holds(kinglet("migrate", "--to-kine", db.url), "kine and K3s open it again")
        through_kine(db.url)
        r = subprocess.run([KINGLET, "server", *s.flags], capture_output=True, text=True, timeout=240)
        equal(r.returncode, 1, "exit status without --take-over")
        holds(r.stderr, "written by kine or K3s", "--take-over", "--to-kine leads back")
        r = subprocess.run([KINGLET, "server", *s.flags, "--take-over", "--token", "wrong"],
                           capture_output=True, text=True, timeout=240)
        equal(r.returncode, 1, "exit status with a wrong token")
        holds(r.stderr, "the token is not that of the cluster in the datastore")
        through_kine(db.url)  # it is kine's still
        s.flags += ["--take-over"]
        s.start(wait=False)
        wait_for(s.is_ready, "server is ready after the 15 s that nobody may write", 60)
        s.credentials()
        equal(state(s), before, "objects")
        s.api("POST", CONFIG_MAPS, config_map("new", {}))
        with open(s.log, encoding="utf-8", errors="replace") as f:
            saved = re.search(r"it was saved to (\S+)", f.read())
        check(saved and os.path.getsize(saved.group(1)) > 1000, "no snapshot was saved before")
        refuses_kine(db.url)
        s.api("POST", CONFIG_MAPS, config_map("newer", {}))


def test_postgres():
    there_and_back("postgres")


def test_mariadb():
    there_and_back("mysql")


# ---- K3s' identity

def aes_gcm(key, nonce, plain):
    """AES-256-GCM of libcrypto: the text and its tag."""
    lib = ctypes.CDLL(ctypes.util.find_library("crypto"))
    for name in ("EVP_CIPHER_CTX_new", "EVP_aes_256_gcm"):
        getattr(lib, name).restype = ctypes.c_void_p
    context, n = ctypes.c_void_p(lib.EVP_CIPHER_CTX_new()), ctypes.c_int()
    out, tag = ctypes.create_string_buffer(len(plain) + 16), ctypes.create_string_buffer(16)
    ok = lib.EVP_EncryptInit_ex(context, ctypes.c_void_p(lib.EVP_aes_256_gcm()), None, key, nonce) == 1 \
        and lib.EVP_EncryptUpdate(context, out, ctypes.byref(n), plain, len(plain)) == 1 \
        and lib.EVP_EncryptFinal_ex(context, ctypes.byref(out, n.value), ctypes.byref(n)) == 1 \
        and lib.EVP_CIPHER_CTX_ctrl(context, 0x10, 16, tag) == 1
    lib.EVP_CIPHER_CTX_free(context)
    check(ok, "AES-GCM")
    return out.raw[:len(plain)] + tag.raw


def k3s_record(data, secret):
    """(key, value) as K3s has them, of the certificates in a data directory."""
    names = {"ServerCA": "server-ca.crt", "ServerCAKey": "server-ca.key", "ClientCA": "client-ca.crt",
             "ClientCAKey": "client-ca.key", "ServiceKey": "service.key"}
    files = {}
    for name, file in names.items():
        with open(os.path.join(data, "server/tls", file), "rb") as f:
            files[name] = {"Timestamp": "2026-01-02T03:04:05.678901234Z",
                           "Content": base64.b64encode(f.read()).decode()}
    salt, nonce = os.urandom(8).hex(), os.urandom(12)
    key = hashlib.pbkdf2_hmac("sha1", secret.encode(), salt.encode(), 4096, 32)
    sealed = nonce + aes_gcm(key, nonce, json.dumps(files).encode())
    return ("/bootstrap/" + hashlib.sha256(secret.encode()).hexdigest()[:12],
            (salt + ":" + base64.b64encode(sealed).decode()).encode())


def dump(file):
    """All that is in it, as SQL."""
    db = sqlite3.connect(file)
    try:
        return list(db.iterdump())
    finally:
        db.close()


def test_k3s_identity():
    """Kubeconfig and service account token of the cluster before are good after the take-over."""
    file = os.path.join(temp_dir(), "state.db")
    quiet = ["--datastore-endpoint", "sqlite://" + file, "--disable-controller-manager",
             "--disable-scheduler"]
    with Server("--token", "sesame", *quiet) as old:
        old.api("POST", "/api/v1/namespaces/default/serviceaccounts",
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bob"}})
        token = old.api("POST", "/api/v1/namespaces/default/serviceaccounts/bob/token",
                        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                         "spec": {"expirationSeconds": 3600}})["status"]["token"]
    kinglet("migrate", "--to-kine", "sqlite://" + file)
    with sqlite3.connect(file) as db:
        key, value = k3s_record(old.data, "sesame")
        db.execute("DELETE FROM kine WHERE name = '/bootstrap/kinglet'")
        rev = db.execute("SELECT MAX(id) FROM kine").fetchone()[0] + 1
        db.execute("INSERT INTO kine(id, name, created, deleted, create_revision, prev_revision,"
                   " lease, value, old_value) VALUES(?, ?, 1, 0, 0, 0, 0, ?, NULL)", (rev, key, value))
    db.close()
    before = dump(file)
    new = Server("--token", "open", "--take-over", *quiet)
    r = subprocess.run([KINGLET, "server", *new.flags], capture_output=True, text=True, timeout=240)
    equal(r.returncode, 1, f"exit status with a wrong token: {r.stderr}")
    equal([x for x in r.stderr.splitlines() if x.startswith("kinglet: ")],
          ["kinglet: the token is not that of the K3s cluster whose datastore this is (--token)"])
    check(dump(file) == before, "the datastore was changed though the token is wrong")
    equal([x for x in os.listdir(os.path.dirname(file)) if "before-take-over" in x], [], "copies")
    new.flags[new.flags.index("open")] = "sesame"
    with new:
        old.port = new.port  # with what the old kubeconfig has
        equal(old.get("/api/v1/namespaces/default")["metadata"]["name"], "default")
        c = old.connect(anonymous=True)
        c.request("GET", "/api", headers={"Authorization": f"Bearer {token}"})
        equal(c.getresponse().status, 200, "the old service account's token")
        c.close()
        with open(f"{old.data}/server/token", encoding="ascii") as a, \
                open(f"{new.data}/server/token", encoding="ascii") as b:
            equal(b.read(), a.read(), "token")


if __name__ == "__main__":
    run(server)
