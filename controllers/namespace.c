// SPDX-License-Identifier: Apache-2.0
// Empties and ends namespaces that are being deleted (upstream: pkg/controller/namespace/deletion).
//
// read ─▶ pods: delete, look what is left ─▶ the rest: list, delete what there is, list again
//      ─▶ conditions ─▶ finalizer "kubernetes" removed. What is left is looked at again later.
#include "controllers/controllers_int.h"
#include "controllers/deletable.h"
#include "controllers/kinds.h"
#include "controllers/pods.h"
#include <stdlib.h>

enum {
    WORKERS = 10,
    LISTS_AT_ONCE = 8,
    FINALIZER_ESTIMATE_S = 15,
    BACKOFF_MAX_MS = 60000,
    POLL_AFTER_POD_MS = 20, // several pods end together
};

struct namespaces {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *namespaces, *pods;
    struct kl_handler handler, pod_handler;
    struct kl_kinds *kinds;
};

// What one sync finds out; the plan's state.
struct sweep {
    struct kl_action *get, *status;
    struct kl_value ns; // draft of the newest known state
    struct kl_action *pods_before, *pods_delete, *pods_after;
    struct kl_action **lists, **deletes; // of the other resources; a NULL delete: nothing there
    size_t n;
    int64_t estimate_s, now_us;
    struct kl_str failures, resources, finalizers; // texts, sorted
    size_t nfailures;
    struct {
        struct kl_str name;
        size_t count;
    } left[64];
    size_t nleft; // finalizers with their counts
    bool pods_remain;
};

static const struct kl_resource *ns_res(void)
{
    return kl_res(KL_RES_core_v1_namespaces);
}

static const struct kl_resource *pods_res(void)
{
    return kl_res(KL_RES_core_v1_pods);
}

// ---- conditions

static int compare_text(const void *a, const void *b)
{
    return kl_str_cmp(*(const struct kl_str *)a, *(const struct kl_str *)b);
}

// Adds a line to a text whose lines are kept sorted, separated by ", ".
static void add_line(struct kl_arena *a, struct kl_str *text, struct kl_str line)
{
    struct kl_str lines[128], rest = *text;
    size_t n = 0;
    while (rest.n && n + 1 < KL_COUNT(lines)) {
        const char *at = memmem(rest.p, rest.n, ", ", 2);
        size_t len = at ? (size_t)(at - rest.p) : rest.n;
        lines[n++] = (struct kl_str){rest.p, len};
        rest = kl_str_from(rest, at ? len + 2 : len);
    }
    lines[n++] = line;
    qsort(lines, n, sizeof(*lines), compare_text);
    struct kl_str out = {"", 0};
    for (size_t i = 0; i < n && out.p; i++)
        out = kl_arena_printf(a, "%.*s%s%.*s", KL_PRI(out), i ? ", " : "", KL_PRI(lines[i]));
    if (out.p)
        *text = out;
}

static const struct {
    const char *type, *ok_reason, *ok_message, *bad_reason;
} condition_types[] = {
    {"NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered",
     "All resources successfully discovered", ""},
    {"NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions",
     "All legacy kube types successfully parsed", ""},
    {"NamespaceDeletionContentFailure", "ContentDeleted",
     "All content successfully deleted, may be waiting on finalization", "ContentDeletionFailed"},
    {"NamespaceContentRemaining", "ContentRemoved", "All content successfully removed",
     "SomeResourcesRemain"},
    {"NamespaceFinalizersRemaining", "ContentHasNoFinalizers",
     "All content-preserving finalizers finished", "SomeFinalizersRemain"},
};

