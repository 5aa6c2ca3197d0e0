// SPDX-License-Identifier: Apache-2.0
// The garbage collector (upstream: pkg/controller/garbagecollector): deletes what nobody owns any
// more (background), lets an owner wait for its dependents (foreground), sets dependents free
// (orphan). The graph is built from watches of everything; what is decided is checked against the
// live object first and written under its uid and version.
#include "base/log.h"
#include "controllers/controllers_int.h"
#include "controllers/deletable.h"
#include "controllers/finalizer.h"
#include "controllers/graph.h"
#include "controllers/kinds.h"
#include "object/json.h"
#include <stdlib.h>

enum { WORKERS = 20, UNKNOWN_KIND_MS = 30000, UNSEEN_MS = 1000 };

struct collector;

struct monitor {
    struct collector *c;
    const struct kl_resource *res;
    struct kl_reflector *reflector;
    uint32_t generation;
    bool listed, late; // late: of a kind that came while the collector ran
    struct monitor *next;
};

struct collector {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_gc_graph graph;
    struct monitor *monitors;
    struct kl_kinds *kinds;
    size_t unlisted;
};

// One look at one node; the plan's state.
struct look {
    struct kl_action *get, **owner_gets;
    struct kl_action **dependents; // custom ones whose references are to be changed
    size_t ndependents;
    const struct kl_value *latest; // the live object; nodes are found anew in each step
};

static struct kl_gc_node *find_node(struct kl_plan *p)
{
    struct collector *c = p->arg;
    return kl_gc_find(&c->graph, kl_str_from(p->key, 1));
}

// ---- what is written

static void plan_remove_finalizer(struct kl_plan *p, const struct kl_gc_node *n,
                                  const struct kl_value *latest, const char *finalizer)
{
    if (!kl_has_finalizer(latest, finalizer))
        return;
    struct kl_arena *a = &p->arena;
    struct kl_str list = {"", 0}, rv = kl_meta_rv(latest);
    for (KL_EACH(f, kl_path(latest, KL_F_metadata, KL_F_finalizers))) {
        struct kl_str name = kl_text(f); // a qualified name: nothing in it needs an escape
        if (!kl_str_eqz(name, finalizer))
            list =
                kl_arena_printf(a, "%.*s%s\"%.*s\"", KL_PRI(list), list.n ? "," : "", KL_PRI(name));
    }
    struct kl_action *act = kl_plan_call(p, KL_VERB_PATCH, n->res, NULL, kl_meta_namespace(latest),
                                         kl_meta_name(latest));
    if (!act)
        return;
    act->call.patch_type = KL_PATCH_MERGE;
    act->call.patch =
        kl_arena_printf(a, "{\"metadata\":{\"resourceVersion\":\"%.*s\",\"finalizers\":[%.*s]}}",
                        KL_PRI(rv), KL_PRI(list));
    act->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
}

static struct kl_str strike_reference(struct kl_arena *a, struct kl_str list, struct kl_str uid)
{
    return kl_arena_printf(a, "%.*s%s{\"$patch\":\"delete\",\"uid\":\"%.*s\"}", KL_PRI(list),
                           list.n ? "," : "", KL_PRI(uid));
}

