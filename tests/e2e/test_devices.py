#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""resource.k8s.io and other kinds that are mostly behind a flag: their rules, and who may say what."""
import base64
import json
import os
import subprocess
from lib import Server, equal, holds, run, temp_dir, wait_for

s = Server("--disable", "scheduler", "--kube-apiserver-arg",
           "runtime-config=api/beta=true,api/alpha=true", "--kube-apiserver-arg",
           "feature-gates=ClusterTrustBundle=true,PodCertificateRequest=true,"
           "CoordinatedLeaderElection=true,DRADeviceTaintRules=true,StorageVersionMigrator=true,"
           "GenericWorkload=true")
FILES = temp_dir()
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True)


def claim(name, **exactly):
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
            "metadata": {"name": name}, "spec": {"devices": {"requests": [
                {"name": "r0", "exactly": {"deviceClassName": "gpu", **exactly}}]}}}


def send(method, path, body):
    status, _, text = s.raw(method, path, body)
    return status, json.loads(text)


def causes(method, path, body):
    status, answer = send(method, path, body)
    equal((status, answer["reason"]), (422, "Invalid"), f"answer {answer}")
    return [f"{c['field']}: {c['message']}" for c in answer["details"]["causes"]]


def test_selectors_are_compiled():
    bad = claim("bad", selectors=[{"cel": {"expression": e}} for e in
                                  ("device.nosuch", "1", 'device.driver == "x"')])
    got = causes("POST", CLAIMS, bad)
    equal(len(got), 2, f"causes {got}")
    holds(got[0], r"^spec.devices.requests\[0\].exactly.selectors\[0\].cel.expression: ",
          "undefined field 'nosuch'")
    holds(got[1], "must evaluate to bool or the unknown type, not int")


def test_a_claim_and_its_allocation():
    made = s.api("POST", CLAIMS, claim("c"))
    equal(made["spec"]["devices"]["requests"][0]["exactly"],
          {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}, "defaults")
    device = {"driver": "d.example", "pool": "p", "device": "g0"}
    made["status"] = {"allocation": {"devices": {"results": [{"request": "r0", **device}]}},
                      "devices": [device]}
    made = s.api("PUT", f"{CLAIMS}/c/status", made)
    equal([d["device"] for d in made["status"]["devices"]], ["g0"], "devices")
    changed = json.loads(json.dumps(made))
    changed["spec"]["devices"]["requests"][0]["exactly"]["count"] = 2
    holds(causes("PUT", f"{CLAIMS}/c", changed)[0], "spec: Invalid value:", "field is immutable")
    del made["status"]["allocation"]  # what is said of its devices goes with it
    equal(s.api("PUT", f"{CLAIMS}/c/status", made).get("status"), {}, "status")


def test_devices_that_are_said_twice():
    """Each is judged where it stands, and as quickly when they are thousands."""
    made = s.api("POST", CLAIMS, claim("twice"))
    good, other = ({"driver": "d.example", "pool": "p", "device": d} for d in ("g0", "g1"))
    status = {"allocation": {"devices": {"results": [{"request": "r0", **good}]}}}
    made["status"] = {**status, "devices": [good, other, good, other, good]}
    got = causes("PUT", f"{CLAIMS}/twice/status", made)
    equal([c.split(":")[0] for c in got if "must be an allocated device" in c],
          ["status.devices[1]", "status.devices[3]"], "devices that are not allocated")
    equal([c.split(":")[0] for c in got if "Duplicate value" in c],
          ["status.devices[2]", "status.devices[3]", "status.devices[4]"], "devices said again")
    made["status"] = {**status, "devices": [{**other, "device": "x%d" % i} for i in range(8000)]}
    holds(causes("PUT", f"{CLAIMS}/twice/status", made)[0], r"^status.devices\[0\]: ",
          "must be an allocated device in the claim$")


