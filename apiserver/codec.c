// SPDX-License-Identifier: Apache-2.0
// Bodies of requests to drafts, with upstream's refusals.
#include "apiserver/server_int.h"
#include "apiserver/strategy.h"
#include "object/convert.h"
#include "object/custom.h"
#include "object/json_kind.h"
#include "object/protobuf.h"
#include "object/yaml.h"

static const char *short_kind(const struct kl_req *r, const struct kl_type *t)
{
    if (r->family && t == r->info.res->type)
        return r->info.res->kind;
    const char *dot = t->name ? strrchr(t->name, '.') : NULL;
    return dot ? dot + 1 : t->name ? t->name : "object";
}

static struct kl_str version_of(struct kl_str api_version)
{
    ptrdiff_t slash = kl_str_chr(api_version, '/');
    return slash < 0 ? api_version : kl_str_from(api_version, (size_t)slash + 1);
}

enum { SUMMARY_BYTES = 30 };

// summarizeData: what was sent, as text when it looks like JSON, else in hexadecimal.
static struct kl_str summarize(struct kl_arena *a, struct kl_str data)
{
    size_t n = data.n < SUMMARY_BYTES ? data.n : SUMMARY_BYTES;
    const char *more = data.n > n ? " ..." : "";
    struct kl_buf b;
    if (!data.n)
        return KL_STR("<empty>");
    if (data.p[0] == '{')
        return kl_arena_printf(a, "%.*s%s", (int)n, data.p, more);
    kl_buf_init(&b, 256);
    for (size_t i = 0; i < n; i++)
        kl_buf_printf(&b, "%02x", (unsigned char)data.p[i]);
    kl_buf_puts(&b, kl_str(more));
    struct kl_str out = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out;
}

// transformDecodeError; without an expected resource (DeleteOptions) the error stands alone.
static int refuse(struct kl_req *r, const struct kl_type *type, const struct kl_resource *expect,
                  struct kl_str api_version, struct kl_str kind, struct kl_error *err,
                  const char *what)
{
    if (!expect)
        return kl_error_set(err, KL_EBADREQUEST, "%s", what);
    if (kind.n)
        return kl_error_set(err, KL_EBADREQUEST,
                            "%.*s in version \"%.*s\" cannot be handled as a %s: %s", KL_PRI(kind),
                            KL_PRI(version_of(api_version)), short_kind(r, type), what);
    struct kl_str head = summarize(r->arena, r->body);
    return kl_error_set(err, KL_EBADREQUEST,
                        "the object provided is unrecognized (must be of type %s): %s (%.*s)",
                        short_kind(r, type), what, KL_PRI(head));
}

// What upstream's look at apiVersion and kind says before anything else is decoded: the type of a
// document that is no object, or of a kind that is no string. NULL when it has nothing to say.
static const char *peek_complaint(struct kl_arena *a, struct kl_str text)
{
    static const char into[] =
        "Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind "
        "string \"json:\\\"kind,omitempty\\\"\" }";
    struct kl_str t = kl_str_trim(text);
    struct kl_value v;
    struct kl_error ignored;
    if (!t.n || t.p[0] == 'n')
        return NULL;
    const char *is = t.p[0] == '['                    ? "array"
                     : t.p[0] == '"'                  ? "string"
                     : t.p[0] == 't' || t.p[0] == 'f' ? "bool"
                     : t.p[0] == '{'                  ? NULL
                                                      : "number";
    if (is)
        return kl_arena_printf(a,
                               "couldn't get version/kind; json parse error: json: cannot "
                               "unmarshal %s into %s",
                               is, into)
            .p;
    if (kl_json_parse(a, text, NULL, &v, &ignored))
        return NULL;
    static const char *const fields[] = {"apiVersion", "kind"};
    for (size_t i = 0; i < 2; i++) {
        const struct kl_value *f = kl_map_value(&v, kl_str(fields[i]));
        if (f && f->kind != KL_STRING && f->kind != KL_NULL)
            return kl_arena_printf(a,
                                   "couldn't get version/kind; json parse error: json: cannot "
                                   "unmarshal %s into Go struct field .%s of type string",
                                   kl_json_kind(f), fields[i])
                .p;
    }
    return NULL;
}

static struct kl_str group_of(struct kl_str api_version)
{
    ptrdiff_t slash = kl_str_chr(api_version, '/');
    return slash < 0 ? KL_STR("") : (struct kl_str){api_version.p, (size_t)slash};
}

