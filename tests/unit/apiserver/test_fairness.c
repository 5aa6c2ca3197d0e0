// SPDX-License-Identifier: Apache-2.0
// The pure parts of priority and fairness against what upstream's answered (fair_vectors/main.go):
// hands, hashes of flows, allocations of seats, and who runs when in random histories of its
// queues.
#include "apiserver/fairness/alloc.h"
#include "apiserver/fairness/fairness_int.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_LINE = 4096, MAX_ITEMS = 256 };
static const char *dir;

static FILE *open_vectors(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("%s: cannot open", path);
    return f;
}

static void test_shuffle(void **state)
{
    char line[MAX_LINE];
    FILE *f = open_vectors("shuffle.txt");
    int deals = 0, flows = 0, allocs = 0;
    (void)state;
    while (fgets(line, sizeof line, f)) {
        char *at = line, schema[64], by[256];
        int n, deck, hand;
        unsigned long long hash;
        if (sscanf(line, "deal %d %d %llu%n", &deck, &hand, &hash, &n) == 3) {
            int cards[KL_SHUFFLE_MAX_HAND];
            at += n;
            assert_true(kl_shuffle_valid(deck, hand));
            kl_shuffle_deal(deck, hand, hash, cards);
            for (int i = 0; i < hand; i++)
                assert_int_equal(cards[i], strtol(at, &at, 10));
            deals++;
        } else if (sscanf(line, "flow %63s .%255s %llu", schema, by, &hash) == 3) {
            assert_true(kl_flow_hash(schema, strlen(schema), by, strlen(by)) == hash);
            flows++;
        } else if (sscanf(line, "alloc %d %d%n", &deck, &hand, &n) == 2) {
            struct kl_share in[16];
            double out[16], fair;
            at += n;
            for (int i = 0; i < hand; i++) {
                in[i].target = strtod(at, &at);
                in[i].lower = strtod(at, &at);
                in[i].upper = strtod(at, &at);
            }
            bool ok = kl_shares_allocate(deck, in, (size_t)hand, out, &fair);
            assert_int_equal(ok, strstr(at, "error") == NULL);
            if (ok && fabs(fair - strtod(at, &at)) > 1e-6 * (1 + fabs(fair)))
                fail_msg("%s: the proportion is %g", line, fair);
            for (int i = 0; ok && i < hand; i++) {
                double want = strtod(at, &at);
                if (fabs(out[i] - want) > 1e-6)
                    fail_msg("%s: share %d: got %.12g, want %.12g", line, i, out[i], want);
            }
            allocs++;
        }
    }
    fclose(f);
    assert_true(deals == 240 && flows >= 39 && allocs == 400);
    assert_false(kl_shuffle_valid(8, 9));
    assert_false(kl_shuffle_valid(1 << 20, 4));
}

// ---- histories

struct lingering {
    struct kl_fq_linger l;
    int64_t until;
    bool used;
};

struct history {
    struct kl_fqs q;
    struct kl_fq_item items[MAX_ITEMS];
    bool running[MAX_ITEMS];
    struct lingering lingering[MAX_ITEMS];
    int64_t now;
};

static void take_ready(struct history *h)
{
    for (struct kl_fq_item *it; (it = kl_fq_ready(&h->q));)
        h->running[it - h->items] = true;
}

static void pass(struct history *h, int64_t d)
{
    int64_t until = h->now + d;
    for (;;) {
        struct lingering *next = NULL;
        for (int i = 0; i < MAX_ITEMS; i++) {
            struct lingering *l = &h->lingering[i];
            if (l->used && l->until <= until && (!next || l->until < next->until))
                next = l;
        }
        if (!next)
            break;
        h->now = next->until;
        next->used = false;
        kl_fqs_linger_end(&h->q, &next->l, h->now);
        take_ready(h);
    }
    h->now = until;
}

