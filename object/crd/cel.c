// SPDX-License-Identifier: Apache-2.0
#include "object/crd/cel_int.h"
#include "base/clock.h"
#include "base/metrics.h"
#include <stdlib.h>

enum { RULES_ARENA_BYTES = 64 << 20 };

// ---- a node as CEL's declarations read schemas
static int put(struct kl_arena *a, struct kl_value *map, const char *name, struct kl_value v)
{
    return kl_map_set_value(a, map, kl_str(name), v);
}

static int put_texts(struct kl_arena *a, const struct crd_words *s, crd_ref node, enum crd_tag tag,
                     const char *name, struct kl_value *ret)
{
    const uint32_t *list;
    uint32_t n = crd_list(s, node, tag, &list);
    struct kl_value v = kl_new_array();
    v.items = n ? kl_arena_alloc(a, n * sizeof v) : NULL;
    if (!n)
        return 0;
    if (!v.items)
        return KL_ENOMEM;
    v.n = n;
    for (uint32_t i = 0; i < n; i++)
        v.items[i] = kl_string(crd_text(s, tag == CRD_ENUM ? list[2 * i + 1] : list[i]));
    if (tag == CRD_ENUM) // only strings have a length
        for (uint32_t i = 0; i < n; i++)
            if (!list[2 * i])
                v.items[i] = kl_raw_json(kl_text(&v.items[i]));
    return put(a, ret, name, v);
}

static int put_below(struct kl_arena *a, const struct crd_words *s, crd_ref node,
                     struct kl_value *ret)
{
    uint32_t n = crd_nprops(s, node);
    crd_ref items = crd_attr(s, node, CRD_ITEMS), extra = crd_attr(s, node, CRD_EXTRA);
    struct kl_value v, props = kl_new_map();
    int r = 0;
    if (items && !(r = crd_expand(a, s, items, &v)))
        r = put(a, ret, "items", v);
    if (!r && extra && !(r = crd_expand(a, s, extra, &v)))
        r = put(a, ret, "additionalProperties", v);
    if (!n || r)
        return r;
    props.items = kl_arena_alloc(a, 2 * (size_t)n * sizeof v);
    if (!props.items)
        return KL_ENOMEM;
    props.n = n;
    for (uint32_t i = 0; !r && i < n; i++) {
        props.items[2 * i] = kl_string(crd_prop_name(s, node, i));
        r = crd_expand(a, s, crd_prop_node(s, node, i), &props.items[2 * i + 1]);
    }
    return r ? r : put(a, ret, "properties", props);
}

int crd_expand(struct kl_arena *a, const struct crd_words *s, crd_ref node, struct kl_value *ret)
{
    static const struct {
        uint32_t flag;
        const char *name, *text; // text NULL: true
    } flags[] = {{CRD_INT_OR_STRING, "x-kubernetes-int-or-string", NULL},
                 {CRD_NULLABLE, "nullable", NULL},
                 {CRD_PRESERVE, "x-kubernetes-preserve-unknown-fields", NULL},
                 {CRD_EMBEDDED, "x-kubernetes-embedded-resource", NULL},
                 {CRD_LIST_SET, "x-kubernetes-list-type", "set"},
                 {CRD_LIST_MAP, "x-kubernetes-list-type", "map"},
                 {CRD_OBJECT, "type", "object"},
                 {CRD_ARRAY, "type", "array"},
                 {CRD_STRING, "type", "string"},
                 {CRD_INTEGER, "type", "integer"},
                 {CRD_NUMBER, "type", "number"},
                 {CRD_BOOLEAN, "type", "boolean"}};
    static const struct {
        uint8_t tag;
        const char *name;
    } numbers[] = {{CRD_MAX_LENGTH, "maxLength"},
                   {CRD_MAX_ITEMS, "maxItems"},
                   {CRD_MAX_PROPERTIES, "maxProperties"}};
    uint32_t is = crd_flags(s, node);
    struct kl_str format = crd_attr_text(s, node, CRD_FORMAT);
    int r = 0;
    *ret = kl_new_map();
    if (is & CRD_INT_OR_STRING)
        is &= ~(uint32_t)CRD_TYPES;
    for (size_t i = 0; !r && i < KL_COUNT(flags); i++)
        if (is & flags[i].flag)
            r = put(a, ret, flags[i].name,
                    flags[i].text ? kl_stringz(flags[i].text) : kl_bool(true));
    for (size_t i = 0; !r && i < KL_COUNT(numbers); i++) {
        uint32_t at = crd_attr(s, node, (enum crd_tag)numbers[i].tag);
        if (at)
            r = put(a, ret, numbers[i].name, kl_int(crd_int(s, at)));
    }
    if (!r && format.n)
        r = put(a, ret, "format", kl_string(format));
    if (!r && crd_attr(s, node, CRD_DEFAULT))
        r = put(a, ret, "default", kl_raw_json(crd_attr_text(s, node, CRD_DEFAULT)));
    r = r ? r : put_texts(a, s, node, CRD_ENUM, "enum", ret);
    r = r ? r : put_texts(a, s, node, CRD_REQUIRED, "required", ret);
    r = r ? r : put_texts(a, s, node, CRD_KEYS, "x-kubernetes-list-map-keys", ret);
    return r ? r : put_below(a, s, node, ret);
}

