// SPDX-License-Identifier: Apache-2.0
// Snapshot files: whole, damaged in every byte, cut at every length; directories of them.
#include "store/transfer/copy.h"
#include "store/transfer/snapshot.h"
#include "support.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], url[128], path[128];

static int setup(void **state)
{
    ts_dir_make(dir);
    snprintf(url, sizeof(url), "sqlite://%s/state.db", dir);
    snprintf(path, sizeof(path), "%s/a.klsnap", dir);
    return 0;
}

static int teardown(void **state)
{
    ts_dir_remove(dir);
    return 0;
}

static void write_snapshot(struct kl_store *s, const char *to, struct kl_snapshot_info *info)
{
    struct kl_source *src;
    struct kl_error err = {0};
    if (kl_store_source_new(s, &(struct kl_source_from){0}, &src, &err) ||
        kl_snapshot_write(to, src, info, &err))
        fail_msg("%s", err.msg);
    src->close(src);
}

static int identify(void *arg, uint64_t *id, kl_rev *rev, struct kl_error *err)
{
    *id = 1;
    *rev = 1;
    return 0;
}

static int open_file(void *arg, const struct kl_source_from *from, struct kl_source **ret,
                     struct kl_error *err)
{
    return kl_snapshot_read(arg, ret, err);
}

static void restored(void **state)
{
    static const struct kl_store_options reading = {.read_only = true};
    struct kl_snapshot_info info, peeked;
    struct kl_store_copy_result r;
    struct kl_error err = {0};
    struct kl_store *s = ts_open(url, NULL), *t = NULL;
    ts_fill(s, 3000, 2);
    ts_lease(s, 3, 500);
    ts_put(s, "/leased", "x", 3);
    ts_lease(s, -4, KL_LEASE_MAX_TTL + KL_ALARM_NOSPACE); // an alarm
    write_snapshot(s, path, &info);
    assert_int_equal(info.rev, ts_rev(s));
    assert_string_equal(info.backend, "sqlite");
    assert_int_equal(kl_snapshot_peek(path, &peeked, &err), 0);
    assert_memory_equal(&peeked, &info, sizeof(info));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, info.bytes);
    assert_int_equal(st.st_mode & 0777, 0600);
    struct kl_store_copy_origin o = {path, identify, open_file, NULL};
    struct kl_store_copy_options c = {.to = "memory://", .store = &reading, .bump = 1000000};
    if (kl_store_copy(&o, &c, &r, &t, NULL, &err))
        fail_msg("%s", err.msg);
    ts_same(s, t);
    assert_int_equal(ts_rev(t), ts_rev(s) + 1000000);
    struct kl_store_status status;
    kl_store_status(t, &status);
    assert_int_equal(status.compact_rev, status.rev); // every watch there was relists
    assert_true(ts_lease_left(t, 3) > 490000);
    assert_int_equal(kl_store_alarms(t), 1u << KL_ALARM_NOSPACE);
    kl_store_stop(t);
    kl_store_stop(s);
}

static void write_file(const char *to, const char *data, size_t n)
{
    int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, data, n), n);
    close(fd);
}

static void refused_file(const char *file)
{
    struct kl_source *src = NULL;
    struct kl_error err = {0};
    int r = kl_snapshot_read(file, &src, &err);
    if (!r)
        src->close(src);
    assert_true(r == KL_ECORRUPT || r == KL_EINVALID);
    assert_non_null(strstr(err.msg, file));
}

static void damaged(void **state)
{
    struct kl_snapshot_info info;
    struct kl_store *s = ts_open(url, NULL);
    ts_fill(s, 20, 1);
    write_snapshot(s, path, &info);
    kl_store_stop(s);
    char *data = malloc((size_t)info.bytes), other[160];
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, data, (size_t)info.bytes), info.bytes);
    close(fd);
    snprintf(other, sizeof(other), "%s/b.klsnap", dir);
    for (int64_t i = 0; i < info.bytes; i++) {
        data[i] ^= 0x10;
        write_file(other, data, (size_t)info.bytes);
        data[i] ^= 0x10;
        refused_file(other);
        write_file(other, data, (size_t)i);
        refused_file(other);
    }
    free(data);
}

// A source that ends in an error leaves no file.
static int fail_next(struct kl_source *s, struct kl_record *ret, struct kl_error *err)
{
    return kl_error_set(err, KL_EIO, "broken");
}

static void failed(void **state)
{
    struct kl_source src = {fail_next, NULL};
    struct kl_snapshot_info info;
    struct kl_error err = {0};
    char tmp[160];
    snprintf(tmp, sizeof(tmp), "%s.tmp", path);
    assert_int_equal(kl_snapshot_write(path, &src, &info, &err), KL_EIO);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(tmp, F_OK), -1);
}

static void directory(void **state)
{
    struct kl_snapshot_info info, *all;
    struct kl_error err = {0};
    char sub[96], other[192];
    size_t n;
    int gone;
    struct kl_store *s = ts_open(url, NULL);
    snprintf(sub, sizeof(sub), "%s/db/snapshots", dir);
    assert_int_equal(kl_snapshot_list(sub, &all, &n, &err), 0);
    assert_int_equal(n, 0);
    for (int i = 0; i < 4; i++) {
        ts_fill(s, 3, 1);
        assert_int_equal(kl_snapshot_save(s, sub, "daily", "n1", &info, &err), 0);
    }
    assert_int_equal(kl_snapshot_save(s, sub, "other", "n1", &info, &err), 0);
    assert_int_equal(kl_snapshot_save(s, sub, "../x", "n1", &info, &err), KL_EINVALID);
    snprintf(other, sizeof(other), "%s/daily-n1-5.klsnap", sub);
    write_file(other, "rubbish", 7);
    assert_int_equal(kl_snapshot_list(sub, &all, &n, &err), 0);
    assert_int_equal(n, 6);
    int bad = 0;
    for (size_t i = 0; i < n; i++)
        bad += all[i].damaged;
    assert_int_equal(bad, 1);
    free(all);
    assert_int_equal(kl_snapshot_prune(sub, "daily", 2, &gone, &err), 0);
    assert_int_equal(gone, 2);
    assert_int_equal(kl_snapshot_list(sub, &all, &n, &err), 0);
    assert_int_equal(n, 4); // two, the other name, and the damaged one
    kl_rev newest = 0;
    for (size_t i = 0; i < n; i++) {
        if (!strncmp(all[i].name, "daily", 5) && all[i].rev > newest)
            newest = all[i].rev;
    }
    assert_int_equal(newest, ts_rev(s));
    free(all);
    kl_store_stop(s);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(restored), TEST(damaged), TEST(failed),
                                       TEST(directory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
