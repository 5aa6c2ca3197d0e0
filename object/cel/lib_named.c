// SPDX-License-Identifier: Apache-2.0
// Named formats: format.dns1123Label().validate(s) gives upstream's messages.
#include "object/cel/lib_int.h"
#include "object/cel/plan_int.h"
#include "object/cel/url_int.h"
#include "object/names.h"

enum { URI = 100, UUID, BYTE, DATE, DATETIME, PREFIX = 1000 };

static const struct cel_format formats[] = {
    {"dns1123Label", "DNS1123Label", KL_NAME_DNS1123_LABEL, 30},
    {"dns1123Subdomain", "DNS1123Subdomain", KL_NAME_DNS1123_SUBDOMAIN, 60},
    {"dns1035Label", "DNS1035Label", KL_NAME_DNS1035_LABEL, 30},
    {"qualifiedName", "QualifiedName", KL_NAME_QUALIFIED, 60},
    {"dns1123LabelPrefix", "DNS1123LabelPrefix", KL_NAME_DNS1123_LABEL + PREFIX, 30},
    {"dns1123SubdomainPrefix", "DNS1123SubdomainPrefix", KL_NAME_DNS1123_SUBDOMAIN + PREFIX, 60},
    {"dns1035LabelPrefix", "DNS1035LabelPrefix", KL_NAME_DNS1035_LABEL + PREFIX, 30},
    {"labelValue", "LabelValue", KL_NAME_LABEL_VALUE, 40},
    {"uri", "URI", URI, 1103},
    {"uuid", "uuid", UUID, 70},
    {"byte", "byte", BYTE, 84},
    {"date", "date", DATE, 71},
    {"datetime", "datetime", DATETIME, 71},
};

const struct cel_format *cel_format_find(struct kl_str name)
{
    for (size_t i = 0; i < KL_COUNT(formats); i++)
        if (kl_str_eqz(name, formats[i].name))
            return &formats[i];
    return NULL;
}

static struct kl_cel_val format_value(const struct cel_format *f)
{
    return (struct kl_cel_val){.kind = KL_CEL_FORMAT, .p = f};
}

CEL_FN(cel_fn_format_constant)
{
    return format_value(cel_format_find(kl_str(r->current->function + strlen("format."))));
}

CEL_FN(cel_fn_format_named)
{
    const struct cel_format *f = cel_format_find(cel_text(args[0]));
    return f ? kl_cel_optional(cel_arena(r), format_value(f)) : kl_cel_none();
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_uuid(struct kl_str s)
{
    static const int groups[] = {8, 4, 4, 4, 12};
    size_t i = 0;
    for (int g = 0; g < 5; g++) {
        if (g && i < s.n && s.p[i] == '-')
            i++;
        for (int k = 0; k < groups[g]; k++, i++)
            if (i >= s.n || !is_hex(s.p[i]))
                return false;
    }
    return i == s.n;
}

static bool is_date(struct kl_arena *a, struct kl_str s)
{
    struct kl_cel_val v;
    struct kl_str full = kl_arena_printf(a, "%.*sT00:00:00Z", KL_PRI(s));
    return s.n == 10 && full.p && cel_time_parse(full, &v);
}

// hh:mm:ss[.fraction](z|+hh:mm), in small letters
static bool is_clock(struct kl_str s)
{
    size_t i = 8;
    if (s.n < 9)
        return false;
    for (size_t k = 0; k < 8; k++)
        if (k % 3 == 2 ? s.p[k] != ':' : s.p[k] < '0' || s.p[k] > '9')
            return false;
    if (memcmp(s.p, "23", 2) > 0 || memcmp(s.p + 3, "59", 2) > 0 || memcmp(s.p + 6, "59", 2) > 0)
        return false;
    if (s.n > 9 && s.p[9] >= '0' && s.p[9] <= '9' && s.p[8] != '+' && s.p[8] != '-')
        for (i = 9; i < s.n && s.p[i] >= '0' && s.p[i] <= '9';)
            i++;
    s = kl_str_from(s, i);
    if (s.n == 1)
        return (s.p[0] | 32) == 'z';
    return s.n == 6 && (s.p[0] == '+' || s.p[0] == '-') && s.p[3] == ':' && s.p[1] >= '0' &&
           s.p[1] <= '9' && s.p[2] >= '0' && s.p[2] <= '9' && s.p[4] >= '0' && s.p[4] <= '9' &&
           s.p[5] >= '0' && s.p[5] <= '9';
}

static bool is_datetime(struct kl_arena *a, struct kl_str s)
{
    size_t t = 0;
    while (t < s.n && (s.p[t] | 32) != 't')
        t++;
    return t < s.n && is_date(a, (struct kl_str){s.p, t}) && is_clock(kl_str_from(s, t + 1));
}

static struct kl_cel_val messages(struct cel_run *r, const char *const *texts, size_t n)
{
    struct kl_cel_val *items = kl_arena_alloc(cel_arena(r), (n + 1) * sizeof *items);
    if (!items)
        return CEL_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        items[i] = cel_str(kl_str(texts[i]));
    return n ? kl_cel_optional(cel_arena(r), cel_list_of(items, n)) : kl_cel_none();
}

static struct kl_cel_val one(struct cel_run *r, bool ok, const char *message)
{
    return messages(r, &message, !ok);
}

CEL_FN(cel_fn_format_validate)
{
    const struct cel_format *f = args[0].p;
    struct kl_str s = cel_text(args[1]);
    struct kl_name_errors errors;
    switch (f->kind) {
    case URI: {
        const char *bad = cel_url_parse(cel_arena(r), s, NULL);
        return one(r, !bad, bad);
    }
    case UUID:
        return one(r, is_uuid(s), "does not match the UUID format");
    case BYTE:
        return one(r, kl_is_base64(s), "invalid base64");
    case DATE:
        return one(r, is_date(cel_arena(r), s), "invalid date");
    case DATETIME:
        return one(r, is_datetime(cel_arena(r), s), "invalid datetime");
    default:
        break;
    }
    if (f->kind >= PREFIX && s.n > 1 && s.p[s.n - 1] == '-') { // what a suffix will follow
        s = kl_arena_printf(cel_arena(r), "%.*sa", (int)s.n - 2, s.p);
        if (!s.p)
            return CEL_NO_MEMORY;
    }
    kl_name_check((enum kl_name_format)(f->kind % PREFIX), s, &errors);
    return messages(r, errors.msg, errors.n);
}
