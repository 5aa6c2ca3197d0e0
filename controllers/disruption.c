// SPDX-License-Identifier: Apache-2.0
// How many pods each PodDisruptionBudget lets go (upstream: pkg/controller/disruption). The
// eviction subresource takes places from status.disruptionsAllowed and notes the pod; here the
// count is made anew from the pods and from how many their controllers want. A budget that cannot
// be counted allows nothing. A second queue takes back DisruptionTarget from pods that were not
// disrupted.
#include "controllers/controllers_int.h"
#include "controllers/disruption.h"
#include "controllers/pods.h"
#include "object/selector.h"
#include <stdlib.h>

enum {
    DELETION_TIMEOUT_S = 2 * 60, // until an evicted pod that is still there counts again
    STALE_TIMEOUT_MS = 2 * 60 * 1000,
};

static const struct kl_resource *budgets_res(void)
{
    return kl_res(KL_RES_policy_v1_poddisruptionbudgets);
}

static const struct kl_resource *pods_res(void)
{
    return kl_res(KL_RES_core_v1_pods);
}

static bool selects(struct kl_arena *a, const struct kl_value *budget, const struct kl_value *pod)
{
    struct kl_selector s;
    return !kl_label_selector_from(a, kl_path(budget, KL_F_spec, KL_F_selector), &s, NULL) &&
           kl_selector_matches(&s, kl_meta_labels(pod));
}

// ---- the status

static int now_condition(struct kl_plan *p, const struct kl_value *old, struct kl_value *status,
                         bool good, const char *reason, const char *message, int64_t observed)
{
    const struct kl_disruption *c = p->arg;
    struct kl_arena *a = &p->arena;
    const char *word = good ? "True" : "False";
    const struct kl_value *was = kl_condition_find(old, "DisruptionAllowed");
    struct kl_value *list = kl_edit(a, status, KL_F_conditions, KL_ARRAY);
    struct kl_value x = kl_new_struct();
    if (!list)
        return KL_ENOMEM;
    kl_set_z(a, &x, KL_F_type, "DisruptionAllowed");
    kl_set_z(a, &x, KL_F_status, word);
    kl_set_int(a, &x, KL_F_observedGeneration, observed);
    kl_set(a, &x, KL_F_lastTransitionTime,
           was && kl_str_eqz(kl_text(kl_get(was, KL_F_status)), word)
               ? *kl_get(was, KL_F_lastTransitionTime)
               : kl_time(kl_timers_wall_us(c->env.timers) / 1000000 * 1000000));
    kl_set_z(a, &x, KL_F_reason, reason);
    kl_set_str(a, &x, KL_F_message, kl_arena_dup(a, kl_str(message)));
    kl_condition_put(a, list, x);
    return 0;
}

static void write_status(struct kl_plan *p, const struct kl_value *draft)
{
    struct kl_action *w = kl_plan_write(p, KL_VERB_UPDATE, budgets_res(), "status", draft);
    if (w)
        w->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
}

// What failed is said in the status; only a write that failed brings the budget again.
static void fail_safe(struct kl_plan *p, struct kl_pod_count *n)
{
    struct kl_arena *a = &p->arena;
    struct kl_error why = p->err;
    if (why.code == KL_ECONFLICT || why.code == KL_ENOMEM)
        return;
    p->err = (struct kl_error){0};
    struct kl_value draft = kl_object_draft(n->budget);
    struct kl_value *st = kl_edit(a, &draft, KL_F_status, KL_STRUCT);
    if (!st || kl_set(a, st, KL_F_disruptionsAllowed, kl_int(0)) ||
        now_condition(p, kl_path(&n->budget->root, KL_F_status, KL_F_conditions), st, false,
                      "SyncFailed", why.msg,
                      kl_int_at(&n->budget->root, 0, KL_F_status, KL_F_observedGeneration)))
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
    else
        write_status(p, &draft);
}

