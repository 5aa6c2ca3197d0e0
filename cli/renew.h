// SPDX-License-Identifier: Apache-2.0
// Certificates that renew themselves while the server runs: a thread that sleeps until the first of
// them is due (90 days before it ends), makes all that are due anew on the disk, and hands them on.
#pragma once
#include "apiserver/pki.h"

struct kl_renew;

struct kl_renew_options {
    struct kl_pki_options pki; // as they were opened; what it points to is borrowed until the end
    const struct kl_pki *pki_now; // borrowed until the end
    // In the thread, with all certificates as they are now. KL_*: tried again later.
    int (*apply)(void *arg, const struct kl_pki *fresh, struct kl_error *err);
    void *arg;
};

int kl_renew_start(const struct kl_renew_options *o, struct kl_renew **ret, struct kl_error *err);
void kl_renew_stop(struct kl_renew *r); // blocks for a renewal that goes on; NULL is fine
