// SPDX-License-Identifier: Apache-2.0
// T3: kill -9 at every named point of the product (kl_fault_crash). The process that reaches a
// point for the nth time dies there; then the store is opened again and judged. A point that is not
// reached fails, and so does one that is in the source and not in this table (the last test).
#include "servers.h"
#include "victim.h"
#include "base/clock.h"
#include "base/fault.h"
#include "store/raft/log.h"
#include "store/transfer/copy.h"
#include "store/transfer/snapshot.h"
#include "store/transfer/target.h"
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REACH_MS = 240000, SEEDS = 2, IMPORT_ROWS = 3500 };

enum how {
    WRITE,    // by a writer on a store that there is
    FRESH,    // by the first one of a new store
    HISTORY,  // by one of two servers whose database is set back
    IMPORT,   // by a copy
    SNAPSHOT, // by who writes a snapshot's file
    LOG,      // by who cuts raft's log
};

enum { SQLITE = 1, RAFT = 2, POSTGRES = 4, MYSQL = 8, SQL = POSTGRES | MYSQL, ALL = 15 };

struct point {
    const char *name;
    int most; // it dies at one of the first so many calls
    enum how how;
    int on;             // back ends
    const char *before; // a writer has died there just before
    const char *fails;  // see vi_plan
    bool big;           // values of 3 KiB, compacted in larger pieces
    bool huge;
};

