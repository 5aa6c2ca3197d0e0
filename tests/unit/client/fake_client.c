// SPDX-License-Identifier: Apache-2.0
#include "fake_client.h"
#include "client/helpers.h"
#include "object/json.h"
#include "object/patch.h"
#include "object/selector.h"
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

struct pending {
    struct kl_timer timer;
    struct fake_client *client;
    struct kl_call *call;
    bool canceled;
};

struct queued_event {
    struct queued_event *next;
    enum kl_event_type type;
    struct kl_object *object;
};

struct watcher {
    struct watcher *next;
    struct kl_watch_call *call;
    struct fake_cluster *f;
    struct kl_timer timer;
    struct queued_event *head, **tail;
    int end_code; // 0: goes on
    struct kl_arena arena;
    struct kl_selector labels, fields;
};

struct fake_client {
    struct kl_client base;
    struct fake_cluster *f;
    char user[128];
};

struct counted {
    uint16_t res;
    enum kl_verb verb;
    char sub[16];
    size_t n;
};

struct fake_cluster {
    struct kl_timers *ts;
    struct kl_map objects; // "index/ns/name"
    struct watcher *watchers;
    int64_t rv, uids, names;
    bool refuse_streams;
    int (*hook)(void *, const char *, const struct kl_call *, struct kl_error *);
    void *hook_arg;
    struct counted counted[256];
    size_t ncounted;
};

#define KEY 600

static struct kl_str make_key(char buf[KEY], const struct kl_resource *res, struct kl_str ns,
                              struct kl_str name)
{
    int n = snprintf(buf, KEY, "%u/%.*s/%.*s", res->index, KL_PRI(ns), KL_PRI(name));
    assert_true(n < KEY);
    return (struct kl_str){buf, (size_t)n};
}

static struct kl_object *find(struct fake_cluster *f, const struct kl_resource *res,
                              struct kl_str ns, struct kl_str name)
{
    char buf[KEY];
    return kl_map_get(&f->objects, make_key(buf, res, ns, name));
}

// ---- watches

static bool selects(const struct watcher *w, const struct kl_value *root)
{
    const struct kl_watch_call *c = w->call;
    return (c->ns.n == 0 || kl_str_eq(c->ns, kl_meta_namespace(root))) &&
           kl_selector_matches(&w->labels, kl_meta_labels(root)) &&
           kl_field_selector_matches(c->res, &w->fields, root);
}

static void push(struct watcher *w, enum kl_event_type type, struct kl_object *o)
{
    struct queued_event *e = calloc(1, sizeof(*e));
    e->type = type;
    e->object = kl_object_ref(o);
    *w->tail = e;
    w->tail = &e->next;
    if (!kl_timer_is_set(&w->timer))
        kl_timer_after(w->f->ts, &w->timer, 1);
}

static void publish(struct fake_cluster *f, const struct kl_resource *res, struct kl_object *was,
                    struct kl_object *is)
{
    for (struct watcher *w = f->watchers; w; w = w->next) {
        if (w->call->res != res)
            continue;
        bool had = was && selects(w, &was->root), has = is && selects(w, &is->root);
        if (had && has)
            push(w, KL_EVENT_MODIFIED, is);
        else if (has)
            push(w, KL_EVENT_ADDED, is);
        else if (had)
            push(w, KL_EVENT_DELETED, is ? is : was);
    }
}

static void free_watcher(struct watcher *w)
{
    for (struct watcher **at = &w->f->watchers; *at; at = &(*at)->next) {
        if (*at == w) {
            *at = w->next;
            break;
        }
    }
    kl_timer_cancel(w->f->ts, &w->timer);
    while (w->head) {
        struct queued_event *e = w->head;
        w->head = e->next;
        kl_object_unref(e->object);
        free(e);
    }
    kl_arena_fini(&w->arena);
    free(w);
}

static void on_watch_timer(struct kl_timer *t)
{
    struct watcher *w = KL_CONTAINER_OF(t, struct watcher, timer);
    struct queued_event *e = w->head;
    if (!e) {
        struct kl_watch_call *call = w->call;
        kl_error_set(&call->err, w->end_code, "%s", kl_err_text(w->end_code));
        call->transport = NULL;
        free_watcher(w);
        call->end_cb(call);
        return;
    }
    w->head = e->next;
    if (!w->head)
        w->tail = &w->head;
    if (w->head || w->end_code)
        kl_timer_after(w->f->ts, &w->timer, 0);
    w->call->event_cb(w->call, e->type, e->object);
    kl_object_unref(e->object);
    free(e);
}

