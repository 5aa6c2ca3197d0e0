// SPDX-License-Identifier: Apache-2.0
// Distributed claims (OpenID Connect Core 1.0, 5.6.2): a token that names an endpoint for its
// groups, whose answer is a JWT with them. As upstream, only the claim that groups come from, only
// by reference (aggregated claims are left alone), and with the CA of the issuer.
#include "apiserver/auth/oidc_int.h"
#include "base/clock.h"
#include "net/http.h"
#include <openssl/sha.h>
#include <stdlib.h>

enum {
    TIMEOUT_MS = 30000,
    RETRIES = 0,
    JWT_MAX = 256 * 1024,
    KEEP_MS = 10 * 1000, // how long upstream keeps whom a token authenticated
};

// GET "URL": why, as Go's client says it.
static void fail(struct kl_query *q, struct kl_reply *out, int code, struct kl_str why)
{
    const struct kl_remote *to = kl_query_arg(q);
    struct kl_str url = kl_remote_url(to);
    out->code = code;
    out->text = kl_arena_printf(&out->arena, "Get \"%.*s\": %.*s", KL_PRI(url), KL_PRI(why));
}

static void read_answer(struct kl_query *q, int http, struct kl_str body,
                        const struct kl_error *err, struct kl_reply *out)
{
    if (http < 0) {
        fail(q, out, http, kl_str(err->msg));
        return;
    }
    if (http < 200 || http > 226) {
        out->code = KL_EUNAUTHORIZED;
        out->text = kl_arena_printf(&out->arena, "error while getting distributed claim JWT: %d %s",
                                    http, kl_http_status_text(http));
        return;
    }
    out->text = kl_arena_dup(&out->arena, body);
    if (!out->text.p)
        out->code = KL_ENOMEM;
    out->until_ms = kl_mono_ms() + KEEP_MS;
}

static void release(void *arg)
{
    kl_remote_unref(arg);
}

// A header's value, and nothing that would begin another.
static bool is_header_value(struct kl_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (((unsigned char)s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] == 0x7f)
            return false;
    return true;
}

// No access token stays in memory as a key.
static struct kl_str key_of(struct kl_arena *a, size_t i, struct kl_str url, struct kl_str token)
{
    unsigned char md[SHA256_DIGEST_LENGTH];
    char hex[2 * sizeof md + 1];
    SHA256((const unsigned char *)token.p, token.n, md);
    for (size_t k = 0; k < sizeof md; k++) {
        hex[2 * k] = "0123456789abcdef"[md[k] >> 4];
        hex[2 * k + 1] = "0123456789abcdef"[md[k] & 15];
    }
    hex[2 * sizeof md] = 0;
    return kl_arena_printf(a, "D:%zu:%s:%.*s", i, hex, KL_PRI(url));
}

static int begin(struct kl_token_ask *t, const struct kl_oidc *o, struct kl_str key,
                 struct kl_str url, struct kl_str token, struct kl_error *err)
{
    struct kl_remote *to = NULL;
    struct kl_str auth = {NULL, 0};
    if (!t->ask)
        return kl_error_set(err, KL_EUNAUTHORIZED, "Get \"%.*s\": cannot wait", KL_PRI(url));
    if (!is_header_value(token))
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "Get \"%.*s\": net/http: invalid header field value for "
                            "\"Authorization\"",
                            KL_PRI(url));
    if (token.n && !(auth = kl_arena_printf(t->arena, "Bearer %.*s", KL_PRI(token))).p)
        return kl_error_set(err, KL_EUNAUTHORIZED, "out of memory");
    struct kl_error why = {0};
    if (kl_remote_beside(o->discovery, url, auth, &to, &why))
        return kl_error_set(err, KL_EUNAUTHORIZED, "while calling %.*s: %s", KL_PRI(url), why.msg);
    struct kl_query_spec q = {.key = key,
                              .to = to,
                              .timeout_ms = TIMEOUT_MS,
                              .retries = RETRIES,
                              .max_bytes = JWT_MAX,
                              .read = read_answer,
                              .arg = kl_remote_ref(to),
                              .release = release};
    int rc = kl_ask_begin(t->al, t->ask, &q, &why);
    if (rc)
        release(to);
    kl_remote_unref(to);
    return rc ? kl_error_set(err, KL_EUNAUTHORIZED, "Get \"%.*s\": %s", KL_PRI(url), why.msg)
              : KL_EAGAIN;
}

