// SPDX-License-Identifier: Apache-2.0
// Names and conditions of definitions, rows made from them, the order of versions.
#include "apiserver/crd/crd.h"
#include "object/json.h"
#include "store/backend.h"
#include <stdlib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define NOW 1700000000000000

static struct kl_value parse(struct kl_arena *a, const char *json)
{
    struct kl_value v;
    struct kl_error err = {0};
    const struct kl_type *t = kl_type(KL_TYPE_apiextensions_v1_CustomResourceDefinition);
    if (kl_json_decode(a, t, kl_str(json), NULL, &v, &err))
        fail_msg("%s", err.msg);
    return v;
}

static struct kl_str condition(const struct kl_value *crd, const char *type, kl_sym field)
{
    for (KL_EACH(c, kl_path(crd, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_type)), type))
            return kl_text(kl_get(c, field));
    return KL_STR("");
}

#define assert_text(got, want)                                                                     \
    do {                                                                                           \
        struct kl_str g = (got);                                                                   \
        if (!kl_str_eqz(g, want))                                                                  \
            fail_msg("got \"%.*s\", want \"%s\"", KL_PRI(g), want);                                \
    } while (0)

static const char fresh[] =
    "{\"metadata\":{\"name\":\"foos.a.io\"},\"spec\":{\"group\":\"a.io\",\"scope\":\"Namespaced\","
    "\"names\":{\"plural\":\"foos\",\"singular\":\"foo\",\"kind\":\"Foo\",\"listKind\":\"FooList\","
    "\"shortNames\":[\"f\",\"fo\"]},\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":"
    "true}]"
    "}}";

static void test_accepted(void **state)
{
    struct kl_arena a;
    struct kl_crd_names none;
    (void)state;
    kl_arena_init(&a, 1 << 20);
    kl_crd_names_init(&none);
    struct kl_value crd = parse(&a, fresh);
    assert_int_equal(kl_crd_conditions(&a, &crd, &none, NOW), 1);
    assert_text(condition(&crd, "NamesAccepted", KL_F_status), "True");
    assert_text(condition(&crd, "NamesAccepted", KL_F_reason), "NoConflicts");
    assert_text(condition(&crd, "Established", KL_F_status), "True");
    assert_text(condition(&crd, "Established", KL_F_reason), "InitialNamesAccepted");
    assert_text(kl_text_at(&crd, KL_F_status, KL_F_acceptedNames, KL_F_kind), "Foo");
    // Once so, nothing changes any more.
    assert_int_equal(kl_crd_conditions(&a, &crd, &none, NOW + 1000000), 0);
    kl_crd_names_fini(&none);
    kl_arena_fini(&a);
}

static void test_conflicts(void **state)
{
    static const struct {
        const char *taken, *reason, *message;
        bool kind;
    } rows[] = {
        {"foos", "PluralConflict", "\"foos\" is already in use", false},
        {"foo", "SingularConflict", "\"foo\" is already in use", false},
        {"fo", "ShortNamesConflict", "\"fo\" is already in use", false},
        {"Foo", "KindConflict", "\"Foo\" is already in use", true},
        {"FooList", "ListKindConflict", "\"FooList\" is already in use", true},
    };
    (void)state;
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_arena a;
        struct kl_crd_names taken;
        struct kl_value other = kl_new_struct();
        kl_arena_init(&a, 1 << 20);
        kl_crd_names_init(&taken);
        kl_set(&a, &other, rows[i].kind ? KL_F_kind : KL_F_plural, kl_stringz(rows[i].taken));
        assert_int_equal(kl_crd_names_take(&taken, &other), 0);
        struct kl_value crd = parse(&a, fresh);
        assert_int_equal(kl_crd_conditions(&a, &crd, &taken, NOW), 1);
        assert_text(condition(&crd, "NamesAccepted", KL_F_status), "False");
        assert_text(condition(&crd, "NamesAccepted", KL_F_reason), rows[i].reason);
        assert_text(condition(&crd, "NamesAccepted", KL_F_message), rows[i].message);
        assert_text(condition(&crd, "Established", KL_F_reason), "NotAccepted");
        kl_crd_names_fini(&taken);
        kl_arena_fini(&a);
    }
}

