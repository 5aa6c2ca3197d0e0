// SPDX-License-Identifier: Apache-2.0
#include "store/spill.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SPARSE_SHARE = 2 }; // live bytes below a half

struct segment {
    struct kl_spill *spill;
    struct segment *next, **pprev; // of all that are mapped
    char *map;
    off_t at;
    size_t size, used;
    atomic_llong live; // bytes of values
    atomic_uint refs;  // values, and the writer while it is open
    atomic_bool sealed;
};

struct kl_spill {
    int fd;
    atomic_uint refs; // the writer, and segments
    struct segment *open;
    pthread_mutex_t mu; // what follows
    struct segment *all;
    off_t *free_at; // places of segments that are gone
    size_t nfree, cap_free;
    off_t end;
    atomic_llong live, file;
};

static int open_unnamed(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/.values.XXXXXX", dir) >= (int)sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

int kl_spill_new(const char *dir, struct kl_spill **ret, struct kl_error *err)
{
    struct kl_spill *s = calloc(1, sizeof(*s));
    if (!s)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    s->fd = open_unnamed(dir);
    if (s->fd < 0) {
        int e = errno;
        free(s);
        return kl_error_set(err, KL_EIO, "no file for values can be made in %s: %s", dir,
                            strerror(e));
    }
    atomic_init(&s->refs, 1);
    pthread_mutex_init(&s->mu, NULL);
    *ret = s;
    return 0;
}

static void drop_spill(struct kl_spill *s)
{
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    close(s->fd);
    pthread_mutex_destroy(&s->mu);
    free(s->free_at);
    free(s);
}

// The place is used again, and the disk has it back until then.
static void give_back(struct kl_spill *s, off_t at, size_t size)
{
    fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, (off_t)size);
    atomic_fetch_sub_explicit(&s->file, (long long)size, memory_order_relaxed);
    if (size != KL_SPILL_SEGMENT)
        return;
    if (s->nfree == s->cap_free) {
        size_t cap = s->cap_free ? s->cap_free * 2 : 16;
        off_t *p = realloc(s->free_at, cap * sizeof(*p));
        if (!p)
            return; // the file has a hole
        s->free_at = p;
        s->cap_free = cap;
    }
    s->free_at[s->nfree++] = at;
}

static void drop_segment(struct segment *g)
{
    struct kl_spill *s = g->spill;
    if (atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_lock(&s->mu);
    *g->pprev = g->next;
    if (g->next)
        g->next->pprev = g->pprev;
    pthread_mutex_unlock(&s->mu);
    munmap(g->map, g->size); // kl_spill_rest does not see it any more
    pthread_mutex_lock(&s->mu);
    give_back(s, g->at, g->size);
    pthread_mutex_unlock(&s->mu);
    free(g);
    drop_spill(s);
}

static void release_value(void *owner, size_t n)
{
    struct segment *g = owner;
    atomic_fetch_sub_explicit(&g->live, (long long)n, memory_order_relaxed);
    atomic_fetch_sub_explicit(&g->spill->live, (long long)n, memory_order_relaxed);
    drop_segment(g);
}

static off_t take_place(struct kl_spill *s, size_t size)
{
    if (size == KL_SPILL_SEGMENT && s->nfree)
        return s->free_at[--s->nfree];
    off_t at = s->end;
    s->end += (off_t)size;
    return at;
}

// Room is taken on the disk at once: a map of what is not there would kill its reader.
static int reserve(int fd, off_t at, size_t size)
{
    int r = posix_fallocate(fd, at, (off_t)size);
    return r == ENOSPC || r == EDQUOT ? KL_ENOSPC : r ? KL_EIO : 0;
}

static int new_segment(struct kl_spill *s, size_t want, struct kl_error *err)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = want <= KL_SPILL_SEGMENT ? KL_SPILL_SEGMENT : (want + page - 1) / page * page;
    struct segment *g = calloc(1, sizeof(*g));
    if (!g)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    pthread_mutex_lock(&s->mu);
    off_t at = take_place(s, size);
    pthread_mutex_unlock(&s->mu);
    int r = reserve(s->fd, at, size);
    if (!r) {
        g->map = mmap(NULL, size, PROT_READ, MAP_SHARED, s->fd, at);
        r = g->map == MAP_FAILED ? KL_ENOMEM : 0;
    }
    pthread_mutex_lock(&s->mu);
    atomic_fetch_add_explicit(&s->file, (long long)size, memory_order_relaxed);
    if (r)
        give_back(s, at, size);
    else if ((g->next = s->all))
        g->next->pprev = &g->next;
    if (!r) {
        g->pprev = &s->all;
        s->all = g;
    }
    pthread_mutex_unlock(&s->mu);
    if (r) {
        free(g);
        return kl_error_set(err, r, "the file for values cannot grow: %s",
                            r == KL_ENOSPC ? "no space left on device" : kl_err_text(r));
    }
    g->spill = s;
    g->at = at;
    g->size = size;
    atomic_init(&g->refs, 1);
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    s->open = g;
    return 0;
}

