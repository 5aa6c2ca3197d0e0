#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time-limit: 600
"""A whole node: real containers through containerd, driven by an unmodified kubectl."""
import atexit
import base64
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from lib import (KINGLET, KUBECTL, ROOT, Server, Skip, check, config_map, deployment, equal,
                 free_port, holds, pod, run, wait_for)

BRIDGE, CGROUP, CIDR = "kinglete2e0", "/kinglete2e", "10.54.0.0/16"
IMAGE = "docker.io/library/busybox:local"
# Not the shared temporary directory: its mounts must be away before it can be removed.
DATA = tempfile.mkdtemp(prefix="kinglet-e2e-node-")
# A containerd that does not start as long as HOLD is there.
BIN = tempfile.mkdtemp(prefix="kinglet-e2e-bin-")
HOLD = os.path.join(BIN, "hold")
server = Server("--bridge-name", BRIDGE, "--cgroup-root", CGROUP, "--cluster-cidr", CIDR,
                "--node-name", "one", "--kubelet-port", str(free_port()),
                *os.environ.get("NODE_FLAGS", "").split(), data=DATA, node=True,
                env={"PATH": f"{BIN}:{os.environ['PATH']}"})
server.log = tempfile.mktemp(prefix="kinglet-e2e-", suffix=".log")
k = server.kubectl


def purge():
    return subprocess.run([KINGLET, "purge", "--data-dir", DATA, "--bridge-name", BRIDGE,
                           "--cgroup-root", CGROUP], capture_output=True, text=True, timeout=240)


def clean_up():
    server.close()
    purge()
    shutil.rmtree(DATA, True)
    shutil.rmtree(BIN, True)


def main_pod(name, script, **spec):
    p = pod(name, IMAGE, ["sh", "-c", script], terminationGracePeriodSeconds=1, **spec)
    p["spec"]["containers"][0]["imagePullPolicy"] = "Never"
    return p


def status(name):
    return json.loads(k("get", "pod", name, "-o", "json"))["status"]


def phase(name):
    return status(name)["phase"]


def wait_running(name, seconds=60):
    try:
        k("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={seconds}s", timeout=seconds + 9)
    except Exception:
        print(k("describe", "pod", name))
        raise


def wait_phase(name, want, seconds=60):
    wait_for(lambda: phase(name) == want, f"pod {name} is {want}", seconds)


def remove(*names):
    k("delete", "pod", *names, "--now", "--wait", timeout=240)


def node_ready():
    return k("get", "node", "one", "-o",
             'jsonpath={.status.conditions[?(@.type=="Ready")].status}')


def containers_of(selector):
    """name → (container id, restarts) of the pods."""
    pods = json.loads(k("get", "pods", "-l", selector, "-o", "json"))["items"]
    return {p["metadata"]["name"]: [(c["containerID"], c["restartCount"])
                                    for c in p["status"]["containerStatuses"]] for p in pods}


def test_node_becomes_ready():
    images = os.path.join(DATA, "agent/images")
    os.makedirs(images)
    subprocess.run([os.path.join(ROOT, "deploy/sample-image"), f"{images}/busybox.tar", IMAGE],
                   check=True)
    began = time.monotonic()
    server.start()
    wait_for(lambda: node_ready() == "True", "node is ready", 60)
    print(f"    ready after {time.monotonic() - began:.2f} s")
    holds(k("get", "nodes", "-o", "wide"), r"^NAME +STATUS +ROLES +AGE +VERSION +INTERNAL-IP .*"
          r"CONTAINER-RUNTIME$", r"^one +Ready +\S+ +\S+ +v1\.36\.\d+ .* containerd://")
    node = json.loads(k("get", "node", "one", "-o", "json"))
    for name in ("cpu", "memory", "pods", "ephemeral-storage"):
        check(node["status"]["allocatable"][name], f"allocatable {name}")
    equal(node["status"]["conditions"][-1]["reason"], "KubeletReady")
    lease = json.loads(k("-n", "kube-node-lease", "get", "lease", "one", "-o", "json"))
    equal(lease["spec"]["leaseDurationSeconds"], 40)


