// SPDX-License-Identifier: Apache-2.0
// Replays objects with the cells that upstream's printers give (tests/fixtures/tables: one object a
// line), and pods with the states that kubectl users know. Arguments: the files.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "object/defaults.h"
#include "object/json.h"
#include "object/table.h"

static char **files;
static int nfiles;

static struct kl_object *make(const struct kl_type *type, struct kl_str json)
{
    struct kl_arena a;
    struct kl_value draft;
    struct kl_error err = {0};
    kl_arena_init(&a, 0);
    if (kl_json_decode(&a, type, json, NULL, &draft, &err))
        fail_msg("%s: %s", type->name, err.msg);
    assert_int_equal(kl_default_object(&a, type, &draft), 0);
    struct kl_object *o = kl_object_freeze(type, &draft);
    assert_non_null(o);
    kl_arena_fini(&a);
    return o;
}

static const struct kl_value *member(const struct kl_value *row, const char *name)
{
    return kl_map_value(row, kl_str(name));
}

// Also rows that are not served by default.
static const struct kl_resource *find_row(const struct kl_value *row)
{
    for (uint16_t i = 0; i < kl_nresources; i++)
        if (kl_str_eqz(kl_text(member(row, "group")), kl_resources[i].group) &&
            kl_str_eqz(kl_text(member(row, "version")), kl_resources[i].version) &&
            kl_str_eqz(kl_text(member(row, "plural")), kl_resources[i].plural))
            return &kl_resources[i];
    return NULL;
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
    const struct kl_resource *res = find_row(&row);
    assert_non_null(res);
    kl_json_write(&in, member(&row, "in"));
    struct kl_object *o = make(res->type, kl_buf_str(&in));
    kl_buf_putc(&out, '{');
    kl_table_cells(&out, res, &o->root, kl_int_or(member(&row, "now"), 0));
    kl_buf_putc(&out, '}');
    bool ok = kl_json_parse(&a, kl_buf_str(&out), NULL, &got, NULL) == 0 &&
              kl_value_equal(member(&got, "cells"), member(&row, "cells"));
    const struct kl_value *conditions = member(&row, "conditions");
    ok = ok && kl_value_equal(member(&got, "conditions"),
                              conditions && conditions->kind == KL_NULL ? NULL : conditions);
    if (!ok) {
        kl_buf_clear(&in);
        kl_json_write(&in, member(&row, "cells"));
        fprintf(stderr, "%.*s\n  upstream %.*s\n  got      %.*s\n", KL_PRI(line),
                KL_PRI(kl_buf_str(&in)), KL_PRI(kl_buf_str(&out)));
    }
    kl_object_unref(o);
    kl_buf_fini(&in);
    kl_buf_fini(&out);
    kl_arena_fini(&a);
    return ok;
}

static void recorded_rows(void **state)
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
        fail_msg("%zu of %zu rows differ", bad, total);
    assert_true(total > 0);
}

static void check_cells(const struct kl_resource *res, const char *json, const char *want)
{
    enum { NOW_S = 1600000600 }; // 2020-09-13T12:36:40Z
    struct kl_buf out;
    struct kl_object *o = make(res->type, kl_str(json));
    kl_buf_init(&out, 1 << 20);
    kl_table_cells(&out, res, &o->root, NOW_S * INT64_C(1000000));
    kl_buf_putc(&out, '\0');
    assert_string_equal(out.p, want);
    kl_buf_fini(&out);
    kl_object_unref(o);
}

#define NONE "\"\\u003cnone\\u003e\""
#define POD(status)                                                                                \
    "{\"metadata\":{\"name\":\"p\",\"creationTimestamp\":\"2020-09-13T12:26:40Z\"},"               \
    "\"spec\":{\"containers\":[{\"name\":\"a\"},{\"name\":\"b\"}],"                                \
    "\"initContainers\":[{\"name\":\"i\"}]},\"status\":{" status "}}"
#define CELLS(ready, status, restarts)                                                             \
    "\"cells\":[\"p\",\"" ready "\",\"" status "\",\"" restarts "\",\"10m\"," NONE "," NONE        \
    "," NONE "," NONE "]"
