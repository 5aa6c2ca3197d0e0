// SPDX-License-Identifier: Apache-2.0
// The plugins of the default profile that look at one pod and one node. Reasons are upstream's
// constants (pkg/scheduler/framework/plugins).
#include "scheduler/schedule.h"
#include <math.h>

enum { MAX_SCORE = 100 };

static const struct kl_value *spec_of(const struct kl_pod_info *pod)
{
    return kl_get(&pod->object->root, KL_F_spec);
}

static void add_reason(struct kl_reasons *r, struct kl_str text, bool unresolvable)
{
    if (r->n < KL_REASONS_MAX)
        r->text[r->n++] = text;
    r->unresolvable |= unresolvable;
}

// ---- taints

static bool tolerates_key_value(const struct kl_value *t, const struct kl_value *taint)
{
    struct kl_str key = kl_text(kl_get(t, KL_F_key)), op = kl_text(kl_get(t, KL_F_operator));
    if (key.n && !kl_str_eq(key, kl_text(kl_get(taint, KL_F_key))))
        return false;
    if (kl_str_eq(op, KL_STR("Exists")))
        return true;
    return (op.n == 0 || kl_str_eq(op, KL_STR("Equal"))) &&
           kl_str_eq(kl_text(kl_get(t, KL_F_value)), kl_text(kl_get(taint, KL_F_value)));
}

bool kl_tolerates(const struct kl_value *tolerations, const struct kl_value *taint)
{
    for (KL_EACH(t, tolerations)) {
        struct kl_str effect = kl_text(kl_get(t, KL_F_effect));
        if (effect.n && !kl_str_eq(effect, kl_text(kl_get(taint, KL_F_effect))))
            continue;
        if (tolerates_key_value(t, taint))
            return true;
    }
    return false;
}

static bool keeps_pods_away(const struct kl_value *taint)
{
    struct kl_str effect = kl_text(kl_get(taint, KL_F_effect));
    return kl_str_eq(effect, KL_STR("NoSchedule")) || kl_str_eq(effect, KL_STR("NoExecute"));
}

static bool fits_taints(struct kl_arena *a, const struct kl_pod_info *pod,
                        const struct kl_node_info *n, struct kl_reasons *reasons)
{
    if (!n->tainted)
        return true;
    const struct kl_value *tolerations = kl_get(spec_of(pod), KL_F_tolerations);
    for (KL_EACH(taint, kl_path(&n->node->root, KL_F_spec, KL_F_taints))) {
        if (keeps_pods_away(taint) && !kl_tolerates(tolerations, taint)) {
            add_reason(reasons, KL_STR("node(s) had untolerated taint(s)"), true);
            return false;
        }
    }
    return true;
}

static int64_t score_taints(const struct kl_pod_info *pod, const struct kl_node_info *n)
{
    if (!n->tainted)
        return 0;
    int64_t count = 0;
    const struct kl_value *tolerations = kl_get(spec_of(pod), KL_F_tolerations);
    for (KL_EACH(taint, kl_path(&n->node->root, KL_F_spec, KL_F_taints))) {
        if (kl_str_eq(kl_text(kl_get(taint, KL_F_effect)), KL_STR("PreferNoSchedule")))
            count += !kl_tolerates(tolerations, taint);
    }
    return count;
}

static bool fits_unschedulable(struct kl_arena *a, const struct kl_pod_info *pod,
                               const struct kl_node_info *n, struct kl_reasons *reasons)
{
    if (!n->unschedulable)
        return true;
    struct kl_value members[2] = {kl_string(KL_STR("node.kubernetes.io/unschedulable")),
                                  kl_string(KL_STR("NoSchedule"))};
    members[0].sym = KL_F_key;
    members[1].sym = KL_F_effect;
    const struct kl_value taint = {.kind = KL_STRUCT, .n = 2, .items = members};
    if (kl_tolerates(kl_get(spec_of(pod), KL_F_tolerations), &taint))
        return true;
    add_reason(reasons, KL_STR("node(s) were unschedulable"), true);
    return false;
}

static bool fits_name(struct kl_arena *a, const struct kl_pod_info *pod,
                      const struct kl_node_info *n, struct kl_reasons *reasons)
{
    struct kl_str wanted = kl_text(kl_get(spec_of(pod), KL_F_nodeName));
    if (!wanted.n || kl_str_eq(wanted, n->name))
        return true;
    add_reason(reasons, KL_STR("node(s) didn't match the requested node name"), true);
    return false;
}

// ---- node selector and affinity

