// SPDX-License-Identifier: Apache-2.0
// Members by tables and schemas, as Go's types read them and openapiconv's ConvertSchema converts
// them. A member of another kind than its type spoils the document, as it does there.
#include "apiserver/aggregate/upgrade_int.h"
#include "object/json.h"

// ---- members

static const struct kl_up_member docs_members[] = {{"description", TEXT}, {"url", TEXT}, {0}};
static const struct kl_up_member docs3_members[] = {{"description", TEXT}, {"url", TEXT_KEPT}, {0}};
static const struct kl_up_member contact_members[] = {
    {"name", TEXT}, {"url", TEXT}, {"email", TEXT}, {0}};
static const struct kl_up_member license_members[] = {{"name", TEXT}, {"url", TEXT}, {0}};
static const struct kl_up_member schema_members[] = {{"id", TEXT},
                                                     {"$schema", TEXT},
                                                     {"description", TEXT},
                                                     {"type", TYPE},
                                                     {"nullable", FLAG},
                                                     {"format", TEXT},
                                                     {"title", TEXT},
                                                     {"default", ANY},
                                                     {"maximum", NUMBER},
                                                     {"exclusiveMaximum", FLAG},
                                                     {"minimum", NUMBER},
                                                     {"exclusiveMinimum", FLAG},
                                                     {"maxLength", WHOLE},
                                                     {"minLength", WHOLE},
                                                     {"pattern", TEXT},
                                                     {"maxItems", WHOLE},
                                                     {"minItems", WHOLE},
                                                     {"uniqueItems", FLAG},
                                                     {"multipleOf", NUMBER},
                                                     {"enum", LIST},
                                                     {"maxProperties", WHOLE},
                                                     {"minProperties", WHOLE},
                                                     {"required", TEXTS},
                                                     {"items", SCHEMA_OR_LIST, true},
                                                     {"allOf", SCHEMAS},
                                                     {"oneOf", SCHEMAS},
                                                     {"anyOf", SCHEMAS},
                                                     {"not", SCHEMA},
                                                     {"properties", NAMED_SCHEMAS, true},
                                                     {"additionalProperties", SCHEMA_OR_BOOL, true},
                                                     {"patternProperties", NAMED_SCHEMAS},
                                                     {"dependencies", DEPENDENCIES},
                                                     {"additionalItems", SCHEMA_OR_BOOL, true},
                                                     {"definitions", NAMED_SCHEMAS},
                                                     {"discriminator", TEXT},
                                                     {"readOnly", FLAG},
                                                     {"externalDocs", DOCS},
                                                     {"example", ANY_FILLED},
                                                     {0}};

// ---- writing

void kl_up_name(struct kl_up *u, bool *some, struct kl_str name)
{
    kl_buf_puts(u->b, *some ? KL_STR(",") : KL_STR(""));
    *some = true;
    kl_json_write_string(u->b, name);
    kl_buf_putc(u->b, ':');
}

void kl_up_item(struct kl_up *u, bool *some)
{
    kl_buf_puts(u->b, *some ? KL_STR(",") : KL_STR(""));
    *some = true;
}

bool kl_up_is(struct kl_up *u, const struct kl_value *v, enum kl_value_kind kind)
{
    bool nothing = !v || v->kind == KL_NULL;
    u->bad |= !nothing && v->kind != kind;
    return !nothing && v->kind == kind;
}

bool kl_up_is_extension(struct kl_str name)
{
    return name.n > 1 && (name.p[0] == 'x' || name.p[0] == 'X') && name.p[1] == '-';
}

void kl_up_extensions(struct kl_up *u, bool *some, const struct kl_value *v)
{
    for (KL_MAP_EACH_KEY(k, kl_is(v, KL_MAP) ? v : NULL))
        if (kl_up_is_extension(kl_text(k))) {
            kl_up_name(u, some, kl_text(k));
            kl_json_write(u->b, &k[1]);
        }
}

static void put_object(struct kl_up *u, bool *some, struct kl_str name, const struct kl_value *v,
                       const struct kl_up_member *m)
{
    bool within = false;
    if (!kl_up_is(u, v, KL_MAP))
        return;
    kl_up_name(u, some, name);
    kl_buf_putc(u->b, '{');
    kl_up_members(u, &within, v, m);
    kl_buf_putc(u->b, '}');
}

// A pointer to a struct that is left out when nothing in it is set.
static void put_filled_object(struct kl_up *u, bool *some, struct kl_str name,
                              const struct kl_value *v, const struct kl_up_member *m)
{
    bool filled = false;
    for (const struct kl_up_member *x = m; kl_up_is(u, v, KL_MAP) && x->name; x++)
        filled |= kl_text(kl_map_value(v, kl_str(x->name))).n > 0;
    if (filled)
        put_object(u, some, name, v, m);
}

