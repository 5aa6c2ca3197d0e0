// SPDX-License-Identifier: Apache-2.0
// shared://NAME: a log in memory that several stores of one process have open, as servers share a
// database: a batch is accepted only by who has seen all before it (KL_ECONFLICT otherwise), and
// comes to all others from outside. Lives as long as one store has it open, so that stopping one
// of two and opening it again is a restart.
#include "harness.h"
#include "base/rand.h"
#include "store/backend.h"
#include "store/peer/peers.h"
#include <sched.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    struct kl_event *rows; // references
    size_t nrows;
    struct kl_lease_op *leases;
    size_t nleases;
    struct kl_forwarded *forwarded;
    size_t nforwarded;
    kl_rev base_rev, last_rev, compact_rev;
    uint64_t origin, seq;
};

struct shared_log {
    char name[128];
    pthread_mutex_t mu;
    struct entry *entries;
    size_t n, cap;
    kl_rev rev, compact_rev;
    unsigned set_back; // how often
    struct kl_backend *open;
    int refs;
    struct shared_log *next;
};

struct kl_backend {
    struct kl_store *core;
    struct shared_log *log;
    size_t seen;       // entries; the core's loop
    size_t base;       // of these, what the proposed batch was evaluated on
    unsigned set_back; // of the log, as this server knows it
    struct kl_task reset;
    atomic_bool resetting;
    bool closed;
    struct kl_batch *proposed;
    struct kl_batch *untaken; // an outside one of many rows, which is taken in turns
    struct kl_task poke, propose_task, head_task;
    atomic_bool poked;
    struct kl_head_req *head;
    struct kl_backend *next;
    uint64_t member;
    bool started;
    // Who it believes evaluates: what hs_shared_lead said, on the core's loop.
    uint64_t leader;
    struct kl_task lead;
    atomic_bool telling;
    uint64_t told;
    // The log does not reach it: hs_shared_hold, until hs_shared_jump.
    atomic_bool held;
    struct kl_task jump;
    atomic_bool jumping;
    bool head_waits;
};

static pthread_mutex_t logs_mu = PTHREAD_MUTEX_INITIALIZER;
static struct shared_log *logs;

static struct kl_event ref_event(const struct kl_event *e)
{
    return (struct kl_event){kl_kv_ref(e->kv), kl_kv_ref(e->prev)};
}

// Another server decodes its own copy of what the database holds.
static struct kl_kv *copy_kv(const struct kl_kv *kv)
{
    struct kl_kv *c;
    while (!(c = kl_kv_new(kl_kv_key(kv), kv->value))) // one that fails in a sweep
        ;
    c->id = kv->id;
    c->mod_rev = kv->mod_rev;
    c->create_rev = kv->create_rev;
    c->version = kv->version;
    c->lease = kv->lease;
    c->deleted = kv->deleted;
    return c;
}

static struct kl_batch *outside_batch(const struct entry *e)
{
    struct kl_batch *b;
    while (!(b = kl_batch_new()))
        ;
    b->origin = e->origin;
    b->seq = e->seq;
    b->base_rev = e->base_rev;
    b->last_rev = e->last_rev;
    b->compact_rev = e->compact_rev;
    for (size_t i = 0; i < e->nrows; i++) {
        while (kl_batch_add_row(b, copy_kv(e->rows[i].kv)))
            ;
    }
    for (size_t i = 0; i < e->nleases; i++) {
        while (kl_batch_add_lease(b, e->leases[i]))
            ;
    }
    for (size_t i = 0; i < e->nforwarded; i++) {
        while (kl_batch_add_forwarded(b, e->forwarded[i]))
            ;
    }
    return b;
}

// Hands up what others wrote, as far as the core takes it in this turn; then again in the next.
static void catch_up(struct kl_backend *b)
{
    while (!atomic_load(&b->held)) {
        pthread_mutex_lock(&b->log->mu);
        if (!b->untaken && b->set_back == b->log->set_back && b->seen < b->log->n)
            b->untaken = outside_batch(&b->log->entries[b->seen]);
        pthread_mutex_unlock(&b->log->mu);
        if (!b->untaken)
            return;
        int r;
        while ((r = kl_core_applied(b->core, b->untaken)) == KL_ENOMEM) // offered again
            ;
        if (r) {
            if (!atomic_exchange(&b->poked, true))
                kl_loop_post(kl_core_loop(b->core), &b->poke);
            return;
        }
        b->untaken = NULL;
        b->seen++;
    }
}

