// SPDX-License-Identifier: Apache-2.0
// admissionregistration.k8s.io: admission policies and their bindings. Expressions that an update
// leaves alone are not looked at again.
#include "object/validate/admission_int.h"

enum { NOTES_MAX = 20, NOTE_EXPRESSION_MAX = 5 * 1024 };

static const char *const actions[] = {"Audit", "Deny", "Warn", NULL};
static const char *const reasons[] = {"Forbidden", "Invalid", "RequestEntityTooLarge", NULL};
static const char *const not_found_actions[] = {"Deny", "Allow", NULL};
static const char *const patch_types[] = {"ApplyConfiguration", "JSONPatch", NULL};
static const char *const is_bool[] = {"bool", NULL};
static const char *const is_string[] = {"string", NULL};
static const char *const is_note[] = {"string", "null_type", NULL};
static const char *const is_patch[] = {"list(JSONPatch)", NULL};
static const char *const is_object[] = {"Object", NULL};

// ---- policies

static void check_param_kind(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *k)
{
    struct kl_str api = kl_text(kl_get(k, KL_F_apiVersion)), kind = kl_text(kl_get(k, KL_F_kind));
    ptrdiff_t slash = kl_str_chr(api, '/');
    struct kl_str group = {api.p, slash < 0 ? 0 : (size_t)slash};
    struct kl_str version = kl_str_from(api, slash < 0 ? 0 : (size_t)slash + 1);
    const char *why[KL_V_MESSAGES];
    if (!api.n) {
        kl_v_required(c, F(p, apiVersion), "");
    } else if (kl_str_chr(version, '/') >= 0) {
        kl_v_invalid_str(c, F(p, apiVersion), api,
                         kl_v_text(c, "unexpected GroupVersion string: %.*s", KL_PRI(api)));
    } else {
        if (group.n && kl_v_messages(KL_V_SUBDOMAIN, group, why))
            kl_v_invalid_str(c, F(p, apiVersion), group, why[0]);
        if (!version.n)
            kl_v_invalid_str(c, F(p, apiVersion), api, "version must be specified");
        else if (kl_v_messages(KL_V_DNS1035, version, why))
            kl_v_invalid_str(c, F(p, apiVersion), version, why[0]);
    }
    struct kl_str lower = kl_arena_dup(c->f->arena, kind);
    for (size_t i = 0; lower.p && i < lower.n; i++)
        if (lower.p[i] >= 'A' && lower.p[i] <= 'Z')
            ((char *)lower.p)[i] |= 0x20;
    if (!kind.n)
        kl_v_required(c, F(p, kind), "");
    else if (kl_v_messages(KL_V_DNS1035, lower, why))
        kl_v_invalid_str(
            c, F(p, kind), kind,
            kl_v_text(c, "may have mixed case, but should otherwise match: %s", why[0]));
}

static bool is_identifier(struct kl_str s)
{
    static const char *const reserved[] = {
        "true",      "false",  "null",     "in",   "as",     "break", "const", "continue",
        "else",      "for",    "function", "if",   "import", "let",   "loop",  "package",
        "namespace", "return", "var",      "void", "while",  NULL};
    for (size_t i = 0; i < s.n; i++) {
        char ch = s.p[i];
        bool letter = ch == '_' || ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z');
        if (!letter && (!i || ch < '0' || ch > '9'))
            return false;
    }
    return s.n && !kl_v_in(s, reserved);
}

static void check_variables(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list,
                            const struct kl_exprs *x)
{
    size_t i = 0;
    for (KL_EACH(v, list)) {
        const struct kl_vpath *at = I(p, i);
        struct kl_str name = kl_text(kl_get(v, KL_F_name));
        struct kl_str text = kl_text(kl_get(v, KL_F_expression));
        if (!kl_va_trimmed(name).n)
            kl_v_required(c, F(at, name), "name is not specified");
        else if (!is_identifier(name))
            kl_v_invalid_str(c, F(at, name), name, "must be a valid CEL identifier");
        if (!kl_va_trimmed(text).n)
            kl_v_required(c, F(at, expression), "expression is not specified");
        else if (i < x->nvariables && !x->variables[i].program)
            kl_v_invalid_str(c, F(at, expression), text,
                             kl_v_text(c, "%.*s", KL_PRI(x->variables[i].error)));
        i++;
    }
}

