// SPDX-License-Identifier: Apache-2.0
// Between the files of the Maintenance service.
#pragma once
#include "store/etcd/etcd_int.h"

void kl_etcd_hash(struct kl_grpc_rpc *c, struct kl_str msg);
void kl_etcd_hash_kv(struct kl_grpc_rpc *c, struct kl_str msg);
void kl_etcd_snapshot(struct kl_grpc_rpc *c, struct kl_str msg); // snapshot.c
void kl_etcd_snapshot_ready(struct kl_grpc_rpc *c);
void kl_etcd_snapshot_close(struct kl_grpc_rpc *c);
