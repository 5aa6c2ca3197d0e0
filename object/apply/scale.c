// SPDX-License-Identifier: Apache-2.0
// spec.replicas under two names (managedfields.ScaleHandler): what the object's managers own of it
// is shown as theirs on the Scale, and what was written there is taken back to the object.
#include "object/apply/managed_int.h"

#define SCALE_VERSION "autoscaling/v1"

// The kinds that have a scale all keep it at spec.replicas, in every version.
static bool is_version(const struct kl_resource *res, struct kl_str api_version)
{
    struct kl_managed_env env = {.res = res};
    const struct kl_resource *found;
    return kl_tree_type(&env, api_version, &found) != NULL;
}

static bool has_replicas(const struct kl_fieldset *s)
{
    static const struct kl_elem spec = {.kind = KL_ELEM_FIELD, .name = KL_STR_INIT("spec")};
    static const struct kl_elem replicas = {.kind = KL_ELEM_FIELD, .name = KL_STR_INIT("replicas")};
    const struct kl_fieldset_node *n = kl_fieldset_find(s, &spec);
    n = n ? kl_fieldset_find(n->children, &replicas) : NULL;
    return n && n->member;
}

int kl_managed_to_scale(struct kl_arena *a, const struct kl_resource *res,
                        const struct kl_value *entries, struct kl_value *ret, struct kl_error *err)
{
    struct kl_managed x;
    int rc = kl_managed_open(a, entries, &x, err);
    rc = rc ? rc : kl_managed_read_all(&x, err);
    if (rc)
        return rc;
    const struct kl_fieldset *path = kl_fieldset_of(a, "spec.replicas");
    for (size_t i = 0; i < x.n; i++) {
        struct kl_manager *m = &x.m[i];
        m->gone = !is_version(res, m->api_version) || !has_replicas(m->set);
        if (m->gone)
            continue;
        kl_manager_set(m, path);
        m->api_version = KL_STR(SCALE_VERSION);
    }
    return kl_managed_close(&x, ret, err);
}

// Managers are the same on both sides by all but the version, which upstream's identifiers of
// updaters keep as it was on the object.
static struct kl_manager *same_manager(struct kl_managed *x, const struct kl_manager *m)
{
    for (size_t i = 0; i < x->n; i++)
        if (!x->m[i].gone && x->m[i].applied == m->applied && kl_str_eq(x->m[i].name, m->name) &&
            kl_str_eq(x->m[i].subresource, m->subresource))
            return &x->m[i];
    return NULL;
}

int kl_managed_from_scale(struct kl_arena *a, const struct kl_resource *res,
                          const struct kl_value *entries, const struct kl_value *scale,
                          struct kl_value *ret, struct kl_error *err)
{
    struct kl_managed x, s;
    int rc = kl_managed_open(a, entries, &x, err);
    rc = rc ? rc : kl_managed_read_all(&x, err);
    rc = rc ? rc : kl_managed_open(a, scale, &s, err);
    rc = rc ? rc : kl_managed_read_all(&s, err);
    if (rc)
        return rc;
    const struct kl_fieldset *path = kl_fieldset_of(a, "spec.replicas");
    for (size_t i = 0; i < x.n; i++) {
        struct kl_manager *m = &x.m[i], *there;
        if (!is_version(res, m->api_version)) {
            m->gone = true;
        } else if (has_replicas(m->set)) {
            if ((there = same_manager(&s, m)))
                there->gone = true; // it still has it
            else
                kl_manager_set(m, kl_fieldset_difference(a, m->set, path));
        }
    }
    for (size_t i = 0; i < s.n; i++) {
        if (s.m[i].gone || !has_replicas(s.m[i].set))
            continue;
        struct kl_manager m = s.m[i];
        m.api_version = kl_str(res->api_version);
        m.has_time = false; // as upstream leaves it
        kl_manager_set(&m, path);
        if (!kl_managed_add(&x, &m))
            return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    return kl_managed_close(&x, ret, err);
}
