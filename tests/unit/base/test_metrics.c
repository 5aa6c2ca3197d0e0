// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/metrics.h"
#include "base/err.h"
#include <pthread.h>
#include <stdio.h>

static struct kl_metric gets = {.name = "kl_requests_total",
                                .help = "Requests \\ by verb\nand more",
                                .kind = KL_COUNTER,
                                .label_name = "verb",
                                .label_value = "GET"};
static struct kl_metric open_streams = {.name = "kl_streams", .help = "Streams", .kind = KL_GAUGE};
static struct kl_metric odd = {.name = "kl_requests_total",
                               .kind = KL_COUNTER,
                               .label_name = "verb",
                               .label_value = "a\"b\\c\nd"};
static const double bounds[] = {0.005, 0.1, 2.5};
static atomic_llong buckets[4];
static struct kl_metric seconds = {.name = "kl_seconds",
                                   .help = "Time",
                                   .kind = KL_HISTOGRAM,
                                   .bounds = bounds,
                                   .nbounds = 3,
                                   .buckets = buckets};

static void collect_cb(void *arg)
{
    kl_metric_set(&open_streams, ++*(int *)arg);
}

static int scrapes;

static void register_all(void)
{
    kl_metric_register(&gets);
    kl_metric_register(&open_streams);
    kl_metric_register(&odd); // goes to its name
    kl_metric_register(&seconds);
    kl_metric_register(&gets); // is there already
    kl_metrics_collector(collect_cb, &scrapes);
}

static void test_text(void **state)
{
    register_all();
    kl_metric_add(&gets, 41);
    kl_metric_add(&gets, 1);
    kl_metric_observe(&seconds, 0.005); // le means: less or equal
    kl_metric_observe(&seconds, 0.05);
    kl_metric_observe(&seconds, 2);
    kl_metric_observe(&seconds, 100);
    struct kl_buf out;
    kl_buf_init(&out, 1 << 20);
    kl_metrics_write(&out);
    kl_buf_putc(&out, 0);
    assert_string_equal(out.p, "# HELP kl_requests_total Requests \\\\ by verb\\nand more\n"
                               "# TYPE kl_requests_total counter\n"
                               "kl_requests_total{verb=\"GET\"} 42\n"
                               "kl_requests_total{verb=\"a\\\"b\\\\c\\nd\"} 0\n"
                               "# HELP kl_streams Streams\n"
                               "# TYPE kl_streams gauge\n"
                               "kl_streams 1\n"
                               "# HELP kl_seconds Time\n"
                               "# TYPE kl_seconds histogram\n"
                               "kl_seconds_bucket{le=\"0.005\"} 1\n"
                               "kl_seconds_bucket{le=\"0.1\"} 2\n"
                               "kl_seconds_bucket{le=\"2.5\"} 3\n"
                               "kl_seconds_bucket{le=\"+Inf\"} 4\n"
                               "kl_seconds_sum 102.055\n"
                               "kl_seconds_count 4\n");
    kl_buf_fini(&out);
    // A buffer that is too small says so.
    kl_buf_init(&out, 100);
    kl_metrics_write(&out);
    assert_int_equal(out.err, KL_ELIMIT);
    kl_buf_fini(&out);
    assert_int_equal(scrapes, 2);
}

static void *count_up(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        kl_metric_add(&odd, 1);
        kl_metric_observe(&seconds, 0.001);
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, count_up, NULL), 0);
    for (int i = 0; i < 20; i++) { // scraped meanwhile
        struct kl_buf out;
        kl_buf_init(&out, 1 << 20);
        kl_metrics_write(&out);
        assert_int_equal(out.err, 0);
        kl_buf_fini(&out);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(atomic_load(&odd.value), 80000);
    assert_int_equal(atomic_load(&buckets[0]), 80001);
}

// Who asks for the same name and label gets the same series.
static void test_shared(void **state)
{
    char label[] = "one";
    const struct kl_metric like = {
        .name = "shared_total", .help = "h", .label_name = "name", .label_value = label};
    struct kl_metric *m = kl_metric_shared(&like);
    assert_non_null(m);
    kl_metric_add(m, 3);
    assert_ptr_equal(kl_metric_shared(&like), m);
    label[0] = 'O'; // the value was copied
    assert_string_equal(m->label_value, "one");
    struct kl_metric *other = kl_metric_shared(&like);
    assert_ptr_not_equal(other, m);
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_metrics_write(&b);
    kl_buf_putc(&b, 0);
    assert_non_null(strstr(b.p, "shared_total{name=\"one\"} 3\nshared_total{name=\"One\"} 0\n"));
    kl_buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_shared),
    };
    return cmocka_run_group_tests_name("base metrics", tests, NULL, NULL);
}
