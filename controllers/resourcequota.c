// SPDX-License-Identifier: Apache-2.0
// Keeps status.hard and status.used of ResourceQuotas (upstream: pkg/controller/resourcequota). The
// API server charges what is created; here is counted anew what a quota's namespace holds: when the
// quota is new or changed, and when something it measures went or uses less.
//
// The quota is read first, then what it measures. Every charge changes the quota in the transaction
// that stores the object, so that a count which is written under the version that was read first
// misses nothing; a charge in between makes it a conflict, and it is counted again.
#include "base/clock.h"
#include "controllers/controllers_int.h"
#include "controllers/deletable.h"
#include "controllers/kinds.h"
#include "object/quota/quota.h"
#include <stdlib.h>

enum { WORKERS = 5 };

struct quotas;

// One resource that quotas may measure.
struct measured {
    struct quotas *c;
    const struct kl_resource *res;
    struct kl_quota_meter meter;
    struct kl_informer *informer; // of what can change its use, or
    struct kl_handler handler;
    struct kl_reflector *reflector; // of what only comes and goes; from the first quota on
    bool listed;
    bool gone; // a custom kind that is not served any more
};

struct quotas {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *quotas;
    struct kl_handler handler;
    int by_namespace;
    struct kl_arena arena; // the meters' names
    struct measured **measured;
    size_t n, cap;
    struct kl_kinds *kinds;
};

static const struct kl_resource *quota_res(void)
{
    return kl_res(KL_RES_core_v1_resourcequotas);
}

static bool measures(const struct measured *m, const struct kl_value *quota)
{
    if (m->gone)
        return false;
    for (KL_MAP_EACH_KEY(kv, kl_path(quota, KL_F_spec, KL_F_hard)))
        if (kl_quota_measures(&m->meter, kl_text(kv)))
            return true;
    return false;
}

// ---- one count: the quota, then everything that it measures

struct count {
    struct kl_action *quota, **lists;
    const struct measured **of;
    size_t n;
};

static void add_usage(struct kl_plan *p, struct kl_amounts *used, const struct measured *m,
                      const struct kl_value *spec, const struct kl_call *list)
{
    int64_t now_us = kl_wall_ms() * 1000;
    for (size_t i = 0; i < list->n_items; i++) {
        const struct kl_value *o = &list->items[i]->root;
        struct kl_amounts one;
        if (!kl_quota_in_scope(&m->meter, spec, o))
            continue;
        kl_quota_usage(&one, &p->arena, &m->meter, o, now_us);
        for (size_t k = 0; k < one.n; k++) // only what the quota is about
            if (kl_amounts_get(used, one.v[k].name))
                kl_amounts_add(used, one.v[k].name, &one.v[k].q);
        used->failed |= one.failed;
    }
}

static void write_status(struct kl_plan *p, const struct kl_value *quota, struct kl_amounts *used)
{
    struct kl_arena *a = &p->arena;
    struct kl_amounts hard, was, had;
    kl_amounts_read(&hard, a, kl_path(quota, KL_F_spec, KL_F_hard));
    kl_amounts_read(&was, a, kl_path(quota, KL_F_status, KL_F_hard));
    kl_amounts_read(&had, a, kl_path(quota, KL_F_status, KL_F_used));
    // What nobody measures keeps what it had.
    for (size_t i = 0; i < had.n; i++)
        if (kl_amounts_get(&hard, had.v[i].name) && !kl_amounts_get(used, had.v[i].name))
            kl_amounts_set(used, had.v[i].name, &had.v[i].q);
    bool first = !kl_path(quota, KL_F_status, KL_F_hard) || !kl_path(quota, KL_F_status, KL_F_used);
    if (!first && kl_amounts_equal(&hard, &was) && kl_amounts_equal(used, &had))
        return;
    struct kl_value draft = *quota, status = kl_new_struct(), h, u;
    draft.owned = 0;
    if (hard.failed || kl_amounts_write(&hard, &h) || kl_amounts_write(used, &u) ||
        kl_set(a, &status, KL_F_hard, h) || kl_set(a, &status, KL_F_used, u) ||
        kl_set(a, &draft, KL_F_status, status)) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    struct kl_action *w = kl_plan_write(p, KL_VERB_UPDATE, quota_res(), "status", &draft);
    if (w)
        w->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
}

static void after_lists(struct kl_plan *p)
{
    struct count *n = p->state;
    if (p->err.code)
        return;
    const struct kl_value *quota = &n->quota->call.items[0]->root;
    struct kl_amounts used = {.arena = &p->arena};
    const struct kl_quantity zero = {0};
    for (size_t i = 0; i < n->n; i++)
        for (KL_MAP_EACH_KEY(kv, kl_path(quota, KL_F_spec, KL_F_hard)))
            if (kl_quota_measures(&n->of[i]->meter, kl_text(kv)))
                kl_amounts_set(&used, kl_text(kv), &zero);
    for (size_t i = 0; i < n->n; i++)
        add_usage(p, &used, n->of[i], kl_get(quota, KL_F_spec), &n->lists[i]->call);
    write_status(p, quota, &used);
}

