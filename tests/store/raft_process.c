// SPDX-License-Identifier: Apache-2.0
#include "raft_process.h"
#include "free_port.h"
#include "harness.h"
#include "base/clock.h"
#include "base/rand.h"
#include "store/peer/peers.h"
#include "store/raft/members.h"
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- a server ----

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
        poll(NULL, 0, 1);
    printf("%d\n", k.change.code);
}

static bool may_try_again(int64_t code)
{
    return code == KL_EMAYBE || code == KL_EUNAVAILABLE || code == KL_ETOOMANY;
}

static void do_put(const char *key, const char *value, int64_t wait_ms)
{
    int64_t until = kl_mono_ms() + wait_ms;
    kl_rev rev;
    do
        rev = hs_put(&client, key, value, -1);
    while (may_try_again(rev) && kl_mono_ms() < until);
    printf("%lld\n", (long long)rev);
}

// ---- many at a time ----

enum { WINDOW = 16 };

struct fill {
    const char *prefix;
    int n, next, busy, code;
    size_t bytes;
    bool tells;
    atomic_bool done;
    struct filler {
        struct kl_txn txn;
        struct kl_op op;
        struct fill *fill;
        int number;
        char key[300];
    } one[WINDOW];
};

static void fill_next(struct filler *o);

static void filled(struct kl_txn *t)
{
    struct filler *o = KL_CONTAINER_OF(t, struct filler, txn);
    struct fill *f = o->fill;
    int code = t->code;
    kl_txn_fini(t);
    f->busy--;
    if (!code && f->tells)
        printf("%d\n", o->number);
    if (code && !f->tells && may_try_again(code)) {
        f->busy++;
        o->txn = (struct kl_txn){.body = {.then = &o->op, .nthen = 1}, .cb = filled};
        if (!kl_store_submit(hs.s, &o->txn, NULL))
            return;
        f->busy--;
    }
    kl_bytes_unref(o->op.value);
    if (code && !f->tells)
        f->code = code;
    if (f->next < f->n && !f->code)
        fill_next(o);
    else if (!f->busy)
        atomic_store(&f->done, true);
}

static void fill_next(struct filler *o)
{
    struct fill *f = o->fill;
    o->number = f->next++;
    snprintf(o->key, sizeof(o->key), "%s%06d", f->prefix, o->number);
    struct kl_bytes *v = kl_bytes_alloc(f->bytes);
    memset(v->p, 'a' + o->number % 26, f->bytes);
    o->op = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(o->key), .value = v};
    o->txn = (struct kl_txn){.body = {.then = &o->op, .nthen = 1}, .cb = filled};
    f->busy++;
    if (kl_store_submit(hs.s, &o->txn, NULL))
        abort();
}

static void start_fill(struct hs_client *c, void *arg)
{
    struct fill *f = arg;
    for (int i = 0; i < WINDOW && f->next < f->n; i++) {
        f->one[i].fill = f;
        fill_next(&f->one[i]);
    }
}

static void do_fill(const char *prefix, int n, size_t bytes, bool tells)
{
    struct fill f = {.prefix = prefix, .n = n, .bytes = bytes, .tells = tells};
    hs_run(&client, start_fill, &f);
    while (!atomic_load(&f.done))
        poll(NULL, 0, 1);
    if (!tells)
        printf("%d\n", f.code);
}

// ---- reads ----

static int confirm(void)
{
    int64_t until = kl_mono_ms() + RP_WAIT_MS;
    for (;;) {
        struct kl_txn t = {0};
        int code = hs_txn(&client, &t);
        if (!may_try_again(code) || kl_mono_ms() > until)
            return code;
    }
}

static void do_get(const char *key)
{
    int code = confirm();
    struct kl_kv *kv = code ? NULL : hs_get(&client, key);
    printf("%d %.*s\n", code, kv ? (int)kl_kv_value(kv).n : 1, kv ? kl_kv_value(kv).p : "-");
    kl_kv_unref(kv);
}

