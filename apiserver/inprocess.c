// SPDX-License-Identifier: Apache-2.0
// client/client.h's transport within the server's process: the same authorisation and registry, no
// encoding. Objects pass by reference.
#include "apiserver/audit/audit.h"
#include "apiserver/auth/auth.h"
#include "apiserver/crd/convert.h"
#include "apiserver/crd/crd.h"
#include "apiserver/gather.h"
#include "apiserver/server_int.h"
#include "watchcache/watcher.h"
#include <stdlib.h>

struct client {
    struct kl_client base;
    struct kl_api_loop *al;
    struct kl_user *user;
};

struct call {
    struct kl_req req;
    struct kl_call *asked; // NULL once cancelled
    struct kl_gather gather;
    struct kl_object *body; // the draft refers to it even after the caller cancelled
    struct kl_task start, end;
    struct kl_arena arena;
};

static void free_call(struct call *x)
{
    struct kl_api_loop *al = x->req.al;
    if (x->req.audit) {
        kl_audit_result(&x->req);
        kl_audit_status(&x->req, x->req.http);
        kl_audit_end(&x->req);
    }
    kl_gather_fini(&x->gather);
    if (x->req.result == KL_RESULT_LIST)
        kl_gather_fini(x->req.list);
    kl_req_fini(&x->req);
    kl_object_unref(x->body);
    kl_arena_fini(&x->arena);
    free(x);
    kl_api_loop_leave(al);
}

// Maps a failure back to the code that a caller tests for.
static int code_of(const struct kl_fail *f)
{
    static const struct {
        const char *reason;
        int code;
    } codes[] = {{"NotFound", KL_ENOTFOUND},      {"AlreadyExists", KL_EEXISTS},
                 {"Conflict", KL_ECONFLICT},      {"Invalid", KL_EINVALID},
                 {"Forbidden", KL_EFORBIDDEN},    {"BadRequest", KL_EBADREQUEST},
                 {"Expired", KL_EEXPIRED},        {"TooManyRequests", KL_ETOOMANY},
                 {"Timeout", KL_ETIMEOUT},        {"ServiceUnavailable", KL_EUNAVAILABLE},
                 {"MethodNotAllowed", KL_EMETHOD}};
    for (size_t i = 0; i < KL_COUNT(codes); i++)
        if (kl_str_eqz(f->reason, codes[i].reason))
            return codes[i].code;
    return KL_EINTERNAL;
}

static void take_object(struct call *x, struct kl_call *c)
{
    const struct kl_type *type;
    const struct kl_value *root;
    if (x->req.result == KL_RESULT_NONE || x->req.result == KL_RESULT_LIST)
        return;
    if (kl_req_result_root(&x->req, &type, &root, &c->err) == 0)
        c->object = kl_object_ref(x->req.frozen);
}

static void deliver(struct kl_task *t)
{
    struct call *x = KL_CONTAINER_OF(t, struct call, end);
    struct kl_call *c = x->asked;
    struct kl_req *r = &x->req;
    if (c) {
        c->transport = NULL;
        c->http_status = r->http;
        if (r->result == KL_RESULT_FAIL) {
            c->retry_after_s = r->fail.retry_after_s;
            kl_error_set(&c->err, code_of(&r->fail), "%.*s", KL_PRI(r->fail.message));
        } else if (c->verb != KL_VERB_LIST) {
            take_object(x, c);
        }
        c->done_cb(c);
    }
    free_call(x);
}

static void on_done(struct kl_req *r)
{
    struct call *x = KL_CONTAINER_OF(r, struct call, req);
    x->end.run = deliver;
    kl_loop_defer(r->al->loop, &x->end);
}

static struct kl_str keep(struct kl_arena *a, struct kl_str s)
{
    return s.n ? kl_arena_dup(a, s) : KL_STR("");
}

