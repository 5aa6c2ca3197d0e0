#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time-limit: 600
"""An unmodified kubectl against a control plane without a node: every command that needs none."""
import datetime
import json
import re
from kinds import KINDS, NAMESPACE, NOT_CREATED
from lib import (Server, check, config_map, deployment, equal, holds, labels, pod, run,
                 wait_for)

server = Server()
k = server.kubectl


def namespace(name):
    k("create", "namespace", name)
    return ["-n", name]


def names(n, what):
    return k(*n, "get", what, "-o", "name").split()


def cells(line):
    """A table's row: kubectl puts three spaces between columns."""
    return re.split(r" {2,}", line.rstrip())


def test_version():
    out = k("version")
    holds(out, r"^Client Version: v1\.36\.4$", r"^Server Version: v1\.36\.\d+\S*$")
    got = json.loads(k("version", "-o", "json"))["serverVersion"]
    equal((got["major"], got["minor"]), ("1", "36"))
    check(got["gitVersion"].startswith("v1.36.") and got["platform"].startswith("linux/"), got)
    check("WARNING" not in server.try_kubectl("version").err, "kubectl warns of a version skew")


def test_cluster_info():
    out = re.sub(r"\x1b\[[0-9;]*m", "", k("cluster-info"))
    holds(out, rf"^Kubernetes control plane is running at https://127\.0\.0\.1:{server.port}$")


def test_api_versions():
    got = k("api-versions").split()
    equal(got, sorted(got), "order")
    want = {"v1", "apps/v1", "batch/v1", "autoscaling/v1", "autoscaling/v2", "policy/v1",
            "rbac.authorization.k8s.io/v1", "storage.k8s.io/v1", "events.k8s.io/v1",
            "coordination.k8s.io/v1", "networking.k8s.io/v1", "discovery.k8s.io/v1",
            "authentication.k8s.io/v1", "authorization.k8s.io/v1", "certificates.k8s.io/v1",
            "admissionregistration.k8s.io/v1", "apiextensions.k8s.io/v1",
            "apiregistration.k8s.io/v1", "flowcontrol.apiserver.k8s.io/v1", "node.k8s.io/v1",
            "scheduling.k8s.io/v1", "resource.k8s.io/v1"}
    check(want <= set(got), f"missing: {sorted(want - set(got))}")


