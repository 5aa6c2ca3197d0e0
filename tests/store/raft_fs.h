// SPDX-License-Identifier: Apache-2.0
// A disk in memory for raft's log: it can lose power (what was not synced is lost, kept or torn by
// sectors, as the seed says), fill up, and fail its n-th call. Directories are names only.
#pragma once
#include "store/raft/fs.h"
#include <stdbool.h>

struct rfs_file {
    char *name;  // now; NULL: removed
    char *named; // after a power cut
    unsigned char *p, *durable;
    size_t n, durable_n, cap, durable_cap;
    int open;
};

struct rfs {
    struct kl_raft_fs fs;
    struct rfs_file *file[256];
    int nfiles;
    uint64_t seed;
    long calls, fail_at; // fail_at: this call fails with EIO, 0 none
    bool fail_all;       // and all after it
    long failed;
    int64_t room; // bytes that can be allocated, -1: no end
    long die_at;  // in this call the power goes
    bool lazy;    // sync says it is done and does nothing
    bool dead;    // it went: no call does anything any more
};

void rfs_init(struct rfs *d, uint64_t seed);
void rfs_fini(struct rfs *d);
void rfs_power_cut(struct rfs *d);
struct rfs_file *rfs_find(struct rfs *d, const char *name); // by the end of its path
