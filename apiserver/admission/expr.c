// SPDX-License-Identifier: Apache-2.0
// Evaluating the expressions of one object for one request (upstream's admission/plugin/cel).
#include "apiserver/admission/hooks_int.h"
#include "apiserver/crd/convert.h"
#include "base/clock.h"
#include "apiserver/admission/metrics.h"
#include "apiserver/auth/authz_int.h"

_Static_assert(KL_EXPR_PLACES == KL_COUNT(((struct kl_eval *)0)->vars), "one value for each");

static void authorize(void *ctx, struct kl_arena *a, const struct kl_cel_authz *q,
                      struct kl_cel_decision *ret)
{
    struct kl_hook_run *run = ctx;
    struct kl_req *r = run->ad->r;
    struct kl_user *sa = NULL;
    struct kl_selector fields, labels;
    struct kl_error err = {0};
    struct kl_attrs t = {.user = r->user,
                         .ask = &r->ask,
                         .verb = q->verb,
                         .is_resource = q->resource_request,
                         .path = q->path,
                         .group = q->group,
                         .version = KL_STR("*"),
                         .plural = q->resource,
                         .sub = q->subresource,
                         .ns = q->ns,
                         .name = q->name};
    *ret = (struct kl_cel_decision){.reason = KL_STR("")};
    if (q->field_selector.n && !kl_field_selector_parse(a, q->field_selector, &fields, &err))
        t.fields = &fields;
    if (q->label_selector.n && !kl_label_selector_parse(a, q->label_selector, &labels, &err))
        t.labels = &labels;
    if (q->as_service_account) {
        const struct kl_str groups[] = {
            KL_STR("system:serviceaccounts"),
            kl_arena_printf(a, "system:serviceaccounts:%.*s", KL_PRI(q->sa_namespace))};
        struct kl_str name = kl_arena_printf(a, "system:serviceaccount:%.*s:%.*s",
                                             KL_PRI(q->sa_namespace), KL_PRI(q->sa_name));
        sa = kl_user_new(name, KL_STR(""), groups, KL_COUNT(groups), NULL, 0);
        if (!sa) {
            ret->errored = true;
            ret->error = KL_STR("out of memory");
            return;
        }
        t.user = sa;
    }
    ret->allowed = kl_authorize_explain(r->al, a, &t, &ret->reason);
    kl_user_unref(sa);
}

int kl_eval_settled(struct kl_hook_run *run)
{
    if (run->ad->r->memos && kl_req_convert_pending(run->ad->r))
        return kl_admit_forbid(run->ad, "a conversion webhook has not answered yet");
    if (!kl_ask_is_pending(&run->ad->r->ask))
        return 0;
    return kl_admit_forbid(run->ad, "an authorization webhook has not answered yet");
}

static struct kl_cel_val get_variable(void *ctx, struct kl_arena *a, struct kl_str name)
{
    struct kl_eval *v = ctx;
    struct kl_cel_val val;
    uint64_t cost = 0;
    struct kl_error err = {0};
    for (size_t i = v->x->nvariables; i-- > 0;) { // the last of a name counts
        const struct kl_expr *e = &v->x->variables[i];
        if (!kl_str_eq(e->name, name))
            continue;
        if (!e->program) {
            struct kl_str why = kl_arena_printf(a,
                                                "composited variable \"%.*s\" fails to compile: "
                                                "%.*s",
                                                KL_PRI(name), KL_PRI(e->error));
            return kl_cel_error(why);
        }
        struct kl_cel_eval with = {
            .vars = v->vars, .cost_limit = KL_CEL_PER_CALL_LIMIT, .authorizer = &v->authorizer};
        int rc = kl_cel_eval(e->program, &with, a, &val, &cost, &err);
        v->variable_cost += (int64_t)cost;
        if (!rc)
            return val;
        return kl_cel_error(kl_arena_printf(a, "composited variable \"%.*s\" fails to evaluate: %s",
                                            KL_PRI(name), err.msg));
    }
    return kl_cel_error(KL_STR("no such key"));
}

