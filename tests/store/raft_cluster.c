// SPDX-License-Identifier: Apache-2.0
// Several raft:// stores in one process over the real transport: joining, the rule that keeps the
// number of voters odd, failover, a follower that is far behind, and that all are the same.
#include "harness.h"
#include "store/peer/peers.h"
#include "store/raft/members.h"
#include "store/store_int.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/rand.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SERVERS = 3, WAIT_MS = 120000, ELECTION_MS = 1000 };

struct server {
    uint64_t id;
    char dir[96], address[128];
    int port;
    struct kl_peers *peers;
    struct hs_store hs;
    struct hs_client c;
    bool up;
};

struct cluster {
    char dir[64];
    struct server s[SERVERS];
    size_t snapshot_bytes;
};

static void nap(int ms)
{
    poll(NULL, 0, ms);
}

static void open_peers(struct cluster *c, int i)
{
    struct server *s = &c->s[i];
    struct kl_error err = {0};
    struct kl_peers_options po = {.id = s->id,
                                  .listen_address = "127.0.0.1",
                                  .listen_port = s->port,
                                  .insecure_loopback = true};
    if (kl_peers_open(&po, &s->peers, &err))
        fail_msg("peers %d: %s", i, err.msg);
    snprintf(s->address, sizeof(s->address), "%s", kl_peers_address(s->peers));
    s->port = atoi(strrchr(s->address, ':') + 1);
}

// A server that joins was added before.
static void open_server(struct cluster *c, int i, bool join)
{
    struct server *s = &c->s[i];
    struct kl_error err = {0};
    if (!join)
        open_peers(c, i);
    s->hs = (struct hs_store){.backend = "raft"};
    char url[128];
    snprintf(url, sizeof(url), "raft://%s", s->dir);
    memcpy(s->hs.url, url, sizeof(url));
    s->hs.o.peers = s->peers;
    s->hs.o.raft_join = join;
    s->hs.o.raft_election_ms = ELECTION_MS;
    s->hs.o.raft_snapshot_bytes = c->snapshot_bytes;
    if (join) {
        s->hs.o.raft_from = c->s[0].id;
        assert_int_equal(kl_peers_set(s->peers, c->s[0].id, c->s[0].address), 0);
    }
    if (kl_store_open(s->hs.url, &s->hs.o, &s->hs.s, &err))
        fail_msg("server %d: %s", i, err.msg);
    hs_client_open(&s->c, &s->hs);
    s->up = true;
}

static void stop_server(struct cluster *c, int i)
{
    struct server *s = &c->s[i];
    if (!s->up)
        return;
    hs_client_close(&s->c);
    kl_store_stop(s->hs.s);
    kl_peers_close(s->peers);
    s->up = false;
}