// Those that were evicted and are still there, while that is recent; and when to look again.
static struct kl_value disrupted_pods(struct kl_plan *p, struct kl_pod_count *n, int64_t now_s)
{
    struct kl_value left = kl_new_map();
    const struct kl_value *old = kl_path(&n->budget->root, KL_F_status, KL_F_disruptedPods);
    struct kl_str ns = kl_meta_namespace(&n->budget->root);
    for (size_t i = 0; old && i < n->n; i++) {
        const struct kl_value *pod = n->pods[i], *at = kl_map_value(old, kl_meta_name(pod));
        if (!at || kl_meta_deleting(pod))
            continue;
        int64_t until_s = kl_int_or(at, 0) / 1000000 + DELETION_TIMEOUT_S;
        if (until_s < now_s) { // the name of the namespace twice, as upstream says it
            kl_plan_event(p, pods_res(), pod, "Warning", "NotDeleted",
                          "Pod was expected by PDB %.*s/%.*s to be deleted but it wasn't",
                          KL_PRI(ns), KL_PRI(ns));
            continue;
        }
        kl_plan_requeue(p, (until_s - now_s) * 1000 + 1);
        if (kl_map_set_value(&p->arena, &left, kl_meta_name(pod), *at))
            kl_error_set(&p->err, KL_ENOMEM, "out of memory");
    }
    return left;
}

static int64_t count_healthy(const struct kl_pod_count *n, const struct kl_value *disrupted)
{
    int64_t healthy = 0;
    for (size_t i = 0; i < n->n; i++)
        healthy += !kl_meta_deleting(n->pods[i]) && kl_pod_ready(n->pods[i]) &&
                   !kl_map_value(disrupted, kl_meta_name(n->pods[i]));
    return healthy;
}

static bool is_condition_current(const struct kl_value *budget, int64_t allowed)
{
    const struct kl_value *c =
        kl_condition_find(kl_path(budget, KL_F_status, KL_F_conditions), "DisruptionAllowed");
    return c && kl_str_eqz(kl_text(kl_get(c, KL_F_status)), allowed > 0 ? "True" : "False") &&
           kl_str_eqz(kl_text(kl_get(c, KL_F_reason)),
                      allowed > 0 ? "SufficientPods" : "InsufficientPods");
}

static void plan_status(struct kl_plan *p, struct kl_pod_count *n, int64_t desired)
{
    const struct kl_disruption *c = p->arg;
    struct kl_arena *a = &p->arena;
    const struct kl_value *budget = &n->budget->root, *st = kl_get(budget, KL_F_status);
    int64_t now_s = kl_timers_wall_us(c->env.timers) / 1000000;
    int64_t generation = kl_int_at(budget, 0, KL_F_metadata, KL_F_generation);
    struct kl_value disrupted = disrupted_pods(p, n, now_s);
    int64_t healthy = count_healthy(n, &disrupted);
    // A budget without pods is safe when its first ones appear.
    int64_t allowed = n->expected > 0 && healthy > desired ? healthy - desired : 0;
    if (p->err.code)
        return;
    if (kl_int_at(st, -1, KL_F_currentHealthy) == healthy &&
        kl_int_at(st, -1, KL_F_desiredHealthy) == desired &&
        kl_int_at(st, -1, KL_F_expectedPods) == n->expected &&
        kl_int_at(st, -1, KL_F_disruptionsAllowed) == allowed &&
        kl_int_at(st, 0, KL_F_observedGeneration) == generation &&
        kl_len(kl_get(st, KL_F_disruptedPods)) == kl_len(&disrupted) &&
        is_condition_current(budget, allowed))
        return;
    struct kl_value draft = kl_object_draft(n->budget), new = kl_new_struct();
    const struct kl_value *old = kl_get(st, KL_F_conditions);
    kl_set_int(a, &new, KL_F_observedGeneration, generation);
    if (kl_len(&disrupted))
        kl_set(a, &new, KL_F_disruptedPods, disrupted);
    kl_set_int(a, &new, KL_F_disruptionsAllowed, allowed);
    kl_set_int(a, &new, KL_F_currentHealthy, healthy);
    kl_set_int(a, &new, KL_F_desiredHealthy, desired);
    kl_set_int(a, &new, KL_F_expectedPods, n->expected);
    if (old)
        kl_set(a, &new, KL_F_conditions, *old);
    if (now_condition(p, old, &new, allowed > 0,
                      allowed > 0 ? "SufficientPods" : "InsufficientPods", "", generation) ||
        kl_set(a, &draft, KL_F_status, new))
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
    else
        write_status(p, &draft);
}

// ---- decisions

