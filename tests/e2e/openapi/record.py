#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records the shape of upstream's own OpenAPI documents, without their texts.

usage: record.py KUBERNETES_MODULE OUT.json.gz
KUBERNETES_MODULE is the directory of k8s.io/kubernetes@VERSION in Go's module cache.
"""
import glob
import gzip
import json
import os
import sys


def bare(x):
    """Without descriptions: facts only."""
    if isinstance(x, dict):
        return {k: bare(v) for k, v in x.items() if not (k == "description" and isinstance(v, str))}
    return [bare(v) for v in x] if isinstance(x, list) else x


def main():
    base = os.path.join(sys.argv[1], "api/openapi-spec")
    v2 = bare(json.load(open(os.path.join(base, "swagger.json"))))
    v3 = {}
    schemas = {}
    for path in sorted(glob.glob(os.path.join(base, "v3/*.json")) +
                       glob.glob(os.path.join(base, "v3/.*.json"))):
        name = os.path.basename(path)[:-len("_openapi.json")].replace("__", "/")
        doc = bare(json.load(open(path)))
        components = doc.get("components", {}).get("schemas", {})
        for k, v in components.items():
            schemas[k] = v
        v3[name] = {"paths": doc["paths"], "schemas": sorted(components)}
    text = json.dumps({"v2": v2, "v3": v3, "schemas": schemas}, sort_keys=True,
                      separators=(",", ":"))
    with open(sys.argv[2], "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", mtime=0,
                                                      compresslevel=9, filename="") as z:
        z.write(text.encode())


main()
