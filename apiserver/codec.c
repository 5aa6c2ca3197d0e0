// SPDX-License-Identifier: Apache-2.0
// Bodies of requests to drafts, with upstream's refusals.
#include "apiserver/server_int.h"
#include "object/convert.h"
#include "object/protobuf.h"
#include "object/yaml.h"

static const char *short_kind(const struct kl_type *t)
{
    const char *dot = t->name ? strrchr(t->name, '.') : NULL;
    return dot ? dot + 1 : t->name ? t->name : "object";
}

static struct kl_str version_of(struct kl_str api_version)
{
    ptrdiff_t slash = kl_str_chr(api_version, '/');
    return slash < 0 ? api_version : kl_str_from(api_version, (size_t)slash + 1);
}

// transformDecodeError
static int refuse(struct kl_req *r, const struct kl_type *type, struct kl_str api_version,
                  struct kl_str kind, struct kl_error *err, const char *what)
{
    if (kind.n)
        return kl_error_set(err, KL_EBADREQUEST,
                            "%.*s in version \"%.*s\" cannot be handled as a %s: %s", KL_PRI(kind),
                            KL_PRI(version_of(api_version)), short_kind(type), what);
    struct kl_str head = r->body;
    if (head.n > 30)
        head.n = 30;
    bool text = kl_utf8_valid(head);
    return kl_error_set(err, KL_EBADREQUEST,
                        "the object provided is unrecognized (must be of type %s): %s (%.*s%s)",
                        short_kind(type), what, text ? (int)head.n : 0, head.p,
                        r->body.n > 30 ? " ..." : "");
}

static int decode_media(struct kl_req *r, const struct kl_type *type, struct kl_strict *strict,
                        struct kl_value *ret, struct kl_str *ret_av, struct kl_str *ret_kind,
                        struct kl_error *err)
{
    struct kl_arena *a = r->arena;
    int rc;
    if (r->body_media == KL_MEDIA_PROTOBUF) {
        struct kl_envelope env;
        if ((rc = kl_pb_open(r->body, &env, err)))
            return rc;
        *ret_av = env.api_version;
        *ret_kind = env.kind;
        return kl_pb_decode(a, type, env.raw, ret, err);
    }
    if (r->body_media == KL_MEDIA_YAML) {
        struct kl_value untyped;
        if ((rc = kl_yaml_parse(a, r->body, strict, &untyped, err)))
            return rc;
        *ret_av = kl_text(kl_map_value(&untyped, KL_STR("apiVersion")));
        *ret_kind = kl_text(kl_map_value(&untyped, KL_STR("kind")));
        return kl_typed_from_untyped(a, type, &untyped, strict, ret, err);
    }
    rc = kl_json_decode(a, type, r->body, strict, ret, err);
    if (!rc) {
        *ret_av = kl_text(kl_get(ret, KL_F_apiVersion));
        *ret_kind = kl_text(kl_get(ret, KL_F_kind));
    } else {
        kl_json_peek_gvk(r->body, ret_av, ret_kind);
    }
    return rc;
}

