#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Encryption at rest: nothing in plain text on the disk; keys rotate under writes and through a
kill -9, with no restart and no order to keep; a configuration of upstream's, reloaded live."""
import base64
import json
import os
import sqlite3
import subprocess
import threading
from lib import KINGLET, Server, check, equal, free_port, run, temp_dir, wait_for

SECRETS = "/api/v1/namespaces/default/secrets"
N = 60
server = Server()


def encrypt(*args, fails=False):
    r = subprocess.run([KINGLET, "secrets-encrypt", *args, "--data-dir", server.data],
                       capture_output=True, text=True, check=False)
    check(bool(r.returncode) == fails, f"secrets-encrypt {args}: {r.returncode} {r.stdout}{r.stderr}")
    return r.stdout + r.stderr


def state():
    return json.loads(encrypt("status", "-o", "json"))


def values_in(path):
    """Newest values of all secrets in a datastore that nobody holds open, by key."""
    c = sqlite3.connect(path)
    try:
        rows = c.execute("SELECT name, value, deleted FROM kine WHERE name LIKE "
                         "'/registry/secrets/%' ORDER BY id").fetchall()
    finally:
        c.close()
    newest = {name: (value, deleted) for name, value, deleted in rows}
    return {k: v for k, (v, deleted) in newest.items() if not deleted}


def stored(s=None):
    """What the disk has: the server stops for it, and starts again."""
    s = s or server
    equal(s.stop(), 0)
    values = values_in(os.path.join(s.data, "server/db/state.db"))
    s.start()
    return values


def plain(i):
    return f"plain-{i}-hush".encode()


def put(i, connection=None):
    body = {"metadata": {"name": f"s{i}"}, "data": {"k": base64.b64encode(plain(i)).decode()}}
    return server.api("POST", SECRETS, body, connection=connection)


def all_readable(n=N):
    items = {i["metadata"]["name"]: i for i in server.api("GET", SECRETS)["items"]}
    for i in range(n):
        equal(base64.b64decode(items[f"s{i}"]["data"]["k"]), plain(i), f"secret s{i}")


def settled():
    return state()["stage"] != "reencrypt_active"


def test_enable():
    server.start()
    connection = server.connect()
    for i in range(N):
        put(i, connection)
    check(any(b"hush" in v for v in stored().values()), "in plain text to begin with")
    equal(state()["enable"], False)
    encrypt("rotate-keys", fails=True)
    encrypt("enable")
    wait_for(settled, "all is rewritten")
    key = state()["activeKey"]
    values, prefix = stored(), b"k8s:enc:secretbox:v1:" + key.encode() + b":"
    check(len(values) >= N, len(values))
    equal([k for k, v in values.items() if not v.startswith(prefix) or b"hush" in v], [],
          "secrets that are not sealed")
    all_readable()
    text = encrypt("status")
    check("Encryption Status: Enabled" in text and key in text, text)


def test_same_write_is_none():
    o = server.api("GET", f"{SECRETS}/s1")
    again = server.api("PUT", f"{SECRETS}/s1", o)
    equal(again["metadata"]["resourceVersion"], o["metadata"]["resourceVersion"])


def test_rotate_under_writes():
    stop, written, errors = threading.Event(), [0], []

    def write():
        connection = server.connect()
        try:
            while not stop.is_set():
                put(N + written[0], connection)
                written[0] += 1
        except Exception as e:  # told by the main thread
            errors.append(e)
    t = threading.Thread(target=write)
    t.start()
    try:
        for _ in range(3):
            before, was = written[0], state()["activeKey"]
            encrypt("rotate-keys")
            wait_for(settled, "the rotation ends")
            check(state()["activeKey"] != was, "a new key")
            wait_for(lambda: errors or written[0] > before, "writes go on")
    finally:
        stop.set()
        t.join()
    equal(errors, [])
    key = state()["activeKey"].encode()
    wrong = [k for k, v in stored().items() if not v.startswith(b"k8s:enc:secretbox:v1:" + key)]
    equal(wrong, [], "secrets of another key")
    all_readable(N + written[0])


