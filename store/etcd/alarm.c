// SPDX-License-Identifier: Apache-2.0
// Alarms (server/etcdserver/api/v3alarm): the store keeps them for all members and over restarts
// (store/lease.h). An alarm is a member's and of a type; any member's caps them all. A remote
// etcd's leases are its own: there an alarm is this process's, and gone with it.
#include "store/etcd/kv_int.h"

struct alarm_call {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_etcd_loop *l;
    struct kl_etcd_waiting waiting;
    struct kl_etcd_alarm_member member; // of what is asked for
    struct kl_op op;
    struct kl_txn txn;
    struct kl_lease_req req;
    void (*listed)(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                   const struct kl_etcd_alarm_member *v, size_t n);
};

// ---- as leases

// Far from what anybody would choose for a lease; no member's is 0, for which one would be chosen.
#define ALARM_IDS 0x9e3779b97f4a7c15

static int64_t lease_id(const struct kl_etcd_alarm_member *m)
{
    return (int64_t)((m->member_id ^ ALARM_IDS) + (uint64_t)m->alarm);
}

static struct kl_etcd_alarm_member member_of(int64_t id, int64_t ttl_ms)
{
    int type = (int)(ttl_ms / 1000 - KL_LEASE_MAX_TTL);
    return (struct kl_etcd_alarm_member){.member_id = ((uint64_t)id - (uint64_t)type) ^ ALARM_IDS,
                                         .alarm = type};
}

// ---- what stands

unsigned kl_etcd_alarms(const struct kl_etcd *e)
{
    return kl_store_alarms(e->store) | atomic_load_explicit(&e->alarms, memory_order_relaxed);
}

bool kl_etcd_is_corrupt(struct kl_grpc_rpc *c)
{
    if (!(kl_etcd_alarms(kl_etcd_of(c)) & 1u << KL_ALARM_CORRUPT))
        return false;
    kl_etcd_fail(c, KL_ECORRUPT, NULL);
    return true;
}

bool kl_etcd_is_capped(struct kl_grpc_rpc *c)
{
    if (!(kl_etcd_alarms(kl_etcd_of(c)) & 1u << KL_ALARM_NOSPACE))
        return false;
    kl_etcd_fail(c, KL_ENOSPC, NULL);
    return true;
}

// ---- calls

static void end_call(struct alarm_call *call)
{
    kl_etcd_waiting_end(&call->waiting);
    kl_lease_req_fini(&call->req);
    kl_grpc_rpc_unref(call->rpc);
}

static void fail_call(struct alarm_call *call, int code, const struct kl_error *err)
{
    kl_etcd_fail(call->rpc, code, err);
    end_call(call);
}

static struct alarm_call *new_call(struct kl_grpc_rpc *c, struct kl_etcd_loop *l)
{
    struct alarm_call *call = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct alarm_call);
    if (!call) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return NULL;
    }
    call->rpc = kl_grpc_rpc_ref(c);
    call->l = l;
    return call;
}

static void ask(struct alarm_call *call, enum kl_lease_kind kind,
                void (*cb)(struct kl_lease_req *req))
{
    struct kl_error err = {0};
    call->req = (struct kl_lease_req){.kind = kind,
                                      .alarm = true,
                                      .id = lease_id(&call->member),
                                      .ttl_s = KL_LEASE_MAX_TTL + call->member.alarm,
                                      .cb = cb};
    int rc = kl_store_lease(call->l->etcd->store, &call->req, &err);
    if (rc)
        fail_call(call, rc, &err);
    else if (!call->waiting.l)
        kl_etcd_waiting_begin(call->l, &call->waiting, call->rpc);
}

// ---- a list of them

static void add_own(struct kl_etcd *e, unsigned types, struct kl_etcd_alarm_member *v, size_t *n)
{
    for (int t = KL_ALARM_NOSPACE; t < KL_ALARMS; t++) {
        bool there = !(types & 1u << t);
        for (size_t i = 0; i < *n; i++)
            there |= v[i].member_id == e->member_id && v[i].alarm == t;
        if (!there)
            v[(*n)++] = (struct kl_etcd_alarm_member){.member_id = e->member_id, .alarm = t};
    }
}

