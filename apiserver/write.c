// SPDX-License-Identifier: Apache-2.0
// Optimistic read-modify-write on one key (upstream's GuaranteedUpdate), create and delete
// included: read → transform → mutating admission → settle → validating admission → transaction
// that compares the revision read → on a lost race again with what the transaction found. One round
// trip each time. Admission may wait for webhooks; without any it is all one straight run.
#include "apiserver/audit/audit.h"
#include "apiserver/deadline.h"
#include "apiserver/series.h"
#include "apiserver/encryption/encryption.h"
#include "apiserver/strategy.h"
#include "apiserver/trace/trace.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "object/freeze.h"

enum { MAX_TRIES = 64, MAX_CHARGE_TRIES = 10000 };

// Another key that is written in the same transaction. A node stays for all runs of the machine.
struct kl_write_more {
    struct kl_write_more *next;
    struct kl_str key;
    kl_rev expect;
    struct kl_bytes *value; // owned; NULL: not in this run
    struct kl_kv *found;    // owned: what a lost race found
    int lost;
};

static void step(struct kl_write *w);

static void drop_more(struct kl_write *w)
{
    for (struct kl_write_more *m = w->more; m; m = m->next) {
        kl_bytes_unref(m->value);
        m->value = NULL;
    }
}

static void drop(struct kl_write *w)
{
    drop_more(w);
    kl_object_unref(w->settled);
    kl_object_unref(w->object);
    kl_object_unref(w->in_store);
    kl_bytes_unref(w->bytes);
    w->settled = w->object = w->in_store = NULL;
    w->bytes = NULL;
}

// The machine is over: what it held is let go only after the request was answered, since names and
// values in the answer may lie in it. The request's end may free w itself.
struct held {
    struct kl_kv *stored;
    struct kl_object *was, *object;
};

static struct held end(struct kl_write *w)
{
    struct held h = {w->stored, w->was, w->object};
    drop_more(w);
    for (struct kl_write_more *m = w->more; m; m = m->next)
        kl_kv_unref(m->found);
    w->more = NULL;
    kl_bytes_unref(w->bytes);
    kl_object_unref(w->settled);
    kl_object_unref(w->in_store);
    w->settled = w->in_store = NULL;
    w->stored = NULL;
    w->was = NULL;
    w->object = NULL;
    w->bytes = NULL;
    return h;
}

static void let_go(struct held h)
{
    kl_object_unref(h.object);
    kl_object_unref(h.was);
    kl_kv_unref(h.stored);
}

static void fail(struct kl_write *w)
{
    struct kl_req *r = w->r;
    struct held h = end(w);
    if (!r->fail.http) // a negative verdict without words
        kl_fail_oom(r);
    kl_req_fail(r);
    let_go(h);
}

// Answers with w->object.
static void answer_object(struct kl_write *w, int http)
{
    struct kl_req *r = w->r;
    r->result = KL_RESULT_OBJECT;
    r->http = http;
    struct kl_error err = {0};
    if (!(r->frozen = kl_object_in_version(r->info.res, w->object, &err))) {
        kl_fail_err(r, &err);
        fail(w);
        return;
    }
    r->type = r->frozen->type;
    r->api_version = kl_str(r->info.res->api_version);
    r->kind = kl_str(r->info.res->kind);
    struct held h = end(w);
    kl_req_done(r);
    let_go(h);
}

static void finish_with(struct kl_write *w, struct kl_object *now)
{
    struct held h = end(w);
    w->finish(w, now);
    let_go(h);
}

static void answer_removed(struct kl_write *w)
{
    struct kl_req *r = w->r;
    if (!w->status_answer) {
        answer_object(w, 200);
        return;
    }
    struct kl_str uid = kl_arena_dup(r->arena, kl_meta_uid(&w->object->root));
    struct held h = end(w);
    kl_req_ok_status(r, uid);
    let_go(h);
}

static void succeed(struct kl_write *w, struct kl_kv *kv);

static void on_answer_converted(void *arg, int code)
{
    struct kl_write *w = arg;
    struct kl_kv *kv = w->written;
    w->written = NULL;
    if (code)
        fail(w);
    else
        succeed(w, kv);
    kl_kv_unref(kv);
}

