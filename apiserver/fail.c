// SPDX-License-Identifier: Apache-2.0
// Failures in upstream's words (apimachinery pkg/api/errors, util/validation/field).
#include "apiserver/crd/convert.h"
#include "object/gotext.h"

#define AUTO_CAUSES_FIRST 8

// "pods" or "deployments.apps"
static struct kl_str qualified(struct kl_arena *a, struct kl_str name, struct kl_str group)
{
    return group.n ? kl_arena_printf(a, "%.*s.%.*s", KL_PRI(name), KL_PRI(group)) : name;
}

// A name as %q shows it: what a client made up must not begin a new line of a log.
static struct kl_str shown(struct kl_arena *a, struct kl_str name)
{
    struct kl_buf b;
    size_t i = 0;
    while (i < name.n && (unsigned char)name.p[i] >= ' ' && name.p[i] != '"' && name.p[i] != '\\' &&
           name.p[i] != 0x7f)
        i++;
    if (i == name.n)
        return name;
    kl_buf_init(&b, 64 * 1024);
    kl_json_write_string(&b, name);
    struct kl_str out = b.err ? KL_STR("") : kl_arena_dup(a, (struct kl_str){b.p + 1, b.n - 2});
    kl_buf_fini(&b);
    return out.p ? out : KL_STR("");
}

static struct kl_fail *begin(struct kl_req *r, int http, const char *reason)
{
    r->fail = (struct kl_fail){.http = http, .reason = kl_str(reason)};
    r->result = KL_RESULT_FAIL;
    return &r->fail;
}

struct kl_fail *kl_fail_set(struct kl_req *r, int http, const char *reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str m = kl_arena_vprintf(r->arena, fmt, ap);
    va_end(ap);
    struct kl_fail *f = begin(r, http, reason);
    f->message = m;
    return f;
}

struct kl_fail *kl_fail_bad(struct kl_req *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str m = kl_arena_vprintf(r->arena, fmt, ap);
    va_end(ap);
    struct kl_fail *f = begin(r, 400, "BadRequest");
    f->message = m;
    return f;
}

struct kl_fail *kl_fail_internal(struct kl_req *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str m = kl_arena_vprintf(r->arena, fmt, ap);
    va_end(ap);
    struct kl_fail *f = begin(r, 500, "InternalError");
    f->message = kl_arena_printf(r->arena, "Internal error occurred: %.*s", KL_PRI(m));
    f->causes = KL_ARENA_NEW(r->arena, struct kl_cause);
    if (f->causes) {
        f->causes[0].message = m;
        f->ncauses = 1;
    }
    return f;
}

struct kl_fail *kl_fail_oom(struct kl_req *r)
{
    struct kl_fail *f = begin(r, 500, "InternalError");
    f->message = KL_STR("Internal error occurred: out of memory");
    return f;
}

static void set_details(struct kl_fail *f, struct kl_str group, struct kl_str kind,
                        struct kl_str name)
{
    f->group = group;
    f->kind = kind;
    f->name = name;
}

struct kl_fail *kl_fail_not_found_of(struct kl_req *r, struct kl_str group, struct kl_str plural,
                                     struct kl_str name)
{
    struct kl_fail *f = begin(r, 404, "NotFound");
    struct kl_str q = qualified(r->arena, plural, group), s = shown(r->arena, name);
    f->message = kl_arena_printf(r->arena, "%.*s \"%.*s\" not found", KL_PRI(q), KL_PRI(s));
    set_details(f, group, plural, name);
    return f;
}

struct kl_fail *kl_fail_not_found(struct kl_req *r)
{
    return kl_fail_not_found_of(r, r->info.group, r->info.plural, r->info.name);
}

struct kl_fail *kl_fail_exists(struct kl_req *r, struct kl_str name)
{
    struct kl_fail *f = begin(r, 409, "AlreadyExists");
    struct kl_str q = qualified(r->arena, r->info.plural, r->info.group);
    f->message = kl_arena_printf(r->arena, "%.*s \"%.*s\" already exists", KL_PRI(q), KL_PRI(name));
    set_details(f, r->info.group, r->info.plural, name);
    return f;
}

