// SPDX-License-Identifier: Apache-2.0
// APIServices of the groups that come and go with custom resources (kube-aggregator's autoregister
// controller and apiextensions' crdregistration): made when a version is served, removed when it is
// no more. Those of built-in groups are bootstrap objects.
#include "apiserver/aggregate/aggregate_int.h"
#include "apiserver/openapi/openapi.h"
#include <stdio.h>
#include <stdlib.h>

enum { GROUP_PRIORITY = 1000, VERSION_PRIORITY = 100, MAX_FLYING = 32 };
#define MANAGED "kube-aggregator.kubernetes.io/automanaged"

struct wanted {
    char *name;                  // "v1.stable.example.com"
    const char *group, *version; // within one allocation
};

struct kl_local {
    struct kl_aggregate *g;
    struct wanted *list;
    size_t n, cap;
    uint64_t stamp;
    bool seen, dirty;
    int flying;
};

struct write {
    struct kl_call call;
    struct kl_local *l;
    struct kl_object *body;
    char name[384];
};

static void clear(struct kl_local *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->list[i].name);
    l->n = 0;
}

int kl_local_new(struct kl_aggregate *g, struct kl_local **ret)
{
    struct kl_local *l = calloc(1, sizeof *l);
    if (!l)
        return KL_ENOMEM;
    l->g = g;
    l->dirty = true;
    *ret = l;
    return 0;
}

void kl_local_free(struct kl_local *l)
{
    if (!l)
        return;
    clear(l);
    free(l->list);
    free(l);
}

static bool is_builtin(const char *group)
{
    for (uint16_t i = 0; i < kl_ngroups; i++)
        if (!strcmp(kl_groups[i].name, group))
            return true;
    return false;
}

// Of each version once for each of its resources; uniq() has the last word.
static void take_row(void *arg, const struct kl_openapi_custom *c)
{
    struct kl_local *l = arg;
    const char *group = c->res->group, *version = c->res->version;
    size_t ng = strlen(group), nv = strlen(version);
    if (is_builtin(group) || (l->n && !strcmp(l->list[l->n - 1].group, group) &&
                              !strcmp(l->list[l->n - 1].version, version)))
        return;
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        struct wanted *w = realloc(l->list, cap * sizeof *w);
        if (!w)
            return;
        l->list = w;
        l->cap = cap;
    }
    char *p = malloc(2 * (ng + nv) + 4);
    if (!p)
        return;
    struct wanted *w = &l->list[l->n++];
    w->name = p;
    memcpy(p, version, nv);
    p[nv] = '.';
    memcpy(p + nv + 1, group, ng + 1);
    p += nv + ng + 2;
    memcpy(p, group, ng + 1);
    w->group = p;
    p += ng + 1;
    memcpy(p, version, nv + 1);
    w->version = p;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct wanted *)a)->name, ((const struct wanted *)b)->name);
}

// Sorts: thousands of them are looked up with every change of an APIService.
static void uniq(struct kl_local *l)
{
    size_t n = 0;
    if (l->n)
        qsort(l->list, l->n, sizeof *l->list, by_name);
    for (size_t i = 0; i < l->n; i++)
        if (n && !strcmp(l->list[n - 1].name, l->list[i].name))
            free(l->list[i].name);
        else
            l->list[n++] = l->list[i];
    l->n = n;
}

static void on_written(struct kl_call *call)
{
    struct write *w = KL_CONTAINER_OF(call, struct write, call);
    struct kl_local *l = w->l;
    if (call->err.code && call->err.code != KL_EEXISTS && call->err.code != KL_ENOTFOUND)
        l->dirty = true; // another time
    kl_object_unref(w->body);
    kl_call_fini(call);
    free(w);
    l->flying--;
    l->g->flying--;
}

static void submit(struct kl_local *l, enum kl_verb verb, struct kl_str name,
                   struct kl_object *body)
{
    struct write *w = calloc(1, sizeof *w);
    if (!w || name.n >= sizeof w->name) {
        free(w);
        kl_object_unref(body);
        return;
    }
    w->l = l;
    w->body = body;
    memcpy(w->name, name.p, name.n);
    w->call = (struct kl_call){.verb = verb,
                               .res = kl_res(KL_RES_apiregistration_v1_apiservices),
                               .body = body,
                               .grace_seconds = -1,
                               .done_cb = on_written};
    if (verb != KL_VERB_CREATE)
        w->call.name = kl_str(w->name);
    l->flying++;
    l->g->flying++;
    kl_client_start(l->g->client, &w->call);
}

static int make_spec(struct kl_arena *a, const struct wanted *x, struct kl_value *s)
{
    *s = kl_new_struct();
    kl_set(a, s, KL_F_group, kl_stringz(x->group));
    kl_set(a, s, KL_F_version, kl_stringz(x->version));
    kl_set(a, s, KL_F_groupPriorityMinimum, kl_int(GROUP_PRIORITY));
    return kl_set(a, s, KL_F_versionPriority, kl_int(VERSION_PRIORITY));
}

