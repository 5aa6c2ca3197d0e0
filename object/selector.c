// SPDX-License-Identifier: Apache-2.0
// Requirements: making, matching and printing them.
#include "object/selector_int.h"
#include "object/gotext_int.h"
#include "object/json.h"
#include "object/names.h"
#include <stdlib.h>

static int compare_strs(const void *a, const void *b)
{
    return kl_str_cmp(*(const struct kl_str *)a, *(const struct kl_str *)b);
}

void kl_sort_strs(struct kl_str *s, size_t n)
{
    if (n > 1)
        qsort(s, n, sizeof(*s), compare_strs);
}

size_t kl_sort_unique_strs(struct kl_str *s, size_t n)
{
    size_t out = 0;
    kl_sort_strs(s, n);
    for (size_t i = 0; i < n; i++)
        if (out == 0 || !kl_str_eq(s[i], s[out - 1]))
            s[out++] = s[i];
    return out;
}

// Merges two sorted halves; stable, so that equal keys keep the order they were given in.
static void merge_sort(struct kl_requirement *r, struct kl_requirement *tmp, size_t n)
{
    if (n < 2)
        return;
    size_t half = n / 2, i = 0, j = half, k = 0;
    merge_sort(r, tmp, half);
    merge_sort(r + half, tmp, n - half);
    while (i < half && j < n)
        tmp[k++] = kl_str_cmp(r[j].key, r[i].key) < 0 ? r[j++] : r[i++];
    while (i < half)
        tmp[k++] = r[i++];
    while (j < n)
        tmp[k++] = r[j++];
    memcpy(r, tmp, n * sizeof(*r));
}

int kl_sort_requirements(struct kl_arena *a, struct kl_requirement *reqs, size_t n)
{
    bool sorted = true;
    for (size_t i = 1; i < n; i++)
        sorted = sorted && kl_str_cmp(reqs[i - 1].key, reqs[i].key) <= 0;
    if (sorted)
        return 0;
    struct kl_requirement *tmp = kl_arena_alloc(a, n * sizeof(*tmp));
    if (!tmp)
        return KL_ENOMEM;
    merge_sort(reqs, tmp, n);
    return 0;
}

// ---- making

// Collects field errors as ErrorList.ToAggregate shows them: one alone, several in brackets, equal
// ones once.
struct error_list {
    struct kl_buf text;
    size_t start, n;
};

static void begin_error(struct error_list *l)
{
    if (l->n)
        kl_buf_puts(&l->text, KL_STR(", "));
    l->start = l->text.n;
    l->n++;
}

static void join_messages(struct kl_buf *out, const struct kl_name_errors *errs)
{
    for (size_t i = 0; i < errs->n; i++)
        kl_buf_printf(out, "%s%s", i ? "; " : "", errs->msg[i]);
}

static int report_errors(struct error_list *l, struct kl_error *err)
{
    int r = 0;
    if (l->text.err == KL_ENOMEM)
        r = kl_error_set(err, KL_ENOMEM, "out of memory");
    else if (l->n == 1)
        r = kl_error_set(err, KL_EBADREQUEST, "%.*s", KL_PRI(kl_buf_str(&l->text)));
    else if (l->n)
        r = kl_error_set(err, KL_EBADREQUEST, "[%.*s]", KL_PRI(kl_buf_str(&l->text)));
    kl_buf_fini(&l->text);
    return r;
}

int kl_requirement_check_key(struct kl_arena *a, struct kl_str key, struct kl_error *err)
{
    struct kl_name_errors errs;
    (void)a;
    if (kl_name_check(KL_NAME_QUALIFIED, key, &errs))
        return 0;
    struct error_list l = {.n = 0};
    kl_buf_init(&l.text, KL_GO_TEXT_MAX_BYTES);
    begin_error(&l);
    kl_buf_puts(&l.text, KL_STR("<nil>: Invalid value: "));
    kl_go_quote(&l.text, key);
    kl_buf_puts(&l.text, KL_STR(": "));
    join_messages(&l.text, &errs);
    return report_errors(&l, err);
}

