// SPDX-License-Identifier: Apache-2.0
//  versions ─┐                    ┌─ queue ─▶ call ─▶ answer ─▶ forms on the versions ─▶ waiters
//  an object ┴─▶ job (one call) ──┘            │
//                                              └─ failed ─────────────────────────────▶ waiters
#include "apiserver/crd/convert_int.h"
#include "apiserver/trace/trace.h"
#include "apiserver/webhook.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include <stdlib.h>

enum {
    FLYING_MAX = 64,             // calls of one definition under way
    FLYING_BYTES_MAX = 16 << 20, // and their texts
    JOB_OBJECTS_MAX = 500,
    JOB_BYTES_MAX = 1 << 20, // of stored text: also what is converted in one turn of the loop
};

struct kl_conversions {
    struct kl_api_loop *al;
    struct kl_conversion_hook *hooks;
};

struct flying_key {
    const struct kl_kv *kv;
    const struct kl_type *type;
};

static struct kl_str key_of(struct flying_key *k, const struct kl_kv *kv,
                            const struct kl_resource *to)
{
    memset(k, 0, sizeof *k);
    k->kv = kv;
    k->type = to->type;
    return (struct kl_str){(const char *)k, sizeof *k};
}

// ---- hooks

static void free_hook(struct kl_conversion_hook *h)
{
    *h->pprev = h->next;
    if (h->next)
        h->next->pprev = h->pprev;
    kl_crd_leave(&h->user);
    kl_webhook_free(h->client);
    kl_map_fini(&h->jobs_of);
    kl_custom_family_unref(h->family);
    free(h);
}

static void on_definition(struct kl_crd_user *u)
{
    struct kl_conversion_hook *h = KL_CONTAINER_OF(u, struct kl_conversion_hook, user);
    h->stale = true;
    if (!h->jobs)
        free_hook(h);
}

static struct kl_conversion_hook *hook_of(struct kl_api_loop *al, struct kl_custom_family *family)
{
    struct kl_conversions *c = al->conversions;
    if (!c) {
        if (!(c = calloc(1, sizeof *c)))
            return NULL;
        c->al = al;
        al->conversions = c;
    }
    for (struct kl_conversion_hook *h = c->hooks; h; h = h->next)
        if (h->family == family)
            return h;
    struct kl_conversion_hook *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->all = c;
    h->family = kl_custom_family_ref(family);
    h->queue_end = &h->queue;
    kl_map_init(&h->jobs_of);
    h->next = c->hooks;
    h->pprev = &c->hooks;
    if (h->next)
        h->next->pprev = &h->next;
    c->hooks = h;
    h->user = (struct kl_crd_user){.family = family, .changed = on_definition};
    kl_crd_use(al, &h->user);
    return h;
}

void kl_conversions_fini(struct kl_api_loop *al)
{
    struct kl_conversions *c = al->conversions;
    if (!c)
        return;
    while (c->hooks)
        free_hook(c->hooks);
    free(c);
    al->conversions = NULL;
}

// ---- waiters

static void join(struct kl_conversion *c, struct kl_conversion_job *j)
{
    c->job = j;
    c->next = j->waiters;
    c->pprev = &j->waiters;
    if (c->next)
        c->next->pprev = &c->next;
    j->waiters = c;
}

static void leave(struct kl_conversion *c)
{
    *c->pprev = c->next;
    if (c->next)
        c->next->pprev = c->pprev;
    c->job = NULL;
}

static void drop_versions(struct kl_conversion *c)
{
    for (size_t i = 0; i < c->n; i++)
        kl_kv_unref(c->kvs[i]);
    free(c->kvs);
    c->kvs = NULL;
    c->n = 0;
}

void kl_conversion_cancel(struct kl_conversion *c)
{
    if (!c->job)
        return;
    leave(c);
    drop_versions(c);
}

// ---- jobs

static void free_job(struct kl_conversion_job *j)
{
    struct kl_conversion_hook *h = j->hook;
    for (size_t i = 0; i < j->n; i++) {
        struct kl_conversion_item *x = &j->items[i];
        kl_kv_unref(x->kv);
        kl_object_unref(x->was);
        kl_object_unref(x->converted);
        free(x->err);
    }
    free(j->items);
    free(j);
    if (!--h->jobs && h->stale)
        free_hook(h);
}

static const struct kl_error *error_of(const struct kl_conversion_job *j, const struct kl_kv *kv)
{
    for (size_t i = 0; i < j->n; i++)
        if (j->items[i].kv == kv)
            return j->items[i].err;
    return NULL;
}

static int want(struct kl_conversion *c, struct kl_error *err);

