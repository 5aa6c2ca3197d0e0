// SPDX-License-Identifier: Apache-2.0
// From an authenticated request to what answers it.
#include "apiserver/auth/auth.h"
#include "apiserver/proxy/proxy.h"
#include "apiserver/strategy.h"
#include "object/names.h"

static int no_such_path(struct kl_req *r)
{
    kl_fail_set(r, 404, "NotFound", "the server could not find the requested resource");
    return KL_ENOTFOUND;
}

// A path segment that would leave its place in the store's key (generic registry's key functions).
static int check_name(struct kl_req *r, const char *what, struct kl_str name)
{
    const char *why = name.n ? kl_name_path_segment(name) : NULL;
    if (!why)
        return 0;
    kl_fail_bad(r, "%s parameter invalid: \"%.*s\": %s", what, KL_PRI(name), why);
    return KL_EBADREQUEST;
}

// A custom kind's handler names the verb; built-in routes have the path or have it not.
static int no_such_method(struct kl_req *r)
{
    const struct kl_req_info *i = &r->info;
    if (!i->res->custom || i->op >= KL_VERB_COUNT)
        return kl_fail_method(r), KL_EMETHOD;
    struct kl_fail *f = kl_fail_set(r, 405, "MethodNotAllowed",
                                    "%s is not supported on resources of kind \"%s.%s\"",
                                    kl_verb_names[i->op], i->res->plural, i->res->group);
    f->group = kl_str(i->res->group);
    f->kind = kl_str(i->res->plural);
    return KL_EMETHOD;
}

// What the path names, or the refusal.
static int check_target(struct kl_req *r)
{
    const struct kl_req_info *i = &r->info;
    int rc;
    if (i->res && i->res->custom && !kl_req_in_scope(i))
        return no_such_path(r);
    if (i->res && i->res->custom && i->sub.n && !i->subres)
        return kl_fail_not_found(r), KL_ENOTFOUND;
    if (!i->res || (i->sub.n && !i->subres))
        return no_such_path(r);
    bool in_ns = i->ns.n && i->res->namespaced;
    // The one path of a cluster-scoped resource with a namespace in it is the namespace's own.
    if (i->ns.n && !in_ns &&
        !(i->res->index == KL_RES_core_v1_namespaces && kl_str_eq(i->ns, i->name)))
        return no_such_path(r);
    uint32_t verbs = i->subres ? i->subres->verbs : i->res->verbs;
    bool passed_on = i->is_options && kl_is_proxy(i);
    if (!passed_on && (i->op == KL_VERB_COUNT || !(verbs & KL_VERB_BIT(i->op))))
        return no_such_method(r);
    if (i->res->namespaced && !in_ns && i->name.n)
        return no_such_path(r);
    // Over all namespaces one can only list and watch.
    if (i->res->namespaced && !in_ns && i->op != KL_VERB_LIST && i->op != KL_VERB_WATCH)
        return kl_fail_method(r), KL_EMETHOD;
    if (i->op == KL_VERB_CREATE && i->name.n && !i->sub.n)
        return kl_fail_method(r), KL_EMETHOD;
    if (!i->name.n && (i->op == KL_VERB_UPDATE || i->op == KL_VERB_PATCH))
        return kl_fail_method(r), KL_EMETHOD;
    if ((rc = check_name(r, "Namespace", i->ns)) || (rc = check_name(r, "Name", i->name)))
        return rc;
    return 0;
}

int kl_pipeline_check(struct kl_req *r)
{
    if (!kl_authorize_req(r))
        return KL_EFORBIDDEN;
    return check_target(r);
}

static void get_newest(void *arg, int code)
{
    struct kl_req *r = arg;
    if (code)
        kl_req_fail(r);
    else if (r->opts.resource_version.n || !kl_req_confirm(r, get_newest, r))
        kl_registry_get(r);
}

void kl_pipeline_dispatch(struct kl_req *r)
{
    if (!r->dispatched) {
        r->asked_done = r->done;
        r->asked_nwarnings = r->nwarnings;
    }
    r->dispatched = true;
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
        get_newest(r, 0);
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