// `have` is NULL when the label is absent.
static bool requirement_matches(const struct kl_value *req, const struct kl_value *have)
{
    struct kl_str op = kl_text(kl_get(req, KL_F_operator));
    const struct kl_value *values = kl_get(req, KL_F_values);
    if (kl_str_eq(op, KL_STR("In")))
        return have && kl_has_text(values, kl_text(have));
    if (kl_str_eq(op, KL_STR("NotIn")))
        return !have || !kl_has_text(values, kl_text(have));
    if (kl_str_eq(op, KL_STR("Exists")))
        return have != NULL;
    if (kl_str_eq(op, KL_STR("DoesNotExist")))
        return have == NULL;
    int64_t is, limit;
    if (!have || kl_len(values) != 1 || !kl_str_to_i64(kl_text(have), &is) ||
        !kl_str_to_i64(kl_text(kl_at(values, 0)), &limit))
        return false;
    return kl_str_eq(op, KL_STR("Gt")) ? is > limit : kl_str_eq(op, KL_STR("Lt")) && is < limit;
}

static bool term_matches(const struct kl_value *term, const struct kl_node_info *n)
{
    const struct kl_value *labels = kl_meta_labels(&n->node->root);
    const struct kl_value *expressions = kl_get(term, KL_F_matchExpressions);
    const struct kl_value *fields = kl_get(term, KL_F_matchFields);
    if (!kl_len(expressions) && !kl_len(fields))
        return false; // an empty term selects nothing
    for (KL_EACH(req, expressions)) {
        if (!requirement_matches(req, kl_map_value(labels, kl_text(kl_get(req, KL_F_key)))))
            return false;
    }
    for (KL_EACH(req, fields)) {
        struct kl_value name = kl_string(n->name);
        bool known = kl_str_eq(kl_text(kl_get(req, KL_F_key)), KL_STR("metadata.name"));
        if (!requirement_matches(req, known ? &name : NULL))
            return false;
    }
    return true;
}

bool kl_node_selector_matches(const struct kl_value *term_list, const struct kl_node_info *n)
{
    for (KL_EACH(term, term_list)) {
        if (term_matches(term, n))
            return true;
    }
    return false;
}

static bool matches_affinity(const struct kl_pod_info *pod, const struct kl_node_info *n)
{
    const struct kl_value *spec = spec_of(pod), *labels = kl_meta_labels(&n->node->root);
    for (KL_MAP_EACH_KEY(k, kl_get(spec, KL_F_nodeSelector))) {
        const struct kl_value *have = kl_map_value(labels, kl_text(k));
        if (!have || !kl_str_eq(kl_text(have), kl_text(k + 1)))
            return false;
    }
    const struct kl_value *required = kl_path(spec, KL_F_affinity, KL_F_nodeAffinity,
                                              KL_F_requiredDuringSchedulingIgnoredDuringExecution);
    return !required || kl_node_selector_matches(kl_get(required, KL_F_nodeSelectorTerms), n);
}

static bool fits_affinity(struct kl_arena *a, const struct kl_pod_info *pod,
                          const struct kl_node_info *n, struct kl_reasons *reasons)
{
    if (matches_affinity(pod, n))
        return true;
    add_reason(reasons, KL_STR("node(s) didn't match Pod's node affinity/selector"), true);
    return false;
}

static const struct kl_value *preferred_terms(const struct kl_pod_info *pod)
{
    return kl_path(spec_of(pod), KL_F_affinity, KL_F_nodeAffinity,
                   KL_F_preferredDuringSchedulingIgnoredDuringExecution);
}

static int64_t score_affinity(const struct kl_pod_info *pod, const struct kl_node_info *n)
{
    int64_t score = 0;
    for (KL_EACH(t, preferred_terms(pod))) {
        if (term_matches(kl_get(t, KL_F_preference), n))
            score += kl_int_or(kl_get(t, KL_F_weight), 0);
    }
    return score;
}

static bool has_no_preference(const struct kl_pod_info *pod)
{
    return kl_len(preferred_terms(pod)) == 0;
}

// ---- ports

static bool is_any_address(struct kl_str ip)
{
    return ip.n == 0 || kl_str_eq(ip, KL_STR("0.0.0.0"));
}

static bool ports_clash(const struct kl_host_port *a, const struct kl_host_port *b)
{
    return a->port == b->port && kl_str_eq(a->protocol, b->protocol) &&
           (is_any_address(a->ip) || is_any_address(b->ip) || kl_str_eq(a->ip, b->ip));
}

static bool fits_ports(struct kl_arena *a, const struct kl_pod_info *pod,
                       const struct kl_node_info *n, struct kl_reasons *reasons)
{
    if (!pod->nports || !n->nports)
        return true;
    for (size_t i = 0; i < n->npods; i++) {
        const struct kl_pod_info *other = n->pods[i];
        for (uint32_t k = 0; k < other->nports * pod->nports; k++) {
            if (!ports_clash(&other->ports[k / pod->nports], &pod->ports[k % pod->nports]))
                continue;
            add_reason(reasons,
                       KL_STR("node(s) didn't have free ports for the requested pod ports"), false);
            return false;
        }
    }
    return true;
}

