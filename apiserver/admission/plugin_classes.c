// SPDX-License-Identifier: Apache-2.0
// DefaultStorageClass, PersistentVolumeClaimResize, DefaultIngressClass.
#include "apiserver/admission/plugins_int.h"
#include "object/quantity.h"

#define BETA_CLASS KL_STR("volume.beta.kubernetes.io/storage-class")

static int set_class(struct kl_admit *ad, kl_sym field, struct kl_object *class)
{
    struct kl_arena *a = ad->r->arena;
    struct kl_value *spec = kl_edit(a, ad->draft, KL_F_spec, KL_STRUCT);
    struct kl_str name = kl_arena_dup(a, kl_meta_name(&class->root));
    if (!spec || !name.p || kl_set(a, spec, field, kl_string(name)))
        return kl_admit_oom(ad);
    return 0;
}

int kl_default_storage_class_mutate(struct kl_admit *ad)
{
    if (!kl_admit_is(ad, KL_RES_core_v1_persistentvolumeclaims) ||
        kl_map_value(kl_meta_annotations(ad->draft), BETA_CLASS) ||
        kl_path(ad->draft, KL_F_spec, KL_F_storageClassName))
        return 0;
    struct kl_object *best = NULL, *o;
    struct kl_admit_walk w;
    if (kl_admit_walk_init(&w, ad->r, KL_RES_storage_v1_storageclasses, KL_STR("")))
        return KL_ENOMEM;
    static const char *const keys[] = {"storageclass.kubernetes.io/is-default-class",
                                       "storageclass.beta.kubernetes.io/is-default-class"};
    while ((o = kl_admit_next(&w))) {
        bool is = false;
        for (size_t i = 0; i < KL_COUNT(keys); i++)
            is |= kl_str_eqz(kl_text(kl_map_value(kl_meta_annotations(&o->root), kl_str(keys[i]))),
                             "true");
        if (is && (!best || kl_int_at(&o->root, 0, KL_F_metadata, KL_F_creationTimestamp) >
                                kl_int_at(&best->root, 0, KL_F_metadata, KL_F_creationTimestamp)))
            best = o;
    }
    return best ? set_class(ad, KL_F_storageClassName, best) : 0;
}

int kl_default_ingress_class_mutate(struct kl_admit *ad)
{
    if (!kl_admit_is(ad, KL_RES_networking_v1_ingresses) ||
        kl_path(ad->draft, KL_F_spec, KL_F_ingressClassName) ||
        kl_map_value(kl_meta_annotations(ad->draft), KL_STR("kubernetes.io/ingress.class")))
        return 0;
    struct kl_object *best = kl_admit_default_class(ad->r, KL_RES_networking_v1_ingressclasses,
                                                    "ingressclass.kubernetes.io/is-default-class");
    return best ? set_class(ad, KL_F_ingressClassName, best) : 0;
}

// ---- PersistentVolumeClaimResize

static struct kl_quantity size_of(const struct kl_value *claim)
{
    struct kl_quantity q = {0};
    const struct kl_value *v =
        kl_map_value(kl_path(claim, KL_F_spec, KL_F_resources, KL_F_requests), KL_STR("storage"));
    if (!v || kl_quantity_parse(kl_text(v), &q, NULL))
        q = (struct kl_quantity){0};
    return q;
}

static struct kl_str class_of(const struct kl_value *claim)
{
    const struct kl_value *beta = kl_map_value(kl_meta_annotations(claim), BETA_CLASS);
    return beta ? kl_text(beta) : kl_text_at(claim, KL_F_spec, KL_F_storageClassName);
}

int kl_claim_resize_validate(struct kl_admit *ad)
{
    if (!kl_admit_is(ad, KL_RES_core_v1_persistentvolumeclaims))
        return 0;
    struct kl_quantity now = size_of(ad->object), was = size_of(ad->old);
    if (kl_quantity_cmp(&now, &was) <= 0)
        return 0;
    if (!kl_str_eqz(kl_text_at(ad->old, KL_F_status, KL_F_phase), "Bound"))
        return kl_admit_forbid(ad, "Only bound persistent volume claims can be expanded");
    struct kl_str class = class_of(ad->object);
    struct kl_object *sc =
        class.n && kl_str_eq(class, class_of(ad->old))
            ? kl_admit_find(ad->r, KL_RES_storage_v1_storageclasses, KL_STR(""), class)
            : NULL;
    if (sc && kl_is_true(kl_get(&sc->root, KL_F_allowVolumeExpansion)))
        return 0;
    return kl_admit_forbid(ad, "only dynamically provisioned pvc can be resized and the "
                               "storageclass that provisions the pvc must support resize");
}