static void start_watch(struct kl_client *c, struct kl_watch_call *call)
{
    struct fake_cluster *f = ((struct fake_client *)c)->f;
    struct watcher *w = calloc(1, sizeof(*w));
    w->call = call;
    w->f = f;
    w->tail = &w->head;
    w->timer.cb = on_watch_timer;
    kl_arena_init(&w->arena, 1 << 20);
    assert_int_equal(kl_label_selector_parse(&w->arena, call->label_selector, &w->labels, NULL), 0);
    assert_int_equal(kl_field_selector_parse(&w->arena, call->field_selector, &w->fields, NULL), 0);
    call->transport = w;
    w->next = f->watchers;
    f->watchers = w;
    if (call->send_initial_events && f->refuse_streams) {
        w->end_code = KL_EINVALID;
        kl_timer_after(f->ts, &w->timer, 1);
        return;
    }
    if (!call->send_initial_events) {
        int64_t rv = 0;
        // This fake has no history: a watch must begin at the present.
        if (!kl_str_to_i64(call->resource_version, &rv) || rv < f->rv) {
            KL_MAP_EACH (&f->objects, e) {
                int64_t has;
                struct kl_object *o = e->value;
                uint16_t res = (uint16_t)strtoul(e->key.p, NULL, 10);
                kl_str_to_i64(kl_meta_rv(&o->root), &has);
                if (res == call->res->index && has > rv && selects(w, &o->root))
                    w->end_code = KL_EEXPIRED;
            }
        }
        if (w->end_code)
            kl_timer_after(f->ts, &w->timer, 1);
        return;
    }
    KL_MAP_EACH (&f->objects, e) {
        struct kl_object *o = e->value;
        if (strtoul(e->key.p, NULL, 10) == call->res->index && selects(w, &o->root))
            push(w, KL_EVENT_ADDED, o);
    }
    struct kl_arena a;
    kl_arena_init(&a, 1 << 16);
    struct kl_value root = kl_new_struct(), meta = kl_new_struct();
    kl_set_str(&a, &meta, KL_F_resourceVersion, kl_arena_printf(&a, "%lld", (long long)f->rv));
    kl_set(&a, &root, KL_F_metadata, meta);
    kl_set_annotation(&a, &root, "k8s.io/initial-events-end", KL_STR("true"));
    struct kl_object *mark = kl_object_freeze(call->res->type, &root);
    push(w, KL_EVENT_BOOKMARK, mark);
    kl_object_unref(mark);
    kl_arena_fini(&a);
}

static void stop_watch(struct kl_client *c, struct kl_watch_call *call)
{
    if (call->transport)
        free_watcher(call->transport);
    call->transport = NULL;
}

void fake_expire_watches(struct fake_cluster *f)
{
    for (struct watcher *w = f->watchers; w; w = w->next) {
        w->end_code = KL_EEXPIRED;
        if (!kl_timer_is_set(&w->timer))
            kl_timer_after(f->ts, &w->timer, 1);
    }
}

void fake_refuse_streams(struct fake_cluster *f)
{
    f->refuse_streams = true;
}

// ---- storing

static struct kl_value *meta_of(struct kl_arena *a, struct kl_value *root)
{
    return kl_edit(a, root, KL_F_metadata, KL_STRUCT);
}

// Stores a draft under a new version and tells the watchers. Returns it, borrowed.
static struct kl_object *store(struct fake_cluster *f, struct kl_arena *a,
                               const struct kl_resource *res, struct kl_value *draft)
{
    kl_set_str(a, meta_of(a, draft), KL_F_resourceVersion,
               kl_arena_printf(a, "%lld", (long long)++f->rv));
    struct kl_object *o = kl_object_freeze(res->type, draft);
    assert_non_null(o);
    char buf[KEY];
    void *was = NULL;
    struct kl_str key = make_key(buf, res, kl_meta_namespace(&o->root), kl_meta_name(&o->root));
    assert_int_equal(kl_map_set(&f->objects, key, o, &was), 0);
    publish(f, res, was, o);
    kl_object_unref(was);
    return o;
}

