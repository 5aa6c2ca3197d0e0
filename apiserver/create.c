// SPDX-License-Identifier: Apache-2.0
// GET of one object and CREATE (upstream's generic registry Store.Get and Store.Create).
#include "apiserver/newer.h"
#include "apiserver/crd/crd.h"
#include "apiserver/lease.h"
#include "apiserver/managed.h"
#include "apiserver/strategy.h"
#include "apiserver/trace/trace.h"
#include "base/clock.h"
#include "object/convert.h"
#include "object/defaults.h"
#include "watchcache/filter.h"

enum { NAME_TRIES = 8 };

static void get(struct kl_req *r)
{
    struct kl_str key = kl_object_key(r->arena, r->info.res, r->info.ns, r->info.name);
    struct kl_span *span = kl_span_begin(r, "cacher.Get");
    struct kl_kv *kv = key.p ? kl_view_get(kl_req_view(r), key) : NULL;
    kl_span_text(span, "key", key);
    kl_span_end(span);
    if (kv) {
        kl_req_ok_kv(r, 200, kv);
        return;
    }
    kl_fail_not_found(r);
    kl_req_fail(r);
}

static void on_newer(struct kl_newer *n, int code)
{
    if (code)
        kl_req_fail(n->r);
    else
        get(n->r);
}

void kl_registry_get(struct kl_req *r)
{
    kl_rev rev;
    if (kl_req_rv(r, r->opts.resource_version, &rev)) {
        kl_req_fail(r);
        return;
    }
    if (rev <= kl_view_rev(kl_req_view(r))) {
        get(r);
        return;
    }
    struct kl_newer *n = KL_ARENA_NEW(r->arena, struct kl_newer);
    if (!n)
        kl_fail_oom(r);
    else
        *n = (struct kl_newer){.r = r, .rev = rev, .done = on_newer};
    if (!n || kl_newer_wait(n) < 0)
        kl_req_fail(r);
}

struct create {
    struct kl_write w;
    struct kl_admit ad; // mutating admission runs once, before the machine
    struct kl_value
        wanted; // as sent: defaulted, converted and admitted, before the registry's values
    const struct kl_strategy *strategy;
    bool generated;
    bool has_rv; // a resourceVersion was sent
    int name_tries;
};

int kl_draft_to_storage(struct kl_req *r, struct kl_value *v)
{
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    struct kl_error err = {0};
    struct kl_value out;
    if (st == r->info.res || !kl_convert_needed(r->info.res, st))
        return 0;
    if (kl_convert(r->arena, r->info.res, st, v, &out, &err))
        return kl_fail_err(r, &err), err.code;
    *v = out;
    return 0;
}

// The status of kinds that have the subresource is nobody's to create.
static void wipe_status(struct kl_req *r, const struct kl_strategy *s, struct kl_value *draft)
{
    if ((s->flags & KL_STRAT_KEEP_STATUS) || !kl_resource_sub(r->info.res, KL_STR("status")))
        return;
    kl_unset(r->arena, draft, KL_F_status);
    if (r->info.res->custom &&
        kl_get(draft, kl_crd_rest_sym())) // may be preserved without a schema
        kl_map_unset(r->arena, kl_edit(r->arena, draft, kl_crd_rest_sym(), KL_MAP),
                     KL_STR("status"));
}

static int transform_create(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    struct create *c = KL_CONTAINER_OF(w, struct create, w);
    struct kl_req *r = w->r;
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    int rc;
    (void)stored;
    *draft = c->wanted;
    draft->owned = 0;
    if ((rc = kl_meta_before_create(r, c->strategy, draft)))
        return rc;
    wipe_status(r, c->strategy, draft);
    if (c->strategy->prepare_create && (rc = c->strategy->prepare_create(r, draft)))
        return rc;
    if (kl_default_object(r->arena, st->type, draft))
        return kl_fail_oom(r), KL_ENOMEM;
    struct kl_field_errors e = {.arena = r->arena};
    struct kl_object *now =
        kl_object_freeze(st->type, draft); // the rules are for canonical objects
    if (!now)
        return kl_fail_oom(r), KL_ENOMEM;
    rc = kl_rules_check(r, c->strategy, &now->root, NULL, &e);
    if (!rc && !e.n)
        kl_rules_warn(r, &now->root, NULL, false);
    kl_object_unref(now);
    if (rc)
        return rc;
    if (e.n) {
        kl_fail_invalid(r, kl_str(r->info.res->kind), r->info.group, kl_meta_name(draft), &e);
        return KL_EINVALID;
    }
    // The last to look: upstream's store says so, which a dry run never reaches.
    if (c->has_rv && !r->opts.dry_run) {
        kl_fail_set(r, 500, "", "resourceVersion should not be set on objects to be created");
        return KL_EINTERNAL;
    }
    return KL_WRITE_PUT;
}

