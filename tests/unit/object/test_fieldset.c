// SPDX-License-Identifier: Apache-2.0
// Field sets and their text, and what apply does with single values: the cases of upstream's tables
// that the recorded sequences (test_apply_vectors.c) do not reach.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "object/apply/managed.h"
#include "object/apply/typed.h"
#include "object/json.h"

static struct kl_arena arena;

static int setup(void **state)
{
    (void)state;
    kl_arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kl_arena_fini(&arena);
    return 0;
}

static const struct kl_fieldset *set(const char *text)
{
    const struct kl_fieldset *s = NULL;
    struct kl_error err = {0};
    if (kl_fieldset_parse(&arena, kl_str(text), &s, &err))
        fail_msg("%s: %s", text, err.msg);
    return s;
}

static const char *text_of(const struct kl_fieldset *s)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_fieldset_write(&b, s);
    kl_buf_putc(&b, 0);
    const char *z = kl_arena_dup(&arena, kl_buf_str(&b)).p;
    kl_buf_fini(&b);
    return z;
}

static void is_set(const struct kl_fieldset *s, const char *want)
{
    assert_string_equal(text_of(s), want);
}

// ---- FieldsV1

static void order_and_escapes(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{}", "{}"},
        {"null", "{}"},
        {" { \"f:b\" : { } , \"f:a\" : {} } ", "{\"f:a\":{},\"f:b\":{}}"},
        // fields, keys, values, indexes
        {"{\"i:1\":{},\"v:1\":{},\"k:{\\\"a\\\":1}\":{},\"f:z\":{}}",
         "{\"f:z\":{},\"k:{\\\"a\\\":1}\":{},\"v:1\":{},\"i:1\":{}}"},
        // numbers before strings before booleans before null
        {"{\"v:null\":{},\"v:true\":{},\"v:\\\"a\\\"\":{},\"v:2\":{},\"v:1.5\":{}}",
         "{\"v:1.5\":{},\"v:2\":{},\"v:\\\"a\\\"\":{},\"v:true\":{},\"v:null\":{}}"},
        // the fields of a key by name
        {"{\"k:{\\\"b\\\":1,\\\"a\\\":\\\"x\\\"}\":{}}",
         "{\"k:{\\\"a\\\":\\\"x\\\",\\\"b\\\":1}\":{}}"},
        // values as JSON within the name, for HTML as Go does; names as they are
        {"{\"f:a<b\":{},\"v:\\\"a<b\\\"\":{}}", "{\"f:a<b\":{},\"v:\\\"a\\\\u003cb\\\"\":{}}"},
        {"{\"f:\\u0041\\n\":{}}", "{\"f:A\\n\":{}}"},
        // the same twice
        {"{\"f:a\":{\"f:b\":{}},\"f:a\":{\"f:c\":{}}}", "{\"f:a\":{\"f:b\":{},\"f:c\":{}}}"},
        // kinds that nobody knows are left out, with what is below them
        {"{\"x:a\":{\"f:b\":[1,\"}\",{\"c\":{}}]},\"f:a\":{}}", "{\"f:a\":{}}"},
        {"{\"f:a\":{\".\":{},\"f:b\":{}}}", "{\"f:a\":{\".\":{},\"f:b\":{}}}"},
        {"{\"f:a\":{\"x:b\":{}}}", "{\"f:a\":{}}"},
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++)
        is_set(set(cases[i][0]), cases[i][1]);
}

static void refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "[]",
        "{",
        "{\"f:a\":{}",
        "{\"f:a\":1}",
        "{\"f\":{}}",
        "{\"fa\":{}}",
        "{\"v:x\":{}}",
        "{\"v:1 2\":{}}",
        "{\"i:x\":{}}",
        "{\"k:1\":{}}",
        "{\"k:{\":{}}",
        "{} {}",
        "{\"f:a\":{},}",
        "{\"f:\\x\":{}}",
        "{f:a:{}}",
        "{\"f:a\" {}}",
        "{\"f:a\":{}]",
        "{\"f:\\ud83\":{}}",
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        const struct kl_fieldset *s;
        struct kl_error err = {0};
        if (kl_fieldset_parse(&arena, kl_str(cases[i]), &s, &err) != KL_EBADREQUEST)
            fail_msg("%s is taken", cases[i]);
    }
}

