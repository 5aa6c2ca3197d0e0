// SPDX-License-Identifier: Apache-2.0
// Jobs and CronJobs.
#include "object/validate/cron_int.h"
#include "object/validate/pod_int.h"

static bool is_indexed(const struct kl_value *spec)
{
    return kl_v_is(spec, KL_F_completionMode, "Indexed");
}

// ---- index lists: "0,3-5"

static const char *parse_index(struct kl_v *c, struct kl_str s, int64_t completions, int64_t *ret)
{
    if (!kl_str_to_i64(s, ret))
        return kl_v_text(c, "cannot convert string to integer for index: \"%.*s\"", KL_PRI(s));
    return *ret >= completions ? kl_v_text(c, "too large index: \"%.*s\"", KL_PRI(s)) : NULL;
}

static const char *parse_interval(struct kl_v *c, struct kl_str s, int64_t completions, int64_t *x,
                                  int64_t *y)
{
    struct kl_str rest = s, low;
    const char *why;
    size_t dashes = 0;
    for (size_t i = 0; i < s.n; i++)
        dashes += s.p[i] == '-';
    if (dashes > 1)
        return kl_v_text(c,
                         "the fragment \"%.*s\" violates the requirement that an index interval "
                         "can have at most two parts separated by '-'",
                         KL_PRI(s));
    if (!kl_str_split(&rest, '-', &low))
        low = s;
    if ((why = parse_index(c, low, completions, x)))
        return why;
    *y = *x;
    if (!dashes)
        return NULL;
    if ((why = parse_index(c, rest, completions, y)))
        return why;
    return *x >= *y ? kl_v_text(c, "non-increasing order, previous: %lld, current: %lld",
                                (long long)*x, (long long)*y)
                    : NULL;
}

static const char *parse_indexes(struct kl_v *c, struct kl_str s, int64_t completions,
                                 int64_t *ret_total)
{
    struct kl_str rest = s, part;
    int64_t last = -1, x, y;
    bool any = false;
    *ret_total = 0;
    while (s.n && kl_str_split(&rest, ',', &part)) {
        const char *why = parse_interval(c, part, completions, &x, &y);
        if (why)
            return *ret_total = 0, why;
        if (any && last >= x)
            return *ret_total = 0,
                   kl_v_text(c, "non-increasing order, previous: %lld, current: %lld",
                             (long long)last, (long long)x);
        *ret_total += y - x + 1;
        last = y;
        any = true;
    }
    return NULL;
}

// ---- policies

static bool has_container(const struct kl_value *spec, struct kl_str name)
{
    static const kl_sym lists[] = {KL_F_containers, KL_F_initContainers};
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (KL_EACH(x, kl_path(spec, KL_F_template, KL_F_spec, lists[l])))
            if (kl_str_eq(kl_text(kl_get(x, KL_F_name)), name))
                return true;
    return false;
}

static void check_exit_codes(struct kl_v *c, const struct kl_value *v, const struct kl_value *spec,
                             const struct kl_vpath *p)
{
    static const char *const operators[] = {"In", "NotIn", NULL};
    struct kl_str op = kl_text(kl_get(v, KL_F_operator));
    const struct kl_value *name = kl_get(v, KL_F_containerName), *values = kl_get(v, KL_F_values);
    bool ordered = true;
    if (!op.n)
        kl_v_required(c, F(p, operator), "valid values: [\"In\" \"NotIn\"]");
    else if (!kl_v_in(op, operators))
        kl_v_unsupported(c, F(p, operator), op, operators);
    if (name && !has_container(spec, kl_text(name)))
        kl_v_invalid_str(c, F(p, containerName), kl_text(name),
                         "must be one of the container or initContainer names in the pod template");
    if (!kl_len(values))
        kl_v_invalid(c, F(p, values), values, "at least one value is required");
    else if (kl_len(values) > 255)
        kl_v_too_many(c, F(p, values), kl_len(values), 255);
    for (size_t i = 0; i < kl_len(values); i++) {
        int64_t code = kl_int_or(kl_at(values, i), 0);
        if (kl_str_eqz(op, "In") && !code)
            kl_v_invalid_int(c, I(F(p, values), i), code, "must not be 0 for the In operator");
        for (size_t k = 0; k < i; k++)
            if (kl_int_or(kl_at(values, k), 0) == code) {
                kl_v_duplicate_text(c, I(F(p, values), i),
                                    kl_str(kl_v_text(c, "%lld", (long long)code)));
                break;
            }
        ordered &= !i || kl_int_or(kl_at(values, i - 1), 0) <= code;
    }
    if (!ordered)
        kl_v_invalid(c, F(p, values), values, "must be ordered");
}

static void check_pattern(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const statuses[] = {"False", "True", "Unknown", NULL};
    struct kl_str status = kl_text(kl_get(v, KL_F_status));
    kl_v_format(c, F(p, type), kl_text(kl_get(v, KL_F_type)), KL_V_QUALIFIED);
    if (!status.n)
        kl_v_required(c, F(p, status), "valid values: [\"False\" \"True\" \"Unknown\"]");
    else if (!kl_v_in(status, statuses))
        kl_v_unsupported(c, F(p, status), status, statuses);
}

