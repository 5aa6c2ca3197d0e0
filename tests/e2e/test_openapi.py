#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""/openapi/v2 and /openapi/v3 against upstream's own documents (openapi/record.py made the record):
every path, operation, parameter, answer, definition and property of what is served, and every word
said of them. Hashes, negotiation, and the commands of kubectl that read the documents."""
import gzip
import hashlib
import json
import os
import sys
import threading
from lib import Server, check, equal, holds, protobuf_fields, run

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "openapi"))
from words import digest, split  # noqa: E402

server = Server()
every = Server("--runtime-config", "api/all=true")  # as the record was made
with gzip.open(os.path.join(HERE, "openapi/upstream.json.gz")) as record:
    UPSTREAM = json.load(record)
# Registered in every group of upstream's scheme, those that are served no more too.
EVERY_GROUP = {"io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
               "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"}


def served_versions(s):
    got = {("", "v1")}
    for g in s.get("/apis")["groups"]:
        got |= {(g["name"], v["version"]) for v in g["versions"]}
    return got


def is_served(path, versions):
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 1:
        return ("", parts[1]) in versions
    if parts[0] == "apis" and len(parts) > 2:
        return (parts[1], parts[2]) in versions
    if parts[0] == "apis" and len(parts) == 2:
        return parts[1] in {g for g, _ in versions}
    return True


def params(op_or_path, doc):
    got = set()
    for p in op_or_path.get("parameters", []):
        if "$ref" in p:
            p = doc["parameters"][p["$ref"].rsplit("/", 1)[1]]
        got.add(json.dumps(p, sort_keys=True))
    return got


def compare_paths(got, want, got_doc, want_doc, versions):
    wrong = []
    for path, item in want.items():
        if not is_served(path, versions):
            continue
        mine = got.get(path)
        if not mine:
            wrong.append(f"no path {path}")
            continue
        if params(mine, got_doc) != params(item, want_doc):
            wrong.append(f"{path} parameters: {params(mine, got_doc) ^ params(item, want_doc)}")
        for method, op in item.items():
            if method == "parameters":
                continue
            o = mine.get(method)
            if not o:
                wrong.append(f"no {method} {path}")
                continue
            if params(o, got_doc) != params(op, want_doc):
                wrong.append(f"{method} {path} parameters: "
                             f"{params(o, got_doc) ^ params(op, want_doc)}")
            for k, v in op.items():
                a, b = o.get(k), v
                if k in ("produces", "consumes"):
                    a, b = sorted(a or []), sorted(b)
                if k != "parameters" and a != b:
                    wrong.append(f"{method} {path} {k}: got {a} want {b}")
            wrong += [f"{method} {path} {k} is not upstream's" for k in set(o) - set(op)]
        for method in set(mine) - set(item):
            wrong.append(f"{method} {path} is not upstream's")
    for path in got:
        if path not in want:
            wrong.append(f"path {path} is not upstream's")
    return wrong


def compare_schema(name, got, want, at=""):
    wrong = []
    for k in set(got) | set(want):
        a, b = got.get(k), want.get(k)
        if k == "properties":
            for p in set(a or {}) | set(b or {}):
                if p not in (a or {}) or p not in (b or {}):
                    wrong.append(f"{name}{at}.{p}: only {'here' if p in (a or {}) else 'upstream'}")
                else:
                    wrong += compare_schema(name, a[p], b[p], f"{at}.{p}")
        elif k in ("items", "additionalProperties") and isinstance(a, dict) and isinstance(b, dict):
            wrong += compare_schema(name, a, b, f"{at}.{k}")
        elif k == "x-kubernetes-group-version-kind" and name in EVERY_GROUP:
            if not a or not all(x in b or name in EVERY_GROUP for x in a):
                wrong.append(f"{name}{at} {k}: got {a}")
        elif a != b:
            wrong.append(f"{name}{at} {k}: got {json.dumps(a)} want {json.dumps(b)}")
    return wrong


def report(wrong, what):
    check(not wrong, f"{len(wrong)} differences in {what}:\n" + "\n".join(wrong[:40]))


def check_v2_paths(s):
    got, want = s.get("/openapi/v2"), UPSTREAM["v2"]
    equal(got["swagger"], "2.0")
    equal(got["info"]["title"], "Kubernetes")
    report(compare_paths(got["paths"], want["paths"], got, want, served_versions(s)), "paths of v2")
    for k in ("security", "securityDefinitions"):
        equal(got[k], want[k], k)


def refs(x, found):
    if isinstance(x, dict):
        for k, v in x.items():
            if k == "$ref" and isinstance(v, str):
                found.add(v.rsplit("/", 1)[1])
            else:
                refs(v, found)
    elif isinstance(x, list):
        for v in x:
            refs(v, found)


def closed_over(paths, schemas):
    """The definitions that paths refer to, and those that these do."""
    want, seen = set(), set()
    refs(paths, want)
    while want - seen:
        name = (want - seen).pop()
        seen.add(name)
        refs(schemas.get(name, {}), want)
    return seen & set(schemas)


def compare_words(name, said):
    """What is not upstream's word for word; the record has but a digest of it."""
    ours = digest(said)
    return [] if ours == UPSTREAM["words"][name] else [f"{name}: other words: {json.dumps(said)[:300]}"]


