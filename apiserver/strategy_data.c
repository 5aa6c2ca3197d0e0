// SPDX-License-Identifier: Apache-2.0
// ConfigMaps and Secrets: keys, sizes, what a Secret's type asks for, immutability.
#include "apiserver/strategy_int.h"

enum { DATA_MAX = 1024 * 1024, KEY_MAX = 253 };

static bool good_key(struct kl_str key)
{
    if (!key.n || key.n > KEY_MAX || kl_str_eqz(key, ".") || kl_str_eqz(key, "..") ||
        kl_str_starts(key, KL_STR("..")))
        return false;
    for (size_t k = 0; k < key.n; k++) {
        char c = key.p[k];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              strchr("-_.", c)))
            return false;
    }
    return true;
}

static struct kl_str entry(struct kl_req *r, const char *map, struct kl_str key)
{
    return kl_arena_printf(r->arena, "%s[%.*s]", map, KL_PRI(key));
}

static size_t check_map(struct kl_req *r, const struct kl_value *map, const char *name,
                        const struct kl_value *other, struct kl_field_errors *e)
{
    size_t total = 0;
    for (KL_MAP_EACH_KEY(kv, map)) {
        struct kl_str key = kl_text(kv);
        if (!good_key(key))
            kl_field_invalid(
                e, entry(r, name, key), key,
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
                "(e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is "
                "'[-._a-zA-Z0-9]+')");
        if (other && kl_map_value(other, key))
            kl_field_invalid(e, entry(r, name, key), key, "duplicate of key present in binaryData");
        total += kl_text(kv + 1).n;
    }
    return total;
}

static void check_frozen(const struct kl_value *now, const struct kl_value *old, const kl_sym *maps,
                         const char *const *names, size_t n, struct kl_field_errors *e)
{
    if (!old || !kl_is_true(kl_get(old, KL_F_immutable)))
        return;
    if (!kl_is_true(kl_get(now, KL_F_immutable)))
        kl_field_forbidden(e, KL_STR("immutable"), "field is immutable when `immutable` is set");
    for (size_t i = 0; i < n; i++)
        if (!kl_value_equal(kl_get(now, maps[i]), kl_get(old, maps[i])))
            kl_field_forbidden(e, kl_str(names[i]), "field is immutable when `immutable` is set");
}

void kl_config_map_validate(struct kl_req *r, const struct kl_value *now,
                            const struct kl_value *old, struct kl_field_errors *e)
{
    static const kl_sym maps[] = {KL_F_data, KL_F_binaryData};
    static const char *const names[] = {"data", "binaryData"};
    const struct kl_value *binary = kl_get(now, KL_F_binaryData);
    size_t total = check_map(r, kl_get(now, KL_F_data), "data", binary, e) +
                   check_map(r, binary, "binaryData", NULL, e);
    if (total > DATA_MAX)
        kl_field_error(e, "FieldValueTooLong", KL_STR("[]"),
                       "Too long: may not be more than %d bytes", DATA_MAX);
    check_frozen(now, old, maps, names, KL_COUNT(maps), e);
}

// The keys that a type must have; `any` means one of them is enough.
static const struct secret_type {
    const char *type, *keys[2];
    bool any;
} secret_types[] = {
    {"kubernetes.io/dockercfg", {".dockercfg"}, false},
    {"kubernetes.io/dockerconfigjson", {".dockerconfigjson"}, false},
    {"kubernetes.io/basic-auth", {"username", "password"}, true},
    {"kubernetes.io/ssh-auth", {"ssh-privatekey"}, false},
    {"kubernetes.io/tls", {"tls.crt", "tls.key"}, false},
};

static void check_type(struct kl_req *r, const struct kl_value *now, struct kl_field_errors *e)
{
    struct kl_str type = kl_text(kl_get(now, KL_F_type));
    const struct kl_value *data = kl_get(now, KL_F_data);
    if (kl_str_eqz(type, "kubernetes.io/service-account-token")) {
        struct kl_str name = kl_text(
            kl_map_value(kl_meta_annotations(now), KL_STR("kubernetes.io/service-account.name")));
        if (!name.n)
            kl_field_required(e, KL_STR("metadata.annotations[kubernetes.io/service-account.name]"),
                              "");
    }
    for (size_t i = 0; i < KL_COUNT(secret_types); i++) {
        const struct secret_type *t = &secret_types[i];
        size_t has = 0, n = t->keys[1] ? 2 : 1;
        if (!kl_str_eqz(type, t->type))
            continue;
        for (size_t k = 0; k < n; k++)
            has += kl_map_value(data, kl_str(t->keys[k])) != NULL;
        for (size_t k = 0; k < n; k++)
            if (t->any ? !has : !kl_map_value(data, kl_str(t->keys[k])))
                kl_field_required(e, entry(r, "data", kl_str(t->keys[k])), "");
    }
}

void kl_secret_validate(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                        struct kl_field_errors *e)
{
    static const kl_sym maps[] = {KL_F_data};
    static const char *const names[] = {"data"};
    struct kl_str type = kl_text(kl_get(now, KL_F_type));
    if (old && !kl_str_eq(type, kl_text(kl_get(old, KL_F_type))))
        kl_field_invalid(e, KL_STR("type"), type, "field is immutable");
    if (check_map(r, kl_get(now, KL_F_data), "data", NULL, e) > DATA_MAX)
        kl_field_error(e, "FieldValueTooLong", KL_STR("data"),
                       "Too long: may not be more than %d bytes", DATA_MAX);
    check_type(r, now, e);
    check_frozen(now, old, maps, names, KL_COUNT(maps), e);
}
