// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/copy.h"
#include "store/transfer/target.h"
#include "base/clock.h"

enum { NEAR_REVS = 200, PROGRESS_MS = 100 };

struct copy {
    const struct kl_store_copy_origin *from;
    const struct kl_store_copy_options *o;
    struct kl_store_copy_result *result;
    struct kl_target *target;
    struct kl_source *source;
    struct kl_import im;
    struct kl_store_copy_progress progress;
    int64_t told_ms, fenced_ms;
    kl_rev fence_rev;
    kl_rev begun_rev; // of this source: what is before it is compacted in the target
};

static void tell(struct copy *c, bool now)
{
    int64_t ms = kl_mono_ms();
    if (!c->o->progress || (!now && ms - c->told_ms < PROGRESS_MS))
        return;
    c->told_ms = ms;
    c->progress.rows = kl_target_rows(c->target);
    c->progress.bytes = kl_target_bytes(c->target);
    c->o->progress(c->o->arg, &c->progress);
}

// A follower that is near enough fences the source; what came before that is still to come.
static int take_mark(struct copy *c, const struct kl_record_mark *m, struct kl_error *err)
{
    int64_t near = c->o->near_revs ? c->o->near_revs : NEAR_REVS;
    int r = kl_target_flush(c->target, err);
    c->progress.following = true;
    c->progress.rev = m->rev;
    c->progress.head = m->head;
    tell(c, false);
    if (r || c->fenced_ms || !c->from->fence || m->head - m->rev > near)
        return r;
    c->fenced_ms = kl_mono_ms();
    return c->from->fence(c->from->arg, &c->fence_rev, err);
}

static int take_record(struct copy *c, const struct kl_record *rec, struct kl_error *err)
{
    switch (rec->kind) {
    case KL_RECORD_HEADER:
        c->begun_rev = rec->header.rev;
        c->progress.total = rec->header.keys;
        return 0;
    case KL_RECORD_ROW:
    case KL_RECORD_LEASE:
        return kl_target_add(c->target, rec, err);
    case KL_RECORD_MARK:
        return take_mark(c, &rec->mark, err);
    case KL_RECORD_FAIL:
        return kl_record_error(rec, err);
    case KL_RECORD_END:
        break;
    }
    return 0;
}

static int copy_records(struct copy *c, kl_rev *ret_rev, struct kl_error *err)
{
    struct kl_record rec;
    for (;;) {
        int r = c->source->next(c->source, &rec, err);
        if (!r)
            r = take_record(c, &rec, err);
        if (r)
            return r;
        if (rec.kind == KL_RECORD_END) {
            *ret_rev = rec.end.rev;
            return 0;
        }
        tell(c, false);
    }
}

static int open_source(struct copy *c, struct kl_error *err)
{
    struct kl_source_from from = {.base_rev = c->im.through ? c->im.base_rev : 0,
                                  .through = c->im.through,
                                  .follow = c->o->follow};
    return c->from->open(c->from->arg, &from, &c->source, err);
}

// Where the target says that an earlier copy was cut, or from the beginning.
static int begin_copy(struct copy *c, struct kl_error *err)
{
    uint64_t id;
    kl_rev rev;
    int r = c->from->identify(c->from->arg, &id, &rev, err);
    if (r)
        return r;
    // A snapshot may go back to where it came from.
    bool apart = !c->o->bump;
    c->im = (struct kl_import){.force = c->o->force, .apart = apart, .source = id, .base_rev = rev};
    r = kl_target_begin(c->target, &c->im, err);
    if (r)
        return r;
    c->result->resumed = c->im.through > 0;
    r = open_source(c, err);
    if ((r == KL_ECOMPACTED || r == KL_EFUTUREREV) && c->im.through) {
        // The source's log does not reach back to where the cut copy began.
        c->result->resumed = false;
        c->result->restarted = true;
        c->im = (struct kl_import){
            .force = c->o->force, .restart = true, .apart = apart, .source = id, .base_rev = rev};
        r = kl_target_begin(c->target, &c->im, err);
        if (!r)
            r = open_source(c, err);
    }
    return r;
}

int kl_store_copy(const struct kl_store_copy_origin *from, const struct kl_store_copy_options *o,
                  struct kl_store_copy_result *ret, struct kl_store **ret_store,
                  struct kl_target **ret_numbers, struct kl_error *err)
{
    struct copy c = {.from = from, .o = o, .result = ret};
    kl_rev rev = 0;
    *ret = (struct kl_store_copy_result){0};
    int r = kl_target_open(o->to, o->store, &c.target, err);
    if (!r)
        r = begin_copy(&c, err);
    if (!r)
        r = copy_records(&c, &rev, err);
    if (c.source)
        c.source->close(c.source);
    if (!r) {
        tell(&c, true);
        // What watched the source saw the fence being kept: it must not miss what comes here next.
        if (c.fence_rev)
            rev = c.fence_rev + 1;
        ret->from_rev = rev;
        ret->rev = kl_target_renumber(c.target, rev) + o->bump;
        // A restore is compacted to its newest revision: every watch there was begins anew.
        r = kl_target_end(c.target, rev, c.begun_rev, o->bump, ret_store, err);
    }
    if (!r) {
        ret->rows = kl_target_rows(c.target);
        ret->bytes = kl_target_bytes(c.target);
        ret->shared = kl_target_shared(c.target);
        ret->pause_ms = c.fenced_ms ? kl_mono_ms() - c.fenced_ms : 0;
    }
    if (!r && ret_numbers)
        *ret_numbers = c.target;
    else
        kl_target_close(c.target);
    return r;
}

// ---- an open store ----

static int identify_store(void *arg, uint64_t *ret_id, kl_rev *ret_rev, struct kl_error *err)
{
    struct kl_store_status st;
    kl_store_status(arg, &st);
    *ret_id = st.cluster_id;
    *ret_rev = st.rev;
    return 0;
}

static int open_store(void *arg, const struct kl_source_from *from, struct kl_source **ret_s,
                      struct kl_error *err)
{
    return kl_store_source_new(arg, from, ret_s, err);
}

const struct kl_store_copy_origin kl_store_copy_from_store = {.identify = identify_store,
                                                              .open = open_store};
