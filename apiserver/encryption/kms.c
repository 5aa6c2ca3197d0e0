// SPDX-License-Identifier: Apache-2.0
// A thread with a loop speaks gRPC to the plug-in: asks for its Status every minute (every ten
// seconds while something is wrong), and has a new seed sealed when its key is another. Everybody
// else waits for answers on a condition.
#include "apiserver/encryption/kms.h"
#include "apiserver/encryption/box.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/map.h"
#include "base/rand.h"
#include "net/grpc.h"
#include "net/proto.h"
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PROBE_MS = 60 * 1000,
    PROBE_BAD_MS = 10 * 1000,
    GOOD_FOR_MS = 3 * 60 * 1000, // a seed may seal for that long after the last good Status
    MAX_SEEDS = 1024,
    MAX_KEY_ID = 1024,
    MAX_SOURCE = 1024,
    MAX_ANNOTATIONS = 32 * 1024,
    MAX_REPLY = 1 << 20,
    REFUSE_MS = 10 * 1000, // what could not be opened is not asked for again that long
    MAX_FAILED = 64,
};

// ---- messages (kms/apis/v2, kmsv2/v2)

#define FIELD(n, kind, type, member)                                                               \
    {                                                                                              \
        n, kind, 0, offsetof(struct type, member), 0, 0, NULL                                      \
    }