static void on_list(struct kl_gather *g, int code)
{
    struct call *x = KL_CONTAINER_OF(g, struct call, gather);
    struct kl_call *c = x->asked;
    struct kl_req *r = &x->req;
    struct kl_error err = {0};
    if (!code && c) {
        c->memory = calloc(1, sizeof *c->memory);
        c->items = calloc(g->n ? g->n : 1, sizeof *c->items);
        if (!c->memory || !c->items) {
            kl_fail_oom(r);
            code = KL_ENOMEM;
        }
    }
    for (size_t i = 0; !code && c && i < g->n; i++) {
        struct kl_object *o = kl_cache_object(g->kvs[i], r->info.res, &err);
        struct kl_object *v = o ? kl_object_in_version(r->info.res, o, &err) : NULL;
        if (!v) {
            kl_fail_err(r, &err);
            code = err.code;
        } else {
            c->items[c->n_items++] = v;
        }
    }
    if (!code && c) {
        kl_arena_init(c->memory, 64 * 1024);
        c->list_rv = kl_arena_printf(c->memory, "%lld", (long long)g->rev);
        c->list_continue = keep(c->memory, g->next);
    }
    r->http = code ? r->fail.http : 200;
    r->result = code ? KL_RESULT_FAIL : KL_RESULT_NONE;
    on_done(r);
}

static void set_info(struct call *x, const struct kl_call *c)
{
    struct kl_req_info *i = &x->req.info;
    struct kl_arena *a = &x->arena;
    i->is_resource = true;
    i->op = c->verb;
    i->verb = kl_str(kl_verb_names[c->verb]);
    i->res = c->res;
    i->group = kl_str(c->res->group);
    i->version = kl_str(c->res->version);
    i->plural = kl_str(c->res->plural);
    i->prefix = *c->res->group ? KL_STR("apis") : KL_STR("api");
    i->ns = keep(a, c->ns);
    if (c->verb != KL_VERB_CREATE || c->sub)
        i->name = keep(a, c->name);
    if (c->sub) {
        i->sub = kl_str(c->sub);
        i->subres = kl_resource_sub(c->res, i->sub);
    }
}

static int set_opts(struct call *x, const struct kl_call *c)
{
    struct kl_req_opts *o = &x->req.opts;
    struct kl_arena *a = &x->arena;
    struct kl_error err = {0};
    *o = (struct kl_req_opts){.label_selector = keep(a, c->label_selector),
                              .field_selector = keep(a, c->field_selector),
                              .resource_version = keep(a, c->resource_version),
                              .cont = keep(a, c->cont),
                              .limit = c->limit,
                              .timeout_s = -1,
                              .dry_run = c->dry_run,
                              .patch_type = c->patch_type,
                              .grace_seconds =
                                  c->verb == KL_VERB_DELETE || c->verb == KL_VERB_DELETECOLLECTION
                                      ? c->grace_seconds
                                      : -1,
                              .propagation = c->propagation,
                              .precondition_uid = keep(a, c->precondition_uid),
                              .precondition_rv = keep(a, c->precondition_rv),
                              .field_validation = KL_VALIDATE_IGNORE};
    if (c->verb == KL_VERB_PATCH && c->patch_type == KL_PATCH_APPLY) { // as client/https_codec.c
        o->field_manager = KL_STR("kinglet");
        o->force = o->force_set = true;
    }
    if ((o->label_selector.n && kl_label_selector_parse(a, o->label_selector, &o->labels, &err)) ||
        (o->field_selector.n && (kl_field_selector_parse(a, o->field_selector, &o->fields, &err) ||
                                 kl_field_selector_check(c->res, &o->fields, &err)))) {
        kl_fail_err(&x->req, &err);
        return err.code;
    }
    for (size_t i = 0; i < o->fields.n; i++)
        if (o->fields.reqs[i].op == KL_OP_EQ && kl_str_eqz(o->fields.reqs[i].key, "metadata.name"))
            o->name_from_fields = o->fields.reqs[i].values[0];
    return 0;
}

static void check_call(void *arg)
{
    struct call *x = arg;
    struct kl_req *r = &x->req;
    if (!x->asked) {
        free_call(x);
        return;
    }
    if (r->srv->audit && !r->audit)
        kl_audit_begin(r, NULL);
    if (r->result == KL_RESULT_FAIL || kl_pipeline_check(r)) {
        if (!kl_ask_wait(&r->ask, check_call, x))
            kl_req_fail(r);
        return;
    }
    if (r->info.op == KL_VERB_LIST && r->info.res->etcd_prefix) {
        x->gather.r = r;
        x->gather.done = on_list;
        kl_gather_start(&x->gather);
        return;
    }
    kl_pipeline_dispatch(r);
}

