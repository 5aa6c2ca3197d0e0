#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""No secret comes out: tokens, passwords, keys and values of Secrets that a server is given in flags,
files, URLs, headers and objects, good and bad ones, are in nothing that it prints at full verbosity,
in no metric and in nothing below /debug."""
import base64
import http.client
import json
import os
import re
import socket
import subprocess
import urllib.parse
from lib import KINGLET, Failure, Server, check, equal, free_port, run, temp_dir, wait_for

WORDS = {}


def secret(name):
    """A word that stands nowhere else."""
    return WORDS.setdefault(name, f"zq7-{name}-{os.urandom(9).hex()}")


def forms(word):
    """How it may be written; base64 at each of the three places of a byte."""
    raw = word.encode()
    yield word
    yield urllib.parse.quote(word, safe="")
    yield raw.hex()
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        whole = text[4 if shift else 0:]  # what belongs to this word alone
        yield whole[:-2]
        yield whole[:-2].replace("+", "-").replace("/", "_")


def holds_none(where, text):
    for name, word in WORDS.items():
        for form in forms(word):
            at = text.find(form)
            check(at < 0, f"{name} is in {where}: ...{text[max(0, at - 200):at + 80]!r}")


def test_that_a_secret_would_be_found():
    for text in ("a {} b", "{}"):
        for encode in (str, lambda t: t.encode().hex(), lambda t: base64.b64encode(t.encode()).decode(),
                       lambda t: base64.urlsafe_b64encode(b"x" + t.encode()).decode()):
            try:
                holds_none("it", encode(text.format(secret("sample"))))
            except Failure:
                continue
            raise Failure(f"not found in {encode(text.format('...'))}")


d = temp_dir()


def write(name, text):
    path = os.path.join(d, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def kubeconfig(name, port):
    return write(name, json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": f"https://127.0.0.1:{port}/hook",
                                               "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": {"token": secret(name + "-webhook-token")}}]}))


key = base64.b64encode(secret("encryption-key").encode()[:32]).decode()
server = Server(
    "--debug", "--v", "10", "--token", secret("join-token"),
    "--token-auth-file", write("tokens", f"{secret('static-token')},jane,1,\"system:masters\"\n"),
    "--encryption-provider-config", write("encryption", json.dumps({
        "kind": "EncryptionConfiguration", "apiVersion": "apiserver.config.k8s.io/v1", "resources": [
            {"resources": ["secrets"], "providers": [
                {"secretbox": {"keys": [{"name": "a", "secret": key}]}}, {"identity": {}}]}]})),
    "--authentication-token-webhook-config-file", kubeconfig("authentication", free_port()))
NS = "/api/v1/namespaces/default"


def ask(method, path, body=None, headers=None):
    """Without a client certificate; what the server says is not looked at here."""
    connection = server.connect(anonymous=True)
    try:
        return server.raw(method, path, body, headers, connection)
    except (http.client.HTTPException, ConnectionError):
        return None
    finally:
        connection.close()


def test_tokens_in_requests():
    def bearer(word):
        return {"Authorization": "Bearer " + word}
    status, _, _ = ask("GET", NS + "/configmaps", headers=bearer(secret("static-token")))
    equal(status, 200, "the static token")
    for headers in (bearer(secret("wrong-token")), {"Authorization": "Basic " + base64.b64encode(
            ("jane:" + secret("basic-password")).encode()).decode()},
                    {"Authorization": "Digest " + secret("digest")},
                    bearer("eyJhbGciOiJSUzI1NiJ9." + base64.urlsafe_b64encode(
                        json.dumps({"sub": secret("jwt-claim")}).encode()).decode().rstrip("=") + ".AAAA"),
                    {"Sec-WebSocket-Protocol": "base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(
                        secret("websocket-token").encode()).decode().rstrip("="),
                     "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                     "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="},
                    {"Cookie": "session=" + secret("cookie")}):
        ask("GET", NS + "/pods/nosuch/exec?command=x", headers=headers)
        ask("GET", NS + "/secrets", headers=headers)
    # What exec runs, and what stands in a query that nobody knows.
    ask("POST", NS + "/pods/nosuch/exec?command=login&command=" + secret("command"),
        headers=bearer(secret("static-token")))
    ask("GET", NS + "/secrets?access_token=" + secret("query-token"), headers=bearer(secret("static-token")))
    with server.ssl_anonymous.wrap_socket(socket.create_connection(("127.0.0.1", server.port), 10),
                                          server_hostname="127.0.0.1") as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret("raw-token").encode() +
                  b"\r\nContent-Length: x\r\n\r\n")
        s.recv(4096)


def test_secrets():
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
            "data": {"k": base64.b64encode(secret("value").encode()).decode()}, "stringData": {"t": secret("text")}}
    server.api("POST", NS + "/secrets", body)
    server.api("PUT", NS + "/secrets/s", {**body, "stringData": {"t": secret("text-2")}})
    merge = {"Content-Type": "application/merge-patch+json"}
    server.raw("PATCH", NS + "/secrets/s", json.dumps({"stringData": {"u": secret("patched")}}), merge)
    for bad in ({**body, "data": {"a b": base64.b64encode(secret("bad-key").encode()).decode()}},
                {**body, "data": {"k": secret("no-base64")}},
                {**body, "type": "kubernetes.io/tls", "stringData": {"tls.key": secret("tls-key"), "tls.crt": "x"}},
                {**body, "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
                 "type": "bootstrap.kubernetes.io/token",
                 "stringData": {"token-id": "abcdef", "token-secret": secret("bootstrap")}},
                {**body, "nosuch": secret("unknown-field")}):
        server.raw("POST", NS + "/secrets?fieldValidation=Strict", bad)
    for text in (f'{{"stringData":{{"k":"{secret("cut-off")}"', f'[{{"op":"frob","value":"{secret("bad-op")}"}}]'):
        server.raw("PATCH", NS + "/secrets/s", text, merge)
        server.raw("PATCH", NS + "/secrets/s", text, {"Content-Type": "application/json-patch+json"})
    server.raw("POST", NS + "/secrets", "a: [" + secret("bad-yaml"), {"Content-Type": "application/yaml"})
    check(secret("text-2") in base64.b64decode(server.get(NS + "/secrets/s")["data"]["t"]).decode(), "it is there")


def test_tokens_that_the_server_makes_and_judges():
    wait_for(lambda: server.raw("GET", NS + "/serviceaccounts/default")[0] == 200, "default account")
    made = server.api("POST", NS + "/serviceaccounts/default/token", {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})["status"]["token"]
    WORDS["made-token"] = made.split(".")[2]  # its signature
    equal(ask("GET", "/api", headers={"Authorization": "Bearer " + made})[0], 200, "its own token")
    for token in (made, secret("reviewed-token")):
        server.api("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}})


def test_nothing_came_out():
    for path in ("/metrics", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1", "/debug/flags",
                 "/debug/pprof/cmdline", "/flagz", "/statusz", "/configz", "/version", "/healthz?verbose", "/readyz?verbose",
                 "/debug/api_priority_and_fairness/dump_requests?includeRequestDetails=1",
                 "/debug/api_priority_and_fairness/dump_queues", "/openid/v1/jwks", "/metrics/slis"):
        holds_none(path, server.raw("GET", path)[2].decode(errors="replace"))
    equal(server.stop(), 0, "exit status")
    log = server.log_tail(1 << 30)
    check(re.search(r"debug|DEBUG", log), "full verbosity says more")
    holds_none("the log", log)


def test_errors_of_flags():
    """What a server that does not start says."""
    bad_key = base64.b64encode(secret("short-key").encode()[:17]).decode()
    wrong = write("wrong", json.dumps({
        "kind": "EncryptionConfiguration", "apiVersion": "apiserver.config.k8s.io/v1", "resources": [
            {"resources": ["secrets"], "providers": [{"aescbc": {"keys": [{"name": "a", "secret": bad_key}]}}]}]}))
    garbage = write("garbage", "token: [" + secret("garbage-file"))
    WORDS["short-key-as-given"] = bad_key
    for flags in (("--datastore-endpoint", f"postgres://u:{secret('db-password')}@127.0.0.1:1/db?connect_timeout=1"),
                  ("--datastore-endpoint", f"mysql://u:{secret('my-password')}@tcp(127.0.0.1:1)/db"),
                  ("--datastore-endpoint", f"postgres://u@127.0.0.1:1/db?password={secret('query-password')}&connect_timeout=1"),
                  ("--datastore-endpoint", f"nosuch://u:{secret('scheme-password')}@h/db"),
                  ("--encryption-provider-config", wrong), ("--encryption-provider-config", garbage),
                  ("--token-auth-file", write("two", f"{secret('two-columns')},jane\n")),
                  ("--token-auth-file", write("quotes", f'"{secret("bad-quotes")}x,jane,1\n')),
                  ("--authentication-token-webhook-config-file", garbage),
                  ("--authorization-mode", "Webhook", "--authorization-webhook-config-file", garbage),
                  ("--authentication-config", garbage),
                  ("--audit-policy-file", garbage, "--audit-log-path", "-")):
        r = subprocess.run([KINGLET, "server", "--debug", "--disable-agent", "--bind-address", "127.0.0.1", "--data-dir",
                            temp_dir(), "--https-listen-port", str(free_port()), *flags],
                           capture_output=True, text=True, timeout=240, check=False)
        check(r.returncode in (1, 2) and r.stderr, f"{flags[0]}: {r.returncode} {r.stderr!r}")
        holds_none(f"what {flags[:2]} says", r.stdout + r.stderr)


if __name__ == "__main__":
    run(server)