#define FIELD_MAP(n, type, member)                                                                 \
    {                                                                                              \
        n, KL_PROTO_MAP, 0, offsetof(struct type, member), offsetof(struct type, n_##member),      \
            sizeof(struct kl_proto_kv), NULL                                                       \
    }
#define MESSAGE(type, fields, repeated)                                                            \
    static const struct kl_proto_desc type##_desc = {                                              \
        #type, fields, sizeof fields / sizeof fields[0], sizeof(struct type), repeated, 0}

struct status {
    struct kl_str version, healthz, key_id;
};
static const struct kl_proto_field status_fields[] = {FIELD(1, KL_PROTO_STRING, status, version),
                                                      FIELD(2, KL_PROTO_STRING, status, healthz),
                                                      FIELD(3, KL_PROTO_STRING, status, key_id)};
MESSAGE(status, status_fields, 0);

struct encrypt {
    struct kl_str plaintext, uid;
};
static const struct kl_proto_field encrypt_fields[] = {
    FIELD(1, KL_PROTO_STRING, encrypt, plaintext), FIELD(2, KL_PROTO_STRING, encrypt, uid)};
MESSAGE(encrypt, encrypt_fields, 0);

struct encrypted {
    struct kl_str ciphertext, key_id;
    struct kl_proto_kv *annotations;
    size_t n_annotations;
};
static const struct kl_proto_field encrypted_fields[] = {
    FIELD(1, KL_PROTO_STRING, encrypted, ciphertext), FIELD(2, KL_PROTO_STRING, encrypted, key_id),
    FIELD_MAP(3, encrypted, annotations)};
MESSAGE(encrypted, encrypted_fields, 1);

struct decrypt {
    struct kl_str ciphertext, uid, key_id;
    struct kl_proto_kv *annotations;
    size_t n_annotations;
};
static const struct kl_proto_field decrypt_fields[] = {
    FIELD(1, KL_PROTO_STRING, decrypt, ciphertext), FIELD(2, KL_PROTO_STRING, decrypt, uid),
    FIELD(3, KL_PROTO_STRING, decrypt, key_id), FIELD_MAP(4, decrypt, annotations)};
MESSAGE(decrypt, decrypt_fields, 1);

struct decrypted {
    struct kl_str plaintext;
};
static const struct kl_proto_field decrypted_fields[] = {
    FIELD(1, KL_PROTO_STRING, decrypted, plaintext)};
MESSAGE(decrypted, decrypted_fields, 0);

enum { SOURCE_KEY = 0, SOURCE_SEED = 1 };
struct object {
    struct kl_str data, key_id, source;
    struct kl_proto_kv *annotations;
    size_t n_annotations;
    int32_t source_type;
};
static const struct kl_proto_field object_fields[] = {
    FIELD(1, KL_PROTO_STRING, object, data), FIELD(2, KL_PROTO_STRING, object, key_id),
    FIELD(3, KL_PROTO_STRING, object, source), FIELD_MAP(4, object, annotations),
    FIELD(5, KL_PROTO_INT32, object, source_type)};
MESSAGE(object, object_fields, 1);

// ---- the channel

struct seed {
    unsigned char key[32];
    size_t n;
};

// A seed that the plug-in would not open.
struct failed {
    unsigned char id[SHA256_DIGEST_LENGTH];
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
    char key_id[MAX_KEY_ID + 1];
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

static struct kl_bytes *encode(const struct kl_proto_desc *d, const void *m)
{
    struct kl_buf b;
    kl_buf_init(&b, MAX_REPLY);
    kl_proto_encode(&b, d, m);
    struct kl_bytes *out = kl_bytes_from_buf(&b);
    if (b.p)
        OPENSSL_cleanse(b.p, b.n);
    kl_buf_fini(&b);
    return out;
}

static void make_uid(char uid[37])
{
    kl_uuid(uid);
}

static bool source_key(const struct object *o, unsigned char ret[SHA256_DIGEST_LENGTH])
{
    struct kl_buf b;
    struct object bare = *o;
    bare.data = KL_STR("");
    kl_buf_init(&b, 1 << 20);
    kl_proto_encode(&b, &object_desc, &bare);
    bool ok = !b.err;
    SHA256((const unsigned char *)(b.p ? b.p : ""), b.n, ret);
    kl_buf_fini(&b);
    return ok;
}

// With mu held.
static void remember(struct kl_kms *k, const unsigned char id[SHA256_DIGEST_LENGTH],
                     struct kl_str key)
{
    struct kl_str at = {(const char *)id, SHA256_DIGEST_LENGTH};
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
static int refuse(const struct kl_kms *k, const unsigned char id[SHA256_DIGEST_LENGTH],
                  struct kl_error *err)
{
    int64_t now = kl_mono_ms();
    if (k->err.code)
        return kl_error_set(err, k->err.code, "failed to decrypt DEK, error: %s", k->err.msg);
    if (now < k->silent.until_ms)
        return kl_error_set(err, k->silent.code, "%s", k->silent.why);
    for (size_t i = 0; i < MAX_FAILED; i++)
        if (now < k->failed[i].until_ms && !memcmp(k->failed[i].id, id, SHA256_DIGEST_LENGTH))
            return kl_error_set(err, k->failed[i].code, "%s", k->failed[i].why);
    return 0;
}

// With mu held.
static void remember_failure(struct kl_kms *k, const unsigned char id[SHA256_DIGEST_LENGTH],
                             bool silent, const struct kl_error *err)
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

static bool annotations_fit(const struct kl_proto_kv *kv, size_t n)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += kv[i].key.n + kv[i].value.n;
    return total <= MAX_ANNOTATIONS;
}

static void on_encrypted(void *arg, enum kl_grpc_code code, struct kl_str reply,
                         const struct kl_error *err)
{
    struct kl_kms *k = arg;
    struct kl_arena a;
    struct kl_error bad = {0};
    void *m;
    unsigned char id[SHA256_DIGEST_LENGTH];
    kl_arena_init(&a, MAX_REPLY);
    const char *why = code ? err->msg : NULL;
    if (!why && kl_proto_decode(&a, &encrypted_desc, reply, &m, &bad))
        why = bad.msg;
    if (!why) {
        const struct encrypted *e = m;
        struct object o = {.key_id = e->key_id,
                           .source = e->ciphertext,
                           .annotations = e->annotations,
                           .n_annotations = e->n_annotations,
                           .source_type = SOURCE_SEED};
        if (!o.source.n || o.source.n > MAX_SOURCE)
            why = "failed to validate encrypted DEK source: it is empty or too long";
        else if (!o.key_id.n || o.key_id.n > MAX_KEY_ID)
            why = "failed to validate key id: it is empty or too long";
        else if (!annotations_fit(o.annotations, o.n_annotations))
            why = "failed to validate annotations: they are too long";
        else if (!source_key(&o, id))
            why = "out of memory";
        if (!why) {
            pthread_mutex_lock(&k->mu);
            kl_buf_clear(&k->head);
            kl_proto_encode(&k->head, &object_desc, &o);
            memcpy(k->seed, k->next_seed, sizeof k->seed);
            memcpy(k->key_id, o.key_id.p, o.key_id.n);
            k->key_id[o.key_id.n] = 0;
            remember(k, id, (struct kl_str){(char *)k->seed, sizeof k->seed});
            k->good_until_ms = kl_mono_ms() + GOOD_FOR_MS;
            k->has_state = true;
            pthread_mutex_unlock(&k->mu);
        }
    }
    OPENSSL_cleanse(k->next_seed, sizeof k->next_seed);
    if (why)
        fail_probe(k, why);
    else
        end_probe(k, NULL);
    kl_arena_fini(&a);
}

static void call(struct kl_kms *k, const char *method, const struct kl_proto_desc *d, const void *m,
                 kl_grpc_done_cb done)
{
    struct kl_error err = {0};
    struct kl_grpc_call *c;
    struct kl_bytes *b = d ? encode(d, m) : NULL;
    int rc = d && !b ? kl_error_set(&err, KL_ENOMEM, "out of memory")
                     : kl_grpc_unary(k->grpc, method, b, k->timeout_ms, done, k, &c, &err);
    kl_bytes_unref(b);
    if (rc)
        fail_probe(k, err.msg);
}

static void on_status(void *arg, enum kl_grpc_code code, struct kl_str reply,
                      const struct kl_error *err)
{
    struct kl_kms *k = arg;
    struct kl_arena a;
    struct kl_error bad = {0};
    void *m;
    char uid[37];
    kl_arena_init(&a, MAX_REPLY);
    const char *why = code ? err->msg : NULL;
    if (!why && kl_proto_decode(&a, &status_desc, reply, &m, &bad))
        why = bad.msg;
    const struct status *s = why ? NULL : m;
    if (s && !kl_str_eqz(s->healthz, "ok"))
        why = kl_arena_printf(&a, "got unexpected healthz status: %.*s", KL_PRI(s->healthz)).p;
    else if (s && !kl_str_eqz(s->version, "v2") && !kl_str_eqz(s->version, "v2beta1"))
        why = kl_arena_printf(&a, "expected KMSv2 API version v2, got %.*s", KL_PRI(s->version)).p;
    else if (s && (!s->key_id.n || s->key_id.n > MAX_KEY_ID))
        why = "got an empty key_id, or one that is too long";
    if (why) {
        fail_probe(k, why);
        kl_arena_fini(&a);
        return;
    }
    pthread_mutex_lock(&k->mu);
    bool same = k->has_state && kl_str_eqz(s->key_id, k->key_id);
    if (same)
        k->good_until_ms = kl_mono_ms() + GOOD_FOR_MS;
    pthread_mutex_unlock(&k->mu);
    kl_arena_fini(&a);
    if (same) {
        end_probe(k, NULL);
        return;
    }
    kl_rand_bytes(k->next_seed, sizeof k->next_seed);
    make_uid(uid);
    struct encrypt e = {.plaintext = {(char *)k->next_seed, sizeof k->next_seed},
                        .uid = kl_str(uid)};
    call(k, "/v2.KeyManagementService/Encrypt", &encrypt_desc, &e, on_encrypted);
}

static void probe(struct kl_kms *k)
{
    if (k->probing)
        return;
    k->probing = true;
    kl_grpc_reset_backoff(k->grpc);
    call(k, "/v2.KeyManagementService/Status", NULL, NULL, on_status);
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
    unsigned char key[32];
    size_t n;
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
    void *m;
    if (code) {
        q->silent = code == KL_GRPC_DEADLINE_EXCEEDED || code == KL_GRPC_UNAVAILABLE;
        answer(q, KL_EUNAVAILABLE, err);
        return;
    }
    kl_arena_init(&a, MAX_REPLY);
    int rc = kl_proto_decode(&a, &decrypted_desc, reply, &m, &bad);
    if (!rc) {
        struct kl_str p = ((struct decrypted *)m)->plaintext;
        if (p.n != 32)
            rc = kl_error_set(&bad, KL_ECORRUPT, "invalid seed length %zu used for key generation",
                              p.n);
        else
            memcpy(q->key, p.p, q->n = p.n);
    }
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

static int decrypt_source(struct kl_kms *k, const struct object *o,
                          const unsigned char id[SHA256_DIGEST_LENGTH], struct seed *ret,
                          struct kl_error *err)
{
    char uid[37];
    make_uid(uid);
    struct decrypt d = {.ciphertext = o->source,
                        .uid = kl_str(uid),
                        .key_id = o->key_id,
                        .annotations = o->annotations,
                        .n_annotations = o->n_annotations};
    struct ask q = {.task.run = run_ask, .k = k, .request = encode(&decrypt_desc, &d)};
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
    memcpy(ret->key, q.key, q.n);
    ret->n = q.n;
    OPENSSL_cleanse(q.key, sizeof q.key);
    return 0;
}

int kl_kms_open(struct kl_kms *k, struct kl_str context, struct kl_str sealed, struct kl_buf *out,
                bool *ret_stale, struct kl_error *err)
{
    struct kl_arena a;
    void *m;
    unsigned char id[SHA256_DIGEST_LENGTH];
    struct seed seed = {.n = 0};
    kl_arena_init(&a, 1 << 20);
    int rc = kl_proto_decode(&a, &object_desc, sealed, &m, err);
    const struct object *o = m;
    if (!rc && (!o->data.n || !o->source.n || o->source.n > MAX_SOURCE || !o->key_id.n ||
                o->key_id.n > MAX_KEY_ID || o->source_type < SOURCE_KEY ||
                o->source_type > SOURCE_SEED || !source_key(o, id)))
        rc = kl_error_set(err, KL_ECORRUPT, "the encrypted object is damaged");
    if (!rc) {
        pthread_mutex_lock(&k->mu);
        const struct seed *have =
            kl_map_get(&k->seeds, (struct kl_str){(const char *)id, sizeof id});
        if (have)
            seed = *have;
        *ret_stale =
            k->has_state && (!kl_str_eqz(o->key_id, k->key_id) || o->source_type != SOURCE_SEED);
        pthread_mutex_unlock(&k->mu);
        if (!have && !(rc = decrypt_source(k, o, id, &seed, err))) {
            pthread_mutex_lock(&k->mu);
            remember(k, id, (struct kl_str){(char *)seed.key, seed.n});
            pthread_mutex_unlock(&k->mu);
        }
    }
    if (!rc)
        rc = kl_box_open(o->source_type == SOURCE_SEED ? KL_BOX_SEED : KL_BOX_AESGCM,
                         (struct kl_str){(char *)seed.key, seed.n}, context, o->data, out, err);
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
        struct object o = {.data = kl_buf_str(&data)};
        kl_proto_encode(out, &object_desc, &o);
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
        .loop = k->loop, .target = k->endpoint, .max_message_bytes = MAX_REPLY};
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
