#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records the OpenAPI documents of an upstream kube-apiserver on `kinglet etcd`: what they hold and a
digest of the words of each definition (upstream.json.gz beside this file, for test_openapi.py), and
the words themselves (object/schema/texts.json.gz, which the build packs).

usage: KINGLET=... KUBE_APISERVER=... record.py
"""
import gzip
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from test_upstream_apiserver import World  # noqa: E402
from words import digest, split  # noqa: E402
from lib import ROOT  # noqa: E402


class Flags(World):
    """An API server with further flags."""

    def __init__(self, *flags):
        super().__init__()
        self.flags = flags

    def run(self, name, *args):
        return super().run(name, *args, *(self.flags if name == "apiserver" else ()))


def write(path, value):
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    with open(path, "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", mtime=0, compresslevel=9, filename="") as z:
        z.write(text.encode())


def main():
    every = "--runtime-config=api/all=true"  # the versions that are off by default too
    world = Flags(every)
    world.start()
    v2 = json.loads(world.get("/openapi/v2"))
    index = json.loads(world.get("/openapi/v3"))["paths"]
    v3, schemas, words = {}, {}, {}
    for name, where in sorted(index.items()):
        doc = json.loads(world.get(where["serverRelativeURL"]))
        components = doc.get("components", {}).get("schemas", {})
        for k, v in components.items():
            schemas[k], said = split(v)
            if words.setdefault(k, said) != said:
                raise SystemExit(f"{name}: other words for {k}")
        v3[name] = {"paths": doc["paths"], "schemas": sorted(components)}
    for k, v in v2["definitions"].items():
        v2["definitions"][k], said = split(v)
        if words.setdefault(k, said) != said:
            raise SystemExit(f"version 2: other words for {k}")
    recorded = {k: digest(s) for k, s in words.items()}
    world.kill()
    world = Flags(every, "--feature-gates=AllAlpha=true,AllBeta=true")
    world.start()
    for k, v in json.loads(world.get("/openapi/v2"))["definitions"].items():
        words.setdefault(k, split(v)[1])
    world.kill()
    for k, said in words.items():
        deep = [p for p in said if "/" in p]
        if deep:
            raise SystemExit(f"{k}: words below a field: {deep}")
    write(os.path.join(HERE, "upstream.json.gz"), {"v2": v2, "v3": v3, "schemas": schemas,
                                                   "words": recorded})
    write(os.path.join(ROOT, "object/schema/texts.json.gz"), {k: s for k, s in words.items() if s})


main()
