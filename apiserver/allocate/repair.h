// SPDX-License-Identifier: Apache-2.0
// Compares claims with Services, soon after the start and every three minutes: writes what is
// missing, lets go of what nobody has, and tells both as Events (upstream's RepairIPAddress and
// portallocator's Repair). Claims and Services are written together here, so there is something to
// mend only after somebody else wrote them.
#pragma once
#include "apiserver/server_int.h"

struct kl_repair;

// On loops[0], once the server is ready; stopped there before the loops end. NULL: no memory.
struct kl_repair *kl_repair_start(struct kl_apiserver *s);
void kl_repair_stop(struct kl_repair *r); // accepts NULL
void kl_repair_free(struct kl_repair *r); // the loops are over; accepts NULL
