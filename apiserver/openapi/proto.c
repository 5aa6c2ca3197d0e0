// SPDX-License-Identifier: Apache-2.0
// OpenAPI documents as protobuf: the messages of gnostic (OpenAPIv2.proto, OpenAPIv3.proto), as far
// as Kubernetes' documents use them, in tables. Extensions and values of any kind are YAML text
// there, of which JSON is a part.
#include "apiserver/openapi/openapi_int.h"
#include "object/protobuf.h"

enum { MAX_DEPTH = 200, TEXT_MAX = 64 << 20 };

enum kind { STRING, BOOL, INT, DOUBLE, STRINGS, MESSAGE, MESSAGES, ANY, ANYS, SCALAR };

// How a message is written.
enum way {
    FIELDS,     // by its table; members that begin with x- are extensions
    NAMED,      // every member is a pair of name and value, of field `map`
    REF_OR,     // field 2 when it is a reference, else field 1
    BOOL_OR,    // field 2 when it is true or false, else field 1
    ONE,        // wrapped: field 1
    LIST,       // repeated field 1, from an array or from what stands alone
    STRING_SET, // repeated string 1, likewise
    BY_IN,      // parameters of version 2: field by "in"
};

enum msg {
    NONE,
    // version 2
    V2_DOCUMENT,
    V2_INFO,
    V2_PATHS,
    V2_PATH,
    V2_OP,
    V2_PARAM_ITEM,
    V2_PARAM,
    V2_BODY,
    V2_NON_BODY,
    V2_QUERY,
    V2_PLAIN,
    V2_REF,
    V2_RESPONSES,
    V2_RESPONSE_VALUE,
    V2_RESPONSE,
    V2_SCHEMA_ITEM,
    V2_SCHEMA,
    V2_ADDITIONAL,
    V2_TYPE,
    V2_ITEMS,
    V2_PROPERTIES,
    V2_PARAM_DEFS,
    V2_SECURITY_DEFS,
    V2_SECURITY_DEF,
    V2_API_KEY,
    V2_REQUIREMENT,
    V2_STRING_ARRAY,
    V2_DOCS,
    // version 3
    V3_DOCUMENT,
    V3_INFO,
    V3_PATHS,
    V3_PATH,
    V3_OP,
    V3_PARAM_ITEM,
    V3_PARAM,
    V3_REF,
    V3_BODY_ITEM,
    V3_BODY,
    V3_MEDIA_TYPES,
    V3_MEDIA_TYPE,
    V3_RESPONSES,
    V3_RESPONSE_ITEM,
    V3_RESPONSE,
    V3_SCHEMA_ITEM,
    V3_SCHEMA,
    V3_ADDITIONAL,
    V3_ITEMS,
    V3_PROPERTIES,
    V3_COMPONENTS,
    V3_SECURITY,
    V3_SECURITY_ITEM,
    V3_SECURITY_SCHEME,
};

struct field {
    const char *name;
    uint8_t number, kind, msg;
};

static const struct field v2_document[] = {{"swagger", 1, STRING, 0},
                                           {"info", 2, MESSAGE, V2_INFO},
                                           {"paths", 8, MESSAGE, V2_PATHS},
                                           {"definitions", 9, MESSAGE, V2_PROPERTIES},
                                           {"parameters", 10, MESSAGE, V2_PARAM_DEFS},
                                           {"security", 12, MESSAGES, V2_REQUIREMENT},
                                           {"securityDefinitions", 13, MESSAGE, V2_SECURITY_DEFS},
                                           {NULL, 16, 0, 0}};
static const struct field v2_info[] = {{"title", 1, STRING, 0},
                                       {"version", 2, STRING, 0},
                                       {"description", 3, STRING, 0},
                                       {NULL, 7, 0, 0}};
static const struct field v2_path[] = {{"get", 2, MESSAGE, V2_OP},
                                       {"put", 3, MESSAGE, V2_OP},
                                       {"post", 4, MESSAGE, V2_OP},
                                       {"delete", 5, MESSAGE, V2_OP},
                                       {"options", 6, MESSAGE, V2_OP},
                                       {"head", 7, MESSAGE, V2_OP},
                                       {"patch", 8, MESSAGE, V2_OP},
                                       {"parameters", 9, MESSAGES, V2_PARAM_ITEM},
                                       {NULL, 10, 0, 0}};
