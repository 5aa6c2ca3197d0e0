// SPDX-License-Identifier: Apache-2.0
// What waits to be written to a socket: slices of shared bytes. Small pieces are gathered in blocks
// of the queue's own, so that neighbours become one slice.
#pragma once
#include "base/bytes.h"

struct kl_slice {
    struct kl_bytes *bytes; // one reference
    uint32_t off, n;
};

struct kl_outq {
    struct kl_slice *v; // ring of cap (a power of two)
    uint32_t head, count, cap;
    size_t bytes;           // sum of all slices
    struct kl_bytes *block; // where copies go; filled up to block_used
    uint32_t block_used;
    bool failed; // an append ran out of memory: the stream of bytes has a hole
};

void kl_outq_fini(struct kl_outq *q);
// Copies. KL_ENOMEM sets failed, and everything later fails too.
int kl_outq_append(struct kl_outq *q, const void *p, size_t n);
// Takes the caller's reference, also on failure. Small slices are copied.
int kl_outq_take(struct kl_outq *q, struct kl_bytes *b, uint32_t off, uint32_t n);
void kl_outq_consume(struct kl_outq *q, size_t n);

static inline int kl_outq_puts(struct kl_outq *q, struct kl_str s)
{
    return kl_outq_append(q, s.p, s.n);
}

static inline struct kl_slice *kl_outq_at(const struct kl_outq *q, uint32_t i)
{
    return &q->v[(q->head + i) & (q->cap - 1)];
}
