// SPDX-License-Identifier: Apache-2.0
// A server's place among the servers of its datastore: its id, the cluster's identity, the other
// servers, and the store, opened in the order in which each needs the one before.
//
//   sqlite, memory      store, identity
//   a shared database   (the first time: store, identity, store closed;) peers, store, identity
//   raft                (joining: identity from the other server;) peers, store, identity
#pragma once
#include "apiserver/identity.h"
#include "store/store.h"
#include <pthread.h>

struct kl_peers;
struct kl_roster;

struct kl_cluster_options {
    struct kl_pki_options pki;     // server_id is found out here
    struct kl_store_options store; // peers and what raft joins by are found out here
    const char *datastore;         // URL
    const char *server;            // https://HOST:PORT of a server to join, or NULL (raft)
    const char *peer_address;      // to listen on; NULL: all
    const char *peer_advertise;    // host that the other servers dial
    int peer_port;
};

struct kl_cluster {
    uint64_t id; // 0: alone on its datastore
    int lock_fd;
    struct kl_pki *pki;
    struct kl_peers *peers;
    struct kl_store *store;
    struct kl_roster *roster; // where there may be others
    char *data_dir;
    pthread_t publisher; // puts the identity of a server that is alone into its store
    bool publishing;
};

// Blocking, before there are loops. One sentence on failure; *ret is closed then.
int kl_cluster_open(const struct kl_cluster_options *o, struct kl_cluster *ret,
                    struct kl_error *err);
void kl_cluster_close(struct kl_cluster *c); // store and peers; the loops still run
void kl_cluster_free(struct kl_cluster *c);  // the rest
