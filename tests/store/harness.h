// SPDX-License-Identifier: Apache-2.0
// What every store test needs: a store on a given back end, clients that are loops of their own,
// blocking calls on them, and collectors of watch events.
#pragma once
#include "etcd_server.h"
#include "store/store.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

extern const struct kl_backend_ops hs_backend_shared; // shared://NAME, half the writes from outside
// On that log, when the stores have peers: `server` believes from now on that `leader` evaluates
// (its own id: itself; KL_LEADER_NONE). Before, nobody does.
void hs_shared_lead(const char *name, uint64_t server, uint64_t leader);
// From hold on `server` sees nothing of what others write, until jump gives it the state of then,
// without what lies between: a snapshot that was installed.
void hs_shared_hold(const char *name, uint64_t server);
void hs_shared_jump(const char *name, uint64_t server);
// The log loses all but its first `keep` batches and goes on at `rev`, as a database that was
// restored from a backup does.
void hs_shared_set_back(const char *name, size_t keep, kl_rev rev);

struct ts_server;

struct hs_clock {
    struct kl_store_clock clock;
    atomic_llong mono_ms, wall_ms;
};

// A store under test. On the back ends "shared", "postgres2" and "mysql2" writes alternate between
// two stores on one log, and the first one is what is read: half of its batches arrive from
// outside.
struct hs_store {
    const char *backend;
    char dir[64], url[192];
    struct ts_server *server; // postgres, mysql: of the whole program (servers.h)
    char db[32];              // this store's own database there
    struct es_server remote;  // etcd, kinglet-etcd: of this store
    struct kl_store_options o;
    struct kl_store *s, *other;
    atomic_uint turn;
};

// A loop with a reader for each store.
struct hs_client {
    struct hs_store *hs;
    struct kl_loop *loop;
    struct kl_reader *reader, *other;
};

// A fresh store on "memory", "sqlite", "shared", "postgres", "mysql", "postgres2", "mysql2"; on a
// remote "etcd" or "kinglet-etcd", "etcd2" and "kinglet-etcd2".
void hs_open(struct hs_store *hs, const char *backend, const struct kl_store_options *o);
bool hs_is_sql(const char *backend);    // on a database server
bool hs_is_remote(const char *backend); // on an etcd
void hs_reopen(struct hs_store *hs);    // clean stop and start (not for memory)
void hs_stop(struct hs_store *hs);
void hs_close(struct hs_store *hs); // and remove its files
void hs_remove(const char *dir);
void hs_clock_init(struct hs_clock *c);
void hs_clock_add(struct hs_clock *c, int64_t ms);

// For who calls on and on beside a writer: a short sleep every now and then (n counts the calls).
// Threads that only ever wake each other can keep two cores from all others for minutes (seen with
// Linux 6.18), and what would stop them never runs.
void hs_breathe(unsigned n);
void hs_client_open(struct hs_client *c, struct hs_store *hs);
void hs_client_detach(struct hs_client *c); // closes the readers; the loop goes on
void hs_client_close(struct hs_client *c);
// Runs fn(arg) on the client's loop and waits for it.
void hs_run(struct hs_client *c, void (*fn)(struct hs_client *c, void *arg), void *arg);

// Blocking. The write is visible to hs_* reads afterwards. Returns txn->code.
int hs_txn(struct hs_client *c, struct kl_txn *txn);
// -1: no condition; otherwise mod_rev must be this. Returns the revision, or a negative code; a
// failed compare is KL_ECONFLICT.
kl_rev hs_put(struct hs_client *c, const char *key, const char *value, kl_rev mod_rev);
kl_rev hs_put_lease(struct hs_client *c, const char *key, const char *value, int64_t lease);
kl_rev hs_put_bytes(struct hs_client *c, struct kl_str key, struct kl_str value, kl_rev mod_rev);
kl_rev hs_del(struct hs_client *c, const char *key, kl_rev mod_rev);
struct kl_kv *hs_get(struct hs_client *c, const char *key); // a reference, or NULL
kl_rev hs_rev(struct hs_client *c);
int64_t hs_count(struct hs_client *c, const char *key, const char *end);
int hs_compact_logical(struct hs_client *c, kl_rev rev);
int hs_compact(struct hs_client *c, kl_rev rev); // waits for the rows to go
int hs_lease(struct hs_client *c, struct kl_lease_req *q);
int hs_range_at(struct hs_client *c, struct kl_range_at *q);

struct hs_event {
    char *key, *value, *prev; // value NULL: deleted; prev: value before, or NULL
    kl_rev rev, create_rev;
    int64_t version;
};

// Watches the machine: the longest that a thread that sleeps for moments was late, from start to
// stop in milliseconds. Virtual machines stand still for a minute now and then; what then ran out
// of time is no fault. HS_PULSE_STILL_MS is shorter than any time-out of the store.
enum { HS_PULSE_STILL_MS = 1000 };
struct hs_pulse {
    pthread_t thread;
    atomic_bool stop;
    int64_t worst_ms;
};
void hs_pulse_start(struct hs_pulse *p);
int64_t hs_pulse_stop(struct hs_pulse *p);

// Collects on the client's loop.
struct hs_watch {
    struct kl_watch w;
    struct hs_client *c;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    struct hs_event *ev;
    size_t n, cap;
    int code;        // not 0: failed
    kl_rev progress; // newest exact progress revision
    int batch;       // events taken at a time
    bool paused;     // takes nothing until hs_watch_go
    bool early;      // an event at or below a progress revision came: a bug
};

int hs_watch_start(struct hs_watch *w, struct hs_client *c, const char *key, const char *end,
                   kl_rev start_rev);
void hs_watch_pause(struct hs_watch *w);
void hs_watch_go(struct hs_watch *w);
void hs_watch_wait(struct hs_watch *w, size_t n); // until n events or failure; asserts in time
void hs_watch_wait_rev(struct hs_watch *w, kl_rev rev); // until progress reaches rev
void hs_watch_stop(struct hs_watch *w);                 // keeps what was collected
void hs_watch_fini(struct hs_watch *w);

// xorshift with a seed that is printed by whoever fails.
uint64_t hs_rand(uint64_t *state);
uint64_t hs_seed(void);  // from STORE_SEED or the clock; printed
int hs_scale(int quick); // times STORE_SCALE
