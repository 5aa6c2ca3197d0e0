// SPDX-License-Identifier: Apache-2.0
// The API server: serves the Kubernetes API of a store over HTTPS, and to in-process clients.
#pragma once
#include "base/loop.h"
#include "client/client.h"
#include "store/store.h"

struct kl_apiserver;
struct kl_api_settings;
struct kl_encryption;
struct kl_pki;
struct kl_roster;

struct kl_apiserver_options {
    struct kl_store *store; // opened with kl_cache_hooks
    struct kl_loop **loops; // API loops, not started yet or running
    int nloops;
    struct kl_loop **client_loops; // further loops that in-process clients will run on
    int nclient_loops;
    const char *bind_address;         // NULL: all
    int port;                         // 0: the kernel's choice
    const char *advertise_address;    // of the kubernetes Service's endpoint
    const char *service_cidr;         // "10.43.0.0/16"
    const char *cluster_domain;       // "cluster.local"
    const char *version;              // kinglet's own, for User-Agent and build info
    const struct kl_pki *pki;         // borrowed for the server's life
    struct kl_encryption *encryption; // encryption/encryption.h; NULL: none. Borrowed
    struct kl_roster *roster; // this server among others; NULL: it is the only one. Borrowed
    bool anonymous;           // anonymous requests to health endpoints and /version
    const struct kl_api_settings *settings; // NULL: kl_api_settings_default. Borrowed
};

// Binds, registers readers on the loops and begins to serve: /livez answers at once, /readyz when
// the bootstrap objects are there. The loops must be running or be started after.
int kl_apiserver_start(const struct kl_apiserver_options *o, struct kl_apiserver **ret,
                       struct kl_error *err);
// New connections use these certificates (of the same CAs). Any thread.
int kl_apiserver_renew(struct kl_apiserver *s, const struct kl_pki *fresh, struct kl_error *err);
int kl_apiserver_port(const struct kl_apiserver *s);
bool kl_apiserver_ready(const struct kl_apiserver *s); // any thread
// Whether a row of kl_resources is served, by default or by --runtime-config. Any thread.
bool kl_apiserver_serves(const struct kl_apiserver *s, const struct kl_resource *res);
// Calls cb once on loops[0] when it is ready.
void kl_apiserver_on_ready(struct kl_apiserver *s, void (*cb)(void *arg), void *arg);
// Ends watches, lets requests in flight end (up to 2 s), closes; `done` runs on loops[0].
void kl_apiserver_stop(struct kl_apiserver *s, void (*done)(void *arg), void *arg);
void kl_apiserver_free(struct kl_apiserver *s); // after done, loops stopped

// A client in the same process, acting as this user on this loop (one of loops or client_loops).
// NULL when out of memory.
struct kl_client *kl_apiserver_client(struct kl_apiserver *s, struct kl_loop *loop,
                                      const char *user, const char *const *groups,
                                      const char *user_agent);
