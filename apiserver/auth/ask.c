// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/ask.h"
#include "apiserver/auth/remote_int.h"
#include "apiserver/auth/user.h"
#include "apiserver/server_int.h"
#include "base/clock.h"
#include "client/timers.h"
#include <stdlib.h>

enum {
    MAX_IN_FLIGHT = 1024, // calls of one loop; more questions are not answered
    MAX_REPLIES = 8192,   // upstream's caches of decisions
    MAX_REPLY_BYTES = 16 << 20,
    MAX_FOLLOWED = 3,
    FIRST_BACKOFF_MS = 500,
    ARENA_BYTES = 1 << 20,
};

struct kl_said {
    struct kl_said *next;
    struct kl_reply *reply;
    uint32_t n;
    char key[];
};

struct kl_query {
    struct kl_api_loop *al;
    struct kl_query_spec spec;
    struct kl_ask *waiters;
    struct kl_http_call *call;
    struct kl_exec_fetch *fetch; // instead of call, when a program makes the credentials
    struct kl_timer timer;       // before the next attempt
    int attempt, followed;
    bool again;
    struct kl_query *next, **pprev;
    char key[];
};

// What the loop knows; the newest use stands first.
struct kept {
    struct kl_reply *reply;
    struct kept *prev, *next;
    size_t bytes;
    uint32_t n;
    char key[];
};

struct kl_ask_loop {
    struct kl_http_client *http;
    struct kl_timers *timers;
    struct kl_map replies, running; // replies: struct kept
    struct kept *first, *last;
    size_t bytes; // of replies
    struct kl_query *queries;
    bool stopping;
};

// ---- replies

static struct kl_reply *new_reply(void)
{
    struct kl_reply *r = calloc(1, sizeof *r);
    if (r) {
        r->refs = 1;
        r->text = KL_STR("");
        kl_arena_init(&r->arena, ARENA_BYTES);
    }
    return r;
}

static void unref_reply(struct kl_reply *r)
{
    if (!r || --r->refs)
        return;
    kl_user_unref(r->user);
    if (r->drop)
        r->drop(r->thing);
    kl_arena_fini(&r->arena);
    free(r);
}

static void unlink_kept(struct kl_ask_loop *l, struct kept *k)
{
    *(k->prev ? &k->prev->next : &l->first) = k->next;
    *(k->next ? &k->next->prev : &l->last) = k->prev;
}

static void link_first(struct kl_ask_loop *l, struct kept *k)
{
    k->prev = NULL;
    k->next = l->first;
    *(l->first ? &l->first->prev : &l->last) = k;
    l->first = k;
}

static void drop_kept(struct kl_ask_loop *l, struct kept *k)
{
    kl_map_del(&l->replies, (struct kl_str){k->key, k->n});
    unlink_kept(l, k);
    l->bytes -= k->bytes;
    unref_reply(k->reply);
    free(k);
}

static void drop_replies(struct kl_ask_loop *l)
{
    while (l->last)
        drop_kept(l, l->last);
}

// `body_bytes` stands for what was made of the answer outside of its arena.
static void keep_reply(struct kl_ask_loop *l, struct kl_str key, struct kl_reply *r,
                       size_t body_bytes)
{
    size_t bytes = sizeof *r + sizeof(struct kept) + 2 * key.n + r->arena.used_bytes + body_bytes;
    struct kept *k = kl_map_get(&l->replies, key);
    if (k)
        drop_kept(l, k);
    if (!r->until_ms || l->stopping || bytes > MAX_REPLY_BYTES)
        return;
    while (l->last && (l->replies.n >= MAX_REPLIES || l->bytes + bytes > MAX_REPLY_BYTES))
        drop_kept(l, l->last);
    if (!(k = malloc(sizeof *k + key.n)))
        return; // is asked again
    *k = (struct kept){.reply = r, .bytes = bytes, .n = (uint32_t)key.n};
    memcpy(k->key, key.p, key.n);
    if (kl_map_set(&l->replies, key, k, NULL)) {
        free(k);
        return;
    }
    r->refs++;
    l->bytes += bytes;
    link_first(l, k);
}

static void tell(struct kl_ask *ask, struct kl_str key, struct kl_reply *r)
{
    struct kl_said *s = malloc(sizeof *s + key.n);
    if (!s)
        return; // asks again, and again in vain: the request fails when memory is short anyway
    s->n = (uint32_t)key.n;
    memcpy(s->key, key.p, key.n);
    s->reply = r;
    r->refs++;
    s->next = ask->said;
    ask->said = s;
}

const struct kl_reply *kl_ask_known(struct kl_api_loop *al, struct kl_ask *ask, struct kl_str key)
{
    for (struct kl_said *s = ask ? ask->said : NULL; s; s = s->next)
        if (kl_str_eq((struct kl_str){s->key, s->n}, key))
            return s->reply;
    struct kl_ask_loop *l = al->asks;
    struct kept *k = l ? kl_map_get(&l->replies, key) : NULL;
    if (!k)
        return NULL;
    if (kl_mono_ms() >= k->reply->until_ms) {
        drop_kept(l, k);
        return NULL;
    }
    unlink_kept(l, k);
    link_first(l, k);
    return k->reply;
}

