// SPDX-License-Identifier: Apache-2.0
// ID tokens of OpenID Connect issuers (apiserver plugin/pkg/authenticator/token/oidc, go-oidc):
// the issuer's keys are fetched when its first token comes, and again when a token names a key that
// is not known or that does not fit.
#include "apiserver/auth/oidc_int.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdlib.h>

enum {
    TIMEOUT_MS = 30000,
    RETRIES = 1,
    ANSWER_MAX = 1 << 20,
    KEEP_FAILED_MS = 500, // an issuer that is down is not asked for every token
    NBF_LEEWAY_S = 300,
};

// ---- an issuer's keys

struct fetch {
    struct kl_auth_conf *conf;
    size_t i;
    struct kl_remote *jwks; // known by now
};

static void free_fetch(void *arg)
{
    struct fetch *f = arg;
    kl_remote_unref(f->jwks);
    kl_auth_conf_unref(f->conf);
    free(f);
}

static void fail(struct fetch *f, struct kl_reply *out, const struct kl_error *err)
{
    kl_log(KL_LOG_WARN, "apiserver", "oidc issuer=%.*s: %s", KL_PRI(f->conf->jwt[f->i].issuer),
           err->msg);
    out->code = err->code ? err->code : KL_EUNAVAILABLE;
    out->text = kl_arena_dup(&out->arena, kl_str(err->msg));
    out->until_ms = kl_mono_ms() + KEEP_FAILED_MS;
}

// What discovery says; the keys are elsewhere.
static int read_discovery(struct fetch *f, struct kl_query *q, struct kl_str body,
                          struct kl_reply *out, struct kl_error *err)
{
    const struct kl_oidc *o = &f->conf->jwt[f->i];
    struct kl_value root;
    struct kl_str copy = kl_arena_dup(&out->arena, body);
    if (!copy.p || kl_json_parse(&out->arena, copy, NULL, &root, err) || root.kind != KL_MAP)
        return kl_error_set(err, KL_EPROTO, "discovery: the answer is not JSON");
    struct kl_str issuer = kl_text(kl_map_value(&root, KL_STR("issuer"))),
                  uri = kl_text(kl_map_value(&root, KL_STR("jwks_uri")));
    if (!kl_str_eq(issuer, o->issuer))
        return kl_error_set(err, KL_EPROTO,
                            "oidc: issuer did not match the issuer returned by provider, expected "
                            "\"%.*s\" got \"%.*s\"",
                            KL_PRI(o->issuer), KL_PRI(issuer));
    if (!uri.n)
        return kl_error_set(err, KL_EPROTO, "provider did not return JWKS URL");
    int rc = kl_remote_beside(o->discovery, uri, &f->jwks, err);
    if (!rc && (rc = kl_query_follow(q, f->jwks)))
        kl_error_set(err, rc, "discovery goes in circles");
    return rc;
}

static int read_keys(struct fetch *f, struct kl_api_loop *al, struct kl_str body,
                     struct kl_error *err)
{
    struct kl_authn_cache *c = al->authn;
    struct kl_jwt_keys keys = {0};
    int rc = kl_jwt_keys_from_jwks(&keys, body, err);
    if (rc || !c || c->conf != f->conf || !c->oidc) { // a new configuration came meanwhile
        kl_jwt_keys_fini(&keys);
        return rc;
    }
    struct kl_oidc_loop *l = &c->oidc[f->i];
    kl_jwt_keys_fini(&l->keys);
    kl_remote_unref(l->jwks);
    l->keys = keys;
    l->jwks = kl_remote_ref(f->jwks);
    l->fetched = true;
    return 0;
}

static void read_answer(struct kl_query *q, int http, struct kl_str body,
                        const struct kl_error *err, struct kl_reply *out)
{
    struct fetch *f = kl_query_arg(q);
    struct kl_error why = *err;
    if (http < 0) {
        fail(f, out, &why);
        return;
    }
    if (http != 200)
        kl_error_set(&why, KL_EUNAVAILABLE, "%s answered %d", f->jwks ? "JWKS" : "discovery", http);
    else if (!f->jwks ? !read_discovery(f, q, body, out, &why)
                      : !read_keys(f, kl_query_loop(q), body, &why))
        return;
    fail(f, out, &why);
}

// KL_EAGAIN: they are being fetched.
static int fetch_keys(struct kl_token_ask *t, struct kl_authn_cache *c, size_t i, struct kl_str key,
                      struct kl_error *err)
{
    struct kl_oidc_loop *l = &c->oidc[i];
    struct fetch *f = t->ask ? calloc(1, sizeof *f) : NULL;
    if (!f)
        return kl_error_set(err, KL_EUNAUTHORIZED, "oidc: authenticator not initialized");
    f->conf = kl_auth_conf_ref(c->conf);
    f->i = i;
    f->jwks = l->jwks ? kl_remote_ref(l->jwks) : NULL;
    struct kl_query_spec q = {.key = key,
                              .to = f->jwks ? f->jwks : c->conf->jwt[i].discovery,
                              .timeout_ms = TIMEOUT_MS,
                              .retries = RETRIES,
                              .max_bytes = ANSWER_MAX,
                              .read = read_answer,
                              .arg = f,
                              .release = free_fetch};
    int rc = kl_ask_begin(t->al, t->ask, &q, err);
    if (rc)
        free_fetch(f);
    return rc ? rc : KL_EAGAIN;
}

