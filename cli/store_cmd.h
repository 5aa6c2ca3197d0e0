// SPDX-License-Identifier: Apache-2.0
// What the commands on a store share: status, snapshot, migrate.
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "store/sql/endpoint.h"
#include "store/store.h"

// The given URL, or the data directory's SQLite file.
const char *kl_store_cmd_url(struct kl_arena *a, const char *given, const char *data_dir);
// The given directory, or the data directory's.
const char *kl_snapshot_dir(struct kl_arena *a, const char *given, const char *data_dir);
// Opens what must be there already, for reading only: nothing expires, nothing is compacted. One
// sentence says so when another process holds it. `o` (may be NULL): other options than that.
int kl_store_cmd_open(const char *url, const struct kl_store_options *o, struct kl_store **ret_s,
                      struct kl_error *err);
// Whether it is a file that is not there.
bool kl_store_cmd_is_missing(const char *url);
// "1.5 MiB" into ret, which is returned.
const char *kl_size_text(int64_t bytes, char ret[32]);
