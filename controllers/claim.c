// SPDX-License-Identifier: Apache-2.0
#include "controllers/claim.h"

static struct kl_action *plan_patch(struct kl_plan *p, const struct kl_claim *c,
                                    const struct kl_value *object, struct kl_str patch)
{
    struct kl_action *a = kl_plan_call(p, KL_VERB_PATCH, c->res, NULL, kl_meta_namespace(object),
                                       kl_meta_name(object));
    if (!a)
        return NULL;
    a->call.patch_type = KL_PATCH_STRATEGIC;
    a->call.patch = patch;
    a->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    return a;
}

static struct kl_str finalizer_text(struct kl_plan *p, const struct kl_claim *c, const char *member)
{
    return c->finalizer ? kl_arena_printf(&p->arena, ",\"%s\":[\"%s\"]", member, c->finalizer)
                        : KL_STR("");
}

struct kl_action *kl_claim_adopt(struct kl_plan *p, const struct kl_claim *c,
                                 const struct kl_value *object)
{
    struct kl_str name = kl_meta_name(c->owner), uid = kl_meta_uid(c->owner);
    return plan_patch(
        p, c, object,
        kl_arena_printf(&p->arena,
                        "{\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"%s\",\"kind\":"
                        "\"%s\",\"name\":\"%.*s\",\"uid\":\"%.*s\",\"controller\":true,"
                        "\"blockOwnerDeletion\":true}],\"uid\":\"%.*s\"%.*s}}",
                        c->owner_res->api_version, c->owner_res->kind, KL_PRI(name), KL_PRI(uid),
                        KL_PRI(kl_meta_uid(object)), KL_PRI(finalizer_text(p, c, "finalizers"))));
}

struct kl_action *kl_claim_release(struct kl_plan *p, const struct kl_claim *c,
                                   const struct kl_value *object)
{
    struct kl_str text = finalizer_text(p, c, "$deleteFromPrimitiveList/finalizers");
    struct kl_action *a = plan_patch(
        p, c, object,
        kl_arena_printf(&p->arena,
                        "{\"metadata\":{\"uid\":\"%.*s\",\"ownerReferences\":["
                        "{\"$patch\":\"delete\",\"uid\":\"%.*s\"}]%.*s}}",
                        KL_PRI(kl_meta_uid(object)), KL_PRI(kl_meta_uid(c->owner)), KL_PRI(text)));
    if (a) // it has no such owner any more, or is another by now
        a->ok_errors |= KL_OK_ERROR(KL_EINVALID);
    return a;
}

struct kl_action *kl_claim_recheck(struct kl_plan *p, const struct kl_claim *c)
{
    return kl_plan_call(p, KL_VERB_GET, c->owner_res, NULL, kl_meta_namespace(c->owner),
                        kl_meta_name(c->owner));
}

bool kl_claim_may_adopt(struct kl_plan *p, const struct kl_claim *c,
                        const struct kl_action *recheck)
{
    const struct kl_object *fresh = recheck ? recheck->call.object : NULL;
    if (p->err.code)
        return false;
    if (!fresh || !kl_str_eq(kl_meta_uid(&fresh->root), kl_meta_uid(c->owner))) {
        kl_error_set(&p->err, KL_ECONFLICT, "original %s %.*s is gone", c->owner_res->kind,
                     KL_PRI(p->key));
        return false;
    }
    return !kl_meta_deleting(&fresh->root);
}