static void seal(struct kl_spill *s)
{
    struct segment *g = s->open;
    s->open = NULL;
    if (!g)
        return;
    atomic_store_explicit(&g->sealed, true, memory_order_relaxed);
    drop_segment(g);
}

static int write_all(int fd, struct iovec *v, int n, off_t at)
{
    while (n) {
        ssize_t w = pwritev(fd, v, n, at);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return errno == ENOSPC || errno == EDQUOT ? KL_ENOSPC : KL_EIO;
        at += w;
        for (; n && (size_t)w >= v->iov_len; v++, n--)
            w -= (ssize_t)v->iov_len;
        if (n) {
            v->iov_base = (char *)v->iov_base + w;
            v->iov_len -= (size_t)w;
        }
    }
    return 0;
}

// As many of the first ones as the open segment takes; how many.
static int put_some(struct kl_spill *s, const struct kl_str *values, size_t n,
                    struct kl_bytes **ret, struct kl_error *err)
{
    struct iovec iov[256];
    struct segment *g = s->open;
    size_t used = g->used, k = 0, made = 0;
    int cnt = 0;
    for (; k < n && cnt < (int)KL_COUNT(iov) && values[k].n <= g->size - used; k++) {
        if (values[k].n)
            iov[cnt++] = (struct iovec){(void *)values[k].p, values[k].n};
        used += values[k].n;
    }
    int r = write_all(s->fd, iov, cnt, g->at + (off_t)g->used);
    if (r)
        return kl_error_set(err, r, "values cannot be written to their file: %s", kl_err_text(r));
    for (size_t at = g->used; made < k; at += values[made].n, made++) {
        atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&g->live, (long long)values[made].n, memory_order_relaxed);
        atomic_fetch_add_explicit(&s->live, (long long)values[made].n, memory_order_relaxed);
        ret[made] = kl_bytes_outside(g->map + at, values[made].n, release_value, g);
        if (ret[made])
            continue;
        release_value(g, values[made].n);
        while (made)
            kl_bytes_unref(ret[--made]);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    g->used = used;
    return (int)k;
}

int kl_spill_put(struct kl_spill *s, const struct kl_str *values, size_t n, struct kl_bytes **ret,
                 struct kl_error *err)
{
    for (size_t done = 0; done < n;) {
        int r = 0;
        if (!s->open || s->open->size - s->open->used < values[done].n) {
            seal(s);
            r = new_segment(s, values[done].n, err);
        }
        if (!r)
            r = put_some(s, values + done, n - done, ret + done, err);
        if (r < 0) {
            while (done)
                kl_bytes_unref(ret[--done]);
            return r;
        }
        done += (size_t)r;
    }
    return 0;
}

void kl_spill_unref(struct kl_spill *s)
{
    if (!s)
        return;
    seal(s);
    drop_spill(s);
}

bool kl_spill_is_sparse(const struct kl_bytes *b)
{
    const struct segment *g = kl_bytes_owner(b);
    return g && atomic_load_explicit(&g->sealed, memory_order_relaxed) &&
           atomic_load_explicit(&g->live, memory_order_relaxed) < (long long)g->size / SPARSE_SHARE;
}

void kl_spill_rest(struct kl_spill *s)
{
    pthread_mutex_lock(&s->mu);
    for (struct segment *g = s->all; g; g = g->next)
        madvise(g->map, g->size, MADV_DONTNEED);
    pthread_mutex_unlock(&s->mu);
}

int64_t kl_spill_live_bytes(const struct kl_spill *s)
{
    return atomic_load_explicit(&((struct kl_spill *)s)->live, memory_order_relaxed);
}

int64_t kl_spill_file_bytes(const struct kl_spill *s)
{
    return atomic_load_explicit(&((struct kl_spill *)s)->file, memory_order_relaxed);
}
