// SPDX-License-Identifier: Apache-2.0
#include "raft_fs.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512 };

static uint64_t next(struct rfs *d)
{
    d->seed ^= d->seed << 13;
    d->seed ^= d->seed >> 7;
    d->seed ^= d->seed << 17;
    return d->seed * 0x2545f4914f6cdd1dull;
}

static int call(struct rfs *d)
{
    d->calls++;
    d->dead = d->dead || d->calls == d->die_at;
    if (d->dead)
        return -EIO;
    if (d->fail_at && (d->calls == d->fail_at || (d->fail_all && d->calls > d->fail_at))) {
        d->failed++;
        return -EIO;
    }
    return 0;
}

static struct rfs_file *by_name(struct rfs *d, const char *name)
{
    for (int i = 0; i < d->nfiles; i++) {
        if (d->file[i]->name && strcmp(d->file[i]->name, name) == 0)
            return d->file[i];
    }
    return NULL;
}

static void set_size(unsigned char **p, size_t *n, size_t *cap, size_t want)
{
    if (want > *cap) {
        *p = realloc(*p, want);
        *cap = want;
    }
    if (want > *n)
        memset(*p + *n, 0, want - *n);
    *n = want;
}

static int fs_open(void *arg, const char *path, int flags)
{
    struct rfs *d = arg;
    struct rfs_file *f = by_name(d, path);
    int r = call(d);
    if (r)
        return r;
    if (!f && !(flags & O_CREAT))
        return -ENOENT;
    for (int i = 0; !f && i < d->nfiles; i++) { // one that is gone for good
        if (!d->file[i]->name && !d->file[i]->named && !d->file[i]->open) {
            f = d->file[i];
            f->name = strdup(path);
            f->n = f->durable_n = 0;
        }
    }
    if (!f) {
        if (d->nfiles == 256)
            return -ENFILE;
        f = calloc(1, sizeof(*f));
        f->name = strdup(path);
        d->file[d->nfiles++] = f;
    }
    for (int i = 0; i < d->nfiles; i++) {
        if (d->file[i] == f) {
            f->open++;
            return i;
        }
    }
    return -EIO;
}

static void fs_close(void *arg, int fd)
{
    ((struct rfs *)arg)->file[fd]->open--;
}

static int64_t fs_size(void *arg, int fd)
{
    return (int64_t)((struct rfs *)arg)->file[fd]->n;
}

static ssize_t fs_pread(void *arg, int fd, void *p, size_t n, int64_t off)
{
    struct rfs *d = arg;
    struct rfs_file *f = d->file[fd];
    int r = call(d);
    if (r || off >= (int64_t)f->n)
        return r;
    n = n < f->n - (size_t)off ? n : f->n - (size_t)off;
    memcpy(p, f->p + off, n);
    return (ssize_t)n;
}

static ssize_t fs_pwrite(void *arg, int fd, const void *p, size_t n, int64_t off)
{
    struct rfs *d = arg;
    struct rfs_file *f = d->file[fd];
    if (d->dead)
        return -EIO;
    int r = call(d);
    if (r) { // some of it may have reached the file
        n = next(d) % (n + 1);
    }
    if ((size_t)off + n > f->n)
        set_size(&f->p, &f->n, &f->cap, (size_t)off + n);
    if (n)
        memcpy(f->p + off, p, n);
    return r ? r : (ssize_t)n;
}

static int fs_allocate(void *arg, int fd, int64_t off, int64_t n)
{
    struct rfs *d = arg;
    struct rfs_file *f = d->file[fd];
    int r = call(d);
    if (r)
        return r;
    if ((size_t)(off + n) > f->n) {
        int64_t more = off + n - (int64_t)f->n;
        if (d->room >= 0 && more > d->room)
            return -ENOSPC;
        if (d->room >= 0)
            d->room -= more;
        set_size(&f->p, &f->n, &f->cap, (size_t)(off + n));
    }
    return 0;
}

static int fs_truncate(void *arg, int fd, int64_t n)
{
    struct rfs *d = arg;
    int r = call(d);
    if (!r)
        set_size(&d->file[fd]->p, &d->file[fd]->n, &d->file[fd]->cap, (size_t)n);
    return r;
}

