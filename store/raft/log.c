// SPDX-License-Identifier: Apache-2.0
// Writing: metadata, records, truncation, manifests.
#include "store/raft/log_int.h"
#include "store/raft/coding.h"
#include "store/raft/sum.h"
#include "base/fault.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static int log_error(const struct kl_raft_log *l, int r, struct kl_error *err, const char *what)
{
    return kl_error_errno(err, -r, "raft log %s: %s", l->dir, what);
}

int kl_raft_log_fail(struct kl_raft_log *l, int r, struct kl_error *err, const char *what)
{
    l->failed = true; // what is on the disk is not known any more
    return log_error(l, r, err, what);
}

int kl_raft_log_path(const struct kl_raft_log *l, char *ret, size_t n, const char *fmt, ...)
{
    int k = snprintf(ret, n, "%s/", l->dir);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(ret + k, n - (size_t)k, fmt, ap);
    va_end(ap);
    return k;
}

// ---- metadata ----

static int write_meta(struct kl_raft_log *l, int slot, const uint8_t *p, size_t n)
{
    char path[4096];
    kl_raft_log_path(l, path, sizeof(path), "meta-%d", slot);
    int fd = l->fs->open(l->fs->arg, path, O_RDWR | O_CREAT);
    if (fd < 0)
        return fd;
    kl_fault_crash("raft.meta.write");
    ssize_t k = l->fs->pwrite(l->fs->arg, fd, p, n, 0);
    kl_fault_crash("raft.meta.sync");
    int r = k < 0 ? (int)k : l->fs->sync(l->fs->arg, fd);
    l->fs->close(l->fs->arg, fd);
    kl_fault_crash("raft.meta.synced");
    return r;
}

// Both files, one after the other: the power may tear one of them, and a byte of either may rot,
// without a vote being forgotten.
int kl_raft_log_set_meta(struct kl_raft_log *l, const struct kl_raft_meta *m, struct kl_error *err)
{
    uint8_t p[64] = "KLRFMETA";
    uint64_t counter = l->meta_counter + 1;
    kl_put_u32(p + 8, KL_RAFT_LOG_FORMAT);
    kl_put_u32(p + 12, m->muted);
    kl_put_u64(p + 16, counter);
    kl_put_u64(p + 24, m->term);
    kl_put_u64(p + 32, m->vote);
    kl_put_u64(p + 40, m->server_id);
    kl_put_u32(p + 60, kl_crc32c(0, p, 60));
    int r = write_meta(l, counter & 1 ? 1 : 2, p, sizeof(p));
    if (!r)
        r = write_meta(l, counter & 1 ? 2 : 1, p, sizeof(p));
    if (!r && counter <= 2) // the files' names
        r = l->fs->sync_dir(l->fs->arg, l->dir);
    if (r)
        return log_error(l, r, err, "term and vote");
    l->meta_counter = counter;
    l->meta = *m;
    return 0;
}

// ---- segments ----

int kl_raft_log_add_segment(struct kl_raft_log *l, struct kl_raft_segment s)
{
    if (l->nseg == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        struct kl_raft_segment *p = realloc(l->seg, cap * sizeof(*p));
        if (!p)
            return KL_ENOMEM;
        l->seg = p;
        l->cap = cap;
    }
    l->seg[l->nseg++] = s;
    atomic_fetch_add_explicit(&l->bytes, s.size, memory_order_relaxed);
    return 0;
}

static void segment_path(const struct kl_raft_log *l, char *ret, size_t n, uint64_t seq)
{
    kl_raft_log_path(l, ret, n, "log-%020llu", (unsigned long long)seq);
}

static int64_t segment_bytes(const struct kl_raft_log *l)
{
    return l->fs->segment_bytes ? l->fs->segment_bytes : KL_RAFT_SEGMENT_BYTES;
}

// The segment after this one, before it is needed: a full disk is known early, and what is written
// later has its blocks.
static void make_spare(struct kl_raft_log *l)
{
    char path[4096];
    if (l->has_spare)
        return;
    kl_raft_log_path(l, path, sizeof(path), "log-spare");
    int fd = l->fs->open(l->fs->arg, path, O_RDWR | O_CREAT), r = fd < 0 ? fd : 0;
    if (!r) {
        kl_fault_crash("raft.spare");
        r = l->fs->allocate(l->fs->arg, fd, 0, segment_bytes(l));
        l->fs->close(l->fs->arg, fd);
    }
    if (r && fd >= 0)
        l->fs->unlink(l->fs->arg, path);
    l->has_spare = !r;
    atomic_store_explicit(&l->low, r == -ENOSPC || r == -EDQUOT, memory_order_relaxed);
}

