// SPDX-License-Identifier: Apache-2.0
// The JSON decoder: one loop over the text with a stack of open containers, guided by the schema.
// It does what upstream's decoder does for the Go type, in one pass; errors are worded afterwards.
//
// A container's members are gathered on a stack of values and copied to the arena, exactly sized,
// when it closes. Strings refer to the text.
#include "object/json_int.h"
#include "object/quantity.h"
#include "object/schema_int.h"
#include "object/timestamp.h"
#include <stdio.h>
#include <stdlib.h>

struct frame {
    const struct kl_type *type;   // of the container
    const struct kl_field *field; // struct: the member being read
    uint64_t seen;                // struct: the first 64 fields met
    uint32_t base;                // index of its first member on the stack of values
    uint16_t next;                // struct: the field expected next
    uint8_t kind;                 // KL_STRUCT, KL_MAP, KL_ARRAY
    bool lax;                     // upstream decodes what is inside without strict checks
    bool doubled;                 // struct: a member came twice
};

enum { FRAMES_FIRST = 24, VALUES_FIRST = 256 };

struct decoder {
    struct kl_arena *arena;
    const char *end;
    struct kl_strict *strict;
    struct kl_error *err; // message of `failed`
    int failed;           // first type error: kept while reading on
    int fatal;            // KL_ENOMEM, or an error that ends decoding
    struct frame *frames; // the innermost is frames[depth - 1]
    struct kl_value *values;
    size_t depth, frames_cap, top, values_cap;
    struct frame first_frames[FRAMES_FIRST];
    struct kl_value first_values[VALUES_FIRST];
};

static const struct kl_type any_type = {.kind = KL_T_ANY};
static const struct kl_type string_type = {.kind = KL_T_STRING};
static const struct kl_type int32_type = {.kind = KL_T_INTEGER, .format = KL_FMT_INT32};
static const struct kl_type uint8_type = {.kind = KL_T_INTEGER, .format = KL_FMT_BYTE};
static const struct kl_type float_type = {.kind = KL_T_NUMBER};
static const struct kl_type strings_type = {.kind = KL_T_ARRAY, .elem = &string_type};

// ---- the two stacks

static bool grow(void **stack, size_t *cap, size_t width, const void *first)
{
    void *p = *stack == first ? malloc(*cap * 2 * width) : realloc(*stack, *cap * 2 * width);
    if (!p)
        return false;
    if (*stack == first)
        memcpy(p, first, *cap * width);
    *stack = p;
    *cap *= 2;
    return true;
}

static bool grow_values(struct decoder *d)
{
    void *p = d->values;
    bool ok = d->values_cap < UINT32_MAX / 4 &&
              grow(&p, &d->values_cap, sizeof(*d->values), d->first_values);
    d->values = p;
    if (!ok)
        d->fatal = KL_ENOMEM;
    return ok;
}

static bool open_frame(struct decoder *d, const struct kl_type *t, enum kl_value_kind kind,
                       bool lax)
{
    if (d->depth == d->frames_cap) {
        void *p = d->frames;
        bool ok = grow(&p, &d->frames_cap, sizeof(*d->frames), d->first_frames);
        d->frames = p;
        if (!ok) {
            d->fatal = KL_ENOMEM;
            return false;
        }
    }
    d->frames[d->depth++] =
        (struct frame){.type = t, .base = (uint32_t)d->top, .kind = (uint8_t)kind, .lax = lax};
    return true;
}

// ---- errors

