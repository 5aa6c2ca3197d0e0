// SPDX-License-Identifier: Apache-2.0
// Scalars: making them, their type names and sizes, order and conversions between them.
#include "object/cel/value_int.h"
#include "object/timestamp.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define MIN_SECONDS INT64_C(-62135596800)
#define MAX_SECONDS INT64_C(253402300799)

const char cel_no_memory[] = "out of memory";

struct kl_cel_val kl_cel_null(void)
{
    return (struct kl_cel_val){.kind = KL_CEL_NULL};
}

struct kl_cel_val kl_cel_bool(bool b)
{
    return cel_ok(b);
}

struct kl_cel_val kl_cel_int(int64_t i)
{
    return cel_i(i);
}

struct kl_cel_val kl_cel_uint(uint64_t u)
{
    return (struct kl_cel_val){.kind = KL_CEL_UINT, .u = u};
}

struct kl_cel_val kl_cel_double(double d)
{
    return (struct kl_cel_val){.kind = KL_CEL_DOUBLE, .d = d};
}

struct kl_cel_val kl_cel_string(struct kl_str s)
{
    return cel_str(s);
}

struct kl_cel_val kl_cel_error(struct kl_str message)
{
    return (struct kl_cel_val){.kind = KL_CEL_ERROR, .n = (uint32_t)message.n, .s = message.p};
}

struct kl_cel_val kl_cel_none(void)
{
    return (struct kl_cel_val){.kind = KL_CEL_OPTIONAL};
}

struct kl_cel_val kl_cel_optional(struct kl_arena *a, struct kl_cel_val v)
{
    struct kl_cel_val *kept = kl_arena_alloc(a, sizeof *kept);
    if (!kept)
        return CEL_NO_MEMORY;
    *kept = v;
    return (struct kl_cel_val){.kind = KL_CEL_OPTIONAL, .p = kept};
}

struct kl_cel_val cel_errf(struct kl_arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str s = kl_arena_vprintf(a, fmt, ap);
    va_end(ap);
    return s.p ? kl_cel_error(s) : CEL_NO_MEMORY;
}

struct kl_str kl_cel_text(struct kl_cel_val v)
{
    bool has = v.kind == KL_CEL_STRING || v.kind == KL_CEL_BYTES || v.kind == KL_CEL_ERROR ||
               v.kind == KL_CEL_TYPE;
    return has ? cel_text(v) : KL_STR("");
}

struct kl_str cel_kind_name(struct kl_cel_val v)
{
    static const char *const names[] = {
        [KL_CEL_ERROR] = "error",
        [KL_CEL_NULL] = "null_type",
        [KL_CEL_BOOL] = "bool",
        [KL_CEL_INT] = "int",
        [KL_CEL_UINT] = "uint",
        [KL_CEL_DOUBLE] = "double",
        [KL_CEL_STRING] = "string",
        [KL_CEL_BYTES] = "bytes",
        [KL_CEL_TIMESTAMP] = "google.protobuf.Timestamp",
        [KL_CEL_DURATION] = "google.protobuf.Duration",
        [KL_CEL_LIST] = "list",
        [KL_CEL_MAP] = "map",
        [KL_CEL_TYPE] = "type",
        [KL_CEL_OPTIONAL] = "optional_type",
        [KL_CEL_OPAQUE] = "unknown",
        [KL_CEL_IP] = "net.IP",
        [KL_CEL_CIDR] = "net.CIDR",
        [KL_CEL_URL] = "kubernetes.URL",
        [KL_CEL_QUANTITY] = "kubernetes.Quantity",
        [KL_CEL_SEMVER] = "kubernetes.Semver",
        [KL_CEL_FORMAT] = "kubernetes.NamedFormat",
        [KL_CEL_AUTHORIZER] = "kubernetes.authorization.Authorizer",
        [KL_CEL_PATH_CHECK] = "kubernetes.authorization.PathCheck",
        [KL_CEL_GROUP_CHECK] = "kubernetes.authorization.GroupCheck",
        [KL_CEL_RESOURCE_CHECK] = "kubernetes.authorization.ResourceCheck",
        [KL_CEL_DECISION] = "kubernetes.authorization.Decision",
        [KL_CEL_JSON_PATCH] = "JSONPatch",
        [KL_CEL_OBJECT] = "Object",
    };
    if (v.kind == KL_CEL_OBJECT)
        return ((const struct cel_object *)v.p)->type;
    if (v.kind == KL_CEL_MAP && v.form == F_LAZY)
        return KL_STR("kubernetes.variables");
    return kl_str(names[v.kind]);
}

