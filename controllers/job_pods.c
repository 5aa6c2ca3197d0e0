// SPDX-License-Identifier: Apache-2.0
#include "controllers/job_pods.h"
#include "controllers/finalizer.h"
#include "controllers/pods.h"
#include <stdlib.h>

enum { GENERATED_NAME_MAX = 58 }; // what leaves room for the server's five letters

#define INDEX_KEY "batch.kubernetes.io/job-completion-index"

static const struct kl_resource *jobs_res(void)
{
    return kl_res(KL_RES_batch_v1_jobs);
}

static const struct kl_resource *pods_res(void)
{
    return kl_res(KL_RES_core_v1_pods);
}

bool kl_job_tracks(const struct kl_value *pod)
{
    return kl_has_finalizer(pod, KL_JOB_FINALIZER);
}

static bool is_failed(const struct kl_value *pod, bool only_failed)
{
    struct kl_str phase = kl_text_at(pod, KL_F_status, KL_F_phase);
    return kl_str_eqz(phase, "Failed") ||
           (!only_failed && kl_meta_deleting(pod) && !kl_str_eqz(phase, "Succeeded"));
}

static int by_index(const void *pa, const void *pb)
{
    const struct kl_job_pod *a = pa, *b = pb;
    if (a->index != b->index)
        return a->index < b->index ? -1 : 1;
    return kl_str_cmp(kl_meta_name(a->pod), kl_meta_name(b->pod));
}

struct kl_job_pod *kl_job_pods_look(struct kl_arena *a, const struct kl_value *job,
                                    const struct kl_value *const *pods, size_t n,
                                    int64_t completions, bool only_failed)
{
    const struct kl_value *uncounted = kl_path(job, KL_F_status, KL_F_uncountedTerminatedPods);
    struct kl_job_pod *list = kl_arena_zalloc(a, (n + 1) * sizeof *list);
    for (size_t i = 0; list && i < n; i++) {
        struct kl_job_pod *x = &list[i];
        struct kl_str uid = kl_meta_uid(pods[i]);
        int64_t index = kl_pod_completion_index(pods[i]);
        x->pod = pods[i];
        x->index = index < completions ? index : -1;
        x->active = kl_pod_active(pods[i]);
        x->ready = kl_pod_ready(pods[i]);
        x->succeeded = kl_str_eqz(kl_text_at(pods[i], KL_F_status, KL_F_phase), "Succeeded");
        x->failed = is_failed(pods[i], only_failed);
        x->in_succeeded = kl_has_text(kl_get(uncounted, KL_F_succeeded), uid);
        x->in_failed = kl_has_text(kl_get(uncounted, KL_F_failed), uid);
    }
    if (list && n && completions >= 0)
        qsort(list, n, sizeof *list, by_index);
    return list;
}

// ---- who goes

struct removal {
    struct kl_arena *a;
    struct kl_job_pod **gone, **left;
    size_t ngone, nleft;
    int64_t now_us;
};

// Sorts so that who goes first comes first.
static int rank(struct removal *r, struct kl_job_pod **list, size_t n)
{
    const struct kl_value **pods = kl_arena_alloc(r->a, (n + 1) * sizeof *pods);
    struct kl_job_pod **by_rank = kl_arena_alloc(r->a, (n + 1) * sizeof *by_rank);
    if (!pods || !by_rank)
        return KL_ENOMEM;
    for (size_t i = 0; i < n; i++)
        pods[i] = list[i]->pod;
    if (kl_pods_sort_for_deletion(pods, NULL, n, r->now_us) < 0)
        return KL_ENOMEM;
    // What was sorted are values: each one's place in the list is found again by its uid.
    struct kl_map at;
    int rc = 0;
    kl_map_init(&at);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = kl_map_set(&at, kl_meta_uid(list[i]->pod), list[i], NULL);
    for (size_t i = 0; i < n && rc == 0; i++)
        by_rank[i] = kl_map_get(&at, kl_meta_uid(pods[i]));
    kl_map_fini(&at);
    if (rc == 0 && n)
        memcpy(list, by_rank, n * sizeof *list);
    return rc;
}

static int part_duplicates(struct removal *r, struct kl_job_pod **list, size_t n)
{
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && list[end]->index == list[i]->index; end++)
            ;
        bool unknown = list[i]->index < 0;
        if (!unknown && end - i > 1 && rank(r, list + i, end - i) < 0)
            return KL_ENOMEM;
        for (size_t k = i; k < end; k++) {
            if (unknown || k + 1 < end)
                r->gone[r->ngone++] = list[k];
            else
                r->left[r->nleft++] = list[k];
        }
    }
    return 0;
}

