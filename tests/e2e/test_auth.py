#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who is it, and may they: tokens of every kind, OIDC issuers that rotate their keys, webhooks that
are slow or talk nonsense, front proxies, certificate requests, revocation."""
import base64
import http.client
import http.server
import json
import os
import re
import ssl
import subprocess
import threading
import time
from lib import KINGLET, Server, check, equal, holds, run, temp_dir, wait_for

DIR = temp_dir()


def write(name, text):
    path = os.path.join(DIR, name)
    with open(path + ".new", "w") as f:
        f.write(text if isinstance(text, str) else json.dumps(text))
    os.rename(path + ".new", path)
    return path


def openssl(*args, stdin=None):
    return subprocess.run(["openssl", *args], check=True, capture_output=True, input=stdin).stdout


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make_ca(name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
            "2", "-subj", f"/CN={name}", "-keyout", f"{DIR}/{name}.key", "-out", f"{DIR}/{name}.crt")
    return f"{DIR}/{name}.crt"


def make_cert(name, ca, subject, ext):
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
            subject, "-keyout", f"{DIR}/{name}.key", "-out", f"{DIR}/{name}.csr")
    write(f"{name}.ext", ext)
    openssl("x509", "-req", "-in", f"{DIR}/{name}.csr", "-CA", f"{DIR}/{ca}.crt", "-CAkey",
            f"{DIR}/{ca}.key", "-CAcreateserial", "-days", "2", "-extfile", f"{DIR}/{name}.ext",
            "-out", f"{DIR}/{name}.crt")
    return f"{DIR}/{name}.crt", f"{DIR}/{name}.key"


class Https:
    """answer(path, body) gives (status, object or bytes)."""

    def __init__(self, answer):
        outer = self
        self.answer, self.asked = answer, []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def run(self):
                n = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(n)) if n else None
                outer.asked.append((self.path, body))
                outer.bearer = self.headers.get("Authorization")
                status, text = outer.answer(self.path, body)
                text = text if isinstance(text, bytes) else json.dumps(text).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = run

            def log_message(self, *_):
                pass

        class Threading(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):  # who asks may give up
                pass

        self.server = Threading(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{DIR}/web.crt", f"{DIR}/web.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Issuer(Https):
    def __init__(self):
        super().__init__(self.reply)
        self.n, self.up = 0, True
        self.rotate()

    def rotate(self, curve=None):
        self.n += 1
        self.kid, self.ec = f"key-{self.n}", bool(curve)
        self.key = f"{DIR}/issuer-{self.server.server_port}-{self.n}.key"
        if curve:
            openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key)
            point = openssl("ec", "-in", self.key, "-pubout", "-outform", "DER")[-64:]
            self.jwk = {"kty": "EC", "crv": "P-256", "x": b64url(point[:32]), "y": b64url(point[32:]),
                        "alg": "ES256"}
        else:
            openssl("genrsa", "-out", self.key, "2048")
            n = openssl("rsa", "-in", self.key, "-noout", "-modulus").decode().strip().split("=")[1]
            self.jwk = {"kty": "RSA", "n": b64url(bytes.fromhex(n)), "e": "AQAB", "alg": "RS256"}
        self.jwk.update(use="sig", kid=self.kid)

    def reply(self, path, _):
        if not self.up:
            return 503, {}
        if path == "/.well-known/openid-configuration":
            return 200, {"issuer": self.url, "jwks_uri": self.url + "/keys"}
        if path == "/keys":
            return 200, {"keys": [{"kty": "oct", "k": "AAAA"}, self.jwk]}
        return 404, {}

    def token(self, **claims):
        now = int(time.time())
        claims = dict({"iss": self.url, "aud": "kinglet", "sub": "jane", "exp": now + 600, "iat": now,
                       "nbf": now}, **claims)
        return sign(self.key, self.kid, self.ec, claims)


def sign(key, kid, ec, claims):
    head = {"alg": "ES256" if ec else "RS256", "kid": kid}
    text = b64url(json.dumps(head).encode()) + "." + b64url(json.dumps(claims).encode())
    sig = openssl("dgst", "-sha256", "-sign", key, stdin=text.encode())
    if ec:  # DER to r and s side by side
        n = sig[3]
        r, s = sig[4:4 + n], sig[6 + n:]
        sig = r.lstrip(b"\0").rjust(32, b"\0") + s.lstrip(b"\0").rjust(32, b"\0")
    return text + "." + b64url(sig)


def kubeconfig(name, url, user=None):
    return write(name, {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "w", "cluster": {"server": url, "certificate-authority": f"{DIR}/web-ca.crt"}}],
        "users": [{"name": "u", "user": user or {"token": "of-the-api-server"}}],
        "contexts": [{"name": "c", "context": {"cluster": "w", "user": "u"}}]})


# ---- what webhooks answer

released = threading.Event()
users = {"hook-one": "hooked", "hook-slow": "slow", "hook-may": "may"}


def review_token(_, body):
    token = body["spec"]["token"]
    if token == "hook-slow":
        released.wait(240)
    if token == "hook-garbage":
        return 200, b"\x00\xffno json"
    if token == "hook-broken":
        return 403, {}
    status = {"authenticated": token in users}
    if token in users:
        status["user"] = {"username": users[token], "uid": "7", "groups": ["hooks"],
                          "extra": {"example.org/x": ["1", "2"]}}
    return 200, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}


def review_access(_, body):
    spec = body["spec"]
    at = spec.get("resourceAttributes", {})
    status = {"allowed": False}
    if at.get("namespace") == "hooked" or at.get("resource") in ("certificatesigningrequests", "signers"):
        status = {"allowed": True}
    elif at.get("namespace") == "denied":
        status = {"allowed": False, "denied": True, "reason": "the webhook says no"}
    elif at.get("namespace") == "garbage":
        return 200, b"<html>"
    return 200, {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": status}


def authentication(prefix):
    return {
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
        "anonymous": {"enabled": True, "conditions": [{"path": "/livez"}, {"path": "/readyz"}]},
        "jwt": [
            {"issuer": {"url": issuer.url, "audiences": ["kinglet", "other"],
                        "audienceMatchPolicy": "MatchAny", "certificateAuthority": web_ca},
             "claimValidationRules": [
                 {"expression": "!has(claims.banned)", "message": "the banned stay outside"},
                 {"expression": "claims.exp - claims.iat <= 86400", "message": "too long"}],
             "claimMappings": {
                 "username": {"expression": f"'{prefix}' + claims.sub"},
                 "groups": {"expression": "claims.?roles.orValue([]).map(r, 'oidc:' + r)"},
                 "uid": {"claim": "sub"},
                 "extra": [{"key": "example.org/tenant", "valueExpression": "claims.?tenant.orValue('')"}]},
             "userValidationRules": [
                 {"expression": "!user.username.startsWith('system:')", "message": "not system:"}]},
            {"issuer": {"url": second.url, "audiences": ["kinglet"], "certificateAuthority": web_ca,
                        "discoveryURL": second.url + "/elsewhere"},
             "claimMappings": {"username": {"claim": "email", "prefix": "second:"},
                               "groups": {"claim": "groups", "prefix": ""}}}]}


def authorization():
    return {
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
        "authorizers": [
            {"type": "Webhook", "name": "first", "webhook": {
                "timeout": "10s", "authorizedTTL": "5m", "unauthorizedTTL": "30s",
                "subjectAccessReviewVersion": "v1", "matchConditionSubjectAccessReviewVersion": "v1",
                "failurePolicy": "Deny",
                "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": access_config},
                "matchConditions": [{"expression": "'hooks' in request.groups"},
                                    {"expression": "has(request.resourceAttributes)"}]}},
            {"type": "Node", "name": "node"}, {"type": "RBAC", "name": "rbac"}]}


make_ca("web-ca")
make_ca("proxy-ca")
make_cert("web", "web-ca", "/CN=web", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth")
make_cert("proxy", "proxy-ca", "/CN=front", "extendedKeyUsage=clientAuth")
make_cert("other", "proxy-ca", "/CN=stranger", "extendedKeyUsage=clientAuth")
with open(f"{DIR}/web-ca.crt") as f:
    web_ca = f.read()
issuer, second = Issuer(), Issuer()
discover = second.reply
third, elsewhere = Issuer(), {}  # of distributed claims only, and what endpoints of them answer
second.answer = lambda path, body: (
    (200, {"issuer": second.url, "jwks_uri": second.url + "/keys"}) if path == "/elsewhere" else
    elsewhere[path] if path in elsewhere else
    (404, {}) if path.startswith("/.well-known") else discover(path, body))
tokens, access = Https(review_token), Https(review_access)
access_config = kubeconfig("access.yaml", access.url, {"exec": {  # a program makes the token
    "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "interactiveMode": "Never",
    "args": ["-c", "echo '%s'" % json.dumps({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": "made-for-the-api-server"}})]}})
authn_file = write("authn.json", authentication("jwt:"))
authz_file = write("authz.json", authorization())
write("tokens.csv", 'static-secret,sam,uid-1,"team-a,team-b"\nplain-secret,pat,uid-2\n')

server = Server(
    "--datastore-endpoint", "memory://", "--api-loops", "1", "--enable-bootstrap-token-auth", "--token-auth-file", f"{DIR}/tokens.csv",
    "--authentication-config", authn_file, "--authorization-config", authz_file,
    "--authentication-token-webhook-config-file", kubeconfig("tokens.yaml", tokens.url),
    "--authentication-token-webhook-version", "v1",
    "--requestheader-client-ca-file", f"{DIR}/proxy-ca.crt", "--requestheader-allowed-names", "front",
    "--requestheader-username-headers", "X-Remote-User", "--requestheader-group-headers",
    "X-Remote-Group", "--requestheader-extra-headers-prefix", "X-Remote-Extra-")


def bearer(token, **more):
    return dict({"Authorization": f"Bearer {token}"}, **more)


def ask(method, path, token=None, body=None, headers=None):
    c = server.connect(anonymous=True)
    try:
        status, _, text = server.raw(method, path, body, dict(headers or {}, **(bearer(token) if token else {})),
                                     connection=c)
        return status, text.decode(errors="replace")
    finally:
        c.close()


REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


def whoami(token, headers=None, want=201):
    status, text = ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", token, REVIEW, headers)
    if want:
        equal(status, want, f"status of {text}")
    return json.loads(text)["status"]["userInfo"] if status == 201 else None


def test_static_tokens():
    sam = whoami("static-secret")
    equal(sam["username"], "sam")
    equal(sam["groups"], ["team-a", "team-b", "system:authenticated"])
    equal(whoami("plain-secret")["uid"], "uid-2")
    whoami("static-secre", want=401)


def secret(name, data, kind="bootstrap.kubernetes.io/token"):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "kube-system"},
            "type": kind, "stringData": data}


def test_bootstrap_tokens():
    data = {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:workers", "expiration": "2999-01-01T00:00:00Z"}
    path = "/api/v1/namespaces/kube-system/secrets"
    token = "abcdef.0123456789abcdef"
    whoami(token, want=401)
    server.api("POST", path, secret("bootstrap-token-abcdef", data))
    u = whoami(token)
    equal(u["username"], "system:bootstrap:abcdef")
    equal(u["groups"], ["system:bootstrappers", "system:bootstrappers:workers", "system:authenticated"])
    whoami("abcdef.0123456789abcdee", want=401)
    for text in ("ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef0", "abcdef-0123456789abcdef", "abcdef.",
                 "abcde.f0123456789abcdef", "abcdef.0123456789ABCDEF", ".0123456789abcdef"):
        whoami(text, want=401)
    for change in ({"expiration": "2001-01-01T00:00:00Z"}, {"usage-bootstrap-authentication": "false"},
                   {"expiration": "tomorrow"}, {"expiration": "2999-01-01"}, {"token-id": "abcdeg"},
                   {"token-secret": "0123456789abcdeg"}, {"token-secret": ""}, {"auth-extra-groups": "system:masters"},
                   {"auth-extra-groups": "system:bootstrappers:a,system:masters"},
                   {"auth-extra-groups": "system:bootstrappers:a,"}, {"auth-extra-groups": "system:bootstrappers:"},
                   {"usage-bootstrap-authentication": "True"}, {"usage-bootstrap-authentication": ""}):
        server.api("PUT", path + "/bootstrap-token-abcdef",
                   secret("bootstrap-token-abcdef", dict(data, **change)))
        whoami(token, want=401)
    # One that is about to go is gone.
    held = secret("bootstrap-token-abcdef", data)
    held["metadata"]["finalizers"] = ["example.org/held"]
    server.api("PUT", path + "/bootstrap-token-abcdef", held)
    whoami(token)
    server.api("DELETE", path + "/bootstrap-token-abcdef")
    equal(server.raw("GET", path + "/bootstrap-token-abcdef")[0], 200)
    whoami(token, want=401)
    server.api("PATCH", path + "/bootstrap-token-abcdef", {"metadata": {"finalizers": None}},
               {"Content-Type": "application/merge-patch+json"})
    whoami(token, want=401)
    # The type is part of it, and the namespace.
    server.api("POST", path, secret("bootstrap-token-abcdef", data, "Opaque"))
    whoami(token, want=401)
    server.api("DELETE", path + "/bootstrap-token-abcdef")
    elsewhere_path = "/api/v1/namespaces/default/secrets"
    other = dict(secret("bootstrap-token-abcdef", data), metadata={"name": "bootstrap-token-abcdef"})
    server.api("POST", elsewhere_path, other)
    whoami(token, want=401)
    server.api("DELETE", elsewhere_path + "/bootstrap-token-abcdef")


def test_bound_tokens():
    """What a token is bound to is looked for with every request: by name and by UID."""
    base = "/api/v1/namespaces/default"
    whole = f"{base}/serviceaccounts/bound/token"
    pod = {"metadata": {"name": "holder"}, "spec": {
        "serviceAccountName": "bound", "containers": [{"name": "c", "image": "i"}]}}

    def token(status=201, **ref):
        spec = {"expirationSeconds": 3600}
        if ref:
            spec["boundObjectRef"] = dict({"apiVersion": "v1"}, **ref)
        got, _, text = server.raw("POST", whole, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                                                  "spec": spec})
        equal(got, status, text)
        return json.loads(text)["status"]["token"] if status == 201 else json.loads(text)["message"]
    uid = server.api("POST", base + "/serviceaccounts", {"metadata": {"name": "bound"}})["metadata"]["uid"]
    first = server.api("POST", base + "/pods", pod)["metadata"]["uid"]
    by_pod, free = token(kind="Pod", name="holder", uid=first), token()
    u = whoami(by_pod)
    equal((u["username"], u["uid"]), ("system:serviceaccount:default:bound", uid))
    equal(u["extra"]["authentication.kubernetes.io/pod-name"], ["holder"])
    holds(token(409, kind="Pod", name="holder", uid=uid), "the UID in the bound object reference")
    token(404, kind="Pod", name="nobody")
    secret_uid = server.api("POST", base + "/secrets", {"metadata": {"name": "anchor"}})["metadata"]["uid"]
    by_secret = token(kind="Secret", name="anchor", uid=secret_uid)
    whoami(by_secret)
    server.api("DELETE", base + "/secrets/anchor")
    whoami(by_secret, want=401)
    server.api("POST", base + "/secrets", {"metadata": {"name": "anchor"}})
    whoami(by_secret, want=401)
    server.api("DELETE", base + "/pods/holder?gracePeriodSeconds=0")
    whoami(by_pod, want=401)
    server.api("POST", base + "/pods", pod)
    whoami(by_pod, want=401)
    # Claims that nobody signed: another pod, another account, no binding at all.
    head, claims, signature = by_pod.split(".")
    said = json.loads(base64.urlsafe_b64decode(claims + "=="))
    for change in ({"sub": "system:serviceaccount:kube-system:default"}, {"exp": said["exp"] + 1},
                   {"kubernetes.io": {k: v for k, v in said["kubernetes.io"].items() if k != "pod"}}):
        whoami(".".join((head, b64url(json.dumps({**said, **change}).encode()), signature)), want=401)
    for alg in ("none", "HS256", "RS256"):
        whoami(".".join((b64url(json.dumps({"alg": alg}).encode()), claims, signature)), want=401)
    key, kid = f"{server.data}/server/tls/service.key", server.get("/openid/v1/jwks")["keys"][0]["kid"]
    whoami(free)
    fresh = json.loads(base64.urlsafe_b64decode(free.split(".")[1] + "=="))
    equal(whoami(sign(key, kid, True, fresh))["uid"], uid)
    now = int(time.time())
    for change in ({"exp": now - 120}, {"nbf": now + 600}, {"iat": now + 600}, {"aud": ["other"]},
                   {"iss": "https://other"}, {"sub": "system:serviceaccount:default:default"}, {"exp": None},
                   {"kubernetes.io": None}, {"kubernetes.io": dict(fresh["kubernetes.io"], namespace="kube-system")},
                   {"kubernetes.io": dict(fresh["kubernetes.io"], node={"name": "nowhere", "uid": uid})}):
        text = sign(key, kid, True, {k: v for k, v in {**fresh, **change}.items() if v is not None})
        if "node" not in (change.get("kubernetes.io") or {}):
            whoami(text, want=401)
    # Without an audience it is for the API server, as tokens of old.
    equal(whoami(sign(key, kid, True, {**fresh, "aud": []}))["uid"], uid)
    server.api("DELETE", base + "/serviceaccounts/bound")
    whoami(free, want=401)
    server.api("POST", base + "/serviceaccounts", {"metadata": {"name": "bound"}})
    whoami(free, want=401)


def test_oidc():
    u = whoami(issuer.token(roles=["a", "b"], tenant="t1", jti="j1"))
    equal(u["username"], "jwt:jane")
    equal(u["uid"], "jane")
    equal(u["groups"], ["oidc:a", "oidc:b", "system:authenticated"])
    equal(u["extra"], {"authentication.kubernetes.io/credential-id": ["JTI=j1"],
                       "example.org/tenant": ["t1"]})
    equal(whoami(issuer.token(aud=["x", "other"]))["username"], "jwt:jane")
    for bad in ({"aud": "x"}, {"exp": int(time.time()) - 5}, {"nbf": int(time.time()) + 3600}, {"banned": 1},
                {"iss": "https://nobody.example.org"}, {"exp": int(time.time()) + 90000}):
        whoami(issuer.token(**bad), want=401)
    token = issuer.token()
    whoami(token[:-6] + ("AAAAAA" if token[-6:] != "AAAAAA" else "BBBBBB"), want=401)
    head, claims, _ = token.split(".")
    whoami(b64url(b'{"alg":"none"}') + "." + claims + ".", want=401)
    u = whoami(second.token(email="a@b.c", email_verified=True, groups="one"))
    equal((u["username"], u["groups"]), ("second:a@b.c", ["one", "system:authenticated"]))
    whoami(second.token(email="a@b.c", email_verified=False), want=401)
    whoami(second.token(), want=401)


def review(token):
    r = server.api("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token}})["status"]
    return r if r.get("authenticated") else r["error"]


def distributed(name, answer, status=200, source=None, **claims):
    """A review of a token whose groups are at /NAME, which answers so."""
    elsewhere["/" + name] = (status, answer.encode() if isinstance(answer, str) else answer)
    source = source or {"endpoint": f"{second.url}/{name}", "access_token": name + "-secret"}
    return review(second.token(**dict({
        "email": "d@b.c", "_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": source}}, **claims)))


def test_distributed_claims():
    expand = "oidc: could not expand distributed claims: "
    groups = [f"team-{n}-with-quite-a-long-name" for n in range(900)]  # more than a token may have
    r = distributed("list", second.token(groups=groups))
    equal(r["user"]["groups"], groups + ["system:authenticated"])
    equal(second.bearer, "Bearer list-secret")
    equal(distributed("text", second.token(groups="one"))["user"]["groups"], ["one", "system:authenticated"])
    equal(distributed("third", third.token(groups=["of-third"]) + "\n")["user"]["groups"],
          ["of-third", "system:authenticated"])
    # A claim of the token's own is not asked for; aggregated ones are left alone.
    r = distributed("unasked", "junk", groups=["own"])
    equal(r["user"]["groups"], ["own", "system:authenticated"])
    check(not any(path == "/unasked" for path, _ in second.asked), "asked in vain")
    r = distributed("aggregated", "junk", source={"JWT": second.token(groups=["x"])})
    equal(r["user"]["groups"], ["system:authenticated"])
    r = distributed("other", "junk", _claim_names={"roles": "src1"})
    equal(r["user"]["groups"], ["system:authenticated"])
    url = second.url
    past = int(time.time()) - 60
    for text, want in (
            (distributed("aud", second.token(groups="x", aud="your-client")),
             expand + 'verify distributed claim token: oidc: expected audience "kinglet" got ["your-client"]'),
            (distributed("old", second.token(groups="x", exp=past)),
             expand + "verify distributed claim token: oidc: token is expired (Token Expiry: "
             + time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(past)) + ")"),
            (distributed("soon", second.token(groups="x", nbf=past + 600)),
             expand + "verify distributed claim token: oidc: current time "),
            (distributed("forged", sign(third.key, second.kid, False, {
                "iss": url, "aud": "kinglet", "exp": past + 600, "groups": ["system:masters"]})),
             expand + "verify distributed claim token: failed to verify signature: "),
            (distributed("alg", b64url(b'{"alg":"none"}') + "." + second.token(groups="x").split(".")[1] + "."),
             expand + 'verify distributed claim token: oidc: id token signed with unsupported algorithm, '
             'expected ["RS256" '),
            (distributed("empty", second.token()),
             expand + f'jwt returned by distributed claim endpoint "{url}/empty" did not contain claim: groups'),
            (distributed("gone", "", status=404),
             expand + 'while getting distributed claim "groups": error while getting distributed claim JWT: '
             "404 Not Found"),
            (distributed("junk", "junk"), expand + f'getting untrusted issuer from endpoint {url}/junk failed '
             'for claim "groups": malformed token'),
            (distributed("json", '{"groups":["x"]}'), expand + f'getting untrusted issuer from endpoint '
             f'{url}/json failed for claim "groups": token is not compact JWT'),
            (distributed("nobody", third.token(groups="x", iss="https://127.0.0.1:1")),
             expand + "verifying untrusted issuer https://127.0.0.1:1 failed: verifier not initialized for "
             'issuer: "https://127.0.0.1:1"'),
            (distributed("huge", "x" * 600000), expand + 'while getting distributed claim "groups": Get "'),
            (distributed("header", "x", source={"endpoint": url + "/header", "access_token": "a\r\nX-Evil: 1"}),
             expand + f'while getting distributed claim "groups": Get "{url}/header": net/http: invalid header '
             'field value for "Authorization"'),
            (distributed("plain", "x", source={"endpoint": url.replace("https", "http") + "/plain"}),
             expand + 'while getting distributed claim "groups": while calling http://'),
            (distributed("no", "x", _claim_names={"groups": "src2"}), "oidc: verify token: oidc: source does not exist"),
            (distributed("no", "x", _claim_names={"groups": ""}),
             "oidc: verify token: oidc: failed to obtain source from claim name"),
            (distributed("no", "x", _claim_sources=None), "oidc: verify token: oidc: source does not exist"),
            (distributed("no", "x", _claim_names=["groups"]),
             "oidc: verify token: oidc: failed to unmarshal claims: json: cannot unmarshal array into Go struct "
             "field idToken._claim_names of type map[string]string"),
            (distributed("no", "x", _claim_names={}, _claim_sources={"a": {"endpoint": 5}}),
             "oidc: verify token: oidc: failed to unmarshal claims: json: cannot unmarshal number into Go struct "
             "field ")):
        check(isinstance(text, str), text)
        check(f"[invalid bearer token, {want}" in text, f"want {want}\ngot  {text}")
    # No request of its own had a token in it.
    equal(whoami(second.token(email="d@b.c", _claim_names={"groups": "a"}, _claim_sources={
        "a": {"endpoint": url + "/list"}}))["groups"], groups + ["system:authenticated"])
    equal(second.bearer, None)


def test_oidc_rotation():
    old = issuer.token()
    whoami(old)
    asked = len(issuer.asked)
    for _ in range(20):
        whoami(old)
    equal(len(issuer.asked), asked, "questions to the issuer for known keys")
    issuer.rotate(curve="P-256")
    equal(whoami(issuer.token())["username"], "jwt:jane")
    whoami(old, want=401)
    issuer.up = False  # what is known goes on
    equal(whoami(issuer.token())["username"], "jwt:jane")
    issuer.up = True


def test_configuration_is_reloaded():
    write("authn.json", authentication("new:"))
    wait_for(lambda: whoami(issuer.token())["username"] == "new:jane", "the new configuration")
    broken = authentication("never:")
    broken["jwt"][0]["claimMappings"]["username"]["expression"] = "claims.sub +"
    write("authn.json", broken)
    wait_for(lambda: "not reloaded" in server.log_tail(20000), "the broken one is told of")
    equal(whoami(issuer.token())["username"], "new:jane")
    write("authn.json", authentication("jwt:"))
    wait_for(lambda: whoami(issuer.token())["username"] == "jwt:jane", "the old configuration")


def test_anonymous_paths():
    equal(ask("GET", "/livez")[0], 200)
    equal(ask("GET", "/version")[0], 401)
    equal(ask("GET", "/api/v1/namespaces")[0], 401)
    for path in ("/livez/", "/livez/ping", "//livez", "/LIVEZ", "/version/../livez", "/livez%2f", "/livez/../version",
                 "/livez;/version", "/version?path=/livez", "/api/v1/namespaces#/livez", "/livez%00"):
        status = ask("GET", path)[0]
        check(status in (401, 400), f"{path}: {status}")
    equal(ask("GET", "/livez?verbose")[0], 200)


def test_impersonation():
    server.kubectl("create", "clusterrole", "as-sam", "--verb=impersonate", "--resource=users", "--resource-name=sam")
    server.kubectl("create", "clusterrolebinding", "pat-as-sam", "--clusterrole=as-sam", "--user=pat")
    for headers, want in (
            ({"Impersonate-User": "sam"}, 201),
            ({"Impersonate-User": "sam", "Impersonate-Group": "system:masters"}, 403),
            ({"Impersonate-User": "sam", "Impersonate-Uid": "7"}, 403),
            ({"Impersonate-User": "sam", "Impersonate-Extra-Scopes": "all"}, 403),
            ({"Impersonate-User": "sam", "Impersonate-Extra-A%2fb": "all"}, 403),
            ({"Impersonate-User": "system:masters"}, 403), ({"Impersonate-User": "Sam"}, 403),
            ({"Impersonate-User": "system:serviceaccount:kube-system:default"}, 403),
            ({"Impersonate-Group": "system:masters"}, 400), ({"Impersonate-Uid": "7"}, 400),
            ({"Impersonate-Extra-x": "1"}, 400), ({"Impersonate-User": ""}, 201)):
        u = whoami("plain-secret", headers, want)
        if want == 201:
            equal(u["username"], headers["Impersonate-User"] or "pat")
    # Who is impersonated has none of the caller's groups, and nobody's who calls.
    equal(whoami("plain-secret", {"Impersonate-User": "sam"})["groups"], ["system:authenticated"])
    for verb, what in (("users", "*"), ("groups", "team-x"), ("uids", "u-9"), ("userextras/scopes", "read")):
        name = what.replace("*", "any")
        server.api("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", {
            "metadata": {"name": f"as-{name}"}, "rules": [dict(
                {"verbs": ["impersonate"], "resources": [verb],
                 "apiGroups": ["authentication.k8s.io"] if verb[:4] in ("uids", "user") and verb != "users" else [""]},
                **({} if what == "*" else {"resourceNames": [what]}))]})
        server.kubectl("create", "clusterrolebinding", f"sam-as-{name}", f"--clusterrole=as-{name}", "--user=sam")
    full = {"Impersonate-User": "zoe", "Impersonate-Group": "team-x", "Impersonate-Uid": "u-9",
            "Impersonate-Extra-Scopes": "read"}
    u = whoami("static-secret", full)
    equal((u["username"], u["groups"], u["uid"], u["extra"]),
          ("zoe", ["team-x", "system:authenticated"], "u-9", {"scopes": ["read"]}))
    for change in ({"Impersonate-Group": "team-y"}, {"Impersonate-Uid": "u-8"}, {"Impersonate-Extra-Scopes": "write"},
                   {"Impersonate-Extra-Scope": "read"}):
        whoami("static-secret", dict(full, **change), 403)
    # system:anonymous is in the other group.
    u = whoami("static-secret", {"Impersonate-User": "system:anonymous"}, want=None)
    equal(u, None)


def test_token_webhook():
    u = whoami("hook-one")
    equal((u["username"], u["uid"]), ("hooked", "7"))
    equal(u["groups"], ["hooks", "system:authenticated"])
    equal(u["extra"], {"example.org/x": ["1", "2"]})
    n = len(tokens.asked)
    whoami("hook-one")
    equal(len(tokens.asked), n, "a known token is not asked for again")
    _, body = tokens.asked[-1]
    equal(body["spec"], {"token": "hook-one", "audiences": ["https://kubernetes.default.svc.cluster.local"]})
    for bad in ("hook-unknown", "hook-garbage", "hook-broken"):
        whoami(bad, want=401)


def test_slow_webhook_stops_nobody():
    answers = []
    waiting = [threading.Thread(target=lambda: answers.append(whoami("hook-slow"))) for _ in range(8)]
    for t in waiting:
        t.start()
    wait_for(lambda: any(b["spec"]["token"] == "hook-slow" for _, b in tokens.asked), "it is asked")
    equal(whoami("static-secret")["username"], "sam")
    equal(answers, [])
    released.set()
    for t in waiting:
        t.join(240)
    equal([a["username"] for a in answers], ["slow"] * 8)
    equal(sum(b["spec"]["token"] == "hook-slow" for _, b in tokens.asked), 1, "questions for one token")


def test_authorization_webhook():
    for ns in ("hooked", "denied", "garbage", "quiet"):
        server.api("POST", "/api/v1/namespaces", {"metadata": {"name": ns}})
    status, _ = ask("GET", "/api/v1/namespaces/hooked/pods?labelSelector=a%3Db&fieldSelector=spec.nodeName%3Dx",
                    "hook-may")
    equal(status, 200)
    spec = access.asked[-1][1]["spec"]
    equal(spec["user"], "may")
    equal(spec["resourceAttributes"], {
        "namespace": "hooked", "verb": "list", "version": "v1", "resource": "pods",
        "fieldSelector": {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["x"]}]},
        "labelSelector": {"requirements": [{"key": "a", "operator": "In", "values": ["b"]}]}})
    status, text = ask("GET", "/api/v1/namespaces/denied/pods", "hook-may")
    equal(status, 403)
    holds(text, 'pods is forbidden: User .*may.* cannot list resource .*: the webhook says no')
    equal(ask("GET", "/api/v1/namespaces/garbage/pods", "hook-may")[0], 403)
    equal(ask("GET", "/api/v1/namespaces/quiet/pods", "hook-may")[0], 403)
    n = len(access.asked)
    equal(ask("GET", "/api/v1/namespaces/quiet/pods", "hook-may")[0], 403)
    equal(ask("GET", "/api/v1/namespaces/hooked/pods/x", "static-secret")[0], 403)  # does not match
    equal(ask("GET", "/healthz", "hook-may")[0], 200)  # nor does this
    equal(len(access.asked), n, "answers are kept, conditions are kept to")
    # A WebSocket's GET: for "create" too, and both answers are waited for.
    equal(ask("GET", "/api/v1/namespaces/hooked/pods/x/exec?command=a", "hook-may")[0], 404)
    asked = [a[1]["spec"]["resourceAttributes"] for a in access.asked[n:]]
    equal([(a["verb"], a["subresource"], a["name"]) for a in asked],
          [("get", "exec", "x"), ("create", "exec", "x")])
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
              "spec": {"user": "may", "groups": ["hooks"],
                       "resourceAttributes": {"namespace": "denied", "verb": "get", "resource": "pods"}}}
    got = server.api("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]
    equal(got, {"allowed": False, "denied": True, "reason": "the webhook says no"})


def test_admission_asks_the_webhook():
    json_body = {"Content-Type": "application/json"}
    certificates = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x",
            "-keyout", f"{DIR}/hooked.key", "-out", f"{DIR}/hooked.csr")
    with open(f"{DIR}/hooked.csr", "rb") as f:
        request = base64.b64encode(f.read()).decode()
    csr = server.api("POST", certificates, {"metadata": {"name": "hooked"}, "spec": {
        "request": request, "signerName": "example.com/hooked", "usages": ["client auth"]}})
    csr["status"] = {"conditions": [{"type": "Approved", "status": "True", "reason": "test"}]}
    status, text = ask("PUT", certificates + "/hooked/approval", "hook-may", json.dumps(csr), json_body)
    equal(status, 200, text)  # CertificateApproval: the webhook knows who may approve
    # A policy's `authorizer` waits for it too, whatever the policy makes of the answer.
    admission = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
    allowed = "authorizer.group('').resource('{}').namespace('hooked').check('frob').allowed()"
    for name, expression in (("asked", allowed.format("widgets")), ("refused", "!" + allowed.format("gadgets"))):
        server.api("POST", admission + "ies", {"metadata": {"name": name}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                                                    "resources": ["configmaps"]}]},
            "matchConditions": [{"name": "n", "expression": f"object.metadata.name == '{name}'"}],
            "validations": [{"expression": expression, "message": "the webhook allows it"}]}})
        server.api("POST", admission + "ybindings", {"metadata": {"name": name}, "spec": {
            "policyName": name, "validationActions": ["Deny"]}})
    for name, want in (("asked", 201), ("refused", 422)):
        status, text = ask("POST", "/api/v1/namespaces/hooked/configmaps", "hook-may",
                           json.dumps({"metadata": {"name": name}}), json_body)
        equal(status, want, text)
        server.api("DELETE", f"{admission}ybindings/{name}")
        server.api("DELETE", f"{admission}ies/{name}")


def proxied(cert, headers):
    c = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=240, context=context_of(cert))
    try:
        return server.raw("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", REVIEW, headers, c)
    finally:
        c.close()


def context_of(name):
    context = ssl.create_default_context(cafile=os.path.join(server.home, "certificate-authority.pem"))
    context.load_cert_chain(f"{DIR}/{name}.crt", f"{DIR}/{name}.key")
    return context


def test_front_proxy():
    headers = {"X-Remote-User": "paula", "X-Remote-Group": "proxied", "X-Remote-Extra-Example.org%2fa": "v"}
    status, _, text = proxied("proxy", headers)
    equal(status, 201, text.decode())
    u = json.loads(text)["status"]["userInfo"]
    equal((u["username"], u["groups"], u["extra"]),
          ("paula", ["proxied", "system:authenticated"], {"example.org/a": ["v"]}))
    equal(proxied("other", headers)[0], 401)
    equal(whoami("static-secret", headers)["username"], "sam")
    data = server.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")["data"]
    check("client-ca-file" in data, data)
    equal(json.loads(data["requestheader-allowed-names"]), ["front"])
    with open(f"{DIR}/proxy-ca.crt") as f:
        equal(data["requestheader-client-ca-file"], f.read())


def test_rules():
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}}
    status, text = ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", "static-secret", review)
    equal(status, 201, text)
    got = json.loads(text)["status"]
    equal((got["incomplete"], got["evaluationError"]),
          (True, "webhook authorizer does not support user rule resolution"))
    check(any("selfsubjectreviews" in r["resources"] for r in got["resourceRules"]), got)


def test_jwks():
    keys = server.get("/openid/v1/jwks")["keys"]
    equal([k["alg"] for k in keys], ["ES256"])
    found = server.get("/.well-known/openid-configuration")
    equal(found["issuer"], "https://kubernetes.default.svc.cluster.local")


def test_secret_tokens():
    """What the controller of old put into Secrets."""
    account = server.api("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "old"}})
    key = f"{server.data}/server/tls/service.key"
    claims = {"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:default:old",
              "kubernetes.io/serviceaccount/namespace": "default",
              "kubernetes.io/serviceaccount/secret.name": "old-token",
              "kubernetes.io/serviceaccount/service-account.name": "old",
              "kubernetes.io/serviceaccount/service-account.uid": account["metadata"]["uid"]}
    token = sign(key, server.get("/openid/v1/jwks")["keys"][0]["kid"], True, claims)
    whoami(token, want=401)
    path = "/api/v1/namespaces/default/secrets"
    server.api("POST", path, {"metadata": {"name": "old-token", "annotations": {
        "kubernetes.io/service-account.name": "old"}}, "type": "kubernetes.io/service-account-token",
        "stringData": {"token": token}})
    equal(whoami(token)["username"], "system:serviceaccount:default:old")
    server.api("DELETE", path + "/old-token")
    whoami(token, want=401)


def certificate_for(name, subject, group=None):
    """Through a CertificateSigningRequest, as a user gets one."""
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject,
            "-keyout", f"{DIR}/{name}.key", "-out", f"{DIR}/{name}.csr")
    with open(f"{DIR}/{name}.csr", "rb") as f:
        request = base64.b64encode(f.read()).decode()
    server.apply({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
                  "metadata": {"name": name},
                  "spec": {"request": request, "signerName": "kubernetes.io/kube-apiserver-client",
                           "usages": ["client auth"], "expirationSeconds": 3600}})
    holds(server.kubectl("get", "csr", name), "Pending")
    server.kubectl("certificate", "approve", name)
    pem = wait_for(lambda: server.get(f"/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}")
                   ["status"].get("certificate"), "the certificate")
    write(f"{name}.crt", base64.b64decode(pem).decode())
    holds(server.kubectl("get", "csr", name), "Approved,Issued")


def test_certificate_requests():
    certificate_for("csr-user", "/O=dev/O=ops/CN=carl")
    server.kubectl("create", "clusterrolebinding", "devs", "--clusterrole=view", "--group=dev")
    config = os.path.join(DIR, "carl.yaml")
    base = ["config", "--kubeconfig", config]
    server.kubectl(*base, "set-cluster", "k", f"--server=https://127.0.0.1:{server.port}", "--embed-certs",
                   "--certificate-authority", os.path.join(server.home, "certificate-authority.pem"))
    server.kubectl(*base, "set-credentials", "carl", "--embed-certs", "--client-certificate",
                   f"{DIR}/csr-user.crt", "--client-key", f"{DIR}/csr-user.key")
    server.kubectl(*base, "set-context", "c", "--cluster=k", "--user=carl")
    server.kubectl(*base, "use-context", "c")
    holds(server.kubectl("--kubeconfig", config, "auth", "whoami"), r"Username\s+carl", r"dev ops")
    server.kubectl("--kubeconfig", config, "get", "configmaps")
    holds(server.kubectl_fails("--kubeconfig", config, "create", "configmap", "no"),
          'User "carl" cannot create resource "configmaps"')
    # What was approved cannot be denied, and a request that is none is not taken.
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests/csr-user"
    csr = server.get(path)
    csr["status"]["conditions"].append({"type": "Denied", "status": "True", "reason": "late"})
    status, _, text = server.raw("PUT", path + "/approval", csr)
    equal(status, 422, text)
    holds(text.decode(), "Approved and Denied conditions are mutually exclusive")
    del csr["status"]["conditions"][:]
    equal(server.raw("PUT", path + "/approval", csr)[0], 422, "a decision is taken back")
    csr["spec"]["signerName"] = "example.com/other"
    equal(server.api("PUT", path, csr)["spec"]["signerName"], "kubernetes.io/kube-apiserver-client")
    bad = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
           "metadata": {"name": "bad"}, "spec": {"request": base64.b64encode(b"junk").decode(),
                                                 "signerName": "example.com/x", "usages": ["client auth"]}}
    status, _, text = server.raw("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", bad)
    equal(status, 422, text)
    holds(text.decode(), "PEM block type must be CERTIFICATE REQUEST")
    check_forged_request()
    check_signers_part(path)


def check_forged_request():
    """A signature that does not fit is told together with everything else."""
    pem = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=f",
                  "-keyout", "/dev/null").decode()
    lines = pem.strip().split("\n")
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    der[-1] ^= 1
    forged = "\n".join((lines[0], base64.b64encode(der).decode(), lines[-1])) + "\n"
    status, _, text = server.raw("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", {
        "metadata": {"name": "forged"}, "spec": {
            "request": base64.b64encode(forged.encode()).decode(), "signerName": "nosigner",
            "usages": ["client auth", "client auth", "odd"], "expirationSeconds": 5}})
    equal(status, 422, text)
    causes = json.loads(text)["details"]["causes"]
    equal([c["field"] for c in causes], ["spec.request", "spec.usages[2]", "spec.usages[1]", "spec.signerName",
                                         "spec.expirationSeconds"])
    holds(causes[0]["message"], '^Invalid value: ".+": x509: signature does not fit')


def check_signers_part(path):
    """What a signer writes: no junk, nothing in place of what is there; a decision stays as it was."""
    csr = server.get(path)
    decided = csr["status"]["conditions"][0]
    csr["status"]["conditions"][0] = dict(decided, reason="other", message="words")
    equal(server.api("PUT", path + "/status", csr)["status"]["conditions"][0], decided)
    before, other = csr["status"]["certificate"], "/apis/certificates.k8s.io/v1/certificatesigningrequests/unsigned"
    csr["status"]["certificate"] = base64.b64encode(b"x").decode()
    holds(server.raw("PUT", path + "/status", csr)[2].decode(), "updates may not modify existing certificate content")
    server.api("POST", os.path.dirname(other), {"metadata": {"name": "unsigned"}, "spec": {
        "request": csr["spec"]["request"], "signerName": "example.com/x", "usages": ["client auth"]}})
    good = base64.b64decode(before).decode()
    for pem, why in (("junk", "must contain at least one CERTIFICATE PEM block"),
                     ("-----BEGIN X-----\nanVuaw==\n-----END X-----\n", "only CERTIFICATE PEM blocks are allowed"),
                     ("-----BEGIN CERTIFICATE-----\nanVuaw==\n-----END CERTIFICATE-----\n", "x509: malformed certificate"),
                     (good + "-----BEGIN CERTIFICATE-----\nanVuaw==\n-----END CERTIFICATE-----\n",
                      "x509: malformed certificate"),
                     (good.replace("-----\n", "-----\nProc-Type: x\n\n", 1), "no PEM block headers are permitted")):
        body = {"status": {"certificate": base64.b64encode(pem.encode()).decode()}}
        status, _, text = server.raw("PATCH", other + "/status", body, {"Content-Type": "application/merge-patch+json"})
        equal(status, 422, f"{pem}: {text}")
        holds(json.loads(text)["message"], f'status.certificate: Invalid value: "<certificate data>": {why}')
    body = {"status": {"certificate": base64.b64encode((good + good).encode()).decode()}}
    server.api("PATCH", other + "/status", body, {"Content-Type": "application/merge-patch+json"})


def request_for(name, subject, signer, usages, token=None, context=None, ext=None):
    """A node's request, made as that node or with a token; gives the object."""
    args = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject,
            "-keyout", f"{DIR}/{name}.key"]
    args += ["-addext", ext] if ext else []
    body = {"metadata": {"name": name}, "spec": {
        "request": base64.b64encode(openssl(*args)).decode(), "signerName": f"kubernetes.io/{signer}",
        "usages": ["digital signature", *usages]}}
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    if token:
        status, text = ask("POST", path, token, json.dumps(body), {"Content-Type": "application/json"})
    else:
        c = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=240, context=context or server.ssl)
        status, _, text = server.raw("POST", path, body, connection=c)
        c.close()
    equal(status, 201, text)
    return path + "/" + name


