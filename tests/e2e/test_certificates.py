#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Certificates that become due while the server runs are renewed in it."""
import hashlib
import os
import socket
import ssl
import subprocess
import time
from lib import Server, check, config_map, equal, fail, run, temp_dir, wait_for

RENEW_DAYS = 90
FIRST = ["serving-kube-apiserver", "client-admin", "client-kube-apiserver"]


def read(path):
    with open(path) as f:
        return f.read()


def serial(path):
    return subprocess.run(["openssl", "x509", "-in", path, "-noout", "-serial"], check=True,
                          capture_output=True, text=True).stdout.strip()


def served(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 10) as s, context.wrap_socket(s) as t:
        return hashlib.sha256(t.getpeercert(True)).hexdigest()


def openssl(*args):
    return subprocess.run(["openssl", *args], check=True, capture_output=True, text=True).stdout


def expire(tls, name, ca, end):
    """The same certificate signed anew, until `end`."""
    crt, key = f"{tls}/{name}.crt", f"{tls}/{name}.key"
    work = temp_dir()
    with open(f"{work}/csr", "w") as f:
        f.write(openssl("x509", "-x509toreq", "-copy_extensions", "copyall", "-in", crt, "-signkey", key))
    open(f"{work}/index", "w").close()
    with open(f"{work}/conf", "w") as f:
        f.write(f"[ca]\ndefault_ca=x\n[x]\ndatabase={work}/index\nnew_certs_dir={work}\n"
                "default_md=sha256\npolicy=p\nrand_serial=yes\ncopy_extensions=copyall\n"
                "[p]\ncommonName=supplied\norganizationName=optional\n")
    openssl("ca", "-batch", "-notext", "-config", f"{work}/conf", "-preserveDN", "-cert",
            f"{tls}/{ca}.crt", "-keyfile", f"{tls}/{ca}.key", "-in", f"{work}/csr", "-out", crt,
            "-enddate", time.strftime("%y%m%d%H%M%SZ", time.gmtime(end)))


def start_with_old(s, tls):
    """Serials of certificates that are good at the start and due soon after it."""
    for seconds in (5, 20, 60):  # a slow machine may need long for a start
        end = time.time() + RENEW_DAYS * 86400 + seconds
        for name, ca in zip(FIRST, ["server-ca", "client-ca", "client-ca"]):
            expire(tls, name, ca, end)
        old = {name: serial(f"{tls}/{name}.crt") for name in FIRST}
        s.start()
        before = served(s.port), read(s.kubeconfig)
        if serial(f"{tls}/{FIRST[0]}.crt") == old[FIRST[0]]:
            return old, *before
        s.stop()
    fail("a start of a minute")


def test_renewed_while_it_runs():
    with Server() as s:
        tls = f"{s.data}/server/tls"
        s.stop()
        files = sorted(os.listdir(tls))
        old, before, admin = start_with_old(s, tls)
        pid = s.proc.pid
        with s.kubectl_background("get", "configmaps", "-w", "-o", "name") as watch:
            watch.wait_text("kube-root-ca|^$")
            wait_for(lambda: served(s.port) != before, "another certificate", 90)
            wait_for(lambda: read(s.kubeconfig) != admin, "another kubeconfig")
            for name in FIRST:
                check(serial(f"{tls}/{name}.crt") != old[name], f"{name} is the old one")
            equal(sorted(os.listdir(tls)), files, "files")
            s.credentials()  # of the new kubeconfig
            s.apply(config_map("after"))
            watch.wait_text("configmap/after")
        equal((s.proc.pid, s.proc.poll()), (pid, None), "the process")
        with open(f"{s.data}/old.yaml", "w") as f:
            f.write(admin)  # it is good for 90 days more
        s.kubectl("--kubeconfig", f"{s.data}/old.yaml", "get", "configmap", "after")
        renewed = served(s.port)
        s.stop()
        s.start()
        equal(served(s.port), renewed, "the certificate after a restart")


run()
