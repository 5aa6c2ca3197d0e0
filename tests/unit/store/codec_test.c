// SPDX-License-Identifier: Apache-2.0
// What one server sends to another reads back the same, and nothing else is taken.
#include "store/txn_codec.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static void same_body(const struct kl_txn_body *a, const struct kl_txn_body *b);

static void same_str(struct kl_str a, struct kl_str b)
{
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.p, b.p, a.n);
}

static void same_op(const struct kl_op *a, const struct kl_op *b)
{
    assert_int_equal(a->kind, b->kind);
    if (a->kind == KL_OP_TXN) {
        same_body(a->txn, b->txn);
        return;
    }
    same_str(a->key, b->key);
    same_str(a->end, b->end);
    assert_int_equal(a->value == NULL, b->value == NULL);
    same_str(kl_bytes_str(a->value), kl_bytes_str(b->value));
    assert_int_equal(a->lease, b->lease);
    assert_int_equal(a->limit, b->limit);
    assert_int_equal(a->ignore_value, b->ignore_value);
    assert_int_equal(a->ignore_lease, b->ignore_lease);
}

static void same_body(const struct kl_txn_body *a, const struct kl_txn_body *b)
{
    assert_int_equal(a->ncompares, b->ncompares);
    assert_int_equal(a->nthen, b->nthen);
    assert_int_equal(a->nels, b->nels);
    for (size_t i = 0; i < a->ncompares; i++) {
        const struct kl_compare *x = &a->compares[i], *y = &b->compares[i];
        assert_int_equal(x->target, y->target);
        assert_int_equal(x->result, y->result);
        assert_int_equal(x->num, y->num);
        same_str(x->key, y->key);
        same_str(x->end, y->end);
        same_str(x->value, y->value);
    }
    for (size_t i = 0; i < a->nthen; i++)
        same_op(&a->then[i], &b->then[i]);
    for (size_t i = 0; i < a->nels; i++)
        same_op(&a->els[i], &b->els[i]);
}

static struct kl_str encode(const struct kl_wire_ask *a)
{
    size_t n = kl_wire_ask_size(a);
    char *p = malloc(n + KL_WIRE_HEAD);
    kl_wire_put_head(p, KL_WIRE_ASK);
    assert_ptr_equal(kl_wire_put_ask(p + KL_WIRE_HEAD, a), p + KL_WIRE_HEAD + n);
    return (struct kl_str){p, n + KL_WIRE_HEAD};
}

static int decode(struct kl_str msg, struct kl_wire_ask *ret_a, void **ret_mem)
{
    enum kl_wire_what what;
    struct kl_str rest, item;
    assert_int_equal(kl_wire_open(msg, &what, &rest), 0);
    assert_int_equal(what, KL_WIRE_ASK);
    assert_int_equal(kl_wire_next(&rest, &item), 1);
    assert_int_equal(rest.n, 0);
    return kl_wire_get_ask(item, ret_a, ret_mem);
}

static void transactions(void **state)
{
    struct kl_bytes *v = kl_bytes_new(KL_STR("va\0lue")), *none = kl_bytes_new(KL_STR(""));
    struct kl_compare c[] = {
        {.key = KL_STR("a"), .target = KL_COMPARE_MOD, .result = KL_COMPARE_LT, .num = -5},
        {.key = KL_STR("b"),
         .end = KL_STR("\0"),
         .target = KL_COMPARE_VALUE,
         .result = KL_COMPARE_NE,
         .value = KL_STR("x\0y")}};
    struct kl_op in[] = {{.kind = KL_OP_PUT, .key = KL_STR("k\0k"), .value = none, .lease = 1},
                         {.kind = KL_OP_PUT, .key = KL_STR("m"), .ignore_value = true}};
    struct kl_txn_body nested = {.compares = c, .ncompares = 2, .els = in, .nels = 2};
    struct kl_op ops[] = {{.kind = KL_OP_PUT, .key = KL_STR("p"), .value = v, .lease = INT64_MAX},
                          {.kind = KL_OP_PUT, .key = KL_STR("q"), .value = v, .ignore_lease = true},
                          {.kind = KL_OP_TXN, .txn = &nested},
                          {.kind = KL_OP_GET, .key = KL_STR("g"), .end = KL_STR("h"), .limit = 500},
                          {.kind = KL_OP_DELETE, .key = KL_STR("d"), .end = KL_RANGE_TO_LAST}};
    struct kl_wire_ask a = {.seq = UINT64_MAX - 1,
                            .attempt = 7,
                            .kind = KL_WIRE_TXN,
                            .again = true,
                            .body = {.compares = c, .ncompares = 1, .then = ops, .nthen = 5}},
                       b;
    void *mem;
    struct kl_str msg = encode(&a);
    assert_int_equal(decode(msg, &b, &mem), 0);
    assert_int_equal(b.seq, a.seq);
    assert_int_equal(b.attempt, 7);
    assert_true(b.again);
    same_body(&a.body, &b.body);
    kl_wire_drop_body(&b.body);
    free(mem);
    // Cut anywhere, it is refused: the length says so, or the end of the body.
    for (size_t n = KL_WIRE_HEAD + 4; n < msg.n; n++) {
        char *cut = malloc(n);
        memcpy(cut, msg.p, n);
        uint32_t len = (uint32_t)(n - KL_WIRE_HEAD - 4);
        memcpy(cut + KL_WIRE_HEAD, &len, 4);
        assert_int_equal(decode((struct kl_str){cut, n}, &b, &mem), KL_EPROTO);
        free(cut);
    }
    free((void *)msg.p);
    kl_bytes_unref(v);
    kl_bytes_unref(none);
}

