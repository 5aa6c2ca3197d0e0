// SPDX-License-Identifier: Apache-2.0
// One server: what the product's raft.c, state.c and seed.c do with threads, SQLite and files.
#include "sim.h"
#include "store/raft/log_int.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ELECTION_MS = 300, HEARTBEAT_MS = 30, SEGMENT_BYTES = 8192 };

struct sim *sim_running; // one at a time in a process

static struct sim_server *of_raft(void *arg)
{
    return KL_CONTAINER_OF(arg, struct sim_server, r);
}

struct sim_server *sim_server_by_id(struct sim *s, uint64_t id)
{
    for (int i = 0; i < SIM_SERVERS; i++) {
        if (s->server[i].used && s->server[i].id == id)
            return &s->server[i];
    }
    return NULL;
}

struct sim_server *sim_server_leader(struct sim *s)
{
    struct sim_server *found = NULL;
    uint64_t term = 0;
    for (int i = 0; i < SIM_SERVERS; i++) {
        struct kl_raft_node_state st;
        struct sim_server *v = &s->server[i];
        if (!v->up)
            continue;
        kl_raft_node_state(v->r.node, &st);
        if (st.ready && st.term > term) {
            found = v;
            term = st.term;
        }
    }
    return found;
}

// ---- queues: the log's thread and SQLite's ----

static void plan_work(struct sim_server *v, int q)
{
    struct sim *s = v->sim;
    struct sim_queue *k = &v->queue[q];
    if (k->due || k->worked || !k->first)
        return;
    int64_t us = q == KL_RAFT_DISK
                     ? s->disk_us + (int64_t)sim_random(s, (uint64_t)s->disk_jitter_us + 1)
                     : (int64_t)sim_random(s, (uint64_t)s->db_us + 1);
    k->due = true;
    sim_post(s, us,
             (struct sim_event){.kind = SIM_WORK, .server = v->place, .run = v->run, .queue = q});
}

static void push_item(struct sim_server *v, int q, struct kl_raft_job *j, struct kl_raft_write *w)
{
    struct sim_item *it = calloc(1, sizeof(*it));
    it->job = j;
    it->write = w;
    *v->queue[q].end = it;
    v->queue[q].end = &it->next;
    if (v->up)
        plan_work(v, q);
}

void sim_server_write(struct sim_server *v, struct kl_raft_write *w)
{
    push_item(v, KL_RAFT_STATE, NULL, w);
}

static struct sim_item *pop_item(struct sim_queue *k)
{
    struct sim_item *it = k->first;
    k->first = it->next;
    if (!k->first)
        k->end = &k->first;
    return it;
}

void sim_server_write_now(struct sim_server *v, const struct kl_raft_write *w)
{
    if (v->nversions == SIM_DB_VERSIONS) {
        v->durable = v->version[0];
        memmove(v->version, v->version + 1, (SIM_DB_VERSIONS - 1) * sizeof(v->version[0]));
        v->nversions--;
    }
    v->version[v->nversions++] = v->db;
    v->db.index = w->index;
    v->db.term = w->term;
    v->db.chain = w->chain;
    v->db.state = w->state;
    if (w->conf.base && w->conf.len <= sizeof(v->db.conf)) {
        v->db.conf_index = w->conf_index;
        v->db.nconf = w->conf.len;
        memcpy(v->db.conf, w->conf.base, w->conf.len);
    }
    if (w->batch)
        v->db.rev = w->batch->last_rev;
}

static void make_durable(struct sim_server *v)
{
    v->durable = v->db;
    v->nversions = 0;
}

static void run_work(struct sim_server *v, int q)
{
    struct sim_queue *k = &v->queue[q];
    k->due = false;
    for (int i = 0; i < 8 && k->first && k->first->write; i++) {
        struct sim_item *it = pop_item(k);
        sim_server_write_now(v, it->write);
        atomic_fetch_sub(&v->r.lag, it->write->bytes);
        kl_raft_write_free(it->write);
        free(it);
    }
    if (k->first && k->first->job) {
        k->first->job->work(k->first->job);
        k->worked = true;
        sim_post(
            v->sim, 1 + (int64_t)sim_random(v->sim, 300),
            (struct sim_event){.kind = SIM_DONE, .server = v->place, .run = v->run, .queue = q});
    } else {
        plan_work(v, q);
    }
}

