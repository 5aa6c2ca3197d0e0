// SPDX-License-Identifier: Apache-2.0
// DELETE and DELETECOLLECTION: preconditions, finalizers, grace (upstream's Store.Delete,
// rest.BeforeDelete).
#include "apiserver/crd/crd.h"
#include "apiserver/gather.h"
#include "apiserver/info.h"
#include "apiserver/strategy.h"
#include "base/clock.h"
#include <stdlib.h>

static bool has_finalizer(const struct kl_value *root, struct kl_str name)
{
    for (KL_EACH(f, kl_path(root, KL_F_metadata, KL_F_finalizers)))
        if (kl_str_eq(kl_text(f), name))
            return true;
    return false;
}

static int check_preconditions(struct kl_req *r, const struct kl_value *o)
{
    struct kl_str uid = r->opts.precondition_uid, rv = r->opts.precondition_rv;
    struct kl_str plural = r->info.plural;
    r->info.plural =
        kl_str(r->info.res->kind); // BeforeDelete names the kind where others name the resource
    if (uid.n && !kl_str_eq(uid, kl_meta_uid(o))) {
        kl_fail_conflict(r, r->info.name,
                         "the UID in the precondition (%.*s) does not match the UID in record "
                         "(%.*s). The object might have been deleted and then recreated",
                         KL_PRI(uid), KL_PRI(kl_meta_uid(o)));
        return KL_ECONFLICT;
    }
    if (rv.n && !kl_str_eq(rv, kl_meta_rv(o))) {
        kl_fail_conflict(r, r->info.name,
                         "the ResourceVersion in the precondition (%.*s) does not match the "
                         "ResourceVersion in record (%.*s). The object might have been modified",
                         KL_PRI(rv), KL_PRI(kl_meta_rv(o)));
        return KL_ECONFLICT;
    }
    r->info.plural = plural;
    return 0;
}

// deletionFinalizersForGarbageCollection: which of the two the policy leaves on the object.
static int set_gc_finalizers(struct kl_req *r, const struct kl_strategy *s, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    bool orphan, foreground;
    if (s->flags & KL_STRAT_NO_GC)
        return 0;
    switch (r->opts.propagation) {
    case KL_PROPAGATE_ORPHAN:
        orphan = true;
        foreground = false;
        break;
    case KL_PROPAGATE_FOREGROUND:
        orphan = false;
        foreground = true;
        break;
    case KL_PROPAGATE_BACKGROUND:
        orphan = foreground = false;
        break;
    default: // what an earlier deletion asked for stays, else what the kind does
        orphan = has_finalizer(draft, KL_STR("orphan"));
        foreground = !orphan && has_finalizer(draft, KL_STR("foregroundDeletion"));
        orphan |= !foreground && (s->flags & KL_STRAT_ORPHANS);
        break;
    }
    if (orphan == has_finalizer(draft, KL_STR("orphan")) &&
        foreground == has_finalizer(draft, KL_STR("foregroundDeletion")))
        return 0;
    struct kl_value *m = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    struct kl_value kept = kl_new_array();
    for (KL_EACH(f, kl_get(m, KL_F_finalizers)))
        if (!kl_str_eqz(kl_text(f), "orphan") && !kl_str_eqz(kl_text(f), "foregroundDeletion"))
            if (kl_append(a, &kept, *f))
                return kl_fail_oom(r), KL_ENOMEM;
    if ((orphan && kl_append(a, &kept, kl_stringz("orphan"))) ||
        (foreground && kl_append(a, &kept, kl_stringz("foregroundDeletion"))) ||
        (kept.n ? kl_set(a, m, KL_F_finalizers, kept) : kl_unset(a, m, KL_F_finalizers)))
        return kl_fail_oom(r), KL_ENOMEM;
    return 0;
}

static int mark_deleting(struct kl_req *r, struct kl_value *draft, int64_t grace)
{
    struct kl_arena *a = r->arena;
    struct kl_value *m = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    int64_t generation = kl_int_or(kl_get(m, KL_F_generation), 0);
    if (kl_set(a, m, KL_F_deletionTimestamp, kl_time((kl_wall_ms() / 1000 + grace) * 1000000)) ||
        kl_set(a, m, KL_F_deletionGracePeriodSeconds, kl_int(grace)) ||
        (generation > 0 && kl_set(a, m, KL_F_generation, kl_int(generation + 1))))
        return kl_fail_oom(r), KL_ENOMEM;
    return 0;
}

