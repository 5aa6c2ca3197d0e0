#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Aggregated API servers: availability, discovery, OpenAPI, and requests passed on with who asks.
The aggregated server is a small one of this program, over TLS."""
import base64
import contextlib
import http.client
import http.server
import json
import os
import ssl
import subprocess
import threading
from lib import KINGLET, Server, check, equal, fail, free_port, holds, own_address, protobuf_fields, run, temp_dir, wait_for

server = Server()
GROUP, VERSION = "wardle.example.com", "v1beta1"
NAME = f"{VERSION}.{GROUP}"
FLUNDERS = f"/apis/{GROUP}/{VERSION}/namespaces/{{namespace}}/flunders"
RESOURCES = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}",
             "resources": [{"name": "flunders", "singularName": "flunder", "namespaced": True,
                            "kind": "Flunder", "verbs": ["get", "list", "watch", "create"],
                            "shortNames": ["fl"]},
                           {"name": "flunders/status", "singularName": "", "namespaced": True,
                            "kind": "Flunder", "verbs": ["get"]}]}
FLUNDER = {"kind": "Flunder", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {"name": "one"}}
OPENAPI = {"openapi": "3.0.0", "info": {"title": "wardle", "version": "1"}, "paths": {},
           "components": {"schemas": {"com.example.Flunder": {
               "type": "object", "properties": {"spec": {"type": "object"}},
               "x-kubernetes-group-version-kind": [
                   {"group": GROUP, "kind": "Flunder", "version": VERSION}]}}}}


META = "io.k8s.apimachinery.pkg.apis.meta.v1."
SAME = META + "GroupVersionForDiscovery"
# A definition that we have too, one of the same name that says something else, one of the own group
# that refers to both, and one that only a path of another version needs.
V2 = {"swagger": "2.0", "info": {"title": "wardle", "version": "1"},
      "paths": {FLUNDERS: {"get": {"operationId": "list", "parameters": [{"$ref": "#/parameters/dry"},
                                                                         {"$ref": "#/parameters/pretty-tJGM1-ng"}],
                                   "responses": {"200": {"description": "OK", "schema": {
                                       "$ref": "#/definitions/com.example.Flunder"}}}}},
                f"/apis/{GROUP}/v1alpha1/other": {"get": {"responses": {"200": {"description": "OK", "schema": {
                    "$ref": "#/definitions/com.example.Other"}}}}}},
      "parameters": {"dry": {"name": "dry", "in": "query", "type": "string"},
                     "pretty-tJGM1-ng": {"name": "pretty", "in": "query", "type": "boolean"}},
      "definitions": {"com.example.Flunder": {"type": "object", "properties": {
                          "status": {"$ref": f"#/definitions/{META}Status"},
                          "kind": {"$ref": f"#/definitions/{SAME}"}},
                          "x-kubernetes-group-version-kind": [
                              {"group": GROUP, "kind": "Flunder", "version": VERSION}]},
                      "com.example.Other": {"type": "object"}, "com.example.Unused": {"type": "string"},
                      META + "Status": {"type": "string", "description": "quite another"}}}


class Extension(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen, asked_by, old = [], None, False  # old: nothing of OpenAPI version 3
    go_on = threading.Event()

    def log_message(self, *_):
        pass

    def answer(self, body, status=200, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Flunder", "yes")
        self.end_headers()
        self.wfile.write(data)

    def note(self, body=b""):
        cert = self.connection.getpeercert()
        names = [v for rdn in (cert or {}).get("subject", ()) for k, v in rdn if k == "commonName"]
        self.seen.append({"method": self.command, "path": self.path, "cn": names, "body": body,
                          "headers": [(k.lower(), v) for k, v in self.headers.items()]})

    def do_GET(self):
        self.note()
        path = self.path.split("?")[0]
        if path == f"/apis/{GROUP}/{VERSION}":
            self.answer(RESOURCES)
        elif path == "/apis/node.k8s.io/v1":
            self.answer({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "node.k8s.io/v1",
                         "resources": [{"name": "runtimeclasses", "singularName": "", "namespaced": False,
                                        "kind": "RuntimeClass", "verbs": ["list"]}]})
        elif path == "/apis/node.k8s.io/v1/runtimeclasses":
            self.answer({"kind": "RuntimeClassList", "apiVersion": "node.k8s.io/v1", "metadata": {},
                         "items": [{"metadata": {"name": "theirs"}, "handler": "x"}]})
        elif path == "/openapi/v2":
            Extension.asked_by = dict(self.seen[-1]["headers"])
            self.answer(V2)
        elif path == "/apis/old.example.com/v1":
            self.answer(dict(RESOURCES, groupVersion="old.example.com/v1"))
        elif path == "/openapi/v3" and Extension.old:
            self.answer(b"404 page not found", 404, "text/plain")
        elif path == "/openapi/v3":
            self.answer({"paths": {f"apis/{GROUP}/{VERSION}": {
                "serverRelativeURL": f"/openapi/v3/apis/{GROUP}/{VERSION}?hash=F1"}}})
        elif path == f"/openapi/v3/apis/{GROUP}/{VERSION}":
            self.answer(OPENAPI)
        elif "watch=true" in self.path:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.event()
            self.go_on.wait(240)
            with contextlib.suppress(OSError):  # a watch that was cut off
                self.event()
                self.wfile.write(b"0\r\n\r\n")
        elif path.endswith("/flunders"):
            self.answer({"kind": "FlunderList", "apiVersion": f"{GROUP}/{VERSION}",
                         "metadata": {}, "items": [FLUNDER]})
        elif path.endswith("/flunders/large"):
            self.answer(b"x" * (3 << 20), kind="text/plain")
        elif path.endswith("/flunders/one"):
            self.answer(FLUNDER)
        elif self.headers.get("Upgrade") == "echo":
            self.send_response(101)
            self.send_header("Upgrade", "echo")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            self.wfile.write(self.rfile.read(5)[::-1])
            self.close_connection = True
        else:
            self.answer({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                         "reason": "NotFound", "code": 404, "message": "no such flunder"}, 404)

    def event(self):
        line = json.dumps({"type": "ADDED", "object": FLUNDER}).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.note(body)
        self.answer(json.loads(body), 201)


def last():
    """The last request that was passed on; the server has questions of its own all the time."""
    return [s for s in Extension.seen if "/namespaces/" in s["path"]][-1]


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True)


ADDRESS = own_address()


class Wardle:
    """The aggregated server: a certificate of a CA of its own, clients' checked by ours."""

    def __init__(self):
        self.dir = temp_dir()
        at = lambda f: os.path.join(self.dir, f)
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", at("ca.key"), "-out", at("ca.crt"), "-days", "30", "-subj", "/CN=ca")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                at("key"), "-out", at("csr"), "-subj", "/CN=wardle")
        with open(at("ext"), "w") as f:
            f.write("subjectAltName=DNS:wardle.extensions.svc\n")
        openssl("x509", "-req", "-in", at("csr"), "-CA", at("ca.crt"), "-CAkey", at("ca.key"),
                "-CAcreateserial", "-days", "30", "-extfile", at("ext"), "-out", at("crt"))
        with open(at("ca.crt"), "rb") as f:
            self.ca = base64.b64encode(f.read()).decode()
        self.port = free_port()

    def start(self, front_proxy_ca):
        with open(os.path.join(self.dir, "clients.crt"), "w") as f:
            f.write(front_proxy_ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(self.dir, "crt"), os.path.join(self.dir, "key"))
        context.load_verify_locations(os.path.join(self.dir, "clients.crt"))
        context.verify_mode = ssl.CERT_REQUIRED
        self.httpd = http.server.ThreadingHTTPServer((ADDRESS, self.port), Extension)
        self.httpd.daemon_threads = True
        self.httpd.socket = context.wrap_socket(self.httpd.socket, server_side=True,
                                                do_handshake_on_connect=False)
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()

    def stop(self):
        self.httpd.shutdown()
        self.httpd.server_close()


