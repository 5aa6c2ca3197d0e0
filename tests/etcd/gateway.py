#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gateway.py REFERENCE OURS: the JSON gateway of two new servers, answer for answer. Streams are read
until what is expected of them has come; nothing waits for a time."""
import http.client
import json
import sys
import urllib.parse

# path, body, and of a stream how many messages (absent: until it ends)
CALLS = [
    ("kv/put", '{"key":"Zm9v","value":"YmFy"}'),
    ("kv/range", '{"key":"Zm9v"}'),
    ("kv/range", '{"key":"Zm9v"} x'),
    ("kv/range", '{"key":"Zm9v","limit":1e0,"keysOnly":true,"nope":[{"a":[1,"x"]}]}'),
    ("kv/range", '{"key":"Zm9v","sort_order":"DESCEND","sort_target":1}'),
    ("kv/range", '{"key":"Zm9v","sort_order":"NOPE"}'),
    ("kv/range", '{"key":"Zm9v","revision":"99"}'),
    ("kv/range", ""),
    ("kv/range", "{"),
    ("kv/range", "[]"),
    ("kv/range", "{'key':null}"),
    ("kv/range", '{"key":"Zm9v",}'),
    ("kv/range", '{"key" "Zm9v"}'),
    ("kv/range", '{"key":tru}'),
    ("kv/range", '{"key":1}'),
    ("kv/range", '{"key":"!!"}'),
    ("kv/range", '{"key":null}'),
    ("kv/range", '{"key":["Zm9v"]}'),
    ("kv/range", '{"key":"Zg","limit":"1x"}'),
    ("kv/range", '{"key":"Zg","limit":1.5}'),
    ("kv/range", '{"key":"Zm9v","key":"Zm9v"}'),
    ("kv/range", '{"key":"Zm9v","serializable":"true"}'),
    ("kv/nope", "{}"),
    ("", "{}"),
    ("kv/txn", '{"compare":[{"target":"VERSION","key":"Zm9v","result":"GREATER","version":"0"}],'
     '"success":[{"request_put":{"key":"YQ==","value":"Yg==","prev_kv":true}},'
     '{"requestRange":{"key":"AA==","range_end":"AA=="}}],"failure":[{"request_delete_range":{"key":"YQ=="}}]}'),
    ("kv/txn", '{"compare":[{"target":"CREATE","key":"YQ==","result":"EQUAL","createRevision":"0"}],'
     '"failure":[{"request_delete_range":{"key":"YQ==","prev_kv":true}}]}'),
    ("kv/txn", '{"success":{"request_put":{"key":"YQ=="}}}'),
    ("kv/txn", '{"success":[null]}'),
    ("kv/txn", '{"success":["x"]}'),
    ("kv/deleterange", '{"key":"YQ=="}'),
    ("watch", '{"create_request":{"key":"Zm9v","start_revision":"1"}}{"create_request":{"key":"Zm9v","watch_id":"3"}}',
     3),
    ("watch", '{"create_request":{"key":"YQ==","start_revision":"3","filters":["NOPUT"]}}', 2),
    ("watch", '{"create_request":{"key":"YQ=="}} {"cancelRequest":{}}', 2),
    ("kv/compaction", '{"revision":"2"}'),
    ("kv/compaction", '{"revision":"2"}'),
    ("watch", '{"create_request":{"key":"Zm9v","start_revision":"1"}} {bad', 2),
    ("lease/grant", '{"TTL":"100","ID":"7"}'),
    ("lease/grant", '{"TTL":100,"ID":7}'),
    ("kv/lease/timetolive", '{"ID":"8","keys":true}'),
    ("lease/leases", "{}"),
    ("lease/keepalive", '{"ID":"7"}{"ID":"7"}'),
    ("lease/keepalive", '{"ID":"99"}'),
    ("lease/keepalive", '{"ID":'),
    ("lease/revoke", '{"ID":"7"}'),
    ("kv/lease/revoke", '{"ID":"7"}'),
    ("maintenance/alarm", '{"action":"GET"}'),
    ("maintenance/hashkv", '{"revision":"4"}'),
    ("maintenance/defragment", "{}"),
    ("maintenance/downgrade", '{"action":"VALIDATE","version":"3.1.0"}'),
    ("maintenance/downgrade", '{"action":"VALIDATE","version":"x"}'),
    ("maintenance/transfer-leadership", '{"targetID":"1"}'),
    ("cluster/member/add", '{"peerURLs":["nonsense"]}'),
    ("auth/enable", "{}"),
    ("auth/status", "{}"),
    ("auth/user/list", "{}"),
    ("auth/user/get", '{"name":"x"}'),
    ("auth/authenticate", '{"name":"x","password":"y"}'),
    ("election/leader", '{"name":"bm8="}'),
]
IDS = ("cluster_id", "member_id", "raft_term")


def norm(v):
    """Without what two clusters cannot share. A message of a watch has the revision it was made at."""
    if isinstance(v, dict):
        return {k: norm(x) for k, x in v.items() if k not in IDS}
    return [norm(x) for x in v] if isinstance(v, list) else v


def ask(url, path, body, messages=None, method="POST"):
    c = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=300)
    c.request(method, "/v3/" + path, body)
    r = c.getresponse()
    if messages is None:
        text = r.read().decode()
        parts = [json.loads(line) for line in text.splitlines() if line]
    else:
        parts = [json.loads(r.readline()) for _ in range(messages)]
    kind = r.headers["Content-Type"] if parts else None
    c.close()
    parts = norm(parts)
    if messages is not None:
        for p in parts:
            p["result"]["header"] = None
        parts.sort(key=json.dumps)  # of several watches
    return r.status, kind, parts


def main():
    reference, ours = sys.argv[1:3]
    bad = 0
    calls = [c + (None,) * (3 - len(c)) + ("POST",) for c in CALLS] + [("kv/range", None, None, "GET")]
    for path, body, messages, method in calls:
        a, b = (ask(u, path, body, messages, method) for u in (reference, ours))
        if a != b:
            bad += 1
            print(f"{method} /v3/{path} {body}\n  etcd    {a}\n  kinglet {b}")
    big = "QUFB" * 200000  # 800,000 bytes as text, in many pieces
    for url in (reference, ours):
        for key in ("YmlnMQ==", "YmlnMg=="):
            ask(url, "kv/put", json.dumps({"key": key, "value": big}))
    a, b = (ask(u, "kv/range", '{"key":"YmlnMQ==","range_end":"YmlnMw=="}') for u in (reference, ours))
    if a != b or len(b[2][0]["kvs"]) != 2 or b[2][0]["kvs"][1]["value"] != big:
        bad += 1
        print("values of 600,000 bytes differ")
    print(f"{len(calls) + 1} calls of the JSON gateway, {bad} differences")
    return bad > 0


sys.exit(main())
