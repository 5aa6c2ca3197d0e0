// SPDX-License-Identifier: Apache-2.0
// Untyped trees seen through a structural schema: formats become values of their own, lists that
// are maps or sets compare and add as such.
#include "object/cel/value_int.h"
#include "object/schema.h"
#include "object/timestamp.h"

static const char *go_type(const struct kl_value *v)
{
    static const char *const names[] = {[KL_NULL] = "<nil>",
                                        [KL_BOOL] = "bool",
                                        [KL_INT] = "int64",
                                        [KL_FLOAT] = "float64",
                                        [KL_TIME] = "string",
                                        [KL_STRING] = "string",
                                        [KL_BYTES] = "string",
                                        [KL_RAW] = "string",
                                        [KL_ARRAY] = "[]interface {}",
                                        [KL_STRUCT] = "map[string]interface {}",
                                        [KL_MAP] = "map[string]interface {}"};
    return names[v->kind];
}

static struct kl_cel_val bytes_of(struct kl_arena *a, struct kl_str s)
{
    unsigned char *out = kl_arena_alloc(a, s.n / 4 * 3 + 4);
    size_t n = 0;
    uint32_t bits = 0, have = 0;
    if (!out)
        return CEL_NO_MEMORY;
    struct kl_str text = s;
    while (text.n && text.p[text.n - 1] == '=')
        text.n--;
    for (size_t i = 0; i < text.n; i++) {
        static const char digits[] =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *at = text.p[i] ? strchr(digits, text.p[i]) : NULL;
        if (!at)
            return cel_errf(a, "Invalid byte formatted string %.*s: illegal base64 data",
                            KL_PRI(s));
        bits = bits << 6 | (uint32_t)(at - digits);
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (unsigned char)(bits >> have);
        }
    }
    return (struct kl_cel_val){.kind = KL_CEL_BYTES, .n = (uint32_t)n, .s = (char *)out};
}

static struct kl_cel_val date_of(struct kl_arena *a, struct kl_str s)
{
    struct kl_str full = kl_arena_printf(a, "%.*sT00:00:00Z", KL_PRI(s));
    struct kl_cel_val v;
    if (!full.p)
        return CEL_NO_MEMORY;
    return cel_time_parse(full, &v)
               ? v
               : cel_errf(a, "Invalid date formatted string %.*s: cannot parse", KL_PRI(s));
}

// strfmt takes "2006-01-02t15:04:05z" and times without a zone, too.
static struct kl_cel_val time_of(struct kl_arena *a, struct kl_str s)
{
    struct kl_cel_val v;
    if (cel_time_parse(s, &v))
        return v;
    struct kl_str upper = kl_arena_dup(a, s);
    if (!upper.p)
        return CEL_NO_MEMORY;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == 't' || s.p[i] == 'z')
            ((char *)upper.p)[i] = (char)(s.p[i] - 32);
    if (cel_time_parse(upper, &v))
        return v;
    struct kl_str zoned = kl_arena_printf(a, "%.*sZ", KL_PRI(upper));
    if (zoned.p && cel_time_parse(zoned, &v))
        return v;
    return cel_errf(a, "Invalid date-time formatted string %.*s: unable to parse date-time",
                    KL_PRI(s));
}

// strfmt's durations: Go's, and "3 days", "2w".
static struct kl_cel_val duration_of(struct kl_arena *a, struct kl_str s)
{
    static const struct {
        const char *unit;
        int64_t ns;
    } units[] = {{"w", 604800000000000},     {"wk", 604800000000000},  {"week", 604800000000000},
                 {"weeks", 604800000000000}, {"d", 86400000000000},    {"day", 86400000000000},
                 {"days", 86400000000000},   {"h", 3600000000000},     {"hr", 3600000000000},
                 {"hour", 3600000000000},    {"hours", 3600000000000}, {"m", 60000000000},
                 {"min", 60000000000},       {"minute", 60000000000},  {"minutes", 60000000000},
                 {"s", 1000000000},          {"sec", 1000000000},      {"second", 1000000000},
                 {"seconds", 1000000000}};
    struct kl_cel_val v = {.kind = KL_CEL_DURATION};
    if (!kl_duration_parse(s, &v.i))
        return v;
    size_t digits = 0;
    while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
        digits++;
    struct kl_str unit = kl_str_trim(kl_str_from(s, digits));
    int64_t count;
    if (digits && kl_str_to_i64((struct kl_str){s.p, digits}, &count))
        for (size_t i = 0; i < KL_COUNT(units); i++)
            if (kl_str_eqz(unit, units[i].unit) &&
                !__builtin_mul_overflow(count, units[i].ns, &v.i))
                return v;
    return cel_errf(a, "Invalid duration %.*s: unable to parse %.*s as duration", KL_PRI(s),
                    KL_PRI(s));
}

