#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A full disk: writes fail with a clear error, reads, watches and deletes go on; space heals it."""
import atexit
import json
import os
import subprocess
from lib import Server, Skip, check, config_map, equal, holds, run, temp_dir, wait_for

CMS = "/api/v1/namespaces/default/configmaps"
SIZE = 24 << 20
server = None
kept = []


def mount():
    if os.geteuid():
        raise Skip("mounting a small file system needs root")
    path = temp_dir()
    r = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "kinglet-e2e", path],
                       capture_output=True, text=True)
    if r.returncode:
        raise Skip(f"cannot mount a tmpfs: {r.stderr.strip()}")
    atexit.register(unmount, path)
    return path


def unmount(path):
    if server:
        server.close()
    subprocess.run(["umount", "-l", path], check=False)


def write(name, size=100_000):
    status, _, text = server.raw("POST", CMS, config_map(name, {"v": "x" * size}))
    return status, json.loads(text)


def fill():
    """Leaves no block free."""
    with open(os.path.join(server.data, "ballast"), "ab") as f:
        try:
            while True:
                f.write(b"\0" * 65536)
                f.flush()
        except OSError:
            pass


def test_writes_fail_clearly():
    global server
    path = mount()
    server = Server(data=path)
    server.log = os.path.join(temp_dir(), "server.log")
    server.start()
    for i in range(20):
        status, answer = write(f"before{i}")
        equal(status, 201, answer.get("message"))
        kept.append(f"before{i}")
    # Room for deletions is set aside soon after the start.
    wait_for(lambda: os.path.exists(f"{path}/server/db/state.db-reserve"), "the reserve is there")
    fill()

    def refused():
        status, answer = write(f"full{len(kept)}")
        if status == 201:  # into what was reserved
            kept.append(f"full{len(kept)}")
            return None
        return status, answer
    status, answer = wait_for(refused, "a write is refused", 60)
    print(f"    {status} {answer['reason']}: {answer['message']}")
    check(status in (500, 507), status)
    equal(answer["kind"], "Status")
    holds(answer["message"], r"(?i)disk|space|full")
    for _ in range(5):
        equal(write("never")[0], status, "and so on")
    equal(server.proc.poll(), None, "the server's exit status")


def test_reads_go_on():
    there = {x["metadata"]["name"] for x in server.get(CMS)["items"]}
    check(set(kept) <= there, f"lost: {set(kept) - there}")
    check("never" not in there, "a refused write is there")
    equal(server.raw("GET", f"{CMS}/{kept[0]}")[0], 200)
    equal(server.kubectl("get", "cm", kept[0], "-o", "name"), f"configmap/{kept[0]}\n")
    equal(server.raw("GET", "/livez")[2], b"ok")


def test_deletes_go_on():
    watch = server.connect()
    version = server.get(CMS)["metadata"]["resourceVersion"]
    watch.request("GET", f"{CMS}?watch=1&resourceVersion={version}")
    events = watch.getresponse()
    for name in kept[:10]:
        status, _, text = server.raw("DELETE", f"{CMS}/{name}")
        equal(status, 200, f"delete {name}: {text[:300]}")
        event = json.loads(events.readline())
        equal((event["type"], event["object"]["metadata"]["name"]), ("DELETED", name))
        equal(server.raw("GET", f"{CMS}/{name}")[0], 404)
    del kept[:10]
    watch.close()


def test_restart_while_full():
    """Not even a restart needs space."""
    equal(server.stop(), 0)
    server.start()
    test_reads_go_on()


def test_space_heals():
    os.unlink(os.path.join(server.data, "ballast"))

    def written():
        status, answer = write("after")
        check(status == 201, answer.get("message"))
        return True
    wait_for(written, "writes go on", 30)
    kept.append("after")
    server.kill()
    server.start()
    test_reads_go_on()


if __name__ == "__main__":
    run()
