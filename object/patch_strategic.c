// SPDX-License-Identifier: Apache-2.0
// Strategic merge patch (apimachinery util/strategicpatch, StrategicMergeMapPatch).
#include "object/patch_smp_int.h"
#include "object/gotext_int.h"

static const struct kl_str directive_key = KL_STR_INIT("$patch");
static const struct kl_str retain_keys = KL_STR_INIT("$retainKeys");
static const struct kl_str set_order = KL_STR_INIT("$setElementOrder");
static const struct kl_str delete_from = KL_STR_INIT("$deleteFromPrimitiveList");

const struct kl_value *kl_smp_directive(const struct kl_value *map)
{
    return kl_map_value(map, directive_key);
}

bool kl_smp_is_text(const struct kl_value *v, const char *text)
{
    return kl_is(v, KL_STRING) && kl_str_eqz(kl_text(v), text);
}

// ---- the schema

const char *kl_smp_go_kind(const struct kl_type *t)
{
    switch (t->kind) {
    case KL_T_STRING:
        return "string";
    case KL_T_INTEGER:
        return t->format == KL_FMT_INT64 ? "int64" : t->format == KL_FMT_INT32 ? "int32" : "int";
    case KL_T_NUMBER:
        return "float64";
    case KL_T_BOOLEAN:
        return "bool";
    case KL_T_BYTES:
    case KL_T_ARRAY:
        return "slice";
    case KL_T_MAP:
        return "map";
    case KL_T_ANY:
        return "interface";
    default:
        return "struct";
    }
}

// The Go name of a struct type.
static const char *type_name(const struct kl_type *t)
{
    static const struct {
        uint8_t kind;
        const char *name;
    } special[] = {{KL_T_QUANTITY, "Quantity"},
                   {KL_T_INT_OR_STRING, "IntOrString"},
                   {KL_T_TIME, "Time"},
                   {KL_T_MICROTIME, "MicroTime"},
                   {KL_T_DURATION, "Duration"},
                   {KL_T_RAW_EXTENSION, "RawExtension"},
                   {KL_T_UNKNOWN, "Unknown"},
                   {KL_T_FIELDS_V1, "FieldsV1"},
                   {KL_T_JSON, "JSON"},
                   {KL_T_SCHEMA_OR_ARRAY, "JSONSchemaPropsOrArray"},
                   {KL_T_SCHEMA_OR_BOOL, "JSONSchemaPropsOrBool"},
                   {KL_T_SCHEMA_OR_STRINGS, "JSONSchemaPropsOrStringArray"}};
    for (size_t i = 0; i < KL_COUNT(special); i++)
        if (special[i].kind == t->kind)
            return special[i].name;
    const char *dot = t->name ? strrchr(t->name, '.') : NULL;
    return dot ? dot + 1 : t->name ? t->name : "";
}

// As encoding/json finds a field: the exact name first, then one that differs in case only.
static const struct kl_field *find_field(const struct kl_type *t, struct kl_str name)
{
    const struct kl_field *f = kl_type_field_named(t, name);
    for (uint16_t i = 0; !f && i < t->nfields; i++)
        if (kl_str_ieq(kl_sym_name(t->fields[i].sym), name))
            f = &t->fields[i];
    return f;
}

static int look_up(struct kl_smp *s, const struct kl_type *t, struct kl_str name,
                   struct kl_smp_field *ret)
{
    const char *kind = kl_smp_go_kind(t);
    if (strcmp(kind, "struct") != 0)
        return kl_error_set(s->err, KL_EINTERNAL,
                            "merging an object in json but data type is not struct, instead is: %s",
                            kind);
    const struct kl_field *f = t->kind == KL_T_STRUCT ? find_field(t, name) : NULL;
    if (!f) {
        struct kl_buf quoted;
        kl_buf_init(&quoted, KL_GO_TEXT_MAX_BYTES);
        kl_go_quote(&quoted, name);
        kl_error_set(s->err, KL_EINTERNAL,
                     "unable to find api field in struct %s for the json field %.*s", type_name(t),
                     KL_PRI(kl_buf_str(&quoted)));
        kl_buf_fini(&quoted);
        return KL_EINTERNAL;
    }
    *ret = (struct kl_smp_field){
        .type = f->type,
        .merge_key = f->merge_key ? kl_sym_name(f->merge_key) : KL_STR(""),
        .merge = (f->flags & KL_FIELD_PATCH_MERGE) != 0,
        .replace = (f->flags & KL_FIELD_PATCH_REPLACE) != 0,
    };
    return 0;
}