// ---- who waits

bool kl_ask_wait(struct kl_ask *ask, void (*then)(void *arg), void *arg)
{
    if (!ask->pending)
        return false;
    ask->then = then;
    ask->arg = arg;
    return true;
}

static void link_ask(struct kl_ask **head, struct kl_ask *ask)
{
    if ((ask->next = *head))
        ask->next->pprev = &ask->next;
    ask->pprev = head;
    *head = ask;
}

static void unlink_ask(struct kl_ask *ask)
{
    if (!ask->pprev)
        return;
    if ((*ask->pprev = ask->next))
        ask->next->pprev = ask->pprev;
    ask->pprev = NULL;
}

void kl_ask_fini(struct kl_ask *ask)
{
    unlink_ask(ask);
    ask->pending = NULL;
    for (struct kl_said *s = ask->said, *next; s; s = next) {
        next = s->next;
        unref_reply(s->reply);
        free(s);
    }
    ask->said = NULL;
}

// ---- queries

static void unlink_query(struct kl_query *q)
{
    if ((*q->pprev = q->next))
        q->next->pprev = q->pprev;
}

static void end_query(struct kl_query *q, struct kl_reply *r, size_t body_bytes)
{
    struct kl_ask_loop *l = q->al->asks;
    struct kl_ask *waiting = NULL;
    kl_timer_cancel(l->timers, &q->timer);
    kl_map_del(&l->running, q->spec.key);
    unlink_query(q);
    keep_reply(l, q->spec.key, r, body_bytes);
    while (q->waiters) {
        struct kl_ask *x = q->waiters;
        unlink_ask(x);
        x->pending = NULL;
        tell(x, q->spec.key, r);
        if (x->then)
            link_ask(&waiting, x);
    }
    kl_remote_unref(q->spec.to);
    kl_bytes_unref(q->spec.body);
    if (q->spec.release)
        q->spec.release(q->spec.arg);
    free(q);
    while (waiting) { // one may end others in its callback, and each may begin anew
        struct kl_ask *x = waiting;
        void (*then)(void *) = x->then;
        unlink_ask(x);
        x->then = NULL;
        then(x->arg);
    }
    unref_reply(r);
}

static int attempt(struct kl_query *q, struct kl_error *err);

static void on_timer(struct kl_timer *t)
{
    struct kl_query *q = KL_CONTAINER_OF(t, struct kl_query, timer);
    struct kl_error err = {0};
    int rc = attempt(q, &err);
    if (!rc)
        return;
    struct kl_reply *r = new_reply();
    if (!r) { // no memory to say that it failed
        kl_timer_after(q->al->asks->timers, t, FIRST_BACKOFF_MS);
        return;
    }
    q->spec.read(q, rc, KL_STR(""), &err, r);
    end_query(q, r, 0);
}

// client-go's webhook: DefaultShouldRetry.
static bool worth_another(const struct kl_query *q, int http)
{
    if (q->attempt > q->spec.retries || q->al->asks->stopping)
        return false;
    return http == 429 || http == 500 || http == 504 || http == KL_EIO || http == KL_EPROTO;
}

static void on_answer(void *arg, int http, struct kl_str body, const struct kl_error *err)
{
    struct kl_query *q = arg;
    struct kl_error none = {0};
    q->call = NULL;
    q->fetch = NULL;
    if (worth_another(q, http)) {
        int64_t delay = q->spec.backoff_ms ? q->spec.backoff_ms : FIRST_BACKOFF_MS;
        for (int i = 1; i < q->attempt; i++)
            delay += delay / 2; // negative: at once
        kl_timer_after(q->al->asks->timers, &q->timer, delay);
        return;
    }
    struct kl_reply *r = new_reply();
    if (!r) {
        kl_timer_after(q->al->asks->timers, &q->timer, FIRST_BACKOFF_MS);
        return;
    }
    q->again = false;
    q->spec.read(q, http, body, err ? err : &none, r);
    if (!q->again || q->al->asks->stopping) {
        end_query(q, r, body.n);
        return;
    }
    unref_reply(r);
    q->attempt = 0;
    kl_timer_after(q->al->asks->timers, &q->timer, 0);
}

static int attempt(struct kl_query *q, struct kl_error *err)
{
    const struct kl_remote *to = q->spec.to;
    struct kl_http_header h[3];
    size_t n = 0;
    h[n++] = (struct kl_http_header)KL_HTTP_HEADER("accept", "application/json, */*");
    if (q->spec.body)
        h[n++] = (struct kl_http_header)KL_HTTP_HEADER("content-type", "application/json");
    if (to->authorization)
        h[n++] = (struct kl_http_header){KL_STR("authorization"), kl_str(to->authorization)};
    struct kl_http_call_spec c = {.host = to->host,
                                  .port = to->port,
                                  .tls = to->tls,
                                  .method = q->spec.body ? KL_STR("POST") : KL_STR("GET"),
                                  .target = q->spec.target.n ? q->spec.target : kl_str(to->target),
                                  .headers = h,
                                  .nheaders = n,
                                  .body = q->spec.body,
                                  .timeout_ms = q->spec.timeout_ms};
    q->attempt++;
    if (to->exec)
        return kl_exec_fetch(to->exec, to->exec_tls, q->al->asks->http, &c, q->spec.max_bytes,
                             on_answer, q, &q->fetch, err);
    return kl_http_fetch(q->al->asks->http, &c, q->spec.max_bytes, on_answer, q, &q->call, err);
}

