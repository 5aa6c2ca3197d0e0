// SPDX-License-Identifier: Apache-2.0
// What a YAML scalar means: the rules of go-yaml v2 (YAML 1.1), which sigs.k8s.io/yaml builds on.
#include "object/yaml_int.h"
#include "object/json_int.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_one_of(struct kl_str s, const char *const *words)
{
    for (; *words; words++)
        if (kl_str_eqz(s, *words))
            return true;
    return false;
}

static bool find_word(struct kl_str s, struct kl_value *ret)
{
    static const char *const yes[] = {"y",    "Y",    "yes", "Yes", "YES", "true",
                                      "True", "TRUE", "on",  "On",  "ON",  NULL};
    static const char *const no[] = {"n",     "N",     "no",  "No",  "NO",  "false",
                                     "False", "FALSE", "off", "Off", "OFF", NULL};
    static const char *const null[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const nan[] = {".nan", ".NaN", ".NAN", NULL};
    static const char *const inf[] = {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", NULL};
    static const char *const minus_inf[] = {"-.inf", "-.Inf", "-.INF", NULL};
    if (s.n > 5)
        return false;
    if (is_one_of(s, yes))
        *ret = kl_bool(true);
    else if (is_one_of(s, no))
        *ret = kl_bool(false);
    else if (is_one_of(s, null))
        *ret = kl_null();
    else if (is_one_of(s, nan))
        *ret = kl_float(NAN);
    else if (is_one_of(s, inf))
        *ret = kl_float(INFINITY);
    else if (is_one_of(s, minus_inf))
        *ret = kl_float(-INFINITY);
    else
        return false;
    return true;
}

// Go's strconv.ParseInt with base 0, and ParseUint where that overflows (a float for us, as JSON
// numbers above int64 are).
static bool parse_int(const char *z, struct kl_value *ret)
{
    bool minus = *z == '-';
    unsigned base = 10;
    if (*z == '-' || *z == '+')
        z++;
    if (!*z)
        return false;
    if (*z == '0') {
        char c = (char)(z[1] | 32);
        base = z[1] && z[2] ? (c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0) : 0;
        z += base ? 2 : 1;
        base = base ? base : 8;
    }
    uint64_t v = 0;
    for (; *z; z++) {
        unsigned d = *z >= '0' && *z <= '9'                 ? (unsigned)(*z - '0')
                     : (*z | 32) >= 'a' && (*z | 32) <= 'f' ? (unsigned)((*z | 32) - 'a' + 10)
                                                            : 99;
        if (d >= base || v > (UINT64_MAX - d) / base)
            return false;
        v = v * base + d;
    }
    if (minus && v <= (uint64_t)INT64_MAX + 1)
        *ret = kl_int((int64_t)-v);
    else if (!minus && v <= INT64_MAX)
        *ret = kl_int((int64_t)v);
    else if (!minus)
        *ret = kl_float((double)v);
    else
        return false;
    return true;
}

// [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?
static bool looks_like_float(const char *z)
{
    if (*z == '-' || *z == '+')
        z++;
    size_t whole = strspn(z, "0123456789"), fraction = 0;
    z += whole;
    if (*z == '.') {
        z++;
        fraction = strspn(z, "0123456789");
        z += fraction;
    }
    if (!whole && !fraction)
        return false;
    if ((*z | 32) == 'e') {
        z++;
        if (*z == '-' || *z == '+')
            z++;
        size_t digits = strspn(z, "0123456789");
        if (!digits)
            return false;
        z += digits;
    }
    return !*z;
}

static bool parse_float(const char *z, struct kl_value *ret)
{
    double d = looks_like_float(z) ? strtod(z, NULL) : INFINITY;
    if (isinf(d))
        return false;
    *ret = kl_float(d);
    return true;
}

// Numbers are short; what is longer than this is a string.
enum { NUMBER_MAX = 400 };

static bool parse_number(struct kl_str s, struct kl_value *ret)
{
    char z[NUMBER_MAX + 1];
    size_t n = 0;
    bool number_start = (s.p[0] >= '0' && s.p[0] <= '9') || s.p[0] == '-' || s.p[0] == '+';
    if (s.n > NUMBER_MAX || (!number_start && s.p[0] != '.'))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == 0 || (s.p[i] == '_' && !number_start))
            return false;
        else if (s.p[i] != '_')
            z[n++] = s.p[i];
    z[n] = 0;
    return (number_start && parse_int(z, ret)) || parse_float(z, ret);
}

static const char *short_tag(const struct kl_value *v)
{
    switch (v->kind) {
    case KL_NULL:
        return "!!null";
    case KL_BOOL:
        return "!!bool";
    case KL_INT:
        return "!!int";
    case KL_FLOAT:
        return "!!float";
    default:
        return "!!str";
    }
}

int kl_yaml_resolve(struct kl_arena *a, const char *tag, struct kl_str text, bool implicit,
                    struct kl_value *ret, struct kl_error *err)
{
    static const char prefix[] = "tag:yaml.org,2002:";
    struct kl_value v = kl_string(text);
    *ret = v;
    if (!tag && !implicit)
        return 0;
    const char *name =
        tag && strncmp(tag, prefix, sizeof(prefix) - 1) == 0 ? tag + sizeof(prefix) - 1 : tag;
    if (name && strcmp(name, "binary") == 0 && name != tag) {
        struct kl_str bytes;
        size_t bad;
        if (!kl_json_base64_decode(a, text, &bytes, &bad))
            return kl_error_set(err, KL_EBADREQUEST,
                                "yaml: !!binary value contains invalid base64 data");
        *ret = kl_string(bytes);
        return 0;
    }
    static const char *const known[] = {"bool", "int", "float", "null", "timestamp", NULL};
    if (name && (name == tag || !is_one_of(kl_str(name), known)))
        return 0; // !!str, or a tag of somebody's own
    if (!find_word(text, &v) && text.n)
        parse_number(text, &v);
    if (name && strcmp(name, "float") == 0 && v.kind == KL_INT)
        v = kl_float((double)v.i);
    if (name && strcmp(name, short_tag(&v) + 2) != 0 &&
        !(strcmp(name, "timestamp") == 0 && v.kind == KL_STRING))
        return kl_error_set(err, KL_EBADREQUEST, "yaml: cannot decode %s `%.*s` as a !!%s",
                            short_tag(&v), KL_PRI(text), name);
    *ret = v;
    return 0;
}

size_t kl_yaml_float_text(double d, bool single, char ret[64])
{
    char text[64];
    int digits = 1;
    for (; digits < 17; digits++) {
        snprintf(text, sizeof(text), "%.*e", digits - 1, d);
        if (single ? strtof(text, NULL) == (float)d : strtod(text, NULL) == d)
            break;
    }
    snprintf(text, sizeof(text), "%.*e", digits - 1, d);
    int exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent >= 6)
        return (size_t)snprintf(ret, 64, "%s", text);
    int places = digits - 1 - exponent;
    return (size_t)snprintf(ret, 64, "%.*f", places > 0 ? places : 0, d);
}