static bool parse_int(struct kl_str s, int64_t *ret)
{
    if (s.n > 1 && s.p[0] == '+' && s.p[1] != '-')
        s = kl_str_from(s, 1);
    return kl_str_to_i64(s, ret);
}

// The values as json.Marshal shows a []string.
static void print_values(struct kl_buf *out, const struct kl_str *values, size_t n)
{
    if (n == 0) {
        kl_buf_puts(out, KL_STR("null"));
        return;
    }
    for (size_t i = 0; i < n; i++) {
        kl_buf_putc(out, i ? ',' : '[');
        kl_json_write_string(out, values[i]);
    }
    kl_buf_putc(out, ']');
}

static void check_count(struct error_list *l, enum kl_selector_op op, const struct kl_str *values,
                        size_t n)
{
    const char *msg = NULL;
    switch (op) {
    case KL_OP_IN:
    case KL_OP_NOT_IN:
        if (n == 0)
            msg = "for 'in', 'notin' operators, values set can't be empty";
        break;
    case KL_OP_EQ:
    case KL_OP_NOT_EQ:
        if (n != 1)
            msg = "exact-match compatibility requires one single value";
        break;
    case KL_OP_EXISTS:
    case KL_OP_NOT_EXISTS:
        if (n != 0)
            msg = "values set must be empty for exists and does not exist";
        break;
    case KL_OP_GT:
    case KL_OP_LT:
        if (n != 1)
            msg = "for 'Gt', 'Lt' operators, exactly one value is required";
        break;
    }
    if (!msg)
        return;
    begin_error(l);
    kl_buf_puts(&l->text, KL_STR("values: Invalid value: "));
    print_values(&l->text, values, n);
    kl_buf_printf(&l->text, ": %s", msg);
}

int kl_requirement_new(struct kl_arena *a, struct kl_str key, enum kl_selector_op op,
                       struct kl_str *values, size_t nvalues, struct kl_requirement *ret,
                       struct kl_error *err)
{
    struct error_list l = {.n = 0};
    struct kl_name_errors errs;
    (void)a;
    kl_buf_init(&l.text, KL_GO_TEXT_MAX_BYTES);
    if (!kl_name_check(KL_NAME_QUALIFIED, key, &errs)) {
        begin_error(&l);
        kl_buf_puts(&l.text, KL_STR("key: Invalid value: "));
        kl_go_quote(&l.text, key);
        kl_buf_puts(&l.text, KL_STR(": "));
        join_messages(&l.text, &errs);
    }
    check_count(&l, op, values, nvalues);
    for (size_t i = 0; i < nvalues && (op == KL_OP_GT || op == KL_OP_LT); i++) {
        int64_t ignored;
        if (parse_int(values[i], &ignored))
            continue;
        begin_error(&l);
        kl_buf_printf(&l.text, "values[%zu]: Invalid value: ", i);
        kl_go_quote(&l.text, values[i]);
        kl_buf_puts(&l.text, KL_STR(": for 'Gt', 'Lt' operators, the value must be an integer"));
    }
    for (size_t i = 0; i < nvalues; i++) {
        if (kl_name_check(KL_NAME_LABEL_VALUE, values[i], &errs))
            continue;
        begin_error(&l);
        kl_buf_printf(&l.text, "values[%zu][%.*s]: Invalid value: ", i, KL_PRI(key));
        kl_go_quote(&l.text, values[i]);
        kl_buf_puts(&l.text, KL_STR(": "));
        join_messages(&l.text, &errs);
    }
    int r = report_errors(&l, err);
    if (r)
        return r;
    kl_sort_strs(values, nvalues);
    *ret = (struct kl_requirement){.key = key, .op = op, .values = values, .nvalues = nvalues};
    return 0;
}

