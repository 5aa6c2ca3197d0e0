// SPDX-License-Identifier: Apache-2.0
// Encoding runs backwards, last field first: when a message is done its length is known, so that no
// pass over sizes is needed and nothing is measured twice.
#include "object/protobuf.h"
#include "object/protobuf_int.h"
#include "object/timestamp.h"
#include <stdlib.h>

#define STACK_BYTES 8192

// Bytes are put in front of p. What is written lies in [p, end).
struct writer {
    char *base, *p, *end;
    char *heap; // NULL while the stack's buffer does
    int err;
};

static bool grow(struct writer *w, size_t n)
{
    if (w->err)
        return false;
    size_t used = (size_t)(w->end - w->p), cap = (size_t)(w->end - w->base);
    while (cap < used + n)
        cap *= 2;
    char *base = malloc(cap);
    if (!base) {
        w->err = KL_ENOMEM;
        return false;
    }
    memcpy(base + cap - used, w->p, used);
    free(w->heap);
    w->heap = base;
    w->base = base;
    w->end = base + cap;
    w->p = w->end - used;
    return true;
}

static inline bool need(struct writer *w, size_t n)
{
    return (size_t)(w->p - w->base) >= n || grow(w, n);
}

static inline size_t written(const struct writer *w)
{
    return (size_t)(w->end - w->p);
}

static inline void put_varint(struct writer *w, uint64_t v)
{
    if (!need(w, 10))
        return;
    if (v < 0x80) {
        *--w->p = (char)v;
        return;
    }
    size_t n = (70 - (size_t)__builtin_clzll(v)) / 7;
    char *p = w->p -= n;
    for (; v >= 0x80; v >>= 7)
        *p++ = (char)(v | 0x80);
    *p = (char)v;
}

static inline void put_tag(struct writer *w, unsigned number, unsigned wire)
{
    put_varint(w, number << 3 | wire);
}

static inline void put_text(struct writer *w, struct kl_str s)
{
    if (!need(w, s.n + 10))
        return;
    w->p -= s.n;
    if (s.n)
        memcpy(w->p, s.p, s.n);
    put_varint(w, s.n);
}

static void put_message(struct writer *w, const struct kl_type *t, const struct kl_value *v);

static inline void put_sized(struct writer *w, const struct kl_type *t, const struct kl_value *v)
{
    size_t before = written(w);
    put_message(w, t, v);
    put_varint(w, written(w) - before);
}

static void put_double(struct writer *w, const struct kl_value *v)
{
    double d = !v ? 0 : v->kind == KL_FLOAT ? v->d : (double)kl_int_or(v, 0);
    uint64_t bits;
    memcpy(&bits, &d, sizeof(bits));
    if (!need(w, 8))
        return;
    w->p -= 8;
    for (int i = 0; i < 8; i++)
        w->p[i] = (char)(bits >> (8 * i));
}

// One value with its tag. NULL is the zero value.
static void put_one(struct writer *w, unsigned number, uint8_t pb_type, const struct kl_type *t,
                    const struct kl_value *v)
{
    switch (pb_type) {
    case KL_PB_STRING:
    case KL_PB_BYTES:
        put_text(w, kl_text(v));
        put_tag(w, number, KL_WIRE_BYTES);
        break;
    case KL_PB_MESSAGE:
        put_sized(w, t, v);
        put_tag(w, number, KL_WIRE_BYTES);
        break;
    case KL_PB_BOOL:
        put_varint(w, kl_is_true(v));
        put_tag(w, number, KL_WIRE_VARINT);
        break;
    case KL_PB_DOUBLE:
        put_double(w, v);
        put_tag(w, number, KL_WIRE_FIXED64);
        break;
    default:
        put_varint(w, (uint64_t)kl_int_or(v, 0));
        put_tag(w, number, KL_WIRE_VARINT);
        break;
    }
}

static void put_map(struct writer *w, unsigned number, const struct kl_type *elem,
                    const struct kl_value *v)
{
    uint8_t pb_type = kl_pb_type_of(elem);
    for (size_t i = v->n; i-- > 0;) {
        const struct kl_value *entry = &v->items[2 * i];
        size_t before = written(w);
        put_one(w, 2, pb_type, elem, entry + 1);
        put_one(w, 1, KL_PB_STRING, NULL, entry);
        put_varint(w, written(w) - before);
        put_tag(w, number, KL_WIRE_BYTES);
    }
}

static void put_list(struct writer *w, unsigned number, uint8_t pb_type, const struct kl_type *elem,
                     const struct kl_value *v)
{
    for (size_t i = v->n; i-- > 0;)
        put_one(w, number, pb_type, elem, &v->items[i]);
}

