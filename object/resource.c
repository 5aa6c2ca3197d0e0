// SPDX-License-Identifier: Apache-2.0
// Look-ups in the table of resources. It is small: a walk comparing the plural first is quick, and
// what is asked for each request keeps its row.
#include "object/resource.h"

const char *const kl_verb_names[KL_VERB_COUNT] = {
    [KL_VERB_GET] = "get",       [KL_VERB_LIST] = "list",
    [KL_VERB_WATCH] = "watch",   [KL_VERB_CREATE] = "create",
    [KL_VERB_UPDATE] = "update", [KL_VERB_PATCH] = "patch",
    [KL_VERB_DELETE] = "delete", [KL_VERB_DELETECOLLECTION] = "deletecollection",
};

static bool is_served(const struct kl_resource *r, struct kl_str group, struct kl_str version)
{
    return r->enabled && kl_str_eqz(group, r->group) && kl_str_eqz(version, r->version);
}

const struct kl_resource *kl_resource_find(struct kl_str group, struct kl_str version,
                                           struct kl_str plural)
{
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *r = &kl_resources[i];
        if (kl_str_eqz(plural, r->plural) && is_served(r, group, version))
            return r;
    }
    return NULL;
}

const struct kl_resource *kl_resource_by_kind(struct kl_str group, struct kl_str version,
                                              struct kl_str kind)
{
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *r = &kl_resources[i];
        if (kl_str_eqz(kind, r->kind) && is_served(r, group, version))
            return r;
    }
    return NULL;
}

const struct kl_resource *kl_resource_storage(const struct kl_resource *r)
{
    if (!r->storage_version ||
        (strcmp(r->version, r->storage_version) == 0 && strcmp(r->group, r->storage_group) == 0))
        return r;
    // A storage version that is not served (v1beta1 of CRDs) has no row: the row itself then.
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *s = &kl_resources[i];
        if (strcmp(s->kind, r->kind) == 0 && strcmp(s->group, r->storage_group) == 0 &&
            strcmp(s->version, r->storage_version) == 0 && s->type)
            return s;
    }
    return r;
}

const struct kl_subresource *kl_resource_sub(const struct kl_resource *r, struct kl_str name)
{
    for (uint16_t i = 0; i < r->nsubresources; i++)
        if (kl_str_eqz(name, r->subresources[i].name))
            return &r->subresources[i];
    return NULL;
}
