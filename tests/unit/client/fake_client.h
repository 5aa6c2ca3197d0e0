// SPDX-License-Identifier: Apache-2.0
// A cluster in a map, for running whole controllers in virtual time: resource versions, conflicts,
// generateName, generations, status and other subresources, graceful deletion, finalizers, the
// three propagation policies, watches with initial events. Answers come one millisecond later.
#pragma once
#include "base/map.h"
#include "client/client.h"
#include "client/timers.h"

struct fake_cluster;

struct fake_cluster *fake_cluster_new(struct kl_timers *ts);
void fake_cluster_free(struct fake_cluster *f); // after its clients
struct kl_client *fake_client_new(struct fake_cluster *f, const char *user);
// For kl_controllers_options.client_for; arg is the cluster.
struct kl_client *fake_client_for(void *arg, const char *user);

// Called before each call is done; a negative code fails it with that error.
void fake_on_call(struct fake_cluster *f,
                  int (*hook)(void *arg, const char *user, const struct kl_call *call,
                              struct kl_error *err),
                  void *arg);
// Ends every watch as a server does that forgot its history.
void fake_expire_watches(struct fake_cluster *f);
void fake_refuse_streams(struct fake_cluster *f); // sendInitialEvents is unknown to it

// ---- the test's own hand in the cluster; failures fail the test

// From JSON with apiVersion and kind. Returns the stored object (borrowed).
struct kl_object *fake_apply(struct fake_cluster *f,
                             const char *json); // create or replace, status too
struct kl_object *fake_get(struct fake_cluster *f, const struct kl_resource *res, const char *ns,
                           const char *name); // NULL when absent
void fake_patch(struct fake_cluster *f, const struct kl_resource *res, const char *ns,
                const char *name, const char *sub, const char *merge_patch);
// As the API server does for a user: grace, finalizers, propagation.
void fake_delete(struct fake_cluster *f, const struct kl_resource *res, const char *ns,
                 const char *name, enum kl_propagation propagation);
void fake_remove(struct fake_cluster *f, const struct kl_resource *res, const char *ns,
                 const char *name); // at once, as the kubelet's last delete
// Objects of a resource, sorted by name. The array is the caller's (free), the objects borrowed.
struct kl_object **fake_list(struct fake_cluster *f, const struct kl_resource *res, const char *ns,
                             size_t *ret_n);
size_t fake_count(struct fake_cluster *f, const struct kl_resource *res, const char *ns);
// How many calls of this verb on this resource ("" or sub) were made since the last reset.
size_t fake_calls(const struct fake_cluster *f, enum kl_verb verb, const struct kl_resource *res,
                  const char *sub);
void fake_reset_calls(struct fake_cluster *f);

// Whether an Event with this reason and message about this object exists; prints all when not.
bool fake_has_event(struct fake_cluster *f, const char *name, const char *type, const char *reason,
                    const char *message);
