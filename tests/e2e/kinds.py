# SPDX-License-Identifier: Apache-2.0
"""One object of every built-in kind that can be created, and the row that `kubectl get` shows of it.

KINDS: resource → (cells of its row, the object). Name `every`; namespaced ones go into the namespace
`kinds`. AGE stands for an age of seconds or minutes, TIME for a time, * for any text, ? for one that
is there once a controller has been at it.
"""

NAMESPACE = "kinds"


def meta(name="every", **more):
    return {"name": name, **more}


def pod_template(restart=None):
    spec = {"containers": [{"name": "main", "image": "busybox:1"}]}
    if restart:
        spec["restartPolicy"] = restart
    return {"metadata": {"labels": {"app": "every"}}, "spec": spec}


# A certificate request in PEM, in base64: CN=every, a P-256 key that nobody has.
CSR = (
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlISk1ISUNBUUF3RURFT01Bd0dBMVVFQXd3"
    "RlpYWmxjbmt3V1RBVEJnY3Foa2pPUFFJQkJnZ3Foa2pPUFFNQgpCd05DQUFSaDRyVlJOMjZFRnRaOXVoMnlP"
    "NElabS9VZnoyL3J6ZGJXYW1KWUgxdllFdGd1M3lxaS9YVS9DbktoCjlyV0NqTGN4OHcvY21yeEFLbDkrVWIy"
    "S3FZK1ZvQUF3Q2dZSUtvWkl6ajBFQXdJRFJ3QXdSQUlnV1NUS3V5dWQKNzRTMzlIcVR0OEVkYlA4clRyM1lH"
    "bEwyeE1jRTF5cndCTzRDSUY5YjdIOGErWkEyc2hNamdRRkZJREszS2tKZgpDUklWWElZa0taQVRUUnpCCi0t"
    "LS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=")


NO_PATCH = '[JSONPatch{op: "test", path: "/kind", value: "Nothing"}]'
SELECTOR = {"matchLabels": {"app": "every"}}


def webhook(kind):
    return {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": meta(),
            "webhooks": [{"name": "every.example.com", "sideEffects": "None",
                          "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore",
                          "clientConfig": {"service": {"namespace": NAMESPACE, "name": "none"}},
                          "rules": [{"apiGroups": ["nobody.example.com"], "apiVersions": ["v1"],
                                     "operations": ["CREATE"], "resources": ["nothings"]}]}]}


def policy_match():
    return {"resourceRules": [{"apiGroups": ["nobody.example.com"], "apiVersions": ["v1"],
                               "operations": ["CREATE"], "resources": ["nothings"]}]}


