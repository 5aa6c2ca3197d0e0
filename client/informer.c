// SPDX-License-Identifier: Apache-2.0
#include "client/informer.h"
#include "base/map.h"
#include <stdlib.h>

struct bucket {
    struct stored **items;
    size_t n, cap;
    struct kl_str value; // the map's key
};

struct stored {
    struct kl_entry e; // first: a bucket's items are shown as kl_entry *
    uint32_t generation;
    struct {
        struct bucket *bucket; // NULL: not in this index
        size_t pos;
    } at[KL_INFORMER_MAX_INDEXES];
};

struct kl_informer {
    struct kl_informer *next;
    struct kl_informers *set;
    const struct kl_resource *res;
    char *field_selector;
    struct kl_reflector *reflector;
    struct kl_map objects; // key → struct stored
    int nindexes;
    kl_index_fn index_fn[KL_INFORMER_MAX_INDEXES];
    struct kl_map index[KL_INFORMER_MAX_INDEXES]; // value → struct bucket
    struct kl_handler *handlers;
    uint32_t generation;
    bool synced;
};

struct kl_informers {
    struct kl_client *client;
    struct kl_timers *timers;
    struct kl_informer *first;
};

struct kl_str kl_index_namespace(const struct kl_value *root)
{
    return kl_meta_namespace(root);
}

struct kl_str kl_index_controller_uid(const struct kl_value *root)
{
    return kl_text(kl_get(kl_meta_controller(root), KL_F_uid));
}

struct kl_str kl_index_node_name(const struct kl_value *root)
{
    return kl_text_at(root, KL_F_spec, KL_F_nodeName);
}

// ---- indexes. Running out of memory here would make the copy lie, so it aborts.

static void index_remove(struct kl_informer *inf, int i, struct stored *s)
{
    struct bucket *b = s->at[i].bucket;
    if (!b)
        return;
    struct stored *last = b->items[--b->n];
    b->items[s->at[i].pos] = last;
    last->at[i].pos = s->at[i].pos;
    s->at[i].bucket = NULL;
    if (b->n == 0) {
        kl_map_del(&inf->index[i], b->value);
        free(b->items);
        free(b);
    }
}

static struct bucket *find_or_make_bucket(struct kl_informer *inf, int i, struct kl_str value)
{
    struct bucket *b = kl_map_get(&inf->index[i], value);
    if (b)
        return b;
    b = calloc(1, sizeof(*b) + value.n + 1);
    if (!b)
        abort();
    char *copy = (char *)(b + 1);
    memcpy(copy, value.p, value.n);
    b->value = (struct kl_str){copy, value.n};
    if (kl_map_set(&inf->index[i], value, b, NULL) < 0)
        abort();
    return b;
}

static void index_add(struct kl_informer *inf, int i, struct stored *s, struct kl_str value)
{
    struct bucket *b = find_or_make_bucket(inf, i, value);
    if (b->n == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 4;
        b->items = realloc(b->items, b->cap * sizeof(struct stored *));
        if (!b->items)
            abort();
    }
    s->at[i].bucket = b;
    s->at[i].pos = b->n;
    b->items[b->n++] = s;
}

static void index_update(struct kl_informer *inf, struct stored *s)
{
    for (int i = 0; i < inf->nindexes; i++) {
        struct kl_str value = inf->index_fn[i](&s->e.object->root);
        if (s->at[i].bucket && kl_str_eq(s->at[i].bucket->value, value))
            continue;
        index_remove(inf, i, s);
        if (value.n)
            index_add(inf, i, s, value);
    }
}

// ---- what the reflector tells

#define KEY_BYTES 520 // namespace (63) and name (253) fit twice over

static struct kl_str make_key(char *buf, struct kl_str ns, struct kl_str name)
{
    if (ns.n + name.n + 1 > KEY_BYTES)
        return (struct kl_str){"", 0};
    size_t n = 0;
    if (ns.n) {
        memcpy(buf, ns.p, ns.n);
        buf[ns.n] = '/';
        n = ns.n + 1;
    }
    memcpy(buf + n, name.p, name.n);
    return (struct kl_str){buf, n + name.n};
}

static void on_begin(void *arg)
{
    struct kl_informer *inf = arg;
    inf->generation++;
}

