// SPDX-License-Identifier: Apache-2.0
// The store's lines of /metrics, under etcd's and kine's names where those exist.
#include "store/store_int.h"
#include "base/metrics.h"

static const double seconds[] = {0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064,
                                 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192};
static const double step_ms[] = {0.5, 1, 2, 5, 10, 20, 50, 100};
static atomic_llong commit_buckets[KL_COUNT(seconds) + 1], fsync_buckets[KL_COUNT(seconds) + 1],
    step_buckets[KL_COUNT(step_ms) + 1];

static struct kl_metric commit_seconds = {
    .name = "etcd_disk_backend_commit_duration_seconds",
    .help = "Latency of a batch from proposal to durable.",
    .kind = KL_HISTOGRAM,
    .bounds = seconds,
    .nbounds = KL_COUNT(seconds),
    .buckets = commit_buckets,
};
static struct kl_metric fsync_seconds = {
    .name = "etcd_disk_wal_fsync_duration_seconds",
    .help = "Latency of a log's fsync; on SQLite of a batch, which is one.",
    .kind = KL_HISTOGRAM,
    .bounds = seconds,
    .nbounds = KL_COUNT(seconds),
    .buckets = fsync_buckets,
};
static struct kl_metric compact_step_ms = {
    .name = "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
    .help = "Time of the writer that one step of compaction took.",
    .kind = KL_HISTOGRAM,
    .bounds = step_ms,
    .nbounds = KL_COUNT(step_ms),
    .buckets = step_buckets,
};

#define COUNTER(n, h)                                                                              \
    {                                                                                              \
        .name = n, .help = h, .kind = KL_COUNTER                                                   \
    }
#define GAUGE(n, h)                                                                                \
    {                                                                                              \
        .name = n, .help = h, .kind = KL_GAUGE                                                     \
    }
static struct kl_metric simple[KL_SM_COUNT] = {
    [KL_SM_WATCHERS] = GAUGE("etcd_debugging_mvcc_watcher_total", "Watches of the store."),
    [KL_SM_LEASE_GRANTED] = COUNTER("etcd_debugging_lease_granted_total", "Leases granted."),
    [KL_SM_LEASE_REVOKED] =
        COUNTER("etcd_debugging_lease_revoked_total", "Leases revoked or expired."),
    [KL_SM_LEASE_RENEWED] = COUNTER("etcd_debugging_lease_renewed_total", "Leases renewed."),
    [KL_SM_FAILED] = COUNTER("etcd_server_proposals_failed_total", "Batches that were not stored."),
    [KL_SM_TXN] = COUNTER("etcd_mvcc_txn_total", "Transactions answered."),
    [KL_SM_RANGE_HISTORY] = COUNTER("kine_sql_range_history_total",
                                    "Ranges at old revisions that were read from the back end."),
    [KL_SM_COMPACTED_KEYS] =
        COUNTER("etcd_debugging_mvcc_db_compaction_keys_total", "Rows removed by compaction."),
    [KL_SM_COMPACTIONS] = COUNTER("kine_compact_total", "Compactions."),
    [KL_SM_DISK_FULL] = GAUGE("kinglet_store_disk_full", "1 while only writes that do not grow are "
                                                         "stored because the disk is full."),
};
static struct kl_metric puts_total = COUNTER("etcd_mvcc_put_total", "Versions stored by puts.");
static struct kl_metric deletes_total =
    COUNTER("etcd_mvcc_delete_total", "Versions stored by deletions.");
static struct kl_metric batches_total =
    COUNTER("etcd_server_proposals_committed_total", "Batches made durable.");
static struct kl_metric keys = GAUGE("etcd_debugging_mvcc_keys_total", "Current keys.");
static struct kl_metric rev =
    GAUGE("etcd_debugging_mvcc_current_revision", "The store's revision.");
static struct kl_metric compact_rev =
    GAUGE("etcd_debugging_mvcc_compact_revision", "The revision compacted to.");
static struct kl_metric db_bytes =
    GAUGE("etcd_mvcc_db_total_size_in_bytes", "Size of the datastore, free pages included.");
static struct kl_metric db_bytes_old =
    GAUGE("etcd_debugging_mvcc_db_total_size_in_bytes", "etcd_mvcc_db_total_size_in_bytes.");
static struct kl_metric db_used_bytes =
    GAUGE("etcd_mvcc_db_total_size_in_use_in_bytes", "Size of the datastore without free pages.");

static struct kl_metric applied_total =
    COUNTER("etcd_server_proposals_applied_total", "Batches applied.");
static struct kl_metric pending =
    GAUGE("etcd_server_proposals_pending", "Transactions that wait for their batch.");
static struct kl_metric has_leader =
    GAUGE("etcd_server_has_leader", "1 while somebody is known who evaluates transactions.");
static struct kl_metric is_leader = GAUGE("etcd_server_is_leader", "1 while this server does.");
static struct kl_metric leader_changes =
    COUNTER("etcd_server_leader_changes_seen_total", "Changes of who evaluates transactions.");
static struct kl_metric events_total =
    COUNTER("etcd_debugging_mvcc_events_total", "Events that watches may see.");
