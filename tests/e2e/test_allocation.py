#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cluster IPs and node ports: IPAddress objects, ranges that come and go, two families, bands, full
ranges, and what is repaired."""
import ipaddress
import json
from lib import Server, check, equal, holds, run, wait_for

server = Server("--service-cidr", "10.43.0.0/24,fd00:43::/112")
single = Server("--service-cidr", "10.44.0.0/28", "--kube-apiserver-arg", "kubernetes-service-node-port=30010")
six = Server("--service-cidr", "fd00:46::/108,10.46.0.0/16", "--advertise-address", "fd00:46:ffff::1",
             "--service-node-port-range", "31000-31019")
NET = "/apis/networking.k8s.io/v1"
SERVICES = "/api/v1/namespaces/default/services"


def service(name, **spec):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": dict({"ports": [{"port": 80}], "selector": {"a": "b"}}, **spec)}


def create(name, s=server, **spec):
    return s.api("POST", SERVICES, service(name, **spec))["spec"]


def refused(name, s=server, code=422, **spec):
    status, _, text = s.raw("POST", SERVICES, service(name, **spec))
    equal(status, code, text)
    return json.loads(text)


def addresses(s=server):
    items = s.get(f"{NET}/ipaddresses")["items"]
    return {i["metadata"]["name"]: i for i in items}


def test_the_default_range():
    o = server.get(f"{NET}/servicecidrs/kubernetes")
    equal(o["spec"]["cidrs"], ["10.43.0.0/24", "fd00:43::/112"])
    equal(o["metadata"]["finalizers"], ["networking.k8s.io/service-cidr-finalizer"])
    c = o["status"]["conditions"][0]
    equal((c["type"], c["status"], c["message"]),
          ("Ready", "True", "Kubernetes Service CIDR is ready"))
    equal(server.get(SERVICES + "/kubernetes")["spec"]["clusterIPs"], ["10.43.0.1"])


def test_an_address_is_an_object():
    s = create("one")
    equal((s["ipFamilies"], s["ipFamilyPolicy"], s["clusterIPs"]),
          (["IPv4"], "SingleStack", [s["clusterIP"]]))
    check(ipaddress.ip_address(s["clusterIP"]) in ipaddress.ip_network("10.43.0.0/24"), s)
    # The first 16 of a /24 are for those who ask for one.
    check(int(s["clusterIP"].split(".")[3]) > 16, s)
    o = addresses()[s["clusterIP"]]
    equal(o["metadata"]["labels"], {"ipaddress.kubernetes.io/ip-family": "IPv4",
                                    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
    equal(o["spec"]["parentRef"], {"group": "", "resource": "services", "namespace": "default",
                                   "name": "one"} if "group" in o["spec"]["parentRef"] else
          {"resource": "services", "namespace": "default", "name": "one"})
    server.api("DELETE", SERVICES + "/one")
    check(s["clusterIP"] not in addresses(), "the address stays")


def test_named_addresses():
    equal(create("named", clusterIP="10.43.0.9")["clusterIPs"], ["10.43.0.9"])
    m = refused("again", clusterIP="10.43.0.9")["message"]
    equal(m, 'Service "again" is invalid: spec.clusterIPs: Invalid value: ["10.43.0.9"]: failed to '
          'allocate IP 10.43.0.9: provided IP is already allocated')
    m = refused("other", clusterIP="10.99.0.9")["message"]
    holds(m, "failed to allocate IP 10.99.0.9: the provided network does not match the current "
          "range$")
    for ip in ("10.43.0.0", "10.43.0.255"):
        m = refused("edge", clusterIP=ip)["message"]
        holds(m, rf"the provided IP \({ip}\) is not in the valid range. The range of valid IPs is "
              "10.43.0.0/24$")
    equal(create("v6", clusterIP="fd00:43::5")["ipFamilies"], ["IPv6"])
    check("fd00:43::5" in addresses(), addresses().keys())


def test_two_families():
    s = create("dual", ipFamilyPolicy="PreferDualStack")
    equal(s["ipFamilies"], ["IPv4", "IPv6"])
    equal([ipaddress.ip_address(i).version for i in s["clusterIPs"]], [4, 6])
    check(set(s["clusterIPs"]) <= set(addresses()), "both are claimed")
    s = create("six", ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv6"])
    equal(s["ipFamilies"], ["IPv6", "IPv4"])
    s = create("both", ipFamilyPolicy="RequireDualStack", clusterIPs=["fd00:43::77", "10.43.0.13"],
               clusterIP="fd00:43::77")
    equal((s["ipFamilies"], s["clusterIPs"]),
          (["IPv6", "IPv4"], ["fd00:43::77", "10.43.0.13"]))
    m = refused("two", clusterIP="10.43.0.12", clusterIPs=["10.43.0.12", "fd00:43::78"])["message"]
    holds(m, r"spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or "
          "'PreferDualStack' when multiple cluster IPs are specified")
    s = create("headless", clusterIP="None", selector=None)
    equal((s["ipFamilies"], s["ipFamilyPolicy"], s["clusterIPs"]),
          (["IPv4", "IPv6"], "RequireDualStack", ["None"]))


def patch(name, spec, want=200):
    status, _, text = server.raw("PATCH", f"{SERVICES}/{name}", json.dumps({"spec": spec}),
                                 {"Content-Type": "application/merge-patch+json"})
    equal(status, want, text)
    return json.loads(text)


def test_families_come_and_go():
    one = create("grows")
    s = patch("grows", {"ipFamilyPolicy": "RequireDualStack"})["spec"]
    equal((s["clusterIPs"][0], s["ipFamilies"]), (one["clusterIP"], ["IPv4", "IPv6"]))
    second = s["clusterIPs"][1]
    check(second in addresses(), "the second is claimed")
    s = patch("grows", {"ipFamilyPolicy": "SingleStack"})["spec"]
    equal((s["clusterIPs"], s["ipFamilies"]), ([one["clusterIP"]], ["IPv4"]))
    check(second not in addresses() and one["clusterIP"] in addresses(), "one is given back")
    patch("grows", {"ipFamilyPolicy": "PreferDualStack"})
    m = patch("grows", {"ipFamilies": ["IPv4"]}, 422)["message"]
    holds(m, "must be 'SingleStack' to release the secondary IP family")
    patch("grows", {"type": "ExternalName", "externalName": "x.example", "clusterIP": None,
                    "clusterIPs": None, "ipFamilies": None, "ipFamilyPolicy": None})
    check(one["clusterIP"] not in addresses(), "all are given back")
    s = patch("grows", {"type": "ClusterIP", "externalName": None})["spec"]
    check(s["clusterIP"] in addresses(), "one is claimed again")


def test_a_cluster_of_one_family():
    m = refused("dual", single, ipFamilyPolicy="RequireDualStack")["message"]
    holds(m, "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not "
          "configured for dual-stack services")
    m = refused("six", single, ipFamilies=["IPv6"])["message"]
    holds(m, r"spec.ipFamilies\[0\]: Invalid value: \"IPv6\": not configured on this cluster")
    m = refused("six", single, clusterIP="fd00::1")["message"]
    holds(m, r"spec.clusterIPs\[0\]: Invalid value: \[\"fd00::1\"\]: IPv6 is not configured on this "
          "cluster")
    s = create("prefers", single, ipFamilyPolicy="PreferDualStack")
    equal((s["ipFamilies"], len(s["clusterIPs"])), (["IPv4"], 1))
    single.api("DELETE", SERVICES + "/prefers")


def test_a_node_port_of_the_server():
    spec = single.get(SERVICES + "/kubernetes")["spec"]
    equal((spec["type"], [p["nodePort"] for p in spec["ports"]]), ("NodePort", [30010]))
    m = refused("mine", single, type="NodePort", ports=[{"port": 80, "nodePort": 30010}])["message"]
    holds(m, "30010: provided port is already allocated$")


def test_a_full_range_and_one_more():
    names = [f"s{i}" for i in range(13)]  # 14 addresses, one is the API server's own
    got = {create(n, single)["clusterIP"] for n in names}
    equal(len(got), 13)
    s = refused("toomany", single, 500)
    equal((s["reason"], s["message"]),
          ("InternalError", "Internal error occurred: failed to allocate a serviceIP for Service "
           "\"toomany\": range is full"))
    single.api("POST", f"{NET}/servicecidrs",
               {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
                "metadata": {"name": "more"}, "spec": {"cidrs": ["10.45.0.0/28"]}})

    def ready():
        o = single.get(f"{NET}/servicecidrs/more")
        c = o.get("status", {}).get("conditions", [])
        return c and c[0]["status"] == "True" and o["metadata"].get("finalizers")
    wait_for(ready, "the range is ready")
    s = create("fits", single)
    check(s["clusterIP"].startswith("10.45.0."), s)
    single.kubectl("delete", "servicecidr", "more", "--wait=false")

    def blocked():
        c = single.get(f"{NET}/servicecidrs/more")["status"]["conditions"][0]
        return (c["status"], c["reason"], c["message"]) == (
            "False", "Terminating", "There are still IPAddresses referencing the ServiceCIDR, "
            "please remove them or create a new ServiceCIDR")
    wait_for(blocked, "the range waits for its addresses")
    equal(refused("late", single, 500)["reason"], "InternalError")  # nothing new out of it
    single.api("DELETE", SERVICES + "/fits")
    wait_for(lambda: single.raw("GET", f"{NET}/servicecidrs/more")[0] == 404, "the range goes", 60)


def test_node_ports():
    s = create("np", type="NodePort")
    port = s["ports"][0]["nodePort"]
    check(30086 <= port <= 32767, f"{port} is in the band of those who ask for one")
    s = create("np2", type="NodePort", ports=[{"port": 80, "nodePort": 30001}])
    equal(s["ports"][0]["nodePort"], 30001)
    holds(refused("np3", type="NodePort", ports=[{"port": 80, "nodePort": 30001}])["message"],
          r"spec.ports\[0\].nodePort: Invalid value: 30001: provided port is already allocated")
    # What is named twice is one claim for ports of one number, if it is that number's first.
    two = [{"name": "a", "port": 80, "nodePort": 30002, "protocol": "UDP"},
           {"name": "b", "port": 80, "nodePort": 30002, "protocol": "TCP"}]
    equal([p["nodePort"] for p in create("twice", type="NodePort", ports=two)["ports"]],
          [30002, 30002])
    for ports, at in (([(80, 30003), (81, 30003)], 1), ([(80, 30003), (80, 30004), (80, 30004)], 2)):
        ports = [{"name": f"p{i}", "port": a, "nodePort": b, "protocol": ("TCP", "UDP", "SCTP")[i]}
                 for i, (a, b) in enumerate(ports)]
        holds(refused("np4", type="NodePort", ports=ports)["message"],
              rf"spec.ports\[{at}\].nodePort: Invalid value: {ports[at]['nodePort']}: "
              "provided port is already allocated")
    s = create("lb", type="LoadBalancer", externalTrafficPolicy="Local")
    check(s["healthCheckNodePort"] >= 30086, s)
    server.api("DELETE", SERVICES + "/np2")
    equal(create("np3", type="NodePort", ports=[{"port": 80, "nodePort": 30001}])
          ["ports"][0]["nodePort"], 30001)


def test_dry_run_claims_nothing():
    before = set(addresses())
    s = server.api("POST", SERVICES + "?dryRun=All", service("dry", type="NodePort"))["spec"]
    check(s["clusterIP"], s)
    equal(set(addresses()), before)


def test_claims_are_repaired():
    """What somebody else took away or left behind, as after a crash of another allocator."""
    s = create("fix")
    server.kubectl("delete", "ipaddress", s["clusterIP"])
    server.api("POST", f"{NET}/ipaddresses",
               {"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
                "metadata": {"name": "10.43.0.14", "labels": {
                    "ipaddress.kubernetes.io/ip-family": "IPv4",
                    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
                "spec": {"parentRef": {"resource": "services", "namespace": "default",
                                       "name": "nobody"}}})
    server.stop()
    server.start()

    def repaired():
        a = addresses()
        return s["clusterIP"] in a and "10.43.0.14" not in a
    wait_for(repaired, "claims are as the Services are", 60)

    def told():
        e = server.get("/api/v1/namespaces/default/events")["items"]
        return [x for x in e if x["reason"] == "ClusterIPNotAllocated" and
                x["involvedObject"]["name"] == "fix"]
    e = wait_for(told, "an event says so")[0]
    equal((e["type"], e["message"]),
          ("Warning", f"Cluster IP [IPv4]: {s['clusterIP']} is not allocated; repairing"))


def test_six_comes_first():
    equal(six.get(f"{NET}/servicecidrs/kubernetes")["spec"]["cidrs"], ["fd00:46::/108", "10.46.0.0/16"])
    s = six.get(SERVICES + "/kubernetes")["spec"]
    equal((s["clusterIPs"], s["ipFamilies"], s["ipFamilyPolicy"]), (["fd00:46::1"], ["IPv6"], "SingleStack"))
    slices = six.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
    equal((slices["addressType"], slices["endpoints"][0]["addresses"]), ("IPv6", ["fd00:46:ffff::1"]))
    wide, narrow = ipaddress.ip_network("fd00:46::/108"), ipaddress.ip_network("10.46.0.0/16")
    s = create("six", six)
    equal(s["ipFamilies"], ["IPv6"])
    check(ipaddress.ip_address(s["clusterIP"]) in wide, s)
    s = create("both", six, ipFamilyPolicy="RequireDualStack")
    equal(s["ipFamilies"], ["IPv6", "IPv4"])
    check(ipaddress.ip_address(s["clusterIPs"][0]) in wide, s)
    check(ipaddress.ip_address(s["clusterIPs"][1]) in narrow, s)
    s = create("four", six, ipFamilies=["IPv4"])
    check(ipaddress.ip_address(s["clusterIP"]) in narrow, s)
    s = create("turned", six, ipFamilies=["IPv4", "IPv6"], ipFamilyPolicy="PreferDualStack")
    equal(s["ipFamilies"], ["IPv4", "IPv6"])
    check(s["clusterIP"] in addresses(six) and s["clusterIPs"][1] in addresses(six), "claims")
    for name in ("six", "both", "four", "turned"):
        six.api("DELETE", f"{SERVICES}/{name}")
    equal(list(addresses(six)), ["fd00:46::1"])


def node_port(name, want=None):
    port = {"port": 80, "nodePort": want} if want else {"port": 80}
    return create(name, six, type="NodePort", ports=[port])["ports"][0]["nodePort"]


def test_a_range_of_node_ports():
    out = "provided port is not in the valid range. The range of valid ports is "
    for port in (30999, 31020, 30000):
        m = refused("out", six, type="NodePort", ports=[{"port": 80, "nodePort": port}])["message"]
        equal(m, f'Service "out" is invalid: spec.ports[0].nodePort: Invalid value: {port}: {out}31000-31019')
    m = refused("out", six, 500, type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=30001)
    equal(m["message"], "Internal error occurred: failed to allocate requested HealthCheck NodePort 30001: "
          f"{out}31000-31019")
    # The first 16 are for those who ask for one, as long as there are others.
    equal(sorted(node_port(f"p{i}") for i in range(4)), [31016, 31017, 31018, 31019])
    equal(node_port("asked", 31002), 31002)
    s = create("health", six, type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=31003)
    equal(s["healthCheckNodePort"], 31003)
    rest = [node_port(f"q{i}") for i in range(13)]
    check(set(rest) <= set(range(31000, 31016)) - {31002, 31003}, rest)
    equal(refused("full", six, 500, type="NodePort")["message"],
          "Internal error occurred: failed to allocate a nodePort: range is full")


def test_another_range_of_node_ports():
    """After a restart: what is in both ranges stays taken, what is outside keeps its port."""
    six.flags[six.flags.index("31000-31019")] = "31018+4"
    six.stop()
    six.start()
    m = refused("out", six, type="NodePort", ports=[{"port": 80, "nodePort": 31002}])["message"]
    holds(m, "31002: provided port is not in the valid range. The range of valid ports is 31018-31022$")
    m = refused("taken", six, type="NodePort", ports=[{"port": 80, "nodePort": 31018}])["message"]
    holds(m, "31018: provided port is already allocated")
    s = six.get(SERVICES + "/asked")
    s["metadata"]["labels"] = {"changed": "yes"}
    equal(six.api("PUT", SERVICES + "/asked", s)["spec"]["ports"][0]["nodePort"], 31002)
    s = six.get(SERVICES + "/health")
    s["metadata"]["labels"] = {"changed": "yes"}
    equal(six.api("PUT", SERVICES + "/health", s)["spec"]["healthCheckNodePort"], 31003)
    check(node_port("fresh") in (31020, 31021, 31022), "a port of the new range")

    def told():
        e = six.get("/api/v1/namespaces/default/events")["items"]
        return [x for x in e if x["reason"] == "PortOutOfRange" and x["involvedObject"]["name"] == "asked"]
    equal(wait_for(told, "an event says so", 60)[0]["message"],
          "Port 31002 is not within the port range 31018-31022; please recreate service")


if __name__ == "__main__":
    run(server, single, six)