static void after_quota(struct kl_plan *p)
{
    struct count *n = p->state;
    struct quotas *c = p->arg;
    if (p->err.code || !n->quota->call.n_items)
        return;
    const struct kl_value *quota = &n->quota->call.items[0]->root;
    struct kl_str ns, name;
    kl_key_split(p->key, &ns, &name);
    n->lists = kl_arena_zalloc(&p->arena, c->n * sizeof *n->lists);
    n->of = kl_arena_zalloc(&p->arena, c->n * sizeof *n->of);
    if (!n->lists || !n->of) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    kl_plan_next_group(p);
    for (size_t i = 0; i < c->n; i++) {
        const struct measured *m = c->measured[i];
        if (!measures(m, quota))
            continue;
        struct kl_action *list = kl_plan_call(p, KL_VERB_LIST, m->res, NULL, ns, KL_STR(""));
        if (!list)
            return;
        n->of[n->n] = m;
        n->lists[n->n++] = list;
    }
    p->then = after_lists;
}

static void decide(struct kl_plan *p)
{
    struct quotas *c = p->arg;
    struct count *n = KL_ARENA_NEW(&p->arena, struct count);
    struct kl_str ns, name;
    if (!kl_informer_get_key(c->quotas, p->key))
        return;
    kl_key_split(p->key, &ns, &name);
    if (n) // its role lets it list, not get
        n->quota = kl_plan_call(p, KL_VERB_LIST, quota_res(), NULL, ns, KL_STR(""));
    if (!n || !n->quota) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    n->quota->call.field_selector = kl_arena_printf(&p->arena, "metadata.name=%.*s", KL_PRI(name));
    p->state = n;
    p->then = after_quota;
}

// ---- what makes it count

// Something of this resource went, or uses another amount.
static void recount(struct measured *m, struct kl_str ns)
{
    struct quotas *c = m->c;
    size_t n;
    struct kl_entry *const *list = kl_informer_index(c->quotas, c->by_namespace, ns, &n);
    for (size_t i = 0; i < n; i++)
        if (measures(m, &list[i]->object->root))
            kl_reconciler_add_object(c->reconciler, &list[i]->object->root);
}

static void on_remove(void *arg, struct kl_object *last)
{
    struct measured *m = arg;
    recount(m, kl_meta_namespace(&last->root));
}

static void on_upsert(void *arg, struct kl_object *o)
{
    (void)arg, (void)o; // what came was charged
}

static void on_begin(void *arg)
{
    (void)arg;
}

// After a list: what went while nobody watched is not told.
static void on_end(void *arg)
{
    struct measured *m = arg;
    size_t it = 0;
    struct kl_entry *e;
    bool again = m->listed;
    m->listed = true;
    while (again && (e = kl_informer_next(m->c->quotas, &it)))
        if (measures(m, &e->object->root))
            kl_reconciler_add(m->c->reconciler, e->key);
}

static void on_object_remove(struct kl_handler *h, struct kl_object *last)
{
    on_remove(h->arg, last);
}

static void on_object_update(struct kl_handler *h, struct kl_object *old, struct kl_object *now)
{
    struct measured *m = h->arg;
    struct kl_str ns = kl_meta_namespace(&now->root);
    struct kl_arena a;
    struct kl_amounts was, is;
    size_t n;
    kl_informer_index(m->c->quotas, m->c->by_namespace, ns, &n);
    if (!n)
        return;
    int64_t now_us = kl_wall_ms() * 1000;
    kl_arena_init(&a, 1 << 20);
    kl_quota_usage(&was, &a, &m->meter, &old->root, now_us);
    kl_quota_usage(&is, &a, &m->meter, &now->root, now_us);
    bool scope = m->meter.kind == KL_QUOTA_PODS &&
                 kl_quota_pod_terminating(&old->root) != kl_quota_pod_terminating(&now->root);
    if (scope || m->meter.kind == KL_QUOTA_CLAIMS || !kl_amounts_equal(&was, &is))
        recount(m, ns);
    kl_arena_fini(&a);
}

static void follow(struct measured *m)
{
    if (m->informer || m->reflector)
        return;
    m->reflector = kl_reflector_new(&(struct kl_reflector_opts){
        .client = m->c->env.client,
        .timers = m->c->env.timers,
        .res = m->res,
        .ns = KL_STR(""),
        .label_selector = KL_STR(""),
        .field_selector = KL_STR(""),
        .sink = {on_begin, on_upsert, on_remove, on_end, m},
    });
}

static void on_quota(struct kl_handler *h, struct kl_object *quota)
{
    struct quotas *c = h->arg;
    for (size_t i = 0; i < c->n; i++)
        if (measures(c->measured[i], &quota->root))
            follow(c->measured[i]);
    kl_reconciler_add_object(c->reconciler, &quota->root);
}

