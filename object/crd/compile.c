// SPDX-License-Identifier: Apache-2.0
// From JSONSchemaProps to nodes.
#include "object/crd/build_int.h"
#include <stdlib.h>

enum { ATTRS_MAX = 32 };

struct attrs {
    uint32_t pairs[2 * ATTRS_MAX];
    uint32_t n;
};

static int compile(struct crd_builder *b, const struct kl_value *s, crd_ref *ret,
                   struct kl_error *err);

static void add(struct attrs *t, enum crd_tag tag, uint32_t value)
{
    t->pairs[2 * t->n] = tag;
    t->pairs[2 * t->n++ + 1] = value;
}

static int add_text(struct crd_builder *b, struct attrs *t, enum crd_tag tag, struct kl_str s)
{
    uint32_t at;
    int r = crd_put_text(b, s, &at);
    if (!r)
        add(t, tag, at);
    return r;
}

static int add_number(struct crd_builder *b, struct attrs *t, enum crd_tag tag,
                      const struct kl_value *v, bool real)
{
    uint32_t w[2], at;
    double d = kl_is(v, KL_FLOAT) ? v->d : (double)kl_int_or(v, 0);
    int64_t i = kl_int_or(v, 0);
    if (!v)
        return 0;
    memcpy(w, real ? (const void *)&d : &i, 8);
    int r = crd_put_words(b, w, 2, &at);
    if (!r)
        add(t, tag, at);
    return r;
}

static int add_texts(struct crd_builder *b, struct attrs *t, enum crd_tag tag,
                     const struct kl_value *list)
{
    size_t n = kl_len(list);
    uint32_t at, *w = n ? kl_arena_alloc(&b->arena, (n + 1) * sizeof *w) : NULL;
    int r = 0;
    if (!n)
        return 0;
    if (!w)
        return KL_ENOMEM;
    w[0] = (uint32_t)n;
    for (size_t i = 0; !r && i < n; i++)
        r = crd_put_text(b, kl_text(&list->items[i]), &w[i + 1]);
    if (!r && !(r = crd_put_words(b, w, n + 1, &at)))
        add(t, tag, at);
    return r;
}

static int add_enum(struct crd_builder *b, struct attrs *t, const struct kl_value *list)
{
    size_t n = kl_len(list);
    uint32_t at, *w = n ? kl_arena_alloc(&b->arena, (2 * n + 1) * sizeof *w) : NULL;
    int r = 0;
    if (!n)
        return 0;
    if (!w)
        return KL_ENOMEM;
    w[0] = (uint32_t)n;
    for (size_t i = 0; !r && i < n; i++) {
        struct kl_str text = kl_text(&list->items[i]);
        struct kl_value v;
        struct kl_error ignored;
        // A null is kept as no text at all.
        if (!text.n)
            text = KL_STR("null");
        r = kl_json_parse(&b->arena, text, NULL, &v, &ignored);
        w[2 * i + 1] = kl_is(&v, KL_STRING);
        r = r ? r : crd_put_text(b, kl_is(&v, KL_STRING) ? kl_text(&v) : text, &w[2 * i + 2]);
    }
    if (!r && !(r = crd_put_words(b, w, 2 * n + 1, &at)))
        add(t, CRD_ENUM, at);
    return r;
}

static int add_branches(struct crd_builder *b, struct attrs *t, enum crd_tag tag,
                        const struct kl_value *list, struct kl_error *err)
{
    size_t n = kl_len(list);
    uint32_t at, *w = n ? kl_arena_alloc(&b->arena, (n + 1) * sizeof *w) : NULL;
    int r = 0;
    if (!n)
        return 0;
    if (!w)
        return KL_ENOMEM;
    w[0] = (uint32_t)n;
    for (size_t i = 0; !r && i < n; i++)
        r = compile(b, &list->items[i], &w[i + 1], err);
    if (!r && !(r = crd_put_words(b, w, n + 1, &at)))
        add(t, tag, at);
    return r;
}

static int add_rules(struct crd_builder *b, struct attrs *t, const struct kl_value *list)
{
    static const kl_sym of[] = {[CRD_RULE_TEXT] = KL_F_rule,
                                [CRD_RULE_MESSAGE] = KL_F_message,
                                [CRD_RULE_EXPRESSION] = KL_F_messageExpression,
                                [CRD_RULE_REASON] = KL_F_reason,
                                [CRD_RULE_PATH] = KL_F_fieldPath};
    size_t n = kl_len(list);
    uint32_t at, *w = n ? kl_arena_alloc(&b->arena, (CRD_RULE_WORDS * n + 1) * sizeof *w) : NULL;
    int r = 0;
    if (!n)
        return 0;
    if (!w)
        return KL_ENOMEM;
    w[0] = (uint32_t)n;
    for (size_t i = 0; !r && i < n; i++) {
        const struct kl_value *rule = &list->items[i];
        uint32_t *to = w + 1 + CRD_RULE_WORDS * i;
        for (size_t k = 0; !r && k < KL_COUNT(of); k++)
            r = crd_put_text(b, kl_text(kl_get(rule, of[k])), &to[k]);
        to[CRD_RULE_OPTIONAL] = kl_is_true(kl_get(rule, KL_F_optionalOldSelf));
    }
    if (!r && !(r = crd_put_words(b, w, CRD_RULE_WORDS * n + 1, &at)))
        add(t, CRD_RULES, at);
    return r;
}

