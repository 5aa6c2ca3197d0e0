// SPDX-License-Identifier: Apache-2.0
// A state machine by table: which states there are and which moves between them are allowed. A move
// that is not allowed is a bug: it is logged and the process aborts. Each move is one debug line.
//
//   enum { REQ_AUTHN, REQ_AUTHZ, REQ_DONE };
//   static const struct kl_sm_state req_states[] = {
//       [REQ_AUTHN] = {"authn", KL_SM_TO(REQ_AUTHZ) | KL_SM_TO(REQ_DONE)},
//       [REQ_AUTHZ] = {"authz", KL_SM_TO(REQ_DONE)},
//       [REQ_DONE] = {"done", 0},
//   };
//   kl_sm_init(&req->sm, "request", req_states, KL_COUNT(req_states), REQ_AUTHN);
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define KL_SM_TO(state) (UINT64_C(1) << (state))

struct kl_sm_state {
    const char *name;
    uint64_t allowed; // bits of the states that may follow
};

// Embedded in what it describes, and as thread-safe as that: not at all.
struct kl_sm {
    const char *name;
    const struct kl_sm_state *states;
    int nstates; // at most 64
    int state;
};

// `name` and `states` are borrowed for the life of `sm`; constant tables as a rule.
void kl_sm_init(struct kl_sm *sm, const char *name, const struct kl_sm_state *states, int nstates,
                int first);
bool kl_sm_may(const struct kl_sm *sm, int to);
void kl_sm_move(struct kl_sm *sm, int to);
const char *kl_sm_state_name(const struct kl_sm *sm);

static inline int kl_sm_state(const struct kl_sm *sm)
{
    return sm->state;
}
