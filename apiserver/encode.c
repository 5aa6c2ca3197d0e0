// SPDX-License-Identifier: Apache-2.0
#include "apiserver/encode.h"
#include "apiserver/server_int.h"
#include "base/clock.h"
#include "object/convert.h"
#include "object/protobuf.h"
#include "object/table.h"
#include "object/yaml.h"

static void put_head(struct kl_buf *out, struct kl_str api_version, struct kl_str kind)
{
    kl_buf_printf(out, "\"kind\":\"%.*s\",\"apiVersion\":\"%.*s\",", KL_PRI(kind),
                  KL_PRI(api_version));
}

static void put_typed_json(struct kl_buf *out, const struct kl_type *type, struct kl_str av,
                           struct kl_str kind, const struct kl_value *v)
{
    char head[512];
    struct kl_buf h = {.p = head, .cap = sizeof head, .max = sizeof head};
    put_head(&h, av, kind);
    kl_json_encode(out, type, v, kl_buf_str(&h));
}

static void put_yaml(struct kl_buf *out, struct kl_str json)
{
    struct kl_arena a;
    struct kl_value v;
    struct kl_error err;
    kl_arena_init(&a, KL_MAX_ARENA_BYTES);
    if (kl_json_parse(&a, json, NULL, &v, &err) || kl_yaml_write(out, &v))
        out->err = KL_ENOMEM;
    kl_arena_fini(&a);
}

void kl_encode_text(struct kl_buf *out, const struct kl_spec *s, struct kl_str json)
{
    if (s->media == KL_MEDIA_YAML) {
        put_yaml(out, json);
    } else if (s->pretty) {
        kl_json_pretty(out, json, 2);
        kl_buf_putc(out, '\n');
    } else {
        kl_buf_puts(out, json);
        kl_buf_putc(out, '\n');
    }
}

void kl_encode_value(struct kl_buf *out, const struct kl_spec *s, const struct kl_type *type,
                     struct kl_str av, struct kl_str kind, const struct kl_value *v)
{
    if (s->media == KL_MEDIA_PROTOBUF) {
        kl_pb_encode_object(out, av, kind, type, v);
        return;
    }
    struct kl_buf json;
    kl_buf_init(&json, KL_MAX_ARENA_BYTES);
    put_typed_json(&json, type, av, kind, v);
    kl_encode_text(out, s, kl_buf_str(&json));
    if (json.err)
        out->err = json.err;
    kl_buf_fini(&json);
}

// Nothing but the metadata, in `member`.
static struct kl_value partial_of(const struct kl_object *o, struct kl_value *member)
{
    struct kl_value v = {.kind = KL_STRUCT, .n = 1, .items = member};
    const struct kl_value *meta = kl_get(&o->root, KL_F_metadata);
    if (meta) {
        *member = *meta;
        member->sym = KL_F_metadata;
    } else {
        v.n = 0;
    }
    return v;
}

size_t kl_encode_partial_size(const struct kl_object *o)
{
    struct kl_value member, v = partial_of(o, &member);
    return kl_pb_size(kl_type(KL_TYPE_meta_v1_PartialObjectMetadata), &v);
}

void kl_encode_partial(struct kl_buf *out, const struct kl_spec *s, const struct kl_object *o,
                       bool head)
{
    const struct kl_type *t = kl_type(KL_TYPE_meta_v1_PartialObjectMetadata);
    struct kl_value member, v = partial_of(o, &member);
    struct kl_str version = kl_spec_meta_version(s);
    if (s->media == KL_MEDIA_PROTOBUF) {
        if (head)
            kl_pb_encode_object(out, version, KL_STR("PartialObjectMetadata"), t, &v);
        else
            kl_pb_encode(out, t, &v);
    } else {
        put_typed_json(out, t, version, KL_STR("PartialObjectMetadata"), &v);
    }
}

