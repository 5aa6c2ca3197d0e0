// SPDX-License-Identifier: Apache-2.0
// What another server sends: frames, cut as the first byte says, and the bodies of greetings. Every
// frame that began with room for it ends once, with all its bytes; a greeting that is understood is
// understood again when it is written.
#include "base/err.h"
#include "fuzz.h"
#include "store/peer/frame.h"
#include <string.h>

struct state {
    uint32_t room_n;
    char *room;
    long begun, ended;
};

static int begin(void *arg, struct kl_frame_head h, char **ret_room)
{
    struct state *s = arg;
    FUZZ_CHECK(!s->room, "a frame begins within a frame");
    if (h.n > 70000)
        return KL_ETOOLARGE;
    s->room = malloc(h.n ? h.n : 1);
    s->room_n = h.n;
    *ret_room = s->room;
    s->begun++;
    return 0;
}

static struct kl_str body_of(const unsigned char *frame, size_t n)
{
    return (struct kl_str){(const char *)frame + KL_FRAME_HEAD, n - KL_FRAME_HEAD};
}

static void greet(struct kl_str body)
{
    unsigned char f[KL_FRAME_CONTROL_MAX];
    struct kl_hello h, g;
    struct kl_welcome w, v;
    struct kl_str text, again;
    int code, same;
    if (!kl_hello_decode(body, &h) && h.name.n < 1500) {
        size_t n = kl_hello_encode(&h, f);
        FUZZ_CHECK(!kl_hello_decode(body_of(f, n), &g), "a hello is not read again");
        FUZZ_CHECK(g.from == h.from && g.to == h.to && g.boot == h.boot && g.kind == h.kind &&
                       kl_str_eq(g.name, h.name),
                   "another hello");
    }
    if (!kl_welcome_decode(body, &w) && w.text.n < 1500) {
        size_t n = kl_welcome_encode(&w, f);
        FUZZ_CHECK(!kl_welcome_decode(body_of(f, n), &v), "a welcome is not read again");
        FUZZ_CHECK(v.code == w.code && v.boot == w.boot && kl_str_eq(v.text, w.text),
                   "another welcome");
    }
    if (!kl_end_decode(body, &code, &text) && text.n < 1500) {
        size_t n = kl_end_encode(code, text, f);
        FUZZ_CHECK(!kl_end_decode(body_of(f, n), &same, &again), "an end is not read again");
        FUZZ_CHECK(same == code && kl_str_eq(again, text), "another end");
    }
}

static int end(void *arg, struct kl_frame_head h)
{
    struct state *s = arg;
    FUZZ_CHECK(s->room && s->room_n == h.n, "%u bytes, not %u", h.n, s->room_n);
    greet((struct kl_str){s->room, h.n});
    free(s->room);
    s->room = NULL;
    s->ended++;
    return 0;
}

static const struct kl_frame_ops ops = {begin, end};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state s = {0};
    struct kl_frame_reader r = {0};
    size_t piece = size ? 1 + data[0] : 1;
    int rc = 0;
    for (size_t at = 1; at < size && !rc; at += piece) {
        size_t left = size - at;
        struct kl_str part = {(const char *)data + at, left < piece ? left : piece};
        rc = kl_frame_feed(&r, part, &ops, &s);
    }
    FUZZ_CHECK(s.begun - s.ended == (s.room != NULL), "%ld begun, %ld ended", s.begun, s.ended);
    free(s.room);
    return 0;
}
