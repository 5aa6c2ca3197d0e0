// SPDX-License-Identifier: Apache-2.0
// Taking an orphan that a controller's selector matches, and letting go what it does not match any
// more: the patches of upstream's ControllerRefManager (pkg/controller/controller_ref_manager.go).
// Both name the object's uid, so that another of the same name is not meant; one that is gone is no
// error.
#pragma once
#include "client/reconciler.h"

struct kl_claim {
    const struct kl_resource *owner_res;
    const struct kl_value *owner;
    const struct kl_resource *res; // of the objects
    const char *finalizer; // put on what is adopted, taken from what is released; NULL for none
};

// Plans the patch in p; NULL without memory, which p->err says.
struct kl_action *kl_claim_adopt(struct kl_plan *p, const struct kl_claim *c,
                                 const struct kl_value *object);
struct kl_action *kl_claim_release(struct kl_plan *p, const struct kl_claim *c,
                                   const struct kl_value *object);
// Adopting needs a look at the owner as the server has it now: one that is being deleted must not
// take what the garbage collector has just orphaned. kl_claim_recheck plans the call, the next
// group asks kl_claim_may_adopt with it; when the owner is another by now or gone, p->err says so.
struct kl_action *kl_claim_recheck(struct kl_plan *p, const struct kl_claim *c);
bool kl_claim_may_adopt(struct kl_plan *p, const struct kl_claim *c,
                        const struct kl_action *recheck);
