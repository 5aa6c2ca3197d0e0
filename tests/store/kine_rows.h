// SPDX-License-Identifier: Apache-2.0
// What a K3s server leaves in kine's table, whatever the database, and what must be there when the
// table is ours: for the tests of taking over and giving back.
#pragma once
#include "store/store.h"

struct kine_row {
    char name[64], value[64];
    int64_t id, create, lease;
};

struct kine_table {
    // As kine's Insert, within a transaction; value NULL deletes.
    void (*write)(void *arg, const char *name, const char *value, int lease);
    void (*gap)(void *arg); // a number that a failed insert took, filled by the poll loop
    void *arg;
};

// Creations, updates, deletions, keys that come back, gaps, leases (two times to live), K3s'
// bootstrap key.
void kine_fill(const struct kine_table *t, int keys);
// However many tokens a cluster has had, what is checked before the table is taken is all that K3s
// keeps: records under many tokens, and that a check which says no has seen each of them.
void kine_old_tokens(const struct kine_table *t);
void kine_check_sees_all(const char *url);
// The store has these keys, in order, and no others; versions fit revisions.
void kine_same_keys(struct kl_store *s, const struct kine_row *w, size_t n);
void kine_same_rows(const struct kine_row *have, const struct kine_row *want, size_t n);
