// SPDX-License-Identifier: Apache-2.0
// kine's tables become ours, and ours kine's again. Revisions, keys and values stay as they are.
// Everything blocks.
#pragma once
#include "base/err.h"
#include <stdbool.h>

struct sqlite3;

// Turns a datastore of ours, in place, back into one that kine and K3s open: predecessors, previous
// values and kine's indexes come back, what is ours goes. KL_EUNAVAILABLE: somebody holds it.
int kl_kine_give_back(const char *url, struct kl_error *err);
int kl_kine_give_back_sqlite(const char *path, struct kl_error *err);

// store/sqlite: a file with kine's table that is held alone, where kl_writer() is known. Without
// `allowed`: KL_EUNSUPPORTED, a sentence that says what would change.
int kl_kine_take_over_sqlite(struct sqlite3 *db, const char *path, bool allowed,
                             struct kl_error *err);
