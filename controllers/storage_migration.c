// SPDX-License-Identifier: Apache-2.0
// StorageVersionMigrations: rewrites all objects of a resource so that they are stored in today's
// version, encrypted with today's key (upstream: pkg/controller/storageversionmigrator). Runs only
// with the feature gate StorageVersionMigrator, which is off by default.
//
//   created ─▶ Running ─▶ resourceVersion ─▶ pages of objects patched with nothing ─▶ Succeeded
//   (one of a resource at a time)                                      └──────────▶ Failed
//   Running goes when it is over; a definition's storedVersions are then what is stored.
//
// Where upstream sends an apply without fields, this sends a merge patch with uid and
// resourceVersion alone: it changes nothing either, conflicts alike, and needs no apiVersion.
#include "base/map.h"
#include "controllers/controllers_int.h"
#include "controllers/deletable.h"
#include "controllers/kinds.h"
#include <stdlib.h>

enum { PAGE = 250, UNKNOWN_MS = 5000, PATIENCE_US = 60 * 1000000, WORKERS = 5 };

struct migrator {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *migrations;
    struct kl_handler handler;
    struct kl_kinds *kinds;
    struct kl_map places; // name → continue token of the page that is next
};

struct state {
    struct kl_object *migration;
    const struct kl_resource *res;
    struct kl_action *list, *definition;
    bool finishing;
};

static const struct kl_resource *migrations(void)
{
    return kl_res(KL_RES_storagemigration_v1beta1_storageversionmigrations);
}

static const struct kl_resource *definitions(void)
{
    return kl_res(KL_RES_apiextensions_v1_customresourcedefinitions);
}

// ---- conditions

static const struct kl_value *condition(const struct kl_value *root, const char *type)
{
    for (KL_EACH(c, kl_path(root, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_type)), type))
            return c;
    return NULL;
}

static bool is_true(const struct kl_value *root, const char *type)
{
    return kl_str_eqz(kl_text(kl_get(condition(root, type), KL_F_status)), "True");
}

static bool is_over(const struct kl_value *root)
{
    return is_true(root, "Succeeded") || is_true(root, "Failed");
}

static void no_memory(struct kl_plan *p)
{
    kl_error_set(&p->err, KL_ENOMEM, "out of memory");
}

// Sets one condition in a draft's status.
static struct kl_value *set_condition(struct kl_plan *p, struct kl_value *draft, const char *type,
                                      bool is, const char *reason, struct kl_str message,
                                      int64_t generation)
{
    const struct migrator *c = p->arg;
    struct kl_arena *a = &p->arena;
    struct kl_value list = kl_new_array(), x = kl_new_struct();
    for (KL_EACH(o, kl_path(draft, KL_F_status, KL_F_conditions)))
        if (!kl_str_eqz(kl_text(kl_get(o, KL_F_type)), type))
            kl_append(a, &list, *o);
    kl_set_z(a, &x, KL_F_type, type);
    kl_set_z(a, &x, KL_F_status, is ? "True" : "False");
    kl_set(a, &x, KL_F_lastTransitionTime,
           kl_time(kl_timers_wall_us(c->env.timers) / 1000000 * 1000000));
    kl_set_z(a, &x, KL_F_reason, reason);
    kl_set(a, &x, KL_F_message, kl_string(message));
    if (generation)
        kl_set(a, &x, KL_F_observedGeneration, kl_int(generation));
    kl_append(a, &list, x);
    struct kl_value *st = kl_edit(a, draft, KL_F_status, KL_STRUCT);
    if (!st || kl_set(a, st, KL_F_conditions, list)) {
        no_memory(p);
        return NULL;
    }
    return st;
}

static void write_status(struct kl_plan *p, const struct kl_resource *res, struct kl_value *draft)
{
    struct kl_action *w = kl_plan_write(p, KL_VERB_UPDATE, res, "status", draft);
    if (w)
        w->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
}

static void say(struct kl_plan *p, struct kl_object *o, const char *type, bool is,
                const char *reason, struct kl_str message)
{
    struct kl_value draft = kl_object_draft(o);
    if (set_condition(p, &draft, type, is, reason, message, 0))
        write_status(p, migrations(), &draft);
}

static void fail(struct kl_plan *p, struct kl_object *o, struct kl_str why)
{
    p->err = (struct kl_error){0}; // said in the status, not tried again
    say(p, o, "Failed", true, "StorageVersionMigrationFailed",
        kl_arena_printf(&p->arena, "migration encountered unhandled error: %.*s", KL_PRI(why)));
}

