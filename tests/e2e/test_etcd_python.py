#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# lane: etcd
"""The etcd API by gRPC's C core: Debian's python3-etcd3, and calls with bytes of our own."""
import queue
import threading
import time
import grpc
from etcd_grpc import Etcd, PUT, RANGE, SANITIZED, number, string
from lib import check, equal, run, temp_dir, wait_for

etcd = Etcd()


def test_client_library():
    c = etcd.client
    c.put("a", "1")
    equal(c.get("a")[0], b"1")
    equal(c.get("nothing"), (None, None))
    ok, _ = c.transaction(compare=[c.transactions.value("a") == "1"],
                          success=[c.transactions.put("a", "2")], failure=[])
    equal((ok, c.get("a")[0]), (True, b"2"))
    equal((c.replace("a", "2", "3"), c.replace("a", "2", "4")), (True, False))
    with c.lock("lock", ttl=10) as lock:
        check(lock.is_acquired(), "the lock is held")
        check(not c.lock("lock", ttl=10).acquire(timeout=0), "by one")
    lease = c.lease(20)
    c.put("leased", "v", lease=lease)
    equal(([r.TTL for r in lease.refresh()], lease.keys), ([20], [b"leased"]))
    lease.revoke()
    equal(c.get("leased"), (None, None))
    equal((c.delete("a"), c.delete("a")), (True, False))


def test_watch():
    events, cancel = etcd.client.watch_prefix("w/")
    got, seen = [], threading.Event()

    def follow():
        for e in events:
            got.append((type(e).__name__, e.key, e.value))
            if len(got) == 3:
                seen.set()
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    etcd.client.put("w/1", "x")
    etcd.client.put("v/1", "not watched")
    etcd.client.put("w/2", "y")
    etcd.client.delete("w/1")
    check(seen.wait(240), got)
    cancel()
    equal(got, [("PutEvent", b"w/1", b"x"), ("PutEvent", b"w/2", b"y"), ("DeleteEvent", b"w/1", b"")])


def test_big_answers():
    for i in range(50):
        etcd.call(PUT, string(1, b"big/%02d" % i) + string(2, b"%d" % (i % 10) * 50000))
    answer = etcd.call(RANGE, string(1, b"big/") + string(2, b"big0"))
    at = 0
    for i in range(50):
        at = answer.index(string(5, b"%d" % (i % 10) * 50000), at) + 50000
    check(answer.endswith(number(4, 50)), answer[-20:])


def test_big_ranges_at_an_old_revision():
    """They come from the back end page by page, and are what the range was then."""
    old = Etcd()
    old.start(f"sqlite://{temp_dir()}/state.db")

    def body(request):  # without the header
        answer = old.call(RANGE, request)
        return answer[2 + answer[1]:]
    everything = string(1, b"old/") + string(2, b"old0")
    for i in range(400):
        old.call(PUT, string(1, b"old/%03d" % i) + string(2, b"%03d" % i * 33333))
    rev = old.client.get("old/399")[1].mod_revision
    asked = {"all": b"", "limit": number(3, 250), "keys": number(8, 1), "small limit": number(3, 7),
             "filter": number(10, rev - 300) + number(11, rev - 20), "filtered limit": number(10, rev - 300) +
             number(3, 200), "count": number(9, 1), "descending": number(5, 2) + number(3, 9)}
    then = {name: body(everything + how) for name, how in asked.items()}
    check(len(then["all"]) > 39000000 and len(then["limit"]) > 24000000, "they are big")
    for i in range(0, 400, 3):
        if i % 2:
            old.client.delete("old/%03d" % i)
        else:
            old.client.put("old/%03d" % i, "new")
    old.client.put("old/new", "x")
    for name, how in asked.items():
        check(body(everything + how + number(4, rev)) == then[name], f"{name} at revision {rev}")
    before, answers = old.kib("VmHWM"), []
    threads = [threading.Thread(target=lambda: answers.append(body(everything + number(4, rev)) == then["all"]))
               for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(answers, [True] * 8)
    grown = old.kib("VmHWM") - before
    check(grown < 160 * 1024 or SANITIZED, f"8 lists of 40 MB took {grown} KiB")
    old.process.kill()


def test_what_grpc_refuses():
    code = grpc.StatusCode
    etcd.refuses(code.INVALID_ARGUMENT, "etcdserver: key is not provided", RANGE, b"")
    etcd.refuses(code.UNIMPLEMENTED, "unknown method Nope for service etcdserverpb.KV",
                 "/etcdserverpb.KV/Nope", b"")
    etcd.refuses(code.UNIMPLEMENTED, "unknown service nope.KV", "/nope.KV/Range", b"")
    etcd.refuses(code.RESOURCE_EXHAUSTED, "grpc: received message larger than max (3000005 vs. 2097152)",
                 RANGE, string(1, b"x" * 3000000))
    etcd.refuses(code.UNIMPLEMENTED, 'grpc: Decompressor is not installed for grpc-encoding "gzip"',
                 RANGE, string(1, b"a" * 1000), compression=grpc.Compression.Gzip)
    etcd.refuses(code.INTERNAL, "grpc: error unmarshalling request: malformed message", RANGE, b"\x0a\xff")


def test_renewals_are_answered_in_order():
    for lease in (71, 72):
        etcd.call("/etcdserverpb.Lease/LeaseGrant", number(1, 30 + lease) + number(2, lease))
    asked = queue.Queue()
    stream = etcd.stream("/etcdserverpb.Lease/LeaseKeepAlive", iter(asked.get, None))
    ids = [71, 72, 99, 72, 71] * 500  # more than may be under way at once
    for i in ids:
        asked.put(number(1, i))
    asked.put(None)
    for n, (i, answer) in enumerate(zip(ids, stream)):
        ttl = number(3, 30 + i) if i != 99 else b""
        check(answer.endswith(number(2, i) + ttl), f"answer {n} to {i}: {answer}")
    equal(list(stream), [], "the stream ends when all is answered")
    equal(stream.code(), grpc.StatusCode.OK)


def test_renewals_that_nobody_reads_hold_the_client_back():
    most, asked, stalled = 60000, [0], threading.Event()
    etcd.call("/etcdserverpb.Lease/LeaseGrant", number(1, 600) + number(2, 73))

    def ask():
        while asked[0] < most and not stalled.is_set():
            asked[0] += 1
            yield number(1, 73)
    channel = grpc.insecure_channel(f"127.0.0.1:{etcd.port}", options=[
        ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65535)])  # a window that stays
    stream = channel.stream_stream("/etcdserverpb.Lease/LeaseKeepAlive", None, None)(ask())
    seen = [0, time.monotonic()]

    def still():
        if asked[0] != seen[0]:
            seen[:] = asked[0], time.monotonic()
        return seen[0] and time.monotonic() - seen[1] > 1
    wait_for(still, "no more renewals are taken")
    stalled.set()
    check(asked[0] < most, f"{asked[0]} renewals were taken from a client that reads nothing")
    for _ in range(asked[0] - 5):  # it goes on when it reads
        next(stream)
    stream.cancel()


