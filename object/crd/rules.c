// SPDX-License-Identifier: Apache-2.0
// x-kubernetes-validations of an object (apiserver/schema/cel/validation.go).
#include "object/crd/cel_int.h"
#include "base/clock.h"
#include "base/metrics.h"

enum { EVAL_BYTES = 256 << 20 };

// What ratcheting knows of a place: its own pair, or the nearest pair above it.
struct ratchet {
    struct crd_pair *own, *above;
};

struct runner {
    struct kl_findings *f, *warnings;
    struct kl_crd_schema *schema;
    const struct crd_words *s;
    struct kl_arena arena; // of one evaluation
    int64_t budget;
    int err;
};

struct spot {
    crd_ref from, spine;
    bool root;
    const struct crd_path *path;
    const struct kl_value *now, *old; // old NULL: nothing to compare with
    struct ratchet ratchet;
};

static void validate(struct runner *x, const struct spot *at);

static struct ratchet ratchet_key(struct runner *x, struct ratchet r, struct kl_str name,
                                  const struct kl_value *now, struct crd_pair *below)
{
    if (!r.own)
        return r;
    if (!r.above && (kl_str_eqz(name, "apiVersion") || kl_str_eqz(name, "kind")))
        return (struct ratchet){NULL, NULL};
    bool has = crd_pair_key(r.own, name, now, below);
    (void)x;
    return (struct ratchet){has ? below : NULL, r.own};
}

static const char *type_name(uint32_t flags)
{
    static const char *const names[] = {"object",  "array",  "string",
                                        "integer", "number", "boolean"};
    uint32_t types = flags & CRD_INT_OR_STRING ? 0 : flags & CRD_TYPES;
    return types ? names[__builtin_ctz(types)] : "";
}

struct failure {
    const char *reason;
    struct kl_str path, shown, detail;
};

static void tell(struct runner *x, struct kl_findings *to, const struct failure *e)
{
    if (to && !crd_find(to, e->reason, e->path, e->shown, e->detail))
        x->err = KL_ENOMEM;
}

