// SPDX-License-Identifier: Apache-2.0
// Publishes the cluster's CA as ConfigMap kube-root-ca.crt in every namespace
// (upstream: pkg/controller/certificates/rootcacertpublisher).
#include "controllers/controllers_int.h"
#include <stdlib.h>

#define NAME "kube-root-ca.crt"
#define DESCRIPTION                                                                                \
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "      \
    "endpoints such as the internal service IP or kubernetes.default.svc. No other usage is "      \
    "guaranteed across distributions of Kubernetes clusters."

struct publisher {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *namespaces, *maps;
    struct kl_handler ns_handler, map_handler;
};

static void fill(struct kl_arena *a, struct kl_value *map, struct kl_str ca)
{
    struct kl_value data = kl_new_map();
    kl_map_set_value(a, &data, KL_STR("ca.crt"), kl_string(ca));
    kl_set(a, map, KL_F_data, data);
    kl_set_annotation(a, map, "kubernetes.io/description", KL_STR(DESCRIPTION));
}

static bool is_right(const struct kl_value *map, struct kl_str ca)
{
    const struct kl_value *data = kl_get(map, KL_F_data);
    return kl_len(data) == 1 && kl_str_eq(kl_text(kl_map_value(data, KL_STR("ca.crt"))), ca) &&
           kl_annotation(map, "kubernetes.io/description").n;
}

static void decide(struct kl_plan *p)
{
    struct publisher *c = p->arg;
    struct kl_arena *a = &p->arena;
    struct kl_object *ns = kl_informer_get_key(c->namespaces, p->key);
    if (!ns || kl_str_eqz(kl_text_at(&ns->root, KL_F_status, KL_F_phase), "Terminating"))
        return;
    struct kl_object *map = kl_plan_hold(p, kl_informer_get(c->maps, p->key, KL_STR(NAME)));
    struct kl_action *write;
    if (!map) {
        struct kl_value draft = kl_new_struct(), meta = kl_new_struct();
        kl_set_z(a, &meta, KL_F_name, NAME);
        kl_set_str(a, &meta, KL_F_namespace, p->key);
        kl_set(a, &draft, KL_F_metadata, meta);
        fill(a, &draft, c->env.root_ca_pem);
        write = kl_plan_write(p, KL_VERB_CREATE, kl_res(KL_RES_core_v1_configmaps), NULL, &draft);
    } else if (!is_right(&map->root, c->env.root_ca_pem)) {
        struct kl_value draft = kl_object_draft(map);
        fill(a, &draft, c->env.root_ca_pem);
        write = kl_plan_write(p, KL_VERB_UPDATE, kl_res(KL_RES_core_v1_configmaps), NULL, &draft);
    } else {
        return;
    }
    if (write)
        write->ok_errors = KL_OK_ERROR(KL_EEXISTS) | KL_OK_ERROR(KL_ENOTFOUND);
}

static void on_namespace(struct kl_handler *h, struct kl_object *ns)
{
    struct publisher *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &ns->root);
}

static void on_namespace_update(struct kl_handler *h, struct kl_object *old, struct kl_object *ns)
{
    on_namespace(h, ns);
}

static void on_map(struct kl_handler *h, struct kl_object *map)
{
    struct publisher *c = h->arg;
    if (kl_str_eqz(kl_meta_name(&map->root), NAME))
        kl_reconciler_add(c->reconciler, kl_meta_namespace(&map->root));
}

static void on_map_update(struct kl_handler *h, struct kl_object *old, struct kl_object *map)
{
    on_map(h, map);
}

static void stop(void *self)
{
    struct publisher *c = self;
    if (c->namespaces)
        kl_informer_remove_handler(c->namespaces, &c->ns_handler);
    if (c->maps)
        kl_informer_remove_handler(c->maps, &c->map_handler);
    kl_reconciler_free(c->reconciler);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    if (!env->root_ca_pem.n) {
        *ret = NULL;
        return 0;
    }
    struct publisher *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "root CA publisher: out of memory");
    c->env = *env;
    c->namespaces = kl_informers_get(env->informers, kl_res(KL_RES_core_v1_namespaces));
    // Only the published ones are kept, not every ConfigMap of the cluster.
    c->maps = kl_informers_get_selected(env->informers, kl_res(KL_RES_core_v1_configmaps),
                                        KL_STR("metadata.name=" NAME));
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){
        .name = "root-ca",
        .client = env->client,
        .timers = env->timers,
        .workers = 1,
        .decide = decide,
        .arg = c,
    });
    if (!c->namespaces || !c->maps || !c->reconciler ||
        kl_reconciler_needs(c->reconciler, c->namespaces) < 0 ||
        kl_reconciler_needs(c->reconciler, c->maps) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "root CA publisher: out of memory");
    }
    c->ns_handler =
        (struct kl_handler){.add = on_namespace, .update = on_namespace_update, .arg = c};
    c->map_handler = (struct kl_handler){.update = on_map_update, .remove = on_map, .arg = c};
    kl_informer_add_handler(c->namespaces, &c->ns_handler);
    kl_informer_add_handler(c->maps, &c->map_handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct publisher *)self)->reconciler);
}

const struct kl_controller kl_root_ca_controller = {
    .name = "root-ca-certificate-publisher",
    .user = "system:serviceaccount:kube-system:root-ca-cert-publisher",
    .component = "root-ca-cert-publisher",
    .start = start,
    .stop = stop,
    .idle = idle,
};