static void depth_is_bounded(void **state)
{
    (void)state;
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    for (int n = KL_FIELDSET_DEPTH; n <= KL_FIELDSET_DEPTH + 1; n++) {
        const struct kl_fieldset *s;
        struct kl_error err = {0};
        kl_buf_clear(&b);
        for (int i = 0; i < n; i++)
            kl_buf_puts(&b, KL_STR("{\"f:a\":"));
        kl_buf_puts(&b, KL_STR("{}"));
        for (int i = 0; i < n; i++)
            kl_buf_putc(&b, '}');
        int rc = kl_fieldset_parse(&arena, kl_buf_str(&b), &s, &err);
        assert_int_equal(rc, n > KL_FIELDSET_DEPTH ? KL_EBADREQUEST : 0);
    }
    kl_buf_fini(&b);
}

// ---- operations

static void operations(void **state)
{
    (void)state;
    const struct kl_fieldset *s = set("{\"f:a\":{\".\":{},\"f:x\":{},\"f:y\":{}},\"f:b\":{}}");
    const struct kl_fieldset *t = set("{\"f:a\":{\"f:x\":{}},\"f:c\":{}}");
    is_set(kl_fieldset_union(&arena, s, t),
           "{\"f:a\":{\".\":{},\"f:x\":{},\"f:y\":{}},\"f:b\":{},\"f:c\":{}}");
    is_set(kl_fieldset_intersection(&arena, s, t), "{\"f:a\":{\"f:x\":{}}}");
    is_set(kl_fieldset_difference(&arena, s, t), "{\"f:a\":{\".\":{},\"f:y\":{}},\"f:b\":{}}");
    is_set(kl_fieldset_difference(&arena, t, s), "{\"f:c\":{}}");
    is_set(kl_fieldset_difference(&arena, s, set("{\"f:a\":{}}")),
           "{\"f:a\":{\"f:x\":{},\"f:y\":{}},\"f:b\":{}}");
    is_set(kl_fieldset_recursive_difference(&arena, s, set("{\"f:a\":{}}")), "{\"f:b\":{}}");
    is_set(kl_fieldset_leaves(&arena, s), "{\"f:a\":{\"f:x\":{},\"f:y\":{}},\"f:b\":{}}");
    assert_null(kl_fieldset_difference(&arena, s, s));
    assert_null(kl_fieldset_intersection(&arena, s, NULL));
    assert_int_equal(kl_fieldset_size(s), 4);
    assert_true(kl_fieldset_meets(s, t));
    assert_false(kl_fieldset_covers(s, t));
    assert_true(kl_fieldset_covers(s, set("{\"f:a\":{\"f:y\":{}}}")));
}

static void texts_are_skipped(void **state)
{
    (void)state;
    struct kl_str text = KL_STR("{\"f:metadata\":{\"f:labels\":{\".\":{},\"f:a\":{}}},\"f:spec\":{"
                                "\"f:containers\":{\"k:{\\\"name\\\":\\\"}\\\"}\":{}}}}");
    assert_false(kl_fieldset_text_may_meet(text, set("{\"f:status\":{}}")));
    assert_false(kl_fieldset_text_may_meet(text, set("{\"f:metadata\":{\"f:annotations\":{}}}")));
    assert_false(kl_fieldset_text_may_meet(text, set("{\"f:metadata\":{}}")));
    assert_true(kl_fieldset_text_may_meet(text, set("{\"f:metadata\":{\"f:labels\":{}}}")));
    assert_true(kl_fieldset_text_may_meet(text, set("{\"f:spec\":{\"f:containers\":{\"k:{\\\"name"
                                                    "\\\":\\\"}\\\"}\":{}}}}")));
}