static const struct point points[] = {
    {"core.propose", 50, WRITE, ALL},
    {"core.durable", 50, WRITE, ALL},
    {"core.published", 50, WRITE, ALL},
    {"core.answered", 50, WRITE, ALL},
    {"core.step", 2, WRITE, ALL},

    {"sqlite.create", 1, FRESH, SQLITE | RAFT},
    {"sqlite.schema.kine", 1, FRESH, SQLITE | RAFT},
    {"sqlite.schema.meta", 1, FRESH, SQLITE | RAFT},
    {"sqlite.schema.commit", 1, FRESH, SQLITE | RAFT},
    {"sqlite.schema.committed", 1, FRESH, SQLITE | RAFT},
    {"sqlite.begun", 50, WRITE, SQLITE | RAFT},
    {"sqlite.row", 1000, WRITE, SQLITE | RAFT},
    {"sqlite.lease", 3, WRITE, SQLITE | RAFT},
    {"sqlite.meta", 50, WRITE, SQLITE | RAFT},
    {"sqlite.compact_rev", 2, WRITE, SQLITE | RAFT},
    {"sqlite.commit", 50, WRITE, SQLITE | RAFT},
    {"sqlite.committed", 50, WRITE, SQLITE | RAFT},
    {"sqlite.step.begun", 2, WRITE, SQLITE | RAFT},
    {"sqlite.step.row", 300, WRITE, SQLITE | RAFT},
    {"sqlite.step.commit", 2, WRITE, SQLITE | RAFT},
    {"sqlite.step.committed", 2, WRITE, SQLITE | RAFT},
    {"sqlite.name", 300, WRITE, SQLITE | RAFT},
    {"sqlite.names", 2, WRITE, SQLITE | RAFT},
    {"sqlite.sweep.name", 50, WRITE, SQLITE | RAFT},
    {"sqlite.swept", 1, WRITE, SQLITE | RAFT},
    {"sqlite.checkpoint", 2, WRITE, SQLITE | RAFT, .big = true},
    {"sqlite.checkpointed", 2, WRITE, SQLITE | RAFT, .big = true},
    {"sqlite.beside", 2, WRITE, SQLITE | RAFT, .big = true},
    {"sqlite.beside.done", 2, WRITE, SQLITE | RAFT, .big = true},
    {"sqlite.reserve", 1, WRITE, SQLITE | RAFT},
    {"sqlite.reserved", 1, WRITE, SQLITE | RAFT},
    {"sqlite.vacuum", 4, WRITE, SQLITE, .big = true},
    {"sqlite.vacuumed", 1, WRITE, SQLITE, .big = true},
    {"sqlite.import.begin", 1, IMPORT, SQLITE | RAFT},
    {"sqlite.import.begun", 1, IMPORT, SQLITE | RAFT},
    {"sqlite.import.rows", 4, IMPORT, SQLITE | RAFT},
    {"sqlite.import.stored", 4, IMPORT, SQLITE | RAFT},
    {"sqlite.import.end", 1, IMPORT, SQLITE | RAFT},
    {"sqlite.import.ended", 1, IMPORT, SQLITE | RAFT},

    {"raft.meta.write", 2, FRESH, RAFT},
    {"raft.meta.sync", 2, FRESH, RAFT},
    {"raft.meta.synced", 2, FRESH, RAFT},
    {"raft.schema", 1, FRESH, RAFT},
    {"raft.spare", 1, FRESH, RAFT},
    {"raft.segment.head", 1, FRESH, RAFT},
    {"raft.segment.rename", 1, FRESH, RAFT},
    {"raft.segment.named", 1, FRESH, RAFT},
    {"raft.append.write", 50, WRITE, RAFT},
    {"raft.append.sync", 50, WRITE, RAFT},
    {"raft.append.synced", 50, WRITE, RAFT},
    {"raft.apply", 50, WRITE, RAFT},
    {"raft.state", 50, WRITE, RAFT},
    {"raft.state.written", 50, WRITE, RAFT},
    {"raft.replayed", 1, WRITE, RAFT, .before = "raft.apply"},
    {"raft.save", 2, WRITE, RAFT},
    {"raft.snapshot.write", 2, WRITE, RAFT},
    {"raft.snapshot.rename", 2, WRITE, RAFT},
    {"raft.snapshot.named", 2, WRITE, RAFT},
    {"raft.drop", 1, WRITE, RAFT, .big = true},
    {"raft.dropped", 1, WRITE, RAFT, .big = true},
    {"raft.cut", 8, LOG, RAFT},
    {"raft.cut.shorter", 8, LOG, RAFT},
    {"raft.cut.sync", 8, LOG, RAFT},
    {"raft.import.hashed", 1, IMPORT, RAFT},
    {"raft.import.state", 1, IMPORT, RAFT},
    {"raft.import.seeded", 1, IMPORT, RAFT},
    {"raft.import.done", 1, IMPORT, RAFT},
    {.name = "raft.recover.marked"}, // raft_cluster.c, recovery_cut
    {.name = "raft.recover.alone"},
    {.name = "raft.recover.jumped"},
    {.name = "raft.recover.done"},

    {"sql.commit", 50, WRITE, SQL},
    {"sql.committed", 50, WRITE, SQL},
    {"sql.doubt", 1, WRITE, SQL, .fails = "sql.commit.after"},
    {"sql.doubt.settled", 1, WRITE, SQL, .fails = "sql.commit.before"},
    {"sql.step.begun", 2, WRITE, SQL},
    {"sql.step.deleted", 2, WRITE, SQL},
    {"sql.step.commit", 2, WRITE, SQL},
    {"sql.step.committed", 2, WRITE, SQL},
    {"sql.history", 1, HISTORY, SQL},
    {"sql.history.switched", 1, HISTORY, SQL},
    {"sql.import.begin", 1, IMPORT, SQL},
    {"sql.import.marked", 1, IMPORT, SQL},
    {"sql.import.begun", 1, IMPORT, SQL},
    {"sql.import.rows", 4, IMPORT, SQL},
    {"sql.import.stored", 4, IMPORT, SQL},
    {"sql.import.end", 1, IMPORT, SQL},
    {"sql.import.ended", 1, IMPORT, SQL},
    {"pg.schema", 1, FRESH, POSTGRES},
    {"pg.schema.made", 1, FRESH, POSTGRES},
    {"pg.sent", 50, WRITE, POSTGRES},
    {"my.schema", 1, FRESH, MYSQL},
    {"my.schema.made", 1, FRESH, MYSQL},
    {"my.commit", 50, WRITE, MYSQL},
    {"my.answer", 200, WRITE, MYSQL},
    {"my.packet", 2, WRITE, MYSQL, .huge = true},

    {"snapshot.write", 3, SNAPSHOT, SQLITE},
    {"snapshot.sync", 1, SNAPSHOT, SQLITE},
    {"snapshot.rename", 1, SNAPSHOT, SQLITE},
    {"snapshot.named", 1, SNAPSHOT, SQLITE},
};