static void drop_untaken(struct kl_backend *b)
{
    kl_batch_free(b->untaken);
    b->untaken = NULL;
}

static void run_poke(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, poke);
    if (b->closed) {
        free(b);
        return;
    }
    atomic_store(&b->poked, false);
    catch_up(b);
}

static void poke_others(struct shared_log *log, struct kl_backend *but)
{
    for (struct kl_backend *o = log->open; o; o = o->next) {
        if (o != but && o->started && !atomic_exchange(&o->poked, true))
            kl_loop_post(kl_core_loop(o->core), &o->poke);
    }
}

static void free_entry(struct entry *e)
{
    for (size_t k = 0; k < e->nrows; k++) {
        kl_kv_unref(e->rows[k].kv);
        kl_kv_unref(e->rows[k].prev);
    }
    free(e->rows);
    free(e->leases);
    free(e->forwarded);
}

static void append(struct shared_log *log, const struct kl_batch *batch)
{
    if (log->n == log->cap) {
        log->cap = log->cap ? log->cap * 2 : 64;
        log->entries = realloc(log->entries, log->cap * sizeof(*log->entries));
    }
    struct entry *e = &log->entries[log->n++];
    *e = (struct entry){.nrows = batch->nrows,
                        .nleases = batch->nleases,
                        .nforwarded = batch->nforwarded,
                        .base_rev = batch->base_rev,
                        .last_rev = batch->last_rev,
                        .compact_rev = batch->compact_rev,
                        .origin = batch->origin,
                        .seq = batch->seq};
    e->rows = calloc(e->nrows + 1, sizeof(*e->rows));
    for (size_t i = 0; i < e->nrows; i++) {
        // Without the writer's attachments: those are in its memory only.
        e->rows[i].kv = copy_kv(batch->rows[i].kv);
        e->rows[i].prev = batch->rows[i].prev ? copy_kv(batch->rows[i].prev) : NULL;
    }
    e->leases = calloc(e->nleases + 1, sizeof(*e->leases));
    if (e->nleases)
        memcpy(e->leases, batch->leases, e->nleases * sizeof(*e->leases));
    e->forwarded = calloc(e->nforwarded + 1, sizeof(*e->forwarded));
    if (e->nforwarded)
        memcpy(e->forwarded, batch->forwarded, e->nforwarded * sizeof(*e->forwarded));
    log->rev = batch->last_rev;
    if (batch->compact_rev > log->compact_rev)
        log->compact_rev = batch->compact_rev;
}

static void run_propose(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, propose_task);
    struct kl_batch *batch = b->proposed;
    b->proposed = NULL;
    pthread_mutex_lock(&b->log->mu);
    bool first = !b->untaken && b->base == b->log->n && b->set_back == b->log->set_back;
    if (first) {
        append(b->log, batch);
        b->seen++;
        poke_others(b->log, b);
    }
    pthread_mutex_unlock(&b->log->mu);
    if (first) {
        kl_core_applied(b->core, batch);
        return;
    }
    // Outside batches come up while ours is in flight, or after it has failed: both happen.
    if (batch->seq % 2)
        catch_up(b);
    kl_core_failed(b->core, batch, KL_ECONFLICT);
    catch_up(b);
}

static void propose(struct kl_backend *b, struct kl_batch *batch)
{
    b->proposed = batch;
    b->base = b->seen;
    b->propose_task.run = run_propose;
    kl_loop_defer(kl_core_loop(b->core), &b->propose_task);
}