static int report_strict(struct kl_req *r, const struct kl_type *type, struct kl_strict *s,
                         struct kl_str av, struct kl_str kind, struct kl_error *err)
{
    if (!s->n)
        return 0;
    if (r->opts.field_validation == KL_VALIDATE_WARN) {
        struct kl_str *w = kl_arena_alloc(r->arena, (r->nwarnings + s->n) * sizeof *w);
        if (!w)
            return kl_error_set(err, KL_ENOMEM, "out of memory");
        if (r->nwarnings)
            memcpy(w, r->warnings, r->nwarnings * sizeof *w);
        memcpy(w + r->nwarnings, s->messages, s->n * sizeof *w);
        r->warnings = w;
        r->nwarnings += s->n;
        return 0;
    }
    struct kl_buf b;
    kl_buf_init(&b, sizeof err->msg);
    kl_buf_puts(&b, KL_STR("strict decoding error: "));
    for (size_t i = 0; i < s->n && !b.err; i++)
        kl_buf_printf(&b, "%s%.*s", i ? ", " : "", KL_PRI(s->messages[i]));
    struct kl_str text = kl_arena_dup(r->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return refuse(r, type, av, kind, err, text.p ? text.p : "strict decoding error");
}

int kl_body_decode(struct kl_req *r, const struct kl_type *type, const struct kl_resource *expect,
                   struct kl_value *ret, struct kl_error *err)
{
    if (r->body_object) {
        if (r->body_object->type == type) {
            *ret = kl_object_draft(r->body_object);
            return 0;
        }
        return kl_error_set(err, KL_EBADREQUEST, "object of type %s where %s is expected",
                            r->body_object->type->name, type->name);
    }
    struct kl_str av = KL_STR(""), kind = KL_STR("");
    struct kl_strict *strict = NULL;
    if (r->opts.field_validation != KL_VALIDATE_IGNORE &&
        !(strict = KL_ARENA_NEW(r->arena, struct kl_strict)))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if (decode_media(r, type, strict, ret, &av, &kind, err)) {
        if (err->code == KL_ENOMEM || err->code == KL_ETOOLARGE)
            return err->code;
        struct kl_str why = kl_arena_dup(r->arena, kl_str(err->msg));
        return refuse(r, type, av, kind, err, why.p ? why.p : "");
    }
    const char *want_av = expect ? expect->api_version : NULL;
    const char *want_kind = expect ? expect->kind : NULL;
    if (expect && r->info.subres && r->info.subres->type == type) {
        want_kind = r->info.subres->kind;
        want_av = *r->info.subres->group ? kl_arena_printf(r->arena, "%s/%s", r->info.subres->group,
                                                           r->info.subres->version)
                                               .p
                                         : r->info.subres->version;
    }
    if (want_kind && kind.n && !kl_str_eqz(kind, want_kind)) {
        struct kl_str why = kl_arena_printf(
            r->arena, "converting (%.*s.%.*s) to (%s.%s): unknown conversion",
            KL_PRI(version_of(av)), KL_PRI(kind), expect->version, short_kind(type));
        return refuse(r, type, av, kind, err, why.p ? why.p : "");
    }
    if (want_av && av.n && !kl_str_eqz(av, want_av))
        return kl_error_set(err, KL_EBADREQUEST,
                            "the API version in the data (%.*s) does not match the expected API "
                            "version (%s)",
                            KL_PRI(av), want_av);
    if (strict)
        return report_strict(r, type, strict, av, kind, err);
    return 0;
}

struct kl_object *kl_object_in_version(const struct kl_resource *res, struct kl_object *o,
                                       struct kl_error *err)
{
    const struct kl_resource *st = kl_resource_storage(res);
    if (st == res || !kl_convert_needed(st, res))
        return kl_object_ref(o);
    struct kl_arena a;
    struct kl_value v;
    struct kl_object *out = NULL;
    kl_arena_init(&a, KL_MAX_ARENA_BYTES);
    if (!kl_convert(&a, st, res, &o->root, &v, err) && !(out = kl_object_freeze(res->type, &v)))
        kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_arena_fini(&a);
    return out;
}

int kl_req_result_root(struct kl_req *r, const struct kl_type **ret_type,
                       const struct kl_value **ret_root, struct kl_error *err)
{
    if (r->result == KL_RESULT_KV) {
        if (!r->frozen) {
            struct kl_object *o = kl_cache_object(r->kv, r->info.res, err);
            if (!o || !(r->frozen = kl_object_in_version(r->info.res, o, err)))
                return err->code ? err->code : KL_EINTERNAL;
        }
    } else if (!r->frozen) {
        if (!(r->frozen = kl_object_freeze(r->type, &r->value)))
            return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    *ret_type = r->frozen->type;
    *ret_root = &r->frozen->root;
    return 0;
}
