#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Server-side apply and managedFields, by an unmodified kubectl and by raw requests."""
import json
import subprocess
from lib import KUBECTL, Server, check, config_map, deployment, equal, holds, run, wait_for

server = Server()
k = server.kubectl
APPLY = {"Content-Type": "application/apply-patch+yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}
MAPS = "/api/v1/namespaces/default/configmaps/"


def get(what):
    return json.loads(k("get", what, "-o", "json", "--show-managed-fields"))


def owners(what):
    """{(manager, operation, subresource): fields}"""
    return {(m["manager"], m["operation"], m.get("subresource", "")): m["fieldsV1"]
            for m in get(what)["metadata"].get("managedFields", [])}


def apply(obj, manager="kubectl", *flags):
    return server.try_kubectl("apply", "--server-side", "--field-manager", manager, *flags,
                              "-f", "-", stdin=json.dumps(obj))


def applied(obj, manager="kubectl", *flags):
    r = apply(obj, manager, *flags)
    equal(r.code, 0, f"apply by {manager}: {r.err}")
    return r.out


def patch(name, body, query="?fieldManager=raw", headers=None):
    code, _, text = server.raw("PATCH", MAPS + name + query, body=body if isinstance(body, str)
                               else json.dumps(body), headers=headers or APPLY)
    return code, json.loads(text)


def data(**pairs):
    return {"f:data": {f"f:{name}": {} for name in pairs}}


def test_create_update_and_own():
    equal(applied(config_map("own", {"a": "1", "b": "2"})), "configmap/own serverside-applied\n")
    equal(owners("cm/own"), {("kubectl", "Apply", ""): data(a=1, b=1)}, "owners")
    # What is no more said, and nobody else owns, goes; the rest stays with its owner.
    k("patch", "cm", "own", "--type=merge", "-p", '{"data":{"c":"3"}}')
    applied(config_map("own", {"b": "2"}))
    equal(get("cm/own")["data"], {"b": "2", "c": "3"}, "data")
    equal(owners("cm/own"), {("kubectl", "Apply", ""): data(b=1),
                             ("kubectl-patch", "Update", ""): data(c=1)}, "owners")


def test_nothing_changes():
    applied(config_map("same", {"a": "1"}))
    before = get("cm/same")
    applied(config_map("same", {"a": "1"}))
    equal(get("cm/same"), before, "an apply of the same")
    # An update that changes nothing writes nothing either.
    server.api("PUT", MAPS + "same?fieldManager=kubectl", body=before)
    equal(get("cm/same"), before, "an update with the same")


def test_conflict():
    applied(config_map("fight", {"a": "1", "b": "1"}), "one")
    r = apply(config_map("fight", {"a": "2"}), "two")
    check(r.code != 0, "a conflict is refused")
    holds(r.err, r'^error: Apply failed with 1 conflict: conflict with "one": \.data\.a$')
    r = apply(config_map("fight", {"a": "2", "b": "2"}), "two")
    holds(r.err, r'^error: Apply failed with 2 conflicts: conflicts with "one":$', r"^- \.data\.a$",
          r"^- \.data\.b$")
    # The same value is shared.
    applied(config_map("fight", {"b": "1"}), "two")
    applied(config_map("fight", {"a": "2", "b": "1"}), "two", "--force-conflicts")
    equal(owners("cm/fight"), {("one", "Apply", ""): data(b=1), ("two", "Apply", ""): data(a=1, b=1)},
          "owners")
    code, status = patch("fight", config_map("fight", {"a": "3"}))
    equal(code, 409)
    equal(status["reason"], "Conflict")
    equal(status["details"], {"causes": [{"reason": "FieldManagerConflict", "field": ".data.a",
                                          "message": 'conflict with "two"'}]}, "details")


def test_update_takes():
    applied(config_map("taken", {"a": "1", "b": "1"}))
    k("patch", "cm", "taken", "--type=merge", "-p", '{"data":{"a":"2"}}')
    equal(owners("cm/taken"), {("kubectl", "Apply", ""): data(b=1),
                               ("kubectl-patch", "Update", ""): data(a=1)}, "owners")
    r = apply(config_map("taken", {"a": "1"}))
    holds(r.err, r'conflict with "kubectl-patch" using v1: \.data\.a$')


def test_lists_with_keys():
    d = deployment("lists")
    applied(d, "one")
    d2 = json.loads(json.dumps(d))
    del d2["spec"]["replicas"]
    d2["spec"]["template"]["spec"]["containers"] = [{"name": "side", "image": "busybox:2"}]
    applied(d2, "two")
    spec = get("deploy/lists")["spec"]["template"]["spec"]
    equal([c["name"] for c in spec["containers"]], ["main", "side"], "containers")
    d3 = json.loads(json.dumps(d2))
    d3["spec"]["template"]["spec"]["containers"] = []
    applied(d3, "two")
    spec = get("deploy/lists")["spec"]["template"]["spec"]
    equal([c["name"] for c in spec["containers"]], ["main"], "containers")


def test_subresources():
    applied(deployment("sub"), "one")
    k("scale", "deploy", "sub", "--replicas=3")
    got = owners("deploy/sub")
    equal(got[("kubectl", "Update", "scale")], {"f:spec": {"f:replicas": {}}}, "scale")
    check("f:replicas" not in got[("one", "Apply", "")]["f:spec"], "replicas have a new owner")
    path = "/apis/apps/v1/namespaces/default/deployments/sub/status?fieldManager=me"
    server.api("PATCH", path, headers=MERGE, body={"status": {"conditions": [
        {"type": "Mine", "status": "True"}]}, "spec": {"paused": True}})
    got = owners("deploy/sub")[("me", "Update", "status")]
    equal(list(got), ["f:status"], "what a status writer owns")
    path = "/apis/apps/v1/namespaces/default/deployments/sub/scale?fieldManager=me"
    code, _, text = server.raw("PATCH", path, headers=APPLY, body=json.dumps(
        {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "sub"},
         "spec": {"replicas": 5}}))
    equal(code, 409)
    equal(json.loads(text)["details"]["causes"][0]["field"], ".spec.replicas")
    code, _, text = server.raw("PATCH", path + "&force=true", headers=APPLY, body=json.dumps(
        {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "sub"},
         "spec": {"replicas": 5}}))
    equal((code, json.loads(text)["spec"]["replicas"]), (200, 5))


