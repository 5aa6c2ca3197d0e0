// SPDX-License-Identifier: Apache-2.0
// Maintenance.HashKV as etcd computes it (server/storage/mvcc/hash.go): CRC-32C over "key" and the
// rows of its bucket in order of revision, "main_sub" in 17 bytes and the encoded KeyValue: every
// row above the compaction up to the revision asked for, below it those that are still live at that
// revision. Where each transaction wrote one key (Kubernetes') the revisions are etcd's, and so is
// the hash.
//
//   KEPT ─► what is live and older than the compaction, found in key order: a sum of each
//   MERGE ► the sums in order of revision
//   LOG ──► the rows since, as a watch has them
//
// A compaction on the way begins it anew. Hash, of etcd's whole file, cannot be the same here: it
// is that of the newest revision.
#include "store/etcd/maintenance_int.h"
#include "store/raft/sum.h"
#include <stdlib.h>

enum {
    SLICE = 256,
    RUN = 4096,      // sums that are sorted at once
    TAKE = 64,       // events
    MAX_ANEW = 5,    // compactions meanwhile
    HEAD_BYTES = 64, // of a row, beside key and value
};

#define CRC32C_POLY 0x82f63b78u

// A row that is kept: 24 bytes for each key that was not written since the compaction.
struct sum {
    kl_rev id;
    uint32_t sub, crc;
    uint64_t len;
};

struct hash_call {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_etcd_loop *l;
    bool kv; // HashKV
    kl_rev rev, head, compact_rev;
    uint32_t crc;
    int anew;
    // KEPT
    kl_rev kept_rev;
    bool any;             // live at rev
    struct kl_view *view; // a reference
    struct kl_iter it;
    struct kl_etcd_pages pages;
    struct sum *sums;
    size_t n, cap;
    // MERGE
    uint32_t powers[64]; // x^(2^i) modulo the polynomial
    struct run {
        size_t at, end;
    } * heap;
    size_t nheap;
    // LOG
    struct kl_watch watch;
    struct kl_task task;
    bool posted;
    struct kl_error err;
};

// ---- a row

static char *put_be64(char *p, uint64_t v)
{
    for (int i = 56; i >= 0; i -= 8)
        *p++ = (char)(v >> i);
    return p;
}

static uint32_t add(uint32_t crc, const void *p, size_t n, uint64_t *len)
{
    *len += n;
    return n ? kl_crc32c(crc, p, n) : crc;
}

static uint32_t add_row(uint32_t crc, const struct kl_kv *kv, uint64_t *len)
{
    char b[HEAD_BYTES], *p = put_be64(b, (uint64_t)kv->id);
    struct kl_str key = kl_kv_key(kv), value = kv->deleted ? KL_STR("") : kl_kv_value(kv);
    *p++ = '_';
    p = put_be64(p, kv->sub);
    if (kv->deleted)
        *p++ = 't';
    p = kl_proto_put_head(p, 1, key.n);
    crc = add(crc, b, (size_t)(p - b), len);
    crc = add(crc, key.p, key.n, len);
    if (kv->deleted)
        return crc;
    p = kl_proto_put_int(b, 2, kv->create_rev);
    p = kl_proto_put_int(p, 3, kv->mod_rev);
    p = kl_proto_put_int(p, 4, kv->version);
    p = value.n ? kl_proto_put_head(p, 5, value.n) : p;
    crc = add(crc, b, (size_t)(p - b), len);
    crc = add(crc, value.p, value.n, len);
    p = kl_proto_put_int(b, 6, kv->lease);
    return add(crc, b, (size_t)(p - b), len);
}

// ---- sums of what is put together: the first one times x^(8 len) (see zlib's crc32_combine)

static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t m = 1u << 31; m; m >>= 1) {
        if (a & m)
            product ^= b;
        b = b & 1 ? b >> 1 ^ CRC32C_POLY : b >> 1;
    }
    return product;
}

static uint32_t combine(const struct hash_call *call, uint32_t crc, const struct sum *s)
{
    uint64_t len = s->len;
    for (int i = 3; len; len >>= 1, i++)
        if (len & 1)
            crc = multiply(call->powers[i], crc);
    return crc ^ s->crc;
}

// ---- the end, and once more

static void let_go(struct hash_call *call)
{
    kl_view_unref(call->view);
    call->view = NULL;
    free(call->sums);
    call->sums = NULL;
    free(call->heap);
    call->heap = NULL;
    kl_watch_stop(&call->watch);
}