static struct kl_cel_val scalar(struct kl_arena *a, const struct kl_value *v,
                                const struct kl_cel_decl *d)
{
    struct kl_str s = kl_text(v);
    switch (d->type->kind) {
    case T_DOUBLE:
        if (v->kind == KL_INT)
            return kl_cel_double((double)v->i);
        return v->kind == KL_FLOAT
                   ? kl_cel_double(v->d)
                   : cel_errf(a, "invalid data, expected float, got %s", go_type(v));
    case T_INT:
        return v->kind == KL_INT ? cel_i(v->i)
                                 : cel_errf(a, "invalid data, expected int, got %s", go_type(v));
    case T_BOOL:
        return v->kind == KL_BOOL ? kl_cel_bool(v->b)
                                  : cel_errf(a, "invalid data, expected bool, got %s", go_type(v));
    default:
        break;
    }
    if (v->kind != KL_STRING)
        return cel_errf(a, "invalid data, expected string, got %s", go_type(v));
    switch (d->type->kind) {
    case T_DURATION:
        return duration_of(a, s);
    case T_TIMESTAMP:
        return d->flags & DF_DATE ? date_of(a, s) : time_of(a, s);
    case T_BYTES:
        return bytes_of(a, s);
    default:
        return cel_str(s);
    }
}

struct kl_cel_val cel_wrap_typed(struct kl_arena *a, const struct kl_value *v,
                                 const struct kl_cel_decl *d)
{
    struct kl_cel_val whole = {.form = F_TYPED, .p = v, .aux = d};
    if (!d || !(d->flags & DF_SCHEMA))
        return cel_wrap_node(a, v, NULL);
    if (!v || v->kind == KL_NULL)
        return d->flags & DF_NULLABLE
                   ? kl_cel_null()
                   : CEL_ERR("invalid data, got null for schema with nullable=false");
    if (d->flags & DF_INT_OR_STRING)
        return v->kind == KL_STRING ? cel_str(kl_text(v))
               : v->kind == KL_INT  ? cel_i(v->i)
                                    : CEL_ERR("invalid data, expected XIntOrString value to be "
                                               "either a string or integer");
    switch (d->shape) {
    case D_OBJECT:
    case D_MAP:
        if (v->kind != KL_MAP)
            return CEL_ERR("invalid data, expected a map for the provided schema with type=object");
        whole.kind = KL_CEL_MAP;
        return whole;
    case D_LIST:
        if (v->kind != KL_ARRAY)
            return CEL_ERR(
                "invalid data, expected an array for the provided schema with type=array");
        whole.kind = KL_CEL_LIST;
        return whole;
    default:
        break;
    }
    if (d->flags & DF_PRESERVE) {
        whole.kind = KL_CEL_OPAQUE;
        return whole;
    }
    return scalar(a, v, d);
}

struct kl_cel_val kl_cel_typed(struct kl_arena *a, const struct kl_value *v,
                               const struct kl_cel_decl *decl)
{
    return cel_wrap_typed(a, v, decl);
}

// The schema of a member by the property's own name.
static const struct kl_cel_decl *member_decl(const struct kl_cel_decl *d, struct kl_str key)
{
    if (d->shape == D_MAP)
        return d->elem;
    const struct decl_field *f = cel_decl_property(d, key);
    return f ? f->decl : NULL;
}

bool cel_typed_find(struct kl_arena *a, struct kl_cel_val map, struct kl_str key,
                    struct kl_cel_val *ret)
{
    const struct kl_cel_decl *d = map.aux;
    bool object = d->shape == D_OBJECT && !(d->flags & DF_UNKEYED);
    if (object && kl_cel_unescape(a, key, &key))
        return false;
    const struct kl_value *v = kl_map_value(map.p, key);
    if (!v || (object && v->kind == KL_NULL))
        return false;
    const struct kl_cel_decl *member = member_decl(d, key);
    if (!member)
        return false;
    *ret = cel_wrap_typed(a, v, member);
    return true;
}

// ---- equality
static const struct kl_value *raw(struct kl_cel_val v)
{
    return (v.kind == KL_CEL_LIST || v.kind == KL_CEL_MAP || v.kind == KL_CEL_OPAQUE) &&
                   (v.form == F_TYPED || v.form == F_NODE)
               ? v.p
               : NULL;
}

static struct kl_cel_val failed_or_false(struct kl_cel_val same)
{
    return same.kind == KL_CEL_BOOL && !same.b ? same : cel_is_error(same) ? same : cel_ok(false);
}