// Custom resources take no strategic patch: the list as it should be, without those whose uid
// stands in the strategic text or, to unblock, all of them blocking nothing.
static struct kl_action *plan_reference_merge(struct kl_plan *p, const struct kl_resource *res,
                                              const struct kl_value *latest, struct kl_str struck,
                                              bool unblock)
{
    struct kl_value refs = kl_new_array();
    struct kl_buf b;
    for (KL_EACH(ref, kl_path(latest, KL_F_metadata, KL_F_ownerReferences))) {
        struct kl_str uid = kl_text(kl_get(ref, KL_F_uid));
        if (!unblock && memmem(struck.p, struck.n, uid.p, uid.n))
            continue;
        struct kl_value kept = *ref;
        kept.owned = 0;
        if ((unblock && kl_unset(&p->arena, &kept, KL_F_blockOwnerDeletion)) ||
            kl_append(&p->arena, &refs, kept)) {
            kl_error_set(&p->err, KL_ENOMEM, "out of memory");
            return NULL;
        }
    }
    kl_buf_init(&b, 1 << 20);
    kl_buf_printf(&b,
                  "{\"metadata\":{\"resourceVersion\":\"%.*s\",\"uid\":\"%.*s\","
                  "\"ownerReferences\":[",
                  KL_PRI(kl_meta_rv(latest)), KL_PRI(kl_meta_uid(latest)));
    for (size_t i = 0; i < refs.n; i++) {
        if (i)
            kl_buf_putc(&b, ',');
        kl_json_encode(&b, kl_type(KL_TYPE_meta_v1_OwnerReference), &refs.items[i], KL_STR(""));
    }
    kl_buf_puts(&b, KL_STR("]}}"));
    struct kl_action *act =
        kl_plan_call(p, KL_VERB_PATCH, res, NULL, kl_meta_namespace(latest), kl_meta_name(latest));
    if (act) {
        act->call.patch_type = KL_PATCH_MERGE;
        act->call.patch = kl_arena_dup(&p->arena, kl_buf_str(&b));
        act->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    }
    kl_buf_fini(&b);
    return act;
}

static struct kl_action *plan_reference_patch(struct kl_plan *p, const struct kl_resource *res,
                                              struct kl_str ns, struct kl_str name,
                                              struct kl_str uid, struct kl_str references)
{
    struct kl_action *act = kl_plan_call(p, KL_VERB_PATCH, res, NULL, ns, name);
    if (!act)
        return NULL;
    act->call.patch_type = KL_PATCH_STRATEGIC;
    act->call.patch =
        kl_arena_printf(&p->arena, "{\"metadata\":{\"ownerReferences\":[%.*s],\"uid\":\"%.*s\"}}",
                        KL_PRI(references), KL_PRI(uid));
    act->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    return act;
}

static void plan_delete(struct kl_plan *p, const struct kl_gc_node *n,
                        const struct kl_value *latest, enum kl_propagation policy)
{
    struct kl_action *act = kl_plan_call(p, KL_VERB_DELETE, n->res, NULL, kl_meta_namespace(latest),
                                         kl_meta_name(latest));
    if (!act)
        return;
    act->call.propagation = policy;
    act->call.precondition_uid = kl_meta_uid(latest);
    act->call.precondition_rv = kl_meta_rv(latest);
    act->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
}

// ---- judging one object

enum verdict { SOLID, DANGLING, WAITING };

static enum verdict judge(const struct kl_gc_node *owner, const struct kl_action *get,
                          const struct kl_value *ref, bool misplaced)
{
    if (misplaced || (owner && owner->gone))
        return DANGLING;
    if (owner && !owner->virtual)
        return owner->deleting_dependents ? WAITING : SOLID;
    if (!get)
        return SOLID; // of a kind that is not served: nobody can say
    if (get->call.err.code == KL_ENOTFOUND)
        return DANGLING;
    const struct kl_object *o = get->call.object;
    if (!o || !kl_str_eq(kl_meta_uid(&o->root), kl_text(kl_get(ref, KL_F_uid))))
        return DANGLING;
    return kl_meta_deleting(&o->root) && kl_has_finalizer(&o->root, "foregroundDeletion") ? WAITING
                                                                                          : SOLID;
}

// A ring of objects that wait for each other is opened where it was found.
static void plan_unblock(struct kl_plan *p, const struct kl_gc_node *n,
                         const struct kl_value *latest)
{
    struct kl_str list = {"", 0};
    for (KL_EACH(ref, kl_path(latest, KL_F_metadata, KL_F_ownerReferences))) {
        if (!kl_is_true(kl_get(ref, KL_F_blockOwnerDeletion)))
            continue;
        struct kl_str uid = kl_text(kl_get(ref, KL_F_uid));
        list = kl_arena_printf(&p->arena, "%.*s%s{\"uid\":\"%.*s\",\"blockOwnerDeletion\":false}",
                               KL_PRI(list), list.n ? "," : "", KL_PRI(uid));
    }
    if (list.n) {
        if (kl_kind_is_custom(n->res))
            plan_reference_merge(p, n->res, latest, list, true);
        else
            plan_reference_patch(p, n->res, kl_meta_namespace(latest), kl_meta_name(latest),
                                 kl_meta_uid(latest), list);
        kl_plan_requeue(p, 0); // deleted with its new version then
    }
}

