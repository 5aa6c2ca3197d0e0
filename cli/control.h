// SPDX-License-Identifier: Apache-2.0
// Controllers and scheduler of one server, on their loop: at once where this server is the only
// one, as long as it holds the Lease of each where several share a datastore.
#pragma once
#include "client/client.h"
#include "controllers/controllers.h"

struct kl_control;

struct kl_control_options {
    struct kl_loop *loop;
    bool controllers, scheduler; // which of them
    bool elect;                  // others run them too
    const char *identity;        // of this server in Leases; borrowed for the start
    // A client that acts as this user, owned by the caller of it. NULL: failed.
    struct kl_client *(*client_for)(void *arg, const char *user, const char *agent);
    bool (*serves)(void *arg, const struct kl_resource *res); // what the API server serves
    void *arg;
    struct kl_str root_ca_pem;        // borrowed to the end
    struct kl_signing signing;        // likewise; without keys no certificates are signed
    const char *disable, *only;       // names of controllers; borrowed to the end
    const char *const *feature_gates; // as the API server's; borrowed to the end
};

// On the loop, both. What fails is logged: the API server goes on without.
struct kl_control *kl_control_start(const struct kl_control_options *o);
// Accepts NULL. `done` comes once nothing is used any more: the Leases are given up first.
void kl_control_stop(struct kl_control *c, void (*done)(void *arg), void *arg);