def test_administrative_access():
    want = ["spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the "
            "`resource.kubernetes.io/admin-access: true` label on the containing namespace"]
    equal(causes("POST", CLAIMS, claim("admin", adminAccess=True)), want, "causes")
    s.kubectl("label", "namespace", "default", "resource.kubernetes.io/admin-access=true")
    equal(send("POST", CLAIMS, claim("admin", adminAccess=True))[0], 201, "answer")


def test_who_may_bind():
    s.kubectl("create", "clusterrole", "claims", "--verb=get,update,patch",
              "--resource=resourceclaims,resourceclaims/status")
    s.kubectl("create", "clusterrolebinding", "claims", "--clusterrole=claims", "--user=jane")
    s.api("POST", CLAIMS, claim("bound"))
    patch = {"status": {"allocation": {"devices": {"results": [
        {"request": "r0", "driver": "d.example", "pool": "p", "device": "g0"}]}}}}
    status, _, text = s.raw("PATCH", f"{CLAIMS}/bound/status", patch, {
        "Content-Type": "application/merge-patch+json", "Impersonate-User": "jane"})
    answer = json.loads(text)
    equal(status, 422, f"answer {answer}")
    equal(answer["details"]["causes"][0]["message"],
          'Forbidden: changing status.allocation or status.reservedFor requires '
          'resource="resourceclaims/binding", verb="patch" permission: '
          'resourceclaims.resource.k8s.io is forbidden: User "jane" cannot patch resource '
          '"resourceclaims/binding" in API group "resource.k8s.io" at the cluster scope', "message")


def test_a_taint_rule_notes_when():
    path = "/apis/resource.k8s.io/v1beta2/devicetaintrules"
    made = s.api("POST", path, {
        "apiVersion": "resource.k8s.io/v1beta2", "kind": "DeviceTaintRule",
        "metadata": {"name": "r"}, "spec": {"taint": {
            "key": "k", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}}})
    equal(made["metadata"]["generation"], 1, "generation")
    made["spec"]["taint"]["effect"] = "NoExecute"
    made = s.api("PUT", f"{path}/r", made)
    equal(made["metadata"]["generation"], 2, "generation")
    equal(made["spec"]["taint"]["timeAdded"] != "2026-01-01T00:00:00Z", True, "a new time")


def test_trust_bundles():
    pem, key = os.path.join(FILES, "ca.pem"), os.path.join(FILES, "ca.key")
    openssl("req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", key, "-out", pem,
            "-subj", "/CN=ca")
    with open(pem) as f:
        good = f.read()
    path = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles"

    def bundle(name, text, **spec):
        return {"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle",
                "metadata": {"name": name}, "spec": {"trustBundle": text, **spec}}
    equal(send("POST", path, bundle("b", good))[0], 201, "answer")
    equal(causes("POST", path, bundle("twice", good + good)),
          ['spec.trustBundle: Invalid value: "<value omitted>": duplicate trust anchor '
           '(indices [0 1])'], "causes")
    holds(causes("POST", path, bundle("c", good, signerName="example.com/s"))[0],
          "must be named with prefix example.com:s:")


def test_certificate_requests_of_pods():
    key, der = os.path.join(FILES, "k"), os.path.join(FILES, "r")
    openssl("genpkey", "-algorithm", "ed25519", "-out", key)
    openssl("req", "-new", "-key", key, "-subj", "/", "-outform", "DER", "-out", der)
    with open(der, "rb") as f:
        request = bytearray(f.read())
    request[-1] ^= 1
    got = causes("POST", "/apis/certificates.k8s.io/v1beta1/namespaces/default/"
                 "podcertificaterequests", {
                     "apiVersion": "certificates.k8s.io/v1beta1", "kind": "PodCertificateRequest",
                     "metadata": {"name": "r"}, "spec": {
                         "signerName": "example.com/s", "podName": "p", "podUID": "1",
                         "serviceAccountName": "default", "serviceAccountUID": "2",
                         "nodeName": "n", "nodeUID": "3", "maxExpirationSeconds": 3600,
                         "stubPKCS10Request": base64.b64encode(request).decode()}})
    equal(got, ["spec.stubPKCS10Request: Invalid value: invalid signature"], "causes")


