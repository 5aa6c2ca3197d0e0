// SPDX-License-Identifier: Apache-2.0
// What the take-over of a shared database is made of: the steps are the same everywhere
// (kine_sql.c), their SQL is PostgreSQL's (kine_pg.c) or MariaDB's and MySQL's (kine_my.c).
#pragma once
#include "store/sql/driver.h"

// What is in kine's table.
struct kl_kine_found {
    int64_t keys, leases, newest, compact_rev;
    kl_rev rev; // that we go on from
    char bootstrap[256];
};

struct kl_kine_sql {
    const char *look;   // () -> keys, leases, newest id, compacted to, a key of K3s' (NULL: none)
    const char *newest; // () -> newest id
    // () -> of each current key: id, name, create_revision, version, lease, value; by id
    const char *rows;
    const char *leases; // () -> each lease of these
    const char *extra;  // of the sentence that says what would change; "" mostly
    // All of it or nothing, as far as the database can; what was cut goes on when it runs again.
    // KL_ECONFLICT: there is a row newer than found->newest. Nothing to do: 0.
    int (*take_over)(struct kl_sql_conn *c, const struct kl_kine_found *found,
                     struct kl_error *err);
    int (*give_back)(struct kl_sql_conn *c, struct kl_error *err);
};
extern const struct kl_kine_sql kl_kine_pg, kl_kine_my;

// ---- kine_sql.c, for both

int kl_kine_run(struct kl_sql_conn *c, const char *sql, struct kl_error *err);
// The first row's first number; 0 without one.
int kl_kine_int(struct kl_sql_conn *c, const char *sql, int64_t *ret, struct kl_error *err);
int64_t kl_kine_cell(const struct kl_sql_value *v);
int kl_kine_still_written(struct kl_sql_conn *c, struct kl_error *err); // sets KL_ECONFLICT
// KL_EUNAVAILABLE when a server has said within 20 s that it is there; KL_EINVALID: half a copy.
int kl_kine_check_at_rest(struct kl_sql_conn *c, const char *peers_sql, struct kl_error *err);