struct kl_fail *kl_fail_conflict(struct kl_req *r, struct kl_str name, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str m = kl_arena_vprintf(r->arena, fmt, ap);
    va_end(ap);
    struct kl_fail *f = begin(r, 409, "Conflict");
    struct kl_str q = qualified(r->arena, r->info.plural, r->info.group);
    f->message = kl_arena_printf(r->arena, "Operation cannot be fulfilled on %.*s \"%.*s\": %.*s",
                                 KL_PRI(q), KL_PRI(name), KL_PRI(m));
    set_details(f, r->info.group, r->info.plural, name);
    return f;
}

struct kl_str kl_req_go_type(struct kl_req *r, bool list)
{
    const struct kl_resource *res = kl_resource_storage(r->info.res);
    const char *suffix = list ? "List" : "";
    struct kl_str group = kl_str(res->group), package;
    if (res->custom)
        return kl_arena_printf(r->arena, "*unstructured.Unstructured%s", suffix);
    if (kl_str_eqz(r->info.sub, "scale"))
        return KL_STR("*autoscaling.Scale");
    if (kl_str_eqz(group, "internal.apiserver.k8s.io"))
        package = KL_STR("apiserverinternal");
    else if (!group.n || !kl_str_split(&group, '.', &package))
        package = KL_STR("core");
    return kl_arena_printf(r->arena, "*%.*s.%s%s", KL_PRI(package), res->kind, suffix);
}

struct kl_fail *kl_fail_form(struct kl_req *r, bool list)
{
    struct kl_str type = kl_req_go_type(r, list);
    return kl_fail_set(r, 406, "NotAcceptable",
                       list ? "you requested PartialObjectMetadata, but the requested object is a "
                              "list (%.*s)"
                            : "you requested PartialObjectMetadataList, but the requested object "
                              "is not a list (%.*s)",
                       KL_PRI(type));
}

struct kl_fail *kl_fail_method(struct kl_req *r)
{
    struct kl_fail *f = begin(r, 405, "MethodNotAllowed");
    f->message = KL_STR("the server does not allow this method on the requested resource");
    return f;
}

struct kl_fail *kl_fail_err(struct kl_req *r, const struct kl_error *err)
{
    int code = err->code ? err->code : KL_EINTERNAL;
    if (kl_err_http(code) == 500)
        return kl_fail_internal(r, "%s", err->msg[0] ? err->msg : kl_err_text(code));
    struct kl_fail *f = begin(r, kl_err_http(code), kl_err_reason(code));
    f->message = kl_arena_dup(r->arena, kl_str(err->msg[0] ? err->msg : kl_err_text(code)));
    if (code == KL_ETOOMANY || code == KL_EUNAVAILABLE)
        f->retry_after_s = 1;
    return f;
}

struct kl_fail *kl_fail_too_large(struct kl_req *r, kl_rev asked)
{
    struct kl_str text = r->opts.resource_version; // which may be larger than a kl_rev
    if (!text.n)
        text = kl_arena_printf(r->arena, "%lld", (long long)asked);
    struct kl_fail *f =
        kl_fail_set(r, 504, "Timeout", "Timeout: Too large resource version: %.*s, current: %lld",
                    KL_PRI(text), (long long)kl_view_rev(kl_req_view(r)));
    f->retry_after_s = 1;
    f->causes = KL_ARENA_NEW(r->arena, struct kl_cause);
    if (f->causes) {
        f->ncauses = 1;
        f->causes[0] = (struct kl_cause){.reason = KL_STR("ResourceVersionTooLarge"),
                                         .message = KL_STR("Too large resource version")};
    }
    return f;
}

// ---- field errors

static const struct kl_cause unsaid = {
    {"InternalError", 13}, {"Internal error: out of memory", 29}, {"", 0}};

