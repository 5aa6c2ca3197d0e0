// SPDX-License-Identifier: Apache-2.0
// Validators of scalars (kube-openapi pkg/validation/validate: validator.go, values.go,
// formats.go).
#include "object/crd/tree_int.h"
#include "object/gotext_int.h"
#include <float.h>
#include <math.h>

bool crd_is_json_integer(double f)
{
    const double max = 9007199254740991.0, epsilon = 1e-9, smallest = 4.9406564584124654e-324;
    if (isnan(f) || isinf(f) || f < -max || f > max)
        return false;
    double g = f < 0 ? (double)(uint64_t)(int64_t)f : (double)(uint64_t)f;
    double diff = fabs(f - g), sum = fabs(f) + fabs(g);
    if (f == g || f == (double)(int64_t)f)
        return true;
    if (f == 0 || g == 0 || diff < smallest)
        return diff < epsilon * smallest;
    return diff / fmin(sum, DBL_MAX) < epsilon;
}

static double as_double(const struct kl_value *v)
{
    return v->kind == KL_FLOAT ? v->d : (double)v->i;
}

// Go's conversion of what is out of range is the smallest number on the machines upstream runs on.
static int64_t as_int(double d)
{
    return d >= -9223372036854775808.0 && d < 9223372036854775808.0 ? (int64_t)d : INT64_MIN;
}

// ---- numbers
struct number {
    struct crd_tree *t;
    const struct crd_body *p;
    uint32_t types;
    struct kl_str format;
    struct crd_result *r;
};

// IsValueValidAgainstRange
static bool fits(const struct kl_value *v, uint32_t types, struct kl_str format)
{
    if (types == CRD_INTEGER) {
        bool narrow = kl_str_eqz(format, "int32");
        if (v->kind == KL_FLOAT &&
            (v->d != trunc(v->d) || v->d < -9223372036854775808.0 || v->d >= 9223372036854775808.0))
            return false;
        int64_t i = v->kind == KL_FLOAT ? (int64_t)v->d : v->i;
        return !narrow || (i >= INT32_MIN && i <= INT32_MAX);
    }
    if (types == CRD_NUMBER && kl_str_eqz(format, "float"))
        // What rounds to no float32.
        return fabs(as_double(v)) < 340282356779733661637539395458142568448.0;
    return true;
}

static bool check_range(struct number *n, const struct kl_value *v, const char *what)
{
    if (fits(v, n->types, n->format))
        return true;
    const char *type = n->types == CRD_INTEGER ? "integer" : n->types == CRD_NUMBER ? "number" : "";
    struct kl_str path = crd_body_text(n->t, n->p);
    struct kl_str text =
        n->format.n ? crd_format(n->t, "%s value must be of type %s with format %.*s in %.*s", what,
                                 type, KL_PRI(n->format), KL_PRI(path))
                    : crd_format(n->t, "%s value must be of type %s (default format) in %.*s", what,
                                 type, KL_PRI(path));
    crd_add(n->t, n->r, (struct crd_tree_error){.kind = CRD_E_OTHER, .text = text});
    return false;
}

static void fail_number(struct number *n, const char *what, const struct kl_value *limit,
                        const struct kl_value *shown)
{
    struct kl_str path = crd_body_text(n->t, n->p), l = crd_number(n->t, limit);
    crd_add(n->t, n->r,
            (struct crd_tree_error){.kind = CRD_E_INVALID,
                                    .path = path,
                                    .value = *shown,
                                    .text = crd_format(n->t, "%.*s in body should be %s %.*s",
                                                       KL_PRI(path), what, KL_PRI(l))});
}

