// SPDX-License-Identifier: Apache-2.0
// The state from one server to another: a copy of the database, made in small steps between
// batches, streamed beside raft, checked, and put in place. Names in the directory:
//
//   state.db.new     what is being received
//   state.db.ready   received, checked, durable; not yet what the log follows on
//   state.db.out-N   a copy that is being sent
//   reseed           this server's state is of no use; lines "ID ADDRESS" of who to ask
//   peers            the same lines, for when the database cannot be read
#include "store/raft/raft_int.h"
#include "store/raft/wire.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEED_TRIES_MS = 60000, SERVE_MAX = 2, STREAM_BYTES = 256 << 10 };

static void file_path(const struct kl_raft *r, char *ret, size_t n, const char *name)
{
    snprintf(ret, n, "%s/%s", r->dir, name);
}

static int sync_path(const char *path, int flags)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    int e = fd < 0 || fsync(fd) ? errno : 0;
    if (fd >= 0)
        close(fd);
    return e;
}

static int move_file(struct kl_raft *r, const char *from, const char *to, struct kl_error *err)
{
    char a[4096], b[4096];
    file_path(r, a, sizeof(a), from);
    file_path(r, b, sizeof(b), to);
    int e = rename(a, b) ? errno : sync_path(r->dir, O_DIRECTORY);
    return e ? kl_error_errno(err, e, "datastore %s", b) : 0;
}

// ---- sending ----

struct copy {
    struct kl_task task;
    struct kl_raft *r;
    sqlite3 *to;
    sqlite3_backup *backup;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    int rc;
    bool begin, done;
};

static void run_copy(struct kl_task *t)
{
    struct copy *c = KL_CONTAINER_OF(t, struct copy, task);
    int rc = SQLITE_ABORT;
    if (!atomic_load(&c->r->cancel) && !c->backup)
        c->backup = sqlite3_backup_init(c->to, "main", c->r->sq.db, "main");
    // Writes of the same connection go into the copy as well: it never begins anew.
    if (c->backup && !atomic_load(&c->r->cancel))
        rc = sqlite3_backup_step(c->backup, KL_RAFT_BACKUP_PAGES);
    if (c->backup && rc != SQLITE_OK && rc != SQLITE_BUSY && rc != SQLITE_LOCKED) {
        sqlite3_backup_finish(c->backup);
        c->backup = NULL;
    }
    pthread_mutex_lock(&c->mu);
    c->rc = rc;
    c->done = true;
    pthread_cond_signal(&c->cond);
    pthread_mutex_unlock(&c->mu);
}

static int copy_step(struct copy *c)
{
    c->done = false;
    c->task.run = run_copy;
    kl_loop_post(c->r->sq.loop, &c->task);
    pthread_mutex_lock(&c->mu);
    while (!c->done)
        pthread_cond_wait(&c->cond, &c->mu);
    pthread_mutex_unlock(&c->mu);
    return c->rc;
}

