#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Custom resources, by an unmodified kubectl and by raw requests: what is served, what is refused
and in which words, versions, subresources, watches through changes of a definition, the end of one,
many at once, and a restart."""
import json
import threading
import urllib.parse
from lib import KINGLET, Server, check, config_map, equal, fail, holds, run, wait_for

server = Server()
k = server.kubectl
GROUP = "/apis/example.com/"
WIDGETS = GROUP + "v1/namespaces/default/widgets"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

SPEC = {
    "type": "object",
    "description": "What is wanted.",
    "required": ["color"],
    "properties": {
        "color": {"type": "string", "enum": ["red", "green", "blue"]},
        "replicas": {"type": "integer", "minimum": 0, "maximum": 100, "default": 1},
        "parts": {"type": "array", "maxItems": 10, "x-kubernetes-list-type": "map",
                  "x-kubernetes-list-map-keys": ["name"],
                  "items": {"type": "object", "required": ["name"],
                            "properties": {"name": {"type": "string"},
                                           "size": {"type": "integer"}}}},
    },
    "x-kubernetes-validations": [
        {"rule": "self.replicas <= 50 || self.color == 'red'",
         "message": "only red ones may be many"}],
}
STATUS = {"type": "object", "properties": {"replicas": {"type": "integer"},
                                           "selector": {"type": "string"},
                                           "phase": {"type": "string"}}}
LOOSE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def schema(spec, **more):
    return {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, **more}}}


def definition(plural, kind, group="example.com", versions=None, **names):
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": "Namespaced",
                     "names": {"plural": plural, "singular": kind.lower(), "kind": kind,
                               "listKind": kind + "List", **names},
                     "versions": versions or [{"name": "v1", "served": True, "storage": True,
                                               "schema": schema(LOOSE)}]}}


def widgets():
    return definition("widgets", "Widget", shortNames=["wd"], categories=["all"], versions=[
        {"name": "v1", "served": True, "storage": True, "schema": schema(SPEC, status=STATUS),
         "selectableFields": [{"jsonPath": ".spec.color"}],
         "additionalPrinterColumns": [
             {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
             {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"}],
         "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                                                  "statusReplicasPath": ".status.replicas",
                                                  "labelSelectorPath": ".status.selector"}}},
        {"name": "v1beta1", "served": True, "storage": False, "deprecated": True,
         "schema": schema(LOOSE)}])


def widget(name, version="v1", **spec):
    return {"apiVersion": "example.com/" + version, "kind": "Widget", "metadata": {"name": name},
            "spec": spec}


def created(crd):
    k("create", "-f", "-", stdin=json.dumps(crd))
    server.established(crd["metadata"]["name"])


def conditions(name):
    status = server.get(f"{CRDS}/{name}").get("status", {})
    return {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions") or []}


def refused(method, path, body, headers=None):
    code, _, text = server.raw(method, path, body=json.dumps(body), headers=headers)
    status = json.loads(text)
    return code, status["reason"], status["message"]


def gone(path):
    return server.raw("GET", path)[0] == 404


def test_served():
    created(widgets())
    equal(conditions("widgets.example.com"), {"NamesAccepted": ("True", "NoConflicts"),
                                              "Established": ("True", "InitialNamesAccepted")})
    status = server.get(CRDS + "/widgets.example.com")["status"]
    equal(status["storedVersions"], ["v1"])
    equal(status["acceptedNames"]["shortNames"], ["wd"])
    holds(k("api-resources", "--api-group=example.com"),
          r"^widgets +wd +example.com/v1 +true +Widget$")
    group = server.get("/apis/example.com")
    equal([v["version"] for v in group["versions"]], ["v1", "v1beta1"])
    holds(k("explain", "widgets.spec.color"), r"^FIELD: color <string>", r"^ +green$")
    holds(k("explain", "widgets.spec"), r"What is wanted")


def test_objects():
    holds(k("apply", "-f", "-", stdin=json.dumps(widget("a", color="red"))), "widget.*/a created")
    a = server.get(WIDGETS + "/a")
    equal(a["spec"], {"color": "red", "replicas": 1}, "defaults")
    equal(a["metadata"]["generation"], 1)
    holds(k("get", "wd"), r"^NAME +COLOR +REPLICAS$", r"^a +red +1$")
    holds(k("get", "all"), r"widget.example.com/a")
    k("apply", "-f", "-", stdin=json.dumps(widget("a", color="green", replicas=2)))
    equal(server.get(WIDGETS + "/a")["metadata"]["generation"], 2)
    k("patch", "wd", "a", "--type=json", "-p", '[{"op":"replace","path":"/spec/color","value":"blue"}]')
    k("patch", "wd", "a", "--type=merge", "-p", '{"spec":{"replicas":3}}')
    equal(server.get(WIDGETS + "/a")["spec"], {"color": "blue", "replicas": 3})
    holds(k("get", "wd", "--field-selector", "spec.color=blue", "-o", "name"), "/a$")
    equal(k("get", "wd", "--field-selector", "spec.color=red", "-o", "name"), "")
    holds(server.kubectl_fails("get", "wd", "--field-selector", "spec.parts=1"),
          "field label not supported: spec.parts")


def test_subresources():
    k("scale", "wd/a", "--replicas=7")
    a = server.get(WIDGETS + "/a")
    equal(a["spec"]["replicas"], 7)
    generation = a["metadata"]["generation"]
    merge = {"Content-Type": "application/merge-patch+json"}
    body = {"spec": {"color": "red"}, "metadata": {"labels": {"x": "y"}},
            "status": {"phase": "Fine", "replicas": 6, "selector": "a=b"}}
    server.api("PATCH", WIDGETS + "/a/status", body=body, headers=merge)
    a = server.get(WIDGETS + "/a")
    equal((a["spec"]["color"], a["status"]["phase"], a["metadata"].get("labels")),
          ("blue", "Fine", None), "a status write")
    equal(a["metadata"]["generation"], generation)
    server.api("PATCH", WIDGETS + "/a", body={"status": {"phase": "Bad"}}, headers=merge)
    equal(server.get(WIDGETS + "/a")["status"]["phase"], "Fine")
    scale = server.get(WIDGETS + "/a/scale")
    equal((scale["kind"], scale["spec"], scale["status"]),
          ("Scale", {"replicas": 7}, {"replicas": 6, "selector": "a=b"}))
    code, _, text = server.raw("GET", WIDGETS + "/a/other")
    equal((code, json.loads(text)["message"]), (404, 'widgets.example.com "a" not found'))


def test_subresources_without_fields():
    """A root that keeps what it does not know has a status all the same, and refuses as others do."""
    subs = {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                                    "labelSelectorPath": ".status.selector"}}
    created(definition("anythings", "Anything", versions=[
        {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": LOOSE}, "subresources": subs}]))
    path = GROUP + "v1/namespaces/default/anythings"
    one = {"apiVersion": "example.com/v1", "kind": "Anything", "metadata": {"name": "a"},
           "spec": {"n": 1, "replicas": 3}, "status": {"n": 1}, "more": 1}
    server.api("POST", path, body=one)
    a = server.get(path + "/a")
    equal((a["spec"], "status" in a, a["more"]), (one["spec"], False, 1), "created without its status")
    a = server.api("PUT", path + "/a/status", body={**a, "spec": {"n": 2}, "more": 2,
                                                    "status": {"n": 2, "selector": "a=b"}})
    equal((a["spec"], a["status"], a["more"], a["metadata"]["generation"]),
          (one["spec"], {"n": 2, "selector": "a=b"}, 1, 1), "a write of the status")
    equal(server.get(path + "/a/scale")["status"], {"replicas": 0, "selector": "a=b"}, "scale")
    merge = {"Content-Type": "application/merge-patch+json"}
    a = server.api("PATCH", path + "/a", body={"spec": {"n": 3}, "status": {"n": 3}}, headers=merge)
    equal((a["spec"]["n"], a["status"]["n"], a["metadata"]["generation"]), (3, 2, 2), "a write of the rest")
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    for sub in "", "/status", "/scale":
        equal(refused("PATCH", path + "/a" + sub, {}, strategic)[:2], (415, "UnsupportedMediaType"), f"strategic{sub}")
    equal(refused("DELETE", path + "/a/status", {}),
          (405, "MethodNotAllowed", 'delete is not supported on resources of kind "anythings.example.com"'))
    for method, rest in (("PUT", "/a"), ("GET", "/a/status"), ("DELETE", ""), ("POST", "")):
        code, _, text = server.raw(method, GROUP + "v1/anythings" + rest, body=None if method == "GET" else "{}")
        equal((code, text), (404, b"404 page not found\n"), f"{method} {rest} without a namespace")


def test_defaults_of_embedded_objects():
    """Metadata of a default is an ObjectMeta's; a null that is applied is not left out."""
    head = {"apiVersion": "v1", "kind": "Inner", "metadata": {"name": "x", "unknown": "y"}}
    inner = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    plain = {"type": "object", "properties": {"x": {"type": "string"}}}
    created(definition("boxes", "Box", versions=[
        {"name": "v1", "served": True, "storage": True, "schema": schema(
            {"type": "object", "properties": {"inner": {**inner, "default": {**head, "data": 1}}, "plain": plain}},
            top={**inner, "default": head})}]))
    path = GROUP + "v1/namespaces/default/boxes"
    box = {"apiVersion": "example.com/v1", "kind": "Box", "metadata": {"name": "b"}, "spec": {}}
    b = server.api("POST", path, body=box)
    read = {**head, "metadata": {"name": "x"}}
    equal((b["top"], b["spec"]["inner"]), (read, {**read, "data": 1}), "defaults")
    code, _, why = refused("PATCH", path + "/b?fieldManager=x", {**box, "spec": {"plain": None}},
                           {"Content-Type": "application/apply-patch+yaml"})
    equal(code, 422, why)
    holds(why, 'spec.plain in body must be of type object: "null"')


