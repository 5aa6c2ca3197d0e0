// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "object/json.h"
#include "object/protobuf.h"
#include "object/protobuf_int.h"

static struct kl_arena arena;

static int setup(void **state)
{
    kl_arena_init(&arena, 64 << 20);
    return 0;
}

static int teardown(void **state)
{
    kl_arena_fini(&arena);
    return 0;
}

#define BYTES(lit) KL_STR(lit)

static struct kl_value decode(enum kl_type_index type, struct kl_str data)
{
    struct kl_value v;
    struct kl_error err = {0};
    if (kl_pb_decode(&arena, kl_type(type), data, &v, &err) < 0)
        fail_msg("%s", err.msg);
    return v;
}

static void check_json(enum kl_type_index type, struct kl_str data, const char *want)
{
    struct kl_value v = decode(type, data);
    struct kl_object *o = kl_object_freeze(kl_type(type), &v);
    struct kl_buf out;
    kl_buf_init(&out, 1 << 20);
    kl_json_encode(&out, kl_type(type), &o->root, KL_STR(""));
    kl_buf_putc(&out, 0);
    assert_string_equal(out.p, want);
    kl_buf_fini(&out);
    kl_object_unref(o);
}

static void check_error(enum kl_type_index type, struct kl_str data, const char *want)
{
    struct kl_value v;
    struct kl_error err = {0};
    assert_int_equal(kl_pb_decode(&arena, kl_type(type), data, &v, &err), KL_EBADREQUEST);
    assert_string_equal(err.msg, want);
}

// Every type fits the codec's frame and its inline messages stand together in by_pb.
static void test_tables(void **state)
{
    for (size_t i = 0; i < kl_ntypes; i++) {
        const struct kl_type *t = kl_types[i];
        assert_true(t->nfields <= KL_PB_MAX_FIELDS);
        for (size_t k = 1; k < t->nfields; k++) {
            unsigned before = kl_pb_number(&t->fields[t->by_pb[k - 1]], 0);
            unsigned here = kl_pb_number(&t->fields[t->by_pb[k]], 0);
            assert_true(here == 0 || (before != 0 && before <= here));
        }
    }
}

// A LocalObjectReference is field 1 of a SecretKeySelector's message and inline in its JSON.
static void test_order_and_merge(void **state)
{
    const enum kl_type_index type = KL_TYPE_core_v1_SecretKeySelector;
    check_json(type, BYTES("\x12\x01k\x0a\x03\x0a\x01n"), "{\"name\":\"n\",\"key\":\"k\"}");
    check_json(type, BYTES("\x0a\x03\x0a\x01n\x12\x01k\x12\x00"), "{\"name\":\"n\",\"key\":\"\"}");
    check_json(type, BYTES("\x18\x01\x0a\x03\x0a\x01n\x0a\x00"),
               "{\"name\":\"n\",\"key\":\"\",\"optional\":true}");
    // two metadata messages are one: name of the first, uid of the second
    struct kl_value pod =
        decode(KL_TYPE_core_v1_Pod, BYTES("\x0a\x03\x0a\x01n\x0a\x05\x2a\x03uid"));
    assert_true(kl_str_eqz(kl_meta_name(&pod), "n"));
    assert_true(kl_str_eqz(kl_meta_uid(&pod), "uid"));
}

static void test_maps(void **state)
{
    // keys c, a, b, a: sorted, the last a wins; an entry without a value is the zero value
    struct kl_value v = decode(KL_TYPE_meta_v1_LabelSelector, BYTES("\x0a\x06\x0a\x01"
                                                                    "c\x12\x01"
                                                                    "1\x0a\x06\x0a\x01"
                                                                    "a\x12\x01"
                                                                    "2\x0a\x03\x0a\x01"
                                                                    "b\x0a\x06\x0a\x01"
                                                                    "a\x12\x01"
                                                                    "3"));
    const struct kl_value *map = kl_get(&v, KL_F_matchLabels);
    assert_int_equal(kl_len(map), 3);
    const char *want[] = {"a", "3", "b", "", "c", "1"};
    for (size_t i = 0; i < 6; i++)
        assert_true(kl_str_eqz(kl_text(&map->items[i]), want[i]));
}

// A thousand keys in falling order, each twice.
static void test_map_sorting(void **state)
{
    struct kl_buf in;
    kl_buf_init(&in, 1 << 20);
    for (int i = 1999; i >= 0; i--)
        kl_buf_printf(&in, "\x0a\x09\x0a\x04%04d\x12\x01%c", i / 2, i & 1 ? 'x' : 'y');
    struct kl_value v = decode(KL_TYPE_meta_v1_LabelSelector, kl_buf_str(&in));
    const struct kl_value *map = kl_get(&v, KL_F_matchLabels);
    assert_int_equal(kl_len(map), 1000);
    for (int i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof(key), "%04d", i);
        assert_true(kl_str_eqz(kl_text(&map->items[2 * i]), key));
        assert_true(kl_str_eqz(kl_text(&map->items[2 * i + 1]), "y"));
    }
    kl_buf_fini(&in);
}

static void test_packed_and_unknown(void **state)
{
    // supplementalGroups (4): packed and not, both are taken; fields 90 to 93 are skipped
    check_json(KL_TYPE_core_v1_PodSecurityContext,
               BYTES("\x22\x02\x01\x02\x20\x03\xd0\x05\x07\xda\x05\x02xx\xe5\x05"
                     "1234\xe3\x05\x08\x01\xe4\x05"),
               "{\"supplementalGroups\":[1,2,3]}");
}

