// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "apiserver/encryption/box.h"
#include "apiserver/encryption/encryption.h"
#include "apiserver/encryption/kms.h"
#include "base/arena.h"
#include <pthread.h>

enum kl_enc_kind { KL_ENC_IDENTITY, KL_ENC_AESGCM, KL_ENC_AESCBC, KL_ENC_SECRETBOX, KL_ENC_KMS };

struct kl_enc_key {
    struct kl_str name, secret;
};

struct kl_enc_provider {
    enum kl_enc_kind kind;
    struct kl_str
        prefix; // "k8s:enc:aescbc:v1:", with the name and a colon for KMS; "" for identity
    struct kl_enc_key *keys;
    size_t nkeys;
    struct kl_kms *kms;
};

struct kl_enc_rule {
    struct kl_str *resources; // "secrets", "deployments.apps", "*.", "*.apps", "*.*"
    size_t nresources;
    struct kl_enc_provider *providers; // the first seals, all open
    size_t nproviders;
};

// Immutable; wiped by the last unref.
struct kl_enc_config {
    atomic_int refs;
    struct kl_arena arena;
    struct kl_enc_rule *rules;
    size_t nrules;
    kl_rev record; // whose revision it is of; -1: of a file
};

// An EncryptionConfiguration, YAML or JSON. `old` (may be NULL): KMS providers that are alike go
// on. KL_EINVALID with upstream's wording.
int kl_enc_config_parse(struct kl_str text, const struct kl_enc_config *old,
                        struct kl_enc_config **ret, struct kl_error *err);
struct kl_enc_config *kl_enc_config_new(void); // one reference; NULL: out of memory
void kl_enc_config_unref(struct kl_enc_config *c);

const struct kl_enc_rule *kl_enc_rule_of(const struct kl_enc_config *c,
                                         const struct kl_resource *res);
// Appends to out. *ret_stale: it would be sealed otherwise now.
int kl_enc_open(const struct kl_enc_rule *rule, struct kl_str key, struct kl_str value,
                struct kl_buf *out, bool *ret_stale, struct kl_error *err);
int kl_enc_seal(const struct kl_enc_rule *rule, struct kl_str key, struct kl_str plain,
                struct kl_buf *out, struct kl_error *err);

// ---- record.c: what the cluster itself decides
enum { KL_ENC_MAX_KEYS = 8, KL_ENC_ROOT = 32 };
struct kl_enc_record {
    bool enabled;
    int64_t rotation; // raised by every command that makes values stale
    int64_t finished; // the rotation that all values are of
    size_t nkeys;
    struct {
        char name[48];
        unsigned char secret[32];
    } keys[KL_ENC_MAX_KEYS]; // the first seals
};
// `root` opens the state; it is sealed with the token itself and kept from one record to the next.
struct kl_enc_root {
    unsigned char key[KL_ENC_ROOT];
    struct kl_bytes *sealed; // as stored; NULL: not known yet
};
int kl_enc_record_read(struct kl_str value, struct kl_str secret, struct kl_enc_root *root,
                       struct kl_enc_record *ret, struct kl_error *err);
int kl_enc_record_write(const struct kl_enc_record *r, struct kl_str secret,
                        struct kl_enc_root *root, struct kl_buf *out, struct kl_error *err);
struct kl_enc_config *kl_enc_record_config(const struct kl_enc_record *r, kl_rev rev);

struct kl_enc_rewrite; // rewrite.c
enum { KL_ENC_PATIENCE_MS = 30000 };

struct kl_encryption {
    struct kl_encryption_options o;
    struct kl_kv_hooks hooks;
    struct kl_cache_opener opener;
    struct kl_store *store;
    struct kl_apiserver *_Atomic s; // set by loops[0], looked at by all
    pthread_mutex_t mu;
    struct kl_enc_config *config; // under mu; NULL: nothing is sealed
    struct kl_str secret;
    pthread_mutex_t record_mu; // before mu: what a record is made of, which may take a while
    struct kl_enc_root root;
    struct kl_enc_record record;
    kl_rev record_rev;
    uint64_t file_sum;
    struct kl_enc_rewrite *rewrite; // loops[0]'s
    atomic_llong rewritten, to_rewrite;
};

// The configuration as it is now, referenced; NULL.
struct kl_enc_config *kl_encryption_config(struct kl_encryption *e);
void kl_encryption_take(struct kl_encryption *e, struct kl_enc_config *c); // takes it over
// The record of that revision (0: there is none) becomes the configuration. Any thread.
int kl_encryption_apply(struct kl_encryption *e, struct kl_str value, kl_rev rev,
                        struct kl_error *err);
// On a loop of the server: true when the view had a newer record than was known, which is taken.
bool kl_encryption_newer(struct kl_encryption *e);
// Reads the file when it is another than before.
int kl_encryption_read_file(struct kl_encryption *e, bool *ret_changed, struct kl_error *err);
// The record that says that all values are of this rotation; KL_ECONFLICT: it is another by now.
int kl_enc_finish(struct kl_encryption *e, int64_t rotation, kl_rev rev, struct kl_bytes **ret,
                  struct kl_error *err);
