// SPDX-License-Identifier: Apache-2.0
// The JSON writer. The position is passed along in a register; room is made ahead of each token,
// and every member is written with a comma behind it, which the closing bracket then replaces.
#include "object/json_int.h"
#include "object/schema_int.h"
#include "object/timestamp.h"

struct writer {
    struct kl_buf *out;
    char *end; // of the room
};

// Makes room for n bytes behind p. NULL when the buffer is full; out->err says why.
static char *make_room(struct writer *w, char *p, size_t n)
{
    w->out->n = (size_t)(p - w->out->p);
    if (kl_buf_reserve(w->out, n))
        return NULL;
    w->end = w->out->p + w->out->cap;
    return w->out->p + w->out->n;
}

static inline char *room(struct writer *w, char *p, size_t n)
{
    return (size_t)(w->end - p) >= n ? p : make_room(w, p, n);
}

static char *put_text(struct writer *w, char *p, const char *text, size_t n)
{
    p = room(w, p, n);
    if (!p)
        return NULL;
    memcpy(p, text, n);
    return p + n;
}

#define PUT_LITERAL(w, p, literal) put_text((w), (p), (literal), sizeof(literal) - 1)

static const char hex[] = "0123456789abcdef";

// One byte, or one UTF-8 sequence, that Go does not write as it stands. Room for 6 bytes is there.
static char *put_odd(char *p, const char **from, const char *end)
{
    const char *s = *from;
    unsigned char c = (unsigned char)*s;
    *from = s + 1;
    if (c >= 0x80) {
        size_t n = kl_json_utf8_len(s, end);
        if (n == 0) {
            memcpy(p, "\\ufffd", 6);
            return p + 6;
        }
        *from = s + n;
        if (n == 3 && c == 0xe2 && (unsigned char)s[1] == 0x80 &&
            ((unsigned char)s[2] & 0xfe) == 0xa8) {
            memcpy(p, "\\u2028", 6);
            p[5] = (unsigned char)s[2] & 1 ? '9' : '8';
            return p + 6;
        }
        memcpy(p, s, n);
        return p + n;
    }
    *p++ = '\\';
    switch (c) {
    case '"':
    case '\\':
        *p++ = (char)c;
        return p;
    case '\b':
        *p++ = 'b';
        return p;
    case '\f':
        *p++ = 'f';
        return p;
    case '\n':
        *p++ = 'n';
        return p;
    case '\r':
        *p++ = 'r';
        return p;
    case '\t':
        *p++ = 't';
        return p;
    default:
        memcpy(p, "u00", 3);
        p[3] = hex[c >> 4];
        p[4] = hex[c & 15];
        return p + 5;
    }
}

#ifdef __SSE2__
// Which of 16 bytes Go does not write as they stand, or that begin UTF-8 sequences.
static inline unsigned odd_bytes(__m128i v)
{
    // 0x3c and 0x3e (< and >) differ in one bit, and so do 0x22 and 0x26 (quote and &).
    __m128i a = _mm_cmplt_epi8(v, _mm_set1_epi8(0x20));
    __m128i b = _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'));
    __m128i c = _mm_cmpeq_epi8(_mm_and_si128(v, _mm_set1_epi8(~2)), _mm_set1_epi8(0x3c));
    __m128i d = _mm_cmpeq_epi8(_mm_and_si128(v, _mm_set1_epi8(~4)), _mm_set1_epi8(0x22));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d)));
}

// The last n bytes of a string, 1 to 15, without reading beyond them.
static inline __m128i load_tail(const char *s, size_t n)
{
    uint64_t low, high = 0;
    if (n >= 8) {
        memcpy(&low, s, 8);
        if (n > 8) {
            memcpy(&high, s + n - 8, 8);
            high >>= 8 * (16 - n);
        }
    } else if (n >= 4) {
        uint32_t first, last;
        memcpy(&first, s, 4);
        memcpy(&last, s + n - 4, 4);
        low = first | (uint64_t)last << (8 * (n - 4));
    } else {
        low = (uint8_t)s[0] | (uint64_t)(uint8_t)s[n / 2] << (8 * (n / 2)) |
              (uint64_t)(uint8_t)s[n - 1] << (8 * (n - 1));
    }
    return _mm_set_epi64x((long long)high, (long long)low);
}
#else
static inline bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&';
}
#endif