// The JWT of the endpoint, in the arena. getClaimJWT
static int get(struct kl_token_ask *t, const struct kl_oidc *o, size_t i, struct kl_str url,
               struct kl_str token, struct kl_str *ret, struct kl_error *err)
{
    struct kl_str key = key_of(t->arena, i, url, token);
    if (!key.p)
        return kl_error_set(err, KL_EUNAUTHORIZED, "out of memory");
    const struct kl_reply *r = kl_ask_known(t->al, t->ask, key);
    if (!r)
        return begin(t, o, key, url, token, err);
    if (r->code)
        return kl_error_set(err, KL_EUNAUTHORIZED, "%.*s", KL_PRI(r->text));
    *ret = kl_arena_dup(t->arena, r->text);
    return ret->p ? 0 : kl_error_set(err, KL_EUNAUTHORIZED, "out of memory");
}

static int resolve(struct kl_token_ask *t, struct kl_authn_cache *c, size_t i, struct kl_str url,
                   struct kl_str token, struct kl_value *claims, struct kl_error *err)
{
    const struct kl_oidc *o = &c->conf->jwt[i];
    struct kl_str name = o->groups.claim, text;
    struct kl_error why = {0};
    struct kl_jwt jwt;
    int rc = get(t, o, i, url, token, &text, &why);
    if (rc == KL_EAGAIN)
        return rc;
    if (rc)
        return kl_error_set(err, KL_EUNAUTHORIZED, "while getting distributed claim \"%.*s\": %s",
                            KL_PRI(name), why.msg);
    text = kl_str_trim(text);
    bool compact = !text.n || *text.p != '{';
    if (!compact || kl_jwt_parse(t->arena, text, JWT_MAX, &jwt, &why))
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "getting untrusted issuer from endpoint %.*s failed for claim "
                            "\"%.*s\": %s",
                            KL_PRI(url), KL_PRI(name),
                            compact ? "malformed token" : "token is not compact JWT");
    struct kl_str issuer = kl_oidc_issuer_of(&jwt);
    rc = kl_oidc_verify(t, c, i, issuer, &jwt, &why);
    if (rc == KL_EAGAIN)
        return rc;
    if (rc == KL_EUNAVAILABLE)
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "verifying untrusted issuer %.*s failed: verifier not initialized for "
                            "issuer: \"%.*s\"",
                            KL_PRI(issuer), KL_PRI(issuer));
    if (rc)
        return kl_error_set(err, KL_EUNAUTHORIZED, "verify distributed claim token: %s", why.msg);
    const struct kl_value *v = kl_map_value(&jwt.claims, name);
    if (!v)
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "jwt returned by distributed claim endpoint \"%.*s\" did not contain "
                            "claim: %.*s",
                            KL_PRI(url), KL_PRI(name));
    return kl_map_set_value(t->arena, claims, name, *v)
               ? kl_error_set(err, KL_EUNAUTHORIZED, "out of memory")
               : 0;
}

int kl_oidc_expand(struct kl_token_ask *t, struct kl_authn_cache *c, size_t i,
                   struct kl_value *claims, struct kl_error *err)
{
    struct kl_str name = c->conf->jwt[i].groups.claim;
    if (!name.n || kl_map_value(claims, name))
        return 0;
    const struct kl_value *names = kl_map_value(claims, KL_STR("_claim_names")),
                          *sources = kl_map_value(claims, KL_STR("_claim_sources"));
    if (!names)
        return 0;
    if (!sources)
        return kl_error_set(err, KL_EUNAUTHORIZED, "oidc: no claim sources");
    struct kl_str from = kl_text(kl_map_value(names, name));
    if (!from.n)
        return 0;
    const struct kl_value *source = kl_map_value(sources, from);
    if (!source)
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "id token _claim_names contained a source %.*s missing in "
                            "_claims_sources",
                            KL_PRI(from));
    struct kl_str url = kl_text(kl_map_value(source, KL_STR("endpoint"))),
                  token = kl_text(kl_map_value(source, KL_STR("access_token")));
    return url.n ? resolve(t, c, i, url, token, claims, err) : 0;
}