static void run_head(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, head_task);
    struct kl_head_req *q = b->head;
    b->head_waits = atomic_load(&b->held); // for the jump
    if (b->head_waits)
        return;
    catch_up(b);      // all that was in the log when this ran, which is after the question
    if (b->untaken) { // in turns, or held meanwhile
        kl_loop_post(kl_core_loop(b->core), &b->head_task);
        return;
    }
    pthread_mutex_lock(&b->log->mu);
    if (b->set_back != b->log->set_back)
        q->code = KL_EAGAIN;
    else
        q->rev = b->seen ? b->log->entries[b->seen - 1].last_rev : 1;
    pthread_mutex_unlock(&b->log->mu);
    b->head = NULL;
    q->done(q);
}

static void confirm_head(struct kl_backend *b, struct kl_head_req *q)
{
    b->head = q;
    b->head_task.run = run_head;
    kl_loop_defer(kl_core_loop(b->core), &b->head_task);
}

// ---- who evaluates: what the test says, to each server when it likes ----

static uint64_t get_leader(struct kl_backend *b)
{
    return b->leader == b->member ? 0 : b->leader;
}

static void run_lead(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, lead);
    b->leader = b->told;
    atomic_store(&b->telling, false);
    kl_core_leader_changed(b->core);
}

static struct kl_backend *find_open(const char *name, uint64_t server)
{
    struct kl_backend *b = NULL;
    pthread_mutex_lock(&logs_mu);
    for (struct shared_log *log = logs; log && !b; log = log->next) {
        if (strcmp(log->name, name) != 0)
            continue;
        pthread_mutex_lock(&log->mu);
        for (b = log->open; b && b->member != server; b = b->next)
            ;
        pthread_mutex_unlock(&log->mu);
    }
    pthread_mutex_unlock(&logs_mu);
    assert_non_null(b);
    return b;
}

void hs_shared_lead(const char *name, uint64_t server, uint64_t leader)
{
    struct kl_backend *b = find_open(name, server);
    atomic_store(&b->telling, true);
    b->told = leader;
    b->lead.run = run_lead;
    kl_loop_post(kl_core_loop(b->core), &b->lead);
    while (atomic_load(&b->telling))
        sched_yield();
}

// ---- history: nothing is ever removed from this log; compaction is the core's affair ----

static void run_rows(struct kl_task *t)
{
    struct kl_rows_req *q = KL_CONTAINER_OF(t, struct kl_rows_req, task);
    q->done(q);
}

static void read_rows(struct kl_backend *b, struct kl_rows_req *q)
{
    q->rows = calloc(q->max_rows, sizeof(*q->rows));
    pthread_mutex_lock(&b->log->mu);
    q->through = b->log->rev;
    for (size_t i = 0; i < b->log->n; i++) {
        const struct entry *e = &b->log->entries[i];
        for (size_t k = 0; k < e->nrows; k++) {
            const struct kl_kv *kv = e->rows[k].kv;
            if (q->min_rev ? kv->mod_rev < q->min_rev : kv->id <= q->after_id)
                continue;
            q->rows[q->nrows++] = ref_event(&e->rows[k]);
            if (q->nrows == q->max_rows) {
                q->through = kv->id;
                goto full;
            }
        }
    }
full:
    pthread_mutex_unlock(&b->log->mu);
    q->task.run = run_rows;
    kl_loop_defer(kl_core_loop(b->core), &q->task);
}

static int cmp_version(const void *x, const void *y)
{
    const struct kl_kv *a = *(struct kl_kv *const *)x, *b = *(struct kl_kv *const *)y;
    int c = kl_str_cmp(kl_kv_key(a), kl_kv_key(b));
    return c ? c : (a->id > b->id) - (a->id < b->id);
}

static void run_range(struct kl_task *t)
{
    struct kl_range_req *q = KL_CONTAINER_OF(t, struct kl_range_req, task);
    q->done(q);
}

