// SPDX-License-Identifier: Apache-2.0
// Access, admission, flow control, certificates and devices.
#include "object/table_int.h"
#include "object/timestamp.h"

static const struct kl_value *spec_of(const struct kl_row *r, kl_sym field)
{
    return kl_path(r->root, KL_F_spec, field);
}

static const struct kl_value *conditions_of(const struct kl_row *r)
{
    return kl_path(r->root, KL_F_status, KL_F_conditions);
}

// ---- rbac

static void subjects(struct kl_row *r, const char *kind)
{
    bool first = true;
    kl_cell_begin(r);
    for (KL_EACH(subject, kl_get(r->root, KL_F_subjects))) {
        if (!kl_text_is(kl_get(subject, KL_F_kind), kind))
            continue;
        kl_cell_put(r, first ? KL_STR("") : KL_STR(", "));
        first = false;
        if (strcmp(kind, "ServiceAccount") == 0) {
            kl_cell_put(r, kl_text(kl_get(subject, KL_F_namespace)));
            kl_cell_puts(r, "/");
        }
        kl_cell_put(r, kl_text(kl_get(subject, KL_F_name)));
    }
    kl_cell_end(r);
}

void kl_print_role_binding(struct kl_row *r)
{
    const struct kl_value *role = kl_get(r->root, KL_F_roleRef);
    kl_cell_name(r);
    kl_cell_begin(r);
    kl_cell_put(r, kl_text(kl_get(role, KL_F_kind)));
    kl_cell_puts(r, "/");
    kl_cell_put(r, kl_text(kl_get(role, KL_F_name)));
    kl_cell_end(r);
    kl_cell_age(r);
    subjects(r, "User");
    subjects(r, "Group");
    subjects(r, "ServiceAccount");
}

// ---- admission

void kl_print_webhooks(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell_int(r, (int64_t)kl_len(kl_get(r->root, KL_F_webhooks)));
    kl_cell_age(r);
}

static void policy(struct kl_row *r, kl_sym what)
{
    const struct kl_value *param = spec_of(r, KL_F_paramKind);
    kl_cell_name(r);
    kl_cell_int(r, (int64_t)kl_len(spec_of(r, what)));
    kl_cell_begin(r);
    if (!param) {
        kl_cell_puts(r, "<unset>");
    } else {
        kl_cell_put(r, kl_text(kl_get(param, KL_F_apiVersion)));
        kl_cell_puts(r, "/");
        kl_cell_put(r, kl_text(kl_get(param, KL_F_kind)));
    }
    kl_cell_end(r);
    kl_cell_age(r);
}

void kl_print_validating_policy(struct kl_row *r)
{
    policy(r, KL_F_validations);
}

void kl_print_mutating_policy(struct kl_row *r)
{
    policy(r, KL_F_mutations);
}

// A LabelSelector as the generated Go code shows it for people.
static void put_go_selector(struct kl_row *r, const struct kl_value *selector)
{
    kl_cell_puts(r, "&LabelSelector{MatchLabels:map[string]string{");
    for (KL_MAP_EACH_KEY(key, kl_get(selector, KL_F_matchLabels))) {
        kl_cell_put(r, kl_text(key));
        kl_cell_puts(r, ": ");
        kl_cell_put(r, kl_text(key + 1));
        kl_cell_puts(r, ",");
    }
    kl_cell_puts(r, "},MatchExpressions:[]LabelSelectorRequirement{");
    for (KL_EACH(expr, kl_get(selector, KL_F_matchExpressions))) {
        const struct kl_value *values = kl_get(expr, KL_F_values);
        kl_cell_puts(r, "LabelSelectorRequirement{Key:");
        kl_cell_put(r, kl_text(kl_get(expr, KL_F_key)));
        kl_cell_puts(r, ",Operator:");
        kl_cell_put(r, kl_text(kl_get(expr, KL_F_operator)));
        kl_cell_puts(r, ",Values:[");
        for (size_t i = 0; i < kl_len(values); i++) {
            kl_cell_put(r, i ? KL_STR(" ") : KL_STR(""));
            kl_cell_put(r, kl_text(&values->items[i]));
        }
        kl_cell_puts(r, "],},");
    }
    kl_cell_puts(r, "},}");
}

