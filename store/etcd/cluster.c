// SPDX-License-Identifier: Apache-2.0
// The Cluster service (server/etcdserver/api/v3rpc/member.go) and MoveLeader: the servers of a
// raft:// store, or one member. Servers that share a database are no members, as nothing votes.
// MemberAdd announces a member of `kinglet etcd --initial-cluster`, whose id is made of its
// address; it begins as a learner whatever was asked for, and becomes a voter by the rule of odd
// numbers (store/raft/members.h). Servers that join by `kinglet server --server` choose their ids.
#include "store/etcd/cluster_int.h"
#include "store/raft/members.h"
#include <stdio.h>
#include <string.h>

#define NOT_ENOUGH "etcdserver: re-configuration failed due to not enough started members"
#define NOT_A_LEARNER "etcdserver: can only promote a learner member"
#define NOT_IN_SYNC "etcdserver: can only promote a learner member which is in sync with leader"
#define URL_EXISTS "etcdserver: Peer URLs already exists"
#define ID_EXISTS "etcdserver: member ID already exist"

// ---- who is there

struct members {
    struct kl_etcd_response_header header;
    struct kl_etcd_member *v;
    size_t n;
};

static size_t strings_of(struct kl_arena *a, const char *const *from, struct kl_str **ret)
{
    size_t n = 0;
    while (from[n])
        n++;
    *ret = kl_arena_alloc(a, (n + 1) * sizeof(**ret));
    for (size_t i = 0; *ret && i < n; i++)
        (*ret)[i] = kl_str(from[i]);
    return *ret ? n : 0;
}

void kl_etcd_fill_self(const struct kl_etcd *e, struct kl_arena *a, struct kl_etcd_member *m)
{
    m->name = kl_str(e->o.name);
    m->n_client_urls = strings_of(a, e->o.client_urls, &m->client_urls);
    if (!m->n_peer_urls)
        m->n_peer_urls = strings_of(a, e->o.peer_urls, &m->peer_urls);
}

static void fill_raft(const struct kl_etcd *e, struct kl_arena *a, struct kl_etcd_member *m,
                      const struct kl_raft_member *from)
{
    m->id = from->id;
    m->is_learner = from->role != KL_RAFT_VOTER;
    if (from->address[0]) {
        m->peer_urls = KL_ARENA_NEW(a, struct kl_str);
        if (m->peer_urls)
            m->peer_urls[m->n_peer_urls++] =
                kl_arena_printf(a, "%s://%s", e->o.plain_peers ? "http" : "https", from->address);
    }
    if (from->self)
        kl_etcd_fill_self(e, a, m);
    else if (!kl_etcd_roster_fill(e, a, m) && from->connected &&
             e->o.member_name) // etcd's have no name before they start
        m->name = kl_str(e->o.member_name(e->o.member_arg, from->id));
    if (!m->name.n && from->connected)
        m->name = kl_arena_printf(a, "%016llx", (unsigned long long)from->id);
}

// The header has no revision.
static int fill_members(struct kl_grpc_rpc *c, struct members *m)
{
    struct kl_etcd *e = kl_etcd_of(c);
    struct kl_arena *a = kl_grpc_rpc_arena(c);
    struct kl_raft_status *st = KL_ARENA_NEW(a, struct kl_raft_status);
    bool raft = st && !kl_raft_status(e->store, st, NULL);
    m->n = raft ? st->nmembers : 1;
    m->v = kl_arena_zalloc(a, (m->n + 1) * sizeof(*m->v));
    if (!st || !m->v)
        return KL_ENOMEM;
    kl_etcd_cluster_refresh(e);
    m->header = kl_etcd_header(e, 0);
    if (!raft) {
        m->v[0].id = e->member_id;
        kl_etcd_fill_self(e, a, &m->v[0]);
    }
    if (raft)
        kl_etcd_roster_forget(e, st);
    for (size_t i = 0; raft && i < m->n; i++)
        fill_raft(e, a, &m->v[i], &st->members[i]);
    return 0;
}

