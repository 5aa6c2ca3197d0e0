// SPDX-License-Identifier: Apache-2.0
#include "object/cel/admission.h"
#include "base/buf.h"

static int declare(struct kl_cel_env *e, const char *name, const struct kl_cel_decl *d)
{
    return d && kl_cel_env_var(e, kl_str(name), d) >= 0 ? 0 : KL_ENOMEM;
}

static int make_env(struct kl_exprs *x, enum kl_expr_env which)
{
    struct kl_cel_env *e = kl_cel_env_new(which == KL_ENV_PATCH ? KL_CEL_PATCH_TYPES : 0);
    if (!e)
        return KL_ENOMEM;
    const struct kl_cel_decl *dyn = kl_cel_decl_simple(e, KL_CEL_T_DYN), *vars;
    bool authorizer = which != KL_ENV_NO_AUTHORIZER;
    vars = kl_cel_decl_object(e, KL_STR("kubernetes.variables"), NULL, 0);
    x->env[which] = e;
    x->variables_type[which] = vars;
    return declare(e, "object", dyn) || declare(e, "oldObject", dyn) ||
           declare(e, "namespaceObject", kl_cel_decl_namespace(e)) ||
           declare(e, "request", kl_cel_decl_request(e)) ||
           declare(e, x->has_params ? "params" : " params", dyn) ||
           declare(e, x->has_variables ? "variables" : " variables", vars) ||
           declare(e, authorizer ? "authorizer" : " authorizer",
                   kl_cel_decl_simple(e, KL_CEL_T_AUTHORIZER)) ||
           declare(e, authorizer ? "authorizer.requestResource" : " requestResource",
                   kl_cel_decl_simple(e, KL_CEL_T_RESOURCE_CHECK));
}

static bool is_one_of(struct kl_str type, const char *const *types)
{
    if (!types)
        return true;
    for (; *types; types++)
        if (kl_str_eqz(type, *types))
            return true;
    return false;
}

static struct kl_str wrong_type(struct kl_arena *a, struct kl_str type, const char *const *types)
{
    if (!types[1])
        return kl_arena_printf(a, "must evaluate to %s but got %.*s", types[0], KL_PRI(type));
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    for (size_t i = 0; types[i]; i++)
        kl_buf_printf(&b, "%s%s", i ? " " : "", types[i]);
    struct kl_str s = kl_arena_printf(a, "must evaluate to one of [%.*s] but got %.*s",
                                      KL_PRI(kl_buf_str(&b)), KL_PRI(type));
    kl_buf_fini(&b);
    return s;
}

int kl_expr_compile(struct kl_exprs *x, enum kl_expr_env env, struct kl_str name,
                    struct kl_str text, const char *const *types, struct kl_expr *ret)
{
    struct kl_error err = {0};
    struct kl_str issues = KL_STR("");
    *ret = (struct kl_expr){.name = name, .text = text};
    if (!x->env[env] && make_env(x, env))
        return KL_ENOMEM;
    int rc = kl_cel_compile(x->env[env], text, x->arena, &ret->program, &issues, &err);
    if (rc && rc != KL_EINVALID)
        return rc;
    if (rc) {
        ret->program = NULL;
        ret->error = kl_arena_printf(x->arena, "compilation failed: %.*s", KL_PRI(issues));
        return ret->error.p ? 0 : KL_ENOMEM;
    }
    struct kl_str type = kl_cel_program_type(ret->program);
    if (is_one_of(type, types))
        return 0;
    kl_cel_program_unref(ret->program);
    ret->program = NULL;
    ret->error = wrong_type(x->arena, type, types);
    return ret->error.p ? 0 : KL_ENOMEM;
}

void kl_expr_fini(struct kl_expr *e)
{
    kl_cel_program_unref(e->program);
    e->program = NULL;
}

// Each variable is seen by those after it, in every environment.
static int add_variable(struct kl_exprs *x, const struct kl_value *spec, struct kl_expr *v)
{
    static const enum kl_expr_env first = KL_ENV_FULL;
    struct kl_str name = kl_text(kl_get(spec, KL_F_name));
    int rc = kl_expr_compile(x, first, name, kl_text(kl_get(spec, KL_F_expression)), NULL, v);
    for (int e = 0; e < KL_ENVS && !rc; e++) {
        const struct kl_cel_decl *d = v->program ? kl_cel_decl_result(x->env[e], v->program)
                                                 : kl_cel_decl_simple(x->env[e], KL_CEL_T_DYN);
        rc = d ? kl_cel_decl_add_field(x->env[e], x->variables_type[e], name, d) : KL_ENOMEM;
        if (rc == KL_EEXISTS)
            rc = 0;
    }
    return rc;
}

int kl_exprs_init(struct kl_exprs *x, struct kl_arena *a, bool has_params, bool with_variables,
                  const struct kl_value *variables)
{
    *x = (struct kl_exprs){.arena = a, .has_params = has_params, .has_variables = with_variables};
    size_t n = kl_len(variables);
    if (!n)
        return 0;
    for (int e = 0; e < KL_ENVS; e++)
        if (make_env(x, e))
            return KL_ENOMEM;
    if (!(x->variables = kl_arena_zalloc(a, n * sizeof *x->variables)))
        return KL_ENOMEM;
    for (KL_EACH(v, variables)) {
        int rc = add_variable(x, v, &x->variables[x->nvariables++]);
        if (rc)
            return rc;
    }
    return 0;
}

void kl_exprs_fini(struct kl_exprs *x)
{
    for (size_t i = 0; i < x->nvariables; i++)
        kl_expr_fini(&x->variables[i]);
    for (int e = 0; e < KL_ENVS; e++)
        kl_cel_env_unref(x->env[e]);
    *x = (struct kl_exprs){0};
}