static void test_approval(void **state)
{
    static const struct {
        const char *note, *status, *reason, *message;
    } rows[] = {
        {"", "False", "MissingAnnotation",
         "protected groups must have approval annotation \"api-approved.kubernetes.io\", see "
         "https://github.com/kubernetes/enhancements/pull/1111"},
        {"unapproved, later", "False", "UnapprovedAnnotation",
         "not approved: \"unapproved, later\""},
        {"https://example.com/1", "True", "ApprovedAnnotation",
         "approved in https://example.com/1"},
        {"yes", "False", "InvalidAnnotation",
         "protected groups must have approval annotation \"api-approved.kubernetes.io\" with "
         "either "
         "a URL or a reason starting with \"unapproved\", see "
         "https://github.com/kubernetes/enhancements/pull/1111"},
    };
    static const char type[] = "KubernetesAPIApprovalPolicyConformant";
    (void)state;
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_arena a;
        struct kl_crd_names none;
        kl_arena_init(&a, 1 << 20);
        kl_crd_names_init(&none);
        struct kl_value crd = parse(&a, fresh);
        kl_set(&a, kl_edit(&a, &crd, KL_F_spec, KL_STRUCT), KL_F_group, kl_stringz("x.k8s.io"));
        kl_map_set_value(
            &a, kl_edit(&a, kl_edit(&a, &crd, KL_F_metadata, KL_STRUCT), KL_F_annotations, KL_MAP),
            KL_STR("api-approved.kubernetes.io"), kl_stringz(rows[i].note));
        assert_int_equal(kl_crd_conditions(&a, &crd, &none, NOW), 1);
        assert_text(condition(&crd, type, KL_F_status), rows[i].status);
        assert_text(condition(&crd, type, KL_F_reason), rows[i].reason);
        assert_text(condition(&crd, type, KL_F_message), rows[i].message);
        kl_crd_names_fini(&none);
        kl_arena_fini(&a);
    }
}

