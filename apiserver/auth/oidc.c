// SPDX-License-Identifier: Apache-2.0
// ID tokens of OpenID Connect issuers (apiserver plugin/pkg/authenticator/token/oidc, go-oidc).
#include "apiserver/auth/oidc_int.h"
#include "base/clock.h"
#include <stdlib.h>
#include <time.h>

enum { NBF_LEEWAY_S = 60, MAX_LIST = 1024 };

// ---- what a token says of itself (go-oidc's verify.go)

// ["a" "b"], as Go writes a list with %q.
static struct kl_str list_text(struct kl_arena *a, const struct kl_str *v, size_t n)
{
    struct kl_str out = KL_STR("");
    for (size_t i = 0; i < n; i++)
        out = kl_arena_printf(a, "%.*s%s\"%.*s\"", KL_PRI(out), i ? " " : "", KL_PRI(v[i]));
    return kl_arena_printf(a, "[%.*s]", KL_PRI(out));
}

static bool read_audiences(struct kl_arena *a, const struct kl_value *v, struct kl_str **ret,
                           size_t *ret_n)
{
    bool one = kl_is(v, KL_STRING);
    size_t n = one ? 1 : kl_is(v, KL_ARRAY) ? kl_len(v) : 0;
    struct kl_str *s = n > MAX_LIST ? NULL : kl_arena_alloc(a, (n + 1) * sizeof *s);
    if (!s)
        return false;
    for (size_t i = 0; i < n; i++)
        s[i] = kl_text(one ? v : kl_at(v, i));
    *ret = s;
    *ret_n = n;
    return true;
}

static bool have_common(const struct kl_str *a, size_t na, const struct kl_str *b, size_t nb)
{
    for (size_t i = 0; i < na; i++)
        for (size_t k = 0; k < nb; k++)
            if (kl_str_eq(a[i], b[k]))
                return true;
    return false;
}

