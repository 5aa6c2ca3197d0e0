#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Streams of pods on their way to the kubelet, which is a small one of this program: who may open
them, and that the kubelet is told what admission saw and nothing else. And what goes through the
proxies of pods, services and nodes to a program that is none of the cluster's."""
import base64
import gzip
import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
from lib import KINGLET, Server, check, equal, holds, own_address, run, temp_dir, wait_for

server = Server()
PODS = "/api/v1/namespaces/default/pods"
PROTOCOL = "v5.channel.k8s.io"
TOKEN_PREFIX = "base64url.bearer.authorization.k8s.io."


class Kubelet:
    """Answers every upgrade with 101 and an open connection, everything else with a log."""

    def __init__(self, address):
        self.seen = []
        self.refuses = 0  # with what
        self.address = address
        self.listener = socket.create_server((address, 0))
        self.port = self.listener.getsockname()[1]

    def start(self, tls):
        """With a certificate of the cluster's CA, as a kubelet has."""
        d = temp_dir()
        key, csr, crt, ext = (os.path.join(d, f) for f in ("key", "csr", "crt", "ext"))
        with open(ext, "w") as f:
            f.write(f"subjectAltName=IP:{self.address}\nextendedKeyUsage=serverAuth\n")
        for args in (["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-keyout", key, "-out", csr, "-subj", "/O=system:nodes/CN=system:node:n"],
                     ["x509", "-req", "-in", csr, "-CA", f"{tls}/server-ca.crt", "-CAkey",
                      f"{tls}/server-ca.key", "-CAserial", os.path.join(d, "serial"),
                      "-CAcreateserial", "-days", "30", "-extfile", ext, "-out", crt]):
            subprocess.run(["openssl", *args], check=True, capture_output=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(crt, key)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            s = self.listener.accept()[0]
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, raw):
        try:
            s = self.context.wrap_socket(raw, server_side=True)
        except OSError:
            return  # it does not trust our certificate
        with s, s.makefile("rwb") as f:
            target = f.readline().decode().split()[1]
            headers = []
            while line := f.readline().decode().strip():
                name, value = line.split(":", 1)
                headers.append((name.lower(), value.strip()))
            self.seen.append((target, dict(headers)))
            if self.refuses:
                text = b"no such thing\n"
                f.write(f"HTTP/1.1 {self.refuses} No\r\nContent-Type: text/own\r\n"
                        f"Content-Length: {len(text)}\r\n\r\n".encode() + text)
                f.flush()
                return
            if "upgrade" in dict(headers):
                f.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                        f"Connection: Upgrade\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
                        "hello".encode())
            else:
                f.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n"
                        b"line\n")
                f.flush()
                return
            f.flush()
            f.read()  # until the other side ends


kubelet = Kubelet("127.0.0.1")


def opened(path, user=None, token=None, protocols=PROTOCOL, method="GET"):
    """(status, connection): of an upgrade, with what came first read; else the Status."""
    c = server.connect(anonymous=bool(token))
    c.connect()
    c.sock.sendall((f"{method} {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    "Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n"
                    + (f"Sec-WebSocket-Protocol: {protocols}\r\n" if protocols else "")
                    + (f"Impersonate-User: {user}\r\n" if user else "")
                    + (f"Authorization: Bearer {token}\r\n" if token else "") + "\r\n").encode())
    f = c.sock.makefile("rb")
    status = int(f.readline().split()[1])
    length = 0
    while line := f.readline().decode().strip().lower():
        if line.startswith("content-length:"):
            length = int(line.split(":")[1])
    if status != 101:
        text = f.read(length)
        return status, json.loads(text) if text.startswith(b"{") else text
    equal(f.read(5), b"hello")
    return status, (c, f)


def target_of(path):
    """What the kubelet is asked for."""
    kubelet.seen.clear()
    status, (c, f) = opened(f"{PODS}/p/{path}")
    f.close()
    c.close()
    equal(len(kubelet.seen), 1)
    return kubelet.seen[0][0]


