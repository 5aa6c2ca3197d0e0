// SPDX-License-Identifier: Apache-2.0
// NamespaceLifecycle, NamespaceExists.
#include "apiserver/admission/plugins_int.h"

static int immortal(struct kl_admit *ad)
{
    static const char *const names[] = {"default", "kube-system", "kube-public"};
    struct kl_str name = ad->old ? kl_meta_name(ad->old) : ad->name;
    for (size_t i = 0; i < KL_COUNT(names); i++)
        if (kl_str_eqz(name, names[i]))
            return kl_admit_forbid(ad, "this namespace may not be deleted");
    return 0;
}

static int terminating(struct kl_admit *ad)
{
    struct kl_req *r = ad->r;
    int rc = kl_admit_forbid(ad,
                             "unable to create new content in namespace %.*s because it is being "
                             "terminated",
                             KL_PRI(ad->ns));
    if (rc == KL_EFORBIDDEN && (r->fail.causes = KL_ARENA_NEW(r->arena, struct kl_cause))) {
        r->fail.ncauses = 1;
        r->fail.causes[0] = (struct kl_cause){
            KL_STR("NamespaceTerminating"),
            kl_arena_printf(r->arena, "namespace %.*s is being terminated", KL_PRI(ad->ns)),
            KL_STR("metadata.namespace")};
    }
    return rc;
}

static int must_exist(struct kl_admit *ad, struct kl_object **ret)
{
    *ret = kl_admit_find(ad->r, KL_RES_core_v1_namespaces, KL_STR(""), ad->ns);
    if (*ret)
        return 0;
    kl_fail_not_found_of(ad->r, KL_STR(""), KL_STR("namespaces"), ad->ns);
    return KL_ENOTFOUND;
}

int kl_namespace_lifecycle_mutate(struct kl_admit *ad)
{
    bool is_namespace = kl_admit_of(ad, KL_RES_core_v1_namespaces);
    struct kl_object *ns;
    if (is_namespace)
        return ad->op == KL_ADMIT_DELETE && !ad->sub.n ? immortal(ad) : 0;
    // Whoever asks for a review may learn nothing about the namespace.
    if (!ad->res->namespaced || ad->op == KL_ADMIT_DELETE ||
        !strcmp(ad->res->plural, "localsubjectaccessreviews"))
        return 0;
    int rc = must_exist(ad, &ns);
    if (rc || ad->op != KL_ADMIT_CREATE ||
        !kl_str_eqz(kl_text_at(&ns->root, KL_F_status, KL_F_phase), "Terminating"))
        return rc;
    return terminating(ad);
}

int kl_namespace_exists_validate(struct kl_admit *ad)
{
    struct kl_object *ns;
    if (!ad->ns.n || kl_admit_of(ad, KL_RES_core_v1_namespaces))
        return 0;
    return must_exist(ad, &ns);
}
