// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"
#include "apiserver/admission/admission.h"
#include "apiserver/auth/revoke.h"
#include "apiserver/settings.h"
#include "base/clock.h"
#include "watchcache/filter.h"
#include "object/defaults.h"
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#include <cmocka.h>

enum { WAIT_MS = 120000 };

static void make_key(struct fixture *f)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *b = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL), 1);
    int n = BIO_read(b, f->key_pem, sizeof f->key_pem - 1);
    assert_true(n > 0);
    f->pki.service_key = (struct kl_str){f->key_pem, (size_t)n};
    f->pki.client_ca = KL_STR("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    BIO_free(b);
    EVP_PKEY_free(key);
}

// The body is a coroutine: it runs within the loop's callbacks and gives way to them when it waits.
struct start {
    struct kl_task task;
    struct fixture *f;
    void (*body)(struct fixture *f);
    ucontext_t loop_side, body_side;
    uv_timer_t timer;
    const bool *waits_for;
    bool ended;
    char stack[1 << 20];
};

static void run_body(unsigned high, unsigned low)
{
    struct start *s = (struct start *)((uintptr_t)high << 32 | low);
    s->body(s->f);
    s->ended = true;
    swapcontext(&s->body_side, &s->loop_side);
}

static void end_loop(struct start *s)
{
    struct kl_api_loop *al = &s->f->srv.loops[0];
    uv_close((uv_handle_t *)&s->timer, NULL);
    kl_ask_loop_fini(al);
    kl_hooks_loop_fini(al);
    kl_revoke_loop_fini(al);
    kl_authn_loop_fini(al);
    kl_authz_loop_fini(al);
    kl_reader_close(al->reader);
    kl_loop_stop(s->f->loop);
}

static void go_on(struct start *s)
{
    swapcontext(&s->loop_side, &s->body_side);
    if (s->ended)
        end_loop(s);
}

static void on_tick(uv_timer_t *t)
{
    struct start *s = t->data;
    static int64_t since;
    if (!s->waits_for)
        return;
    if (*s->waits_for) {
        s->waits_for = NULL;
        since = 0;
        go_on(s);
        return;
    }
    since = since ? since : kl_mono_ms();
    if (kl_mono_ms() - since > WAIT_MS) {
        fprintf(stderr, "nothing happened within %d ms\n", WAIT_MS);
        abort();
    }
}

static void on_loop(struct kl_task *t)
{
    struct start *s = KL_CONTAINER_OF(t, struct start, task);
    struct fixture *f = s->f;
    struct kl_error err = {0};
    struct kl_api_loop *al = &f->srv.loops[0];
    *al = (struct kl_api_loop){.srv = &f->srv, .loop = f->loop};
    f->srv.nloops = 1;
    if (kl_reader_new(f->store, &al->reader, &err))
        fail_msg("reader: %s", err.msg);
    uv_timer_init(kl_loop_uv(f->loop), &s->timer);
    s->timer.data = s;
    uv_timer_start(&s->timer, on_tick, 1, 1);
    getcontext(&s->body_side);
    s->body_side.uc_stack.ss_sp = s->stack;
    s->body_side.uc_stack.ss_size = sizeof s->stack;
    uintptr_t p = (uintptr_t)s;
    makecontext(&s->body_side, (void (*)(void))run_body, 2, (unsigned)(p >> 32), (unsigned)p);
    go_on(s);
}

void fixture_run(void (*body)(struct fixture *f))
{
    struct fixture *f = calloc(1, sizeof *f);
    struct kl_error err = {0};
    struct kl_store_options o = {.hooks = &kl_cache_hooks};
    struct start *s = calloc(1, sizeof *s);
    assert_non_null(f);
    assert_non_null(s);
    s->task.run = on_loop;
    s->f = f;
    s->body = body;
    f->start = s;
    kl_arena_init(&f->arena, 0);
    make_key(f);
    if (kl_store_open("memory://", &o, &f->store, &err) || kl_loop_new("test", &f->loop, &err))
        fail_msg("set-up: %s", err.msg);
    f->srv.o = (struct kl_apiserver_options){.store = f->store,
                                             .settings = &kl_api_settings_default,
                                             .port = 6443,
                                             .advertise_address = "192.0.2.7",
                                             .service_cidr = "10.43.0.0/16",
                                             .cluster_domain = "cluster.local",
                                             .pki = &f->pki,
                                             .anonymous = true};
    atomic_store(&f->srv.ready, true);
    if (!(f->srv.authn = kl_authn_new(&f->pki, NULL, &err)))
        fail_msg("authn: %s", err.msg);
    kl_loop_post(f->loop, &s->task);
    kl_loop_run(f->loop);
    kl_authn_free(f->srv.authn);
    kl_store_stop(f->store);
    kl_loop_unref(f->loop);
    free(s);
    kl_arena_fini(&f->arena);
    free(f);
}

void fixture_wait(struct fixture *f, const bool *flag)
{
    struct start *s = f->start;
    if (*flag)
        return;
    s->waits_for = flag;
    swapcontext(&s->body_side, &s->loop_side);
}

struct write {
    struct kl_txn txn;
    struct kl_op op;
    bool done;
};

