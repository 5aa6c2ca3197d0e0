// SPDX-License-Identifier: Apache-2.0
// Snapshot files: the records of a copy (store/transfer/record.h) behind a magic number, compressed
// by zlib, with the SHA-256 of all that stands before it at the end. A file has its name only when
// it is whole and on the disk. Everything blocks: not on a loop.
#pragma once
#include "store/transfer/source.h"

#define KL_SNAPSHOT_SUFFIX ".klsnap"
enum { KL_SNAPSHOT_NAME_MAX = 200 };

struct kl_snapshot_info {
    char name[KL_SNAPSHOT_NAME_MAX + 1]; // of the file
    int64_t bytes;
    int64_t wall_ms; // when it was taken
    kl_rev rev;
    int64_t keys;
    uint64_t cluster_id;
    char backend[16];
    bool damaged; // kl_snapshot_list: its beginning cannot be read
};

// Writes what src gives to `path` (mode 0600): .tmp, fsync, rename, fsync of the directory. Closes
// nothing. On failure nothing is left. KL_EEXISTS when there is such a file.
int kl_snapshot_write(const char *path, struct kl_source *src, struct kl_snapshot_info *ret,
                      struct kl_error *err);
// A source out of a file whose digest was compared before anything of it is used. Damaged or cut:
// KL_ECORRUPT, one sentence.
int kl_snapshot_read(const char *path, struct kl_source **ret_s, struct kl_error *err);
// The header alone: no digest.
int kl_snapshot_peek(const char *path, struct kl_snapshot_info *ret, struct kl_error *err);

// ---- a directory of them ----

// A snapshot of the store as DIR/NAME-NODE-SECONDS.klsnap; makes the directory (mode 0700).
int kl_snapshot_save(struct kl_store *s, const char *dir, const char *name, const char *node,
                     struct kl_snapshot_info *ret, struct kl_error *err);
// The same of any source; closes nothing.
int kl_snapshot_save_from(struct kl_source *src, const char *dir, const char *name,
                          const char *node, struct kl_snapshot_info *ret, struct kl_error *err);
// Newest first; the caller frees. A missing directory is an empty one.
int kl_snapshot_list(const char *dir, struct kl_snapshot_info **ret, size_t *ret_n,
                     struct kl_error *err);
// Removes all but the newest `keep` whose names begin with "NAME-", and what a crash left of
// unfinished ones. *ret_n: how many went.
int kl_snapshot_prune(const char *dir, const char *name, int keep, int *ret_n,
                      struct kl_error *err);
