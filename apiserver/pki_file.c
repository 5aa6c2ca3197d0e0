// SPDX-License-Identifier: Apache-2.0
#include "apiserver/pki_int.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

void kl_file_batch_init(struct kl_file_batch *b, struct kl_arena *a)
{
    b->arena = a;
    b->n = 0;
}

static int write_all(int fd, struct kl_str s)
{
    while (s.n) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        s = kl_str_from(s, (size_t)n);
    }
    return 0;
}

int kl_file_batch_add(struct kl_file_batch *b, const char *path, struct kl_str text,
                      struct kl_error *err)
{
    if (b->n == KL_PKI_MAX_FILES)
        return kl_error_set(err, KL_ELIMIT, "%s: too many files at once", path);
    struct kl_str tmp = kl_arena_printf(b->arena, "%s.tmp", path);
    if (!tmp.p)
        return kl_error_set(err, KL_ENOMEM, "%s: out of memory", path);
    unlink(tmp.p);
    int fd = open(tmp.p, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return kl_error_errno(err, errno, "open %s", tmp.p);
    if (write_all(fd, text)) {
        int e = errno;
        close(fd);
        unlink(tmp.p);
        return kl_error_errno(err, e, "write %s", tmp.p);
    }
    b->file[b->n].path = path;
    b->file[b->n].tmp = tmp.p;
    b->file[b->n++].fd = fd;
    return 0;
}

static int sync_dir_of(const char *path, struct kl_error *err)
{
    char dir[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof dir)
        return kl_error_set(err, KL_EINVALID, "%s: name too long", path);
    memcpy(dir, n ? path : slash ? "/" : ".", n ? n : 1);
    dir[n ? n : 1] = 0;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return kl_error_errno(err, errno, "open %s", dir);
    // Some file systems have no fsync of directories.
    int rc = fsync(fd) && errno != EINVAL ? kl_error_errno(err, errno, "fsync %s", dir) : 0;
    close(fd);
    return rc;
}

static bool same_dir(const char *a, const char *b)
{
    const char *sa = strrchr(a, '/'), *sb = strrchr(b, '/');
    size_t na = sa ? (size_t)(sa - a) : 0, nb = sb ? (size_t)(sb - b) : 0;
    return na == nb && memcmp(a, b, na) == 0;
}

int kl_file_batch_commit(struct kl_file_batch *b, struct kl_error *err)
{
    int rc = 0;
    // All start on their way to the disk before any is waited for.
    for (int i = 0; i < b->n; i++)
        sync_file_range(b->file[i].fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    for (int i = 0; i < b->n && !rc; i++)
        if (fsync(b->file[i].fd))
            rc = kl_error_errno(err, errno, "fsync %s", b->file[i].tmp);
    int done = 0;
    for (; done < b->n && !rc; done++)
        if (rename(b->file[done].tmp, b->file[done].path))
            rc = kl_error_errno(err, errno, "rename %s", b->file[done].path);
    for (int i = 0; i < b->n && !rc; i++)
        if (!i || !same_dir(b->file[i].path, b->file[i - 1].path))
            rc = sync_dir_of(b->file[i].path, err);
    kl_file_batch_drop(b);
    return rc;
}

void kl_file_batch_drop(struct kl_file_batch *b)
{
    for (int i = 0; i < b->n; i++) {
        close(b->file[i].fd);
        unlink(b->file[i].tmp); // gone already when it was renamed
    }
    b->n = 0;
}

int kl_file_read(struct kl_arena *a, const char *path, struct kl_str *ret, struct kl_error *err)
{
    *ret = (struct kl_str){NULL, 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return kl_error_errno(err, errno, "open %s", path);
    struct stat st;
    int rc = 0;
    if (fstat(fd, &st)) {
        rc = kl_error_errno(err, errno, "stat %s", path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = kl_error_set(err, KL_EINVALID, "%s is not a regular file", path);
    } else if ((size_t)st.st_size > KL_PKI_MAX_FILE_BYTES) {
        rc = kl_error_set(err, KL_ETOOLARGE, "%s is larger than %zu bytes", path,
                          KL_PKI_MAX_FILE_BYTES);
    } else if (st.st_size) {
        char *p = kl_arena_alloc(a, (size_t)st.st_size + 1);
        size_t n = 0;
        ssize_t got = 0;
        while (p && n < (size_t)st.st_size && (got = read(fd, p + n, (size_t)st.st_size - n)) != 0)
            if (got > 0)
                n += (size_t)got;
            else if (errno != EINTR)
                break;
        if (!p) {
            rc = kl_error_set(err, KL_ENOMEM, "%s: out of memory", path);
        } else if (got < 0) {
            rc = kl_error_errno(err, errno, "read %s", path);
        } else if (n) {
            p[n] = 0;
            *ret = (struct kl_str){p, n};
        }
    }
    close(fd);
    return rc;
}

int kl_file_make_dirs(const char *path, unsigned mode, struct kl_error *err)
{
    char p[4096];
    size_t n = strlen(path);
    if (n >= sizeof p)
        return kl_error_set(err, KL_EINVALID, "%s: name too long", path);
    memcpy(p, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (p[i] != '/' && p[i])
            continue;
        char was = p[i];
        p[i] = 0;
        if (mkdir(p, mode) && errno != EEXIST)
            return kl_error_errno(err, errno, "mkdir %s", p);
        p[i] = was;
    }
    return 0;
}
