// SPDX-License-Identifier: Apache-2.0
// One sync of a Deployment (upstream: deployment_controller.go syncDeployment, sync.go).
//
// decide → [claims] → sync ─┬─ paused or scaled ─▶ kl_deployment_scale ─┬─▶ write ReplicaSets,
//                           └─ rollout ─▶ new ReplicaSet, sizes ────────┘    clean up, status
#include "controllers/claim.h"
#include "controllers/deployment.h"
#include <stdlib.h>

enum { NAME_MAX_BYTES = 253 };

static const struct kl_resource *d_res(void)
{
    return kl_res(KL_RES_apps_v1_deployments);
}

static const struct kl_resource *rs_res(void)
{
    return kl_res(KL_RES_apps_v1_replicasets);
}

// ---- writing what a sync changed

static void on_rs_written(struct kl_action *a)
{
    const struct kl_rs *rs = a->arg;
    const struct kl_deployment_view *v = a->plan->state;
    if (a->skipped || a->call.err.code || rs->replicas == rs->was_replicas)
        return;
    kl_plan_event(a->plan, d_res(), v->d, "Normal", "ScalingReplicaSet",
                  "Scaled %s replica set %.*s from %lld to %lld",
                  rs->replicas > rs->was_replicas ? "up" : "down", KL_PRI(rs->name),
                  (long long)rs->was_replicas, (long long)rs->replicas);
}

static void write_dirty(struct kl_plan *p, struct kl_rs *rs)
{
    if (!rs || !rs->dirty || !rs->was)
        return;
    kl_plan_next_group(p);
    struct kl_action *a = kl_plan_write(p, KL_VERB_UPDATE, rs_res(), NULL, &rs->draft);
    if (!a)
        return;
    a->done_cb = on_rs_written;
    a->arg = rs;
}

static void write_replicasets(struct kl_plan *p, struct kl_deployment_view *v)
{
    write_dirty(p, v->fresh);
    for (size_t i = 0; i < v->nold; i++)
        write_dirty(p, v->old[i]);
}

static int by_revision(const void *pa, const void *pb)
{
    const struct kl_rs *a = *(struct kl_rs *const *)pa, *b = *(struct kl_rs *const *)pb;
    int64_t ra = a->revision > 0 ? a->revision : 0, rb = b->revision > 0 ? b->revision : 0;
    if (ra != rb)
        return ra < rb ? -1 : 1;
    if (a->created_us != b->created_us)
        return a->created_us < b->created_us ? -1 : 1;
    return kl_str_cmp(a->name, b->name);
}

static void clean_up(struct kl_plan *p, struct kl_deployment_view *v)
{
    int64_t limit = kl_int_at(v->d, INT32_MAX, KL_F_spec, KL_F_revisionHistoryLimit);
    struct kl_rs **list = kl_arena_alloc(&p->arena, (v->nold + 1) * sizeof(*list));
    size_t n = 0;
    if (!list || limit == INT32_MAX)
        return;
    for (size_t i = 0; i < v->nold; i++) {
        if (!kl_meta_deleting(v->old[i]->was))
            list[n++] = v->old[i];
    }
    if (n)
        qsort(list, n, sizeof(*list), by_revision);
    for (size_t i = 0; (int64_t)(n - i) > limit && i < n; i++) {
        const struct kl_rs *rs = list[i];
        if (rs->actual || rs->replicas || !rs->observed)
            continue;
        struct kl_action *a =
            kl_plan_call(p, KL_VERB_DELETE, rs_res(), NULL, kl_meta_namespace(v->d), rs->name);
        if (a)
            a->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    }
}

// ---- the new ReplicaSet

static struct kl_str with_hash(struct kl_arena *a, struct kl_str name, struct kl_str hash)
{
    size_t max = NAME_MAX_BYTES - 1 - hash.n;
    return kl_arena_printf(a, "%.*s-%.*s", (int)(name.n > max ? max : name.n), name.p,
                           KL_PRI(hash));
}

