// SPDX-License-Identifier: Apache-2.0
// The decision of the Deployment controller, for its shell and its tests.
//
// Upstream writes a ReplicaSet or the status whenever it has a change; here one sync changes drafts
// and writes each ReplicaSet at most once and the status once, last.
#pragma once
#include "client/plan.h"

#define KL_REVISION "deployment.kubernetes.io/revision"
#define KL_REVISION_HISTORY "deployment.kubernetes.io/revision-history"
#define KL_DESIRED_REPLICAS "deployment.kubernetes.io/desired-replicas"
#define KL_MAX_REPLICAS "deployment.kubernetes.io/max-replicas"
#define KL_TEMPLATE_HASH "pod-template-hash"

// A ReplicaSet in work.
struct kl_rs {
    const struct kl_value *was; // NULL: made in this sync
    struct kl_value draft;
    struct kl_str name;
    int64_t replicas, was_replicas;   // spec.replicas, as changed and as it was
    int64_t actual, ready, available; // status
    int64_t terminating;              // -1: not reported
    int64_t created_us, revision;
    bool observed; // its controller has looked at this generation
    bool dirty;    // draft is to be written
    bool running;  // has pods that are not terminal
};

struct kl_deployment_view {
    const struct kl_value *d;
    struct kl_rs **rs; // owned ones; sorted from old to new by the decision. Room for one more.
    size_t nrs;
    const struct kl_value **orphans, **strays; // ReplicaSets to adopt, to release
    size_t norphans, nstrays;
    int64_t now_us;

    // the decision's own
    struct kl_rs *fresh; // the ReplicaSet of the wanted template; NULL: none yet
    struct kl_rs **old;  // the others, from old to new
    size_t nold;
    int64_t replicas, surge, unavailable, deadline_s; // deadline -1: none
    bool rolling, forget_error;
    struct kl_value conditions; // status.conditions as changed by this sync
    struct kl_value annotations;
    struct kl_action *recheck, *create, *look;
};

void kl_deployment_decide(struct kl_plan *p, struct kl_deployment_view *v);
// Fills a kl_rs (draft, counts) from a ReplicaSet.
void kl_rs_init(struct kl_rs *rs, const struct kl_value *root);

// ---- between its files

// deployment_util.c
void kl_deployment_sort(struct kl_rs **list, size_t n); // by creation, then name
bool kl_template_equal(struct kl_arena *a, const struct kl_value *t1, const struct kl_value *t2);
int64_t kl_deployment_total(const struct kl_deployment_view *v); // spec.replicas of all
int64_t kl_deployment_available(const struct kl_deployment_view *v);
int64_t kl_deployment_fresh_size(const struct kl_deployment_view *v, int64_t fresh_replicas);
bool kl_deployment_complete(const struct kl_deployment_view *v, const struct kl_value *status);
int64_t kl_annotation_int(const struct kl_value *root, const char *key); // -1: none or bad
void kl_rs_annotate(struct kl_arena *a, const struct kl_deployment_view *v, struct kl_rs *rs,
                    int64_t revision, bool exists);
// Sets replicas and the replica annotations; `force` also when only those differ.
void kl_rs_scale(struct kl_arena *a, const struct kl_deployment_view *v, struct kl_rs *rs,
                 int64_t replicas, bool force);
// deployment_rollout.c
void kl_deployment_scale(struct kl_arena *a, struct kl_deployment_view *v);
bool kl_deployment_roll(struct kl_arena *a, struct kl_deployment_view *v); // false: nothing scaled
// deployment_status.c
void kl_deployment_condition(struct kl_arena *a, const struct kl_deployment_view *v,
                             struct kl_value *conditions, const char *type, const char *status,
                             const char *reason, struct kl_str message);
// Plans the status. With `progress` as in a rollout, else only counts and Available.
void kl_deployment_plan_status(struct kl_plan *p, struct kl_deployment_view *v, bool progress);
// Writes annotations and conditions only.
void kl_deployment_plan_conditions(struct kl_plan *p, struct kl_deployment_view *v,
                                   int64_t collision_count);