bool crd_has_decl(const struct crd_words *s, crd_ref node)
{
    for (;;) {
        uint32_t flags = crd_flags(s, node);
        crd_ref below = crd_attr(s, node, flags & CRD_ARRAY ? CRD_ITEMS : CRD_EXTRA);
        if ((flags & CRD_INT_OR_STRING) ||
            (flags & (CRD_STRING | CRD_INTEGER | CRD_NUMBER | CRD_BOOLEAN)))
            return true;
        if (!(flags & (CRD_ARRAY | CRD_OBJECT)))
            return false;
        if (!below)
            return flags & CRD_OBJECT;
        node = below;
    }
}

// ---- compiling
struct kl_str crd_rule_text(const struct crd_words *s, crd_ref node, uint32_t i,
                            enum crd_rule_word word)
{
    const uint32_t *list;
    crd_list(s, node, CRD_RULES, &list);
    return crd_text(s, list[CRD_RULE_WORDS * (size_t)i + word]);
}

static int make_env(struct crd_rules *r, const struct kl_value *tree, bool optional)
{
    struct kl_cel_env *e = kl_cel_env_new(0);
    const struct kl_cel_decl *d = NULL;
    struct kl_error ignored;
    int rc = e ? kl_cel_decl_schema(e, KL_STR("selfType"), tree, r->root, &d, &ignored) : KL_ENOMEM;
    if (!rc && !d)
        r->failed = "failed to convert to declType for CEL validation rules";
    if (!rc && d) {
        int self = kl_cel_env_var(e, KL_STR("self"), d);
        int old = kl_cel_env_var(e, KL_STR("oldSelf"), optional ? kl_cel_decl_optional(e, d) : d);
        rc = self < 0 ? self : old < 0 ? old : 0;
    }
    if (optional) {
        r->optional_env = e;
        r->optional_decl = d;
    } else {
        r->env = e;
        r->decl = d;
    }
    return rc;
}

static int compile_one(struct crd_rules *r, struct kl_cel_env *e, struct kl_str text,
                       enum kl_cel_simple type, const char *prefix, const char *mistyped,
                       struct kl_cel_program **ret, struct kl_str *ret_error)
{
    struct kl_cel_program *p = NULL;
    struct kl_str issues;
    struct kl_error ignored;
    int rc = kl_cel_compile(e, text, &r->arena, &p, &issues, &ignored);
    if (rc == KL_ENOMEM)
        return rc;
    if (rc) {
        *ret_error =
            kl_arena_printf(&r->arena, "%scompilation failed: %.*s", prefix, KL_PRI(issues));
    } else if (!kl_cel_program_is(p, type)) {
        *ret_error = kl_str(mistyped);
        kl_cel_program_unref(p);
    } else {
        *ret = p;
    }
    return 0;
}

static int compile_rule(struct crd_rules *r, const struct crd_words *s, uint32_t i)
{
    const uint32_t *list;
    crd_list(s, r->from, CRD_RULES, &list);
    struct kl_str text = crd_rule_text(s, r->from, i, CRD_RULE_TEXT);
    struct kl_str message = crd_rule_text(s, r->from, i, CRD_RULE_EXPRESSION);
    struct kl_str path = crd_rule_text(s, r->from, i, CRD_RULE_PATH);
    struct kl_cel_env *e =
        list[CRD_RULE_WORDS * (size_t)i + CRD_RULE_OPTIONAL] ? r->optional_env : r->env;
    struct crd_rule *rule = &r->rules[i];
    struct kl_error ignored;
    crd_ref there;
    if (!kl_str_trim(text).n)
        return 0;
    int rc = compile_one(r, e, text, KL_CEL_T_BOOL, "", "cel expression must evaluate to a bool",
                         &rule->program, &rule->error);
    if (rc || !rule->program)
        return rc;
    rule->uses_old = kl_cel_program_uses(rule->program, KL_STR("oldSelf"));
    rule->cost = kl_cel_program_cost(rule->program).max;
    rule->cardinality = kl_cel_decl_max_cardinality(e == r->env ? r->decl : r->optional_decl);
    if (message.n) {
        rc = compile_one(r, e, message, KL_CEL_T_STRING, "messageExpression ",
                         "messageExpression must evaluate to a string", &rule->message,
                         &rule->message_error);
        if (rc || !rule->message)
            return rc;
        rule->message_cost = kl_cel_program_cost(rule->message).max;
    }
    if (path.n && crd_field_path(&r->arena, s, r->spine, path, true, &rule->path, &there, &ignored))
        rule->path = KL_STR("");
    return 0;
}