// One or two digits up to max.
static bool take_number(struct kl_str *s, unsigned max)
{
    unsigned v = 0, n = 0;
    for (; n < 2 && n < s->n && s->p[n] >= '0' && s->p[n] <= '9'; n++)
        v = v * 10 + (unsigned)(s->p[n] - '0');
    *s = kl_str_from(*s, n);
    return n && v <= max;
}

static bool take_char(struct kl_str *s, char c)
{
    if (!s->n || s->p[0] != c)
        return false;
    *s = kl_str_from(*s, 1);
    return true;
}

// The forms that go-yaml takes for timestamps: 2006-1-2, with a time behind a space, or with T and
// a zone.
static bool is_timestamp(struct kl_str s)
{
    if (s.n < 8)
        return false;
    for (int i = 0; i < 4; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    s = kl_str_from(s, 4);
    if (!take_char(&s, '-') || !take_number(&s, 12) || !take_char(&s, '-') || !take_number(&s, 31))
        return false;
    if (!s.n)
        return true;
    bool zoned = take_char(&s, 'T') || take_char(&s, 't');
    if (!zoned && !take_char(&s, ' '))
        return false;
    if (!take_number(&s, 23) || !take_char(&s, ':') || !take_number(&s, 59) ||
        !take_char(&s, ':') || !take_number(&s, 59))
        return false;
    if (take_char(&s, '.'))
        while (s.n && s.p[0] >= '0' && s.p[0] <= '9')
            s = kl_str_from(s, 1);
    if (!zoned || kl_str_eqz(s, "Z"))
        return !zoned ? !s.n : true;
    return (take_char(&s, '+') || take_char(&s, '-')) && take_number(&s, 23) &&
           take_char(&s, ':') && take_number(&s, 59) && !s.n;
}

// [-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?: numbers to other readers of YAML 1.1.
static bool is_base60(struct kl_str s)
{
    if (!take_char(&s, '-'))
        take_char(&s, '+');
    if (!s.n || s.p[0] == '_')
        return false;
    size_t n = 0, groups = 0;
    while (n < s.n && ((s.p[n] >= '0' && s.p[n] <= '9') || s.p[n] == '_'))
        n++;
    s = kl_str_from(s, n);
    for (; n && take_char(&s, ':'); groups++)
        if (!take_number(&s, 59))
            return false;
    if (groups && take_char(&s, '.'))
        while (s.n && ((s.p[0] >= '0' && s.p[0] <= '9') || s.p[0] == '_'))
            s = kl_str_from(s, 1);
    return groups && !s.n;
}

bool kl_yaml_is_plain(struct kl_str s)
{
    struct kl_value v;
    if (s.n == 0 || find_word(s, &v) || parse_number(s, &v) || is_timestamp(s))
        return false;
    // Not as go-yaml: a plain << would be read as a merge key.
    if (kl_str_eqz(s, "<<"))
        return false;
    return !is_base60(s);
}
