#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# lane: etcd
"""The etcd API under clients that mean no good, or are very many: floods of HTTP/2 frames, headers
without an end, lists that nobody reads, ten thousand watches on a stream, a thousand connections.
Each is refused or bounded, and others are served meanwhile. SANITIZED=1: memory is not looked at."""
import socket
import struct
import threading
import urllib.request
from etcd_grpc import Etcd, PUT, RANGE, SANITIZED, WATCH, number, string, varint
from lib import check, equal, run, wait_for

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK = END_STREAM = 1
END_HEADERS = 4


def frame(kind, flags, stream, body=b""):
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def literal(name, value):
    def text(b):  # HPACK: a length with a prefix of 7 bits
        n = len(b)
        return (bytes([n]) if n < 127 else bytes([127]) + varint(n - 127)) + b
    return b"\0" + text(name) + text(value)


def call_headers(path):
    return b"".join(literal(n, v) for n, v in ((b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"x"),
                                               (b":path", path.encode()), (b"content-type", b"application/grpc"),
                                               (b"te", b"trailers")))


def message(m):
    return b"\0" + struct.pack(">I", len(m)) + m


class Target(Etcd):
    def serves(self, what):
        """Others are not kept from their work."""
        check(self.process.poll() is None, f"it ended: {what}")
        self.client.put("canary", what)
        equal(self.client.get("canary")[0], what.encode())

    def stays_small(self, before, mib, what):
        grown = (self.kib() - before) // 1024
        check(SANITIZED or grown <= mib, f"{what} took {grown} MiB")

    def connect(self, settings=b"", buffer=None):
        s = socket.socket()
        if buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        s.settimeout(240)
        s.connect(("127.0.0.1", self.port))
        s.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
        return s


etcd = Target()


def flood(s, piece, most=32 << 20):
    """Sends it until the connection is gone or `most` bytes are on their way."""
    sent = 0
    try:
        while sent < most:
            s.sendall(piece)
            sent += len(piece)
    except (ConnectionError, socket.timeout):
        pass


def ended(s):
    """Whether the server ends the connection; what it still says goes."""
    try:
        while s.recv(1 << 16):
            pass
        return True
    except socket.timeout:
        return False
    except ConnectionError:
        return True


def test_calls_that_are_reset_at_once():
    before, s = etcd.kib(), etcd.connect()
    call = call_headers(RANGE)
    drain = threading.Thread(target=ended, args=(s,), daemon=True)
    drain.start()
    for first in range(0, 30000, 100):
        s.sendall(b"".join(frame(HEADERS, END_HEADERS, i * 2 + 1, call) + frame(RST_STREAM, 0, i * 2 + 1, b"\0\0\0\x08")
                           for i in range(first, first + 100)))
    etcd.serves("after 30,000 resets")
    s.shutdown(socket.SHUT_RDWR)
    drain.join()
    etcd.stays_small(before, 32, "30,000 calls that were reset")


def test_calls_without_an_end():
    """Open requests of which nothing more comes; then the connection goes."""
    before, s = etcd.kib(), etcd.connect()
    call = call_headers(PUT)
    for first in range(0, 5000, 100):
        s.sendall(b"".join(frame(HEADERS, END_HEADERS, i * 2 + 1, call) + frame(DATA, 0, i * 2 + 1, b"\0\0\0\x10\0ab")
                           for i in range(first, first + 100)))
    etcd.serves("beside 5,000 open calls")
    etcd.stays_small(before, 128, "5,000 open calls")
    s.close()
    etcd.serves("after they went")


def test_settings_and_pings_that_nobody_waits_for():
    for name, piece in (("settings", frame(SETTINGS, 0, 0)), ("pings", frame(PING, 0, 0, b"12345678"))):
        before, s = etcd.kib(), etcd.connect(buffer=4096)
        flood(s, piece * 1000)
        check(ended(s), f"a connection with a flood of {name} stands")
        etcd.serves(f"beside a flood of {name}")
        etcd.stays_small(before, 32, f"a flood of {name}")
        s.close()


def test_headers_without_an_end():
    for piece in (frame(CONTINUATION, 0, 1, literal(b"x-" + b"n" * 50, b"v" * 8000)) * 8,
                  frame(CONTINUATION, 0, 1) * 1000):
        before, s = etcd.kib(), etcd.connect()
        s.sendall(frame(HEADERS, 0, 1, call_headers(RANGE)))
        flood(s, piece)
        check(ended(s), "a connection with headers without an end stands")
        etcd.serves("after headers without an end")
        etcd.stays_small(before, 32, "headers without an end")
        s.close()


def test_big_headers_and_bombs():
    """A table entry of 4 KiB that is named 10,000 times, and headers of 1 MiB."""
    before, s = etcd.kib(), etcd.connect()
    bomb = call_headers(RANGE) + b"\x40\x01x\x7f" + varint(3900 - 127) + b"v" * 3900 + b"\xbe" * 10000
    s.sendall(frame(HEADERS, END_HEADERS | END_STREAM, 1, bomb))
    s.sendall(frame(HEADERS, END_HEADERS | END_STREAM, 3, call_headers(RANGE)))
    big = call_headers(RANGE) + b"".join(literal(b"x-%d" % i, b"v" * 8000) for i in range(128))
    frames = [big[i:i + 16000] for i in range(0, len(big), 16000)]
    try:
        s.sendall(frame(HEADERS, END_STREAM, 5, frames[0]))
        for f in frames[1:-1]:
            s.sendall(frame(CONTINUATION, 0, 5, f))
        s.sendall(frame(CONTINUATION, END_HEADERS, 5, frames[-1]))
    except ConnectionError:
        pass
    etcd.serves("after big headers")
    etcd.stays_small(before, 32, "big headers")
    s.close()


