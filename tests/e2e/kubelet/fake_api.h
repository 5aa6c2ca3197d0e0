// SPDX-License-Identifier: Apache-2.0
// An API server of one process for tests of clients: objects in memory, watches, patches, tokens.
// Its functions may be called from any thread but the loop's; they wait for the loop.
#pragma once
#include "client/client.h"

struct fake_api;

struct fake_api *fake_api_new(struct kl_loop *loop);
struct kl_client *fake_api_client(struct fake_api *f);
void fake_api_free(struct fake_api *f); // after the loop has ended

// Creates or replaces an object given as JSON; fails the test on bad JSON. A deletionTimestamp is
// set by fake_delete.
void fake_apply(struct fake_api *f, const struct kl_resource *res, const char *json);
// As kubectl delete: with a grace period for pods on a node, else at once. grace_s < 0: the pod's.
void fake_delete(struct fake_api *f, const struct kl_resource *res, const char *ns,
                 const char *name, int grace_s);
// A reference or NULL.
struct kl_object *fake_get(struct fake_api *f, const struct kl_resource *res, const char *ns,
                           const char *name);
// Whether an event with this reason, and the text in its message, was written.
bool fake_has_event(struct fake_api *f, const char *name, const char *reason, const char *text);
void fake_dump_events(struct fake_api *f);
