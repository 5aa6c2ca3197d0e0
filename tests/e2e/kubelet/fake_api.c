// SPDX-License-Identifier: Apache-2.0
#include "fake_api.h"
#include "base/clock.h"
#include "base/rand.h"
#include "client/helpers.h"
#include "object/defaults.h"
#include "object/json.h"
#include "object/patch.h"
#include "object/selector.h"
#include "object/timestamp.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct row {
    struct row *next;
    const struct kl_resource *res;
    struct kl_object *o;
};
struct watch {
    struct watch *next;
    struct kl_watch_call *w;
    struct kl_task begin;
    struct fake_api *f;
    bool dead;
};
struct fake_api {
    struct kl_client client;
    struct row *rows;
    struct watch *watches;
    int64_t rv, ip;
};
struct pending {
    struct kl_task task;
    struct fake_api *f;
    struct kl_call *call;
};

static struct kl_arena *memory_of(struct kl_call *c)
{
    if (!c->memory) {
        c->memory = malloc(sizeof(*c->memory));
        kl_arena_init(c->memory, 0);
    }
    return c->memory;
}

static struct row **find(struct fake_api *f, const struct kl_resource *res, struct kl_str ns,
                         struct kl_str name)
{
    struct row **at = &f->rows;
    while (*at && !((*at)->res == res && kl_str_eq(kl_meta_name(&(*at)->o->root), name) &&
                    kl_str_eq(kl_meta_namespace(&(*at)->o->root), ns)))
        at = &(*at)->next;
    return at;
}

static bool selected(const struct kl_watch_call *w, const struct kl_object *o)
{
    if (w->ns.n && !kl_str_eq(w->ns, kl_meta_namespace(&o->root)))
        return false;
    struct kl_arena a;
    struct kl_selector s;
    kl_arena_init(&a, 0);
    bool yes = !w->field_selector.n || (!kl_field_selector_parse(&a, w->field_selector, &s, NULL) &&
                                        kl_field_selector_matches(w->res, &s, &o->root));
    kl_arena_fini(&a);
    return yes;
}

static void tell(struct fake_api *f, const struct kl_resource *res, enum kl_event_type type,
                 struct kl_object *o)
{
    for (struct watch *w = f->watches; w; w = w->next)
        if (!w->dead && !w->begin.run && w->w->res == res && selected(w->w, o))
            w->w->event_cb(w->w, type, o);
}

static struct kl_object *stamp(struct fake_api *f, const struct kl_resource *res,
                               struct kl_arena *a, struct kl_value *draft, bool create)
{
    char rv[32], uid[37];
    struct kl_value *meta = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    snprintf(rv, sizeof(rv), "%lld", (long long)++f->rv);
    kl_set_str(a, meta, KL_F_resourceVersion, kl_arena_dup(a, kl_str(rv)));
    if (create && !kl_text_at(meta, KL_F_uid).n) {
        kl_uuid(uid);
        kl_set_str(a, meta, KL_F_uid, kl_arena_dup(a, kl_str(uid)));
        kl_set(a, meta, KL_F_creationTimestamp, kl_time(kl_wall_ms() * 1000));
        kl_set_int(a, meta, KL_F_generation, 1);
    }
    kl_default_object(a, res->type, draft);
    return kl_object_freeze(res->type, draft);
}

static void put(struct fake_api *f, const struct kl_resource *res, struct kl_object *o)
{
    struct row **at = find(f, res, kl_meta_namespace(&o->root), kl_meta_name(&o->root));
    bool had = *at != NULL;
    if (!had) {
        *at = calloc(1, sizeof(**at));
        (*at)->res = res;
    } else {
        kl_object_unref((*at)->o);
    }
    (*at)->o = o;
    tell(f, res, had ? KL_EVENT_MODIFIED : KL_EVENT_ADDED, o);
}

static void drop(struct fake_api *f, struct row **at)
{
    struct row *r = *at;
    *at = r->next;
    tell(f, r->res, KL_EVENT_DELETED, r->o);
    kl_object_unref(r->o);
    free(r);
}