static const struct field v2_op[] = {{"tags", 1, STRINGS, 0},
                                     {"description", 3, STRING, 0},
                                     {"operationId", 5, STRING, 0},
                                     {"produces", 6, STRINGS, 0},
                                     {"consumes", 7, STRINGS, 0},
                                     {"parameters", 8, MESSAGES, V2_PARAM_ITEM},
                                     {"responses", 9, MESSAGE, V2_RESPONSES},
                                     {"schemes", 10, STRINGS, 0},
                                     {"deprecated", 11, BOOL, 0},
                                     {NULL, 13, 0, 0}};
static const struct field v2_body[] = {{"description", 1, STRING, 0},
                                       {"name", 2, STRING, 0},
                                       {"in", 3, STRING, 0},
                                       {"required", 4, BOOL, 0},
                                       {"schema", 5, MESSAGE, V2_SCHEMA},
                                       {NULL, 6, 0, 0}};
static const struct field v2_query[] = {{"required", 1, BOOL, 0},      {"in", 2, STRING, 0},
                                        {"description", 3, STRING, 0}, {"name", 4, STRING, 0},
                                        {"type", 6, STRING, 0},        {"format", 7, STRING, 0},
                                        {"uniqueItems", 20, BOOL, 0},  {NULL, 23, 0, 0}};
// Of headers and paths.
static const struct field v2_plain[] = {{"required", 1, BOOL, 0},      {"in", 2, STRING, 0},
                                        {"description", 3, STRING, 0}, {"name", 4, STRING, 0},
                                        {"type", 5, STRING, 0},        {"format", 6, STRING, 0},
                                        {"uniqueItems", 19, BOOL, 0},  {NULL, 22, 0, 0}};
static const struct field ref_fields[] = {{"$ref", 1, STRING, 0}, {NULL, 0, 0, 0}};
static const struct field v2_response[] = {
    {"description", 1, STRING, 0}, {"schema", 2, MESSAGE, V2_SCHEMA_ITEM}, {NULL, 5, 0, 0}};
static const struct field v2_schema[] = {{"$ref", 1, STRING, 0},
                                         {"format", 2, STRING, 0},
                                         {"title", 3, STRING, 0},
                                         {"description", 4, STRING, 0},
                                         {"default", 5, ANY, 0},
                                         {"multipleOf", 6, DOUBLE, 0},
                                         {"maximum", 7, DOUBLE, 0},
                                         {"exclusiveMaximum", 8, BOOL, 0},
                                         {"minimum", 9, DOUBLE, 0},
                                         {"exclusiveMinimum", 10, BOOL, 0},
                                         {"maxLength", 11, INT, 0},
                                         {"minLength", 12, INT, 0},
                                         {"pattern", 13, STRING, 0},
                                         {"maxItems", 14, INT, 0},
                                         {"minItems", 15, INT, 0},
                                         {"uniqueItems", 16, BOOL, 0},
                                         {"maxProperties", 17, INT, 0},
                                         {"minProperties", 18, INT, 0},
                                         {"required", 19, STRINGS, 0},
                                         {"enum", 20, ANYS, 0},
                                         {"additionalProperties", 21, MESSAGE, V2_ADDITIONAL},
                                         {"type", 22, MESSAGE, V2_TYPE},
                                         {"items", 23, MESSAGE, V2_ITEMS},
                                         {"allOf", 24, MESSAGES, V2_SCHEMA},
                                         {"properties", 25, MESSAGE, V2_PROPERTIES},
                                         {"externalDocs", 29, MESSAGE, V2_DOCS},
                                         {"example", 30, ANY, 0},
                                         {NULL, 31, 0, 0}};
static const struct field docs_fields[] = {
    {"description", 1, STRING, 0}, {"url", 2, STRING, 0}, {NULL, 3, 0, 0}};
static const struct field v2_api_key[] = {{"type", 1, STRING, 0},
                                          {"name", 2, STRING, 0},
                                          {"in", 3, STRING, 0},
                                          {"description", 4, STRING, 0},
                                          {NULL, 5, 0, 0}};

static const struct field v3_document[] = {{"openapi", 1, STRING, 0},
                                           {"info", 2, MESSAGE, V3_INFO},
                                           {"paths", 4, MESSAGE, V3_PATHS},
                                           {"components", 5, MESSAGE, V3_COMPONENTS},
                                           {"security", 6, MESSAGES, V2_REQUIREMENT},
                                           {NULL, 9, 0, 0}};
static const struct field v3_info[] = {{"title", 1, STRING, 0},
                                       {"description", 2, STRING, 0},
                                       {"version", 6, STRING, 0},
                                       {NULL, 7, 0, 0}};