static bool put_condition(struct kl_arena *a, struct kl_value *conditions, size_t i,
                          struct kl_str bad, int64_t now_us)
{
    const struct kl_value *was = kl_condition_find(conditions, condition_types[i].type);
    const char *status = bad.n ? "True" : "False";
    const char *reason = bad.n ? condition_types[i].bad_reason : condition_types[i].ok_reason;
    struct kl_str message = bad.n ? bad : kl_str(condition_types[i].ok_message);
    bool same_status = was && kl_str_eqz(kl_text(kl_get(was, KL_F_status)), status);
    if (same_status && kl_str_eqz(kl_text(kl_get(was, KL_F_reason)), reason) &&
        kl_str_eq(kl_text(kl_get(was, KL_F_message)), message))
        return false;
    int64_t since = now_us / 1000000 * 1000000;
    if (same_status)
        since = kl_int_or(kl_get(was, KL_F_lastTransitionTime), since);
    struct kl_value c = kl_new_struct();
    kl_set_z(a, &c, KL_F_type, condition_types[i].type);
    kl_set_z(a, &c, KL_F_status, status);
    kl_set(a, &c, KL_F_lastTransitionTime, kl_time(since));
    kl_set_z(a, &c, KL_F_reason, reason);
    kl_set_str(a, &c, KL_F_message, message);
    kl_condition_put(a, conditions, c);
    return true;
}

static void plan_finalize(struct kl_plan *p);

// After the conditions were written: an error now makes the queue try again.
static void tell_failure(struct kl_plan *p)
{
    const struct sweep *s = p->state;
    struct kl_str why = s->failures;
    if (!p->err.code)
        kl_error_set(&p->err, KL_EINTERNAL, "%.*s", KL_PRI(why));
}

// Writes phase and conditions when they changed; goes on to finalize when nothing is left.
static void plan_conditions(struct kl_plan *p, struct sweep *s, bool totals)
{
    struct kl_arena *a = &p->arena;
    struct kl_str bad[KL_COUNT(condition_types)] = {{"", 0}};
    if (s->failures.n)
        bad[2] = kl_arena_printf(a, "Failed to delete all resource types, %zu remaining: %.*s",
                                 s->nfailures, KL_PRI(s->failures));
    if (totals && s->resources.n)
        bad[3] = kl_arena_printf(a, "Some resources are remaining: %.*s", KL_PRI(s->resources));
    if (totals && s->finalizers.n)
        bad[4] = kl_arena_printf(a, "Some content in the namespace has finalizers remaining: %.*s",
                                 KL_PRI(s->finalizers));
    struct kl_value *status = kl_edit(a, &s->ns, KL_F_status, KL_STRUCT);
    struct kl_value *conditions = status ? kl_edit(a, status, KL_F_conditions, KL_ARRAY) : NULL;
    if (!conditions)
        return;
    bool changed = !kl_str_eqz(kl_text(kl_get(status, KL_F_phase)), "Terminating");
    for (size_t i = 0; i < KL_COUNT(condition_types); i++)
        changed |= put_condition(a, conditions, i, bad[i], s->now_us);
    kl_set_z(a, status, KL_F_phase, "Terminating");
    if (changed) {
        kl_plan_next_group(p);
        s->status = kl_plan_write(p, KL_VERB_UPDATE, ns_res(), "status", &s->ns);
        if (s->status)
            s->status->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    }
    if (s->nfailures) {
        p->then = tell_failure;
    } else if (s->estimate_s > 0 || s->pods_remain) {
        kl_plan_requeue(p, (s->estimate_s / 2 + 1) * 1000);
    } else {
        p->then = plan_finalize;
    }
}

static void plan_finalize(struct kl_plan *p)
{
    struct sweep *s = p->state;
    struct kl_arena *a = &p->arena;
    if (p->err.code)
        return;
    if (s->status && s->status->call.object) {
        s->ns = s->status->call.object->root;
        s->ns.owned = 0;
    }
    struct kl_value left = kl_new_array();
    for (KL_EACH(f, kl_path(&s->ns, KL_F_spec, KL_F_finalizers))) {
        if (!kl_str_eqz(kl_text(f), "kubernetes"))
            kl_append(a, &left, *f);
    }
    struct kl_value *spec = kl_edit(a, &s->ns, KL_F_spec, KL_STRUCT);
    if (!spec)
        return;
    kl_set(a, spec, KL_F_finalizers, left);
    struct kl_action *finalize = kl_plan_write(p, KL_VERB_UPDATE, ns_res(), "finalize", &s->ns);
    if (finalize)
        finalize->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
}

// ---- counting what is left

static void add_failure(struct kl_plan *p, struct sweep *s, struct kl_str text)
{
    s->nfailures++;
    add_line(&p->arena, &s->failures, text);
}

