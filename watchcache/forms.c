// SPDX-License-Identifier: Apache-2.0
// Custom objects as the store's versions hold them. One version is looked at in several types: its
// resource may have several versions, and a changed definition gives new types. Each decoded form
// hangs in a list on the version, for its life or its type's: who looks at a type holds its family,
// and when the last of them has gone, the form's place is another's (a definition that changes
// again and again while the object does not). A list that has grown long all the same grows no
// more, and what is wanted then is made anew each time. Only what a webhook made is always kept: it
// cannot be made here.
#include "object/defaults.h"
#include "object/json.h"
#include "object/crd/crd.h"
#include "watchcache/cache_int.h"
#include <limits.h>
#include <stdlib.h>

enum { FORMS_MAX = 6 };

struct form {
    _Atomic(const struct kl_type *) type; // of object, which keeps it: no other has its address
    struct kl_object *object;             // NULL where type is: the place is free
    _Atomic(struct kl_bytes *) json;
    struct form *next;
};

struct forms {
    struct kl_cache_own own;
    _Atomic(struct form *) first;
    atomic_flag sweeping;
};

static void free_forms(struct kl_cache_own *own)
{
    struct forms *all = KL_CONTAINER_OF(own, struct forms, own);
    struct form *next;
    for (struct form *f = atomic_load_explicit(&all->first, memory_order_relaxed); f; f = next) {
        next = f->next;
        kl_object_unref(f->object);
        kl_bytes_unref(atomic_load_explicit(&f->json, memory_order_relaxed));
        free(f);
    }
    free(all);
}

static const struct kl_type *type_of(struct form *f)
{
    return atomic_load_explicit(&f->type, memory_order_acquire);
}

static struct form *find_form(const struct kl_kv *kv, const struct kl_type *type, int *ret_n)
{
    struct forms *all = kl_kv_attached(kv, KL_CACHE_OWN);
    int n = 0;
    struct form *f = all ? atomic_load_explicit(&all->first, memory_order_acquire) : NULL;
    for (; f; f = f->next, n++)
        if (type_of(f) == type)
            return f;
    if (ret_n)
        *ret_n = n;
    return NULL;
}

bool kl_forms_have(const struct kl_kv *kv, const struct kl_resource *res)
{
    return find_form(kv, res->type, NULL) != NULL;
}

static struct forms *forms_of(struct kl_kv *kv)
{
    struct forms *all = kl_kv_attached(kv, KL_CACHE_OWN);
    if (all)
        return all;
    struct forms *mine = calloc(1, sizeof *mine);
    if (!mine)
        return NULL;
    atomic_flag_clear_explicit(&mine->sweeping, memory_order_relaxed);
    mine->own.free = free_forms;
    all = kl_kv_attach(kv, KL_CACHE_OWN, mine);
    if (all != mine)
        free(mine);
    return all;
}

static void grow(struct kl_kv *kv, struct forms *all, ptrdiff_t n)
{
    atomic_fetch_add_explicit(&all->own.bytes, (size_t)n, memory_order_relaxed);
    kl_kv_grow(kv, n);
}

static void empty(struct kl_kv *kv, struct forms *all, struct form *f)
{
    struct kl_bytes *json = atomic_exchange_explicit(&f->json, NULL, memory_order_acq_rel);
    size_t bytes = f->object->size_bytes + (json ? json->n : 0);
    atomic_store_explicit(&f->type, NULL, memory_order_release);
    kl_object_unref(f->object);
    kl_bytes_unref(json);
    f->object = NULL;
    grow(kv, all, -(ptrdiff_t)bytes);
}

// Empties the forms that nobody can ask for any more and puts `o` (its reference; NULL: nothing)
// into a free place. NULL: there is none, or somebody is at it. *ret_live: how many are not empty.
static struct form *sweep(struct kl_kv *kv, struct forms *all, struct kl_object *o, int *ret_live)
{
    struct form *place = NULL, *there = NULL;
    *ret_live = INT_MAX;
    if (atomic_flag_test_and_set_explicit(&all->sweeping, memory_order_acquire))
        return NULL;
    *ret_live = 0;
    for (struct form *f = atomic_load_explicit(&all->first, memory_order_acquire); f; f = f->next) {
        const struct kl_type *type = type_of(f);
        if (type && kl_crd_type_is_retired(type)) {
            empty(kv, all, f);
            type = NULL;
        }
        if (!type)
            place = f;
        else if (o && type == o->type)
            there = f;
        *ret_live += type != NULL;
    }
    if (o && place && !there) {
        place->object = o;
        atomic_store_explicit(&place->type, o->type, memory_order_release);
        grow(kv, all, (ptrdiff_t)o->size_bytes);
        there = place;
    } else if (o && there) {
        kl_object_unref(o);
    }
    atomic_flag_clear_explicit(&all->sweeping, memory_order_release);
    return there;
}

