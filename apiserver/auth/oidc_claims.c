// SPDX-License-Identifier: Apache-2.0
// From claims to a user (apiserver plugin/pkg/authenticator/token/oidc).
#include "apiserver/auth/oidc_int.h"

enum { MAX_VALUES = 1024 };

struct mapping {
    const struct kl_oidc *o;
    struct kl_arena *a;
    const struct kl_value *claims;
    struct kl_cel_val claims_val;
    struct kl_str name, uid, *groups;
    size_t ngroups;
    struct kl_user_extra *extra;
    size_t nextra;
};

static int oom(struct kl_error *err)
{
    return kl_error_set(err, KL_ENOMEM, "oidc: out of memory");
}

static int refuse(struct kl_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int refuse(struct kl_error *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = kl_error_vset(err, KL_EUNAUTHORIZED, fmt, ap);
    va_end(ap);
    return rc;
}

static int eval(struct mapping *m, const struct kl_cel_program *p, struct kl_cel_val var,
                const char *what, struct kl_cel_val *ret, struct kl_error *err)
{
    struct kl_cel_eval with = {.vars = &var, .cost_limit = KL_CEL_PER_CALL_LIMIT};
    struct kl_error why = {0};
    if (!kl_cel_eval(p, &with, m->a, ret, NULL, &why))
        return 0;
    return refuse(err, "oidc: error evaluating %s: %s", what, why.msg);
}

static const struct kl_value *claim(const struct mapping *m, struct kl_str name)
{
    return kl_map_value(m->claims, name);
}

static int string_claim(struct mapping *m, struct kl_str name, const char *what, struct kl_str *ret,
                        struct kl_error *err)
{
    const struct kl_value *v = claim(m, name);
    if (!v)
        return refuse(err, "oidc: parse %s \"%.*s\": claim not present", what, KL_PRI(name));
    if (!kl_is(v, KL_STRING))
        return refuse(err,
                      "oidc: parse %s \"%.*s\": json: cannot unmarshal value into Go value of type "
                      "string",
                      what, KL_PRI(name));
    *ret = kl_text(v);
    return 0;
}

// ---- lists

static int add_value(struct mapping *m, struct kl_str **list, size_t *n, struct kl_str s,
                     struct kl_error *err)
{
    if (!*list && !(*list = kl_arena_alloc(m->a, MAX_VALUES * sizeof **list)))
        return oom(err);
    if (*n == MAX_VALUES)
        return refuse(err, "oidc: more than %d values", MAX_VALUES);
    (*list)[(*n)++] = s;
    return 0;
}

// convertCELValueToStringList
static int take_list(struct mapping *m, struct kl_cel_val v, const char *what, struct kl_str **list,
                     size_t *n, struct kl_error *err)
{
    int rc = 0;
    *list = NULL;
    *n = 0;
    if (v.kind == KL_CEL_NULL)
        return 0;
    if (v.kind == KL_CEL_STRING)
        return v.n ? add_value(m, list, n, kl_cel_text(v), err) : 0;
    if (v.kind != KL_CEL_LIST)
        return refuse(err,
                      "oidc: error evaluating %s: expression must return a string or a list of "
                      "strings",
                      what);
    for (size_t i = 0; i < kl_cel_len(v) && !rc; i++) {
        struct kl_cel_val e = kl_cel_at(m->a, v, i);
        if (e.kind != KL_CEL_STRING)
            return refuse(
                err, "oidc: error evaluating %s: expression must return a list of strings", what);
        rc = add_value(m, list, n, kl_cel_text(e), err);
    }
    return rc;
}

static struct kl_str prefixed(struct mapping *m, struct kl_str prefix, struct kl_str s)
{
    return prefix.n ? kl_arena_printf(m->a, "%.*s%.*s", KL_PRI(prefix), KL_PRI(s)) : s;
}

// ---- what is mapped

static int take_name(struct mapping *m, struct kl_error *err)
{
    const struct kl_claim_source *s = &m->o->username;
    const char *what = "username claim expression";
    struct kl_cel_val v;
    int rc;
    if (s->expr) {
        if ((rc = eval(m, s->expr, m->claims_val, what, &v, err)))
            return rc;
        if (v.kind != KL_CEL_STRING)
            return refuse(err,
                          "oidc: error evaluating %s: username claim expression must return a "
                          "string",
                          what);
        m->name = kl_cel_text(v);
        return m->name.n ? 0
                         : refuse(err, "oidc: empty username via CEL expression is not allowed");
    }
    if ((rc = string_claim(m, s->claim, "username claims", &m->name, err)))
        return rc;
    const struct kl_value *verified = claim(m, KL_STR("email_verified"));
    if (kl_str_eqz(s->claim, "email") && verified) {
        if (!kl_is(verified, KL_BOOL))
            return refuse(err, "oidc: parse 'email_verified' claim: json: cannot unmarshal value "
                               "into Go value of type bool");
        if (!verified->b)
            return refuse(err, "oidc: email not verified");
    }
    m->name = prefixed(m, s->prefix, m->name);
    return m->name.p ? 0 : oom(err);
}

static int take_groups(struct mapping *m, struct kl_error *err)
{
    const struct kl_claim_source *s = &m->o->groups;
    const struct kl_value *v = s->claim.n ? claim(m, s->claim) : NULL;
    const char *what = "group claim expression";
    struct kl_cel_val out;
    int rc = 0;
    if (v) {
        size_t n = kl_is(v, KL_STRING) ? 1 : kl_len(v);
        if (!kl_is(v, KL_STRING) && !kl_is(v, KL_ARRAY) && v->kind != KL_NULL)
            return refuse(err,
                          "oidc: parse groups claim \"%.*s\": json: cannot unmarshal value into Go "
                          "value of type string",
                          KL_PRI(s->claim));
        for (size_t i = 0; i < n && !rc; i++) {
            const struct kl_value *e = kl_is(v, KL_STRING) ? v : kl_at(v, i);
            if (!kl_is(e, KL_STRING))
                return refuse(err,
                              "oidc: parse groups claim \"%.*s\": json: cannot unmarshal value "
                              "into Go value of type string",
                              KL_PRI(s->claim));
            struct kl_str g = prefixed(m, s->prefix, kl_text(e));
            rc = g.p ? add_value(m, &m->groups, &m->ngroups, g, err) : oom(err);
        }
        return rc;
    }
    if (!s->expr)
        return 0;
    rc = eval(m, s->expr, m->claims_val, what, &out, err);
    return rc ? rc : take_list(m, out, what, &m->groups, &m->ngroups, err);
}

static int take_uid(struct mapping *m, struct kl_error *err)
{
    const struct kl_claim_source *s = &m->o->uid;
    const char *what = "uid claim expression";
    struct kl_cel_val v;
    m->uid = KL_STR("");
    if (s->claim.n)
        return string_claim(m, s->claim, "uid claim", &m->uid, err);
    if (!s->expr)
        return 0;
    int rc = eval(m, s->expr, m->claims_val, what, &v, err);
    if (rc)
        return rc;
    if (v.kind != KL_CEL_STRING)
        return refuse(err, "oidc: error evaluating %s: uid claim expression must return a string",
                      what);
    m->uid = kl_cel_text(v);
    return 0;
}

static int take_extra(struct mapping *m, struct kl_error *err)
{
    const struct kl_oidc *o = m->o;
    struct kl_str jti = kl_text(claim(m, KL_STR("jti")));
    m->extra = kl_arena_zalloc(m->a, (o->nextra + 1) * sizeof *m->extra);
    if (!m->extra)
        return oom(err);
    if (jti.n) {
        struct kl_str *id = kl_arena_alloc(m->a, sizeof *id);
        if (!id || !(*id = kl_arena_printf(m->a, "JTI=%.*s", KL_PRI(jti))).p)
            return oom(err);
        m->extra[m->nextra++] =
            (struct kl_user_extra){KL_STR("authentication.kubernetes.io/credential-id"), id, 1};
    }
    for (size_t i = 0; i < o->nextra; i++) {
        struct kl_cel_val v;
        struct kl_str *values;
        size_t n;
        const char *what = "extra claim expression";
        int rc = eval(m, o->extra[i].expr, m->claims_val, what, &v, err);
        if (rc || (rc = take_list(m, v, what, &values, &n, err)))
            return rc;
        if (n)
            m->extra[m->nextra++] = (struct kl_user_extra){o->extra[i].key, values, n};
    }
    return 0;
}

// ---- what is required

static int check_rule(struct mapping *m, const struct kl_claim_rule *r, struct kl_cel_val var,
                      const char *what, struct kl_error *err)
{
    struct kl_cel_val v;
    int rc = eval(m, r->expr, var, what, &v, err);
    if (rc)
        return rc;
    if (v.kind != KL_CEL_BOOL)
        return refuse(err,
                      "oidc: error evaluating %s: evaluation result could not be converted "
                      "to bool",
                      what);
    if (v.b)
        return 0;
    return refuse(err, "oidc: error evaluating %s: validation expression '%.*s' failed: %.*s", what,
                  KL_PRI(r->text), KL_PRI(r->message));
}

static int check_required(struct mapping *m, const struct kl_claim_rule *r, struct kl_error *err)
{
    const struct kl_value *v = claim(m, r->claim);
    if (!v)
        return refuse(err, "oidc: required claim %.*s not present in ID token", KL_PRI(r->claim));
    if (!kl_is(v, KL_STRING))
        return refuse(err,
                      "oidc: parse claim %.*s: json: cannot unmarshal value into Go value of type "
                      "string",
                      KL_PRI(r->claim));
    if (kl_str_eq(kl_text(v), r->value))
        return 0;
    return refuse(err, "oidc: required claim %.*s value does not match. Got = %.*s, want = %.*s",
                  KL_PRI(r->claim), KL_PRI(kl_text(v)), KL_PRI(r->value));
}

static int add_texts(struct kl_arena *a, struct kl_value *map, const char *name,
                     const struct kl_str *s, size_t n)
{
    struct kl_value list = kl_new_array();
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++)
        rc = kl_append(a, &list, kl_string(s[i]));
    return rc ? rc : kl_map_set_value(a, map, kl_str(name), list);
}