// ---- which resource

static const struct kl_resource *find_resource(const struct migrator *c, const struct kl_value *m)
{
    struct kl_str group = kl_text_at(m, KL_F_spec, KL_F_resource, KL_F_group);
    struct kl_str plural = kl_text_at(m, KL_F_spec, KL_F_resource, KL_F_resource);
    const uint32_t needed = KL_VERB_BIT(KL_VERB_LIST) | KL_VERB_BIT(KL_VERB_PATCH);
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *r = &kl_resources[i];
        if (r->etcd_prefix && (r->verbs & needed) == needed && kl_is_served_kind(&c->env, r) &&
            kl_str_eqz(group, r->group) && kl_str_eqz(plural, r->plural))
            return r;
    }
    size_t it = 0;
    for (const struct kl_resource *r; (r = kl_kinds_next(c->kinds, &it));)
        if (kl_kind_is_custom(r) && kl_str_eqz(group, r->group) && kl_str_eqz(plural, r->plural))
            return r;
    return NULL;
}

static bool same_resource(const struct kl_value *a, const struct kl_value *b)
{
    const struct kl_value *x = kl_path(a, KL_F_spec, KL_F_resource);
    const struct kl_value *y = kl_path(b, KL_F_spec, KL_F_resource);
    return kl_str_eq(kl_text(kl_get(x, KL_F_group)), kl_text(kl_get(y, KL_F_group))) &&
           kl_str_eq(kl_text(kl_get(x, KL_F_resource)), kl_text(kl_get(y, KL_F_resource)));
}

// Whether another of the resource runs, or waits for longer.
static bool is_behind(const struct migrator *c, const struct kl_value *m)
{
    int64_t since = kl_int_at(m, 0, KL_F_metadata, KL_F_creationTimestamp);
    size_t it = 0;
    for (struct kl_entry *e; (e = kl_informer_next(c->migrations, &it));) {
        const struct kl_value *o = &e->object->root;
        int64_t t = kl_int_at(o, 0, KL_F_metadata, KL_F_creationTimestamp);
        if (kl_str_eq(kl_meta_name(o), kl_meta_name(m)) || !same_resource(o, m))
            continue;
        if (is_true(o, "Running") && !is_over(o))
            return true;
        if (!is_over(o) &&
            (t < since || (t == since && kl_str_cmp(kl_meta_name(o), kl_meta_name(m)) < 0)))
            return true;
    }
    return false;
}

// ---- the definition of a custom resource

static void begin_or_finish(struct kl_plan *p, const struct state *s)
{
    if (s->finishing)
        say(p, s->migration, "Running", false, "MigrationCompleted", KL_STR("Migration completed"));
    else
        say(p, s->migration, "Running", true, "MigrationRunning",
            KL_STR("The migration is running"));
}

static void take_stored_version(struct kl_plan *p, const struct kl_value *crd, struct kl_value *st)
{
    struct kl_value list = kl_new_array();
    for (KL_EACH(v, kl_path(crd, KL_F_spec, KL_F_versions)))
        if (kl_is_true(kl_get(v, KL_F_storage)) &&
            kl_append(&p->arena, &list, kl_string(kl_text(kl_get(v, KL_F_name)))))
            no_memory(p);
    if (kl_set(&p->arena, st, KL_F_storedVersions, list))
        no_memory(p);
}

static void write_definition(struct kl_plan *p, const struct state *s, struct kl_object *crd)
{
    const struct kl_value *root = &crd->root, *was = condition(root, "StorageMigrating");
    int64_t generation = kl_int_at(root, 0, KL_F_metadata, KL_F_generation);
    // Only if nothing was changed about it meanwhile.
    bool same = was && kl_int_or(kl_get(was, KL_F_observedGeneration), 0) == generation;
    bool well = is_true(&s->migration->root, "Succeeded");
    struct kl_value draft = kl_object_draft(kl_plan_hold(p, crd)), *st;
    if (!s->finishing)
        st = set_condition(p, &draft, "StorageMigrating", true, "MigrationRunning",
                           kl_arena_printf(&p->arena, "Migration %.*s is running",
                                           KL_PRI(kl_meta_name(&s->migration->root))),
                           generation);
    else if (!well)
        st = set_condition(p, &draft, "StorageMigrating", false, "MigrationFailed",
                           KL_STR("The migration has failed"), generation);
    else
        st = set_condition(
            p, &draft, "StorageMigrating", false, "MigrationSucceeded",
            same ? KL_STR("The migration has succeeded and the stored versions have been updated")
                 : KL_STR("The migration has succeeded but the stored versions have not been "
                          "updated due to a generation mismatch"),
            generation);
    if (st && s->finishing && well && same)
        take_stored_version(p, root, st);
    if (st)
        write_status(p, definitions(), &draft);
}