static const char *backend = "sqlite", *only, *source_root;
static const struct kl_store_options plain;

static int bit(void)
{
    return backend[0] == 's'   ? SQLITE
           : backend[0] == 'r' ? RAFT
           : backend[0] == 'p' ? POSTGRES
                               : MYSQL;
}

struct run {
    const struct point *p;
    uint64_t seed;
    long nth;
    char what[96];
};

static void open_store(struct hs_store *hs, const struct run *r)
{
    struct kl_error err;
    if (kl_store_open(hs->url, &hs->o, &hs->s, &err))
        fail_msg("%s: %s", r->what, err.msg);
}

// The process has to end at its point.
static void wait_killed(pid_t pid, const struct run *r)
{
    int code = vi_wait(pid);
    if (code)
        fail_msg("%s: the process exited with %d", r->what, code);
}

// A store that nobody has made yet, in the same directory or on the same server.
static void make_fresh(struct hs_store *hs)
{
    if (hs_is_sql(backend)) {
        char sql[64];
        snprintf(sql, sizeof(sql), "DROP DATABASE %s", hs->db);
        ts_sql(hs->server, NULL, sql, NULL, 0);
        ts_fresh(hs->server, hs->db);
        ts_url(hs->server, hs->db, NULL, hs->url, sizeof(hs->url));
    } else {
        snprintf(hs->url, sizeof(hs->url), "%s://%s/fresh", backend, hs->dir);
    }
}

// ---- writers ----

static void die_writing(struct hs_store *hs, struct vi_judge *j, const struct run *r,
                        const char *point, long nth)
{
    struct vi_plan plan = {.url = hs->url,
                           .o = &hs->o,
                           .seed = r->seed,
                           .seq = vi_seq(j) + 1000,
                           .point = point,
                           .nth = nth,
                           .fails = point == r->p->name ? r->p->fails : NULL,
                           .value_bytes = r->p->big ? 3000 : 0,
                           .compact_every = r->p->big ? 2000 : 0,
                           .huge = r->p->huge};
    int fd;
    pid_t pid = vi_start(&plan, &fd);
    if (vi_take(j, fd, REACH_MS)) {
        kill(pid, SIGKILL);
        vi_wait(pid);
        fail_msg("%s was not reached after %ld acknowledgements", r->what, vi_acks(j));
    }
    close(fd);
    wait_killed(pid, r);
}

// Something is written and acknowledged. A process that dies early may not have told of it yet.
static void die_after_writes(struct hs_store *hs, struct vi_judge *j, const struct run *r)
{
    long acks = vi_acks(j);
    for (long nth = 5; vi_acks(j) == acks; nth += 45) {
        if (nth > 1000)
            fail_msg("%s: nothing is acknowledged", r->what);
        die_writing(hs, j, r, "core.answered", nth);
    }
}

static void run_writers(const struct run *r)
{
    struct kl_store_options o = {.raft_snapshot_bytes = 256 << 10};
    struct hs_store hs;
    struct vi_judge *j = vi_judge_new();
    hs_open(&hs, backend, &o);
    hs_stop(&hs);
    if (r->p->how == FRESH)
        make_fresh(&hs);
    if (r->p->before)
        die_writing(&hs, j, r, r->p->before, 1 + (long)(r->seed % 20));
    die_writing(&hs, j, r, r->p->name, r->nth);
    open_store(&hs, r);
    vi_check(j, &hs, r->what);
    hs_stop(&hs);
    // And what is left is a store as any other.
    die_after_writes(&hs, j, r);
    open_store(&hs, r);
    vi_check(j, &hs, r->what);
    hs_close(&hs);
    vi_judge_free(j);
}

// ---- a database that is set back under two servers ----

