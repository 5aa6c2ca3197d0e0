// SPDX-License-Identifier: Apache-2.0
// A cluster in a map with the controllers running on it in virtual time, and a kubelet that needs
// no node: pods become ready after a while and go away when they are deleted.
#pragma once
#include "controllers/controllers.h"
#include "fake_client.h"
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

struct harness {
    struct kl_timers *ts;
    struct fake_cluster *f;
    struct kl_controllers *controllers;
    // the kubelet
    int64_t ready_ms, stop_ms;                   // [1000, 1000]
    bool (*may_run)(const struct kl_value *pod); // NULL: all may; others stay pending
    bool no_kubelet;
    bool keep_node; // pods get their nodes from a scheduler
};
extern struct harness h;

// `only`: comma separated names of controllers to run; NULL: all.
void harness_start(const char *only);
// The server serves what this says (NULL: what it serves by default).
void harness_start_serving(const char *only,
                           bool (*serves)(void *arg, const struct kl_resource *res));
int harness_stop(void **state);
void harness_run(int64_t ms); // lets time pass, the kubelet at work every 100 ms

#define PODS kl_res(KL_RES_core_v1_pods)
#define NODES kl_res(KL_RES_core_v1_nodes)
#define NAMESPACES kl_res(KL_RES_core_v1_namespaces)
#define REPLICASETS kl_res(KL_RES_apps_v1_replicasets)
#define CONTROLLERS kl_res(KL_RES_core_v1_replicationcontrollers)
#define CLAIMS kl_res(KL_RES_core_v1_persistentvolumeclaims)
#define VOLUMES kl_res(KL_RES_core_v1_persistentvolumes)
#define DEPLOYMENTS kl_res(KL_RES_apps_v1_deployments)

size_t count_pods(const char *ns, const char *phase); // NULL: any, not being deleted
// One condition of an object; asserts that it exists.
const struct kl_value *condition_of(const struct kl_resource *res, const char *ns, const char *name,
                                    const char *type);
void assert_text(struct kl_str got, const char *expected);
void assert_condition(const struct kl_resource *res, const char *ns, const char *name,
                      const char *type, const char *status, const char *reason,
                      const char *message);
int64_t status_of(const struct kl_resource *res, const char *ns, const char *name, kl_sym field);