// Go's path: names of struct fields only. Strict messages also have keys and indexes.
static void put_path(struct decoder *d, struct kl_buf *out, size_t depth, bool strict)
{
    for (size_t i = 0; i < depth; i++) {
        const struct frame *fr = &d->frames[i];
        size_t child = i + 1 < d->depth ? d->frames[i + 1].base - 1 : d->top;
        if (fr->kind == KL_STRUCT && fr->field) {
            if (out->n)
                kl_buf_putc(out, '.');
            if (!strict)
                kl_buf_puts(out, kl_go_embedded_prefix(fr->type, fr->field));
            kl_buf_puts(out, kl_sym_name(fr->field->sym));
        } else if (strict && fr->kind == KL_MAP) {
            if (out->n)
                kl_buf_putc(out, '.');
            kl_buf_puts(out, kl_text(&d->values[child - 1]));
        } else if (strict && fr->kind == KL_ARRAY) {
            kl_buf_printf(out, "[%zu]", child - fr->base);
        }
    }
}

static void note_strict(struct decoder *d, const char *what, struct kl_str field)
{
    if (!d->strict || d->frames[d->depth - 1].lax || d->strict->n == KL_STRICT_MAX)
        return;
    struct kl_buf path;
    kl_buf_init(&path, 8 << 20);
    put_path(d, &path, d->depth - 1, true);
    if (path.n)
        kl_buf_putc(&path, '.');
    kl_buf_puts(&path, field);
    if (path.err || kl_strict_add(d->arena, d->strict, what, kl_buf_str(&path)))
        d->fatal = KL_ENOMEM;
    kl_buf_fini(&path);
}

// The type's name in Go: named strings and the like are known per field only.
static void put_target(struct decoder *d, struct kl_buf *out, const struct kl_type *t)
{
    size_t i = d->depth;
    while (i > 0 && d->frames[i - 1].kind != KL_STRUCT)
        i--;
    if (i == 0 || !d->frames[i - 1].field) {
        kl_go_type_name(out, t);
        return;
    }
    const struct kl_field *f = d->frames[i - 1].field;
    size_t levels = d->depth - i; // arrays and maps between the field and the value
    const struct kl_type *at = f->type;
    for (size_t k = 0; k < levels && at; k++)
        at = at->elem;
    if (at != t) {
        kl_go_type_name(out, t);
        return;
    }
    struct kl_buf whole;
    kl_buf_init(&whole, 4096);
    kl_go_field_type_name(&whole, d->frames[i - 1].type, f);
    struct kl_str name = kl_buf_str(&whole);
    bool exact = true;
    for (at = f->type; levels > 0; levels--, at = at->elem) {
        struct kl_str step = at->kind == KL_T_ARRAY ? KL_STR("[]") : KL_STR("map[string]");
        exact &= kl_str_starts(name, step);
        name = kl_str_from(name, step.n);
    }
    if (exact)
        kl_buf_puts(out, name);
    else
        kl_go_type_name(out, t);
    kl_buf_fini(&whole);
}

static void put_type_error(struct decoder *d, struct kl_buf *out, const char *value,
                           struct kl_str number, const struct kl_type *t)
{
    const struct frame *owner = NULL;
    for (size_t i = d->depth; i > 0 && !owner; i--)
        if (d->frames[i - 1].kind == KL_STRUCT)
            owner = &d->frames[i - 1];
    kl_buf_printf(out, "json: cannot unmarshal %s", value);
    if (number.n)
        kl_buf_printf(out, " %.*s", KL_PRI(number));
    if (owner) {
        kl_buf_puts(out, KL_STR(" into Go struct field "));
        struct kl_str name = owner->type->name ? kl_str(owner->type->name) : KL_STR("");
        for (size_t i = name.n; i > 0; i--)
            if (name.p[i - 1] == '.') {
                name = kl_str_from(name, i);
                break;
            }
        kl_buf_puts(out, name);
        kl_buf_putc(out, '.');
        struct kl_buf path;
        kl_buf_init(&path, 1 << 20);
        put_path(d, &path, d->depth, false);
        kl_buf_puts(out, kl_buf_str(&path));
        kl_buf_fini(&path);
    } else {
        kl_buf_puts(out, KL_STR(" into Go value"));
    }
    kl_buf_puts(out, KL_STR(" of type "));
    put_target(d, out, t);
}

