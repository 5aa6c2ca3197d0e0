// SPDX-License-Identifier: Apache-2.0
// KV.Range. What is small is answered at once from the newest view; what is big is encoded piece by
// piece as the connection takes it, so that a list of any length costs little memory.
#include "store/etcd/etcd_int.h"
#include "store/etcd/kv_int.h"

enum { WHOLE_BYTES = 64 * 1024, PIECE_BYTES = 64 * 1024 - 64, TAIL_MAX = 16 };

struct range_call {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_etcd_range_request rq;
    struct kl_etcd_read read;
    struct kl_etcd_confirm confirm;
    struct kl_etcd_waiting waiting;
    // The answer, piece by piece.
    struct kl_iter it;
    size_t at;
    bool head_sent;
    struct kl_etcd_pages pages; // of what was too much to be held
    size_t page_at;
    bool over;
};

// ---- the answer

static char *put_tail(char *p, bool more, int64_t count)
{
    return kl_proto_put_int(kl_proto_put_int(p, 3, more), 4, count);
}

static size_t tail_size(bool more, int64_t count)
{
    return kl_proto_int_size(more) + kl_proto_int_size(count);
}

static void put_head(struct kl_grpc_out *o, struct range_call *call)
{
    kl_etcd_put_full_header(o, call->read.l->etcd, call->read.head);
    if (!call->read.kvs && call->read.n && !call->read.pages_again)
        kl_iter_init(&call->it, call->read.view, call->rq.key, call->rq.range_end);
}

static void put_end(struct kl_grpc_out *o, const struct kl_etcd_read *rd)
{
    char *p = kl_grpc_out_room(o, TAIL_MAX);
    if (p)
        kl_grpc_out_wrote(o, (size_t)(put_tail(p, rd->more, rd->count) - p));
}

// The next key-values, about `max` bytes of them in `slices` slices (one takes up to three, and the
// end two); then the tail.
static void put_kvs(struct kl_grpc_out *o, struct range_call *call, size_t max, uint32_t slices)
{
    struct kl_etcd_read *rd = &call->read;
    for (; call->at < rd->n && o->bytes < max && o->n + 5 < slices; call->at++) {
        const struct kl_kv *kv = rd->kvs ? rd->kvs[call->at] : kl_iter_next(&call->it);
        kl_etcd_put_kv(o, 2, kv, call->rq.keys_only);
    }
    if (call->at == rd->n)
        put_end(o, rd);
}

static void end_call(struct range_call *call)
{
    call->over = true;
    if (call->pages.busy)
        return; // until it came
    kl_etcd_pages_fini(&call->pages);
    kl_etcd_read_fini(&call->read);
    kl_grpc_rpc_unref(call->rpc);
}

static void page_came(struct kl_etcd_pages *p)
{
    struct range_call *call = KL_CONTAINER_OF(p, struct range_call, pages);
    call->page_at = 0;
    if (call->over)
        end_call(call);
    else
        kl_grpc_rpc_pull_on(call->rpc);
}

static int ask_for_page(struct range_call *call)
{
    const struct kl_etcd_range_request *rq = &call->rq;
    struct kl_error err;
    if (call->pages.came)
        return kl_etcd_pages_more(&call->pages) ? kl_etcd_pages_next(&call->pages, &err)
                                                : KL_EINTERNAL; // it was more before
    call->pages.came = page_came;
    return kl_etcd_pages_start(&call->pages, call->read.l->etcd->store, rq->key, rq->range_end,
                               rq->revision, kl_etcd_range_is_plain(rq) ? rq->limit : 0, false,
                               &err);
}

// put_kvs for what is read again. 0, or why it cannot be: compacted meanwhile, for one.
static int put_page(struct kl_grpc_out *o, struct range_call *call, size_t max, uint32_t slices)
{
    struct kl_etcd_read *rd = &call->read;
    const struct kl_range_at *q = &call->pages.q;
    if (call->pages.busy) // the page is the store's
        return 0;
    if (q->code)
        return q->code;
    for (; call->at < rd->n && call->page_at < q->nkvs && o->bytes < max && o->n + 5 < slices;
         call->page_at++) {
        if (!kl_etcd_range_passes(&call->rq, q->kvs[call->page_at]))
            continue;
        kl_etcd_put_kv(o, 2, q->kvs[call->page_at], call->rq.keys_only);
        call->at++;
    }
    if (call->at == rd->n)
        put_end(o, rd);
    else if (call->page_at == q->nkvs)
        return ask_for_page(call);
    return 0;
}

static int pull_piece(void *arg, struct kl_http_chunk *chunks, int max)
{
    struct range_call *call = arg;
    struct kl_grpc_out o;
    int rc = 0;
    kl_grpc_out_init_piece(&o, PIECE_BYTES);
    if (!call->head_sent)
        put_head(&o, call);
    call->head_sent = true;
    // One more would not fit the block, and a block of its own for it would be wasteful.
    if (call->read.pages_again)
        rc = put_page(&o, call, PIECE_BYTES - 4096, (uint32_t)max);
    else
        put_kvs(&o, call, PIECE_BYTES - 4096, (uint32_t)max);
    if (!rc)
        return kl_grpc_out_take(&o, chunks, max);
    kl_grpc_out_fini(&o);
    return rc;
}

