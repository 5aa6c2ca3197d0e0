// SPDX-License-Identifier: Apache-2.0
#include "apiserver/info.h"
#include "apiserver/server_int.h"
#include "object/names.h"

enum { FIELD_MANAGER_MAX = 128 };

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

struct kl_str kl_percent_decode(struct kl_arena *a, struct kl_str s, bool plus_is_space)
{
    if (kl_str_chr(s, '%') < 0 && (!plus_is_space || kl_str_chr(s, '+') < 0))
        return s;
    char *out = kl_arena_alloc(a, s.n + 1);
    if (!out)
        return (struct kl_str){"", 0};
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%' && i + 2 < s.n && hex_digit(s.p[i + 1]) >= 0 && hex_digit(s.p[i + 2]) >= 0) {
            c = (char)(hex_digit(s.p[i + 1]) * 16 + hex_digit(s.p[i + 2]));
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        out[n++] = c;
    }
    out[n] = 0;
    return (struct kl_str){out, n};
}

bool kl_percent_ok(struct kl_str s)
{
    for (ptrdiff_t at; (at = kl_str_chr(s, '%')) >= 0; s = kl_str_from(s, (size_t)at + 3))
        if ((size_t)at + 2 >= s.n || hex_digit(s.p[at + 1]) < 0 || hex_digit(s.p[at + 2]) < 0)
            return false;
    return true;
}

// What url.Query() leaves out without a word: parts with a semicolon or a bad escape.
static bool is_query_part(struct kl_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == ';' || (s.p[i] == '%' && (i + 2 >= s.n || hex_digit(s.p[i + 1]) < 0 ||
                                                hex_digit(s.p[i + 2]) < 0)))
            return false;
    return s.n > 0;
}

bool kl_query_next(struct kl_arena *a, struct kl_str *rest, struct kl_str *ret_name,
                   struct kl_str *ret_value)
{
    struct kl_str part;
    do {
        if (!kl_str_split(rest, '&', &part))
            return false;
    } while (!is_query_part(part));
    ptrdiff_t eq = kl_str_chr(part, '=');
    struct kl_str name = eq < 0 ? part : (struct kl_str){part.p, (size_t)eq};
    struct kl_str value = eq < 0 ? KL_STR("") : kl_str_from(part, (size_t)eq + 1);
    *ret_name = kl_percent_decode(a, name, true);
    *ret_value = kl_percent_decode(a, value, true);
    return true;
}

struct kl_str kl_query_get(struct kl_arena *a, struct kl_str query, struct kl_str name)
{
    struct kl_str n, v;
    while (kl_query_next(a, &query, &n, &v))
        if (kl_str_eq(n, name))
            return v;
    return (struct kl_str){NULL, 0};
}

bool kl_query_has(struct kl_str query, struct kl_str name)
{
    struct kl_str part;
    while (kl_str_split(&query, '&', &part)) {
        ptrdiff_t eq = kl_str_chr(part, '=');
        if (kl_str_eq(eq < 0 ? part : (struct kl_str){part.p, (size_t)eq}, name))
            return true;
    }
    return false;
}

// runtime.Convert_Slice_string_To_bool: all but "false" and "0" is true.
static bool parse_flag(struct kl_str v)
{
    return !(kl_str_ieq(v, KL_STR("false")) || kl_str_eqz(v, "0"));
}

// The path's parts, leading and trailing slashes trimmed.
static size_t split_path(struct kl_str path, struct kl_str *parts, size_t max)
{
    size_t n = 0;
    while (path.n && path.p[0] == '/')
        path = kl_str_from(path, 1);
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    if (!path.n)
        return 0;
    struct kl_str part;
    while (n < max && kl_str_split(&path, '/', &part))
        parts[n++] = part;
    return n;
}

