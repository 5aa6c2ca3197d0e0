// SPDX-License-Identifier: Apache-2.0
// The list of findings: paths put together, values worded as field.Error does (internal.c shows
// them).
#include "object/gotext_int.h"
#include "object/validate/pod_int.h"
#include <stdarg.h>

enum { PATH_DEPTH_MAX = 64, PATH_MAX_BYTES = 64 * 1024, SHOWN_MAX_BYTES = 4 << 20 };

struct kl_str kl_v_path_text(struct kl_arena *a, const struct kl_vpath *p)
{
    const struct kl_vpath *chain[PATH_DEPTH_MAX];
    size_t n = 0;
    for (; p && n < PATH_DEPTH_MAX; p = p->up)
        chain[n++] = p;
    struct kl_buf b;
    kl_buf_init(&b, PATH_MAX_BYTES);
    while (n--) {
        const struct kl_vpath *x = chain[n];
        struct kl_str name = x->sym ? kl_sym_name(x->sym) : kl_str(x->name);
        if (x->key.p)
            kl_buf_printf(&b, "[%.*s]", KL_PRI(x->key));
        else if (x->name || x->sym)
            kl_buf_printf(&b, "%s%.*s", b.n ? "." : "", KL_PRI(name));
        else
            kl_buf_printf(&b, "[%u]", x->index);
    }
    struct kl_str out = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out;
}

// There is no memory to say what: still what is wrong must not pass.
static const struct kl_field_finding unsaid = {
    "InternalError", {"", 0}, {"Internal error: out of memory", 29}};

static void add(struct kl_v *c, const char *reason, const char *title, const struct kl_vpath *p,
                const struct kl_str *shown, const char *detail)
{
    struct kl_findings *f = c->f;
    struct kl_arena *a = f->arena;
    if (f->n == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 8;
        struct kl_field_finding *list =
            f->cap < KL_FINDINGS_MAX ? kl_arena_alloc(a, cap * sizeof *list) : NULL;
        if (!list && !f->n) {
            f->list = (struct kl_field_finding *)(uintptr_t)&unsaid;
            f->n = f->cap = 1;
        }
        if (!list)
            return;
        if (f->n)
            memcpy(list, f->list, f->n * sizeof *list);
        f->list = list;
        f->cap = cap;
    }
    struct kl_str text = shown ? kl_arena_printf(a, "%s: %.*s%s%s", title, KL_PRI(*shown),
                                                 *detail ? ": " : "", detail)
                               : kl_arena_printf(a, "%s%s%s", title, *detail ? ": " : "", detail);
    struct kl_str field = kl_v_path_text(a, p);
    f->list[f->n++] = (struct kl_field_finding){reason, field, text.p ? text : kl_str(title)};
}

const char *kl_v_text(struct kl_v *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str s = kl_arena_vprintf(c->f->arena, fmt, ap);
    va_end(ap);
    return s.p ? s.p : "";
}

