// SPDX-License-Identifier: Apache-2.0
// Several servers on one database, each a process: whatever happens to them, to their connections
// and to the database, nothing that was acknowledged is lost or there twice, revisions have no
// gaps, and every server's watch brings every event once and in order.
//   store-sql-servers postgres|mysql
#include "harness.h"
#include "servers.h"
#include "base/clock.h"
#include "store/peer/peers.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    WORKERS = 3,
    SUBMITTERS = 16,
    COUNTERS = 8,
    GAPLESS_WRITES = 50000, // alone and led
    PAUSES = 10,
    PAUSE_MS = 3000,
    SHORT_MS = 6000,
};

static enum ts_kind kind;
static const char *backend;

// ---- a server: half of its writes create a key, half count up one that all share ----

struct report {
    int64_t creates, increments; // acknowledged
    int64_t lost_races;          // compares that failed
    int64_t refused;             // certainly not stored
    int64_t maybe;               // nobody knows
    int64_t events, last_rev;
    uint64_t hash; // of all events
    int64_t gaps;
};

struct submitter {
    struct kl_txn txn;
    struct kl_op op;
    struct kl_compare cmp;
    char key[64], value[32];
    bool counts;
    struct worker *w;
};

struct worker {
    int id;
    struct hs_store hs;
    struct hs_client c;
    struct hs_watch watch;
    struct report r;
    uint64_t seed;
    int64_t serial;
    struct submitter sub[SUBMITTERS];
    atomic_bool stop;
    atomic_int open;
    atomic_llong acks;
};

static void submit(struct submitter *u);

static void done(struct kl_txn *txn)
{
    struct submitter *u = KL_CONTAINER_OF(txn, struct submitter, txn);
    struct report *r = &u->w->r;
    if (txn->code == KL_EMAYBE)
        r->maybe++;
    else if (txn->code)
        r->refused++;
    else if (!txn->body.succeeded)
        r->lost_races++;
    else if (u->counts)
        r->increments++;
    else
        r->creates++;
    if (!txn->code)
        atomic_fetch_add(&u->w->acks, 1);
    kl_txn_fini(txn);
    kl_bytes_unref(u->op.value);
    submit(u);
}

static void submit(struct submitter *u)
{
    struct worker *w = u->w;
    if (atomic_load(&w->stop)) {
        atomic_fetch_sub(&w->open, 1);
        return;
    }
    u->counts = hs_rand(&w->seed) % 2;
    int64_t value = 1;
    u->cmp = (struct kl_compare){.target = KL_COMPARE_MOD};
    if (u->counts) {
        snprintf(u->key, sizeof(u->key), "/counter/%d", (int)(hs_rand(&w->seed) % COUNTERS));
        struct kl_kv *kv = kl_view_get(kl_reader_view(w->c.reader), kl_str(u->key));
        u->cmp.num = kv ? kv->mod_rev : 0;
        value = kv ? strtoll(kl_kv_value(kv).p, NULL, 10) + 1 : 1;
    } else {
        snprintf(u->key, sizeof(u->key), "/created/%d/%lld", w->id, (long long)++w->serial);
    }
    int n = snprintf(u->value, sizeof(u->value), "%lld ", (long long)value);
    u->cmp.key = kl_str(u->key);
    u->op = (struct kl_op){.kind = KL_OP_PUT, .key = u->cmp.key};
    u->op.value = kl_bytes_new((struct kl_str){u->value, (size_t)n});
    u->txn = (struct kl_txn){
        .body = {.compares = &u->cmp, .ncompares = 1, .then = &u->op, .nthen = 1}, .cb = done};
    if (kl_store_submit(w->hs.s, &u->txn, NULL))
        _exit(5);
}

static void start(struct hs_client *c, void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < SUBMITTERS; i++) {
        w->sub[i].w = w;
        submit(&w->sub[i]);
    }
}

static void judge_events(struct worker *w)
{
    struct report *r = &w->r;
    r->hash = 14695981039346656037u;
    for (size_t i = 0; i < w->watch.n; i++) {
        const struct hs_event *e = &w->watch.ev[i];
        r->gaps += e->rev != (kl_rev)i + 2;
        for (const char *p = e->key; *p; p++)
            r->hash = (r->hash ^ (unsigned char)*p) * 1099511628211u;
        for (const char *p = e->value ? e->value : ""; *p; p++)
            r->hash = (r->hash ^ (unsigned char)*p) * 1099511628211u;
    }
    r->events = (int64_t)w->watch.n;
    r->last_rev = w->watch.n ? w->watch.ev[w->watch.n - 1].rev : 1;
}