static void out_of_memory(void **state)
{
    (void)state;
    const char *text = "{\"f:a\":{\"f:b\":{},\"k:{\\\"n\\\":1}\":{\"f:c\":{}}},\"f:d\":{}}";
    bool passed = false;
    for (size_t max = 16; max < 4096 && !passed; max += 16) {
        struct kl_arena small;
        const struct kl_fieldset *s;
        struct kl_error err;
        kl_arena_init(&small, max);
        int rc = kl_fieldset_parse(&small, kl_str(text), &s, &err);
        assert_true(rc == 0 || rc == KL_ENOMEM);
        if (!rc) {
            const struct kl_fieldset *u = kl_fieldset_union(&small, s, set("{\"f:z\":{}}"));
            passed = u != &kl_fieldset_oom;
            assert_true(!passed || kl_fieldset_size(u) == 4 || kl_fieldset_size(u) == 5);
        }
        kl_arena_fini(&small);
    }
    assert_true(passed);
}

// ---- values by a schema

static struct kl_value parse(const char *json)
{
    struct kl_value v;
    struct kl_error err = {0};
    if (kl_json_parse(&arena, kl_str(json), NULL, &v, &err) || kl_typed_sort(&arena, &v))
        fail_msg("%s: %s", json, err.msg);
    return v;
}

static const char *merged(const char *under, const char *over)
{
    struct kl_value l = parse(under), r = parse(over), out;
    struct kl_error err = {0};
    const struct kl_type *pod = kl_type(KL_TYPE_core_v1_PodSpec);
    if (kl_typed_merge(&arena, pod, &l, &r, &out, &err))
        return kl_arena_dup(&arena, kl_str(err.msg)).p;
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_json_write(&b, &out);
    kl_buf_putc(&b, 0);
    const char *z = kl_arena_dup(&arena, kl_buf_str(&b)).p;
    kl_buf_fini(&b);
    return z;
}

#define ITEMS(...) "{\"containers\":[" __VA_ARGS__ "]}"
#define N(x) "{\"name\":\"" x "\"}"

// Lists with keys come in the order of the configuration, what it does not say in its old place.
static void order_of_lists(void **state)
{
    (void)state;
    assert_string_equal(merged(ITEMS(N("a") "," N("b") "," N("c")), ITEMS(N("c") "," N("a"))),
                        ITEMS(N("b") "," N("c") "," N("a")));
    assert_string_equal(merged(ITEMS(N("a") "," N("b")), ITEMS(N("c"))),
                        ITEMS(N("a") "," N("b") "," N("c")));
    assert_string_equal(
        merged(ITEMS(N("a") "," N("b") "," N("c")), ITEMS(N("a") "," N("x") "," N("c"))),
        ITEMS(N("a") "," N("b") "," N("x") "," N("c")));
    assert_string_equal(merged(ITEMS(N("a")), ITEMS()), ITEMS(N("a")));
    assert_string_equal(merged("{\"containers\":null}", ITEMS()), ITEMS());
    // Duplicates that are there already give way to the one that is applied.
    assert_string_equal(
        merged(ITEMS("{\"name\":\"a\",\"image\":\"1\"},{\"name\":\"a\",\"image\":\"2\"}"),
               ITEMS("{\"name\":\"a\",\"image\":\"3\"}")),
        ITEMS("{\"image\":\"3\",\"name\":\"a\"}"));
    assert_string_equal(merged(ITEMS(N("a")), ITEMS(N("b") "," N("b"))),
                        "duplicate entries for key [name=\"b\"]");
    // atomic
    assert_string_equal(
        merged("{\"nodeSelector\":{\"a\":\"1\"},\"tolerations\":[{\"key\":\"a\"}]}",
               "{\"nodeSelector\":{\"b\":\"2\"},\"tolerations\":[{\"key\":\"b\"}]}"),
        "{\"nodeSelector\":{\"b\":\"2\"},\"tolerations\":[{\"key\":\"b\"}]}");
}

static const char *complaint(const char *json)
{
    struct kl_value v = parse(json);
    struct kl_error err = {0};
    kl_typed_validate(&arena, kl_type(KL_TYPE_core_v1_PodSpec), &v, false, &err);
    return kl_arena_dup(&arena, kl_str(err.msg)).p;
}