struct decoded {
    struct kl_str api_version, kind, name;
    const char *complaint;      // about the head of the document
    const struct kl_type *type; // what the document says it is; NULL: no such kind
};

// Versions that are served no more but that upstream's scheme still knows: their documents are
// refused for the version, not for the kind.
static bool is_retired(struct kl_str api_version)
{
    static const char *const retired[] = {
        "extensions/v1beta1",  "apps/v1beta1",        "apps/v1beta2",
        "batch/v1beta1",       "policy/v1beta1",      "networking.k8s.io/v1beta1",
        "autoscaling/v2beta1", "autoscaling/v2beta2", "rbac.authorization.k8s.io/v1beta1"};
    for (size_t i = 0; i < KL_COUNT(retired); i++)
        if (kl_str_eqz(api_version, retired[i]))
            return true;
    return false;
}

static void judge_head(struct kl_req *r, const struct kl_type *type, struct decoded *d)
{
    d->type = type;
    if (r->family && type == r->info.res->type)
        return; // check_custom_kind judges it
    if (d->kind.n && d->api_version.n && !is_retired(d->api_version))
        d->type = kl_type_by_kind(group_of(d->api_version), version_of(d->api_version), d->kind);
}

static int decode_protobuf(struct kl_req *r, const struct kl_type *type, struct decoded *d,
                           struct kl_value *ret, struct kl_error *err)
{
    struct kl_envelope env;
    if (!r->body.n)
        return kl_error_set(err, KL_EBADREQUEST, "empty data");
    int rc = kl_pb_open(r->body, &env, err);
    if (rc)
        return rc;
    d->api_version = env.api_version;
    d->kind = env.kind;
    judge_head(r, type, d);
    if (r->family && type == r->info.res->type)
        return kl_error_set(err, KL_EBADREQUEST,
                            "object *unstructured.Unstructured does not implement the protobuf "
                            "marshalling interface and cannot be encoded to a protobuf message");
    return d->type ? kl_pb_decode(r->arena, d->type, env.raw, ret, err) : 0;
}

static int decode_yaml(struct kl_req *r, const struct kl_type *type, struct kl_strict *strict,
                       struct decoded *d, struct kl_value *ret, struct kl_error *err)
{
    struct kl_value untyped;
    int rc = kl_yaml_parse(r->arena, r->body, strict, &untyped, err);
    if (rc)
        return rc;
    if (!kl_is(&untyped, KL_MAP) && !kl_is(&untyped, KL_NULL)) {
        struct kl_buf b;
        kl_buf_init(&b, KL_MAX_ARENA_BYTES);
        kl_json_write(&b, &untyped);
        d->complaint = peek_complaint(r->arena, kl_buf_str(&b));
        kl_buf_fini(&b);
        return KL_EBADREQUEST;
    }
    d->api_version = kl_text(kl_map_value(&untyped, KL_STR("apiVersion")));
    d->kind = kl_text(kl_map_value(&untyped, KL_STR("kind")));
    judge_head(r, type, d);
    return d->type ? kl_typed_from_untyped(r->arena, d->type, &untyped, strict, ret, err) : 0;
}

static int decode_json(struct kl_req *r, const struct kl_type *type, struct kl_strict *strict,
                       struct decoded *d, struct kl_value *ret, struct kl_error *err)
{
    int rc = kl_json_decode(r->arena, type, r->body, strict, ret, err);
    if (!rc) {
        d->api_version = kl_text(kl_get(ret, KL_F_apiVersion));
        d->kind = kl_text(kl_get(ret, KL_F_kind));
        judge_head(r, type, d);
    } else if (strstr(err->msg, "couldn't get version/kind") == NULL) {
        d->complaint = peek_complaint(r->arena, r->body);
        if (!d->complaint) {
            kl_json_peek_gvk(r->body, &d->api_version, &d->kind);
            judge_head(r, type, d);
        }
    }
    // A document of another kind is judged as what it says it is.
    if (d->type && d->type != type) {
        if (strict)
            strict->n = 0;
        err->code = 0;
        rc = kl_json_decode(r->arena, d->type, r->body, strict, ret, err);
    }
    return rc;
}

// parseYAMLWarnings: a warning says what is wrong, not who said it.
static struct kl_str bare_warning(struct kl_str s)
{
    const struct kl_str head = KL_STR("yaml: unmarshal errors:\n");
    return kl_str_starts(s, head) ? kl_str_trim(kl_str_from(s, head.n)) : s;
}

