// SPDX-License-Identifier: Apache-2.0
// raft:// servers as processes of their own, which the test stops, continues and damages: no stale
// read (T17), rot on one disk is found and healed (T19), a follower far behind (T20).
#include "harness.h"
#include "free_port.h"
#include "store/peer/peers.h"
#include "store/raft/members.h"
#include "base/clock.h"
#include "base/rand.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SERVERS = 3, ELECTION_MS = 300, WAIT_MS = 60000 };

// ---- a server: lines in, one line out for each ----

static struct hs_store hs;
static struct hs_client client;
static struct hs_watch watch;

struct changing {
    struct kl_raft_change change;
    atomic_bool done;
};

static void change_cb(struct kl_raft_change *c)
{
    atomic_store(&KL_CONTAINER_OF(c, struct changing, change)->done, true);
}

static void submit_change(struct hs_client *c, void *arg)
{
    kl_raft_change(hs.s, &((struct changing *)arg)->change, NULL);
}

static void do_add(uint64_t id, const char *address)
{
    struct changing k = {.change = {.op = KL_RAFT_ADD, .id = id, .cb = change_cb}};
    snprintf(k.change.address, sizeof(k.change.address), "%s", address);
    hs_run(&client, submit_change, &k);
    while (!atomic_load(&k.done))
        poll(NULL, 0, 5);
    printf("%d\n", k.change.code);
}

static void do_fill(const char *prefix, int n, size_t bytes)
{
    char key[300], *value = malloc(bytes + 1);
    int code = 0;
    for (int i = 0; i < n && !code; i++) {
        memset(value, 'a' + i % 26, bytes);
        snprintf(key, sizeof(key), "%s%06d", prefix, i);
        kl_rev rev = hs_put_bytes(&client, kl_str(key), (struct kl_str){value, bytes}, -1);
        code = rev > 0 ? 0 : (int)rev;
    }
    free(value);
    printf("%d\n", code);
}

// A linearizable read: behind an empty transaction.
static void do_get(const char *key)
{
    struct kl_txn t = {0};
    int code = hs_txn(&client, &t);
    struct kl_kv *kv = code ? NULL : hs_get(&client, key);
    printf("%d %.*s\n", code, kv ? (int)kl_kv_value(kv).n : 1, kv ? kl_kv_value(kv).p : "-");
    kl_kv_unref(kv);
}

static void do_status(void)
{
    struct kl_raft_status st;
    size_t voters = 0;
    kl_raft_status(hs.s, &st, NULL);
    for (size_t i = 0; i < st.nmembers; i++)
        voters += st.members[i].role == KL_RAFT_VOTER;
    printf("%llu %zu %llu %llu %llu\n", (unsigned long long)st.leader, voters,
           (unsigned long long)st.applied_index, (unsigned long long)st.chain,
           (unsigned long long)st.state_hash);
}

static void do_watch(const char *key, const char *last)
{
    printf("%d\n", hs_watch_start(&watch, &client, key, last, hs_rev(&client) + 1));
}

// How many events; -1: one is missing or out of order.
static void do_events(void)
{
    pthread_mutex_lock(&watch.mu);
    long n = watch.code ? watch.code : (long)watch.n;
    for (size_t i = 1; i < watch.n; i++)
        n = watch.ev[i].rev > watch.ev[i - 1].rev ? n : -1;
    pthread_mutex_unlock(&watch.mu);
    printf("%ld\n", n);
}

