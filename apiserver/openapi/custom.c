// SPDX-License-Identifier: Apache-2.0
// Definitions of custom kinds: the schema of the custom resource definition with what every object
// has (apiextensions-apiserver pkg/controller/openapi). Version 2 drops what its readers, old
// kubectls above all, stumble over.
#include "apiserver/openapi/openapi_int.h"

enum { MAX_DEPTH = 100 };

struct out {
    struct kl_buf *b;
    struct kl_oa_types *t;
    bool v2;
};

static bool is_true(const struct kl_value *node, const char *name)
{
    return kl_is_true(kl_map_value(node, kl_str(name)));
}

static struct kl_str type_of(const struct kl_value *node)
{
    return kl_text(kl_map_value(node, KL_STR("type")));
}

static void put_key(struct kl_buf *b, struct kl_str key, bool *first)
{
    kl_buf_puts(b, *first ? KL_STR("") : KL_STR(","));
    *first = false;
    kl_json_write_string(b, key);
    kl_buf_putc(b, ':');
}

static bool is_one_of(struct kl_str s, const char *const *names)
{
    for (size_t i = 0; names[i]; i++)
        if (kl_str_eqz(s, names[i]))
            return true;
    return false;
}

// ToStructuralOpenAPIV2: whether version 2 goes without this member of a node.
static bool is_dropped(const struct kl_value *node, struct kl_str key)
{
    static const char *const junctors[] = {"allOf", "oneOf", "anyOf", "not", "nullable", NULL};
    static const char *const inner[] = {"items", "properties", NULL};
    bool nullable = is_true(node, "nullable");
    bool open = is_true(node, "x-kubernetes-preserve-unknown-fields");
    if (is_one_of(key, junctors))
        return true;
    if (is_one_of(key, inner))
        return nullable || open;
    if (!kl_str_eqz(key, "type"))
        return false;
    struct kl_str type = type_of(node);
    bool bare = nullable || open || !kl_map_value(node, KL_STR("items"));
    return nullable || (open && kl_str_eqz(type, "object")) || (bare && kl_str_eqz(type, "array"));
}

#define CONVENTIONS                                                                                \
    "More info: https://git.k8s.io/community/contributors/devel/sig-architecture/"                 \
    "api-conventions.md#"

// What upstream says of these members, which kubectl explain shows.
static const char version_words[] =
    "APIVersion defines the versioned schema of this representation of an object. Servers should "
    "convert recognized schemas to the latest internal value, and may reject unrecognized "
    "values. " CONVENTIONS "resources";
static const char kind_words[] =
    "Kind is a string value representing the REST resource this object represents. Servers may "
    "infer this from the endpoint the client submits requests to. Cannot be updated. In "
    "CamelCase. " CONVENTIONS "types-kinds";

static void put_meta_ref(struct out *o, const char *name)
{
    bool list = !strcmp(name, KL_OA_META "ListMeta");
    kl_oa_want_name(o->t, kl_str(name));
    kl_buf_printf(
        o->b,
        o->v2 ? "{\"description\":\"Standard %s metadata. " CONVENTIONS "%s\",\"$ref\":\"%s%s\"}"
              : "{\"description\":\"Standard %s metadata. " CONVENTIONS
                "%s\",\"allOf\":[{\"$ref\":\"%s%s\"}]}",
        list ? "list" : "object's", list ? "types-kinds" : "metadata", kl_oa_place(o->v2), name);
}

// apiVersion, kind and metadata, as members of "properties".
static void put_head(struct out *o, const char *metadata, bool *first)
{
    put_key(o->b, KL_STR("apiVersion"), first);
    kl_buf_printf(o->b, "{\"description\":\"%s\",\"type\":\"string\"}", version_words);
    put_key(o->b, KL_STR("kind"), first);
    kl_buf_printf(o->b, "{\"description\":\"%s\",\"type\":\"string\"}", kind_words);
    put_key(o->b, KL_STR("metadata"), first);
    put_meta_ref(o, metadata);
}

static bool is_head(struct kl_str key)
{
    static const char *const names[] = {"apiVersion", "kind", "metadata", NULL};
    return is_one_of(key, names);
}

