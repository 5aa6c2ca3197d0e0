// SPDX-License-Identifier: Apache-2.0
// Follows the record (or the file) on loops[0], and rewrites what is sealed otherwise than it would
// be now. Each rewrite compares the version that was read and the record's revision, so that it
// never takes a newer write back and never seals with what is out of date; it keeps the lease. A
// pass that finds nothing to do and nothing that failed is the end, and is written down. It does
// not matter who does it, how often, or where somebody stopped.
//
//        record changes              nothing stale
//   IDLE ──────────────→ WALK (slices, ≤ 16 in flight) ─────────────→ FINISH → IDLE
//                         └─ something stale or failed: again ┘
#include "apiserver/encryption/encryption_int.h"
#include "apiserver/server_int.h"
#include "base/clock.h"
#include "base/log.h"
#include <openssl/crypto.h>
#include <stdlib.h>

#define MAX_VALUE ((size_t)64 << 20)
enum {
    IN_FLIGHT = 16,
    SLICE = 64,
    TICK_MS = 1000, // the file, and what a crash of another server left
    MAX_PREFIX = 256,
};

enum state { IDLE, WALK, FINISH };

struct item {
    struct kl_txn txn;
    struct kl_compare cmp[2];
    struct kl_op put;
    struct kl_kv *kv; // referenced
    struct kl_enc_rewrite *w;
};

struct kl_enc_rewrite {
    struct kl_encryption *e;
    struct kl_api_loop *al;
    struct kl_watch watch;
    struct kl_task turn, look;
    uv_timer_t timer;
    enum state state;
    struct kl_enc_config *config; // of this round
    int64_t rotation;
    struct kl_view *view;
    struct kl_iter it;
    int in_flight;
    size_t stale, failed;
    bool turn_queued, look_queued, stopped, closed, again;
    struct kl_txn finish;
    struct kl_compare finish_cmp;
    struct kl_op finish_put;
};

static void step(struct kl_enc_rewrite *w);

static void maybe_free(struct kl_enc_rewrite *w)
{
    if (!w->closed || w->in_flight || w->turn_queued || w->look_queued || w->state == FINISH)
        return;
    kl_enc_config_unref(w->config);
    struct kl_api_loop *al = w->al;
    free(w);
    kl_api_loop_leave(al);
}

static void queue_turn(struct kl_enc_rewrite *w)
{
    if (w->turn_queued)
        return;
    w->turn_queued = true;
    kl_loop_post(w->al->loop, &w->turn);
}

static void on_turn(struct kl_task *t)
{
    struct kl_enc_rewrite *w = KL_CONTAINER_OF(t, struct kl_enc_rewrite, turn);
    w->turn_queued = false;
    if (w->stopped)
        maybe_free(w);
    else
        step(w);
}

// ---- one value

static void on_written(struct kl_txn *t)
{
    struct item *i = KL_CONTAINER_OF(t, struct item, txn);
    struct kl_enc_rewrite *w = i->w;
    if (t->code)
        w->failed++;
    else if (t->body.succeeded)
        atomic_fetch_add(&w->e->rewritten, 1);
    kl_txn_fini(t);
    kl_bytes_unref(i->put.value);
    kl_kv_unref(i->kv);
    free(i);
    w->in_flight--;
    if (w->stopped)
        maybe_free(w);
    else
        queue_turn(w);
}

