// SPDX-License-Identifier: Apache-2.0
// Service account tokens. A signature is checked once per loop and token; what the token is bound
// to is looked up again when the view has moved, and decoded only when it changed.
#include "apiserver/auth/authn_int.h"
#include "base/clock.h"
#include "watchcache/filter.h"
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

struct kl_token_entry {
    struct kl_arena arena;
    struct kl_claims claims;
    struct kl_user *user;
    struct token_ref ref[MAX_REFS];
    int nrefs;
    kl_rev checked_rev;
    struct kl_token_entry *next; // older
    char sha[SHA256_DIGEST_LENGTH];
};

struct kl_authn_cache {
    struct kl_map tokens; // by SHA-256: no token is kept in memory
    struct kl_token_entry *newest;
};

static void free_entry(struct kl_token_entry *e)
{
    kl_user_unref(e->user);
    kl_arena_fini(&e->arena);
    free(e);
}

static void drop_all(struct kl_authn_cache *c)
{
    for (struct kl_token_entry *e = c->newest, *next; e; e = next) {
        next = e->next;
        free_entry(e);
    }
    c->newest = NULL;
    kl_map_fini(&c->tokens);
    kl_map_init(&c->tokens);
}

void kl_authn_loop_fini(struct kl_api_loop *al)
{
    if (!al->authn)
        return;
    drop_all(al->authn);
    kl_map_fini(&al->authn->tokens);
    free(al->authn);
    al->authn = NULL;
}

// ---- what a token is bound to

static int add_ref(struct kl_token_entry *e, uint16_t res, struct kl_str ns, struct kl_str name,
                   struct kl_str uid, const char *gone, struct kl_error *err)
{
    struct token_ref *r = &e->ref[e->nrefs++];
    *r = (struct token_ref){.res = res, .uid = uid, .id = -1, .gone = gone};
    r->key = kl_object_key(&e->arena, kl_res(res), ns, name);
    return r->key.p ? 0 : kl_error_set(err, KL_ENOMEM, "token: out of memory");
}

static int add_refs(struct kl_token_entry *e, struct kl_error *err)
{
    const struct kl_claims *c = &e->claims;
    const char *invalidated = "service account token has been invalidated";
    int rc = add_ref(e, KL_RES_core_v1_serviceaccounts, c->ns, c->account.name, c->account.uid,
                     NULL, err);
    if (rc)
        return rc;
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

static int ref_gone(const struct kl_token_entry *e, const struct token_ref *r, struct kl_error *err)
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

static int check_ref(struct kl_api_loop *al, struct kl_token_entry *e, struct token_ref *r,
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
        if (!kl_str_eq(uid, r->uid))
            return wrong_uid(r, uid, err);
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

static int check_entry(struct kl_api_loop *al, struct kl_token_entry *e, struct kl_error *err)
{
    int64_t now_s = kl_wall_ms() / 1000;
    kl_rev rev = kl_view_rev(kl_reader_view(al->reader));
    int rc = kl_claims_check_time(&e->claims, now_s, err);
    bool dying = false;
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

static int make_user(struct kl_token_entry *e, struct kl_error *err)
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
    return e->user ? 0 : kl_error_set(err, KL_ENOMEM, "token: out of memory");
}

static int verify_new(struct kl_api_loop *al, struct kl_str token, struct kl_token_entry *e,
                      struct kl_error *err)
{
    const struct kl_authn *n = al->srv->authn;
    struct kl_value json;
    int rc;
    if ((rc = kl_jwt_verify(n, &e->arena, token, &json, err)) ||
        (rc = kl_claims_read(&e->arena, &json, &e->claims, err)))
        return rc;
    if (!kl_str_eqz(e->claims.issuer, n->issuer))
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid bearer token");
    if ((rc = add_refs(e, err)) || (rc = check_entry(al, e, err)))
        return rc;
    return make_user(e, err);
}

static struct kl_authn_cache *cache_of(struct kl_api_loop *al)
{
    if (!al->authn && (al->authn = calloc(1, sizeof *al->authn)))
        kl_map_init(&al->authn->tokens);
    return al->authn;
}

// The entry of a token that is good now; owned by the cache.
static int entry_of(struct kl_api_loop *al, struct kl_str token, struct kl_token_entry **ret,
                    struct kl_error *err)
{
    struct kl_authn_cache *c = cache_of(al);
    unsigned char sha[SHA256_DIGEST_LENGTH];
    struct kl_str key = {(const char *)sha, sizeof sha};
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "token: out of memory");
    if (token.n > KL_TOKEN_MAX_BYTES)
        return kl_error_set(err, KL_EUNAUTHORIZED, "token is too long");
    SHA256((const unsigned char *)token.p, token.n, sha);
    struct kl_token_entry *e = kl_map_get(&c->tokens, key);
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
        drop_all(c);
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

int kl_token_authenticate(struct kl_api_loop *al, struct kl_arena *a, struct kl_str token,
                          const struct kl_str *audiences, size_t naudiences, struct kl_user **ret,
                          const struct kl_str **ret_audiences, size_t *ret_naudiences,
                          struct kl_error *err)
{
    struct kl_token_entry *e = NULL;
    struct kl_str own = kl_str(al->srv->authn->issuer);
    if (!naudiences) {
        audiences = &own;
        naudiences = 1;
    }
    int rc = entry_of(al, token, &e, err);
    if (rc)
        return rc;
    struct kl_str *both = kl_arena_alloc(a, naudiences * sizeof *both);
    size_t n = 0;
    for (size_t i = 0; i < naudiences && both; i++)
        for (size_t j = 0; j < e->claims.naudiences; j++)
            if (kl_str_eq(audiences[i], e->claims.audiences[j])) {
                both[n++] = kl_arena_dup(a, audiences[i]);
                break;
            }
    if (!n) {
        struct kl_str has = list_text(a, e->claims.audiences, e->claims.naudiences),
                      want = list_text(a, audiences, naudiences);
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "token audiences %.*s is invalid for the target audiences %.*s",
                            KL_PRI(has), KL_PRI(want));
    }
    *ret = kl_user_ref(e->user);
    if (ret_audiences) {
        *ret_audiences = both;
        *ret_naudiences = n;
    }
    return 0;
}