def test_api_resources():
    out = k("api-resources").splitlines()
    equal(out[0].split(), ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"])
    rows = {(r.split()[0], r.split()[-3]): r.split() for r in out[1:]}
    for want in ("pods po v1 true Pod", "services svc v1 true Service", "nodes no v1 false Node",
                 "deployments deploy apps/v1 true Deployment", "bindings v1 true Binding",
                 "customresourcedefinitions crd,crds apiextensions.k8s.io/v1 false "
                 "CustomResourceDefinition", "events ev events.k8s.io/v1 true Event",
                 "horizontalpodautoscalers hpa autoscaling/v2 true HorizontalPodAutoscaler",
                 "selfsubjectreviews authentication.k8s.io/v1 false SelfSubjectReview"):
        words = want.split()
        equal(rows.get((words[0], words[-3])), words, words[0])
    equal(set(k("api-resources", "--verbs=list", "-o", "name").split()),
          set(KINDS) | NOT_CREATED, "resources that can be listed")
    wide = k("api-resources", "--api-group=apps", "-o", "wide")
    holds(wide, r"^deployments .* create,delete,deletecollection,get,list,patch,update,watch +all$")
    check("pods" not in k("api-resources", "--namespaced=false", "-o", "name").split(),
          "pods are namespaced")


def test_create_every_kind():
    n = namespace(NAMESPACE)
    wait_for(lambda: names(n, "sa"), "the default service account")
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = []
    for resource, (_, obj) in KINDS.items():
        text = json.dumps(obj).replace("@NOW", now)
        r = server.try_kubectl("-n", NAMESPACE, "create", "-f", "-", stdin=text)
        name = obj["metadata"]["name"]
        singular = obj["kind"].lower() + "".join("." + g for g in resource.split(".", 1)[1:])
        if r.out != f"{singular}/{name} created\n":
            lines.append(f"{resource}: {r.out}{r.err}")
    check(not lines, "".join(lines))


def matches(cell, want):
    if want == "AGE":
        return re.fullmatch(r"\d+[sm](\d+s)?", cell)
    if want == "TIME":
        return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", cell)
    return want in ("*", "?") or cell == want


def test_get_every_kind():
    wrong = []
    for resource, (want, obj) in KINDS.items():
        r = server.try_kubectl("-n", NAMESPACE, "get", resource)
        rows = [cells(line) for line in r.out.splitlines()]
        header = rows[0] if rows else []
        mine = [row for row in rows[1:] if want[0] in row[:1]]
        first = "NAME"
        if resource == "events":
            mine, first = [row for row in rows[1:] if row[-1] == "it is so"], "LAST SEEN"
        row = mine[0] if mine else []
        want = [w for w in want if w != "?"] if len(row) < len(want) else want
        # An empty cell is only spaces: the others and their order are compared.
        if len(row) != len(want) or not all(map(matches, row, want)) or header[:1] != [first]:
            wrong.append(f"{resource}: got {row}, want {want} {r.err}{r.out if not row else ''}")
    check(not wrong, "\n" + "\n".join(wrong))


def test_get_every_kind_in_every_form():
    """-o wide, yaml, json, name and jsonpath of each resource, alone and as a list."""
    resources = k("api-resources", "--verbs=list", "-o", "name").split()
    wrong = []
    for resource in resources:
        name = KINDS[resource][1]["metadata"]["name"] if resource in KINDS else None
        for form in (["-o", "wide"], ["-o", "yaml"], ["-o", "json"], ["-o", "name"],
                     ["-o", "jsonpath={.items[*].kind}"], ["-A"]):
            r = server.try_kubectl("-n", NAMESPACE, "get", resource, *form)
            if r.code or r.err and "deprecated" not in r.err:
                wrong.append(f"get {resource} {' '.join(form)}: {r.err}")
            elif name and form[-1] != "yaml" and not r.out.strip():
                wrong.append(f"get {resource} {' '.join(form)}: nothing")
            elif name and form[-1] == "name" and not re.search(rf"/{re.escape(name)}$", r.out, re.M):
                wrong.append(f"get {resource} -o name: {r.out}")
            elif form[-1] == "json" and json.loads(r.out)["kind"] != "List":
                wrong.append(f"get {resource} -o json: {r.out[:200]}")
    check(not wrong, "\n" + "\n".join(wrong))


def test_objects_come_back():
    """What was sent is in what is read: the same fields with the same values."""
    wrong = []

    def covers(got, want, path):
        if isinstance(want, dict) and isinstance(got, dict):
            for key, value in want.items():
                if value not in (False, 0, "", [], {}) or got.get(key):  # empty may be left out
                    covers(got.get(key), value, f"{path}.{key}")
        elif isinstance(want, list) and isinstance(got, list) and len(got) == len(want):
            for i, value in enumerate(want):
                covers(got[i], value, f"{path}[{i}]")
        elif got != want and want != "@NOW":
            wrong.append(f"{path}: got {got!r}, want {want!r}")

    for resource, (_, obj) in KINDS.items():
        got = k("-n", NAMESPACE, "get", resource, obj["metadata"]["name"], "-o", "json")
        covers(json.loads(got), obj, resource)
    check(not wrong, "\n" + "\n".join(wrong))


def test_get_forms():
    n = namespace("forms")
    for i in range(3):
        server.apply(config_map(f"cm{i}", {"key": f"value {i}"},
                                labels=labels(f"n=n{i},all=yes")), namespace="forms")
    table = k(*n, "get", "cm", "-l", "all").splitlines()
    equal([cells(r) for r in table[:1]], [["NAME", "DATA", "AGE"]])
    equal([cells(r)[:2] for r in table[1:]], [[f"cm{i}", "1"] for i in range(3)])
    equal(k(*n, "get", "cm/cm1", "-o", "name"), "configmap/cm1\n")
    equal(k(*n, "get", "cm", "-l", "n in (n0,n2)", "-o", "name").split(),
          ["configmap/cm0", "configmap/cm2"])
    equal(k(*n, "get", "cm", "-l", "n!=n0,all", "-o", "name").split(),
          ["configmap/cm1", "configmap/cm2"])
    equal(k(*n, "get", "cm", "--field-selector=metadata.name=cm2", "-o", "name").split(),
          ["configmap/cm2"])
    equal(k(*n, "get", "cm", "-l", "all", "--field-selector=metadata.name!=cm2", "-o", "name")
          .split(), ["configmap/cm0", "configmap/cm1"])
    equal(k(*n, "get", "cm", "-l", "all", "-o", "jsonpath={range .items[*]}{.data.key}{';'}{end}"),
          "value 0;value 1;value 2;")
    equal(k(*n, "get", "cm", "-l", "all", "-o", "custom-columns=N:.metadata.name,K:.data.key")
          .splitlines()[1].split(None, 1), ["cm0", "value 0"])
    equal(k(*n, "get", "cm", "-l", "all", "--no-headers", "--sort-by=.metadata.name").count("\n"), 3)
    holds(k(*n, "get", "cm", "-l", "all", "--show-labels"), r"^cm0 .* all=yes,n=n0$")
    holds(k(*n, "get", "cm", "-L", "n", "-l", "all"), r"^NAME +DATA +AGE +N$", r"^cm1 .* n1$")
    holds(k("get", "cm", "-A", "-l", "all"), r"^NAMESPACE +NAME +DATA +AGE$", r"^forms +cm0 +1 ")
    equal(k(*n, "get", "cm", "cm0", "cm1", "-o", "name").split(), ["configmap/cm0", "configmap/cm1"])
    yaml = k(*n, "get", "cm", "cm0", "-o", "yaml")
    holds(yaml, r"\AapiVersion: v1$", r"^data:$", r"^  key: value 0$", r"^kind: ConfigMap$",
          r"^  creationTimestamp: \"\d{4}-", r"^  namespace: forms$", r"^  uid: [0-9a-f-]{36}$")
    check("managedFields" not in yaml, "managedFields are hidden")
    err = server.kubectl_fails(*n, "get", "cm", "nosuch")
    equal(err, 'Error from server (NotFound): configmaps "nosuch" not found\n')
    equal(server.try_kubectl(*n, "get", "pods").err, "No resources found in forms namespace.\n")
    equal(server.kubectl_fails("get", "nosuchkind"),
          'error: the server doesn\'t have a resource type "nosuchkind"\n')
    equal(server.kubectl_fails(*n, "get", "cm", "-l", "a=(b"),
          'Error from server (BadRequest): Unable to find "/v1, Resource=configmaps" that match '
          'label selector "a=(b", field selector "": unable to parse requirement: found \'(\', '
          'expected: identifier\n')
    equal(server.kubectl_fails(*n, "get", "pods", "--field-selector=spec.nosuch=a"),
          'Error from server (BadRequest): Unable to find "/v1, Resource=pods" that match label '
          'selector "", field selector "spec.nosuch=a": field label not supported: spec.nosuch\n')


def test_get_in_chunks():
    n = namespace("chunks")
    server.apply(*[config_map(f"cm{i:02}") for i in range(23)], namespace="chunks")
    for size in ("1", "5", "23", "500", "0"):
        got = k(*n, "get", "cm", f"--chunk-size={size}", "--field-selector",
                "metadata.name!=kube-root-ca.crt", "-o", "name").split()
        equal(got, [f"configmap/cm{i:02}" for i in range(23)], f"--chunk-size={size}")
    log = server.try_kubectl(*n, "get", "cm", "--chunk-size=10", "-v=6").err
    # 23 of ours and, as soon as it is there, the root CA's
    equal(len(re.findall(r"limit=10", log)), 3, "requests")


def test_watch():
    n = namespace("watch")
    k(*n, "create", "configmap", "one")
    with server.kubectl_background(*n, "get", "cm", "--watch", "--output-watch-events",
                                   "--field-selector=metadata.name!=kube-root-ca.crt") as watch:
        watch.wait_text(r"^ADDED +one +0 ")
        k(*n, "create", "configmap", "two", "--from-literal=a=1")
        watch.wait_text(r"^ADDED +two +1 ")
        k(*n, "patch", "cm", "two", "-p", '{"data":{"b":"2"}}')
        watch.wait_text(r"^MODIFIED +two +2 ")
        k(*n, "delete", "cm", "one")
        watch.wait_text(r"^DELETED +one +0 ")
        equal(watch.lines()[0].split(), ["EVENT", "NAME", "DATA", "AGE"])
        equal(len(watch.lines()), 5)
    with server.kubectl_background(*n, "get", "cm", "-w", "-l", "watched=yes", "-o", "name") as w:
        k(*n, "label", "cm", "two", "watched=yes")
        w.wait_text(r"^configmap/two$")
        k(*n, "create", "configmap", "three")
        k(*n, "label", "cm", "three", "watched=yes")
        w.wait_text(r"^configmap/three$")
        equal(w.lines(), ["configmap/two", "configmap/three"])
    with server.kubectl_background("get", "cm", "-A", "--watch-only", "-o", "json") as w:
        def seen():
            k(*n, "annotate", "--overwrite", "cm", "two", f"at={datetime.datetime.now().timestamp()}")
            return '"name": "two"' in w.text()
        wait_for(seen, "an event in JSON")


def test_create():
    n = namespace("create")
    equal(k(*n, "create", "configmap", "a", "--from-literal=k=v"), "configmap/a created\n")
    equal(server.kubectl_fails(*n, "create", "configmap", "a"),
          'error: failed to create configmap: configmaps "a" already exists\n')
    body = json.dumps(config_map("a"))
    equal(server.kubectl_fails(*n, "create", "-f", "-", stdin=body),
          'Error from server (AlreadyExists): error when creating "STDIN": configmaps "a" already '
          'exists\n')
    equal(k(*n, "create", "secret", "generic", "s", "--from-literal=k=v"), "secret/s created\n")
    equal(k(*n, "get", "secret", "s", "-o", "jsonpath={.data.k}"), "dg==")
    equal(k(*n, "create", "serviceaccount", "sa"), "serviceaccount/sa created\n")
    equal(k(*n, "create", "deployment", "d", "--image=busybox:1", "--replicas=0"),
          "deployment.apps/d created\n")
    equal(k(*n, "create", "job", "j", "--image=busybox:1"), "job.batch/j created\n")
    equal(k(*n, "create", "role", "r", "--verb=get", "--resource=pods"),
          "role.rbac.authorization.k8s.io/r created\n")
    equal(k(*n, "create", "service", "clusterip", "svc", "--tcp=80:8080"), "service/svc created\n")
    check(re.fullmatch(r"10\.\d+\.\d+\.\d+", k(*n, "get", "svc", "svc", "-o",
                                                "jsonpath={.spec.clusterIP}")), "cluster IP")
    equal(k(*n, "create", "configmap", "dry", "--dry-run=server"),
          "configmap/dry created (server dry run)\n")
    server.kubectl_fails(*n, "get", "cm", "dry")
    generated = config_map("x")
    generated["metadata"] = {"generateName": "gen-"}
    out = k(*n, "create", "-f", "-", stdin=json.dumps(generated))
    check(re.fullmatch(r"configmap/gen-[bcdfghjklmnpqrstvwxz2456789]{5} created\n", out), out)
    equal(server.kubectl_fails("-n", "nosuch", "create", "configmap", "a"),
          'error: failed to create configmap: namespaces "nosuch" not found\n')
    body = json.dumps({**config_map("strict"), "unknown": 1})
    equal(server.kubectl_fails(*n, "create", "-f", "-", stdin=body),
          'Error from server (BadRequest): error when creating "STDIN": ConfigMap in version "v1" '
          'cannot be handled as a ConfigMap: strict decoding error: unknown field "unknown"\n')
    r = server.try_kubectl(*n, "create", "--validate=warn", "-f", "-", stdin=body)
    equal((r.code, r.out, r.err), (0, "configmap/strict created\n",
                                   'Warning: unknown field "unknown"\n'))
    token = k(*n, "create", "token", "sa").strip()
    equal(len(token.split(".")), 3, "parts of a token")
    status, _, body = server.raw("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {
        "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
        {"Authorization": f"Bearer {token}"}, server.connect(anonymous=True))
    equal((status, json.loads(body)["status"]["userInfo"]["username"]),
          (201, "system:serviceaccount:create:sa"))


def warned(result):
    """What kubectl shows of the Warning headers of the answer."""
    equal(result.code, 0, result.err)
    check(all(w.startswith("Warning: ") for w in result.err.splitlines()), result.err)
    return [w[len("Warning: "):] for w in result.err.splitlines()]


def test_warnings():
    """What the kinds themselves warn of, by every way that an object is written."""
    n = namespace("warnings")
    grace = ("spec.template.spec.terminationGracePeriodSeconds: must be >= 0; negative values are "
             "invalid and will be treated as 1")
    name = ("metadata.name: this is used in %s, which can result in surprising behavior; a DNS "
            "label is recommended: [must not contain dots]")

    def create(obj, *args, verb="create"):
        return warned(server.try_kubectl(*n, verb, "-f", "-", *args, stdin=json.dumps(obj)))

    clean = pod("clean")
    equal(create(clean), [])
    p = pod("a.b")
    p["metadata"]["annotations"] = {
        "container.apparmor.security.beta.kubernetes.io/" + p["spec"]["containers"][0]["name"]:
            "runtime/default"}
    p["spec"].update(nodeSelector={"beta.kubernetes.io/os": "linux"},
                     imagePullSecrets=[{"name": "s"}, {"name": "s"}], wrong=1)
    want = ['unknown field "spec.wrong"',
            "metadata.annotations[container.apparmor.security.beta.kubernetes.io/"
            f"{p['spec']['containers'][0]['name']}]: deprecated since v1.30; use the "
            '"appArmorProfile" field instead',
            name % "the Pod's hostname",
            'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use '
            '"kubernetes.io/os" instead',
            'spec.imagePullSecrets[1].name: duplicate name "s"']
    equal(create(p, "--validate=warn", "--dry-run=server"), want)
    equal(create(p, "--validate=warn"), want)
    equal(k(*n, "get", "pod", "a.b", "-o",
            "jsonpath={.spec.containers[0].securityContext.appArmorProfile.type}"),
          "RuntimeDefault")
    equal(warned(server.try_kubectl(*n, "label", "pod", "a.b", "x=y")), [])  # nothing on update

    d = deployment("d.e", replicas=0)
    d["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = -1
    equal(create(d, verb="apply"), [name % "Pod names and hostnames", grace])
    equal(warned(server.try_kubectl(*n, "label", "deployment", "d.e", "x=y")), [])
    equal(warned(server.try_kubectl(*n, "annotate", "deployment", "d.e", "x=y")), [grace])
    # An update of the whole through the subresource.
    equal(warned(server.try_kubectl(*n, "scale", "deployment", "d.e", "--replicas=0")), [])
    equal(warned(server.try_kubectl(*n, "scale", "deployment", "d.e", "--replicas=1")), [grace])
    equal(warned(server.try_kubectl(*n, "patch", "deployment", "d.e", "-p",
                                    '{"spec":{"replicas":0}}')), [grace])
    equal(warned(server.try_kubectl(*n, "patch", "deployment", "d.e", "--subresource=status", "-p",
                                    '{"status":{"replicas":0}}')), [])
    d["spec"]["minReadySeconds"] = 1
    equal(create(d, verb="replace"), [grace])
    d["spec"]["minReadySeconds"] = 2
    equal(create(d, "--server-side", "--force-conflicts", verb="apply"), [grace])
    server.kubectl_fails(*n, "create", "-f", "-", stdin=json.dumps(d))

    s = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
         "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "externalIPs": ["2001:DB8::1"],
                  "trafficDistribution": "PreferClose"}}
    equal(create(s), ['spec.externalIPs[0]: IPv6 address "2001:DB8::1" should be in RFC 5952 '
                      'canonical format ("2001:db8::1")',
                      "spec.externalIPs is deprecated and may no longer be implemented in some "
                      "clusters",
                      'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'])
    # A kind that is deprecated itself, and what a patch has too much.
    e = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "e"}, "subsets": []}
    old = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
    equal(create(e), [old])
    r = server.raw("PATCH", "/api/v1/namespaces/warnings/endpoints/e?fieldValidation=Warn",
                   {"subsets": [{"wrong": 1, "addresses": [{"ip": "2001:db8::0:1"}]}]},
                   {"Content-Type": "application/merge-patch+json"})
    equal((r[0], r[1].get_all("Warning")),
          (200, [f'299 - "{old}"', '299 - "unknown field \\"subsets[0].wrong\\""',
                 '299 - "subsets[0].addresses[0].ip: IPv6 address \\"2001:db8::0:1\\" should be in '
                 'RFC 5952 canonical format (\\"2001:db8::1\\")"']))
    equal(create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
                  "type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}}),
          ["tls: failed to find any PEM data in certificate input"])
    spaced = server.raw("GET", "/readyz", None, {"Authorization": "Bearer  token"},
                        server.connect(anonymous=True))
    equal((spaced[0], spaced[1].get_all("Warning")),
          (200, ['299 - "the provided Authorization header contains extra space before the bearer '
                 'token, and is ignored"']))
    # Beyond 4,096 characters each is cut to 256, and what then is too much is left out.
    many = pod("many")
    many["spec"]["imagePullSecrets"] = [{"name": "s"} for _ in range(200)]
    texts = [f'spec.imagePullSecrets[{i}].name: duplicate name "s"' for i in range(1, 200)]
    shown, length = [], 0
    for text in texts:
        if length >= 4096:
            break
        shown.append(text)
        length += len(text)
    equal(create(many), shown)


