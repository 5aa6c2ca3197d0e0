// SPDX-License-Identifier: Apache-2.0
#include "base/buf.h"
#include "base/err.h"
#include <stdio.h>
#include <stdlib.h>

enum { FIRST_BYTES = 64 };

void kl_buf_init(struct kl_buf *b, size_t max_bytes)
{
    *b = (struct kl_buf){.max = max_bytes};
}

void kl_buf_fini(struct kl_buf *b)
{
    free(b->p);
    *b = (struct kl_buf){.max = b->max};
}

void kl_buf_clear(struct kl_buf *b)
{
    b->n = 0;
    b->err = 0;
}

int kl_buf_reserve(struct kl_buf *b, size_t more)
{
    if (b->err)
        return b->err;
    if (more <= b->cap - b->n)
        return 0;
    if (more > b->max - b->n)
        return b->err = KL_ELIMIT;
    size_t need = b->n + more, cap = b->cap ? b->cap : FIRST_BYTES;
    while (cap < need && cap <= b->max / 2)
        cap *= 2;
    if (cap < need || cap > b->max)
        cap = b->max;
    char *p = realloc(b->p, cap);
    if (!p)
        return b->err = KL_ENOMEM;
    b->p = p;
    b->cap = cap;
    return 0;
}

int kl_buf_append(struct kl_buf *b, const void *p, size_t n)
{
    int r = kl_buf_reserve(b, n);
    if (r)
        return r;
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    return 0;
}

int kl_buf_vprintf(struct kl_buf *b, const char *fmt, va_list ap)
{
    char small[256];
    if (b->err)
        return b->err;
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof(small), fmt, ap), r;
    if (n < 0) {
        r = b->err = KL_ENOMEM;
    } else if ((size_t)n < sizeof(small)) {
        r = kl_buf_append(b, small, (size_t)n);
    } else if ((size_t)n == b->max - b->n) {
        // Exactly full: vsnprintf's NUL would not fit.
        char *p = malloc((size_t)n + 1);
        if (p)
            vsnprintf(p, (size_t)n + 1, fmt, again);
        r = p ? kl_buf_append(b, p, (size_t)n) : (b->err = KL_ENOMEM);
        free(p);
    } else {
        r = kl_buf_reserve(b, (size_t)n + 1);
        if (!r) {
            vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
            b->n += (size_t)n;
        }
    }
    va_end(again);
    return r;
}

int kl_buf_printf(struct kl_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = kl_buf_vprintf(b, fmt, ap);
    va_end(ap);
    return r;
}

void kl_buf_consume(struct kl_buf *b, size_t n)
{
    if (n >= b->n) {
        b->n = 0;
        return;
    }
    if (n)
        memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
}
