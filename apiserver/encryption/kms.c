// SPDX-License-Identifier: Apache-2.0
// A thread with a loop speaks gRPC to the plug-in: asks for its Status every minute (every ten
// seconds while something is wrong), and has a new seed sealed when its key is another. Everybody
// else waits for answers on a condition.
#include "apiserver/encryption/kms.h"
#include "apiserver/encryption/box.h"
#include "apiserver/encryption/kms_message.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/map.h"
#include "base/rand.h"
#include "net/grpc.h"
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PROBE_MS = 60 * 1000,
    PROBE_BAD_MS = 10 * 1000,
    GOOD_FOR_MS = 3 * 60 * 1000, // a seed may seal for that long after the last good Status
    MAX_SEEDS = 1024,
    REFUSE_MS = 10 * 1000, // what could not be opened is not asked for again that long
    MAX_FAILED = 64,
};

// ---- the channel

struct seed {
    unsigned char key[32];
    size_t n;
};

// A seed that the plug-in would not open.
struct failed {
    unsigned char id[KL_KMS_ID_BYTES];
    int64_t until_ms;
    int code;
    char why[200];
};

struct kl_kms {
    atomic_int refs;
    char *name, *endpoint;
    uint32_t timeout_ms;
    struct kl_loop *loop;
    // the loop's
    struct kl_grpc *grpc;
    uv_timer_t timer;
    unsigned char next_seed[32];
    bool probing;
    struct kl_task begin, end, probe;
    // everybody's
    pthread_mutex_t mu;
    pthread_cond_t changed; // an answer, the end of a probe
    uint64_t probes;
    struct kl_map seeds; // by the hash of what they were sealed as
    bool has_state;
    unsigned char seed[32];
    struct kl_buf head; // EncryptedObject without its data, encoded
    char key_id[KL_KMS_KEY_ID_MAX + 1];
    int64_t good_until_ms;
    struct kl_error err;              // of the last probe
    struct failed failed[MAX_FAILED]; // a ring
    size_t next_failed;
    struct failed silent; // no id: the last call to open a seed brought no answer at all
};

bool kl_kms_is(const struct kl_kms *k, struct kl_str name, struct kl_str endpoint)
{
    return kl_str_eqz(name, k->name) && kl_str_eqz(endpoint, k->endpoint);
}

// With mu held.
static void remember(struct kl_kms *k, const unsigned char id[KL_KMS_ID_BYTES], struct kl_str key)
{
    struct kl_str at = {(const char *)id, KL_KMS_ID_BYTES};
    if (k->seeds.n >= MAX_SEEDS) { // more servers have started than are worth keeping
        KL_MAP_EACH (&k->seeds, e) {
            OPENSSL_cleanse(e->value, sizeof(struct seed));
            free(e->value);
        }
        kl_map_fini(&k->seeds);
        kl_map_init(&k->seeds);
    }
    struct seed *s = calloc(1, sizeof *s);
    void *old = NULL;
    if (!s || key.n > sizeof s->key) {
        free(s);
        return;
    }
    memcpy(s->key, key.p, key.n);
    s->n = key.n;
    if (kl_map_set(&k->seeds, at, s, &old)) {
        free(s);
        return;
    }
    if (old)
        OPENSSL_cleanse(old, sizeof *s);
    free(old);
}

// Who asks is a server's loop, and waits: so a plug-in that is known to be away, or that just would
// not open this seed, is not asked. With mu held.
static int refuse(const struct kl_kms *k, const unsigned char id[KL_KMS_ID_BYTES],
                  struct kl_error *err)
{
    int64_t now = kl_mono_ms();
    if (k->err.code)
        return kl_error_set(err, k->err.code, "failed to decrypt DEK, error: %s", k->err.msg);
    if (now < k->silent.until_ms)
        return kl_error_set(err, k->silent.code, "%s", k->silent.why);
    for (size_t i = 0; i < MAX_FAILED; i++)
        if (now < k->failed[i].until_ms && !memcmp(k->failed[i].id, id, KL_KMS_ID_BYTES))
            return kl_error_set(err, k->failed[i].code, "%s", k->failed[i].why);
    return 0;
}

// With mu held.
static void remember_failure(struct kl_kms *k, const unsigned char id[KL_KMS_ID_BYTES], bool silent,
                             const struct kl_error *err)
{
    struct failed *f = silent ? &k->silent : &k->failed[k->next_failed++ % MAX_FAILED];
    memcpy(f->id, id, sizeof f->id);
    f->until_ms = kl_mono_ms() + REFUSE_MS;
    f->code = err->code;
    snprintf(f->why, sizeof f->why, "%.199s", err->msg);
}

// ---- the probe; on the loop

static void arm(struct kl_kms *k, bool good);

