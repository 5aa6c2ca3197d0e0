// SPDX-License-Identifier: Apache-2.0
// kube-openapi's FilterSpecByPaths: the paths below /apis/GROUP/VERSION/, and the definitions but
// for those that only other paths need. What is left is written member by member and deflated.
#include "apiserver/aggregate/document.h"
#include "object/json.h"
#include <openssl/sha.h>
#include <stdlib.h>

#define KINDS "x-kubernetes-group-version-kind"
#define DEFINITION KL_STR("#/definitions/")
#define PARAMETER KL_STR("#/parameters/")

// ---- sums

static int by_key(const void *a, const void *b)
{
    return kl_str_cmp(kl_text(*(const struct kl_value *const *)a),
                      kl_text(*(const struct kl_value *const *)b));
}

// JSON with the members of objects in the order of their names.
static bool put_sorted(struct kl_buf *b, const struct kl_value *v, const char *without, int depth)
{
    if (depth > KL_REMOTE_MAX_DEPTH)
        return false;
    if (kl_is(v, KL_ARRAY)) {
        bool first = true, ok = true;
        kl_buf_putc(b, '[');
        for (KL_EACH(x, v)) {
            kl_buf_puts(b, first ? KL_STR("") : KL_STR(","));
            first = false;
            ok = ok && put_sorted(b, x, NULL, depth + 1);
        }
        kl_buf_putc(b, ']');
        return ok;
    }
    if (!kl_is(v, KL_MAP)) {
        kl_json_write(b, v);
        return true;
    }
    const struct kl_value **keys = malloc((v->n + 1) * sizeof *keys);
    size_t n = 0;
    bool ok = keys != NULL;
    for (KL_MAP_EACH_KEY(k, ok ? v : NULL))
        if (!without || !kl_str_eqz(kl_text(k), without))
            keys[n++] = k;
    if (n)
        qsort(keys, n, sizeof *keys, by_key);
    kl_buf_putc(b, '{');
    for (size_t i = 0; i < n && ok; i++) {
        kl_buf_puts(b, i ? KL_STR(",") : KL_STR(""));
        kl_json_write_string(b, kl_text(keys[i]));
        kl_buf_putc(b, ':');
        ok = put_sorted(b, keys[i] + 1, NULL, depth + 1);
    }
    kl_buf_putc(b, '}');
    free(keys);
    return ok;
}

bool kl_remote_sum(const struct kl_value *v, unsigned char ret[KL_REMOTE_SUM])
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    struct kl_buf b;
    kl_buf_init(&b, KL_REMOTE_MAX_BYTES);
    bool ok = put_sorted(&b, v, KINDS, 0) && !b.err;
    if (ok) {
        SHA256((const unsigned char *)b.p, b.n, sum);
        memcpy(ret, sum, KL_REMOTE_SUM);
    }
    kl_buf_fini(&b);
    return ok;
}

uint64_t kl_remote_stamp(struct kl_str json)
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    uint64_t stamp;
    SHA256((const unsigned char *)json.p, json.n, sum);
    memcpy(&stamp, sum, sizeof stamp);
    return stamp;
}

// ---- what is needed

struct marked {
    const struct kl_value *key; // the value behind it
    bool before, after;         // referred to by all paths; by those that stay
};

struct table {
    struct marked *all; // by name
    size_t n;
};

struct filter {
    struct table defs, params;
    const struct kl_value **queue; // of what is to be walked
    size_t nqueue;
    bool after;
};

static int by_marked(const void *a, const void *b)
{
    return kl_str_cmp(kl_text(((const struct marked *)a)->key),
                      kl_text(((const struct marked *)b)->key));
}

// Into the queue, and there once: what is referred to may refer to itself.
static void follow(struct filter *f, struct kl_str ref)
{
    bool is_param = kl_str_starts(ref, PARAMETER);
    const struct table *t = is_param ? &f->params : &f->defs;
    if (!t->n || (!is_param && !kl_str_starts(ref, DEFINITION)))
        return;
    struct kl_value name = kl_string(kl_str_from(ref, is_param ? PARAMETER.n : DEFINITION.n));
    struct marked key = {.key = &name};
    struct marked *d = bsearch(&key, t->all, t->n, sizeof *d, by_marked);
    if (!d || (f->after ? d->after : d->before))
        return;
    *(f->after ? &d->after : &d->before) = true;
    f->queue[f->nqueue++] = &d->key[1];
}

