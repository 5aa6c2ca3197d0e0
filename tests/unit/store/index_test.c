// SPDX-License-Identifier: Apache-2.0
// The index against a sorted array: puts, replacements, deletions, ranks, walks; and old roots that
// must not change while new ones are made from them.
#include "base/clock.h"
#include "store/backend.h"
#include "store/index_int.h"
#include "store/view.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

enum { UNIVERSE = 3000, OPS = 20000, SNAPSHOTS = 8 };

static uint64_t next_rand(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s * 0x2545f4914f6cdd1dull;
}

static struct kl_str key_of(int i, char *buf, size_t n)
{
    // Of different lengths, some a prefix of others.
    int len = snprintf(buf, n, "/k/%04d", i / 3 * 3);
    for (int k = 0; k < i % 3; k++)
        buf[len++] = k ? '\xff' : 0;
    return (struct kl_str){buf, (size_t)len};
}

// model[i]: the value's revision of key i, 0: absent. Keys are in order of i.
static void check(const struct kl_node *root, const kl_rev *model, int from, int to)
{
    char a[32], b[32];
    struct kl_str key = key_of(from, a, sizeof(a)), end = key_of(to, b, sizeof(b));
    struct kl_iter it;
    int64_t want = 0;
    for (int i = from; i < to; i++)
        want += model[i] != 0;
    kl_iter_init_node(&it, root, key, end);
    assert_int_equal(it.left, want);
    for (int i = from; i < to; i++) {
        if (!model[i])
            continue;
        struct kl_kv *kv = kl_iter_next(&it);
        char buf[32];
        struct kl_str k = key_of(i, buf, sizeof(buf));
        assert_non_null(kv);
        assert_int_equal(kv->key_len, k.n);
        assert_memory_equal(kv->key, k.p, k.n);
        assert_int_equal(kv->mod_rev, model[i]);
    }
    assert_null(kl_iter_next(&it));
}

static void against_model(void **state)
{
    uint64_t seed = (uint64_t)kl_wall_ns() | 1, s = seed;
    const char *e = getenv("STORE_SEED");
    if (e)
        s = seed = strtoull(e, NULL, 10);
    print_message("STORE_SEED=%llu\n", (unsigned long long)seed);
    struct kl_index x = {.gen = 1};
    kl_rev model[UNIVERSE + 1] = {0};
    struct {
        struct kl_node *root;
        kl_rev model[UNIVERSE + 1];
    } *snap = calloc(SNAPSHOTS, sizeof(*snap));
    char buf[32];
    for (int op = 1; op <= OPS; op++) {
        // Grows, then shrinks to nothing, then grows again.
        int i = (int)(next_rand(&s) % UNIVERSE), phase = op * 3 / OPS;
        struct kl_str key = key_of(i, buf, sizeof(buf));
        bool found = false;
        if (next_rand(&s) % 10 < (phase == 1 ? 9 : 2)) {
            assert_int_equal(kl_index_del(&x, key, &found), 0);
            assert_int_equal(found, model[i] != 0);
            model[i] = 0;
        } else {
            struct kl_kv *kv = kl_kv_new(key, NULL);
            kv->mod_rev = model[i] = op;
            assert_int_equal(kl_index_put(&x, kv), 0);
            kl_kv_unref(kv);
        }
        struct kl_kv *there = kl_node_get(x.root, key);
        assert_int_equal(there ? there->mod_rev : 0, model[i]);
        if (op % 97 == 0) { // seal, as a proposed batch does
            int at = (int)(next_rand(&s) % SNAPSHOTS);
            kl_node_unref(snap[at].root);
            snap[at].root = kl_node_ref(x.root);
            memcpy(snap[at].model, model, sizeof(model));
            x.gen++;
        }
        if (op % 501 == 0) {
            int a = (int)(next_rand(&s) % UNIVERSE), b = (int)(next_rand(&s) % UNIVERSE);
            check(x.root, model, a < b ? a : b, a < b ? b : a);
            for (int k = 0; k < SNAPSHOTS; k++)
                check(snap[k].root, snap[k].model, 0, UNIVERSE);
        }
    }
    check(x.root, model, 0, UNIVERSE);
    for (int i = 0; i < UNIVERSE; i++) {
        bool found;
        kl_index_del(&x, key_of(i, buf, sizeof(buf)), &found);
    }
    assert_null(x.root);
    for (int k = 0; k < SNAPSHOTS; k++)
        kl_node_unref(snap[k].root);
    free(snap);
}

static void in_order(void **state)
{
    struct kl_index x = {.gen = 1};
    char buf[32];
    for (int i = 0; i < 100000; i++) {
        snprintf(buf, sizeof(buf), "%08d", i);
        struct kl_kv *kv = kl_kv_new(kl_str(buf), NULL);
        assert_int_equal(kl_index_put(&x, kv), 0);
        kl_kv_unref(kv);
    }
    assert_int_equal(x.root->count, 100000);
    assert_int_equal(kl_node_rank(x.root, KL_STR("00050000")), 50000);
    int64_t first, n;
    kl_node_range(x.root, KL_STR("00000010"), KL_STR("00000020"), &first, &n);
    assert_int_equal(n, 10);
    kl_node_range(x.root, KL_STR("00099990"), KL_RANGE_TO_LAST, &first, &n);
    assert_int_equal(n, 10);
    kl_node_range(x.root, KL_STR("2"), KL_STR("1"), &first, &n);
    assert_int_equal(n, 0);
    kl_node_unref(x.root);
}

static void ranges(void **state)
{
    char buf[8];
    assert_true(kl_str_eqz(kl_prefix_end(KL_STR("/a/"), buf), "/a0"));
    assert_true(kl_str_eqz(kl_prefix_end(KL_STR("a\xff\xff"), buf), "b"));
    assert_true(kl_str_eq(kl_prefix_end(KL_STR("\xff"), buf), KL_RANGE_TO_LAST));
    assert_true(kl_range_has(KL_STR("a"), KL_STR("b"), KL_STR("a")));
    assert_false(kl_range_has(KL_STR("a"), KL_STR("b"), KL_STR("b")));
    assert_false(kl_range_has(KL_STR("a"), (struct kl_str){0}, KL_STR("a\0")));
    assert_true(kl_range_has(KL_STR("a"), KL_RANGE_TO_LAST, KL_STR("zz")));
    assert_false(kl_range_has(KL_STR("a"), KL_RANGE_TO_LAST, KL_STR("A")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_model),
        cmocka_unit_test(in_order),
        cmocka_unit_test(ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
