// SPDX-License-Identifier: Apache-2.0
#include "object/names.h"

#define LABEL_FMT "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
#define SUBDOMAIN_FMT LABEL_FMT "(\\." LABEL_FMT ")*"
#define KEY_FMT "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
#define TOO_LONG_63 "must be no more than 63 characters"
#define TOO_LONG_253 "must be no more than 253 characters"
// what newer code upstream says, which labels go through
#define TOO_LONG_63_BYTES "must be no more than 63 bytes"
#define TOO_LONG_253_BYTES "must be no more than 253 bytes"
#define NOT_LABEL                                                                                  \
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "   \
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex "     \
    "used for validation is '" LABEL_FMT "')"
#define NOT_SUBDOMAIN                                                                              \
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "   \
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "  \
    "for validation is '" SUBDOMAIN_FMT "')"
#define NOT_DNS1035                                                                                \
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "   \
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or "           \
    "'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
#define NOT_KEY                                                                                    \
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "    \
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "         \
    "validation is '" KEY_FMT "')"
#define NOT_VALUE                                                                                  \
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "    \
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',"  \
    "  or '12345', regex used for validation is '(" KEY_FMT ")?')"

enum { MAX_LABEL = 63, MAX_SUBDOMAIN = 253 };

// Which formats a byte may stand in.
enum {
    LOWER = 1,
    DIGIT = 2,
    UPPER = 4,
    ALNUM_LOWER = LOWER | DIGIT,
    ALNUM = LOWER | DIGIT | UPPER
};

static inline int class_of(char c)
{
    if (c >= 'a' && c <= 'z')
        return LOWER;
    if (c >= '0' && c <= '9')
        return DIGIT;
    return c >= 'A' && c <= 'Z' ? UPPER : 0;
}

// [a-z0-9]([-a-z0-9]*[a-z0-9])?
static bool is_label(struct kl_str s)
{
    if (s.n == 0 || !(class_of(s.p[0]) & ALNUM_LOWER) || !(class_of(s.p[s.n - 1]) & ALNUM_LOWER))
        return false;
    for (size_t i = 1; i + 1 < s.n; i++)
        if (s.p[i] != '-' && !(class_of(s.p[i]) & ALNUM_LOWER))
            return false;
    return true;
}

static bool is_subdomain(struct kl_str s)
{
    struct kl_str part;
    if (s.n == 0 || s.p[s.n - 1] == '.')
        return false;
    while (kl_str_split(&s, '.', &part))
        if (!is_label(part))
            return false;
    return true;
}

// ([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]
static bool is_key_name(struct kl_str s)
{
    if (s.n == 0 || !(class_of(s.p[0]) & ALNUM) || !(class_of(s.p[s.n - 1]) & ALNUM))
        return false;
    for (size_t i = 1; i + 1 < s.n; i++)
        if (s.p[i] != '-' && s.p[i] != '_' && s.p[i] != '.' && !(class_of(s.p[i]) & ALNUM))
            return false;
    return true;
}

static void add_error(struct kl_name_errors *errs, const char *msg)
{
    if (errs->n < KL_NAME_ERRORS_MAX)
        errs->msg[errs->n++] = msg;
}

static void check_qualified(struct kl_str s, struct kl_name_errors *errs)
{
    ptrdiff_t slash = kl_str_chr(s, '/');
    struct kl_str name = s;
    if (slash >= 0) {
        struct kl_str prefix = {s.p, (size_t)slash};
        name = kl_str_from(s, (size_t)slash + 1);
        if (kl_str_chr(name, '/') >= 0) {
            add_error(errs, "a valid label key " NOT_KEY
                            " with an optional DNS subdomain prefix and '/' (e.g. "
                            "'example.com/MyName')");
            return;
        }
        if (prefix.n == 0) {
            add_error(errs, "prefix part must be non-empty");
        } else {
            if (prefix.n > MAX_SUBDOMAIN)
                add_error(errs, "prefix part " TOO_LONG_253_BYTES);
            if (!is_subdomain(prefix))
                add_error(errs, "prefix part " NOT_SUBDOMAIN);
        }
    }
    if (name.n == 0)
        add_error(errs, "name part must be non-empty");
    else if (name.n > MAX_LABEL)
        add_error(errs, "name part " TOO_LONG_63_BYTES);
    if (!is_key_name(name))
        add_error(errs, "name part " NOT_KEY);
}

