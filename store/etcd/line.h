// SPDX-License-Identifier: Apache-2.0
// A place in line, for locks and elections: the key NAME/LEASE (the lease in hexadecimal), made
// once, waits until every key under NAME/ that was made before it is gone. Oracle: waitDeletes,
// Mutex.Lock and Election.Campaign of etcd's client/v3/concurrency, which its servers run too.
//
//   GRANT ─► JOIN ─► (RENAME ─►) LOOK ◄─► WAIT ─► (CHECK ─►) turn
//     who goes away, or may not stay, takes the key along: LEAVE
#pragma once
#include "store/etcd/etcd_int.h"

enum { KL_ETCD_SESSION_TTL_S = 60 }; // of the lease of those who bring none

enum kl_etcd_line_state {
    KL_ETCD_LINE_GRANT,
    KL_ETCD_LINE_JOIN,
    KL_ETCD_LINE_RENAME, // the key is there with another value
    KL_ETCD_LINE_LOOK,
    KL_ETCD_LINE_WAIT,
    KL_ETCD_LINE_CHECK,
    KL_ETCD_LINE_LEAVE,
    KL_ETCD_LINE_OVER,
};

// In its call's arena, zeroed; the call's data, whose method ends in kl_etcd_line_closed.
struct kl_etcd_line {
    struct kl_str name, value; // in the arena
    int64_t lease;             // 0: one is granted
    bool is_lock; // takes the key as it is, and makes sure of it when it had to wait for its turn
    // Its turn has come: answers with key, rev and told_rev. The line is over when it returns.
    void (*turn)(struct kl_etcd_line *line);

    struct kl_str key;
    kl_rev rev, told_rev; // the key's create revision; the header's

    // line.c's
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_etcd_loop *l;
    enum kl_etcd_line_state state;
    struct kl_str prefix, end;
    struct kl_bytes *bytes; // the value
    struct kl_lease_req grant;
    struct kl_txn txn;
    struct kl_compare compare;
    struct kl_op ops[2];
    struct kl_etcd_waiting waiting;
    struct kl_etcd_range_request before; // those made before it, the last one first
    struct kl_etcd_read look;
    struct kl_watch watch;
    struct kl_etcd_line *next, **pprev; // of the loop's that wait for others
    bool waited;                        // or has to look at what is there now
};

void kl_etcd_line_start(struct kl_etcd_line *line, struct kl_grpc_rpc *c, struct kl_etcd_loop *l);
void kl_etcd_line_closed(struct kl_grpc_rpc *c); // a method's close

// As etcd's servers fail these calls, which are clients of theirs: the code is lost on the way.
void kl_etcd_line_fail(struct kl_grpc_rpc *c, int code, const struct kl_error *err);
// True: a request of n bytes that puts something was refused.
bool kl_etcd_line_refuses(struct kl_grpc_rpc *c, size_t n);
// NAME/ and the end of its range, in the call's arena; p NULL: out of memory.
struct kl_str kl_etcd_line_prefix(struct kl_grpc_rpc *c, struct kl_str name,
                                  struct kl_str *ret_end);

// store/etcd/leader.c, of the table in election.c
void kl_etcd_leader(struct kl_grpc_rpc *c, struct kl_str msg);
void kl_etcd_observe(struct kl_grpc_rpc *c, struct kl_str msg);
void kl_etcd_observe_ready(struct kl_grpc_rpc *c);
void kl_etcd_observe_close(struct kl_grpc_rpc *c);
