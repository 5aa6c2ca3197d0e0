// SPDX-License-Identifier: Apache-2.0
// JSONPath over untyped trees (client-go util/jsonpath/jsonpath.go) and cells of printer columns
// (apiextensions-apiserver registry/customresource/tableconvertor). There are no loops: range finds
// nothing, end is refused.
#include "object/crd/jsonpath_int.h"
#include "object/crd/crd_int.h"
#include "object/gotext_int.h"
#include "object/timestamp.h"

struct results {
    const struct kl_value **of;
    size_t n, cap;
};

struct finder {
    struct kl_arena *a;
    struct kl_error *err;
    int depth;
};

static int eval_list(struct finder *x, const struct jsonpath_nodes *list, const struct results *in,
                     struct results *out);

static int add(struct finder *x, struct results *r, const struct kl_value *v)
{
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 8;
        if (cap > KL_JSONPATH_RESULTS_MAX)
            return kl_error_set(x->err, KL_ELIMIT, "too many results");
        const struct kl_value **more = kl_arena_alloc(x->a, cap * sizeof(void *));
        if (!more)
            return kl_error_set(x->err, KL_ENOMEM, "out of memory");
        if (r->n)
            memcpy(more, r->of, r->n * sizeof(void *));
        r->of = more;
        r->cap = cap;
    }
    r->of[r->n++] = v;
    return 0;
}

static int add_new(struct finder *x, struct results *r, struct kl_value v)
{
    struct kl_value *kept = kl_arena_alloc(x->a, sizeof *kept);
    if (!kept)
        return kl_error_set(x->err, KL_ENOMEM, "out of memory");
    *kept = v;
    return add(x, r, kept);
}

static int add_children(struct finder *x, struct results *r, const struct kl_value *v)
{
    int rc = 0;
    if (v->kind == KL_MAP)
        for (uint32_t i = 0; !rc && i < v->n; i++)
            rc = add(x, r, &v->items[2 * (size_t)i + 1]);
    else if (v->kind == KL_ARRAY)
        for (uint32_t i = 0; !rc && i < v->n; i++)
            rc = add(x, r, &v->items[i]);
    else if (v->kind == KL_STRING) // Go goes over the bytes of a string
        for (uint32_t i = 0; !rc && i < v->n; i++)
            rc = add_new(x, r, kl_int((unsigned char)v->s[i]));
    return rc;
}

static int eval_recursive(struct finder *x, const struct results *in, struct results *out)
{
    int rc = 0;
    if (x->depth++ > KL_CRD_OBJECT_DEPTH_MAX)
        rc = kl_error_set(x->err, KL_ELIMIT, "nested too deeply");
    for (size_t i = 0; !rc && i < in->n; i++) {
        const struct kl_value *v = in->of[i];
        struct results below = {0};
        if (v->kind == KL_STRING ? v->n : kl_len(v))
            rc = add(x, out, v);
        if (!rc && v->kind != KL_STRING)
            rc = add_children(x, &below, v);
        if (!rc && below.n)
            rc = eval_recursive(x, &below, out);
    }
    x->depth--;
    return rc;
}

static int eval_slice(struct finder *x, const struct jsonpath_node *n, const struct kl_value *v,
                      struct results *out)
{
    int64_t len = v->n, from = n->params[0].known ? n->params[0].value : 0;
    int64_t to = n->params[1].known ? n->params[1].value : len;
    int64_t step = n->params[2].known ? n->params[2].value : 1;
    from += from < 0 ? len : 0;
    to += to < 0 || (to == 0 && n->params[1].derived) ? len : 0;
    if (from == to)
        return 0;
    if (from >= len || from < 0)
        return kl_error_set(x->err, KL_EINVALID,
                            "array index out of bounds: index %lld, length %lld", (long long)from,
                            (long long)len);
    if (to > len || to < 0)
        return kl_error_set(x->err, KL_EINVALID,
                            "array index out of bounds: index %lld, length %lld",
                            (long long)(to - 1), (long long)len);
    if (from > to)
        return kl_error_set(x->err, KL_EINVALID,
                            "starting index %lld is greater than ending index %lld",
                            (long long)from, (long long)to);
    if (step <= 0)
        return kl_error_set(x->err, KL_EINVALID, "step must be > 0");
    int rc = 0;
    for (int64_t i = from; !rc && i < to; i += step)
        rc = add(x, out, &v->items[i]);
    return rc;
}

// ---- comparing as Go's templates do
static int order_of(const struct kl_value *l, const struct kl_value *r, bool *ret_ok)
{
    *ret_ok = l->kind == r->kind && l->kind >= KL_BOOL && l->kind <= KL_STRING;
    if (!*ret_ok)
        return 0;
    if (l->kind == KL_STRING)
        return kl_str_cmp(kl_text(l), kl_text(r));
    if (l->kind == KL_FLOAT)
        return (l->d > r->d) - (l->d < r->d);
    if (l->kind == KL_BOOL)
        return l->b - r->b;
    return (l->i > r->i) - (l->i < r->i);
}