def test_killed_in_the_middle():
    encrypt("rotate-keys")
    server.kill()
    server.start()
    wait_for(settled, "the rotation is finished by the next process")
    key = state()["activeKey"].encode()
    wrong = [k for k, v in stored().items() if not v.startswith(b"k8s:enc:secretbox:v1:" + key)]
    equal(wrong, [], "secrets of another key")
    all_readable()


def test_watch_and_restart():
    server.kubectl("create", "secret", "generic", "w1", "--from-literal=a=watched")
    equal(server.kubectl("get", "secret", "w1", "-o", "jsonpath={.data.a}"),
          base64.b64encode(b"watched").decode())
    server.kubectl("delete", "secret", "w1")
    equal(server.stop(), 0)
    server.start()
    all_readable()


def test_disable():
    encrypt("disable")
    wait_for(settled, "all is rewritten")
    values = stored()
    check(not any(v.startswith(b"k8s:enc:") for v in values.values()), "nothing is sealed any more")
    all_readable()
    equal(server.stop(), 0)


def test_two_servers():
    """What one is told the other follows: while keys change on one, secrets are written through the
    other, and none of them is left behind."""
    global server
    first = Server("--advertise-address", "127.0.0.1", "--peer-port", str(free_port()),
                   "--cluster-init", "--disable-controller-manager", "--disable-scheduler")
    with first:
        with open(os.path.join(first.data, "server/token"), encoding="utf-8") as f:
            token = f.read().strip()
        with Server("--advertise-address", "127.0.0.1", "--peer-port", str(free_port()), "--server",
                    f"https://127.0.0.1:{first.port}", "--token", token,
                    "--disable-controller-manager", "--disable-scheduler") as second:
            connection, server = second.connect(), first
            for i in range(20):
                second.api("POST", SECRETS, {"metadata": {"name": f"before{i}"},
                                             "stringData": {"k": "v"}}, connection=connection)
            encrypt("enable")
            for i in range(60):
                if i in (20, 40):
                    wait_for(settled, "all is rewritten")
                    encrypt("rotate-keys")
                second.api("POST", SECRETS, {"metadata": {"name": f"s{i}"},
                                             "stringData": {"k": f"v{i}"}}, connection=connection)
            wait_for(settled, "all is rewritten")
            key = state()["activeKey"]
            server = second
            wait_for(lambda: state()["activeKey"] == key, "the other server knows the key")
            for s in (first, second):
                items = {i["metadata"]["name"]: i for i in s.api("GET", SECRETS)["items"]}
                equal(len(items), 80)
                equal(items["s59"]["data"]["k"], base64.b64encode(b"v59").decode())
            equal(second.stop(), 0)
        # The state machine's copy on the disk, once it is closed.
    values = values_in(os.path.join(first.data, "server/db/raft/state.db"))
    equal(len(values), 80)
    wrong = [k for k, v in values.items()
             if not v.startswith(b"k8s:enc:secretbox:v1:" + key.encode() + b":")]
    equal(wrong, [], "secrets of another key")


def config(resources, *providers):
    return json.dumps({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
                       "resources": [{"resources": resources, "providers": list(providers)}]})


def keys(kind, *names):
    return {kind: {"keys": [{"name": n, "secret": base64.b64encode(n.encode() * 32)[:44].decode()}
                            for n in names]}}


