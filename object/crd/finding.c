// SPDX-License-Identifier: Apache-2.0
// Findings as field.Error words them, and the paths of them.
#include "object/crd/crd_int.h"
#include "object/gotext_int.h"

enum { SHOWN_MAX_BYTES = 4 << 20, PATH_MAX_BYTES = 1 << 20 };

struct kl_str crd_path_text(struct kl_arena *a, const struct crd_path *p)
{
    size_t n = 0;
    if (!p)
        return KL_STR("<nil>");
    for (const struct crd_path *x = p; x; x = x->up)
        n++;
    const struct crd_path **chain = kl_arena_alloc(a, n * sizeof(void *));
    if (!chain)
        return (struct kl_str){NULL, 0};
    for (size_t i = n; i--; p = p->up)
        chain[i] = p;
    struct kl_buf b;
    kl_buf_init(&b, PATH_MAX_BYTES);
    for (size_t i = 0; i < n; i++) {
        const struct crd_path *x = chain[i];
        if (!x->name.p)
            kl_buf_printf(&b, "[%u]", x->index);
        else if (x->key)
            kl_buf_printf(&b, "[%.*s]", KL_PRI(x->name));
        else
            kl_buf_printf(&b, "%s%.*s", i ? "." : "", KL_PRI(x->name));
    }
    struct kl_str out = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out;
}

struct kl_str crd_show(struct kl_arena *a, const struct kl_value *v)
{
    struct kl_buf b;
    kl_buf_init(&b, SHOWN_MAX_BYTES);
    if (!v)
        kl_buf_puts(&b, KL_STR("null"));
    else if (v->kind == KL_STRING)
        kl_go_quote(&b, kl_text(v));
    else if (v->kind == KL_FLOAT)
        kl_go_print(&b, v);
    else
        kl_json_write(&b, v);
    struct kl_str out = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out.p ? out : KL_STR("null");
}

static const char *title_of(const char *reason)
{
    static const struct {
        const char *reason, *title;
    } titles[] = {
        {"FieldValueNotFound", "Not found"},        {"FieldValueRequired", "Required value"},
        {"FieldValueDuplicate", "Duplicate value"}, {"FieldValueNotSupported", "Unsupported value"},
        {"FieldValueForbidden", "Forbidden"},       {"FieldValueTooLong", "Too long"},
        {"FieldValueTooMany", "Too many"},          {"FieldValueTooFew", "Too few"},
        {"InternalError", "Internal error"}};
    for (size_t i = 0; i < KL_COUNT(titles); i++)
        if (!strcmp(reason, titles[i].reason))
            return titles[i].title;
    return "Invalid value";
}

// Room for one more. False: out of memory; *ret_full: there are too many already.
static bool make_room(struct kl_findings *f, bool *ret_full)
{
    *ret_full = f->n == f->cap && f->cap >= KL_FINDINGS_MAX;
    if (f->n < f->cap || *ret_full)
        return true;
    size_t cap = f->cap ? 2 * f->cap : 8;
    struct kl_field_finding *list = kl_arena_alloc(f->arena, cap * sizeof *list);
    if (!list)
        return false;
    if (f->n)
        memcpy(list, f->list, f->n * sizeof *list);
    f->list = list;
    f->cap = cap;
    return true;
}

void crd_find_again(struct kl_findings *f, struct kl_field_finding finding)
{
    bool full;
    if (make_room(f, &full) && !full)
        f->list[f->n++] = finding;
}

bool crd_find(struct kl_findings *f, const char *reason, struct kl_str field, struct kl_str shown,
              struct kl_str detail)
{
    bool full;
    if (!make_room(f, &full))
        return false;
    if (full)
        return true; // refused anyway
    struct kl_str text =
        kl_arena_printf(f->arena, "%s%s%.*s%s%.*s", title_of(reason), shown.p ? ": " : "",
                        KL_PRI(shown), detail.n ? ": " : "", KL_PRI(detail));
    if (!text.p || !field.p)
        return false;
    f->list[f->n++] = (struct kl_field_finding){reason, field, text};
    return true;
}

bool crd_find_at(struct kl_findings *f, const char *reason, const struct crd_path *path,
                 struct kl_str shown, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str detail = kl_arena_vprintf(f->arena, fmt, ap);
    va_end(ap);
    return detail.p && crd_find(f, reason, crd_path_text(f->arena, path), shown, detail);
}

struct kl_str crd_quote(struct kl_arena *a, struct kl_str s)
{
    struct kl_value v = kl_string(s);
    return crd_show(a, &v);
}
