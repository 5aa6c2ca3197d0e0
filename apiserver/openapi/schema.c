// SPDX-License-Identifier: Apache-2.0
// Definitions from the schema tables. Version 2 knows no defaults and no siblings of a reference
// that mean anything; version 3 has both.
#include "apiserver/openapi/facts_int.h"
#include "apiserver/openapi/openapi_int.h"
#include "apiserver/served.h"
#include <stdlib.h>

int kl_oa_types_init(struct kl_oa_types *t, const struct kl_apiserver *srv)
{
    *t = (struct kl_oa_types){
        .srv = srv, .queue = calloc(kl_ntypes, sizeof *t->queue), .seen = calloc(kl_ntypes, 1)};
    if (t->queue && t->seen)
        return 0;
    kl_oa_types_fini(t);
    return KL_ENOMEM;
}

void kl_oa_types_fini(struct kl_oa_types *t)
{
    free(t->queue);
    free(t->seen);
    *t = (struct kl_oa_types){0};
}

void kl_oa_want(struct kl_oa_types *t, const struct kl_type *type)
{
    // kl_types holds the named ones in the order of the table.
    size_t i = (size_t)(type - kl_type_table);
    if (!kl_type_is_builtin(type) || i >= kl_ntypes || t->seen[i])
        return;
    t->seen[i] = 1;
    t->queue[t->n++] = (uint16_t)i;
}

void kl_oa_want_name(struct kl_oa_types *t, struct kl_str name)
{
    const struct kl_type *type = kl_type_by_name(name);
    if (type)
        kl_oa_want(t, type);
}

struct out {
    struct kl_buf *b;
    struct kl_oa_types *t;
    const struct kl_oa_texts *texts;
    bool v2;
};

// The comma before a member, unless it is the first.
static void put_sep(struct out *o)
{
    if (o->b->n && o->b->p[o->b->n - 1] != '{')
        kl_buf_putc(o->b, ',');
}

static void put_text(struct out *o, struct kl_str text)
{
    if (!text.n)
        return;
    put_sep(o);
    kl_buf_puts(o->b, KL_STR("\"description\":\""));
    kl_buf_puts(o->b, text);
    kl_buf_putc(o->b, '"');
}

static bool is_named(const struct kl_type *t)
{
    return t->name && t->in_openapi;
}

static const char *zero_of(const struct kl_type *t)
{
    switch (t->kind) {
    case KL_T_STRING:
        return "\"\"";
    case KL_T_INTEGER:
    case KL_T_NUMBER:
        return "0";
    case KL_T_BOOLEAN:
        return "false";
    case KL_T_STRUCT:
        return "{}";
    default:
        return NULL;
    }
}

static void put_shape(struct out *o, const struct kl_type *t, const char *const *values);

// A reference; in version 3 in an allOf of its own when something stands beside it.
static void put_ref(struct out *o, const struct kl_type *t, bool wrap)
{
    kl_oa_want(o->t, t);
    wrap &= !o->v2;
    put_sep(o);
    kl_buf_printf(o->b, wrap ? "\"allOf\":[{\"$ref\":\"%s%s\"}]" : "\"$ref\":\"%s%s\"",
                  kl_oa_place(o->v2), t->name);
}

// Items of an array or values of a map: never unset, so their zero is their default.
static void put_elem(struct out *o, const char *member, const struct kl_type *t,
                     const char *const *values)
{
    const char *zero = o->v2 ? NULL : zero_of(t);
    kl_buf_printf(o->b, ",\"%s\":{", member);
    if (is_named(t))
        put_ref(o, t, zero != NULL);
    else
        put_shape(o, t, values);
    if (zero)
        kl_buf_printf(o->b, ",\"default\":%s", zero);
    kl_buf_putc(o->b, '}');
}

static void put_enum(struct kl_buf *b, const char *const *values)
{
    if (!values)
        return;
    kl_buf_puts(b, KL_STR(",\"enum\":["));
    for (size_t i = 0; values[i]; i++) {
        if (i)
            kl_buf_putc(b, ',');
        kl_json_write_string(b, kl_str(values[i]));
    }
    kl_buf_putc(b, ']');
}

static void put_word(struct out *o, const char *members)
{
    put_sep(o);
    kl_buf_puts(o->b, kl_str(members));
}