static void add_match_label(struct kl_arena *a, struct kl_value *selector, struct kl_str hash)
{
    struct kl_value *labels = kl_edit(a, selector, KL_F_matchLabels, KL_MAP);
    if (labels)
        kl_map_set_value(a, labels, KL_STR(KL_TEMPLATE_HASH), kl_string(hash));
}

static struct kl_rs *make_fresh(struct kl_arena *a, struct kl_deployment_view *v, int64_t revision)
{
    const struct kl_value *spec = kl_get(v->d, KL_F_spec);
    struct kl_rs *rs = KL_ARENA_NEW(a, struct kl_rs);
    if (!rs || !kl_get(spec, KL_F_template))
        return NULL;
    struct kl_str hash = kl_pod_template_hash(
        a, kl_get(spec, KL_F_template), kl_int_at(v->d, -1, KL_F_status, KL_F_collisionCount));
    struct kl_value pod_template = *kl_get(spec, KL_F_template);
    pod_template.owned = 0;
    kl_set_label(a, &pod_template, KL_TEMPLATE_HASH, hash);
    struct kl_value selector = kl_new_struct();
    if (kl_get(spec, KL_F_selector))
        selector = *kl_get(spec, KL_F_selector);
    selector.owned = 0;
    add_match_label(a, &selector, hash);

    struct kl_value meta = kl_new_struct(), rs_spec = kl_new_struct(), owners = kl_new_array();
    rs->name = with_hash(a, kl_meta_name(v->d), hash);
    kl_set_str(a, &meta, KL_F_name, rs->name);
    kl_set_str(a, &meta, KL_F_namespace, kl_meta_namespace(v->d));
    const struct kl_value *labels = kl_path(&pod_template, KL_F_metadata, KL_F_labels);
    struct kl_value shared = labels ? *labels : kl_new_map();
    shared.owned = 0;
    kl_set(a, &meta, KL_F_labels, shared);
    kl_append(a, &owners, kl_owner_ref(a, d_res(), v->d, true, true));
    kl_set(a, &meta, KL_F_ownerReferences, owners);
    rs->replicas = kl_deployment_fresh_size(v, 0);
    kl_set_int(a, &rs_spec, KL_F_replicas, rs->replicas);
    kl_set_int(a, &rs_spec, KL_F_minReadySeconds, kl_int_or(kl_get(spec, KL_F_minReadySeconds), 0));
    kl_set(a, &rs_spec, KL_F_selector, selector);
    kl_set(a, &rs_spec, KL_F_template, pod_template);
    rs->draft = kl_new_struct();
    kl_set(a, &rs->draft, KL_F_metadata, meta);
    kl_set(a, &rs->draft, KL_F_spec, rs_spec);
    kl_rs_annotate(a, v, rs, revision, false);
    return rs;
}

static void on_fresh_created(struct kl_action *a)
{
    const struct kl_deployment_view *v = a->plan->state;
    const struct kl_rs *rs = v->fresh;
    if (!a->skipped && !a->call.err.code && rs->replicas > 0)
        kl_plan_event(a->plan, d_res(), v->d, "Normal", "ScalingReplicaSet",
                      "Scaled up replica set %.*s from 0 to %lld", KL_PRI(rs->name),
                      (long long)rs->replicas);
}

// Conditions and annotations as they are stored.
static int forget_changes(struct kl_plan *p, struct kl_deployment_view *v)
{
    const struct kl_value *conditions = kl_path(v->d, KL_F_status, KL_F_conditions);
    const struct kl_value *annotations = kl_meta_annotations(v->d);
    struct kl_value none = kl_new_array();
    v->annotations = annotations ? *annotations : kl_null();
    v->annotations.owned = 0;
    if (kl_copy(&p->arena, conditions ? conditions : &none, &v->conditions) < 0)
        return kl_error_set(&p->err, KL_ENOMEM, "out of memory");
    return 0;
}

