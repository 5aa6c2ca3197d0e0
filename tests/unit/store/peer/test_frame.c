// SPDX-License-Identifier: Apache-2.0
// The frames: what is written is read back, however it is cut; what is no frame is refused.
#include "peer_test.h"
#include "base/err.h"
#include "store/peer/frame.h"
#include <string.h>

struct reading {
    int begun, ended;
    struct kl_frame_head last;
    char room[256];
    uint32_t max;
};

static int begin(void *arg, struct kl_frame_head h, char **ret_room)
{
    struct reading *r = arg;
    r->begun++;
    r->last = h;
    *ret_room = r->room;
    return h.n <= r->max ? 0 : KL_ETOOLARGE;
}

static int end(void *arg, struct kl_frame_head h)
{
    struct reading *r = arg;
    r->ended++;
    assert_int_equal(h.n, r->last.n);
    return 0;
}

static const struct kl_frame_ops ops = {begin, end};

static size_t put(unsigned char *p, uint8_t type, uint8_t channel, const char *body)
{
    uint32_t n = (uint32_t)strlen(body);
    kl_frame_put_head(p, (struct kl_frame_head){n, type, channel});
    memcpy(p + KL_FRAME_HEAD, body, n);
    return KL_FRAME_HEAD + n;
}

static void test_cuts(void **state)
{
    unsigned char wire[128];
    size_t n = put(wire, KL_FRAME_MESSAGE, 2, "hello");
    n += put(wire + n, KL_FRAME_ALIVE, 0, "");
    n += put(wire + n, KL_FRAME_MESSAGE, 1, "there is more");
    for (size_t cut = 1; cut <= n; cut++) {
        struct reading r = {.max = 100};
        struct kl_frame_reader f = {0};
        for (size_t at = 0; at < n; at += cut) {
            size_t left = n - at;
            struct kl_str piece = {(char *)wire + at, left < cut ? left : cut};
            assert_int_equal(kl_frame_feed(&f, piece, &ops, &r), 0);
        }
        assert_int_equal(r.begun, 3);
        assert_int_equal(r.ended, 3);
        assert_int_equal(r.last.type, KL_FRAME_MESSAGE);
        assert_int_equal(r.last.channel, 1);
        assert_memory_equal(r.room, "there is more", 13);
    }
}

static void test_refused(void **state)
{
    unsigned char wire[128] = {0};
    struct reading r = {.max = 4};
    struct kl_frame_reader f = {0};
    size_t n = put(wire, KL_FRAME_MESSAGE, 0, "hello");
    assert_int_equal(kl_frame_feed(&f, (struct kl_str){(char *)wire, n}, &ops, &r), KL_ETOOLARGE);
    assert_int_equal(r.ended, 0);
    f = (struct kl_frame_reader){0};
    wire[7] = 1; // what is 0 today
    assert_int_equal(kl_frame_feed(&f, (struct kl_str){(char *)wire, n}, &ops, &r), KL_EPROTO);
    assert_int_equal(r.begun, 1);
}

static struct kl_str body_of(const unsigned char *frame, size_t n)
{
    return (struct kl_str){(const char *)frame + KL_FRAME_HEAD, n - KL_FRAME_HEAD};
}

static void test_greetings(void **state)
{
    unsigned char f[KL_FRAME_CONTROL_MAX];
    struct kl_hello h = {3, 2, KL_HELLO_STREAM, 0x1122334455667788, 2, 3, 4, KL_STR("a name")}, g;
    size_t n = kl_hello_encode(&h, f);
    struct kl_str body = body_of(f, n);
    assert_int_equal(kl_hello_decode(body, &g), 0);
    assert_int_equal(g.version, 3);
    assert_int_equal(g.version_min, 2);
    assert_int_equal(g.kind, KL_HELLO_STREAM);
    assert_true(g.from == h.from && g.to == 2 && g.cluster == 3 && g.boot == 4);
    assert_true(kl_str_eq(g.name, h.name));
    for (size_t cut = 0; cut < body.n; cut++)
        assert_int_equal(kl_hello_decode((struct kl_str){body.p, cut}, &g), KL_EPROTO);
    h.from = 0;
    n = kl_hello_encode(&h, f);
    assert_int_equal(kl_hello_decode(body_of(f, n), &g), KL_EPROTO);

    char text[4000];
    memset(text, 'x', sizeof text);
    struct kl_welcome w = {1, KL_EEXISTS, 5, 6, {text, sizeof text}}, v;
    n = kl_welcome_encode(&w, f);
    assert_int_equal(n, KL_FRAME_CONTROL_MAX); // cut to what fits
    body = body_of(f, n);
    assert_int_equal(kl_welcome_decode(body, &v), 0);
    assert_int_equal(v.code, KL_EEXISTS);
    assert_true(v.cluster == 5 && v.boot == 6 && v.text.n > 1900);
    for (size_t cut = 0; cut < body.n; cut++)
        assert_int_equal(kl_welcome_decode((struct kl_str){body.p, cut}, &v), KL_EPROTO);

    int code;
    struct kl_str why;
    n = kl_end_encode(KL_EIO, KL_STR("the disk"), f);
    assert_int_equal(kl_end_decode(body_of(f, n), &code, &why), 0);
    assert_int_equal(code, KL_EIO);
    assert_true(kl_str_eqz(why, "the disk"));
    assert_int_equal(kl_end_decode(KL_STR("\0\1\0\0"), &code, &why), KL_EPROTO); // no error code
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_greetings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