static struct kl_str lower_method(struct kl_arena *a, struct kl_str m)
{
    char *p = kl_arena_alloc(a, m.n + 1);
    if (!p)
        return KL_STR("get");
    for (size_t i = 0; i < m.n; i++)
        p[i] = m.p[i] >= 'A' && m.p[i] <= 'Z' ? (char)(m.p[i] + 32) : m.p[i];
    return (struct kl_str){p, m.n};
}

static void set_op(struct kl_req_info *i, enum kl_verb op)
{
    i->op = op;
    i->verb = kl_str(kl_verb_names[op]);
}

static bool is_watch_query(struct kl_arena *a, struct kl_str query)
{
    struct kl_str v = kl_query_get(a, query, KL_STR("watch"));
    return v.p && parse_flag(v);
}

void kl_req_info_parse(struct kl_arena *a, struct kl_str method, struct kl_str path,
                       struct kl_str query, struct kl_req_info *ret)
{
    struct kl_str parts[32];
    // Decoded before it is cut, as Go does: an escaped slash is one, never part of a name.
    struct kl_str plain = kl_percent_decode(a, path, false);
    size_t n = split_path(plain, parts, KL_COUNT(parts)), at = 0;
    *ret = (struct kl_req_info){.path = plain, .verb = lower_method(a, method)};
    if (n < 3)
        return;
    bool core = kl_str_eqz(parts[0], "api");
    if (!core && !kl_str_eqz(parts[0], "apis"))
        return;
    ret->prefix = parts[at++];
    ret->group = KL_STR("");
    if (!core) {
        if (n - at < 3)
            return;
        ret->group = parts[at++];
    }
    ret->is_resource = true;
    ret->version = parts[at++];
    bool special_watch = kl_str_eqz(parts[at], "watch") && n - at >= 2;
    if (special_watch) {
        at++;
        set_op(ret, KL_VERB_WATCH);
    } else if (kl_str_eqz(method, "POST")) {
        set_op(ret, KL_VERB_CREATE);
    } else if (kl_str_eqz(method, "GET") || kl_str_eqz(method, "HEAD")) {
        set_op(ret, KL_VERB_GET);
    } else if (kl_str_eqz(method, "PUT")) {
        set_op(ret, KL_VERB_UPDATE);
    } else if (kl_str_eqz(method, "PATCH")) {
        set_op(ret, KL_VERB_PATCH);
    } else if (kl_str_eqz(method, "DELETE")) {
        set_op(ret, KL_VERB_DELETE);
    } else {
        ret->verb = KL_STR("");
        ret->op = KL_VERB_COUNT;
        ret->is_options = kl_str_eqz(method, "OPTIONS");
    }
    if (kl_str_eqz(parts[at], "namespaces") && n - at > 1) {
        ret->ns = parts[at + 1];
        if (n - at > 2 && !kl_str_eqz(parts[at + 2], "status") &&
            !kl_str_eqz(parts[at + 2], "finalize"))
            at += 2;
    }
    ret->plural = parts[at];
    if (n - at >= 2)
        ret->name = parts[at + 1];
    if (n - at >= 3 && !special_watch)
        ret->sub = parts[at + 2];
    if (n - at >= 4)
        ret->rest = (struct kl_str){parts[at + 3].p, (size_t)(plain.p + plain.n - parts[at + 3].p)};
    if (!ret->name.n && ret->op == KL_VERB_GET)
        set_op(ret, is_watch_query(a, query) ? KL_VERB_WATCH : KL_VERB_LIST);
    if (!ret->name.n && ret->op == KL_VERB_DELETE)
        set_op(ret, KL_VERB_DELETECOLLECTION);
    ret->res = kl_resource_find(ret->group, ret->version, ret->plural);
    if (ret->res && ret->sub.n)
        ret->subres = kl_resource_sub(ret->res, ret->sub);
}

