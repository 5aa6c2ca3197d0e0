// SPDX-License-Identifier: Apache-2.0
// The memory budget: values beyond it lie in a file, and nobody sees a difference.
#include "harness.h"
#include "store/spill.h"
#include "base/clock.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { KEYS = 6000, VALUE = 1000, BUDGET = 256 << 10, RING = 64 << 10, READERS = 3 };

struct fix {
    struct hs_store hs;
    struct hs_client c;
};

static int setup(void **state)
{
    struct fix *f = calloc(1, sizeof(*f));
    struct kl_store_options o = {.memory_budget = BUDGET, .ring_bytes = RING};
    hs_open(&f->hs, "sqlite", &o);
    hs_client_open(&f->c, &f->hs);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;
    hs_client_close(&f->c);
    hs_close(&f->hs);
    free(f);
    return 0;
}

static void make(char key[32], char value[VALUE + 1], int i, int round)
{
    snprintf(key, 32, "v/%05d", i);
    uint64_t x = (uint64_t)(i * 7919 + round) * 2654435761u + 1;
    for (int k = 0; k < VALUE; k++)
        value[k] = (char)('a' + hs_rand(&x) % 26);
    value[VALUE] = 0;
}

static void write_all(struct fix *f, int round, int64_t lease)
{
    char key[32], value[VALUE + 1];
    struct kl_op ops[100];
    for (int at = 0; at < KEYS; at += 100) {
        struct kl_txn txn = {.body = {.then = ops, .nthen = 100}};
        char names[100][32];
        for (int i = 0; i < 100; i++) {
            make(key, value, at + i, round);
            memcpy(names[i], key, 32);
            ops[i] = (struct kl_op){.kind = KL_OP_PUT,
                                    .key = kl_str(names[i]),
                                    .value = kl_bytes_new(kl_str(value)),
                                    .lease = lease};
        }
        assert_int_equal(hs_txn(&f->c, &txn), 0);
        for (int i = 0; i < 100; i++)
            kl_bytes_unref(ops[i].value);
        kl_txn_fini(&txn);
    }
}

static void read_all(struct hs_client *c, int round)
{
    char key[32], value[VALUE + 1];
    for (int i = 0; i < KEYS; i++) {
        make(key, value, i, round);
        struct kl_kv *kv = hs_get(c, key);
        assert_non_null(kv);
        assert_true(kl_str_eqz(kl_kv_value(kv), value));
        kl_kv_unref(kv);
    }
}

static struct kl_store_status status(struct fix *f)
{
    struct kl_store_status st;
    kl_store_status(f->hs.s, &st);
    return st;
}

// Something is written now and then, as in every cluster.
static void wait_below(struct fix *f, int64_t bytes)
{
    int64_t until = kl_mono_ms() + 120000;
    while (status(f).value_bytes + status(f).attached_bytes > bytes) {
        assert_true(hs_put(&f->c, "tick", "x", -1) > 0);
        if (kl_mono_ms() >= until)
            fail_msg("%lld bytes of values, %lld of what hangs on them: not %lld",
                     (long long)status(f).value_bytes, (long long)status(f).attached_bytes,
                     (long long)bytes);
    }
}

static void wait_file(struct fix *f, int64_t used, int64_t size)
{
    int64_t until = kl_mono_ms() + 120000;
    while (status(f).file_value_bytes > used || status(f).file_bytes > size) {
        assert_true(hs_put(&f->c, "tick", "x", -1) > 0);
        if (kl_mono_ms() >= until)
            fail_msg("%lld bytes of values in a file of %lld, not %lld in %lld",
                     (long long)status(f).file_value_bytes, (long long)status(f).file_bytes,
                     (long long)used, (long long)size);
    }
}

static void values_move(void **state)
{
    struct fix *f = *state;
    write_all(f, 0, 0);
    wait_below(f, BUDGET + 2 * RING);
    assert_true(status(f).file_value_bytes >= KEYS * VALUE - BUDGET - 4 * RING);
    read_all(&f->c, 0);
    // What is overwritten and deleted gives its place in the file back.
    write_all(f, 1, 0);
    write_all(f, 2, 0);
    wait_below(f, BUDGET + 2 * RING);
    read_all(&f->c, 2);
    wait_file(f, KEYS * VALUE, INT64_MAX);
    assert_true(hs_del(&f->c, "v/00000", -1) > 0);
    struct kl_op all = {.kind = KL_OP_DELETE, .key = KL_STR("v/"), .end = KL_STR("v0")};
    struct kl_txn txn = {.body = {.then = &all, .nthen = 1}};
    assert_int_equal(hs_txn(&f->c, &txn), 0);
    kl_txn_fini(&txn);
    wait_file(f, 2 * RING, KL_SPILL_SEGMENT);
}

