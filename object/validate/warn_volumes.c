// SPDX-License-Identifier: Apache-2.0
// Warnings of a pod's volumes: plug-ins that are gone, and files that hide each other.
#include "object/validate/warn_int.h"

static const struct {
    kl_sym field;
    const char *name, *text; // name: upstream's, where it is not the field's
} gone[] = {
    {KL_F_photonPersistentDisk, NULL, "deprecated in v1.11, non-functional in v1.16+"},
    {KL_F_gitRepo, NULL, "deprecated in v1.11, and disabled by default in v1.33+"},
    {KL_F_scaleIO, NULL, "deprecated in v1.16, non-functional in v1.22+"},
    {KL_F_flocker, NULL, "deprecated in v1.22, non-functional in v1.25+"},
    {KL_F_storageos, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
    {KL_F_quobyte, NULL, "deprecated in v1.22, non-functional in v1.25+"},
    {KL_F_glusterfs, NULL, "deprecated in v1.25, non-functional in v1.26+"},
    {KL_F_ephemeral, NULL, NULL},
    {KL_F_cephfs, NULL, "deprecated in v1.28, non-functional in v1.31+"},
    {KL_F_rbd, NULL, "deprecated in v1.28, non-functional in v1.31+"},
};

// A volume has a name and one source: that is looked through sooner than searched.
static const struct kl_value *member(const struct kl_value *v, kl_sym field)
{
    for (KL_EACH(m, v))
        if (m->sym == field)
            return m;
    return NULL;
}

static void warn_source(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    for (size_t i = 0; i < KL_COUNT(gone); i++) {
        const struct kl_value *source = member(v, gone[i].field);
        if (!source)
            continue;
        if (gone[i].text) {
            kl_warn(c, gone[i].name ? N(p, gone[i].name) : FS(p, gone[i].field), "%s",
                    gone[i].text);
            continue;
        }
        const struct kl_value *template = kl_get(source, KL_F_volumeClaimTemplate);
        if (template)
            kl_warn_claim_spec(c, kl_get(template, KL_F_spec),
                               F(F(F(p, ephemeral), volumeClaimTemplate), spec));
    }
}

// ---- files of one volume

struct file {
    struct kl_str path;
    const char *kind;   // where it is from, "" where the volume has one source only
    struct kl_str name; // of that object, with p unset where there is none
};

enum { FEW_FILES = 32, FILE_PAIRS_MAX = 1 << 20 };

struct files {
    struct kl_v *c;
    struct kl_str volume;
    const char *what;   // the volume's source
    struct kl_str name; // of that object, p unset: none
    struct file few[FEW_FILES], *all;
    size_t n, cap, pairs;
};

static const char *shown_file(struct kl_v *c, const struct file *f)
{
    struct kl_str path = kl_v_quoted(c, f->path);
    if (!*f->kind)
        return kl_v_text(c, "%.*s", KL_PRI(path));
    if (!f->name.p)
        return kl_v_text(c, "%.*s (%s)", KL_PRI(path), f->kind);
    return kl_v_text(c, "%.*s (%s %.*s)", KL_PRI(path), f->kind, KL_PRI(kl_v_quoted(c, f->name)));
}

static bool is_below(struct kl_str path, struct kl_str dir)
{
    return kl_str_starts(path, dir) && (path.n == dir.n || path.p[dir.n] == '/');
}

static void warn_overlap(struct files *s, const struct file *f, const struct file *other)
{
    struct kl_v *c = s->c;
    const char *name = s->name.p ? kl_v_text(c, " %.*s", KL_PRI(kl_v_quoted(c, s->name))) : "";
    kl_warn(c, NULL, "volume %.*s (%s%s): overlapping paths: %s with %s",
            KL_PRI(kl_v_quoted(c, s->volume)), s->what, name, shown_file(c, f),
            shown_file(c, other));
}

static void add_file(struct files *s, struct kl_str path, const char *kind, struct kl_str name)
{
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    const struct file f = {path, kind, name};
    for (size_t i = 0; i < s->n && path.n && s->pairs && !kl_warn_full(s->c); i++, s->pairs--) {
        const struct file *o = &s->all[i];
        if (o->path.n && (is_below(o->path, path) || is_below(path, o->path)))
            warn_overlap(s, &f, o);
    }
    if (s->n == s->cap) {
        struct file *all = kl_arena_alloc(s->c->f->arena, 2 * s->cap * sizeof *all);
        if (!all)
            return;
        memcpy(all, s->all, s->n * sizeof *all);
        s->all = all;
        s->cap *= 2;
    }
    s->all[s->n++] = f;
}

static void begin_files(struct files *s, const char *what, struct kl_str name)
{
    s->what = what;
    s->name = name;
    s->n = 0;
}

static void add_items(struct files *s, const struct kl_value *items, const char *kind,
                      struct kl_str name)
{
    for (KL_EACH(x, items))
        add_file(s, kl_text(kl_get(x, KL_F_path)), kind, name);
}

static struct kl_str named(const struct kl_value *v, kl_sym field)
{
    struct kl_str s = kl_text(kl_get(v, field));
    return s.p ? s : KL_STR("");
}

static void add_certificate(struct files *s, const struct kl_value *v)
{
    static const struct {
        kl_sym field;
        const char *kind;
    } parts[] = {
        {KL_F_certificateChainPath, "PodCertificate chain"},
        {KL_F_keyPath, "PodCertificate key"},
        {KL_F_credentialBundlePath, "PodCertificate credential bundle"},
    };
    for (size_t i = 0; i < KL_COUNT(parts); i++) {
        struct kl_str path = kl_text(kl_get(v, parts[i].field));
        if (path.n)
            add_file(s, path, parts[i].kind, (struct kl_str){0});
    }
}

// The first of these that is there, as upstream's switch has it.
static void add_projected(struct files *s, const struct kl_value *source)
{
    const struct kl_value *v, *items;
    if ((v = kl_get(source, KL_F_configMap)) && (items = kl_get(v, KL_F_items)))
        add_items(s, items, "ConfigMap", named(v, KL_F_name));
    else if ((v = kl_get(source, KL_F_secret)) && (items = kl_get(v, KL_F_items)))
        add_items(s, items, "Secret", named(v, KL_F_name));
    else if ((v = kl_get(source, KL_F_downwardAPI)) && (items = kl_get(v, KL_F_items)))
        add_items(s, items, "DownwardAPI", (struct kl_str){0});
    else if ((v = kl_get(source, KL_F_serviceAccountToken)))
        add_file(s, kl_text(kl_get(v, KL_F_path)), "ServiceAccountToken", (struct kl_str){0});
    else if ((v = kl_get(source, KL_F_clusterTrustBundle)))
        add_file(s, kl_text(kl_get(v, KL_F_path)), "ClusterTrustBundle",
                 named(v, kl_get(v, KL_F_name) ? KL_F_name : KL_F_signerName));
    else if ((v = kl_get(source, KL_F_podCertificate)))
        add_certificate(s, v);
}

static void warn_projected(struct files *s, const struct kl_value *v)
{
    begin_files(s, "Projected", (struct kl_str){0});
    for (KL_EACH(source, kl_get(v, KL_F_sources))) {
        if (kl_len(source))
            add_projected(s, source);
        else
            kl_warn(s->c, NULL, "volume %.*s (Projected) has no sources provided",
                    KL_PRI(kl_v_quoted(s->c, s->volume)));
    }
}

static void warn_files(struct files *s, const struct kl_value *volume)
{
    const struct kl_value *map = member(volume, KL_F_configMap);
    const struct kl_value *secret = member(volume, KL_F_secret);
    const struct kl_value *downward = member(volume, KL_F_downwardAPI);
    const struct kl_value *projected = member(volume, KL_F_projected);
    s->volume = kl_text(kl_get(volume, KL_F_name));
    if (map) {
        begin_files(s, "ConfigMap", named(map, KL_F_name));
        add_items(s, kl_get(map, KL_F_items), "", (struct kl_str){0});
    }
    if (secret) {
        begin_files(s, "Secret", named(secret, KL_F_secretName));
        add_items(s, kl_get(secret, KL_F_items), "", (struct kl_str){0});
    }
    if (downward) {
        begin_files(s, "DownwardAPI", (struct kl_str){0});
        add_items(s, kl_get(downward, KL_F_items), "", (struct kl_str){0});
    }
    if (projected)
        warn_projected(s, projected);
}

void kl_warn_volumes(struct kl_v *c, const struct kl_value *volumes, const struct kl_vpath *p)
{
    struct files s;
    size_t i = 0;
    if (!kl_len(volumes))
        return;
    for (KL_EACH(v, volumes))
        warn_source(c, v, I(p, i++));
    s.c = c;
    s.all = s.few;
    s.cap = FEW_FILES;
    s.pairs = FILE_PAIRS_MAX;
    for (KL_EACH(v, volumes))
        warn_files(&s, v);
}