def test_migrates_from_client_side():
    k("apply", "-f", "-", stdin=json.dumps(config_map("moved", {"a": "1", "b": "1"})))
    check(("kubectl-client-side-apply", "Update", "") in owners("cm/moved"), "client-side owner")
    applied(config_map("moved", {"a": "2"}))
    got = get("cm/moved")
    equal(got["data"], {"a": "2"}, "data")
    check(("kubectl-client-side-apply", "Update", "") not in owners("cm/moved"), owners("cm/moved"))
    # The annotation follows, so that client-side apply can go on.
    said = json.loads(k("apply", "view-last-applied", "cm/moved", "-o", "json"))
    equal(said["data"], {"a": "2"}, "last applied")
    k("apply", "-f", "-", stdin=json.dumps(config_map("moved", {"c": "3"})))
    equal(get("cm/moved")["data"], {"c": "3"}, "data")


def test_view_last_applied_and_edit():
    k("apply", "-f", "-", stdin=json.dumps(config_map("seen", {"a": "1"})))
    equal(json.loads(k("apply", "view-last-applied", "cm", "seen", "-o", "json"))["data"],
          {"a": "1"}, "last applied")
    env = {**server.kubectl_env(), "EDITOR": r"sed -i s/^\ \ a:/\ \ b:/"}
    r = subprocess.run([KUBECTL, "edit", "cm", "seen"], env=env, capture_output=True, text=True)
    equal(r.returncode, 0, r.stderr)
    equal(get("cm/seen")["data"], {"b": "1"}, "data")
    check(("kubectl-edit", "Update", "") in owners("cm/seen"), owners("cm/seen"))


def test_dry_run_and_diff():
    applied(config_map("dry", {"a": "1"}))
    before = get("cm/dry")
    out = applied(config_map("dry", {"a": "2"}), "kubectl", "--dry-run=server", "-o", "json")
    equal(json.loads(out)["data"], {"a": "2"}, "what it would be")
    equal(get("cm/dry"), before, "after a dry run")
    r = server.try_kubectl("diff", "--server-side", "-f", "-",
                           stdin=json.dumps(config_map("dry", {"a": "2"})))
    equal(r.code, 1, r.err)
    holds(r.out, r"^-  a: \"1\"$", r"^\+  a: \"2\"$")
    r = server.try_kubectl("diff", "-f", "-", stdin=json.dumps(config_map("dry", {"a": "1"})))
    equal(r.code, 0, r.out + r.err)
    applied(config_map("never", {"a": "2"}), "kubectl", "--dry-run=server")
    check(server.try_kubectl("get", "cm", "never").code != 0, "a dry run creates nothing")


