// SPDX-License-Identifier: Apache-2.0
// A growable byte buffer that cannot be made without a maximum. A failed append is remembered, so
// that a writer checks once at its end.
#pragma once
#include "base/str.h"
#include <stdarg.h>

struct kl_buf {
    char *p;
    size_t n, cap, max;
    int err; // 0, KL_ENOMEM or KL_ELIMIT once an append failed; later appends do nothing
};

void kl_buf_init(struct kl_buf *b, size_t max_bytes);
void kl_buf_fini(struct kl_buf *b);
void kl_buf_clear(struct kl_buf *b);               // keeps the memory, forgets the error
int kl_buf_reserve(struct kl_buf *b, size_t more); // room for `more` bytes behind n
int kl_buf_append(struct kl_buf *b, const void *p, size_t n);
int kl_buf_printf(struct kl_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int kl_buf_vprintf(struct kl_buf *b, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
void kl_buf_consume(struct kl_buf *b, size_t n); // drops n bytes from the front

static inline int kl_buf_puts(struct kl_buf *b, struct kl_str s)
{
    return kl_buf_append(b, s.p, s.n);
}

static inline int kl_buf_putc(struct kl_buf *b, char c)
{
    if (b->n < b->cap && !b->err) {
        b->p[b->n++] = c;
        return 0;
    }
    return kl_buf_append(b, &c, 1);
}

static inline struct kl_str kl_buf_str(const struct kl_buf *b)
{
    return (struct kl_str){b->p ? b->p : "", b->n};
}