// Waits for one byte of the parent's.
static void await(int fd)
{
    char c;
    while (read(fd, &c, 1) < 0 && errno == EINTR)
        ;
}

static void send_to(int fd, const void *p, size_t n)
{
    if (write(fd, p, n) != (ssize_t)n)
        _exit(4);
}

static void run_worker(int id, const char *url, bool peers, int in, int out)
{
    struct worker *w = calloc(1, sizeof(*w));
    struct kl_error err = {0};
    w->id = id;
    w->seed = (uint64_t)getpid() * 2654435761u + 1;
    w->hs.backend = backend;
    struct kl_peers_options po = {.id = (uint64_t)id + 1, .insecure_loopback = true};
    struct kl_store_options o = {0};
    if (peers && kl_peers_open(&po, &o.peers, &err)) {
        fprintf(stderr, "worker %d: %s\n", id, err.msg);
        _exit(2);
    }
    if (kl_store_open(url, &o, &w->hs.s, &err)) {
        fprintf(stderr, "worker %d: %s\n", id, err.msg);
        _exit(2);
    }
    hs_client_open(&w->c, &w->hs);
    if (hs_watch_start(&w->watch, &w->c, "/", "0", 2))
        _exit(3);
    send_to(out, "o", 1);
    await(in);
    atomic_store(&w->open, SUBMITTERS);
    hs_run(&w->c, start, w);
    struct pollfd p = {in, POLLIN, 0};
    while (poll(&p, 1, 20) == 0) { // the parent wants to see that we get on
        long long n = atomic_load(&w->acks);
        send_to(out, &n, sizeof(n));
    }
    await(in);
    atomic_store(&w->stop, true);
    while (atomic_load(&w->open))
        poll(NULL, 0, 5);
    long long end = -1;
    send_to(out, &end, sizeof(end));
    kl_rev target;
    if (read(in, &target, sizeof(target)) != sizeof(target))
        _exit(6);
    hs_watch_wait_rev(&w->watch, target);
    hs_watch_stop(&w->watch);
    judge_events(w);
    send_to(out, &w->r, sizeof(w->r));
    hs_watch_fini(&w->watch);
    hs_client_close(&w->c);
    kl_store_stop(w->hs.s);
    kl_peers_close(o.peers);
    free(w);
    _exit(0);
}

// ---- the parent ----

struct child {
    pid_t pid;
    int to, from;
    long long acks;
    struct report r;
};

struct fleet {
    struct ts_server *server;
    char db[32], url[192];
    bool peers;
    struct child c[WORKERS];
};

// What a test that fails leaves behind.
static pid_t running[WORKERS];
static struct hs_pulse pulse;
static bool pulsing;

static void start_pulse(void)
{
    hs_pulse_start(&pulse);
    pulsing = true;
}

static int64_t stop_pulse(void)
{
    pulsing = false;
    return hs_pulse_stop(&pulse);
}

static int teardown(void **state)
{
    for (int i = 0; i < WORKERS; i++) {
        if (running[i] && !kill(running[i], SIGKILL))
            waitpid(running[i], NULL, 0);
        running[i] = 0;
    }
    if (pulsing)
        stop_pulse();
    return 0;
}

static void read_all(int fd, void *p, size_t n)
{
    for (size_t have = 0; have < n;) {
        ssize_t k = read(fd, (char *)p + have, n - have);
        if (k <= 0)
            fail_msg("a worker ended early");
        have += (size_t)k;
    }
}

static void start_child(struct fleet *f, int i)
{
    int to[2], from[2];
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    struct child *c = &f->c[i];
    fflush(NULL);
    c->pid = fork();
    if (c->pid == 0) {
        for (int k = 0; k < i; k++) {
            close(f->c[k].to);
            close(f->c[k].from);
        }
        close(to[1]);
        close(from[0]);
        char url[192];
        run_worker(i, ts_url_node(f->server, i, f->db, url, sizeof(url)), f->peers, to[0], from[1]);
    }
    running[i] = c->pid;
    close(to[0]);
    close(from[1]);
    c->to = to[1];
    c->from = from[0];
}