int kl_eval_init(struct kl_eval *v, struct kl_exprs *x, struct kl_hook_run *run, struct kl_shown *f,
                 const struct kl_resource *res, const struct kl_value *params, struct kl_object *ns,
                 int64_t budget)
{
    struct kl_arena *a = run->arena;
    struct kl_value *request = KL_ARENA_NEW(a, struct kl_value);
    struct kl_admit *ad = run->ad;
    int rc;
    *v = (struct kl_eval){.x = x, .run = run, .budget = budget};
    v->authorizer = (struct kl_cel_authorizer){.ctx = run, .authorize = authorize};
    if (!request)
        return kl_fail_oom(ad->r), KL_ENOMEM;
    if ((rc = kl_shown_trees(run, f)) || (rc = kl_shown_request(run, f, res, request)))
        return rc;
    v->vars[KL_EXPR_OBJECT] = kl_cel_node(a, f->object ? &f->object_tree : NULL, NULL);
    v->vars[KL_EXPR_OLD_OBJECT] = kl_cel_node(a, f->old ? &f->old_tree : NULL, NULL);
    v->vars[KL_EXPR_NAMESPACE] = kl_cel_node(a, ns ? &ns->root : NULL, ns ? ns->type : NULL);
    v->vars[KL_EXPR_REQUEST] = kl_cel_node(a, request, NULL);
    v->vars[KL_EXPR_PARAMS] = kl_cel_node(a, params, NULL);
    v->vars[KL_EXPR_AUTHORIZER] = kl_cel_authorizer(a);
    v->vars[KL_EXPR_RESOURCE_CHECK] = kl_cel_resource_check(
        a, kl_str(ad->res->group), kl_str(ad->res->plural), ad->sub, ad->ns, ad->name);
    v->vars[KL_EXPR_VARIABLES] = kl_cel_lazy(a, get_variable, v);
    return 0;
}

static int out_of_budget(struct kl_str *ret_error)
{
    *ret_error = KL_STR("validation failed due to running out of cost budget, no further "
                        "validation rules will be run");
    return KL_ELIMIT;
}

int kl_eval_run(struct kl_eval *v, enum kl_expr_env env, const struct kl_expr *e,
                struct kl_cel_val *ret, struct kl_str *ret_error)
{
    struct kl_arena *a = v->run->arena;
    struct kl_error err = {0};
    uint64_t cost = 0;
    if (!e->program) {
        *ret_error = kl_arena_printf(a, "compilation error: %.*s", KL_PRI(e->error));
        return KL_EINVALID;
    }
    struct kl_cel_eval with = {
        .vars = v->vars, .cost_limit = KL_CEL_PER_CALL_LIMIT, .authorizer = &v->authorizer};
    v->variable_cost = 0;
    int rc = kl_cel_eval(e->program, &with, a, ret, &cost, &err);
    if (v->variable_cost > v->budget)
        return out_of_budget(ret_error);
    v->budget -= v->variable_cost;
    if ((int64_t)cost > v->budget)
        return out_of_budget(ret_error);
    v->budget -= (int64_t)cost;
    if (!rc)
        return 0;
    *ret_error =
        kl_arena_printf(a, "expression '%.*s' resulted in error: %s", KL_PRI(e->text), err.msg);
    return ret_error->p ? KL_EINVALID : KL_ENOMEM;
}

static int run_conditions(struct kl_eval *v, const struct kl_expr *list, size_t n, bool fail_closed,
                          size_t *ret_nerrors, bool *ret_excluded, struct kl_str *ret_error)
{
    struct kl_arena *a = v->run->arena;
    struct kl_str errors = {NULL, 0};
    size_t nerrors = 0;
    for (size_t i = 0; i < n; i++) {
        struct kl_cel_val val;
        struct kl_str why;
        int rc = kl_eval_run(v, KL_ENV_FULL, &list[i], &val, &why);
        if (rc == KL_ELIMIT) { // nothing that was found before counts
            *ret_error = why;
            return fail_closed ? KL_EINVALID : 0;
        }
        if (!rc && val.kind == KL_CEL_BOOL && !val.b) {
            *ret_excluded = true;
            return 0;
        }
        *ret_nerrors += rc != 0;
        if (rc)
            errors =
                nerrors++ ? kl_arena_printf(a, "%.*s, %.*s", KL_PRI(errors), KL_PRI(why)) : why;
    }
    if (!nerrors)
        return 1;
    *ret_error = nerrors > 1 ? kl_arena_printf(a, "[%.*s]", KL_PRI(errors)) : errors;
    return fail_closed ? KL_EINVALID : 0;
}

int kl_conditions_run(struct kl_eval *v, struct kl_str name, const struct kl_expr *list, size_t n,
                      bool fail_closed, struct kl_str *ret_error)
{
    int64_t began = kl_mono_ns();
    size_t nerrors = 0;
    bool excluded = false;
    int rc = run_conditions(v, list, n, fail_closed, &nerrors, &excluded, ret_error);
    kl_admit_count_conditions(v->run->ad, name, v->x->has_variables, v->run->validating, nerrors,
                              excluded, kl_mono_ns() - began);
    return rc;
}