wardle = Wardle()


def condition():
    o = server.get(f"/apis/apiregistration.k8s.io/v1/apiservices/{NAME}")
    for c in o.get("status", {}).get("conditions", []):
        if c["type"] == "Available":
            return c["status"], c["reason"], c["message"]
    return None


def aggregated_group(name):
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    items = json.loads(server.raw("GET", "/apis", headers={"Accept": accept})[2])["items"]
    found = [i for i in items if i["metadata"]["name"] == name]
    equal(len(found), 1, f"{name} in discovery")
    return found[0]


def wait_condition(status, reason, message=None):
    def found():
        got = condition()
        check(got and got[:2] == (status, reason), f"condition: {got}")
        if message:
            holds(got[2], message)
        return True
    wait_for(found, f"{status} {reason}", 60)


def slice_object(ready=True, port_name="https"):
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "wardle-1", "namespace": "extensions",
                         "labels": {"kubernetes.io/service-name": "wardle"}},
            "addressType": "IPv4", "ports": [{"name": port_name, "port": wardle.port}],
            "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": ready}}]}


def test_local_ones():
    out = server.kubectl("get", "apiservices", "--no-headers").splitlines()
    rows = {r.split()[0]: r.split()[1:3] for r in out}
    equal(rows["v1."], ["Local", "True"])
    equal(rows["v2.autoscaling"], ["Local", "True"])
    check("v1.apiregistration.k8s.io" not in rows, "upstream has none for its own group")
    o = server.get("/apis/apiregistration.k8s.io/v1/apiservices/v1.apps")
    equal(o["metadata"]["labels"], {"kube-aggregator.kubernetes.io/automanaged": "onstart"})
    equal((o["spec"]["groupPriorityMinimum"], o["spec"]["versionPriority"]), (17800, 15))
    equal([(c["reason"], c["message"]) for c in o["status"]["conditions"]],
          [("Local", "Local APIServices are always available")])


