// SPDX-License-Identifier: Apache-2.0
// Reading a directory back: what is torn and what is damaged.
#include "store/raft/coding.h"
#include "store/raft/log_int.h"
#include "store/raft/sum.h"
#include <errno.h>
#include <fcntl.h>
#include <raft.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_SEGMENTS = 4096, MAX_FILE = KL_RAFT_SEGMENT_MAX };

void kl_raft_found_fini(struct kl_raft_found *f)
{
    for (size_t i = 0; i < f->nentries; i++)
        raft_free(f->entries[i].p);
    free(f->entries);
    raft_free(f->manifest.conf);
    raft_free(f->manifest.data);
    memset(f, 0, sizeof(*f));
}

// ---- formats ----

int kl_raft_meta_parse(const uint8_t *p, size_t n, struct kl_raft_meta *ret, uint64_t *ret_counter)
{
    if (n < 64 || memcmp(p, "KLRFMETA", 8) != 0 || kl_get_u32(p + 60) != kl_crc32c(0, p, 60))
        return KL_ECORRUPT;
    if (kl_get_u32(p + 8) > KL_RAFT_LOG_FORMAT)
        return KL_EUNSUPPORTED;
    *ret = (struct kl_raft_meta){
        .term = kl_get_u64(p + 24),
        .vote = kl_get_u64(p + 32),
        .server_id = kl_get_u64(p + 40),
        .muted = kl_get_u32(p + 12) & 1,
    };
    *ret_counter = kl_get_u64(p + 16);
    return 0;
}

static void *copy(const void *p, size_t n)
{
    void *q = raft_malloc(n ? n : 1);
    if (q && n)
        memcpy(q, p, n);
    return q;
}

