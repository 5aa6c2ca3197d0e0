// SPDX-License-Identifier: Apache-2.0
// What authentication is made of at the server's start: keys, issuers, files; and its
// configuration, which may be read anew.
#include "apiserver/auth/authn_int.h"
#include "apiserver/auth/conf_watch.h"
#include "apiserver/pki_int.h"
#include "base/log.h"
#include "net/tls.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <unistd.h>

enum { KEY_FILE_MAX = 1 << 20, MAX_NAMES = 64 };

int kl_auth_read_file(struct kl_arena *a, const char *path, size_t max_bytes, struct kl_str *ret,
                      struct kl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return kl_error_errno(err, errno, "open %s", path);
    size_t room = 4096, n = 0;
    char *p = NULL;
    ssize_t got = 1;
    int rc = 0;
    while (!rc && got > 0) { // its size may be a lie: it is read to its end
        char *bigger = kl_arena_alloc(a, room + 1);
        if (!bigger) {
            rc = kl_error_set(err, KL_ENOMEM, "%s: out of memory", path);
            break;
        }
        if (n)
            memcpy(bigger, p, n);
        p = bigger;
        while (n < room && (got = read(fd, p + n, room - n)) > 0)
            n += (size_t)got;
        if (got < 0)
            rc = kl_error_errno(err, errno, "read %s", path);
        else if (n > max_bytes)
            rc = kl_error_set(err, KL_ETOOLARGE, "%s: too large", path);
        room *= 4;
    }
    close(fd);
    if (rc)
        return rc;
    p[n] = 0;
    *ret = (struct kl_str){p, n};
    return 0;
}

// ---- keys

static int take_signer(struct kl_authn *n, const struct kl_pki *pki, struct kl_error *err)
{
    const char *file = n->settings->service_account_signing_key_file;
    struct kl_str pem = pki->service_key;
    int rc = file ? kl_auth_read_file(&n->arena, file, KEY_FILE_MAX, &pem, err) : 0;
    if (rc || !(n->key = kl_pki_load_key(pem, file ? file : "service account key", err)))
        return rc ? rc : err->code;
    if (file && pem.n)
        OPENSSL_cleanse((char *)pem.p, pem.n);
    if (kl_jwt_keys_add(&n->keys, n->key, (struct kl_str){0}, KL_STR(""), err))
        return kl_error_wrap(err, "service account key");
    const struct kl_jwt_key *k = &n->keys.v[0];
    n->ec_bytes = k->ec_bytes;
    n->alg = kl_jwt_key_alg(k);
    n->md = k->ec_bytes == 48 ? EVP_sha384() : k->ec_bytes == 66 ? EVP_sha512() : EVP_sha256();
    size_t len = strlen(k->kid);
    if (len >= sizeof n->kid)
        return kl_error_set(err, KL_EINTERNAL, "service account key: its name is too long");
    memcpy(n->kid, k->kid, len + 1);
    return 0;
}

static bool has_kid(const struct kl_jwt_keys *k, size_t before, const char *kid)
{
    for (size_t i = 0; i < before; i++)
        if (!strcmp(k->v[i].kid, kid))
            return true;
    return false;
}

static int take_verifiers(struct kl_authn *n, struct kl_error *err)
{
    const char *const *files = n->settings->service_account_key_file;
    int rc = 0;
    for (size_t i = 0; files && files[i] && !rc; i++) {
        struct kl_str pem;
        size_t before = n->keys.n;
        if ((rc = kl_auth_read_file(&n->arena, files[i], KEY_FILE_MAX, &pem, err)) ||
            (rc = kl_jwt_keys_from_pem(&n->keys, pem, files[i], err)))
            return rc;
        OPENSSL_cleanse((char *)pem.p, pem.n);
        for (size_t k = before; k < n->keys.n;) { // the signer's own key is there already
            if (!has_kid(&n->keys, before, n->keys.v[k].kid)) {
                k++;
                continue;
            }
            struct kl_jwt_key twice = n->keys.v[k];
            memmove(&n->keys.v[k], &n->keys.v[k + 1], (n->keys.n - k - 1) * sizeof twice);
            n->keys.n--;
            EVP_PKEY_free(twice.key);
            free(twice.kid);
            free(twice.alg);
        }
    }
    return rc;
}

