// SPDX-License-Identifier: Apache-2.0
// Every few seconds on the reader's thread: this server's row in kv_peer and the addresses of the
// others, who leads, the database's clock, what of kv_batch nobody needs any more, sizes.
#include "store/sql/sql_int.h"
#include "store/peer/peers.h"
#include "store/store_int.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdio.h>

static struct kl_peers *peers(const struct kl_backend *b)
{
    return kl_core_options(b->core)->peers;
}

static int put_peer(struct kl_backend *b, struct kl_sql_conn *c, struct kl_error *err)
{
    const char *address = peers(b) ? kl_peers_address(peers(b)) : "";
    return kl_sql_exec(c, KL_SQL_PEER_PUT,
                       KL_SQL_PARAMS(KL_SQL_INT(b->id), KL_SQL_BYTES(kl_str(address)),
                                     KL_SQL_BYTES(kl_str("")), KL_SQL_INT(kl_sql_now_ms(b)),
                                     KL_SQL_INT(b->started_ms)),
                       NULL, err);
}

enum { OLD_PEERS = 16, UNKNOWN_LEADER = -1 };

static int read_peers(struct kl_backend *b, struct kl_sql_conn *c, int64_t leader,
                      bool *ret_leader_beats, struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int64_t now = kl_sql_now_ms(b), old[OLD_PEERS];
    uint64_t fresh[KL_SQL_PEERS_MAX];
    char addresses[KL_SQL_PEERS_MAX][KL_SQL_ADDRESS_MAX + 1];
    size_t nold = 0, nfresh = 0;
    int r = kl_sql_query(c, KL_SQL_PEERS, NULL, 0, err);
    if (r)
        return r;
    while ((r = b->d->fetch(c, v, err)) == 1) {
        if (v[0].i == b->id)
            continue;
        int64_t age = now - v[3].i;
        if (v[0].i == leader && age < KL_SQL_LEADER_FRESH_MS)
            *ret_leader_beats = true;
        if (age < KL_SQL_PEER_FRESH_MS && nfresh < KL_SQL_PEERS_MAX) {
            snprintf(addresses[nfresh], sizeof(addresses[0]), "%.*s", KL_PRI(v[1].s));
            fresh[nfresh++] = (uint64_t)v[0].i;
        }
        char address[256];
        if (v[1].s.n && v[1].s.n < sizeof(address) && peers(b) && age < KL_SQL_PEER_OLD_MS) {
            memcpy(address, v[1].s.p, v[1].s.n);
            address[v[1].s.n] = 0;
            kl_peers_set(peers(b), (uint64_t)v[0].i, address);
        } else if (age >= KL_SQL_PEER_OLD_MS && nold < OLD_PEERS) {
            old[nold++] = v[0].i;
        }
    }
    b->d->finish(c);
    for (size_t i = 0; !r && i < nold; i++) {
        if (peers(b))
            kl_peers_set(peers(b), (uint64_t)old[i], NULL);
        r = kl_sql_exec(c, KL_SQL_PEER_DEL, KL_SQL_PARAMS(KL_SQL_INT(old[i])), NULL, err);
    }
    pthread_mutex_lock(&b->mu);
    memcpy(b->peers, fresh, nfresh * sizeof(*fresh));
    memcpy(b->peer_address, addresses, nfresh * sizeof(addresses[0]));
    b->npeers = nfresh;
    pthread_mutex_unlock(&b->mu);
    return r;
}

// ---- the batch leader: one server commits for all that reach it ----
//
// For speed alone: who leads does not matter for what is stored, as every batch is compared with
// the log it stands on. kv_meta.writer names it; its heartbeat keeps it; who finds none takes over.

static void run_leader_changed(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, leader_task);
    atomic_store(&b->leader_posted, false);
    if (!b->closed)
        kl_core_leader_changed(b->core);
}

static void tell_core(struct kl_backend *b)
{
    if (!atomic_exchange(&b->leader_posted, true)) {
        b->leader_task.run = run_leader_changed;
        kl_loop_post(kl_core_loop(b->core), &b->leader_task);
    }
}

// Before the first heartbeat nobody is known to keep the leases.
static void set_keeper(struct kl_backend *b, enum kl_keeper k)
{
    if (atomic_exchange(&b->keeper, k) != (int)k)
        tell_core(b);
}

