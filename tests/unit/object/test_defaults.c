// SPDX-License-Identifier: Apache-2.0
// Replays objects with what upstream's scheme makes of them (tests/fixtures/defaults: one object a
// line; defaulted, converted to the internal version and back). Arguments: the files.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "object/defaults.h"
#include "object/json.h"

static char **files;
static int nfiles;

// Decodes, defaults, makes an object of it and gives its JSON; NULL object after a failure.
static struct kl_object *default_text(struct kl_arena *a, const struct kl_type *type,
                                      struct kl_str text, struct kl_buf *out)
{
    struct kl_value draft;
    struct kl_error err = {0};
    if (kl_json_decode(a, type, text, NULL, &draft, &err)) {
        print_error("%s: %s\n", type->name, err.msg);
        return NULL;
    }
    assert_int_equal(kl_default_object(a, type, &draft), 0);
    struct kl_object *o = kl_object_freeze(type, &draft);
    assert_non_null(o);
    kl_buf_clear(out);
    kl_json_encode(out, type, &o->root, KL_STR(""));
    return o;
}

// Defaulting what is stored must change nothing and copy nothing.
static void check_idempotent(struct kl_arena *a, const struct kl_object *o)
{
    struct kl_value again = kl_object_draft(o);
    assert_int_equal(kl_default_object(a, o->type, &again), 0);
    if (!kl_value_equal(&again, &o->root)) {
        struct kl_buf out;
        kl_buf_init(&out, 1 << 24);
        kl_json_encode(&out, o->type, &again, KL_STR("\n"));
        kl_json_encode(&out, o->type, &o->root, KL_STR("\n"));
        fprintf(stderr, "%.*s\n", KL_PRI(kl_buf_str(&out)));
        kl_buf_fini(&out);
        fail_msg("%s: a second defaulting changed the object", o->type->name);
    }
    if (again.items != o->root.items)
        fail_msg("%s: a second defaulting copied the object", o->type->name);
}

static bool replay(struct kl_str line)
{
    struct kl_arena a;
    struct kl_value row, got;
    struct kl_buf in, out;
    kl_arena_init(&a, 0);
    kl_buf_init(&in, 1 << 24);
    kl_buf_init(&out, 1 << 24);
    assert_int_equal(kl_json_parse(&a, line, NULL, &row, NULL), 0);
    const struct kl_type *type = kl_type_by_name(kl_text(kl_map_value(&row, KL_STR("type"))));
    assert_non_null(type);
    const struct kl_value *want = kl_map_value(&row, KL_STR("want"));
    kl_json_write(&in, kl_map_value(&row, KL_STR("in")));
    struct kl_object *o = default_text(&a, type, kl_buf_str(&in), &out);
    bool ok = o && kl_json_parse(&a, kl_buf_str(&out), NULL, &got, NULL) == 0 &&
              kl_value_equal(&got, want);
    if (o)
        check_idempotent(&a, o);
    if (!ok) {
        kl_buf_clear(&in);
        kl_json_write(&in, want);
        fprintf(stderr, "%.*s\n  upstream %.*s\n  got      %.*s\n", KL_PRI(line),
                KL_PRI(kl_buf_str(&in)), KL_PRI(kl_buf_str(&out)));
    }
    kl_object_unref(o);
    kl_buf_fini(&in);
    kl_buf_fini(&out);
    kl_arena_fini(&a);
    return ok;
}

static void recorded_objects(void **state)
{
    (void)state;
    size_t total = 0, bad = 0;
    for (int i = 0; i < nfiles; i++) {
        FILE *f = fopen(files[i], "r");
        char *text = NULL;
        size_t cap = 0;
        ssize_t n;
        assert_non_null(f);
        while ((n = getline(&text, &cap, f)) > 1) {
            total++;
            bad += !replay((struct kl_str){text, (size_t)n - 1});
        }
        free(text);
        fclose(f);
    }
    if (bad)
        fail_msg("%zu of %zu objects differ", bad, total);
    assert_true(total > 0);
}

