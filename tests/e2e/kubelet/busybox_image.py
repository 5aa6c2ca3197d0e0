#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""busybox_image.py OUT NAME [BUSYBOX]: a container image of the static busybox, as an OCI archive."""
import hashlib
import io
import json
import subprocess
import sys
import tarfile

APPLETS = ("sh ash cat echo ls sleep date env id hostname ip ifconfig wget nc ping ps kill true false mount "
           "umount mkdir rm touch test tail head grep sed awk wc httpd nslookup sync dd stat chmod "
           "chown readlink vi tr sort tee tar seq yes od md5sum sha256sum cut trap printf expr find which du df").split()


def add(tar, name, data=None, mode=0o755, link=None, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.mode, info.type = mode, kind
    if link:
        info.type, info.linkname = tarfile.SYMTYPE, link
    info.size = len(data) if data else 0
    tar.addfile(info, io.BytesIO(data) if data else None)


def sealed(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


out, name = sys.argv[1], sys.argv[2]
binary = open(sys.argv[3] if len(sys.argv) > 3 else "/bin/busybox", "rb").read()
layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as t:
    for d, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("dev", 0o755),
                    ("proc", 0o555), ("sys", 0o555), ("var", 0o755), ("home", 0o755)):
        add(t, d, mode=mode, kind=tarfile.DIRTYPE)
    add(t, "bin/busybox", binary)
    for a in APPLETS:
        add(t, "bin/" + a, link="busybox")
    add(t, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/home:/bin/sh\n", 0o644)
    add(t, "etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
layer = layer.getvalue()
config = json.dumps({"architecture": "arm64" if "aarch64" in subprocess.run(
    ["uname", "-m"], capture_output=True, text=True).stdout else "amd64", "os": "linux",
    "config": {"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["sh"]},
    "rootfs": {"type": "layers", "diff_ids": [sealed(layer)]}}).encode()
kind = "application/vnd.oci.image."
manifest = json.dumps({"schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
    "config": {"mediaType": kind + "config.v1+json", "digest": sealed(config), "size": len(config)},
    "layers": [{"mediaType": kind + "layer.v1.tar", "digest": sealed(layer), "size": len(layer)}]}).encode()
index = json.dumps({"schemaVersion": 2, "manifests": [{"mediaType": kind + "manifest.v1+json",
    "digest": sealed(manifest), "size": len(manifest),
    "annotations": {"io.containerd.image.name": name}}]}).encode()
with tarfile.open(out, "w") as t:
    add(t, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
    add(t, "index.json", index, 0o644)
    for blob in (manifest, config, layer):
        add(t, "blobs/sha256/" + sealed(blob)[7:], blob, 0o644)
