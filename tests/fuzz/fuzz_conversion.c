// SPDX-License-Identifier: Apache-2.0
// What conversion webhooks answer: an object that is taken is of the wanted kind and version, with
// the name, namespace and uid that was sent. The first byte says how it was asked.
#include "fuzz.h"
#include "object/crd/conversion.h"

static const char sent[] =
    "{\"apiVersion\":\"g.example.com/v1\",\"kind\":\"Thing\",\"metadata\":{"
    "\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"u\",\"labels\":{\"k\":\"v\"},"
    "\"finalizers\":[\"f/g\"]},\"spec\":{\"x\":1}}";

static struct kl_str text_at(const struct kl_value *v, const char *key)
{
    return kl_text(kl_map_value(v, kl_str(key)));
}

static void take(struct kl_arena *a, const struct kl_conversion_ask *ask, size_t i,
                 const struct kl_value *was, const struct kl_value *said)
{
    struct kl_error err = {0};
    struct kl_value now = *said;
    now.owned = 0;
    if (kl_conversion_take(a, ask, i, was, &now, &err)) {
        FUZZ_CHECK(err.msg[0], "refused without words");
        return;
    }
    const struct kl_value *m = kl_map_value(&now, KL_STR("metadata"));
    FUZZ_CHECK(kl_str_eq(text_at(&now, "apiVersion"), ask->desired), "another version");
    FUZZ_CHECK(kl_str_eqz(text_at(&now, "kind"), "Thing"), "another kind");
    FUZZ_CHECK(kl_str_eqz(text_at(m, "name"), "a") && kl_str_eqz(text_at(m, "namespace"), "n") &&
                   kl_str_eqz(text_at(m, "uid"), "u"),
               "another object");
    FUZZ_CHECK(kl_len(kl_map_value(m, KL_STR("finalizers"))) == 1, "another finalizer");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_arena a;
    struct kl_value was;
    struct kl_error err = {0};
    enum kl_conversion_failure failure;
    const struct kl_value *objects;
    if (!size)
        return 0;
    bool list = data[0] & 2;
    struct kl_conversion_ask ask = {.review = data[0] & 1 ? KL_REVIEW_V1 : KL_REVIEW_V1BETA1,
                                    .uid = KL_STR("u-1"),
                                    .desired = KL_STR("g.example.com/v2"),
                                    .of = KL_STR("g.example.com/v1, Kind=Thing"),
                                    .n = list ? 2 : 1,
                                    .list = list};
    kl_arena_init(&a, 64 << 20);
    FUZZ_CHECK(!kl_json_parse(&a, kl_str(sent), NULL, &was, &err), "%s", err.msg);
    struct kl_str body = {(const char *)data + 1, size - 1};
    if (kl_conversion_read(&a, &ask, body, &objects, &failure, &err)) {
        FUZZ_CHECK(err.msg[0] && failure != KL_CONVERSION_OK, "%d without words", failure);
    } else {
        FUZZ_CHECK(kl_len(objects) == ask.n, "%zu objects", (size_t)kl_len(objects));
        for (size_t i = 0; i < ask.n; i++)
            take(&a, &ask, i, &was, kl_at(objects, i));
    }
    kl_arena_fini(&a);
    return 0;
}