static void opened_again(void **state)
{
    struct fix *f = *state;
    write_all(f, 3, 0);
    hs_client_close(&f->c);
    hs_reopen(&f->hs);
    hs_client_open(&f->c, &f->hs);
    assert_true(status(f).value_bytes <= BUDGET);
    assert_true(status(f).file_value_bytes > 0);
    read_all(&f->c, 3);
}

static void leases_still_end(void **state)
{
    struct fix *f = *state;
    struct kl_lease_req grant = {.kind = KL_LEASE_GRANT, .ttl_s = 600};
    assert_int_equal(hs_lease(&f->c, &grant), 0);
    write_all(f, 4, grant.id);
    wait_below(f, BUDGET + 2 * RING);
    assert_int_equal(hs_count(&f->c, "v/", "v0"), KEYS);
    struct kl_lease_req revoke = {.kind = KL_LEASE_REVOKE, .id = grant.id};
    assert_int_equal(hs_lease(&f->c, &revoke), 0);
    assert_int_equal(hs_count(&f->c, "v/", "v0"), 0);
}

// ---- while others read and write ----

struct reading {
    struct fix *f;
    pthread_t thread;
    atomic_bool *stop;
    size_t reads;
};

// A value is its key and its version, many times.
static void check_value(struct kl_kv *kv)
{
    char want[32];
    size_t n = (size_t)snprintf(want, sizeof(want), "%s=%lld;", kv->key, (long long)kv->version);
    struct kl_str v = kl_kv_value(kv);
    assert_true(v.n % n == 0);
    for (size_t at = 0; at < v.n; at += n)
        assert_memory_equal(v.p + at, want, n);
}

static void *read_on(void *arg)
{
    struct reading *r = arg;
    struct hs_client c;
    uint64_t x = (uint64_t)(uintptr_t)r | 1;
    char key[32];
    unsigned looks = 0;
    hs_client_open(&c, &r->f->hs);
    while (!atomic_load(r->stop)) {
        snprintf(key, sizeof(key), "w/%03d", (int)(hs_rand(&x) % 400));
        struct kl_kv *kv = hs_get(&c, key);
        if (kv)
            check_value(kv);
        r->reads += kv != NULL;
        kl_kv_unref(kv);
        hs_breathe(++looks);
    }
    hs_client_close(&c);
    return NULL;
}

static void under_load(void **state)
{
    struct fix *f = *state;
    atomic_bool stop = false;
    struct reading r[READERS];
    static char value[64 * 32 + 32];
    static int version[400];
    uint64_t x = hs_seed();
    memset(version, 0, sizeof(version));
    for (int i = 0; i < READERS; i++) {
        r[i] = (struct reading){.f = f, .stop = &stop};
        assert_int_equal(pthread_create(&r[i].thread, NULL, read_on, &r[i]), 0);
    }
    for (int i = 0; i < hs_scale(3000); i++) {
        int k = (int)(hs_rand(&x) % 400);
        char key[32], one[32];
        snprintf(key, sizeof(key), "w/%03d", k);
        if (version[k] && hs_rand(&x) % 16 == 0) {
            assert_true(hs_del(&f->c, key, -1) > 0);
            version[k] = 0;
            continue;
        }
        size_t n = (size_t)snprintf(one, sizeof(one), "%s=%d;", key, ++version[k]), at = 0;
        for (int m = 0; m < 64; m++, at += n)
            memcpy(value + at, one, n);
        assert_true(hs_put_bytes(&f->c, kl_str(key), (struct kl_str){value, at}, -1) > 0);
    }
    atomic_store(&stop, true);
    size_t reads = 0;
    for (int i = 0; i < READERS; i++) {
        pthread_join(r[i].thread, NULL);
        reads += r[i].reads;
    }
    assert_true(reads > 0);
    assert_true(status(f).file_value_bytes > 0);
    for (int k = 0; k < 400; k++) {
        char key[32];
        snprintf(key, sizeof(key), "w/%03d", k);
        struct kl_kv *kv = hs_get(&f->c, key);
        assert_int_equal(kv ? kv->version : 0, version[k]);
        if (kv)
            check_value(kv);
        kl_kv_unref(kv);
    }
}

