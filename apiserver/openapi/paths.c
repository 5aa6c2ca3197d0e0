// SPDX-License-Identifier: Apache-2.0
// Paths and their operations as text. What all operations of a path have in common stands once, as
// kube-openapi's builders write it.
#include "apiserver/openapi/openapi_int.h"

#define JSON_TYPE "application/json"
#define YAML_TYPE "application/yaml"
#define PB_TYPE "application/vnd.kubernetes.protobuf"

static const char *const *media_of(enum kl_oa_media m)
{
    static const char *const object[] = {JSON_TYPE, YAML_TYPE, PB_TYPE, NULL};
    static const char *const watchable[] = {
        JSON_TYPE, YAML_TYPE, PB_TYPE, JSON_TYPE ";stream=watch", PB_TYPE ";stream=watch", NULL};
    static const char *const custom[] = {JSON_TYPE, YAML_TYPE, NULL};
    static const char *const log[] = {"text/plain", JSON_TYPE, YAML_TYPE, PB_TYPE, NULL};
    static const char *const any[] = {"*/*", NULL};
    static const char *const json[] = {JSON_TYPE, NULL};
    static const char *const jwks[] = {"application/jwk-set+json", NULL};
    static const char *const none[] = {NULL};
    switch (m) {
    case KL_OA_MEDIA_OBJECT:
    case KL_OA_MEDIA_DISCOVERY:
        return object;
    case KL_OA_MEDIA_WATCHABLE:
        return watchable;
    case KL_OA_MEDIA_CUSTOM:
        return custom;
    case KL_OA_MEDIA_LOG:
        return log;
    case KL_OA_MEDIA_ANY:
        return any;
    case KL_OA_MEDIA_JSON:
    case KL_OA_MEDIA_PLAIN_JSON:
        return json;
    case KL_OA_MEDIA_JWKS:
        return jwks;
    default:
        return none;
    }
}

static const char *const *patch_media(const struct kl_oa_op *o)
{
    static const char *const builtin[] = {
        "application/json-patch+json", "application/merge-patch+json",
        "application/strategic-merge-patch+json", "application/apply-patch+yaml", NULL};
    static const char *const custom[] = {"application/json-patch+json",
                                         "application/merge-patch+json",
                                         "application/apply-patch+yaml", NULL};
    return o->media == KL_OA_MEDIA_CUSTOM ? custom : builtin;
}

// What a body may be.
static const char *const *taken_media(const struct kl_oa_op *o)
{
    static const char *const any[] = {"*/*", NULL};
    return o->body == KL_OA_BODY_PATCH      ? patch_media(o)
           : o->media == KL_OA_MEDIA_CUSTOM ? media_of(KL_OA_MEDIA_CUSTOM)
                                            : any;
}

const char *kl_oa_place(bool v2)
{
    return v2 ? "#/definitions/" : "#/components/schemas/";
}

static void put_names(struct kl_buf *b, const char *member, const char *const *names)
{
    kl_buf_printf(b, "\"%s\":[", member);
    for (size_t i = 0; names[i]; i++)
        kl_buf_printf(b, "%s\"%s\"", i ? "," : "", names[i]);
    kl_buf_puts(b, KL_STR("],"));
}

// {"$ref":...} or a string, for an answer or a body.
static void put_schema_of(struct kl_buf *b, struct kl_oa_types *t, struct kl_str name, bool v2)
{
    if (!name.n) {
        kl_buf_puts(b, KL_STR("{\"type\":\"string\"}"));
        return;
    }
    kl_buf_printf(b, "{\"$ref\":\"%s%.*s\"}", kl_oa_place(v2), KL_PRI(name));
    kl_oa_want_name(t, name);
}

// ---- parameters

static void put_param_members(struct kl_buf *b, const struct kl_oa_param_info *p, const char *kind,
                              bool v2)
{
    kl_buf_puts(b, KL_STR("{\"description\":"));
    if (p->text)
        kl_json_write_string(b, kl_str(p->text));
    else
        kl_buf_printf(b, "\"name of the %s\"", kind);
    kl_buf_printf(b, ",\"name\":\"%s\",\"in\":\"%s\"%s", p->name, p->in_path ? "path" : "query",
                  p->in_path ? ",\"required\":true" : "");
    kl_buf_printf(b,
                  v2 ? ",\"type\":\"%s\",\"uniqueItems\":true}"
                     : ",\"schema\":{\"type\":\"%s\",\"uniqueItems\":true}}",
                  p->type);
}

bool kl_oa_put_shared_param(struct kl_buf *b, struct kl_str name)
{
    for (size_t i = 0; i < KL_OA_NPARAMS; i++)
        if (kl_oa_params[i].shared && kl_str_eqz(name, kl_oa_params[i].shared)) {
            kl_buf_printf(b, "\"%s\":", kl_oa_params[i].shared);
            put_param_members(b, &kl_oa_params[i], "", true);
            return true;
        }
    return false;
}

void kl_oa_put_shared_params(struct kl_buf *b)
{
    bool first = true;
    for (size_t i = 0; i < KL_OA_NPARAMS; i++) {
        if (!kl_oa_params[i].shared)
            continue;
        kl_buf_printf(b, "%s\"%s\":", first ? "" : ",", kl_oa_params[i].shared);
        first = false;
        put_param_members(b, &kl_oa_params[i], "", true);
    }
}