static void open_gate(struct sim_server *v)
{
    if (v->sim->o.without == SIM_GATE && v->r.node)
        v->r.node->writing = 0;
}

static void run_done(struct sim_server *v, int q)
{
    struct sim_queue *k = &v->queue[q];
    struct sim_item *it = pop_item(k);
    k->worked = false;
    if (v->sim->o.without == SIM_GATE && q == KL_RAFT_DISK)
        v->r.node->writing = 1;
    it->job->done(it->job);
    open_gate(v);
    free(it);
    if (v->up)
        plan_work(v, q);
}

// ---- the node's environment ----

static void env_run(void *arg, enum kl_raft_queue q, struct kl_raft_job *j)
{
    struct sim_server *v = of_raft(arg);
    open_gate(v);
    push_item(v, (int)q, j, NULL);
}

static int64_t env_now(void *arg)
{
    return of_raft(arg)->sim->now / 1000;
}

static uint64_t env_random(void *arg)
{
    return sim_random(of_raft(arg)->sim, 0);
}

static int env_send(void *arg, uint64_t to, struct kl_bytes *msg)
{
    struct sim_server *v = of_raft(arg);
    sim_check_sent(v, to, kl_bytes_str(msg));
    return sim_send(v->sim, v, to, KL_PEER_RAFT, msg);
}

static void env_soon(void *arg)
{
    struct sim_server *v = of_raft(arg);
    sim_post(v->sim, 1 + (int64_t)sim_random(v->sim, 200),
             (struct sim_event){.kind = SIM_SOON, .server = v->place, .run = v->run});
}

// The process ends; here at the end of the event.
void sim_server_fatal(void *arg, const struct kl_error *err)
{
    struct sim_server *v = of_raft(arg);
    if (!v->up || v->dying)
        return;
    v->dying = true;
    if (v->r.node)
        v->r.node->stopping = true;
    sim_trace(v->sim, v->place, "ends", (uint64_t)-err->code, 0, 0);
    if (err->code != KL_EIO && err->code != KL_ENOSPC && err->code != KL_ENOMEM)
        sim_break(v->sim, "a server gave up", "%s", err->msg);
}

// ---- the state machine's surroundings ----

static int apply(void *arg, uint64_t index, uint64_t term, const void *p, size_t n)
{
    struct sim_server *v = of_raft(arg);
    if (!v->up || v->dying)
        return 0;
    sim_check_entry(v, index, term, p, n);
    bool old = index <= v->r.applied;
    int r = kl_raft_fsm_apply(arg, index, term, p, n);
    if (!r && !old)
        sim_check_applied(v, index, term);
    return r;
}

static int save(void *arg, uint64_t index)
{
    struct sim_server *v = of_raft(arg);
    if (v->disk.dead)
        return KL_EIO;
    make_durable(v);
    v->sim->snapshots_taken++;
    return 0;
}

static void take_db(struct sim_server *v)
{
    struct kl_raft *r = &v->r;
    r->applied = r->written = v->db.index;
    r->applied_term = v->db.term;
    r->chain = v->db.chain;
    r->state = v->db.state;
    r->rev = v->db.rev;
    r->conf_index = v->db.conf_index;
}

static int restored(void *arg, uint64_t index)
{
    struct sim_server *v = of_raft(arg);
    if (!v->installed)
        return 0;
    v->installed = false;
    take_db(v);
    v->sim->installs++;
    sim_trace(v->sim, v->place, "installed", v->db.index, v->db.term, (uint64_t)v->db.rev);
    kl_raft_propose_jumped(&v->r, v->db.index, v->db.rev);
    return 0;
}

static void fetch(void *arg, uint64_t from)
{
    struct sim_server *v = of_raft(arg);
    v->fetching = from;
    sim_trace(v->sim, v->place, "fetches from", from, 0, 0);
    sim_post(v->sim, 1000 + (int64_t)sim_random(v->sim, 300000),
             (struct sim_event){.kind = SIM_FETCHED, .server = v->place, .run = v->run});
}

static bool has_state(const struct sim_server *from)
{
    return from && from->up && from->db.index && from->db.nconf;
}