def issued(path):
    pem = wait_for(lambda: server.get(path)["status"].get("certificate"), f"a certificate for {path}")
    return write(path.split("/")[-1] + ".crt", base64.b64decode(pem).decode())


def test_kubelet_certificates():
    server.api("POST", "/api/v1/namespaces/kube-system/secrets", secret("bootstrap-token-knode1", {
        "token-id": "knode1", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"}))
    for name, role, group in (("a", "system:node-bootstrapper", "system:bootstrappers"),
                              ("b", "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
                               "system:bootstrappers"),
                              ("c", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
                               "system:nodes")):
        server.kubectl("create", "clusterrolebinding", f"kubelets-{name}", f"--clusterrole={role}", f"--group={group}")
    node, token = "/O=system:nodes/CN=system:node:n1", "knode1.0123456789abcdef"
    first = request_for("node-first", node, "kube-apiserver-client-kubelet", ["client auth"], token)
    issued(first)
    equal(server.get(first)["spec"]["username"], "system:bootstrap:knode1")
    holds(server.get(first)["status"]["conditions"][0]["message"], "^Auto approving kubelet client certificate")
    again = request_for("node-again", node, "kube-apiserver-client-kubelet", ["client auth"],
                        context=context_of("node-first"))
    issued(again)
    holds(server.get(again)["status"]["conditions"][0]["message"], "^Auto approving self kubelet")
    # What kubelets serve is for somebody to approve, and comes from the other CA.
    serving = request_for("node-serving", node, "kubelet-serving", ["server auth"],
                          context=context_of("node-again"), ext="subjectAltName=DNS:n1,IP:10.0.0.1")
    server.kubectl("certificate", "approve", "node-serving")
    text = openssl("x509", "-in", issued(serving), "-noout", "-text").decode()
    holds(text, "Issuer: .*server-ca", "DNS:n1, IP Address:10.0.0.1", "TLS Web Server Authentication", "CA:FALSE")
    strange = request_for("strange", "/O=others/CN=system:node:n1", "kube-apiserver-client-kubelet", ["client auth"])
    server.kubectl("certificate", "approve", "strange")
    wait_for(lambda: any(c["type"] == "Failed" and c["message"] == "subject organization is not system:nodes"
                         for c in server.get(strange)["status"]["conditions"]), "it fails")


def certificate(*args):
    done = subprocess.run([KINGLET, "certificate", *args, "--data-dir", server.data], capture_output=True,
                          text=True)
    equal(done.returncode, 0, done.stderr)
    return done.stdout


def open_watch(context=None, headers=None):
    c = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=240, context=context or server.ssl_anonymous)
    c.request("GET", "/api/v1/namespaces/default/configmaps?watch=true", headers=headers or {})
    r = c.getresponse()
    equal(r.status, 200)
    return r, c


def ended(watch):
    r, c = watch
    while r.readline():  # what is still to come; a watch that stays open runs into the time-out
        pass
    c.close()


def test_revoke():
    server.kubectl("create", "clusterrolebinding", "gwen", "--clusterrole=view", "--user=gwen")
    certificate_for("gone", "/O=dev/CN=gwen")
    ctx = context_of("gone")
    by_user = open_watch(ctx)
    serial = openssl("x509", "-in", f"{DIR}/gone.crt", "-noout", "-serial").decode().strip().split("=")[1]
    idle = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=240, context=ctx)
    path = "/api/v1/namespaces/default/configmaps"
    equal(server.raw("GET", path, connection=idle)[0], 200)
    for unclear in ("12345678901234567890", "1000"):  # hexadecimal, decimal or somebody's name?
        done = subprocess.run([KINGLET, "certificate", "revoke", unclear, "--data-dir", server.data],
                              capture_output=True, text=True)
        equal(done.returncode, 2, done.stdout)
        holds(done.stderr, "hexadecimal", "with 0x before it")
    certificate("revoke", "0x000" + serial)  # leading zeros mean nothing
    equal(server.raw("GET", path, connection=idle)[0], 401)
    ended(by_user)
    holds(certificate("list"), rf"^serial\s+\S+Z\s+{serial.lower().lstrip('0')}$")
    certificate("restore", ":".join(re.findall("..", serial)))
    idle.close()
    idle = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=240, context=ctx)
    equal(server.raw("GET", path, connection=idle)[0], 200)
    certificate("revoke", "gwen")
    equal(server.raw("GET", path, connection=idle)[0], 401)
    certificate("restore", "gwen")
    idle.close()


