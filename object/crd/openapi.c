// SPDX-License-Identifier: Apache-2.0
// A definition's schema as apiextensions allows it, with its rules compiled and their costs
// estimated (apis/apiextensions/validation: ValidateCustomResourceDefinitionOpenAPISchema,
// cel_validation.go).
#include "object/crd/definition_int.h"
#include "object/validate/validate_int.h"

struct openapi {
    struct crd_definition *d;
    struct kl_findings *f, cel; // the schema's own and its rules'
    struct kl_crd_schema *s;    // NULL: it cannot be compiled
    bool rules;                 // are looked at: the schema is structural
    bool any_cost;              // rules that cost too much may stay
    uint64_t total;
    struct crd_expensive expensive[CRD_EXPENSIVE_MAX];
    size_t nexpensive;
    int depth, err;
};

// What a schema inherits.
struct scope {
    const char *no_defaults;    // "must not be set ..."
    bool in_meta;               // inside of a head or metadata
    struct kl_str uncorrelated; // p set: the path of what cannot be correlated
    crd_ref node;               // 0: rules are not looked at
    bool root;                  // a resource
    bool bounded;
    uint64_t cardinality;
};

static void check(struct openapi *x, const struct kl_value *s, const struct crd_path *p,
                  const struct scope *scope, bool top);

static struct kl_str type_of(const struct kl_value *s)
{
    return kl_text(kl_get(s, KL_F_type));
}

static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t out;
    return __builtin_mul_overflow(a, b, &out) ? UINT64_MAX : out;
}

