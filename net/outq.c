// SPDX-License-Identifier: Apache-2.0
#include "net/outq.h"
#include "base/err.h"
#include <stdlib.h>

enum {
    SMALL_BLOCK = 2048,
    BIG_BLOCK = 16 * 1024,
    COPY_BELOW = 512, // a copy of that much costs less than a slice and its iovec
    KEEP_CAP = 64,    // slots an empty queue keeps
};

static void free_block(struct kl_outq *q)
{
    kl_bytes_unref(q->block);
    q->block = NULL;
    q->block_used = 0;
}

void kl_outq_fini(struct kl_outq *q)
{
    for (uint32_t i = 0; i < q->count; i++)
        kl_bytes_unref(kl_outq_at(q, i)->bytes);
    free(q->v);
    free_block(q);
    *q = (struct kl_outq){0};
}

static int grow(struct kl_outq *q)
{
    uint32_t cap = q->cap ? q->cap * 2 : 8;
    struct kl_slice *v = malloc(cap * sizeof(*v));
    if (!v) {
        q->failed = true;
        return KL_ENOMEM;
    }
    for (uint32_t i = 0; i < q->count; i++)
        v[i] = *kl_outq_at(q, i);
    free(q->v);
    q->v = v;
    q->cap = cap;
    q->head = 0;
    return 0;
}

static int push_slice(struct kl_outq *q, struct kl_bytes *b, uint32_t off, uint32_t n)
{
    if (q->count == q->cap && grow(q)) {
        kl_bytes_unref(b);
        return KL_ENOMEM;
    }
    *kl_outq_at(q, q->count++) = (struct kl_slice){b, off, n};
    q->bytes += n;
    return 0;
}

// Room in the block, at least one byte; small blocks for the small answers of many connections.
static int need_block(struct kl_outq *q, size_t want)
{
    if (q->block && q->block_used < q->block->n)
        return 0;
    bool small = q->bytes == 0 && want <= SMALL_BLOCK;
    free_block(q);
    q->block = kl_bytes_alloc((small ? SMALL_BLOCK : BIG_BLOCK) - sizeof(struct kl_bytes) - 16);
    if (!q->block) {
        q->failed = true;
        return KL_ENOMEM;
    }
    return 0;
}

int kl_outq_append(struct kl_outq *q, const void *p, size_t n)
{
    const char *from = p;
    if (q->failed)
        return KL_ENOMEM;
    while (n > 0) {
        if (need_block(q, n))
            return KL_ENOMEM;
        uint32_t room = q->block->n - q->block_used, take = n < room ? (uint32_t)n : room;
        memcpy(q->block->p + q->block_used, from, take);
        struct kl_slice *last = q->count ? kl_outq_at(q, q->count - 1) : NULL;
        if (last && last->bytes == q->block && last->off + last->n == q->block_used) {
            last->n += take;
            q->bytes += take;
        } else if (push_slice(q, kl_bytes_ref(q->block), q->block_used, take)) {
            return KL_ENOMEM;
        }
        q->block_used += take;
        from += take;
        n -= take;
    }
    return 0;
}

int kl_outq_take(struct kl_outq *q, struct kl_bytes *b, uint32_t off, uint32_t n)
{
    if (q->failed || n == 0) {
        kl_bytes_unref(b);
        return q->failed ? KL_ENOMEM : 0;
    }
    if (n >= COPY_BELOW)
        return push_slice(q, b, off, n);
    int rc = kl_outq_append(q, b->p + off, n);
    kl_bytes_unref(b);
    return rc;
}

void kl_outq_consume(struct kl_outq *q, size_t n)
{
    q->bytes -= n;
    while (n > 0) {
        struct kl_slice *s = kl_outq_at(q, 0);
        if (n < s->n) {
            s->off += (uint32_t)n;
            s->n -= (uint32_t)n;
            return;
        }
        n -= s->n;
        kl_bytes_unref(s->bytes);
        q->head = (q->head + 1) & (q->cap - 1);
        q->count--;
    }
    if (q->count == 0) {
        free_block(q);
        if (q->cap > KEEP_CAP) {
            free(q->v);
            q->v = NULL;
            q->cap = q->head = 0;
        }
    }
}
