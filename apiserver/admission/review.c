// SPDX-License-Identifier: Apache-2.0
// AdmissionReview of admission.k8s.io/v1 and v1beta1: what is sent, what an answer says, and how a
// refusal reads.
#include "apiserver/admission/hooks_int.h"
#include <openssl/evp.h>

struct kl_bytes *kl_review_write(struct kl_hook_run *run, const struct kl_hook *h,
                                 struct kl_shown *f, const struct kl_resource *res, const char *uid)
{
    struct kl_value request;
    struct kl_buf b;
    if (kl_shown_texts(run, f) || kl_shown_request(run, f, res, &request))
        return NULL;
    kl_buf_init(&b, KL_MAX_ARENA_BYTES);
    kl_buf_printf(&b,
                  "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/%s\","
                  "\"request\":{\"uid\":\"%s\",\"object\":",
                  h->review == 1 ? "v1" : "v1beta1", uid);
    kl_buf_puts(&b, f->object_json);
    kl_buf_puts(&b, KL_STR(",\"oldObject\":"));
    kl_buf_puts(&b, f->old_json);
    for (KL_MAP_EACH_KEY(kv, &request)) {
        kl_buf_putc(&b, ',');
        kl_json_write_string(&b, kl_text(kv));
        kl_buf_putc(&b, ':');
        kl_json_write(&b, kv + 1);
    }
    kl_buf_puts(&b, KL_STR("}}\n"));
    struct kl_bytes *out = kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    if (!out)
        kl_fail_oom(run->ad->r);
    return out;
}

// ---- answers

