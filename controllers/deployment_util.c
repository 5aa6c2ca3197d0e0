// SPDX-License-Identifier: Apache-2.0
// Arithmetic and bookkeeping of Deployments (upstream: pkg/controller/deployment/util).
#include "controllers/deployment.h"
#include <stdlib.h>

enum { HISTORY_MAX_BYTES = 2000 };

static int by_creation(const void *pa, const void *pb)
{
    const struct kl_rs *a = *(struct kl_rs *const *)pa, *b = *(struct kl_rs *const *)pb;
    if (a->created_us != b->created_us)
        return a->created_us < b->created_us ? -1 : 1;
    return kl_str_cmp(a->name, b->name);
}

void kl_deployment_sort(struct kl_rs **list, size_t n)
{
    if (n)
        qsort(list, n, sizeof(*list), by_creation);
}

void kl_rs_init(struct kl_rs *rs, const struct kl_value *root)
{
    const struct kl_value *status = kl_get(root, KL_F_status);
    *rs = (struct kl_rs){
        .was = root,
        .draft = *root,
        .name = kl_meta_name(root),
        .replicas = kl_int_at(root, 1, KL_F_spec, KL_F_replicas),
        .actual = kl_int_or(kl_get(status, KL_F_replicas), 0),
        .ready = kl_int_or(kl_get(status, KL_F_readyReplicas), 0),
        .available = kl_int_or(kl_get(status, KL_F_availableReplicas), 0),
        .created_us = kl_int_at(root, 0, KL_F_metadata, KL_F_creationTimestamp),
        .revision = kl_annotation_int(root, KL_REVISION),
    };
    int64_t seen = kl_int_or(kl_get(status, KL_F_observedGeneration), 0);
    rs->observed = seen >= kl_int_at(root, 0, KL_F_metadata, KL_F_generation);
    rs->terminating = kl_int_or(kl_get(status, KL_F_terminatingReplicas), seen ? -1 : 0);
    rs->was_replicas = rs->replicas;
    rs->draft.owned = 0;
}

int64_t kl_annotation_int(const struct kl_value *root, const char *key)
{
    int64_t i;
    struct kl_str s = kl_annotation(root, key);
    return s.n && kl_str_to_i64(s, &i) && i >= 0 && i <= INT32_MAX ? i : -1;
}

bool kl_template_equal(struct kl_arena *a, const struct kl_value *t1, const struct kl_value *t2)
{
    if (!kl_value_equal(kl_get(t1, KL_F_spec), kl_get(t2, KL_F_spec)))
        return false;
    const struct kl_value *side[2] = {kl_get(t1, KL_F_metadata), kl_get(t2, KL_F_metadata)};
    struct kl_value meta[2];
    for (int i = 0; i < 2; i++) {
        meta[i] = side[i] ? *side[i] : kl_new_struct();
        meta[i].owned = 0;
        struct kl_value *labels = kl_edit(a, &meta[i], KL_F_labels, KL_MAP);
        if (labels)
            kl_map_unset(a, labels, KL_STR(KL_TEMPLATE_HASH));
        // upstream's zero value, which some clients write out
        kl_unset(a, &meta[i], KL_F_creationTimestamp);
    }
    return kl_value_equal(&meta[0], &meta[1]);
}

int64_t kl_deployment_total(const struct kl_deployment_view *v)
{
    int64_t n = v->fresh ? v->fresh->replicas : 0;
    for (size_t i = 0; i < v->nold; i++)
        n += v->old[i]->replicas;
    return n;
}

int64_t kl_deployment_available(const struct kl_deployment_view *v)
{
    int64_t n = v->fresh ? v->fresh->available : 0;
    for (size_t i = 0; i < v->nold; i++)
        n += v->old[i]->available;
    return n;
}

// How large the new ReplicaSet may be now, if it has fresh_replicas (NewRSNewReplicas).
int64_t kl_deployment_fresh_size(const struct kl_deployment_view *v, int64_t fresh_replicas)
{
    if (!v->rolling)
        return v->replicas;
    int64_t total = fresh_replicas;
    for (size_t i = 0; i < v->nold; i++)
        total += v->old[i]->replicas;
    int64_t max = v->replicas + v->surge;
    if (total >= max)
        return fresh_replicas;
    int64_t up = max - total, missing = v->replicas - fresh_replicas;
    return fresh_replicas + (up < missing ? up : missing);
}

