// SPDX-License-Identifier: Apache-2.0
#include "controllers/finalizer.h"

bool kl_has_finalizer(const struct kl_value *root, const char *finalizer)
{
    return kl_has_text(kl_path(root, KL_F_metadata, KL_F_finalizers), kl_str(finalizer));
}

struct kl_action *kl_plan_finalizer(struct kl_plan *p, const struct kl_resource *res,
                                    struct kl_object *o, const char *finalizer, bool with)
{
    struct kl_arena *a = &p->arena;
    struct kl_value draft = kl_object_draft(kl_plan_hold(p, o)), list = kl_new_array();
    int rc = 0;
    for (KL_EACH(f, kl_path(&o->root, KL_F_metadata, KL_F_finalizers)))
        if (!kl_str_eqz(kl_text(f), finalizer))
            rc |= kl_append(a, &list, *f);
    if (with)
        rc |= kl_append(a, &list, kl_stringz(finalizer));
    struct kl_value *meta = kl_edit(a, &draft, KL_F_metadata, KL_STRUCT);
    if (rc || !meta || kl_set(a, meta, KL_F_finalizers, list)) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return NULL;
    }
    struct kl_action *w = kl_plan_write(p, KL_VERB_UPDATE, res, NULL, &draft);
    if (w)
        w->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    return w;
}