static void test_rows(void **state)
{
    struct kl_arena a;
    struct kl_error err = {0};
    struct kl_custom_family *f = NULL;
    (void)state;
    kl_arena_init(&a, 1 << 20);
    struct kl_value crd = parse(
        &a,
        "{\"metadata\":{\"name\":\"foos.a.io\",\"uid\":\"u\",\"generation\":3},\"spec\":{\"group\":"
        "\"a.io\",\"scope\":\"Cluster\",\"names\":{\"kind\":\"Foo\"},\"versions\":[{\"name\":"
        "\"v1beta1\",\"served\":true,\"storage\":false,\"deprecated\":true},{\"name\":\"v1\","
        "\"served\":true,\"storage\":true,\"subresources\":{\"status\":{}}},{\"name\":\"v2alpha1\","
        "\"served\":false,\"storage\":false}]},\"status\":{\"acceptedNames\":{\"plural\":\"foos\","
        "\"singular\":\"foo\",\"kind\":\"Foo\",\"listKind\":\"Foos\",\"shortNames\":[\"f\"]}}}");
    if (kl_custom_family_new(&crd, true, &f, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(f->nrows, 3);
    const struct kl_resource *v1 = kl_custom_row(f, KL_STR("v1"));
    const struct kl_resource *old = kl_custom_row(f, KL_STR("v1beta1"));
    assert_ptr_equal(f->storage, v1);
    assert_string_equal(v1->etcd_prefix, "/registry/a.io/foos");
    assert_string_equal(v1->api_version, "a.io/v1");
    assert_string_equal(v1->custom->list_kind, "Foos");
    assert_false(v1->namespaced);
    assert_non_null(kl_resource_sub(v1, KL_STR("status")));
    assert_null(kl_resource_sub(old, KL_STR("status")));
    assert_null(kl_resource_sub(v1, KL_STR("scale")));
    assert_string_equal(old->custom->warning, "a.io/v1beta1 Foo is deprecated; use a.io/v1 Foo");
    assert_null(v1->custom->warning);
    assert_false(kl_custom_row(f, KL_STR("v2alpha1"))->custom->served);
    assert_null(kl_custom_row(f, KL_STR("v3")));
    kl_custom_family_unref(f);
    kl_arena_fini(&a);
}

// What hangs on a version is counted where the store's budget sees it, and taken back to the byte.
static void test_memory(void **state)
{
    struct kl_arena a;
    struct kl_error err = {0};
    struct kl_custom_family *f = NULL;
    (void)state;
    kl_arena_init(&a, 1 << 20);
    struct kl_value crd = parse(
        &a,
        "{\"metadata\":{\"name\":\"foos.a.io\",\"uid\":\"u\"},\"spec\":{\"group\":\"a.io\","
        "\"scope\":\"Cluster\",\"names\":{\"kind\":\"Foo\"},\"versions\":[{\"name\":\"v1\","
        "\"served\":true,\"storage\":true},{\"name\":\"v2\",\"served\":true,\"storage\":false}]},"
        "\"status\":{\"acceptedNames\":{\"plural\":\"foos\",\"kind\":\"Foo\"}}}");
    if (kl_custom_family_new(&crd, true, &f, &err))
        fail_msg("%s", err.msg);
    struct kl_home *home = calloc(1, sizeof *home);
    struct kl_bytes *value = kl_bytes_new(
        KL_STR("{\"apiVersion\":\"a.io/v1\",\"kind\":\"Foo\",\"metadata\":{\"name\":\"x\"}}"));
    struct kl_kv *kv = kl_kv_new(KL_STR("/registry/a.io/foos/x"), value);
    assert_non_null(home);
    assert_non_null(kv);
    atomic_init(&home->refs, 1);
    kv->hooks = &kl_cache_hooks;
    kv->mod_rev = 7;
    kl_kv_charge(kv, home);
    assert_int_equal(home->attached, 0);
    struct kl_object *v1 = kl_cache_object(kv, kl_custom_row(f, KL_STR("v1")), &err);
    assert_non_null(v1);
    long long one = home->attached;
    assert_true(one >= (long long)v1->size_bytes);
    struct kl_bytes *json = kl_cache_json(kv, kl_custom_row(f, KL_STR("v1")), &err);
    assert_non_null(json);
    assert_int_equal(home->attached, one + (long long)json->n);
    struct kl_object *v2 = kl_cache_object(kv, kl_custom_row(f, KL_STR("v2")), &err);
    assert_non_null(v2);
    assert_true(home->attached >= one + (long long)(json->n + v2->size_bytes));
    long long all = home->attached; // asked again, they are there
    assert_ptr_equal(kl_cache_object(kv, kl_custom_row(f, KL_STR("v2")), &err), v2);
    assert_ptr_equal(kl_cache_json(kv, kl_custom_row(f, KL_STR("v1")), &err), json);
    assert_int_equal(home->attached, all);
    kl_kv_unref(kv);
    assert_int_equal(home->attached, 0);
    kl_bytes_unref(value);
    kl_home_unref(home);
    kl_custom_family_unref(f);
    kl_arena_fini(&a);
}

// A definition that changes again and again leaves nothing of its older forms on an object that
// does not, whoever made them.
static void test_generations(void **state)
{
    struct kl_error err = {0};
    struct kl_home *home = calloc(1, sizeof *home);
    struct kl_bytes *value = kl_bytes_new(
        KL_STR("{\"apiVersion\":\"a.io/v1\",\"kind\":\"Foo\",\"metadata\":{\"name\":\"x\"}}"));
    struct kl_kv *kv = kl_kv_new(KL_STR("/registry/a.io/foos/x"), value);
    long long once = 0;
    (void)state;
    assert_non_null(home);
    assert_non_null(kv);
    atomic_init(&home->refs, 1);
    kv->hooks = &kl_cache_hooks;
    kv->mod_rev = 7;
    kl_kv_charge(kv, home);
    for (int generation = 0; generation < 50; generation++) {
        struct kl_arena a;
        struct kl_custom_family *f = NULL;
        kl_arena_init(&a, 1 << 20);
        struct kl_value crd = parse(
            &a, "{\"metadata\":{\"name\":\"foos.a.io\",\"uid\":\"u\"},\"spec\":{\"group\":\"a.io\","
                "\"scope\":\"Cluster\",\"names\":{\"kind\":\"Foo\"},\"versions\":[{\"name\":\"v1\","
                "\"served\":true,\"storage\":true},{\"name\":\"v2\",\"served\":true,\"storage\":"
                "false}]},"
                "\"status\":{\"acceptedNames\":{\"plural\":\"foos\",\"kind\":\"Foo\"}}}");
        if (kl_custom_family_new(&crd, true, &f, &err))
            fail_msg("%s", err.msg);
        const struct kl_resource *v1 = kl_custom_row(f, KL_STR("v1")),
                                 *v2 = kl_custom_row(f, KL_STR("v2"));
        struct kl_object *o = kl_cache_object(kv, v1, &err);
        assert_non_null(o);
        assert_non_null(kl_cache_json(kv, v1, &err));
        // As a webhook's answer comes.
        struct kl_value draft = kl_object_draft(o);
        kl_cache_attach_object(kv, kl_object_freeze(v2->type, &draft));
        assert_ptr_equal(kl_cache_object(kv, v2, &err)->type, v2->type);
        assert_ptr_equal(kl_cache_object(kv, v1, &err), o);
        once = once ? once : home->attached;
        assert_int_equal(home->attached, once);
        kl_custom_family_unref(f);
        kl_arena_fini(&a);
    }
    kl_kv_unref(kv);
    assert_int_equal(home->attached, 0);
    kl_bytes_unref(value);
    kl_home_unref(home);
}

static void test_version_order(void **state)
{
    static const char *const order[] = {
        "foo10", "foo1", "v3alpha1", "v11alpha2", "v12alpha1", "v10beta3", "v11beta2", "v2", "v10"};
    (void)state;
    for (size_t i = 0; i + 1 < KL_COUNT(order); i++)
        if (kl_version_compare(order[i], order[i + 1]) >= 0)
            fail_msg("%s is not below %s", order[i], order[i + 1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),      cmocka_unit_test(test_conflicts),
        cmocka_unit_test(test_approval),      cmocka_unit_test(test_rows),
        cmocka_unit_test(test_version_order), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_generations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
