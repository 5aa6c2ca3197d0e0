// SPDX-License-Identifier: Apache-2.0
// Messages as JSON (net/proto_json.h): what is taken becomes bytes whose JSON becomes the same
// bytes, in whatever pieces they come; and any bytes are taken or refused.
#include "fuzz.h"
#include "net/proto_json.h"
#include "store/etcd/etcd_gen.h"
#include <string.h>

enum { MAX = 1 << 20 };

static const struct kl_proto_desc *const descs[] = {
    &kl_etcd_txn_request_desc, &kl_etcd_watch_request_desc, &kl_etcd_status_response_desc,
    &kl_etcd_txn_response_desc};

static int to_json(const struct kl_proto_desc *d, struct kl_str wire, size_t step,
                   struct kl_buf *out)
{
    struct kl_proto_json j;
    kl_proto_json_begin(&j, d, wire.n, out);
    int rc = 0;
    for (size_t at = 0; at < wire.n && !rc; at += step) {
        struct kl_str s = kl_str_from(wire, at);
        s.n = s.n < step ? s.n : step;
        rc = kl_proto_json_put(&j, s, out);
    }
    FUZZ_CHECK(rc || kl_proto_json_done(&j) || kl_proto_json_left(&j) == 0, "not done");
    return rc ? rc : kl_proto_json_done(&j) ? 0 : KL_EPROTO;
}

static void round_trip(const struct kl_proto_desc *d, struct kl_str json, size_t step)
{
    struct kl_buf wire, same, text, again;
    struct kl_arena a;
    struct kl_error err;
    void *msg;
    kl_buf_init(&wire, MAX);
    kl_buf_init(&same, MAX);
    kl_buf_init(&text, 8 * MAX);
    kl_buf_init(&again, MAX);
    kl_arena_init(&a, 64 * MAX);
    int rc = kl_proto_from_json(&wire, d, json, &err);
    FUZZ_CHECK(!rc || err.msg[0], "no message");
    if (!rc && !kl_proto_decode(&a, d, kl_buf_str(&wire), &msg, &err)) {
        kl_proto_encode(&same, d, msg); // in order, without what says nothing
        if (d != &kl_etcd_watch_request_desc || !memchr(json.p, 'f', json.n)) { // packed filters
            rc = to_json(d, kl_buf_str(&same), step, &text);
            FUZZ_CHECK(!rc, "%d", rc);
            rc = kl_proto_from_json(&again, d, kl_buf_str(&text), &err);
            FUZZ_CHECK(!rc, "%s: %.*s", err.msg, KL_PRI(kl_buf_str(&text)));
            FUZZ_CHECK(kl_str_eq(kl_buf_str(&same), kl_buf_str(&again)), "%.*s",
                       KL_PRI(kl_buf_str(&text)));
        }
    }
    kl_arena_fini(&a);
    kl_buf_fini(&wire);
    kl_buf_fini(&same);
    kl_buf_fini(&text);
    kl_buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 16000)
        return 0;
    const struct kl_proto_desc *d = descs[data[0] % KL_COUNT(descs)];
    size_t step = (size_t)data[1] % 64 + 1, n;
    struct kl_str s = {(const char *)data + 2, size - 2};
    struct kl_json_edge edge = {0}, whole = {0};
    for (size_t at = 0; at <= s.n; at += step) { // pieces end where the whole does
        int rc = kl_json_edge(&edge, (struct kl_str){s.p, at}, false, &n, NULL);
        FUZZ_CHECK(!rc && n <= at, "%d", rc);
        if (!n)
            continue;
        size_t all;
        FUZZ_CHECK(!kl_json_edge(&whole, s, true, &all, NULL) && all == n, "%zu, %zu", n, all);
        break;
    }
    round_trip(d, s, step);
    struct kl_buf out;
    kl_buf_init(&out, 8 * MAX);
    to_json(d, s, step, &out);
    kl_buf_fini(&out);
    return 0;
}