// The leader is found, and the others have been told its address.
static void await_leader(struct fleet *f)
{
    char out[64] = "";
    int64_t until = kl_mono_ms() + 120000;
    while (f->peers && strcmp(kl_str_trim(kl_str(out)).n ? out : "0", "0") <= 0) {
        if (kl_mono_ms() >= until)
            fail_msg("nobody leads: kv_meta.writer is '%s'", out);
        poll(NULL, 0, 50);
        ts_sql(f->server, f->db, "SELECT writer FROM kv_meta", out, sizeof(out));
    }
    if (f->peers)
        poll(NULL, 0, 2500); // a heartbeat
}

static void start_fleet(struct fleet *f, struct ts_server *s, bool peers)
{
    memset(f, 0, sizeof(*f));
    f->server = s;
    f->peers = peers;
    ts_fresh(s, f->db);
    ts_url(s, f->db, NULL, f->url, sizeof(f->url));
    for (int i = 0; i < WORKERS; i++)
        start_child(f, i);
    char open;
    for (int i = 0; i < WORKERS; i++)
        read_all(f->c[i].from, &open, 1);
    await_leader(f);
    for (int i = 0; i < WORKERS; i++)
        send_to(f->c[i].to, "g", 1);
}

// Runs for at least ms, and until every worker has had n more answers.
static void let_run(struct fleet *f, int ms, long long n)
{
    int64_t until = kl_mono_ms() + ms, deadline = until + 240000;
    long long want[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        want[i] = f->c[i].acks + n;
    for (;;) {
        bool all = kl_mono_ms() >= until;
        for (int i = 0; i < WORKERS; i++) {
            struct pollfd p = {f->c[i].from, POLLIN, 0};
            while (poll(&p, 1, 5) > 0)
                read_all(p.fd, &f->c[i].acks, sizeof(f->c[i].acks));
            all = all && f->c[i].acks >= want[i];
        }
        if (all)
            return;
        if (kl_mono_ms() > deadline)
            fail_msg("no progress: %lld %lld %lld", f->c[0].acks, f->c[1].acks, f->c[2].acks);
    }
}

static kl_rev db_rev(struct fleet *f)
{
    char out[256];
    ts_sql(f->server, f->db, "SELECT rev FROM kv_meta", out, sizeof(out));
    return strtoll(out, NULL, 10);
}

static void stop_fleet(struct fleet *f, struct report *sum)
{
    memset(sum, 0, sizeof(*sum));
    for (int i = 0; i < WORKERS; i++)
        send_to(f->c[i].to, "s", 1);
    for (int i = 0; i < WORKERS; i++) {
        do {
            read_all(f->c[i].from, &f->c[i].acks, sizeof(f->c[i].acks));
        } while (f->c[i].acks >= 0);
    }
    kl_rev rev = db_rev(f);
    for (int i = 0; i < WORKERS; i++)
        send_to(f->c[i].to, &rev, sizeof(rev));
    for (int i = 0; i < WORKERS; i++) {
        struct report *r = &f->c[i].r;
        int status;
        read_all(f->c[i].from, r, sizeof(*r));
        assert_int_equal(waitpid(f->c[i].pid, &status, 0), f->c[i].pid);
        running[i] = 0;
        assert_int_equal(status, 0);
        close(f->c[i].to);
        close(f->c[i].from);
        assert_int_equal(r->gaps, 0);
        assert_int_equal(r->last_rev, rev);
        assert_true(r->hash == f->c[0].r.hash);
        sum->creates += r->creates;
        sum->increments += r->increments;
        sum->lost_races += r->lost_races;
        sum->refused += r->refused;
        sum->maybe += r->maybe;
    }
    sum->last_rev = rev;
}

// What the tables and a server that opens now say of it.
static void check(struct fleet *f, const struct report *sum)
{
    char out[256];
    long long n, min, max;
    ts_sql(f->server, f->db, "SELECT count(*), min(id), max(id) FROM kine", out, sizeof(out));
    assert_int_equal(sscanf(out, "%lld %lld %lld", &n, &min, &max), 3);
    assert_int_equal(min, 2);
    assert_int_equal(max, sum->last_rev);
    assert_int_equal(n, max - 1); // no gap
    struct hs_store hs = {.backend = backend};
    struct hs_client c;
    struct kl_error err = {0};
    if (kl_store_open(f->url, NULL, &hs.s, &err))
        fail_msg("%s", err.msg);
    hs_client_open(&c, &hs);
    int64_t created = hs_count(&c, "/created/", "/created0"), counted = 0;
    for (int i = 0; i < COUNTERS; i++) {
        char key[32];
        snprintf(key, sizeof(key), "/counter/%d", i);
        struct kl_kv *kv = hs_get(&c, key);
        int64_t v = kv ? strtoll(kl_kv_value(kv).p, NULL, 10) : 0;
        assert_int_equal(v, kv ? kv->version : 0);
        counted += v;
        kl_kv_unref(kv);
    }
    hs_client_close(&c);
    kl_store_stop(hs.s);
    print_message(
        "creates %lld, increments %lld, lost races %lld, refused %lld, maybe %lld; there: "
        "creates %lld, increments %lld, rows %lld\n",
        (long long)sum->creates, (long long)sum->increments, (long long)sum->lost_races,
        (long long)sum->refused, (long long)sum->maybe, (long long)created, (long long)counted, n);
    int64_t acked = sum->creates + sum->increments, have = created + counted;
    assert_true(created >= sum->creates);
    assert_true(counted >= sum->increments);
    assert_in_range(have, acked, acked + sum->maybe);
    assert_int_equal(have, n);
    char sql[96];
    snprintf(sql, sizeof(sql), "DROP DATABASE %s", f->db);
    ts_sql(f->server, NULL, sql, NULL, 0);
}

// T7.
static void gapless(bool peers)
{
    struct fleet f;
    struct report sum;
    start_fleet(&f, ts_shared(kind), peers);
    start_pulse(); // behind the forks
    kl_rev want = hs_scale(GAPLESS_WRITES);
    while (db_rev(&f) < want)
        let_run(&f, 500, 500);
    stop_fleet(&f, &sum);
    int64_t still_ms = stop_pulse();
    check(&f, &sum);
    if (still_ms <= HS_PULSE_STILL_MS) { // check() knows of the others
        assert_true(sum.creates + sum.increments >= want - 1);
        assert_int_equal(sum.maybe, 0);
        assert_int_equal(sum.refused, 0);
    }
    assert_true(sum.lost_races > 0);
}

// T8: one after the other stands still; the others must get on meanwhile.
static void paused_servers(bool peers)
{
    struct fleet f;
    struct report sum;
    start_fleet(&f, ts_shared(kind), peers);
    for (int i = 0; i < hs_scale(PAUSES); i++) {
        int who = i % WORKERS;
        let_run(&f, 100, 50);
        kill(f.c[who].pid, SIGSTOP);
        long long acks[WORKERS];
        for (int k = 0; k < WORKERS; k++)
            acks[k] = f.c[k].acks;
        int64_t least = kl_mono_ms() + PAUSE_MS, until = least + 120000;
        bool others = false;
        while (!others && kl_mono_ms() < until) { // what is in the pipe counts as well
            others = kl_mono_ms() >= least;
            for (int k = 0; k < WORKERS; k++) {
                struct pollfd p = {f.c[k].from, POLLIN, 0};
                while (k != who && poll(&p, 1, 20) > 0)
                    read_all(p.fd, &f.c[k].acks, sizeof(f.c[k].acks));
                others = others && (k == who || f.c[k].acks > acks[k] + 200);
            }
        }
        kill(f.c[who].pid, SIGCONT);
        assert_true(others);
    }
    let_run(&f, 100, 50);
    stop_fleet(&f, &sum);
    check(&f, &sum);
    // What was forwarded to a leader that stands still may time out, as with etcd: check() knows.
    assert_true(sum.maybe <= (peers ? SUBMITTERS * hs_scale(PAUSES) : 0));
}

static void cut_connections(bool peers)
{
    struct fleet f;
    struct report sum;
    start_fleet(&f, ts_shared(kind), peers);
    start_pulse();
    for (int i = 0; i < hs_scale(20); i++) {
        char sql[640];
        let_run(&f, 30, 1);
        if (kind == TS_POSTGRES)
            snprintf(sql, sizeof(sql),
                     "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'"
                     " AND application_name = 'kinglet' AND random() < 0.5",
                     f.db);
        else if (ts_is_mysql(f.server))
            snprintf(sql, sizeof(sql),
                     "CREATE PROCEDURE IF NOT EXISTS kill_half() BEGIN DECLARE ended INT DEFAULT 0;"
                     " DECLARE i BIGINT; DECLARE c CURSOR FOR SELECT id FROM"
                     " information_schema.processlist WHERE db = '%s' AND command <> 'Killed' AND"
                     " rand() < 0.5; DECLARE CONTINUE HANDLER FOR NOT FOUND SET ended = 1;"
                     " DECLARE EXIT HANDLER FOR 3854 SET @bytes = 1;" // in a statement that runs
                     " DECLARE CONTINUE HANDLER FOR 1094 SET @gone = 1; OPEN c; l: LOOP FETCH c"
                     " INTO i; IF ended THEN LEAVE l; END IF; IF i <> CONNECTION_ID() THEN KILL i;"
                     " END IF; END LOOP; END$$CALL kill_half()",
                     f.db);
        else
            snprintf(sql, sizeof(sql),
                     "BEGIN NOT ATOMIC" // gone meanwhile, or Galera's own
                     " DECLARE CONTINUE HANDLER FOR 1094, 1095 SET @gone = 1;"
                     " FOR p IN (SELECT id FROM information_schema.processlist"
                     " WHERE db = '%s' AND rand() < 0.5) DO KILL p.id; END FOR; END",
                     f.db);
        ts_sql(f.server, ts_is_mysql(f.server) ? f.db : NULL, sql, NULL, 0);
    }
    let_run(&f, 100, 50);
    stop_fleet(&f, &sum);
    int64_t still_ms = stop_pulse();
    check(&f, &sum);
    if (still_ms <= HS_PULSE_STILL_MS) {
        assert_int_equal(sum.maybe, 0);
        assert_int_equal(sum.refused, 0);
    }
}

static void restarted_database(bool peers)
{
    struct fleet f;
    struct report sum;
    struct ts_server *s = ts_start(kind, NULL);
    int64_t away_ms = 0;
    start_fleet(&f, s, peers);
    start_pulse();
    for (int i = 0; i < hs_scale(2); i++) {
        let_run(&f, 200, 200);
        int64_t since = kl_mono_ms();
        if (i % 2)
            ts_down(s);
        else
            ts_kill(s);
        ts_up(s);
        away_ms = kl_mono_ms() - since > away_ms ? kl_mono_ms() - since : away_ms;
    }
    let_run(&f, 200, 200);
    stop_fleet(&f, &sum);
    int64_t still_ms = stop_pulse();
    check(&f, &sum);
    print_message("the database was away for %lld ms at most\n", (long long)away_ms);
    if (still_ms <= HS_PULSE_STILL_MS && away_ms < SHORT_MS) { // less than writes wait
        assert_int_equal(sum.maybe, 0);
        assert_int_equal(sum.refused, 0);
    }
    ts_stop(s);
}

// The database stands still for longer than a write waits.
static void hung_database(void **state)
{
    struct fleet f;
    struct report sum;
    struct ts_server *s = ts_start(kind, NULL);
    start_fleet(&f, s, false);
    let_run(&f, 200, 200);
    ts_pause(s);
    poll(NULL, 0, 25000);
    ts_resume(s);
    let_run(&f, 200, 200);
    stop_fleet(&f, &sum);
    check(&f, &sum);
    assert_true(sum.refused + sum.maybe > 0);
    ts_stop(s);
}

// ---- how long after a commit on one server another one's watch has its event ----

struct pair {
    struct hs_store hs[2];
    struct hs_client c[2];
    struct hs_watch watch;
    struct kl_peers *peers[2];
};

static void open_pair(struct pair *p, const struct ts_server *s, const char *db, bool peers)
{
    struct kl_error err = {0};
    char url[192];
    memset(p, 0, sizeof(*p));
    for (int i = 0; i < 2; i++) {
        ts_url_node(s, i, db, url, sizeof(url));
        struct kl_peers_options po = {.id = (uint64_t)i + 1, .insecure_loopback = true};
        if (peers && kl_peers_open(&po, &p->peers[i], &err))
            fail_msg("%s", err.msg);
        p->hs[i].backend = backend;
        if (kl_store_open(url, &(struct kl_store_options){.peers = p->peers[i]}, &p->hs[i].s, &err))
            fail_msg("%s", err.msg);
        hs_client_open(&p->c[i], &p->hs[i]);
    }
    assert_int_equal(hs_watch_start(&p->watch, &p->c[1], "/", "0", 2), 0);
    int64_t until = kl_mono_ms() + 120000; // each has been told the other's address
    while (peers && !kl_peers_connected(p->peers[0], 2) && kl_mono_ms() < until)
        poll(NULL, 0, 20);
    assert_true(!peers || kl_peers_connected(p->peers[0], 2));
}

static void close_pair(struct pair *p)
{
    hs_watch_stop(&p->watch);
    hs_watch_fini(&p->watch);
    for (int i = 0; i < 2; i++) {
        hs_client_close(&p->c[i]);
        kl_store_stop(p->hs[i].s);
        kl_peers_close(p->peers[i]);
    }
}

struct confirmed {
    struct kl_txn txn;
    atomic_bool done;
};

static void read_done(struct kl_txn *txn)
{
    struct confirmed *r = KL_CONTAINER_OF(txn, struct confirmed, txn);
    kl_txn_fini(txn);
    atomic_store(&r->done, true);
}

static void start_read(struct hs_client *c, void *arg)
{
    struct confirmed *r = arg;
    r->txn = (struct kl_txn){.cb = read_done};
    atomic_store(&r->done, false);
    if (kl_store_submit(c->hs->s, &r->txn, NULL))
        atomic_store(&r->done, true);
}

static int compare_us(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

// Whether they came in time. `reads`: the other server asks the database at the same moment, so
// that the news arrive in the middle of a question.
static bool in_time(bool peers, bool reads)
{
    char db[32];
    struct ts_server *s = ts_shared(kind);
    struct pair p;
    struct confirmed r = {.done = true};
    int n = hs_scale(reads ? 300 : 60);
    int64_t *us = calloc((size_t)n, sizeof(*us)), late = 0;
    uint64_t seed = hs_seed();
    ts_fresh(s, db);
    open_pair(&p, s, db, peers);
    for (int i = 0; i < n; i++) {
        char key[32];
        snprintf(key, sizeof(key), "/delay/%d", i);
        poll(NULL, 0, (int)(hs_rand(&seed) % (reads ? 5 : 60))); // a poll grows rarer
        if (reads)
            hs_run(&p.c[1], start_read, &r);
        assert_true(hs_put(&p.c[0], key, "v", 0) > 0);
        int64_t start = kl_mono_ns();
        hs_watch_wait(&p.watch, (size_t)i + 1);
        us[i] = (kl_mono_ns() - start) / 1000;
        late += us[i] > 900000;
        while (!atomic_load(&r.done))
            poll(NULL, 0, 1);
    }
    qsort(us, (size_t)n, sizeof(*us), compare_us);
    print_message("%s%s%s: median %.1f ms, 99 of 100 within %.1f ms, all within %.1f ms\n", backend,
                  peers ? ", peers" : "", reads ? ", reads" : "", (double)us[n / 2] / 1e3,
                  (double)us[n * 99 / 100] / 1e3, (double)us[n - 1] / 1e3);
    print_message("%lld of %d came only with the next poll\n", (long long)late, n);
    bool ok = us[n - 1] < 5000000 && late <= 1; // it is for what was lost
    free(us);
    close_pair(&p);
    return ok;
}

// News that get lost do so again and again; a machine that stands still does not.
static void measure_delay(bool peers, bool reads)
{
    for (int i = 0; i < 8; i++)
        if (in_time(peers, reads))
            return;
    fail_msg("news come late, or only with the next poll");
}

static void delay_alone(void **state)
{
    measure_delay(false, false);
}

static void delay_led(void **state)
{
    measure_delay(true, false);
}

static void delay_reads(void **state)
{
    measure_delay(false, true);
}

// The database changes by the log alone, or one server commits for all.
#define BOTH(name)                                                                                 \
    static void name##_alone(void **state)                                                         \
    {                                                                                              \
        name(false);                                                                               \
    }                                                                                              \
    static void name##_led(void **state)                                                           \
    {                                                                                              \
        name(true);                                                                                \
    }
BOTH(gapless)
BOTH(paused_servers)
BOTH(cut_connections)
BOTH(restarted_database)

int main(int argc, char **argv)
{
    backend = argc > 1 ? argv[1] : "postgres";
    kind = backend[0] == 'p' ? TS_POSTGRES : TS_MARIADB;
#define CASE(f) cmocka_unit_test_teardown(f, teardown)
    const struct CMUnitTest tests[] = {
        CASE(gapless_alone),
        CASE(gapless_led),
        CASE(paused_servers_alone),
        CASE(paused_servers_led),
        CASE(cut_connections_alone),
        CASE(cut_connections_led),
        CASE(restarted_database_alone),
        CASE(restarted_database_led),
        CASE(hung_database),
        CASE(delay_alone),
        CASE(delay_led),
        CASE(delay_reads),
    };
    cmocka_set_message_output(CM_OUTPUT_STDOUT);
    signal(SIGPIPE, SIG_IGN);
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