static void set_failed(struct decoder *d, const char *message, size_t n)
{
    d->failed = kl_error_set(d->err, KL_EBADREQUEST, "%.*s", (int)(n > 2000 ? 2000 : n), message);
}

// A value that the Go type cannot take. Only the first is reported, and reading goes on, for a
// syntax error further on comes first; what types with a decoder of their own refuse is final.
static void fail_type(struct decoder *d, const char *value, struct kl_str number,
                      const struct kl_type *t, bool final)
{
    if (d->failed && !final)
        return;
    struct kl_buf text;
    kl_buf_init(&text, 1 << 20);
    put_type_error(d, &text, value, number, t);
    set_failed(d, text.p ? text.p : "", text.n);
    kl_buf_fini(&text);
    if (final)
        d->fatal = d->failed;
}

static void fail_final(struct decoder *d, const struct kl_error *e)
{
    set_failed(d, e->msg, strlen(e->msg));
    d->fatal = d->failed;
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

// ---- scalars. Each reads at p and answers where the value ends; NULL on a syntax error.

// The string at p (its opening quote).
static const char *read_string(struct decoder *d, const char *p, struct kl_str *ret)
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

static const char *read_integer(struct decoder *d, const char *p, const struct kl_type *t,
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
        fail_type(d, "number", (struct kl_str){from, (size_t)(p - from)}, t, final);
    v->kind = KL_INT;
    v->i = i;
    return p;
}

static const char *read_number(struct decoder *d, const char *p, bool float_only,
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
        fail_type(d, "number", text, &float_type, false);
    return p;
}

static const char *read_literal(struct decoder *d, const char *p, const char *word, size_t n)
{
    return (size_t)(d->end - p) >= n && memcmp(p, word, n) == 0 ? p + n : NULL;
}

static const char *read_bool(struct decoder *d, const char *p, struct kl_value *v)
{
    v->kind = KL_BOOL;
    v->b = *p == 't';
    return v->b ? read_literal(d, p, "true", 4) : read_literal(d, p, "false", 5);
}

// Passes over a value that is not kept.
static const char *read_over(struct decoder *d, const char *p, unsigned *flags)
{
    return kl_json_skip(p, d->end, d->depth, flags);
}

static const char *mismatch(struct decoder *d, const char *p, const struct kl_type *t, bool final)
{
    fail_type(d, token_name(*p), KL_STR(""), t, final);
    unsigned flags = 0;
    return read_over(d, p, &flags);
}

// A value kept as compact text.
static const char *read_raw(struct decoder *d, const char *p, struct kl_value *v)
{
    unsigned flags = 0;
    const char *from = p;
    p = read_over(d, p, &flags);
    if (!p)
        return NULL;
    struct kl_str text = {from, (size_t)(p - from)};
    if (flags & KL_JSON_SPACED) {
        struct kl_buf compact;
        kl_buf_init(&compact, text.n + 1);
        kl_json_put_compact(&compact, text, false);
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
static const char *read_quantity(struct decoder *d, const char *p, struct kl_value *v)
{
    unsigned flags = 0;
    const char *from = p;
    p = read_over(d, p, &flags);
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
        fail_final(d, &e);
    v->kind = KL_STRING;
    v->n = (uint32_t)normal.n;
    v->s = normal.p;
    return p;
}

static void duration_error(struct kl_str s, struct kl_error *e)
{
    struct kl_buf q;
    kl_buf_init(&q, 4096);
    kl_json_put_go_quoted(&q, s);
    bool unit_missing = s.n > 0;
    for (size_t i = 0; i < s.n; i++)
        unit_missing &= (s.p[i] >= '0' && s.p[i] <= '9') || (i == 0 && s.n > 1 && s.p[i] == '-');
    kl_error_set(e, KL_EBADREQUEST, "time: %s duration %.*s",
                 unit_missing ? "missing unit in" : "invalid", KL_PRI(kl_buf_str(&q)));
    kl_buf_fini(&q);
}

static const char *read_time(struct decoder *d, const char *p, const struct kl_type *t,
                             struct kl_value *v)
{
    if (*p != '"')
        return mismatch(d, p, &string_type, true);
    struct kl_str s;
    p = read_string(d, p, &s);
    if (!p || d->fatal)
        return p;
    struct kl_error e = {0};
    int r;
    v->kind = t->kind == KL_T_DURATION ? KL_INT : KL_TIME;
    v->i = 0;
    if (t->kind == KL_T_DURATION) {
        r = kl_duration_parse(s, &v->i);
        if (r)
            duration_error(s, &e);
    } else if (t->kind == KL_T_MICROTIME) {
        r = kl_microtime_parse(s, &v->i, &e);
    } else {
        r = kl_time_parse(s, &v->i, &e);
    }
    if (r)
        fail_final(d, &e);
    return p;
}

// []byte: base64, or, as Go allows, an array of numbers.
static const char *read_bytes(struct decoder *d, const char *p, const struct kl_type *t,
                              struct kl_value *v)
{
    v->kind = KL_BYTES;
    v->n = 0;
    v->s = "";
    if (*p == '"') {
        struct kl_str s, bytes;
        size_t bad;
        p = read_string(d, p, &s);
        if (!p || d->fatal)
            return p;
        if (kl_json_base64_decode(d->arena, s, &bytes, &bad)) {
            v->n = (uint32_t)bytes.n;
            v->s = bytes.p;
        } else if (!d->failed) {
            char text[64];
            int n = snprintf(text, sizeof(text), "illegal base64 data at input byte %zu", bad);
            set_failed(d, text, (size_t)n);
        }
        return p;
    }
    if (*p != '[')
        return mismatch(d, p, t, false);
    unsigned flags = 0;
    const char *after = read_over(d, p, &flags);
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
            p = read_integer(d, p, &uint8_type, false, &item);
        else if (*p == 'n')
            p += 4;
        else
            p = mismatch(d, p, &uint8_type, false);
        bytes[v->n] = (uint8_t)item.i;
        p = kl_json_space(p, after);
        if (*p == ',')
            p = kl_json_space(p + 1, after);
    }
    v->s = (const char *)bytes;
    return after;
}

// ---- containers

static int copy_items(struct kl_arena *a, struct kl_value *v, const struct kl_value *items,
                      size_t n)
{
    v->items = NULL;
    if (n == 0)
        return 0;
    v->items = kl_arena_alloc(a, n * sizeof(*items));
    if (!v->items)
        return KL_ENOMEM;
    memcpy(v->items, items, n * sizeof(*items));
    return 0;
}

// A member that comes twice is decoded twice into one Go value: structs and maps gather members,
// lists take the later length.
static int merge(struct kl_arena *a, const struct kl_type *t, const struct kl_value *old,
                 struct kl_value *v)
{
    if (v->kind != old->kind || v->kind < KL_ARRAY || (v->kind == KL_ARRAY && v->n == 0))
        return 0;
    struct kl_value both = *v;
    if (v->kind == KL_ARRAY) {
        if (copy_items(a, &both, v->items, v->n))
            return KL_ENOMEM;
        for (size_t i = 0; i < v->n && i < old->n; i++)
            if (t->elem && t->elem->kind == KL_T_STRUCT &&
                merge(a, t->elem, &old->items[i], &both.items[i]))
                return KL_ENOMEM;
    } else {
        both = *old;
        both.owned = 0;
        size_t width = v->kind == KL_MAP ? 2 : 1;
        for (size_t i = 0; i < v->n; i++) {
            struct kl_value item = v->items[i * width + width - 1];
            int r = 0;
            if (v->kind == KL_MAP) {
                r = kl_map_set_value(a, &both, kl_text(&v->items[2 * i]), item);
            } else {
                const struct kl_field *f = kl_type_field(t, item.sym);
                const struct kl_value *was = kl_get(&both, item.sym);
                if (f && was)
                    r = merge(a, f->type, was, &item);
                r = r ? r : kl_set(a, &both, item.sym, item);
            }
            if (r)
                return r;
        }
        both.owned = 0;
    }
    both.sym = v->sym;
    *v = both;
    return 0;
}

static int merge_doubled(struct kl_arena *a, const struct kl_type *t, struct kl_value *items,
                         size_t *n)
{
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        size_t j = 0;
        while (j < kept && items[j].sym != items[i].sym)
            j++;
        struct kl_value v = items[i];
        if (j < kept) {
            const struct kl_field *f = kl_type_field(t, v.sym);
            if (f && merge(a, f->type, &items[j], &v))
                return KL_ENOMEM;
        } else {
            kept++;
        }
        items[j] = v;
    }
    *n = kept;
    return 0;
}

struct entry {
    const struct kl_value *key;
    size_t index;
};

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int c = kl_str_cmp(kl_text(x->key), kl_text(y->key));
    return c ? c : (x->index > y->index) - (x->index < y->index);
}

