// SPDX-License-Identifier: Apache-2.0
// The protobuf codec with tables written by hand: every kind of field, what is left out, oneofs,
// merging, bad input.
#include "net/proto.h"
#include "net_test.h"
#include <stdio.h>
#include <string.h>

struct inner {
    int64_t n;
    struct kl_str s;
};
static const struct kl_proto_field inner_fields[] = {
    {1, KL_PROTO_INT64, 0, offsetof(struct inner, n), 0, sizeof(int64_t), NULL},
    {2, KL_PROTO_STRING, 0, offsetof(struct inner, s), 0, sizeof(struct kl_str), NULL},
};
static const struct kl_proto_desc inner_desc = {"Inner", inner_fields, 2, sizeof(struct inner), 0,
                                                0};

struct outer {
    bool b;
    int32_t i;
    uint32_t u;
    struct inner *one;
    struct inner *many;
    size_t n_many;
    int64_t *nums;
    size_t n_nums;
    struct kl_str *names;
    size_t n_names;
    struct kl_proto_kv *map;
    size_t n_map;
    int64_t choice_num;
    struct inner *choice_msg;
    struct kl_str choice_str;
    struct kl_str far_away;
};
#define AT(m) offsetof(struct outer, m)
static const struct kl_proto_field outer_fields[] = {
    {1, KL_PROTO_BOOL, 0, AT(b), 0, sizeof(bool), NULL},
    {2, KL_PROTO_INT32, 0, AT(i), 0, sizeof(int32_t), NULL},
    {3, KL_PROTO_UINT32, 0, AT(u), 0, sizeof(uint32_t), NULL},
    {4, KL_PROTO_MESSAGE, 0, AT(one), 0, sizeof(struct inner), &inner_desc},
    {5, KL_PROTO_MESSAGE, KL_PROTO_REPEATED, AT(many), AT(n_many), sizeof(struct inner),
     &inner_desc},
    {6, KL_PROTO_INT64, KL_PROTO_REPEATED, AT(nums), AT(n_nums), sizeof(int64_t), NULL},
    {7, KL_PROTO_STRING, KL_PROTO_REPEATED, AT(names), AT(n_names), sizeof(struct kl_str), NULL},
    {8, KL_PROTO_MAP, KL_PROTO_REPEATED, AT(map), AT(n_map), sizeof(struct kl_proto_kv), NULL},
    {9, KL_PROTO_INT64, KL_PROTO_ONEOF, AT(choice_num), 0, sizeof(int64_t), NULL},
    {10, KL_PROTO_MESSAGE, KL_PROTO_ONEOF, AT(choice_msg), 0, sizeof(struct inner), &inner_desc},
    {11, KL_PROTO_STRING, KL_PROTO_ONEOF, AT(choice_str), 0, sizeof(struct kl_str), NULL},
    {64, KL_PROTO_STRING, 0, AT(far_away), 0, sizeof(struct kl_str), NULL},
};
static const struct kl_proto_desc outer_desc = {
    "Outer", outer_fields, KL_COUNT(outer_fields), sizeof(struct outer), 1, 1};

static struct outer *decode(struct kl_arena *a, const void *p, size_t n, int want)
{
    void *msg = NULL;
    struct kl_error err = {0};
    int rc = kl_proto_decode(a, &outer_desc, (struct kl_str){p, n}, &msg, &err);
    if (rc != want)
        fail_msg("decoding gives %d (%s), not %d", rc, err.msg, want);
    return msg;
}
#define DECODE(a, lit) decode((a), lit, sizeof(lit) - 1, 0)

