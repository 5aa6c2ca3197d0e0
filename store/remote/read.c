// SPDX-License-Identifier: Apache-2.0
// History: ranges at a revision, and rows by a watch of its own that ends at the newest revision
// that is up. Both belong to the core's loop at their ends and to the network's between.
#include "store/remote/remote_int.h"
#include "base/clock.h"
#include <stdlib.h>

enum { PROGRESS_MS = 100 };

// ---- a range at a revision ----

struct range_work {
    struct kl_backend *b;
    struct kl_task task;
    struct kl_remote_up up;
    struct kl_remote_call call;
    struct kl_range_req *q;
};

static int apply_range(struct kl_remote_up *u)
{
    struct range_work *w = KL_CONTAINER_OF(u, struct range_work, up);
    struct kl_range_req *q = w->q;
    free(w);
    q->done(q);
    return 0;
}

static int take_range(struct kl_range_req *q, const struct kl_etcd_range_response *r)
{
    size_t bytes = 0;
    if (r->count < 0)
        return KL_EPROTO;
    q->kvs = malloc((r->n_kvs + 1) * sizeof(struct kl_kv *));
    if (!q->kvs)
        return KL_ENOMEM;
    q->count = r->count;
    q->more = r->more;
    for (size_t i = 0; i < r->n_kvs; i++) {
        bytes += r->kvs[i].value.n;
        if (i && bytes > q->max_bytes) {
            q->more = true;
            break;
        }
        // Pages go on behind the last one.
        if (kl_str_cmp(r->kvs[i].key, i ? r->kvs[i - 1].key : q->key) < (i ? 1 : 0))
            return KL_EPROTO;
        int rc = kl_remote_kv(&r->kvs[i], false, &q->kvs[i]);
        if (rc)
            return rc;
        q->nkvs++;
    }
    return 0;
}

static void on_range(struct kl_remote_call *c)
{
    struct range_work *w = KL_CONTAINER_OF(c, struct range_work, call);
    struct kl_range_req *q = w->q;
    struct kl_backend *b = c->b;
    int rc = 0;
    if (c->code)
        q->code = kl_remote_error(c, &q->err);
    else if ((rc = take_range(q, c->reply)))
        q->code = kl_error_set(&q->err, rc, "%s", kl_err_text(rc));
    kl_remote_call_fini(c);
    kl_remote_post(b, &w->up);
}

static void run_range(struct kl_task *t)
{
    struct range_work *w = KL_CONTAINER_OF(t, struct range_work, task);
    struct kl_range_req *q = w->q;
    struct kl_etcd_range_request rq = {
        .key = q->key, .range_end = q->end, .limit = (int64_t)q->limit, .revision = q->rev};
    w->call =
        (struct kl_remote_call){.done = on_range,
                                .retry = true,
                                .request = kl_remote_encode(&kl_etcd_range_request_desc, &rq)};
    kl_remote_call(w->b, &w->call, KL_ETCD_RANGE);
}

static void run_range_failed(struct kl_task *t)
{
    struct kl_range_req *q = KL_CONTAINER_OF(t, struct kl_range_req, task);
    q->done(q);
}

void kl_remote_read_range(struct kl_backend *b, struct kl_range_req *q)
{
    struct range_work *w = calloc(1, sizeof(*w));
    if (!w) {
        q->code = kl_error_set(&q->err, KL_ENOMEM, "out of memory");
        q->task.run = run_range_failed;
        kl_loop_defer(kl_core_loop(b->core), &q->task);
        return;
    }
    *w = (struct range_work){.b = b, .q = q, .up.apply = apply_range, .task.run = run_range};
    kl_loop_post(b->loop, &w->task);
}

// ---- rows ----

struct kl_remote_rows {
    struct kl_backend *b;
    struct kl_task task;
    struct kl_remote_up up;
    struct kl_rows_req *q;
    struct kl_grpc_call *watch;
    struct kl_arena arena;
    kl_rev start, target;
    size_t cap, bytes;
    bool full; // the revision that comes is one too many
    int64_t deadline_ms, asked_ms;
};

static int apply_rows(struct kl_remote_up *u)
{
    struct kl_remote_rows *w = KL_CONTAINER_OF(u, struct kl_remote_rows, up);
    struct kl_rows_req *q = w->q;
    free(w);
    q->done(q);
    return 0;
}

