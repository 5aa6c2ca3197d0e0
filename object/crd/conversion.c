// SPDX-License-Identifier: Apache-2.0
#include "object/gotext_int.h"
#include "object/crd/conversion.h"
#include "object/json_kind.h"
#include "object/names.h"
#include <ctype.h>

enum { ANNOTATIONS_MAX = 256 * 1024, SHOWN_MAX = 512 };

// ---- the question

void kl_conversion_begin(struct kl_buf *out, enum kl_conversion_review v, struct kl_str uid,
                         struct kl_str desired)
{
    kl_buf_printf(out,
                  "{\"kind\":\"ConversionReview\",\"apiVersion\":\"apiextensions.k8s.io/%s\","
                  "\"request\":{\"uid\":\"%.*s\",\"desiredAPIVersion\":",
                  v == KL_REVIEW_V1 ? "v1" : "v1beta1", KL_PRI(uid));
    kl_json_write_string(out, desired);
    kl_buf_puts(out, KL_STR(",\"objects\":["));
}

void kl_conversion_end(struct kl_buf *out)
{
    kl_buf_puts(out, KL_STR("]},\"response\":{\"uid\":\"\",\"convertedObjects\":null,\"result\":{"
                            "\"metadata\":{}}}}\n"));
}

// ---- the answer

static const struct kl_value *member(const struct kl_value *v, const char *key)
{
    const struct kl_value *m = kl_is(v, KL_MAP) ? kl_map_value(v, kl_str(key)) : NULL;
    return m && m->kind != KL_NULL ? m : NULL;
}

static bool may_be(const struct kl_value *v, enum kl_value_kind kind)
{
    return !v || v->kind == (uint32_t)kind;
}

static int failed(const struct kl_conversion_ask *ask, int code, struct kl_error *err)
{
    kl_error_wrap(err, "conversion webhook for %.*s failed", KL_PRI(ask->of));
    return code;
}

// A kind as Go shows it: group, version, kind; an apiVersion with two slashes has neither.
static struct kl_str show_kind(struct kl_arena *a, struct kl_str api_version, struct kl_str kind)
{
    ptrdiff_t slash = kl_str_chr(api_version, '/');
    if (slash >= 0 && kl_str_chr(kl_str_from(api_version, (size_t)slash + 1), '/') >= 0)
        api_version = KL_STR("");
    return kl_arena_printf(a, "%s%.*s, Kind=%.*s", slash < 0 || !api_version.n ? "/" : "",
                           KL_PRI(api_version), KL_PRI(kind));
}

static const char *review_name(const struct kl_conversion_ask *ask)
{
    return ask->review == KL_REVIEW_V1 ? "v1" : "v1beta1";
}

// What cannot be read into Go's structs: the first member that is of another type.
static int check_types(const struct kl_conversion_ask *ask, const struct kl_value *v,
                       struct kl_error *err)
{
    const struct kl_value *resp = member(v, "response"), *result = member(resp, "result");
    const struct {
        const struct kl_value *v;
        enum kl_value_kind kind;
        const char *path, *type;
    } members[] = {
        {resp, KL_MAP, "ConversionReview.response", ".ConversionResponse"},
        {member(resp, "uid"), KL_STRING, "ConversionResponse.response.uid", "types.UID"},
        {member(resp, "convertedObjects"), KL_ARRAY, "ConversionResponse.response.convertedObjects",
         "[]runtime.RawExtension"},
        {result, KL_MAP, "ConversionResponse.response.result", "v1.Status"},
        {member(result, "status"), KL_STRING, "Status.response.result.status", "string"},
        {member(result, "message"), KL_STRING, "Status.response.result.message", "string"},
    };
    for (size_t i = 0; i < KL_COUNT(members); i++)
        if (!may_be(members[i].v, members[i].kind))
            return kl_error_set(err, KL_EINVALID,
                                "json: cannot unmarshal %s into Go struct field %s of type %s%s",
                                kl_json_kind(members[i].v), members[i].path,
                                members[i].type[0] == '.' ? review_name(ask) : "", members[i].type);
    return 0;
}

