// SPDX-License-Identifier: Apache-2.0
// A message's bytes, as they come, into JSON.
#include "net/proto_json.h"

enum { TAG, VARINT, LENGTH, TEXT, BASE64, SKIP };

// ---- texts

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void put_base64_group(struct kl_buf *out, const unsigned char *p, size_t n)
{
    uint32_t v = (uint32_t)p[0] << 16 | (n > 1 ? p[1] : 0u) << 8 | (n > 2 ? p[2] : 0u);
    char four[4] = {base64_digits[v >> 18], base64_digits[v >> 12 & 63],
                    n > 1 ? base64_digits[v >> 6 & 63] : '=', n > 2 ? base64_digits[v & 63] : '='};
    kl_buf_append(out, four, 4);
}

static void put_base64(struct kl_proto_json *j, struct kl_str s, struct kl_buf *out)
{
    const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n;
    if (kl_buf_reserve(out, (s.n / 3 + 2) * 4))
        return;
    while (p < end && j->carry_n) {
        j->carry[j->carry_n++] = *p++;
        if (j->carry_n == 3) {
            put_base64_group(out, j->carry, 3);
            j->carry_n = 0;
        }
    }
    for (; end - p >= 3; p += 3)
        put_base64_group(out, p, 3);
    while (p < end)
        j->carry[j->carry_n++] = *p++;
}

static void put_escaped(struct kl_buf *out, struct kl_str s)
{
    static const char shorts[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    size_t from = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= ' ' && c != '"' && c != '\\')
            continue;
        kl_buf_append(out, s.p + from, i - from);
        from = i + 1;
        const char *at = c ? strchr(shorts, c) : NULL;
        if (at) {
            kl_buf_putc(out, '\\');
            kl_buf_putc(out, letters[at - shorts]);
        } else {
            kl_buf_printf(out, "\\u%04x", c);
        }
    }
    kl_buf_append(out, s.p + from, s.n - from);
}

void kl_proto_json_string(struct kl_buf *out, struct kl_str s)
{
    kl_buf_putc(out, '"');
    put_escaped(out, s);
    kl_buf_putc(out, '"');
}

// ---- fields

static const struct kl_proto_field *find_field(const struct kl_proto_desc *d, uint64_t n)
{
    for (size_t i = 0; i < d->nfields; i++)
        if (d->fields[i].n == n)
            return &d->fields[i];
    return NULL;
}

static const struct kl_proto_name *name_of(const struct kl_proto_desc *d,
                                           const struct kl_proto_field *f)
{
    return &d->names[f - d->fields];
}

static int begin_value(struct kl_proto_json_level *l, const struct kl_proto_field *f,
                       struct kl_buf *out)
{
    if (l->open == f) {
        kl_buf_putc(out, ',');
        return 0;
    }
    if (f->n <= l->last)
        return KL_EPROTO;
    if (l->open)
        kl_buf_putc(out, ']');
    if (l->any)
        kl_buf_putc(out, ',');
    l->any = true;
    l->last = f->n;
    l->open = f->flags & KL_PROTO_REPEATED ? f : NULL;
    kl_buf_printf(out, l->open ? "\"%s\":[" : "\"%s\":", name_of(l->d, f)->name);
    return 0;
}

static void put_number(const struct kl_proto_desc *d, const struct kl_proto_field *f, uint64_t v,
                       struct kl_buf *out)
{
    const struct kl_proto_value *values = name_of(d, f)->values;
    for (; values && values->name; values++) {
        if (values->n != (int32_t)v)
            continue;
        kl_buf_printf(out, "\"%s\"", values->name);
        return;
    }
    if (f->kind == KL_PROTO_BOOL)
        kl_buf_puts(out, v ? KL_STR("true") : KL_STR("false"));
    else if (f->kind == KL_PROTO_INT32)
        kl_buf_printf(out, "%d", (int32_t)v);
    else if (f->kind == KL_PROTO_UINT32)
        kl_buf_printf(out, "%u", (uint32_t)v);
    else if (f->flags & KL_PROTO_UNSIGNED)
        kl_buf_printf(out, "\"%llu\"", (unsigned long long)v);
    else
        kl_buf_printf(out, "\"%lld\"", (long long)v);
}

static int put_varint(struct kl_proto_json *j, struct kl_buf *out)
{
    struct kl_proto_json_level *l = &j->levels[j->depth - 1];
    j->state = TAG;
    if (!j->f)
        return 0;
    if (j->f->kind == KL_PROTO_STRING || j->f->kind > KL_PROTO_INT64)
        return KL_EPROTO;
    int rc = begin_value(l, j->f, out);
    if (!rc)
        put_number(l->d, j->f, j->v, out);
    return rc;
}

