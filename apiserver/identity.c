// SPDX-License-Identifier: Apache-2.0
// A server that opens a datastore again does not derive a key again: bootstrap.sum tells that what
// is sealed there was opened with this secret before, and is what stands on the disk.
#include "apiserver/identity.h"
#include "apiserver/k3s.h"
#include "apiserver/pki_int.h"
#include "apiserver/seal.h"
#include "base/log.h"
#include "store/wait.h"
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <assert.h>
#include <stdio.h>

enum {
    MAX_ARENA = 4 << 20,
    WAIT_MS = 60 * 1000, // for a datastore that has no leader yet
};

static const char *const files[] = {
    "server/tls/server-ca.crt",         "server/tls/server-ca.key",
    "server/tls/client-ca.crt",         "server/tls/client-ca.key",
    "server/tls/peer-ca.crt",           "server/tls/peer-ca.key",
    "server/tls/service.key",           "server/tls/cluster-id",
    "server/tls/request-header-ca.crt", "server/tls/request-header-ca.key",
};

// ---- packed

int kl_identity_pack(const char *data_dir, struct kl_buf *out, struct kl_error *err)
{
    struct kl_arena a;
    int rc = 0;
    kl_arena_init(&a, MAX_ARENA);
    for (size_t i = 0; i < KL_COUNT(files) && !rc; i++) {
        struct kl_str path = kl_arena_printf(&a, "%s/%s", data_dir, files[i]), text;
        rc = path.p ? kl_file_read(&a, path.p, &text, err)
                    : kl_error_set(err, KL_ENOMEM, "identity: out of memory");
        if (!rc && !text.p)
            rc = kl_error_set(err, KL_ENOTFOUND, "%s is missing", path.p);
        if (!rc) {
            kl_buf_printf(out, "%s %zu\n", files[i], text.n);
            kl_buf_puts(out, text);
            OPENSSL_cleanse((char *)text.p, text.n);
        }
    }
    kl_arena_fini(&a);
    return rc || !out->err ? rc
                           : kl_error_set(err, out->err, "identity: %s", kl_err_text(out->err));
}

void kl_identity_write(const struct kl_pki *p, struct kl_buf *out)
{
    char id[32];
    int n = snprintf(id, sizeof id, "%016llx\n", (unsigned long long)p->cluster_id);
    const struct kl_str texts[] = {
        p->server_ca,   p->server_ca_key, p->client_ca,    p->client_ca_key,  p->peer_ca,
        p->peer_ca_key, p->service_key,   {id, (size_t)n}, p->front_proxy_ca, p->front_proxy_ca_key,
    };
    static_assert(KL_COUNT(texts) == KL_COUNT(files), "one text for each file");
    for (size_t i = 0; i < KL_COUNT(files); i++) {
        kl_buf_printf(out, "%s %zu\n", files[i], texts[i].n);
        kl_buf_puts(out, texts[i]);
    }
}

// The next file of a packed identity; false at the end and when it is damaged (*bad).
static bool next_file(struct kl_str *rest, struct kl_str *name, struct kl_str *text, bool *bad)
{
    struct kl_str line;
    uint64_t n;
    if (!rest->n || *bad)
        return false;
    ptrdiff_t nl = kl_str_chr(*rest, '\n');
    *bad = true;
    if (nl < 0)
        return false;
    line = (struct kl_str){rest->p, (size_t)nl};
    *rest = kl_str_from(*rest, (size_t)nl + 1);
    if (!kl_str_split(&line, ' ', name) || !line.p || !kl_str_to_u64(line, &n) || n > rest->n)
        return false;
    *text = (struct kl_str){rest->p, (size_t)n};
    *rest = kl_str_from(*rest, (size_t)n);
    *bad = false;
    return true;
}

static bool is_ours(struct kl_str name)
{
    for (size_t i = 0; i < KL_COUNT(files); i++)
        if (kl_str_eqz(name, files[i]))
            return true;
    return false; // of a later version
}

static int place_one(struct kl_file_batch *b, const char *data_dir, struct kl_str name,
                     struct kl_str text, bool replace, struct kl_error *err)
{
    struct kl_str path = kl_arena_printf(b->arena, "%s/%.*s", data_dir, KL_PRI(name)), have;
    int rc = path.p ? kl_file_read(b->arena, path.p, &have, err)
                    : kl_error_set(err, KL_ENOMEM, "identity: out of memory");
    if (rc || (have.p && kl_str_eq(have, text)))
        return rc;
    if (have.p && !replace)
        return kl_error_set(err, KL_ECONFLICT,
                            "%s is not of the cluster in the datastore: use another --data-dir",
                            path.p);
    return kl_file_batch_add(b, path.p, text, err);
}

