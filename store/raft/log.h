// SPDX-License-Identifier: Apache-2.0
// What a raft server keeps in its directory beside the database:
//
//   meta-1, meta-2       term, vote and identity, written one after the other; the newer whole one
//                        counts
//   log-SEQ              segments of entries: a header, then records that only grow
//   log-spare            the next segment, allocated before it is needed
//   snapshot-INDEX       the newest snapshot's manifest (the data is the database)
//
// Every part has a version and a CRC. An entry is durable when append returns. After a crash only
// what no append had returned for may be torn; that is cut off. Anything else that does not check
// out is put aside under NAME.corrupt and is an error that says so.
//
// Blocking. One thread at a time, but kl_raft_log_set_vote, which has files of its own.
#pragma once
#include "store/raft/fs.h"
#include "base/err.h"
#include <stdbool.h>

enum {
    KL_RAFT_LOG_FORMAT = 1,
    KL_RAFT_SEGMENT_BYTES = 8 << 20,
    KL_RAFT_ENTRY_MAX = 12 << 20,
    KL_RAFT_SEGMENT_MAX = (1 << 30) + (64 << 20), // one append of a batch of any size
};

struct kl_raft_log;

struct kl_raft_meta {
    uint64_t term, vote;
    uint64_t server_id;
    bool muted; // votes for nobody until it has caught up: its log or database was lost
};

struct kl_raft_entry {
    uint64_t index, term;
    uint16_t type; // libraft's
    void *p;
    size_t n;
};

struct kl_raft_manifest {
    uint64_t index, term, conf_index;
    void *conf, *data; // conf: libraft's encoding
    size_t nconf, ndata;
};

// What open found. Entries and the manifest's parts are the caller's (raft_malloc'ed).
struct kl_raft_found {
    bool any; // false: a directory that has never been a server's
    struct kl_raft_meta meta;
    bool has_manifest;
    struct kl_raft_manifest manifest;
    uint64_t first_index; // of entries, or where the next one goes
    struct kl_raft_entry *entries;
    size_t nentries;
};
void kl_raft_found_fini(struct kl_raft_found *f);

// `dir` exists. KL_ECORRUPT: damaged, put aside. KL_EUNSUPPORTED: a newer format.
int kl_raft_log_open(const char *dir, const struct kl_raft_fs *fs, struct kl_raft_log **ret_l,
                     struct kl_raft_found *ret, struct kl_error *err);
void kl_raft_log_close(struct kl_raft_log *l);

int kl_raft_log_set_meta(struct kl_raft_log *l, const struct kl_raft_meta *m, struct kl_error *err);
// Entries follow on the last one; all are durable or, on failure, the log must not be used again.
int kl_raft_log_append(struct kl_raft_log *l, const struct kl_raft_entry *e, size_t n,
                       struct kl_error *err);
int kl_raft_log_truncate(struct kl_raft_log *l, uint64_t from, struct kl_error *err);
// The manifest, then away with what lies more than `trailing` entries before it. trailing 0:
// with everything; the next entry follows the snapshot.
int kl_raft_log_put_snapshot(struct kl_raft_log *l, const struct kl_raft_manifest *m,
                             uint64_t trailing, struct kl_error *err);
// Reads the segment after *seq as it is on the disk; *seq 0 when there is none. KL_ECORRUPT.
int kl_raft_log_check(struct kl_raft_log *l, uint64_t *seq, struct kl_error *err);
// Forgets entries and snapshots (not term and vote), for a server that is seeded anew.
int kl_raft_log_wipe(struct kl_raft_log *l, struct kl_error *err);
// Whether the disk has no room for another segment. Any thread.
bool kl_raft_log_is_low(const struct kl_raft_log *l);
int64_t kl_raft_log_bytes(const struct kl_raft_log *l); // on the disk; any thread
