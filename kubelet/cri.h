// SPDX-License-Identifier: Apache-2.0
// The container runtime: CRI calls with decoded messages, and containerd's stream of task events.
// One loop.
#pragma once
#include "kubelet/cri_gen.h"
#include "net/grpc.h"

struct kl_cri;
struct kl_cri_call; // valid until its callback

int kl_cri_new(struct kl_loop *loop, const char *endpoint, struct kl_cri **ret,
               struct kl_error *err);
// Ends what is pending with KL_GRPC_CANCELED before it returns; later calls fail.
void kl_cri_close(struct kl_cri *c);
void kl_cri_free(struct kl_cri *c);      // when no callback is owed any more; accepts NULL
void kl_cri_reconnect(struct kl_cri *c); // forget the back-off

// Exactly once, later. code 0: reply is the decoded message, memory of the call. Else err says why,
// worded as Go prints it ("rpc error: code = ...").
typedef void (*kl_cri_cb)(void *arg, enum kl_grpc_code code, const void *reply,
                          const struct kl_error *err);
// The request is encoded at once. ret_call (may be NULL) is for kl_cri_cancel.
void kl_cri_start(struct kl_cri *c, enum kl_cri_method method, const void *request,
                  uint32_t timeout_ms, kl_cri_cb cb, void *arg, struct kl_cri_call **ret_call);
void kl_cri_cancel(struct kl_cri_call *call);

enum kl_cri_task_event { KL_TASK_EXIT, KL_TASK_OOM };
struct kl_cri_events {
    // A container's main process ended, or was killed for memory.
    void (*on_event)(void *arg, enum kl_cri_task_event event, struct kl_str container_id);
    // The stream could not be had or broke; it is opened anew by kl_cri_watch_events.
    void (*on_end)(void *arg, const struct kl_error *err);
    void *arg;
};
// Follows containerd's events. Of other runtimes on_end comes (unimplemented).
int kl_cri_watch_events(struct kl_cri *c, const struct kl_cri_events *e, struct kl_error *err);
