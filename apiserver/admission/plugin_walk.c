// SPDX-License-Identifier: Apache-2.0
// Walks over other objects, for plug-ins.
#include "apiserver/admission/plugins_int.h"

int kl_admit_walk_init(struct kl_admit_walk *w, struct kl_req *r, uint16_t res, struct kl_str ns)
{
    struct kl_filter f = {.res = kl_res(res), .ns = ns};
    struct kl_str prefix = kl_filter_prefix(r->arena, &f);
    char *mem = prefix.p ? kl_arena_alloc(r->arena, prefix.n + 1) : NULL;
    if (!mem)
        return kl_fail_oom(r), KL_ENOMEM;
    w->res = kl_res(res);
    kl_iter_init(&w->it, kl_req_view(r), prefix, kl_prefix_end(prefix, mem));
    return 0;
}

struct kl_object *kl_admit_next(struct kl_admit_walk *w)
{
    struct kl_kv *kv;
    struct kl_error err;
    while ((kv = kl_iter_next(&w->it))) {
        struct kl_object *o = kl_cache_object(kv, w->res, &err);
        if (o)
            return o;
    }
    return NULL;
}

static int64_t created(const struct kl_object *o)
{
    return kl_int_at(&o->root, 0, KL_F_metadata, KL_F_creationTimestamp);
}

struct kl_object *kl_admit_default_class(struct kl_req *r, uint16_t res, const char *annotation)
{
    struct kl_admit_walk w;
    struct kl_object *o, *best = NULL;
    if (kl_admit_walk_init(&w, r, res, KL_STR("")))
        return NULL;
    while ((o = kl_admit_next(&w))) {
        const struct kl_value *v = kl_map_value(kl_meta_annotations(&o->root), kl_str(annotation));
        if (kl_str_eqz(kl_text(v), "true") && (!best || created(o) > created(best)))
            best = o; // the walk goes by name
    }
    return best;
}