int kl_identity_place(const char *data_dir, struct kl_str packed, bool replace,
                      struct kl_error *err)
{
    struct kl_file_batch b;
    struct kl_arena a;
    struct kl_str name, text, rest = packed;
    bool bad = false, any = false;
    kl_arena_init(&a, MAX_ARENA);
    kl_file_batch_init(&b, &a);
    struct kl_str tls = kl_arena_printf(&a, "%s/server/tls", data_dir);
    int rc = tls.p ? kl_file_make_dirs(tls.p, 0700, err)
                   : kl_error_set(err, KL_ENOMEM, "identity: out of memory");
    while (!rc && next_file(&rest, &name, &text, &bad)) {
        any = true;
        if (is_ours(name))
            rc = place_one(&b, data_dir, name, text, replace, err);
    }
    if (!rc && (bad || !any))
        rc = kl_error_set(err, KL_ECORRUPT, "the cluster's identity is damaged");
    if (!rc && b.n)
        rc = kl_file_batch_commit(&b, err);
    kl_file_batch_drop(&b);
    kl_arena_fini(&a);
    return rc;
}

// ---- in the datastore

static int read_sealed(struct kl_store *s, struct kl_buf *out, struct kl_error *err)
{
    kl_rev mod;
    int rc = kl_store_run_get(s, KL_STR(KL_IDENTITY_KEY), WAIT_MS, out, &mod, err);
    return rc ? kl_error_wrap(err, "the cluster's identity in the datastore") : 0;
}

// *ret_first: nobody had been there. When it is not known, the next look tells.
static int write_sealed(struct kl_store *s, struct kl_str sealed, bool *ret_first,
                        struct kl_error *err)
{
    struct kl_compare none = {.key = KL_STR(KL_IDENTITY_KEY), .target = KL_COMPARE_CREATE};
    struct kl_op put = {.kind = KL_OP_PUT, .key = none.key, .value = kl_bytes_new(sealed)};
    struct kl_txn txn = {.body = {.compares = &none, .ncompares = 1, .then = &put, .nthen = 1}};
    if (!put.value)
        return kl_error_set(err, KL_ENOMEM, "identity: out of memory");
    int rc = kl_store_run_txn(s, &txn, WAIT_MS, err);
    *ret_first = !rc && txn.body.succeeded;
    kl_txn_fini(&txn);
    kl_bytes_unref(put.value);
    if (rc == KL_EMAYBE)
        return 0;
    return rc ? kl_error_wrap(err, "the cluster's identity in the datastore") : 0;
}

// ---- what was opened before

static void sum_of(struct kl_str secret, struct kl_str sealed, struct kl_buf *out)
{
    unsigned char md[SHA256_DIGEST_LENGTH] = {0};
    HMAC(EVP_sha256(), secret.p, (int)secret.n, (const unsigned char *)sealed.p, sealed.n, md,
         NULL);
    for (size_t i = 0; i < sizeof md; i++)
        kl_buf_printf(out, "%02x", md[i]);
}

static bool opened_before(const char *data_dir, struct kl_str secret, struct kl_str sealed)
{
    struct kl_arena a;
    struct kl_buf sum, packed;
    struct kl_str have = {0};
    struct kl_error ignored;
    kl_arena_init(&a, MAX_ARENA);
    kl_buf_init(&sum, 256);
    kl_buf_init(&packed, KL_IDENTITY_MAX_BYTES);
    struct kl_str path = kl_arena_printf(&a, "%s/server/tls/bootstrap.sum", data_dir);
    sum_of(secret, sealed, &sum);
    bool same = path.p && !kl_file_read(&a, path.p, &have, &ignored) &&
                kl_str_eq(have, kl_buf_str(&sum)) && !kl_identity_pack(data_dir, &packed, &ignored);
    if (packed.p)
        OPENSSL_cleanse(packed.p, packed.n);
    kl_buf_fini(&packed);
    kl_buf_fini(&sum);
    kl_arena_fini(&a);
    return same;
}