static void set_back(struct hs_store *hs, char *was)
{
    long long rev, seq, chain;
    char sql[512];
    assert_int_equal(sscanf(was, "%lld %lld %lld", &rev, &seq, &chain), 3);
    snprintf(sql, sizeof(sql),
             "BEGIN; SELECT rev FROM kv_meta FOR UPDATE; DELETE FROM kine WHERE id > %lld; DELETE "
             "FROM kv_batch WHERE batch_seq > %lld; UPDATE kv_meta SET rev = %lld, batch_seq = "
             "%lld, chain = %lld; COMMIT",
             rev, seq, rev, seq, chain);
    ts_sql(hs->server, hs->db, sql, NULL, 0);
}

static void take_some(struct vi_judge *j, int fd, const struct run *r)
{
    long until = vi_acks(j) + 100;
    for (int64_t end = kl_mono_ms() + REACH_MS; vi_acks(j) < until;) {
        if (!vi_take(j, fd, 10) || kl_mono_ms() > end)
            fail_msg("%s: a server does not write", r->what);
    }
}

// The one that notices dies while it begins the new history; the other one has seen the revisions
// as well and must not give any of them out again.
static void run_history(const struct run *r)
{
    struct hs_store hs;
    struct vi_judge *j = vi_judge_new(), *j2 = vi_judge_new();
    char was[256];
    int fd, fd2;
    hs_open(&hs, backend, NULL);
    hs_stop(&hs);
    ts_sql(hs.server, hs.db, "SELECT rev, batch_seq, chain FROM kv_meta", was, sizeof(was));
    struct vi_plan plan = {
        .url = hs.url, .o = &hs.o, .seed = r->seed, .seq = 1000, .compact_every = -1};
    struct vi_plan dies = plan;
    dies.point = r->p->name;
    dies.nth = r->nth;
    dies.seq = 1000000;
    pid_t other = vi_start(&plan, &fd2), pid = vi_start(&dies, &fd);
    take_some(j, fd, r);
    take_some(j2, fd2, r);
    kill(other, SIGSTOP);
    set_back(&hs, was);
    bool open = vi_take(j, fd, REACH_MS);
    kill(other, SIGCONT);
    if (open) {
        kill(pid, SIGKILL);
        kill(other, SIGKILL);
        fail_msg("%s was not reached", r->what);
    }
    close(fd);
    wait_killed(pid, r);
    kl_rev used = vi_rev(j) > vi_rev(j2) ? vi_rev(j) : vi_rev(j2);
    // What it acknowledged before it saw the change is still in the pipe.
    kl_rev top = vi_rev(j2);
    for (int64_t end = kl_mono_ms() + REACH_MS; top < used + 1000000;) {
        if (!vi_take(j2, fd2, 10) || kl_mono_ms() > end)
            fail_msg("%s: the other server is at revision %lld after %lld had been used", r->what,
                     (long long)top, (long long)used);
        top = vi_rev(j2);
    }
    kill(other, SIGKILL);
    wait_killed(other, r);
    vi_take(j2, fd2, 1000);
    close(fd2);
    open_store(&hs, r);
    struct hs_client c;
    hs_client_open(&c, &hs);
    assert_true(hs_rev(&c) >= vi_rev(j2));
    hs_client_close(&c);
    vi_forget(j2);
    vi_check(j2, &hs, r->what);
    hs_close(&hs);
    vi_judge_free(j);
    vi_judge_free(j2);
}

// ---- copies and snapshots ----

static void fill_source(struct hs_store *hs)
{
    struct hs_client c;
    hs_open(hs, "sqlite", NULL);
    hs_client_open(&c, hs);
    for (int i = 0; i < IMPORT_ROWS; i += 50) {
        struct kl_op op[50];
        char key[50][32];
        for (int k = 0; k < 50; k++) {
            snprintf(key[k], sizeof(key[k]), "/from/%05d", i + k);
            op[k] = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(key[k])};
            op[k].value = kl_bytes_new(kl_str(key[k]));
        }
        struct kl_txn txn = {.body = {.then = op, .nthen = 50}};
        assert_int_equal(hs_txn(&c, &txn), 0);
        kl_txn_fini(&txn);
        for (int k = 0; k < 50; k++)
            kl_bytes_unref(op[k].value);
    }
    struct kl_lease_req q = {.kind = KL_LEASE_GRANT, .id = 77, .ttl_s = 3600};
    assert_int_equal(hs_lease(&c, &q), 0);
    kl_lease_req_fini(&q);
    hs_client_close(&c);
    hs_stop(hs);
}

