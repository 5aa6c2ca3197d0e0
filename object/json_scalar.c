// SPDX-License-Identifier: Apache-2.0
// The decoder's values that are no containers.
#include "object/json_decode_int.h"
#include "object/quantity.h"
#include "object/timestamp.h"
#include <stdio.h>

static const struct kl_type string_type = {.kind = KL_T_STRING};
static const struct kl_type uint8_type = {.kind = KL_T_INTEGER, .format = KL_FMT_BYTE};
static const struct kl_type float_type = {.kind = KL_T_NUMBER};

const char *kl_json_read_string(struct kl_json_decoder *d, const char *p, struct kl_str *ret)
{
    unsigned flags = 0;
    const char *close = kl_json_string_end(p + 1, d->end, &flags);
    if (!close)
        return NULL;
    *ret = (struct kl_str){p + 1, (size_t)(close - p - 1)};
    if (flags) {
        *ret = kl_json_unescape(d->arena, *ret, flags);
        if (!ret->p)
            d->fatal = KL_ENOMEM;
    }
    return close + 1;
}

const char *kl_json_read_integer(struct kl_json_decoder *d, const char *p, const struct kl_type *t,
                                 bool final, struct kl_value *v)
{
    const char *from = p;
    bool minus = *p == '-', plain;
    p += minus;
    int64_t i = 0;
    const char *digits = p;
    while (p < d->end && (unsigned char)(*p - '0') < 10 && p - digits < 18)
        i = i * 10 + (*p++ - '0');
    bool more = p < d->end && ((unsigned char)(*p - '0') < 10 || *p == '.' || (*p | 32) == 'e');
    bool fits = true;
    i = minus ? -i : i;
    if (p == digits || more || (*digits == '0' && p - digits > 1)) {
        p = kl_json_number_end(from, d->end, &plain);
        if (!p)
            return NULL;
        struct kl_str text = {from, (size_t)(p - from)};
        fits = plain && kl_str_to_i64(text, &i);
    }
    if (t->format == KL_FMT_INT32)
        fits = fits && i >= INT32_MIN && i <= INT32_MAX;
    else if (t->format == KL_FMT_BYTE)
        fits = fits && i >= 0 && i <= 255;
    if (!fits)
        kl_json_fail_type(d, "number", (struct kl_str){from, (size_t)(p - from)}, t, final);
    v->kind = KL_INT;
    v->i = i;
    return p;
}

const char *kl_json_read_number(struct kl_json_decoder *d, const char *p, bool float_only,
                                struct kl_value *v)
{
    bool plain;
    const char *from = p;
    p = kl_json_number_end(p, d->end, &plain);
    if (!p)
        return NULL;
    struct kl_str text = {from, (size_t)(p - from)};
    if (!float_only && plain && kl_str_to_i64(text, &v->i)) {
        v->kind = KL_INT;
        return p;
    }
    v->kind = KL_FLOAT;
    if (!kl_json_to_double(d->arena, text, &v->d))
        kl_json_fail_type(d, "number", text, &float_type, false);
    return p;
}

static const char *read_literal(struct kl_json_decoder *d, const char *p, const char *word,
                                size_t n)
{
    return (size_t)(d->end - p) >= n && memcmp(p, word, n) == 0 ? p + n : NULL;
}

const char *kl_json_read_bool(struct kl_json_decoder *d, const char *p, struct kl_value *v)
{
    v->kind = KL_BOOL;
    v->b = *p == 't';
    return v->b ? read_literal(d, p, "true", 4) : read_literal(d, p, "false", 5);
}

const char *kl_json_read_over(struct kl_json_decoder *d, const char *p)
{
    unsigned flags = 0;
    return kl_json_skip(p, d->end, d->depth, &flags);
}

static const char *token_name(char c)
{
    switch (c) {
    case '{':
        return "object";
    case '[':
        return "array";
    case '"':
        return "string";
    case 't':
    case 'f':
        return "bool";
    default:
        return "number";
    }
}

const char *kl_json_mismatch(struct kl_json_decoder *d, const char *p, const struct kl_type *t,
                             bool final)
{
    kl_json_fail_type(d, token_name(*p), KL_STR(""), t, final);
    return kl_json_read_over(d, p);
}

// A value kept as compact text.
static const char *read_raw(struct kl_json_decoder *d, const char *p, struct kl_value *v)
{
    unsigned flags = 0;
    const char *from = p;
    p = kl_json_skip(p, d->end, d->depth, &flags);
    if (!p)
        return NULL;
    struct kl_str text = {from, (size_t)(p - from)};
    if (flags & KL_JSON_SPACED) {
        struct kl_buf compact;
        kl_buf_init(&compact, text.n + 1);
        kl_json_put_compact(&compact, text);
        struct kl_str kept = kl_arena_dup(d->arena, kl_buf_str(&compact));
        if (compact.err || !kept.p)
            d->fatal = KL_ENOMEM;
        else
            text = kept;
        kl_buf_fini(&compact);
    }
    *v = (struct kl_value){.kind = KL_RAW, .sym = v->sym, .n = (uint32_t)text.n, .s = text.p};
    return p;
}

