// SPDX-License-Identifier: Apache-2.0
// MutatingAdmissionPolicy: apply configurations and JSON patches that expressions give (upstream's
// policy/mutating).
#include "apiserver/admission/metrics.h"
#include "apiserver/admission/policy_int.h"
#include "base/clock.h"
#include "object/apply/shape.h"
#include "object/patch.h"

enum { FIRST_STATES = 64, ATOMIC_TEXT_MAX = 16 * 1024 };

struct pass {
    size_t index;                  // of this policy, binding and parameter
    struct kl_str message, reason; // of the first failure
    struct kl_cause causes[64];
    size_t ncauses;
};

static void failed(struct kl_hook_run *run, struct pass *p, struct kl_bound *b, struct kl_str why,
                   struct kl_str reason)
{
    struct kl_arena *a = run->arena;
    if (b->policy->policy->ignore)
        return;
    struct kl_str text =
        b->binding ? kl_arena_printf(a, "policy '%.*s' with binding '%.*s' denied request: %.*s",
                                     KL_PRI(b->policy->name), KL_PRI(b->binding->name), KL_PRI(why))
                   : kl_arena_printf(a, "policy \"%.*s\" denied request: %.*s",
                                     KL_PRI(b->policy->name), KL_PRI(why));
    if (!p->ncauses) {
        p->message = text;
        p->reason = reason;
    }
    if (p->ncauses < KL_COUNT(p->causes))
        p->causes[p->ncauses++] = (struct kl_cause){.message = text};
}

// ---- JSON patches

static int add_operation(struct kl_arena *a, struct kl_value *list, struct kl_cel_val v,
                         struct kl_error *err)
{
    struct kl_cel_json_patch op;
    struct kl_value m = kl_new_map(), value;
    if (!kl_cel_as_json_patch(v, &op))
        return kl_error_set(err, KL_EINVALID,
                            "type mismatch: JSONPatchType.expression should evaluate to array of "
                            "JSONPatch");
    int rc = op.has_value ? kl_cel_to_value(a, op.value, &value, err) : 0;
    if (rc)
        return kl_error_wrap(err, "JSONPath valueExpression evaluated to a type that could not "
                                  "marshal to JSON");
    if (kl_map_set_value(a, &m, KL_STR("op"), kl_string(op.op)) ||
        kl_map_set_value(a, &m, KL_STR("path"), kl_string(op.path)) ||
        (op.from.n && kl_map_set_value(a, &m, KL_STR("from"), kl_string(op.from))) ||
        (op.has_value && kl_map_set_value(a, &m, KL_STR("value"), value)) || kl_append(a, list, m))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    return 0;
}

static int json_patch(struct kl_hook_run *run, struct kl_shown *f, struct kl_cel_val v,
                      struct kl_value *ret, struct kl_error *err)
{
    struct kl_arena *a = run->arena;
    struct kl_value list = kl_new_array();
    int rc = 0;
    for (size_t i = 0; i < kl_cel_len(v) && !rc; i++)
        rc = add_operation(a, &list, kl_cel_at(a, v, i), err);
    if (rc)
        return rc;
    rc = kl_patch_json(a, &f->object_tree, &list, ret, err);
    if (rc && strstr(err->msg, "test failed")) { // a test that does not hold: nothing is changed
        *ret = f->object_tree;
        return 0;
    }
    return rc ? (kl_error_wrap(err, "JSON Patch"), rc) : 0;
}

// ---- apply configurations

// Where the configuration has what can only be replaced as a whole.
static void find_atomics(struct kl_buf *out, struct kl_buf *path, struct kl_shape s,
                         const struct kl_value *v)
{
    size_t n = path->n, i = 0;
    if (v->kind == KL_MAP) {
        if (kl_shape_atomic_map(s) && path->n)
            kl_buf_printf(out, "%s%.*s", out->n ? ", " : "", KL_PRI(kl_buf_str(path)));
        for (KL_MAP_EACH_KEY(kv, v)) {
            bool declared;
            struct kl_shape m = kl_shape_member(s, kl_text(kv), &declared);
            if (!declared)
                continue;
            kl_buf_printf(path, ".%.*s", KL_PRI(kl_text(kv)));
            find_atomics(out, path, m, kv + 1);
            path->n = n;
        }
    } else if (v->kind == KL_ARRAY) {
        if (kl_shape_atomic_list(s))
            kl_buf_printf(out, "%s%.*s", out->n ? ", " : "", KL_PRI(kl_buf_str(path)));
        for (KL_EACH(x, v)) {
            kl_buf_printf(path, "[%zu]", i++);
            find_atomics(out, path, kl_shape_elem(s), x);
            path->n = n;
        }
    }
}

