// SPDX-License-Identifier: Apache-2.0
// The node's Lease in kube-node-lease: renewed at a quarter of its duration (component-helpers/
// apimachinery/lease).
#include "client/helpers.h"
#include "kubelet/node_int.h"
#include <stdlib.h>

enum { LEASE_RETRY_MS = 200, LEASE_RETRY_MAX_MS = 7000 };

struct lease_call {
    struct kl_call call;
    struct kl_node *n;
    struct kl_arena a;
};

static void send_lease(struct kl_node *n, enum kl_verb verb);

static void on_done(struct kl_call *call)
{
    struct lease_call *lc = call->arg;
    struct kl_node *n = lc->n;
    struct kl_kubelet *k = n->k;
    enum kl_verb verb = call->verb;
    int code = call->err.code;
    n->lease_writing = false;
    if (!code && call->object) {
        kl_object_unref(n->lease);
        n->lease = kl_object_ref(call->object);
    } else if (code == KL_ENOTFOUND || code == KL_ECONFLICT || code == KL_EEXISTS) {
        kl_object_unref(n->lease);
        n->lease = NULL;
    }
    if (code && code != KL_ENOTFOUND && code != KL_EEXISTS && !k->stopping)
        kl_log(KL_LOG_WARN, "kubelet", "node lease: %s", call->err.msg);
    kl_object_unref(call->body);
    kl_call_fini(call);
    kl_arena_fini(&lc->a);
    free(lc);
    if (!k->stopping) {
        if (verb == KL_VERB_GET && (!code || code == KL_ENOTFOUND))
            send_lease(n, code ? KL_VERB_CREATE : KL_VERB_UPDATE);
        else if (verb == KL_VERB_UPDATE && code == KL_ENOTFOUND) // deleted: made anew at once
            send_lease(n, KL_VERB_GET);
        else if (code == KL_ECONFLICT || code == KL_EEXISTS)
            kl_timer_after(k->timers, &n->lease_timer, LEASE_RETRY_MS);
        else
            kl_timer_after(k->timers, &n->lease_timer,
                           code ? 2000 : (int64_t)k->conf.lease_seconds * 250);
    }
    kl_kubelet_release(k);
}

static void send_lease(struct kl_node *n, enum kl_verb verb)
{
    struct kl_kubelet *k = n->k;
    struct lease_call *lc = calloc(1, sizeof(*lc));
    if (!lc)
        return;
    kl_arena_init(&lc->a, 1024 * 1024);
    lc->n = n;
    lc->call = (struct kl_call){.verb = verb,
                                .res = kl_res(KL_RES_coordination_v1_leases),
                                .ns = KL_STR("kube-node-lease"),
                                .name = kl_str(k->conf.node_name),
                                .done_cb = on_done,
                                .arg = lc};
    n->lease_writing = true;
    kl_kubelet_hold(k);
    if (verb != KL_VERB_GET) {
        struct kl_value root = n->lease ? kl_object_draft(n->lease) : kl_new_struct();
        struct kl_value *meta = kl_edit(&lc->a, &root, KL_F_metadata, KL_STRUCT);
        kl_set_z(&lc->a, meta, KL_F_name, k->conf.node_name);
        kl_set_z(&lc->a, meta, KL_F_namespace, "kube-node-lease");
        struct kl_str uid = kl_node_uid(n);
        if (uid.n && !kl_len(kl_get(meta, KL_F_ownerReferences))) {
            struct kl_value ref = kl_new_struct();
            kl_set_z(&lc->a, &ref, KL_F_apiVersion, "v1");
            kl_set_z(&lc->a, &ref, KL_F_kind, "Node");
            kl_set_z(&lc->a, &ref, KL_F_name, k->conf.node_name);
            kl_set_str(&lc->a, &ref, KL_F_uid, uid);
            kl_append(&lc->a, kl_edit(&lc->a, meta, KL_F_ownerReferences, KL_ARRAY), ref);
        }
        struct kl_value *spec = kl_edit(&lc->a, &root, KL_F_spec, KL_STRUCT);
        kl_set_z(&lc->a, spec, KL_F_holderIdentity, k->conf.node_name);
        kl_set_int(&lc->a, spec, KL_F_leaseDurationSeconds, k->conf.lease_seconds);
        kl_set(&lc->a, spec, KL_F_renewTime, kl_time(kl_timers_wall_us(k->timers)));
        lc->call.body = kl_object_freeze(lc->call.res->type, &root);
    }
    kl_client_start(k->client, &lc->call);
}

static void on_timer(struct kl_timer *t)
{
    struct kl_node *n = KL_CONTAINER_OF(t, struct kl_node, lease_timer);
    if (n->k->stopping || n->lease_writing)
        return;
    send_lease(n, n->lease ? KL_VERB_UPDATE : KL_VERB_GET);
}

void kl_lease_node_seen(struct kl_node *n)
{
    if (!n->lease && !n->lease_writing && !kl_timer_is_set(&n->lease_timer))
        kl_timer_after(n->k->timers, &n->lease_timer, 0);
}

void kl_lease_init(struct kl_node *n)
{
    n->lease_timer.cb = on_timer;
}

void kl_lease_fini(struct kl_node *n)
{
    kl_timer_cancel(n->k->timers, &n->lease_timer);
    kl_object_unref(n->lease);
}