def test_what_extensions_trust():
    cm = server.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
    data = cm["data"]
    equal(json.loads(data["requestheader-allowed-names"]), ["system:auth-proxy"])
    equal(json.loads(data["requestheader-username-headers"]), ["X-Remote-User"])
    equal(json.loads(data["requestheader-group-headers"]), ["X-Remote-Group"])
    equal(json.loads(data["requestheader-extra-headers-prefix"]), ["X-Remote-Extra-"])
    check(data["requestheader-client-ca-file"] != data["client-ca-file"], "one CA for both")


def test_becomes_available_step_by_step():
    server.kubectl("create", "namespace", "extensions")
    server.apply({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                  "metadata": {"name": NAME},
                  "spec": {"group": GROUP, "version": VERSION, "groupPriorityMinimum": 1000,
                           "versionPriority": 15, "caBundle": wardle.ca,
                           "service": {"namespace": "extensions", "name": "wardle",
                                       "port": 443}}})
    wait_condition("False", "ServiceNotFound",
                   'service/wardle in "extensions" is not present')
    status, h, text = server.raw("GET", f"/apis/{GROUP}/{VERSION}/namespaces/d/flunders")
    equal((status, h["content-type"], text),
          (503, "text/plain; charset=utf-8", b"service unavailable\n"))
    service = {"apiVersion": "v1", "kind": "Service",
               "metadata": {"name": "wardle", "namespace": "extensions"},
               "spec": {"ports": [{"name": "https", "port": 444}]}}
    server.apply(service, namespace="extensions")
    wait_condition("False", "ServicePortError",
                   'service/wardle in "extensions" is not listening on port 443')
    service["spec"]["ports"][0]["port"] = 443
    server.apply(service, namespace="extensions")
    wait_condition("False", "EndpointsNotFound",
                   'cannot find endpointslices for service/wardle in "extensions"')
    server.apply(slice_object(ready=False), namespace="extensions")
    wait_condition("False", "MissingEndpoints", 'endpointslices for service/wardle in "extensions" '
                   'have no addresses with port name "https"')
    server.apply(slice_object(), namespace="extensions")
    wait_condition("False", "FailedDiscoveryCheck",
                   rf"failing or missing response from https://{ADDRESS}:{wardle.port}/apis/"
                   rf"{GROUP}/{VERSION}: Get .*connection refused")
    kind = {"group": GROUP, "kind": "GroupVersionForDiscovery", "version": VERSION}
    V2["definitions"][SAME] = dict(server.get("/openapi/v2")["definitions"][SAME],
                                   **{"x-kubernetes-group-version-kind": [kind]})
    cm = server.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
    wardle.start(cm["data"]["requestheader-client-ca-file"])
    wait_condition("True", "Passed", "all checks passed")
    first = Extension.seen[0]
    equal(first["cn"], ["system:auth-proxy"])
    got = dict(first["headers"])
    equal((got["x-remote-user"], got["x-remote-group"]),
          ("system:kube-aggregator", "system:masters"))