def test_refusals():
    equal(refused("POST", WIDGETS, widget("b", color="blue", replicas=60))[:2], (422, "Invalid"))
    code, _, why = refused("POST", WIDGETS, widget("b", color="purple", replicas=300))
    equal(code, 422)
    holds(why, 'spec.color: Unsupported value: "purple": supported values: "red", "green", "blue"',
          "spec.replicas: Invalid value: 300: spec.replicas in body should be less than or equal")
    strict = "?fieldValidation=Strict"
    code, _, why = refused("POST", WIDGETS + strict, widget("b", color="red", foo=1, bar={"x": 1}))
    equal((code, why), (400, 'Widget in version "v1" cannot be handled as a Widget: strict decoding '
                             'error: unknown field "spec.bar", unknown field "spec.foo"'))
    holds(server.kubectl_fails("apply", "-f", "-", stdin=json.dumps(widget("b", color="red", foo=1))),
          'unknown field "spec.foo"')
    code, _, why = refused("POST", WIDGETS, {**widget("b", color="red"), "kind": "Gadget"})
    equal((code, why), (422, 'Gadget.example.com "b" is invalid: kind: Invalid value: "Gadget": must '
                             "be Widget"))
    code, _, why = refused("POST", WIDGETS, widget("b", version="v2", color="red"))
    equal((code, why), (400, "the API version in the data (example.com/v2) does not match the "
                             "expected API version (example.com/v1)"))
    code, reason, why = refused("PATCH", WIDGETS + "/a", {}, {
        "Content-Type": "application/strategic-merge-patch+json"})
    equal((code, reason), (415, "UnsupportedMediaType"))
    holds(why, "application/json-patch.json, application/merge-patch.json, application/apply-patch")
    code, _, _ = server.raw("GET", WIDGETS, headers={"Accept": "application/vnd.kubernetes.protobuf"})
    equal(code, 406)
    equal(server.raw("GET", WIDGETS, headers={
        "Accept": "application/vnd.kubernetes.protobuf,application/json"})[0], 200)
    code, _, text = server.raw("GET", GROUP + "v1/namespaces/default/gadgets")
    equal((code, text), (404, b"404 page not found\n"))


