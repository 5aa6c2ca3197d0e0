// SPDX-License-Identifier: Apache-2.0
// Deployments, ReplicaSets, DaemonSets, StatefulSets and Jobs: selectors, templates, strategies.
#include "apiserver/strategy_int.h"

static void put_selector(struct kl_field_errors *e, const struct kl_value *selector,
                         const char *what)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    if (selector)
        kl_json_encode(
            &b, kl_type_by_name(KL_STR("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector")),
            selector, KL_STR(""));
    else
        kl_buf_puts(&b, KL_STR("null"));
    kl_field_error(e, "FieldValueInvalid", KL_STR("spec.selector"), "Invalid value: %.*s: %s",
                   KL_PRI(kl_buf_str(&b)), what);
    kl_buf_fini(&b);
}

static void check_replicas(const struct kl_value *now, struct kl_field_errors *e)
{
    int64_t n = kl_int_at(now, 0, KL_F_spec, KL_F_replicas);
    if (n < 0)
        kl_field_error(e, "FieldValueInvalid", KL_STR("spec.replicas"),
                       "Invalid value: %lld: must be greater than or equal to 0", (long long)n);
}

// A selector that is missing selects nothing, so the template's labels do not match it either.
static void check_selector(struct kl_req *r, const struct kl_value *now, const char *kind,
                           struct kl_field_errors *e)
{
    const struct kl_value *sel = kl_path(now, KL_F_spec, KL_F_selector);
    const struct kl_value *labels =
        kl_path(now, KL_F_spec, KL_F_template, KL_F_metadata, KL_F_labels);
    struct kl_selector s = {.nothing = true};
    struct kl_error err = {0};
    if (!sel) {
        kl_field_required(e, KL_STR("spec.selector"), "");
    } else if (kl_label_selector_from(r->arena, sel, &s, &err)) {
        kl_field_error(e, "FieldValueInvalid", KL_STR("spec.selector"), "Invalid value: %s",
                       err.msg);
        return;
    } else if (!s.n) {
        put_selector(e, sel, kl_arena_printf(r->arena, "empty selector is invalid for %s", kind).p);
        return;
    }
    if (kl_selector_matches(&s, labels))
        return;
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_json_write(&b, labels);
    kl_field_error(e, "FieldValueInvalid", KL_STR("spec.template.metadata.labels"),
                   "Invalid value: %.*s: `selector` does not match template `labels`",
                   KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
}

static void check_template(struct kl_req *r, const struct kl_value *now, struct kl_field_errors *e)
{
    static const char *const always[] = {"Always", NULL};
    const struct kl_value *t = kl_path(now, KL_F_spec, KL_F_template);
    struct kl_str policy = kl_text_at(t, KL_F_spec, KL_F_restartPolicy);
    kl_validate_pod_template(r, t, "spec.template", e);
    if (kl_str_eqz(policy, "Never") || kl_str_eqz(policy, "OnFailure"))
        kl_field_unsupported(e, KL_STR("spec.template.spec.restartPolicy"), policy, always);
}

static bool is_zero(const struct kl_value *v)
{
    return v && (kl_is(v, KL_INT) ? v->i == 0 : kl_str_eqz(kl_text(v), "0%"));
}

static void check_strategy(const struct kl_value *now, struct kl_field_errors *e)
{
    const struct kl_value *s = kl_path(now, KL_F_spec, KL_F_strategy);
    const struct kl_value *u = kl_get(s, KL_F_rollingUpdate);
    struct kl_str type = kl_text(kl_get(s, KL_F_type));
    if (!kl_str_eqz(type, "Recreate") && !kl_str_eqz(type, "RollingUpdate"))
        kl_field_error(e, "FieldValueNotSupported", KL_STR("spec.strategy"),
                       "Unsupported value: {\"Type\":\"%.*s\",\"RollingUpdate\":null}: supported "
                       "values: \"Recreate\", \"RollingUpdate\"",
                       KL_PRI(type));
    else if (kl_str_eqz(type, "Recreate") && u)
        kl_field_forbidden(e, KL_STR("spec.strategy.rollingUpdate"),
                           "may not be specified when strategy `type` is 'Recreate'");
    else if (is_zero(kl_get(u, KL_F_maxUnavailable)) && is_zero(kl_get(u, KL_F_maxSurge)))
        kl_field_error(e, "FieldValueInvalid", KL_STR("spec.strategy.rollingUpdate.maxUnavailable"),
                       "Invalid value: %s: may not be 0 when `maxSurge` is 0",
                       kl_is(kl_get(u, KL_F_maxUnavailable), KL_INT) ? "0" : "\"0%\"");
}

static void check_immutable(const struct kl_value *now, const struct kl_value *old,
                            struct kl_field_errors *e)
{
    const struct kl_value *sel = kl_path(now, KL_F_spec, KL_F_selector);
    if (old && !kl_value_equal(sel, kl_path(old, KL_F_spec, KL_F_selector)))
        put_selector(e, sel, "field is immutable");
}

void kl_deployment_validate(struct kl_req *r, const struct kl_value *now,
                            const struct kl_value *old, struct kl_field_errors *e)
{
    if (r->info.sub.n)
        return;
    check_replicas(now, e);
    check_selector(r, now, "deployment", e);
    check_template(r, now, e);
    check_strategy(now, e);
    check_immutable(now, old, e);
}

void kl_workload_validate(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                          struct kl_field_errors *e)
{
    if (r->info.sub.n)
        return;
    check_replicas(now, e);
    check_selector(r, now, kl_str_eqz(r->info.plural, "replicasets") ? "deployment" : "statefulset",
                   e);
    check_template(r, now, e);
    check_immutable(now, old, e);
}

void kl_job_validate(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                     struct kl_field_errors *e)
{
    static const char *const allowed[] = {"OnFailure", "Never", NULL};
    const struct kl_value *t = kl_path(now, KL_F_spec, KL_F_template);
    struct kl_str policy = kl_text_at(t, KL_F_spec, KL_F_restartPolicy);
    if (r->info.sub.n)
        return;
    kl_validate_pod_template(r, t, "spec.template", e);
    if (!kl_str_eqz(policy, "OnFailure") && !kl_str_eqz(policy, "Never"))
        kl_field_unsupported(e, KL_STR("spec.template.spec.restartPolicy"), policy, allowed);
    if (old && !kl_value_equal(t, kl_path(old, KL_F_spec, KL_F_template)))
        kl_field_error(e, "FieldValueInvalid", KL_STR("spec.template"),
                       "Invalid value: field is immutable");
}
