// SPDX-License-Identifier: Apache-2.0
// Operations and the document, written as openapiconv converts what Go's types read of version 2.
#include "apiserver/aggregate/upgrade_int.h"
#include "object/json.h"
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

static const struct kl_up_member info_members[] = {{"description", TEXT},
                                                   {"title", TEXT},
                                                   {"termsOfService", TEXT},
                                                   {"contact", CONTACT},
                                                   {"license", LICENSE},
                                                   {"version", TEXT},
                                                   {0}};
static const struct kl_up_member operation_members[] = {{"tags", TEXTS},
                                                        {"summary", TEXT},
                                                        {"description", TEXT},
                                                        {"externalDocs", DOCS3},
                                                        {"operationId", TEXT},
                                                        {"deprecated", FLAG},
                                                        {0}};
static const struct kl_up_member parameter_members[] = {{"name", TEXT},
                                                        {"in", TEXT},
                                                        {"description", TEXT},
                                                        {"required", FLAG},
                                                        {"allowEmptyValue", FLAG},
                                                        {0}};
static const struct kl_up_member simple_members[] = {{"format", TEXT}, {"uniqueItems", FLAG}, {0}};
static const struct kl_up_member response_members[] = {{"description", TEXT}, {0}};
static const struct kl_up_member security_members[] = {
    {"type", TEXT}, {"description", TEXT}, {"name", TEXT}, {"in", TEXT}, {0}};
static const struct kl_up_member flow_members[] = {
    {"authorizationUrl", TEXT}, {"tokenUrl", TEXT}, {"scopes", NAMED_TEXTS}, {0}};
static const struct kl_up_member document_members[] = {{"externalDocs", DOCS3}, {0}};

enum { MEDIA_MAX = 256 }; // of an operation

// ---- operations

// A schema for each of the media types.
static void put_content(struct kl_up *u, bool *some, const struct kl_value *schema,
                        const struct kl_value *media)
{
    bool within = false;
    if (!kl_up_is(u, media, KL_ARRAY) || !media->n)
        return;
    u->bad |= media->n > MEDIA_MAX;
    kl_up_check_texts(u, media);
    kl_up_name(u, some, KL_STR("content"));
    kl_buf_putc(u->b, '{');
    for (uint32_t i = 0; i < media->n && !u->b->err && !u->bad; i++) {
        const struct kl_value *type = kl_at(media, i);
        bool twice = false;
        for (uint32_t k = 0; k < i && !twice; k++)
            twice = kl_str_eq(kl_text(kl_at(media, k)), kl_text(type));
        if (twice)
            continue;
        kl_up_name(u, &within, kl_text(type));
        kl_buf_puts(u->b, KL_STR("{\"schema\":"));
        kl_up_schema(u, schema, true);
        kl_buf_putc(u->b, '}');
    }
    kl_buf_putc(u->b, '}');
}

static void put_refable(struct kl_up *u, bool *some, const struct kl_value *v, struct kl_str from,
                        struct kl_str to)
{
    struct kl_str ref = kl_text(kl_map_value(v, KL_STR("$ref")));
    if (!ref.n)
        return;
    kl_up_name(u, some, KL_STR("$ref"));
    kl_up_ref(u, ref, from, to, false);
}

static void put_parameter(struct kl_up *u, const struct kl_value *v)
{
    const struct kl_value *schema, *type;
    bool some = false, within = false;
    kl_buf_putc(u->b, '{');
    v = kl_up_is(u, v, KL_MAP) ? v : NULL;
    put_refable(u, &some, v, KL_STR("#/parameters/"), KL_STR("#/components/parameters/"));
    kl_up_members(u, &some, v, parameter_members);
    kl_up_name(u, &some, KL_STR("schema"));
    if (kl_up_is(u, schema = kl_map_value(v, KL_STR("schema")), KL_MAP)) {
        kl_up_schema(u, schema, true);
    } else {
        kl_buf_puts(u->b, KL_STR("{\"type\":"));
        type = kl_map_value(v, KL_STR("type"));
        kl_json_write_string(u->b, kl_up_is(u, type, KL_STRING) ? kl_text(type) : KL_STR(""));
        within = true;
        kl_up_members(u, &within, v, simple_members);
        kl_buf_putc(u->b, '}');
    }
    kl_up_extensions(u, &some, v);
    kl_buf_putc(u->b, '}');
}

