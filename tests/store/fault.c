// SPDX-License-Identifier: Apache-2.0
// Faults under SQLite: the nth write, sync, truncate or read of a small scenario fails, for every
// n, once or for good, as an I/O error or a full disk. What was acknowledged must be there
// afterwards, what was refused must not. And a disk that is really full.
#include "harness.h"
#include "pass_vfs.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

// ---- a VFS that counts and fails ----

enum { OP_WRITE = 1, OP_SYNC = 2, OP_TRUNCATE = 4 };

static struct {
    atomic_int ops; // which calls count
    atomic_int nth; // 0: none fails
    atomic_int calls, hits;
    atomic_bool forever;
    atomic_int rc;
} fault;

static sqlite3_vfs *real_vfs;

static int fault_rc(int op)
{
    if (!(atomic_load(&fault.ops) & op))
        return SQLITE_OK;
    int call = atomic_fetch_add(&fault.calls, 1) + 1, nth = atomic_load(&fault.nth);
    if (!nth || call < nth || (call > nth && !atomic_load(&fault.forever)))
        return SQLITE_OK;
    atomic_fetch_add(&fault.hits, 1);
    int rc = atomic_load(&fault.rc);
    if (rc != SQLITE_IOERR)
        return rc;
    return op == OP_WRITE  ? SQLITE_IOERR_WRITE
           : op == OP_SYNC ? SQLITE_IOERR_FSYNC
                           : SQLITE_IOERR_TRUNCATE;
}

static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    int rc = fault_rc(OP_WRITE);
    if (rc) { // as disks do: a part of it arrives
        pass_real(f)->pMethods->xWrite(pass_real(f), p, n / 2, at);
        return rc;
    }
    return pass_real(f)->pMethods->xWrite(pass_real(f), p, n, at);
}

static int f_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    int rc = fault_rc(OP_TRUNCATE);
    return rc ? rc : pass_real(f)->pMethods->xTruncate(pass_real(f), n);
}

static int f_sync(sqlite3_file *f, int flags)
{
    int rc = fault_rc(OP_SYNC);
    return rc ? rc : pass_real(f)->pMethods->xSync(pass_real(f), flags);
}

static const sqlite3_io_methods methods = {
    1,         pass_close,  pass_read,  f_write,      f_truncate,  f_sync,      pass_size,
    pass_lock, pass_unlock, pass_check, pass_control, pass_sector, pass_device,
};

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    return pass_open(real_vfs, name, (struct pass_file *)f, flags, out, &methods);
}

static void install_vfs(void)
{
    static sqlite3_vfs vfs;
    real_vfs = pass_install(&vfs, NULL, "fault", sizeof(struct pass_file), v_open);
}

static void set_fault(int ops, int nth, bool forever, int rc)
{
    atomic_store(&fault.nth, 0);
    atomic_store(&fault.ops, ops);
    atomic_store(&fault.calls, 0);
    atomic_store(&fault.hits, 0);
    atomic_store(&fault.forever, forever);
    atomic_store(&fault.rc, rc);
    atomic_store(&fault.nth, nth);
}

// ---- the sweep ----

enum { STEPS = 30, NKEYS = 6 };

struct outcome {
    int value[NKEYS];  // acknowledged; -1: absent
    bool maybe[NKEYS]; // the newest write may have been stored or not
    int maybe_value[NKEYS];
};

static void check_value(struct hs_client *c, const struct outcome *o, int k, const char *when,
                        int n)
{
    char key[32];
    snprintf(key, sizeof(key), "/f/%d", k);
    struct kl_kv *kv = hs_get(c, key);
    int have = kv ? atoi(kl_kv_value(kv).p) : -1;
    kl_kv_unref(kv);
    if (have != o->value[k] && !(o->maybe[k] && have == o->maybe_value[k]))
        fail_msg("call %d fails, %s: %s is %d, acknowledged %d", n, when, key, have, o->value[k]);
}

static void scenario(struct hs_client *c, struct outcome *o, int n)
{
    for (int k = 0; k < NKEYS; k++)
        o->value[k] = -1;
    memset(o->maybe, 0, sizeof(o->maybe));
    for (int i = 0; i < STEPS; i++) {
        int k = i * 7 % NKEYS, want = i % 5 == 4 ? -1 : i;
        char key[32], value[9000];
        snprintf(key, sizeof(key), "/f/%d", k);
        memset(value, '.', sizeof(value) - 1);
        value[sizeof(value) - 1] = 0;
        value[snprintf(value, 16, "%d", i)] = ' ';
        kl_rev r = want < 0 ? hs_del(c, key, -1) : hs_put(c, key, value, -1);
        if (r > 0) {
            o->value[k] = want;
            o->maybe[k] = false;
        } else if (r == KL_EMAYBE) {
            o->maybe[k] = true;
            o->maybe_value[k] = want;
        } else if (r != KL_EIO && r != KL_ENOSPC && r != KL_ECORRUPT) {
            fail_msg("call %d fails, step %d: unexpected code %lld", n, i, (long long)r);
        }
        check_value(c, o, k, "at once", n);
        if (i == 12 || i == 22)
            hs_compact_logical(c, hs_rev(c) - 3); // may fail; then it goes on later
    }
}

