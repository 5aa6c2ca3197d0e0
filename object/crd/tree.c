// SPDX-License-Identifier: Apache-2.0
// A value against a schema as kube-openapi's SchemaValidator does it: the same validators in the
// same order, with their counts of matches, which choose the errors that a failed anyOf shows
// (pkg/validation/validate: schema.go, schema_props.go, type.go, object_validator.go,
// slice_validator.go; apiextensions' ratcheting.go).
#include "object/crd/tree_int.h"
#include "object/gotext_int.h"

static void validate(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                     const struct kl_value *v, struct crd_pair *pair, struct crd_result *r);

// ---- results
struct kl_str crd_format(struct crd_tree *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str s = kl_arena_vprintf(t->a, fmt, ap);
    va_end(ap);
    if (!s.p)
        t->err = KL_ENOMEM;
    return s.p ? s : KL_STR("");
}

struct kl_str crd_body_text(struct crd_tree *t, const struct crd_body *p)
{
    struct kl_buf b;
    const struct crd_body *chain[KL_CRD_DEPTH_MAX + 1];
    size_t n = 0;
    for (; p && p->up && n < KL_COUNT(chain); p = p->up)
        chain[n++] = p;
    kl_buf_init(&b, 1 << 20);
    while (n--)
        if (!chain[n]->name.p)
            kl_buf_printf(&b, "[%u]", chain[n]->index);
        else
            kl_buf_printf(&b, "%s%.*s", b.n || chain[n]->extra ? "." : "", KL_PRI(chain[n]->name));
    struct kl_str s = kl_arena_dup(t->a, kl_buf_str(&b));
    kl_buf_fini(&b);
    if (!s.p)
        t->err = KL_ENOMEM;
    return s.p ? s : KL_STR("");
}

struct kl_str crd_number(struct crd_tree *t, const struct kl_value *v)
{
    return v->kind == KL_INT ? crd_format(t, "%lld", (long long)v->i) : crd_show(t->a, v);
}

void crd_add(struct crd_tree *t, struct crd_result *r, struct crd_tree_error e)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (kl_str_eq(r->list[i].text, e.text))
            return;
    if (r->n == CRD_ERRORS_MAX)
        return;
    if (r->n == r->cap) {
        uint32_t cap = r->cap ? 2 * r->cap : 4;
        struct crd_tree_error *more = kl_arena_alloc(t->a, cap * sizeof *more);
        if (!more) {
            t->err = KL_ENOMEM;
            return;
        }
        if (r->n)
            memcpy(more, r->list, r->n * sizeof *more);
        r->list = more;
        r->cap = cap;
    }
    r->list[r->n++] = e;
}

void crd_merge(struct crd_tree *t, struct crd_result *r, const struct crd_result *other)
{
    r->matches += other->matches;
    if (!r->n && other->n) {
        r->list = other->list;
        r->n = other->n;
        r->cap = other->n; // the list is shared: what is added goes elsewhere
        return;
    }
    for (uint32_t i = 0; i < other->n; i++)
        crd_add(t, r, other->list[i]);
}

// ---- type
static const char *const type_names[] = {"object",  "array",  "string",
                                         "integer", "number", "boolean"};

static struct kl_str types_text(struct crd_tree *t, uint32_t types)
{
    struct kl_str s = KL_STR("");
    for (unsigned i = 0; i < KL_COUNT(type_names); i++)
        if (types >> i & 1 && !s.n)
            s = kl_str(type_names[i]);
    return types == (CRD_INTEGER | CRD_STRING) ? KL_STR("integer,string") : s;
    (void)t;
}

static void fail_type(struct crd_tree *t, const struct crd_body *p, struct kl_str wanted,
                      const char *is, struct crd_result *r)
{
    struct kl_str path = crd_body_text(t, p);
    crd_add(
        t, r,
        (struct crd_tree_error){.kind = CRD_E_TYPE,
                                .path = path,
                                .value = kl_stringz(is),
                                .text = crd_format(t, "%.*s in body must be of type %.*s: \"%s\"",
                                                   KL_PRI(path), KL_PRI(wanted), is)});
}

