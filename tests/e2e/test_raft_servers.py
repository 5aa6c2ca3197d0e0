#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Servers of a raft:// cluster that come, go, die and are put together again."""
import json
import os
import re
import shutil
import subprocess
import time
from lib import Database, KINGLET, Server, Writers, check, config_map, equal, fail, free_port, holds, \
    moved_config_maps, run, temp_dir, wait_for

ROUNDS = int(os.environ.get("FAILOVERS", "5"))


def server(*flags, data=None):
    return Server("--advertise-address", "127.0.0.1", "--peer-port", str(free_port()), *flags, data=data)


def kinglet(*args, timeout=240):
    return subprocess.run([KINGLET, *args], capture_output=True, text=True, timeout=timeout)


def must(*args):
    r = kinglet(*args)
    if r.returncode:
        fail(f"kinglet {' '.join(args)}: exit {r.returncode}: {r.stderr}")
    return r.stdout


def must_not(code, say, *args):
    r = kinglet(*args)
    equal(r.returncode, code, f"exit status of {args}: {r.stdout}{r.stderr}")
    lines = r.stderr.strip().splitlines()
    equal(len(lines), 1, f"lines in {r.stderr!r}")
    holds(lines[0], say)


def refused(say, s):
    """A server that must not start: one sentence, exit 1."""
    r = kinglet("server", *s.flags, timeout=240)
    equal(r.returncode, 1, f"exit status: {r.stderr}")
    lines = [x for x in r.stderr.splitlines() if x.startswith("kinglet: ")]
    equal(len(lines), 1, f"sentences in {r.stderr}")
    holds(lines[0], say)


def read(path):
    with open(path) as f:
        return f.read().strip()


def at(s):
    return ["--data-dir", s.data, "--server", f"https://127.0.0.1:{s.port}"]


def members(s):
    return json.loads(must("member", "list", "-o", "json", *at(s)))


def roles(s):
    return sorted(m["role"] for m in members(s))


def id_of(s):
    return read(f"{s.data}/server/db/raft/server-id")


def leader(servers):
    """The one that those which live agree on; None while they do not."""
    ids = {m["id"] for s in servers for m in members(s) if m["leader"]}
    return next((s for s in servers if id_of(s) in ids), None) if len(ids) == 1 else None


def wait_leader(servers):
    return wait_for(lambda: leader(servers), "a leader", 20)


def join(first, *flags, data=None):
    return server("--server", f"https://127.0.0.1:{first.port}", "--token",
                  read(f"{first.data}/server/token"), *flags, data=data)


def names(s):
    """The ConfigMaps, as a quorum has them."""
    items = s.get("/api/v1/namespaces/default/configmaps")["items"]
    return {i["metadata"]["name"]: int(i["metadata"]["resourceVersion"]) for i in items}


first = server("--cluster-init")
second = third = None


def test_one_voter_then_three():
    global second, third
    equal(roles(first), ["voter"])
    must_not(1, "it is the only voter", "member", "remove", id_of(first), *at(first))
    must_not(1, "no such server", "member", "remove", "0000000000000001", *at(first))
    must_not(2, "needs a member's id", "member", "promote", *at(first))
    must_not(2, "needs a member's id", "member", "remove", "12", *at(first))
    must_not(1, "the token is not that of this cluster", "member", "list", "--token", "x", *at(first))
    second = join(first).start()
    equal(roles(first), ["learner", "voter"])
    equal(roles(second), ["learner", "voter"])
    third = join(second).start()  # any server takes it
    for s in (first, second, third):
        wait_for(lambda s=s: roles(s) == ["voter"] * 3, "three voters")
    table = must("member", "list", *at(third)).splitlines()
    holds(table[0], "^ID +ROLE +LEADER +CONNECTED +ADDRESS$")
    equal(len(table), 4, "lines")
    equal(sum(re.search(r"^[0-9a-f]{16} +voter +yes +yes", x) is not None for x in table), 1, "leaders")
    for s in (second, third):
        for path in ("server-ca.key", "peer-ca.key", "service.key", "peer.key"):
            equal(os.stat(f"{s.data}/server/tls/{path}").st_mode & 0o777, 0o600, path)
        check(read(f"{first.data}/server/token").split("::")[1] not in s.log_tail(1 << 20),
              "the token is in the log")


def test_failovers():
    """kill -9 of the leader under writes: they resume, and what was acknowledged is there."""
    all_three = [first, second, third]
    longest = 0
    with Writers(all_three) as w:
        for _ in range(ROUNDS):
            wait_for(lambda: w.count() > 50, "writes", 20)
            victim = wait_leader(all_three)
            victim.kill()
            left = [s for s in all_three if s is not victim]
            began, had = time.monotonic(), w.count()
            new = wait_leader(left)
            wait_for(lambda: w.count() > had + 20, "writes go on", 20)
            longest = max(longest, time.monotonic() - began)
            check(new is not victim, "the dead server leads")
            victim.start()
            wait_for(lambda: all(m["connected"] for m in members(new)), "all are there", 20)
    print(f"    {w.count()} writes, {ROUNDS} failovers, the longest {longest:.1f} s")
    found = [names(s) for s in all_three]
    for s, have in zip(all_three, found):
        lost = [n for n in w.acked if n not in have]
        check(not lost, f"{len(lost)} acknowledged writes are not on {s.port}: {lost[:5]}")
        wrong = [n for n in w.acked if have[n] != w.acked[n]]
        check(not wrong, f"other revisions than acknowledged on {s.port}: {wrong[:5]}")
    equal(found[1], found[0], "what the servers have")
    equal(found[2], found[0], "what the servers have")
    equal(len(set(found[0].values())), len(found[0]), "revisions")