void kl_encode_row(struct kl_buf *out, const struct kl_req *r, const struct kl_spec *s,
                   const struct kl_object *o, int64_t now_us)
{
    bool scale = o->type == kl_type(KL_TYPE_autoscaling_v1_Scale);
    kl_buf_putc(out, '{');
    if (scale)
        kl_table_scale_cells(out, &o->root, now_us);
    else
        kl_table_cells(out, r->info.res, &o->root, now_us);
    if (s->include == KL_INCLUDE_METADATA) {
        kl_buf_puts(out, KL_STR(",\"object\":"));
        kl_encode_partial(out, s, o, true);
    } else if (s->include == KL_INCLUDE_OBJECT) {
        kl_buf_puts(out, KL_STR(",\"object\":"));
        put_typed_json(out, o->type,
                       scale ? KL_STR("autoscaling/v1") : kl_str(r->info.res->api_version),
                       scale ? KL_STR("Scale") : kl_str(r->info.res->kind), &o->root);
    } else {
        kl_buf_puts(out, KL_STR(",\"object\":null"));
    }
    kl_buf_putc(out, '}');
}

static void put_table_of_one(struct kl_buf *out, const struct kl_req *r, const struct kl_spec *s,
                             const struct kl_object *o)
{
    bool scale = o->type == kl_type(KL_TYPE_autoscaling_v1_Scale);
    struct kl_str rv = kl_meta_rv(&o->root);
    kl_buf_printf(out, "{\"kind\":\"Table\",\"apiVersion\":\"%.*s\",\"metadata\":{",
                  KL_PRI(kl_spec_meta_version(s)));
    if (rv.n)
        kl_buf_printf(out, "\"resourceVersion\":\"%.*s\"", KL_PRI(rv));
    kl_buf_puts(out, KL_STR("},\"columnDefinitions\":"));
    kl_buf_puts(out, scale ? kl_table_scale_columns_json() : kl_table_columns_json(r->info.res));
    kl_buf_puts(out, KL_STR(",\"rows\":["));
    kl_encode_row(out, r, s, o, kl_wall_ms() * 1000);
    kl_buf_puts(out, KL_STR("]}"));
}

int kl_encode_item(struct kl_buf *out, const struct kl_req *r, const struct kl_spec *s,
                   const struct kl_object *o, struct kl_error *err)
{
    struct kl_object *v = kl_object_in_version(r->info.res, (struct kl_object *)o, err);
    if (!v)
        return err->code;
    if (s->form == KL_FORM_TABLE)
        kl_encode_row(out, r, s, v, kl_wall_ms() * 1000);
    else if (s->form == KL_FORM_PARTIAL || s->form == KL_FORM_PARTIAL_LIST)
        kl_encode_partial(out, s, v, false);
    else if (s->media == KL_MEDIA_PROTOBUF)
        kl_pb_encode(out, v->type, &v->root);
    else if (r->info.res->custom)
        put_typed_json(out, v->type, kl_str(r->info.res->api_version), kl_str(r->info.res->kind),
                       &v->root);
    else
        kl_json_encode(out, v->type, &v->root, KL_STR(""));
    kl_object_unref(v);
    return out->err;
}

bool kl_spec_is_cached(const struct kl_req *r, const struct kl_spec *s)
{
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    return s->form == KL_FORM_OBJECT && s->media != KL_MEDIA_YAML && kl_cache_stays(r->info.res) &&
           (st == r->info.res || !kl_convert_needed(st, r->info.res));
}

