// SPDX-License-Identifier: Apache-2.0
#include "controllers/deletable.h"
#include <string.h>

// Several groups may show the same stored objects (events): the first row speaks for all.
static bool is_shown_before(uint16_t index)
{
    const struct kl_resource *r = kl_res(index);
    for (uint16_t i = 0; i < index; i++) {
        const struct kl_resource *other = kl_res(i);
        if (other->enabled && other->preferred && other->etcd_prefix &&
            strcmp(other->etcd_prefix, r->etcd_prefix) == 0)
            return true;
    }
    return false;
}

const struct kl_resource *kl_deletable_next(uint16_t *it, uint32_t verbs)
{
    while (*it < kl_nresources) {
        uint16_t index = (*it)++;
        const struct kl_resource *r = kl_res(index);
        if (r->enabled && r->preferred && r->etcd_prefix && (r->verbs & verbs) == verbs &&
            !is_shown_before(index))
            return r;
    }
    return NULL;
}

static bool has_default(const struct kl_resource *r)
{
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *other = kl_res(i);
        if (other->enabled && other->etcd_prefix && !strcmp(other->etcd_prefix, r->etcd_prefix))
            return true;
    }
    return false;
}

const struct kl_resource *kl_deletable_optional(uint16_t *it, uint32_t verbs)
{
    while (*it < kl_nresources) {
        const struct kl_resource *r = kl_res((*it)++);
        if (!r->enabled && r->type && r->etcd_prefix && (r->verbs & verbs) == verbs &&
            kl_resource_storage(r) == r && !has_default(r))
            return r;
    }
    return NULL;
}
