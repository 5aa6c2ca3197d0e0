// SPDX-License-Identifier: Apache-2.0
#include "client/plan.h"
#include "fake_client.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>

static struct kl_timers *ts;
static struct fake_cluster *f;
static struct kl_client *client;
static char log_text[256];
static int ended;

static int set_up(void **state)
{
    ts = kl_timers_new_virtual(0);
    f = fake_cluster_new(ts);
    client = fake_client_new(f, "test");
    log_text[0] = 0;
    ended = 0;
    return 0;
}

static int tear_down(void **state)
{
    fake_cluster_free(f);
    kl_client_free(client);
    kl_timers_free(ts);
    return 0;
}

static void note(const char *what)
{
    size_t n = strlen(log_text);
    snprintf(log_text + n, sizeof(log_text) - n, "%s ", what);
}

static void on_done(struct kl_action *a)
{
    note(a->skipped ? "skip" : a->call.err.code ? "fail" : "ok");
}

static void on_end(struct kl_plan *p)
{
    ended++;
}

static void add_create(struct kl_plan *p, const char *name)
{
    struct kl_value root = kl_new_struct(), meta = kl_new_struct();
    kl_set_z(&p->arena, &meta, KL_F_name, name);
    kl_set_z(&p->arena, &meta, KL_F_namespace, "ns");
    kl_set(&p->arena, &root, KL_F_metadata, meta);
    struct kl_action *a =
        kl_plan_write(p, KL_VERB_CREATE, kl_res(KL_RES_core_v1_configmaps), NULL, &root);
    a->done_cb = on_done;
}

static void groups_run_one_after_another_and_stop_at_a_failure(void **state)
{
    struct kl_plan p;
    kl_plan_init(&p, KL_STR("k"), NULL);
    add_create(&p, "a");
    add_create(&p, "b");
    kl_plan_next_group(&p);
    add_create(&p, "a"); // exists
    add_create(&p, "c");
    kl_plan_next_group(&p);
    add_create(&p, "d");
    kl_plan_run(&p, client, NULL, on_end, NULL);
    kl_timers_advance(ts, 1); // the first group
    assert_string_equal(log_text, "ok ok ");
    kl_timers_advance(ts, 1);
    assert_string_equal(log_text, "ok ok fail ok skip ");
    assert_int_equal(ended, 1);
    assert_int_equal(p.err.code, KL_EEXISTS);
    assert_int_equal(fake_count(f, kl_res(KL_RES_core_v1_configmaps), "ns"), 3);
    kl_plan_fini(&p);
}

static void then_again(struct kl_plan *p)
{
    note("then2");
    assert_int_equal(p->err.code, KL_EEXISTS);
}

static void then_more(struct kl_plan *p)
{
    note("then");
    assert_int_equal(p->err.code, KL_EEXISTS);
    add_create(p, "x");
    kl_plan_next_group(p);
    add_create(p, "y");
    p->then = then_again;
}

static void what_then_adds_runs_after_a_failure(void **state)
{
    struct kl_plan p;
    kl_plan_init(&p, KL_STR("k"), NULL);
    add_create(&p, "a");
    kl_plan_next_group(&p);
    add_create(&p, "a");
    p.then = then_more;
    kl_plan_run(&p, client, NULL, on_end, NULL);
    kl_timers_advance(ts, 10);
    assert_string_equal(log_text, "ok fail then ok ok then2 ");
    assert_int_equal(ended, 1);
    assert_int_equal(p.err.code, KL_EEXISTS); // the first stays
    kl_plan_fini(&p);
}

static void tolerated_errors_are_no_failures(void **state)
{
    struct kl_plan p;
    kl_plan_init(&p, KL_STR("k"), NULL);
    struct kl_action *a = kl_plan_call(&p, KL_VERB_DELETE, kl_res(KL_RES_core_v1_pods), NULL,
                                       KL_STR("ns"), KL_STR("none"));
    a->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    kl_plan_next_group(&p);
    add_create(&p, "a");
    kl_plan_run(&p, client, NULL, on_end, NULL);
    kl_timers_advance(ts, 10);
    assert_int_equal(p.err.code, 0);
    assert_string_equal(log_text, "ok ");
    kl_plan_fini(&p);
}

static void a_cancelled_plan_ends(void **state)
{
    struct kl_plan p;
    kl_plan_init(&p, KL_STR("k"), NULL);
    add_create(&p, "a");
    kl_plan_next_group(&p);
    add_create(&p, "b");
    p.then = then_more;
    kl_plan_run(&p, client, NULL, on_end, NULL);
    kl_plan_cancel(&p);
    assert_int_equal(ended, 0);
    kl_timers_advance(ts, 10);
    assert_int_equal(ended, 1);
    assert_string_equal(log_text, "");
    assert_int_equal(p.err.code, KL_ECANCELED);
    kl_plan_fini(&p);
}

static void an_empty_plan_ends_at_once(void **state)
{
    struct kl_plan p;
    kl_plan_init(&p, KL_STR("k"), NULL);
    kl_plan_run(&p, client, NULL, on_end, NULL);
    assert_int_equal(ended, 1);
    kl_plan_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(groups_run_one_after_another_and_stop_at_a_failure, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_then_adds_runs_after_a_failure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tolerated_errors_are_no_failures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cancelled_plan_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_plan_ends_at_once, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