static void after_definition(struct kl_plan *p)
{
    struct state *s = p->state;
    if (p->err.code)
        return;
    if (s->definition->call.object) {
        write_definition(p, s, s->definition->call.object);
        kl_plan_next_group(p);
    }
    begin_or_finish(p, s);
}

static void with_definition(struct kl_plan *p, struct state *s)
{
    const struct kl_value *r = kl_path(&s->migration->root, KL_F_spec, KL_F_resource);
    struct kl_str group = kl_text(kl_get(r, KL_F_group));
    struct kl_str name = kl_arena_printf(&p->arena, "%.*s.%.*s",
                                         KL_PRI(kl_text(kl_get(r, KL_F_resource))), KL_PRI(group));
    if (!group.n) {
        begin_or_finish(p, s);
        return;
    }
    s->definition = kl_plan_call(p, KL_VERB_GET, definitions(), NULL, KL_STR(""), name);
    if (s->definition)
        s->definition->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    p->then = after_definition;
}

// ---- objects

static void after_patches(struct kl_plan *p)
{
    struct migrator *c = p->arg;
    struct state *s = p->state;
    int code = p->err.code;
    struct kl_str next = s->list->call.list_continue;
    bool again = code == KL_ETOOMANY || code == KL_EUNAVAILABLE || code == KL_ETIMEOUT ||
                 code == KL_EINTERNAL || code == KL_ECANCELED || code == KL_ENOMEM;
    if (again)
        return; // the page comes again, later
    void *was = kl_map_del(&c->places, p->key);
    free(was);
    if (code) {
        fail(p, s->migration, kl_arena_dup(&p->arena, kl_str(p->err.msg)));
    } else if (next.n) {
        char *place = strndup(next.p, next.n);
        if (!place || kl_map_set(&c->places, p->key, place, NULL)) {
            free(place);
            no_memory(p);
        }
        kl_plan_requeue(p, 0);
    } else {
        say(p, s->migration, "Succeeded", true, "StorageVersionMigrationSucceeded", KL_STR(""));
    }
}

static void patch(struct kl_plan *p, const struct state *s, const struct kl_value *o)
{
    struct kl_str uid = kl_meta_uid(o), rv = kl_meta_rv(o);
    struct kl_action *x =
        kl_plan_call(p, KL_VERB_PATCH, s->res, NULL, kl_meta_namespace(o), kl_meta_name(o));
    if (!x)
        return;
    // Changed or gone meanwhile: nothing is left to be done.
    x->ok_errors = KL_OK_ERROR(KL_ECONFLICT) | KL_OK_ERROR(KL_ENOTFOUND);
    x->call.patch_type = KL_PATCH_MERGE;
    x->call.patch =
        kl_arena_printf(&p->arena, "{\"metadata\":{\"uid\":\"%.*s\",\"resourceVersion\":\"%.*s\"}}",
                        KL_PRI(uid), KL_PRI(rv));
    if (!x->call.patch.p)
        no_memory(p);
}

static void after_page(struct kl_plan *p)
{
    struct migrator *c = p->arg;
    struct state *s = p->state;
    int64_t until = 0, rv;
    if (p->err.code) { // a page that has expired: from the start, what is done stays done
        free(kl_map_del(&c->places, p->key));
        return;
    }
    kl_str_to_i64(kl_text_at(&s->migration->root, KL_F_status, KL_F_resourceVersion), &until);
    for (size_t i = 0; i < s->list->call.n_items && !p->err.code; i++) {
        const struct kl_value *o = &s->list->call.items[i]->root;
        if (kl_str_to_i64(kl_meta_rv(o), &rv) && rv <= until)
            patch(p, s, o);
    }
    p->then = after_patches;
}

static void after_first(struct kl_plan *p)
{
    struct state *s = p->state;
    if (p->err.code)
        return;
    struct kl_value draft = kl_object_draft(s->migration);
    struct kl_value *st = kl_edit(&p->arena, &draft, KL_F_status, KL_STRUCT);
    if (!st || kl_set(&p->arena, st, KL_F_resourceVersion,
                      kl_string(kl_arena_dup(&p->arena, s->list->call.list_rv))))
        no_memory(p);
    else
        write_status(p, migrations(), &draft);
}

