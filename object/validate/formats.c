// SPDX-License-Identifier: Apache-2.0
// Formats of strings and numbers with upstream's messages (apimachinery util/validation).
#include "object/validate/validate_int.h"
#include <ctype.h>

#define TOO_LONG(n) "must be no more than " #n " characters"
#define LABEL_RE "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
#define SUBDOMAIN_RE LABEL_RE "(\\." LABEL_RE ")*"
#define UNDERSCORE_RE "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"

static bool is_alnum(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9');
}

static bool all_of(struct kl_str s, const char *more)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_alnum(s.p[i]) && (!s.p[i] || !strchr(more, s.p[i])))
            return false;
    return s.n > 0;
}

static size_t port_name(struct kl_str s, const char *ret[])
{
    size_t n = 0;
    bool charset = s.n > 0, letter = false, doubled = false;
    for (size_t i = 0; i < s.n; i++) {
        char ch = s.p[i];
        charset &= (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '-';
        letter |= ch >= 'a' && ch <= 'z';
        doubled |= i && ch == '-' && s.p[i - 1] == '-';
    }
    if (s.n > 15)
        ret[n++] = TOO_LONG(15);
    if (!charset)
        ret[n++] = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
    if (!letter)
        ret[n++] = "must contain at least one letter (a-z)";
    if (doubled)
        ret[n++] = "must not contain consecutive hyphens";
    if (s.n && (s.p[0] == '-' || s.p[s.n - 1] == '-'))
        ret[n++] = "must not begin or end with a hyphen";
    return n;
}

static size_t env_name(struct kl_str s, const char *ret[])
{
    size_t n = 0;
    if (!s.n)
        ret[n++] = "environment variable name must be non-empty";
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] > '~' || s.p[i] == '=') {
            ret[n++] = "a valid environment variable name must consist only of printable ASCII "
                       "characters other than '='";
            break;
        }
    return n;
}

static size_t config_key(struct kl_str s, const char *ret[])
{
    size_t n = 0;
    if (s.n > 253)
        ret[n++] = TOO_LONG(253);
    if (!all_of(s, "-._"))
        ret[n++] = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
                   "(e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is "
                   "'[-._a-zA-Z0-9]+')";
    if (kl_str_eqz(s, "."))
        ret[n++] = "must not be '.'";
    else if (kl_str_eqz(s, ".."))
        ret[n++] = "must not be '..'";
    else if (kl_str_starts(s, KL_STR("..")))
        ret[n++] = "must not start with '..'";
    return n;
}

// UNDERSCORE_RE
static bool is_underscore_label(struct kl_str s)
{
    if (s.n && s.p[0] == '_')
        s = kl_str_from(s, 1);
    if (!s.n || s.p[0] == '_' || s.p[0] == '-' || s.p[s.n - 1] == '_' || s.p[s.n - 1] == '-')
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!(is_alnum(s.p[i]) && !(s.p[i] >= 'A' && s.p[i] <= 'Z')) && s.p[i] != '-' &&
            s.p[i] != '_')
            return false;
    return true;
}

static size_t underscore_subdomain(struct kl_str s, const char *ret[])
{
    size_t n = 0;
    struct kl_str rest = s, part;
    bool good = s.n > 0 && s.p[s.n - 1] != '.';
    while (good && kl_str_split(&rest, '.', &part))
        good = is_underscore_label(part);
    if (s.n > 253)
        ret[n++] = TOO_LONG(253);
    if (!good)
        ret[n++] = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric "
                   "characters, '_', '-' or '.', and must start and end with an alphanumeric "
                   "character (e.g. 'example.com', regex used for validation is '" UNDERSCORE_RE
                   "(\\." UNDERSCORE_RE ")*')";
    return n;
}

static size_t wildcard(struct kl_str s, const char *ret[])
{
    size_t n = 0;
    struct kl_str rest = kl_str_from(s, 2);
    if (s.n > 253)
        ret[n++] = TOO_LONG(253);
    struct kl_name_errors e;
    bool good = kl_str_starts(s, KL_STR("*.")) && rest.n;
    if (good && !kl_name_check(KL_NAME_DNS1123_SUBDOMAIN, rest, &e))
        for (size_t i = 0; i < e.n; i++)
            good &= kl_str_starts(kl_str(e.msg[i]), KL_STR("must be no more"));
    if (!good)
        ret[n++] =
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS "
            "subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and "
            "end with an alphanumeric character (e.g. '*.example.com', regex used for validation "
            "is '\\*\\." SUBDOMAIN_RE "')";
    return n;
}