static void count_finalizers(struct sweep *s, const struct kl_value *root)
{
    for (KL_EACH(f, kl_path(root, KL_F_metadata, KL_F_finalizers))) {
        size_t i = 0;
        while (i < s->nleft && !kl_str_eq(s->left[i].name, kl_text(f)))
            i++;
        if (i == KL_COUNT(s->left))
            continue;
        if (i == s->nleft) {
            s->left[i].name = kl_text(f);
            s->left[i].count = 0;
            s->nleft++;
        }
        s->left[i].count++;
    }
}

static void count_left(struct kl_plan *p, struct sweep *s, const struct kl_resource *res,
                       const struct kl_call *list, int64_t estimate_s)
{
    if (!list->n_items)
        return;
    size_t before = 0, after = 0;
    for (size_t i = 0; i < s->nleft; i++)
        before += s->left[i].count;
    for (size_t i = 0; i < list->n_items; i++)
        count_finalizers(s, &list->items[i]->root);
    for (size_t i = 0; i < s->nleft; i++)
        after += s->left[i].count;
    add_line(&p->arena, &s->resources,
             kl_arena_printf(&p->arena, "%s.%s has %zu resource instances", res->plural, res->group,
                             list->n_items));
    if (estimate_s == 0 && after > before)
        estimate_s = FINALIZER_ESTIMATE_S;
    if (estimate_s == 0)
        add_failure(p, s,
                    kl_arena_printf(&p->arena,
                                    "unexpected items still remain in namespace: %.*s for gvr: "
                                    "%s/%s, Resource=%s",
                                    KL_PRI(p->key), res->group, res->version, res->plural));
    if (estimate_s > s->estimate_s)
        s->estimate_s = estimate_s;
}

static void write_finalizer_totals(struct kl_plan *p, struct sweep *s)
{
    for (size_t i = 0; i < s->nleft; i++)
        add_line(&p->arena, &s->finalizers,
                 kl_arena_printf(&p->arena, "%.*s in %zu resource instances",
                                 KL_PRI(s->left[i].name), s->left[i].count));
}

// An error of one resource is told in a condition; the others go on.
static bool note_error(struct kl_plan *p, struct sweep *s, const struct kl_action *a)
{
    if (!a || a->call.err.code == 0 || a->call.err.code == KL_ENOTFOUND ||
        a->call.err.code == KL_EMETHOD)
        return false;
    add_failure(p, s, kl_arena_dup(&p->arena, kl_str(a->call.err.msg)));
    return true;
}

#define EVERY_ERROR 0xffffffffu

// ---- everything but pods

static void after_deletes(struct kl_plan *p)
{
    struct sweep *s = p->state;
    if (p->err.code)
        return;
    for (size_t i = 0; i < s->n; i++) {
        if (!note_error(p, s, s->deletes[i]) && !note_error(p, s, s->lists[i]))
            count_left(p, s, s->lists[i]->call.res, &s->lists[i]->call, 0);
    }
    write_finalizer_totals(p, s);
    plan_conditions(p, s, true);
}

static struct kl_action *plan_list(struct kl_plan *p, const struct kl_resource *res)
{
    struct kl_action *a = kl_plan_call(p, KL_VERB_LIST, res, NULL, p->key, (struct kl_str){"", 0});
    if (a)
        a->ok_errors = EVERY_ERROR;
    return a;
}

static struct kl_action *plan_delete(struct kl_plan *p, const struct kl_resource *res,
                                     enum kl_verb verb, struct kl_str name)
{
    struct kl_action *a = kl_plan_call(p, verb, res, NULL, p->key, name);
    if (a) {
        a->ok_errors = EVERY_ERROR;
        a->call.propagation = KL_PROPAGATE_BACKGROUND;
    }
    return a;
}

// A kind that is served on request only may not be there at all.
static bool has_none(const struct kl_action *list)
{
    int code = list->call.err.code;
    return (!code && !list->call.n_items) || (code == KL_ENOTFOUND && !list->call.res->custom);
}

