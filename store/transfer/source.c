// SPDX-License-Identifier: Apache-2.0
// Records out of an open store: the keys of a view by revision, then the log behind it from a
// watch, then the leases.
#include "store/transfer/source.h"
#include "store/transfer/access.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EVENTS_AT_ONCE = 256,
    IDLE_MARK_MS = 50, // a follower hears of the head that often
    LEASE_GONE_MS = 1000,
};

enum phase { HEADER, ROWS, LOG, LEASES, END, DONE };

struct store_source {
    struct kl_source source;
    struct kl_access a;
    struct kl_source_from from;
    struct kl_view *view;
    enum phase phase;
    struct kl_kv **rows; // borrowed from the view
    size_t nrows, at;
    struct kl_bytes *value; // of the record that was given out last
    int64_t sent;

    struct kl_watch w;
    bool watching;
    struct kl_event ev[EVENTS_AT_ONCE]; // references
    int nev, ev_at;
    kl_rev progress; // of the log, as of the newest fetch
    bool want;       // the loop waits for an event or the timer
    uv_timer_t timer;

    int64_t *seen_leases; // ids that rows carry
    size_t nseen, cap_seen;
    int64_t fence_lease; // which is no part of a copy, as the fence is none
    struct kl_access_lease *leases;
    size_t nleases, lease_at;

    atomic_llong finish; // INT64_MAX: not yet
    atomic_bool canceled;
};

static struct store_source *of(struct kl_source *s)
{
    return KL_CONTAINER_OF(s, struct store_source, source);
}

static int cmp_row(const void *x, const void *y)
{
    const struct kl_kv *a = *(struct kl_kv *const *)x, *b = *(struct kl_kv *const *)y;
    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    return kl_str_cmp(kl_kv_key(a), kl_kv_key(b)); // a remote etcd's keys of one transaction
}

static const struct kl_str all_from = KL_STR_INIT("\0");

static bool skip_fence(struct store_source *s, const struct kl_kv *kv)
{
    if (!kl_str_eqz(kl_kv_key(kv), KL_FENCE_KEY))
        return false;
    s->fence_lease = kv->lease;
    return true;
}

static int collect_rows(struct store_source *s, struct kl_error *err)
{
    struct kl_iter it;
    kl_iter_init(&it, s->view, all_from, KL_RANGE_TO_LAST);
    s->rows = malloc(((size_t)it.left + 1) * sizeof(*s->rows));
    if (!s->rows)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (struct kl_kv *kv; (kv = kl_iter_next(&it));) {
        if (!skip_fence(s, kv) && kv->id > s->from.through && kv->id <= s->from.base_rev)
            s->rows[s->nrows++] = kv;
    }
    qsort(s->rows, s->nrows, sizeof(*s->rows), cmp_row);
    return 0;
}

// ---- the log: on the loop ----

static void fetch(struct store_source *s);

static void fetched(struct store_source *s, int code)
{
    s->want = false;
    uv_timer_stop(&s->timer);
    kl_access_done(&s->a, code);
}

static void on_wake(struct kl_watch *w)
{
    struct store_source *s = w->arg;
    if (s->want)
        fetch(s);
}

static void on_timer(uv_timer_t *t)
{
    struct store_source *s = t->data;
    fetched(s, 0);
}

static void fetch(struct store_source *s)
{
    int n = kl_watch_next(&s->w, s->ev, EVENTS_AT_ONCE);
    kl_rev progress = s->progress;
    if (n < 0) {
        fetched(s, n);
        return;
    }
    for (int i = 0; i < n; i++) {
        kl_kv_ref(s->ev[i].kv);
        kl_kv_ref(s->ev[i].prev);
    }
    s->nev = n;
    if (!n)
        kl_watch_progress(&s->w, &s->progress);
    if (n || s->progress > progress)
        fetched(s, 0);
    else
        s->want = true;
}

static void run_fetch(struct kl_access *a)
{
    struct store_source *s = KL_CONTAINER_OF(a, struct store_source, a);
    s->nev = s->ev_at = 0;
    uv_timer_start(&s->timer, on_timer, IDLE_MARK_MS, 0);
    fetch(s);
}

// What a cut copy already had of the log is not sent again.
static kl_rev log_from(const struct store_source *s)
{
    return s->from.through > s->from.base_rev ? s->from.through : s->from.base_rev;
}

static void run_watch(struct kl_access *a)
{
    struct store_source *s = KL_CONTAINER_OF(a, struct store_source, a);
    uv_timer_init(kl_loop_uv(a->loop), &s->timer);
    s->timer.data = s;
    s->w.wake = on_wake;
    s->w.arg = s;
    int r = kl_watch_start(&s->w, a->reader, all_from, KL_RANGE_TO_LAST, log_from(s) + 1, &a->err);
    s->watching = !r;
    kl_access_done(a, r);
}