// The name is taken. By our own ReplicaSet, which the informer has not shown yet: the next sync
// finds it. By another's: a collision of hashes, which a count in the status resolves.
static void judge_collision(struct kl_plan *p)
{
    struct kl_deployment_view *v = p->state;
    const struct kl_object *other = v->look->call.object;
    if (!other)
        return;
    const struct kl_value *root = &other->root;
    if (kl_controlled_by(root, kl_meta_uid(v->d)) &&
        kl_template_equal(&p->arena, kl_path(v->d, KL_F_spec, KL_F_template),
                          kl_path(root, KL_F_spec, KL_F_template)))
        return;
    if (forget_changes(p, v) < 0)
        return;
    kl_deployment_plan_conditions(p, v, kl_int_at(v->d, 0, KL_F_status, KL_F_collisionCount) + 1);
}

static void after_create(struct kl_plan *p)
{
    struct kl_deployment_view *v = p->state;
    const struct kl_error *err = &v->create->call.err;
    struct kl_str name = v->fresh->name;
    if (!err->code)
        return;
    if (err->code == KL_EEXISTS) {
        v->look = kl_plan_call(p, KL_VERB_GET, rs_res(), NULL, kl_meta_namespace(v->d), name);
        if (v->look)
            p->then = judge_collision;
        return;
    }
    if (err->code == KL_EFORBIDDEN && strstr(err->msg, "because it is being terminated")) {
        v->forget_error = true; // every further attempt would fail as well
        return;
    }
    struct kl_str text = kl_arena_printf(&p->arena, "Failed to create new replica set \"%.*s\": %s",
                                         KL_PRI(name), err->msg);
    kl_plan_event(p, d_res(), v->d, "Warning", "ReplicaSetCreateError", "%.*s", KL_PRI(text));
    if (v->deadline_s < 0)
        return;
    if (forget_changes(p, v) < 0)
        return;
    kl_deployment_condition(&p->arena, v, &v->conditions, "Progressing", "False",
                            "ReplicaSetCreateError", text);
    kl_deployment_plan_conditions(p, v, -1);
}

static void set_revision(struct kl_arena *a, struct kl_deployment_view *v, int64_t revision)
{
    struct kl_str text = kl_arena_printf(a, "%lld", (long long)revision);
    const struct kl_value *was = kl_map_value(&v->annotations, KL_STR(KL_REVISION));
    if (was && kl_str_eq(kl_text(was), text))
        return;
    if (v->annotations.kind != KL_MAP)
        v->annotations = kl_new_map();
    kl_map_set_value(a, &v->annotations, KL_STR(KL_REVISION), kl_string(text));
}

static void find_fresh(struct kl_arena *a, struct kl_deployment_view *v)
{
    const struct kl_value *wanted = kl_path(v->d, KL_F_spec, KL_F_template);
    v->fresh = NULL;
    v->nold = 0;
    for (size_t i = 0; i < v->nrs; i++) {
        struct kl_rs *rs = v->rs[i];
        if (!v->fresh && kl_template_equal(a, wanted, kl_path(rs->was, KL_F_spec, KL_F_template)))
            v->fresh = rs; // the oldest, when there are several
        else
            v->old[v->nold++] = rs;
    }
}

