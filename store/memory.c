// SPDX-License-Identifier: Apache-2.0
// memory://: the log is an array in order of id; nothing outlives the process. Everything runs on
// the core's loop; completions are deferred so that callers see them later, as from any back end.
#include "store/backend.h"
#include "base/rand.h"
#include <stdlib.h>

struct kl_backend {
    struct kl_store *core;
    struct kl_event *rows;
    size_t n, cap;
    kl_rev rev, compact_rev, physical_rev;
    struct kl_lease_op *leases; // imported, until they are loaded
    size_t nleases;
    struct kl_event *staged; // of the proposed batch, when its rows are many
    size_t nstaged;
    atomic_llong bytes;
};

enum { STEP_ROWS = 1024 };

static int64_t row_bytes(const struct kl_event *e)
{
    return (int64_t)(sizeof(*e) + sizeof(*e->kv) + e->kv->key_len + kl_kv_value(e->kv).n);
}

static int open_memory(struct kl_store *core, struct kl_str rest, struct kl_backend **ret_b,
                       struct kl_error *err)
{
    struct kl_backend *b = calloc(1, sizeof(*b));
    if (!b)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    b->core = core;
    b->rev = 1; // etcd's revision of an empty store
    *ret_b = b;
    return 0;
}

// The first row with an id above `after`, or with a mod_rev of at least min_rev.
static size_t find_row(const struct kl_backend *b, kl_rev after, kl_rev min_rev)
{
    size_t lo = 0, hi = b->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const struct kl_kv *kv = b->rows[mid].kv;
        if (min_rev ? kv->mod_rev < min_rev : kv->id <= after)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int cmp_version(const void *a, const void *b)
{
    const struct kl_kv *x = *(struct kl_kv *const *)a, *y = *(struct kl_kv *const *)b;
    int c = kl_str_cmp(kl_kv_key(x), kl_kv_key(y));
    return c ? c : (x->id > y->id) - (x->id < y->id);
}

static int load_kvs(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err)
{
    // Imported rows: the newest version of each key, in key order.
    struct kl_kv **newest = malloc((b->n ? b->n : 1) * sizeof(*newest));
    if (!newest)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (size_t i = 0; i < b->n; i++)
        newest[i] = b->rows[i].kv;
    qsort(newest, b->n, sizeof(*newest), cmp_version);
    int r = 0;
    for (size_t i = 0; !r && i < b->n; i++) {
        bool last = i + 1 == b->n || !kl_str_eq(kl_kv_key(newest[i]), kl_kv_key(newest[i + 1]));
        if (last && !newest[i]->deleted)
            r = l->kv(l->arg, kl_kv_ref(newest[i]));
    }
    free(newest);
    return r ? kl_error_set(err, KL_ENOMEM, "out of memory") : 0;
}

static int load_memory(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err)
{
    int r = 0;
    l->rev = b->rev;
    l->compact_rev = b->compact_rev;
    l->physical_rev = b->physical_rev;
    l->cluster_id = kl_rand_u64() | 1;
    l->member_id = kl_rand_u64() | 1;
    for (size_t i = 0; !r && i < b->nleases; i++) {
        if (l->lease(l->arg, b->leases[i]))
            r = kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    free(b->leases);
    b->leases = NULL;
    b->nleases = 0;
    return r ? r : load_kvs(b, l, err);
}

static int room_for(struct kl_backend *b, size_t more)
{
    if (b->n + more <= b->cap)
        return 0;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < b->n + more)
        cap *= 2;
    struct kl_event *rows = realloc(b->rows, cap * sizeof(*rows));
    if (!rows)
        return KL_ENOMEM;
    b->rows = rows;
    b->cap = cap;
    return 0;
}

static void add_row(struct kl_backend *b, struct kl_kv *kv, struct kl_kv *prev)
{
    struct kl_event *e = &b->rows[b->n++];
    *e = (struct kl_event){kl_kv_ref(kv), kl_kv_ref(prev)};
    atomic_fetch_add_explicit(&b->bytes, row_bytes(e), memory_order_relaxed);
}

static void drop_staged(struct kl_backend *b)
{
    for (size_t i = 0; i < b->nstaged; i++) {
        atomic_fetch_sub_explicit(&b->bytes, row_bytes(&b->staged[i]), memory_order_relaxed);
        kl_kv_unref(b->staged[i].kv);
        kl_kv_unref(b->staged[i].prev);
    }
    free(b->staged);
    b->staged = NULL;
    b->nstaged = 0;
}

// ---- filled from another store: within one process, so never cut ----

static int import_begin(struct kl_backend *b, struct kl_import *im, struct kl_error *err)
{
    im->through = 0;
    return 0;
}

static int import_rows(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err)
{
    struct kl_lease_op *leases =
        realloc(b->leases, (b->nleases + batch->nleases + 1) * sizeof(*leases));
    if (leases)
        b->leases = leases;
    if (!leases || room_for(b, batch->nrows))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (size_t i = 0; i < batch->nrows; i++) {
        // What is before it is only known by its id: the row itself, when it is here.
        struct kl_kv *prev = batch->rows[i].prev;
        size_t at = prev ? find_row(b, prev->id - 1, 0) : b->n;
        bool here = at < b->n && b->rows[at].kv->id == prev->id;
        add_row(b, batch->rows[i].kv, here ? b->rows[at].kv : NULL);
    }
    if (batch->nleases)
        memcpy(b->leases + b->nleases, batch->leases, batch->nleases * sizeof(*leases));
    b->nleases += batch->nleases;
    return 0;
}

static int import_end(struct kl_backend *b, const struct kl_import *im, struct kl_error *err)
{
    b->rev = im->rev;
    b->compact_rev = im->compact_rev;
    b->physical_rev = im->base_rev < im->compact_rev ? im->base_rev : im->compact_rev;
    return 0;
}

// Some of them in each iteration of the loop; compaction may come between.
static void stage_rows(struct kl_backend *b, const struct kl_batch *batch)
{
    size_t end = b->nstaged + STEP_ROWS;
    for (; b->nstaged < batch->nrows && b->nstaged < end; b->nstaged++) {
        const struct kl_row *row = &batch->rows[b->nstaged];
        b->staged[b->nstaged] = (struct kl_event){kl_kv_ref(row->kv), kl_kv_ref(row->prev)};
        atomic_fetch_add_explicit(&b->bytes, row_bytes(&b->staged[b->nstaged]),
                                  memory_order_relaxed);
    }
}

static void run_propose(struct kl_task *t)
{
    struct kl_batch *batch = KL_CONTAINER_OF(t, struct kl_batch, task);
    struct kl_backend *b = batch->backend;
    bool many = batch->nrows > STEP_ROWS;
    if (many && !b->staged)
        b->staged = malloc(batch->nrows * sizeof(*b->staged));
    if ((many && !b->staged) || room_for(b, batch->nrows)) {
        drop_staged(b);
        kl_core_failed(b->core, batch, KL_ENOMEM);
        return;
    }
    if (many) {
        stage_rows(b, batch);
        if (b->nstaged < batch->nrows) {
            kl_loop_post(kl_core_loop(b->core), &batch->task);
            return;
        }
        memcpy(b->rows + b->n, b->staged, b->nstaged * sizeof(*b->staged));
        b->n += b->nstaged;
        b->nstaged = 0;
        drop_staged(b);
    }
    for (size_t i = 0; !many && i < batch->nrows; i++)
        add_row(b, batch->rows[i].kv, batch->rows[i].prev);
    b->rev = batch->last_rev;
    kl_core_applied(b->core, batch);
}

static void propose(struct kl_backend *b, struct kl_batch *batch)
{
    batch->backend = b;
    batch->task.run = run_propose;
    kl_loop_defer(kl_core_loop(b->core), &batch->task);
}

static void run_rows(struct kl_task *t)
{
    struct kl_rows_req *q = KL_CONTAINER_OF(t, struct kl_rows_req, task);
    q->done(q);
}

static void read_rows(struct kl_backend *b, struct kl_rows_req *q)
{
    size_t at = find_row(b, q->after_id, q->min_rev), n = b->n - at, bytes = 0;
    n = n < q->max_rows ? n : q->max_rows;
    q->through = b->rev;
    q->rows = malloc((n ? n : 1) * sizeof(*q->rows));
    if (!q->rows)
        q->code = KL_ENOMEM;
    for (size_t i = 0; q->rows && i < n; i++) {
        const struct kl_event *e = &b->rows[at + i];
        q->rows[q->nrows++] = (struct kl_event){kl_kv_ref(e->kv), kl_kv_ref(e->prev)};
        bytes += (size_t)row_bytes(e);
        if (bytes > q->max_bytes || q->nrows == q->max_rows) {
            q->through = e->kv->id;
            break;
        }
    }
    q->task.run = run_rows;
    kl_loop_defer(kl_core_loop(b->core), &q->task);
}

static void run_range(struct kl_task *t)
{
    struct kl_range_req *q = KL_CONTAINER_OF(t, struct kl_range_req, task);
    q->done(q);
}

static void read_range(struct kl_backend *b, struct kl_range_req *q)
{
    struct kl_kv **all = malloc((b->n + 1) * sizeof(struct kl_kv *));
    size_t n = 0;
    q->task.run = run_range;
    kl_loop_defer(kl_core_loop(b->core), &q->task);
    if (!all) {
        q->code = KL_ENOMEM;
        return;
    }
    for (size_t i = 0; i < b->n && b->rows[i].kv->mod_rev <= q->rev; i++) {
        if (kl_range_has(q->key, q->end, kl_kv_key(b->rows[i].kv)))
            all[n++] = b->rows[i].kv;
    }
    qsort(all, n, sizeof(*all), cmp_version);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        bool newest = i + 1 == n || !kl_str_eq(kl_kv_key(all[i]), kl_kv_key(all[i + 1]));
        if (!newest || all[i]->deleted)
            continue;
        q->count++;
        if (k < q->limit)
            all[k++] = kl_kv_ref(all[i]);
        else
            q->more = true;
    }
    q->kvs = all;
    q->nkvs = k;
}