// The depth is that of the document, which was checked.
static void walk(struct filter *f, const struct kl_value *v)
{
    for (KL_EACH(x, kl_is(v, KL_ARRAY) ? v : NULL))
        walk(f, x);
    for (KL_MAP_EACH_KEY(k, kl_is(v, KL_MAP) ? v : NULL)) {
        if (kl_str_eqz(kl_text(k), "$ref") && kl_is(&k[1], KL_STRING))
            follow(f, kl_text(&k[1]));
        else
            walk(f, &k[1]);
    }
}

static void walk_queue(struct filter *f)
{
    while (f->nqueue)
        walk(f, f->queue[--f->nqueue]);
}

bool kl_remote_is_too_deep(const struct kl_value *v, int depth)
{
    if (depth > KL_REMOTE_MAX_DEPTH)
        return true;
    for (KL_EACH(x, kl_is(v, KL_ARRAY) ? v : NULL))
        if (kl_remote_is_too_deep(x, depth + 1))
            return true;
    for (KL_MAP_EACH_KEY(k, kl_is(v, KL_MAP) ? v : NULL))
        if (kl_remote_is_too_deep(&k[1], depth + 1))
            return true;
    return false;
}

// ---- packing

static int pack(struct kl_remote_doc *d, enum kl_remote_part part, struct kl_buf *plain)
{
    int rc = kl_packed_close(plain, &d->packed[part]);
    d->bytes += rc ? 0 : d->packed[part]->n;
    return rc;
}

// Keys come in the order of their names.
static int put_names(struct kl_remote_doc *d, enum kl_remote_part part,
                     const struct kl_value *const *keys, size_t n, struct kl_buf *plain)
{
    struct kl_remote_name *x = kl_arena_zalloc(&d->arena, (n + 1) * sizeof *x);
    if (!x)
        return KL_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *kinds = kl_map_value(&keys[i][1], KL_STR(KINDS));
        struct kl_buf text;
        kl_buf_init(&text, KL_REMOTE_MAX_BYTES);
        if (kl_is(kinds, KL_ARRAY))
            kl_json_write(&text, kinds);
        x[i].name = kl_arena_dup(&d->arena, kl_text(keys[i]));
        x[i].kinds = kl_arena_dup(&d->arena, kl_buf_str(&text));
        bool bad = text.err || !x[i].name.p || !kl_remote_sum(&keys[i][1], x[i].sum);
        kl_buf_fini(&text);
        if (bad)
            return KL_ENOMEM;
        kl_packed_put(plain, keys[i]);
        d->bytes += sizeof *x + x[i].name.n + x[i].kinds.n;
    }
    d->names[part] = x;
    d->n[part] = n;
    return pack(d, part, plain);
}

static int put_paths(struct kl_remote_doc *d, struct filter *f, const struct kl_value *paths,
                     struct kl_buf *plain)
{
    struct kl_str prefix = kl_arena_printf(&d->arena, "/apis/%s/%s/", d->group, d->version);
    if (!prefix.p)
        return KL_ENOMEM;
    walk(f, paths);
    walk_queue(f);
    f->after = true;
    for (KL_MAP_EACH_KEY(k, paths)) {
        if (!kl_str_starts(kl_text(k), prefix))
            continue;
        kl_packed_put(plain, k);
        d->n[KL_REMOTE_PATHS]++;
        walk(f, &k[1]);
    }
    walk_queue(f);
    return pack(d, KL_REMOTE_PATHS, plain);
}

static int put_definitions(struct kl_remote_doc *d, struct filter *f, struct kl_buf *plain)
{
    const struct kl_value **keys = malloc((f->defs.n + 1) * sizeof *keys);
    size_t n = 0;
    for (size_t i = 0; keys && i < f->defs.n; i++)
        if (f->defs.all[i].after || !f->defs.all[i].before)
            keys[n++] = f->defs.all[i].key;
    int rc = keys ? put_names(d, KL_REMOTE_DEFINITIONS, keys, n, plain) : KL_ENOMEM;
    free(keys);
    return rc;
}