def test_requests_say_who_asks():
    Extension.seen.clear()
    status, h, text = server.raw("GET", f"/apis/{GROUP}/{VERSION}/namespaces/d/flunders/one?x=%20y",
                                 headers={"X-Remote-User": "liar", "X-Remote-Extra-A": "b",
                                          "X-Other": "kept"})
    equal((status, json.loads(text), h["x-flunder"]), (200, FLUNDER, "yes"))
    seen = last()
    equal((seen["path"], seen["cn"]),
          (f"/apis/{GROUP}/{VERSION}/namespaces/d/flunders/one?x=%20y", ["system:auth-proxy"]))
    got = dict(seen["headers"])
    equal((got["x-remote-user"], got["x-other"]), ("system:admin", "kept"))
    groups = [v for k, v in seen["headers"] if k == "x-remote-group"]
    equal(groups, ["system:masters", "system:authenticated"])
    check("authorization" not in got, "a credential went on")
    server.kubectl("get", f"flunders.v1beta1.{GROUP}", "-n", "d", "--as", "jane", "--as-group",
                   "system:masters", "--as-user-extra", "example.com/x%y=z")
    lists = [s for s in Extension.seen if s["path"].startswith(
        f"/apis/{GROUP}/{VERSION}/namespaces/d/flunders?")]
    got = dict(lists[-1]["headers"])
    equal((got["x-remote-user"], "impersonate-user" in got), ("jane", False))
    body = dict(FLUNDER, spec={"a": "b" * 100000})
    answer = server.api("POST", f"/apis/{GROUP}/{VERSION}/namespaces/d/flunders", body)
    equal(answer, body)
    equal(json.loads(last()["body"]), body)


def test_rights_are_ours():
    out = server.kubectl_fails("get", "--raw", f"/apis/{GROUP}/{VERSION}/namespaces/d/flunders",
                               "--as", "nobody")
    holds(out, f'User "nobody" cannot list resource "flunders" in API group "{GROUP}"')


def test_errors_and_large_answers_pass():
    status, _, text = server.raw("GET", f"/apis/{GROUP}/{VERSION}/namespaces/d/flunders/none")
    equal((status, json.loads(text)["message"]), (404, "no such flunder"))
    status, h, text = server.raw("GET", f"/apis/{GROUP}/{VERSION}/namespaces/d/flunders/large")
    equal((status, h["content-type"], len(text)), (200, "text/plain", 3 << 20))


def test_watches_stream():
    Extension.go_on.clear()
    c = server.connect()
    c.request("GET", f"/apis/{GROUP}/{VERSION}/namespaces/d/flunders?watch=true")
    r = c.getresponse()
    equal(json.loads(r.readline())["type"], "ADDED")  # before the server goes on
    Extension.go_on.set()
    equal(json.loads(r.readline())["object"], FLUNDER)
    equal(r.read(), b"")
    c.close()


@contextlib.contextmanager
def robot_watch():
    """A watch of a service account; the aggregated server sends one event and waits."""
    server.try_kubectl("create", "serviceaccount", "robot")
    server.try_kubectl("create", "clusterrolebinding", "robot", "--clusterrole=cluster-admin",
                       "--serviceaccount=default:robot")
    token = server.kubectl("create", "token", "robot").strip()
    Extension.go_on.clear()
    c = server.connect(anonymous=True)
    c.request("GET", f"/apis/{GROUP}/{VERSION}/namespaces/d/flunders?watch=true",
              headers={"Authorization": f"Bearer {token}"})
    r = c.getresponse()
    equal(r.status, 200)
    yield r
    c.close()


def test_upgrades_pass():
    c = server.connect()
    c.connect()
    c.sock.sendall((f"GET /apis/{GROUP}/{VERSION}/namespaces/d/flunders/one/echo HTTP/1.1\r\n"
                    "Host: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n").encode())
    f = c.sock.makefile("rb")
    holds(f.readline().decode(), "101")
    while f.readline().strip():
        pass
    c.sock.sendall(b"hello")
    equal(f.read(5), b"olleh")
    c.close()


def test_tokens_stay_here():
    """A browser's token is among the protocols of its WebSocket."""
    prefix = "base64url.bearer.authorization.k8s.io."
    for protocols, want in ((f"{prefix}c2VjcmV0, echo.example.com", "echo.example.com"),
                            (prefix + "c2VjcmV0", None)):
        Extension.seen.clear()
        server.raw("GET", f"/apis/{GROUP}/{VERSION}/namespaces/d/flunders/one",
                   headers={"Sec-WebSocket-Protocol": protocols})
        equal(dict(last()["headers"]).get("sec-websocket-protocol"), want)