bool kl_is_long_running(const struct kl_req_info *i)
{
    static const char *const subs[] = {"attach", "exec", "proxy", "log", "portforward"};
    if (!i->is_resource)
        return kl_str_starts(i->path, KL_STR("/debug/pprof/"));
    for (size_t k = 0; i->sub.n && k < KL_COUNT(subs); k++)
        if (kl_str_eqz(i->sub, subs[k]))
            return true;
    return i->op == KL_VERB_WATCH;
}

static int bad_value(struct kl_req *r, const char *name, struct kl_str v, const char *why)
{
    kl_fail_bad(r, "%s: Invalid value: \"%.*s\": %s", name, KL_PRI(v), why);
    return KL_EBADREQUEST;
}

const char *kl_number_complaint(struct kl_str digits)
{
    bool number = digits.n > 0;
    for (size_t i = 0; i < digits.n; i++)
        number &= digits.p[i] >= '0' && digits.p[i] <= '9';
    return number ? "value out of range" : "invalid syntax";
}

static int parse_int(struct kl_req *r, const char *name, struct kl_str v, int64_t *ret)
{
    if (kl_str_to_i64(v, ret))
        return 0;
    kl_fail_bad(r, "strconv.ParseInt: parsing \"%.*s\": %s", KL_PRI(v),
                kl_number_complaint(kl_str_from(v, v.n && (*v.p == '-' || *v.p == '+'))));
    return KL_EBADREQUEST;
}

static int check_export(struct kl_req *r, struct kl_str v)
{
    const struct kl_req_info *i = &r->info;
    bool whole = !i->sub.n || kl_str_eqz(i->sub, "status") || kl_str_eqz(i->sub, "scale");
    if (i->op != KL_VERB_GET || !whole || !parse_flag(v))
        return 0;
    kl_fail_bad(r, "the export parameter, deprecated since v1.14, is no longer supported");
    return KL_EBADREQUEST;
}

enum { SECONDS_MAX = 1 << 30 };

// Seconds that arithmetic on times can bear.
static int parse_seconds(struct kl_req *r, const char *name, struct kl_str v, int64_t *ret)
{
    int rc = parse_int(r, name, v, ret);
    if (!rc && *ret > SECONDS_MAX)
        *ret = SECONDS_MAX;
    return rc;
}

// BeforeDelete: negative values mean one second.
static int64_t clamp_grace(int64_t seconds)
{
    return seconds < 0 ? 1 : seconds > SECONDS_MAX ? SECONDS_MAX : seconds;
}

