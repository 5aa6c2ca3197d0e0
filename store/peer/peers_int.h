// SPDX-License-Identifier: Apache-2.0
// The inside of the servers' transport. Everything is the peers' loop's but what `lock` guards.
//
//   peers.c    opening, closing, listening, who is a peer
//   peer.c     one other server: dialling, back-off, the session, what waits for it
//   dial.c     accepting and dialling a connection
//   link.c     one connection: greeting, keep-alive, frames to where they belong
//   deliver.c  messages and changes of state to the handlers' loops
//   stream.c   serving and fetching
//
// A session with a peer is two connections, one dialled by each; it is up while both are, and when
// one breaks the other is closed, so that both servers learn that something may be lost.
#pragma once
#include "net/conn.h"
#include "store/peer/frame.h"
#include "store/peer/peers.h"
#include <pthread.h>

enum {
    KL_PEER_ALIVE_EVERY_MS = 1500,
    KL_PEER_DEAD_MS = 4000, // silence, looked for every ALIVE_EVERY_MS
    KL_PEER_GREETING_MS = 5000,
    KL_PEER_MAX_GREETING = 64, // accepted and not yet known: beyond, the oldest goes
    KL_PEER_MAX_PEERS = 64,
    KL_PEER_MAX_ADDRESS = 300,     // "host:port"
    KL_PEER_FLOW_HIGH = 8 << 20,   // not yet taken by the handlers: reading stops
    KL_PEER_FLOW_LOW = 2 << 20,    // and goes on
    KL_PEER_MAX_SERVING = 8,       // streams at a time
    KL_PEER_STREAM_HIGH = 1 << 20, // bytes of a stream in memory, on each side
    KL_PEER_STREAM_LOW = 256 << 10,
    KL_PEER_MESSAGE_COST = 64, // bytes that a waiting message counts besides its own
};

struct kl_peer_link;
struct kl_peer_flow;
struct kl_peer_receiver;

// What waits for a peer, in order: a ring of cap (a power of two).
struct kl_peer_queue {
    struct {
        struct kl_bytes *bytes;
        uint8_t channel;
    } * v;
    uint32_t head, count, cap;
    size_t bytes;
};

struct kl_peer {
    struct kl_peers *p;
    struct kl_peer *next;
    uint64_t id;
    char address[KL_PEER_MAX_ADDRESS];
    struct kl_peer_link *out, *in; // out: from the first try to dial; in: greeted
    uv_timer_t retry;
    uint32_t backoff_ms, attempt; // attempt: which of a name's addresses
    uint64_t up_since_ms;
    bool removed;
    char complaint[256];        // the last one logged: each is said once
    uint64_t stranger_since_ms; // it says that we are no member; 0: it does not, or it was said
    // Under lock.
    bool up;
    struct kl_peer_queue queue;
    bool flush_posted;
    struct kl_task flush;
    struct kl_peer_notice *down[KL_PEER_CHANNELS]; // made when it came up: telling never fails
};

struct kl_peers {
    atomic_uint refs;
    struct kl_loop *loop;
    uint64_t id, cluster_id, boot;
    bool plain, unnamed;
    struct kl_tls_ctx *server_tls, *client_tls;
    char address[KL_PEER_MAX_ADDRESS];
    int fd;
    uv_poll_t listener;
    uv_timer_t accept_retry;
    struct kl_peer_link *links;
    int greeting;
    bool closing;
    pthread_mutex_t lock;
    pthread_cond_t idle; // fewer streams
    struct kl_peer *peers;
    int npeers;
    bool refusing; // kl_peers_close was called
    struct kl_peer_receiver *receivers[KL_PEER_CHANNELS];
    kl_peer_serve serve;
    void *serve_arg;
    struct kl_peer_out *serving;
    int nserving, nfetching;
};

void kl_peers_unref(struct kl_peers *p);
static inline uint64_t kl_peers_now(const struct kl_peers *p)
{
    return uv_now(kl_loop_uv(p->loop));
}

// ---- peers.c, peer.c
struct kl_peer *kl_peer_find(struct kl_peers *p, uint64_t id); // loop, or under lock
void kl_peer_dial_soon(struct kl_peer *e); // it is there: do not wait out the back-off
void kl_peer_link_up(struct kl_peer *e);   // one of both connections is greeted
// A connection of it is gone. `err` may be NULL.
void kl_peer_link_lost(struct kl_peer *e, struct kl_peer_link *l, const struct kl_error *err);
void kl_peer_fill(struct kl_peer *e, struct kl_peer_link *l);
void kl_peer_free(struct kl_peer *e); // loop; its connections are closed
int kl_peer_new(struct kl_peers *p, uint64_t id, struct kl_peer **ret);
void kl_peer_set_address(struct kl_peer *e, const char *address);

