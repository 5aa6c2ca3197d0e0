// SPDX-License-Identifier: Apache-2.0
#include "store/backend.h"

extern const struct kl_backend_ops kl_backend_memory, kl_backend_sqlite, kl_backend_postgres,
    kl_backend_postgresql, kl_backend_mysql, kl_backend_mariadb, kl_backend_raft, kl_backend_faulty,
    kl_backend_etcd, kl_backend_etcd_unix;

const struct kl_backend_ops *const kl_backends[] = {
    &kl_backend_sqlite,
    &kl_backend_postgres,
    &kl_backend_postgresql,
    &kl_backend_mysql,
    &kl_backend_mariadb,
    &kl_backend_raft,
    &kl_backend_etcd,
    &kl_backend_etcd_unix,
    &kl_backend_memory,
    &kl_backend_faulty,
    NULL,
};
