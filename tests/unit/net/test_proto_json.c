// SPDX-License-Identifier: Apache-2.0
// Messages as JSON, with a table written by hand: what protojson writes and takes, where a text is
// cut into pieces, and what it says of what does not fit.
#include "net/proto_json.h"
#include "net_test.h"
#include <string.h>

struct thing {
    struct kl_str key, text;
    int64_t n;
    uint64_t id;
    int32_t kind;
    bool is_on;
    uint32_t sum;
    struct thing *parts;
    size_t n_parts;
    struct kl_str *names;
    size_t n_names;
    struct thing *one, *other;
};
#define AT(m) offsetof(struct thing, m)
static const struct kl_proto_desc thing_desc;
static const struct kl_proto_field fields[] = {
    {1, KL_PROTO_STRING, KL_PROTO_BYTES, AT(key), 0, sizeof(struct kl_str), NULL},
    {2, KL_PROTO_STRING, 0, AT(text), 0, sizeof(struct kl_str), NULL},
    {3, KL_PROTO_INT64, 0, AT(n), 0, 8, NULL},
    {4, KL_PROTO_INT64, KL_PROTO_UNSIGNED, AT(id), 0, 8, NULL},
    {5, KL_PROTO_INT32, 0, AT(kind), 0, 4, NULL},
    {6, KL_PROTO_BOOL, 0, AT(is_on), 0, 1, NULL},
    {7, KL_PROTO_UINT32, 0, AT(sum), 0, 4, NULL},
    {8, KL_PROTO_MESSAGE, KL_PROTO_REPEATED, AT(parts), AT(n_parts), sizeof(struct thing),
     &thing_desc},
    {9, KL_PROTO_STRING, KL_PROTO_REPEATED, AT(names), AT(n_names), sizeof(struct kl_str), NULL},
    {20, KL_PROTO_MESSAGE, KL_PROTO_ONEOF, AT(one), 0, sizeof(struct thing), &thing_desc},
    {21, KL_PROTO_MESSAGE, KL_PROTO_ONEOF, AT(other), 0, sizeof(struct thing), &thing_desc},
};
static const struct kl_proto_value kinds[] = {{"NONE", 0}, {"BIG", 1}, {"ODD", -2}, {NULL, 0}};
static const struct kl_proto_name names[] = {
    {"key"},        {"text"},  {"n"},     {"ID"},     {"kind", kinds}, {"is_on"},
    {"hash_sum_x"}, {"parts"}, {"names"}, {"one_of"}, {"other"},
};
static const struct kl_proto_desc thing_desc = {
    "Thing", fields, KL_COUNT(fields), sizeof(struct thing), 1, 1, names};

static int wire_of(struct kl_buf *out, const char *json, struct kl_error *err)
{
    kl_buf_init(out, 1 << 16);
    return kl_proto_from_json(out, &thing_desc, kl_str(json), err);
}

// In pieces of every size.
static void check_json(struct kl_str wire, const char *want)
{
    for (size_t step = 1; step <= wire.n + 1; step++) {
        struct kl_proto_json j;
        struct kl_buf out;
        kl_buf_init(&out, 1 << 16);
        kl_proto_json_begin(&j, &thing_desc, wire.n, &out);
        for (size_t at = 0; at < wire.n; at += step) {
            struct kl_str s = kl_str_from(wire, at);
            s.n = s.n < step ? s.n : step;
            assert_false(kl_proto_json_done(&j));
            assert_int_equal(kl_proto_json_put(&j, s, &out), 0);
        }
        kl_buf_putc(&out, 0);
        assert_string_equal(out.p, want);
        assert_true(kl_proto_json_done(&j));
        kl_buf_fini(&out);
    }
}

static void test_round_trips(void **state)
{
    static const struct {
        const char *json, *back; // NULL: the same
    } cases[] = {
        {"{}", NULL},
        {"{\"key\":\"AAEC\",\"text\":\"a\\\"b\\\\\\n\\u0001\xc3\xa9\"}", NULL},
        {"{\"key\":\"AA==\"}", NULL},
        {"{\"key\":\"AAE=\"}", NULL},
        {"{\"key\":\"-_8\"}", "{\"key\":\"+/8=\"}"},
        {"{\"text\":\"\\u00e9\\ud83d\\ude00\\/\\b\\f\\r\\t\"}",
         "{\"text\":\"\xc3\xa9\xf0\x9f\x98\x80/\\b\\f\\r\\t\"}"},
        {"{\"n\":\"-9223372036854775808\",\"ID\":\"18446744073709551615\",\"kind\":\"ODD\","
         "\"is_on\":true,\"hash_sum_x\":4294967295}",
         NULL},
        {" { \"n\" : -1.50e2 , \"ID\" : 18446744073709551615, \"kind\":1,\"isOn\":true,"
         "\"hashSumX\":\"7\" } ",
         "{\"n\":\"-150\",\"ID\":\"18446744073709551615\",\"kind\":\"BIG\",\"is_on\":true,"
         "\"hash_sum_x\":7}"},
        {"{\"kind\":7}", NULL},
        {"{\"kind\":\"WHAT\",\"n\":0,\"key\":\"\",\"is_on\":false,\"text\":null,\"parts\":[],"
         "\"unknown\":{\"a\":[1,{\"b\":\"}]\"}]}}",
         "{}"},
        {"{\"parts\":[{\"n\":\"1\"},{},{\"parts\":[{\"names\":[\"\",\"x\"]}]}],\"names\":[\"y\"],"
         "\"one_of\":{}}",
         NULL},
        {"{\"oneOf\":null,\"other\":{\"n\":\"2\"}}", "{\"other\":{\"n\":\"2\"}}"},
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_buf wire;
        struct kl_error err = {0};
        if (wire_of(&wire, cases[i].json, &err))
            fail_msg("%s: %s", cases[i].json, err.msg);
        check_json(kl_buf_str(&wire), cases[i].back ? cases[i].back : cases[i].json);
        kl_buf_fini(&wire);
    }
}

