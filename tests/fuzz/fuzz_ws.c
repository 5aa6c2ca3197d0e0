// SPDX-License-Identifier: Apache-2.0
// The WebSocket frame reader, in both roles: the same messages whatever the pieces, all within the
// bound, and text is UTF-8.
#include "fuzz.h"
#include "net/ws_int.h"

enum { MAX_MESSAGE = 5000 };

struct seen {
    uint64_t hash;
    long messages, controls;
};

static void add(struct seen *s, int op, struct kl_str data)
{
    s->hash = (s->hash ^ (uint64_t)op) * 1099511628211u;
    for (size_t i = 0; i < data.n; i++)
        s->hash = (s->hash ^ (unsigned char)data.p[i]) * 1099511628211u;
}

static void on_message(void *arg, enum kl_ws_op op, struct kl_str data)
{
    struct seen *s = arg;
    FUZZ_CHECK(data.n <= MAX_MESSAGE, "%zu bytes", data.n);
    FUZZ_CHECK(op != KL_WS_TEXT || kl_utf8_valid(data), "text");
    s->messages++;
    add(s, (int)op, data);
}

static void on_control(void *arg, int op, struct kl_str data)
{
    struct seen *s = arg;
    FUZZ_CHECK(data.n <= 125 && op >= 8 && op <= 10, "op %d, %zu bytes", op, data.n);
    s->controls++;
    add(s, op, data);
}

static const struct kl_ws_reader_cbs cbs = {on_message, on_control};

static int feed(const uint8_t *p, size_t n, size_t step, bool client, struct seen *s)
{
    struct kl_ws_reader r;
    int bad = 0;
    *s = (struct seen){0};
    kl_ws_reader_init(&r, client, MAX_MESSAGE);
    for (size_t at = 0; at < n && !bad; at += step) {
        size_t k = n - at < step ? n - at : step;
        kl_ws_reader_feed(&r, (struct kl_str){(const char *)p + at, k}, &cbs, s, &bad);
    }
    kl_ws_reader_fini(&r);
    return bad;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen whole, parts;
    for (int client = 0; client < 2; client++) {
        int bad = feed(data, size, size ? size : 1, client, &whole);
        for (size_t step = 1; step < 10; step += 3) {
            int again = feed(data, size, step, client, &parts);
            FUZZ_CHECK(again == bad, "%d in one piece, %d in pieces of %zu", bad, again, step);
            FUZZ_CHECK(parts.hash == whole.hash && parts.messages == whole.messages, "step %zu",
                       step);
        }
    }
    return 0;
}
