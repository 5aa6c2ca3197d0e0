// SPDX-License-Identifier: Apache-2.0
// /openapi/v3: one document for each group version, written from the schema tables when it is asked
// for and kept nowhere.
#include "apiserver/discovery.h"
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

enum { DOC_MAX = 32 << 20 };

struct doc {
    struct kl_buf b;
    const struct kl_type **queue; // types met, in order; written from `done` on
    size_t n, cap, done;
};

// ---- schemas

static void want_type(struct doc *d, const struct kl_type *t)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->queue[i] == t)
            return;
    if (d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 256;
        const struct kl_type **q = realloc(d->queue, cap * sizeof *q);
        if (!q) {
            d->b.err = KL_ENOMEM;
            return;
        }
        d->queue = q;
        d->cap = cap;
    }
    d->queue[d->n++] = t;
}

static void put_ref(struct doc *d, const struct kl_type *t)
{
    want_type(d, t);
    kl_buf_printf(&d->b, "\"$ref\":\"#/components/schemas/%s\"", t->name);
}

static const char *integer_format(const struct kl_type *t)
{
    return t->format == KL_FMT_INT32 ? "int32" : "int64";
}

static void put_type(struct doc *d, const struct kl_type *t);

static void put_inline(struct doc *d, const struct kl_type *t)
{
    struct kl_buf *b = &d->b;
    switch (t->kind) {
    case KL_T_STRING:
        kl_buf_puts(b, KL_STR("\"type\":\"string\",\"default\":\"\""));
        break;
    case KL_T_INTEGER:
        kl_buf_printf(b, "\"type\":\"integer\",\"format\":\"%s\"", integer_format(t));
        break;
    case KL_T_NUMBER:
        kl_buf_puts(b, KL_STR("\"type\":\"number\",\"format\":\"double\""));
        break;
    case KL_T_BOOLEAN:
        kl_buf_puts(b, KL_STR("\"type\":\"boolean\""));
        break;
    case KL_T_BYTES:
        kl_buf_puts(b, KL_STR("\"type\":\"string\",\"format\":\"byte\""));
        break;
    case KL_T_ARRAY:
        kl_buf_puts(b, KL_STR("\"type\":\"array\",\"items\":{"));
        put_type(d, t->elem);
        kl_buf_putc(b, '}');
        break;
    case KL_T_MAP:
        kl_buf_puts(b, KL_STR("\"type\":\"object\",\"additionalProperties\":{"));
        put_type(d, t->elem);
        kl_buf_putc(b, '}');
        break;
    case KL_T_TIME:
    case KL_T_MICROTIME:
        kl_buf_puts(b, KL_STR("\"type\":\"string\",\"format\":\"date-time\""));
        break;
    case KL_T_QUANTITY:
        kl_buf_puts(b, KL_STR("\"oneOf\":[{\"type\":\"string\"},{\"type\":\"number\"}]"));
        break;
    case KL_T_INT_OR_STRING:
        kl_buf_puts(b, KL_STR("\"format\":\"int-or-string\","
                              "\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]"));
        break;
    case KL_T_DURATION:
        kl_buf_puts(b, KL_STR("\"type\":\"string\""));
        break;
    case KL_T_FIELDS_V1:
    case KL_T_RAW_EXTENSION:
    case KL_T_STRUCT:
        kl_buf_puts(b, KL_STR("\"type\":\"object\""));
        break;
    default: // any JSON
        kl_buf_puts(b, KL_STR("\"description\":\"any JSON value\""));
        break;
    }
}

// A named type is a component of its own, but for the scalars that upstream names (Time, Quantity):
// those are components too.
static void put_type(struct doc *d, const struct kl_type *t)
{
    if (t->name)
        put_ref(d, t);
    else
        put_inline(d, t);
}