def test_what_was_taken_comes_back():
    """The Lease, and the node's own word for being ready."""
    lease = ("-n", "kube-node-lease", "get", "lease", "one", "--ignore-not-found", "-o",
             "jsonpath={.metadata.uid}")
    before = k(*lease)
    k("-n", "kube-node-lease", "delete", "lease", "one")
    wait_for(lambda: k(*lease) not in ("", before), "a new lease", 60)
    k("patch", "node", "one", "--subresource=status", "-p", json.dumps({"status": {"conditions": [
        {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}}))
    wait_for(lambda: node_ready() == "True", "ready again", 60)


def test_deployment_becomes_ready():
    began = time.monotonic()
    server.apply(deployment("web", IMAGE, 3, ["httpd", "-f", "-v", "-p", "8080", "-h", "/www"]))
    out = k("rollout", "status", "deploy/web", "--timeout=180s", timeout=240)
    holds(out, r'^deployment "web" successfully rolled out$')
    print(f"    ready after {time.monotonic() - began:.2f} s")
    holds(k("get", "deploy,rs,pods", "-o", "wide"), r"^deployment.apps/web +3/3 +3 +3 ",
          r"^pod/web-\S+ +1/1 +Running +0 +\S+ +10\.54\.\d+\.\d+ +one ")
    addresses = k("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}").split()
    equal(len(set(addresses)), 3, "addresses")
    for pod_name in k("get", "pods", "-l", "app=web", "-o", "name").split()[:1]:
        for address in addresses:  # pods reach each other
            equal(k("exec", pod_name, "--", "wget", "-qO-", f"http://{address}:8080/"),
                  "Hello from kinglet\n")


def test_logs():
    # Two streams are two pipes to the runtime: what is written at once may be logged in either order.
    server.apply(main_pod("talker", "i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done; "
                          "sleep 1; echo to stderr >&2; exec sleep 1000"))
    wait_running("talker")
    wait_for(lambda: "to stderr" in k("logs", "talker"), "all lines")
    lines = k("logs", "talker").splitlines()
    equal([line for line in lines if line.startswith("line")], [f"line {i}" for i in range(50)])
    equal(k("logs", "talker", "--tail=3").splitlines()[-1], "to stderr")
    equal(len(k("logs", "talker", "--tail=3").splitlines()), 3)
    equal(k("logs", "talker", "-c", "main", "--limit-bytes=6"), "line 0")
    holds(k("logs", "talker", "--timestamps", "--tail=1"), r"^\d{4}-\d\d-\d\dT\S+Z to stderr$")
    holds(server.kubectl_fails("logs", "talker", "-c", "nosuch"),
          "container nosuch is not valid for pod talker")
    remove("talker")


def test_logs_follow():
    server.apply(main_pod("ticker", "while ! [ -e /tmp/stop ]; do [ -e /tmp/say ] && echo said && "
                          "rm /tmp/say; sleep 0.05; done; echo bye", restartPolicy="Never"))
    wait_running("ticker")
    with server.kubectl_background("logs", "-f", "ticker") as follow:
        for n in (1, 2):
            k("exec", "ticker", "--", "touch", "/tmp/say")
            wait_for(lambda: follow.lines() == ["said"] * n, f"line {n} comes while it runs")
        k("exec", "ticker", "--", "touch", "/tmp/stop")
        equal(follow.wait(), 0, "exit status")  # ends with the container
        equal(follow.lines(), ["said", "said", "bye"])
    wait_phase("ticker", "Succeeded")
    equal(k("logs", "ticker").splitlines(), ["said", "said", "bye"])
    remove("ticker")


def test_exec():
    server.apply(main_pod("target", "exec sleep 1000"))
    wait_running("target")
    equal(k("exec", "target", "--", "echo", "a b", "c"), "a b c\n")
    r = server.try_kubectl("exec", "target", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    equal((r.code, r.out), (7, "out\n"))
    holds(r.err, r"^err$", r"^command terminated with exit code 7$")
    equal(k("exec", "-i", "target", "--", "cat", stdin="through\nthe pipe\n"), "through\nthe pipe\n")
    big = "x" * 99 + "\n"
    equal(k("exec", "-i", "target", "--", "md5sum", stdin=big * 20000),
          subprocess.run(["md5sum"], input=big * 20000, capture_output=True, text=True).stdout)
    r = server.try_kubectl("exec", "target", "--", "nosuch")
    check(r.code and re.search(r"nosuch.*(not found|no such file)", r.err), r.err)
    remove("target")


def test_exec_with_terminal():
    server.apply(main_pod("terminal", "exec sleep 1000"))
    wait_running("terminal")
    command = f"stty rows 40 cols 111; {KUBECTL} exec -it terminal -- sh"
    r = subprocess.run(["script", "-qec", command, "/dev/null"], env=server.kubectl_env(),
                       input="tty; stty size\nexit 3\n", capture_output=True, text=True,
                       timeout=240)
    holds(r.stdout, r"^/dev/pts/\d+\r?$", r"^40 111\r?$")
    equal(r.returncode, 3, f"exit status; {r.stdout}")
    remove("terminal")


def test_rollout():
    def images():
        return set(k("get", "pods", "-l", "app=web", "-o",
                     "jsonpath={.items[*].spec.containers[0].command[0]}").split())
    k("patch", "deploy", "web", "--type=json", "-p", json.dumps([{
        "op": "replace", "path": "/spec/template/spec/containers/0/command",
        "value": ["sleep", "1000"]}]))
    holds(k("rollout", "status", "deploy/web", "--timeout=180s", timeout=240), "successfully rolled out")
    wait_for(lambda: images() == {"sleep"}, "old pods are gone")
    k("rollout", "undo", "deploy/web")
    holds(k("rollout", "status", "deploy/web", "--timeout=180s", timeout=240), "successfully rolled out")
    wait_for(lambda: images() == {"httpd"}, "the first pods are back")
    before = set(containers_of("app=web"))
    equal(k("rollout", "restart", "deploy/web"), "deployment.apps/web restarted\n")
    holds(k("rollout", "status", "deploy/web", "--timeout=180s", timeout=240), "successfully rolled out")
    wait_for(lambda: not before & set(containers_of("app=web")), "all pods are new")
    holds(k("rollout", "history", "deploy/web"), r"^REVISION +CHANGE-CAUSE$", r"^4 ")
    # A broken one stands still and says why; undo heals it.
    k("set", "image", "deploy/web", "main=nosuch.invalid/image:1")
    wait_for(lambda: re.search("ErrImageNeverPull", k("get", "pods", "-l", "app=web")),
             "the reason shows")
    holds(k("get", "deploy", "web"), r"^web +3/3 +1 +3 ")
    k("rollout", "undo", "deploy/web")
    holds(k("rollout", "status", "deploy/web", "--timeout=180s", timeout=240), "successfully rolled out")


def test_job_completes():
    spec = main_pod("job", "exit $JOB_COMPLETION_INDEX", restartPolicy="Never")["spec"]
    server.apply({"apiVersion": "batch/v1", "kind": "Job",
                  "metadata": {"name": "job", "namespace": "default"},
                  "spec": {"completionMode": "Indexed", "completions": 2, "parallelism": 2,
                           "backoffLimitPerIndex": 0, "template": {"spec": spec}}})
    k("wait", "--for=condition=Failed", "job/job", "--timeout=60s", timeout=70)
    status = json.loads(k("get", "job", "job", "-o", "json"))["status"]
    equal([status[x] for x in ("completedIndexes", "failedIndexes", "succeeded", "failed")],
          ["0", "1", 1, 1])
    k("delete", "job", "job", "--wait", timeout=60)


def test_endpoints_follow_pods():
    server.apply({"apiVersion": "v1", "kind": "Service",
                  "metadata": {"name": "web", "namespace": "default"},
                  "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}})

    def ready():
        slices = json.loads(k("get", "endpointslices", "-l", "kubernetes.io/service-name=web",
                              "-o", "json"))["items"]
        return sorted(e["addresses"][0] for s in slices for e in s.get("endpoints") or []
                      if e["conditions"]["ready"])

    def addresses():
        return sorted(k("get", "pods", "-l", "app=web", "-o",
                        "jsonpath={.items[*].status.podIP}").split())
    wait_for(lambda: ready() and ready() == addresses(), "endpoints are the pods' addresses", 60)
    k("delete", "service", "web", timeout=30)


def test_delete_with_grace():
    server.apply(main_pod("polite", "trap 'echo got TERM; exit 0' TERM; echo ready; "
                          "while :; do sleep 0.05; done"),
                 main_pod("stubborn", "trap '' TERM; while :; do sleep 0.05; done"))
    wait_running("polite")
    wait_running("stubborn")
    wait_for(lambda: "ready" in k("logs", "polite"), "the trap is set")
    with server.kubectl_background("logs", "-f", "polite") as log:
        log.wait_text("ready")
        k("delete", "pod", "polite", "--grace-period=3600")  # it ends when it is asked to
        log.wait_text("got TERM")
    began = time.monotonic()
    k("delete", "pod", "stubborn", "--grace-period=2")
    took = time.monotonic() - began
    check(1.9 < took, f"killed after {took:.1f} s, grace 2 s")


def test_volumes():
    server.apply(config_map("conf", {"a.txt": "from a config map", "b": "2"}),
                 {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sec"},
                  "stringData": {"pass": "word"}})
    host = os.path.join(DATA, "hostpath")
    os.mkdir(host)
    with open(f"{host}/from-host", "w") as f:
        f.write("of the host")
    volumes = {
        "conf": {"configMap": {"name": "conf"}},
        "one": {"configMap": {"name": "conf", "items": [{"key": "b", "path": "x/y", "mode": 0o400}]}},
        "sec": {"secret": {"secretName": "sec", "defaultMode": 0o440}},
        "empty": {"emptyDir": {}},
        "memory": {"emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
        "host": {"hostPath": {"path": host, "type": "Directory"}},
        "all": {"projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600, "audience": "me"}},
            {"configMap": {"name": "conf"}}, {"secret": {"name": "sec"}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {
                "fieldPath": "metadata.labels"}}]}}]}},
    }
    p = main_pod("volumes", "echo hello > /v/empty/f; echo back > /v/host/from-pod; exec sleep 1000")
    p["metadata"]["labels"] = {"l": "v"}
    p["spec"]["volumes"] = [{"name": name, **v} for name, v in volumes.items()]
    p["spec"]["containers"][0]["volumeMounts"] = [
        {"name": name, "mountPath": f"/v/{name}"} for name in volumes]
    server.apply(p)
    wait_running("volumes")

    def cat(path):
        return k("exec", "volumes", "--", "cat", path)
    equal(cat("/v/conf/a.txt"), "from a config map")
    equal(cat("/v/one/x/y"), "2")
    equal(k("exec", "volumes", "--", "stat", "-Lc", "%a", "/v/one/x/y", "/v/sec/pass").split(),
          ["400", "440"])
    equal(cat("/v/sec/pass"), "word")
    equal(cat("/v/empty/f"), "hello\n")
    holds(k("exec", "volumes", "--", "mount"), r" on /v/memory type tmpfs .*size=4096k")
    equal(cat("/v/host/from-host"), "of the host")
    with open(f"{host}/from-pod") as f:
        equal(f.read(), "back\n")
    equal(cat("/v/all/a.txt") + cat("/v/all/pass"), "from a config mapword")
    equal(cat("/v/all/labels"), 'l="v"')
    claims = cat("/v/all/token").split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    equal((claims["aud"], claims["sub"]), (["me"], "system:serviceaccount:default:default"))
    equal(claims["kubernetes.io"]["pod"]["name"], "volumes")
    # What the service account admission mounts works as credentials.
    token = cat("/var/run/secrets/kubernetes.io/serviceaccount/token")
    holds(cat("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"), "BEGIN CERTIFICATE")
    code, _, text = server.raw("GET", "/api/v1/namespaces/default/pods", None,
                               {"Authorization": f"Bearer {token}"}, server.connect(anonymous=True))
    equal(code, 403)
    holds(json.loads(text)["message"], 'User "system:serviceaccount:default:default" cannot list')
    # A changed config map reaches the container.
    k("patch", "cm", "conf", "-p", '{"data":{"a.txt":"changed"}}')
    wait_for(lambda: cat("/v/conf/a.txt") == "changed", "the change reaches the container", 120)
    remove("volumes")


def test_environment():
    server.apply(config_map("env", {"one": "1", "two": "2"}),
                 {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "env"},
                  "stringData": {"three": "3"}})
    p = main_pod("env", "env; exec sleep 1000")
    p["metadata"]["labels"] = {"l": "v"}
    c = p["spec"]["containers"][0]
    c["resources"] = {"limits": {"memory": "32Mi", "cpu": "500m"}}

    def field(path):
        return {"fieldRef": {"fieldPath": path}}
    c["env"] = [{"name": "PLAIN", "value": "x"}, {"name": "REF", "value": "$(PLAIN)-$$(PLAIN)"},
                {"name": "NAME", "valueFrom": field("metadata.name")},
                {"name": "LABEL", "valueFrom": field("metadata.labels['l']")},
                {"name": "NODE", "valueFrom": field("spec.nodeName")},
                {"name": "IP", "valueFrom": field("status.podIP")},
                {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
                {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "one"}}},
                {"name": "THREE", "valueFrom": {"secretKeyRef": {"name": "env", "key": "three"}}},
                {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {
                    "name": "nosuch", "key": "x", "optional": True}}}]
    c["envFrom"] = [{"configMapRef": {"name": "env"}, "prefix": "ALL_"},
                    {"secretRef": {"name": "env"}}]
    server.apply(p)
    wait_running("env")
    got = dict(line.split("=", 1) for line in k("logs", "env").splitlines() if "=" in line)
    want = {"PLAIN": "x", "REF": "x-$(PLAIN)", "NAME": "env", "LABEL": "v", "NODE": "one",
            "IP": status("env")["podIP"], "LIMIT": str(32 << 20), "ONE": "1", "THREE": "3",
            "ALL_one": "1", "ALL_two": "2", "three": "3", "HOSTNAME": "env"}
    equal({key: got.get(key) for key in want}, want)
    check("MAYBE" not in got, "an optional key that is not there")
    check(got.get("KUBERNETES_SERVICE_HOST"), "service variables")
    equal(k("exec", "env", "--", "hostname"), "env\n")
    remove("env")
    p["metadata"]["name"] = "lacks"
    c["env"], c["envFrom"] = [{"name": "A", "valueFrom": {"secretKeyRef": {
        "name": "nosuch", "key": "x"}}}], []
    server.apply(p)
    wait_for(lambda: "CreateContainerConfigError" in k("get", "pod", "lacks"), "the reason shows")
    holds(k("describe", "pod", "lacks"), 'Error: secret "nosuch" not found')
    remove("lacks")