static void check_type(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                       const struct kl_value *v, struct crd_result *r)
{
    uint32_t flags = crd_flags(t->s, node), types = flags & CRD_TYPES, is = 0;
    struct kl_str format = crd_attr_text(t->s, node, CRD_FORMAT);
    const char *own = "";
    switch (v->kind) {
    case KL_NULL:
        if (types && !(flags & CRD_NULLABLE))
            fail_type(t, p, types_text(t, types), "null", r);
        else
            r->matches++;
        return;
    case KL_BOOL:
        is = CRD_BOOLEAN;
        break;
    case KL_INT:
        is = CRD_INTEGER;
        own = "int64";
        break;
    case KL_FLOAT:
        is = CRD_NUMBER;
        own = "float64";
        break;
    case KL_ARRAY:
        is = CRD_ARRAY;
        break;
    case KL_MAP:
        is = CRD_OBJECT;
        break;
    default:
        is = CRD_STRING;
    }
    bool close = (is == CRD_NUMBER && (types & CRD_INTEGER) && crd_is_json_integer(v->d)) ||
                 (is == CRD_INTEGER && (types & CRD_NUMBER));
    bool text = is == CRD_STRING || is == CRD_ARRAY;
    if (!text && format.n && !(types & is) && !kl_str_eqz(format, own) && !close) {
        fail_type(t, p, format, own, r);
        return;
    }
    if (!(types & (CRD_NUMBER | CRD_INTEGER)) && format.n && text) {
        r->matches++;
        return;
    }
    if ((types & is) || close) {
        r->matches++;
        return;
    }
    fail_type(t, p, types_text(t, types), type_names[__builtin_ctz(is)], r);
}

// ---- allOf, anyOf, oneOf, not
static void fail_logic(struct crd_tree *t, const struct crd_body *p, struct crd_result *r,
                       const char *what)
{
    struct kl_str path = crd_quote(t->a, crd_body_text(t, p));
    crd_add(t, r,
            (struct crd_tree_error){.kind = CRD_E_OTHER,
                                    .text = crd_format(t, "%.*s %s", KL_PRI(path), what)});
}

static void check_any(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                      const struct kl_value *v, struct crd_result *r)
{
    const uint32_t *list;
    uint32_t n = crd_list(t->s, node, CRD_ANY_OF, &list);
    struct crd_result best = {0};
    for (uint32_t i = 0; i < n && !t->err; i++) {
        struct crd_result one = {0};
        validate(t, list[i], p, v, NULL, &one);
        if (!one.n) {
            crd_merge(t, r, &one);
            return;
        }
        if (!i || one.matches > best.matches)
            best = one;
    }
    if (n) {
        fail_logic(t, p, r, "must validate at least one schema (anyOf)");
        crd_merge(t, r, &best);
    }
}

static void check_one(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                      const struct kl_value *v, struct crd_result *r)
{
    const uint32_t *list;
    uint32_t n = crd_list(t->s, node, CRD_ONE_OF, &list), valid = 0;
    struct crd_result best = {0}, first = {0};
    bool has_best = false;
    for (uint32_t i = 0; i < n && !t->err; i++) {
        struct crd_result one = {0};
        validate(t, list[i], p, v, NULL, &one);
        if (!one.n) {
            if (!valid++)
                first = one;
            has_best = false;
        } else if (!valid && (!has_best || one.matches > best.matches)) {
            best = one;
            has_best = true;
        }
    }
    if (!n)
        return;
    if (valid == 1) {
        crd_merge(t, r, &first);
        return;
    }
    fail_logic(t, p, r,
               valid ? crd_format(t,
                                  "must validate one and only one schema (oneOf). Found %u valid "
                                  "alternatives",
                                  valid)
                           .p
                     : "must validate one and only one schema (oneOf). Found none valid");
    if (has_best)
        crd_merge(t, r, &best);
}