def check_v2_definitions(s):
    got, want = s.get("/openapi/v2"), UPSTREAM["v2"]
    versions = served_versions(s)
    needed = closed_over({p: i for p, i in want["paths"].items() if is_served(p, versions)},
                         want["definitions"])
    wrong = [f"no definition {n}" for n in sorted(needed - set(got["definitions"]))]
    wrong += [f"definition {n} is not upstream's"
              for n in sorted(set(got["definitions"]) - set(want["definitions"]))]
    for name in sorted(needed & set(got["definitions"])):
        schema, said = split(got["definitions"][name])
        wrong += compare_schema(name, schema, want["definitions"][name]) + compare_words(name, said)
    report(wrong, "definitions of v2")
    check(len(needed) > 500, len(needed))


def check_v3(s):
    versions = served_versions(s)
    index = s.get("/openapi/v3")["paths"]
    wrong, compared = [], 0
    for name, want in UPSTREAM["v3"].items():
        if not is_served("/" + name, versions):
            check(name not in index, name)
            continue
        if name not in index:
            wrong.append(f"not in the index: {name}")
            continue
        doc = s.get(index[name]["serverRelativeURL"])
        equal(doc["openapi"], "3.0.0")
        wrong += compare_paths(doc["paths"], want["paths"], doc, want, versions)
        schemas = doc["components"].get("schemas", {})
        needed = closed_over(want["paths"], UPSTREAM["schemas"])
        for n in sorted(needed):
            compared += 1
            if n not in schemas:
                wrong.append(f"{name}: no definition {n}")
            else:
                schema, said = split(schemas[n])
                wrong += compare_schema(n, schema, UPSTREAM["schemas"][n]) + compare_words(n, said)
        equal(doc["components"]["securitySchemes"]["BearerToken"]["in"], "header")
    report(wrong, "v3")
    equal(sorted(set(index) - set(UPSTREAM["v3"])), [])
    check(compared > 900, compared)


def test_v2_paths():
    check_v2_paths(server)


def test_v2_definitions():
    check_v2_definitions(server)


def test_v3():
    check_v3(server)


def test_what_is_off_by_default():
    with every:
        check_v2_paths(every)
        check_v2_definitions(every)
        check_v3(every)
        has = {(g["name"], v["version"]) for g in every.get("/apis")["groups"] for v in g["versions"]}
        equal({"/".join(x) for x in has if "alpha" in x[1]},
              {n[len("apis/"):] for n in UPSTREAM["v3"] if "alpha" in n})
        holds(every.kubectl("explain", "storageversions.status"), r"^VERSION: +v1alpha1$",
              r"commonEncodingVersion\s+<string>", r"storageVersions\s+<\[\]ServerStorageVersion>")


def test_hashes_and_tags():
    url = server.get("/openapi/v3")["paths"]["apis/apps/v1"]["serverRelativeURL"]
    status, h, body = server.raw("GET", url)
    equal((status, h["content-type"], h["cache-control"], h["vary"]),
          (200, "application/json", "public, immutable", "Accept"))
    check(h["expires"].endswith(" GMT"), h["expires"])
    equal(h["etag"], '"' + url.split("hash=")[1] + '"')
    status, h2, text = server.raw("GET", "/openapi/v3/apis/apps/v1",
                                  headers={"If-None-Match": h["etag"]})
    equal((status, text, h2["etag"]), (304, b"", h["etag"]))
    status, h2, _ = server.raw("GET", "/openapi/v3/apis/apps/v1?hash=OLD")
    equal((status, h2["location"]), (301, url))
    again = server.raw("GET", "/openapi/v3/apis/apps/v1")[2]
    equal(hashlib.sha256(again).digest(), hashlib.sha256(body).digest())
    status, h, _ = server.raw("GET", "/openapi/v2")
    equal(server.raw("GET", "/openapi/v2", headers={"If-None-Match": h["etag"]})[0], 304)
    status, h, _ = server.raw("GET", "/openapi/v3")
    equal(server.raw("GET", "/openapi/v3", headers={"If-None-Match": h["etag"]})[0], 304)


