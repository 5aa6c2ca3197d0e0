// SPDX-License-Identifier: Apache-2.0
// --authentication-token-webhook-config-file: asks with a TokenReview (apiserver
// plugin/pkg/authenticator/token/webhook).
#include "apiserver/auth/authn_int.h"
#include "base/clock.h"
#include "base/log.h"
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>

enum { TIMEOUT_MS = 30000, RETRIES = 4, ANSWER_MAX = 1 << 20 };

static struct kl_str member(const struct kl_value *v, const char *name)
{
    return kl_text(kl_map_value(v, kl_str(name)));
}

struct kl_user *kl_user_from(struct kl_arena *a, const struct kl_value *v)
{
    const struct kl_value *groups = kl_map_value(v, KL_STR("groups")),
                          *extra = kl_map_value(v, KL_STR("extra"));
    extra = kl_is(extra, KL_MAP) ? extra : NULL;
    size_t n = kl_len(groups), nx = kl_len(extra);
    struct kl_str *g = kl_arena_alloc(a, (n + 1) * sizeof *g);
    struct kl_user_extra *x = kl_arena_alloc(a, (nx + 1) * sizeof *x);
    if (!g || !x)
        return NULL;
    for (size_t i = 0; i < n; i++)
        g[i] = kl_text(kl_at(groups, i));
    size_t k = 0;
    for (KL_MAP_EACH_KEY(e, extra)) {
        size_t m = kl_len(&e[1]);
        struct kl_str *values = kl_arena_alloc(a, (m + 1) * sizeof *values);
        if (!values)
            return NULL;
        for (size_t i = 0; i < m; i++)
            values[i] = kl_text(kl_at(&e[1], i));
        x[k++] = (struct kl_user_extra){kl_text(e), values, m};
    }
    return kl_user_new(member(v, "username"), member(v, "uid"), g, n, x, k);
}

static void fail(struct kl_reply *out, int code, struct kl_str why)
{
    out->code = code;
    out->text = kl_arena_dup(&out->arena, why);
    if (!out->text.p)
        out->text = KL_STR("out of memory");
}

static void read_status(struct kl_reply *out, const struct kl_value *status, int64_t ttl_ms)
{
    const struct kl_value *aud = kl_map_value(status, KL_STR("audiences"));
    struct kl_str error = member(status, "error");
    out->until_ms = kl_mono_ms() + ttl_ms;
    if (!kl_is_true(kl_map_value(status, KL_STR("authenticated")))) {
        out->text = kl_arena_dup(&out->arena, error);
        return;
    }
    size_t n = kl_len(aud);
    struct kl_str *s = kl_arena_alloc(&out->arena, (n + 1) * sizeof *s);
    out->user = kl_user_from(&out->arena, kl_map_value(status, KL_STR("user")));
    if (!s || !out->user) {
        out->until_ms = 0;
        fail(out, KL_ENOMEM, KL_STR("out of memory"));
        return;
    }
    for (size_t i = 0; i < n; i++)
        s[i] = kl_text(kl_at(aud, i));
    out->audiences = s;
    out->naudiences = n;
    out->known = true;
}

void kl_token_review_read(struct kl_reply *out, struct kl_str body, int64_t ttl_ms)
{
    struct kl_value root;
    struct kl_error why;
    struct kl_str copy = kl_arena_dup(&out->arena, body);
    const struct kl_value *status = copy.p && !kl_json_parse(&out->arena, copy, NULL, &root, &why)
                                        ? kl_map_value(&root, KL_STR("status"))
                                        : NULL;
    if (!kl_is(status, KL_MAP))
        fail(out, KL_EPROTO, KL_STR("webhook's answer is no TokenReview"));
    else
        read_status(out, status, ttl_ms);
}

static void read_answer(struct kl_query *q, int http, struct kl_str body,
                        const struct kl_error *err, struct kl_reply *out)
{
    struct kl_api_loop *al = kl_query_loop(q);
    struct kl_error why;
    if (http < 0) {
        fail(out, http, kl_str(err->msg));
    } else if (http < 200 || http > 299) {
        kl_error_set(&why, KL_EUNAVAILABLE, "webhook answered %d", http);
        fail(out, why.code, kl_str(why.msg));
    } else {
        kl_token_review_read(out, body, al->srv->authn->settings->token_webhook_cache_ttl_ms);
    }
    if (out->code)
        kl_log(KL_LOG_WARN, "apiserver", "token webhook: %.*s", KL_PRI(out->text));
}

