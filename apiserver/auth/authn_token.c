// SPDX-License-Identifier: Apache-2.0
// Service account tokens, bound ones and those of Secrets. A signature is checked once per loop and
// token; what the token is bound to is looked up again when the view has moved, and decoded only
// when it changed.
#include "apiserver/auth/authn_int.h"
#include "base/clock.h"
#include "watchcache/filter.h"
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>

enum { MAX_TOKENS = 1024, MAX_REFS = 2 };

// An object that must exist with this uid.
struct token_ref {
    uint16_t res;
    struct kl_str key, uid; // memory of the entry
    kl_rev id;              // version that was checked last
    int64_t dies_s;         // its deletionTimestamp plus leeway; INT64_MAX when it has none
    const char *gone;       // what is said when it is not there
};

struct kl_account_entry {
    struct kl_arena arena;
    struct kl_claims claims;
    struct kl_user *user;
    struct token_ref ref[MAX_REFS];
    int nrefs;
    kl_rev checked_rev;
    struct kl_account_entry *next; // older
    char sha[SHA256_DIGEST_LENGTH];
};

static void free_entry(struct kl_account_entry *e)
{
    kl_user_unref(e->user);
    kl_arena_fini(&e->arena);
    free(e);
}

void kl_account_tokens_drop(struct kl_authn_cache *c)
{
    for (struct kl_account_entry *e = c->newest, *next; e; e = next) {
        next = e->next;
        free_entry(e);
    }
    c->newest = NULL;
    kl_map_fini(&c->tokens);
    kl_map_init(&c->tokens);
}

// ---- what a token is bound to

static int add_ref(struct kl_account_entry *e, uint16_t res, struct kl_str ns, struct kl_str name,
                   struct kl_str uid, const char *gone, struct kl_error *err)
{
    struct token_ref *r = &e->ref[e->nrefs++];
    *r = (struct token_ref){.res = res, .uid = uid, .id = -1, .gone = gone};
    r->key = kl_object_key(&e->arena, kl_res(res), ns, name);
    return r->key.p ? 0 : kl_error_set(err, KL_ENOMEM, "token: out of memory");
}

static int add_refs(struct kl_account_entry *e, struct kl_error *err)
{
    const struct kl_claims *c = &e->claims;
    const char *invalidated = "service account token has been invalidated";
    int rc = add_ref(e, KL_RES_core_v1_serviceaccounts, c->ns, c->account.name, c->account.uid,
                     NULL, err);
    if (rc)
        return rc;
    if (c->legacy)
        return add_ref(e, KL_RES_core_v1_secrets, c->ns, c->secret.name, KL_STR(""),
                       "Token has been invalidated", err);
    if (c->secret.name.n)
        return add_ref(e, KL_RES_core_v1_secrets, c->ns, c->secret.name, c->secret.uid, invalidated,
                       err);
    if (c->pod.name.n)
        return add_ref(e, KL_RES_core_v1_pods, c->ns, c->pod.name, c->pod.uid, invalidated, err);
    if (c->node.name.n)
        return add_ref(e, KL_RES_core_v1_nodes, KL_STR(""), c->node.name, c->node.uid, invalidated,
                       err);
    return 0;
}

static int ref_gone(const struct kl_account_entry *e, const struct token_ref *r,
                    struct kl_error *err)
{
    if (r->gone)
        return kl_error_set(err, KL_EUNAUTHORIZED, "%s", r->gone);
    return kl_error_set(err, KL_EUNAUTHORIZED, "serviceaccounts \"%.*s\" not found",
                        KL_PRI(e->claims.account.name));
}

static const char *ref_noun(const struct token_ref *r)
{
    return r->res == KL_RES_core_v1_pods      ? "pod"
           : r->res == KL_RES_core_v1_secrets ? "secret"
           : r->res == KL_RES_core_v1_nodes   ? "node"
                                              : "service account";
}

static int wrong_uid(const struct token_ref *r, struct kl_str uid, struct kl_error *err)
{
    const char *noun = ref_noun(r);
    if (!r->gone)
        return kl_error_set(err, KL_EUNAUTHORIZED, "%s UID (%.*s) does not match claim (%.*s)",
                            noun, KL_PRI(uid), KL_PRI(r->uid));
    return kl_error_set(err, KL_EUNAUTHORIZED,
                        "%s UID (%.*s) does not match service account %s ref claim (%.*s)", noun,
                        KL_PRI(uid), noun, KL_PRI(r->uid));
}