static int compare(struct finder *x, struct kl_str op, const struct kl_value *l,
                   const struct kl_value *r, bool *ret)
{
    bool ok;
    int c = order_of(l, r, &ok);
    bool equality = kl_str_eqz(op, "==") || kl_str_eqz(op, "!=");
    if (!equality && !kl_str_eqz(op, "<") && !kl_str_eqz(op, ">") && !kl_str_eqz(op, "<=") &&
        !kl_str_eqz(op, ">="))
        return kl_error_set(x->err, KL_EINVALID, "unrecognized filter operator %.*s", KL_PRI(op));
    if (!ok || (l->kind == KL_BOOL && !equality))
        return kl_error_set(x->err, KL_EINVALID, "incompatible types for comparison");
    *ret = op.p[0] == '<' ? c < 0 : op.p[0] == '>' ? c > 0 : op.p[0] == '!' ? c != 0 : c == 0;
    if (op.n == 2 && (op.p[0] == '<' || op.p[0] == '>'))
        *ret |= c == 0;
    return 0;
}

static int eval_filter(struct finder *x, const struct jsonpath_node *n, const struct kl_value *v,
                       struct results *out)
{
    if (v->kind != KL_ARRAY)
        return kl_error_set(x->err, KL_EINVALID, "not array or slice and cannot be filtered");
    for (uint32_t i = 0; i < v->n; i++) {
        const struct kl_value *item = &v->items[i];
        struct results one = {.of = &item, .n = 1, .cap = 1}, left = {0}, right = {0};
        bool pass = false;
        int rc = eval_list(x, &n->list, &one, &left);
        if (kl_str_eqz(n->text, "exists")) {
            if (rc == KL_ENOMEM || rc == KL_ELIMIT)
                return rc;
            pass = left.n > 0;
            rc = 0;
        } else {
            if (rc || !left.n)
                goto next;
            rc = left.n > 1 ? KL_EINVALID : eval_list(x, &n->right, &one, &right);
            if (rc || !right.n)
                goto next;
            if (left.n > 1 || right.n > 1)
                return kl_error_set(x->err, KL_EINVALID, "can only compare one element at a time");
            rc = compare(x, n->text, left.of[0], right.of[0], &pass);
        }
        if (!rc && pass)
            rc = add(x, out, item);
    next:
        if (rc)
            return rc;
    }
    return 0;
}

// ---- one node over all that was found so far
static int eval_one(struct finder *x, const struct jsonpath_node *n, const struct kl_value *v,
                    struct results *out)
{
    const struct kl_value *m;
    switch (n->kind) {
    case JP_FIELD:
        m = kl_map_value(v, n->text);
        return m ? add(x, out, m) : 0;
    case JP_WILDCARD:
        return add_children(x, out, v);
    case JP_ARRAY:
        if (v->kind == KL_NULL)
            return 0;
        if (v->kind != KL_ARRAY)
            return kl_error_set(x->err, KL_EINVALID, "%s is not array or slice",
                                kl_go_value_type(v));
        return eval_slice(x, n, v, out);
    case JP_FILTER:
        return eval_filter(x, n, v, out);
    default:
        return add(x, out, &n->value); // JP_SCALAR
    }
}

static int eval(struct finder *x, const struct jsonpath_node *n, const struct results *in,
                struct results *out)
{
    int rc = 0;
    switch (n->kind) {
    case JP_TEXT:
        return add_new(x, out, kl_string(n->text));
    case JP_LIST:
        return eval_list(x, &n->list, in, out);
    case JP_RECURSIVE:
        return eval_recursive(x, in, out);
    case JP_UNION:
        for (uint32_t i = 0; !rc && i < n->list.n; i++)
            rc = eval_list(x, &n->list.of[i]->list, in, out);
        return rc;
    case JP_IDENTIFIER:
        // A range is worth nothing without what it repeats, which is another expression.
        if (kl_str_eqz(n->text, "range"))
            return 0;
        return kl_error_set(x->err, KL_EINVALID, "unrecognized identifier %.*s", KL_PRI(n->text));
    default:
        for (size_t i = 0; !rc && i < in->n; i++)
            rc = eval_one(x, n, in->of[i], out);
        return rc;
    }
}

static int eval_list(struct finder *x, const struct jsonpath_nodes *list, const struct results *in,
                     struct results *out)
{
    struct results cur = *in;
    int rc = 0;
    for (uint32_t i = 0; !rc && i < list->n; i++) {
        struct results step = {0};
        rc = eval(x, list->of[i], &cur, &step);
        cur = step;
    }
    for (size_t i = 0; !rc && i < cur.n; i++)
        rc = add(x, out, cur.of[i]);
    return rc;
}