// Tells one who waits, or lets it wait for the rest of what it wants.
static void tell(struct kl_conversion *c, struct kl_conversion_job *j)
{
    struct kl_error err = {0};
    int code = j->err.code;
    leave(c);
    if (code) {
        err = j->err;
    } else if (!c->n) {
        c->object = j->items[0].converted;
        j->items[0].converted = NULL;
        if (j->items[0].err) {
            err = *j->items[0].err;
            code = err.code;
        }
    } else {
        for (size_t i = 0; j->nbad && i < c->n && !code; i++) {
            const struct kl_error *e = error_of(j, c->kvs[i]);
            if (e) {
                err = *e;
                code = e->code;
            }
        }
        if (!code && (code = want(c, &err)) > 0)
            return;
    }
    drop_versions(c);
    c->done(c, code, &err);
}

static void next_job(struct kl_conversion_hook *h);

static void end_job(struct kl_conversion_job *j)
{
    struct kl_conversion_hook *h = j->hook;
    struct kl_api_loop *al = h->all->al;
    struct flying_key k;
    for (size_t i = 0; i < j->n; i++)
        if (j->items[i].kv)
            kl_map_del(&h->jobs_of, key_of(&k, j->items[i].kv, j->to));
    if (j->sent) {
        h->flying--;
        h->flying_bytes -= j->body_bytes;
    }
    while (j->waiters)
        tell(j->waiters, j);
    next_job(h);
    free_job(j);
    kl_api_loop_leave(al);
}

static void run_end(struct kl_task *t)
{
    end_job(KL_CONTAINER_OF(t, struct kl_conversion_job, task));
}

// For what fails at once: whoever began it is not called from within.
static void fail_later(struct kl_conversion_job *j)
{
    j->task.run = run_end;
    kl_loop_post(j->hook->all->al->loop, &j->task);
}

// ---- the call

static void observe(struct kl_conversion_job *j, enum kl_conversion_failure f)
{
    struct kl_conversion_hook *h = j->hook;
    kl_conversion_observe(h->all->al->srv, h->family->name, j->items[0].from->version,
                          j->to->version, f, (kl_mono_ns() - j->began_ns) / 1000);
}

static void on_answer(void *arg, int status, struct kl_str body, const struct kl_error *err)
{
    struct kl_conversion_job *j = arg;
    enum kl_conversion_failure f = kl_conversion_answer(j, status, body, err);
    observe(j, f);
    if (j->span) {
        kl_span_event(j->span, "Request completed");
        kl_span_end(j->span);
    }
    if (f == KL_CONVERSION_CALL)
        kl_log(KL_LOG_WARN, "crd", "definition=%s msg=\"%s\"", j->hook->family->name, j->err.msg);
    end_job(j);
}

static void trace_call(struct kl_conversion_job *j)
{
    struct kl_span *s = kl_span_beside(j->r, NULL, "Call conversion webhook");
    kl_span_text(s, "custom-resource-definition", kl_str(j->hook->family->name));
    kl_span_text(s, "desired-api-version", kl_str(j->to->api_version));
    kl_span_number(s, "object-count", (int64_t)j->n);
    kl_span_text(s, "UID", kl_str(j->uid));
    j->span = s;
}

static int call(struct kl_conversion_job *j, struct kl_error *err)
{
    struct kl_conversion_hook *h = j->hook;
    int64_t left = j->deadline_ms - kl_mono_ms();
    if (h->family->review == KL_REVIEW_NONE)
        return kl_error_set(err, KL_EINVALID, "no supported conversion review versions");
    if (!h->client && kl_webhook_new(h->all->al, &h->family->client_config, &h->client, err))
        return err->code;
    if (left <= 0)
        return kl_error_set(err, KL_ETIMEOUT, "context deadline exceeded");
    struct kl_bytes *body = kl_conversion_question(j);
    if (!body)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    j->body_bytes = body->n;
    if (j->r && j->r->trace)
        trace_call(j);
    int rc = kl_webhook_post_for(j->r, j->span, h->client, body, (uint32_t)left, false, on_answer,
                                 j, NULL, err);
    kl_bytes_unref(body);
    if (rc) {
        kl_span_end(j->span);
        return rc;
    }
    j->sent = true;
    h->flying++;
    h->flying_bytes += j->body_bytes;
    return 0;
}

static void send_job(struct kl_conversion_job *j)
{
    char of[KL_CONVERSION_KIND_MAX];
    if (!call(j, &j->err))
        return;
    if (j->hook->family->review != KL_REVIEW_NONE) {
        kl_conversion_describe(j, of);
        kl_error_wrap(&j->err, "conversion webhook for %s failed", of);
        observe(j, KL_CONVERSION_CALL);
    }
    fail_later(j);
}

static bool has_room(const struct kl_conversion_hook *h, size_t bytes)
{
    return h->flying < FLYING_MAX &&
           (!h->flying || h->flying_bytes + bytes <= (size_t)FLYING_BYTES_MAX);
}

static void next_job(struct kl_conversion_hook *h)
{
    struct kl_conversion_job *j;
    while ((j = h->queue) && has_room(h, j->bytes)) {
        if (!(h->queue = j->next))
            h->queue_end = &h->queue;
        send_job(j);
    }
}