def test_restart_policies():
    retry = main_pod("retry", "[ -e /d/again ] && exit 0; touch /d/again; exit 1",
                     restartPolicy="OnFailure", volumes=[{"name": "d", "emptyDir": {}}])
    retry["spec"]["containers"][0]["volumeMounts"] = [{"name": "d", "mountPath": "/d"}]
    fails = main_pod("fails", "echo first; echo; echo -n last; exit 3", restartPolicy="Never")
    fails["spec"]["containers"][0]["terminationMessagePolicy"] = "FallbackToLogsOnError"
    server.apply(main_pod("once", "exit 0", restartPolicy="Never"), fails,
                 retry, main_pod("crash", "exit 1"))
    wait_phase("once", "Succeeded")
    wait_phase("fails", "Failed")
    ended = status("fails")["containerStatuses"][0]["state"]["terminated"]
    equal((ended["exitCode"], ended["message"]), (3, "first\n\nlast"))
    wait_phase("retry", "Succeeded")
    equal(status("retry")["containerStatuses"][0]["restartCount"], 1)
    holds(k("get", "pod", "once", "fails"), r"^once +0/1 +Completed +0 ", r"^fails +0/1 +Error +0 ")

    def backs_off():
        s = status("crash")["containerStatuses"][0]
        check(s["restartCount"] >= 1 and s["state"].get("waiting", {}).get("reason") ==
              "CrashLoopBackOff", s)
        return s
    s = wait_for(backs_off, "CrashLoopBackOff", 60)
    holds(s["state"]["waiting"]["message"], r"^back-off \d+s restarting failed container=main pod=crash")
    equal(s["lastState"]["terminated"]["exitCode"], 1)
    holds(k("get", "pod", "crash"), r"^crash +0/1 +(CrashLoopBackOff|Error) +[1-9]")
    wait_for(lambda: re.search("BackOff", k("events", "--for", "pod/crash")), "the event", 60)
    k("delete", "pod", "once", "fails", "retry", "crash", "--now")