def test_any_media_type():
    status, _, text = server.raw("GET", f"/apis/{GROUP}/{VERSION}/namespaces/d/flunders/one",
                                 headers={"Accept": "image/png"})
    equal((status, json.loads(text)), (200, FLUNDER))
    equal(dict(last()["headers"])["accept"], "image/png")
    status, _, text = server.raw("GET", "/apis/nosuch.example.com/v1/things",
                                 headers={"Accept": "image/png"})
    equal((status, text), (404, b"404 page not found\n"))


def test_watches_hold_no_seats():
    def seats():
        text = server.raw("GET", "/metrics")[2].decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(
            "apiserver_flowcontrol_current_executing_requests{") and 'schema="service-accounts"' in line)
    with robot_watch() as r:
        equal(json.loads(r.readline())["type"], "ADDED")
        wait_for(lambda: seats() == 0, "the watch's seat is free")
        Extension.go_on.set()
        equal(json.loads(r.readline())["object"], FLUNDER)


def test_revocation_ends_watches():
    with robot_watch() as r:
        equal(json.loads(r.readline())["type"], "ADDED")
        subprocess.run([KINGLET, "certificate", "revoke", "system:serviceaccount:default:robot",
                        "--data-dir", server.data], check=True, capture_output=True)
        try:
            r.read()  # one that stays open runs into the time-out
            fail("a watch that was cut off looks whole")
        except (ConnectionError, http.client.IncompleteRead):
            pass
    Extension.go_on.set()


def test_discovery_is_merged():
    def known():
        names = [g["name"] for g in server.get("/apis")["groups"]]
        return GROUP in names
    wait_for(known, "the group is listed")
    g = server.get(f"/apis/{GROUP}")
    equal((g["kind"], g["preferredVersion"]["version"]), ("APIGroup", VERSION))
    equal(server.get(f"/apis/{GROUP}/{VERSION}"), RESOURCES)
    v = aggregated_group(GROUP)["versions"][0]
    equal((v["version"], v["freshness"], len(v["resources"])), (VERSION, "Current", 1))
    r = v["resources"][0]
    equal((r["resource"], r["scope"], r["shortNames"], r["responseKind"]),
          ("flunders", "Namespaced", ["fl"],
           {"group": GROUP, "version": VERSION, "kind": "Flunder"}))
    equal([s["subresource"] for s in r["subresources"]], ["status"])
    out = server.kubectl("api-resources", "--api-group", GROUP)
    holds(out, r"^flunders\s+fl\s+wardle.example.com/v1beta1\s+true\s+Flunder")


def test_openapi_is_merged():
    path = f"apis/{GROUP}/{VERSION}"

    def url():
        return server.get("/openapi/v3")["paths"].get(path, {}).get("serverRelativeURL")
    equal(wait_for(url, "the document is listed"), f"/openapi/v3/{path}?hash=F1")
    equal(server.get(url()), OPENAPI)


def test_openapi_v2_is_merged():
    """As kube-openapi's aggregator merges: what is the same is there once, what differs gets a name."""
    def merged():
        d = server.get("/openapi/v2")
        return d if FLUNDERS in d["paths"] else None
    d = wait_for(merged, "the document is merged", 60)
    defs, op = d["definitions"], d["paths"][FLUNDERS]["get"]
    equal((d["info"]["title"], defs[META + "Status"]["type"]), ("Kubernetes", "object"))
    equal(defs[SAME], V2["definitions"][SAME])
    equal(defs[META + "Status_v2"], V2["definitions"][META + "Status"])
    equal({k: v["$ref"] for k, v in defs["com.example.Flunder"]["properties"].items()},
          {"status": f"#/definitions/{META}Status_v2", "kind": f"#/definitions/{SAME}"})
    equal((SAME + "_v2" in defs, "com.example.Other" in defs, defs["com.example.Unused"]),
          (False, False, {"type": "string"}))
    equal([p["$ref"] for p in op["parameters"]], ["#/parameters/dry", "#/parameters/pretty-tJGM1-ng_v2"])
    equal(d["parameters"]["pretty-tJGM1-ng_v2"], V2["parameters"]["pretty-tJGM1-ng"])
    equal(op["responses"]["200"]["schema"]["$ref"], "#/definitions/com.example.Flunder")
    check(not [p for p in d["paths"] if "v1alpha1/other" in p], "a path of another version")
    data = server.raw("GET", "/openapi/v2", headers={
        "Accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"})[2]
    names = {dict(protobuf_fields(x))[1].decode() for n, part in protobuf_fields(data) if n == 9
             for _, x in protobuf_fields(part)}
    equal(names, set(defs))
    tag = server.raw("GET", "/openapi/v2")[1]["etag"]
    equal(server.raw("GET", "/openapi/v2", headers={"If-None-Match": tag})[0], 304)
    got = Extension.asked_by
    equal((got["x-remote-user"], got.get("x-remote-group")), ("system:aggregator", None))