// The same for a list; ret->type becomes that of the elements.
static int look_up_list(struct kl_smp *s, const struct kl_type *t, struct kl_str name,
                        struct kl_smp_field *ret)
{
    int r = look_up(s, t, name, ret);
    if (r)
        return r;
    if (ret->type->kind != KL_T_ARRAY)
        return kl_error_set(s->err, KL_EINTERNAL, "expected slice or array type, but got: %s",
                            kl_smp_go_kind(t));
    ret->type = ret->type->elem;
    if (ret->type->kind == KL_T_ARRAY || ret->type->kind == KL_T_BYTES)
        return kl_error_set(s->err, KL_EINTERNAL, "unexpected slice of slice");
    return 0;
}

// ---- values that are new in the object

static bool needs_cleaning(const struct kl_value *v)
{
    if (v->kind == KL_ARRAY) {
        for (uint32_t i = 0; i < v->n; i++)
            if (needs_cleaning(&v->items[i]))
                return true;
    } else if (v->kind == KL_MAP) {
        for (KL_MAP_EACH_KEY(key, v))
            if (key[1].kind == KL_NULL || kl_str_eq(kl_text(key), directive_key) ||
                needs_cleaning(key + 1))
                return true;
    }
    return false;
}

// Copies without the maps that carry a $patch directive and, with drop_nulls, without null members.
// False when v itself goes.
static bool copy_clean(struct kl_smp *s, const struct kl_value *v, bool drop_nulls,
                       struct kl_value *ret, int *err)
{
    *ret = *v;
    ret->owned = 0;
    if (v->kind == KL_MAP ? kl_smp_directive(v) != NULL : false)
        return false;
    if ((v->kind != KL_MAP && v->kind != KL_ARRAY) || v->n == 0)
        return true;
    size_t per = v->kind == KL_MAP ? 2 : 1;
    ret->n = 0;
    ret->items = kl_arena_alloc(s->arena, per * v->n * sizeof(*ret->items));
    if (!ret->items) {
        *err = KL_ENOMEM;
        return true;
    }
    for (size_t i = 0; i < v->n && !*err; i++) {
        const struct kl_value *from = &v->items[per * i + per - 1];
        struct kl_value *to = &ret->items[per * ret->n];
        if (per == 2) {
            if (drop_nulls && from->kind == KL_NULL)
                continue;
            *to++ = from[-1];
        }
        ret->n += copy_clean(s, from, drop_nulls, to, err);
    }
    return true;
}

static int clean(struct kl_smp *s, const struct kl_value *v, bool drop_nulls, struct kl_value *ret,
                 bool *ret_keep)
{
    int err = 0;
    *ret = *v;
    ret->owned = 0;
    *ret_keep = true;
    if (needs_cleaning(v))
        *ret_keep = copy_clean(s, v, drop_nulls, ret, &err);
    return err ? kl_patch_no_memory(s->err) : 0;
}

// ---- directives of a map

static int bad_format(struct kl_smp *s, const char *what)
{
    return kl_error_set(s->err, KL_EBADREQUEST, "invalid patch format of %s", what);
}

// The name behind "PREFIX/".
static int directive_field(struct kl_smp *s, struct kl_str key, struct kl_str prefix,
                           struct kl_str *ret)
{
    if (key.n <= prefix.n || key.p[prefix.n] != '/')
        return bad_format(s, prefix.p == set_order.p ? "setElementOrder list" : "primitive list");
    *ret = kl_str_from(key, prefix.n + 1);
    return 0;
}

static bool lists_text(const struct kl_value *list, struct kl_str text)
{
    for (KL_EACH(item, list))
        if (item->kind == KL_STRING && kl_str_eq(kl_text(item), text))
            return true;
    return false;
}

// Clears what $retainKeys does not name; the patch may only have what it names.
static int apply_retain_keys(struct kl_smp *s, struct kl_patch_map *original,
                             struct kl_patch_map *patch)
{
    struct kl_value *list = kl_patch_map_find(patch, retain_keys, false);
    if (!list)
        return 0;
    kl_patch_map_drop(list);
    if (list->kind != KL_ARRAY)
        return bad_format(s, "retainKeys");
    for (uint32_t i = 0; i < patch->n; i++) {
        const struct kl_value *key = &patch->items[2 * (size_t)i];
        struct kl_str name = kl_text(key);
        if (kl_patch_map_dropped(key) || key[1].kind == KL_NULL ||
            kl_str_starts(name, delete_from) || kl_str_starts(name, set_order))
            continue;
        if (!lists_text(list, name))
            return bad_format(s, "retainKeys");
    }
    for (uint32_t i = 0; i < original->n; i++) {
        struct kl_value *key = &original->items[2 * (size_t)i];
        if (!kl_patch_map_dropped(key) && !lists_text(list, kl_text(key)))
            kl_patch_map_drop(key + 1);
    }
    return 0;
}

