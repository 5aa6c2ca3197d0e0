// SPDX-License-Identifier: Apache-2.0
// RuntimeClass: what a runtime itself takes (overhead), and where it is (scheduling).
#include "apiserver/admission/plugins_int.h"
#include "object/quota/amounts.h"

// The pod's class. 0 with *ret NULL: it has none.
static int find_class(struct kl_admit *ad, struct kl_object **ret)
{
    const struct kl_value *name = kl_path(ad->object, KL_F_spec, KL_F_runtimeClassName);
    struct kl_str n = kl_text(name);
    *ret = NULL;
    if (!kl_is(name, KL_STRING))
        return 0;
    *ret = n.n ? kl_admit_find(ad->r, KL_RES_node_v1_runtimeclasses, KL_STR(""), n) : NULL;
    if (!*ret)
        return kl_admit_forbid(ad, "pod rejected: RuntimeClass \"%.*s\" not found", KL_PRI(n));
    return 0;
}

static bool same_amounts(struct kl_arena *a, const struct kl_value *x, const struct kl_value *y)
{
    struct kl_amounts l, m;
    kl_amounts_read(&l, a, x);
    kl_amounts_read(&m, a, y);
    return kl_amounts_equal(&l, &m);
}

static int copy_into(struct kl_admit *ad, kl_sym field, const struct kl_value *from)
{
    struct kl_value copy;
    struct kl_value *spec = kl_edit(ad->r->arena, ad->draft, KL_F_spec, KL_STRUCT);
    if (!spec || kl_copy(ad->r->arena, from, &copy) || kl_set(ad->r->arena, spec, field, copy))
        return kl_admit_oom(ad);
    return 0;
}

