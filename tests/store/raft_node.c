// SPDX-License-Identifier: Apache-2.0
// One node (store/raft/node.h) between messages that the test writes: what libraft 0.15 does wrong
// and the node puts right (tests/BUGS.md).
#include "store/raft/node.h"
#include "harness.h"
#include "store/raft/node_int.h"
#include "store/raft/wire.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SELF = 1, OTHER = 2, THIRD = 3, SENT = 64 };

struct bench {
    char dir[64];
    struct kl_raft_node *n;
    struct kl_raft_job *jobs, **jobs_end;
    int64_t now;
    bool soon;
    struct {
        uint64_t to;
        struct raft_message m;
    } sent[SENT];
    size_t nsent;
    uint64_t applied;
};

// ---- the environment ----

static void env_run(void *arg, enum kl_raft_queue q, struct kl_raft_job *j)
{
    struct bench *b = arg;
    j->next = NULL;
    *b->jobs_end = j;
    b->jobs_end = &j->next;
}

static int64_t env_now(void *arg)
{
    return ((struct bench *)arg)->now;
}

static uint64_t env_random(void *arg)
{
    return 0;
}

static int env_send(void *arg, uint64_t to, struct kl_bytes *msg)
{
    struct bench *b = arg;
    assert_true(b->nsent < SENT);
    b->sent[b->nsent].to = to;
    assert_int_equal(kl_raft_decode(kl_bytes_str(msg), &b->sent[b->nsent].m), 0);
    b->nsent++;
    return 0;
}

static void env_soon(void *arg)
{
    ((struct bench *)arg)->soon = true;
}

static void env_fatal(void *arg, const struct kl_error *err)
{
    fail_msg("%s", err->msg);
}

// ---- the state machine ----

static int m_apply(void *arg, uint64_t index, uint64_t term, const void *p, size_t n)
{
    ((struct bench *)arg)->applied = index;
    return 0;
}

static bool m_may_snapshot(void *arg, uint64_t index)
{
    return true;
}

static int m_index(void *arg, uint64_t index)
{
    return 0;
}

static void m_fetch(void *arg, uint64_t from)
{
}

static int m_install(void *arg)
{
    return 0;
}

static void m_changed(void *arg)
{
}

static void m_message(void *arg, uint64_t from, struct kl_str msg)
{
}

// ---- a run ----

static void pump(struct bench *b)
{
    while (b->jobs || b->soon) {
        struct kl_raft_job *j = b->jobs;
        if (b->soon) {
            b->soon = false;
            kl_raft_node_soon(b->n);
            continue;
        }
        b->jobs = j->next;
        if (!b->jobs)
            b->jobs_end = &b->jobs;
        j->work(j);
        j->done(j);
    }
}

static void make(struct bench *b, size_t snapshot_bytes)
{
    struct kl_error err;
    struct kl_raft_env env = {b, env_run, env_now, env_random, env_send, env_soon, env_fatal};
    struct kl_raft_machine m = {b,       m_apply,   m_may_snapshot, m_index,  m_index,
                                m_fetch, m_install, m_changed,      m_message};
    struct kl_raft_node_options o = {SELF, 1000, 100, snapshot_bytes, 4096};
    b->jobs_end = &b->jobs;
    if (kl_raft_node_new(b->dir, &kl_raft_fs_unsafe, &env, &m, &o, &b->n, &err))
        fail_msg("%s", err.msg);
}

static void start(struct bench *b)
{
    struct kl_error err;
    if (kl_raft_node_start(b->n, &err))
        fail_msg("%s", err.msg);
    pump(b);
}

static void forget_sent(struct bench *b)
{
    for (size_t i = 0; i < b->nsent; i++)
        kl_raft_message_fini(&b->sent[i].m);
    b->nsent = 0;
}

static void stopped(void *arg)
{
}