static void do_list(char *prefix)
{
    size_t k = strlen(prefix);
    char end[300];
    int code = confirm();
    snprintf(end, sizeof(end), "%s", prefix);
    end[k - 1]++;
    struct kl_op op = {.kind = KL_OP_GET, .key = kl_str(prefix), .end = kl_str(end)};
    struct kl_txn t = {.body = {.then = &op, .nthen = 1}};
    if (!code)
        code = hs_txn(&client, &t);
    printf("%d", code);
    for (size_t i = 0; !code && i < op.nkvs; i++)
        printf(" %d", atoi(kl_kv_key(op.kvs[i]).p + k));
    printf("\n");
    kl_txn_fini(&t);
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

static void do_line(const char *line)
{
    char a[256], b[256];
    int n, size;
    unsigned long long id;
    if (sscanf(line, "fill %250s %d %d", a, &n, &size) == 3)
        do_fill(a, n, (size_t)size, false);
    else if (sscanf(line, "stream %250s", a) == 1)
        do_fill(a, 1 << 20, 100, true);
    else if (sscanf(line, "put %250s %250s", a, b) == 2)
        do_put(a, b, RP_WAIT_MS);
    else if (sscanf(line, "once %250s %250s", a, b) == 2)
        do_put(a, b, 0);
    else if (sscanf(line, "get %250s", a) == 1)
        do_get(a);
    else if (sscanf(line, "list %250s", a) == 1)
        do_list(a);
    else if (sscanf(line, "add %llx %250s", &id, a) == 2)
        do_add(id, a);
    else if (sscanf(line, "watch %250s %250s", a, b) == 2)
        do_watch(a, b);
    else if (strcmp(line, "events\n") == 0)
        do_events();
    else
        do_status();
}

int rp_serve(char **v)
{
    struct kl_error err = {0};
    struct kl_peers_options po = {.id = strtoull(v[0], NULL, 16),
                                  .listen_address = "127.0.0.1",
                                  .listen_port = atoi(v[1]),
                                  .insecure_loopback = true};
    char line[512];
    hs.backend = "raft";
    snprintf(hs.url, sizeof(hs.url), "raft://%.150s", v[2]);
    if (kl_peers_open(&po, &hs.o.peers, &err))
        return 2;
    hs.o.raft_scrub_ms = atoi(v[3]);
    hs.o.raft_snapshot_bytes = (size_t)atol(v[4]);
    hs.o.raft_election_ms = atoi(v[5]);
    if (v[6]) {
        hs.o.raft_join = true;
        hs.o.raft_from = strtoull(v[6], NULL, 16);
        kl_peers_set(hs.o.peers, hs.o.raft_from, v[7]);
    }
    if (kl_store_open(hs.url, &hs.o, &hs.s, &err)) {
        fprintf(stderr, "server %s: %s\n", v[0], err.msg);
        return 1;
    }
    hs_client_open(&client, &hs);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready\n");
    while (fgets(line, sizeof(line), stdin))
        do_line(line);
    return 0; // as a kill would
}

// ---- the test's side ----

void rp_say(struct rp_server *s, const char *line)
{
    fprintf(s->in, "%s\n", line);
    fflush(s->in);
}

bool rp_hear(struct rp_server *s, char *ret, size_t n)
{
    if (!fgets(ret, (int)n, s->out))
        return false;
    ret[strcspn(ret, "\n")] = 0;
    return true;
}

const char *rp_ask(struct rp_server *s, const char *fmt, ...)
{
    static char line[512], answer[1 << 16];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    rp_say(s, line);
    if (!rp_hear(s, answer, sizeof(answer)))
        fail_msg("a server ended: %s", line);
    return answer;
}

bool rp_launch(struct rp_cluster *c, int i, bool join)
{
    struct rp_server *s = &c->s[i];
    int to[2], from[2];
    char id[24], port[16], scrub[16], snap[16], election[16], first[24], address[32], line[64];
    snprintf(id, sizeof(id), "%llx", s->id);
    snprintf(first, sizeof(first), "%llx", c->s[0].id);
    snprintf(address, sizeof(address), "127.0.0.1:%d", c->s[0].port);
    snprintf(port, sizeof(port), "%d", s->port);
    snprintf(scrub, sizeof(scrub), "%d", c->o.scrub_ms);
    snprintf(snap, sizeof(snap), "%ld", c->o.snapshot_bytes);
    snprintf(election, sizeof(election), "%d", c->o.election_ms);
    const char *argv[] = {"raft-servers",      "serve", id,  port, s->dir, scrub, snap, election,
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
    return rp_hear(s, line, sizeof(line));
}

int rp_reap(struct rp_server *s)
{
    int status = 0;
    waitpid(s->pid, &status, 0);
    fclose(s->in);
    fclose(s->out);
    s->pid = 0;
    return status;
}

void rp_begin(struct rp_cluster *c, struct rp_options o)
{
    const char *base = getenv("STORE_DIR");
    signal(SIGPIPE, SIG_IGN);
    memset(c, 0, sizeof(*c));
    c->o = o;
    if (!base)
        base = !o.on_disk && access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(c->dir, sizeof(c->dir), "%.32s/kl-servers-XXXXXX", base);
    assert_non_null(mkdtemp(c->dir));
    for (int i = 0; i < RP_SERVERS; i++) {
        struct rp_server *s = &c->s[i];
        s->id = kl_rand_u64() >> 1 | 1;
        s->port = ts_free_port();
        snprintf(s->dir, sizeof(s->dir), "%.60s/%d", c->dir, i);
        if (i)
            assert_string_equal(rp_ask(&c->s[0], "add %llx 127.0.0.1:%d", s->id, s->port), "0");
        assert_true(rp_launch(c, i, i > 0));
        assert_true(atoll(rp_ask(&c->s[0], "put /first v")) > 0);
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

void rp_end(struct rp_cluster *c)
{
    for (int i = 0; i < RP_SERVERS; i++) {
        kill(c->s[i].pid, SIGKILL);
        rp_reap(&c->s[i]);
    }
    nftw(c->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

struct seen {
    unsigned long long leader, applied, chain, state;
    unsigned voters;
};

static struct seen look(struct rp_server *s)
{
    struct seen v;
    assert_int_equal(sscanf(rp_ask(s, "status"), "%llu %u %llu %llu %llu", &v.leader, &v.voters,
                            &v.applied, &v.chain, &v.state),
                     5);
    return v;
}

int rp_settle(struct rp_cluster *c)
{
    for (int64_t until = kl_mono_ms() + RP_WAIT_MS; kl_mono_ms() < until; poll(NULL, 0, 5)) {
        struct seen first = look(&c->s[0]);
        bool same = first.leader && first.voters == RP_SERVERS;
        int leader = -1;
        for (int i = 0; i < RP_SERVERS; i++) {
            struct seen v = look(&c->s[i]);
            same = same && v.leader == first.leader && v.chain == first.chain &&
                   v.state == first.state && v.voters == RP_SERVERS;
            leader = c->s[i].id == first.leader ? i : leader;
        }
        if (same && leader >= 0)
            return leader;
    }
    fail_msg("they do not become the same");
    return -1;
}