static int serve(char **v)
{
    struct kl_error err = {0};
    struct kl_peers_options po = {.id = strtoull(v[0], NULL, 16),
                                  .listen_address = "127.0.0.1",
                                  .listen_port = atoi(v[1]),
                                  .insecure_loopback = true};
    char line[512], a[256], b[256];
    int n, size;
    unsigned long long id;
    hs.backend = "raft";
    snprintf(hs.url, sizeof(hs.url), "raft://%.150s", v[2]);
    if (kl_peers_open(&po, &hs.o.peers, &err))
        return 2;
    hs.o.raft_election_ms = ELECTION_MS;
    hs.o.raft_scrub_ms = atoi(v[3]);
    hs.o.raft_snapshot_bytes = (size_t)atol(v[4]);
    if (v[5]) {
        hs.o.raft_join = true;
        hs.o.raft_from = strtoull(v[5], NULL, 16);
        kl_peers_set(hs.o.peers, hs.o.raft_from, v[6]);
    }
    if (kl_store_open(hs.url, &hs.o, &hs.s, &err)) {
        fprintf(stderr, "server %s: %s\n", v[0], err.msg);
        return 1;
    }
    hs_client_open(&client, &hs);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready\n");
    while (fgets(line, sizeof(line), stdin)) {
        if (sscanf(line, "fill %250s %d %d", a, &n, &size) == 3)
            do_fill(a, n, (size_t)size);
        else if (sscanf(line, "put %250s %250s", a, b) == 2)
            printf("%lld\n", (long long)hs_put(&client, a, b, -1));
        else if (sscanf(line, "get %250s", a) == 1)
            do_get(a);
        else if (sscanf(line, "add %llx %250s", &id, a) == 2)
            do_add(id, a);
        else if (sscanf(line, "watch %250s %250s", a, b) == 2)
            do_watch(a, b);
        else if (strcmp(line, "events\n") == 0)
            do_events();
        else
            do_status();
    }
    return 0; // as a kill would
}

// ---- the test's side ----

struct server {
    uint64_t id;
    char dir[96];
    int port;
    pid_t pid;
    FILE *in, *out;
};

struct cluster {
    char dir[64];
    struct server s[SERVERS];
    int scrub_ms;
    long snapshot_bytes;
};

static void say(struct server *s, const char *line)
{
    fprintf(s->in, "%s\n", line);
    fflush(s->in);
}

static bool hear(struct server *s, char *ret, size_t n)
{
    if (!fgets(ret, (int)n, s->out))
        return false;
    ret[strcspn(ret, "\n")] = 0;
    return true;
}

static const char *ask(struct server *s, const char *line)
{
    static char answer[512];
    say(s, line);
    if (!hear(s, answer, sizeof(answer)))
        fail_msg("a server ended: %s", line);
    return answer;
}

// False: it ended before it was ready.
static bool launch(struct cluster *c, int i, bool join)
{
    struct server *s = &c->s[i];
    int to[2], from[2];
    char id[24], port[16], scrub[16], snap[16], first[24], address[32];
    snprintf(id, sizeof(id), "%llx", (unsigned long long)s->id);
    snprintf(first, sizeof(first), "%llx", (unsigned long long)c->s[0].id);
    snprintf(address, sizeof(address), "127.0.0.1:%d", c->s[0].port);
    snprintf(port, sizeof(port), "%d", s->port);
    snprintf(scrub, sizeof(scrub), "%d", c->scrub_ms);
    snprintf(snap, sizeof(snap), "%ld", c->snapshot_bytes);
    const char *argv[] = {"raft-servers",      "serve", id,  port, s->dir, scrub, snap,
                          join ? first : NULL, address, NULL};
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    s->pid = fork();
    if (!s->pid) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        execv("/proc/self/exe", (char *const *)argv);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    s->in = fdopen(to[1], "w");
    s->out = fdopen(from[0], "r");
    char line[64];
    return hear(s, line, sizeof(line));
}

static int reap(struct server *s)
{
    int status = 0;
    waitpid(s->pid, &status, 0);
    fclose(s->in);
    fclose(s->out);
    s->pid = 0;
    return status;
}

