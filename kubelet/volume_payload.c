// SPDX-License-Identifier: Apache-2.0
// The files of configMap, secret, downwardAPI and projected volumes. Pure.
#include "kubelet/volumes_int.h"

enum { DEFAULT_MODE = 0644, MAX_FILES = 16384 };

enum kl_volume_kind kl_volume_kind_of(const struct kl_value *v)
{
    static const struct {
        kl_sym field;
        enum kl_volume_kind kind;
    } kinds[] = {{KL_F_emptyDir, KL_VOLUME_EMPTY_DIR},   {KL_F_hostPath, KL_VOLUME_HOST_PATH},
                 {KL_F_configMap, KL_VOLUME_CONFIG_MAP}, {KL_F_secret, KL_VOLUME_SECRET},
                 {KL_F_projected, KL_VOLUME_PROJECTED},  {KL_F_downwardAPI, KL_VOLUME_DOWNWARD}};
    for (size_t i = 0; i < KL_COUNT(kinds); i++)
        if (kl_get(v, kinds[i].field))
            return kinds[i].kind;
    return KL_VOLUME_UNSUPPORTED;
}

const char *kl_volume_dir_name(enum kl_volume_kind kind)
{
    static const char *const names[] = {"kubernetes.io~empty-dir",  "kubernetes.io~host-path",
                                        "kubernetes.io~configmap",  "kubernetes.io~secret",
                                        "kubernetes.io~projected",  "kubernetes.io~downward-api",
                                        "kubernetes.io~unsupported"};
    return names[kind];
}

// The kubelet writes these by name as root: nobody in a container may move what is in them.
bool kl_volume_is_read_only(const struct kl_value *pod, struct kl_str name)
{
    for (KL_EACH(v, kl_path(pod, KL_F_spec, KL_F_volumes)))
        if (kl_str_eq(kl_text_at(v, KL_F_name), name)) {
            enum kl_volume_kind kind = kl_volume_kind_of(v);
            return kind == KL_VOLUME_CONFIG_MAP || kind == KL_VOLUME_SECRET ||
                   kind == KL_VOLUME_PROJECTED || kind == KL_VOLUME_DOWNWARD;
        }
    return false;
}

static int add_file(struct kl_payload_source *src, struct kl_volume_work *w, struct kl_str path,
                    struct kl_str data, mode_t mode, struct kl_error *err)
{
    if (w->nfiles == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 16;
        struct kl_atomic_file *f = kl_arena_alloc(src->a, cap * sizeof(*f));
        if (!f || cap > MAX_FILES)
            return kl_error_set(err, KL_ELIMIT, "too many files");
        if (w->nfiles)
            memcpy(f, w->files, w->nfiles * sizeof(*f));
        w->files = f;
        w->cap = cap;
    }
    // A later source wins over an earlier one with the same path.
    for (size_t i = 0; i < w->nfiles; i++)
        if (kl_str_eq(w->files[i].path, path)) {
            w->files[i].data = kl_arena_dup(src->a, data);
            w->files[i].mode = mode;
            return 0;
        }
    struct kl_atomic_file *f = &w->files[w->nfiles++];
    *f = (struct kl_atomic_file){kl_arena_dup(src->a, path), kl_arena_dup(src->a, data), mode};
    return f->path.p && f->data.p ? 0 : kl_error_set(err, KL_ENOMEM, "out of memory");
}

static mode_t mode_of(const struct kl_value *item, mode_t otherwise)
{
    return (mode_t)kl_int_at(item, otherwise, KL_F_mode);
}

// A ConfigMap's data and binaryData, or a Secret's data; chosen and renamed by items.
static int add_object(struct kl_payload_source *src, struct kl_volume_work *w, bool secret,
                      struct kl_str name, const struct kl_value *from, mode_t mode,
                      struct kl_error *err)
{
    bool optional = kl_true_at(from, KL_F_optional);
    const struct kl_value *o = src->env->object(src->env->arg, secret, name);
    if (!o)
        return optional ? 0
                        : kl_error_set(err, KL_ENOTFOUND, "%s \"%.*s\" not found",
                                       secret ? "secret" : "configmap", KL_PRI(name));
    const struct kl_value *maps[] = {kl_get(o, KL_F_data),
                                     secret ? NULL : kl_get(o, KL_F_binaryData)};
    const struct kl_value *items = kl_get(from, KL_F_items);
    int r = 0;
    for (size_t i = 0; !kl_len(items) && i < KL_COUNT(maps); i++)
        for (KL_MAP_EACH_KEY(key, maps[i]))
            if (!r)
                r = add_file(src, w, kl_text(key), kl_text(key + 1), mode, err);
    for (KL_EACH(item, items)) {
        struct kl_str key = kl_text_at(item, KL_F_key);
        const struct kl_value *v = kl_map_value(maps[0], key);
        if (!v)
            v = kl_map_value(maps[1], key);
        if (!v && optional)
            continue;
        if (!v)
            return kl_error_set(err, KL_ENOTFOUND,
                                secret ? "references non-existent secret key: %.*s"
                                       : "configmap references non-existent config key: %.*s",
                                KL_PRI(key));
        if (!r)
            r = add_file(src, w, kl_text_at(item, KL_F_path), kl_text(v), mode_of(item, mode), err);
    }
    return r;
}

