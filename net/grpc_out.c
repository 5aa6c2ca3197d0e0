// SPDX-License-Identifier: Apache-2.0
// A gRPC message on its way out. The first five bytes are the frame's, filled in when it is sent.
#include "net/grpc_int.h"
#include <stdlib.h>

enum { PREFIX = 5, MIN_BLOCK = 256, BIG_BLOCK = 64 * 1024, REFERENCE_MIN = 8192 };

void kl_grpc_out_init_piece(struct kl_grpc_out *o, size_t block_bytes)
{
    // Not the array: it is written before it is read.
    o->chunks = o->few;
    o->n = 0;
    o->cap = KL_COUNT(o->few);
    o->used = o->from = 0;
    o->bytes = 0;
    o->block = kl_bytes_alloc(block_bytes);
    o->failed = !o->block;
}

void kl_grpc_out_init(struct kl_grpc_out *o, size_t expect)
{
    size_t n = expect + PREFIX < MIN_BLOCK ? MIN_BLOCK : expect + PREFIX;
    kl_grpc_out_init_piece(o, n < BIG_BLOCK ? n : BIG_BLOCK);
    if (!o->failed)
        o->used = PREFIX;
}

void kl_grpc_out_fini(struct kl_grpc_out *o)
{
    for (uint32_t i = 0; i < o->n; i++)
        kl_bytes_unref(o->chunks[i].bytes);
    kl_bytes_unref(o->block);
    if (o->chunks != o->few)
        free(o->chunks);
    o->chunks = o->few;
    o->block = NULL;
    o->n = 0;
}

static bool fail(struct kl_grpc_out *o)
{
    o->failed = true;
    return false;
}

// Takes the reference.
static bool add_chunk(struct kl_grpc_out *o, struct kl_bytes *b, size_t off, size_t n)
{
    if (o->n == o->cap) {
        uint32_t cap = o->cap * 2;
        struct kl_http_chunk *p = malloc(cap * sizeof(*p));
        if (!p) {
            kl_bytes_unref(b);
            return fail(o);
        }
        memcpy(p, o->chunks, o->n * sizeof(*p));
        if (o->chunks != o->few)
            free(o->chunks);
        o->chunks = p;
        o->cap = cap;
    }
    o->chunks[o->n++] = (struct kl_http_chunk){b, (uint32_t)off, (uint32_t)n};
    return true;
}

static bool close_chunk(struct kl_grpc_out *o)
{
    uint32_t n = o->used - o->from, from = o->from;
    o->from = o->used;
    return !n || add_chunk(o, kl_bytes_ref(o->block), from, n);
}

char *kl_grpc_out_room(struct kl_grpc_out *o, size_t n)
{
    if (o->failed)
        return NULL;
    if (o->block->n - o->used >= n)
        return o->block->p + o->used;
    struct kl_bytes *b = kl_bytes_alloc(n > BIG_BLOCK ? n : BIG_BLOCK);
    if (!b || !close_chunk(o)) {
        kl_bytes_unref(b);
        fail(o);
        return NULL;
    }
    kl_bytes_unref(o->block);
    o->block = b;
    o->used = o->from = 0;
    return b->p;
}

void kl_grpc_out_put(struct kl_grpc_out *o, const void *p, size_t n)
{
    char *to = n ? kl_grpc_out_room(o, n) : NULL;
    if (!to)
        return;
    memcpy(to, p, n);
    kl_grpc_out_wrote(o, n);
}

void kl_grpc_out_bytes(struct kl_grpc_out *o, struct kl_bytes *b, size_t off, size_t n)
{
    if (n < REFERENCE_MIN) {
        kl_grpc_out_put(o, b ? b->p + off : NULL, n);
        return;
    }
    if (o->failed || !close_chunk(o) || !add_chunk(o, kl_bytes_ref(b), off, n))
        return;
    o->bytes += n;
}

struct kl_http_chunk *kl_grpc_out_end(struct kl_grpc_out *o, uint32_t *ret_n)
{
    if (o->failed || o->bytes > UINT32_MAX || !close_chunk(o))
        return NULL;
    unsigned char *p = (unsigned char *)o->chunks[0].bytes->p;
    p[0] = 0;
    p[1] = (unsigned char)(o->bytes >> 24);
    p[2] = (unsigned char)(o->bytes >> 16);
    p[3] = (unsigned char)(o->bytes >> 8);
    p[4] = (unsigned char)o->bytes;
    *ret_n = o->n;
    return o->chunks;
}

int kl_grpc_out_take(struct kl_grpc_out *o, struct kl_http_chunk *chunks, int max)
{
    int n = o->failed || !close_chunk(o) || o->n > (uint32_t)max ? KL_ENOMEM : (int)o->n;
    if (n > 0) {
        memcpy(chunks, o->chunks, (size_t)n * sizeof(*chunks));
        o->n = 0;
    }
    kl_grpc_out_fini(o);
    return n;
}