def test_file():
    path = os.path.join(temp_dir(), "encryption.json")

    def write(text):
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.rename(path + ".new", path)
    write(config(["secrets", "configmaps"], keys("aescbc", "a"), {"identity": {}}))
    with Server("--encryption-provider-config", path,
                "--encryption-provider-config-automatic-reload") as s:
        def value(name):
            return stored(s)[f"/registry/secrets/default/{name}"]

        def write_secret(name):
            s.api("POST", SECRETS, {"metadata": {"name": name}, "stringData": {"k": "hush"}})
        write_secret("one")
        check(value("one").startswith(b"k8s:enc:aescbc:v1:a:"), value("one")[:40])
        write(config(["secrets", "configmaps"], keys("aesgcm", "b"), keys("aescbc", "a"),
                     {"identity": {}}))
        wait_for(lambda: "configuration read again" in s.log_tail(), "it is read again")
        write_secret("two")
        check(value("two").startswith(b"k8s:enc:aesgcm:v1:b:"), value("two")[:40])
        equal(s.kubectl("get", "secret", "one", "-o", "jsonpath={.data.k}"), "aHVzaA==")
        s.kubectl("annotate", "secret", "one", "x=y")
        check(value("one").startswith(b"k8s:enc:aesgcm:v1:b:"), value("one")[:40])
        write("resources: [")
        wait_for(lambda: "the configuration stays as it was" in s.log_tail(), "what is bad is told")
        write_secret("three")
        equal(s.kubectl("get", "secret", "three", "-o", "jsonpath={.data.k}"), "aHVzaA==")
        r = subprocess.run([KINGLET, "secrets-encrypt", "enable", "--data-dir", s.data],
                           capture_output=True, text=True, check=False)
        check(r.returncode == 1 and "--encryption-provider-config" in r.stderr, r.stderr)


def test_claims_are_sealed():
    """What the server writes beside an object is sealed as what is asked for: IPAddresses."""
    path = os.path.join(temp_dir(), "encryption.json")
    with open(path, "w", encoding="utf-8") as f:
        f.write(config(["*.networking.k8s.io"], keys("secretbox", "a"), {"identity": {}}))
    with Server("--encryption-provider-config", path) as s:
        services = "/api/v1/namespaces/default/services"
        o = s.api("POST", services, {"metadata": {"name": "hushed"}, "spec": {"ports": [{"port": 1}]}})
        address = f"/apis/networking.k8s.io/v1/ipaddresses/{o['spec']['clusterIP']}"
        equal(s.api("GET", address)["spec"]["parentRef"]["name"], "hushed")
        equal(s.stop(), 0)
        c = sqlite3.connect(os.path.join(s.data, "server/db/state.db"))
        rows = c.execute("SELECT name, value FROM kine WHERE name LIKE '/registry/ipaddresses/%' "
                         "AND NOT deleted").fetchall()
        c.close()
        check(any(name.endswith("/" + o["spec"]["clusterIP"]) for name, _ in rows), rows)
        equal([k for k, v in rows if not v.startswith(b"k8s:enc:secretbox:v1:a:")], [],
              "addresses in plain text")
        s.start()
        equal(s.api("GET", address)["spec"]["parentRef"]["name"], "hushed")


def test_kms_that_is_not_there():
    """Nothing is stored in plain text instead; health tells; the rest of the API is well."""
    path = os.path.join(temp_dir(), "encryption.json")
    kms = {"kms": {"apiVersion": "v2", "name": "p", "timeout": "1s",
                   "endpoint": f"unix://{os.path.join(temp_dir(), 'no.sock')}"}}
    with open(path, "w", encoding="utf-8") as f:
        f.write(config(["secrets"], kms, {"identity": {}}))
    with Server("--encryption-provider-config", path) as s:
        wait_for(lambda: s.raw("GET", "/healthz/kms-providers")[0] == 500, "health tells")
        check("[-]kms-providers failed" in s.raw("GET", "/readyz?verbose")[2].decode(), "readyz")
        status, _, body = s.raw("POST", SECRETS, {"metadata": {"name": "x"}})
        check(status >= 500 and b"kms provider p" in body, body)
        equal(s.raw("GET", f"{SECRETS}/x")[0], 404)
        equal(s.raw("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})[0], 201)


run()
