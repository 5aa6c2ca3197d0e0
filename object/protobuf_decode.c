// SPDX-License-Identifier: Apache-2.0
// Decoding fills one slot per field of the type, whatever order the bytes come in, and then lays
// the slots that are set out in schema order: the draft needs no sorting afterwards.
#include "object/protobuf.h"
#include "object/protobuf_decode_int.h"

// A struct being decoded. Bit i of `seen` says that slot[i] is set.
struct frame {
    const struct kl_type *type;
    uint64_t seen, unsorted;
    struct kl_value slot[KL_PB_MAX_FIELDS];
    uint32_t cap[KL_PB_MAX_FIELDS]; // elements that a list's or map's items have room for
};

static int decode_message(struct kl_pb_decoder *d, const struct kl_type *t, struct kl_str data,
                          struct kl_value *io);

static int bad_wire(struct kl_pb_decoder *d, const struct kl_field *f, unsigned wire)
{
    char name[80];
    struct kl_str sym = kl_sym_name(f->sym);
    size_t n = sym.n < sizeof(name) - 1 ? sym.n : sizeof(name) - 1;
    memcpy(name, sym.p, n);
    name[n] = 0;
    if (n && name[0] >= 'a' && name[0] <= 'z')
        name[0] = (char)(name[0] - 'a' + 'A'); // Go's name, mostly
    if (f->type == kl_type(KL_TYPE_meta_v1_ObjectMeta))
        return kl_pb_bad_wire(wire, "ObjectMeta", d->err); // embedded
    if (f->type == kl_type(KL_TYPE_meta_v1_ListMeta))
        return kl_pb_bad_wire(wire, "ListMeta", d->err);
    return kl_pb_bad_wire(wire, name, d->err);
}

static unsigned wire_of(uint8_t pb_type)
{
    switch (pb_type) {
    case KL_PB_STRING:
    case KL_PB_BYTES:
    case KL_PB_MESSAGE:
    case KL_PB_MAP:
        return KL_WIRE_BYTES;
    case KL_PB_DOUBLE:
        return KL_WIRE_FIXED64;
    default:
        return KL_WIRE_VARINT;
    }
}

static int read_double(struct kl_pb_decoder *d, struct kl_pb_cursor *c, struct kl_value *ret)
{
    if (c->end - c->p < 8)
        return kl_pb_eof(d->err);
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++)
        bits |= (uint64_t)(uint8_t)c->p[i] << (8 * i);
    c->p += 8;
    double v;
    memcpy(&v, &bits, sizeof(v));
    *ret = kl_float(v);
    return 0;
}

// One value behind its tag. For messages *io is what came before (KL_NULL: nothing) and is merged.
static inline int read_one(struct kl_pb_decoder *d, uint8_t pb_type, const struct kl_type *t,
                           struct kl_pb_cursor *c, struct kl_value *io)
{
    struct kl_str s = {NULL, 0};
    uint64_t v = 0;
    int rc;
    switch (pb_type) {
    case KL_PB_STRING:
    case KL_PB_BYTES:
        rc = kl_pb_bytes(c, &s, d->err);
        if (rc == 0) {
            *io = kl_string(s);
            io->kind = pb_type == KL_PB_STRING ? KL_STRING : KL_BYTES;
        }
        return rc;
    case KL_PB_MESSAGE:
        rc = kl_pb_bytes(c, &s, d->err);
        return rc < 0 ? rc : decode_message(d, t, s, io);
    case KL_PB_DOUBLE:
        return read_double(d, c, io);
    default:
        rc = kl_pb_varint(c, &v, d->err);
        if (rc < 0)
            return rc;
        if (pb_type == KL_PB_BOOL)
            *io = kl_bool(v != 0);
        else
            *io = kl_int(pb_type == KL_PB_INT32 ? (int32_t)(uint32_t)v : (int64_t)v);
        return 0;
    }
}

// How many values of the same field follow one another from here on, the one at the cursor
// included.
static uint32_t count_run(struct kl_pb_cursor c, const char *tag, size_t tag_bytes)
{
    uint32_t n = 0;
    struct kl_str s;
    do {
        n++;
        if (kl_pb_bytes(&c, &s, NULL) < 0 || (size_t)(c.end - c.p) < tag_bytes ||
            memcmp(c.p, tag, tag_bytes) != 0)
            break;
        c.p += tag_bytes;
    } while (n < UINT32_MAX / 4);
    return n;
}

