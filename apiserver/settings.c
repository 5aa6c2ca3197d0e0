// SPDX-License-Identifier: Apache-2.0
#include "apiserver/settings.h"

static const char *const address_types[] = {"Hostname",    "InternalDNS", "InternalIP",
                                            "ExternalDNS", "ExternalIP",  NULL};
static const char *const signing_algs[] = {"RS256", NULL};

const struct kl_api_settings kl_api_settings_default = {
    .anonymous_auth = true,
    .allow_privileged = true, // as K3s: a node's own pods need it
    .profiling = true,
    .max_requests_inflight = 400,
    .max_mutating_requests_inflight = 200,
    .request_timeout_ms = 60 * 1000,
    .min_request_timeout_s = 1800,
    .priority_and_fairness = true,
    .event_ttl_ms = 3600 * 1000,
    .token_webhook_version = "v1beta1",
    .token_webhook_cache_ttl_ms = 120 * 1000,
    .oidc_username_claim = "sub",
    .oidc_signing_algs = signing_algs,
    .service_account_lookup = true,
    .service_account_extend_token_expiration = true,
    .authorization_webhook_version = "v1beta1",
    .authorization_webhook_authorized_ttl_ms = 300 * 1000,
    .authorization_webhook_unauthorized_ttl_ms = 30 * 1000,
    .default_not_ready_toleration_s = 300,
    .default_unreachable_toleration_s = 300,
    .audit_log_format = "json",
    .audit_log_mode = "blocking",
    .audit_log_maxage_days = 366,
    .audit_log_maxbackup = 100,
    .audit_log_maxsize_mb = 100,
    .audit_webhook_mode = "batch",
    .audit_webhook_batch_buffer_size = 10000,
    .audit_webhook_batch_max_size = 400,
    .audit_webhook_batch_throttle_burst = 15,
    .audit_webhook_batch_throttle_enable = true,
    .audit_webhook_batch_throttle_qps = 10,
    .audit_webhook_batch_max_wait_ms = 30 * 1000,
    .audit_webhook_initial_backoff_ms = 10 * 1000,
    .aggregator_reject_forwarding_redirect = true,
    .kubelet_preferred_address_types = address_types,
    .kubelet_timeout_ms = 5000,
    .service_node_port_range = "30000-32767",
    .endpoint_reconciler_type = "lease",
};
