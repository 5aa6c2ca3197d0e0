// SPDX-License-Identifier: Apache-2.0
#include "kubelet/fsutil.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

bool kl_path_set(struct kl_path *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(p->s, sizeof(p->s), fmt, ap);
    va_end(ap);
    return n >= 0 && (size_t)n < sizeof(p->s);
}

int kl_fs_mkdirs(const char *path, mode_t mode, struct kl_error *err)
{
    struct kl_path p;
    if (!kl_path_set(&p, "%s", path))
        return kl_error_set(err, KL_ELIMIT, "path too long: %.80s...", path);
    for (char *s = p.s + 1;; s++) {
        if (*s && *s != '/')
            continue;
        char c = *s;
        *s = 0;
        if (mkdir(p.s, mode) && errno != EEXIST)
            return kl_error_errno(err, errno, "mkdir %s", p.s);
        *s = c;
        if (!c)
            return 0;
    }
}

int kl_fs_read(const char *path, struct kl_buf *out, struct kl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return kl_error_errno(err, errno, "open %s", path);
    ssize_t n;
    int e = 0;
    do {
        char chunk[4096];
        n = read(fd, chunk, sizeof(chunk));
        e = errno;
        if (n > 0)
            kl_buf_append(out, chunk, (size_t)n);
    } while (n > 0 && !out->err);
    close(fd);
    if (out->err)
        return kl_error_set(err, out->err, "read %s: %s", path, kl_err_text(out->err));
    return n < 0 ? kl_error_errno(err, e, "read %s", path) : 0;
}

static int write_all(int fd, struct kl_str data)
{
    while (data.n) {
        ssize_t n = write(fd, data.p, data.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data = kl_str_from(data, (size_t)n);
    }
    return 0;
}

int kl_fs_write_atomic(const char *path, struct kl_str data, mode_t mode, struct kl_error *err)
{
    struct kl_path tmp;
    if (!kl_path_set(&tmp, "%s.%d.tmp", path, (int)gettid()))
        return kl_error_set(err, KL_ELIMIT, "path too long: %.80s...", path);
    int fd = open(tmp.s, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return kl_error_errno(err, errno, "create %s", tmp.s);
    int bad = write_all(fd, data) || fchmod(fd, mode);
    int e = errno;
    close(fd);
    if (!bad && rename(tmp.s, path) == 0)
        return 0;
    if (!bad)
        e = errno;
    unlink(tmp.s);
    return kl_error_errno(err, e, "write %s", path);
}

int kl_fs_write_in_place(const char *path, struct kl_str data, mode_t mode, struct kl_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return kl_error_errno(err, errno, "create %s", path);
    int bad = write_all(fd, data) || fchmod(fd, mode);
    int e = errno;
    close(fd);
    return bad ? kl_error_errno(err, e, "write %s", path) : 0;
}

bool kl_fs_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

enum { MAX_DEPTH = 64, MAX_ROUNDS = 100000 };

// A removal: a directory that lies too deep is moved up to the top and taken in a later round, so
// that a tree of any depth needs few descriptors and little stack.
struct removal {
    int top; // -1: not open yet
    dev_t dev;
    unsigned moved;
};

static int remove_at(struct removal *rm, int dirfd, const char *name, int depth)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return errno;
    if (depth > MAX_DEPTH) {
        char up[32];
        snprintf(up, sizeof(up), ".kinglet-%d-%u", (int)gettid(), rm->moved++);
        return renameat(dirfd, name, rm->top, up) && errno != ENOENT ? errno : 0;
    }
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : errno;
    struct stat st;
    if (fstat(fd, &st) || st.st_dev != rm->dev) {
        close(fd);
        return EBUSY; // a mount point: its content is not ours
    }
    if (depth == 0)
        rm->top = fd;
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return ENOMEM;
    }
    int first = 0;
    unsigned before;
    do {
        before = rm->moved;
        for (struct dirent *e; (e = readdir(d));) {
            if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
                continue;
            int r = remove_at(rm, fd, e->d_name, depth + 1);
            if (r && !first)
                first = r;
        }
        rewinddir(d);
    } while (depth == 0 && rm->moved != before && rm->moved < MAX_ROUNDS);
    closedir(d);
    if (unlinkat(dirfd, name, AT_REMOVEDIR) && errno != ENOENT && !first)
        first = errno;
    return first;
}

int kl_fs_remove_tree(const char *path, struct kl_error *err)
{
    struct stat st;
    if (lstat(path, &st))
        return errno == ENOENT || errno == ENOTDIR ? 0
                                                   : kl_error_errno(err, errno, "stat %s", path);
    struct removal rm = {-1, st.st_dev, 0};
    int e = remove_at(&rm, AT_FDCWD, path, 0);
    return e ? kl_error_errno(err, e, "remove %s", path) : 0;
}

// Mount points of this process below `path` (or it), in the order of /proc/self/mountinfo. Octal
// escapes are undone. Calls back until it returns non-zero.
static int each_mount_below(const char *path, int (*cb)(const char *point, void *arg), void *arg)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (!f)
        return 0;
    char *line = NULL;
    size_t cap = 0, plen = strlen(path);
    int r = 0;
    while (!r && getline(&line, &cap, f) > 0) {
        char *save, *word = strtok_r(line, " ", &save);
        for (int i = 0; i < 4 && word; i++)
            word = strtok_r(NULL, " ", &save);
        if (!word)
            continue;
        char *out = word;
        for (char *in = word; *in; out++) {
            if (in[0] == '\\' && in[1] && in[2] && in[3]) {
                *out = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
                in += 4;
            } else {
                *out = *in++;
            }
        }
        *out = 0;
        if (!strncmp(word, path, plen) && (word[plen] == 0 || word[plen] == '/'))
            r = cb(word, arg);
    }
    free(line);
    fclose(f);
    return r;
}

static int is_same(const char *point, void *arg)
{
    return strcmp(point, arg) == 0;
}

bool kl_fs_is_mount_point(const char *path)
{
    return each_mount_below(path, is_same, (void *)(uintptr_t)path) != 0;
}

static int keep_last(const char *point, void *arg)
{
    kl_path_set(arg, "%s", point);
    return 0;
}

int kl_fs_unmount_below(const char *path, struct kl_error *err)
{
    // The newest mount is the last line: taking that one away first is always right.
    for (int i = 0; i < 10000; i++) {
        struct kl_path last = {""};
        each_mount_below(path, keep_last, &last);
        if (!last.s[0])
            return 0;
        if (umount2(last.s, UMOUNT_NOFOLLOW) && umount2(last.s, UMOUNT_NOFOLLOW | MNT_DETACH))
            return kl_error_errno(err, errno, "unmount %s", last.s);
    }
    return kl_error_set(err, KL_ELIMIT, "too many mounts below %s", path);
}