static int wrong_audience(struct kl_arena *a, const struct kl_oidc *o, const struct kl_str *got,
                          size_t n, struct kl_error *err)
{
    struct kl_str text = list_text(a, got, n);
    if (o->naudiences == 1)
        return kl_error_set(err, KL_EUNAUTHORIZED, "oidc: expected audience \"%.*s\" got %.*s",
                            KL_PRI(o->audiences[0]), KL_PRI(text));
    struct kl_str *want = kl_arena_alloc(a, o->naudiences * sizeof *want);
    if (!want)
        return kl_error_set(err, KL_EUNAUTHORIZED, "out of memory");
    memcpy(want, o->audiences, o->naudiences * sizeof *want);
    qsort(want, o->naudiences, sizeof *want, kl_str_order);
    struct kl_str expected = list_text(a, want, o->naudiences);
    return kl_error_set(err, KL_EUNAUTHORIZED, "oidc: expected audience in %.*s got %.*s",
                        KL_PRI(expected), KL_PRI(text));
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

// As Go prints a time.
static struct kl_str time_text(struct kl_arena *a, bool known, int64_t s)
{
    time_t t = s;
    struct tm tm;
    if (!known)
        return KL_STR("0001-01-01 00:00:00 +0000 UTC");
    if (!gmtime_r(&t, &tm))
        return kl_arena_printf(a, "%lld", (long long)s);
    return kl_arena_printf(a, "%04d-%02d-%02d %02d:%02d:%02d +0000 UTC", tm.tm_year + 1900,
                           tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static int check_times(struct kl_arena *a, const struct kl_value *claims, struct kl_error *err)
{
    int64_t now_ms = kl_wall_ms(), now = now_ms / 1000, exp = 0, nbf;
    bool known = read_time(kl_map_value(claims, KL_STR("exp")), &exp);
    if (!known || exp < now || (exp == now && now_ms % 1000))
        return kl_error_set(err, KL_EUNAUTHORIZED, "oidc: token is expired (Token Expiry: %.*s)",
                            KL_PRI(time_text(a, known, exp)));
    if (read_time(kl_map_value(claims, KL_STR("nbf")), &nbf) && now + NBF_LEEWAY_S < nbf)
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "oidc: current time %.*s before the nbf (not before) time: %.*s",
                            KL_PRI(time_text(a, true, now)), KL_PRI(time_text(a, true, nbf)));
    return 0;
}

static const char *go_kind(const struct kl_value *v)
{
    static const char *const names[] = {
        [KL_BOOL] = "bool",     [KL_INT] = "number",  [KL_FLOAT] = "number",
        [KL_STRING] = "string", [KL_ARRAY] = "array", [KL_MAP] = "object"};
    return v->kind < KL_COUNT(names) && names[v->kind] ? names[v->kind] : "null";
}

static int mistyped(struct kl_error *err, const struct kl_value *v, const char *what)
{
    return kl_error_set(err, KL_EUNAUTHORIZED,
                        "oidc: failed to unmarshal claims: json: cannot unmarshal %s into Go "
                        "struct field %s",
                        go_kind(v), what);
}

static bool is_or_null(const struct kl_value *v, enum kl_value_kind kind)
{
    return !v || v->kind == KL_NULL || v->kind == kind;
}

// Every source that is named must be there, whether it is wanted or not.
static int check_names(const struct kl_value *claims, struct kl_error *err)
{
    static const char *const members[] = {"endpoint", "access_token"};
    static const char *const fields[] = {"claimSource._claim_sources.endpoint of type string",
                                         "claimSource._claim_sources.access_token of type string"};
    const struct kl_value *names = kl_map_value(claims, KL_STR("_claim_names")),
                          *sources = kl_map_value(claims, KL_STR("_claim_sources"));
    if (!is_or_null(names, KL_MAP))
        return mistyped(err, names, "idToken._claim_names of type map[string]string");
    if (!is_or_null(sources, KL_MAP))
        return mistyped(err, sources, "idToken._claim_sources of type map[string]oidc.claimSource");
    for (KL_MAP_EACH_KEY(k, names))
        if (!is_or_null(&k[1], KL_STRING))
            return mistyped(err, &k[1], "idToken._claim_names of type string");
    for (KL_MAP_EACH_KEY(k, sources)) {
        if (!is_or_null(&k[1], KL_MAP))
            return mistyped(err, &k[1], "idToken._claim_sources of type oidc.claimSource");
        for (size_t i = 0; i < KL_COUNT(members); i++) {
            const struct kl_value *m = kl_map_value(&k[1], kl_str(members[i]));
            if (!is_or_null(m, KL_STRING))
                return mistyped(err, m, fields[i]);
        }
    }
    for (KL_MAP_EACH_KEY(k, names)) {
        if (!kl_text(&k[1]).n)
            return kl_error_set(err, KL_EUNAUTHORIZED,
                                "oidc: failed to obtain source from claim name");
        if (!kl_map_value(sources, kl_text(&k[1])))
            return kl_error_set(err, KL_EUNAUTHORIZED, "oidc: source does not exist");
    }
    return 0;
}

int kl_oidc_verify(struct kl_token_ask *t, struct kl_authn_cache *c, size_t i, struct kl_str issuer,
                   const struct kl_jwt *jwt, struct kl_error *err)
{
    const struct kl_oidc *o = &c->conf->jwt[i];
    struct kl_str *aud;
    size_t naud;
    int rc;
    if (!have_common(&jwt->alg, 1, o->algs, o->nalgs))
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "oidc: id token signed with unsupported algorithm, expected %.*s got "
                            "\"%.*s\"",
                            KL_PRI(list_text(t->arena, o->algs, o->nalgs)), KL_PRI(jwt->alg));
    if ((rc = kl_oidc_check_signature(t, c, i, issuer, jwt, err)) ||
        (rc = check_names(&jwt->claims, err)))
        return rc;
    if (!read_audiences(t->arena, kl_map_value(&jwt->claims, KL_STR("aud")), &aud, &naud))
        return kl_error_set(err, KL_EUNAUTHORIZED, "oidc: too many audiences");
    bool fits = have_common(aud, naud, o->audiences, o->naudiences);
    if (!fits && o->naudiences == 1)
        return wrong_audience(t->arena, o, aud, naud, err);
    if ((rc = check_times(t->arena, &jwt->claims, err)))
        return rc;
    return fits ? 0 : wrong_audience(t->arena, o, aud, naud, err);
}

// ---- whose it is

static struct kl_authn_cache *cache_with_issuers(struct kl_api_loop *al)
{
    const struct kl_auth_conf *conf = kl_auth_conf_of(al);
    struct kl_authn_cache *c = conf ? al->authn : NULL;
    if (c && conf->njwt && !c->oidc)
        c->oidc = calloc(conf->njwt, sizeof *c->oidc);
    return c && conf->njwt && c->oidc ? c : NULL;
}

struct kl_str kl_oidc_issuer_of(const struct kl_jwt *jwt)
{
    struct kl_str iss = kl_text(kl_map_value(&jwt->claims, KL_STR("iss")));
    if (kl_str_eqz(iss, "accounts.google.com")) // what Google's tokens said of old
        return KL_STR("https://accounts.google.com");
    return iss;
}

static bool find_issuer(const struct kl_auth_conf *conf, const struct kl_jwt *jwt, size_t *ret_i)
{
    struct kl_str iss = kl_oidc_issuer_of(jwt);
    for (size_t i = 0; i < conf->njwt; i++)
        if (kl_str_eq(iss, conf->jwt[i].issuer)) {
            *ret_i = i;
            return true;
        }
    return false;
}

static int verify(struct kl_token_ask *t, struct kl_authn_cache *c, size_t i, struct kl_jwt *jwt,
                  struct kl_error *err)
{
    const struct kl_oidc *o = &c->conf->jwt[i];
    struct kl_error why = {0};
    int rc = kl_oidc_verify(t, c, i, o->issuer, jwt, &why);
    if (rc == KL_EAGAIN)
        return rc;
    if (rc == KL_EUNAVAILABLE)
        return kl_error_set(err, KL_EUNAUTHORIZED, "oidc: authenticator not initialized");
    if (rc)
        return kl_error_set(err, KL_EUNAUTHORIZED, "oidc: verify token: %s", why.msg);
    rc = kl_oidc_expand(t, c, i, &jwt->claims, &why);
    if (!rc || rc == KL_EAGAIN)
        return rc;
    return kl_error_set(err, KL_EUNAUTHORIZED, "oidc: could not expand distributed claims: %s",
                        why.msg);
}

int kl_oidc_token(struct kl_token_ask *t, struct kl_user **ret, struct kl_error *err)
{
    struct kl_authn_cache *c = cache_with_issuers(t->al);
    struct kl_error ignored;
    struct kl_jwt jwt;
    size_t i;
    if (!c || kl_jwt_parse(t->arena, t->token, KL_TOKEN_MAX_BYTES, &jwt, &ignored) ||
        !find_issuer(c->conf, &jwt, &i))
        return 0;
    int rc = verify(t, c, i, &jwt, err);
    if (rc || (rc = kl_oidc_user(&c->conf->jwt[i], t->arena, &jwt.claims, ret, err)))
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
    for (size_t i = 0; i < c->conf->njwt; i++)
        kl_oidc_keys_drop(&c->oidc[i]);
    free(c->oidc);
    c->oidc = NULL;
}