static const struct field v3_path[] = {{"get", 4, MESSAGE, V3_OP},
                                       {"put", 5, MESSAGE, V3_OP},
                                       {"post", 6, MESSAGE, V3_OP},
                                       {"delete", 7, MESSAGE, V3_OP},
                                       {"options", 8, MESSAGE, V3_OP},
                                       {"head", 9, MESSAGE, V3_OP},
                                       {"patch", 10, MESSAGE, V3_OP},
                                       {"parameters", 13, MESSAGES, V3_PARAM_ITEM},
                                       {NULL, 14, 0, 0}};
static const struct field v3_op[] = {{"tags", 1, STRINGS, 0},
                                     {"description", 3, STRING, 0},
                                     {"operationId", 5, STRING, 0},
                                     {"parameters", 6, MESSAGES, V3_PARAM_ITEM},
                                     {"requestBody", 7, MESSAGE, V3_BODY_ITEM},
                                     {"responses", 8, MESSAGE, V3_RESPONSES},
                                     {"deprecated", 10, BOOL, 0},
                                     {NULL, 13, 0, 0}};
static const struct field v3_param[] = {{"name", 1, STRING, 0},
                                        {"in", 2, STRING, 0},
                                        {"description", 3, STRING, 0},
                                        {"required", 4, BOOL, 0},
                                        {"schema", 10, MESSAGE, V3_SCHEMA_ITEM},
                                        {NULL, 14, 0, 0}};
static const struct field v3_body[] = {{"description", 1, STRING, 0},
                                       {"content", 2, MESSAGE, V3_MEDIA_TYPES},
                                       {"required", 3, BOOL, 0},
                                       {NULL, 4, 0, 0}};
static const struct field v3_media_type[] = {{"schema", 1, MESSAGE, V3_SCHEMA_ITEM},
                                             {NULL, 5, 0, 0}};
static const struct field v3_response[] = {
    {"description", 1, STRING, 0}, {"content", 3, MESSAGE, V3_MEDIA_TYPES}, {NULL, 5, 0, 0}};
static const struct field v3_schema[] = {{"nullable", 1, BOOL, 0},
                                         {"externalDocs", 6, MESSAGE, V2_DOCS},
                                         {"example", 7, ANY, 0},
                                         {"title", 9, STRING, 0},
                                         {"multipleOf", 10, DOUBLE, 0},
                                         {"maximum", 11, DOUBLE, 0},
                                         {"exclusiveMaximum", 12, BOOL, 0},
                                         {"minimum", 13, DOUBLE, 0},
                                         {"exclusiveMinimum", 14, BOOL, 0},
                                         {"maxLength", 15, INT, 0},
                                         {"minLength", 16, INT, 0},
                                         {"pattern", 17, STRING, 0},
                                         {"maxItems", 18, INT, 0},
                                         {"minItems", 19, INT, 0},
                                         {"uniqueItems", 20, BOOL, 0},
                                         {"maxProperties", 21, INT, 0},
                                         {"minProperties", 22, INT, 0},
                                         {"required", 23, STRINGS, 0},
                                         {"enum", 24, ANYS, 0},
                                         {"type", 25, STRING, 0},
                                         {"allOf", 26, MESSAGES, V3_SCHEMA_ITEM},
                                         {"oneOf", 27, MESSAGES, V3_SCHEMA_ITEM},
                                         {"anyOf", 28, MESSAGES, V3_SCHEMA_ITEM},
                                         {"not", 29, MESSAGE, V3_SCHEMA},
                                         {"items", 30, MESSAGE, V3_ITEMS},
                                         {"properties", 31, MESSAGE, V3_PROPERTIES},
                                         {"additionalProperties", 32, MESSAGE, V3_ADDITIONAL},
                                         {"default", 33, SCALAR, 0},
                                         {"description", 34, STRING, 0},
                                         {"format", 35, STRING, 0},
                                         {NULL, 36, 0, 0}};
static const struct field v3_components[] = {{"schemas", 1, MESSAGE, V3_PROPERTIES},
                                             {"securitySchemes", 7, MESSAGE, V3_SECURITY},
                                             {NULL, 10, 0, 0}};
static const struct field v3_security_scheme[] = {{"type", 1, STRING, 0},
                                                  {"description", 2, STRING, 0},
                                                  {"name", 3, STRING, 0},
                                                  {"in", 4, STRING, 0},
                                                  {NULL, 9, 0, 0}};