static void check_multiple(struct number *n, const struct kl_value *v, double factor)
{
    struct kl_value f = kl_float(factor), data = *v;
    bool native = check_range(n, &f, "MultipleOf") && v->kind == KL_INT;
    int64_t whole = as_int(factor);
    if (native)
        f = kl_int(whole);
    else
        data = kl_float(as_double(v));
    if (native ? whole <= 0 : factor <= 0) {
        struct kl_str path = crd_body_text(n->t, n->p), text = crd_number(n->t, &f);
        crd_add(n->t, n->r,
                (struct crd_tree_error){
                    .kind = CRD_E_INVALID,
                    .path = path,
                    .value = f,
                    .text = crd_format(n->t,
                                       "factor MultipleOf declared for %.*s must be positive: "
                                       "%.*s",
                                       KL_PRI(path), KL_PRI(text))});
        return;
    }
    bool ok = native       ? whole == 1 || v->i % whole == 0
              : factor < 1 ? crd_is_json_integer(1 / factor * data.d)
                           : crd_is_json_integer(data.d / factor);
    if (!ok)
        fail_number(n, "a multiple of", &f, &data);
}

static void check_limit(struct number *n, const struct kl_value *v, double limit, bool most,
                        bool exclusive)
{
    static const char *const words[2][2] = {{"greater than or equal to", "greater than"},
                                            {"less than or equal to", "less than"}};
    struct kl_value l = kl_float(limit), data = *v;
    bool out;
    if (check_range(n, &l, most ? "Maximum boundary" : "Minimum boundary") && v->kind == KL_INT) {
        l = kl_int(as_int(limit));
        out = most ? v->i > l.i : v->i < l.i;
        out |= exclusive && v->i == l.i;
    } else {
        data = kl_float(as_double(v));
        out = most ? data.d > limit : data.d < limit;
        out |= exclusive && data.d == limit;
    }
    if (out)
        fail_number(n, words[most][exclusive], &l, &data);
}

void crd_check_number(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                      const struct kl_value *v, struct crd_result *r)
{
    uint32_t flags = crd_flags(t->s, node), at;
    struct number n = {t, p, flags & CRD_TYPES, KL_STR(""), r};
    if (n.types == CRD_INTEGER || n.types == CRD_NUMBER)
        n.format = crd_attr_text(t->s, node, CRD_FORMAT);
    else
        n.types = 0;
    check_range(&n, v, "Checked");
    if ((at = crd_attr(t->s, node, CRD_MULTIPLE_OF)))
        check_multiple(&n, v, crd_double(t->s, at));
    if ((at = crd_attr(t->s, node, CRD_MIN)))
        check_limit(&n, v, crd_double(t->s, at), false, flags & CRD_EXCL_MIN);
    if ((at = crd_attr(t->s, node, CRD_MAX)))
        check_limit(&n, v, crd_double(t->s, at), true, flags & CRD_EXCL_MAX);
    r->matches++;
}