// ---- messages

static void push(struct kl_proto_json *j, const struct kl_proto_desc *d, uint64_t n,
                 struct kl_buf *out)
{
    j->levels[j->depth++] = (struct kl_proto_json_level){.d = d, .left = n};
    kl_buf_putc(out, '{');
}

// Ends what has no bytes left.
static void pop(struct kl_proto_json *j, struct kl_buf *out)
{
    while (j->depth && j->state == TAG && !j->shift && !j->levels[j->depth - 1].left) {
        kl_buf_puts(out, j->levels[--j->depth].open ? KL_STR("]}") : KL_STR("}"));
    }
}

void kl_proto_json_begin(struct kl_proto_json *j, const struct kl_proto_desc *d, uint64_t n,
                         struct kl_buf *out)
{
    j->depth = 0;
    j->state = TAG;
    j->shift = j->carry_n = 0;
    j->v = 0;
    j->all = n;
    push(j, d, n, out);
    pop(j, out);
}

static void end_text(struct kl_proto_json *j, struct kl_buf *out)
{
    if (j->state == BASE64 && j->carry_n)
        put_base64_group(out, j->carry, j->carry_n);
    j->carry_n = 0;
    if (j->state != SKIP)
        kl_buf_putc(out, '"');
    j->state = TAG;
}

// The length of a text or message was read.
static int begin_bytes(struct kl_proto_json *j, struct kl_buf *out)
{
    struct kl_proto_json_level *l = &j->levels[j->depth - 1];
    const struct kl_proto_field *f = j->f;
    int rc = j->v > l->left ? KL_EPROTO : f ? begin_value(l, f, out) : 0;
    if (rc || (f && f->kind == KL_PROTO_MESSAGE && j->depth == KL_PROTO_JSON_DEPTH))
        return rc ? rc : KL_EPROTO;
    j->state = TAG;
    if (f && f->kind == KL_PROTO_MESSAGE) {
        l->left -= j->v;
        push(j, f->sub, j->v, out);
        return 0;
    }
    if (f && f->kind != KL_PROTO_STRING)
        return KL_EPROTO;
    j->left = j->v;
    j->state = !f ? SKIP : f->flags & KL_PROTO_BYTES ? BASE64 : TEXT;
    if (f)
        kl_buf_putc(out, '"');
    if (!j->left)
        end_text(j, out);
    return 0;
}

static int begin_field(struct kl_proto_json *j)
{
    j->wire = j->v & 7;
    j->f = find_field(j->levels[j->depth - 1].d, j->v >> 3);
    j->state = j->wire == 0 ? VARINT : LENGTH;
    return j->wire == 0 || j->wire == 2 ? 0 : KL_EPROTO;
}

// One byte of a number: a tag, a value or a length.
static int take_byte(struct kl_proto_json *j, unsigned char c, struct kl_buf *out)
{
    struct kl_proto_json_level *l = &j->levels[j->depth - 1];
    if (!l->left || j->shift > 63 || (j->shift == 63 && c > 1))
        return KL_EPROTO;
    l->left--;
    j->v |= (uint64_t)(c & 0x7f) << j->shift;
    if (c & 0x80) {
        j->shift = (uint8_t)(j->shift + 7);
        return 0;
    }
    int rc = j->state == TAG      ? begin_field(j)
             : j->state == VARINT ? put_varint(j, out)
                                  : begin_bytes(j, out);
    j->shift = 0;
    j->v = 0;
    return rc;
}

static size_t take_text(struct kl_proto_json *j, struct kl_str s, struct kl_buf *out)
{
    s.n = s.n < j->left ? s.n : (size_t)j->left;
    if (j->state == TEXT)
        put_escaped(out, s);
    else if (j->state == BASE64)
        put_base64(j, s, out);
    j->left -= s.n;
    j->levels[j->depth - 1].left -= s.n;
    if (!j->left)
        end_text(j, out);
    return s.n;
}

int kl_proto_json_put(struct kl_proto_json *j, struct kl_str some, struct kl_buf *out)
{
    int rc = 0;
    while (some.n && !rc) {
        if (!j->depth)
            return KL_EPROTO;
        size_t n = 1;
        if (j->state >= TEXT)
            n = take_text(j, some, out);
        else
            rc = take_byte(j, (unsigned char)some.p[0], out);
        some = kl_str_from(some, n);
        j->all -= n;
        if (!rc)
            pop(j, out);
    }
    return rc ? rc : out->err;
}