static bool has_waiting_dependent(const struct kl_gc_node *n)
{
    for (uint32_t i = 0; i < n->ndependents; i++) {
        if (n->dependents[i]->deleting_dependents)
            return true;
    }
    return false;
}

static bool blocks_any(const struct kl_value *latest)
{
    for (KL_EACH(ref, kl_path(latest, KL_F_metadata, KL_F_ownerReferences))) {
        if (kl_is_true(kl_get(ref, KL_F_blockOwnerDeletion)))
            return true;
    }
    return false;
}

static const struct kl_gc_owner *edge_of(const struct kl_gc_node *n, struct kl_str uid)
{
    for (uint32_t i = 0; i < n->nowners; i++) {
        if (kl_str_eq(n->owners[i].node->uid, uid))
            return &n->owners[i];
    }
    return NULL;
}

static void judge_item(struct kl_plan *p)
{
    struct look *l = p->state;
    struct collector *c = p->arg;
    const struct kl_gc_node *n = find_node(p);
    if (p->err.code || !n || n->virtual)
        return;
    size_t solid = 0, waiting = 0, i = 0;
    struct kl_str struck = {"", 0};
    for (KL_EACH(ref, kl_path(l->latest, KL_F_metadata, KL_F_ownerReferences))) {
        struct kl_str uid = kl_text(kl_get(ref, KL_F_uid));
        const struct kl_gc_owner *edge = edge_of(n, uid);
        const struct kl_gc_node *owner = edge ? edge->node : kl_gc_find(&c->graph, uid);
        switch (judge(owner, l->owner_gets[i++], ref, edge && edge->misplaced)) {
        case SOLID:
            solid++;
            break;
        case WAITING:
            waiting++;
            struck = strike_reference(&p->arena, struck, uid);
            break;
        case DANGLING:
            struck = strike_reference(&p->arena, struck, uid);
            break;
        }
    }
    if (solid) {
        if (struck.n && kl_kind_is_custom(n->res))
            plan_reference_merge(p, n->res, l->latest, struck, false);
        else if (struck.n)
            plan_reference_patch(p, n->res, kl_meta_namespace(l->latest), kl_meta_name(l->latest),
                                 n->uid, struck);
        return;
    }
    if (waiting && n->ndependents) {
        if (has_waiting_dependent(n) && blocks_any(l->latest))
            plan_unblock(p, n, l->latest);
        else
            plan_delete(p, n, l->latest, KL_PROPAGATE_FOREGROUND);
        return;
    }
    enum kl_propagation policy = kl_has_finalizer(l->latest, "orphan") ? KL_PROPAGATE_ORPHAN
                                 : kl_has_finalizer(l->latest, "foregroundDeletion")
                                     ? KL_PROPAGATE_FOREGROUND
                                     : KL_PROPAGATE_BACKGROUND;
    plan_delete(p, n, l->latest, policy);
}

// An owner in foreground deletion: ends when nobody blocks it, else its dependents are next.
static void go_on_deleting(struct kl_plan *p, struct kl_gc_node *n, const struct kl_value *latest)
{
    struct collector *c = p->arg;
    bool blocked = false;
    for (uint32_t i = 0; i < n->ndependents; i++) {
        struct kl_gc_node *d = n->dependents[i];
        if (!kl_gc_blocks(d, n))
            continue;
        blocked = true;
        if (!d->deleting_dependents)
            c->graph.attempt(c, d);
    }
    if (!blocked)
        plan_remove_finalizer(p, n, latest, "foregroundDeletion");
}

