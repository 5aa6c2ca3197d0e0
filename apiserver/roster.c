// SPDX-License-Identifier: Apache-2.0
#include "apiserver/roster.h"
#include "apiserver/bootstrap.h"
#include "apiserver/server_int.h"
#include "base/log.h"
#include "base/rand.h"
#include "store/wait.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    TTL_S = KL_ROSTER_TTL_S,
    BEAT_MS = 5000,
    LOOK_EVERY = 2, // beats between two looks at the endpoints themselves
    PATIENCE_MS = 30 * 1000,
    RETRY_MS = 500,
    VALUE_MAX = 8192,
    EVENTS = 16,
};
#define PREFIX "/bootstrap/servers/"

struct kl_roster {
    struct kl_store *store;
    uint64_t id, boot;
    char place[4200], key[64];
    int64_t lease;
    kl_rev mod; // of our key; 0: it is gone
    // On loops[0].
    struct kl_apiserver *srv;
    struct kl_watch watch;
    uv_timer_t timer;
    bool running, closed, busy, told;
    bool heard; // the store answered the last time
    unsigned beats;
    struct kl_lease_req req;
    struct kl_txn txn;
    struct kl_compare cmp;
    struct kl_op put, get;
};

// ---- the value: a line for each thing known

static struct kl_bytes *make_value(const struct kl_roster *r)
{
    struct kl_buf b;
    kl_buf_init(&b, VALUE_MAX);
    kl_buf_printf(&b, "boot %016llx\nplace %s\n", (unsigned long long)r->boot, r->place);
    if (r->srv && r->srv->o.advertise_address)
        kl_buf_printf(&b, "version %s\naddress %s\nport %d\n",
                      r->srv->o.version ? r->srv->o.version : "dev", r->srv->o.advertise_address,
                      kl_apiserver_port(r->srv));
    struct kl_bytes *v = kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    return v;
}

static struct kl_str line_of(struct kl_str value, struct kl_str name)
{
    struct kl_str line, first;
    while (kl_str_split(&value, '\n', &line))
        if (kl_str_split(&line, ' ', &first) && kl_str_eq(first, name) && line.p)
            return line;
    return KL_STR("");
}

// ---- the claim

static int grant(struct kl_roster *r, struct kl_error *err)
{
    struct kl_lease_req q = {.kind = KL_LEASE_GRANT, .ttl_s = TTL_S};
    int rc = kl_store_run_lease(r->store, &q, err);
    r->lease = q.id;
    kl_lease_req_fini(&q);
    return rc;
}

// 1: somebody else was quicker, or it is not known what came of it.
static int put_claim(struct kl_roster *r, kl_rev seen, struct kl_error *err)
{
    struct kl_compare same = {.key = kl_str(r->key), .target = KL_COMPARE_MOD, .num = seen};
    struct kl_op put = {.kind = KL_OP_PUT, .key = same.key, .value = make_value(r)};
    struct kl_txn txn = {.body = {.compares = &same, .ncompares = 1, .then = &put, .nthen = 1}};
    int rc = put.value ? grant(r, err) : kl_error_set(err, KL_ENOMEM, "out of memory");
    if (rc) {
        kl_bytes_unref(put.value);
        return rc == KL_EMAYBE ? 1 : rc; // a lease that was granted all the same runs out
    }
    put.lease = r->lease;
    rc = kl_store_run_txn(r->store, &txn, PATIENCE_MS, err);
    if (!rc && txn.body.succeeded)
        r->mod = put.kv->mod_rev;
    else if (!rc || rc == KL_EMAYBE)
        rc = 1;
    kl_txn_fini(&txn);
    kl_bytes_unref(put.value);
    return rc;
}

static int try_claim(struct kl_roster *r, struct kl_error *err)
{
    struct kl_buf b;
    char boot[20];
    kl_rev mod = 0;
    kl_buf_init(&b, VALUE_MAX);
    int rc = kl_store_run_get(r->store, kl_str(r->key), PATIENCE_MS, &b, &mod, err);
    struct kl_str value = kl_buf_str(&b), place = line_of(value, KL_STR("place"));
    snprintf(boot, sizeof boot, "%016llx", (unsigned long long)r->boot);
    if (!rc && mod && kl_str_eqz(line_of(value, KL_STR("boot")), boot))
        r->mod = mod; // a write of which we had not heard
    else if (!rc && mod && !kl_str_eqz(place, r->place))
        rc = kl_error_set(err, KL_EEXISTS,
                          "a server with this one's id %016llx runs on %.*s: a copy of a data "
                          "directory needs another server/id",
                          (unsigned long long)r->id, KL_PRI(place));
    else if (!rc)
        rc = put_claim(r, mod, err);
    kl_buf_fini(&b);
    return rc;
}