// Upstream's metrics of both, of Go's usual buckets.
static struct kl_metric *metric(const char *name, const char *help)
{
    static const double bounds[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
    return kl_metric_shared(&(struct kl_metric){.name = name,
                                                .help = help,
                                                .kind = KL_HISTOGRAM,
                                                .bounds = bounds,
                                                .nbounds = KL_COUNT(bounds)});
}

struct crd_rules *crd_rules_new(const struct crd_words *s, crd_ref from, crd_ref spine, bool root)
{
    struct crd_rules *r = calloc(1, sizeof *r);
    const uint32_t *list;
    struct kl_arena work;
    struct kl_value tree;
    bool plain = false, optional = false;
    int64_t began_ns = kl_mono_ns();
    if (!r)
        return NULL;
    *r = (struct crd_rules){.from = from, .spine = spine, .root = root};
    kl_arena_init(&r->arena, RULES_ARENA_BYTES);
    kl_arena_init(&work, RULES_ARENA_BYTES);
    r->n = crd_list(s, from, CRD_RULES, &list);
    r->rules = kl_arena_zalloc(&r->arena, (r->n + 1) * sizeof *r->rules);
    for (uint32_t i = 0; i < r->n; i++)
        *(list[CRD_RULE_WORDS * (size_t)i + CRD_RULE_OPTIONAL] ? &optional : &plain) = true;
    int rc = r->rules ? crd_expand(&work, s, spine, &tree) : KL_ENOMEM;
    if (!rc && plain)
        rc = make_env(r, &tree, false);
    if (!rc && optional)
        rc = make_env(r, &tree, true);
    for (uint32_t i = 0; !rc && !r->failed && i < r->n; i++)
        rc = compile_rule(r, s, i);
    kl_arena_fini(&work);
    if (rc) {
        crd_rules_free(r);
        return NULL;
    }
    struct kl_metric *compilation = metric("apiserver_cel_compilation_duration_seconds",
                                           "[BETA] CEL compilation time in seconds.");
    if (compilation)
        kl_metric_observe(compilation, (double)(kl_mono_ns() - began_ns) / 1e9);
    r->evaluation = metric("apiserver_cel_evaluation_duration_seconds",
                           "[BETA] CEL evaluation time in seconds.");
    return r;
}

void crd_rules_free(struct crd_rules *r)
{
    if (!r)
        return;
    for (uint32_t i = 0; r->rules && i < r->n; i++) {
        kl_cel_program_unref(r->rules[i].program);
        kl_cel_program_unref(r->rules[i].message);
    }
    kl_cel_env_unref(r->env);
    kl_cel_env_unref(r->optional_env);
    kl_arena_fini(&r->arena);
    free(r);
}

// ---- kept with the schema
struct crd_cel {
    struct crd_rules **slots;
    uint32_t cap, n;
};

void crd_cel_free(struct crd_cel *c)
{
    for (uint32_t i = 0; c && i < c->cap; i++)
        crd_rules_free(c->slots[i]);
    if (c)
        free(c->slots);
    free(c);
}

static struct crd_rules **find_slot(struct crd_rules **slots, uint32_t cap, crd_ref from,
                                    crd_ref spine, bool root)
{
    uint32_t h = (from * 2654435761u ^ spine * 40503u ^ root) & (cap - 1);
    while (slots[h] &&
           (slots[h]->from != from || slots[h]->spine != spine || slots[h]->root != root))
        h = (h + 1) & (cap - 1);
    return &slots[h];
}

static bool make_room(struct crd_cel *c)
{
    uint32_t cap = c->cap ? 2 * c->cap : 16;
    if (2 * c->n < c->cap)
        return true;
    struct crd_rules **slots = calloc(cap, sizeof(void *));
    if (!slots)
        return false;
    for (uint32_t i = 0; i < c->cap; i++)
        if (c->slots[i])
            *find_slot(slots, cap, c->slots[i]->from, c->slots[i]->spine, c->slots[i]->root) =
                c->slots[i];
    free(c->slots);
    c->slots = slots;
    c->cap = cap;
    return true;
}

const struct crd_rules *crd_rules_get(struct kl_crd_schema *schema, crd_ref from, crd_ref spine,
                                      bool root)
{
    const struct crd_rules *ret = NULL;
    pthread_mutex_lock(&schema->lock);
    if (!schema->cel)
        schema->cel = calloc(1, sizeof *schema->cel);
    struct crd_cel *c = schema->cel;
    if (c && make_room(c)) {
        struct crd_rules **slot = find_slot(c->slots, c->cap, from, spine, root);
        // Compiling holds up others that need a rule of this schema for the first time.
        if (!*slot && (*slot = crd_rules_new(&schema->words, from, spine, root)))
            c->n++;
        ret = *slot;
    }
    pthread_mutex_unlock(&schema->lock);
    return ret;
}