def test_server_side_apply():
    def apply(manager, name, *flags, **spec):
        return server.try_kubectl("apply", "--server-side", "--field-manager", manager, *flags, "-f",
                                  "-", stdin=json.dumps(widget(name, **spec)))
    r = apply("one", "s", color="red", parts=[{"name": "x", "size": 1}])
    equal(r.code, 0, r.err)
    r = apply("two", "s", parts=[{"name": "y", "size": 2}], color="red")
    equal(r.code, 0, r.err)
    spec = server.get(WIDGETS + "/s")["spec"]
    equal(sorted(p["name"] for p in spec["parts"]), ["x", "y"], "a list with keys")
    r = apply("two", "s", color="blue")
    equal(r.code, 1)
    holds(r.err, r'conflict with "one": .spec.color')
    r = apply("two", "s", "--force-conflicts", color="blue")
    equal(r.code, 0, r.err)
    spec = server.get(WIDGETS + "/s")["spec"]
    equal((spec["color"], [p["name"] for p in spec["parts"]]), ("blue", ["x"]))


def test_versions():
    old = server.get(GROUP + "v1beta1/namespaces/default/widgets/a")
    equal((old["apiVersion"], old["kind"], old["spec"]["color"]),
          ("example.com/v1beta1", "Widget", "blue"))
    _, headers, _ = server.raw("GET", GROUP + "v1beta1/namespaces/default/widgets")
    holds(str(dict(headers)), "example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget")
    server.api("POST", GROUP + "v1beta1/namespaces/default/widgets",
               body=widget("old", version="v1beta1", color="red", odd=1))
    new = server.get(WIDGETS + "/old")
    equal(new["spec"], {"color": "red", "replicas": 1}, "pruned and defaulted in the other version")
    items = server.get(GROUP + "v1beta1/widgets")["items"]
    equal({i["apiVersion"] for i in items}, {"example.com/v1beta1"})


