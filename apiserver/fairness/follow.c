// SPDX-License-Identifier: Apache-2.0
// Follows the objects: a change of one builds the configuration anew from the newest view; every
// ten seconds the levels lend and borrow; every minute the built-in objects are put back. Says in a
// schema's status when its level is not there. All on loops[0].
#include "apiserver/bootstrap.h"
#include "apiserver/fairness/fairness_int.h"
#include "base/clock.h"
#include "base/log.h"
#include "watchcache/watcher.h"
#include <stdlib.h>

enum { ADJUST_MS = 10000, ENSURE_EVERY = 6, KINDS = 2, MAX_PREFIX = 256 };

struct kl_fair_follow {
    struct kl_fair *f;
    struct kl_watcher *watchers[KINDS];
    struct kl_task again; // the view is read
    bool queued, stopped;
    uv_timer_t timer;
    unsigned ticks;
    struct kl_client *client; // writes statuses
    struct kl_call call;
    struct kl_arena arena; // of the call
    bool writing, closed, rewrite;
};

static const struct kl_resource *kind_of(int i)
{
    return kl_resource_storage(kl_res(i ? KL_RES_flowcontrol_v1_flowschemas
                                        : KL_RES_flowcontrol_v1_prioritylevelconfigurations));
}

static void maybe_free(struct kl_fair_follow *w)
{
    if (!w->closed || w->writing || w->queued)
        return;
    kl_client_free(w->client);
    free(w);
}

static void read_later(struct kl_fair_follow *w)
{
    if (w->queued || w->stopped)
        return;
    w->queued = true;
    kl_loop_post(w->f->s->loops[0].loop, &w->again);
}

static void on_wake(struct kl_watcher *x, void *arg)
{
    (void)x;
    read_later(arg);
}

static struct kl_object **read_all(struct kl_fair_follow *w, int kind, size_t *ret_n)
{
    char prefix[MAX_PREFIX], end[MAX_PREFIX];
    const struct kl_resource *res = kind_of(kind);
    size_t n = strlen(res->etcd_prefix);
    struct kl_iter it;
    memcpy(prefix, res->etcd_prefix, n);
    prefix[n++] = '/';
    struct kl_str from = {prefix, n};
    kl_iter_init(&it, kl_reader_view(w->f->s->loops[0].reader), from, kl_prefix_end(from, end));
    struct kl_object **out = calloc((size_t)it.left + 1, sizeof(*out));
    *ret_n = 0;
    for (struct kl_kv *kv; out && (kv = kl_iter_next(&it));) {
        struct kl_error err = {0};
        struct kl_object *o = kl_cache_object(kv, res, &err);
        if (o)
            out[(*ret_n)++] = kl_object_ref(o);
        else
            kl_log(KL_LOG_ERROR, "fairness", "%s", err.msg);
    }
    return out;
}

// ---- status

static void write_status(struct kl_fair_follow *w);

static void on_written(struct kl_call *c)
{
    struct kl_fair_follow *w = c->arg;
    bool failed = c->err.code && c->err.code != KL_ENOTFOUND;
    if (failed)
        kl_log(KL_LOG_WARN, "fairness", "status of flowschema=%.*s: %s", KL_PRI(c->name),
               c->err.msg);
    kl_call_fini(c);
    kl_arena_fini(&w->arena);
    w->writing = false;
    if (w->stopped)
        maybe_free(w);
    else if (w->rewrite && !failed)
        write_status(w);
}

static const struct kl_value *dangling_of(const struct kl_object *o)
{
    for (KL_EACH(c, kl_path(&o->root, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_type)), "Dangling"))
            return c;
    return NULL;
}

// True: the schema's condition is not what it should be; the patch is in the arena.
static bool is_wrong(struct kl_fair_follow *w, const struct kl_object *o, struct kl_str *ret_patch)
{
    struct kl_str to = kl_text_at(&o->root, KL_F_spec, KL_F_priorityLevelConfiguration, KL_F_name);
    bool known = kl_fair_level_known(w->f, to);
    const char *status = known ? "False" : "True", *reason = known ? "Found" : "NotFound";
    struct kl_str message = kl_arena_printf(
        &w->arena,
        "This FlowSchema references the PriorityLevelConfiguration object named \"%.*s\" %s",
        KL_PRI(to), known ? "and it exists" : "but there is no such object");
    const struct kl_value *c = dangling_of(o);
    if (c && kl_str_eqz(kl_text(kl_get(c, KL_F_status)), status) &&
        kl_str_eqz(kl_text(kl_get(c, KL_F_reason)), reason) &&
        kl_str_eq(kl_text(kl_get(c, KL_F_message)), message))
        return false;
    struct kl_buf text, now;
    struct kl_value at = kl_time(kl_wall_ms() / 1000 * 1000000);
    kl_buf_init(&text, 8192);
    kl_buf_init(&now, 64);
    kl_json_write(&now, &at);
    kl_buf_printf(&text,
                  "{\"status\":{\"conditions\":[{\"type\":\"Dangling\",\"status\":\"%s\","
                  "\"lastTransitionTime\":%.*s,\"reason\":\"%s\",\"message\":",
                  status, KL_PRI(kl_buf_str(&now)), reason);
    kl_json_write_string(&text, message);
    kl_buf_puts(&text, KL_STR("}]}}"));
    *ret_patch = text.err ? KL_STR("") : kl_arena_dup(&w->arena, kl_buf_str(&text));
    kl_buf_fini(&text);
    kl_buf_fini(&now);
    return ret_patch->n > 0;
}

