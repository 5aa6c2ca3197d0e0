// SPDX-License-Identifier: Apache-2.0
// Between cluster.c and who shows what it knows.
#pragma once
#include "store/etcd/etcd_int.h"

// Term, index and leader as they are now into e. Any thread.
void kl_etcd_cluster_refresh(struct kl_etcd *e);
void kl_etcd_move_leader(struct kl_grpc_rpc *c, struct kl_str msg);