static int write_head(struct kl_raft_log *l, int fd, uint64_t seq, uint64_t first)
{
    uint8_t p[KL_RAFT_HEAD_BYTES] = "KLRFTLOG";
    kl_put_u32(p + 8, KL_RAFT_LOG_FORMAT);
    kl_put_u32(p + 12, KL_RAFT_LOG_FORMAT); // what a reader must know
    kl_put_u64(p + 16, seq);
    kl_put_u64(p + 24, first);
    kl_put_u32(p + 60, kl_crc32c(0, p, 60));
    kl_fault_crash("raft.segment.head");
    ssize_t k = l->fs->pwrite(l->fs->arg, fd, p, sizeof(p), 0);
    return k < 0 ? (int)k : l->fs->sync(l->fs->arg, fd);
}

// The last segment is whole and durable; a new one begins with `first`.
static int begin_segment(struct kl_raft_log *l, uint64_t first, int64_t need, struct kl_error *err)
{
    char path[4096], spare[4096];
    bool big = need > segment_bytes(l);
    if (!big)
        make_spare(l);
    segment_path(l, path, sizeof(path), l->next_seq);
    kl_raft_log_path(l, spare, sizeof(spare), "log-spare");
    const char *name = !big && l->has_spare ? spare : path;
    int fd = l->fs->open(l->fs->arg, name, O_RDWR | O_CREAT);
    if (fd < 0)
        return kl_raft_log_fail(l, fd, err, "new segment");
    int r = big ? l->fs->allocate(l->fs->arg, fd, 0, need) : 0;
    if (!r)
        r = write_head(l, fd, l->next_seq, first);
    kl_fault_crash("raft.segment.rename");
    if (!r && name == spare)
        r = l->fs->rename(l->fs->arg, spare, path);
    kl_fault_crash("raft.segment.named");
    if (!r)
        r = l->fs->sync_dir(l->fs->arg, l->dir);
    if (r) {
        l->fs->close(l->fs->arg, fd);
        return kl_raft_log_fail(l, r, err, "new segment");
    }
    if (name == spare)
        l->has_spare = false;
    if (l->fd >= 0)
        l->fs->close(l->fs->arg, l->fd);
    l->fd = fd;
    struct kl_raft_segment s = {l->next_seq++, first, first - 1, KL_RAFT_HEAD_BYTES,
                                big ? need : segment_bytes(l)};
    return kl_raft_log_add_segment(l, s) ? kl_raft_log_fail(l, -ENOMEM, err, "new segment") : 0;
}

static size_t record_bytes(size_t n)
{
    return (KL_RAFT_RECORD_BYTES + n + 7) & ~(size_t)7;
}

uint32_t kl_raft_record_crc(uint64_t seq, const uint8_t *record, size_t n)
{
    uint8_t seed[8];
    kl_put_u64(seed, seq); // what an older use of the file left is not taken for ours
    return kl_crc32c(kl_crc32c(0, seed, 8), record + 4, KL_RAFT_RECORD_BYTES - 4 + n);
}

static void put_record(uint8_t *p, uint64_t seq, const struct kl_raft_entry *e, uint64_t synced)
{
    memset(p + record_bytes(e->n) - 8, 0, 8);
    kl_put_u32(p + 4, (uint32_t)e->n);
    kl_put_u64(p + 8, e->index);
    kl_put_u64(p + 16, e->term);
    kl_put_u64(p + 24, synced);
    kl_put_u16(p + 32, 0x4b52);
    kl_put_u16(p + 34, e->type);
    kl_put_u32(p + 36, 0);
    if (e->n)
        memcpy(p + KL_RAFT_RECORD_BYTES, e->p, e->n);
    kl_put_u32(p, kl_raft_record_crc(seq, p, e->n));
}