static int add_downward(struct kl_payload_source *src, struct kl_volume_work *w,
                        const struct kl_value *items, mode_t mode, struct kl_error *err)
{
    for (KL_EACH(item, items)) {
        const struct kl_value *field = kl_get(item, KL_F_fieldRef);
        struct kl_str s =
            field ? kl_field_ref(src->a, src->env, kl_text_at(field, KL_F_fieldPath))
                  : kl_resource_field_ref(src->a, src->env, kl_get(item, KL_F_resourceFieldRef));
        if (!s.p)
            return kl_error_set(err, KL_EINVALID, "unsupported fieldPath: %.*s",
                                KL_PRI(kl_text_at(field, KL_F_fieldPath)));
        int r = add_file(src, w, kl_text_at(item, KL_F_path), s, mode_of(item, mode), err);
        if (r)
            return r;
    }
    return 0;
}

static int add_token(struct kl_payload_source *src, struct kl_volume_work *w,
                     const struct kl_value *from, mode_t mode, struct kl_error *err)
{
    struct kl_str audience = kl_text_at(from, KL_F_audience);
    int64_t seconds = kl_int_at(from, 3600, KL_F_expirationSeconds);
    for (const struct kl_token *t = src->tokens; t; t = t->next) {
        if (!kl_str_eqz(audience, t->audience) || t->expiration_s != seconds)
            continue;
        if (!t->token)
            return kl_error_set(err, KL_EUNAVAILABLE, "failed to fetch token: %s",
                                t->error ? t->error : "not there yet");
        return add_file(src, w, kl_text_at(from, KL_F_path), kl_str(t->token),
                        w->gid != (gid_t)-1 ? 0600 : mode, err);
    }
    return kl_error_set(err, KL_EINTERNAL, "failed to fetch token: not asked for");
}

static int add_projected(struct kl_payload_source *src, struct kl_volume_work *w,
                         const struct kl_value *p, struct kl_error *err)
{
    mode_t mode = (mode_t)kl_int_at(p, DEFAULT_MODE, KL_F_defaultMode);
    int r = 0;
    for (KL_EACH(s, kl_get(p, KL_F_sources))) {
        const struct kl_value *v;
        if (r)
            break;
        if ((v = kl_get(s, KL_F_secret)))
            r = add_object(src, w, true, kl_text_at(v, KL_F_name), v, mode, err);
        else if ((v = kl_get(s, KL_F_configMap)))
            r = add_object(src, w, false, kl_text_at(v, KL_F_name), v, mode, err);
        else if ((v = kl_get(s, KL_F_downwardAPI)))
            r = add_downward(src, w, kl_get(v, KL_F_items), mode, err);
        else if ((v = kl_get(s, KL_F_serviceAccountToken)))
            r = add_token(src, w, v, mode, err);
        else
            r = kl_error_set(err, KL_EUNSUPPORTED, "projected source is not supported");
    }
    return r;
}

int kl_volume_payload(struct kl_payload_source *src, const struct kl_value *volume,
                      struct kl_volume_work *w, struct kl_error *err)
{
    const struct kl_value *v;
    mode_t mode;
    switch (w->kind) {
    case KL_VOLUME_CONFIG_MAP:
        v = kl_get(volume, KL_F_configMap);
        mode = (mode_t)kl_int_at(v, DEFAULT_MODE, KL_F_defaultMode);
        return add_object(src, w, false, kl_text_at(v, KL_F_name), v, mode, err);
    case KL_VOLUME_SECRET:
        v = kl_get(volume, KL_F_secret);
        mode = (mode_t)kl_int_at(v, DEFAULT_MODE, KL_F_defaultMode);
        return add_object(src, w, true, kl_text_at(v, KL_F_secretName), v, mode, err);
    case KL_VOLUME_DOWNWARD:
        v = kl_get(volume, KL_F_downwardAPI);
        mode = (mode_t)kl_int_at(v, DEFAULT_MODE, KL_F_defaultMode);
        return add_downward(src, w, kl_get(v, KL_F_items), mode, err);
    case KL_VOLUME_PROJECTED:
        return add_projected(src, w, kl_get(volume, KL_F_projected), err);
    case KL_VOLUME_UNSUPPORTED:
        return kl_error_set(err, KL_EUNSUPPORTED, "no volume plugin matched");
    default:
        return 0;
    }
}
