// SPDX-License-Identifier: Apache-2.0
// A call with credentials of a program.
#include "apiserver/auth/exec_int.h"
#include <stdlib.h>

// ---- TLS

enum { CLIENTS_MAX = 64 }; // one of a loop

struct kl_exec_tls {
    atomic_uint refs;
    struct kl_arena arena;
    struct kl_tls_client_opts opts;
    pthread_mutex_t mu;
    struct kl_tls_ctx *ctx;    // with the certificate of these
    struct kl_exec_cred *cred; // NULL: none yet
    struct {
        const struct kl_http_client *client; // compared and nothing else
        struct kl_tls_ctx *ctx;              // that it was given last
    } given[CLIENTS_MAX];
    size_t ngiven;
};

static int copy_opts(struct kl_exec_tls *t, const struct kl_tls_client_opts *o)
{
    t->opts = *o;
    t->opts.ca.pem = kl_arena_dup(&t->arena, o->ca.pem);
    if (o->server_name)
        t->opts.server_name = kl_arena_dup(&t->arena, kl_str(o->server_name)).p;
    return t->opts.ca.pem.p && !o->server_name == !t->opts.server_name ? 0 : KL_ENOMEM;
}

int kl_exec_tls_new(const struct kl_tls_client_opts *o, struct kl_exec_tls **ret,
                    struct kl_error *err)
{
    struct kl_exec_tls *t = calloc(1, sizeof *t);
    if (!t)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    atomic_init(&t->refs, 1);
    pthread_mutex_init(&t->mu, NULL);
    kl_arena_init(&t->arena, 8 << 20);
    int rc = copy_opts(t, o) ? kl_error_set(err, KL_ENOMEM, "out of memory")
                             : kl_tls_client_new(&t->opts, &t->ctx, err); // a bad CA is said now
    if (rc)
        kl_exec_tls_unref(t);
    else
        *ret = t;
    return rc;
}

