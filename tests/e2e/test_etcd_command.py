#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# lane: etcd
"""kinglet etcd, and kinglet called as etcd: flags, environment, URLs, TLS, errors, stopping."""
import atexit
import json
import os
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from lib import KINGLET, Failure, check, equal, free_port, holds, run, temp_dir, wait_for


class Etcd:
    """A server in a directory of its own; args are added to its command line."""

    def __init__(self, *args, as_etcd=False, env=None, directory=None):
        self.dir = directory or temp_dir()
        self.log = os.path.join(self.dir, "log")
        link = os.path.join(self.dir, "etcd")
        if as_etcd and not os.path.lexists(link):
            os.symlink(KINGLET, link)
        command = [link] if as_etcd else [KINGLET, "etcd"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command + list(args), cwd=self.dir, stdout=log,
                                            stderr=log, env={**os.environ, **(env or {})})
        atexit.register(self.process.kill)

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def ready(self):
        def look():
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}:\n{self.text()}")
            return "ready to serve client requests" in self.text()
        wait_for(look, "etcd is ready")
        return self

    def stop(self):
        self.process.terminate()
        equal(self.process.wait(240), 0, "exit status")

    def ended(self, status):
        equal(self.process.wait(240), status, "exit status")
        return self.text()


def get(url, context=None):
    with urllib.request.urlopen(url, timeout=60, context=context) as r:
        return json.loads(r.read())


def range_of_nothing(port):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v3/kv/range", b"{}", timeout=60).close()
    except urllib.error.HTTPError as e:
        return e.code
    return 200


def test_as_etcd_with_envtest_flags():
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    e = Etcd("--listen-peer-urls=http://localhost:0", f"--advertise-client-urls={url}",
             f"--listen-client-urls={url}", "--data-dir=data", "--unsafe-no-fsync", "--unheard-of",
             "5", "--experimental-watch-progress-notify-interval=5s", "--enable-grpc-gateway=false", as_etcd=True).ready()
    equal(get(url + "/health")["health"], "true")
    holds(get(url + "/version")["etcdserver"], r"^3\.6\.")
    holds(e.text(), "ignored an unknown flag: --unheard-of")
    equal(range_of_nothing(port), 404, "without the JSON gateway")
    check(os.path.exists(os.path.join(e.dir, "data/state.db")), "the data directory holds the store")
    json.loads(e.text().splitlines()[0])
    e.stop()


def test_environment_and_command_line():
    one, two = free_port(), free_port()
    e = Etcd("--listen-client-urls", f"http://localhost:{two}",
             env={"ETCD_LISTEN_CLIENT_URLS": f"http://127.0.0.1:{one}", "ETCD_NAME": "n",
                  "ETCD_NOBODY_KNOWS": "1"}).ready()
    equal(get(f"http://127.0.0.1:{two}/health")["health"], "true")
    equal(range_of_nothing(two), 400, "the JSON gateway's answer without a key")
    check(os.path.exists(os.path.join(e.dir, "n.etcd/state.db")), "the directory has the name")
    holds(e.text(), "unrecognized environment variable: ETCD_NOBODY_KNOWS")
    e.stop()


def test_several_urls_and_unix_sockets():
    a, b, m = free_port(), free_port(), free_port()
    e = Etcd("--listen-client-urls", f"http://127.0.0.1:{a},http://[::1]:{b},unix://sock",
             "--listen-metrics-urls", f"http://127.0.0.1:{m}", "--datastore-endpoint",
             "memory://").ready()
    for url in (f"http://127.0.0.1:{a}", f"http://[::1]:{b}", f"http://127.0.0.1:{m}"):
        equal(get(url + "/health")["health"], "true")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.path.join(e.dir, "sock"))
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        holds(s.recv(4096).decode(), "200 OK")
    e.stop()


def test_tls_requires_a_client_certificate():
    d = temp_dir()

    def openssl(*args):
        subprocess.run(("openssl",) + args, cwd=d, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca")
    for name in ("server", "client"):
        openssl("req", *new, "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/CN=" + name)
        with open(os.path.join(d, "ext"), "w", encoding="utf-8") as f:
            f.write("subjectAltName=IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                "-CAcreateserial", "-extfile", "ext", "-out", name + ".crt")
    port = free_port()
    path = lambda name: os.path.join(d, name)
    e = Etcd("--listen-client-urls", f"https://127.0.0.1:{port}", "--cert-file", path("server.crt"),
             "--key-file", path("server.key"), "--trusted-ca-file", path("ca.crt"),
             "--client-cert-auth", "--datastore-endpoint", "memory://").ready()
    context = ssl.create_default_context(cafile=path("ca.crt"))
    try:
        get(f"https://127.0.0.1:{port}/health", context)
        raise Failure("served without a certificate")
    except (ssl.SSLError, OSError):
        pass
    context.load_cert_chain(path("client.crt"), path("client.key"))
    equal(get(f"https://127.0.0.1:{port}/health", context)["health"], "true")
    e.stop()


def test_wrong_use_is_one_sentence():
    for args, status, text in (
            (("--unheard-of",), 2, "flag provided but not defined: -unheard-of"),
            (("--data-dir",), 2, "flag needs an argument: -data-dir"),
            (("--client-cert-auth=perhaps",), 2, "invalid boolean value"),
            (("--watch-progress-notify-interval", "5"), 2, "missing unit in duration"),
            (("--listen-client-urls", "ftp://127.0.0.1:1"), 1, "URL scheme must be http, https"),
            (("--listen-client-urls", "http://example.com:1"), 1, "expected IP in URL for binding"),
            (("--listen-client-urls", "http://127.0.0.1"), 1, 'the form "host:port"'),
            (("--listen-client-urls", "https://127.0.0.1:0"), 1, "TLS key/cert .* must be provided"),
            (("--auto-compaction-mode", "weekly"), 1, "unknown auto-compaction-mode"),
            (("--datastore-endpoint", "floppy://a"), 1, "floppy"),
            (("--memory-budget", "much"), 2, "--memory-budget much: not a number of bytes, such as 512Mi"),
            (("--memory-budget", "-1"), 2, "--memory-budget -1: not a number of bytes, such as 512Mi"),
            (("extra",), 2, "'extra' is not a valid flag")):
        out = Etcd(*args).ended(status)
        holds(out, text)
        equal(len(out.splitlines()), 1, f"lines for {args}")


def test_a_held_directory_and_an_etcds_own():
    port, other = free_port(), free_port()
    e = Etcd("--listen-client-urls", f"http://127.0.0.1:{port}").ready()
    second = Etcd("--listen-client-urls", f"http://127.0.0.1:{other}", "--data-dir",
                  os.path.join(e.dir, "default.etcd"))
    holds(second.ended(1), "in use by another process")
    third = Etcd("--listen-client-urls", f"http://127.0.0.1:{port}", "--datastore-endpoint",
                 "memory://")
    holds(third.ended(1), "in use")
    e.stop()
    theirs = temp_dir()
    os.makedirs(os.path.join(theirs, "member/snap"))
    with open(os.path.join(theirs, "member/snap/db"), "w", encoding="utf-8"):
        pass
    holds(Etcd("--data-dir", theirs).ended(1), "holds the data of an etcd")


def test_version():
    e = Etcd("--version", as_etcd=True)
    holds(e.ended(0), r"^etcd Version: 3\.6\.")


if __name__ == "__main__":
    run()