static void start_write(struct create *c)
{
    struct kl_req *r = c->w.r;
    struct kl_arena *a = r->arena;
    // The name decides the key, so a generated one is made before the machine runs.
    struct kl_value *m = kl_edit(a, &c->wanted, KL_F_metadata, KL_STRUCT);
    struct kl_str name = kl_meta_name(&c->wanted);
    struct kl_str prefix = kl_text_at(&c->wanted, KL_F_metadata, KL_F_generateName);
    if (m && prefix.n && (!name.n || c->generated)) {
        c->generated = true;
        name = kl_generate_name(a, prefix);
        kl_set(a, m, KL_F_name, kl_string(name));
    }
    c->w.key = kl_object_key(a, r->info.res, kl_meta_namespace(&c->wanted), name);
    if (!m || !c->w.key.p) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    kl_write_start(&c->w);
}

// A name we made up was taken: try another before saying so.
static void done_generated(struct kl_req *r)
{
    struct create *c = r->work;
    if (r->result == KL_RESULT_FAIL && r->fail.http == 409 &&
        kl_str_eqz(r->fail.reason, "AlreadyExists") && ++c->name_tries < NAME_TRIES) {
        r->result = KL_RESULT_NONE;
        start_write(c);
        return;
    }
    r->done = (void (*)(struct kl_req *))c->w.arg;
    if (r->result == KL_RESULT_FAIL && kl_str_eqz(r->fail.reason, "AlreadyExists"))
        r->fail.message = kl_arena_printf(r->arena,
                                          "%.*s, the server was not able to generate a unique name "
                                          "for the object",
                                          KL_PRI(r->fail.message));
    r->done(r);
}

static void with_lease(void *arg, int64_t lease, const struct kl_error *err)
{
    struct create *c = arg;
    if (err) {
        kl_fail_err(c->w.r, err);
        kl_req_fail(c->w.r);
        return;
    }
    c->w.lease = lease;
    start_write(c);
}

static void admitted(struct kl_admit *ad, int rc)
{
    struct create *c = KL_CONTAINER_OF(ad, struct create, ad);
    struct kl_req *r = ad->r;
    if (rc) {
        kl_req_fail(r);
        return;
    }
    // The registry makes a name only if no plug-in gave one.
    if (!kl_meta_name(&c->wanted).n && kl_text_at(&c->wanted, KL_F_metadata, KL_F_generateName).n) {
        c->w.arg = (void *)r->done;
        r->work = c;
        r->done = done_generated;
    }
    if (ad->row->index == KL_RES_core_v1_events && !r->opts.dry_run)
        kl_event_lease(r->al, with_lease, c);
    else
        start_write(c);
}

static void create_again(void *arg)
{
    struct create *c = arg;
    kl_create_draft(c->w.r, c->wanted);
}

void kl_create_draft(struct kl_req *r, struct kl_value draft)
{
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    struct create *c = KL_ARENA_NEW(r->arena, struct create);
    if (!c) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    if (kl_meta_take_namespace(r, &draft)) {
        kl_req_fail(r);
        return;
    }
    bool has_rv = kl_meta_rv(&draft).n && !kl_str_eqz(kl_meta_rv(&draft), "0");
    if (!r->info.name.n)
        r->info.name = kl_meta_name(&draft);
    if (r->family && kl_custom_may_create(r)) {
        kl_req_fail(r);
        return;
    }
    if (kl_draft_default(r, &draft)) {
        kl_req_fail(r);
        return;
    }
    c->w.r = r;
    c->wanted = draft; // what begins again when owners of fields wait for a webhook
    // An apply has said already who owns what.
    if ((r->opts.patch_type != KL_PATCH_APPLY &&
         (kl_meta_dedup_owners(r, &draft, false) || kl_track_create(r, &draft))) ||
        kl_draft_to_storage(r, &draft)) {
        if (!kl_req_convert_again(r, create_again, c))
            kl_req_fail(r);
        return;
    }
    c->strategy = kl_strategy_of(st);
    c->wanted = draft;
    c->w = (struct kl_write){.r = r,
                             .res = r->info.res,
                             .transform = transform_create,
                             .op = KL_ADMIT_CREATE,
                             .fresh = true};
    c->has_rv = has_rv;
    kl_drop_gated(r->arena, st->type, &c->wanted, NULL, &r->srv->gates);
    kl_admit_init(&c->ad, r, KL_ADMIT_CREATE);
    c->ad.draft = &c->wanted;
    c->ad.done = admitted;
    int rc = kl_admit_mutate(&c->ad);
    if (rc != KL_ADMIT_WAIT)
        admitted(&c->ad, rc);
}

void kl_registry_create(struct kl_req *r)
{
    struct kl_value draft;
    struct kl_error err = {0};
    if (kl_body_decode(r, r->info.res->type, r->info.res, &draft, &err)) {
        kl_fail_err(r, &err);
        kl_req_fail(r);
        return;
    }
    kl_create_draft(r, draft);
}