static int report_strict(struct kl_req *r, const struct kl_type *type,
                         const struct kl_resource *expect, struct kl_strict *s,
                         const struct decoded *d, struct kl_error *err)
{
    if (!s->n)
        return 0;
    if (r->opts.field_validation == KL_VALIDATE_WARN) {
        for (size_t i = 0; i < s->n; i++)
            kl_req_warn(r, bare_warning(s->messages[i]));
        return 0;
    }
    struct kl_buf b;
    kl_buf_init(&b, KL_ERROR_TEXT_MAX);
    kl_buf_puts(&b, KL_STR("strict decoding error: "));
    for (size_t i = 0; i < s->n && !b.err; i++)
        kl_buf_printf(&b, "%s%.*s", i ? ", " : "", KL_PRI(s->messages[i]));
    struct kl_str text = kl_arena_dup(r->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return refuse(r, type, expect, d->api_version, d->kind, err,
                  text.p ? text.p : "strict decoding error");
}

// The apiVersion and kind that the body of this request must have: the resource's or, where a
// subresource takes a type of its own, that one's.
static void expected_kind(const struct kl_req *r, const struct kl_type *type,
                          const struct kl_resource *expect, struct kl_str *ret_group,
                          const char **ret_version, const char **ret_kind)
{
    const struct kl_subresource *s = r->info.subres;
    bool sub = s && s->type == type && expect->type != type;
    *ret_group = kl_str(sub ? s->group : expect->group);
    *ret_version = sub ? s->version : expect->version;
    *ret_kind = sub ? s->kind : expect->kind;
}

// Unstructured objects say what they are; the version is the registry's to check, the kind its
// validator's.
static int check_custom_kind(struct kl_req *r, const struct kl_type *type,
                             const struct kl_resource *expect, const struct decoded *d,
                             struct kl_error *err)
{
    if (!d->kind.n) {
        struct kl_str why =
            kl_arena_printf(r->arena, "Object 'Kind' is missing in '%.*s'", KL_PRI(r->body));
        return refuse(r, type, expect, d->api_version, d->kind, err, why.p ? why.p : "");
    }
    if (!kl_str_eqz(d->api_version, expect->api_version))
        return kl_error_set(err, KL_EBADREQUEST,
                            "the API version in the data (%.*s) does not match the expected API "
                            "version (%s)",
                            KL_PRI(d->api_version), expect->api_version);
    if (kl_str_eqz(d->kind, expect->kind))
        return 0;
    return kl_error_set(
        err, KL_EINVALID, "%.*s.%s \"%.*s\" is invalid: kind: Invalid value: \"%.*s\": must be %s",
        KL_PRI(d->kind), expect->group, KL_PRI(d->name), KL_PRI(d->kind), expect->kind);
}

// The Go package of upstream's internal types of a group.
static struct kl_str package_of(struct kl_str group)
{
    ptrdiff_t dot = kl_str_chr(group, '.');
    if (!group.n || kl_str_starts(group, KL_STR("events.")))
        return KL_STR("core");
    return dot < 0 ? group : (struct kl_str){group.p, (size_t)dot};
}

static size_t slashes(struct kl_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == '/';
    return n;
}

static int check_kind(struct kl_req *r, const struct kl_type *type,
                      const struct kl_resource *expect, const struct decoded *d,
                      struct kl_error *err)
{
    struct kl_str why, group;
    const char *version, *kind;
    if (expect && expect->custom && type == expect->type)
        return check_custom_kind(r, type, expect, d, err);
    if (!d->type && slashes(d->api_version) > 1) {
        why = kl_arena_printf(r->arena, "unexpected GroupVersion string: %.*s",
                              KL_PRI(d->api_version));
        return refuse(r, type, expect, d->api_version, KL_STR(""), err, why.p ? why.p : "");
    }
    // core/v1 has a List, which is of no use here but is a kind.
    bool list = kl_str_eqz(d->kind, "List") && kl_str_eqz(d->api_version, "v1");
    if (!d->type && !(list && expect)) {
        why = kl_arena_printf(r->arena,
                              "no kind \"%.*s\" is registered for version \"%.*s\" in scheme "
                              "\"pkg/runtime/scheme.go:111\"",
                              KL_PRI(d->kind), KL_PRI(d->api_version));
        return refuse(r, type, expect, d->api_version, d->kind, err, why.p ? why.p : "");
    }
    if (!expect) {
        if (d->type == type)
            return 0;
        return kl_error_set(err, KL_EBADREQUEST,
                            "no kind \"%.*s\" is registered for version \"%.*s\" in scheme "
                            "\"pkg/runtime/scheme.go:111\"",
                            KL_PRI(d->kind), KL_PRI(d->api_version));
    }
    expected_kind(r, type, expect, &group, &version, &kind);
    if (d->kind.n && !kl_str_eqz(d->kind, kind)) {
        struct kl_str package = package_of(group);
        why = kl_arena_printf(r->arena, "converting (%.*s.%.*s) to (%.*s.%s): unknown conversion",
                              KL_PRI(version_of(d->api_version)), KL_PRI(d->kind), KL_PRI(package),
                              kind);
        return refuse(r, type, expect, d->api_version, d->kind, err, why.p ? why.p : "");
    }
    if (d->api_version.n && (!kl_str_eqz(version_of(d->api_version), version) ||
                             !kl_str_eq(group_of(d->api_version), group)))
        return kl_error_set(err, KL_EBADREQUEST,
                            "the API version in the data (%.*s) does not match the expected API "
                            "version (%.*s%s%s)",
                            KL_PRI(d->api_version), KL_PRI(group), group.n ? "/" : "", version);
    return 0;
}

int kl_body_decode(struct kl_req *r, const struct kl_type *type, const struct kl_resource *expect,
                   struct kl_value *ret, struct kl_error *err)
{
    struct decoded d = {0};
    struct kl_strict *strict = NULL;
    int rc;
    struct kl_object *object = r->admitted ? r->admitted : r->body_object;
    if (object) {
        if (object->type == type) {
            *ret = kl_object_draft(object);
            return 0;
        }
        return kl_error_set(err, KL_EBADREQUEST, "object of type %s where %s is expected",
                            object->type->name, type->name);
    }
    *ret = kl_new_struct(); // of a kind that nobody knows nothing is decoded
    if (r->opts.field_validation != KL_VALIDATE_IGNORE &&
        !(strict = KL_ARENA_NEW(r->arena, struct kl_strict)))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if (r->body_media == KL_MEDIA_PROTOBUF)
        rc = decode_protobuf(r, type, &d, ret, err);
    else if (r->body_media == KL_MEDIA_YAML)
        rc = decode_yaml(r, type, strict, &d, ret, err);
    else
        rc = decode_json(r, type, strict, &d, ret, err);
    if (rc == KL_ENOMEM || rc == KL_ETOOLARGE)
        return rc;
    if (rc && (d.type || !d.kind.n || d.complaint)) {
        struct kl_str why = kl_arena_dup(r->arena, kl_str(d.complaint ? d.complaint : err->msg));
        return refuse(r, type, expect, d.api_version, d.kind, err, why.p ? why.p : "");
    }
    d.name = rc ? r->info.name : kl_meta_name(ret);
    if ((rc = check_kind(r, type, expect, &d, err)))
        return rc;
    const char *misfit = kl_draft_misfit(r->arena, type, ret);
    if (misfit && expect) // what the document does not say, it is known by then to be
        return refuse(r, type, expect, kl_str(expect->api_version), kl_str(expect->kind), err,
                      misfit);
    return strict ? report_strict(r, type, expect, strict, &d, err) : 0;
}

struct kl_object *kl_object_in_version(const struct kl_resource *res, struct kl_object *o,
                                       struct kl_error *err)
{
    const struct kl_resource *st = kl_resource_storage(res);
    if (st == res || !kl_convert_needed(st, res))
        return kl_object_ref(o);
    struct kl_arena a;
    struct kl_value v;
    struct kl_object *out = NULL;
    kl_arena_init(&a, KL_MAX_ARENA_BYTES);
    if (!kl_convert(&a, st, res, &o->root, &v, err) && !(out = kl_object_freeze(res->type, &v)))
        kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_arena_fini(&a);
    return out;
}

int kl_req_result_root(struct kl_req *r, const struct kl_type **ret_type,
                       const struct kl_value **ret_root, struct kl_error *err)
{
    if (r->result == KL_RESULT_KV) {
        if (!r->frozen) {
            struct kl_object *o = kl_cache_object(r->kv, r->info.res, err);
            if (!o || !(r->frozen = kl_object_in_version(r->info.res, o, err)))
                return err->code ? err->code : KL_EINTERNAL;
        }
    } else if (!r->frozen) {
        if (!(r->frozen = kl_object_freeze(r->type, &r->value)))
            return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    *ret_type = r->frozen->type;
    *ret_root = &r->frozen->root;
    return 0;
}
