// SPDX-License-Identifier: Apache-2.0
// The pods of the node: the shell around pod_core.h that carries its plans out.
#pragma once
#include "client/helpers.h"
#include "client/recorder.h"
#include "kubelet/kubelet_int.h"
#include "kubelet/pod_core.h"
#include "kubelet/pod_status.h"

// A pod only moves forward.
enum kl_pod_life {
    KL_POD_LIVE,        // brought to and kept at what its spec says
    KL_POD_TERMINATING, // containers are being stopped, then the sandbox
    KL_POD_TERMINATED,  // nothing runs; volumes and cgroup are being given back
    KL_POD_RELEASED,    // nothing is left but logs and dead containers; waits for its deletion
    KL_POD_REMOVING,    // the API server has no such pod any more: the last traces go
};

struct kl_volumes;
struct kl_start_op;

struct kl_pod {
    struct kl_pods *pods;
    struct kl_kubelet *k;
    char *uid, *ns, *name;
    char *full;               // name_namespace(uid), as messages name it
    struct kl_object *object; // newest; NULL: known to the runtime only
    bool gone;                // the API server has no such object
    enum kl_pod_life life;
    struct kl_pod_rt rt;
    struct kl_ctr_mem *mem;
    struct kl_volumes *volumes;

    bool busy, dirty; // one step at a time; dirty: look again after it
    bool prepared;    // directories, cgroup and volumes are there
    int prepare_fails;
    int describing; // reads of the runtime's state under way
    int stops;      // StopContainer calls and the hooks before them: they point at the pod
    struct kl_hook *hooks;
    int64_t grace_ms; // what containers were told; -1: nothing yet
    int64_t stop_at_ms;
    const char *phase, *reason; // forced end
    char *message;
    struct kl_timer wake;
    struct kl_start_op *start;
    struct kl_cri_call *pull; // cancelled when the pod is to end
    bool freed_wanted;

    // pod_resize.c
    bool admitted;                  // the next two are known
    struct kl_object *granted;      // as it was when its requests were granted last; may be NULL
    int64_t milli, bytes;           // requests that were granted; -1: none
    struct kl_cgroup_values cgroup; // of the pod's group, once prepared
    struct kl_resize_state resize;
    int64_t resize_retry_ms;

    struct kl_object *status; // PodStatus last sent
    bool status_sending, status_stale, delete_sent;
    struct kl_timer status_retry;
    int64_t first_seen_ms;
};

struct kl_pods {
    struct kl_kubelet *k;
    struct kl_map by_uid; // struct kl_pod
    struct kl_handler handler;
    bool listed; // the runtime's pods are known
    bool listing, relist_again;
    bool synced;          // the API server's are, too
    bool sweeping, ready; // both are known and what was left behind is gone: pods may be acted on
    struct kl_timer relist;
};

static inline const struct kl_value *kl_pod_root(const struct kl_pod *p)
{
    return p->object ? &p->object->root : NULL;
}

// ---- pods.c
int kl_pods_new(struct kl_kubelet *k, struct kl_pods **ret, struct kl_error *err);
void kl_pods_stop(struct kl_pods *ps); // cuts short what would hold the kubelet's end up
void kl_pods_free(struct kl_pods *ps);
void kl_pods_runtime_up(struct kl_pods *ps);
void kl_pods_task_event(struct kl_pods *ps, enum kl_cri_task_event event, struct kl_str id);
void kl_pods_sync_all(struct kl_pods *ps);
void kl_pods_sweep_orphans(struct kl_pods *ps); // orphans.c
struct kl_pod *kl_pods_by_name(struct kl_pods *ps, struct kl_str ns, struct kl_str name);
int kl_pods_running(const struct kl_pods *ps);
void kl_pod_unlink(struct kl_pod *p); // off the table, then freed
void kl_pod_event(struct kl_pod *p, const char *type, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
// About one container: involvedObject.fieldPath is spec.containers{NAME}.
void kl_ctr_event(struct kl_pod *p, struct kl_str container, const char *type, const char *reason,
                  const char *fmt, ...) __attribute__((format(printf, 5, 6)));

// ---- pod_worker.c
void kl_pod_sync(struct kl_pod *p);
void kl_pod_step_done(struct kl_pod *p); // the step that made it busy has ended: look again
void kl_pod_wake_in(struct kl_pod *p, int64_t delay_ms);
struct kl_ctr_mem *kl_pod_mem(struct kl_pod *p, struct kl_str container);
void kl_mem_reason(struct kl_ctr_mem *m, const char *reason, struct kl_str message);
void kl_pod_force_end(struct kl_pod *p, const char *phase, const char *reason, const char *message);
void kl_pod_status_push(struct kl_pod *p);
bool kl_pod_wants_end(const struct kl_pod *p);
int64_t kl_pod_grace_ms(const struct kl_pod *p); // 1 s to 30 days

// ---- pod_stop.c
// Stops one container: preStop, SIGTERM, grace, SIGKILL. Asynchronous; ctr->stopping meanwhile.
void kl_pod_stop_ctr(struct kl_pod *p, struct kl_ctr *c, int64_t grace_ms, const char *message);
void kl_pod_stop_sandboxes(struct kl_pod *p); // a step
void kl_pod_remove_runtime(struct kl_pod *p); // a step: removes sandboxes and containers
void kl_pod_release(struct kl_pod *p);        // a step: volumes, cgroup
void kl_pod_gc_sandboxes(struct kl_pod *p);
void kl_pod_gc_ctrs(struct kl_pod *p); // dead instances beyond one of each name

// ---- pod_describe.c: the runtime's state of one container or sandbox
void kl_pod_describe_ctr(struct kl_pod *p, const char *id);
void kl_pod_describe_exit(struct kl_pod *p, const char *id); // until it shows as exited
void kl_pod_describe_sandbox(struct kl_pod *p, const char *id);

// ---- pod_prepare.c and pod_start.c: steps
void kl_pod_prepare(struct kl_pod *p);
void kl_pod_create_sandbox(struct kl_pod *p, uint32_t attempt);
void kl_pod_start_ctr(struct kl_pod *p, enum kl_ctr_kind kind, size_t index);

// ---- pod_resize.c
// Looks whether the spec asks for something else than it did, and whether the node has room for it;
// p->rt.resizes says so.
void kl_pod_resize_check(struct kl_pod *p);
// The container as it was when its pod's requests were granted: what one that starts now gets.
const struct kl_value *kl_pod_granted(const struct kl_pod *p, const struct kl_value *container);
void kl_pod_resize(struct kl_pod *p); // a step, if there is something to do

// ---- hooks.c: exec, HTTP and sleep handlers
// cb exactly once: 0, or an error worded as upstream's event message.
void kl_hook_run(struct kl_pod *p, const struct kl_value *handler, const struct kl_ctr *c,
                 int64_t timeout_ms, void (*cb)(void *arg, const struct kl_error *err_or_null),
                 void *arg);
// Cuts short what runs: the callbacks come soon, with an error or without.
void kl_hooks_cancel(struct kl_pod *p);

// Where things of a pod are. Each a path under DATA/agent.
void kl_pod_dir(const struct kl_pod *p, struct kl_path *ret);
void kl_pod_log_dir(const struct kl_pod *p, struct kl_path *ret);