// One at a time; the next when this one is written.
static void write_status(struct kl_fair_follow *w)
{
    size_t n;
    if (w->writing || !kl_apiserver_ready(w->f->s)) {
        w->rewrite = true;
        return;
    }
    w->rewrite = false;
    struct kl_object **schemas = read_all(w, 1, &n);
    kl_arena_init(&w->arena, 1 << 20);
    for (size_t i = 0; schemas && i < n; i++) {
        struct kl_str patch;
        if (!w->writing && is_wrong(w, schemas[i], &patch)) {
            w->call =
                (struct kl_call){.verb = KL_VERB_PATCH,
                                 .res = kl_res(KL_RES_flowcontrol_v1_flowschemas),
                                 .sub = "status",
                                 .name = kl_arena_dup(&w->arena, kl_meta_name(&schemas[i]->root)),
                                 .patch = patch,
                                 .patch_type = KL_PATCH_STRATEGIC,
                                 .done_cb = on_written,
                                 .arg = w};
            w->writing = w->rewrite = true;
        }
        kl_object_unref(schemas[i]);
    }
    free(schemas);
    if (w->writing)
        kl_client_start(w->client, &w->call);
    else
        kl_arena_fini(&w->arena);
}

// ---- changes

static void watch(struct kl_fair_follow *w, int kind)
{
    struct kl_api_loop *al = &w->f->s->loops[0];
    struct kl_error err = {0};
    struct kl_watcher_options o = {.filter = {.res = kind_of(kind)},
                                   .since = kl_view_rev(kl_reader_view(al->reader)),
                                   .wake = on_wake,
                                   .arg = w};
    if (kl_watcher_start(al->reader, &o, &w->watchers[kind], &err)) {
        w->watchers[kind] = NULL;
        kl_log(KL_LOG_ERROR, "fairness", "%s: %s", kind_of(kind)->plural, err.msg);
    }
}

// Past everything that has happened: only that something did is of interest.
static void drain(struct kl_fair_follow *w, int kind)
{
    struct kl_watcher_event e;
    struct kl_error err = {0};
    int rc = 0;
    while (w->watchers[kind] && (rc = kl_watcher_next(w->watchers[kind], &e, &err)) > 0)
        ;
    if (rc >= 0 && w->watchers[kind])
        return;
    kl_watcher_stop(w->watchers[kind]);
    watch(w, kind);
}

static void read_again(struct kl_task *t)
{
    struct kl_fair_follow *w = KL_CONTAINER_OF(t, struct kl_fair_follow, again);
    size_t nlevels, nschemas;
    w->queued = false;
    if (w->stopped) {
        maybe_free(w);
        return;
    }
    for (int i = 0; i < KINDS; i++)
        drain(w, i);
    struct kl_object **levels = read_all(w, 0, &nlevels), **schemas = read_all(w, 1, &nschemas);
    if (!levels || !schemas || kl_fair_configure(w->f, levels, nlevels, schemas, nschemas))
        kl_log(KL_LOG_ERROR, "fairness", "out of memory");
    free(levels);
    free(schemas);
    write_status(w);
}

static void on_tick(uv_timer_t *h)
{
    struct kl_fair_follow *w = h->data;
    kl_fair_adjust(w->f);
    if (++w->ticks % ENSURE_EVERY == 0 && kl_apiserver_ready(w->f->s))
        kl_bootstrap_flow_control(w->f->s);
    if (w->rewrite)
        write_status(w);
}

void kl_fair_start(struct kl_fair *f)
{
    static const char *const masters[] = {"system:masters", NULL};
    struct kl_api_loop *al = &f->s->loops[0];
    struct kl_fair_follow *w = calloc(1, sizeof *w);
    if (f->o.off || !w ||
        !(w->client = kl_apiserver_client(f->s, al->loop, "system:apiserver", masters,
                                          "api-priority-and-fairness-config-consumer-v1"))) {
        free(w);
        return;
    }
    w->f = f;
    w->again.run = read_again;
    f->follow = w;
    uv_timer_init(kl_loop_uv(al->loop), &w->timer);
    uv_unref((uv_handle_t *)&w->timer);
    w->timer.data = w;
    uv_timer_start(&w->timer, on_tick, ADJUST_MS, ADJUST_MS);
    for (int i = 0; i < KINDS; i++)
        watch(w, i);
    read_later(w);
}

static void on_closed(uv_handle_t *h)
{
    struct kl_fair_follow *w = h->data;
    w->closed = true;
    maybe_free(w);
}

void kl_fair_stop(struct kl_fair *f)
{
    struct kl_fair_follow *w = f ? f->follow : NULL;
    if (!w)
        return;
    f->follow = NULL;
    for (int i = 0; i < KINDS; i++)
        kl_watcher_stop(w->watchers[i]);
    memset(w->watchers, 0, sizeof w->watchers);
    w->stopped = true;
    uv_close((uv_handle_t *)&w->timer, on_closed);
}