static void check_failure_rule(struct kl_v *c, const struct kl_value *r,
                               const struct kl_value *spec, const struct kl_vpath *p)
{
    static const char *const actions[] = {"Count", "FailIndex", "FailJob", "Ignore", NULL};
    struct kl_str action = kl_text(kl_get(r, KL_F_action));
    const struct kl_value *codes = kl_get(r, KL_F_onExitCodes);
    const struct kl_value *patterns = kl_get(r, KL_F_onPodConditions);
    size_t i = 0;
    if (!action.n)
        kl_v_required(c, F(p, action),
                      "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]");
    else if (kl_str_eqz(action, "FailIndex")) {
        if (!kl_get(spec, KL_F_backoffLimitPerIndex))
            kl_v_invalid_str(c, F(p, action), action,
                             "requires the backoffLimitPerIndex to be set");
    } else if (!kl_v_in(action, actions))
        kl_v_unsupported(c, F(p, action), action, actions);
    if (codes)
        check_exit_codes(c, codes, spec, F(p, onExitCodes));
    if (kl_len(patterns) > 20)
        kl_v_too_many(c, F(p, onPodConditions), kl_len(patterns), 20);
    for (KL_EACH(v, patterns))
        check_pattern(c, v, I(F(p, onPodConditions), i++));
    if (codes && kl_len(patterns))
        kl_v_invalid_omitted(c, p,
                             "specifying both OnExitCodes and OnPodConditions is not supported");
    if (!codes && !kl_len(patterns))
        kl_v_invalid_omitted(c, p, "specifying one of OnExitCodes and OnPodConditions is required");
}

static void check_success_rule(struct kl_v *c, const struct kl_value *r,
                               const struct kl_value *spec, const struct kl_vpath *p)
{
    const struct kl_value *count = kl_get(r, KL_F_succeededCount);
    const struct kl_value *indexes = kl_get(r, KL_F_succeededIndexes);
    int64_t completions = kl_int_at(spec, 0, KL_F_completions), total = 0;
    int64_t n = kl_int_or(count, 0);
    if (!count && !indexes)
        kl_v_required(c, p, "at least one of succeededCount or succeededIndexes must be specified");
    if (indexes) {
        if (kl_text(indexes).n > 64 * 1024)
            kl_v_too_long(c, F(p, succeededIndexes), 64 * 1024);
        const char *why = parse_indexes(c, kl_text(indexes), completions, &total);
        if (why)
            kl_v_invalid_str(c, F(p, succeededIndexes), kl_text(indexes),
                             kl_v_text(c, "error parsing succeededIndexes: %s", why));
    }
    if (!count)
        return;
    kl_v_nonnegative(c, F(p, succeededCount), n);
    if (n > completions)
        kl_v_invalid_int(c, F(p, succeededCount), n,
                         kl_v_text(c,
                                   "must be less than or equal to %lld (the number of specified "
                                   "completions)",
                                   (long long)completions));
    if (indexes && n > total)
        kl_v_invalid_int(c, F(p, succeededCount), n,
                         kl_v_text(c,
                                   "must be less than or equal to %lld (the number of indexes in "
                                   "the specified succeededIndexes field)",
                                   (long long)total));
}

static void check_success(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p)
{
    const struct kl_value *rules = kl_path(spec, KL_F_successPolicy, KL_F_rules);
    size_t i = 0;
    if (!is_indexed(spec)) {
        kl_v_invalid_json(c, p, kl_type(KL_TYPE_batch_v1_SuccessPolicy),
                          kl_get(spec, KL_F_successPolicy), true,
                          "requires indexed completion mode");
        return;
    }
    if (!kl_len(rules))
        kl_v_required(c, F(p, rules),
                      "at least one rules must be specified when the successPolicy is specified");
    if (kl_len(rules) > 20)
        kl_v_too_many(c, F(p, rules), kl_len(rules), 20);
    // Upstream trusts that completions are there; without them that is an error already.
    if (kl_get(spec, KL_F_completions))
        for (KL_EACH(r, rules))
            check_success_rule(c, r, spec, I(F(p, rules), i++));
}

// ---- numbers