static void look_at_owners(struct kl_plan *p, struct look *l, const struct kl_gc_node *n)
{
    struct collector *c = p->arg;
    const struct kl_value *refs = kl_path(l->latest, KL_F_metadata, KL_F_ownerReferences);
    l->owner_gets = kl_arena_zalloc(&p->arena, (kl_len(refs) + 1) * sizeof(*l->owner_gets));
    if (!l->owner_gets || !kl_len(refs))
        return;
    size_t i = 0;
    for (KL_EACH(ref, refs)) {
        const struct kl_gc_node *owner = kl_gc_find(&c->graph, kl_text(kl_get(ref, KL_F_uid)));
        size_t at = i++;
        if (!owner || !owner->virtual || owner->gone || !owner->res)
            continue;
        if (owner->res->namespaced && !n->ns.n)
            return; // a cluster-scoped object cannot have an owner in a namespace: no retry helps
        struct kl_action *get = kl_plan_call(p, KL_VERB_GET, owner->res, NULL, owner->ns,
                                             kl_text(kl_get(ref, KL_F_name)));
        if (!get)
            return;
        get->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
        l->owner_gets[at] = get;
    }
    p->then = judge_item;
}

static void after_get(struct kl_plan *p)
{
    struct look *l = p->state;
    struct collector *c = p->arg;
    struct kl_gc_node *n = find_node(p);
    if (p->err.code || !n)
        return;
    const struct kl_object *o = l->get->call.object;
    bool there = l->get->call.err.code == 0 && o && kl_str_eq(kl_meta_uid(&o->root), n->uid);
    if (!there) {
        if (n->virtual && !n->gone)
            kl_gc_remove(&c->graph, n->uid); // its dependents are looked at now
        return;
    }
    if (n->virtual) {
        kl_plan_requeue(p, UNSEEN_MS); // exists; its watch will show it
        return;
    }
    l->latest = &o->root;
    if (n->deleting_dependents)
        go_on_deleting(p, n, l->latest);
    else
        look_at_owners(p, l, n);
}

// ---- orphaning

static void after_orphaning(struct kl_plan *p)
{
    struct look *l = p->state;
    const struct kl_gc_node *n = find_node(p);
    if (p->err.code || !n || n->virtual || !l->get->call.object)
        return;
    plan_remove_finalizer(p, n, &l->get->call.object->root, "orphan");
}

static void plan_owner(struct kl_plan *p, struct look *l, const struct kl_gc_node *n)
{
    kl_plan_next_group(p);
    l->get = kl_plan_call(p, KL_VERB_GET, n->res, NULL, kl_arena_dup(&p->arena, n->ns),
                          kl_arena_dup(&p->arena, n->name));
    if (l->get)
        l->get->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    p->then = after_orphaning;
}

static void after_dependents(struct kl_plan *p)
{
    struct look *l = p->state;
    const struct kl_gc_node *n = find_node(p);
    if (p->err.code || !n || n->virtual)
        return;
    kl_plan_next_group(p);
    for (size_t i = 0; i < l->ndependents; i++) {
        const struct kl_object *o = l->dependents[i]->call.object;
        if (o)
            plan_reference_merge(p, l->dependents[i]->call.res, &o->root, n->uid, false);
    }
    plan_owner(p, l, n);
}

static void decide_orphan(struct kl_plan *p, struct look *l, const struct kl_gc_node *n)
{
    l->dependents = kl_arena_zalloc(&p->arena, (n->ndependents + 1) * sizeof(*l->dependents));
    if (!l->dependents) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    for (uint32_t i = 0; i < n->ndependents; i++) {
        const struct kl_gc_node *d = n->dependents[i];
        if (d->virtual)
            continue;
        struct kl_str uid = kl_arena_dup(&p->arena, d->uid),
                      name = kl_arena_dup(&p->arena, d->name);
        if (kl_kind_is_custom(d->res)) {
            struct kl_action *get =
                kl_plan_call(p, KL_VERB_GET, d->res, NULL, kl_arena_dup(&p->arena, d->ns), name);
            if (!get)
                return;
            get->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
            l->dependents[l->ndependents++] = get;
            continue;
        }
        plan_reference_patch(p, d->res, kl_arena_dup(&p->arena, d->ns), name, uid,
                             strike_reference(&p->arena, (struct kl_str){"", 0}, n->uid));
    }
    if (l->ndependents)
        p->then = after_dependents;
    else
        plan_owner(p, l, n);
}

