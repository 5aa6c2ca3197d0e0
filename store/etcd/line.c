// SPDX-License-Identifier: Apache-2.0
#include "store/etcd/line.h"

#define NOT_LEADER "election: not leader"
#define EXPIRED "mutex: session is expired"

// ---- what lock.c and election.c share with it

void kl_etcd_line_fail(struct kl_grpc_rpc *c, int code, const struct kl_error *err)
{
    kl_etcd_fail_grpc(c, KL_GRPC_UNKNOWN, kl_etcd_error_text(code, err));
}

bool kl_etcd_line_refuses(struct kl_grpc_rpc *c, size_t n)
{
    const struct kl_etcd *e = kl_etcd_of(c);
    unsigned alarms = kl_etcd_alarms(e);
    int code = n > e->o.max_request_bytes        ? KL_ETOOLARGE
               : alarms & 1u << KL_ALARM_CORRUPT ? KL_ECORRUPT
               : alarms & 1u << KL_ALARM_NOSPACE ? KL_ENOSPC
                                                 : 0;
    if (code)
        kl_etcd_line_fail(c, code, NULL);
    return code;
}

struct kl_str kl_etcd_line_prefix(struct kl_grpc_rpc *c, struct kl_str name, struct kl_str *ret_end)
{
    struct kl_arena *a = kl_grpc_rpc_arena(c);
    char *p = kl_arena_alloc(a, name.n + 1), *end = kl_arena_alloc(a, name.n + 1);
    if (!p || !end)
        return (struct kl_str){NULL, 0};
    if (name.n)
        memcpy(p, name.p, name.n);
    p[name.n] = '/';
    struct kl_str prefix = {p, name.n + 1};
    *ret_end = kl_prefix_end(prefix, end);
    return prefix;
}

// ---- the end

static void end_line(struct kl_etcd_line *line)
{
    line->state = KL_ETCD_LINE_OVER;
    kl_bytes_unref(line->bytes);
    line->bytes = NULL;
    kl_grpc_rpc_unref(line->rpc);
}

static void submit(struct kl_etcd_line *line, enum kl_etcd_line_state state);

static void leave(struct kl_etcd_line *line)
{
    if (line->rev && !atomic_load(&line->l->etcd->stopping))
        submit(line, KL_ETCD_LINE_LEAVE);
    else
        end_line(line);
}

static void fail_line(struct kl_etcd_line *line, int code, const struct kl_error *err)
{
    kl_etcd_line_fail(line->rpc, code, err);
    leave(line);
}

// ---- whose turn it is

static void look(struct kl_etcd_line *line);

static void take_turn(struct kl_etcd_line *line)
{
    line->turn(line);
    end_line(line);
}

static void stop_waiting(struct kl_etcd_line *line)
{
    kl_watch_stop(&line->watch);
    *line->pprev = line->next;
    if (line->next)
        line->next->pprev = line->pprev;
}

static void woken(struct kl_watch *w)
{
    struct kl_etcd_line *line = KL_CONTAINER_OF(w, struct kl_etcd_line, watch);
    struct kl_event ev[8];
    bool gone = false;
    int n;
    while (!gone && (n = kl_watch_next(w, ev, KL_COUNT(ev))) > 0)
        for (int i = 0; i < n; i++)
            gone |= ev[i].kv->deleted;
    if (!gone && !n)
        return;
    stop_waiting(line);
    if (gone || n == KL_ECOMPACTED)
        look(line);
    else
        fail_line(line, n, NULL);
}

// key was there at rev.
static void wait_for(struct kl_etcd_line *line, struct kl_str key, kl_rev rev)
{
    struct kl_error err = {0};
    line->state = KL_ETCD_LINE_WAIT;
    line->waited = true;
    line->watch = (struct kl_watch){.wake = woken};
    int rc = kl_watch_start(&line->watch, line->l->reader, key, KL_STR(""), rev + 1, &err);
    if (rc) {
        fail_line(line, rc, &err);
        return;
    }
    line->pprev = &line->l->lines;
    line->next = *line->pprev;
    if (line->next)
        line->next->pprev = &line->next;
    *line->pprev = line;
}