static pid_t fork_armed(const struct run *r)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(REACH_MS / 1000);
        kl_fault_set(r->p->name, r->nth, 1);
    }
    return pid;
}

static int copy_to(struct kl_store *from, const char *to, struct kl_store **ret,
                   struct kl_error *err)
{
    struct kl_store_copy_origin origin = kl_store_copy_from_store;
    origin.arg = from;
    struct kl_store_copy_options o = {.to = to, .store = &plain};
    struct kl_store_copy_result result;
    return kl_store_copy(&origin, &o, &result, ret, NULL, err);
}

static void digest(struct kl_store *s, unsigned char ret[KL_DIGEST_BYTES])
{
    kl_rev rev;
    struct kl_error err;
    if (kl_store_digest(s, NULL, NULL, ret, &rev, &err))
        fail_msg("%s", err.msg);
}

static int64_t count_keys(struct kl_store *s)
{
    struct kl_store_status st;
    kl_store_status(s, &st);
    return st.keys;
}

static void run_import(const struct run *r)
{
    struct hs_store from, hs;
    struct kl_error err;
    unsigned char want[KL_DIGEST_BYTES], have[KL_DIGEST_BYTES];
    fill_source(&from);
    hs_open(&hs, backend, NULL);
    hs_stop(&hs);
    make_fresh(&hs);
    pid_t pid = fork_armed(r);
    if (pid == 0) {
        struct kl_store *s, *t;
        if (!kl_store_open(from.url, &plain, &s, &err) && !copy_to(s, hs.url, &t, &err))
            _exit(9);
        fprintf(stderr, "copy: %s\n", err.msg);
        _exit(10);
    }
    wait_killed(pid, r);
    open_store(&from, r);
    digest(from.s, want);
    // What is there is nothing, all, or known to be a part.
    struct kl_store *s;
    bool whole = false;
    int e = kl_store_open(hs.url, &plain, &s, &err);
    if (!e) {
        whole = count_keys(s) > 0;
        if (whole) {
            digest(s, have);
            assert_memory_equal(have, want, sizeof(want));
        }
        kl_store_stop(s);
    } else if (e != KL_EUNAVAILABLE) {
        fail_msg("%s: %s", r->what, err.msg);
    }
    static const char *const last[] = {"sqlite.import.ended", "raft.import.done",
                                       "sql.import.ended", "sql.import.ended"};
    bool ended = strcmp(r->p->name, last[__builtin_ctz((unsigned)bit())]) == 0;
    if (whole != ended)
        fail_msg("%s: %s", r->what, whole ? "a copy that had not ended opens" : "it is not there");
    if (!whole) {
        if (copy_to(from.s, hs.url, &hs.s, &err))
            fail_msg("%s: does not go on: %s", r->what, err.msg);
        digest(hs.s, have);
        assert_memory_equal(have, want, sizeof(want));
        hs_stop(&hs);
    }
    // It takes writes as any other, above what was copied.
    struct vi_judge *j = vi_judge_new();
    die_after_writes(&hs, j, r);
    open_store(&hs, r);
    assert_true(count_keys(hs.s) > IMPORT_ROWS);
    vi_judge_free(j);
    hs_close(&hs);
    hs_close(&from);
}

static int write_snapshot(struct kl_store *s, const char *path, struct kl_error *err)
{
    struct kl_snapshot_info info;
    struct kl_source_from all = {0};
    struct kl_source *src;
    int r = kl_store_source_new(s, &all, &src, err);
    if (r)
        return r;
    r = kl_snapshot_write(path, src, &info, err);
    src->close(src);
    return r;
}