// ---- resources

static bool fits_resources(struct kl_arena *a, const struct kl_pod_info *pod,
                           const struct kl_node_info *n, struct kl_reasons *reasons)
{
    const struct kl_amounts *want = &pod->requests, *all = &n->allocatable, *used = &n->requested;
    size_t before = reasons->n;
    if ((int64_t)n->npods + 1 > n->max_pods)
        add_reason(reasons, KL_STR("Too many pods"), false);
    if (want->cpu_milli > 0 && want->cpu_milli > all->cpu_milli - used->cpu_milli)
        add_reason(reasons, KL_STR("Insufficient cpu"), want->cpu_milli > all->cpu_milli);
    if (want->memory > 0 && want->memory > all->memory - used->memory)
        add_reason(reasons, KL_STR("Insufficient memory"), want->memory > all->memory);
    if (want->ephemeral > 0 && want->ephemeral > all->ephemeral - used->ephemeral)
        add_reason(reasons, KL_STR("Insufficient ephemeral-storage"),
                   want->ephemeral > all->ephemeral);
    for (uint32_t i = 0; i < want->nscalars; i++) {
        struct kl_str name = want->scalars[i].name;
        int64_t need = want->scalars[i].n, have = kl_node_amounts_get(all, name);
        if (need > 0 && need > have - kl_node_amounts_get(used, name))
            add_reason(reasons, kl_arena_printf(a, "Insufficient %.*s", KL_PRI(name)), need > have);
    }
    return reasons->n == before;
}

static int64_t least_requested(int64_t requested, int64_t capacity)
{
    return requested > capacity ? 0 : (capacity - requested) * MAX_SCORE / capacity;
}

static int64_t score_least_allocated(const struct kl_pod_info *pod, const struct kl_node_info *n)
{
    int64_t score = 0, weights = 0;
    if (n->allocatable.cpu_milli) {
        score += least_requested(n->nonzero_cpu_milli + pod->nonzero_cpu_milli,
                                 n->allocatable.cpu_milli);
        weights++;
    }
    if (n->allocatable.memory) {
        score += least_requested(n->nonzero_memory + pod->nonzero_memory, n->allocatable.memory);
        weights++;
    }
    return weights ? score / weights : 0;
}

static double fraction(int64_t used, int64_t capacity)
{
    return used >= capacity ? 1 : (double)used / (double)capacity;
}

// With two resources the deviation from the mean is half their difference.
static int64_t score_balance(const struct kl_pod_info *pod, const struct kl_node_info *n)
{
    if (!n->allocatable.cpu_milli || !n->allocatable.memory)
        return MAX_SCORE;
    double cpu =
        fraction(n->requested.cpu_milli + pod->requests.cpu_milli, n->allocatable.cpu_milli);
    double memory = fraction(n->requested.memory + pod->requests.memory, n->allocatable.memory);
    return (int64_t)((1 - fabs(cpu - memory) / 2) * MAX_SCORE);
}

static bool asks_for_nothing(const struct kl_pod_info *pod)
{
    return !pod->requests.cpu_milli && !pod->requests.memory;
}

// In upstream's order: the first that turns a node away is the one that is named.
const struct kl_filter kl_filters[] = {
    {KL_PLUGIN_NODE_UNSCHEDULABLE, fits_unschedulable},
    {KL_PLUGIN_NODE_NAME, fits_name},
    {KL_PLUGIN_TAINTS, fits_taints},
    {KL_PLUGIN_NODE_AFFINITY, fits_affinity},
    {KL_PLUGIN_NODE_PORTS, fits_ports},
    {KL_PLUGIN_RESOURCES, fits_resources},
};
const size_t kl_nfilters = KL_COUNT(kl_filters);

const struct kl_scorer kl_scorers[] = {
    {.weight = 3, .score = score_taints, .normalize = true, .reverse = true},
    {.weight = 2, .score = score_affinity, .normalize = true, .skip = has_no_preference},
    {.weight = 1, .score = score_least_allocated},
    {.weight = 1, .score = score_balance, .skip = asks_for_nothing},
};
const size_t kl_nscorers = KL_COUNT(kl_scorers);

struct kl_str kl_schedule_gates(struct kl_arena *a, const struct kl_pod_info *pod)
{
    struct kl_str list = {"", 0};
    for (KL_EACH(g, kl_get(spec_of(pod), KL_F_schedulingGates))) {
        struct kl_str name = kl_text(kl_get(g, KL_F_name));
        list = kl_arena_printf(a, "%.*s%s%.*s", KL_PRI(list), list.n ? " " : "", KL_PRI(name));
    }
    return list.n ? kl_arena_printf(a, "waiting for scheduling gates: [%.*s]", KL_PRI(list)) : list;
}