static void looked(struct kl_etcd_read *rd)
{
    struct kl_etcd_line *line = rd->arg;
    struct kl_grpc_rpc *c = kl_grpc_rpc_ref(line->rpc); // for its arena
    kl_rev rev = line->before.revision;
    if (rd->code == KL_ECOMPACTED && rev && !kl_grpc_rpc_closed(line->rpc)) {
        kl_etcd_read_fini(rd);
        line->waited = true; // for what happened since
        look(line);
        kl_grpc_rpc_unref(c);
        return;
    }
    if (rd->code || kl_grpc_rpc_closed(line->rpc)) {
        fail_line(line, rd->code ? rd->code : KL_ECANCELED, &rd->err);
    } else if (rd->n) {
        wait_for(line, kl_kv_key(rd->kvs[0]), rev ? rev : rd->head);
    } else if (line->is_lock && line->waited) {
        submit(line, KL_ETCD_LINE_CHECK);
    } else {
        take_turn(line);
    }
    kl_etcd_read_fini(rd);
    kl_grpc_rpc_unref(c);
}

// A lock that is free when joined is told that revision; upstream looks in the same transaction.
static void look(struct kl_etcd_line *line)
{
    line->state = KL_ETCD_LINE_LOOK;
    line->before = (struct kl_etcd_range_request){
        .key = line->prefix,
        .range_end = line->end,
        .limit = 1,
        .sort_order = KL_ETCD_RANGE_REQUEST_SORT_ORDER_DESCEND,
        .sort_target = KL_ETCD_RANGE_REQUEST_SORT_TARGET_CREATE,
        .max_create_revision = line->rev - 1,
        .revision = line->is_lock && !line->waited ? line->told_rev : 0,
    };
    line->look = (struct kl_etcd_read){
        .l = line->l, .rpc = line->rpc, .rq = &line->before, .done = looked, .arg = line};
    kl_etcd_read_start(&line->look);
}

// ---- transactions

static void build(struct kl_etcd_line *line)
{
    struct kl_op *ops = line->ops;
    bool join = line->state == KL_ETCD_LINE_JOIN;
    memset(ops, 0, sizeof(line->ops));
    line->compare = (struct kl_compare){
        .key = line->key, .target = KL_COMPARE_CREATE, .num = join ? 0 : line->rev};
    line->txn = (struct kl_txn){.body = {.compares = &line->compare,
                                         .ncompares = line->state != KL_ETCD_LINE_CHECK,
                                         .then = &ops[0],
                                         .nthen = 1,
                                         .els = &ops[1],
                                         .nels = join}};
    ops[0].key = ops[1].key = line->key;
    ops[0].kind = line->state == KL_ETCD_LINE_CHECK   ? KL_OP_GET
                  : line->state == KL_ETCD_LINE_LEAVE ? KL_OP_DELETE
                                                      : KL_OP_PUT;
    if (ops[0].kind == KL_OP_PUT) {
        ops[0].value = line->bytes;
        ops[0].lease = line->lease;
    }
}

static void joined(struct kl_etcd_line *line)
{
    const struct kl_kv *there = line->txn.body.succeeded ? NULL : line->ops[1].kv;
    line->told_rev = line->txn.rev;
    line->rev = there ? there->create_rev : line->txn.rev;
    bool rename = there && !line->is_lock && !kl_str_eq(kl_kv_value(there), line->value);
    kl_txn_fini(&line->txn);
    if (rename)
        submit(line, KL_ETCD_LINE_RENAME);
    else
        look(line);
}

static void txn_done(struct kl_txn *txn)
{
    struct kl_etcd_line *line = KL_CONTAINER_OF(txn, struct kl_etcd_line, txn);
    bool late = !line->waiting.l; // it was told that it waited for too long
    bool held = txn->body.succeeded, there = line->ops[0].kv != NULL;
    kl_etcd_waiting_end(&line->waiting);
    if (line->state == KL_ETCD_LINE_LEAVE) {
        kl_txn_fini(txn);
        end_line(line);
    } else if (txn->code || late || kl_grpc_rpc_closed(line->rpc)) {
        if (line->state == KL_ETCD_LINE_JOIN && !txn->code && held)
            line->rev = txn->rev;
        kl_txn_fini(txn);
        fail_line(line, txn->code ? txn->code : KL_ECANCELED, &txn->err);
    } else if (line->state == KL_ETCD_LINE_JOIN) {
        joined(line);
    } else if (line->state == KL_ETCD_LINE_RENAME) {
        kl_txn_fini(txn);
        if (held) {
            look(line);
            return;
        }
        kl_etcd_fail_grpc(line->rpc, KL_GRPC_UNKNOWN, NOT_LEADER); // somebody removed it meanwhile
        end_line(line);
    } else {
        line->told_rev = txn->rev;
        kl_txn_fini(txn);
        if (there) {
            take_turn(line);
            return;
        }
        kl_etcd_fail_grpc(line->rpc, KL_GRPC_UNKNOWN, EXPIRED);
        end_line(line);
    }
}

