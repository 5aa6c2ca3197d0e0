// SPDX-License-Identifier: Apache-2.0
#include "victim.h"
#include "base/clock.h"
#include "base/fault.h"
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
    SUBMITTERS = 24,
    KEYS = 8, // of each; key 0 is two and the last one eight, always written together
    PARTS_MAX = 8,
    LEASE = -1, // instead of a submitter
    LEASES = 64,
    LEASE_EVERY = 97,
    RECENT = 8192,
    HUGE_PART = 1000000,
};

struct ack {
    int32_t submitter, key;
    int64_t seq; // 0: deleted; of a lease its id
    kl_rev rev;
};

static int parts_of(int key)
{
    return key == 0 ? 2 : key == KEYS - 1 ? PARTS_MAX : 1;
}

static void put_name(char ret[48], int submitter, int key, int part)
{
    int n = snprintf(ret, 48, "/kill/%02d/%02d", submitter, key);
    if (part)
        snprintf(ret + n, 48 - (size_t)n, "/%d", part);
}

// ---- the writer ----

struct submitter {
    struct kl_txn txn;
    struct kl_op op[PARTS_MAX];
    struct kl_bytes *value;
    int id, key;
    int64_t seq;
    char name[PARTS_MAX][48];
    struct writer *w;
};

struct writer {
    const struct vi_plan *plan;
    struct kl_store *s;
    int pipe;
    uint64_t seed;
    struct submitter sub[SUBMITTERS];
    struct kl_task task;
    int64_t seq;
    long acks;
    char *text;
};

struct grant {
    struct kl_lease_req q;
    struct writer *w;
};

static void submit(struct submitter *u);

static void tell(struct writer *w, struct ack a)
{
    if (write(w->pipe, &a, sizeof(a)) != sizeof(a))
        _exit(4);
}

static void granted(struct kl_lease_req *q)
{
    struct grant *g = KL_CONTAINER_OF(q, struct grant, q);
    if (q->code)
        _exit(6);
    tell(g->w, (struct ack){.submitter = LEASE, .seq = q->id, .rev = q->rev});
    kl_lease_req_fini(q);
    free(g);
}

static void grant(struct writer *w)
{
    struct grant *g = calloc(1, sizeof(*g));
    g->w = w;
    g->q = (struct kl_lease_req){.kind = KL_LEASE_GRANT, .ttl_s = 3600, .cb = granted};
    if (kl_store_lease(w->s, &g->q, NULL))
        _exit(7);
}

static void compacted(struct kl_compact_wait *c)
{
    free(c);
}

static void compact(struct writer *w, kl_rev rev)
{
    struct kl_compact_wait *c = calloc(1, sizeof(*c));
    c->rev = rev - 50;
    c->cb = compacted;
    if (kl_store_compact(w->s, c, NULL))
        free(c);
}

static void written(struct kl_txn *txn)
{
    struct submitter *u = KL_CONTAINER_OF(txn, struct submitter, txn);
    struct writer *w = u->w;
    if (txn->code)
        _exit(3);
    tell(w, (struct ack){u->id, u->key, u->seq, txn->rev});
    kl_rev rev = txn->rev;
    kl_txn_fini(txn);
    kl_bytes_unref(u->value);
    w->acks++;
    if (w->plan->compact_every >= 0 &&
        w->acks % (w->plan->compact_every ? w->plan->compact_every : 500) == 0)
        compact(w, rev);
    if (w->acks % LEASE_EVERY == 0)
        grant(w);
    submit(u);
}

static struct kl_bytes *make_value(struct submitter *u, size_t n)
{
    char *t = u->w->text;
    // Quotes, which a statement in text has to double.
    memset(t, n == HUGE_PART ? '\'' : 'x', n);
    int k = snprintf(t, n, "%lld", (long long)u->seq);
    t[k] = ' ';
    return kl_bytes_new((struct kl_str){t, n});
}

static void submit(struct submitter *u)
{
    struct writer *w = u->w;
    bool gone = hs_rand(&w->seed) % 8 == 0;
    bool huge = w->plan->huge && u->id == 0 && hs_rand(&w->seed) % 8 == 0;
    u->key = huge ? KEYS - 1 : (int)(hs_rand(&w->seed) % KEYS);
    u->seq = gone ? 0 : ++w->seq;
    size_t n = w->plan->value_bytes ? (size_t)w->plan->value_bytes : 400;
    u->value = gone ? NULL : make_value(u, huge ? HUGE_PART : n);
    int parts = parts_of(u->key);
    for (int i = 0; i < parts; i++) {
        put_name(u->name[i], u->id, u->key, i);
        u->op[i] = (struct kl_op){
            .kind = gone ? KL_OP_DELETE : KL_OP_PUT, .key = kl_str(u->name[i]), .value = u->value};
    }
    u->txn = (struct kl_txn){.body = {.then = u->op, .nthen = (size_t)parts}, .cb = written};
    if (kl_store_submit(w->s, &u->txn, NULL))
        _exit(5);
}