void kl_print_policy_binding(struct kl_row *r)
{
    const struct kl_value *param = spec_of(r, KL_F_paramRef);
    struct kl_str name = kl_text(kl_get(param, KL_F_name));
    struct kl_str namespace = kl_text(kl_get(param, KL_F_namespace));
    const struct kl_value *selector = kl_get(param, KL_F_selector);
    kl_cell_name(r);
    kl_cell(r, kl_text(spec_of(r, KL_F_policyName)));
    kl_cell_begin(r);
    if (name.n) {
        kl_cell_put(r, namespace.n ? namespace : KL_STR("*"));
        kl_cell_puts(r, "/");
        kl_cell_put(r, name);
    } else if (selector) {
        put_go_selector(r, selector);
    } else {
        kl_cell_puts(r, "<unset>");
    }
    kl_cell_end(r);
    kl_cell_age(r);
}

// ---- flow control

void kl_print_flow_schema(struct kl_row *r)
{
    const struct kl_value *method = spec_of(r, KL_F_distinguisherMethod);
    const struct kl_value *dangling = kl_condition(conditions_of(r), "Dangling");
    kl_cell_name(r);
    kl_cell(r, kl_text_at(r->root, KL_F_spec, KL_F_priorityLevelConfiguration, KL_F_name));
    kl_cell_int(r, kl_int_or(spec_of(r, KL_F_matchingPrecedence), 0));
    kl_cell(r, method ? kl_text(kl_get(method, KL_F_type)) : KL_STR("<none>"));
    kl_cell_age(r);
    kl_cell(r, dangling ? kl_text(kl_get(dangling, KL_F_status)) : KL_STR("?"));
}

static void int_or_none(struct kl_row *r, const struct kl_value *holder, kl_sym field)
{
    if (holder)
        kl_cell_int(r, kl_int_or(kl_get(holder, field), 0));
    else
        kl_cell(r, KL_STR("<none>"));
}

void kl_print_priority_level(struct kl_row *r)
{
    const struct kl_value *limited = spec_of(r, KL_F_limited);
    const struct kl_value *queuing = kl_path(limited, KL_F_limitResponse, KL_F_queuing);
    kl_cell_name(r);
    kl_cell(r, kl_text(spec_of(r, KL_F_type)));
    int_or_none(r, limited, KL_F_nominalConcurrencyShares);
    int_or_none(r, queuing, KL_F_queues);
    int_or_none(r, queuing, KL_F_handSize);
    int_or_none(r, queuing, KL_F_queueLengthLimit);
    kl_cell_age(r);
}

// ---- certificates

void kl_print_signing_request(struct kl_row *r)
{
    const struct kl_value *expiration = spec_of(r, KL_F_expirationSeconds);
    const struct kl_value *conditions = conditions_of(r);
    char text[KL_TIME_TEXT];
    kl_cell_name(r);
    kl_cell_age(r);
    kl_cell_nonempty(r, spec_of(r, KL_F_signerName), "<none>");
    kl_cell(r, kl_text(spec_of(r, KL_F_username)));
    kl_cell(r, expiration ? (struct kl_str){text, kl_human_duration(kl_int_or(expiration, 0), text)}
                          : KL_STR("<none>"));
    kl_cell_begin(r);
    if (kl_condition(conditions, "Denied"))
        kl_cell_puts(r, "Denied");
    else if (kl_condition(conditions, "Approved"))
        kl_cell_puts(r, "Approved");
    else
        kl_cell_puts(r, "Pending");
    if (kl_condition(conditions, "Failed"))
        kl_cell_puts(r, ",Failed");
    if (kl_text_at(r->root, KL_F_status, KL_F_certificate).n)
        kl_cell_puts(r, ",Issued");
    kl_cell_end(r);
}