// Keys are 'd' (may it be deleted?) or 'o' (orphan its dependents) and the uid.
static void decide(struct kl_plan *p)
{
    const struct kl_gc_node *n = find_node(p);
    struct look *l = KL_ARENA_NEW(&p->arena, struct look);
    if (!n || !l || n->gone)
        return;
    p->state = l;
    if (!n->res) {
        kl_plan_requeue(p, UNKNOWN_KIND_MS); // a kind that may be served later
        return;
    }
    if (p->key.p[0] == 'o') {
        if (n->deleting)
            decide_orphan(p, l, n);
        return;
    }
    if (n->deleting && !n->deleting_dependents)
        return; // on its way; what it leaves behind is looked at when it has gone
    l->get = kl_plan_call(p, KL_VERB_GET, n->res, NULL, kl_arena_dup(&p->arena, n->ns),
                          kl_arena_dup(&p->arena, n->name));
    if (!l->get)
        return;
    l->get->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    p->then = after_get;
}

// ---- the graph's calls

static void enqueue(struct collector *c, char what, struct kl_str uid)
{
    char key[128];
    if (uid.n + 1 > sizeof(key))
        return;
    key[0] = what;
    memcpy(key + 1, uid.p, uid.n);
    kl_reconciler_add(c->reconciler, (struct kl_str){key, uid.n + 1});
}

static void on_attempt(void *arg, struct kl_gc_node *n)
{
    enqueue(arg, 'd', n->uid);
}

static void on_orphan(void *arg, struct kl_gc_node *n)
{
    enqueue(arg, 'o', n->uid);
}

static void on_misplaced(void *arg, struct kl_gc_node *n, const struct kl_value *ref)
{
    struct collector *c = arg;
    struct kl_object_ref about = {
        .api_version = kl_str(n->res->api_version),
        .kind = kl_str(n->res->kind),
        .ns = n->ns,
        .name = n->name,
        .uid = n->uid,
        .rv = KL_STR(""),
        .field_path = KL_STR(""),
    };
    struct kl_str version = kl_text(kl_get(ref, KL_F_apiVersion));
    struct kl_str kind = kl_text(kl_get(ref, KL_F_kind)), name = kl_text(kl_get(ref, KL_F_name));
    struct kl_str uid = kl_text(kl_get(ref, KL_F_uid));
    kl_recorder_eventf(c->env.recorder, &about, "Warning", "OwnerRefInvalidNamespace",
                       "ownerRef [%.*s/%.*s, namespace: %.*s, name: %.*s, uid: %.*s] does not "
                       "exist in namespace \"%.*s\"",
                       KL_PRI(version), KL_PRI(kind), KL_PRI(n->ns), KL_PRI(name), KL_PRI(uid),
                       KL_PRI(n->ns));
}

// ---- monitors

static void on_begin(void *arg)
{
    struct monitor *m = arg;
    m->generation++;
}

static void on_upsert(void *arg, struct kl_object *object)
{
    struct monitor *m = arg;
    if (kl_gc_upsert(&m->c->graph, m->res, &object->root, m->generation) < 0)
        kl_log(KL_LOG_ERROR, "garbage-collector", "out of memory resource=%s", m->res->plural);
}

static void on_remove(void *arg, struct kl_object *last)
{
    struct monitor *m = arg;
    kl_gc_remove(&m->c->graph, kl_meta_uid(&last->root));
}

static void on_end(void *arg)
{
    struct monitor *m = arg;
    kl_gc_sweep(&m->c->graph, m->res, m->generation);
    if (m->listed)
        return;
    m->listed = true;
    // Only with all of the graph in sight may anything be taken for garbage.
    if (!m->late && --m->c->unlisted == 0)
        kl_reconciler_start(m->c->reconciler);
}

static void stop(void *self)
{
    struct collector *c = self;
    for (struct monitor *m = c->monitors, *next; m; m = next) {
        next = m->next;
        kl_reflector_free(m->reflector);
        free(m);
    }
    kl_reconciler_free(c->reconciler);
    kl_gc_fini(&c->graph);
    kl_kinds_free(c->kinds);
    free(c);
}