static bool is_yes(struct kl_cel_val v)
{
    return v.kind == KL_CEL_BOOL && v.b;
}

static struct kl_cel_val members_equal(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y)
{
    const struct kl_value *v = x.p, *other;
    const struct kl_cel_decl *d = x.aux;
    for (uint32_t i = 0; i < v->n; i++) {
        struct kl_str key = kl_text(&v->items[2 * i]);
        if (member_decl(d, key)) {
            struct kl_cel_val mine, theirs;
            bool has = cel_typed_find(a, x, key, &mine);
            if (has != cel_find(a, y, cel_str(key), &theirs))
                return cel_ok(false);
            struct kl_cel_val same = has ? cel_equal_bare(a, mine, theirs) : cel_ok(true);
            if (!is_yes(same))
                return failed_or_false(same);
        } else {
            if (y.form != F_TYPED)
                return CEL_NO_OVERLOAD;
            other = kl_map_value(y.p, key);
            if (other && !kl_value_equal(&v->items[2 * i + 1], other))
                return cel_ok(false);
        }
    }
    return cel_ok(true);
}

static bool same_keys(const struct kl_cel_decl *d, const struct kl_value *x,
                      const struct kl_value *y)
{
    for (uint32_t i = 0; i < d->nmap_keys; i++)
        if (!kl_value_equal(kl_map_value(x, d->map_keys[i]), kl_map_value(y, d->map_keys[i])))
            return false;
    return true;
}

// Where an element with the same keys (map) or the same value (set) is; -1. `hint` is tried first.
static ptrdiff_t partner(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val item,
                         size_t hint)
{
    const struct kl_cel_decl *d = x.aux;
    const struct kl_value *list = x.p, *other = raw(item);
    bool is_map = d->list_type == KL_LIST_MAP;
    if (is_map && (!other || other->kind != KL_MAP))
        return -1;
    for (size_t k = 0; k <= list->n; k++) {
        size_t i = k ? k - 1 : hint;
        if (i >= list->n)
            continue;
        if (is_map ? same_keys(d, &list->items[i], other) : cel_is_equal(a, cel_get(a, x, i), item))
            return (ptrdiff_t)i;
    }
    return -1;
}

static struct kl_cel_val lists_equal(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y)
{
    const struct kl_cel_decl *d = x.aux;
    size_t n = cel_count(x);
    for (size_t i = 0; i < n; i++) {
        struct kl_cel_val item = cel_get(a, y, i), same;
        if (d->list_type == KL_LIST_MAP || d->list_type == KL_LIST_SET) {
            ptrdiff_t at = partner(a, x, item, i);
            if (at < 0)
                return cel_ok(false);
            same = d->list_type == KL_LIST_SET ? cel_ok(true)
                                               : cel_equal_bare(a, cel_get(a, x, (size_t)at), item);
        } else {
            same = cel_equal_bare(a, cel_get(a, x, i), item);
        }
        if (!is_yes(same))
            return failed_or_false(same);
    }
    return cel_ok(true);
}

struct kl_cel_val cel_typed_equal(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y)
{
    if (x.kind == KL_CEL_OPAQUE) {
        const struct kl_value *other = raw(y);
        if (other)
            return cel_ok(kl_value_equal(x.p, other));
        return cel_ok(cel_is_equal(a, cel_wrap_node(a, x.p, NULL), y));
    }
    if (cel_count(x) != cel_count(y))
        return cel_ok(false);
    return x.kind == KL_CEL_LIST ? lists_equal(a, x, y) : members_equal(a, x, y);
}

// Elements with the keys or the value of one that is there replace it or are left out.
struct kl_cel_val cel_typed_list_add(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y)
{
    const struct kl_cel_decl *d = x.aux;
    size_t nx = cel_count(x), ny = cel_count(y);
    if (d->list_type != KL_LIST_MAP && d->list_type != KL_LIST_SET)
        return cel_list_concat(a, x, y);
    struct kl_cel_val *items = kl_arena_alloc(a, (nx + ny + 1) * sizeof *items);
    size_t n = nx;
    if (!items)
        return CEL_NO_MEMORY;
    for (size_t i = 0; i < nx; i++)
        items[i] = cel_get(a, x, i);
    for (size_t i = 0; i < ny; i++) {
        struct kl_cel_val item = cel_get(a, y, i);
        ptrdiff_t at = partner(a, x, item, SIZE_MAX);
        if (at < 0)
            items[n++] = item;
        else if (d->list_type == KL_LIST_MAP)
            items[at] = item;
    }
    return cel_list_of(items, n);
}
