// SPDX-License-Identifier: Apache-2.0
// What the log does with the file system, behind a table, so that tests and the simulator can lose
// power, fill the disk and fail any call. All functions return 0 (or a count, or a descriptor) or a
// negative errno value; they may block.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct kl_raft_fs {
    int (*open)(void *arg, const char *path, int flags); // O_CREAT makes it 0600
    void (*close)(void *arg, int fd);
    int64_t (*size)(void *arg, int fd);
    ssize_t (*pread)(void *arg, int fd, void *p, size_t n, int64_t off);        // short only at end
    ssize_t (*pwrite)(void *arg, int fd, const void *p, size_t n, int64_t off); // all or an error
    int (*allocate)(void *arg, int fd, int64_t off, int64_t n); // zeros, on the disk
    int (*truncate)(void *arg, int fd, int64_t n);
    int (*sync)(void *arg, int fd); // data, and what is needed to read it
    int (*sync_dir)(void *arg, const char *dir);
    int (*rename)(void *arg, const char *from, const char *to);
    int (*unlink)(void *arg, const char *path);
    int (*list)(void *arg, const char *dir, int (*name)(void *narg, const char *name), void *narg);
    void *arg;
    int64_t segment_bytes; // of the log; 0: KL_RAFT_SEGMENT_BYTES
};

extern const struct kl_raft_fs kl_raft_fs_disk;
extern const struct kl_raft_fs kl_raft_fs_unsafe; // sync does nothing: etcd's --unsafe-no-fsync
