// SPDX-License-Identifier: Apache-2.0
// What the parts of the kubelet know of each other.
#pragma once
#include "base/arena.h"
#include "base/log.h"
#include "base/map.h"
#include "client/informer.h"
#include "client/timers.h"
#include "kubelet/cri.h"
#include "kubelet/fsutil.h"
#include "kubelet/kubelet.h"
#include "kubelet/pool.h"

#define KL_PAUSE_IMAGE "kinglet.local/pause:1"

// Copies of the options with the defaults filled in, and what follows from them.
struct kl_kubelet_conf {
    char *node_name, *node_ip, *pod_cidr, *cluster_cidr, *cluster_dns, *cluster_domain;
    char *containerd_bin, *cni_bin_dir, *bridge_name, *cgroup_root, *server_address;
    char *allowed_user, *allowed_group, *provider_id, *version;
    char **node_labels, **node_taints; // NULL-ended
    bool own_containerd, unschedulable;
    bool pod_cidr_given;
    int port, max_pods;
    uint32_t status_interval_ms, lease_seconds;
    char *data;     // DATA/agent
    char *endpoint; // "unix:///..."
    char *socket;   // its path
    char *pods_dir, *logs_dir, *images_dir, *cni_conf_dir, *containerd_dir, *cni_data_dir;
};

enum kl_runtime_state { KL_RUNTIME_DOWN, KL_RUNTIME_STARTING, KL_RUNTIME_UP };

struct kl_containerd;
struct kl_runtime;
struct kl_images;
struct kl_object_cache;
struct kl_node;
struct kl_pods;
struct kl_recorder;
struct kl_kubelet_server;
struct kl_probes;
struct kl_log_rotate;
struct kl_http_client;

struct kl_kubelet {
    struct kl_kubelet_conf conf;
    struct kl_client *client;
    struct kl_loop *loop;
    struct kl_timers *timers;
    struct kl_pool *pool;
    struct kl_cri *cri;
    struct kl_informers *informers;
    struct kl_informer *pod_informer, *service_informer, *node_informer;
    struct kl_recorder *recorder;
    struct kl_containerd *containerd; // NULL with a given endpoint
    struct kl_runtime *runtime;
    struct kl_images *images;
    struct kl_object_cache *cache;
    struct kl_node *node;
    struct kl_pods *pods;
    struct kl_kubelet_server *server;
    struct kl_probes *probes;
    struct kl_log_rotate *log_rotate;
    struct kl_tls_ctx *tls;
    struct kl_http_client *http; // probes, hooks, containerd's streams
    void (*on_ready)(void *arg);
    void *ready_arg;
    bool ready_told, stopping;
    // Started calls of any kind whose callback has not come; stop waits for them.
    int outstanding;
    void (*stop_done)(void *arg);
    void *stop_arg;
    struct kl_task start_task, stop_task, finish_task;
    struct kl_timer finish_timer;
};

// Brackets around asynchronous work that holds a pointer into the kubelet.
static inline void kl_kubelet_hold(struct kl_kubelet *k)
{
    k->outstanding++;
}
void kl_kubelet_release(struct kl_kubelet *k);

static inline int64_t kl_kubelet_now_ms(const struct kl_kubelet *k)
{
    return kl_timers_wall_us(k->timers) / 1000;
}

int kl_kubelet_conf_init(struct kl_kubelet_conf *c, const struct kl_kubelet_options *o,
                         struct kl_error *err);
void kl_kubelet_conf_fini(struct kl_kubelet_conf *c);

// A copy on the heap with a NUL; aborts when memory is out (start-up and small names only).
char *kl_strdup(struct kl_str s);
// A copy that the API server takes: what is no UTF-8, or NUL, is U+FFFD there.
char *kl_text_clean(struct kl_str s);
char *kl_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

// ---- containerd.c: our own instance, supervised
int kl_containerd_new(struct kl_kubelet *k, struct kl_containerd **ret, struct kl_error *err);
void kl_containerd_free(struct kl_containerd *c);                 // leaves the process running
const char *kl_containerd_problem(const struct kl_containerd *c); // why it is not up, or NULL
// Blocking: writes config.toml and the CNI configuration's directory; on a worker.
int kl_containerd_write_config(const struct kl_kubelet_conf *c, struct kl_error *err);
const char *kl_containerd_snapshotter(const struct kl_kubelet_conf *c);

// ---- runtime.c: is the runtime there? Imports the pause image, follows events
int kl_runtime_new(struct kl_kubelet *k, struct kl_runtime **ret, struct kl_error *err);
void kl_runtime_free(struct kl_runtime *r);
bool kl_runtime_is_up(const struct kl_runtime *r);
const char *kl_runtime_problem(const struct kl_runtime *r); // for the Ready condition
const char *kl_runtime_version(const struct kl_runtime *r); // "containerd://1.6.20~ds1"
bool kl_runtime_network_ready(const struct kl_runtime *r);
bool kl_runtime_has_events(const struct kl_runtime *r);
void kl_runtime_failed(struct kl_runtime *r); // a call was answered with UNAVAILABLE

// ---- cni.c (blocking, on a worker)
int kl_cni_write(const struct kl_kubelet_conf *c, struct kl_error *err);
int kl_cni_masquerade(const struct kl_kubelet_conf *c, struct kl_error *err);
void kl_cni_purge(const struct kl_kubelet_conf *c);

// ---- images.c
int kl_images_new(struct kl_kubelet *k, struct kl_images **ret, struct kl_error *err);
void kl_images_free(struct kl_images *im);
void kl_images_runtime_up(struct kl_images *im);
int kl_images_import_pause(const struct kl_kubelet_conf *c, struct kl_error *err); // blocking
void kl_images_changed(struct kl_images *im);                    // one was pulled or removed
struct kl_str kl_images_status_json(const struct kl_images *im); // array for Node.status.images

// ---- node.c
int kl_node_new(struct kl_kubelet *k, struct kl_node **ret, struct kl_error *err);
void kl_node_free(struct kl_node *n);
void kl_node_refresh(struct kl_node *n); // something of its conditions has changed
bool kl_node_registered(const struct kl_node *n);
void kl_node_allocatable(const struct kl_kubelet *k, int64_t *ret_milli_cpu, int64_t *ret_bytes,
                         int64_t *ret_ephemeral_bytes);
