# SPDX-License-Identifier: Apache-2.0
"""Processes, /proc and HTTPS for tests/bench/run: what it measures with, not what it measures."""
import base64
import glob
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from ports import free_port  # noqa: E402, F401

MIB = 1024 * 1024


def describe():
    """The machine in words."""
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo", encoding="ascii") as f:
        memory = int(f.readline().split()[1]) / 1024 / 1024
    with open("/etc/os-release", encoding="utf-8") as f:
        system = re.search(r'^PRETTY_NAME="?([^"\n]*)', f.read(), re.M).group(1)
    load = os.getloadavg()[0]
    return (f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {system}, Linux {os.uname().release}; "
            f"load {load:.1f} before it began")


def memory_mib(pid, field="VmRSS"):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        return int(re.search(rf"^{field}:\s+(\d+) kB", f.read(), re.M).group(1)) / 1024


def cpu_s(pid):
    """utime + stime of the process, in seconds; the clock ticks in 10 ms."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_ns(pid):
    """Time on a core of all threads in ns, from the scheduler; None where the kernel lacks it."""
    total = 0
    try:
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            with open(path, encoding="ascii") as f:
                total += int(f.read().split()[0])
    except OSError:
        return None
    return total or None


def switches(pid):
    """Context switches of all threads so far."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path, encoding="ascii", errors="replace") as f:
            total += sum(int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", f.read()))
    return total


def pids_with(word, *comms):
    """Processes of one of these names with `word` in their command line."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                line = f.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        name = os.path.basename(line.split(" ", 1)[0])
        if word in line and name in comms:
            found.append(int(path.split("/")[2]))
    return found


def get(port, path, headers=None, context=None):
    """Status and body, or (0, '') when nobody answers."""
    if context is None:
        context = ssl._create_unverified_context()  # our own server on loopback
    c = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    try:
        c.request("GET", path, headers=headers or {})
        r = c.getresponse()
        return r.status, r.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        c.close()


def wait_ready(process, port, since, limit_s=60, log=None):
    """Seconds from `since` until /readyz says 200, asked as fast as the answers come."""
    context = ssl._create_unverified_context()
    while time.monotonic() - since < limit_s:
        if process.poll() is not None:
            break
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)):
                time.sleep(0.0005)
                continue
        if get(port, "/readyz", context=context)[0] == 200:
            return time.monotonic() - since
    tail = ""
    if log:
        with open(log, encoding="utf-8", errors="replace") as f:
            tail = "".join(f.readlines()[-5:])
    raise RuntimeError(f"{process.args[0]} did not become ready: {tail}")


def stop(process, limit_s=20):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def admin_context(kubeconfig, directory):
    """A TLS context with the client certificate of a kubeconfig that kinglet wrote."""
    with open(kubeconfig, encoding="utf-8") as f:
        text = f.read()
    context = ssl._create_unverified_context()
    pem = os.path.join(directory, "admin.pem")
    with open(os.open(pem, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
        for key in ("client-certificate-data", "client-key-data"):
            f.write(base64.b64decode(re.search(rf"{key}: *\"?([A-Za-z0-9+/=]+)", text).group(1)))
    context.load_cert_chain(pem)
    return context


class Server:
    """One kinglet server, under a name of its own so that its CPU time is counted alone."""

    def __init__(self, binary, directory, name, flags=(), memory=False, agent=False):
        os.makedirs(directory, exist_ok=True)
        self.directory, self.name, self.port = directory, name, free_port()
        self.data, self.log = os.path.join(directory, "data"), os.path.join(directory, name + ".log")
        link = os.path.join(directory, name)
        if not os.path.lexists(link):
            os.symlink(os.path.abspath(binary), link)
        args = [link, "server", "--data-dir", self.data, "--https-listen-port", str(self.port),
                *([] if agent else ["--disable-agent"]),
                *(["--datastore-endpoint", "memory://"] if memory else []), *flags]
        began = time.monotonic()
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(args, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        self.ready_s = wait_ready(self.process, self.port, began, log=self.log)

    @property
    def pid(self):
        return self.process.pid

    def kubeconfig(self):
        limit = time.monotonic() + 5
        while time.monotonic() < limit:
            with open(self.log, encoding="utf-8") as f:
                found = re.findall(r"export KUBECONFIG=(\S+)", f.read())
            if found:
                return found[-1]
            time.sleep(0.02)
        raise RuntimeError("no kubeconfig was announced")

    def admin(self, path):
        return get(self.port, path, context=admin_context(self.kubeconfig(), self.directory))

    def stop(self):
        stop(self.process)


class TestServer:
    """kinglet test-server until its line on standard output."""

    def __init__(self, binary, directory):
        os.makedirs(directory, exist_ok=True)
        began = time.monotonic()
        self.process = subprocess.Popen([binary, "test-server"], stdout=subprocess.PIPE,
                                        stdin=subprocess.PIPE, env={**os.environ, "TMPDIR": directory})
        line = self.process.stdout.readline()
        self.ready_s = time.monotonic() - began
        if b'"kubeconfig"' not in line:
            stop(self.process)
            raise RuntimeError(f"{binary} test-server did not become ready")
        self.memory_mib = memory_mib(self.process.pid)

    def stop(self):
        self.process.stdin.close()  # it ends with who started it
        self.process.wait(20)
        self.process.stdout.close()


class Admin:
    """One connection with the admin's certificate."""

    def __init__(self, port, kubeconfig, directory):
        self.connection = http.client.HTTPSConnection(
            "127.0.0.1", port, context=admin_context(kubeconfig, directory), timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def ask(self, method, path, body=None):
        self.connection.request(method, path, body, {"Content-Type": "application/json"})
        r = self.connection.getresponse()
        return r.status, r.read().decode(errors="replace")

    def must(self, status, method, path, body=None):
        got, text = self.ask(method, path, body)
        if got != status:
            raise RuntimeError(f"{method} {path}: {got} {text[:300]}")
        return text


class Upstream:
    """etcd and kube-apiserver, as tests/bench/peers builds them."""

    def __init__(self, peers, directory):
        os.makedirs(directory, exist_ok=True)
        self.port, client, peer = free_port(), free_port(), free_port()
        self.log, self.kubeconfig = os.path.join(directory, "log"), os.path.join(directory, "kc")
        self.names = "bench-kapi,bench-etcd"
        key, pub = os.path.join(directory, "sa.key"), os.path.join(directory, "sa.pub")
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-out", pub], check=True,
                       capture_output=True)
        with open(os.path.join(directory, "tokens.csv"), "w", encoding="ascii") as f:
            f.write("bench,admin,admin,system:masters\n")
        for link, target in (("bench-etcd", "etcd"), ("bench-kapi", "k8s/kube-apiserver")):
            os.symlink(os.path.abspath(os.path.join(peers, target)),
                       os.path.join(directory, link))
        log = open(self.log, "w", encoding="utf-8")
        began = time.monotonic()
        url = f"http://127.0.0.1:{client}"
        self.etcd = subprocess.Popen(
            ["./bench-etcd", "--data-dir", "etcd", "--listen-client-urls", url,
             "--advertise-client-urls", url, "--listen-peer-urls", f"http://127.0.0.1:{peer}"],
            cwd=directory, stdout=log, stderr=log)
        self.api = subprocess.Popen(
            ["./bench-kapi", f"--secure-port={self.port}", "--bind-address=127.0.0.1",
             "--advertise-address=127.0.0.1", f"--etcd-servers={url}",
             "--service-cluster-ip-range=10.0.0.0/24", "--service-account-issuer=https://bench",
             f"--service-account-key-file={pub}", f"--service-account-signing-key-file={key}",
             "--cert-dir=certs", "--token-auth-file=tokens.csv", "--authorization-mode=RBAC"],
            cwd=directory, stdout=log, stderr=log)
        log.close()
        try:
            self.ready_s = wait_ready(self.api, self.port, began, log=self.log)
        except RuntimeError:
            self.stop()
            raise
        with open(self.kubeconfig, "w", encoding="ascii") as f:
            f.write("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: "
                    f'"https://127.0.0.1:{self.port}", insecure-skip-tls-verify: true}}}}]\n'
                    "users: [{name: u, user: {token: bench}}]\n"
                    "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n")

    def memory_mib(self):
        return memory_mib(self.api.pid) + memory_mib(self.etcd.pid)

    def stop(self):
        stop(self.api)
        stop(self.etcd)