static struct kl_object *make(const struct wanted *x)
{
    const struct kl_type *t = kl_res(KL_RES_apiregistration_v1_apiservices)->type;
    struct kl_value o = kl_new_struct(), m = kl_new_struct(), s;
    struct kl_value labels = kl_new_map();
    struct kl_arena a;
    kl_arena_init(&a, 64 * 1024);
    make_spec(&a, x, &s);
    kl_map_set_value(&a, &labels, KL_STR(MANAGED), kl_stringz("true"));
    kl_set(&a, &m, KL_F_name, kl_stringz(x->name));
    kl_set(&a, &m, KL_F_labels, labels);
    kl_set(&a, &o, KL_F_metadata, m);
    struct kl_object *out = kl_set(&a, &o, KL_F_spec, s) ? NULL : kl_object_freeze(t, &o);
    kl_arena_fini(&a);
    return out;
}

static bool is_managed(const struct kl_value *o)
{
    return kl_str_eqz(kl_text(kl_map_value(kl_meta_labels(o), KL_STR(MANAGED))), "true");
}

// The object with the spec that it has to have; NULL: it has it, or is somebody else's.
static struct kl_object *mend(const struct wanted *x, struct kl_object *o)
{
    struct kl_object *out = NULL;
    struct kl_value draft = kl_object_draft(o), spec;
    struct kl_arena a;
    if (!is_managed(&o->root))
        return NULL;
    kl_arena_init(&a, 64 * 1024);
    if (!make_spec(&a, x, &spec) && !kl_value_equal(&spec, kl_get(&o->root, KL_F_spec)) &&
        !kl_set(&a, &draft, KL_F_spec, spec))
        out = kl_object_freeze(o->type, &draft);
    kl_arena_fini(&a);
    return out;
}

static int by_text(const void *key, const void *x)
{
    return kl_str_cmp(*(const struct kl_str *)key, kl_str(((const struct wanted *)x)->name));
}

static bool is_wanted(const struct kl_local *l, struct kl_str name)
{
    return l->n && bsearch(&name, l->list, l->n, sizeof *l->list, by_text);
}

static void compare(struct kl_local *l)
{
    const struct kl_resource *res = kl_res(KL_RES_apiregistration_v1_apiservices);
    struct kl_view *v = kl_reader_view(l->g->srv->loops[0].reader);
    char key[512], end[128];
    struct kl_iter it;
    struct kl_error err;
    l->dirty = false;
    for (size_t i = 0; i < l->n; i++) {
        int n = snprintf(key, sizeof key, "%s/%s", res->etcd_prefix, l->list[i].name);
        if (n < 0 || (size_t)n >= sizeof key)
            continue;
        struct kl_kv *kv = kl_view_get(v, (struct kl_str){key, (size_t)n});
        struct kl_object *was = kv ? kl_cache_object(kv, res, &err) : NULL, *o = NULL;
        if (was && !(o = mend(&l->list[i], was)))
            continue;
        if (!was && !kv && l->flying < MAX_FLYING)
            o = make(&l->list[i]);
        if (o && l->flying < MAX_FLYING) {
            submit(l, was ? KL_VERB_UPDATE : KL_VERB_CREATE, kl_str(l->list[i].name), o);
        } else {
            kl_object_unref(o);
            l->dirty = true;
        }
    }
    int n = snprintf(key, sizeof key, "%s/", res->etcd_prefix);
    struct kl_str from = {key, (size_t)n};
    kl_iter_init(&it, v, from, kl_prefix_end(from, end));
    for (struct kl_kv *kv; (kv = kl_iter_next(&it));) {
        struct kl_object *o = kl_cache_object(kv, res, &err);
        if (!o || !is_managed(&o->root) || is_wanted(l, kl_meta_name(&o->root)))
            continue;
        if (l->flying < MAX_FLYING)
            submit(l, KL_VERB_DELETE, kl_meta_name(&o->root), NULL);
        else
            l->dirty = true;
    }
}

void kl_local_tick(struct kl_local *l, bool changed)
{
    struct kl_apiserver *s = l->g->srv;
    const struct kl_openapi_source *src = s->openapi;
    struct kl_api_loop *al = &s->loops[0];
    struct kl_str none = {NULL, 0};
    if (!src)
        return; // nobody knows of custom resources
    uint64_t stamp = src->stamp(src->arg, al, none, none);
    if (!l->seen || stamp != l->stamp) {
        clear(l);
        src->each(src->arg, al, none, none, take_row, l);
        uniq(l);
        l->stamp = stamp;
        l->seen = l->dirty = true;
    }
    if ((l->dirty || changed) && !l->flying)
        compare(l);
}