static void finish(struct hash_call *call, int code)
{
    struct kl_grpc_rpc *c = call->rpc;
    struct kl_etcd_response_header h = kl_etcd_header(call->l->etcd, call->head);
    if (code)
        kl_etcd_fail(c, code, &call->err);
    else if (call->kv)
        kl_etcd_reply(c, &kl_etcd_hash_kv_response_desc,
                      &(struct kl_etcd_hash_kv_response){
                          .header = &h,
                          .hash = call->crc,
                          .compact_revision = call->compact_rev ? call->compact_rev : -1,
                          .hash_revision = call->rev});
    else
        kl_etcd_reply(c, &kl_etcd_hash_response_desc,
                      &(struct kl_etcd_hash_response){.header = &h, .hash = call->crc});
    let_go(call);
    kl_grpc_rpc_unref(c);
}

static void begin(struct hash_call *call);

static void fail(struct hash_call *call, int code)
{
    if (code == KL_ECOMPACTED && ++call->anew <= MAX_ANEW && !kl_grpc_rpc_closed(call->rpc)) {
        let_go(call);
        begin(call);
    } else {
        finish(call, code);
    }
}

static void post(struct hash_call *call, void (*run)(struct kl_task *t))
{
    call->task.run = run;
    call->posted = true;
    kl_loop_post(call->l->loop, &call->task);
}

// The rest in another slice. False: there is time left.
static bool yield(struct hash_call *call, void (*run)(struct kl_task *t))
{
    bool late = kl_loop_is_late(call->l->loop);
    if (late)
        post(call, run);
    return late;
}

// ---- LOG

static void read_log(struct kl_task *t)
{
    struct hash_call *call = KL_CONTAINER_OF(t, struct hash_call, task);
    struct kl_event ev[TAKE];
    uint64_t len = 0;
    kl_rev at;
    int n;
    call->posted = false;
    if (kl_grpc_rpc_closed(call->rpc)) {
        finish(call, KL_ECANCELED);
        return;
    }
    while ((n = kl_watch_next(&call->watch, ev, TAKE)) > 0) {
        for (int i = 0; i < n; i++) {
            if (ev[i].kv->mod_rev > call->rev) {
                finish(call, 0);
                return;
            }
            call->crc = add_row(call->crc, ev[i].kv, &len);
        }
        if (yield(call, read_log))
            return;
    }
    if (n < 0)
        fail(call, n);
    else if (kl_watch_progress(&call->watch, &at) && at >= call->rev)
        finish(call, 0);
    else if (kl_watch_progress(&call->watch, &at))
        post(call, read_log); // the newest revision is about to be shown to watches
}

static void log_woken(struct kl_watch *w)
{
    struct hash_call *call = KL_CONTAINER_OF(w, struct hash_call, watch);
    if (!call->posted)
        read_log(&call->task);
}

static void start_log(struct hash_call *call)
{
    if (call->compact_rev >= call->rev) {
        finish(call, 0);
        return;
    }
    call->watch = (struct kl_watch){.wake = log_woken};
    int rc = kl_watch_start(&call->watch, call->l->reader, KL_STR("\0"), KL_RANGE_TO_LAST,
                            call->compact_rev + 1, &call->err);
    if (rc)
        fail(call, rc);
    else
        read_log(&call->task);
}

// ---- MERGE

static int compare_sums(const void *a, const void *b)
{
    const struct sum *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return (x->sub > y->sub) - (x->sub < y->sub);
}

static void sink(struct hash_call *call, size_t i)
{
    struct run *h = call->heap, moved = h[i];
    for (size_t child; (child = 2 * i + 1) < call->nheap; i = child) {
        if (child + 1 < call->nheap &&
            compare_sums(&call->sums[h[child + 1].at], &call->sums[h[child].at]) < 0)
            child++;
        if (compare_sums(&call->sums[moved.at], &call->sums[h[child].at]) <= 0)
            break;
        h[i] = h[child];
    }
    h[i] = moved;
}

static void merge(struct kl_task *t)
{
    struct hash_call *call = KL_CONTAINER_OF(t, struct hash_call, task);
    for (int n = 1; call->nheap; n++) {
        struct run *first = &call->heap[0];
        call->crc = combine(call, call->crc, &call->sums[first->at]);
        if (++first->at == first->end)
            *first = call->heap[--call->nheap];
        if (call->nheap)
            sink(call, 0);
        if (n % SLICE == 0 && yield(call, merge))
            return;
    }
    start_log(call);
}

static void start_merge(struct hash_call *call)
{
    size_t nruns = (call->n + RUN - 1) / RUN, last = call->n / RUN * RUN;
    if (call->n > last)
        qsort(call->sums + last, call->n - last, sizeof(*call->sums), compare_sums);
    call->heap = calloc(nruns + 1, sizeof(*call->heap));
    if (!call->heap) {
        finish(call, KL_ENOMEM);
        return;
    }
    for (size_t i = 0; i < nruns; i++)
        call->heap[i] = (struct run){i * RUN, i + 1 < nruns ? (i + 1) * RUN : call->n};
    call->nheap = nruns;
    for (size_t i = nruns / 2; i-- > 0;)
        sink(call, i);
    call->powers[0] = 1u << 30; // x
    for (size_t i = 1; i < KL_COUNT(call->powers); i++)
        call->powers[i] = multiply(call->powers[i - 1], call->powers[i - 1]);
    merge(&call->task);
}