static int take_names(struct kl_authn *n, const struct kl_pki *pki, struct kl_error *err)
{
    const struct kl_api_settings *s = n->settings;
    struct kl_str domain = pki->cluster_domain.n ? pki->cluster_domain : KL_STR("cluster.local");
    n->issuers = kl_arena_alloc(&n->arena, MAX_NAMES * sizeof *n->issuers);
    n->audiences = kl_arena_alloc(&n->arena, MAX_NAMES * sizeof *n->audiences);
    if (!n->issuers || !n->audiences)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (size_t i = 0; s->service_account_issuer && s->service_account_issuer[i]; i++)
        if (n->nissuers < MAX_NAMES)
            n->issuers[n->nissuers++] = kl_str(s->service_account_issuer[i]);
    if (!n->nissuers)
        n->issuers[n->nissuers++] =
            kl_arena_printf(&n->arena, "https://kubernetes.default.svc.%.*s", KL_PRI(domain));
    for (size_t i = 0; s->api_audiences && s->api_audiences[i]; i++)
        if (n->naudiences < MAX_NAMES)
            n->audiences[n->naudiences++] = kl_str(s->api_audiences[i]);
    if (!n->naudiences)
        n->audiences[n->naudiences++] = n->issuers[0];
    return n->issuers[0].p ? 0 : kl_error_set(err, KL_ENOMEM, "out of memory");
}

static int make_jwks(struct kl_authn *n, struct kl_error *err)
{
    struct kl_buf b;
    kl_buf_init(&b, 4 << 20);
    kl_jwt_keys_write(&n->keys, &b);
    kl_buf_putc(&b, 0);
    n->jwks = b.err ? NULL : strdup(b.p);
    kl_buf_fini(&b);
    return n->jwks ? 0 : kl_error_set(err, KL_ENOMEM, "service account keys: out of memory");
}

static int take_files(struct kl_authn *n, const struct kl_pki *pki, struct kl_error *err)
{
    const struct kl_api_settings *s = n->settings;
    int rc = 0;
    if (s->token_auth_file)
        rc = kl_static_tokens_read(s->token_auth_file, &n->tokens, err);
    if (!rc)
        rc = kl_front_proxy_new(s, pki->front_proxy_ca, &n->proxy, err);
    if (!rc && s->token_webhook_config_file)
        rc = kl_remote_from_kubeconfig(s->token_webhook_config_file, &n->webhook, err);
    if (rc || !s->authorization_policy_file)
        return rc;
    if (!(n->abac = KL_ARENA_NEW(&n->arena, struct kl_abac)))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    return kl_abac_read(&n->arena, s->authorization_policy_file, n->abac, err);
}

struct kl_authn *kl_authn_new(const struct kl_pki *pki, const struct kl_api_settings *settings,
                              struct kl_error *err)
{
    struct kl_authn *n = calloc(1, sizeof *n);
    if (!n || uv_mutex_init(&n->lock)) {
        free(n);
        kl_error_set(err, KL_ENOMEM, "authentication: out of memory");
        return NULL;
    }
    kl_arena_init(&n->arena, 64 << 20);
    n->settings = settings ? settings : &kl_api_settings_default;
    n->anonymous = n->settings->anonymous_auth;
    atomic_init(&n->generation, 0);
    if (take_signer(n, pki, err) || take_verifiers(n, err) || take_names(n, pki, err) ||
        make_jwks(n, err) || take_files(n, pki, err) || kl_authn_load_conf(n, err)) {
        kl_authn_free(n);
        return NULL;
    }
    ERR_clear_error();
    return n;
}

void kl_authn_free(struct kl_authn *n)
{
    if (!n)
        return;
    kl_auth_conf_unref(n->conf);
    uv_mutex_destroy(&n->lock);
    kl_remote_unref(n->webhook);
    kl_front_proxy_free(n->proxy);
    kl_static_tokens_free(n->tokens);
    kl_jwt_keys_fini(&n->keys);
    EVP_PKEY_free(n->key); // wipes the private part
    kl_arena_fini(&n->arena);
    free(n->jwks);
    free(n);
}

// ---- the configuration

int kl_authn_load_conf(struct kl_authn *n, struct kl_error *err)
{
    const struct kl_api_settings *s = n->settings;
    struct kl_auth_conf_input in = {.settings = s,
                                    .anonymous = n->anonymous,
                                    .issuers = n->issuers,
                                    .nissuers = n->nissuers,
                                    .abac = n->abac,
                                    .started_with = n->started_with};
    struct kl_auth_conf *conf = NULL, *old;
    struct kl_arena a;
    kl_arena_init(&a, 8 * KL_AUTH_CONF_MAX_BYTES);
    int rc = 0;
    if (s->authentication_config && (s->oidc_issuer_url || s->oidc_client_id))
        rc = kl_error_set(err, KL_EINVALID,
                          "authentication-config file and oidc-* flags are mutually exclusive");
    if (!rc && s->authorization_config &&
        ((s->authorization_mode && *s->authorization_mode) || s->authorization_webhook_config_file))
        rc = kl_error_set(err, KL_EINVALID,
                          "--authorization-config can not be specified when --authorization-mode "
                          "or --authorization-webhook-* flags are defined");
    if (!rc && s->authentication_config)
        rc = kl_auth_read_file(&a, s->authentication_config, KL_AUTH_CONF_MAX_BYTES,
                               &in.authentication, err);
    if (!rc && s->authorization_config)
        rc = kl_auth_read_file(&a, s->authorization_config, KL_AUTH_CONF_MAX_BYTES,
                               &in.authorization, err);
    if (!rc)
        rc = kl_auth_conf_new(&in, &conf, err);
    kl_arena_fini(&a);
    if (rc)
        return rc;
    for (size_t i = 0; !in.started_with && i < conf->nauthz; i++)
        n->started_with |= 1u << conf->authz[i].kind;
    uv_mutex_lock(&n->lock);
    old = n->conf;
    n->conf = conf;
    atomic_fetch_add(&n->generation, 1);
    uv_mutex_unlock(&n->lock);
    kl_auth_conf_unref(old);
    return 0;
}

