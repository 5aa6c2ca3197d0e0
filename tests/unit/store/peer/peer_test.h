// SPDX-License-Identifier: Apache-2.0
// Servers for the tests of the transport: each with a loop that notes what it is told, a CA, and a
// proxy that can cut and freeze connections.
#pragma once
#include "store/peer/peers.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

enum { WAIT_S = 60 };

// ---- certificates
struct ca {
    void *key, *cert;
    char *pem;
};
void ca_init(struct ca *ca);
void ca_fini(struct ca *ca);
struct leaf {
    char *cert, *key;
};
// uri NULL: without one.
void ca_leaf(const struct ca *ca, const char *uri, struct leaf *ret);
void leaf_fini(struct leaf *l);

// ---- a server
struct node {
    uint64_t id;
    struct kl_peers *peers;
    struct kl_loop *loop;
    pthread_mutex_t lock; // over changes of what follows
    pthread_cond_t changed;
    atomic_int ups, downs; // of any peer
    atomic_bool up;        // the newest
    atomic_long messages, bytes;
    _Atomic uint64_t next; // the number that the next message of numbers carries
    atomic_bool disorder;
    bool gate;           // messages wait while it is shut
    atomic_long running; // callbacks now
};
// ca NULL: plain. cert_id: of the certificate, 0: without.
void node_open(struct node *n, uint64_t id, const struct ca *ca, uint64_t cert_id,
               uint64_t cluster);
void node_close(struct node *n);
void node_handle(struct node *n, bool on);      // registers its handler, or takes it away
void node_join(struct node *a, struct node *b); // both know each other; waits until both are up
void node_wait(struct node *n, bool (*done)(struct node *n, long arg), long arg, const char *what);
bool is_up(struct node *n, long ups);
bool is_down(struct node *n, long downs);
bool has_messages(struct node *n, long messages);
// A message that carries a number and is n bytes long (8 or more).
int node_send(struct node *n, uint64_t to, uint64_t number, size_t bytes);

// ---- a proxy in front of an address of 127.0.0.1
struct proxy;
struct proxy *proxy_open(int to_port);
const char *proxy_address(const struct proxy *x);
void proxy_cut(struct proxy *x);             // every connection
void proxy_freeze(struct proxy *x, bool on); // nothing moves, nothing is closed
void proxy_close(struct proxy *x);
int port_of(const char *address);