static void erase(struct fake_cluster *f, const struct kl_resource *res, struct kl_object *o)
{
    char buf[KEY];
    struct kl_arena a;
    kl_arena_init(&a, 1 << 20);
    kl_map_del(&f->objects,
               make_key(buf, res, kl_meta_namespace(&o->root), kl_meta_name(&o->root)));
    struct kl_value draft = kl_object_draft(o); // its last state has a version of its own
    kl_set_str(&a, meta_of(&a, &draft), KL_F_resourceVersion,
               kl_arena_printf(&a, "%lld", (long long)++f->rv));
    struct kl_object *last = kl_object_freeze(res->type, &draft);
    publish(f, res, last, NULL);
    kl_object_unref(last);
    kl_object_unref(o);
    kl_arena_fini(&a);
}

static int64_t now_s(const struct fake_cluster *f)
{
    return kl_timers_wall_us(f->ts) / 1000000 * 1000000;
}

static int create(struct fake_cluster *f, struct kl_arena *a, const struct kl_resource *res,
                  struct kl_value *draft, struct kl_object **ret, struct kl_error *err)
{
    struct kl_value *meta = meta_of(a, draft);
    struct kl_str ns = kl_meta_namespace(draft);
    if (!kl_meta_name(draft).n) {
        struct kl_str prefix = kl_text(kl_get(meta, KL_F_generateName));
        assert_true(prefix.n != 0);
        kl_set_str(a, meta, KL_F_name,
                   kl_arena_printf(a, "%.*s%05lld", KL_PRI(prefix), (long long)++f->names));
    }
    if (ns.n && res->namespaced) {
        const struct kl_object *o = find(f, kl_res(KL_RES_core_v1_namespaces), KL_STR(""), ns);
        if (o && kl_meta_deleting(&o->root))
            return kl_error_set(err, KL_EFORBIDDEN,
                                "%s \"%.*s\" is forbidden: unable to create new content in "
                                "namespace %.*s because it is being terminated",
                                res->plural, KL_PRI(kl_meta_name(draft)), KL_PRI(ns));
    }
    if (find(f, res, ns, kl_meta_name(draft)))
        return kl_error_set(err, KL_EEXISTS, "%s \"%.*s\" already exists", res->plural,
                            KL_PRI(kl_meta_name(draft)));
    if (!kl_meta_uid(draft).n)
        kl_set_str(a, meta, KL_F_uid, kl_arena_printf(a, "uid-%06lld", (long long)++f->uids));
    if (!kl_get(meta, KL_F_creationTimestamp))
        kl_set(a, meta, KL_F_creationTimestamp, kl_time(now_s(f)));
    if (!kl_get(meta, KL_F_generation))
        kl_set_int(a, meta, KL_F_generation, 1);
    if (res == kl_res(KL_RES_core_v1_pods)) {
        struct kl_value *status = kl_edit(a, draft, KL_F_status, KL_STRUCT);
        kl_set_default(a, status, KL_F_phase, kl_stringz("Pending"));
        struct kl_value *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
        kl_set_default(a, spec, KL_F_schedulerName, kl_stringz("default-scheduler"));
        kl_set_default(a, spec, KL_F_terminationGracePeriodSeconds, kl_int(30));
    }
    if (res == kl_res(KL_RES_core_v1_namespaces)) {
        struct kl_value *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
        struct kl_value list = kl_new_array();
        kl_append(a, &list, kl_stringz("kubernetes"));
        kl_set_default(a, spec, KL_F_finalizers, list);
        struct kl_value *status = kl_edit(a, draft, KL_F_status, KL_STRUCT);
        kl_set_default(a, status, KL_F_phase, kl_stringz("Active"));
    }
    *ret = store(f, a, res, draft);
    return 0;
}

static bool is_held(const struct kl_resource *res, const struct kl_value *root)
{
    return kl_len(kl_path(root, KL_F_metadata, KL_F_finalizers)) != 0 ||
           (res == kl_res(KL_RES_core_v1_namespaces) &&
            kl_len(kl_path(root, KL_F_spec, KL_F_finalizers)) != 0);
}