// ---- the standard
static void check_standard(struct openapi *x, const struct kl_value *s, const struct crd_path *p,
                           const struct scope *scope)
{
    static const char *const types[] = {"array",  "boolean", "integer", "number",
                                        "object", "string",  NULL};
    static const struct {
        kl_sym field;
        const char *name;
    } refused[] = {{KL_F_id, "id"},
                   {KL_F_additionalItems, "additionalItems"},
                   {KL_F_patternProperties, "patternProperties"},
                   {KL_F_definitions, "definitions"},
                   {KL_F_dependencies, "dependencies"},
                   {KL_F_dollar_ref, "$ref"}};
    struct kl_str type = type_of(s);
    if (x->d->opt.need_valid_types && type.n && !kl_v_in(type, types))
        crd_unsupported(x->f, CP(p, "type"), type, types);
    if (crd_member_set(s, KL_F_default) && scope->no_defaults)
        crd_forbidden(x->f, CP(p, "default"), scope->no_defaults);
    for (size_t i = 0; i < KL_COUNT(refused); i++)
        if (crd_member_set(s, refused[i].field)) {
            struct kl_str why =
                kl_arena_printf(x->f->arena, "%s is not supported", refused[i].name);
            crd_forbidden(x->f, &(struct crd_path){.up = p, .name = kl_str(refused[i].name)},
                          why.p);
        }
    if (kl_str_eqz(type, "null"))
        crd_forbidden(x->f, CP(p, "type"),
                      "type cannot be set to null, use nullable as an alternative");
    if (kl_is(kl_get(s, KL_F_items), KL_ARRAY) && kl_len(kl_get(s, KL_F_items)))
        crd_forbidden(x->f, CP(p, "items"), "items must be a schema object and not an array");
    if (scope->in_meta && crd_member_set(s, KL_F_x_kubernetes_embedded_resource))
        crd_forbidden(x->f, CP(p, "x-kubernetes-embedded-resource"),
                      "must not be used inside of resource meta");
    if (crd_member_set(s, KL_F_uniqueItems))
        crd_forbidden(
            x->f, CP(p, "uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
}

// ---- below
// How often what is below a schema may stand in one value of it; false: no limit.
static bool max_elements(const struct kl_value *s, uint64_t *ret)
{
    kl_sym limit = kl_str_eqz(type_of(s), "array") ? KL_F_maxItems
                   : kl_str_eqz(type_of(s), "object") && kl_get(s, KL_F_additionalProperties)
                       ? KL_F_maxProperties
                       : 0;
    const struct kl_value *v = limit ? kl_get(s, limit) : NULL;
    *ret = 1;
    if (v)
        *ret = kl_int_or(v, 0) < 0 ? 0 : (uint64_t)kl_int_or(v, 0);
    return !limit || v;
}

static struct scope scope_below(struct openapi *x, const struct kl_value *s, const struct scope *up,
                                const struct kl_value *child, crd_ref node)
{
    struct scope below = *up;
    uint64_t n;
    below.node = up->node ? node : 0;
    below.root = crd_member_set(child, KL_F_x_kubernetes_embedded_resource) != NULL;
    below.bounded = up->bounded && max_elements(s, &n);
    if (below.bounded)
        below.cardinality = multiply(up->cardinality, n);
    (void)x;
    return below;
}

static void forbid_old(struct openapi *x, struct scope *scope, const struct crd_path *p)
{
    if (!scope->uncorrelated.p)
        scope->uncorrelated = crd_path_text(x->f->arena, p);
}

static void check_properties(struct openapi *x, const struct kl_value *s, const struct crd_path *p,
                             const struct scope *scope, bool top)
{
    static const char *const not_at_top[] = {"must not be set in top-level apiVersion",
                                             "must not be set in top-level kind",
                                             "must not be set in top-level metadata"};
    struct kl_str map = kl_text(kl_get(s, KL_F_x_kubernetes_map_type));
    bool embedded = crd_member_set(s, KL_F_x_kubernetes_embedded_resource) != NULL;
    for (KL_MAP_EACH_KEY(k, kl_get(s, KL_F_properties))) {
        struct kl_str name = kl_text(k);
        crd_ref node = scope->node ? crd_prop(&x->s->words, scope->node, name) : 0;
        struct scope below = scope_below(x, s, scope, k + 1, node);
        if (map.n && !kl_str_eqz(map, "granular") && !kl_str_eqz(map, "atomic"))
            forbid_old(x, &below, p);
        if ((top || embedded) && crd_is_meta(name)) {
            below.in_meta = true;
            if (top)
                below.no_defaults = not_at_top[name.p[0] == 'a' ? 0 : name.p[0] == 'k' ? 1 : 2];
        }
        check(x, k + 1, CK(CP(p, "properties"), name), &below, false);
    }
}

static void check_extra(struct openapi *x, const struct kl_value *s, const struct crd_path *p,
                        const struct scope *scope)
{
    const struct kl_value *extra = kl_get(s, KL_F_additionalProperties);
    if (!extra)
        return;
    if (kl_len(kl_get(s, KL_F_properties)) && !kl_is_true(extra))
        crd_forbidden(x->f, CP(p, "additionalProperties"),
                      "additionalProperties and properties are mutual exclusive");
    if (extra->kind != KL_STRUCT)
        return;
    struct scope below = scope_below(
        x, s, scope, extra, scope->node ? crd_attr(&x->s->words, scope->node, CRD_EXTRA) : 0);
    if (scope->in_meta)
        below.no_defaults =
            "must not be set inside additionalProperties applying to object metadata";
    check(x, extra, CP(p, "additionalProperties"), &below, false);
}

static void check_items(struct openapi *x, const struct kl_value *s, const struct crd_path *p,
                        const struct scope *scope)
{
    const struct kl_value *items = kl_get(s, KL_F_items);
    struct scope below = scope_below(
        x, s, scope, items, scope->node ? crd_attr(&x->s->words, scope->node, CRD_ITEMS) : 0);
    if (!items)
        return;
    if (!kl_str_eqz(kl_text(kl_get(s, KL_F_x_kubernetes_list_type)), "map"))
        forbid_old(x, &below, p);
    if (items->kind == KL_STRUCT)
        check(x, items, CP(p, "items"), &below, false);
    for (uint32_t i = 0; items->kind == KL_ARRAY && i < items->n; i++)
        check(x, &items->items[i], CI(CP(p, "items"), i), &below, false);
}

static void check_below(struct openapi *x, const struct kl_value *s, const struct crd_path *p,
                        const struct scope *scope, bool top)
{
    static const struct {
        kl_sym field;
        const char *name;
    } logic[] = {{KL_F_allOf, "allOf"}, {KL_F_oneOf, "oneOf"}, {KL_F_anyOf, "anyOf"}};
    struct scope bare = *scope;
    bare.node = 0;
    check_extra(x, s, p, scope);
    check_properties(x, s, p, scope, top);
    check(x, kl_get(s, KL_F_not), CP(p, "not"), &bare, false);
    for (size_t l = 0; l < KL_COUNT(logic); l++) {
        const struct kl_value *list = kl_get(s, logic[l].field);
        const struct crd_path at = {.up = p, .name = kl_str(logic[l].name)};
        for (uint32_t i = 0; i < kl_len(list); i++)
            check(x, &list->items[i], CI(&at, i), &bare, false);
    }
    for (KL_MAP_EACH_KEY(k, kl_get(s, KL_F_definitions)))
        check(x, k + 1, CK(CP(p, "definitions"), kl_text(k)), &bare, false);
    check_items(x, s, p, scope);
    for (KL_MAP_EACH_KEY(k, kl_get(s, KL_F_dependencies)))
        if (k[1].kind == KL_STRUCT)
            check(x, k + 1, CK(CP(p, "dependencies"), kl_text(k)), &bare, false);
}

// ---- lists and maps
static void check_wants_type(struct openapi *x, const struct kl_value *s, const struct crd_path *p,
                             const char *type, const char *why)
{
    if (!type_of(s).n)
        crd_required(x->f, CP(p, "type"), why);
    else if (!kl_str_eqz(type_of(s), type))
        crd_invalid(x->f, CP(p, "type"), type_of(s), "%s", why);
}

// Items of a set are scalars or atomic.
static void check_set(struct openapi *x, const struct kl_value *items, const struct crd_path *p)
{
    static const char why[] = "must be atomic as item of a list with x-kubernetes-list-type=set";
    const struct kl_value *list = crd_member_set(items, KL_F_x_kubernetes_list_type);
    struct kl_str map = kl_text(kl_get(items, KL_F_x_kubernetes_map_type));
    // Upstream shows the item's list type in both.
    struct kl_str shown = list ? crd_show(x->f->arena, list) : KL_STR("null");
    if (kl_str_eqz(type_of(items), "array") && list && !kl_str_eqz(kl_text(list), "atomic"))
        crd_find_at(x->f, "FieldValueInvalid", CP(CP(p, "items"), "x-kubernetes-list-type"), shown,
                    "%s", why);
    else if (kl_str_eqz(type_of(items), "object") && !kl_str_eqz(map, "atomic"))
        crd_find_at(x->f, "FieldValueInvalid", CP(CP(p, "items"), "x-kubernetes-map-type"), shown,
                    "%s", why);
}

static void check_keys(struct openapi *x, const struct kl_value *s, const struct kl_value *items,
                       const struct crd_path *p)
{
    const struct kl_value *keys = kl_get(s, KL_F_x_kubernetes_list_map_keys);
    const struct crd_path *at = CP(p, "x-kubernetes-list-map-keys");
    for (uint32_t i = 0; i < kl_len(keys); i++) {
        struct kl_str name = kl_text(&keys->items[i]);
        const struct kl_value *prop = kl_map_value(kl_get(items, KL_F_properties), name);
        if (prop && (kl_str_eqz(type_of(prop), "array") || kl_str_eqz(type_of(prop), "object")))
            crd_invalid(x->f, CP(CK(CP(CP(p, "items"), "properties"), name), "type"),
                        type_of(items),
                        "must be a scalar type if parent array's x-kubernetes-list-type is map");
        if (!prop)
            crd_find_at(x->f, "FieldValueInvalid", at, crd_show(x->f->arena, keys),
                        "entries must all be names of item properties");
        for (uint32_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(&keys->items[k]), name)) {
                crd_find_at(x->f, "FieldValueInvalid", at, crd_show(x->f->arena, keys),
                            "must not contain duplicate entries");
                break;
            }
    }
}

static void check_map_list(struct openapi *x, const struct kl_value *s, const struct crd_path *p)
{
    const struct kl_value *items = kl_get(s, KL_F_items);
    if (!kl_len(kl_get(s, KL_F_x_kubernetes_list_map_keys)))
        crd_required(x->f, CP(p, "x-kubernetes-list-map-keys"),
                     "must not be empty if x-kubernetes-list-type is map");
    if (!items)
        crd_required(x->f, CP(p, "items"), "must have a schema if x-kubernetes-list-type is map");
    else if (items->kind != KL_STRUCT)
        crd_find_at(x->f, "FieldValueInvalid", CP(p, "items"),
                    kl_v_json(&(struct kl_v){.f = x->f}, NULL, NULL, false),
                    "must only have a single schema if x-kubernetes-list-type is map");
    else if (!kl_str_eqz(type_of(items), "object"))
        crd_invalid(x->f, CP(CP(p, "items"), "type"), type_of(items),
                    "must be object if parent array's x-kubernetes-list-type is map");
    else
        check_keys(x, s, items, p);
}

void crd_check_map_keys(struct kl_findings *f, const struct kl_value *s, const struct crd_path *p)
{
    struct kl_str list = kl_text(kl_get(s, KL_F_x_kubernetes_list_type));
    const struct kl_value *items = crd_schema_part(s, KL_F_items);
    const struct crd_path *at = CP(p, "items"), *props = CP(at, "properties");
    if (!items || (!kl_str_eqz(list, "set") && !kl_str_eqz(list, "map")))
        return;
    if (crd_member_set(items, KL_F_nullable))
        crd_find_at(f, "FieldValueForbidden", CP(at, "nullable"), CRD_OMIT,
                    "cannot be nullable when x-kubernetes-list-type is %.*s", KL_PRI(list));
    if (!kl_str_eqz(list, "map"))
        return;
    for (KL_EACH(k, kl_get(s, KL_F_x_kubernetes_list_map_keys))) {
        const struct kl_value *prop = kl_map_value(kl_get(items, KL_F_properties), kl_text(k));
        bool required = false;
        if (!prop)
            continue;
        for (KL_EACH(r, kl_get(items, KL_F_required)))
            required |= kl_str_eq(kl_text(r), kl_text(k));
        if (!required && !crd_member_set(prop, KL_F_default))
            crd_required(f, CP(CK(props, kl_text(k)), "default"),
                         "this property is in x-kubernetes-list-map-keys, so it must have a "
                         "default or be a required property");
        if (crd_member_set(prop, KL_F_nullable))
            crd_forbidden(
                f, CP(CK(props, kl_text(k)), "nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable");
    }
}

static void check_extensions(struct openapi *x, const struct kl_value *s, const struct crd_path *p)
{
    static const char *const maps[] = {"atomic", "granular", NULL};
    static const char *const lists[] = {"atomic", "set", "map", NULL};
    const struct kl_value *preserve = kl_get(s, KL_F_x_kubernetes_preserve_unknown_fields);
    const struct kl_value *map = kl_get(s, KL_F_x_kubernetes_map_type);
    const struct kl_value *list = kl_get(s, KL_F_x_kubernetes_list_type);
    struct kl_str list_type = kl_text(list);
    if (kl_is(preserve, KL_BOOL) && !preserve->b)
        crd_find_at(x->f, "FieldValueInvalid", CP(p, "x-kubernetes-preserve-unknown-fields"),
                    KL_STR("false"), "must be true or undefined");
    if (map)
        check_wants_type(x, s, p, "object", "must be object if x-kubernetes-map-type is specified");
    if (map && !kl_v_in(kl_text(map), maps))
        crd_unsupported(x->f, CP(p, "x-kubernetes-map-type"), kl_text(map), maps);
    if (list && !kl_str_eqz(type_of(s), "array"))
        check_wants_type(x, s, p, "array", "must be array if x-kubernetes-list-type is specified");
    else if (x->d->opt.need_atomic_sets && kl_str_eqz(list_type, "set") &&
             crd_schema_part(s, KL_F_items))
        check_set(x, crd_schema_part(s, KL_F_items), p);
    if (list && !kl_v_in(list_type, lists))
        crd_unsupported(x->f, CP(p, "x-kubernetes-list-type"), list_type, lists);
    if (kl_len(kl_get(s, KL_F_x_kubernetes_list_map_keys)) && !kl_str_eqz(list_type, "map")) {
        static const char why[] = "must be map if x-kubernetes-list-map-keys is non-empty";
        if (!list)
            crd_required(x->f, CP(p, "x-kubernetes-list-type"), why);
        else
            crd_invalid(x->f, CP(p, "x-kubernetes-list-type"), list_type, "%s", why);
    }
    if (kl_str_eqz(list_type, "map"))
        check_map_list(x, s, p);
    if (x->d->opt.need_map_keys)
        crd_check_map_keys(x->f, s, p);
}

// ---- rules
static bool has_newline(struct kl_str s)
{
    return kl_str_chr(s, '\n') >= 0 || kl_str_chr(s, '\r') >= 0;
}

static void check_rule_text(struct openapi *x, const struct kl_value *rule,
                            const struct crd_path *p, crd_ref node)
{
    static const char *const reasons[] = {"FieldValueDuplicate", "FieldValueForbidden",
                                          "FieldValueInvalid", "FieldValueRequired", NULL};
    struct kl_str text = kl_text(kl_get(rule, KL_F_rule));
    struct kl_str message = kl_text(kl_get(rule, KL_F_message));
    struct kl_str expression = kl_text(kl_get(rule, KL_F_messageExpression));
    struct kl_str path = kl_text(kl_get(rule, KL_F_fieldPath)), ignored;
    const struct kl_value *reason = kl_get(rule, KL_F_reason);
    struct kl_error why;
    crd_ref there;
    if (!kl_str_trim(text).n)
        crd_required(x->f, CP(p, "rule"), "rule is not specified");
    else if (message.n && !kl_str_trim(message).n)
        crd_invalid(x->f, CP(p, "message"), message, "must be non-empty if specified");
    else if (has_newline(kl_str_trim(message)))
        crd_invalid(x->f, CP(p, "message"), message, "must not contain line breaks");
    else if (has_newline(kl_str_trim(text)) && !kl_str_trim(message).n)
        crd_required(x->f, CP(p, "message"),
                     "message must be specified if rule contains line breaks");
    if (expression.n && !kl_str_trim(expression).n)
        crd_required(x->f, CP(p, "messageExpression"),
                     "messageExpression must be non-empty if specified");
    if (reason && !kl_v_in(kl_text(reason), reasons))
        crd_unsupported(x->f, CP(p, "reason"), kl_text(reason), reasons);
    if (path.n && !kl_str_trim(path).n)
        crd_invalid(x->f, CP(p, "fieldPath"), path, "must be non-empty if specified");
    if (has_newline(path))
        crd_invalid(x->f, CP(p, "fieldPath"), path, "must not contain line breaks");
    if (path.n && node &&
        crd_field_path(x->f->arena, &x->s->words, node, path, true, &ignored, &there, &why))
        crd_invalid(x->f, CP(p, "fieldPath"), path, "must be a valid path");
}

static struct kl_str cost_text(struct kl_arena *a, const char *what, uint64_t cost, uint64_t limit)
{
    double factor = (double)cost / (double)limit;
    struct kl_str times = factor > 100   ? KL_STR("more than 100x")
                          : factor < 1.5 ? kl_arena_printf(a, "%fx", factor)
                                         : kl_arena_printf(a, "%.1fx", factor);
    return kl_arena_printf(a,
                           "%s exceeds budget by factor of %.*s (try simplifying the rule, or "
                           "adding maxItems, maxProperties, and maxLength where arrays, maps, and "
                           "strings are declared)",
                           what, KL_PRI(times));
}

static void observe(struct openapi *x, const struct crd_path *p, uint64_t cost)
{
    x->total = UINT64_MAX - x->total < cost ? UINT64_MAX : x->total + cost;
    if (cost < CRD_COST_SHARE)
        return;
    size_t at = 0;
    while (at < x->nexpensive && x->expensive[at].cost >= cost)
        at++;
    if (at == CRD_EXPENSIVE_MAX)
        return;
    if (x->nexpensive < CRD_EXPENSIVE_MAX)
        x->nexpensive++;
    memmove(&x->expensive[at + 1], &x->expensive[at],
            (x->nexpensive - at - 1) * sizeof x->expensive[0]);
    x->expensive[at] = (struct crd_expensive){crd_path_text(x->f->arena, p), cost};
}

static void check_cost(struct openapi *x, const struct crd_path *p, const char *what, uint64_t cost)
{
    if (!x->any_cost && cost > KL_CEL_ESTIMATE_LIMIT)
        crd_find_at(&x->cel, "FieldValueForbidden", p, CRD_OMIT, "%.*s",
                    KL_PRI(cost_text(x->f->arena, what, cost, KL_CEL_ESTIMATE_LIMIT)));
    observe(x, p, cost);
}

// The rule as upstream's internal type is shown.
static struct kl_str rule_json(struct openapi *x, const struct kl_value *rule)
{
    struct kl_v v = {.f = x->f};
    return kl_v_json(&v, kl_type(KL_TYPE_apiextensions_v1_ValidationRule), rule, true);
}

static void check_compiled(struct openapi *x, const struct crd_rule *r, const struct kl_value *rule,
                           const struct crd_path *p, const struct scope *scope)
{
    const struct crd_path *text = CP(p, "rule"), *message = CP(p, "messageExpression");
    const struct kl_value *optional = kl_get(rule, KL_F_optionalOldSelf);
    uint64_t cost = multiply(r->cost, scope->bounded ? scope->cardinality : r->cardinality);
    check_cost(x, text, "estimated rule cost", cost);
    if (r->error.p)
        crd_find_at(&x->cel, "FieldValueInvalid", text, rule_json(x, rule), "%.*s",
                    KL_PRI(r->error));
    if (r->message_error.p)
        crd_find_at(&x->cel, "FieldValueInvalid", message, rule_json(x, rule), "%.*s",
                    KL_PRI(r->message_error));
    else if (r->message)
        check_cost(x, message, "estimated messageExpression cost", r->message_cost);
    if (r->uses_old && scope->uncorrelated.p)
        crd_invalid(&x->cel, text, kl_text(kl_get(rule, KL_F_rule)),
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within "
                    "%.*s",
                    KL_PRI(scope->uncorrelated));
    else if (!r->uses_old && optional)
        crd_find_at(&x->cel, "FieldValueInvalid", CP(p, "optionalOldSelf"),
                    crd_show(x->f->arena, optional),
                    "may not be set if oldSelf is not used in rule");
}

static void check_rules(struct openapi *x, const struct kl_value *s, const struct crd_path *p,
                        const struct scope *scope, size_t before)
{
    const struct kl_value *list = kl_get(s, KL_F_x_kubernetes_validations);
    const struct crd_path *at = CP(p, "x-kubernetes-validations");
    for (uint32_t i = 0; i < kl_len(list); i++)
        check_rule_text(x, &list->items[i], CI(at, i), scope->node);
    if (!kl_len(list) || x->f->n != before || !scope->node || !x->rules)
        return;
    const struct crd_rules *rules = crd_rules_get(x->s, scope->node, scope->node, scope->root);
    if (!rules) {
        x->err = KL_ENOMEM;
        return;
    }
    if (rules->failed) {
        crd_find_at(&x->cel, "InternalError", at, CRD_OMIT,
                    "internal error: failed to construct type information for "
                    "x-kubernetes-validations rules: unable to convert structural schema to CEL "
                    "declarations");
        return;
    }
    for (uint32_t i = 0; i < rules->n; i++)
        check_compiled(x, &rules->rules[i], &list->items[i], CI(at, i), scope);
}

static void check(struct openapi *x, const struct kl_value *s, const struct crd_path *p,
                  const struct scope *scope, bool top)
{
    size_t before = x->f->n;
    if (!s || x->err)
        return;
    if (x->depth >= KL_CRD_DEPTH_MAX) {
        x->err = KL_ELIMIT;
        return;
    }
    x->depth++;
    check_standard(x, s, p, scope);
    check_below(x, s, p, scope, top);
    check_extensions(x, s, p);
    check_rules(x, s, p, scope, before);
    x->depth--;
}

// ---- the whole
static void check_root(struct crd_definition *d, const struct kl_value *s, const struct crd_path *p)
{
    static const kl_sym refused[] = {KL_F_id,
                                     KL_F_dollar_schema,
                                     KL_F_dollar_ref,
                                     KL_F_nullable,
                                     KL_F_default,
                                     KL_F_maxProperties,
                                     KL_F_minProperties,
                                     KL_F_enum,
                                     KL_F_allOf,
                                     KL_F_oneOf,
                                     KL_F_anyOf,
                                     KL_F_not,
                                     KL_F_additionalProperties,
                                     KL_F_patternProperties,
                                     KL_F_dependencies,
                                     KL_F_additionalItems,
                                     KL_F_definitions,
                                     KL_F_x_kubernetes_embedded_resource,
                                     KL_F_x_kubernetes_int_or_string,
                                     KL_F_x_kubernetes_list_map_keys,
                                     KL_F_x_kubernetes_list_type,
                                     KL_F_x_kubernetes_map_type};
    struct kl_v v = {.f = d->f};
    if (type_of(s).n && !kl_str_eqz(type_of(s), "object")) {
        crd_invalid(d->f, CP(p, "openAPIV3Schema.type"), type_of(s),
                    "only \"object\" is allowed as the type at the root of the schema if the "
                    "status subresource is enabled");
        return;
    }
    for (size_t i = 0; i < KL_COUNT(refused); i++)
        if (crd_member_set(s, refused[i])) {
            crd_find_at(d->f, "FieldValueInvalid", CP(p, "openAPIV3Schema"),
                        kl_v_json(&v, kl_type(KL_TYPE_apiextensions_v1_JSONSchemaProps), s, false),
                        "only [Description Type Format Title Maximum ExclusiveMaximum Minimum "
                        "ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems "
                        "UniqueItems MultipleOf Required Items Properties ExternalDocs Example "
                        "XPreserveUnknownFields XValidations] fields are allowed at the root of "
                        "the schema if the status subresource is enabled");
            return;
        }
}

static void check_total(struct openapi *x, const struct crd_path *p)
{
    if (x->total <= KL_CEL_ESTIMATE_TOTAL)
        return;
    for (size_t i = 0; i < x->nexpensive; i++)
        crd_find(x->f, "FieldValueForbidden", x->expensive[i].path, CRD_OMIT,
                 KL_STR("contributed to estimated rule cost total exceeding cost limit for entire "
                        "OpenAPIv3 schema"));
    crd_find_at(x->f, "FieldValueForbidden", p, CRD_OMIT, "%.*s",
                KL_PRI(cost_text(x->f->arena,
                                 "x-kubernetes-validations estimated rule cost total for entire "
                                 "OpenAPIv3 schema",
                                 x->total, KL_CEL_ESTIMATE_TOTAL)));
}

void crd_check_schema(struct crd_definition *d, const struct kl_value *schema,
                      const struct crd_path *path, bool status, bool any_cost)
{
    const struct crd_path *p = CP(path, "openAPIV3Schema");
    struct openapi x = {.d = d, .f = d->f, .cel = {.arena = d->f->arena}, .any_cost = any_cost};
    struct kl_error why = {0};
    size_t first = d->f->n;
    if (status)
        check_root(d, schema, path);
    if (crd_member_set(schema, KL_F_nullable))
        crd_forbidden(d->f, CP(path, "openAPIV3Schema.nullable"),
                      "nullable cannot be true at the root");
    int rc = crd_schema_bare(schema, &x.s, &why);
    if (rc && rc != KL_EINVALID)
        d->err = rc;
    if (!rc && d->opt.need_structural) {
        size_t before = d->f->n;
        // Rules are looked at only where the schema is sound.
        if (!crd_check_structural(d->f, schema, p)) {
            d->err = crd_check_defaults(d->f, x.s, p, d->opt.need_pruned_defaults);
            x.rules = d->f->n == before;
        }
    }
    struct scope top = {
        .node = x.s ? x.s->root : 0, .root = true, .bounded = true, .cardinality = 1};
    if (!d->err)
        check(&x, schema, p, &top, true);
    for (size_t i = 0; i < x.cel.n; i++)
        crd_find_again(d->f, x.cel.list[i]);
    if (rc == KL_EINVALID && d->opt.need_structural && d->f->n == first)
        crd_find_at(d->f, "FieldValueInvalid", p, KL_STR("\"\""), "%s", why.msg);
    if (x.rules)
        check_total(&x, p);
    if (x.err)
        d->err = x.err;
    kl_crd_schema_unref(x.s);
}
