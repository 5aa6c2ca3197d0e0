// SPDX-License-Identifier: Apache-2.0
// Path elements: their order and how messages show them.
#include "object/apply/fieldset.h"
#include "object/gotext_int.h"

// Floats and integers are one class, compared as numbers.
static int rank(const struct kl_value *v)
{
    switch (v->kind) {
    case KL_FLOAT:
    case KL_INT:
        return 0;
    case KL_STRING:
        return 1;
    case KL_BOOL:
        return 2;
    case KL_ARRAY:
        return 3;
    case KL_MAP:
        return 4;
    default:
        return 5;
    }
}

static int cmp_numbers(const struct kl_value *a, const struct kl_value *b)
{
    if (a->kind == KL_INT && b->kind == KL_INT)
        return (a->i > b->i) - (a->i < b->i);
    double x = a->kind == KL_INT ? (double)a->i : a->d;
    double y = b->kind == KL_INT ? (double)b->i : b->d;
    return (x > y) - (x < y);
}

int kl_elem_value_cmp(const struct kl_value *a, const struct kl_value *b)
{
    int c = rank(a) - rank(b);
    if (c)
        return c;
    size_t n = a->n < b->n ? a->n : b->n;
    switch (rank(a)) {
    case 0:
        return cmp_numbers(a, b);
    case 1:
        return kl_str_cmp(kl_text(a), kl_text(b));
    case 2:
        return (int)a->b - (int)b->b;
    case 3:
    case 4:
        n *= a->kind == KL_MAP ? 2 : 1;
        for (size_t i = 0; i < n; i++)
            if ((c = kl_elem_value_cmp(&a->items[i], &b->items[i])))
                return c;
        return (a->n > b->n) - (a->n < b->n);
    default:
        return 0;
    }
}

static int cmp_keys(const struct kl_elem *a, const struct kl_elem *b)
{
    uint32_t n = a->n < b->n ? a->n : b->n;
    for (uint32_t i = 0; i < n; i++) {
        int c = kl_str_cmp(a->keys[i].name, b->keys[i].name);
        if (c || (c = kl_elem_value_cmp(&a->keys[i].value, &b->keys[i].value)))
            return c;
    }
    return (a->n > b->n) - (a->n < b->n);
}

int kl_elem_cmp(const struct kl_elem *a, const struct kl_elem *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    switch (a->kind) {
    case KL_ELEM_FIELD:
        return kl_str_cmp(a->name, b->name);
    case KL_ELEM_KEY:
        return cmp_keys(a, b);
    case KL_ELEM_VALUE:
        return kl_elem_value_cmp(&a->value, &b->value);
    default:
        return (a->index > b->index) - (a->index < b->index);
    }
}

// value.ToString
static void show_value(struct kl_buf *out, const struct kl_value *v)
{
    if (v->kind == KL_STRING)
        kl_go_quote(out, kl_text(v));
    else if (v->kind == KL_NULL)
        kl_buf_puts(out, KL_STR("null"));
    else
        kl_go_print(out, v);
}

void kl_elem_show(struct kl_buf *out, const struct kl_elem *e)
{
    switch (e->kind) {
    case KL_ELEM_FIELD:
        kl_buf_putc(out, '.');
        kl_buf_puts(out, e->name);
        return;
    case KL_ELEM_KEY:
        kl_buf_putc(out, '[');
        for (uint32_t i = 0; i < e->n; i++) {
            kl_buf_printf(out, "%s%.*s=", i ? "," : "", KL_PRI(e->keys[i].name));
            show_value(out, &e->keys[i].value);
        }
        kl_buf_putc(out, ']');
        return;
    case KL_ELEM_VALUE:
        kl_buf_puts(out, KL_STR("[="));
        show_value(out, &e->value);
        kl_buf_putc(out, ']');
        return;
    default:
        kl_buf_printf(out, "[%lld]", (long long)e->index);
    }
}