static inline void put_field(struct writer *w, const struct kl_field *f, const struct kl_value *v)
{
    if (f->flags & KL_FIELD_PB_REPEATED) {
        if (kl_is(v, KL_ARRAY))
            put_list(w, f->pb, f->pb_type, f->type->elem, v);
    } else if (f->pb_type == KL_PB_MAP) {
        if (kl_is(v, KL_MAP))
            put_map(w, f->pb, f->type->elem, v);
    } else if (v || !((f->flags & KL_FIELD_PTR) || f->pb_type == KL_PB_BYTES)) {
        put_one(w, f->pb, f->pb_type, f->type, v);
    }
}

// Where each field's member stands: index + 1, 0 when absent.
struct members {
    const struct kl_value *items;
    uint8_t at[KL_PB_MAX_FIELDS];
};

static void find_members(const struct kl_type *t, const struct kl_value *v, struct members *m)
{
    memset(m->at, 0, sizeof(m->at));
    m->items = NULL;
    if (!kl_is(v, KL_STRUCT))
        return;
    m->items = v->items;
    size_t at = 0;
    for (size_t i = 0; i < v->n && i < KL_PB_MAX_FIELDS; i++) {
        if (v->items[i].kind == KL_NULL)
            continue;
        uint32_t sym = v->items[i].sym;
        size_t j = at;
        while (j < t->nfields && t->fields[j].sym != sym)
            j++;
        if (j < t->nfields) {
            m->at[j] = (uint8_t)(i + 1);
            at = j + 1;
            continue;
        }
        const struct kl_field *f = kl_type_field(t, sym); // not in order: a draft
        if (f)
            m->at[f - t->fields] = (uint8_t)(i + 1);
    }
}

// The fields at by_pb[lo, hi), which share the nested messages above this depth.
static void put_range(struct writer *w, const struct kl_type *t, const struct members *m, size_t lo,
                      size_t hi, unsigned depth)
{
    while (hi > lo) {
        unsigned index = t->by_pb[hi - 1];
        const struct kl_field *f = &t->fields[index];
        if (kl_pb_is_nested(f, depth)) {
            size_t first = hi - 1, before = written(w);
            unsigned number = f->pb_in[depth];
            while (first > lo && t->fields[t->by_pb[first - 1]].pb_in[depth] == number)
                first--;
            put_range(w, t, m, first, hi, depth + 1);
            put_varint(w, written(w) - before);
            put_tag(w, number, KL_WIRE_BYTES);
            hi = first;
            continue;
        }
        hi--;
        if (f->pb) {
            unsigned at = m->at[index];
            put_field(w, f, at ? &m->items[at - 1] : NULL);
        }
    }
}