uint32_t crd_type_bits(struct kl_str type)
{
    static const struct {
        const char *name;
        uint32_t bit;
    } types[] = {{"object", CRD_OBJECT},   {"array", CRD_ARRAY},   {"string", CRD_STRING},
                 {"integer", CRD_INTEGER}, {"number", CRD_NUMBER}, {"boolean", CRD_BOOLEAN}};
    for (size_t i = 0; i < KL_COUNT(types); i++)
        if (kl_str_eqz(type, types[i].name))
            return types[i].bit;
    return 0;
}

static uint32_t flags_of(const struct kl_value *s)
{
    static const struct {
        kl_sym field;
        uint32_t bit;
    } plain[] = {{KL_F_nullable, CRD_NULLABLE},
                 {KL_F_x_kubernetes_int_or_string, CRD_INT_OR_STRING},
                 {KL_F_x_kubernetes_preserve_unknown_fields, CRD_PRESERVE},
                 {KL_F_x_kubernetes_embedded_resource, CRD_EMBEDDED | CRD_HAS_EMBEDDED},
                 {KL_F_exclusiveMaximum, CRD_EXCL_MAX},
                 {KL_F_exclusiveMinimum, CRD_EXCL_MIN},
                 {KL_F_uniqueItems, CRD_UNIQUE}};
    uint32_t flags = crd_type_bits(kl_text(kl_get(s, KL_F_type)));
    for (size_t i = 0; i < KL_COUNT(plain); i++)
        if (kl_is_true(kl_get(s, plain[i].field)))
            flags |= plain[i].bit;
    if (flags & CRD_INT_OR_STRING)
        flags = (flags & ~(uint32_t)CRD_TYPES) | CRD_INTEGER | CRD_STRING;
    struct kl_str list = kl_text(kl_get(s, KL_F_x_kubernetes_list_type));
    struct kl_str map = kl_text(kl_get(s, KL_F_x_kubernetes_map_type));
    flags |= kl_str_eqz(list, "atomic") ? CRD_LIST_ATOMIC
             : kl_str_eqz(list, "set")  ? CRD_LIST_SET | CRD_HAS_LISTS
             : kl_str_eqz(list, "map")  ? CRD_LIST_MAP | CRD_HAS_LISTS
                                        : 0;
    flags |= kl_str_eqz(map, "atomic") ? CRD_MAP_ATOMIC : 0;
    if (kl_len(kl_get(s, KL_F_x_kubernetes_validations)))
        flags |= CRD_HAS_RULES;
    return flags;
}

// What the runs of words cannot say.
static int check_supported(const struct kl_value *s, struct kl_error *err)
{
    static const struct {
        kl_sym field;
        const char *name;
    } refused[] = {{KL_F_id, "id"},
                   {KL_F_dollar_schema, "schema"},
                   {KL_F_dollar_ref, "$ref"},
                   {KL_F_patternProperties, "patternProperties"},
                   {KL_F_dependencies, "dependencies"},
                   {KL_F_additionalItems, "additionalItems"},
                   {KL_F_definitions, "definitions"}};
    for (size_t i = 0; i < KL_COUNT(refused); i++) {
        const struct kl_value *v = kl_get(s, refused[i].field);
        if (v && (refused[i].field == KL_F_additionalItems || v->kind == KL_BOOL || v->n))
            return kl_error_set(err, KL_EINVALID, "OpenAPIV3Schema '%s' is not supported",
                                refused[i].name);
    }
    const struct kl_value *preserve = kl_get(s, KL_F_x_kubernetes_preserve_unknown_fields);
    if (preserve && !kl_is_true(preserve))
        return kl_error_set(err, KL_EINVALID,
                            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true "
                            "or undefined");
    if (kl_is(kl_get(s, KL_F_items), KL_ARRAY))
        return kl_error_set(err, KL_EINVALID,
                            "OpenAPIV3Schema 'items' must be a schema, but is an array");
    return 0;
}

static int by_name(const void *x, const void *y)
{
    return kl_str_cmp(kl_text(*(const struct kl_value *const *)x),
                      kl_text(*(const struct kl_value *const *)y));
}

