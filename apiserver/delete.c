// SPDX-License-Identifier: Apache-2.0
// DELETE and DELETECOLLECTION: preconditions, finalizers, grace (upstream's Store.Delete,
// rest.BeforeDelete).
#include "apiserver/strategy.h"
#include "base/clock.h"
#include "watchcache/filter.h"

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
    if (uid.n && !kl_str_eq(uid, kl_meta_uid(o))) {
        kl_fail_conflict(r, r->info.name,
                         "Precondition failed: UID in precondition: %.*s, UID in object meta: %.*s",
                         KL_PRI(uid), KL_PRI(kl_meta_uid(o)));
        return KL_ECONFLICT;
    }
    if (rv.n && !kl_str_eq(rv, kl_meta_rv(o))) {
        kl_fail_conflict(r, r->info.name,
                         "Precondition failed: ResourceVersion in precondition: %.*s, "
                         "ResourceVersion in object meta: %.*s",
                         KL_PRI(rv), KL_PRI(kl_meta_rv(o)));
        return KL_ECONFLICT;
    }
    return 0;
}

// deletionFinalizersForGarbageCollection: which of the two the policy leaves on the object.
static int set_gc_finalizers(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    bool orphan, foreground;
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
    default: // what an earlier deletion asked for stays
        orphan = has_finalizer(draft, KL_STR("orphan"));
        foreground = has_finalizer(draft, KL_STR("foregroundDeletion"));
        break;
    }
    struct kl_value *m = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    struct kl_value kept = kl_new_array();
    for (KL_EACH(f, kl_get(m, KL_F_finalizers)))
        if (!kl_str_eqz(kl_text(f), "orphan") && !kl_str_eqz(kl_text(f), "foregroundDeletion"))
            if (kl_append(a, &kept, *f))
                return kl_fail_oom(r), KL_ENOMEM;
    if (orphan)
        kl_append(a, &kept, kl_stringz("orphan"));
    if (foreground)
        kl_append(a, &kept, kl_stringz("foregroundDeletion"));
    if (kept.n)
        kl_set(a, m, KL_F_finalizers, kept);
    else
        kl_unset(a, m, KL_F_finalizers);
    return 0;
}

static void mark_deleting(struct kl_req *r, struct kl_value *draft, int64_t grace)
{
    struct kl_arena *a = r->arena;
    struct kl_value *m = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    int64_t generation = kl_int_or(kl_get(m, KL_F_generation), 0);
    kl_set(a, m, KL_F_deletionTimestamp, kl_time((kl_wall_ms() / 1000 + grace) * 1000000));
    kl_set(a, m, KL_F_deletionGracePeriodSeconds, kl_int(grace));
    if (generation > 0)
        kl_set(a, m, KL_F_generation, kl_int(generation + 1));
}

// BeforeDelete for an object that is being deleted already: only a shorter grace counts.
// Returns the seconds that are left to it, or -1 when nothing changes.
static int64_t shorten_grace(struct kl_req *r, struct kl_value *draft)
{
    struct kl_value *m = kl_edit(r->arena, draft, KL_F_metadata, KL_STRUCT);
    const struct kl_value *had = kl_get(m, KL_F_deletionGracePeriodSeconds);
    int64_t want = r->opts.grace_seconds, is = kl_int_or(had, 0);
    if (!had)
        return 0;
    if (want < 0 || want >= is)
        return is == 0 ? 0 : -1;
    int64_t at = kl_int_or(kl_get(m, KL_F_deletionTimestamp), 0);
    kl_set(r->arena, m, KL_F_deletionTimestamp, kl_time(at + (want - is) * 1000000));
    kl_set(r->arena, m, KL_F_deletionGracePeriodSeconds, kl_int(want));
    return want;
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
        kl_set(a, m, KL_F_deletionTimestamp, kl_time(kl_wall_ms() / 1000 * 1000000));
        struct kl_value *st = kl_edit(a, draft, KL_F_status, KL_STRUCT);
        kl_set(a, st, KL_F_phase, kl_stringz("Terminating"));
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
    if ((rc = check_preconditions(r, &stored->root)) || (rc = kl_admit_delete(r, &stored->root)))
        return rc;
    *draft = kl_object_draft(stored);
    if (st->index == KL_RES_core_v1_namespaces)
        return delete_namespace(r, draft);
    if ((rc = set_gc_finalizers(r, draft)))
        return rc;
    bool held = kl_len(kl_path(draft, KL_F_metadata, KL_F_finalizers));
    if (s->grace) {
        if (!kl_meta_deleting(draft)) {
            int64_t grace = s->grace(r, draft);
            if (grace > 0 || held) {
                mark_deleting(r, draft, grace);
                return KL_WRITE_PUT;
            }
            return KL_WRITE_REMOVE;
        }
        int64_t left = shorten_grace(r, draft);
        return left == 0 && !held ? KL_WRITE_REMOVE : KL_WRITE_PUT;
    }
    if (!held)
        return KL_WRITE_REMOVE;
    if (!kl_meta_deleting(draft))
        mark_deleting(r, draft, 0);
    return KL_WRITE_PUT;
}