// A Secret's own token: it must still be the one that is stored.
static int check_copy(const struct kl_account_entry *e, const struct kl_value *secret,
                      struct kl_error *err)
{
    struct kl_str stored = kl_text(kl_map_value(kl_get(secret, KL_F_data), KL_STR("token")));
    unsigned char sha[SHA256_DIGEST_LENGTH];
    const char *label = "kubernetes.io/legacy-token-invalid-since";
    SHA256((const unsigned char *)stored.p, stored.n, sha);
    if (CRYPTO_memcmp(sha, e->sha, sizeof sha))
        return kl_error_set(err, KL_EUNAUTHORIZED, "Token does not match server's copy");
    if (kl_text(kl_map_value(kl_meta_labels(secret), kl_str(label))).n)
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "the token in secret %.*s/%.*s for service account %.*s/%.*s has been "
                            "marked invalid. Use tokens from the TokenRequest API or manually "
                            "created secret-based tokens, or remove the '%s' label from the secret "
                            "to temporarily allow use of this token",
                            KL_PRI(e->claims.ns), KL_PRI(e->claims.secret.name),
                            KL_PRI(e->claims.ns), KL_PRI(e->claims.account.name), label);
    return 0;
}

static int check_ref(struct kl_api_loop *al, struct kl_account_entry *e, struct token_ref *r,
                     int64_t now_s, struct kl_error *err)
{
    struct kl_kv *kv = kl_view_get(kl_reader_view(al->reader), r->key);
    if (!kv)
        return ref_gone(e, r, err);
    if (kv->id != r->id) {
        struct kl_object *o = kl_cache_object(kv, kl_res(r->res), err);
        if (!o)
            return err->code;
        struct kl_str uid = kl_meta_uid(&o->root);
        bool copy = e->claims.legacy && r->res == KL_RES_core_v1_secrets;
        if (!copy && !kl_str_eq(uid, r->uid))
            return wrong_uid(r, uid, err);
        int rc = copy ? check_copy(e, &o->root, err) : 0;
        if (rc)
            return rc;
        const struct kl_value *del = kl_path(&o->root, KL_F_metadata, KL_F_deletionTimestamp);
        r->dies_s = del ? kl_int_or(del, 0) / 1000000 + KL_CLAIMS_LEEWAY_S : INT64_MAX;
        r->id = kv->id;
    }
    if (now_s <= r->dies_s)
        return 0;
    if (r->gone)
        return ref_gone(e, r, err);
    return kl_error_set(err, KL_EUNAUTHORIZED, "service account %.*s/%.*s has been deleted",
                        KL_PRI(e->claims.ns), KL_PRI(e->claims.account.name));
}

static int check_entry(struct kl_api_loop *al, struct kl_account_entry *e, struct kl_error *err)
{
    int64_t now_s = kl_wall_ms() / 1000;
    kl_rev rev = kl_view_rev(kl_reader_view(al->reader));
    int rc = e->claims.legacy ? 0 : kl_claims_check_time(&e->claims, now_s, err);
    bool dying = false;
    // Without look-up (--service-account-lookup=false) a Secret's token is good as long as its key.
    if (e->claims.legacy && !al->srv->authn->settings->service_account_lookup)
        return 0;
    for (int i = 0; i < e->nrefs; i++)
        dying |= e->ref[i].dies_s < INT64_MAX;
    if (rc || (e->checked_rev == rev && !dying))
        return rc;
    e->checked_rev = 0;
    for (int i = 0; i < e->nrefs && !rc; i++)
        rc = check_ref(al, e, &e->ref[i], now_s, err);
    if (!rc)
        e->checked_rev = rev;
    return rc;
}

// ---- who it is

static void add_extra(struct kl_user_extra *x, size_t *n, const char *key, const struct kl_str *v)
{
    if (v->n)
        x[(*n)++] = (struct kl_user_extra){kl_str(key), v, 1};
}

static int make_user(struct kl_account_entry *e, struct kl_error *err)
{
    const struct kl_claims *c = &e->claims;
    struct kl_user_extra extra[5];
    size_t n = 0;
    struct kl_str id = KL_STR(""),
                  groups[2] = {
                      KL_STR("system:serviceaccounts"),
                      kl_arena_printf(&e->arena, "system:serviceaccounts:%.*s", KL_PRI(c->ns))};
    if (c->id.n)
        id = kl_arena_printf(&e->arena, "JTI=%.*s", KL_PRI(c->id));
    add_extra(extra, &n, "authentication.kubernetes.io/credential-id", &id);
    add_extra(extra, &n, "authentication.kubernetes.io/node-name", &c->node.name);
    if (c->node.name.n)
        add_extra(extra, &n, "authentication.kubernetes.io/node-uid", &c->node.uid);
    if (c->pod.name.n && c->pod.uid.n) {
        add_extra(extra, &n, "authentication.kubernetes.io/pod-name", &c->pod.name);
        add_extra(extra, &n, "authentication.kubernetes.io/pod-uid", &c->pod.uid);
    }
    if (groups[1].p && id.p)
        e->user = kl_user_new(c->subject, c->account.uid, groups, 2, extra, n);
    if (!e->user)
        return kl_error_set(err, KL_ENOMEM, "token: out of memory");
    e->user->issued_s = c->issued_s;
    return 0;
}