static void read_snapshot(const char *path, const struct run *r)
{
    struct kl_source *src;
    struct kl_record rec;
    struct kl_error err;
    long rows = 0;
    if (kl_snapshot_read(path, &src, &err))
        fail_msg("%s: %s", r->what, err.msg);
    int e;
    while (!(e = src->next(src, &rec, &err)))
        rows += rec.kind == KL_RECORD_ROW;
    assert_int_equal(e, KL_EEOF);
    assert_int_equal(rows, IMPORT_ROWS);
    src->close(src);
}

// A file that has its name is whole; what a crash left is in nobody's way.
static void run_snapshot(const struct run *r)
{
    struct hs_store from;
    struct kl_error err;
    char path[128];
    fill_source(&from);
    snprintf(path, sizeof(path), "%s/a.klsnap", from.dir);
    pid_t pid = fork_armed(r);
    if (pid == 0) {
        struct kl_store *s;
        if (!kl_store_open(from.url, &plain, &s, &err) && !write_snapshot(s, path, &err))
            _exit(9);
        fprintf(stderr, "snapshot: %s\n", err.msg);
        _exit(10);
    }
    wait_killed(pid, r);
    bool named = access(path, F_OK) == 0;
    assert_int_equal(named, strcmp(r->p->name, "snapshot.named") == 0);
    open_store(&from, r);
    if (!named && write_snapshot(from.s, path, &err))
        fail_msg("%s: %s", r->what, err.msg);
    read_snapshot(path, r);
    hs_close(&from);
}

// ---- raft's log ----

struct log_ack {
    uint64_t index, term; // appended up to here with this term
    uint64_t cutting;     // not 0: from here on is being cut
};

static uint64_t entry_word(uint64_t index, uint64_t term, size_t n)
{
    return index * 1000003 + term * 7919 + n;
}

static void write_log(const char *dir, uint64_t seed, int fd)
{
    struct kl_raft_log *l;
    struct kl_raft_found found;
    struct kl_error err;
    static uint64_t data[4][8192];
    struct log_ack a = {0, 1, 0};
    struct kl_raft_meta meta = {.term = 1, .server_id = 7};
    if (kl_raft_log_open(dir, &kl_raft_fs_disk, &l, &found, &err) ||
        kl_raft_log_set_meta(l, &meta, &err))
        _exit(11);
    for (;;) {
        struct kl_raft_entry e[4];
        for (size_t i = 0; i < 4; i++) {
            size_t n = 8 + hs_rand(&seed) % 8000 * 8;
            for (size_t k = 0; k < n / 8; k++)
                data[i][k] = entry_word(a.index + 1 + i, a.term, n) + k;
            e[i] = (struct kl_raft_entry){a.index + 1 + i, a.term, 1, data[i], n};
        }
        if (kl_raft_log_append(l, e, 4, &err))
            _exit(12);
        a.index += 4;
        if (write(fd, &a, sizeof(a)) != sizeof(a))
            _exit(13);
        if (a.index < 12 || hs_rand(&seed) % 4)
            continue;
        a.cutting = a.index - hs_rand(&seed) % 11;
        if (write(fd, &a, sizeof(a)) != sizeof(a) || kl_raft_log_truncate(l, a.cutting, &err))
            _exit(14);
        a = (struct log_ack){a.cutting - 1, a.term + 1, 0};
        if (write(fd, &a, sizeof(a)) != sizeof(a))
            _exit(15);
    }
}

