// SPDX-License-Identifier: Apache-2.0
// raft://DIR as a back end: opening, the node's environment, closing.
#include "store/raft/raft_int.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int64_t kl_raft_now(void)
{
    return kl_mono_ms();
}

// The process ends: what it would answer from here on cannot be relied on. Nothing is lost that the
// log has, and a supervisor starts it again.
void kl_raft_fatal(struct kl_raft *r, const struct kl_error *err)
{
    kl_log(KL_LOG_ERROR, "raft", "the server ends: %s", err->msg);
    _exit(1);
}

// ---- from the workers to the core's loop ----

static void run_wake(struct kl_task *t)
{
    struct kl_raft_wake *w = KL_CONTAINER_OF(t, struct kl_raft_wake, task);
    pthread_mutex_lock(&w->mu);
    struct kl_raft *r = w->r;
    struct kl_raft_job *done = w->done;
    bool tick = w->tick, drained = w->drained;
    w->done = NULL;
    w->done_end = &w->done;
    w->posted = w->tick = w->drained = false;
    pthread_mutex_unlock(&w->mu);
    if (!r) {
        pthread_mutex_destroy(&w->mu);
        free(w);
        return;
    }
    for (struct kl_raft_job *j = done, *next; j; j = next) {
        next = j->next;
        j->done(j);
    }
    if (drained && !r->closing)
        kl_raft_node_hold(r->node, false);
    if (tick && !r->closing)
        kl_raft_node_tick(r->node);
    if (!r->closing) {
        kl_raft_propose_poll(r);
        kl_raft_read_poll(r);
        kl_raft_members_poll(r);
        kl_raft_scrub_poll(r);
    }
}

static void post_wake(struct kl_raft_wake *w)
{
    if (w->posted)
        return;
    w->posted = true;
    w->task.run = run_wake;
    kl_loop_post(w->loop, &w->task);
}

// NULL: SQLite has caught up.
void kl_raft_post_done(struct kl_raft *r, struct kl_raft_job *j)
{
    struct kl_raft_wake *w = r->wake;
    pthread_mutex_lock(&w->mu);
    if (j) {
        j->next = NULL;
        *w->done_end = j;
        w->done_end = &j->next;
    } else {
        w->drained = true;
    }
    post_wake(w);
    pthread_mutex_unlock(&w->mu);
}

// ---- the node's environment ----

static void run_work(struct kl_task *t)
{
    struct kl_raft_job *j = KL_CONTAINER_OF(t, struct kl_raft_job, task);
    j->work(j);
    kl_raft_post_done(j->env, j);
}

static void env_run(void *arg, enum kl_raft_queue q, struct kl_raft_job *j)
{
    struct kl_raft *r = arg;
    j->env = r;
    j->task.run = run_work;
    kl_loop_post(q == KL_RAFT_DISK ? r->log_loop : r->sq.loop, &j->task);
}

static int64_t env_now(void *arg)
{
    return kl_raft_now();
}

static uint64_t env_random(void *arg)
{
    return kl_rand_u64();
}

static int env_send(void *arg, uint64_t to, struct kl_bytes *msg)
{
    struct kl_raft *r = arg;
    return r->peers ? kl_peers_send(r->peers, to, KL_PEER_RAFT, msg) : KL_EUNAVAILABLE;
}

static void run_soon(struct kl_task *t)
{
    struct kl_raft *r = KL_CONTAINER_OF(t, struct kl_raft, soon);
    r->soon_posted = false;
    if (!r->closing)
        kl_raft_node_soon(r->node);
}

static void env_soon(void *arg)
{
    struct kl_raft *r = arg;
    if (r->soon_posted || r->closing)
        return;
    r->soon_posted = true;
    r->soon.run = run_soon;
    kl_loop_defer(kl_core_loop(r->core), &r->soon);
}

static void env_fatal(void *arg, const struct kl_error *err)
{
    kl_raft_fatal(arg, err);
}

static void run_told(struct kl_task *t)
{
    struct kl_raft *r = KL_CONTAINER_OF(t, struct kl_raft, told);
    r->telling = false;
    if (!r->closing)
        kl_core_leader_changed(r->core);
}

static uint64_t get_leader(struct kl_backend *b)
{
    struct kl_raft *r = kl_raft_of(b);
    struct kl_raft_node_state st;
    if (!r->started)
        return KL_LEADER_NONE;
    kl_raft_node_state(r->node, &st);
    return st.ready ? 0 : st.leader && st.leader != r->id ? st.leader : KL_LEADER_NONE;
}