static void on_upsert(void *arg, struct kl_object *object)
{
    struct kl_informer *inf = arg;
    char buf[KEY_BYTES];
    struct kl_str key =
        make_key(buf, kl_meta_namespace(&object->root), kl_meta_name(&object->root));
    struct stored *s = kl_map_get(&inf->objects, key);
    struct kl_object *old = NULL;
    if (s) {
        s->generation = inf->generation;
        old = s->e.object;
        // A relist repeats what did not change; nobody needs to hear of it.
        if (old == object || kl_str_eq(kl_meta_rv(&old->root), kl_meta_rv(&object->root)))
            return;
    } else {
        s = calloc(1, sizeof(*s) + key.n);
        if (!s || kl_map_set(&inf->objects, key, s, NULL) < 0)
            abort();
        memcpy((char *)(s + 1), key.p, key.n);
        s->e.key = (struct kl_str){(char *)(s + 1), key.n};
        s->generation = inf->generation;
    }
    s->e.object = kl_object_ref(object);
    index_update(inf, s);
    for (struct kl_handler *h = inf->handlers, *next; h; h = next) {
        next = h->next;
        if (!old && h->add)
            h->add(h, object);
        else if (old && h->update)
            h->update(h, old, object);
    }
    kl_object_unref(old);
}

static void forget(struct kl_informer *inf, struct stored *s, struct kl_object *last)
{
    for (int i = 0; i < inf->nindexes; i++)
        index_remove(inf, i, s);
    kl_map_del(&inf->objects, s->e.key);
    for (struct kl_handler *h = inf->handlers, *next; h; h = next) {
        next = h->next;
        if (h->remove)
            h->remove(h, last);
    }
    kl_object_unref(s->e.object);
    free(s);
}

static void on_remove(void *arg, struct kl_object *last)
{
    struct kl_informer *inf = arg;
    char buf[KEY_BYTES];
    struct kl_str key = make_key(buf, kl_meta_namespace(&last->root), kl_meta_name(&last->root));
    struct stored *s = kl_map_get(&inf->objects, key);
    if (s)
        forget(inf, s, last);
}

static void on_end(void *arg)
{
    struct kl_informer *inf = arg;
    KL_MAP_EACH (&inf->objects, e) {
        struct stored *s = e->value;
        if (s->generation != inf->generation)
            forget(inf, s, s->e.object);
    }
    inf->synced = true;
    for (struct kl_handler *h = inf->handlers, *next; h; h = next) {
        next = h->next;
        if (!h->told && h->synced)
            h->synced(h);
        h->told = true;
    }
}

// ---- the set

struct kl_informers *kl_informers_new(struct kl_client *client, struct kl_timers *timers)
{
    struct kl_informers *set = calloc(1, sizeof(*set));
    if (!set)
        return NULL;
    set->client = client;
    set->timers = timers;
    return set;
}

static void free_informer(struct kl_informer *inf)
{
    kl_reflector_free(inf->reflector);
    for (int i = 0; i < inf->nindexes; i++) {
        KL_MAP_EACH (&inf->index[i], e) {
            struct bucket *b = e->value;
            free(b->items);
            free(b);
        }
        kl_map_fini(&inf->index[i]);
    }
    KL_MAP_EACH (&inf->objects, e) {
        struct stored *s = e->value;
        kl_object_unref(s->e.object);
        free(s);
    }
    kl_map_fini(&inf->objects);
    free(inf->field_selector);
    free(inf);
}

void kl_informers_free(struct kl_informers *set)
{
    if (!set)
        return;
    for (struct kl_informer *inf = set->first, *next; inf; inf = next) {
        next = inf->next;
        free_informer(inf);
    }
    free(set);
}

struct kl_informer *kl_informers_get_selected(struct kl_informers *set,
                                              const struct kl_resource *res,
                                              struct kl_str field_selector)
{
    for (struct kl_informer *inf = set->first; inf; inf = inf->next) {
        if (inf->res == res && kl_str_eqz(field_selector, inf->field_selector))
            return inf;
    }
    struct kl_informer *inf = calloc(1, sizeof(*inf));
    if (!inf)
        return NULL;
    inf->field_selector = strndup(field_selector.n ? field_selector.p : "", field_selector.n);
    if (!inf->field_selector) {
        free(inf);
        return NULL;
    }
    inf->set = set;
    inf->res = res;
    kl_map_init(&inf->objects);
    inf->next = set->first;
    set->first = inf;
    return inf;
}

