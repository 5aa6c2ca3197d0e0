// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "object/resource.h"
#include "object/selector.h"

enum syntax { LABEL, FIELD };
static const struct {
    enum syntax syntax;
    struct kl_str in;
    bool fails;
    const char *out;
} cases[] = {
#include "selector_cases.inc"
};

static struct kl_arena arena;

static int open_arena(void **state)
{
    (void)state;
    kl_arena_init(&arena, 0);
    return 0;
}

static int close_arena(void **state)
{
    (void)state;
    kl_arena_fini(&arena);
    return 0;
}

// The text of a field selector has escapes that the parsed values do not have.
static struct kl_str field_text(const struct kl_selector *s)
{
    struct kl_str out = KL_STR("");
    for (size_t i = 0; i < s->n; i++) {
        struct kl_str v = s->reqs[i].values[0];
        out = kl_arena_printf(&arena, "%.*s%s%.*s%s", KL_PRI(out), i ? "," : "",
                              KL_PRI(s->reqs[i].key), s->reqs[i].op == KL_OP_EQ ? "=" : "!=");
        for (size_t j = 0; j < v.n; j++)
            out = kl_arena_printf(&arena, "%.*s%s%c", KL_PRI(out),
                                  strchr("\\,=", v.p[j]) ? "\\" : "", v.p[j]);
    }
    return out;
}

static void upstream_parses(void **state)
{
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_selector s;
        struct kl_error err = {0};
        bool label = cases[i].syntax == LABEL;
        int r = label ? kl_label_selector_parse(&arena, cases[i].in, &s, &err)
                      : kl_field_selector_parse(&arena, cases[i].in, &s, &err);
        struct kl_str got = r       ? kl_str(err.msg)
                            : label ? kl_selector_text(&arena, &s)
                                    : field_text(&s);
        size_t n = strlen(cases[i].out) < 1000 ? strlen(cases[i].out) : 1000; // err.msg is bounded
        if ((r == KL_EBADREQUEST) == cases[i].fails && got.n >= n &&
            memcmp(got.p, cases[i].out, n) == 0 && (n == 1000 || got.n == n))
            continue;
        print_error("\"%.*s\": got %d \"%.*s\", upstream \"%s\"\n", KL_PRI(cases[i].in), r,
                    KL_PRI(got), cases[i].out);
        bad++;
    }
    assert_int_equal(bad, 0);
}

// {a: 1, b: two, tier: ""}
static struct kl_value labels(void)
{
    struct kl_value m = kl_new_map();
    kl_map_set_value(&arena, &m, KL_STR("a"), kl_stringz("1"));
    kl_map_set_value(&arena, &m, KL_STR("b"), kl_stringz("two"));
    kl_map_set_value(&arena, &m, KL_STR("tier"), kl_stringz(""));
    return m;
}

static void matches(void **state)
{
    (void)state;
    static const struct {
        const char *selector;
        bool matches, matches_none; // labels() and no labels at all
    } rows[] = {
        {"", true, true},
        {"a", true, false},
        {"!a", false, true},
        {"!c", true, true},
        {"a=1", true, false},
        {"a==2", false, false},
        {"a!=2", true, true},
        {"a!=1", false, true},
        {"a in (0,1,2)", true, false},
        {"a in (0,2)", false, false},
        {"a notin (0,2)", true, true},
        {"a notin (1)", false, true},
        {"c notin (1)", true, true},
        {"tier=", true, false},
        {"tier", true, false},
        {"c=", false, false},
        {"a>0", true, false},
        {"a>1", false, false},
        {"a<2", true, false},
        {"b>0", false, false},
        {"a=1,b=two", true, false},
        {"a=1,b=three", false, false},
        {"a in (b0,b1,b2,b3,b4,b5,b6,b7,b8,b9,1)", true, false},
        {"a in (b0,b1,b2,b3,b4,b5,b6,b7,b8,b9)", false, false},
    };
    struct kl_value l = labels();
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_selector s;
        assert_int_equal(kl_label_selector_parse(&arena, kl_str(rows[i].selector), &s, NULL), 0);
        if (kl_selector_matches(&s, &l) != rows[i].matches ||
            kl_selector_matches(&s, NULL) != rows[i].matches_none)
            fail_msg("%s", rows[i].selector);
    }
}