def test_there_is_a_pod():
    kubelet.start(os.path.join(server.data, "server/tls"))
    server.api("POST", "/api/v1/nodes", {"metadata": {"name": "n"}})
    server.api("PATCH", "/api/v1/nodes/n/status", json.dumps({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}}}}),
        headers={"Content-Type": "application/merge-patch+json"})
    wait_for(lambda: server.raw("GET", "/api/v1/namespaces/default/serviceaccounts/default")[0] == 200,
             "the namespace's service account")
    server.api("POST", PODS, {"metadata": {"name": "p"}, "spec": {
        "nodeName": "n", "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}})


def test_websockets_need_create():
    server.kubectl("create", "role", "getter", "--verb=get", "--resource=pods,pods/log,pods/exec,"
                   "pods/attach,pods/portforward")
    server.kubectl("create", "rolebinding", "getter", "--role=getter", "--user=getter")
    server.kubectl("create", "role", "maker", "--verb=get,create", "--resource=pods/exec,"
                   "pods/attach,pods/portforward")
    server.kubectl("create", "rolebinding", "maker", "--role=maker", "--user=maker")
    wait_for(lambda: server.raw("GET", f"{PODS}/p/log?container=a",
                                headers={"Impersonate-User": "getter"})[0] == 200, "its role")
    wait_for(lambda: opened(f"{PODS}/p/exec?container=a&command=x", "maker")[0] == 101, "its role")
    kubelet.seen.clear()
    for path in ("exec?container=a&command=id", "attach?container=a", "portforward?ports=80"):
        status, said = opened(f"{PODS}/p/{path}", "getter")
        equal((status, said["reason"], said["message"]),
              (403, "Forbidden", 'pods "p" is forbidden: '), path)
        status, said = opened(f"{PODS}/p/{path}", "getter", method="POST")
        equal(status, 403, path)
        holds(said["message"], f'cannot create resource "pods/{path.split("?")[0]}"')
    equal(kubelet.seen, [])
    for path in ("exec?container=a&command=id", "attach?container=a", "portforward?ports=80"):
        equal(opened(f"{PODS}/p/{path}", "maker")[0], 101, path)


def test_the_kubelet_gets_the_options():
    for asked, got in (
            ("exec?container=a&command=sh&command=-c&command=a%20b%26c&stdin=true&stdout=1&tty=yes",
             "exec/default/p/a?input=1&output=1&tty=1&command=sh&command=-c&command=a%20b%26c"),
            ("exec?container=a&container=b&command=x", "exec/default/p/a?command=x"),
            ("exec?container=b&container=a&command=x", "exec/default/p/b?command=x"),
            ("exec?container=a&command=x&input=1&output=1&error=1&port=22&nosuch=1",
             "exec/default/p/a?command=x"),
            ("exec?container=a&command=x&tty=1&tty=false", "exec/default/p/a?tty=1&command=x"),
            ("exec?container=a&command=x&tty=FALSE&tty=1", "exec/default/p/a?command=x"),
            ("exec?container=a&x%26command=sh&command=id", "exec/default/p/a?command=id"),
            ("exec?container=a&command=%00%2B+", "exec/default/p/a?command=%00%2B%20"),
            ("attach?container=b&stdout=true&stderr=true&command=no",
             "attach/default/p/b?output=1&error=1"),
            ("portforward?ports=80", "portForward/default/p?port=80"),
            ("portforward?ports=80,443&ports=8080&container=a",
             "portForward/default/p?port=80%2C443%2C8080"),
            ("portforward", "portForward/default/p")):
        equal(target_of(asked), "/" + got, asked)


def test_numbers_are_read():
    for path, said in (("portforward?ports=x", 'cannot convert to []int32: strconv.ParseUint: '
                        'parsing "x": invalid syntax'),
                       ("portforward?ports=80,65536", 'cannot convert to []int32: '
                        'strconv.ParseUint: parsing "65536": value out of range'),
                       ("portforward?ports=-1", 'cannot convert to []int32: strconv.ParseUint: '
                        'parsing "-1": invalid syntax'),
                       ("log?container=a&tailLines=many",
                        'strconv.ParseInt: parsing "many": invalid syntax')):
        status, text = opened(f"{PODS}/p/{path}")
        equal((status, text["message"]), (400, said), path)


def test_logs():
    kubelet.seen.clear()
    status, _, text = server.raw("GET", f"{PODS}/p/log?container=b&follow=1&previous=false&tailLines=3"
                                 "&tailLines=4&sinceTime=2026-01-01T00:00:00%2B01:00&a%26follow=x")
    equal((status, text), (200, b"line\n"))
    equal(kubelet.seen[0][0], "/containerLogs/default/p/b?follow=true&tailLines=3"
          "&sinceTime=2026-01-01T00%3A00%3A00%2B01%3A00")


def test_refusals():
    log = f"{PODS}/p/log?container=a"
    for status, want in (
            (400, (400, "BadRequest", "no such thing")),
            (403, (403, "Forbidden", "no such thing ( pods/log p)")),
            (404, (404, "NotFound", "the server could not find the requested resource ( pods/log p)")),
            (418, (418, None, "the server responded with the status code 418 but did not return more "
                              "information ( pods/log p)")),
            (500, (500, "InternalError", "Internal error occurred: no such thing")),
            (502, (502, "InternalError", 'an error on the server ("no such thing") has prevented the '
                                         'request from succeeding ( pods/log p)'))):
        kubelet.refuses = status
        equal(refused(log), want)
        equal(opened(f"{PODS}/p/exec?container=a&command=x"), (status, b"no such thing\n"))
    kubelet.refuses = 202
    status, said = opened(f"{PODS}/p/exec?container=a&command=x")
    equal((status, said.get("reason"), said["message"]),
          (500, None, "invalid upgrade response: status code 202"))
    kubelet.refuses = 0
    equal(refused(f"{PODS}/p/log"), (400, "BadRequest",
                                     "a container name must be specified for pod p, choose one of: [a b]"))


def test_streams_are_counted():
    text = server.raw("GET", "/metrics")[2].decode()
    for sub, code in (("exec", 101), ("exec", 404), ("log", 200), ("log", 404), ("portforward", 101)):
        check(any(line.startswith("apiserver_request_total{") and f'code="{code}"' in line
                  and f'subresource="{sub}"' in line for line in text.splitlines()), f"{sub} {code}")


def test_a_kubelet_is_gone():
    held = socket.socket()  # a port that is taken, and refuses
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    server.api("POST", "/api/v1/nodes", {"metadata": {"name": "gone"}})
    server.api("POST", PODS, {"metadata": {"name": "lost"}, "spec": {
        "nodeName": "gone", "containers": [{"name": "a", "image": "i"}]}})
    equal(refused(f"{PODS}/lost/log"),
          (500, None, "no preferred addresses found; known addresses: []"))
    # A name is preferred, but only an address can be one's.
    with_status("/api/v1/nodes/gone", {
        "addresses": [{"type": "Hostname", "address": "gone"}, {"type": "ExternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}})
    why = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    equal(refused(f"{PODS}/lost/log?tailLines=2"), (
        500, None, f'Get "https://127.0.0.1:{port}/containerLogs/default/lost/a?tailLines=2": {why}'))
    for path in ("exec?command=x", "attach", "portforward?ports=80"):
        status, said = opened(f"{PODS}/lost/{path}")
        equal((status, said.get("reason"), said["message"]), (500, None, f"error dialing backend: {why}"))
    held.close()


def test_a_kubelet_of_nobody():
    """Its certificate is its own: only a log is read from it, and only if the reader says so."""
    tls = temp_dir()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-keyout", f"{tls}/server-ca.key", "-out", f"{tls}/server-ca.crt",
                    "-subj", "/CN=somebody"], check=True, capture_output=True)
    stranger = Kubelet("127.0.0.1")
    stranger.start(tls)
    server.api("POST", "/api/v1/nodes", {"metadata": {"name": "strange"}})
    server.api("POST", PODS, {"metadata": {"name": "strange"}, "spec": {
        "nodeName": "strange", "containers": [{"name": "a", "image": "i"}]}})
    with_status("/api/v1/nodes/strange", {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": stranger.port}}})
    unverified = "insecureSkipTLSVerifyBackend=true"
    for _ in range(2):  # a connection that was opened for one is not used for the other
        code, _, why = refused(f"{PODS}/strange/log")
        equal(code, 500)
        holds(why, r"^Get \"https://127.0.0.1:\d+/containerLogs/default/strange/a\": .*certificate")
        status, _, text = server.raw("GET", f"{PODS}/strange/log?{unverified}")
        equal((status, text), (200, b"line\n"))
    equal([target for target, _ in stranger.seen], ["/containerLogs/default/strange/a"] * 2)
    equal(opened(f"{PODS}/strange/exec?command=x&{unverified}")[0], 500)
    equal(len(stranger.seen), 2)


def test_tokens_stay_here():
    server.kubectl("create", "serviceaccount", "robot")
    server.kubectl("create", "rolebinding", "robot", "--role=maker", "--serviceaccount=default:robot")
    token = server.kubectl("create", "token", "robot").strip()
    path = f"{PODS}/p/exec?container=a&command=x"
    wait_for(lambda: opened(path, token=token)[0] == 101, "its role")
    hidden = TOKEN_PREFIX + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    for protocols, want in ((f"{hidden}, {PROTOCOL}", PROTOCOL), (hidden, None)):
        kubelet.seen.clear()
        equal(opened(path, protocols=protocols)[0], 101)
        headers = kubelet.seen[0][1]
        equal(headers.get("sec-websocket-protocol"), want)
        check(not any(TOKEN_PREFIX in v or token in v for v in headers.values()), "a token went on")


def test_revocation_ends_it():
    token = server.kubectl("create", "token", "robot").strip()
    status, (c, f) = opened(f"{PODS}/p/exec?container=a&command=x", token=token)
    equal(status, 101)
    subprocess.run([KINGLET, "certificate", "revoke", "system:serviceaccount:default:robot",
                    "--data-dir", server.data], check=True, capture_output=True)
    try:
        equal(f.read(), b"")  # one that stays open runs into the time-out
    except ConnectionError:
        pass
    c.close()


# ---- proxies

ADDRESS = own_address()  # proxies refuse the loopback's
PROXY = f"{PODS}/web/proxy"
BOMB = 20000000
PAGE = ('<html><A HREF="/x?a=1&amp;b=2#f">x</a><img src=rel.png><a href="http://%s/y/">y</a>'
        '<a href="https://elsewhere/z">z</a><script>"</a href=/no>"</script></html>')
PAGE_SEEN = (f'<html><a href="{PROXY}/x?a=1&amp;b=2#f">x</a><img src="rel.png"><a href="{PROXY}/y/">y</a>'
             '<a href="https://elsewhere/z">z</a><script>"</a href=/no>"</script></html>')


class Program:
    """What listens in a pod: it tells what it was asked, or does what the path says."""

    def __init__(self, tls=None):
        self.listener = socket.create_server((ADDRESS, 0))
        self.port = self.listener.getsockname()[1]
        self.tls = tls
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            s = self.listener.accept()[0]
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        try:
            if self.tls:
                s = self.tls.wrap_socket(s, server_side=True)
            with s, s.makefile("rwb") as f:
                while self.answer(f):
                    f.flush()
        except OSError:
            pass  # the other side went away

    @staticmethod
    def piece(f):
        data = f.read(int(f.readline(), 16))
        f.readline()
        return data

    def answer(self, f):
        line = f.readline().decode().split()
        if not line:
            return False
        headers = {}
        while head := f.readline().decode().strip():
            name, value = head.split(":", 1)
            headers[name.lower()] = value.strip()
        path = line[1].split("?")[0]
        chunked = headers.get("transfer-encoding") == "chunked"

        def say(status, extra, body):
            f.write(f"HTTP/1.1 {status} OK\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode())
            f.write(b"" if line[0] == "HEAD" else body)
            return True
        if path == "/back":  # each piece as it comes
            f.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
            f.flush()
            while data := self.piece(f):
                f.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                f.flush()
            f.write(b"0\r\nX-Sum: 42\r\n\r\n")
            return True
        if path == "/full":  # answered before the rest is read
            say(413, "Connection: close\r\n", b"too much")
            f.flush()
            f.read()
            return False
        if path == "/join" and "upgrade" in headers:
            f.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n"
                    b"X-Asked: " + line[1].encode() + b"\r\n\r\nhello")
            f.flush()
            f.write(f.readline())
            f.flush()
            return False
        if path == "/stay" and "upgrade" in headers:
            return say(403, "", b"not here")
        if path == "/ignore" and "upgrade" in headers:
            return say(200, "", b"what?")
        body = b"".join(iter(lambda: self.piece(f), b"")) if chunked else \
            f.read(int(headers.get("content-length", 0)))
        page = (PAGE % f"{ADDRESS}:{self.port}").encode()
        if path == "/page":
            return say(200, "Content-Type: text/html; charset=utf-8\r\n"
                       "Access-Control-Allow-Origin: *\r\nX-Own: 1\r\n", page)
        if path == "/packed":
            return say(200, "Content-Type: text/html\r\nContent-Encoding: gzip\r\n", gzip.compress(page))
        if path == "/bomb":  # much in little
            return say(200, "Content-Type: text/html\r\nContent-Encoding: gzip\r\n",
                       gzip.compress(b"x" * BOMB + page))
        if path == "/last":  # and its end is the connection's
            f.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n"
                    + gzip.compress(b"x" * BOMB + page))
            return False
        if path == "/unpacked":
            return say(200, "Content-Type: text/html\r\nContent-Encoding: gzip\r\n", page)
        if path == "/text":
            return say(200, "Content-Type: text/plain\r\n", page)
        if path == "/moved":
            return say(302, "Location: /there?x=1\r\n", b"")
        if path == "/lost":
            return say(302, "Location: http://[x/\r\n", b"")
        if path == "/cut":
            f.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
            f.flush()
            return False
        told = {"asked": line[:2], "headers": headers, "bytes": len(body), "body": body[:100].decode()}
        return say(200, "Content-Type: application/json\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
                   "Connection: X-Hop\r\nX-Hop: 1\r\n", json.dumps(told).encode())


def with_status(path, status):
    server.api("PATCH", f"{path}/status", json.dumps({"status": status}),
               headers={"Content-Type": "application/merge-patch+json"})


def told(path, method="GET", body=None, headers=None):
    status, _, text = server.raw(method, path, body, headers)
    equal(status, 200, f"{method} {path}: {text}")
    return json.loads(text)


def refused(path, method="GET", **more):
    status, _, text = server.raw(method, path, **more)
    said = json.loads(text)
    return status, said.get("reason"), said["message"]


def test_proxies_have_programs():
    if not ADDRESS:
        print("     no address but the loopback's: proxies are left out")
        return
    global program, secret
    program = Program()
    secret = Program(tls=kubelet.context)
    server.api("POST", PODS, {"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {
        "nodeName": "n", "containers": [{"name": "a", "image": "i", "ports": [
            {"name": "http", "containerPort": program.port},
            {"name": "https", "containerPort": secret.port}]}]}})
    with_status(f"{PODS}/web", {"podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}], "phase": "Running", "conditions": [
        {"type": "Ready", "status": "True"}]})


def of_proxies(test):
    def left_out():
        if ADDRESS:
            test()
    return left_out


@of_proxies
def test_proxy_passes_on():
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        body = None if method in ("GET", "OPTIONS") else "some words"
        got = told(f"{PROXY}/a%20b/../c//d%2Fe/?q=%2F&dry=1&limit=many&watch=1", method, body, {
            "Content-Type": "text/x", "X-Mine": "1", "Connection": "X-Gone", "X-Gone": "1", "TE": "trailers",
            "Cookie": "c=1", "X-Forwarded-For": "192.0.2.7", "X-Remote-User": "me", "Proxy-Authorization": "no"})
        equal(got["asked"], [method, "/c/d/e/?q=%2F&dry=1&limit=many&watch=1"])
        equal(got["body"], body or "")
        h = got["headers"]
        equal({n: h.get(n) for n in ("x-mine", "x-gone", "cookie", "x-remote-user", "te", "proxy-authorization",
                                     "authorization", "x-forwarded-host", "x-forwarded-proto", "content-type")},
              {"x-mine": "1", "x-gone": None, "cookie": "c=1", "x-remote-user": None,
               "te": "trailers", "proxy-authorization": None, "authorization": None, "x-forwarded-host": None,
               "x-forwarded-proto": None, "content-type": "text/x"})
        equal(h["x-forwarded-for"], "192.0.2.7, 127.0.0.1")
        check(h["host"].startswith("127.0.0.1:"), h["host"])
    h = told(f"{PROXY}/a/b/")["headers"]
    equal(h["x-forwarded-uri"], f"{PROXY}/a/b/")
    got = told(PROXY, "POST")
    equal((got["asked"], got["headers"]["x-forwarded-uri"]), (["POST", "/"], f"{PROXY}/"))
    equal(told(f"{PROXY}/")["asked"], ["GET", "/"])
    equal(told(f"{PODS}/web:{program.port}/proxy/p")["asked"][1], "/p")
    equal(told(f"{PODS}/http:web:/proxy/p")["asked"][1], "/p")
    equal(told(f"{PODS}/https:web:{secret.port}/proxy/p")["asked"][1], "/p")
    equal(json.loads(server.kubectl("get", "--raw", f"{PROXY}/k?x=1"))["asked"], ["GET", "/k?x=1"])


@of_proxies
def test_proxy_passes_back():
    status, headers, text = server.raw("GET", f"{PROXY}/x")
    equal((headers.get("content-type"), headers.get("x-hop"), headers.get("cache-control")),
          ("application/json", None, "no-cache, private"))
    status, headers, text = server.raw("GET", f"{PROXY}?a=1&b=%2F")
    equal((status, headers.get("location"), text), (301, f"{PROXY}/?a=1&b=%2F", b""))
    equal(server.raw("HEAD", PROXY)[0], 301)
    status, headers, text = server.raw("HEAD", f"{PROXY}/text")
    equal((status, headers.get("content-type"), text), (200, "text/plain", b""))
    status, headers, text = server.raw("GET", f"{PROXY}/moved")
    equal((status, headers.get("location")), (302, f"{PROXY}/there?x=1"))
    equal(refused(f"{PROXY}/lost")[:2], (500, "InternalError"))
    try:
        server.raw("GET", f"{PROXY}/cut")
        check(False, "half an answer looks whole")
    except (OSError, http.client.HTTPException):
        pass


@of_proxies
def test_proxy_changes_pages():
    status, headers, text = server.raw("GET", f"{PROXY}/page")
    equal((status, text.decode()), (200, PAGE_SEEN))
    equal((headers.get("x-own"), headers.get("access-control-allow-origin")), ("1", None))
    text = server.raw("GET", f"{PROXY}/packed", headers={"Accept-Encoding": "gzip"})[2]
    equal(gzip.decompress(text).decode(), PAGE_SEEN)
    for path in ("bomb", "last"):
        text = gzip.decompress(server.raw("GET", f"{PROXY}/{path}", headers={"Accept-Encoding": "gzip"})[2])
        equal(text.lstrip(b"x").decode(), PAGE_SEEN)
        equal(len(text), BOMB + len(PAGE_SEEN))
    equal(refused(f"{PROXY}/unpacked"), (500, None, "the page is not packed as it says"))
    equal(server.raw("GET", f"{PROXY}/text")[2].decode(), PAGE % f"{ADDRESS}:{program.port}")


@of_proxies
def test_proxy_keeps_nothing_back():
    c = server.connect()
    c.connect()
    c.sock.sendall((f"POST {PROXY}/back HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                    "TE: trailers\r\n\r\n").encode())
    f = c.sock.makefile("rb")
    for i in range(5):  # the answer comes while the request goes on
        c.sock.sendall(f"3\r\nn{i}\n\r\n".encode())
        if not i:
            equal(f.readline().split()[1], b"200")
            headers = {}
            while line := f.readline().decode().strip():
                name, value = line.lower().split(": ", 1)
                headers[name] = value
            equal((headers.get("trailer"), headers.get("transfer-encoding")), ("x-sum", "chunked"))
        equal(Program.piece(f), f"n{i}\n".encode())
    c.sock.sendall(b"0\r\n\r\n")
    equal(f.readline(), b"0\r\n")
    equal(f.readline().lower(), b"x-sum: 42\r\n")
    c.close()
    big = "x" * 9000000  # more than a body for this server may have
    equal(told(f"{PROXY}/x", "POST", big)["bytes"], len(big))
    equal(told(f"{PODS}/https:web:{secret.port}/proxy/x", "PUT", big)["bytes"], len(big))
    status, _, text = server.raw("POST", f"{PROXY}/full", "a few words")  # the rest is nobody's
    equal((status, text), (413, b"too much"))


def joined(path, user=None):
    """(status, headers, what was said before the end) of an upgrade."""
    c = server.connect()
    c.connect()
    c.sock.sendall((f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: x\r\nConnection: Upgrade\r\n"
                    + (f"Impersonate-User: {user}\r\n" if user else "") + "\r\n").encode())
    with c.sock.makefile("rb") as f:
        status = int(f.readline().split()[1])
        headers = {}
        while line := f.readline().decode().strip():
            name, value = line.split(": ", 1)
            headers[name.lower()] = value
        if status == 101:
            c.sock.sendall(b"word\n")
            text = f.read()
        else:
            text = f.read(int(headers["content-length"]))
    c.close()
    return status, headers, text


@of_proxies
def test_proxy_joins_upgrades():
    status, headers, text = joined(f"{PROXY}/join?q=1")
    equal((status, headers.get("x-asked"), text), (101, "/join", b"helloword\n"))
    status, _, text = joined(f"{PROXY}/stay")
    equal((status, text), (403, b"not here"))
    status, _, text = joined(f"{PROXY}/ignore")
    equal((status, json.loads(text)["message"]), (500, "invalid upgrade response: status code 200"))


@of_proxies
def test_proxy_says_why_not():
    server.api("POST", PODS, {"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "a", "image": "i"}]}})
    server.api("POST", PODS, {"metadata": {"name": "here"}, "spec": {"containers": [{"name": "a", "image": "i"}]}})
    with_status(f"{PODS}/here", {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]})
    held = socket.socket()  # a port that is taken, and refuses
    held.bind((ADDRESS, 0))
    closed = held.getsockname()[1]
    for path, want in (
            ("bare/proxy/", (400, "BadRequest", "address not allowed")),
            ("here/proxy/", (400, "BadRequest", "address not allowed")),
            ("nosuch:80/proxy/", (404, "NotFound", 'pods "nosuch" not found')),
            ("ftp:web:80/proxy/", (400, "BadRequest", 'invalid pod request "ftp:web:80"')),
            ("a:b:c:d/proxy/", (400, "BadRequest", 'invalid pod request "a:b:c:d"')),
            (f"web:{closed}/proxy/", (503, "ServiceUnavailable", "error trying to reach service: dial tcp "
                                      f"{ADDRESS}:{closed}: connect: connection refused")),
            ("web/proxy/?dryRun=All", (400, "BadRequest", "dryRun is not supported"))):
        equal(refused(f"{PODS}/{path}"), want, path)
    equal(joined(f"{PODS}/web:{closed}/proxy/x")[0], 500)
    held.close()
    equal(refused("/api/v1/nodes/n/proxy/"), (400, "BadRequest", "address not allowed"))
    equal(refused("/api/v1/nodes/nosuch/proxy/"), (404, "NotFound", 'nodes "nosuch" not found'))
    equal(server.raw("GET", f"/api/v1/proxy/namespaces/default/pods/web/")[0], 404)


@of_proxies
def test_proxy_of_services():
    services = "/api/v1/namespaces/default/services"
    server.api("POST", services, {"metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "publishNotReadyAddresses": True, "ports": [{"name": "plain", "port": 80, "targetPort": "http"}, {"name": "tls", "port": 443, "targetPort": "https"}]}})
    server.api("POST", services, {"metadata": {"name": "alone"}, "spec": {"selector": {"app": "none"}, "ports": [
        {"port": 80}]}})
    server.api("POST", services, {"metadata": {"name": "open"}, "spec": {"ports": [{"port": 80}]}})
    wait_for(lambda: server.raw("GET", f"{services}/web:plain/proxy/")[0] == 200, "its endpoints")
    for name in ("web:plain", "web:80", "http:web:plain", "https:web:tls", "https:web:443"):
        equal(told(f"{services}/{name}/proxy/s")["asked"][1], "/s", name)
    for name, want in (
            ("web:81", (503, "ServiceUnavailable", 'no service port 81 found for service "web"')),
            ("web", (503, "ServiceUnavailable", 'no endpoints available for service "web"')),
            ("web:none", (503, "ServiceUnavailable", 'no endpoints available for service "web:none"')),
            ("nosuch", (404, "NotFound", 'services "nosuch" not found')),
            ("nosuch:80", (404, "NotFound", 'services "nosuch" not found')),
            ("open", (404, "NotFound", 'services "open" not found')),
            ("ftp:web:80", (400, "BadRequest", 'invalid service request "ftp:web:80"'))):
        equal(refused(f"{services}/{name}/proxy/"), want, name)
    status, reason, said = refused(f"{services}/alone/proxy/")
    equal((status, reason), (503, "ServiceUnavailable"))
    holds(said, 'no endpoints available for service "alone"')


@of_proxies
def test_proxy_of_nodes():
    own = Kubelet(ADDRESS)
    own.start(os.path.join(server.data, "server/tls"))
    server.api("POST", "/api/v1/nodes", {"metadata": {"name": "m"}})
    equal(refused("/api/v1/nodes/m/proxy/")[2], "no preferred addresses found; known addresses: []")
    with_status("/api/v1/nodes/m", {"addresses": [{"type": "ExternalIP", "address": "127.0.0.1"},
                                                  {"type": "InternalIP", "address": ADDRESS}],
                                    "daemonEndpoints": {"kubeletEndpoint": {"Port": own.port}}})
    for name in ("m", f"m:{own.port}", f"http:m:{own.port}", "https:m:"):
        own.seen.clear()
        status, _, text = server.raw("GET", f"/api/v1/nodes/{name}/proxy/logs/?x=1")
        equal((status, text, own.seen[0][0]), (200, b"line\n", "/logs/?x=1"), name)
    equal(told(f"/api/v1/nodes/m:{program.port}/proxy/n")["asked"][1], "/n")


@of_proxies
def test_proxy_asks_first():
    server.kubectl("create", "role", "looker", "--verb=get", "--resource=pods/proxy", "--resource-name=web")
    server.kubectl("create", "rolebinding", "looker", "--role=looker", "--user=looker")
    as_looker = {"Impersonate-User": "looker"}
    wait_for(lambda: server.raw("GET", f"{PROXY}/x", headers=as_looker)[0] == 200, "its role")
    check("impersonate-user" not in told(f"{PROXY}/x", headers=as_looker)["headers"], "it went on")
    equal(joined(f"{PROXY}/join", "looker")[0], 101)
    for method, verb in (("POST", "create"), ("PUT", "update"), ("PATCH", "patch"), ("DELETE", "delete")):
        status, reason, said = refused(f"{PROXY}/x", method, headers=as_looker)
        equal((status, reason), (403, "Forbidden"))
        holds(said, f'cannot {verb} resource "pods/proxy"')
    equal(server.raw("OPTIONS", f"{PROXY}/x", headers=as_looker)[0], 403)
    equal(server.raw("GET", f"{PODS}/web:{program.port}/proxy/x", headers=as_looker)[0], 403)
    server.apply({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
                  "metadata": {"name": "paths"}, "spec": {
                      "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                                                              "operations": ["CONNECT"], "resources": ["pods/proxy"]}]},
                      "validations": [{"expression": "object.kind == 'PodProxyOptions' && object.path != '/closed'",
                                       "message": "closed"}]}},
                 {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
                  "metadata": {"name": "paths"}, "spec": {"policyName": "paths", "validationActions": ["Deny"]}})
    status, _, said = refused(f"{PROXY}/closed?path=/open")
    equal(status, 422)
    holds(said, "closed")
    equal(told(f"{PROXY}/open?path=/closed")["asked"][1], "/open?path=/closed")
    resources = {r["name"]: r for r in server.get("/api/v1")["resources"]}
    for name, kind in (("pods", "PodProxyOptions"), ("services", "ServiceProxyOptions"), ("nodes", "NodeProxyOptions")):
        r = resources[f"{name}/proxy"]
        equal((r["kind"], r["verbs"]), (kind, ["create", "delete", "get", "patch", "update"]), name)


if __name__ == "__main__":
    run(server)
