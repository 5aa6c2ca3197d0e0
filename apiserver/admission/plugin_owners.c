// SPDX-License-Identifier: Apache-2.0
// OwnerReferencesPermissionEnforcement: who gives an object owners must be allowed to delete it,
// and who lets it hold up its owner's deletion must be allowed to set finalizers there.
#include "apiserver/admission/plugins_int.h"
#include "apiserver/auth/auth.h"
#include "apiserver/crd/crd.h"

static const struct kl_value *owners_of(const struct kl_value *object)
{
    return kl_path(object, KL_F_metadata, KL_F_ownerReferences);
}

static bool blocks(const struct kl_value *owner)
{
    return kl_is_true(kl_get(owner, KL_F_blockOwnerDeletion));
}

static bool changes(const struct kl_admit *ad)
{
    const struct kl_value *now = owners_of(ad->object), *old = owners_of(ad->old);
    if (kl_len(now) != kl_len(old))
        return true;
    for (size_t i = 0; i < kl_len(now); i++)
        if (!kl_value_equal(kl_at(now, i), kl_at(old, i)))
            return true;
    return false;
}

// newBlockingOwnerDeletionRefs: the last of a uid counts, as in a map.
static bool newly_blocks(const struct kl_admit *ad, const struct kl_value *owner)
{
    bool was = false;
    for (KL_EACH(o, owners_of(ad->old)))
        if (kl_str_eq(kl_text(kl_get(o, KL_F_uid)), kl_text(kl_get(owner, KL_F_uid))))
            was = blocks(o);
    return blocks(owner) && !was;
}

static bool may(struct kl_admit *ad, struct kl_attrs *t, struct kl_str *ret_why)
{
    t->user = ad->r->user;
    t->ask = &ad->r->ask;
    t->is_resource = true;
    return kl_authorize(ad->r->al, ad->r->arena, t, ret_why);
}

static int may_finalize(struct kl_admit *ad, const struct kl_value *owner,
                        const struct kl_resource *res)
{
    struct kl_str why;
    struct kl_attrs t = {.verb = KL_STR("update"),
                         .group = kl_str(res->group),
                         .version = kl_str(res->version),
                         .plural = kl_str(res->plural),
                         .sub = KL_STR("finalizers"),
                         .name = kl_text(kl_get(owner, KL_F_name)),
                         .ns = res->namespaced ? ad->ns : KL_STR("")};
    if (may(ad, &t, &why))
        return 0;
    return kl_admit_forbid(
        ad,
        "cannot set blockOwnerDeletion if an ownerReference refers to a resource "
        "you can't set finalizers on: %.*s, <nil>",
        KL_PRI(why));
}

static int no_mapping(struct kl_admit *ad, struct kl_str api_version, struct kl_str kind,
                      struct kl_str why)
{
    return kl_admit_forbid(ad,
                           "cannot set blockOwnerDeletion in this case because cannot find "
                           "RESTMapping for APIVersion %.*s Kind %.*s: %.*s",
                           KL_PRI(api_version), KL_PRI(kind), KL_PRI(why));
}

// The owner says its kind only: whatever resources have it must be the user's to finalize.
static int check_owner(struct kl_admit *ad, const struct kl_value *owner)
{
    struct kl_arena *a = ad->r->arena;
    struct kl_str api = kl_text(kl_get(owner, KL_F_apiVersion)),
                  kind = kl_text(kl_get(owner, KL_F_kind));
    ptrdiff_t slash = kl_str_chr(api, '/');
    struct kl_str group = {api.p, slash < 0 ? 0 : (size_t)slash};
    struct kl_str version = kl_str_from(api, slash < 0 ? 0 : (size_t)slash + 1);
    if (kl_str_chr(version, '/') >= 0)
        return no_mapping(ad, api, kind,
                          kl_arena_printf(a, "unexpected GroupVersion string: %.*s", KL_PRI(api)));
    const struct kl_resource *res = kl_resource_by_kind(group, version, kind);
    if (res)
        return may_finalize(ad, owner, res);
    size_t n, found = 0;
    struct kl_crd_row *rows = group.n ? kl_crds_rows(ad->r->al, a, group, &n) : NULL;
    for (size_t i = 0; rows && i < n; i++) {
        if (!kl_str_eqz(kind, rows[i].res->kind) || !kl_str_eqz(version, rows[i].res->version))
            continue;
        int rc = may_finalize(ad, owner, rows[i].res);
        if (rc)
            return rc;
        found++;
    }
    return found ? 0
                 : no_mapping(ad, api, kind,
                              kl_arena_printf(a, "no matches for kind \"%.*s\" in version \"%.*s\"",
                                              KL_PRI(kind), KL_PRI(api)));
}

int kl_owners_validate(struct kl_admit *ad)
{
    struct kl_str why;
    bool any = false;
    int rc = 0;
    // Old kubelets send broken ones; nothing comes of them there.
    if ((kl_admit_of(ad, KL_RES_core_v1_pods) && kl_admit_sub(ad, "status")) || !changes(ad))
        return 0;
    if (ad->op != KL_ADMIT_CREATE) {
        struct kl_attrs t = {.verb = KL_STR("delete"),
                             .group = kl_str(ad->res->group),
                             .version = kl_str(ad->res->version),
                             .plural = kl_str(ad->res->plural),
                             .sub = ad->sub,
                             .name = ad->name,
                             .ns = ad->ns};
        if (!may(ad, &t, &why))
            return kl_admit_forbid(
                ad, "cannot set an ownerRef on a resource you can't delete: %.*s, <nil>",
                KL_PRI(why));
    }
    for (KL_EACH(o, owners_of(ad->object)))
        any |= newly_blocks(ad, o);
    struct kl_attrs all = {.verb = KL_STR("update"),
                           .group = KL_STR("*"),
                           .version = KL_STR("*"),
                           .plural = KL_STR("*"),
                           .sub = KL_STR("finalizers"),
                           .name = KL_STR("*")};
    if (!any || may(ad, &all, &why))
        return 0;
    for (KL_EACH(o, owners_of(ad->object)))
        if (newly_blocks(ad, o) && (rc = check_owner(ad, o)))
            return rc;
    return 0;
}