static void read_range(struct kl_backend *b, struct kl_range_req *q)
{
    size_t n = 0, cap = 64, k = 0;
    struct kl_kv **all = malloc(cap * sizeof(struct kl_kv *));
    pthread_mutex_lock(&b->log->mu);
    for (size_t i = 0; i < b->log->n; i++) {
        const struct entry *e = &b->log->entries[i];
        for (size_t r = 0; r < e->nrows; r++) {
            struct kl_kv *kv = e->rows[r].kv;
            if (kv->mod_rev > q->rev || !kl_range_has(q->key, q->end, kl_kv_key(kv)))
                continue;
            if (n == cap)
                all = realloc(all, (cap *= 2) * sizeof(struct kl_kv *));
            all[n++] = kv;
        }
    }
    qsort(all, n, sizeof(*all), cmp_version);
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
    pthread_mutex_unlock(&b->log->mu);
    q->kvs = all;
    q->nkvs = k;
    q->task.run = run_range;
    kl_loop_defer(kl_core_loop(b->core), &q->task);
}

static void run_step(struct kl_task *t)
{
    struct kl_step_req *q = KL_CONTAINER_OF(t, struct kl_step_req, task);
    q->done(q);
}

static void compact_step(struct kl_backend *b, struct kl_step_req *q)
{
    q->through = q->after + q->window < q->until ? q->after + q->window : q->until;
    q->task.run = run_step;
    kl_loop_defer(kl_core_loop(b->core), &q->task);
}

static void get_sizes(struct kl_backend *b, struct kl_backend_sizes *ret)
{
}

// ---- life ----

static int open_shared(struct kl_store *core, struct kl_str rest, struct kl_backend **ret_b,
                       struct kl_error *err)
{
    struct kl_backend *b = calloc(1, sizeof(*b));
    pthread_mutex_lock(&logs_mu);
    struct shared_log *log = logs;
    while (log && !kl_str_eqz(rest, log->name))
        log = log->next;
    if (!log) {
        log = calloc(1, sizeof(*log));
        memcpy(log->name, rest.p, rest.n);
        pthread_mutex_init(&log->mu, NULL);
        log->rev = 1;
        log->next = logs;
        logs = log;
    }
    log->refs++;
    pthread_mutex_unlock(&logs_mu);
    b->core = core;
    b->log = log;
    const struct kl_peers *peers = kl_core_options(core)->peers;
    b->member = peers ? kl_peers_id(peers) : kl_rand_u64() | 1;
    b->leader = peers ? KL_LEADER_NONE : 0;
    b->poke.run = run_poke;
    pthread_mutex_lock(&log->mu);
    b->next = log->open;
    log->open = b;
    pthread_mutex_unlock(&log->mu);
    *ret_b = b;
    return 0;
}

static int cmp_kv(const void *x, const void *y)
{
    const struct kl_kv *a = *(struct kl_kv *const *)x, *b = *(struct kl_kv *const *)y;
    return kl_str_cmp(kl_kv_key(a), kl_kv_key(b));
}

static int load_shared(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err)
{
    pthread_mutex_lock(&b->log->mu);
    b->set_back = b->log->set_back;
    l->rev = b->log->rev;
    l->compact_rev = l->physical_rev = b->log->compact_rev;
    b->seen = b->log->n;
    l->member_id = b->member;
    l->cluster_id = 1;
    for (size_t i = 0; i < b->seen; i++) {
        for (size_t k = 0; k < b->log->entries[i].nleases; k++)
            l->lease(l->arg, b->log->entries[i].leases[k]);
    }
    size_t n = 0, cap = 0;
    for (size_t i = 0; i < b->seen; i++)
        cap += b->log->entries[i].nrows;
    struct kl_kv **kvs = cap ? malloc(cap * sizeof(*kvs)) : NULL;
    for (size_t i = 0; i < b->seen; i++) {
        for (size_t k = 0; k < b->log->entries[i].nrows; k++)
            kvs[n++] = b->log->entries[i].rows[k].kv;
    }
    if (n)
        qsort(kvs, n, sizeof(*kvs), cmp_version);
    size_t live = 0;
    for (size_t i = 0; i < n; i++) {
        bool newest = i + 1 == n || !kl_str_eq(kl_kv_key(kvs[i]), kl_kv_key(kvs[i + 1]));
        if (newest && !kvs[i]->deleted)
            kvs[live++] = kvs[i];
    }
    if (live)
        qsort(kvs, live, sizeof(*kvs), cmp_kv);
    for (size_t i = 0; i < live; i++)
        l->kv(l->arg, copy_kv(kvs[i]));
    pthread_mutex_unlock(&b->log->mu);
    free(kvs);
    return 0;
}

