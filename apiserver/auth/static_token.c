// SPDX-License-Identifier: Apache-2.0
// --token-auth-file: token,user,uid[,"group1,group2"] lines of CSV (apiserver
// pkg/authentication/token/tokenfile).
#include "apiserver/auth/authn_int.h"
#include "base/log.h"
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>

#define FILE_MAX_BYTES ((size_t)16 << 20)
enum { MAX_FIELDS = 64, MAX_GROUPS = 256 };

struct kl_static_tokens {
    struct kl_map users; // by SHA-256 of the token: looking one up tells nothing of others by time
};

static struct kl_str digest(struct kl_str token, unsigned char sha[SHA256_DIGEST_LENGTH])
{
    SHA256((const unsigned char *)token.p, token.n, sha);
    return (struct kl_str){(const char *)sha, SHA256_DIGEST_LENGTH};
}

// One record of RFC 4180, unquoted in place. Returns the number of fields, -1 on a bad quote.
static int next_record(char **at, char *end, struct kl_str field[MAX_FIELDS])
{
    int n = 0;
    char *p = *at;
    for (;;) {
        char *out = p, *start = p;
        if (p < end && *p == '"') {
            p++;
            for (;;) {
                if (p == end)
                    return -1;
                if (*p == '"' && p + 1 < end && p[1] == '"')
                    p++;
                else if (*p == '"')
                    break;
                *out++ = *p++;
            }
            p++;
            if (p < end && *p != ',' && *p != '\n' && *p != '\r')
                return -1;
        } else {
            while (p < end && *p != ',' && *p != '\n' && *p != '\r') {
                if (*p == '"')
                    return -1;
                *out++ = *p++;
            }
        }
        if (n == MAX_FIELDS)
            return -1;
        field[n++] = (struct kl_str){start, (size_t)(out - start)};
        if (p < end && *p == ',') {
            p++;
            continue;
        }
        while (p < end && (*p == '\n' || *p == '\r'))
            p++;
        *at = p;
        return n;
    }
}

static int take_record(struct kl_static_tokens *t, const struct kl_str *f, int n, const char *path,
                       int line, struct kl_error *err)
{
    struct kl_str groups[MAX_GROUPS], rest = n > 3 ? f[3] : KL_STR(""), g;
    unsigned char sha[SHA256_DIGEST_LENGTH];
    size_t ngroups = 0;
    void *old = NULL;
    if (n < 3)
        return kl_error_set(err, KL_EINVALID,
                            "token file '%s' must have at least 3 columns (token, user name, user "
                            "uid), found %d",
                            path, n);
    if (!f[0].n) {
        kl_log(KL_LOG_WARN, "apiserver", "empty token has been found in token file file=%s line=%d",
               path, line);
        return 0;
    }
    while (rest.n && ngroups < MAX_GROUPS && kl_str_split(&rest, ',', &g))
        groups[ngroups++] = g;
    struct kl_user *u = kl_user_new(f[1], f[2], groups, ngroups, NULL, 0);
    if (!u || kl_map_set(&t->users, digest(f[0], sha), u, &old)) {
        kl_user_unref(u);
        return kl_error_set(err, KL_ENOMEM, "%s: out of memory", path);
    }
    if (old)
        kl_log(KL_LOG_WARN, "apiserver",
               "duplicate token has been found in token file file=%s line=%d", path, line);
    kl_user_unref(old);
    return 0;
}

int kl_static_tokens_read(const char *path, struct kl_static_tokens **ret, struct kl_error *err)
{
    struct kl_arena a;
    struct kl_str text;
    struct kl_static_tokens *t = calloc(1, sizeof *t);
    if (!t)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_map_init(&t->users);
    kl_arena_init(&a, 2 * FILE_MAX_BYTES);
    int rc = kl_auth_read_file(&a, path, FILE_MAX_BYTES, &text, err), line = 0;
    bool read = !rc;
    char *at = read ? (char *)text.p : NULL, *end = read ? at + text.n : NULL;
    while (!rc && at < end) {
        struct kl_str field[MAX_FIELDS];
        if (*at == '\n' || *at == '\r') {
            at++;
            continue;
        }
        int n = next_record(&at, end, field);
        rc = n < 0 ? kl_error_set(err, KL_EINVALID, "%s: record %d: bad quotes", path, line + 1)
                   : take_record(t, field, n, path, ++line, err);
    }
    if (read && text.n)
        OPENSSL_cleanse((char *)text.p, text.n);
    kl_arena_fini(&a);
    if (rc) {
        kl_static_tokens_free(t);
        return rc;
    }
    *ret = t;
    return 0;
}

void kl_static_tokens_free(struct kl_static_tokens *t)
{
    if (!t)
        return;
    KL_MAP_EACH (&t->users, e)
        kl_user_unref(e->value);
    kl_map_fini(&t->users);
    free(t);
}

struct kl_user *kl_static_token_user(const struct kl_static_tokens *t, struct kl_str token)
{
    unsigned char sha[SHA256_DIGEST_LENGTH];
    return kl_user_ref(kl_map_get(&t->users, digest(token, sha)));
}