// A row that is not of the table names a custom resource: the server's own row serves the call. One
// that the server itself hands in is used as it is, though its version be served no more.
static int resolve(struct kl_req *r, const struct kl_resource *asked)
{
    if (asked->custom && asked->custom->schema) {
        r->family = kl_custom_family_ref(asked->custom->family);
        return 0;
    }
    if (asked >= kl_resources && asked < kl_resources + kl_nresources)
        return 0;
    r->info.res = NULL;
    int rc = kl_crd_resolve(r);
    // Callers of the process want metadata: of what is stored, not of what a webhook makes of it.
    if (r->family && r->family->webhook)
        r->info.res = r->family->storage;
    return rc;
}

static void run_call(struct kl_task *t)
{
    struct call *x = KL_CONTAINER_OF(t, struct call, start);
    if (x->asked && resolve(&x->req, x->asked->res))
        kl_req_fail(&x->req);
    else
        check_call(x);
}

static void start_call(struct kl_client *base, struct kl_call *c)
{
    struct client *k = KL_CONTAINER_OF(base, struct client, base);
    struct call *x = calloc(1, sizeof *x);
    if (!x)
        abort(); // nothing to report it with
    kl_arena_init(&x->arena, KL_MAX_ARENA_BYTES);
    kl_api_loop_enter(k->al);
    x->asked = c;
    x->body = kl_object_ref(c->body);
    c->transport = x;
    x->req = (struct kl_req){.srv = k->al->srv,
                             .al = k->al,
                             .arena = &x->arena,
                             .user = kl_user_ref(k->user),
                             .user_agent = kl_str(base->user_agent),
                             .done = on_done,
                             .body_object = x->body,
                             .body = keep(&x->arena, c->patch),
                             .body_media = KL_MEDIA_JSON};
    set_info(x, c);
    set_opts(x, c);
    x->start.run = run_call;
    kl_loop_defer(k->al->loop, &x->start);
}

struct canceled {
    struct kl_task task;
    struct kl_call *call;
};

static void deliver_canceled(struct kl_task *t)
{
    struct canceled *x = KL_CONTAINER_OF(t, struct canceled, task);
    struct kl_call *c = x->call;
    free(x);
    kl_error_set(&c->err, KL_ECANCELED, "canceled");
    c->done_cb(c);
}

static void cancel_call(struct kl_client *base, struct kl_call *c)
{
    struct client *k = KL_CONTAINER_OF(base, struct client, base);
    struct call *x = c->transport;
    struct canceled *q;
    if (!x || !(q = calloc(1, sizeof *q)))
        return;
    // What was begun goes on, in memory of its own.
    x->asked = NULL;
    x->req.canceled = true;
    c->transport = NULL;
    q->task.run = deliver_canceled;
    q->call = c;
    kl_loop_defer(k->al->loop, &q->task);
}

// ---- watches

struct watch {
    struct kl_watch_call *asked;
    struct client *client;
    struct kl_watcher *watcher;
    struct kl_arena arena;
    struct kl_selector labels, fields;
    struct kl_ask ask;
    struct kl_task start;
    bool stopped, pulling, queued;
    bool ended;                      // its definition changed
    const struct kl_resource *res;   // what the server knows the resource by
    struct kl_custom_family *family; // of a custom one: referenced
    struct kl_crd_user user;
    struct kl_conversion conversion;
};

enum { PULL_AT_ONCE = 128 };

static void free_watch(struct watch *x)
{
    kl_crd_leave(&x->user);
    kl_conversion_cancel(&x->conversion);
    kl_watcher_stop(x->watcher);
    kl_custom_family_unref(x->family);
    kl_ask_fini(&x->ask);
    kl_arena_fini(&x->arena);
    free(x);
}