// As Go prints a *LabelSelector.
static struct kl_str selector_text(struct kl_arena *a, const struct kl_value *selector)
{
    struct kl_str labels = KL_STR(""), exprs = KL_STR("");
    if (!selector)
        return KL_STR("nil");
    for (KL_MAP_EACH_KEY(k, kl_get(selector, KL_F_matchLabels)))
        labels = kl_arena_printf(a, "%.*s%.*s: %.*s,", KL_PRI(labels), KL_PRI(kl_text(k)),
                                 KL_PRI(kl_text(k + 1)));
    for (KL_EACH(e, kl_get(selector, KL_F_matchExpressions))) {
        struct kl_str values = KL_STR("");
        for (KL_EACH(v, kl_get(e, KL_F_values)))
            values = kl_arena_printf(a, "%.*s%s%.*s", KL_PRI(values), values.n ? " " : "",
                                     KL_PRI(kl_text(v)));
        exprs = kl_arena_printf(
            a, "%.*sLabelSelectorRequirement{Key:%.*s,Operator:%.*s,Values:[%.*s],},",
            KL_PRI(exprs), KL_PRI(kl_text(kl_get(e, KL_F_key))),
            KL_PRI(kl_text(kl_get(e, KL_F_operator))), KL_PRI(values));
    }
    return kl_arena_printf(a,
                           "&LabelSelector{MatchLabels:map[string]string{%.*s},"
                           "MatchExpressions:[]LabelSelectorRequirement{%.*s},}",
                           KL_PRI(labels), KL_PRI(exprs));
}

static void conclude(struct kl_plan *p)
{
    struct kl_pod_count *n = p->state;
    const struct kl_value *budget = &n->budget->root;
    const struct kl_value *max = kl_path(budget, KL_F_spec, KL_F_maxUnavailable);
    const struct kl_value *min = kl_path(budget, KL_F_spec, KL_F_minAvailable);
    int64_t desired = 0;
    if (!p->err.code && !kl_disruption_add(p, n)) {
        int64_t part = kl_int_or_percent(max ? max : min, n->expected, true);
        if (part < 0 && (max || min))
            kl_error_set(&p->err, KL_EINVALID, "invalid value for IntOrString");
        else if (max)
            desired = part < n->expected ? n->expected - part : 0;
        else if (min)
            desired = part;
    }
    if (p->err.code) {
        kl_plan_event(p, budgets_res(), budget, "Warning", "CalculateExpectedPodCountFailed",
                      "Failed to calculate the number of expected pods: %s", p->err.msg);
        fail_safe(p, n);
        return;
    }
    if (n->nunmanaged)
        kl_plan_event(
            p, budgets_res(), budget, "Warning", "UnmanagedPods",
            "Pods selected by this PodDisruptionBudget (selector: %.*s) were found to be "
            "unmanaged. As a result, the status of the PDB cannot be calculated correctly, which "
            "may result in undefined behavior. To account for these pods please set "
            "\".spec.minAvailable\" field of the PDB to an integer value.",
            KL_PRI(selector_text(&p->arena, kl_path(budget, KL_F_spec, KL_F_selector))));
    plan_status(p, n, desired);
}

static int find_pods(const struct kl_disruption *c, struct kl_plan *p, struct kl_pod_count *n)
{
    struct kl_selector selector;
    const struct kl_value *budget = &n->budget->root;
    size_t all;
    if (kl_label_selector_from(&p->arena, kl_path(budget, KL_F_spec, KL_F_selector), &selector,
                               &p->err))
        return p->err.code;
    struct kl_entry *const *pods =
        kl_informer_index(c->pods, c->pods_by_ns, kl_meta_namespace(budget), &all);
    n->pods = kl_arena_alloc(&p->arena, (all + 1) * sizeof *n->pods);
    if (!n->pods)
        return kl_error_set(&p->err, KL_ENOMEM, "out of memory");
    for (size_t i = 0; i < all; i++)
        if (kl_selector_matches(&selector, kl_meta_labels(&pods[i]->object->root)))
            n->pods[n->n++] = &kl_plan_hold(p, pods[i]->object)->root;
    return p->err.code;
}