static void run_log(const struct run *r)
{
    enum { MOST = 4096 };
    static uint64_t term[MOST];
    char dir[] = "/tmp/kl-store-XXXXXX";
    struct log_ack a, last = {0};
    int fd[2];
    assert_non_null(mkdtemp(dir));
    assert_int_equal(pipe(fd), 0);
    pid_t pid = fork_armed(r);
    if (pid == 0)
        write_log(dir, r->seed, fd[1]);
    close(fd[1]);
    while (read(fd[0], &a, sizeof(a)) == sizeof(a)) {
        assert_true(a.index < MOST);
        for (uint64_t i = last.index + 1; i <= a.index; i++)
            term[i] = a.term;
        last = a;
    }
    close(fd[0]);
    wait_killed(pid, r);
    struct kl_raft_log *l;
    struct kl_raft_found f;
    struct kl_error err;
    if (kl_raft_log_open(dir, &kl_raft_fs_disk, &l, &f, &err))
        fail_msg("%s: %s", r->what, err.msg);
    uint64_t least = last.cutting ? last.cutting - 1 : last.index;
    assert_int_equal(f.first_index, 1);
    // One append more than was acknowledged may have been written.
    if (f.nentries < least || f.nentries > last.index + 4)
        fail_msg("%s: %zu entries, acknowledged %llu", r->what, f.nentries,
                 (unsigned long long)last.index);
    for (size_t i = 0; i < f.nentries; i++) {
        const struct kl_raft_entry *e = &f.entries[i];
        assert_int_equal(e->index, i + 1);
        assert_int_equal(e->term, i < last.index ? term[i + 1] : last.term);
        for (size_t k = 0; k < e->n / 8; k++)
            assert_int_equal(((uint64_t *)e->p)[k], entry_word(e->index, e->term, e->n) + k);
    }
    struct kl_raft_entry more = {f.nentries + 1, last.term + 1, 1, &a, 8};
    assert_int_equal(kl_raft_log_append(l, &more, 1, &err), 0);
    kl_raft_found_fini(&f);
    kl_raft_log_close(l);
    hs_remove(dir);
}

// ---- all of them ----

static void die_there(void **state)
{
    uint64_t seed = hs_seed();
    int npoints = 0, seeds = hs_scale(SEEDS);
    int64_t start = kl_mono_ms();
    assert_true(kl_fault_built());
    for (size_t i = 0; i < KL_COUNT(points); i++) {
        const struct point *p = &points[i];
        if (!(p->on & bit()) || (only && !strstr(p->name, only)))
            continue;
        int64_t began = kl_mono_ms();
        for (int k = 0; k < seeds; k++) {
            struct run r = {.p = p, .seed = hs_rand(&seed) | 1};
            r.nth = 1 + (long)(r.seed % (uint64_t)p->most);
            snprintf(r.what, sizeof(r.what), "%s #%ld seed %llu", p->name, r.nth,
                     (unsigned long long)r.seed);
            switch (p->how) {
            case WRITE:
            case FRESH:
                run_writers(&r);
                break;
            case HISTORY:
                run_history(&r);
                break;
            case IMPORT:
                run_import(&r);
                break;
            case SNAPSHOT:
                run_snapshot(&r);
                break;
            case LOG:
                run_log(&r);
                break;
            }
        }
        print_message("%s: %d kills, %lld ms\n", p->name, seeds, (long long)(kl_mono_ms() - began));
        npoints++;
    }
    print_message("%d points, %d times each, %lld s\n", npoints, seeds,
                  (long long)(kl_mono_ms() - start) / 1000);
    assert_true(npoints > 0);
}

// The source has no point that is not in the table, and the table has no point twice.
static void all_known(void **state)
{
    char line[512];
    int n = 0;
    char cmd[512];
    snprintf(cmd, sizeof(cmd), "grep -rhoE 'kl_fault_crash\\(\"[^\"]*' '%s/store'", source_root);
    FILE *f = popen(cmd, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        char *name = strchr(line, '"') + 1;
        name[strcspn(name, "\n")] = 0;
        int found = 0;
        for (size_t i = 0; i < KL_COUNT(points); i++)
            found += strcmp(points[i].name, name) == 0;
        if (found != 1)
            fail_msg("%s is %d times in the table of this test", name, found);
        n++;
    }
    pclose(f);
    print_message("%d points\n", n);
    assert_true(n >= 40);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        backend = argv[1];
    source_root = argc > 2 ? argv[2] : ".";
    only = argc > 3 ? argv[3] : NULL;
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_known), cmocka_unit_test(die_there)};
    cmocka_set_message_output(CM_OUTPUT_STDOUT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
