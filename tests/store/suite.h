// SPDX-License-Identifier: Apache-2.0
// What the files of the suite share.
#pragma once
#include "harness.h"
#include <string.h>

extern const char *suite_backend; // the first argument

struct fix {
    struct hs_store hs;
    struct hs_client c;
};

static inline bool on(const char *name)
{
    return strcmp(suite_backend, name) == 0;
}

// suite_lease.c
void lease_life(void **state);
void alarms(void **state);
void lease_expiry(void **state);
void lease_renewal(void **state);
void lease_kept_by_another(void **state);