static bool is_body(const struct kl_value *param)
{
    return kl_is(param, KL_MAP) &&
           kl_str_eqz(kl_text(kl_map_value(param, KL_STR("name"))), "body") &&
           kl_is(kl_map_value(param, KL_STR("schema")), KL_MAP);
}

// The others, and which is the body: the last of them. `is_operation`: bodies stand elsewhere.
static const struct kl_value *put_parameters(struct kl_up *u, bool *some,
                                             const struct kl_value *list, bool is_operation)
{
    const struct kl_value *body = NULL;
    bool within = false;
    for (KL_EACH(x, kl_up_is(u, list, KL_ARRAY) ? list : NULL)) {
        if (is_operation && is_body(x)) {
            body = x;
            continue;
        }
        if (!within) {
            kl_up_name(u, some, KL_STR("parameters"));
            kl_buf_putc(u->b, '[');
        }
        kl_up_item(u, &within);
        put_parameter(u, x);
    }
    if (within)
        kl_buf_putc(u->b, ']');
    return body;
}

static void put_response(struct kl_up *u, const struct kl_value *v, const struct kl_value *produces)
{
    const struct kl_value *schema;
    bool some = false;
    kl_buf_putc(u->b, '{');
    v = kl_up_is(u, v, KL_MAP) ? v : NULL;
    put_refable(u, &some, v, KL_STR("#/responses/"), KL_STR("#/components/responses/"));
    kl_up_members(u, &some, v, response_members);
    if (kl_up_is(u, schema = kl_map_value(v, KL_STR("schema")), KL_MAP))
        put_content(u, &some, schema, produces);
    kl_up_extensions(u, &some, v);
    kl_buf_putc(u->b, '}');
}

static bool is_code(struct kl_str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] < '0' || name.p[i] > '9')
            return false;
    return name.n > 0 && name.n < 10;
}

static void put_responses(struct kl_up *u, bool *some, const struct kl_value *v,
                          const struct kl_value *produces)
{
    bool within = false;
    if (!kl_up_is(u, v, KL_MAP))
        return;
    kl_up_name(u, some, KL_STR("responses"));
    kl_buf_putc(u->b, '{');
    for (KL_MAP_EACH_KEY(k, v))
        if (is_code(kl_text(k)) || kl_str_eqz(kl_text(k), "default")) {
            kl_up_name(u, &within, kl_text(k));
            put_response(u, &k[1], produces);
        }
    kl_up_extensions(u, &within, v);
    kl_buf_putc(u->b, '}');
}

static void put_operation(struct kl_up *u, const struct kl_value *v)
{
    bool some = false, within = false;
    kl_buf_putc(u->b, '{');
    kl_up_members(u, &some, v, operation_members);
    const struct kl_value *body =
        put_parameters(u, &some, kl_map_value(v, KL_STR("parameters")), true);
    if (body) {
        kl_up_name(u, &some, KL_STR("requestBody"));
        kl_buf_putc(u->b, '{');
        put_content(u, &within, kl_map_value(body, KL_STR("schema")),
                    kl_map_value(v, KL_STR("consumes")));
        kl_buf_putc(u->b, '}');
    }
    put_responses(u, &some, kl_map_value(v, KL_STR("responses")),
                  kl_map_value(v, KL_STR("produces")));
    kl_up_extensions(u, &some, v);
    kl_buf_putc(u->b, '}');
}