// A LabelSelector of one matchLabels entry and one expression.
static struct kl_value label_selector(const char *key, const char *op, const char *value)
{
    struct kl_value sel = kl_new_struct(), expr = kl_new_struct();
    struct kl_value *m = kl_edit(&arena, &sel, KL_F_matchLabels, KL_MAP);
    kl_map_set_value(&arena, m, KL_STR("b"), kl_stringz("two"));
    kl_set(&arena, &expr, KL_F_key, kl_stringz(key));
    kl_set(&arena, &expr, KL_F_operator, kl_stringz(op));
    if (value)
        kl_append(&arena, kl_edit(&arena, &expr, KL_F_values, KL_ARRAY), kl_stringz(value));
    kl_append(&arena, kl_edit(&arena, &sel, KL_F_matchExpressions, KL_ARRAY), expr);
    return sel;
}

static void from_values(void **state)
{
    (void)state;
    static const struct {
        const char *key, *op, *value, *text, *error;
        bool matches;
    } rows[] = {
        {"a", "In", "1", "a in (1),b=two", NULL, true},
        {"a", "NotIn", "1", "a notin (1),b=two", NULL, false},
        {"c", "DoesNotExist", NULL, "b=two,!c", NULL, true},
        {"c", "Exists", NULL, "b=two,c", NULL, false},
        {"a", "Foo", NULL, NULL, "\"Foo\" is not a valid label selector operator", false},
        {"a", "In", NULL, NULL,
         "values: Invalid value: null: for 'in', 'notin' operators, values set can't be empty",
         false},
        {"a", "Exists", "x", NULL,
         "values: Invalid value: [\"x\"]: values set must be empty for exists and does not exist",
         false},
        {"", "Exists", "x", NULL,
         "[key: Invalid value: \"\": name part must be non-empty; name part", false},
    };
    struct kl_value l = labels();
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_value v = label_selector(rows[i].key, rows[i].op, rows[i].value);
        struct kl_selector s;
        struct kl_error err = {0};
        int r = kl_label_selector_from(&arena, &v, &s, &err);
        if (rows[i].error) {
            assert_int_equal(r, KL_EBADREQUEST);
            err.msg[strlen(rows[i].error)] = 0;
            assert_string_equal(err.msg, rows[i].error);
            continue;
        }
        assert_int_equal(r, 0);
        assert_string_equal(kl_selector_text(&arena, &s).p, rows[i].text);
        assert_int_equal(kl_selector_matches(&s, &l), rows[i].matches);
    }
    struct kl_selector s;
    struct kl_value empty = kl_new_struct();
    assert_int_equal(kl_label_selector_from(&arena, NULL, &s, NULL), 0);
    assert_false(kl_selector_matches(&s, &l));
    assert_int_equal(kl_label_selector_from(&arena, &empty, &s, NULL), 0);
    assert_true(kl_selector_matches(&s, &l));
    assert_int_equal(kl_label_selector_from_map(&arena, &l, &s), 0);
    assert_true(kl_selector_matches(&s, &l));
    assert_string_equal(kl_selector_text(&arena, &s).p, "a=1,b=two,tier=");
    kl_map_unset(&arena, &l, KL_STR("a"));
    assert_false(kl_selector_matches(&s, &l));
}

static void exact_values(void **state)
{
    (void)state;
    struct kl_selector s;
    struct kl_str v;
    assert_int_equal(
        kl_field_selector_parse(&arena, KL_STR("spec.nodeName=n1,status.phase!=Failed"), &s, NULL),
        0);
    assert_true(kl_selector_exact(&s, KL_STR("spec.nodeName"), &v));
    assert_true(kl_str_eqz(v, "n1"));
    assert_false(kl_selector_exact(&s, KL_STR("status.phase"), &v));
    assert_false(kl_selector_exact(&s, KL_STR("metadata.name"), &v));
}

static void put_text(struct kl_value *root, kl_sym outer, kl_sym inner, const char *text)
{
    struct kl_value *v = kl_edit(&arena, root, outer, KL_STRUCT);
    kl_set(&arena, v, inner, kl_stringz(text));
}

static struct kl_value pod(void)
{
    struct kl_value p = kl_new_struct(), ip = kl_new_struct();
    put_text(&p, KL_F_metadata, KL_F_name, "web-0");
    put_text(&p, KL_F_metadata, KL_F_namespace, "default");
    put_text(&p, KL_F_spec, KL_F_nodeName, "n1");
    put_text(&p, KL_F_status, KL_F_phase, "Running");
    kl_set(&arena, &ip, KL_F_ip, kl_stringz("10.0.0.1"));
    kl_append(&arena,
              kl_edit(&arena, kl_edit(&arena, &p, KL_F_status, KL_STRUCT), KL_F_podIPs, KL_ARRAY),
              ip);
    return p;
}