static int reserve_buf(struct kl_raft_log *l, size_t n)
{
    if (n <= l->cap_buf)
        return 0;
    uint8_t *p = realloc(l->buf, n);
    if (!p)
        return KL_ENOMEM;
    l->buf = p;
    l->cap_buf = n;
    return 0;
}

int kl_raft_log_append(struct kl_raft_log *l, const struct kl_raft_entry *e, size_t n,
                       struct kl_error *err)
{
    size_t need = 0;
    for (size_t i = 0; i < n; i++)
        need += record_bytes(e[i].n);
    if (l->failed)
        return kl_error_set(err, KL_EIO, "raft log %s: an earlier write failed", l->dir);
    if (reserve_buf(l, need))
        return kl_raft_log_fail(l, -ENOMEM, err, "append");
    struct kl_raft_segment *s = l->nseg ? &l->seg[l->nseg - 1] : NULL;
    // One append never spans two segments: only the last one can be torn.
    if (!s || s->end + (int64_t)need > s->size) {
        int r = begin_segment(l, e[0].index, (int64_t)need + KL_RAFT_HEAD_BYTES, err);
        if (r)
            return r;
        s = &l->seg[l->nseg - 1];
    }
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        put_record(l->buf + at, s->seq, &e[i], s->last);
        at += record_bytes(e[i].n);
    }
    kl_fault_crash("raft.append.write");
    ssize_t k = l->fs->pwrite(l->fs->arg, l->fd, l->buf, need, s->end);
    kl_fault_crash("raft.append.sync");
    int r = k < 0 ? (int)k : l->fs->sync(l->fs->arg, l->fd);
    kl_fault_crash("raft.append.synced");
    if (r)
        return kl_raft_log_fail(l, r, err, "append");
    s->end += (int64_t)need;
    s->last = e[n - 1].index;
    if (l->cap_buf > 1 << 20) { // a big one is rare
        free(l->buf);
        l->buf = NULL;
        l->cap_buf = 0;
    }
    if (s->end > s->size / 2)
        make_spare(l);
    return 0;
}

int kl_raft_log_cut(struct kl_raft_log *l, int64_t end, struct kl_error *err)
{
    struct kl_raft_segment *s = &l->seg[l->nseg - 1];
    kl_fault_crash("raft.cut");
    int r = l->fs->truncate(l->fs->arg, l->fd, end);
    // Before there are zeros in their place: of both at once the power might leave a gap, and old
    // entries behind it.
    if (!r)
        r = l->fs->sync(l->fs->arg, l->fd);
    kl_fault_crash("raft.cut.shorter");
    if (!r) {
        int a = l->fs->allocate(l->fs->arg, l->fd, 0, s->size);
        if (a && a != -ENOSPC && a != -EDQUOT)
            r = a;
    }
    kl_fault_crash("raft.cut.sync");
    if (!r)
        r = l->fs->sync(l->fs->arg, l->fd);
    if (r)
        return kl_raft_log_fail(l, r, err, "cut");
    s->end = end;
    return 0;
}

// ---- removal ----

// Keeps one as the next spare: its blocks are written already, so that syncs into it need not touch
// the file system's journal.
static int drop_segment(struct kl_raft_log *l, size_t i)
{
    char path[4096], spare[4096];
    segment_path(l, path, sizeof(path), l->seg[i].seq);
    kl_raft_log_path(l, spare, sizeof(spare), "log-spare");
    bool keep = !l->has_spare && l->seg[i].size == segment_bytes(l) && i + 1 < l->nseg;
    kl_fault_crash("raft.drop");
    int r = keep ? l->fs->rename(l->fs->arg, path, spare) : l->fs->unlink(l->fs->arg, path);
    if (r)
        return r;
    kl_fault_crash("raft.dropped");
    l->has_spare = l->has_spare || keep;
    atomic_fetch_sub_explicit(&l->bytes, l->seg[i].size, memory_order_relaxed);
    memmove(&l->seg[i], &l->seg[i + 1], (l->nseg - i - 1) * sizeof(*l->seg));
    l->nseg--;
    return 0;
}

