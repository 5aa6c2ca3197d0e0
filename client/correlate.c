// SPDX-License-Identifier: Apache-2.0
#include "client/correlate.h"
#include "base/map.h"
#include <stdlib.h>

// One table of at most KL_EVENTS_KEPT entries, the longest unused first out.
struct entry {
    struct entry *newer, *older;
    union {
        struct {
            double tokens;
            int64_t at_ms;
        } bucket;
        struct {
            uint64_t messages[KL_EVENTS_SIMILAR]; // hashes of the different ones
            int n;
            int64_t at_ms;
        } similar;
        struct {
            int64_t count, first_us;
            char name[280];
        } seen;
    };
    uint32_t key_bytes;
    char key[];
};

struct table {
    struct kl_map map;
    struct entry *newest, *oldest;
};

struct kl_correlator {
    struct table buckets, similar, seen;
};

static void unlink_entry(struct table *t, struct entry *e)
{
    *(e->newer ? &e->newer->older : &t->newest) = e->older;
    *(e->older ? &e->older->newer : &t->oldest) = e->newer;
}

static void link_newest(struct table *t, struct entry *e)
{
    e->newer = NULL;
    e->older = t->newest;
    *(t->newest ? &t->newest->newer : &t->oldest) = e;
    t->newest = e;
}

// *ret_new: the entry was made now (zeroed). NULL when memory ran out.
static struct entry *touch(struct table *t, struct kl_str key, bool *ret_new)
{
    struct entry *e = kl_map_get(&t->map, key);
    *ret_new = !e;
    if (e) {
        unlink_entry(t, e);
        link_newest(t, e);
        return e;
    }
    if (t->map.n >= KL_EVENTS_KEPT) {
        struct entry *old = t->oldest;
        unlink_entry(t, old);
        kl_map_del(&t->map, (struct kl_str){old->key, old->key_bytes});
        free(old);
    }
    e = calloc(1, sizeof(*e) + key.n + 1);
    if (!e)
        return NULL;
    e->key_bytes = (uint32_t)key.n;
    memcpy(e->key, key.p, key.n);
    if (kl_map_set(&t->map, key, e, NULL) < 0) {
        free(e);
        return NULL;
    }
    link_newest(t, e);
    return e;
}

static void fini_table(struct table *t)
{
    for (struct entry *e = t->newest, *older; e; e = older) {
        older = e->older;
        free(e);
    }
    kl_map_fini(&t->map);
}

struct kl_correlator *kl_correlator_new(void)
{
    struct kl_correlator *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    kl_map_init(&c->buckets.map);
    kl_map_init(&c->similar.map);
    kl_map_init(&c->seen.map);
    return c;
}

void kl_correlator_free(struct kl_correlator *c)
{
    if (!c)
        return;
    fini_table(&c->buckets);
    fini_table(&c->similar);
    fini_table(&c->seen);
    free(c);
}

static bool take_token(struct entry *e, bool is_new, int64_t now_ms)
{
    if (is_new) {
        e->bucket.tokens = KL_EVENTS_BURST;
    } else {
        e->bucket.tokens += (double)(now_ms - e->bucket.at_ms) / KL_EVENTS_REFILL_MS;
        if (e->bucket.tokens > KL_EVENTS_BURST)
            e->bucket.tokens = KL_EVENTS_BURST;
    }
    e->bucket.at_ms = now_ms;
    if (e->bucket.tokens < 1)
        return false;
    e->bucket.tokens -= 1;
    return true;
}

// Whether this message is one too many of its kind.
static bool is_similar(struct entry *e, struct kl_str message, int64_t now_ms)
{
    if (now_ms - e->similar.at_ms > KL_EVENTS_SIMILAR_MS)
        e->similar.n = 0;
    e->similar.at_ms = now_ms;
    uint64_t hash = kl_str_hash(message);
    for (int i = 0; i < e->similar.n; i++) {
        if (e->similar.messages[i] == hash)
            return false;
    }
    // client-go combines when the set of local keys has reached ten: the tenth message is combined.
    if (e->similar.n + 1 >= KL_EVENTS_SIMILAR)
        return true;
    e->similar.messages[e->similar.n++] = hash;
    return false;
}

void kl_correlator_see(struct kl_correlator *c, struct kl_arena *a, struct kl_str component,
                       struct kl_str host, const struct kl_object_ref *about, const char *type,
                       const char *reason, struct kl_str message, int64_t now_ms, int64_t now_us,
                       struct kl_correlated *ret, struct kl_str *ret_key)
{
    bool is_new;
    *ret = (struct kl_correlated){.count = 1, .first_us = now_us, .message = message};
    *ret_key = (struct kl_str){"", 0};
    struct kl_str object =
        kl_arena_printf(a, "%.*s\n%.*s\n%.*s\n%.*s\n%.*s\n%.*s\n%.*s\n%.*s", KL_PRI(component),
                        KL_PRI(host), KL_PRI(about->kind), KL_PRI(about->ns), KL_PRI(about->name),
                        KL_PRI(about->uid), KL_PRI(about->api_version), KL_PRI(about->field_path));
    struct kl_str kind = kl_arena_printf(a, "%.*s\n%s\n%s", KL_PRI(object), type, reason);
    if (!object.p || !kind.p) {
        ret->drop = true;
        return;
    }
    struct entry *e = touch(&c->similar, kind, &is_new);
    if (e && is_new)
        e->similar.at_ms = now_ms;
    bool combined = e && is_similar(e, message, now_ms);
    struct kl_str key = kind;
    if (combined) {
        ret->message = kl_arena_printf(a, "(combined from similar events): %.*s", KL_PRI(message));
    } else {
        key = kl_arena_printf(a, "%.*s\n%.*s", KL_PRI(kind), KL_PRI(message));
    }
    if (!key.p || !ret->message.p) {
        ret->drop = true;
        return;
    }
    e = touch(&c->seen, key, &is_new);
    if (e && is_new) {
        e->seen.count = 1;
        e->seen.first_us = now_us;
    } else if (e) {
        ret->count = ++e->seen.count;
        ret->first_us = e->seen.first_us;
    }
    *ret_key = key;
    e = touch(&c->buckets, object, &is_new);
    ret->drop = e && !take_token(e, is_new, now_ms);
}

void kl_correlator_written(struct kl_correlator *c, struct kl_str key, struct kl_str event_name)
{
    struct entry *e = kl_map_get(&c->seen.map, key);
    if (!e || event_name.n >= sizeof(e->seen.name))
        return;
    memcpy(e->seen.name, event_name.p, event_name.n);
    e->seen.name[event_name.n] = 0;
}

struct kl_str kl_correlator_name(const struct kl_correlator *c, struct kl_str key)
{
    const struct entry *e = kl_map_get(&c->seen.map, key);
    return kl_str(e ? e->seen.name : "");
}