int kl_jsonpath_find(const struct kl_jsonpath *p, struct kl_arena *a, const struct kl_value *root,
                     const struct kl_value *const **ret, size_t *ret_n, struct kl_error *err)
{
    struct kl_error unused;
    struct finder x = {.a = a, .err = err ? err : &unused};
    struct results in = {.of = &root, .n = 1, .cap = 1}, first = {0};
    for (uint32_t i = 0; i < p->root.n; i++) {
        struct results r = {0};
        int rc = eval(&x, p->root.of[i], &in, &r);
        if (rc)
            return rc;
        if (!i)
            first = r;
    }
    *ret = first.of;
    *ret_n = first.n;
    return 0;
}

int kl_jsonpath_text(struct kl_arena *a, const struct kl_value *v, struct kl_str *ret)
{
    struct kl_buf b;
    kl_buf_init(&b, 4 << 20);
    if (!v || v->kind == KL_NULL)
        kl_buf_puts(&b, KL_STR("<no value>"));
    else if (v->kind == KL_STRING)
        kl_buf_puts(&b, kl_text(v));
    else if (v->kind == KL_FLOAT)
        kl_go_print(&b, v);
    else
        kl_json_write(&b, v);
    *ret = b.err ? (struct kl_str){NULL, 0} : kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return ret->p ? 0 : KL_ENOMEM;
}

static struct kl_value date_cell(struct kl_arena *a, struct kl_str s, int64_t now_us)
{
    char text[KL_TIME_TEXT];
    int64_t us;
    struct kl_error ignored;
    if (!s.n || kl_str_eqz(s, "null"))
        return kl_stringz("<unknown>");
    if (kl_time_parse(s, &us, &ignored))
        return kl_stringz("<invalid>");
    if (us == KL_TIME_ZERO_US)
        return kl_stringz("<unknown>");
    size_t n = kl_human_duration((now_us - us) / 1000000, text);
    struct kl_str kept = kl_arena_dup(a, (struct kl_str){text, n});
    return kept.p ? kl_string(kept) : kl_null();
}

int kl_jsonpath_cell(const struct kl_jsonpath *path, struct kl_str type, struct kl_arena *a,
                     const struct kl_value *root, int64_t now_us, struct kl_value *ret)
{
    const struct kl_value *const *found;
    size_t n;
    int rc = kl_jsonpath_find(path, a, root, &found, &n, NULL);
    *ret = kl_null();
    if (rc == KL_ENOMEM || rc || !n)
        return rc == KL_ENOMEM ? rc : 0;
    const struct kl_value *v = found[0];
    if (kl_str_eqz(type, "string")) {
        struct kl_str s;
        rc = kl_jsonpath_text(a, v, &s);
        if (!rc)
            *ret = kl_string(s);
        return rc;
    }
    if (kl_str_eqz(type, "integer") && v->kind == KL_INT)
        *ret = *v;
    else if (kl_str_eqz(type, "integer") && v->kind == KL_FLOAT)
        *ret = kl_int(v->d > -9.2e18 && v->d < 9.2e18 ? (int64_t)v->d : INT64_MIN);
    else if (kl_str_eqz(type, "number") && v->kind == KL_INT)
        *ret = kl_float((double)v->i);
    else if ((kl_str_eqz(type, "number") && v->kind == KL_FLOAT) ||
             (kl_str_eqz(type, "boolean") && v->kind == KL_BOOL))
        *ret = *v;
    else if (kl_str_eqz(type, "date") && v->kind == KL_STRING)
        *ret = date_cell(a, kl_text(v), now_us);
    ret->owned = 0;
    ret->sym = 0;
    return 0;
}

// ---- simple paths
int kl_simple_path(struct kl_arena *a, struct kl_str text, struct kl_str **ret, size_t *ret_n,
                   struct kl_error *err)
{
    struct kl_str *parts = kl_arena_alloc(a, (text.n + 1) * sizeof *parts);
    size_t n = 0, i = 0;
    if (!parts)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    while (i < text.n) {
        size_t from = i + 1, to;
        if (text.p[i] == '.') {
            for (to = from; to < text.n && text.p[to] != '.' && text.p[to] != '['; to++)
                ;
            i = to;
        } else if (text.p[i] == '[' && from < text.n && text.p[from] == '\'') {
            for (to = ++from; to < text.n && text.p[to] != '\''; to++)
                ;
            i = to + 2;
            if (i > text.n || text.p[to + 1] != ']')
                break;
        } else {
            break;
        }
        if (to == from)
            break;
        parts[n++] = (struct kl_str){text.p + from, to - from};
        if (i == text.n) {
            *ret = parts;
            *ret_n = n;
            return 0;
        }
    }
    return kl_error_set(err, KL_EINVALID, "%.*s is not a simple path", KL_PRI(text));
}

const struct kl_value *kl_simple_path_get(const struct kl_value *root, const struct kl_str *path,
                                          size_t n)
{
    for (size_t i = 0; root && i < n; i++)
        root = kl_map_value(root, path[i]);
    return root;
}