static int cmp_rev(const void *a, const void *b)
{
    kl_rev x = *(const kl_rev *)a, y = *(const kl_rev *)b;
    return (x > y) - (x < y);
}

static void run_step(struct kl_task *t)
{
    struct kl_step_req *q = KL_CONTAINER_OF(t, struct kl_step_req, task);
    q->done(q);
}

static void compact_step(struct kl_backend *b, struct kl_step_req *q)
{
    kl_rev through = q->after + q->window < q->until ? q->after + q->window : q->until;
    // From the transaction at `after` on: a deletion that was kept for its watchers goes now.
    size_t at = find_row(b, 0, q->after), end = find_row(b, through, 0), n = 0;
    q->task.run = run_step;
    kl_loop_defer(kl_core_loop(b->core), &q->task);
    kl_rev *gone = malloc((2 * (end - at) + 1) * sizeof(*gone));
    if (!gone) {
        q->code = KL_ENOMEM;
        return;
    }
    for (size_t i = at; i < end; i++) {
        struct kl_event *e = &b->rows[i];
        if (e->kv->mod_rev > q->until)
            break;
        if (e->prev) {
            gone[n++] = e->prev->id;
            kl_kv_unref(e->prev);
            e->prev = NULL;
        }
        if (e->kv->deleted && e->kv->mod_rev < q->until)
            gone[n++] = e->kv->id;
    }
    qsort(gone, n, sizeof(*gone), cmp_rev);
    size_t w = n ? find_row(b, gone[0] - 1, 0) : b->n;
    for (size_t r = w, g = 0; r < b->n; r++) {
        while (g < n && gone[g] < b->rows[r].kv->id)
            g++;
        if (g < n && gone[g] == b->rows[r].kv->id) {
            atomic_fetch_sub_explicit(&b->bytes, row_bytes(&b->rows[r]), memory_order_relaxed);
            kl_kv_unref(b->rows[r].kv);
            kl_kv_unref(b->rows[r].prev);
            q->rows++;
        } else {
            b->rows[w++] = b->rows[r];
        }
    }
    b->n = w;
    free(gone);
    q->through = through;
}

static void get_sizes(struct kl_backend *b, struct kl_backend_sizes *ret)
{
    ret->db_bytes = ret->db_used_bytes = atomic_load_explicit(&b->bytes, memory_order_relaxed);
}

static void close_memory(struct kl_backend *b)
{
    for (size_t i = 0; i < b->n; i++) {
        kl_kv_unref(b->rows[i].kv);
        kl_kv_unref(b->rows[i].prev);
    }
    free(b->rows);
    free(b->leases);
    free(b);
}

extern const struct kl_backend_ops kl_backend_memory;
const struct kl_backend_ops kl_backend_memory = {
    .scheme = "memory",
    .open = open_memory,
    .load = load_memory,
    .import_begin = import_begin,
    .import_rows = import_rows,
    .import_end = import_end,
    .propose = propose,
    .read_rows = read_rows,
    .read_range = read_range,
    .compact_step = compact_step,
    .sizes = get_sizes,
    .close = close_memory,
};
