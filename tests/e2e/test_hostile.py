#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
"""The API server under clients that mean no good: idle connections by the thousand, headers and bodies
that come byte by byte, floods of HTTP/2 frames, watches that nobody reads or that come and go. Others
are served meanwhile, memory stays bounded and the server ends cleanly. HOSTILE=N does N times as much."""
import json
import os
import socket
import ssl
import struct
from lib import Server, check, config_map, equal, run

TIMES = int(os.environ.get("HOSTILE", "1"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
CMS = "/api/v1/namespaces/default/configmaps"
server = Server()


def varint(v):
    out = b""
    while v >= 0x80:
        out, v = out + bytes([v & 0x7f | 0x80]), v >> 7
    return out + bytes([v])


def frame(kind, flags, stream, body=b""):
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def literal(name, value):
    def text(b):  # HPACK: a length with a prefix of 7 bits
        return (bytes([len(b)]) if len(b) < 127 else bytes([127]) + varint(len(b) - 127)) + b
    return b"\0" + text(name) + text(value)


def request(path, method=b"GET"):
    return b"".join(literal(n, v) for n, v in ((b":method", method), (b":scheme", b"https"), (b":authority", b"x"),
                                               (b":path", path.encode())))


def connect(alpn="h2", settings=None, buffer=None):
    s = socket.socket()
    if buffer:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    s.settimeout(240)
    s.connect(("127.0.0.1", server.port))
    context = ssl.create_default_context(cafile=os.path.join(server.home, "certificate-authority.pem"))
    context.load_cert_chain(*(os.path.join(server.home, f"client-{x}.pem") for x in ("certificate", "key")))
    context.set_alpn_protocols([alpn])
    s = context.wrap_socket(s, server_hostname="127.0.0.1")
    equal(s.selected_alpn_protocol(), alpn, "ALPN")
    if alpn == "h2":
        s.sendall(PREFACE + frame(SETTINGS, 0, 0, settings or b""))
    return s


def serves(what):
    """Others are not kept from their work."""
    check(server.proc.poll() is None, f"it ended: {what}: {server.log_tail()}")
    name = "canary"
    status, _, _ = server.raw("POST", CMS, config_map(name))
    equal(status, 201, f"a write {what}")
    server.api("DELETE", f"{CMS}/{name}")


def stays_small(before, mib, what):
    grown = (server.rss_kib() - before) / 1024
    print(f"    {what}: {before / 1024:.1f} MiB before, {grown:+.1f} MiB")
    check(os.environ.get("SANITIZED") or grown <= mib, f"{what} took {grown:.1f} MiB")


def ended(s):
    """Whether the server ends the connection; what it still says goes."""
    try:
        while s.recv(1 << 16):
            pass
        return True
    except (socket.timeout, TimeoutError):
        return False
    except (ConnectionError, ssl.SSLError):
        return True


def flood(s, piece, most=16 << 20):
    """Sends it until the connection is gone or `most` bytes are on their way."""
    sent = 0
    try:
        while sent < most:
            s.sendall(piece)
            sent += len(piece)
    except (ConnectionError, ssl.SSLError, socket.timeout, TimeoutError):
        pass


def drain(s):
    """Takes what has come. Never beside a send: a TLS connection is one thread's."""
    s.settimeout(0)
    try:
        while s.recv(1 << 16):
            pass
        raise ConnectionError
    except (ssl.SSLWantReadError, BlockingIOError):
        pass
    finally:
        s.settimeout(240)


class Frames:
    """Reads a connection's frames and counts the HEADERS of answers."""

    def __init__(self, s):
        self.s, self.answers, self.buffer = s, 0, b""

    def take(self, n):
        while len(self.buffer) < n:
            piece = self.s.recv(1 << 16)
            check(piece, f"the connection ended after {self.answers} answers: {self.buffer!r}")
            self.buffer += piece
        got, self.buffer = self.buffer[:n], self.buffer[n:]
        return got

    def wait(self, n):
        while self.answers < n:
            head = self.take(9)
            self.take(int.from_bytes(head[:3], "big"))
            self.answers += head[3] == HEADERS


def test_a_thousand_idle_connections():
    before, conns = server.rss_kib(), []
    many = min(1000, 300 * TIMES)
    for i in range(many):
        conns.append(connect("h2" if i % 2 else "http/1.1"))
    serves(f"beside {many} idle connections")
    stays_small(before, 128, f"{many} idle connections")
    for s in conns:
        s.close()
    serves("after they went")


def test_byte_by_byte():
    """Requests whose headers or bodies do not come to an end."""
    before, conns = server.rss_kib(), []
    head = f"POST {CMS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n".encode()
    body = json.dumps(config_map("slow")).encode()
    for i in range(200):
        s = connect("http/1.1")
        s.sendall(head + b"\r\n" if i % 2 else head)
        conns.append(s)
    for at in range(30):
        for i, s in enumerate(conns):
            try:
                s.sendall(body[at:at + 1] if i % 2 else b"x")
            except (ConnectionError, ssl.SSLError):
                pass  # it had waited long enough
    serves("beside 200 slow requests")
    stays_small(before, 64, "200 slow requests")
    for s in conns:
        s.close()
    equal(server.raw("GET", CMS + "/slow")[0], 404, "what was sent in part")


def test_requests_that_are_reset_at_once():
    for path in (CMS, CMS + "?watch=1", "/openapi/v2"):
        before, s = server.rss_kib(), connect()
        call = request(path)
        try:
            for first in range(0, 10000 * TIMES, 100):
                s.sendall(b"".join(frame(HEADERS, END_HEADERS | END_STREAM, i * 2 + 1, call) +
                                   frame(RST_STREAM, 0, i * 2 + 1, b"\0\0\0\x08") for i in range(first, first + 100)))
                drain(s)
        except (OSError, ssl.SSLError):
            pass  # it had enough
        serves("after resets")
        s.close()
        stays_small(before, 48, f"resets of {path}")


def test_frames_that_nobody_needs():
    for name, piece in (("settings", frame(SETTINGS, 0, 0)), ("pings", frame(PING, 0, 0, b"12345678"))):
        before, s = server.rss_kib(), connect(buffer=4096)
        flood(s, piece * 1000)
        check(ended(s), f"a connection with a flood of {name} stands")
        serves(f"after a flood of {name}")
        stays_small(before, 32, f"a flood of {name}")
        s.close()


def test_headers_without_an_end():
    for piece in (frame(CONTINUATION, 0, 1, literal(b"x-" + b"n" * 50, b"v" * 8000)) * 8, frame(CONTINUATION, 0, 1) * 1000):
        before, s = server.rss_kib(), connect()
        s.sendall(frame(HEADERS, 0, 1, request(CMS)))
        flood(s, piece)
        check(ended(s), "a connection with headers without an end stands")
        serves("after headers without an end")
        stays_small(before, 32, "headers without an end")
        s.close()


def test_big_headers_and_bombs():
    """A table entry of 4 KiB that is named 10,000 times, and a thousand headers."""
    before, s = server.rss_kib(), connect()
    bomb = request(CMS) + b"\x40\x01x\x7f" + varint(3900 - 127) + b"v" * 3900 + b"\xbe" * 10000
    try:
        s.sendall(frame(HEADERS, END_HEADERS | END_STREAM, 1, bomb))
        s.sendall(frame(HEADERS, 0, 3, request(CMS)))
        for i in range(1000):
            s.sendall(frame(CONTINUATION, 0, 3, literal(b"x-%d" % i, b"v" * 1000)))
        s.sendall(frame(CONTINUATION, END_HEADERS, 3))
    except (ConnectionError, ssl.SSLError):
        pass
    serves("after big headers")
    stays_small(before, 32, "big headers")
    s.close()


def test_bodies_without_an_end():
    before, s = server.rss_kib(), connect()
    head = request(CMS, b"POST") + literal(b"content-type", b"application/json")
    try:
        for i in range(300):
            s.sendall(frame(HEADERS, END_HEADERS, i * 2 + 1, head) + frame(DATA, 0, i * 2 + 1, b'{"a":"' + b"x" * 8000))
            drain(s)
    except (ConnectionError, ssl.SSLError):
        pass
    serves("beside open requests")
    stays_small(before, 64, "300 open requests on one connection")
    s.close()


def test_watches_that_nobody_reads():
    before, conns = server.rss_kib(), []
    window = struct.pack(">HI", 4, 0x7fffffff)  # the streams' windows are as big as can be
    for _ in range(20):
        s = connect(settings=window, buffer=4096)
        s.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7fff0000 - 65535)))
        for i in range(10):
            s.sendall(frame(HEADERS, END_HEADERS | END_STREAM, i * 2 + 1, request(CMS + "?watch=1")))
        conns.append(s)
    big = config_map("big", {"k": "x" * 200000})
    server.api("POST", CMS, big)
    c = server.connect()
    for i in range(100 * TIMES):
        server.api("PUT", CMS + "/big", {**big, "data": {"k": "x" * 200000 + str(i)}}, connection=c)
    serves("beside 200 watches that nobody reads")
    stays_small(before, 192, "200 watches that nobody reads, 20 MB for each")
    for s in conns:
        s.close()
    server.api("DELETE", CMS + "/big")