static void findings(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {ITEMS(N("a")), ""},
        {"{\"x\":1}", ".x: field not declared in schema"},
        {"{\"hostNetwork\":1}", ".hostNetwork: expected boolean, got &{1}"},
        {"{\"priority\":\"1\"}", ".priority: expected numeric (int or float), got string"},
        {"{\"nodeName\":{\"a\":[1,\"b\"]}}",
         ".nodeName: expected string, got &value.valueUnstructured{Value:map[string]interface {}"
         "{\"a\":[]interface {}{1, \"b\"}}}"},
        {"{\"containers\":{}}", ".containers: expected list, got &{map[]}"},
        {"{\"securityContext\":[]}", ".securityContext: expected map, got &{[]}"},
        {"{\"priority\":null,\"containers\":null}", ""},
        {ITEMS("1"),
         ".containers: element 0: associative list with keys may not have non-map elements"},
        {ITEMS("null"),
         ".containers: element 0: associative list with keys may not have a null element"},
        {ITEMS("{\"name\":\"a\",\"ports\":[{\"containerPort\":1},{\"containerPort\":1,\"protocol\":"
               "\"TCP\"}]}"),
         ".containers[name=\"a\"].ports: duplicate entries for key "
         "[containerPort=1,protocol=\"TCP\"]"},
        {"{\"x\":1,\"y\":2}",
         "errors:\n  .x: field not declared in schema\n  .y: field not declared in schema"},
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++)
        assert_string_equal(complaint(cases[i][0]), cases[i][1]);
}

// What was granular and is atomic now is owned as a whole.
static void older_schemas(void **state)
{
    (void)state;
    const struct kl_type *pod = kl_type(KL_TYPE_core_v1_PodSpec);
    is_set(kl_typed_reconcile(&arena, pod,
                              set("{\"f:nodeSelector\":{\"f:a\":{}},\"f:containers\":{\"k:{\\\"name"
                                  "\\\":\\\"a\\\"}\":{\"f:image\":{}}}}")),
           "{\"f:containers\":{\"k:{\\\"name\\\":\\\"a\\\"}\":{\"f:image\":{}}},\"f:nodeSelector\":"
           "{}}");
    const struct kl_fieldset *s = set("{\"f:nodeSelector\":{}}");
    assert_ptr_equal(kl_typed_reconcile(&arena, pod, s), s);
    is_set(kl_typed_name_members(&arena, pod, set("{\"f:securityContext\":{\"f:runAsUser\":{}}}")),
           "{\"f:securityContext\":{\".\":{},\"f:runAsUser\":{}}}");
}

static void has_fields(const struct kl_type *type, const char *json, const char *fields)
{
    struct kl_value v;
    const struct kl_fieldset *s = NULL;
    struct kl_error err = {0};
    assert_int_equal(kl_json_parse(&arena, kl_str(json), NULL, &v, &err), 0);
    assert_int_equal(kl_typed_sort(&arena, &v), 0);
    assert_int_equal(kl_typed_fieldset(&arena, type, &v, &s), 0);
    is_set(s, fields);
}

// An object reference has one owner, but for a volume's claim; a claim's statuses have one each.
static void granular(void **state)
{
    (void)state;
    has_fields(kl_type(KL_TYPE_core_v1_PersistentVolumeSpec),
               "{\"claimRef\":{\"name\":\"b\",\"namespace\":\"a\"}}",
               "{\"f:claimRef\":{\"f:name\":{},\"f:namespace\":{}}}");
    has_fields(kl_type(KL_TYPE_core_v1_Event),
               "{\"involvedObject\":{\"name\":\"b\",\"namespace\":\"a\"}}",
               "{\"f:involvedObject\":{}}");
    has_fields(kl_type(KL_TYPE_core_v1_PersistentVolumeClaimStatus),
               "{\"allocatedResourceStatuses\":{\"storage\":\"NodeResizePending\"}}",
               "{\"f:allocatedResourceStatuses\":{\"f:storage\":{}}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(order_and_escapes, setup, teardown),
        cmocka_unit_test_setup_teardown(refused, setup, teardown),
        cmocka_unit_test_setup_teardown(depth_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(operations, setup, teardown),
        cmocka_unit_test_setup_teardown(texts_are_skipped, setup, teardown),
        cmocka_unit_test_setup_teardown(out_of_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(order_of_lists, setup, teardown),
        cmocka_unit_test_setup_teardown(findings, setup, teardown),
        cmocka_unit_test_setup_teardown(older_schemas, setup, teardown),
        cmocka_unit_test_setup_teardown(granular, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