static void put_node(struct out *o, const struct kl_value *node, int depth, bool root,
                     struct kl_str more);

static void put_properties(struct out *o, const struct kl_value *node, bool with_head, int depth)
{
    bool first = true;
    kl_buf_putc(o->b, '{');
    if (with_head)
        put_head(o, KL_OA_META "ObjectMeta", &first);
    const struct kl_value *all = kl_map_value(node, KL_STR("properties"));
    for (KL_MAP_EACH_KEY(k, kl_is(all, KL_MAP) ? all : NULL)) {
        if (with_head && is_head(kl_text(&k[0])))
            continue;
        put_key(o->b, kl_text(&k[0]), &first);
        put_node(o, &k[1], depth + 1, false, KL_STR(""));
    }
    kl_buf_putc(o->b, '}');
}

// Version 2 has no null: a property that may be null need not be there.
static bool is_required(struct out *o, const struct kl_value *node, struct kl_str name)
{
    const struct kl_value *p = kl_map_value(kl_map_value(node, KL_STR("properties")), name);
    return !o->v2 || !is_true(p, "nullable");
}

static void put_required(struct out *o, const struct kl_value *node, bool with_head, bool *first)
{
    const struct kl_value *list = kl_map_value(node, KL_STR("required"));
    bool kind = false, version = false, any = false;
    if (o->v2 && is_true(kl_map_value(node, KL_STR("additionalProperties")), "nullable"))
        list = NULL;
    for (KL_EACH(r, list)) {
        if (!is_required(o, node, kl_text(r)))
            continue;
        kind |= kl_str_eqz(kl_text(r), "kind");
        version |= kl_str_eqz(kl_text(r), "apiVersion");
        if (any) {
            kl_buf_putc(o->b, ',');
        } else {
            put_key(o->b, KL_STR("required"), first);
            kl_buf_putc(o->b, '[');
        }
        any = true;
        kl_json_write_string(o->b, kl_text(r));
    }
    for (int i = 0; with_head && i < 2; i++) {
        if (i ? version : kind)
            continue;
        if (any) {
            kl_buf_putc(o->b, ',');
        } else {
            put_key(o->b, KL_STR("required"), first);
            kl_buf_putc(o->b, '[');
        }
        any = true;
        kl_buf_puts(o->b, i ? KL_STR("\"apiVersion\"") : KL_STR("\"kind\""));
    }
    if (any)
        kl_buf_putc(o->b, ']');
}

static void put_member(struct out *o, const struct kl_value *k, int depth)
{
    struct kl_str key = kl_text(&k[0]);
    bool schema = kl_str_eqz(key, "items") || kl_str_eqz(key, "additionalProperties");
    if (schema && kl_is(&k[1], KL_MAP))
        put_node(o, &k[1], depth + 1, false, KL_STR(""));
    else
        kl_json_write(o->b, &k[1]);
}

// A node with its members; `more` are further ones, as text.
static void put_node(struct out *o, const struct kl_value *node, int depth, bool root,
                     struct kl_str more)
{
    bool first = true;
    bool embedded = is_true(node, "x-kubernetes-embedded-resource") &&
                    !(o->v2 && is_true(node, "x-kubernetes-preserve-unknown-fields"));
    bool int_or_string = is_true(node, "x-kubernetes-int-or-string");
    bool with_head = root || embedded;
    if (depth > MAX_DEPTH || !kl_is(node, KL_MAP)) {
        kl_buf_puts(o->b, KL_STR("{}"));
        return;
    }
    kl_buf_putc(o->b, '{');
    for (KL_MAP_EACH_KEY(k, node)) {
        struct kl_str key = kl_text(&k[0]);
        if (kl_str_eqz(key, "properties") || kl_str_eqz(key, "required") ||
            (o->v2 && is_dropped(node, key)))
            continue;
        put_key(o->b, key, &first);
        put_member(o, k, depth);
    }
    put_required(o, node, embedded, &first);
    if (with_head || (kl_map_value(node, KL_STR("properties")) &&
                      !(o->v2 && is_dropped(node, KL_STR("properties"))))) {
        put_key(o->b, KL_STR("properties"), &first);
        put_properties(o, node, with_head, depth);
    }
    // What int-or-string means, for readers that do not know the extension.
    if (int_or_string && !o->v2 && !kl_map_value(node, KL_STR("anyOf"))) {
        put_key(o->b, KL_STR("anyOf"), &first);
        kl_buf_puts(o->b, KL_STR("[{\"type\":\"integer\"},{\"type\":\"string\"}]"));
    }
    if (more.n) {
        kl_buf_puts(o->b, first ? KL_STR("") : KL_STR(","));
        kl_buf_puts(o->b, more);
    }
    kl_buf_putc(o->b, '}');
}

