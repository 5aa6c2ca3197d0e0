// SPDX-License-Identifier: Apache-2.0
// Reads the configuration files anew when they change. What is no good is logged, and the old one
// stays.
#pragma once
#include "base/buf.h"
#include "base/loop.h"

struct kl_authn;
struct kl_conf_watch;
// On the loop. Without files, nothing: *ret is NULL then.
int kl_conf_watch_start(struct kl_loop *loop, struct kl_authn *n, struct kl_conf_watch **ret,
                        struct kl_error *err);
void kl_conf_watch_stop(struct kl_conf_watch *w); // on the loop; accepts NULL
// How often it has read them anew, by upstream's names; any loop.
void kl_conf_watch_metrics(const struct kl_authn *n, struct kl_buf *out);
