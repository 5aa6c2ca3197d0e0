// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/oidc_int.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdlib.h>

enum {
    TIMEOUT_MS = 30000,
    RETRIES = 1,
    ANSWER_MAX = 1 << 20,
    KEEP_FAILED_MS = 500, // an issuer that is down is not asked for every token
    MAX_OTHERS = 64,
    MAX_ISSUER = 2048,
};

struct fetch {
    struct kl_auth_conf *conf;
    size_t i;
    struct kl_remote *jwks; // known by now
    size_t nissuer;
    char issuer[];
};

static struct kl_str issuer_of(const struct fetch *f)
{
    return (struct kl_str){f->issuer, f->nissuer};
}

static void free_fetch(void *arg)
{
    struct fetch *f = arg;
    kl_remote_unref(f->jwks);
    kl_auth_conf_unref(f->conf);
    free(f);
}

// ---- what the loop keeps

static struct kl_oidc_keys *find_keys(struct kl_authn_cache *c, size_t i, struct kl_str issuer)
{
    struct kl_oidc_loop *l = &c->oidc[i];
    if (kl_str_eq(issuer, c->conf->jwt[i].issuer))
        return &l->own;
    for (struct kl_oidc_keys *k = l->others; k; k = k->next)
        if (kl_str_eq(issuer, (struct kl_str){k->issuer, k->nissuer}))
            return k;
    return NULL;
}

static void drop_one(struct kl_oidc_keys *k)
{
    kl_jwt_keys_fini(&k->keys);
    kl_remote_unref(k->jwks);
}

void kl_oidc_keys_drop(struct kl_oidc_loop *l)
{
    drop_one(&l->own);
    while (l->others) {
        struct kl_oidc_keys *k = l->others;
        l->others = k->next;
        drop_one(k);
        free(k);
    }
}

// A new one first; the oldest goes when there are too many.
static struct kl_oidc_keys *add_keys(struct kl_oidc_loop *l, struct kl_str issuer)
{
    struct kl_oidc_keys *k = calloc(1, sizeof *k + issuer.n), **last = &l->others;
    size_t n = 1;
    if (!k)
        return NULL;
    memcpy(k->issuer, issuer.p, issuer.n);
    k->nissuer = issuer.n;
    k->next = l->others;
    l->others = k;
    for (; (*last)->next; n++)
        last = &(*last)->next;
    if (n > MAX_OTHERS) {
        drop_one(*last);
        free(*last);
        *last = NULL;
    }
    return k;
}

// ---- fetching

static void fail(struct fetch *f, struct kl_reply *out, const struct kl_error *err)
{
    kl_log(KL_LOG_WARN, "apiserver", "oidc issuer=%.*s: %s", KL_PRI(issuer_of(f)), err->msg);
    out->code = err->code ? err->code : KL_EUNAVAILABLE;
    out->text = kl_arena_dup(&out->arena, kl_str(err->msg));
    out->until_ms = kl_mono_ms() + KEEP_FAILED_MS;
}

int kl_oidc_discovery_read(struct kl_arena *a, struct kl_str body, struct kl_str want,
                           struct kl_str *ret_jwks_uri, struct kl_error *err)
{
    struct kl_value root;
    struct kl_str copy = kl_arena_dup(a, body);
    if (!copy.p || kl_json_parse(a, copy, NULL, &root, err) || root.kind != KL_MAP)
        return kl_error_set(err, KL_EPROTO, "discovery: the answer is not JSON");
    struct kl_str issuer = kl_text(kl_map_value(&root, KL_STR("issuer"))),
                  uri = kl_text(kl_map_value(&root, KL_STR("jwks_uri")));
    if (!kl_str_eq(issuer, want))
        return kl_error_set(err, KL_EPROTO,
                            "oidc: issuer did not match the issuer returned by provider, expected "
                            "\"%.*s\" got \"%.*s\"",
                            KL_PRI(want), KL_PRI(issuer));
    if (!uri.n)
        return kl_error_set(err, KL_EPROTO, "provider did not return JWKS URL");
    *ret_jwks_uri = uri;
    return 0;
}