// Of a string protojson takes the first token, when that is a number: its answers (v1.36.11).
static void test_quoted_numbers(void **state)
{
    // The string as JSON writes it; NULL: refused.
    static const struct {
        const char *text, *n;
    } cases[] = {
        {"1e", NULL},
        {"1e+", NULL},
        {"1e-", NULL},
        {"1E", NULL},
        {"1e1", "10"},
        {"1e+1", "10"},
        {"1e-1", NULL},
        {"10e-1", "1"},
        {"1.", NULL},
        {"1.0", "1"},
        {".5", NULL},
        {".5e1", NULL},
        {".", NULL},
        {"-", NULL},
        {"-.", NULL},
        {"-0", "0"},
        {"-01", NULL},
        {"01", NULL},
        {"00", NULL},
        {"0", "0"},
        {"+1", NULL},
        {"1 2", "1"},
        {"1 ", NULL},
        {" 1", NULL},
        {"1,", "1"},
        {"1]", "1"},
        {"1}x", "1"},
        {"1:", "1"},
        {"1x", NULL},
        {"1_", NULL},
        {"1-", NULL},
        {"1+", NULL},
        {"1.0.0", NULL},
        {"1e1.0", NULL},
        {"1e1e1", NULL},
        {"", NULL},
        {"null", NULL},
        {"1\\n2", "1"},
        {"1\\u00e92", "1"},
        {"1\\t", NULL},
        {"0e99999999999", "0"},
        {"0.0e5", "0"},
        {"1e2147483648", NULL},
        {"1e18", "1000000000000000000"},
        {"1e19", NULL},
        {"9223372036854775807", "9223372036854775807"},
        {"9223372036854775808", NULL},
        {"-9223372036854775808", "-9223372036854775808"},
        {"12e-1", NULL},
        {"120e-1", "12"},
        {"1.50e2", "150"},
        {"0x1", NULL},
        {"1\\\"", "1"},
        {"\\\"1\\\"", NULL},
        {"1\\u0000", "1"},
        {"1/", "1"},
        {"{", NULL},
        {"1e5,", "100000"},
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        char json[64], back[64];
        struct kl_buf wire;
        struct kl_error err = {0};
        snprintf(json, sizeof(json), "{\"n\":\"%s\"}", cases[i].text);
        int r = wire_of(&wire, json, &err);
        if (!cases[i].n != (r == KL_EBADREQUEST))
            fail_msg("%s: %d %s", json, r, err.msg);
        bool zero = cases[i].n && strcmp(cases[i].n, "0") == 0;
        snprintf(back, sizeof(back), zero ? "{}" : "{\"n\":\"%s\"}", cases[i].n);
        if (!r)
            check_json(kl_buf_str(&wire), back);
        kl_buf_fini(&wire);
    }
}

// The words are protojson's and encoding/json's.
static void test_refusals(void **state)
{
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"", "unexpected EOF"},
        {"[]", "proto: syntax error (line 1:1): unexpected token ["},
        {"{\"key\":1}", "proto: (line 1:8): invalid value for bytes field key: 1"},
        {"{\"key\":\"AAAAA\"}", "proto: (line 1:8): invalid value for bytes field key: \"AAAAA\""},
        {"{\n \"key\":[]}", "proto: (line 2:8): invalid value for bytes field key: ["},
        {"{\"n\":1.5}", "proto: (line 1:6): invalid value for int64 field n: 1.5"},
        {"{\"n\":9223372036854775808}",
         "proto: (line 1:6): invalid value for int64 field n: 9223372036854775808"},
        {"{\"ID\":-1}", "proto: (line 1:7): invalid value for uint64 field ID: -1"},
        {"{\"kind\":true}", "proto: (line 1:9): invalid value for enum field kind: true"},
        {"{\"is_on\":\"true\"}",
         "proto: (line 1:10): invalid value for bool field is_on: \"true\""},
        {"{\"n\":1,\"n\":1}", "proto: (line 1:8): duplicate field \"n\""},
        {"{\"one_of\":{},\"other\":{}}",
         "proto: (line 1:14): error parsing \"other\", oneof is already set"},
        {"{\"parts\":{}}", "proto: syntax error (line 1:10): unexpected token {"},
        {"{\"parts\":[null]}", "proto: syntax error (line 1:11): unexpected token null"},
        {"{\"other\":\"x\"}", "proto: syntax error (line 1:10): unexpected token \"x\""},
        {"{'n':1}", "invalid character '\\'' looking for beginning of object key string"},
        {"{\"n\":1,}", "invalid character '}' looking for beginning of object key string"},
        {"{\"n\" 1}", "invalid character '1' after object key"},
        {"{\"n\":tru}", "invalid character '}' in literal true (expecting 'e')"},
        {"{\"n\":1 2}", "invalid character '2' after object key:value pair"},
        {"{\"x\":[1 2]}", "invalid character '2' after array element"},
        {"{\"text\":\"\\x\"}", "invalid character 'x' in string escape code"},
        {"{\"n\":-}", "invalid character '}' in numeric literal"},
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_buf wire;
        struct kl_error err = {0};
        assert_int_equal(wire_of(&wire, cases[i].json, &err), KL_EBADREQUEST);
        assert_string_equal(err.msg, cases[i].message);
        kl_buf_fini(&wire);
    }
}

