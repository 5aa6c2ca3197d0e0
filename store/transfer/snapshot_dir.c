// SPDX-License-Identifier: Apache-2.0
// Snapshots in a directory: named by what asked for them, the node and the time; the oldest go.
#include "store/transfer/snapshot.h"
#include "base/clock.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_dirs(const char *dir, struct kl_error *err)
{
    char path[4096];
    if (!*dir || strlen(dir) >= sizeof(path))
        return kl_error_set(err, KL_EINVALID, "a snapshot directory is needed");
    snprintf(path, sizeof(path), "%s", dir);
    for (char *p = path + 1; p;) {
        p = strchr(p, '/');
        if (p)
            *p = 0;
        if (mkdir(path, 0700) && errno != EEXIST)
            return kl_error_errno(err, errno, "snapshot directory %s", path);
        if (p)
            *p++ = '/';
    }
    return 0;
}

int kl_snapshot_save_from(struct kl_source *src, const char *dir, const char *name,
                          const char *node, struct kl_snapshot_info *ret, struct kl_error *err)
{
    char path[4096];
    if (!*name || strlen(name) + strlen(node) > KL_SNAPSHOT_NAME_MAX - 30 || strchr(name, '/') ||
        name[0] == '.')
        return kl_error_set(err, KL_EINVALID, "snapshot name %s: cannot be used for a file", name);
    int r = make_dirs(dir, err);
    if (r)
        return r;
    int64_t seconds = kl_wall_ms() / 1000;
    do // two of them in one second
        snprintf(path, sizeof(path), "%s/%s-%s-%lld" KL_SNAPSHOT_SUFFIX, dir, name, node,
                 (long long)seconds++);
    while (!access(path, F_OK));
    return kl_snapshot_write(path, src, ret, err);
}

int kl_snapshot_save(struct kl_store *s, const char *dir, const char *name, const char *node,
                     struct kl_snapshot_info *ret, struct kl_error *err)
{
    struct kl_source *src;
    int r = kl_store_source_new(s, &(struct kl_source_from){0}, &src, err);
    if (r)
        return r;
    r = kl_snapshot_save_from(src, dir, name, node, ret, err);
    src->close(src);
    return r;
}

static int newest_first(const void *x, const void *y)
{
    const struct kl_snapshot_info *a = x, *b = y;
    if (a->wall_ms != b->wall_ms)
        return a->wall_ms > b->wall_ms ? -1 : 1;
    return strcmp(b->name, a->name);
}

static bool is_snapshot(const char *name)
{
    struct kl_str s = kl_str(name);
    return s.n <= KL_SNAPSHOT_NAME_MAX && kl_str_ends(s, KL_STR(KL_SNAPSHOT_SUFFIX));
}

int kl_snapshot_list(const char *dir, struct kl_snapshot_info **ret, size_t *ret_n,
                     struct kl_error *err)
{
    struct kl_snapshot_info *all = NULL;
    size_t n = 0, cap = 0;
    DIR *d = opendir(dir);
    if (!d && errno != ENOENT)
        return kl_error_errno(err, errno, "snapshot directory %s", dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!is_snapshot(e->d_name))
            continue;
        if (n == cap) {
            cap = cap ? 2 * cap : 16;
            struct kl_snapshot_info *p = realloc(all, cap * sizeof(*p));
            if (!p) {
                free(all);
                closedir(d);
                return kl_error_set(err, KL_ENOMEM, "out of memory");
            }
            all = p;
        }
        char path[4096];
        struct stat st;
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (kl_snapshot_peek(path, &all[n], NULL)) {
            all[n] = (struct kl_snapshot_info){.damaged = true};
            snprintf(all[n].name, sizeof(all[n].name), "%.200s", e->d_name);
            if (!stat(path, &st)) {
                all[n].bytes = st.st_size;
                all[n].wall_ms = (int64_t)st.st_mtime * 1000;
            }
        }
        n++;
    }
    if (d)
        closedir(d);
    if (n)
        qsort(all, n, sizeof(*all), newest_first);
    *ret = all;
    *ret_n = n;
    return 0;
}

static void remove_unfinished(const char *dir)
{
    DIR *d = opendir(dir);
    int64_t now = kl_wall_ms() / 1000;
    for (struct dirent *e; d && (e = readdir(d));) {
        struct stat st;
        if (kl_str_ends(kl_str(e->d_name), KL_STR(KL_SNAPSHOT_SUFFIX ".tmp")) &&
            !fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) && st.st_mtime + 3600 < now)
            unlinkat(dirfd(d), e->d_name, 0); // nobody has written to it for an hour
    }
    if (d)
        closedir(d);
}

int kl_snapshot_prune(const char *dir, const char *name, int keep, int *ret_n, struct kl_error *err)
{
    struct kl_snapshot_info *all;
    size_t n;
    char prefix[KL_SNAPSHOT_NAME_MAX + 2];
    int r = kl_snapshot_list(dir, &all, &n, err), kept = 0;
    *ret_n = 0;
    if (r)
        return r;
    snprintf(prefix, sizeof(prefix), "%.200s-", name);
    for (size_t i = 0; i < n && !r; i++) {
        char path[4096];
        // A damaged one takes nobody's place, and stays for whoever wants to look at it.
        if (!kl_str_starts(kl_str(all[i].name), kl_str(prefix)) || all[i].damaged || kept++ < keep)
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, all[i].name);
        if (unlink(path))
            r = kl_error_errno(err, errno, "snapshot %s", path);
        else
            ++*ret_n;
    }
    free(all);
    remove_unfinished(dir);
    return r;
}