static int order_mismatch(struct kl_smp *s, const struct kl_value *patch,
                          const struct kl_value *order)
{
    struct kl_buf text;
    kl_buf_init(&text, 4 * KL_GO_TEXT_MAX_BYTES);
    kl_buf_puts(&text, KL_STR("The order in patch list:\n"));
    kl_go_print(&text, patch);
    kl_buf_puts(&text, KL_STR("\n doesn't match $setElementOrder list:\n"));
    kl_go_print(&text, order);
    kl_buf_putc(&text, '\n');
    kl_error_set(s->err, KL_EINTERNAL, "%.*s", KL_PRI(kl_buf_str(&text)));
    kl_buf_fini(&text);
    return KL_EINTERNAL;
}

// Whether two elements are the same one, by merge key or by value.
static int same_element(struct kl_smp *s, const struct kl_value *a, const struct kl_value *b,
                        struct kl_str merge_key, bool *ret)
{
    const struct kl_value *sides[] = {a, b};
    for (size_t i = 0; i < 2 && merge_key.n; i++) {
        if (sides[i]->kind != KL_MAP)
            return kl_smp_not_a_map(s, sides[i]);
        const struct kl_value *key = kl_map_value(sides[i], merge_key);
        if (!key)
            return kl_smp_no_merge_key(s, sides[i], merge_key);
        sides[i] = key;
    }
    *ret = kl_value_equal(sides[0], sides[1]);
    return 0;
}

// The patch list must be a subset of the $setElementOrder list, in the same order.
static int check_order(struct kl_smp *s, const struct kl_value *patch, const struct kl_value *order,
                       struct kl_str merge_key)
{
    if (kl_len(patch) == 0 || kl_len(order) == 0)
        return 0;
    for (KL_EACH(item, patch))
        if (merge_key.n && item->kind != KL_MAP)
            return kl_smp_not_a_map(s, item);
    uint32_t i = 0, j = 0;
    while (i < patch->n && j < order->n) {
        bool same = false;
        if (kl_smp_directive(&patch->items[i])) {
            i++;
            continue;
        }
        int r = same_element(s, &patch->items[i], &order->items[j], merge_key, &same);
        if (r)
            return r;
        i += same;
        j++;
    }
    // only deletions may be left
    while (i < patch->n && merge_key.n &&
           kl_smp_is_text(kl_smp_directive(&patch->items[i]), "delete"))
        i++;
    return i < patch->n ? order_mismatch(s, patch, order) : 0;
}

// One "$setElementOrder/field" together with the list of that field in the patch.
static int apply_set_order(struct kl_smp *s, struct kl_patch_map *original,
                           struct kl_patch_map *patch, const struct kl_value *key,
                           const struct kl_type *type)
{
    const struct kl_value *order = key + 1;
    struct kl_value merged, live = {.kind = KL_ARRAY};
    struct kl_smp_field field;
    struct kl_str name;
    bool of_maps, keep;
    if (order->kind != KL_ARRAY)
        return kl_smp_not_a_list(s, order);
    int r = directive_field(s, kl_text(key), set_order, &name);
    if (r)
        return r;
    struct kl_value *have = kl_patch_map_find(original, name, true);
    struct kl_value *wanted = kl_patch_map_find(patch, name, false);
    if (have && have->kind != KL_ARRAY)
        return kl_smp_not_a_list(s, have);
    if (wanted && wanted->kind != KL_ARRAY)
        return kl_smp_not_a_list(s, wanted);
    r = look_up_list(s, type, name, &field);
    if (!r)
        r = check_order(s, wanted, order, field.merge_key);
    if (r || (!have && !wanted))
        return r;
    if (have)
        live = *have;
    if (!have)
        r = clean(s, wanted, false, &merged, &keep);
    else if (!wanted)
        merged = live;
    else
        r = kl_smp_merge_list(s, have, wanted, &field, false, &merged, &live);
    if (!r)
        r = kl_smp_element_kind(s, have, wanted, &of_maps);
    if (!r)
        r = kl_smp_order_list(s, &merged, order, &live, field.merge_key, of_maps, &merged);
    if (r)
        return r;
    if (have)
        *have = merged;
    else
        kl_patch_map_put(original,
                         &(struct kl_value){.kind = KL_STRING, .n = (uint32_t)name.n, .s = name.p},
                         merged);
    if (wanted)
        kl_patch_map_drop(wanted);
    return 0;
}

// ---- maps