static void drop_rows(struct kl_rows_req *q)
{
    for (size_t i = 0; i < q->nrows; i++) {
        kl_kv_unref(q->rows[i].kv);
        kl_kv_unref(q->rows[i].prev);
    }
    free(q->rows);
    q->rows = NULL;
    q->nrows = 0;
}

static void close_watch(struct kl_remote_rows *w)
{
    struct kl_grpc_call *call = w->watch;
    w->watch = NULL;
    if (call)
        kl_grpc_cancel(call);
}

static void end_rows(struct kl_remote_rows *w, int code, kl_rev through)
{
    struct kl_backend *b = w->b;
    close_watch(w);
    b->rows = NULL;
    kl_arena_fini(&w->arena);
    if (code)
        drop_rows(w->q);
    w->q->code = code;
    w->q->through = through;
    kl_remote_post(b, &w->up);
}

// The last one with its id says so; the rows of a revision come together or in fragments.
static int add_row(struct kl_remote_rows *w, const struct kl_etcd_event *e)
{
    struct kl_rows_req *q = w->q;
    if (q->nrows == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 64;
        struct kl_event *p = realloc(q->rows, cap * sizeof(*p));
        if (!p)
            return KL_ENOMEM;
        q->rows = p;
        w->cap = cap;
    }
    struct kl_kv *kv = NULL, *prev = NULL, *last = q->nrows ? q->rows[q->nrows - 1].kv : NULL;
    int rc = kl_remote_kv(e->kv, e->type == KL_ETCD_EVENT_EVENT_TYPE_DELETE, &kv);
    if (!rc && (kv->id < w->start || (last && kv->id < last->id)))
        rc = KL_EPROTO;
    if (!rc && e->prev_kv)
        rc = kl_remote_kv(e->prev_kv, false, &prev);
    if (rc) {
        kl_kv_unref(kv);
        return rc;
    }
    if (last && last->id == kv->id) {
        last->more = true;
        kv->sub = last->sub + 1;
    }
    q->rows[q->nrows++] = (struct kl_event){kv, prev};
    w->bytes += kl_kv_value(kv).n + (prev ? kl_kv_value(prev).n : 0) + 256;
    return 0;
}

// True: the page is whole.
static bool take_event(struct kl_remote_rows *w, const struct kl_etcd_event *e)
{
    struct kl_rows_req *q = w->q;
    kl_rev rev = e->kv ? e->kv->mod_revision : 0;
    kl_rev last = q->nrows ? q->rows[q->nrows - 1].kv->id : 0;
    int rc;
    if (!rev)
        end_rows(w, kl_error_set(&q->err, KL_EPROTO, "an event without a key"), 0);
    else if (rev > w->target)
        end_rows(w, 0, w->target);
    else if (rev != last && (q->nrows >= q->max_rows || w->bytes >= q->max_bytes))
        end_rows(w, 0, last);
    else if ((rc = add_row(w, e)))
        end_rows(w, kl_error_set(&q->err, rc, "%s", kl_err_text(rc)), 0);
    else
        return false;
    return true;
}

static void ask_progress(struct kl_remote_rows *w)
{
    struct kl_etcd_watch_progress_request p = {0};
    struct kl_bytes *bytes = kl_remote_encode(
        &kl_etcd_watch_request_desc, &(struct kl_etcd_watch_request){.progress_request = &p});
    if (bytes)
        kl_grpc_send(w->watch, bytes); // asked again when it was not
    kl_bytes_unref(bytes);
    w->asked_ms = kl_mono_ms();
}

static void on_message(void *arg, struct kl_grpc_call *call, struct kl_str message)
{
    struct kl_remote_rows *w = arg;
    struct kl_rows_req *q = w->q;
    void *msg;
    if (w->watch != call)
        return;
    kl_arena_reset(&w->arena);
    int rc = kl_proto_decode(&w->arena, &kl_etcd_watch_response_desc, message, &msg, &q->err);
    if (rc) {
        end_rows(w, rc, 0);
        return;
    }
    const struct kl_etcd_watch_response *r = msg;
    if (r->canceled) {
        rc = r->compact_revision > 0 ? KL_ECOMPACTED : KL_EUNAVAILABLE;
        end_rows(w, kl_error_set(&q->err, rc, "%s", kl_err_text(rc)), 0);
        return;
    }
    for (size_t i = 0; i < r->n_events; i++) {
        if (take_event(w, &r->events[i]))
            return;
    }
    bool at_end = q->nrows && q->rows[q->nrows - 1].kv->id == w->target;
    bool progress = !r->n_events && !r->created && r->header && r->header->revision >= w->target;
    if (!r->fragment && (at_end || progress))
        end_rows(w, 0, w->target);
    else if (r->created)
        ask_progress(w);
}

