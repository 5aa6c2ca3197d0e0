// SPDX-License-Identifier: Apache-2.0
#include "object/cel/typecheck.h"
#include "base/buf.h"
#include "object/resource.h"
#include "object/schema.h"
#include <stdlib.h>

enum { KINDS_OF_RULE = 10, KINDS_MAX = 640, DEPTH_MAX = 64, WARNING_MAX_BYTES = 1 << 20 };

// ---- the type of a kind, as its OpenAPI schema has it (SchemaDeclType)

struct walk {
    struct kl_cel_env *e;
    struct kl_arena *a;
    const struct kl_type *open[DEPTH_MAX]; // what is being walked: a kind within itself is empty
    int depth;
};

static const struct kl_cel_decl *of_type(struct walk *w, struct kl_str name,
                                         const struct kl_type *t);

static bool is_open(const struct walk *w, const struct kl_type *t)
{
    for (int i = 0; i < w->depth; i++)
        if (w->open[i] == t)
            return true;
    return w->depth == DEPTH_MAX;
}

static const struct kl_cel_decl *of_struct(struct walk *w, struct kl_str name,
                                           const struct kl_type *t)
{
    static const char *const strings[] = {"apiVersion", "kind"};
    if (is_open(w, t))
        return kl_cel_decl_object(w->e, name, NULL, 0);
    struct kl_cel_field *fields = kl_arena_alloc(w->a, (t->nfields + 2u) * sizeof *fields);
    size_t n = 0;
    if (!fields)
        return NULL;
    w->open[w->depth++] = t;
    for (uint16_t i = 0; i < t->nfields; i++) {
        struct kl_str key = kl_sym_name(t->fields[i].sym), escaped;
        if (kl_cel_escape(w->a, key, &escaped))
            continue;
        struct kl_str path = kl_arena_printf(w->a, "%.*s.%.*s", KL_PRI(name), KL_PRI(escaped));
        const struct kl_cel_decl *d = path.p ? of_type(w, path, t->fields[i].type) : NULL;
        if (d)
            fields[n++] = (struct kl_cel_field){escaped, d};
    }
    w->depth--;
    for (size_t i = 0; i < KL_COUNT(strings) && !w->depth; i++)
        if (!kl_type_field_named(t, kl_str(strings[i])))
            fields[n++] = (struct kl_cel_field){kl_str(strings[i]),
                                                kl_cel_decl_simple(w->e, KL_CEL_T_STRING)};
    return kl_cel_decl_object(w->e, name, fields, n);
}

// NULL: expressions cannot see it (quantities have two types, and so none).
static const struct kl_cel_decl *of_type(struct walk *w, struct kl_str name,
                                         const struct kl_type *t)
{
    const struct kl_cel_decl *elem;
    switch (t->kind) {
    case KL_T_STRING:
    case KL_T_DURATION:
        return kl_cel_decl_simple(w->e, KL_CEL_T_STRING);
    case KL_T_BYTES:
        return kl_cel_decl_simple(w->e, KL_CEL_T_BYTES);
    case KL_T_INTEGER:
        return kl_cel_decl_simple(w->e, KL_CEL_T_INT);
    case KL_T_NUMBER:
        return kl_cel_decl_simple(w->e, KL_CEL_T_DOUBLE);
    case KL_T_BOOLEAN:
        return kl_cel_decl_simple(w->e, KL_CEL_T_BOOL);
    case KL_T_TIME:
    case KL_T_MICROTIME:
        return kl_cel_decl_simple(w->e, KL_CEL_T_TIMESTAMP);
    case KL_T_INT_OR_STRING:
        return kl_cel_decl_simple(w->e, KL_CEL_T_DYN);
    case KL_T_RAW_EXTENSION:
    case KL_T_FIELDS_V1:
        return kl_cel_decl_object(w->e, name, NULL, 0);
    case KL_T_STRUCT:
        return of_struct(w, name, t);
    case KL_T_ARRAY:
        name = kl_arena_printf(w->a, "%.*s.@idx", KL_PRI(name));
        elem = name.p ? of_type(w, name, t->elem) : NULL;
        return elem ? kl_cel_decl_list(w->e, elem, -1) : NULL;
    case KL_T_MAP:
        name = kl_arena_printf(w->a, "%.*s.@elem", KL_PRI(name));
        elem = name.p ? of_type(w, name, t->elem) : NULL;
        return elem ? kl_cel_decl_map(w->e, elem, -1) : NULL;
    default:
        return NULL;
    }
}