static void decide(struct kl_plan *p)
{
    struct kl_disruption *c = p->arg;
    struct kl_object *budget = kl_plan_hold(p, kl_informer_get_key(c->budgets, p->key));
    struct kl_pod_count *n = budget ? KL_ARENA_NEW(&p->arena, struct kl_pod_count) : NULL;
    if (!n)
        return;
    p->state = n;
    n->budget = budget;
    const struct kl_value *max = kl_path(&budget->root, KL_F_spec, KL_F_maxUnavailable);
    const struct kl_value *min = kl_path(&budget->root, KL_F_spec, KL_F_minAvailable);
    if (find_pods(c, p, n)) {
        kl_plan_event(p, budgets_res(), &budget->root, "Warning", "NoPods",
                      "Failed to get pods: %s", p->err.msg);
        fail_safe(p, n);
        return;
    }
    if (!n->n)
        kl_plan_event(p, budgets_res(), &budget->root, "Normal", "NoPods",
                      "No matching pods found");
    if (max || (kl_is(min, KL_STRING)))
        kl_disruption_sum(c, p, n);
    else if (min)
        n->expected = (int64_t)n->n;
    if (n->nscales && !p->err.code)
        p->then = conclude;
    else
        conclude(p);
}

// The wait until a pod's DisruptionTarget is stale in ms; -1: it has none that could be.
static int64_t stale_after(const struct kl_disruption *c, const struct kl_value *pod)
{
    const struct kl_value *x =
        kl_condition_find(kl_path(pod, KL_F_status, KL_F_conditions), "DisruptionTarget");
    if (!x || kl_meta_deleting(pod) || kl_pod_terminal(pod) ||
        !kl_str_eqz(kl_text(kl_get(x, KL_F_status)), "True") ||
        kl_str_eqz(kl_text(kl_get(x, KL_F_reason)), "TerminationByKubelet"))
        return -1;
    int64_t since_us = kl_int_or(kl_get(x, KL_F_lastTransitionTime), 0);
    int64_t left = STALE_TIMEOUT_MS - (kl_timers_wall_us(c->env.timers) - since_us) / 1000;
    return left > 0 ? left : 0;
}

static void decide_stale(struct kl_plan *p)
{
    const struct kl_disruption *c = p->arg;
    struct kl_arena *a = &p->arena;
    struct kl_object *pod = kl_plan_hold(p, kl_informer_get_key(c->pods, p->key));
    int64_t left = pod ? stale_after(c, &pod->root) : -1;
    if (left < 0)
        return;
    if (left > 0) {
        kl_plan_requeue(p, left);
        return;
    }
    struct kl_value draft = kl_object_draft(pod), x = kl_new_struct();
    struct kl_value *st = kl_edit(a, &draft, KL_F_status, KL_STRUCT);
    struct kl_value *list = st ? kl_edit(a, st, KL_F_conditions, KL_ARRAY) : NULL;
    if (!list) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    kl_set_z(a, &x, KL_F_type, "DisruptionTarget");
    kl_set_int(a, &x, KL_F_observedGeneration,
               kl_int_at(&pod->root, 0, KL_F_metadata, KL_F_generation));
    kl_set_z(a, &x, KL_F_status, "False");
    kl_set(a, &x, KL_F_lastTransitionTime,
           kl_time(kl_timers_wall_us(c->env.timers) / 1000000 * 1000000));
    kl_condition_put(a, list, x);
    struct kl_action *w = kl_plan_write(p, KL_VERB_UPDATE, pods_res(), "status", &draft);
    if (w)
        w->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
}

// ---- what changed

static void on_budget(struct kl_handler *h, struct kl_object *budget)
{
    struct kl_disruption *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &budget->root);
}

static void on_budget_update(struct kl_handler *h, struct kl_object *old, struct kl_object *budget)
{
    (void)old;
    on_budget(h, budget);
}

static void add_budgets(struct kl_disruption *c, const struct kl_value *pod, bool tell)
{
    struct kl_arena a;
    size_t n, found = 0;
    struct kl_str first = KL_STR("");
    struct kl_entry *const *all =
        kl_informer_index(c->budgets, c->budgets_by_ns, kl_meta_namespace(pod), &n);
    kl_arena_init(&a, 1 << 20);
    for (size_t i = 0; i < n; i++) {
        kl_arena_reset(&a);
        if (!selects(&a, &all[i]->object->root, pod))
            continue;
        if (!found++)
            first = kl_meta_name(&all[i]->object->root);
        kl_reconciler_add_object(c->reconciler, &all[i]->object->root);
    }
    kl_arena_fini(&a);
    struct kl_object_ref about = kl_ref_of(pods_res(), pod);
    if (found > 1 && tell)
        kl_recorder_eventf(c->env.recorder, &about, "Warning", "MultiplePodDisruptionBudgets",
                           "Pod \"%.*s\"/\"%.*s\" matches multiple PodDisruptionBudgets.  Chose "
                           "\"%.*s\" arbitrarily.",
                           KL_PRI(kl_meta_namespace(pod)), KL_PRI(kl_meta_name(pod)),
                           KL_PRI(first));
}

