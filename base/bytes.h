// SPDX-License-Identifier: Apache-2.0
// Immutable bytes with an atomic reference count; the unit in which encoded things are shared.
#pragma once
#include "base/buf.h"
#include <stdatomic.h>
#include <stdbool.h>

struct kl_bytes {
    atomic_uint refs;
    uint32_t n;
    char *p; // behind this, or outside
};

// A new one with one reference: a copy of s, or (kl_bytes_alloc) n bytes for the caller to fill
// before it shares it. NULL when memory ran out.
struct kl_bytes *kl_bytes_new(struct kl_str s);
struct kl_bytes *kl_bytes_alloc(size_t n);
struct kl_bytes *kl_bytes_from_buf(const struct kl_buf *b); // a copy; NULL when b has an error too
// Those that lie elsewhere, read-only, until `release` is called, on whatever thread drops the last
// reference.
struct kl_bytes *kl_bytes_outside(const char *p, size_t n, void (*release)(void *owner, size_t n),
                                  void *owner);
bool kl_bytes_is_outside(const struct kl_bytes *b);
void *kl_bytes_owner(const struct kl_bytes *b);    // of what lies outside, else NULL
struct kl_bytes *kl_bytes_ref(struct kl_bytes *b); // NULL in, NULL out
void kl_bytes_unref(struct kl_bytes *b);           // accepts NULL

static inline struct kl_str kl_bytes_str(const struct kl_bytes *b)
{
    return b ? (struct kl_str){b->p, b->n} : (struct kl_str){"", 0};
}
