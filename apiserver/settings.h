// SPDX-License-Identifier: Apache-2.0
// What an API server may be told, under the names of upstream's flags (cli/api_flags.c is the table
// of them). Plain data: filled before the server starts, borrowed and unchanged for its life.
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Lists end with NULL; a list that was not given is NULL. Files are paths.
struct kl_api_settings {
    // ---- serving
    bool anonymous_auth, allow_privileged, profiling;
    const char *external_hostname;
    int max_requests_inflight, max_mutating_requests_inflight; // 0: no limit
    int64_t request_timeout_ms;
    int min_request_timeout_s; // of watches
    double goaway_chance;
    bool priority_and_fairness;
    const char *const *cors_allowed_origins;
    int64_t event_ttl_ms;

    // ---- what is served
    const char *const *runtime_config; // "api/all=true", "GROUP/VERSION[/RESOURCE]=BOOL"
    const char *const *feature_gates;  // "NAME=BOOL"

    // ---- authentication
    const char *client_ca_file; // beside the cluster's own
    const char *token_auth_file;
    bool bootstrap_token_auth;
    const char *const *api_audiences;
    const char *authentication_config;
    const char *token_webhook_config_file, *token_webhook_version;
    int64_t token_webhook_cache_ttl_ms;
    const char *oidc_issuer_url, *oidc_client_id, *oidc_ca_file;
    const char *oidc_username_claim, *oidc_username_prefix, *oidc_groups_claim, *oidc_groups_prefix;
    const char *const *oidc_required_claim, *const *oidc_signing_algs;
    const char *requestheader_client_ca_file;
    const char *const *requestheader_allowed_names,
        *const *requestheader_username_headers, *const *requestheader_uid_headers,
                                                    *const *requestheader_group_headers,
                                                        *const *requestheader_extra_headers_prefix;
    const char *const *service_account_issuer, *const *service_account_key_file;
    const char *service_account_signing_key_file, *service_account_jwks_uri;
    bool service_account_lookup, service_account_extend_token_expiration;
    int64_t service_account_max_token_expiration_ms; // 0: no limit

    // ---- authorisation
    const char *const *authorization_mode; // NULL: Node,RBAC
    const char *authorization_config, *authorization_policy_file;
    const char *authorization_webhook_config_file, *authorization_webhook_version;
    int64_t authorization_webhook_authorized_ttl_ms, authorization_webhook_unauthorized_ttl_ms;

    // ---- admission
    const char *const *enable_admission_plugins, *const *disable_admission_plugins;
    const char *admission_control_config_file;
    int default_not_ready_toleration_s, default_unreachable_toleration_s;

    const char *tracing_config_file;

    // ---- audit
    const char *audit_policy_file, *audit_log_path, *audit_log_format, *audit_log_mode;
    int audit_log_maxage_days, audit_log_maxbackup, audit_log_maxsize_mb;
    bool audit_log_compress;
    const char *audit_webhook_config_file, *audit_webhook_mode;
    int audit_webhook_batch_buffer_size, audit_webhook_batch_max_size;
    int audit_webhook_batch_throttle_burst;
    int64_t audit_webhook_batch_max_wait_ms, audit_webhook_initial_backoff_ms;
    bool audit_webhook_batch_throttle_enable;
    double audit_webhook_batch_throttle_qps;

    // ---- encryption at rest
    const char *encryption_provider_config;
    bool encryption_provider_config_automatic_reload;

    // ---- aggregation and nodes
    const char *proxy_client_cert_file, *proxy_client_key_file;
    bool aggregator_routing, aggregator_reject_forwarding_redirect;
    const char *kubelet_certificate_authority, *kubelet_client_certificate, *kubelet_client_key;
    const char *const *kubelet_preferred_address_types;
    int64_t kubelet_timeout_ms;

    // ---- allocation
    const char *service_node_port_range; // "30000-32767"
    int kubernetes_service_node_port;    // 0: none
    const char *endpoint_reconciler_type;
};

// Upstream's defaults but where a comment says so: what is used when options have no settings.
extern const struct kl_api_settings kl_api_settings_default;
