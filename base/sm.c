// SPDX-License-Identifier: Apache-2.0
#include "base/sm.h"
#include "base/log.h"
#include <assert.h>
#include <stdlib.h>

void kl_sm_init(struct kl_sm *sm, const char *name, const struct kl_sm_state *states, int nstates,
                int first)
{
    assert(nstates > 0 && nstates <= 64 && first >= 0 && first < nstates);
    *sm = (struct kl_sm){.name = name, .states = states, .nstates = nstates, .state = first};
}

bool kl_sm_may(const struct kl_sm *sm, int to)
{
    return to >= 0 && to < sm->nstates && (sm->states[sm->state].allowed & KL_SM_TO(to));
}

const char *kl_sm_state_name(const struct kl_sm *sm)
{
    return sm->states[sm->state].name;
}

void kl_sm_move(struct kl_sm *sm, int to)
{
    const char *from_name = sm->states[sm->state].name;
    const char *to_name = to >= 0 && to < sm->nstates ? sm->states[to].name : "?";
    if (!kl_sm_may(sm, to)) {
        kl_log(KL_LOG_ERROR, "sm", "forbidden move machine=%s id=%p from=%s to=%s(%d)", sm->name,
               (void *)sm, from_name, to_name, to);
        abort();
    }
    kl_log(KL_LOG_DEBUG, "sm", "move machine=%s id=%p from=%s to=%s", sm->name, (void *)sm,
           from_name, to_name);
    sm->state = to;
}