// A stored object as JSON: the cached text behind the kind.
static struct kl_bytes *encode_cached(struct kl_req *r, const struct kl_spec *s)
{
    struct kl_error err;
    char head[512];
    struct kl_buf h = {.p = head, .cap = sizeof head, .max = sizeof head};
    struct kl_bytes *body = s->media == KL_MEDIA_PROTOBUF
                                ? kl_cache_protobuf(r->kv, r->info.res, &err)
                                : kl_cache_json(r->kv, r->info.res, &err);
    if (!body)
        return NULL;
    if (s->media == KL_MEDIA_PROTOBUF) {
        kl_pb_begin_envelope(&h, kl_str(r->info.res->api_version), kl_str(r->info.res->kind),
                             body->n);
        size_t head_n = h.n;
        kl_pb_end_envelope(&h);
        struct kl_bytes *out = kl_bytes_alloc(h.n + body->n);
        if (out) {
            memcpy(out->p, head, head_n);
            memcpy(out->p + head_n, body->p, body->n);
            memcpy(out->p + head_n + body->n, head + head_n, h.n - head_n);
        }
        return out;
    }
    kl_buf_putc(&h, '{');
    if (!r->info.res->custom) // a custom object's text says it itself
        put_head(&h, kl_str(r->info.res->api_version), kl_str(r->info.res->kind));
    struct kl_bytes *out = kl_bytes_alloc(h.n + body->n - 2 + 1);
    if (out) {
        memcpy(out->p, head, h.n);
        memcpy(out->p + h.n, body->p + 2, body->n - 2);
        out->p[out->n - 1] = '\n';
    }
    return out;
}

static struct kl_bytes *encode_fail(struct kl_req *r, const struct kl_spec *s)
{
    struct kl_spec plain = *s;
    struct kl_value v = kl_fail_status(r->arena, &r->fail);
    struct kl_object *o = kl_object_freeze(kl_type(KL_TYPE_meta_v1_Status), &v);
    if (!o)
        return NULL;
    struct kl_buf out;
    plain.form = KL_FORM_OBJECT;
    kl_buf_init(&out, KL_MAX_ARENA_BYTES);
    kl_encode_value(&out, &plain, o->type, KL_STR("v1"), KL_STR("Status"), &o->root);
    struct kl_bytes *b = kl_bytes_from_buf(&out);
    kl_buf_fini(&out);
    kl_object_unref(o);
    return b;
}

struct kl_bytes *kl_encode_result(struct kl_req *r, const struct kl_spec *s)
{
    if (r->result == KL_RESULT_FAIL)
        return encode_fail(r, s);
    if (r->result == KL_RESULT_KV && kl_spec_is_cached(r, s) && !s->pretty)
        return encode_cached(r, s);
    const struct kl_type *type;
    const struct kl_value *root;
    struct kl_error err = {0};
    if (kl_req_result_root(r, &type, &root, &err)) {
        kl_fail_err(r, &err);
        r->http = r->fail.http;
        return encode_fail(r, s);
    }
    struct kl_buf out, json;
    kl_buf_init(&out, KL_MAX_ARENA_BYTES);
    bool of_resource = r->result == KL_RESULT_KV || (r->info.res && type == r->info.res->type) ||
                       type == kl_type(KL_TYPE_autoscaling_v1_Scale);
    if (of_resource && s->form == KL_FORM_PARTIAL_LIST) {
        kl_fail_form(r, false);
        r->http = r->fail.http;
        kl_buf_fini(&out);
        return encode_fail(r, s);
    }
    if (of_resource && s->form != KL_FORM_OBJECT && s->media == KL_MEDIA_PROTOBUF) {
        kl_encode_partial(&out, s, r->frozen, true); // no Table was agreed to
    } else if (of_resource && s->form != KL_FORM_OBJECT) {
        kl_buf_init(&json, KL_MAX_ARENA_BYTES);
        if (s->form == KL_FORM_TABLE)
            put_table_of_one(&json, r, s, r->frozen);
        else
            kl_encode_partial(&json, s, r->frozen, true);
        kl_encode_text(&out, s, kl_buf_str(&json));
        if (json.err)
            out.err = json.err;
        kl_buf_fini(&json);
    } else {
        bool kv = r->result == KL_RESULT_KV;
        kl_encode_value(&out, s, type, kv ? kl_str(r->info.res->api_version) : r->api_version,
                        kv ? kl_str(r->info.res->kind) : r->kind, root);
    }
    struct kl_bytes *b = kl_bytes_from_buf(&out);
    kl_buf_fini(&out);
    return b;
}
