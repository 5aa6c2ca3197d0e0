// SPDX-License-Identifier: Apache-2.0
#include "kubelet/atomic_writer.h"
#include "base/rand.h"
#include "kubelet/fsutil.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static bool good_path(struct kl_str path)
{
    struct kl_str rest = path, part;
    if (!path.n || path.n > 512 || path.p[0] == '/' || memchr(path.p, 0, path.n))
        return false;
    bool first = true;
    while (kl_str_split(&rest, '/', &part)) {
        if (kl_str_eqz(part, "..") || (first && kl_str_starts(part, KL_STR(".."))))
            return false;
        first = false;
    }
    return true;
}

static struct kl_str top_of(struct kl_str path)
{
    ptrdiff_t slash = kl_str_chr(path, '/');
    return slash < 0 ? path : (struct kl_str){path.p, (size_t)slash};
}

// Whether ..data holds exactly these files.
static int count_files(const char *dir, int depth)
{
    DIR *d = depth < 32 ? opendir(dir) : NULL;
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        struct kl_path p;
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
            !kl_path_set(&p, "%s/%s", dir, e->d_name) || lstat(p.s, &st))
            continue;
        n += S_ISDIR(st.st_mode) ? count_files(p.s, depth + 1) : 1;
    }
    if (d)
        closedir(d);
    return n;
}

static bool same_file(const char *path, const struct kl_atomic_file *f)
{
    struct stat st;
    if (lstat(path, &st) || !S_ISREG(st.st_mode) || (size_t)st.st_size != f->data.n)
        return false;
    struct kl_buf b;
    kl_buf_init(&b, f->data.n + 4097);
    bool same = !kl_fs_read(path, &b, NULL) && kl_str_eq(kl_buf_str(&b), f->data);
    kl_buf_fini(&b);
    return same;
}

static bool is_current(const char *dir, const struct kl_atomic_file *files, size_t n)
{
    struct kl_path data, p;
    if (!kl_path_set(&data, "%s/..data", dir) || !kl_fs_exists(data.s) ||
        (size_t)count_files(data.s, 0) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!kl_path_set(&p, "%s/%.*s", data.s, KL_PRI(files[i].path)) ||
            !same_file(p.s, &files[i]))
            return false;
    return true;
}

static int write_one(const char *dir, const struct kl_atomic_file *f, gid_t gid,
                     struct kl_error *err)
{
    struct kl_path p;
    if (!kl_path_set(&p, "%s/%.*s", dir, KL_PRI(f->path)))
        return kl_error_set(err, KL_ELIMIT, "path too long: %.*s", KL_PRI(f->path));
    char *slash = strrchr(p.s, '/');
    *slash = 0;
    int r = kl_fs_mkdirs(p.s, 0755, err);
    *slash = '/';
    if (r || (r = kl_fs_write_in_place(p.s, f->data, f->mode, err)))
        return r;
    if (gid != (gid_t)-1 && (lchown(p.s, (uid_t)-1, gid) || chmod(p.s, f->mode | 0440)))
        return kl_error_errno(err, errno, "chown %s", p.s);
    return 0;
}

static int make_stamp(const char *dir, char *stamp, size_t n, struct kl_error *err)
{
    struct timespec ts;
    struct tm tm;
    char date[32];
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    strftime(date, sizeof(date), "%Y_%m_%d_%H_%M_%S", &tm);
    snprintf(stamp, n, "..%s.%u", date, (unsigned)(kl_rand_u64() % 4000000000u));
    struct kl_path p;
    kl_path_set(&p, "%s/%s", dir, stamp);
    if (mkdir(p.s, 0755) || chmod(p.s, 0755))
        return kl_error_errno(err, errno, "mkdir %s", p.s);
    return 0;
}

// Visible names that no file has any more, and directories of earlier writes.
static void sweep(const char *dir, const char *stamp, const struct kl_atomic_file *files, size_t n)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        struct kl_str name = kl_str(e->d_name);
        struct kl_path p;
        if (kl_str_eqz(name, ".") || kl_str_eqz(name, "..") || kl_str_eqz(name, "..data") ||
            kl_str_eqz(name, stamp) || !kl_path_set(&p, "%s/%s", dir, e->d_name))
            continue;
        bool wanted = false;
        for (size_t i = 0; i < n && !wanted; i++)
            wanted = kl_str_eq(top_of(files[i].path), name);
        if (!wanted)
            kl_fs_remove_tree(p.s, NULL);
    }
    if (d)
        closedir(d);
}

int kl_atomic_write(const char *dir, const struct kl_atomic_file *files, size_t n, gid_t gid,
                    bool *ret_changed, struct kl_error *err)
{
    char stamp[80];
    struct kl_path stamp_dir, tmp, data, link, target;
    if (ret_changed)
        *ret_changed = false;
    for (size_t i = 0; i < n; i++)
        if (!good_path(files[i].path))
            return kl_error_set(err, KL_EINVALID, "invalid path: %.*s", KL_PRI(files[i].path));
    if (is_current(dir, files, n))
        return 0;
    int r = make_stamp(dir, stamp, sizeof(stamp), err);
    if (r)
        return r;
    kl_path_set(&stamp_dir, "%s/%s", dir, stamp);
    kl_path_set(&tmp, "%s/..data_tmp", dir);
    kl_path_set(&data, "%s/..data", dir);
    for (size_t i = 0; !r && i < n; i++)
        r = write_one(stamp_dir.s, &files[i], gid, err);
    if (!r) {
        unlink(tmp.s);
        if (symlink(stamp, tmp.s) || rename(tmp.s, data.s))
            r = kl_error_errno(err, errno, "link %s", data.s);
    }
    if (r) {
        kl_fs_remove_tree(stamp_dir.s, NULL);
        return r;
    }
    for (size_t i = 0; !r && i < n; i++) {
        struct kl_str top = top_of(files[i].path);
        if (!kl_path_set(&link, "%s/%.*s", dir, KL_PRI(top)) ||
            !kl_path_set(&target, "..data/%.*s", KL_PRI(top)))
            r = kl_error_set(err, KL_ELIMIT, "path too long");
        else if (symlink(target.s, link.s) && errno != EEXIST)
            r = kl_error_errno(err, errno, "link %s", link.s);
    }
    sweep(dir, stamp, files, n);
    if (ret_changed)
        *ret_changed = true;
    return r;
}