static void enqueue(struct kl_conversion_job *j)
{
    struct kl_conversion_hook *h = j->hook;
    if (!h->queue && has_room(h, j->bytes)) {
        send_job(j);
        return;
    }
    *h->queue_end = j;
    h->queue_end = &j->next;
}

static struct kl_conversion_job *new_job(struct kl_conversion_hook *h, const struct kl_resource *to,
                                         size_t n)
{
    struct kl_conversion_job *j = calloc(1, sizeof *j);
    if (!j || !(j->items = calloc(n, sizeof *j->items))) {
        free(j);
        return NULL;
    }
    j->hook = h;
    j->to = to;
    j->began_ns = kl_mono_ns();
    j->deadline_ms = kl_mono_ms() + KL_CONVERSION_TIMEOUT_MS;
    kl_uuid(j->uid);
    h->jobs++;
    kl_api_loop_enter(h->all->al);
    return j;
}

static void abandon(struct kl_conversion_job *j)
{
    struct kl_api_loop *al = j->hook->all->al;
    struct flying_key k;
    for (size_t i = 0; i < j->n; i++)
        if (j->items[i].kv)
            kl_map_del(&j->hook->jobs_of, key_of(&k, j->items[i].kv, j->to));
    free_job(j);
    kl_api_loop_leave(al);
}

// ---- beginnings

static int add_version(struct kl_conversion_job *j, struct kl_kv *kv, struct kl_error *err)
{
    struct kl_conversion_item *x = &j->items[j->n];
    struct flying_key k;
    struct kl_object *o = kl_cache_as_stored(kv, j->to, &x->from, err);
    if (!o)
        return err->code ? err->code : KL_EINTERNAL;
    if (kl_map_set(&j->hook->jobs_of, key_of(&k, kv, j->to), j, NULL))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    x->kv = kl_kv_ref(kv);
    x->was = kl_object_ref(o);
    j->bytes += kl_kv_value(kv).n;
    j->n++;
    return 0;
}

// Waits for the first of the versions that are not there. What nobody has asked for yet goes into
// one call with others behind it, as many as there is room for.
static int want(struct kl_conversion *c, struct kl_error *err)
{
    struct kl_conversion_hook *h = hook_of(c->al, c->res->custom->family);
    struct kl_conversion_job *j = NULL, *first;
    struct flying_key k;
    int rc = 0;
    if (!h)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    while (c->at < c->n && kl_cache_is_ready(c->kvs[c->at], c->res))
        c->at++;
    size_t left = c->n - c->at;
    if (!left)
        return 0;
    first = kl_map_get(&h->jobs_of, key_of(&k, c->kvs[c->at], c->res));
    if (!first &&
        !(first = j = new_job(h, c->res, left < JOB_OBJECTS_MAX ? left : JOB_OBJECTS_MAX)))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (size_t i = c->at; j && !rc && i < c->n && j->n < JOB_OBJECTS_MAX; i++) {
        struct kl_kv *kv = c->kvs[i];
        if (kl_cache_is_ready(kv, c->res) || kl_map_get(&h->jobs_of, key_of(&k, kv, c->res)))
            continue;
        if (j->n && j->bytes + kl_kv_value(kv).n > JOB_BYTES_MAX)
            break;
        rc = add_version(j, kv, err);
    }
    if (rc) {
        abandon(j);
        return rc;
    }
    join(c, first);
    if (j) {
        j->r = c->r;
        enqueue(j);
    }
    return 1;
}

int kl_convert_versions(struct kl_api_loop *al, const struct kl_resource *res, struct kl_kv **kvs,
                        size_t n, struct kl_conversion *c, struct kl_error *err)
{
    size_t i = 0;
    while (i < n && kl_cache_is_ready(kvs[i], res))
        i++;
    if (i == n)
        return 0;
    c->al = al;
    c->res = res;
    c->at = c->n = 0;
    c->object = NULL;
    if (!(c->kvs = calloc(n - i, sizeof *c->kvs)))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (; i < n; i++)
        c->kvs[c->n++] = kl_kv_ref(kvs[i]);
    int rc = want(c, err);
    if (rc <= 0)
        drop_versions(c);
    return rc;
}

int kl_convert_object(struct kl_api_loop *al, const struct kl_resource *from,
                      const struct kl_resource *to, const struct kl_object *o,
                      struct kl_conversion *c, struct kl_error *err)
{
    struct kl_conversion_hook *h = hook_of(al, to->custom->family);
    struct kl_conversion_job *j = h ? new_job(h, to, 1) : NULL;
    if (!j)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    c->al = al;
    c->res = to;
    c->object = NULL;
    c->n = 0;
    j->items[0] =
        (struct kl_conversion_item){.from = from, .was = kl_object_ref((struct kl_object *)o)};
    j->n = 1;
    j->bytes = o->size_bytes;
    j->r = c->r;
    join(c, j);
    enqueue(j);
    return 1;
}
