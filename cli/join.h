// SPDX-License-Identifier: Apache-2.0
// What a joining server, and `kinglet member`, ask of a server that is there
// (apiserver/joining.h). Blocking; not on a loop.
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdint.h>

struct kl_raft_member;

struct kl_join {
    const char *url, *token; // https://HOST:PORT
    const char *data_dir;
};

// The cluster's identity into the data directory. The CA is the one that the token names; a bare
// token trusts whoever answers, with a warning (as K3s).
int kl_join_identity(const struct kl_join *j, struct kl_error *err);
// Afterwards: one request, with the CA of the data directory. The answer's body is appended to out.
int kl_join_call(const struct kl_join *j, const char *method, const char *target,
                 struct kl_buf *out, struct kl_error *err);
// Adds this server to raft's members and tells who else is one: ret[0] is the one to copy the state
// from. Tried again while there is no leader.
int kl_join_members(const struct kl_join *j, uint64_t id, const char *address,
                    struct kl_raft_member *ret, size_t max, size_t *ret_n, struct kl_error *err);
// The lines of /v1-kinglet/members.
size_t kl_join_parse_members(struct kl_str list, struct kl_raft_member *ret, size_t max);