// What a type is, without a name. `values` are those of a closed set.
static void put_shape(struct out *o, const struct kl_type *t, const char *const *values)
{
    switch (t->kind) {
    case KL_T_STRING:
        put_word(o, "\"type\":\"string\"");
        put_enum(o->b, values);
        break;
    case KL_T_INTEGER:
        put_word(o, t->format == KL_FMT_INT32 ? "\"type\":\"integer\",\"format\":\"int32\""
                                              : "\"type\":\"integer\",\"format\":\"int64\"");
        break;
    case KL_T_NUMBER:
        put_word(o, "\"type\":\"number\",\"format\":\"double\"");
        break;
    case KL_T_BOOLEAN:
        put_word(o, "\"type\":\"boolean\"");
        break;
    case KL_T_BYTES:
        put_word(o, "\"type\":\"string\",\"format\":\"byte\"");
        break;
    case KL_T_ARRAY:
        put_word(o, "\"type\":\"array\"");
        put_elem(o, "items", t->elem, values);
        break;
    case KL_T_MAP:
        put_word(o, "\"type\":\"object\"");
        put_elem(o, "additionalProperties", t->elem, values);
        break;
    case KL_T_TIME:
    case KL_T_MICROTIME:
        put_word(o, "\"type\":\"string\",\"format\":\"date-time\"");
        break;
    case KL_T_QUANTITY:
        put_word(o, o->v2 ? "\"type\":\"string\""
                          : "\"oneOf\":[{\"type\":\"string\"},{\"type\":\"number\"}]");
        break;
    case KL_T_INT_OR_STRING:
        put_word(o, "\"format\":\"int-or-string\"");
        put_word(o, o->v2 ? "\"type\":\"string\""
                          : "\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]");
        break;
    case KL_T_DURATION:
        put_word(o, "\"type\":\"string\"");
        break;
    case KL_T_FIELDS_V1:
    case KL_T_RAW_EXTENSION:
    case KL_T_UNKNOWN:
    case KL_T_STRUCT:
        put_word(o, "\"type\":\"object\"");
        break;
    default: // any JSON: no word about its type
        break;
    }
}

static void put_list_extensions(struct kl_buf *b, const struct kl_field *f)
{
    static const char *const names[] = {NULL, "atomic", "set", "map"};
    if (f->list_type) {
        kl_buf_printf(b, ",\"x-kubernetes-list-type\":\"%s\"", names[f->list_type]);
        for (size_t i = 0; f->list_map_keys && f->list_map_keys[i]; i++)
            kl_buf_printf(b, "%s\"%.*s\"%s", i ? "," : ",\"x-kubernetes-list-map-keys\":[",
                          KL_PRI(kl_sym_name(f->list_map_keys[i])),
                          f->list_map_keys[i + 1] ? "" : "]");
    }
    if (f->merge_key)
        kl_buf_printf(b, ",\"x-kubernetes-patch-merge-key\":\"%.*s\"",
                      KL_PRI(kl_sym_name(f->merge_key)));
    if (f->flags & (KL_FIELD_PATCH_MERGE | KL_FIELD_PATCH_RETAIN_KEYS | KL_FIELD_PATCH_REPLACE)) {
        bool merge = f->flags & KL_FIELD_PATCH_MERGE, keep = f->flags & KL_FIELD_PATCH_RETAIN_KEYS;
        kl_buf_printf(b, ",\"x-kubernetes-patch-strategy\":\"%s%s%s\"",
                      merge                               ? "merge"
                      : f->flags & KL_FIELD_PATCH_REPLACE ? "replace"
                                                          : "",
                      merge && keep ? "," : "", keep ? "retainKeys" : "");
    }
}

// The default that version 3 shows: the schema's, or zero where unset cannot be told from it.
static const char *default_of(const struct kl_field *f)
{
    if (f->default_json)
        return f->default_json;
    if (f->flags & KL_FIELD_PTR)
        return NULL;
    if (f->type->kind == KL_T_STRUCT)
        return "{}";
    return f->flags & KL_FIELD_EMIT_ALWAYS && !is_named(f->type) ? zero_of(f->type) : NULL;
}