def test_a_connection_outlives_many_calls_that_are_given_up():
    etcd.call("/etcdserverpb.Lease/LeaseGrant", number(1, 600) + number(2, 74))
    wait = threading.Event()

    def one_watch():
        yield string(1, string(1, b"k"))
        wait.wait()
    watch = etcd.channel.stream_stream("/etcdserverpb.Watch/Watch", None, None)(one_watch())
    next(watch)
    for _ in range(1500):
        stream = etcd.stream("/etcdserverpb.Lease/LeaseKeepAlive", iter([number(1, 74)] * 2))
        next(stream)
        stream.cancel()
    check(watch.is_active(), "the watch on the same connection goes on")
    etcd.call(PUT, string(1, b"k"))
    check(b"k" in next(watch), "and tells events")
    watch.cancel()
    wait.set()


def test_what_waits_for_the_store_for_long_is_told():
    slow = Etcd()
    slow.start("faulty+memory://?fault=slow:1000:12000")
    calls = {PUT: string(1, b"k"), "/etcdserverpb.KV/DeleteRange": string(1, b"k"),
             "/etcdserverpb.KV/Txn": string(2, string(2, string(1, b"k"))),
             "/etcdserverpb.Lease/LeaseGrant": number(1, 60)}
    began = time.monotonic()
    waiting = {m: slow.channel.unary_unary(m, None, None).future(r, timeout=240) for m, r in calls.items()}
    for method, call in waiting.items():
        error = call.exception()
        check(error, method)
        equal((error.code(), error.details()),
              (grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out"), method)
        check(6.5 < time.monotonic() - began, f"{method} after {time.monotonic() - began:.1f} s")
    slow.process.kill()


def test_who_waits_is_told_that_the_server_stops():
    ending = Etcd()
    ending.start()
    for lease in (1, 2, 3):
        ending.call("/etcdserverpb.Lease/LeaseGrant", number(1, 600) + number(2, lease))
    ending.call("/v3lockpb.Lock/Lock", string(1, b"line") + number(2, 1))
    first = ending.channel.unary_stream("/v3electionpb.Election/Observe", None, None)(string(1, b"line"), timeout=240)
    check(b"line/1" in next(first), "the observer is told")
    waiting = [ending.channel.unary_unary(m, None, None).future(string(1, b"line") + number(2, lease), timeout=240)
               for m, lease in (("/v3lockpb.Lock/Lock", 2), ("/v3electionpb.Election/Campaign", 3))]
    wait_for(lambda: ending.call(RANGE, string(1, b"line/") + string(2, b"line0") + number(9, 1)).endswith(number(4, 3)),
             "both wait", 60)
    ending.process.terminate()
    for call in waiting:
        error = call.exception()
        equal((error.code(), error.details()), (grpc.StatusCode.UNAVAILABLE, "etcdserver: server stopped"))
    try:
        next(first)
        check(False, "the observer goes on")
    except grpc.RpcError as e:  # pylint: disable=no-member
        equal((e.code(), e.details()), (grpc.StatusCode.UNAVAILABLE, "etcdserver: server stopped"))
    equal(ending.process.wait(240), 0, "exit status")


run(etcd)
