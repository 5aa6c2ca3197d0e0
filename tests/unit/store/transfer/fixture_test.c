// SPDX-License-Identifier: Apache-2.0
// A store of each format that there ever was opens, reads and goes on.
#include "store/transfer/access.h"
#include "support.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[64], url[128];

static void copy_file(const char *from)
{
    char text[8192], to[96];
    snprintf(to, sizeof(to), "%s/state.db", dir);
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT, 0600);
    if (in < 0 || out < 0)
        fail_msg("%s", from);
    for (ssize_t n; (n = read(in, text, sizeof(text))) > 0;)
        assert_int_equal(write(out, text, (size_t)n), n);
    close(in);
    close(out);
    snprintf(url, sizeof(url), "sqlite://%s", to);
}

static void opens(const char *name)
{
    static const struct {
        const char *key, *value;
        kl_rev id, mod, create;
        int64_t version, lease;
    } want[] = {{"/a", "second", 3, 3, 2, 2, 0},
                {"/b", "", 4, 4, 4, 1, 0},
                {"/leased", NULL, 9, 9, 9, 1, 77},
                {"/t/1", "one of two", 5, 6, 6, 1, 0},
                {"/t/2", "two of two", 6, 6, 6, 1, 0}};
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", getenv("STORE_FIXTURES"), name);
    copy_file(path);
    struct kl_store *s = ts_open(url, NULL);
    struct kl_store_status st;
    kl_store_status(s, &st);
    assert_int_equal(st.rev, 9);
    assert_int_equal(st.compact_rev, 3);
    assert_int_equal(st.cluster_id, 1111111111);
    struct kl_access a;
    struct kl_view *v;
    assert_int_equal(kl_access_open(&a, s, NULL), 0);
    assert_int_equal(kl_access_view(&a, &v, NULL), 0);
    assert_int_equal(kl_view_count(v, KL_STR("\0"), KL_RANGE_TO_LAST), KL_COUNT(want));
    for (size_t i = 0; i < KL_COUNT(want); i++) {
        struct kl_kv *kv = kl_view_get(v, kl_str(want[i].key));
        assert_non_null(kv);
        assert_int_equal(kv->id, want[i].id);
        assert_int_equal(kv->mod_rev, want[i].mod);
        assert_int_equal(kv->create_rev, want[i].create);
        assert_int_equal(kv->version, want[i].version);
        assert_int_equal(kv->lease, want[i].lease);
        if (want[i].value)
            assert_true(kl_str_eqz(kl_kv_value(kv), want[i].value));
        else
            assert_int_equal(kl_kv_value(kv).n, 100);
    }
    kl_view_unref(v);
    kl_access_close(&a);
    assert_true(ts_lease_left(s, 77) > 0);
    assert_int_equal(ts_put(s, "/new", "1", 0), 10);
    ts_compact(s, 10);
    kl_store_stop(s);
    s = ts_open(url, NULL);
    assert_int_equal(ts_rev(s), 10);
    kl_store_stop(s);
}

static void format1(void **state)
{
    opens("format1.db");
}

// The same; the rows from 6 on have no entry in kv_name yet.
static void format2(void **state)
{
    opens("format2.db");
}

static int setup(void **state)
{
    ts_dir_make(dir);
    return 0;
}

static int teardown(void **state)
{
    ts_dir_remove(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(format1, setup, teardown),
                                       cmocka_unit_test_setup_teardown(format2, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
