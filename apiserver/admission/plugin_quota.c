// SPDX-License-Identifier: Apache-2.0
// ResourceQuota: what a write would use must fit into the quotas of its namespace, and is charged
// in the transaction that stores the object. So no two writes share a place, on one server or on
// several; who loses runs again on the newer quota. What goes is given back by the controller.
#include "apiserver/admission/config.h"
#include "apiserver/admission/plugins_int.h"
#include "apiserver/encryption/encryption.h"
#include "apiserver/strategy.h"
#include "base/clock.h"
#include "object/quota/quota.h"

struct charged {
    struct kl_kv *kv;
    struct kl_object *object; // decoded kv, borrowed
};
struct list {
    struct kl_quota_charge *charges;
    struct charged *of;
    size_t n, cap;
};

static int append(struct kl_req *r, struct list *l, struct kl_kv *kv, struct kl_object *o)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        struct kl_quota_charge *c = kl_arena_zalloc(r->arena, cap * sizeof *c);
        struct charged *of = kl_arena_zalloc(r->arena, cap * sizeof *of);
        if (!c || !of)
            return kl_fail_oom(r), KL_ENOMEM;
        if (l->n) {
            memcpy(c, l->charges, l->n * sizeof *c);
            memcpy(of, l->of, l->n * sizeof *of);
        }
        l->charges = c;
        l->of = of;
        l->cap = cap;
    }
    l->charges[l->n] = (struct kl_quota_charge){.quota = &o->root};
    l->of[l->n++] = (struct charged){kv, o};
    return 0;
}

static int find_quotas(struct kl_admit *ad, struct list *l)
{
    struct kl_req *r = ad->r;
    const struct kl_resource *res = kl_res(KL_RES_core_v1_resourcequotas);
    struct kl_admit_walk w;
    struct kl_kv *kv;
    struct kl_error err = {0};
    int rc = kl_admit_walk_init(&w, r, KL_RES_core_v1_resourcequotas, ad->ns);
    while (!rc && (kv = kl_iter_next(&w.it))) {
        if (r->write)
            kv = kl_write_newest(r->write, kl_kv_key(kv));
        struct kl_object *o = kl_cache_object(kv, res, &err);
        if (o)
            rc = append(r, l, kv, o);
    }
    return rc;
}

// Whether the operation can change what is used (Evaluator.Handles).
static bool handles(const struct kl_admit *ad, const struct kl_quota_meter *m)
{
    bool create = ad->op == KL_ADMIT_CREATE;
    switch (m->kind) {
    case KL_QUOTA_PODS:
        if (kl_admit_sub(ad, "resize"))
            return !create;
        return !ad->sub.n && (create || kl_quota_pod_terminating(ad->old) !=
                                            kl_quota_pod_terminating(ad->object));
    case KL_QUOTA_CLAIMS:
        return !ad->sub.n || (kl_admit_sub(ad, "status") && !create);
    case KL_QUOTA_SERVICES:
    case KL_QUOTA_DEVICE_CLAIMS:
        return !ad->sub.n;
    default:
        return create && !ad->sub.n;
    }
}

// The quota with what is used after the write.
static int charge(struct kl_admit *ad, const struct kl_quota_charge *c, const struct charged *of)
{
    struct kl_arena *a = ad->r->arena;
    const struct kl_resource *res = kl_res(KL_RES_core_v1_resourcequotas);
    struct kl_value used, draft = kl_object_draft(of->object);
    struct kl_value *status = kl_edit(a, &draft, KL_F_status, KL_STRUCT);
    struct kl_value *meta = kl_edit(a, &draft, KL_F_metadata, KL_STRUCT);
    if (!meta || kl_amounts_write(&c->used, &used))
        return kl_admit_oom(ad);
    status = kl_edit(a, &draft, KL_F_status, KL_STRUCT);
    if (!status || kl_set(a, status, KL_F_used, used))
        return kl_admit_oom(ad);
    meta = kl_edit(a, &draft, KL_F_metadata, KL_STRUCT);
    kl_unset(a, meta, KL_F_resourceVersion);
    struct kl_error err = {0};
    struct kl_object *o = kl_object_freeze(res->type, &draft);
    struct kl_bytes *b =
        o ? kl_encryption_encode(ad->r->srv->o.encryption, res, kl_kv_key(of->kv), o, NULL, &err)
          : NULL;
    kl_object_unref(o);
    if (!b || kl_write_charge(ad->r->write, kl_kv_key(of->kv), of->kv->mod_rev, b))
        return kl_admit_oom(ad);
    return 0;
}

int kl_resource_quota_validate(struct kl_admit *ad)
{
    struct kl_req *r = ad->r;
    struct list l = {0};
    const struct kl_admit_config *config = r->srv->admit_config;
    struct kl_quota_write w = {.group = kl_str(ad->res->group),
                               .plural = kl_str(ad->res->plural),
                               .limited = config->limited.v,
                               .nlimited = config->limited.n,
                               .object = ad->object,
                               .old = ad->op == KL_ADMIT_UPDATE ? ad->old : NULL,
                               .status = kl_admit_sub(ad, "status"),
                               .now_us = kl_wall_ms() * 1000};
    if (!ad->ns.n || kl_admit_of(ad, KL_RES_core_v1_namespaces))
        return 0;
    int rc = find_quotas(ad, &l);
    if (rc || (!l.n && !w.nlimited))
        return rc;
    if (!kl_quota_meter_of(r->arena, w.group, w.plural, &w.meter) || !handles(ad, &w.meter))
        return 0;
    w.quotas = l.charges;
    w.nquotas = l.n;
    rc = w.meter.count_name.p ? kl_quota_check(r->arena, &w) : KL_ENOMEM;
    if (rc == KL_QUOTA_EXCEEDS)
        return kl_admit_forbid(ad, "%.*s", KL_PRI(w.why));
    if (rc == KL_QUOTA_UNCOVERED)
        return kl_admit_fail_plainly(ad, w.why);
    if (rc)
        return kl_admit_oom(ad);
    // What is not written by the machine (reviews) is not stored, and uses nothing.
    for (size_t i = 0; i < l.n && !rc && !ad->dry_run && r->write; i++)
        if (l.charges[i].charged)
            rc = charge(ad, &l.charges[i], &l.of[i]);
    return rc;
}