static void on_changed(void *arg)
{
    struct kl_raft *r = arg;
    uint64_t leader = get_leader(&r->sq);
    if (leader != r->told_leader) {
        r->told_leader = leader;
        if (!r->telling) {
            r->telling = true;
            r->told.run = run_told;
            kl_loop_defer(kl_core_loop(r->core), &r->told);
        }
    }
    bool behind = atomic_load_explicit(&r->lag, memory_order_relaxed) >= KL_RAFT_LAG_HIGH;
    if (behind && leader)
        kl_raft_node_hold(r->node, true);
    kl_raft_propose_poll(r);
    kl_raft_read_poll(r);
}

static void on_raft_message(void *arg, uint64_t from, struct kl_str msg)
{
    struct kl_raft *r = arg;
    if (!r->closing)
        kl_raft_node_message(r->node, from, msg);
}

// ---- opening ----

static int make_dirs(char *path, struct kl_error *err)
{
    for (char *p = strchr(path + 1, '/');; p = strchr(p + 1, '/')) {
        if (p)
            *p = 0;
        int e = mkdir(path, 0700) ? errno : 0;
        if (e && e != EEXIST) {
            kl_error_errno(err, e, "datastore directory %s", path);
            if (p)
                *p = '/';
            return err ? err->code : KL_EIO;
        }
        if (!p)
            return 0;
        *p = '/';
    }
}

int kl_raft_dir_lock(const char *dir, int *ret_fd, struct kl_error *err)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return kl_error_errno(err, errno, "datastore %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        close(fd);
        return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s is in use by another process", dir);
    }
    *ret_fd = fd;
    return 0;
}

static int open_node(struct kl_raft *r, struct kl_error *err)
{
    const struct kl_store_options *o = kl_core_options(r->core);
    struct kl_raft_env env = {
        .arg = r,
        .run = env_run,
        .now_ms = env_now,
        .random = env_random,
        .send = env_send,
        .soon = env_soon,
        .fatal = env_fatal,
    };
    struct kl_raft_machine m = {
        .arg = r,
        .apply = kl_raft_fsm_apply,
        .may_snapshot = kl_raft_fsm_may_snapshot,
        .save = kl_raft_fsm_save,
        .restored = kl_raft_fsm_restored,
        .fetch = kl_raft_fetch,
        .install = kl_raft_install,
        .changed = on_changed,
        .message = kl_raft_member_message,
    };
    unsigned election = o->raft_election_ms > 0 ? (unsigned)o->raft_election_ms : 1000;
    r->heartbeat_ms = election / KL_RAFT_HEARTBEATS ? election / KL_RAFT_HEARTBEATS : 1;
    struct kl_raft_node_options no = {
        .id = r->id,
        .election_ms = election,
        .heartbeat_ms = r->heartbeat_ms,
        .snapshot_bytes = o->raft_snapshot_bytes ? o->raft_snapshot_bytes : 16 << 20,
        .snapshot_entries = 4096,
    };
    const struct kl_raft_fs *fs = o->no_fsync ? &kl_raft_fs_unsafe : &kl_raft_fs_disk;
    return kl_raft_node_new(r->dir, fs, &env, &m, &no, &r->node, err);
}

// A directory that was never a server's, or one whose state must come from the others.
static int begin_state(struct kl_raft *r, struct kl_error *err)
{
    const struct kl_store_options *o = kl_core_options(r->core);
    const struct kl_raft_found *f = kl_raft_node_found(r->node);
    if (kl_raft_take_reseed(r))
        return kl_raft_seed(r, 0, true, err);
    if (f->any && (f->nentries || f->first_index > 1))
        return 0;
    if (o->raft_join)
        return kl_raft_seed(r, o->raft_from, true, err); // its id may have voted before
    return kl_raft_node_bootstrap(r->node, err);
}

// The log or the database is damaged. When there are others, they have what it held.
static void ask_others(struct kl_raft *r, struct kl_error *err)
{
    struct kl_error ignored;
    if (!r->node)
        kl_raft_state_open(r, &ignored); // knows the members
    if (!kl_raft_mark_reseed(r))
        kl_error_wrap(err, "the state is fetched from another server at the next start");
}