def test_apply():
    n = namespace("apply")
    obj = config_map("a", {"one": "1", "two": "2"})
    equal(server.apply(obj, namespace="apply"), "configmap/a created\n")
    equal(server.apply(obj, namespace="apply"), "configmap/a unchanged\n")
    obj["data"] = {"one": "1", "three": "3"}
    equal(server.apply(obj, namespace="apply"), "configmap/a configured\n")
    equal(json.loads(k(*n, "get", "cm", "a", "-o", "jsonpath={.data}")), obj["data"])
    d = deployment("d", replicas=0)
    equal(server.apply(d, namespace="apply"), "deployment.apps/d created\n")
    equal(server.apply(d, namespace="apply"), "deployment.apps/d unchanged\n")
    containers = d["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "second", "image": "busybox:1"})
    equal(server.apply(d, namespace="apply"), "deployment.apps/d configured\n")
    del containers[0]  # merged by name: the first goes, the second stays
    equal(server.apply(d, namespace="apply"), "deployment.apps/d configured\n")
    equal(k(*n, "get", "deploy", "d", "-o", "jsonpath={.spec.template.spec.containers[*].name}"),
          "second")
    out = server.try_kubectl(*n, "diff", "-f", "-", stdin=json.dumps(d))
    equal((out.code, out.out), (0, ""), "diff of what is there")
    svc = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
           "spec": {"selector": {"app": "d"}, "ports": [{"port": 80, "name": "http"}]}}
    equal(server.apply(svc, namespace="apply"), "service/s created\n")
    svc["spec"]["ports"].append({"port": 443, "name": "https"})
    equal(server.apply(svc, namespace="apply"), "service/s configured\n")
    equal(k(*n, "get", "svc", "s", "-o", "jsonpath={.spec.ports[*].port}"), "80 443")
    many = [config_map(f"m{i}") for i in range(3)]
    equal(server.apply(*many, namespace="apply"), "".join(f"configmap/m{i} created\n"
                                                          for i in range(3)))
    holds(k(*n, "apply", "view-last-applied", "cm/m0"), r"^kind: ConfigMap$")


