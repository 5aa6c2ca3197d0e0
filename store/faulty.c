// SPDX-License-Identifier: Apache-2.0
// faulty+URL: any back end, with faults between it and the core. For tests: the same seed gives
// the same faults for the same calls.
//
//   faulty+sqlite:///tmp/state.db?fault=seed:7,eio:5,conflict:100,slow:50:20,read:@3
//
// What is asked for stands in the query or, without one, in the environment as KINGLET_FAULT:
//
//   seed:N      of the faults that follow [1]
//   eio:P       a batch is not stored, KL_EIO
//   conflict:P  a batch is not stored, KL_ECONFLICT: it is evaluated again
//   maybe:P     a batch fails with KL_EMAYBE, and every other time it was stored all the same:
//               it comes up from outside, later than its writers were told
//   slow:P:MS   a batch waits so long before it is proposed
//   read:P      a read of history, of an old state or of a value fails, KL_EIO
//   head:P      a head cannot be confirmed
//
// P is how many of 1000 calls, or @N: the Nth one alone.
#include "store/store_int.h"
#include "store/view_int.h"
#include <stdio.h>
#include <stdlib.h>

enum fault { EIO_FAULT, CONFLICT, MAYBE, SLOW, READ, HEAD, FAULTS };
enum { POLL_MS = 1, POLLS_MAX = 1000 };

static const char *const names[FAULTS] = {"eio", "conflict", "maybe", "slow", "read", "head"};

struct kl_backend {
    struct kl_store *core;
    const struct kl_backend_ops *ops; // of the one that is wrapped
    struct kl_backend *inner;
    uint64_t rand;
    struct {
        int64_t per_mille, nth, calls;
    } fault[FAULTS];
    int64_t slow_ms, nmaybe;
    uv_timer_t timer; // on the core's loop, from start on
    bool started;
    struct kl_batch *batch; // waits for the timer
    kl_rev ghost_rev;       // what was stored behind the core's back ends here; 0: nothing was
    int polls;
    int code; // what the batch ends with
};

// ---- what is asked for ----

static int parse_one(struct kl_backend *b, struct kl_str item, struct kl_error *err)
{
    struct kl_str rest = item, name, p, ms = {"", 0};
    int64_t n = 0;
    kl_str_split(&rest, ':', &name);
    bool has = kl_str_split(&rest, ':', &p);
    kl_str_split(&rest, ':', &ms);
    bool nth = has && p.n && p.p[0] == '@';
    if (!has || !kl_str_to_i64(nth ? kl_str_from(p, 1) : p, &n) || n < 0)
        return kl_error_set(err, KL_EINVALID, "faulty+: %.*s: a number is needed", KL_PRI(item));
    if (kl_str_eqz(name, "seed")) {
        b->rand = (uint64_t)n | 1;
        return 0;
    }
    for (int i = 0; i < FAULTS; i++) {
        if (!kl_str_eqz(name, names[i]))
            continue;
        if (nth)
            b->fault[i].nth = n;
        else
            b->fault[i].per_mille = n;
        if (i == SLOW && !kl_str_to_i64(ms, &b->slow_ms))
            return kl_error_set(err, KL_EINVALID, "faulty+: slow:P:MS");
        return 0;
    }
    return kl_error_set(err, KL_EINVALID, "faulty+: no fault is called %.*s", KL_PRI(name));
}

static int parse_faults(struct kl_backend *b, struct kl_str spec, struct kl_error *err)
{
    struct kl_str item;
    while (kl_str_split(&spec, ',', &item)) {
        int r = item.n ? parse_one(b, item, err) : 0;
        if (r)
            return r;
    }
    return 0;
}

// The URL without its fault=..., which is left in *ret_spec.
static char *plain_url(struct kl_str url, struct kl_str *ret_spec)
{
    char *p = malloc(url.n + 1);
    ptrdiff_t q = kl_str_chr(url, '?');
    if (!p)
        return NULL;
    size_t n = q < 0 ? url.n : (size_t)q;
    memcpy(p, url.p, n);
    struct kl_str query = q < 0 ? (struct kl_str){NULL, 0} : kl_str_from(url, n + 1), item;
    char sep = '?';
    while (q >= 0 && kl_str_split(&query, '&', &item)) {
        if (kl_str_starts(item, KL_STR("fault="))) {
            *ret_spec = kl_str_from(item, 6);
            continue;
        }
        p[n++] = sep;
        memcpy(p + n, item.p, item.n);
        n += item.n;
        sep = '&';
    }
    p[n] = 0;
    return p;
}

