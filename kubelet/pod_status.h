// SPDX-License-Identifier: Apache-2.0
// A pod's status, as upstream's kubelet words it, from its spec, the runtime's state and what the
// API server has now. Pure.
#pragma once
#include "kubelet/pod_core.h"
#include "object/schema.h"

// What the kubelet remembers of one container of a spec between attempts.
struct kl_ctr_mem {
    struct kl_ctr_mem *next;
    char *name;
    struct kl_backoff crash, pull;
    char *pull_error;       // of the last pull, for the back-off's message
    char *reason, *message; // why it does not run (waiting state), or NULL
};

// How far a resize is (status_manager.go, podResizeConditions).
struct kl_resize_state {
    bool pending, in_progress; // not granted, granted and not yet so
    int64_t generation;        // that is pending; that was granted
    int64_t granted_generation;
    char message[256]; // why it is pending
    char error[1024];  // of the last attempt; "" for none
};

struct kl_status_input {
    const struct kl_value *pod;
    const struct kl_pod_rt *rt;
    const struct kl_ctr_mem *mem;
    const struct kl_resize_state *resize; // NULL: of none
    const struct kl_value *old;           // PodStatus last written or the API's; may be NULL
    int64_t now_us;
    struct kl_str host_ip;
    bool terminal;                        // its containers will not be restarted any more
    bool finished;                        // and have all ended: nothing may be waiting or running
    const char *phase, *reason, *message; // forced (eviction, deadline, rejection); phase NULL: not
};

// The draft of a PodStatus in the arena. KL_ENOMEM.
int kl_pod_status_build(struct kl_arena *a, const struct kl_status_input *in,
                        struct kl_value *ret_status);
// The strategic merge patch that turns `old` into `now` (an object of type PodStatus).
int kl_pod_status_patch(struct kl_arena *a, struct kl_str uid, const struct kl_value *old,
                        const struct kl_object *now, struct kl_str *ret_json);
const struct kl_type *kl_pod_status_type(void);