def test_updates_that_need_a_version():
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
             "spec": {"holderIdentity": "a"}}
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    s.api("POST", path, lease)
    equal(causes("PUT", f"{path}/l", lease),
          ["metadata.resourceVersion: Invalid value: 0: must be specified for an update"], "causes")


def test_kinds_of_the_control_plane():
    holds(causes("POST", "/apis/coordination.k8s.io/v1beta1/namespaces/default/leasecandidates", {
        "apiVersion": "coordination.k8s.io/v1beta1", "kind": "LeaseCandidate",
        "metadata": {"name": "c"}, "spec": {
            "leaseName": "l", "binaryVersion": "1.2", "strategy": "OldestEmulationVersion"}})[0],
        "spec.binaryVersion", "must be a valid semantic version")
    equal(causes("POST", "/apis/apiregistration.k8s.io/v1/apiservices", {
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "x"}, "spec": {"group": "g.example", "version": "v1",
                                            "groupPriorityMinimum": 1, "versionPriority": 1}}),
          ['metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: '
           '"v1.g.example"'], "causes")


def test_one_object_in_two_versions():
    rule = s.get("/apis/resource.k8s.io/v1alpha3/devicetaintrules/r")
    equal(rule["apiVersion"], "resource.k8s.io/v1alpha3", "version")
    rule["spec"]["taint"]["value"] = "seen"
    s.api("PUT", "/apis/resource.k8s.io/v1alpha3/devicetaintrules/r", rule)
    beta = s.get("/apis/resource.k8s.io/v1beta2/devicetaintrules/r")
    equal((beta["apiVersion"], beta["spec"]["taint"]["value"]), ("resource.k8s.io/v1beta2", "seen"), "beta")
    alpha = "/apis/admissionregistration.k8s.io/v1alpha1/mutatingadmissionpolicybindings"
    s.api("POST", alpha, {
        "apiVersion": "admissionregistration.k8s.io/v1alpha1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": "b"}, "spec": {"policyName": "p", "paramRef": {"name": "x"}}})
    ga = s.get("/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings/b")
    equal(ga["spec"]["paramRef"]["parameterNotFoundAction"], "Deny", "a default of v1alpha1 only")
    equal(s.kubectl("get", "leasecandidates.v1alpha2.coordination.k8s.io"), "", "candidates")


def test_groups_of_pods():
    path = "/apis/scheduling.k8s.io/v1alpha2/namespaces/default"
    group = {"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "PodGroup", "metadata": {"name": "g"},
             "spec": {"schedulingPolicy": {"gang": {"minCount": 3}}, "priority": 7,
                      "disruptionMode": "PodGroup"}}
    made = s.api("POST", f"{path}/podgroups", group)
    # The gates of these are off: what was not there before is dropped, and a default comes back.
    equal((made["spec"].get("priority"), made["spec"]["disruptionMode"]), (None, "Pod"), "gated fields")
    made["spec"]["disruptionMode"] = "PodGroup"
    made["spec"]["schedulingPolicy"]["gang"]["minCount"] = 4
    equal(causes("PUT", f"{path}/podgroups/g", made),
          ["spec.schedulingPolicy: Invalid value: null: field is immutable",
           "spec.disruptionMode: Forbidden"], "causes")
    holds(s.kubectl("get", "podgroups"), r"^g +Gang +<none> +Pending ")
    work = {"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "Workload", "metadata": {"name": "w"},
            "spec": {"podGroupTemplates": [{"name": "t", "schedulingPolicy": {}}]}}
    equal(causes("POST", f"{path}/workloads", work),
          ["spec.podGroupTemplates[0].schedulingPolicy: Invalid value: \"\": must specify one of: "
           "`basic`, `gang`"], "causes")


