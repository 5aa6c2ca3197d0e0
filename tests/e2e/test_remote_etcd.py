#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# lane: etcd
"""kinglet server on a remote etcd: the reference when it is there, else kinglet etcd; TLS, errors."""
import base64
import contextlib
import json
import os
import sqlite3
import subprocess
import urllib.request
from lib import (KINGLET, KUBECTL, ROOT, Server, Skip, check, config_map, equal, fail, free_port, holds, run,
                 temp_dir, wait_for)

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
work = temp_dir()


class Remote:
    def __init__(self, *flags, scheme="http"):
        self.port, self.data, self.flags = free_port(), temp_dir(), flags
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.endpoint = f"etcd://127.0.0.1:{self.port}"
        self.log = os.path.join(self.data, "log")
        self.start()

    def start(self):
        reference = os.environ.get("ETCD_REFERENCE", os.path.join(ROOT, ".cache/etcd/etcd-v3.7.3"))
        self.reference = os.access(reference, os.X_OK)
        if self.reference:
            command = [reference, "--data-dir", self.data + "/etcd", "--advertise-client-urls", self.url,
                       "--listen-peer-urls", "http://127.0.0.1:0", "--log-level", "error",
                       "--unsafe-no-fsync"]
        else:
            command = [KINGLET, "etcd", "--datastore-endpoint", f"sqlite://{self.data}/remote.db"]
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen([*command, "--listen-client-urls", self.url, *self.flags],
                                         stdout=log, stderr=log)

    def kill(self):
        self.proc.kill()
        self.proc.wait()


remote = Remote()
FLAGS = ["--disable-controller-manager", "--disable-scheduler", "--token", "of-this-test"]
server = Server(*FLAGS, "--datastore-endpoint", remote.endpoint)


def kubectl(*args):
    r = subprocess.run([KUBECTL, "--kubeconfig", server.kubeconfig, *args], capture_output=True,
                       text=True, timeout=240)
    if r.returncode:
        fail(f"kubectl {' '.join(args)}: {r.stderr}")
    return r.stdout


def refused(endpoint, *flags):
    r = subprocess.run([KINGLET, "server", "--disable-agent", "--data-dir", temp_dir(),
                        "--https-listen-port", str(free_port()), "--datastore-endpoint", endpoint, *flags],
                       capture_output=True, text=True, timeout=240)
    check(r.returncode, f"{endpoint} was opened")
    return r.stdout + r.stderr


def test_kubectl():
    kubectl("create", "configmap", "one", "--from-literal=a=b")
    equal(kubectl("get", "configmap", "one", "-o", "jsonpath={.data.a}"), "b")
    kubectl("label", "configmap", "one", "x=y")
    kubectl("create", "secret", "generic", "two", "--from-literal=c=d")
    kubectl("delete", "configmap", "one")
    holds(kubectl("get", "configmaps,secrets", "-o", "name"), "secret/two")


def test_restart():
    server.api("POST", CONFIG_MAPS, config_map("kept", {"k": "v"}))
    before = server.get(CONFIG_MAPS + "/kept")
    server.stop()
    server.start()
    equal(server.get(CONFIG_MAPS + "/kept"), before, "object after a restart")


def test_too_large():
    """What etcd does not take (1.5 MiB) is stored without managedFields; and then not at all."""
    data = {f"{i:0250d}": "" for i in range(3500)}  # 0.9 MB, and as much of owners
    made = server.api("POST", CONFIG_MAPS, config_map("large", data))
    check("managedFields" not in made["metadata"], "owners of what is too large with them")
    made["metadata"]["labels"] = {"a": "b"}
    put = server.api("PUT", CONFIG_MAPS + "/large", made)
    equal(put["metadata"]["labels"], {"a": "b"})
    check("managedFields" not in put["metadata"], "owners after an update")
    small = server.api("POST", CONFIG_MAPS, config_map("small", {"a": "b"}))
    check("managedFields" in small["metadata"], "no owners of what is small")


def test_remote_killed():
    """What was acknowledged before is there, and writes go on by themselves."""
    server.api("POST", CONFIG_MAPS, config_map("before", {}))
    remote.kill()
    remote.start()

    def written():
        status, _, _ = server.raw("POST", CONFIG_MAPS, config_map("after", {}))
        return status in (201, 409)
    wait_for(written, "writes go on", 60)
    names = {x["metadata"]["name"] for x in server.get(CONFIG_MAPS)["items"]}
    check({"before", "after"} <= names, f"{names}")