static void after_lists(struct kl_plan *p)
{
    struct sweep *s = p->state;
    if (p->err.code)
        return;
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        struct kl_action *list = s->lists[i];
        const struct kl_resource *res = list->call.res;
        if (has_none(list))
            continue;
        if (n % LISTS_AT_ONCE == 0)
            kl_plan_next_group(p);
        struct kl_action *del = NULL;
        if (res->verbs & KL_VERB_BIT(KL_VERB_DELETECOLLECTION)) {
            del = plan_delete(p, res, KL_VERB_DELETECOLLECTION, (struct kl_str){"", 0});
        } else {
            for (size_t k = 0; k < list->call.n_items; k++)
                del = plan_delete(p, res, KL_VERB_DELETE, kl_meta_name(&list->call.items[k]->root));
        }
        s->deletes[n] = del;
        s->lists[n++] = list;
    }
    s->n = n;
    kl_plan_next_group(p);
    for (size_t i = 0; i < n; i++) {
        if (i % LISTS_AT_ONCE == 0)
            kl_plan_next_group(p);
        s->lists[i] = plan_list(p, s->lists[i]->call.res);
        if (!s->lists[i])
            return;
    }
    p->then = after_deletes;
}

static void plan_rest(struct kl_plan *p, struct sweep *s)
{
    const struct namespaces *c = p->arg;
    size_t max = kl_nresources, custom = 0;
    while (kl_kinds_next(c->kinds, &custom))
        max++;
    s->lists = kl_arena_zalloc(&p->arena, max * sizeof(*s->lists));
    s->deletes = kl_arena_zalloc(&p->arena, max * sizeof(*s->deletes));
    if (!s->lists || !s->deletes) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    const uint32_t verbs = KL_VERB_BIT(KL_VERB_DELETE) | KL_VERB_BIT(KL_VERB_LIST);
    uint16_t it = 0;
    const struct kl_resource *res;
    custom = 0;
    while ((res = kl_deletable_next(&c->env, &it, verbs)) ||
           (res = kl_kinds_next(c->kinds, &custom))) {
        if (!res->namespaced || res == pods_res())
            continue;
        if (s->n % LISTS_AT_ONCE == 0)
            kl_plan_next_group(p);
        struct kl_action *list = plan_list(p, res);
        if (!list)
            return;
        s->lists[s->n++] = list;
    }
    p->then = after_lists;
}

// ---- pods first, so that they end while their Secrets and ConfigMaps are still there

static void after_pods(struct kl_plan *p)
{
    struct sweep *s = p->state;
    if (p->err.code)
        return;
    bool failed = note_error(p, s, s->pods_delete) || note_error(p, s, s->pods_after);
    if (!failed && s->pods_after->call.n_items == 0) {
        s->estimate_s = 0;
        plan_rest(p, s);
        return;
    }
    int64_t estimate_s = s->estimate_s;
    if (!failed)
        count_left(p, s, pods_res(), &s->pods_after->call, estimate_s);
    s->pods_remain = true;
    plan_conditions(p, s, false); // as upstream: the totals are told when the rest was looked at
}

static int64_t estimate_grace(const struct kl_call *pods)
{
    int64_t max = 0;
    for (size_t i = 0; i < pods->n_items; i++) {
        const struct kl_value *pod = &pods->items[i]->root;
        int64_t grace = kl_int_at(pod, 0, KL_F_spec, KL_F_terminationGracePeriodSeconds);
        if (!kl_pod_terminal(pod) && grace > max)
            max = grace;
    }
    return max;
}

static void after_get(struct kl_plan *p)
{
    struct sweep *s = p->state;
    const struct kl_object *ns = s->get->call.object;
    if (p->err.code || !ns || !kl_meta_deleting(&ns->root))
        return;
    s->ns = ns->root;
    s->ns.owned = 0;
    if (!kl_len(kl_path(&s->ns, KL_F_spec, KL_F_finalizers)))
        return;
    int64_t deleted_us = kl_int_at(&s->ns, 0, KL_F_metadata, KL_F_deletionTimestamp);
    int64_t grace_s = estimate_grace(&s->pods_before->call);
    s->estimate_s = s->now_us - deleted_us >= grace_s * 1000000 ? 0 : grace_s;
    if (s->pods_before->call.err.code == 0 && s->pods_before->call.n_items == 0) {
        s->estimate_s = 0;
        plan_rest(p, s);
        return;
    }
    s->pods_delete = plan_delete(p, pods_res(), KL_VERB_DELETECOLLECTION, (struct kl_str){"", 0});
    kl_plan_next_group(p);
    s->pods_after = plan_list(p, pods_res());
    if (s->pods_after)
        p->then = after_pods;
}