static void look_for_stale(struct kl_disruption *c, const struct kl_value *pod)
{
    int64_t left = stale_after(c, pod);
    struct kl_arena a;
    if (left < 0)
        return;
    kl_arena_init(&a, 4096);
    struct kl_str key = kl_key_of(&a, pod);
    if (key.p)
        kl_reconciler_add_after(c->stale, key, left);
    kl_arena_fini(&a);
}

static void on_pod(struct kl_handler *h, struct kl_object *pod)
{
    add_budgets(h->arg, &pod->root, true);
    look_for_stale(h->arg, &pod->root);
}

static void on_pod_update(struct kl_handler *h, struct kl_object *old, struct kl_object *pod)
{
    if (!kl_value_equal(kl_meta_labels(&old->root), kl_meta_labels(&pod->root)))
        add_budgets(h->arg, &old->root, false);
    on_pod(h, pod);
}

static void on_pod_remove(struct kl_handler *h, struct kl_object *pod)
{
    add_budgets(h->arg, &pod->root, false);
}

static void stop(void *self)
{
    struct kl_disruption *c = self;
    if (c->pods)
        kl_informer_remove_handler(c->pods, &c->pod_handler);
    if (c->budgets)
        kl_informer_remove_handler(c->budgets, &c->budget_handler);
    kl_reconciler_free(c->reconciler);
    kl_reconciler_free(c->stale);
    kl_kinds_free(c->kinds);
    free(c);
}

static struct kl_reconciler *new_queue(struct kl_disruption *c, const char *name,
                                       void (*decide_one)(struct kl_plan *p))
{
    return kl_reconciler_new(&(struct kl_reconciler_opts){.name = name,
                                                          .client = c->env.client,
                                                          .timers = c->env.timers,
                                                          .recorder = c->env.recorder,
                                                          .decide = decide_one,
                                                          .arg = c});
}

static int ready(struct kl_disruption *c)
{
    if (!c->reconciler || !c->stale || !c->budgets || !c->pods ||
        kl_reconciler_needs(c->reconciler, c->budgets) < 0 ||
        kl_reconciler_needs(c->reconciler, c->pods) < 0 ||
        kl_reconciler_needs(c->stale, c->pods) < 0)
        return KL_ENOMEM;
    for (int i = 0; i < KL_OWNERS; i++)
        if (!c->owners[i] || kl_reconciler_needs(c->reconciler, c->owners[i]) < 0)
            return KL_ENOMEM;
    return 0;
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct kl_disruption *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "disruption controller: out of memory");
    c->env = *env;
    c->budgets = kl_informers_get(env->informers, budgets_res());
    c->pods = kl_informers_get(env->informers, pods_res());
    for (int i = 0; i < KL_OWNERS; i++)
        c->owners[i] = kl_informers_get(env->informers, kl_scale_owner_res((enum kl_scale_owner)i));
    c->reconciler = new_queue(c, "disruption", decide);
    c->stale = new_queue(c, "stale disruption", decide_stale);
    if (ready(c)) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "disruption controller: out of memory");
    }
    c->pods_by_ns = kl_informer_add_index(c->pods, kl_index_namespace);
    c->budgets_by_ns = kl_informer_add_index(c->budgets, kl_index_namespace);
    c->budget_handler = (struct kl_handler){.add = on_budget, .update = on_budget_update, .arg = c};
    c->pod_handler = (struct kl_handler){
        .add = on_pod, .update = on_pod_update, .remove = on_pod_remove, .arg = c};
    kl_informer_add_handler(c->budgets, &c->budget_handler);
    kl_informer_add_handler(c->pods, &c->pod_handler);
    kl_reconciler_start(c->reconciler);
    kl_reconciler_start(c->stale);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    const struct kl_disruption *c = self;
    return kl_reconciler_idle(c->reconciler) && kl_reconciler_idle(c->stale);
}

const struct kl_controller kl_disruption_controller = {
    .name = "disruption",
    .user = "system:serviceaccount:kube-system:disruption-controller",
    .component = "controllermanager",
    .start = start,
    .stop = stop,
    .idle = idle,
};
