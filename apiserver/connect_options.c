// SPDX-License-Identifier: Apache-2.0
// What is read from the query and said to the kubelet of it.
#include "apiserver/connect.h"
#include "apiserver/strategy.h"
#include "base/buf.h"
#include "object/timestamp.h"
#include <inttypes.h>
#include <stdio.h>

// strconv.NumError. `what` is a function for numbers with a sign or without.
static int fail_number(struct kl_req *r, const char *what, bool sign, struct kl_str v)
{
    struct kl_str digits = sign && kl_str_starts(v, KL_STR("-")) ? kl_str_from(v, 1) : v;
    bool number = digits.n > 0;
    for (size_t i = 0; i < digits.n; i++)
        number &= digits.p[i] >= '0' && digits.p[i] <= '9';
    kl_fail_bad(r, "%s: parsing \"%.*s\": %s", what, KL_PRI(v),
                number ? "value out of range" : "invalid syntax");
    return KL_EBADREQUEST;
}

static int fail_memory(struct kl_req *r)
{
    kl_fail_oom(r);
    return KL_ENOMEM;
}

// metav1.Convert_Slice_string_To_Slice_int32: ports, several in one value or in several.
static int put_ports(struct kl_req *r, struct kl_value *list, struct kl_str v)
{
    struct kl_str one;
    uint64_t port;
    while (kl_str_split(&v, ',', &one)) {
        if (!kl_str_to_u64(one, &port) || port > UINT16_MAX)
            return fail_number(r, "cannot convert to []int32: strconv.ParseUint", false, one);
        if (kl_append(r->arena, list, kl_int((int64_t)port)))
            return fail_memory(r);
    }
    return 0;
}

static int put_item(struct kl_req *r, struct kl_value *to, const struct kl_field *f,
                    struct kl_str v)
{
    struct kl_value *list = kl_edit(r->arena, to, f->sym, KL_ARRAY);
    if (!list)
        return fail_memory(r);
    if (f->type->elem->kind != KL_T_STRING)
        return put_ports(r, list, v);
    return kl_append(r->arena, list, kl_string(v)) ? fail_memory(r) : 0;
}

// Time.UnmarshalQueryParameter
static int put_time(struct kl_req *r, struct kl_value *to, const struct kl_field *f,
                    struct kl_str v)
{
    struct kl_error err = {0};
    int64_t us;
    if (!v.n || kl_str_eqz(v, "null"))
        return 0;
    if (kl_time_parse(v, &us, &err)) {
        kl_fail_bad(r, "%s", err.msg);
        return KL_EBADREQUEST;
    }
    return kl_set(r->arena, to, f->sym, kl_string(v)) ? fail_memory(r) : 0;
}

static int put_scalar(struct kl_req *r, struct kl_value *to, const struct kl_field *f,
                      struct kl_str v)
{
    struct kl_value x;
    int64_t number;
    if (f->type->kind == KL_T_BOOLEAN) {
        if (kl_str_eqz(v, "0") || kl_str_ieq(v, KL_STR("false")))
            return 0;
        x = kl_bool(true); // any other text, none as well
    } else if (f->type->kind == KL_T_INTEGER) {
        if (!kl_str_to_i64(v, &number))
            return fail_number(r, "strconv.ParseInt", true, v);
        x = kl_int(number);
    } else if (f->sym == KL_F_sinceTime) {
        return put_time(r, to, f, v);
    } else {
        x = kl_string(v);
    }
    return kl_set(r->arena, to, f->sym, x) ? fail_memory(r) : 0;
}

int kl_connect_options(struct kl_req *r, struct kl_str query, const struct kl_type *type,
                       struct kl_value *ret)
{
    uint64_t seen = 0; // scalars, by field
    struct kl_str n, v;
    *ret = kl_new_struct();
    while (kl_query_next(r->arena, &query, &n, &v)) {
        const struct kl_field *f = kl_type_field_named(type, n);
        if (!f || f->sym == KL_F_kind || f->sym == KL_F_apiVersion)
            continue;
        size_t at = (size_t)(f - type->fields);
        bool list = f->type->kind == KL_T_ARRAY;
        if (!list && (at >= 64 || seen >> at & 1))
            continue;
        seen |= (uint64_t)!list << (at & 63);
        int rc = list ? put_item(r, ret, f, v) : put_scalar(r, ret, f, v);
        if (rc)
            return rc;
    }
    return 0;
}

