// SPDX-License-Identifier: Apache-2.0
// Whether the libraft that is linked commits entries of older terms only through one of its own
// term (Raft 5.4.2, "Figure 8") when it is used as store/raft/node.h does: with a barrier the
// moment it leads, and the disk done before the network answers, which is what the gate is for.
// libraft 0.15 does not do so by itself. Run when the build is configured, and by the tests. Exit
// status 1: unsafe.
#include <raft.h>
#include <raft/fixture.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SERVERS = 3, STEPS = 400, OLD_TERM = 1, TERM = 5 };

struct probe {
    struct raft_fixture f;
    struct raft_fsm fsm[SERVERS];
    unsigned long applied; // commands of the old term on the leader
    int barrier_done;
    int early; // the old command was applied before the barrier was written
};

static struct probe probe;

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    *result = NULL;
    if (fsm == &probe.fsm[0]) {
        probe.applied++;
        probe.early += raft_last_index(raft_fixture_get(&probe.f, 0)) < 3;
    }
    return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n)
{
    *bufs = raft_calloc(1, sizeof(**bufs));
    (*bufs)->base = raft_calloc(1, 8);
    (*bufs)->len = 8;
    *n = 1;
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    raft_free(buf->base);
    return 0;
}

static void barrier_cb(struct raft_barrier *b, int status)
{
    probe.barrier_done = status == 0;
}

static int run(int barrier)
{
    static struct raft_barrier req;
    struct raft_configuration c;
    memset(&probe, 0, sizeof(probe));
    raft_fixture_initialize(&probe.f);
    for (int i = 0; i < SERVERS; i++) {
        probe.fsm[i].version = 1;
        probe.fsm[i].apply = fsm_apply;
        probe.fsm[i].snapshot = fsm_snapshot;
        probe.fsm[i].restore = fsm_restore;
        raft_fixture_grow(&probe.f, &probe.fsm[i]);
    }
    raft_fixture_configuration(&probe.f, SERVERS, &c);
    raft_fixture_bootstrap(&probe.f, &c);
    raft_configuration_close(&c);
    // Two servers hold an entry of a term that is long past.
    for (unsigned i = 0; i < SERVERS; i++)
        raft_fixture_set_term(&probe.f, i, TERM);
    for (unsigned i = 0; i < 2; i++) {
        struct raft_entry e = {.term = OLD_TERM, .type = RAFT_COMMAND};
        e.buf.len = 8;
        e.buf.base = raft_calloc(1, 8);
        raft_fixture_add_entry(&probe.f, i, &e);
    }
    raft_fixture_start(&probe.f);
    for (unsigned i = 0; i < SERVERS; i++) {
        raft_fixture_set_disk_latency(&probe.f, i, 1);
        raft_fixture_set_network_latency(&probe.f, i, 20);
    }
    raft_fixture_elect(&probe.f, 0);
    if (barrier && raft_barrier(raft_fixture_get(&probe.f, 0), &req, barrier_cb))
        return 1;
    for (int i = 0; i < STEPS; i++)
        raft_fixture_step(&probe.f);
    return probe.early || (barrier && !(probe.barrier_done && probe.applied == 1));
}

int main(void)
{
    int plain = run(0), gated = run(1);
    printf("alone: %s; with barrier and gate: %s\n", plain ? "unsafe" : "safe",
           gated ? "unsafe" : "safe");
    return gated != 0;
}
