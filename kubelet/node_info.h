// SPDX-License-Identifier: Apache-2.0
// Facts of the machine for the Node object.
#pragma once
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

struct kl_node_info {
    char machine_id[64], system_uuid[64], boot_id[64], kernel[128], os_image[128];
    const char *arch; // Go's name
    int cpus;
    int64_t memory_bytes, swap_bytes;
    int64_t fs_bytes, fs_inodes; // of the data directory's file system
};
void kl_node_info_read(struct kl_node_info *info, const char *dir);

// What conditions follow from; cheap.
struct kl_node_pressure {
    int64_t memory_available_bytes; // upstream's working-set view: MemAvailable
    int64_t fs_available_bytes, fs_free_inodes;
    int64_t max_pids, pids;
};
void kl_node_pressure_read(struct kl_node_pressure *p, const char *dir);