// And while the disk is full this member says so, without an alarm that must be disarmed.
static void tell(struct kl_grpc_rpc *c, struct kl_etcd_loop *l, const struct kl_lease_req *req,
                 void (*listed)(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                                const struct kl_etcd_alarm_member *v, size_t n))
{
    struct kl_etcd *e = l->etcd;
    struct kl_store_status st;
    size_t n = req ? req->n : 0;
    struct kl_etcd_alarm_member *v =
        kl_arena_alloc(kl_grpc_rpc_arena(c), (n + KL_ALARMS) * sizeof(*v));
    if (!v) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return;
    }
    for (size_t i = 0; i < n; i++)
        v[i] = member_of(req->ids[i], req->ttls_ms[i]);
    kl_store_status(e->store, &st);
    add_own(e, atomic_load(&e->alarms) | (st.disk_full ? 1u << KL_ALARM_NOSPACE : 0), v, &n);
    listed(c, l, v, n);
}

static void on_list(struct kl_lease_req *req)
{
    struct alarm_call *call = KL_CONTAINER_OF(req, struct alarm_call, req);
    if (req->code)
        kl_etcd_fail(call->rpc, req->code, &req->err);
    else
        tell(call->rpc, call->l, req, call->listed);
    end_call(call);
}

static void on_confirmed(struct kl_txn *txn)
{
    struct alarm_call *call = KL_CONTAINER_OF(txn, struct alarm_call, txn);
    int code = txn->code;
    kl_txn_fini(txn);
    if (code || kl_grpc_rpc_closed(call->rpc))
        fail_call(call, code ? code : KL_ECANCELED, &txn->err);
    else
        ask(call, KL_LEASE_LIST, on_list);
}

void kl_etcd_alarms_list(struct kl_grpc_rpc *c, struct kl_etcd_loop *l, bool confirmed,
                         void (*listed)(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                                        const struct kl_etcd_alarm_member *v, size_t n))
{
    struct kl_etcd *e = l->etcd;
    struct kl_error err = {0};
    if (!kl_store_keeps_alarms(e->store) || (!confirmed && !kl_store_alarms(e->store))) {
        tell(c, l, NULL, listed);
        return;
    }
    struct alarm_call *call = new_call(c, l);
    if (!call)
        return;
    call->listed = listed;
    if (!confirmed || !e->confirms) {
        ask(call, KL_LEASE_LIST, on_list);
        return;
    }
    // A read that is no older than the call, of anything.
    call->op = (struct kl_op){.kind = KL_OP_GET, .key = KL_STR("\0")};
    call->txn = (struct kl_txn){.body = {.then = &call->op, .nthen = 1}, .cb = on_confirmed};
    int rc = kl_store_submit(e->store, &call->txn, &err);
    if (rc)
        fail_call(call, rc, &err);
    else
        kl_etcd_waiting_begin(l, &call->waiting, c);
}

// ---- Maintenance.Alarm

static void answer(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                   const struct kl_etcd_alarm_member *v, size_t n)
{
    struct kl_etcd_response_header h = kl_etcd_header(l->etcd, kl_etcd_rev(l));
    kl_etcd_reply(
        c, &kl_etcd_alarm_response_desc,
        &(struct kl_etcd_alarm_response){
            .header = &h, .alarms = (struct kl_etcd_alarm_member *)(uintptr_t)v, .n_alarms = n});
}

static void answer_all(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                       const struct kl_etcd_alarm_member *v, size_t n)
{
    answer(c, l, v, n);
}

// One of its types, of which there is one a member at most.
static void answer_nospace(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                           const struct kl_etcd_alarm_member *v, size_t n);
static void answer_corrupt(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                           const struct kl_etcd_alarm_member *v, size_t n);

static void answer_type(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                        const struct kl_etcd_alarm_member *v, size_t n, int type)
{
    struct kl_etcd_alarm_member *of = kl_arena_alloc(kl_grpc_rpc_arena(c), (n + 1) * sizeof(*of));
    size_t k = 0;
    for (size_t i = 0; of && i < n; i++) {
        if (v[i].alarm == type)
            of[k++] = v[i];
    }
    if (of)
        answer(c, l, of, k);
    else
        kl_etcd_fail(c, KL_ENOMEM, NULL);
}