// Brings revision numbers up to date; makes the new ReplicaSet when asked to and there is none.
static void sync_revision(struct kl_plan *p, struct kl_deployment_view *v, bool create)
{
    struct kl_arena *a = &p->arena;
    int64_t revision = 1;
    for (size_t i = 0; i < v->nold; i++) {
        if (v->old[i]->revision >= revision)
            revision = v->old[i]->revision + 1;
    }
    struct kl_rs *rs = v->fresh;
    if (!rs) {
        rs = create ? make_fresh(a, v, revision) : NULL;
        if (!rs)
            return;
        v->fresh = rs;
        v->create = kl_plan_write(p, KL_VERB_CREATE, rs_res(), NULL, &rs->draft);
        if (!v->create)
            return;
        v->create->done_cb = on_fresh_created;
        p->then = after_create;
        set_revision(a, v, revision);
        if (v->deadline_s >= 0)
            kl_deployment_condition(
                a, v, &v->conditions, "Progressing", "True", "NewReplicaSetCreated",
                kl_arena_printf(a, "Created new replica set \"%.*s\"", KL_PRI(rs->name)));
        return;
    }
    kl_rs_annotate(a, v, rs, revision, true);
    int64_t min_ready_s = kl_int_at(v->d, 0, KL_F_spec, KL_F_minReadySeconds);
    if (kl_int_at(&rs->draft, 0, KL_F_spec, KL_F_minReadySeconds) != min_ready_s) {
        struct kl_value *spec = kl_edit(a, &rs->draft, KL_F_spec, KL_STRUCT);
        if (spec)
            kl_set_int(a, spec, KL_F_minReadySeconds, min_ready_s);
        rs->dirty = true;
    }
    if (rs->revision >= 0)
        set_revision(a, v, rs->revision);
    if (v->deadline_s >= 0 && !kl_condition_find(&v->conditions, "Progressing"))
        kl_deployment_condition(
            a, v, &v->conditions, "Progressing", "True", "FoundNewReplicaSet",
            kl_arena_printf(a, "Found new replica set \"%.*s\"", KL_PRI(rs->name)));
}

// ---- the sync

static void check_paused(struct kl_arena *a, struct kl_deployment_view *v, bool paused)
{
    const struct kl_value *c = kl_condition_find(&v->conditions, "Progressing");
    struct kl_str reason = kl_text(kl_get(c, KL_F_reason));
    if (v->deadline_s < 0 || kl_str_eqz(reason, "ProgressDeadlineExceeded"))
        return;
    bool was_paused = kl_str_eqz(reason, "DeploymentPaused");
    if (paused && !was_paused)
        kl_deployment_condition(a, v, &v->conditions, "Progressing", "Unknown", "DeploymentPaused",
                                KL_STR("Deployment is paused"));
    else if (!paused && was_paused)
        kl_deployment_condition(a, v, &v->conditions, "Progressing", "Unknown", "DeploymentResumed",
                                KL_STR("Deployment is resumed"));
}

static bool is_scaling_event(const struct kl_deployment_view *v)
{
    for (size_t i = 0; i < v->nrs; i++) {
        const struct kl_rs *rs = v->rs[i];
        int64_t desired = kl_annotation_int(&rs->draft, KL_DESIRED_REPLICAS);
        if (rs->replicas > 0 && desired >= 0 && desired != v->replicas)
            return true;
    }
    return false;
}

static bool old_pods_run(const struct kl_deployment_view *v)
{
    for (size_t i = 0; i < v->nold; i++) {
        if (v->old[i]->actual > 0 || v->old[i]->running)
            return true;
    }
    return false;
}

static bool was_complete(const struct kl_deployment_view *v)
{
    return kl_deployment_complete(v, kl_get(v->d, KL_F_status));
}

static void roll_out(struct kl_plan *p, struct kl_deployment_view *v)
{
    sync_revision(p, v, true);
    if (!v->fresh)
        return;
    if (!kl_deployment_roll(&p->arena, v) && was_complete(v))
        clean_up(p, v);
}

static void recreate(struct kl_plan *p, struct kl_deployment_view *v)
{
    struct kl_arena *a = &p->arena;
    sync_revision(p, v, false);
    bool scaled = false;
    for (size_t i = 0; i < v->nold; i++) {
        scaled |= v->old[i]->replicas > 0;
        kl_rs_scale(a, v, v->old[i], 0, false);
    }
    if (scaled || old_pods_run(v))
        return;
    if (!v->fresh)
        sync_revision(p, v, true);
    if (!v->fresh)
        return;
    kl_rs_scale(a, v, v->fresh, v->replicas, false);
    if (was_complete(v))
        clean_up(p, v);
}

