// SPDX-License-Identifier: Apache-2.0
// Definitions as they are read from the store, and their compiled rows.
#include "apiserver/crd/crd.h"
#include <stdlib.h>

// Definitions whose spec and accepted names are the same share this, so that a change of their
// status compiles nothing and ends no watch.
struct kl_crd_cell {
    atomic_uint refs;
    _Atomic(struct kl_custom_family *) family;
    uint64_t what; // of uid, generation and accepted names
};

static struct kl_crd_cell *cell_ref(struct kl_crd_cell *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

static void cell_unref(struct kl_crd_cell *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    kl_custom_family_unref(atomic_load_explicit(&c->family, memory_order_acquire));
    free(c);
}

static void free_crd(struct kl_cache_own *own)
{
    struct kl_crd *crd = KL_CONTAINER_OF(own, struct kl_crd, own);
    kl_custom_family_unref(crd->plain);
    cell_unref(crd->cell);
    free(crd);
}

// FNV-1a: the numbers must be the same on every server.
static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
    return (h ^ n) * 0x100000001b3u;
}

static uint64_t mix_text(uint64_t h, struct kl_str s)
{
    return mix(h, s.p, s.n);
}

static uint64_t mix_list(uint64_t h, const struct kl_value *list)
{
    for (KL_EACH(s, list))
        h = mix_text(h, kl_text(s));
    return mix(h, "", 0);
}

static uint64_t what_of(const struct kl_value *root)
{
    const struct kl_value *names = kl_path(root, KL_F_status, KL_F_acceptedNames);
    int64_t generation = kl_int_at(root, 0, KL_F_metadata, KL_F_generation);
    uint64_t h = mix_text(0xcbf29ce484222325u, kl_meta_uid(root));
    h = mix(h, &generation, sizeof generation);
    h = mix_text(h, kl_text(kl_get(names, KL_F_plural)));
    h = mix_text(h, kl_text(kl_get(names, KL_F_singular)));
    h = mix_text(h, kl_text(kl_get(names, KL_F_kind)));
    h = mix_text(h, kl_text(kl_get(names, KL_F_listKind)));
    h = mix_list(h, kl_get(names, KL_F_shortNames));
    return mix_list(h, kl_get(names, KL_F_categories));
}

static struct kl_crd_cell *cell_for(const struct kl_crd *before, uint64_t what)
{
    if (before && before->cell->what == what)
        return cell_ref(before->cell);
    struct kl_crd_cell *c = calloc(1, sizeof *c);
    if (c) {
        atomic_init(&c->refs, 1);
        c->what = what;
    }
    return c;
}

static int read_crd(struct kl_crd *crd, const struct kl_value *root, const struct kl_crd *before,
                    struct kl_error *err)
{
    const struct kl_value *names = kl_path(root, KL_F_status, KL_F_acceptedNames);
    uint64_t what = what_of(root);
    if (!(crd->cell = cell_for(before, what)))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    crd->established = kl_crd_condition_is_true(root, "Established");
    crd->accepted = kl_crd_condition_is_true(root, "NamesAccepted");
    crd->terminating = kl_crd_condition_is_true(root, "Terminating");
    // Without names (upstream's "unexpected empty status.acceptedNames") there is nothing to serve.
    bool named = kl_text(kl_get(names, KL_F_plural)).n && kl_text(kl_get(names, KL_F_kind)).n;
    crd->served = named && (crd->established || crd->accepted);
    unsigned char state[] = {crd->served, crd->established, crd->terminating};
    crd->stamp = mix(what, state, sizeof state);
    if (!named)
        return 0;
    if (before && before->plain && before->cell == crd->cell)
        crd->plain = kl_custom_family_ref(before->plain);
    return crd->plain ? 0 : kl_custom_family_new(root, false, &crd->plain, err);
}

static const struct kl_resource *definitions(void)
{
    return kl_res(KL_RES_apiextensions_v1_customresourcedefinitions);
}

struct kl_crd *kl_crd_of(struct kl_kv *kv, const struct kl_crd *before, struct kl_error *err)
{
    struct kl_crd *crd = kl_kv_attached(kv, KL_CACHE_OWN);
    if (crd)
        return crd;
    struct kl_object *o = kl_cache_object(kv, definitions(), err);
    if (!o)
        return NULL;
    if (!(crd = calloc(1, sizeof *crd))) {
        kl_error_set(err, KL_ENOMEM, "out of memory");
        return NULL;
    }
    crd->own.free = free_crd;
    atomic_init(&crd->own.bytes, sizeof *crd);
    if (read_crd(crd, &o->root, before, err)) {
        free_crd(&crd->own);
        return NULL;
    }
    struct kl_crd *there = kl_kv_attach(kv, KL_CACHE_OWN, crd);
    if (there != crd) // another loop was quicker
        free_crd(&crd->own);
    return there;
}

struct kl_custom_family *kl_crd_compiled(const struct kl_crd *crd, struct kl_kv *kv,
                                         struct kl_error *err)
{
    struct kl_custom_family *f = atomic_load_explicit(&crd->cell->family, memory_order_acquire);
    if (f)
        return kl_custom_family_ref(f);
    struct kl_object *o = kl_cache_object(kv, definitions(), err);
    if (!o || kl_custom_family_new(&o->root, true, &f, err))
        return NULL;
    struct kl_custom_family *there = NULL;
    if (atomic_compare_exchange_strong_explicit(&crd->cell->family, &there, f, memory_order_acq_rel,
                                                memory_order_acquire))
        return kl_custom_family_ref(f);
    kl_custom_family_unref(f);
    return kl_custom_family_ref(there);
}

bool kl_crd_same(const struct kl_crd *a, const struct kl_crd *b)
{
    return a->cell == b->cell && a->served == b->served;
}