static void set_leader(struct kl_backend *b, int64_t id)
{
    bool alone = !id && !b->npeers; // only this thread writes it
    set_keeper(b, alone || id == b->id ? KL_KEEPER_SELF : id ? KL_KEEPER_OTHER : KL_KEEPER_NOBODY);
    if (atomic_exchange(&b->leader, id) == id)
        return;
    if (id != UNKNOWN_LEADER && peers(b))
        kl_log(KL_LOG_INFO, "store", "datastore %s: batches are committed by %s %016llx", b->name,
               id == b->id ? "this server" : "server", (unsigned long long)id);
    tell_core(b);
}

static int elect(struct kl_backend *b, struct kl_sql_conn *c, const struct kl_sql_head *head,
                 bool leader_beats, struct kl_error *err)
{
    int64_t rows = 0;
    if (b->read_only || head->writer == b->id || leader_beats) {
        set_leader(b, head->writer);
        return 0;
    }
    int r = kl_sql_exec(c, KL_SQL_LEAD, KL_SQL_PARAMS(KL_SQL_INT(b->id), KL_SQL_INT(head->epoch)),
                        &rows, err);
    if (!r && rows == 1) { // otherwise another server was quicker: the next heartbeat tells
        atomic_store(&b->epoch, head->epoch + 1);
        set_leader(b, b->id);
    }
    return r;
}

uint64_t kl_sql_leader(struct kl_backend *b)
{
    int64_t id = atomic_load(&b->leader);
    // Nobody waits for a leader that cannot be reached: the log takes batches from everyone.
    bool other = id && id != b->id && peers(b) && kl_peers_connected(peers(b), (uint64_t)id);
    return other ? (uint64_t)id : 0;
}

// Another server may have taken over since the last heartbeat, which will tell: until then somebody
// else keeps the leases, so that what is confirmed by reading the log is confirmed for them too.
void kl_sql_note_epoch(struct kl_backend *b, int64_t epoch)
{
    if (peers(b) && epoch != atomic_load(&b->epoch) && atomic_load(&b->leader) == b->id)
        set_leader(b, UNKNOWN_LEADER);
}

enum kl_keeper kl_sql_keeper(struct kl_backend *b)
{
    return (enum kl_keeper)atomic_load(&b->keeper);
}

// Before the first heartbeat.
int kl_sql_look_first(struct kl_backend *b, struct kl_sql_conn *c, struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int64_t now = kl_sql_now_ms(b);
    bool alone = true;
    int r = kl_sql_query(c, KL_SQL_PEERS, NULL, 0, err);
    if (r)
        return r;
    while ((r = b->d->fetch(c, v, err)) == 1)
        alone = alone && (v[0].i == b->id || now - v[3].i >= KL_SQL_PEER_FRESH_MS);
    b->d->finish(c);
    atomic_store(&b->keeper, alone && !r ? KL_KEEPER_SELF : KL_KEEPER_NOBODY);
    return r;
}

static int trim(struct kl_backend *b, struct kl_sql_conn *c, struct kl_error *err)
{
    int64_t rows = 0, before = kl_sql_now_ms(b) - KL_SQL_BATCH_KEEP_MS;
    return kl_sql_exec(c, KL_SQL_TRIM_BATCHES,
                       KL_SQL_PARAMS(KL_SQL_INT(before), KL_SQL_INT(KL_SQL_TRIM_ROWS)), &rows, err);
}

static int read_sizes(struct kl_backend *b, struct kl_sql_conn *c, struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int r = kl_sql_query(c, KL_SQL_SIZES, NULL, 0, err);
    if (r)
        return r;
    r = b->d->fetch(c, v, err);
    if (r == 1) {
        int64_t total = v[0].type == KL_SQL_INT ? v[0].i : 0;
        int64_t used = v[1].type == KL_SQL_INT ? v[1].i : total;
        atomic_store_explicit(&b->db_bytes, total, memory_order_relaxed);
        atomic_store_explicit(&b->used_bytes, used < total ? used : total, memory_order_relaxed);
    }
    b->d->finish(c);
    return r < 0 ? r : 0;
}