static void end_pull(void *arg)
{
    end_call(arg);
}

static void answer(struct kl_etcd_read *rd)
{
    struct range_call *call = rd->arg;
    struct kl_grpc_rpc *c = call->rpc;
    if (rd->code || kl_grpc_rpc_closed(c)) {
        kl_etcd_fail(c, rd->code, &rd->err);
        end_call(call);
        return;
    }
    size_t size =
        kl_etcd_header_size(rd->l->etcd, rd->head) + rd->kv_bytes + tail_size(rd->more, rd->count);
    if (size > WHOLE_BYTES || rd->pages_again) {
        kl_etcd_read_keep(rd);
        kl_grpc_rpc_reply_pull(c, size, pull_piece, end_pull, call);
        return;
    }
    struct kl_grpc_out o;
    kl_grpc_out_init(&o, size + 64);
    put_head(&o, call);
    put_kvs(&o, call, SIZE_MAX, UINT32_MAX);
    kl_grpc_rpc_reply(c, &o);
    end_call(call);
}

// ---- the usual: one key of the newest view

static void answer_key(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                       const struct kl_etcd_range_request *rq)
{
    struct kl_view *v = kl_reader_view(l->reader);
    const struct kl_kv *kv = kl_view_get(v, rq->key);
    kl_rev rev = kl_view_rev(v);
    bool with_kv = kv && !rq->count_only;
    struct kl_grpc_out o;
    kl_grpc_out_init(&o, 128 + (with_kv ? kl_etcd_kv_size(kv, rq->keys_only) : 0));
    kl_etcd_put_full_header(&o, l->etcd, rev);
    if (with_kv)
        kl_etcd_put_kv(&o, 2, kv, rq->keys_only);
    if (kv)
        kl_grpc_out_put(&o, "\x20\x01", 2); // count
    kl_grpc_rpc_reply(c, &o);
}

// ---- the call

const char *kl_etcd_check_range(const struct kl_etcd_range_request *rq)
{
    if (!rq->key.n)
        return "etcdserver: key is not provided";
    if (rq->sort_order < 0 || rq->sort_order > KL_ETCD_RANGE_REQUEST_SORT_ORDER_DESCEND ||
        rq->sort_target < 0 || rq->sort_target > KL_ETCD_RANGE_REQUEST_SORT_TARGET_VALUE)
        return "etcdserver: invalid sort option";
    return NULL;
}

static struct range_call *new_call(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                                   const struct kl_etcd_range_request *rq)
{
    struct kl_arena *a = kl_grpc_rpc_arena(c);
    struct range_call *call = KL_ARENA_NEW(a, struct range_call);
    if (!call)
        return NULL;
    call->rq = *rq;
    call->rq.key = kl_arena_dup(a, rq->key);
    call->rq.range_end = kl_arena_dup(a, rq->range_end);
    if (!call->rq.key.p || !call->rq.range_end.p)
        return NULL;
    call->rpc = kl_grpc_rpc_ref(c);
    call->read =
        (struct kl_etcd_read){.l = l, .rpc = c, .rq = &call->rq, .done = answer, .arg = call};
    return call;
}

static void confirmed(struct kl_etcd_confirm *c, int code, const struct kl_error *err)
{
    struct range_call *call = KL_CONTAINER_OF(c, struct range_call, confirm);
    kl_etcd_waiting_end(&call->waiting);
    if (code || kl_grpc_rpc_closed(call->rpc)) {
        kl_etcd_fail(call->rpc, code, err);
        end_call(call);
    } else {
        kl_etcd_read_start(&call->read);
    }
}

void kl_etcd_range(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd *e = kl_etcd_of(c);
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_range_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_range_request_desc, msg) : NULL;
    if (!rq)
        return;
    const char *wrong = kl_etcd_check_range(rq);
    if (wrong) {
        kl_etcd_fail_grpc(c, KL_GRPC_INVALID_ARGUMENT, wrong);
        return;
    }
    if (kl_etcd_is_corrupt(c))
        return;
    bool direct = rq->serializable || !e->confirms;
    if (direct && !rq->range_end.n && rq->revision <= 0 && kl_etcd_range_is_plain(rq)) {
        answer_key(c, l, rq);
        return;
    }
    struct range_call *call = new_call(c, l, rq);
    if (!call) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return;
    }
    if (direct) {
        kl_etcd_read_start(&call->read);
        return;
    }
    call->confirm.cb = confirmed;
    int rc = kl_etcd_confirm(l, &call->confirm);
    if (rc) {
        kl_etcd_fail(c, rc, NULL);
        end_call(call);
    } else {
        kl_etcd_waiting_begin(l, &call->waiting, c);
    }
}