static struct kl_metric put_bytes = COUNTER("etcd_debugging_mvcc_total_put_size_in_bytes",
                                            "Bytes of keys and values stored by puts.");
static struct kl_metric kine_sql_total =
    COUNTER("kine_sql_total", "Transactions of the back end: one for each batch.");

// The lines of the memory budget.
static struct kl_metric value_bytes =
    GAUGE("kinglet_store_value_memory_bytes", "Values in memory, old versions included.");
static struct kl_metric attached_bytes =
    GAUGE("kinglet_store_attached_memory_bytes", "Decoded objects and encodings in memory.");
static struct kl_metric ring_bytes =
    GAUGE("kinglet_store_ring_bytes", "What the events that watches may go back to hold.");
static struct kl_metric file_value_bytes =
    GAUGE("kinglet_store_value_file_used_bytes", "Values in the value file.");
static struct kl_metric file_bytes =
    GAUGE("kinglet_store_value_file_bytes", "Size of the value file on the disk.");

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void register_all(void)
{
    struct kl_metric *all[] = {&commit_seconds,
                               &fsync_seconds,
                               &compact_step_ms,
                               &puts_total,
                               &deletes_total,
                               &batches_total,
                               &keys,
                               &rev,
                               &compact_rev,
                               &db_bytes,
                               &db_bytes_old,
                               &db_used_bytes,
                               &applied_total,
                               &pending,
                               &has_leader,
                               &is_leader,
                               &leader_changes,
                               &events_total,
                               &put_bytes,
                               &kine_sql_total,
                               &value_bytes,
                               &attached_bytes,
                               &ring_bytes,
                               &file_value_bytes,
                               &file_bytes};
    for (size_t i = 0; i < KL_COUNT(all); i++)
        kl_metric_register(all[i]);
    for (size_t i = 0; i < KL_COUNT(simple); i++)
        kl_metric_register(&simple[i]);
}

void kl_store_metrics_init(void)
{
    pthread_once(&once, register_all);
}

void kl_store_metric(enum kl_store_metric m, int64_t d)
{
    if (m == KL_SM_DISK_FULL)
        kl_metric_set(&simple[m], d);
    else
        kl_metric_add(&simple[m], d);
}

void kl_store_metric_step(int64_t took_us)
{
    kl_metric_observe(&compact_step_ms, (double)took_us / 1e3);
}

void kl_store_metric_fsync(int64_t took_ns)
{
    kl_metric_observe(&fsync_seconds, (double)took_ns / 1e9);
}

void kl_store_metrics_leader(struct kl_store *s, bool changed)
{
    uint64_t who = s->ops->leader ? s->ops->leader(s->backend) : 0;
    kl_metric_set(&has_leader, who != KL_LEADER_NONE);
    kl_metric_set(&is_leader, who == 0);
    kl_metric_add(&leader_changes, changed);
}

void kl_store_metrics_applied(const struct kl_store *s, const struct kl_batch *b, int64_t took_ns)
{
    kl_metric_add(&applied_total, 1);
    kl_metric_add(&kine_sql_total, 1);
    kl_metric_add(&events_total, (long long)b->nrows);
    kl_metric_add(&put_bytes, b->put_bytes);
    kl_metric_set(&pending, atomic_load_explicit(&s->queued, memory_order_relaxed));
    kl_metric_observe(&commit_seconds, (double)took_ns / 1e9);
    if (strcmp(s->ops->scheme, "sqlite") == 0)
        kl_store_metric_fsync(took_ns);
    kl_metric_add(&batches_total, 1);
    kl_metric_add(&simple[KL_SM_TXN], (long long)b->ntxns);
    kl_metric_add(&puts_total, (long long)(b->nrows - b->ndeletes));
    kl_metric_add(&deletes_total, (long long)b->ndeletes);
    kl_metric_set(&keys, atomic_load_explicit(&s->stat.keys, memory_order_relaxed));
    kl_metric_set(&rev, atomic_load_explicit(&s->stat.rev, memory_order_relaxed));
    kl_metric_set(&compact_rev, atomic_load_explicit(&s->stat.compact_rev, memory_order_relaxed));
    struct kl_backend_sizes sizes = {0};
    s->ops->sizes(s->backend, &sizes);
    kl_metric_set(&db_bytes, sizes.db_bytes);
    kl_metric_set(&db_bytes_old, sizes.db_bytes);
    kl_metric_set(&db_used_bytes, sizes.db_used_bytes);
    kl_metric_set(&ring_bytes, atomic_load_explicit(&s->stat.ring_bytes, memory_order_relaxed));
    kl_metric_set(&value_bytes, atomic_load_explicit(&s->evict.home->values, memory_order_relaxed));
    kl_metric_set(&attached_bytes,
                  atomic_load_explicit(&s->evict.home->attached, memory_order_relaxed));
    if (s->evict.spill) {
        kl_metric_set(&file_value_bytes, kl_spill_live_bytes(s->evict.spill));
        kl_metric_set(&file_bytes, kl_spill_file_bytes(s->evict.spill));
    }
}
