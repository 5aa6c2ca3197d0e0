// SPDX-License-Identifier: Apache-2.0
// The state as the back end has it, at opening and when the log was set back.
#include "store/forward.h"
#include "store/store_int.h"
#include "store/view_int.h"
#include "base/log.h"
#include "base/rand.h"
#include <assert.h>
#include <stdlib.h>

struct load {
    struct kl_store *store;
    struct kl_index index;
};

static int load_kv(void *arg, struct kl_kv *kv)
{
    struct load *ld = arg;
    kv->hooks = ld->store->o.hooks;
    kl_evict_load(ld->store, kv);
    kl_fence_note(ld->store, kv);
    int r = kl_index_put(&ld->index, kv);
    if (!r)
        kl_lease_row_applied(ld->store, &(struct kl_row){.kv = kv});
    kl_kv_unref(kv);
    return r;
}

static int load_lease(void *arg, struct kl_lease_op op)
{
    return kl_leases_load(((struct load *)arg)->store, op);
}

// An empty ring: what lies before `l->rev` is in the back end.
static struct kl_view *new_view(struct kl_store *s, const struct kl_loaded *l)
{
    struct kl_view *v = calloc(1, sizeof(*v));
    struct kl_ring *ring = kl_ring_new(&s->room, l->rev);
    if (!v || !ring) {
        free(v);
        kl_ring_unref(ring);
        return NULL;
    }
    atomic_init(&v->refs, 1);
    v->rev = l->rev;
    v->compact_rev = l->compact_rev;
    v->ring = ring;
    return v;
}

static void take_loaded(struct kl_store *s, const struct kl_loaded *l, const struct kl_view *v)
{
    s->compaction.physical = l->physical_rev;
    atomic_store(&s->stat.rev, v->rev);
    atomic_store(&s->stat.compact_rev, v->compact_rev);
    atomic_store(&s->stat.physical_rev, l->physical_rev);
    atomic_store(&s->stat.keys, v->root ? v->root->count : 0);
    atomic_store(&s->stat.leases, (long long)s->leases.by_id.n);
    kl_lease_count_alarms(s);
    atomic_store(&s->stat.ring_bytes, 0);
}

int kl_store_load(struct kl_store *s, struct kl_error *err)
{
    struct load ld = {.store = s, .index = {.gen = ++s->gen}};
    struct kl_loaded l = {.arg = &ld, .kv = load_kv, .lease = load_lease};
    int r = s->ops->load(s->backend, &l, err);
    struct kl_view *v = r ? NULL : new_view(s, &l);
    if (!v) {
        kl_node_unref(ld.index.root);
        return r ? r : kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    s->origin = l.member_id ? l.member_id : kl_rand_u64() | 1;
    s->cluster_id = l.cluster_id;
    v->root = ld.index.root;
    s->view = v;
    s->spec = (struct kl_index){kl_node_ref(v->root), ++s->gen};
    take_loaded(s, &l, v);
    return 0;
}

int kl_core_reset(struct kl_store *s, int (*load)(void *arg, struct kl_loaded *l), void *arg)
{
    assert(kl_loop_is_current(s->loop));
    struct load ld = {.store = s, .index = {.gen = ++s->gen}};
    struct kl_loaded l = {.arg = &ld, .kv = load_kv, .lease = load_lease};
    struct kl_leases old = s->leases;
    s->leases = (struct kl_leases){.unapplied_puts = old.unapplied_puts,
                                   .expiring_keys = old.expiring_keys,
                                   .leading = old.leading,
                                   .keeping = old.keeping};
    kl_map_init(&s->leases.by_id);
    int r = load(arg, &l);
    if (!r && l.rev < s->view->rev)
        r = KL_EINVALID;
    if (!l.continues)
        l.compact_rev = l.rev;
    if (l.compact_rev < s->view->compact_rev)
        l.compact_rev = s->view->compact_rev;
    struct kl_view *v = r ? NULL : new_view(s, &l);
    if (!v) {
        kl_node_unref(ld.index.root);
        kl_leases_fini(&s->leases);
        s->leases = old;
        return r ? r : KL_ENOMEM;
    }
    kl_log(KL_LOG_WARN, "store", "%s rev=%lld new_rev=%lld",
           l.continues ? "state installed from another server's"
                       : "the datastore was set back: every watcher reads anew",
           (long long)s->view->rev, (long long)l.rev);
    kl_grave_unsettle(s);
    kl_leases_fini(&old);
    v->root = ld.index.root;
    v->written = s->view->written;
    take_loaded(s, &l, v);
    s->compaction.outdated = s->compaction.stepping;
    s->compaction.nsamples = 0;
    kl_store_publish(s, v);
    kl_store_trim_held(s);
    s->taking = false;
    kl_commit_moved(s);
    kl_forward_jumped(s);
    kl_compact_run(s);
    kl_store_arm_timer(s);
    kl_commit_pump(s);
    return 0;
}
