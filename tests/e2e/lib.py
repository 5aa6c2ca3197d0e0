# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: a server of their own, kubectl, raw requests, waiting.

A test file is a program. It defines functions test_NAME and calls run(), which runs them in the
order they stand in and prints `ok FILE / NAME`, `not ok FILE / NAME: why` or `skip FILE / NAME: why`
for each. KINGLET and KUBECTL name the programs under test (tests/run sets them). Arguments of the
file choose tests by name. Nothing waits for a time: it waits for a condition, with a deadline.

The tests of the API can be asked of another server, such as upstream's, to test the tests:
E2E_KUBECONFIG names its kubeconfig (with client certificates inside, as ours).
"""
import atexit
import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests"))
from ports import free_port  # noqa: E402, F401

KINGLET = os.environ.get("KINGLET", os.path.join(ROOT, "build/kinglet"))
KUBECTL = os.environ.get("KUBECTL") or shutil.which("kubectl") or "kubectl"
DBSERVER = os.path.join(ROOT, os.environ.get("LIN_BUILD", "build-test"), "tests/store/dbserver")
EXTERNAL = os.environ.get("E2E_KUBECONFIG")
POLL = 0.02  # seconds between two looks at a condition
PATIENCE = 4  # times what a wait is given: it costs nothing where what is waited for comes


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def fail(why):
    raise Failure(why)


def check(condition, why):
    if not condition:
        raise Failure(why)


def equal(got, want, what="value"):
    if got != want:
        raise Failure(f"{what}: got {got!r}, want {want!r}")


def holds(text, *parts):
    """Each part, a regular expression, is found in the text."""
    for part in parts:
        if not re.search(part, text, re.M):
            raise Failure(f"no match for {part!r} in:\n{text}")


def wait_for(condition, what, seconds=30):
    """Calls condition() until it gives something true, which is returned. A Failure in it counts as
    not yet. A machine that stands still for a while (a paused VM, a stalled disk) uses up little of
    the time: no turn counts for more than a second."""
    seconds *= PATIENCE
    left, then = seconds, time.monotonic()
    while True:
        why = ""
        try:
            got = condition()
            if got:
                return got
        except Failure as e:
            why = f": {e}"
        now = time.monotonic()
        left, then = left - min(now - then, 1), now
        if left < 0:
            raise Failure(f"not within {seconds} s: {what}{why}")
        time.sleep(POLL)


def ended(proc, seconds=30):
    """The exit status of a process that is to end by itself."""
    wait_for(lambda: proc.poll() is not None, "the end of a process", seconds)
    return proc.returncode


def temp_dir():
    """A directory that goes when the program ends."""
    path = tempfile.mkdtemp(prefix="kinglet-e2e-")
    atexit.register(shutil.rmtree, path, True)
    return path


class Result:
    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr


class Server:
    """kinglet server in a process of its own; `with` or close() ends it."""

    def __init__(self, *flags, data=None, node=False, env=None):
        self.data = data or temp_dir()
        self.port = free_port()
        self.flags = ["--data-dir", self.data, "--https-listen-port", str(self.port), *flags]
        self.flags += [] if node else ["--disable-agent", "--bind-address", "127.0.0.1"]
        self.env = dict(os.environ, **(env or {}))
        self.log = os.path.join(self.data, "server.log")
        self.kubeconfig = os.path.join(self.data, "server/cred/admin.kubeconfig")
        self.proc = None
        self.home = temp_dir()  # kubectl's discovery cache
        atexit.register(self.close)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    def start(self, wait=True):
        if EXTERNAL:
            self.kubeconfig = EXTERNAL
            self.credentials()
            return self
        self.started = time.monotonic()
        self._read = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen([KINGLET, "server", *self.flags], stdout=log, stderr=log,
                                         stdin=subprocess.DEVNULL, env=self.env)
        if wait:
            wait_for(self.is_ready, "server is ready", 30)
            self.credentials()
        return self

    def is_ready(self):
        if self.proc.poll() is not None:
            raise SystemExit(f"not ok server: exit {self.proc.returncode}: {self.log_tail()}")
        with open(self.log, errors="replace") as f:
            f.seek(self._read)
            return re.search(r"^kinglet is ready .*\n", f.read(), re.M)

    def log_tail(self, n=2000):
        with open(self.log, errors="replace") as f:
            return f.read()[-n:]

    def kill(self):
        self.proc.kill()
        self.proc.wait()

    def stop(self, seconds=20):
        """SIGTERM; gives the exit status."""
        self.proc.terminate()
        try:
            return ended(self.proc, seconds)
        except Failure:
            self.kill()
            raise Failure(f"does not stop on SIGTERM: {self.log_tail()}") from None

    def close(self):
        if self.proc and self.proc.poll() is None:
            self.proc.terminate()
            try:
                ended(self.proc, 10)
            except Failure:
                self.kill()

    def rss_kib(self):
        with open(f"/proc/{self.proc.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

    # ---- kubectl

    def kubectl_env(self):
        return dict(os.environ, KUBECONFIG=self.kubeconfig, HOME=self.home)

    def try_kubectl(self, *args, stdin=None, timeout=240):
        argv = [KUBECTL, *args]
        try:
            return Result(subprocess.run(argv, input=stdin, capture_output=True, text=True,
                                         timeout=timeout, env=self.kubectl_env()))
        except subprocess.TimeoutExpired as e:
            raise Failure(f"kubectl {' '.join(args)}: longer than {timeout} s: {e.stdout!r}") from None

    def kubectl(self, *args, stdin=None, timeout=240):
        """Standard output of a command that must succeed."""
        r = self.try_kubectl(*args, stdin=stdin, timeout=timeout)
        if r.code:
            raise Failure(f"kubectl {' '.join(args)}: exit {r.code}: {r.err.strip()}{r.out.strip()}")
        return r.out

    def kubectl_fails(self, *args, stdin=None):
        """Standard error of a command that must fail."""
        r = self.try_kubectl(*args, stdin=stdin)
        check(r.code, f"kubectl {' '.join(args)}: succeeded: {r.out}")
        return r.err

    def apply(self, *objects, namespace="default"):
        return self.kubectl("-n", namespace, "apply", "-f", "-",
                            stdin="\n---\n".join(json.dumps(o) for o in objects))

    def established(self, crd):
        """Waits; kubectl wait fails, as with upstream, while there are no conditions at all."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/" + crd
        wait_for(lambda: any(c["type"] == "Established" and c["status"] == "True"
                             for c in self.get(path)["status"].get("conditions") or []),
                 f"{crd} is established")

    @contextlib.contextmanager
    def kubectl_background(self, *args):
        """A kubectl that runs on; lines() of what it gives has come so far."""
        with Background([KUBECTL, *args], self.kubectl_env()) as b:
            yield b

    # ---- raw requests

    def credentials(self):
        """An SSL context with the admin's certificate, from the kubeconfig."""
        with open(self.kubeconfig) as f:
            text = f.read()
        files = {}
        for key in ("certificate-authority", "client-certificate", "client-key"):
            data = re.search(rf"^\s*{key}-data:\s*(\S+)", text, re.M).group(1)
            files[key] = os.path.join(self.home, key + ".pem")
            with open(files[key], "wb") as f:
                f.write(base64.b64decode(data))
        self.port = int(re.search(r"^\s*server:\s*https://127.0.0.1:(\d+)", text, re.M).group(1))
        # Whole before it is seen: other threads may connect while the server starts again.
        mine = ssl.create_default_context(cafile=files["certificate-authority"])
        mine.load_cert_chain(files["client-certificate"], files["client-key"])
        self.ssl = mine
        self.ssl_anonymous = ssl.create_default_context(cafile=files["certificate-authority"])

    def connect(self, timeout=240, anonymous=False):
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout,
                                           context=self.ssl_anonymous if anonymous else self.ssl)

    def raw(self, method, path, body=None, headers=None, connection=None):
        """(status, headers, body as bytes) of one request."""
        c = connection or self.connect()
        try:
            headers = dict(headers or {})
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
                headers.setdefault("Content-Type", "application/json")
            c.request(method, path, body, headers)
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            if not connection:
                c.close()

    def api(self, method, path, body=None, headers=None, connection=None, want=(200, 201, 202)):
        """The object that a request which must succeed answers with."""
        status, _, text = self.raw(method, path, body, headers, connection)
        if status not in want:
            raise Failure(f"{method} {path}: {status}: {text[:2000]!r}")
        return json.loads(text)

    def get(self, path, connection=None):
        return self.api("GET", path, connection=connection)