static void do_patch(struct fake_api *f, struct kl_call *c, struct row *r)
{
    struct kl_arena *a = memory_of(c);
    struct kl_value untyped, patch, merged, draft;
    if (kl_untyped_from_typed(a, c->res->type, &r->o->root, &untyped) ||
        kl_json_parse(a, c->patch, NULL, &patch, &c->err))
        return;
    int e = c->patch_type == KL_PATCH_STRATEGIC
                ? kl_patch_strategic(a, c->res->type, &untyped, &patch, &merged, &c->err)
                : kl_patch_merge(a, &untyped, &patch, &merged, &c->err);
    if (e || kl_typed_from_untyped(a, c->res->type, &merged, NULL, &draft, &c->err))
        return;
    // A patch of the status changes only that.
    if (c->sub) {
        struct kl_value base = kl_object_draft(r->o);
        kl_set(a, &base, KL_F_status, *kl_get(&draft, KL_F_status));
        draft = base;
    }
    struct kl_object *o = stamp(f, c->res, a, &draft, false);
    c->object = kl_object_ref(o);
    put(f, c->res, o);
}

static void do_token(struct fake_api *f, struct kl_call *c)
{
    struct kl_arena *a = memory_of(c);
    struct kl_value d = kl_object_draft(c->body);
    struct kl_value *st = kl_edit(a, &d, KL_F_status, KL_STRUCT);
    kl_set_z(a, st, KL_F_token, "fake.token.value");
    kl_set(a, st, KL_F_expirationTimestamp, kl_time((kl_wall_ms() + 3607000) * 1000));
    c->object = kl_object_freeze(c->body->type, &d);
}

static void serve(struct fake_api *f, struct kl_call *c)
{
    struct kl_str name = c->name;
    if (c->body && !name.n)
        name = kl_meta_name(&c->body->root);
    struct row **at = find(f, c->res, c->ns, name);
    if (c->sub && !strcmp(c->sub, "token")) {
        do_token(f, c);
        return;
    }
    if (c->verb == KL_VERB_CREATE) {
        if (*at) {
            kl_error_set(&c->err, KL_EEXISTS, "already exists");
            return;
        }
        struct kl_value d = kl_object_draft(c->body);
        struct kl_value *meta = kl_edit(memory_of(c), &d, KL_F_metadata, KL_STRUCT);
        struct kl_str gen = kl_text_at(meta, KL_F_generateName);
        if (!kl_text_at(meta, KL_F_name).n && gen.n)
            kl_set_str(memory_of(c), meta, KL_F_name,
                       kl_arena_printf(memory_of(c), "%.*s%lld", KL_PRI(gen), (long long)f->rv));
        if (c->ns.n)
            kl_set_str(memory_of(c), meta, KL_F_namespace, c->ns);
        struct kl_object *o = stamp(f, c->res, memory_of(c), &d, true);
        c->object = kl_object_ref(o);
        put(f, c->res, o);
        return;
    }
    if (!*at) {
        kl_error_set(&c->err, KL_ENOTFOUND, "%s \"%.*s\" not found", c->res->plural, KL_PRI(name));
        return;
    }
    struct kl_value d;
    struct kl_object *o;
    switch (c->verb) {
    case KL_VERB_GET:
        c->object = kl_object_ref((*at)->o);
        break;
    case KL_VERB_UPDATE:
        d = kl_object_draft(c->body);
        o = stamp(f, c->res, memory_of(c), &d, false);
        c->object = kl_object_ref(o);
        put(f, c->res, o);
        break;
    case KL_VERB_PATCH:
        do_patch(f, c, *at);
        break;
    case KL_VERB_DELETE:
        c->object = kl_object_ref((*at)->o);
        drop(f, at);
        break;
    default:
        kl_error_set(&c->err, KL_EUNSUPPORTED, "not in the fake");
    }
}

