// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kubelet/atomic_writer.h"
#include "kubelet/env.h"
#include "kubelet/objcache.h"
#include "kubelet/pods_int.h"
#include "kubelet/volumes.h"

#define KL_VOLUMES_MAX 256

enum kl_volume_kind {
    KL_VOLUME_EMPTY_DIR,
    KL_VOLUME_HOST_PATH,
    KL_VOLUME_CONFIG_MAP,
    KL_VOLUME_SECRET,
    KL_VOLUME_PROJECTED,
    KL_VOLUME_DOWNWARD,
    KL_VOLUME_UNSUPPORTED,
};

// One volume as the worker makes it. Everything is memory of the work's arena.
struct kl_volume_work {
    enum kl_volume_kind kind;
    struct kl_str name;
    struct kl_path path; // on the host
    struct kl_path made; // emptyDir: the file that says it has been made, "" for others
    bool tmpfs;          // emptyDir of medium Memory; all atomic ones but ConfigMaps
    int64_t size_bytes;  // of a tmpfs; 0: the kernel's default
    struct kl_str host_type;
    struct kl_atomic_file *files;
    size_t nfiles, cap;
    gid_t gid; // fsGroup or -1
};

// volume_payload.c: what the files of a volume are to be.
struct kl_token {
    struct kl_token *next;
    char *audience; // "" is the API server's
    int64_t expiration_s;
    char *token; // NULL: not there yet
    int64_t expires_ms, refresh_at_ms;
    bool asking;
    char *error; // of the last request
};
struct kl_payload_source {
    struct kl_arena *a;
    const struct kl_env_source *env; // pod, addresses, objects
    const struct kl_token *tokens;
};
int kl_volume_payload(struct kl_payload_source *src, const struct kl_value *volume,
                      struct kl_volume_work *w, struct kl_error *err);
enum kl_volume_kind kl_volume_kind_of(const struct kl_value *volume);
const char *kl_volume_dir_name(enum kl_volume_kind kind); // "kubernetes.io~configmap"

// volume_mount.c, blocking
int kl_volume_make(struct kl_volume_work *w, struct kl_error *err);
