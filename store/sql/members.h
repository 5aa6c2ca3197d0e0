// SPDX-License-Identifier: Apache-2.0
// The servers that share a database.
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kl_store;

#define KL_SQL_PEERS_MAX 64
#define KL_SQL_ADDRESS_MAX 255

struct kl_sql_member {
    uint64_t id;
    char address[KL_SQL_ADDRESS_MAX + 1]; // that the others dial; "" when nobody does
    bool leader, self;
    bool connected; // as seen from here
};

struct kl_sql_status {
    uint64_t leader; // the batch leader, 0: every server commits by itself
    size_t nmembers; // this server, and those that were there a moment ago
    struct kl_sql_member members[KL_SQL_PEERS_MAX + 1];
};
// Any thread. KL_EUNSUPPORTED: the store is not in a shared database.
int kl_sql_status(struct kl_store *s, struct kl_sql_status *ret, struct kl_error *err);
