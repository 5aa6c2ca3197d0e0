#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""API priority and fairness: a noisy client is told to come again, others get through; what waits
and who reads slowly hold bounded memory; the objects and their statuses as upstream keeps them."""
import json
import re
import select
import socket
import ssl
import threading
from lib import Server, check, equal, run, wait_for

HOOKS = "/apis/admissionregistration.k8s.io/v1"
FLOW = "/apis/flowcontrol.apiserver.k8s.io/v1"
CMS = "/api/v1/namespaces/default/configmaps"
OBJECTS, SIZE = 100, 30_000  # a LIST of 3 MB: ten seats
NOISY, THREADS = 500, 50
GROWTH_MIB = 400
# Who says so may wait a quarter of it, and no more than a minute, for its turn.
server = Server("--kube-apiserver-arg", "request-timeout=240s")
stuck = []
tokens = {}


def account(name):
    server.kubectl("create", "serviceaccount", name)
    server.kubectl("create", "clusterrolebinding", name, "--clusterrole=view",
                   f"--serviceaccount=default:{name}")
    tokens[name] = server.kubectl("create", "token", name).strip()


def ask(name, path, read=True, receive=None, body=None):
    """A request of its own connection; the status, and the socket when it is not read."""
    s = socket.socket()
    if receive:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    s.settimeout(240)
    s.connect(("127.0.0.1", server.port))
    context = ssl._create_unverified_context()
    t = context.wrap_socket(s)
    text = body.encode() if body else b""
    method = f"POST {path}" if body else f"GET {path}"
    t.sendall(f"{method} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
              f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
              f"Authorization: Bearer {tokens[name]}\r\n\r\n".encode() + text)
    if not read:
        return t
    data = b""
    while True:
        part = t.recv(65536)
        if not part:
            break
        data += part
    t.close()
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), body


def metric(name, **labels):
    total = 0
    for line in server.raw("GET", "/metrics")[2].decode().splitlines():
        m = re.match(rf"{name}\{{(.*)\}} (\S+)$", line)
        if m and all(f'{k}="{v}"' in m.group(1) for k, v in labels.items()):
            total += float(m.group(2))
    return total


def test_prepare():
    server.start()
    connection = server.connect()
    for i in range(OBJECTS):
        server.api("POST", CMS, {"metadata": {"name": f"big{i}"}, "data": {"v": "x" * SIZE}},
                   connection=connection)
    for name in ("noisy", "quiet", "slow"):
        account(name)
    level = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
             "metadata": {"name": "narrow"},
             "spec": {"type": "Limited", "limited": {
                 "nominalConcurrencyShares": 1, "borrowingLimitPercent": 0, "limitResponse": {
                     "type": "Queue", "queuing": {"queues": 64, "handSize": 2,
                                                  "queueLengthLimit": 10}}}}}
    schema = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
              "metadata": {"name": "narrow"},
              "spec": {"priorityLevelConfiguration": {"name": "narrow"}, "matchingPrecedence": 50,
                       "distinguisherMethod": {"type": "ByUser"}, "rules": [{
                           "subjects": [{"kind": "ServiceAccount", "serviceAccount": {
                               "namespace": "default", "name": "*"}}],
                           "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"],
                                              "resources": ["*"], "namespaces": ["*"],
                                              "clusterScope": True}]}]}}
    server.api("POST", f"{FLOW}/flowschemas", schema)

    def dangling(status):
        conditions = server.api("GET", f"{FLOW}/flowschemas/narrow").get("status", {}).get(
            "conditions", [])
        return [c for c in conditions if c["type"] == "Dangling" and c["status"] == status]
    c = wait_for(lambda: dangling("True"), "the schema is dangling")[0]
    equal(c["reason"], "NotFound")
    equal(c["message"], 'This FlowSchema references the PriorityLevelConfiguration object named '
                        '"narrow" but there is no such object')
    server.api("POST", f"{FLOW}/prioritylevelconfigurations", level)
    equal(wait_for(lambda: dangling("False"), "the level is there")[0]["reason"], "Found")
    wait_for(lambda: metric("apiserver_flowcontrol_nominal_limit_seats", priority_level="narrow"),
             "the level is in use")


def test_headers():
    uid = server.api("GET", f"{FLOW}/flowschemas/narrow")["metadata"]["uid"]
    status, head, _ = ask("quiet", "/api/v1/namespaces/default/pods")
    equal(status, 200)
    check(re.search(rf"(?i)X-Kubernetes-Pf-Flowschema-Uid: {uid}", head), head)


def finish_one():
    """One of those whose answer has begun gives its seat back."""
    ready = select.select(stuck, [], [], 0.02)[0] if stuck else []
    if ready:
        stuck.remove(ready[0])
        ready[0].close()


def test_noisy_client():
    """Its readers stall, so that its requests hold their seats; still another's get through."""
    before = server.rss_kib() // 1024
    for _ in range(60):  # more than there are seats and places in its queues
        stuck.append(ask("noisy", CMS, read=False, receive=4096))
    wait_for(lambda: metric("apiserver_flowcontrol_current_inqueue_requests",
                            flow_schema="narrow") > 0, "requests wait")
    codes, refusals, errors, lock = [], [], [], threading.Lock()
    enough = threading.Event()

    def noise():
        try:
            while not enough.is_set():
                got = ask("noisy", CMS)
                with lock:
                    codes.append(got[0])
                    if got[0] == 429 and not refusals:
                        refusals.append(got)
        except OSError as e:
            errors.append(e)
    threads = [threading.Thread(target=noise) for _ in range(THREADS)]
    for t in threads:
        t.start()
    quiet = []
    try:
        wait_for(lambda: refusals, "one is refused")
        check(re.search(r"(?i)Retry-After: \d+", refusals[0][1]), refusals[0][1])
        equal(refusals[0][2], b"Too many requests, please try again later.\n")
        check(metric("apiserver_flowcontrol_rejected_requests_total", flow_schema="narrow",
                     reason="queue-full") > 0, "counted by reason")
        # Every place of the noisy one is taken as soon as it is free; none of them is the quiet
        # one's, which is never refused.
        for _ in range(10):
            t = threading.Thread(target=lambda: quiet.append(
                ask("quiet", "/api/v1/namespaces/default/pods")[0]))
            t.start()
            while t.is_alive():
                finish_one()
        wait_for(lambda: finish_one() or len(codes) >= NOISY, f"{NOISY} noisy requests", 60)
    finally:
        enough.set()
        while stuck:
            stuck.pop().close()
        for t in threads:
            t.join()
    equal(quiet, [200] * 10)
    equal(errors, [])
    check(set(codes) <= {200, 429}, set(codes))
    growth = server.rss_kib() // 1024 - before
    print(f"    {codes.count(429)} of {len(codes)} refused; memory grew by {growth} MiB")
    check(growth < GROWTH_MIB, f"memory grew by {growth} MiB")
    wait_for(lambda: metric("apiserver_flowcontrol_current_executing_seats",
                            flow_schema="narrow") == 0, "every seat comes back")
    equal(metric("apiserver_flowcontrol_current_inqueue_requests", flow_schema="narrow"), 0)