static bool keys_are_unique(const struct kl_value *items, size_t n)
{
    bool rising = true;
    for (size_t i = 1; i < n && rising; i++)
        rising = kl_str_cmp(kl_text(&items[2 * i - 2]), kl_text(&items[2 * i])) < 0;
    if (rising || n > 8)
        return rising;
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < i; j++)
            if (kl_str_eq(kl_text(&items[2 * i]), kl_text(&items[2 * j])))
                return false;
    return true;
}

// Of entries with one key the last value counts; it takes the place of the first.
static void merge_keys(struct decoder *d, struct kl_value *items, size_t *n)
{
    if (keys_are_unique(items, *n))
        return;
    struct entry *order = malloc(*n * sizeof(*order));
    uint8_t *again = calloc(*n, 1);
    if (!order || !again) {
        d->fatal = KL_ENOMEM;
        free(order);
        free(again);
        return;
    }
    for (size_t i = 0; i < *n; i++)
        order[i] = (struct entry){&items[2 * i], i};
    qsort(order, *n, sizeof(*order), compare_entries);
    for (size_t i = 1, first = 0; i < *n; i++) {
        if (!kl_str_eq(kl_text(order[i].key), kl_text(order[first].key))) {
            first = i;
            continue;
        }
        again[order[i].index] = 1;
        items[2 * order[first].index + 1] = items[2 * order[i].index + 1];
    }
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        if (again[i]) {
            note_strict(d, "duplicate field", kl_text(&items[2 * i]));
            continue;
        }
        items[2 * kept] = items[2 * i];
        items[2 * kept++ + 1] = items[2 * i + 1];
    }
    *n = kept;
    free(order);
    free(again);
}