static int transform_delete(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    int verdict = decide_delete(w, stored, draft);
    const struct kl_strategy *s = kl_strategy_of(kl_resource_storage(w->r->info.res));
    if (verdict == KL_WRITE_REMOVE && s->release) {
        int rc = s->release(w->r, &stored->root);
        return rc ? rc : verdict;
    }
    return verdict;
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
                           .transform = transform_delete,
                           .status_answer = !(s->flags & KL_STRAT_RETURN_DELETED)};
    kl_write_start(w);
}

void kl_registry_delete(struct kl_req *r)
{
    if (kl_req_delete_options_body(r)) {
        kl_req_fail(r);
        return;
    }
    start_delete(r);
}

// ---- eviction

bool kl_eviction_refused(struct kl_req *r)
{
    struct kl_error err = {0};
    struct kl_arena *a = r->arena;
    const struct kl_resource *res = kl_res(KL_RES_policy_v1_poddisruptionbudgets);
    struct kl_kv *pod_kv = kl_view_get(
        kl_req_view(r), kl_object_key(a, kl_res(KL_RES_core_v1_pods), r->info.ns, r->info.name));
    struct kl_object *pod =
        pod_kv ? kl_cache_object(pod_kv, kl_res(KL_RES_core_v1_pods), &err) : NULL;
    struct kl_filter f = {.res = res, .ns = r->info.ns};
    struct kl_str prefix = kl_filter_prefix(a, &f);
    char *mem = kl_arena_alloc(a, prefix.n + 1);
    if (!pod || !mem)
        return false; // not found is what the deletion says
    struct kl_iter it;
    struct kl_kv *kv;
    kl_iter_init(&it, kl_req_view(r), prefix, kl_prefix_end(prefix, mem));
    while ((kv = kl_iter_next(&it))) {
        struct kl_object *b = kl_cache_object(kv, res, &err);
        struct kl_selector s;
        if (!b ||
            kl_label_selector_from(a, kl_path(&b->root, KL_F_spec, KL_F_selector), &s, &err) ||
            !kl_selector_matches(&s, kl_meta_labels(&pod->root)) ||
            kl_int_at(&b->root, 0, KL_F_status, KL_F_disruptionsAllowed) > 0)
            continue;
        kl_fail_set(r, 429, "TooManyRequests",
                    "Cannot evict pod as it would violate the pod's disruption budget.");
        if ((r->fail.causes = KL_ARENA_NEW(a, struct kl_cause))) {
            struct kl_str name = kl_meta_name(&b->root);
            r->fail.ncauses = 1;
            r->fail.causes[0] = (struct kl_cause){
                .reason = KL_STR("DisruptionBudget"),
                .message = kl_arena_printf(
                    a, "The disruption budget %.*s needs %lld healthy pods and has %lld currently",
                    KL_PRI(name),
                    (long long)kl_int_at(&b->root, 0, KL_F_status, KL_F_desiredHealthy),
                    (long long)kl_int_at(&b->root, 0, KL_F_status, KL_F_currentHealthy))};
        }
        return true;
    }
    return false;
}

static void finish_eviction(struct kl_write *w, enum kl_write_verdict v, struct kl_kv *kv)
{
    struct kl_value s = kl_new_struct();
    (void)v, (void)kv;
    kl_set(w->r->arena, &s, KL_F_metadata, kl_new_struct());
    kl_set(w->r->arena, &s, KL_F_status, kl_stringz("Success"));
    kl_set(w->r->arena, &s, KL_F_code, kl_int(201));
    kl_req_ok_value(w->r, 201,
                    kl_type_by_name(KL_STR("io.k8s.apimachinery.pkg.apis.meta.v1.Status")), "v1",
                    "Status", s);
}

void kl_registry_evict(struct kl_req *r)
{
    struct kl_write *w = KL_ARENA_NEW(r->arena, struct kl_write);
    struct kl_str key = kl_object_key(r->arena, r->info.res, r->info.ns, r->info.name);
    if (!w || !key.p) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    *w = (struct kl_write){.r = r,
                           .res = r->info.res,
                           .key = key,
                           .transform = transform_delete,
                           .finish = finish_eviction};
    kl_write_start(w);
}