// The content of a string. Leaves room for 16 bytes more.
static char *put_escaped(struct writer *w, char *p, const char *s, size_t n)
{
    const char *end = s + n;
    p = room(w, p, n + 32);
    if (!p)
        return NULL;
    while (s < end) {
#ifdef __SSE2__
        while (end - s >= 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)s);
            _mm_storeu_si128((__m128i *)p, v);
            unsigned odd = odd_bytes(v);
            if (odd) {
                unsigned plain = (unsigned)__builtin_ctz(odd);
                s += plain;
                p += plain;
                goto odd;
            }
            s += 16;
            p += 16;
        }
        if (s == end)
            break;
        size_t left = (size_t)(end - s);
        __m128i v = load_tail(s, left);
        _mm_storeu_si128((__m128i *)p, v);
        unsigned odd = odd_bytes(v) & ((1u << left) - 1);
        unsigned plain = odd ? (unsigned)__builtin_ctz(odd) : (unsigned)left;
        s += plain;
        p += plain;
        if (!odd)
            break;
    odd:
#else
        while (s < end && is_plain((unsigned char)*s))
            *p++ = *s++;
        if (s == end)
            break;
#endif
        p = put_odd(p, &s, end);
        p = room(w, p, (size_t)(end - s) + 32);
        if (!p)
            return NULL;
    }
    return p;
}

static char *put_string(struct writer *w, char *p, const char *s, size_t n)
{
    p = room(w, p, 2);
    if (!p)
        return NULL;
    *p++ = '"';
    p = put_escaped(w, p, s, n);
    if (!p)
        return NULL;
    *p++ = '"';
    return p;
}

// Compact JSON text with Go's HTML escapes: <, > and & stand only in strings.
static char *put_raw(struct writer *w, char *p, const char *s, size_t n)
{
    const char *end = s + n;
    p = room(w, p, n + 32);
    if (!p)
        return NULL;
    while (s < end) {
#ifdef __SSE2__
        while (end - s >= 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)s);
            __m128i odd =
                _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(_mm_and_si128(v, _mm_set1_epi8(~2)),
                                                         _mm_set1_epi8(0x3c)),
                                          _mm_cmpeq_epi8(v, _mm_set1_epi8('&'))),
                             _mm_cmpeq_epi8(v, _mm_set1_epi8((char)0xe2)));
            _mm_storeu_si128((__m128i *)p, v);
            unsigned mask = (unsigned)_mm_movemask_epi8(odd);
            unsigned plain = mask ? (unsigned)__builtin_ctz(mask) : 16;
            s += plain;
            p += plain;
            if (mask)
                break;
        }
        if (s == end)
            break;
#endif
        unsigned char c = (unsigned char)*s;
        bool line_end = c == 0xe2 && end - s >= 3 && (unsigned char)s[1] == 0x80 &&
                        ((unsigned char)s[2] & 0xfe) == 0xa8;
        if (c == '<' || c == '>' || c == '&' || line_end) {
            p = put_odd(p, &s, end);
            p = room(w, p, (size_t)(end - s) + 32);
            if (!p)
                return NULL;
        } else {
            *p++ = *s++;
        }
    }
    return p;
}

static char *put_int(char *p, int64_t i)
{
    char digits[20];
    uint64_t u = i < 0 ? -(uint64_t)i : (uint64_t)i;
    int n = 0;
    do
        digits[n++] = (char)('0' + u % 10);
    while (u /= 10);
    if (i < 0)
        *p++ = '-';
    while (n > 0)
        *p++ = digits[--n];
    return p;
}

