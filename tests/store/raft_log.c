// SPDX-License-Identifier: Apache-2.0
// raft's log on a disk that loses power, fails and is damaged: what was acknowledged is there, what
// is damaged is said to be.
#include "raft_fs.h"
#include "store/raft/log.h"
#include "harness.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEEP = 4096, SEGMENT_BYTES = 1 << 20 };

// What the log must hold.
struct model {
    uint64_t first, last; // acknowledged
    uint64_t term[KEEP];  // of index i
    uint32_t sum[KEEP];
    uint64_t meta_term, vote;
    uint64_t snapshot;
    // An operation that was under way: either outcome is right.
    uint64_t maybe_last, maybe_first, maybe_cut, maybe_meta, maybe_snapshot;
    bool maybe_all; // a snapshot that replaces everything
    uint32_t maybe_sum[KEEP];
    uint64_t maybe_term[KEEP];
};

static uint32_t fill(uint8_t *p, size_t n, uint64_t *seed)
{
    uint32_t sum = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)hs_rand(seed);
        sum = sum * 31 + p[i];
    }
    return sum;
}

static uint32_t sum_of(const void *p, size_t n)
{
    uint32_t sum = (uint32_t)n;
    for (size_t i = 0; i < n; i++)
        sum = sum * 31 + ((const uint8_t *)p)[i];
    return sum;
}

static void check_found(const struct model *m, const struct kl_raft_found *f, uint64_t seed)
{
    uint64_t last = f->first_index + f->nentries - 1;
    if (f->meta.term != m->meta_term && f->meta.term != m->maybe_meta)
        fail_msg("seed %llu: term %llu, not %llu", (unsigned long long)seed,
                 (unsigned long long)f->meta.term, (unsigned long long)m->meta_term);
    uint64_t least = m->maybe_cut ? m->maybe_cut - 1 : m->last;
    least = m->maybe_all ? 0 : least;
    if (last < least || f->first_index > m->last + 1 + (m->maybe_snapshot ? KEEP : 0))
        fail_msg("seed %llu: entries %llu to %llu, acknowledged to %llu", (unsigned long long)seed,
                 (unsigned long long)f->first_index, (unsigned long long)last,
                 (unsigned long long)m->last);
    if (f->has_manifest && f->manifest.index != m->snapshot &&
        f->manifest.index != m->maybe_snapshot)
        fail_msg("seed %llu: snapshot %llu", (unsigned long long)seed,
                 (unsigned long long)f->manifest.index);
    if (m->snapshot && !f->has_manifest)
        fail_msg("seed %llu: the snapshot is gone", (unsigned long long)seed);
    for (size_t i = 0; i < f->nentries; i++) {
        const struct kl_raft_entry *e = &f->entries[i];
        uint64_t k = e->index;
        assert_int_equal(k, f->first_index + i);
        uint32_t sum = sum_of(e->p, e->n);
        bool known = k <= m->last && e->term == m->term[k] && sum == m->sum[k];
        bool maybe = k <= m->maybe_last && e->term == m->maybe_term[k] && sum == m->maybe_sum[k];
        if (!known && !maybe)
            fail_msg("seed %llu: entry %llu is not what was written", (unsigned long long)seed,
                     (unsigned long long)k);
    }
}

static void adopt(struct model *m, const struct kl_raft_found *f)
{
    m->first = f->first_index;
    m->last = f->first_index + f->nentries - 1;
    for (size_t i = 0; i < f->nentries; i++) {
        m->term[f->first_index + i] = f->entries[i].term;
        m->sum[f->first_index + i] = sum_of(f->entries[i].p, f->entries[i].n);
    }
    m->meta_term = f->meta.term;
    m->snapshot = f->has_manifest ? f->manifest.index : 0;
    m->maybe_last = m->maybe_cut = m->maybe_meta = m->maybe_snapshot = 0;
    m->maybe_all = false;
}