static void start(struct kl_task *t)
{
    struct writer *w = KL_CONTAINER_OF(t, struct writer, task);
    for (int i = 0; i < SUBMITTERS; i++) {
        w->sub[i].id = i;
        w->sub[i].w = w;
        submit(&w->sub[i]);
    }
}

static void run_writer(const struct vi_plan *p, int fd)
{
    struct writer w = {.plan = p, .pipe = fd, .seed = p->seed | 1, .seq = p->seq};
    struct kl_error err;
    struct kl_loop *loop;
    if (p->point)
        kl_fault_set(p->point, p->nth, 1);
    if (p->fails)
        kl_fault_set(p->fails, p->nth, 1);
    w.text = malloc(HUGE_PART);
    if (kl_store_open(p->url, p->o, &w.s, &err)) {
        fprintf(stderr, "writer: %s\n", err.msg);
        _exit(2);
    }
    if (kl_loop_new("writer", &loop, NULL))
        _exit(2);
    w.task.run = start;
    kl_loop_post(loop, &w.task);
    kl_loop_run(loop);
}

pid_t vi_start(const struct vi_plan *p, int *ret_fd)
{
    int fd[2];
    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fd[0]);
        run_writer(p, fd[1]);
        _exit(1);
    }
    close(fd[1]);
    *ret_fd = fd[0];
    return pid;
}

int vi_wait(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) != pid)
        assert_int_equal(errno, EINTR);
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGKILL ? 0 : 1000 + WTERMSIG(status);
    return WEXITSTATUS(status) ? WEXITSTATUS(status) : -1;
}

// ---- the judge ----

struct vi_judge {
    int64_t value[SUBMITTERS][KEYS]; // acknowledged
    kl_rev rev[SUBMITTERS][KEYS];
    struct ack recent[RECENT]; // by revision
    int64_t leases[LEASES];    // the newest ones
    long nleases;
    kl_rev max_rev, head; // head: before this writer began
    int64_t max_seq;
    long acks;
};

struct vi_judge *vi_judge_new(void)
{
    struct vi_judge *j = calloc(1, sizeof(*j));
    assert_non_null(j);
    return j;
}

void vi_judge_free(struct vi_judge *j)
{
    free(j);
}

int64_t vi_seq(const struct vi_judge *j)
{
    return j->max_seq;
}

kl_rev vi_rev(const struct vi_judge *j)
{
    return j->max_rev;
}

long vi_acks(const struct vi_judge *j)
{
    return j->acks;
}

void vi_forget(struct vi_judge *j)
{
    kl_rev used = j->max_rev > j->head ? j->max_rev : j->head;
    int64_t seq = j->max_seq;
    long acks = j->acks;
    *j = (struct vi_judge){.max_rev = used, .head = used, .max_seq = seq, .acks = acks};
}

static void take(struct vi_judge *j, const struct ack *a)
{
    j->acks++;
    if (a->submitter == LEASE) {
        j->leases[j->nleases++ % LEASES] = a->seq;
        return;
    }
    if (a->seq ? a->rev <= j->head : a->rev < j->head) // a deletion may have found nothing
        fail_msg("%lld of key %d/%d was given revision %lld, the store was at %lld before",
                 (long long)a->seq, a->submitter, a->key, (long long)a->rev, (long long)j->head);
    j->value[a->submitter][a->key] = a->seq;
    j->rev[a->submitter][a->key] = a->rev;
    if (a->seq) {
        struct ack *r = &j->recent[a->rev % RECENT];
        if (r->rev == a->rev)
            fail_msg("revision %lld was given to %lld of key %d/%d and to %lld of key %d/%d",
                     (long long)a->rev, (long long)r->seq, r->submitter, r->key, (long long)a->seq,
                     a->submitter, a->key);
        *r = *a;
    }
    j->max_rev = a->rev > j->max_rev ? a->rev : j->max_rev;
    j->max_seq = a->seq > j->max_seq ? a->seq : j->max_seq;
}

bool vi_take(struct vi_judge *j, int fd, int ms)
{
    int64_t until = kl_mono_ms() + ms;
    for (;;) {
        struct ack a[64];
        int64_t left = until - kl_mono_ms();
        struct pollfd p = {fd, POLLIN, 0};
        if (poll(&p, 1, left > 0 ? (int)left : 0) <= 0)
            return true;
        ssize_t n = read(fd, a, sizeof(a)); // whole ones: a write of one is not divided
        if (n <= 0)
            return false;
        assert_int_equal(n % (ssize_t)sizeof(a[0]), 0);
        for (size_t i = 0; i < (size_t)n / sizeof(a[0]); i++)
            take(j, &a[i]);
        if (left <= 0)
            return true;
    }
}

static int64_t seq_of(const struct kl_kv *kv)
{
    return kv ? strtoll(kl_kv_value(kv).p, NULL, 10) : 0;
}

static void do_view(struct hs_client *c, void *arg)
{
    *(struct kl_view **)arg = kl_view_ref(kl_reader_view(c->reader));
}

