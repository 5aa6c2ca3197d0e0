// SPDX-License-Identifier: Apache-2.0
#include "cli/api_flags.h"

#define AT(field) offsetof(struct kl_api_settings, field)
#define TEXT(name, field, value, group, help)                                                      \
    {                                                                                              \
        name, 0, NULL, KL_FLAG_STRING, AT(field), value, NULL, group, help                         \
    }
#define STRINGS(name, field, value, group, help)                                                   \
    {                                                                                              \
        name, 0, NULL, KL_FLAG_STRINGS, AT(field), value, NULL, group, help                        \
    }
#define ARRAY(name, field, value, group, help)                                                     \
    {                                                                                              \
        name, 0, NULL, KL_FLAG_ARRAY, AT(field), value, NULL, group, help                          \
    }
#define SWITCH(name, field, group, help)                                                           \
    {                                                                                              \
        name, 0, NULL, KL_FLAG_BOOL, AT(field), NULL, NULL, group, help                            \
    }
#define NUMBER(name, field, group, help)                                                           \
    {                                                                                              \
        name, 0, NULL, KL_FLAG_INT, AT(field), "N", NULL, group, help                              \
    }
#define FLOAT(name, field, group, help)                                                            \
    {                                                                                              \
        name, 0, NULL, KL_FLAG_FLOAT, AT(field), "N", NULL, group, help                            \
    }
#define DURATION(name, field, group, help)                                                         \
    {                                                                                              \
        name, 0, NULL, KL_FLAG_DURATION, AT(field), "TIME", NULL, group, help                      \
    }