static void finish(struct history *h, int id)
{
    struct kl_fq_linger l;
    h->running[id] = false;
    int64_t latency = h->items[id].latency_ns;
    if (kl_fqs_finish(&h->q, &h->items[id], &l, h->now))
        h->lingering[id] = (struct lingering){l, h->now + latency, true};
    take_ready(h);
}

static bool start(struct history *h, const char *line)
{
    int id, initial, final, n;
    unsigned long long hash;
    long long latency;
    if (sscanf(line, "start %d %llu %d %d %lld%n", &id, &hash, &initial, &final, &latency, &n) != 5)
        return false;
    h->items[id] = (struct kl_fq_item){
        .initial_seats = (uint32_t)initial, .final_seats = (uint32_t) final, .latency_ns = latency};
    enum kl_fq_verdict v = kl_fqs_start(&h->q, &h->items[id], hash, h->now);
    bool refused = strncmp(line + n, " refused", 8) == 0;
    if ((v == KL_FQ_QUEUE_FULL) != refused)
        fail_msg("%s: the verdict is %d", line, v);
    if (v == KL_FQ_RUN)
        h->running[id] = true;
    take_ready(h);
    return true;
}

static void compare(const struct history *h, const char *line)
{
    char got[MAX_LINE] = "", *want = strstr(line, " :");
    size_t n = 0;
    for (int i = 0; i < MAX_ITEMS; i++)
        if (h->running[i])
            n += (size_t)snprintf(got + n, sizeof got - n, " %d", i);
    want[strcspn(want, "\n")] = 0;
    if (strcmp(want + 2, got))
        fail_msg("%s: these run:%s", line, got);
}

static void drain(struct history *h)
{
    for (;;) {
        int id = 0;
        while (id < MAX_ITEMS && !h->running[id])
            id++;
        if (id < MAX_ITEMS)
            finish(h, id);
        else if (h->q.waiting || h->q.seats_in_use)
            pass(h, 1000000000);
        else
            break;
    }
    assert_int_equal(h->q.nactive, 0);
    assert_int_equal(h->q.executing + h->q.seats_waiting, 0);
    kl_fqs_fini(&h->q);
}

static void test_queues(void **state)
{
    char line[MAX_LINE];
    FILE *f = open_vectors("queues.txt");
    struct history *h = calloc(1, sizeof *h);
    int histories = 0, id;
    (void)state;
    while (fgets(line, sizeof line, f)) {
        struct kl_fq_config c;
        int limit;
        long long d;
        if (sscanf(line, "history %d %d %d %d", &c.queues, &c.hand_size, &c.queue_length, &limit) ==
            4) {
            if (histories++)
                drain(h);
            memset(h, 0, sizeof *h);
            h->now = 1000;
            kl_fqs_init(&h->q, &c, limit, h->now);
            continue;
        }
        if (!start(h, line)) {
            if (sscanf(line, "finish %d", &id) == 1)
                finish(h, id);
            else if (sscanf(line, "pass %lld", &d) == 1)
                pass(h, d);
            else
                fail_msg("not understood: %s", line);
        }
        compare(h, line);
    }
    drain(h);
    assert_int_equal(histories, 40);
    free(h);
    fclose(f);
}

// ---- what has no vectors

static void test_without_queues(void **state)
{
    struct kl_fqs q;
    struct kl_fq_config reject = {0}, exempt = {.queues = -1};
    struct kl_fq_item a = {.initial_seats = 2}, b = a, c = {.initial_seats = 1};
    struct kl_fq_linger l;
    (void)state;
    kl_fqs_init(&q, &reject, 3, 0);
    assert_int_equal(kl_fqs_start(&q, &a, 1, 1), KL_FQ_RUN);
    assert_int_equal(kl_fqs_start(&q, &b, 1, 2), KL_FQ_NO_CAPACITY);
    assert_int_equal(kl_fqs_start(&q, &c, 1, 3), KL_FQ_RUN);
    assert_false(kl_fqs_finish(&q, &a, &l, 4));
    assert_int_equal(kl_fqs_start(&q, &b, 1, 5), KL_FQ_RUN);
    kl_fqs_finish(&q, &b, &l, 6);
    kl_fqs_finish(&q, &c, &l, 7);
    kl_fqs_configure(&q, &exempt, 0, 8);
    assert_int_equal(kl_fqs_start(&q, &a, 1, 9), KL_FQ_RUN);
    kl_fqs_finish(&q, &a, &l, 10);
    assert_int_equal(q.rejected, 1);
    kl_fqs_fini(&q);
}