const char *cel_go_type(struct kl_cel_val v)
{
    static const char *const names[] = {
        [KL_CEL_ERROR] = "*types.Err",          [KL_CEL_NULL] = "types.Null",
        [KL_CEL_BOOL] = "types.Bool",           [KL_CEL_INT] = "types.Int",
        [KL_CEL_UINT] = "types.Uint",           [KL_CEL_DOUBLE] = "types.Double",
        [KL_CEL_STRING] = "types.String",       [KL_CEL_BYTES] = "types.Bytes",
        [KL_CEL_TIMESTAMP] = "types.Timestamp", [KL_CEL_DURATION] = "types.Duration",
        [KL_CEL_LIST] = "*types.baseList",      [KL_CEL_MAP] = "*types.baseMap",
        [KL_CEL_TYPE] = "*types.Type",          [KL_CEL_OPTIONAL] = "*types.Optional",
    };
    return v.kind < KL_COUNT(names) ? names[v.kind] : "*cel.Object";
}

size_t cel_put_rune(char out[4], uint32_t r)
{
    if (r < 0x80) {
        out[0] = (char)r;
        return 1;
    }
    if (r < 0x800) {
        out[0] = (char)(0xc0 | r >> 6);
        out[1] = (char)(0x80 | (r & 63));
        return 2;
    }
    if (r < 0x10000) {
        out[0] = (char)(0xe0 | r >> 12);
        out[1] = (char)(0x80 | (r >> 6 & 63));
        out[2] = (char)(0x80 | (r & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | r >> 18);
    out[1] = (char)(0x80 | (r >> 12 & 63));
    out[2] = (char)(0x80 | (r >> 6 & 63));
    out[3] = (char)(0x80 | (r & 63));
    return 4;
}

uint32_t cel_rune(struct kl_str s, size_t *i)
{
    const unsigned char *p = (const unsigned char *)s.p + *i;
    size_t left = s.n - *i, n;
    uint32_t r = p[0];
    if (r < 0x80) {
        (*i)++;
        return r;
    }
    n = r >= 0xf0 && r < 0xf5 ? 4 : r >= 0xe0 && r < 0xf0 ? 3 : r >= 0xc2 && r < 0xe0 ? 2 : 0;
    (*i)++;
    if (!n || left < n)
        return 0xfffd;
    r &= n == 4 ? 7 : n == 3 ? 15 : 31;
    for (size_t k = 1; k < n; k++) {
        if ((p[k] & 0xc0) != 0x80)
            return 0xfffd;
        r = r << 6 | (p[k] & 63);
    }
    if ((n == 3 && (r < 0x800 || (r >= 0xd800 && r < 0xe000))) ||
        (n == 4 && (r < 0x10000 || r > 0x10ffff)))
        return 0xfffd;
    *i += n - 1;
    return r;
}

size_t cel_rune_count(struct kl_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; n++)
        cel_rune(s, &i);
    return n;
}

uint64_t cel_size(struct kl_cel_val v, bool optionals)
{
    switch (v.kind) {
    case KL_CEL_STRING:
        return cel_rune_count(cel_text(v));
    case KL_CEL_BYTES:
        return v.n;
    case KL_CEL_LIST:
    case KL_CEL_MAP:
        return cel_count(v);
    case KL_CEL_IP:
        return ((const struct cel_ip *)v.p)->len;
    case KL_CEL_CIDR:
        return (((const struct cel_ip *)v.p)->bits + 7u) / 8;
    case KL_CEL_OPTIONAL:
        return optionals && v.p ? cel_size(*(const struct kl_cel_val *)v.p, true) : 1;
    default:
        return 1;
    }
}

// ---- order
static int sign(bool less, bool greater)
{
    return greater - less;
}

static int double_cmp(double a, double b)
{
    return sign(a<b, a> b);
}

static int double_int(double d, int64_t i)
{
    if (d < -0x1p63)
        return -1;
    return d > 0x1p63 ? 1 : double_cmp(d, (double)i);
}

static int double_uint(double d, uint64_t u)
{
    if (d < 0)
        return -1;
    return d > 0x1p64 ? 1 : double_cmp(d, (double)u);
}

static int int_uint(int64_t i, uint64_t u)
{
    if (i < 0 || u > INT64_MAX)
        return -1;
    return sign((uint64_t)i<u, (uint64_t)i> u);
}

static bool is_number(struct kl_cel_val v)
{
    return v.kind == KL_CEL_INT || v.kind == KL_CEL_UINT || v.kind == KL_CEL_DOUBLE;
}

// Numbers of any two types; NaN is the caller's.
static int number_cmp(struct kl_cel_val x, struct kl_cel_val y)
{
    if (x.kind == KL_CEL_DOUBLE)
        return y.kind == KL_CEL_DOUBLE ? double_cmp(x.d, y.d)
               : y.kind == KL_CEL_INT  ? double_int(x.d, y.i)
                                       : double_uint(x.d, y.u);
    if (y.kind == KL_CEL_DOUBLE)
        return -number_cmp(y, x);
    if (x.kind == KL_CEL_INT)
        return y.kind == KL_CEL_INT ? sign(x.i<y.i, x.i> y.i) : int_uint(x.i, y.u);
    return y.kind == KL_CEL_UINT ? sign(x.u<y.u, x.u> y.u) : -int_uint(y.i, x.u);
}

static bool is_nan(struct kl_cel_val v)
{
    return v.kind == KL_CEL_DOUBLE && isnan(v.d);
}

bool cel_comparable(struct kl_cel_val v)
{
    return v.kind >= KL_CEL_BOOL && v.kind <= KL_CEL_DURATION;
}

struct kl_cel_val cel_compare(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y)
{
    int c = 0;
    if (is_number(x)) {
        if (is_nan(x))
            return CEL_ERR("NaN values cannot be ordered");
        if (!is_number(y))
            return CEL_NO_OVERLOAD;
        if (is_nan(y))
            return CEL_ERR("NaN values cannot be ordered");
        return cel_i(number_cmp(x, y));
    }
    if (x.kind != y.kind || !cel_comparable(x))
        return CEL_NO_OVERLOAD;
    switch (x.kind) {
    case KL_CEL_BOOL:
        c = x.b - y.b;
        break;
    case KL_CEL_TIMESTAMP:
        c = sign(x.i<y.i, x.i> y.i);
        c = c ? c : sign(x.n<y.n, x.n> y.n);
        break;
    case KL_CEL_DURATION:
        c = sign(x.i<y.i, x.i> y.i);
        break;
    default:
        c = kl_str_cmp(cel_text(x), cel_text(y));
        break;
    }
    return cel_i(sign(c<0, c> 0));
}

bool cel_numbers_equal(struct kl_cel_val x, struct kl_cel_val y)
{
    return is_number(y) && !is_nan(x) && !is_nan(y) && number_cmp(x, y) == 0;
}

bool cel_is_zero(struct kl_cel_val v, bool *ret_zero)
{
    *ret_zero = false;
    switch (v.kind) {
    case KL_CEL_NULL:
        *ret_zero = true;
        break;
    case KL_CEL_BOOL:
        *ret_zero = !v.b;
        break;
    case KL_CEL_INT:
    case KL_CEL_UINT:
    case KL_CEL_DURATION:
        *ret_zero = v.i == 0;
        break;
    case KL_CEL_DOUBLE:
        *ret_zero = v.d == 0;
        break;
    case KL_CEL_STRING:
    case KL_CEL_BYTES:
        *ret_zero = v.n == 0;
        break;
    case KL_CEL_LIST:
    case KL_CEL_MAP:
        if (v.form == F_TYPED)
            return false;
        *ret_zero = cel_count(v) == 0;
        break;
    case KL_CEL_TIMESTAMP:
        *ret_zero = v.i == MIN_SECONDS && v.n == 0;
        break;
    case KL_CEL_OBJECT:
        *ret_zero = ((const struct cel_object *)v.p)->fields.n == 0;
        break;
    default:
        return false;
    }
    return true;
}

// ---- conversions
static struct kl_cel_val no_conversion(struct kl_arena *a, struct kl_cel_val v, enum type_kind to)
{
    struct kl_str from = cel_kind_name(v);
    return cel_errf(a, "type conversion error from '%.*s' to '%.*s'", KL_PRI(from),
                    KL_PRI(cel_types[to].name));
}

static bool parse_bool(struct kl_str s, bool *ret)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};
    for (int i = 0; i < 6; i++)
        if (kl_str_eqz(s, yes[i]) || kl_str_eqz(s, no[i])) {
            *ret = kl_str_eqz(s, yes[i]);
            return true;
        }
    return false;
}