#define DONE                                                                                       \
    "\"initContainerStatuses\":[{\"name\":\"i\",\"state\":{\"terminated\":{\"exitCode\":0}}}],"

static void pod_states(void **state)
{
    (void)state;
    static const struct {
        const char *pod, *want;
    } rows[] = {
        {POD("\"phase\":\"Pending\""), CELLS("0/2", "Pending", "0")},
        {POD("\"phase\":\"Pending\",\"initContainerStatuses\":[{\"name\":\"i\",\"state\":{}}]"),
         CELLS("0/2", "Init:0/1", "0")},
        {POD("\"phase\":\"Pending\",\"initContainerStatuses\":[{\"name\":\"i\",\"restartCount\":2,"
             "\"state\":{\"waiting\":{\"reason\":\"CrashLoopBackOff\"}},\"lastState\":{"
             "\"terminated\":{"
             "\"exitCode\":1,\"finishedAt\":\"2020-09-13T12:31:40Z\"}}}]"),
         CELLS("0/2", "Init:CrashLoopBackOff", "2 (5m ago)")},
        {POD("\"phase\":\"Pending\",\"initContainerStatuses\":[{\"name\":\"i\",\"state\":{"
             "\"terminated\":{\"exitCode\":3}}}]"),
         CELLS("0/2", "Init:ExitCode:3", "0")},
        {POD("\"phase\":\"Running\"," DONE
             "\"containerStatuses\":[{\"name\":\"a\",\"ready\":true,\"state\":{\"running\":{}}},"
             "{\"name\":\"b\",\"ready\":true,\"restartCount\":3,\"state\":{\"running\":{}}}]"),
         CELLS("2/2", "Running", "3")},
        {POD("\"phase\":\"Running\"," DONE
             "\"containerStatuses\":[{\"name\":\"a\",\"ready\":true,\"state\":{\"running\":{}}},"
             "{\"name\":\"b\",\"state\":{\"terminated\":{\"exitCode\":0,\"reason\":\"Completed\"}}}"
             "]"),
         CELLS("1/2", "NotReady", "0")},
        {POD("\"phase\":\"Running\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]," DONE
             "\"containerStatuses\":[{\"name\":\"a\",\"ready\":true,\"state\":{\"running\":{}}},"
             "{\"name\":\"b\",\"state\":{\"terminated\":{\"exitCode\":0,\"reason\":\"Completed\"}}}"
             "]"),
         CELLS("1/2", "Running", "0")},
        {POD("\"phase\":\"Failed\"," DONE
             "\"containerStatuses\":[{\"name\":\"a\",\"state\":{\"terminated\":{\"exitCode\":137,"
             "\"signal\":9}}},{\"name\":\"b\",\"state\":{\"terminated\":{\"exitCode\":0,"
             "\"reason\":\"Completed\"}}}]"),
         CELLS("0/2", "Signal:9",
               "0") ",\"conditions\":[{\"type\":\"Completed\",\"status\":\"True\","
                    "\"reason\":\"Failed\",\"message\":\"The pod failed.\"}]"},
        {POD("\"phase\":\"Succeeded\",\"reason\":\"\""),
         CELLS("0/2", "Succeeded",
               "0") ",\"conditions\":[{\"type\":\"Completed\",\"status\":\"True\","
                    "\"reason\":\"Succeeded\",\"message\":\"The pod has completed "
                    "successfully.\"}]"},
        {"{\"metadata\":{\"name\":\"p\",\"deletionTimestamp\":\"2020-09-13T12:36:40Z\","
         "\"creationTimestamp\":\"2020-09-13T12:26:40Z\"},\"spec\":{\"containers\":[{\"name\":"
         "\"a\"}]},"
         "\"status\":{\"phase\":\"Running\"}}",
         CELLS("0/1", "Terminating", "0")},
        {POD("\"phase\":\"Pending\",\"conditions\":[{\"type\":\"PodScheduled\",\"status\":"
             "\"False\","
             "\"reason\":\"SchedulingGated\"}]"),
         CELLS("0/2", "SchedulingGated", "0")},
    };
    for (size_t i = 0; i < KL_COUNT(rows); i++)
        check_cells(kl_res(KL_RES_core_v1_pods), rows[i].pod, rows[i].want);
}