static int check_atomics(const struct kl_type *type, const struct kl_value *v, struct kl_error *err)
{
    struct kl_buf out, path;
    kl_buf_init(&out, ATOMIC_TEXT_MAX);
    kl_buf_init(&path, ATOMIC_TEXT_MAX);
    find_atomics(&out, &path, (struct kl_shape){.type = type}, v);
    int rc = out.n ? kl_error_set(err, KL_EINVALID,
                                  "invalid ApplyConfiguration: may not mutate atomic arrays, maps "
                                  "or structs: %.*s",
                                  KL_PRI(kl_buf_str(&out)))
                   : 0;
    kl_buf_fini(&out);
    kl_buf_fini(&path);
    return rc;
}

static int apply(struct kl_hook_run *run, struct kl_shown *f, struct kl_cel_val v,
                 struct kl_value *ret, struct kl_error *err)
{
    struct kl_arena *a = run->arena;
    struct kl_value patch, live;
    int rc = kl_cel_to_value(a, v, &patch, err);
    if (rc)
        return kl_error_wrap(err, "type mismatch"), rc;
    if (patch.kind != KL_MAP)
        return kl_error_set(err, KL_EINVALID, "invalid return type");
    if (kl_map_set_value(a, &patch, KL_STR("apiVersion"), kl_string(f->api_version)) ||
        kl_map_set_value(a, &patch, KL_STR("kind"), kl_string(f->kind)) ||
        kl_copy(a, &f->object_tree, &live) || kl_typed_sort(a, &patch) || kl_typed_sort(a, &live))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if ((rc = kl_typed_validate(a, f->type, &patch, false, err))) {
        kl_error_wrap(err, "error applying patch: failed to convert patch object to typed object");
        return rc;
    }
    if ((rc = check_atomics(f->type, &patch, err)))
        return kl_error_wrap(err, "error applying patch"), rc;
    if ((rc = kl_typed_merge(a, f->type, &live, &patch, ret, err)))
        kl_error_wrap(err, "error applying patch: failed to merge patch");
    return rc;
}

// ---- a policy

// One mutation: on what the one before left.
static int mutate(struct kl_hook_run *run, struct kl_bound *b, const struct kl_mutation *m,
                  const struct kl_value *params, struct kl_object *ns, bool *changed,
                  struct kl_str *why)
{
    struct kl_shown *f = kl_shown_of(run, b->res);
    struct kl_error err = {0};
    struct kl_eval v;
    struct kl_cel_val val;
    struct kl_value tree;
    bool differs = false;
    if (!f)
        return KL_EINTERNAL;
    int rc = kl_eval_init(&v, &b->policy->exprs, run, f, b->res,
                          params->kind == KL_NULL ? NULL : params, ns, KL_CEL_RUNTIME_BUDGET);
    if (rc)
        return rc;
    if (!m->expr.program) {
        *why = m->expr.error;
        return 0;
    }
    if (kl_eval_run(&v, KL_ENV_PATCH, &m->expr, &val, why))
        return 0;
    rc = m->json_patch ? json_patch(run, f, val, &tree, &err) : apply(run, f, val, &tree, &err);
    if (!rc)
        rc = kl_shown_take(run, f, &tree, &differs, &err);
    if (rc)
        *why = kl_arena_dup(run->arena, kl_str(err.msg));
    *changed |= differs;
    return 0;
}

static void require_again(struct kl_hook_run *run)
{
    run->again = true;
    for (size_t i = 0; i < run->npolicy_state; i++)
        if (run->policy_state[i] & KL_INVOKED)
            run->policy_state[i] = KL_REQUIRED;
}