static void submit(struct kl_etcd_line *line, enum kl_etcd_line_state state)
{
    struct kl_error err = {0};
    line->state = state;
    build(line);
    line->txn.cb = txn_done;
    int rc = kl_store_submit(line->l->etcd->store, &line->txn, &err);
    if (!rc) {
        if (state != KL_ETCD_LINE_LEAVE)
            kl_etcd_waiting_begin(line->l, &line->waiting, line->rpc);
        return;
    }
    if (state != KL_ETCD_LINE_LEAVE)
        kl_etcd_line_fail(line->rpc, rc, &err);
    end_line(line); // a store that takes nothing more has nothing to leave
}

// ---- begin

static void join(struct kl_etcd_line *line)
{
    // As Go prints a number that may be negative; no such lease is ever found.
    bool negative = line->lease < 0;
    uint64_t n = negative ? -(uint64_t)line->lease : (uint64_t)line->lease;
    struct kl_str id = kl_arena_printf(kl_grpc_rpc_arena(line->rpc), negative ? "-%llx" : "%llx",
                                       (unsigned long long)n);
    char *key = kl_arena_alloc(kl_grpc_rpc_arena(line->rpc), line->prefix.n + id.n);
    line->bytes = kl_bytes_new(line->value);
    if (!id.p || !key || !line->bytes) {
        fail_line(line, KL_ENOMEM, NULL);
        return;
    }
    memcpy(key, line->prefix.p, line->prefix.n);
    memcpy(key + line->prefix.n, id.p, id.n);
    line->key = (struct kl_str){key, line->prefix.n + id.n};
    submit(line, KL_ETCD_LINE_JOIN);
}

static void granted(struct kl_lease_req *req)
{
    struct kl_etcd_line *line = KL_CONTAINER_OF(req, struct kl_etcd_line, grant);
    struct kl_grpc_rpc *c = kl_grpc_rpc_ref(line->rpc); // for its arena
    bool late = !line->waiting.l;
    kl_etcd_waiting_end(&line->waiting);
    line->lease = req->id;
    int code = req->code ? req->code : late || kl_grpc_rpc_closed(line->rpc) ? KL_ECANCELED : 0;
    if (code)
        fail_line(line, code, &req->err);
    else
        join(line);
    kl_lease_req_fini(req);
    kl_grpc_rpc_unref(c);
}

void kl_etcd_line_start(struct kl_etcd_line *line, struct kl_grpc_rpc *c, struct kl_etcd_loop *l)
{
    struct kl_error err = {0};
    line->rpc = kl_grpc_rpc_ref(c);
    line->l = l;
    line->prefix = kl_etcd_line_prefix(c, line->name, &line->end);
    kl_grpc_rpc_set_data(c, line);
    if (!line->prefix.p) {
        fail_line(line, KL_ENOMEM, NULL);
        return;
    }
    if (line->lease) {
        join(line);
        return;
    }
    line->state = KL_ETCD_LINE_GRANT;
    line->grant = (struct kl_lease_req){
        .kind = KL_LEASE_GRANT, .ttl_s = KL_ETCD_SESSION_TTL_S, .cb = granted};
    int rc = kl_store_lease(l->etcd->store, &line->grant, &err);
    if (rc)
        fail_line(line, rc, &err);
    else
        kl_etcd_waiting_begin(l, &line->waiting, c);
}

// In the other states something is on its way that will see it.
void kl_etcd_line_closed(struct kl_grpc_rpc *c)
{
    struct kl_etcd_line *line = kl_grpc_rpc_data(c);
    if (!line || line->state != KL_ETCD_LINE_WAIT)
        return;
    stop_waiting(line);
    leave(line);
}

void kl_etcd_line_loop_end(struct kl_etcd_loop *l)
{
    for (struct kl_etcd_line *line = l->lines; line; line = line->next)
        kl_etcd_fail(line->rpc, KL_ECANCELED, NULL);
}