struct kl_job_pod **kl_job_pods_to_remove(struct kl_arena *a, struct kl_job_pod *pods, size_t n,
                                          bool indexed, size_t surplus, int64_t now_us,
                                          size_t *ret_n)
{
    size_t bytes = (n + 1) * sizeof(struct kl_job_pod *), nactive = 0;
    struct removal r = {.a = a, .now_us = now_us};
    struct kl_job_pod **active = kl_arena_alloc(a, bytes);
    r.gone = kl_arena_alloc(a, bytes);
    r.left = kl_arena_alloc(a, bytes);
    if (!active || !r.gone || !r.left)
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (pods[i].active)
            active[nactive++] = &pods[i];
    if (!indexed) {
        r.left = active;
        r.nleft = nactive;
    } else if (part_duplicates(&r, active, nactive) < 0) {
        return NULL;
    }
    if (r.ngone < surplus && rank(&r, r.left, r.nleft) < 0)
        return NULL;
    for (size_t i = 0; r.ngone < surplus && i < r.nleft; i++)
        r.gone[r.ngone++] = r.left[i];
    *ret_n = r.ngone;
    return r.gone;
}

// ---- who comes

static void add_index_variable(struct kl_arena *a, struct kl_value *container)
{
    static const char name[] = "JOB_COMPLETION_INDEX";
    for (KL_EACH(x, kl_get(container, KL_F_env)))
        if (kl_str_eqz(kl_text(kl_get(x, KL_F_name)), name))
            return;
    struct kl_value variable = kl_new_struct(), from = kl_new_struct(), ref = kl_new_struct();
    kl_set_z(a, &ref, KL_F_fieldPath, "metadata.labels['" INDEX_KEY "']");
    kl_set(a, &from, KL_F_fieldRef, ref);
    kl_set_z(a, &variable, KL_F_name, name);
    kl_set(a, &variable, KL_F_valueFrom, from);
    kl_append(a, kl_edit(a, container, KL_F_env, KL_ARRAY), variable);
}

static void add_index_variables(struct kl_arena *a, struct kl_value *spec, kl_sym field)
{
    size_t n = kl_len(kl_get(spec, field));
    struct kl_value *list = n ? kl_edit(a, spec, field, KL_ARRAY) : NULL;
    for (size_t i = 0; list && i < n; i++) {
        struct kl_value *container = kl_edit_at(a, list, i);
        if (container)
            add_index_variable(a, container);
    }
}

static void set_index(struct kl_arena *a, struct kl_value *pod, struct kl_str job, int64_t index)
{
    struct kl_str number = kl_arena_printf(a, "%lld", (long long)index);
    struct kl_value *spec = kl_edit(a, pod, KL_F_spec, KL_STRUCT);
    add_index_variables(a, spec, KL_F_initContainers);
    add_index_variables(a, spec, KL_F_containers);
    kl_set_str(a, spec, KL_F_hostname,
               kl_arena_printf(a, "%.*s-%.*s", KL_PRI(job), KL_PRI(number)));
    size_t room = GENERATED_NAME_MAX - number.n - 2;
    struct kl_str start = job.n > room ? (struct kl_str){job.p, room} : job;
    kl_set_str(a, kl_edit(a, pod, KL_F_metadata, KL_STRUCT), KL_F_generateName,
               kl_arena_printf(a, "%.*s-%.*s-", KL_PRI(start), KL_PRI(number)));
    kl_set_annotation(a, pod, INDEX_KEY, number);
    kl_set_label(a, pod, INDEX_KEY, number);
}

struct kl_value kl_job_pod_draft(struct kl_arena *a, const struct kl_value *job, int64_t index)
{
    struct kl_value pod =
        kl_pod_from_template(a, kl_path(job, KL_F_spec, KL_F_template), jobs_res(), job);
    struct kl_value *meta = kl_edit(a, &pod, KL_F_metadata, KL_STRUCT);
    if (!kl_has_finalizer(&pod, KL_JOB_FINALIZER))
        kl_append(a, kl_edit(a, meta, KL_F_finalizers, KL_ARRAY), kl_stringz(KL_JOB_FINALIZER));
    if (index >= 0)
        set_index(a, &pod, kl_meta_name(job), index);
    return pod;
}

// ---- counted pods go

struct kl_action *kl_job_release(struct kl_plan *p, const struct kl_value *pod)
{
    struct kl_action *a =
        kl_plan_call(p, KL_VERB_PATCH, pods_res(), NULL, kl_meta_namespace(pod), kl_meta_name(pod));
    if (!a)
        return NULL;
    a->call.patch_type = KL_PATCH_STRATEGIC;
    a->call.patch = KL_STR("{\"metadata\":{\"$deleteFromPrimitiveList/finalizers\":["
                           "\"" KL_JOB_FINALIZER "\"]}}");
    a->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    return a;
}