def test_stalled_webhook():
    """Writes that wait for a webhook that never answers hold their seats; the rest wait without
    their bodies, or are refused. The quiet client gets its turn."""
    before = server.rss_kib() // 1024
    server.kubectl("create", "clusterrolebinding", "noisy-edit", "--clusterrole=edit",
                   "--serviceaccount=default:noisy")
    with socket.create_server(("127.0.0.1", 0), backlog=256) as stalled:
        port = stalled.getsockname()[1]
        with open(server.kubeconfig, encoding="utf-8") as f:
            ca = re.search(r"certificate-authority-data: (\S+)", f.read()).group(1)
        server.api("POST", f"{HOOKS}/validatingwebhookconfigurations", {
            "metadata": {"name": "stalled"}, "webhooks": [{
                "name": "stalled.example.com", "sideEffects": "None", "timeoutSeconds": 3,
                "failurePolicy": "Ignore", "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": f"https://127.0.0.1:{port}/", "caBundle": ca},
                "matchConditions": [{"name": "noisy", "expression":
                                     "request.userInfo.username.endsWith(':noisy')"}],
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                           "resources": ["configmaps"]}]}]})
        body = {"metadata": {"generateName": "w"}, "data": {"v": "x" * 500_000}}
        codes = []
        threads = [threading.Thread(target=lambda: codes.append(
            ask("noisy", CMS, body=json.dumps(body))[0])) for _ in range(60)]
        for t in threads:
            t.start()
        wait_for(lambda: 429 in codes, "writes are refused")
        wait_for(lambda: metric("apiserver_flowcontrol_current_executing_requests",
                                flow_schema="narrow") == 3, "every seat waits for the webhook")
        peak = server.rss_kib() // 1024
        equal(ask("quiet", "/api/v1/namespaces/default/pods")[0], 200)
        server.api("DELETE", f"{HOOKS}/validatingwebhookconfigurations/stalled")
        for t in threads:
            t.join()
    check(set(codes) <= {201, 429}, set(codes))
    print(f"    {codes.count(429)} of {len(codes)} refused; memory grew by {peak - before} MiB")
    check(peak - before < GROWTH_MIB, f"memory grew by {peak - before} MiB")


CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def kind(plural, **properties):
    server.api("POST", CRDS, {
        "metadata": {"name": f"{plural}.example.com"}, "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": plural, "kind": plural.capitalize()},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {
                "openAPIV3Schema": {"type": "object", "properties": properties}}}]}})
    wait_for(lambda: server.raw("GET", f"/apis/example.com/v1/{plural}")[0] == 200, plural)
    return f"/apis/example.com/v1/namespaces/default/{plural}"


def make(name, path):
    """A write of somebody's; the object."""
    plural = path.rsplit("/", 1)[1]
    status, _, text = ask(name, path + "?timeout=240s", body=json.dumps({
        "apiVersion": "example.com/v1", "kind": plural.capitalize(),
        "metadata": {"generateName": "x"}}))
    equal(status, 201, text)
    return json.loads(text)


def test_custom_kinds():
    """A write is weighed by the watches of its own kind; one that waits for its turn is then made
    by its definition as it is."""
    server.kubectl("create", "clusterrolebinding", "quiet-all", "--clusterrole=cluster-admin",
                   "--serviceaccount=default:quiet", "--serviceaccount=kube-public:writer")
    server.kubectl("create", "serviceaccount", "writer", "-n", "kube-public")
    tokens["writer"] = server.kubectl("create", "token", "writer", "-n", "kube-public").strip()
    seen, other, third = kind("seen"), kind("other"), kind("third")
    watches = [server.connect() for _ in range(12)]
    for c in watches:
        c.request("GET", seen + "?watch=true")
        equal(c.getresponse().status, 200)

    def seats(path):
        name, flow = "apiserver_flowcontrol_work_estimated_seats_sum", "service-accounts"
        before = metric(name, flow_schema=flow)
        make("writer", path)
        return metric(name, flow_schema=flow) - before
    check(seats(seen) >= 2, "seats of a write that twelve watches see")
    # By chance one may share its counter, never all.
    equal(min(seats(other), seats(third)), 1, "seats of a write that nobody watches")
    for c in watches:
        c.close()

    def waiting():
        return metric("apiserver_flowcontrol_current_inqueue_requests", flow_schema="narrow")
    while not waiting():
        stuck.append(ask("noisy", CMS + "?timeout=240s", read=False, receive=4096))
    n, made = waiting(), []
    t = threading.Thread(target=lambda: made.append(make("quiet", other)))
    t.start()
    wait_for(lambda: waiting() > n, "it waits for its turn")
    crd = server.get(f"{CRDS}/other.example.com")
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"] = {
        "color": {"type": "string", "default": "red"}}
    server.api("PUT", f"{CRDS}/other.example.com", crd)
    wait_for(lambda: all(i.get("color") == "red" for _ in range(16)
                         for i in json.loads(server.raw("GET", other)[2])["items"]),
             "the definition is the new one everywhere")
    while stuck:
        stuck.pop().close()
    t.join()
    equal([o.get("color") for o in made], ["red"], "the new default")


def test_dumps():
    text = server.raw("GET", "/debug/api_priority_and_fairness/dump_priority_levels")[2].decode()
    rows = [[c.strip() for c in line.split(",")] for line in text.splitlines()]
    equal(rows[0][:3], ["PriorityLevelName", "ActiveQueues", "IsIdle"])
    row = {r[0]: r for r in rows}["narrow"]
    equal(row[1:6], ["0", "true", "false", "0", "0"])
    check(int(row[7]) > 0, "RejectedRequests")
    text = server.raw("GET", "/debug/api_priority_and_fairness/dump_requests"
                             "?includeRequestDetails=1")[2].decode()
    check(re.search(r"^exempt, +exempt, .*system:admin", text, re.M), text)


def test_mandatory_objects_come_back():
    server.api("DELETE", f"{FLOW}/flowschemas/catch-all")
    equal(ask("quiet", "/api/v1/namespaces/default/pods")[0], 200)
    server.stop()
    server.start()
    spec = server.api("GET", f"{FLOW}/flowschemas/catch-all")["spec"]
    equal(spec["matchingPrecedence"], 10000)


def test_limits_without_priorities():
    with Server("--datastore-endpoint", "memory://", "--enable-priority-and-fairness=false") as s:
        status, headers, _ = s.raw("GET", "/api/v1/namespaces")
        equal(status, 200)
        equal(headers.get("X-Kubernetes-Pf-Flowschema-Uid"), None)
        check("apiserver_flowcontrol" not in s.raw("GET", "/metrics")[2].decode(), "metrics")


run()