// Takes the innermost container's members off the stack; its own node lies below them.
static bool close_frame(struct decoder *d)
{
    struct frame *fr = &d->frames[d->depth - 1];
    struct kl_value *items = d->values + fr->base, *v = items - 1;
    size_t n = d->top - fr->base;
    if (fr->kind == KL_MAP) {
        n /= 2;
        if (n > 1)
            merge_keys(d, items, &n);
    } else if (fr->doubled && merge_doubled(d->arena, fr->type, items, &n)) {
        d->fatal = KL_ENOMEM;
    }
    v->kind = fr->kind;
    v->n = (uint32_t)n;
    if (copy_items(d->arena, v, items, fr->kind == KL_MAP ? 2 * n : n))
        d->fatal = KL_ENOMEM;
    d->top = fr->base;
    d->depth--;
    return d->fatal == 0;
}

// The member of the struct that the key at p names; *ret_field is NULL for an unknown one, whose
// value has been passed over then. Answers the first byte of the value or what follows it.
static const char *read_key(struct decoder *d, const char *p, const struct kl_field **ret_field)
{
    struct frame *fr = &d->frames[d->depth - 1];
    const struct kl_type *t = fr->type;
    int index = -1;
    *ret_field = NULL;
    if (fr->next < t->nfields) {
        // Most writers keep the order of the schema.
        struct kl_str expected = kl_sym_quoted(t->fields[fr->next].sym);
        if ((size_t)(d->end - p) >= expected.n && p[1] == expected.p[1] &&
            memcmp(p, expected.p, expected.n) == 0) {
            index = fr->next;
            p += expected.n;
        }
    }
    if (index < 0) {
        struct kl_str name;
        if (p == d->end || *p != '"')
            return NULL;
        p = read_string(d, p, &name);
        if (!p || d->fatal)
            return p;
        p = kl_json_space(p, d->end);
        if (p == d->end || *p != ':')
            return NULL;
        p++;
        if (t->slots) {
            index = kl_type_slot(t, name.p, name.n);
        } else {
            const struct kl_field *f = kl_type_field_named(t, name);
            index = f ? (int)(f - t->fields) : -1;
        }
        if (index < 0) {
            note_strict(d, "unknown field", name);
            unsigned flags = 0;
            p = kl_json_space(p, d->end);
            return p == d->end ? NULL : read_over(d, p, &flags);
        }
    }
    const struct kl_field *f = &t->fields[index];
    if (index < 64) {
        if (fr->seen >> index & 1) {
            fr->doubled = true;
            note_strict(d, "duplicate field", kl_sym_name(f->sym));
        }
        fr->seen |= UINT64_C(1) << index;
    } else {
        for (size_t i = fr->base; i < d->top; i++)
            if (d->values[i].sym == f->sym) {
                fr->doubled = true;
                note_strict(d, "duplicate field", kl_sym_name(f->sym));
                break;
            }
    }
    fr->next = (uint16_t)(index + 1);
    fr->field = f;
    *ret_field = f;
    return kl_json_space(p, d->end);
}

