// SPDX-License-Identifier: Apache-2.0
// Quantities, times and durations: what parses prints, and what is printed reads as the same.
#include "fuzz.h"
#include "object/quantity.h"
#include "object/timestamp.h"

// Beyond this upstream's suffixes end and its text loses the exponent (1000E prints as 1).
#define TEXT_EXACT ((__int128)1000000000000000000 * 1000000000 * 100)

static void check_quantity(struct kl_arena *a, struct kl_str s)
{
    struct kl_quantity q, again;
    struct kl_str normal, twice;
    char text[KL_QUANTITY_TEXT];
    int rc = kl_quantity_parse(s, &q, NULL);
    FUZZ_CHECK(rc == kl_quantity_normalize(a, s, &normal, NULL), "%.*s", KL_PRI(s));
    if (rc < 0)
        return;
    FUZZ_CHECK(kl_quantity_normalize(a, normal, &twice, NULL) == 0, "%.*s", KL_PRI(normal));
    size_t n = kl_quantity_text(&q, text);
    FUZZ_CHECK(n < sizeof(text) && kl_quantity_parse((struct kl_str){text, n}, &again, NULL) == 0,
               "%s", text);
    if (q.nano > -TEXT_EXACT && q.nano < TEXT_EXACT) {
        FUZZ_CHECK(kl_quantity_cmp(&q, &again) == 0, "%.*s %s", KL_PRI(s), text);
        FUZZ_CHECK(kl_quantity_parse(normal, &again, NULL) == 0, "%.*s", KL_PRI(normal));
        FUZZ_CHECK(kl_quantity_cmp(&q, &again) == 0, "%.*s %.*s", KL_PRI(s), KL_PRI(normal));
        // 62.5Ki is 64000, which by itself is 64k: as upstream's.
        FUZZ_CHECK(kl_quantity_normalize(a, twice, &normal, NULL) == 0, "%.*s", KL_PRI(twice));
        FUZZ_CHECK(kl_str_eq(normal, twice), "%.*s %.*s", KL_PRI(normal), KL_PRI(twice));
    }
}

static void check_times(struct kl_str s)
{
    char text[KL_TIME_TEXT];
    int64_t us, again;
    struct kl_error err = {0};
    if (kl_time_parse(s, &us, &err) == 0) {
        size_t n = kl_microtime_text(us, text);
        FUZZ_CHECK(n < sizeof(text), "%.*s", KL_PRI(s));
        if (text[0] != '-' && n == strlen("2006-01-02T15:04:05.000000Z"))
            FUZZ_CHECK(kl_microtime_parse((struct kl_str){text, n}, &again, NULL) == 0 &&
                           us == again,
                       "%.*s %s", KL_PRI(s), text);
    } else {
        FUZZ_CHECK(err.code == KL_EBADREQUEST && err.msg[0], "%.*s", KL_PRI(s));
    }
    if (kl_duration_parse(s, &us) == 0) {
        size_t n = kl_duration_text(us, text);
        FUZZ_CHECK(n < sizeof(text), "%.*s", KL_PRI(s));
        FUZZ_CHECK(kl_duration_parse((struct kl_str){text, n}, &again) == 0 && us == again,
                   "%.*s %s", KL_PRI(s), text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_arena a;
    struct kl_str s = {(const char *)data, size};
    kl_arena_init(&a, 64 << 20);
    check_quantity(&a, s);
    check_times(s);
    kl_arena_fini(&a);
    return 0;
}