static void run_unwatch(struct kl_access *a)
{
    struct store_source *s = KL_CONTAINER_OF(a, struct store_source, a);
    kl_watch_stop(&s->w);
    uv_close((uv_handle_t *)&s->timer, NULL);
    kl_access_done(a, 0);
}

// ---- records ----

static int note_lease(struct store_source *s, int64_t id, struct kl_error *err)
{
    if (!id || (s->nseen && s->seen_leases[s->nseen - 1] == id))
        return 0;
    if (s->nseen == s->cap_seen) {
        size_t cap = s->cap_seen ? 2 * s->cap_seen : 256;
        int64_t *p = realloc(s->seen_leases, cap * sizeof(*p));
        if (!p)
            return kl_error_set(err, KL_ENOMEM, "out of memory");
        s->seen_leases = p;
        s->cap_seen = cap;
    }
    s->seen_leases[s->nseen++] = id;
    return 0;
}

static int give_row(struct store_source *s, const struct kl_kv *kv, const struct kl_kv *prev,
                    struct kl_record *ret, struct kl_error *err)
{
    s->sent++;
    *ret = (struct kl_record){.kind = KL_RECORD_ROW,
                              .row = {.id = kv->id,
                                      .mod_rev = kv->mod_rev,
                                      .create_rev = kv->create_rev,
                                      .version = kv->version,
                                      .lease = kv->lease,
                                      .prev_id = prev && prev->id < kv->id ? prev->id : 0,
                                      .prev_create = prev ? prev->create_rev : 0,
                                      .deleted = kv->deleted,
                                      .key = kl_kv_key(kv),
                                      .value = kl_bytes_str(s->value)}};
    return note_lease(s, kv->lease, err);
}

static void take_value(struct store_source *s, struct kl_kv *kv)
{
    kl_bytes_unref(s->value);
    s->value = kl_bytes_ref(kv->value);
}

static void give_header(struct store_source *s, struct kl_record *ret)
{
    struct kl_store_status st;
    kl_store_status(s->a.store, &st);
    *ret = (struct kl_record){.kind = KL_RECORD_HEADER,
                              .header = {.version = KL_RECORD_VERSION,
                                         .cluster_id = st.cluster_id,
                                         .rev = kl_view_rev(s->view),
                                         .compact_rev = kl_view_compact_rev(s->view),
                                         .wall_ms = kl_wall_ms(),
                                         .keys = (int64_t)s->nrows}};
    snprintf(ret->header.backend, sizeof(ret->header.backend), "%s", st.backend);
    s->phase = ROWS;
}

// 0: *ret is one; KL_EAGAIN: no more of them.
static int next_row(struct store_source *s, struct kl_record *ret, struct kl_error *err)
{
    if (s->at == s->nrows)
        return KL_EAGAIN;
    struct kl_kv *kv = s->rows[s->at++];
    take_value(s, kv);
    return give_row(s, kv, NULL, ret, err);
}

static void drop_events(struct store_source *s)
{
    for (int i = 0; i < s->nev; i++) {
        kl_kv_unref(s->ev[i].kv);
        kl_kv_unref(s->ev[i].prev);
    }
    s->nev = s->ev_at = 0;
}

static int next_change(struct store_source *s, struct kl_record *ret, struct kl_error *err)
{
    for (;;) {
        if (s->ev_at < s->nev) {
            struct kl_event *e = &s->ev[s->ev_at++];
            if (e->kv->id <= s->from.through || skip_fence(s, e->kv))
                continue; // of a transaction whose end is missing
            take_value(s, e->kv);
            return give_row(s, e->kv, e->prev, ret, err);
        }
        drop_events(s);
        kl_rev finish = atomic_load(&s->finish), before = s->progress;
        if (s->progress >= finish)
            return KL_EAGAIN;
        if (atomic_load(&s->canceled))
            return kl_error_set(err, KL_ECANCELED, "the copy was given up");
        int r = kl_access_call(&s->a, run_fetch, err);
        if (r)
            return r;
        if (s->nev || (s->progress > before && s->progress >= finish))
            continue;
        struct kl_store_status st;
        kl_store_status(s->a.store, &st);
        *ret = (struct kl_record){.kind = KL_RECORD_MARK, .mark = {s->progress, st.rev}};
        return 0;
    }
}

static int cmp_id(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return (a > b) - (a < b);
}