// What discovery says; the keys are elsewhere.
static int read_discovery(struct fetch *f, struct kl_query *q, struct kl_str body,
                          struct kl_reply *out, struct kl_error *err)
{
    struct kl_str uri;
    int rc = kl_oidc_discovery_read(&out->arena, body, issuer_of(f), &uri, err);
    if (rc)
        return rc;
    rc = kl_remote_beside(f->conf->jwt[f->i].discovery, uri, (struct kl_str){0}, &f->jwks, err);
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
    struct kl_oidc_keys *k = find_keys(c, f->i, issuer_of(f));
    if (!k && !(k = add_keys(&c->oidc[f->i], issuer_of(f)))) {
        kl_jwt_keys_fini(&keys);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    drop_one(k);
    k->keys = keys;
    k->jwks = kl_remote_ref(f->jwks);
    k->fetched = true;
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

// Where an issuer that only distributed claims name says of itself: reached with the same CA.
static int discovery_of(const struct kl_oidc *o, struct kl_arena *a, struct kl_str issuer,
                        struct kl_remote **ret, struct kl_error *err)
{
    if (kl_str_eq(issuer, o->issuer)) {
        *ret = kl_remote_ref(o->discovery);
        return 0;
    }
    if (issuer.n && issuer.p[issuer.n - 1] == '/')
        issuer.n--;
    struct kl_str url = kl_arena_printf(a, "%.*s/.well-known/openid-configuration", KL_PRI(issuer));
    return url.p ? kl_remote_beside(o->discovery, url, (struct kl_str){0}, ret, err)
                 : kl_error_set(err, KL_ENOMEM, "out of memory");
}

static int begin(struct kl_token_ask *t, struct kl_authn_cache *c, size_t i, struct kl_str issuer,
                 struct kl_str key, struct kl_error *err)
{
    struct kl_oidc_keys *k = find_keys(c, i, issuer);
    struct kl_remote *to = NULL;
    if (!t->ask || issuer.n > MAX_ISSUER)
        return kl_error_set(err, KL_EUNAVAILABLE, "its keys cannot be fetched");
    if (k && k->jwks)
        to = kl_remote_ref(k->jwks);
    else if (discovery_of(&c->conf->jwt[i], t->arena, issuer, &to, err))
        return err->code = KL_EUNAVAILABLE;
    struct fetch *f = calloc(1, sizeof *f + issuer.n);
    if (!f) {
        kl_remote_unref(to);
        return kl_error_set(err, KL_EUNAVAILABLE, "out of memory");
    }
    f->conf = kl_auth_conf_ref(c->conf);
    f->i = i;
    f->jwks = k && k->jwks ? kl_remote_ref(k->jwks) : NULL;
    f->nissuer = issuer.n;
    memcpy(f->issuer, issuer.p, issuer.n);
    struct kl_query_spec q = {.key = key,
                              .to = to,
                              .timeout_ms = TIMEOUT_MS,
                              .retries = RETRIES,
                              .max_bytes = ANSWER_MAX,
                              .read = read_answer,
                              .arg = f,
                              .release = free_fetch};
    int rc = kl_ask_begin(t->al, t->ask, &q, err);
    kl_remote_unref(to);
    if (!rc)
        return KL_EAGAIN;
    free_fetch(f);
    return err->code = KL_EUNAVAILABLE;
}

int kl_oidc_check_signature(struct kl_token_ask *t, struct kl_authn_cache *c, size_t i,
                            struct kl_str issuer, const struct kl_jwt *jwt, struct kl_error *err)
{
    struct kl_oidc_keys *k = find_keys(c, i, issuer);
    struct kl_error why = {0};
    if (k && k->fetched && !kl_jwt_check(jwt, &k->keys, &why))
        return 0;
    struct kl_str key = kl_arena_printf(t->arena, "J:%zu:%.*s", i, KL_PRI(issuer));
    if (!key.p)
        return kl_error_set(err, KL_EUNAVAILABLE, "out of memory");
    const struct kl_reply *r = kl_ask_known(t->al, t->ask, key);
    if (!r)
        return begin(t, c, i, issuer, key, err);
    if (!k || !k->fetched)
        return kl_error_set(err, KL_EUNAVAILABLE, "%.*s", KL_PRI(r->text));
    if (r->code)
        return kl_error_set(err, KL_EUNAUTHORIZED, "failed to verify signature: fetching keys %.*s",
                            KL_PRI(r->text));
    return kl_error_set(err, KL_EUNAUTHORIZED,
                        "failed to verify signature: failed to verify id token signature");
}
