// SPDX-License-Identifier: Apache-2.0
// Election.Leader and Observe: the oldest key under NAME/ is the leader's. An observer is told its
// value, then what is put there until it goes, then the next one's.
//
//   FIND ─┬─ a key ─► FOLLOW it ── it was deleted ─► FIND
//         └─ none ──► EXPECT a put ─► FOLLOW that key
#include "store/etcd/line.h"

#define NO_LEADER "election: no leader"

enum { QUANTUM = 64 << 10 }; // bytes that wait for the connection

struct kl_etcd_observer {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_etcd_loop *l;
    bool stays; // Observe
    struct kl_str prefix, end;
    struct kl_etcd_confirm confirm;
    struct kl_etcd_waiting waiting;
    struct kl_etcd_range_request first;
    struct kl_etcd_read look;
    struct kl_watch watch;
    bool watching, expects, readable;
    struct kl_etcd_observer *next, **pprev; // of the loop's that watch
};

static void find(struct kl_etcd_observer *ob);

static void end(struct kl_etcd_observer *ob)
{
    kl_grpc_rpc_unref(ob->rpc);
}

// Of Observe etcd's client, which its server uses, knows no errors: the stream just ends.
static void fail(struct kl_etcd_observer *ob, int code, const struct kl_error *err)
{
    if (ob->stays)
        kl_grpc_rpc_finish(ob->rpc, KL_GRPC_OK, NULL);
    else
        kl_etcd_line_fail(ob->rpc, code, err);
    end(ob);
}

static void tell(struct kl_etcd_observer *ob, const struct kl_kv *kv, kl_rev rev)
{
    struct kl_grpc_out o;
    kl_grpc_out_init(&o, KL_ETCD_HEADER_MAX + 16 + kl_etcd_kv_size(kv, false));
    kl_etcd_put_full_header(&o, ob->l->etcd, rev);
    kl_etcd_put_kv(&o, 2, kv, false);
    if (ob->stays)
        kl_grpc_rpc_send(ob->rpc, &o);
    else
        kl_grpc_rpc_reply(ob->rpc, &o);
}

// ---- watching

static void stop_watching(struct kl_etcd_observer *ob)
{
    kl_watch_stop(&ob->watch);
    ob->watching = ob->readable = false;
    *ob->pprev = ob->next;
    if (ob->next)
        ob->next->pprev = ob->pprev;
}

static void woken(struct kl_watch *w)
{
    struct kl_etcd_observer *ob = KL_CONTAINER_OF(w, struct kl_etcd_observer, watch);
    ob->readable = true;
    kl_grpc_rpc_want_send(ob->rpc);
}

static void watch(struct kl_etcd_observer *ob, struct kl_str key, struct kl_str end, kl_rev rev)
{
    struct kl_error err = {0};
    ob->watch = (struct kl_watch){.wake = woken};
    ob->expects = end.n;
    int rc = kl_watch_start(&ob->watch, ob->l->reader, key, end, rev, &err);
    if (rc) {
        fail(ob, rc, &err);
        return;
    }
    ob->watching = true;
    ob->pprev = &ob->l->observers;
    ob->next = *ob->pprev;
    if (ob->next)
        ob->next->pprev = &ob->next;
    *ob->pprev = ob;
}

static void take_event(struct kl_etcd_observer *ob, const struct kl_kv *kv)
{
    if (kv->deleted && ob->expects)
        return;
    if (kv->deleted) {
        stop_watching(ob);
        find(ob);
        return;
    }
    tell(ob, kv, kv->mod_rev);
    if (!ob->expects)
        return;
    struct kl_kv *leader = kl_kv_ref((struct kl_kv *)kv);
    stop_watching(ob);
    watch(ob, kl_kv_key(leader), KL_STR(""), leader->mod_rev + 1);
    kl_kv_unref(leader);
}

void kl_etcd_observe_ready(struct kl_grpc_rpc *c)
{
    struct kl_etcd_observer *ob = kl_grpc_rpc_data(c);
    while (ob && ob->readable && kl_grpc_rpc_queued(c) < QUANTUM && !kl_grpc_rpc_closed(c)) {
        struct kl_event ev;
        int n = kl_watch_next(&ob->watch, &ev, 1);
        if (n > 0) {
            take_event(ob, ev.kv);
        } else {
            ob->readable = false;
            if (!n)
                break;
            stop_watching(ob);
            fail(ob, n, NULL);
            return;
        }
    }
    if (ob && ob->readable)
        kl_grpc_rpc_want_send(c);
}