static void test_errors(void **state)
{
    const enum kl_type_index type = KL_TYPE_core_v1_Pod;
    check_error(type, BYTES("\x0a"), "unexpected EOF");
    check_error(type, BYTES("\x0a\x05x"), "unexpected EOF");
    check_error(type, BYTES("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
                "proto: negative length found during unmarshaling");
    check_error(type, BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
                "proto: integer overflow");
    check_error(type, BYTES("\x08\x01"), "proto: wrong wireType = 0 for field ObjectMeta");
    check_error(type, BYTES("\x0c"), "proto: Pod: wiretype end group for non-group");
    check_error(type, BYTES("\x02\x00"), "proto: Pod: illegal tag 0 (wire type 2)");
    check_error(type, BYTES("\xf7\x01"), "proto: illegal wireType 7");
    check_error(type, BYTES("\xf3\x01\x08\x01"), "unexpected EOF"); // a group without its end
    check_error(KL_TYPE_core_v1_ResourceQuotaSpec,
                BYTES("\x0a\x09\x0a\x01"
                      "c\x12\x04\x0a\x02zz"),
                "quantities must match the regular expression "
                "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
}

static void test_embedded_json(void **state)
{
    const enum kl_type_index type = KL_TYPE_apps_v1_ControllerRevision;
    check_error(type, BYTES("\x12\x04\x0a\x02}{"), "RawExtension: invalid JSON");
    struct kl_value v = decode(type, BYTES("\x12\x0c\x0a\x0a{ \"a\": 1 }"));
    assert_true(kl_str_eqz(kl_text_at(&v, KL_F_data), "{\"a\":1}"));
}

// JSONSchemaProps in JSONSchemaProps (not, field 28), n levels deep.
static int decode_nested(size_t levels)
{
    char *buf = malloc(levels * 8 + 8), *end = buf + levels * 8 + 8, *p = end;
    for (size_t i = 0; i < levels; i++) {
        size_t n = (size_t)(end - p);
        char head[8];
        size_t k = 0;
        head[k++] = (char)0xe2;
        head[k++] = 0x01;
        for (; n >= 0x80; n >>= 7)
            head[k++] = (char)(n | 0x80);
        head[k++] = (char)n;
        p -= k;
        memcpy(p, head, k);
    }
    struct kl_value v;
    int rc = kl_pb_decode(&arena, kl_type(KL_TYPE_apiextensions_v1_JSONSchemaProps),
                          (struct kl_str){p, (size_t)(end - p)}, &v, NULL);
    free(buf);
    return rc;
}

static void test_depth(void **state)
{
    assert_int_equal(decode_nested(KL_PB_MAX_DEPTH - 1), 0);
    assert_int_equal(decode_nested(KL_PB_MAX_DEPTH), KL_EBADREQUEST);
    assert_int_equal(decode_nested(100000), KL_EBADREQUEST);
}

static void test_envelope(void **state)
{
    struct kl_envelope e;
    struct kl_error err = {0};
    assert_int_equal(kl_pb_open(BYTES(""), &e, &err), KL_EBADREQUEST);
    assert_string_equal(err.msg, "empty data");
    assert_int_equal(kl_pb_open(BYTES("k8s\0"), &e, &err), KL_EBADREQUEST);
    assert_string_equal(err.msg, "empty body");
    assert_int_equal(kl_pb_open(BYTES("{\"a\":1}"), &e, &err), KL_EBADREQUEST);
    assert_string_equal(err.msg, "provided data does not appear to be a protobuf message, expected "
                                 "prefix [107 56 115 0]");
    assert_int_equal(
        kl_pb_open(BYTES("k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x00\x1a\x01g\x22\x01t"), &e, &err),
        0);
    assert_true(kl_str_eqz(e.api_version, "v1") && kl_str_eqz(e.kind, "Pod"));
    assert_true(kl_str_eqz(e.content_encoding, "g") && kl_str_eqz(e.content_type, "t"));
    assert_int_equal(e.raw.n, 0);
}

static void test_limits(void **state)
{
    // a buffer that is too small says so
    struct kl_value v = decode(KL_TYPE_core_v1_Pod, BYTES("\x0a\x03\x0a\x01n"));
    struct kl_buf out;
    kl_buf_init(&out, 16);
    kl_pb_encode(&out, kl_type(KL_TYPE_core_v1_Pod), &v);
    assert_int_equal(out.err, KL_ELIMIT);
    kl_buf_fini(&out);
    // and so does an arena
    struct kl_arena small;
    kl_arena_init(&small, 4096);
    struct kl_buf in;
    kl_buf_init(&in, 1 << 20);
    for (int i = 0; i < 10000; i++)
        kl_buf_append(&in, "\x1a\x00", 2); // an empty item
    struct kl_error err = {0};
    assert_int_equal(kl_pb_decode(&small, kl_type(KL_TYPE_meta_v1_LabelSelectorRequirement),
                                  kl_buf_str(&in), &v, &err),
                     KL_ENOMEM);
    kl_buf_fini(&in);
    kl_arena_fini(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_order_and_merge),
        cmocka_unit_test(test_maps),
        cmocka_unit_test(test_map_sorting),
        cmocka_unit_test(test_packed_and_unknown),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_embedded_json),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_envelope),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
