// SPDX-License-Identifier: Apache-2.0
#include "apiserver/admission/policy_int.h"
#include "apiserver/crd/convert.h"
#include "apiserver/crd/crd.h"
#include "apiserver/encode.h"
#include "watchcache/filter.h"

enum { PARAMS_MAX = 10000 };

// ---- compiling

static void *room(struct kl_unit *u, size_t n, size_t size)
{
    return kl_arena_zalloc(&u->arena, (n + 1) * size);
}

static int compile_conditions(struct kl_unit *u, struct kl_policy *p, const struct kl_value *list)
{
    static const char *const boolean[] = {"bool", NULL};
    int rc = 0;
    if (!(p->conditions = room(u, kl_len(list), sizeof *p->conditions)))
        return KL_ENOMEM;
    for (KL_EACH(c, list)) {
        if ((rc = kl_expr_compile(&u->exprs, KL_ENV_FULL, kl_text(kl_get(c, KL_F_name)),
                                  kl_text(kl_get(c, KL_F_expression)), boolean,
                                  &p->conditions[p->nconditions])))
            return rc;
        p->nconditions++;
    }
    return 0;
}

static int compile_checks(struct kl_unit *u, struct kl_policy *p, const struct kl_value *list)
{
    static const char *const boolean[] = {"bool", NULL}, *const string[] = {"string", NULL};
    int rc;
    if (!(p->checks = room(u, kl_len(list), sizeof *p->checks)))
        return KL_ENOMEM;
    for (KL_EACH(v, list)) {
        struct kl_check *c = &p->checks[p->nchecks];
        struct kl_str message = kl_text(kl_get(v, KL_F_messageExpression));
        c->message = kl_text(kl_get(v, KL_F_message));
        c->reason = kl_text(kl_get(v, KL_F_reason));
        c->has_message_expr = message.n;
        if ((rc = kl_expr_compile(&u->exprs, KL_ENV_FULL, KL_STR(""),
                                  kl_text(kl_get(v, KL_F_expression)), boolean, &c->expr)))
            return rc;
        p->nchecks++;
        if (message.n && (rc = kl_expr_compile(&u->exprs, KL_ENV_NO_AUTHORIZER, KL_STR(""), message,
                                               string, &c->message_expr)))
            return rc;
    }
    return 0;
}

static int compile_notes(struct kl_unit *u, struct kl_policy *p, const struct kl_value *list)
{
    static const char *const types[] = {"string", "null_type", NULL};
    int rc;
    if (!(p->notes = room(u, kl_len(list), sizeof *p->notes)))
        return KL_ENOMEM;
    for (KL_EACH(v, list)) {
        if ((rc = kl_expr_compile(&u->exprs, KL_ENV_FULL, kl_text(kl_get(v, KL_F_key)),
                                  kl_text(kl_get(v, KL_F_valueExpression)), types,
                                  &p->notes[p->nnotes])))
            return rc;
        p->nnotes++;
    }
    return 0;
}

static int compile_mutations(struct kl_unit *u, struct kl_policy *p, const struct kl_value *list)
{
    static const char *const patch[] = {"list(JSONPatch)", NULL}, *const object[] = {"Object",
                                                                                     NULL};
    int rc;
    if (!(p->mutations = room(u, kl_len(list), sizeof *p->mutations)))
        return KL_ENOMEM;
    for (KL_EACH(v, list)) {
        struct kl_mutation *m = &p->mutations[p->nmutations];
        m->json_patch = kl_str_eqz(kl_text(kl_get(v, KL_F_patchType)), "JSONPatch");
        const struct kl_value *how =
            kl_get(v, m->json_patch ? KL_F_jsonPatch : KL_F_applyConfiguration);
        if ((rc = kl_expr_compile(&u->exprs, KL_ENV_PATCH, KL_STR(""),
                                  kl_text(kl_get(how, KL_F_expression)),
                                  m->json_patch ? patch : object, &m->expr)))
            return rc;
        p->nmutations++;
    }
    return 0;
}

