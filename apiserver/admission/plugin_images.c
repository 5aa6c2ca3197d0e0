// SPDX-License-Identifier: Apache-2.0
// ImagePolicyWebhook: a webhook is asked whether a pod may use its images. What it said holds for a
// while, for all pods that ask the same; until it has answered, the write waits (auth/ask.h).
#include "apiserver/admission/config.h"
#include "apiserver/admission/plugins_int.h"
#include "apiserver/webhook.h"
#include "base/clock.h"
#include "base/log.h"
#include "object/json.h"
#include <openssl/sha.h>

enum { ANSWER_MAX = 1 << 20, SPEC_MAX_BYTES = 4 << 20, TIMEOUT_MS = 30000, RETRIES = 4 };

#define NOTE "imagepolicywebhook.image-policy.k8s.io/"
#define KEY "image-policy\n"

// ---- the question

static void put_images(struct kl_buf *b, const struct kl_value *list, bool *first)
{
    for (KL_EACH(c, list)) {
        struct kl_str image = kl_text(kl_get(c, KL_F_image));
        kl_buf_puts(b, *first ? KL_STR("\"containers\":[{") : KL_STR(",{"));
        *first = false;
        if (image.n) {
            kl_buf_puts(b, KL_STR("\"image\":"));
            kl_json_write_string(b, image);
        }
        kl_buf_putc(b, '}');
    }
}

static bool is_for_us(struct kl_str annotation)
{
    static const struct kl_str part = KL_STR_INIT(".image-policy.k8s.io/");
    for (size_t i = 0; i + part.n <= annotation.n; i++)
        if (kl_str_starts(kl_str_from(annotation, i), part))
            return true;
    return false;
}

// ImageReviewSpec, as Go encodes it.
static void put_spec(struct kl_buf *b, const struct kl_admit *ad)
{
    const struct kl_value *spec = kl_get(ad->object, KL_F_spec);
    bool none = true, first = true;
    kl_buf_putc(b, '{');
    if (ad->sub.n) {
        put_images(b, kl_get(spec, KL_F_ephemeralContainers), &none);
    } else {
        put_images(b, kl_get(spec, KL_F_containers), &none);
        put_images(b, kl_get(spec, KL_F_initContainers), &none);
    }
    if (!none)
        kl_buf_putc(b, ']');
    for (KL_MAP_EACH_KEY(kv, kl_meta_annotations(ad->object))) {
        if (!is_for_us(kl_text(kv)))
            continue;
        kl_buf_printf(b, "%s", !first ? "," : none ? "\"annotations\":{" : ",\"annotations\":{");
        kl_json_write_string(b, kl_text(kv));
        kl_buf_putc(b, ':');
        kl_json_write_string(b, kl_text(kv + 1));
        first = false;
    }
    kl_buf_printf(b, "%s%s\"namespace\":", first ? "" : "}", none && first ? "" : ",");
    kl_json_write_string(b, ad->ns);
    kl_buf_putc(b, '}');
}

// What makes questions equal: a digest, as a pod may be large.
static struct kl_str key_of(struct kl_arena *a, struct kl_str spec)
{
    static const size_t head = sizeof KEY - 1;
    char *p = kl_arena_alloc(a, head + SHA256_DIGEST_LENGTH);
    if (!p)
        return (struct kl_str){NULL, 0};
    memcpy(p, KEY, head);
    SHA256((const unsigned char *)spec.p, spec.n, (unsigned char *)p + head);
    return (struct kl_str){p, head + SHA256_DIGEST_LENGTH};
}

// ---- the answer: reply->thing is the untyped status, in its arena

static void read_answer(struct kl_query *q, int http, struct kl_str body,
                        const struct kl_error *err, struct kl_reply *out)
{
    const struct kl_admit_config *c = kl_query_loop(q)->srv->admit_config;
    struct kl_arena *a = &out->arena;
    struct kl_value *v = KL_ARENA_NEW(a, struct kl_value);
    struct kl_str text = kl_arena_dup(a, body), bad;
    struct kl_error why = {0};
    if (http < 0) {
        out->code = http;
        out->text = kl_arena_printf(a, "Post \"%.*s\": %s", KL_PRI(kl_remote_url(c->images.to)),
                                    err->code ? err->msg : kl_err_text(http));
        return;
    }
    if ((bad = kl_webhook_status_text(a, http, body)).p) {
        out->code = KL_EUNAVAILABLE;
        out->until_ms = 0;
        out->text = bad;
        return;
    }
    int rc = v && text.p ? kl_json_parse(a, text, NULL, v, &why) : KL_ENOMEM;
    const struct kl_value *status = rc ? NULL : kl_map_value(v, KL_STR("status"));
    if (rc || v->kind != KL_MAP) {
        out->code = rc ? rc : KL_EINVALID;
        out->text = kl_arena_printf(a, "couldn't get version/kind; json parse error: %s", why.msg);
        return;
    }
    bool allowed = kl_is_true(kl_map_value(status, KL_STR("allowed")));
    int64_t ttl = allowed ? c->images.allow_ms : c->images.deny_ms;
    out->thing = (void *)status;
    out->decision = allowed ? KL_ALLOW : KL_DENY;
    out->text = kl_text(kl_map_value(status, KL_STR("reason")));
    out->until_ms = ttl ? kl_mono_ms() + ttl : 0;
}