static void run_call(struct kl_task *t)
{
    struct pending *p = KL_CONTAINER_OF(t, struct pending, task);
    struct kl_call *c = p->call;
    serve(p->f, c);
    free(p);
    c->done_cb(c);
}

static void start(struct kl_client *cl, struct kl_call *call)
{
    struct pending *p = calloc(1, sizeof(*p));
    p->f = KL_CONTAINER_OF(cl, struct fake_api, client);
    p->call = call;
    p->task.run = run_call;
    kl_loop_defer(cl->loop, &p->task);
}

static void begin_watch(struct kl_task *t)
{
    struct watch *w = KL_CONTAINER_OF(t, struct watch, begin);
    if (w->dead) {
        free(w);
        return;
    }
    w->begin.run = NULL;
    for (struct row *r = w->f->rows; r; r = r->next)
        if (r->res == w->w->res && selected(w->w, r->o))
            w->w->event_cb(w->w, KL_EVENT_ADDED, r->o);
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_value d = kl_new_struct();
    char rv[32];
    snprintf(rv, sizeof(rv), "%lld", (long long)w->f->rv);
    kl_set_z(&a, kl_edit(&a, &d, KL_F_metadata, KL_STRUCT), KL_F_resourceVersion, rv);
    kl_set_annotation(&a, &d, "k8s.io/initial-events-end", KL_STR("true"));
    struct kl_object *o = kl_object_freeze(w->w->res->type, &d);
    w->w->event_cb(w->w, KL_EVENT_BOOKMARK, o);
    kl_object_unref(o);
    kl_arena_fini(&a);
}

static void watch(struct kl_client *cl, struct kl_watch_call *wc)
{
    struct watch *w = calloc(1, sizeof(*w));
    w->f = KL_CONTAINER_OF(cl, struct fake_api, client);
    w->w = wc;
    w->next = w->f->watches;
    w->f->watches = w;
    wc->transport = w;
    w->begin.run = begin_watch;
    kl_loop_defer(cl->loop, &w->begin);
}

