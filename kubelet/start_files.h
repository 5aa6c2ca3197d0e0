// SPDX-License-Identifier: Apache-2.0
// Files that a container needs on the host before it is created: its termination log, the pod's
// /etc/hosts, the bind mounts of its subPaths.
#pragma once
#include "kubelet/pods_int.h"

struct kl_start_files {
    struct kl_path termination_log, hosts; // hosts "": none
    struct kl_path *subpaths;              // one for each volumeMount; "": whole volume
    size_t nsubpaths;
    // the job's
    struct kl_job job;
    struct kl_pod *pod;
    struct kl_arena a;
    struct kl_path *roots; // of the volumes
    struct kl_str *subs;   // expanded subPaths
    struct kl_str hosts_text;
    struct kl_path ctr_dir;
    struct kl_error err;
    int status;
    void (*cb)(void *arg, const struct kl_error *err);
    void *arg;
    bool begun;
};
// cb once, later: NULL or why not.
void kl_start_files_make(struct kl_start_files *f, struct kl_pod *p,
                         const struct kl_value *container, uint32_t attempt,
                         void (*cb)(void *arg, const struct kl_error *err), void *arg);
void kl_start_files_fini(struct kl_start_files *f);
