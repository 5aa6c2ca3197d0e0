// SPDX-License-Identifier: Apache-2.0
// ValidatingAdmissionPolicy (upstream's policy/validating).
#include "apiserver/admission/metrics.h"
#include "apiserver/admission/policy_int.h"
#include "base/clock.h"

enum { NOTE_MAX_BYTES = 10 * 1024 };

struct deny { // the first refusal
    struct kl_unit *policy, *binding;
    struct kl_str message, reason;
    bool is;
};

struct values { // of one policy's audit annotations: several, as parameters may give different ones
    struct values *next;
    struct kl_str key, value;
};

struct pass {
    struct deny deny;
    struct kl_unit *policy; // whose `values` are being gathered
    struct values *values;
};

static void refuse(struct pass *p, struct kl_bound *b, struct kl_str message, struct kl_str reason)
{
    if (p->deny.is)
        return;
    p->deny = (struct deny){b->policy, b->binding, message, reason, true};
}

static struct kl_str trimmed(struct kl_str s)
{
    while (s.n && strchr(" \t\r\n\v\f", s.p[0]))
        s = kl_str_from(s, 1);
    while (s.n && strchr(" \t\r\n\v\f", s.p[s.n - 1]))
        s.n--;
    return s;
}

// ---- annotations

static void publish(struct kl_hook_run *run, struct pass *p)
{
    struct kl_req *r = run->ad->r;
    bool counts = !kl_ask_is_pending(&r->ask); // else all is evaluated again
    for (struct values *v = p->values; v && counts; v = v->next)
        kl_req_note(r,
                    kl_arena_printf(r->arena, "%.*s/%.*s", KL_PRI(p->policy->name), KL_PRI(v->key)),
                    v->value, false);
    p->values = NULL;
}

static bool is_part(struct kl_str list, struct kl_str s)
{
    if (!kl_str_starts(list, s))
        return false;
    return list.n == s.n || kl_str_starts(kl_str_from(list, s.n), KL_STR(", "));
}

static void add_value(struct kl_hook_run *run, struct pass *p, struct kl_str key,
                      struct kl_str value)
{
    struct values **v = &p->values;
    if (value.n > NOTE_MAX_BYTES)
        value.n = NOTE_MAX_BYTES;
    for (; *v; v = &(*v)->next)
        if (kl_str_eq((*v)->key, key)) {
            if (!is_part((*v)->value, value))
                (*v)->value =
                    kl_arena_printf(run->arena, "%.*s, %.*s", KL_PRI((*v)->value), KL_PRI(value));
            return;
        }
    if ((*v = KL_ARENA_NEW(run->arena, struct values)))
        **v = (struct values){.key = key, .value = value};
}

// [{"message":...,"policy":...,"binding":...,"expressionIndex":0,"validationActions":["Audit"]}]
static void note_failure(struct kl_hook_run *run, struct kl_bound *b, size_t index,
                         struct kl_str message)
{
    const struct kl_value *actions =
        kl_path(&b->binding->object->root, KL_F_spec, KL_F_validationActions);
    struct kl_buf j;
    bool first = true;
    kl_buf_init(&j, 256 * 1024);
    kl_buf_puts(&j, KL_STR("[{\"message\":"));
    kl_json_write_string(&j, message);
    kl_buf_puts(&j, KL_STR(",\"policy\":"));
    kl_json_write_string(&j, b->policy->name);
    kl_buf_puts(&j, KL_STR(",\"binding\":"));
    kl_json_write_string(&j, b->binding->name);
    kl_buf_printf(&j, ",\"expressionIndex\":%zu,\"validationActions\":[", index);
    for (KL_EACH(a, actions)) {
        kl_buf_puts(&j, first ? KL_STR("") : KL_STR(","));
        kl_json_write_string(&j, kl_text(a));
        first = false;
    }
    kl_buf_puts(&j, KL_STR("]}]"));
    kl_req_note(run->ad->r, KL_STR("validation.policy.admission.k8s.io/validation_failure"),
                kl_arena_dup(run->arena, kl_buf_str(&j)), false);
    kl_buf_fini(&j);
}

// ---- decisions