// `draft` becomes the stored object; what the subresource does not cover stays as it was.
static int update(struct fake_cluster *f, struct kl_arena *a, const struct kl_resource *res,
                  const char *sub, struct kl_value *draft, struct kl_object **ret,
                  struct kl_error *err)
{
    struct kl_str name = kl_meta_name(draft);
    struct kl_object *was = find(f, res, kl_meta_namespace(draft), name);
    if (!was)
        return kl_error_set(err, KL_ENOTFOUND, "%s \"%.*s\" not found", res->plural, KL_PRI(name));
    struct kl_str uid = kl_meta_uid(draft), rv = kl_meta_rv(draft);
    if ((uid.n && !kl_str_eq(uid, kl_meta_uid(&was->root))) ||
        (rv.n && !kl_str_eq(rv, kl_meta_rv(&was->root))))
        return kl_error_set(err, KL_ECONFLICT,
                            "Operation cannot be fulfilled on %s \"%.*s\": the object has been "
                            "modified; please apply your changes to the latest version and try "
                            "again",
                            res->plural, KL_PRI(name));
    bool is_status = sub && strcmp(sub, "status") == 0;
    const struct kl_value *spec = kl_get(&was->root, KL_F_spec);
    const struct kl_value *status = kl_get(&was->root, KL_F_status);
    if (is_status && spec)
        kl_set(a, draft, KL_F_spec, *spec);
    if (!sub && kl_type_field(res->type, KL_F_status)) {
        if (status)
            kl_set(a, draft, KL_F_status, *status);
        else
            kl_unset(a, draft, KL_F_status);
    }
    struct kl_value *meta = meta_of(a, draft);
    int64_t generation = kl_int_at(&was->root, 1, KL_F_metadata, KL_F_generation);
    if (!sub && !kl_value_equal(spec, kl_get(draft, KL_F_spec)))
        generation++;
    kl_set_int(a, meta, KL_F_generation, generation);
    struct kl_object *frozen = kl_object_freeze(res->type, draft);
    struct kl_value same = kl_object_draft(frozen);
    kl_set_str(a, meta_of(a, &same), KL_F_resourceVersion, kl_meta_rv(&was->root));
    bool unchanged = kl_value_equal(&same, &was->root);
    kl_object_unref(frozen);
    if (unchanged) {
        *ret = was;
        return 0;
    }
    struct kl_object *o = store(f, a, res, draft);
    if (kl_meta_deleting(&o->root) && !is_held(res, &o->root) &&
        kl_int_at(&o->root, 0, KL_F_metadata, KL_F_deletionGracePeriodSeconds) == 0) {
        kl_object_ref(o);
        erase(f, res, o);
        *ret = NULL;
        kl_object_unref(o);
        return 0;
    }
    *ret = o;
    return 0;
}

static void add_finalizer(struct kl_arena *a, struct kl_value *meta, const char *name)
{
    struct kl_value *list = kl_edit(a, meta, KL_F_finalizers, KL_ARRAY);
    for (KL_EACH(v, list)) {
        if (kl_str_eqz(kl_text(v), name))
            return;
    }
    kl_append(a, list, kl_stringz(name));
}

static int delete_one(struct fake_cluster *f, struct kl_arena *a, const struct kl_resource *res,
                      struct kl_object *was, const struct kl_call *call, struct kl_error *err)
{
    const struct kl_value *root = &was->root;
    if ((call->precondition_uid.n && !kl_str_eq(call->precondition_uid, kl_meta_uid(root))) ||
        (call->precondition_rv.n && !kl_str_eq(call->precondition_rv, kl_meta_rv(root))))
        return kl_error_set(err, KL_ECONFLICT, "Precondition failed");
    struct kl_value draft = kl_object_draft(was);
    struct kl_value *meta = meta_of(a, &draft);
    if (call->propagation == KL_PROPAGATE_ORPHAN)
        add_finalizer(a, meta, "orphan");
    if (call->propagation == KL_PROPAGATE_FOREGROUND)
        add_finalizer(a, meta, "foregroundDeletion");
    int64_t grace = 0;
    if (res == kl_res(KL_RES_core_v1_pods) && kl_text_at(root, KL_F_spec, KL_F_nodeName).n) {
        grace = kl_int_at(root, 30, KL_F_spec, KL_F_terminationGracePeriodSeconds);
        struct kl_str phase = kl_text_at(root, KL_F_status, KL_F_phase);
        if (kl_str_eqz(phase, "Succeeded") || kl_str_eqz(phase, "Failed"))
            grace = 0;
        if (call->grace_seconds >= 0)
            grace = call->grace_seconds;
    }
    if (grace == 0 && !is_held(res, &draft)) {
        erase(f, res, was);
        return 0;
    }
    if (kl_meta_deleting(root) && kl_len(kl_get(meta, KL_F_finalizers)) ==
                                      kl_len(kl_path(root, KL_F_metadata, KL_F_finalizers)))
        return 0;
    if (!kl_meta_deleting(root)) {
        kl_set(a, meta, KL_F_deletionTimestamp, kl_time(now_s(f) + grace * 1000000));
        kl_set_int(a, meta, KL_F_deletionGracePeriodSeconds, grace);
        kl_set_int(a, meta, KL_F_generation,
                   kl_int_at(root, 1, KL_F_metadata, KL_F_generation) + 1);
    }
    if (res == kl_res(KL_RES_core_v1_namespaces)) {
        struct kl_value *status = kl_edit(a, &draft, KL_F_status, KL_STRUCT);
        kl_set_z(a, status, KL_F_phase, "Terminating");
    }
    store(f, a, res, &draft);
    return 0;
}