static void requests(void **state)
{
    for (int kind = KL_WIRE_GRANT; kind < KL_WIRE_KINDS; kind++) {
        struct kl_wire_ask a = {.seq = 1, .kind = kind, .id = INT64_MIN, .num = 9000000000}, b;
        void *mem;
        struct kl_str msg = encode(&a);
        assert_int_equal(decode(msg, &b, &mem), 0);
        assert_int_equal(b.kind, kind);
        assert_int_equal(b.id, a.id);
        assert_int_equal(b.num, a.num);
        assert_null(mem);
        free((void *)msg.p);
    }
}

static void answers(void **state)
{
    struct kl_buf buf;
    kl_buf_init(&buf, 1 << 20);
    char text[1020];
    memset(text, 'x', sizeof(text));
    const struct kl_wire_answer all[] = {
        {.seq = 1, .attempt = 2, .outcome = KL_WIRE_IN_LOG, .rev = 3},
        {.seq = 2, .outcome = KL_WIRE_READS, .rev = INT64_MAX},
        {.seq = 3, .outcome = KL_WIRE_LEASE, .ttl_ms = 1000, .left_ms = 999},
        {.seq = 4, .outcome = KL_WIRE_ERROR, .code = KL_ENOTFOUND, .text = KL_STR("lease")},
        {.seq = 5, .outcome = KL_WIRE_ERROR, .code = KL_EIO, .text = {text, sizeof(text)}},
        {.seq = 6, .outcome = KL_WIRE_RETRY},
    };
    for (size_t i = 0; i < KL_COUNT(all); i++)
        assert_int_equal(kl_wire_put_answer(&buf, &all[i]), 0);
    enum kl_wire_what what;
    struct kl_str rest, item;
    assert_int_equal(kl_wire_open(kl_buf_str(&buf), &what, &rest), 0);
    assert_int_equal(what, KL_WIRE_ANSWER);
    for (size_t i = 0; i < KL_COUNT(all); i++) {
        struct kl_wire_answer a;
        assert_int_equal(kl_wire_next(&rest, &item), 1);
        assert_int_equal(kl_wire_get_answer(item, &a), 0);
        assert_int_equal(a.seq, all[i].seq);
        assert_int_equal(a.attempt, all[i].attempt);
        assert_int_equal(a.outcome, all[i].outcome);
        assert_int_equal(a.rev, all[i].rev);
        assert_int_equal(a.ttl_ms, all[i].ttl_ms);
        assert_int_equal(a.left_ms, all[i].left_ms);
        assert_int_equal(a.code, all[i].code);
        assert_int_equal(a.text.n, all[i].text.n < 1000 ? all[i].text.n : 1000);
        item.n--;
        assert_int_equal(kl_wire_get_answer(item, &a), KL_EPROTO);
    }
    assert_int_equal(kl_wire_next(&rest, &item), 0);
    kl_buf_fini(&buf);
}

// What only somebody else's code would send.
static void refused(void **state)
{
    enum kl_wire_what what;
    struct kl_str rest, item;
    assert_int_equal(kl_wire_open(KL_STR(""), &what, &rest), KL_EPROTO);
    assert_int_equal(kl_wire_open(KL_STR("\2\1"), &what, &rest), KL_EPROTO); // another version
    assert_int_equal(kl_wire_open(KL_STR("\1\3"), &what, &rest), KL_EPROTO);
    rest = KL_STR("\5\0\0\0abcd");
    assert_int_equal(kl_wire_next(&rest, &item), KL_EPROTO);
    // Nested too deep, and too many operations.
    struct kl_txn_body deep[KL_TXN_MAX_DEPTH + 3];
    struct kl_op op[KL_TXN_MAX_DEPTH + 2];
    memset(deep, 0, sizeof(deep));
    for (int i = 0; i < KL_TXN_MAX_DEPTH + 2; i++) {
        op[i] = (struct kl_op){.kind = KL_OP_TXN, .txn = &deep[i + 1]};
        deep[i] = (struct kl_txn_body){.then = &op[i], .nthen = 1};
    }
    struct kl_op *many = calloc(KL_TXN_MAX_OPS + 1, sizeof(*many));
    for (int i = 0; i <= KL_TXN_MAX_OPS; i++)
        many[i] = (struct kl_op){.kind = KL_OP_GET, .key = KL_STR("k")};
    const struct kl_txn_body bodies[] = {deep[0], {.els = many, .nels = KL_TXN_MAX_OPS + 1}};
    for (size_t i = 0; i < KL_COUNT(bodies); i++) {
        struct kl_wire_ask a = {.seq = 1, .kind = KL_WIRE_TXN, .body = bodies[i]};
        void *mem;
        struct kl_str msg = encode(&a);
        assert_int_equal(decode(msg, &a, &mem), KL_EPROTO);
        free((void *)msg.p);
    }
    free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transactions),
        cmocka_unit_test(requests),
        cmocka_unit_test(answers),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