// BeforeDelete for an object that is being deleted with grace: only a shorter one counts.
static int shorten_grace(struct kl_req *r, struct kl_value *draft, int64_t had)
{
    struct kl_value *m = kl_edit(r->arena, draft, KL_F_metadata, KL_STRUCT);
    int64_t want = r->opts.grace_seconds;
    int64_t at = kl_int_or(kl_get(m, KL_F_deletionTimestamp), 0);
    if (kl_set(r->arena, m, KL_F_deletionTimestamp, kl_time(at + (want - had) * 1000000)) ||
        kl_set(r->arena, m, KL_F_deletionGracePeriodSeconds, kl_int(want)))
        return kl_fail_oom(r), KL_ENOMEM;
    return 0;
}

static int delete_namespace(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    bool held = kl_len(kl_path(draft, KL_F_spec, KL_F_finalizers)) ||
                kl_len(kl_path(draft, KL_F_metadata, KL_F_finalizers));
    if (!kl_meta_deleting(draft)) {
        if (!held)
            return KL_WRITE_REMOVE;
        struct kl_value *m = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
        if (kl_set(a, m, KL_F_deletionTimestamp, kl_time(kl_wall_ms() / 1000 * 1000000)) ||
            kl_set(a, kl_edit(a, draft, KL_F_status, KL_STRUCT), KL_F_phase,
                   kl_stringz("Terminating")))
            return kl_fail_oom(r), KL_ENOMEM;
        return KL_WRITE_PUT;
    }
    return held ? KL_WRITE_NOTHING : KL_WRITE_REMOVE;
}

static int decide_delete(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    struct kl_req *r = w->r;
    if (!stored)
        return kl_fail_not_found(r), KL_ENOTFOUND;
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    const struct kl_strategy *s = kl_strategy_of(st);
    int rc;
    if ((rc = check_preconditions(r, &stored->root)))
        return rc;
    *draft = kl_object_draft(stored);
    if (st->index == KL_RES_core_v1_namespaces)
        return delete_namespace(r, draft);
    if (st->index == KL_RES_apiextensions_v1_customresourcedefinitions &&
        (rc = kl_crd_delete(r, draft)))
        return rc;
    bool deleting = kl_meta_deleting(draft);
    int64_t had = kl_int_at(draft, 0, KL_F_metadata, KL_F_deletionGracePeriodSeconds), grace = 0;
    if (s->grace && deleting && had && (r->opts.grace_seconds < 0 || r->opts.grace_seconds >= had))
        return KL_WRITE_NOTHING; // graceful deletion is pending
    if ((rc = set_gc_finalizers(r, s, draft)))
        return rc;
    bool held = kl_len(kl_path(draft, KL_F_metadata, KL_F_finalizers));
    if (s->grace && deleting && had) {
        grace = r->opts.grace_seconds;
        rc = shorten_grace(r, draft, had);
    } else if (s->grace && !deleting) {
        grace = s->grace(r, draft);
        if (grace > 0 || held)
            rc = mark_deleting(r, draft, grace);
    } else if (!deleting && held) {
        rc = mark_deleting(r, draft, 0);
    }
    return rc ? rc : grace > 0 || held ? KL_WRITE_PUT : KL_WRITE_REMOVE;
}

int kl_delete_transform(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    int verdict = decide_delete(w, stored, draft);
    return verdict == KL_WRITE_REMOVE ? kl_release(w->r, &stored->root) : verdict;
}

int kl_release(struct kl_req *r, const struct kl_value *old)
{
    const struct kl_strategy *s = kl_strategy_of(kl_resource_storage(r->info.res));
    int rc = s->release ? s->release(r, old) : 0;
    return rc ? rc : KL_WRITE_REMOVE;
}

static void start_delete(struct kl_req *r)
{
    struct kl_write *w = KL_ARENA_NEW(r->arena, struct kl_write);
    struct kl_str key = kl_object_key(r->arena, r->info.res, r->info.ns, r->info.name);
    if (!w || !key.p) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    const struct kl_strategy *s = kl_strategy_of(kl_resource_storage(r->info.res));
    *w = (struct kl_write){.r = r,
                           .res = r->info.res,
                           .key = key,
                           .op = KL_ADMIT_DELETE,
                           .transform = kl_delete_transform,
                           .status_answer = !(s->flags & KL_STRAT_RETURN_DELETED)};
    kl_write_start(w);
}