// ---- which kinds

struct kind {
    struct kl_str group, version, kind;
    const struct kl_type *type;    // NULL: custom
    const struct kl_value *schema; // of a custom one; NULL: it says nothing
};

struct kinds {
    const struct kl_value *const *definitions;
    size_t ndefinitions;
    struct kind v[KINDS_MAX];
    size_t n;
};

static bool has_star(const struct kl_value *list)
{
    for (KL_EACH(x, list))
        if (kl_str_chr(kl_text(x), '*') >= 0)
            return true;
    return false;
}

// Sorted; *ret_n 0: none, or no memory. Of resources, those with a star or a slash are left out.
static struct kl_str *sorted(struct kl_arena *a, const struct kl_value *list, bool plain,
                             size_t *ret_n)
{
    struct kl_str *v = kl_arena_alloc(a, (kl_len(list) + 1) * sizeof *v);
    *ret_n = 0;
    for (KL_EACH(x, v ? list : NULL))
        if (!plain || (kl_str_chr(kl_text(x), '*') < 0 && kl_str_chr(kl_text(x), '/') < 0))
            v[(*ret_n)++] = kl_text(x);
    if (*ret_n)
        qsort(v, *ret_n, sizeof *v, kl_str_order);
    return v;
}

static int compare_kinds(const struct kind *a, const struct kind *b)
{
    int c = kl_str_cmp(a->group, b->group);
    c = c ? c : kl_str_cmp(a->version, b->version);
    return c ? c : kl_str_cmp(a->kind, b->kind);
}

static void add(struct kinds *k, struct kind x)
{
    for (size_t i = 0; i < k->n; i++)
        if (!compare_kinds(&k->v[i], &x))
            return;
    if (k->n < KINDS_MAX)
        k->v[k->n++] = x;
}

static bool is_established(const struct kl_value *definition)
{
    for (KL_EACH(c, kl_path(definition, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_type)), "Established"))
            return kl_str_eqz(kl_text(kl_get(c, KL_F_status)), "True");
    return false;
}

// Whether it defines the group's resource or kind.
static bool defines(const struct kl_value *definition, struct kl_str group, kl_sym name_of,
                    struct kl_str name)
{
    return kl_str_eq(kl_text_at(definition, KL_F_spec, KL_F_group), group) &&
           kl_str_eq(kl_text_at(definition, KL_F_status, KL_F_acceptedNames, name_of), name) &&
           is_established(definition);
}

// A served version of a definition; NULL: there is none.
static const struct kl_value *served_version(const struct kl_value *definition,
                                             struct kl_str version)
{
    for (KL_EACH(v, kl_path(definition, KL_F_spec, KL_F_versions)))
        if (kl_str_eq(kl_text(kl_get(v, KL_F_name)), version))
            return kl_is_true(kl_get(v, KL_F_served)) ? v : NULL;
    return NULL;
}