static int check_signature(struct kl_token_ask *t, struct kl_authn_cache *c, size_t i,
                           const struct kl_jwt *jwt, struct kl_error *err)
{
    struct kl_oidc_loop *l = &c->oidc[i];
    struct kl_error why = {0};
    if (l->fetched && !kl_jwt_check(jwt, &l->keys, &why))
        return 0;
    struct kl_str issuer = c->conf->jwt[i].issuer,
                  key = kl_arena_printf(t->arena, "J:%.*s", KL_PRI(issuer));
    if (!key.p)
        return kl_error_set(err, KL_ENOMEM, "oidc: out of memory");
    const struct kl_reply *r = kl_ask_known(t->al, t->ask, key);
    if (!r)
        return fetch_keys(t, c, i, key, err);
    if (!l->fetched)
        return kl_error_set(err, KL_EUNAUTHORIZED, "oidc: authenticator not initialized");
    if (r->code)
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "oidc: verify token: failed to verify signature: fetching keys %.*s",
                            KL_PRI(r->text));
    return kl_error_set(err, KL_EUNAUTHORIZED,
                        "oidc: verify token: failed to verify signature: failed to verify id token "
                        "signature");
}

// ---- what a token says of itself

static bool has_audience(const struct kl_oidc *o, const struct kl_value *aud)
{
    size_t n = kl_is(aud, KL_STRING) ? 1 : kl_len(aud);
    for (size_t i = 0; i < n; i++) {
        struct kl_str s = kl_text(kl_is(aud, KL_STRING) ? aud : kl_at(aud, i));
        for (size_t k = 0; k < o->naudiences; k++)
            if (kl_str_eq(s, o->audiences[k]))
                return true;
    }
    return false;
}

static bool read_time(const struct kl_value *v, int64_t *ret)
{
    if (kl_is(v, KL_INT))
        *ret = v->i;
    else if (kl_is(v, KL_FLOAT) && v->d > -9e15 && v->d < 9e15)
        *ret = (int64_t)v->d;
    else
        return false;
    return true;
}

static int check_claims(const struct kl_oidc *o, const struct kl_jwt *jwt, struct kl_error *err)
{
    int64_t now = kl_wall_ms() / 1000, exp = 0, nbf;
    bool known = false;
    if (!has_audience(o, kl_map_value(&jwt->claims, KL_STR("aud"))))
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "oidc: verify token: oidc: expected audience \"%.*s\" is not in the "
                            "token",
                            KL_PRI(o->audiences[0]));
    if (!read_time(kl_map_value(&jwt->claims, KL_STR("exp")), &exp) || exp < now)
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "oidc: verify token: oidc: token is expired (Token Expiry: %lld)",
                            (long long)exp);
    if (read_time(kl_map_value(&jwt->claims, KL_STR("nbf")), &nbf) && now + NBF_LEEWAY_S < nbf)
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "oidc: verify token: oidc: current time %lld before the nbf (not "
                            "before) time: %lld",
                            (long long)now, (long long)nbf);
    for (size_t i = 0; i < o->nalgs; i++)
        known |= kl_str_eq(jwt->alg, o->algs[i]);
    if (!known)
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "oidc: verify token: oidc: malformed jwt: unexpected signature "
                            "algorithm \"%.*s\"",
                            KL_PRI(jwt->alg));
    return 0;
}

static struct kl_authn_cache *cache_with_issuers(struct kl_api_loop *al)
{
    const struct kl_auth_conf *conf = kl_auth_conf_of(al);
    struct kl_authn_cache *c = conf ? al->authn : NULL;
    if (c && conf->njwt && !c->oidc)
        c->oidc = calloc(conf->njwt, sizeof *c->oidc);
    return c && conf->njwt && c->oidc ? c : NULL;
}

static bool find_issuer(const struct kl_auth_conf *conf, const struct kl_jwt *jwt, size_t *ret_i)
{
    struct kl_str iss = kl_text(kl_map_value(&jwt->claims, KL_STR("iss")));
    if (kl_str_eqz(iss, "accounts.google.com")) // what Google's tokens said of old
        iss = KL_STR("https://accounts.google.com");
    for (size_t i = 0; i < conf->njwt; i++)
        if (kl_str_eq(iss, conf->jwt[i].issuer)) {
            *ret_i = i;
            return true;
        }
    return false;
}

int kl_oidc_token(struct kl_token_ask *t, struct kl_user **ret, struct kl_error *err)
{
    struct kl_authn_cache *c = cache_with_issuers(t->al);
    struct kl_error ignored;
    struct kl_jwt jwt;
    size_t i;
    if (!c || kl_jwt_parse(t->arena, t->token, &jwt, &ignored) || !find_issuer(c->conf, &jwt, &i))
        return 0;
    const struct kl_oidc *o = &c->conf->jwt[i];
    int rc;
    if ((rc = check_claims(o, &jwt, err)) || (rc = check_signature(t, c, i, &jwt, err)) ||
        (rc = kl_oidc_user(o, t->arena, &jwt.claims, ret, err)))
        return rc;
    int64_t issued;
    if (read_time(kl_map_value(&jwt.claims, KL_STR("iat")), &issued))
        (*ret)->issued_s = issued;
    return 1;
}

void kl_oidc_loop_fini(struct kl_api_loop *al)
{
    struct kl_authn_cache *c = al->authn;
    if (!c || !c->oidc)
        return;
    for (size_t i = 0; i < c->conf->njwt; i++) {
        kl_jwt_keys_fini(&c->oidc[i].keys);
        kl_remote_unref(c->oidc[i].jwks);
    }
    free(c->oidc);
    c->oidc = NULL;
}