// `kv` (borrowed) is the version written, or the stored one when nothing was. The answer is what
// reading it would give: upstream decodes what it has written.
static void succeed(struct kl_write *w, struct kl_kv *kv)
{
    struct kl_req *r = w->r;
    struct kl_error err = {0};
    if (w->verdict != KL_WRITE_REMOVE && kl_req_convert(r, w->res, kv, on_answer_converted, w)) {
        w->written = kl_kv_ref(kv);
        return;
    }
    if (w->finish) {
        struct kl_object *now =
            w->verdict == KL_WRITE_REMOVE ? w->object : kl_cache_object(kv, w->res, &err);
        if (now) {
            finish_with(w, now);
            return;
        }
        kl_fail_err(r, &err);
        fail(w);
        return;
    }
    if (w->verdict == KL_WRITE_REMOVE) {
        answer_removed(w);
        return;
    }
    int http = w->verdict == KL_WRITE_PUT && !w->stored ? 201 : 200;
    struct held h = end(w);
    kl_req_ok_kv(r, http, kv);
    let_go(h);
}

// As if it had been written.
static void succeed_dry(struct kl_write *w)
{
    if (w->finish)
        finish_with(w, w->object);
    else if (w->verdict == KL_WRITE_REMOVE)
        answer_removed(w);
    else
        answer_object(w, w->stored ? 200 : 201);
}

// Takes what the lost race found of the further keys; whether one of them lost it.
static bool take_found(struct kl_write *w, struct kl_op *els)
{
    bool lost = false;
    for (struct kl_write_more *m = w->more; m; m = m->next) {
        if (!m->value)
            continue;
        kl_kv_unref(m->found);
        m->found = (++els)->kv;
        els->kv = NULL;
        if ((m->found ? m->found->mod_rev : 0) != m->expect)
            lost |= ++m->lost < MAX_CHARGE_TRIES;
    }
    return lost;
}

// Whether the keys are others now than those that the value was sealed with.
static bool resealed(struct kl_write *w)
{
    if (w->guard < 0 || ++w->guard_tries > MAX_TRIES)
        return false;
    const struct kl_kv *kv = kl_view_get(kl_req_view(w->r), KL_STR(KL_ENCRYPTION_KEY));
    kl_encryption_refresh(w->r->srv->o.encryption, kl_req_view(w->r));
    return (kv ? kv->mod_rev : 0) != w->guard;
}

static void lost(struct kl_write *w, struct kl_kv *found, bool by_charge)
{
    struct kl_req *r = w->r;
    kl_rev was = w->stored ? w->stored->mod_rev : 0, is = found ? found->mod_rev : 0;
    int rc = 0;
    if (was == is && by_charge) {
        rc = 0;
    } else if (was == is && resealed(w)) {
        rc = 0;
    } else if (was == is && w->extra_failed) {
        rc = w->extra_failed(w);
    } else if (w->fresh && found) {
        rc = KL_EEXISTS;
        kl_fail_exists(r, kl_meta_name(&w->draft));
    } else if (w->exact || ++w->tries > MAX_TRIES) {
        rc = KL_ECONFLICT;
        kl_fail_conflict(r, r->info.name,
                         "the object has been modified; please apply your changes to the latest "
                         "version and try again");
    }
    if (rc < 0) {
        kl_kv_unref(found);
        fail(w);
        return;
    }
    drop(w);
    if (r->memos && !w->fresh) // of the version that was replaced; the next try makes its own draft
        kl_req_forget_conversions(r);
    kl_kv_unref(w->stored);
    w->stored = found;
    step(w);
}

// What is too large for the store is tried once more without managedFields, as upstream's handlers
// do. An apply is not: it is about them.
static bool give_up_owners(struct kl_write *w, int code)
{
    const struct kl_req *r = w->r;
    bool writes = r->info.op == KL_VERB_CREATE || r->info.op == KL_VERB_UPDATE ||
                  (r->info.op == KL_VERB_PATCH && r->opts.patch_type != KL_PATCH_APPLY);
    if (code != KL_ETOOLARGE || w->ownerless || !writes || w->verdict != KL_WRITE_PUT)
        return false;
    w->ownerless = true;
    drop(w);
    step(w);
    return true;
}