def test_replace():
    n = namespace("replace")
    k(*n, "create", "configmap", "a", "--from-literal=k=v")
    equal(k(*n, "replace", "-f", "-", stdin=json.dumps(config_map("a", {"new": "1"}))),
          "configmap/a replaced\n")
    equal(k(*n, "get", "cm", "a", "-o", "jsonpath={.data}"), '{"new":"1"}')
    old = json.loads(k(*n, "get", "cm", "a", "-o", "json"))
    k(*n, "label", "cm", "a", "changed=yes")
    old["data"] = {"lost": "update"}
    holds(server.kubectl_fails(*n, "replace", "-f", "-", stdin=json.dumps(old)),
          r'^Error from server \(Conflict\): error when replacing "STDIN": Operation cannot be '
          r'fulfilled on configmaps "a": the object has been modified; please apply your changes to '
          r'the latest version and try again$')
    equal(server.kubectl_fails(*n, "replace", "-f", "-", stdin=json.dumps(config_map("nosuch"))),
          'Error from server (NotFound): error when replacing "STDIN": configmaps "nosuch" not '
          'found\n')
    uid = k(*n, "get", "cm", "a", "-o", "jsonpath={.metadata.uid}")
    out = k(*n, "replace", "--force", "-f", "-", stdin=json.dumps(config_map("a", {"b": "1"})))
    holds(out, r'^configmap "a" deleted', r"^configmap/a replaced$")
    check(uid != k(*n, "get", "cm", "a", "-o", "jsonpath={.metadata.uid}"), "a new object")


