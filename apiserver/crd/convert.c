// SPDX-License-Identifier: Apache-2.0
//  versions ─┐                    ┌─ queue ─▶ call ─▶ answer ─▶ forms on the versions ─▶ waiters
//  an object ┴─▶ job (one call) ──┘            │
//                                              └─ failed ─────────────────────────────▶ waiters
#include "apiserver/crd/convert.h"
#include "apiserver/crd/crd.h"
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
    KIND_MAX = 600,
};

// The webhook of a definition as it is in one family.
struct hook {
    struct kl_conversions *all;
    struct kl_custom_family *family; // referenced
    struct kl_webhook *client;       // made at the first call
    struct kl_map jobs_of;           // struct flying_key → the job that converts it
    struct kl_conversion_job *queue, **queue_end;
    size_t flying, flying_bytes, jobs;
    struct kl_crd_user user;
    bool stale; // the definition changed: goes with its last job
    struct hook *next, **pprev;
};

struct kl_conversions {
    struct kl_api_loop *al;
    struct hook *hooks;
};

struct item {
    struct kl_kv *kv; // referenced; NULL: an object that is not stored
    const struct kl_resource *from;
    struct kl_object *was;       // referenced
    struct kl_object *converted; // of what is not stored: for the one who waits
    struct kl_error *err;        // why this one cannot be; NULL: it can
};

struct kl_conversion_job {
    struct hook *hook;
    const struct kl_resource *to;
    struct item *items;
    size_t n, nbad, bytes, body_bytes;
    struct kl_conversion *waiters;
    struct kl_conversion_job *next; // of the queue
    struct kl_task task;            // fails it, later
    struct kl_error err;
    int64_t began_ns, deadline_ms;
    char uid[37];
    bool sent;
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

static void free_hook(struct hook *h)
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
    struct hook *h = KL_CONTAINER_OF(u, struct hook, user);
    h->stale = true;
    if (!h->jobs)
        free_hook(h);
}

