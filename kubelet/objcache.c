// SPDX-License-Identifier: Apache-2.0
#include "kubelet/objcache.h"
#include "base/map.h"
#include "client/reflector.h"
#include <stdlib.h>

struct entry {
    struct kl_object_cache *cache;
    struct kl_str key;
    struct kl_reflector *reflector;
    struct kl_object *object;
    struct kl_object_use *uses;
    struct kl_timer tell; // deferred: uses come and go from callbacks
    bool known, listed_one;
    char *key_text;
};

struct kl_object_use {
    struct entry *entry;
    struct kl_object_use *next;
    void (*changed)(void *arg);
    void *arg;
    bool secret;
    struct kl_str name; // part of the entry's key
};

struct kl_object_cache {
    struct kl_client *client;
    struct kl_timers *timers;
    struct kl_map entries;
};

struct kl_object_cache *kl_object_cache_new(struct kl_client *client, struct kl_timers *timers)
{
    struct kl_object_cache *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->client = client;
    c->timers = timers;
    kl_map_init(&c->entries);
    return c;
}

void kl_object_cache_free(struct kl_object_cache *c)
{
    if (!c)
        return;
    kl_map_fini(&c->entries);
    free(c);
}

// A callback may free any use, its own too: it starts over until all were told.
static void on_tell(struct kl_timer *t)
{
    struct entry *e = KL_CONTAINER_OF(t, struct entry, tell);
    size_t n = 0, i;
    for (struct kl_object_use *u = e->uses; u; u = u->next)
        n++;
    struct kl_object_use **all = calloc(n ? n : 1, sizeof(struct kl_object_use *));
    if (!all)
        return;
    i = 0;
    for (struct kl_object_use *u = e->uses; u; u = u->next)
        all[i++] = u;
    // A use lives until its owner frees it; owners free from their own callbacks only.
    for (i = 0; i < n; i++)
        all[i]->changed(all[i]->arg);
    free(all);
}

static void tell(struct entry *e)
{
    kl_timer_after(e->cache->timers, &e->tell, 0);
}

static void on_begin(void *arg)
{
    ((struct entry *)arg)->listed_one = false;
}

static void on_upsert(void *arg, struct kl_object *o)
{
    struct entry *e = arg;
    e->listed_one = true;
    kl_object_unref(e->object);
    e->object = kl_object_ref(o);
    if (e->known)
        tell(e);
}

static void on_remove(void *arg, struct kl_object *last)
{
    struct entry *e = arg;
    kl_object_unref(e->object);
    e->object = NULL;
    tell(e);
}

static void on_end(void *arg)
{
    struct entry *e = arg;
    if (!e->listed_one) {
        kl_object_unref(e->object);
        e->object = NULL;
    }
    e->known = true;
    tell(e);
}

static void free_entry(struct entry *e)
{
    kl_map_del(&e->cache->entries, e->key);
    kl_reflector_free(e->reflector);
    kl_timer_cancel(e->cache->timers, &e->tell);
    kl_object_unref(e->object);
    free(e->key_text);
    free(e);
}

static struct entry *new_entry(struct kl_object_cache *c, bool secret, struct kl_str ns,
                               struct kl_str name)
{
    char selector[300];
    size_t n = 0;
    struct entry *e = calloc(1, sizeof(*e));
    char *key = malloc(ns.n + name.n + 4);
    if (!e || !key || name.n > 253) {
        free(e);
        free(key);
        return NULL;
    }
    key[n++] = secret ? 's' : 'c';
    memcpy(key + n, ns.p, ns.n);
    n += ns.n;
    key[n++] = '/';
    memcpy(key + n, name.p, name.n);
    e->key_text = key;
    e->key = (struct kl_str){key, n + name.n};
    e->cache = c;
    e->tell.cb = on_tell;
    memcpy(selector, "metadata.name=", 14);
    memcpy(selector + 14, name.p, name.n);
    struct kl_reflector_opts o = {
        .client = c->client,
        .timers = c->timers,
        .res = kl_res(secret ? KL_RES_core_v1_secrets : KL_RES_core_v1_configmaps),
        .ns = ns,
        .field_selector = {selector, 14 + name.n},
        .sink = {on_begin, on_upsert, on_remove, on_end, e}};
    e->reflector = kl_reflector_new(&o);
    if (!e->reflector || kl_map_set(&c->entries, e->key, e, NULL)) {
        free_entry(e);
        return NULL;
    }
    return e;
}

struct kl_object_use *kl_object_use_new(struct kl_object_cache *c, bool secret, struct kl_str ns,
                                        struct kl_str name, void (*changed)(void *arg), void *arg)
{
    char key[600];
    if (ns.n + name.n + 2 > sizeof(key))
        return NULL;
    key[0] = secret ? 's' : 'c';
    memcpy(key + 1, ns.p, ns.n);
    key[1 + ns.n] = '/';
    memcpy(key + 2 + ns.n, name.p, name.n);
    struct kl_str k = {key, ns.n + name.n + 2};
    struct entry *e = kl_map_get(&c->entries, k);
    if (!e && !(e = new_entry(c, secret, ns, name)))
        return NULL;
    struct kl_object_use *u = calloc(1, sizeof(*u));
    if (!u) {
        if (!e->uses)
            free_entry(e);
        return NULL;
    }
    *u = (struct kl_object_use){.entry = e,
                                .next = e->uses,
                                .changed = changed,
                                .arg = arg,
                                .secret = secret,
                                .name = {e->key.p + 2 + ns.n, name.n}};
    e->uses = u;
    if (e->known)
        tell(e);
    return u;
}

void kl_object_use_free(struct kl_object_use *u)
{
    if (!u)
        return;
    struct entry *e = u->entry;
    for (struct kl_object_use **at = &e->uses; *at; at = &(*at)->next)
        if (*at == u) {
            *at = u->next;
            break;
        }
    free(u);
    if (!e->uses)
        free_entry(e);
}

bool kl_object_use_known(const struct kl_object_use *u)
{
    return u->entry->known;
}

struct kl_object *kl_object_use_get(const struct kl_object_use *u)
{
    return u->entry->object;
}

bool kl_object_use_is(const struct kl_object_use *u, bool secret, struct kl_str name)
{
    return u->secret == secret && kl_str_eq(u->name, name);
}