static void put_list_extensions(struct kl_buf *b, const struct kl_field *f)
{
    static const char *const names[] = {NULL, "atomic", "set", "map"};
    if (f->list_type) {
        kl_buf_printf(b, ",\"x-kubernetes-list-type\":\"%s\"", names[f->list_type]);
        if (f->list_map_keys) {
            kl_buf_puts(b, KL_STR(",\"x-kubernetes-list-map-keys\":["));
            for (size_t i = 0; f->list_map_keys[i]; i++)
                kl_buf_printf(b, "%s\"%.*s\"", i ? "," : "",
                              KL_PRI(kl_sym_name(f->list_map_keys[i])));
            kl_buf_putc(b, ']');
        }
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

static void put_field(struct doc *d, const struct kl_field *f)
{
    struct kl_buf *b = &d->b;
    kl_buf_printf(b, "\"%.*s\":{", KL_PRI(kl_sym_name(f->sym)));
    // A reference stands in allOf, so that the field can say more than its type does.
    if (f->type->name) {
        kl_buf_puts(b, KL_STR("\"allOf\":[{"));
        put_ref(d, f->type);
        kl_buf_puts(b, KL_STR("}]"));
        if (f->default_json)
            kl_buf_printf(b, ",\"default\":%s", f->default_json);
    } else {
        put_inline(d, f->type);
        if (f->default_json && f->type->kind != KL_T_STRING)
            kl_buf_printf(b, ",\"default\":%s", f->default_json);
    }
    if ((f->flags & KL_FIELD_ENUM_CLOSED) && f->values && f->type->kind == KL_T_STRING) {
        kl_buf_puts(b, KL_STR(",\"enum\":["));
        for (size_t i = 0; f->values[i]; i++)
            kl_buf_printf(b, "%s\"%s\"", i ? "," : "", f->values[i]);
        kl_buf_putc(b, ']');
    }
    put_list_extensions(b, f);
    kl_buf_putc(b, '}');
}

static void put_gvks(struct kl_buf *b, const struct kl_type *t)
{
    bool first = true;
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *r = &kl_resources[i];
        if (r->type != t && r->list_type != t)
            continue;
        kl_buf_printf(b, "%s{\"group\":\"%s\",\"kind\":\"%s%s\",\"version\":\"%s\"}",
                      first ? ",\"x-kubernetes-group-version-kind\":[" : ",", r->group, r->kind,
                      r->list_type == t && r->type != t ? "List" : "", r->version);
        first = false;
    }
    if (!first)
        kl_buf_putc(b, ']');
}

static void put_schema(struct doc *d, const struct kl_type *t)
{
    struct kl_buf *b = &d->b;
    kl_buf_printf(b, "\"%s\":{", t->name);
    put_inline(d, t);
    if (t->kind == KL_T_STRUCT) {
        bool first = true;
        for (uint16_t i = 0; i < t->nfields; i++) {
            if (!(t->fields[i].flags & KL_FIELD_REQUIRED))
                continue;
            kl_buf_printf(b, "%s\"%.*s\"", first ? ",\"required\":[" : ",",
                          KL_PRI(kl_sym_name(t->fields[i].sym)));
            first = false;
        }
        if (!first)
            kl_buf_putc(b, ']');
        kl_buf_puts(b, KL_STR(",\"properties\":{"));
        for (uint16_t i = 0; i < t->nfields; i++) {
            if (i)
                kl_buf_putc(b, ',');
            put_field(d, &t->fields[i]);
        }
        kl_buf_putc(b, '}');
        if (t->map_atomic)
            kl_buf_puts(b, KL_STR(",\"x-kubernetes-map-type\":\"atomic\""));
        put_gvks(b, t);
    }
    kl_buf_putc(b, '}');
}

// ---- paths

static const struct {
    enum kl_verb verb;
    const char *method, *action;
    bool item; // on the path with a name
} operations[] = {
    {KL_VERB_LIST, "get", "list", false},
    {KL_VERB_CREATE, "post", "post", false},
    {KL_VERB_DELETECOLLECTION, "delete", "deletecollection", false},
    {KL_VERB_GET, "get", "get", true},
    {KL_VERB_UPDATE, "put", "put", true},
    {KL_VERB_PATCH, "patch", "patch", true},
    {KL_VERB_DELETE, "delete", "delete", true},
};

static void put_parameters(struct kl_buf *b, enum kl_verb v)
{
    static const char *const write[] = {"dryRun", "fieldManager", "fieldValidation", NULL};
    static const char *const patch[] = {"dryRun", "fieldManager", "fieldValidation", "force", NULL};
    static const char *const list[] = {"allowWatchBookmarks",
                                       "continue",
                                       "fieldSelector",
                                       "labelSelector",
                                       "limit",
                                       "resourceVersion",
                                       "resourceVersionMatch",
                                       "sendInitialEvents",
                                       "timeoutSeconds",
                                       "watch",
                                       NULL};
    static const char *const remove[] = {"dryRun", "gracePeriodSeconds", "orphanDependents",
                                         "propagationPolicy", NULL};
    const char *const *names = v == KL_VERB_PATCH                                     ? patch
                               : v == KL_VERB_CREATE || v == KL_VERB_UPDATE           ? write
                               : v == KL_VERB_LIST                                    ? list
                               : v == KL_VERB_DELETE || v == KL_VERB_DELETECOLLECTION ? remove
                                                                                      : NULL;
    kl_buf_puts(b, KL_STR("\"parameters\":["));
    for (size_t i = 0; names && names[i]; i++)
        kl_buf_printf(b,
                      "%s{\"name\":\"%s\",\"in\":\"query\",\"schema\":{\"type\":\"string\","
                      "\"uniqueItems\":true}}",
                      i ? "," : "", names[i]);
    kl_buf_putc(b, ']');
}

static void put_body(struct doc *d, const struct kl_type *t, bool patch)
{
    struct kl_buf *b = &d->b;
    static const char *const patches[] = {
        "application/apply-patch+yaml", "application/json-patch+json",
        "application/merge-patch+json", "application/strategic-merge-patch+json"};
    kl_buf_puts(b, KL_STR(",\"requestBody\":{\"required\":true,\"content\":{"));
    if (patch) {
        for (size_t i = 0; i < KL_COUNT(patches); i++)
            kl_buf_printf(b, "%s\"%s\":{\"schema\":{\"type\":\"object\"}}", i ? "," : "",
                          patches[i]);
    } else {
        kl_buf_puts(b, KL_STR("\"*/*\":{\"schema\":{"));
        put_ref(d, t);
        kl_buf_puts(b, KL_STR("}}"));
    }
    kl_buf_puts(b, KL_STR("}}"));
}

static void put_operation(struct doc *d, const struct kl_resource *r, const struct kl_type *t,
                          const char *kind, size_t op, const char *sub)
{
    struct kl_buf *b = &d->b;
    enum kl_verb v = operations[op].verb;
    const struct kl_type *answer = v == KL_VERB_LIST && r->list_type ? r->list_type : t;
    kl_buf_printf(b, "\"%s\":{\"operationId\":\"%s%s%s%s%s%s\",\"tags\":[\"%s%s%s\"],",
                  operations[op].method, operations[op].action, *r->group ? r->group : "Core",
                  r->version, r->namespaced ? "Namespaced" : "", r->kind, sub,
                  *r->group ? r->group : "core", "_", r->version);
    put_parameters(b, v);
    if (t && (v == KL_VERB_CREATE || v == KL_VERB_UPDATE || v == KL_VERB_PATCH))
        put_body(d, t, v == KL_VERB_PATCH);
    kl_buf_puts(b, KL_STR(",\"responses\":{\"200\":{\"description\":\"OK\""));
    if (answer) {
        kl_buf_puts(b, KL_STR(",\"content\":{\"application/json\":{\"schema\":{"));
        put_ref(d, answer);
        kl_buf_puts(b, KL_STR("}}}"));
    }
    kl_buf_puts(b, KL_STR("},\"401\":{\"description\":\"Unauthorized\"}}"));
    kl_buf_printf(b,
                  ",\"x-kubernetes-action\":\"%s\",\"x-kubernetes-group-version-kind\":{\"group\":"
                  "\"%s\",\"version\":\"%s\",\"kind\":\"%s\"}}",
                  operations[op].action, r->group, r->version, kind);
}

static bool put_path(struct doc *d, const struct kl_resource *r, bool item,
                     const struct kl_subresource *s, bool first)
{
    struct kl_buf *b = &d->b;
    uint32_t verbs = s ? s->verbs : r->verbs;
    bool any = false;
    for (size_t i = 0; i < KL_COUNT(operations); i++)
        any |= operations[i].item == item && (verbs & KL_VERB_BIT(operations[i].verb));
    if (!any)
        return false;
    kl_buf_printf(b, "%s\"/%s/%s%s%s/%s%s%s%s%s\":{", first ? "" : ",", *r->group ? "apis" : "api",
                  r->group, *r->group ? "/" : "", r->version,
                  r->namespaced ? "namespaces/{namespace}/" : "", r->plural, item ? "/{name}" : "",
                  s ? "/" : "", s ? s->name : "");
    any = false;
    for (size_t i = 0; i < KL_COUNT(operations); i++) {
        if (operations[i].item != item || !(verbs & KL_VERB_BIT(operations[i].verb)))
            continue;
        if (any)
            kl_buf_putc(b, ',');
        put_operation(d, r, s ? s->type : r->type, s ? s->kind : r->kind, i, s ? s->name : "");
        any = true;
    }
    kl_buf_putc(b, '}');
    return true;
}

static bool put_document(struct doc *d, const char *group, const char *version)
{
    struct kl_buf *b = &d->b;
    bool first = true;
    kl_buf_puts(b, KL_STR("{\"openapi\":\"3.0.0\",\"info\":{\"title\":\"Kubernetes\",\"version\":"
                          "\"" KL_K8S_VERSION "\"},\"paths\":{"));
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *r = &kl_resources[i];
        if (!r->enabled || strcmp(r->group, group) || strcmp(r->version, version))
            continue;
        if (put_path(d, r, false, NULL, first))
            first = false;
        if (put_path(d, r, true, NULL, first))
            first = false;
        for (uint16_t k = 0; k < r->nsubresources; k++)
            if (r->subresources[k].type && put_path(d, r, true, &r->subresources[k], first))
                first = false;
    }
    kl_buf_puts(b, KL_STR("},\"components\":{\"schemas\":{"));
    for (d->done = 0; d->done < d->n; d->done++) {
        if (d->done)
            kl_buf_putc(b, ',');
        put_schema(d, d->queue[d->done]);
    }
    kl_buf_puts(b, KL_STR("},\"securitySchemes\":{\"BearerToken\":{\"type\":\"apiKey\",\"name\":"
                          "\"authorization\",\"in\":\"header\"}}}}"));
    return !first;
}