// Makes room for one more element of `width` values.
static int make_room(struct kl_pb_decoder *d, struct kl_value *list, uint32_t *cap, uint32_t want,
                     uint32_t width)
{
    if (list->n < *cap)
        return 0;
    uint32_t grown = list->n ? 2 * *cap : want;
    grown = grown > list->n ? grown : list->n + 1;
    if (grown > UINT32_MAX / 4)
        return kl_pb_no_memory(d);
    struct kl_value *items = kl_arena_alloc(d->arena, (size_t)grown * width * sizeof(*items));
    if (!items)
        return kl_pb_no_memory(d);
    if (list->n)
        memcpy(items, list->items, (size_t)list->n * width * sizeof(*items));
    list->items = items;
    *cap = grown;
    return 0;
}

static int read_item(struct kl_pb_decoder *d, const struct kl_field *f, struct kl_pb_cursor *c,
                     struct kl_value *list, uint32_t *cap, uint32_t want)
{
    int rc = make_room(d, list, cap, want, 1);
    if (rc < 0)
        return rc;
    struct kl_value item = kl_null();
    rc = read_one(d, f->pb_type, f->type->elem, c, &item);
    if (rc == 0)
        list->items[list->n++] = item;
    return rc;
}

static int read_packed(struct kl_pb_decoder *d, const struct kl_field *f, struct kl_str data,
                       struct kl_value *list, uint32_t *cap)
{
    struct kl_pb_cursor c = {data.p, data.p + data.n};
    while (c.p < c.end) {
        int rc = read_item(d, f, &c, list, cap, 4);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static struct kl_value zero_of(const struct kl_type *t)
{
    switch (t->kind) {
    case KL_T_STRING:
        return kl_string(KL_STR(""));
    case KL_T_BYTES:
        return (struct kl_value){.kind = KL_BYTES, .s = ""};
    case KL_T_STRUCT:
        return kl_new_struct();
    case KL_T_ARRAY:
        return kl_new_array();
    case KL_T_BOOLEAN:
        return kl_bool(false);
    case KL_T_INTEGER:
        return kl_int(0);
    case KL_T_QUANTITY:
        return kl_string(KL_STR("0"));
    default:
        return kl_null();
    }
}

// An entry {key = 1, value = 2} of a map in a message of type t.
static int read_entry(struct kl_pb_decoder *d, const struct kl_type *t, const struct kl_type *elem,
                      struct kl_str data, struct kl_value entry[2])
{
    struct kl_pb_cursor c = {data.p, data.p + data.n};
    uint8_t pb_type = kl_pb_type_of(elem);
    entry[0] = kl_string(KL_STR(""));
    entry[1] = zero_of(elem);
    while (c.p < c.end) {
        struct kl_pb_tag tag = {0};
        int rc = kl_pb_tag(&c, &tag, d->err);
        if (rc < 0)
            return rc;
        if (kl_pb_tag_is_bad(&tag))
            return kl_pb_bad_tag(tag.key, kl_pb_type_name(t), d->err);
        if (tag.number == 1 && tag.wire == KL_WIRE_BYTES) {
            rc = read_one(d, KL_PB_STRING, NULL, &c, &entry[0]);
        } else if (tag.number == 2 && tag.wire == wire_of(pb_type)) {
            entry[1] = zero_of(elem);
            rc = read_one(d, pb_type, elem, &c, &entry[1]);
        } else if (tag.number <= 2) {
            rc = kl_pb_bad_wire(tag.wire, tag.number == 1 ? "Key" : "Value", d->err);
        } else {
            rc = kl_pb_skip(&c, tag.wire, d->err);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_map(struct kl_pb_decoder *d, struct frame *fr, unsigned index, struct kl_str data,
                    uint32_t want)
{
    const struct kl_field *f = &fr->type->fields[index];
    struct kl_value *map = &fr->slot[index];
    int rc = make_room(d, map, &fr->cap[index], want, 2);
    if (rc < 0)
        return rc;
    struct kl_value *entry = &map->items[2 * (size_t)map->n];
    rc = read_entry(d, fr->type, f->type->elem, data, entry);
    if (rc < 0)
        return rc;
    if (map->n && kl_str_cmp(kl_text(entry - 2), kl_text(entry)) >= 0)
        fr->unsorted |= UINT64_C(1) << index;
    map->n++;
    return 0;
}

// Whether canonical form has a member of this value.
static inline bool keeps(const struct kl_field *f, const struct kl_value *v)
{
    if (v->kind == KL_NULL)
        return false;
    if (f->flags & KL_FIELD_PTR)
        return true;
    switch (v->kind) {
    case KL_BOOL:
        return v->b;
    case KL_INT:
        return v->i != 0;
    case KL_FLOAT:
        return v->d != 0;
    case KL_STRING:
        if (f->type->kind == KL_T_QUANTITY)
            return v->n != 1 || v->s[0] != '0';
        return v->n != 0 || f->type->kind == KL_T_INT_OR_STRING;
    case KL_BYTES:
        return v->n != 0 || (f->flags & KL_FIELD_EMIT_ALWAYS);
    case KL_TIME:
        return true;
    default:
        return v->n != 0;
    }
}

// A list's or map's first value: an empty container in the slot.
static uint32_t open_container(struct frame *fr, unsigned index, enum kl_value_kind kind)
{
    if (fr->seen >> index & 1)
        return 4;
    fr->slot[index] = (struct kl_value){.kind = (uint32_t)kind};
    fr->cap[index] = 0;
    fr->seen |= UINT64_C(1) << index;
    return 0;
}

static int read_field(struct kl_pb_decoder *d, struct frame *fr, unsigned index, unsigned wire,
                      struct kl_pb_cursor *c, const char *tag)
{
    const struct kl_field *f = &fr->type->fields[index];
    struct kl_value *slot = &fr->slot[index];
    size_t tag_bytes = (size_t)(c->p - tag);
    struct kl_str data = {NULL, 0};
    if (f->flags & KL_FIELD_PB_REPEATED) {
        bool packed = wire == KL_WIRE_BYTES && wire_of(f->pb_type) != KL_WIRE_BYTES;
        if (wire != wire_of(f->pb_type) && !packed)
            return bad_wire(d, f, wire);
        uint32_t want = open_container(fr, index, KL_ARRAY);
        if (packed) {
            int rc = kl_pb_bytes(c, &data, d->err);
            return rc < 0 ? rc : read_packed(d, f, data, slot, &fr->cap[index]);
        }
        if (!want)
            want = wire == KL_WIRE_BYTES ? count_run(*c, tag, tag_bytes) : 4;
        return read_item(d, f, c, slot, &fr->cap[index], want);
    }
    if (wire != wire_of(f->pb_type))
        return bad_wire(d, f, wire);
    if (f->pb_type == KL_PB_MAP) {
        uint32_t want = open_container(fr, index, KL_MAP);
        if (!want)
            want = count_run(*c, tag, tag_bytes);
        int rc = kl_pb_bytes(c, &data, d->err);
        return rc < 0 ? rc : read_map(d, fr, index, data, want);
    }
    if (!(fr->seen >> index & 1))
        *slot = kl_null();
    int rc = read_one(d, f->pb_type, f->type, c, slot);
    if (rc < 0)
        return rc;
    if (keeps(f, slot))
        fr->seen |= UINT64_C(1) << index;
    else
        fr->seen &= ~(UINT64_C(1) << index);
    return 0;
}

// Position in by_pb[lo, hi) of the number at this depth, looked for from `from` on: fields mostly
// come in rising order. hi when the type has no such field.
static inline size_t find_field(const struct kl_type *t, size_t lo, size_t hi, unsigned depth,
                                size_t from, uint32_t number)
{
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = pass ? lo : from; i < hi; i++) {
            unsigned at = kl_pb_number(&t->fields[t->by_pb[i]], depth);
            if (at == number)
                return i;
            if (at > number || at == 0)
                break;
        }
        if (from == lo)
            break;
    }
    return hi;
}

// The fields at by_pb[lo, hi), which share the nested messages above this depth.
static int read_range(struct kl_pb_decoder *d, struct frame *fr, size_t lo, size_t hi,
                      unsigned depth, struct kl_pb_cursor c)
{
    const struct kl_type *t = fr->type;
    size_t at = lo;
    while (c.p < c.end) {
        const char *start = c.p;
        struct kl_pb_tag tag = {0};
        int rc = kl_pb_tag(&c, &tag, d->err);
        if (rc < 0)
            return rc;
        if (kl_pb_tag_is_bad(&tag))
            return kl_pb_bad_tag(tag.key, kl_pb_type_name(t), d->err);
        size_t i = find_field(t, lo, hi, depth, at, tag.number);
        if (i == hi) {
            rc = kl_pb_skip(&c, tag.wire, d->err);
            if (rc < 0)
                return rc;
            continue;
        }
        at = i;
        const struct kl_field *f = &t->fields[t->by_pb[i]];
        if (!kl_pb_is_nested(f, depth)) {
            rc = read_field(d, fr, t->by_pb[i], tag.wire, &c, start);
        } else if (tag.wire != KL_WIRE_BYTES) {
            rc = bad_wire(d, f, tag.wire);
        } else {
            size_t last = i + 1;
            while (last < hi && t->fields[t->by_pb[last]].pb_in[depth] == tag.number)
                last++;
            struct kl_str inner = {NULL, 0};
            rc = kl_pb_bytes(&c, &inner, d->err);
            if (rc == 0)
                rc = read_range(d, fr, i, last, depth + 1,
                                (struct kl_pb_cursor){inner.p, inner.p + inner.n});
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

// What an earlier occurrence of the same message gave.
static void load_members(struct frame *fr, const struct kl_value *v)
{
    for (size_t i = 0; i < v->n; i++) {
        const struct kl_field *f = kl_type_field(fr->type, v->items[i].sym);
        if (!f)
            continue;
        size_t index = (size_t)(f - fr->type->fields);
        fr->slot[index] = v->items[i];
        fr->cap[index] = v->items[i].n;
        fr->seen |= UINT64_C(1) << index;
    }
}

static int lay_out(struct kl_pb_decoder *d, struct frame *fr, struct kl_value *ret)
{
    uint32_t n = (uint32_t)__builtin_popcountll(fr->seen);
    struct kl_value *items = NULL;
    if (n) {
        items = kl_arena_alloc(d->arena, n * sizeof(*items));
        if (!items)
            return kl_pb_no_memory(d);
    }
    size_t k = 0;
    for (uint64_t left = fr->seen; left; left &= left - 1) {
        unsigned index = (unsigned)__builtin_ctzll(left);
        if (fr->unsorted >> index & 1) {
            int rc = kl_pb_sort_map(d, &fr->slot[index]);
            if (rc < 0)
                return rc;
        }
        items[k] = fr->slot[index];
        items[k++].sym = fr->type->fields[index].sym & 0xffffff;
    }
    *ret = (struct kl_value){.kind = KL_STRUCT, .n = n, .items = items};
    return 0;
}

static int read_struct(struct kl_pb_decoder *d, const struct kl_type *t, struct kl_str data,
                       struct kl_value *io)
{
    struct frame fr;
    if (t->nfields > KL_PB_MAX_FIELDS)
        return kl_error_set(d->err, KL_EINTERNAL, "%s has too many fields", t->name);
    fr.type = t;
    fr.seen = fr.unsorted = 0;
    if (io->kind == KL_STRUCT && io->n)
        load_members(&fr, io);
    int rc = read_range(d, &fr, 0, t->nfields, 0, (struct kl_pb_cursor){data.p, data.p + data.n});
    return rc < 0 ? rc : lay_out(d, &fr, io);
}

// Upstream's decoder of a list type's own message, and of the three "schema or" types: field 2 (a
// named list: field 1) repeats, field 1 of a "schema or" is one schema or a bool's value.
static int read_list(struct kl_pb_decoder *d, const struct kl_type *t, uint32_t number,
                     uint8_t pb_type, struct kl_str data, struct kl_value *io,
                     struct kl_value *single)
{
    struct kl_pb_cursor c = {data.p, data.p + data.n};
    struct kl_value list = io->kind == KL_ARRAY ? *io : kl_new_array();
    uint32_t cap = list.n;
    while (c.p < c.end) {
        const char *start = c.p;
        struct kl_pb_tag tag = {0};
        int rc = kl_pb_tag(&c, &tag, d->err);
        if (rc < 0)
            return rc;
        if (kl_pb_tag_is_bad(&tag))
            return kl_pb_bad_tag(tag.key, kl_pb_type_name(t), d->err);
        bool item = tag.number == number, one = single && tag.number == 1;
        if ((item || one) && tag.wire != KL_WIRE_BYTES) {
            rc = kl_pb_bad_wire(tag.wire, item ? "Items" : "Schema", d->err);
        } else if (item) {
            struct kl_value v = kl_null();
            uint32_t want = list.n ? 4 : count_run(c, start, (size_t)(c.p - start));
            rc = make_room(d, &list, &cap, want, 1);
            if (rc == 0)
                rc = read_one(d, pb_type, t->elem, &c, &v);
            if (rc == 0)
                list.items[list.n++] = v;
        } else if (one) {
            rc = read_one(d, KL_PB_MESSAGE, t->elem, &c, single);
        } else {
            rc = kl_pb_skip(&c, tag.wire, d->err);
        }
        if (rc < 0)
            return rc;
    }
    *io = list;
    return 0;
}

static int read_schema_or_list(struct kl_pb_decoder *d, const struct kl_type *t, struct kl_str data,
                               struct kl_value *io)
{
    struct kl_value list = kl_null(), schema = kl_null();
    uint8_t pb_type = t->kind == KL_T_SCHEMA_OR_ARRAY ? KL_PB_MESSAGE : KL_PB_STRING;
    int rc = read_list(d, t, 2, pb_type, data, &list, &schema);
    if (rc == 0)
        *io = list.n ? list : schema;
    return rc;
}

static int read_schema_or_bool(struct kl_pb_decoder *d, const struct kl_type *t, struct kl_str data,
                               struct kl_value *io)
{
    struct kl_pb_small m = {0};
    int rc = kl_pb_read_small(data, kl_pb_type_name(t),
                              KL_PB_SMALL_VARINT(1) | KL_PB_SMALL_BYTES(2), &m, d->err);
    if (rc < 0)
        return rc;
    *io = kl_bool(m.varint[1] != 0);
    if (!(m.seen & 1u << 2))
        return 0;
    *io = kl_null();
    return decode_message(d, t->elem, m.bytes[2], io);
}

static int read_by_kind(struct kl_pb_decoder *d, const struct kl_type *t, struct kl_str data,
                        struct kl_value *io)
{
    switch (t->kind) {
    case KL_T_STRUCT:
        return read_struct(d, t, data, io);
    case KL_T_ARRAY: // a named list (ExtraValue, Verbs)
        return read_list(d, t, 1, kl_pb_type_of(t->elem), data, io, NULL);
    case KL_T_SCHEMA_OR_ARRAY:
    case KL_T_SCHEMA_OR_STRINGS:
        return read_schema_or_list(d, t, data, io);
    case KL_T_SCHEMA_OR_BOOL:
        return read_schema_or_bool(d, t, data, io);
    default:
        return kl_pb_read_special(d, t, data, io);
    }
}

static int decode_message(struct kl_pb_decoder *d, const struct kl_type *t, struct kl_str data,
                          struct kl_value *io)
{
    if (++d->depth > KL_PB_MAX_DEPTH)
        return kl_error_set(d->err, KL_EBADREQUEST, "proto: messages nest too deeply");
    int rc = read_by_kind(d, t, data, io);
    d->depth--;
    return rc;
}

static int decode(struct kl_arena *a, const struct kl_type *type, struct kl_str data, bool trusted,
                  struct kl_value *ret, struct kl_error *err)
{
    struct kl_pb_decoder d = {.arena = a, .err = err, .trusted = trusted};
    struct kl_value v = kl_null();
    if (data.n > UINT32_MAX)
        return kl_error_set(err, KL_EBADREQUEST, "message too large");
    int rc = decode_message(&d, type, data, &v);
    if (rc == 0)
        *ret = v;
    return rc;
}

int kl_pb_decode(struct kl_arena *a, const struct kl_type *type, struct kl_str data,
                 struct kl_value *ret, struct kl_error *err)
{
    return decode(a, type, data, false, ret, err);
}

int kl_pb_decode_trusted(struct kl_arena *a, const struct kl_type *type, struct kl_str data,
                         struct kl_value *ret, struct kl_error *err)
{
    return decode(a, type, data, true, ret, err);
}
