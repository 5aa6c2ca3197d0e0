#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
"""1,000 clients stop reading in the middle of a LIST: memory stays bounded, others are served."""
import itertools
import os
import re
import resource
import socket
import threading
import time
from lib import Server, check, config_map, equal, run, temp_dir, wait_for

CLIENTS = 1000
OBJECTS, SIZE = 400, 10_000  # a LIST of 4 MB
GROWTH_MIB = 600  # 256 KiB of answer and what TLS and a connection need, for each client
CMS = "/api/v1/namespaces/default/configmaps"


class Overslept(threading.Thread):
    """By how much this process, which only sleeps and syncs a block now and then, was late at worst."""

    def __init__(self):
        super().__init__(daemon=True)
        self.worst, self.over = 0, False

    def run(self):
        with open(os.path.join(temp_dir(), "block"), "wb", buffering=0) as f:
            for i in itertools.count():
                if self.over:
                    return
                at = time.monotonic()
                time.sleep(0.01)
                if i % 8 == 0:
                    f.write(b"x" * 4096)
                    os.fsync(f.fileno())
                self.worst = max(self.worst, time.monotonic() - at - 0.01)


server = Server()
stuck = []
clock = Overslept()
clock.start()


def metrics(pattern):
    text = server.raw("GET", "/metrics")[2].decode()
    found = re.findall(rf"^({pattern}) ([0-9.e+-]+)$", text, re.M)
    check(found, f"no metric {pattern}")
    return {name: float(value) for name, value in found}


def test_prepare():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    connection = server.connect()
    for i in range(OBJECTS):
        server.api("POST", CMS, config_map(f"big{i}", {"v": "x" * SIZE}), connection=connection)
    size = len(server.raw("GET", CMS)[2])
    check(size > OBJECTS * SIZE, f"the LIST has {size} bytes")


def start_list():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that the kernel holds little
    s.connect(("127.0.0.1", server.port))
    s.settimeout(240)
    t = server.ssl.wrap_socket(s, server_hostname="127.0.0.1")
    t.sendall(f"GET {CMS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return t


def test_thousand_stuck_readers():
    before = server.rss_kib() // 1024
    peak = before
    for i in range(CLIENTS):
        t = start_list()
        begun = t.recv(1000)
        check(b"200 OK" in begun, "the answer begins")
        stuck.append((t, begun))
        if i % 50 == 0:
            peak = max(peak, server.rss_kib() // 1024)
    peak = max(peak, server.rss_kib() // 1024)
    print(f"    resident: {before} MiB before, {peak} MiB with {CLIENTS} readers that do not read")
    check(peak - before < GROWTH_MIB, f"grew by {peak - before} MiB, want less than {GROWTH_MIB}")


def test_others_are_served():
    slowest = 0
    began = time.monotonic()
    connection = server.connect()
    for i in range(200):
        at = time.monotonic()
        server.api("POST", CMS, config_map(f"other{i}"), connection=connection)
        server.get(f"{CMS}/other{i}", connection)
        slowest = max(slowest, time.monotonic() - at)
    print(f"    200 creates and gets in {time.monotonic() - began:.2f} s, the slowest pair "
          f"{slowest * 1000:.1f} ms")
    check(slowest < max(2, 20 * clock.worst), f"a create and a get took {slowest:.2f} s")
    equal(server.raw("GET", "/readyz")[2], b"ok")
    for name, count in metrics(r"kinglet_loop_stalls_total\{.*\}").items():
        print(f"    {name} {count:g}")
    longest = max(metrics(r"kinglet_loop_stall_max_seconds\{.*\}").values())
    print(f"    the longest stall of a loop: {longest * 1000:.1f} ms")
    clock.over = True
    print(f"    a process that slept was woken {clock.worst * 1000:.1f} ms late at worst")
    check(longest < max(1, 20 * clock.worst), f"a loop stood still for {longest} s")


def test_readers_that_wake_up_get_all():
    """Within the 30 s that a reader may rest, it gets the rest of its answer. (A machine that stands
    still may use them up: then another one does.)"""
    for _ in range(10):
        t = start_list()
        whole = t.recv(1000)
        began = time.monotonic()
        server.get(f"{CMS}/big0")
        while not whole.endswith((b"0\r\n\r\n", b"]}\n")):
            try:
                chunk = t.recv(1 << 20)
            except ConnectionError:
                chunk = b""
            if not chunk:
                break
            whole += chunk
        if chunk or time.monotonic() - began < 20:
            break
    check(chunk, f"closed after {len(whole)} bytes")
    check(whole.count(b'"name":"big') == OBJECTS, "every object")
    t.close()


def test_stuck_readers_are_closed():
    """After 30 s without progress; their memory comes back."""
    def is_closed(t):
        with open("/proc/net/tcp") as f:
            rows = f.read()
        established = f"0100007F:{server.port:04X} 0100007F:{t.getsockname()[1]:04X} 01"
        return established not in rows
    sample = stuck[:3] + stuck[-3:]
    wait_for(lambda: all(is_closed(t) for t, _ in sample), "stuck connections are closed", 180)
    for t, _ in stuck:
        t.close()
    print(f"    resident: {server.rss_kib() // 1024} MiB afterwards")
    equal(server.raw("GET", "/readyz")[2], b"ok")


if __name__ == "__main__":
    run(server)