static void on_quota_update(struct kl_handler *h, struct kl_object *old, struct kl_object *quota)
{
    if (!kl_value_equal(kl_path(&old->root, KL_F_spec, KL_F_hard),
                        kl_path(&quota->root, KL_F_spec, KL_F_hard)) ||
        !kl_value_equal(kl_path(&quota->root, KL_F_spec, KL_F_hard),
                        kl_path(&quota->root, KL_F_status, KL_F_hard)))
        on_quota(h, quota);
}

// ---- start and stop

static void stop(void *self)
{
    struct quotas *c = self;
    kl_kinds_free(c->kinds);
    for (size_t i = 0; i < c->n; i++) {
        struct measured *m = c->measured[i];
        kl_reflector_free(m->reflector);
        if (m->informer)
            kl_informer_remove_handler(m->informer, &m->handler);
        free(m);
    }
    if (c->quotas)
        kl_informer_remove_handler(c->quotas, &c->handler);
    kl_reconciler_free(c->reconciler);
    kl_arena_fini(&c->arena);
    free(c->measured);
    free(c);
}

static int add_measured(struct quotas *c, const struct kl_resource *res)
{
    struct kl_quota_meter meter;
    if (!res->namespaced ||
        !kl_quota_meter_of(&c->arena, kl_str(res->group), kl_str(res->plural), &meter))
        return 0;
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        struct measured **more = realloc(c->measured, cap * sizeof(struct measured *));
        if (!more)
            return KL_ENOMEM;
        c->measured = more;
        c->cap = cap;
    }
    struct measured *m = calloc(1, sizeof *m);
    if (!m)
        return KL_ENOMEM;
    *m = (struct measured){.c = c, .res = res, .meter = meter};
    c->measured[c->n++] = m;
    if (!meter.count_name.p)
        return KL_ENOMEM;
    if (meter.kind == KL_QUOTA_COUNT)
        return 0;
    m->informer = kl_informers_get(c->env.informers, res);
    if (!m->informer)
        return KL_ENOMEM;
    m->handler =
        (struct kl_handler){.update = on_object_update, .remove = on_object_remove, .arg = m};
    kl_informer_add_handler(m->informer, &m->handler);
    return 0;
}

// A custom kind comes or goes: quotas that name it are counted.
static void on_kind(void *arg, const struct kl_resource *res, bool served)
{
    struct quotas *c = arg;
    struct kl_entry *e;
    size_t it = 0;
    for (size_t i = 0; i < c->n; i++) {
        struct measured *m = c->measured[i];
        if (m->res != res)
            continue;
        kl_reflector_free(m->reflector);
        m->reflector = NULL;
        m->gone = true;
    }
    if (!served || add_measured(c, res) || !c->n || c->measured[c->n - 1]->res != res)
        return;
    struct measured *m = c->measured[c->n - 1];
    while ((e = kl_informer_next(c->quotas, &it)))
        if (measures(m, &e->object->root)) {
            follow(m);
            kl_reconciler_add(c->reconciler, e->key);
        }
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    const uint32_t verbs =
        KL_VERB_BIT(KL_VERB_DELETE) | KL_VERB_BIT(KL_VERB_LIST) | KL_VERB_BIT(KL_VERB_WATCH);
    struct quotas *c = calloc(1, sizeof(*c));
    const struct kl_resource *res;
    uint16_t it = 0;
    int rc = 0;
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "resourcequota controller: out of memory");
    c->env = *env;
    kl_arena_init(&c->arena, 1 << 20);
    c->quotas = kl_informers_get(env->informers, quota_res());
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){
        .name = "resourcequota",
        .client = env->client,
        .timers = env->timers,
        .workers = WORKERS,
        .decide = decide,
        .arg = c,
    });
    if (!c->quotas || !c->reconciler ||
        (c->by_namespace = kl_informer_add_index(c->quotas, kl_index_namespace)) < 0 ||
        kl_reconciler_needs(c->reconciler, c->quotas) < 0)
        rc = KL_ENOMEM;
    while (!rc && (res = kl_deletable_next(&c->env, &it, verbs)))
        rc = add_measured(c, res);
    if (!rc)
        c->kinds = kl_kinds_new(&(struct kl_kinds_opts){
            .client = env->client, .timers = env->timers, .changed = on_kind, .arg = c});
    if (!c->kinds)
        rc = KL_ENOMEM;
    if (rc) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "resourcequota controller: out of memory");
    }
    c->handler = (struct kl_handler){.add = on_quota, .update = on_quota_update, .arg = c};
    kl_informer_add_handler(c->quotas, &c->handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct quotas *)self)->reconciler);
}

const struct kl_controller kl_resourcequota_controller = {
    .name = "resourcequota",
    .user = "system:serviceaccount:kube-system:resourcequota-controller",
    .component = "resourcequota-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