static void put_field(struct out *o, const struct kl_type *in, int at)
{
    const struct kl_field *f = &in->fields[at];
    const char *def = o->v2 ? NULL : default_of(f);
    struct kl_str text = kl_oa_text(o->texts, in, at);
    kl_buf_printf(o->b, "\"%.*s\":{", KL_PRI(kl_sym_name(f->sym)));
    put_text(o, text);
    if (is_named(f->type))
        put_ref(o, f->type, def || text.n);
    else
        put_shape(o, f->type, f->flags & KL_FIELD_ENUM_CLOSED ? f->values : NULL);
    if (def)
        kl_buf_printf(o->b, ",\"default\":%s", def);
    put_list_extensions(o->b, f);
    if (f->type->kind == KL_T_MAP && f->type->map_atomic)
        kl_buf_puts(o->b, KL_STR(",\"x-kubernetes-map-type\":\"atomic\""));
    for (const struct kl_oa_granular *g = kl_oa_granular; g->type; g++)
        if (!strcmp(g->type, in->name) && kl_str_eqz(kl_sym_name(f->sym), g->field))
            kl_buf_puts(o->b, KL_STR(",\"x-kubernetes-map-type\":\"granular\""));
    kl_buf_putc(o->b, '}');
}

const char *kl_oa_version(const struct kl_apiserver *srv, const struct kl_group *g, size_t i)
{
    if (srv)
        return kl_served_version(srv, g, i);
    for (size_t k = 0; g->enabled && g->enabled[k]; k++)
        if (k == i)
            return g->enabled[k];
    return NULL;
}

static int compare_fact(const void *key, const void *fact)
{
    return strcmp(key, ((const struct kl_oa_fact *)fact)->name);
}

// A kind of every group has the name of this document's too.
static void put_facts(struct out *o, const struct kl_type *t, struct kl_str group,
                      struct kl_str version)
{
    const struct kl_oa_fact *f =
        bsearch(t->name, kl_oa_facts, kl_oa_nfacts, sizeof *kl_oa_facts, compare_fact);
    if (!f)
        return;
    const char *kind = strrchr(t->name, '.') + 1;
    if (f->gvks && f->every_group) {
        kl_buf_printf(o->b, ",\"x-kubernetes-group-version-kind\":[%.*s", (int)strlen(f->gvks) - 2,
                      f->gvks + 1);
        for (uint16_t i = 0; i < kl_ngroups; i++) {
            const struct kl_group *g = &kl_groups[i];
            const char *has;
            for (size_t k = 0; *g->name && (has = kl_oa_version(o->t->srv, g, k)); k++)
                if (o->v2 || (kl_str_eqz(group, g->name) && kl_str_eqz(version, has)))
                    kl_buf_printf(o->b, ",{\"group\":\"%s\",\"kind\":\"%s\",\"version\":\"%s\"}",
                                  g->name, kind, has);
        }
        kl_buf_putc(o->b, ']');
    } else if (f->gvks) {
        kl_buf_printf(o->b, ",\"x-kubernetes-group-version-kind\":%s", f->gvks);
    }
    if (f->unions)
        kl_buf_printf(o->b, ",\"x-kubernetes-unions\":%s", f->unions);
}

void kl_oa_put_schema(struct kl_buf *b, struct kl_oa_types *types, const struct kl_oa_texts *texts,
                      const struct kl_type *t, bool v2, struct kl_str group, struct kl_str version)
{
    struct out o = {b, types, texts, v2};
    kl_buf_printf(b, "\"%s\":{", t->name);
    put_text(&o, kl_oa_text(texts, t, -1));
    put_shape(&o, t, NULL);
    if (t->kind == KL_T_STRUCT && t->nfields) {
        bool first = true;
        for (uint16_t i = 0; i < t->nfields; i++) {
            if (!(t->fields[i].flags & KL_FIELD_REQUIRED))
                continue;
            kl_buf_printf(b, "%s\"%.*s\"", first ? ",\"required\":[" : ",",
                          KL_PRI(kl_sym_name(t->fields[i].sym)));
            first = false;
        }
        kl_buf_puts(b, first ? KL_STR(",\"properties\":{") : KL_STR("],\"properties\":{"));
        for (uint16_t i = 0; i < t->nfields; i++) {
            if (i)
                kl_buf_putc(b, ',');
            put_field(&o, t, i);
        }
        kl_buf_putc(b, '}');
    }
    if (t->map_atomic)
        kl_buf_puts(b, KL_STR(",\"x-kubernetes-map-type\":\"atomic\""));
    put_facts(&o, t, group, version);
    kl_buf_putc(b, '}');
}