def test_remove_the_leader():
    """The cluster goes on with two; the removed one comes back with an empty directory only."""
    global first, second, third
    all_three = [first, second, third]
    gone = wait_leader(all_three)
    left = [s for s in all_three if s is not gone]
    old = id_of(gone)
    must("member", "remove", old, *at(gone))
    wait_for(lambda: all(old not in [m["id"] for m in members(s)] for s in left), "it is gone")
    wait_for(lambda: roles(left[0]) == ["learner", "voter"], "an odd number of voters")
    left[0].apply(config_map("without-it"))
    wait_for(lambda: gone.proc.poll() is not None, f"the removed server ends: {gone.log_tail(300)}", 20)
    check("removed" in gone.log_tail(), gone.log_tail(600))
    refused("removed", gone)
    shutil.rmtree(gone.data)
    os.mkdir(gone.data)
    back = join(left[0], data=gone.data).start()
    check(id_of(back) != old, "the old id")
    wait_for(lambda: roles(back) == ["voter"] * 3, "three voters")
    check("without-it" in names(back), "what happened meanwhile is not there")
    first, second, third = [*left, back]


def test_promote():
    fourth = join(first).start()
    wait_for(lambda: roles(first) == ["learner"] + ["voter"] * 3, "a learner")
    must_not(1, "no such server", "member", "promote", "00000000000000aa", *at(first))
    must("member", "remove", id_of(fourth), *at(second))
    wait_for(lambda: roles(first) == ["voter"] * 3, "three voters")
    fourth.close()


def test_moved_while_the_leader_dies():
    """migrate --online on a follower, and kill -9 of the leader once writes are held off: what was
    acknowledged is at the target, or they go on and the next run moves it all."""
    all_three = [first, second, third]
    lead = wait_leader(all_three)
    follower = next(s for s in all_three if s is not lead)
    with Database("postgres") as db:
        command = [KINGLET, "migrate", "--online", "--data-dir", follower.data, "--to", db.url,
                   "--verify", "--force"]
        with Writers(all_three) as w:
            wait_for(lambda: w.count() > 100, "writes", 20)
            proc = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            wait_for(lambda: w.refused or proc.poll() is not None, "writes are held off")
            lead.kill()
            out, _ = proc.communicate(timeout=240)
            print("   ", "moved" if proc.returncode == 0 else out.strip().splitlines()[-1])

            def moved():
                r = kinglet(*command[1:])
                check(r.returncode == 0, r.stderr)
                return r.stdout
            if proc.returncode:
                out = wait_for(moved, "moved in the end", 60)
            print("   ", re.search(r"the pause was \d+ ms", out).group(0))
        for s in all_three:
            if s is lead:
                continue
            status, _, text = s.raw("POST", "/api/v1/namespaces/default/configmaps", config_map("late"))
            equal(status, 503, text)
            holds(text.decode(), "takes no writes: it was moved to postgres://")
        have = moved_config_maps(db.url)
        lost = [n for n in w.acked if have.get(n) != w.acked[n]]
        check(not lost, f"{len(lost)} of {len(w.acked)} acknowledged writes were not moved: {lost[:5]}")
    lead.start(wait=False)
    must("migrate", "--unfence", "--data-dir", follower.data)
    wait_for(lead.is_ready, "the one that was killed is ready")
    for s in all_three:
        s.apply(config_map("goes-on", {"by": str(s.port)}))


def test_recover():
    """Two of three are lost for ever."""
    wait_leader([first, second, third])
    first.apply(config_map("before-the-loss"))
    wait_for(lambda: "before-the-loss" in names(third), "it is there")
    must_not(1, "in use by another process", "recover", "--yes", "--data-dir", third.data)
    seen = names(third)["before-the-loss"]
    for s in (first, second, third):
        s.kill()
    must_not(2, "say --yes", "recover", "--data-dir", third.data)
    must_not(1, "nothing to recover from|No such file", "recover", "--yes", "--data-dir", temp_dir())
    copy = temp_dir()
    shutil.copytree(third.data, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
    holds(must("recover", "--yes", "--data-dir", third.data), "is a cluster of one server now")
    third.start()
    equal(roles(third), ["voter"])
    # What clients had listed before is compacted: watches from there begin anew.
    status, _, text = third.raw("GET", "/api/v1/namespaces/default/configmaps?watch=true"
                                f"&timeoutSeconds=5&resourceVersion={seen}")
    check(status == 410 or b'"code":410' in text, f"an old watch goes on: {status} {text[:300]}")
    check("before-the-loss" in names(third), "what it had is lost")
    third.apply(config_map("after"))
    fresh = [join(third).start(), join(third).start()]
    wait_for(lambda: roles(third) == ["voter"] * 3, "three voters again")
    check("after" in names(fresh[0]), "not replicated")
    for s in (*fresh, third):
        s.close()
    # The same by a flag, of another survivor.
    reset = server("--cluster-reset", data=copy)
    r = kinglet("server", *reset.flags)
    equal((r.returncode, "is a cluster of one server now" in r.stdout), (0, True), r.stderr)
    reset.flags.remove("--cluster-reset")
    with reset:
        check("before-the-loss" in names(reset), "what it had is lost")


run(first)