static int patch(struct fake_cluster *f, struct kl_arena *a, const struct kl_call *call,
                 struct kl_object **ret, struct kl_error *err)
{
    const struct kl_resource *res = call->res;
    struct kl_object *was = find(f, res, call->ns, call->name);
    if (!was)
        return kl_error_set(err, KL_ENOTFOUND, "%s \"%.*s\" not found", res->plural,
                            KL_PRI(call->name));
    struct kl_value untyped, change, merged, draft;
    int rc = kl_untyped_from_typed(a, res->type, &was->root, &untyped);
    rc = rc < 0 ? rc : kl_json_parse(a, call->patch, NULL, &change, err);
    assert_int_equal(rc, 0);
    if (call->patch_type == KL_PATCH_STRATEGIC)
        rc = kl_patch_strategic(a, res->type, &untyped, &change, &merged, err);
    else if (call->patch_type == KL_PATCH_JSON)
        rc = kl_patch_json(a, &untyped, &change, &merged, err);
    else
        rc = kl_patch_merge(a, &untyped, &change, &merged, err);
    rc = rc < 0 ? rc : kl_typed_from_untyped(a, res->type, &merged, NULL, &draft, err);
    if (rc < 0)
        return rc;
    return update(f, a, res, call->sub, &draft, ret, err);
}

static int bind_pod(struct fake_cluster *f, struct kl_arena *a, const struct kl_call *call,
                    struct kl_error *err)
{
    struct kl_object *was = find(f, call->res, call->ns, call->name);
    if (!was)
        return kl_error_set(err, KL_ENOTFOUND, "pods \"%.*s\" not found", KL_PRI(call->name));
    if (kl_text_at(&was->root, KL_F_spec, KL_F_nodeName).n)
        return kl_error_set(err, KL_ECONFLICT, "pod %.*s is already assigned to node",
                            KL_PRI(call->name));
    struct kl_value draft = kl_object_draft(was);
    struct kl_value *spec = kl_edit(a, &draft, KL_F_spec, KL_STRUCT);
    kl_set_str(a, spec, KL_F_nodeName, kl_text_at(&call->body->root, KL_F_target, KL_F_name));
    struct kl_value *status = kl_edit(a, &draft, KL_F_status, KL_STRUCT);
    struct kl_value *conditions = kl_edit(a, status, KL_F_conditions, KL_ARRAY);
    struct kl_value c = kl_new_struct();
    kl_set_z(a, &c, KL_F_type, "PodScheduled");
    kl_set_z(a, &c, KL_F_status, "True");
    kl_set(a, &c, KL_F_lastTransitionTime, kl_time(now_s(f)));
    kl_condition_put(a, conditions, c);
    store(f, a, call->res, &draft);
    return 0;
}

// ---- calls

static int by_name(const void *pa, const void *pb)
{
    const struct kl_object *a = *(struct kl_object *const *)pa;
    const struct kl_object *b = *(struct kl_object *const *)pb;
    int c = kl_str_cmp(kl_meta_namespace(&a->root), kl_meta_namespace(&b->root));
    return c ? c : kl_str_cmp(kl_meta_name(&a->root), kl_meta_name(&b->root));
}

static struct kl_object **collect(struct fake_cluster *f, const struct kl_resource *res,
                                  struct kl_str ns, const struct kl_selector *labels,
                                  const struct kl_selector *fields, size_t *ret_n)
{
    struct kl_object **list = calloc(f->objects.n + 1, sizeof(struct kl_object *));
    size_t n = 0;
    KL_MAP_EACH (&f->objects, e) {
        struct kl_object *o = e->value;
        if (strtoul(e->key.p, NULL, 10) != res->index ||
            (ns.n && !kl_str_eq(ns, kl_meta_namespace(&o->root))) ||
            (labels && !kl_selector_matches(labels, kl_meta_labels(&o->root))) ||
            (fields && !kl_field_selector_matches(res, fields, &o->root)))
            continue;
        list[n++] = o;
    }
    qsort(list, n, sizeof(struct kl_object *), by_name);
    *ret_n = n;
    return list;
}