static size_t percent(struct kl_str s, const char *ret[])
{
    bool good = s.n > 1 && s.p[s.n - 1] == '%';
    for (size_t i = 0; good && i + 1 < s.n; i++)
        good = s.p[i] >= '0' && s.p[i] <= '9';
    if (!good)
        ret[0] = "a valid percent string must be a numeric string followed by an ending '%' (e.g. "
                 "'1%',  or '93%', regex used for validation is '[0-9]+%')";
    return !good;
}

static size_t c_identifier(struct kl_str s, const char *ret[])
{
    bool good = all_of(s, "_") && !(s.p[0] >= '0' && s.p[0] <= '9');
    if (!good)
        ret[0] = "a valid C identifier must start with alphabetic character or '_', followed by a "
                 "string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or "
                 "'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
    return !good;
}

static size_t by_name(enum kl_name_format f, struct kl_str s, const char *ret[])
{
    struct kl_name_errors e;
    kl_name_check(f, s, &e);
    memcpy(ret, e.msg, e.n * sizeof *ret);
    return e.n;
}

// Declarative validation counts bytes where the rest says characters.
static size_t in_bytes(size_t n, struct kl_str s, size_t max, const char *msg, const char *ret[])
{
    if (s.n > max)
        ret[0] = msg; // the length is the first to be looked at
    return n;
}

size_t kl_v_messages(enum kl_v_format format, struct kl_str s, const char *ret[KL_V_MESSAGES])
{
    char low[256];
    switch (format) {
    case KL_V_LABEL:
        return by_name(KL_NAME_DNS1123_LABEL, s, ret);
    case KL_V_SUBDOMAIN:
        return by_name(KL_NAME_DNS1123_SUBDOMAIN, s, ret);
    case KL_V_LONG_NAME:
        return in_bytes(by_name(KL_NAME_DNS1123_SUBDOMAIN, s, ret), s, 253,
                        "must be no more than 253 bytes", ret);
    case KL_V_SHORT_NAME:
        return in_bytes(by_name(KL_NAME_DNS1123_LABEL, s, ret), s, 63,
                        "must be no more than 63 bytes", ret);
    case KL_V_DNS1035:
        return by_name(KL_NAME_DNS1035_LABEL, s, ret);
    case KL_V_PATH_SEGMENT:
        return by_name(KL_NAME_PATH_SEGMENT, s, ret);
    case KL_V_QUALIFIED:
        return by_name(KL_NAME_QUALIFIED, s, ret);
    case KL_V_LABEL_VALUE:
        return by_name(KL_NAME_LABEL_VALUE, s, ret);
    case KL_V_PORT_NAME:
        return port_name(s, ret);
    case KL_V_ENV_NAME:
        return env_name(s, ret);
    case KL_V_CONFIG_KEY:
        return config_key(s, ret);
    case KL_V_HEADER_NAME:
        if (all_of(s, "-"))
            return 0;
        ret[0] = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. "
                 "'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
        return 1;
    case KL_V_PERCENT:
        return percent(s, ret);
    case KL_V_SUBDOMAIN_UNDERSCORE:
        return underscore_subdomain(s, ret);
    case KL_V_WILDCARD:
        return wildcard(s, ret);
    case KL_V_C_IDENTIFIER:
        return c_identifier(s, ret);
    case KL_V_SUBDOMAIN_CASELESS:
        for (size_t i = 0; i < s.n && i < sizeof low; i++)
            low[i] = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] + 32) : s.p[i];
        return by_name(KL_NAME_DNS1123_SUBDOMAIN, s.n < sizeof low ? (struct kl_str){low, s.n} : s,
                       ret);
    case KL_V_LONG_NAME_CASELESS: {
        size_t n = 0;
        if (s.n > 253)
            ret[n++] = "must be no more than 253 bytes";
        const char *msg[KL_V_MESSAGES];
        struct kl_str head = s.n > 253 ? (struct kl_str){s.p, 253} : s;
        if (kl_v_messages(KL_V_SUBDOMAIN_CASELESS, head, msg))
            ret[n++] = "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or "
                       "'.', and must start and end with an alphanumeric character (e.g. "
                       "'Example.com', regex used for validation is '" SUBDOMAIN_RE "')";
        return n;
    }
    case KL_V_NO_CHECK:
    case KL_V_OWN:
        break;
    }
    return 0;
}