// The properties as pairs of words, sorted by name.
static int compile_properties(struct crd_builder *b, const struct kl_value *props, uint32_t *w,
                              uint32_t *flags, struct kl_error *err)
{
    size_t n = kl_len(props), i = 0;
    const struct kl_value **keys = kl_arena_alloc(&b->arena, (n + 1) * sizeof *keys);
    int r = keys ? 0 : KL_ENOMEM;
    if (r)
        return r;
    for (KL_MAP_EACH_KEY(k, props))
        keys[i++] = k;
    qsort(keys, n, sizeof *keys, by_name);
    for (i = 0; !r && i < n; i++) {
        r = crd_put_text(b, kl_text(keys[i]), &w[2 * i]);
        if (!r && !(r = compile(b, keys[i] + 1, &w[2 * i + 1], err))) {
            uint32_t below = b->w[w[2 * i + 1]];
            *flags |= below & CRD_HAS_ANY;
            if (crd_attr(&(struct crd_words){b->w, b->text}, w[2 * i + 1], CRD_DEFAULT))
                *flags |= CRD_HAS_DEFAULTS;
        }
    }
    return r;
}

static int compile_parts(struct crd_builder *b, const struct kl_value *s, struct attrs *t,
                         uint32_t *flags, struct kl_error *err)
{
    const struct kl_value *items = kl_get(s, KL_F_items);
    const struct kl_value *extra = kl_get(s, KL_F_additionalProperties);
    crd_ref at;
    int r = 0;
    if (kl_is(items, KL_STRUCT) && !(r = compile(b, items, &at, err))) {
        add(t, CRD_ITEMS, at);
        *flags |= b->w[at] & CRD_HAS_ANY;
        if (crd_attr(&(struct crd_words){b->w, b->text}, at, CRD_DEFAULT))
            *flags |= CRD_HAS_DEFAULTS;
    }
    if (!r && kl_is(extra, KL_STRUCT) && !(r = compile(b, extra, &at, err))) {
        add(t, CRD_EXTRA, at);
        *flags |= b->w[at] & CRD_HAS_ANY;
        if (crd_attr(&(struct crd_words){b->w, b->text}, at, CRD_DEFAULT))
            *flags |= CRD_HAS_DEFAULTS;
    } else if (kl_is(extra, KL_BOOL)) {
        *flags |= extra->b ? CRD_EXTRA_TRUE : CRD_EXTRA_FALSE;
    }
    return r;
}

// Branches of logic do not add to what is below a node, but for the rules of allOf.
static int compile_logic(struct crd_builder *b, const struct kl_value *s, struct attrs *t,
                         uint32_t *flags, struct kl_error *err)
{
    const struct kl_value *not = kl_get(s, KL_F_not);
    crd_ref at;
    int r = add_branches(b, t, CRD_ALL_OF, kl_get(s, KL_F_allOf), err);
    if (!r && t->n && t->pairs[2 * t->n - 2] == CRD_ALL_OF) {
        uint32_t list = t->pairs[2 * t->n - 1];
        for (uint32_t i = 0; i < b->w[list]; i++)
            if (b->w[b->w[list + 1 + i]] & (CRD_HAS_RULES | CRD_HAS_ALL_OF_RULES))
                *flags |= CRD_HAS_ALL_OF_RULES;
    }
    r = r ? r : add_branches(b, t, CRD_ANY_OF, kl_get(s, KL_F_anyOf), err);
    r = r ? r : add_branches(b, t, CRD_ONE_OF, kl_get(s, KL_F_oneOf), err);
    if (!r && not &&!(r = compile(b, not, &at, err)))
        add(t, CRD_NOT, at);
    return r;
}

static int compile_values(struct crd_builder *b, const struct kl_value *s, struct attrs *t,
                          uint32_t flags)
{
    static const struct {
        kl_sym field;
        uint8_t tag;
        bool real;
    } numbers[] = {{KL_F_maximum, CRD_MAX, true},
                   {KL_F_minimum, CRD_MIN, true},
                   {KL_F_multipleOf, CRD_MULTIPLE_OF, true},
                   {KL_F_maxLength, CRD_MAX_LENGTH, false},
                   {KL_F_minLength, CRD_MIN_LENGTH, false},
                   {KL_F_maxItems, CRD_MAX_ITEMS, false},
                   {KL_F_minItems, CRD_MIN_ITEMS, false},
                   {KL_F_maxProperties, CRD_MAX_PROPERTIES, false},
                   {KL_F_minProperties, CRD_MIN_PROPERTIES, false}};
    struct kl_str format = kl_text(kl_get(s, KL_F_format));
    struct kl_str pattern = kl_text(kl_get(s, KL_F_pattern));
    enum crd_format kind = crd_format_of(format, flags & CRD_TYPES);
    int r = 0;
    if (kind != CRD_F_UNKNOWN && format.n) {
        r = add_text(b, t, CRD_FORMAT, format);
        if (!r && kind != CRD_F_NONE)
            add(t, CRD_FORMAT_KIND, kind);
    }
    if (!r && pattern.n)
        r = add_text(b, t, CRD_PATTERN, pattern);
    for (size_t i = 0; !r && i < KL_COUNT(numbers); i++)
        r = add_number(b, t, (enum crd_tag)numbers[i].tag, kl_get(s, numbers[i].field),
                       numbers[i].real);
    r = r ? r : add_enum(b, t, kl_get(s, KL_F_enum));
    return r ? r : add_texts(b, t, CRD_REQUIRED, kl_get(s, KL_F_required));
}