// `fields` ends with a row without a name: the number of the extensions. `map` and `value`: of
// NAMED the field and the type of values; of the wrappers what field 1 and field 2 hold.
static const struct message {
    enum way way;
    const struct field *fields;
    uint8_t map, value, other;
} messages[] = {
    [V2_DOCUMENT] = {FIELDS, v2_document, 0, 0, 0},
    [V2_INFO] = {FIELDS, v2_info, 0, 0, 0},
    [V2_PATHS] = {NAMED, NULL, 2, V2_PATH, 0},
    [V2_PATH] = {FIELDS, v2_path, 0, 0, 0},
    [V2_OP] = {FIELDS, v2_op, 0, 0, 0},
    [V2_PARAM_ITEM] = {REF_OR, NULL, 0, V2_PARAM, V2_REF},
    [V2_PARAM] = {BY_IN, NULL, 0, 0, 0},
    [V2_BODY] = {FIELDS, v2_body, 0, 0, 0},
    [V2_NON_BODY] = {BY_IN, NULL, 0, 0, 0},
    [V2_QUERY] = {FIELDS, v2_query, 0, 0, 0},
    [V2_PLAIN] = {FIELDS, v2_plain, 0, 0, 0},
    [V2_REF] = {FIELDS, ref_fields, 0, 0, 0},
    [V2_RESPONSES] = {NAMED, NULL, 1, V2_RESPONSE_VALUE, 0},
    [V2_RESPONSE_VALUE] = {REF_OR, NULL, 0, V2_RESPONSE, V2_REF},
    [V2_RESPONSE] = {FIELDS, v2_response, 0, 0, 0},
    [V2_SCHEMA_ITEM] = {ONE, NULL, 0, V2_SCHEMA, 0},
    [V2_SCHEMA] = {FIELDS, v2_schema, 0, 0, 0},
    [V2_ADDITIONAL] = {BOOL_OR, NULL, 0, V2_SCHEMA, 0},
    [V2_TYPE] = {STRING_SET, NULL, 0, 0, 0},
    [V2_ITEMS] = {LIST, NULL, 0, V2_SCHEMA, 0},
    [V2_PROPERTIES] = {NAMED, NULL, 1, V2_SCHEMA, 0},
    [V2_PARAM_DEFS] = {NAMED, NULL, 1, V2_PARAM, 0},
    [V2_SECURITY_DEFS] = {NAMED, NULL, 1, V2_SECURITY_DEF, 0},
    [V2_SECURITY_DEF] = {ONE, NULL, 2, V2_API_KEY, 0},
    [V2_API_KEY] = {FIELDS, v2_api_key, 0, 0, 0},
    [V2_REQUIREMENT] = {NAMED, NULL, 1, V2_STRING_ARRAY, 0},
    [V2_STRING_ARRAY] = {STRING_SET, NULL, 0, 0, 0},
    [V2_DOCS] = {FIELDS, docs_fields, 0, 0, 0},
    [V3_DOCUMENT] = {FIELDS, v3_document, 0, 0, 0},
    [V3_INFO] = {FIELDS, v3_info, 0, 0, 0},
    [V3_PATHS] = {NAMED, NULL, 1, V3_PATH, 0},
    [V3_PATH] = {FIELDS, v3_path, 0, 0, 0},
    [V3_OP] = {FIELDS, v3_op, 0, 0, 0},
    [V3_PARAM_ITEM] = {REF_OR, NULL, 0, V3_PARAM, V3_REF},
    [V3_PARAM] = {FIELDS, v3_param, 0, 0, 0},
    [V3_REF] = {FIELDS, ref_fields, 0, 0, 0},
    [V3_BODY_ITEM] = {REF_OR, NULL, 0, V3_BODY, V3_REF},
    [V3_BODY] = {FIELDS, v3_body, 0, 0, 0},
    [V3_MEDIA_TYPES] = {NAMED, NULL, 1, V3_MEDIA_TYPE, 0},
    [V3_MEDIA_TYPE] = {FIELDS, v3_media_type, 0, 0, 0},
    [V3_RESPONSES] = {NAMED, NULL, 2, V3_RESPONSE_ITEM, 0},
    [V3_RESPONSE_ITEM] = {REF_OR, NULL, 0, V3_RESPONSE, V3_REF},
    [V3_RESPONSE] = {FIELDS, v3_response, 0, 0, 0},
    [V3_SCHEMA_ITEM] = {REF_OR, NULL, 0, V3_SCHEMA, V3_REF},
    [V3_SCHEMA] = {FIELDS, v3_schema, 0, 0, 0},
    [V3_ADDITIONAL] = {BOOL_OR, NULL, 0, V3_SCHEMA_ITEM, 0},
    [V3_ITEMS] = {LIST, NULL, 0, V3_SCHEMA_ITEM, 0},
    [V3_PROPERTIES] = {NAMED, NULL, 1, V3_SCHEMA_ITEM, 0},
    [V3_COMPONENTS] = {FIELDS, v3_components, 0, 0, 0},
    [V3_SECURITY] = {NAMED, NULL, 1, V3_SECURITY_ITEM, 0},
    [V3_SECURITY_ITEM] = {ONE, NULL, 0, V3_SECURITY_SCHEME, 0},
    [V3_SECURITY_SCHEME] = {FIELDS, v3_security_scheme, 0, 0, 0},
};

