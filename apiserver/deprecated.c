// SPDX-License-Identifier: Apache-2.0
#include "apiserver/deprecated.h"

// APILifecycleDeprecated and APILifecycleReplacement of k8s.io/api; none of them has a release that
// it will be gone from.
static const struct {
    uint16_t res;
    struct kl_str warning;
} deprecated[] = {
    {KL_RES_core_v1_componentstatuses, KL_STR_INIT("v1 ComponentStatus is deprecated in v1.19+")},
    {KL_RES_core_v1_endpoints, KL_STR_INIT("v1 Endpoints is deprecated in v1.33+; use "
                                           "discovery.k8s.io/v1 EndpointSlice")},
};

void kl_deprecated_note(struct kl_req *r)
{
    for (size_t i = 0; i < KL_COUNT(deprecated); i++)
        if (r->info.res == kl_res(deprecated[i].res)) {
            kl_req_warn(r, deprecated[i].warning);
            kl_req_note(r, KL_STR("k8s.io/deprecated"), KL_STR("true"), false);
            atomic_fetch_or_explicit(&r->srv->deprecated, 1u << i, memory_order_relaxed);
        }
}

void kl_deprecated_metrics(struct kl_apiserver *s, struct kl_buf *b)
{
    unsigned asked = atomic_load_explicit(&s->deprecated, memory_order_relaxed);
    kl_buf_puts(b, KL_STR("# HELP apiserver_requested_deprecated_apis [STABLE] Gauge of deprecated "
                          "APIs that have been requested, broken out by API group, version, "
                          "resource, subresource, and removed_release.\n"
                          "# TYPE apiserver_requested_deprecated_apis gauge\n"));
    for (size_t i = 0; i < KL_COUNT(deprecated); i++) {
        const struct kl_resource *res = kl_res(deprecated[i].res);
        if (asked >> i & 1)
            kl_buf_printf(b,
                          "apiserver_requested_deprecated_apis{group=\"%s\",removed_release=\"\","
                          "resource=\"%s\",subresource=\"\",version=\"%s\"} 1\n",
                          res->group, res->plural, res->version);
    }
}
