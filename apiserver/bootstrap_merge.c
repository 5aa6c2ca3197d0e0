// SPDX-License-Identifier: Apache-2.0
// Existing objects against what they should be (kubernetes component-helpers
// auth/rbac/reconciliation, flowcontrol's bootstrap ensurer): only ever adds to roles.
#include "apiserver/bootstrap_int.h"

static struct kl_str annotation(const struct kl_value *root, const char *key)
{
    return kl_text(kl_map_value(kl_meta_annotations(root), kl_str(key)));
}

// Adds the entries of metadata.labels or annotations that are not there.
static int add_entries(struct kl_arena *a, struct kl_value *draft, const struct kl_value *want,
                       kl_sym field)
{
    int changed = 0;
    for (KL_MAP_EACH_KEY(e, kl_path(want, KL_F_metadata, field))) {
        if (kl_map_value(kl_path(draft, KL_F_metadata, field), kl_text(e)))
            continue;
        struct kl_value *meta = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
        struct kl_value *map = meta ? kl_edit(a, meta, field, KL_MAP) : NULL;
        if (!map || kl_map_set_value(a, map, kl_text(e), e[1]))
            return KL_ENOMEM;
        changed = 1;
    }
    return changed;
}

static bool list_holds(const struct kl_value *list, const struct kl_value *v)
{
    for (KL_EACH(have, list))
        if (kl_value_equal(have, v))
            return true;
    return false;
}

static int append_to(struct kl_arena *a, struct kl_value *draft, kl_sym field,
                     const struct kl_value *v)
{
    struct kl_value *list = kl_edit(a, draft, field, KL_ARRAY);
    return list && !kl_append(a, list, *v) ? 1 : KL_ENOMEM;
}

// Subjects, rules of plain roles, selectors of aggregated ones.
static int add_items(struct kl_arena *a, struct kl_value *draft, const struct kl_value *want,
                     kl_sym field, bool rules)
{
    int changed = 0;
    for (KL_EACH(v, kl_get(want, field))) {
        const struct kl_value *have = kl_get(draft, field);
        if (list_holds(have, v) || (rules && kl_rbac_covers(a, have, v)))
            continue;
        if ((changed = append_to(a, draft, field, v)) < 0)
            return changed;
    }
    return changed;
}

static int merge_role(struct kl_arena *a, struct kl_value *draft, const struct kl_value *want)
{
    const struct kl_value *aggregation = kl_get(want, KL_F_aggregationRule);
    if (!aggregation)
        return add_items(a, draft, want, KL_F_rules, true);
    // The rules of these follow what they select.
    struct kl_value *own = kl_edit(a, draft, KL_F_aggregationRule, KL_STRUCT);
    return own ? add_items(a, own, aggregation, KL_F_clusterRoleSelectors, false) : KL_ENOMEM;
}

static int merge_rbac(struct kl_arena *a, enum kl_boot_mode mode, struct kl_value *draft,
                      const struct kl_value *want, bool *ret_anew)
{
    if (kl_str_eqz(annotation(draft, "rbac.authorization.kubernetes.io/autoupdate"), "false"))
        return 0;
    if (mode == KL_BOOT_BINDING &&
        !kl_value_equal(kl_get(draft, KL_F_roleRef), kl_get(want, KL_F_roleRef))) {
        *ret_anew = true;
        return 1;
    }
    int labels = add_entries(a, draft, want, KL_F_labels),
        notes = add_entries(a, draft, want, KL_F_annotations),
        items = mode == KL_BOOT_ROLE ? merge_role(a, draft, want)
                                     : add_items(a, draft, want, KL_F_subjects, false);
    return labels < 0 || notes < 0 || items < 0 ? KL_ENOMEM : labels || notes || items;
}

static int put_back(struct kl_arena *a, struct kl_value *parent, kl_sym field,
                    const struct kl_value *want)
{
    if (kl_value_equal(kl_get(parent, field), want))
        return 0;
    int rc = want ? kl_set(a, parent, field, *want) : kl_unset(a, parent, field);
    return rc ? KL_ENOMEM : 1;
}