// Whether the decoder knows what it is told to read; what is left out is as it was asked for.
static int check_kind(const struct kl_conversion_ask *ask, struct kl_str api, struct kl_str kind,
                      struct kl_error *err)
{
    static const struct kl_str group = KL_STR("apiextensions.k8s.io/");
    const char *v = review_name(ask), *is = NULL;
    struct kl_str version = kl_str_starts(api, group) ? kl_str_from(api, group.n) : KL_STR("");
    if (!kind.n)
        kind = KL_STR("ConversionReview");
    if (!api.n)
        version = kl_str(v);
    if (kl_str_eqz(kind, "ConversionReview") && kl_str_eqz(version, v))
        return 0;
    if (kl_str_eqz(kind, "ConversionReview") && kl_str_eqz(version, "v1"))
        is = "v1.ConversionReview";
    else if (kl_str_eqz(kind, "ConversionReview") && kl_str_eqz(version, "v1beta1"))
        is = "v1beta1.ConversionReview";
    else if (kl_str_eqz(kind, "Status") && kl_str_eqz(api, "v1"))
        is = "v1.Status";
    if (is)
        return kl_error_set(err, KL_EINVALID,
                            "converting (%s) to (%s.ConversionReview): unknown conversion", is, v);
    return kl_error_set(err, KL_EINVALID,
                        "no kind \"%.*s\" is registered for version \"%s%.*s\" in scheme "
                        "\"pkg/runtime/scheme.go:111\"",
                        KL_PRI(kind), api.n ? "" : "apiextensions.k8s.io/",
                        KL_PRI(api.n ? api : version));
}

int kl_conversion_read(struct kl_arena *a, const struct kl_conversion_ask *ask, struct kl_str body,
                       const struct kl_value **ret_objects, enum kl_conversion_failure *ret_failure,
                       struct kl_error *err)
{
    static const struct kl_value none = {.kind = KL_ARRAY};
    struct kl_value *v = KL_ARENA_NEW(a, struct kl_value);
    *ret_failure = KL_CONVERSION_CALL;
    if (!v)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int rc = kl_json_parse(a, body, NULL, v, err);
    if (rc == KL_ENOMEM)
        return rc;
    if (rc) {
        kl_error_wrap(err, "couldn't get version/kind; json parse error");
        return failed(ask, KL_EINVALID, err);
    }
    if (v->kind == KL_NULL)
        *v = kl_new_map();
    if (v->kind != KL_MAP) {
        kl_error_set(err, KL_EINVALID,
                     "couldn't get version/kind; json parse error: json: cannot unmarshal %s into "
                     "Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty"
                     "\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }",
                     kl_json_kind(v));
        return failed(ask, KL_EINVALID, err);
    }
    const struct kl_value *heads[] = {member(v, "apiVersion"), member(v, "kind")};
    for (size_t i = 0; i < 2; i++)
        if (!may_be(heads[i], KL_STRING)) {
            kl_error_set(err, KL_EINVALID,
                         "couldn't get version/kind; json parse error: json: cannot unmarshal %s "
                         "into Go struct field .%s of type string",
                         kl_json_kind(heads[i]), i ? "kind" : "apiVersion");
            return failed(ask, KL_EINVALID, err);
        }
    struct kl_str api = kl_text(heads[0]), kind = kl_text(heads[1]);
    if (check_kind(ask, api, kind, err) || check_types(ask, v, err))
        return failed(ask, KL_EINVALID, err);
    *ret_failure = KL_CONVERSION_MALFORMED;
    const struct kl_value *resp = member(v, "response"), *result = member(resp, "result");
    struct kl_str uid = kl_text(member(resp, "uid")), status = kl_text(member(result, "status"));
    struct kl_str message = kl_text(member(result, "message"));
    bool v1 = ask->review == KL_REVIEW_V1; // v1beta1 is believed whatever it calls itself
    if (v1 &&
        (!kl_str_eqz(api, "apiextensions.k8s.io/v1") || !kl_str_eqz(kind, "ConversionReview")))
        rc = kl_error_set(err, KL_EINVALID,
                          "expected webhook response of apiextensions.k8s.io/v1, "
                          "Kind=ConversionReview, got %.*s",
                          KL_PRI(show_kind(a, api, kind)));
    else if (!resp)
        rc = kl_error_set(err, KL_EINVALID, "no response provided");
    else if (v1 && !kl_str_eq(uid, ask->uid))
        rc = kl_error_set(err, KL_EINVALID, "expected response.uid=\"%.*s\", got \"%.*s\"",
                          KL_PRI(ask->uid), KL_PRI(uid));
    else if (!kl_str_eqz(status, "Success") && message.n)
        rc = kl_error_set(err, KL_EINVALID, "%.*s", KL_PRI(message));
    else if (!kl_str_eqz(status, "Success"))
        rc = kl_error_set(err, KL_EINVALID, "response.result.status was '%.*s', not 'Success'",
                          KL_PRI(status));
    if (rc)
        return failed(ask, rc, err);
    const struct kl_value *objects = member(resp, "convertedObjects");
    *ret_failure = KL_CONVERSION_PARTIAL;
    if (kl_len(objects) != ask->n)
        return kl_error_set(err, KL_EINVALID,
                            "conversion webhook for %.*s returned %zu objects, expected %zu",
                            KL_PRI(ask->of), (size_t)kl_len(objects), ask->n);
    *ret_objects = objects ? objects : &none;
    *ret_failure = KL_CONVERSION_OK;
    return 0;
}