// ---- writing

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2 };

static void put_tag(struct kl_buf *b, unsigned number, unsigned wire)
{
    kl_pb_put_varint(b, number << 3 | wire);
}

static void put_text(struct kl_buf *b, unsigned number, struct kl_str s)
{
    put_tag(b, number, WIRE_BYTES);
    kl_pb_put_varint(b, s.n);
    kl_buf_puts(b, s);
}

// What was appended since `from` becomes field `number`.
static void wrap(struct kl_buf *b, size_t from, unsigned number)
{
    size_t n = b->n - from;
    char mem[24];
    struct kl_buf h = {.p = mem, .cap = sizeof mem, .max = sizeof mem};
    put_tag(&h, number, WIRE_BYTES);
    kl_pb_put_varint(&h, n);
    if (kl_buf_append(b, mem, h.n))
        return;
    memmove(b->p + from + h.n, b->p + from, n);
    memcpy(b->p + from, mem, h.n);
}

static void put_message(struct kl_buf *b, enum msg m, const struct kl_value *v, int depth);

static void put_nested(struct kl_buf *b, unsigned number, enum msg m, const struct kl_value *v,
                       int depth)
{
    size_t from = b->n;
    put_message(b, m, v, depth + 1);
    wrap(b, from, number);
}

// Any: field 2 is YAML text.
static void put_any(struct kl_buf *b, unsigned number, const struct kl_value *v)
{
    size_t from = b->n;
    kl_json_write(b, v);
    wrap(b, from, 2);
    wrap(b, from, number);
}

static void put_double(struct kl_buf *b, unsigned number, const struct kl_value *v)
{
    double d = v->kind == KL_FLOAT ? v->d : (double)kl_int_or(v, 0);
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    put_tag(b, number, WIRE_FIXED64);
    for (int i = 0; i < 8; i++)
        kl_buf_putc(b, (char)(bits >> (8 * i) & 0xff));
}

// DefaultType of version 3: a number, a boolean or a string; of others only that there is one.
static void put_scalar(struct kl_buf *b, unsigned number, const struct kl_value *v)
{
    size_t from = b->n;
    if (v->kind == KL_STRING) {
        put_text(b, 3, kl_text(v));
    } else if (v->kind == KL_BOOL) {
        put_tag(b, 2, WIRE_VARINT);
        kl_pb_put_varint(b, v->b);
    } else if (v->kind == KL_INT || v->kind == KL_FLOAT) {
        put_double(b, 1, v);
    }
    wrap(b, from, number);
}

static int64_t whole_of(const struct kl_value *v)
{
    if (v->kind != KL_FLOAT)
        return kl_int_or(v, 0);
    return v->d >= -0x1p63 && v->d < 0x1p63 ? (int64_t)v->d : INT64_MIN;
}

static void put_field(struct kl_buf *b, const struct field *f, const struct kl_value *v, int depth)
{
    switch ((enum kind)f->kind) {
    case STRING:
        if (kl_text(v).n)
            put_text(b, f->number, kl_text(v));
        break;
    case BOOL:
        if (kl_is_true(v)) {
            put_tag(b, f->number, WIRE_VARINT);
            kl_pb_put_varint(b, 1);
        }
        break;
    case INT:
        put_tag(b, f->number, WIRE_VARINT);
        kl_pb_put_varint(b, (uint64_t)whole_of(v));
        break;
    case DOUBLE:
        put_double(b, f->number, v);
        break;
    case STRINGS:
        for (KL_EACH(x, v))
            put_text(b, f->number, kl_text(x));
        break;
    case MESSAGE:
        put_nested(b, f->number, f->msg, v, depth);
        break;
    case MESSAGES:
        for (KL_EACH(x, v))
            put_nested(b, f->number, f->msg, x, depth);
        break;
    case ANY:
        put_any(b, f->number, v);
        break;
    case ANYS:
        for (KL_EACH(x, v))
            put_any(b, f->number, x);
        break;
    case SCALAR:
        put_scalar(b, f->number, v);
        break;
    }
}