// Fields that conversion or the registry fill from each other.
static void mirrored_fields(void **state)
{
    (void)state;
    static const struct {
        enum kl_type_index type;
        const char *in, *path, *want; // the want text must stand in the result
    } rows[] = {
        {KL_TYPE_core_v1_Pod, "{\"spec\":{\"serviceAccount\":\"x\"}}", "both",
         "\"serviceAccountName\":\"x\",\"serviceAccount\":\"x\""},
        {KL_TYPE_core_v1_Pod, "{\"status\":{\"podIP\":\"10.0.0.1\"}}", "list",
         "\"podIPs\":[{\"ip\":\"10.0.0.1\"}]"},
        {KL_TYPE_core_v1_Pod,
         "{\"status\":{\"podIP\":\"10.0.0.1\",\"podIPs\":[{\"ip\":\"10.0.0.2\"}]}}", "single wins",
         "\"podIPs\":[{\"ip\":\"10.0.0.1\"}]"},
        {KL_TYPE_core_v1_Pod, "{\"status\":{\"podIPs\":[{\"ip\":\"10.0.0.2\"}]}}", "single",
         "\"podIP\":\"10.0.0.2\""},
        {KL_TYPE_core_v1_Node, "{\"spec\":{\"podCIDR\":\"10.0.0.0/24\"}}", "list",
         "\"podCIDRs\":[\"10.0.0.0/24\"]"},
        {KL_TYPE_core_v1_Secret, "{\"stringData\":{\"a\":\"b\"},\"data\":{\"a\":\"eA==\"}}", "data",
         "{\"metadata\":{},\"data\":{\"a\":\"Yg==\"},\"type\":\"Opaque\"}"},
    };
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_arena a;
        struct kl_buf out;
        kl_arena_init(&a, 0);
        kl_buf_init(&out, 1 << 20);
        struct kl_object *o = default_text(&a, kl_type(rows[i].type), kl_str(rows[i].in), &out);
        assert_non_null(o);
        kl_buf_putc(&out, '\0');
        if (!strstr(out.p, rows[i].want))
            fail_msg("%s: %s: %s", rows[i].path, rows[i].in, out.p);
        kl_object_unref(o);
        kl_buf_fini(&out);
        kl_arena_fini(&a);
    }
}

static struct kl_value decode(struct kl_arena *a, enum kl_type_index type, const char *json)
{
    struct kl_value v;
    assert_int_equal(kl_json_decode(a, kl_type(type), kl_str(json), NULL, &v, NULL), 0);
    return v;
}

static bool gate_is_on(const char *name)
{
    for (uint16_t i = 0; i < kl_ngates; i++)
        if (strcmp(kl_gates[i].name, name) == 0)
            return kl_gates[i].on;
    fail_msg("no gate %s", name);
    return false;
}

static void gated_fields(void **state)
{
    (void)state;
    struct kl_arena a;
    kl_arena_init(&a, 0);
    assert_false(gate_is_on("MaxUnavailableStatefulSet"));
    static const char with[] = "{\"spec\":{\"updateStrategy\":{\"rollingUpdate\":{"
                               "\"maxUnavailable\":2,\"partition\":1}}}}";
    static const kl_sym way[] = {KL_F_spec, KL_F_updateStrategy, KL_F_rollingUpdate,
                                 KL_F_maxUnavailable};
    const struct kl_type *type = kl_type(KL_TYPE_apps_v1_StatefulSet);
    struct kl_value new = decode(&a, KL_TYPE_apps_v1_StatefulSet, with);
    struct kl_value old = decode(&a, KL_TYPE_apps_v1_StatefulSet, with);
    struct kl_value without = decode(&a, KL_TYPE_apps_v1_StatefulSet, "{}");
    kl_drop_gated(&a, type, &new, &old, NULL);
    assert_non_null(kl_path_list(&new, way, KL_COUNT(way)));
    kl_drop_gated(&a, type, &new, &without, NULL);
    assert_null(kl_path_list(&new, way, KL_COUNT(way)));
    assert_int_equal(
        kl_int_at(&new, 0, KL_F_spec, KL_F_updateStrategy, KL_F_rollingUpdate, KL_F_partition), 1);
    assert_non_null(kl_path_list(&old, way, KL_COUNT(way)));
    kl_drop_gated(&a, type, &old, NULL, NULL);
    assert_null(kl_path_list(&old, way, KL_COUNT(way)));
    kl_arena_fini(&a);
}

