// SPDX-License-Identifier: Apache-2.0
// Between cluster.c and who shows what it knows.
#pragma once
#include "store/etcd/etcd_int.h"
#include "store/raft/members.h"

// Term, index and leader as they are now into e. Any thread.
void kl_etcd_cluster_refresh(struct kl_etcd *e);
// Name and URLs of the answering member; those for peers only when there are none yet.
void kl_etcd_fill_self(const struct kl_etcd *e, struct kl_arena *a, struct kl_etcd_member *m);
// store/etcd/roster.c: what the others said of themselves. fill: of m->id, false when it said
// nothing; forget: those that are members no more.
int kl_etcd_roster_open(struct kl_etcd *e);
void kl_etcd_roster_close(struct kl_etcd *e); // nothing is heard any more
void kl_etcd_roster_free(struct kl_etcd *e);
bool kl_etcd_roster_fill(const struct kl_etcd *e, struct kl_arena *a, struct kl_etcd_member *m);
void kl_etcd_roster_forget(struct kl_etcd *e, const struct kl_raft_status *st);
void kl_etcd_move_leader(struct kl_grpc_rpc *c, struct kl_str msg);