static struct kl_object *bookmark(const struct kl_type *type, const struct kl_watcher_event *e)
{
    struct kl_arena a;
    struct kl_value root = kl_new_struct(), meta = kl_new_struct(), ann = kl_new_map();
    kl_arena_init(&a, 64 * 1024);
    kl_set(&a, &meta, KL_F_resourceVersion,
           kl_string(kl_arena_printf(&a, "%lld", (long long)e->rev)));
    if (e->initial_end) {
        kl_map_set_value(&a, &ann, KL_STR("k8s.io/initial-events-end"), kl_stringz("true"));
        kl_set(&a, &meta, KL_F_annotations, ann);
    }
    kl_set(&a, &root, KL_F_metadata, meta);
    struct kl_object *o = kl_object_freeze(type, &root);
    kl_arena_fini(&a);
    return o;
}

static void end_watch(struct watch *x, const struct kl_error *err)
{
    struct kl_watch_call *c = x->asked;
    c->err = *err;
    if (err->code == KL_ECOMPACTED)
        c->err.code = KL_EEXPIRED;
    c->transport = NULL;
    free_watch(x);
    c->end_cb(c);
}

static void hand_over(struct watch *x, const struct kl_watcher_event *e)
{
    struct kl_watch_call *c = x->asked;
    struct kl_error err = {0};
    struct kl_object *o = e->type == KL_EVENT_BOOKMARK
                              ? bookmark(x->res->type, e)
                              : kl_object_in_version(x->res, e->object, &err);
    if (o)
        c->event_cb(c, e->type, o);
    kl_object_unref(o);
}

static void pull(struct watch *x)
{
    struct kl_watcher_event e;
    struct kl_error err = {0};
    x->pulling = true;
    for (int i = 0; i < PULL_AT_ONCE && !x->stopped; i++) {
        int rc = kl_watcher_next(x->watcher, &e, &err);
        if (rc < 0) {
            x->pulling = false;
            end_watch(x, &err);
            return;
        }
        if (rc == 0) {
            x->pulling = false;
            return;
        }
        hand_over(x, &e);
    }
    x->pulling = false;
    if (x->stopped) {
        free_watch(x);
        return;
    }
    x->queued = true; // others on the loop first
    kl_loop_post(x->client->al->loop, &x->start);
}

static void wake_watch(struct kl_watcher *w, void *arg)
{
    struct watch *x = arg;
    (void)w;
    if (!x->queued && !x->pulling)
        pull(x);
}

static void on_converted(struct kl_conversion *c, int code, const struct kl_error *err)
{
    struct watch *x = KL_CONTAINER_OF(c, struct watch, conversion);
    kl_watcher_converted(x->watcher, code, err);
    wake_watch(x->watcher, x);
}

static int convert(void *arg, struct kl_kv **kvs, size_t n, struct kl_error *err)
{
    struct watch *x = arg;
    x->conversion = (struct kl_conversion){.done = on_converted};
    return kl_convert_versions(x->client->al, x->res, kvs, n, &x->conversion, err);
}

// The definition changed or went. Its caller watches again, or learns that there is nothing.
static void on_definition(struct kl_crd_user *u)
{
    struct watch *x = KL_CONTAINER_OF(u, struct watch, user);
    x->ended = true;
    if (!x->queued) {
        x->queued = true;
        kl_loop_post(x->client->al->loop, &x->start);
    }
}

static int find_res(struct watch *x, struct kl_error *err)
{
    const struct kl_resource *res = x->asked->res;
    struct kl_api_loop *al = x->client->al;
    if (x->res)
        return 0;
    if (res >= kl_resources && res < kl_resources + kl_nresources) {
        x->res = res;
        return 0;
    }
    x->res = kl_crd_find(al, kl_str(res->group), kl_str(res->version), kl_str(res->plural),
                         &x->family, err);
    if (!x->res)
        return err->code ? err->code
                         : kl_error_set(err, KL_ENOTFOUND,
                                        "the server could not find the requested resource");
    if (x->family->webhook)
        x->res = x->family->storage;
    x->user = (struct kl_crd_user){.family = x->family, .changed = on_definition};
    kl_crd_use(al, &x->user);
    return 0;
}

