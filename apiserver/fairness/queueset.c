// SPDX-License-Identifier: Apache-2.0
#include "apiserver/fairness/queueset.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_SLOTS = 16, SPARE_MAX = 64 };
#define SCALE 1e8 // of kl_seat_seconds
// R is taken back now and then, long before it could overflow.
#define R_DECREMENT (INT64_MAX / 4)
#define R_HIGH (R_DECREMENT + R_DECREMENT / 2)

struct kl_fq_queue {
    int index;
    kl_seat_seconds next_r;
    int waiting, executing, seats_in_use, lingering;
    int waiting_initial_seats, waiting_seats;
    kl_seat_seconds work; // of those that wait
    struct kl_fq_item *first, *last;
    struct kl_fq_queue *next, *prev; // active
};

static kl_seat_seconds seats_times(double seats, int64_t ns)
{
    return (kl_seat_seconds)llround(seats * (double)ns / (1e9 / SCALE));
}

// ---- queues by index

static size_t slot_of(const struct kl_fqs *s, int index)
{
    return (size_t)((uint32_t)index * 2654435769u) & (s->nslots - 1);
}

static struct kl_fq_queue *find_queue(const struct kl_fqs *s, int index)
{
    if (!s->nslots)
        return NULL;
    for (size_t i = slot_of(s, index); s->slots[i]; i = (i + 1) & (s->nslots - 1))
        if (s->slots[i]->index == index)
            return s->slots[i];
    return NULL;
}

static void put_slot(struct kl_fqs *s, struct kl_fq_queue *q)
{
    size_t i = slot_of(s, q->index);
    while (s->slots[i])
        i = (i + 1) & (s->nslots - 1);
    s->slots[i] = q;
}

static bool grow(struct kl_fqs *s)
{
    if (2 * (s->nactive + 1) <= s->nslots)
        return true;
    size_t n = s->nslots ? 2 * s->nslots : MIN_SLOTS;
    struct kl_fq_queue **slots = calloc(n, sizeof(*slots));
    if (!slots)
        return false;
    free(s->slots);
    s->slots = slots;
    s->nslots = n;
    for (struct kl_fq_queue *q = s->active; q; q = q->next)
        put_slot(s, q);
    return true;
}

static struct kl_fq_queue *get_queue(struct kl_fqs *s, int index)
{
    struct kl_fq_queue *q = find_queue(s, index);
    if (q)
        return q;
    if (!grow(s))
        return NULL;
    q = s->spare;
    if (q)
        s->spare = q->next;
    else if (!(q = malloc(sizeof *q)))
        return NULL;
    *q = (struct kl_fq_queue){.index = index, .next_r = s->r, .next = s->active};
    if (q->next)
        q->next->prev = q;
    s->active = q;
    s->nactive++;
    put_slot(s, q);
    return q;
}

static void take_slot_out(struct kl_fqs *s, struct kl_fq_queue *q)
{
    size_t mask = s->nslots - 1, i = slot_of(s, q->index);
    while (s->slots[i] != q)
        i = (i + 1) & mask;
    s->slots[i] = NULL;
    // Those behind it move up, so that each is found from its own place.
    for (size_t j = (i + 1) & mask; s->slots[j]; j = (j + 1) & mask) {
        size_t home = slot_of(s, s->slots[j]->index);
        if (((j - home) & mask) >= ((j - i) & mask)) {
            s->slots[i] = s->slots[j];
            s->slots[j] = NULL;
            i = j;
        }
    }
}

static void drop_if_idle(struct kl_fqs *s, struct kl_fq_queue *q)
{
    if (q->waiting || q->executing || q->lingering)
        return;
    take_slot_out(s, q);
    *(q->prev ? &q->prev->next : &s->active) = q->next;
    if (q->next)
        q->next->prev = q->prev;
    s->nactive--;
    size_t nspare = 0;
    for (struct kl_fq_queue *x = s->spare; x && nspare < SPARE_MAX; x = x->next)
        nspare++;
    if (nspare == SPARE_MAX) {
        free(q);
        return;
    }
    q->next = s->spare;
    s->spare = q;
}