static void end_probe(struct kl_kms *k, const struct kl_error *err)
{
    k->probing = false;
    pthread_mutex_lock(&k->mu);
    bool was = k->err.code != 0;
    k->err.code = 0;
    if (err)
        k->err = *err;
    k->probes++;
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->mu);
    if (err && !was)
        kl_log(KL_LOG_WARN, "encryption", "kms provider=%s: %s", k->name, err->msg);
    else if (!err && was)
        kl_log(KL_LOG_INFO, "encryption", "kms provider=%s is well again", k->name);
    arm(k, !err);
}

static void fail_probe(struct kl_kms *k, const char *why)
{
    struct kl_error err = {0};
    kl_error_set(&err, KL_EUNAVAILABLE, "kms provider %s: %s", k->name, why);
    end_probe(k, &err);
}

// With the plug-in's answer the seed may seal.
static void take_seed(struct kl_kms *k, const struct kl_kms_object *o,
                      const unsigned char id[KL_KMS_ID_BYTES])
{
    pthread_mutex_lock(&k->mu);
    kl_buf_clear(&k->head);
    kl_kms_object_write(&k->head, o);
    memcpy(k->seed, k->next_seed, sizeof k->seed);
    memcpy(k->key_id, o->key_id.p, o->key_id.n);
    k->key_id[o->key_id.n] = 0;
    remember(k, id, (struct kl_str){(char *)k->seed, sizeof k->seed});
    k->good_until_ms = kl_mono_ms() + GOOD_FOR_MS;
    k->has_state = true;
    pthread_mutex_unlock(&k->mu);
}

static void on_encrypted(void *arg, enum kl_grpc_code code, struct kl_str reply,
                         const struct kl_error *err)
{
    struct kl_kms *k = arg;
    struct kl_arena a;
    struct kl_error bad = {0};
    struct kl_kms_object o;
    unsigned char id[KL_KMS_ID_BYTES];
    kl_arena_init(&a, KL_KMS_REPLY_MAX);
    const char *why = code ? err->msg : NULL;
    if (!why && kl_kms_read_encrypted(&a, reply, &o, id, &bad))
        why = bad.msg;
    if (!why)
        take_seed(k, &o, id);
    OPENSSL_cleanse(k->next_seed, sizeof k->next_seed);
    if (why)
        fail_probe(k, why);
    else
        end_probe(k, NULL);
    kl_arena_fini(&a);
}

// Takes the request; NULL: an empty one.
static void call(struct kl_kms *k, const char *method, struct kl_bytes *request,
                 kl_grpc_done_cb done)
{
    struct kl_error err = {0};
    struct kl_grpc_call *c;
    int rc = kl_grpc_unary(k->grpc, method, request, k->timeout_ms, done, k, &c, &err);
    kl_bytes_unref(request);
    if (rc)
        fail_probe(k, err.msg);
}

static void on_status(void *arg, enum kl_grpc_code code, struct kl_str reply,
                      const struct kl_error *err)
{
    struct kl_kms *k = arg;
    struct kl_arena a;
    struct kl_error bad = {0};
    struct kl_str key_id;
    kl_arena_init(&a, KL_KMS_REPLY_MAX);
    const char *why = code ? err->msg : NULL;
    if (!why && kl_kms_read_status(&a, reply, &key_id, &bad))
        why = bad.msg;
    if (why) {
        fail_probe(k, why);
        kl_arena_fini(&a);
        return;
    }
    pthread_mutex_lock(&k->mu);
    bool same = k->has_state && kl_str_eqz(key_id, k->key_id);
    if (same)
        k->good_until_ms = kl_mono_ms() + GOOD_FOR_MS;
    pthread_mutex_unlock(&k->mu);
    kl_arena_fini(&a);
    if (same) {
        end_probe(k, NULL);
        return;
    }
    kl_rand_bytes(k->next_seed, sizeof k->next_seed);
    struct kl_bytes *request =
        kl_kms_write_encrypt((struct kl_str){(char *)k->next_seed, sizeof k->next_seed});
    if (request)
        call(k, "/v2.KeyManagementService/Encrypt", request, on_encrypted);
    else
        fail_probe(k, "out of memory");
}

static void probe(struct kl_kms *k)
{
    if (k->probing)
        return;
    k->probing = true;
    kl_grpc_reset_backoff(k->grpc);
    call(k, "/v2.KeyManagementService/Status", NULL, on_status);
}

static void on_timer(uv_timer_t *t)
{
    probe(t->data);
}

static void arm(struct kl_kms *k, bool good)
{
    uv_timer_start(&k->timer, on_timer, good ? PROBE_MS : PROBE_BAD_MS, 0);
}

static void run_probe(struct kl_task *t)
{
    probe(KL_CONTAINER_OF(t, struct kl_kms, probe));
}

// ---- a seed to be opened

