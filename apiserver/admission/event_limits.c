// SPDX-License-Identifier: Apache-2.0
#include "apiserver/admission/event_limits.h"
#include "base/buf.h"
#include <openssl/sha.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_BUCKETS = 4096, FIRST_SLOTS = 64, WHY_MAX_BYTES = 64 << 10 };

const char *const kl_event_limit_names[KL_EVENT_LIMIT_TYPES] = {"Server", "Namespace", "User",
                                                                "SourceAndObject"};

// Keys come from requests and may be long: a bucket knows the digest of its key.
struct digest {
    uint64_t v[2];
};

struct bucket {
    struct bucket *chain;         // of its slot
    struct bucket *newer, *older; // by use
    struct digest key;
    double tokens;
    int64_t at_ns; // when there were so many
};

struct limit {
    struct kl_event_limit is;
    struct bucket **slots; // a power of two
    size_t nslots, n;
    struct bucket *newest, *oldest;
};

struct kl_event_limits {
    pthread_mutex_t lock;
    size_t n;
    struct limit v[];
};

struct kl_event_limits *kl_event_limits_new(const struct kl_event_limit *limits, size_t n)
{
    struct kl_event_limits *l = calloc(1, sizeof *l + n * sizeof *l->v);
    if (!l)
        return NULL;
    pthread_mutex_init(&l->lock, NULL);
    for (; l->n < n; l->n++) {
        struct limit *x = &l->v[l->n];
        x->is = limits[l->n];
        if (!x->is.cache_size)
            x->is.cache_size = DEFAULT_BUCKETS;
        x->nslots = FIRST_SLOTS;
        if (!(x->slots = calloc(x->nslots, sizeof(struct bucket *)))) {
            kl_event_limits_free(l);
            return NULL;
        }
    }
    return l;
}

void kl_event_limits_free(struct kl_event_limits *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->n; i++) {
        for (struct bucket *b = l->v[i].newest, *older; b; b = older) {
            older = b->older;
            free(b);
        }
        free(l->v[i].slots);
    }
    pthread_mutex_destroy(&l->lock);
    free(l);
}

// ---- buckets of a limit

static struct bucket **slot_of(struct limit *x, struct digest key)
{
    return &x->slots[key.v[0] & (x->nslots - 1)];
}

static void unlink_use(struct limit *x, struct bucket *b)
{
    *(b->newer ? &b->newer->older : &x->newest) = b->older;
    *(b->older ? &b->older->newer : &x->oldest) = b->newer;
}

static void link_newest(struct limit *x, struct bucket *b)
{
    b->newer = NULL;
    if ((b->older = x->newest))
        b->older->newer = b;
    else
        x->oldest = b;
    x->newest = b;
}

static struct bucket *take_oldest(struct limit *x)
{
    struct bucket *b = x->oldest, **at = slot_of(x, b->key);
    while (*at != b)
        at = &(*at)->chain;
    *at = b->chain;
    unlink_use(x, b);
    x->n--;
    return b;
}

static void grow(struct limit *x)
{
    size_t n = x->nslots * 2;
    struct bucket **slots = calloc(n, sizeof(struct bucket *));
    if (!slots) // longer chains do as well
        return;
    free(x->slots);
    x->slots = slots;
    x->nslots = n;
    for (struct bucket *b = x->newest; b; b = b->older) {
        struct bucket **at = slot_of(x, b->key);
        b->chain = *at;
        *at = b;
    }
}

// The key's bucket, full when it is new. NULL: no memory.
static struct bucket *bucket_of(struct limit *x, struct digest key, int64_t now_ns)
{
    struct bucket *b = *slot_of(x, key);
    while (b && (b->key.v[0] != key.v[0] || b->key.v[1] != key.v[1]))
        b = b->chain;
    if (b) {
        unlink_use(x, b);
        link_newest(x, b);
        return b;
    }
    if (x->n >= (size_t)x->is.cache_size)
        b = take_oldest(x);
    else if (!(b = malloc(sizeof *b)))
        return NULL;
    if (x->n >= x->nslots)
        grow(x);
    *b = (struct bucket){.key = key, .tokens = x->is.burst, .at_ns = now_ns};
    struct bucket **at = slot_of(x, key);
    b->chain = *at;
    *at = b;
    link_newest(x, b);
    x->n++;
    return b;
}

// rate.Limiter.AllowN(now, 1)
static bool take(struct limit *x, struct digest key, int64_t now_ns)
{
    struct bucket *b = bucket_of(x, key, now_ns);
    if (!b)
        return false;
    double tokens = b->tokens, qps = (float)x->is.qps;
    if (now_ns > b->at_ns)
        tokens += (double)(now_ns - b->at_ns) / 1e9 * qps;
    if (tokens > x->is.burst)
        tokens = x->is.burst;
    if ((1 - tokens) / qps * 1e9 >= 1) // what comes within a nanosecond is there
        return false;
    b->tokens = tokens - 1;
    b->at_ns = now_ns;
    return true;
}

// ---- events

static struct digest digest_of(struct kl_str key)
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    struct digest d;
    SHA256((const unsigned char *)key.p, key.n, sum);
    memcpy(&d, sum, sizeof d);
    return d;
}

// One of several, or one that was said already (utilerrors.Aggregate says each once).
static bool said(const struct limit *v, const bool *full, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (full[k] && v[k].is.type == v[i].is.type)
            return true;
    return false;
}

static struct kl_str reason(const struct kl_event_limits *l, const bool *full,
                            const struct kl_str *keys, struct kl_arena *a)
{
    struct kl_buf b;
    size_t n = 0;
    kl_buf_init(&b, WHY_MAX_BYTES);
    for (size_t i = 0; i < l->n; i++)
        if (full[i] && !said(l->v, full, i))
            kl_buf_printf(&b, "%slimit reached on type %s for key %.*s", n++ ? ", " : "",
                          kl_event_limit_names[l->v[i].is.type], KL_PRI(keys[l->v[i].is.type]));
    struct kl_str s = n > 1 ? kl_arena_printf(a, "[%.*s]", KL_PRI(kl_buf_str(&b)))
                            : kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

bool kl_event_limits_take(struct kl_event_limits *l, const struct kl_str keys[KL_EVENT_LIMIT_TYPES],
                          int64_t now_ns, struct kl_arena *a, struct kl_str *ret_why)
{
    struct digest d[KL_EVENT_LIMIT_TYPES];
    bool *full = kl_arena_zalloc(a, l->n + 1), any = false;
    *ret_why = (struct kl_str){NULL, 0};
    if (!full)
        return false;
    for (int i = 0; i < KL_EVENT_LIMIT_TYPES; i++)
        d[i] = digest_of(keys[i]);
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < l->n; i++)
        any |= full[i] = !take(&l->v[i], d[l->v[i].is.type], now_ns);
    pthread_mutex_unlock(&l->lock);
    if (any)
        *ret_why = reason(l, full, keys, a);
    return !any;
}