def test_openapi_v3_is_made_of_v2():
    """What openapiconv makes of the whole document of a server that has version 2 only."""
    path, name = "apis/old.example.com/v1", "v1.old.example.com"
    Extension.old = True
    server.apply({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
                  "spec": {"service": {"namespace": "extensions", "name": "wardle", "port": 443},
                           "caBundle": wardle.ca, "group": "old.example.com", "version": "v1",
                           "groupPriorityMinimum": 100, "versionPriority": 1}})

    def url():
        return server.get("/openapi/v3")["paths"].get(path, {}).get("serverRelativeURL")
    listed = wait_for(url, "the document is listed", 60)
    status, headers, body = server.raw("GET", listed)
    d = json.loads(body)
    schemas = d["components"]["schemas"]
    equal((status, d["openapi"], d["info"], set(d["paths"]), set(schemas)),
          (200, "3.0.0", V2["info"], set(V2["paths"]), set(V2["definitions"])))
    equal(schemas["com.example.Flunder"]["properties"]["status"], {"$ref": f"#/components/schemas/{META}Status"})
    equal(d["paths"][FLUNDERS]["get"]["parameters"][0]["$ref"], "#/components/parameters/dry")
    tag = headers["etag"]
    equal((listed, "immutable" in headers["cache-control"]),
          (f"/openapi/v3/{path}?hash=" + tag.strip('"'), True))
    equal(server.raw("GET", f"/openapi/v3/{path}", headers={"If-None-Match": tag})[0], 304)
    status, headers, _ = server.raw("GET", f"/openapi/v3/{path}?hash=OLD")
    equal((status, headers["location"]), (301, listed))
    data = server.raw("GET", listed, headers={
        "Accept": "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"})[2]
    names = {dict(protobuf_fields(x))[1].decode() for n, part in protobuf_fields(data) if n == 5
             for _, all in protobuf_fields(part) for _, x in protobuf_fields(all)}
    equal(names, set(schemas))
    equal(server.raw("GET", listed, headers={"Accept": "text/plain"})[0], 406)
    Extension.old = False
    server.kubectl("delete", "apiservice", name)
    wait_for(lambda: not url(), "it is listed no more", 60)