static bool strikes(struct kl_backend *b, enum fault f)
{
    int64_t call = ++b->fault[f].calls;
    if (b->fault[f].nth)
        return call == b->fault[f].nth;
    b->rand ^= b->rand << 13;
    b->rand ^= b->rand >> 7;
    b->rand ^= b->rand << 17;
    return (int64_t)(b->rand % 1000) < b->fault[f].per_mille;
}

// ---- batches ----

static void run_timer(uv_timer_t *t);

static void wait_ms(struct kl_backend *b, int64_t ms)
{
    uv_update_time(kl_loop_uv(kl_core_loop(b->core)));
    uv_timer_start(&b->timer, run_timer, (uint64_t)ms, 0);
}

// The same writes as another's batch.
static struct kl_batch *copy_batch(const struct kl_batch *from)
{
    struct kl_batch *c = kl_batch_new();
    int r = c ? 0 : KL_ENOMEM;
    for (size_t i = 0; !r && i < from->nrows; i++) {
        r = kl_batch_add_row(c, kl_kv_ref(from->rows[i].kv));
        if (!r)
            c->rows[i].prev = kl_kv_ref(from->rows[i].prev);
    }
    for (size_t i = 0; !r && i < from->nleases; i++)
        r = kl_batch_add_lease(c, from->leases[i]);
    for (size_t i = 0; !r && i < from->nforwarded; i++)
        r = kl_batch_add_forwarded(c, from->forwarded[i]);
    if (r) {
        kl_batch_free(c);
        return NULL;
    }
    c->origin = from->origin + 1;
    c->seq = from->seq;
    c->base_rev = from->base_rev;
    c->last_rev = from->last_rev;
    c->compact_rev = from->compact_rev;
    c->at_once = true; // who stores it as its own does not offer it again
    return c;
}

static void end_batch(struct kl_backend *b)
{
    struct kl_batch *batch = b->batch;
    b->batch = NULL;
    if (b->code) {
        kl_error_set(&batch->err, b->code, "injected: %s", kl_err_text(b->code));
        kl_core_failed(b->core, batch, b->code);
    } else {
        b->ops->propose(b->inner, batch);
    }
}

static void run_timer(uv_timer_t *t)
{
    struct kl_backend *b = t->data;
    if (b->ghost_rev > b->core->view->rev && b->polls++ < POLLS_MAX) { // one at a time
        wait_ms(b, POLL_MS);
        return;
    }
    b->ghost_rev = 0;
    end_batch(b);
}

static void propose(struct kl_backend *b, struct kl_batch *batch)
{
    b->batch = batch;
    b->code = strikes(b, EIO_FAULT)  ? KL_EIO
              : strikes(b, CONFLICT) ? KL_ECONFLICT
              : strikes(b, MAYBE)    ? KL_EMAYBE
                                     : 0;
    // Only what moves the revision can be seen to arrive.
    struct kl_batch *ghost = NULL;
    if (b->code == KL_EMAYBE && batch->nrows && ++b->nmaybe % 2)
        ghost = copy_batch(batch);
    if (ghost) {
        b->ghost_rev = ghost->last_rev;
        b->polls = 0;
        b->ops->propose(b->inner, ghost);
    }
    wait_ms(b, strikes(b, SLOW) ? b->slow_ms : ghost ? POLL_MS : 0);
}

// ---- reads ----

static void fail_rows(struct kl_task *t)
{
    struct kl_rows_req *q = KL_CONTAINER_OF(t, struct kl_rows_req, task);
    q->code = kl_error_set(&q->err, KL_EIO, "injected: %s", kl_err_text(KL_EIO));
    q->done(q);
}

static void read_rows(struct kl_backend *b, struct kl_rows_req *q)
{
    q->task.run = fail_rows;
    if (strikes(b, READ))
        kl_loop_defer(kl_core_loop(b->core), &q->task);
    else
        b->ops->read_rows(b->inner, q);
}

static void fail_range(struct kl_task *t)
{
    struct kl_range_req *q = KL_CONTAINER_OF(t, struct kl_range_req, task);
    q->code = kl_error_set(&q->err, KL_EIO, "injected: %s", kl_err_text(KL_EIO));
    q->done(q);
}

static void read_range(struct kl_backend *b, struct kl_range_req *q)
{
    q->task.run = fail_range;
    if (strikes(b, READ))
        kl_loop_defer(kl_core_loop(b->core), &q->task);
    else
        b->ops->read_range(b->inner, q);
}