// ---- time

static double virtual_time_ratio(const struct kl_fqs *s)
{
    int busy = 0, asked = 0;
    for (const struct kl_fq_queue *q = s->active; q; q = q->next) {
        asked += q->seats_in_use + q->waiting_seats;
        busy += q->waiting || q->executing;
    }
    return busy ? fmin(asked, s->limit) / busy : 0;
}

static void take_back_r(struct kl_fqs *s)
{
    s->r -= R_DECREMENT;
    for (struct kl_fq_queue *q = s->active; q; q = q->next) {
        q->next_r -= R_DECREMENT;
        for (struct kl_fq_item *it = q->first; it; it = it->next)
            it->arrival_r -= R_DECREMENT;
    }
}

static void note_demand(struct kl_fqs *s)
{
    int x = s->seats_in_use + s->seats_waiting;
    if (x > s->demand.max)
        s->demand.max = x;
}

static void sync_time(struct kl_fqs *s, int64_t now_ns)
{
    int64_t since = now_ns - s->now_ns;
    if (since <= 0) // another thread was quicker
        return;
    double x = s->seats_in_use + s->seats_waiting, dt = (double)since / 1e9;
    s->demand.seconds += dt;
    s->demand.x += x * dt;
    s->demand.xx += x * x * dt;
    s->now_ns = now_ns;
    if (s->active)
        s->r += seats_times(virtual_time_ratio(s), since);
    if (s->r >= R_HIGH)
        take_back_r(s);
}

void kl_fqs_take_demand(struct kl_fqs *s, struct kl_fq_demand *ret, int64_t now_ns)
{
    sync_time(s, now_ns);
    *ret = s->demand;
    s->demand = (struct kl_fq_demand){.max = s->seats_in_use + s->seats_waiting};
}

// ---- queues' contents

// A queue cannot save up what it did not use before its oldest request came.
static void bound_next(struct kl_fq_queue *q)
{
    if (q->first && q->next_r < q->first->arrival_r)
        q->next_r = q->first->arrival_r;
}

static void enqueue(struct kl_fqs *s, struct kl_fq_queue *q, struct kl_fq_item *it)
{
    if (!q->waiting && !q->executing)
        q->next_r = s->r;
    it->queue = q;
    it->waiting = true;
    it->next = NULL;
    it->prev = q->last;
    *(q->last ? &q->last->next : &q->first) = it;
    q->last = it;
    q->waiting++;
    q->waiting_initial_seats += (int)it->initial_seats;
    q->waiting_seats += (int)kl_fq_seats(it);
    q->work += it->work;
    s->waiting++;
    s->seats_waiting += (int)kl_fq_seats(it);
}

static void take_out(struct kl_fqs *s, struct kl_fq_item *it)
{
    struct kl_fq_queue *q = it->queue;
    *(it->prev ? &it->prev->next : &q->first) = it->next;
    *(it->next ? &it->next->prev : &q->last) = it->prev;
    it->waiting = false;
    it->next = it->prev = NULL;
    q->waiting--;
    q->waiting_initial_seats -= (int)it->initial_seats;
    q->waiting_seats -= (int)kl_fq_seats(it);
    q->work -= it->work;
    s->waiting--;
    s->seats_waiting -= (int)kl_fq_seats(it);
}

static bool fits(const struct kl_fqs *s, int seats)
{
    if (s->conf.queues < 0)
        return true;
    if (seats > s->limit)
        return !s->executing;
    return s->seats_in_use + seats <= s->limit;
}

static void begin(struct kl_fqs *s, struct kl_fq_item *it)
{
    int seats = (int)kl_fq_seats(it);
    it->started_ns = s->now_ns;
    s->executing++;
    s->dispatched++;
    s->seats_in_use += seats;
    if (it->queue) {
        it->queue->executing++;
        it->queue->seats_in_use += seats;
    }
}

// ---- choosing