static int compile(struct kl_unit *u)
{
    const struct kl_value *spec = kl_get(&u->object->root, KL_F_spec);
    const struct kl_value *kind = kl_get(spec, KL_F_paramKind);
    struct kl_policy *p = KL_ARENA_NEW(&u->arena, struct kl_policy);
    int rc;
    if (!p)
        return KL_ENOMEM;
    p->has_param = kind != NULL;
    p->param_kind = kl_text(kl_get(kind, KL_F_kind));
    p->param_api_version = kl_text(kl_get(kind, KL_F_apiVersion));
    ptrdiff_t slash = kl_str_chr(p->param_api_version, '/');
    p->param_group = (struct kl_str){p->param_api_version.p, slash < 0 ? 0 : (size_t)slash};
    p->param_version = kl_str_from(p->param_api_version, slash < 0 ? 0 : (size_t)slash + 1);
    p->ignore = kl_str_eqz(kl_text(kl_get(spec, KL_F_failurePolicy)), "Ignore");
    p->if_needed = kl_str_eqz(kl_text(kl_get(spec, KL_F_reinvocationPolicy)), "IfNeeded");
    u->policy = p; // for kl_policy_free, whatever comes
    if ((rc = kl_exprs_init(&u->exprs, &u->arena, p->has_param, true,
                            kl_get(spec, KL_F_variables))) ||
        (rc = compile_conditions(u, p, kl_get(spec, KL_F_matchConditions))) ||
        (rc = compile_checks(u, p, kl_get(spec, KL_F_validations))) ||
        (rc = compile_notes(u, p, kl_get(spec, KL_F_auditAnnotations))) ||
        (rc = compile_mutations(u, p, kl_get(spec, KL_F_mutations))))
        return rc;
    return 0;
}

void kl_policy_free(struct kl_unit *u)
{
    struct kl_policy *p = u->policy;
    if (!p)
        return;
    for (size_t i = 0; i < p->nconditions; i++)
        kl_expr_fini(&p->conditions[i]);
    for (size_t i = 0; i < p->nchecks; i++) {
        kl_expr_fini(&p->checks[i].expr);
        kl_expr_fini(&p->checks[i].message_expr);
    }
    for (size_t i = 0; i < p->nnotes; i++)
        kl_expr_fini(&p->notes[i]);
    for (size_t i = 0; i < p->nmutations; i++)
        kl_expr_fini(&p->mutations[i].expr);
    u->policy = NULL;
}

static void match_ready(struct kl_unit *u)
{
    const struct kl_value *spec = kl_get(&u->object->root, KL_F_spec);
    bool binding = u->kind == KL_UNIT_MAP_BINDING || u->kind == KL_UNIT_VAP_BINDING;
    const struct kl_value *m = kl_get(spec, binding ? KL_F_matchResources : KL_F_matchConstraints);
    if (u->has_match)
        return;
    u->has_match = true;
    kl_match_init(&u->match, &u->arena, m, kl_get(m, KL_F_resourceRules));
    u->match.all = true;
}

int kl_policy_ready(struct kl_hook_run *run, struct kl_unit *u)
{
    if (u->policy)
        return 0;
    if (!compile(u))
        return 0;
    kl_policy_free(u);
    kl_exprs_fini(&u->exprs);
    kl_fail_oom(run->ad->r);
    return KL_ENOMEM;
}

// ---- parameters

// KL_EAGAIN: a webhook converts it; kl_eval_settled has the request run again then.
static struct kl_object *param_object(struct kl_hook_run *run, const struct kl_resource *row,
                                      struct kl_kv *kv, struct kl_error *err)
{
    return kl_req_want_version(run->ad->r, row, kv, err) ? NULL : kl_cache_object(kv, row, err);
}

// An error is one by its length: when there is no memory for its words, it says that.
static void set_error(struct kl_bound *b, struct kl_str text)
{
    b->error = text.n ? text : KL_STR("out of memory");
}

static void copy_error(struct kl_hook_run *run, struct kl_bound *b, const struct kl_error *err)
{
    set_error(b, kl_arena_dup(run->arena, kl_str(err->msg)));
}

static int add_param(struct kl_hook_run *run, struct kl_bound *b, const struct kl_resource *row,
                     struct kl_kv *kv)
{
    const struct kl_policy *p = b->policy->policy;
    struct kl_error err = {0};
    struct kl_object *o = param_object(run, row, kv, &err);
    struct kl_object *shown = o ? kl_object_in_version(row, o, &err) : NULL;
    struct kl_value *v = &b->params[b->nparams], copy;
    int rc = shown ? 0 : err.code;
    if (!rc &&
        (kl_untyped_from_typed(run->arena, row->type, &shown->root, &copy) ||
         kl_copy(run->arena, &copy, v) ||
         kl_map_set_value(run->arena, v, KL_STR("apiVersion"), kl_string(p->param_api_version)) ||
         kl_map_set_value(run->arena, v, KL_STR("kind"), kl_string(p->param_kind))))
        rc = KL_ENOMEM;
    kl_object_unref(shown);
    if (rc) {
        copy_error(run, b, &err);
        return rc;
    }
    b->nparams++;
    return 0;
}