static struct kl_object **select_objects(struct fake_cluster *f, struct kl_arena *a,
                                         const struct kl_call *call, size_t *ret_n)
{
    struct kl_selector labels, fields;
    assert_int_equal(kl_label_selector_parse(a, call->label_selector, &labels, NULL), 0);
    assert_int_equal(kl_field_selector_parse(a, call->field_selector, &fields, NULL), 0);
    return collect(f, call->res, call->ns, &labels, &fields, ret_n);
}

static int do_list(struct fake_cluster *f, struct kl_call *call)
{
    call->items = select_objects(f, call->memory, call, &call->n_items);
    for (size_t i = 0; i < call->n_items; i++)
        kl_object_ref(call->items[i]);
    call->list_rv = kl_arena_printf(call->memory, "%lld", (long long)f->rv);
    return 0;
}

static int do_delete(struct fake_cluster *f, struct kl_call *call)
{
    struct kl_arena *a = call->memory;
    if (call->verb == KL_VERB_DELETE) {
        struct kl_object *o = find(f, call->res, call->ns, call->name);
        if (!o)
            return kl_error_set(&call->err, KL_ENOTFOUND, "%s \"%.*s\" not found",
                                call->res->plural, KL_PRI(call->name));
        return delete_one(f, a, call->res, o, call, &call->err);
    }
    size_t n;
    struct kl_object **list = select_objects(f, a, call, &n);
    for (size_t i = 0; i < n; i++)
        delete_one(f, a, call->res, list[i], call, &call->err);
    free(list);
    return 0;
}

static int do_write(struct fake_cluster *f, struct kl_call *call)
{
    struct kl_arena *a = call->memory;
    struct kl_object *result = NULL;
    int rc;
    if (call->verb == KL_VERB_PATCH) {
        rc = patch(f, a, call, &result, &call->err);
    } else if (call->sub && strcmp(call->sub, "binding") == 0) {
        return bind_pod(f, a, call, &call->err);
    } else {
        struct kl_value draft = kl_object_draft(call->body);
        struct kl_value *meta = meta_of(a, &draft);
        if (call->ns.n)
            kl_set_str(a, meta, KL_F_namespace, call->ns);
        rc = call->verb == KL_VERB_CREATE
                 ? create(f, a, call->res, &draft, &result, &call->err)
                 : update(f, a, call->res, call->sub, &draft, &result, &call->err);
    }
    call->object = kl_object_ref(result);
    return rc;
}

static void count_call(struct fake_cluster *f, const struct kl_call *call)
{
    const char *sub = call->sub ? call->sub : "";
    for (size_t i = 0; i < f->ncounted; i++) {
        struct counted *c = &f->counted[i];
        if (c->res == call->res->index && c->verb == call->verb && strcmp(c->sub, sub) == 0) {
            c->n++;
            return;
        }
    }
    assert_true(f->ncounted < KL_COUNT(f->counted));
    struct counted *c = &f->counted[f->ncounted++];
    c->res = call->res->index;
    c->verb = call->verb;
    c->n = 1;
    snprintf(c->sub, sizeof(c->sub), "%s", sub);
}

static void do_call(struct fake_client *client, struct kl_call *call)
{
    struct fake_cluster *f = client->f;
    call->memory = calloc(1, sizeof(*call->memory));
    kl_arena_init(call->memory, (size_t)64 << 20);
    count_call(f, call);
    int rc = f->hook ? f->hook(f->hook_arg, client->user, call, &call->err) : 0;
    if (rc == 0) {
        switch (call->verb) {
        case KL_VERB_GET: {
            struct kl_object *o = find(f, call->res, call->ns, call->name);
            call->object = kl_object_ref(o);
            if (!o)
                rc = kl_error_set(&call->err, KL_ENOTFOUND, "%s \"%.*s\" not found",
                                  call->res->plural, KL_PRI(call->name));
            break;
        }
        case KL_VERB_LIST:
            rc = do_list(f, call);
            break;
        case KL_VERB_DELETE:
        case KL_VERB_DELETECOLLECTION:
            rc = do_delete(f, call);
            break;
        default:
            rc = do_write(f, call);
        }
    }
    call->err.code = rc;
    call->http_status = rc ? kl_err_http(rc) : 200;
}