int kl_raft_manifest_parse(const uint8_t *p, size_t n, struct kl_raft_manifest *ret,
                           struct kl_error *err)
{
    if (n < 52 || memcmp(p, "KLRFSNAP", 8) != 0 || kl_get_u32(p + n - 4) != kl_crc32c(0, p, n - 4))
        return kl_error_set(err, KL_ECORRUPT, "a damaged manifest");
    if (kl_get_u32(p + 12) > KL_RAFT_LOG_FORMAT)
        return kl_error_set(err, KL_EUNSUPPORTED, "a manifest of format %u", kl_get_u32(p + 12));
    struct kl_raft_manifest m = {
        .index = kl_get_u64(p + 16),
        .term = kl_get_u64(p + 24),
        .conf_index = kl_get_u64(p + 32),
        .nconf = kl_get_u32(p + 40),
        .ndata = kl_get_u32(p + 44),
    };
    if (!m.index || !m.term || !m.nconf || m.nconf > n || m.ndata > n ||
        48 + m.nconf + m.ndata + 4 != n)
        return kl_error_set(err, KL_ECORRUPT, "a manifest whose lengths do not fit");
    m.conf = copy(p + 48, m.nconf);
    m.data = copy(p + 48 + m.nconf, m.ndata);
    if (!m.conf || !m.data) {
        raft_free(m.conf);
        raft_free(m.data);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    *ret = m;
    return 0;
}

// The length of the whole record at p, or 0.
static size_t check_record(const uint8_t *p, size_t room, uint64_t seq)
{
    if (room < KL_RAFT_RECORD_BYTES || kl_get_u16(p + 32) != 0x4b52 || kl_get_u32(p + 36))
        return 0;
    size_t n = kl_get_u32(p + 4);
    if (n > KL_RAFT_ENTRY_MAX || n > room - KL_RAFT_RECORD_BYTES ||
        kl_get_u32(p) != kl_raft_record_crc(seq, p, n))
        return 0;
    size_t whole = (KL_RAFT_RECORD_BYTES + n + 7) & ~(size_t)7;
    return whole < room ? whole : room;
}

// Behind a record that does not check out: one of the same segment that was written when that had
// been durable proves that it was damaged later; what one append wrote may be torn anywhere.
static bool was_durable(const uint8_t *p, size_t n, uint64_t seq, uint64_t index)
{
    for (size_t at = 0; at + KL_RAFT_RECORD_BYTES <= n; at += 8) {
        if (kl_get_u16(p + at + 32) != 0x4b52 || kl_get_u64(p + at + 24) < index ||
            kl_get_u64(p + at + 8) <= index)
            continue;
        if (check_record(p + at, n - at, seq))
            return true;
    }
    return false;
}

int kl_raft_segment_parse(const uint8_t *p, size_t n, uint64_t seq, struct kl_raft_segment *ret,
                          int (*entry)(void *arg, const struct kl_raft_entry *e), void *arg,
                          struct kl_error *err)
{
    bool head = n >= KL_RAFT_HEAD_BYTES && memcmp(p, "KLRFTLOG", 8) == 0 &&
                kl_get_u32(p + 60) == kl_crc32c(0, p, 60);
    if (!head && n > KL_RAFT_HEAD_BYTES &&
        was_durable(p + KL_RAFT_HEAD_BYTES, n - KL_RAFT_HEAD_BYTES, seq, 0))
        return kl_error_set(err, KL_ECORRUPT, "its header is damaged");
    if (!head)
        return kl_error_set(err, KL_EEOF, "no header");
    if (kl_get_u32(p + 12) > KL_RAFT_LOG_FORMAT)
        return kl_error_set(err, KL_EUNSUPPORTED, "it has format %u; this version reads up to %d",
                            kl_get_u32(p + 12), KL_RAFT_LOG_FORMAT);
    uint64_t first = kl_get_u64(p + 24), next = first, term = 0;
    if (kl_get_u64(p + 16) != seq || !first)
        return kl_error_set(err, KL_ECORRUPT, "its header is another's");
    size_t at = KL_RAFT_HEAD_BYTES, whole;
    while (at < n && (whole = check_record(p + at, n - at, seq))) {
        const uint8_t *q = p + at;
        struct kl_raft_entry e = {
            .index = kl_get_u64(q + 8),
            .term = kl_get_u64(q + 16),
            .type = kl_get_u16(q + 34),
            .p = (void *)(q + KL_RAFT_RECORD_BYTES),
            .n = kl_get_u32(q + 4),
        };
        if (e.index != next || e.term < term)
            break;
        int r = entry(arg, &e);
        if (r)
            return r;
        term = e.term;
        next++;
        at += whole;
    }
    *ret = (struct kl_raft_segment){seq, first, next - 1, (int64_t)at, (int64_t)n};
    if (at < n && was_durable(p + at, n - at, seq, next))
        return kl_error_set(err, KL_ECORRUPT, "entry %llu at byte %zu is damaged",
                            (unsigned long long)next, at);
    return 0;
}

// ---- files ----

struct names {
    uint64_t *seq, *snap;
    size_t nseq, nsnap;
    bool overflow;
};

static bool parse_name(const char *name, const char *prefix, uint64_t *ret)
{
    size_t n = strlen(prefix);
    return strncmp(name, prefix, n) == 0 && strlen(name + n) == 20 &&
           kl_str_to_u64(kl_str(name + n), ret);
}

static int take_name(void *arg, const char *name)
{
    struct names *k = arg;
    uint64_t v;
    bool seq = parse_name(name, "log-", &v), snap = !seq && parse_name(name, "snapshot-", &v);
    if ((seq && k->nseq == MAX_SEGMENTS) || (snap && k->nsnap == MAX_SEGMENTS))
        return -EOVERFLOW;
    if (seq)
        k->seq[k->nseq++] = v;
    else if (snap)
        k->snap[k->nsnap++] = v;
    return 0;
}

static int cmp_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int read_file(struct kl_raft_log *l, const char *path, uint8_t **ret_p, size_t *ret_n)
{
    int fd = l->fs->open(l->fs->arg, path, O_RDONLY);
    if (fd < 0)
        return fd;
    int64_t n = l->fs->size(l->fs->arg, fd);
    int r = n < 0 ? (int)n : n > MAX_FILE ? -EFBIG : 0;
    uint8_t *p = r ? NULL : malloc(n ? (size_t)n : 1);
    ssize_t k = p ? l->fs->pread(l->fs->arg, fd, p, (size_t)n, 0) : 0;
    l->fs->close(l->fs->arg, fd);
    if (!r && !p)
        r = -ENOMEM;
    if (k < 0)
        r = (int)k;
    if (r) {
        free(p);
        return r;
    }
    *ret_p = p;
    *ret_n = (size_t)k;
    return 0;
}

// Puts a damaged file aside, so that the next start does not meet it again, and says so.
static int quarantine(struct kl_raft_log *l, const char *path, struct kl_error *err)
{
    char to[4160];
    snprintf(to, sizeof(to), "%s.corrupt", path);
    int r = l->fs->rename(l->fs->arg, path, to);
    if (!r)
        l->fs->sync_dir(l->fs->arg, l->dir);
    struct kl_error why = *err;
    return kl_error_set(err, KL_ECORRUPT,
                        "raft log %s is damaged: %s%s; this server's state must be fetched from "
                        "another one, or restored from a snapshot",
                        path, why.msg, r ? "" : " (put aside as NAME.corrupt)");
}

static int load_meta(struct kl_raft_log *l, struct kl_raft_found *ret, struct kl_error *err)
{
    int valid = 0, broken = 0;
    for (int i = 1; i <= 2; i++) {
        char path[4096];
        uint8_t *p = NULL;
        size_t n = 0;
        struct kl_raft_meta m;
        uint64_t counter;
        kl_raft_log_path(l, path, sizeof(path), "meta-%d", i);
        int r = read_file(l, path, &p, &n);
        if (r == -ENOENT)
            continue;
        if (r)
            return kl_error_errno(err, -r, "raft log %s", path);
        r = kl_raft_meta_parse(p, n, &m, &counter);
        free(p);
        if (r == KL_EUNSUPPORTED)
            return kl_error_set(err, r, "raft log %s was written by a newer kinglet", path);
        broken += r != 0;
        if (!r && (!valid++ || counter > l->meta_counter)) {
            l->meta = m;
            l->meta_counter = counter;
        }
    }
    ret->any = valid > 0;
    ret->meta = l->meta;
    // One is torn when the power went while it was written; the first one alone may be so too.
    // Without either nobody knows whom it voted for: another copy of the state does not help.
    if (!valid && broken > 1)
        return kl_error_set(err, KL_EIO,
                            "raft log %s is damaged: neither meta-1 nor meta-2 can be read; remove "
                            "the server from the cluster and join it anew with an empty directory",
                            l->dir);
    return 0;
}

static int load_manifest(struct kl_raft_log *l, const struct names *k, struct kl_raft_found *ret,
                         struct kl_error *err)
{
    char path[4096];
    if (!k->nsnap)
        return 0;
    uint64_t index = k->snap[k->nsnap - 1];
    uint8_t *p;
    size_t n;
    kl_raft_log_path(l, path, sizeof(path), "snapshot-%020llu", (unsigned long long)index);
    int r = read_file(l, path, &p, &n);
    if (r)
        return kl_error_errno(err, -r, "raft log %s", path);
    r = kl_raft_manifest_parse(p, n, &ret->manifest, err);
    free(p);
    if (r == KL_ECORRUPT)
        return quarantine(l, path, err);
    if (r)
        return kl_error_wrap(err, "raft log %s", path);
    ret->has_manifest = true;
    l->snapshot = index;
    for (size_t i = 0; i + 1 < k->nsnap; i++) {
        kl_raft_log_path(l, path, sizeof(path), "snapshot-%020llu", (unsigned long long)k->snap[i]);
        l->fs->unlink(l->fs->arg, path);
    }
    return 0;
}

struct adder {
    struct kl_raft_found *found;
    size_t cap;
};

static int add_entry(void *arg, const struct kl_raft_entry *e)
{
    struct adder *a = arg;
    struct kl_raft_found *f = a->found;
    if (f->nentries == a->cap) {
        size_t cap = a->cap ? a->cap * 2 : 1024;
        struct kl_raft_entry *p = realloc(f->entries, cap * sizeof(*p));
        if (!p)
            return KL_ENOMEM;
        f->entries = p;
        a->cap = cap;
    }
    void *p = copy(e->p, e->n);
    if (!p)
        return KL_ENOMEM;
    f->entries[f->nentries] = *e;
    f->entries[f->nentries++].p = p;
    return 0;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

// Away with what an append that never returned may have left: it could look like a continuation of
// what is written over its beginning.
static int cut_tail(struct kl_raft_log *l, const char *path, int64_t end, struct kl_error *err)
{
    int fd = l->fs->open(l->fs->arg, path, O_RDWR);
    if (fd < 0)
        return kl_error_errno(err, -fd, "raft log %s", path);
    l->fd = fd;
    int r = kl_raft_log_cut(l, end, err);
    l->fs->close(l->fs->arg, fd);
    l->fd = -1;
    return r;
}

static int load_segment(struct kl_raft_log *l, uint64_t seq, bool last, struct adder *a,
                        struct kl_error *err)
{
    char path[4096];
    uint8_t *p;
    size_t n, before = a->found->nentries;
    struct kl_raft_segment s;
    kl_raft_log_path(l, path, sizeof(path), "log-%020llu", (unsigned long long)seq);
    int r = read_file(l, path, &p, &n);
    if (r)
        return kl_error_errno(err, -r, "raft log %s", path);
    r = kl_raft_segment_parse(p, n, seq, &s, add_entry, a, err);
    if (r == KL_EEOF && last) { // it was being made
        free(p);
        r = l->fs->unlink(l->fs->arg, path);
        return r ? kl_error_errno(err, -r, "raft log %s", path) : 0;
    }
    const struct kl_raft_segment *prev = l->nseg ? &l->seg[l->nseg - 1] : NULL;
    if (!r && prev && s.first != prev->last + 1)
        r = kl_error_set(err, KL_ECORRUPT, "it begins with entry %llu, not %llu",
                         (unsigned long long)s.first, (unsigned long long)prev->last + 1);
    if (!r && before && a->found->nentries > before &&
        a->found->entries[before].term < a->found->entries[before - 1].term)
        r = kl_error_set(err, KL_ECORRUPT, "its terms go backwards");
    bool clean = all_zero(p + (r ? 0 : s.end), r ? 0 : n - (size_t)s.end);
    free(p);
    if (r == KL_ENOMEM)
        return kl_error_set(err, r, "out of memory");
    if (r == KL_ECORRUPT || r == KL_EEOF)
        return quarantine(l, path, err);
    if (r)
        return kl_error_wrap(err, "raft log %s", path);
    if (kl_raft_log_add_segment(l, s))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    return last && !clean ? cut_tail(l, path, s.end, err) : 0;
}

// What the manifest says of the log: an install that was cut leaves one that does not reach it.
static int fit_manifest(struct kl_raft_log *l, struct kl_raft_found *f, struct kl_error *err)
{
    uint64_t index = f->has_manifest ? f->manifest.index : 0;
    uint64_t first = l->nseg ? l->seg[0].first : index + 1;
    uint64_t last = first + f->nentries - 1;
    f->first_index = first;
    if (first > index + 1)
        return kl_error_set(err, KL_ECORRUPT,
                            "raft log %s is damaged: it begins with entry %llu, and its snapshot "
                            "ends at %llu; this server's state must be fetched from another one, "
                            "or restored from a snapshot",
                            l->dir, (unsigned long long)first, (unsigned long long)index);
    if (!index)
        return 0;
    bool fits =
        last >= index && (first > index || f->entries[index - first].term == f->manifest.term);
    if (fits || (!f->nentries && first == index + 1))
        return 0;
    for (size_t i = 0; i < f->nentries; i++)
        raft_free(f->entries[i].p);
    f->nentries = 0;
    f->first_index = index + 1;
    uint64_t snapshot = l->snapshot;
    l->snapshot = 0; // it stays
    int r = kl_raft_log_wipe(l, err);
    l->snapshot = snapshot;
    return r;
}

int kl_raft_log_load(struct kl_raft_log *l, struct kl_raft_found *ret, struct kl_error *err)
{
    struct names k = {calloc(MAX_SEGMENTS, sizeof(uint64_t)),
                      calloc(MAX_SEGMENTS, sizeof(uint64_t)), 0, 0, false};
    int r = k.seq && k.snap ? 0 : kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!r)
        r = load_meta(l, ret, err);
    if (!r) {
        int e = l->fs->list(l->fs->arg, l->dir, take_name, &k);
        r = e ? kl_error_errno(err, -e, "raft log %s", l->dir) : 0;
    }
    if (!r) {
        qsort(k.seq, k.nseq, sizeof(uint64_t), cmp_u64);
        qsort(k.snap, k.nsnap, sizeof(uint64_t), cmp_u64);
        r = load_manifest(l, &k, ret, err);
    }
    struct adder a = {ret, 0};
    for (size_t i = 0; !r && i < k.nseq; i++) {
        r = load_segment(l, k.seq[i], i + 1 == k.nseq, &a, err);
        l->next_seq = k.seq[i] + 1;
    }
    if (!r && !ret->any && (k.nseq || ret->has_manifest))
        r = kl_error_set(err, KL_ECORRUPT,
                         "raft log %s is damaged: there are entries and no meta-1 or meta-2",
                         l->dir);
    if (!r)
        r = fit_manifest(l, ret, err);
    free(k.seq);
    free(k.snap);
    return r;
}