def test_patch():
    n = namespace("patch")
    k(*n, "create", "configmap", "a", "--from-literal=k=v")

    def data():
        return json.loads(k(*n, "get", "cm", "a", "-o", "jsonpath={.data}"))

    equal(k(*n, "patch", "cm", "a", "--type=merge", "-p", '{"data":{"m":"1","k":null}}'),
          "configmap/a patched\n")
    equal(data(), {"m": "1"})
    equal(k(*n, "patch", "cm", "a", "--type=json", "-p",
            '[{"op":"add","path":"/data/j","value":"2"},{"op":"test","path":"/data/m","value":"1"}]'),
          "configmap/a patched\n")
    equal(data(), {"m": "1", "j": "2"})
    equal(k(*n, "patch", "cm", "a", "--type=merge", "-p", '{"data":{"m":"1"}}'),
          "configmap/a patched (no change)\n")
    equal(server.kubectl_fails(*n, "patch", "cm", "a", "--type=json", "-p",
                               '[{"op":"test","path":"/data/m","value":"2"}]'),
          "The request is invalid: the server rejected our request due to an error in our request\n")
    server.apply(deployment("d", replicas=0), namespace="patch")
    patch = {"spec": {"template": {"spec": {"containers": [
        {"name": "main", "env": [{"name": "A", "value": "1"}]}, {"name": "b", "image": "b:1"}]}}}}
    equal(k(*n, "patch", "deploy", "d", "-p", json.dumps(patch)), "deployment.apps/d patched\n")
    path = "jsonpath={range .spec.template.spec.containers[*]}{.name}:{.image}:{.env[0].value};{end}"
    equal(sorted(k(*n, "get", "deploy", "d", "-o", path).split(";")), ["", "b:b:1:", "main:busybox:1:1"])
    patch = {"spec": {"template": {"spec": {"containers": [{"$patch": "delete", "name": "b"}]}}}}
    k(*n, "patch", "deploy", "d", "--type=strategic", "-p", json.dumps(patch))
    equal(k(*n, "get", "deploy", "d", "-o", path), "main:busybox:1:1;")
    equal(k(*n, "patch", "deploy", "d", "--subresource=scale", "--type=merge", "-p",
            '{"spec":{"replicas":1}}'), "scale.autoscaling/d patched\n")
    equal(server.kubectl_fails(*n, "patch", "deploy", "d", "-p", '{"spec":{"replicas":-1}}'),
          'The Deployment "d" is invalid: spec.replicas: Invalid value: -1: must be greater than or '
          'equal to 0\n')
    equal(server.kubectl_fails(*n, "patch", "cm", "nosuch", "-p", "{}"),
          'Error from server (NotFound): configmaps "nosuch" not found\n')