// ---- DELETECOLLECTION: the objects of a list, a few at a time so that commits are shared.

enum { PARALLEL = 64 };

struct collection {
    struct kl_req *r;
    struct kl_kv **kvs; // referenced
    size_t n, next, running;
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
    struct kl_arena *a = r->arena;
    struct kl_value list = kl_new_struct(), items = kl_new_array(), meta = kl_new_struct();
    struct kl_error err = {0};
    if (!c->failed) {
        for (size_t i = 0; i < c->n; i++) {
            struct kl_object *o = kl_cache_object(c->kvs[i], r->info.res, &err);
            struct kl_object *shown = o ? kl_object_in_version(r->info.res, o, &err) : NULL;
            struct kl_value copy;
            if (shown && !kl_copy(a, &shown->root, &copy))
                kl_append(a, &items, copy);
            kl_object_unref(shown);
        }
        kl_set(a, &meta, KL_F_resourceVersion,
               kl_string(kl_arena_printf(a, "%lld", (long long)kl_view_rev(kl_req_view(r)))));
        kl_set(a, &list, KL_F_metadata, meta);
        kl_set(a, &list, KL_F_items, items);
    }
    for (size_t i = 0; i < c->n; i++)
        kl_kv_unref(c->kvs[i]);
    if (c->failed)
        kl_req_fail(r);
    else
        kl_req_ok_value(r, 200, r->info.res->list_type, r->info.res->api_version,
                        kl_arena_printf(a, "%sList", r->info.res->kind).p, list);
}

static void one_done(struct kl_req *q)
{
    struct one *o = KL_CONTAINER_OF(q, struct one, req);
    struct collection *c = o->c;
    if (q->result == KL_RESULT_FAIL && q->fail.http != 404 && !c->failed) {
        c->failed = true;
        c->r->fail = q->fail;
        c->r->fail.message = kl_arena_dup(c->r->arena, q->fail.message);
        c->r->fail.name = kl_arena_dup(c->r->arena, q->fail.name);
        c->r->fail.causes = NULL;
        c->r->fail.ncauses = 0;
    }
    kl_req_fini(q);
    kl_arena_fini(&o->arena);
    c->running--;
    if (!c->starting)
        delete_more(c);
}

static void delete_more(struct collection *c)
{
    c->starting = true;
    while (c->next < c->n && c->running < PARALLEL && !c->failed) {
        struct kl_req *r = c->r;
        struct kl_error err = {0};
        struct kl_object *obj = kl_cache_object(c->kvs[c->next++], r->info.res, &err);
        struct one *o = obj ? KL_ARENA_NEW(r->arena, struct one) : NULL;
        if (!o) {
            c->failed = true;
            kl_fail_oom(r);
            break;
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
        c->running++;
        start_delete(&o->req);
    }
    c->starting = false;
    if (!c->running && (c->next == c->n || c->failed))
        finish_collection(c);
}

void kl_registry_delete_collection(struct kl_req *r)
{
    if (kl_req_delete_options_body(r)) {
        kl_req_fail(r);
        return;
    }
    struct collection *c = KL_ARENA_NEW(r->arena, struct collection);
    struct kl_filter f = {.res = r->info.res,
                          .ns = r->info.ns,
                          .name = r->opts.name_from_fields,
                          .labels = &r->opts.labels,
                          .fields = &r->opts.fields};
    struct kl_str prefix = kl_filter_prefix(r->arena, &f), end = KL_STR("");
    char *mem = kl_arena_alloc(r->arena, prefix.n + 1);
    if (!c || !prefix.p || !mem)
        goto oom;
    if (prefix.p[prefix.n - 1] == '/')
        end = kl_prefix_end(prefix, mem);
    struct kl_view *v = kl_req_view(r);
    int64_t count = kl_view_count(v, prefix, end);
    c->r = r;
    c->kvs = kl_arena_alloc(r->arena, (size_t)count * sizeof *c->kvs + 8);
    if (!c->kvs)
        goto oom;
    struct kl_iter it;
    struct kl_kv *kv;
    kl_iter_init(&it, v, prefix, end);
    while ((kv = kl_iter_next(&it))) {
        struct kl_error err = {0};
        struct kl_object *o = kl_cache_object(kv, r->info.res, &err);
        if (o && kl_filter_matches(&f, o))
            c->kvs[c->n++] = kl_kv_ref(kv);
    }
    delete_more(c);
    return;
oom:
    kl_fail_oom(r);
    kl_req_fail(r);
}