bool kl_v_format(struct kl_v *c, const struct kl_vpath *p, struct kl_str s, enum kl_v_format format)
{
    const char *msg[KL_V_MESSAGES];
    size_t n = format == KL_V_OWN ? c->name_rule(c, s, msg) : kl_v_messages(format, s, msg);
    for (size_t i = 0; i < n; i++)
        kl_v_invalid_str(c, p, s, msg[i]);
    return n == 0;
}

void kl_v_range(struct kl_v *c, const struct kl_vpath *p, int64_t i, int64_t lo, int64_t hi)
{
    if (i < lo || i > hi)
        kl_v_invalid_int(
            c, p, i,
            kl_v_text(c, "must be between %lld and %lld, inclusive", (long long)lo, (long long)hi));
}

void kl_v_port(struct kl_v *c, const struct kl_vpath *p, int64_t port)
{
    kl_v_range(c, p, port, 1, 65535);
}

void kl_v_port_or_name(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *v)
{
    if (kl_is(v, KL_STRING))
        kl_v_format(c, p, kl_text(v), KL_V_PORT_NAME);
    else
        kl_v_port(c, p, kl_int_or(v, 0));
}

void kl_v_nonnegative(struct kl_v *c, const struct kl_vpath *p, int64_t i)
{
    if (i < 0)
        kl_v_invalid_int(c, p, i, "must be greater than or equal to 0");
}

void kl_v_labels(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *map)
{
    for (KL_MAP_EACH_KEY(kv, map)) {
        kl_v_format(c, p, kl_text(kv), KL_V_QUALIFIED);
        kl_v_format(c, p, kl_text(kv + 1), KL_V_LABEL_VALUE);
    }
}

void kl_v_annotations(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *map)
{
    enum { MAX = 256 * 1024 };
    size_t total = 0;
    for (KL_MAP_EACH_KEY(kv, map)) {
        struct kl_str key = kl_text(kv);
        char low[512];
        for (size_t i = 0; i < key.n && i < sizeof low; i++)
            low[i] = key.p[i] >= 'A' && key.p[i] <= 'Z' ? (char)(key.p[i] + 32) : key.p[i];
        const char *msg[KL_V_MESSAGES];
        struct kl_str as = key.n < sizeof low ? (struct kl_str){low, key.n} : key;
        size_t n = kl_v_messages(KL_V_QUALIFIED, as, msg);
        for (size_t i = 0; i < n; i++)
            kl_v_invalid_str(c, p, key, msg[i]);
        total += key.n + kl_text(kv + 1).n;
    }
    if (total > MAX)
        kl_v_too_long(c, p, MAX);
}

void kl_v_domain_key(struct kl_v *c, const struct kl_vpath *p, struct kl_str key)
{
    if (!key.n)
        kl_v_required(c, p, "");
    else if (kl_v_format(c, p, key, KL_V_QUALIFIED) && kl_str_chr(key, '/') < 0)
        kl_v_invalid_str(c, p, key, "must be a domain-prefixed key (such as \"acme.io/foo\")");
}

