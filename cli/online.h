// SPDX-License-Identifier: Apache-2.0
// The store of a running server as the origin of a copy (kinglet migrate --online), and the fence
// around it, which is renewed until the copy is whole. Blocks.
#pragma once
#include "store/transfer/copy.h"
#include <pthread.h>

struct kl_online {
    const char *data_dir;
    char to[256]; // where it goes, as it is told to who is refused
    kl_rev fence_rev;
    pthread_mutex_t mu;
    pthread_cond_t wake;
    pthread_t renewer;
    bool renewing, stop;
};

void kl_online_init(struct kl_online *on, const char *data_dir, const char *to);
void kl_online_fini(struct kl_online *on);
struct kl_store_copy_origin kl_online_origin(struct kl_online *on);
int kl_online_digest(struct kl_online *on, char ret[65], struct kl_error *err);
// The fence has held until now, and holds from now on.
int kl_online_keep(struct kl_online *on, struct kl_error *err);
// The copy failed: the server takes writes again. As far as it can be reached; the fence ends by
// itself otherwise.
void kl_online_lift(struct kl_online *on);