def test_watch_ends_when_the_definition_changes():
    events, ended = [], threading.Event()
    rv = server.get(WIDGETS)["metadata"]["resourceVersion"]

    def watch():
        c = server.connect()
        query = urllib.parse.urlencode({"watch": "true", "resourceVersion": rv})
        c.request("GET", f"{WIDGETS}?{query}")
        for line in c.getresponse():
            events.append(json.loads(line))
        ended.set()
    t = threading.Thread(target=watch, daemon=True)
    t.start()
    server.api("POST", WIDGETS, body=widget("seen", color="red"))
    wait_for(lambda: events, "an event of a custom resource")
    equal((events[0]["type"], events[0]["object"]["metadata"]["name"],
           events[0]["object"]["apiVersion"]), ("ADDED", "seen", "example.com/v1"))
    crd = server.get(CRDS + "/widgets.example.com")
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["note"] = {"type": "string", "default": "none"}
    server.api("PUT", CRDS + "/widgets.example.com", body=crd)
    check(ended.wait(240), "the watch did not end with its definition")
    equal(server.get(WIDGETS + "/seen")["spec"]["note"], "none", "the new default")
    items = {i["metadata"]["name"]: i["spec"] for i in server.get(WIDGETS)["items"]}
    equal(items["a"]["note"], "none")


def test_names_that_are_taken():
    k("create", "-f", "-", stdin=json.dumps(definition("gizmos", "Gizmo", shortNames=["wd"])))
    wait_for(lambda: conditions("gizmos.example.com").get("NamesAccepted") ==
             ("False", "ShortNamesConflict"), "the conflict is told")
    equal(conditions("gizmos.example.com")["Established"], ("False", "NotAccepted"))
    check(gone(GROUP + "v1/namespaces/default/gizmos"), "served without its names")
    k("delete", "crd", "gizmos.example.com")