// An error about the rule itself.
static void blame(struct runner *x, const struct spot *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void blame(struct runner *x, const struct spot *at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str detail = kl_arena_vprintf(x->f->arena, fmt, ap);
    va_end(ap);
    struct kl_str type = kl_str(type_name(crd_flags(x->s, at->spine)));
    struct failure e = {"FieldValueInvalid", crd_path_text(x->f->arena, at->path),
                        crd_quote(x->f->arena, type), detail};
    tell(x, x->f, &e);
}

static struct kl_str rule_name(const struct runner *x, crd_ref from, uint32_t i)
{
    struct kl_str message = crd_rule_text(x->s, from, i, CRD_RULE_MESSAGE);
    return kl_str_trim(message.n ? message : crd_rule_text(x->s, from, i, CRD_RULE_TEXT));
}

static void out_of_budget(struct runner *x, const struct spot *at)
{
    blame(x, at,
          "validation failed due to running out of cost budget, no further validation rules will "
          "be run");
    x->budget = -1;
}

// What messageExpression says; p NULL: the rule's own words are taken. False ends all.
static bool eval_message(struct runner *x, const struct crd_rule *rule, struct kl_str source,
                         const struct kl_cel_val vars[2], struct kl_str *ret,
                         struct kl_str *ret_fail)
{
    struct kl_cel_eval with = {.vars = vars, .cost_limit = KL_CEL_PER_CALL_LIMIT};
    struct kl_cel_val v;
    struct kl_error why = {0};
    uint64_t cost;
    *ret = (struct kl_str){NULL, 0};
    int r = kl_cel_eval(rule->message, &with, &x->arena, &v, &cost, &why);
    if (r == KL_ENOMEM) {
        x->err = r;
        return false;
    }
    if (cost > (uint64_t)x->budget) {
        *ret_fail = KL_STR("messageExpression evaluation failed due to running out of cost budget, "
                           "no further validation rules will be run");
        return false;
    }
    if (r == KL_ELIMIT) {
        *ret_fail = kl_arena_printf(x->f->arena,
                                    "no further validation rules will be run due to call cost "
                                    "exceeds limit for messageExpression: %.*s",
                                    KL_PRI(crd_quote(x->f->arena, source)));
        return false;
    }
    x->budget -= (int64_t)cost;
    if (r || v.kind != KL_CEL_STRING)
        return true;
    struct kl_str text = kl_str_trim(kl_cel_text(v));
    if (text.n && text.n <= KL_CEL_MAX_MESSAGE_BYTES && kl_str_chr(text, '\n') < 0)
        *ret = text;
    return true;
}

// A rule that does not hold. False ends all.
static bool fail_rule(struct runner *x, const struct spot *at, const struct crd_rules *rules,
                      uint32_t i, const struct kl_cel_val vars[2])
{
    const struct crd_rule *rule = &rules->rules[i];
    struct kl_arena *a = x->f->arena;
    uint32_t flags = crd_flags(x->s, at->spine);
    struct kl_str detail = {NULL, 0}, fail = {NULL, 0};
    struct kl_str reason = crd_rule_text(x->s, at->from, i, CRD_RULE_REASON);
    bool ratcheted =
        !rule->uses_old && crd_pair_equal(a, at->ratchet.own ? at->ratchet.own : at->ratchet.above);
    struct failure e = {.reason = "FieldValueInvalid", .path = crd_path_text(a, at->path)};
    if (rule->path.n)
        e.path = at->path ? kl_arena_printf(a, "%.*s.%.*s", KL_PRI(e.path), KL_PRI(rule->path))
                          : rule->path;
    bool goes_on = true;
    if (rule->message)
        goes_on = eval_message(x, rule, crd_rule_text(x->s, at->from, i, CRD_RULE_EXPRESSION), vars,
                               &detail, &fail);
    if (!goes_on) {
        e.shown = crd_quote(a, kl_str(type_name(flags)));
        e.detail = fail;
        x->budget = -1;
        if (fail.p)
            tell(x, ratcheted ? x->warnings : x->f, &e);
        return false;
    }
    struct kl_str message = crd_rule_text(x->s, at->from, i, CRD_RULE_MESSAGE);
    e.detail = detail.p ? detail
               : message.n
                   ? kl_str_trim(message)
                   : kl_arena_printf(a, "failed rule: %.*s", KL_PRI(rule_name(x, at->from, i)));
    e.shown = flags & (CRD_OBJECT | CRD_ARRAY) ? CRD_OMIT : crd_show(a, at->now);
    if (kl_str_eqz(reason, "FieldValueForbidden") || kl_str_eqz(reason, "FieldValueRequired")) {
        e.reason = kl_str_eqz(reason, "FieldValueForbidden") ? "FieldValueForbidden"
                                                             : "FieldValueRequired";
        e.shown = CRD_OMIT;
    } else if (kl_str_eqz(reason, "FieldValueDuplicate")) {
        e.reason = "FieldValueDuplicate";
        e.detail = KL_STR("");
    }
    tell(x, ratcheted ? x->warnings : x->f, &e);
    return true;
}

// One rule. False ends all.
static bool run_rule(struct runner *x, const struct spot *at, const struct crd_rules *rules,
                     uint32_t i)
{
    const struct crd_rule *rule = &rules->rules[i];
    const uint32_t *list;
    struct kl_error why = {0};
    struct kl_cel_val v, old = kl_cel_null();
    uint64_t cost;
    crd_list(x->s, at->from, CRD_RULES, &list);
    bool optional = list[CRD_RULE_WORDS * (size_t)i + CRD_RULE_OPTIONAL];
    if (rule->error.p) {
        blame(x, at, "rule compile error: %.*s", KL_PRI(rule->error));
        return true;
    }
    if (!rule->program || (rule->uses_old && !at->old && !optional))
        return true;
    const struct kl_cel_decl *decl = optional ? rules->optional_decl : rules->decl;
    if (at->old)
        old = kl_cel_typed(&x->arena, at->old, decl);
    struct kl_cel_val vars[2] = {kl_cel_typed(&x->arena, at->now, decl), old};
    if (optional)
        vars[1] = at->old ? kl_cel_optional(&x->arena, old) : kl_cel_none();
    struct kl_cel_eval with = {.vars = vars, .cost_limit = KL_CEL_PER_CALL_LIMIT};
    int r = kl_cel_eval(rule->program, &with, &x->arena, &v, &cost, &why);
    if (r == KL_ENOMEM) {
        x->err = r;
        return false;
    }
    if (cost > (uint64_t)x->budget) {
        out_of_budget(x, at);
        return false;
    }
    x->budget -= (int64_t)cost;
    struct kl_str name = rule_name(x, at->from, i);
    if (r == KL_ELIMIT) {
        blame(x, at,
              "'%s': no further validation rules will be run due to call cost exceeds limit for "
              "rule: %.*s",
              why.msg, KL_PRI(name));
        x->budget = -1;
        return false;
    }
    if (r) {
        if (!strncmp(why.msg, "no such overload", 16))
            blame(x, at,
                  "'%s': call arguments did not match a supported operator, function or macro "
                  "signature for rule: %.*s",
                  why.msg, KL_PRI(name));
        else
            blame(x, at, "%s evaluating rule: %.*s", why.msg, KL_PRI(name));
        return true;
    }
    if (v.kind == KL_CEL_BOOL && v.b)
        return true;
    // Upstream gives a message the old value as it is, also where the rule has an optional.
    vars[1] = at->old ? old : kl_cel_error(KL_STR("no such attribute(s): oldSelf"));
    return fail_rule(x, at, rules, i, vars);
}

static void run_rules(struct runner *x, const struct spot *at)
{
    const uint32_t *list;
    uint32_t n = crd_list(x->s, at->from, CRD_RULES, &list);
    if (!n)
        return;
    const struct crd_rules *rules = crd_rules_get(x->schema, at->from, at->spine, at->root);
    if (!rules) {
        x->err = KL_ENOMEM;
        return;
    }
    if (rules->failed) {
        blame(x, at, "rule compiler initialization error: %s", rules->failed);
        return;
    }
    if (x->budget <= 0) {
        out_of_budget(x, at);
        return;
    }
    int64_t began_ns = kl_mono_ns();
    bool goes_on = true;
    for (uint32_t i = 0; i < n && goes_on && !x->err; i++) {
        goes_on = run_rule(x, at, rules, i);
        kl_arena_reset(&x->arena);
    }
    if (rules->evaluation)
        kl_metric_observe(rules->evaluation, (double)(kl_mono_ns() - began_ns) / 1e9);
}

static void run_all_of(struct runner *x, const struct spot *at)
{
    const uint32_t *list;
    uint32_t n = crd_list(x->s, at->from, CRD_ALL_OF, &list);
    for (uint32_t i = 0; i < n && x->budget >= 0 && !x->err; i++) {
        struct spot below = *at;
        below.from = list[i];
        below.ratchet.own = NULL; // as the schema's own errors in allOf
        validate(x, &below);
    }
}

static void run_array(struct runner *x, const struct spot *at)
{
    crd_ref from = crd_attr(x->s, at->from, CRD_ITEMS);
    crd_ref spine = crd_attr(x->s, at->spine, CRD_ITEMS);
    struct crd_pair olds = {.s = x->s, .node = at->spine, .now = at->now, .old = at->old};
    if (!from || !spine)
        return;
    for (uint32_t i = 0; i < at->now->n && x->budget >= 0 && !x->err; i++) {
        const struct kl_value *item = &at->now->items[i];
        struct crd_path path = {.up = at->path, .index = i};
        struct crd_pair own;
        struct spot below = {.from = from,
                             .spine = spine,
                             .root = crd_flags(x->s, spine) & CRD_EMBEDDED,
                             .path = &path,
                             .now = item,
                             .old = crd_pair_old_item(x->f->arena, &olds, item),
                             .ratchet = at->ratchet};
        if (at->ratchet.own) {
            bool has = crd_pair_item(x->f->arena, at->ratchet.own, item, &own);
            below.ratchet = (struct ratchet){has ? &own : NULL, at->ratchet.own};
        }
        validate(x, &below);
    }
}

static void run_map(struct runner *x, const struct spot *at)
{
    crd_ref extra = crd_attr(x->s, at->from, CRD_EXTRA);
    crd_ref extra_spine = crd_attr(x->s, at->spine, CRD_EXTRA);
    for (uint32_t i = 0; i < at->now->n && x->budget >= 0 && !x->err; i++) {
        const struct kl_value *key = &at->now->items[2 * (size_t)i];
        struct kl_str name = kl_text(key);
        crd_ref from = crd_prop(x->s, at->from, name), spine = crd_prop(x->s, at->spine, name);
        bool prop = from != 0;
        if (!prop) {
            from = extra;
            spine = extra_spine;
        }
        // What has no type, CEL leaves alone.
        if (!from || !spine ||
            (prop && (!crd_has_decl(x->s, spine) || !crd_has_decl(x->s, at->spine))))
            continue;
        struct crd_path path = {.up = at->path, .name = name, .key = !prop};
        struct crd_pair own;
        struct spot below = {.from = from,
                             .spine = spine,
                             .root = crd_flags(x->s, spine) & CRD_EMBEDDED,
                             .path = &path,
                             .now = key + 1,
                             .old = crd_old_value(at->old, name),
                             .ratchet = ratchet_key(x, at->ratchet, name, key + 1, &own)};
        validate(x, &below);
    }
}

static void validate(struct runner *x, const struct spot *given)
{
    struct spot at = *given;
    uint32_t flags = crd_flags(x->s, at.from);
    if (at.now->kind == KL_NULL || x->err || x->budget < 0 ||
        !(flags & (CRD_HAS_RULES | CRD_HAS_ALL_OF_RULES)))
        return;
    if (kl_is(at.old, KL_NULL))
        at.old = NULL;
    run_rules(x, &at);
    if (x->budget < 0)
        return;
    if (flags & CRD_HAS_ALL_OF_RULES)
        run_all_of(x, &at);
    if (at.now->kind == KL_ARRAY)
        run_array(x, &at);
    else if (at.now->kind == KL_MAP)
        run_map(x, &at);
}

int crd_validate_rules(const struct crd_rule_scope *scope, const struct kl_value *now,
                       const struct kl_value *old, int64_t *budget)
{
    struct runner x = {.f = scope->f,
                       .warnings = scope->warnings,
                       .schema = scope->schema,
                       .s = &scope->schema->words,
                       .budget = *budget};
    struct spot at = {.from = scope->node,
                      .spine = scope->node,
                      .root = scope->root,
                      .path = scope->path,
                      .now = now,
                      .old = old,
                      .ratchet = {scope->pair, NULL}};
    kl_arena_init(&x.arena, EVAL_BYTES);
    validate(&x, &at);
    kl_arena_fini(&x.arena);
    *budget = x.budget;
    return x.err;
}