// Leases come last, as they are then. One that rows carry but that has gone meanwhile ends at once.
static int collect_leases(struct store_source *s, struct kl_error *err)
{
    int r = kl_access_leases(&s->a, &s->leases, &s->nleases, err);
    if (r)
        return r;
    for (size_t i = 0; s->fence_lease && i < s->nleases; i++) {
        if (s->leases[i].id == s->fence_lease) {
            memmove(&s->leases[i], &s->leases[i + 1], (--s->nleases - i) * sizeof(s->leases[0]));
            break;
        }
    }
    if (s->nseen)
        qsort(s->seen_leases, s->nseen, sizeof(*s->seen_leases), cmp_id);
    struct kl_access_lease *all = realloc(s->leases, (s->nleases + s->nseen + 1) * sizeof(*all));
    if (!all)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    s->leases = all;
    size_t have = s->nleases, k = 0;
    for (size_t i = 0; i < s->nseen; i++) {
        int64_t id = s->seen_leases[i];
        while (k < have && all[k].id < id)
            k++;
        bool again = i && s->seen_leases[i - 1] == id;
        if (!again && (k == have || all[k].id != id))
            all[s->nleases++] = (struct kl_access_lease){id, LEASE_GONE_MS, 0};
    }
    return 0;
}

static kl_rev end_rev(const struct store_source *s)
{
    return s->progress > kl_view_rev(s->view) ? s->progress : kl_view_rev(s->view);
}

static int next_record(struct kl_source *source, struct kl_record *ret, struct kl_error *err)
{
    struct store_source *s = of(source);
    int r;
    if (atomic_load(&s->canceled))
        return kl_error_set(err, KL_ECANCELED, "the copy was given up");
    switch (s->phase) {
    case HEADER:
        give_header(s, ret);
        return 0;
    case ROWS:
        if ((r = next_row(s, ret, err)) != KL_EAGAIN)
            return r;
        s->phase = LOG; // fall through
    case LOG:
        if (s->watching && (r = next_change(s, ret, err)) != KL_EAGAIN)
            return r;
        if ((r = collect_leases(s, err)))
            return r;
        s->phase = LEASES; // fall through
    case LEASES:
        if (s->lease_at < s->nleases) {
            const struct kl_access_lease *l = &s->leases[s->lease_at++];
            *ret = (struct kl_record){.kind = KL_RECORD_LEASE,
                                      .lease = {l->id, l->ttl_ms, l->remaining_ms}};
            return 0;
        }
        s->phase = END; // fall through
    case END:
        *ret = (struct kl_record){.kind = KL_RECORD_END, .end = {end_rev(s), s->sent}};
        s->phase = DONE;
        return 0;
    case DONE:
        break;
    }
    return KL_EEOF;
}

// ---- life ----

static void close_source(struct kl_source *source)
{
    struct store_source *s = of(source);
    drop_events(s);
    if (s->watching)
        kl_access_call(&s->a, run_unwatch, NULL);
    kl_access_close(&s->a);
    kl_bytes_unref(s->value);
    kl_view_unref(s->view);
    free(s->rows);
    free(s->seen_leases);
    free(s->leases);
    free(s);
}

int kl_store_source_new(struct kl_store *store, const struct kl_source_from *from,
                        struct kl_source **ret_s, struct kl_error *err)
{
    struct store_source *s = calloc(1, sizeof(*s));
    if (!s)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    s->source = (struct kl_source){next_record, close_source};
    s->from = *from;
    int r = kl_access_open(&s->a, store, err);
    if (r) {
        free(s);
        return r;
    }
    r = kl_access_view(&s->a, &s->view, err);
    if (r) {
        close_source(&s->source);
        return r;
    }
    kl_rev rev = kl_view_rev(s->view);
    if (!s->from.base_rev)
        s->from.base_rev = rev;
    atomic_init(&s->finish, from->follow ? INT64_MAX : rev);
    if (s->from.base_rev > rev)
        r = kl_error_set(err, KL_EFUTUREREV,
                         "the copy was begun at revision %lld, but the source is at %lld",
                         (long long)s->from.base_rev, (long long)rev);
    if (!r && (from->follow || log_from(s) < rev))
        r = kl_access_call(&s->a, run_watch, err);
    if (!r)
        r = collect_rows(s, err);
    if (r)
        close_source(&s->source);
    else
        *ret_s = &s->source;
    return r;
}

void kl_store_source_finish(struct kl_source *s, kl_rev rev)
{
    atomic_store(&of(s)->finish, rev);
}

void kl_store_source_cancel(struct kl_source *s)
{
    atomic_store(&of(s)->canceled, true);
}