static void on_pending(struct kl_timer *t)
{
    struct pending *p = KL_CONTAINER_OF(t, struct pending, timer);
    struct kl_call *call = p->call;
    if (p->canceled)
        kl_error_set(&call->err, KL_ECANCELED, "canceled");
    else
        do_call(p->client, call);
    call->transport = NULL;
    free(p);
    call->done_cb(call);
}

static void start_call(struct kl_client *c, struct kl_call *call)
{
    struct pending *p = calloc(1, sizeof(*p));
    p->client = (struct fake_client *)c;
    p->call = call;
    p->timer.cb = on_pending;
    call->transport = p;
    kl_timer_after(p->client->f->ts, &p->timer, 1);
}

static void cancel_call(struct kl_client *c, struct kl_call *call)
{
    if (call->transport)
        ((struct pending *)call->transport)->canceled = true;
}

static void free_client(struct kl_client *c)
{
    free(c);
}

static const struct kl_client_ops ops = {
    .start = start_call,
    .cancel = cancel_call,
    .watch = start_watch,
    .watch_stop = stop_watch,
    .free = free_client,
};

struct kl_client *fake_client_new(struct fake_cluster *f, const char *user)
{
    struct fake_client *c = calloc(1, sizeof(*c));
    c->base.ops = &ops;
    c->base.user_agent = "fake";
    c->f = f;
    snprintf(c->user, sizeof(c->user), "%s", user);
    return &c->base;
}

struct kl_client *fake_client_for(void *arg, const char *user)
{
    return fake_client_new(arg, user);
}

struct fake_cluster *fake_cluster_new(struct kl_timers *ts)
{
    struct fake_cluster *f = calloc(1, sizeof(*f));
    f->ts = ts;
    f->rv = 1000;
    kl_map_init(&f->objects);
    return f;
}

void fake_cluster_free(struct fake_cluster *f)
{
    // What was cancelled ends with a call-back of its own.
    kl_timers_advance(f->ts, 10);
    while (f->watchers)
        free_watcher(f->watchers);
    KL_MAP_EACH (&f->objects, e)
        kl_object_unref(e->value);
    kl_map_fini(&f->objects);
    free(f);
}

void fake_on_call(struct fake_cluster *f,
                  int (*hook)(void *, const char *, const struct kl_call *, struct kl_error *),
                  void *arg)
{
    f->hook = hook;
    f->hook_arg = arg;
}

// ---- the test's hand

struct kl_object *fake_apply(struct fake_cluster *f, const char *json)
{
    struct kl_arena a;
    kl_arena_init(&a, (size_t)16 << 20);
    struct kl_str api_version, kind, group = KL_STR(""), version;
    struct kl_error err = {0};
    if (kl_json_peek_gvk(kl_str(json), &api_version, &kind) < 0)
        fail_msg("no apiVersion and kind in %s", json);
    version = api_version;
    ptrdiff_t slash = kl_str_chr(api_version, '/');
    if (slash >= 0) {
        group = (struct kl_str){api_version.p, (size_t)slash};
        version = kl_str_from(api_version, (size_t)slash + 1);
    }
    const struct kl_resource *res = kl_resource_by_kind(group, version, kind);
    for (uint16_t i = 0; !res && i < kl_nresources; i++) // what is not served by default
        if (kl_str_eqz(api_version, kl_res(i)->api_version) && kl_str_eqz(kind, kl_res(i)->kind))
            res = kl_res(i);
    if (!res)
        fail_msg("no resource %.*s %.*s", KL_PRI(api_version), KL_PRI(kind));
    struct kl_value draft;
    if (kl_json_decode(&a, res->type, kl_str(json), NULL, &draft, &err) < 0)
        fail_msg("%s in %s", err.msg, json);
    struct kl_object *was = find(f, res, kl_meta_namespace(&draft), kl_meta_name(&draft));
    struct kl_object *o = NULL;
    if (!was) {
        if (create(f, &a, res, &draft, &o, &err) < 0)
            fail_msg("%s", err.msg);
    } else {
        struct kl_value *meta = meta_of(&a, &draft);
        kl_set_str(&a, meta, KL_F_uid, kl_meta_uid(&was->root));
        kl_set(&a, meta, KL_F_creationTimestamp,
               *kl_path(&was->root, KL_F_metadata, KL_F_creationTimestamp));
        o = store(f, &a, res, &draft);
    }
    kl_arena_fini(&a);
    return o;
}