// RESTMapper.KindsFor: without a group the resource may be of any. False: that was the tenth.
static bool add_kinds(struct kinds *k, struct kl_str group, struct kl_str version,
                      struct kl_str plural, size_t *count)
{
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *res = &kl_resources[i];
        if (!res->enabled || !kl_str_eqz(version, res->version) ||
            !kl_str_eqz(plural, res->plural) || (group.n && !kl_str_eqz(group, res->group)))
            continue;
        add(k, (struct kind){.group = kl_str(res->group),
                             .version = kl_str(res->version),
                             .kind = kl_str(res->kind),
                             .type = res->type});
        if (++*count == KINDS_OF_RULE)
            return false;
    }
    for (size_t i = 0; i < k->ndefinitions; i++) {
        const struct kl_value *d = k->definitions[i];
        const struct kl_value *v =
            defines(d, group, KL_F_plural, plural) ? served_version(d, version) : NULL;
        if (!v)
            continue;
        add(k,
            (struct kind){.group = group,
                          .version = version,
                          .kind = kl_text(kl_path(d, KL_F_status, KL_F_acceptedNames, KL_F_kind)),
                          .schema = kl_path(v, KL_F_schema, KL_F_openAPIV3Schema)});
        if (++*count == KINDS_OF_RULE)
            return false;
    }
    return true;
}

static bool add_rule(struct kl_arena *a, struct kinds *k, const struct kl_value *rule)
{
    const struct kl_value *groups = kl_get(rule, KL_F_apiGroups),
                          *versions = kl_get(rule, KL_F_apiVersions);
    size_t ng, nv, nr, count = 0;
    if (has_star(groups) || has_star(versions))
        return true;
    struct kl_str *g = sorted(a, groups, false, &ng), *v = sorted(a, versions, false, &nv),
                  *r = sorted(a, kl_get(rule, KL_F_resources), true, &nr);
    for (size_t i = 0; i < ng; i++)
        for (size_t j = 0; j < nv; j++)
            for (size_t l = 0; l < nr; l++)
                if (!add_kinds(k, g[i], v[j], r[l], &count))
                    return false;
    return true;
}

static int by_gvk(const void *x, const void *y)
{
    return compare_kinds(x, y);
}

static bool is_built_in(struct kl_str group, struct kl_str plural)
{
    for (uint16_t i = 0; i < kl_nresources; i++)
        if (kl_str_eqz(group, kl_resources[i].group) && kl_str_eqz(plural, kl_resources[i].plural))
            return true;
    return false;
}

static int name_custom(struct kl_arena *a, struct kl_str group, struct kl_str plural,
                       struct kl_str *names, size_t *n)
{
    if (!group.n || !plural.n || *n == KL_POLICY_CUSTOM_MAX || is_built_in(group, plural))
        return 0;
    struct kl_str name = kl_arena_printf(a, "%.*s.%.*s", KL_PRI(plural), KL_PRI(group));
    if (!name.p)
        return KL_ENOMEM;
    for (size_t i = 0; i < *n; i++)
        if (kl_str_eq(names[i], name))
            return 0;
    names[(*n)++] = name;
    return 0;
}

int kl_policy_customs(struct kl_arena *a, const struct kl_value *policy, struct kl_str **ret,
                      size_t *ret_n)
{
    struct kl_str *names = kl_arena_alloc(a, KL_POLICY_CUSTOM_MAX * sizeof *names);
    const struct kl_value *rules =
        kl_path(policy, KL_F_spec, KL_F_matchConstraints, KL_F_resourceRules);
    size_t n = 0;
    if (!names)
        return KL_ENOMEM;
    for (KL_EACH(rule, rules)) {
        const struct kl_value *groups = kl_get(rule, KL_F_apiGroups);
        if (has_star(groups) || has_star(kl_get(rule, KL_F_apiVersions)))
            continue;
        for (KL_EACH(g, groups))
            for (KL_EACH(r, kl_get(rule, KL_F_resources)))
                if (kl_str_chr(kl_text(r), '*') < 0 && kl_str_chr(kl_text(r), '/') < 0 &&
                    name_custom(a, kl_text(g), kl_text(r), names, &n))
                    return KL_ENOMEM;
    }
    *ret = names;
    *ret_n = n;
    return 0;
}

// ---- parameters