static void on_txn(struct kl_txn *t)
{
    struct kl_write *w = KL_CONTAINER_OF(t, struct kl_write, txn);
    struct kl_req *r = w->r;
    if (w->span) {
        kl_span_event(w->span, t->code ? "Txn call failed" : "Txn call succeeded");
        kl_span_end(w->span);
        w->span = NULL;
    }
    kl_series_etcd(r, w->res,
                   w->verdict != KL_WRITE_PUT ? KL_ETCD_DELETE
                   : w->stored                ? KL_ETCD_UPDATE
                                              : KL_ETCD_CREATE,
                   (int64_t)(uv_hrtime() - w->submitted_ns) / 1000);
    if (t->code) {
        struct kl_error err = t->err;
        if (!err.code)
            kl_error_set(&err, t->code, "%s", kl_err_text(t->code));
        kl_txn_fini(t);
        if (!give_up_owners(w, err.code)) {
            kl_fail_err(r, &err);
            fail(w);
        }
        return;
    }
    if (!t->body.succeeded) {
        struct kl_op *els = t->body.els;
        struct kl_kv *found = els[0].kv;
        els[0].kv = NULL;
        bool by_charge = take_found(w, els);
        kl_txn_fini(t);
        lost(w, found, by_charge);
        return;
    }
    const struct kl_op *own = t->body.then;
    struct kl_kv *kv = kl_kv_ref(w->verdict == KL_WRITE_PUT ? own->kv : own->prev);
    kl_rev rev = w->verdict == KL_WRITE_PUT ? kv->mod_rev : t->rev;
    struct kl_object *o = w->verdict == KL_WRITE_PUT || !w->status_answer
                              ? kl_object_with_rv(w->in_store ? w->in_store : w->object, rev)
                              : NULL;
    if (w->verdict == KL_WRITE_PUT) {
        // A watcher on another loop may have decoded it already; then that one stays.
        kl_cache_attach_object(kv, o);
    } else if (o) { // what was removed carries the revision of its removal
        kl_object_unref(w->object);
        w->object = o;
    }
    kl_txn_fini(t);
    succeed(w, kv);
    kl_kv_unref(kv);
}

// The transaction's lists with the further keys behind their own.
static int add_more(struct kl_write *w)
{
    struct kl_txn_body *b = &w->txn.body;
    size_t n = 0;
    for (struct kl_write_more *m = w->more; m; m = m->next)
        n += m->value != NULL;
    if (!n)
        return 0;
    struct kl_arena *a = w->r->arena;
    struct kl_compare *cmp = kl_arena_zalloc(a, (b->ncompares + n) * sizeof *cmp);
    struct kl_op *then = kl_arena_zalloc(a, (b->nthen + n) * sizeof *then);
    struct kl_op *els = kl_arena_zalloc(a, (b->nels + n) * sizeof *els);
    if (!cmp || !then || !els)
        return KL_ENOMEM;
    memcpy(cmp, b->compares, b->ncompares * sizeof *cmp);
    memcpy(then, b->then, b->nthen * sizeof *then);
    memcpy(els, b->els, b->nels * sizeof *els);
    b->compares = cmp;
    b->then = then;
    b->els = els;
    for (struct kl_write_more *m = w->more; m; m = m->next) {
        if (!m->value)
            continue;
        cmp[b->ncompares++] = (struct kl_compare){
            .key = m->key, .target = KL_COMPARE_MOD, .result = KL_COMPARE_EQ, .num = m->expect};
        then[b->nthen++] = (struct kl_op){.kind = KL_OP_PUT, .key = m->key, .value = m->value};
        els[b->nels++] = (struct kl_op){.kind = KL_OP_GET, .key = m->key};
    }
    return 0;
}

// Upstream's span of its storage; what the store's name is there, is part of it.
static void trace_txn(struct kl_write *w)
{
    struct kl_req *r = w->r;
    if (w->verdict != KL_WRITE_PUT)
        return;
    w->span = kl_span_begin(r, w->stored ? "GuaranteedUpdate etcd3" : "Create etcd3");
    kl_span_text(w->span, "audit-id", kl_audit_id(r));
    kl_span_text(w->span, "key", w->key);
    kl_span_text(w->span, "type", kl_req_go_type(r, false));
    kl_span_text(w->span, "group", kl_str(w->res->group));
    kl_span_text(w->span, "resource", kl_str(w->res->plural));
}