static void on_written(struct kl_txn *t)
{
    KL_CONTAINER_OF(t, struct write, txn)->done = true;
}

static void write_one(struct fixture *f, struct kl_op op)
{
    struct write w = {.txn.cb = on_written, .op = op};
    struct kl_error err = {0};
    w.txn.body = (struct kl_txn_body){.then = &w.op, .nthen = 1};
    if (kl_store_submit(f->store, &w.txn, &err))
        fail_msg("write: %s", err.msg);
    fixture_wait(f, &w.done);
    assert_int_equal(w.txn.code, 0);
    kl_txn_fini(&w.txn);
}

struct kl_str fixture_put(struct fixture *f, uint16_t res, const char *json)
{
    const struct kl_resource *r = kl_res(res);
    struct kl_error err = {0};
    struct kl_value v;
    if (kl_json_decode(&f->arena, r->type, kl_str(json), NULL, &v, &err))
        fail_msg("%s: %s", json, err.msg);
    assert_int_equal(kl_default_object(&f->arena, r->type, &v), 0);
    struct kl_object *o = kl_object_freeze(r->type, &v);
    struct kl_str key =
        kl_object_key(&f->arena, r, kl_meta_namespace(&o->root), kl_meta_name(&o->root));
    struct kl_bytes *b = kl_cache_encode_stored(r, o);
    write_one(f, (struct kl_op){.kind = KL_OP_PUT, .key = key, .value = b});
    kl_bytes_unref(b);
    kl_object_unref(o);
    return key;
}

struct kl_str fixture_put_raw(struct fixture *f, uint16_t res, const char *ns, const char *name,
                              const char *value)
{
    struct kl_str key = kl_object_key(&f->arena, kl_res(res), kl_str(ns), kl_str(name));
    struct kl_bytes *b = kl_bytes_new(kl_str(value));
    write_one(f, (struct kl_op){.kind = KL_OP_PUT, .key = key, .value = b});
    kl_bytes_unref(b);
    return key;
}

void fixture_delete(struct fixture *f, struct kl_str key)
{
    write_one(f, (struct kl_op){.kind = KL_OP_DELETE, .key = key});
}

struct kl_object *fixture_get(struct fixture *f, uint16_t res, const char *ns, const char *name)
{
    struct kl_error err = {0};
    struct kl_str key = kl_object_key(&f->arena, kl_res(res), kl_str(ns), kl_str(name));
    struct kl_kv *kv = kl_view_get(kl_reader_view(f->srv.loops[0].reader), key);
    struct kl_object *o = kv ? kl_cache_object(kv, kl_res(res), &err) : NULL;
    if (!o)
        fail_msg("%s: %s", key.p, kv ? err.msg : "not there");
    return o;
}

const char *fixture_json(struct fixture *f, const struct kl_type *type, const struct kl_value *v)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_json_encode(&b, type, v, KL_STR(""));
    const char *s = kl_arena_dup(&f->arena, kl_buf_str(&b)).p;
    kl_buf_fini(&b);
    return s;
}

struct kl_user *fixture_user(const char *name, const char *const *groups)
{
    struct kl_str g[16];
    size_t n = 0;
    for (; groups && groups[n]; n++)
        g[n] = kl_str(groups[n]);
    return kl_user_new(kl_str(name), KL_STR(""), g, n, NULL, 0);
}

static void req_done(struct kl_req *r)
{
    KL_CONTAINER_OF(r, struct fixture_req, r)->done = true;
}

void fixture_req_init(struct fixture *f, struct fixture_req *q, struct kl_user *u, enum kl_verb op,
                      uint16_t res, const char *sub, const char *ns, const char *name,
                      const char *body)
{
    const struct kl_resource *r = kl_res(res);
    *q = (struct fixture_req){0};
    q->r = (struct kl_req){.srv = &f->srv,
                           .al = &f->srv.loops[0],
                           .arena = &f->arena,
                           .user = kl_user_ref(u),
                           .body = kl_str(body),
                           .body_media = KL_MEDIA_JSON,
                           .done = req_done};
    q->r.info = (struct kl_req_info){.is_resource = true,
                                     .verb = kl_str(kl_verb_names[op]),
                                     .op = op,
                                     .group = kl_str(r->group),
                                     .version = kl_str(r->version),
                                     .plural = kl_str(r->plural),
                                     .sub = kl_str(sub),
                                     .ns = kl_str(ns),
                                     .name = kl_str(name),
                                     .res = r};
    if (sub && *sub)
        q->r.info.subres = kl_resource_sub(r, kl_str(sub));
}

const char *fixture_req_json(struct fixture *f, struct fixture_req *q)
{
    assert_true(q->done);
    if (q->r.result == KL_RESULT_FAIL)
        return kl_arena_printf(&f->arena, "%d %.*s: %.*s", q->r.fail.http, KL_PRI(q->r.fail.reason),
                               KL_PRI(q->r.fail.message))
            .p;
    struct kl_object *o = kl_object_freeze(q->r.type, &q->r.value);
    const char *s = fixture_json(f, q->r.type, &o->root);
    kl_object_unref(o);
    return s;
}

void fixture_req_fini(struct fixture_req *q)
{
    kl_req_fini(&q->r);
}

void fixture_assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("%s\nshould contain\n%s", text, part);
}