static struct kl_str read_param(const struct kl_value *param_kind, struct kl_str *ret_group,
                                struct kl_str *ret_version)
{
    struct kl_str api = kl_text(kl_get(param_kind, KL_F_apiVersion));
    ptrdiff_t slash = kl_str_chr(api, '/');
    *ret_group = (struct kl_str){api.p, slash < 0 ? 0 : (size_t)slash};
    *ret_version = kl_str_from(api, slash < 0 ? 0 : (size_t)slash + 1);
    return kl_text(kl_get(param_kind, KL_F_kind));
}

bool kl_policy_param(const struct kl_value *policy, struct kl_str *ret_group,
                     struct kl_str *ret_kind)
{
    const struct kl_value *param_kind = kl_path(policy, KL_F_spec, KL_F_paramKind);
    struct kl_str group, version, kind = read_param(param_kind, &group, &version);
    if (!group.n || !kind.n || kl_resource_by_kind(group, version, kind))
        return false;
    *ret_group = group;
    *ret_kind = kind;
    return true;
}

bool kl_policy_is_param(const struct kl_value *definition, struct kl_str group, struct kl_str kind)
{
    return defines(definition, group, KL_F_kind, kind);
}

// Of a custom kind, at its served version; false: nobody knows it.
static bool custom_param(const struct kinds *k, struct kl_str group, struct kl_str version,
                         struct kl_str kind, struct kind *ret)
{
    for (size_t i = 0; i < k->ndefinitions; i++) {
        const struct kl_value *v = defines(k->definitions[i], group, KL_F_kind, kind)
                                       ? served_version(k->definitions[i], version)
                                       : NULL;
        if (!v)
            continue;
        *ret = (struct kind){.kind = kind, .schema = kl_path(v, KL_F_schema, KL_F_openAPIV3Schema)};
        return true;
    }
    return false;
}

// ---- one kind's environment

struct check {
    const struct kinds *kinds;
    struct kl_arena *a;
    struct kl_cel_env *e;
    struct kind kind;
    struct kl_cel_program **variables; // their types belong to them
    size_t nvariables;
};

static int declare(struct kl_cel_env *e, const char *name, const struct kl_cel_decl *d)
{
    return d && kl_cel_env_var(e, kl_str(name), d) >= 0 ? 0 : KL_ENOMEM;
}

// A schema as the server publishes it: with apiVersion, kind and all of metadata.
static const struct kl_cel_decl *of_schema(struct check *c, struct kl_str name,
                                           const struct kl_value *schema)
{
    static const char *const strings[] = {"apiVersion", "kind"};
    const struct kl_cel_decl *d = NULL, *text = kl_cel_decl_simple(c->e, KL_CEL_T_STRING), *meta;
    struct walk w = {.e = c->e, .a = c->a, .depth = 1}; // not the root
    struct kl_str path = kl_arena_printf(c->a, "%.*s.metadata", KL_PRI(name));
    struct kl_value *own = KL_ARENA_NEW(c->a, struct kl_value);
    struct kl_error err;
    if (!own || !path.p || !text)
        return NULL;
    *own = *schema;
    own->owned = 0;
    struct kl_value *props = kl_edit(c->a, own, KL_F_properties, KL_MAP);
    if (!props || kl_map_unset(c->a, props, KL_STR("metadata")) ||
        kl_map_unset(c->a, props, KL_STR("apiVersion")) ||
        kl_map_unset(c->a, props, KL_STR("kind")) ||
        kl_cel_decl_schema(c->e, name, own, false, &d, &err))
        return NULL;
    if (!d)
        return kl_cel_decl_simple(c->e, KL_CEL_T_DYN);
    meta = of_type(&w, path, kl_type(KL_TYPE_meta_v1_ObjectMeta));
    if (!meta || kl_cel_decl_add_field(c->e, d, KL_STR("metadata"), meta))
        return NULL;
    for (size_t i = 0; i < KL_COUNT(strings); i++)
        if (kl_cel_decl_add_field(c->e, d, kl_str(strings[i]), text))
            return NULL;
    return d;
}