int kl_roster_claim(struct kl_store *s, uint64_t id, const char *place, struct kl_roster **ret,
                    struct kl_error *err)
{
    struct kl_roster *r = calloc(1, sizeof *r);
    struct timespec pause = {0, RETRY_MS * 1000 * 1000};
    if (!r)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    r->store = s;
    r->id = id;
    r->boot = kl_rand_u64();
    snprintf(r->place, sizeof r->place, "%s", place);
    snprintf(r->key, sizeof r->key, PREFIX "%016llx", (unsigned long long)id);
    int rc = 0;
    while (!rc && !r->mod) {
        rc = try_claim(r, err);
        if (rc != 1)
            break;
        rc = 0;
        nanosleep(&pause, NULL);
    }
    r->heard = !rc;
    if (rc == KL_EUNAVAILABLE) { // no majority of servers yet: the first beats will do it
        kl_log(KL_LOG_WARN, "apiserver", "list of servers: %s", err->msg);
        rc = 0;
    }
    if (rc) {
        kl_roster_release(r);
        return rc;
    }
    *ret = r;
    return 0;
}

void kl_roster_release(struct kl_roster *r)
{
    struct kl_error ignored;
    if (!r)
        return;
    struct kl_lease_req q = {.kind = KL_LEASE_REVOKE, .id = r->lease};
    if (r->lease && r->heard) // else, or when it fails, it ends by itself
        kl_store_run_lease(r->store, &q, &ignored);
    kl_lease_req_fini(&q);
    free(r);
}

// ---- kept alive

static void free_or_wait(struct kl_roster *r)
{
    if (!r->running && r->closed && !r->busy)
        kl_api_loop_leave(&r->srv->loops[0]); // the loop's end waits for this
}

static void end_step(struct kl_roster *r)
{
    r->busy = false;
    free_or_wait(r);
}

static void on_put(struct kl_txn *t)
{
    struct kl_roster *r = KL_CONTAINER_OF(t, struct kl_roster, txn);
    char boot[20];
    snprintf(boot, sizeof boot, "%016llx", (unsigned long long)r->boot);
    if (!t->code && t->body.succeeded) {
        r->mod = r->put.kv->mod_rev;
        r->told = true;
    } else if (!t->code) {
        struct kl_kv *kv = r->get.kv;
        bool ours = !kv || kl_str_eqz(line_of(kl_kv_value(kv), KL_STR("boot")), boot);
        if (ours)
            r->mod = kv ? kv->mod_rev : 0;
        else
            kl_log(KL_LOG_ERROR, "apiserver", "another server runs with this one's id=%016llx",
                   (unsigned long long)r->id);
        r->told = false; // the next beat tries again
    } else {
        kl_log(KL_LOG_WARN, "apiserver", "list of servers: %s", t->err.msg);
    }
    kl_bytes_unref(r->put.value);
    kl_txn_fini(t);
    end_step(r);
}

static void put_key(struct kl_roster *r)
{
    struct kl_error err;
    r->cmp = (struct kl_compare){.key = kl_str(r->key), .target = KL_COMPARE_MOD, .num = r->mod};
    r->put = (struct kl_op){
        .kind = KL_OP_PUT, .key = r->cmp.key, .value = make_value(r), .lease = r->lease};
    r->get = (struct kl_op){.kind = KL_OP_GET, .key = r->cmp.key};
    r->txn = (struct kl_txn){.cb = on_put,
                             .body = {.compares = &r->cmp,
                                      .ncompares = 1,
                                      .then = &r->put,
                                      .nthen = 1,
                                      .els = &r->get,
                                      .nels = 1}};
    if (r->put.value && !kl_store_submit(r->store, &r->txn, &err))
        return;
    kl_bytes_unref(r->put.value);
    end_step(r);
}

static void on_lease(struct kl_lease_req *q);

static void ask_lease(struct kl_roster *r, enum kl_lease_kind kind)
{
    struct kl_error err;
    r->req = (struct kl_lease_req){
        .kind = kind, .id = kind == KL_LEASE_GRANT ? 0 : r->lease, .ttl_s = TTL_S, .cb = on_lease};
    if (kl_store_lease(r->store, &r->req, &err))
        end_step(r);
}

static void on_lease(struct kl_lease_req *q)
{
    struct kl_roster *r = KL_CONTAINER_OF(q, struct kl_roster, req);
    r->heard = !q->code || q->code == KL_ENOTFOUND;
    bool granted = q->kind == KL_LEASE_GRANT && !q->code;
    int code = q->code;
    if (granted)
        r->lease = q->id;
    kl_lease_req_fini(q);
    if (r->running && code == KL_ENOTFOUND) { // we were away for too long: not there any more
        kl_log(KL_LOG_WARN, "apiserver", "this server's lease ended: id=%016llx",
               (unsigned long long)r->id);
        r->mod = 0;
        r->told = false;
        ask_lease(r, KL_LEASE_GRANT);
    } else if (r->running && (granted || (!code && !r->told))) {
        put_key(r);
    } else {
        end_step(r);
    }
}

