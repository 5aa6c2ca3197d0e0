// SPDX-License-Identifier: Apache-2.0
// Drafts over objects, sharing, canonical form.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "object/json.h"
#include "object/resource.h"

static struct kl_object *freeze_json(struct kl_arena *a, const struct kl_type *t, const char *text)
{
    struct kl_value v;
    struct kl_error err;
    if (kl_json_decode(a, t, kl_str(text), NULL, &v, &err))
        fail_msg("%s", err.msg);
    struct kl_object *o = kl_object_freeze(t, &v);
    assert_non_null(o);
    return o;
}

static void assert_json(const struct kl_type *t, const struct kl_value *v, const char *want)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_json_encode(&b, t, v, KL_STR(""));
    kl_buf_putc(&b, 0);
    assert_string_equal(b.p, want);
    kl_buf_fini(&b);
}

static const struct kl_type *pod(void)
{
    return kl_type(KL_TYPE_core_v1_Pod);
}

static const char pod_text[] =
    "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"spec\":{\"nodeName\":\"n\",\"containers\":[{"
    "\"image\":\"i\","
    "\"name\":\"c\"}]},\"metadata\":{\"name\":\"p\",\"labels\":{\"b\":\"2\",\"a\":\"1\"},"
    "\"namespace\":\"\","
    "\"ownerReferences\":[{\"name\":\"x\"},{\"name\":\"y\",\"controller\":true}]}}";

static void test_reading(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_object *o = freeze_json(&a, pod(), pod_text);
    const struct kl_value *root = &o->root;
    assert_true(kl_str_eqz(kl_meta_name(root), "p"));
    assert_int_equal(kl_meta_namespace(root).n, 0);
    assert_true(kl_str_eqz(kl_text_at(root, KL_F_spec, KL_F_nodeName), "n"));
    assert_true(kl_str_eqz(kl_text(kl_map_value(kl_meta_labels(root), KL_STR("b"))), "2"));
    assert_null(kl_map_value(kl_meta_labels(root), KL_STR("c")));
    assert_true(kl_str_eqz(kl_text(kl_get(kl_meta_controller(root), KL_F_name)), "y"));
    assert_null(kl_get(root, KL_F_kind)); // the type says it
    assert_null(kl_get(NULL, KL_F_kind));
    assert_null(kl_at(kl_path(root, KL_F_spec, KL_F_containers), 1));
    assert_int_equal(kl_len(kl_path(root, KL_F_spec, KL_F_containers)), 1);
    assert_int_equal(kl_int_at(root, 7, KL_F_spec, KL_F_priority), 7);
    assert_false(kl_meta_deleting(root));
    size_t n = 0;
    for (KL_MAP_EACH_KEY(key, kl_meta_labels(root)))
        n += key[0].s[0] == 'a' + (char)n && key[1].s[0] == '1' + (char)n;
    assert_int_equal(n, 2); // sorted
    kl_object_unref(o);
    kl_arena_fini(&a);
}

static void test_editing_leaves_the_object(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_object *o = freeze_json(&a, pod(), pod_text),
                     *same = freeze_json(&a, pod(), pod_text);
    struct kl_value draft = kl_object_draft(o);
    struct kl_value *meta = kl_edit(&a, &draft, KL_F_metadata, KL_STRUCT);
    struct kl_value *labels = kl_edit(&a, meta, KL_F_labels, KL_MAP);
    assert_int_equal(kl_map_set_value(&a, labels, KL_STR("c"), kl_stringz("3")), 0);
    assert_int_equal(kl_map_set_value(&a, labels, KL_STR("a"), kl_stringz("0")), 0);
    assert_int_equal(kl_map_unset(&a, labels, KL_STR("b")), 0);
    assert_int_equal(kl_set(&a, meta, KL_F_generation, kl_int(4)), 0);
    struct kl_value *spec = kl_edit(&a, &draft, KL_F_spec, KL_STRUCT);
    assert_int_equal(kl_unset(&a, spec, KL_F_nodeName), 0);
    struct kl_value *containers = kl_edit(&a, spec, KL_F_containers, KL_ARRAY);
    struct kl_value second = kl_new_struct();
    assert_int_equal(kl_set(&a, &second, KL_F_name, kl_stringz("d")), 0);
    assert_int_equal(kl_append(&a, containers, second), 0);
    struct kl_value *first = kl_edit_at(&a, containers, 0);
    assert_int_equal(kl_set(&a, first, KL_F_image, kl_stringz("j")), 0);
    assert_int_equal(kl_set_default(&a, first, KL_F_image, kl_stringz("k")), 0);
    assert_int_equal(kl_set_default(&a, first, KL_F_workingDir, kl_stringz("/")), 0);
    // What was passed in is shared and never changed through the draft.
    struct kl_value *last = kl_edit_at(&a, containers, 1);
    assert_int_equal(kl_set(&a, last, KL_F_name, kl_stringz("e")), 0);
    assert_true(kl_str_eqz(kl_text(kl_get(&second, KL_F_name)), "d"));
    struct kl_object *changed = kl_object_freeze(pod(), &draft);
    assert_json(
        pod(), &changed->root,
        "{\"metadata\":{\"name\":\"p\",\"generation\":4,\"labels\":{\"a\":\"0\",\"c\":\"3\"},"
        "\"ownerReferences\":[{\"apiVersion\":\"\",\"kind\":\"\",\"name\":\"x\",\"uid\":\"\"},"
        "{\"apiVersion\":\"\",\"kind\":\"\",\"name\":\"y\",\"uid\":\"\",\"controller\":true}]},"
        "\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"j\",\"workingDir\":\"/\","
        "\"resources\":{}},{\"name\":\"e\",\"resources\":{}}]},\"status\":{}}");
    assert_true(kl_value_equal(&o->root, &same->root));
    assert_false(kl_value_equal(&o->root, &changed->root));
    kl_object_unref(changed);
    kl_object_unref(same);
    kl_object_unref(o);
    kl_arena_fini(&a);
}