static void check_path_segment(struct kl_str s, struct kl_name_errors *errs)
{
    if (kl_str_eq(s, KL_STR("."))) {
        add_error(errs, "may not be '.'");
        return;
    }
    if (kl_str_eq(s, KL_STR(".."))) {
        add_error(errs, "may not be '..'");
        return;
    }
    if (kl_str_chr(s, '/') >= 0)
        add_error(errs, "may not contain '/'");
    if (kl_str_chr(s, '%') >= 0)
        add_error(errs, "may not contain '%'");
}

bool kl_name_check(enum kl_name_format format, struct kl_str s, struct kl_name_errors *ret)
{
    ret->n = 0;
    switch (format) {
    case KL_NAME_DNS1123_LABEL:
        if (s.n > MAX_LABEL)
            add_error(ret, TOO_LONG_63);
        if (!is_label(s))
            add_error(ret, is_subdomain(s) ? "must not contain dots" : NOT_LABEL);
        break;
    case KL_NAME_DNS1123_SUBDOMAIN:
        if (s.n > MAX_SUBDOMAIN)
            add_error(ret, TOO_LONG_253);
        if (!is_subdomain(s))
            add_error(ret, NOT_SUBDOMAIN);
        break;
    case KL_NAME_DNS1035_LABEL:
        if (s.n > MAX_LABEL)
            add_error(ret, TOO_LONG_63);
        if (!is_label(s) || class_of(s.p[0]) != LOWER)
            add_error(ret, NOT_DNS1035);
        break;
    case KL_NAME_PATH_SEGMENT:
        check_path_segment(s, ret);
        break;
    case KL_NAME_QUALIFIED:
        check_qualified(s, ret);
        break;
    case KL_NAME_LABEL_VALUE:
        if (s.n > MAX_LABEL)
            add_error(ret, TOO_LONG_63_BYTES);
        if (s.n && !is_key_name(s))
            add_error(ret, NOT_VALUE);
        break;
    }
    return ret->n == 0;
}

static const char *first_error(enum kl_name_format format, struct kl_str s)
{
    struct kl_name_errors errs;
    return kl_name_check(format, s, &errs) ? NULL : errs.msg[0];
}

const char *kl_name_dns1123_label(struct kl_str s)
{
    return first_error(KL_NAME_DNS1123_LABEL, s);
}

const char *kl_name_dns1123_subdomain(struct kl_str s)
{
    return first_error(KL_NAME_DNS1123_SUBDOMAIN, s);
}

const char *kl_name_dns1035_label(struct kl_str s)
{
    return first_error(KL_NAME_DNS1035_LABEL, s);
}

const char *kl_name_path_segment(struct kl_str s)
{
    return first_error(KL_NAME_PATH_SEGMENT, s);
}

const char *kl_name_label_value(struct kl_str s)
{
    return first_error(KL_NAME_LABEL_VALUE, s);
}

const char *kl_name_qualified(struct kl_arena *a, struct kl_str s)
{
    struct kl_name_errors errs;
    if (kl_name_check(KL_NAME_QUALIFIED, s, &errs))
        return NULL;
    struct kl_str joined = {errs.msg[0], 0};
    for (size_t i = 1; a && i < errs.n && joined.p; i++)
        joined = kl_arena_printf(a, "%s; %s", joined.p, errs.msg[i]);
    return joined.p ? joined.p : errs.msg[0];
}

bool kl_is_base64(struct kl_str s)
{
    size_t pad = 0;
    if (!s.n || s.n % 4)
        return false;
    while (pad < 2 && s.p[s.n - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < s.n - pad; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '+' || c == '/'))
            return false;
    }
    return true;
}