static int submit(struct kl_enc_rewrite *w, struct kl_kv *kv, struct kl_str sealed,
                  struct kl_error *err)
{
    struct item *i = calloc(1, sizeof *i);
    if (!i || !(i->put.value = kl_bytes_new(sealed))) {
        free(i);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    i->w = w;
    i->kv = kl_kv_ref(kv);
    i->cmp[0] = (struct kl_compare){.key = kl_kv_key(kv),
                                    .target = KL_COMPARE_MOD,
                                    .result = KL_COMPARE_EQ,
                                    .num = kv->mod_rev};
    i->cmp[1] = (struct kl_compare){.key = KL_STR(KL_ENCRYPTION_KEY),
                                    .target = KL_COMPARE_MOD,
                                    .result = KL_COMPARE_EQ,
                                    .num = w->config->record};
    i->put = (struct kl_op){
        .kind = KL_OP_PUT, .key = kl_kv_key(kv), .value = i->put.value, .lease = kv->lease};
    i->txn = (struct kl_txn){.cb = on_written};
    i->txn.body =
        (struct kl_txn_body){.compares = i->cmp, .ncompares = 2, .then = &i->put, .nthen = 1};
    int rc = kl_store_submit(w->e->store, &i->txn, err);
    if (rc) {
        kl_bytes_unref(i->put.value);
        kl_kv_unref(i->kv);
        free(i);
        return rc;
    }
    w->in_flight++;
    return 0;
}

static void look_at(struct kl_enc_rewrite *w, struct kl_kv *kv)
{
    const struct kl_enc_rule *rule = &w->config->rules[0];
    struct kl_error err = {0};
    struct kl_buf plain, sealed;
    bool stale = false;
    kl_buf_init(&plain, MAX_VALUE);
    kl_buf_init(&sealed, MAX_VALUE);
    int rc = kv->value ? kl_enc_open(rule, kl_kv_key(kv), kl_kv_value(kv), &plain, &stale, &err)
                       : kl_error_set(&err, KL_EIO, "its value is not in memory");
    if (!rc && stale) {
        w->stale++;
        rc = kl_enc_seal(rule, kl_kv_key(kv), kl_buf_str(&plain), &sealed, &err);
        if (!rc)
            rc = submit(w, kv, kl_buf_str(&sealed), &err);
    }
    if (rc) {
        w->failed++;
        kl_log(KL_LOG_WARN, "encryption", "rewriting %s: %s", kv->key, err.msg);
    }
    if (plain.p)
        OPENSSL_cleanse(plain.p, plain.n);
    kl_buf_fini(&plain);
    kl_buf_fini(&sealed);
}

// ---- a round

static void begin_pass(struct kl_enc_rewrite *w)
{
    char prefix[MAX_PREFIX], end[MAX_PREFIX];
    const char *base = kl_resource_storage(kl_res(KL_RES_core_v1_secrets))->etcd_prefix;
    size_t n = strlen(base);
    memcpy(prefix, base, n);
    prefix[n++] = '/';
    struct kl_str from = {prefix, n};
    w->view = kl_view_ref(kl_reader_view(w->al->reader));
    kl_iter_init(&w->it, w->view, from, kl_prefix_end(from, end));
    atomic_store(&w->e->to_rewrite, w->it.left);
    atomic_store(&w->e->rewritten, 0);
    w->stale = w->failed = 0;
    w->state = WALK;
}

static void end_round(struct kl_enc_rewrite *w)
{
    kl_view_unref(w->view);
    w->view = NULL;
    w->state = IDLE;
    kl_enc_config_unref(w->config);
    w->config = NULL;
}

static void look_again(struct kl_enc_rewrite *w)
{
    if (w->look_queued)
        return;
    w->look_queued = true;
    kl_loop_post(w->al->loop, &w->look);
}

static void on_finished(struct kl_txn *t)
{
    struct kl_enc_rewrite *w = KL_CONTAINER_OF(t, struct kl_enc_rewrite, finish);
    if (!t->code && t->body.succeeded)
        kl_log(KL_LOG_INFO, "encryption", "all secrets are rewritten rotation=%lld",
               (long long)w->rotation);
    kl_txn_fini(t);
    kl_bytes_unref(w->finish_put.value);
    w->finish_put.value = NULL;
    end_round(w);
    if (w->stopped)
        maybe_free(w);
    else
        look_again(w);
}

static void finish(struct kl_enc_rewrite *w)
{
    struct kl_error err = {0};
    struct kl_bytes *value = NULL;
    kl_rev rev = w->config->record;
    if (kl_enc_finish(w->e, w->rotation, rev, &value, &err)) {
        end_round(w);
        look_again(w);
        return;
    }
    w->finish_cmp = (struct kl_compare){.key = KL_STR(KL_ENCRYPTION_KEY),
                                        .target = KL_COMPARE_MOD,
                                        .result = KL_COMPARE_EQ,
                                        .num = rev};
    w->finish_put = (struct kl_op){.kind = KL_OP_PUT, .key = w->finish_cmp.key, .value = value};
    w->finish = (struct kl_txn){.cb = on_finished};
    w->finish.body = (struct kl_txn_body){
        .compares = &w->finish_cmp, .ncompares = 1, .then = &w->finish_put, .nthen = 1};
    w->state = FINISH;
    if (kl_store_submit(w->e->store, &w->finish, &err)) {
        kl_bytes_unref(value);
        w->finish_put.value = NULL;
        end_round(w); // the timer tries again
    }
}

static void step(struct kl_enc_rewrite *w)
{
    if (w->state != WALK)
        return;
    struct kl_kv *kv = NULL;
    for (int i = 0; i < SLICE && w->in_flight < IN_FLIGHT && !kl_loop_is_late(w->al->loop); i++) {
        if (!(kv = kl_iter_next(&w->it)))
            break;
        look_at(w, kv);
    }
    if (kv || w->it.left) { // there is more
        if (w->in_flight < IN_FLIGHT)
            queue_turn(w);
        return;
    }
    if (w->in_flight)
        return;
    size_t stale = w->stale, failed = w->failed;
    kl_view_unref(w->view);
    w->view = NULL;
    if (!stale && !failed) {
        finish(w);
        return;
    }
    // A record that changed meanwhile begins a round of its own; what failed waits for the timer.
    end_round(w);
    if (!failed)
        look_again(w);
}

// ---- the record

static void on_look(struct kl_task *t)
{
    struct kl_enc_rewrite *w = KL_CONTAINER_OF(t, struct kl_enc_rewrite, look);
    struct kl_encryption *e = w->e;
    struct kl_event ev[8];
    w->look_queued = false;
    if (w->stopped) {
        maybe_free(w);
        return;
    }
    int n;
    while ((n = kl_watch_next(&w->watch, ev, KL_COUNT(ev))) > 0)
        ;
    struct kl_error err = {0};
    if (n < 0) {
        kl_watch_stop(&w->watch);
        kl_watch_start(&w->watch, w->al->reader, KL_STR(KL_ENCRYPTION_KEY), KL_STR(""), 0, &err);
    }
    kl_encryption_refresh(e, kl_reader_view(w->al->reader));
    if (w->state != IDLE)
        return;
    pthread_mutex_lock(&e->record_mu);
    bool busy = e->record.rotation != e->record.finished;
    w->rotation = e->record.rotation;
    pthread_mutex_unlock(&e->record_mu);
    if (!busy)
        return;
    w->config = kl_encryption_config(e);
    // A command may have told of the record before it came into this view; values that were sealed
    // by the record before may be missing there, too. The watch tells when it has come.
    if (w->config && kl_view_rev(kl_reader_view(w->al->reader)) < w->config->record) {
        end_round(w);
        return;
    }
    begin_pass(w);
    queue_turn(w);
}

static void on_wake(struct kl_watch *x)
{
    look_again(x->arg);
}

static void on_tick(uv_timer_t *h)
{
    struct kl_enc_rewrite *w = h->data;
    struct kl_error err = {0};
    bool changed;
    if (!w->e->o.file) {
        if (w->state == IDLE)
            look_again(w);
    } else if (kl_encryption_read_file(w->e, &changed, &err)) {
        if (changed || err.code != KL_ENOTFOUND)
            kl_log(KL_LOG_ERROR, "encryption", "the configuration stays as it was: %s", err.msg);
    } else if (changed) {
        kl_log(KL_LOG_INFO, "encryption", "configuration read again file=%s", w->e->o.file);
    }
}

void kl_encryption_start(struct kl_encryption *e, struct kl_apiserver *s)
{
    struct kl_enc_rewrite *w = calloc(1, sizeof *w);
    struct kl_error err = {0};
    atomic_store(&e->s, s);
    if (!w)
        return;
    w->e = e;
    w->al = &s->loops[0];
    w->turn.run = on_turn;
    w->look.run = on_look;
    w->watch.wake = on_wake;
    w->watch.arg = w;
    e->rewrite = w;
    kl_api_loop_enter(w->al);
    uv_timer_init(kl_loop_uv(w->al->loop), &w->timer);
    uv_unref((uv_handle_t *)&w->timer);
    w->timer.data = w;
    if (!e->o.file || e->o.reload)
        uv_timer_start(&w->timer, on_tick, TICK_MS, TICK_MS);
    if (e->o.file)
        return;
    if (kl_watch_start(&w->watch, w->al->reader, KL_STR(KL_ENCRYPTION_KEY), KL_STR(""), 0, &err))
        kl_log(KL_LOG_ERROR, "encryption", "%s", err.msg);
    look_again(w);
}

static void on_closed(uv_handle_t *h)
{
    struct kl_enc_rewrite *w = h->data;
    w->closed = true;
    maybe_free(w);
}

void kl_encryption_stop(struct kl_encryption *e)
{
    struct kl_enc_rewrite *w = e ? e->rewrite : NULL;
    if (!w)
        return;
    e->rewrite = NULL;
    w->stopped = true;
    kl_watch_stop(&w->watch);
    if (w->state == WALK)
        end_round(w);
    uv_close((uv_handle_t *)&w->timer, on_closed);
}

bool kl_encryption_newer(struct kl_encryption *e)
{
    struct kl_apiserver *s = atomic_load(&e->s);
    struct kl_api_loop *al = s ? kl_api_loop_of(s, kl_loop_current()) : NULL;
    if (!al || !al->reader || e->o.file)
        return false;
    struct kl_enc_config *c = kl_encryption_config(e);
    kl_rev was = c ? c->record : 0;
    kl_enc_config_unref(c);
    kl_encryption_refresh(e, kl_reader_view(al->reader));
    c = kl_encryption_config(e);
    bool newer = c && c->record > was;
    kl_enc_config_unref(c);
    return newer;
}
