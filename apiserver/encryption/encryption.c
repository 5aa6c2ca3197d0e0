// SPDX-License-Identifier: Apache-2.0
#include "apiserver/encryption/encryption_int.h"
#include "apiserver/pki_int.h"
#include "base/log.h"
#include "store/wait.h"
#include <openssl/crypto.h>
#include <stdlib.h>

#define MAX_VALUE ((size_t)64 << 20)
enum { MAX_FILE = 4 << 20 };

// ---- the configuration

struct kl_enc_config *kl_encryption_config(struct kl_encryption *e)
{
    pthread_mutex_lock(&e->mu);
    struct kl_enc_config *c = e->config;
    if (c)
        atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&e->mu);
    return c;
}

void kl_encryption_take(struct kl_encryption *e, struct kl_enc_config *c)
{
    pthread_mutex_lock(&e->mu);
    struct kl_enc_config *old = e->config;
    e->config = c;
    pthread_mutex_unlock(&e->mu);
    kl_enc_config_unref(old);
}

int kl_encryption_apply(struct kl_encryption *e, struct kl_str value, kl_rev rev,
                        struct kl_error *err)
{
    struct kl_enc_record r = {0};
    int rc = 0;
    pthread_mutex_lock(&e->record_mu);
    if (rev > e->record_rev || (!rev && !e->config)) {
        if (rev)
            rc = kl_enc_record_read(value, e->secret, &e->root, &r, err);
        struct kl_enc_config *c = rc ? NULL : kl_enc_record_config(&r, rev);
        if (!rc && !c)
            rc = kl_error_set(err, KL_ENOMEM, "out of memory");
        if (!rc) {
            e->record = r;
            e->record_rev = rev;
            kl_encryption_take(e, c);
        }
    }
    pthread_mutex_unlock(&e->record_mu);
    OPENSSL_cleanse(&r, sizeof r);
    return rc;
}

void kl_encryption_refresh(struct kl_encryption *e, const struct kl_view *v)
{
    struct kl_error err = {0};
    if (e->o.file)
        return;
    struct kl_kv *kv = kl_view_get(v, KL_STR(KL_ENCRYPTION_KEY));
    if (kv && kv->value && kl_encryption_apply(e, kl_kv_value(kv), kv->mod_rev, &err))
        kl_log(KL_LOG_ERROR, "encryption", "%s", err.msg);
}

// ---- values

// The cluster's own keys seal Secrets only: nothing else pays for a look.
static bool concerns(const struct kl_encryption *e, const struct kl_resource *res)
{
    return e->o.file || kl_resource_storage(res)->index ==
                            kl_resource_storage(kl_res(KL_RES_core_v1_secrets))->index;
}

static struct kl_bytes *open_value(const struct kl_cache_opener *o, const struct kl_kv *kv,
                                   const struct kl_resource *res, struct kl_error *err)
{
    struct kl_encryption *e = KL_CONTAINER_OF(o, struct kl_encryption, opener);
    struct kl_buf b;
    struct kl_bytes *out = NULL;
    bool stale;
    for (int tries = 0; tries < 2 && !out; tries++) {
        struct kl_enc_config *c = kl_encryption_config(e);
        kl_buf_init(&b, MAX_VALUE);
        int rc =
            kl_enc_open(kl_enc_rule_of(c, res), kl_kv_key(kv), kl_kv_value(kv), &b, &stale, err);
        kl_enc_config_unref(c);
        if (!rc && !(out = kl_bytes_from_buf(&b)))
            kl_error_set(err, KL_ENOMEM, "out of memory");
        if (b.p)
            OPENSSL_cleanse(b.p, b.n);
        kl_buf_fini(&b);
        if (out || !kl_encryption_newer(e))
            break;
    }
    if (!out && err) {
        int code = err->code;
        kl_error_wrap(err, "unable to transform key \"%s\"", kv->key);
        err->code = code == KL_ENOMEM ? code : KL_ECORRUPT;
    }
    return out;
}

struct kl_bytes *kl_encryption_encode(struct kl_encryption *e, const struct kl_resource *st,
                                      struct kl_str key, const struct kl_object *o,
                                      kl_rev *ret_guard, struct kl_error *err)
{
    struct kl_bytes *plain = kl_cache_encode_stored(st, o), *out = plain;
    if (ret_guard)
        *ret_guard = -1;
    if (!plain)
        kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!plain || !e || !concerns(e, st))
        return plain;
    struct kl_enc_config *c = kl_encryption_config(e);
    const struct kl_enc_rule *rule = kl_enc_rule_of(c, st);
    if (rule && ret_guard)
        *ret_guard = c->record;
    if (rule && rule->providers[0].kind != KL_ENC_IDENTITY) {
        struct kl_buf b;
        kl_buf_init(&b, MAX_VALUE);
        int rc = kl_enc_seal(rule, key, kl_bytes_str(plain), &b, err);
        out = rc ? NULL : kl_bytes_from_buf(&b);
        if (!rc && !out)
            kl_error_set(err, KL_ENOMEM, "out of memory");
        OPENSSL_cleanse(plain->p, plain->n);
        kl_bytes_unref(plain);
        kl_buf_fini(&b);
    }
    kl_enc_config_unref(c);
    return out;
}

