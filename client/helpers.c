// SPDX-License-Identifier: Apache-2.0
#include "client/helpers.h"
#include <stdio.h>

struct kl_object_ref kl_ref_of(const struct kl_resource *res, const struct kl_value *root)
{
    return (struct kl_object_ref){
        .api_version = kl_str(res->api_version),
        .kind = kl_str(res->kind),
        .ns = kl_meta_namespace(root),
        .name = kl_meta_name(root),
        .uid = kl_meta_uid(root),
        .rv = kl_meta_rv(root),
    };
}

struct kl_value kl_owner_ref(struct kl_arena *a, const struct kl_resource *res,
                             const struct kl_value *root, bool controller, bool block)
{
    struct kl_value ref = kl_new_struct();
    kl_set_z(a, &ref, KL_F_apiVersion, res->api_version);
    kl_set_z(a, &ref, KL_F_kind, res->kind);
    kl_set_str(a, &ref, KL_F_name, kl_meta_name(root));
    kl_set_str(a, &ref, KL_F_uid, kl_meta_uid(root));
    if (controller)
        kl_set(a, &ref, KL_F_controller, kl_bool(true));
    if (block)
        kl_set(a, &ref, KL_F_blockOwnerDeletion, kl_bool(true));
    return ref;
}

bool kl_controlled_by(const struct kl_value *root, struct kl_str uid)
{
    const struct kl_value *ref = kl_meta_controller(root);
    return ref && kl_str_eq(kl_text(kl_get(ref, KL_F_uid)), uid);
}

const struct kl_value *kl_condition_find(const struct kl_value *conditions, const char *type)
{
    for (KL_EACH(c, conditions)) {
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_type)), type))
            return c;
    }
    return NULL;
}

bool kl_condition_is(const struct kl_value *conditions, const char *type, const char *status)
{
    const struct kl_value *c = kl_condition_find(conditions, type);
    return c && kl_str_eqz(kl_text(kl_get(c, KL_F_status)), status);
}

void kl_condition_drop(struct kl_arena *a, struct kl_value *conditions, const char *type)
{
    for (size_t i = kl_len(conditions); i-- > 0;) {
        if (kl_str_eqz(kl_text(kl_get(kl_at(conditions, i), KL_F_type)), type))
            kl_remove_at(a, conditions, i);
    }
}

void kl_condition_put(struct kl_arena *a, struct kl_value *conditions, struct kl_value condition)
{
    struct kl_str type = kl_text(kl_get(&condition, KL_F_type));
    for (size_t i = 0; i < kl_len(conditions); i++) {
        if (!kl_str_eq(kl_text(kl_get(kl_at(conditions, i), KL_F_type)), type))
            continue;
        struct kl_value *at = kl_edit_at(a, conditions, i);
        if (at)
            *at = condition;
        return;
    }
    kl_append(a, conditions, condition);
}

void kl_set_str(struct kl_arena *a, struct kl_value *parent, kl_sym field, struct kl_str s)
{
    kl_set(a, parent, field, kl_string(s));
}

void kl_set_z(struct kl_arena *a, struct kl_value *parent, kl_sym field, const char *z)
{
    kl_set(a, parent, field, kl_stringz(z));
}

void kl_set_int(struct kl_arena *a, struct kl_value *parent, kl_sym field, int64_t i)
{
    kl_set(a, parent, field, kl_int(i));
}

static void set_meta_entry(struct kl_arena *a, struct kl_value *root, kl_sym map, const char *key,
                           struct kl_str value)
{
    struct kl_value *meta = kl_edit(a, root, KL_F_metadata, KL_STRUCT);
    struct kl_value *m = meta ? kl_edit(a, meta, map, KL_MAP) : NULL;
    if (m)
        kl_map_set_value(a, m, kl_str(key), kl_string(value));
}

void kl_set_annotation(struct kl_arena *a, struct kl_value *root, const char *key,
                       struct kl_str value)
{
    set_meta_entry(a, root, KL_F_annotations, key, value);
}

void kl_set_label(struct kl_arena *a, struct kl_value *root, const char *key, struct kl_str value)
{
    set_meta_entry(a, root, KL_F_labels, key, value);
}

struct kl_str kl_annotation(const struct kl_value *root, const char *key)
{
    return kl_text(kl_map_value(kl_meta_annotations(root), kl_str(key)));
}

// ---- hashes

#define FNV_OFFSET 2166136261u
#define FNV_PRIME 16777619u

static uint32_t fnv(uint32_t h, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * FNV_PRIME;
    return h;
}

static uint32_t fnv_u64(uint32_t h, uint64_t v)
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> (8 * i));
    return fnv(h, b, sizeof(b));
}

static bool is_empty(const struct kl_value *v)
{
    return v->kind == KL_NULL || (v->kind >= KL_STRING && v->n == 0);
}

// Members are summed, so that their order does not matter. Symbols are numbered anew by each
// version, so a member is known by its name.
static uint32_t hash_value(const struct kl_value *v)
{
    uint32_t h = fnv_u64(FNV_OFFSET, v->kind), sum = 0;
    switch (v->kind) {
    case KL_BOOL:
        return fnv_u64(h, v->b);
    case KL_INT:
    case KL_TIME:
        return fnv_u64(h, (uint64_t)v->i);
    case KL_FLOAT: {
        uint64_t bits;
        memcpy(&bits, &v->d, sizeof(bits));
        return fnv_u64(h, bits);
    }
    case KL_STRING:
    case KL_BYTES:
    case KL_RAW:
        return fnv(h, v->s, v->n);
    case KL_ARRAY:
        for (KL_EACH(e, v))
            h = fnv_u64(h, hash_value(e));
        return h;
    case KL_STRUCT:
        for (KL_EACH(m, v)) {
            if (is_empty(m))
                continue;
            struct kl_str name = kl_sym_name(m->sym);
            sum += fnv_u64(fnv(FNV_OFFSET, name.p, name.n), hash_value(m));
        }
        return fnv_u64(h, sum);
    case KL_MAP:
        for (KL_MAP_EACH_KEY(k, v))
            sum += fnv_u64(fnv(FNV_OFFSET, k->s, k->n), hash_value(k + 1));
        return fnv_u64(h, sum);
    default:
        return h;
    }
}

uint32_t kl_value_hash(const struct kl_value *v)
{
    return v ? hash_value(v) : FNV_OFFSET;
}

struct kl_str kl_pod_template_hash(struct kl_arena *a, const struct kl_value *pod_template,
                                   int64_t collision_count)
{
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    uint32_t h = kl_value_hash(pod_template);
    if (collision_count >= 0)
        h = fnv_u64(h, (uint64_t)collision_count);
    struct kl_str s = kl_arena_printf(a, "%u", h);
    for (size_t i = 0; s.p && i < s.n; i++)
        ((char *)s.p)[i] = alphabet[(unsigned char)s.p[i] % (sizeof(alphabet) - 1)];
    return s;
}

int64_t kl_int_or_percent(const struct kl_value *v, int64_t total, bool round_up)
{
    if (!v)
        return 0;
    if (kl_is(v, KL_INT))
        return v->i;
    struct kl_str s = kl_text(v);
    int64_t percent;
    if (!kl_str_ends(s, KL_STR("%")) || !kl_str_to_i64((struct kl_str){s.p, s.n - 1}, &percent) ||
        percent < 0)
        return -1;
    return round_up ? (percent * total + 99) / 100 : percent * total / 100;
}