struct kl_exec_tls *kl_exec_tls_ref(struct kl_exec_tls *t)
{
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void kl_exec_tls_unref(struct kl_exec_tls *t)
{
    if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
        return;
    kl_tls_ctx_unref(t->ctx);
    for (size_t i = 0; i < t->ngiven; i++)
        kl_tls_ctx_unref(t->given[i].ctx);
    kl_exec_cred_unref(t->cred);
    pthread_mutex_destroy(&t->mu);
    kl_arena_fini(&t->arena);
    free(t);
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : !a && !b;
}

// Under the lock: notes what the client gets. The reference to what it had before, if that is
// another one.
static struct kl_tls_ctx *give(struct kl_exec_tls *t, const struct kl_http_client *client)
{
    struct kl_tls_ctx *old = NULL;
    size_t i = 0;
    while (i < t->ngiven && t->given[i].client != client)
        i++;
    if (i == CLIENTS_MAX)
        return NULL;
    if (i == t->ngiven) {
        t->given[t->ngiven++].client = client;
    } else if (t->given[i].ctx == t->ctx) {
        return NULL;
    } else {
        old = t->given[i].ctx;
    }
    t->given[i].ctx = kl_tls_ctx_ref(t->ctx);
    return old;
}

// A new certificate is a new context, and so new connections; those with the old one are closed, as
// client-go does, here with the client's next call. A new token is not. Referenced.
static int tls_of(struct kl_exec_tls *t, struct kl_exec_cred *cred, struct kl_http_client *client,
                  struct kl_tls_ctx **ret, struct kl_error *err)
{
    struct kl_tls_ctx *old = NULL;
    int rc = 0;
    pthread_mutex_lock(&t->mu);
    if (!same_text(t->cred ? t->cred->cert : NULL, cred->cert) ||
        !same_text(t->cred ? t->cred->key : NULL, cred->key)) {
        struct kl_tls_client_opts o = t->opts;
        struct kl_tls_ctx *fresh = NULL;
        o.cert.pem = kl_str(cred->cert ? cred->cert : "");
        o.key.pem = kl_str(cred->key ? cred->key : "");
        if (!(rc = kl_tls_client_new(&o, &fresh, err))) {
            kl_tls_ctx_unref(t->ctx);
            kl_exec_cred_unref(t->cred);
            t->ctx = fresh;
            t->cred = kl_exec_cred_ref(cred);
        }
    }
    if (!rc) {
        *ret = kl_tls_ctx_ref(t->ctx);
        old = give(t, client);
    }
    pthread_mutex_unlock(&t->mu);
    if (old)
        kl_http_client_drop_tls(client, old);
    kl_tls_ctx_unref(old);
    return rc;
}

// ---- the call

struct kl_exec_fetch {
    struct kl_exec *x;
    struct kl_exec_tls *tls;
    struct kl_http_client *client;
    struct kl_arena arena;
    struct kl_http_call_spec spec;
    struct kl_http_header *headers; // with room for one more
    size_t max_bytes;
    kl_http_fetch_cb cb;
    void *arg;
    struct kl_exec_wait *wait; // for credentials
    struct kl_http_call *call; // then
    struct kl_exec_cred *cred;
};

static void free_fetch(struct kl_exec_fetch *f)
{
    if (f->spec.body)
        kl_bytes_unref(f->spec.body);
    kl_exec_cred_unref(f->cred);
    kl_exec_tls_unref(f->tls);
    kl_exec_unref(f->x);
    kl_arena_fini(&f->arena);
    free(f);
}

static void end_fetch(struct kl_exec_fetch *f, int status, struct kl_str body,
                      const struct kl_error *err)
{
    f->cb(f->arg, status, body, err);
    free_fetch(f);
}

static void on_answer(void *arg, int status, struct kl_str body, const struct kl_error *err)
{
    struct kl_exec_fetch *f = arg;
    f->call = NULL;
    if (status == 401)
        kl_exec_refresh(f->x, f->cred);
    end_fetch(f, status, body, err);
}

static int call(struct kl_exec_fetch *f, struct kl_exec_cred *cred, struct kl_error *err)
{
    struct kl_tls_ctx *tls = NULL;
    struct kl_http_call_spec spec = f->spec;
    int rc = f->tls ? tls_of(f->tls, cred, f->client, &tls, err) : 0;
    if (rc)
        return rc;
    spec.tls = tls;
    spec.headers = f->headers;
    if (cred->authorization)
        f->headers[spec.nheaders++] =
            (struct kl_http_header){KL_STR("authorization"), kl_str(cred->authorization)};
    f->cred = kl_exec_cred_ref(cred);
    rc = kl_http_fetch(f->client, &spec, f->max_bytes, on_answer, f, &f->call, err);
    kl_tls_ctx_unref(tls);
    return rc;
}

static void on_credentials(void *arg, struct kl_exec_cred *cred, const struct kl_error *why)
{
    struct kl_exec_fetch *f = arg;
    struct kl_error err = {0};
    f->wait = NULL;
    int rc = KL_EUNAVAILABLE;
    if (!cred)
        kl_error_set(&err, rc, "getting credentials: %s", why->msg);
    else
        rc = call(f, cred, &err);
    if (rc)
        end_fetch(f, rc, KL_STR(""), &err);
}

static int copy_spec(struct kl_exec_fetch *f, const struct kl_http_call_spec *s)
{
    struct kl_arena *a = &f->arena;
    bool good = (f->headers = kl_arena_alloc(a, (s->nheaders + 1) * sizeof *f->headers));
    f->spec = *s;
    f->spec.body = s->body ? kl_bytes_ref(s->body) : NULL;
    good = (f->spec.host = kl_arena_dup(a, kl_str(s->host)).p) && good;
    good = (f->spec.method = kl_arena_dup(a, s->method)).p && good;
    good = (f->spec.target = kl_arena_dup(a, s->target)).p && good;
    for (size_t i = 0; good && i < s->nheaders; i++) {
        f->headers[i] = (struct kl_http_header){kl_arena_dup(a, s->headers[i].name),
                                                kl_arena_dup(a, s->headers[i].value)};
        good = f->headers[i].name.p && f->headers[i].value.p;
    }
    return good ? 0 : KL_ENOMEM;
}

int kl_exec_fetch(struct kl_exec *x, struct kl_exec_tls *tls, struct kl_http_client *client,
                  const struct kl_http_call_spec *spec, size_t max_bytes, kl_http_fetch_cb cb,
                  void *arg, struct kl_exec_fetch **ret_or_null, struct kl_error *err)
{
    struct kl_exec_fetch *f = calloc(1, sizeof *f);
    struct kl_exec_cred *cred = NULL;
    if (!f)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    f->x = kl_exec_ref(x);
    f->tls = tls ? kl_exec_tls_ref(tls) : NULL;
    f->client = client;
    f->max_bytes = max_bytes;
    f->cb = cb;
    f->arg = arg;
    kl_arena_init(&f->arena, 1 << 20);
    int rc = copy_spec(f, spec)
                 ? kl_error_set(err, KL_ENOMEM, "out of memory")
                 : kl_exec_get(x, kl_loop_current(), on_credentials, f, &f->wait, &cred, err);
    if (!rc && cred)
        rc = call(f, cred, err);
    kl_exec_cred_unref(cred);
    if (rc)
        free_fetch(f);
    else if (ret_or_null)
        *ret_or_null = f;
    return rc;
}

void kl_exec_fetch_cancel(struct kl_exec_fetch *f)
{
    struct kl_error err = {0};
    if (f->call) {
        kl_http_call_cancel(f->call); // on_answer comes inside
        return;
    }
    if (f->wait)
        kl_exec_give_up(f->x, f->wait);
    kl_error_set(&err, KL_ECANCELED, "canceled");
    end_fetch(f, KL_ECANCELED, KL_STR(""), &err);
}
