// SPDX-License-Identifier: Apache-2.0
// Whether an untyped tree fits a schema, with structured-merge-diff's messages.
#include "object/apply/shape.h"
#include "object/gotext_int.h"
#include <stdlib.h>

enum { FINDINGS_MAX = 50, TEXT_MAX = 8192 };

struct walk {
    struct kl_arena *a;
    bool allow_duplicates;
    struct kl_buf path, text; // of the place; of the findings, a line each
    size_t findings, depth;
    int rc;
};

static void find(struct walk *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void find(struct walk *w, const char *fmt, ...)
{
    va_list ap;
    if (w->findings++ >= FINDINGS_MAX)
        return;
    kl_buf_puts(&w->text, w->text.n ? KL_STR("\n  ") : KL_STR(""));
    kl_buf_puts(&w->text, kl_buf_str(&w->path));
    kl_buf_puts(&w->text, w->path.n ? KL_STR(": ") : KL_STR(""));
    va_start(ap, fmt);
    kl_buf_vprintf(&w->text, fmt, ap);
    va_end(ap);
}

// "%v" of a value as upstream holds it: behind a pointer.
static void find_value(struct walk *w, const char *expected, const struct kl_value *v)
{
    struct kl_buf b;
    kl_buf_init(&b, TEXT_MAX);
    kl_go_print(&b, v);
    find(w, "expected %s, got &{%.*s}", expected, KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
}

// "%#v"
static void print_sharp(struct kl_buf *b, const struct kl_value *v, int depth)
{
    size_t i = 0;
    if (depth > 16 || b->n > TEXT_MAX / 2) {
        kl_buf_puts(b, KL_STR("..."));
    } else if (v->kind == KL_STRING) {
        kl_go_quote(b, kl_text(v));
    } else if (v->kind == KL_ARRAY) {
        kl_buf_puts(b, KL_STR("[]interface {}{"));
        for (KL_EACH(x, v)) {
            kl_buf_puts(b, i++ ? KL_STR(", ") : KL_STR(""));
            print_sharp(b, x, depth + 1);
        }
        kl_buf_putc(b, '}');
    } else if (v->kind == KL_MAP) {
        kl_buf_puts(b, KL_STR("map[string]interface {}{"));
        for (KL_MAP_EACH_KEY(kv, v)) {
            kl_buf_puts(b, i++ ? KL_STR(", ") : KL_STR(""));
            kl_go_quote(b, kl_text(kv));
            kl_buf_putc(b, ':');
            print_sharp(b, kv + 1, depth + 1);
        }
        kl_buf_putc(b, '}');
    } else if (v->kind == KL_NULL) {
        kl_buf_puts(b, KL_STR("interface {}(nil)"));
    } else {
        kl_go_print(b, v);
    }
}

static void find_sharp(struct walk *w, const struct kl_value *v)
{
    struct kl_buf b;
    kl_buf_init(&b, TEXT_MAX);
    print_sharp(&b, v, 0);
    find(w, "expected string, got &value.valueUnstructured{Value:%.*s}", KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
}

// A string of some format is any scalar to upstream.
static bool is_plain_string(const struct kl_type *t)
{
    return t && (t->kind == KL_T_STRING || t->kind == KL_T_BYTES || t->kind == KL_T_DURATION) &&
           (t->format == KL_FMT_NONE || t->format == KL_FMT_BYTE);
}

static void check_scalar(struct walk *w, const struct kl_type *t, const struct kl_value *v)
{
    bool number = v->kind == KL_INT || v->kind == KL_FLOAT;
    if (v->kind == KL_NULL)
        return;
    if (is_plain_string(t)) {
        if (v->kind != KL_STRING)
            find_sharp(w, v);
        return;
    }
    switch (t ? t->kind : KL_T_ANY) {
    case KL_T_INTEGER:
    case KL_T_NUMBER:
        if (!number)
            find(w, "expected numeric (int or float), got %s", kl_go_value_type(v));
        return;
    case KL_T_BOOLEAN:
        if (v->kind != KL_BOOL)
            find_value(w, "boolean", v);
        return;
    default:
        if (!number && v->kind != KL_STRING && v->kind != KL_BOOL)
            find_value(w, "any scalar", v);
    }
}

static void check(struct walk *w, struct kl_shape s, const struct kl_value *v);

static void check_below(struct walk *w, const struct kl_elem *e, struct kl_shape s,
                        const struct kl_value *v)
{
    size_t was = w->path.n;
    kl_elem_show(&w->path, e);
    check(w, s, v);
    w->path.n = was;
}

static void check_map(struct walk *w, struct kl_shape s, const struct kl_value *v)
{
    struct kl_pairs pairs = kl_pairs_of(s, v, NULL);
    struct kl_pair p;
    while (!w->rc && kl_pairs_next(&pairs, &p)) {
        struct kl_elem e = kl_elem_name(p.name);
        if (!p.field && kl_shape_closed(s)) {
            size_t was = w->path.n;
            kl_elem_show(&w->path, &e);
            find(w, "field not declared in schema");
            w->path.n = was;
        } else {
            check_below(w, &e, p.shape, p.l);
        }
    }
}

static int cmp_elems(const void *a, const void *b)
{
    return kl_elem_cmp(*(const struct kl_elem *const *)a, *(const struct kl_elem *const *)b);
}

// One finding for each item beyond the first of its kind.
static void check_duplicates(struct walk *w, const struct kl_elem *elems, size_t n)
{
    const struct kl_elem **sorted = kl_arena_alloc(w->a, (n + 1) * sizeof *sorted);
    if (!sorted) {
        w->rc = KL_ENOMEM;
        return;
    }
    for (size_t i = 0; i < n; i++)
        sorted[i] = &elems[i];
    qsort(sorted, n, sizeof *sorted, cmp_elems);
    for (size_t i = 1; i < n; i++) {
        if (kl_elem_cmp(sorted[i - 1], sorted[i]) != 0)
            continue;
        struct kl_buf b;
        kl_buf_init(&b, TEXT_MAX);
        kl_elem_show(&b, sorted[i]);
        find(w, "duplicate entries for key %.*s", KL_PRI(kl_buf_str(&b)));
        kl_buf_fini(&b);
    }
}

static void check_list(struct walk *w, struct kl_shape s, const struct kl_value *v)
{
    bool atomic = kl_shape_atomic_list(s);
    struct kl_elem *elems = kl_arena_alloc(w->a, (kl_len(v) + 1) * sizeof *elems);
    struct kl_error why;
    size_t n = 0;
    if (!elems) {
        w->rc = KL_ENOMEM;
        return;
    }
    for (uint32_t i = 0; i < v->n && !w->rc; i++) {
        elems[n] = (struct kl_elem){.kind = KL_ELEM_INDEX, .index = i};
        int rc = atomic ? 0 : kl_shape_item(w->a, s, &v->items[i], &elems[n], &why);
        if (rc == KL_EINVALID) {
            find(w, "element %u: %s", i, why.msg);
            return;
        }
        w->rc = rc;
        check_below(w, &elems[n++], kl_shape_elem(s), &v->items[i]);
    }
    if (!atomic && !w->allow_duplicates && !w->rc)
        check_duplicates(w, elems, n);
}

static void check(struct walk *w, struct kl_shape s, const struct kl_value *v)
{
    unsigned atoms = kl_shape_deduce(kl_shape_atoms(s), v);
    if (w->depth >= KL_FIELDSET_DEPTH) // what is deeper is one leaf
        return;
    w->depth++;
    if (atoms & KL_ATOM_MAP) {
        if (kl_is_map(v))
            check_map(w, s, v);
        else if (v->kind != KL_NULL)
            find_value(w, "map", v);
    } else if (atoms & KL_ATOM_SCALAR) {
        check_scalar(w, s.type, v);
    } else if (v->kind == KL_ARRAY) {
        check_list(w, s, v);
    } else if (v->kind != KL_NULL) {
        find_value(w, "list", v);
    }
    w->depth--;
}

int kl_typed_validate(struct kl_arena *a, const struct kl_type *type, const struct kl_value *v,
                      bool allow_duplicates, struct kl_error *err)
{
    struct walk w = {.a = a, .allow_duplicates = allow_duplicates};
    kl_buf_init(&w.path, 1 << 20);
    kl_buf_init(&w.text, KL_ERROR_TEXT_MAX);
    check(&w, kl_shape_of(type), v);
    if (w.rc)
        kl_error_set(err, w.rc, "out of memory");
    else if (w.findings)
        w.rc = kl_error_set(err, KL_EINVALID, "%s%.*s", w.findings > 1 ? "errors:\n  " : "",
                            KL_PRI(kl_buf_str(&w.text)));
    kl_buf_fini(&w.path);
    kl_buf_fini(&w.text);
    return w.rc;
}