// ---- one object

// `what` is "object" or "metadata".
static int refuse(const struct kl_conversion_ask *ask, size_t index, bool of_meta,
                  struct kl_error *err)
{
    if (ask->list && of_meta)
        kl_error_wrap(err,
                      "conversion webhook for %.*s returned invalid metadata in object at "
                      "index %zu",
                      KL_PRI(ask->of), index);
    else if (ask->list)
        kl_error_wrap(err,
                      "conversion webhook for %.*s returned invalid converted object at index %zu",
                      KL_PRI(ask->of), index);
    else
        kl_error_wrap(err, "conversion webhook for %.*s returned invalid %s", KL_PRI(ask->of),
                      of_meta ? "metadata" : "object");
    return KL_EINVALID;
}

static struct kl_str text_of(const struct kl_value *root, const char *key)
{
    return kl_text(member(root, key));
}

// Unstructured.UnmarshalJSON, for one object not wrapped as for those of lists.
static int check_object(const struct kl_conversion_ask *ask, size_t index,
                        const struct kl_value *now, struct kl_error *err)
{
    struct kl_str api = text_of(now, "apiVersion");
    ptrdiff_t slash = kl_str_chr(api, '/');
    bool has_kind = text_of(now, "kind").n && // an apiVersion that is none hides it
                    (slash < 0 || kl_str_chr(kl_str_from(api, (size_t)slash + 1), '/') < 0);
    if (now->kind == KL_MAP && has_kind)
        return 0;
    if (now->kind == KL_NULL) {
        kl_error_set(err, KL_EINVALID, "unexpected end of JSON input");
    } else if (now->kind != KL_MAP) {
        kl_error_set(err, KL_EINVALID,
                     "json: cannot unmarshal %s into Go value of type map[string]interface {}",
                     kl_json_kind(now));
    } else {
        struct kl_buf b;
        kl_buf_init(&b, 64 * 1024);
        kl_json_write(&b, now);
        kl_error_set(err, KL_EINVALID, "Object 'Kind' is missing in '%.*s'",
                     (int)(b.n < SHOWN_MAX ? b.n : SHOWN_MAX), b.n ? b.p : "");
        kl_buf_fini(&b);
    }
    return ask->list ? refuse(ask, index, false, err) : KL_EINVALID;
}

static int differs(struct kl_error *err, const char *what, struct kl_str e, struct kl_str a)
{
    return kl_error_set(err, KL_EINVALID, "must have the same %s: %.*s != %.*s", what, KL_PRI(e),
                        KL_PRI(a));
}

static int check_identity(const struct kl_value *was, const struct kl_value *now,
                          struct kl_error *err)
{
    static const struct {
        const char *key, *shown;
    } same[] = {{"name", "name"}, {"namespace", "namespace"}, {"uid", "UID"}};
    const struct kl_value *wm = member(was, "metadata"), *nm = member(now, "metadata");
    for (size_t i = 0; i < KL_COUNT(same); i++) {
        struct kl_str e = text_of(wm, same[i].key), a = text_of(nm, same[i].key);
        if (!kl_str_eq(e, a))
            return differs(err, same[i].shown, e, a);
    }
    return 0;
}

// Findings of labels and annotations as an aggregate shows them.
struct findings {
    struct kl_buf text;
    size_t n;
};

// `why` is one message or several, "; " between them.
static void find(struct findings *f, const char *path, struct kl_str value, const char *why)
{
    while (*why) {
        const char *end = strstr(why, "; ");
        size_t n = end ? (size_t)(end - why) : strlen(why);
        kl_buf_puts(&f->text, f->n++ ? KL_STR(", ") : KL_STR(""));
        kl_buf_printf(&f->text, "%s: Invalid value: ", path);
        kl_json_write_string(&f->text, value);
        kl_buf_printf(&f->text, ": %.*s", (int)n, why);
        why += end ? n + 2 : n;
    }
}

static struct kl_str lower(struct kl_arena *a, struct kl_str s)
{
    struct kl_str out = kl_arena_dup(a, s);
    for (size_t i = 0; out.p && i < out.n; i++)
        ((char *)out.p)[i] = (char)tolower((unsigned char)out.p[i]);
    return out.p ? out : s;
}