void kl_etcd_cluster_refresh(struct kl_etcd *e)
{
    struct kl_raft_status st;
    if (kl_raft_status(e->store, &st, NULL))
        return;
    atomic_store_explicit(&e->raft_term, st.term, memory_order_relaxed);
    atomic_store_explicit(&e->raft_index, st.last_index, memory_order_relaxed);
    atomic_store_explicit(&e->raft_applied, st.applied_index, memory_order_relaxed);
    atomic_store_explicit(&e->leader, st.leader, memory_order_relaxed);
    bool learner = true;
    for (size_t i = 0; i < st.nmembers; i++)
        learner = learner && !(st.members[i].self && st.members[i].role == KL_RAFT_VOTER);
    atomic_store_explicit(&e->is_learner, learner, memory_order_relaxed);
}

// MemberListResponse; those of MemberRemove, Update and Promote are the same message.
static void answer_list(struct kl_grpc_rpc *c)
{
    struct members m;
    if (fill_members(c, &m)) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return;
    }
    kl_etcd_reply(c, &kl_etcd_member_list_response_desc,
                  &(struct kl_etcd_member_list_response){
                      .header = &m.header, .members = m.v, .n_members = m.n});
}

struct list_call {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_etcd_confirm confirm;
    struct kl_etcd_waiting waiting;
};

static void confirmed(struct kl_etcd_confirm *c, int code, const struct kl_error *err)
{
    struct list_call *call = KL_CONTAINER_OF(c, struct list_call, confirm);
    kl_etcd_waiting_end(&call->waiting);
    if (code)
        kl_etcd_fail(call->rpc, code, err);
    else
        answer_list(call->rpc);
    kl_grpc_rpc_unref(call->rpc);
}

static void list(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_member_list_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_member_list_request_desc, msg) : NULL;
    if (!rq)
        return;
    if (!rq->linearizable || !l->etcd->confirms) {
        answer_list(c);
        return;
    }
    struct list_call *call = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct list_call);
    int rc = KL_ENOMEM;
    if (call) {
        call->rpc = kl_grpc_rpc_ref(c);
        call->confirm.cb = confirmed;
        if (!(rc = kl_etcd_confirm(l, &call->confirm))) {
            kl_etcd_waiting_begin(l, &call->waiting, c);
            return;
        }
        kl_grpc_rpc_unref(c);
    }
    kl_etcd_fail(c, rc, NULL);
}

// ---- changes

struct change_call {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_raft_change change;
    void (*answer)(struct kl_grpc_rpc *c); // NULL: answer_added
};

static void not_found(struct kl_grpc_rpc *c)
{
    kl_etcd_fail_grpc(c, KL_GRPC_NOT_FOUND, "etcdserver: member not found");
}

static void not_capable(struct kl_grpc_rpc *c)
{
    kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, "etcdserver: not capable");
}

static void bad_transferee(struct kl_grpc_rpc *c)
{
    kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, "etcdserver: bad leader transferee");
}

// A server that does not lead may not know the member yet.
static void answer_added(struct kl_grpc_rpc *c, const struct kl_raft_change *change)
{
    struct members m;
    struct kl_etcd_member_add_response r = {.header = &m.header};
    struct kl_raft_member added = {.id = change->id, .role = KL_RAFT_STANDBY};
    memcpy(added.address, change->address, sizeof(added.address));
    if (fill_members(c, &m)) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return;
    }
    for (size_t i = 0; i < m.n && !r.member; i++)
        r.member = m.v[i].id == added.id ? &m.v[i] : NULL;
    if (!r.member) { // there is room for one more
        r.member = &m.v[m.n++];
        fill_raft(kl_etcd_of(c), kl_grpc_rpc_arena(c), r.member, &added);
    }
    r.members = m.v;
    r.n_members = m.n;
    kl_etcd_reply(c, &kl_etcd_member_add_response_desc, &r);
}