static bool is_nullable(const struct kl_field *f)
{
    return (f->flags & KL_FIELD_PTR) || f->type->kind == KL_T_ARRAY || f->type->kind == KL_T_MAP ||
           f->type->kind == KL_T_BYTES || f->type->kind == KL_T_ANY;
}

// The null at p into v, which is the top of the stack; takes it off where Go leaves the value
// alone.
static const char *read_null(struct decoder *d, const char *p, const struct kl_type *t,
                             struct kl_value *v)
{
    p = read_literal(d, p, "null", 4);
    if (!p)
        return NULL;
    const struct frame *fr = d->depth ? &d->frames[d->depth - 1] : NULL;
    bool nullable = fr && fr->kind == KL_STRUCT && is_nullable(fr->field);
    if (t->kind == KL_T_DURATION && !nullable) {
        struct kl_error e;
        duration_error(KL_STR(""), &e);
        fail_final(d, &e);
    } else if (!fr || fr->kind != KL_STRUCT) {
        uint32_t sym = v->sym;
        *v = kl_json_zero(t);
        v->sym = sym;
    } else if (nullable) {
        v->kind = KL_NULL;
    } else {
        d->top--;
    }
    return p;
}

// Reads the value at p of type t into the top of the stack. Opens a frame for a container and
// answers the position behind its bracket then.
static const char *read_value(struct decoder *d, const char *p, const struct kl_type *t, bool lax)
{
    struct kl_value *v = &d->values[d->top - 1];
    char c = *p;
    struct kl_str s;
    if (c == 'n')
        return read_null(d, p, t, v);
    switch (t->kind) {
    case KL_T_STRING:
    string:
        if (c != '"')
            break;
        p = read_string(d, p, &s);
        v->kind = KL_STRING;
        v->n = (uint32_t)s.n;
        v->s = s.p;
        return p;
    case KL_T_STRUCT:
        if (c != '{')
            break;
        return open_frame(d, t, KL_STRUCT, lax) ? p + 1 : p;
    case KL_T_MAP:
        if (c != '{')
            break;
        return open_frame(d, t->elem, KL_MAP, lax) ? p + 1 : p;
    case KL_T_ARRAY:
        if (c != '[')
            break;
        return open_frame(d, t->elem, KL_ARRAY, lax) ? p + 1 : p;
    case KL_T_INTEGER:
        if (c != '-' && (c < '0' || c > '9'))
            break;
        return read_integer(d, p, t, false, v);
    case KL_T_NUMBER:
        if (c != '-' && (c < '0' || c > '9'))
            break;
        return read_number(d, p, true, v);
    case KL_T_BOOLEAN:
        if (c != 't' && c != 'f')
            break;
        return read_bool(d, p, v);
    case KL_T_BYTES:
        return read_bytes(d, p, t, v);
    case KL_T_QUANTITY:
        return read_quantity(d, p, v);
    case KL_T_INT_OR_STRING:
        if (c == '"')
            goto string;
        if (c == '-' || (c >= '0' && c <= '9'))
            return read_integer(d, p, &int32_type, true, v);
        return mismatch(d, p, &int32_type, true);
    case KL_T_TIME:
    case KL_T_MICROTIME:
    case KL_T_DURATION:
        return read_time(d, p, t, v);
    case KL_T_RAW_EXTENSION:
    case KL_T_UNKNOWN:
    case KL_T_FIELDS_V1:
    case KL_T_JSON:
        return read_raw(d, p, v);
    case KL_T_SCHEMA_OR_ARRAY:
        if (c == '{')
            return open_frame(d, t->elem, KL_STRUCT, true) ? p + 1 : p;
        if (c == '[')
            return open_frame(d, t->elem, KL_ARRAY, true) ? p + 1 : p;
        v->kind = KL_NULL;
        return read_over(d, p, &(unsigned){0});
    case KL_T_SCHEMA_OR_STRINGS:
        if (c == '{')
            return open_frame(d, t->elem, KL_STRUCT, true) ? p + 1 : p;
        if (c == '[')
            return open_frame(d, strings_type.elem, KL_ARRAY, true) ? p + 1 : p;
        v->kind = KL_NULL;
        return read_over(d, p, &(unsigned){0});
    case KL_T_SCHEMA_OR_BOOL:
        if (c == '{')
            return open_frame(d, t->elem, KL_STRUCT, true) ? p + 1 : p;
        if (c == 't' || c == 'f')
            return read_bool(d, p, v);
        p = read_over(d, p, &(unsigned){0});
        if (p) {
            set_failed(d, "boolean or JSON schema expected", 31);
            d->fatal = d->failed;
        }
        return p;
    case KL_T_ANY:
    default:
        if (c == '"')
            goto string;
        if (c == '{')
            return open_frame(d, &any_type, KL_MAP, lax) ? p + 1 : p;
        if (c == '[')
            return open_frame(d, &any_type, KL_ARRAY, lax) ? p + 1 : p;
        if (c == 't' || c == 'f')
            return read_bool(d, p, v);
        return read_number(d, p, false, v);
    }
    return mismatch(d, p, t, false);
}