def test_shown_only_when_asked():
    applied(config_map("shown", {"a": "1"}))
    check("managedFields" not in k("get", "cm", "shown", "-o", "yaml"), "hidden")
    check("managedFields" in k("get", "cm", "shown", "-o", "yaml", "--show-managed-fields"), "shown")
    table = json.loads(server.raw("GET", MAPS[:-1], headers={
        "Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"})[2])
    check(all("managedFields" in r["object"]["metadata"] for r in table["rows"]
              if r["object"]["metadata"]["name"] == "shown"), "the rows' metadata is whole")


def test_entries_are_reset_or_kept():
    applied(config_map("reset", {"a": "1"}))
    for nonsense in ([{"manager": "x"}], [{"manager": "x", "operation": "Update", "apiVersion": "v1",
                                          "fieldsType": "FieldsV1", "fieldsV1": {"g": {}}}]):
        patch("reset", {"metadata": {"managedFields": nonsense}}, headers=MERGE)
        equal(owners("cm/reset"), {("kubectl", "Apply", ""): data(a=1)}, "owners")
    patch("reset", {"metadata": {"managedFields": [{}]}}, headers=MERGE)
    equal(owners("cm/reset"), {}, "owners")
    # An apply then says who was there before it.
    applied(config_map("reset", {"b": "1"}))
    equal(owners("cm/reset"), {("before-first-apply", "Update", ""): {"f:data": {".": {}, "f:a": {}}},
                               ("kubectl", "Apply", ""): data(b=1)}, "owners")


def test_very_many_entries():
    """The oldest become one, in memory that goes with what they say and not with its square."""
    n = 3000
    entries = [{"manager": f"m{i}", "operation": "Update", "apiVersion": "v1",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {f"f:k{i}": {}}}}
               for i in range(n)]
    made = server.api("POST", MAPS[:-1] + "?dryRun=All", config_map(
        "many", {f"k{i}": "" for i in range(n)}, managedFields=entries))
    got = [(m["manager"], len(m["fieldsV1"]["f:data"])) for m in made["metadata"]["managedFields"]]
    equal(got, [("unknown", n + 1)], "managers and their fields")
    # Nor with its time: all of these are looked up among all.
    made = server.api("POST", MAPS[:-1] + "?dryRun=All", config_map("many", {"a": ""}, managedFields=[
        {"manager": f"m{i}", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1"}
        for i in range(20000)]))
    equal([m["manager"] for m in made["metadata"]["managedFields"]],
          [f"m{i}" for i in range(9992, 10000)] + ["unknown"])


def test_repeated_entries():
    """The last of them counts, where the first stood."""
    server.api("POST", MAPS[:-1], config_map("again", {"a": "", "b": "", "c": ""}))
    made = server.api("PUT", MAPS + "again?dryRun=All", config_map(
        "again", {"a": "", "b": "", "c": ""}, managedFields=[
            {"manager": m, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
             "fieldsV1": {"f:data": {f: {}}}} for m, f in (("x", "f:a"), ("y", "f:b"), ("x", "f:c"))]))
    equal([(m["manager"], m["fieldsV1"]) for m in made["metadata"]["managedFields"]],
          [("x", data(c=1)), ("y", data(b=1))])
    k("delete", "cm", "again")


def test_manager_of_the_agent():
    for agent, manager in (("curl/8.0 (x)", "curl"), ("a b", "a b"), ("x" * 200, "x" * 128),
                           ("", "unknown")):
        name = f"agent-{len(agent)}"
        server.api("POST", MAPS[:-1], body=config_map(name, {"a": "1"}),
                   headers={"User-Agent": agent, "Content-Type": "application/json"})
        equal(list(owners(f"cm/{name}")), [(manager, "Update", "")], agent)


def test_version_without_the_field():
    """Managers of a version that lacks a field of the object fail an apply, and an update forgets all
    of them: upstream shows the object to each manager in the manager's version, unpruned."""
    def version(name, storage, **fields):
        spec = {"type": "object", "properties": fields}
        return {"name": name, "served": True, "storage": storage,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}
    text, more = {"type": "string"}, {"type": "object", "properties": {"x": {"type": "string"}}}
    k("apply", "-f", "-", stdin=json.dumps({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "olds.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "olds", "kind": "Old"},
                 "versions": [version("v1", True, a=text, m=more), version("v1beta1", False, a=text)]}}))
    k("wait", "--for=condition=Established", "crd/olds.example.com", "--timeout=120s")

    def send(v, query, spec, headers=None):
        body = {"apiVersion": f"example.com/{v}", "kind": "Old", "metadata": {"name": "o"}, "spec": spec}
        code, _, out = server.raw("PATCH", f"/apis/example.com/{v}/namespaces/default/olds/o?fieldManager={query}",
                                  body=json.dumps(body), headers=headers or APPLY)
        return code, json.loads(out)

    def managers(obj):
        return [(m["manager"], m["apiVersion"]) for m in obj["metadata"].get("managedFields", [])]
    equal(send("v1beta1", "old", {"a": "1"})[0], 201, "created")
    code, out = send("v1", "new", {"m": {"x": "1"}})
    equal((code, out.get("message")), (500, "failed to convert new object: .spec.m: field not declared in schema"),
          "an apply of what the older version has not")
    code, out = send("v1", "new", {"a": "1"})
    equal((code, managers(out)), (200, [("new", "example.com/v1"), ("old", "example.com/v1beta1")]), "both know a")
    code, out = send("v1", "upd", {"m": {"x": "1"}}, MERGE)
    equal((code, out["spec"], managers(out)), (200, {"a": "1", "m": {"x": "1"}}, []), "an update forgets")
    # The same once the version of a manager is gone.
    server.api("DELETE", "/apis/example.com/v1/namespaces/default/olds/o")
    equal(send("v1beta1", "old", {"a": "1"})[0], 201, "created")
    k("patch", "crd", "olds.example.com", "--type=json", "-p", '[{"op":"remove","path":"/spec/versions/1"}]')
    wait_for(lambda: server.raw("GET", "/apis/example.com/v1beta1/namespaces/default/olds")[0] == 404, "gone")
    code, out = send("v1", "new", {"a": "1"})
    equal((code, out.get("message")),
          (500, "request to convert CR to an invalid group/version: example.com/v1beta1"), "an apply")
    code, out = send("v1", "upd", {"m": {"x": "1"}}, MERGE)
    equal((code, managers(out)), (200, []), "an update")


