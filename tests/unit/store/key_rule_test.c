// SPDX-License-Identifier: Apache-2.0
// A bound that no key of a table can be is replaced by one that compares the same with every key
// that can.
#include "store/key_rule.h"
#include "base/rand.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

enum { MAX = 6, ROUNDS = 300000 };

// Bytes at the edges of every form of UTF-8.
static const unsigned char edges[] = {0,    1,    'a',  0x7e, 0x7f, 0x80, 0x8f,
                                      0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf,
                                      0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff};

static struct kl_str random_key(char *p)
{
    size_t n = kl_rand_u64() % (MAX + 1);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)edges[kl_rand_u64() % sizeof(edges)];
    return (struct kl_str){p, n};
}

static bool holds(const struct kl_key_rule *rule, struct kl_str key)
{
    return kl_key_rule_check(rule, key, NULL) == 0;
}

static void same_comparisons(enum kl_key_text text)
{
    const struct kl_key_rule rule = {0, text};
    char a[MAX], b[MAX], out[MAX + 4];
    int valid = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct kl_str bound = random_key(a), key = random_key(b);
        ptrdiff_t n = kl_key_rule_bound(&rule, bound, out);
        struct kl_str now = {out, n < 0 ? 0 : (size_t)n};
        if (n >= 0) {
            assert_true(holds(&rule, now));
            assert_true(kl_str_cmp(now, bound) >= 0);
        }
        if (holds(&rule, bound))
            assert_int_equal(kl_str_cmp(now, bound), 0);
        if (!holds(&rule, key))
            continue;
        valid++;
        assert_int_equal(kl_str_cmp(key, bound) < 0, n < 0 || kl_str_cmp(key, now) < 0);
    }
    assert_true(valid > ROUNDS / 1000);
}

static void bounds(void **state)
{
    same_comparisons(KL_KEY_BYTES);
    same_comparisons(KL_KEY_NO_NUL);
    same_comparisons(KL_KEY_ASCII);
    same_comparisons(KL_KEY_UTF8);
}

static void utf8_as_base(void **state)
{
    const struct kl_key_rule rule = {0, KL_KEY_UTF8};
    char p[MAX];
    for (int i = 0; i < ROUNDS; i++) {
        struct kl_str key = random_key(p);
        bool nul = key.n && memchr(key.p, 0, key.n);
        assert_int_equal(holds(&rule, key), kl_utf8_valid(key) && !nul);
    }
}

static void told(void **state)
{
    struct kl_error err;
    struct kl_key_rule rule = {630, KL_KEY_ASCII};
    char key[631];
    memset(key, 'k', sizeof(key));
    assert_int_equal(kl_key_rule_check(&rule, (struct kl_str){key, 630}, &err), 0);
    assert_int_equal(kl_key_rule_check(&rule, (struct kl_str){key, 631}, &err), KL_ETOOLARGE);
    assert_non_null(strstr(err.msg, "a key of 631 bytes"));
    assert_int_equal(kl_key_rule_check(&rule, KL_STR("/a\xc3\xa4"), &err), KL_EBADREQUEST);
    assert_non_null(strstr(err.msg, "byte 0xc3 at 2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bounds), cmocka_unit_test(utf8_as_base),
                                       cmocka_unit_test(told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