// One random operation; returns its result. What it would change is in `maybe` while it runs.
static int operate(struct kl_raft_log *l, struct model *m, uint64_t *seed)
{
    static uint8_t data[8][70000];
    struct kl_raft_entry e[8];
    struct kl_error err;
    uint64_t what = hs_rand(seed) % 16;
    int r;
    if (what == 0) {
        struct kl_raft_meta meta = {.term = m->meta_term + 1, .server_id = 7, .vote = 3};
        m->maybe_meta = meta.term;
        r = kl_raft_log_set_meta(l, &meta, &err);
        if (!r) {
            m->meta_term = meta.term;
            m->maybe_meta = 0;
        }
        return r;
    }
    if (what == 1 && m->last > m->first && m->last > m->snapshot + 1) {
        uint64_t from = m->snapshot + 1 > m->first ? m->snapshot + 1 : m->first;
        from += hs_rand(seed) % (m->last - from + 1);
        m->maybe_cut = from;
        r = kl_raft_log_truncate(l, from, &err);
        if (!r) {
            m->last = from - 1;
            m->maybe_cut = 0;
        }
        return r;
    }
    if (what == 2 && m->last > m->snapshot + 4) {
        struct kl_raft_manifest s = {.index = m->last - 1,
                                     .term = m->term[m->last - 1],
                                     .conf_index = 1,
                                     .conf = (char *)"conf",
                                     .nconf = 4,
                                     .data = (char *)"data",
                                     .ndata = 4};
        uint64_t trailing = hs_rand(seed) % 8;
        m->maybe_snapshot = s.index;
        m->maybe_all = !trailing;
        r = kl_raft_log_put_snapshot(l, &s, trailing, &err);
        if (!r) {
            m->snapshot = s.index;
            m->maybe_snapshot = 0;
            m->maybe_all = false;
            if (!trailing) {
                m->last = s.index;
                m->first = s.index + 1;
            }
        }
        return r;
    }
    size_t n = 1 + hs_rand(seed) % 6;
    for (size_t i = 0; i < n; i++) {
        size_t bytes = hs_rand(seed) % 8 ? hs_rand(seed) % 700 : hs_rand(seed) % sizeof(data[0]);
        uint64_t k = m->last + 1 + i;
        m->maybe_sum[k] = fill(data[i], bytes, seed);
        m->maybe_term[k] = m->meta_term;
        e[i] = (struct kl_raft_entry){k, m->meta_term, 1, data[i], bytes};
    }
    m->maybe_last = m->last + n;
    r = kl_raft_log_append(l, e, n, &err);
    if (r)
        return r;
    for (size_t i = 0; i < n; i++) {
        m->sum[m->last + 1 + i] = m->maybe_sum[m->last + 1 + i];
        m->term[m->last + 1 + i] = m->meta_term;
    }
    m->last += n;
    m->maybe_last = 0;
    return 0;
}

static struct kl_raft_log *open_log(struct rfs *d, struct model *m, uint64_t seed)
{
    struct kl_raft_log *l = NULL;
    struct kl_raft_found f;
    struct kl_error err = {0};
    if (kl_raft_log_open("/d", &d->fs, &l, &f, &err))
        fail_msg("seed %llu: %s", (unsigned long long)seed, err.msg);
    if (m->meta_term || f.any)
        check_found(m, &f, seed);
    adopt(m, &f);
    kl_raft_found_fini(&f);
    return l;
}

static void begin(struct rfs *d, struct model *m, struct kl_raft_log **ret_l, uint64_t seed)
{
    struct kl_error err;
    rfs_init(d, seed);
    d->fs.segment_bytes = SEGMENT_BYTES;
    memset(m, 0, sizeof(*m));
    *ret_l = open_log(d, m, seed);
    struct kl_raft_meta meta = {.term = 1, .server_id = 7};
    assert_int_equal(kl_raft_log_set_meta(*ret_l, &meta, &err), 0);
    m->meta_term = 1;
    m->first = 1;
    m->last = 0;
}

static struct rfs disk;
static struct model model;