static int open_last(struct kl_raft_log *l)
{
    char path[4096];
    if (l->fd >= 0)
        l->fs->close(l->fs->arg, l->fd);
    l->fd = -1;
    if (!l->nseg)
        return 0;
    segment_path(l, path, sizeof(path), l->seg[l->nseg - 1].seq);
    int fd = l->fs->open(l->fs->arg, path, O_RDWR);
    l->fd = fd < 0 ? -1 : fd;
    return fd < 0 ? fd : 0;
}

// Where the record of `index` begins in the last segment.
static int find_record(struct kl_raft_log *l, uint64_t index, int64_t *ret_at)
{
    const struct kl_raft_segment *s = &l->seg[l->nseg - 1];
    int64_t at = KL_RAFT_HEAD_BYTES;
    uint8_t p[KL_RAFT_RECORD_BYTES];
    for (uint64_t i = s->first; i < index; i++) {
        ssize_t k = l->fs->pread(l->fs->arg, l->fd, p, sizeof(p), at);
        if (k != (ssize_t)sizeof(p) || kl_get_u64(p + 8) != i)
            return k < 0 ? (int)k : -EIO;
        at += (int64_t)record_bytes(kl_get_u32(p + 4));
    }
    *ret_at = at;
    return 0;
}

int kl_raft_log_truncate(struct kl_raft_log *l, uint64_t from, struct kl_error *err)
{
    int r = 0;
    bool dropped = false;
    while (!r && l->nseg && l->seg[l->nseg - 1].first >= from) {
        r = drop_segment(l, l->nseg - 1);
        dropped = true;
    }
    if (!r && dropped)
        r = l->fs->sync_dir(l->fs->arg, l->dir);
    if (!r && dropped)
        r = open_last(l);
    if (r)
        return kl_raft_log_fail(l, r, err, "truncate");
    if (!l->nseg || l->seg[l->nseg - 1].last < from)
        return 0;
    int64_t at = 0;
    r = find_record(l, from, &at);
    if (r)
        return kl_raft_log_fail(l, r, err, "truncate");
    r = kl_raft_log_cut(l, at, err);
    if (!r)
        l->seg[l->nseg - 1].last = from - 1;
    return r;
}

static int drop_all(struct kl_raft_log *l)
{
    int r = 0;
    if (l->fd >= 0)
        l->fs->close(l->fs->arg, l->fd);
    l->fd = -1;
    while (!r && l->nseg) // from the end: what is left is always a log
        r = drop_segment(l, l->nseg - 1);
    return r ? r : l->fs->sync_dir(l->fs->arg, l->dir);
}

// ---- snapshots ----

static void manifest_path(const struct kl_raft_log *l, char *ret, size_t n, uint64_t index)
{
    kl_raft_log_path(l, ret, n, "snapshot-%020llu", (unsigned long long)index);
}

static int write_manifest(struct kl_raft_log *l, const struct kl_raft_manifest *m)
{
    char tmp[4096], path[4096];
    size_t n = 48 + m->nconf + m->ndata + 4;
    if (reserve_buf(l, n))
        return -ENOMEM;
    uint8_t *p = l->buf;
    memcpy(p, "KLRFSNAP", 8);
    kl_put_u32(p + 8, KL_RAFT_LOG_FORMAT);
    kl_put_u32(p + 12, KL_RAFT_LOG_FORMAT);
    kl_put_u64(p + 16, m->index);
    kl_put_u64(p + 24, m->term);
    kl_put_u64(p + 32, m->conf_index);
    kl_put_u32(p + 40, (uint32_t)m->nconf);
    kl_put_u32(p + 44, (uint32_t)m->ndata);
    memcpy(p + 48, m->conf, m->nconf);
    memcpy(p + 48 + m->nconf, m->data, m->ndata);
    kl_put_u32(p + n - 4, kl_crc32c(0, p, n - 4));
    kl_raft_log_path(l, tmp, sizeof(tmp), "snapshot.new");
    manifest_path(l, path, sizeof(path), m->index);
    int fd = l->fs->open(l->fs->arg, tmp, O_RDWR | O_CREAT);
    if (fd < 0)
        return fd;
    kl_fault_crash("raft.snapshot.write");
    int r = l->fs->truncate(l->fs->arg, fd, 0);
    ssize_t k = r ? 0 : l->fs->pwrite(l->fs->arg, fd, p, n, 0);
    r = r ? r : k < 0 ? (int)k : l->fs->sync(l->fs->arg, fd);
    l->fs->close(l->fs->arg, fd);
    kl_fault_crash("raft.snapshot.rename");
    if (!r)
        r = l->fs->rename(l->fs->arg, tmp, path);
    kl_fault_crash("raft.snapshot.named");
    return r ? r : l->fs->sync_dir(l->fs->arg, l->dir);
}

