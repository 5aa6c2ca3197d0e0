#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Forms of answers: protobuf of objects, lists and watch frames, Table and PartialObjectMetadata
forms, YAML in and out, what is refused, and gzip."""
import gzip
import http.client
import json
import ssl
from lib import Server, check, config_map, equal, holds, own_address, protobuf_fields, run

PB = "application/vnd.kubernetes.protobuf"


ADDRESS = own_address() or "127.0.0.1"


def first(data, *path):
    for number in path:
        data = next(v for n, v in protobuf_fields(data) if n == number)
    return data


def envelope(data):
    """(apiVersion, kind, message) of k8s\\0 and runtime.Unknown."""
    equal(data[:4], b"k8s\0")
    meta = dict(protobuf_fields(first(data[4:], 1)))
    return meta[1].decode(), meta[2].decode(), first(data[4:], 2)


def get(path, accept, want=200):
    status, h, text = server.raw("GET", path, headers={"Accept": accept})
    equal(status, want, f"{path} {accept}: {text[:500]!r}")
    return h, text


def names(message):
    return sorted(first(item, 1, 1).decode() for n, item in protobuf_fields(message) if n == 2)


def test_protobuf_lists():
    server.kubectl("create", "namespace", "enc")
    for i in range(3):
        server.api("POST", "/api/v1/namespaces/enc/configmaps", config_map(f"c{i}"))
    want = sorted(o["metadata"]["name"]
                  for o in server.get("/api/v1/namespaces/enc/configmaps")["items"])
    h, text = get("/api/v1/namespaces/enc/configmaps", PB)
    equal(h["content-type"], PB)
    version, kind, message = envelope(text)
    equal((version, kind, names(message)), ("v1", "ConfigMapList", want))


def test_protobuf_partial_metadata():
    want = sorted(o["metadata"]["name"]
                  for o in server.get("/api/v1/namespaces/enc/configmaps")["items"])
    for v in ("v1", "v1beta1"):
        accept = f"{PB};as=PartialObjectMetadataList;g=meta.k8s.io;v={v}"
        h, text = get("/api/v1/namespaces/enc/configmaps", accept)
        equal(h["content-type"], PB)
        version, kind, message = envelope(text)
        equal((version, kind, names(message)),
              (f"meta.k8s.io/{v}", "PartialObjectMetadataList", want))
        for n, item in protobuf_fields(message):
            if n == 2:
                equal([m for m, _ in protobuf_fields(item)], [1])  # the metadata and nothing else
    accept = f"{PB};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    version, kind, message = envelope(get("/api/v1/namespaces/enc/configmaps/c1", accept)[1])
    equal((version, kind, first(message, 1, 1)),
          ("meta.k8s.io/v1", "PartialObjectMetadata", b"c1"))


def test_partial_metadata_of_a_converted_version():
    hpa = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
           "metadata": {"name": "h", "namespace": "enc"},
           "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1",
                                                        "kind": "Deployment", "name": "d"}}}
    server.api("POST", "/apis/autoscaling/v2/namespaces/enc/horizontalpodautoscalers", hpa)
    for v in ("v1", "v2"):
        path = f"/apis/autoscaling/{v}/namespaces/enc/horizontalpodautoscalers"
        version, kind, message = envelope(get(path, PB)[1])
        equal((version, kind, names(message)),
              (f"autoscaling/{v}", "HorizontalPodAutoscalerList", ["h"]))
        accept = f"{PB};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        equal(names(envelope(get(path, accept)[1])[2]), ["h"])


def frames(path, accept, n):
    c = server.connect()
    c.request("GET", path, headers={"Accept": accept})
    r = c.getresponse()
    equal(r.status, 200)
    out = []
    for _ in range(n):
        length = int.from_bytes(r.read(4), "big")
        out.append(r.read(length))
    kind = r.headers["content-type"]
    c.close()
    return kind, out


def test_protobuf_watch_frames():
    path = "/api/v1/namespaces/enc/configmaps?watch=true&fieldSelector=metadata.name%3Dc0"
    for form, want in (("", ("v1", "ConfigMap")),
                       (";as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                        ("meta.k8s.io/v1", "PartialObjectMetadata"))):
        kind, got = frames(path, f"{PB};stream=watch{form}", 1)
        equal(kind, f"{PB};stream=watch")
        event = dict(protobuf_fields(got[0]))
        equal(event[1], b"ADDED")
        version, kind, message = envelope(first(event[2], 1))
        equal((version, kind, first(message, 1, 1)), (*want, b"c0"))


def test_tables():
    path = "/api/v1/namespaces/enc/configmaps"
    table = "application/json;as=Table;g=meta.k8s.io;v="
    for v in ("v1", "v1beta1"):
        t = json.loads(get(path, table + v)[1])
        equal((t["kind"], t["apiVersion"]), ("Table", f"meta.k8s.io/{v}"))
        equal(t["rows"][0]["object"]["kind"], "PartialObjectMetadata")
        equal(t["rows"][0]["object"]["apiVersion"], f"meta.k8s.io/{v}")
    # The first that can be given, as kubectl asks.
    accept = f"{PB};as=Table;g=meta.k8s.io;v=v1,{table}v1,application/json"
    h, text = get(path, accept)
    equal((h["content-type"], json.loads(text)["kind"]), ("application/json", "Table"))
    h, text = get(path, f"{table}v2,application/json")
    equal(json.loads(text)["kind"], "ConfigMapList")
    for include, want in (("None", None), ("Metadata", "PartialObjectMetadata"),
                          ("Object", "ConfigMap"), ("", "PartialObjectMetadata")):
        rows = json.loads(get(f"{path}?includeObject={include}", table + "v1")[1])["rows"]
        equal(rows[0]["object"] and rows[0]["object"]["kind"], want, include)
    y = get(path, "application/yaml;as=Table;g=meta.k8s.io;v=v1")[1].decode()
    holds(y, r"^kind: Table$", r"^apiVersion: meta.k8s.io/v1$")


def test_yaml_in_and_out():
    text = ("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: text\ndata:\n  a: \"1\"\n"
            "  b: |\n    two\n    lines\n")
    status, h, answer = server.raw("POST", "/api/v1/namespaces/enc/configmaps", text,
                                   {"Content-Type": "application/yaml",
                                    "Accept": "application/yaml"})
    equal((status, h["content-type"]), (201, "application/yaml"), answer)
    holds(answer.decode(), r"^kind: ConfigMap$", r"^  a: \"1\"$", r"^    lines$")
    equal(server.get("/api/v1/namespaces/enc/configmaps/text")["data"], {"a": "1", "b": "two\nlines\n"})
    h, text = get("/api/v1/namespaces/enc/configmaps", "application/yaml")
    holds(text.decode(), r"^kind: ConfigMapList$", r"^- apiVersion: v1$|^- data:$")


ACCEPTED = "application/json, application/yaml, application/vnd.kubernetes.protobuf"


def test_refused():
    path = "/api/v1/namespaces/enc/configmaps"
    for accept in ("application/cbor", "text/html", "application/cbor-seq"):
        status, _, text = server.raw("GET", path, headers={"Accept": accept})
        s = json.loads(text)
        equal((status, s["reason"], s["code"]), (406, "NotAcceptable", 406), accept)
        holds(s["message"], "application/json, application/yaml, ")
    accept = f"{PB};as=Table;g=meta.k8s.io;v=v1"
    s = json.loads(get(path, accept, 406)[1])
    equal(s["message"], f"only the following media types are accepted: {ACCEPTED}")
    for kind in ("application/cbor", "text/plain", "multipart/form-data"):
        status, _, text = server.raw("POST", path, b"\xd9\xd9\xf7\xa0", {"Content-Type": kind})
        s = json.loads(text)
        equal((status, s["reason"], s["message"]),
              (415, "UnsupportedMediaType",
               "the body of the request was in an unknown format - accepted media types include: "
               + ACCEPTED), kind)
    for kind in ("application/apply-patch+cbor", "application/json", "text/plain"):
        equal(server.raw("PATCH", path + "/c0", b"{}", {"Content-Type": kind})[0], 415, kind)


def test_pretty():
    path = "/api/v1/namespaces/enc/configmaps/c0"
    plain = get(path, "application/json")[1]
    pretty = get(path + "?pretty=true", "application/json")[1]
    check(b"\n  \"metadata\": {" in pretty and b"\n" not in plain.strip(), pretty[:200])
    equal(json.loads(pretty), json.loads(plain))
    agent = server.raw("GET", path, headers={"User-Agent": "curl/8"})[2]
    check(b"\n  \"" in agent, agent[:100])
    agent = server.raw("GET", path + "?pretty=0", headers={"User-Agent": "curl/8"})[2]
    equal(agent, plain)


def remote(path, headers):
    """A request that does not come over the loopback."""
    c = http.client.HTTPSConnection(ADDRESS, server.port, timeout=240, context=server.ssl_any)
    try:
        c.request("GET", path, headers=headers)
        r = c.getresponse()
        return r.status, r.headers, r.read()
    finally:
        c.close()


def test_gzip():
    path = "/api/v1/namespaces/gz/configmaps"
    server.kubectl("create", "namespace", "gz")
    big = config_map("big")
    big["data"] = {"x": "all work and no play " * 10000}
    server.api("POST", path, big)
    server.api("POST", path, config_map("small"))
    asked = {"Accept-Encoding": "gzip, deflate"}
    for p in (path, path + "/big", path + "?limit=1"):
        status, h, text = server.raw("GET", p, headers=asked)
        equal((status, h.get("content-encoding")), (200, None), "over the loopback")
        if ADDRESS.startswith("127."):
            continue
        plain = remote(p, {})
        equal((plain[0], plain[1].get("content-encoding")), (200, None))
        status, h, packed = remote(p, asked)
        equal((status, h["content-encoding"], h["vary"]), (200, "gzip", "Accept-Encoding"), p)
        check(len(packed) < len(plain[2]) / 20, (len(packed), len(plain[2])))
        equal(gzip.decompress(packed), plain[2])
        for accept in ("application/yaml", PB,
                       "application/json;as=Table;g=meta.k8s.io;v=v1;includeObject=Object"):
            whole = remote(p + ("&" if "?" in p else "?") + "includeObject=Object",
                           {"Accept": accept})[2]
            status, h, packed = remote(p + ("&" if "?" in p else "?") + "includeObject=Object",
                                       dict(asked, Accept=accept))
            equal((status, h["content-encoding"]), (200, "gzip"), accept)
            equal(gzip.decompress(packed)[:2000], whole[:2000])
    if not ADDRESS.startswith("127."):
        for p in (path + "/small", "/api/v1/namespaces/enc/configmaps"):
            equal(remote(p, asked)[1].get("content-encoding"), None, "less than 128 KiB")
        status, h, packed = remote("/openapi/v2", asked)
        equal((status, h["content-encoding"]), (200, "gzip"))
        equal(sorted(json.loads(gzip.decompress(packed))),
              sorted(json.loads(server.raw("GET", "/openapi/v2")[2])))


class Everywhere(Server):
    """On every address, so that requests can come from elsewhere than the loopback."""

    def __init__(self):
        super().__init__(node=True)
        self.flags += ["--disable-agent"]

    def credentials(self):
        super().credentials()
        self.ssl_any = ssl.create_default_context()
        self.ssl_any.check_hostname = False
        self.ssl_any.verify_mode = ssl.CERT_NONE
        self.ssl_any.load_cert_chain(f"{self.home}/client-certificate.pem",
                                     f"{self.home}/client-key.pem")


server = Everywhere()

if __name__ == "__main__":
    run(server)
