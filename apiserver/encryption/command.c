// SPDX-License-Identifier: Apache-2.0
// kinglet secrets-encrypt: each command is one new record; all else follows from it.
#include "apiserver/encryption/encryption_int.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "store/wait.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <time.h>

enum { MAX_RACES = 16 };

static void add_key(struct kl_enc_record *r)
{
    char stamp[24];
    time_t now = (time_t)(kl_wall_ms() / 1000);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H-%M-%SZ", &tm);
    // Every value is sealed with the first: what the last could open is compacted by now.
    if (r->nkeys == KL_ENC_MAX_KEYS)
        r->nkeys--;
    memmove(r->keys + 1, r->keys, r->nkeys * sizeof r->keys[0]);
    r->nkeys++;
    snprintf(r->keys[0].name, sizeof r->keys[0].name, "key-%s-%04x", stamp,
             (unsigned)(kl_rand_u64() & 0xffff));
    kl_rand_bytes(r->keys[0].secret, sizeof r->keys[0].secret);
}

static int change(struct kl_enc_record *r, enum kl_encryption_command c, struct kl_error *err)
{
    if (c == KL_ENCRYPTION_ENABLE || c == KL_ENCRYPTION_DISABLE) {
        bool on = c == KL_ENCRYPTION_ENABLE;
        if (r->enabled == on)
            return 0; // it is so
        if (on && !r->nkeys)
            add_key(r);
        r->enabled = on;
    } else {
        if (!r->enabled)
            return kl_error_set(err, KL_ECONFLICT,
                                "secrets encryption is disabled: enable it first");
        if (r->finished != r->rotation)
            return kl_error_set(err, KL_ECONFLICT,
                                "objects are still rewritten for the last change: see status");
        add_key(r);
    }
    r->rotation++;
    return 1;
}

// KL_ECAS_LOST is told by *ret_lost.
static int store_record(struct kl_encryption *e, const struct kl_enc_record *r, kl_rev was,
                        bool *ret_lost, struct kl_error *err)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 << 10);
    pthread_mutex_lock(&e->record_mu);
    int rc = kl_enc_record_write(r, e->secret, &e->root, &b, err);
    pthread_mutex_unlock(&e->record_mu);
    struct kl_compare cmp = {.key = KL_STR(KL_ENCRYPTION_KEY),
                             .target = KL_COMPARE_MOD,
                             .result = KL_COMPARE_EQ,
                             .num = was};
    struct kl_op put = {.kind = KL_OP_PUT, .key = cmp.key};
    struct kl_txn txn = {.body = {.compares = &cmp, .ncompares = 1, .then = &put, .nthen = 1}};
    *ret_lost = false;
    if (!rc && !(put.value = kl_bytes_from_buf(&b)))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!rc) {
        rc = kl_store_run_txn(e->store, &txn, KL_ENC_PATIENCE_MS, err);
        // Not known: the next look at the record tells.
        *ret_lost = rc == KL_EMAYBE || (!rc && !txn.body.succeeded);
        if (rc == KL_EMAYBE)
            rc = 0;
        kl_txn_fini(&txn);
    }
    kl_bytes_unref(put.value);
    kl_buf_fini(&b);
    return rc;
}

// The newest record, from the store itself.
static int look(struct kl_encryption *e, struct kl_enc_record *ret, kl_rev *ret_rev,
                struct kl_error *err)
{
    struct kl_buf b;
    kl_rev rev = 0;
    kl_buf_init(&b, 64 << 10);
    int rc =
        kl_store_run_get(e->store, KL_STR(KL_ENCRYPTION_KEY), KL_ENC_PATIENCE_MS, &b, &rev, err);
    if (!rc && rev)
        rc = kl_encryption_apply(e, kl_buf_str(&b), rev, err);
    kl_buf_fini(&b);
    if (rc)
        return rc;
    pthread_mutex_lock(&e->record_mu);
    *ret = e->record;
    *ret_rev = e->record_rev;
    pthread_mutex_unlock(&e->record_mu);
    return 0;
}

static const char *stage_of(const struct kl_enc_record *r)
{
    return r->finished != r->rotation ? "reencrypt_active"
           : r->rotation > 1          ? "reencrypt_finished"
                                      : "start";
}

static void put_state(struct kl_encryption *e, const struct kl_enc_record *r, struct kl_buf *out)
{
    bool busy = r->finished != r->rotation;
    kl_buf_printf(out,
                  "{\"enable\":%s,\"stage\":\"%s\",\"rotation\":%lld,\"rewritten\":%lld,"
                  "\"objects\":%lld,\"activeKey\":\"%s\",\"keys\":\"",
                  r->enabled ? "true" : "false", stage_of(r), (long long)r->rotation,
                  busy ? (long long)atomic_load(&e->rewritten) : 0LL,
                  busy ? (long long)atomic_load(&e->to_rewrite) : 0LL,
                  r->nkeys && r->enabled ? r->keys[0].name : "");
    for (size_t i = 0; i < r->nkeys; i++)
        kl_buf_printf(out, "%s%s", i ? "," : "", r->keys[i].name);
    kl_buf_puts(out, KL_STR("\"}\n"));
}

int kl_encryption_command(struct kl_encryption *e, enum kl_encryption_command c, struct kl_buf *out,
                          struct kl_error *err)
{
    struct kl_enc_record r;
    kl_rev rev;
    bool lost = true;
    int rc = 0;
    if (e->o.file)
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "this server is told by --encryption-provider-config %s", e->o.file);
    for (int tries = 0; !rc && lost && tries < MAX_RACES; tries++) {
        rc = look(e, &r, &rev, err);
        lost = false;
        int todo = rc || c == KL_ENCRYPTION_STATUS ? 0 : change(&r, c, err);
        if (todo < 0)
            rc = todo;
        if (todo > 0)
            rc = store_record(e, &r, rev, &lost, err);
    }
    if (!rc && lost)
        rc = kl_error_set(err, KL_ECONFLICT, "other servers change the keys at the same time");
    if (!rc)
        put_state(e, &r, out);
    OPENSSL_cleanse(&r, sizeof r);
    return rc;
}

int kl_enc_finish(struct kl_encryption *e, int64_t rotation, kl_rev rev, struct kl_bytes **ret,
                  struct kl_error *err)
{
    struct kl_buf b;
    struct kl_enc_record r;
    kl_buf_init(&b, 64 << 10);
    pthread_mutex_lock(&e->record_mu);
    r = e->record;
    int rc = e->record_rev != rev || r.rotation != rotation ? KL_ECONFLICT : 0;
    r.finished = rotation;
    if (!rc)
        rc = kl_enc_record_write(&r, e->secret, &e->root, &b, err);
    pthread_mutex_unlock(&e->record_mu);
    if (!rc && !(*ret = kl_bytes_from_buf(&b)))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    OPENSSL_cleanse(&r, sizeof r);
    kl_buf_fini(&b);
    return rc;
}
