// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static void test_table(void **state)
{
    assert_string_equal(kl_err_text(KL_ENOTFOUND), "not found");
    assert_int_equal(kl_err_http(KL_ENOTFOUND), 404);
    assert_string_equal(kl_err_reason(KL_ECONFLICT), "Conflict");
    assert_int_equal(kl_err_grpc(KL_EUNAVAILABLE), 14);
    assert_int_equal(kl_err_http(KL_EGONE), 410);
    assert_int_equal(kl_err_http(0), 200);
    // Codes that nobody knows are internal errors, never a read outside the table.
    static const int unknown[] = {1, -31, 12345, -12345, -2147483647 - 1};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        assert_int_equal(kl_err_http(unknown[i]), 500);
        assert_string_equal(kl_err_reason(unknown[i]), "InternalError");
    }
}

static void test_set_and_wrap(void **state)
{
    struct kl_error err;
    assert_int_equal(kl_error_set(&err, KL_EINVALID, "field %s", "x"), KL_EINVALID);
    assert_int_equal(err.code, KL_EINVALID);
    assert_string_equal(err.msg, "field x");
    assert_int_equal(kl_error_wrap(&err, "pod %d", 7), KL_EINVALID);
    assert_string_equal(err.msg, "pod 7: field x");
    // An error's own message may be an argument.
    kl_error_set(&err, KL_EIO, "again: %s", err.msg);
    assert_string_equal(err.msg, "again: pod 7: field x");
    assert_int_equal(kl_error_set(NULL, KL_EIO, "nobody listens"), KL_EIO);
    assert_int_equal(kl_error_wrap(NULL, "x"), KL_EINTERNAL);
}

static void test_long_message(void **state)
{
    struct kl_error err;
    char big[4096];
    memset(big, 'a', sizeof(big) - 1);
    big[sizeof(big) - 1] = 0;
    kl_error_set(&err, KL_EIO, "%s", big);
    assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
    // The cut falls inside a three-byte character at each of its offsets.
    for (int shift = 0; shift < 3; shift++) {
        size_t n = 0;
        for (int i = 0; i < shift; i++)
            big[n++] = 'x';
        for (; n + 3 < sizeof(big); n += 3)
            memcpy(big + n, "\xe2\x82\xac", 3);
        big[n] = 0;
        kl_error_set(&err, KL_EIO, "%s", big);
        size_t len = strlen(err.msg);
        assert_int_equal((len - (size_t)shift) % 3, 0);
        assert_true(len + 3 > sizeof(err.msg) - 1);
    }
}

static void test_errno(void **state)
{
    struct kl_error err;
    static const struct {
        int e, code;
    } cases[] = {
        {ENOSPC, KL_ENOSPC},      {EDQUOT, KL_ENOSPC}, {ENOENT, KL_ENOTFOUND},
        {EEXIST, KL_EEXISTS},     {EIO, KL_EIO},       {ECONNREFUSED, KL_EUNAVAILABLE},
        {ETIMEDOUT, KL_ETIMEOUT}, {EAGAIN, KL_EAGAIN}, {ENOMEM, KL_ENOMEM},
        {EACCES, KL_EFORBIDDEN},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(kl_error_errno(&err, cases[i].e, "open %s", "/x"), cases[i].code);
        assert_int_equal(err.code, cases[i].code);
    }
    kl_error_errno(&err, ENOENT, "open %s", "/x");
    assert_string_equal(err.msg, "open /x: No such file or directory");
    assert_int_equal(kl_error_errno(NULL, ENOSPC, "x"), KL_ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_set_and_wrap),
        cmocka_unit_test(test_long_message),
        cmocka_unit_test(test_errno),
    };
    return cmocka_run_group_tests_name("base err", tests, NULL, NULL);
}