class Background:
    def __init__(self, argv, env=None):
        self.out = tempfile.TemporaryFile("w+")
        self.err = tempfile.TemporaryFile("w+")
        self.proc = subprocess.Popen(argv, stdout=self.out, stderr=self.err, env=env,
                                     stdin=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.proc.poll() is None:
            self.proc.terminate()
            self.proc.wait()

    def text(self):
        size = os.fstat(self.out.fileno()).st_size
        return os.pread(self.out.fileno(), size, 0).decode(errors="replace")

    def errors(self):
        size = os.fstat(self.err.fileno()).st_size
        return os.pread(self.err.fileno(), size, 0).decode(errors="replace")

    def lines(self):
        return self.text().splitlines()

    def wait_text(self, pattern, seconds=30):
        def found():
            check(re.search(pattern, self.text(), re.M), self.text() + self.errors())
            return True
        wait_for(found, f"output {pattern!r}", seconds)

    def wait(self, seconds=30):
        try:
            return ended(self.proc, seconds)
        except Failure:
            raise Failure(f"does not end: {self.text()}{self.errors()}") from None


class Writers:
    """Threads that create ConfigMaps on whichever server answers, until stopped."""

    def __init__(self, servers, n=4):
        self.servers, self.acked, self.lock, self.over = servers, {}, threading.Lock(), False
        self.refused = 0  # as the datastore is being moved, or was
        self.threads = [threading.Thread(target=self.write, args=(i,), daemon=True) for i in range(n)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.over = True
        for t in self.threads:
            t.join(240)

    def write(self, i):
        n, at_server, connection = 0, i, None
        while not self.over:
            n += 1
            name = f"w{i}-{n}"
            try:
                s = self.servers[at_server % len(self.servers)]
                connection = connection or s.connect()
                status, _, text = s.raw("POST", "/api/v1/namespaces/default/configmaps",
                                        config_map(name), connection=connection)
                if status == 201:
                    with self.lock:
                        self.acked[name] = int(json.loads(text)["metadata"]["resourceVersion"])
                    continue
                with self.lock:
                    self.refused += status == 503 and b"takes no writes" in text
            except Exception:  # pylint: disable=broad-except
                connection = connection and connection.close()
                at_server += 1
            time.sleep(0.02)  # it may be there or not; the name is not used again

    def count(self):
        with self.lock:
            return len(self.acked)


def moved_config_maps(url):
    """name: revision of the ConfigMaps in a datastore that nobody holds, by way of a SQLite file."""
    path = os.path.join(temp_dir(), "moved.db")
    r = subprocess.run([KINGLET, "migrate", "--from", url, "--to", f"sqlite://{path}", "--verify"],
                       capture_output=True, text=True, timeout=240)
    check(r.returncode == 0, r.stdout + r.stderr)
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = db.execute("SELECT name, MAX(id), deleted FROM kine WHERE name GLOB '/registry/configmaps/*'"
                      " GROUP BY name HAVING deleted = 0").fetchall()
    db.close()
    return {name.rsplit("/", 1)[1]: rev for name, rev, _ in rows}


class Database:
    """A real server with one database (tests/store/dbserver.c); it ends with its input."""

    def __init__(self, kind):
        check(os.path.exists(DBSERVER), f"{DBSERVER} is not built (tests/run does it)")
        self.proc = subprocess.Popen([DBSERVER, kind], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.proc.stdout:
            found = re.match(r"((?:postgres|mysql)://\S+) \d+$", line)
            if found:
                self.url = found.group(1)
                return
        fail(f"no {kind} server")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.stdin.close()
        self.proc.wait(240)


# ---- objects that several files use

def own_address():
    """This machine's, not the loopback's, where endpoints must not be; "": it has none."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        s.connect(("192.0.2.1", 9))  # sends nothing
        return s.getsockname()[0]
    except OSError:
        return ""
    finally:
        s.close()


def protobuf_fields(data):
    """(number, value) of each field of a protobuf message; strings, messages and 64 bits as bytes."""
    at, out = 0, []

    def varint():
        nonlocal at
        v = shift = 0
        while True:
            b = data[at]
            at += 1
            v |= (b & 0x7f) << shift
            shift += 7
            if b < 0x80:
                return v
    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            out.append((tag >> 3, varint()))
            continue
        check(tag & 7 in (1, 2), f"wire type {tag & 7}")
        n = varint() if tag & 7 == 2 else 8
        check(at + n <= len(data), "a message ends early")
        out.append((tag >> 3, data[at:at + n]))
        at += n
    return out


def labels(text):
    return dict(pair.split("=") for pair in text.split(",")) if text else {}


def config_map(name, data=None, **meta):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **meta},
            "data": data or {}}


def pod(name, image="busybox", command=None, **spec):
    container = {"name": "main", "image": image}
    if command:
        container["command"] = command
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [container], **spec}}


def deployment(name, image="busybox:1", replicas=1, command=None, **spec):
    container = {"name": "main", "image": image, "imagePullPolicy": "Never"}
    if command:
        container["command"] = command
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
                     "template": {"metadata": {"labels": {"app": name}},
                                  "spec": {"terminationGracePeriodSeconds": 1,
                                           "containers": [container]}}, **spec}}


# ---- the runner

def run(*servers):
    """Starts the servers, runs the tests of the calling program and exits: 0 unless one failed."""
    module = sys.modules["__main__"]
    name = os.path.basename(module.__file__)
    tests = [(n[5:], f) for n, f in vars(module).items() if n.startswith("test_") and callable(f)]
    if len(sys.argv) > 1:
        tests = [t for t in tests if any(word in t[0] for word in sys.argv[1:])]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    for s in servers:
        s.start()
    failed = 0
    for test, function in tests:
        began = time.monotonic()
        try:
            function()
            line = f"ok {name} / {test}"
        except Skip as e:
            line = f"skip {name} / {test}: {e}"
        except Exception as e:  # pylint: disable=broad-except
            failed += 1
            if not isinstance(e, Failure):
                traceback.print_exc()
            first, *rest = (str(e) or type(e).__name__).splitlines() or [""]
            print("\n".join("    " + r for r in rest))
            line = f"not ok {name} / {test}: {first}"
        print(f"{line}\n    {time.monotonic() - began:.2f} s", flush=True)
    sys.exit(1 if failed else 0)