def test_limits():
    """A container over its memory limit is killed and says so."""
    p = main_pod("hungry", "head -c 64m /dev/zero | tail | wc -c", restartPolicy="Never")
    p["spec"]["containers"][0]["resources"] = {"limits": {"memory": "16Mi"}}
    server.apply(p)
    wait_for(lambda: phase("hungry") in ("Failed", "Succeeded"), "it ends", 60)
    terminated = status("hungry")["containerStatuses"][0]["state"]["terminated"]
    print(f"    {terminated['reason']} {terminated['exitCode']}")
    remove("hungry")


def test_resize_in_place():
    """Two containers get more; one of them has to restart for memory."""
    def asks(cpu, memory):
        return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}

    p = main_pod("grows", "exec sleep 1000")
    first = p["spec"]["containers"][0]
    first["resources"] = asks("100m", "32Mi")
    p["spec"]["containers"].append({**first, "name": "anew", "resizePolicy": [
        {"resourceName": "memory", "restartPolicy": "RestartContainer"}]})
    server.apply(p)
    wait_running("grows")
    started = {c["name"]: c["containerID"] for c in status("grows")["containerStatuses"]}
    o = json.loads(k("get", "pod", "grows", "-o", "json"))
    for c in o["spec"]["containers"]:
        c["resources"] = asks("200m", "64Mi")
    k("replace", "--subresource=resize", "-f", "-", stdin=json.dumps(o))

    def done():
        s = status("grows")
        return ("running" in s["containerStatuses"][1]["state"]
                and all(c["resources"]["limits"] == {"cpu": "200m", "memory": "64Mi"}
                        for c in s["containerStatuses"])
                and not any("Resize" in c["type"] for c in s["conditions"]))
    wait_for(done, "it has what it asks for", 60)
    now = {c["name"]: (c["restartCount"], c["containerID"] == started[c["name"]])
           for c in status("grows")["containerStatuses"]}
    equal(now, {first["name"]: (0, True), "anew": (1, False)})
    # What the kernel says: of version 1, or of 2 (where shares have another scale).
    for files, want in (("cpu/cpu.shares", "204"), ("memory/memory.limit_in_bytes", str(64 << 20)),
                        ("memory.max", str(64 << 20)), ("cpu.max", "20000 100000")):
        has = k("exec", "grows", "-c", first["name"], "--", "sh", "-c",
                f"cat /sys/fs/cgroup/{files} 2>/dev/null || true").strip()
        check(has in ("", want), f"{files}: {has}")
    remove("grows")