static bool operator_of(struct kl_str name, enum kl_selector_op *ret)
{
    static const struct {
        struct kl_str name;
        enum kl_selector_op op;
    } known[] = {{KL_STR_INIT("In"), KL_OP_IN},
                 {KL_STR_INIT("NotIn"), KL_OP_NOT_IN},
                 {KL_STR_INIT("Exists"), KL_OP_EXISTS},
                 {KL_STR_INIT("DoesNotExist"), KL_OP_NOT_EXISTS}};
    for (size_t i = 0; i < KL_COUNT(known); i++) {
        if (kl_str_eq(name, known[i].name)) {
            *ret = known[i].op;
            return true;
        }
    }
    return false;
}

static int add_expression(struct kl_arena *a, const struct kl_value *expr,
                          struct kl_requirement *ret, struct kl_error *err)
{
    const struct kl_value *list = kl_get(expr, KL_F_values);
    struct kl_str name = kl_text(kl_get(expr, KL_F_operator));
    enum kl_selector_op op;
    if (!operator_of(name, &op)) {
        struct kl_buf quoted;
        kl_buf_init(&quoted, KL_GO_TEXT_MAX_BYTES);
        kl_go_quote(&quoted, name);
        kl_error_set(err, KL_EBADREQUEST, "%.*s is not a valid label selector operator",
                     KL_PRI(kl_buf_str(&quoted)));
        kl_buf_fini(&quoted);
        return KL_EBADREQUEST;
    }
    size_t n = kl_len(list);
    struct kl_str *values = n ? kl_arena_alloc(a, n * sizeof(*values)) : NULL;
    if (n && !values)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        values[i] = kl_text(&list->items[i]);
    return kl_requirement_new(a, kl_text(kl_get(expr, KL_F_key)), op, values, n, ret, err);
}

// One requirement "key = value" for each entry of a map, after the ones already in reqs.
static int add_equals(struct kl_arena *a, const struct kl_value *map, bool check,
                      struct kl_requirement *reqs, size_t *n, struct kl_error *err)
{
    struct kl_str *values = kl_len(map) ? kl_arena_alloc(a, kl_len(map) * sizeof(*values)) : NULL;
    if (kl_len(map) && !values)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (KL_MAP_EACH_KEY(key, map)) {
        struct kl_str *value = values++;
        *value = kl_text(key + 1);
        if (check) {
            int r = kl_requirement_new(a, kl_text(key), KL_OP_EQ, value, 1, &reqs[*n], err);
            if (r)
                return r;
        } else {
            reqs[*n] = (struct kl_requirement){kl_text(key), KL_OP_EQ, value, 1};
        }
        ++*n;
    }
    return 0;
}

int kl_label_selector_from(struct kl_arena *a, const struct kl_value *label_selector,
                           struct kl_selector *ret, struct kl_error *err)
{
    if (!label_selector || label_selector->kind == KL_NULL) {
        *ret = (struct kl_selector){.nothing = true};
        return 0;
    }
    const struct kl_value *labels = kl_get(label_selector, KL_F_matchLabels);
    const struct kl_value *exprs = kl_get(label_selector, KL_F_matchExpressions);
    size_t total = kl_len(labels) + kl_len(exprs), n = 0;
    if (total == 0) {
        *ret = (struct kl_selector){.n = 0};
        return 0;
    }
    struct kl_requirement *reqs = kl_arena_alloc(a, total * sizeof(*reqs));
    if (!reqs)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int r = add_equals(a, labels, true, reqs, &n, err);
    if (r)
        return r;
    for (KL_EACH(expr, exprs)) {
        r = add_expression(a, expr, &reqs[n], err);
        if (r)
            return r;
        n++;
    }
    if (kl_sort_requirements(a, reqs, n))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    *ret = (struct kl_selector){.reqs = reqs, .n = n};
    return 0;
}