static void stop(struct bench *b)
{
    kl_raft_node_stop(b->n, stopped, NULL);
    pump(b);
    kl_raft_node_free(b->n);
    forget_sent(b);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static void end(struct bench *b)
{
    stop(b);
    nftw(b->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct raft_buffer conf_of(const uint64_t *ids, size_t n)
{
    struct raft_configuration c;
    struct raft_buffer ret;
    raft_configuration_init(&c);
    for (size_t i = 0; i < n; i++) {
        char address[24];
        snprintf(address, sizeof(address), "%016llx", (unsigned long long)ids[i]);
        assert_int_equal(raft_configuration_add(&c, ids[i], address, RAFT_VOTER), 0);
    }
    assert_int_equal(raft_configuration_encode(&c, &ret), 0);
    raft_configuration_close(&c);
    return ret;
}

static void put_log(struct bench *b, uint64_t term, uint64_t vote, const struct kl_raft_entry *e,
                    size_t n)
{
    struct kl_raft_log *l;
    struct kl_raft_found f;
    struct kl_error err;
    memset(b, 0, sizeof(*b));
    snprintf(b->dir, sizeof(b->dir), "/tmp/kl-node-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    assert_int_equal(kl_raft_log_open(b->dir, &kl_raft_fs_unsafe, &l, &f, &err), 0);
    struct kl_raft_meta m = {.term = term, .vote = vote, .server_id = SELF};
    assert_int_equal(kl_raft_log_set_meta(l, &m, &err), 0);
    assert_int_equal(kl_raft_log_append(l, e, n, &err), 0);
    kl_raft_found_fini(&f);
    kl_raft_log_close(l);
}

static void deliver(struct bench *b, uint64_t from, const struct raft_message *m)
{
    struct kl_bytes *p = kl_raft_encode(m);
    forget_sent(b);
    kl_raft_node_message(b->n, from, kl_bytes_str(p));
    kl_bytes_unref(p);
    pump(b);
}

static const struct raft_message *sent(struct bench *b, uint64_t to, int type)
{
    for (size_t i = b->nsent; i-- > 0;) {
        if (b->sent[i].to == to && b->sent[i].m.type == type)
            return &b->sent[i].m;
    }
    return NULL;
}

static const uint64_t three[] = {SELF, OTHER, THIRD};
static char data[] = "payload!";

// A log of configuration and commands that an older leader wrote.
static void put_three(struct bench *b, uint64_t term, uint64_t vote, size_t commands)
{
    struct raft_buffer conf = conf_of(three, 3);
    struct kl_raft_entry e[8] = {{1, 1, RAFT_CHANGE, conf.base, conf.len}};
    for (size_t i = 1; i <= commands; i++)
        e[i] = (struct kl_raft_entry){i + 1, 1, RAFT_COMMAND, data, 8};
    put_log(b, term, vote, e, commands + 1);
    raft_free(conf.base);
}

// ---- tests ----

// A heartbeat that compared entry 2 says nothing of what lies behind it.
static void acknowledges_what_it_compared(void **state)
{
    struct bench b;
    put_three(&b, 1, 0, 4);
    make(&b, 1 << 20);
    start(&b);
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES};
    m.append_entries = (struct raft_append_entries){
        .term = 2, .prev_log_index = 2, .prev_log_term = 1, .leader_commit = 1};
    deliver(&b, OTHER, &m);
    const struct raft_message *a = sent(&b, OTHER, RAFT_IO_APPEND_ENTRIES_RESULT);
    assert_non_null(a);
    assert_int_equal(a->append_entries_result.rejected, 0);
    assert_int_equal(a->append_entries_result.last_log_index, 2);
    m.append_entries.prev_log_index = 5;
    deliver(&b, OTHER, &m);
    a = sent(&b, OTHER, RAFT_IO_APPEND_ENTRIES_RESULT);
    assert_non_null(a);
    assert_int_equal(a->append_entries_result.last_log_index, 5);
    end(&b);
}

static bool granted(struct bench *b, uint64_t from, uint64_t term, bool transfer)
{
    struct raft_message m = {.type = RAFT_IO_REQUEST_VOTE};
    m.request_vote = (struct raft_request_vote){.term = term,
                                                .candidate_id = from,
                                                .last_log_index = 9,
                                                .last_log_term = term,
                                                .disrupt_leader = transfer};
    deliver(b, from, &m);
    const struct raft_message *a = sent(b, from, RAFT_IO_REQUEST_VOTE_RESULT);
    return a && a->request_vote_result.vote_granted;
}

static void votes_once(void **state)
{
    struct bench b;
    put_three(&b, 1, 0, 2);
    make(&b, 1 << 20);
    start(&b);
    assert_true(granted(&b, OTHER, 5, true));
    assert_false(granted(&b, THIRD, 5, true));
    assert_true(granted(&b, OTHER, 5, true)); // its question came twice
    stop(&b);
    make(&b, 1 << 20);
    start(&b);
    assert_false(granted(&b, THIRD, 5, true));
    assert_true(granted(&b, THIRD, 6, true));
    end(&b);
}

static void vote_for(struct bench *b, uint64_t from, bool pre)
{
    struct raft_message m = {.type = RAFT_IO_REQUEST_VOTE_RESULT};
    m.request_vote_result =
        (struct raft_request_vote_result){.term = pre ? b->n->meta.term + 1 : b->n->meta.term,
                                          .vote_granted = true,
                                          .pre_vote = pre ? raft_tribool_true : raft_tribool_false};
    deliver(b, from, &m);
}

static void acknowledge(struct bench *b, uint64_t from)
{
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES_RESULT};
    m.append_entries_result = (struct raft_append_entries_result){
        .term = b->n->meta.term, .last_log_index = kl_raft_table_last(b->n)};
    deliver(b, from, &m);
}

static void lead(struct bench *b)
{
    struct kl_raft_node_state st;
    for (int i = 0; i < 100 && !sent(b, OTHER, RAFT_IO_REQUEST_VOTE); i++) {
        b->now += 100;
        kl_raft_node_tick(b->n);
        pump(b);
    }
    vote_for(b, OTHER, true);
    vote_for(b, OTHER, false);
    acknowledge(b, OTHER);
    kl_raft_node_state(b->n, &st);
    assert_true(st.ready);
}

static void changed_cb(struct kl_raft_node_change *c, int code)
{
}

// A vote for the one that leadership is handed to is one too many in a term that it led itself.
static void votes_once_while_it_hands_over(void **state)
{
    struct bench b;
    struct kl_raft_node_change c = {.op = KL_RAFT_NODE_TRANSFER, .id = OTHER, .cb = changed_cb};
    put_three(&b, 1, 0, 2);
    make(&b, 1 << 20);
    start(&b);
    lead(&b);
    assert_int_equal(kl_raft_node_change(b.n, &c), 0);
    assert_non_null(sent(&b, OTHER, RAFT_IO_TIMEOUT_NOW));
    assert_false(granted(&b, OTHER, b.n->meta.term, true));
    assert_true(granted(&b, OTHER, b.n->meta.term + 1, true));
    end(&b);
}

// What it wrote in its last term and did not sync may be in a learner's log.
static void leads_alone_in_a_new_term(void **state)
{
    struct bench b;
    struct kl_raft_node_state was, st;
    struct kl_error err;
    memset(&b, 0, sizeof(b));
    snprintf(b.dir, sizeof(b.dir), "/tmp/kl-node-XXXXXX");
    assert_non_null(mkdtemp(b.dir));
    make(&b, 1 << 20);
    assert_int_equal(kl_raft_node_bootstrap(b.n, &err), 0);
    start(&b);
    kl_raft_node_state(b.n, &was);
    assert_true(was.ready);
    for (int i = 0; i < 3; i++) {
        stop(&b);
        make(&b, 1 << 20);
        start(&b);
        kl_raft_node_state(b.n, &st);
        assert_true(st.ready);
        assert_true(st.term > was.term);
        was = st;
    }
    end(&b);
}

// A configuration that it found in its log, and that its leader does not have.
static void forgets_an_overwritten_configuration(void **state)
{
    struct bench b;
    static const uint64_t alone[] = {SELF, OTHER};
    struct raft_buffer conf = conf_of(three, 3), other = conf_of(alone, 2);
    struct kl_raft_entry e[] = {{1, 1, RAFT_CHANGE, conf.base, conf.len},
                                {2, 1, RAFT_CHANGE, other.base, other.len}};
    put_log(&b, 1, 0, e, 2);
    raft_free(conf.base);
    raft_free(other.base);
    make(&b, 1 << 20);
    start(&b);
    struct raft_entry command = {.term = 2, .type = RAFT_COMMAND, .buf = {data, 8}};
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES};
    m.append_entries = (struct raft_append_entries){.term = 2,
                                                    .prev_log_index = 1,
                                                    .prev_log_term = 1,
                                                    .leader_commit = 1,
                                                    .entries = &command,
                                                    .n_entries = 1};
    deliver(&b, OTHER, &m); // begins anew; the leader sends it again
    deliver(&b, OTHER, &m);
    // It asks all three for their votes when the leader goes.
    forget_sent(&b);
    for (int i = 0; i < 40 && !b.nsent; i++) {
        b.now += 100;
        kl_raft_node_tick(b.n);
        pump(&b);
    }
    assert_non_null(sent(&b, OTHER, RAFT_IO_REQUEST_VOTE));
    assert_non_null(sent(&b, THIRD, RAFT_IO_REQUEST_VOTE));
    end(&b);
}

// A configuration in the log that may yet be overwritten has no place in a snapshot.
static void snapshots_what_is_committed(void **state)
{
    struct bench b;
    static const uint64_t alone[] = {SELF, OTHER};
    put_three(&b, 2, 0, 1);
    make(&b, 1);
    start(&b);
    struct raft_buffer conf = conf_of(alone, 2);
    struct raft_entry e[2] = {{.term = 2, .type = RAFT_COMMAND, .buf = {data, 8}},
                              {.term = 2, .type = RAFT_CHANGE, .buf = conf}};
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES};
    m.append_entries = (struct raft_append_entries){.term = 2,
                                                    .prev_log_index = 2,
                                                    .prev_log_term = 1,
                                                    .leader_commit = 3,
                                                    .entries = e,
                                                    .n_entries = 2};
    deliver(&b, OTHER, &m);
    m.append_entries.prev_log_index = 4;
    m.append_entries.prev_log_term = 2;
    m.append_entries.n_entries = 0;
    deliver(&b, OTHER, &m);
    assert_int_equal(b.applied, 3);
    assert_int_equal(b.n->manifest.index, 0);
    // Once it is committed, the next entry's snapshot has it.
    m.append_entries.n_entries = 1;
    m.append_entries.leader_commit = 5;
    deliver(&b, OTHER, &m);
    raft_free(conf.base);
    assert_int_equal(b.applied, 5);
    assert_int_equal(b.n->manifest.index, 5);
    assert_int_equal(b.n->manifest.conf_index, 4);
    end(&b);
}

