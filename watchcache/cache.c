// SPDX-License-Identifier: Apache-2.0
#include "watchcache/cache.h"
#include "object/defaults.h"
#include "object/json.h"
#include "object/protobuf.h"
#include "object/freeze.h"
#include "watchcache/cache_int.h"
#include <stdio.h>
#include <stdlib.h>

static void free_object(void *p)
{
    kl_object_unref(p);
}

static void free_bytes(void *p)
{
    kl_bytes_unref(p);
}

static void free_own(void *p)
{
    struct kl_cache_own *own = p;
    own->free(own);
}

static size_t object_size(const void *p)
{
    return ((const struct kl_object *)p)->size_bytes;
}

static size_t bytes_size(const void *p)
{
    return ((const struct kl_bytes *)p)->n;
}

static size_t own_size(const void *p)
{
    const struct kl_cache_own *own = p;
    return atomic_load_explicit((atomic_size_t *)&own->bytes, memory_order_relaxed);
}

const struct kl_kv_hooks kl_cache_hooks = {
    .free = {[KL_CACHE_OBJECT] = free_object,
             [KL_CACHE_JSON] = free_bytes,
             [KL_CACHE_PROTOBUF] = free_bytes,
             [KL_CACHE_OWN] = free_own},
    .size = {[KL_CACHE_OBJECT] = object_size,
             [KL_CACHE_JSON] = bytes_size,
             [KL_CACHE_PROTOBUF] = bytes_size,
             [KL_CACHE_OWN] = own_size},
};

bool kl_cache_stays(const struct kl_resource *res)
{
    return res->index != KL_RES_apiextensions_v1_customresourcedefinitions;
}

// ---- what is lent for a turn of the loop

struct lent {
    struct kl_task task;
    struct kl_object *object;
    struct kl_bytes *bytes;
};

static void end_loan(struct kl_task *t)
{
    struct lent *l = KL_CONTAINER_OF(t, struct lent, task);
    kl_object_unref(l->object);
    kl_bytes_unref(l->bytes);
    free(l);
}

bool kl_cache_lend(struct kl_object *o, struct kl_bytes *b)
{
    struct kl_loop *loop = kl_loop_current();
    struct lent *l = loop ? calloc(1, sizeof *l) : NULL;
    if (!l)
        return false;
    l->object = o;
    l->bytes = b;
    l->task.run = end_loan;
    kl_loop_defer(loop, &l->task);
    return true;
}

// ---- objects

int kl_cache_set_rv(struct kl_arena *a, struct kl_value *root, kl_rev rev, char text[24])
{
    struct kl_value *meta = kl_edit(a, root, KL_F_metadata, KL_STRUCT);
    if (!meta)
        return KL_ENOMEM;
    if (rev <= 0) {
        kl_unset(a, meta, KL_F_resourceVersion);
        return 0;
    }
    int n = snprintf(text, 24, "%lld", (long long)rev);
    return kl_set(a, meta, KL_F_resourceVersion, kl_string((struct kl_str){text, (size_t)n}));
}

static int decode_stored(struct kl_arena *a, const struct kl_resource *st, struct kl_str data,
                         struct kl_value *ret, struct kl_error *err)
{
    if (!kl_pb_is_envelope(data))
        return kl_json_decode(a, st->type, data, NULL, ret, err);
    struct kl_envelope env;
    int rc = kl_pb_open(data, &env, err);
    return rc ? rc : kl_pb_decode_trusted(a, st->type, env.raw, ret, err);
}

int kl_cache_open_sealed(const struct kl_kv *kv, const struct kl_resource *res, struct kl_str *data,
                         struct kl_bytes **ret_plain, struct kl_error *err)
{
    if (!kl_str_starts(*data, KL_STR(KL_CACHE_SEALED)))
        return 0;
    const struct kl_cache_opener *o = kv->hooks ? kv->hooks->arg : NULL;
    if (!o)
        return kl_error_set(err, KL_ECORRUPT,
                            "%s: identity transformer tried to read encrypted data", kv->key);
    if (!(*ret_plain = o->open(o, kv, res, err)))
        return err && err->code ? err->code : KL_ECORRUPT;
    *data = kl_bytes_str(*ret_plain);
    return 0;
}

struct kl_object *kl_cache_object(struct kl_kv *kv, const struct kl_resource *res,
                                  struct kl_error *err)
{
    struct kl_object *o = kl_kv_attached(kv, KL_CACHE_OBJECT);
    if (o)
        return o;
    if (res->custom)
        return kl_forms_object(kv, res, err);
    if (!kv->value) {
        kl_error_set(err, KL_ECORRUPT, "%s: revision %lld has no value in memory", kv->key,
                     (long long)kv->mod_rev);
        return NULL;
    }
    const struct kl_resource *st = kl_resource_storage(res);
    struct kl_arena a;
    struct kl_value root;
    char rv[24];
    struct kl_str data = kl_kv_value(kv);
    struct kl_bytes *plain = NULL;
    if (kl_cache_open_sealed(kv, res, &data, &plain, err))
        return NULL;
    kl_arena_init(&a, MAX_OBJECT_BYTES);
    if (decode_stored(&a, st, data, &root, err)) {
        kl_error_wrap(err, "unable to decode %s", kv->key);
        if (err && err->code != KL_ENOMEM)
            err->code = KL_ECORRUPT;
    } else if (kl_default_object(&a, st->type, &root) ||
               kl_cache_set_rv(&a, &root, kv->mod_rev, rv) ||
               !(o = kl_object_freeze(st->type, &root))) {
        kl_error_set(err, KL_ENOMEM, "out of memory decoding %s", kv->key);
    }
    kl_arena_fini(&a);
    kl_bytes_unref(plain);
    if (!o || (!kl_cache_stays(res) && kl_cache_lend(o, NULL)))
        return o;
    struct kl_object *there = kl_kv_attach(kv, KL_CACHE_OBJECT, o);
    if (there != o)
        kl_object_unref(o);
    return there;
}