static void test_round_trip(void **state)
{
    char big[300];
    memset(big, 'x', sizeof(big));
    struct inner one = {-5, {big, sizeof(big)}}, many[] = {{1, KL_STR("a")}, {0, KL_STR("")}};
    int64_t nums[] = {0, 1, -1, INT64_MIN, 300};
    struct kl_str names[] = {KL_STR("x"), KL_STR(""), KL_STR("yz")};
    struct kl_proto_kv map[] = {{KL_STR("k"), KL_STR("v")}, {KL_STR(""), KL_STR("w")}};
    struct outer in = {.b = true,
                       .i = -7,
                       .u = UINT32_MAX,
                       .one = &one,
                       .many = many,
                       .n_many = 2,
                       .nums = nums,
                       .n_nums = 5,
                       .names = names,
                       .n_names = 3,
                       .map = map,
                       .n_map = 2,
                       .choice_str = KL_STR("chosen"),
                       .far_away = KL_STR("far")};
    struct kl_buf b;
    struct kl_arena a;
    kl_buf_init(&b, 1 << 20);
    kl_arena_init(&a, 0);
    kl_proto_encode(&b, &outer_desc, &in);
    assert_int_equal(b.err, 0);
    struct outer *out = decode(&a, b.p, b.n, 0);
    assert_true(out->b);
    assert_int_equal(out->i, -7);
    assert_int_equal(out->u, UINT32_MAX);
    assert_int_equal(out->one->n, -5);
    assert_true(kl_str_eq(out->one->s, one.s));
    assert_int_equal(out->n_many, 2);
    assert_true(kl_str_eqz(out->many[0].s, "a"));
    assert_int_equal(out->n_nums, 5);
    assert_memory_equal(out->nums, nums, sizeof(nums));
    assert_int_equal(out->n_names, 3);
    assert_true(kl_str_eqz(out->names[2], "yz"));
    assert_true(kl_str_eqz(kl_proto_map_get(out->map, out->n_map, KL_STR("k")), "v"));
    assert_true(kl_str_eqz(kl_proto_map_get(out->map, out->n_map, KL_STR("")), "w"));
    assert_null(kl_proto_map_get(out->map, out->n_map, KL_STR("z")).p);
    assert_null(out->choice_msg);
    assert_true(kl_str_eqz(out->choice_str, "chosen"));
    assert_true(kl_str_eqz(out->far_away, "far"));
    kl_arena_fini(&a);
    kl_buf_fini(&b);
}

static void test_what_is_left_out(void **state)
{
    struct outer in = {0};
    struct kl_buf b;
    kl_buf_init(&b, 1000);
    kl_proto_encode(&b, &outer_desc, &in);
    assert_int_equal(b.n, 0);
    struct inner empty = {0};
    in.one = &empty; // is there, and empty
    kl_proto_encode(&b, &outer_desc, &in);
    assert_int_equal(b.n, 2);
    assert_memory_equal(b.p, "\x22\0", 2);
    kl_buf_fini(&b);
}

static void test_decoding(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct outer *m = DECODE(&a, "\x30\x01\x32\x02\x02\x03\x30\x04"); // packed and not
    assert_int_equal(m->n_nums, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(m->nums[i], i + 1);
    m = DECODE(&a, "\x22\x02\x08\x05\x22\x03\x12\x01z"); // a message in two pieces is one
    assert_int_equal(m->one->n, 5);
    assert_true(kl_str_eqz(m->one->s, "z"));
    m = DECODE(&a, "\x48\x07\x52\x02\x08\x01"); // of a oneof the last counts
    assert_int_equal(m->choice_num, 0);
    assert_int_equal(m->choice_msg->n, 1);
    m = DECODE(&a, "\x52\x02\x08\x01\x48\x07");
    assert_null(m->choice_msg);
    assert_int_equal(m->choice_num, 7);
    // what is not known is skipped: varint, fixed64, bytes, fixed32
    m = DECODE(&a, "\xa0\x06\x01\xa1\x06"
                   "12345678"
                   "\xa2\x06\x02hi\xa5\x06"
                   "1234"
                   "\x10\x09");
    assert_int_equal(m->i, 9);
    m = DECODE(&a, "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    assert_int_equal(m->i, -1);
    kl_arena_fini(&a);
}

static void test_bad_input(void **state)
{
    static const struct kl_str cases[] = {
        KL_STR_INIT("\x08"),     // no value
        KL_STR_INIT("\x00\x01"), // field 0
        KL_STR_INIT("\x22\x05"
                    "ab"),                                               // longer than there is
        KL_STR_INIT("\x0b"),                                             // a group
        KL_STR_INIT("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),     // over 64 bits
        KL_STR_INIT("\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"), // over 10 bytes
        KL_STR_INIT("\x12\x01"
                    "a"),                // bytes for a number
        KL_STR_INIT("\x3a"),             // a string's length
        KL_STR_INIT("\x20\x01"),         // a number for a message
        KL_STR_INIT("\x22\x01\x08"),     // bad within
        KL_STR_INIT("\x32\x02\x01\x80"), // packed, cut off
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_arena a;
        kl_arena_init(&a, 0);
        decode(&a, cases[i].p, cases[i].n, KL_EPROTO);
        kl_arena_fini(&a);
    }
    struct kl_arena small;
    kl_arena_init(&small, 64); // less than the struct takes
    decode(&small, "", 0, KL_ENOMEM);
    kl_arena_fini(&small);
}

static void test_varints(void **state)
{
    static const uint64_t v[] = {0,         1, 127, 128, 16383, 16384, 1ull << 35, UINT64_MAX >> 1,
                                 UINT64_MAX};
    for (size_t i = 0; i < KL_COUNT(v); i++) {
        char buf[16];
        size_t n = (size_t)(kl_proto_put_varint(buf, v[i]) - buf);
        assert_int_equal(n, kl_proto_varint_size(v[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_what_is_left_out),
        cmocka_unit_test(test_decoding),   cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_varints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