static void make_manifest(struct sim_db *db, struct kl_raft_manifest *ret)
{
    *ret = (struct kl_raft_manifest){.index = db->index,
                                     .term = db->term,
                                     .conf_index = db->conf_index,
                                     .conf = db->conf,
                                     .nconf = db->nconf,
                                     .data = &db->index,
                                     .ndata = sizeof(db->index)};
}

static void run_fetched(struct sim_server *v)
{
    struct sim *s = v->sim;
    struct sim_server *from = sim_server_by_id(s, v->fetching);
    struct kl_raft_manifest m;
    if (!has_state(from) || s->cut[from->place][v->place] || s->cut[v->place][from->place]) {
        kl_raft_node_fetched(v->r.node, KL_EUNAVAILABLE, NULL);
        return;
    }
    v->ready = from->db;
    v->has_ready = true;
    make_manifest(&v->ready, &m);
    kl_raft_node_fetched(v->r.node, 0, &m);
}

static int install(void *arg)
{
    struct sim_server *v = of_raft(arg);
    if (v->disk.dead || !v->has_ready)
        return KL_EIO;
    v->db = v->ready;
    make_durable(v);
    v->has_ready = false;
    v->installed = true;
    return 0;
}

static void poll_all(struct sim_server *v)
{
    if (!v->up || v->dying)
        return;
    kl_raft_propose_poll(&v->r);
    kl_raft_read_poll(&v->r);
}

static void on_changed(void *arg)
{
    poll_all(of_raft(arg));
}

static void on_message(void *arg, uint64_t from, struct kl_str msg)
{
}

// ---- life ----

void sim_server_prepare(struct sim *s, int place, bool joins)
{
    struct sim_server *v = &s->server[place];
    if (v->used)
        rfs_fini(&v->disk);
    free(v->log);
    unsigned run = v->run;
    memset(v, 0, sizeof(*v));
    v->sim = s;
    v->place = place;
    v->id = s->next_id++;
    v->run = run + 1;
    v->used = true;
    v->joins = joins;
    v->db.rev = v->durable.rev = 1;
    rfs_init(&v->disk, sim_random(s, 0));
    v->disk.fs.segment_bytes = SEGMENT_BYTES;
    for (int q = 0; q < 2; q++)
        v->queue[q].end = &v->queue[q].first;
    v->deferred_end = &v->deferred;
}

static int write_first(struct sim_server *v, const struct raft_buffer *conf)
{
    struct kl_raft_log *l;
    struct kl_raft_found found;
    struct kl_error err;
    struct kl_raft_meta m = {.term = 1, .server_id = v->id};
    struct kl_raft_entry e = {1, 1, RAFT_CHANGE, conf->base, conf->len};
    int r = kl_raft_log_open("d", &v->disk.fs, &l, &found, &err);
    if (r)
        return r;
    kl_raft_found_fini(&found);
    r = kl_raft_log_set_meta(l, &m, &err);
    if (!r)
        r = kl_raft_log_append(l, &e, 1, &err);
    kl_raft_log_close(l);
    return r;
}

int sim_server_bootstrap(struct sim *s, int n)
{
    struct raft_configuration c;
    struct raft_buffer b;
    char address[24];
    int r = 0;
    raft_configuration_init(&c);
    for (int i = 0; i < n; i++) {
        snprintf(address, sizeof(address), "%016llx", (unsigned long long)s->server[i].id);
        raft_configuration_add(&c, s->server[i].id, address, RAFT_VOTER);
    }
    raft_configuration_encode(&c, &b);
    raft_configuration_close(&c);
    for (int i = 0; !r && i < n; i++)
        r = write_first(&s->server[i], &b);
    raft_free(b.base);
    return r;
}

static void free_lists(struct sim_server *v);

static void stopped(void *arg)
{
}