static void put_path(struct kl_up *u, const struct kl_value *v)
{
    static const char *const methods[] = {"get",     "put",  "post", "delete",
                                          "options", "head", "patch"};
    bool some = false;
    kl_buf_putc(u->b, '{');
    v = kl_up_is(u, v, KL_MAP) ? v : NULL;
    put_refable(u, &some, v, KL_STR(""), KL_STR(""));
    for (size_t i = 0; i < KL_COUNT(methods); i++) {
        const struct kl_value *op = kl_map_value(v, kl_str(methods[i]));
        if (!kl_up_is(u, op, KL_MAP))
            continue;
        kl_up_name(u, &some, kl_str(methods[i]));
        put_operation(u, op);
    }
    put_parameters(u, &some, kl_map_value(v, KL_STR("parameters")), false);
    kl_up_extensions(u, &some, v);
    kl_buf_putc(u->b, '}');
}

static void put_security(struct kl_up *u, const struct kl_value *v)
{
    struct kl_str flow = kl_text(kl_map_value(v, KL_STR("flow")));
    // Version 2's names of the members, in Go's spelling, are those of version 3.
    bool some = false, within = false, named = false;
    kl_buf_putc(u->b, '{');
    v = kl_up_is(u, v, KL_MAP) ? v : NULL;
    kl_up_members(u, &some, v, security_members);
    if (v && flow.n) {
        kl_up_name(u, &some, KL_STR("flows"));
        kl_buf_putc(u->b, '{');
        kl_up_name(u, &named, flow);
        kl_buf_putc(u->b, '{');
        kl_up_members(u, &within, v, flow_members);
        kl_buf_puts(u->b, KL_STR("}}"));
    }
    kl_up_extensions(u, &some, v);
    kl_buf_putc(u->b, '}');
}

// ---- the document

struct work {
    struct kl_upgraded *ret;
    struct kl_buf text, plain; // of a member; of a part
    const struct kl_value *produces;
    EVP_MD_CTX *sum;
};

static void put_part_member(struct kl_up *u, struct work *w, enum kl_upgraded_part part,
                            const struct kl_value *key)
{
    if (part == KL_UPGRADED_PATHS && kl_up_is_extension(kl_text(key)))
        kl_json_write(u->b, &key[1]);
    else if (part == KL_UPGRADED_PATHS)
        put_path(u, &key[1]);
    else if (part == KL_UPGRADED_SCHEMAS)
        kl_up_schema(u, &key[1], true);
    else if (part == KL_UPGRADED_SECURITY)
        put_security(u, &key[1]);
    else
        put_response(u, &key[1], w->produces);
}

static int make_part(struct work *w, enum kl_upgraded_part part, const struct kl_value *map)
{
    struct kl_up u = {.b = &w->text};
    if (!kl_up_is(&u, map, KL_MAP))
        return u.bad ? KL_EINVALID : 0;
    for (KL_MAP_EACH_KEY(k, map)) {
        struct kl_str name = kl_text(k);
        if (part == KL_UPGRADED_PATHS && !kl_up_is_extension(name) &&
            !kl_str_starts(name, KL_STR("/")))
            continue;
        kl_buf_clear(&w->text);
        put_part_member(&u, w, part, k);
        if (u.bad || w->text.err)
            return u.bad ? KL_EINVALID : w->text.err;
        kl_packed_put_text(&w->plain, name, kl_buf_str(&w->text));
        if (w->plain.err)
            return w->plain.err;
    }
    EVP_DigestUpdate(w->sum, w->plain.p, w->plain.n);
    int rc = kl_packed_close(&w->plain, &w->ret->packed[part]);
    w->ret->bytes += rc ? 0 : w->ret->packed[part]->n;
    return rc;
}