static int mismatch(struct kl_admit *ad)
{
    return kl_admit_forbid(
        ad, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
}

static int add_selector(struct kl_admit *ad, const struct kl_value *from)
{
    struct kl_arena *a = ad->r->arena;
    if (!kl_len(from))
        return 0;
    struct kl_value *spec = kl_edit(a, ad->draft, KL_F_spec, KL_STRUCT);
    struct kl_value *map = spec ? kl_edit(a, spec, KL_F_nodeSelector, KL_MAP) : NULL;
    for (KL_MAP_EACH_KEY(kv, from)) {
        struct kl_str key = kl_text(kv), value = kl_text(kv + 1);
        const struct kl_value *is = kl_map_value(map, key);
        if (is && !kl_str_eq(kl_text(is), value)) {
            struct kl_str pods = kl_text(is);
            return kl_admit_forbid(ad,
                                   "conflict: runtimeClass.scheduling.nodeSelector[%.*s] = %.*s; "
                                   "pod.spec.nodeSelector[%.*s] = %.*s",
                                   KL_PRI(key), KL_PRI(value), KL_PRI(key), KL_PRI(pods));
        }
        key = kl_arena_dup(a, key);
        value = kl_arena_dup(a, value);
        if (!map || !key.p || !value.p || kl_map_set_value(a, map, key, kl_string(value)))
            return kl_admit_oom(ad);
    }
    return 0;
}

// ---- tolerations: what another one says already is left out

static bool same(const struct kl_value *a, const struct kl_value *b, kl_sym f)
{
    return kl_str_eq(kl_text(kl_get(a, f)), kl_text(kl_get(b, f)));
}

bool kl_toleration_covers(const struct kl_value *ss, const struct kl_value *t)
{
    struct kl_str op = kl_text(kl_get(ss, KL_F_operator));
    struct kl_str effect = kl_text(kl_get(ss, KL_F_effect));
    if (kl_value_equal(ss, t))
        return true;
    bool exists = kl_str_eqz(op, "Exists");
    if (!same(ss, t, KL_F_key) && (kl_text(kl_get(ss, KL_F_key)).n || !exists))
        return false;
    if (!same(ss, t, KL_F_effect) && effect.n)
        return false;
    const struct kl_value *most = kl_get(ss, KL_F_tolerationSeconds),
                          *has = kl_get(t, KL_F_tolerationSeconds);
    if (kl_str_eqz(effect, "NoExecute") && kl_is(most, KL_INT) &&
        (!kl_is(has, KL_INT) || has->i > most->i))
        return false;
    if (exists)
        return true;
    return (!op.n || kl_str_eqz(op, "Equal")) &&
           kl_str_eqz(kl_text(kl_get(t, KL_F_operator)), "Equal") && same(ss, t, KL_F_value);
}

int kl_tolerations_merge(struct kl_arena *a, const struct kl_value *first,
                         const struct kl_value *second, struct kl_value *ret)
{
    struct kl_value out = kl_new_array();
    size_t n = kl_len(first), all = n + kl_len(second);
    for (size_t i = 0; i < all; i++) {
        const struct kl_value *t = i < n ? kl_at(first, i) : kl_at(second, i - n);
        bool redundant = false;
        for (KL_EACH(o, &out))
            redundant |= kl_toleration_covers(o, t);
        for (size_t k = i + 1; k < all && !redundant; k++) {
            const struct kl_value *t2 = k < n ? kl_at(first, k) : kl_at(second, k - n);
            redundant = !kl_value_equal(t, t2) && kl_toleration_covers(t2, t);
        }
        struct kl_value copy;
        if (!redundant && (kl_copy(a, t, &copy) || kl_append(a, &out, copy)))
            return KL_ENOMEM;
    }
    *ret = out;
    return 0;
}

static int add_tolerations(struct kl_admit *ad, const struct kl_value *from)
{
    struct kl_arena *a = ad->r->arena;
    struct kl_value merged;
    struct kl_value *spec = kl_edit(a, ad->draft, KL_F_spec, KL_STRUCT);
    if (!spec || kl_tolerations_merge(a, kl_get(spec, KL_F_tolerations), from, &merged))
        return kl_admit_oom(ad);
    if (!kl_len(&merged))
        return 0;
    return kl_set(a, spec, KL_F_tolerations, merged) ? kl_admit_oom(ad) : 0;
}

int kl_runtime_class_mutate(struct kl_admit *ad)
{
    struct kl_object *class;
    int rc;
    if (!kl_admit_is(ad, KL_RES_core_v1_pods) || (rc = find_class(ad, &class)) != 0)
        return kl_admit_is(ad, KL_RES_core_v1_pods) ? rc : 0;
    if (!class)
        return 0;
    const struct kl_value *overhead = kl_get(&class->root, KL_F_overhead);
    const struct kl_value *fixed = kl_get(overhead, KL_F_podFixed);
    const struct kl_value *has = kl_path(ad->draft, KL_F_spec, KL_F_overhead);
    if (overhead) {
        if (kl_len(has) && !same_amounts(ad->r->arena, has, fixed))
            return mismatch(ad);
        if (fixed && (rc = copy_into(ad, KL_F_overhead, fixed)))
            return rc;
    }
    const struct kl_value *where = kl_get(&class->root, KL_F_scheduling);
    if (!where)
        return 0;
    rc = add_selector(ad, kl_get(where, KL_F_nodeSelector));
    return rc ? rc : add_tolerations(ad, kl_get(where, KL_F_tolerations));
}

int kl_runtime_class_validate(struct kl_admit *ad)
{
    struct kl_object *class;
    int rc;
    if (!kl_admit_is(ad, KL_RES_core_v1_pods))
        return 0;
    if ((rc = find_class(ad, &class)))
        return rc;
    const struct kl_value *overhead = class ? kl_get(&class->root, KL_F_overhead) : NULL;
    const struct kl_value *has = kl_path(ad->object, KL_F_spec, KL_F_overhead);
    if (overhead)
        return same_amounts(ad->r->arena, kl_get(overhead, KL_F_podFixed), has) ? 0 : mismatch(ad);
    if (has)
        return kl_admit_forbid(ad, "pod rejected: Pod Overhead set without corresponding "
                                   "RuntimeClass defined Overhead");
    return 0;
}