def test_what_does_not_fit():
    p = main_pod("huge", "exit 0")
    p["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1000"}}
    server.apply(p, main_pod("elsewhere", "exit 0", nodeSelector={"no": "such"}))
    wait_for(lambda: re.search(r"0/1 nodes are available: 1 Insufficient cpu\. ",
                               k("events", "--for", "pod/huge")), "why not")
    wait_for(lambda: re.search(r"0/1 nodes are available: 1 node\(s\) didn't match Pod's node "
                               r"affinity/selector\. ", k("events", "--for", "pod/elsewhere")), "why not")
    k("delete", "pod", "huge", "elsewhere", "--now")


def test_cordon_and_drain():
    equal(k("cordon", "one"), "node/one cordoned\n")
    server.apply(main_pod("waits", "exec sleep 1000"))
    wait_for(lambda: "unschedulable" in k("events", "--for", "pod/waits"), "why not")
    equal(k("uncordon", "one"), "node/one uncordoned\n")
    wait_running("waits")
    remove("waits")


def test_server_killed():
    """kill -9: containers go on and are adopted, with the same ids and no restart."""
    before = containers_of("app=web")
    equal(len(before), 3)
    server.kill()
    for ids in before.values():
        for container, _ in ids:
            check(is_alive(container), f"{container} runs without the server")
    server.start()
    wait_for(lambda: node_ready() == "True", "node is ready")
    k("rollout", "status", "deploy/web", "--timeout=180s")
    wait_for(lambda: containers_of("app=web") == before, "the same containers", 30)
    name = next(iter(before))
    equal(k("exec", name, "--", "echo", "still here"), "still here\n")