struct kl_object *fake_get(struct fake_cluster *f, const struct kl_resource *res, const char *ns,
                           const char *name)
{
    return find(f, res, kl_str(ns), kl_str(name));
}

void fake_patch(struct fake_cluster *f, const struct kl_resource *res, const char *ns,
                const char *name, const char *sub, const char *merge_patch)
{
    struct kl_arena a;
    struct kl_error err = {0};
    struct kl_object *o;
    kl_arena_init(&a, (size_t)16 << 20);
    struct kl_call call = {.verb = KL_VERB_PATCH,
                           .res = res,
                           .sub = sub,
                           .ns = kl_str(ns),
                           .name = kl_str(name),
                           .patch = kl_str(merge_patch),
                           .patch_type = KL_PATCH_MERGE};
    if (patch(f, &a, &call, &o, &err) < 0)
        fail_msg("patch of %s/%s: %s", ns, name, err.msg);
    kl_arena_fini(&a);
}

void fake_delete(struct fake_cluster *f, const struct kl_resource *res, const char *ns,
                 const char *name, enum kl_propagation propagation)
{
    struct kl_arena a;
    struct kl_error err = {0};
    kl_arena_init(&a, (size_t)16 << 20);
    struct kl_call call = {.grace_seconds = -1, .propagation = propagation};
    struct kl_object *o = find(f, res, kl_str(ns), kl_str(name));
    if (!o)
        fail_msg("%s %s/%s is not there to be deleted", res->plural, ns, name);
    assert_int_equal(delete_one(f, &a, res, o, &call, &err), 0);
    kl_arena_fini(&a);
}

void fake_remove(struct fake_cluster *f, const struct kl_resource *res, const char *ns,
                 const char *name)
{
    struct kl_object *o = find(f, res, kl_str(ns), kl_str(name));
    if (!o)
        fail_msg("%s %s/%s is not there to be removed", res->plural, ns, name);
    erase(f, res, o);
}

struct kl_object **fake_list(struct fake_cluster *f, const struct kl_resource *res, const char *ns,
                             size_t *ret_n)
{
    return collect(f, res, kl_str(ns), NULL, NULL, ret_n);
}

size_t fake_count(struct fake_cluster *f, const struct kl_resource *res, const char *ns)
{
    size_t n;
    free(fake_list(f, res, ns, &n));
    return n;
}

size_t fake_calls(const struct fake_cluster *f, enum kl_verb verb, const struct kl_resource *res,
                  const char *sub)
{
    for (size_t i = 0; i < f->ncounted; i++) {
        const struct counted *c = &f->counted[i];
        if (c->res == res->index && c->verb == verb && strcmp(c->sub, sub) == 0)
            return c->n;
    }
    return 0;
}

void fake_reset_calls(struct fake_cluster *f)
{
    f->ncounted = 0;
}

bool fake_has_event(struct fake_cluster *f, const char *name, const char *type, const char *reason,
                    const char *message)
{
    size_t n;
    bool found = false;
    struct kl_object **list = fake_list(f, kl_res(KL_RES_core_v1_events), "", &n);
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *e = &list[i]->root;
        found |= kl_str_eqz(kl_text_at(e, KL_F_involvedObject, KL_F_name), name) &&
                 kl_str_eqz(kl_text(kl_get(e, KL_F_type)), type) &&
                 kl_str_eqz(kl_text(kl_get(e, KL_F_reason)), reason) &&
                 kl_str_eqz(kl_text(kl_get(e, KL_F_message)), message);
    }
    if (!found) {
        print_message("no event %s %s \"%s\" about %s; there are:\n", type, reason, message, name);
        for (size_t i = 0; i < n; i++) {
            const struct kl_value *e = &list[i]->root;
            struct kl_str who = kl_text_at(e, KL_F_involvedObject, KL_F_name);
            struct kl_str why = kl_text(kl_get(e, KL_F_reason));
            struct kl_str text = kl_text(kl_get(e, KL_F_message));
            print_message("  %.*s %.*s \"%.*s\"\n", KL_PRI(who), KL_PRI(why), KL_PRI(text));
        }
    }
    free(list);
    return found;
}