// The loop. Answers where the document ends, NULL on a syntax error or when d->fatal is set.
static const char *read_document(struct decoder *d, const char *p, const struct kl_type *t)
{
    uint32_t sym = 0;
    p = kl_json_space(p, d->end);
    for (;;) {
        // p stands at a value of type t, the member `sym` of a struct.
        if (p == d->end)
            return NULL;
        if (d->top + 3 > d->values_cap && !grow_values(d))
            return NULL;
        d->values[d->top++] = (struct kl_value){.sym = sym & 0xffffff};
        size_t depth = d->depth;
        if (depth >= KL_JSON_DEPTH_MAX && (*p == '{' || *p == '['))
            return NULL;
        p = read_value(d, p, t, depth && d->frames[depth - 1].lax);
        if (!p || d->fatal)
            return NULL;
        bool opened = d->depth != depth;
        for (;;) {
            // Behind a value, or behind the bracket of a container just opened.
            if (d->depth == 0)
                return p;
            struct frame *fr = &d->frames[d->depth - 1];
            p = kl_json_space(p, d->end);
            if (p == d->end)
                return NULL;
            if (*p == (fr->kind == KL_ARRAY ? ']' : '}')) {
                p++;
                opened = false;
                if (!close_frame(d))
                    return NULL;
                continue;
            }
            if (!opened) {
                if (*p != ',')
                    return NULL;
                p = kl_json_space(p + 1, d->end);
            }
            opened = false;
            sym = 0;
            if (fr->kind == KL_STRUCT) {
                const struct kl_field *f;
                if (p == d->end)
                    return NULL;
                p = read_key(d, p, &f);
                if (!p || d->fatal)
                    return NULL;
                if (!f)
                    continue;
                t = f->type;
                sym = f->sym;
            } else {
                t = fr->type;
                if (fr->kind == KL_MAP) {
                    struct kl_str key;
                    if (p == d->end || *p != '"')
                        return NULL;
                    p = read_string(d, p, &key);
                    if (!p || d->fatal)
                        return NULL;
                    if (d->top == d->values_cap && !grow_values(d))
                        return NULL;
                    d->values[d->top++] = kl_string(key);
                    p = kl_json_space(p, d->end);
                    if (p == d->end || *p != ':')
                        return NULL;
                    p = kl_json_space(p + 1, d->end);
                }
            }
            break;
        }
    }
}