def is_alive(container):
    short = container.split("//")[1]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cgroup") as f:
                if short in f.read():
                    return True
        except OSError:
            pass
    return False


def containerd_pid():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"containerd") and any(DATA.encode() in w for w in words):
            return int(pid)
    return None


def test_containerd_killed():
    """containerd dies: the node says NotReady, it is started again, containers went on."""
    before = containers_of("app=web")
    old = containerd_pid()
    with server.kubectl_background("get", "node", "one", "-w", "-o", "jsonpath={.status."
                                   'conditions[?(@.type=="Ready")].status}{"\\n"}') as watch:
        watch.wait_text("^True$")
        try:
            with open(HOLD, "w"):
                os.kill(old, signal.SIGKILL)
            watch.wait_text(r"^False$", 60)
            holds(k("get", "nodes"), r"^one +NotReady ")
            holds(k("describe", "node", "one"), "KubeletNotReady")
        finally:
            os.unlink(HOLD)
        wait_for(lambda: watch.lines()[-1] == "True", "ready again", 60)
    check(containerd_pid() not in (None, old), "a new containerd")
    wait_for(lambda: containers_of("app=web") == before, "the same containers", 60)
    k("exec", next(iter(before)), "--", "true")


def test_stop_and_start():
    before = containers_of("app=web")
    equal(server.stop(30), 0, "exit status")
    check(all(is_alive(c) for ids in before.values() for c, _ in ids), "containers run on")
    server.start()
    wait_for(lambda: containers_of("app=web") == before and node_ready() == "True", "adopted", 60)