static bool has_newline(struct kl_str s)
{
    return kl_str_chr(s, '\n') >= 0 || kl_str_chr(s, '\r') >= 0;
}

static void check_validation(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *v,
                             struct kl_exprs *x)
{
    struct kl_str text = kl_text(kl_get(v, KL_F_expression));
    struct kl_str say = kl_text(kl_get(v, KL_F_messageExpression));
    struct kl_str message = kl_text(kl_get(v, KL_F_message));
    if (!kl_va_trimmed(text).n)
        kl_v_required(c, F(p, expression), "expression is not specified");
    else
        kl_va_expression(c, x, KL_ENV_FULL, F(p, expression), text, text, is_bool);
    if (say.n && !kl_va_trimmed(say).n)
        kl_v_invalid_str(c, F(p, messageExpression), say, "must be non-empty if specified");
    else if (say.n)
        kl_va_expression(c, x, KL_ENV_NO_AUTHORIZER, F(p, messageExpression), say, say, is_string);
    if (message.n && !kl_va_trimmed(message).n)
        kl_v_invalid_str(c, F(p, message), message, "must be non-empty if specified");
    else if (has_newline(kl_va_trimmed(message)))
        kl_v_invalid_str(c, F(p, message), message, "must not contain line breaks");
    kl_va_enum(c, F(p, reason), kl_get(v, KL_F_reason), false, reasons);
}

static void check_notes(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list,
                        struct kl_exprs *x)
{
    struct kl_str policy = kl_meta_name(c->now);
    size_t i = 0;
    if (kl_len(list) > NOTES_MAX)
        kl_v_invalid_omitted(c, p, "must not have more than 20 auditAnnotations");
    for (KL_EACH(n, list)) {
        const struct kl_vpath *at = I(p, i);
        struct kl_str key = kl_text(kl_get(n, KL_F_key));
        struct kl_str text = kl_text(kl_get(n, KL_F_valueExpression));
        if (policy.n)
            kl_v_format(c, F(at, key),
                        kl_str(kl_v_text(c, "%.*s/%.*s", KL_PRI(policy), KL_PRI(key))),
                        KL_V_QUALIFIED);
        else
            kl_v_invalid_str(c, F(at, key), key, "requires metadata.name be non-empty");
        if (!kl_va_trimmed(text).n)
            kl_v_required(c, F(at, valueExpression), "valueExpression is not specified");
        else if (kl_va_trimmed(text).n > NOTE_EXPRESSION_MAX)
            kl_v_required(c, F(at, valueExpression), "must not exceed 5120 bytes in length");
        else
            kl_va_expression(c, x, KL_ENV_FULL, F(at, valueExpression), kl_va_trimmed(text), text,
                             is_note);
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_key)), key)) {
                kl_v_duplicate(c, F(at, key), key);
                break;
            }
        i++;
    }
}

// What both kinds of policies begin with. Matching conditions that an update leaves as they are
// are not looked at.
static void check_policy_head(struct kl_v *c, bool mutating)
{
    const struct kl_value *spec = kl_v_spec(c), *old = kl_v_old_spec(c);
    const struct kl_value *kind = kl_get(spec, KL_F_paramKind);
    const struct kl_value *m = kl_get(spec, KL_F_matchConstraints);
    const struct kl_value *conditions = kl_get(spec, KL_F_matchConditions);
    const struct kl_vpath *p = &c->spec;
    kl_v_meta_plain(c, KL_V_SUBDOMAIN);
    kl_va_enum(c, F(p, failurePolicy), kl_get(spec, KL_F_failurePolicy), true,
               kl_va_failure_policies);
    if (kind)
        check_param_kind(c, F(p, paramKind), kind);
    if (!m) {
        kl_v_required(c, F(p, matchConstraints), "");
    } else {
        kl_va_match_resources(c, F(p, matchConstraints), m);
        if (!kl_len(kl_get(m, KL_F_resourceRules)))
            kl_v_required(c, F(F(p, matchConstraints), resourceRules), "");
        if (mutating)
            kl_va_mutating_operations(c, F(p, matchConstraints), m);
    }
    if (!old || !kl_value_equal(kind, kl_get(old, KL_F_paramKind)) ||
        !kl_value_equal(conditions, kl_get(old, KL_F_matchConditions)))
        kl_va_conditions(c, F(p, matchConditions), conditions, kind != NULL);
}

