// SPDX-License-Identifier: Apache-2.0
// What the services share. A service is a table of kl_grpc_method that ends with a NULL path and is
// listed in service_tables (store/etcd/etcd.c); in a callback kl_etcd_of gives the server and
// kl_etcd_loop_of this loop's reader.
#pragma once
#include "store/etcd/etcd.h"
#include "store/etcd/etcd_gen.h" // struct kl_etcd_range_request, kl_etcd_range_request_desc, ...
#include "store/etcd/pages.h"
#include "net/grpc_server.h"

enum {
    KL_ETCD_LISTENERS = 16,
    KL_ETCD_GRPC_OVERHEAD = 512 * 1024, // beyond max_request_bytes, as etcd's grpcOverheadBytes
    KL_ETCD_HEADER_MAX = 48,            // an encoded ResponseHeader without tag and length
    KL_ETCD_COPY_MAX = 8192, // values up to this are copied into the answer, others referenced
};

// One per loop; made when its first request comes.
struct kl_etcd_loop {
    struct kl_etcd *etcd;
    struct kl_loop *loop;
    struct kl_reader *reader;
    void *watch; // store/etcd/watch.c's, closed by kl_etcd_watch_loop_close
    struct kl_task end_task, close_task;
    bool closing;
    struct kl_etcd_waiting *waiting, *last_waiting; // calls that wait for the store, oldest first
    struct kl_etcd_confirming *confirming;          // of this iteration (confirm.c)
    struct kl_etcd_line *lines;                     // calls that wait for other clients (line.h)
    struct kl_etcd_observer *observers;             // of elections (leader.c)
    uv_timer_t timer;
};

// A call that waits for the store, embedded. Ends as etcd's do after 7 s.
struct kl_etcd_waiting {
    struct kl_grpc_rpc *rpc;
    struct kl_etcd_loop *l; // NULL: not in the list
    struct kl_etcd_waiting *prev, *next;
    uint64_t since_ms;
};

struct kl_etcd {
    struct kl_etcd_options o; // defaults filled in; strings are copies
    struct kl_store *store;
    uint64_t cluster_id, member_id;
    bool confirms; // the back end: what is in memory may be old; ask before a linearizable read
    atomic_bool snapshotting; // one at a time
    atomic_uint alarms;       // bits 1 << KL_ALARM_X, where the store keeps none
    // Of the cluster; kl_etcd_cluster_refresh.
    atomic_ullong raft_term, raft_index, raft_applied, leader; // leader 0: none known
    atomic_bool is_learner;
    atomic_llong refreshed_ms;
    struct kl_grpc_server *grpc;
    struct kl_http_server *http[KL_ETCD_LISTENERS];
    int nhttp;
    struct kl_etcd_loop *loops;
    atomic_int left; // listeners, then loops, still to close
    atomic_bool stopping;
    uint32_t deadline_ms;
    void (*done)(void *arg);
    void *done_arg;
    struct kl_task stop_task;
    struct kl_etcd_roster *roster; // NULL: no members tell of themselves
    char header_ids[24];           // cluster_id and member_id, encoded
    size_t header_ids_n;
};

static inline struct kl_etcd *kl_etcd_of(const struct kl_grpc_rpc *c)
{
    return kl_grpc_rpc_arg(c);
}
// This loop's. NULL: out of memory or stopping; the call was finished.
struct kl_etcd_loop *kl_etcd_loop_of(struct kl_grpc_rpc *c);

// ---- requests

// Decodes into the call's arena; strings refer to `msg`, which is borrowed: copy what is kept.
// NULL: the call was finished as grpc-go does (INTERNAL).
void *kl_etcd_decode(struct kl_grpc_rpc *c, const struct kl_proto_desc *d, struct kl_str msg);

// ---- alarms (store/etcd/alarm.c)

unsigned kl_etcd_alarms(const struct kl_etcd *e); // that stand: bits 1 << KL_ALARM_X
void kl_etcd_alarm(struct kl_grpc_rpc *c, struct kl_str msg);
// Tells all of them, and whose they are, later or at once; the members are the call's arena's.
// Fails the call when it cannot.
void kl_etcd_alarms_list(struct kl_grpc_rpc *c, struct kl_etcd_loop *l, bool confirmed,
                         void (*done)(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                                      const struct kl_etcd_alarm_member *v, size_t n));

// ---- answers

void kl_etcd_header_init(struct kl_etcd *e);
// For structs of etcd_gen.h: the header at `rev`.
struct kl_etcd_response_header kl_etcd_header(const struct kl_etcd *e, kl_rev rev);
kl_rev kl_etcd_rev(struct kl_etcd_loop *l); // the newest
// Encodes and replies (unary), or sends one message (streams).
void kl_etcd_reply(struct kl_grpc_rpc *c, const struct kl_proto_desc *d, const void *msg);
int kl_etcd_send(struct kl_grpc_rpc *c, const struct kl_proto_desc *d, const void *msg);