// The tables never change while the server runs: a version of them is enough of a hash.
static void put_hash(struct kl_buf *b, const char *group, const char *version)
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    struct kl_arena a;
    kl_arena_init(&a, 4096);
    struct kl_str s = kl_arena_printf(&a, "%s/%s/%s/1", group, version, KL_K8S_VERSION);
    SHA256((const unsigned char *)s.p, s.n, sum);
    for (int i = 0; i < 16; i++)
        kl_buf_printf(b, "%02X", sum[i]);
    kl_arena_fini(&a);
}

static void put_index(struct kl_buf *b)
{
    bool first = true;
    kl_buf_puts(b, KL_STR("{\"paths\":{"));
    for (uint16_t i = 0; i < kl_ngroups; i++) {
        const struct kl_group *g = &kl_groups[i];
        for (size_t k = 0; g->enabled && g->enabled[k]; k++) {
            const char *root = *g->name ? "apis/" : "api", *slash = *g->name ? "/" : "/";
            kl_buf_printf(b, "%s\"%s%s%s%s\":{\"serverRelativeURL\":\"/openapi/v3/%s%s%s%s?hash=",
                          first ? "" : ",", root, g->name, slash, g->enabled[k], root, g->name,
                          slash, g->enabled[k]);
            put_hash(b, g->name, g->enabled[k]);
            kl_buf_puts(b, KL_STR("\"}"));
            first = false;
        }
    }
    kl_buf_puts(b, KL_STR("}}"));
}

void kl_openapi_run(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    struct kl_str path = r->info.path, part[6];
    struct doc d = {0};
    size_t n = 0;
    bool found = false;
    path = kl_str_from(path, 1);
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    while (n < KL_COUNT(part) && kl_str_split(&path, '/', &part[n]))
        n++;
    kl_buf_init(&d.b, DOC_MAX);
    if (n >= 2 && kl_str_eqz(part[1], "v3")) {
        if (n == 2) {
            put_index(&d.b);
            found = true;
        } else if (n == 4 && kl_str_eqz(part[2], "api")) {
            found = put_document(&d, "", kl_arena_dup(r->arena, part[3]).p);
        } else if (n == 5 && kl_str_eqz(part[2], "apis")) {
            found = put_document(&d, kl_arena_dup(r->arena, part[3]).p,
                                 kl_arena_dup(r->arena, part[4]).p);
        }
    }
    if (found && !d.b.err) {
        kl_http_answer_text(r, 200, "application/json", kl_buf_str(&d.b));
    } else {
        kl_fail_set(r, 404, "NotFound", "the server could not find the requested resource");
        kl_req_fail(r);
    }
    kl_buf_fini(&d.b);
    free(d.queue);
}