bool kl_cache_is_ready(struct kl_kv *kv, const struct kl_resource *res)
{
    return !res->custom || !res->custom->family->webhook || kl_forms_ready(kv, res);
}

struct kl_object *kl_cache_as_stored(struct kl_kv *kv, const struct kl_resource *res,
                                     const struct kl_resource **ret_row, struct kl_error *err)
{
    return kl_forms_as_stored(kv, res, ret_row, err);
}

void kl_cache_attach_object(struct kl_kv *kv, struct kl_object *o)
{
    if (o && kl_crd_of_type(o->type))
        kl_forms_attach(kv, o);
    else if (o && (o->type == kl_type(KL_TYPE_apiextensions_v1_CustomResourceDefinition) ||
                   kl_kv_attach(kv, KL_CACHE_OBJECT, o) != o))
        kl_object_unref(o);
}

static struct kl_bytes *attach_buf(struct kl_kv *kv, int slot, struct kl_buf *b,
                                   struct kl_error *err)
{
    struct kl_bytes *made = kl_bytes_from_buf(b);
    kl_buf_fini(b);
    if (!made) {
        kl_error_set(err, KL_ENOMEM, "out of memory encoding %s", kv->key);
        return NULL;
    }
    struct kl_bytes *there = kl_kv_attach(kv, slot, made);
    if (there != made)
        kl_bytes_unref(made);
    return there;
}

struct kl_bytes *kl_cache_json(struct kl_kv *kv, const struct kl_resource *res,
                               struct kl_error *err)
{
    struct kl_bytes *b = kl_kv_attached(kv, KL_CACHE_JSON);
    if (b)
        return b;
    if (res->custom)
        return kl_forms_json(kv, res, err);
    struct kl_object *o = kl_cache_object(kv, res, err);
    if (!o)
        return NULL;
    struct kl_buf out;
    kl_buf_init(&out, MAX_OBJECT_BYTES);
    kl_buf_reserve(&out, o->size_bytes);
    kl_buf_putc(&out, ',');
    kl_json_encode(&out, o->type, &o->root, KL_STR(""));
    return attach_buf(kv, KL_CACHE_JSON, &out, err);
}

struct kl_bytes *kl_cache_protobuf(struct kl_kv *kv, const struct kl_resource *res,
                                   struct kl_error *err)
{
    struct kl_bytes *b = kl_kv_attached(kv, KL_CACHE_PROTOBUF);
    if (b)
        return b;
    struct kl_object *o = kl_cache_object(kv, res, err);
    if (!o)
        return NULL;
    struct kl_buf out;
    kl_buf_init(&out, MAX_OBJECT_BYTES);
    kl_pb_encode(&out, o->type, &o->root);
    return attach_buf(kv, KL_CACHE_PROTOBUF, &out, err);
}

struct kl_object *kl_object_with_rv(const struct kl_object *o, kl_rev rev)
{
    struct kl_arena a;
    char rv[24] = "";
    if (rev > 0)
        snprintf(rv, sizeof rv, "%lld", (long long)rev);
    struct kl_object *made = kl_object_restamp(o, kl_str(rv));
    if (made)
        return made;
    kl_arena_init(&a, MAX_OBJECT_BYTES);
    struct kl_value root = kl_object_draft(o);
    made = kl_cache_set_rv(&a, &root, rev, rv) ? NULL : kl_object_freeze(o->type, &root);
    kl_arena_fini(&a);
    return made;
}

int kl_cache_bury(const struct kl_event *e, const struct kl_resource *res, struct kl_error *err)
{
    if (res->custom ? kl_forms_have(e->kv, res) : kl_kv_attached(e->kv, KL_CACHE_OBJECT) != NULL)
        return 0;
    if (!e->prev)
        return kl_error_set(err, KL_ECORRUPT, "%s: what was deleted at %lld is not known",
                            e->kv->key, (long long)e->kv->mod_rev);
    struct kl_object *was = kl_cache_object(e->prev, res, err);
    if (!was)
        return err ? err->code : KL_ECORRUPT;
    struct kl_object *o = kl_object_with_rv(was, e->kv->mod_rev);
    if (!o)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if (res->custom)
        kl_forms_attach(e->kv, o);
    else if (kl_kv_attach(e->kv, KL_CACHE_OBJECT, o) != o)
        kl_object_unref(o);
    return 0;
}

struct kl_bytes *kl_cache_encode_stored(const struct kl_resource *st, const struct kl_object *o)
{
    struct kl_buf out;
    if (st->custom && st != st->custom->family->storage)
        return kl_forms_encode_stored(st, o);
    kl_buf_init(&out, MAX_OBJECT_BYTES);
    if (st->json_in_store) {
        struct kl_arena a;
        kl_arena_init(&a, 4096);
        struct kl_str head = kl_arena_printf(&a, "\"kind\":\"%s\",\"apiVersion\":\"%s\",", st->kind,
                                             st->api_version);
        kl_json_encode(&out, o->type, &o->root, head);
        kl_buf_putc(&out, '\n');
        kl_arena_fini(&a);
    } else {
        kl_pb_encode_object(&out, kl_str(st->api_version), kl_str(st->kind), o->type, &o->root);
    }
    struct kl_bytes *b = kl_bytes_from_buf(&out);
    kl_buf_fini(&out);
    return b;
}