// By hand: field 1, ResponseHeader, with tag and length. Needs KL_ETCD_HEADER_MAX + 2 bytes.
char *kl_etcd_put_header(const struct kl_etcd *e, char *p, kl_rev rev);
size_t kl_etcd_header_size(const struct kl_etcd *e, kl_rev rev); // with tag and length
// mvccpb.KeyValue as field number `field` (< 16), with tag and length. A deletion has a key and
// mod_revision only.
size_t kl_etcd_kv_size(const struct kl_kv *kv, bool keys_only);         // without tag and length
char *kl_etcd_put_whole_kv(char *p, int field, const struct kl_kv *kv); // kl_etcd_kv_field_size
void kl_etcd_put_full_header(struct kl_grpc_out *o, const struct kl_etcd *e, kl_rev rev);
void kl_etcd_put_kv(struct kl_grpc_out *o, int field, const struct kl_kv *kv, bool keys_only);

// Ends the call with etcd's code and message. A store's error: its message when it is etcd's
// ("etcdserver: ..."), else the message that etcd has for that kind of failure.
void kl_etcd_fail(struct kl_grpc_rpc *c, int code, const struct kl_error *err);
const char *kl_etcd_error_text(int code, const struct kl_error *err); // that message
void kl_etcd_fail_grpc(struct kl_grpc_rpc *c, enum kl_grpc_code code, const char *message);

// ---- reading a range (store/etcd/read.c)

// Embedded, zeroed but for what the caller gives.
struct kl_etcd_read {
    struct kl_etcd_loop *l;
    struct kl_grpc_rpc *rpc;                // for its arena; the caller holds a reference
    const struct kl_etcd_range_request *rq; // with its strings: lives until done
    void (*done)(struct kl_etcd_read *rd);  // exactly once, maybe inside kl_etcd_read_start
    void *arg;
    bool hold; // never pages_again

    int code;
    struct kl_error err;
    kl_rev head; // for the header
    int64_t count;
    bool more;
    // What is to be answered: kvs[0..n), or without an array the first n keys of the range in view;
    // or, when they are too many to be held, the first n of the range at its old revision that pass
    // (store/etcd/pages.h), which are to be read again.
    struct kl_kv **kvs;
    bool pages_again;
    size_t n;
    size_t kv_bytes; // of all as elements of field 2, with tags and lengths

    // read.c's
    struct kl_view *view; // borrowed until control returns to the loop, or counted
    bool counted, owned;  // the view; the references in kvs
    size_t cap, at;
    struct kl_iter it;
    struct kl_task task;
    struct kl_etcd_pages *pages;
    size_t held_bytes, last_bytes;
};
void kl_etcd_read_start(struct kl_etcd_read *rd);
void kl_etcd_read_keep(struct kl_etcd_read *rd); // what it found stays when control goes
void kl_etcd_read_fini(struct kl_etcd_read *rd);
// What of kvs (filled by a transaction) the request's filters, order and limit leave.
void kl_etcd_read_refine(const struct kl_etcd_range_request *rq, struct kl_kv **kvs, size_t *n,
                         bool *ret_more);
bool kl_etcd_range_passes(const struct kl_etcd_range_request *rq, const struct kl_kv *kv);
bool kl_etcd_range_is_plain(const struct kl_etcd_range_request *rq);  // no filter, no order
size_t kl_etcd_kv_field_size(const struct kl_kv *kv, bool keys_only); // with tag and length

// ---- confirming the head (store/etcd/confirm.c); the loop's own

// Who wants to read what is no older than now, embedded. When cb comes with 0, later, the reader's
// view is new enough. It comes exactly once; err may be NULL.
struct kl_etcd_confirm {
    void (*cb)(struct kl_etcd_confirm *c, int code, const struct kl_error *err);
    struct kl_etcd_confirm *next;
};
int kl_etcd_confirm(struct kl_etcd_loop *l, struct kl_etcd_confirm *c); // KL_ENOMEM

// ---- waiting (store/etcd/waiting.c); the loop's own

void kl_etcd_waiting_init(struct kl_etcd_loop *l);
void kl_etcd_waiting_close(struct kl_etcd_loop *l, uv_close_cb closed);
void kl_etcd_waiting_begin(struct kl_etcd_loop *l, struct kl_etcd_waiting *w,
                           struct kl_grpc_rpc *rpc);
void kl_etcd_waiting_end(struct kl_etcd_waiting *w); // idempotent

// ---- services, and what the server does outside of gRPC

extern const struct kl_grpc_method kl_etcd_kv_methods[], kl_etcd_lease_methods[],
    kl_etcd_maintenance_methods[], kl_etcd_cluster_methods[], kl_etcd_auth_methods[],
    kl_etcd_watch_methods[], kl_etcd_lock_methods[], kl_etcd_election_methods[];
// store/etcd/watch.c: ends this loop's streams, which would never end by themselves; then, when
// they have closed, lets go of what the loop kept for them.
void kl_etcd_watch_loop_end(struct kl_etcd_loop *l);
void kl_etcd_watch_loop_close(struct kl_etcd_loop *l);
void kl_etcd_line_loop_end(struct kl_etcd_loop *l); // store/etcd/line.c: as the former
void kl_etcd_observe_loop_end(struct kl_etcd_loop *l);
void kl_etcd_serve_http(struct kl_etcd *e, struct kl_http_req *r); // /health, /version, /metrics
// store/etcd/gateway.c: the JSON gateway's. False: not its path.
bool kl_etcd_gateway(struct kl_etcd *e, struct kl_http_req *r);