// ValidatePodLogOptions
int kl_connect_check_log(struct kl_req *r, const struct kl_value *options)
{
    static const struct {
        kl_sym sym;
        const char *name;
        int64_t least;
    } numbers[] = {{KL_F_tailLines, "tailLines", 0},
                   {KL_F_limitBytes, "limitBytes", 1},
                   {KL_F_sinceSeconds, "sinceSeconds", 1}};
    struct kl_field_errors e = {.arena = r->arena};
    bool time = kl_get(options, KL_F_sinceTime);
    for (size_t i = 0; i < KL_COUNT(numbers); i++) {
        const struct kl_value *v = kl_get(options, numbers[i].sym);
        if (v && time && numbers[i].sym == KL_F_sinceSeconds)
            kl_field_forbidden(&e, KL_STR("[]"),
                               "at most one of `sinceTime` or `sinceSeconds` may be specified");
        else if (v && kl_int_or(v, 0) < numbers[i].least)
            kl_field_error(&e, "FieldValueInvalid", kl_str(numbers[i].name),
                           "Invalid value: %" PRId64 ": must be greater than %s0", kl_int_or(v, 0),
                           numbers[i].least ? "" : "or equal to ");
    }
    if (!e.n)
        return 0;
    kl_fail_invalid(r, KL_STR("PodLogOptions"), KL_STR(""), r->info.name, &e);
    return KL_EINVALID;
}

// ---- for the kubelet

static void put_escaped(struct kl_buf *b, struct kl_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            c == '-' || c == '_' || c == '.' || c == '~')
            kl_buf_putc(b, (char)c);
        else
            kl_buf_printf(b, "%%%02X", c);
    }
}

static void put_param(struct kl_buf *b, bool *first, const char *name, struct kl_str value)
{
    kl_buf_printf(b, "%c%s=", *first ? '?' : '&', name);
    put_escaped(b, value);
    *first = false;
}

static void put_number(struct kl_buf *b, bool *first, const char *name, int64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, n);
    put_param(b, first, name, kl_str(text));
}

void kl_connect_query(struct kl_buf *b, const struct kl_value *options)
{
    // The kubelet's names of exec's flags differ from the API's.
    static const struct {
        kl_sym sym;
        const char *name, *yes;
    } flags[] = {{KL_F_stdin, "input", "1"},
                 {KL_F_stdout, "output", "1"},
                 {KL_F_stderr, "error", "1"},
                 {KL_F_tty, "tty", "1"},
                 {KL_F_follow, "follow", "true"},
                 {KL_F_previous, "previous", "true"},
                 {KL_F_timestamps, "timestamps", "true"}};
    static const struct {
        kl_sym sym;
        const char *name;
    } numbers[] = {{KL_F_sinceSeconds, "sinceSeconds"},
                   {KL_F_tailLines, "tailLines"},
                   {KL_F_limitBytes, "limitBytes"}};
    const struct kl_value *ports = kl_get(options, KL_F_ports);
    struct kl_str since = kl_text(kl_get(options, KL_F_sinceTime));
    bool first = true;
    for (size_t i = 0; i < KL_COUNT(flags); i++)
        if (kl_is_true(kl_get(options, flags[i].sym)))
            put_param(b, &first, flags[i].name, kl_str(flags[i].yes));
    for (KL_EACH(c, kl_get(options, KL_F_command)))
        put_param(b, &first, "command", kl_text(c));
    for (size_t i = 0; i < KL_COUNT(numbers); i++) {
        const struct kl_value *n = kl_get(options, numbers[i].sym);
        if (n)
            put_number(b, &first, numbers[i].name, kl_int_or(n, 0));
    }
    if (since.n)
        put_param(b, &first, "sinceTime", since);
    for (KL_EACH(p, ports)) { // one parameter: 80%2C443
        if (p == ports->items)
            put_number(b, &first, "port", kl_int_or(p, 0));
        else
            kl_buf_printf(b, "%%2C%" PRId64, kl_int_or(p, 0));
    }
}
