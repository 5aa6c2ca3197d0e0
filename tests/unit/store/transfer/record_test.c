// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/record.h"
#include "support.h"
#include <string.h>

static const struct kl_record samples[] = {
    {.kind = KL_RECORD_HEADER,
     .header = {KL_RECORD_VERSION, "sqlite", UINT64_MAX, 1 << 30, 77, 1700000000000, 300000}},
    {.kind = KL_RECORD_ROW,
     .row = {9, 12, 3, 127, -5, 8, 3, false, KL_STR_INIT("/registry/pods/a\0b"),
             KL_STR_INIT("value \0 and more")}},
    {.kind = KL_RECORD_ROW,
     .row = {INT64_MAX / 2, INT64_MAX / 2, INT64_MAX / 2, 1, INT64_MIN, 0, 0, false,
             KL_STR_INIT("k"), KL_STR_INIT("")}},
    {.kind = KL_RECORD_ROW,
     .row = {128, 128, 0, 0, 0, 127, 16384, true, KL_STR_INIT("gone"), KL_STR_INIT("")}},
    {.kind = KL_RECORD_LEASE, .lease = {INT64_MIN, 3600000, 0}},
    {.kind = KL_RECORD_LEASE, .lease = {INT64_MAX, 1, 1}},
    {.kind = KL_RECORD_MARK, .mark = {0, 1234567890123}},
    {.kind = KL_RECORD_END, .end = {99, 3}},
    {.kind = KL_RECORD_FAIL, .fail = {KL_ECOMPACTED, KL_STR_INIT("too late")}},
};

static void same(const struct kl_record *a, const struct kl_record *b)
{
    struct kl_buf x, y;
    kl_buf_init(&x, 1 << 20);
    kl_buf_init(&y, 1 << 20);
    assert_int_equal(kl_record_encode(&x, a), 0);
    assert_int_equal(kl_record_encode(&y, b), 0);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.p, y.p, x.n);
    kl_buf_fini(&x);
    kl_buf_fini(&y);
}

static void round_trip(void **state)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    for (size_t i = 0; i < KL_COUNT(samples); i++)
        assert_int_equal(kl_record_encode(&b, &samples[i]), 0);
    struct kl_str in = kl_buf_str(&b);
    for (size_t i = 0; i < KL_COUNT(samples); i++) {
        struct kl_record r;
        struct kl_error err = {0};
        if (kl_record_decode(&in, &r, &err))
            fail_msg("%zu: %s", i, err.msg);
        assert_int_equal(r.kind, samples[i].kind);
        same(&r, &samples[i]);
    }
    assert_int_equal(in.n, 0);
    kl_buf_fini(&b);
}

static void fields(void **state)
{
    struct kl_buf b;
    struct kl_record r;
    kl_buf_init(&b, 1 << 20);
    assert_int_equal(kl_record_encode(&b, &samples[1]), 0);
    struct kl_str in = kl_buf_str(&b);
    assert_int_equal(kl_record_decode(&in, &r, NULL), 0);
    assert_int_equal(r.row.id, 9);
    assert_int_equal(r.row.mod_rev, 12);
    assert_int_equal(r.row.create_rev, 3);
    assert_int_equal(r.row.version, 127);
    assert_int_equal(r.row.lease, -5);
    assert_int_equal(r.row.prev_id, 8);
    assert_int_equal(r.row.prev_create, 3);
    assert_false(r.row.deleted);
    assert_int_equal(r.row.key.n, 18);
    assert_int_equal(r.row.value.n, 16);
    kl_buf_fini(&b);
}

// Every beginning of the stream waits for more and is left as it was.
static void cut(void **state)
{
    for (size_t i = 0; i < KL_COUNT(samples); i++) {
        struct kl_buf b;
        struct kl_record r;
        kl_buf_init(&b, 1 << 20);
        assert_int_equal(kl_record_encode(&b, &samples[i]), 0);
        for (size_t n = 0; n < b.n; n++) {
            struct kl_str in = {b.p, n};
            assert_int_equal(kl_record_decode(&in, &r, NULL), KL_EAGAIN);
            assert_int_equal(in.n, n);
        }
        kl_buf_fini(&b);
    }
}

static void decode_bad(const char *p, size_t n, int code)
{
    struct kl_str in = {p, n};
    struct kl_record r;
    struct kl_error err = {0};
    assert_int_equal(kl_record_decode(&in, &r, &err), code);
    assert_true(err.msg[0] != 0);
}

static void damaged(void **state)
{
    decode_bad("X\x00", 2, KL_ECORRUPT);                 // no such kind
    decode_bad("M\x01\x05", 3, KL_ECORRUPT);             // too short
    decode_bad("M\x03\x05\x06\x07", 5, KL_ECORRUPT);     // too long
    decode_bad("H\x01\x02", 3, KL_EUNSUPPORTED);         // version 2
    decode_bad("L\x03\x00\x05\x06", 5, KL_ECORRUPT);     // longer than granted
    decode_bad("R\xff\xff\xff\xff\x7f", 6, KL_ECORRUPT); // 34 GB
    decode_bad("R\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", 12, KL_ECORRUPT);
    // A key that is longer than its record; no key; a deletion with a value.
    decode_bad("R\x09\x00\x01\x01\x01\x01\x00\x00\x00\x05", 11, KL_ECORRUPT);
    decode_bad("R\x09\x00\x01\x01\x01\x01\x00\x00\x00\x00", 11, KL_ECORRUPT);
    decode_bad("R\x0b\x01\x01\x01\x00\x00\x00\x00\x00\x01kv", 13, KL_ECORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(fields),
                                       cmocka_unit_test(cut), cmocka_unit_test(damaged)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