bool kl_encryption_same(struct kl_encryption *e, const struct kl_resource *st,
                        const struct kl_kv *stored, const struct kl_object *o,
                        const struct kl_bytes *now)
{
    struct kl_str was = kl_kv_value(stored);
    if (!e || !kl_str_starts(was, KL_STR(KL_CACHE_SEALED)))
        return kl_str_eq(was, kl_bytes_str(now));
    struct kl_bytes *plain = kl_cache_encode_stored(st, o);
    struct kl_enc_config *c = kl_encryption_config(e);
    struct kl_error err;
    struct kl_buf b;
    bool stale = true;
    kl_buf_init(&b, MAX_VALUE);
    bool same = plain &&
                !kl_enc_open(kl_enc_rule_of(c, st), kl_kv_key(stored), was, &b, &stale, &err) &&
                !stale && kl_str_eq(kl_buf_str(&b), kl_bytes_str(plain));
    if (b.p)
        OPENSSL_cleanse(b.p, b.n);
    if (plain)
        OPENSSL_cleanse(plain->p, plain->n);
    kl_buf_fini(&b);
    kl_bytes_unref(plain);
    kl_enc_config_unref(c);
    return same;
}

// ---- health

static struct kl_kms *nth_kms(const struct kl_enc_config *c, size_t n)
{
    for (size_t i = 0; c && i < c->nrules; i++)
        for (size_t k = 0; k < c->rules[i].nproviders; k++)
            if (c->rules[i].providers[k].kms && !n--)
                return c->rules[i].providers[k].kms;
    return NULL;
}

bool kl_encryption_has_kms(struct kl_encryption *e)
{
    struct kl_enc_config *c = e ? kl_encryption_config(e) : NULL;
    bool has = nth_kms(c, 0) != NULL;
    kl_enc_config_unref(c);
    return has;
}

bool kl_encryption_healthy(struct kl_encryption *e, char why[256])
{
    struct kl_enc_config *c = e ? kl_encryption_config(e) : NULL;
    struct kl_kms *k;
    bool ok = true;
    for (size_t i = 0; ok && (k = nth_kms(c, i)); i++) {
        struct kl_error err = {0};
        if (kl_kms_health(k, &err)) {
            snprintf(why, 256, "%.255s", err.msg);
            ok = false;
        }
    }
    kl_enc_config_unref(c);
    return ok;
}

// ---- the file

static uint64_t sum_of(struct kl_str s)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 1099511628211u;
    return h ? h : 1;
}

int kl_encryption_read_file(struct kl_encryption *e, bool *ret_changed, struct kl_error *err)
{
    struct kl_arena a;
    struct kl_str text;
    struct kl_enc_config *c = NULL, *old;
    kl_arena_init(&a, MAX_FILE);
    *ret_changed = false;
    int rc = kl_file_read(&a, e->o.file, &text, err);
    if (!rc && !text.p)
        rc = kl_error_set(err, KL_ENOTFOUND, "%s: no such file", e->o.file);
    uint64_t sum = rc ? 0 : sum_of(text);
    if (!rc && sum != e->file_sum) {
        old = kl_encryption_config(e);
        rc = kl_enc_config_parse(text, old, &c, err);
        kl_enc_config_unref(old);
        if (rc)
            kl_error_wrap(err, "%s", e->o.file);
        e->file_sum = sum; // what is wrong is said once
        if (!rc) {
            kl_encryption_take(e, c);
            *ret_changed = true;
        }
    }
    if (!rc && text.p)
        OPENSSL_cleanse((char *)text.p, text.n);
    kl_arena_fini(&a);
    return rc;
}

// ---- life

int kl_encryption_new(const struct kl_encryption_options *o, struct kl_encryption **ret,
                      struct kl_error *err)
{
    struct kl_encryption *e = calloc(1, sizeof *e);
    bool changed;
    if (!e)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    e->o = *o;
    e->opener.open = open_value;
    e->hooks = kl_cache_hooks;
    e->hooks.arg = &e->opener;
    pthread_mutex_init(&e->mu, NULL);
    pthread_mutex_init(&e->record_mu, NULL);
    int rc = o->file ? kl_encryption_read_file(e, &changed, err)
                     : kl_encryption_apply(e, KL_STR(""), 0, err);
    if (rc) {
        kl_encryption_free(e);
        return rc;
    }
    *ret = e;
    return 0;
}

const struct kl_kv_hooks *kl_encryption_hooks(struct kl_encryption *e)
{
    return &e->hooks;
}

int kl_encryption_open(struct kl_encryption *e, struct kl_store *s, struct kl_str secret,
                       struct kl_error *err)
{
    struct kl_buf b;
    kl_rev rev = 0;
    char *copy = malloc(secret.n + 1);
    if (!copy)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    memcpy(copy, secret.p, secret.n);
    copy[secret.n] = 0;
    e->secret = (struct kl_str){copy, secret.n};
    e->store = s;
    if (e->o.file)
        return 0;
    kl_buf_init(&b, 64 << 10);
    int rc = kl_store_run_get(s, KL_STR(KL_ENCRYPTION_KEY), KL_ENC_PATIENCE_MS, &b, &rev, err);
    if (!rc && rev)
        rc = kl_encryption_apply(e, kl_buf_str(&b), rev, err);
    if (rc == KL_EUNAUTHORIZED)
        kl_error_set(err, rc, "the token does not open the encryption keys in the datastore");
    kl_buf_fini(&b);
    return rc;
}

void kl_encryption_free(struct kl_encryption *e)
{
    if (!e)
        return;
    kl_enc_config_unref(e->config);
    if (e->secret.p)
        OPENSSL_cleanse((char *)e->secret.p, e->secret.n);
    free((char *)e->secret.p);
    kl_bytes_unref(e->root.sealed);
    OPENSSL_cleanse(&e->root, sizeof e->root);
    OPENSSL_cleanse(&e->record, sizeof e->record);
    pthread_mutex_destroy(&e->mu);
    pthread_mutex_destroy(&e->record_mu);
    free(e);
}