int kl_raft_log_put_snapshot(struct kl_raft_log *l, const struct kl_raft_manifest *m,
                             uint64_t trailing, struct kl_error *err)
{
    char path[4096];
    int r = write_manifest(l, m);
    if (r)
        return kl_raft_log_fail(l, r, err, "snapshot");
    if (l->snapshot && l->snapshot != m->index) {
        manifest_path(l, path, sizeof(path), l->snapshot);
        l->fs->unlink(l->fs->arg, path); // an older one that stays is not looked at
    }
    l->snapshot = m->index;
    if (!trailing)
        r = drop_all(l);
    uint64_t keep = m->index > trailing ? m->index - trailing : 0; // the last one that may go
    bool dropped = false;
    while (!r && trailing && l->nseg > 1 && l->seg[0].last <= keep) {
        r = drop_segment(l, 0);
        dropped = true;
    }
    if (!r && dropped)
        r = l->fs->sync_dir(l->fs->arg, l->dir);
    return r ? kl_raft_log_fail(l, r, err, "snapshot") : 0;
}

int kl_raft_log_wipe(struct kl_raft_log *l, struct kl_error *err)
{
    char path[4096];
    int r = drop_all(l);
    if (!r && l->snapshot) {
        manifest_path(l, path, sizeof(path), l->snapshot);
        r = l->fs->unlink(l->fs->arg, path);
        l->snapshot = 0;
    }
    if (!r)
        r = l->fs->sync_dir(l->fs->arg, l->dir);
    return r ? kl_raft_log_fail(l, r, err, "wipe") : 0;
}

bool kl_raft_log_is_low(const struct kl_raft_log *l)
{
    return atomic_load_explicit(&l->low, memory_order_relaxed);
}

int64_t kl_raft_log_bytes(const struct kl_raft_log *l)
{
    return atomic_load_explicit(&l->bytes, memory_order_relaxed);
}

void kl_raft_log_close(struct kl_raft_log *l)
{
    if (!l)
        return;
    if (l->fd >= 0)
        l->fs->close(l->fs->arg, l->fd);
    free(l->seg);
    free(l->buf);
    free(l->dir);
    free(l);
}

static int sync_file(struct kl_raft_log *l, const char *path)
{
    int fd = l->fs->open(l->fs->arg, path, O_RDWR);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    int r = l->fs->sync(l->fs->arg, fd);
    l->fs->close(l->fs->arg, fd);
    return r;
}

// What a process that was killed wrote and did not sync is read back as if it were on the disk: it
// must be there before anybody is told of it.
static int sync_found(struct kl_raft_log *l)
{
    char path[4096];
    int r = 0;
    for (int i = 1; !r && i <= 2; i++) {
        kl_raft_log_path(l, path, sizeof(path), "meta-%d", i);
        r = sync_file(l, path);
    }
    if (!r && l->nseg) {
        segment_path(l, path, sizeof(path), l->seg[l->nseg - 1].seq);
        r = sync_file(l, path);
    }
    return r ? r : l->fs->sync_dir(l->fs->arg, l->dir);
}

int kl_raft_log_open(const char *dir, const struct kl_raft_fs *fs, struct kl_raft_log **ret_l,
                     struct kl_raft_found *ret, struct kl_error *err)
{
    struct kl_raft_log *l = calloc(1, sizeof(*l));
    memset(ret, 0, sizeof(*ret));
    if (!l || !(l->dir = strdup(dir))) {
        free(l);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    l->fs = fs;
    l->fd = -1;
    l->next_seq = 1;
    int r = kl_raft_log_load(l, ret, err);
    if (!r) {
        int o = sync_found(l);
        o = o ? o : open_last(l);
        r = o ? kl_raft_log_fail(l, o, err, "open") : 0;
    }
    if (r) {
        kl_raft_found_fini(ret);
        kl_raft_log_close(l);
        return r;
    }
    *ret_l = l;
    return 0;
}