// Room for what is remembered of one more policy, binding and parameter.
static int reserve_state(struct kl_hook_run *run, size_t index)
{
    size_t n = run->npolicy_state ? 2 * run->npolicy_state : FIRST_STATES;
    if (index < run->npolicy_state)
        return 0;
    uint8_t *grown = kl_arena_zalloc(run->arena, n);
    if (!grown)
        return kl_fail_oom(run->ad->r), KL_ENOMEM;
    if (run->npolicy_state)
        memcpy(grown, run->policy_state, run->npolicy_state);
    run->policy_state = grown;
    run->npolicy_state = n;
    return 0;
}

static int invoke(struct kl_hook_run *run, struct pass *p, struct kl_bound *b,
                  const struct kl_value *params, struct kl_object *ns)
{
    const struct kl_policy *pol = b->policy->policy;
    size_t index = p->index++;
    bool changed = false;
    struct kl_str why = KL_STR("");
    int rc = reserve_state(run, index);
    if (rc)
        return rc;
    if (pol->nconditions) {
        struct kl_eval v;
        struct kl_shown *f = kl_shown_of(run, b->res);
        rc = f ? kl_eval_init(&v, &b->policy->exprs, run, f, b->res,
                              params->kind == KL_NULL ? NULL : params, NULL, KL_CEL_MATCH_BUDGET)
               : KL_EINTERNAL;
        if (rc)
            return rc;
        rc = kl_conditions_run(&v, b->policy->name, pol->conditions, pol->nconditions, !pol->ignore,
                               &why);
        if (rc < 0)
            failed(run, p, b, why, KL_STR("Invalid"));
        if (rc <= 0)
            return 0;
    }
    if (run->reinvoke && !(run->policy_state[index] & KL_REQUIRED))
        return 0;
    for (size_t i = 0; i < pol->nmutations && run->ad->draft; i++) {
        int64_t began = kl_mono_ns();
        why = KL_STR("");
        if ((rc = mutate(run, b, &pol->mutations[i], params, ns, &changed, &why)))
            return rc;
        kl_admit_count_mutation(run->ad, b->policy->name, b->binding->name, why,
                                kl_mono_ns() - began);
        if (why.n)
            failed(run, p, b, why, KL_STR("Invalid"));
    }
    if (changed)
        require_again(run);
    if (pol->if_needed)
        run->policy_state[index] |= KL_INVOKED;
    return 0;
}

static int visit(struct kl_hook_run *run, struct kl_bound *b, void *arg)
{
    struct pass *p = arg;
    struct kl_object *ns;
    if (b->error.n) {
        failed(run, p, b,
               kl_arena_printf(run->arena, "failed to configure %s: %.*s",
                               b->binding ? "binding" : "policy", KL_PRI(b->error)),
               KL_STR(""));
        return 0;
    }
    int rc = kl_policy_namespace(run, &ns);
    for (size_t i = 0; i < b->nparams && !rc; i++)
        rc = invoke(run, p, b, &b->params[i], ns);
    return rc;
}

static int answer(struct kl_hook_run *run, const struct pass *p)
{
    struct kl_req *r = run->ad->r;
    kl_admit_forbid(run->ad, "admission request denied by policy");
    r->fail.message = p->message;
    if (p->reason.n)
        r->fail.reason = p->reason;
    if ((r->fail.causes = kl_arena_alloc(r->arena, p->ncauses * sizeof *p->causes))) {
        memcpy(r->fail.causes, p->causes, p->ncauses * sizeof *p->causes);
        r->fail.ncauses = p->ncauses;
    }
    return KL_EFORBIDDEN;
}

int kl_policies_mutate(struct kl_hook_run *run)
{
    if (!run->set->n[KL_UNIT_MAP_BINDING] || !run->set->n[KL_UNIT_MAP])
        return 0;
    struct pass *p = KL_ARENA_NEW(run->arena, struct pass);
    if (!p)
        return kl_fail_oom(run->ad->r), KL_ENOMEM;
    int rc = kl_policies_each(run, KL_UNIT_MAP, KL_UNIT_MAP_BINDING, visit, p);
    rc = rc ? rc : kl_eval_settled(run);
    return rc ? rc : p->ncauses ? answer(run, p) : 0;
}