static void put_struct(struct writer *w, const struct kl_type *t, const struct kl_value *v)
{
    struct members m;
    if (t->nfields > KL_PB_MAX_FIELDS) {
        w->err = KL_EINTERNAL;
        return;
    }
    find_members(t, v, &m);
    put_range(w, t, &m, 0, t->nfields, 0);
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

// Timestamp{seconds, nanos}; nothing at all for a time that is not set.
static void put_time(struct writer *w, const struct kl_value *v, bool micro)
{
    int64_t us = kl_is(v, KL_TIME) ? v->i : KL_TIME_ZERO_US;
    if (us == KL_TIME_ZERO_US)
        return;
    int64_t seconds = floor_div(us, 1000000);
    put_varint(w, micro ? (uint64_t)(us - seconds * 1000000) * 1000 : 0);
    put_tag(w, 2, KL_WIRE_VARINT);
    put_varint(w, (uint64_t)seconds);
    put_tag(w, 1, KL_WIRE_VARINT);
}

static void put_int_or_string(struct writer *w, const struct kl_value *v)
{
    put_one(w, 3, KL_PB_STRING, NULL, kl_is(v, KL_STRING) ? v : NULL);
    put_one(w, 2, KL_PB_INT32, NULL, kl_is(v, KL_INT) ? v : NULL);
    put_varint(w, kl_is(v, KL_STRING));
    put_tag(w, 1, KL_WIRE_VARINT);
}

static void put_quantity(struct writer *w, const struct kl_value *v)
{
    put_text(w, kl_text(v).n ? kl_text(v) : KL_STR("0"));
    put_tag(w, 1, KL_WIRE_BYTES);
}

// runtime.Unknown with the JSON text of the embedded object.
static void put_unknown(struct writer *w, const struct kl_value *v)
{
    bool set = kl_is(v, KL_RAW);
    put_text(w, set ? KL_STR("application/json") : KL_STR(""));
    put_tag(w, 4, KL_WIRE_BYTES);
    put_text(w, KL_STR(""));
    put_tag(w, 3, KL_WIRE_BYTES);
    if (set)
        put_one(w, 2, KL_PB_BYTES, NULL, v);
    put_text(w, KL_STR("\x0a\x00\x12\x00")); // an empty TypeMeta
    put_tag(w, 1, KL_WIRE_BYTES);
}

static void put_message(struct writer *w, const struct kl_type *t, const struct kl_value *v)
{
    switch (t->kind) {
    case KL_T_STRUCT:
        put_struct(w, t, v);
        break;
    case KL_T_ARRAY: // a named list (ExtraValue, Verbs)
        if (kl_is(v, KL_ARRAY))
            put_list(w, 1, kl_pb_type_of(t->elem), t->elem, v);
        break;
    case KL_T_QUANTITY:
        put_quantity(w, v);
        break;
    case KL_T_INT_OR_STRING:
        put_int_or_string(w, v);
        break;
    case KL_T_TIME:
    case KL_T_MICROTIME:
        put_time(w, v, t->kind == KL_T_MICROTIME);
        break;
    case KL_T_DURATION:
        put_one(w, 1, KL_PB_INT64, NULL, v);
        break;
    case KL_T_RAW_EXTENSION:
    case KL_T_FIELDS_V1:
    case KL_T_JSON:
        if (kl_is(v, KL_RAW))
            put_one(w, 1, KL_PB_BYTES, NULL, v);
        break;
    case KL_T_UNKNOWN:
        put_unknown(w, v);
        break;
    case KL_T_SCHEMA_OR_ARRAY:
        if (kl_is(v, KL_ARRAY))
            put_list(w, 2, KL_PB_MESSAGE, t->elem, v);
        else if (kl_is(v, KL_STRUCT))
            put_one(w, 1, KL_PB_MESSAGE, t->elem, v);
        break;
    case KL_T_SCHEMA_OR_BOOL:
        if (kl_is(v, KL_STRUCT))
            put_one(w, 2, KL_PB_MESSAGE, t->elem, v);
        put_varint(w, kl_is(v, KL_STRUCT) || kl_is_true(v));
        put_tag(w, 1, KL_WIRE_VARINT);
        break;
    case KL_T_SCHEMA_OR_STRINGS:
        if (kl_is(v, KL_ARRAY))
            put_list(w, 2, KL_PB_STRING, NULL, v);
        else if (kl_is(v, KL_STRUCT))
            put_one(w, 1, KL_PB_MESSAGE, t->elem, v);
        break;
    default:
        break;
    }
}

static void begin(struct writer *w, char *stack)
{
    *w = (struct writer){.base = stack, .p = stack + STACK_BYTES, .end = stack + STACK_BYTES};
}

static void finish(struct writer *w, struct kl_buf *out)
{
    if (w->err && !out->err)
        out->err = w->err;
    kl_buf_append(out, w->p, written(w));
    free(w->heap);
}

void kl_pb_encode(struct kl_buf *out, const struct kl_type *type, const struct kl_value *v)
{
    char stack[STACK_BYTES];
    struct writer w;
    begin(&w, stack);
    put_message(&w, type, v);
    finish(&w, out);
}

size_t kl_pb_size(const struct kl_type *type, const struct kl_value *v)
{
    char stack[STACK_BYTES];
    struct writer w;
    begin(&w, stack);
    put_message(&w, type, v);
    free(w.heap);
    return written(&w);
}

void kl_pb_encode_object(struct kl_buf *out, struct kl_str api_version, struct kl_str kind,
                         const struct kl_type *type, const struct kl_value *v)
{
    char stack[STACK_BYTES];
    struct writer w;
    begin(&w, stack);
    if (need(&w, 4)) {
        w.p -= 4;
        memcpy(w.p, "\x1a\x00\x22\x00", 4); // contentEncoding and contentType, empty
    }
    put_sized(&w, type, v);
    put_tag(&w, 2, KL_WIRE_BYTES);
    size_t before = written(&w);
    put_text(&w, kind);
    put_tag(&w, 2, KL_WIRE_BYTES);
    put_text(&w, api_version);
    put_tag(&w, 1, KL_WIRE_BYTES);
    put_varint(&w, written(&w) - before);
    put_tag(&w, 1, KL_WIRE_BYTES);
    if (need(&w, KL_PB_MAGIC_BYTES)) {
        w.p -= KL_PB_MAGIC_BYTES;
        memcpy(w.p, "k8s", KL_PB_MAGIC_BYTES);
    }
    finish(&w, out);
}