static int load_again(void *arg, struct kl_loaded *l)
{
    return load_shared(arg, l, NULL);
}

static void run_reset(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, reset);
    pthread_mutex_lock(&b->log->mu);
    b->set_back = b->log->set_back;
    pthread_mutex_unlock(&b->log->mu);
    while (kl_core_reset(b->core, load_again, b) == KL_ENOMEM)
        ;
    drop_untaken(b);
    atomic_store(&b->resetting, false);
    catch_up(b);
}

static int load_newest(void *arg, struct kl_loaded *l)
{
    l->continues = true;
    return load_shared(arg, l, NULL);
}

static void run_jump(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, jump);
    atomic_store(&b->held, false);
    while (kl_core_reset(b->core, load_newest, b) == KL_ENOMEM)
        ;
    drop_untaken(b);
    if (b->head_waits)
        run_head(&b->head_task);
    atomic_store(&b->jumping, false);
}

void hs_shared_hold(const char *name, uint64_t server)
{
    atomic_store(&find_open(name, server)->held, true);
}

void hs_shared_jump(const char *name, uint64_t server)
{
    struct kl_backend *b = find_open(name, server);
    atomic_store(&b->jumping, true);
    b->jump.run = run_jump;
    kl_loop_post(kl_core_loop(b->core), &b->jump);
    while (atomic_load(&b->jumping))
        sched_yield();
}

void hs_shared_set_back(const char *name, size_t keep, kl_rev rev)
{
    struct kl_backend *open[8];
    int n = 0;
    pthread_mutex_lock(&logs_mu);
    struct shared_log *log = logs;
    while (log && strcmp(log->name, name) != 0)
        log = log->next;
    assert_non_null(log);
    pthread_mutex_lock(&log->mu);
    assert_true(keep <= log->n);
    while (log->n > keep)
        free_entry(&log->entries[--log->n]);
    log->rev = log->compact_rev = rev;
    log->set_back++;
    for (struct kl_backend *b = log->open; b; b = b->next)
        open[n++] = b;
    pthread_mutex_unlock(&log->mu);
    pthread_mutex_unlock(&logs_mu);
    for (int i = 0; i < n; i++) {
        atomic_store(&open[i]->resetting, true);
        open[i]->reset.run = run_reset;
        kl_loop_post(kl_core_loop(open[i]->core), &open[i]->reset);
    }
    for (int i = 0; i < n; i++) {
        while (atomic_load(&open[i]->resetting))
            sched_yield();
    }
}

static void start_shared(struct kl_backend *b)
{
    pthread_mutex_lock(&b->log->mu);
    b->started = true;
    pthread_mutex_unlock(&b->log->mu);
    catch_up(b);
}

static void free_log(struct shared_log *log)
{
    for (size_t i = 0; i < log->n; i++)
        free_entry(&log->entries[i]);
    free(log->entries);
    free(log);
}

static void close_shared(struct kl_backend *b)
{
    struct shared_log *log = b->log;
    pthread_mutex_lock(&log->mu);
    struct kl_backend **p = &log->open;
    while (*p != b)
        p = &(*p)->next;
    *p = b->next;
    pthread_mutex_unlock(&log->mu);
    pthread_mutex_lock(&logs_mu);
    if (--log->refs == 0) {
        struct shared_log **at = &logs;
        while (*at != log)
            at = &(*at)->next;
        *at = log->next;
        free_log(log);
    }
    pthread_mutex_unlock(&logs_mu);
    b->closed = true;
    drop_untaken(b);
    if (!atomic_load(&b->poked)) // else the poke that is still in the mailbox frees it
        free(b);
}

const struct kl_backend_ops hs_backend_shared = {
    .scheme = "shared",
    .open = open_shared,
    .load = load_shared,
    .start = start_shared,
    .propose = propose,
    .confirm_head = confirm_head,
    .leader = get_leader,
    .read_rows = read_rows,
    .read_range = read_range,
    .compact_step = compact_step,
    .sizes = get_sizes,
    .close = close_shared,
};