static int put_back_all(struct kl_arena *a, struct kl_value *draft, const struct kl_value *want)
{
    int changed = 0;
    for (KL_EACH(m, want)) {
        int rc = m->sym == KL_F_metadata ? 0 : put_back(a, draft, m->sym, m);
        if (rc < 0)
            return rc;
        changed |= rc;
    }
    int labels = add_entries(a, draft, want, KL_F_labels);
    return labels < 0 ? labels : changed | labels;
}

// The mandatory ones are never the user's. Of the others those that say so, or that say nothing and
// were changed.
static int merge_flow_control(struct kl_arena *a, struct kl_value *draft,
                              const struct kl_value *want)
{
    static const char key[] = "apf.kubernetes.io/autoupdate-spec";
    struct kl_str name = kl_meta_name(want), says = annotation(draft, key);
    bool mandatory = kl_str_eqz(name, "exempt") || kl_str_eqz(name, "catch-all");
    bool ours = mandatory || (kl_str_eqz(says, "true") ? true
                              : kl_str_eqz(says, "false")
                                  ? false
                                  : kl_int_at(draft, 0, KL_F_metadata, KL_F_generation) == 1);
    struct kl_str say = ours ? KL_STR("true") : KL_STR("false");
    int spec = ours ? put_back(a, draft, KL_F_spec, kl_get(want, KL_F_spec)) : 0;
    if (spec < 0 || kl_str_eq(says, say))
        return spec;
    struct kl_value *meta = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    struct kl_value *notes = meta ? kl_edit(a, meta, KL_F_annotations, KL_MAP) : NULL;
    return notes && !kl_map_set_value(a, notes, kl_str(key), kl_string(say)) ? 1 : KL_ENOMEM;
}

// kube-aggregator's autoregister controller.
static bool is_automanaged(const struct kl_value *o)
{
    struct kl_str how = kl_text(
        kl_map_value(kl_meta_labels(o), KL_STR("kube-aggregator.kubernetes.io/automanaged")));
    return kl_str_eqz(how, "onstart") || kl_str_eqz(how, "true");
}

// What the server was started with, but for the node port: that is decided when the Service is
// made.
static int merge_ports(struct kl_arena *a, struct kl_value *draft, const struct kl_value *want)
{
    struct kl_value ports, *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
    int64_t port = kl_int_at(kl_at(kl_get(spec, KL_F_ports), 0), 0, KL_F_nodePort);
    struct kl_value *first = kl_copy(a, want, &ports) ? NULL : kl_edit_at(a, &ports, 0);
    if (!spec || !first ||
        (port ? kl_set(a, first, KL_F_nodePort, kl_int(port)) : kl_unset(a, first, KL_F_nodePort)))
        return KL_ENOMEM;
    return put_back(a, spec, KL_F_ports, &ports);
}

int kl_bootstrap_merge(struct kl_arena *a, enum kl_boot_mode mode, struct kl_value *draft,
                       const struct kl_value *want, bool *ret_anew)
{
    *ret_anew = false;
    switch (mode) {
    case KL_BOOT_ROLE:
    case KL_BOOT_BINDING:
        return merge_rbac(a, mode, draft, want, ret_anew);
    case KL_BOOT_SPEC:
        return merge_flow_control(a, draft, want);
    case KL_BOOT_LOCAL: // unless somebody has taken it into their own hands
        return is_automanaged(draft) ? put_back(a, draft, KL_F_spec, kl_get(want, KL_F_spec)) : 0;
    case KL_BOOT_SERVICE:
        return merge_ports(a, draft, kl_path(want, KL_F_spec, KL_F_ports));
    case KL_BOOT_DATA:
        return put_back_all(a, draft, want);
    case KL_BOOT_CREATE:
        break;
    }
    return 0;
}
