// SPDX-License-Identifier: Apache-2.0
#include "base/arena.h"
#include "base/arena_wipe.h"
#include <stdio.h>
#include <stdlib.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
// Unused room is poisoned and a gap left behind each allocation, so that ASan sees overruns.
enum { REDZONE = 16 };
#else
enum { REDZONE = 0 };
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum {
    ALIGN = 16,
    FIRST_BYTES = 4 << 10,
    LAST_BYTES = 256 << 10,
    OWN_BYTES = 64 << 10, // from here on an allocation gets a chunk of its own
    MALLOC_BYTES = 16,    // what malloc adds: chunk and header together are a power of two
};
#define DEFAULT_MAX ((size_t)1 << 30)

// Chunks are a list only so that they can be freed; next and end of the arena say where room is.
struct kl_arena_chunk {
    struct kl_arena_chunk *older;
    size_t cap;        // bytes of data
    size_t next_bytes; // size of the next regular chunk
    _Alignas(ALIGN) char data[];
};

void kl_arena_init(struct kl_arena *a, size_t max_bytes)
{
    *a = (struct kl_arena){.max_bytes = max_bytes ? max_bytes : DEFAULT_MAX};
}

static void free_chunk(struct kl_arena_chunk *c)
{
    ASAN_UNPOISON_MEMORY_REGION(c->data, c->cap);
    free(c);
}

void kl_arena_fini(struct kl_arena *a)
{
    for (struct kl_arena_chunk *c = a->chunk, *older; c; c = older) {
        older = c->older;
        free_chunk(c);
    }
    *a = (struct kl_arena){.max_bytes = a->max_bytes};
}

void kl_arena_wipe(struct kl_arena *a)
{
    for (struct kl_arena_chunk *c = a->chunk; c; c = c->older) {
        ASAN_UNPOISON_MEMORY_REGION(c->data, c->cap);
        explicit_bzero(c->data, c->cap);
    }
}

void kl_arena_reset(struct kl_arena *a)
{
    struct kl_arena_chunk *c = a->chunk;
    while (c && (c->older || c->cap >= OWN_BYTES)) { // a big one is not worth keeping
        struct kl_arena_chunk *older = c->older;
        free_chunk(c);
        c = older;
    }
    *a = (struct kl_arena){.chunk = c, .max_bytes = a->max_bytes};
    if (c) {
        c->next_bytes = FIRST_BYTES * 2;
        a->next = c->data;
        a->end = c->data + c->cap;
        ASAN_POISON_MEMORY_REGION(c->data, c->cap);
    }
}

static struct kl_arena_chunk *add_chunk(struct kl_arena *a, size_t cap, size_t next_bytes)
{
    struct kl_arena_chunk *c = malloc(sizeof(*c) + cap);
    if (!c)
        return NULL;
    c->older = a->chunk;
    c->cap = cap;
    c->next_bytes = next_bytes;
    a->chunk = c;
    ASAN_POISON_MEMORY_REGION(c->data, cap);
    return c;
}

void *kl_arena_alloc(struct kl_arena *a, size_t n)
{
    if (n > a->max_bytes - a->used_bytes)
        return NULL;
    size_t room = (n + REDZONE + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    char *p;
    room += room == 0 ? ALIGN : 0;
    if (room <= (size_t)(a->end - a->next)) {
        p = a->next;
        a->next += room;
    } else if (room >= OWN_BYTES) {
        size_t next_bytes = a->chunk ? a->chunk->next_bytes : FIRST_BYTES;
        struct kl_arena_chunk *c = add_chunk(a, room, next_bytes);
        if (!c)
            return NULL;
        p = c->data;
    } else {
        size_t overhead = sizeof(struct kl_arena_chunk) + MALLOC_BYTES;
        size_t bytes = a->chunk ? a->chunk->next_bytes : FIRST_BYTES;
        while (bytes - overhead < room)
            bytes *= 2;
        struct kl_arena_chunk *c =
            add_chunk(a, bytes - overhead, bytes < LAST_BYTES ? bytes * 2 : LAST_BYTES);
        if (!c)
            return NULL;
        p = c->data;
        a->next = p + room;
        a->end = p + c->cap;
    }
    a->used_bytes += n;
    ASAN_UNPOISON_MEMORY_REGION(p, n);
    return p;
}

void *kl_arena_zalloc(struct kl_arena *a, size_t n)
{
    void *p = kl_arena_alloc(a, n);
    return p ? memset(p, 0, n) : NULL;
}

struct kl_str kl_arena_dup(struct kl_arena *a, struct kl_str s)
{
    char *p = s.n < SIZE_MAX ? kl_arena_alloc(a, s.n + 1) : NULL;
    if (!p)
        return (struct kl_str){NULL, 0};
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = 0;
    return (struct kl_str){p, s.n};
}

struct kl_str kl_arena_vprintf(struct kl_arena *a, const char *fmt, va_list ap)
{
    char small[256];
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    struct kl_str ret = {NULL, 0};
    if (n >= 0 && (size_t)n < sizeof(small)) {
        ret = kl_arena_dup(a, (struct kl_str){small, (size_t)n});
    } else if (n >= 0) {
        char *p = kl_arena_alloc(a, (size_t)n + 1);
        if (p) {
            vsnprintf(p, (size_t)n + 1, fmt, again);
            ret = (struct kl_str){p, (size_t)n};
        }
    }
    va_end(again);
    return ret;
}

struct kl_str kl_arena_printf(struct kl_arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str s = kl_arena_vprintf(a, fmt, ap);
    va_end(ap);
    return s;
}
