#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SIGTERM stops the server cleanly; a restart finds everything again."""
import json
import os
import socket
import stat
import subprocess
import time
from kinds import KINDS, NAMESPACE
from lib import KINGLET, Background, Server, check, config_map, deployment, equal, fail, holds, run, \
    temp_dir, wait_for

server = Server()


def everything():
    """Every stored object but what changes by itself."""
    out = server.kubectl("get", ",".join(KINDS), "-A", "-o", "json")
    return {f"{x['kind']} {x['metadata'].get('namespace', '')}/{x['metadata']['name']}": x
            for x in json.loads(out)["items"] if x["kind"] not in ("Lease", "Event", "APIService")}


def test_restart_finds_everything():
    server.kubectl("create", "namespace", NAMESPACE)
    wait_for(lambda: server.kubectl("get", "sa", "-n", NAMESPACE, "-o", "name"), "default account")
    for _, (_, obj) in KINDS.items():
        text = json.dumps(obj).replace('"@NOW"', "null")
        server.try_kubectl("-n", NAMESPACE, "create", "-f", "-", stdin=text)
    server.apply(deployment("d", replicas=2))
    wait_for(lambda: len(server.kubectl("get", "pods", "-o", "name").split()) == 2, "pods")

    def settled():
        one, two = everything(), everything()
        return one if one == two else None
    before = wait_for(settled, "controllers have nothing to do", 60)
    check(len(before) > len(KINDS), f"{len(before)} objects")
    equal(server.stop(), 0, "exit status")
    server.start()
    after = everything()
    equal(sorted(after), sorted(before), "objects")
    for key, old in before.items():
        equal(after[key], old, key)


def test_credentials_stay():
    def files():
        got = {}
        for folder, _, names in os.walk(os.path.join(server.data, "server")):
            for name in names:
                path = os.path.join(folder, name)
                if "/db" not in folder and os.path.isfile(path):  # no sockets
                    with open(path, "rb") as f:
                        got[path] = f.read()
        return got
    wait_for(lambda: os.path.exists(f"{server.data}/server/tls/bootstrap.sum"),
             "the identity is in the store")
    before = files()
    equal(server.stop(), 0, "exit status")
    server.start()
    equal(sorted(files()), sorted(before))
    changed = [path for path, text in files().items() if text != before[path]]
    check(not changed, f"changed: {changed}")
    for path in before:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if path.endswith((".key", "token", "kubeconfig")):
            equal(mode, 0o600, path)


def test_stop_is_quick_with_clients():
    """Open watches, half requests and idle connections do not hold the server up."""
    watch = server.connect()
    watch.request("GET", "/api/v1/configmaps?watch=1")
    response = watch.getresponse()
    response.readline()
    idle = socket.create_connection(("127.0.0.1", server.port))
    half = server.ssl.wrap_socket(socket.create_connection(("127.0.0.1", server.port)),
                                  server_hostname="127.0.0.1")
    half.sendall(b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    began = time.monotonic()
    equal(server.stop(20), 0, "exit status")
    print(f"    stopped after {time.monotonic() - began:.2f} s")
    while response.readline():
        pass  # ends without an error
    for s in (idle, half):
        s.close()
    server.start()


def test_stop_at_any_moment_of_the_start():
    """SIGTERM while it starts: it ends by the signal or cleanly, never by a crash."""
    with Server() as whole:
        step = (time.monotonic() - whole.started) / 20  # of how long a start takes here and now
    codes = []
    for i in range(60):
        mine = Server()
        mine.start(wait=False)
        time.sleep(step * (i % 30))
        mine.proc.terminate()
        codes.append(mine.proc.wait(240))
        check(codes[-1] in (0, -15), f"after {step * (i % 30) * 1000:.1f} ms: {codes[-1]}: {mine.log_tail()}")
        mine.close()
    print(f"    {codes.count(0)} of {len(codes)} had begun to listen to signals")
    with Server() as mine:
        equal(mine.stop(), 0, "exit status when it is ready")


def test_no_write_is_lost_by_a_stop():
    cms = "/api/v1/namespaces/default/configmaps"
    done = []
    c = server.connect()
    for i in range(200):
        if i == 150:
            server.proc.terminate()
        try:
            server.api("POST", cms, config_map(f"stop{i}"), connection=c)
        except Exception:  # pylint: disable=broad-except
            break
        done.append(f"stop{i}")
    equal(server.proc.wait(240), 0, "exit status")
    server.start()
    there = {x["metadata"]["name"] for x in server.get(cms)["items"]}
    check(set(done) <= there, f"lost: {set(done) - there}")
    check(len(done) >= 150, f"{len(done)} acknowledged")


def test_second_server_on_the_port():
    other = subprocess.run([KINGLET, "server", "--disable-agent", "--data-dir", temp_dir(),
                            "--https-listen-port", str(server.port), "--bind-address", "127.0.0.1"],
                           capture_output=True, text=True, timeout=240)
    check(other.returncode != 0, "it started")
    holds(other.stderr, rf"address already in use|port {server.port}")
    equal(server.kubectl("get", "--raw", "/readyz"), "ok")


def test_second_server_on_the_data():
    """Two servers on one database would be two truths: the second says so and ends."""
    with Background([KINGLET, "server", "--disable-agent", "--data-dir", server.data,
                     "--https-listen-port", "0", "--bind-address", "127.0.0.1"]) as other:
        try:
            code = other.proc.wait(240)
        except subprocess.TimeoutExpired:
            fail("it runs beside the first")
        check(code != 0, "it ended well")
        holds(other.errors(), "kinglet: .*state.db")
    equal(server.kubectl("get", "--raw", "/readyz"), "ok")


def test_says_ready_to_systemd():
    path = os.path.join(temp_dir(), "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(240)
        mine = Server(env={"NOTIFY_SOCKET": path})
        mine.start()
        equal(s.recv(100).split(b"\n")[0], b"READY=1")
        equal(mine.stop(), 0)
        equal(s.recv(100).split(b"\n")[0], b"STOPPING=1")


def test_prints_one_line():
    mine = Server().start()
    with open(mine.log) as f:
        lines = [line for line in f.read().splitlines() if mine.kubeconfig in line]
    equal(len(lines), 1)
    equal(stat.S_IMODE(os.stat(mine.kubeconfig).st_mode), 0o600, "mode of the kubeconfig")
    mine.close()


def test_memory_store():
    """memory:// forgets: the next start is empty."""
    mine = Server("--datastore-endpoint", "memory://").start()
    mine.kubectl("create", "configmap", "a")
    mine.stop()
    mine.start()
    equal(mine.try_kubectl("get", "cm", "a").code, 1)
    mine.close()


if __name__ == "__main__":
    run(server)
