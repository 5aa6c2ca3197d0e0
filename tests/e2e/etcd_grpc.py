# SPDX-License-Identifier: Apache-2.0
"""A `kinglet etcd` without TLS and gRPC's C core to speak to it, with messages as bytes of our own."""
import atexit
import os
import subprocess
import urllib.request
import etcd3
import grpc
from lib import KINGLET, equal, fail, free_port, temp_dir, wait_for

SANITIZED = bool(os.environ.get("SANITIZED"))  # memory is then not looked at
RANGE, PUT, WATCH = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch"


def varint(v):
    out = b""
    while v >= 0x80:
        out, v = out + bytes([v & 0x7f | 0x80]), v >> 7
    return out + bytes([v])


def string(n, b):
    return varint(n << 3 | 2) + varint(len(b)) + b


def number(n, v):
    return varint(n << 3) + varint(v)


class Etcd:
    def __init__(self):
        self.port, self.process = free_port(), None

    def start(self, datastore="memory://", flags=()):
        url = f"http://127.0.0.1:{self.port}"
        with open(os.path.join(temp_dir(), "log"), "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([KINGLET, "etcd", "--listen-client-urls", url,
                                             "--datastore-endpoint", datastore, *flags], stderr=log, stdout=log)
        atexit.register(self.process.kill)

        def healthy():
            try:
                return urllib.request.urlopen(url + "/health", timeout=60).status == 200
            except OSError:
                return False
        wait_for(healthy, "healthy", 60)
        self.client = etcd3.client(host="127.0.0.1", port=self.port, timeout=240)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}",
                                             options=[("grpc.max_receive_message_length", -1)])

    def call(self, method, request, **how):
        return self.channel.unary_unary(method, None, None)(request, timeout=240, **how)

    def stream(self, method, requests):
        return self.channel.stream_stream(method, None, None)(requests, timeout=240)

    def refuses(self, code, words, method, request, **how):
        try:
            self.call(method, request, **how)
        except grpc.RpcError as e:  # pylint: disable=no-member
            equal((e.code(), e.details()), (code, words))
            return
        fail(f"{method} succeeded")

    def kib(self, what="VmRSS"):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith(what))