// The place of an index in the round that began behind the queue that was served last.
static int turn_of(const struct kl_fqs *s, int index)
{
    int n = s->conf.queues > index ? s->conf.queues : index + 1;
    return index > s->robin ? index - s->robin : index - s->robin + n;
}

static struct kl_fq_queue *choose(const struct kl_fqs *s)
{
    struct kl_fq_queue *best = NULL;
    kl_seat_seconds best_end = 0;
    for (struct kl_fq_queue *q = s->active; q; q = q->next) {
        if (!q->first)
            continue;
        kl_seat_seconds end = q->next_r + q->first->work;
        if (!best || end < best_end ||
            (end == best_end && turn_of(s, q->index) < turn_of(s, best->index))) {
            best = q;
            best_end = end;
        }
    }
    return best;
}

static void shape_final(struct kl_fqs *s, struct kl_fq_item *it)
{
    if (s->limit <= 0 || it->final_seats <= (uint32_t)s->limit)
        return;
    it->latency_ns = (int64_t)((double)it->latency_ns * it->final_seats / s->limit);
    it->final_seats = (uint32_t)s->limit;
}

static bool dispatch_one(struct kl_fqs *s)
{
    struct kl_fq_queue *q = choose(s);
    if (!q || !fits(s, (int)kl_fq_seats(q->first)))
        return false;
    struct kl_fq_item *it = q->first;
    take_out(s, it);
    shape_final(s, it);
    s->robin = q->index;
    begin(s, it);
    q->next_r += it->work;
    bound_next(q);
    *(s->ready_last ? &s->ready_last->next : &s->ready) = it;
    s->ready_last = it;
    return true;
}

static void dispatch(struct kl_fqs *s)
{
    while (s->waiting && s->seats_in_use < s->limit && dispatch_one(s))
        ;
    note_demand(s);
}

struct kl_fq_item *kl_fq_ready(struct kl_fqs *s)
{
    struct kl_fq_item *it = s->ready;
    if (!it)
        return NULL;
    s->ready = it->next;
    if (!s->ready)
        s->ready_last = NULL;
    it->next = NULL;
    return it;
}

// ---- what comes in

static int choose_queue(struct kl_fqs *s, uint64_t hash)
{
    int hand[KL_SHUFFLE_MAX_HAND], n = s->conf.hand_size, best = -1;
    kl_seat_seconds least = INT64_MAX;
    kl_shuffle_deal(s->conf.queues, n, hash, hand);
    int offset = (int)(s->enqueued++ % (uint64_t)n);
    for (int i = 0; i < n; i++) {
        int index = hand[(offset + i) % n];
        const struct kl_fq_queue *q = find_queue(s, index);
        kl_seat_seconds work = q ? q->work : 0;
        if (work < least) {
            least = work;
            best = index;
        }
    }
    return best;
}

// Out of the ready ones: it is told of by the verdict.
static bool take_ready(struct kl_fqs *s, struct kl_fq_item *it)
{
    struct kl_fq_item *before = NULL;
    for (struct kl_fq_item *x = s->ready; x; before = x, x = x->next) {
        if (x != it)
            continue;
        *(before ? &before->next : &s->ready) = it->next;
        if (s->ready_last == it)
            s->ready_last = before;
        it->next = NULL;
        return true;
    }
    return false;
}

enum kl_fq_verdict kl_fqs_start(struct kl_fqs *s, struct kl_fq_item *it, uint64_t hash,
                                int64_t now_ns)
{
    sync_time(s, now_ns);
    it->arrived_ns = s->now_ns;
    it->arrival_r = s->r;
    it->queue = NULL;
    it->waiting = false;
    it->next = it->prev = NULL;
    it->work = seats_times(it->initial_seats, KL_FQ_SERVICE_NS) +
               seats_times(it->final_seats, it->latency_ns);
    if (s->conf.queues < 1) {
        if (!fits(s, (int)kl_fq_seats(it))) {
            s->rejected++;
            return KL_FQ_NO_CAPACITY;
        }
        begin(s, it);
        note_demand(s);
        return KL_FQ_RUN;
    }
    int index = choose_queue(s, hash);
    struct kl_fq_queue *q = find_queue(s, index);
    if ((s->seats_in_use >= s->limit && (q ? q->waiting : 0) >= s->conf.queue_length) ||
        !(q = get_queue(s, index))) {
        s->rejected++;
        return KL_FQ_QUEUE_FULL;
    }
    enqueue(s, q, it);
    bound_next(q);
    note_demand(s);
    dispatch(s);
    return !it->waiting && take_ready(s, it) ? KL_FQ_RUN : KL_FQ_WAIT;
}