def test_what_groups_of_pods_stand_for():
    """A group that is made from a Workload, and a Job whose group is scheduled as one."""
    path, v1alpha2 = "/apis/scheduling.k8s.io/v1alpha2/namespaces/default", "scheduling.k8s.io/v1alpha2"

    def group(name, template, owner=None):
        return send("POST", f"{path}/podgroups", {
            "apiVersion": v1alpha2, "kind": "PodGroup",
            "metadata": {"name": name, "ownerReferences": [owner] if owner else []},
            "spec": dict({"schedulingPolicy": {"gang": {"minCount": 2}}}, **({
                "podGroupTemplateRef": {"workload": {"workloadName": "made", "podGroupTemplateName": template}}}
                if template else {}))})

    refused = 'podgroups.scheduling.k8s.io "a" is forbidden: PodGroup rejected: '
    status, answer = group("a", "t")
    equal((status, answer["message"]), (403, refused + 'Workload "made" not found'))
    s.api("POST", f"{path}/workloads", {
        "apiVersion": v1alpha2, "kind": "Workload", "metadata": {"name": "made"},
        "spec": {"podGroupTemplates": [{"name": "t", "schedulingPolicy": {"gang": {"minCount": 2}}}]}})
    status, answer = group("a", "u")
    equal((status, answer["message"]),
          (403, refused + 'PodGroupTemplate "u" not found in Workload "made"'))
    equal(group("a", "t")[0], 201)
    jobs = "/apis/batch/v1/namespaces/default/jobs"
    job = s.api("POST", jobs, {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"parallelism": 2, "template": {
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}})

    def scale(n):
        status, _, text = s.raw("PATCH", f"{jobs}/j", {"spec": {"parallelism": n}},
                                {"Content-Type": "application/merge-patch+json"})
        return status, json.loads(text)
    equal(scale(1)[0], 200)
    equal(group("ours", None, {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "controller": True,
                               "uid": job["metadata"]["uid"]})[0], 201)
    status, answer = scale(3)
    equal((status, answer["message"]),
          (403, 'jobs.batch "j" is forbidden: cannot change parallelism for a Job referencing gang-scheduled '
                'PodGroup "ours"'))


def test_namespaces_end_with_what_is_optional_in_them():
    s.kubectl("create", "namespace", "gone")
    path = "/apis/scheduling.k8s.io/v1alpha2/namespaces/gone/podgroups"
    s.api("POST", path, {"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "PodGroup",
                         "metadata": {"name": "g"}, "spec": {"schedulingPolicy": {"basic": {}}}})
    s.kubectl("delete", "namespace", "gone", "--wait=false")
    wait_for(lambda: s.raw("GET", "/api/v1/namespaces/gone")[0] == 404, "the namespace is gone")
    equal(s.get(path)["items"], [], "pod groups")