def test_takes_a_version_over():
    """An APIService of a group that is ours comes to the Service as long as nobody starts the server."""
    def names():
        return [i["metadata"]["name"] for i in server.get("/apis/node.k8s.io/v1/runtimeclasses")["items"]]
    equal(names(), [])
    service = {"service": {"namespace": "extensions", "name": "wardle", "port": 443}, "caBundle": wardle.ca}
    server.kubectl("patch", "apiservice", "v1.node.k8s.io", "--type=merge", "-p", json.dumps({"spec": service}))
    server.apply({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                  "metadata": {"name": "v2beta1.node.k8s.io"},
                  "spec": dict(service, group="node.k8s.io", version="v2beta1", groupPriorityMinimum=100,
                               versionPriority=1)})

    def theirs():
        status, _, text = server.raw("GET", "/apis/node.k8s.io/v1/runtimeclasses")
        return status == 200 and [i["metadata"]["name"] for i in json.loads(text)["items"]] == ["theirs"]
    wait_for(theirs, "requests come there", 60)
    seen = [s for s in Extension.seen if s["path"] == "/apis/node.k8s.io/v1/runtimeclasses"][-1]
    equal(dict(seen["headers"])["x-remote-user"], "system:admin")
    holds(server.kubectl_fails("get", "--raw", "/apis/node.k8s.io/v1/runtimeclasses", "--as", "nobody"),
          'User "nobody" cannot list resource "runtimeclasses"')
    names_of = [g["name"] for g in server.get("/apis")["groups"]]
    equal(names_of.count("node.k8s.io"), 1)
    wait_for(lambda: len(server.get("/apis/node.k8s.io")["versions"]) == 2, "both versions are listed", 60)
    group = server.get("/apis/node.k8s.io")
    equal(([v["version"] for v in group["versions"]], group["preferredVersion"]["version"]), (["v1", "v2beta1"], "v1"))
    wait_for(lambda: aggregated_group("node.k8s.io")["versions"][0].get("resources"), "what they serve is known", 60)
    v1, v2 = aggregated_group("node.k8s.io")["versions"]
    equal((v1["version"], v1["resources"][0]["verbs"], v2["version"]), ("v1", ["list"], "v2beta1"))
    check("/apis/node.k8s.io/v1/runtimeclasses" in server.get("/openapi/v2")["paths"], "our own paths stay")
    server.kubectl("delete", "apiservice", "v2beta1.node.k8s.io")
    equal(server.stop(), 0)
    server.start()
    wait_for(lambda: "service" not in server.get("/apis/apiregistration.k8s.io/v1/apiservices/v1.node.k8s.io")["spec"],
             "it is ours again", 60)

    def ours():
        status, _, text = server.raw("GET", "/apis/node.k8s.io/v1/runtimeclasses")
        return status == 200 and not json.loads(text)["items"]
    wait_for(ours, "requests stay here", 60)


def test_custom_versions_stay_ours():
    """Their APIServices are kept as they have to be, as long as they are labelled as ours."""
    server.apply({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                  "metadata": {"name": "things.stable.example.com"},
                  "spec": {"group": "stable.example.com", "scope": "Cluster",
                           "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
                           "versions": [{"name": "v1", "served": True, "storage": True,
                                         "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
    server.established("things.stable.example.com")
    path, name = "/apis/apiregistration.k8s.io/v1/apiservices/v1.stable.example.com", "v1.stable.example.com"
    wait_for(lambda: server.raw("GET", path)[0] == 200, "it has an APIService", 60)
    service = {"spec": {"service": {"namespace": "extensions", "name": "wardle", "port": 443}, "caBundle": wardle.ca}}
    server.kubectl("patch", "apiservice", name, "--type=merge", "-p", json.dumps(service))
    wait_for(lambda: "service" not in server.get(path)["spec"], "it is put back", 60)
    equal(server.get(path)["spec"], {"group": "stable.example.com", "version": "v1", "groupPriorityMinimum": 1000,
                                     "versionPriority": 100})
    server.kubectl("label", "apiservice", name, "kube-aggregator.kubernetes.io/automanaged-")
    server.kubectl("patch", "apiservice", name, "--type=merge", "-p", json.dumps(service))
    wait_for(lambda: server.raw("GET", "/apis/stable.example.com/v1/things")[0] in (404, 503), "it goes there", 60)
    equal([g["name"] for g in server.get("/apis")["groups"]].count("stable.example.com"), 1)
    server.kubectl("delete", "crd", "things.stable.example.com")
    server.kubectl("delete", "apiservice", name)


def test_goes_away():
    wardle.stop()
    server.apply(slice_object(ready=False), namespace="extensions")
    wait_condition("False", "MissingEndpoints")
    def stale():
        return aggregated_group(GROUP)["versions"][0]
    v = wait_for(lambda: stale() if stale()["freshness"] == "Stale" else None, "stale")
    equal(v["resources"][0]["resource"], "flunders")  # what was last known
    check(FLUNDERS in server.get("/openapi/v2")["paths"], "likewise, as upstream does")
    equal(server.raw("GET", f"/apis/{GROUP}/{VERSION}")[0], 503)
    server.kubectl("delete", "apiservice", NAME)

    def gone():
        return GROUP not in [g["name"] for g in server.get("/apis")["groups"]]
    wait_for(gone, "the group is not listed")
    equal([p for p in server.get("/openapi/v2")["paths"] if GROUP in p], [])
    equal(server.raw("GET", f"/apis/{GROUP}/{VERSION}")[0], 404)


if __name__ == "__main__":
    if not ADDRESS or ADDRESS.startswith("127."):
        print("skip test_aggregation.py: this machine has no address but the loopback's")
    else:
        run(server)
