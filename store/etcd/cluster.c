// SPDX-License-Identifier: Apache-2.0
// The Cluster service (server/etcdserver/api/v3rpc/member.go) of a server that is the only member:
// others that share its database are no members, as nothing votes.
#include "store/etcd/etcd_int.h"

struct members {
    struct kl_etcd_response_header header;
    struct kl_etcd_member one;
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

// The header has no revision.
static void fill_members(struct kl_grpc_rpc *c, struct members *m)
{
    const struct kl_etcd *e = kl_etcd_of(c);
    struct kl_arena *a = kl_grpc_rpc_arena(c);
    m->header = kl_etcd_header(e, 0);
    m->one = (struct kl_etcd_member){.id = e->member_id, .name = kl_str(e->o.name)};
    m->one.n_peer_urls = strings_of(a, e->o.peer_urls, &m->one.peer_urls);
    m->one.n_client_urls = strings_of(a, e->o.client_urls, &m->one.client_urls);
}

static void answer_list(struct kl_grpc_rpc *c)
{
    struct members m;
    fill_members(c, &m);
    kl_etcd_reply(c, &kl_etcd_member_list_response_desc,
                  &(struct kl_etcd_member_list_response){
                      .header = &m.header, .members = &m.one, .n_members = 1});
}

struct list_call {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_txn confirm;
};

static void confirmed(struct kl_txn *txn)
{
    struct list_call *call = KL_CONTAINER_OF(txn, struct list_call, confirm);
    int code = txn->code;
    kl_txn_fini(txn);
    if (code)
        kl_etcd_fail(call->rpc, code, &txn->err);
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
        if (!(rc = kl_etcd_confirm(l, &call->confirm)))
            return;
        kl_grpc_rpc_unref(c);
    }
    kl_etcd_fail(c, rc, NULL);
}

static bool url_ok(struct kl_str s)
{
    static const struct kl_str schemes[] = {KL_STR_INIT("http://"), KL_STR_INIT("https://"),
                                            KL_STR_INIT("unix://"), KL_STR_INIT("unixs://")};
    for (size_t i = 0; i < KL_COUNT(schemes); i++) {
        struct kl_str host = kl_str_from(s, schemes[i].n);
        if (kl_str_starts(s, schemes[i]) && kl_str_chr(host, ':') > 0)
            return true;
    }
    return false;
}

static bool urls_ok(struct kl_grpc_rpc *c, const struct kl_str *urls, size_t n)
{
    bool ok = n > 0;
    for (size_t i = 0; i < n; i++)
        ok = ok && url_ok(urls[i]);
    if (!ok)
        kl_etcd_fail_grpc(c, KL_GRPC_INVALID_ARGUMENT, "etcdserver: given member URLs are invalid");
    return ok;
}

static void not_capable(struct kl_grpc_rpc *c)
{
    kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION, "etcdserver: not capable");
}

static bool not_this(struct kl_grpc_rpc *c, uint64_t id)
{
    if (id == kl_etcd_of(c)->member_id)
        return false;
    kl_etcd_fail_grpc(c, KL_GRPC_NOT_FOUND, "etcdserver: member not found");
    return true;
}

static void add(struct kl_grpc_rpc *c, struct kl_str msg)
{
    const struct kl_etcd_member_add_request *rq =
        kl_etcd_decode(c, &kl_etcd_member_add_request_desc, msg);
    if (rq && urls_ok(c, rq->peer_urls, rq->n_peer_urls))
        not_capable(c);
}

static void remove_member(struct kl_grpc_rpc *c, struct kl_str msg)
{
    const struct kl_etcd_member_remove_request *rq =
        kl_etcd_decode(c, &kl_etcd_member_remove_request_desc, msg);
    if (rq && !not_this(c, rq->id))
        kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION,
                          "etcdserver: re-configuration failed due to not enough started members");
}

static void update(struct kl_grpc_rpc *c, struct kl_str msg)
{
    const struct kl_etcd_member_update_request *rq =
        kl_etcd_decode(c, &kl_etcd_member_update_request_desc, msg);
    if (rq && urls_ok(c, rq->peer_urls, rq->n_peer_urls) && !not_this(c, rq->id))
        not_capable(c);
}

static void promote(struct kl_grpc_rpc *c, struct kl_str msg)
{
    const struct kl_etcd_member_promote_request *rq =
        kl_etcd_decode(c, &kl_etcd_member_promote_request_desc, msg);
    if (rq && !not_this(c, rq->id))
        kl_etcd_fail_grpc(c, KL_GRPC_FAILED_PRECONDITION,
                          "etcdserver: can only promote a learner member");
}

const struct kl_grpc_method kl_etcd_cluster_methods[] = {
    {.path = "/etcdserverpb.Cluster/MemberAdd", .message = add},
    {.path = "/etcdserverpb.Cluster/MemberRemove", .message = remove_member},
    {.path = "/etcdserverpb.Cluster/MemberUpdate", .message = update},
    {.path = "/etcdserverpb.Cluster/MemberList", .message = list},
    {.path = "/etcdserverpb.Cluster/MemberPromote", .message = promote},
    {.path = NULL},
};