def test_controllers_see_what_is_switched_on():
    """Protection, quotas, garbage collection and migration of a kind that is not served by default."""
    path, v1alpha2 = "/apis/scheduling.k8s.io/v1alpha2/namespaces/seen/podgroups", "scheduling.k8s.io/v1alpha2"
    core = "/api/v1/namespaces/seen"
    s.kubectl("create", "namespace", "seen")
    s.api("POST", f"{core}/resourcequotas", {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": {"count/podgroups.scheduling.k8s.io": "2"}}})

    def used():
        return s.get(f"{core}/resourcequotas/q").get("status", {}).get("used", {}).get(
            "count/podgroups.scheduling.k8s.io")
    wait_for(lambda: used() == "0", "the quota is counted")
    held = s.api("POST", path, {"apiVersion": v1alpha2, "kind": "PodGroup", "metadata": {"name": "held"},
                                "spec": {"schedulingPolicy": {"basic": {}}}})
    equal((held["metadata"]["finalizers"], used()), (["scheduling.k8s.io/podgroup-protection"], "1"))
    s.api("POST", f"{core}/configmaps", {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned", "ownerReferences": [
            {"apiVersion": v1alpha2, "kind": "PodGroup", "name": "held", "uid": held["metadata"]["uid"]}]}})
    wait_for(lambda: s.raw("GET", f"{core}/serviceaccounts/default")[0] == 200, "the account is there")
    s.api("POST", f"{core}/pods", {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
            "schedulingGroup": {"podGroupName": "held"}, "containers": [{"name": "c", "image": "i"}]}})
    migrations = "/apis/storagemigration.k8s.io/v1beta1/storageversionmigrations"
    s.api("POST", migrations, {
        "apiVersion": "storagemigration.k8s.io/v1beta1", "kind": "StorageVersionMigration",
        "metadata": {"name": "groups"}, "spec": {"resource": {"group": "scheduling.k8s.io", "resource": "podgroups"}}})
    wait_for(lambda: any(c["type"] == "Succeeded" and c["status"] == "True" for c in
                         s.get(f"{migrations}/groups").get("status", {}).get("conditions", [])), "it is migrated", 60)
    s.api("DELETE", f"{path}/held")
    equal("deletionTimestamp" in s.get(f"{path}/held")["metadata"], True, "a pod holds it")
    s.api("DELETE", f"{core}/pods/p?gracePeriodSeconds=0")
    wait_for(lambda: s.raw("GET", f"{path}/held")[0] == 404, "nobody holds it")
    wait_for(lambda: s.raw("GET", f"{core}/configmaps/owned")[0] == 404, "what it owned is collected", 60)
    wait_for(lambda: used() == "0", "the quota has it back", 60)


def test_questions_about_pools():
    path = "/apis/resource.k8s.io/v1alpha3/resourcepoolstatusrequests"
    made = s.api("POST", path, {
        "apiVersion": "resource.k8s.io/v1alpha3", "kind": "ResourcePoolStatusRequest",
        "metadata": {"name": "q"}, "spec": {"driver": "gpu.example.com"}})
    equal(made["spec"]["limit"], 100, "limit")
    made["status"] = {"poolCount": 2, "pools": [
        {"driver": "gpu.example.com", "poolName": "n1", "generation": 1, "totalDevices": 8}],
        "conditions": [{"type": "Complete", "status": "True", "reason": "R", "message": "",
                        "lastTransitionTime": made["metadata"]["creationTimestamp"]}]}
    made = s.api("PUT", f"{path}/q/status", made)
    holds(s.kubectl("get", "resourcepoolstatusrequests"),
          r"^q +gpu\.example\.com +8 +0 +0 +0 +0 +2 +Complete \(1/2 pools\) ")
    made["status"]["poolCount"] = 3
    holds(causes("PUT", f"{path}/q/status", made)[0], "field is immutable")


def test_storage_versions():
    path = "/apis/internal.apiserver.k8s.io/v1alpha1/storageversions"
    body = {"apiVersion": "internal.apiserver.k8s.io/v1alpha1", "kind": "StorageVersion",
            "metadata": {"name": "pods"}, "spec": {}}
    equal(causes("POST", path, body),
          ['metadata.name: Invalid value: "pods": name must be in the form of <group>.<resource>'], "causes")
    body["metadata"]["name"] = "apps.deployments"
    made = s.api("POST", path, body)
    made["status"] = {"storageVersions": [{"apiServerID": "a", "encodingVersion": "apps/v1",
                                           "decodableVersions": ["apps/v1"]}]}
    equal(causes("PUT", f"{path}/apps.deployments/status", made),
          ["status.commonEncodingVersion: Invalid value: null: the common encoding version is apps/v1"],
          "causes")
    made["status"]["commonEncodingVersion"] = "apps/v1"
    s.api("PUT", f"{path}/apps.deployments/status", made)
    holds(s.kubectl("get", "storageversions"), r"^apps\.deployments +apps/v1 +a=apps/v1 ")


if __name__ == "__main__":
    run(s)