// The node ends as if its process did: nothing that it does from here on reaches anybody.
static void reap(struct sim_server *v)
{
    struct kl_raft *r = &v->r;
    v->up = false;
    v->run++;
    v->disk.dead = true;
    if (r->node && v->sim->o.without == SIM_GATE) { // libraft cannot even end well
        for (int q = 0; q < 2; q++) {
            while (v->queue[q].first)
                free(pop_item(&v->queue[q]));
            v->queue[q].worked = false;
        }
    } else if (r->node) {
        kl_raft_node_stop(r->node, stopped, v);
        for (int q = 0; v->queue[0].first || v->queue[1].first; q = !q) {
            while (v->queue[q].first) {
                bool worked = v->queue[q].worked;
                struct sim_item *it = pop_item(&v->queue[q]);
                v->queue[q].worked = false;
                if (it->job && !worked)
                    it->job->work(it->job);
                if (it->job)
                    it->job->done(it->job);
                kl_raft_write_free(it->write);
                free(it);
            }
        }
        kl_raft_node_free(r->node);
    }
    r->node = NULL;
    v->queue[0].due = v->queue[1].due = false;
    free_lists(v);
    kl_batch_free(r->untaken);
    kl_buf_fini(&r->parts);
    memset(r, 0, sizeof(*r));
    v->dying = v->installed = false;
    v->deferred = NULL;
    v->deferred_end = &v->deferred;
}

static void plan_boot(struct sim_server *v)
{
    sim_post(v->sim, 10000 + (int64_t)sim_random(v->sim, 1500000),
             (struct sim_event){.kind = SIM_BOOT, .server = v->place, .run = v->run});
}

void sim_server_crash(struct sim_server *v, bool power)
{
    struct sim *s = v->sim;
    sim_trace(s, v->place, power ? "power cut" : "killed", v->id, v->term, 0);
    reap(v);
    if (power) {
        rfs_power_cut(&v->disk);
        uint64_t k = sim_random(s, v->nversions + 2);
        v->db = k == 0 ? v->durable : k <= v->nversions ? v->version[k - 1] : v->db;
        make_durable(v);
    }
    v->disk.dead = v->disk.fail_all = false;
    v->disk.die_at = v->disk.fail_at = 0;
    v->paused = 0;
    v->role = 0;
    s->crashes++;
    plan_boot(v);
}

// A fetched state that was not put in place: kl_raft_finish_install.
static void finish_install(struct sim_server *v)
{
    const struct kl_raft_found *f = kl_raft_node_found(v->r.node);
    if (v->has_ready && v->db.index + 1 < f->first_index) {
        v->db = v->ready;
        make_durable(v);
    }
    v->has_ready = false;
}

// A server that joins has the leader's state before it has a log.
static int seed(struct sim_server *v)
{
    struct sim_server *from = sim_server_leader(v->sim);
    struct kl_raft_manifest m;
    struct kl_error err;
    if (!has_state(from))
        return KL_EUNAVAILABLE;
    v->db = from->db;
    make_durable(v);
    make_manifest(&v->db, &m);
    int r = kl_raft_node_seed(v->r.node, &m, true, &err);
    v->joins = r != 0;
    return r;
}

static int start(struct sim_server *v, struct kl_error *err)
{
    struct kl_raft *r = &v->r;
    const struct kl_raft_found *f = kl_raft_node_found(r->node);
    int e = 0;
    err->msg[0] = 0;
    if (v->joins && !(f->nentries || f->first_index > 1))
        e = seed(v);
    if (e)
        return e;
    v->joins = false;
    finish_install(v);
    sim_check_boot(v);
    take_db(v);
    if (v->sim->broken)
        return KL_EIO;
    if (r->applied + 1 < f->first_index && f->first_index > 2)
        return kl_error_set(err, KL_ECORRUPT, "the database ends at %llu, the log begins with %llu",
                            (unsigned long long)r->applied, (unsigned long long)f->first_index);
    bool alone = kl_raft_node_is_alone(r->node);
    e = kl_raft_fsm_replay(r, alone ? UINT64_MAX : kl_raft_node_snapshot(r->node), err);
    r->started = true;
    return e ? e : kl_raft_node_start(r->node, err);
}