// An option that upstream's validation of the option types refuses: 422 about ListOptions,
// CreateOptions and so on.
static int bad_option(struct kl_req *r, const char *type, const char *field, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static int bad_option(struct kl_req *r, const char *type, const char *field, const char *fmt, ...)
{
    static const char *const kinds[KL_VERB_COUNT] = {
        [KL_VERB_GET] = "GetOptions",       [KL_VERB_LIST] = "ListOptions",
        [KL_VERB_WATCH] = "ListOptions",    [KL_VERB_CREATE] = "CreateOptions",
        [KL_VERB_UPDATE] = "UpdateOptions", [KL_VERB_PATCH] = "PatchOptions",
        [KL_VERB_DELETE] = "DeleteOptions", [KL_VERB_DELETECOLLECTION] = "DeleteOptions"};
    struct kl_field_errors e = {.arena = r->arena};
    va_list ap;
    va_start(ap, fmt);
    struct kl_str m = kl_arena_vprintf(r->arena, fmt, ap);
    va_end(ap);
    const char *kind = r->info.op < KL_VERB_COUNT ? kinds[r->info.op] : "ListOptions";
    kl_field_error(&e, type, kl_str(field), "%.*s", KL_PRI(m));
    kl_fail_invalid(r, kl_str(kind), KL_STR("meta.k8s.io"), KL_STR(""), &e);
    return KL_EINVALID;
}

// ValidateFieldManager
static int check_manager(struct kl_req *r, struct kl_str v)
{
    struct kl_buf b;
    if (v.n > FIELD_MANAGER_MAX)
        return bad_option(r, "FieldValueTooLong", "fieldManager",
                          "Too long: may not be more than %d bytes", FIELD_MANAGER_MAX);
    for (size_t i = 0; i < v.n; i++) {
        unsigned char c = (unsigned char)v.p[i];
        if (c >= ' ' && c != 0x7f)
            continue;
        kl_buf_init(&b, 4096);
        for (size_t k = 0; k < v.n; k++)
            if ((unsigned char)v.p[k] < ' ' || v.p[k] == 0x7f)
                kl_buf_printf(&b, "\\x%02x", (unsigned char)v.p[k]);
            else
                kl_buf_putc(&b, v.p[k]);
        int rc = bad_option(r, "FieldValueInvalid", "fieldManager",
                            "Invalid value: \"%.*s\": invalid character U+%04X (at position %zu)",
                            KL_PRI(kl_buf_str(&b)), c, i);
        kl_buf_fini(&b);
        return rc;
    }
    return 0;
}

static int parse_propagation(struct kl_req *r, struct kl_str v, enum kl_propagation *ret)
{
    if (kl_str_eqz(v, "Orphan"))
        *ret = KL_PROPAGATE_ORPHAN;
    else if (kl_str_eqz(v, "Background"))
        *ret = KL_PROPAGATE_BACKGROUND;
    else if (kl_str_eqz(v, "Foreground"))
        *ret = KL_PROPAGATE_FOREGROUND;
    else {
        return bad_option(r, "FieldValueNotSupported", "propagationPolicy",
                          "Unsupported value: \"%.*s\": supported values: \"Foreground\", "
                          "\"Background\", \"Orphan\", \"nil\"",
                          KL_PRI(v));
    }
    return 0;
}

// Selectors are options of lists, watches and collections: elsewhere they mean nothing, least of
// all to the authoriser, for which a selected name counts as the name of a list or watch.
static int parse_selectors(struct kl_req *r)
{
    struct kl_req_opts *o = &r->opts;
    struct kl_error err = {0};
    bool reads = r->info.op == KL_VERB_LIST || r->info.op == KL_VERB_WATCH;
    if (!reads && r->info.op != KL_VERB_DELETECOLLECTION)
        return 0;
    if (o->label_selector.n) {
        if (kl_label_selector_parse(r->arena, o->label_selector, &o->labels, &err)) {
            kl_fail_bad(r, "%s", err.msg);
            return KL_EBADREQUEST;
        }
    }
    if (o->field_selector.n) {
        if (kl_field_selector_parse(r->arena, o->field_selector, &o->fields, &err) ||
            (r->info.res && kl_field_selector_check(r->info.res, &o->fields, &err))) {
            kl_fail_bad(r, "%s", err.msg);
            return KL_EBADREQUEST;
        }
        for (size_t i = 0; i < o->fields.n; i++) {
            const struct kl_requirement *q = &o->fields.reqs[i];
            if (reads && q->op == KL_OP_EQ && kl_str_eqz(q->key, "metadata.name") &&
                !kl_name_path_segment(q->values[0]))
                o->name_from_fields = q->values[0];
        }
    }
    return 0;
}

// ValidateDryRun; `seen` is what was there before, as text. Negative: r->fail is set.
static int take_dry_run(struct kl_req *r, struct kl_str v, struct kl_buf *seen)
{
    kl_buf_puts(seen, seen->n ? KL_STR(",") : KL_STR(""));
    kl_json_write_string(seen, v);
    r->opts.dry_run |= kl_str_eqz(v, "All");
    return kl_str_eqz(v, "All") ? 0 : KL_EINVALID;
}

static int end_dry_run(struct kl_req *r, int rc, struct kl_buf *seen)
{
    if (rc)
        bad_option(r, "FieldValueNotSupported", "dryRun",
                   "Unsupported value: [%.*s]: supported values: \"All\"",
                   KL_PRI(kl_buf_str(seen)));
    kl_buf_fini(seen);
    return rc;
}

static int both_propagations(struct kl_req *r, struct kl_str policy)
{
    return bad_option(r, "FieldValueInvalid", "propagationPolicy",
                      "Invalid value: \"%.*s\": orphanDependents and deletionPropagation cannot be "
                      "both set",
                      KL_PRI(policy));
}

static int parse_rv_match(struct kl_req *r, struct kl_str v)
{
    struct kl_req_opts *o = &r->opts;
    if (!v.n)
        return 0;
    if (kl_str_eqz(v, "Exact"))
        o->rv_match = KL_RV_MATCH_EXACT;
    else if (kl_str_eqz(v, "NotOlderThan"))
        o->rv_match = KL_RV_MATCH_NOT_OLDER;
    else {
        return bad_option(r, "FieldValueNotSupported", "resourceVersionMatch",
                          "Unsupported value: \"%.*s\": supported values: \"Exact\", "
                          "\"NotOlderThan\", \"\"",
                          KL_PRI(v));
    }
    return 0;
}

int kl_req_opts_parse(struct kl_req *r, struct kl_str query)
{
    struct kl_req_opts *o = &r->opts;
    struct kl_str name, v, match = {NULL, 0};
    struct kl_str policy = KL_STR("");
    struct kl_buf dry;
    int rc = 0, bad_dry = 0;
    bool orphan = false;
    bool deletes = r->info.op == KL_VERB_DELETE || r->info.op == KL_VERB_DELETECOLLECTION;
    o->timeout_s = -1;
    o->grace_seconds = -1;
    kl_buf_init(&dry, 64 * 1024);
    while (!rc && kl_query_next(r->arena, &query, &name, &v)) {
        if (kl_str_eqz(name, "labelSelector"))
            o->label_selector = v;
        else if (kl_str_eqz(name, "fieldSelector"))
            o->field_selector = v;
        else if (kl_str_eqz(name, "resourceVersion"))
            o->resource_version = v;
        else if (kl_str_eqz(name, "resourceVersionMatch"))
            match = v;
        else if (kl_str_eqz(name, "limit"))
            rc = v.n ? parse_int(r, "limit", v, &o->limit) : 0;
        else if (kl_str_eqz(name, "continue"))
            o->cont = v;
        else if (kl_str_eqz(name, "export"))
            rc = check_export(r, v);
        else if (kl_str_eqz(name, "watch"))
            o->watch = parse_flag(v);
        else if (kl_str_eqz(name, "allowWatchBookmarks"))
            o->bookmarks = parse_flag(v);
        else if (kl_str_eqz(name, "sendInitialEvents")) {
            o->send_initial_events = parse_flag(v);
            o->send_initial_events_set = true;
        } else if (kl_str_eqz(name, "timeoutSeconds"))
            rc = v.n ? parse_seconds(r, "timeoutSeconds", v, &o->timeout_s) : 0;
        else if (kl_str_eqz(name, "pretty"))
            o->pretty = parse_flag(v);
        else if (kl_str_eqz(name, "fieldManager")) {
            o->field_manager = v;
            rc = check_manager(r, v);
        } else if (kl_str_eqz(name, "force")) {
            o->force = parse_flag(v);
            o->force_set = true;
        } else if (kl_str_eqz(name, "dryRun")) {
            bad_dry |= take_dry_run(r, v, &dry);
        } else if (kl_str_eqz(name, "fieldValidation")) {
            if (kl_str_eqz(v, "Strict"))
                o->field_validation = KL_VALIDATE_STRICT;
            else if (kl_str_eqz(v, "Warn") || !v.n)
                o->field_validation = KL_VALIDATE_WARN;
            else if (kl_str_eqz(v, "Ignore"))
                o->field_validation = KL_VALIDATE_IGNORE;
            else {
                rc = bad_option(r, "FieldValueNotSupported", "fieldValidation",
                                "Unsupported value: \"%.*s\": supported values: \"\", "
                                "\"Ignore\", \"Strict\", \"Warn\"",
                                KL_PRI(v));
            }
        } else if (kl_str_eqz(name, "gracePeriodSeconds") && v.n) {
            rc = parse_int(r, "gracePeriodSeconds", v, &o->grace_seconds);
            o->grace_seconds = clamp_grace(o->grace_seconds);
        } else if (kl_str_eqz(name, "propagationPolicy")) {
            policy = v;
            rc = v.n ? parse_propagation(r, v, &o->propagation) : 0;
        } else if (kl_str_eqz(name, "orphanDependents") && v.n) {
            orphan = true;
            o->propagation = parse_flag(v) ? KL_PROPAGATE_ORPHAN : KL_PROPAGATE_BACKGROUND;
        } else if (kl_str_eqz(name, "includeObject")) {
            if (kl_str_eqz(v, "None"))
                o->include = KL_INCLUDE_NONE;
            else if (kl_str_eqz(v, "Object"))
                o->include = KL_INCLUDE_OBJECT;
            else if (v.n && !kl_str_eqz(v, "Metadata"))
                rc = bad_value(r, "includeObject", v, "must be 'Metadata', 'Object', 'None'");
        }
    }
    if (!rc && deletes && orphan && policy.n)
        rc = both_propagations(r, policy);
    bad_dry = end_dry_run(r, rc ? 0 : bad_dry, &dry);
    rc = rc ? rc : bad_dry;
    if (!rc)
        rc = parse_rv_match(r, match);
    return rc ? rc : parse_selectors(r);
}

int kl_req_delete_options_body(struct kl_req *r)
{
    if (!r->body.n)
        return 0;
    struct kl_value v;
    struct kl_error err = {0};
    if (kl_body_decode(r, kl_type(KL_TYPE_meta_v1_DeleteOptions), NULL, &v, &err)) {
        kl_fail_err(r, &err);
        return err.code;
    }
    return kl_req_delete_options(r, &v);
}

int kl_req_delete_options(struct kl_req *r, const struct kl_value *options)
{
    struct kl_req_opts *o = &r->opts;
    struct kl_value v = options ? *options : kl_new_struct();
    const struct kl_value *grace = kl_get(&v, KL_F_gracePeriodSeconds);
    if (grace)
        o->grace_seconds = clamp_grace(kl_int_or(grace, 0));
    o->precondition_uid = kl_text_at(&v, KL_F_preconditions, KL_F_uid);
    o->precondition_rv = kl_text_at(&v, KL_F_preconditions, KL_F_resourceVersion);
    const struct kl_value *orphan = kl_get(&v, KL_F_orphanDependents);
    struct kl_str p = kl_text(kl_get(&v, KL_F_propagationPolicy));
    if (orphan && p.n) {
        struct kl_field_errors e = {.arena = r->arena};
        kl_field_invalid(&e, KL_STR("propagationPolicy"), p,
                         "orphanDependents and deletionPropagation cannot be both set");
        kl_fail_invalid(r, KL_STR("DeleteOptions"), KL_STR("meta.k8s.io"), KL_STR(""), &e);
        return KL_EINVALID;
    }
    if (orphan)
        o->propagation = kl_is_true(orphan) ? KL_PROPAGATE_ORPHAN : KL_PROPAGATE_BACKGROUND;
    struct kl_buf dry;
    int rc = p.n ? parse_propagation(r, p, &o->propagation) : 0, bad_dry = 0;
    kl_buf_init(&dry, 64 * 1024);
    for (KL_EACH(d, kl_get(&v, KL_F_dryRun)))
        bad_dry |= take_dry_run(r, kl_text(d), &dry);
    bad_dry = end_dry_run(r, rc ? 0 : bad_dry, &dry);
    return rc ? rc : bad_dry;
}