static void check_all(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                      const struct kl_value *v, struct crd_result *r)
{
    const uint32_t *list;
    uint32_t n = crd_list(t->s, node, CRD_ALL_OF, &list), valid = 0;
    for (uint32_t i = 0; i < n && !t->err; i++) {
        struct crd_result one = {0};
        validate(t, list[i], p, v, NULL, &one);
        valid += !one.n;
        crd_merge(t, r, &one);
    }
    if (valid != n)
        fail_logic(t, p, r,
                   valid ? "must validate all the schemas (allOf)"
                         : "must validate all the schemas (allOf). None validated");
}

static void check_logic(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                        const struct kl_value *v, struct crd_result *r)
{
    crd_ref not = crd_attr(t->s, node, CRD_NOT);
    check_any(t, node, p, v, r);
    check_one(t, node, p, v, r);
    check_all(t, node, p, v, r);
    if (not &&!t->err) {
        struct crd_result one = {0};
        validate(t, not, p, v, NULL, &one);
        if (!one.n)
            fail_logic(t, p, r, "must not validate the schema (not)");
    }
    r->matches++;
}

// ---- arrays
static bool has_doubles(const struct kl_value *v)
{
    for (uint32_t i = 0; i < v->n; i++)
        for (uint32_t k = 0; k < i; k++)
            if (kl_value_equal(&v->items[i], &v->items[k]))
                return true;
    return false;
}

static void check_count(struct crd_tree *t, crd_ref node, const struct crd_body *p, int64_t n,
                        bool items, struct crd_result *r)
{
    const char *what = items ? "items" : "properties";
    uint32_t at = crd_attr(t->s, node, items ? CRD_MIN_ITEMS : CRD_MIN_PROPERTIES);
    if (at && n < crd_int(t->s, at)) {
        struct kl_str path = crd_body_text(t, p);
        crd_add(t, r,
                (struct crd_tree_error){
                    .kind = CRD_E_INVALID,
                    .path = path,
                    .value = kl_int(n),
                    .text = crd_format(t, "%.*s in body should have at least %lld %s", KL_PRI(path),
                                       (long long)crd_int(t->s, at), what)});
    }
    at = crd_attr(t->s, node, items ? CRD_MAX_ITEMS : CRD_MAX_PROPERTIES);
    if (at && n > crd_int(t->s, at)) {
        struct kl_str path = crd_body_text(t, p);
        crd_add(t, r,
                (struct crd_tree_error){
                    .kind = CRD_E_TOO_MANY,
                    .path = path,
                    .is = n,
                    .max = crd_int(t->s, at),
                    .text = crd_format(t, "%.*s in body should have at most %lld %s", KL_PRI(path),
                                       (long long)crd_int(t->s, at), what)});
    }
}

static void check_array(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                        const struct kl_value *v, struct crd_pair *pair, struct crd_result *r)
{
    crd_ref items = crd_attr(t->s, node, CRD_ITEMS);
    for (uint32_t i = 0; items && i < v->n && !t->err; i++) {
        struct crd_body at = {.up = p, .index = i};
        struct crd_result one = {0};
        struct crd_pair below;
        bool has = pair && crd_pair_item(t->a, pair, &v->items[i], &below);
        validate(t, items, &at, &v->items[i], has ? &below : NULL, &one);
        crd_merge(t, r, &one);
    }
    check_count(t, node, p, v->n, true, r);
    if ((crd_flags(t->s, node) & CRD_UNIQUE) && has_doubles(v)) {
        struct kl_str path = crd_body_text(t, p);
        crd_add(
            t, r,
            (struct crd_tree_error){
                .kind = CRD_E_INVALID,
                .path = path,
                .text = crd_format(t, "%.*s in body shouldn't contain duplicates", KL_PRI(path))});
    }
    r->matches++;
}

