// SPDX-License-Identifier: Apache-2.0
#include "controllers/kinds.h"
#include "base/log.h"
#include "base/map.h"
#include "object/custom.h"
#include <stdlib.h>

enum { KIND_BYTES_MAX = 1 << 20 };

// One kind in one form; a definition that comes to mean something else gets another.
struct kind {
    struct kl_resource row;
    struct kl_str name;     // of the definition
    struct kl_str versions; // served ones, with a space behind each
    struct kl_arena arena;
    bool served;
    uint32_t generation;
    struct kind *before; // what the definition meant earlier
};

struct kl_kinds {
    struct kl_kinds_opts o;
    struct kl_reflector *reflector;
    struct kind **all; // in the order they came
    uint32_t n, cap;
    struct kl_map last; // by the definition's name: its last form
    uint32_t generation;
    bool synced;
};

static const char *keep(struct kl_arena *a, struct kl_str s)
{
    struct kl_str copy = kl_arena_printf(a, "%.*s", KL_PRI(s));
    return copy.p ? copy.p : "";
}

static bool is_established(const struct kl_value *crd)
{
    for (KL_EACH(c, kl_path(crd, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_type)), "Established"))
            return kl_str_eqz(kl_text(kl_get(c, KL_F_status)), "True");
    return false;
}

static struct kind *make_kind(const struct kl_value *crd)
{
    const struct kl_value *names = kl_path(crd, KL_F_status, KL_F_acceptedNames);
    struct kind *k = calloc(1, sizeof(*k));
    if (!k)
        return NULL;
    struct kl_arena *a = &k->arena;
    struct kl_resource *r = &k->row;
    kl_arena_init(a, KIND_BYTES_MAX);
    k->name = kl_arena_dup(a, kl_meta_name(crd));
    k->versions = KL_STR("");
    for (KL_EACH(v, kl_path(crd, KL_F_spec, KL_F_versions))) {
        if (!kl_is_true(kl_get(v, KL_F_served)))
            continue;
        const char *version = keep(a, kl_text(kl_get(v, KL_F_name)));
        k->versions = kl_arena_printf(a, "%.*s%s ", KL_PRI(k->versions), version);
        if (!r->version || kl_version_compare(version, r->version) > 0)
            r->version = version;
    }
    r->group = keep(a, kl_text_at(crd, KL_F_spec, KL_F_group));
    r->plural = keep(a, kl_text(kl_get(names, KL_F_plural)));
    r->singular = keep(a, kl_text(kl_get(names, KL_F_singular)));
    r->kind = keep(a, kl_text(kl_get(names, KL_F_kind)));
    r->namespaced = kl_str_eqz(kl_text_at(crd, KL_F_spec, KL_F_scope), "Namespaced");
    r->type = kl_type(KL_TYPE_meta_v1_PartialObjectMetadata);
    r->list_type = kl_type(KL_TYPE_meta_v1_PartialObjectMetadataList);
    r->verbs = (1u << KL_VERB_COUNT) - 1;
    r->index = KL_RES_CUSTOM;
    r->enabled = r->preferred = r->json_in_store = true;
    if (r->version) {
        r->api_version = kl_arena_printf(a, "%s/%s", r->group, r->version).p;
        r->etcd_prefix = kl_arena_printf(a, "/registry/%s/%s", r->group, r->plural).p;
    }
    return k;
}

static void free_kind(struct kind *k)
{
    kl_arena_fini(&k->arena);
    free(k);
}

static bool is_same(const struct kind *a, const struct kind *b)
{
    return strcmp(a->row.api_version, b->row.api_version) == 0 &&
           strcmp(a->row.plural, b->row.plural) == 0 && strcmp(a->row.kind, b->row.kind) == 0 &&
           a->row.namespaced == b->row.namespaced && kl_str_eq(a->versions, b->versions);
}

static void set_served(struct kl_kinds *s, struct kind *k, bool served)
{
    if (k->served == served)
        return;
    k->served = served;
    if (s->o.changed)
        s->o.changed(s->o.arg, &k->row, served);
}