static void check_managed_by(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str s = kl_text(v), rest = s, host;
    if (!s.n) {
        kl_v_required(c, p, "");
    } else {
        kl_str_split(&rest, '/', &host);
        if (!rest.n || !host.n)
            kl_v_invalid_str(c, p, s, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        else {
            bool good = true;
            kl_v_format(c, p, host, KL_V_SUBDOMAIN);
            for (size_t i = 0; i < rest.n; i++) {
                char ch = rest.p[i];
                good &= (ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z') ||
                        strchr("/-._~%!$&'()*+,;=:", ch) != NULL;
            }
            if (!good)
                kl_v_invalid_str(c, p, rest,
                                 "Invalid path (regex used for validation is "
                                 "'[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')");
        }
    }
    if (s.n > 63)
        kl_v_too_long(c, p, 63);
}

#define MUST_BE "must be less than or equal to "
#define HIGH " when completions are above 100000 and used with backoff limit per index"

static void over(struct kl_v *c, const struct kl_value *v, int64_t max, const struct kl_vpath *p,
                 const char *why)
{
    if (v && kl_int_or(v, 0) > max)
        kl_v_invalid_int(c, p, kl_int_or(v, 0), why);
}

static void check_indexed(struct kl_v *c, const struct kl_value *s, const struct kl_vpath *p)
{
    const struct kl_value *n = kl_get(s, KL_F_completions), *par = kl_get(s, KL_F_parallelism);
    const struct kl_value *failed = kl_get(s, KL_F_maxFailedIndexes);
    if (!n)
        kl_v_required(c, F(p, completions), "when completion mode is Indexed");
    over(c, par, 100000, F(p, parallelism), MUST_BE "100000 when completion mode is Indexed");
    if (n)
        over(c, failed, kl_int_or(n, 0), F(p, maxFailedIndexes), MUST_BE "completions");
    over(c, failed, 100000, F(p, maxFailedIndexes), MUST_BE "100000");
    if (kl_int_or(n, 0) <= 100000 || !kl_get(s, KL_F_backoffLimitPerIndex))
        return;
    if (!failed)
        kl_v_required(c, F(p, maxFailedIndexes),
                      "must be specified when completions is above 100000");
    over(c, par, 10000, F(p, parallelism), MUST_BE "10000" HIGH);
    over(c, failed, 10000, F(p, maxFailedIndexes), MUST_BE "10000" HIGH);
}

static void check_restart(struct kl_v *c, const struct kl_value *s, const struct kl_vpath *p)
{
    static const char *const policies[] = {"OnFailure", "Never", NULL};
    struct kl_str policy = kl_text_at(s, KL_F_template, KL_F_spec, KL_F_restartPolicy);
    const struct kl_vpath *at = F(F(F(p, template), spec), restartPolicy);
    if (!policy.n || kl_str_eqz(policy, "Always"))
        kl_v_required(c, at, "valid values: \"OnFailure\", \"Never\"");
    else if (!kl_v_in(policy, policies))
        kl_v_unsupported(c, at, policy, policies);
    else if (kl_get(s, KL_F_podFailurePolicy) && !kl_str_eqz(policy, "Never"))
        kl_v_invalid_str(c, at, policy,
                         "only \"Never\" is supported when podFailurePolicy is specified");
}

static void check_job_spec(struct kl_v *c, const struct kl_value *s, const struct kl_vpath *p)
{
    static const char *const modes[] = {"NonIndexed", "Indexed", NULL};
    static const char *const failed_only[] = {"Failed", NULL};
    static const char *const replacements[] = {"Failed", "TerminatingOrFailed", NULL};
    static const struct kl_rule numbers[] = {R_NONNEG(parallelism),
                                             R_NONNEG(completions),
                                             R_NONNEG(activeDeadlineSeconds),
                                             R_NONNEG(backoffLimit),
                                             R_NONNEG(ttlSecondsAfterFinished),
                                             R_NONNEG(backoffLimitPerIndex),
                                             R_NONNEG(maxFailedIndexes),
                                             R_END};
    static const struct kl_rule mode_rules[] = {R_ON(managedBy, check_managed_by),
                                                R_ENUM(completionMode, modes), R_END};
    const struct kl_value *per = kl_get(s, KL_F_backoffLimitPerIndex);
    const struct kl_value *failed = kl_get(s, KL_F_maxFailedIndexes);
    const struct kl_value *policy = kl_get(s, KL_F_podFailurePolicy);
    const struct kl_value *mode = kl_get(s, KL_F_completionMode);
    const struct kl_value *replacement = kl_get(s, KL_F_podReplacementPolicy);
    kl_v_walk(c, numbers, s, p);
    if (failed && !per)
        kl_v_required(c, F(p, backoffLimitPerIndex), "when maxFailedIndexes is specified");
    kl_v_walk(c, mode_rules, s, p);
    if (is_indexed(s))
        check_indexed(c, s, p);
    if (!mode || kl_str_eqz(kl_text(mode), "NonIndexed")) {
        if (per)
            kl_v_invalid_int(c, F(p, backoffLimitPerIndex), kl_int_or(per, 0),
                             "requires indexed completion mode");
        if (failed)
            kl_v_invalid_int(c, F(p, maxFailedIndexes), kl_int_or(failed, 0),
                             "requires indexed completion mode");
    }
    if (policy) {
        const struct kl_value *rules = kl_get(policy, KL_F_rules);
        const struct kl_vpath *rp = F(F(p, podFailurePolicy), rules);
        size_t i = 0;
        if (kl_len(rules) > 20)
            kl_v_too_many(c, rp, kl_len(rules), 20);
        for (KL_EACH(r, rules))
            check_failure_rule(c, r, s, I(rp, i++));
    }
    if (kl_get(s, KL_F_successPolicy))
        check_success(c, s, F(p, successPolicy));
    const char *const *allowed = policy ? failed_only : replacements;
    if (replacement && !kl_v_in(kl_text(replacement), allowed))
        kl_v_unsupported(c, F(p, podReplacementPolicy), kl_text(replacement), allowed);
    kl_v_pod_template(c, kl_get(s, KL_F_template), F(p, template));
    check_restart(c, s, p);
}

// ---- Jobs

static void need_label(struct kl_v *c, const struct kl_value *labels, const char *key,
                       struct kl_str value)
{
    const struct kl_value *v = kl_map_value(labels, kl_str(key));
    const struct kl_vpath *p = K(F(F(F(&c->spec, template), metadata), labels), kl_str(key));
    const char *why =
        v && kl_str_eq(kl_text(v), value) ? NULL : kl_v_text(c, "must be '%.*s'", KL_PRI(value));
    if (why && !v)
        kl_v_required(c, p, why);
    else if (why)
        kl_v_invalid_text(c, p, kl_v_json(c, NULL, labels, false), why);
}

static bool requires_prefixed(const struct kl_v *c)
{
    const struct kl_value *l = kl_path(kl_v_old_spec(c), KL_F_template, KL_F_metadata, KL_F_labels);
    return !c->old || (kl_map_value(l, KL_STR("batch.kubernetes.io/job-name")) &&
                       kl_map_value(l, KL_STR("batch.kubernetes.io/controller-uid")));
}

// The labels that a generated selector counts on.
static void check_generated(struct kl_v *c)
{
    static const char *const keys[] = {"controller-uid", "job-name",
                                       "batch.kubernetes.io/controller-uid",
                                       "batch.kubernetes.io/job-name"};
    const struct kl_value *s = kl_v_spec(c), *selector = kl_get(s, KL_F_selector);
    const struct kl_value *labels = kl_path(s, KL_F_template, KL_F_metadata, KL_F_labels);
    struct kl_str values[2] = {kl_meta_uid(c->now), kl_meta_name(c->now)};
    size_t n = requires_prefixed(c) ? 4 : 2;
    bool bad, match = true;
    if (kl_is_true(kl_get(s, KL_F_manualSelector)) || !selector)
        return;
    if (!values[0].n)
        kl_v_required(c, F(&c->meta, uid), "");
    for (size_t i = 0; i < n; i++)
        need_label(c, labels, keys[i], values[i % 2]);
    struct kl_value expected[8], map = {.kind = KL_MAP, .n = (uint32_t)n, .items = expected};
    // In bytewise order, as map look-ups expect.
    static const uint8_t order[] = {2, 3, 0, 1};
    for (size_t i = 0, k = 0; i < 4; i++) {
        if (order[i] >= n)
            continue;
        expected[k++] = kl_stringz(keys[order[i]]);
        expected[k++] = kl_string(values[order[i] % 2]);
    }
    match = kl_v_selects(selector, &map, &bad);
    if (!bad && !match)
        kl_v_invalid_json(c, F(&c->spec, selector), kl_type(KL_TYPE_meta_v1_LabelSelector),
                          selector, false, "`selector` not auto-generated");
}

static void check_whole_spec(struct kl_v *c)
{
    const struct kl_value *s = kl_v_spec(c), *selector = kl_get(s, KL_F_selector);
    const struct kl_value *labels = kl_path(s, KL_F_template, KL_F_metadata, KL_F_labels);
    bool bad, match = kl_v_selects(selector, labels, &bad);
    check_job_spec(c, s, &c->spec);
    if (!selector)
        kl_v_required(c, F(&c->spec, selector), "");
    else
        kl_v_selector(c, F(&c->spec, selector), selector);
    if (!bad && !match)
        kl_v_no_match(c, labels, F(&c->spec, template));
}

static void create_job(struct kl_v *c)
{
    const struct kl_value *s = kl_v_spec(c);
    int64_t n = kl_int_at(s, 0, KL_F_completions);
    struct kl_str name = kl_meta_name(c->now);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_generated(c);
    check_whole_spec(c);
    if (!is_indexed(s) || n <= 0)
        return;
    // The host names of its pods: name and index.
    size_t digits = 1;
    const char *msg[KL_V_MESSAGES];
    for (int64_t i = n - 1; i >= 10; i /= 10)
        digits++;
    struct kl_str head = name;
    bool good = name.n && name.n + 1 + digits <= 63;
    if (good && name.p[name.n - 1] == '-') // a dash within is well
        while (head.n && head.p[head.n - 1] == '-')
            head.n--;
    good = good && !kl_v_messages(KL_V_LABEL, head, msg);
    if (!good)
        kl_v_invalid_str(c, F(&c->meta, name), name,
                         kl_v_text(c,
                                   "will not able to create pod with invalid DNS label: "
                                   "%.*s-%lld",
                                   KL_PRI(name), (long long)(n - 1)));
}

static bool condition(const struct kl_value *root, const char *type, const char *status)
{
    for (KL_EACH(x, kl_path(root, KL_F_status, KL_F_conditions)))
        if (kl_v_is(x, KL_F_type, type) && kl_v_is(x, KL_F_status, status))
            return true;
    return false;
}

// Of a job that is suspended and does not run the directives of scheduling and the resources may
// change (shouldAllowMutablePodTemplate).
static bool may_change_template(const struct kl_v *c)
{
    return kl_is_true(kl_get(kl_v_old_spec(c), KL_F_suspend)) &&
           (!kl_path(c->old, KL_F_status, KL_F_startTime) ||
            condition(c->old, "Suspended", "True")) &&
           !kl_int_at(c->old, 0, KL_F_status, KL_F_active);
}

static bool same_members(const struct kl_value *a, const struct kl_value *b, const kl_sym *but,
                         size_t n)
{
    for (int pass = 0; pass < 2; pass++) {
        for (KL_EACH(x, a)) {
            bool skip = false;
            for (size_t i = 0; i < n; i++)
                skip |= but[i] == x->sym;
            if (!skip && !kl_value_equal(x, kl_get(b, x->sym)))
                return false;
        }
        const struct kl_value *swap = a;
        a = b;
        b = swap;
    }
    return true;
}

static bool same_containers(const struct kl_value *a, const struct kl_value *b)
{
    static const kl_sym open[] = {KL_F_resources};
    if (kl_len(a) != kl_len(b))
        return false;
    for (size_t i = 0; i < kl_len(a); i++)
        if (!same_members(kl_at(a, i), kl_at(b, i), open, 1))
            return false;
    return true;
}

static void check_template_change(struct kl_v *c)
{
    static const kl_sym open[] = {KL_F_nodeSelector, KL_F_tolerations, KL_F_schedulingGates,
                                  KL_F_affinity,     KL_F_containers,  KL_F_initContainers};
    static const kl_sym node[] = {KL_F_nodeAffinity};
    const struct kl_value *now = kl_get(kl_v_spec(c), KL_F_template);
    const struct kl_value *old = kl_get(kl_v_old_spec(c), KL_F_template);
    const struct kl_value *a = kl_get(now, KL_F_spec), *b = kl_get(old, KL_F_spec);
    if (kl_value_equal(now, old))
        return;
    if (!may_change_template(c)) {
        kl_v_invalid_json(c, F(&c->spec, template), kl_type(KL_TYPE_core_v1_PodTemplateSpec), now,
                          true, "field is immutable");
        return;
    }
    if (!same_members(a, b, open, KL_COUNT(open)) ||
        !same_members(kl_get(a, KL_F_affinity), kl_get(b, KL_F_affinity), node, 1) ||
        !same_containers(kl_get(a, KL_F_containers), kl_get(b, KL_F_containers)) ||
        !same_containers(kl_get(a, KL_F_initContainers), kl_get(b, KL_F_initContainers)))
        kl_v_invalid_json(c, N(&c->spec, "template.spec"), kl_type(KL_TYPE_core_v1_PodSpec), a,
                          true, "field is immutable");
}

static void same_field(struct kl_v *c, kl_sym f, const struct kl_type *type, bool internal)
{
    kl_v_immutable(c, FS(&c->spec, f), type, kl_get(kl_v_spec(c), f), kl_get(kl_v_old_spec(c), f),
                   internal);
}

static void update_job(struct kl_v *c)
{
    const struct kl_value *s = kl_v_spec(c), *old = kl_v_old_spec(c);
    const struct kl_value *n = kl_get(s, KL_F_completions);
    create_job(c);
    kl_v_meta_update(c);
    check_whole_spec(c);
    if (!is_indexed(s))
        same_field(c, KL_F_completions, NULL, false);
    else if (n && !kl_value_equal(n, kl_get(old, KL_F_completions)) &&
             kl_int_or(n, 0) != kl_int_at(s, 0, KL_F_parallelism))
        kl_v_invalid_int(c, F(&c->spec, completions), kl_int_or(n, 0),
                         "can only be modified in tandem with spec.parallelism");
    same_field(c, KL_F_selector, kl_type(KL_TYPE_meta_v1_LabelSelector), false);
    check_template_change(c);
    same_field(c, KL_F_completionMode, NULL, false);
    same_field(c, KL_F_podFailurePolicy, kl_type(KL_TYPE_batch_v1_PodFailurePolicy), true);
    same_field(c, KL_F_backoffLimitPerIndex, NULL, false);
    same_field(c, KL_F_managedBy, NULL, false);
    same_field(c, KL_F_successPolicy, kl_type(KL_TYPE_batch_v1_SuccessPolicy), true);
}

// ---- status of Jobs

static void bad_conditions(struct kl_v *c, const char *why)
{
    kl_v_invalid_text(c, F(&c->status, conditions), KL_STR("{}"), why);
}

static bool differs(const struct kl_v *c, kl_sym f)
{
    return !kl_value_equal(kl_path(c->now, KL_F_status, f), kl_path(c->old, KL_F_status, f));
}

static bool turned(const struct kl_v *c, const char *type)
{
    return condition(c->now, type, "True") != condition(c->old, type, "True");
}

static bool finished(const struct kl_value *root)
{
    return condition(root, "Complete", "True") || condition(root, "Failed", "True");
}

static void check_uncounted(struct kl_v *c, const struct kl_value *u, const struct kl_vpath *p)
{
    static const kl_sym lists[] = {KL_F_succeeded, KL_F_failed};
    for (size_t l = 0; l < KL_COUNT(lists); l++) {
        const struct kl_value *list = kl_get(u, lists[l]);
        for (size_t i = 0; i < kl_len(list); i++) {
            struct kl_str uid = kl_text(kl_at(list, i));
            const struct kl_vpath *at = I(FS(p, lists[l]), i);
            bool seen = false;
            for (size_t m = 0; m <= l; m++)
                for (size_t k = 0; k < (m == l ? i : kl_len(kl_get(u, lists[m]))); k++)
                    seen |= kl_str_eq(kl_text(kl_at(kl_get(u, lists[m]), k)), uid);
            if (!uid.n)
                kl_v_invalid_str(c, at, uid, "must not be empty");
            else if (seen)
                kl_v_duplicate(c, at, uid);
        }
    }
}

static struct kl_str shown_time(struct kl_v *c, kl_sym f, const struct kl_value *v)
{
    return kl_v_json(c, kl_type_field(kl_type(KL_TYPE_batch_v1_JobStatus), f)->type, v, false);
}

static void check_completion_time(struct kl_v *c, const struct kl_value *st)
{
    const struct kl_value *start = kl_get(st, KL_F_startTime),
                          *end = kl_get(st, KL_F_completionTime);
    const struct kl_vpath *p = F(&c->status, completionTime);
    bool complete = condition(c->now, "Complete", "True");
    bool moved = turned(c, "Complete") || differs(c, KL_F_completionTime);
    if (moved && end && !complete)
        kl_v_invalid_text(c, p, shown_time(c, KL_F_completionTime, end),
                          "cannot set completionTime when there is no Complete=True condition");
    if (moved && !end && complete)
        kl_v_required(c, p, "completionTime is required for Complete jobs");
    if ((differs(c, KL_F_startTime) || differs(c, KL_F_completionTime)) && start && end &&
        kl_int_or(end, 0) < kl_int_or(start, 0))
        kl_v_invalid_text(c, p, shown_time(c, KL_F_completionTime, end),
                          "must be equal to or after `startTime`");
}

static void check_finished(struct kl_v *c, const struct kl_value *st)
{
    bool done = finished(c->now), moved = done != finished(c->old);
    const struct kl_value *s = kl_v_spec(c), *u = kl_get(st, KL_F_uncountedTerminatedPods);
    bool idle = kl_is_true(kl_get(s, KL_F_suspend)) && kl_get(s, KL_F_completions) &&
                !kl_int_at(s, 0, KL_F_completions);
    int64_t active = kl_int_at(st, 0, KL_F_active);
    if (!done)
        return;
    if ((moved || differs(c, KL_F_active)) && active > 0)
        kl_v_invalid_int(c, F(&c->status, active), active, "active>0 is invalid for finished job");
    if ((moved || differs(c, KL_F_startTime)) && !idle && !kl_get(st, KL_F_startTime))
        kl_v_required(c, F(&c->status, startTime), "startTime is required for finished job");
    if ((moved || differs(c, KL_F_uncountedTerminatedPods)) &&
        kl_len(kl_get(u, KL_F_failed)) + kl_len(kl_get(u, KL_F_succeeded)))
        kl_v_invalid_json(c, F(&c->status, uncountedTerminatedPods),
                          kl_type(KL_TYPE_batch_v1_UncountedTerminatedPods), u, true,
                          "must be empty for finished job");
}

static void check_indexes(struct kl_v *c, const struct kl_value *st)
{
    const struct kl_value *s = kl_v_spec(c), *n = kl_get(s, KL_F_completions);
    const struct kl_value *failed = kl_get(st, KL_F_failedIndexes);
    struct kl_str completed = kl_text(kl_get(st, KL_F_completedIndexes));
    const struct kl_vpath *cp = F(&c->status, completedIndexes), *fp = F(&c->status, failedIndexes);
    bool moved = differs(c, KL_F_completedIndexes), failed_moved = differs(c, KL_F_failedIndexes);
    const char *why;
    int64_t total;
    if (moved && n && (why = parse_indexes(c, completed, kl_int_or(n, 0), &total)))
        kl_v_invalid_str(c, cp, completed, kl_v_text(c, "error parsing completedIndexes: %s", why));
    if (failed_moved && n && kl_get(s, KL_F_backoffLimitPerIndex) && failed &&
        (why = parse_indexes(c, kl_text(failed), kl_int_or(n, 0), &total)))
        kl_v_invalid(c, fp, failed, kl_v_text(c, "error parsing failedIndexes: %s", why));
    if (moved && completed.n && !is_indexed(s))
        kl_v_invalid_str(c, cp, completed,
                         "cannot set non-empty completedIndexes when non-indexed completion mode");
    if (failed_moved && !kl_get(s, KL_F_backoffLimitPerIndex) && failed)
        kl_v_invalid(c, fp, failed,
                     "cannot set non-null failedIndexes when backoffLimitPerIndex is null");
    if (!(moved || failed_moved) || !n || !failed)
        return;
    // The first index that is in both lists.
    struct kl_str a = completed, part;
    while (completed.n && kl_str_split(&a, ',', &part)) {
        int64_t x, y, fx, fy;
        struct kl_str b = kl_text(failed), fpart;
        if (parse_interval(c, part, kl_int_or(n, 0), &x, &y))
            continue;
        while (b.n && kl_str_split(&b, ',', &fpart)) {
            if (parse_interval(c, fpart, kl_int_or(n, 0), &fx, &fy) || x > fy || fx > y)
                continue;
            kl_v_invalid(c, fp, failed,
                         kl_v_text(c, "failedIndexes and completedIndexes overlap at index: %lld",
                                   (long long)(x > fx ? x : fx)));
            return;
        }
    }
}

static void check_conditions(struct kl_v *c)
{
    bool complete = condition(c->now, "Complete", "True"),
         failed = condition(c->now, "Failed", "True");
    bool target = condition(c->now, "FailureTarget", "True");
    if ((turned(c, "Complete") || turned(c, "Failed")) && complete && failed)
        bad_conditions(c, "cannot set Complete=True and Failed=true conditions");
    if ((turned(c, "Complete") || turned(c, "FailureTarget")) && complete && target)
        bad_conditions(c, "cannot set Complete=True and FailureTarget=true conditions");
}

static void status_job(struct kl_v *c)
{
    static const struct kl_rule counts[] = {R_NONNEG(active),      R_NONNEG(succeeded),
                                            R_NONNEG(failed),      R_NONNEG(ready),
                                            R_NONNEG(terminating), R_END};
    static const char *const terminal[] = {"Failed", "Complete", "FailureTarget"};
    const struct kl_value *st = kl_get(c->now, KL_F_status), *old = kl_get(c->old, KL_F_status);
    const struct kl_value *s = kl_v_spec(c), *ready = kl_get(st, KL_F_ready);
    bool complete = condition(c->now, "Complete", "True"),
         failed = condition(c->now, "Failed", "True");
    bool target = condition(c->now, "FailureTarget", "True");
    bool met = condition(c->now, "SuccessCriteriaMet", "True");
    bool was_met = condition(c->old, "SuccessCriteriaMet", "True");
    kl_v_meta_update(c);
    kl_v_walk(c, counts, st, &c->status);
    check_uncounted(c, kl_get(st, KL_F_uncountedTerminatedPods),
                    F(&c->status, uncountedTerminatedPods));
    check_conditions(c);
    check_completion_time(c, st);
    if ((turned(c, "Failed") || differs(c, KL_F_failedIndexes)) && failed && !target)
        bad_conditions(c,
                       "cannot set Failed=True condition without the FailureTarget=true condition");
    if ((turned(c, "Complete") || turned(c, "SuccessCriteriaMet")) && complete && !met)
        bad_conditions(
            c, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    check_finished(c, st);
    check_indexes(c, st);
    bool done_moved = finished(c->now) != finished(c->old);
    if ((done_moved || differs(c, KL_F_terminating)) && finished(c->now) &&
        kl_int_at(st, 0, KL_F_terminating) > 0)
        kl_v_invalid_int(c, F(&c->status, terminating), kl_int_at(st, 0, KL_F_terminating),
                         "terminating>0 is invalid for finished job");
    if ((differs(c, KL_F_ready) || differs(c, KL_F_active)) && ready &&
        kl_int_or(ready, 0) > kl_int_at(st, 0, KL_F_active))
        kl_v_invalid_int(c, F(&c->status, ready), kl_int_or(ready, 0),
                         "cannot set more ready pods than active");
    if (met && failed)
        bad_conditions(c, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    if (met && target)
        bad_conditions(c, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    if (kl_get(s, KL_F_successPolicy) && !met && complete)
        bad_conditions(c, "cannot set Complete=True for Job with SuccessPolicy unless "
                          "SuccessCriteriaMet=True");
    for (size_t i = 0; i < KL_COUNT(terminal); i++)
        if (condition(c->old, terminal[i], "True") && !condition(c->now, terminal[i], "True"))
            bad_conditions(
                c, kl_v_text(c, "cannot disable the terminal %s=True condition", terminal[i]));
    if (kl_int_at(st, 0, KL_F_failed) < kl_int_at(old, 0, KL_F_failed))
        kl_v_invalid_int(c, F(&c->status, failed), kl_int_at(st, 0, KL_F_failed),
                         "cannot decrease the failed counter");
    bool scaled =
        is_indexed(s) && kl_value_equal(kl_get(s, KL_F_completions), kl_get(s, KL_F_parallelism));
    if (!scaled && kl_int_at(st, 0, KL_F_succeeded) < kl_int_at(old, 0, KL_F_succeeded))
        kl_v_invalid_int(c, F(&c->status, succeeded), kl_int_at(st, 0, KL_F_succeeded),
                         "cannot decrease the succeeded counter");
    if (kl_get(st, KL_F_completionTime) && kl_get(old, KL_F_completionTime) &&
        differs(c, KL_F_completionTime))
        kl_v_invalid_text(c, F(&c->status, completionTime),
                          shown_time(c, KL_F_completionTime, kl_get(st, KL_F_completionTime)),
                          "field is immutable");
    bool resuming =
        condition(c->old, "Suspended", "True") && condition(c->now, "Suspended", "False");
    if (kl_get(old, KL_F_startTime) && differs(c, KL_F_startTime) && !resuming &&
        !kl_is_true(kl_get(s, KL_F_suspend)))
        kl_v_invalid_text(c, F(&c->status, startTime),
                          shown_time(c, KL_F_startTime, kl_get(st, KL_F_startTime)),
                          "field is immutable for unsuspended job once set");
    if (was_met && !met)
        bad_conditions(c, "cannot disable the SuccessCriteriaMet=True condition");
    if (condition(c->old, "Complete", "True") && !was_met && met)
        bad_conditions(c, "cannot set SuccessCriteriaMet=True for Job already has Complete=true "
                          "conditions");
}

// ---- CronJobs

static bool contains_tz(struct kl_str s)
{
    for (size_t i = 0; i + 1 < s.n; i++)
        if (s.p[i] == 'T' && s.p[i + 1] == 'Z')
            return true;
    return false;
}

static void check_schedule(struct kl_v *c, const struct kl_value *s)
{
    struct kl_str schedule = kl_text(kl_get(s, KL_F_schedule));
    bool lax = contains_tz(kl_text(kl_get(kl_v_old_spec(c), KL_F_schedule)));
    const struct kl_vpath *p = F(&c->spec, schedule);
    if (!schedule.n) {
        kl_v_required(c, p, "");
        return;
    }
    const char *why = kl_cron_error(c, schedule);
    if (why)
        kl_v_invalid_str(c, p, schedule, why);
    if (lax && contains_tz(schedule) && kl_get(s, KL_F_timeZone))
        kl_v_invalid_str(c, p, schedule,
                         "cannot use both timeZone field and TZ or CRON_TZ in schedule");
    else if (!lax && contains_tz(schedule))
        kl_v_invalid_str(c, p, schedule,
                         "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
}

static void check_cron_job(struct kl_v *c)
{
    static const char *const policies[] = {"Allow", "Forbid", "Replace", NULL};
    static const char *const no_selector[] = {"nil", "false", NULL};
    static const struct kl_rule limits[] = {R_NONNEG(successfulJobsHistoryLimit),
                                            R_NONNEG(failedJobsHistoryLimit), R_END};
    static const struct kl_rule concurrency[] = {R_NEED_ENUM(concurrencyPolicy, policies), R_END};
    const struct kl_value *s = kl_v_spec(c), *zone = kl_get(s, KL_F_timeZone);
    const struct kl_value *job = kl_path(s, KL_F_jobTemplate, KL_F_spec);
    const struct kl_vpath *p = F(F(&c->spec, jobTemplate), spec);
    check_schedule(c, s);
    kl_v_nonnegative(c, F(&c->spec, startingDeadlineSeconds),
                     kl_int_at(s, 0, KL_F_startingDeadlineSeconds));
    if (zone && (!c->old || !kl_value_equal(zone, kl_get(kl_v_old_spec(c), KL_F_timeZone)))) {
        const char *why = kl_zone_error(c, kl_text(zone));
        if (why)
            kl_v_invalid(c, F(&c->spec, timeZone), zone, why);
    }
    kl_v_walk(c, concurrency, s, &c->spec);
    check_job_spec(c, job, p);
    if (kl_get(job, KL_F_selector))
        kl_v_invalid_json(c, F(p, selector), kl_type(KL_TYPE_meta_v1_LabelSelector),
                          kl_get(job, KL_F_selector), false, "`selector` will be auto-generated");
    if (kl_is_true(kl_get(job, KL_F_manualSelector)))
        kl_v_unsupported_text(c, F(p, manualSelector), KL_STR("true"), no_selector);
    kl_v_walk(c, limits, s, &c->spec);
}

static void create_cron_job(struct kl_v *c)
{
    struct kl_str name = kl_meta_name(c->now);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_cron_job(c);
    if (name.n > 52)
        kl_v_invalid_str(c, F(&c->meta, name), name, "must be no more than 52 characters");
}

static void update_cron_job(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_cron_job(c);
}

const struct kl_v_kind kl_v_jobs[] = {
    {KL_RES_batch_v1_jobs, create_job, update_job, status_job, NULL, NULL},
    {KL_RES_batch_v1_cronjobs, create_cron_job, update_cron_job, NULL, NULL, NULL},
    {0},
};