def test_label_and_annotate():
    n = namespace("label")
    k(*n, "create", "configmap", "a")
    equal(k(*n, "label", "cm", "a", "x=1", "y=2"), "configmap/a labeled\n")
    equal(k(*n, "label", "cm", "a", "x=1"), "configmap/a not labeled\n")
    equal(server.kubectl_fails(*n, "label", "cm", "a", "x=2"),
          "error: 'x' already has a value (1), and --overwrite is false\n")
    equal(k(*n, "label", "--overwrite", "cm", "a", "x=2"), "configmap/a labeled\n")
    equal(k(*n, "label", "cm", "a", "x-"), "configmap/a unlabeled\n")
    equal(k(*n, "get", "cm", "a", "-o", "jsonpath={.metadata.labels}"), '{"y":"2"}')
    equal(k(*n, "annotate", "cm", "a", "note=a b"), "configmap/a annotated\n")
    equal(k(*n, "get", "cm", "a", "-o", "jsonpath={.metadata.annotations.note}"), "a b")
    equal(k(*n, "annotate", "cm", "a", "note-"), "configmap/a annotated\n")
    k(*n, "create", "configmap", "b")
    equal(k(*n, "label", "cm", "-l", "y=2", "z=1"), "configmap/a labeled\n")
    equal(set(k(*n, "label", "cm", "--all", "all=yes").splitlines()) >=
          {"configmap/a labeled", "configmap/b labeled"}, True)