void kl_field_error(struct kl_field_errors *e, const char *type, struct kl_str field,
                    const char *fmt, ...)
{
    if (e->n == e->cap) {
        size_t cap = e->cap ? 2 * e->cap : AUTO_CAUSES_FIRST;
        struct kl_cause *c = kl_arena_alloc(e->arena, cap * sizeof *c);
        if (!c && !e->n) { // what is wrong must not pass for want of memory to say it
            e->causes = (struct kl_cause *)(uintptr_t)&unsaid;
            e->n = e->cap = 1;
        }
        if (!c)
            return;
        if (e->n)
            memcpy(c, e->causes, e->n * sizeof *c);
        e->causes = c;
        e->cap = cap;
    }
    va_list ap;
    va_start(ap, fmt);
    struct kl_str m = kl_arena_vprintf(e->arena, fmt, ap);
    va_end(ap);
    e->causes[e->n++] = (struct kl_cause){kl_str(type), m, field};
}

void kl_field_required(struct kl_field_errors *e, struct kl_str field, const char *detail)
{
    kl_field_error(e, "FieldValueRequired", field, "Required value%s%s", *detail ? ": " : "",
                   detail);
}

void kl_field_invalid(struct kl_field_errors *e, struct kl_str field, struct kl_str value,
                      const char *detail)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_go_quote(&b, value);
    kl_field_error(e, "FieldValueInvalid", field, "Invalid value: %.*s%s%s", KL_PRI(kl_buf_str(&b)),
                   *detail ? ": " : "", detail);
    kl_buf_fini(&b);
}

void kl_field_forbidden(struct kl_field_errors *e, struct kl_str field, const char *detail)
{
    kl_field_error(e, "FieldValueForbidden", field, "Forbidden: %s", detail);
}

