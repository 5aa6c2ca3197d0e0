#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the objects that every cluster has, as far as no flag decides on them, as C text.

usage: gen_bootstrap.py RBAC.JSON RESOURCES.JSON OUT.C

One row an object: its resource, how an existing one is treated, and its JSON.
"""
import json
import sys

RBAC = "rbac.authorization.k8s.io"
PLURALS = {"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings",
           "Role": "roles", "RoleBinding": "rolebindings"}


def namespaces():
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        yield "core_v1_namespaces", "CREATE", {
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}


def priority_classes():
    for name, value, text in (
            ("system-cluster-critical", 2000000000,
             "Used for system critical pods that must run in the cluster, but can be moved to "
             "another node if necessary."),
            ("system-node-critical", 2000001000,
             "Used for system critical pods that must not be moved from their current node.")):
        yield "scheduling_v1_priorityclasses", "CREATE", {
            "metadata": {"name": name}, "value": value, "description": text,
            "preemptionPolicy": "PreemptLowerPriority"}


def matches(role, selector):
    labels = role.get("labels", {})
    return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())


def aggregate(role, roles):
    """The rules of a role as the aggregation controller writes them: by name, each once."""
    selectors = role.get("aggregationRule", {}).get("clusterRoleSelectors")
    if not selectors:
        return role.get("rules", [])
    out = []
    for selector in selectors:
        for other in sorted(roles, key=lambda r: r["name"]):
            if other is role or not matches(other, selector):
                continue
            out += [r for r in aggregate(other, roles) if r not in out]
    return out


def rbac(facts):
    cluster_roles = facts["clusterRoles"] + facts["controllerRoles"]
    for key in ("clusterRoles", "controllerRoles", "clusterRoleBindings",
                "controllerRoleBindings", "namespaceRoles", "namespaceRoleBindings"):
        for o in facts[key]:
            meta = {"name": o["name"]}
            if "namespace" in o:
                meta["namespace"] = o["namespace"]
            meta["labels"] = dict(sorted({**facts["common"]["labels"],
                                          **o.get("labels", {})}.items()))
            meta["annotations"] = {**facts["common"]["annotations"], **o.get("annotations", {})}
            body = {"metadata": meta}
            if o["kind"] == "ClusterRole":
                body["rules"] = aggregate(o, cluster_roles)
            for field in ("rules", "aggregationRule", "subjects", "roleRef"):
                if field in o and field not in body:
                    body[field] = o[field]
            if o["kind"].endswith("Binding"):
                body["roleRef"].setdefault("apiGroup", RBAC)
            mode = "BINDING" if o["kind"].endswith("Binding") else "ROLE"
            yield "rbac_v1_" + PLURALS[o["kind"]], mode, body


def level(name, spec):
    return "flowcontrol_v1_prioritylevelconfigurations", "SPEC", {
        "metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}},
        "spec": spec}


def limited(shares, lendable, queues=None, hand=None):
    response = {"type": "Reject"}
    if queues:
        response = {"type": "Queue", "queuing": {"queues": queues, "handSize": hand,
                                                 "queueLengthLimit": 50}}
    return {"type": "Limited", "limited": {"nominalConcurrencyShares": shares,
                                           "limitResponse": response, "lendablePercent": lendable}}


def groups(*names):
    return [{"kind": "Group", "group": {"name": n}} for n in names]


def users(*names):
    return [{"kind": "User", "user": {"name": n}} for n in names]


KUBE_SYSTEM_ACCOUNTS = [{"kind": "ServiceAccount",
                         "serviceAccount": {"namespace": "kube-system", "name": "*"}}]


def on(verbs, api_groups, resources, cluster_scope):
    rule = {"verbs": verbs, "apiGroups": api_groups, "resources": resources}
    if cluster_scope:
        rule["clusterScope"] = True
    rule["namespaces"] = ["*"]
    return rule


EVERYTHING = {"resourceRules": [on(["*"], ["*"], ["*"], True)],
              "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}


def schema(name, to, precedence, distinguisher, subjects, rules):
    spec = {"priorityLevelConfiguration": {"name": to}, "matchingPrecedence": precedence}
    if distinguisher:
        spec["distinguisherMethod"] = {"type": distinguisher}
    spec["rules"] = [{"subjects": subjects, **rules}]
    return "flowcontrol_v1_flowschemas", "SPEC", {
        "metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}},
        "spec": spec,
        "status": {"conditions": [{
            "type": "Dangling", "status": "False", "reason": "Found",
            "message": 'This FlowSchema references the PriorityLevelConfiguration object named "'
                       + to + '" and it exists'}]}}


def flow_control():
    yield level("exempt", {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0,
                                                        "lendablePercent": 0}})
    yield level("catch-all", limited(5, 0))
    yield level("system", limited(30, 33, 64, 6))
    yield level("node-high", limited(40, 25, 64, 6))
    yield level("leader-election", limited(10, 0, 16, 4))
    yield level("workload-high", limited(40, 50, 128, 6))
    yield level("workload-low", limited(100, 90, 128, 6))
    yield level("global-default", limited(20, 50, 128, 6))
    everyone = groups("system:unauthenticated", "system:authenticated")
    nodes = groups("system:nodes")
    lease = ["coordination.k8s.io"]
    yield schema("exempt", "exempt", 1, None, groups("system:masters"), EVERYTHING)
    yield schema("catch-all", "catch-all", 10000, "ByUser", everyone, EVERYTHING)
    yield schema("probes", "exempt", 2, None, everyone, {"nonResourceRules": [
        {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]})
    yield schema("system-leader-election", "leader-election", 100, "ByUser",
                 users("system:kube-controller-manager", "system:kube-scheduler")
                 + KUBE_SYSTEM_ACCOUNTS,
                 {"resourceRules": [on(["get", "create", "update"], lease, ["leases"], False)]})
    yield schema("system-node-high", "node-high", 400, "ByUser", nodes, {"resourceRules": [
        on(["*"], [""], ["nodes", "nodes/status"], True), on(["*"], lease, ["leases"], False)]})
    yield schema("system-nodes", "system", 500, "ByUser", nodes, EVERYTHING)
    yield schema("kube-controller-manager", "workload-high", 800, "ByNamespace",
                 users("system:kube-controller-manager"), EVERYTHING)
    yield schema("kube-scheduler", "workload-high", 800, "ByNamespace",
                 users("system:kube-scheduler"), EVERYTHING)
    yield schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace",
                 KUBE_SYSTEM_ACCOUNTS, EVERYTHING)
    yield schema("service-accounts", "workload-low", 9000, "ByUser",
                 groups("system:serviceaccounts"), EVERYTHING)
    yield schema("global-default", "global-default", 9900, "ByUser", everyone, EVERYTHING)


def api_services(facts):
    for g in facts["groups"]:
        for version in g["enabledByDefault"]:
            if "groupPriority" not in g:
                continue
            spec = {"version": version, "groupPriorityMinimum": g["groupPriority"],
                    "versionPriority": g["versionPriority"][version]}
            if g["group"]:
                spec["group"] = g["group"]
            yield "apiregistration_v1_apiservices", "LOCAL", {
                "metadata": {"name": version + "." + g["group"],
                             "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
                "spec": spec,
                "status": {"conditions": [{
                    "type": "Available", "status": "True", "reason": "Local", "message": "Local APIServices are always available"}]}}


def c_text(v):
    text = json.dumps(v, separators=(",", ":"), ensure_ascii=True)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        rbac_facts = json.load(f)
    with open(sys.argv[2], encoding="utf-8") as f:
        resource_facts = json.load(f)
    rows = [*namespaces(), *rbac(rbac_facts), *priority_classes(), *flow_control(),
            *api_services(resource_facts)]
    with open(sys.argv[3], "w", encoding="utf-8") as out:
        out.write("// SPDX-License-Identifier: Apache-2.0\n")
        out.write("// Made by apiserver/gen_bootstrap.py; do not edit.\n")
        out.write('#include "apiserver/bootstrap_int.h"\n\n')
        out.write("const struct kl_bootstrap_row kl_bootstrap_rows[] = {\n")
        for res, mode, body in rows:
            out.write("    {KL_RES_%s, KL_BOOT_%s, %s},\n" % (res, mode, c_text(body)))
        out.write("};\nconst size_t kl_bootstrap_nrows = %d;\n" % len(rows))


main()
