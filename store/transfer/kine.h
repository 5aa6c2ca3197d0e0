// SPDX-License-Identifier: Apache-2.0
// kine's tables become ours, and ours kine's again. Revisions, keys and values stay as they are.
// Everything blocks.
#pragma once
#include "store/store.h"
#include "base/arena.h"

// Of the sentence that says what would change, before K3s' key.
#define KL_KINE_BOOTSTRAP                                                                          \
    ". K3s' CAs and key of service accounts are adopted with its token (--token); without it its " \
    "kubeconfigs, service account tokens and nodes are to be issued anew; they stay under "

struct kl_endpoint;
struct kl_sql_driver;
struct sqlite3;

// Turns a datastore of ours, in place, back into one that kine and K3s open: predecessors, previous
// values and kine's indexes come back, what is ours goes. `o` (may be NULL): the TLS files of a
// database. KL_EUNAVAILABLE: somebody uses it; KL_EINVALID: a key that kine's tables cannot hold.
int kl_kine_give_back(const char *url, const struct kl_store_options *o, struct kl_error *err);

// What the take-over's check is shown: all records of K3s' and of ours, 16 MiB at most.
struct kl_kine_records {
    struct kl_kine_record *v;
    size_t n, cap;
    struct kl_arena arena;
};
void kl_kine_records_init(struct kl_kine_records *r);
int kl_kine_records_add(struct kl_kine_records *r, struct kl_str key,
                        struct kl_str value); // copies
void kl_kine_records_fini(struct kl_kine_records *r);

// ---- of one kind of database each

// store/sqlite: a file with kine's table that is held alone, where kl_writer() is known. Without
// o->take_over: KL_EUNSUPPORTED, a sentence that says what would change.
int kl_kine_take_over_sqlite(struct sqlite3 *db, const char *path, const struct kl_store_options *o,
                             struct kl_error *err);
int kl_kine_give_back_sqlite(const char *path, struct kl_error *err);

// store/sql: a database with kine's table, on a connection of its own that waits as long as it
// takes. Without o->take_over as above. KL_ECONFLICT: somebody still writes.
int kl_kine_take_over_sql(const struct kl_sql_driver *d, const struct kl_endpoint *ep,
                          const struct kl_store_options *o, struct kl_error *err);
int kl_kine_give_back_sql(const struct kl_sql_driver *d, const struct kl_endpoint *ep,
                          struct kl_error *err);