static int invalid(struct kl_error *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static int invalid(struct kl_error *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    kl_error_vset(err, KL_EINVALID, fmt, ap);
    va_end(ap);
    kl_error_wrap(err, "received invalid webhook response");
    return KL_EINVALID;
}

static int decode_patch(struct kl_arena *a, struct kl_str text, struct kl_str *ret)
{
    size_t n = text.n;
    unsigned char *out = n % 4 ? NULL : kl_arena_alloc(a, n / 4 * 3 + 1);
    // White space at the ends counts for nothing there: what was decoded may be less.
    int got = out && n ? EVP_DecodeBlock(out, (const unsigned char *)text.p, (int)n) : 0;
    size_t pad = n && text.p[n - 1] == '=' ? n > 1 && text.p[n - 2] == '=' ? 2 : 1 : 0;
    if (!out || got < (int)pad)
        return KL_EINVALID;
    *ret = (struct kl_str){(char *)out, (size_t)got - pad};
    return 0;
}

static int read_patch(struct kl_arena *a, const struct kl_value *resp, int version, bool mutating,
                      struct kl_str *ret, struct kl_error *err)
{
    const struct kl_value *patch = kl_map_value(resp, KL_STR("patch"));
    const struct kl_value *type = kl_map_value(resp, KL_STR("patchType"));
    struct kl_str text = kl_text(patch), kind = kl_text(type);
    bool has_type = type && type->kind != KL_NULL;
    *ret = KL_STR("");
    if (version == 1 && mutating) {
        if (text.n && !has_type)
            return invalid(err, "webhook returned response.patch but not response.patchType");
        if (!text.n && has_type)
            return invalid(err, "webhook returned response.patchType but not response.patch");
        if (has_type && !kind.n)
            return invalid(err, "webhook returned invalid response.patchType of \"\"");
    } else if (version == 1) {
        if (text.n)
            return invalid(err, "validating webhook may not return response.patch");
        if (has_type)
            return invalid(err, "validating webhook may not return response.patchType");
    }
    if (!mutating || !text.n)
        return 0;
    if (version == 1 && !kl_str_eqz(kind, "JSONPatch"))
        return kl_error_set(err, KL_EINVALID, "unsupported patch type \"%.*s\"", KL_PRI(kind));
    if (decode_patch(a, text, ret))
        return kl_error_set(err, KL_EINVALID,
                            "failed to call webhook: illegal base64 data in response.patch");
    return 0;
}

static bool is_kind(const struct kl_value *v, enum kl_value_kind kind)
{
    return !v || v->kind == KL_NULL || v->kind == (uint32_t)kind;
}

// What upstream's decoder knows: reviews of both versions, and neither as the other.
static int check_kind(struct kl_str api, struct kl_str kind, int review, struct kl_error *err)
{
    static const char *const versions[] = {"v1beta1", "v1"};
    const char *want = versions[review == 1];
    struct kl_str group = KL_STR("admission.k8s.io/"), version;
    if (!api.n || !kind.n)
        return 0;
    version = kl_str_starts(api, group) ? kl_str_from(api, group.n) : KL_STR("");
    if (!kl_str_eqz(kind, "AdmissionReview") ||
        (!kl_str_eqz(version, versions[0]) && !kl_str_eqz(version, versions[1])))
        return kl_error_set(err, KL_EINVALID,
                            "failed to call webhook: no kind \"%.*s\" is registered for version "
                            "\"%.*s\" in scheme \"pkg/runtime/scheme.go:111\"",
                            KL_PRI(kind), KL_PRI(api));
    if (!kl_str_eqz(version, want))
        return kl_error_set(err, KL_EINVALID,
                            "failed to call webhook: converting (%.*s.AdmissionReview) to "
                            "(%s.AdmissionReview): unknown conversion",
                            KL_PRI(version), want);
    return 0;
}

int kl_review_read(struct kl_arena *a, const struct kl_hook *h, bool mutating, const char *uid,
                   int status, struct kl_str body, struct kl_review *ret, struct kl_error *err)
{
    struct kl_value *v = KL_ARENA_NEW(a, struct kl_value);
    struct kl_str bad = kl_webhook_status_text(a, status, body), text = kl_arena_dup(a, body);
    *ret = (struct kl_review){0};
    if (!v || (body.n && !text.p))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if (bad.p)
        return kl_error_set(err, KL_EINVALID, "failed to call webhook: %.*s", KL_PRI(bad));
    if (!body.n)
        return kl_error_set(err, KL_EINVALID,
                            "failed to call webhook: 0-length response with status code: %d and "
                            "content type: ",
                            status);
    int rc = kl_json_parse(a, text, NULL, v, err);
    if (rc == KL_ENOMEM)
        return rc;
    if (rc)
        return kl_error_wrap(err, "failed to call webhook: couldn't get version/kind; json parse "
                                  "error"),
               KL_EINVALID;
    const struct kl_value *resp = kl_map_value(v, KL_STR("response"));
    const struct kl_value *allowed = kl_map_value(resp, KL_STR("allowed"));
    if (v->kind != KL_MAP || !is_kind(resp, KL_MAP) || !is_kind(allowed, KL_BOOL) ||
        !is_kind(kl_map_value(resp, KL_STR("uid")), KL_STRING) ||
        !is_kind(kl_map_value(resp, KL_STR("patch")), KL_STRING) ||
        !is_kind(kl_map_value(resp, KL_STR("patchType")), KL_STRING) ||
        !is_kind(kl_map_value(resp, KL_STR("status")), KL_MAP) ||
        !is_kind(kl_map_value(resp, KL_STR("warnings")), KL_ARRAY) ||
        !is_kind(kl_map_value(resp, KL_STR("auditAnnotations")), KL_MAP))
        return kl_error_set(err, KL_EINVALID,
                            "failed to call webhook: json: cannot unmarshal the answer into Go "
                            "value of type AdmissionReview");
    struct kl_str api = kl_text(kl_map_value(v, KL_STR("apiVersion")));
    struct kl_str kind = kl_text(kl_map_value(v, KL_STR("kind")));
    if (check_kind(api, kind, h->review, err))
        return KL_EINVALID;
    if (!resp || resp->kind != KL_MAP)
        return invalid(err, "webhook response was absent");
    struct kl_str said = kl_text(kl_map_value(resp, KL_STR("uid")));
    if (h->review == 1 && !kl_str_eqz(said, uid))
        return invalid(err, "expected response.uid=\"%s\", got \"%.*s\"", uid, KL_PRI(said));
    if (h->review == 1 &&
        (!kl_str_eqz(api, "admission.k8s.io/v1") || !kl_str_eqz(kind, "AdmissionReview")))
        return invalid(err,
                       "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, "
                       "got %.*s, Kind=%.*s",
                       api.n ? (int)api.n : 1, api.n ? api.p : "/", KL_PRI(kind));
    if ((rc = read_patch(a, resp, h->review, mutating, &ret->patch, err)))
        return rc;
    ret->allowed = kl_is_true(allowed);
    ret->result = kl_map_value(resp, KL_STR("status"));
    ret->warnings = kl_map_value(resp, KL_STR("warnings"));
    ret->audit = kl_map_value(resp, KL_STR("auditAnnotations"));
    return 0;
}

void kl_review_notes(struct kl_hook_run *run, const struct kl_hook *h, const struct kl_review *v)
{
    struct kl_req *r = run->ad->r;
    for (KL_MAP_EACH_KEY(kv, v->audit))
        kl_req_note(r, kl_arena_printf(r->arena, "%.*s/%.*s", KL_PRI(h->name), KL_PRI(kl_text(kv))),
                    kl_text(kv + 1), false);
    for (KL_EACH(w, v->warnings))
        if (kl_text(w).n)
            kl_req_warn(r, kl_text(w));
}

static void take_details(struct kl_arena *a, struct kl_fail *f, const struct kl_value *d)
{
    const struct kl_value *causes = kl_map_value(d, KL_STR("causes"));
    f->kind = kl_text(kl_map_value(d, KL_STR("kind")));
    f->group = kl_text(kl_map_value(d, KL_STR("group")));
    f->name = kl_text(kl_map_value(d, KL_STR("name")));
    f->uid = kl_text(kl_map_value(d, KL_STR("uid")));
    f->retry_after_s = (int)kl_int_or(kl_map_value(d, KL_STR("retryAfterSeconds")), 0);
    if (!kl_len(causes) || !(f->causes = kl_arena_alloc(a, kl_len(causes) * sizeof *f->causes)))
        return;
    for (KL_EACH(c, causes))
        f->causes[f->ncauses++] =
            (struct kl_cause){.reason = kl_text(kl_map_value(c, KL_STR("reason"))),
                              .message = kl_text(kl_map_value(c, KL_STR("message"))),
                              .field = kl_text(kl_map_value(c, KL_STR("field")))};
}

// webhookerrors.ToStatusErr
void kl_review_deny(struct kl_req *r, struct kl_str webhook, const struct kl_value *result)
{
    struct kl_str message = kl_text(kl_map_value(result, KL_STR("message")));
    struct kl_str reason = kl_text(kl_map_value(result, KL_STR("reason")));
    int64_t code = kl_int_or(kl_map_value(result, KL_STR("code")), 0);
    if (code < 400)
        code = 400;
    if (code > 599)
        code = 500;
    kl_fail_set(r, (int)code, "", "admission webhook \"%.*s\" denied the request", KL_PRI(webhook));
    struct kl_str by = r->fail.message;
    r->fail.reason = reason;
    r->fail.message =
        message.n  ? kl_arena_printf(r->arena, "%.*s: %.*s", KL_PRI(by), KL_PRI(message))
        : reason.n ? kl_arena_printf(r->arena, "%.*s: %.*s", KL_PRI(by), KL_PRI(reason))
                   : kl_arena_printf(r->arena, "%.*s without explanation", KL_PRI(by));
    take_details(r->arena, &r->fail, kl_map_value(result, KL_STR("details")));
}