// A validation that is not met, or in error: by the binding's actions.
static void act(struct kl_hook_run *run, struct pass *p, struct kl_bound *b, size_t index,
                struct kl_str message, struct kl_str reason, int64_t took_ns)
{
    struct kl_req *r = run->ad->r;
    for (KL_EACH(a, kl_path(&b->binding->object->root, KL_F_spec, KL_F_validationActions))) {
        struct kl_str action = kl_text(a);
        const char *done = kl_str_eqz(action, "Deny")    ? "deny"
                           : kl_str_eqz(action, "Audit") ? "audit"
                                                         : "warn";
        kl_admit_count_check(run->ad, b->policy->name, b->binding->name, message, done, took_ns);
        if (kl_str_eqz(action, "Deny"))
            refuse(p, b, message, reason);
        else if (kl_str_eqz(action, "Audit"))
            note_failure(run, b, index, message);
        else if (kl_str_eqz(action, "Warn"))
            kl_req_warn(r, kl_arena_printf(r->arena,
                                           "Validation failed for ValidatingAdmissionPolicy '%.*s' "
                                           "with binding '%.*s': %.*s",
                                           KL_PRI(b->policy->name), KL_PRI(b->binding->name),
                                           KL_PRI(message)));
    }
}

static void in_error(struct kl_hook_run *run, struct pass *p, struct kl_bound *b, size_t index,
                     struct kl_str message, int64_t took_ns)
{
    if (!b->policy->policy->ignore)
        act(run, p, b, index, message, KL_STR(""), took_ns);
    else
        kl_admit_count_check(run->ad, b->policy->name, b->binding->name, message, "allow", took_ns);
}

static struct kl_str message_of(struct kl_hook_run *run, const struct kl_check *c,
                                const struct kl_cel_val *said)
{
    struct kl_str m = KL_STR("");
    if (said && said->kind == KL_CEL_STRING) {
        m = trimmed(kl_cel_text(*said));
        if (m.n > KL_CEL_MAX_MESSAGE_BYTES || kl_str_chr(m, '\n') >= 0)
            m = KL_STR("");
        m = kl_arena_dup(run->arena, m);
    }
    if (!m.n)
        m = trimmed(c->message);
    if (!m.n)
        m = kl_arena_printf(run->arena, "failed expression: %.*s", KL_PRI(trimmed(c->expr.text)));
    return m;
}

struct outcome {
    int rc;
    struct kl_cel_val val;
    struct kl_str error;
    int64_t took_ns;
};

// All validations first, then all messages, as the budget is theirs together.
static void run_checks(struct kl_hook_run *run, struct pass *p, struct kl_bound *b,
                       struct kl_eval *v)
{
    const struct kl_policy *pol = b->policy->policy;
    size_t n = pol->nchecks;
    struct outcome *o = kl_arena_zalloc(run->arena, (n + 1) * sizeof *o);
    struct outcome *m = kl_arena_zalloc(run->arena, (n + 1) * sizeof *m);
    struct kl_str spent = KL_STR("");
    if (!o || !m) {
        in_error(run, p, b, 0, KL_STR("out of memory"), 0);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        int64_t began = kl_mono_ns();
        o[i].rc = kl_eval_run(v, KL_ENV_FULL, &pol->checks[i].expr, &o[i].val, &o[i].error);
        o[i].took_ns = kl_mono_ns() - began;
        if (o[i].rc == KL_ELIMIT) {
            in_error(run, p, b, 0, o[i].error, 0);
            return;
        }
    }
    for (size_t i = 0; i < n && !spent.n; i++) {
        m[i].rc = KL_ENOTFOUND;
        if (pol->checks[i].has_message_expr)
            m[i].rc = kl_eval_run(v, KL_ENV_NO_AUTHORIZER, &pol->checks[i].message_expr, &m[i].val,
                                  &m[i].error);
        if (m[i].rc == KL_ELIMIT)
            spent = m[i].error;
    }
    for (size_t i = 0; i < n; i++) {
        const struct kl_check *c = &pol->checks[i];
        if (o[i].rc)
            in_error(run, p, b, i, o[i].error, o[i].took_ns);
        else if (spent.n)
            in_error(run, p, b, i,
                     kl_arena_printf(run->arena, "failed messageExpression: %.*s", KL_PRI(spent)),
                     o[i].took_ns);
        else if (o[i].val.kind != KL_CEL_BOOL || !o[i].val.b)
            act(run, p, b, i, message_of(run, c, m[i].rc ? NULL : &m[i].val),
                c->reason.n ? c->reason : KL_STR("Invalid"), o[i].took_ns);
    }
}