bool kl_deployment_complete(const struct kl_deployment_view *v, const struct kl_value *status)
{
    return kl_int_or(kl_get(status, KL_F_updatedReplicas), 0) == v->replicas &&
           kl_int_or(kl_get(status, KL_F_replicas), 0) == v->replicas &&
           kl_int_or(kl_get(status, KL_F_availableReplicas), 0) == v->replicas &&
           kl_int_or(kl_get(status, KL_F_observedGeneration), 0) >=
               kl_int_at(v->d, 0, KL_F_metadata, KL_F_generation);
}

// ---- annotations of ReplicaSets

static bool is_not_copied(struct kl_str key)
{
    static const char *const skip[] = {
        "kubectl.kubernetes.io/last-applied-configuration",
        KL_REVISION,
        KL_REVISION_HISTORY,
        KL_DESIRED_REPLICAS,
        KL_MAX_REPLICAS,
        "deprecated.deployment.rollback.to",
    };
    for (size_t i = 0; i < KL_COUNT(skip); i++) {
        if (kl_str_eqz(key, skip[i]))
            return true;
    }
    return false;
}

static void annotate(struct kl_arena *a, struct kl_rs *rs, const char *key, struct kl_str value)
{
    if (kl_map_value(kl_meta_annotations(&rs->draft), kl_str(key)) &&
        kl_str_eq(kl_annotation(&rs->draft, key), value))
        return;
    kl_set_annotation(a, &rs->draft, key, value);
    rs->dirty = true;
}

static void annotate_int(struct kl_arena *a, struct kl_rs *rs, const char *key, int64_t i)
{
    annotate(a, rs, key, kl_arena_printf(a, "%lld", (long long)i));
}

// Drops the oldest revisions when the list gets too long.
static void add_history(struct kl_arena *a, struct kl_rs *rs, struct kl_str revision)
{
    struct kl_str history = kl_annotation(&rs->draft, KL_REVISION_HISTORY);
    while (history.n && history.n + revision.n + 1 > HISTORY_MAX_BYTES) {
        ptrdiff_t comma = kl_str_chr(history, ',');
        history = comma < 0 ? (struct kl_str){"", 0} : kl_str_from(history, (size_t)comma + 1);
    }
    annotate(a, rs, KL_REVISION_HISTORY,
             history.n ? kl_arena_printf(a, "%.*s,%.*s", KL_PRI(history), KL_PRI(revision))
                       : revision);
}

void kl_rs_annotate(struct kl_arena *a, const struct kl_deployment_view *v, struct kl_rs *rs,
                    int64_t revision, bool exists)
{
    for (KL_MAP_EACH_KEY(k, kl_meta_annotations(v->d))) {
        struct kl_str key = kl_text(k);
        if (is_not_copied(key))
            continue;
        key = kl_arena_dup(a, key);
        if (key.p)
            annotate(a, rs, key.p, kl_text(k + 1));
    }
    // A greater one stays: some older ReplicaSets may have been deleted meanwhile.
    struct kl_str was = kl_annotation(&rs->draft, KL_REVISION);
    int64_t was_revision = 0;
    if (was.n && !kl_str_to_i64(was, &was_revision))
        return;
    if (was_revision < revision) {
        annotate_int(a, rs, KL_REVISION, revision);
        rs->revision = revision;
        if (was.n)
            add_history(a, rs, was); // rolled back to this one
    }
    if (!exists) {
        annotate_int(a, rs, KL_DESIRED_REPLICAS, v->replicas);
        annotate_int(a, rs, KL_MAX_REPLICAS, v->replicas + v->surge);
    }
}

void kl_rs_scale(struct kl_arena *a, const struct kl_deployment_view *v, struct kl_rs *rs,
                 int64_t replicas, bool force)
{
    if (!force && rs->replicas == replicas)
        return;
    if (rs->replicas != replicas) {
        struct kl_value *spec = kl_edit(a, &rs->draft, KL_F_spec, KL_STRUCT);
        if (spec)
            kl_set_int(a, spec, KL_F_replicas, replicas);
        rs->replicas = replicas;
        rs->dirty = true;
    }
    annotate_int(a, rs, KL_DESIRED_REPLICAS, v->replicas);
    annotate_int(a, rs, KL_MAX_REPLICAS, v->replicas + v->surge);
}
