// SPDX-License-Identifier: Apache-2.0
// The command line of `kinglet etcd`, which is etcd's: Go's flag syntax, ETCD_* environment, and
// every flag of etcd 3.6; those without a meaning here are taken and ignored.
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include <stdbool.h>

struct kl_etcd_flags {
    const char *name, *data_dir, *listen_client, *listen_client_http, *listen_metrics;
    const char *advertise_client, *advertise_peer, *listen_peer;
    const char *initial_cluster, *initial_state, *initial_token;
    const char *peer_cert_file, *peer_key_file, *peer_ca_file;
    const char *cert_file, *key_file, *trusted_ca_file;
    const char *compaction_mode, *compaction_retention;
    const char *log_level, *log_format, *config_file;
    const char *datastore, *datastore_ca, *datastore_cert, *datastore_key, *memory_budget;
    bool client_cert_auth, auto_tls, gateway, unsafe_no_fsync, take_over, help, version;
    int64_t quota_bytes, max_request_bytes, max_txn_ops, max_streams, progress_ms;
};

// Fills *f (zeroed before) from the environment and argv[1..]; the command line wins. Texts live in
// the arena, argv or the environment. lenient: a flag that nobody knows is logged, as when called
// as `etcd`; else it is KL_EINVALID, as a bad value always is.
int kl_etcd_flags_parse(struct kl_etcd_flags *f, struct kl_arena *a, int argc, char **argv,
                        bool lenient, struct kl_error *err);
void kl_etcd_flags_help(void);

// Go's time.ParseDuration, to whole milliseconds: "10m", "1h30m", "250ms", "0".
int kl_go_duration(const char *text, int64_t *ret_ms, struct kl_error *err);

// Called for each URL of a comma-separated list; host is "" (every address), a literal address, or
// a Unix socket's path with port -1. etcd's rules and messages (client/pkg/types/urls.go,
// server/embed/config.go).
struct kl_etcd_url {
    const char *text, *host; // host of a Unix URL: the path
    int port;                // -1: Unix
    bool tls;
};
int kl_etcd_urls(struct kl_arena *a, const char *list, struct kl_etcd_url *ret, int max, int *ret_n,
                 struct kl_error *err);