static bool is_issuer(const struct kl_authn *n, struct kl_str issuer)
{
    for (size_t i = 0; i < n->nissuers; i++)
        if (kl_str_eq(issuer, n->issuers[i]))
            return true;
    return kl_str_eq(issuer, KL_LEGACY_ISSUER);
}

// KL_ENOTFOUND: somebody else's token.
static int verify_new(struct kl_api_loop *al, struct kl_str token, struct kl_account_entry *e,
                      struct kl_error *err)
{
    const struct kl_authn *n = al->srv->authn;
    struct kl_jwt jwt;
    int rc;
    if (kl_jwt_parse(&e->arena, token, KL_TOKEN_MAX_BYTES, &jwt, err) ||
        !is_issuer(n, kl_text(kl_map_value(&jwt.claims, KL_STR("iss")))))
        return KL_ENOTFOUND;
    if ((rc = kl_jwt_check(&jwt, &n->keys, err)) ||
        (rc = kl_claims_read(&e->arena, &jwt.claims, &e->claims, err)))
        return rc;
    if ((rc = add_refs(e, err)) || (rc = check_entry(al, e, err)))
        return rc;
    return make_user(e, err);
}

// The entry of a token that is good now; owned by the cache.
static int entry_of(struct kl_api_loop *al, struct kl_str token, struct kl_account_entry **ret,
                    struct kl_error *err)
{
    struct kl_authn_cache *c = kl_authn_cache_of(al);
    unsigned char sha[SHA256_DIGEST_LENGTH];
    struct kl_str key = {(const char *)sha, sizeof sha};
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "token: out of memory");
    SHA256((const unsigned char *)token.p, token.n, sha);
    struct kl_account_entry *e = kl_map_get(&c->tokens, key);
    if (e) {
        *ret = e;
        return check_entry(al, e, err);
    }
    if (!(e = calloc(1, sizeof *e)))
        return kl_error_set(err, KL_ENOMEM, "token: out of memory");
    kl_arena_init(&e->arena, 1 << 20);
    memcpy(e->sha, sha, sizeof sha);
    int rc = verify_new(al, token, e, err);
    if (rc) {
        free_entry(e);
        return rc;
    }
    if (c->tokens.n >= MAX_TOKENS)
        kl_account_tokens_drop(c);
    if (kl_map_set(&c->tokens, key, e, NULL)) {
        free_entry(e);
        return kl_error_set(err, KL_ENOMEM, "token: out of memory");
    }
    e->next = c->newest;
    c->newest = e;
    *ret = e;
    return 0;
}

static struct kl_str list_text(struct kl_arena *a, const struct kl_str *s, size_t n)
{
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    kl_buf_putc(&b, '[');
    for (size_t i = 0; i < n; i++) {
        if (i)
            kl_buf_putc(&b, ' ');
        kl_json_write_string(&b, s[i]);
    }
    kl_buf_putc(&b, ']');
    struct kl_str out = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out.p ? out : KL_STR("[]");
}

int kl_account_token(struct kl_token_ask *t, struct kl_user **ret, struct kl_error *err)
{
    struct kl_account_entry *e = NULL;
    const struct kl_authn *n = t->al->srv->authn;
    int rc = entry_of(t->al, t->token, &e, err);
    if (rc)
        return rc == KL_ENOTFOUND ? 0 : rc;
    // Tokens of Secrets name no audience: they are for the server.
    const struct kl_str *has = e->claims.naudiences ? e->claims.audiences : n->audiences;
    size_t nhas = e->claims.naudiences ? e->claims.naudiences : n->naudiences, k = 0;
    struct kl_str *both = kl_arena_alloc(t->arena, (t->naudiences + 1) * sizeof *both);
    for (size_t i = 0; i < t->naudiences && both; i++)
        for (size_t j = 0; j < nhas; j++)
            if (kl_str_eq(t->audiences[i], has[j])) {
                both[k++] = t->audiences[i];
                break;
            }
    if (!k) {
        struct kl_str is = list_text(t->arena, has, nhas),
                      want = list_text(t->arena, t->audiences, t->naudiences);
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "token audiences %.*s is invalid for the target audiences %.*s",
                            KL_PRI(is), KL_PRI(want));
    }
    *ret = kl_user_ref(e->user);
    t->both = both;
    t->nboth = k;
    return 1;
}