// Who validates after us sees the annotation; what is stored has none, since upstream validates a
// copy.
static int annotate(struct kl_admit *ad)
{
    struct kl_arena *a = ad->r->arena;
    struct kl_value *copy = KL_ARENA_NEW(a, struct kl_value);
    if (!copy)
        return kl_admit_oom(ad);
    *copy = *ad->object;
    copy->owned = 0;
    struct kl_value *meta = kl_edit(a, copy, KL_F_metadata, KL_STRUCT);
    struct kl_value *notes = kl_edit(a, meta, KL_F_annotations, KL_MAP);
    if (kl_map_set_value(a, notes, KL_STR("alpha.image-policy.k8s.io/failed-open"),
                         kl_string(KL_STR("true"))))
        return kl_admit_oom(ad);
    ad->object = copy;
    return 0;
}

static int failed(struct kl_admit *ad, struct kl_str why)
{
    if (!ad->r->srv->admit_config->images.default_allow)
        return kl_admit_forbid(ad, "%.*s", KL_PRI(why));
    kl_log(KL_LOG_WARN, "admission", "plugin=ImagePolicyWebhook failed open: %.*s", KL_PRI(why));
    kl_req_note(ad->r, KL_STR(NOTE "failed-open"), KL_STR("true"), false);
    return annotate(ad);
}

static int act(struct kl_admit *ad, const struct kl_reply *reply)
{
    struct kl_req *r = ad->r;
    if (reply->code)
        return failed(ad, reply->text);
    const struct kl_value *notes = kl_map_value(reply->thing, KL_STR("auditAnnotations"));
    for (KL_MAP_EACH_KEY(kv, kl_is(notes, KL_MAP) ? notes : NULL))
        kl_req_note(r, kl_arena_printf(r->arena, NOTE "%.*s", KL_PRI(kl_text(kv))),
                    kl_arena_dup(r->arena, kl_text(kv + 1)), false);
    if (reply->decision == KL_ALLOW)
        return 0;
    if (!reply->text.n)
        return kl_admit_forbid(ad, "one or more images rejected by webhook backend");
    return kl_admit_forbid(ad, "image policy webhook backend denied one or more images: %.*s",
                           KL_PRI(reply->text));
}

static int ask(struct kl_admit *ad, struct kl_str key, struct kl_str spec)
{
    struct kl_buf b;
    struct kl_error err = {0};
    kl_buf_init(&b, SPEC_MAX_BYTES + 512);
    kl_buf_printf(&b,
                  "{\"kind\":\"ImageReview\",\"apiVersion\":\"imagepolicy.k8s.io/v1alpha1\","
                  "\"metadata\":{},\"spec\":%.*s,\"status\":{\"allowed\":false}}\n",
                  KL_PRI(spec));
    struct kl_bytes *body = kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    if (!body)
        return kl_admit_oom(ad);
    const struct kl_query_spec q = {.key = key,
                                    .to = ad->r->srv->admit_config->images.to,
                                    .body = body,
                                    .timeout_ms = TIMEOUT_MS,
                                    .retries = RETRIES,
                                    .backoff_ms = ad->r->srv->admit_config->images.backoff_ms,
                                    .max_bytes = ANSWER_MAX,
                                    .read = read_answer};
    int rc = kl_ask_begin(ad->r->al, &ad->r->ask, &q, &err);
    kl_bytes_unref(body);
    if (rc)
        return failed(ad, kl_arena_dup(ad->r->arena, kl_str(err.msg)));
    return kl_admit_forbid(ad, "the image policy webhook has not answered yet"); // runs again
}

int kl_images_validate(struct kl_admit *ad)
{
    struct kl_req *r = ad->r;
    struct kl_buf b;
    if (!kl_admit_of(ad, KL_RES_core_v1_pods) ||
        (ad->sub.n && !kl_admit_sub(ad, "ephemeralcontainers")))
        return 0;
    kl_buf_init(&b, SPEC_MAX_BYTES);
    put_spec(&b, ad);
    struct kl_str key = b.err ? (struct kl_str){NULL, 0} : key_of(r->arena, kl_buf_str(&b));
    const struct kl_reply *known = key.p ? kl_ask_known(r->al, &r->ask, key) : NULL;
    int rc = !key.p ? kl_admit_oom(ad) : known ? act(ad, known) : ask(ad, key, kl_buf_str(&b));
    kl_buf_fini(&b);
    return rc;
}