void kl_authn_watch(struct kl_apiserver *s, struct kl_loop *loop)
{
    struct kl_authn *n = s->authn;
    struct kl_error err = {0};
    if (!loop) {
        kl_conf_watch_stop(n->watch);
        n->watch = NULL;
    } else if (!n->watch && kl_conf_watch_start(loop, n, &n->watch, &err)) {
        kl_log(KL_LOG_ERROR, "apiserver", "configuration files are not watched: %s", err.msg);
    }
}

struct kl_authn_cache *kl_authn_cache_of(struct kl_api_loop *al)
{
    if (!al->authn && (al->authn = calloc(1, sizeof *al->authn)))
        kl_map_init(&al->authn->tokens);
    return al->authn;
}

// What was remembered under the old one goes with it.
static const struct kl_auth_conf *take_conf(struct kl_api_loop *al, struct kl_authn_cache *c)
{
    struct kl_authn *n = al->srv->authn;
    kl_oidc_loop_fini(al);
    kl_auth_conf_unref(c->conf);
    uv_mutex_lock(&n->lock);
    c->conf = kl_auth_conf_ref(n->conf);
    c->generation = atomic_load(&n->generation);
    uv_mutex_unlock(&n->lock);
    kl_ask_forget(al);
    return c->conf;
}

const struct kl_auth_conf *kl_auth_conf_of(struct kl_api_loop *al)
{
    struct kl_authn_cache *c = al->authn ? al->authn : kl_authn_cache_of(al);
    if (!c)
        return NULL;
    if (c->conf &&
        c->generation == atomic_load_explicit(&al->srv->authn->generation, memory_order_acquire))
        return c->conf;
    return take_conf(al, c);
}

void kl_authn_loop_fini(struct kl_api_loop *al)
{
    struct kl_authn_cache *c = al->authn;
    if (!c)
        return;
    kl_oidc_loop_fini(al);
    kl_account_tokens_drop(c);
    kl_map_fini(&c->tokens);
    kl_user_unref(c->anonymous);
    kl_auth_conf_unref(c->conf);
    free(c);
    al->authn = NULL;
}

// ---- what others are told

void kl_authn_jwks(struct kl_apiserver *s, struct kl_buf *out)
{
    kl_buf_puts(out, kl_str(s->authn->jwks));
}

void kl_authn_oidc_config(struct kl_apiserver *s, struct kl_buf *out)
{
    const struct kl_authn *n = s->authn;
    const char *host = n->settings->external_hostname;
    const char *algs[] = {"ES256", "ES384", "ES512", "RS256"};
    if (!host)
        host = s->o.advertise_address ? s->o.advertise_address : "127.0.0.1";
    bool v6 = strchr(host, ':') != NULL, any = false;
    kl_buf_puts(out, KL_STR("{\"issuer\":"));
    kl_json_write_string(out, n->issuers[0]);
    kl_buf_puts(out, KL_STR(",\"jwks_uri\":"));
    if (n->settings->service_account_jwks_uri)
        kl_json_write_string(out, kl_str(n->settings->service_account_jwks_uri));
    else
        kl_buf_printf(out, "\"https://%s%s%s:%d/openid/v1/jwks\"", v6 ? "[" : "", host,
                      v6 ? "]" : "", s->http ? kl_apiserver_port(s) : s->o.port);
    kl_buf_puts(out, KL_STR(",\"response_types_supported\":[\"id_token\"],"
                            "\"subject_types_supported\":[\"public\"],"
                            "\"id_token_signing_alg_values_supported\":["));
    for (size_t i = 0; i < KL_COUNT(algs); i++)
        for (size_t k = 0; k < n->keys.n; k++)
            if (!strcmp(algs[i], kl_jwt_key_alg(&n->keys.v[k]))) {
                kl_buf_printf(out, "%s\"%s\"", any ? "," : "", algs[i]);
                any = true;
                break;
            }
    kl_buf_puts(out, KL_STR("]}"));
}