static void put_extensions(struct kl_buf *b, const struct kl_openapi_custom *c, const char *kind)
{
    kl_buf_printf(b,
                  "\"x-kubernetes-group-version-kind\":[{\"group\":\"%s\",\"kind\":\"%s\","
                  "\"version\":\"%s\"}]",
                  c->res->group, kind, c->res->version);
    if (c->selectable.n) {
        kl_buf_puts(b, KL_STR(",\"x-kubernetes-selectable-fields\":"));
        kl_buf_puts(b, c->selectable);
    }
}

static const char *list_kind(struct kl_arena *a, const struct kl_openapi_custom *c)
{
    if (c->list_kind)
        return c->list_kind;
    struct kl_str s = kl_arena_printf(a, "%sList", c->res->kind);
    return s.p ? s.p : "List";
}

static void put_list(struct out *o, struct kl_arena *a, const struct kl_openapi_custom *c)
{
    const struct kl_resource *r = c->res;
    struct kl_str name = kl_oa_custom_name(a, r->group, r->version, r->kind);
    const char *kind = list_kind(a, c);
    struct kl_str list = kl_oa_custom_name(a, r->group, r->version, kind);
    bool first = true;
    kl_json_write_string(o->b, list);
    kl_buf_printf(o->b,
                  ":{\"type\":\"object\",\"description\":\"%s is a list of %s\",\"required\":["
                  "\"items\"],\"properties\":{",
                  kind, r->kind);
    put_head(o, KL_OA_META "ListMeta", &first);
    kl_buf_printf(o->b,
                  ",\"items\":{\"type\":\"array\",\"description\":\"List of %s. More info: "
                  "https://git.k8s.io/community/contributors/devel/sig-architecture/"
                  "api-conventions.md\",\"items\":{\"$ref\":\"%s%.*s\"}}},",
                  r->plural, kl_oa_place(o->v2), KL_PRI(name));
    put_extensions(o->b, c, kind);
    kl_buf_putc(o->b, '}');
}

int kl_oa_put_custom(struct kl_buf *b, struct kl_oa_types *t, struct kl_arena *a,
                     const struct kl_openapi_source *src, const struct kl_openapi_custom *c,
                     bool list, bool v2)
{
    struct out o = {b, t, v2};
    struct kl_buf text, more;
    struct kl_value schema;
    struct kl_error err;
    if (list) {
        put_list(&o, a, c);
        return b->err;
    }
    kl_buf_init(&text, KL_MAX_ARENA_BYTES);
    kl_buf_init(&more, 1 << 20);
    int rc = src->schema(src->arg, c, &text);
    bool has = !rc && text.n && !kl_json_parse(a, kl_buf_str(&text), NULL, &schema, &err) &&
               kl_is(&schema, KL_MAP);
    // An object of which nothing is said, or one that takes anything: kubectl would take a list of
    // properties for all that there are.
    if (!has || (v2 && is_true(&schema, "x-kubernetes-preserve-unknown-fields")))
        has = false;
    put_extensions(&more, c, c->res->kind);
    kl_json_write_string(b, kl_oa_custom_name(a, c->res->group, c->res->version, c->res->kind));
    kl_buf_putc(b, ':');
    if (has)
        put_node(&o, &schema, 0, true, kl_buf_str(&more));
    else
        kl_buf_printf(b, "{\"type\":\"object\",%.*s}", KL_PRI(kl_buf_str(&more)));
    kl_buf_fini(&text);
    kl_buf_fini(&more);
    return rc ? rc : b->err;
}