def test_delete():
    n = namespace("delete")
    for name in "abcd":
        k(*n, "create", "configmap", name, "--from-literal=k=v")
        k(*n, "label", "cm", name, "mine=yes")
    holds(k(*n, "delete", "cm", "a"), r'^configmap "a" deleted from delete namespace$')
    equal(server.kubectl_fails(*n, "delete", "cm", "a"),
          'Error from server (NotFound): configmaps "a" not found\n')
    equal(k(*n, "delete", "cm", "a", "--ignore-not-found"), "")
    holds(k(*n, "delete", "cm", "b", "--now"), r'^configmap "b" deleted')
    equal(len(k(*n, "delete", "cm", "-l", "mine=yes").splitlines()), 2)
    equal(k(*n, "get", "cm", "-l", "mine"), "")
    # A finalizer keeps an object until it is taken away; --wait=false does not wait for that.
    server.apply(config_map("f", finalizers=["example.com/keep"]), namespace="delete")
    holds(k(*n, "delete", "cm", "f", "--wait=false"), r'^configmap "f" deleted')
    check(k(*n, "get", "cm", "f", "-o", "jsonpath={.metadata.deletionTimestamp}"), "is terminating")
    with server.kubectl_background(*n, "delete", "cm", "f") as waiting:
        waiting.wait_text(r'^configmap "f" deleted')
        check(waiting.proc.poll() is None, "waits for the finalizer")
        k(*n, "patch", "cm", "f", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        equal(waiting.wait(), 0)
    server.kubectl_fails(*n, "get", "cm", "f")
    # A pod that no node has goes at once; one bound to a node keeps its grace period.
    server.apply(pod("p", "busybox:1"), namespace="delete")
    holds(k(*n, "delete", "pod", "p", "--grace-period=5"), r'^pod "p" deleted')
    server.apply(pod("q", "busybox:1", nodeName="nosuch"), namespace="delete")
    k(*n, "delete", "pod", "q", "--grace-period=77", "--wait=false")
    equal(k(*n, "get", "pod", "q", "-o", "jsonpath={.metadata.deletionGracePeriodSeconds}"), "77")
    r = server.try_kubectl(*n, "delete", "pod", "q", "--grace-period=0", "--force")
    holds(r.err, "Immediate deletion does not wait for confirmation")
    holds(r.out, r'^pod "q" force deleted')
    server.kubectl_fails(*n, "get", "pod", "q")


def test_delete_cascade():
    n = namespace("cascade")
    for policy in ("background", "foreground", "orphan"):
        server.apply(deployment(policy, replicas=2), namespace="cascade")
        wait_for(lambda: len(names(n, "pods")) == 2, "two pods")
        holds(k(*n, "delete", "deploy", policy, f"--cascade={policy}"),
              rf'^deployment.apps "{policy}" deleted')
        equal(names(n, "deploy"), [])
        if policy == "foreground":
            equal(names(n, "rs") + names(n, "pods"), [], "dependents go before their owner")
        elif policy == "background":
            wait_for(lambda: names(n, "rs") + names(n, "pods") == [], "dependents are collected")
        else:
            equal((len(names(n, "rs")), len(names(n, "pods"))), (1, 2), "orphans")
            equal(k(*n, "get", "rs", "-o", "jsonpath={.items[*].metadata.ownerReferences}"), "")


def test_delete_namespace():
    n = namespace("doomed")
    server.apply(config_map("a"), deployment("d", replicas=2), namespace="doomed")
    wait_for(lambda: len(names(n, "pods")) == 2, "two pods")
    equal(k("delete", "namespace", "doomed"), 'namespace "doomed" deleted\n')
    equal(server.kubectl_fails("get", "namespace", "doomed"),
          'Error from server (NotFound): namespaces "doomed" not found\n')
    namespace("doomed")
    equal(names(n, "deploy") + names(n, "rs") + names(n, "pods"), [], "what was in it")


def test_scale():
    n = namespace("scale")
    server.apply(deployment("d", replicas=0), namespace="scale")
    equal(k(*n, "scale", "deploy", "d", "--replicas=3"), "deployment.apps/d scaled\n")
    wait_for(lambda: len(names(n, "pods")) == 3, "three pods")
    equal(server.kubectl_fails(*n, "scale", "deploy", "d", "--current-replicas=2", "--replicas=1"),
          "error: Expected replicas to be 2, was 3\n")
    equal(k(*n, "scale", "--current-replicas=3", "--replicas=1", "deploy/d"),
          "deployment.apps/d scaled\n")
    wait_for(lambda: len(names(n, "pods")) == 1, "one pod")
    holds(k(*n, "get", "deploy"), r"^d +0/1 +1 +0 +\d+s$")
    holds(k(*n, "get", "deploy", "-o", "wide"),
          r"^NAME +READY +UP-TO-DATE +AVAILABLE +AGE +CONTAINERS +IMAGES +SELECTOR$",
          r"^d +0/1 +1 +0 +\d+s +main +busybox:1 +app=d$")
    rs = k(*n, "get", "rs", "-o", "name").strip()
    equal(k(*n, "scale", rs, "--replicas=1"), f"{rs} scaled\n")


def test_rollout():
    n = namespace("rollout")
    server.apply(deployment("d", replicas=1), namespace="rollout")
    equal(k(*n, "annotate", "deploy", "d", "kubernetes.io/change-cause=first"),
          "deployment.apps/d annotated\n")
    wait_for(lambda: len(names(n, "rs")) == 1, "the first ReplicaSet")
    equal(k(*n, "set", "image", "deploy/d", "main=busybox:2"), "deployment.apps/d image updated\n")
    wait_for(lambda: len(names(n, "rs")) == 2, "the second ReplicaSet")
    k(*n, "annotate", "--overwrite", "deploy", "d", "kubernetes.io/change-cause=second")

    def history():
        return [cells(r) for r in k(*n, "rollout", "history", "deploy/d").strip().splitlines()]

    wait_for(lambda: equal(history(), [["deployment.apps/d"], ["REVISION", "CHANGE-CAUSE"],
                                       ["1", "first"], ["2", "second"]]) or True, "history")
    holds(k(*n, "rollout", "history", "deploy/d", "--revision=2"),
          r"^deployment.apps/d with revision #2$", r"^ +Image:\s+busybox:2$")
    equal(k(*n, "rollout", "undo", "deploy/d"), "deployment.apps/d rolled back\n")
    equal(k(*n, "get", "deploy", "d", "-o", "jsonpath={.spec.template.spec.containers[0].image}"),
          "busybox:1")
    wait_for(lambda: [r[0] for r in history()[2:]] == ["2", "3"], "revision 1 becomes 3")
    equal(k(*n, "rollout", "undo", "deploy/d", "--to-revision=2"), "deployment.apps/d rolled back\n")
    holds(server.kubectl_fails(*n, "rollout", "undo", "deploy/d", "--to-revision=9"),
          "^error: unable to find specified revision 9 in history$")
    equal(k(*n, "rollout", "restart", "deploy/d"), "deployment.apps/d restarted\n")
    check(k(*n, "get", "deploy", "d", "-o", "jsonpath={.spec.template.metadata.annotations."
            r"kubectl\.kubernetes\.io/restartedAt}"), "restartedAt")
    equal(k(*n, "rollout", "pause", "deploy/d"), "deployment.apps/d paused\n")
    equal(server.kubectl_fails(*n, "rollout", "pause", "deploy/d"),
          'error: deployments.apps "d" is already paused\n')
    equal(k(*n, "rollout", "resume", "deploy/d"), "deployment.apps/d resumed\n")
    with server.kubectl_background(*n, "rollout", "status", "deploy/d") as status:
        status.wait_text(r'^Waiting for deployment "d" rollout to finish: .*$')
    equal(k(*n, "rollout", "status", "deploy/d", "--watch=false").count("Waiting for"), 1)
    k(*n, "scale", "deploy/d", "--replicas=0")
    equal(k(*n, "rollout", "status", "deploy/d").splitlines()[-1],
          'deployment "d" successfully rolled out')


def test_wait():
    n = namespace("wait")
    server.apply(deployment("d", replicas=0), config_map("c", {"state": "new"}), namespace="wait")
    equal(k(*n, "wait", "--for=condition=Available", "deploy/d", "--timeout=180s"),
          "deployment.apps/d condition met\n")
    with server.kubectl_background(*n, "wait", "--for=jsonpath={.data.state}=done", "cm/c",
                                   "--timeout=180s") as waiting:
        k(*n, "patch", "cm", "c", "-p", '{"data":{"state":"done"}}')
        equal(waiting.wait(), 0)
        equal(waiting.text(), "configmap/c condition met\n")
    with server.kubectl_background(*n, "wait", "--for=delete", "cm/c", "--timeout=180s") as waiting:
        k(*n, "delete", "cm", "c")
        equal(waiting.wait(), 0)
    equal(server.kubectl_fails(*n, "wait", "--for=condition=Nosuch", "deploy/d", "--timeout=1s"),
          "error: timed out waiting for the condition on deployments/d\n")
    with server.kubectl_background(*n, "wait", "--for=create", "cm/later", "--timeout=180s") as w:
        k(*n, "create", "configmap", "later")
        equal(w.wait(), 0)


def can_i(*args):
    r = server.try_kubectl("auth", "can-i", *args)
    equal(r.code, 0 if r.out == "yes\n" else 1, "exit code")
    return r.out.split("\n")[0].split(" ")[0]


def test_auth():
    n = namespace("auth")
    equal(can_i("create", "pods"), "yes")
    equal(can_i("*", "*", "--all-namespaces"), "yes")
    equal(can_i("get", "pods", "--as=jane"), "no")
    k(*n, "create", "rolebinding", "jane", "--clusterrole=view", "--user=jane")
    wait_for(lambda: can_i(*n, "get", "pods", "--as=jane") == "yes", "view lets jane get pods")
    equal(can_i(*n, "delete", "pods", "--as=jane"), "no")
    equal(can_i(*n, "get", "secrets", "--as=jane"), "no")
    equal(can_i("-n", "default", "get", "pods", "--as=jane"), "no")
    equal(server.kubectl_fails(*n, "delete", "cm", "nosuch", "--as=jane"),
          'Error from server (Forbidden): configmaps "nosuch" is forbidden: User "jane" cannot '
          'delete resource "configmaps" in API group "" in the namespace "auth"\n')
    equal(server.kubectl_fails("get", "nodes", "--as=jane"),
          'Error from server (Forbidden): nodes is forbidden: User "jane" cannot list resource '
          '"nodes" in API group "" at the cluster scope\n')
    k("create", "clusterrolebinding", "auditors", "--clusterrole=cluster-admin", "--group=auditors")
    wait_for(lambda: can_i("delete", "nodes", "--as=joe", "--as-group=auditors") == "yes", "group")
    holds(k("auth", "whoami", "--as=jane"), r"^Username +jane$", r"system:authenticated")
    holds(k("auth", "can-i", "--list", *n, "--as=jane"), r"^pods +\[\] +\[\] +\[get list watch\]$")
    k(*n, "create", "serviceaccount", "robot")
    k(*n, "create", "rolebinding", "robot", "--clusterrole=edit", "--serviceaccount=auth:robot")
    robot = "--as=system:serviceaccount:auth:robot"
    wait_for(lambda: can_i(*n, "create", "deployments", robot) == "yes", "edit lets robot create")
    equal(can_i(*n, "create", "roles", robot), "no")
    # Nobody gives away more than he has.
    holds(server.kubectl_fails(*n, "create", "rolebinding", "up", "--clusterrole=cluster-admin",
                               "--user=jane", "--as=jane"), r"Forbidden|forbidden")


def test_events():
    n = namespace("events")
    server.apply(pod("lonely", "busybox:1"), namespace="events")

    def scheduled():
        holds(k(*n, "events"), r"^LAST SEEN +TYPE +REASON +OBJECT +MESSAGE$",
              r"Warning +FailedScheduling +Pod/lonely +.*(no nodes available to schedule pods|"
              r"0/\d+ nodes are available)")
        return True
    wait_for(scheduled, "the scheduler says why not")
    holds(k(*n, "events", "--for", "pod/lonely"), r"FailedScheduling")
    equal(server.try_kubectl(*n, "events", "--types=Normal").err,
          "No events found in events namespace.\n")
    holds(k(*n, "get", "events"), r"^LAST SEEN +TYPE +REASON +OBJECT +MESSAGE$",
          r"Warning +FailedScheduling +pod/lonely ")
    server.apply(deployment("d", replicas=1), namespace="events")
    wait_for(lambda: "ScalingReplicaSet" in k(*n, "events"), "events of the Deployment")
    holds(k(*n, "events"), r"Normal +ScalingReplicaSet +Deployment/d +Scaled up replica set "
          r"d-[a-z0-9]+ from 0 to 1", r"Normal +SuccessfulCreate +ReplicaSet/d-\w+ +Created pod: d-")


def test_explain():
    holds(k("explain", "pods"), r"^KIND: +Pod$", r"^VERSION: +v1$", r"^FIELDS:$",
          r"^  spec\t<PodSpec>$")
    holds(k("explain", "deployment.spec.strategy.type"), r"^GROUP: +apps$", r"^FIELD: type <string>$",
          r"^ENUM:$", r"^ +RollingUpdate$")
    holds(k("explain", "pods", "--recursive"), r"\bcontainers\t<\[\]Container> -required-")
    holds(server.kubectl_fails("explain", "pods.nosuch"), 'field "nosuch" does not exist')


def test_describe():
    n = namespace("describe")
    server.apply(deployment("d", replicas=1), config_map("c", {"k": "v"}), namespace="describe")
    wait_for(lambda: len(names(n, "pods")) == 1, "a pod")
    holds(k(*n, "describe", "deploy", "d"), r"^Name: +d$", r"^Replicas: +1 desired \| 1 updated \| "
          r"1 total \| 0 available \| 1 unavailable$")
    holds(k(*n, "describe", "pod"), r"^Status: +Pending$", r"^Controlled By: +ReplicaSet/d-")
    holds(k(*n, "describe", "cm", "c"), r"^k:$", r"^v$")


def test_get_all():
    n = namespace("all")
    server.apply(deployment("d", replicas=1), namespace="all")
    wait_for(lambda: len(names(n, "pods")) == 1, "a pod")
    holds(k(*n, "get", "all"), r"^pod/d-\S+ +0/1 +Pending ", r"^deployment.apps/d +0/1 +1 +0 ",
          r"^replicaset.apps/d-\S+ +1 +1 +0 ")
    k(*n, "delete", "all", "--all")
    wait_for(lambda: names(n, "all") == [], "all is gone")


def test_raw():
    equal(k("get", "--raw", "/livez"), "ok")
    equal(k("get", "--raw", "/readyz"), "ok")
    holds(k("get", "--raw", "/readyz?verbose"), r"^\[\+\]ping ok$", r"^readyz check passed$")
    holds(k("get", "--raw", "/metrics"), r"^# TYPE apiserver_request_total counter$")
    equal(json.loads(k("get", "--raw", "/api"))["versions"], ["v1"])


def test_admission_defaults():
    """What the server fills in for a pod."""
    n = namespace("defaults")
    wait_for(lambda: names(n, "sa") == ["serviceaccount/default"], "the default service account")
    wait_for(lambda: "configmap/kube-root-ca.crt" in names(n, "cm"), "the root CA's ConfigMap")
    server.apply(pod("p", "busybox"), namespace="defaults")
    spec = json.loads(k(*n, "get", "pod", "p", "-o", "json"))["spec"]
    equal(spec["serviceAccountName"], "default")
    equal(spec["containers"][0]["imagePullPolicy"], "Always", "of an image without a tag")
    equal((spec["restartPolicy"], spec["dnsPolicy"], spec["terminationGracePeriodSeconds"]),
          ("Always", "ClusterFirst", 30))
    equal(sorted(t["key"] for t in spec["tolerations"]),
          ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"])
    mount = spec["containers"][0]["volumeMounts"][0]["mountPath"]
    equal(mount, "/var/run/secrets/kubernetes.io/serviceaccount")


if __name__ == "__main__":
    run(server)