static const struct kl_cel_decl *of_kind(struct check *c, const struct kind *k, uint32_t stamp)
{
    static const char *const names[] = {"generateName", "name"}, *const strings[] = {"apiVersion",
                                                                                     "kind"};
    struct walk w = {.e = c->e, .a = c->a};
    struct kl_str name = kl_arena_printf(c->a, "%.*s%u", KL_PRI(k->kind), stamp);
    if (!name.p)
        return NULL;
    if (k->type)
        return of_type(&w, name, k->type);
    if (k->schema)
        return of_schema(c, name, k->schema);
    // What says nothing has what every resource has for CEL.
    const struct kl_cel_decl *text = kl_cel_decl_simple(c->e, KL_CEL_T_STRING);
    struct kl_cel_field in_meta[KL_COUNT(names)], fields[KL_COUNT(strings) + 1];
    struct kl_str path = kl_arena_printf(c->a, "%.*s.metadata", KL_PRI(name));
    for (size_t i = 0; i < KL_COUNT(names); i++) {
        in_meta[i] = (struct kl_cel_field){kl_str(names[i]), text};
        fields[i] = (struct kl_cel_field){kl_str(strings[i]), text};
    }
    fields[2] = (struct kl_cel_field){
        KL_STR("metadata"),
        path.p ? kl_cel_decl_object(c->e, path, in_meta, KL_COUNT(in_meta)) : NULL};
    return text && fields[2].decl ? kl_cel_decl_object(c->e, name, fields, KL_COUNT(fields)) : NULL;
}

static int declare_params(struct check *c, const struct kl_value *param_kind, uint32_t stamp)
{
    struct kl_str group, version, kind = read_param(param_kind, &group, &version);
    const struct kl_resource *res = kl_resource_by_kind(group, version, kind);
    if (!param_kind)
        return 0;
    struct kind k = {.kind = kind, .type = res ? res->type : NULL};
    bool known = res || custom_param(c->kinds, group, version, kind, &k);
    return declare(c->e, "params",
                   known ? of_kind(c, &k, stamp + 1) : kl_cel_decl_simple(c->e, KL_CEL_T_DYN));
}

static int declare_variables(struct check *c, const struct kl_value *list)
{
    const struct kl_cel_decl *vars =
        kl_cel_decl_object(c->e, KL_STR("kubernetes.variables"), NULL, 0);
    int rc = declare(c->e, "variables", vars);
    if (!(c->variables =
              kl_arena_zalloc(c->a, (kl_len(list) + 1) * sizeof(struct kl_cel_program *))))
        return KL_ENOMEM;
    for (KL_EACH(v, list)) {
        struct kl_cel_program *p = NULL;
        struct kl_str issues = KL_STR("");
        struct kl_error err = {0};
        if (rc)
            break;
        rc = kl_cel_compile(c->e, kl_text(kl_get(v, KL_F_expression)), c->a, &p, &issues, &err);
        if (rc && rc != KL_EINVALID)
            break;
        rc = kl_cel_decl_add_field(c->e, vars, kl_text(kl_get(v, KL_F_name)),
                                   p ? kl_cel_decl_result(c->e, p)
                                     : kl_cel_decl_simple(c->e, KL_CEL_T_DYN));
        c->variables[c->nvariables++] = p;
        if (rc == KL_EEXISTS)
            rc = 0;
    }
    return rc;
}

static int check_init(struct check *c, const struct kl_value *spec, uint32_t stamp)
{
    if (!(c->e = kl_cel_env_new(0)))
        return KL_ENOMEM;
    const struct kl_cel_decl *object = of_kind(c, &c->kind, stamp);
    if (declare(c->e, "object", object) || declare(c->e, "oldObject", object) ||
        declare(c->e, "namespaceObject", kl_cel_decl_namespace(c->e)) ||
        declare(c->e, "request", kl_cel_decl_request(c->e)) ||
        declare(c->e, "authorizer", kl_cel_decl_simple(c->e, KL_CEL_T_AUTHORIZER)) ||
        declare_params(c, kl_get(spec, KL_F_paramKind), stamp))
        return KL_ENOMEM;
    return declare_variables(c, kl_get(spec, KL_F_variables));
}