// ---- a file that cannot grow ----

// What is logged until `end_log`, which gives how often `text` was said.
static int begin_log(int *saved)
{
    int fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(fd >= 0);
    *saved = dup(STDERR_FILENO);
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
    return fd;
}

static int end_log(int fd, int saved, const char *text)
{
    static char log[1 << 16];
    ssize_t n = pread(fd, log, sizeof(log) - 1, 0);
    int found = 0;
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fd);
    assert_true(n >= 0);
    log[n] = 0;
    fputs(log, stderr);
    for (const char *at = log; (at = strstr(at, text)); at++)
        found++;
    return found;
}

// As on a full disk: everything stays in memory and is served, which is said once; when there is
// room again the budget is kept again.
static void no_room(void **state)
{
    struct fix *f = calloc(1, sizeof(*f));
    struct kl_store_options o = {.memory_budget = BUDGET, .ring_bytes = RING};
    struct rlimit was, none;
    int saved, log;
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    none = (struct rlimit){64 << 10, was.rlim_max};
    hs_open(&f->hs, "memory", &o);
    hs_client_open(&f->c, &f->hs);
    log = begin_log(&saved);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    write_all(f, 5, 0);
    write_all(f, 6, 0);
    read_all(&f->c, 6);
    struct kl_store_status st = status(f);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_int_equal(end_log(log, saved, "the memory budget cannot be kept"), 1);
    assert_int_equal(st.file_value_bytes, 0);
    assert_int_equal(st.file_bytes, 0);
    assert_true(st.value_bytes >= KEYS * VALUE);
    int64_t until = kl_mono_ms() + 120000;
    while (status(f).file_value_bytes < KEYS * VALUE / 2) { // what is old this back end keeps
        assert_true(hs_put(&f->c, "tick", "x", -1) > 0);
        assert_true(kl_mono_ms() < until);
    }
    read_all(&f->c, 6);
    hs_client_close(&f->c);
    hs_close(&f->hs);
    free(f);
}

// ---- the file by itself ----

static void file_gives_back(void **state)
{
    struct kl_spill *s;
    struct kl_error err;
    enum { N = 64, SIZE = 300 << 10 };
    static char text[SIZE];
    struct kl_str v[N];
    struct kl_bytes *b[N], *big;
    (void)state;
    assert_int_equal(kl_spill_new("/tmp", &s, &err), 0);
    memset(text, 'q', sizeof(text));
    for (int i = 0; i < N; i++)
        v[i] = (struct kl_str){text, (size_t)(SIZE - i)};
    v[5].n = 0;
    assert_int_equal(kl_spill_put(s, v, N, b, &err), 0);
    for (int i = 0; i < N; i++)
        assert_true(kl_str_eq(kl_bytes_str(b[i]), v[i]));
    struct kl_str huge = {calloc(1, 9 << 20), 9 << 20};
    assert_int_equal(kl_spill_put(s, &huge, 1, &big, &err), 0);
    assert_memory_equal(big->p, huge.p, huge.n);
    kl_spill_rest(s);
    assert_memory_equal(big->p, huge.p, huge.n);
    kl_bytes_unref(big);
    free((void *)huge.p);
    int64_t full = kl_spill_file_bytes(s);
    assert_false(kl_spill_is_sparse(b[0]));
    for (int i = 1; i < N; i++)
        kl_bytes_unref(b[i]);
    assert_true(kl_spill_is_sparse(b[0]));
    assert_true(kl_spill_file_bytes(s) < full / 2);
    kl_spill_unref(s);
    assert_true(kl_str_eq(kl_bytes_str(b[0]), v[0])); // it outlives the writer
    kl_bytes_unref(b[0]);
    assert_int_equal(kl_spill_new("/no/such/place", &s, &err), KL_EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_move, setup, teardown),
        cmocka_unit_test_setup_teardown(opened_again, setup, teardown),
        cmocka_unit_test_setup_teardown(leases_still_end, setup, teardown),
        cmocka_unit_test_setup_teardown(under_load, setup, teardown),
        cmocka_unit_test(no_room),
        cmocka_unit_test(file_gives_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