static int beat(struct kl_backend *b, struct kl_sql_conn *c, struct kl_error *err)
{
    struct kl_sql_head head;
    int r = kl_sql_read_head(c, false, &head, err);
    if (r)
        return r;
    kl_sql_set_clock(b, &head);
    if (!b->read_only) {
        r = put_peer(b, c, err);
        b->answers |= !r; // there is a row to be removed
    }
    bool leader_beats = false;
    if (!r)
        r = read_peers(b, c, head.writer, &leader_beats, err);
    if (!r && peers(b))
        r = elect(b, c, &head, leader_beats, err);
    else if (!r)
        set_leader(b, leader_beats ? head.writer : 0);
    if (!r && kl_mono_ms() >= b->next_sizes_ms) {
        b->next_sizes_ms = kl_mono_ms() + KL_SQL_HEARTBEAT_MS;
        if (!b->read_only)
            r = trim(b, c, err);
        if (!r)
            r = read_sizes(b, c, err);
    }
    return r;
}

enum { BEAT_TRIES = 4 };

static void run_beat(uv_timer_t *t)
{
    struct kl_backend *b = t->data;
    struct kl_sql_conn *c;
    struct kl_error err;
    int r = kl_sql_session_get(&b->reader, kl_mono_ms(), &c, &err);
    bool got = !r;
    for (int i = 0; got && (!i || (r == KL_EAGAIN && i < BEAT_TRIES)); i++)
        r = beat(b, c, &err); // it may meet other servers' batches and heartbeats
    if (got && r && r != KL_EUNAVAILABLE && !kl_sql_closing(b))
        kl_log(KL_LOG_WARN, "store", "heartbeat: %s", err.msg);
    if (r == KL_EUNAVAILABLE)
        kl_sql_session_drop(&b->reader);
    if (!r || !kl_sql_closing(b))
        b->answers = !r;
}

int kl_sql_status(struct kl_store *s, struct kl_sql_status *ret, struct kl_error *err)
{
    if (s->ops->load != kl_sql_load)
        return kl_error_set(err, KL_EUNSUPPORTED, "the datastore is not a shared database");
    struct kl_backend *b = s->backend;
    const char *mine = peers(b) ? kl_peers_address(peers(b)) : NULL;
    uint64_t leader = (uint64_t)atomic_load(&b->leader);
    *ret = (struct kl_sql_status){.leader = leader, .nmembers = 1};
    ret->members[0] = (struct kl_sql_member){.id = (uint64_t)b->id,
                                             .leader = leader == (uint64_t)b->id,
                                             .self = true,
                                             .connected = true};
    snprintf(ret->members[0].address, sizeof(ret->members[0].address), "%s", mine ? mine : "");
    pthread_mutex_lock(&b->mu);
    for (size_t i = 0; i < b->npeers; i++) {
        struct kl_sql_member *m = &ret->members[ret->nmembers++];
        m->id = b->peers[i];
        m->leader = leader == m->id;
        memcpy(m->address, b->peer_address[i], sizeof(m->address));
        m->connected = peers(b) && kl_peers_connected(peers(b), m->id);
    }
    pthread_mutex_unlock(&b->mu);
    return 0;
}

// ---- "the log has grown" ----

static void run_message(void *arg, uint64_t from, struct kl_str msg)
{
    kl_sql_kick(arg);
}

// With notifications of the database this would be said twice.
void kl_sql_tell_peers(struct kl_backend *b)
{
    if (b->d->listen || !peers(b))
        return;
    struct kl_bytes *msg = kl_bytes_new(kl_str("grown"));
    pthread_mutex_lock(&b->mu);
    for (size_t i = 0; msg && i < b->npeers; i++)
        kl_peers_send(peers(b), b->peers[i], KL_PEER_HEAD, msg); // or they poll
    pthread_mutex_unlock(&b->mu);
    kl_bytes_unref(msg);
}

static void run_start(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, beat_task);
    uv_timer_init(kl_loop_uv(b->reader_loop), &b->beat_timer);
    b->beat_timer.data = b;
    uv_timer_start(&b->beat_timer, run_beat, 0,
                   peers(b) ? KL_SQL_LEADER_BEAT_MS : KL_SQL_HEARTBEAT_MS);
}

void kl_sql_beat_start(struct kl_backend *b)
{
    b->beat_task.run = run_start;
    kl_loop_post(b->reader_loop, &b->beat_task);
    if (!b->d->listen && peers(b))
        kl_peers_handle(
            peers(b), KL_PEER_HEAD,
            &(struct kl_peer_handler){.loop = b->feed_loop, .message = run_message, .arg = b});
}

void kl_sql_beat_stop(struct kl_backend *b)
{
    if (b->started && !b->d->listen && peers(b))
        kl_peers_handle(peers(b), KL_PEER_HEAD, NULL);
}
