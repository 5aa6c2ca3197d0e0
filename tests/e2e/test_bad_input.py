#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time-limit: 300
"""Bad input gets the Status that kube-apiserver gives, never a crash, never a half-applied write.

The requests are in bad/; what kube-apiserver 1.36.3 answered to them is in bad/answers.json. To
record it anew: E2E_KUBECONFIG=upstream's ./test_bad_input.py --record
"""
import json
import os
import re
import socket
import sys
from bad.objects import CMS, DEPLOYS, JSON, MERGE, NS, SECRET, changed, cm
from bad.requests import REQUESTS
from bad.different import DIFFERENT
from bad.more import MORE
from lib import EXTERNAL, Server, check, config_map, deployment, equal, pod, run, wait_for

REQUESTS = REQUESTS + MORE

server = Server()
RECORDED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bad/answers.json")


# What differs from run to run in an answer.
VARIABLE = [(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
            (r"A_[a-z0-9]{5}", "A_RANDOM"),
            (r"\ba{50,58}[a-z0-9]{5,6}\b", "GENERATED"),
            (r'"time":"20[^"]*Z"', '"time":"NOW"'),
            (r"in record \(\d+\)", "in record (N)"),
            (r'(patch: Invalid value: |^Invalid value: )"\{.*\}": ', r"\1OBJECT: "),
            # Go's diff of two Go structs, which a server that is not Go has not got.
            (r"(?s)(if it was previously negative\)).*", r"\1")]


def steady(text):
    for pattern, word in VARIABLE:
        text = re.sub(pattern, word, text)
    return text


def steady_strings(x):
    if isinstance(x, dict):
        return {key: steady_strings(value) for key, value in x.items()}
    if isinstance(x, list):
        # Some kinds upstream validates two or four times over: a cause that comes again says nothing.
        once = []
        for value in (steady_strings(value) for value in x):
            if value not in once:
                once.append(value)
        return once
    return steady(x) if isinstance(x, str) else x


def send(name, method, path, headers, body):
    headers = dict(headers)
    connection = server.connect(anonymous=headers.pop("X-Test", None) == "anonymous")
    try:
        if isinstance(body, dict):
            body = json.dumps(body)
        status, got, text = server.raw(method, path, body, headers, connection)
        if text and got.get("Content-Type", "").startswith("application/json"):
            answer = json.loads(text)
            if answer.get("kind") != "Status":
                answer = {"kind": answer["kind"]}
        else:
            answer = text.decode(errors="replace")
        warnings = got.get_all("Warning")
        return {"code": status, "type": got.get("Content-Type"),
                **({"warnings": warnings} if warnings else {}), "answer": steady_strings(answer)}
    finally:
        connection.close()


def prepare():
    """Exactly the objects that the requests are about, whatever was there before."""
    n = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bad"}}
    if server.raw("GET", NS)[0] == 404:
        server.api("POST", "/api/v1/namespaces", n)
    wait_for(lambda: server.raw("GET", NS + "/serviceaccounts/default")[0] == 200, "default account")
    wait_for(lambda: server.raw("GET", CMS + "/kube-root-ca.crt")[0] == 200, "root CA")
    for path in KEPT:
        for x in server.get(path)["items"]:
            one = f"{path}/{x['metadata']['name']}"
            if x["metadata"]["name"] != "kube-root-ca.crt":
                server.raw("PATCH", one, '{"metadata":{"finalizers":null}}', MERGE)
                server.raw("DELETE", one + "?gracePeriodSeconds=0")
    server.api("POST", CMS, config_map("there", {"k": "v"}))
    server.api("POST", CMS, {**config_map("fixed", {"k": "v"}), "immutable": True})
    server.api("POST", NS + "/secrets", changed(SECRET, "metadata.name", "there"))
    server.api("POST", DEPLOYS, deployment("there", replicas=0))
    wait_for(lambda: "observedGeneration" in server.get(DEPLOYS + "/there")["status"], "its status")
    server.api("POST", NS + "/pods", changed(pod("there", "busybox:1"), "spec.schedulerName", "no"))


KEPT = (CMS, NS + "/secrets", NS + "/services", DEPLOYS, NS + "/pods")


def everything():
    """What is stored in the namespace, to see that nothing was half applied."""
    return {path: server.get(path)["items"] for path in KEPT}


def difference(got, want):
    """The parts that differ, for people."""
    if got["code"] != want["code"] or not isinstance(got["answer"], type(want["answer"])):
        parts = [(x["code"], x["answer"].get("message", x["answer"].get("kind"))
                  if isinstance(x["answer"], dict) else x["answer"]) for x in (got, want)]
    else:
        flat = [{**x, **(x["answer"] if isinstance(x["answer"], dict) else {})} for x in (got, want)]
        keys = [key for key in ("message", "reason", "details", "warnings", "type", "answer")
                if flat[0].get(key) != flat[1].get(key)]
        parts = [flat[i].get(keys[0]) for i in range(2)] if keys else (got, want)
    return f"got {str(parts[0])[:600]!r}, want {str(parts[1])[:600]!r}"


def test_statuses():
    with open(RECORDED, encoding="utf-8") as f:
        want = steady_strings(json.load(f))
    equal(set(want), {r[0] for r in REQUESTS}, "recorded answers")
    before, failed = None, 0
    for request in REQUESTS:
        name = request[0]
        if name in DIFFERENT:
            print(f"skip test_bad_input.py / {name}: {DIFFERENT[name]}", flush=True)
            continue
        if before is None:
            prepare()
            before = everything()
        got = send(*request)
        why = None if got == want[name] else difference(got, want[name])
        if got["code"] < 300:  # upstream takes some of these too
            before = None
        elif not why and everything() != before:
            why, before = "refused, but it changed something", None
        failed += bool(why)
        print(f"not ok test_bad_input.py / {name}: {why}" if why else
              f"ok test_bad_input.py / {name}", flush=True)
    check(not failed, f"{failed} of {len(REQUESTS)} differ")


def is_served():
    return server.raw("GET", "/readyz")[2] == b"ok"


def connect_tls():
    return server.ssl.wrap_socket(socket.create_connection(("127.0.0.1", server.port), 10),
                                  server_hostname="127.0.0.1")


def exchange(data, close_early=False):
    """Sends bytes and reads until the server closes; what came back."""
    with connect_tls() as s:
        s.sendall(data)
        if close_early:
            return b""
        got = b""
        while chunk := s.recv(65536):
            got += chunk
            if b"\r\n\r\n" in got and b"Connection: close" not in got:
                break
        return got


def test_half_sent_requests():
    prepare()
    head = (f"POST {CMS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            "Content-Length: 1000\r\n\r\n").encode()
    for cut in (1, 10, len(head) - 1, len(head), len(head) + 20):
        exchange((head + json.dumps(cm()).encode())[:cut], close_early=True)
        check(is_served(), f"server is there after {cut} bytes")
    equal(server.raw("GET", CMS + "/new")[0], 404, "the half-sent object's status")
    waiting = [connect_tls() for _ in range(50)]  # half a request each, and they stay
    for s in waiting:
        s.sendall(head + b'{"apiVersion":')
    check(is_served(), "others are served meanwhile")
    for s in waiting:
        s.close()
    raw = socket.create_connection(("127.0.0.1", server.port), 10)  # half a TLS handshake
    raw.sendall(b"\x16\x03\x01\x02\x00\x01")
    check(is_served(), "others are served meanwhile")
    raw.close()


def test_http_errors():
    def status(data):
        return exchange(data).split(b"\r\n", 1)[0].split(b":")[0]  # Go adds why after a colon

    equal(status(b"GARBAGE\r\n\r\n"), b"HTTP/1.1 400 Bad Request")
    equal(status(b"GET /readyz HTTP/1.1\r\n\r\n"), b"HTTP/1.1 400 Bad Request", "no Host")
    equal(status(b"GET /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
          b"HTTP/1.1 400 Bad Request", "negative length")
    equal(status(b"POST /readyz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                 b"Content-Length: 3\r\n\r\nxyz\r\n")[:12], b"HTTP/1.1 400", "two lengths")
    equal(status(f"POST {CMS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                 "Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode())[:12], b"HTTP/1.1 400", "chunk")
    big = b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * (2 << 20) + b"\r\n\r\n"
    try:
        got = status(big)
    except (ConnectionError, OSError):
        got = b""  # closed while we were still sending
    check(got in (b"", b"HTTP/1.1 431 Request Header Fields Too Large"), got)
    with socket.create_connection(("127.0.0.1", server.port), 10) as s:
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        got = b""
        while chunk := s.recv(1000):
            got += chunk
    equal(got, b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
    check(is_served(), "server is there")


def test_long_warnings_are_cut():
    """As upstream's recorder does once they have more than 4096 characters: each to 256."""
    def warnings(length):
        code, headers, _ = server.raw("POST", "/api/v1/namespaces/default/configmaps?dryRun=All", {
            **config_map("w"), **{f"k{i:02}" + "a" * length: "" for i in range(20)}})
        equal(code, 201)
        return headers.get_all("Warning")

    equal([len(w) for w in warnings(100)], [len('299 - "unknown field \\"k00\\""') + 100] * 20)
    equal([len(w) for w in warnings(300)], [len('299 - "\\"') + 256] * 16)


def test_size_of_chunked_body():
    """The limit counts what comes, not only what is announced."""
    def pieces():
        yield b'{"data":"'
        for _ in range(100):
            yield b"x" * 65536
    c = server.connect()
    try:
        c.request("POST", CMS, pieces(), JSON, encode_chunked=True)
        code = c.getresponse().status
    except (ConnectionError, OSError):
        code = 413  # told and closed while we were still sending
    equal(code, 413)
    c.close()
    check(is_served(), "server is there")


def record():
    server.start()
    answers = {}
    for request in REQUESTS:
        prepare()
        answers[request[0]] = send(*request)
        if answers[request[0]]["code"] < 300:
            print(f"accepted: {request[0]}", file=sys.stderr)
    with open(RECORDED, "w", encoding="utf-8") as f:
        json.dump(answers, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--record"]:
        check(EXTERNAL, "E2E_KUBECONFIG is not set")
        record()
    else:
        run(server)
