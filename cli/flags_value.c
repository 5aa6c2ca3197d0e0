// SPDX-License-Identifier: Apache-2.0
// One value of a flag, from text.
#include "cli/etcd_flags.h"
#include "cli/flags_int.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { STRINGS_MAX = 1024 };

// pflag's words around what is wrong, else ours.
static int invalid(struct kl_flag_run *p, const struct kl_flag *f, struct kl_str v, const char *why)
{
    char letter[8] = "";
    if (!p->o->pflag)
        return kl_error_set(p->err, KL_EINVALID, "invalid value \"%.*s\" for flag -%s: %s",
                            KL_PRI(v), f->name, why);
    if (f->letter)
        snprintf(letter, sizeof letter, "-%c, ", f->letter);
    return kl_error_set(p->err, KL_EINVALID, "invalid argument \"%.*s\" for \"%s--%s\" flag: %s",
                        KL_PRI(v), letter, f->name, why);
}

// "strconv.ParseInt: parsing \"x\": invalid syntax"
static int bad_number(struct kl_flag_run *p, const struct kl_flag *f, struct kl_str v,
                      const char *function, bool range)
{
    char why[512];
    snprintf(why, sizeof why, "strconv.%s: parsing \"%.*s\": %s", function,
             (int)(v.n < 300 ? v.n : 300), v.p, range ? "value out of range" : "invalid syntax");
    return invalid(p, f, v, why);
}

bool kl_go_bool(struct kl_str v, bool *ret)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};
    for (size_t i = 0; i < KL_COUNT(yes); i++) {
        if (kl_str_eqz(v, yes[i]) || kl_str_eqz(v, no[i])) {
            *ret = kl_str_eqz(v, yes[i]);
            return true;
        }
    }
    return false;
}

static int set_bool(struct kl_flag_run *p, const struct kl_flag *f, struct kl_str v, bool *ret)
{
    if (p->o->pflag)
        return kl_go_bool(v, ret) ? 0 : bad_number(p, f, v, "ParseBool", false);
    if (!kl_str_eqz(v, "true") && !kl_str_eqz(v, "false"))
        return kl_error_set(p->err, KL_EINVALID, "invalid boolean value \"%.*s\" for -%s",
                            KL_PRI(v), f->name);
    *ret = kl_str_eqz(v, "true");
    return 0;
}

static int set_int(struct kl_flag_run *p, const struct kl_flag *f, struct kl_str v, int *ret)
{
    int64_t i;
    if (kl_str_to_i64(v, &i) && i >= INT32_MIN && i <= INT32_MAX) {
        *ret = (int)i;
        return 0;
    }
    bool digits = v.n > 0;
    for (size_t k = v.n && v.p[0] == '-'; k < v.n; k++)
        digits = digits && isdigit((unsigned char)v.p[k]);
    if (!p->o->pflag)
        return kl_error_set(p->err, KL_EINVALID, "invalid value \"%.*s\" for flag -%s", KL_PRI(v),
                            f->name);
    return bad_number(p, f, v, "ParseInt", digits && v.n > 1);
}

static int set_float(struct kl_flag_run *p, const struct kl_flag *f, struct kl_str v, double *ret)
{
    char *end;
    errno = 0;
    double d = strtod(v.p, &end);
    if (!v.n || *end || errno)
        return bad_number(p, f, v, "ParseFloat", errno == ERANGE);
    *ret = d;
    return 0;
}

static int set_duration(struct kl_flag_run *p, const struct kl_flag *f, struct kl_str v,
                        int64_t *ret)
{
    struct kl_error why = {0};
    bool minus = v.n && v.p[0] == '-';
    if (kl_go_duration(v.p + minus, ret, &why))
        return invalid(p, f, v, why.msg);
    if (minus)
        *ret = -*ret;
    return 0;
}

static int set_list(struct kl_flag_run *p, const struct kl_flag *f, struct kl_str text,
                    struct kl_flag_list *l, bool first)
{
    struct kl_str part;
    if (first)
        l->n = 0;
    while (kl_str_split(&text, ',', &part)) {
        if (l->n == KL_FLAG_LIST_MAX)
            return kl_error_set(p->err, KL_EINVALID, "more than %d values for --%s",
                                KL_FLAG_LIST_MAX, f->name);
        if (part.n)
            l->v[l->n++] = kl_arena_dup(p->o->arena, part).p;
    }
    l->v[l->n] = NULL;
    return 0;
}

static int set_strings(struct kl_flag_run *p, const struct kl_flag *f, struct kl_str text,
                       const char *const **ret, bool first)
{
    size_t n = 0, more = 1;
    struct kl_str part;
    while (!first && *ret && (*ret)[n])
        n++;
    for (size_t i = 0; i < text.n; i++)
        more += text.p[i] == ',';
    if (n + more > STRINGS_MAX)
        return kl_error_set(p->err, KL_EINVALID, "more than %d values for --%s", STRINGS_MAX,
                            f->name);
    const char **v = kl_arena_zalloc(p->o->arena, (n + more + 1) * sizeof *v);
    if (!v)
        return kl_error_set(p->err, KL_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        v[i] = (*ret)[i];
    if (f->kind == KL_FLAG_ARRAY)
        v[n++] = text.p;
    else
        while (kl_str_split(&text, ',', &part))
            if (part.n && !(v[n++] = kl_arena_dup(p->o->arena, part).p))
                return kl_error_set(p->err, KL_ENOMEM, "out of memory");
    *ret = v;
    return 0;
}

int kl_flag_set(struct kl_flag_run *p, const struct kl_flag_at *t, struct kl_str text, bool first)
{
    const struct kl_flag *f = t->flag;
    void *at = (char *)t->options + f->offset;
    bool ignored;
    switch (f->kind) {
    case KL_FLAG_STRING:
        *(const char **)at = text.p;
        return 0;
    case KL_FLAG_BOOL:
        return set_bool(p, f, text, at);
    case KL_FLAG_INT:
        return set_int(p, f, text, at);
    case KL_FLAG_FLOAT:
        return set_float(p, f, text, at);
    case KL_FLAG_DURATION:
        return set_duration(p, f, text, at);
    case KL_FLAG_LIST:
        return set_list(p, f, text, at, first);
    case KL_FLAG_STRINGS:
    case KL_FLAG_ARRAY:
        return set_strings(p, f, text, at, first);
    case KL_FLAG_IGNORED_BOOL:
        return set_bool(p, f, text, &ignored);
    case KL_FLAG_REFUSED:
        return text.n ? kl_error_set(p->err, KL_EUNSUPPORTED, "--%s is not supported: %s", f->name,
                                     f->help)
                      : 0;
    case KL_FLAG_IGNORED:
        break;
    }
    return 0;
}