static bool begin_exprs(struct kl_v *c, struct kl_exprs *x, bool with_variables)
{
    const struct kl_value *spec = kl_v_spec(c);
    if (!kl_exprs_init(x, c->f->arena, kl_get(spec, KL_F_paramKind) != NULL, with_variables,
                       kl_get(spec, KL_F_variables)))
        return true;
    kl_v_internal(c, &c->spec, "out of memory");
    return false;
}

static void check_vap(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c);
    const struct kl_value *list = kl_get(spec, KL_F_validations);
    const struct kl_value *notes = kl_get(spec, KL_F_auditAnnotations);
    const struct kl_value *variables = kl_get(spec, KL_F_variables);
    const struct kl_vpath *p = &c->spec;
    struct kl_exprs x;
    size_t i = 0;
    check_policy_head(c, false);
    if (begin_exprs(c, &x, kl_len(variables) > 0)) {
        check_variables(c, F(p, variables), variables, &x);
        if (!kl_len(list) && !kl_len(notes)) {
            static const char why[] =
                "validations or auditAnnotations must contain at least one item";
            kl_v_required(c, F(p, validations), why);
            kl_v_required(c, F(p, auditAnnotations), why);
        }
        for (KL_EACH(v, list))
            check_validation(c, I(F(p, validations), i++), v, &x);
        check_notes(c, F(p, auditAnnotations), notes, &x);
    }
    kl_exprs_fini(&x);
}

static void check_mutation(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *m,
                           struct kl_exprs *x)
{
    struct kl_str type = kl_text(kl_get(m, KL_F_patchType));
    const struct kl_value *patch = kl_get(m, KL_F_jsonPatch);
    const struct kl_value *apply = kl_get(m, KL_F_applyConfiguration);
    if (!type.n) {
        kl_v_required(c, F(p, patchType), "");
        return;
    }
    if (!kl_v_in(type, patch_types)) {
        kl_v_unsupported(c, F(p, patchType), type, patch_types);
        return;
    }
    bool json = kl_str_eqz(type, "JSONPatch");
    const struct kl_vpath *mine = json ? F(p, jsonPatch) : F(p, applyConfiguration);
    const struct kl_vpath *other = json ? F(p, applyConfiguration) : F(p, jsonPatch);
    const struct kl_value *how = json ? patch : apply;
    struct kl_str text = kl_va_trimmed(kl_text(kl_get(how, KL_F_expression)));
    if (!how)
        kl_v_required(c, mine,
                      json ? "must be specified when patchType is JSONPatch"
                           : "must be specified when patchType is ApplyConfiguration");
    else if (!text.n)
        kl_v_required(c, F(mine, expression), "");
    else
        kl_va_expression(c, x, KL_ENV_PATCH, F(mine, expression), text, text,
                         json ? is_patch : is_object);
    if (json ? apply != NULL : patch != NULL)
        kl_v_invalid_str(c, other, json ? KL_STR("{applyConfiguration}") : KL_STR("{jsonPatch}"),
                         json ? "must not be specified when patchType is JSONPatch"
                              : "must not be specified when patchType is ApplyConfiguration");
}

static void check_map(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c), *list = kl_get(spec, KL_F_mutations);
    const struct kl_value *variables = kl_get(spec, KL_F_variables);
    struct kl_str again = kl_text(kl_get(spec, KL_F_reinvocationPolicy));
    const struct kl_vpath *p = &c->spec;
    struct kl_exprs x;
    size_t i = 0;
    check_policy_head(c, true);
    if (begin_exprs(c, &x, true)) {
        check_variables(c, F(p, variables), variables, &x);
        if (!kl_len(list))
            kl_v_required(c, F(p, mutations), "mutations must contain at least one item");
        for (KL_EACH(m, list))
            check_mutation(c, I(F(p, mutations), i++), m, &x);
    }
    kl_exprs_fini(&x);
    if (!again.n)
        kl_v_required(c, F(p, reinvocationPolicy), "");
    else if (!kl_v_in(again, kl_va_reinvocation_policies))
        kl_v_unsupported(c, F(p, reinvocationPolicy), again, kl_va_reinvocation_policies);
}