static int merge_member(struct kl_smp *s, struct kl_patch_map *original, const struct kl_value *key,
                        const struct kl_type *type)
{
    const struct kl_value *patch = key + 1;
    struct kl_str name = kl_text(key);
    bool delete_list = kl_str_starts(name, delete_from), keep;
    struct kl_smp_field field;
    struct kl_value merged, order;
    int r = 0;
    if (delete_list) {
        struct kl_str plain = {NULL, 0};
        r = directive_field(s, name, delete_from, &plain);
        if (r)
            return r;
        if (plain.n)
            name = plain;
    }
    struct kl_value *have = kl_patch_map_find(original, name, delete_list);
    if (patch->kind == KL_NULL) {
        if (have)
            kl_patch_map_drop(have);
        return 0;
    }
    if (!have || have->kind != patch->kind) {
        if (delete_list)
            return 0;
        r = clean(s, patch, true, &merged, &keep);
        if (r)
            return r;
        if (!keep && have)
            kl_patch_map_drop(have);
        else if (keep && have)
            *have = merged;
        else if (keep)
            kl_patch_map_put(original, key, merged);
        return 0;
    }
    merged = *patch;
    if (patch->kind == KL_MAP) {
        r = look_up(s, type, name, &field);
        if (!r && !field.replace)
            r = kl_smp_merge_map(s, have, patch, field.type, &merged);
    } else if (patch->kind == KL_ARRAY) {
        r = look_up_list(s, type, name, &field);
        if (!r)
            r = kl_smp_merge_list(s, have, patch, &field, delete_list, &merged, &order);
    }
    if (r)
        return r;
    *have = merged;
    have->owned = 0;
    return 0;
}

int kl_smp_merge_map(struct kl_smp *s, const struct kl_value *original,
                     const struct kl_value *patch, const struct kl_type *type, struct kl_value *ret)
{
    struct kl_patch_map out, todo;
    const struct kl_value *directive = kl_smp_directive(patch);
    if (kl_patch_map_open(s->arena, patch, 0, &todo))
        return kl_patch_no_memory(s->err);
    if (directive) {
        if (kl_smp_is_text(directive, "replace")) {
            kl_patch_map_drop(kl_patch_map_find(&todo, directive_key, false));
            *ret = kl_patch_map_close(&todo);
            return 0;
        }
        if (!kl_smp_is_text(directive, "delete"))
            return kl_smp_bad_directive(s, directive, patch);
        *ret = kl_new_map();
        return 0;
    }
    // every member of the patch adds at most one
    if (kl_patch_map_open(s->arena, original, patch->n, &out))
        return kl_patch_no_memory(s->err);
    int r = apply_retain_keys(s, &out, &todo);
    for (uint32_t i = 0; !r && i < todo.n; i++) {
        struct kl_value *key = &todo.items[2 * (size_t)i];
        if (kl_patch_map_dropped(key) || !kl_str_starts(kl_text(key), set_order))
            continue;
        kl_patch_map_drop(key + 1);
        r = apply_set_order(s, &out, &todo, key, type);
    }
    for (uint32_t i = 0; !r && i < todo.n; i++) {
        const struct kl_value *key = &todo.items[2 * (size_t)i];
        if (!kl_patch_map_dropped(key))
            r = merge_member(s, &out, key, type);
    }
    if (r)
        return r;
    *ret = kl_patch_map_close(&out);
    return 0;
}

int kl_patch_strategic(struct kl_arena *a, const struct kl_type *type,
                       const struct kl_value *untyped, const struct kl_value *patch,
                       struct kl_value *ret, struct kl_error *err)
{
    struct kl_smp s = {.arena = a, .err = err};
    struct kl_value out;
    if (!type || type->kind != KL_T_STRUCT)
        return kl_error_set(err, KL_EBADREQUEST, "strategic merge patch format is not supported");
    if (patch && patch->kind == KL_NULL)
        patch = NULL;
    if (patch && patch->kind != KL_MAP) {
        static const char *const names[] = {[KL_BOOL] = "bool",
                                            [KL_INT] = "number",
                                            [KL_FLOAT] = "number",
                                            [KL_STRING] = "string",
                                            [KL_ARRAY] = "array"};
        return kl_error_set(
            err, KL_EBADREQUEST,
            "json: cannot unmarshal %s into Go value of type map[string]interface {}",
            patch->kind < KL_COUNT(names) && names[patch->kind] ? names[patch->kind] : "object");
    }
    const struct kl_value nothing = {.kind = KL_MAP};
    int r = kl_smp_merge_map(&s, untyped, patch ? patch : &nothing, type, &out);
    if (!r)
        *ret = out;
    return r;
}