static int compile_node(struct crd_builder *b, const struct kl_value *s, crd_ref *ret,
                        struct kl_error *err)
{
    const struct kl_value *props = kl_get(s, KL_F_properties);
    struct kl_str preset = kl_text(kl_get(s, KL_F_default));
    size_t n = kl_len(props);
    struct attrs t = {.n = 0};
    uint32_t flags = flags_of(s);
    uint32_t *w = kl_arena_alloc(&b->arena, (2 + 2 * n + 2 * ATTRS_MAX) * sizeof *w);
    int r = w ? check_supported(s, err) : KL_ENOMEM;
    if (n > 0xfffff)
        r = KL_ELIMIT;
    r = r ? r : compile_parts(b, s, &t, &flags, err);
    r = r ? r : compile_values(b, s, &t, flags);
    r = r ? r : compile_logic(b, s, &t, &flags, err);
    if (!r && preset.n && !kl_str_eqz(preset, "null"))
        r = add_text(b, &t, CRD_DEFAULT, preset);
    r = r ? r : add_texts(b, &t, CRD_KEYS, kl_get(s, KL_F_x_kubernetes_list_map_keys));
    r = r ? r : add_rules(b, &t, kl_get(s, KL_F_x_kubernetes_validations));
    r = r ? r : compile_properties(b, props, w + 2, &flags, err);
    if (r)
        return r;
    w[0] = flags;
    w[1] = (uint32_t)n | t.n << 20;
    memcpy(w + 2 + 2 * n, t.pairs, 2 * t.n * sizeof *w);
    return crd_put_words(b, w, 2 + 2 * n + 2 * t.n, ret);
}

static int compile(struct crd_builder *b, const struct kl_value *s, crd_ref *ret,
                   struct kl_error *err)
{
    if (b->depth >= KL_CRD_DEPTH_MAX)
        return kl_error_set(err, KL_ELIMIT, "the schema is nested deeper than %d",
                            KL_CRD_DEPTH_MAX);
    b->depth++;
    int r = compile_node(b, s, ret, err);
    b->depth--;
    return r;
}

int crd_compile(const struct kl_value *schema, struct crd_words *ret, crd_ref *ret_root,
                size_t *ret_bytes, struct kl_error *err)
{
    struct kl_error why = {0};
    struct crd_builder b;
    int r = crd_builder_init(&b);
    r = r ? r : compile(&b, schema, ret_root, &why);
    if (!r) {
        uint32_t *w = realloc(b.w, b.nw * sizeof *w);
        char *text = realloc(b.text, b.ntext);
        *ret = (struct crd_words){w ? w : b.w, text ? text : b.text};
        *ret_bytes = b.nw * sizeof *w + b.ntext;
        b.w = NULL;
        b.text = NULL;
    }
    crd_builder_fini(&b);
    if (r)
        return kl_error_set(err, r, "%s",
                            why.code         ? why.msg
                            : r == KL_ELIMIT ? "the schema is too large"
                                             : "out of memory");
    return 0;
}

void crd_words_free(struct crd_words *w)
{
    free((void *)w->w);
    free((void *)w->text);
    *w = (struct crd_words){0};
}

// ---- reading

crd_ref crd_prop(const struct crd_words *s, crd_ref n, struct kl_str name)
{
    uint32_t low = 0, high = crd_nprops(s, n);
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        int c = kl_str_cmp(name, crd_prop_name(s, n, mid));
        if (c == 0)
            return crd_prop_node(s, n, mid);
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return 0;
}

uint32_t crd_attr(const struct crd_words *s, crd_ref n, enum crd_tag tag)
{
    uint32_t count = s->w[n + 1] >> 20;
    const uint32_t *p = s->w + n + 2 + 2 * crd_nprops(s, n);
    for (uint32_t i = 0; i < count; i++)
        if (p[2 * i] == (uint32_t)tag)
            return p[2 * i + 1];
    return 0;
}