const struct kl_flag kl_api_flags[] = {
    SWITCH("anonymous-auth", anonymous_auth, "authentication",
           "Requests without credentials are system:anonymous (true)"),
    STRINGS("api-audiences", api_audiences, "NAMES", "authentication",
            "Audiences that tokens may be for (the issuer)"),
    TEXT("authentication-config", authentication_config, "FILE", "authentication",
         "AuthenticationConfiguration: JWT issuers, anonymous paths"),
    TEXT("authentication-token-webhook-config-file", token_webhook_config_file, "FILE",
         "authentication", "Kubeconfig of a webhook that reviews tokens"),
    TEXT("authentication-token-webhook-version", token_webhook_version, "VERSION", "authentication",
         "Version of its TokenReview (v1beta1)"),
    DURATION("authentication-token-webhook-cache-ttl", token_webhook_cache_ttl_ms, "authentication",
             "How long its answers hold (2m)"),
    TEXT("client-ca-file", client_ca_file, "FILE", "authentication",
         "CA whose client certificates are users"),
    SWITCH("enable-bootstrap-token-auth", bootstrap_token_auth, "authentication",
           "Secrets of type bootstrap.kubernetes.io/token are users"),
    TEXT("oidc-issuer-url", oidc_issuer_url, "URL", "authentication", "Issuer of OpenID tokens"),
    TEXT("oidc-client-id", oidc_client_id, "ID", "authentication", "Audience they must have"),
    TEXT("oidc-ca-file", oidc_ca_file, "FILE", "authentication", "CA of the issuer's certificate"),
    TEXT("oidc-username-claim", oidc_username_claim, "CLAIM", "authentication",
         "Claim that is the user's name (sub)"),
    TEXT("oidc-username-prefix", oidc_username_prefix, "TEXT", "authentication",
         "What is put before it"),
    TEXT("oidc-groups-claim", oidc_groups_claim, "CLAIM", "authentication",
         "Claim that is the user's groups"),
    TEXT("oidc-groups-prefix", oidc_groups_prefix, "TEXT", "authentication",
         "What is put before each"),
    STRINGS("oidc-required-claim", oidc_required_claim, "K=V", "authentication",
            "Claims that a token must have"),
    STRINGS("oidc-signing-algs", oidc_signing_algs, "NAMES", "authentication",
            "Signatures that are accepted (RS256)"),
    TEXT("requestheader-client-ca-file", requestheader_client_ca_file, "FILE", "authentication",
         "CA of front proxies, which say in headers who asks"),
    STRINGS("requestheader-allowed-names", requestheader_allowed_names, "NAMES", "authentication",
            "Common names of front proxies (any)"),
    STRINGS("requestheader-username-headers", requestheader_username_headers, "NAMES",
            "authentication", "Headers with the user's name"),
    STRINGS("requestheader-uid-headers", requestheader_uid_headers, "NAMES", "authentication",
            "Headers with the user's uid"),
    STRINGS("requestheader-group-headers", requestheader_group_headers, "NAMES", "authentication",
            "Headers with the user's groups"),
    STRINGS("requestheader-extra-headers-prefix", requestheader_extra_headers_prefix, "PREFIX",
            "authentication", "Beginning of headers with what else is known"),
    ARRAY("service-account-issuer", service_account_issuer, "URL", "authentication",
          "Issuer of ServiceAccount tokens; the first one signs"),
    ARRAY("service-account-key-file", service_account_key_file, "FILE", "authentication",
          "Keys that ServiceAccount tokens are checked with"),
    TEXT("service-account-signing-key-file", service_account_signing_key_file, "FILE",
         "authentication", "Key that signs ServiceAccount tokens"),
    TEXT("service-account-jwks-uri", service_account_jwks_uri, "URL", "authentication",
         "Address of the keys in the discovery document"),
    SWITCH("service-account-lookup", service_account_lookup, "authentication",
           "Tokens hold as long as what they are bound to (true)"),
    SWITCH("service-account-extend-token-expiration", service_account_extend_token_expiration,
           "authentication", "Tokens in pods outlive their time for old clients (true)"),
    DURATION("service-account-max-token-expiration", service_account_max_token_expiration_ms,
             "authentication", "Longest life of a token"),
    TEXT("token-auth-file", token_auth_file, "FILE", "authentication",
         "CSV: token,user,uid[,\"group,group\"]"),

    STRINGS("authorization-mode", authorization_mode, "MODES", "authorization",
            "Node, RBAC, ABAC, Webhook, AlwaysAllow, AlwaysDeny in order (Node,RBAC)"),
    TEXT("authorization-config", authorization_config, "FILE", "authorization",
         "AuthorizationConfiguration: the chain of authorizers"),
    TEXT("authorization-policy-file", authorization_policy_file, "FILE", "authorization",
         "Policies of mode ABAC, one in JSON on each line"),
    TEXT("authorization-webhook-config-file", authorization_webhook_config_file, "FILE",
         "authorization", "Kubeconfig of a webhook that authorizes"),
    TEXT("authorization-webhook-version", authorization_webhook_version, "VERSION", "authorization",
         "Version of its SubjectAccessReview (v1beta1)"),
    DURATION("authorization-webhook-cache-authorized-ttl", authorization_webhook_authorized_ttl_ms,
             "authorization", "How long its consent holds (5m)"),
    DURATION("authorization-webhook-cache-unauthorized-ttl",
             authorization_webhook_unauthorized_ttl_ms, "authorization",
             "How long its refusal holds (30s)"),

    STRINGS("feature-gates", feature_gates, "NAME=BOOL", "api", "Features to switch on or off"),
    STRINGS("runtime-config", runtime_config, "WHAT=BOOL", "api",
            "Versions to serve: api/all, api/ga, api/beta, api/alpha, GROUP/VERSION[/RESOURCE]"),
    STRINGS("enable-admission-plugins", enable_admission_plugins, "NAMES", "admission",
            "Plug-ins to run beside those that are on"),
    STRINGS("disable-admission-plugins", disable_admission_plugins, "NAMES", "admission",
            "Plug-ins not to run"),
    TEXT("admission-control-config-file", admission_control_config_file, "FILE", "admission",
         "AdmissionConfiguration of the plug-ins"),
    NUMBER("default-not-ready-toleration-seconds", default_not_ready_toleration_s, "admission",
           "How long a pod stays on a node that is not ready (300)"),
    NUMBER("default-unreachable-toleration-seconds", default_unreachable_toleration_s, "admission",
           "How long on one that is silent (300)"),
    SWITCH("allow-privileged", allow_privileged, "admission", "Pods may be privileged"),

    TEXT("tracing-config-file", tracing_config_file, "FILE", "trace",
         "TracingConfiguration: where spans are sent, and how many"),
    TEXT("audit-policy-file", audit_policy_file, "FILE", "audit", "What is audited, and how much"),
    TEXT("audit-log-path", audit_log_path, "FILE", "audit", "Log of audit events; - is stdout"),
    TEXT("audit-log-format", audit_log_format, "FORMAT", "audit", "json or legacy (json)"),
    TEXT("audit-log-mode", audit_log_mode, "MODE", "audit",
         "blocking, blocking-strict or batch (blocking)"),
    NUMBER("audit-log-maxage", audit_log_maxage_days, "audit", "Days that old logs stay (366)"),
    NUMBER("audit-log-maxbackup", audit_log_maxbackup, "audit", "How many old logs stay (100)"),
    NUMBER("audit-log-maxsize", audit_log_maxsize_mb, "audit",
           "Megabytes after which a new log begins (100)"),
    SWITCH("audit-log-compress", audit_log_compress, "audit", "Old logs are gzipped"),
    TEXT("audit-webhook-config-file", audit_webhook_config_file, "FILE", "audit",
         "Kubeconfig of a webhook that gets the events"),
    TEXT("audit-webhook-mode", audit_webhook_mode, "MODE", "audit",
         "batch, blocking or blocking-strict (batch)"),
    NUMBER("audit-webhook-batch-buffer-size", audit_webhook_batch_buffer_size, "audit",
           "Events that may wait for it (10000)"),
    NUMBER("audit-webhook-batch-max-size", audit_webhook_batch_max_size, "audit",
           "Events in a batch (400)"),
    DURATION("audit-webhook-batch-max-wait", audit_webhook_batch_max_wait_ms, "audit",
             "How long a batch waits to be full (30s)"),
    SWITCH("audit-webhook-batch-throttle-enable", audit_webhook_batch_throttle_enable, "audit",
           "Batches have a rate (true)"),
    FLOAT("audit-webhook-batch-throttle-qps", audit_webhook_batch_throttle_qps, "audit",
          "Batches in a second (10)"),
    NUMBER("audit-webhook-batch-throttle-burst", audit_webhook_batch_throttle_burst, "audit",
           "Batches at once after a pause (15)"),
    DURATION("audit-webhook-initial-backoff", audit_webhook_initial_backoff_ms, "audit",
             "Pause before a failed call is tried again (10s)"),

    TEXT("encryption-provider-config", encryption_provider_config, "FILE", "db",
         "EncryptionConfiguration: what is encrypted in the datastore, and how"),
    SWITCH("encryption-provider-config-automatic-reload",
           encryption_provider_config_automatic_reload, "db", "Read it again when it changes"),

    SWITCH("enable-priority-and-fairness", priority_and_fairness, "load",
           "Requests wait in queues by priority and client (true)"),
    NUMBER("max-requests-inflight", max_requests_inflight, "load",
           "Reads that are answered at a time (400)"),
    NUMBER("max-mutating-requests-inflight", max_mutating_requests_inflight, "load",
           "Writes that are answered at a time (200)"),
    DURATION("request-timeout", request_timeout_ms, "load",
             "How long a request that is no watch may take (1m)"),
    NUMBER("min-request-timeout", min_request_timeout_s, "load",
           "Seconds that a watch lasts at least (1800)"),
    FLOAT("goaway-chance", goaway_chance, "load",
          "Chance that a client is sent to another server, up to 0.02"),
    SWITCH("profiling", profiling, "load", "Serve /debug/pprof (true)"),

    TEXT("external-hostname", external_hostname, "NAME", "api", "Host in URLs given to others"),
    STRINGS("cors-allowed-origins", cors_allowed_origins, "REGEXES", "api",
            "Origins that browsers may send requests from"),
    DURATION("event-ttl", event_ttl_ms, "api", "How long Events stay (1h)"),
    TEXT("proxy-client-cert-file", proxy_client_cert_file, "FILE", "aggregation",
         "Certificate shown to aggregated servers and webhooks"),
    TEXT("proxy-client-key-file", proxy_client_key_file, "FILE", "aggregation", "Its key"),
    SWITCH("enable-aggregator-routing", aggregator_routing, "aggregation",
           "Ask an aggregated server's endpoints, not its cluster IP"),
    SWITCH("aggregator-reject-forwarding-redirect", aggregator_reject_forwarding_redirect,
           "aggregation", "An aggregated server's redirect is an error (true)"),
    TEXT("kubelet-certificate-authority", kubelet_certificate_authority, "FILE", "nodes",
         "CA of kubelets' certificates"),
    TEXT("kubelet-client-certificate", kubelet_client_certificate, "FILE", "nodes",
         "Certificate shown to kubelets"),
    TEXT("kubelet-client-key", kubelet_client_key, "FILE", "nodes", "Its key"),
    STRINGS("kubelet-preferred-address-types", kubelet_preferred_address_types, "TYPES", "nodes",
            "Which of a node's addresses is dialled"),
    DURATION("kubelet-timeout", kubelet_timeout_ms, "nodes", "How long dialling may take (5s)"),
    TEXT("service-node-port-range", service_node_port_range, "A-B", "networking",
         "Ports of Services on every node (30000-32767)"),
    NUMBER("kubernetes-service-node-port", kubernetes_service_node_port, "networking",
           "Node port of the kubernetes Service (none)"),
    TEXT("endpoint-reconciler-type", endpoint_reconciler_type, "NAME", "networking",
         "lease, or none: who keeps the endpoints of the kubernetes Service"),
};
const size_t kl_napi_flags = KL_COUNT(kl_api_flags);