static void submit(struct kl_write *w)
{
    bool put = w->verdict == KL_WRITE_PUT;
    w->txn = (struct kl_txn){.cb = on_txn};
    if (w->r->trace)
        trace_txn(w);
    w->submitted_ns = uv_hrtime();
    w->cmp[0] = (struct kl_compare){.key = w->key,
                                    .target = KL_COMPARE_MOD,
                                    .result = KL_COMPARE_EQ,
                                    .num = w->stored ? w->stored->mod_rev : 0};
    w->then[0] = (struct kl_op){.kind = put ? KL_OP_PUT : KL_OP_DELETE,
                                .key = w->key,
                                .value = w->bytes,
                                .lease = w->lease};
    w->els[0] = (struct kl_op){.kind = KL_OP_GET, .key = w->key};
    memcpy(w->cmp + 1, w->extra_cmp, w->nextra_cmp * sizeof w->cmp[0]);
    memcpy(w->then + 1, w->extra_op, w->nextra_op * sizeof w->then[0]);
    w->txn.body = (struct kl_txn_body){.compares = w->cmp,
                                       .ncompares = 1 + w->nextra_cmp,
                                       .then = w->then,
                                       .nthen = 1 + w->nextra_op,
                                       .els = w->els,
                                       .nels = 1};
    if (w->guard >= 0)
        w->cmp[w->txn.body.ncompares++] = (struct kl_compare){.key = KL_STR(KL_ENCRYPTION_KEY),
                                                              .target = KL_COMPARE_MOD,
                                                              .result = KL_COMPARE_EQ,
                                                              .num = w->guard};
    if (w->more && add_more(w)) {
        kl_fail_oom(w->r);
        fail(w);
        return;
    }
    struct kl_error err = {0};
    int rc = kl_store_submit(w->r->srv->o.store, &w->txn, &err);
    if (!rc)
        return;
    kl_span_end(w->span);
    w->span = NULL;
    if (!give_up_owners(w, rc)) {
        kl_fail_err(w->r, &err);
        fail(w);
    }
}

static void commit(struct kl_write *w);

static void on_stored_converted(struct kl_conversion *c, int code, const struct kl_error *err)
{
    struct kl_write *w = KL_CONTAINER_OF(c, struct kl_write, conversion);
    w->in_store = c->object;
    if (code) {
        kl_conversion_fail(w->r, err);
        fail(w);
    } else {
        commit(w);
    }
}

// The row of what goes into the store; NULL: a webhook makes it first (`commit` comes again), or
// the write has failed.
static const struct kl_resource *row_in_store(struct kl_write *w)
{
    const struct kl_resource *st = kl_resource_storage(w->res);
    struct kl_error err = {0};
    if (!st->custom || !st->custom->family->webhook || st == st->custom->family->storage)
        return st;
    if (w->in_store)
        return st->custom->family->storage;
    w->conversion = (struct kl_conversion){.done = on_stored_converted, .r = w->r};
    if (kl_convert_object(w->r->al, st, st->custom->family->storage, w->object, &w->conversion,
                          &err) < 0) {
        kl_conversion_fail(w->r, &err);
        fail(w);
    }
    return NULL;
}

// The draft is the one to be written, and canonical as w->object; all that may refuse it has.
static void commit(struct kl_write *w)
{
    struct kl_req *r = w->r;
    if (kl_deadline_passed(r)) {
        fail(w);
        return;
    }
    if (w->fresh && w->stored) {
        kl_fail_exists(r, kl_meta_name(&w->draft));
        fail(w);
        return;
    }
    if (r->opts.dry_run) {
        succeed_dry(w);
        return;
    }
    if (w->verdict == KL_WRITE_PUT) {
        struct kl_encryption *e = r->srv->o.encryption;
        const struct kl_resource *st = row_in_store(w);
        struct kl_error err = {0};
        if (!st)
            return;
        const struct kl_object *o = w->in_store ? w->in_store : w->object;
        if (!(w->bytes = kl_encryption_encode(e, st, w->key, o, &w->guard, &err))) {
            kl_fail_err(r, &err);
            fail(w);
            return;
        }
        if (w->stored && kl_encryption_same(e, st, w->stored, o, w->bytes)) {
            w->verdict = KL_WRITE_NOTHING;
            struct kl_kv *kv = kl_kv_ref(w->stored);
            succeed(w, kv);
            kl_kv_unref(kv);
            return;
        }
    }
    submit(w);
}

