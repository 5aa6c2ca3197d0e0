#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Streams of pods on their way to the kubelet, which is a small one of this program: who may open
them, and that the kubelet is told what admission saw and nothing else."""
import base64
import json
import os
import socket
import ssl
import subprocess
import threading
from lib import KINGLET, Server, check, equal, holds, run, temp_dir, wait_for

server = Server()
PODS = "/api/v1/namespaces/default/pods"
PROTOCOL = "v5.channel.k8s.io"
TOKEN_PREFIX = "base64url.bearer.authorization.k8s.io."


class Kubelet:
    """Answers every upgrade with 101 and an open connection, everything else with a log."""

    def __init__(self):
        self.seen = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def start(self, tls):
        """With a certificate of the cluster's CA, as a kubelet has."""
        d = temp_dir()
        key, csr, crt, ext = (os.path.join(d, f) for f in ("key", "csr", "crt", "ext"))
        with open(ext, "w") as f:
            f.write("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
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
        with self.context.wrap_socket(raw, server_side=True) as s, s.makefile("rwb") as f:
            target = f.readline().decode().split()[1]
            headers = []
            while line := f.readline().decode().strip():
                name, value = line.split(":", 1)
                headers.append((name.lower(), value.strip()))
            self.seen.append((target, dict(headers)))
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


kubelet = Kubelet()


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
        return status, json.loads(f.read(length))
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


if __name__ == "__main__":
    run(server)
