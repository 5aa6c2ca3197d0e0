// SPDX-License-Identifier: Apache-2.0
// What a decoder reports, in the words of Go's: paths, types, strict findings.
#include "object/json_decode_int.h"
#include "object/json_kind.h"

enum { NOTE_WORK_MAX = 100000 }; // steps of paths

// Go's path: names of struct fields only. Strict messages also have keys and indexes.
static void put_path(struct kl_json_decoder *d, struct kl_buf *out, size_t depth, bool strict)
{
    for (size_t i = 0; i < depth; i++) {
        const struct kl_json_frame *fr = &d->frames[i];
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

void kl_json_note_strict(struct kl_json_decoder *d, const char *what, struct kl_str field)
{
    if (!d->strict || d->frames[d->depth - 1].lax || d->strict->n == KL_STRICT_MAX)
        return;
    // Findings repeated without end are not worth a path each.
    d->note_work += d->depth;
    if (d->note_work > NOTE_WORK_MAX)
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
static void put_target(struct kl_json_decoder *d, struct kl_buf *out, const struct kl_type *t)
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

static void put_type_error(struct kl_json_decoder *d, struct kl_buf *out, const char *value,
                           struct kl_str number, const struct kl_type *t)
{
    const struct kl_json_frame *owner = NULL;
    // An error from a decoder of its own gets the struct around that one.
    bool has_outer = d->depth && !d->frames[0].lax;
    for (size_t i = d->depth; i > 0 && !owner; i--)
        if (d->frames[i - 1].kind == KL_STRUCT && !(d->frames[i - 1].lax && has_outer))
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

static bool in_lax(const struct kl_json_decoder *d)
{
    return d->depth && d->frames[d->depth - 1].lax;
}

// The first error is kept; but what a decoder of its own says ends decoding, and so comes first.
static bool wants_error(const struct kl_json_decoder *d, bool final)
{
    return final || !d->failed || (in_lax(d) && !d->lax_failed);
}

void kl_json_fail(struct kl_json_decoder *d, struct kl_str message, bool final)
{
    if (!wants_error(d, final))
        return;
    int n = message.n > sizeof(d->err->msg) ? (int)sizeof(d->err->msg) : (int)message.n;
    d->failed = kl_error_set(d->err, KL_EBADREQUEST, "%.*s", n, message.p);
    d->lax_failed = in_lax(d);
    if (final)
        d->fatal = d->failed;
}

void kl_json_fail_type(struct kl_json_decoder *d, const char *value, struct kl_str number,
                       const struct kl_type *t, bool final)
{
    if (!wants_error(d, final))
        return;
    struct kl_buf text;
    kl_buf_init(&text, 1 << 20);
    put_type_error(d, &text, value, number, t);
    kl_json_fail(d, kl_buf_str(&text), final);
    kl_buf_fini(&text);
}

const char *kl_json_kind(const struct kl_value *v)
{
    switch (v->kind) {
    case KL_NULL:
        return "null";
    case KL_BOOL:
        return "bool";
    case KL_STRING:
        return "string";
    case KL_ARRAY:
        return "array";
    case KL_MAP:
        return "object";
    default:
        return "number";
    }
}
