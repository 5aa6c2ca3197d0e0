// SPDX-License-Identifier: Apache-2.0
// A store with known keys in a directory of its own.
#pragma once
#include "store/store.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

// A directory that goes with everything in it.
void ts_dir_make(char dir[64]);
void ts_dir_remove(const char *dir);

struct kl_store *ts_open(const char *url, const struct kl_store_options *o);
// Blocking writes from a loop of their own. value NULL deletes. Returns the revision.
kl_rev ts_put(struct kl_store *s, const char *key, const char *value, int64_t lease);
// Several keys of one transaction.
kl_rev ts_put_many(struct kl_store *s, const char *const *keys, int n, const char *value);
void ts_lease(struct kl_store *s, int64_t id, int64_t ttl_s);
// n keys "/k/000001" ..., each put `times` times; every seventh is deleted again.
void ts_fill(struct kl_store *s, int n, int times);
void ts_compact(struct kl_store *s, kl_rev rev);
kl_rev ts_rev(struct kl_store *s);
// Every key with value, version, revisions and lease is the same.
void ts_same(struct kl_store *a, struct kl_store *b);
int64_t ts_lease_left(struct kl_store *s, int64_t id); // ms, -1: none
