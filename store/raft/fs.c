// SPDX-License-Identifier: Apache-2.0
#include "store/raft/fs.h"
#include "store/store_int.h"
#include "base/clock.h"
#include "base/fault.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int fs_open(void *arg, const char *path, int flags)
{
    int fd = kl_fault_point("raft.open") ? -1 : open(path, flags | O_CLOEXEC, 0600);
    return fd < 0 ? -(errno ? errno : EIO) : fd;
}

static void fs_close(void *arg, int fd)
{
    close(fd);
}

static int64_t fs_size(void *arg, int fd)
{
    struct stat st;
    return fstat(fd, &st) ? -errno : st.st_size;
}

static ssize_t fs_pread(void *arg, int fd, void *p, size_t n, int64_t off)
{
    size_t have = 0;
    while (have < n) {
        ssize_t k = kl_fault_point("raft.read")
                        ? (errno = EIO, -1)
                        : pread(fd, (char *)p + have, n - have, off + (int64_t)have);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -errno;
        if (k == 0)
            break;
        have += (size_t)k;
    }
    return (ssize_t)have;
}

static ssize_t fs_pwrite(void *arg, int fd, const void *p, size_t n, int64_t off)
{
    size_t done = 0;
    while (done < n) {
        ssize_t k = kl_fault_point("raft.write")
                        ? (errno = EIO, -1)
                        : pwrite(fd, (const char *)p + done, n - done, off + (int64_t)done);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? -errno : -EIO;
        done += (size_t)k;
    }
    return (ssize_t)done;
}

static int fs_allocate(void *arg, int fd, int64_t off, int64_t n)
{
    if (kl_fault_point("raft.allocate"))
        return -ENOSPC;
    int r;
    do
        r = posix_fallocate(fd, off, n); // an error number, not errno
    while (r == EINTR);
    return -r;
}

static int fs_truncate(void *arg, int fd, int64_t n)
{
    return ftruncate(fd, n) ? -errno : 0;
}

static int fs_sync(void *arg, int fd)
{
    if (kl_fault_point("raft.sync"))
        return -EIO;
    int64_t began = kl_mono_ns();
    int r = fdatasync(fd) ? -errno : 0;
    kl_store_metric_fsync(kl_mono_ns() - began);
    return r;
}

static int fs_sync_dir(void *arg, const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = kl_fault_point("raft.sync_dir") ? -EIO : fsync(fd) ? -errno : 0;
    close(fd);
    return r == -EINVAL ? 0 : r; // a file system that has no say in it
}

static int fs_rename(void *arg, const char *from, const char *to)
{
    return kl_fault_point("raft.rename") ? -EIO : rename(from, to) ? -errno : 0;
}

static int fs_unlink(void *arg, const char *path)
{
    return unlink(path) ? -errno : 0;
}

static int fs_list(void *arg, const char *dir, int (*name)(void *narg, const char *name),
                   void *narg)
{
    DIR *d = opendir(dir);
    if (!d)
        return -errno;
    int r = 0;
    for (struct dirent *e; !r && (e = readdir(d));)
        r = name(narg, e->d_name);
    closedir(d);
    return r;
}

static int no_sync(void *arg, int fd)
{
    return 0;
}

static int no_sync_dir(void *arg, const char *dir)
{
    return 0;
}

#define CALLS                                                                                      \
    .open = fs_open, .close = fs_close, .size = fs_size, .pread = fs_pread, .pwrite = fs_pwrite,   \
    .allocate = fs_allocate, .truncate = fs_truncate, .rename = fs_rename, .unlink = fs_unlink,    \
    .list = fs_list

const struct kl_raft_fs kl_raft_fs_disk = {CALLS, .sync = fs_sync, .sync_dir = fs_sync_dir};
const struct kl_raft_fs kl_raft_fs_unsafe = {CALLS, .sync = no_sync, .sync_dir = no_sync_dir};
