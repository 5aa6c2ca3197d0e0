// SPDX-License-Identifier: Apache-2.0
// What `kinglet status` tells of a store, as JSON.
#pragma once
#include "base/buf.h"
#include "store/store.h"

struct kl_status_about {
    const char *endpoint, *snapshot_dir, *node; // may be NULL
    bool served;                                // by a running server
};

// Appends one object. Blocks (it walks all keys and reads the snapshot directory).
int kl_status_write(struct kl_buf *out, struct kl_store *s, const struct kl_status_about *about,
                    struct kl_error *err);