struct ask {
    struct kl_task task;
    struct kl_kms *k;
    struct kl_bytes *request;
    bool done, silent;
    int code;
    struct kl_error err;
    unsigned char key[KL_KMS_SEED_BYTES];
};

static void answer(struct ask *q, int code, const struct kl_error *err)
{
    pthread_mutex_lock(&q->k->mu);
    q->code = code;
    if (err)
        q->err = *err;
    q->done = true;
    pthread_cond_broadcast(&q->k->changed);
    pthread_mutex_unlock(&q->k->mu);
}

static void on_decrypted(void *arg, enum kl_grpc_code code, struct kl_str reply,
                         const struct kl_error *err)
{
    struct ask *q = arg;
    struct kl_arena a;
    struct kl_error bad = {0};
    if (code) {
        q->silent = code == KL_GRPC_DEADLINE_EXCEEDED || code == KL_GRPC_UNAVAILABLE;
        answer(q, KL_EUNAVAILABLE, err);
        return;
    }
    kl_arena_init(&a, KL_KMS_REPLY_MAX);
    int rc = kl_kms_read_decrypted(&a, reply, q->key, &bad);
    kl_arena_fini(&a);
    answer(q, rc, &bad);
}

static void run_ask(struct kl_task *t)
{
    struct ask *q = KL_CONTAINER_OF(t, struct ask, task);
    struct kl_error err = {0};
    struct kl_grpc_call *c;
    int rc = kl_grpc_unary(q->k->grpc, "/v2.KeyManagementService/Decrypt", q->request,
                           q->k->timeout_ms, on_decrypted, q, &c, &err);
    if (rc)
        answer(q, rc, &err);
}

static int decrypt_source(struct kl_kms *k, const struct kl_kms_object *o,
                          const unsigned char id[KL_KMS_ID_BYTES], struct seed *ret,
                          struct kl_error *err)
{
    struct ask q = {.task.run = run_ask, .k = k, .request = kl_kms_write_decrypt(o)};
    if (!q.request)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    pthread_mutex_lock(&k->mu);
    int rc = refuse(k, id, err);
    if (!rc) {
        struct kl_error bad = {0};
        kl_loop_post(k->loop, &q.task);
        while (!q.done) // the call has a time-out
            pthread_cond_wait(&k->changed, &k->mu);
        if ((rc = q.code)) {
            kl_error_set(&bad, rc, "failed to decrypt DEK, error: %s", q.err.msg);
            remember_failure(k, id, q.silent, &bad);
            kl_error_set(err, rc, "%s", bad.msg);
        }
    }
    pthread_mutex_unlock(&k->mu);
    kl_bytes_unref(q.request);
    if (rc)
        return rc;
    memcpy(ret->key, q.key, sizeof q.key);
    ret->n = sizeof q.key;
    OPENSSL_cleanse(q.key, sizeof q.key);
    return 0;
}

int kl_kms_open(struct kl_kms *k, struct kl_str context, struct kl_str sealed, struct kl_buf *out,
                bool *ret_stale, struct kl_error *err)
{
    struct kl_arena a;
    struct kl_kms_object o;
    unsigned char id[KL_KMS_ID_BYTES];
    struct seed seed = {.n = 0};
    kl_arena_init(&a, 1 << 20);
    int rc = kl_kms_object_read(&a, sealed, &o, id, err);
    if (!rc) {
        pthread_mutex_lock(&k->mu);
        const struct seed *have =
            kl_map_get(&k->seeds, (struct kl_str){(const char *)id, sizeof id});
        if (have)
            seed = *have;
        *ret_stale = k->has_state &&
                     (!kl_str_eqz(o.key_id, k->key_id) || o.source_type != KL_KMS_SOURCE_SEED);
        pthread_mutex_unlock(&k->mu);
        if (!have && !(rc = decrypt_source(k, &o, id, &seed, err))) {
            pthread_mutex_lock(&k->mu);
            remember(k, id, (struct kl_str){(char *)seed.key, seed.n});
            pthread_mutex_unlock(&k->mu);
        }
    }
    if (!rc)
        rc = kl_box_open(o.source_type == KL_KMS_SOURCE_SEED ? KL_BOX_SEED : KL_BOX_AESGCM,
                         (struct kl_str){(char *)seed.key, seed.n}, context, o.data, out, err);
    OPENSSL_cleanse(&seed, sizeof seed);
    kl_arena_fini(&a);
    return rc;
}

// True once there is a seed that may seal. With mu held.
static bool can_seal(const struct kl_kms *k)
{
    return k->has_state && kl_mono_ms() < k->good_until_ms;
}

static void wait_for_probe(struct kl_kms *k)
{
    struct timespec until = kl_cond_until(2 * (int64_t)k->timeout_ms + 1000);
    uint64_t was = k->probes;
    while (k->probes == was && !can_seal(k))
        if (pthread_cond_timedwait(&k->changed, &k->mu, &until))
            break;
}

