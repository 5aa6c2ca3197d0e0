// SPDX-License-Identifier: Apache-2.0
// The JSON decoder: one loop over the text with a stack of open containers, guided by the schema.
// It does what upstream's decoder does for the Go type, in one pass; errors are worded afterwards.
//
// A container's members are gathered on a stack of values and copied to the arena, exactly sized,
// when it closes. Strings refer to the text.
#include "object/crd/crd.h"
#include "object/json_decode_int.h"
#include "object/schema_int.h"
#include <stdlib.h>

static const struct kl_type any_type = {.kind = KL_T_ANY};
static const struct kl_type int32_type = {.kind = KL_T_INTEGER, .format = KL_FMT_INT32};
static const struct kl_type string_type = {.kind = KL_T_STRING};

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

static bool grow_values(struct kl_json_decoder *d)
{
    void *p = d->values;
    bool ok = d->values_cap < UINT32_MAX / 4 &&
              grow(&p, &d->values_cap, sizeof(*d->values), d->first_values);
    d->values = p;
    if (!ok)
        d->fatal = KL_ENOMEM;
    return ok;
}

static bool open_frame(struct kl_json_decoder *d, const struct kl_type *t, enum kl_value_kind kind,
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
    d->frames[d->depth++] = (struct kl_json_frame){
        .type = t, .base = (uint32_t)d->top, .kind = (uint8_t)kind, .lax = lax};
    return true;
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

static void note_again(void *arg, const struct kl_value *key)
{
    kl_json_note_strict(arg, "duplicate field", kl_text(key));
}

// Where it is cheap, a repeated key is noted where it stands, as upstream does; in large maps when
// they close.
static void note_repeated_key(struct kl_json_decoder *d, struct kl_str key)
{
    size_t base = d->frames[d->depth - 1].base;
    if (d->top - base > 64)
        return;
    for (size_t i = base; i < d->top; i += 2)
        if (kl_str_eq(kl_text(&d->values[i]), key)) {
            kl_json_note_strict(d, "duplicate field", key);
            return;
        }
}

// Takes the innermost container's members off the stack; its own node lies below them.
static bool close_frame(struct kl_json_decoder *d)
{
    struct kl_json_frame *fr = &d->frames[d->depth - 1];
    struct kl_value *items = d->values + fr->base, *v = items - 1;
    size_t n = d->top - fr->base;
    if (fr->kind == KL_MAP) {
        n /= 2;
        if (n > 1 && kl_map_make_unique(items, &n, note_again, d))
            d->fatal = KL_ENOMEM;
    } else if (fr->doubled) {
        int r = kl_struct_merge(d->arena, fr->type, items, &n, &d->merge_work);
        d->fatal = r ? r : d->fatal;
    }
    v->kind = fr->kind;
    v->n = (uint32_t)n;
    if (copy_items(d->arena, v, items, fr->kind == KL_MAP ? 2 * n : n))
        d->fatal = KL_ENOMEM;
    d->top = fr->base;
    d->depth--;
    if (d->lax_failed && !(d->depth && d->frames[d->depth - 1].lax))
        d->fatal = d->fatal ? d->fatal : d->failed;
    return d->fatal == 0;
}

// The member of the struct that the key at p names; *ret_field is NULL for an unknown one, whose
// value has been passed over then. Answers the first byte of the value or what follows it.
static const char *read_key(struct kl_json_decoder *d, const char *p,
                            const struct kl_field **ret_field)
{
    struct kl_json_frame *fr = &d->frames[d->depth - 1];
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
        p = kl_json_read_string(d, p, &name);
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
            kl_json_note_strict(d, "unknown field", name);
            p = kl_json_space(p, d->end);
            return p == d->end ? NULL : kl_json_read_over(d, p);
        }
    }
    const struct kl_field *f = &t->fields[index];
    if (index < 64) {
        if (fr->seen >> index & 1) {
            fr->doubled = true;
            kl_json_note_strict(d, "duplicate field", kl_sym_name(f->sym));
        }
        fr->seen |= UINT64_C(1) << index;
    } else {
        for (size_t i = fr->base; i < d->top; i++)
            if (d->values[i].sym == f->sym) {
                fr->doubled = true;
                kl_json_note_strict(d, "duplicate field", kl_sym_name(f->sym));
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
static const char *read_null(struct kl_json_decoder *d, const char *p, const struct kl_type *t,
                             struct kl_value *v)
{
    if (d->end - p < 4 || memcmp(p, "null", 4) != 0)
        return NULL;
    p += 4;
    const struct kl_json_frame *fr = d->depth ? &d->frames[d->depth - 1] : NULL;
    bool nullable = fr && fr->kind == KL_STRUCT && is_nullable(fr->field);
    if (t->kind == KL_T_DURATION && !nullable) {
        kl_json_fail_duration(d, KL_STR(""));
    } else if (!fr || fr->kind != KL_STRUCT) {
        uint32_t sym = v->sym;
        *v = t->kind == KL_T_BYTES ? (struct kl_value){.kind = KL_BYTES, .s = ""} : kl_json_zero(t);
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
static const char *read_value(struct kl_json_decoder *d, const char *p, const struct kl_type *t,
                              bool lax)
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
        p = kl_json_read_string(d, p, &s);
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
        return kl_json_read_integer(d, p, t, false, v);
    case KL_T_NUMBER:
        if (c != '-' && (c < '0' || c > '9'))
            break;
        return kl_json_read_number(d, p, true, v);
    case KL_T_BOOLEAN:
        if (c != 't' && c != 'f')
            break;
        return kl_json_read_bool(d, p, v);
    case KL_T_INT_OR_STRING:
        if (c == '"')
            goto string;
        if (c == '-' || (c >= '0' && c <= '9'))
            return kl_json_read_integer(d, p, &int32_type, true, v);
        return kl_json_mismatch(d, p, &int32_type, true);
    case KL_T_SCHEMA_OR_ARRAY:
    case KL_T_SCHEMA_OR_STRINGS:
        if (c == '[')
            return open_frame(d, t->kind == KL_T_SCHEMA_OR_ARRAY ? t->elem : &string_type, KL_ARRAY,
                              true)
                       ? p + 1
                       : p;
        // fall through
    case KL_T_SCHEMA_OR_BOOL:
        if (c == '{')
            return open_frame(d, t->elem, KL_STRUCT, true) ? p + 1 : p;
        return kl_json_read_special(d, p, t, v);
    case KL_T_ANY:
        if (c == '"')
            goto string;
        if (c == '{')
            return open_frame(d, &any_type, KL_MAP, lax) ? p + 1 : p;
        if (c == '[')
            return open_frame(d, &any_type, KL_ARRAY, lax) ? p + 1 : p;
        if (c == 't' || c == 'f')
            return kl_json_read_bool(d, p, v);
        return kl_json_read_number(d, p, false, v);
    default:
        return kl_json_read_special(d, p, t, v);
    }
    return kl_json_mismatch(d, p, t, false);
}

// The loop. Answers where the document ends, NULL on a syntax error or when d->fatal is set.
static const char *read_document(struct kl_json_decoder *d, const char *p, const struct kl_type *t)
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
            struct kl_json_frame *fr = &d->frames[d->depth - 1];
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
                    p = kl_json_read_string(d, p, &key);
                    if (!p || d->fatal)
                        return NULL;
                    if (d->top == d->values_cap && !grow_values(d))
                        return NULL;
                    if (d->strict)
                        note_repeated_key(d, key);
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
    struct kl_json_decoder d;
    d.arena = a;
    d.end = text.p + text.n;
    d.strict = strict;
    d.err = err ? err : &unused;
    d.failed = d.fatal = 0;
    d.merge_work = d.note_work = 0;
    d.lax_failed = false;
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
    } else if (d.fatal == KL_ELIMIT) {
        kl_error_set(err, r, "too many duplicate fields");
    } else if (!p) {
        // What was found to be wrong with a type counts only if the syntax is right.
        struct kl_error syntax;
        if (kl_json_syntax_error(text, &syntax)) {
            // An object's apiVersion and kind are what upstream reads first.
            r = kl_error_set(err, KL_EBADREQUEST, "%s%s",
                             type->has_type_meta ? "couldn't get version/kind; json parse error: "
                                                 : "",
                             syntax.msg);
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
    if (type->custom)
        return kl_crd_decode(a, kl_crd_of_type(type), text, false, strict, ret, err);
    return decode(a, type, text, strict, ret, err);
}

int kl_json_parse(struct kl_arena *a, struct kl_str text, struct kl_strict *strict,
                  struct kl_value *ret, struct kl_error *err)
{
    return decode(a, &any_type, text, strict, ret, err);
}