// Quantity takes its text as it stands, with or without quotes, and never unescapes it.
static const char *read_quantity(struct kl_json_decoder *d, const char *p, struct kl_value *v)
{
    const char *from = p;
    p = kl_json_read_over(d, p);
    if (!p)
        return NULL;
    struct kl_str text = {from, (size_t)(p - from)};
    if (*from == '"')
        text = (struct kl_str){from + 1, text.n - 2};
    struct kl_error e;
    struct kl_str normal = {"", 0};
    int r = kl_quantity_normalize(d->arena, kl_str_trim(text), &normal, &e);
    if (r == KL_ENOMEM)
        d->fatal = r;
    else if (r)
        kl_json_fail(d, kl_str(e.msg), true);
    v->kind = KL_STRING;
    v->n = (uint32_t)normal.n;
    v->s = normal.p;
    return p;
}

void kl_json_fail_duration(struct kl_json_decoder *d, struct kl_str text)
{
    struct kl_buf message;
    kl_buf_init(&message, 64 << 10);
    kl_duration_complaint(&message, text);
    kl_json_fail(d, kl_buf_str(&message), true);
    kl_buf_fini(&message);
}

static const char *read_time(struct kl_json_decoder *d, const char *p, const struct kl_type *t,
                             struct kl_value *v)
{
    if (*p != '"')
        return kl_json_mismatch(d, p, &string_type, true);
    struct kl_str s;
    p = kl_json_read_string(d, p, &s);
    if (!p || d->fatal)
        return p;
    v->kind = t->kind == KL_T_DURATION ? KL_INT : KL_TIME;
    v->i = 0;
    if (t->kind == KL_T_DURATION) {
        if (kl_duration_parse(s, &v->i))
            kl_json_fail_duration(d, s);
        return p;
    }
    struct kl_error e;
    if (t->kind == KL_T_MICROTIME ? kl_microtime_parse(s, &v->i, &e) : kl_time_parse(s, &v->i, &e))
        kl_json_fail(d, kl_str(e.msg), true);
    return p;
}

// []byte: base64, or, as Go allows, an array of numbers.
static const char *read_bytes(struct kl_json_decoder *d, const char *p, const struct kl_type *t,
                              struct kl_value *v)
{
    v->kind = KL_BYTES;
    v->n = 0;
    v->s = "";
    if (*p == '"') {
        struct kl_str s, bytes;
        size_t bad;
        p = kl_json_read_string(d, p, &s);
        if (!p || d->fatal)
            return p;
        if (kl_json_base64_decode(d->arena, s, &bytes, &bad)) {
            v->n = (uint32_t)bytes.n;
            v->s = bytes.p;
        } else {
            char text[64];
            snprintf(text, sizeof(text), "illegal base64 data at input byte %zu", bad);
            kl_json_fail(d, kl_str(text), false);
        }
        return p;
    }
    if (*p != '[')
        return kl_json_mismatch(d, p, t, false);
    const char *after = kl_json_read_over(d, p);
    if (!after)
        return NULL;
    uint8_t *bytes = kl_arena_alloc(d->arena, (size_t)(after - p));
    if (!bytes) {
        d->fatal = KL_ENOMEM;
        return after;
    }
    for (p = kl_json_space(p + 1, after); *p != ']'; v->n++) {
        struct kl_value item = {0};
        if (*p == '-' || (*p >= '0' && *p <= '9'))
            p = kl_json_read_integer(d, p, &uint8_type, false, &item);
        else if (*p == 'n')
            p += 4;
        else
            p = kl_json_mismatch(d, p, &uint8_type, false);
        bytes[v->n] = (uint8_t)item.i;
        p = kl_json_space(p, after);
        if (*p == ',')
            p = kl_json_space(p + 1, after);
    }
    v->s = (const char *)bytes;
    return after;
}

static const char *read_schema_or_bool(struct kl_json_decoder *d, const char *p, struct kl_value *v)
{
    if (*p == 't' || *p == 'f')
        return kl_json_read_bool(d, p, v);
    p = kl_json_read_over(d, p);
    if (p)
        kl_json_fail(d, KL_STR("boolean or JSON schema expected"), true);
    return p;
}

const char *kl_json_read_special(struct kl_json_decoder *d, const char *p, const struct kl_type *t,
                                 struct kl_value *v)
{
    switch (t->kind) {
    case KL_T_BYTES:
        return read_bytes(d, p, t, v);
    case KL_T_QUANTITY:
        return read_quantity(d, p, v);
    case KL_T_TIME:
    case KL_T_MICROTIME:
    case KL_T_DURATION:
        return read_time(d, p, t, v);
    case KL_T_SCHEMA_OR_BOOL:
        return read_schema_or_bool(d, p, v);
    case KL_T_SCHEMA_OR_ARRAY:
    case KL_T_SCHEMA_OR_STRINGS:
        v->kind = KL_ARRAY; // upstream takes any scalar for one that is empty
        v->n = 0;
        v->items = NULL;
        return kl_json_read_over(d, p);
    default:
        return read_raw(d, p, v);
    }
}