def test_many_at_once():
    """Documents are written by turns: each comes whole, beside such as nobody reads to the end."""
    whole = server.raw("GET", "/openapi/v2")[2]
    same = []
    gone = [server.connect() for _ in range(4)]
    for c in gone:
        c.request("GET", "/openapi/v2")
    threads = [threading.Thread(target=lambda: same.append(
        server.raw("GET", "/openapi/v2")[2] == whole)) for _ in range(12)]
    for t in threads:
        t.start()
    for c in gone:
        c.getresponse().read(1000)
        c.close()
    for t in threads:
        t.join()
    equal(same, [True] * 12)


def test_negotiation():
    for path, v in (("/openapi/v2", "v2"), ("/openapi/v3/api/v1", "v3")):
        for accept in (f"application/com.github.proto-openapi.spec.{v}@v1.0+protobuf",
                       f"application/com.github.proto-openapi.spec.{v}.v1.0+protobuf"):
            status, h, _ = server.raw("GET", path, headers={"Accept": accept})
            equal((status, h["content-type"]),
                  (200, f"application/com.github.proto-openapi.spec.{v}.v1.0+protobuf"))
        for accept in ("application/json", "*/*", "text/html, */*;q=0.1", "application/*"):
            status, h, _ = server.raw("GET", path, headers={"Accept": accept})
            equal((status, h["content-type"]), (200, "application/json"))
        equal(server.raw("GET", path, headers={"Accept": "text/plain"})[0], 406)
    for path in ("/openapi/v3/api/v2", "/openapi/v3/apis/nothing.example/v1", "/openapi/v3/x",
                 "/openapi/v1", "/openapi/v3/apis/apps/v1/deployments"):
        equal(server.raw("GET", path)[0], 404, path)


def named(data, wanted):
    """Names of the pairs that all fields `wanted` of a document hold."""
    got = []
    for n, v in protobuf_fields(data):
        for path in (w for w in wanted if w[0] == n):
            inner = [v]
            for step in path[1:]:
                inner = [x for i in inner for m, x in protobuf_fields(i) if m == step]
            got += [dict(protobuf_fields(i))[1].decode() for i in inner]
    return got


def test_protobuf_holds_the_same():
    mine = server.get("/openapi/v2")
    pb = server.raw("GET", "/openapi/v2", headers={
        "Accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"})[2]
    equal(sorted(named(pb, [(8, 2)])), sorted(mine["paths"]))
    equal(sorted(named(pb, [(9, 1)])), sorted(mine["definitions"]))
    equal(sorted(named(pb, [(10, 1)])), sorted(mine["parameters"]))
    mine = server.get("/openapi/v3/apis/apps/v1")
    pb = server.raw("GET", "/openapi/v3/apis/apps/v1", headers={
        "Accept": "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"})[2]
    equal(sorted(named(pb, [(4, 1)])), sorted(mine["paths"]))
    equal(sorted(named(pb, [(5, 1, 1)])), sorted(mine["components"]["schemas"]))


def test_kubectl_explain():
    out = server.kubectl("explain", "pods.spec.containers")
    holds(out, r"^KIND: +Pod$", r"^VERSION: +v1$", r"imagePullPolicy\s+<string>",
          r"resources\s+<ResourceRequirements>", r"ports\s+<\[\]ContainerPort>",
          r"name\s+<string> -required-",
          r"^DESCRIPTION:\n    List of containers belonging to the pod. Containers cannot currently be",
          r"^    A single application container that you want to run within a pod\.$",
          r"^  image\s+<string>\n    Container image name\. More info:",
          r'^    Possible enum values:\n     - `"Always"` means that kubelet always attempts to pull')
    out = server.kubectl("explain", "deployments", "--recursive")
    holds(out, r"^GROUP: +apps$", r"maxUnavailable\s+<IntOrString>")
    out = server.kubectl("explain", "deployments", "--output", "plaintext-openapiv2")
    holds(out, r"^KIND: +Deployment$", r"spec\s+<")
    holds(server.kubectl("explain", "hpa", "--api-version", "autoscaling/v1"), r"VERSION: +v1")
    holds(server.kubectl_fails("explain", "pods.nothing"), 'field "nothing" does not exist')


def test_kubectl_validates():
    bad = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "v"},
                      "dat": {"a": "b"}})
    holds(server.kubectl_fails("create", "-f", "-", "--validate=strict", stdin=bad),
          'strict decoding error: unknown field "dat"')
    holds(server.kubectl("create", "-f", "-", "--validate=ignore", stdin=bad), "created")


if __name__ == "__main__":
    run(server)
