// SPDX-License-Identifier: Apache-2.0
// Memory of one request or one step of work: allocated piecewise, freed at once. Not thread-safe.
#pragma once
#include "base/str.h"
#include <stdarg.h>

struct kl_arena_chunk;
struct kl_arena {
    struct kl_arena_chunk *chunk; // newest
    char *next, *end;
    size_t used_bytes, max_bytes;
};

// `max_bytes` bounds the sum of all allocations; 0 means 1 GiB. Allocates nothing yet.
void kl_arena_init(struct kl_arena *a, size_t max_bytes);
void kl_arena_fini(struct kl_arena *a);
// Frees all but the first chunk, which is used again.
void kl_arena_reset(struct kl_arena *a);
// 16-byte aligned, not cleared. NULL when the bound or the machine's memory is reached.
void *kl_arena_alloc(struct kl_arena *a, size_t n);
void *kl_arena_zalloc(struct kl_arena *a, size_t n);
#define KL_ARENA_NEW(a, type) ((type *)kl_arena_zalloc((a), sizeof(type)))
// NUL-terminated copies; p is NULL when memory ran out.
struct kl_str kl_arena_dup(struct kl_arena *a, struct kl_str s);
struct kl_str kl_arena_printf(struct kl_arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
struct kl_str kl_arena_vprintf(struct kl_arena *a, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