// The token is in the request to the webhook only; what is remembered goes by its hash.
static struct kl_str make_key(struct kl_token_ask *t)
{
    unsigned char md[SHA256_DIGEST_LENGTH];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(ctx, t->token.p, t->token.n) == 1;
    for (size_t i = 0; ok && i < t->naudiences; i++)
        ok = EVP_DigestUpdate(ctx, "\0", 1) == 1 &&
             EVP_DigestUpdate(ctx, t->audiences[i].p, t->audiences[i].n) == 1;
    ok = ok && EVP_DigestFinal_ex(ctx, md, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    char *p = ok ? kl_arena_alloc(t->arena, 2 + sizeof md) : NULL;
    if (!p)
        return (struct kl_str){NULL, 0};
    memcpy(p, "T:", 2);
    memcpy(p + 2, md, sizeof md);
    return (struct kl_str){p, 2 + sizeof md};
}

static struct kl_bytes *make_body(struct kl_token_ask *t, bool v1)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_buf_printf(&b,
                  "{\"kind\":\"TokenReview\",\"apiVersion\":\"authentication.k8s.io/%s\","
                  "\"metadata\":{\"creationTimestamp\":null},\"spec\":{\"token\":",
                  v1 ? "v1" : "v1beta1");
    kl_json_write_string(&b, t->token);
    for (size_t i = 0; i < t->naudiences; i++) {
        kl_buf_puts(&b, i ? KL_STR(",") : KL_STR(",\"audiences\":["));
        kl_json_write_string(&b, t->audiences[i]);
    }
    kl_buf_puts(&b, t->naudiences ? KL_STR("]},\"status\":{\"user\":{}}}")
                                  : KL_STR("},\"status\":{\"user\":{}}}"));
    struct kl_bytes *body = kl_bytes_from_buf(&b);
    if (b.p)
        OPENSSL_cleanse(b.p, b.cap);
    kl_buf_fini(&b);
    return body;
}

static int take_reply(struct kl_token_ask *t, const struct kl_reply *r, struct kl_user **ret,
                      struct kl_error *err)
{
    if (r->code)
        return kl_error_set(err, KL_EUNAUTHORIZED, "%.*s", KL_PRI(r->text));
    if (!r->known)
        return r->text.n ? kl_error_set(err, KL_EUNAUTHORIZED, "%.*s", KL_PRI(r->text)) : 0;
    struct kl_str *both = kl_arena_alloc(t->arena, (t->naudiences + 1) * sizeof *both);
    if (!both)
        return kl_error_set(err, KL_ENOMEM, "token: out of memory");
    // Webhooks of old say nothing about audiences: then the token is for all that were asked for.
    t->nboth = 0;
    for (size_t i = 0; i < t->naudiences; i++)
        for (size_t k = 0; k < r->naudiences; k++)
            if (kl_str_eq(t->audiences[i], r->audiences[k])) {
                both[t->nboth++] = t->audiences[i];
                break;
            }
    if (!t->nboth && r->naudiences)
        return 0;
    t->both = r->naudiences ? both : NULL;
    *ret = kl_user_ref(r->user);
    return 1;
}

int kl_webhook_token(struct kl_token_ask *t, struct kl_user **ret, struct kl_error *err)
{
    const struct kl_authn *n = t->al->srv->authn;
    if (!n->webhook)
        return 0;
    struct kl_str key = make_key(t);
    if (!key.p)
        return kl_error_set(err, KL_ENOMEM, "token: out of memory");
    const struct kl_reply *r = kl_ask_known(t->al, t->ask, key);
    if (r)
        return take_reply(t, r, ret, err);
    if (!t->ask)
        return 0;
    const char *version = n->settings->token_webhook_version;
    struct kl_bytes *body = make_body(t, version && !strcmp(version, "v1"));
    if (!body)
        return kl_error_set(err, KL_ENOMEM, "token: out of memory");
    struct kl_query_spec q = {.key = key,
                              .to = n->webhook,
                              .body = body,
                              .timeout_ms = TIMEOUT_MS,
                              .retries = RETRIES,
                              .max_bytes = ANSWER_MAX,
                              .read = read_answer};
    int rc = kl_ask_begin(t->al, t->ask, &q, err);
    kl_bytes_unref(body);
    return rc ? rc : KL_EAGAIN;
}