// ---- finding

static void looked(struct kl_etcd_read *rd)
{
    struct kl_etcd_observer *ob = rd->arg;
    struct kl_grpc_rpc *c = kl_grpc_rpc_ref(ob->rpc); // for its arena
    if (rd->code || kl_grpc_rpc_closed(c)) {
        fail(ob, rd->code ? rd->code : KL_ECANCELED, &rd->err);
    } else if (!ob->stays) {
        if (rd->n)
            tell(ob, rd->kvs[0], rd->head);
        else
            kl_etcd_fail_grpc(c, KL_GRPC_UNKNOWN, NO_LEADER);
        end(ob);
    } else if (rd->n) {
        tell(ob, rd->kvs[0], rd->head);
        watch(ob, kl_kv_key(rd->kvs[0]), KL_STR(""), rd->head + 1);
    } else {
        watch(ob, ob->prefix, ob->end, rd->head + 1);
    }
    kl_etcd_read_fini(rd);
    kl_grpc_rpc_unref(c);
}

static void look(struct kl_etcd_observer *ob)
{
    ob->first = (struct kl_etcd_range_request){
        .key = ob->prefix,
        .range_end = ob->end,
        .limit = 1,
        .sort_order = KL_ETCD_RANGE_REQUEST_SORT_ORDER_ASCEND,
        .sort_target = KL_ETCD_RANGE_REQUEST_SORT_TARGET_CREATE,
    };
    ob->look = (struct kl_etcd_read){
        .l = ob->l, .rpc = ob->rpc, .rq = &ob->first, .done = looked, .arg = ob};
    kl_etcd_read_start(&ob->look);
}

static void confirmed(struct kl_etcd_confirm *c, int code, const struct kl_error *err)
{
    struct kl_etcd_observer *ob = KL_CONTAINER_OF(c, struct kl_etcd_observer, confirm);
    kl_etcd_waiting_end(&ob->waiting);
    if (code || kl_grpc_rpc_closed(ob->rpc))
        fail(ob, code ? code : KL_ECANCELED, err);
    else
        look(ob);
}

static void find(struct kl_etcd_observer *ob)
{
    if (!ob->l->etcd->confirms) {
        look(ob);
        return;
    }
    ob->confirm = (struct kl_etcd_confirm){.cb = confirmed};
    int rc = kl_etcd_confirm(ob->l, &ob->confirm);
    if (rc)
        fail(ob, rc, NULL);
    else
        kl_etcd_waiting_begin(ob->l, &ob->waiting, ob->rpc);
}

static void start(struct kl_grpc_rpc *c, struct kl_str msg, bool stays)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_leader_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_leader_request_desc, msg) : NULL;
    if (!rq)
        return;
    struct kl_etcd_observer *ob = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct kl_etcd_observer);
    if (ob)
        ob->prefix = kl_etcd_line_prefix(c, rq->name, &ob->end);
    if (!ob || !ob->prefix.p) {
        kl_etcd_line_fail(c, KL_ENOMEM, NULL);
        return;
    }
    ob->rpc = kl_grpc_rpc_ref(c);
    ob->l = l;
    ob->stays = stays;
    kl_grpc_rpc_set_data(c, ob);
    find(ob);
}

void kl_etcd_leader(struct kl_grpc_rpc *c, struct kl_str msg)
{
    start(c, msg, false);
}

void kl_etcd_observe(struct kl_grpc_rpc *c, struct kl_str msg)
{
    start(c, msg, true);
}

void kl_etcd_observe_close(struct kl_grpc_rpc *c)
{
    struct kl_etcd_observer *ob = kl_grpc_rpc_data(c);
    if (!ob || !ob->watching)
        return;
    stop_watching(ob);
    end(ob);
}

void kl_etcd_observe_loop_end(struct kl_etcd_loop *l)
{
    for (struct kl_etcd_observer *ob = l->observers; ob; ob = ob->next)
        kl_etcd_fail(ob->rpc, KL_ECANCELED, NULL);
}
