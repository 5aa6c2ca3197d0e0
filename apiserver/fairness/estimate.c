// SPDX-License-Identifier: Apache-2.0
// How many seats a request takes (apiserver/pkg/util/flowcontrol/request): a list by what it reads,
// a write by who watches.
#include "apiserver/fairness/fairness_int.h"
#include <math.h>

enum {
    MAX_SEATS = 10,
    BYTES_PER_SEAT = 100000,
    STREAMED_BYTES = 1000000, // of a list at once in memory
    OBJECT_BYTES = 1500000,   // when nothing is known of the size
    SAMPLE = 8,
    WATCHES_PER_SEAT = 10,
    EVENT_NS = 5000000,
    MAX_PREFIX = 256,
};

// Objects of the resource and about how large they are as stored. False: it has none.
static bool count_objects(const struct kl_req *r, int64_t *ret_n, int64_t *ret_bytes)
{
    char prefix[MAX_PREFIX], end[MAX_PREFIX];
    const struct kl_resource *res = r->info.res;
    size_t n = res && res->etcd_prefix ? strlen(res->etcd_prefix) : 0;
    if (!n || n + 1 > sizeof prefix)
        return false;
    memcpy(prefix, res->etcd_prefix, n);
    prefix[n++] = '/';
    struct kl_str from = {prefix, n}, to = kl_prefix_end(from, end);
    struct kl_iter it;
    kl_iter_init(&it, kl_req_view(r), from, to);
    *ret_n = it.left;
    int64_t bytes = 0, seen = 0;
    struct kl_kv *kv;
    for (int i = 0; i < SAMPLE && (kv = kl_iter_next(&it)); i++) {
        if (!kv->value)
            continue;
        bytes += kv->value->n;
        seen++;
    }
    *ret_bytes = seen ? bytes / seen : OBJECT_BYTES;
    return true;
}

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

// Whether upstream would read it from etcd: everything here is in memory, but clients are to be
// treated alike.
static bool is_from_etcd(const struct kl_req_opts *o)
{
    return o->cont.n || (o->rv_match == KL_RV_MATCH_EXACT) ||
           (o->limit > 0 && o->resource_version.n && !kl_str_eqz(o->resource_version, "0"));
}

static uint32_t list_seats(const struct kl_req *r, int max)
{
    const struct kl_req_opts *o = &r->opts;
    bool watch = r->info.op == KL_VERB_WATCH;
    int64_t n, size;
    if (watch && !o->send_initial_events && o->resource_version.n &&
        !kl_str_eqz(o->resource_version, "0"))
        return 1;
    if (!count_objects(r, &n, &size))
        return 1;
    bool cached = watch || !is_from_etcd(o);
    int64_t load = o->limit > 0 ? min_i64(o->limit, n) : n;
    if (r->info.name.n || o->name_from_fields.n)
        load = 1;
    else if (!cached && (o->labels.n || o->fields.n) && n / 2 > load)
        load = n / 2;
    int64_t bytes = load > STREAMED_BYTES * (int64_t)MAX_SEATS ? STREAMED_BYTES * (int64_t)MAX_SEATS
                                                               : load * size;
    if (cached)
        bytes = min_i64(bytes, STREAMED_BYTES);
    int64_t seats = (bytes + BYTES_PER_SEAT - 1) / BYTES_PER_SEAT;
    return (uint32_t)(seats < 1 ? 1 : min_i64(seats, max));
}

// Watches are counted in a table of fixed size: two resources that meet in a slot cost a write some
// seats too many.
static size_t slot_of(const struct kl_resource *res, struct kl_str ns, struct kl_str name)
{
    // Custom ones have one index for all.
    uint64_t kind = res->custom ? kl_str_hash(kl_str(res->etcd_prefix))
                                : (uint64_t)(kl_resource_storage(res)->index + 1);
    uint64_t h = kind * 0x9e3779b97f4a7c15u;
    if (ns.n)
        h ^= kl_str_hash(ns) * 31;
    if (name.n)
        h ^= kl_str_hash(name) * 131;
    return (size_t)(h >> 40) & (KL_FAIR_WATCHES - 1);
}

void kl_fair_count_watch(struct kl_req *r, int delta)
{
    struct kl_fair *f = r->srv->fair;
    const struct kl_resource *res = r->info.res;
    if (!f || !res)
        return;
    if (res->index == KL_RES_core_v1_pods)
        for (size_t i = 0; i < r->opts.fields.n; i++) // one node's: a write is of interest to one
            if (kl_str_eqz(r->opts.fields.reqs[i].key, "spec.nodeName"))
                return;
    struct kl_str name = r->info.name.n ? r->info.name : r->opts.name_from_fields;
    atomic_fetch_add_explicit(&f->watches[slot_of(res, r->info.ns, name)], delta,
                              memory_order_relaxed);
}

static int watchers_of(struct kl_fair *f, const struct kl_req *r)
{
    const struct kl_req_info *i = &r->info;
    struct kl_str none = KL_STR("");
    int n = atomic_load_explicit(&f->watches[slot_of(i->res, none, none)], memory_order_relaxed);
    if (i->ns.n)
        n += atomic_load_explicit(&f->watches[slot_of(i->res, i->ns, none)], memory_order_relaxed);
    if (i->name.n)
        n += atomic_load_explicit(&f->watches[slot_of(i->res, i->ns, i->name)],
                                  memory_order_relaxed);
    return n;
}

static void write_seats(struct kl_fair *f, const struct kl_req *r, int max, struct kl_fq_item *it)
{
    it->initial_seats = 1;
    if (!r->info.res ||
        (kl_str_eqz(r->info.plural, "serviceaccounts") && kl_str_eqz(r->info.sub, "token")))
        return;
    int watchers = watchers_of(f, r);
    if (watchers < WATCHES_PER_SEAT)
        return;
    int64_t seats = (watchers + WATCHES_PER_SEAT - 1) / WATCHES_PER_SEAT;
    int64_t work = seats * EVENT_NS;
    it->final_seats = (uint32_t)min_i64(seats, max);
    it->latency_ns = work / it->final_seats;
}

void kl_fair_estimate(struct kl_fair *f, struct kl_req *r, int max_seats, struct kl_fq_item *it)
{
    int max = max_seats > 0 && max_seats < MAX_SEATS ? max_seats : MAX_SEATS;
    it->initial_seats = 1;
    it->final_seats = 0;
    it->latency_ns = 0;
    if (!r->info.is_resource)
        return;
    switch (r->info.op) {
    case KL_VERB_LIST:
    case KL_VERB_WATCH:
        it->initial_seats = list_seats(r, max);
        break;
    case KL_VERB_CREATE:
    case KL_VERB_UPDATE:
    case KL_VERB_PATCH:
    case KL_VERB_DELETE:
        write_seats(f, r, max, it);
        break;
    default:
        break;
    }
}