// Not being able to only costs time at the next start.
static void note_opened(const char *data_dir, struct kl_str secret, struct kl_str sealed)
{
    struct kl_file_batch b;
    struct kl_arena a;
    struct kl_buf sum;
    struct kl_error err;
    kl_arena_init(&a, MAX_ARENA);
    kl_file_batch_init(&b, &a);
    kl_buf_init(&sum, 256);
    sum_of(secret, sealed, &sum);
    struct kl_str path = kl_arena_printf(&a, "%s/server/tls/bootstrap.sum", data_dir);
    if (path.p &&
        (kl_file_batch_add(&b, path.p, kl_buf_str(&sum), &err) || kl_file_batch_commit(&b, &err)))
        kl_log(KL_LOG_WARN, "identity", "%s", err.msg);
    kl_file_batch_drop(&b);
    kl_buf_fini(&sum);
    kl_arena_fini(&a);
}

// ---- the two ways

static int unseal(struct kl_str secret, struct kl_str sealed, struct kl_buf *plain,
                  struct kl_error *err)
{
    if (!secret.n)
        return kl_error_set(err, KL_EUNAUTHORIZED,
                            "the datastore is of a cluster already: its token is needed (--token)");
    int rc = kl_unseal(secret, sealed, plain, err);
    if (rc == KL_EUNAUTHORIZED)
        kl_error_set(err, rc, "the token is not that of the cluster in the datastore (--token)");
    else if (rc)
        kl_error_wrap(err, "the cluster's identity in the datastore");
    return rc;
}

static int open_sealed(const char *data_dir, struct kl_str secret, struct kl_str sealed,
                       bool replace, struct kl_error *err)
{
    struct kl_buf plain;
    if (secret.n && opened_before(data_dir, secret, sealed))
        return 0;
    kl_buf_init(&plain, KL_IDENTITY_MAX_BYTES);
    int rc = unseal(secret, sealed, &plain, err);
    if (!rc && !(rc = kl_identity_place(data_dir, kl_buf_str(&plain), replace, err)))
        note_opened(data_dir, secret, sealed);
    if (plain.p)
        OPENSSL_cleanse(plain.p, plain.cap);
    kl_buf_fini(&plain);
    return rc;
}

static int publish(const char *data_dir, const struct kl_pki *p, struct kl_store *s,
                   bool *ret_first, struct kl_error *err)
{
    struct kl_str secret = kl_token_secret(p->token, NULL);
    struct kl_buf plain, sealed;
    kl_buf_init(&plain, KL_IDENTITY_MAX_BYTES);
    kl_buf_init(&sealed, 2 * KL_IDENTITY_MAX_BYTES);
    int rc = kl_identity_pack(data_dir, &plain, err);
    if (!rc)
        rc = kl_seal(secret, kl_buf_str(&plain), &sealed, err);
    if (!rc)
        rc = write_sealed(s, kl_buf_str(&sealed), ret_first, err);
    if (!rc && *ret_first)
        note_opened(data_dir, secret, kl_buf_str(&sealed));
    if (plain.p)
        OPENSSL_cleanse(plain.p, plain.cap);
    kl_buf_fini(&plain);
    kl_buf_fini(&sealed);
    return rc;
}

// The token that was given, or that the data directory has, in the arena; "" when there is none.
static int find_token(const struct kl_pki_options *o, struct kl_arena *a, struct kl_str *ret,
                      struct kl_error *err)
{
    struct kl_str text = kl_str(o->token);
    int rc = 0;
    if (!o->token) {
        struct kl_str path = kl_arena_printf(a, "%s/server/token", o->data_dir);
        rc = path.p ? kl_file_read(a, path.p, &text, err)
                    : kl_error_set(err, KL_ENOMEM, "identity: out of memory");
    }
    *ret = rc || !text.p ? KL_STR("") : text;
    return rc;
}

static int adopt(const struct kl_pki_options *o, struct kl_str sealed, bool replace,
                 struct kl_error *err)
{
    struct kl_arena a;
    struct kl_str token;
    kl_arena_init(&a, MAX_ARENA);
    int rc = find_token(o, &a, &token, err);
    if (!rc)
        rc = open_sealed(o->data_dir, kl_token_secret(token, NULL), sealed, replace, err);
    if (!o->token && token.n)
        OPENSSL_cleanse((char *)token.p, token.n);
    kl_arena_fini(&a);
    return rc;
}