// The power goes between operations, and in the middle of one: there every call after it fails.
static void power_cuts(void **state)
{
    uint64_t seed = hs_seed();
    for (int round = 0; round < hs_scale(60); round++) {
        uint64_t s = hs_rand(&seed) | 1, mine = s;
        struct kl_raft_log *l;
        begin(&disk, &model, &l, s);
        for (int cut = 0; cut < 6 && model.last < KEEP - 200; cut++) {
            int n = (int)(hs_rand(&s) % 20);
            for (int i = 0; i < n; i++)
                assert_int_equal(operate(l, &model, &s), 0);
            disk.fail_at = disk.calls + 1 + (long)(hs_rand(&s) % 6);
            disk.fail_all = true;
            operate(l, &model, &s);
            kl_raft_log_close(l);
            disk.fail_at = 0;
            rfs_power_cut(&disk);
            l = open_log(&disk, &model, mine);
        }
        kl_raft_log_close(l);
        rfs_fini(&disk);
    }
}

// The n-th call fails, for every n of one run: nothing that was acknowledged is lost, and after a
// failed write the log takes nothing more.
static void io_errors(void **state)
{
    uint64_t seed = hs_seed();
    for (long n = 1; n < 400; n++) {
        uint64_t s = seed;
        struct kl_raft_log *l;
        begin(&disk, &model, &l, s);
        disk.fail_at = disk.calls + n;
        int r = 0;
        for (int i = 0; i < 60 && !r; i++)
            r = operate(l, &model, &s);
        long failed = disk.failed;
        kl_raft_log_close(l);
        disk.fail_at = 0;
        l = open_log(&disk, &model, seed);
        kl_raft_log_close(l);
        rfs_fini(&disk);
        if (!failed)
            break;
    }
}

static void put_entries(struct kl_raft_log *l, uint64_t from, int n)
{
    for (int i = 0; i < n; i++) {
        struct kl_raft_entry e = {from + (uint64_t)i, 1, 1, (char *)"0123456789abcdef", 16};
        struct kl_error err;
        assert_int_equal(kl_raft_log_append(l, &e, 1, &err), 0);
    }
}

// A byte that was durable and changes is damage, wherever it is but in the last append.
static void damage(void **state)
{
    for (size_t at = 0; at < 64 + 10 * 56; at += 7) {
        struct kl_raft_log *l;
        struct kl_raft_found f;
        struct kl_error err;
        begin(&disk, &model, &l, 5);
        put_entries(l, 1, 10);
        kl_raft_log_close(l);
        struct rfs_file *file = rfs_find(&disk, "/log-00000000000000000001");
        assert_non_null(file);
        file->p[at] ^= 0x10;
        int r = kl_raft_log_open("/d", &disk.fs, &l, &f, &err);
        bool last = at >= 64 + 9 * 56;
        if (r != (last ? 0 : KL_ECORRUPT))
            fail_msg("byte %zu: %d", at, r);
        if (!r) {
            assert_int_equal(f.nentries, 9);
            kl_raft_found_fini(&f);
            kl_raft_log_close(l);
        } else {
            assert_non_null(strstr(err.msg, "damaged"));
            assert_non_null(rfs_find(&disk, ".corrupt"));
        }
        rfs_fini(&disk);
    }
}

// A disk without room for the next segment says so before the present one is full.
static void full_disk(void **state)
{
    struct kl_raft_log *l;
    struct kl_error err;
    begin(&disk, &model, &l, 9);
    disk.room = SEGMENT_BYTES + 100;
    static uint8_t big[SEGMENT_BYTES / 8];
    uint64_t i = 1;
    for (; i < 8 && !kl_raft_log_is_low(l); i++) {
        struct kl_raft_entry e = {i, 1, 1, big, sizeof(big) - 1000};
        assert_int_equal(kl_raft_log_append(l, &e, 1, &err), 0);
    }
    assert_true(kl_raft_log_is_low(l));
    put_entries(l, i, 100); // small ones still fit
    kl_raft_log_close(l);
    rfs_fini(&disk);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_cuts),
        cmocka_unit_test(io_errors),
        cmocka_unit_test(damage),
        cmocka_unit_test(full_disk),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
