// SPDX-License-Identifier: Apache-2.0
// The Maintenance service (server/etcdserver/api/v3rpc/maintenance.go). Hash and HashKV are in
// hash.c, Snapshot is in snapshot.c.
#include "store/etcd/cluster_int.h"
#include "store/etcd/maintenance_int.h"

static void defragment(struct kl_grpc_rpc *c, struct kl_str msg)
{
    // Freed space goes back to the disk in small steps all the time; there is nothing to stop for.
    kl_etcd_reply(c, &kl_etcd_defragment_response_desc, &(struct kl_etcd_defragment_response){0});
}

// ---- status

static void answer_status(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                          const struct kl_etcd_alarm_member *alarms, size_t nalarms)
{
    static const char *const names[] = {
        [KL_ALARM_NOSPACE] = "NOSPACE", [KL_ALARM_CORRUPT] = "CORRUPT"};
    struct kl_etcd *e = kl_etcd_of(c);
    struct kl_arena *a = kl_grpc_rpc_arena(c);
    struct kl_store_status st;
    kl_store_status(e->store, &st);
    kl_etcd_cluster_refresh(e);
    uint64_t index = atomic_load(&e->raft_index), leader = atomic_load(&e->leader);
    struct kl_etcd_response_header h = kl_etcd_header(e, kl_etcd_rev(l));
    struct kl_etcd_downgrade_info down = {0};
    struct kl_str *errors = kl_arena_alloc(a, (nalarms + 2) * sizeof(*errors));
    if (!errors) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return;
    }
    struct kl_etcd_status_response r = {
        .header = &h,
        .version = KL_STR(KL_ETCD_VERSION),
        .storage_version = KL_STR(KL_ETCD_CLUSTER_VERSION),
        .db_size = st.db_bytes,
        .db_size_in_use = st.db_used_bytes,
        .db_size_quota = e->o.quota_bytes,
        .leader = leader,
        .raft_index = index ? index : (uint64_t)st.rev, // without raft the log is of revisions
        .raft_applied_index = index ? atomic_load(&e->raft_applied) : (uint64_t)st.rev,
        .is_learner = atomic_load(&e->is_learner),
        .raft_term = h.raft_term,
        .downgrade_info = &down,
        .errors = errors,
    };
    if (!leader)
        errors[r.n_errors++] = KL_STR("etcdserver: no leader");
    for (size_t i = 0; i < nalarms; i++)
        errors[r.n_errors++] =
            kl_arena_printf(a, "memberID:%llu alarm:%s ", (unsigned long long)alarms[i].member_id,
                            names[alarms[i].alarm]);
    if (st.last_error)
        errors[r.n_errors++] = kl_arena_dup(a, kl_str(st.last_error_text));
    kl_etcd_reply(c, &kl_etcd_status_response_desc, &r);
}

static void status(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    if (l)
        kl_etcd_alarms_list(c, l, false, answer_status);
}

// MAJOR.MINOR or MAJOR.MINOR.PATCH; *ret_previous: the one before ours.
static bool parse_version(struct kl_str s, bool *ret_previous)
{
    uint64_t v[3] = {0};
    struct kl_str part, rest = s;
    int n = 0;
    for (; kl_str_split(&rest, '.', &part); n++)
        if (n == 3 || !part.n || part.p[0] == '-' || part.p[0] == '+' ||
            !kl_str_to_u64(part, &v[n]))
            return false;
    *ret_previous = v[0] == 3 && v[1] == KL_ETCD_MINOR - 1;
    return n == 2 || n == 3;
}

// No older etcd could open what is stored, so that there is never a job: validating says what an
// etcd of this version says, but of the one version that an etcd of it could go back to.
static void downgrade(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_downgrade_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_downgrade_request_desc, msg) : NULL;
    bool previous;
    if (!rq)
        return;
    if (rq->action == KL_ETCD_DOWNGRADE_REQUEST_DOWNGRADE_ACTION_CANCEL) { // also without one
        struct kl_etcd_response_header h = kl_etcd_header(l->etcd, kl_etcd_rev(l));
        kl_etcd_reply(c, &kl_etcd_downgrade_response_desc,
                      &(struct kl_etcd_downgrade_response){
                          .header = &h, .version = KL_STR(KL_ETCD_CLUSTER_MINOR)});
    } else if (rq->action < 0 || rq->action > KL_ETCD_DOWNGRADE_REQUEST_DOWNGRADE_ACTION_CANCEL) {
        kl_etcd_fail_grpc(c, KL_GRPC_UNKNOWN, "etcdserver: unknown method");
    } else if (!parse_version(rq->version, &previous)) {
        kl_etcd_fail_grpc(c, KL_GRPC_INVALID_ARGUMENT,
                          "etcdserver: wrong downgrade target version format");
    } else {
        kl_etcd_fail_grpc(c, previous ? KL_GRPC_FAILED_PRECONDITION : KL_GRPC_INVALID_ARGUMENT,
                          previous ? "etcdserver: not capable"
                                   : "etcdserver: invalid downgrade target version");
    }
}

const struct kl_grpc_method kl_etcd_maintenance_methods[] = {
    {.path = "/etcdserverpb.Maintenance/Alarm", .message = kl_etcd_alarm},
    {.path = "/etcdserverpb.Maintenance/Status", .message = status},
    {.path = "/etcdserverpb.Maintenance/Defragment", .message = defragment},
    {.path = "/etcdserverpb.Maintenance/Hash", .message = kl_etcd_hash},
    {.path = "/etcdserverpb.Maintenance/HashKV", .message = kl_etcd_hash_kv},
    {.path = "/etcdserverpb.Maintenance/Snapshot",
     .message = kl_etcd_snapshot,
     .ready = kl_etcd_snapshot_ready,
     .close = kl_etcd_snapshot_close},
    {.path = "/etcdserverpb.Maintenance/MoveLeader", .message = kl_etcd_move_leader},
    {.path = "/etcdserverpb.Maintenance/Downgrade", .message = downgrade},
    {.path = NULL},
};