static void begin(struct cluster *c)
{
    const char *base = getenv("STORE_DIR");
    memset(c, 0, sizeof(*c));
    if (!base)
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(c->dir, sizeof(c->dir), "%.32s/kl-raft-XXXXXX", base);
    assert_non_null(mkdtemp(c->dir));
    for (int i = 0; i < SERVERS; i++) {
        c->s[i].id = kl_rand_u64() >> 1 | 1;
        char dir[sizeof(c->s[i].dir)];
        snprintf(dir, sizeof(dir), "%.60s/%d", c->dir, i);
        memcpy(c->s[i].dir, dir, sizeof(dir));
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static void end(struct cluster *c)
{
    for (int i = 0; i < SERVERS; i++)
        stop_server(c, i);
    nftw(c->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

// ---- changes ----

struct changing {
    struct kl_raft_change change;
    struct kl_store *s;
    atomic_bool done;
};

static void change_cb(struct kl_raft_change *c)
{
    atomic_store(&KL_CONTAINER_OF(c, struct changing, change)->done, true);
}

static void submit_change(struct hs_client *c, void *arg)
{
    struct changing *k = arg;
    assert_int_equal(kl_raft_change(k->s, &k->change, NULL), 0);
}

static void wait_change(struct changing *k)
{
    int64_t until = kl_mono_ms() + WAIT_MS;
    while (!atomic_load(&k->done)) {
        if (kl_mono_ms() > until)
            fail_msg("a change never ended");
        nap(5);
    }
}

static int change(struct server *at, enum kl_raft_change_op op, struct server *who)
{
    struct changing k = {.change = {.op = op, .id = who ? who->id : 0, .cb = change_cb},
                         .s = at->hs.s};
    if (op == KL_RAFT_ADD)
        snprintf(k.change.address, sizeof(k.change.address), "%s", who->address);
    hs_run(&at->c, submit_change, &k);
    wait_change(&k);
    if (k.change.code)
        print_message("change %d: %s\n", op, k.change.err.msg);
    return k.change.code;
}

static struct kl_raft_status status(struct server *s)
{
    struct kl_raft_status st;
    assert_int_equal(kl_raft_status(s->hs.s, &st, NULL), 0);
    return st;
}

static size_t voters(struct server *s)
{
    struct kl_raft_status st = status(s);
    size_t n = 0;
    for (size_t i = 0; i < st.nmembers; i++)
        n += st.members[i].role == KL_RAFT_VOTER;
    return n;
}

static void wait_voters(struct server *s, size_t want)
{
    int64_t until = kl_mono_ms() + WAIT_MS;
    while (voters(s) != want) {
        if (kl_mono_ms() > until)
            fail_msg("%zu voters, not %zu", voters(s), want);
        nap(20);
    }
}

static int wait_leader(struct cluster *c)
{
    int64_t until = kl_mono_ms() + WAIT_MS;
    for (;;) {
        for (int i = 0; i < SERVERS; i++) {
            if (c->s[i].up && status(&c->s[i]).leader == c->s[i].id)
                return i;
        }
        if (kl_mono_ms() > until)
            fail_msg("no leader");
        nap(10);
    }
}

// All that are up have applied the same.
static void wait_same(struct cluster *c)
{
    int64_t until = kl_mono_ms() + WAIT_MS;
    for (;;) {
        bool same = true;
        struct kl_raft_status first = {0};
        for (int i = 0; i < SERVERS; i++) {
            if (!c->s[i].up)
                continue;
            struct kl_raft_status st = status(&c->s[i]);
            if (!first.id)
                first = st;
            same = same && st.chain == first.chain && st.applied_index == first.applied_index;
            if (st.chain == first.chain)
                assert_true(st.state_hash == first.state_hash);
        }
        if (same)
            return;
        if (kl_mono_ms() > until)
            fail_msg("they do not become the same");
        nap(20);
    }
}

static void put_many(struct server *s, const char *prefix, int n, size_t bytes)
{
    char key[64], *value = malloc(bytes + 1);
    memset(value, 'v', bytes);
    value[bytes] = 0;
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "/%s/%05d", prefix, i);
        kl_rev rev = hs_put(&s->c, key, value, -1);
        if (rev <= 0)
            fail_msg("put %s: %lld", key, (long long)rev);
    }
    free(value);
}

static int64_t count(struct server *s, const char *prefix)
{
    char key[64], last[64];
    snprintf(key, sizeof(key), "/%s/", prefix);
    snprintf(last, sizeof(last), "/%s0", prefix);
    return hs_count(&s->c, key, last);
}

static void wait_count(struct server *s, const char *prefix, int64_t want)
{
    int64_t until = kl_mono_ms() + WAIT_MS;
    while (count(s, prefix) != want) {
        if (kl_mono_ms() > until)
            fail_msg("%lld of %lld keys", (long long)count(s, prefix), (long long)want);
        nap(5);
    }
}

static void join(struct cluster *c, int at, int i)
{
    open_peers(c, i);
    assert_int_equal(change(&c->s[at], KL_RAFT_ADD, &c->s[i]), 0);
    open_server(c, i, true);
}

static void make_three(struct cluster *c)
{
    open_server(c, 0, false);
    put_many(&c->s[0], "a", 50, 100);
    for (int i = 1; i < SERVERS; i++) {
        join(c, 0, i);
        assert_int_equal(count(&c->s[i], "a"), 50); // it opened with the state
        if (i == 1)
            wait_count(&c->s[1], "a", 50);
    }
    wait_voters(&c->s[0], 3);
}

// ---- tests ----

static void grows(void **state)
{
    struct cluster c;
    begin(&c);
    open_server(&c, 0, false);
    put_many(&c.s[0], "a", 20, 100);
    join(&c, 0, 1);
    put_many(&c.s[0], "b", 20, 100);
    wait_count(&c.s[1], "b", 20);
    // Two servers are one voter and one learner.
    nap(1200);
    assert_int_equal(voters(&c.s[0]), 1);
    join(&c, 1, 2); // taken anywhere
    wait_voters(&c.s[0], 3);
    for (int i = 0; i < SERVERS; i++) {
        char name[8];
        snprintf(name, sizeof(name), "w%d", i);
        put_many(&c.s[i], name, 20, 100); // forwarded where it must be
    }
    for (int i = 0; i < SERVERS; i++)
        wait_count(&c.s[i], "w2", 20);
    wait_same(&c);
    // Without one it is one voter and one learner again.
    int leader = wait_leader(&c), other = (leader + 1) % SERVERS;
    assert_int_equal(change(&c.s[leader], KL_RAFT_REMOVE, &c.s[other]), 0);
    stop_server(&c, other);
    wait_voters(&c.s[leader], 1);
    put_many(&c.s[leader], "c", 20, 100);
    wait_same(&c);
    end(&c);
}

static void fails_over(void **state)
{
    struct cluster c;
    begin(&c);
    make_three(&c);
    for (int round = 0; round < hs_scale(4); round++) {
        char name[16];
        int leader = wait_leader(&c), other = (leader + 1) % SERVERS;
        snprintf(name, sizeof(name), "r%d", round);
        put_many(&c.s[leader], name, 20, 100);
        stop_server(&c, leader);
        int64_t start = kl_mono_ms();
        assert_true(hs_put(&c.s[other].c, "/after", name, -1) > 0);
        print_message("writes again after %lld ms\n", (long long)(kl_mono_ms() - start));
        assert_int_equal(count(&c.s[other], name), 20); // none that was acknowledged is missing
        open_server(&c, leader, false);
        wait_same(&c);
    }
    // Leadership moves on request.
    int leader = wait_leader(&c), other = (leader + 1) % SERVERS;
    assert_int_equal(change(&c.s[leader], KL_RAFT_TRANSFER, &c.s[other]), 0);
    assert_int_equal(wait_leader(&c), other);
    put_many(&c.s[leader], "z", 10, 100);
    wait_same(&c);
    end(&c);
}

enum { MANY = 20000, MANY_TXN = 1000 };

// None takes several of the transactions in one turn, as they are not many.
static void put_range(struct cluster *c, struct server *s)
{
    static char name[MANY_TXN][16];
    struct kl_op *ops = calloc(MANY_TXN, sizeof(*ops));
    struct kl_bytes *v = kl_bytes_new(KL_STR("many"));
    for (int at = 0; at < MANY; at += MANY_TXN) {
        struct kl_txn txn = {.body = {.then = ops, .nthen = MANY_TXN}};
        for (int i = 0; i < MANY_TXN; i++) {
            snprintf(name[i], sizeof(name[i]), "/m/%05d", at + i);
            ops[i] =
                (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(name[i]), .value = kl_bytes_ref(v)};
        }
        assert_int_equal(hs_txn(&s->c, &txn), 0);
        kl_txn_fini(&txn);
        for (int i = 0; i < MANY_TXN; i++)
            kl_bytes_unref(v);
        for (int i = 0; i < SERVERS; i++)
            wait_count(&c->s[i], "m", at + MANY_TXN);
    }
    kl_bytes_unref(v);
    free(ops);
}

struct onlooker {
    pthread_t thread;
    struct server *s;
    atomic_bool stop;
    int64_t torn; // or written
    int64_t unsure;
};

static void *look_on(void *arg)
{
    struct onlooker *o = arg;
    for (unsigned looks = 1; !atomic_load(&o->stop); looks++) {
        int64_t n = count(o->s, "m");
        o->torn += n != MANY && n != 0;
        hs_breathe(looks);
    }
    return NULL;
}

// Entries behind it, while it is taken.
static void *write_on(void *arg)
{
    struct onlooker *o = arg;
    char key[32];
    for (unsigned i = 1; !atomic_load(&o->stop); i++) {
        snprintf(key, sizeof(key), "/w/%05u", i);
        kl_rev rev = hs_put(&o->s->c, key, "v", 0);
        o->torn += rev > 0;
        o->unsure += rev == KL_EMAYBE;
        hs_breathe(i);
    }
    return NULL;
}

// One entry of very many rows: each server that did not evaluate it takes it in turns, shows all of
// it or nothing, and what is written behind it comes after it.
static void many_rows(void **state)
{
    struct cluster c;
    begin(&c);
    make_three(&c);
    int leader = wait_leader(&c), other = (leader + 1) % SERVERS;
    put_range(&c, &c.s[leader]);
    struct onlooker o[SERVERS] = {0}, writer = {.s = &c.s[leader]};
    for (int i = 0; i < SERVERS; i++) {
        o[i].s = &c.s[i];
        assert_int_equal(pthread_create(&o[i].thread, NULL, look_on, &o[i]), 0);
    }
    assert_int_equal(pthread_create(&writer.thread, NULL, write_on, &writer), 0);
    struct kl_op del = {.kind = KL_OP_DELETE, .key = KL_STR("/m/"), .end = KL_STR("/m0")};
    struct kl_txn txn = {.body = {.then = &del, .nthen = 1}};
    assert_int_equal(hs_txn(&c.s[other].c, &txn), 0); // forwarded: its results are made there
    assert_int_equal(del.count, MANY);
    assert_int_equal(del.nkvs, MANY);
    assert_string_equal(del.kvs[MANY - 1]->key, "/m/19999");
    kl_txn_fini(&txn);
    atomic_store(&writer.stop, true);
    pthread_join(writer.thread, NULL);
    put_many(&c.s[other], "after", 5, 10);
    for (int i = 0; i < SERVERS; i++) {
        struct kl_store_status st;
        wait_count(&c.s[i], "after", 5);
        assert_int_equal(count(&c.s[i], "m"), 0);
        assert_in_range(count(&c.s[i], "w"), writer.torn, writer.torn + writer.unsure);
        atomic_store(&o[i].stop, true);
        pthread_join(o[i].thread, NULL);
        assert_int_equal(o[i].torn, 0);
        kl_store_status(c.s[i].hs.s, &st);
        print_message("longest turn: %lld rows\n", (long long)st.longest_turn);
        assert_in_range(st.longest_turn, 1, KL_TURN_ROWS + KL_BIG_ROWS + 2 * KL_RING_CHUNK);
    }
    wait_same(&c);
    end(&c);
}

// A follower that was away while the log was cut gets the state, and its watchers every event.
static void installs(void **state)
{
    struct cluster c;
    begin(&c);
    c.snapshot_bytes = 256 << 10;
    make_three(&c);
    int leader = wait_leader(&c), late = (leader + 1) % SERVERS;
    put_many(&c.s[leader], "s", 10, 100);
    wait_same(&c);
    stop_server(&c, late);
    put_many(&c.s[leader], "big", 300, 8192);
    for (int64_t until = kl_mono_ms() + WAIT_MS; status(&c.s[leader]).first_index <= 2; nap(5)) {
        if (kl_mono_ms() > until)
            fail_msg("the log is not cut");
    }
    open_server(&c, late, false);
    wait_count(&c.s[late], "big", 300);
    wait_same(&c);
    struct hs_watch w = {0};
    assert_int_equal(hs_watch_start(&w, &c.s[late].c, "/big/", "/big0", 2), 0);
    hs_watch_wait(&w, 300);
    hs_watch_fini(&w);
    // And it goes on from there, also after a restart.
    stop_server(&c, late);
    open_server(&c, late, false);
    put_many(&c.s[late], "t", 10, 100);
    wait_same(&c);
    end(&c);
}

static int try_open(struct cluster *c, int i, struct kl_error *err)
{
    struct server *s = &c->s[i];
    struct kl_store *st = NULL;
    struct kl_store_options o = {.raft_election_ms = ELECTION_MS};
    open_peers(c, i);
    o.peers = s->peers;
    int r = kl_store_open(s->hs.url, &o, &st, err);
    kl_store_stop(st);
    kl_peers_close(s->peers);
    return r;
}

static void flip_value(struct server *s)
{
    char path[160];
    sqlite3 *db;
    snprintf(path, sizeof(path), "%s/state.db", s->dir);
    assert_int_equal(sqlite3_open(path, &db), 0);
    assert_int_equal(sqlite3_exec(db,
                                  "UPDATE kine SET value = x'00' || substr(value, 2)"
                                  " WHERE id = (SELECT max(id) FROM kine)",
                                  NULL, NULL, NULL),
                     0);
    assert_int_equal(sqlite3_changes(db), 1);
    sqlite3_close(db);
}

// One byte of one server's database changes: it does not serve, and fetches the state unattended.
static void diverged(void **state)
{
    struct cluster c;
    struct kl_error err;
    begin(&c);
    make_three(&c);
    int leader = wait_leader(&c), bad = (leader + 1) % SERVERS;
    put_many(&c.s[leader], "d", 30, 100);
    wait_same(&c);
    stop_server(&c, bad);
    flip_value(&c.s[bad]);
    assert_int_equal(try_open(&c, bad, &err), KL_ECORRUPT);
    assert_non_null(strstr(err.msg, "not what the log wrote"));
    put_many(&c.s[leader], "e", 10, 100);
    open_server(&c, bad, false);
    wait_count(&c.s[bad], "e", 10);
    wait_same(&c);
    // It is a voter again, once it has an entry of this leader's: with it alone the others'
    // majority holds.
    put_many(&c.s[bad], "v", 1, 100);
    stop_server(&c, leader);
    put_many(&c.s[bad], "f", 10, 100);
    end(&c);
}

// A byte of the log changes: put aside, said, and the state is fetched.
static void damaged_log(void **state)
{
    struct cluster c;
    struct kl_error err;
    char path[160];
    begin(&c);
    make_three(&c);
    int leader = wait_leader(&c), bad = (leader + 1) % SERVERS;
    put_many(&c.s[leader], "d", 30, 100);
    wait_same(&c);
    stop_server(&c, bad);
    snprintf(path, sizeof(path), "%s/log-%020d", c.s[bad].dir, 1);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    fseek(f, 200, SEEK_SET);
    int byte = fgetc(f);
    fseek(f, 200, SEEK_SET);
    fputc(byte ^ 0x20, f);
    fclose(f);
    assert_int_equal(try_open(&c, bad, &err), KL_ECORRUPT);
    assert_non_null(strstr(err.msg, "is damaged"));
    open_server(&c, bad, false);
    put_many(&c.s[leader], "e", 10, 100);
    wait_same(&c);
    end(&c);
}

// Answers that others once asked for, or this server before it was started again.
static void stale_answers(void **state)
{
    struct cluster c;
    begin(&c);
    make_three(&c);
    int leader = wait_leader(&c), at = (leader + 1) % SERVERS;
    enum { RESULT = 33, HEAD = 8, SEQS = 500 }; // members.c's
    for (int i = 0; i < 10; i++) {
        struct changing k = {
            .change = {.op = KL_RAFT_PROMOTE, .id = c.s[leader].id, .cb = change_cb},
            .s = c.s[at].hs.s};
        hs_run(&c.s[at].c, submit_change, &k);
        for (unsigned seq = 0; seq < SEQS; seq++) {
            char p[HEAD + 12] = {1, RESULT};
            memcpy(p + HEAD, &seq, sizeof(seq));
            memset(p + HEAD + 8, 0xff, 4); // -1: KL_ENOMEM
            struct kl_bytes *b = kl_bytes_new((struct kl_str){p, sizeof(p)});
            kl_peers_send(c.s[leader].peers, c.s[at].id, KL_PEER_RAFT, b);
            kl_bytes_unref(b);
        }
        wait_change(&k);
        assert_int_not_equal(k.change.code, KL_ENOMEM);
    }
    end(&c);
}

static kl_rev rev_of(struct server *s)
{
    struct kl_store_status st;
    kl_store_status(s->hs.s, &st);
    return st.rev;
}

// All but one are gone for good.
static void recovers(void **state)
{
    struct cluster c;
    struct kl_error err;
    begin(&c);
    make_three(&c);
    put_many(&c.s[0], "d", 30, 100);
    wait_same(&c);
    int leader = wait_leader(&c), left = (leader + 1) % SERVERS;
    assert_int_equal(kl_raft_recover(c.s[left].dir, &err), KL_EUNAVAILABLE); // it is served
    // Writes that it never hears of: clients may have seen their revisions.
    stop_server(&c, left);
    put_many(&c.s[leader], "lost", 20, 100);
    kl_rev seen = rev_of(&c.s[leader]);
    for (int i = 0; i < SERVERS; i++)
        stop_server(&c, i);
    if (kl_raft_recover(c.s[left].dir, &err))
        fail_msg("%s", err.msg);
    open_server(&c, left, false);
    struct kl_store_status st;
    kl_store_status(c.s[left].hs.s, &st);
    assert_int_equal(st.rev, seen - 20 + 1000000);
    assert_int_equal(st.compact_rev, st.rev);
    assert_int_equal(count(&c.s[left], "d"), 30);
    assert_int_equal(count(&c.s[left], "lost"), 0);
    put_many(&c.s[left], "e", 10, 100);
    assert_int_equal(rev_of(&c.s[left]), st.rev + 10);
    // What cannot be trusted to have been finished is not served, until it is.
    stop_server(&c, left);
    char path[300];
    struct kl_store *s;
    snprintf(path, sizeof(path), "%s/recovering", c.s[left].dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    snprintf(path, sizeof(path), "raft://%s", c.s[left].dir);
    assert_int_equal(kl_store_open(path, NULL, &s, &err), KL_EFORBIDDEN);
    assert_non_null(strstr(err.msg, "run kinglet recover again"));
    if (kl_raft_recover(c.s[left].dir, &err))
        fail_msg("%s", err.msg);
    open_server(&c, left, false);
    assert_int_equal(rev_of(&c.s[left]), st.rev + 10 + 1000000);
    assert_int_equal(count(&c.s[left], "e"), 10);
    put_many(&c.s[left], "f", 1, 100);
    assert_int_equal(voters(&c.s[left]), 1);
    end(&c);
}

// kill -9 at each step of a recovery: nobody serves half of one, and the next run ends it.
static void recovery_cut(void **state)
{
    static const char *const points[] = {
        "raft.recover.marked", "raft.recover.alone", "raft.recover.jumped", "raft.import.hashed",
        "raft.import.state",   "raft.import.seeded", "raft.recover.done"};
    struct cluster c;
    struct kl_error err;
    struct kl_store *s;
    char url[128];
    begin(&c);
    open_server(&c, 0, false);
    put_many(&c.s[0], "d", 30, 100);
    kl_rev before = rev_of(&c.s[0]);
    stop_server(&c, 0);
    snprintf(url, sizeof(url), "raft://%s", c.s[0].dir);
    for (size_t i = 0; i < KL_COUNT(points); i++) {
        int status;
        pid_t pid = fork();
        if (!pid) {
            kl_fault_set(points[i], 1, 1);
            kl_raft_recover(c.s[0].dir, &err);
            _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFSIGNALED(status))
            fail_msg("%s was not reached", points[i]);
        assert_int_equal(kl_store_open(url, NULL, &s, &err), KL_EFORBIDDEN);
    }
    if (kl_raft_recover(c.s[0].dir, &err))
        fail_msg("%s", err.msg);
    open_server(&c, 0, false);
    assert_true(rev_of(&c.s[0]) >= before + 1000000);
    assert_int_equal(count(&c.s[0], "d"), 30);
    put_many(&c.s[0], "e", 10, 100);
    end(&c);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows),         cmocka_unit_test(fails_over),
        cmocka_unit_test(installs),      cmocka_unit_test(diverged),
        cmocka_unit_test(damaged_log),   cmocka_unit_test(recovers),
        cmocka_unit_test(stale_answers), cmocka_unit_test(recovery_cut),
        cmocka_unit_test(many_rows),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