int kl_kms_seal(struct kl_kms *k, struct kl_str context, struct kl_str plain, struct kl_buf *out,
                struct kl_error *err)
{
    unsigned char seed[32];
    struct kl_buf data;
    int rc = 0;
    pthread_mutex_lock(&k->mu);
    if (!can_seal(k) && !k->err.code)
        wait_for_probe(k); // the first one is still on its way
    if (!can_seal(k)) {
        rc = kl_error_set(err, KL_EUNAVAILABLE, "%s",
                          k->err.code ? k->err.msg : "got nil state for kms provider");
    } else {
        memcpy(seed, k->seed, sizeof seed);
        kl_buf_puts(out, kl_buf_str(&k->head));
    }
    pthread_mutex_unlock(&k->mu);
    if (rc)
        return rc;
    kl_buf_init(&data, (size_t)64 << 20);
    rc = kl_box_seal(KL_BOX_SEED, (struct kl_str){(char *)seed, sizeof seed}, context, plain, &data,
                     err);
    OPENSSL_cleanse(seed, sizeof seed);
    if (!rc) { // fields of a message may stand in any order: the data behind the rest
        struct kl_kms_object o = {.data = kl_buf_str(&data)};
        kl_kms_object_write(out, &o);
    }
    kl_buf_fini(&data);
    return rc;
}

int kl_kms_health(struct kl_kms *k, struct kl_error *err)
{
    pthread_mutex_lock(&k->mu);
    int rc = k->err.code;
    if (rc && err)
        *err = k->err;
    pthread_mutex_unlock(&k->mu);
    return rc;
}

// ---- life

static void run_begin(struct kl_task *t)
{
    struct kl_kms *k = KL_CONTAINER_OF(t, struct kl_kms, begin);
    struct kl_error err = {0};
    struct kl_grpc_opts o = {
        .loop = k->loop, .target = k->endpoint, .max_message_bytes = KL_KMS_REPLY_MAX};
    uv_timer_init(kl_loop_uv(k->loop), &k->timer);
    k->timer.data = k;
    if (kl_grpc_new(&o, &k->grpc, &err)) {
        kl_log(KL_LOG_ERROR, "encryption", "kms provider=%s: %s", k->name, err.msg);
        abort(); // the endpoint was looked at before: there is no memory
    }
    probe(k);
}

static void run_end(struct kl_task *t)
{
    struct kl_kms *k = KL_CONTAINER_OF(t, struct kl_kms, end);
    kl_grpc_close(k->grpc);
    uv_close((uv_handle_t *)&k->timer, NULL);
}

int kl_kms_new(struct kl_str name, struct kl_str endpoint, int64_t timeout_ms, struct kl_kms **ret,
               struct kl_error *err)
{
    struct kl_kms *k = calloc(1, sizeof *k);
    if (!k || !(k->name = strndup(name.p, name.n)) ||
        !(k->endpoint = strndup(endpoint.p, endpoint.n))) {
        free(k ? k->name : NULL);
        free(k);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    atomic_init(&k->refs, 1);
    k->timeout_ms = (uint32_t)timeout_ms;
    pthread_mutex_init(&k->mu, NULL);
    kl_cond_init(&k->changed);
    kl_map_init(&k->seeds);
    kl_buf_init(&k->head, 64 << 10);
    k->begin.run = run_begin;
    k->end.run = run_end;
    k->probe.run = run_probe;
    int rc = kl_loop_new("kms", &k->loop, err);
    if (!rc && (rc = kl_loop_start(k->loop, err))) {
        kl_loop_unref(k->loop);
        k->loop = NULL;
    }
    if (rc) {
        kl_kms_unref(k);
        return rc;
    }
    kl_loop_post(k->loop, &k->begin);
    *ret = k;
    return 0;
}

struct kl_kms *kl_kms_ref(struct kl_kms *k)
{
    if (k)
        atomic_fetch_add(&k->refs, 1);
    return k;
}

void kl_kms_unref(struct kl_kms *k)
{
    if (!k || atomic_fetch_sub(&k->refs, 1) > 1)
        return;
    if (k->loop) {
        kl_loop_post(k->loop, &k->end);
        kl_loop_stop(k->loop);
        kl_loop_join(k->loop);
        kl_loop_unref(k->loop);
    }
    KL_MAP_EACH (&k->seeds, e) {
        OPENSSL_cleanse(e->value, sizeof(struct seed));
        free(e->value);
    }
    kl_map_fini(&k->seeds);
    kl_buf_fini(&k->head);
    OPENSSL_cleanse(k->seed, sizeof k->seed);
    pthread_mutex_destroy(&k->mu);
    pthread_cond_destroy(&k->changed);
    free(k->name);
    free(k->endpoint);
    free(k);
}