static void test_growth(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_value array = kl_new_array(), map = kl_new_map();
    for (int i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%03d", (i * 7) % 1000);
        assert_int_equal(kl_append(&a, &array, kl_int(i)), 0);
        assert_int_equal(kl_map_set_value(&a, &map, kl_arena_dup(&a, kl_str(key)), kl_int(i)), 0);
    }
    for (size_t i = 0; i < 500; i++)
        assert_int_equal(kl_remove_at(&a, &array, i), 0); // every other one
    assert_int_equal(array.n, 500);
    assert_int_equal(kl_at(&array, 499)->i, 999);
    struct kl_value copy;
    assert_int_equal(kl_copy(&a, &map, &copy), 0);
    assert_true(kl_value_equal(&map, &copy));
    assert_int_equal(kl_map_unset(&a, &copy, KL_STR("k500")), 0);
    assert_int_equal(map.n, 1000);
    assert_false(kl_value_equal(&map, &copy));
    struct kl_object *o = kl_object_freeze(NULL, &map);
    for (size_t i = 1; i < o->root.n; i++)
        assert_true(kl_str_cmp(kl_text(&o->root.items[2 * i - 2]), kl_text(&o->root.items[2 * i])) <
                    0);
    assert_true(kl_value_equal(&map, &o->root));
    kl_object_unref(o);
    kl_arena_fini(&a);
}

static void test_no_memory(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 64);
    struct kl_value root = kl_new_struct();
    struct kl_value *meta = kl_edit(&a, &root, KL_F_metadata, KL_STRUCT);
    struct kl_value *labels = kl_edit(&a, meta, KL_F_labels, KL_MAP);
    assert_int_equal(kl_map_set_value(&a, labels, KL_STR("a"), kl_int(1)), KL_ENOMEM);
    assert_int_equal(kl_append(&a, NULL, kl_int(1)), KL_ENOMEM);
    kl_arena_fini(&a);
}

// What Go could not tell from unset is absent.
static void test_canonical(void **state)
{
    static const struct {
        enum kl_type_index type;
        const char *in, *same;
    } cases[] = {
        {KL_TYPE_core_v1_Pod,
         "{\"metadata\":{\"creationTimestamp\":null,\"labels\":{},\"generation\":0},\"spec\":{"
         "\"containers\":[],\"hostNetwork\":false,\"nodeName\":\"\",\"securityContext\":{}}}",
         "{\"spec\":{\"securityContext\":{}}}"},
        {KL_TYPE_apps_v1_Deployment, "{\"spec\":{\"replicas\":0,\"template\":{\"metadata\":{}}}}",
         "{\"spec\":{\"replicas\":0}}"},
        {KL_TYPE_core_v1_Container, "{\"livenessProbe\":{\"httpGet\":{\"port\":0}}}",
         "{\"livenessProbe\":{\"httpGet\":{}}}"},
        {KL_TYPE_core_v1_ObjectReference, "{\"kind\":\"Pod\",\"name\":\"\"}", "{\"kind\":\"Pod\"}"},
    };
    struct kl_arena a;
    kl_arena_init(&a, 0);
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        const struct kl_type *t = kl_type(cases[i].type);
        struct kl_object *x = freeze_json(&a, t, cases[i].in),
                         *y = freeze_json(&a, t, cases[i].same);
        assert_true(kl_value_equal(&x->root, &y->root));
        assert_int_equal(x->size_bytes, y->size_bytes);
        // A frozen object is its own canonical form.
        struct kl_object *z = kl_object_freeze(t, &x->root);
        assert_true(kl_value_equal(&x->root, &z->root));
        assert_int_equal(x->size_bytes, z->size_bytes);
        kl_object_unref(z);
        kl_object_unref(x);
        kl_object_unref(y);
    }
    kl_arena_fini(&a);
}

static void test_references(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_object *o = freeze_json(&a, pod(), pod_text);
    kl_arena_fini(&a); // the object needs neither the arena nor the text
    assert_ptr_equal(kl_object_ref(o), o);
    kl_object_unref(o);
    assert_true(kl_str_eqz(kl_meta_name(&o->root), "p"));
    kl_object_unref(o);
    kl_object_unref(NULL);
    assert_null(kl_object_ref(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading),   cmocka_unit_test(test_editing_leaves_the_object),
        cmocka_unit_test(test_growth),    cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_canonical), cmocka_unit_test(test_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
