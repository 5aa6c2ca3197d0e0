// SPDX-License-Identifier: Apache-2.0
// One evaluated batch as an entry of the log (in parts when it is big), and the two sums that tie
// entries and states together: `chain` runs over the bodies of all entries that were applied,
// `state` is the sum over all live keys of what they are. Both before the entry stand in it.
#pragma once
#include "store/backend.h"

enum {
    KL_RAFT_ENTRY_VERSION = 1,
    KL_RAFT_PART_HEAD = 32,
    KL_RAFT_PART_BYTES = 4 << 20, // of a body; a bigger one travels in parts
    KL_RAFT_BODY_MAX = 1 << 30,
};

enum kl_raft_entry_kind { KL_RAFT_BATCH = 1, KL_RAFT_PEER = 2 };

struct kl_raft_part {
    uint8_t kind;
    uint16_t part, parts;
    uint64_t origin, seq;
    struct kl_str body;
};

struct kl_raft_batch_head {
    uint64_t cluster_id;
    uint64_t prev_chain, prev_state;
    kl_rev base_rev, last_rev;
};

struct kl_raft_peer_entry {
    uint64_t cluster_id, id;
    struct kl_str address;
};

// raft_malloc'ed parts for raft_apply; the array is malloc'ed. KL_ENOMEM, KL_ETOOLARGE.
struct raft_buffer;
int kl_raft_entry_encode(const struct kl_batch *b, const struct kl_raft_batch_head *h,
                         uint64_t origin, uint64_t seq, struct raft_buffer **ret_parts,
                         size_t *ret_n);
int kl_raft_peer_encode(const struct kl_raft_peer_entry *e, uint64_t origin, uint64_t seq,
                        struct raft_buffer *ret);

// What an entry of the log is: checks version, CRC and numbers. KL_ECORRUPT, KL_EUNSUPPORTED.
int kl_raft_part_decode(const void *p, size_t n, struct kl_raft_part *ret);
int kl_raft_head_decode(struct kl_str body, struct kl_raft_batch_head *ret);
// An outside batch; prev_ids (malloc'ed, one for each row, 0: none) say what each row replaces.
// KL_ECORRUPT, KL_ENOMEM.
int kl_raft_batch_decode(struct kl_str body, struct kl_batch **ret_b, kl_rev **ret_prev_ids);
int kl_raft_peer_decode(struct kl_str body, struct kl_raft_peer_entry *ret);

uint64_t kl_raft_chain(uint64_t prev, struct kl_str body);
uint64_t kl_raft_kv_hash(const struct kl_kv *kv); // 0 for a deletion and for NULL
