// SPDX-License-Identifier: Apache-2.0
// The memory budget: what versions hold in memory (values, and what hangs on them) is kept below
// kl_store_options.memory_budget. A hand goes around the keys; a version that nobody has used since
// it last came by is replaced by one without attachments, whose value lies in the value file
// (spill.h). Readers borrow from versions without a lock, so nothing is changed in place: the new
// one is in the next view, of the same revision, and the old one goes with the last that has it.
//
// Everything belongs to the core's loop but the writing, which is a thread's of libuv's.
#pragma once
#include "store/index_int.h"
#include "store/spill.h"
#include "base/loop.h"

enum { KL_EVICT_KEYS = 512, KL_EVICT_BYTES = 1 << 20, KL_EVICT_VISITS = 2048 };

enum kl_evict_state { KL_EVICT_IDLE, KL_EVICT_WRITING, KL_EVICT_WRITTEN };

struct kl_evict {
    struct kl_home *home;
    struct kl_spill *spill; // NULL: no budget
    int64_t budget;
    bool resting; // nothing was found: not before there is more, or other versions
    int64_t rest_bytes, rest_rows;
    enum kl_evict_state state;
    struct kl_bytes *hand; // the key it stands at; NULL: the first
    size_t found;          // in this round
    bool failed;           // and was said

    // What is being replaced.
    struct kl_kv *kvs[KL_EVICT_KEYS]; // referenced
    struct kl_bytes *values[KL_EVICT_KEYS];
    size_t n;
    int code;
    struct kl_error err;
    uv_work_t work;
};

struct kl_store;
int kl_evict_init(struct kl_store *s, struct kl_error *err);
// A version that is loaded, while nothing else runs: its value goes to the file when there is no
// room.
void kl_evict_load(struct kl_store *s, struct kl_kv *kv);
// Goes on: when nothing is in flight, from the pump and the timer.
void kl_evict_run(struct kl_store *s);
static inline bool kl_evict_is_busy(const struct kl_evict *e)
{
    return e->state == KL_EVICT_WRITING;
}
void kl_evict_fini(struct kl_store *s);
