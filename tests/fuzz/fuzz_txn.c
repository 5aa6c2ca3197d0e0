// SPDX-License-Identifier: Apache-2.0
// A message between servers (store/txn_codec.h). What is taken encodes to what decodes the same,
// and stays within the limits of a transaction.
#include "fuzz.h"
#include "store/txn_codec.h"
#include <string.h>

static void count(const struct kl_txn_body *body, int depth, size_t *nops)
{
    FUZZ_CHECK(depth <= KL_TXN_MAX_DEPTH, "depth %d", depth);
    *nops += body->nthen + body->nels;
    for (int side = 0; side < 2; side++) {
        const struct kl_op *ops = side ? body->els : body->then;
        size_t n = side ? body->nels : body->nthen;
        FUZZ_CHECK(n <= KL_TXN_MAX_OPS, "%zu operations", n);
        for (size_t i = 0; i < n; i++) {
            if (ops[i].kind == KL_OP_TXN)
                count(ops[i].txn, depth + 1, nops);
        }
    }
}

static void check_ask(struct kl_str item)
{
    struct kl_wire_ask a;
    void *mem = NULL;
    if (kl_wire_get_ask(item, &a, &mem))
        return;
    size_t nops = 0, n = kl_wire_ask_size(&a);
    if (a.kind == KL_WIRE_TXN)
        count(&a.body, 0, &nops);
    FUZZ_CHECK(nops <= KL_TXN_MAX_OPS_ALL, "%zu operations", nops);
    char *p = malloc(n);
    FUZZ_CHECK(kl_wire_put_ask(p, &a) == p + n, "size");
    FUZZ_CHECK(n == item.n + 4 && memcmp(p + 4, item.p, item.n) == 0, "%zu bytes of %zu", n,
               item.n);
    free(p);
    if (a.kind == KL_WIRE_TXN)
        kl_wire_drop_body(&a.body);
    free(mem);
}

static void check_answer(struct kl_str item)
{
    struct kl_wire_answer a;
    if (kl_wire_get_answer(item, &a))
        return;
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    FUZZ_CHECK(!kl_wire_put_answer(&b, &a), "no memory");
    FUZZ_CHECK(b.n == item.n + KL_WIRE_HEAD + 4 &&
                   memcmp(b.p + KL_WIRE_HEAD + 4, item.p, item.n) == 0,
               "%zu bytes of %zu", b.n, item.n);
    kl_buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum kl_wire_what what;
    struct kl_str rest, item;
    if (kl_wire_open((struct kl_str){(const char *)data, size}, &what, &rest))
        return 0;
    while (kl_wire_next(&rest, &item) == 1) {
        if (what == KL_WIRE_ASK)
            check_ask(item);
        else
            check_answer(item);
    }
    return 0;
}