struct kl_str kl_v_quoted(struct kl_v *c, struct kl_str s)
{
    struct kl_buf b;
    kl_buf_init(&b, SHOWN_MAX_BYTES);
    kl_go_quote(&b, s);
    struct kl_str out = kl_arena_dup(c->f->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out.p ? out : KL_STR("\"\"");
}

void kl_v_required(struct kl_v *c, const struct kl_vpath *p, const char *detail)
{
    add(c, "FieldValueRequired", "Required value", p, NULL, detail);
}

void kl_v_claim_missing(struct kl_v *c, const struct kl_vpath *p, struct kl_str name,
                        const struct kl_value *spec)
{
    struct kl_str shown = kl_v_quoted(c, name);
    struct kl_buf b;
    struct kl_str last = {0};
    size_t n = 0;
    kl_buf_init(&b, PATH_MAX_BYTES);
    kl_buf_puts(&b, KL_STR("must be one of the names in pod.spec.resourceClaims"));
    for (;;) {
        struct kl_str next = {0};
        for (KL_EACH(x, kl_get(spec, KL_F_resourceClaims))) {
            struct kl_str s = kl_text(kl_get(x, KL_F_name));
            if (s.n && (!last.p || kl_str_cmp(s, last) > 0) && (!next.p || kl_str_cmp(s, next) < 0))
                next = s;
        }
        if (!next.p)
            break;
        kl_buf_printf(&b, "%s%.*s", n++ ? ", " : ": ", KL_PRI(next));
        last = next;
    }
    if (!n)
        kl_buf_puts(&b, KL_STR(" which is empty"));
    add(c, "FieldValueNotFound", "Not found", p, &shown,
        kl_v_text(c, "%.*s", KL_PRI(kl_buf_str(&b))));
    kl_buf_fini(&b);
}

void kl_v_forbidden(struct kl_v *c, const struct kl_vpath *p, const char *detail)
{
    add(c, "FieldValueForbidden", "Forbidden", p, NULL, detail);
}

void kl_v_invalid_text(struct kl_v *c, const struct kl_vpath *p, struct kl_str shown,
                       const char *detail)
{
    add(c, "FieldValueInvalid", "Invalid value", p, &shown, detail);
}

void kl_v_invalid_omitted(struct kl_v *c, const struct kl_vpath *p, const char *detail)
{
    add(c, "FieldValueInvalid", "Invalid value", p, NULL, detail);
}

void kl_v_invalid_str(struct kl_v *c, const struct kl_vpath *p, struct kl_str s, const char *detail)
{
    kl_v_invalid_text(c, p, kl_v_quoted(c, s), detail);
}

void kl_v_invalid_int(struct kl_v *c, const struct kl_vpath *p, int64_t i, const char *detail)
{
    kl_v_invalid_text(c, p, kl_str(kl_v_text(c, "%lld", (long long)i)), detail);
}

void kl_v_invalid(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *v,
                  const char *detail)
{
    if (kl_is(v, KL_STRING))
        kl_v_invalid_str(c, p, kl_text(v), detail);
    else
        kl_v_invalid_text(c, p, kl_v_json(c, NULL, v, false), detail);
}

void kl_v_invalid_json(struct kl_v *c, const struct kl_vpath *p, const struct kl_type *type,
                       const struct kl_value *v, bool internal, const char *detail)
{
    kl_v_invalid_text(c, p, kl_v_json(c, type, v, internal), detail);
}

void kl_v_unsupported(struct kl_v *c, const struct kl_vpath *p, struct kl_str s,
                      const char *const *supported)
{
    kl_v_unsupported_text(c, p, kl_v_quoted(c, s), supported);
}

void kl_v_unsupported_text(struct kl_v *c, const struct kl_vpath *p, struct kl_str shown,
                           const char *const *supported)
{
    struct kl_buf b;
    kl_buf_init(&b, PATH_MAX_BYTES);
    for (size_t i = 0; supported[i]; i++)
        kl_buf_printf(&b, "%s\"%s\"", i ? ", " : "supported values: ", supported[i]);
    const char *detail = kl_v_text(c, "%.*s", KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
    add(c, "FieldValueNotSupported", "Unsupported value", p, &shown, detail);
}

void kl_v_duplicate_text(struct kl_v *c, const struct kl_vpath *p, struct kl_str shown)
{
    add(c, "FieldValueDuplicate", "Duplicate value", p, &shown, "");
}

void kl_v_duplicate(struct kl_v *c, const struct kl_vpath *p, struct kl_str s)
{
    kl_v_duplicate_text(c, p, kl_v_quoted(c, s));
}

void kl_v_not_found(struct kl_v *c, const struct kl_vpath *p, struct kl_str s)
{
    struct kl_str shown = kl_v_quoted(c, s);
    add(c, "FieldValueNotFound", "Not found", p, &shown, "");
}

void kl_v_internal(struct kl_v *c, const struct kl_vpath *p, const char *detail)
{
    add(c, "InternalError", "Internal error", p, NULL, detail);
}

void kl_v_too_long(struct kl_v *c, const struct kl_vpath *p, int64_t max)
{
    add(c, "FieldValueTooLong", "Too long", p, NULL,
        kl_v_text(c, "may not be more than %lld byte%s", (long long)max, max == 1 ? "" : "s"));
}

void kl_v_too_many(struct kl_v *c, const struct kl_vpath *p, size_t is, size_t max)
{
    struct kl_str shown = kl_str(kl_v_text(c, "%zu", is));
    add(c, "FieldValueTooMany", "Too many", p, &shown,
        kl_v_text(c, "must have at most %zu item%s", max, max == 1 ? "" : "s"));
}
