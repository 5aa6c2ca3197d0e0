// SPDX-License-Identifier: Apache-2.0
// The members of `kinglet etcd --initial-cluster NAME=URL,...`. The one whose name comes first
// begins the cluster and adds the others, which join as `kinglet server --server` does. A member's
// id is made of the cluster's token and its peer URL. What the data directory knows wins later.
#pragma once
#include "cli/etcd_flags.h"
#include "store/raft/members.h"

enum { KL_ETCD_MEMBERS_MAX = 15 };

struct kl_etcd_cluster {
    const char *token;
    bool plain;             // no TLS between members
    struct kl_peers *peers; // NULL: there is no cluster
    uint64_t id;
    struct kl_etcd_member_url {
        const char *name;
        struct kl_etcd_url url;
        char address[300]; // host:port
        uint64_t id;
    } member[KL_ETCD_MEMBERS_MAX];
    int n, self, first;
    bool forms; // this one adds the others
    char mark[4200];
    struct kl_store *store;
    struct kl_raft_change change;
    int at; // of member, being added
};

// Whether the flags ask for one; then f->datastore becomes raft://.
int kl_etcd_cluster_read(struct kl_etcd_cluster *c, struct kl_etcd_flags *f, struct kl_arena *a,
                         struct kl_error *err);
// Before the store opens: the peers, and what the store is to know of them. Blocks.
int kl_etcd_cluster_open(struct kl_etcd_cluster *c, const struct kl_etcd_flags *f,
                         struct kl_store_options *so, struct kl_error *err);
// On a loop, which runs later.
void kl_etcd_cluster_form(struct kl_etcd_cluster *c, struct kl_store *s, struct kl_loop *loop);
// For kl_etcd_options; the cluster is their argument.
uint64_t kl_etcd_cluster_member_id(void *cluster, const char *address);
const char *kl_etcd_cluster_member_name(void *cluster, uint64_t id);
void kl_etcd_cluster_close(struct kl_etcd_cluster *c); // after the store
