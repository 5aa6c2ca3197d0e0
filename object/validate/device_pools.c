// SPDX-License-Identifier: Apache-2.0
// resource.k8s.io: ResourcePoolStatusRequests, questions about pools that are answered once.
#include "object/validate/devices_int.h"

enum {
    POOLS_MAX = 1000,
    LIMIT_MAX = 1000,
    CONDITIONS_MAX = 10,
    NAME_MAX_BYTES = 253,
    ERROR_MAX_BYTES = 256
};

static void check_minimum(struct kl_v *c, const struct kl_value *v, int64_t min,
                          const struct kl_vpath *p)
{
    if (v && kl_int_or(v, 0) < min)
        kl_v_invalid_int(c, p, kl_int_or(v, 0),
                         kl_v_text(c, "must be greater than or equal to %d", (int)min));
}

static void check_driver(struct kl_v *c, struct kl_str s, const struct kl_vpath *p)
{
    if (!s.n)
        kl_v_required(c, p, "");
    else
        kl_v_format(c, p, s, KL_V_LONG_NAME_CASELESS);
}

// format=k8s-resource-pool-name, which shows the whole name and counts its parts.
static void check_pool_name(struct kl_v *c, struct kl_str name, const struct kl_vpath *p)
{
    struct kl_str rest = name, part;
    const char *msg[KL_V_MESSAGES];
    if (name.n > NAME_MAX_BYTES)
        kl_v_too_long(c, p, NAME_MAX_BYTES);
    for (size_t i = 0; kl_str_split(&rest, '/', &part); i++) {
        size_t n = part.n ? kl_v_messages(KL_V_LONG_NAME, part, msg) : 0;
        if (!part.n)
            kl_v_invalid_str(c, p, name, kl_v_text(c, "segment %zu: must not be empty", i));
        for (size_t k = 0; k < n; k++)
            kl_v_invalid_str(c, p, part, kl_v_text(c, "segment %zu: %s", i, msg[k]));
    }
}

static bool is_same(const struct kl_value *now, const struct kl_value *old)
{
    return now == old || (now && old && kl_value_equal(now, old));
}

// ---- the question

static void check_question(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_or_empty(kl_v_spec(c)), *v;
    if (c->old) {
        if (!is_same(spec, kl_v_or_empty(kl_v_old_spec(c))))
            kl_v_invalid_text(c, &c->spec, KL_STR("null"), "field is immutable");
        return;
    }
    check_driver(c, kl_text(kl_get(spec, KL_F_driver)), F(&c->spec, driver));
    if ((v = kl_get(spec, KL_F_poolName)))
        check_pool_name(c, kl_text(v), F(&c->spec, poolName));
    v = kl_get(spec, KL_F_limit);
    if (!v)
        kl_v_required(c, F(&c->spec, limit), "");
    else if (kl_int_or(v, 0) > LIMIT_MAX)
        kl_v_invalid_int(c, F(&c->spec, limit), kl_int_or(v, 0),
                         kl_v_text(c, "must be less than or equal to %d", LIMIT_MAX));
    else
        check_minimum(c, v, 1, F(&c->spec, limit));
}

static void create_question(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_question(c);
}

static void update_question(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_question(c);
}

// ---- the answer

static void check_pool(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const kl_sym counts[] = {KL_F_resourceSliceCount, KL_F_totalDevices,
                                    KL_F_allocatedDevices, KL_F_availableDevices,
                                    KL_F_unavailableDevices};
    struct kl_str name = kl_text(kl_get(v, KL_F_poolName));
    const struct kl_value *generation = kl_get(v, KL_F_generation);
    check_driver(c, kl_text(kl_get(v, KL_F_driver)), F(p, driver));
    if (!name.n)
        kl_v_required(c, F(p, poolName), "");
    else
        check_pool_name(c, name, F(p, poolName));
    if (!kl_int_or(generation, 0))
        kl_v_required(c, F(p, generation), "");
    else
        check_minimum(c, generation, 0, F(p, generation));
    for (size_t i = 0; i < KL_COUNT(counts); i++)
        check_minimum(c, kl_get(v, counts[i]), i == 0, FS(p, counts[i]));
    if (kl_get(v, KL_F_nodeName))
        kl_v_format(c, F(p, nodeName), kl_text(kl_get(v, KL_F_nodeName)), KL_V_LONG_NAME);
    if (kl_text(kl_get(v, KL_F_validationError)).n > ERROR_MAX_BYTES)
        kl_v_too_long(c, F(p, validationError), ERROR_MAX_BYTES);
}

static void check_types(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    const struct kl_type *t =
        kl_type_by_name(KL_STR("io.k8s.apimachinery.pkg.apis.meta.v1.Condition"));
    for (size_t i = 1; i < kl_len(list); i++)
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_type)),
                          kl_text(kl_get(kl_at(list, i), KL_F_type)))) {
                kl_v_duplicate_text(c, I(p, i), kl_v_json(c, t, kl_at(list, i), false));
                break;
            }
}

static void check_answer(struct kl_v *c, const struct kl_value *now, const struct kl_value *old)
{
    const struct kl_value *count = kl_get(now, KL_F_poolCount);
    const struct kl_value *pools = kl_get(now, KL_F_pools);
    const struct kl_value *conditions = kl_get(now, KL_F_conditions);
    bool same_count = old && is_same(count, kl_get(old, KL_F_poolCount));
    if (!count && !same_count)
        kl_v_required(c, F(&c->status, poolCount), "");
    else if (!same_count)
        check_minimum(c, count, 0, F(&c->status, poolCount));
    if (old && is_same(pools, kl_get(old, KL_F_pools)))
        pools = NULL;
    if (kl_v_few(c, pools, POOLS_MAX, F(&c->status, pools)))
        for (size_t i = 0; i < kl_len(pools); i++)
            check_pool(c, kl_at(pools, i), I(F(&c->status, pools), i));
    if (old && is_same(conditions, kl_get(old, KL_F_conditions)))
        conditions = NULL;
    if (kl_v_few(c, conditions, CONDITIONS_MAX, F(&c->status, conditions)))
        check_types(c, conditions, F(&c->status, conditions));
}

static void status_answer(struct kl_v *c)
{
    const struct kl_value *now = kl_get(c->now, KL_F_status), *old = kl_get(c->old, KL_F_status);
    kl_v_meta_update(c);
    if (old)
        kl_v_immutable(c, &c->status,
                       kl_type(KL_TYPE_resource_v1alpha3_ResourcePoolStatusRequestStatus), now, old,
                       true);
    else if (now)
        kl_v_conditions(c, F(&c->status, conditions), kl_get(now, KL_F_conditions));
    if (now && !is_same(now, old))
        check_answer(c, now, old);
}

const struct kl_v_kind kl_v_pools[] = {
    {KL_RES_resource_v1alpha3_resourcepoolstatusrequests, create_question, update_question,
     status_answer, NULL, NULL},
    {0},
};