static int decode(struct kl_arena *a, const struct kl_type *type, struct kl_str text,
                  struct kl_strict *strict, struct kl_value *ret, struct kl_error *err)
{
    struct kl_error unused;
    if (text.n > UINT32_MAX)
        return kl_error_set(err, KL_ETOOLARGE, "document of %zu bytes is too large", text.n);
    struct decoder d;
    d.arena = a;
    d.end = text.p + text.n;
    d.strict = strict;
    d.err = err ? err : &unused;
    d.failed = d.fatal = 0;
    d.frames = d.first_frames;
    d.values = d.first_values;
    d.depth = d.top = 0;
    d.frames_cap = FRAMES_FIRST;
    d.values_cap = VALUES_FIRST;
    const char *p = read_document(&d, text.p, type);
    if (p) {
        p = kl_json_space(p, d.end);
        p = p == d.end ? p : NULL;
    }
    int r = d.fatal ? d.fatal : d.failed;
    if (d.fatal == KL_ENOMEM) {
        kl_error_set(err, r, "out of memory");
    } else if (!p) {
        // What was found to be wrong with a type counts only if the syntax is right.
        struct kl_error syntax;
        if (kl_json_syntax_error(text, &syntax)) {
            r = KL_EBADREQUEST;
            kl_error_set(err, r, "%s", syntax.msg);
        } else if (!r) {
            r = kl_error_set(err, KL_EINTERNAL, "the JSON decoder lost its place");
        }
    }
    if (!r)
        *ret = d.values[0];
    if (d.frames != d.first_frames)
        free(d.frames);
    if (d.values != d.first_values)
        free(d.values);
    return r;
}

int kl_json_decode(struct kl_arena *a, const struct kl_type *type, struct kl_str text,
                   struct kl_strict *strict, struct kl_value *ret, struct kl_error *err)
{
    if (strict)
        strict->n = 0;
    return decode(a, type, text, strict, ret, err);
}

int kl_json_parse(struct kl_arena *a, struct kl_str text, struct kl_strict *strict,
                  struct kl_value *ret, struct kl_error *err)
{
    if (strict)
        strict->n = 0;
    return decode(a, &any_type, text, strict, ret, err);
}
