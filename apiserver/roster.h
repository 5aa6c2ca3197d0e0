// SPDX-License-Identifier: Apache-2.0
// The servers of one datastore: each has a key /bootstrap/servers/ID under a lease that it keeps
// alive, so that the list is of those that live. Two living servers with one id (a copied data
// directory) are noticed by it, and the endpoints of the kubernetes Service are made from it, as
// upstream's lease reconciler makes them from /registry/masterleases.
#pragma once
#include "base/err.h"
#include <stdint.h>

struct kl_roster;
struct kl_store;
struct kl_apiserver;

#define KL_ROSTER_TTL_S 15 // upstream's DefaultEndpointReconcilerTTL

// Blocking, not on a loop. `place` tells where the server runs (machine and data directory): one
// that died there is replaced at once. KL_EEXISTS: one of another place has the id; when it died,
// its lease ends after KL_ROSTER_TTL_S.
int kl_roster_claim(struct kl_store *s, uint64_t id, const char *place, struct kl_roster **ret,
                    struct kl_error *err);
// Blocking, after the API server has ended and before the store stops. Accepts NULL.
void kl_roster_release(struct kl_roster *r);

// ---- the API server's, on loops[0]
void kl_roster_start(struct kl_roster *r, struct kl_apiserver *srv); // it is ready
void kl_roster_stop(struct kl_roster *r); // before the loop's reader goes