static struct kl_ask_loop *loop_of(struct kl_api_loop *al, struct kl_error *err)
{
    if (al->asks)
        return al->asks;
    struct kl_ask_loop *l = calloc(1, sizeof *l);
    struct kl_http_client_opts o = {.loop = al->loop, .connect_timeout_ms = 10000};
    if (!l)
        return kl_error_set(err, KL_ENOMEM, "out of memory"), NULL;
    if (kl_timers_new(al->loop, &l->timers, err) || kl_http_client_new(&o, &l->http, err)) {
        kl_timers_free(l->timers);
        free(l);
        return NULL;
    }
    kl_map_init(&l->replies);
    kl_map_init(&l->running);
    return al->asks = l;
}

static void free_query(struct kl_query *q)
{
    kl_remote_unref(q->spec.to);
    kl_bytes_unref(q->spec.body);
    free(q);
}

int kl_ask_begin(struct kl_api_loop *al, struct kl_ask *ask, const struct kl_query_spec *spec,
                 struct kl_error *err)
{
    struct kl_ask_loop *l = loop_of(al, err);
    if (!l)
        return err->code;
    struct kl_query *q = kl_map_get(&l->running, spec->key);
    if (!q) {
        if (l->stopping)
            return kl_error_set(err, KL_EUNAVAILABLE, "the server stops");
        if (l->running.n >= MAX_IN_FLIGHT)
            return kl_error_set(err, KL_ETOOMANY, "too many webhook calls are under way");
        if (!(q = calloc(1, sizeof *q + spec->key.n + spec->target.n)))
            return kl_error_set(err, KL_ENOMEM, "out of memory");
        q->al = al;
        q->spec = *spec;
        memcpy(q->key, spec->key.p, spec->key.n);
        q->spec.key.p = q->key;
        if (spec->target.n)
            memcpy(q->key + spec->key.n, spec->target.p, spec->target.n);
        q->spec.target.p = q->key + spec->key.n;
        kl_remote_ref(spec->to);
        if (spec->body)
            kl_bytes_ref(spec->body);
        q->timer.cb = on_timer;
        int rc = kl_map_set(&l->running, q->spec.key, q, NULL)
                     ? kl_error_set(err, KL_ENOMEM, "out of memory")
                     : attempt(q, err);
        if (rc) {
            kl_map_del(&l->running, q->spec.key);
            free_query(q);
            return rc;
        }
        if ((q->next = l->queries))
            q->next->pprev = &q->next;
        q->pprev = &l->queries;
        l->queries = q;
    } else if (spec->release) {
        spec->release(spec->arg); // the running one has its own
    }
    if (!ask->pending) {
        ask->pending = q;
        ask->then = NULL;
        link_ask(&q->waiters, ask);
    }
    return 0;
}

void *kl_query_arg(const struct kl_query *q)
{
    return q->spec.arg;
}

struct kl_api_loop *kl_query_loop(const struct kl_query *q)
{
    return q->al;
}

int kl_query_follow(struct kl_query *q, struct kl_remote *to)
{
    if (q->followed++ >= MAX_FOLLOWED)
        return KL_ELIMIT;
    kl_remote_ref(to);
    kl_remote_unref(q->spec.to);
    q->spec.to = to;
    q->spec.target = KL_STR("");
    q->again = true;
    return 0;
}

void kl_ask_forget(struct kl_api_loop *al)
{
    if (al->asks)
        drop_replies(al->asks);
}

void kl_ask_stop(struct kl_api_loop *al)
{
    struct kl_ask_loop *l = al->asks;
    if (!l || l->stopping)
        return;
    l->stopping = true;
    while (l->queries) {
        struct kl_query *q = l->queries;
        if (q->call) {
            kl_http_call_cancel(q->call); // on_answer comes inside
            continue;
        }
        if (q->fetch) {
            kl_exec_fetch_cancel(q->fetch);
            continue;
        }
        struct kl_error err = {0};
        struct kl_reply *r = new_reply();
        if (!r)
            return;
        kl_error_set(&err, KL_ECANCELED, "the server stops");
        q->spec.read(q, KL_ECANCELED, KL_STR(""), &err, r);
        end_query(q, r, 0);
    }
}

void kl_ask_loop_fini(struct kl_api_loop *al)
{
    struct kl_ask_loop *l = al->asks;
    if (!l)
        return;
    kl_ask_stop(al);
    kl_http_client_close(l->http);
    kl_timers_free(l->timers);
    drop_replies(l);
    kl_map_fini(&l->replies);
    kl_map_fini(&l->running);
    free(l);
    al->asks = NULL;
}

size_t kl_ask_in_flight(const struct kl_api_loop *al)
{
    return al->asks ? al->asks->running.n : 0;
}
