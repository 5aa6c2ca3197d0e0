// SPDX-License-Identifier: Apache-2.0
// The life of one pod as pure functions: what the API server wants, what the runtime has and the
// time go in; what to do next comes out. Follows pkg/kubelet/kuberuntime (computePodActions).
#pragma once
#include "kubelet/cgroup.h"

enum kl_ctr_kind { KL_CTR_INIT, KL_CTR_MAIN, KL_CTR_EPHEMERAL };
enum kl_ctr_state { KL_CTR_CREATED, KL_CTR_RUNNING, KL_CTR_EXITED, KL_CTR_UNKNOWN }; // as CRI's
enum kl_probe_result { KL_PROBE_UNKNOWN, KL_PROBE_SUCCESS, KL_PROBE_FAILURE };
enum kl_probe_kind { KL_PROBE_STARTUP, KL_PROBE_LIVENESS, KL_PROBE_READINESS, KL_PROBE_KINDS };

// One instance of a container in the runtime. Strings are on the heap or NULL.
struct kl_ctr {
    struct kl_ctr *next; // older
    char *id, *name, *sandbox_id, *image, *image_id, *reason, *message, *log_path;
    enum kl_ctr_state state;
    uint32_t attempt; // restart count
    uint32_t hash;
    bool has_hash;
    int exit_code;
    int64_t created_ns, started_ns, finished_ns;
    bool stopping;  // a StopContainer is under way
    bool oom;       // the kernel killed something in it
    bool described; // ContainerStatus has been read
    bool post_start_done;
    bool adopted; // found running: what its probes said is still to be taken from the Pod's status
    uint8_t probe[KL_PROBE_KINDS]; // enum kl_probe_result
    bool has_limits;               // what the runtime holds it to is known
    struct kl_cgroup_values limits;
};

struct kl_sandbox {
    struct kl_sandbox *next; // older
    char *id;
    uint32_t attempt;
    bool ready, host_network, described;
    int64_t created_ns;
    char ips[2][46]; // "" when none
};

struct kl_pod_rt {
    struct kl_sandbox *sandboxes; // newest first
    struct kl_ctr *ctrs;          // newest first
    bool resizes;                 // what the spec asks for otherwise than it is has been granted
};
struct kl_ctr *kl_rt_find(const struct kl_pod_rt *rt, struct kl_str name); // newest of the name
struct kl_ctr *kl_rt_find_id(const struct kl_pod_rt *rt, struct kl_str id);
void kl_rt_add_ctr(struct kl_pod_rt *rt, struct kl_ctr *c); // keeps the order
void kl_rt_add_sandbox(struct kl_pod_rt *rt, struct kl_sandbox *s);
void kl_rt_fini(struct kl_pod_rt *rt);
void kl_ctr_free(struct kl_ctr *c);
void kl_sandbox_free(struct kl_sandbox *s);

// Exponential back-off of client-go's flowcontrol, keyed by its owner.
struct kl_backoff {
    int64_t value_ms, updated_ms; // value 0: never
};
enum { KL_BACKOFF_BASE_MS = 10 * 1000, KL_BACKOFF_MAX_MS = 300 * 1000 };
// Whether what happened at since_ms still holds back now; *ret_until (may be NULL) says till when.
bool kl_backoff_holds(const struct kl_backoff *b, int64_t since_ms, int64_t now_ms,
                      int64_t *ret_until);
void kl_backoff_next(struct kl_backoff *b, int64_t event_ms, int64_t now_ms);

#define KL_PLAN_MAX 64
struct kl_pod_plan {
    bool kill_pod;       // stop all containers and the sandbox
    bool create_sandbox; // a new one, as this attempt
    uint32_t sandbox_attempt;
    struct {
        uint16_t index; // in the spec's list of that kind
        uint8_t kind;   // enum kl_ctr_kind
    } start[KL_PLAN_MAX];
    int nstart;
    struct {
        struct kl_ctr *ctr;
        char message[256]; // of the Killing event
    } kill[KL_PLAN_MAX];
    int nkill;
};
void kl_pod_compute(const struct kl_value *pod, const struct kl_pod_rt *rt,
                    struct kl_pod_plan *ret);

bool kl_pod_needs_sandbox(const struct kl_value *pod, const struct kl_pod_rt *rt,
                          uint32_t *ret_attempt);
bool kl_ctr_is_sidecar(const struct kl_value *container);
// By the container's rules and policy, or the pod's, after this exit code.
bool kl_ctr_restarts(const struct kl_value *pod, const struct kl_value *container, int exit_code);
// Hash of the fields whose change restarts a container: name and image.
uint32_t kl_ctr_hash(const struct kl_value *container);
// What a running container needs in order to have what its spec asks for (computePodResizeAction).
enum kl_ctr_resize { KL_RESIZE_NONE, KL_RESIZE_UPDATE, KL_RESIZE_RESTART };
enum kl_ctr_resize kl_ctr_resize(const struct kl_value *container, const struct kl_ctr *c);
// The spec's entry; NULL when there is none of the name. *ret_kind may be NULL.
const struct kl_value *kl_pod_container(const struct kl_value *pod, struct kl_str name,
                                        enum kl_ctr_kind *ret_kind);
const struct kl_value *kl_pod_containers(const struct kl_value *pod, enum kl_ctr_kind kind);

// What an earlier kubelet's probes said of this very instance, by the Pod's status; what probes of
// this one have found stays.
void kl_ctr_adopt_probes(const struct kl_value *status, struct kl_ctr *c);
// A running container counts as started once its startup probe (if any) has succeeded.
bool kl_ctr_started(const struct kl_value *container, const struct kl_ctr *c);
bool kl_ctr_ready(const struct kl_value *container, const struct kl_ctr *c);

// What is to be stopped now, when the pod ends: the main containers at once, then sidecars in
// reverse order, each when all that start after it have ended. NULL-ended into ret.
int kl_pod_next_stops(const struct kl_value *pod, const struct kl_pod_rt *rt, struct kl_ctr **ret,
                      int max);