// ---- objects
static void check_member(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                         const struct kl_value *key, bool extra, struct crd_pair *pair,
                         struct crd_result *r)
{
    struct kl_str name = kl_text(key);
    struct crd_body at = {.up = p, .name = name, .extra = extra};
    struct crd_result one = {0};
    struct crd_pair below;
    bool head = !p->up && (kl_str_eqz(name, "kind") || kl_str_eqz(name, "apiVersion"));
    bool has = pair && !head && crd_pair_key(pair, name, key + 1, &below);
    validate(t, node, &at, key + 1, has ? &below : NULL, &one);
    crd_merge(t, r, &one);
}

static void refuse_member(struct crd_tree *t, const struct crd_body *p, struct kl_str name,
                          struct crd_result *r)
{
    struct kl_str path = crd_body_text(t, p);
    crd_add(
        t, r,
        (struct crd_tree_error){.kind = CRD_E_INVALID,
                                .path = path,
                                .value = kl_string(name),
                                .text = crd_format(t, "%.*s.%.*s in body is a forbidden property",
                                                   KL_PRI(path), KL_PRI(name))});
}

static void check_object(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                         const struct kl_value *v, struct crd_pair *pair, struct crd_result *r)
{
    crd_ref extra = crd_attr(t->s, node, CRD_EXTRA);
    bool closed = crd_flags(t->s, node) & CRD_EXTRA_FALSE;
    const uint32_t *required;
    uint32_t nrequired = crd_list(t->s, node, CRD_REQUIRED, &required);
    check_count(t, node, p, v->n, false, r);
    // Upstream looks at undeclared members first.
    for (uint32_t i = 0; (closed || extra) && i < v->n && !t->err; i++) {
        const struct kl_value *key = &v->items[2 * (size_t)i];
        if (crd_prop(t->s, node, kl_text(key)))
            continue;
        if (closed)
            refuse_member(t, p, kl_text(key), r);
        else
            check_member(t, extra, p, key, true, pair, r);
    }
    for (uint32_t i = 0; i < v->n && !t->err; i++) {
        const struct kl_value *key = &v->items[2 * (size_t)i];
        crd_ref prop = crd_prop(t->s, node, kl_text(key));
        if (prop)
            check_member(t, prop, p, key, false, pair, r);
    }
    for (uint32_t i = 0; i < nrequired && !t->err; i++) {
        struct kl_str name = crd_text(t->s, required[i]);
        if (kl_map_value(v, name))
            continue;
        struct kl_str path =
            crd_body_text(t, &(struct crd_body){.up = p, .name = name, .extra = true});
        crd_add(t, r,
                (struct crd_tree_error){
                    .kind = CRD_E_REQUIRED,
                    .path = path,
                    .text = crd_format(t, "%.*s in body is required", KL_PRI(path))});
    }
}

// ---- a value
static void check_value(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                        const struct kl_value *v, struct crd_pair *pair, struct crd_result *r)
{
    bool typed = (crd_flags(t->s, node) & CRD_TYPES) || crd_attr(t->s, node, CRD_FORMAT);
    if (v->kind == KL_NULL) {
        check_type(t, node, p, v, r);
        if (crd_attr(t->s, node, CRD_ENUM))
            crd_check_enum(t, node, p, v, r);
        return;
    }
    if (typed) {
        check_type(t, node, p, v, r);
        r->matches++;
    }
    check_logic(t, node, p, v, r);
    if (v->kind == KL_STRING) {
        crd_check_string(t, node, p, v, r);
        r->matches++;
        if (crd_attr(t->s, node, CRD_FORMAT_KIND)) {
            crd_check_format(t, node, p, v, r);
            r->matches++;
        }
    } else if (v->kind == KL_INT || v->kind == KL_FLOAT) {
        crd_check_number(t, node, p, v, r);
        r->matches++;
    } else if (v->kind == KL_ARRAY) {
        check_array(t, node, p, v, pair, r);
        r->matches++;
    }
    if (crd_attr(t->s, node, CRD_ENUM))
        crd_check_enum(t, node, p, v, r);
    r->matches++;
    if (v->kind == KL_MAP) {
        check_object(t, node, p, v, pair, r);
        r->matches++;
    }
    r->matches += 2; // logic, and the whole
}

