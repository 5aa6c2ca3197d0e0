// SPDX-License-Identifier: Apache-2.0
// The controllers of kube-controller-manager that a cluster cannot do without, on one loop. Each is
// a reconciler with a pure decision; each acts as its own service account, as upstream with
// --use-service-account-credentials; all read through one set of informers.
#pragma once
#include "client/client.h"
#include "client/timers.h"

struct kl_controllers;

// What certificates are signed with: PEM texts, keys among them.
struct kl_signing {
    struct kl_str client_ca, client_ca_key; // of clients of the API server, kubelets among them
    struct kl_str server_ca, server_ca_key; // of what kubelets serve
};

struct kl_controllers_options {
    struct kl_loop *loop;
    // NULL: real time on the loop. Borrowed otherwise (tests).
    struct kl_timers *timers;
    // Gives a client that acts as this user ("system:kube-controller-manager" for the informers,
    // "system:serviceaccount:kube-system:NAME" for what each controller writes). The controllers
    // own it and free it. NULL: failed.
    struct kl_client *(*client_for)(void *arg, const char *user);
    // Whether the API server serves a row of kl_resources. NULL: what it serves by default.
    bool (*serves)(void *arg, const struct kl_resource *res);
    void *arg;
    struct kl_str root_ca_pem; // of kube-root-ca.crt; empty: no publisher. Borrowed for the start.
    const struct kl_signing *signing; // NULL: no certificates are signed. Borrowed for the start.
    bool storage_migration;           // the feature gate StorageVersionMigrator
    const char *disable;              // comma separated names to leave out; NULL: none
    // kube-controller-manager's --controllers: names with or without "-controller", `-NAME` leaves
    // one out, `*` are all; NULL: all.
    const char *only;
};

// KL_EINVALID: a name in `only` is no controller's, in upstream's words. Any thread.
int kl_controllers_check(const char *only, struct kl_error *err);
// Whether `only` asks for this one.
bool kl_controllers_runs(const char *only, const char *name);
// On the loop. KL_ENOMEM, or what client_for's failure means (KL_EUNAVAILABLE).
int kl_controllers_start(const struct kl_controllers_options *o, struct kl_controllers **ret,
                         struct kl_error *err);
// On the loop, once: no call is made after it returns; answers still on their way are dropped.
void kl_controllers_stop(struct kl_controllers *c); // accepts NULL
// Whether nothing waits or runs now (delayed work does not count); for tests.
bool kl_controllers_idle(const struct kl_controllers *c);
