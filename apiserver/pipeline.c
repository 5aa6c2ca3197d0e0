// SPDX-License-Identifier: Apache-2.0
// From an authenticated request to what answers it.
#include "apiserver/auth.h"
#include "apiserver/strategy.h"

// What the path names, or the refusal.
static int check_target(struct kl_req *r)
{
    const struct kl_req_info *i = &r->info;
    if (!i->res || (i->sub.n && !i->subres)) {
        kl_fail_set(r, 404, "NotFound", "the server could not find the requested resource");
        return KL_ENOTFOUND;
    }
    uint32_t verbs = i->subres ? i->subres->verbs : i->res->verbs;
    if (i->op == KL_VERB_COUNT || !(verbs & KL_VERB_BIT(i->op)))
        return kl_fail_method(r), KL_EMETHOD;
    if (i->res->namespaced && !i->ns.n && i->op != KL_VERB_LIST && i->op != KL_VERB_WATCH &&
        i->op != KL_VERB_DELETECOLLECTION) {
        if (i->op == KL_VERB_CREATE && !i->res->etcd_prefix)
            return 0; // reviews may be cluster-scoped
        return kl_fail_method(r), KL_EMETHOD;
    }
    if (i->op == KL_VERB_CREATE && i->name.n && !i->sub.n)
        return kl_fail_method(r), KL_EMETHOD;
    if (!i->name.n && (i->op == KL_VERB_UPDATE || i->op == KL_VERB_PATCH))
        return kl_fail_method(r), KL_EMETHOD;
    return 0;
}

int kl_pipeline_check(struct kl_req *r)
{
    if (!kl_authorize_req(r))
        return KL_EFORBIDDEN;
    return check_target(r);
}

void kl_pipeline_dispatch(struct kl_req *r)
{
    if (!r->info.res->etcd_prefix) {
        if (!kl_virtual_run(r)) {
            kl_fail_method(r);
            kl_req_fail(r);
        }
        return;
    }
    if (r->info.sub.n && kl_subresource_run(r))
        return;
    switch (r->info.op) {
    case KL_VERB_GET:
        kl_registry_get(r);
        break;
    case KL_VERB_CREATE:
        kl_registry_create(r);
        break;
    case KL_VERB_UPDATE:
        kl_registry_update(r);
        break;
    case KL_VERB_PATCH:
        kl_registry_patch(r);
        break;
    case KL_VERB_DELETE:
        kl_registry_delete(r);
        break;
    case KL_VERB_DELETECOLLECTION:
        kl_registry_delete_collection(r);
        break;
    default:
        kl_fail_method(r);
        kl_req_fail(r);
        break;
    }
}