static int user_value(struct mapping *m, struct kl_value *v)
{
    struct kl_arena *a = m->a;
    struct kl_value extra = kl_new_map();
    *v = kl_new_map();
    int rc = kl_map_set_value(a, v, KL_STR("username"), kl_string(m->name));
    if (!rc)
        rc = kl_map_set_value(a, v, KL_STR("uid"), kl_string(m->uid));
    if (!rc)
        rc = add_texts(a, v, "groups", m->groups, m->ngroups);
    for (size_t i = 0; i < m->nextra && !rc; i++) {
        struct kl_value list = kl_new_array();
        for (size_t k = 0; k < m->extra[i].nvalues && !rc; k++)
            rc = kl_append(a, &list, kl_string(m->extra[i].values[k]));
        if (!rc)
            rc = kl_map_set_value(a, &extra, m->extra[i].key, list);
    }
    return rc ? rc : kl_map_set_value(a, v, KL_STR("extra"), extra);
}

static int check_rules(struct mapping *m, struct kl_error *err)
{
    const struct kl_oidc *o = m->o;
    int rc = 0;
    for (size_t i = 0; i < o->nclaim_rules && !rc; i++)
        if (o->claim_rules[i].claim.n)
            rc = check_required(m, &o->claim_rules[i], err);
    for (size_t i = 0; i < o->nclaim_rules && !rc; i++)
        if (o->claim_rules[i].expr)
            rc = check_rule(m, &o->claim_rules[i], m->claims_val, "claim validation expression",
                            err);
    if (rc || !o->nuser_rules)
        return rc;
    struct kl_value user;
    if (user_value(m, &user))
        return oom(err);
    struct kl_cel_val var = kl_cel_node(m->a, &user, NULL);
    for (size_t i = 0; i < o->nuser_rules && !rc; i++)
        rc = check_rule(m, &o->user_rules[i], var, "user info validation rule", err);
    return rc;
}

int kl_oidc_user(const struct kl_oidc *o, struct kl_arena *a, const struct kl_value *claims,
                 struct kl_user **ret, struct kl_error *err)
{
    struct mapping m = {.o = o, .a = a, .claims = claims};
    m.claims_val = kl_cel_node(a, claims, NULL);
    int rc;
    if ((rc = take_name(&m, err)) || (rc = take_groups(&m, err)) || (rc = take_uid(&m, err)) ||
        (rc = take_extra(&m, err)) || (rc = check_rules(&m, err)))
        return rc;
    *ret = kl_user_new(m.name, m.uid, m.groups, m.ngroups, m.extra, m.nextra);
    return *ret ? 0 : oom(err);
}
