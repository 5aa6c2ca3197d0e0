#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time-limit: 900
"""deploy/quickstart: from nothing to a Deployment that runs, again, stop, again, and away."""
import os
import re
import subprocess
from lib import ROOT, Skip, check, equal, free_port, holds, run, temp_dir

DATA = temp_dir() + "/data"
ENV = dict(os.environ, KINGLET_DATA_DIR=DATA, KINGLET_PORT=str(free_port()),
           KINGLET_KUBELET_PORT=str(free_port()), KINGLET_BRIDGE="kingletqs0",
           KINGLET_CGROUP_ROOT="/kingletqs", KINGLET_ARGS="--cluster-cidr 10.53.0.0/16")


BEFORE = set()  # what a node of somebody else left on the machine


def quickstart(*args, want=0):
    if os.geteuid():
        raise Skip("a node needs root")
    r = subprocess.run([os.path.join(ROOT, "deploy/quickstart"), *args], env=ENV, text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    check(r.returncode == want or BEFORE, f"exit {r.returncode}: {r.stdout[-3000:]}")
    return r.stdout


def containers():
    """Process ids and start times of the sample's containers."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                command = f.read().split(b"\0")
            with open(f"/proc/{pid}/cgroup") as f:
                ours = "kingletqs" in f.read()
            with open(f"/proc/{pid}/stat") as f:
                started = f.read().rpartition(")")[2].split()[19]
        except OSError:
            continue
        if ours and command[0].endswith(b"httpd"):
            found.add((pid, started))
    return found


def left():
    return set(quickstart("--left").splitlines()) - BEFORE


def test_first_time():
    BEFORE.update(left())
    out = quickstart()
    holds(out, r"^node/\S+ +Ready +", r"^default +deployment.apps/hello +3/3 +3 +3 +",
          r"^packages +\d+\.\d s$", r"^build +", r"^start +", r"^node ready +", r"^deployment ready ",
          rf"^export KUBECONFIG={DATA}/")
    equal(len(re.findall(r"^default +pod/hello-\S+ +1/1 +Running +0 ", out, re.M)), 3, "pods")
    equal(len(containers()), 3, "containers")
    size = os.path.getsize(os.path.join(ROOT, "build/kinglet"))
    check(size <= 10_000_000, f"the binary has {size} bytes")


def test_again():
    before = containers()
    holds(quickstart(), r"^default +deployment.apps/hello +3/3 ")
    equal(containers(), before, "containers")


def test_stop_and_start():
    before = containers()
    holds(quickstart("--stop"), "Containers go on running")
    equal(containers(), before, "containers after --stop")
    out = quickstart()
    equal(containers(), before, "containers after the next start")
    equal(len(re.findall(r"^default +pod/hello-\S+ +1/1 +Running +0 ", out, re.M)), 3, "pods")


def test_purge():
    there = "\n".join(left())
    for what in ("process", "mount", "interface", "nftables", "cgroup", "file"):
        check(re.search(f"^{what} ", there, re.M), f"--left sees no {what} of a node:\n{there}")
    quickstart("--purge")
    equal(left(), set(), "what is left")
    equal(containers(), set())
    check(not os.path.exists(DATA), "the data directory is gone")
    quickstart("--purge")  # harmless when nothing is there


def test_wrong_usage():
    holds(quickstart("--frobnicate", want=2), "deploy/quickstart --purge")


if __name__ == "__main__":
    run()
