#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
"""kill -9 at any moment: what was acknowledged is there, and watches go on where they were."""
import http.client
import json
import random
import re
import threading
import time
from lib import Failure, Server, check, config_map, equal, run, wait_for

ROUNDS = 25
WRITERS = 4
CMS = "/api/v1/namespaces/default/configmaps"
server = Server()
seed = int(time.time())
# A lost connection is an answer lost on the way: the write may be there or not.
LOST = (OSError, http.client.HTTPException, ValueError)


class Writer(threading.Thread):
    """Creates, updates and deletes objects of its own as fast as it can; remembers each answer."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.number, self.stop = number, False
        self.random = random.Random(f"{seed}-{number}")
        self.known = {}  # name → value acknowledged last, None: deleted
        self.unsure = {}  # name → further values that it may have: an answer did not come
        self.count, self.errors = 0, []
        self.paused = threading.Event()
        self.resume = threading.Event()

    def one(self, connection):
        name = f"w{self.number}-{self.random.randrange(20)}"
        value = str(self.count)
        old = self.known.get(name)
        if name in self.unsure:
            return
        if old is None:
            method, path, body = "POST", CMS, config_map(name, {"v": value})
        elif self.random.random() < 0.2:
            method, path, body, value = "DELETE", f"{CMS}/{name}", None, None
        else:
            method, path, body = "PUT", f"{CMS}/{name}", config_map(name, {"v": value})
        self.unsure[name] = value
        status, _, text = server.raw(method, path, body, connection=connection)
        if status not in (200, 201):
            self.errors.append(f"{method} {name}: {status} {text[:200]!r}")
        self.known[name] = value
        del self.unsure[name]
        self.count += 1

    def run(self):
        while not self.stop:
            try:
                connection = server.connect(timeout=60)
                while not self.stop:
                    self.one(connection)
            except LOST:
                pass
            if self.stop:
                return
            self.paused.set()
            self.resume.wait()
            self.resume.clear()


def values():
    got = {}
    for x in server.get(CMS)["items"]:
        if x["metadata"]["name"].startswith("w"):
            got[x["metadata"]["name"]] = x["data"]["v"]
    return got


def verify(writers, kill):
    got, wrong = values(), []
    for w in writers:
        for name in set(w.known) | set(w.unsure):
            may = [w.known.get(name)] + ([w.unsure[name]] if name in w.unsure else [])
            if got.get(name) not in may:
                wrong.append(f"{name}: is {got.get(name)}, acknowledged {may[0]}, "
                             f"without an answer {may[1:]}")
            if name in w.unsure:
                w.known[name] = got.get(name)
        w.unsure.clear()
    check(not wrong, f"kill {kill}, seed {seed}: " + "; ".join(wrong))


class Watcher(threading.Thread):
    """Follows the objects over all restarts from the version seen last; never lists again."""

    def __init__(self):
        super().__init__(daemon=True)
        self.objects, self.version, self.last, self.problem, self.restarts = {}, None, 0, None, 0

    def run(self):
        while not self.problem:
            try:
                self.follow()
            except LOST:
                pass
            time.sleep(0.05)
            self.restarts += 1

    def follow(self):
        c = server.connect(timeout=240)
        if self.version is None:
            listed = server.get(CMS, c)
            self.version = listed["metadata"]["resourceVersion"]
            c = server.connect(timeout=240)
        c.request("GET", f"{CMS}?watch=1&allowWatchBookmarks=true&resourceVersion={self.version}")
        response = c.getresponse()
        if response.status != 200:
            self.problem = f"watch from {self.version}: {response.status} {response.read()}"
        while line := response.readline():
            event = json.loads(line)
            if event["type"] == "ERROR":
                self.problem = f"watch from {self.version}: {event['object']}"
                return
            meta = event["object"]["metadata"]
            version = int(meta["resourceVersion"])
            if event["type"] != "BOOKMARK":
                if version <= self.last:
                    self.problem = f"version {version} after {self.last}"
                self.last = version
                if meta["name"].startswith("w"):
                    there = event["object"]["data"]["v"]
                    self.objects[meta["name"]] = None if event["type"] == "DELETED" else there
            self.version = str(version)


def test_kill_9():
    writers, watcher = [Writer(i) for i in range(WRITERS)], Watcher()
    watcher.start()
    wait_for(lambda: watcher.version, "the watch has begun")
    for w in writers:
        w.start()
    dice, down = random.Random(seed), []
    for kill in range(ROUNDS):
        before = sum(w.count for w in writers)
        wait_for(lambda: sum(w.count for w in writers) >= before + dice.randrange(20, 300),
                 "writes go on", 30)
        server.kill()
        for w in writers:
            check(w.paused.wait(240), "a writer notices")
            w.paused.clear()
        began = time.monotonic()
        server.start()
        down.append(time.monotonic() - began)
        verify(writers, kill)
        for w in writers:
            w.resume.set()
    for w in writers:
        w.stop = True
        w.join(240)
        check(not w.is_alive(), "a writer ends")
    errors = [e for w in writers for e in w.errors]
    check(not errors, f"{len(errors)} refused: {errors[:3]}")

    def followed():
        check(not watcher.problem, watcher.problem)
        got = values()
        seen = {name: v for name, v in watcher.objects.items() if v is not None}
        check(got == seen, f"watch and list differ in "
              f"{ {n for n in got.keys() | seen.keys() if got.get(n) != seen.get(n)} }")
        return True
    wait_for(followed, "the watch has seen all")
    print(f"    seed {seed}: {sum(w.count for w in writers)} writes acknowledged, {ROUNDS} kills, "
          f"ready again after {sorted(down)[len(down) // 2] * 1000:.0f} ms (median)")


def test_kill_while_starting():
    """Killed in the middle of a start, also the very first one."""
    s = Server()
    for n in range(8):
        s.start(wait=False)
        end = time.monotonic() + 0.004 * n
        while time.monotonic() < end:
            pass
        s.kill()
    s.start()
    equal(s.api("POST", CMS, config_map("a"))["metadata"]["name"], "a")
    s.close()


def test_revisions_go_on():
    """After a crash no version is given twice, and the old ones are still served or gone for good."""
    name = server.api("POST", CMS, config_map("rev"))["metadata"]
    last = int(name["resourceVersion"])
    server.kill()
    server.start()
    after = int(server.api("PUT", f"{CMS}/rev", config_map("rev", {"a": "1"}))["metadata"]
                ["resourceVersion"])
    check(after > last, f"{after} after {last}")
    status, _, text = server.raw("GET", f"{CMS}?resourceVersion={last}&resourceVersionMatch=Exact")
    got = json.loads(text)
    if status != 410:
        equal(status, 200)
        found = [x for x in got["items"] if x["metadata"]["name"] == "rev"]
        check(found and "data" not in found[0], f"the past has changed: {found}")


def test_integrity():
    """The database is whole after all that."""
    import sqlite3
    server.kill()
    db = sqlite3.connect(f"file:{server.data}/server/db/state.db?mode=ro", uri=True)
    equal(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
    db.close()
    server.start()
    out = server.kubectl("get", "cm", "-o", "name")
    check(re.search("configmap/rev", out), out)


if __name__ == "__main__":
    run(server)