void sim_server_boot(struct sim_server *v)
{
    struct sim *s = v->sim;
    struct kl_raft *r = &v->r;
    struct kl_error err = {0};
    struct kl_raft_env env = {r,        env_run,  env_now,         env_random,
                              env_send, env_soon, sim_server_fatal};
    struct kl_raft_machine m = {
        r, apply, kl_raft_fsm_may_snapshot, save, restored, fetch, install, on_changed, on_message};
    struct kl_raft_node_options o = {.id = v->id,
                                     .election_ms = ELECTION_MS,
                                     .heartbeat_ms = HEARTBEAT_MS,
                                     .snapshot_bytes = s->snapshots ? 4000 : 1 << 30,
                                     .snapshot_entries = 24};
    memset(r, 0, sizeof(*r));
    sim_running = s;
    v->core.view = calloc(1, sizeof(*v->core.view)); // with an empty index: all keys are new
    r->core = r->sq.core = &v->core;
    r->sq.reserve_fd = r->lock_fd = -1;
    r->peers = (struct kl_peers *)v;
    r->dir = r->sq.path = s->dir;
    r->id = v->id;
    r->cluster_id = 1;
    r->nonce = sim_random(s, 0);
    r->heads_end = &r->heads;
    r->next_end = &r->next;
    r->behind_end = &r->behind;
    kl_buf_init(&r->parts, KL_RAFT_BODY_MAX);
    v->up = true;
    s->boots++;
    if (s->o.without == SIM_SYNC)
        v->disk.lazy = true;
    int e = kl_raft_node_new("d", &v->disk.fs, &env, &m, &o, &r->node, &err);
    if (!e)
        e = start(v, &err);
    sim_trace(s, v->place, e ? "does not start" : "starts", v->id, (uint64_t)-e, v->r.applied);
    if (e && e != KL_EIO && e != KL_ENOSPC && e != KL_EUNAVAILABLE)
        sim_break(s, "a server does not start", "%llu: %s", (unsigned long long)v->id, err.msg);
    if (e || v->dying || v->disk.dead) {
        sim_server_crash(v, v->disk.dead && sim_chance(s, 500));
        return;
    }
    sim_check(v);
    struct sim_event ev = {.server = v->place, .run = v->run};
    ev.kind = SIM_TICK;
    sim_post(s, (int64_t)sim_random(s, HEARTBEAT_MS * 1000), ev);
    ev.kind = SIM_CLIENT;
    sim_post(s, (int64_t)sim_random(s, 200000), ev);
    ev.kind = SIM_READER;
    sim_post(s, (int64_t)sim_random(s, 200000), ev);
}

static void run_message(struct sim_server *v, const struct sim_event *e)
{
    if (e->channel == KL_PEER_RAFT)
        kl_raft_node_message(v->r.node, e->from, kl_bytes_str(e->msg));
    else
        kl_raft_read_message(&v->r, e->from, kl_bytes_str(e->msg));
}

void sim_server_event(struct sim_server *v, const struct sim_event *e)
{
    struct sim *s = v->sim;
    sim_running = s;
    switch (e->kind) {
    case SIM_TICK:
        sim_post(s, HEARTBEAT_MS * 1000, *e);
        kl_raft_node_tick(v->r.node);
        poll_all(v);
        break;
    case SIM_MESSAGE:
        run_message(v, e);
        break;
    case SIM_WORK:
        run_work(v, e->queue);
        break;
    case SIM_DONE:
        run_done(v, e->queue);
        poll_all(v);
        break;
    case SIM_SOON:
        kl_raft_node_soon(v->r.node);
        break;
    case SIM_FETCHED:
        run_fetched(v);
        break;
    case SIM_CLIENT:
        sim_post(s, 1 + (int64_t)sim_random(s, (uint64_t)s->client_us * 2), *e);
        sim_client(v);
        break;
    case SIM_READER:
        sim_post(s, 1 + (int64_t)sim_random(s, (uint64_t)s->client_us * 4), *e);
        sim_reader(v);
        break;
    default:
        break;
    }
    while (v->deferred && !v->dying) {
        struct kl_task *t = v->deferred;
        v->deferred = t->next;
        if (!v->deferred)
            v->deferred_end = &v->deferred;
        t->run(t);
    }
    open_gate(v);
    if (v->up && !v->dying && !v->disk.dead)
        sim_check(v);
    if (v->up && (v->dying || v->disk.dead))
        sim_server_crash(v, v->disk.dead && sim_chance(s, 600));
}

static void free_lists(struct sim_server *v)
{
    sim_drop_reads(v);
    kl_batch_free(v->batch);
    v->batch = NULL;
    free(v->change);
    v->change = NULL;
    free(v->core.view);
    v->core.view = NULL;
}

void sim_server_free(struct sim_server *v)
{
    if (!v->used)
        return;
    if (v->up)
        reap(v);
    rfs_fini(&v->disk);
    free(v->log);
}