void kl_field_unsupported(struct kl_field_errors *e, struct kl_str field, struct kl_str value,
                          const char *const *supported)
{
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    for (size_t i = 0; supported[i]; i++)
        kl_buf_printf(&b, "%s\"%s\"", i ? ", " : "", supported[i]);
    kl_field_error(e, "FieldValueNotSupported", field,
                   "Unsupported value: \"%.*s\": supported values: %.*s", KL_PRI(value),
                   KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
}

void kl_field_duplicate(struct kl_field_errors *e, struct kl_str field, struct kl_str value)
{
    kl_field_error(e, "FieldValueDuplicate", field, "Duplicate value: \"%.*s\"", KL_PRI(value));
}

int kl_field_aggregate(const struct kl_field_errors *e, struct kl_error *err)
{
    struct kl_buf b;
    if (!e->n)
        return 0;
    kl_buf_init(&b, KL_ERROR_TEXT_MAX);
    for (size_t i = 0; i < e->n; i++)
        kl_buf_printf(&b, "%s%.*s: %.*s",
                      i          ? ", "
                      : e->n > 1 ? "["
                                 : "",
                      KL_PRI(e->causes[i].field), KL_PRI(e->causes[i].message));
    if (e->n > 1)
        kl_buf_putc(&b, ']');
    int rc = kl_error_set(err, KL_EINVALID, "%.*s", KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
    return rc;
}

// field.ErrorList.ToAggregate().Error(): one error stands alone, several in brackets; doubles once.
static struct kl_str join_errors(struct kl_arena *a, const struct kl_field_errors *e)
{
    struct kl_buf b;
    size_t shown = 0;
    kl_buf_init(&b, 1 << 20);
    for (size_t i = 0; i < e->n; i++) {
        const struct kl_cause *c = &e->causes[i];
        bool twice = false;
        for (size_t j = 0; j < i && !twice; j++)
            twice = kl_str_eq(c->field, e->causes[j].field) &&
                    kl_str_eq(c->message, e->causes[j].message);
        if (!twice)
            kl_buf_printf(&b, "%s%.*s: %.*s", shown++ ? ", " : "", KL_PRI(c->field),
                          KL_PRI(c->message));
    }
    struct kl_str all = kl_buf_str(&b);
    struct kl_str out =
        shown > 1 ? kl_arena_printf(a, "[%.*s]", KL_PRI(all)) : kl_arena_dup(a, all);
    kl_buf_fini(&b);
    return out;
}

struct kl_fail *kl_fail_invalid(struct kl_req *r, struct kl_str kind, struct kl_str group,
                                struct kl_str name, const struct kl_field_errors *e)
{
    struct kl_fail *f = begin(r, 422, "Invalid");
    struct kl_str q = qualified(r->arena, kind, group), all = join_errors(r->arena, e);
    struct kl_str s = shown(r->arena, name);
    f->message = kl_arena_printf(r->arena, "%.*s \"%.*s\" is invalid: %.*s", KL_PRI(q), KL_PRI(s),
                                 KL_PRI(all));
    set_details(f, group, kind, name);
    f->causes = e->causes;
    f->ncauses = e->n;
    return f;
}

// ---- Status

static bool has_empty_details(int http)
{
    return (http >= 403 && http <= 405) || http == 422;
}

struct kl_value kl_fail_status(struct kl_arena *a, const struct kl_fail *f)
{
    struct kl_value s = kl_new_struct(), d = kl_new_struct(), causes = kl_new_array();
    kl_set(a, &s, KL_F_metadata, kl_new_struct());
    kl_set(a, &s, KL_F_status, kl_stringz("Failure"));
    kl_set(a, &s, KL_F_message, kl_string(f->message));
    if (f->reason.n)
        kl_set(a, &s, KL_F_reason, kl_string(f->reason));
    if (f->name.n)
        kl_set(a, &d, KL_F_name, kl_string(f->name));
    if (f->group.n)
        kl_set(a, &d, KL_F_group, kl_string(f->group));
    if (f->kind.n)
        kl_set(a, &d, KL_F_kind, kl_string(f->kind));
    if (f->uid.n)
        kl_set(a, &d, KL_F_uid, kl_string(f->uid));
    for (size_t i = 0; i < f->ncauses; i++) {
        struct kl_value c = kl_new_struct();
        if (f->causes[i].reason.n)
            kl_set(a, &c, KL_F_reason, kl_string(f->causes[i].reason));
        kl_set(a, &c, KL_F_message, kl_string(f->causes[i].message));
        if (f->causes[i].field.n)
            kl_set(a, &c, KL_F_field, kl_string(f->causes[i].field));
        kl_append(a, &causes, c);
    }
    if (f->ncauses)
        kl_set(a, &d, KL_F_causes, causes);
    if (f->retry_after_s)
        kl_set(a, &d, KL_F_retryAfterSeconds, kl_int(f->retry_after_s));
    // NewUnauthorized, NewBadRequest and the like carry no details; resource errors always do.
    if (d.n || f->bare_details || has_empty_details(f->http))
        kl_set(a, &s, KL_F_details, d);
    kl_set(a, &s, KL_F_code, kl_int(f->http));
    return s;
}

// ---- ends

void kl_req_done(struct kl_req *r)
{
    r->done(r);
}

static void run_answered(void *arg)
{
    kl_req_rerun(arg);
}

void kl_req_fail(struct kl_req *r)
{
    // What was refused while an authoriser had not answered is tried again when it has.
    if (r->dispatched && kl_ask_wait(&r->ask, run_answered, r))
        return;
    if (r->dispatched && r->memos && kl_req_convert_again(r, run_answered, r))
        return;
    if (kl_req_retry(r))
        return;
    r->result = KL_RESULT_FAIL;
    r->http = r->fail.http;
    r->done(r);
}

static void converted(void *arg, int code)
{
    struct kl_req *r = arg;
    if (code) {
        kl_kv_unref(r->kv);
        r->kv = NULL;
        kl_req_fail(r);
    } else {
        r->done(r);
    }
}

void kl_req_ok_kv(struct kl_req *r, int http, struct kl_kv *kv)
{
    r->result = KL_RESULT_KV;
    r->http = http;
    r->kv = kl_kv_ref(kv);
    if (!r->info.res->custom || !kl_req_convert(r, r->info.res, kv, converted, r))
        r->done(r);
}

void kl_req_ok_value(struct kl_req *r, int http, const struct kl_type *type,
                     const char *api_version, const char *kind, struct kl_value v)
{
    r->result = KL_RESULT_OBJECT;
    r->http = http;
    r->type = type;
    r->api_version = kl_str(api_version);
    r->kind = kl_str(kind);
    r->value = v;
    r->done(r);
}

void kl_req_ok_status(struct kl_req *r, struct kl_str uid)
{
    struct kl_arena *a = r->arena;
    struct kl_value s = kl_new_struct(), d = kl_new_struct();
    kl_set(a, &s, KL_F_metadata, kl_new_struct());
    kl_set(a, &s, KL_F_status, kl_stringz("Success"));
    if (r->info.name.n)
        kl_set(a, &d, KL_F_name, kl_string(r->info.name));
    if (r->info.group.n)
        kl_set(a, &d, KL_F_group, kl_string(r->info.group));
    kl_set(a, &d, KL_F_kind, kl_string(r->info.plural));
    if (uid.n)
        kl_set(a, &d, KL_F_uid, kl_string(uid));
    kl_set(a, &s, KL_F_details, d);
    kl_req_ok_value(r, 200, kl_type(KL_TYPE_meta_v1_Status), "v1", "Status", s);
}

void kl_req_ok_success(struct kl_req *r, int http)
{
    struct kl_value s = kl_new_struct();
    kl_set(r->arena, &s, KL_F_metadata, kl_new_struct());
    kl_set(r->arena, &s, KL_F_status, kl_stringz("Success"));
    kl_set(r->arena, &s, KL_F_code, kl_int(http));
    kl_req_ok_value(r, http, kl_type(KL_TYPE_meta_v1_Status), "v1", "Status", s);
}

void kl_req_note(struct kl_req *r, struct kl_str key, struct kl_str value, bool at_request_level)
{
    struct kl_audit_note **end = &r->notes;
    for (; *end; end = &(*end)->next)
        if (kl_str_eq((*end)->key, key))
            return;
    if ((*end = KL_ARENA_NEW(r->arena, struct kl_audit_note)))
        **end = (struct kl_audit_note){
            .key = key, .value = value, .at_request_level = at_request_level};
}

void kl_req_warn(struct kl_req *r, struct kl_str text)
{
    if (r->nwarnings >= KL_WARNINGS_SHOWN) // it would not be shown
        return;
    for (size_t i = 0; i < r->nwarnings; i++)
        if (kl_str_eq(r->warnings[i], text))
            return;
    // The room doubles: there is none left at every power of two.
    if (!(r->nwarnings & (r->nwarnings - 1))) {
        size_t room = r->nwarnings ? 2 * r->nwarnings : 1;
        struct kl_str *w = kl_arena_alloc(r->arena, room * sizeof *w);
        if (!w)
            return;
        if (r->nwarnings)
            memcpy(w, r->warnings, r->nwarnings * sizeof *w);
        r->warnings = w;
    }
    r->warnings[r->nwarnings++] = text;
}

void kl_req_keep_bytes(struct kl_req *r, struct kl_bytes *b)
{
    if (r->nkept == KL_COUNT(r->kept)) // a lost race made another: the oldest is not used any more
        kl_bytes_unref(r->kept[0]), memmove(r->kept, r->kept + 1, --r->nkept * sizeof b);
    r->kept[r->nkept++] = b;
}

void kl_req_fini(struct kl_req *r)
{
    for (size_t i = 0; i < r->nkept; i++)
        kl_bytes_unref(r->kept[i]);
    r->nkept = 0;
    if (r->memos)
        kl_req_forget_conversions(r);
    kl_ask_fini(&r->ask);
    kl_user_unref(r->user);
    kl_kv_unref(r->kv);
    kl_object_unref(r->frozen);
    kl_custom_family_unref(r->family);
    r->family = NULL;
    r->user = NULL;
    r->kv = NULL;
    r->frozen = NULL;
}
