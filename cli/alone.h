// SPDX-License-Identifier: Apache-2.0
// A process that is an API server and little else: kube-apiserver and test-server. `kinglet server`
// composes more (cli/server.c).
#pragma once
#include "apiserver/apiserver.h"
#include "apiserver/settings.h"

struct kl_alone;
struct kl_encryption;
struct kl_pki;

struct kl_alone_options {
    const char *name;                       // for messages
    struct kl_store *store;                 // opened with kl_cache_hooks; it is closed here
    struct kl_pki *pki;                     // freed here
    struct kl_encryption *encryption;       // whose hooks the store has, or NULL; freed here
    const struct kl_api_settings *settings; // the rest is borrowed
    const char *bind_address, *advertise_address, *service_cidr;
    int port;  // 0: the kernel's choice
    int loops; // 0: one for each core
    // Of controllers.h; NULL: none run. scheduler: so does the scheduler.
    const char *controllers;
    bool scheduler;
    bool abrupt; // ends at once: what it holds is gone with it anyway
    // On its loop, when everybody may come. Negative: *err says why, and it ends with status 1.
    int (*ready)(void *arg, struct kl_alone *x, struct kl_error *err);
    void *arg;
};

// Runs until SIGTERM, SIGINT or kl_alone_stop; gives the exit status, or what kept it from
// beginning. Once in a process.
int kl_alone_run(const struct kl_alone_options *o, struct kl_error *err);

// ---- on its loop, while it runs
struct kl_apiserver *kl_alone_api(struct kl_alone *x);
struct kl_loop *kl_alone_loop(struct kl_alone *x);
void kl_alone_stop(struct kl_alone *x, int status);
