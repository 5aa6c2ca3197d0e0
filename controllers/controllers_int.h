// SPDX-License-Identifier: Apache-2.0
// What a controller is made of; table.c lists them all.
#pragma once
#include "client/reconciler.h"
#include "controllers/controllers.h"

// What every controller gets at its start. Outlives it.
struct kl_controller_env {
    struct kl_timers *timers;
    struct kl_informers *informers; // shared; asked for at start, running afterwards
    struct kl_client *client;       // acts as the controller's user
    struct kl_client *lister;       // the informers': may list anything
    struct kl_recorder *recorder;   // its component is the controller's
    struct kl_str root_ca_pem;
    const struct kl_signing *signing;                         // for the start only
    bool (*serves)(void *arg, const struct kl_resource *res); // controllers.h; deletable.h uses it
    void *serves_arg;
};

struct kl_controller {
    const char *name;                                       // as upstream's --controllers names it
    const char *user;                                       // the service account in kube-system
    const char *component;                                  // of its Events
    bool (*is_wanted)(const struct kl_controller_env *env); // NULL: always
    // Makes the controller: asks for informers, adds indexes and handlers. *ret is its own.
    int (*start)(const struct kl_controller_env *env, void **ret, struct kl_error *err);
    void (*stop)(void *self);
    bool (*idle)(const void *self);
};

extern const struct kl_controller kl_deployment_controller;
extern const struct kl_controller kl_replicaset_controller;
extern const struct kl_controller kl_replication_controller;
extern const struct kl_controller kl_serviceaccount_controller;
extern const struct kl_controller kl_root_ca_controller;
extern const struct kl_controller kl_namespace_controller;
extern const struct kl_controller kl_garbage_controller;
extern const struct kl_controller kl_node_controller;
extern const struct kl_controller kl_taint_eviction_controller;
extern const struct kl_controller kl_pod_gc_controller;
extern const struct kl_controller kl_csr_approving_controller;
extern const struct kl_controller kl_csr_signing_controller;
extern const struct kl_controller kl_csr_cleaner_controller;
extern const struct kl_controller kl_resourcequota_controller;
extern const struct kl_controller kl_service_cidr_controller;
extern const struct kl_controller kl_svm_controller;
extern const struct kl_controller kl_cronjob_controller;
extern const struct kl_controller kl_disruption_controller;
extern const struct kl_controller kl_pvc_protection_controller;
extern const struct kl_controller kl_pv_protection_controller;
extern const struct kl_controller kl_policy_status_controller;
extern const struct kl_controller kl_endpointslice_controller;
extern const struct kl_controller kl_job_controller;
extern const struct kl_controller kl_job_ttl_controller;
extern const struct kl_controller kl_podgroup_protection_controller;
