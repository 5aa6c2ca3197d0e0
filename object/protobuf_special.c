// SPDX-License-Identifier: Apache-2.0
// Messages that are one value in a draft, and what else the decoder needs beside structs and lists.
#include "object/json.h"
#include "object/protobuf_decode_int.h"
#include "object/quantity.h"
#include "object/timestamp.h"

int kl_pb_no_memory(struct kl_pb_decoder *d)
{
    return kl_error_set(d->err, KL_ENOMEM, "out of memory");
}

const char *kl_pb_type_name(const struct kl_type *t)
{
    const char *dot = t->name ? strrchr(t->name, '.') : NULL;
    return dot ? dot + 1 : "message";
}

static int read_quantity(struct kl_pb_decoder *d, struct kl_str data, struct kl_value *io)
{
    struct kl_pb_small m = {0};
    int rc = kl_pb_read_small(data, "Quantity", KL_PB_SMALL_BYTES(1), &m, d->err);
    if (rc < 0)
        return rc;
    struct kl_str text = KL_STR("0");
    if (m.seen) {
        text = m.bytes[1];
        if (!d->trusted)
            rc = kl_quantity_normalize(d->arena, text, &text, d->err);
    }
    if (rc == 0)
        *io = kl_string(text);
    return rc;
}

static int read_int_or_string(struct kl_pb_decoder *d, struct kl_str data, struct kl_value *io)
{
    struct kl_pb_small m = {0};
    int rc = kl_pb_read_small(data, "IntOrString",
                              KL_PB_SMALL_VARINT(1) | KL_PB_SMALL_VARINT(2) | KL_PB_SMALL_BYTES(3),
                              &m, d->err);
    if (rc < 0)
        return rc;
    if (m.varint[1] == 0)
        *io = kl_int((int32_t)(uint32_t)m.varint[2]);
    else
        *io = kl_string(m.seen & 1u << 3 ? m.bytes[3] : KL_STR(""));
    return 0;
}

static int read_time(struct kl_pb_decoder *d, bool micro, struct kl_str data, struct kl_value *io)
{
    struct kl_pb_small m = {0};
    int64_t us;
    int rc = kl_pb_read_small(data, "Timestamp", KL_PB_SMALL_VARINT(1) | KL_PB_SMALL_VARINT(2), &m,
                              d->err);
    if (rc < 0)
        return rc;
    if (__builtin_mul_overflow((int64_t)m.varint[1], INT64_C(1000000), &us))
        return kl_error_set(d->err, KL_EBADREQUEST, "Timestamp: seconds out of range");
    int32_t nanos = micro ? (int32_t)(uint32_t)m.varint[2] : 0;
    if (__builtin_add_overflow(us, nanos / 1000, &us))
        return kl_error_set(d->err, KL_EBADREQUEST, "Timestamp: seconds out of range");
    *io = data.n == 0 || us == KL_TIME_ZERO_US ? kl_null() : kl_time(us);
    return 0;
}

static int read_duration(struct kl_pb_decoder *d, struct kl_str data, struct kl_value *io)
{
    struct kl_pb_small m = {0};
    int rc = kl_pb_read_small(data, "Duration", KL_PB_SMALL_VARINT(1), &m, d->err);
    if (rc == 0)
        *io = kl_int((int64_t)m.varint[1]);
    return rc;
}

// Embedded JSON: compact, or made so, when a client sent it.
static int check_json(struct kl_pb_decoder *d, const char *name, struct kl_str *text)
{
    struct kl_buf out;
    if (d->trusted)
        return 0;
    kl_buf_init(&out, text->n + 16);
    int rc = 0;
    if (!kl_json_compact(&out, *text)) {
        rc = kl_error_set(d->err, KL_EBADREQUEST, "%s: invalid JSON", name);
    } else if (out.err) {
        rc = kl_pb_no_memory(d);
    } else if (out.n != text->n) {
        *text = kl_arena_dup(d->arena, kl_buf_str(&out));
        if (!text->p)
            rc = kl_pb_no_memory(d);
    }
    kl_buf_fini(&out);
    return rc;
}

static int read_raw(struct kl_pb_decoder *d, const struct kl_type *t, unsigned number,
                    unsigned others, struct kl_str data, struct kl_value *io)
{
    struct kl_pb_small m = {0};
    int rc = kl_pb_read_small(data, "Raw", KL_PB_SMALL_BYTES(number) | others, &m, d->err);
    if (rc < 0)
        return rc;
    *io = kl_null();
    struct kl_str text = m.bytes[number];
    if (!(m.seen & 1u << number) || text.n == 0)
        return 0;
    rc = check_json(d, kl_pb_type_name(t), &text);
    if (rc == 0)
        *io = kl_raw_json(text);
    return rc;
}

int kl_pb_read_special(struct kl_pb_decoder *d, const struct kl_type *t, struct kl_str data,
                       struct kl_value *io)
{
    switch (t->kind) {
    case KL_T_QUANTITY:
        return read_quantity(d, data, io);
    case KL_T_INT_OR_STRING:
        return read_int_or_string(d, data, io);
    case KL_T_TIME:
    case KL_T_MICROTIME:
        return read_time(d, t->kind == KL_T_MICROTIME, data, io);
    case KL_T_DURATION:
        return read_duration(d, data, io);
    case KL_T_RAW_EXTENSION:
    case KL_T_FIELDS_V1:
    case KL_T_JSON:
        return read_raw(d, t, 1, 0, data, io);
    case KL_T_UNKNOWN:
        return read_raw(d, t, 2, KL_PB_SMALL_BYTES(1) | KL_PB_SMALL_BYTES(3) | KL_PB_SMALL_BYTES(4),
                        data, io);
    default:
        return kl_error_set(d->err, KL_EBADREQUEST, "%s has no protobuf form", kl_pb_type_name(t));
    }
}

// Merges the sorted runs from[lo, mid) and from[mid, hi) of entries, the earlier first among
// equals.
static void merge_runs(const struct kl_value *from, struct kl_value *to, size_t lo, size_t mid,
                       size_t hi)
{
    for (size_t i = lo, j = mid, k = lo; k < hi; k++) {
        bool left =
            j >= hi || (i < mid && kl_str_cmp(kl_text(&from[2 * i]), kl_text(&from[2 * j])) <= 0);
        memcpy(&to[2 * k], &from[2 * (left ? i++ : j++)], 2 * sizeof(*to));
    }
}

int kl_pb_sort_map(struct kl_pb_decoder *d, struct kl_value *map)
{
    size_t n = map->n;
    struct kl_value *from = map->items;
    struct kl_value *to = kl_arena_alloc(d->arena, 2 * n * sizeof(*to));
    if (!to)
        return kl_pb_no_memory(d);
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * run) {
            size_t mid = lo + run < n ? lo + run : n, hi = lo + 2 * run < n ? lo + 2 * run : n;
            merge_runs(from, to, lo, mid, hi);
        }
        struct kl_value *swap = from;
        from = to;
        to = swap;
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (i + 1 < n && kl_str_eq(kl_text(&from[2 * i]), kl_text(&from[2 * i + 2])))
            continue;
        memmove(&from[2 * kept++], &from[2 * i], 2 * sizeof(*from));
    }
    map->items = from;
    map->n = (uint32_t)kept;
    return 0;
}
