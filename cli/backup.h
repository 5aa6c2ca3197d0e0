// SPDX-License-Identifier: Apache-2.0
// Snapshots of the running server on a schedule, from a thread of its own.
#pragma once
#include "base/err.h"

struct kl_store;
struct kl_backup;

struct kl_backup_options {
    struct kl_store *store;
    const char *cron; // five fields (object/cron.h)
    const char *dir, *name, *node;
    int retention; // how many of that name stay; 0: all
};

// KL_EINVALID: the schedule cannot be read.
int kl_backup_start(const struct kl_backup_options *o, struct kl_backup **ret_b,
                    struct kl_error *err);
void kl_backup_stop(struct kl_backup *b); // blocks until a snapshot under way is done; NULL is fine