static int put_parameters(struct kl_remote_doc *d, const struct kl_value *params,
                          struct kl_buf *plain)
{
    const struct kl_value **keys = malloc((kl_len(params) + 1) * sizeof *keys);
    size_t n = 0;
    for (KL_MAP_EACH_KEY(k, keys ? params : NULL))
        keys[n++] = k;
    if (n)
        qsort(keys, n, sizeof *keys, by_key);
    int rc = keys ? put_names(d, KL_REMOTE_PARAMETERS, keys, n, plain) : KL_ENOMEM;
    free(keys);
    return rc;
}

static const struct kl_value *map_of(const struct kl_value *root, const char *name)
{
    const struct kl_value *v = kl_map_value(root, kl_str(name));
    return kl_is(v, KL_MAP) ? v : NULL;
}

static bool table_init(struct table *t, const struct kl_value *map)
{
    t->all = calloc(kl_len(map) + 1, sizeof *t->all);
    for (KL_MAP_EACH_KEY(k, t->all ? map : NULL))
        t->all[t->n++].key = k;
    if (t->n)
        qsort(t->all, t->n, sizeof *t->all, by_marked);
    return t->all;
}

static int fill(struct kl_remote_doc *d, const struct kl_value *root)
{
    const struct kl_value *paths = map_of(root, "paths"), *defs = map_of(root, "definitions"),
                          *params = map_of(root, "parameters");
    struct filter f = {0};
    struct kl_buf plain;
    f.queue = calloc(kl_len(defs) + kl_len(params) + 1, sizeof *f.queue);
    kl_buf_init(&plain, 2 * KL_REMOTE_MAX_BYTES);
    int rc = f.queue && table_init(&f.defs, defs) && table_init(&f.params, params)
                 ? put_paths(d, &f, paths, &plain)
                 : KL_ENOMEM;
    // Without paths nothing of it is used.
    if (!rc && !d->n[KL_REMOTE_PATHS])
        f.defs.n = 0, params = NULL;
    rc = rc ? rc : put_definitions(d, &f, &plain);
    rc = rc ? rc : put_parameters(d, params, &plain);
    kl_buf_fini(&plain);
    free(f.defs.all);
    free(f.params.all);
    free(f.queue);
    return rc;
}

int kl_remote_doc_new(struct kl_str json, const char *group, const char *version,
                      struct kl_remote_doc **ret, struct kl_error *err)
{
    struct kl_arena a;
    struct kl_value root;
    if (json.n > KL_REMOTE_MAX_BYTES)
        return kl_error_set(err, KL_EINVALID, "document of %zu bytes is too large", json.n);
    struct kl_remote_doc *d = calloc(1, sizeof *d);
    if (!d)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    atomic_init(&d->refs, 1);
    kl_arena_init(&d->arena, KL_REMOTE_MAX_BYTES);
    kl_arena_init(&a, 16 * (size_t)KL_REMOTE_MAX_BYTES);
    d->stamp = kl_remote_stamp(json);
    d->group = (char *)kl_arena_dup(&d->arena, kl_str(group)).p;
    d->version = (char *)kl_arena_dup(&d->arena, kl_str(version)).p;
    int rc = kl_json_parse(&a, json, NULL, &root, err);
    if (!rc && (!kl_is(&root, KL_MAP) || kl_remote_is_too_deep(&root, 0) ||
                !kl_str_eqz(kl_text(kl_map_value(&root, KL_STR("swagger"))), "2.0")))
        rc = kl_error_set(err, KL_EINVALID, "no OpenAPI version 2 document");
    if (!rc && (!d->group || !d->version || (rc = fill(d, &root))))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_arena_fini(&a);
    if (rc)
        kl_remote_doc_unref(d);
    else
        *ret = d;
    return rc;
}

struct kl_remote_doc *kl_remote_doc_ref(struct kl_remote_doc *d)
{
    if (d)
        atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
    return d;
}

void kl_remote_doc_unref(struct kl_remote_doc *d)
{
    if (!d || atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (int i = 0; i < KL_REMOTE_NPARTS; i++)
        kl_bytes_unref(d->packed[i]);
    kl_arena_fini(&d->arena);
    free(d);
}

static int by_name(const void *key, const void *x)
{
    return kl_str_cmp(*(const struct kl_str *)key, ((const struct kl_remote_name *)x)->name);
}

const struct kl_remote_name *kl_remote_find(const struct kl_remote_doc *d, enum kl_remote_part part,
                                            struct kl_str name)
{
    return d->n[part] ? bsearch(&name, d->names[part], d->n[part], sizeof *d->names[part], by_name)
                      : NULL;
}
