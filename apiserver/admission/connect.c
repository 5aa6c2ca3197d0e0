// SPDX-License-Identifier: Apache-2.0
// CONNECT: exec, attach, portforward and proxy are admitted with their options as the object,
// before anything is connected (handlers.ConnectResource).
#include "apiserver/admission/chain_int.h"
#include "apiserver/info.h"

struct connecting {
    struct kl_admit ad;
    struct kl_api_call *call;
    struct kl_value options;
    bool gone; // the client went away
};

static const struct form {
    uint16_t res;
    const char *sub, *kind;
    enum kl_type_index type;
} forms[] = {
    {KL_RES_core_v1_pods, "exec", "PodExecOptions", KL_TYPE_core_v1_PodExecOptions},
    {KL_RES_core_v1_pods, "attach", "PodAttachOptions", KL_TYPE_core_v1_PodAttachOptions},
    {KL_RES_core_v1_pods, "portforward", "PodPortForwardOptions",
     KL_TYPE_core_v1_PodPortForwardOptions},
    {KL_RES_core_v1_pods, "proxy", "PodProxyOptions", KL_TYPE_core_v1_PodProxyOptions},
    {KL_RES_core_v1_services, "proxy", "ServiceProxyOptions", KL_TYPE_core_v1_ServiceProxyOptions},
    {KL_RES_core_v1_nodes, "proxy", "NodeProxyOptions", KL_TYPE_core_v1_NodeProxyOptions},
};

static const struct form *form_of(const struct kl_req *r)
{
    for (size_t i = 0; i < KL_COUNT(forms); i++)
        if (r->info.res == kl_res(forms[i].res) && kl_str_eqz(r->info.sub, forms[i].sub))
            return &forms[i];
    return NULL;
}

// A query's parameter as a member of the options.
static int put(struct kl_arena *a, struct kl_value *to, const struct kl_type *type,
               struct kl_str name, struct kl_str value)
{
    const struct kl_field *f = kl_type_field_named(type, name);
    struct kl_value *list;
    int64_t number;
    if (!f)
        return 0;
    switch (f->type->kind) {
    case KL_T_BOOLEAN:
        return kl_set(a, to, f->sym, kl_bool(kl_str_eqz(value, "true") || kl_str_eqz(value, "1")));
    case KL_T_STRING:
        return kl_set(a, to, f->sym, kl_string(value));
    case KL_T_ARRAY:
        list = kl_edit(a, to, f->sym, KL_ARRAY);
        if (f->type->elem->kind == KL_T_STRING)
            return list ? kl_append(a, list, kl_string(value)) : KL_ENOMEM;
        return list && kl_str_to_i64(value, &number) ? kl_append(a, list, kl_int(number)) : 0;
    default:
        return 0;
    }
}

static int read_options(struct kl_api_call *c, const struct form *f, struct kl_value *ret)
{
    struct kl_req *r = &c->req;
    struct kl_str query = kl_http_query(c->hr), n, v;
    *ret = kl_new_struct();
    while (kl_query_next(r->arena, &query, &n, &v))
        if (put(r->arena, ret, kl_type(f->type), n, v))
            return KL_ENOMEM;
    bool proxy = !strcmp(f->sub, "proxy");
    return proxy ? kl_set(r->arena, ret, KL_F_path, kl_string(r->info.rest)) : 0;
}

static void on_close(void *arg, struct kl_http_req *hr, int status)
{
    ((struct connecting *)arg)->gone = true;
}

static void admitted(struct kl_admit *ad)
{
    struct connecting *x = KL_CONTAINER_OF(ad, struct connecting, ad);
    if (!x->gone) {
        kl_connect_run(x->call);
        return;
    }
    kl_fail_set(ad->r, 503, "ServiceUnavailable", "the client went away");
    kl_req_fail(ad->r);
}

void kl_admit_connect(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    const struct form *f = form_of(r);
    if (!f) { // log: a GET
        kl_connect_run(c);
        return;
    }
    struct connecting *x = KL_ARENA_NEW(r->arena, struct connecting);
    if (!x || read_options(c, f, &x->options)) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    x->call = c;
    kl_admit_init(&x->ad, r, KL_ADMIT_CONNECT);
    kl_admit_own_kind(&x->ad, kl_type(f->type), "v1", f->kind);
    x->ad.draft = &x->options;
    kl_http_req_on_close(c->hr, on_close, x);
    kl_admit_run(&x->ad, admitted);
}