def test_delete_all():
    k("delete", "deploy", "web", timeout=240)
    wait_for(lambda: k("get", "pods", "-o", "name") == "", "no pods", 60)
    pods = os.path.join(DATA, "agent/kubelet/pods")
    wait_for(lambda: os.listdir(pods) == [], "no directories of pods", 30)
    with open("/proc/mounts") as f:
        left = [line for line in f if DATA in line]
    equal(left, [], "mounts")


def test_memory():
    print(f"    resident: {server.rss_kib() // 1024} MiB")
    check(server.rss_kib() < 200 * 1024, "memory is bounded")


def nat(*args):
    return subprocess.run(["iptables", "-t", "nat", *args], capture_output=True, text=True)


def test_purge():
    """Even what the runtime has forgotten goes, and nothing that is another's."""
    server.apply(deployment("rest", IMAGE, 2, ["sleep", "1000"]))
    rest = pod("port", IMAGE, ["sleep", "1000"], terminationGracePeriodSeconds=1)
    rest["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 18099}]
    server.apply(rest)
    k("rollout", "status", "deploy/rest", "--timeout=180s", timeout=240)
    k("wait", "--for=condition=Ready", "pod/port", "--timeout=180s", timeout=240)
    equal(server.stop(30), 0)
    check(BRIDGE in nat("-S").stdout, "the port has a rule")
    nat("-N", "CNI-DN-another")
    nat("-A", "CNI-DN-another", "-p", "tcp", "--dport", "18098", "-j", "RETURN")
    os.kill(containerd_pid(), signal.SIGKILL)
    shutil.rmtree(f"{DATA}/agent/containerd/root/io.containerd.metadata.v1.bolt")
    r = purge()
    equal(r.returncode, 0, r.stderr)
    check("CNI-DN-another" in nat("-S").stdout, "another network's chain is still there")
    nat("-F", "CNI-DN-another")
    nat("-X", "CNI-DN-another")
    equal([f for f in glob.glob("/var/lib/cni/results/*") if BRIDGE in f], [], "libcni's notes")
    with open("/proc/mounts") as f:
        equal([line for line in f if DATA in line], [], "mounts")
    equal(containerd_pid(), None, "containerd")
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout
    check(BRIDGE not in links, links)
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True).stdout
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
    check(BRIDGE not in rules + tables and "10.54." not in rules, rules + tables)
    found = subprocess.run(["find", "/sys/fs/cgroup", "-maxdepth", "3", "-path", f"*{CGROUP}*"],
                           capture_output=True, text=True).stdout
    equal(found, "", "cgroups")
    check(not os.path.exists(os.path.join(DATA, "agent")), "DATA/agent is gone")


def prepare():
    if os.geteuid():
        raise Skip("a node needs root")
    for program in ("containerd", "runc"):
        if not shutil.which(program):
            raise Skip(f"{program} is not in PATH")


if __name__ == "__main__":
    try:
        prepare()
    except Skip as why:
        print(f"skip test_node.py: {why}")
        raise SystemExit(0) from None
    with open(os.path.join(BIN, "containerd"), "w") as wrapper:
        wrapper.write(f'#!/bin/sh\n[ ! -e {HOLD} ] || exit 1\n'
                      f'exec {shutil.which("containerd")} "$@"\n')
    os.chmod(wrapper.name, 0o755)
    atexit.register(clean_up)
    run()