static bool may_watch(struct watch *x, struct kl_error *err)
{
    struct kl_watch_call *c = x->asked;
    struct kl_attrs t = {.user = x->client->user,
                         .verb = KL_STR("watch"),
                         .group = kl_str(c->res->group),
                         .version = kl_str(c->res->version),
                         .plural = kl_str(c->res->plural),
                         .ns = c->ns,
                         .fields = &x->fields,
                         .labels = &x->labels,
                         .ask = &x->ask,
                         .is_resource = true};
    struct kl_str why;
    for (size_t i = 0; i < x->fields.n; i++)
        if (kl_str_eqz(x->fields.reqs[i].key, "metadata.name"))
            t.name = x->fields.reqs[i].values[0];
    if (kl_authorize(x->client->al, &x->arena, &t, &why))
        return true;
    kl_error_set(err, KL_EFORBIDDEN,
                 "User \"%.*s\" cannot watch resource \"%s\" in API group \"%s\"",
                 KL_PRI(x->client->user->name), c->res->plural, c->res->group);
    return false;
}

static void begin_watch(void *arg)
{
    struct watch *x = arg;
    struct kl_watch_call *c = x->asked;
    struct kl_error err = {0};
    int64_t rv = 0;
    if (find_res(x, &err)) {
        end_watch(x, &err);
        return;
    }
    struct kl_watcher_options o = {
        .filter = {.res = x->res, .ns = c->ns, .labels = &x->labels, .fields = &x->fields},
        .wake = wake_watch,
        .convert = convert,
        .arg = x};
    if ((c->label_selector.n &&
         kl_label_selector_parse(&x->arena, c->label_selector, &x->labels, &err)) ||
        (c->field_selector.n &&
         (kl_field_selector_parse(&x->arena, c->field_selector, &x->fields, &err) ||
          kl_field_selector_check(x->res, &x->fields, &err))) ||
        !may_watch(x, &err)) {
        if (!kl_ask_wait(&x->ask, begin_watch, x))
            end_watch(x, &err);
        return;
    }
    kl_str_to_i64(c->resource_version, &rv);
    o.since = rv;
    o.initial = c->send_initial_events || !rv;
    o.initial_end = c->send_initial_events;
    if (kl_watcher_start(x->client->al->reader, &o, &x->watcher, &err)) {
        end_watch(x, &err);
        return;
    }
    pull(x);
}

static void run_watch(struct kl_task *t)
{
    struct watch *x = KL_CONTAINER_OF(t, struct watch, start);
    x->queued = false;
    struct kl_error none = {0};
    if (x->stopped)
        free_watch(x);
    else if (x->ended)
        end_watch(x, &none);
    else if (x->watcher)
        pull(x);
    else
        begin_watch(x);
}

static void start_watch(struct kl_client *base, struct kl_watch_call *c)
{
    struct client *k = KL_CONTAINER_OF(base, struct client, base);
    struct watch *x = calloc(1, sizeof *x);
    if (!x)
        abort();
    kl_arena_init(&x->arena, 1 << 20);
    x->asked = c;
    x->client = k;
    x->queued = true;
    x->start.run = run_watch;
    c->transport = x;
    kl_loop_defer(k->al->loop, &x->start);
}

static void stop_watch(struct kl_client *base, struct kl_watch_call *c)
{
    struct watch *x = c->transport;
    (void)base;
    if (!x)
        return;
    c->transport = NULL;
    x->stopped = true;
    if (!x->queued && !x->pulling)
        free_watch(x);
}

static void free_client(struct kl_client *base)
{
    struct client *k = KL_CONTAINER_OF(base, struct client, base);
    kl_user_unref(k->user);
    free(k);
}

static const struct kl_client_ops inprocess_ops = {.start = start_call,
                                                   .cancel = cancel_call,
                                                   .watch = start_watch,
                                                   .watch_stop = stop_watch,
                                                   .free = free_client};

struct kl_client *kl_apiserver_client(struct kl_apiserver *s, struct kl_loop *loop,
                                      const char *user, const char *const *groups,
                                      const char *user_agent)
{
    struct kl_str g[16];
    size_t n = 0;
    for (; groups && groups[n] && n < KL_COUNT(g); n++)
        g[n] = kl_str(groups[n]);
    struct client *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->base = (struct kl_client){.ops = &inprocess_ops, .loop = loop, .user_agent = user_agent};
    k->al = kl_api_loop_of(s, loop);
    k->user = kl_user_new(kl_str(user), KL_STR(""), g, n, NULL, 0);
    if (!k->al || !k->user) {
        free_client(&k->base);
        return NULL;
    }
    return &k->base;
}
