// SPDX-License-Identifier: Apache-2.0
// CONNECT: exec, attach, portforward and proxy are admitted with their options as the object,
// before anything is connected (handlers.ConnectResource).
#include "apiserver/admission/chain_int.h"
#include "apiserver/connect.h"
#include "apiserver/info.h"
#include "apiserver/proxy/proxy.h"

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

static int read_options(struct kl_api_call *c, const struct form *f, struct kl_value *ret)
{
    struct kl_req *r = &c->req;
    if (strcmp(f->sub, "proxy") != 0)
        return kl_connect_options(r, kl_http_query(c->hr), kl_type(f->type), ret);
    // The query is for the program that is reached.
    struct kl_str path = kl_proxy_path(r);
    *ret = kl_new_struct();
    if (!path.p || (path.n && kl_set(r->arena, ret, KL_F_path, kl_string(path)))) {
        kl_fail_oom(r);
        return KL_ENOMEM;
    }
    return 0;
}

static void on_close(void *arg, struct kl_http_req *hr, int status)
{
    ((struct connecting *)arg)->gone = true;
}

static void admitted(struct kl_admit *ad)
{
    struct connecting *x = KL_CONTAINER_OF(ad, struct connecting, ad);
    if (!x->gone) {
        kl_connect_run(x->call, ad->object);
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
        kl_connect_run(c, NULL);
        return;
    }
    if (kl_query_has(kl_http_query(c->hr), KL_STR("dryRun"))) {
        kl_fail_bad(r, "dryRun is not supported");
        kl_req_fail(r);
        return;
    }
    struct connecting *x = KL_ARENA_NEW(r->arena, struct connecting);
    if (!x)
        kl_fail_oom(r);
    if (!x || read_options(c, f, &x->options)) {
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