static void test_cancel(void **state)
{
    struct kl_fqs q;
    struct kl_fq_config conf = {.queues = 4, .hand_size = 1, .queue_length = 2};
    struct kl_fq_item it[4] = {
        {.initial_seats = 1}, {.initial_seats = 1}, {.initial_seats = 1}, {.initial_seats = 1}};
    struct kl_fq_linger l;
    (void)state;
    kl_fqs_init(&q, &conf, 1, 0);
    assert_int_equal(kl_fqs_start(&q, &it[0], 3, 1), KL_FQ_RUN);
    assert_int_equal(kl_fqs_start(&q, &it[1], 3, 2), KL_FQ_WAIT);
    assert_int_equal(kl_fqs_start(&q, &it[2], 3, 3), KL_FQ_WAIT);
    assert_int_equal(kl_fqs_start(&q, &it[3], 3, 4), KL_FQ_QUEUE_FULL);
    kl_fqs_cancel(&q, &it[1], 5);
    assert_null(kl_fq_ready(&q));
    kl_fqs_finish(&q, &it[0], &l, 6);
    assert_ptr_equal(kl_fq_ready(&q), &it[2]);
    kl_fqs_finish(&q, &it[2], &l, 7);
    assert_int_equal(q.nactive, 0);
    assert_int_equal(q.timed_out, 1);
    kl_fqs_fini(&q);
}

// What is not used is lent, and comes back when it is wanted.
static void test_borrowing(void **state)
{
    struct kl_level_share a = {.nominal = 40, .min = 10, .max = 140, .current = 40};
    struct kl_level_share b = {.nominal = 60, .min = 30, .max = 70, .current = 60};
    struct kl_level_share *all[] = {&a, &b};
    struct kl_share work[2];
    double work2[2], fair;
    (void)state;
    kl_level_share_demand(&a,
                          &(struct kl_fq_demand){.seconds = 10, .x = 1000, .xx = 1e5, .max = 100});
    kl_level_share_demand(&b, &(struct kl_fq_demand){.seconds = 10, .x = 50, .xx = 250, .max = 5});
    kl_level_shares_adjust(all, 2, 100, work, work2, &fair);
    assert_int_equal(a.current, 70);
    assert_int_equal(b.current, 30);
    kl_level_share_demand(&b,
                          &(struct kl_fq_demand){.seconds = 10, .x = 700, .xx = 49000, .max = 70});
    kl_level_shares_adjust(all, 2, 100, work, work2, &fair);
    assert_int_equal(a.current, 40);
    assert_int_equal(b.current, 60);
}

static void test_retry_after(void **state)
{
    struct kl_drops d;
    (void)state;
    kl_drops_init(&d);
    assert_int_equal(d.retry_after, 1);
    for (int64_t s = 100; s < 160; s++)
        for (int i = 0; i < 200; i++)
            kl_drops_note(&d, s);
    assert_int_equal(d.retry_after, 32);
    for (int64_t s = 1000; s < 1100; s++)
        kl_drops_note(&d, s * 100);
    assert_int_equal(d.retry_after, 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shuffle),        cmocka_unit_test(test_queues),
        cmocka_unit_test(test_without_queues), cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_borrowing),      cmocka_unit_test(test_retry_after),
    };
    dir = argc > 1 ? argv[1] : "fair_vectors";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