static void other_rows(void **state)
{
    (void)state;
    check_cells(kl_res(KL_RES_core_v1_limitranges),
                "{\"metadata\":{\"name\":\"l\",\"creationTimestamp\":\"2020-09-13T12:26:40Z\"}}",
                "\"cells\":[\"l\",\"2020-09-13T12:26:40Z\"]");
    check_cells(kl_res(KL_RES_core_v1_nodes),
                "{\"metadata\":{\"name\":\"n\",\"labels\":{\"node-role.kubernetes.io/master\":\"\","
                "\"kubernetes.io/role\":\"x\"}},\"spec\":{\"unschedulable\":true},\"status\":{"
                "\"conditions\":[{\"type\":\"Ready\",\"status\":\"False\"}]}}",
                "\"cells\":[\"n\",\"NotReady,SchedulingDisabled\",\"master,x\","
                "\"\\u003cunknown\\u003e\",\"\"," NONE "," NONE ",\"\\u003cunknown\\u003e\","
                "\"\\u003cunknown\\u003e\",\"\\u003cunknown\\u003e\"]");
    check_cells(
        kl_res(KL_RES_apiregistration_v1_apiservices),
        "{\"metadata\":{\"name\":\"v1.\"},\"status\":{\"conditions\":[{\"type\":\"Available\","
        "\"status\":\"False\",\"reason\":\"Gone\"}]}}",
        "\"cells\":[\"v1.\",\"Local\",\"False (Gone)\",\"\\u003cunknown\\u003e\"]");
}

static void columns(void **state)
{
    (void)state;
    static const char *const members[] = {"name", "type", "format", "description", "priority"};
    struct kl_arena a;
    kl_arena_init(&a, 0);
    for (uint16_t i = 0; i < kl_nresources; i++) {
        struct kl_value list;
        const struct kl_resource *r = kl_res(i);
        assert_int_equal(kl_json_parse(&a, kl_table_columns_json(r), NULL, &list, NULL), 0);
        assert_true(kl_len(&list) >= 2);
        for (KL_EACH(column, &list))
            for (size_t m = 0; m < KL_COUNT(members); m++)
                assert_non_null(member(column, members[m]));
        if (!r->type)
            continue;
        // a row has a cell for each column (one kind's rows have one more)
        struct kl_object *o = make(r->type, KL_STR("{}"));
        struct kl_buf out;
        struct kl_value row;
        kl_buf_init(&out, 1 << 20);
        kl_buf_putc(&out, '{');
        kl_table_cells(&out, r, &o->root, 0);
        kl_buf_putc(&out, '}');
        assert_int_equal(kl_json_parse(&a, kl_buf_str(&out), NULL, &row, NULL), 0);
        size_t more = strcmp(r->plural, "ipaddresses") == 0;
        if (kl_len(member(&row, "cells")) != kl_len(&list) + more)
            fail_msg("%s: %.*s", r->plural, KL_PRI(kl_buf_str(&out)));
        kl_buf_fini(&out);
        kl_object_unref(o);
    }
    struct kl_value list;
    assert_int_equal(kl_json_parse(&a, kl_table_scale_columns_json(), NULL, &list, NULL), 0);
    assert_int_equal(kl_len(&list), 4);
    assert_true(kl_text(member(kl_at(&list, 0), "description")).n > 0);
    struct kl_resource custom = {.plural = "foos"};
    assert_int_equal(kl_json_parse(&a, kl_table_columns_json(&custom), NULL, &list, NULL), 0);
    assert_true(kl_str_eqz(kl_text(member(kl_at(&list, 1), "type")), "date"));
    kl_arena_fini(&a);
}

int main(int argc, char **argv)
{
    files = argv + 1;
    nfiles = argc - 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_rows),
        cmocka_unit_test(pod_states),
        cmocka_unit_test(other_rows),
        cmocka_unit_test(columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