static void resolve_fenceposts(struct kl_deployment_view *v)
{
    const struct kl_value *strategy = kl_path(v->d, KL_F_spec, KL_F_strategy);
    const struct kl_value *rolling = kl_get(strategy, KL_F_rollingUpdate);
    v->rolling = !kl_str_eqz(kl_text(kl_get(strategy, KL_F_type)), "Recreate");
    v->surge = v->unavailable = 0;
    if (!v->rolling)
        return;
    v->surge = kl_int_or_percent(kl_get(rolling, KL_F_maxSurge), v->replicas, true);
    v->unavailable = kl_int_or_percent(kl_get(rolling, KL_F_maxUnavailable), v->replicas, false);
    v->surge = v->surge < 0 ? 0 : v->surge;
    v->unavailable = v->unavailable < 0 ? 0 : v->unavailable;
    // Both may round to nothing; then the rollout would never move.
    if (v->surge == 0 && v->unavailable == 0)
        v->unavailable = 1;
    if (v->unavailable > v->replicas)
        v->unavailable = v->replicas;
}

static void prepare(struct kl_plan *p, struct kl_deployment_view *v)
{
    v->replicas = kl_int_at(v->d, 1, KL_F_spec, KL_F_replicas);
    int64_t deadline = kl_int_at(v->d, -1, KL_F_spec, KL_F_progressDeadlineSeconds);
    v->deadline_s = deadline == INT32_MAX ? -1 : deadline;
    resolve_fenceposts(v);
    v->old = kl_arena_alloc(&p->arena, (v->nrs + 1) * sizeof(*v->old));
    if (!v->old || forget_changes(p, v) < 0)
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
}

static void sync_deployment(struct kl_plan *p)
{
    struct kl_deployment_view *v = p->state;
    if (!p->err.code)
        prepare(p, v);
    if (p->err.code)
        return;
    kl_plan_next_group(p);
    kl_deployment_sort(v->rs, v->nrs);
    find_fresh(&p->arena, v);
    bool paused = kl_true_at(v->d, KL_F_spec, KL_F_paused), progress = false;
    if (kl_meta_deleting(v->d)) {
        sync_revision(p, v, false);
    } else {
        check_paused(&p->arena, v, paused);
        if (paused || is_scaling_event(v)) {
            sync_revision(p, v, false);
            kl_deployment_scale(&p->arena, v);
            if (paused)
                clean_up(p, v);
        } else {
            progress = true;
            (v->rolling ? roll_out : recreate)(p, v);
        }
    }
    write_replicasets(p, v);
    kl_deployment_plan_status(p, v, progress);
}

// ---- claiming ReplicaSets

static struct kl_claim claim_of(const struct kl_deployment_view *v)
{
    return (struct kl_claim){.owner_res = d_res(), .owner = v->d, .res = rs_res()};
}

static void after_adoptions(struct kl_plan *p)
{
    // The adopted ones come back through the informer, with their owner; sync with them then.
    if (!p->err.code)
        kl_plan_requeue(p, 0);
}

static void plan_adoptions(struct kl_plan *p)
{
    struct kl_deployment_view *v = p->state;
    struct kl_claim c = claim_of(v);
    if (!kl_claim_may_adopt(p, &c, v->recheck)) {
        if (!p->err.code)
            p->then = sync_deployment;
        return;
    }
    for (size_t i = 0; i < v->norphans; i++)
        kl_claim_adopt(p, &c, v->orphans[i]);
    p->then = after_adoptions;
}

void kl_deployment_decide(struct kl_plan *p, struct kl_deployment_view *v)
{
    struct kl_claim c = claim_of(v);
    p->state = v;
    for (size_t i = 0; i < v->nstrays; i++)
        kl_claim_release(p, &c, v->strays[i]);
    if (v->norphans) {
        kl_plan_next_group(p);
        v->recheck = kl_claim_recheck(p, &c);
        p->then = plan_adoptions;
    } else if (p->actions) {
        p->then = sync_deployment;
    } else {
        sync_deployment(p);
    }
}