static void decide(struct kl_plan *p)
{
    struct namespaces *c = p->arg;
    struct kl_object *ns = kl_informer_get_key(c->namespaces, p->key);
    if (!ns || !kl_meta_deleting(&ns->root))
        return;
    struct sweep *s = KL_ARENA_NEW(&p->arena, struct sweep);
    if (!s)
        return;
    p->state = s;
    s->failures = s->resources = s->finalizers = (struct kl_str){"", 0};
    s->now_us = kl_timers_wall_us(c->env.timers);
    s->get = kl_plan_call(p, KL_VERB_GET, ns_res(), NULL, (struct kl_str){"", 0}, p->key);
    s->pods_before = plan_list(p, pods_res());
    if (!s->get || !s->pods_before)
        return;
    s->get->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    p->then = after_get;
}

// ---- the shell

static void on_namespace(struct kl_handler *h, struct kl_object *ns)
{
    struct namespaces *c = h->arg;
    if (kl_meta_deleting(&ns->root))
        kl_reconciler_add_object(c->reconciler, &ns->root);
}

static void on_namespace_update(struct kl_handler *h, struct kl_object *old, struct kl_object *ns)
{
    struct namespaces *c = h->arg;
    // Our own conditions come back as updates; the sync that wrote them has set the next look.
    if (kl_meta_deleting(&ns->root) &&
        (!kl_meta_deleting(&old->root) ||
         !kl_value_equal(kl_get(&old->root, KL_F_spec), kl_get(&ns->root, KL_F_spec))))
        kl_reconciler_add_object(c->reconciler, &ns->root);
}

// A namespace waits for its pods: look when one has gone, not only when the estimate is over.
static void on_pod_remove(struct kl_handler *h, struct kl_object *pod)
{
    struct namespaces *c = h->arg;
    struct kl_object *ns = kl_informer_get_key(c->namespaces, kl_meta_namespace(&pod->root));
    if (ns && kl_meta_deleting(&ns->root))
        kl_reconciler_add_after(c->reconciler, kl_meta_name(&ns->root), POLL_AFTER_POD_MS);
}

static void stop(void *self)
{
    struct namespaces *c = self;
    if (c->namespaces)
        kl_informer_remove_handler(c->namespaces, &c->handler);
    if (c->pods)
        kl_informer_remove_handler(c->pods, &c->pod_handler);
    kl_reconciler_free(c->reconciler);
    kl_kinds_free(c->kinds);
    free(c);
}

// Work begins when it is known what there may be in a namespace.
static void on_kinds_synced(void *arg)
{
    struct namespaces *c = arg;
    kl_reconciler_start(c->reconciler);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct namespaces *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "namespace controller: out of memory");
    c->env = *env;
    c->namespaces = kl_informers_get(env->informers, ns_res());
    c->pods = kl_informers_get(env->informers, pods_res());
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){
        .name = "namespace",
        .client = env->client,
        .timers = env->timers,
        .workers = WORKERS,
        .decide = decide,
        .arg = c,
    });
    c->kinds = kl_kinds_new(&(struct kl_kinds_opts){
        .client = env->client, .timers = env->timers, .synced = on_kinds_synced, .arg = c});
    if (!c->namespaces || !c->pods || !c->reconciler || !c->kinds ||
        kl_reconciler_needs(c->reconciler, c->namespaces) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "namespace controller: out of memory");
    }
    kl_workqueue_set_backoff(kl_reconciler_queue(c->reconciler), 5, BACKOFF_MAX_MS);
    c->handler = (struct kl_handler){.add = on_namespace, .update = on_namespace_update, .arg = c};
    c->pod_handler = (struct kl_handler){.remove = on_pod_remove, .arg = c};
    kl_informer_add_handler(c->namespaces, &c->handler);
    kl_informer_add_handler(c->pods, &c->pod_handler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct namespaces *)self)->reconciler);
}

const struct kl_controller kl_namespace_controller = {
    .name = "namespace",
    .user = "system:serviceaccount:kube-system:namespace-controller",
    .component = "namespace-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