static void changed(struct kl_raft_change *change)
{
    struct change_call *call = KL_CONTAINER_OF(change, struct change_call, change);
    struct kl_grpc_rpc *c = call->rpc;
    if (!change->code && call->answer)
        call->answer(c);
    else if (!change->code)
        answer_added(c, change);
    else if (change->code == KL_ENOTFOUND && change->op == KL_RAFT_TRANSFER)
        bad_transferee(c);
    else if (change->code == KL_ENOTFOUND)
        not_found(c);
    else if (change->code == KL_EINVALID) // the only voter
        kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, NOT_ENOUGH);
    else if (change->code == KL_ETIMEOUT && change->op == KL_RAFT_PROMOTE)
        kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, NOT_IN_SYNC);
    else if (change->code == KL_ECONFLICT)
        kl_etcd_fail_grpc(c, KL_GRPC_UNAVAILABLE, "etcdserver: unhealthy cluster");
    else if (change->code == KL_EUNAVAILABLE)
        kl_etcd_fail_grpc(c, KL_GRPC_UNAVAILABLE, "etcdserver: no leader");
    else
        kl_etcd_fail(c, change->code, &change->err);
    kl_grpc_rpc_unref(c);
}

// False: the store has no members.
static bool start_change(struct kl_grpc_rpc *c, enum kl_raft_change_op op, uint64_t id,
                         const char *address, void (*answer)(struct kl_grpc_rpc *c))
{
    struct change_call *call = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct change_call);
    if (!call) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return true;
    }
    call->rpc = kl_grpc_rpc_ref(c);
    call->answer = answer;
    call->change.op = op;
    call->change.id = id;
    call->change.cb = changed;
    snprintf(call->change.address, sizeof(call->change.address), "%s", address);
    int rc = kl_raft_change(kl_etcd_of(c)->store, &call->change, NULL);
    if (!rc)
        return true;
    kl_grpc_rpc_unref(c);
    if (rc == KL_EUNSUPPORTED)
        return false;
    kl_etcd_fail(c, rc, NULL);
    return true;
}

// The address in a peer's URL; p is NULL when it is none.
static struct kl_str url_address(struct kl_str s)
{
    static const struct kl_str schemes[] = {KL_STR_INIT("http://"), KL_STR_INIT("https://"),
                                            KL_STR_INIT("unix://"), KL_STR_INIT("unixs://")};
    for (size_t i = 0; i < KL_COUNT(schemes); i++) {
        struct kl_str host = kl_str_from(s, schemes[i].n);
        if (kl_str_starts(s, schemes[i]) && kl_str_chr(host, ':') > 0 &&
            kl_str_chr(host, '/') < 0 && host.n <= KL_RAFT_ADDRESS_MAX)
            return host;
    }
    return (struct kl_str){NULL, 0};
}

static bool urls_ok(struct kl_grpc_rpc *c, const struct kl_str *urls, size_t n)
{
    bool ok = n > 0;
    for (size_t i = 0; i < n; i++)
        ok = ok && url_address(urls[i]).p;
    if (!ok)
        kl_etcd_fail_grpc(c, KL_GRPC_INVALID_ARGUMENT, "etcdserver: given member URLs are invalid");
    return ok;
}

// A member by id, or (id 0) by address. False: there is none.
static bool find_member(struct kl_grpc_rpc *c, uint64_t id, const char *address,
                        struct kl_raft_member *ret)
{
    struct kl_raft_status *st = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct kl_raft_status);
    if (!st || kl_raft_status(kl_etcd_of(c)->store, st, NULL))
        return false;
    for (size_t i = 0; i < st->nmembers; i++) {
        if (id ? st->members[i].id != id : strcmp(st->members[i].address, address))
            continue;
        *ret = st->members[i];
        return true;
    }
    return false;
}