// Once more from the beginning, while there is time.
static void on_done(void *arg, enum kl_grpc_code code, struct kl_str reply,
                    const struct kl_error *err)
{
    struct kl_backend *b = arg;
    struct kl_remote_rows *w = b->rows;
    if (!w || !w->watch)
        return;
    w->watch = NULL;
    kl_remote_channel_lost(b);
    drop_rows(w->q);
    w->cap = w->bytes = 0;
    w->asked_ms = kl_mono_ms();
    if (kl_mono_ms() > w->deadline_ms || b->closing)
        end_rows(w,
                 kl_error_set(&w->q->err, KL_EUNAVAILABLE, "datastore %s: %.300s", b->name,
                              err ? err->msg : "the watch ended"),
                 0);
    kl_remote_wake(b);
}

static void on_rows_message(void *arg, struct kl_grpc_call *call, struct kl_str message)
{
    struct kl_backend *b = arg;
    if (b->rows)
        on_message(b->rows, call, message);
}

static void open_watch(struct kl_remote_rows *w)
{
    struct kl_backend *b = w->b;
    struct kl_etcd_watch_create_request create = {.key = KL_RANGE_TO_LAST,
                                                  .range_end = KL_RANGE_TO_LAST,
                                                  .start_revision = w->start,
                                                  .prev_kv = true,
                                                  .fragment = true};
    struct kl_bytes *bytes = kl_remote_encode(
        &kl_etcd_watch_request_desc, &(struct kl_etcd_watch_request){.create_request = &create});
    int rc = bytes ? kl_remote_channel_open(b, &w->q->err) : KL_ENOMEM;
    if (!rc)
        rc = kl_grpc_bidi(b->grpc, kl_etcd_methods[KL_ETCD_WATCH].path, on_rows_message, on_done, b,
                          &w->watch, &w->q->err);
    if (!rc)
        rc = kl_grpc_send(w->watch, bytes);
    kl_bytes_unref(bytes);
    w->asked_ms = kl_mono_ms();
    if (rc && rc != KL_EINVALID) // then on_done is about to come
        end_rows(w, rc, 0);
}

static void run_rows(struct kl_task *t)
{
    struct kl_remote_rows *w = KL_CONTAINER_OF(t, struct kl_remote_rows, task);
    struct kl_backend *b = w->b;
    struct kl_rows_req *q = w->q;
    b->rows = w;
    w->start = q->min_rev ? q->min_rev : q->after_id + 1;
    w->target = b->posted;
    w->deadline_ms = kl_mono_ms() + KL_REMOTE_WAIT_MS;
    if (w->start > w->target) {
        end_rows(w, 0, w->target);
        return;
    }
    open_watch(w);
    kl_remote_wake(b);
}

static void run_rows_failed(struct kl_task *t)
{
    struct kl_rows_req *q = KL_CONTAINER_OF(t, struct kl_rows_req, task);
    q->done(q);
}

void kl_remote_read_rows(struct kl_backend *b, struct kl_rows_req *q)
{
    struct kl_remote_rows *w = calloc(1, sizeof(*w));
    if (!w) {
        q->code = KL_ENOMEM;
        q->task.run = run_rows_failed;
        kl_loop_defer(kl_core_loop(b->core), &q->task);
        return;
    }
    *w = (struct kl_remote_rows){.b = b, .q = q, .up.apply = apply_rows, .task.run = run_rows};
    kl_arena_init(&w->arena, 0);
    kl_loop_post(b->loop, &w->task);
}

void kl_remote_rows_tick(struct kl_backend *b, int64_t now)
{
    struct kl_remote_rows *w = b->rows;
    if (!w || now - w->asked_ms < PROGRESS_MS)
        return;
    if (!w->watch)
        open_watch(w);
    else
        ask_progress(w);
}

void kl_remote_rows_stop(struct kl_backend *b)
{
    if (b->rows)
        end_rows(b->rows, KL_ECANCELED, 0);
}