static void test_depth(void **state)
{
    char json[2000] = "";
    struct kl_buf wire;
    struct kl_error err;
    for (int i = 0; i < 100; i++)
        strcat(json, "{\"other\":");
    assert_int_equal(wire_of(&wire, json, &err), KL_EBADREQUEST);
    assert_string_equal(err.msg, "unexpected EOF");
    kl_buf_fini(&wire);
    strcat(json, "{}");
    for (int i = 0; i < 100; i++)
        strcat(json, "}");
    assert_int_equal(wire_of(&wire, json, &err), KL_EBADREQUEST);
    assert_string_equal(err.msg, "exceeded max recursion depth");
    kl_buf_fini(&wire);
}

// Also where it is noticed in the midst of a value, the error is told.
static void test_room(void **state)
{
    static const char *const cases[] = {"{\"key\":\"AAAAAAAAAAAAAAAAAAAAAAAA\"}",
                                        "{\"text\":\"more than the buffer takes\",\"n\":1}",
                                        "{\"names\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"]}"};
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_buf wire;
        struct kl_error err = {0};
        kl_buf_init(&wire, 16);
        assert_int_equal(kl_proto_from_json(&wire, &thing_desc, kl_str(cases[i]), &err), KL_ELIMIT);
        assert_int_equal(err.code, KL_ELIMIT);
        assert_string_equal(err.msg, kl_err_text(KL_ELIMIT));
        kl_buf_fini(&wire);
    }
}

static void test_bad_wire(void **state)
{
    static const struct kl_str cases[] = {
        KL_STR_INIT("\x0a\x05"),         // longer than the message
        KL_STR_INIT("\x18\x01\x0a\x01"), // not in order
        KL_STR_INIT("\x08\x01"),         // a number where bytes belong
        KL_STR_INIT("\x1a\x01\x01"),     // and the other way
        KL_STR_INIT("\x0b\x0c"),         // a group
        KL_STR_INIT("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_proto_json j;
        struct kl_buf out;
        kl_buf_init(&out, 1 << 16);
        kl_proto_json_begin(&j, &thing_desc, cases[i].n, &out);
        assert_int_equal(kl_proto_json_put(&j, cases[i], &out), KL_EPROTO);
        kl_buf_fini(&out);
    }
}

static void test_edges(void **state)
{
    static const struct {
        const char *text;
        size_t n; // 0: more is needed
    } cases[] = {
        {"", 0},         {"  ", 0},        {"{}", 2},    {" {\"a\":\"}\\\"\"} {", 12},
        {"{\"a\":[", 0}, {"[{}]{}", 4},    {"1 ", 1},    {"12", 0},
        {"\"a\" b", 3},  {"\"\\\\\"x", 4}, {"true{", 4}, {"]", 1},
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_str s = kl_str(cases[i].text);
        struct kl_json_edge e = {0}, at_once = {0};
        size_t n = 0, all;
        for (size_t at = 0; at <= s.n && !n; at++)
            assert_int_equal(kl_json_edge(&e, (struct kl_str){s.p, at}, false, &n, NULL), 0);
        assert_int_equal(n, cases[i].n);
        assert_int_equal(kl_json_edge(&at_once, s, false, &all, NULL), 0);
        assert_int_equal(all, cases[i].n);
    }
    struct kl_json_edge e = {0};
    size_t n;
    assert_int_equal(kl_json_edge(&e, KL_STR("12"), true, &n, NULL), 0);
    assert_int_equal(n, 2);
    e = (struct kl_json_edge){0};
    assert_int_equal(kl_json_edge(&e, KL_STR("{\"a"), true, &n, NULL), KL_EEOF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips), cmocka_unit_test(test_quoted_numbers),
        cmocka_unit_test(test_refusals),    cmocka_unit_test(test_depth),
        cmocka_unit_test(test_bad_wire),    cmocka_unit_test(test_edges),
        cmocka_unit_test(test_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