static int make_head(struct work *w, const struct kl_value *root)
{
    const struct kl_value *info = kl_map_value(root, KL_STR("info"));
    struct kl_up u = {.b = &w->text};
    bool some = true, within = false;
    kl_buf_clear(&w->text);
    kl_buf_puts(&w->text, KL_STR("\"openapi\":\"3.0.0\",\"info\":"));
    if (kl_up_is(&u, info, KL_MAP)) {
        kl_buf_putc(&w->text, '{');
        kl_up_members(&u, &within, info, info_members);
        kl_up_extensions(&u, &within, info);
        kl_buf_putc(&w->text, '}');
    } else {
        kl_buf_puts(&w->text, KL_STR("null"));
    }
    kl_up_members(&u, &some, root, document_members);
    if (u.bad)
        return KL_EINVALID;
    w->ret->head = kl_bytes_from_buf(&w->text);
    EVP_DigestUpdate(w->sum, w->text.p, w->text.n);
    return w->ret->head ? 0 : KL_ENOMEM;
}

static int make_all(struct kl_upgraded *u, const struct kl_value *root)
{
    static const char *const names[] = {
        [KL_UPGRADED_PATHS] = "paths",
        [KL_UPGRADED_SCHEMAS] = "definitions",
        [KL_UPGRADED_SECURITY] = "securityDefinitions",
        [KL_UPGRADED_RESPONSES] = "responses",
    };
    struct work w = {.ret = u, .produces = kl_map_value(root, KL_STR("produces"))};
    unsigned char sum[EVP_MAX_MD_SIZE];
    char hash[2 * sizeof sum + 1] = "";
    unsigned n = 0;
    kl_buf_init(&w.text, 2 * KL_REMOTE_MAX_BYTES);
    kl_buf_init(&w.plain, 2 * KL_REMOTE_MAX_BYTES);
    w.sum = EVP_MD_CTX_new();
    int rc = w.sum && EVP_DigestInit_ex(w.sum, EVP_sha512(), NULL) ? 0 : KL_ENOMEM;
    rc = rc ? rc : make_head(&w, root);
    for (int i = 0; i < KL_UPGRADED_NPARTS && !rc; i++)
        rc = make_part(&w, i, kl_map_value(root, kl_str(names[i])));
    if (!rc && !EVP_DigestFinal_ex(w.sum, sum, &n))
        rc = KL_ENOMEM;
    for (size_t i = 0; i < n; i++)
        snprintf(hash + 2 * i, 3, "%02X", sum[i]);
    u->hash = rc ? NULL : kl_bytes_new(kl_str(hash));
    EVP_MD_CTX_free(w.sum);
    kl_buf_fini(&w.text);
    kl_buf_fini(&w.plain);
    return rc ? rc : u->hash ? 0 : KL_ENOMEM;
}

int kl_upgraded_new(struct kl_str json, struct kl_upgraded **ret, struct kl_error *err)
{
    struct kl_arena a;
    struct kl_value root;
    if (json.n > KL_REMOTE_MAX_BYTES)
        return kl_error_set(err, KL_EINVALID, "document of %zu bytes is too large", json.n);
    struct kl_upgraded *u = calloc(1, sizeof *u);
    if (!u)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    atomic_init(&u->refs, 1);
    kl_arena_init(&a, 16 * (size_t)KL_REMOTE_MAX_BYTES);
    int rc = kl_json_parse(&a, json, NULL, &root, err);
    if (!rc && (!kl_is(&root, KL_MAP) || kl_remote_is_too_deep(&root, 0) ||
                (rc = make_all(u, &root)) == KL_EINVALID))
        rc = kl_error_set(err, KL_EINVALID, "no OpenAPI version 2 document");
    else if (rc && !err->code)
        rc = kl_error_set(err, rc, "out of memory");
    kl_arena_fini(&a);
    if (rc)
        kl_upgraded_unref(u);
    else
        *ret = u;
    return rc;
}

struct kl_upgraded *kl_upgraded_ref(struct kl_upgraded *u)
{
    if (u)
        atomic_fetch_add_explicit(&u->refs, 1, memory_order_relaxed);
    return u;
}

void kl_upgraded_unref(struct kl_upgraded *u)
{
    if (!u || atomic_fetch_sub_explicit(&u->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (int i = 0; i < KL_UPGRADED_NPARTS; i++)
        kl_bytes_unref(u->packed[i]);
    kl_bytes_unref(u->head);
    kl_bytes_unref(u->hash);
    free(u);
}
