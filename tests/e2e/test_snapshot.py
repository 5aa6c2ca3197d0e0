#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kinglet snapshot with real processes: of a served store, restored, on a schedule, damaged."""
import json
import os
import re
import subprocess
from lib import KINGLET, Server, check, config_map, equal, fail, holds, run, temp_dir, wait_for

server = Server("--disable-controller-manager", "--disable-scheduler")
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def kinglet(*args, want=0, data=None):
    argv = [KINGLET, *args, "--data-dir", data or server.data]
    r = subprocess.run(argv, capture_output=True, text=True, timeout=240)
    if r.returncode != want:
        fail(f"{' '.join(argv)}: exit {r.returncode}: {r.stdout}{r.stderr}")
    return r.stdout + r.stderr


def directory(data=None):
    return os.path.join(data or server.data, "server/db/snapshots")


def names():
    path = directory()
    return sorted(os.listdir(path)) if os.path.exists(path) else []


def test_save_and_list():
    holds(kinglet("snapshot", "list"), "^NAME")
    server.api("POST", CONFIG_MAPS, config_map("kept", {"a": "1"}))
    out = kinglet("snapshot", "save")
    name = re.search(r"saved (on-demand-\S+\.klsnap) \(revision \d+, ", out).group(1)
    equal(names(), [name], "files")
    file = os.path.join(directory(), name)
    equal(os.stat(file).st_mode & 0o777, 0o600, "mode")
    holds(kinglet("snapshot", "list"), re.escape(name))
    got = json.loads(kinglet("snapshot", "list", "-o", "json"))
    equal([x["name"] for x in got], [name])
    equal(got[0]["backend"], "sqlite")
    holds(kinglet("status"), f"last snapshot: +{re.escape(name)}, revision {got[0]['revision']}")
    other = temp_dir()
    kinglet("snapshot", "save", "--name", "mine", "--dir", other)
    check(os.listdir(other)[0].startswith("mine-"), f"{os.listdir(other)}")
    holds(kinglet("snapshot", "save", "--name", "../x", want=1), "cannot be used for a file")


def test_restore():
    """Another server on the restored datastore has what was there, at a revision that makes clients
    list anew."""
    kept = server.get(CONFIG_MAPS + "/kept")
    revision = json.loads(kinglet("snapshot", "list", "-o", "json"))[0]["revision"]
    server.api("POST", CONFIG_MAPS, config_map("later", {}))
    name = names()[0]
    target = os.path.join(temp_dir(), "restored.db")
    holds(kinglet("snapshot", "restore", name, "--to", "sqlite://" + target),
          f"revision {revision + 1000000} was {revision}")
    holds(kinglet("snapshot", "restore", name, "--to", "sqlite://" + target, want=1), "holds data")
    kinglet("snapshot", "restore", name, "--to", "sqlite://" + target, "--force")
    holds(kinglet("snapshot", "restore", name, "--datastore-endpoint", "sqlite://" + target, want=1),
          f"{target} holds data")
    equal(server.stop(), 0, "exit status")
    flags = server.flags
    server.flags = [*flags, "--datastore-endpoint", "sqlite://" + target]
    server.start()
    equal(server.get(CONFIG_MAPS + "/kept"), kept, "object")
    equal(server.raw("GET", CONFIG_MAPS + "/later")[0], 404, "what came after the snapshot")
    status, _, body = server.raw("GET", f"{CONFIG_MAPS}?watch=1&resourceVersion={revision}"
                                 "&timeoutSeconds=1")
    check(b'"code":410' in body or status == 410, f"{status} {body[:300]!r}")
    made = server.api("POST", CONFIG_MAPS, config_map("new", {}))
    check(int(made["metadata"]["resourceVersion"]) > revision + 1000000, f"{made['metadata']}")
    server.stop()
    server.flags = flags
    server.start()


def test_damaged():
    name = names()[0]
    file = os.path.join(directory(), name)
    with open(file, "rb") as f:
        data = f.read()
    bad, target = os.path.join(temp_dir(), "bad.klsnap"), os.path.join(temp_dir(), "t.db")
    for what, text in (("damaged", data[:50] + bytes([data[50] ^ 1]) + data[51:]),
                       ("damaged", data[:-20]), ("damaged", data[:20]), ("not a snapshot", b"x" * 99)):
        with open(bad, "wb") as f:
            f.write(text)
        out = kinglet("snapshot", "restore", bad, "--to", "sqlite://" + target, want=1)
        holds(out, what)
        equal(out.count("\n"), 1, f"one sentence: {out}")


def test_prune():
    for _ in range(3):
        kinglet("snapshot", "save", "--name", "many")
    kinglet("snapshot", "save", "--name", "other")
    holds(kinglet("snapshot", "prune", "--name", "many", "--snapshot-retention", "1"), "removed 2")
    equal(len([n for n in names() if n.startswith("many-")]), 1, "left")
    equal(len([n for n in names() if n.startswith("other-")]), 1, "other names")


def test_without_a_server():
    server.stop()
    before = len(names())
    kinglet("snapshot", "save", "--name", "cold")
    equal(len(names()), before + 1)
    server.start()


def test_schedule():
    server.stop()
    flags = server.flags
    r = subprocess.run([KINGLET, "server", *flags, "--snapshot-schedule-cron", "61 * * * *"],
                       capture_output=True, text=True, timeout=240)
    equal(r.returncode, 1, "exit status")
    holds(r.stderr, r"end of range \(61\) above maximum \(59\)")
    server.flags = [*flags, "--snapshot-schedule-cron", "* * * * *", "--snapshot-retention", "2"]
    server.start()

    def scheduled():
        return [n for n in names() if re.match(r"scheduled-.*\.klsnap$", n)]
    wait_for(scheduled, "a scheduled snapshot", 70)
    holds(kinglet("status"), "last snapshot: +scheduled-")
    server.stop()
    server.flags = flags
    server.start()


if __name__ == "__main__":
    run(server)