static struct kl_value event(kl_sym object, kl_sym reporter)
{
    struct kl_value e = kl_new_struct();
    put_text(&e, KL_F_metadata, KL_F_name, "e");
    put_text(&e, object, KL_F_kind, "Pod");
    kl_set(&arena, &e, reporter, kl_stringz("kubelet"));
    return e;
}

static void fields_of(const struct kl_resource *res, const struct kl_value *root,
                      const char *selector, bool want)
{
    struct kl_selector s;
    struct kl_error err = {0};
    assert_int_equal(kl_field_selector_parse(&arena, kl_str(selector), &s, &err), 0);
    if (kl_field_selector_check(res, &s, &err))
        fail_msg("%s: %s", selector, err.msg);
    if (kl_field_selector_matches(res, &s, root) != want)
        fail_msg("%s of %s: expected %d", selector, res->plural, want);
}

static void field_matches(void **state)
{
    (void)state;
    const struct kl_resource *pods = kl_res(KL_RES_core_v1_pods);
    struct kl_value p = pod(), empty = kl_new_struct();
    fields_of(pods, &p, "metadata.name=web-0", true);
    fields_of(pods, &p, "metadata.name!=web-0", false);
    fields_of(pods, &p, "spec.nodeName=n1,status.phase!=Failed,status.phase!=Succeeded", true);
    fields_of(pods, &p, "spec.host=n1", true);
    fields_of(pods, &p, "status.podIP=10.0.0.1", true);
    fields_of(pods, &p, "status.podIPs=10.0.0.1", false);
    fields_of(pods, &p, "spec.hostNetwork=false", true);
    fields_of(pods, &p, "spec.nodeName=", false);
    fields_of(pods, &empty, "spec.nodeName=", true);
    fields_of(kl_res(KL_RES_core_v1_nodes), &empty, "spec.unschedulable=false", true);
    fields_of(kl_res(KL_RES_batch_v1_jobs), &empty, "status.successful=0", true);
    fields_of(kl_res(KL_RES_core_v1_replicationcontrollers), &empty, "status.replicas=1", false);
    fields_of(kl_res(KL_RES_core_v1_configmaps), &p, "metadata.namespace=default", true);
    struct kl_value old = event(KL_F_involvedObject, KL_F_reportingComponent);
    struct kl_value new = event(KL_F_regarding, KL_F_reportingController);
    fields_of(kl_res(KL_RES_core_v1_events), &old, "involvedObject.kind=Pod,source=kubelet", true);
    fields_of(kl_res(KL_RES_core_v1_events), &new, "involvedObject.kind=Pod,source=kubelet", true);
    fields_of(kl_res(KL_RES_events_v1_events), &new, "regarding.kind=Pod", true);
    fields_of(kl_res(KL_RES_events_v1_events), &old, "reportingController=kubelet", true);
}

static void field_refusals(void **state)
{
    (void)state;
    static const struct {
        uint16_t res;
        const char *selector, *error;
    } rows[] = {
        {KL_RES_core_v1_pods, "spec.foo=1", "field label not supported: spec.foo"},
        {KL_RES_core_v1_nodes,
         "metadata.namespace=", "field label not supported: metadata.namespace"},
        {KL_RES_apps_v1_replicasets, "status.replicas=1",
         "\"status.replicas\" is not a known field selector: only \"metadata.name\", "
         "\"metadata.namespace\""},
        {KL_RES_batch_v1_jobs, "spec.x=", "field label \"spec.x\" not supported for Job"},
        {KL_RES_events_v1_events, "source=x", "field label not supported: source"},
        {KL_RES_resource_v1_resourceslices, "x=y",
         "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: x"},
    };
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_selector s;
        struct kl_error err = {0};
        assert_int_equal(kl_field_selector_parse(&arena, kl_str(rows[i].selector), &s, &err), 0);
        assert_int_equal(kl_field_selector_check(kl_res(rows[i].res), &s, &err), KL_EBADREQUEST);
        assert_string_equal(err.msg, rows[i].error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(upstream_parses, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(matches, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(from_values, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(exact_values, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(field_matches, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(field_refusals, open_arena, close_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