// Takes the reference over; the form that is there when somebody was quicker. NULL: no memory.
static struct form *push(struct kl_kv *kv, struct kl_object *o)
{
    struct forms *all = forms_of(kv);
    int live;
    struct form *f = all ? sweep(kv, all, o, &live) : NULL;
    if (f)
        return f;
    if (!all || !(f = calloc(1, sizeof *f))) {
        kl_object_unref(o);
        return NULL;
    }
    f->object = o;
    atomic_init(&f->type, o->type);
    f->next = atomic_load_explicit(&all->first, memory_order_acquire);
    do {
        for (struct form *there = f->next; there; there = there->next)
            if (type_of(there) == o->type) {
                kl_object_unref(o);
                free(f);
                return there;
            }
    } while (!atomic_compare_exchange_weak_explicit(&all->first, &f->next, f, memory_order_acq_rel,
                                                    memory_order_acquire));
    grow(kv, all, (ptrdiff_t)(sizeof *f + o->size_bytes));
    return f;
}

// Whether there are so many forms that another one is better not kept.
static bool is_full(struct kl_kv *kv, int n)
{
    int live = n;
    if (n >= FORMS_MAX)
        sweep(kv, kl_kv_attached(kv, KL_CACHE_OWN), NULL, &live);
    return live >= FORMS_MAX;
}

void kl_forms_attach(struct kl_kv *kv, struct kl_object *o)
{
    push(kv, o);
}

static struct kl_str version_of(struct kl_str api_version)
{
    ptrdiff_t slash = kl_str_chr(api_version, '/');
    return slash < 0 ? api_version : kl_str_from(api_version, (size_t)slash + 1);
}

// The row of the version that the stored text says.
static const struct kl_resource *row_of(struct kl_str data, const struct kl_custom_family *family)
{
    struct kl_str api_version = KL_STR(""), kind = KL_STR("");
    kl_json_peek_gvk(data, &api_version, &kind);
    const struct kl_resource *row = kl_custom_row(family, version_of(api_version));
    return row ? row : family->storage;
}

static const struct kl_resource *stored_row(struct kl_kv *kv, const struct kl_resource *res,
                                            struct kl_error *err)
{
    struct kl_str data = kl_kv_value(kv);
    struct kl_bytes *plain = NULL;
    if (!kv->value) {
        kl_error_set(err, KL_ECORRUPT, "%s: revision %lld has no value in memory", kv->key,
                     (long long)kv->mod_rev);
        return NULL;
    }
    if (kl_cache_open_sealed(kv, res, &data, &plain, err))
        return NULL;
    const struct kl_resource *row = row_of(data, res->custom->family);
    kl_bytes_unref(plain);
    return row;
}

bool kl_forms_ready(struct kl_kv *kv, const struct kl_resource *res)
{
    struct kl_error ignored;
    if (find_form(kv, res->type, NULL))
        return true;
    const struct kl_resource *row = stored_row(kv, res, &ignored);
    return !row || row == res; // what cannot be read at all is told by who reads it
}

struct kl_object *kl_forms_as_stored(struct kl_kv *kv, const struct kl_resource *res,
                                     const struct kl_resource **ret_row, struct kl_error *err)
{
    const struct kl_resource *row = stored_row(kv, res, err);
    if (!row)
        return NULL;
    *ret_row = row;
    return kl_forms_object(kv, row, err);
}

// Decodes by the schema of the version that is stored; *ret_row is its row. *ret_plain holds what
// the result refers to.
static int decode(struct kl_arena *a, struct kl_kv *kv, const struct kl_resource *res,
                  struct kl_value *ret, const struct kl_resource **ret_row,
                  struct kl_bytes **ret_plain, struct kl_error *err)
{
    struct kl_str data = kl_kv_value(kv);
    const struct kl_resource *row;
    if (!kv->value)
        return kl_error_set(err, KL_ECORRUPT, "%s: revision %lld has no value in memory", kv->key,
                            (long long)kv->mod_rev);
    if (kl_cache_open_sealed(kv, res, &data, ret_plain, err))
        return err && err->code ? err->code : KL_ECORRUPT;
    *ret_row = row = row_of(data, res->custom->family);
    int rc = kl_crd_decode(a, row->custom->schema, data, true, NULL, ret, err);
    if (rc) {
        kl_error_wrap(err, "unable to decode %s", kv->key);
        return err ? err->code = rc == KL_ENOMEM ? rc : KL_ECORRUPT : rc;
    }
    struct kl_value *meta = NULL;
    // Written before there were generations: upstream says 1 of those.
    bool ancient = kl_get(ret, KL_F_metadata) && !kl_int_at(ret, 0, KL_F_metadata, KL_F_generation);
    if ((ancient && (!(meta = kl_edit(a, ret, KL_F_metadata, KL_STRUCT)) ||
                     kl_set(a, meta, KL_F_generation, kl_int(1)))) ||
        kl_default_object(a, row->type, ret))
        return kl_error_set(err, KL_ENOMEM, "out of memory decoding %s", kv->key);
    return 0;
}