static void status_vap(struct kl_v *c)
{
    const struct kl_vpath *p = F(F(&c->status, typeChecking), expressionWarnings);
    size_t i = 0;
    for (KL_EACH(w, kl_path(c->now, KL_F_status, KL_F_typeChecking, KL_F_expressionWarnings))) {
        const struct kl_vpath *at = I(p, i++);
        if (!kl_text(kl_get(w, KL_F_warning)).n)
            kl_v_required(c, F(at, warning), "");
        if (!kl_va_trimmed(kl_text(kl_get(w, KL_F_fieldRef))).n)
            kl_v_required(c, F(at, fieldRef), "");
    }
    kl_v_conditions(c, F(&c->status, conditions), kl_path(c->now, KL_F_status, KL_F_conditions));
}

// ---- bindings

static void check_param_ref(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *ref)
{
    static const char exclusive[] = "name and selector are mutually exclusive";
    struct kl_str name = kl_text(kl_get(ref, KL_F_name));
    struct kl_str action = kl_text(kl_get(ref, KL_F_parameterNotFoundAction));
    const struct kl_value *selector = kl_get(ref, KL_F_selector);
    if (!ref)
        return;
    if (name.n) {
        kl_v_format(c, F(p, name), name, KL_V_PATH_SEGMENT);
        if (selector)
            kl_v_forbidden(c, F(p, name), exclusive);
    }
    if (selector) {
        kl_v_selector(c, F(p, selector), selector);
        if (name.n)
            kl_v_forbidden(c, F(p, selector), exclusive);
    }
    if (!name.n && !selector)
        kl_v_required(c, p, "one of name or selector must be specified");
    if (!action.n)
        kl_v_required(c, F(p, parameterNotFoundAction), "");
    else if (!kl_v_in(action, not_found_actions))
        kl_v_unsupported(c, F(p, parameterNotFoundAction), action, not_found_actions);
}

static void check_binding_head(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c), *m = kl_get(spec, KL_F_matchResources);
    struct kl_str policy = kl_text(kl_get(spec, KL_F_policyName));
    const struct kl_vpath *p = &c->spec;
    kl_v_meta_plain(c, KL_V_SUBDOMAIN);
    if (!policy.n)
        kl_v_required(c, F(p, policyName), "");
    else
        kl_v_format(c, F(p, policyName), policy, KL_V_SUBDOMAIN);
    check_param_ref(c, F(p, paramRef), kl_get(spec, KL_F_paramRef));
    if (m)
        kl_va_match_resources(c, F(p, matchResources), m);
}

static void check_vap_binding(struct kl_v *c)
{
    const struct kl_value *list = kl_get(kl_v_spec(c), KL_F_validationActions);
    const struct kl_vpath *p = F(&c->spec, validationActions);
    size_t i = 0;
    check_binding_head(c);
    for (KL_EACH(a, list)) {
        const struct kl_vpath *at = I(p, i);
        if (!kl_v_in(kl_text(a), actions))
            kl_v_unsupported(c, at, kl_text(a), actions);
        if (kl_va_seen_before(list, i, kl_text(a)))
            kl_v_duplicate(c, at, kl_text(a));
        i++;
    }
    if (kl_has_text(list, KL_STR("Deny")) && kl_has_text(list, KL_STR("Warn")))
        kl_va_invalid_list(
            c, p, list,
            "must not contain both Deny and Warn (repeating the same validation failure "
            "information in the API response and headers serves no purpose)");
    if (!kl_len(list))
        kl_v_required(c, p, "at least one validation action is required");
}

static void check_map_binding(struct kl_v *c)
{
    check_binding_head(c);
    kl_va_mutating_operations(c, F(&c->spec, matchResources),
                              kl_get(kl_v_spec(c), KL_F_matchResources));
}

const struct kl_v_kind kl_v_policies[] = {
    {KL_RES_admissionregistration_v1_validatingadmissionpolicies, .create = check_vap,
     .update = check_vap, .status = status_vap},
    {KL_RES_admissionregistration_v1_validatingadmissionpolicybindings, .create = check_vap_binding,
     .update = check_vap_binding},
    {KL_RES_admissionregistration_v1beta1_mutatingadmissionpolicies, .create = check_map,
     .update = check_map},
    {KL_RES_admissionregistration_v1beta1_mutatingadmissionpolicybindings,
     .create = check_map_binding, .update = check_map_binding},
    {0},
};