static void give_back(struct kl_fqs *s, struct kl_fq_queue *q, uint32_t seats)
{
    s->seats_in_use -= (int)seats;
    if (!q)
        return;
    q->seats_in_use -= (int)seats;
    drop_if_idle(s, q);
}

bool kl_fqs_finish(struct kl_fqs *s, struct kl_fq_item *it, struct kl_fq_linger *ret,
                   int64_t now_ns)
{
    struct kl_fq_queue *q = it->queue;
    uint32_t seats = kl_fq_seats(it);
    sync_time(s, now_ns);
    s->executing--;
    if (q) {
        q->executing--;
        q->next_r -=
            seats_times(it->initial_seats, KL_FQ_SERVICE_NS - (s->now_ns - it->started_ns));
        bound_next(q);
    }
    if (it->latency_ns > 0) {
        if (q)
            q->lingering++;
        *ret = (struct kl_fq_linger){.queue = q, .seats = seats};
        dispatch(s);
        return true;
    }
    give_back(s, q, seats);
    dispatch(s);
    return false;
}

void kl_fqs_linger_end(struct kl_fqs *s, struct kl_fq_linger *l, int64_t now_ns)
{
    sync_time(s, now_ns);
    if (l->queue)
        l->queue->lingering--;
    give_back(s, l->queue, l->seats);
    dispatch(s);
}

void kl_fqs_cancel(struct kl_fqs *s, struct kl_fq_item *it, int64_t now_ns)
{
    struct kl_fq_queue *q = it->queue;
    sync_time(s, now_ns);
    if (!it->waiting)
        return;
    take_out(s, it);
    bound_next(q);
    drop_if_idle(s, q);
    s->rejected++;
    s->timed_out++;
    dispatch(s);
}

// ---- life

void kl_fqs_configure(struct kl_fqs *s, const struct kl_fq_config *c, int limit, int64_t now_ns)
{
    sync_time(s, now_ns);
    s->conf = *c;
    s->limit = limit;
    dispatch(s);
}

void kl_fqs_init(struct kl_fqs *s, const struct kl_fq_config *c, int limit, int64_t now_ns)
{
    *s = (struct kl_fqs){.conf = *c, .limit = limit, .now_ns = now_ns};
}

void kl_fqs_fini(struct kl_fqs *s)
{
    for (struct kl_fq_queue *q = s->active, *next; q; q = next) {
        next = q->next;
        free(q);
    }
    for (struct kl_fq_queue *q = s->spare, *next; q; q = next) {
        next = q->next;
        free(q);
    }
    free(s->slots);
    *s = (struct kl_fqs){0};
}

static int by_index(const void *a, const void *b)
{
    const struct kl_fq_queue_info *x = a, *y = b;
    return (x->index > y->index) - (x->index < y->index);
}

size_t kl_fqs_queues(const struct kl_fqs *s, struct kl_fq_queue_info *ret, size_t max)
{
    size_t n = 0;
    for (const struct kl_fq_queue *q = s->active; q && n < max; q = q->next)
        ret[n++] = (struct kl_fq_queue_info){.index = q->index,
                                             .waiting = q->waiting,
                                             .executing = q->executing,
                                             .seats_in_use = q->seats_in_use,
                                             .waiting_initial_seats = q->waiting_initial_seats,
                                             .waiting_seats = q->waiting_seats,
                                             .next_r = q->next_r,
                                             .work = q->work,
                                             .first = q->first};
    qsort(ret, n, sizeof *ret, by_index);
    return n;
}