static int fs_sync(void *arg, int fd)
{
    struct rfs *d = arg;
    struct rfs_file *f = d->file[fd];
    int r = call(d);
    if (r || d->lazy)
        return r;
    set_size(&f->durable, &f->durable_n, &f->durable_cap, f->n);
    memcpy(f->durable, f->p, f->n);
    return 0;
}

static int fs_sync_dir(void *arg, const char *dir)
{
    struct rfs *d = arg;
    int r = call(d);
    for (int i = 0; !r && i < d->nfiles; i++) {
        free(d->file[i]->named);
        d->file[i]->named = d->file[i]->name ? strdup(d->file[i]->name) : NULL;
    }
    return r;
}

static int fs_unlink(void *arg, const char *path)
{
    struct rfs *d = arg;
    struct rfs_file *f = by_name(d, path);
    int r = call(d);
    if (r || !f)
        return r ? r : -ENOENT;
    free(f->name);
    f->name = NULL;
    return 0;
}

static int fs_rename(void *arg, const char *from, const char *to)
{
    struct rfs *d = arg;
    struct rfs_file *f = by_name(d, from), *old = by_name(d, to);
    int r = call(d);
    if (r || !f)
        return r ? r : -ENOENT;
    if (old && old != f) {
        free(old->name);
        old->name = NULL;
    }
    free(f->name);
    f->name = strdup(to);
    return 0;
}

static int fs_list(void *arg, const char *dir, int (*name)(void *narg, const char *name),
                   void *narg)
{
    struct rfs *d = arg;
    int r = call(d);
    size_t n = strlen(dir);
    for (int i = 0; !r && i < d->nfiles; i++) {
        const char *z = d->file[i]->name;
        if (z && strncmp(z, dir, n) == 0 && z[n] == '/')
            r = name(narg, z + n + 1);
    }
    return r;
}

void rfs_init(struct rfs *d, uint64_t seed)
{
    memset(d, 0, sizeof(*d));
    d->seed = seed | 1;
    d->room = -1;
    d->fs = (struct kl_raft_fs){
        fs_open, fs_close,    fs_size,   fs_pread,  fs_pwrite, fs_allocate, fs_truncate,
        fs_sync, fs_sync_dir, fs_rename, fs_unlink, fs_list,   d,           0};
}

void rfs_fini(struct rfs *d)
{
    for (int i = 0; i < d->nfiles; i++) {
        free(d->file[i]->name);
        free(d->file[i]->named);
        free(d->file[i]->p);
        free(d->file[i]->durable);
        free(d->file[i]);
    }
    d->nfiles = 0;
}

// Each sector that was written and not synced is there or not; so is each name.
void rfs_power_cut(struct rfs *d)
{
    int kept = 0;
    for (int i = 0; i < d->nfiles; i++) {
        struct rfs_file *f = d->file[i];
        size_t n = next(d) & 1 ? f->n : f->durable_n;
        set_size(&f->durable, &f->durable_n, &f->durable_cap, n);
        for (size_t at = 0; at < n && at < f->n; at += SECTOR) {
            size_t k = n - at < SECTOR ? n - at : SECTOR;
            k = f->n - at < k ? f->n - at : k;
            if (memcmp(f->durable + at, f->p + at, k) != 0 && next(d) & 1)
                memcpy(f->durable + at, f->p + at, k);
        }
        // Names change together with what the directory's sync would write: all or none here.
        set_size(&f->p, &f->n, &f->cap, n);
        if (n)
            memcpy(f->p, f->durable, n);
        f->open = 0;
    }
    bool names = next(d) & 1;
    for (int i = 0; i < d->nfiles; i++) {
        struct rfs_file *f = d->file[i];
        char *name = names ? f->name : f->named;
        if (names) {
            free(f->named);
            f->named = name ? strdup(name) : NULL;
        } else {
            free(f->name);
            f->name = name ? strdup(name) : NULL;
        }
        if (f->name) {
            d->file[kept++] = f;
            continue;
        }
        free(f->named);
        free(f->p);
        free(f->durable);
        free(f);
    }
    d->nfiles = kept;
}

struct rfs_file *rfs_find(struct rfs *d, const char *name)
{
    for (int i = 0; i < d->nfiles; i++) {
        const char *z = d->file[i]->name;
        if (z && strlen(z) >= strlen(name) && strcmp(z + strlen(z) - strlen(name), name) == 0)
            return d->file[i];
    }
    return NULL;
}