def test_garbage_in_every_frame():
    rng = 12345
    for _ in range(200):
        s = etcd.connect()
        junk = b""
        for _ in range(40):
            rng = (rng * 1103515245 + 12345) & 0x7fffffff
            junk += frame(rng % 12, rng >> 5 & 255, (rng >> 9 & 7) * 2 + 1, bytes([rng >> 3 & 255]) * (rng >> 7 & 63))
        try:
            s.sendall(junk)
        except ConnectionError:
            pass
        s.close()
    etcd.serves("after garbage")


def test_lists_that_nobody_reads():
    for i in range(300):
        etcd.call(PUT, string(1, b"list/%03d" % i) + string(2, bytes([65 + i % 26]) * 100000))
    before = etcd.kib()
    window = struct.pack(">HI", 4, 0x7fffffff)  # the streams' windows are as big as can be
    asked = message(string(1, b"list/") + string(2, b"list0"))
    conns = []
    for _ in range(20):
        s = etcd.connect(window, buffer=4096)
        s.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7fff0000 - 65535)))
        for i in range(20):
            s.sendall(frame(HEADERS, END_HEADERS, i * 2 + 1, call_headers(RANGE)) +
                      frame(DATA, END_STREAM, i * 2 + 1, asked))
        conns.append(s)
    etcd.serves("beside 400 lists of 30 MB")
    etcd.stays_small(before, 128, "400 lists of 30 MB that nobody reads")
    for s in conns:
        s.close()
    etcd.serves("after they went")
    etcd.client.delete_prefix("list/")


def test_ten_thousand_watches_on_a_stream():
    before, count = etcd.kib(), 10000
    requests = [string(1, string(1, b"many/%d" % (i % 100))) for i in range(count)]
    sent = threading.Event()

    def ask():
        yield from requests
        sent.wait()
    stream = etcd.channel.stream_stream(WATCH, None, None)(ask(), timeout=240)
    for _ in range(count):
        check(b"\x18\x01" in next(stream), "created")
    for i in range(100):
        etcd.call(PUT, string(1, b"many/%d" % i) + string(2, b"v"))
    for i in range(count):
        check(b"many/" in next(stream), "an event")
    etcd.serves("beside 10,000 watches")
    etcd.stays_small(before, 64, "10,000 watches")
    stream.cancel()
    sent.set()


def test_a_thousand_connections():
    before, conns = etcd.kib(), []
    create = message(string(1, string(1, b"thousand")))
    for _ in range(1000):
        s = etcd.connect()
        s.sendall(frame(HEADERS, END_HEADERS, 1, call_headers(WATCH)) + frame(DATA, 0, 1, create))
        conns.append(s)

    def read_until(s, what):
        got = b""
        while what not in got:
            piece = s.recv(1 << 16)
            check(piece, "the connection ended")
            got += piece
    for s in conns:
        read_until(s, b"\x18\x01")
    etcd.client.put("thousand", "told to all")
    for s in conns:
        read_until(s, b"told to all")
    etcd.stays_small(before, 128, "1,000 connections")
    for s in conns:
        s.close()
    etcd.serves("after 1,000 connections")


def test_a_long_line_for_a_lock_that_goes_away():
    lease = etcd.client.lease(600, 4711)
    holder = etcd.call("/v3lockpb.Lock/Lock", string(1, b"line") + number(2, 4711))
    check(b"line/1267" in holder, holder)
    before, many = etcd.kib(), 1000
    s = etcd.connect()
    for i in range(many):
        etcd.call("/etcdserverpb.Lease/LeaseGrant", number(1, 600) + number(2, 10000 + i))
        s.sendall(frame(HEADERS, END_HEADERS, i * 2 + 1, call_headers("/v3lockpb.Lock/Lock")) +
                  frame(DATA, END_STREAM, i * 2 + 1, message(string(1, b"line") + number(2, 10000 + i))))

    def in_line():
        answer = etcd.call(RANGE, string(1, b"line/") + string(2, b"line0") + number(9, 1))
        return answer.endswith(number(4, many + 1)), answer
    wait_for(lambda: in_line()[0], f"{many} wait", 60)
    etcd.stays_small(before, 64, "a line of 1,000")
    s.close()
    wait_for(lambda: in_line()[1].endswith(number(4, 1)), "they went", 60)
    lease.revoke()
    for i in range(many):
        etcd.call("/etcdserverpb.Lease/LeaseRevoke", number(1, 10000 + i))


def test_more_values_than_memory_is_allowed():
    """They lie in the value file, and are served from there."""
    small = Target()
    small.start(flags=["--memory-budget", "256Ki"])
    for i in range(200):
        small.call(PUT, string(1, b"big/%03d" % i) + string(2, b"%03d" % i * 4000))

    def metric(name):
        with urllib.request.urlopen(f"http://127.0.0.1:{small.port}/metrics", timeout=240) as r:
            return next(float(line.split()[1]) for line in r.read().decode().splitlines()
                        if line.startswith(name + " "))

    def is_used():  # it goes on with what comes
        small.serves("beside big values")
        return metric("kinglet_store_value_file_used_bytes") > 0
    wait_for(is_used, "values lie in the file", 60)
    check(metric("kinglet_store_value_file_bytes") > 0, "the file has no size")
    for i in range(200):
        check(b"%03d" % i * 4000 in small.call(RANGE, string(1, b"big/%03d" % i)), f"big/{i:03}")
    small.process.kill()


run(etcd)