static void run_notes(struct kl_hook_run *run, struct pass *p, struct kl_bound *b,
                      struct kl_eval *v)
{
    const struct kl_policy *pol = b->policy->policy;
    v->budget = KL_CEL_RUNTIME_BUDGET;
    for (size_t i = 0; i < pol->nnotes; i++) {
        const struct kl_expr *e = &pol->notes[i];
        struct kl_cel_val val;
        struct kl_str why;
        int rc = kl_eval_run(v, KL_ENV_FULL, e, &val, &why);
        if (rc == KL_ELIMIT) {
            in_error(run, p, b, 0, why, 0);
            return;
        }
        if (rc) {
            if (!pol->ignore) {
                refuse(p, b, why, KL_STR(""));
                kl_admit_count_check(run->ad, b->policy->name, b->binding->name, why, "deny", 0);
            }
        } else if (val.kind == KL_CEL_STRING) {
            struct kl_str s = trimmed(kl_cel_text(val));
            if (s.n)
                add_value(run, p, e->name, kl_arena_dup(run->arena, s));
        } else if (val.kind != KL_CEL_NULL) {
            refuse(p, b,
                   kl_arena_printf(run->arena,
                                   "valueExpression '%.*s' resulted in unsupported return type. "
                                   "Return type must be either string or null.",
                                   KL_PRI(e->text)),
                   KL_STR(""));
        }
    }
}

static int evaluate(struct kl_hook_run *run, struct pass *p, struct kl_bound *b,
                    const struct kl_value *params, struct kl_object *ns)
{
    const struct kl_policy *pol = b->policy->policy;
    struct kl_eval v;
    struct kl_str why;
    int rc = kl_eval_init(&v, &b->policy->exprs, run, b->form, b->res,
                          params->kind == KL_NULL ? NULL : params, NULL, KL_CEL_MATCH_BUDGET);
    if (rc)
        return rc;
    if (pol->nconditions) {
        rc = kl_conditions_run(&v, b->policy->name, pol->conditions, pol->nconditions, !pol->ignore,
                               &why);
        if (rc < 0)
            in_error(run, p, b, 0, why, 0);
        if (rc <= 0)
            return 0;
    }
    rc = kl_eval_init(&v, &b->policy->exprs, run, b->form, b->res,
                      params->kind == KL_NULL ? NULL : params, ns, KL_CEL_RUNTIME_BUDGET);
    if (rc)
        return rc;
    run_checks(run, p, b, &v);
    run_notes(run, p, b, &v);
    return 0;
}

static int visit(struct kl_hook_run *run, struct kl_bound *b, void *arg)
{
    struct pass *p = arg;
    struct kl_object *ns;
    if (p->policy != b->policy) {
        if (p->policy)
            publish(run, p);
        p->policy = b->policy;
    }
    if (b->error.n) {
        if (!b->policy->policy->ignore)
            refuse(p, b,
                   kl_arena_printf(run->arena, "failed to configure %s: %.*s",
                                   b->binding ? "binding" : "policy", KL_PRI(b->error)),
                   KL_STR(""));
        return 0;
    }
    int rc = kl_policy_namespace(run, &ns);
    for (size_t i = 0; i < b->nparams && !rc; i++)
        rc = evaluate(run, p, b, &b->params[i], ns);
    return rc;
}

static int reason_code(struct kl_str reason)
{
    return kl_str_eqz(reason, "Forbidden")               ? 403
           : kl_str_eqz(reason, "Unauthorized")          ? 401
           : kl_str_eqz(reason, "RequestEntityTooLarge") ? 413
                                                         : 422;
}

static int answer(struct kl_hook_run *run, const struct deny *d)
{
    struct kl_req *r = run->ad->r;
    struct kl_str text =
        d->binding
            ? kl_arena_printf(r->arena,
                              "ValidatingAdmissionPolicy '%.*s' with binding '%.*s' denied "
                              "request: %.*s",
                              KL_PRI(d->policy->name), KL_PRI(d->binding->name), KL_PRI(d->message))
            : kl_arena_printf(r->arena, "ValidatingAdmissionPolicy '%.*s' denied request: %.*s",
                              KL_PRI(d->policy->name), KL_PRI(d->message));
    kl_admit_forbid(run->ad, "%.*s", KL_PRI(text));
    // The set's memory may go before the answer is written.
    r->fail.reason = d->reason.n ? kl_arena_dup(r->arena, d->reason) : KL_STR("Invalid");
    r->fail.http = reason_code(r->fail.reason);
    if ((r->fail.causes = KL_ARENA_NEW(r->arena, struct kl_cause))) {
        r->fail.ncauses = 1;
        r->fail.causes[0] = (struct kl_cause){.message = text};
    }
    return KL_EFORBIDDEN;
}

int kl_policies_validate(struct kl_hook_run *run)
{
    struct pass p = {0};
    int rc = kl_policies_each(run, KL_UNIT_VAP, KL_UNIT_VAP_BINDING, visit, &p);
    if (p.policy)
        publish(run, &p);
    rc = rc ? rc : kl_eval_settled(run);
    return rc ? rc : p.deny.is ? answer(run, &p.deny) : 0;
}