KINDS = {
    "configmaps": (["every", "1", "AGE"], {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(), "data": {"a": "1"}}),
    "endpoints": (["every", "10.1.2.3:80", "AGE"], {
        "apiVersion": "v1", "kind": "Endpoints", "metadata": meta(),
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]}),
    "events": (["AGE", "Normal", "Because", "pod/every", "it is so"], {
        "apiVersion": "v1", "kind": "Event", "metadata": meta(), "type": "Normal",
        "reason": "Because", "message": "it is so", "firstTimestamp": "@NOW",
        "lastTimestamp": "@NOW", "count": 1, "source": {"component": "every"},
        "involvedObject": {"kind": "Pod", "name": "every", "namespace": NAMESPACE,
                           "apiVersion": "v1"}}),
    "limitranges": (["every", "TIME"], {
        "apiVersion": "v1", "kind": "LimitRange", "metadata": meta(),
        "spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "9Gi"}}]}}),
    "namespaces": (["every", "Active", "AGE"], {
        "apiVersion": "v1", "kind": "Namespace", "metadata": meta()}),
    "nodes": (["every", "Unknown", "worker", "AGE"], {
        "apiVersion": "v1", "kind": "Node",
        "metadata": meta(labels={"node-role.kubernetes.io/worker": ""})}),
    "persistentvolumeclaims": (
        ["every", "Pending", "nosuch", "<unset>", "AGE"], {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta(),
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "nosuch",
                     "resources": {"requests": {"storage": "1Gi"}}}}),
    "persistentvolumes": (["every", "1Gi", "RWO", "Delete", "*", "<unset>", "AGE"], {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta(),
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                 "persistentVolumeReclaimPolicy": "Delete", "hostPath": {"path": "/nosuch"}}}),
    "pods": (["every", "0/1", "Pending", "0", "AGE"], {
        "apiVersion": "v1", "kind": "Pod", "metadata": meta(labels={"app": "none"}),
        "spec": {"containers": [{"name": "main", "image": "busybox:1"}]}}),
    "podtemplates": (["every", "main", "busybox:1", "app=every"], {
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": meta(),
        "template": pod_template()}),
    "replicationcontrollers": (["every", "0", "0", "0", "AGE"], {
        "apiVersion": "v1", "kind": "ReplicationController", "metadata": meta(),
        "spec": {"replicas": 0, "selector": {"app": "every"}, "template": pod_template()}}),
    "resourcequotas": (["every", "?", "AGE"], {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta(),
        "spec": {"hard": {"pods": "10"}}}),
    "secrets": (["every", "Opaque", "1", "AGE"], {
        "apiVersion": "v1", "kind": "Secret", "metadata": meta(), "data": {"a": "YQ=="}}),
    "serviceaccounts": (["every", "AGE"], {
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta()}),
    "services": (["every", "ClusterIP", "None", "<none>", "80/TCP", "AGE"], {
        "apiVersion": "v1", "kind": "Service", "metadata": meta(),
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}),
    "mutatingadmissionpolicies.admissionregistration.k8s.io": (["every", "1", "<unset>", "AGE"], {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": meta(), "spec": {
            "matchConstraints": policy_match(), "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch",
                           "jsonPatch": {"expression": NO_PATCH}}]}}),
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": (
        ["every", "every", "<unset>", "AGE"], {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicyBinding", "metadata": meta(),
            "spec": {"policyName": "every"}}),
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": (
        ["every", "1", "AGE"], webhook("MutatingWebhookConfiguration")),
    "validatingadmissionpolicies.admissionregistration.k8s.io": (["every", "1", "<unset>", "AGE"], {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": meta(), "spec": {"matchConstraints": policy_match(),
                                     "validations": [{"expression": "true"}]}}),
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": (
        ["every", "every", "<unset>", "AGE"], {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding", "metadata": meta(),
            "spec": {"policyName": "every", "validationActions": ["Deny"]}}),
    "validatingwebhookconfigurations.admissionregistration.k8s.io": (
        ["every", "1", "AGE"], webhook("ValidatingWebhookConfiguration")),
    "customresourcedefinitions.apiextensions.k8s.io": (["everies.example.com", "TIME"], {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": meta("everies.example.com"), "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "everies", "singular": "every", "kind": "Every",
                      "listKind": "EveryList"},
            "versions": [{"name": "v1", "served": False, "storage": True, "schema": {
                "openAPIV3Schema": {"type": "object"}}}]}}),
    "apiservices.apiregistration.k8s.io": (["v1.none.example.com", "Local", "*", "AGE"], {
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": meta("v1.none.example.com"),
        "spec": {"group": "none.example.com", "version": "v1", "groupPriorityMinimum": 1000,
                 "versionPriority": 1}}),
    "controllerrevisions.apps": (["every", "<none>", "1", "AGE"], {
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": meta(), "revision": 1,
        "data": {"a": 1}}),
    "daemonsets.apps": (["every", "0", "0", "0", "0", "0", "nosuch=node", "AGE"], {
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta(),
        "spec": {"selector": {"matchLabels": {"app": "ds"}}, "template": {
            "metadata": {"labels": {"app": "ds"}},
            "spec": {"nodeSelector": {"nosuch": "node"},
                     "containers": [{"name": "main", "image": "busybox:1"}]}}}}),
    "deployments.apps": (["every", "0/0", "0", "0", "AGE"], {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(),
        "spec": {"replicas": 0, "selector": SELECTOR, "template": pod_template()}}),
    "replicasets.apps": (["every", "0", "0", "0", "AGE"], {
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta(),
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "rs"}},
                 "template": {"metadata": {"labels": {"app": "rs"}},
                              "spec": {"containers": [{"name": "main", "image": "busybox:1"}]}}}}),
    "statefulsets.apps": (["every", "0/0", "AGE"], {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta(),
        "spec": {"replicas": 0, "serviceName": "every", "selector": SELECTOR,
                 "template": pod_template()}}),
    "horizontalpodautoscalers.autoscaling": (
        ["every", "Deployment/every", "cpu: <unknown>/80%", "1", "3", "0", "AGE"], {
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": meta(),
            "spec": {"maxReplicas": 3, "scaleTargetRef": {
                "apiVersion": "apps/v1", "kind": "Deployment", "name": "every"}}}),
    "cronjobs.batch": (["every", "0 0 1 1 *", "<none>", "True", "0", "<none>", "AGE"], {
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta(),
        "spec": {"schedule": "0 0 1 1 *", "suspend": True,
                 "jobTemplate": {"spec": {"template": pod_template("Never")}}}}),
    "jobs.batch": (["every", "*", "0/1", "AGE"], {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": meta(),
        "spec": {"suspend": True, "template": pod_template("Never")}}),
    "certificatesigningrequests.certificates.k8s.io": (
        ["every", "AGE", "example.com/every", "*", "<none>", "Pending"], {
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": meta(), "spec": {"request": CSR, "signerName": "example.com/every",
                                         "usages": ["client auth"]}}),
    "leases.coordination.k8s.io": (["every", "me", "AGE"], {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta(),
        "spec": {"holderIdentity": "me"}}),
    "endpointslices.discovery.k8s.io": (["every", "IPv4", "80", "10.1.2.3", "AGE"], {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta(),
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}],
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}]}),
    "flowschemas.flowcontrol.apiserver.k8s.io": (
        ["every", "every", "1000", "<none>", "AGE", "*"], {
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
            "metadata": meta(), "spec": {"priorityLevelConfiguration": {"name": "every"}}}),
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": (
        ["every", "Limited", "5", "64", "8", "50", "AGE"], {
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
            "metadata": meta(), "spec": {"type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "limitResponse": {
                    "type": "Queue", "queuing": {"queues": 64, "handSize": 8,
                                                 "queueLengthLimit": 50}}}}}),
    "ingressclasses.networking.k8s.io": (["every", "example.com/every", "<none>", "AGE"], {
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": meta(),
        "spec": {"controller": "example.com/every"}}),
    "ingresses.networking.k8s.io": (["every", "<none>", "every.example.com", "80", "AGE"], {
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta(),
        "spec": {"rules": [{"host": "every.example.com"}]}}),
    "ipaddresses.networking.k8s.io": (["192.0.2.7", "services/kinds/every"], {
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": meta("192.0.2.7"),
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": NAMESPACE,
                               "name": "every"}}}),
    "networkpolicies.networking.k8s.io": (["every", "app=every", "AGE"], {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta(),
        "spec": {"podSelector": SELECTOR}}),
    "servicecidrs.networking.k8s.io": (["every", "192.0.2.0/24", "AGE"], {
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": meta(),
        "spec": {"cidrs": ["192.0.2.0/24"]}}),
    "runtimeclasses.node.k8s.io": (["every", "runc", "AGE"], {
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": meta(),
        "handler": "runc"}),
    "poddisruptionbudgets.policy": (["every", "1", "N/A", "0", "AGE"], {
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta(),
        "spec": {"minAvailable": 1, "selector": SELECTOR}}),
    "clusterrolebindings.rbac.authorization.k8s.io": (["every", "ClusterRole/view", "AGE"], {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": meta(), "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User",
                                          "name": "nobody"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                    "name": "view"}}),
    "clusterroles.rbac.authorization.k8s.io": (["every", "TIME"], {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": meta(),
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
    "rolebindings.rbac.authorization.k8s.io": (["every", "Role/every", "AGE"], {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta(),
        "subjects": [{"kind": "ServiceAccount", "name": "every", "namespace": NAMESPACE}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "every"}}),
    "roles.rbac.authorization.k8s.io": (["every", "TIME"], {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta(),
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
    "deviceclasses.resource.k8s.io": (["every", "AGE"], {
        "apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": meta(),
        "spec": {}}),
    "resourceclaims.resource.k8s.io": (["every", "pending", "AGE"], {
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta(),
        "spec": {}}),
    "resourceclaimtemplates.resource.k8s.io": (["every", "AGE"], {
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": meta(),
        "spec": {"spec": {}}}),
    "resourceslices.resource.k8s.io": (["every", "every", "example.com", "every", "AGE"], {
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": meta(),
        "spec": {"driver": "example.com", "nodeName": "every",
                 "pool": {"name": "every", "resourceSliceCount": 1}}}),
    "priorityclasses.scheduling.k8s.io": (
        ["every", "7", "false", "AGE", "PreemptLowerPriority"], {
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": meta(),
            "value": 7}),
    "csidrivers.storage.k8s.io": (
        ["every", "true", "false", "false", "<unset>", "false", "Persistent", "AGE"], {
            "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": meta(),
            "spec": {}}),
    "csinodes.storage.k8s.io": (["every", "0", "AGE"], {
        "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": meta(),
        "spec": {"drivers": []}}),
    "csistoragecapacities.storage.k8s.io": (["every", "TIME"], {
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity", "metadata": meta(),
        "storageClassName": "every", "capacity": "1Gi"}),
    "storageclasses.storage.k8s.io": (
        ["every", "example.com/every", "Delete", "Immediate", "false", "AGE"], {
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": meta(),
            "provisioner": "example.com/every"}),
    "volumeattachments.storage.k8s.io": (
        ["every", "example.com", "every", "every", "false", "AGE"], {
            "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": meta(),
            "spec": {"attacher": "example.com", "nodeName": "every",
                     "source": {"persistentVolumeName": "every"}}}),
    "volumeattributesclasses.storage.k8s.io": (["every", "example.com", "AGE"], {
        "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": meta(),
        "driverName": "example.com", "parameters": {"a": "1"}}),
}

# Resources without an object of their own here: made by the server, or another view of the same.
NOT_CREATED = {"componentstatuses", "events.events.k8s.io"}