// A datastore that was K3s' has its identity in K3s' way.
static int adopt_k3s(const struct kl_pki_options *o, struct kl_store *s, struct kl_error *err)
{
    struct kl_arena a;
    struct kl_buf packed;
    struct kl_str token;
    kl_arena_init(&a, MAX_ARENA);
    kl_buf_init(&packed, KL_IDENTITY_MAX_BYTES);
    int rc = find_token(o, &a, &token, err);
    if (!rc)
        rc = kl_k3s_identity(s, token, o->token != NULL, &packed, err);
    if (!rc && packed.n)
        rc = kl_identity_place(o->data_dir, kl_buf_str(&packed), false, err);
    if (packed.p)
        OPENSSL_cleanse(packed.p, packed.cap);
    if (!o->token && token.n)
        OPENSSL_cleanse((char *)token.p, token.n);
    kl_buf_fini(&packed);
    kl_arena_fini(&a);
    return rc;
}

int kl_identity_check_kine(void *pki_options, const struct kl_kine_record *v, size_t n,
                           struct kl_error *err)
{
    const struct kl_pki_options *o = pki_options;
    const struct kl_kine_record *ours = NULL;
    struct kl_arena a;
    struct kl_buf plain;
    struct kl_str token;
    kl_arena_init(&a, MAX_ARENA);
    kl_buf_init(&plain, KL_IDENTITY_MAX_BYTES);
    for (size_t i = 0; i < n; i++)
        ours = kl_str_eqz(v[i].key, KL_IDENTITY_KEY) ? &v[i] : ours;
    int rc = find_token(o, &a, &token, err);
    if (!rc && ours)
        rc = unseal(kl_token_secret(token, NULL), ours->value, &plain, err);
    else if (!rc)
        rc = kl_k3s_open(v, n, token, o->token != NULL, &plain, err);
    if (plain.p)
        OPENSSL_cleanse(plain.p, plain.cap);
    if (!o->token && token.n)
        OPENSSL_cleanse((char *)token.p, token.n);
    kl_buf_fini(&plain);
    kl_arena_fini(&a);
    return rc;
}

int kl_identity_open(const struct kl_pki_options *o, struct kl_store *s, struct kl_pki **ret,
                     struct kl_error *err)
{
    struct kl_buf sealed;
    bool first = false;
    struct kl_pki *p = NULL;
    if (!s)
        return kl_pki_open(o, ret, err);
    kl_buf_init(&sealed, 2 * KL_IDENTITY_MAX_BYTES);
    int rc = read_sealed(s, &sealed, err);
    bool there = sealed.n > 0;
    if (!rc)
        rc = there ? adopt(o, kl_buf_str(&sealed), false, err) : adopt_k3s(o, s, err);
    if (!rc)
        rc = kl_pki_open(o, &p, err);
    if (!rc && !there)
        rc = publish(o->data_dir, p, s, &first, err);
    if (!rc && !there && !first) {
        // Another server was first. What this start made is nobody's and gives way.
        bool mine = p->made;
        kl_pki_free(p);
        p = NULL;
        kl_buf_clear(&sealed);
        rc = read_sealed(s, &sealed, err);
        if (!rc)
            rc = adopt(o, kl_buf_str(&sealed), mine, err);
        if (!rc)
            rc = kl_pki_open(o, &p, err);
    }
    kl_buf_fini(&sealed);
    if (rc)
        kl_pki_free(p);
    else
        *ret = p;
    return rc;
}

int kl_identity_open_alone(const struct kl_pki_options *o, struct kl_store *s, struct kl_pki **ret,
                           bool *ret_publish, struct kl_error *err)
{
    struct kl_buf sealed;
    kl_buf_init(&sealed, 2 * KL_IDENTITY_MAX_BYTES);
    int rc = read_sealed(s, &sealed, err);
    bool there = sealed.n > 0;
    if (!rc)
        rc = there ? adopt(o, kl_buf_str(&sealed), false, err) : adopt_k3s(o, s, err);
    kl_buf_fini(&sealed);
    if (!rc)
        rc = kl_pki_open(o, ret, err);
    *ret_publish = !rc && !there;
    return rc;
}

int kl_identity_publish(const char *data_dir, const struct kl_pki *p, struct kl_store *s,
                        struct kl_error *err)
{
    bool first;
    return publish(data_dir, p, s, &first, err);
}
