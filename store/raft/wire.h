// SPDX-License-Identifier: Apache-2.0
// raft's messages between servers, and the encoding of a configuration, which is libraft's own. A
// message is a version, a kind and little-endian numbers; decoders fail closed.
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include <raft.h>

enum {
    KL_RAFT_WIRE_VERSION = 1,
    KL_RAFT_WIRE_ENTRIES = 65536, // of one message
    KL_RAFT_WIRE_CHUNK = 2 << 20, // about what one AppendEntries carries
    KL_RAFT_WIRE_BURST = 8 << 20, // and all that one request of libraft's becomes
    KL_RAFT_WIRE_OWN = 32,        // kinds from here on are not libraft's
};

// NULL: out of memory.
struct kl_bytes *kl_raft_encode(const struct raft_message *m);
// Memory of *ret is raft_malloc'ed as libraft wants it; kl_raft_message_fini where libraft did not
// take it. server_id and server_address are the caller's to fill. KL_EPROTO, KL_ENOMEM.
int kl_raft_decode(struct kl_str s, struct raft_message *ret);
void kl_raft_message_fini(struct raft_message *m);

// KL_ECORRUPT, KL_ENOMEM. *ret is initialized by it.
int kl_raft_conf_decode(const void *p, size_t n, struct raft_configuration *ret);
