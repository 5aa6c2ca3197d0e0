// SPDX-License-Identifier: Apache-2.0
// Writes Events (core/v1) about objects: asynchronous, bounded, correlated. Telling an event never
// fails and never waits; when the server does not keep up, the oldest untold are dropped and
// counted. One loop.
#pragma once
#include "client/correlate.h"
#include "client/timers.h"

struct kl_recorder;

// component: source.component and reportingComponent ("deployment-controller"); host: source.host
// ("" mostly; the node's name for the kubelet). Copied. NULL when memory ran out.
struct kl_recorder *kl_recorder_new(struct kl_client *client, struct kl_timers *timers,
                                    struct kl_str component, struct kl_str host);
void kl_recorder_free(struct kl_recorder *r); // what is queued is dropped; accepts NULL

// type: "Normal" or "Warning". Everything is copied. A message over 1024 bytes is cut.
void kl_recorder_event(struct kl_recorder *r, const struct kl_object_ref *about, const char *type,
                       const char *reason, struct kl_str message);
void kl_recorder_eventf(struct kl_recorder *r, const struct kl_object_ref *about, const char *type,
                        const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
size_t kl_recorder_queued(const struct kl_recorder *r); // told and not yet written
int64_t kl_recorder_dropped(const struct kl_recorder *r);
