// SPDX-License-Identifier: Apache-2.0
// kill -9 at any moment: a writer process is killed again and again in the middle of its work, and
// each time every write that it had acknowledged must be there, no revision used twice and none
// missing.
#include "harness.h"
#include "base/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SUBMITTERS = 24, KEYS_EACH = 8 };

struct ack {
    int32_t submitter, key;
    int64_t seq; // 0: deleted
    kl_rev rev;
};

// ---- the writer ----

struct submitter {
    struct kl_txn txn;
    struct kl_op op;
    int id, key;
    int64_t seq;
    char name[48], value[400];
    struct writer *w;
};

struct writer {
    struct kl_store *s;
    int pipe;
    uint64_t seed;
    struct submitter sub[SUBMITTERS];
    struct kl_task task;
    int64_t seq;
    int acks;
};

static void submit(struct submitter *u);

static void written(struct kl_txn *txn)
{
    struct submitter *u = KL_CONTAINER_OF(txn, struct submitter, txn);
    if (txn->code)
        _exit(3);
    struct ack a = {u->id, u->key, u->op.kind == KL_OP_DELETE ? 0 : u->seq, txn->rev};
    if (write(u->w->pipe, &a, sizeof(a)) != sizeof(a))
        _exit(4);
    kl_txn_fini(txn);
    kl_bytes_unref(u->op.value);
    if (++u->w->acks % 500 == 0) { // compaction is killed too
        struct kl_compact_wait *c = calloc(1, sizeof(*c));
        c->rev = a.rev - 50;
        c->cb = (void (*)(struct kl_compact_wait *))free;
        if (kl_store_compact(u->w->s, c, NULL))
            free(c);
    }
    submit(u);
}

static void submit(struct submitter *u)
{
    struct writer *w = u->w;
    u->key = (int)(hs_rand(&w->seed) % KEYS_EACH);
    u->seq = ++w->seq;
    snprintf(u->name, sizeof(u->name), "/kill/%02d/%02d", u->id, u->key);
    int n = snprintf(u->value, sizeof(u->value), "%lld ", (long long)u->seq);
    memset(u->value + n, 'x', sizeof(u->value) - (size_t)n);
    u->op = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(u->name)};
    if (hs_rand(&w->seed) % 8 == 0)
        u->op.kind = KL_OP_DELETE;
    else
        u->op.value = kl_bytes_new((struct kl_str){u->value, sizeof(u->value)});
    u->txn = (struct kl_txn){.body = {.then = &u->op, .nthen = 1}, .cb = written};
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

static void run_writer(const char *url, int fd, uint64_t seed, int64_t seq)
{
    struct writer w = {.pipe = fd, .seed = seed, .seq = seq};
    struct kl_loop *loop;
    if (kl_store_open(url, NULL, &w.s, NULL) || kl_loop_new("writer", &loop, NULL))
        _exit(2);
    w.task.run = start;
    kl_loop_post(loop, &w.task);
    kl_loop_run(loop);
}

// ---- the judge ----

struct judge {
    int64_t value[SUBMITTERS][KEYS_EACH]; // acknowledged
    kl_rev rev[SUBMITTERS][KEYS_EACH];
    kl_rev max_rev;
    int64_t max_seq;
    long acks;
};

static void take_acks(struct judge *j, int fd, int until_ms)
{
    struct ack a;
    int64_t until = kl_mono_ms() + until_ms;
    for (;;) {
        int64_t left = until - kl_mono_ms();
        struct pollfd p = {fd, POLLIN, 0};
        if (poll(&p, 1, left > 0 ? (int)left : 0) <= 0 || read(fd, &a, sizeof(a)) != sizeof(a))
            return;
        j->value[a.submitter][a.key] = a.seq;
        j->rev[a.submitter][a.key] = a.rev;
        if (a.rev > j->max_rev)
            j->max_rev = a.rev;
        j->max_seq = a.seq > j->max_seq ? a.seq : j->max_seq;
        j->acks++;
    }
}

static void check(struct judge *j, struct hs_store *hs)
{
    struct hs_client c;
    hs_client_open(&c, hs);
    kl_rev head = hs_rev(&c);
    if (head < j->max_rev)
        fail_msg("revision %lld was acknowledged, the store is at %lld", (long long)j->max_rev,
                 (long long)head);
    for (int i = 0; i < SUBMITTERS; i++) {
        for (int k = 0; k < KEYS_EACH; k++) {
            char key[48];
            snprintf(key, sizeof(key), "/kill/%02d/%02d", i, k);
            struct kl_kv *kv = hs_get(&c, key);
            int64_t have = kv ? strtoll(kl_kv_value(kv).p, NULL, 10) : 0;
            kl_rev mod = kv ? kv->mod_rev : 0;
            // One newer write may have been stored and not yet acknowledged, never an older one.
            if (j->rev[i][k] && have != j->value[i][k] && (kv ? mod : head) <= j->rev[i][k])
                fail_msg("%s: acknowledged %lld at %lld, found %lld at %lld", key,
                         (long long)j->value[i][k], (long long)j->rev[i][k], (long long)have,
                         (long long)mod);
            j->max_seq = have > j->max_seq ? have : j->max_seq;
            if (kv && kv->mod_rev > j->rev[i][k]) {
                j->value[i][k] = have;
                j->rev[i][k] = mod;
            }
            kl_kv_unref(kv);
        }
    }
    struct kl_store_status st;
    kl_store_status(hs->s, &st);
    struct hs_watch w = {0};
    kl_rev from = st.compact_rev > 1 ? st.compact_rev + 1 : 2;
    assert_int_equal(hs_watch_start(&w, &c, "/kill/", "/kill0", from), 0);
    hs_watch_wait_rev(&w, head);
    // A database may still have been at the killed process's last batch when the head was read.
    if (hs_is_sql(hs->backend))
        assert_true(w.n >= (size_t)(head - from + 1));
    else
        assert_int_equal(w.n, head - from + 1);
    for (size_t i = 0; i < w.n; i++)
        assert_int_equal(w.ev[i].rev, from + (kl_rev)i);
    hs_watch_fini(&w);
    hs_client_close(&c);
}

static const char *backend = "sqlite";

static void killed(void **state)
{
    uint64_t seed = hs_seed();
    struct judge *j = calloc(1, sizeof(*j));
    struct hs_store hs;
    int rounds = hs_scale(hs_is_sql(backend) ? 15 : 50);
    hs_open(&hs, backend, NULL);
    for (int i = 0; i < rounds; i++) {
        int fd[2];
        hs_stop(&hs);
        assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
        uint64_t child_seed = hs_rand(&seed) | 1;
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            close(fd[0]);
            run_writer(hs.url, fd[1], child_seed, j->max_seq + 1000);
            _exit(1);
        }
        close(fd[1]);
        take_acks(j, fd[0], 5 + (int)(hs_rand(&seed) % 120));
        kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFSIGNALED(status))
            fail_msg("round %d: the writer exited with %d", i, WEXITSTATUS(status));
        take_acks(j, fd[0], 1000); // what was in the pipe
        close(fd[0]);
        struct kl_error err;
        if (kl_store_open(hs.url, &hs.o, &hs.s, &err))
            fail_msg("round %d: %s", i, err.msg);
        check(j, &hs);
    }
    print_message("%d kills, %ld acknowledged writes, none lost\n", rounds, j->acks);
    assert_true(j->acks > rounds);
    hs_close(&hs);
    free(j);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        backend = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(killed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