void kl_print_trust_bundle(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell_nonempty(r, spec_of(r, KL_F_signerName), "<none>");
}

void kl_print_pod_certificate(struct kl_row *r)
{
    const char *state = "Pending";
    for (KL_EACH(condition, conditions_of(r))) {
        const struct kl_value *type = kl_get(condition, KL_F_type);
        state = kl_text_is(type, "Issued")   ? "Issued"
                : kl_text_is(type, "Denied") ? "Denied"
                : kl_text_is(type, "Failed") ? "Failed"
                                             : state;
    }
    kl_cell_name(r);
    kl_cell(r, kl_text(spec_of(r, KL_F_podName)));
    kl_cell(r, kl_text(spec_of(r, KL_F_serviceAccountName)));
    kl_cell(r, kl_text(spec_of(r, KL_F_nodeName)));
    kl_cell(r, kl_text(spec_of(r, KL_F_signerName)));
    kl_cell(r, kl_str(state));
    kl_cell_map(r, spec_of(r, KL_F_unverifiedUserAnnotations));
}

// ---- devices, storage versions

void kl_print_resource_claim(struct kl_row *r)
{
    bool deleting = kl_meta_deleting(r->root);
    const struct kl_value *allocation = kl_path(r->root, KL_F_status, KL_F_allocation);
    kl_cell_name(r);
    kl_cell_begin(r);
    if (deleting)
        kl_cell_puts(r, "deleted");
    if (allocation) {
        kl_cell_put(r, deleting ? KL_STR(",allocated") : KL_STR("allocated"));
        if (kl_len(kl_path(r->root, KL_F_status, KL_F_reservedFor)))
            kl_cell_puts(r, ",reserved");
    } else if (!deleting) {
        kl_cell_puts(r, "pending");
    }
    kl_cell_end(r);
    kl_cell_age(r);
}

void kl_print_resource_slice(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell(r, kl_text(spec_of(r, KL_F_nodeName)));
    kl_cell(r, kl_text(spec_of(r, KL_F_driver)));
    kl_cell(r, kl_text_at(r->root, KL_F_spec, KL_F_pool, KL_F_name));
    kl_cell_age(r);
}

void kl_print_taint_rule(struct kl_row *r)
{
    const struct kl_value *taint = spec_of(r, KL_F_taint);
    const struct kl_value *added = kl_get(taint, KL_F_timeAdded);
    kl_cell_name(r);
    kl_cell(r, kl_text(kl_get(taint, KL_F_key)));
    kl_cell(r, kl_text(kl_get(taint, KL_F_value)));
    kl_cell(r, kl_text(kl_get(taint, KL_F_effect)));
    if (added)
        kl_cell_since(r, added);
    else
        kl_cell(r, KL_STR(""));
    kl_cell_age(r);
}

void kl_print_version_migration(struct kl_row *r)
{
    const struct kl_value *resource = spec_of(r, KL_F_resource);
    struct kl_str group = kl_text(kl_get(resource, KL_F_group)), shown = KL_STR("Unknown");
    for (KL_EACH(condition, conditions_of(r))) {
        struct kl_str type = kl_text(kl_get(condition, KL_F_type));
        if (kl_condition_is_true(condition) &&
            (kl_str_eqz(type, "Running") || kl_str_eqz(type, "Failed") ||
             kl_str_eqz(type, "Succeeded")))
            shown = type;
    }
    kl_cell_name(r);
    kl_cell_begin(r);
    kl_cell_put(r, kl_text(kl_get(resource, KL_F_resource)));
    kl_cell_put(r, group.n ? KL_STR(".") : KL_STR(""));
    kl_cell_put(r, group);
    kl_cell_end(r);
    kl_cell(r, shown);
}