// ---- strings
static int64_t count_runes(struct kl_str s)
{
    int64_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

static void check_pattern(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                          const struct kl_value *v, struct crd_result *r)
{
    struct kl_str pattern = crd_attr_text(t->s, node, CRD_PATTERN), why;
    bool match;
    if (!pattern.n)
        return;
    int rc = crd_pattern_match(t->cache, pattern, kl_text(v), t->a, &match, &why);
    if (rc == KL_ENOMEM)
        t->err = rc;
    if (!rc && match)
        return;
    struct kl_str path = crd_body_text(t, p);
    struct kl_str text =
        rc ? crd_format(t, "%.*s in body should match '%.*s, but pattern is invalid: %.*s'",
                        KL_PRI(path), KL_PRI(pattern), KL_PRI(why))
           : crd_format(t, "%.*s in body should match '%.*s'", KL_PRI(path), KL_PRI(pattern));
    crd_add(
        t, r,
        (struct crd_tree_error){.kind = CRD_E_INVALID, .path = path, .value = *v, .text = text});
}

void crd_check_string(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                      const struct kl_value *v, struct crd_result *r)
{
    uint32_t max = crd_attr(t->s, node, CRD_MAX_LENGTH), min = crd_attr(t->s, node, CRD_MIN_LENGTH);
    int64_t n = max || min ? count_runes(kl_text(v)) : 0;
    if (max && n > crd_int(t->s, max)) {
        struct kl_str path = crd_body_text(t, p);
        crd_add(t, r,
                (struct crd_tree_error){
                    .kind = CRD_E_TOO_LONG,
                    .path = path,
                    .max = crd_int(t->s, max),
                    .text = crd_format(t, "%.*s in body should be at most %lld chars long",
                                       KL_PRI(path), (long long)crd_int(t->s, max))});
        return;
    }
    if (min && n < crd_int(t->s, min)) {
        struct kl_str path = crd_body_text(t, p);
        crd_add(t, r,
                (struct crd_tree_error){
                    .kind = CRD_E_INVALID,
                    .path = path,
                    .value = *v,
                    .text = crd_format(t, "%.*s in body should be at least %lld chars long",
                                       KL_PRI(path), (long long)crd_int(t->s, min))});
        return;
    }
    check_pattern(t, node, p, v, r);
}

void crd_check_format(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                      const struct kl_value *v, struct crd_result *r)
{
    enum crd_format kind = (enum crd_format)crd_attr(t->s, node, CRD_FORMAT_KIND);
    if (crd_format_valid(kind, kl_text(v), t->cache, t->a))
        return;
    struct kl_str path = crd_body_text(t, p), name = crd_attr_text(t->s, node, CRD_FORMAT);
    crd_add(t, r,
            (struct crd_tree_error){.kind = CRD_E_TYPE,
                                    .path = path,
                                    .value = *v,
                                    .text = crd_format(t, "%.*s in body must be of type %.*s: %.*s",
                                                       KL_PRI(path), KL_PRI(name),
                                                       KL_PRI(crd_quote(t->a, kl_text(v))))});
}

// ---- enums
// Upstream compares after Go's conversion: numbers lose their fraction, an integer becomes the
// string of its rune.
static bool equals_converted(const struct kl_value *v, const struct kl_value *one)
{
    if (v->kind == KL_INT && one->kind == KL_FLOAT)
        return (double)v->i == one->d;
    if (v->kind == KL_FLOAT && one->kind == KL_INT)
        return as_int(v->d) == one->i;
    return kl_value_equal(v, one);
}

static bool is_rune(const struct kl_value *v, struct kl_str s)
{
    char out[4];
    size_t n = 0;
    int64_t c = v->i;
    if (c < 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        c = 0xfffd;
    if (c < 0x80)
        out[n++] = (char)c;
    else if (c < 0x800)
        out[n++] = (char)(0xc0 | c >> 6);
    else if (c < 0x10000)
        out[n++] = (char)(0xe0 | c >> 12);
    else
        out[n++] = (char)(0xf0 | c >> 18);
    for (int shift = c < 0x80 ? -6 : c < 0x800 ? 0 : c < 0x10000 ? 6 : 12; shift >= 0; shift -= 6)
        out[n++] = (char)(0x80 | (c >> shift & 0x3f));
    return kl_str_eq(s, (struct kl_str){out, n});
}

void crd_check_enum(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                    const struct kl_value *v, struct crd_result *r)
{
    const uint32_t *list;
    uint32_t n = crd_list(t->s, node, CRD_ENUM, &list);
    struct kl_str all = KL_STR("");
    for (uint32_t i = 0; i < n; i++) {
        struct kl_str text = crd_text(t->s, list[2 * i + 1]);
        struct kl_value one;
        struct kl_error ignored;
        if (list[2 * i]) {
            if (v->kind == KL_STRING ? kl_str_eq(text, kl_text(v))
                                     : v->kind == KL_INT && is_rune(v, text))
                return;
            continue;
        }
        if (v->kind == KL_NULL || v->kind == KL_STRING)
            continue;
        if (kl_json_parse(t->a, text, NULL, &one, &ignored)) {
            t->err = KL_ENOMEM;
            return;
        }
        if (one.kind != KL_NULL && equals_converted(v, &one))
            return;
    }
    for (uint32_t i = 0; i < n && all.n < 4096; i++)
        all = crd_format(t, "%.*s%s%.*s", KL_PRI(all), i ? " " : "",
                         KL_PRI(crd_text(t->s, list[2 * i + 1])));
    struct kl_str path = crd_body_text(t, p);
    crd_add(t, r,
            (struct crd_tree_error){.kind = CRD_E_ENUM,
                                    .path = path,
                                    .value = *v,
                                    .list = crd_attr(t->s, node, CRD_ENUM),
                                    .text = crd_format(t, "%.*s in body should be one of [%.*s]",
                                                       KL_PRI(path), KL_PRI(all))});
}