struct kl_informer *kl_informers_get(struct kl_informers *set, const struct kl_resource *res)
{
    return kl_informers_get_selected(set, res, (struct kl_str){"", 0});
}

int kl_informers_start(struct kl_informers *set)
{
    for (struct kl_informer *inf = set->first; inf; inf = inf->next) {
        if (inf->reflector)
            continue;
        inf->reflector = kl_reflector_new(&(struct kl_reflector_opts){
            .client = set->client,
            .timers = set->timers,
            .res = inf->res,
            .field_selector = kl_str(inf->field_selector),
            .sink = {on_begin, on_upsert, on_remove, on_end, inf},
        });
        if (!inf->reflector)
            return KL_ENOMEM;
    }
    return 0;
}

bool kl_informers_synced(const struct kl_informers *set)
{
    for (const struct kl_informer *inf = set->first; inf; inf = inf->next) {
        if (!inf->synced)
            return false;
    }
    return true;
}

int kl_informer_add_index(struct kl_informer *inf, kl_index_fn fn)
{
    for (int i = 0; i < inf->nindexes; i++) {
        if (inf->index_fn[i] == fn)
            return i;
    }
    if (inf->nindexes == KL_INFORMER_MAX_INDEXES || inf->reflector)
        return KL_ELIMIT;
    inf->index_fn[inf->nindexes] = fn;
    kl_map_init(&inf->index[inf->nindexes]);
    return inf->nindexes++;
}

void kl_informer_add_handler(struct kl_informer *inf, struct kl_handler *h)
{
    struct kl_handler **end = &inf->handlers;
    while (*end)
        end = &(*end)->next;
    *end = h;
    h->next = NULL;
    h->told = false;
    if (h->add) {
        KL_MAP_EACH (&inf->objects, e)
            h->add(h, ((struct stored *)e->value)->e.object);
    }
    if (inf->synced) {
        h->told = true;
        if (h->synced)
            h->synced(h);
    }
}

void kl_informer_remove_handler(struct kl_informer *inf, struct kl_handler *h)
{
    for (struct kl_handler **p = &inf->handlers; *p; p = &(*p)->next) {
        if (*p == h) {
            *p = h->next;
            return;
        }
    }
}

bool kl_informer_synced(const struct kl_informer *inf)
{
    return inf->synced;
}

// ---- reads

struct kl_object *kl_informer_get_key(const struct kl_informer *inf, struct kl_str key)
{
    const struct stored *s = kl_map_get(&inf->objects, key);
    return s ? s->e.object : NULL;
}

struct kl_object *kl_informer_get(const struct kl_informer *inf, struct kl_str ns,
                                  struct kl_str name)
{
    char buf[KEY_BYTES];
    return kl_informer_get_key(inf, make_key(buf, ns, name));
}

struct kl_entry *const *kl_informer_index(const struct kl_informer *inf, int index,
                                          struct kl_str value, size_t *ret_n)
{
    const struct bucket *b = kl_map_get(&inf->index[index], value);
    *ret_n = b ? b->n : 0;
    // struct stored begins with its kl_entry
    return b ? (struct kl_entry *const *)(void *)b->items : NULL;
}

struct kl_entry *kl_informer_next(const struct kl_informer *inf, size_t *it)
{
    struct kl_map_entry *e = kl_map_next(&inf->objects, it);
    return e ? &((struct stored *)e->value)->e : NULL;
}

size_t kl_informer_len(const struct kl_informer *inf)
{
    return inf->objects.n;
}

struct kl_str kl_key_of(struct kl_arena *a, const struct kl_value *root)
{
    struct kl_str ns = kl_meta_namespace(root), name = kl_meta_name(root);
    if (!ns.n)
        return kl_arena_dup(a, name);
    return kl_arena_printf(a, "%.*s/%.*s", KL_PRI(ns), KL_PRI(name));
}

void kl_key_split(struct kl_str key, struct kl_str *ret_ns, struct kl_str *ret_name)
{
    ptrdiff_t slash = kl_str_chr(key, '/');
    if (slash < 0) {
        *ret_ns = (struct kl_str){"", 0};
        *ret_name = key;
        return;
    }
    *ret_ns = (struct kl_str){key.p, (size_t)slash};
    *ret_name = kl_str_from(key, (size_t)slash + 1);
}
