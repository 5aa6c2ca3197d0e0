// SPDX-License-Identifier: Apache-2.0
// The servers of one store talk to each other: mutual TLS 1.3, one connection in each direction
// that is dialled again with back-off, small framed messages by channel, and streams for what is
// big. A server is known by its random 64-bit id, which its certificate carries; addresses may
// change.
//
// Messages of one sender and channel arrive in order and at most once; what was queued when a
// connection broke is lost, and both sides are told. Everything runs on the peers' own loop but
// what says otherwise.
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "base/loop.h"
#include "net/tls.h"

struct kl_peers;

enum kl_peer_channel {
    KL_PEER_RAFT,    // store/raft: raft's messages
    KL_PEER_READ,    // store/raft: "which term are you in?"
    KL_PEER_FORWARD, // store/forward.c: transactions and their answers
    KL_PEER_HEAD,    // store/sql: "the log has grown"
    KL_PEER_MEMBER,  // store/etcd: names and URLs for clients
    KL_PEER_CHANNELS
};

#define KL_PEER_MAX_MESSAGE (16u << 20)
#define KL_PEER_MAX_QUEUE (64u << 20) // bytes waiting for one peer

struct kl_peers_options {
    uint64_t id;                     // this server's, not 0
    uint64_t cluster_id;             // 0: accept whoever the CA signed
    const char *listen_address;      // literal, NULL: every address
    int listen_port;                 // 0: the kernel's choice
    const char *advertise_address;   // "host:port" the others dial; NULL: of the listener
    struct kl_tls_pem ca, cert, key; // cert: URI SAN kinglet://peer/ID (16 hex digits)
    bool unnamed; // certificates carry no ids (etcd's): whoever the CA signed is who it says
    bool insecure_loopback; // tests, and `kinglet etcd` without peer TLS: plain, 127.0.0.1
};

int kl_peers_open(const struct kl_peers_options *o, struct kl_peers **ret_p, struct kl_error *err);
// New connections use these certificates. Any thread.
int kl_peers_renew(struct kl_peers *p, struct kl_tls_pem ca, struct kl_tls_pem cert,
                   struct kl_tls_pem key, struct kl_error *err);
// Blocks; callbacks end before it returns.
void kl_peers_close(struct kl_peers *p);
uint64_t kl_peers_id(const struct kl_peers *p);
const char *kl_peers_address(const struct kl_peers *p); // what the others dial

// Any thread. Adds a server or changes its address; NULL forgets it.
int kl_peers_set(struct kl_peers *p, uint64_t id, const char *address);
bool kl_peers_connected(const struct kl_peers *p, uint64_t id); // any thread; a hint

// Any thread, never blocks: the message goes when it can. KL_EUNAVAILABLE: not connected;
// KL_ETOOMANY: too much is waiting. Takes its own reference.
int kl_peers_send(struct kl_peers *p, uint64_t to, enum kl_peer_channel c, struct kl_bytes *msg);

// Callbacks are posted to `loop`. `msg` is borrowed until it returns.
struct kl_peer_handler {
    struct kl_loop *loop;
    void (*message)(void *arg, uint64_t from, struct kl_str msg);
    void (*state)(void *arg, uint64_t id, bool connected); // may be NULL
    void *arg;
};
// Any thread; returns when no callback of the old handler runs any more (not on its own loop). NULL
// takes it away.
void kl_peers_handle(struct kl_peers *p, enum kl_peer_channel c, const struct kl_peer_handler *h);

// ---- streams: one server asks another for something big (a snapshot) by name ----

// Serving side, on a thread of its own: writes until done; write blocks on back-pressure and fails
// with KL_EIO when the asker is gone.
struct kl_peer_out;
int kl_peer_out_write(struct kl_peer_out *o, const void *p, size_t n);
typedef int (*kl_peer_serve)(void *arg, uint64_t from, struct kl_str name, struct kl_peer_out *out,
                             struct kl_error *err);
void kl_peers_serve(struct kl_peers *p, kl_peer_serve serve, void *arg); // NULL: nobody serves
// Asking side: blocks the calling thread (never a loop's) until the end; sink may fail.
int kl_peers_fetch(struct kl_peers *p, uint64_t from, const char *name,
                   int (*sink)(void *arg, const void *data, size_t n), void *arg,
                   struct kl_error *err);