// It lost what it had: no vote until it has an entry of the present leader's term, and then, in
// that term, for nobody but this leader.
static void muted_until_it_caught_up(void **state)
{
    struct bench b;
    struct kl_raft_node_state st;
    struct kl_error err;
    put_three(&b, 4, 0, 2);
    make(&b, 1 << 20);
    assert_int_equal(kl_raft_node_seed(b.n, NULL, true, &err), 0);
    start(&b);
    assert_false(granted(&b, OTHER, 5, true));
    struct raft_entry command = {.term = 5, .type = RAFT_COMMAND, .buf = {data, 8}};
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES};
    m.append_entries = (struct raft_append_entries){.term = 5,
                                                    .prev_log_index = 3,
                                                    .prev_log_term = 1,
                                                    .leader_commit = 3,
                                                    .entries = &command,
                                                    .n_entries = 1};
    deliver(&b, OTHER, &m);
    kl_raft_node_state(b.n, &st);
    assert_true(st.muted);
    m.append_entries.prev_log_index = 4;
    m.append_entries.prev_log_term = 5;
    m.append_entries.leader_commit = 4;
    m.append_entries.n_entries = 0;
    deliver(&b, OTHER, &m);
    kl_raft_node_state(b.n, &st);
    assert_false(st.muted);
    assert_false(granted(&b, THIRD, 5, true));
    assert_true(granted(&b, THIRD, 6, true));
    end(&b);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledges_what_it_compared),
        cmocka_unit_test(votes_once),
        cmocka_unit_test(votes_once_while_it_hands_over),
        cmocka_unit_test(leads_alone_in_a_new_term),
        cmocka_unit_test(forgets_an_overwritten_configuration),
        cmocka_unit_test(snapshots_what_is_committed),
        cmocka_unit_test(muted_until_it_caught_up),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