static void run_head(struct kl_task *t)
{
    struct kl_head_req *q = KL_CONTAINER_OF(t, struct kl_head_req, task);
    q->done(q);
}

static void confirm_head(struct kl_backend *b, struct kl_head_req *q)
{
    q->task.run = run_head;
    q->rev = b->core->view->rev;
    if (strikes(b, HEAD))
        q->code = KL_EIO;
    if (q->code || !b->ops->confirm_head)
        kl_loop_defer(kl_core_loop(b->core), &q->task);
    else
        b->ops->confirm_head(b->inner, q);
}

// ---- passed on ----

static int open_faulty(struct kl_store *core, struct kl_str rest, struct kl_backend **ret_b,
                       struct kl_error *err)
{
    const char *env = getenv("KINGLET_FAULT");
    struct kl_str spec = kl_str(env);
    struct kl_backend *b = calloc(1, sizeof(*b));
    char *url = plain_url(rest, &spec);
    int r = KL_ENOMEM;
    if (!b || !url)
        goto out;
    b->core = core;
    b->rand = 1;
    struct kl_str inner;
    r = parse_faults(b, spec, err);
    if (!r)
        r = kl_store_find_backend(&core->o, url, &b->ops, &inner, err);
    if (!r)
        r = b->ops->open(core, inner, &b->inner, err);
    if (!r)
        *ret_b = b;
out:
    free(url);
    if (r)
        free(b);
    return r == KL_ENOMEM ? kl_error_set(err, r, "out of memory") : r;
}

static void key_rule(struct kl_backend *b, struct kl_key_rule *ret)
{
    if (b->ops->key_rule)
        b->ops->key_rule(b->inner, ret);
}

static int load_faulty(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err)
{
    return b->ops->load(b->inner, l, err);
}

static int import_begin(struct kl_backend *b, struct kl_import *im, struct kl_error *err)
{
    if (!b->ops->import_begin)
        return kl_error_set(err, KL_EUNSUPPORTED, "%s:// cannot be filled", b->ops->scheme);
    return b->ops->import_begin(b->inner, im, err);
}

static int import_rows(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err)
{
    return b->ops->import_rows(b->inner, batch, err);
}

static int import_end(struct kl_backend *b, const struct kl_import *im, struct kl_error *err)
{
    return b->ops->import_end(b->inner, im, err);
}

static void start(struct kl_backend *b)
{
    uv_timer_init(kl_loop_uv(kl_core_loop(b->core)), &b->timer);
    b->timer.data = b;
    b->started = true;
    if (b->ops->start)
        b->ops->start(b->inner);
}

static uint64_t get_leader(struct kl_backend *b)
{
    return b->ops->leader ? b->ops->leader(b->inner) : 0;
}

static void compact_step(struct kl_backend *b, struct kl_step_req *q)
{
    b->ops->compact_step(b->inner, q);
}

static void run_tidy(struct kl_task *t)
{
    struct kl_tidy_req *q = KL_CONTAINER_OF(t, struct kl_tidy_req, task);
    q->done(q);
}

static void tidy(struct kl_backend *b, struct kl_tidy_req *q)
{
    q->task.run = run_tidy;
    if (b->ops->tidy)
        b->ops->tidy(b->inner, q);
    else
        kl_loop_defer(kl_core_loop(b->core), &q->task);
}

static void get_sizes(struct kl_backend *b, struct kl_backend_sizes *ret)
{
    b->ops->sizes(b->inner, ret);
}

static void timer_closed(uv_handle_t *h)
{
    free(h->data);
}

// The loop's thread has ended; the loop itself ends after this and closes the timer.
static void close_faulty(struct kl_backend *b)
{
    b->ops->close(b->inner);
    if (b->started)
        uv_close((uv_handle_t *)&b->timer, timer_closed);
    else
        free(b);
}

extern const struct kl_backend_ops kl_backend_faulty;
const struct kl_backend_ops kl_backend_faulty = {
    .scheme = "faulty+",
    .key_rule = key_rule,
    .open = open_faulty,
    .load = load_faulty,
    .import_begin = import_begin,
    .import_rows = import_rows,
    .import_end = import_end,
    .start = start,
    .propose = propose,
    .confirm_head = confirm_head,
    .leader = get_leader,
    .read_rows = read_rows,
    .read_range = read_range,
    .compact_step = compact_step,
    .tidy = tidy,
    .sizes = get_sizes,
    .close = close_faulty,
};