def test_watches_that_come_and_go():
    before = server.rss_kib()
    call = request(CMS + "?watch=1&resourceVersion=0")
    for _ in range(7 * TIMES):  # a connection may reset some hundreds
        s = connect()
        frames = Frames(s)
        for first in range(0, 300, 50):
            ids = [i * 2 + 1 for i in range(first, first + 50)]
            s.sendall(b"".join(frame(HEADERS, END_HEADERS | END_STREAM, i, call) for i in ids))
            frames.wait(first + 50)
            s.sendall(b"".join(frame(RST_STREAM, 0, i, b"\0\0\0\x08") for i in ids))
        s.close()
    serves("after watches")
    stays_small(before, 32, f"{2100 * TIMES} watches that came and went")


def test_zz_it_ends_cleanly():
    stalled = connect(buffer=4096)
    stalled.sendall(frame(HEADERS, END_HEADERS | END_STREAM, 1, request(CMS + "?watch=1")))
    half = connect("http/1.1")
    half.sendall(b"GET /api HTTP/1.1\r\nHo")
    serves("before its end")
    equal(server.stop(60), 0, "exit status")
    log = server.log_tail(1 << 30)
    check("ERROR" not in log and " E " not in log, [x for x in log.splitlines() if "ERROR" in x][:3])


if __name__ == "__main__":
    run(server)
