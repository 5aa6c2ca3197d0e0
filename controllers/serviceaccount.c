// SPDX-License-Identifier: Apache-2.0
// Keeps the ServiceAccount "default" in every active namespace
// (upstream: pkg/controller/serviceaccount/serviceaccounts_controller.go).
#include "controllers/controllers_int.h"
#include <stdlib.h>

struct accounts {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *namespaces, *accounts;
    struct kl_handler ns_handler, account_handler;
};

static void decide(struct kl_plan *p)
{
    struct accounts *c = p->arg;
    struct kl_arena *a = &p->arena;
    struct kl_object *ns = kl_informer_get_key(c->namespaces, p->key);
    if (!ns || !kl_str_eqz(kl_text_at(&ns->root, KL_F_status, KL_F_phase), "Active") ||
        kl_informer_get(c->accounts, p->key, KL_STR("default")))
        return;
    struct kl_value account = kl_new_struct(), meta = kl_new_struct();
    kl_set_z(a, &meta, KL_F_name, "default");
    kl_set_str(a, &meta, KL_F_namespace, p->key);
    kl_set(a, &account, KL_F_metadata, meta);
    struct kl_action *create =
        kl_plan_write(p, KL_VERB_CREATE, kl_res(KL_RES_core_v1_serviceaccounts), NULL, &account);
    // The namespace may have gone since. One that has begun to go refuses; the retry sees why.
    if (create)
        create->ok_errors = KL_OK_ERROR(KL_EEXISTS) | KL_OK_ERROR(KL_ENOTFOUND);
}

static void on_namespace(struct kl_handler *h, struct kl_object *ns)
{
    struct accounts *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &ns->root);
}

static void on_namespace_update(struct kl_handler *h, struct kl_object *old, struct kl_object *ns)
{
    on_namespace(h, ns);
}

static void on_account_remove(struct kl_handler *h, struct kl_object *account)
{
    struct accounts *c = h->arg;
    kl_reconciler_add(c->reconciler, kl_meta_namespace(&account->root));
}

static void stop(void *self)
{
    struct accounts *c = self;
    if (c->namespaces)
        kl_informer_remove_handler(c->namespaces, &c->ns_handler);
    if (c->accounts)
        kl_informer_remove_handler(c->accounts, &c->account_handler);
    kl_reconciler_free(c->reconciler);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct accounts *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "serviceaccount controller: out of memory");
    c->env = *env;
    c->namespaces = kl_informers_get(env->informers, kl_res(KL_RES_core_v1_namespaces));
    c->accounts = kl_informers_get(env->informers, kl_res(KL_RES_core_v1_serviceaccounts));
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){
        .name = "serviceaccount",
        .client = env->client,
        .timers = env->timers,
        .workers = 1,
        .decide = decide,
        .arg = c,
    });
    if (!c->namespaces || !c->accounts || !c->reconciler ||
        kl_reconciler_needs(c->reconciler, c->namespaces) < 0 ||
        kl_reconciler_needs(c->reconciler, c->accounts) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "serviceaccount controller: out of memory");
    }
    c->ns_handler =
        (struct kl_handler){.add = on_namespace, .update = on_namespace_update, .arg = c};
    c->account_handler = (struct kl_handler){.remove = on_account_remove, .arg = c};
    kl_informer_add_handler(c->namespaces, &c->ns_handler);
    kl_informer_add_handler(c->accounts, &c->account_handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct accounts *)self)->reconciler);
}

const struct kl_controller kl_serviceaccount_controller = {
    .name = "serviceaccount",
    .user = "system:serviceaccount:kube-system:service-account-controller",
    .component = "serviceaccount-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