static bool put_params(struct kl_buf *b, uint64_t params, const char *kind, bool v2, bool first)
{
    for (size_t i = 0; i < KL_OA_NPARAMS; i++) {
        if (!(params >> i & 1))
            continue;
        if (!first)
            kl_buf_putc(b, ',');
        first = false;
        if (v2 && kl_oa_params[i].shared)
            kl_buf_printf(b, "{\"$ref\":\"#/parameters/%s\"}", kl_oa_params[i].shared);
        else
            put_param_members(b, &kl_oa_params[i], kind, v2);
    }
    return first;
}

// ---- bodies

static struct kl_str body_type(const struct kl_oa_op *o)
{
    return o->body == KL_OA_BODY_PATCH    ? KL_STR(KL_OA_META "Patch")
           : o->body == KL_OA_BODY_DELETE ? KL_STR(KL_OA_META "DeleteOptions")
                                          : o->object;
}

static void put_body(struct kl_buf *b, struct kl_oa_types *t, const struct kl_oa_op *o)
{
    const char *const *media = taken_media(o);
    kl_buf_puts(b, KL_STR("\"requestBody\":{\"content\":{"));
    for (size_t i = 0; media[i]; i++) {
        kl_buf_printf(b, "%s\"%s\":{\"schema\":", i ? "," : "", media[i]);
        put_schema_of(b, t, body_type(o), false);
        kl_buf_putc(b, '}');
    }
    kl_buf_puts(b, o->body == KL_OA_BODY_DELETE ? KL_STR("}},") : KL_STR("},\"required\":true},"));
}

static void put_body_param(struct kl_buf *b, struct kl_oa_types *t, const struct kl_oa_op *o)
{
    kl_buf_puts(b, KL_STR("{\"in\":\"body\",\"name\":\"body\","));
    if (o->body != KL_OA_BODY_DELETE)
        kl_buf_puts(b, KL_STR("\"required\":true,"));
    kl_buf_puts(b, KL_STR("\"schema\":"));
    put_schema_of(b, t, body_type(o), true);
    kl_buf_putc(b, '}');
}

// ---- answers

static void put_answer(struct kl_buf *b, struct kl_oa_types *t, const struct kl_oa_op *o, bool v2,
                       const char *code, const char *text)
{
    kl_buf_printf(b, "\"%s\":{\"description\":\"%s\"", code, text);
    if (v2) {
        kl_buf_puts(b, KL_STR(",\"schema\":"));
        put_schema_of(b, t, o->answer, true);
    } else {
        const char *const *media = media_of(o->media);
        kl_buf_puts(b, KL_STR(",\"content\":{"));
        for (size_t i = 0; media[i]; i++) {
            kl_buf_printf(b, "%s\"%s\":{\"schema\":", i ? "," : "", media[i]);
            put_schema_of(b, t, o->answer, false);
            kl_buf_putc(b, '}');
        }
        kl_buf_putc(b, '}');
    }
    kl_buf_puts(b, KL_STR("},"));
}

static void put_op(struct kl_buf *b, struct kl_oa_types *t, const struct kl_oa_op *o,
                   uint64_t common, bool v2)
{
    uint64_t own = o->params & ~common;
    kl_buf_printf(b,
                  "\"%s\":{\"description\":\"%.*s\",\"operationId\":\"%.*s\",\"tags\":[\"%.*s\"],",
                  o->method, KL_PRI(o->doc), KL_PRI(o->id), KL_PRI(o->tag));
    if (v2) {
        if (o->action)
            put_names(b, "consumes", taken_media(o));
        else if (o->media == KL_OA_MEDIA_DISCOVERY || o->media == KL_OA_MEDIA_JSON)
            put_names(b, "consumes", media_of(o->media));
        put_names(b, "produces", media_of(o->media));
        kl_buf_puts(b, KL_STR("\"schemes\":[\"https\"],"));
    }
    if (own || (v2 && o->body)) {
        kl_buf_puts(b, KL_STR("\"parameters\":["));
        if (v2 && o->body)
            put_body_param(b, t, o);
        put_params(b, own, o->kind, v2, !v2 || !o->body);
        kl_buf_puts(b, KL_STR("],"));
    }
    if (!v2 && o->body)
        put_body(b, t, o);
    kl_buf_puts(b, KL_STR("\"responses\":{"));
    put_answer(b, t, o, v2, "200", "OK");
    if (o->answers & KL_OA_CREATED)
        put_answer(b, t, o, v2, "201", "Created");
    if (o->answers & KL_OA_ACCEPTED)
        put_answer(b, t, o, v2, "202", "Accepted");
    kl_buf_puts(b, KL_STR("\"401\":{\"description\":\"Unauthorized\"}}"));
    if (o->action)
        kl_buf_printf(b,
                      ",\"x-kubernetes-action\":\"%s\",\"x-kubernetes-group-version-kind\":{"
                      "\"group\":\"%s\",\"kind\":\"%s\",\"version\":\"%s\"}",
                      o->action, o->group, o->kind, o->version);
    kl_buf_putc(b, '}');
}

void kl_oa_put_path(struct kl_buf *b, struct kl_oa_types *t, const struct kl_oa_path *p, bool v2)
{
    uint64_t common = p->ops[0].params;
    for (size_t i = 1; i < p->nops; i++)
        common &= p->ops[i].params;
    kl_buf_printf(b, "\"%.*s\":{", KL_PRI(p->path));
    for (size_t i = 0; i < p->nops; i++) {
        if (i)
            kl_buf_putc(b, ',');
        put_op(b, t, &p->ops[i], common, v2);
    }
    if (common) {
        kl_buf_puts(b, KL_STR(",\"parameters\":["));
        put_params(b, common, p->ops[0].kind, v2, true);
        kl_buf_putc(b, ']');
    }
    kl_buf_putc(b, '}');
}