static struct kl_object *freeze(struct kl_arena *a, const struct kl_kv *kv,
                                const struct kl_type *type, struct kl_value *root,
                                struct kl_error *err)
{
    char rv[24];
    struct kl_object *o =
        kl_cache_set_rv(a, root, kv->mod_rev, rv) ? NULL : kl_object_freeze(type, root);
    if (!o)
        kl_error_set(err, KL_ENOMEM, "out of memory decoding %s", kv->key);
    return o;
}

static struct kl_object *make(struct kl_kv *kv, const struct kl_resource *res, struct kl_error *err)
{
    const struct kl_resource *row = NULL;
    struct kl_arena a;
    struct kl_value root;
    struct kl_object *o = NULL;
    struct kl_bytes *plain = NULL;
    kl_arena_init(&a, MAX_OBJECT_BYTES);
    int rc = decode(&a, kv, res, &root, &row, &plain, err);
    if (!rc && row != res && res->custom->family->webhook)
        rc = kl_error_set(err, KL_EAGAIN, "%s: a webhook converts it", kv->key);
    if (!rc && row != res)
        rc = kl_custom_convert(&a, row, res, &root, &root, err);
    if (!rc)
        o = freeze(&a, kv, res->type, &root, err);
    kl_arena_fini(&a);
    kl_bytes_unref(plain);
    return o;
}

struct kl_object *kl_forms_object(struct kl_kv *kv, const struct kl_resource *res,
                                  struct kl_error *err)
{
    int n;
    struct form *f = find_form(kv, res->type, &n);
    if (f)
        return f->object;
    struct kl_object *o = make(kv, res, err);
    if (!o || (is_full(kv, n) && kl_cache_lend(o, NULL)))
        return o;
    if (!(f = push(kv, o)))
        kl_error_set(err, KL_ENOMEM, "out of memory decoding %s", kv->key);
    return f ? f->object : NULL;
}

// A list item says its apiVersion and kind, as upstream's unstructured objects do.
static struct kl_bytes *encode(const struct kl_resource *res, const struct kl_object *o)
{
    struct kl_arena a;
    struct kl_buf out;
    kl_arena_init(&a, 4096);
    kl_buf_init(&out, MAX_OBJECT_BYTES);
    kl_buf_reserve(&out, o->size_bytes);
    kl_buf_putc(&out, ',');
    struct kl_str head =
        kl_arena_printf(&a, "\"apiVersion\":\"%s\",\"kind\":\"%s\",", res->api_version, res->kind);
    kl_json_encode(&out, o->type, &o->root, head);
    struct kl_bytes *b = head.p ? kl_bytes_from_buf(&out) : NULL;
    kl_buf_fini(&out);
    kl_arena_fini(&a);
    return b;
}

struct kl_bytes *kl_forms_json(struct kl_kv *kv, const struct kl_resource *res,
                               struct kl_error *err)
{
    struct kl_object *o = kl_forms_object(kv, res, err);
    if (!o)
        return NULL;
    struct form *f = find_form(kv, res->type, NULL);
    struct kl_bytes *b = f ? atomic_load_explicit(&f->json, memory_order_acquire) : NULL, *there;
    if (b)
        return b;
    if (!(b = encode(res, o)) || (!f && !kl_cache_lend(NULL, b))) {
        kl_bytes_unref(b);
        kl_error_set(err, KL_ENOMEM, "out of memory encoding %s", kv->key);
        return NULL;
    }
    there = NULL;
    if (!f)
        return b;
    if (atomic_compare_exchange_strong_explicit(&f->json, &there, b, memory_order_acq_rel,
                                                memory_order_acquire)) {
        grow(kv, kl_kv_attached(kv, KL_CACHE_OWN), (ptrdiff_t)b->n);
        return b;
    }
    kl_bytes_unref(b);
    return there;
}

struct kl_bytes *kl_forms_encode_stored(const struct kl_resource *from, const struct kl_object *o)
{
    const struct kl_resource *to = from->custom->family->storage;
    struct kl_arena a;
    struct kl_value root;
    struct kl_error err;
    struct kl_object *converted = NULL;
    kl_arena_init(&a, MAX_OBJECT_BYTES);
    if (!from->custom->family->webhook && !kl_custom_convert(&a, from, to, &o->root, &root, &err))
        converted = kl_object_freeze(to->type, &root);
    kl_arena_fini(&a);
    struct kl_bytes *b = converted ? kl_cache_encode_stored(to, converted) : NULL;
    kl_object_unref(converted);
    return b;
}