def test_refusals():
    def refused(body, code, message, **args):
        got, status = patch("bad", body, **args)
        equal((got, status.get("message")), (code, message))
    good = config_map("bad", {"a": "1"})
    refused("{}", 422, 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is '
            "required for apply patch", query="")
    refused("{}", 422, 'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be '
            "specified for non-apply patch", query="?force=true", headers=MERGE)
    refused(deployment("bad"), 400, "invalid object type: apps/v1, Kind=Deployment")
    refused({**good, "metadata": {"name": "bad", "managedFields": []}}, 400,
            "metadata.managedFields must be nil")
    refused({**good, "foo": 1}, 500, "failed to create typed patch object (/bad; /v1, "
            "Kind=ConfigMap): .foo: field not declared in schema")
    refused({**good, "data": {"a": 1}}, 500, "failed to create typed patch object (/bad; /v1, "
            "Kind=ConfigMap): .data.a: expected string, got &value.valueUnstructured{Value:1}")
    refused({**good, "metadata": {"name": "yes"}}, 400,
            "the name of the object (yes) does not match the name on the URL (bad)")
    refused({**good, "metadata": {"name": "bad", "uid": "u"}}, 409,
            'Operation cannot be fulfilled on configmaps "bad": uid mismatch: the provided object '
            "specified uid u, and no existing object was found")
    refused("a: [1", 400, "error decoding YAML: error converting YAML to JSON: yaml: line 1: did not find expected ',' or ']'")
    twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\ndata:\n  a: x\n  a: z\n"
    why = ('error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key "a" already set '
           "in map")
    refused(twice, 400, "error strict decoding YAML: " + why,
            query="?fieldManager=raw&fieldValidation=Strict")
    equal(patch("bad", twice, headers={"Content-Type": "application/apply-patch+cbor"})[0], 415)
    code, _ = patch("bad", good)
    equal(code, 201)
    code, _ = patch("bad", good)
    equal(code, 200)
    code, status = patch("bad", {**good, "metadata": {"name": "bad", "uid": "u"}})
    equal((code, status["details"]["causes"][0]["field"]), (422, "metadata.uid"))
    code, status = patch("bad", {**good, "metadata": {"name": "bad", "resourceVersion": "1"}})
    equal((code, status["reason"]), (409, "Conflict"))


if __name__ == "__main__":
    run(server)
