// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "store/raft/log.h"
#include <stdatomic.h>

enum { KL_RAFT_HEAD_BYTES = 64, KL_RAFT_RECORD_BYTES = 40 };

struct kl_raft_segment {
    uint64_t seq, first, last; // last: first - 1 when empty
    int64_t end;               // of the last record
    int64_t size;              // allocated
};

struct kl_raft_log {
    const struct kl_raft_fs *fs;
    char *dir;
    struct kl_raft_segment *seg; // in order; the last one is written to
    size_t nseg, cap;
    int fd; // of the last segment, or -1
    uint64_t next_seq;
    uint64_t snapshot; // index of the manifest, 0: none
    uint8_t *buf;
    size_t cap_buf;
    bool has_spare;
    atomic_bool low;
    atomic_llong bytes;
    struct kl_raft_meta meta;
    uint64_t meta_counter;
    bool failed;
};

// load.c. One segment in memory: calls `entry` for each record, in order of index. *ret_end is
// where the next record goes. KL_ECORRUPT: a record that had been durable is damaged;
// KL_EUNSUPPORTED: newer; KL_EEOF: the header was never finished, there is nothing in it. The
// entry's data is borrowed.
int kl_raft_segment_parse(const uint8_t *p, size_t n, uint64_t seq, struct kl_raft_segment *ret,
                          int (*entry)(void *arg, const struct kl_raft_entry *e), void *arg,
                          struct kl_error *err);
int kl_raft_manifest_parse(const uint8_t *p, size_t n, struct kl_raft_manifest *ret,
                           struct kl_error *err);
int kl_raft_meta_parse(const uint8_t *p, size_t n, struct kl_raft_meta *ret, uint64_t *ret_counter);
int kl_raft_log_load(struct kl_raft_log *l, struct kl_raft_found *ret, struct kl_error *err);

// log.c
uint32_t kl_raft_record_crc(uint64_t seq, const uint8_t *record, size_t n); // with its header
int kl_raft_log_path(const struct kl_raft_log *l, char *ret, size_t n, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
int kl_raft_log_fail(struct kl_raft_log *l, int code, struct kl_error *err, const char *what);
int kl_raft_log_add_segment(struct kl_raft_log *l, struct kl_raft_segment s);
// Cuts the last segment's file at `end` and allocates it again, durable.
int kl_raft_log_cut(struct kl_raft_log *l, int64_t end, struct kl_error *err);