static void put_schemas(struct kl_up *u, const struct kl_value *list, bool converts)
{
    bool within = false;
    kl_buf_putc(u->b, '[');
    for (KL_EACH(x, list)) {
        kl_up_item(u, &within);
        kl_up_schema(u, x, converts);
    }
    kl_buf_putc(u->b, ']');
}

static void put_named_schemas(struct kl_up *u, const struct kl_value *map, bool converts)
{
    bool within = false;
    kl_buf_putc(u->b, '{');
    for (KL_MAP_EACH_KEY(k, map)) {
        kl_up_name(u, &within, kl_text(k));
        kl_up_schema(u, &k[1], converts);
    }
    kl_buf_putc(u->b, '}');
}

void kl_up_check_texts(struct kl_up *u, const struct kl_value *list)
{
    for (KL_EACH(x, list))
        u->bad |= !kl_is(x, KL_STRING);
}

// One alone stands without brackets.
static void put_type(struct kl_up *u, const struct kl_value *v)
{
    kl_up_check_texts(u, kl_is(v, KL_ARRAY) ? v : NULL);
    kl_json_write(u->b, kl_is(v, KL_ARRAY) && v->n == 1 ? kl_at(v, 0) : v);
}

static void put_dependencies(struct kl_up *u, const struct kl_value *map)
{
    bool within = false;
    kl_buf_putc(u->b, '{');
    for (KL_MAP_EACH_KEY(k, map)) {
        kl_up_name(u, &within, kl_text(k));
        if (kl_is(&k[1], KL_ARRAY)) {
            kl_up_check_texts(u, &k[1]);
            kl_json_write(u->b, &k[1]);
        } else {
            kl_up_schema(u, &k[1], false);
        }
    }
    kl_buf_putc(u->b, '}');
}

static bool is_filled(const struct kl_value *v)
{
    bool holds = v->kind == KL_STRING || v->kind == KL_MAP || v->kind == KL_ARRAY;
    return !holds || (v->kind == KL_STRING ? kl_text(v).n > 0 : v->n > 0);
}

static void put_raw(struct kl_up *u, bool *some, struct kl_str name, const struct kl_value *v)
{
    kl_up_name(u, some, name);
    kl_json_write(u->b, v);
}

static void put_member(struct kl_up *u, bool *some, const struct kl_up_member *m,
                       const struct kl_value *v)
{
    struct kl_str name = kl_str(m->name);
    if (m->how == TEXT_KEPT) {
        kl_up_name(u, some, name);
        kl_json_write_string(u->b, kl_up_is(u, v, KL_STRING) ? kl_text(v) : KL_STR(""));
        return;
    }
    if (!v || v->kind == KL_NULL)
        return;
    switch (m->how) {
    case TEXT_KEPT:
        break;
    case TEXT:
        if (kl_up_is(u, v, KL_STRING) && kl_text(v).n)
            put_raw(u, some, name, v);
        break;
    case FLAG:
        if (kl_up_is(u, v, KL_BOOL) && v->b)
            put_raw(u, some, name, v);
        break;
    case NUMBER:
        if (v->kind == KL_INT || kl_up_is(u, v, KL_FLOAT))
            put_raw(u, some, name, v);
        break;
    case WHOLE:
        if (kl_up_is(u, v, KL_INT))
            put_raw(u, some, name, v);
        break;
    case ANY:
        put_raw(u, some, name, v);
        break;
    case ANY_FILLED:
        if (is_filled(v))
            put_raw(u, some, name, v);
        break;
    case TEXTS:
        kl_up_check_texts(u, kl_is(v, KL_ARRAY) ? v : NULL);
        // fall through
    case LIST:
        if (kl_up_is(u, v, KL_ARRAY) && v->n)
            put_raw(u, some, name, v);
        break;
    case NAMED_TEXTS:
        for (KL_MAP_EACH_KEY(k, kl_up_is(u, v, KL_MAP) ? v : NULL))
            u->bad |= !kl_is(&k[1], KL_STRING);
        if (v->n && !u->bad)
            put_raw(u, some, name, v);
        break;
    case TYPE:
        if (v->kind == KL_STRING || kl_up_is(u, v, KL_ARRAY)) {
            kl_up_name(u, some, name);
            put_type(u, v);
        }
        break;
    case SCHEMA:
        kl_up_name(u, some, name);
        kl_up_schema(u, v, m->converts);
        break;
    case SCHEMAS:
        if (kl_up_is(u, v, KL_ARRAY) && v->n) {
            kl_up_name(u, some, name);
            put_schemas(u, v, m->converts);
        }
        break;
    case NAMED_SCHEMAS:
        if (kl_up_is(u, v, KL_MAP) && v->n) {
            kl_up_name(u, some, name);
            put_named_schemas(u, v, m->converts);
        }
        break;
    case SCHEMA_OR_BOOL:
        if (kl_is(v, KL_BOOL)) {
            put_raw(u, some, name, v);
        } else if (kl_up_is(u, v, KL_MAP)) {
            kl_up_name(u, some, name);
            kl_up_schema(u, v, m->converts);
        }
        break;
    case SCHEMA_OR_LIST:
        kl_up_name(u, some, name);
        if (kl_is(v, KL_ARRAY))
            put_schemas(u, v, m->converts);
        else if (kl_is(v, KL_MAP))
            kl_up_schema(u, v, m->converts);
        else // read over
            kl_buf_puts(u->b, KL_STR("null"));
        break;
    case DEPENDENCIES:
        if (kl_up_is(u, v, KL_MAP) && v->n) {
            kl_up_name(u, some, name);
            put_dependencies(u, v);
        }
        break;
    case DOCS:
        put_object(u, some, name, v, docs_members);
        break;
    case DOCS3:
        put_object(u, some, name, v, docs3_members);
        break;
    case CONTACT:
        put_filled_object(u, some, name, v, contact_members);
        break;
    case LICENSE:
        put_filled_object(u, some, name, v, license_members);
        break;
    }
}