static void answer_nospace(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                           const struct kl_etcd_alarm_member *v, size_t n)
{
    answer_type(c, l, v, n, KL_ALARM_NOSPACE);
}

static void answer_corrupt(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                           const struct kl_etcd_alarm_member *v, size_t n)
{
    answer_type(c, l, v, n, KL_ALARM_CORRUPT);
}

static void on_changed(struct kl_lease_req *req)
{
    struct alarm_call *call = KL_CONTAINER_OF(req, struct alarm_call, req);
    bool none = req->code == KL_ENOTFOUND; // to disarm: the answer has none either
    if (!req->code || req->code == KL_EEXISTS || none)
        answer(call->rpc, call->l, &call->member, !none);
    else
        kl_etcd_fail(call->rpc, req->code, &req->err);
    end_call(call);
}

static void change(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                   const struct kl_etcd_alarm_member *m, bool activate)
{
    struct kl_etcd *e = l->etcd;
    unsigned bit = 1u << m->alarm;
    if (!kl_store_keeps_alarms(e->store)) {
        bool ours = !m->member_id || m->member_id == e->member_id;
        struct kl_etcd_alarm_member own = {.member_id = e->member_id, .alarm = m->alarm};
        unsigned was = !ours      ? 0
                       : activate ? atomic_fetch_or(&e->alarms, bit) | bit
                                  : atomic_fetch_and(&e->alarms, ~bit);
        answer(c, l, &own, (was & bit) != 0);
        return;
    }
    struct alarm_call *call = new_call(c, l);
    if (!call)
        return;
    call->member = *m;
    ask(call, activate ? KL_LEASE_GRANT : KL_LEASE_REVOKE, on_changed);
}

void kl_etcd_alarm(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_alarm_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_alarm_request_desc, msg) : NULL;
    if (!rq)
        return;
    bool known = rq->alarm > 0 && rq->alarm < KL_ALARMS;
    struct kl_etcd_alarm_member m = {.member_id = rq->member_id, .alarm = rq->alarm};
    switch (rq->action) {
    case KL_ETCD_ALARM_REQUEST_ALARM_ACTION_GET:
        if (known || !rq->alarm)
            kl_etcd_alarms_list(c, l, true,
                                !rq->alarm                      ? answer_all
                                : rq->alarm == KL_ALARM_NOSPACE ? answer_nospace
                                                                : answer_corrupt);
        else
            answer(c, l, NULL, 0);
        break;
    case KL_ETCD_ALARM_REQUEST_ALARM_ACTION_ACTIVATE:
    case KL_ETCD_ALARM_REQUEST_ALARM_ACTION_DEACTIVATE:
        if (known)
            change(c, l, &m, rq->action == KL_ETCD_ALARM_REQUEST_ALARM_ACTION_ACTIVATE);
        else
            answer(c, l, NULL, 0);
        break;
    default:
        answer(c, l, NULL, 0);
    }
}

// ---- the quota

static void on_raised(struct kl_lease_req *req)
{
    fail_call(KL_CONTAINER_OF(req, struct alarm_call, req), KL_ENOSPC, NULL);
}

// As etcd's quotaKVServer. Whoever is refused leaves the alarm before it is told, and that stands
// until it is disarmed.
bool kl_etcd_is_over_quota(struct kl_grpc_rpc *c, size_t cost)
{
    struct kl_etcd *e = kl_etcd_of(c);
    struct kl_store_status st;
    if (!e->o.quota_bytes || !cost)
        return false;
    kl_store_status(e->store, &st);
    if (st.db_bytes + (int64_t)cost < e->o.quota_bytes)
        return false;
    struct kl_etcd_loop *l = kl_etcd_alarms(e) & 1u << KL_ALARM_NOSPACE ? NULL : kl_etcd_loop_of(c);
    if (!l || !kl_store_keeps_alarms(e->store)) {
        atomic_fetch_or(&e->alarms, l ? 1u << KL_ALARM_NOSPACE : 0);
        kl_etcd_fail(c, KL_ENOSPC, NULL);
        return true;
    }
    struct alarm_call *call = new_call(c, l);
    if (call) {
        call->member =
            (struct kl_etcd_alarm_member){.member_id = e->member_id, .alarm = KL_ALARM_NOSPACE};
        ask(call, KL_LEASE_GRANT, on_raised);
    }
    return true;
}