static int make_copy(struct kl_raft *r, const char *path, struct kl_error *err)
{
    struct copy c = {.r = r, .mu = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    int rc = sqlite3_open_v2(path, &c.to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (!rc)
        rc =
            sqlite3_exec(c.to, "PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF", NULL, NULL, NULL);
    while (!rc)
        rc = copy_step(&c);
    int e = rc == SQLITE_DONE
                ? 0
                : kl_error_set(err, rc == SQLITE_FULL ? KL_ENOSPC : KL_EIO,
                               "a copy of the state cannot be made: %s", sqlite3_errstr(rc));
    sqlite3_close(c.to);
    return e;
}

static int send_file(struct kl_raft *r, const char *path, struct kl_peer_out *out,
                     struct kl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC),
        e = fd < 0 ? kl_error_errno(err, errno, "%s", path) : 0;
    char *p = malloc(STREAM_BYTES);
    if (!e && !p)
        e = kl_error_set(err, KL_ENOMEM, "out of memory");
    while (!e) {
        ssize_t k = read(fd, p, STREAM_BYTES);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            e = kl_error_errno(err, errno, "%s", path);
        if (k <= 0)
            break;
        e = atomic_load(&r->cancel) ? KL_ECANCELED : kl_peer_out_write(out, p, (size_t)k);
        if (e)
            kl_error_set(err, e, "the asker is gone");
    }
    free(p);
    if (fd >= 0)
        close(fd);
    return e;
}

int kl_raft_serve(void *arg, uint64_t from, struct kl_str name, struct kl_peer_out *out,
                  struct kl_error *err)
{
    struct kl_raft *r = arg;
    char path[4096], file[64];
    if (!kl_str_eqz(name, "raft-state"))
        return kl_error_set(err, KL_ENOTFOUND, "no such stream");
    if (atomic_fetch_add(&r->serving, 1) >= SERVE_MAX) {
        atomic_fetch_sub(&r->serving, 1);
        return kl_error_set(err, KL_ETOOMANY, "the state is being sent to others");
    }
    snprintf(file, sizeof(file), "state.db.out-%016llx", (unsigned long long)kl_rand_u64());
    file_path(r, path, sizeof(path), file);
    kl_log(KL_LOG_INFO, "raft", "sends its state to server=%016llx", (unsigned long long)from);
    int e = make_copy(r, path, err);
    if (!e)
        e = send_file(r, path, out, err);
    unlink(path);
    atomic_fetch_sub(&r->serving, 1);
    if (e)
        kl_log(KL_LOG_WARN, "raft", "state for server=%016llx: %s", (unsigned long long)from,
               err->msg);
    return e;
}

// ---- receiving ----

struct sink {
    struct kl_raft *r;
    int fd;
};

static int take_bytes(void *arg, const void *data, size_t n)
{
    struct sink *s = arg;
    const char *p = data;
    while (n) {
        ssize_t k = atomic_load(&s->r->cancel) ? 0 : write(s->fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 && errno == ENOSPC ? KL_ENOSPC : KL_EIO;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

static int check_sum(void *arg, struct kl_kv *kv)
{
    *(uint64_t *)arg += kl_raft_kv_hash(kv);
    kl_kv_unref(kv);
    return 0;
}

static int no_lease(void *arg, struct kl_lease_op op)
{
    return 0;
}

// What came is whole and is what its server said it is.
static int check_copy(struct kl_raft *r, const char *path, struct kl_raft_manifest *ret,
                      struct kl_error *err)
{
    struct kl_backend b = {.core = r->core, .reserve_fd = -1, .path = (char *)path};
    struct kl_raft_saved s = {0};
    struct kl_loaded l = {.kv = check_sum, .lease = no_lease};
    uint64_t sum = 0, *data = NULL;
    l.arg = &sum;
    b.unclean = true;
    int e = kl_sq_open(&b, err);
    char ok[16] = "";
    sqlite3_stmt *st = NULL;
    if (!e && !sqlite3_prepare_v2(b.db, "PRAGMA quick_check(1)", -1, &st, NULL) &&
        sqlite3_step(st) == SQLITE_ROW)
        snprintf(ok, sizeof(ok), "%s", (const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
    if (!e && strcmp(ok, "ok") != 0)
        e = kl_error_set(err, KL_ECORRUPT, "the state that came is damaged");
    if (!e)
        e = kl_raft_saved_read(b.db, &s, err);
    if (!e)
        e = kl_sq_load(&b, &l, err);
    if (!e && (sum != s.state || !s.index || !s.conf.len))
        e = kl_error_set(err, KL_ECORRUPT, "the state that came is not what its log wrote");
    if (!e) {
        *ret = (struct kl_raft_manifest){.index = s.index,
                                         .term = s.term,
                                         .conf_index = s.conf_index,
                                         .nconf = s.conf.len,
                                         .ndata = sizeof(*data)};
        ret->conf = raft_malloc(s.conf.len);
        ret->data = data = raft_malloc(sizeof(*data));
        if (ret->conf && data) {
            memcpy(ret->conf, s.conf.base, s.conf.len);
            *data = s.index;
        } else {
            raft_free(ret->conf);
            raft_free(data);
            e = kl_error_set(err, KL_ENOMEM, "out of memory");
        }
    }
    kl_raft_saved_fini(&s);
    kl_sq_finalize(&b);
    kl_sq_close(&b);
    return e;
}

static int fetch_state(struct kl_raft *r, uint64_t from, struct kl_raft_manifest *ret,
                       struct kl_error *err)
{
    char path[4096], wal[4096];
    struct sink s = {r, -1};
    file_path(r, path, sizeof(path), "state.db.new");
    file_path(r, wal, sizeof(wal), "state.db.new-wal");
    unlink(wal);
    s.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (s.fd < 0)
        return kl_error_errno(err, errno, "datastore %s", path);
    int e = kl_peers_fetch(r->peers, from, "raft-state", take_bytes, &s, err);
    if (!e && fsync(s.fd))
        e = kl_error_errno(err, errno, "datastore %s", path);
    close(s.fd);
    if (!e)
        e = check_copy(r, path, ret, err);
    if (!e && (sync_path(path, 0) || move_file(r, "state.db.new", "state.db.ready", err))) {
        raft_free(ret->conf);
        raft_free(ret->data);
        e = KL_EIO;
    }
    if (e)
        unlink(path);
    return e;
}

static void fetch_done(struct kl_raft_job *j)
{
    struct kl_raft *r = KL_CONTAINER_OF(j, struct kl_raft, fetched);
    pthread_join(r->fetcher, NULL);
    r->fetcher_runs = false;
    if (!r->closing)
        kl_raft_node_fetched(r->node, r->fetch_code, &r->fetch_manifest);
    if (!r->fetch_code) {
        raft_free(r->fetch_manifest.conf);
        raft_free(r->fetch_manifest.data);
    }
}

static void *run_fetch(void *arg)
{
    struct kl_raft *r = arg;
    struct kl_error err = {0};
    r->fetch_code = fetch_state(r, r->fetch_from, &r->fetch_manifest, &err);
    if (r->fetch_code)
        kl_log(KL_LOG_WARN, "raft", "state from server=%016llx: %s",
               (unsigned long long)r->fetch_from, err.msg);
    kl_raft_post_done(r, &r->fetched);
    return NULL;
}

void kl_raft_fetch(void *arg, uint64_t from)
{
    struct kl_raft *r = arg;
    r->fetch_from = from;
    r->fetched.done = fetch_done;
    kl_log(KL_LOG_INFO, "raft", "fetches the state of server=%016llx", (unsigned long long)from);
    r->fetcher_runs = pthread_create(&r->fetcher, NULL, run_fetch, r) == 0;
    if (!r->fetcher_runs)
        kl_raft_node_fetched(r->node, KL_ENOMEM, NULL);
}

static void remove_state(struct kl_raft *r)
{
    static const char *const names[] = {"state.db-wal", "state.db-shm", "state.db-journal"};
    char path[4096];
    for (size_t i = 0; i < KL_COUNT(names); i++) {
        file_path(r, path, sizeof(path), names[i]);
        unlink(path);
    }
}

// On SQLite's thread, behind what was written before: the log follows on the new one already.
int kl_raft_install(void *arg)
{
    struct kl_raft *r = arg;
    struct kl_error err;
    for (struct kl_raft_write *w; (w = r->writes);) { // older than what comes
        r->writes = w->next;
        atomic_fetch_sub_explicit(&r->lag, w->bytes, memory_order_relaxed);
        kl_raft_write_free(w);
    }
    r->writes_end = &r->writes;
    kl_raft_post_done(r, NULL); // whoever waits for them need not
    kl_raft_state_finalize(r);
    kl_sq_close(&r->sq);
    r->sq.wal_pages = 0;
    remove_state(r);
    int e = move_file(r, "state.db.ready", "state.db", &err);
    r->sq.unclean = false;
    if (!e)
        e = kl_sq_open(&r->sq, &err);
    if (!e)
        e = kl_sq_exec(&r->sq, "PRAGMA synchronous=NORMAL", &err);
    if (!e)
        e = kl_raft_saved_read(r->sq.db, &r->installed, &err);
    if (e) {
        kl_log(KL_LOG_ERROR, "raft", "%s", err.msg);
        return e;
    }
    r->sq.rev = r->installed.rev;
    r->written = r->installed.index;
    r->written_state = r->installed.state;
    r->has_installed = true;
    return 0;
}

// ---- before the store is open ----

static int has_file(const struct kl_raft *r, const char *name)
{
    char path[4096];
    struct stat st;
    file_path(r, path, sizeof(path), name);
    return stat(path, &st) == 0;
}

int kl_raft_finish_install(struct kl_raft *r, struct kl_error *err)
{
    const struct kl_raft_found *f = kl_raft_node_found(r->node);
    char path[4096];
    file_path(r, path, sizeof(path), "state.db.new");
    unlink(path);
    if (!has_file(r, "state.db.ready"))
        return 0;
    // The manifest is newer than what the database holds: the log was cut for the new state.
    file_path(r, path, sizeof(path), "state.db");
    uint64_t have = 0;
    if (has_file(r, "state.db")) {
        struct kl_backend b = {.core = r->core, .reserve_fd = -1, .path = path};
        struct kl_raft_saved s = {0};
        if (!kl_sq_open(&b, err) && !kl_raft_saved_read(b.db, &s, err))
            have = s.index;
        kl_raft_saved_fini(&s);
        kl_sq_finalize(&b);
        kl_sq_close(&b);
    }
    if (have + 1 >= f->first_index) {
        file_path(r, path, sizeof(path), "state.db.ready");
        unlink(path);
        return 0;
    }
    remove_state(r);
    return move_file(r, "state.db.ready", "state.db", err);
}

// Before anything is opened: a log or a database that is damaged goes, term and vote stay. What was
// put aside (NAME.corrupt) is kept for whoever wants to know; the database is until another came.
int kl_raft_wipe_state(struct kl_raft *r, struct kl_error *err)
{
    char path[4096];
    if (!has_file(r, "reseed"))
        return 0;
    kl_log(KL_LOG_WARN, "raft", "dir=%s: the state is fetched anew", r->dir);
    static const char *const keep[][2] = {{"state.db", "state.db.corrupt"},
                                          {"state.db-wal", "state.db-wal.corrupt"}};
    for (size_t i = 0; i < KL_COUNT(keep); i++) {
        if (has_file(r, keep[i][0]) && move_file(r, keep[i][0], keep[i][1], err))
            return KL_EIO;
    }
    DIR *d = opendir(r->dir);
    if (!d)
        return kl_error_errno(err, errno, "datastore %s", r->dir);
    for (struct dirent *e; (e = readdir(d));) {
        struct kl_str name = kl_str(e->d_name);
        if (kl_str_ends(name, KL_STR(".corrupt")) ||
            (!kl_str_starts(name, KL_STR("log-")) && !kl_str_starts(name, KL_STR("snapshot-")) &&
             !kl_str_starts(name, KL_STR("state.db"))))
            continue;
        file_path(r, path, sizeof(path), e->d_name);
        unlink(path);
    }
    closedir(d);
    int e = sync_path(r->dir, O_DIRECTORY);
    return e ? kl_error_errno(err, e, "datastore %s", r->dir) : 0;
}

int kl_raft_seed(struct kl_raft *r, uint64_t from, bool muted, struct kl_error *err)
{
    struct kl_raft_manifest m;
    int64_t until = kl_mono_ms() + SEED_TRIES_MS;
    if (!r->peers)
        return kl_error_set(err, KL_EINVALID, "datastore %s: to join others needs their addresses",
                            r->dir);
    int e;
    for (size_t i = 0;; i++) {
        uint64_t who = from ? from : r->naddresses ? r->address[i % r->naddresses].id : 0;
        struct timespec pause = {0, 200 * 1000 * 1000};
        e = who ? fetch_state(r, who, &m, err)
                : kl_error_set(err, KL_EUNAVAILABLE, "no other server is known");
        if (!e || e == KL_ENOSPC || e == KL_ENOMEM || !who || kl_mono_ms() >= until)
            break;
        nanosleep(&pause, NULL);
    }
    if (e)
        return kl_error_wrap(err, "datastore %s: fetching the state of another server", r->dir);
    e = move_file(r, "state.db.ready", "state.db", err);
    if (!e)
        e = kl_raft_node_seed(r->node, &m, muted, err);
    raft_free(m.conf);
    raft_free(m.data);
    static const char *const gone[] = {"reseed", "state.db.corrupt", "state.db-wal.corrupt"};
    for (size_t i = 0; !e && i < KL_COUNT(gone); i++) {
        char path[4096];
        file_path(r, path, sizeof(path), gone[i]);
        unlink(path);
    }
    return e;
}

// Another voter, as the database says, whose address is known. Learners may lack what this server
// acknowledged.
static bool has_other_voter(const struct kl_raft *r)
{
    const struct raft_buffer *conf = &r->opened.conf;
    struct raft_configuration c;
    uint64_t at;
    if (r->node)
        conf = kl_raft_node_conf(r->node, UINT64_MAX, &at);
    if (!conf || !conf->len || kl_raft_conf_decode(conf->base, conf->len, &c))
        return false;
    bool found = false;
    for (unsigned i = 0; i < c.n; i++) {
        for (size_t k = 0; k < r->naddresses; k++)
            found = found || (c.servers[i].role == RAFT_VOTER && c.servers[i].id != r->id &&
                              r->address[k].id == c.servers[i].id);
    }
    raft_configuration_close(&c);
    return found;
}

static int write_addresses(struct kl_raft *r, const char *name, const char *tmp_name)
{
    char path[4096], tmp[4096];
    file_path(r, tmp, sizeof(tmp), tmp_name);
    file_path(r, path, sizeof(path), name);
    FILE *f = fopen(tmp, "we");
    if (!f)
        return KL_EIO;
    for (size_t i = 0; i < r->naddresses; i++) {
        if (r->address[i].id != r->id)
            fprintf(f, "%llu %s\n", (unsigned long long)r->address[i].id, r->address[i].address);
    }
    bool bad = fflush(f) || fsync(fileno(f));
    bad = fclose(f) || bad;
    return bad || rename(tmp, path) || sync_path(r->dir, O_DIRECTORY) ? KL_EIO : 0;
}

static bool read_addresses(struct kl_raft *r, const char *name)
{
    char path[4096], line[512];
    file_path(r, path, sizeof(path), name);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    while (fgets(line, sizeof(line), f)) {
        struct kl_str rest = kl_str_trim(kl_str(line)), id;
        uint64_t v;
        if (kl_str_split(&rest, ' ', &id) && rest.p && kl_str_to_u64(id, &v) && v != r->id)
            kl_raft_set_address(r, v, rest);
    }
    fclose(f);
    return true;
}

void kl_raft_save_peers(struct kl_raft *r)
{
    if (write_addresses(r, "peers", "peers.new"))
        kl_log(KL_LOG_WARN, "raft", "dir=%s: the file peers cannot be written", r->dir);
}

int kl_raft_mark_reseed(struct kl_raft *r)
{
    if (r->peers && !r->started)
        read_addresses(r, "peers");
    if (!r->peers || !has_other_voter(r))
        return KL_EUNAVAILABLE; // this is the only copy
    return write_addresses(r, "reseed", "reseed.new");
}

bool kl_raft_take_reseed(struct kl_raft *r)
{
    return read_addresses(r, "reseed");
}