static void on_beat(uv_timer_t *t)
{
    struct kl_roster *r = t->data;
    if (!r->busy) {
        r->busy = true;
        ask_lease(r, KL_LEASE_KEEPALIVE);
    }
    if (++r->beats % LOOK_EVERY == 0) // somebody may have changed them
        kl_bootstrap_endpoints(r->srv);
}

// ---- who is there

static int by_port(const void *a, const void *b)
{
    const struct kl_api_endpoint *x = a, *y = b;
    return x->port != y->port ? (x->port > y->port) - (x->port < y->port) : strcmp(x->ip, y->ip);
}

static void add_endpoint(struct kl_api_endpoint *v, size_t *n, struct kl_str ip, int64_t port)
{
    if (*n == KL_MAX_API_ENDPOINTS || !ip.n || ip.n >= sizeof v->ip || port < 1 || port > 65535)
        return;
    struct kl_api_endpoint *e = &v[*n];
    *e = (struct kl_api_endpoint){.port = (int)port};
    memcpy(e->ip, ip.p, ip.n);
    for (size_t i = 0; i < *n; i++)
        if (!by_port(&v[i], e))
            return;
    ++*n;
}

static void look(struct kl_roster *r)
{
    struct kl_api_endpoint v[KL_MAX_API_ENDPOINTS];
    struct kl_apiserver *srv = r->srv;
    char end[sizeof PREFIX];
    struct kl_str key = KL_STR(PREFIX);
    struct kl_iter it;
    size_t n = 0;
    add_endpoint(v, &n, kl_str(srv->o.advertise_address), kl_apiserver_port(srv));
    kl_iter_init(&it, kl_reader_view(srv->loops[0].reader), key, kl_prefix_end(key, end));
    for (struct kl_kv *kv; (kv = kl_iter_next(&it));) {
        int64_t port = 0;
        struct kl_str value = kl_kv_value(kv);
        if (kl_str_to_i64(line_of(value, KL_STR("port")), &port))
            add_endpoint(v, &n, line_of(value, KL_STR("address")), port);
    }
    qsort(v, n, sizeof *v, by_port);
    bool same = n == srv->nendpoints;
    for (size_t i = 0; i < n && same; i++)
        same = !by_port(&v[i], &srv->endpoints[i]);
    if (same)
        return;
    memcpy(srv->endpoints, v, n * sizeof *v);
    srv->nendpoints = n;
    kl_bootstrap_endpoints(srv);
}

static void on_wake(struct kl_watch *w)
{
    struct kl_roster *r = w->arg;
    struct kl_event ignored[EVENTS];
    struct kl_error err;
    char end[sizeof PREFIX];
    int n;
    while ((n = kl_watch_next(w, ignored, EVENTS)) > 0)
        continue;
    if (n < 0) { // compacted underway: what is there now counts
        kl_watch_stop(w);
        *w = (struct kl_watch){.wake = on_wake, .arg = r};
        if (kl_watch_start(w, r->srv->loops[0].reader, KL_STR(PREFIX),
                           kl_prefix_end(KL_STR(PREFIX), end), 0, &err))
            kl_log(KL_LOG_ERROR, "apiserver", "list of servers: %s", err.msg);
    }
    look(r);
}

void kl_roster_start(struct kl_roster *r, struct kl_apiserver *srv)
{
    struct kl_error err;
    char end[sizeof PREFIX];
    r->srv = srv;
    r->running = true;
    kl_api_loop_enter(&srv->loops[0]);
    uv_timer_init(kl_loop_uv(srv->loops[0].loop), &r->timer);
    r->timer.data = r;
    uv_timer_start(&r->timer, on_beat, 0, BEAT_MS);
    r->watch = (struct kl_watch){.wake = on_wake, .arg = r};
    if (kl_watch_start(&r->watch, srv->loops[0].reader, KL_STR(PREFIX),
                       kl_prefix_end(KL_STR(PREFIX), end), 0, &err))
        kl_log(KL_LOG_ERROR, "apiserver", "list of servers: %s", err.msg);
    look(r);
}

static void on_closed(uv_handle_t *h)
{
    struct kl_roster *r = h->data;
    r->closed = true;
    free_or_wait(r);
}

void kl_roster_stop(struct kl_roster *r)
{
    if (!r || !r->running)
        return;
    r->running = false;
    kl_watch_stop(&r->watch);
    uv_close((uv_handle_t *)&r->timer, on_closed);
}