def test_bad_definitions():
    bad = definition("bads", "Bad", group="example.org")
    bad["metadata"]["name"] = "other.example.org"
    code, _, why = refused("POST", CRDS, bad)
    equal(code, 422)
    holds(why, r"must be spec.names.plural\+\".\"\+spec.group")
    bad = definition("bads", "Bad", group="example.org")
    bad["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = {}
    code, _, why = refused("POST", CRDS, bad)
    equal(code, 422)
    holds(why, r"properties\[spec\].type: Required value: must not be empty for specified object")


def test_unknown_formats_are_warned_of():
    def spec(*formats):
        return schema({"type": "object", "properties": {
            f"f{i}": {"type": "string", "format": f} for i, f in enumerate(formats)}})

    def warnings(method, path, *formats, headers=None):
        body = definition("formals", "Formal", versions=[
            {"name": "v1", "served": True, "storage": True, "schema": spec(*formats)}])
        code, got, text = server.raw(method, path, json.dumps(body), headers)
        check(code in (200, 201), text)
        return got.get_all("Warning") or []
    one, two = '299 - "unrecognized format \\"one\\""', '299 - "unrecognized format \\"two\\""'
    equal(warnings("POST", CRDS, "one", "date", "one"), [one])
    merge = {"Content-Type": "application/merge-patch+json"}
    equal(warnings("PATCH", CRDS + "/formals.example.com", "two", "one", headers=merge), [two])
    many = [f"x{i}" for i in range(8000)]  # all are looked up among all that there were
    equal(len(warnings("PATCH", CRDS + "/formals.example.com", *many, headers=merge)), 90)
    equal(warnings("PATCH", CRDS + "/formals.example.com", *many[1:], headers=merge), [])
    k("delete", "crd", "formals.example.com")


def test_owners_and_namespaces():
    k("create", "namespace", "ends")
    owner = server.api("POST", GROUP + "v1/namespaces/ends/widgets", body=widget("o", color="red"))
    ref = [{"apiVersion": "example.com/v1", "kind": "Widget", "name": "o",
            "uid": owner["metadata"]["uid"]}]
    for path, body in (("/api/v1/namespaces/ends/configmaps", config_map("kept")),
                       (GROUP + "v1/namespaces/ends/widgets", widget("kept", color="red"))):
        body["metadata"]["ownerReferences"] = ref
        body["metadata"]["namespace"] = "ends"
        server.api("POST", path, body=body)
    k("delete", "-n", "ends", "widget", "o")
    wait_for(lambda: gone("/api/v1/namespaces/ends/configmaps/kept"), "the ConfigMap is collected")
    wait_for(lambda: gone(GROUP + "v1/namespaces/ends/widgets/kept"), "the widget is collected")
    server.api("POST", GROUP + "v1/namespaces/ends/widgets", body=widget("left", color="red"))
    k("delete", "namespace", "ends")
    equal(server.get(GROUP + "v1/namespaces/ends/widgets")["items"], [])


def test_owners_of_a_definition_that_changes():
    one = server.connect()  # what it has seen once, it goes on seeing

    def turns(version):
        return definition("turns", "Turn", versions=[
            {"name": v, "served": v == version, "storage": v == "v1", "schema": schema(LOOSE)}
            for v in ("v1", "v2")])

    def collects(version):
        path = f"{GROUP}{version}/namespaces/default/turns"
        wait_for(lambda: server.raw("GET", path, connection=one)[0] == 200, version + " is served")
        owner = {"apiVersion": "example.com/" + version, "kind": "Turn", "metadata": {"name": "o"}}
        meta = server.api("POST", path, body=owner, connection=one)["metadata"]
        server.api("POST", "/api/v1/namespaces/default/configmaps", body=config_map(
            "turned", ownerReferences=[{"apiVersion": "example.com/" + version, "kind": "Turn",
                                        "name": "o", "uid": meta["uid"]}]))
        server.api("DELETE", path + "/o", connection=one)
        wait_for(lambda: gone("/api/v1/namespaces/default/configmaps/turned"),
                 f"the ConfigMap of an owner in {version} is collected")

    created(turns("v1"))
    collects("v1")
    for version in ("v2", "v1"):
        server.api("PATCH", CRDS + "/turns.example.com", body={"spec": turns(version)["spec"]},
                   headers={"Content-Type": "application/merge-patch+json"})
        collects(version)
    k("delete", "crd", "turns.example.com")
    created(turns("v2"))
    collects("v2")
    k("delete", "crd", "turns.example.com")


def test_end():
    created(definition("shorts", "Short", group="end.example.com"))
    path = "/apis/end.example.com/v1/namespaces/default/shorts"
    body = {"apiVersion": "end.example.com/v1", "kind": "Short",
            "metadata": {"name": "held", "finalizers": ["example.com/wait"]}}
    _, headers, _ = server.raw("POST", path, body=json.dumps(body))
    k("delete", "crd", "shorts.end.example.com", "--wait=false")
    wait_for(lambda: conditions("shorts.end.example.com").get("Terminating") ==
             ("True", "InstanceDeletionInProgress"), "Terminating")
    body["metadata"] = {"name": "late"}
    code, _, why = refused("POST", path, body)
    equal((code, why), (403, 'shorts.end.example.com "late" is forbidden: create not allowed while '
                             "custom resource definition is terminating"))
    server.api("PATCH", path + "/held", body={"metadata": {"finalizers": None}},
               headers={"Content-Type": "application/merge-patch+json"})
    wait_for(lambda: gone(CRDS + "/shorts.end.example.com"), "the definition is gone")
    check(gone(path), "served after its definition")
    check(gone("/apis/end.example.com"), "the group is still listed")


def test_many_at_once():
    n = 200
    before = server.rss_kib()
    for i in range(n):
        server.api("POST", CRDS, body=definition(f"many{i}", f"Many{i}", group="many.example.com"))
    wait_for(lambda: len(server.get("/apis/many.example.com/v1")["resources"]) == n,
             "all are served")
    for i in range(n):
        server.api("POST", f"/apis/many.example.com/v1/namespaces/default/many{i}", body={
            "apiVersion": "many.example.com/v1", "kind": f"Many{i}", "metadata": {"name": "x"},
            "spec": {"any": i}})
    each = (server.rss_kib() - before) / n
    print(f"# {each:.0f} KiB for a definition with one object")
    with open(KINGLET, "rb") as f:
        sanitized = b"__asan_init" in f.read()  # its memory says nothing
    if not sanitized and each > 100:
        fail(f"{each:.0f} KiB for a definition with one object")


def test_restart():
    server.stop()
    server.start()
    equal(server.get(WIDGETS + "/a")["spec"]["color"], "blue")
    items = server.get("/apis/many.example.com/v1/many7")["items"]
    equal([i["spec"] for i in items], [{"any": 7}])
    k("delete", "crd", "widgets.example.com")
    check(gone(WIDGETS), "served after its definition")


if __name__ == "__main__":
    run(server)
