// SPDX-License-Identifier: Apache-2.0
#include "controllers/deletable.h"
#include <string.h>

bool kl_is_served_kind(const struct kl_controller_env *env, const struct kl_resource *res)
{
    return env->serves ? env->serves(env->serves_arg, res) : res->enabled;
}

static bool is_default(const struct kl_resource *r)
{
    return r->enabled && r->preferred;
}

// Where the version stands among those of its group.
static size_t place(const struct kl_resource *r)
{
    size_t i = 0;
    for (uint16_t g = 0; g < kl_ngroups; g++)
        if (!strcmp(kl_groups[g].name, r->group))
            while (kl_groups[g].versions[i] && strcmp(kl_groups[g].versions[i], r->version) != 0)
                i++;
    return i;
}

// Of two rows that show the same stored objects.
static bool goes_before(const struct kl_resource *a, const struct kl_resource *b)
{
    if (is_default(a) != is_default(b))
        return is_default(a);
    if (!strcmp(a->group, b->group) && !is_default(a))
        return place(a) < place(b);
    return a->index < b->index;
}

static bool is_shown_elsewhere(const struct kl_controller_env *env, const struct kl_resource *r)
{
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *other = kl_res(i);
        if (other != r && other->etcd_prefix && !strcmp(other->etcd_prefix, r->etcd_prefix) &&
            kl_is_served_kind(env, other) && goes_before(other, r))
            return true;
    }
    return false;
}

const struct kl_resource *kl_deletable_next(const struct kl_controller_env *env, uint16_t *it,
                                            uint32_t verbs)
{
    while (*it < kl_nresources) {
        const struct kl_resource *r = kl_res((*it)++);
        if (r->type && r->etcd_prefix && (r->verbs & verbs) == verbs && kl_is_served_kind(env, r) &&
            !is_shown_elsewhere(env, r))
            return r;
    }
    return NULL;
}

const struct kl_resource *kl_optional_kind(const struct kl_controller_env *env, struct kl_str group,
                                           struct kl_str version, struct kl_str kind)
{
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *r = kl_res(i);
        if (!r->enabled && kl_str_eqz(kind, r->kind) && kl_str_eqz(version, r->version) &&
            kl_str_eqz(group, r->group) && kl_is_served_kind(env, r))
            return r;
    }
    return NULL;
}