static void watch_stop(struct kl_client *cl, struct kl_watch_call *wc)
{
    struct watch *w = wc->transport;
    for (struct watch **at = &w->f->watches; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    w->dead = true;
    if (!w->begin.run)
        free(w);
}

static void cancel(struct kl_client *cl, struct kl_call *call)
{
}

static void free_client(struct kl_client *cl)
{
}

static const struct kl_client_ops ops = {start, cancel, watch, watch_stop, free_client};

struct fake_api *fake_api_new(struct kl_loop *loop)
{
    struct fake_api *f = calloc(1, sizeof(*f));
    f->client.ops = &ops;
    f->client.loop = loop;
    f->client.user_agent = "kubelet/test";
    return f;
}

struct kl_client *fake_api_client(struct fake_api *f)
{
    return &f->client;
}

void fake_api_free(struct fake_api *f)
{
    while (f->rows) {
        struct row *r = f->rows;
        f->rows = r->next;
        kl_object_unref(r->o);
        free(r);
    }
    free(f);
}

// ---- from other threads

struct sync {
    struct kl_task task;
    void (*fn)(struct sync *s);
    struct fake_api *f;
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    bool done, yes;
    const struct kl_resource *res;
    const char *json, *ns, *name, *reason, *text;
    int grace_s;
    struct kl_object *o;
};

static void run_sync(struct kl_task *t)
{
    struct sync *s = KL_CONTAINER_OF(t, struct sync, task);
    s->fn(s);
    pthread_mutex_lock(&s->lock);
    s->done = true;
    pthread_cond_signal(&s->done_cond);
    pthread_mutex_unlock(&s->lock);
}

static void on_loop(struct sync *s)
{
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->done_cond, NULL);
    s->task.run = run_sync;
    kl_loop_post(s->f->client.loop, &s->task);
    pthread_mutex_lock(&s->lock);
    while (!s->done)
        pthread_cond_wait(&s->done_cond, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static void apply(struct sync *s)
{
    struct kl_arena a;
    struct kl_value d;
    struct kl_error err;
    kl_arena_init(&a, 0);
    if (kl_json_decode(&a, s->res->type, kl_str(s->json), NULL, &d, &err)) {
        fprintf(stderr, "bad JSON in test: %s\n%s\n", err.msg, s->json);
        exit(1);
    }
    struct row **at = find(s->f, s->res, kl_meta_namespace(&d), kl_meta_name(&d));
    if (*at)
        kl_set_str(&a, kl_edit(&a, &d, KL_F_metadata, KL_STRUCT), KL_F_uid,
                   kl_meta_uid(&(*at)->o->root));
    put(s->f, s->res, stamp(s->f, s->res, &a, &d, !*at));
    kl_arena_fini(&a);
}

void fake_apply(struct fake_api *f, const struct kl_resource *res, const char *json)
{
    struct sync s = {.fn = apply, .f = f, .res = res, .json = json};
    on_loop(&s);
}

static void delete (struct sync *s)
{
    struct row **at = find(s->f, s->res, kl_str(s->ns), kl_str(s->name));
    if (!*at)
        return;
    const struct kl_value *root = &(*at)->o->root;
    int64_t grace = s->grace_s >= 0
                        ? s->grace_s
                        : kl_int_at(root, 30, KL_F_spec, KL_F_terminationGracePeriodSeconds);
    if (s->res != kl_res(KL_RES_core_v1_pods) || grace == 0) {
        drop(s->f, at);
        return;
    }
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_value d = kl_object_draft((*at)->o);
    struct kl_value *meta = kl_edit(&a, &d, KL_F_metadata, KL_STRUCT);
    kl_set(&a, meta, KL_F_deletionTimestamp, kl_time((kl_wall_ms() + grace * 1000) * 1000));
    kl_set_int(&a, meta, KL_F_deletionGracePeriodSeconds, grace);
    put(s->f, s->res, stamp(s->f, s->res, &a, &d, false));
    kl_arena_fini(&a);
}

void fake_delete(struct fake_api *f, const struct kl_resource *res, const char *ns,
                 const char *name, int grace_s)
{
    struct sync s = {.fn = delete, .f = f, .res = res, .ns = ns, .name = name, .grace_s = grace_s};
    on_loop(&s);
}

static void get(struct sync *s)
{
    struct row **at = find(s->f, s->res, kl_str(s->ns), kl_str(s->name));
    s->o = *at ? kl_object_ref((*at)->o) : NULL;
}

struct kl_object *fake_get(struct fake_api *f, const struct kl_resource *res, const char *ns,
                           const char *name)
{
    struct sync s = {.fn = get, .f = f, .res = res, .ns = ns, .name = name};
    on_loop(&s);
    return s.o;
}

static void look(struct sync *s)
{
    for (struct row *r = s->f->rows; r; r = r->next) {
        const struct kl_value *e = &r->o->root;
        if (r->res != kl_res(KL_RES_core_v1_events))
            continue;
        struct kl_str msg = kl_text_at(e, KL_F_message);
        if (!s->reason)
            fprintf(stderr, "  event %.*s %.*s %.*s: %.*s\n",
                    KL_PRI(kl_text_at(e, KL_F_involvedObject, KL_F_name)),
                    KL_PRI(kl_text_at(e, KL_F_type)), KL_PRI(kl_text_at(e, KL_F_reason)),
                    KL_PRI(msg));
        else if (kl_str_eqz(kl_text_at(e, KL_F_involvedObject, KL_F_name), s->name) &&
                 kl_str_eqz(kl_text_at(e, KL_F_reason), s->reason) &&
                 memmem(msg.p, msg.n, s->text, strlen(s->text)))
            s->yes = true;
    }
}

bool fake_has_event(struct fake_api *f, const char *name, const char *reason, const char *text)
{
    struct sync s = {.fn = look, .f = f, .name = name, .reason = reason, .text = text};
    on_loop(&s);
    return s.yes;
}

void fake_dump_events(struct fake_api *f)
{
    struct sync s = {.fn = look, .f = f};
    on_loop(&s);
}