static void select_params(struct kl_hook_run *run, struct kl_bound *b,
                          const struct kl_resource *row, struct kl_str ns,
                          const struct kl_value *selector)
{
    struct kl_arena *a = run->arena;
    struct kl_selector s;
    struct kl_error err = {0};
    struct kl_filter f = {.res = row, .ns = ns};
    struct kl_str prefix = kl_filter_prefix(a, &f);
    char *mem = prefix.p ? kl_arena_alloc(a, prefix.n + 1) : NULL;
    struct kl_iter it;
    struct kl_kv *kv;
    size_t n = 0;
    if (!mem || kl_label_selector_from(a, selector, &s, &err)) {
        copy_error(run, b, &err);
        return;
    }
    struct kl_str end = kl_prefix_end(prefix, mem);
    for (int fill = 0; fill < 2; fill++) {
        kl_iter_init(&it, kl_req_view(run->ad->r), prefix, end);
        if (fill && !(b->params = kl_arena_alloc(a, (n + 1) * sizeof *b->params))) {
            b->error = KL_STR("out of memory");
            return;
        }
        while ((kv = kl_iter_next(&it))) {
            struct kl_object *o = param_object(run, row, kv, &err);
            if (!o) {
                copy_error(run, b, &err);
                return;
            }
            if (s.nothing || !kl_selector_matches(&s, kl_meta_labels(&o->root)))
                continue;
            if (!fill && ++n > PARAMS_MAX) {
                b->error = KL_STR("too many params");
                return;
            }
            if (fill && add_param(run, b, row, kv))
                return;
        }
    }
}

static const struct kl_resource *custom_row(struct kl_hook_run *run, struct kl_policy *p,
                                            struct kl_custom_family **ret, struct kl_error *err)
{
    const struct kl_resource *row =
        kl_crd_find(run->ad->r->al, p->param_group, p->param_version, p->param_plural, ret, err);
    if (row && kl_str_eqz(p->param_kind, row->kind))
        return row;
    if (row)
        kl_custom_family_unref(*ret);
    *ret = NULL;
    return NULL;
}

// The resource of paramKind, built in or custom; *ret_family (referenced) keeps the latter's. NULL:
// there is none, or err says why it cannot be used.
static const struct kl_resource *find_param_row(struct kl_hook_run *run, struct kl_unit *u,
                                                struct kl_custom_family **ret_family,
                                                struct kl_error *err)
{
    struct kl_policy *p = u->policy;
    const struct kl_resource *row =
        kl_resource_by_kind(p->param_group, p->param_version, p->param_kind);
    if (row || (p->param_plural.n && (row = custom_row(run, p, ret_family, err))) || err->code)
        return row;
    size_t n;
    struct kl_crd_row *rows = kl_crds_rows(run->ad->r->al, run->arena, p->param_group, &n);
    for (size_t i = 0; i < n; i++) {
        const struct kl_resource *x = rows[i].res;
        if (!kl_str_eqz(p->param_kind, x->kind) || !kl_str_eqz(p->param_version, x->version))
            continue;
        p->param_plural = kl_arena_dup(&u->arena, kl_str(x->plural));
        return p->param_plural.p ? custom_row(run, p, ret_family, err) : NULL;
    }
    return NULL;
}

// CollectParams: what the binding is evaluated with; b->error when that cannot be said.
static void collect_params(struct kl_hook_run *run, struct kl_bound *b)
{
    const struct kl_policy *p = b->policy->policy;
    const struct kl_value *ref = kl_path(&b->binding->object->root, KL_F_spec, KL_F_paramRef);
    struct kl_value *one = KL_ARENA_NEW(run->arena, struct kl_value);
    if (!one) {
        b->error = KL_STR("out of memory");
        return;
    }
    b->params = one;
    if (!p->has_param || !ref) {
        b->nparams = 1; // null
        return;
    }
    const struct kl_resource *row = b->param;
    struct kl_str ns = kl_text(kl_get(ref, KL_F_namespace)), name = kl_text(kl_get(ref, KL_F_name));
    const struct kl_value *selector = kl_get(ref, KL_F_selector);
    if (!row->namespaced && ns.n) {
        b->error = KL_STR("paramRef.namespace must not be provided for a cluster-scoped "
                          "`paramKind`");
        return;
    }
    if (row->namespaced && !ns.n && !(ns = run->ad->ns).n) {
        b->error = KL_STR("cannot use namespaced paramRef in policy binding that matches "
                          "cluster-scoped resources");
        return;
    }
    if (name.n && selector) {
        b->error = KL_STR("paramRef.name and paramRef.selector are mutually exclusive");
        return;
    }
    if (name.n) {
        struct kl_str key = kl_object_key(run->arena, row, ns, name);
        struct kl_kv *kv = key.p ? kl_view_get(kl_req_view(run->ad->r), key) : NULL;
        if (!key.p)
            set_error(b, key);
        if (kv && add_param(run, b, row, kv))
            return;
    } else if (selector) {
        select_params(run, b, row, ns, selector);
    } else {
        b->error = KL_STR("one of name or selector must be provided");
    }
    if (!b->error.n && !b->nparams &&
        kl_str_eqz(kl_text(kl_get(ref, KL_F_parameterNotFoundAction)), "Deny"))
        b->error = KL_STR("no params found for policy binding with `Deny` parameterNotFoundAction");
}

