// SPDX-License-Identifier: Apache-2.0
// Schemas of custom resources as OpenAPI documents show them: whatever a schema says, the
// definition is JSON, in both versions, and becomes messages whose lengths add up.
#include "fuzz.h"
#include "apiserver/openapi/openapi_int.h"

static struct kl_str input;

static int give_schema(void *arg, const struct kl_openapi_custom *c, struct kl_buf *out)
{
    (void)arg, (void)c;
    return kl_buf_puts(out, input);
}

static uint64_t varint(const uint8_t **p, const uint8_t *end)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        FUZZ_CHECK(*p < end, "a varint ends early");
        uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return v;
    }
    FUZZ_CHECK(false, "a varint of more than 64 bits");
    return 0;
}

static void check_message(const uint8_t *p, size_t n)
{
    const uint8_t *end = p + n;
    while (p < end) {
        uint64_t tag = varint(&p, end), wire = tag & 7;
        FUZZ_CHECK(tag >> 3, "field 0");
        if (wire == 0) {
            varint(&p, end);
        } else if (wire == 1) {
            FUZZ_CHECK(end - p >= 8, "a double ends early");
            p += 8;
        } else {
            FUZZ_CHECK(wire == 2, "wire type %d", (int)wire);
            uint64_t len = varint(&p, end);
            FUZZ_CHECK(len <= (uint64_t)(end - p), "a message ends early");
            p += len;
        }
    }
}

static void try_version(struct kl_oa_types *t, bool v2)
{
    static const struct kl_resource res = {.group = "stable.example.com",
                                           .version = "v1",
                                           .plural = "crontabs",
                                           .singular = "crontab",
                                           .kind = "CronTab"};
    static const struct kl_openapi_source src = {.schema = give_schema};
    const struct kl_openapi_custom c = {.res = &res};
    struct kl_buf text, whole, pb;
    struct kl_arena a;
    struct kl_value v;
    struct kl_error err = {0};
    kl_arena_init(&a, 256 << 20);
    kl_buf_init(&text, 256 << 20);
    kl_buf_init(&whole, 256 << 20);
    kl_buf_init(&pb, 256 << 20);
    int rc = kl_oa_put_custom(&text, t, &a, &src, &c, false, v2);
    FUZZ_CHECK(!rc, "%d", rc);
    kl_buf_printf(&whole, v2 ? "{\"definitions\":{%.*s}}" : "{\"components\":{\"schemas\":{%.*s}}}",
                  (int)text.n, text.p);
    FUZZ_CHECK(!kl_json_parse(&a, kl_buf_str(&whole), NULL, &v, &err), "%s: %.*s", err.msg,
               (int)whole.n, whole.p);
    rc = kl_oa_proto(&pb, v2 ? KL_OA_MSG_V2 : KL_OA_MSG_V3, kl_buf_str(&whole));
    FUZZ_CHECK(!rc || rc == KL_ETOOLARGE, "%d", rc);
    if (!rc)
        check_message((const uint8_t *)pb.p, pb.n);
    kl_buf_fini(&text);
    kl_buf_fini(&whole);
    kl_buf_fini(&pb);
    kl_arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_oa_types t;
    input = (struct kl_str){(const char *)data, size};
    if (kl_oa_types_init(&t, NULL))
        return 0;
    try_version(&t, true);
    try_version(&t, false);
    kl_oa_types_fini(&t);
    return 0;
}