static int check_texts(struct kl_arena *a, const struct kl_value *map, bool labels,
                       struct kl_error *err)
{
    struct findings f = {.n = 0};
    size_t total = 0;
    kl_buf_init(&f.text, 64 * 1024);
    for (KL_MAP_EACH_KEY(kv, map)) {
        struct kl_str k = kl_text(kv), v = kl_text(kv + 1);
        const char *why = kl_name_qualified(a, labels ? k : lower(a, k));
        if (why)
            find(&f, labels ? "metadata.labels" : "metadata.annotation", k, why);
        if (labels && (why = kl_name_label_value(v)))
            find(&f, "metadata.labels", v, why);
        total += k.n + v.n;
    }
    if (!labels && total > ANNOTATIONS_MAX) {
        kl_buf_puts(&f.text, f.n++ ? KL_STR(", ") : KL_STR(""));
        kl_buf_printf(&f.text, "metadata.annotation: Too long: may not be more than %d bytes",
                      ANNOTATIONS_MAX);
    }
    int rc = f.n ? kl_error_set(err, KL_EINVALID, f.n > 1 ? "[%.*s]" : "%.*s",
                                KL_PRI(kl_buf_str(&f.text)))
                 : 0;
    kl_buf_fini(&f.text);
    return rc;
}

static const char *go_type(const struct kl_value *v)
{
    return v->kind == KL_NULL ? "<nil>" : kl_go_value_type(v);
}

// Labels or annotations of the answer go over into the metadata that was sent.
static int take_texts(struct kl_arena *a, const struct kl_value *said, const char *key, bool labels,
                      struct kl_value *meta, struct kl_error *err)
{
    const struct kl_value *now = member(said, key), *was = member(meta, key);
    if (!now)
        return kl_map_unset(a, meta, kl_str(key)) ? KL_ENOMEM : 0;
    if (now->kind != KL_MAP)
        return kl_error_set(err, KL_EINVALID, "invalid metadata.%s of type %s in converted object",
                            key, go_type(now));
    for (KL_MAP_EACH_KEY(kv, now))
        if (kv[1].kind != KL_STRING)
            return kl_error_set(err, KL_EINVALID,
                                "metadata.%s[%.*s] must be a string, but is %s in converted object",
                                key, KL_PRI(kl_text(kv)), go_type(kv + 1));
    bool changed = kl_len(was) != kl_len(now);
    for (KL_MAP_EACH_KEY(kv, now)) {
        const struct kl_value *had = was ? kl_map_value(was, kl_text(kv)) : NULL;
        changed |= !had || !kl_str_eq(kl_text(had), kl_text(kv + 1));
    }
    int rc = changed ? check_texts(a, now, labels, err) : 0;
    if (rc)
        return rc;
    struct kl_value copy = *now;
    copy.owned = 0;
    return kl_map_set_value(a, meta, kl_str(key), copy) ? KL_ENOMEM : 0;
}

static int restore_meta(struct kl_arena *a, const struct kl_value *was, struct kl_value *now,
                        struct kl_error *err)
{
    const struct kl_value *said = kl_map_value(now, KL_STR("metadata"));
    const struct kl_value *had = member(was, "metadata");
    struct kl_value meta = had ? *had : kl_new_map();
    if (!said)
        return kl_error_set(err, KL_EINVALID, "missing metadata in converted object");
    if (said->kind != KL_MAP)
        return kl_error_set(err, KL_EINVALID, "invalid metadata of type %s in converted object",
                            go_type(said));
    meta.owned = 0;
    int rc = take_texts(a, said, "labels", true, &meta, err);
    rc = rc ? rc : take_texts(a, said, "annotations", false, &meta, err);
    return rc ? rc : kl_map_set_value(a, now, KL_STR("metadata"), meta);
}

int kl_conversion_take(struct kl_arena *a, const struct kl_conversion_ask *ask, size_t index,
                       const struct kl_value *was, struct kl_value *now, struct kl_error *err)
{
    int rc = check_object(ask, index, now, err);
    if (rc)
        return rc;
    struct kl_str version = text_of(now, "apiVersion"), kind = text_of(now, "kind");
    struct kl_str wanted = text_of(was, "kind");
    const char *what = ask->list ? "converted object" : "object";
    if (!kl_str_eq(version, ask->desired))
        return kl_error_set(err, KL_EINVALID,
                            "conversion webhook for %.*s returned invalid %s at index %zu: invalid "
                            "groupVersion (expected %.*s, received %.*s)",
                            KL_PRI(ask->of), what, index, KL_PRI(ask->desired), KL_PRI(version));
    if (!kl_str_eq(kind, wanted))
        return kl_error_set(err, KL_EINVALID,
                            "conversion webhook for %.*s returned invalid %s at index %zu: invalid "
                            "kind (expected %.*s, received %.*s)",
                            KL_PRI(ask->of), what, index, KL_PRI(wanted), KL_PRI(kind));
    if ((rc = check_identity(was, now, err)))
        return refuse(ask, index, false, err);
    rc = restore_meta(a, was, now, err);
    if (rc == KL_ENOMEM)
        return kl_error_set(err, rc, "out of memory");
    return rc ? refuse(ask, index, true, err) : 0;
}