static void end_others(struct kl_kinds *s, struct kl_str name, const struct kind *but)
{
    for (struct kind *k = kl_map_get(&s->last, name); k; k = k->before)
        if (k != but)
            set_served(s, k, false);
}

// False: there is no room for it.
static bool add_kind(struct kl_kinds *s, struct kind *k)
{
    void *before;
    if (s->n == KL_KINDS_MAX)
        return false;
    if (s->n == s->cap) {
        uint32_t cap = s->cap ? 2 * s->cap : 64;
        struct kind **all = realloc(s->all, cap * sizeof(struct kind *));
        if (!all)
            return false;
        s->all = all;
        s->cap = cap;
    }
    if (kl_map_set(&s->last, k->name, k, &before))
        return false;
    k->before = before;
    s->all[s->n++] = k;
    return true;
}

static void on_begin(void *arg)
{
    struct kl_kinds *s = arg;
    s->generation++;
}

static void on_upsert(void *arg, struct kl_object *object)
{
    struct kl_kinds *s = arg;
    struct kind *k = is_established(&object->root) ? make_kind(&object->root) : NULL;
    if (k && (!k->name.p || !k->row.api_version || !k->row.etcd_prefix || !*k->row.plural)) {
        free_kind(k);
        k = NULL;
    }
    struct kind *at = NULL;
    for (struct kind *x = k ? kl_map_get(&s->last, k->name) : NULL; x && !at; x = x->before)
        at = is_same(x, k) ? x : NULL;
    if (at) {
        free_kind(k);
    } else if (k && add_kind(s, k)) {
        at = k;
    } else if (k) {
        kl_log(KL_LOG_ERROR, "kinds", "definition=%.*s is not looked after: there were too many",
               KL_PRI(k->name));
        free_kind(k);
    }
    end_others(s, kl_meta_name(&object->root), at);
    if (at) {
        at->generation = s->generation;
        set_served(s, at, true);
    }
}

static void on_remove(void *arg, struct kl_object *last)
{
    end_others(arg, kl_meta_name(&last->root), NULL);
}

static void on_end(void *arg)
{
    struct kl_kinds *s = arg;
    for (uint32_t i = 0; i < s->n; i++)
        if (s->all[i]->generation != s->generation)
            set_served(s, s->all[i], false);
    if (s->synced)
        return;
    s->synced = true;
    if (s->o.synced)
        s->o.synced(s->o.arg);
}

struct kl_kinds *kl_kinds_new(const struct kl_kinds_opts *o)
{
    struct kl_kinds *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->o = *o;
    kl_map_init(&s->last);
    s->reflector = kl_reflector_new(&(struct kl_reflector_opts){
        .client = o->client,
        .timers = o->timers,
        .res = kl_res(KL_RES_apiextensions_v1_customresourcedefinitions),
        .ns = KL_STR(""),
        .label_selector = KL_STR(""),
        .field_selector = KL_STR(""),
        .sink = {on_begin, on_upsert, on_remove, on_end, s},
    });
    if (!s->reflector) {
        free(s);
        return NULL;
    }
    return s;
}

void kl_kinds_free(struct kl_kinds *s)
{
    if (!s)
        return;
    kl_reflector_free(s->reflector);
    for (uint32_t i = 0; i < s->n; i++)
        free_kind(s->all[i]);
    free(s->all);
    kl_map_fini(&s->last);
    free(s);
}

bool kl_kinds_synced(const struct kl_kinds *s)
{
    return s->synced;
}

const struct kl_resource *kl_kinds_next(const struct kl_kinds *s, size_t *it)
{
    while (*it < s->n) {
        const struct kind *k = s->all[(*it)++];
        if (k->served)
            return &k->row;
    }
    return NULL;
}

const struct kl_resource *kl_kinds_find(const struct kl_kinds *s, struct kl_str group,
                                        struct kl_str version, struct kl_str kind)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const struct kind *k = s->all[i];
        if (!k->served || !kl_str_eqz(kind, k->row.kind) || !kl_str_eqz(group, k->row.group))
            continue;
        struct kl_str rest = k->versions, one;
        while (kl_str_split(&rest, ' ', &one))
            if (one.n && kl_str_eq(one, version))
                return &k->row;
    }
    return NULL;
}