void kl_up_members(struct kl_up *u, bool *some, const struct kl_value *v,
                   const struct kl_up_member *m)
{
    for (; m->name; m++)
        put_member(u, some, m, kl_map_value(v, kl_str(m->name)));
}

void kl_up_ref(struct kl_up *u, struct kl_str ref, struct kl_str from, struct kl_str to,
               bool drops_front)
{
    const char *at = from.n ? memmem(ref.p, ref.n, from.p, from.n) : NULL;
    struct kl_buf text;
    if (!at) {
        kl_json_write_string(u->b, ref);
        return;
    }
    kl_buf_init(&text, KL_REMOTE_MAX_BYTES);
    if (!drops_front)
        kl_buf_append(&text, ref.p, (size_t)(at - ref.p));
    kl_buf_puts(&text, to);
    kl_buf_append(&text, at + from.n, (size_t)(ref.p + ref.n - at) - from.n);
    u->bad |= text.err != 0;
    kl_json_write_string(u->b, kl_buf_str(&text));
    kl_buf_fini(&text);
}

// ---- schemas

static bool is_schema_member(struct kl_str name)
{
    for (const struct kl_up_member *m = schema_members; m->name; m++)
        if (kl_str_eqz(name, m->name))
            return true;
    return kl_str_eqz(name, "$ref");
}

// Whether Go's value of it differs from that of a schema without it.
static bool is_set(const struct kl_value *v)
{
    return v->kind != KL_NULL && !(v->kind == KL_STRING && !kl_text(v).n) &&
           !(v->kind == KL_BOOL && !v->b);
}

// Flags and texts; false of another member says something.
static bool has_siblings(const struct kl_value *v)
{
    for (KL_MAP_EACH_KEY(k, v)) {
        struct kl_str name = kl_text(k);
        bool says = is_set(&k[1]) || kl_str_eqz(name, "additionalProperties") ||
                    kl_str_eqz(name, "additionalItems") || kl_str_eqz(name, "default") ||
                    kl_str_eqz(name, "example");
        if (!kl_str_eqz(name, "$ref") &&
            (is_schema_member(name) ? says && k[1].kind != KL_NULL : true))
            return true;
    }
    return false;
}

// A reference that does not stand alone is wrapped (builder3's WrapRefs).
void kl_up_schema(struct kl_up *u, const struct kl_value *v, bool converts)
{
    bool some = false;
    kl_buf_putc(u->b, '{');
    if (kl_up_is(u, v, KL_MAP)) {
        struct kl_str ref = kl_text(kl_map_value(v, KL_STR("$ref")));
        bool wraps = ref.n && has_siblings(v);
        for (const struct kl_up_member *m = schema_members; m->name; m++)
            if (!ref.n || strcmp(m->name, "allOf") != 0)
                put_member(u, &some, m, kl_map_value(v, kl_str(m->name)));
        for (KL_MAP_EACH_KEY(k, v))
            if (!is_schema_member(kl_text(k)))
                put_raw(u, &some, kl_text(k), &k[1]);
        if (ref.n) {
            kl_up_item(u, &some);
            kl_buf_puts(u->b, wraps ? KL_STR("\"allOf\":[{\"$ref\":") : KL_STR("\"$ref\":"));
            kl_up_ref(u, ref, converts ? KL_STR("#/definitions/") : KL_STR(""),
                      KL_STR("#/components/schemas/"), true);
            kl_buf_puts(u->b, wraps ? KL_STR("}]") : KL_STR(""));
        }
    }
    kl_buf_putc(u->b, '}');
}