static void taint_time(void **state)
{
    (void)state;
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_value v =
        decode(&a, KL_TYPE_resource_v1_ResourceSlice,
               "{\"spec\":{\"devices\":[{\"name\":\"a\",\"taints\":[{\"key\":\"k\"}]}]}}");
    int64_t before_us = kl_wall_ms() / 1000 * 1000000;
    assert_int_equal(kl_default_object(&a, kl_type(KL_TYPE_resource_v1_ResourceSlice), &v), 0);
    const struct kl_value *device = kl_at(kl_path(&v, KL_F_spec, KL_F_devices), 0);
    int64_t got = kl_int_or(kl_get(kl_at(kl_get(device, KL_F_taints), 0), KL_F_timeAdded), 0);
    assert_true(got >= before_us && got <= kl_wall_ms() * 1000 && got % 1000000 == 0);
    kl_arena_fini(&a);
}

// A type made at run time: its schema carries the defaults, at every depth.
static void schema_defaults(void **state)
{
    (void)state;
    static const struct kl_type number = {.kind = KL_T_INTEGER, .format = KL_FMT_INT64};
    static const struct kl_type text = {.kind = KL_T_STRING};
    struct kl_field inner_fields[] = {
        {.type = &text, .sym = KL_F_protocol, .default_json = "\"TCP\"", .flags = KL_FIELD_PTR},
        {.type = &number, .sym = KL_F_port},
    };
    struct kl_type inner = {.kind = KL_T_STRUCT, .fields = inner_fields, .nfields = 2};
    struct kl_type list = {.kind = KL_T_ARRAY, .elem = &inner};
    struct kl_type map = {.kind = KL_T_MAP, .elem = &inner};
    struct kl_field fields[] = {
        {.type = &number, .sym = KL_F_replicas, .default_json = "3", .flags = KL_FIELD_PTR},
        {.type = &list, .sym = KL_F_ports},
        {.type = &map, .sym = KL_F_labels},
        {.type = &inner, .sym = KL_F_spec, .default_json = "{}", .flags = KL_FIELD_PTR},
    };
    struct kl_type outer = {.kind = KL_T_STRUCT, .fields = fields, .nfields = 4};
    struct kl_arena a;
    struct kl_value v = kl_new_struct();
    kl_arena_init(&a, 0);
    kl_append(&a, kl_edit(&a, &v, KL_F_ports, KL_ARRAY), kl_new_struct());
    kl_map_set_value(&a, kl_edit(&a, &v, KL_F_labels, KL_MAP), KL_STR("x"), kl_new_struct());
    assert_int_equal(kl_default_object(&a, &outer, &v), 0);
    assert_int_equal(kl_int_at(&v, 0, KL_F_replicas), 3);
    const struct kl_value *const places[] = {kl_at(kl_get(&v, KL_F_ports), 0),
                                             kl_map_value(kl_get(&v, KL_F_labels), KL_STR("x")),
                                             kl_get(&v, KL_F_spec)};
    for (size_t i = 0; i < KL_COUNT(places); i++)
        assert_true(kl_str_eqz(kl_text(kl_get(places[i], KL_F_protocol)), "TCP"));
    kl_set(&a, &v, KL_F_replicas, kl_int(0));
    assert_int_equal(kl_default_object(&a, &outer, &v), 0);
    assert_int_equal(kl_int_at(&v, 9, KL_F_replicas), 0);
    kl_arena_fini(&a);
}

static void out_of_memory(void **state)
{
    (void)state;
    struct kl_arena big;
    kl_arena_init(&big, 0);
    struct kl_value v = decode(&big, KL_TYPE_core_v1_Pod,
                               "{\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"b\"}]}}");
    for (size_t max = 16; max < 2048; max += 16) {
        struct kl_arena a;
        struct kl_value draft = v;
        kl_arena_init(&a, max);
        draft.owned = 0;
        int r = kl_default_object(&a, kl_type(KL_TYPE_core_v1_Pod), &draft);
        assert_true(r == 0 || r == KL_ENOMEM);
        if (max <= 64)
            assert_int_equal(r, KL_ENOMEM);
        kl_arena_fini(&a);
    }
    kl_arena_fini(&big);
}

int main(int argc, char **argv)
{
    files = argv + 1;
    nfiles = argc - 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_objects), cmocka_unit_test(mirrored_fields),
        cmocka_unit_test(gated_fields),     cmocka_unit_test(taint_time),
        cmocka_unit_test(schema_defaults),  cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