static void validate(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                     const struct kl_value *v, struct crd_pair *pair, struct crd_result *r)
{
    if (t->depth >= KL_CRD_DEPTH_MAX * 2) {
        t->err = KL_ELIMIT;
        return;
    }
    t->depth++;
    check_value(t, node, p, v, pair, r);
    t->depth--;
    // What was wrong before may stay.
    if (r->n && pair && crd_pair_equal(t->a, pair))
        r->n = 0;
}

// ---- findings
static bool find_enum(struct kl_findings *f, const struct crd_words *s, struct kl_str path,
                      const struct crd_tree_error *e)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    for (uint32_t i = 0; i < s->w[e->list]; i++) {
        kl_buf_puts(&b, i ? KL_STR(", ") : KL_STR("supported values: "));
        kl_go_quote(&b, crd_text(s, s->w[e->list + 2 + 2 * i]));
    }
    struct kl_str detail = kl_arena_dup(f->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return detail.p &&
           crd_find(f, "FieldValueNotSupported", path, crd_show(f->arena, &e->value), detail);
}

static bool find_error(struct kl_findings *f, const struct crd_words *s, const char *prefix,
                       const struct crd_tree_error *e)
{
    struct kl_str path = e->path, shown;
    if (path.n && path.p[0] == '.')
        path = kl_str_from(path, 1);
    if (e->kind == CRD_E_OTHER || !path.n)
        path = *prefix ? kl_str(prefix) : KL_STR("<nil>");
    else if (*prefix)
        path = kl_arena_printf(f->arena, "%s.%.*s", prefix, KL_PRI(path));
    switch (e->kind) {
    case CRD_E_OTHER:
        return crd_find(f, "FieldValueInvalid", path, KL_STR("\"\""), e->text);
    case CRD_E_REQUIRED:
        return crd_find(f, "FieldValueRequired", path, CRD_OMIT, KL_STR(""));
    case CRD_E_ENUM:
        return find_enum(f, s, path, e);
    case CRD_E_TOO_LONG:
        return crd_find(f, "FieldValueTooLong", path, CRD_OMIT,
                        kl_arena_printf(f->arena, "may not be more than %lld byte%s",
                                        (long long)e->max, e->max == 1 ? "" : "s"));
    case CRD_E_TOO_MANY:
        return crd_find(f, "FieldValueTooMany", path,
                        kl_arena_printf(f->arena, "%lld", (long long)e->is),
                        kl_arena_printf(f->arena, "must have at most %lld item%s",
                                        (long long)e->max, e->max == 1 ? "" : "s"));
    default:
        shown = e->value.kind == KL_NULL ? KL_STR("\"\"") : crd_show(f->arena, &e->value);
        return crd_find(f, e->kind == CRD_E_TYPE ? "FieldValueTypeInvalid" : "FieldValueInvalid",
                        path, shown, e->text);
    }
}

int crd_validate_tree(struct kl_findings *f, struct kl_crd_schema *cache, const struct crd_words *s,
                      crd_ref node, const char *prefix, const struct kl_value *v,
                      struct crd_pair *p)
{
    struct crd_tree t = {.a = f->arena, .cache = cache, .s = s};
    struct crd_body root = {.up = NULL};
    struct crd_result r = {0};
    if (!node)
        return 0;
    validate(&t, node, &root, v, p, &r);
    for (uint32_t i = 0; !t.err && i < r.n; i++)
        if (!find_error(f, s, prefix, &r.list[i]))
            t.err = KL_ENOMEM;
    return t.err;
}