static void on_validated(struct kl_admit *ad, int rc)
{
    struct kl_write *w = KL_CONTAINER_OF(ad, struct kl_write, ad);
    if (rc)
        fail(w);
    else
        commit(w);
}

// The draft without a version (a dry run's: with that of what is stored), canonical.
static struct kl_object *freeze_draft(struct kl_write *w, const struct kl_object *stored)
{
    struct kl_req *r = w->r;
    struct kl_str rv = KL_STR("");
    if (w->settled && !w->ownerless && w->verdict == KL_WRITE_PUT) {
        if (r->opts.dry_run)
            rv = kl_meta_rv(&stored->root);
        struct kl_object *o = kl_object_restamp(w->settled, rv);
        if (o)
            return o;
    }
    struct kl_value *meta = kl_edit(r->arena, &w->draft, KL_F_metadata, KL_STRUCT);
    if (meta && w->ownerless)
        kl_unset(r->arena, meta, KL_F_managedFields);
    if (meta && w->verdict == KL_WRITE_PUT && !r->opts.dry_run)
        kl_unset(r->arena, meta, KL_F_resourceVersion);
    else if (meta && r->opts.dry_run && stored)
        kl_set(r->arena, meta, KL_F_resourceVersion, kl_string(kl_meta_rv(&stored->root)));
    return meta ? kl_object_freeze(kl_resource_storage(w->res)->type, &w->draft) : NULL;
}

// What the write would store, and whether validating admission lets it.
static void validate(struct kl_write *w, const struct kl_object *stored)
{
    if (!(w->object = freeze_draft(w, stored))) {
        kl_fail_oom(w->r);
        fail(w);
        return;
    }
    int rc = 0;
    if (w->op) {
        if (w->ad.draft == &w->draft)
            w->ad.object = &w->object->root;
        w->ad.done = on_validated;
        rc = kl_admit_validate(&w->ad);
    }
    if (rc != KL_ADMIT_WAIT)
        on_validated(&w->ad, rc);
}

static void settle(struct kl_write *w, struct kl_object *stored)
{
    if (w->settle && (w->verdict = w->settle(w, stored, &w->draft)) < 0) {
        fail(w);
        return;
    }
    if (w->verdict != KL_WRITE_NOTHING) {
        validate(w, stored);
        return;
    }
    struct kl_kv *kv = kl_kv_ref(w->stored);
    succeed(w, kv);
    kl_kv_unref(kv);
}

static void on_mutated(struct kl_admit *ad, int rc)
{
    struct kl_write *w = KL_CONTAINER_OF(ad, struct kl_write, ad);
    if (rc)
        fail(w);
    else
        settle(w, w->was);
}

// Mutating admission of what transform made. KL_ADMIT_WAIT: on_mutated goes on.
static int mutate(struct kl_write *w, struct kl_object *stored)
{
    struct kl_admit *ad = &w->ad;
    if (!ad->draft && w->op != KL_ADMIT_DELETE)
        ad->object = ad->draft = &w->draft;
    if (stored && !ad->old)
        ad->old = &stored->root;
    if (w->fresh)
        return 0;
    ad->done = on_mutated;
    return kl_admit_mutate(ad);
}

static void on_converted(void *arg, int code)
{
    struct kl_write *w = arg;
    if (code)
        fail(w);
    else
        step(w);
}

static void step_again(void *arg)
{
    step(arg);
}