// ---- dial.c, link.c
enum kl_peer_link_kind {
    KL_LINK_ACCEPTED, // until its HELLO
    KL_LINK_OUT,
    KL_LINK_IN,
    KL_LINK_FETCH,
    KL_LINK_SERVE,
};
enum { KL_LINK_PAUSE_SESSION = 1, KL_LINK_PAUSE_FULL = 2 };

struct kl_peer_link {
    struct kl_peers *p;
    struct kl_peer_link *next, **prev;
    enum kl_peer_link_kind kind;
    bool greeted, closed, resolving;
    int paused;           // reasons
    struct kl_peer *peer; // OUT, IN
    uint64_t peer_id, boot;
    struct kl_conn *conn; // NULL: not dialled yet, or gone
    uv_getaddrinfo_t lookup;
    uint64_t began_ms, heard_ms, checked_ms;
    struct kl_frame_reader reader;
    struct kl_peer_message *message; // being read
    struct kl_peer_chunk *chunk;
    char control[KL_FRAME_CONTROL_MAX];
    struct kl_peer_flow *flow;   // IN
    struct kl_peer_out *serving; // SERVE
    struct kl_peer_fetch *fetch; // FETCH
};

int kl_peer_link_accept(struct kl_peers *p, int fd, struct kl_error *err);
// Dials; a failure is told later, never from within. `address`: "host:port"; attempt: which of a
// name's addresses.
int kl_peer_link_dial(struct kl_peers *p, enum kl_peer_link_kind kind, uint64_t id,
                      const char *address, uint32_t attempt, struct kl_peer_link **ret,
                      struct kl_error *err);
extern const struct kl_conn_ops kl_peer_conn_ops;
void kl_peer_link_close(struct kl_peer_link *l); // without telling anybody
void kl_peer_link_free(struct kl_peer_link *l);  // once it is closed and nothing is under way
void kl_peer_link_break(struct kl_peer_link *l, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void kl_peer_link_pause(struct kl_peer_link *l, int reason, bool on);
void kl_peer_link_flush(struct kl_peer_link *l);

// ---- deliver.c
struct kl_peer_message; // on its way to a handler
// NULL: out of memory. The body is to be filled.
struct kl_peer_message *kl_peer_message_new(uint64_t from, uint32_t n, char **ret_body);
void kl_peer_message_free(struct kl_peer_message *m);
// Takes m.
void kl_peer_deliver(struct kl_peer_link *l, uint8_t channel, struct kl_peer_message *m);
struct kl_peer_flow *kl_peer_flow_new(struct kl_peer_link *l);
void kl_peer_flow_end(struct kl_peer_flow *f); // the link goes
// Under lock: tells every handler; up may fail with KL_ENOMEM and has then told nobody.
int kl_peer_tell_up(struct kl_peer *e);
void kl_peer_tell_down(struct kl_peer *e);
void kl_peers_drop_receivers(struct kl_peers *p);

// ---- stream.c
struct kl_peer_chunk *kl_peer_chunk_new(uint32_t n, char **ret_room);
void kl_peer_chunk_free(struct kl_peer_chunk *c);
// 0, or why not (KL_EUNSUPPORTED, KL_ETOOMANY, ...). The thread starts.
int kl_peer_serve_start(struct kl_peer_link *l, struct kl_str name, struct kl_error *err);
void kl_peer_serve_fill(struct kl_peer_link *l);
void kl_peer_serve_gone(struct kl_peer_link *l); // nothing when it serves nothing
struct kl_str kl_peer_fetch_name(const struct kl_peer_fetch *f);
void kl_peer_fetch_data(struct kl_peer_link *l, struct kl_peer_chunk *c); // takes c
// The first one counts; nothing when it fetches nothing.
void kl_peer_fetch_end(struct kl_peer_link *l, int code, struct kl_str text);

// ---- cert.c
// The id in the URI SAN kinglet://peer/ID. KL_EUNAUTHORIZED without one.
int kl_peer_cert_id(SSL *ssl, uint64_t *ret_id, struct kl_error *err);
