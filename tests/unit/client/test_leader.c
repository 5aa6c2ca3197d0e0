// SPDX-License-Identifier: Apache-2.0
#include "client/leader.h"
#include "fake_client.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#define LEASES kl_res(KL_RES_coordination_v1_leases)

struct candidate {
    struct kl_client *client;
    struct kl_leader *leader;
    int starts, stops;
};

static struct kl_timers *ts;
static struct fake_cluster *f;
static struct candidate a, b;
static const char *cut_off;

static void on_started(void *arg)
{
    ((struct candidate *)arg)->starts++;
}

static void on_stopped(void *arg)
{
    ((struct candidate *)arg)->stops++;
}

static void stand(struct candidate *c, const char *identity)
{
    *c = (struct candidate){.client = fake_client_new(f, identity)};
    c->leader = kl_leader_new(&(struct kl_leader_opts){
        .client = c->client,
        .timers = ts,
        .ns = KL_STR("kube-system"),
        .name = KL_STR("kcm"),
        .identity = kl_str(identity),
        .started_cb = on_started,
        .stopped_cb = on_stopped,
        .arg = c,
    });
    assert_non_null(c->leader);
}

static int cut(void *arg, const char *user, const struct kl_call *call, struct kl_error *err)
{
    if (cut_off && strcmp(user, cut_off) == 0)
        return kl_error_set(err, KL_EUNAVAILABLE, "cut off");
    return 0;
}

static int set_up(void **state)
{
    cut_off = NULL;
    ts = kl_timers_new_virtual((int64_t)1700000000 * 1000000);
    f = fake_cluster_new(ts);
    fake_on_call(f, cut, NULL);
    stand(&a, "a");
    kl_timers_advance(ts, 100);
    stand(&b, "b");
    kl_timers_advance(ts, 30000);
    return 0;
}

static int tear_down(void **state)
{
    kl_leader_free(a.leader);
    kl_leader_free(b.leader);
    kl_timers_advance(ts, 100);
    kl_client_free(a.client);
    kl_client_free(b.client);
    fake_cluster_free(f);
    kl_timers_free(ts);
    return 0;
}

static const struct kl_value *lease_spec(void)
{
    struct kl_object *o = fake_get(f, LEASES, "kube-system", "kcm");
    assert_non_null(o);
    return kl_get(&o->root, KL_F_spec);
}

static void the_first_leads_and_goes_on(void **state)
{
    kl_timers_advance(ts, 3600000);
    assert_true(kl_leader_leads(a.leader));
    assert_false(kl_leader_leads(b.leader));
    assert_int_equal(a.starts, 1);
    assert_int_equal(a.stops + b.starts, 0);
    assert_true(kl_str_eqz(kl_text(kl_get(lease_spec(), KL_F_holderIdentity)), "a"));
    assert_int_equal(kl_int_or(kl_get(lease_spec(), KL_F_leaseDurationSeconds), 0), 15);
}

static void one_that_is_cut_off_stops_before_another_starts(void **state)
{
    cut_off = "a";
    for (int i = 0; i < 300 && !b.starts; i++) {
        kl_timers_advance(ts, 100);
        assert_false(kl_leader_leads(a.leader) && kl_leader_leads(b.leader));
    }
    assert_int_equal(a.stops, 1);
    assert_int_equal(b.starts, 1);
    assert_int_equal(kl_int_or(kl_get(lease_spec(), KL_F_leaseTransitions), 0), 1);
    cut_off = NULL;
    kl_timers_advance(ts, 60000);
    assert_true(kl_leader_leads(b.leader));
    assert_false(kl_leader_leads(a.leader));
}

static void a_released_lease_is_taken_soon(void **state)
{
    kl_leader_free(a.leader);
    a.leader = NULL;
    kl_timers_advance(ts, 4000);
    assert_true(kl_leader_leads(b.leader));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_leads_and_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_is_cut_off_stops_before_another_starts, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_released_lease_is_taken_soon, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