static int add_monitor(struct collector *c, const struct kl_resource *res, bool late)
{
    struct monitor *m = calloc(1, sizeof(*m));
    if (!m)
        return KL_ENOMEM;
    m->c = c;
    m->res = res;
    m->late = late;
    m->reflector = kl_reflector_new(&(struct kl_reflector_opts){
        .client = c->env.client,
        .timers = c->env.timers,
        .res = res,
        .ns = KL_STR(""),
        .label_selector = KL_STR(""),
        .field_selector = KL_STR(""),
        .sink = {on_begin, on_upsert, on_remove, on_end, m},
    });
    if (!m->reflector) {
        free(m);
        return KL_ENOMEM;
    }
    m->next = c->monitors;
    c->monitors = m;
    if (!late)
        c->unlisted++;
    return 0;
}

// ---- custom kinds

// A kind that goes takes its objects along: they are forgotten without another look.
static void remove_monitor(struct collector *c, const struct kl_resource *res)
{
    for (struct monitor **at = &c->monitors; *at; at = &(*at)->next) {
        struct monitor *m = *at;
        if (m->res != res)
            continue;
        *at = m->next;
        kl_reflector_free(m->reflector);
        kl_gc_sweep(&c->graph, res, m->generation + 1);
        if (!m->listed && !m->late && --c->unlisted == 0)
            kl_reconciler_start(c->reconciler);
        free(m);
        return;
    }
}

static void on_kind(void *arg, const struct kl_resource *res, bool served)
{
    struct collector *c = arg;
    if (!served) {
        remove_monitor(c, res);
        return;
    }
    if (add_monitor(c, res, kl_kinds_synced(c->kinds)) < 0)
        kl_log(KL_LOG_ERROR, "garbage-collector", "out of memory resource=%s", res->plural);
    kl_gc_serve(&c->graph, res);
}

static void on_kinds_synced(void *arg)
{
    struct collector *c = arg;
    if (--c->unlisted == 0)
        kl_reconciler_start(c->reconciler);
}

// What is not served by default.
static const struct kl_resource *find_kind(void *arg, struct kl_str group, struct kl_str version,
                                           struct kl_str kind)
{
    struct collector *c = arg;
    const struct kl_resource *res = kl_optional_kind(&c->env, group, version, kind);
    return res || !c->kinds ? res : kl_kinds_find(c->kinds, group, version, kind);
}

static int start_monitors(struct collector *c)
{
    const uint32_t verbs =
        KL_VERB_BIT(KL_VERB_DELETE) | KL_VERB_BIT(KL_VERB_LIST) | KL_VERB_BIT(KL_VERB_WATCH);
    const struct kl_resource *res;
    uint16_t it = 0;
    while ((res = kl_deletable_next(&c->env, &it, verbs))) {
        // Events own nothing and expire by themselves.
        if (res == kl_res(KL_RES_core_v1_events))
            continue;
        if (add_monitor(c, res, false) < 0)
            return KL_ENOMEM;
    }
    c->unlisted++;
    c->kinds = kl_kinds_new(&(struct kl_kinds_opts){.client = c->env.client,
                                                    .timers = c->env.timers,
                                                    .changed = on_kind,
                                                    .synced = on_kinds_synced,
                                                    .arg = c});
    return c->kinds ? 0 : KL_ENOMEM;
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct collector *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "garbage collector: out of memory");
    c->env = *env;
    kl_gc_init(&c->graph);
    c->graph.attempt = on_attempt;
    c->graph.orphan = on_orphan;
    c->graph.misplaced = on_misplaced;
    c->graph.kind = find_kind;
    c->graph.arg = c;
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){
        .name = "garbage-collector",
        .client = env->client,
        .timers = env->timers,
        .recorder = env->recorder,
        .workers = WORKERS,
        .decide = decide,
        .arg = c,
    });
    if (!c->reconciler || start_monitors(c) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "garbage collector: out of memory");
    }
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    const struct collector *c = self;
    return c->unlisted == 0 && kl_reconciler_idle(c->reconciler);
}

const struct kl_controller kl_garbage_controller = {
    .name = "garbage-collector",
    .user = "system:serviceaccount:kube-system:generic-garbage-collector",
    .component = "garbage-collector-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