// All keys of a transaction are from the same one.
static void check_parts(const struct kl_view *v, int i, int k, const struct kl_kv *first,
                        const char *what)
{
    for (int part = 1; part < parts_of(k); part++) {
        char name[48];
        put_name(name, i, k, part);
        const struct kl_kv *kv = kl_view_get(v, kl_str(name));
        if (!kv != !first || (kv && kv->mod_rev != first->mod_rev) || seq_of(kv) != seq_of(first))
            fail_msg("%s: half a transaction: key %d/%d is %lld at %lld, its part %d %lld at %lld",
                     what, i, k, (long long)seq_of(first), (long long)(first ? first->mod_rev : 0),
                     part, (long long)seq_of(kv), (long long)(kv ? kv->mod_rev : 0));
    }
}

// In one view: a database may still end a transaction whose sender was killed.
static void check_keys(struct vi_judge *j, struct hs_client *c, kl_rev head, const char *what)
{
    struct kl_view *v = NULL;
    hs_run(c, do_view, &v);
    for (int i = 0; i < SUBMITTERS; i++) {
        for (int k = 0; k < KEYS; k++) {
            char key[48];
            put_name(key, i, k, 0);
            const struct kl_kv *kv = kl_view_get(v, kl_str(key));
            int64_t have = seq_of(kv);
            kl_rev mod = kv ? kv->mod_rev : 0;
            check_parts(v, i, k, kv, what);
            // One newer write may have been stored and not yet acknowledged, never an older one.
            if (j->rev[i][k] && have != j->value[i][k] && (kv ? mod : head) <= j->rev[i][k])
                fail_msg("%s: %s: acknowledged %lld at %lld, found %lld at %lld", what, key,
                         (long long)j->value[i][k], (long long)j->rev[i][k], (long long)have,
                         (long long)mod);
            j->max_seq = have > j->max_seq ? have : j->max_seq;
            if (mod > j->rev[i][k]) {
                j->value[i][k] = have;
                j->rev[i][k] = mod;
            }
        }
    }
    kl_view_unref(v);
}

static void check_leases(const struct vi_judge *j, struct hs_client *c, const char *what)
{
    struct kl_lease_req q = {.kind = KL_LEASE_LIST};
    assert_int_equal(hs_lease(c, &q), 0);
    for (long i = j->nleases > LEASES ? j->nleases - LEASES : 0; i < j->nleases; i++) {
        bool found = false;
        for (size_t k = 0; k < q.n && !found; k++)
            found = q.ids[k] == j->leases[i % LEASES];
        if (!found)
            fail_msg("%s: lease %llx was granted and is not there", what,
                     (unsigned long long)j->leases[i % LEASES]);
    }
    kl_lease_req_fini(&q);
}

// The log since the last compaction: revisions without a hole, transactions whole, and at the
// revision of an acknowledgement what was acknowledged.
static void check_log(const struct vi_judge *j, struct hs_client *c, kl_rev head, const char *what)
{
    struct kl_store_status st;
    kl_store_status(c->hs->s, &st);
    struct hs_watch w = {0};
    kl_rev from = st.compact_rev > 1 ? st.compact_rev + 1 : 2, next = from;
    assert_int_equal(hs_watch_start(&w, c, "/kill/", "/kill0", from), 0);
    hs_watch_wait_rev(&w, head);
    hs_watch_stop(&w);
    for (size_t i = 0, n; i < w.n; i += n) {
        const struct hs_event *e = &w.ev[i];
        for (n = 1; i + n < w.n && w.ev[i + n].rev == e->rev; n++)
            ;
        // Compaction may have ended between two rows of the first one.
        bool first = i == 0 && e->rev >= next && e->rev < next + (kl_rev)n;
        if (!first && e->rev != next + (kl_rev)n - 1)
            fail_msg("%s: %zu events at revision %lld, %lld was next", what, n, (long long)e->rev,
                     (long long)next);
        next = e->rev + 1;
        const struct ack *a = &j->recent[e->rev % RECENT];
        int submitter = 0, key = 0;
        assert_int_equal(sscanf(e->key, "/kill/%d/%d", &submitter, &key), 2);
        int64_t seq = e->value ? strtoll(e->value, NULL, 10) : 0;
        if (a->rev == e->rev && (a->submitter != submitter || a->key != key || a->seq != seq))
            fail_msg("%s: revision %lld was acknowledged for %lld of key %d/%d, it is %lld of %s",
                     what, (long long)e->rev, (long long)a->seq, a->submitter, a->key,
                     (long long)seq, e->key);
    }
    // A database may still have been at the killed process's last batch when the head was read.
    if (next <= head)
        fail_msg("%s: the log ends before revision %lld, the store is at %lld", what,
                 (long long)next, (long long)head);
    hs_watch_fini(&w);
}

void vi_check(struct vi_judge *j, struct hs_store *hs, const char *what)
{
    struct hs_client c;
    hs_client_open(&c, hs);
    kl_rev head = hs_rev(&c);
    if (head < j->max_rev)
        fail_msg("%s: revision %lld was acknowledged, the store is at %lld", what,
                 (long long)j->max_rev, (long long)head);
    check_keys(j, &c, head, what);
    check_leases(j, &c, what);
    check_log(j, &c, head, what);
    j->head = hs_rev(&c);
    hs_client_close(&c);
}