static void add(struct kl_grpc_rpc *c, struct kl_str msg)
{
    const struct kl_etcd *e = kl_etcd_of(c);
    struct kl_raft_member there;
    const struct kl_etcd_member_add_request *rq =
        kl_etcd_decode(c, &kl_etcd_member_add_request_desc, msg);
    if (!rq || !urls_ok(c, rq->peer_urls, rq->n_peer_urls))
        return;
    struct kl_str address = kl_arena_dup(kl_grpc_rpc_arena(c), url_address(rq->peer_urls[0]));
    if (!address.p) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return;
    }
    uint64_t id = e->o.member_id ? e->o.member_id(e->o.member_arg, address.p) : 0;
    if (find_member(c, 0, address.p, &there))
        kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, URL_EXISTS);
    else if (id && find_member(c, id, "", &there)) // its address was changed since
        kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, ID_EXISTS);
    else if (!id || !start_change(c, KL_RAFT_ADD, id, address.p, NULL))
        not_capable(c);
}

static bool is_self(struct kl_grpc_rpc *c, uint64_t id)
{
    return id == kl_etcd_of(c)->member_id;
}

static void remove_member(struct kl_grpc_rpc *c, struct kl_str msg)
{
    const struct kl_etcd_member_remove_request *rq =
        kl_etcd_decode(c, &kl_etcd_member_remove_request_desc, msg);
    if (!rq || start_change(c, KL_RAFT_REMOVE, rq->id, "", answer_list))
        return;
    if (is_self(c, rq->id))
        kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, NOT_ENOUGH);
    else
        not_found(c);
}

static void update(struct kl_grpc_rpc *c, struct kl_str msg)
{
    const struct kl_etcd_member_update_request *rq =
        kl_etcd_decode(c, &kl_etcd_member_update_request_desc, msg);
    if (!rq || !urls_ok(c, rq->peer_urls, rq->n_peer_urls))
        return;
    struct kl_str address = kl_arena_dup(kl_grpc_rpc_arena(c), url_address(rq->peer_urls[0]));
    if (!address.p)
        kl_etcd_fail(c, KL_ENOMEM, NULL);
    else if (start_change(c, KL_RAFT_ADDRESS, rq->id, address.p, answer_list))
        return;
    else if (is_self(c, rq->id))
        not_capable(c);
    else
        not_found(c);
}

static void promote(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_raft_member m;
    const struct kl_etcd_member_promote_request *rq =
        kl_etcd_decode(c, &kl_etcd_member_promote_request_desc, msg);
    if (!rq)
        return;
    bool there = find_member(c, rq->id, "", &m);
    if (there && m.role == KL_RAFT_VOTER)
        kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, NOT_A_LEARNER);
    else if (there && !m.connected)
        kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, NOT_IN_SYNC);
    else if (start_change(c, KL_RAFT_PROMOTE, rq->id, "", answer_list))
        return;
    else if (is_self(c, rq->id))
        kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, NOT_A_LEARNER);
    else
        not_found(c);
}

static void answer_moved(struct kl_grpc_rpc *c)
{
    kl_etcd_reply(c, &kl_etcd_move_leader_response_desc, &(struct kl_etcd_move_leader_response){0});
}

void kl_etcd_move_leader(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd *e = kl_etcd_of(c);
    const struct kl_etcd_move_leader_request *rq =
        kl_etcd_decode(c, &kl_etcd_move_leader_request_desc, msg);
    if (!rq)
        return;
    kl_etcd_cluster_refresh(e);
    if (atomic_load(&e->leader) != e->member_id)
        kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, "etcdserver: not leader");
    else if (rq->target_id == e->member_id)
        answer_moved(c);
    else if (!rq->target_id || !start_change(c, KL_RAFT_TRANSFER, rq->target_id, "", answer_moved))
        bad_transferee(c);
}

const struct kl_grpc_method kl_etcd_cluster_methods[] = {
    {.path = "/etcdserverpb.Cluster/MemberAdd", .message = add},
    {.path = "/etcdserverpb.Cluster/MemberRemove", .message = remove_member},
    {.path = "/etcdserverpb.Cluster/MemberUpdate", .message = update},
    {.path = "/etcdserverpb.Cluster/MemberList", .message = list},
    {.path = "/etcdserverpb.Cluster/MemberPromote", .message = promote},
    {.path = NULL},
};
