// SPDX-License-Identifier: Apache-2.0
// EventRateLimit's buckets in virtual time: burst, refill, the least recently used goes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "apiserver/admission/event_limits.h"

#define SECOND INT64_C(1000000000)

static struct kl_event_limits *limits;

// What is said of an event; "" when it may pass.
static const char *take(const char *ns, const char *user, int64_t now_ns)
{
    static char text[256];
    struct kl_arena a;
    struct kl_str why;
    const struct kl_str keys[KL_EVENT_LIMIT_TYPES] = {
        [KL_EVENT_LIMIT_SERVER] = KL_STR(""),
        [KL_EVENT_LIMIT_NAMESPACE] = kl_str(ns),
        [KL_EVENT_LIMIT_USER] = kl_str(user),
        [KL_EVENT_LIMIT_SOURCE] = KL_STR("source"),
    };
    kl_arena_init(&a, 1 << 20);
    bool may = kl_event_limits_take(limits, keys, now_ns, &a, &why);
    snprintf(text, sizeof text, "%.*s", may ? 0 : (int)why.n, may ? "" : why.p);
    kl_arena_fini(&a);
    return text;
}

static void test_bucket(void **state)
{
    const struct kl_event_limit l = {KL_EVENT_LIMIT_NAMESPACE, 2, 3, 0};
    (void)state;
    limits = kl_event_limits_new(&l, 1);
    for (int i = 0; i < 3; i++)
        assert_string_equal(take("a", "", 0), "");
    assert_string_equal(take("a", "", 0), "limit reached on type Namespace for key a");
    assert_string_equal(take("b", "", 0), "");
    assert_string_equal(take("a", "", SECOND / 2 - 2), "limit reached on type Namespace for key a");
    assert_string_equal(take("a", "", SECOND / 2), ""); // two a second
    assert_string_equal(take("a", "", SECOND / 2), "limit reached on type Namespace for key a");
    for (int i = 0; i < 3; i++) // never more than the burst
        assert_string_equal(take("a", "", 100 * SECOND), "");
    assert_string_equal(take("a", "", 100 * SECOND), "limit reached on type Namespace for key a");
    kl_event_limits_free(limits);
}

static void test_several(void **state)
{
    const struct kl_event_limit l[] = {{KL_EVENT_LIMIT_SERVER, 1, 2, 1},
                                       {KL_EVENT_LIMIT_USER, 1, 1, 0}};
    (void)state;
    limits = kl_event_limits_new(l, 2);
    assert_string_equal(take("a", "eve", 0), "");
    assert_string_equal(take("a", "eve", 0), "limit reached on type User for key eve");
    // The refused one took from the server's bucket too.
    assert_string_equal(take("a", "bob", 0), "limit reached on type Server for key ");
    assert_string_equal(
        take("a", "bob", 0),
        "[limit reached on type Server for key , limit reached on type User for key "
        "bob]");
    kl_event_limits_free(limits);
}

static void test_least_recently_used(void **state)
{
    const struct kl_event_limit l = {KL_EVENT_LIMIT_NAMESPACE, 1, 1, 100};
    char name[16];
    (void)state;
    limits = kl_event_limits_new(&l, 1);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "ns%d", i);
        assert_string_equal(take(name, "", 0), "");
    }
    assert_string_equal(take("ns0", "", 0), "limit reached on type Namespace for key ns0");
    assert_string_equal(take("more", "", 0), ""); // in the place of ns1
    assert_string_equal(take("ns0", "", 0), "limit reached on type Namespace for key ns0");
    assert_string_equal(take("ns1", "", 0), "");
    assert_string_equal(take("ns3", "", 0), "limit reached on type Namespace for key ns3");
    kl_event_limits_free(limits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bucket),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_least_recently_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