static bool plain_int(struct kl_str s, int64_t *ret)
{
    if (s.n > 1 && s.p[0] == '+')
        return s.p[1] != '-' && kl_str_to_i64(kl_str_from(s, 1), ret);
    return kl_str_to_i64(s, ret);
}

static struct kl_cel_val from_string(struct kl_arena *a, struct kl_cel_val v, enum type_kind to)
{
    struct kl_str s = cel_text(v);
    struct kl_cel_val r = {0};
    switch (to) {
    case T_INT:
        if (plain_int(s, &r.i))
            return cel_i(r.i);
        break;
    case T_UINT:
        if (kl_str_to_u64(s, &r.u))
            return kl_cel_uint(r.u);
        break;
    case T_DOUBLE:
        if (cel_parse_double(s, &r.d))
            return kl_cel_double(r.d);
        break;
    case T_BOOL:
        if (parse_bool(s, &r.b))
            return kl_cel_bool(r.b);
        break;
    case T_BYTES:
        v.kind = KL_CEL_BYTES;
        return v;
    case T_DURATION:
        r.kind = KL_CEL_DURATION;
        if (!kl_duration_parse(s, &r.i))
            return r;
        break;
    case T_TIMESTAMP:
        if (cel_time_parse(s, &r))
            return r.i < MIN_SECONDS || r.i > MAX_SECONDS ? CEL_ERR("timestamp overflow") : r;
        break;
    case T_STRING:
        return v;
    default:
        break;
    }
    return no_conversion(a, v, to);
}

