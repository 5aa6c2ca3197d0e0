// SPDX-License-Identifier: Apache-2.0
// Numbers as they lie on the disk and on the wire: little endian; variable length in 7-bit groups.
// A reader is a bounded cursor that remembers the first thing that did not fit.
#pragma once
#include "base/str.h"
#include <string.h>

static inline void kl_put_u16(void *p, uint16_t v)
{
    ((uint8_t *)p)[0] = (uint8_t)v;
    ((uint8_t *)p)[1] = (uint8_t)(v >> 8);
}

static inline void kl_put_u32(void *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        ((uint8_t *)p)[i] = (uint8_t)(v >> 8 * i);
}

static inline void kl_put_u64(void *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        ((uint8_t *)p)[i] = (uint8_t)(v >> 8 * i);
}

static inline uint16_t kl_get_u16(const void *p)
{
    return (uint16_t)(((const uint8_t *)p)[0] | ((const uint8_t *)p)[1] << 8);
}

static inline uint32_t kl_get_u32(const void *p)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++)
        v |= (uint32_t)((const uint8_t *)p)[i] << 8 * i;
    return v;
}

static inline uint64_t kl_get_u64(const void *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v |= (uint64_t)((const uint8_t *)p)[i] << 8 * i;
    return v;
}

// At most 10 bytes; returns where the next one goes.
static inline uint8_t *kl_put_var(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

struct kl_cursor {
    const uint8_t *p, *end;
    bool bad;
};

static inline const uint8_t *kl_take(struct kl_cursor *c, size_t n)
{
    static const uint8_t nothing[16];
    if (c->bad || (size_t)(c->end - c->p) < n) {
        c->bad = true;
        return n <= sizeof(nothing) ? nothing : NULL;
    }
    c->p += n;
    return c->p - n;
}

static inline uint8_t kl_take_u8(struct kl_cursor *c)
{
    return *kl_take(c, 1);
}

static inline uint16_t kl_take_u16(struct kl_cursor *c)
{
    return kl_get_u16(kl_take(c, 2));
}

static inline uint32_t kl_take_u32(struct kl_cursor *c)
{
    return kl_get_u32(kl_take(c, 4));
}

static inline uint64_t kl_take_u64(struct kl_cursor *c)
{
    return kl_get_u64(kl_take(c, 8));
}

static inline uint64_t kl_take_var(struct kl_cursor *c)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t b = kl_take_u8(c);
        if (shift == 63 && b > 1)
            break;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return v;
    }
    c->bad = true;
    return 0;
}

static inline struct kl_str kl_take_str(struct kl_cursor *c, uint64_t n)
{
    if (c->bad || n > (uint64_t)(c->end - c->p)) {
        c->bad = true;
        return (struct kl_str){"", 0};
    }
    c->p += n;
    return (struct kl_str){(const char *)c->p - n, (size_t)n};
}