def test_revoke_service_account():
    server.kubectl("create", "serviceaccount", "robot")
    server.kubectl("create", "clusterrolebinding", "robots", "--clusterrole=view", "--serviceaccount=default:robot")
    name = "system:serviceaccount:default:robot"
    token = server.kubectl("create", "token", "robot").strip()
    watch = open_watch(headers=bearer(token))
    certificate("revoke", name)
    whoami(token, want=401)
    ended(watch)
    review = server.api("POST", "/apis/authentication.k8s.io/v1/tokenreviews",
                        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                         "spec": {"token": token}})
    check(not review["status"].get("authenticated"), review)
    # What is made afterwards is good.
    def works():
        fresh = server.kubectl("create", "token", "robot").strip()
        return ask("GET", "/api/v1/namespaces/default/configmaps", fresh)[0] == 200
    wait_for(works, "a new token is good")
    whoami(token, want=401)
    certificate("restore", name)
    equal(whoami(token)["username"], name)


def test_no_secret_in_the_log():
    with open(server.log, errors="replace") as f:
        log = f.read()
    equal((tokens.bearer, access.bearer), ("Bearer of-the-api-server", "Bearer made-for-the-api-server"))
    for secret_text in ("static-secret", "hook-one", "hook-garbage", "for-the-api-server", "of-the-api-server",
                        "0123456789abcdef", "PRIVATE KEY"):
        check(secret_text not in log, f"{secret_text} is in the log")


run(server)