static struct kl_cel_val from_double(struct kl_arena *a, struct kl_cel_val v, enum type_kind to)
{
    if (to == T_INT)
        return isnan(v.d) || v.d <= -0x1p63 || v.d >= 0x1p63 ? CEL_ERR("integer overflow")
                                                             : cel_i((int64_t)v.d);
    if (to == T_UINT)
        return isnan(v.d) || v.d < 0 || v.d >= 0x1p64 ? CEL_ERR("unsigned integer overflow")
                                                      : kl_cel_uint((uint64_t)v.d);
    return to == T_DOUBLE   ? v
           : to == T_STRING ? cel_str(cel_double_g(a, v.d))
                            : no_conversion(a, v, to);
}

static struct kl_cel_val printed(struct kl_arena *a, struct kl_str s)
{
    return s.p ? cel_str(s) : CEL_NO_MEMORY;
}

static struct kl_cel_val from_int(struct kl_arena *a, struct kl_cel_val v, enum type_kind to)
{
    bool is_uint = v.kind == KL_CEL_UINT;
    switch (to) {
    case T_INT:
        if (is_uint && v.u > INT64_MAX)
            return CEL_ERR("integer overflow");
        return cel_i(v.i);
    case T_UINT:
        if (!is_uint && v.i < 0)
            return CEL_ERR("unsigned integer overflow");
        return kl_cel_uint(v.u);
    case T_DOUBLE:
        return kl_cel_double(is_uint ? (double)v.u : (double)v.i);
    case T_STRING:
        return printed(a, is_uint ? kl_arena_printf(a, "%llu", (unsigned long long)v.u)
                                  : kl_arena_printf(a, "%lld", (long long)v.i));
    case T_TIMESTAMP:
        if (is_uint)
            break;
        if (v.i < MIN_SECONDS || v.i > MAX_SECONDS)
            return CEL_ERR("timestamp overflow");
        return (struct kl_cel_val){.kind = KL_CEL_TIMESTAMP, .i = v.i};
    default:
        break;
    }
    return no_conversion(a, v, to);
}

struct kl_cel_val cel_convert(struct kl_arena *a, struct kl_cel_val v, enum type_kind to)
{
    switch (v.kind) {
    case KL_CEL_STRING:
        return from_string(a, v, to);
    case KL_CEL_DOUBLE:
        return from_double(a, v, to);
    case KL_CEL_INT:
    case KL_CEL_UINT:
        return from_int(a, v, to);
    case KL_CEL_BOOL:
        return to == T_BOOL     ? v
               : to == T_STRING ? cel_str(v.b ? KL_STR("true") : KL_STR("false"))
                                : no_conversion(a, v, to);
    case KL_CEL_BYTES:
        if (to == T_BYTES)
            return v;
        if (to != T_STRING)
            return no_conversion(a, v, to);
        if (!kl_utf8_valid(cel_text(v)))
            return CEL_ERR("invalid UTF-8 in bytes, cannot convert to string");
        v.kind = KL_CEL_STRING;
        return v;
    case KL_CEL_NULL:
        return to == T_STRING ? cel_str(KL_STR("null")) : no_conversion(a, v, to);
    case KL_CEL_TYPE:
        v.kind = KL_CEL_STRING;
        return to == T_STRING ? v : no_conversion(a, v, to);
    case KL_CEL_TIMESTAMP:
        return to == T_TIMESTAMP ? v
               : to == T_INT     ? cel_i(v.i)
               : to == T_STRING  ? printed(a, cel_time_text(a, v))
                                 : no_conversion(a, v, to);
    case KL_CEL_DURATION:
        if (to == T_DURATION)
            return v;
        if (to == T_INT)
            return cel_i(v.i);
        if (to == T_STRING) {
            struct kl_str s =
                cel_double_f(a, (double)(v.i / 1000000000) + (double)(v.i % 1000000000) / 1e9);
            return printed(a, kl_arena_printf(a, "%.*ss", KL_PRI(s)));
        }
        return no_conversion(a, v, to);
    case KL_CEL_IP:
    case KL_CEL_CIDR:
        return to == T_STRING ? printed(a, cel_ip_text(a, v.p, v.kind == KL_CEL_CIDR))
                              : no_conversion(a, v, to);
    default:
        return no_conversion(a, v, to);
    }
}