// ---- which apply

static bool has_binding(const struct kl_hookset *s, enum kl_unit_kind kind, struct kl_str policy)
{
    for (size_t i = 0; i < s->n[kind]; i++)
        if (kl_str_eq(s->units[kind][i]->policy_name, policy))
            return true;
    return false;
}

// An error of matching that has filled r->fail is the policy's to report, not the request's yet.
static void take_error(struct kl_hook_run *run, struct kl_bound *b, const struct kl_error *err)
{
    copy_error(run, b, err);
    run->ad->r->fail = (struct kl_fail){0};
    run->ad->r->result = KL_RESULT_NONE;
}

static int visit_binding(struct kl_hook_run *run, struct kl_unit *u, const struct kl_resource *res,
                         const struct kl_resource *param, struct kl_unit *binding,
                         int (*visit)(struct kl_hook_run *, struct kl_bound *, void *), void *arg)
{
    struct kl_bound b = {.policy = u, .binding = binding, .res = res, .param = param};
    struct kl_error err = {0};
    const struct kl_resource *ignored;
    match_ready(binding);
    int rc = kl_match_run(&binding->match, run, &ignored, &err);
    if (!rc)
        return 0;
    if (rc < 0)
        take_error(run, &b, &err);
    else
        collect_params(run, &b);
    if (!b.error.n && b.nparams && !(b.form = kl_shown_of(run, res))) {
        struct kl_str why = run->ad->r->fail.message;
        set_error(
            &b, kl_arena_printf(run->arena, "failed to convert object version: %.*s", KL_PRI(why)));
        run->ad->r->fail = (struct kl_fail){0};
        run->ad->r->result = KL_RESULT_NONE;
    }
    return b.error.n || b.nparams ? visit(run, &b, arg) : 0;
}

// A policy that matches, with `self` so far.
static int visit_policy(struct kl_hook_run *run, struct kl_bound *self, enum kl_unit_kind bindings,
                        int (*visit)(struct kl_hook_run *, struct kl_bound *, void *), void *arg)
{
    struct kl_hookset *s = run->set;
    struct kl_unit *u = self->policy;
    const struct kl_policy *p = u->policy;
    struct kl_custom_family *family = NULL;
    struct kl_error err = {0};
    int rc = 0;
    if (!self->error.n && p->has_param && !(self->param = find_param_row(run, u, &family, &err)))
        set_error(self,
                  kl_arena_printf(
                      run->arena,
                      "failed to find resource referenced by paramKind: '%.*s/%.*s, Kind=%.*s'",
                      KL_PRI(p->param_group), KL_PRI(p->param_version), KL_PRI(p->param_kind)));
    if (self->error.n)
        return visit(run, self, arg);
    for (size_t k = 0; k < s->n[bindings] && !rc; k++)
        if (kl_str_eq(s->units[bindings][k]->policy_name, u->name))
            rc = visit_binding(run, u, self->res, self->param, s->units[bindings][k], visit, arg);
    kl_custom_family_unref(family);
    return rc;
}

int kl_policies_each(struct kl_hook_run *run, enum kl_unit_kind policies,
                     enum kl_unit_kind bindings,
                     int (*visit)(struct kl_hook_run *run, struct kl_bound *b, void *arg),
                     void *arg)
{
    struct kl_hookset *s = run->set;
    for (size_t i = 0; i < s->n[policies]; i++) {
        struct kl_unit *u = s->units[policies][i];
        struct kl_bound self = {.policy = u};
        struct kl_error err = {0};
        int rc;
        if (!has_binding(s, bindings, u->name))
            continue;
        match_ready(u);
        rc = kl_match_run(&u->match, run, &self.res, &err);
        if (!rc)
            continue;
        int bad = kl_policy_ready(run, u);
        if (bad)
            return bad;
        if (rc < 0)
            take_error(run, &self, &err);
        if ((rc = visit_policy(run, &self, bindings, visit, arg)))
            return rc;
    }
    return 0;
}

int kl_policy_namespace(struct kl_hook_run *run, struct kl_object **ret)
{
    struct kl_admit *ad = run->ad;
    *ret = NULL;
    if (!ad->ns.n || kl_admit_is(ad, KL_RES_core_v1_namespaces) ||
        (ad->row && ad->row->index == KL_RES_core_v1_namespaces))
        return 0;
    if ((*ret = kl_admit_find(ad->r, KL_RES_core_v1_namespaces, KL_STR(""), ad->ns)))
        return 0;
    kl_fail_not_found_of(ad->r, KL_STR(""), KL_STR("namespaces"), ad->ns);
    return KL_ENOTFOUND;
}