// What configures admission can be removed and replaced though it cannot be read, since it may keep
// everything else from being written: it counts as one of which only the name is known.
static struct kl_object *stand_in(const struct kl_write *w)
{
    struct kl_arena *a = w->r->arena;
    struct kl_value v = kl_new_struct(), *m = kl_edit(a, &v, KL_F_metadata, KL_STRUCT);
    char *uid = kl_arena_alloc(a, 37);
    if (!kl_admit_is_configuration(w->res) || !m || !uid)
        return NULL;
    kl_uuid(uid);
    struct kl_str rev = kl_arena_printf(a, "%lld", (long long)w->stored->mod_rev);
    if (!rev.p || kl_set(a, m, KL_F_name, kl_string(w->r->info.name)) ||
        kl_set(a, m, KL_F_uid, kl_stringz(uid)) ||
        kl_set(a, m, KL_F_resourceVersion, kl_string(rev)) ||
        kl_set(a, m, KL_F_creationTimestamp, kl_time(kl_wall_ms() / 1000 * 1000000)))
        return NULL;
    return kl_object_freeze(kl_resource_storage(w->res)->type, &v);
}

static void step(struct kl_write *w)
{
    struct kl_req *r = w->r;
    struct kl_error err = {0};
    struct kl_object *stored = NULL, *own = NULL;
    if (w->stored && kl_req_convert(r, w->res, w->stored, on_converted, w))
        return;
    // Nothing stands in for what is only out of reach for now.
    if (w->stored && !(stored = kl_cache_object(w->stored, w->res, &err)) &&
        !(own = stored = err.code == KL_ECORRUPT ? stand_in(w) : NULL)) {
        kl_fail_err(r, &err);
        fail(w);
        return;
    }
    kl_object_unref(w->was);
    w->was = kl_object_ref(stored); // some objects are only lent, and admission may wait
    kl_object_unref(own);
    w->nextra_cmp = w->nextra_op = 0;
    w->guard = -1;
    drop_more(w);
    r->write = w;
    if (w->op)
        kl_admit_init(&w->ad, r, w->op);
    w->verdict = w->transform(w, w->fresh ? NULL : stored, &w->draft);
    if (w->verdict == KL_EAGAIN && kl_req_convert_again(r, step_again, w))
        return;
    if (w->verdict < 0) {
        fail(w);
        return;
    }
    if (w->op && w->verdict != KL_WRITE_NOTHING) {
        int rc = mutate(w, w->fresh ? NULL : stored);
        if (rc == KL_ADMIT_WAIT)
            return;
        if (rc) {
            fail(w);
            return;
        }
    }
    settle(w, stored);
}

void kl_write_put_too(struct kl_write *w, struct kl_str key, kl_rev expect, struct kl_bytes *value)
{
    w->extra_cmp[w->nextra_cmp++] = (struct kl_compare){
        .key = key, .target = KL_COMPARE_MOD, .result = KL_COMPARE_EQ, .num = expect};
    w->extra_op[w->nextra_op++] = (struct kl_op){.kind = KL_OP_PUT, .key = key, .value = value};
}

static struct kl_write_more *more_of(const struct kl_write *w, struct kl_str key)
{
    struct kl_write_more *m = w->more;
    while (m && !kl_str_eq(m->key, key))
        m = m->next;
    return m;
}

int kl_write_charge(struct kl_write *w, struct kl_str key, kl_rev expect, struct kl_bytes *value)
{
    struct kl_write_more *m = more_of(w, key);
    if (!m && (m = KL_ARENA_NEW(w->r->arena, struct kl_write_more))) {
        m->key = kl_arena_dup(w->r->arena, key);
        m->next = w->more;
        w->more = m->key.p ? m : w->more;
    }
    if (!m || !m->key.p) {
        kl_bytes_unref(value);
        return KL_ENOMEM;
    }
    kl_bytes_unref(m->value);
    m->value = value;
    m->expect = expect;
    return 0;
}

struct kl_kv *kl_write_newest(const struct kl_write *w, struct kl_str key)
{
    struct kl_kv *kv = kl_view_get(kl_req_view(w->r), key);
    const struct kl_write_more *m = more_of(w, key);
    return m && m->found && (!kv || m->found->mod_rev > kv->mod_rev) ? m->found : kv;
}

void kl_write_start(struct kl_write *w)
{
    w->stored = kl_kv_ref(kl_view_get(kl_req_view(w->r), w->key));
    step(w);
}