static void list(struct kl_plan *p, struct state *s)
{
    const struct migrator *c = p->arg;
    const struct kl_value *m = &s->migration->root;
    bool known = kl_text_at(m, KL_F_status, KL_F_resourceVersion).n;
    const char *place = known ? kl_map_get(&c->places, p->key) : NULL;
    if (!(s->res = find_resource(c, m))) { // it may be on its way
        if (kl_timers_wall_us(c->env.timers) -
                kl_int_at(m, 0, KL_F_metadata, KL_F_creationTimestamp) <
            PATIENCE_US)
            kl_plan_requeue(p, UNKNOWN_MS);
        else
            say(p, s->migration, "Failed", true, "StorageVersionMigrationFailed",
                KL_STR("resource does not exist in discovery"));
        return;
    }
    if (!(s->list = kl_plan_call(p, KL_VERB_LIST, s->res, NULL, KL_STR(""), KL_STR(""))))
        return;
    s->list->call.limit = known ? PAGE : 1;
    if (place)
        s->list->call.cont = kl_arena_dup(&p->arena, kl_str(place));
    p->then = known ? after_page : after_first;
}

// ---- the queue

static void decide(struct kl_plan *p)
{
    struct migrator *c = p->arg;
    struct kl_object *o = kl_informer_get_key(c->migrations, p->key);
    struct state *s = KL_ARENA_NEW(&p->arena, struct state);
    if (!s) {
        no_memory(p);
        return;
    }
    if (!o) {
        free(kl_map_del(&c->places, p->key));
        return;
    }
    p->state = s;
    s->migration = kl_plan_hold(p, o);
    s->finishing = is_over(&o->root);
    if (s->finishing ? is_true(&o->root, "Running")
                     : !is_true(&o->root, "Running") && !is_behind(c, &o->root))
        with_definition(p, s);
    else if (!s->finishing && is_true(&o->root, "Running"))
        list(p, s);
}

// One that is over or gone lets others of its resource begin; there are few of them.
static void on_change(struct kl_handler *h, struct kl_object *o)
{
    struct migrator *c = h->arg;
    size_t it = 0;
    kl_reconciler_add_object(c->reconciler, &o->root);
    for (struct kl_entry *e; (e = kl_informer_next(c->migrations, &it));)
        if (same_resource(&e->object->root, &o->root))
            kl_reconciler_add(c->reconciler, e->key);
}

static void on_update(struct kl_handler *h, struct kl_object *old, struct kl_object *o)
{
    (void)old;
    on_change(h, o);
}

static void stop(void *self)
{
    struct migrator *c = self;
    if (c->migrations)
        kl_informer_remove_handler(c->migrations, &c->handler);
    kl_reconciler_free(c->reconciler);
    kl_kinds_free(c->kinds);
    KL_MAP_EACH (&c->places, e)
        free(e->value);
    kl_map_fini(&c->places);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct migrator *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "storage-version-migrator: out of memory");
    c->env = *env;
    kl_map_init(&c->places);
    c->migrations = kl_informers_get(env->informers, migrations());
    c->reconciler =
        kl_reconciler_new(&(struct kl_reconciler_opts){.name = "storage-version-migrator",
                                                       .client = env->client,
                                                       .timers = env->timers,
                                                       .recorder = env->recorder,
                                                       .workers = WORKERS,
                                                       .decide = decide,
                                                       .arg = c});
    c->kinds = kl_kinds_new(&(struct kl_kinds_opts){.client = env->client, .timers = env->timers});
    if (!c->migrations || !c->reconciler || !c->kinds ||
        kl_reconciler_needs(c->reconciler, c->migrations) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "storage-version-migrator: out of memory");
    }
    c->handler =
        (struct kl_handler){.add = on_change, .update = on_update, .remove = on_change, .arg = c};
    kl_informer_add_handler(c->migrations, &c->handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct migrator *)self)->reconciler);
}

// Upstream binds a role of its own when the gate is on; what it allows is among what the garbage
// collector may.
const struct kl_controller kl_svm_controller = {
    .name = "storage-version-migrator",
    .user = "system:serviceaccount:kube-system:generic-garbage-collector",
    .component = "storage-version-migrator-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