static char *put_base64(struct writer *w, char *p, const char *s, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    p = room(w, p, (n + 2) / 3 * 4 + 2);
    if (!p)
        return NULL;
    const uint8_t *b = (const uint8_t *)s, *end = b + n;
    *p++ = '"';
    for (; end - b >= 3; b += 3) {
        uint32_t v = (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
        p[0] = digits[v >> 18];
        p[1] = digits[v >> 12 & 63];
        p[2] = digits[v >> 6 & 63];
        p[3] = digits[v & 63];
        p += 4;
    }
    if (b < end) {
        uint32_t v = (uint32_t)b[0] << 16 | (end - b > 1 ? (uint32_t)b[1] << 8 : 0);
        p[0] = digits[v >> 18];
        p[1] = digits[v >> 12 & 63];
        p[2] = end - b > 1 ? digits[v >> 6 & 63] : '=';
        p[3] = '=';
        p += 4;
    }
    *p++ = '"';
    return p;
}

static char *put_float(struct writer *w, char *p, double d)
{
    w->out->n = (size_t)(p - w->out->p);
    kl_json_put_float(w->out, d);
    if (w->out->err)
        return NULL;
    w->end = w->out->p + w->out->cap;
    return w->out->p + w->out->n;
}

static char *put_value(struct writer *w, char *p, const struct kl_type *t,
                       const struct kl_value *v);

// Closes what was opened, over the comma behind the last member.
static inline char *put_close(struct writer *w, char *p, char bracket)
{
    p = room(w, p, 1);
    if (!p)
        return NULL;
    if (p[-1] == ',')
        p--;
    *p++ = bracket;
    return p;
}

// What Go writes for a value that is not set.
static char *put_zero(struct writer *w, char *p, const struct kl_field *f)
{
    static const struct kl_value empty = {.kind = KL_STRUCT};
    if (f->flags & KL_FIELD_PTR)
        return PUT_LITERAL(w, p, "null");
    switch (f->type->kind) {
    case KL_T_STRING:
        return PUT_LITERAL(w, p, "\"\"");
    case KL_T_INTEGER:
    case KL_T_NUMBER:
    case KL_T_INT_OR_STRING:
        return PUT_LITERAL(w, p, "0");
    case KL_T_BOOLEAN:
        return PUT_LITERAL(w, p, "false");
    case KL_T_STRUCT:
        return put_value(w, p, f->type, &empty);
    case KL_T_QUANTITY:
        return PUT_LITERAL(w, p, "\"0\"");
    case KL_T_DURATION:
        return PUT_LITERAL(w, p, "\"0s\"");
    default:
        return PUT_LITERAL(w, p, "null");
    }
}

static inline char *put_name(struct writer *w, char *p, uint32_t sym)
{
    struct kl_str name = kl_sym_quoted(sym);
    if (name.n > KL_SYM_SLACK)
        return put_text(w, p, name.p, name.n);
    p = room(w, p, KL_SYM_SLACK);
    if (!p)
        return NULL;
    memcpy(p, name.p, KL_SYM_SLACK); // of constant size: two moves
    return p + name.n;
}

// Members without a field of their own stand beside the others.
static char *put_rest(struct writer *w, char *p, const struct kl_value *rest)
{
    for (const struct kl_value *e = rest->items, *end = e + 2 * (size_t)rest->n; e < end; e += 2) {
        p = put_string(w, p, e->s, e->n);
        if (p)
            p = room(w, p, 1);
        if (!p)
            return NULL;
        *p++ = ':';
        p = put_value(w, p, NULL, e + 1);
        if (p)
            p = room(w, p, 2);
        if (!p)
            return NULL;
        *p++ = ',';
    }
    return p;
}

// Members stand in the order of the fields, so both are walked side by side.
static char *put_members(struct writer *w, char *p, const struct kl_type *t,
                         const struct kl_value *v)
{
    const struct kl_value *m = v->items, *end = m + v->n;
    for (const struct kl_field *f = t->fields, *last = f + t->nfields; f < last; f++) {
        bool set = m < end && m->sym == f->sym;
        if (!set && !(f->flags & KL_FIELD_EMIT_ALWAYS))
            continue;
        if (f->flags & KL_FIELD_REST) {
            p = put_rest(w, p, m++);
            if (!p)
                return NULL;
            continue;
        }
        p = put_name(w, p, f->sym);
        if (p)
            p = set ? put_value(w, p, f->type, m) : put_zero(w, p, f);
        if (p)
            p = room(w, p, 2);
        if (!p)
            return NULL;
        *p++ = ',';
        m += set;
    }
    return p;
}

static char *put_struct(struct writer *w, char *p, const struct kl_type *t,
                        const struct kl_value *v, struct kl_str head)
{
    p = room(w, p, head.n + 1);
    if (!p)
        return NULL;
    *p++ = '{';
    if (head.n) {
        memcpy(p, head.p, head.n);
        p += head.n;
    }
    p = put_members(w, p, t, v);
    return p ? put_close(w, p, '}') : NULL;
}

static char *put_array(struct writer *w, char *p, const struct kl_type *elem,
                       const struct kl_value *v)
{
    p = room(w, p, 1);
    if (!p)
        return NULL;
    *p++ = '[';
    for (const struct kl_value *e = v->items, *end = e + v->n; e < end; e++) {
        p = put_value(w, p, elem, e);
        if (p)
            p = room(w, p, 2);
        if (!p)
            return NULL;
        *p++ = ',';
    }
    return put_close(w, p, ']');
}

static char *put_map(struct writer *w, char *p, const struct kl_type *elem,
                     const struct kl_value *v)
{
    p = room(w, p, 1);
    if (!p)
        return NULL;
    *p++ = '{';
    for (const struct kl_value *e = v->items, *end = e + 2 * (size_t)v->n; e < end; e += 2) {
        p = put_string(w, p, e->s, e->n);
        if (p)
            p = room(w, p, 1);
        if (!p)
            return NULL;
        *p++ = ':';
        p = put_value(w, p, elem, e + 1);
        if (p)
            p = room(w, p, 2);
        if (!p)
            return NULL;
        *p++ = ',';
    }
    return put_close(w, p, '}');
}

static char *put_scalar(struct writer *w, char *p, const struct kl_type *t,
                        const struct kl_value *v)
{
    p = room(w, p, 64);
    if (!p)
        return NULL;
    switch (v->kind) {
    case KL_BOOL:
        return v->b ? PUT_LITERAL(w, p, "true") : PUT_LITERAL(w, p, "false");
    case KL_INT:
        if (t && t->kind == KL_T_DURATION) {
            *p++ = '"';
            p += kl_duration_text(v->i, p);
            *p++ = '"';
            return p;
        }
        return put_int(p, v->i);
    case KL_FLOAT:
        return put_float(w, p, v->d);
    case KL_TIME:
        if (v->i == KL_TIME_ZERO_US)
            return PUT_LITERAL(w, p, "null");
        *p++ = '"';
        p += t && t->kind == KL_T_MICROTIME ? kl_microtime_text(v->i, p) : kl_time_text(v->i, p);
        *p++ = '"';
        return p;
    default:
        return PUT_LITERAL(w, p, "null");
    }
}

static char *put_value(struct writer *w, char *p, const struct kl_type *t, const struct kl_value *v)
{
    switch (v->kind) {
    case KL_STRING:
        return put_string(w, p, v->s, v->n);
    case KL_BYTES:
        return put_base64(w, p, v->s, v->n);
    case KL_RAW:
        return v->n ? put_raw(w, p, v->s, v->n) : PUT_LITERAL(w, p, "null");
    case KL_STRUCT:
        if (t && t->kind >= KL_T_SCHEMA_OR_ARRAY)
            t = t->elem;
        if (!t || t->kind != KL_T_STRUCT)
            return PUT_LITERAL(w, p, "null"); // only the type knows the members
        return put_struct(w, p, t, v, (struct kl_str){"", 0});
    case KL_ARRAY:
        if (v->n == 0 && t && t->kind >= KL_T_SCHEMA_OR_ARRAY)
            return PUT_LITERAL(w, p, "null");
        return put_array(w, p, t && t->kind != KL_T_SCHEMA_OR_STRINGS ? t->elem : NULL, v);
    case KL_MAP:
        return put_map(w, p, t ? t->elem : NULL, v);
    default:
        return put_scalar(w, p, t, v);
    }
}

static void write_root(struct kl_buf *out, const struct kl_type *type, const struct kl_value *v,
                       struct kl_str head)
{
    static const struct kl_value null = {.kind = KL_NULL};
    struct writer w = {.out = out};
    char *p = kl_buf_reserve(out, 1) ? NULL : out->p + out->n;
    if (!p)
        return;
    w.end = out->p + out->cap;
    v = v ? v : &null;
    if (v->kind == KL_STRUCT && type && type->kind == KL_T_STRUCT)
        p = put_struct(&w, p, type, v, head);
    else
        p = put_value(&w, p, type, v);
    if (p)
        out->n = (size_t)(p - out->p);
}

void kl_json_encode(struct kl_buf *out, const struct kl_type *type, const struct kl_value *v,
                    struct kl_str head)
{
    write_root(out, type, v, head);
}

void kl_json_write(struct kl_buf *out, const struct kl_value *v)
{
    write_root(out, NULL, v, KL_STR(""));
}

void kl_json_write_string(struct kl_buf *out, struct kl_str s)
{
    struct kl_value v = kl_string(s);
    write_root(out, NULL, &v, KL_STR(""));
}

void kl_json_write_strings(struct kl_buf *out, const struct kl_str *s, size_t n)
{
    kl_buf_putc(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i)
            kl_buf_putc(out, ',');
        kl_json_write_string(out, s[i]);
    }
    kl_buf_putc(out, ']');
}