static void check_requirement(struct kl_v *c, const struct kl_value *r, const struct kl_vpath *p)
{
    struct kl_str op = kl_text(kl_get(r, KL_F_operator));
    const struct kl_value *values = kl_get(r, KL_F_values);
    size_t i = 0;
    if (kl_str_eqz(op, "In") || kl_str_eqz(op, "NotIn")) {
        if (!kl_len(values))
            kl_v_required(c, F(p, values), "must be specified when `operator` is 'In' or 'NotIn'");
    } else if (kl_str_eqz(op, "Exists") || kl_str_eqz(op, "DoesNotExist")) {
        if (kl_len(values))
            kl_v_forbidden(c, F(p, values),
                           "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
    } else {
        kl_v_invalid_str(c, F(p, operator), op, "not a valid selector operator");
    }
    kl_v_format(c, F(p, key), kl_text(kl_get(r, KL_F_key)), KL_V_QUALIFIED);
    for (KL_EACH(v, values))
        kl_v_format(c, I(F(p, values), i++), kl_text(v), KL_V_LABEL_VALUE);
}

void kl_v_selector(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *selector)
{
    size_t i = 0;
    kl_v_labels(c, F(p, matchLabels), kl_get(selector, KL_F_matchLabels));
    for (KL_EACH(r, kl_get(selector, KL_F_matchExpressions)))
        check_requirement(c, r, I(F(p, matchExpressions), i++));
}

void kl_v_no_backsteps(struct kl_v *c, const struct kl_vpath *p, struct kl_str path)
{
    struct kl_str rest = path, part;
    while (kl_str_split(&rest, '/', &part))
        if (kl_str_eqz(part, "..")) {
            kl_v_invalid_str(c, p, path, "must not contain '..'");
            return;
        }
}

void kl_v_relative_path(struct kl_v *c, const struct kl_vpath *p, struct kl_str path)
{
    if (path.n && path.p[0] == '/')
        kl_v_invalid_str(c, p, path, "must be a relative path");
    kl_v_no_backsteps(c, p, path);
}

void kl_v_local_path(struct kl_v *c, const struct kl_vpath *p, struct kl_str path)
{
    kl_v_relative_path(c, p, path);
    if (kl_str_starts(path, KL_STR("..")) && !kl_str_starts(path, KL_STR("../")))
        kl_v_invalid_str(c, p, path, "must not start with '..'");
}

bool kl_v_in(struct kl_str s, const char *const *set)
{
    for (size_t i = 0; set[i]; i++)
        if (kl_str_eqz(s, set[i]))
            return true;
    return false;
}

void kl_v_immutable(struct kl_v *c, const struct kl_vpath *p, const struct kl_type *type,
                    const struct kl_value *now, const struct kl_value *old, bool internal)
{
    if (kl_value_equal(now, old))
        return;
    if (type)
        kl_v_invalid_json(c, p, type, now, internal, "field is immutable");
    else
        kl_v_invalid(c, p, now, "field is immutable");
}

static void check_reason(struct kl_v *c, const struct kl_vpath *p, struct kl_str s)
{
    char first = s.p[0], last = s.p[s.n - 1];
    bool good = all_of(s, "_,:") && is_alnum(first) && !(first >= '0' && first <= '9') &&
                (is_alnum(last) || last == '_');
    if (!good)
        kl_v_invalid_str(
            c, p, s,
            "a condition reason must start with alphabetic character, optionally followed by a "
            "string of alphanumeric characters or '_,:', and must end with an alphanumeric "
            "character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or "
            "'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is "
            "'[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')");
    if (s.n > 1024)
        kl_v_too_long(c, p, 1024);
}

void kl_v_conditions(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list)
{
    static const char *const statuses[] = {"False", "True", "Unknown", NULL};
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *v = kl_at(list, i);
        const struct kl_vpath *at = I(p, i);
        struct kl_str type = kl_text(kl_get(v, KL_F_type)),
                      reason = kl_text(kl_get(v, KL_F_reason));
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_type)), type)) {
                kl_v_duplicate(c, F(at, type), type);
                break;
            }
        kl_v_format(c, F(at, type), type, KL_V_QUALIFIED);
        if (!kl_v_in(kl_text(kl_get(v, KL_F_status)), statuses))
            kl_v_unsupported(c, F(at, status), kl_text(kl_get(v, KL_F_status)), statuses);
        int64_t generation = kl_int_at(v, 0, KL_F_observedGeneration);
        if (generation < 0)
            kl_v_invalid_int(c, F(at, observedGeneration), generation,
                             "must be greater than or equal to zero");
        if (!kl_get(v, KL_F_lastTransitionTime))
            kl_v_required(c, F(at, lastTransitionTime), "");
        if (!reason.n)
            kl_v_required(c, F(at, reason), "");
        else
            check_reason(c, F(at, reason), reason);
        if (kl_text(kl_get(v, KL_F_message)).n > 32 * 1024)
            kl_v_too_long(c, F(at, message), 32 * 1024);
    }
}