int kl_label_selector_from_map(struct kl_arena *a, const struct kl_value *map,
                               struct kl_selector *ret)
{
    size_t n = 0;
    if (kl_len(map) == 0) {
        *ret = (struct kl_selector){.n = 0};
        return 0;
    }
    struct kl_requirement *reqs = kl_arena_alloc(a, kl_len(map) * sizeof(*reqs));
    if (!reqs || add_equals(a, map, false, reqs, &n, NULL) || kl_sort_requirements(a, reqs, n))
        return KL_ENOMEM;
    *ret = (struct kl_selector){.reqs = reqs, .n = n};
    return 0;
}

// ---- matching

static bool has_value(const struct kl_requirement *req, struct kl_str value)
{
    // sorted, but mostly of one or a few: a binary search pays only for long sets
    size_t lo = 0, hi = req->nvalues;
    if (hi <= 8) {
        for (; lo < hi; lo++)
            if (kl_str_eq(req->values[lo], value))
                return true;
        return false;
    }
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = kl_str_cmp(req->values[mid], value);
        if (c == 0)
            return true;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

static bool requirement_matches(const struct kl_requirement *req, const struct kl_value *label)
{
    int64_t have, want;
    switch (req->op) {
    case KL_OP_IN:
    case KL_OP_EQ:
        return label && has_value(req, kl_text(label));
    case KL_OP_NOT_IN:
    case KL_OP_NOT_EQ:
        return !label || !has_value(req, kl_text(label));
    case KL_OP_EXISTS:
        return label != NULL;
    case KL_OP_NOT_EXISTS:
        return label == NULL;
    case KL_OP_GT:
    case KL_OP_LT:
        if (!label || req->nvalues != 1 || !parse_int(kl_text(label), &have) ||
            !parse_int(req->values[0], &want))
            return false;
        return req->op == KL_OP_GT ? have > want : have < want;
    }
    return false;
}

bool kl_selector_matches(const struct kl_selector *s, const struct kl_value *labels_map)
{
    if (s->nothing)
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (!requirement_matches(&s->reqs[i], kl_map_value(labels_map, s->reqs[i].key)))
            return false;
    return true;
}

bool kl_selector_exact(const struct kl_selector *s, struct kl_str key, struct kl_str *ret_value)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct kl_requirement *req = &s->reqs[i];
        if ((req->op == KL_OP_EQ || req->op == KL_OP_IN) && req->nvalues == 1 &&
            kl_str_eq(req->key, key)) {
            *ret_value = req->values[0];
            return true;
        }
    }
    return false;
}

// ---- printing

static void print_requirement(struct kl_buf *out, const struct kl_requirement *req)
{
    static const char *const between[] = {[KL_OP_IN] = " in (", [KL_OP_NOT_IN] = " notin (",
                                          [KL_OP_EXISTS] = "",  [KL_OP_NOT_EXISTS] = "",
                                          [KL_OP_EQ] = "=",     [KL_OP_NOT_EQ] = "!=",
                                          [KL_OP_GT] = ">",     [KL_OP_LT] = "<"};
    if (req->op == KL_OP_NOT_EXISTS)
        kl_buf_putc(out, '!');
    kl_buf_puts(out, req->key);
    kl_buf_puts(out, kl_str(between[req->op]));
    for (size_t i = 0; i < req->nvalues; i++) {
        if (i)
            kl_buf_putc(out, ',');
        kl_buf_puts(out, req->values[i]);
    }
    if (req->op == KL_OP_IN || req->op == KL_OP_NOT_IN)
        kl_buf_putc(out, ')');
}

struct kl_str kl_selector_text(struct kl_arena *a, const struct kl_selector *s)
{
    struct kl_buf out;
    kl_buf_init(&out, 1 << 24);
    for (size_t i = 0; i < s->n; i++) {
        if (i)
            kl_buf_putc(&out, ',');
        print_requirement(&out, &s->reqs[i]);
    }
    struct kl_str text = kl_arena_dup(a, kl_buf_str(&out));
    kl_buf_fini(&out);
    return text;
}