// ---- KEPT

static bool keep(struct hash_call *call, const struct kl_kv *kv)
{
    call->any = true;
    if (kv->mod_rev > call->compact_rev)
        return true;
    if (call->n == call->cap) {
        size_t cap = call->cap ? call->cap * 2 : RUN;
        struct sum *p = realloc(call->sums, cap * sizeof(*p));
        if (!p)
            return false;
        call->sums = p;
        call->cap = cap;
    }
    struct sum *s = &call->sums[call->n++];
    *s = (struct sum){.id = kv->id, .sub = kv->sub};
    s->crc = add_row(0, kv, &s->len);
    if (call->n % RUN == 0)
        qsort(s + 1 - RUN, RUN, sizeof(*s), compare_sums);
    return true;
}

static void find_kept(struct hash_call *call, kl_rev rev);

static void found_all(struct hash_call *call)
{
    kl_view_unref(call->view);
    call->view = NULL;
    // Of a revision without keys etcd hashes all that lies below the compaction.
    if (!call->any && call->kept_rev > call->compact_rev)
        find_kept(call, call->compact_rev);
    else
        start_merge(call);
}

static void walk(struct kl_task *t)
{
    struct hash_call *call = KL_CONTAINER_OF(t, struct hash_call, task);
    int n = 0;
    for (const struct kl_kv *kv; (kv = kl_iter_next(&call->it));) {
        if (!keep(call, kv)) {
            finish(call, KL_ENOMEM);
            return;
        }
        if (++n % SLICE)
            continue;
        if (kl_grpc_rpc_closed(call->rpc)) {
            finish(call, KL_ECANCELED);
            return;
        }
        if (yield(call, walk))
            return;
    }
    found_all(call);
}

static void page_came(struct kl_etcd_pages *p)
{
    struct hash_call *call = KL_CONTAINER_OF(p, struct hash_call, pages);
    const struct kl_range_at *q = &p->q;
    int code = kl_grpc_rpc_closed(call->rpc) ? KL_ECANCELED : q->code;
    if (q->code)
        call->err = q->err;
    for (size_t i = 0; !code && i < q->nkvs; i++)
        code = keep(call, q->kvs[i]) ? 0 : KL_ENOMEM;
    bool more = !code && kl_etcd_pages_more(p);
    if (more)
        code = kl_etcd_pages_next(p, &call->err);
    if (!code && more)
        return;
    kl_etcd_pages_fini(p);
    if (code)
        fail(call, code);
    else
        found_all(call);
}

static void find_kept(struct hash_call *call, kl_rev rev)
{
    call->kept_rev = rev;
    int rc = kl_store_view_at(call->l->reader, rev, &call->view, &call->err);
    if (!rc) {
        kl_iter_init(&call->it, call->view, KL_STR("\0"), KL_RANGE_TO_LAST);
        walk(&call->task);
    } else if (rc == KL_EAGAIN) {
        call->pages.came = page_came;
        rc = kl_etcd_pages_start(&call->pages, call->l->etcd->store, KL_STR("\0"), KL_RANGE_TO_LAST,
                                 rev, 0, false, &call->err);
        if (rc)
            finish(call, rc);
    } else {
        fail(call, rc);
    }
}

// ---- begin

static void begin(struct hash_call *call)
{
    const struct kl_view *now = kl_reader_view(call->l->reader);
    call->head = kl_view_rev(now);
    call->compact_rev = kl_view_compact_rev(now);
    call->crc = kl_crc32c(0, "key", 3);
    call->n = call->cap = 0;
    call->any = false;
    if (call->rev < 0) // as etcd: of no row
        finish(call, 0);
    else if (call->rev < call->compact_rev)
        finish(call, KL_ECOMPACTED);
    else if (call->rev > call->head)
        finish(call, KL_EFUTUREREV);
    else if (call->compact_rev)
        find_kept(call, call->rev);
    else
        start_log(call);
}

static void start(struct kl_grpc_rpc *c, struct kl_etcd_loop *l, kl_rev rev, bool kv)
{
    struct hash_call *call = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct hash_call);
    if (!call) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return;
    }
    call->rpc = kl_grpc_rpc_ref(c);
    call->l = l;
    call->kv = kv;
    call->rev = rev ? rev : kl_etcd_rev(l);
    begin(call);
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