static struct hook *hook_of(struct kl_api_loop *al, struct kl_custom_family *family)
{
    struct kl_conversions *c = al->conversions;
    if (!c) {
        if (!(c = calloc(1, sizeof *c)))
            return NULL;
        c->al = al;
        al->conversions = c;
    }
    for (struct hook *h = c->hooks; h; h = h->next)
        if (h->family == family)
            return h;
    struct hook *h = calloc(1, sizeof *h);
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
    struct hook *h = j->hook;
    for (size_t i = 0; i < j->n; i++) {
        struct item *x = &j->items[i];
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

static void next_job(struct hook *h);

static void end_job(struct kl_conversion_job *j)
{
    struct hook *h = j->hook;
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

// "example.com/v1, Kind=Widget" into `of`, which the rest refers to.
static struct kl_conversion_ask describe(const struct kl_conversion_job *j, char of[KIND_MAX])
{
    const struct kl_resource *r = j->n > 1 ? j->to : j->items[0].from;
    int n = snprintf(of, KIND_MAX, "%s, Kind=%s", r->api_version,
                     j->n > 1 ? r->custom->list_kind : r->kind);
    return (struct kl_conversion_ask){.review = j->hook->family->review,
                                      .uid = kl_str(j->uid),
                                      .desired = kl_str(j->to->api_version),
                                      .of = {of, (size_t)n < KIND_MAX ? (size_t)n : KIND_MAX - 1},
                                      .n = j->n,
                                      .list = j->n > 1};
}

static struct kl_bytes *write_question(struct kl_conversion_job *j)
{
    struct kl_buf b;
    char mem[KIND_MAX];
    struct kl_buf head = {.p = mem, .cap = sizeof mem, .max = sizeof mem};
    kl_buf_init(&b, KL_MAX_ARENA_BYTES);
    kl_conversion_begin(&b, j->hook->family->review, kl_str(j->uid), kl_str(j->to->api_version));
    for (size_t i = 0; i < j->n; i++) {
        const struct kl_resource *from = j->items[i].from;
        struct kl_object *bare = kl_object_with_rv(j->items[i].was, 0); // as it is stored
        head.n = 0;
        kl_buf_printf(&head, "\"apiVersion\":\"%s\",\"kind\":\"%s\",", from->api_version,
                      from->kind);
        kl_buf_puts(&b, i ? KL_STR(",") : KL_STR(""));
        if (bare)
            kl_json_encode(&b, bare->type, &bare->root, kl_buf_str(&head));
        else
            b.err = KL_ENOMEM;
        kl_object_unref(bare);
    }
    kl_conversion_end(&b);
    struct kl_bytes *out = b.err || head.err ? NULL : kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    return out;
}

// An answer's object as one of the wanted type, with the revision that it is of.
static struct kl_object *retype(struct kl_arena *a, const struct kl_conversion_job *j,
                                const struct item *x, const struct kl_value *now,
                                struct kl_error *err)
{
    struct kl_value v;
    struct kl_object *o = NULL;
    if (kl_crd_from_untyped(a, j->to->custom->schema, now, false, NULL, &v, err))
        return NULL;
    struct kl_value *m = kl_edit(a, &v, KL_F_metadata, KL_STRUCT);
    struct kl_str was = kl_meta_rv(&x->was->root);
    if (m && !(was.n ? kl_set(a, m, KL_F_resourceVersion, kl_string(was))
                     : kl_unset(a, m, KL_F_resourceVersion)))
        o = kl_object_freeze(j->to->type, &v);
    if (!o)
        kl_error_set(err, KL_ENOMEM, "out of memory");
    return o;
}

static void take_object(struct kl_arena *a, struct kl_conversion_job *j,
                        const struct kl_conversion_ask *ask, size_t i, const struct kl_value *said)
{
    struct item *x = &j->items[i];
    struct kl_error err = {0};
    struct kl_value was, now = *said;
    struct kl_object *o = NULL;
    now.owned = 0;
    if (kl_crd_untyped(a, x->from->custom->schema, &x->was->root, &was))
        kl_error_set(&err, KL_ENOMEM, "out of memory");
    else if (!kl_conversion_take(a, ask, i, &was, &now, &err))
        o = retype(a, j, x, &now, &err);
    if (!o) {
        j->nbad++;
        if ((x->err = malloc(sizeof err)))
            *x->err = err;
        else
            j->err = err;
    } else if (x->kv) {
        kl_cache_attach_object(x->kv, o);
    } else {
        x->converted = o;
    }
}

static enum kl_conversion_failure read_answer(struct kl_conversion_job *j, int status,
                                              struct kl_str body, const struct kl_error *why)
{
    char of[KIND_MAX];
    const struct kl_conversion_ask ask = describe(j, of);
    enum kl_conversion_failure failure = KL_CONVERSION_CALL;
    const struct kl_value *objects;
    struct kl_arena a;
    size_t i = 0;
    kl_arena_init(&a, KL_MAX_ARENA_BYTES);
    struct kl_str text = status < 0 ? kl_str(why->msg) : kl_webhook_status_text(&a, status, body);
    if (text.p) {
        kl_error_set(&j->err, status < 0 ? status : KL_EINVALID,
                     "conversion webhook for %s failed: %.*s", of, KL_PRI(text));
    } else if (!body.n) {
        kl_error_set(&j->err, KL_EINVALID,
                     "conversion webhook for %s failed: 0-length response with status code: %d and "
                     "content type: ",
                     of, status);
    } else if (!kl_conversion_read(&a, &ask, body, &objects, &failure, &j->err)) {
        for (KL_EACH(o, objects))
            take_object(&a, j, &ask, i++, o);
        if (j->nbad)
            failure = KL_CONVERSION_INVALID;
    }
    kl_arena_fini(&a);
    return failure;
}

static void observe(struct kl_conversion_job *j, enum kl_conversion_failure f)
{
    struct hook *h = j->hook;
    kl_conversion_observe(h->all->al->srv, h->family->name, j->items[0].from->version,
                          j->to->version, f, (kl_mono_ns() - j->began_ns) / 1000);
}

static void on_answer(void *arg, int status, struct kl_str body, const struct kl_error *err)
{
    struct kl_conversion_job *j = arg;
    enum kl_conversion_failure f = read_answer(j, status, body, err);
    observe(j, f);
    if (f == KL_CONVERSION_CALL)
        kl_log(KL_LOG_WARN, "crd", "definition=%s msg=\"%s\"", j->hook->family->name, j->err.msg);
    end_job(j);
}

static int call(struct kl_conversion_job *j, struct kl_error *err)
{
    struct hook *h = j->hook;
    int64_t left = j->deadline_ms - kl_mono_ms();
    if (h->family->review == KL_REVIEW_NONE)
        return kl_error_set(err, KL_EINVALID, "no supported conversion review versions");
    if (!h->client && kl_webhook_new(h->all->al, &h->family->client_config, &h->client, err))
        return err->code;
    if (left <= 0)
        return kl_error_set(err, KL_ETIMEOUT, "context deadline exceeded");
    struct kl_bytes *body = write_question(j);
    if (!body)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    j->body_bytes = body->n;
    int rc = kl_webhook_post(h->client, body, (uint32_t)left, false, on_answer, j, NULL, err);
    kl_bytes_unref(body);
    if (rc)
        return rc;
    j->sent = true;
    h->flying++;
    h->flying_bytes += j->body_bytes;
    return 0;
}

static void send_job(struct kl_conversion_job *j)
{
    char of[KIND_MAX];
    if (!call(j, &j->err))
        return;
    if (j->hook->family->review != KL_REVIEW_NONE) {
        describe(j, of);
        kl_error_wrap(&j->err, "conversion webhook for %s failed", of);
        observe(j, KL_CONVERSION_CALL);
    }
    fail_later(j);
}

static bool has_room(const struct hook *h, size_t bytes)
{
    return h->flying < FLYING_MAX &&
           (!h->flying || h->flying_bytes + bytes <= (size_t)FLYING_BYTES_MAX);
}

static void next_job(struct hook *h)
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
    struct hook *h = j->hook;
    if (!h->queue && has_room(h, j->bytes)) {
        send_job(j);
        return;
    }
    *h->queue_end = j;
    h->queue_end = &j->next;
}

static struct kl_conversion_job *new_job(struct hook *h, const struct kl_resource *to, size_t n)
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
    struct item *x = &j->items[j->n];
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
    struct hook *h = hook_of(c->al, c->res->custom->family);
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
    if (j)
        enqueue(j);
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
    struct hook *h = hook_of(al, to->custom->family);
    struct kl_conversion_job *j = h ? new_job(h, to, 1) : NULL;
    if (!j)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    c->al = al;
    c->res = to;
    c->object = NULL;
    c->n = 0;
    j->items[0] = (struct item){.from = from, .was = kl_object_ref((struct kl_object *)o)};
    j->n = 1;
    j->bytes = o->size_bytes;
    join(c, j);
    enqueue(j);
    return 1;
}

// ---- requests

void kl_conversion_fail(struct kl_req *r, const struct kl_error *err)
{
    if (err->code == KL_ENOMEM)
        kl_fail_oom(r);
    else
        kl_fail_set(r, 500, "", "%s", err->msg);
}

struct req_wait {
    struct kl_conversion c;
    struct kl_req *r;
    void (*then)(void *arg, int code);
    void *arg;
    int code;
    struct kl_task task;
};

static void go_on(struct kl_conversion *c, int code, const struct kl_error *err)
{
    struct req_wait *w = KL_CONTAINER_OF(c, struct req_wait, c);
    if (code)
        kl_conversion_fail(w->r, err);
    w->then(w->arg, code);
}

static void fail_now(struct kl_task *t)
{
    struct req_wait *w = KL_CONTAINER_OF(t, struct req_wait, task);
    w->then(w->arg, w->code);
}

bool kl_req_convert(struct kl_req *r, const struct kl_resource *res, struct kl_kv *kv,
                    void (*then)(void *arg, int code), void *arg)
{
    struct kl_error err = {0};
    if (!res->custom || kl_cache_is_ready(kv, res))
        return false;
    struct req_wait *w = KL_ARENA_NEW(r->arena, struct req_wait);
    if (!w)
        return false; // who reads it says that there is no memory
    *w = (struct req_wait){.c.done = go_on, .r = r, .then = then, .arg = arg};
    int rc = kl_convert_versions(r->al, res, &kv, 1, &w->c, &err);
    if (!rc)
        return false;
    if (rc < 0) {
        kl_conversion_fail(r, &err);
        w->code = rc;
        w->task.run = fail_now;
        kl_loop_post(r->al->loop, &w->task);
    }
    return true;
}
