// SPDX-License-Identifier: Apache-2.0
// NamespaceAutoProvision, NamespaceLifecycle, NamespaceExists.
#include "apiserver/admission/plugins_int.h"
#include "client/client.h"

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

// ---- NamespaceAutoProvision: a namespace that is used is made first

struct provision {
    struct kl_admit *ad;
    struct kl_client *client;
    struct kl_call call;
};

static void provisioned(struct kl_call *call)
{
    struct provision *p = KL_CONTAINER_OF(call, struct provision, call);
    struct kl_admit *ad = p->ad;
    int rc = call->err.code == KL_EEXISTS ? 0 : call->err.code;
    if (rc == KL_EFORBIDDEN) // NewForbidden does not wrap its like
        kl_fail_err(ad->r, &call->err);
    else if (rc)
        rc = kl_admit_forbid(ad, "%s", call->err.msg);
    kl_object_unref(call->body);
    kl_call_fini(call);
    kl_client_free(p->client);
    kl_admit_resume(ad, rc);
}

int kl_namespace_provision_mutate(struct kl_admit *ad)
{
    static const char *const groups[] = {"system:masters", NULL};
    struct kl_arena *a = ad->r->arena;
    const struct kl_resource *res = kl_res(KL_RES_core_v1_namespaces);
    if (!ad->may_wait || ad->dry_run || !ad->ns.n || kl_admit_of(ad, KL_RES_core_v1_namespaces) ||
        kl_admit_find(ad->r, KL_RES_core_v1_namespaces, KL_STR(""), ad->ns))
        return 0;
    struct provision *p = KL_ARENA_NEW(a, struct provision);
    struct kl_value v = kl_new_struct(), *meta = kl_edit(a, &v, KL_F_metadata, KL_STRUCT);
    if (!p || !meta || kl_set(a, meta, KL_F_name, kl_string(ad->ns)))
        return kl_admit_oom(ad);
    p->ad = ad;
    p->call = (struct kl_call){.verb = KL_VERB_CREATE, .res = res, .done_cb = provisioned};
    p->client = kl_apiserver_client(ad->r->srv, ad->r->al->loop, "system:apiserver", groups,
                                    "kube-apiserver");
    if (!p->client || !(p->call.body = kl_object_freeze(res->type, &v))) {
        kl_client_free(p->client);
        return kl_admit_oom(ad);
    }
    kl_client_start(p->client, &p->call);
    return KL_ADMIT_WAIT;
}

int kl_namespace_exists_validate(struct kl_admit *ad)
{
    struct kl_object *ns;
    if (!ad->ns.n || kl_admit_of(ad, KL_RES_core_v1_namespaces))
        return 0;
    return must_exist(ad, &ns);
}