static void put_extension(struct kl_buf *b, unsigned number, struct kl_str name,
                          const struct kl_value *v)
{
    size_t from = b->n;
    put_text(b, 1, name);
    put_any(b, 2, v);
    wrap(b, from, number);
}

static void put_fields(struct kl_buf *b, const struct field *fields, const struct kl_value *v,
                       int depth)
{
    for (KL_MAP_EACH_KEY(k, kl_is(v, KL_MAP) ? v : NULL)) {
        struct kl_str name = kl_text(&k[0]);
        const struct field *f = fields;
        while (f->name && !kl_str_eqz(name, f->name))
            f++;
        if (f->name)
            put_field(b, f, &k[1], depth);
        else if (f->number && kl_str_starts(name, KL_STR("x-")))
            put_extension(b, f->number, name, &k[1]);
    }
}

// body, or header, formData, query and path, which are wrapped once more.
static void put_by_in(struct kl_buf *b, enum msg m, const struct kl_value *v, int depth)
{
    struct kl_str in = kl_text(kl_map_value(v, KL_STR("in")));
    if (m == V2_PARAM)
        put_nested(b, kl_str_eqz(in, "body") ? 1 : 2,
                   kl_str_eqz(in, "body") ? V2_BODY : V2_NON_BODY, v, depth);
    else if (kl_str_eqz(in, "query") || kl_str_eqz(in, "formData"))
        put_nested(b, kl_str_eqz(in, "query") ? 3 : 2, V2_QUERY, v, depth);
    else
        put_nested(b, kl_str_eqz(in, "header") ? 1 : 4, V2_PLAIN, v, depth);
}

static void put_message(struct kl_buf *b, enum msg m, const struct kl_value *v, int depth)
{
    const struct message *x = &messages[m];
    if (depth > MAX_DEPTH) {
        b->err = KL_ETOOLARGE;
        return;
    }
    switch (x->way) {
    case FIELDS:
        put_fields(b, x->fields, v, depth);
        break;
    case NAMED:
        for (KL_MAP_EACH_KEY(k, kl_is(v, KL_MAP) ? v : NULL)) {
            size_t from = b->n;
            put_text(b, 1, kl_text(&k[0]));
            put_nested(b, 2, x->value, &k[1], depth);
            wrap(b, from, x->map);
        }
        break;
    case REF_OR:
        if (kl_map_value(v, KL_STR("$ref")))
            put_nested(b, 2, x->other, v, depth);
        else
            put_nested(b, 1, x->value, v, depth);
        break;
    case BOOL_OR:
        if (v->kind == KL_BOOL) {
            put_tag(b, 2, WIRE_VARINT);
            kl_pb_put_varint(b, v->b);
        } else {
            put_nested(b, 1, x->value, v, depth);
        }
        break;
    case ONE:
        put_nested(b, x->map ? x->map : 1, x->value, v, depth);
        break;
    case LIST:
        if (v->kind != KL_ARRAY)
            put_nested(b, 1, x->value, v, depth);
        for (KL_EACH(i, v->kind == KL_ARRAY ? v : NULL))
            put_nested(b, 1, x->value, i, depth);
        break;
    case STRING_SET:
        if (v->kind == KL_STRING)
            put_text(b, 1, kl_text(v));
        for (KL_EACH(i, v->kind == KL_ARRAY ? v : NULL))
            put_text(b, 1, kl_text(i));
        break;
    case BY_IN:
        put_by_in(b, m, v, depth);
        break;
    }
}

int kl_oa_proto(struct kl_buf *out, enum kl_oa_message m, struct kl_str json)
{
    struct kl_arena a;
    struct kl_value v;
    struct kl_error err = {0};
    kl_arena_init(&a, TEXT_MAX);
    int rc = kl_json_parse(&a, json, NULL, &v, &err);
    if (!rc)
        put_message(out, m == KL_OA_MSG_V2 ? V2_DOCUMENT : V3_DOCUMENT, &v, 0);
    kl_arena_fini(&a);
    return rc ? rc : out->err;
}