void kl_registry_delete(struct kl_req *r)
{
    const struct kl_strategy *s = kl_strategy_of(kl_resource_storage(r->info.res));
    if (kl_req_delete_options_body(r)) {
        kl_req_fail(r);
        return;
    }
    if ((s->flags & KL_STRAT_ORPHANS) && r->info.res->index == KL_RES_batch_v1_jobs &&
        r->opts.propagation == KL_PROPAGATE_DEFAULT)
        kl_req_warn(r, KL_STR("child pods are preserved by default when jobs are deleted; set "
                              "propagationPolicy=Background to remove them or set "
                              "propagationPolicy=Orphan to suppress this warning"));
    start_delete(r);
}

// ---- DELETECOLLECTION: the objects of a list, a few at a time so that commits are shared; then
// the list as it was is the answer.

enum { PARALLEL = 64 };

struct collection {
    struct kl_req *r;
    struct kl_gather g;
    size_t next, running;
    bool failed, starting;
};

struct one {
    struct kl_req req;
    struct collection *c;
    struct kl_arena arena;
};

static void delete_more(struct collection *c);

static void finish_collection(struct collection *c)
{
    struct kl_req *r = c->r;
    if (c->failed) {
        kl_gather_fini(&c->g);
        kl_req_fail(r);
        return;
    }
    r->list = &c->g;
    r->result = KL_RESULT_LIST;
    r->http = 200;
    kl_req_done(r);
}

static void one_done(struct kl_req *q)
{
    struct one *o = KL_CONTAINER_OF(q, struct one, req);
    struct collection *c = o->c;
    if (q->result == KL_RESULT_FAIL && q->fail.http != 404 && !c->failed) {
        struct kl_arena *a = c->r->arena;
        c->failed = true;
        c->r->fail = (struct kl_fail){.http = q->fail.http,
                                      .reason = kl_arena_dup(a, q->fail.reason),
                                      .message = kl_arena_dup(a, q->fail.message),
                                      .kind = kl_arena_dup(a, q->fail.kind),
                                      .group = kl_arena_dup(a, q->fail.group),
                                      .name = kl_arena_dup(a, q->fail.name),
                                      .retry_after_s = q->fail.retry_after_s};
    }
    kl_req_fini(q);
    kl_arena_fini(&o->arena);
    free(o);
    c->running--;
    if (!c->starting)
        delete_more(c);
}

static struct one *new_one(struct collection *c, struct kl_kv *kv)
{
    struct kl_req *r = c->r;
    struct kl_error err = {0};
    struct kl_object *obj = kl_cache_object(kv, r->info.res, &err);
    struct one *o = obj ? calloc(1, sizeof *o) : NULL;
    if (!o) {
        if (obj)
            kl_fail_oom(r);
        else
            kl_fail_err(r, &err);
        return NULL;
    }
    o->c = c;
    kl_arena_init(&o->arena, KL_MAX_ARENA_BYTES);
    o->req = (struct kl_req){.srv = r->srv,
                             .al = r->al,
                             .arena = &o->arena,
                             .user = kl_user_ref(r->user),
                             .info = r->info,
                             .opts = r->opts,
                             .done = one_done};
    o->req.info.op = KL_VERB_DELETE;
    o->req.info.ns = kl_arena_dup(&o->arena, kl_meta_namespace(&obj->root));
    o->req.info.name = kl_arena_dup(&o->arena, kl_meta_name(&obj->root));
    return o;
}

static void delete_more(struct collection *c)
{
    c->starting = true;
    while (c->next < c->g.n && c->running < PARALLEL && !c->failed) {
        struct one *o = new_one(c, c->g.kvs[c->next++]);
        if (!o) {
            c->failed = true;
            break;
        }
        c->running++;
        start_delete(&o->req);
    }
    c->starting = false;
    if (!c->running && (c->next == c->g.n || c->failed))
        finish_collection(c);
}

static void on_gathered(struct kl_gather *g, int code)
{
    struct collection *c = KL_CONTAINER_OF(g, struct collection, g);
    c->failed = code != 0;
    delete_more(c);
}

void kl_registry_delete_collection(struct kl_req *r)
{
    if (kl_list_options_check(r, false) || kl_req_delete_options_body(r)) {
        kl_req_fail(r);
        return;
    }
    struct collection *c = KL_ARENA_NEW(r->arena, struct collection);
    if (!c) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    c->r = r;
    c->g.r = r;
    c->g.done = on_gathered;
    kl_gather_start(&c->g);
}
