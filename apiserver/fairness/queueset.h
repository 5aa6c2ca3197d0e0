// SPDX-License-Identifier: Apache-2.0
// Fair queuing of one priority level (KEP-1040, apiserver/pkg/util/flowcontrol/fairqueuing): seats,
// queues chosen by shuffle sharding, virtual time. A pure core: time comes in, decisions go out;
// no lock, no loop. Who uses it from several threads locks around it.
//
// Virtual time R is the progress in seat-seconds of one queue among those that are active. A
// queue's next_r is the R at which its oldest request would begin if all were served bit by bit at
// once; the queue whose oldest request would finish first is next. What a request takes is guessed
// when it is chosen (KL_FQ_SERVICE_NS a seat) and put right when it ends.
//
// A queue exists only while something waits or runs in it, so that memory follows the requests, not
// the configured number of queues.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KL_FQ_SERVICE_NS 3000000 // what a request is guessed to take

// Seat-seconds in units of 10^-8.
typedef int64_t kl_seat_seconds;

enum kl_fq_verdict {
    KL_FQ_RUN,         // runs now
    KL_FQ_WAIT,        // waits: it comes out of kl_fq_ready later, or is cancelled
    KL_FQ_QUEUE_FULL,  // refused
    KL_FQ_NO_CAPACITY, // refused by a level without queues
};

struct kl_fq_queue;

// A request; embedded. The first three are the caller's.
struct kl_fq_item {
    uint32_t initial_seats, final_seats;
    int64_t latency_ns; // how long final_seats stay taken after it ended
    struct kl_fq_queue *queue;
    struct kl_fq_item *next, *prev; // in its queue, then among the ready ones
    kl_seat_seconds arrival_r, work;
    int64_t arrived_ns, started_ns;
    bool waiting;
};

// What stays taken after a request ended.
struct kl_fq_linger {
    struct kl_fq_queue *queue;
    uint32_t seats;
};

struct kl_fq_config {
    int queues;       // 0: no queues, what does not fit is refused; < 0: nothing is ever refused
    int hand_size;    // of the shuffle sharding
    int queue_length; // of each queue
};

// Integrals of the demand for seats since the last kl_fq_take_demand.
struct kl_fq_demand {
    double seconds, x, xx;
    int max;
};

struct kl_fqs {
    struct kl_fq_config conf;
    int limit; // seats
    kl_seat_seconds r;
    int64_t now_ns;
    struct kl_fq_queue *active; // in no order
    struct kl_fq_queue **slots; // by index, open addressing
    size_t nslots, nactive;
    struct kl_fq_queue *spare;
    int robin;
    uint64_t enqueued;
    int waiting, executing, seats_in_use, seats_waiting;
    struct kl_fq_item *ready, *ready_last;
    struct kl_fq_demand demand;
    uint64_t rejected, timed_out, dispatched;
};

void kl_fqs_init(struct kl_fqs *s, const struct kl_fq_config *c, int limit, int64_t now_ns);
void kl_fqs_fini(struct kl_fqs *s); // nothing waits or runs any more
// After each of the functions below drain kl_fq_ready.
void kl_fqs_configure(struct kl_fqs *s, const struct kl_fq_config *c, int limit, int64_t now_ns);
// `hash` says which flow it is of. KL_FQ_RUN and KL_FQ_WAIT: the item belongs to s until
// kl_fqs_finish or kl_fqs_cancel. A machine without memory refuses (KL_FQ_QUEUE_FULL).
enum kl_fq_verdict kl_fqs_start(struct kl_fqs *s, struct kl_fq_item *it, uint64_t hash,
                                int64_t now_ns);
// It has run. True: *ret stays taken for it->latency_ns, until kl_fqs_linger_end.
bool kl_fqs_finish(struct kl_fqs *s, struct kl_fq_item *it, struct kl_fq_linger *ret,
                   int64_t now_ns);
void kl_fqs_linger_end(struct kl_fqs *s, struct kl_fq_linger *l, int64_t now_ns);
// It waits no more.
void kl_fqs_cancel(struct kl_fqs *s, struct kl_fq_item *it, int64_t now_ns);
// The next that may run of those that waited, in the order of dispatch; NULL.
struct kl_fq_item *kl_fq_ready(struct kl_fqs *s);
void kl_fqs_take_demand(struct kl_fqs *s, struct kl_fq_demand *ret, int64_t now_ns);
// The most seats that a request takes at a time.
static inline uint32_t kl_fq_seats(const struct kl_fq_item *it)
{
    return it->initial_seats > it->final_seats ? it->initial_seats : it->final_seats;
}

// For the dumps: the queues in order of their indexes; `max` at most.
struct kl_fq_queue_info {
    int index, waiting, executing, seats_in_use, waiting_initial_seats, waiting_seats;
    kl_seat_seconds next_r, work;
    struct kl_fq_item *first;
};
size_t kl_fqs_queues(const struct kl_fqs *s, struct kl_fq_queue_info *ret, size_t max);

// ---- shuffle.c (apiserver/pkg/util/shufflesharding)
#define KL_SHUFFLE_MAX_HAND 15
// Whether a hand of that size can be dealt from a deck of that size with 60 bits.
bool kl_shuffle_valid(int deck, int hand);
void kl_shuffle_deal(int deck, int hand, uint64_t hash, int ret[KL_SHUFFLE_MAX_HAND]);
// The hash of a flow: its schema's name and what tells flows of the schema apart.
uint64_t kl_flow_hash(const char *schema, size_t schema_n, const char *by, size_t by_n);