static void begin(struct cluster *c, int scrub_ms, long snapshot_bytes)
{
    char line[128];
    signal(SIGPIPE, SIG_IGN);
    memset(c, 0, sizeof(*c));
    c->scrub_ms = scrub_ms;
    c->snapshot_bytes = snapshot_bytes;
    const char *base = getenv("STORE_DIR");
    snprintf(c->dir, sizeof(c->dir), "%.32s/kl-servers-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(c->dir));
    for (int i = 0; i < SERVERS; i++) {
        struct server *s = &c->s[i];
        s->id = kl_rand_u64() >> 1 | 1;
        s->port = ts_free_port();
        snprintf(s->dir, sizeof(s->dir), "%.60s/%d", c->dir, i);
        if (i) {
            snprintf(line, sizeof(line), "add %llx 127.0.0.1:%d", (unsigned long long)s->id,
                     s->port);
            assert_string_equal(ask(&c->s[0], line), "0");
        }
        assert_true(launch(c, i, i > 0));
        assert_true(atoll(ask(&c->s[0], "put /first v")) > 0);
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static void end(struct cluster *c)
{
    for (int i = 0; i < SERVERS; i++) {
        kill(c->s[i].pid, SIGKILL);
        reap(&c->s[i]);
    }
    nftw(c->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

struct seen {
    unsigned long long leader, applied, chain, state;
    unsigned voters;
};

static struct seen look(struct server *s)
{
    struct seen v;
    assert_int_equal(sscanf(ask(s, "status"), "%llu %u %llu %llu %llu", &v.leader, &v.voters,
                            &v.applied, &v.chain, &v.state),
                     5);
    return v;
}

// All have three voters, one leader and the same state. Returns the leader.
static int settle(struct cluster *c)
{
    for (int64_t until = kl_mono_ms() + WAIT_MS; kl_mono_ms() < until; poll(NULL, 0, 20)) {
        struct seen first = look(&c->s[0]);
        bool same = first.leader && first.voters == 3;
        int leader = 0;
        for (int i = 0; i < SERVERS; i++) {
            struct seen v = look(&c->s[i]);
            same = same && v.leader == first.leader && v.chain == first.chain &&
                   v.state == first.state && v.voters == 3;
            leader = c->s[i].id == first.leader ? i : leader;
        }
        if (same)
            return leader;
    }
    fail_msg("they do not become the same");
    return -1;
}

// ---- T17 ----

static void no_stale_read(void **state)
{
    struct cluster c;
    char line[64], answer[128];
    begin(&c, -1, 0);
    int leader = settle(&c);
    for (int round = 0; round < hs_scale(50); round++) {
        int other = (leader + 1 + round % 2) % SERVERS;
        snprintf(line, sizeof(line), "put /r old%d", round);
        assert_true(atoll(ask(&c.s[leader], line)) > 0);
        kill(c.s[leader].pid, SIGSTOP);
        snprintf(line, sizeof(line), "put /r new%d", round);
        if (atoll(ask(&c.s[other], line)) <= 0)
            fail_msg("round %d: not written", round);
        say(&c.s[leader], "get /r"); // it still believes to lead when it reads this
        kill(c.s[leader].pid, SIGCONT);
        assert_true(hear(&c.s[leader], answer, sizeof(answer)));
        snprintf(line, sizeof(line), "0 new%d", round);
        if (answer[0] == '0' && strcmp(answer, line) != 0)
            fail_msg("round %d: the old leader answered '%s'", round, answer);
        leader = settle(&c);
    }
    end(&c);
}

// ---- T19 ----

// Turns one bit wherever `what` stands in the file.
static int flip(const char *dir, const char *name, const char *what)
{
    char path[256];
    int hits = 0;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t n = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    char *p = malloc((size_t)n + 1);
    assert_int_equal(pread(fd < 0 ? 0 : fd, p, fd < 0 ? 0 : (size_t)n, 0), n);
    size_t k = strlen(what);
    for (off_t at = 0; at + (off_t)k <= n; at++) {
        if (memcmp(p + at, what, k) != 0)
            continue;
        char byte = (char)(p[at] ^ 4);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        hits++;
    }
    free(p);
    if (fd >= 0)
        close(fd);
    return hits;
}

static void rots(bool log)
{
    struct cluster c;
    begin(&c, 2000, 0);
    int bad = (settle(&c) + 1) % SERVERS;
    struct server *s = &c.s[bad];
    assert_true(atoll(ask(s, "put /rot rotting-value")) > 0);
    settle(&c);
    poll(NULL, 0, 500); // it is in the database
    int hits = log ? flip(s->dir, "log-00000000000000000001", "rotting-value")
                   : flip(s->dir, "state.db", "rotting-value") +
                         flip(s->dir, "state.db-wal", "rotting-value");
    assert_true(hits > 0);
    int64_t start = kl_mono_ms();
    int status = 0;
    while (!waitpid(s->pid, &status, WNOHANG)) {
        if (kl_mono_ms() > start + 20000)
            fail_msg("it was not found");
        poll(NULL, 0, 20);
    }
    print_message("found after %lld ms\n", (long long)(kl_mono_ms() - start));
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_true(atoll(ask(&c.s[(bad + 1) % SERVERS], "put /while v")) > 0);
    fclose(s->in);
    fclose(s->out);
    assert_true(launch(&c, bad, false)); // as whoever supervises it
    assert_true(atoll(ask(&c.s[(bad + 1) % SERVERS], "put /after v")) > 0);
    settle(&c);
    assert_string_equal(ask(s, "get /rot"), "0 rotting-value");
    end(&c);
}

static void database_rots(void **state)
{
    rots(false);
}

static void log_rots(void **state)
{
    rots(true);
}

// Nothing is found where nothing is wrong, also while rows come and go.
static void nothing_rots(void **state)
{
    struct cluster c;
    begin(&c, 100, 1 << 20);
    int leader = settle(&c);
    for (int i = 0; i < hs_scale(6); i++)
        assert_string_equal(ask(&c.s[leader], "fill /churn 300 2000"), "0");
    settle(&c);
    poll(NULL, 0, 500);
    settle(&c); // all are there
    end(&c);
}

// ---- T20 ----

static long memory_kib(pid_t pid, const char *what)
{
    char path[64], line[256];
    long v = -1;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) {
        if (strncmp(line, what, strlen(what)) == 0)
            v = atol(line + strlen(what));
    }
    fclose(f);
    return v;
}

static void far_behind(void **state)
{
    struct cluster c;
    char line[64], path[64];
    begin(&c, -1, 1 << 20);
    int leader = settle(&c), late = (leader + 1) % SERVERS;
    int n = 3200; // 200 MB: much more than the 64 MiB that may wait for a peer
    assert_string_equal(ask(&c.s[late], "watch /big/ /big0"), "0");
    kill(c.s[late].pid, SIGSTOP);
    snprintf(line, sizeof(line), "fill /big/ %d 65536", n);
    assert_string_equal(ask(&c.s[leader], line), "0");
    snprintf(path, sizeof(path), "/proc/%d/clear_refs", c.s[leader].pid);
    FILE *f = fopen(path, "we"); // the peak begins anew
    assert_non_null(f);
    fputs("5", f);
    fclose(f);
    long before = memory_kib(c.s[leader].pid, "VmRSS:");
    kill(c.s[late].pid, SIGCONT);
    int64_t start = kl_mono_ms(), slowest = 0;
    say(&c.s[late], "events");
    int writes = 0, events = 0;
    for (; events < n; writes++) {
        int64_t at = kl_mono_ms();
        snprintf(line, sizeof(line), "put /small/%d v", writes);
        assert_true(atoll(ask(&c.s[leader], line)) > 0);
        slowest = kl_mono_ms() - at > slowest ? kl_mono_ms() - at : slowest;
        struct pollfd p = {fileno(c.s[late].out), POLLIN, 0};
        if (poll(&p, 1, 0) > 0) {
            char answer[64];
            assert_true(hear(&c.s[late], answer, sizeof(answer)));
            events = atoi(answer);
            assert_true(events >= 0);
            say(&c.s[late], "events");
        }
        if (kl_mono_ms() > start + WAIT_MS)
            fail_msg("%d of %d events", events, n);
    }
    char answer[64];
    assert_true(hear(&c.s[late], answer, sizeof(answer)));
    long grown = memory_kib(c.s[leader].pid, "VmHWM:") - before;
    print_message("%d MB in %lld ms: %d writes, the slowest %lld ms; leader +%ld KiB\n", n / 16,
                  (long long)(kl_mono_ms() - start), writes, (long long)slowest, grown);
    assert_true(grown <= 32 << 10);
    settle(&c);
    end(&c);
}

int main(int argc, char **argv)
{
    if (argc > 6 && strcmp(argv[1], "serve") == 0)
        return serve(argv + 2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_stale_read), cmocka_unit_test(database_rots),
        cmocka_unit_test(log_rots),      cmocka_unit_test(nothing_rots),
        cmocka_unit_test(far_behind),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
