// SPDX-License-Identifier: Apache-2.0
// The spec of a Job and of what CronJobs make: policies, index lists, numbers.
#include "object/validate/jobs_int.h"
#include "object/validate/pod_int.h"

bool kl_v_job_is_indexed(const struct kl_value *spec)
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

const char *kl_v_job_interval(struct kl_v *c, struct kl_str s, int64_t completions, int64_t *x,
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

const char *kl_v_job_indexes(struct kl_v *c, struct kl_str s, int64_t completions,
                             int64_t *ret_total)
{
    struct kl_str rest = s, part;
    int64_t last = -1, x, y;
    bool any = false;
    *ret_total = 0;
    while (s.n && kl_str_split(&rest, ',', &part)) {
        const char *why = kl_v_job_interval(c, part, completions, &x, &y);
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
        const char *why = kl_v_job_indexes(c, kl_text(indexes), completions, &total);
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
    if (!kl_v_job_is_indexed(spec)) {
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

void kl_v_job_spec(struct kl_v *c, const struct kl_value *s, const struct kl_vpath *p)
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
    if (kl_v_job_is_indexed(s))
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