static int sweep(int ops, bool forever, int rc)
{
    for (int n = 1;; n++) {
        struct hs_store hs;
        struct hs_client c;
        struct outcome o;
        hs_open(&hs, "sqlite", NULL);
        hs_client_open(&c, &hs);
        set_fault(ops, n, forever, rc);
        scenario(&c, &o, n);
        int hits = atomic_load(&fault.hits);
        set_fault(0, 0, false, 0);
        hs_client_close(&c);
        hs_reopen(&hs);
        hs_client_open(&c, &hs);
        for (int k = 0; k < NKEYS; k++)
            check_value(&c, &o, k, "after a restart", n);
        assert_true(hs_put(&c, "/f/after", "v", 0) > 0);
        hs_client_close(&c);
        hs_close(&hs);
        if (!hits)
            return n - 1;
    }
}

static void sweep_once(void **state)
{
    int n = sweep(OP_WRITE | OP_SYNC | OP_TRUNCATE, false, SQLITE_IOERR);
    print_message("%d calls failed in turn\n", n);
    assert_true(n > 60);
}

static void sweep_full_once(void **state)
{
    assert_true(sweep(OP_WRITE, false, SQLITE_FULL) > 60);
}

static void sweep_sync_forever(void **state)
{
    assert_true(sweep(OP_SYNC, true, SQLITE_IOERR) > 20);
}

// ---- a disk that is full ----

static void full_disk(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
        print_message("no right to mount: %s\n", strerror(errno));
        skip();
    }
    hs_open(&hs, "sqlite", NULL);
    hs_stop(&hs);
    assert_int_equal(mount("tmpfs", hs.dir, "tmpfs", 0, "size=48m"), 0);
    struct kl_error err;
    assert_int_equal(kl_store_open(hs.url, &hs.o, &hs.s, &err), 0);
    hs_client_open(&c, &hs);
    char reserve[128];
    snprintf(reserve, sizeof(reserve), "%s/state.db-reserve", hs.dir);
    for (int64_t until = kl_mono_ms() + 120000; access(reserve, F_OK) && kl_mono_ms() < until;)
        sched_yield();
    assert_int_equal(access(reserve, F_OK), 0);
    struct kl_str value = {calloc(1, 64 << 10), 64 << 10};
    char key[32];
    int n = 0;
    kl_rev r;
    for (;; n++) {
        snprintf(key, sizeof(key), "/big/%05d", n);
        r = hs_put_bytes(&c, kl_str(key), value, 0);
        if (r < 0)
            break;
        assert_true(n < 5000);
    }
    free((void *)value.p);
    assert_int_equal(r, KL_ENOSPC);
    print_message("full after %d values of 64 KiB\n", n);
    struct kl_store_status st;
    kl_store_status(hs.s, &st);
    assert_true(st.disk_full);
    assert_int_equal(hs_put(&c, "/new", "small", 0), KL_ENOSPC);
    assert_int_equal(hs_count(&c, "/big/", "/big0"), n); // reads go on
    assert_true(hs_put(&c, "/big/00000", "shorter", -1) > 0);
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "/big/%05d", i);
        r = hs_del(&c, key, -1);
        if (r < 0)
            fail_msg("deletion %d of %d: %lld", i, n, (long long)r);
    }
    assert_int_equal(hs_count(&c, "/big/", "/big0"), 0);
    assert_int_equal(hs_compact(&c, hs_rev(&c)), 0);
    for (int64_t until = kl_mono_ms() + 120000; kl_mono_ms() < until;) {
        kl_store_status(hs.s, &st);
        if (!st.disk_full)
            break;
        sched_yield();
    }
    assert_false(st.disk_full); // cleared itself
    assert_true(hs_put(&c, "/new", "small", 0) > 0);
    hs_client_close(&c);
    hs_reopen(&hs);
    hs_client_open(&c, &hs);
    assert_int_equal(hs_count(&c, "/", "0"), 1);
    hs_client_close(&c);
    hs_stop(&hs);
    umount(hs.dir);
    hs_close(&hs);
}

int main(int argc, char **argv)
{
    kl_log_setup(getenv("STORE_LOG") ? KL_LOG_WARN : KL_LOG_NONE, false); // each fault logs a line
    if (access("/dev/shm", W_OK) == 0)
        setenv("STORE_DIR", "/dev/shm",
               0); // faults are injected above the disk; its syncs only cost
    install_vfs();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sweep_once),
        cmocka_unit_test(sweep_full_once),
        cmocka_unit_test(sweep_sync_forever),
        cmocka_unit_test(full_disk),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