static int check_state(struct kl_raft *r, struct kl_error *err)
{
    const struct kl_raft_found *f = kl_raft_node_found(r->node);
    // What the log does not have any more must be in the database.
    uint64_t need = f->first_index - 1;
    if (r->applied < need && need > 1)
        return kl_error_set(err, KL_ECORRUPT,
                            "datastore %s: the database ends at entry %llu and the log begins with "
                            "%llu",
                            r->dir, (unsigned long long)r->applied,
                            (unsigned long long)f->first_index);
    // The only voter's log is committed to its end, everybody's to the snapshot, from where libraft
    // goes on.
    bool alone = kl_raft_node_is_alone(r->node);
    return kl_raft_fsm_replay(r, alone ? UINT64_MAX : kl_raft_node_snapshot(r->node), err);
}

static void close_raft(struct kl_backend *b);

static int open_raft(struct kl_store *core, struct kl_str rest, struct kl_backend **ret_b,
                     struct kl_error *err)
{
    ptrdiff_t query = kl_str_chr(rest, '?');
    if (query >= 0)
        rest.n = (size_t)query;
    while (rest.n > 1 && rest.p[rest.n - 1] == '/')
        rest.n--;
    if (!rest.n || rest.n > 3000)
        return kl_error_set(err, KL_EINVALID, "datastore raft://%.*s: a directory is needed",
                            KL_PRI(rest));
    struct kl_raft *r = calloc(1, sizeof(*r));
    if (!r)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    r->core = r->sq.core = core;
    r->sq.reserve_fd = r->lock_fd = -1;
    r->told_leader = KL_LEADER_NONE;
    r->heads_end = &r->heads;
    r->next_end = &r->next;
    r->behind_end = &r->behind;
    r->changes_end = &r->changes;
    r->writes_end = &r->writes;
    r->nonce = kl_rand_u64();
    kl_buf_init(&r->parts, KL_RAFT_BODY_MAX);
    pthread_mutex_init(&r->status_mu, NULL);
    r->peers = kl_core_options(core)->peers;
    r->dir = strndup(rest.p, rest.n);
    r->sq.path = malloc(rest.n + 16);
    r->wake = calloc(1, sizeof(*r->wake));
    if (!r->dir || !r->sq.path || !r->wake) {
        free(r->wake);
        r->wake = NULL;
        close_raft(&r->sq);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    pthread_mutex_init(&r->wake->mu, NULL);
    r->wake->done_end = &r->wake->done;
    r->wake->r = r;
    r->wake->loop = kl_core_loop(core);
    snprintf(r->sq.path, rest.n + 16, "%s/state.db", r->dir);
    int e = make_dirs(r->dir, err);
    if (!e)
        e = kl_raft_dir_lock(r->dir, &r->lock_fd, err);
    if (!e)
        e = kl_raft_check_removed(r->dir, err);
    r->id = r->peers ? kl_peers_id(r->peers) : 0;
    if (!e && !r->peers)
        e = kl_raft_server_id(r->dir, &r->id, err);
    if (!e)
        e = kl_raft_wipe_state(r, err);
    if (!e)
        e = open_node(r, err);
    if (!e)
        e = begin_state(r, err);
    if (!e)
        e = kl_raft_finish_install(r, err);
    if (!e)
        e = kl_raft_state_open(r, err);
    if (!e)
        e = check_state(r, err);
    if (e == KL_ECORRUPT)
        ask_others(r, err);
    else if (!e && r->naddresses)
        kl_raft_save_peers(r); // one that joined has not applied them
    if (!e)
        e = kl_loop_new("kl-sqlite", &r->sq.loop, err);
    if (!e)
        e = kl_loop_start(r->sq.loop, err);
    if (!e)
        e = kl_loop_new("kl-raft-log", &r->log_loop, err);
    if (!e)
        e = kl_loop_start(r->log_loop, err);
    if (e) {
        close_raft(&r->sq);
        return e;
    }
    *ret_b = &r->sq;
    return 0;
}

static int load_raft(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err)
{
    struct kl_raft *r = kl_raft_of(b);
    int e = kl_raft_state_load(r, l, err);
    if (e == KL_ECORRUPT && !kl_raft_node_is_alone(r->node) && r->peers) {
        if (kl_raft_mark_reseed(r))
            return e;
        kl_error_wrap(err, "the state is fetched from another server at the next start");
    }
    return e;
}

// ---- running ----

static void run_tick(uv_timer_t *t)
{
    struct kl_raft *r = t->data;
    struct kl_raft_wake *w = r->wake;
    pthread_mutex_lock(&w->mu);
    w->tick = true;
    post_wake(w);
    pthread_mutex_unlock(&w->mu);
}

static void run_tick_start(struct kl_task *t)
{
    struct kl_raft *r = KL_CONTAINER_OF(t, struct kl_raft, tick_start);
    uv_timer_init(kl_loop_uv(r->log_loop), &r->tick);
    r->tick.data = r;
    uv_timer_start(&r->tick, run_tick, r->heartbeat_ms, r->heartbeat_ms);
}

static void run_sq_start(struct kl_task *t)
{
    kl_sq_start(KL_CONTAINER_OF(t, struct kl_backend, start_task));
}

static void start(struct kl_backend *b)
{
    struct kl_raft *r = kl_raft_of(b);
    struct kl_error err;
    b->start_task.run = run_sq_start;
    kl_loop_post(b->loop, &b->start_task);
    r->started = true;
    if (kl_raft_node_start(r->node, &err)) {
        kl_raft_fatal(r, &err);
        return;
    }
    r->tick_start.run = run_tick_start;
    kl_loop_post(r->log_loop, &r->tick_start);
    kl_raft_scrub_start(r);
    if (!r->peers)
        return;
    struct kl_peer_handler raft = {kl_core_loop(r->core), on_raft_message, NULL, r};
    struct kl_peer_handler read = {kl_core_loop(r->core), kl_raft_read_message, NULL, r};
    kl_peers_handle(r->peers, KL_PEER_RAFT, &raft);
    kl_peers_handle(r->peers, KL_PEER_READ, &read);
    kl_peers_serve(r->peers, kl_raft_serve, r);
}

static void stopped(void *arg)
{
}

static void end_loop(struct kl_loop *l)
{
    if (!l)
        return;
    kl_loop_stop(l);
    kl_loop_join(l);
    kl_loop_unref(l);
}

// The core's loop has ended: what it would have run is run here.
static void close_raft(struct kl_backend *b)
{
    struct kl_raft *r = b ? kl_raft_of(b) : NULL;
    if (!r)
        return;
    r->closing = true;
    atomic_store(&r->cancel, true);
    if (r->peers && r->started) {
        kl_peers_handle(r->peers, KL_PEER_RAFT, NULL);
        kl_peers_handle(r->peers, KL_PEER_READ, NULL);
        kl_peers_serve(r->peers, NULL, NULL);
    }
    if (r->fetcher_runs)
        pthread_join(r->fetcher, NULL);
    if (r->started)
        kl_raft_node_stop(r->node, stopped, NULL);
    end_loop(r->log_loop);
    end_loop(r->sq.loop);
    if (r->wake) {
        pthread_mutex_lock(&r->wake->mu);
        bool posted = r->wake->posted;
        pthread_mutex_unlock(&r->wake->mu);
        while (posted && r->wake->done) {
            struct kl_raft_job *j = r->wake->done;
            r->wake->done = j->next;
            if (!r->wake->done)
                r->wake->done_end = &r->wake->done;
            j->done(j);
        }
        r->wake->r = NULL;
        if (!posted) {
            pthread_mutex_destroy(&r->wake->mu);
            free(r->wake);
        }
    }
    kl_raft_members_close(r);
    kl_raft_node_free(r->node);
    for (struct kl_raft_write *w; (w = r->writes);) { // the log has them
        r->writes = w->next;
        kl_raft_write_free(w);
    }
    kl_raft_state_finalize(r);
    kl_sq_close(b);
    if (b->loop)
        kl_sq_reserve_release(b);
    if (r->lock_fd >= 0)
        close(r->lock_fd);
    kl_raft_saved_fini(&r->opened);
    kl_raft_saved_fini(&r->installed);
    kl_buf_fini(&r->parts);
    pthread_mutex_destroy(&r->status_mu);
    free(b->path);
    free(r->dir);
    kl_raft_take_free(r);
}

extern const struct kl_backend_ops kl_backend_raft;
const struct kl_backend_ops kl_backend_raft = {
    .scheme = "raft",
    .open = open_raft,
    .load = load_raft,
    .import_begin = kl_raft_import_begin,
    .import_rows = kl_sq_import_rows,
    .import_end = kl_raft_import_end,
    .start = start,
    .propose = kl_raft_propose,
    .confirm_head = kl_raft_confirm_head,
    .leader = get_leader,
    .read_rows = kl_sq_post_read_rows,
    .read_range = kl_sq_post_read_range,
    .compact_step = kl_sq_post_compact_step,
    .tidy = kl_sq_post_tidy,
    .sizes = kl_sq_get_sizes,
    .close = close_raft,
};