// ---- warnings

static int check_one(struct check *c, struct kl_str text, struct kl_buf *out)
{
    struct kl_cel_program *p = NULL;
    struct kl_str issues = KL_STR("");
    struct kl_error err = {0};
    int rc = kl_cel_compile(c->e, text, c->a, &p, &issues, &err);
    kl_cel_program_unref(p);
    if (rc != KL_EINVALID)
        return rc;
    kl_buf_printf(out, "%s%.*s/%.*s, Kind=%.*s: %.*s\n", out->n ? "\n" : "", KL_PRI(c->kind.group),
                  KL_PRI(c->kind.version), KL_PRI(c->kind.kind), KL_PRI(issues));
    return 0;
}

static int check_expression(struct check *checks, size_t n, struct kl_str text, size_t index,
                            const char *field, struct kl_value *ret)
{
    struct kl_arena *a = checks[0].a;
    struct kl_value w = kl_new_struct();
    struct kl_buf b;
    int rc = 0;
    kl_buf_init(&b, WARNING_MAX_BYTES);
    for (size_t i = 0; i < n && !rc; i++)
        rc = check_one(&checks[i], text, &b);
    if (!rc && b.n) {
        struct kl_str ref = kl_arena_printf(a, "spec.validations[%zu].%s", index, field);
        struct kl_str warning = kl_arena_dup(a, kl_buf_str(&b));
        if (!ref.p || !warning.p || kl_set(a, &w, KL_F_fieldRef, kl_string(ref)) ||
            kl_set(a, &w, KL_F_warning, kl_string(warning)) || kl_append(a, ret, w))
            rc = KL_ENOMEM;
    }
    kl_buf_fini(&b);
    return rc;
}

static int check_all(struct check *checks, size_t n, const struct kl_value *spec,
                     struct kl_value *ret)
{
    size_t i = 0;
    int rc = 0;
    for (KL_EACH(v, kl_get(spec, KL_F_validations))) {
        struct kl_str message = kl_text(kl_get(v, KL_F_messageExpression));
        rc = check_expression(checks, n, kl_text(kl_get(v, KL_F_expression)), i, "expression", ret);
        if (!rc && message.n)
            rc = check_expression(checks, n, message, i, "messageExpression", ret);
        if (rc)
            return rc;
        i++;
    }
    return 0;
}

int kl_policy_typecheck(struct kl_arena *a, const struct kl_value *policy,
                        const struct kl_value *const *definitions, size_t ndefinitions,
                        uint32_t stamp, struct kl_value *ret_warnings)
{
    const struct kl_value *spec = kl_get(policy, KL_F_spec);
    struct kinds *k = KL_ARENA_NEW(a, struct kinds);
    int rc = 0;
    *ret_warnings = kl_new_array();
    if (!k)
        return KL_ENOMEM;
    k->definitions = definitions;
    k->ndefinitions = ndefinitions;
    for (KL_EACH(rule, kl_path(spec, KL_F_matchConstraints, KL_F_resourceRules)))
        if (!add_rule(a, k, rule))
            break;
    if (!k->n)
        return 0;
    qsort(k->v, k->n, sizeof *k->v, by_gvk);
    struct check *checks = kl_arena_zalloc(a, k->n * sizeof *checks);
    if (!checks)
        return KL_ENOMEM;
    for (size_t i = 0; i < k->n && !rc; i++) {
        checks[i] = (struct check){.kinds = k, .a = a, .kind = k->v[i]};
        rc = check_init(&checks[i], spec, stamp);
    }
    if (!rc)
        rc = check_all(checks, k->n, spec, ret_warnings);
    for (size_t i = 0; i < k->n; i++) {
        for (size_t v = 0; v < checks[i].nvariables; v++)
            kl_cel_program_unref(checks[i].variables[v]);
        kl_cel_env_unref(checks[i].e);
    }
    return rc;
}