def test_two_servers():
    with Server(*FLAGS, "--datastore-endpoint", remote.endpoint) as other:
        made = other.api("POST", CONFIG_MAPS, config_map("from-other", {"n": "1"}))
        equal(server.get(CONFIG_MAPS + "/from-other")["metadata"]["resourceVersion"],
              made["metadata"]["resourceVersion"])
        server.raw("DELETE", CONFIG_MAPS + "/from-other")
        status, _, _ = other.raw("GET", CONFIG_MAPS + "/from-other")
        equal(status, 404)


def test_errors():
    holds(refused(f"etcd://127.0.0.1:{free_port()}"), "cannot be reached: .*[Cc]onnection refused")
    holds(refused("etcd://user:secret@127.0.0.1:1"), "users and passwords are not supported")
    holds(refused("etcd://127.0.0.1:none"), "a port is no number")


def gateway(path, body):
    """The reference's JSON gateway: what no API of ours would write."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(remote.url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=240) as r:
        return json.load(r)


def b64(text):
    return base64.b64encode(text.encode()).decode()


def test_migrate():
    """A live etcd is copied as any other datastore, with transactions of several keys and leases."""
    if not remote.reference:
        raise Skip("no reference etcd")
    lease = gateway("/v3/lease/grant", {"TTL": "600"})["ID"]
    gateway("/v3/kv/put", {"key": b64("odd/leased"), "value": b64("x"), "lease": lease})
    gateway("/v3/kv/txn", {"success": [{"requestPut": {"key": b64(f"odd/{i}"), "value": b64(str(i))}}
                                       for i in range(5)]})
    target = f"sqlite://{work}/copied.db"
    r = subprocess.run([KINGLET, "migrate", "--from", remote.endpoint, "--to", target, "--verify"],
                       capture_output=True, text=True, timeout=240)
    if r.returncode:
        fail(f"migrate: {r.stdout}{r.stderr}")
    holds(r.stdout + r.stderr, "verified: both sides have digest [0-9a-f]{64}")
    before = {x["metadata"]["name"] for x in server.get(CONFIG_MAPS)["items"]}
    with contextlib.closing(sqlite3.connect(f"file:{work}/copied.db?mode=ro", uri=True)) as db:
        got = dict(db.execute("SELECT name, value FROM kine WHERE name LIKE 'odd/%'"))
        leases = db.execute("SELECT ttl_ms FROM kv_lease WHERE id = ?", (int(lease),)).fetchall()
    equal(got, {"odd/leased": b"x", **{f"odd/{i}": str(i).encode() for i in range(5)}})
    equal(leases, [(600000,)])
    with Server(*FLAGS, "--datastore-endpoint", target) as moved:
        equal({x["metadata"]["name"] for x in moved.get(CONFIG_MAPS)["items"]}, before)


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True, timeout=240)


def make_ca(name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", f"{work}/{name}.key", "-out", f"{work}/{name}.crt")
    return f"{work}/{name}.crt"


def make_cert(ca, name):
    ext = f"{work}/{name}.ext"
    with open(ext, "w", encoding="ascii") as f:
        f.write("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{work}/{name}.key", "-out", f"{work}/{name}.csr")
    openssl("x509", "-req", "-in", f"{work}/{name}.csr", "-CA", ca, "-CAkey", ca[:-3] + "key",
            "-CAcreateserial", "-days", "2", "-extfile", ext, "-out", f"{work}/{name}.crt")
    return f"{work}/{name}.crt", f"{work}/{name}.key"


def test_tls():
    ca, wrong = make_ca("right"), make_ca("wrong")
    cert, key = make_cert(ca, "member")
    mine, my_key = make_cert(ca, "client")
    tls = Remote("--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth",
                 scheme="https")
    flags = ["--datastore-cafile", ca, "--datastore-certfile", mine, "--datastore-keyfile", my_key]
    try:
        with Server(*FLAGS, "--datastore-endpoint", tls.endpoint, *flags) as s:
            s.api("POST", CONFIG_MAPS, config_map("over-tls", {}))
            equal(s.get(CONFIG_MAPS + "/over-tls")["metadata"]["name"], "over-tls")
        holds(refused(tls.endpoint, "--datastore-cafile", wrong), "certificate")
        holds(refused(tls.endpoint), "if it wants TLS: --datastore-cafile")
    finally:
        tls.kill()


if __name__ == "__main__":
    try:
        run(server)
    finally:
        remote.kill()
