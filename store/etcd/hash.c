// SPDX-License-Identifier: Apache-2.0
// Maintenance.Hash and HashKV: a CRC-32 over every key-value as it was at a revision, in key order.
// Unlike etcd's it does not depend on what history is left, so that it is the same on every server
// and every back end that holds the same data; it is no etcd's hash.
#include "store/etcd/maintenance_int.h"
#include <zlib.h>

enum { SLICE = 256 };

struct hash_call {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_etcd_loop *l;
    bool kv; // HashKV
    kl_rev rev, head, compact_rev;
    uint32_t crc;
    struct kl_view *view; // a reference
    struct kl_iter it;
    struct kl_range_at page;
    struct kl_task task;
};

static uint32_t add_u64(uint32_t crc, uint64_t v)
{
    unsigned char b[8];
    for (int i = 0; i < 8; i++)
        b[i] = (unsigned char)(v >> (8 * i));
    return (uint32_t)crc32(crc, b, sizeof(b));
}

static uint32_t add_str(uint32_t crc, struct kl_str s)
{
    crc = add_u64(crc, s.n);
    return s.n ? (uint32_t)crc32_z(crc, (const unsigned char *)s.p, s.n) : crc;
}

static void add_kv(struct hash_call *call, const struct kl_kv *kv)
{
    uint32_t crc = add_str(call->crc, kl_kv_key(kv));
    crc = add_u64(crc, (uint64_t)kv->create_rev);
    crc = add_u64(crc, (uint64_t)kv->mod_rev);
    crc = add_u64(crc, (uint64_t)kv->version);
    crc = add_u64(crc, (uint64_t)kv->lease);
    call->crc = add_str(crc, kl_kv_value(kv));
}

static void finish(struct hash_call *call, int code)
{
    struct kl_grpc_rpc *c = call->rpc;
    struct kl_etcd_response_header h = kl_etcd_header(call->l->etcd, call->head);
    if (code)
        kl_etcd_fail(c, code, &call->page.err);
    else if (call->kv)
        kl_etcd_reply(c, &kl_etcd_hash_kv_response_desc,
                      &(struct kl_etcd_hash_kv_response){.header = &h,
                                                         .hash = call->crc,
                                                         .compact_revision = call->compact_rev,
                                                         .hash_revision = call->rev});
    else
        kl_etcd_reply(c, &kl_etcd_hash_response_desc,
                      &(struct kl_etcd_hash_response){.header = &h, .hash = call->crc});
    kl_view_unref(call->view);
    kl_grpc_rpc_unref(c);
}

static void walk(struct kl_task *t)
{
    struct hash_call *call = KL_CONTAINER_OF(t, struct hash_call, task);
    int n = 0;
    for (const struct kl_kv *kv; (kv = kl_iter_next(&call->it));) {
        add_kv(call, kv);
        if (++n % SLICE || !kl_loop_is_late(call->l->loop))
            continue;
        if (kl_grpc_rpc_closed(call->rpc))
            break;
        kl_loop_post(call->l->loop, &call->task);
        return;
    }
    finish(call, 0);
}

// ---- of a revision that is in no view

static void next_page(struct hash_call *call);

static void page_came(struct kl_range_at *q)
{
    struct hash_call *call = KL_CONTAINER_OF(q, struct hash_call, page);
    int code = q->code;
    bool more = q->more && q->nkvs;
    for (size_t i = 0; !code && i < q->nkvs; i++)
        add_kv(call, q->kvs[i]);
    if (!code && more) {
        struct kl_str last = kl_kv_key(q->kvs[q->nkvs - 1]);
        char *p = kl_arena_alloc(kl_grpc_rpc_arena(call->rpc), last.n + 1);
        if (p) {
            memcpy(p, last.p, last.n);
            p[last.n] = 0;
            q->key = (struct kl_str){p, last.n + 1};
        } else {
            code = KL_ENOMEM;
        }
    }
    kl_range_at_fini(q);
    if (!code && more && !kl_grpc_rpc_closed(call->rpc))
        next_page(call);
    else
        finish(call, code);
}

static void next_page(struct hash_call *call)
{
    struct kl_range_at *q = &call->page;
    struct kl_str key = q->key;
    memset(q, 0, sizeof(*q));
    q->key = key;
    q->end = KL_RANGE_TO_LAST;
    q->rev = call->rev;
    q->cb = page_came;
    int rc = kl_store_range_at(call->l->etcd->store, q, &q->err);
    if (rc)
        finish(call, rc);
}

static void start(struct kl_grpc_rpc *c, struct kl_etcd_loop *l, kl_rev rev, bool kv)
{
    struct hash_call *call = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct hash_call);
    if (!call) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return;
    }
    struct kl_view *now = kl_reader_view(l->reader);
    call->rpc = kl_grpc_rpc_ref(c);
    call->l = l;
    call->kv = kv;
    call->head = kl_view_rev(now);
    call->rev = rev > 0 ? rev : call->head;
    call->compact_rev = kl_view_compact_rev(now);
    call->task.run = walk;
    int rc = call->rev == call->head
                 ? 0
                 : kl_store_view_at(l->reader, call->rev, &call->view, &call->page.err);
    if (call->rev == call->head)
        call->view = kl_view_ref(now);
    if (!rc) {
        kl_iter_init(&call->it, call->view, KL_STR("\0"), KL_RANGE_TO_LAST);
        walk(&call->task);
    } else if (rc == KL_EAGAIN) {
        call->page.key = KL_STR("\0");
        next_page(call);
    } else {
        finish(call, rc);
    }
}

void kl_etcd_hash(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    if (l)
        start(c, l, 0, false);
}

void kl_etcd_hash_kv(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_hash_kv_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_hash_kv_request_desc, msg) : NULL;
    if (rq)
        start(c, l, rq->revision, true);
}
