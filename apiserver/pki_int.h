// SPDX-License-Identifier: Apache-2.0
// What the files of the PKI share: certificates as PEM texts, and files written in one batch.
#pragma once
#include "apiserver/pki.h"
#include <openssl/evp.h>
#include <openssl/x509.h>

#define KL_PKI_MAX_FILE_BYTES ((size_t)1 << 20)
#define KL_PKI_MAX_FILES 32

// Files that are made together: all contents are on disk before the first gets its name, so a crash
// leaves whole files or none. The waits for the disk overlap.
struct kl_file_batch {
    struct kl_arena *arena;
    int n;
    struct {
        const char *path, *tmp;
        int fd;
    } file[KL_PKI_MAX_FILES];
};

void kl_file_batch_init(struct kl_file_batch *b, struct kl_arena *a);
// Writes text to a temporary name beside path (mode 0600). `path` is borrowed.
int kl_file_batch_add(struct kl_file_batch *b, const char *path, struct kl_str text,
                      struct kl_error *err);
int kl_file_batch_commit(struct kl_file_batch *b, struct kl_error *err);
void kl_file_batch_drop(struct kl_file_batch *b); // what was not committed

// The whole file, NUL-terminated, in the arena. A missing or empty file (a crash between create and
// write on some file systems) gives p NULL and 0.
int kl_file_read(struct kl_arena *a, const char *path, struct kl_str *ret, struct kl_error *err);
// mkdir -p with the mode for each directory it makes.
int kl_file_make_dirs(const char *path, unsigned mode, struct kl_error *err);

// ---- pki_cert.c. A key and certificate; cert may carry a chain behind the first.
struct kl_pki_pair {
    EVP_PKEY *key;
    X509 *cert;
};
void kl_pki_pair_fini(struct kl_pki_pair *p);

struct kl_pki_leaf {
    const char *cn;
    const char *const *orgs; // NULL-ended or NULL
    const char *const *sans; // NULL-ended or NULL: names and addresses
    const char *uri;         // NULL or one more name
    bool server;             // serverAuth, else clientAuth
    bool both;               // both of them
};

// PEM texts into the arena. `reuse` (may be NULL) is the key to certify; else one is made.
int kl_pki_make_ca(struct kl_arena *a, const char *cn, EVP_PKEY *reuse, struct kl_str *ret_cert,
                   struct kl_str *ret_key, struct kl_error *err);
// An intermediate CA's certificate is appended to the leaf.
int kl_pki_make_leaf(struct kl_arena *a, const struct kl_pki_leaf *l, const struct kl_pki_pair *ca,
                     struct kl_str *ret_cert, struct kl_str *ret_key, struct kl_error *err);
int kl_pki_make_key(struct kl_arena *a, struct kl_str *ret_key, struct kl_error *err);
// Unix time at which it is made anew: before that kl_pki_leaf_good() takes it.
int64_t kl_pki_leaf_due_s(const struct kl_pki_pair *leaf);
// Parses; KL_EINVALID names `what` when the PEM is bad or key and certificate do not belong
// together.
int kl_pki_load(struct kl_str cert, struct kl_str key, const char *what, struct kl_pki_pair *ret,
                struct kl_error *err);
EVP_PKEY *kl_pki_load_key(struct kl_str pem, const char *what, struct kl_error *err);
// Whether a leaf may go on being used: of this CA, valid for 90 days more, with all the names.
bool kl_pki_leaf_good(const struct kl_pki_pair *leaf, const struct kl_pki_leaf *want,
                      const struct kl_pki_pair *ca);
