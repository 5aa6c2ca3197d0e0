// SPDX-License-Identifier: Apache-2.0
// OpenAPI documents that aggregated servers answer with: whatever one says, it is refused, or what
// is kept of it is JSON piece by piece, and merging it with itself adds nothing the second time.
// What it is as version 3 is JSON too, and can be said as protobuf.
#include "apiserver/openapi/openapi_int.h"
#include "fuzz.h"

static size_t count(struct kl_oa_merge *m, enum kl_remote_part part)
{
    struct kl_arena a;
    struct kl_buf text, whole;
    struct kl_str name;
    struct kl_value v;
    struct kl_error err = {0};
    size_t n = 0;
    int rc;
    kl_arena_init(&a, 256 << 20);
    kl_buf_init(&text, 64 << 20);
    kl_buf_init(&whole, 64 << 20);
    while ((rc = kl_oa_merge_next(m, part, &a, &text, &name)) > 0) {
        if (part == KL_REMOTE_DEFINITIONS)
            FUZZ_CHECK(!kl_oa_merge_kinds(m, &a, name, &text), "kinds of %.*s", KL_PRI(name));
        kl_buf_clear(&whole);
        kl_buf_printf(&whole, "{%.*s}", (int)text.n, text.p);
        FUZZ_CHECK(!kl_json_parse(&a, kl_buf_str(&whole), NULL, &v, &err), "%s: %.*s", err.msg,
                   (int)whole.n, whole.p);
        FUZZ_CHECK(v.n == 1, "%u members", v.n);
        kl_buf_clear(&text);
        kl_arena_reset(&a);
        n++;
    }
    FUZZ_CHECK(!rc, "%d", rc);
    kl_buf_fini(&text);
    kl_buf_fini(&whole);
    kl_arena_fini(&a);
    return n;
}

static void write_out(struct kl_upgraded *u, bool protobuf, struct kl_buf *out)
{
    struct kl_oa_upgraded *x = kl_oa_upgraded_new(kl_upgraded_ref(u), protobuf);
    int rc = 1;
    kl_buf_init(out, 256 << 20);
    while (x && rc > 0) {
        struct kl_buf piece;
        kl_buf_init(&piece, 256 << 20);
        rc = kl_oa_upgraded_next(x, &piece);
        kl_buf_puts(out, kl_buf_str(&piece));
        kl_buf_fini(&piece);
    }
    FUZZ_CHECK(!rc, "%d", rc);
    kl_oa_upgraded_free(x);
}

static void upgrade(struct kl_str text)
{
    struct kl_upgraded *u;
    struct kl_arena a;
    struct kl_value v;
    struct kl_buf json, proto;
    struct kl_error err;
    if (kl_upgraded_new(text, &u, &err))
        return;
    kl_arena_init(&a, 1 << 30);
    write_out(u, false, &json);
    write_out(u, true, &proto);
    FUZZ_CHECK(!kl_json_parse(&a, kl_buf_str(&json), NULL, &v, &err), "%s: %.*s", err.msg,
               (int)json.n, json.p);
    kl_buf_fini(&json);
    kl_buf_fini(&proto);
    kl_arena_fini(&a);
    kl_upgraded_unref(u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_str text = {(const char *)data, size};
    struct kl_remote_doc *d[2] = {0};
    struct kl_oa_own own = {0};
    struct kl_error err;
    upgrade(text);
    if (kl_remote_doc_new(text, "g0.example.com", "v1", &d[0], &err))
        return 0;
    FUZZ_CHECK(!kl_remote_doc_new(text, "g0.example.com", "v1", &d[1], &err), "%s", err.msg);
    FUZZ_CHECK(d[0]->stamp == d[1]->stamp, "two stamps of one text");
    size_t paths = d[0]->n[KL_REMOTE_PATHS], defs = d[0]->n[KL_REMOTE_DEFINITIONS];
    struct kl_oa_merge *m = kl_oa_merge_of(d, 2);
    if (m && !kl_oa_merge_plan(m, &own)) {
        FUZZ_CHECK(count(m, KL_REMOTE_PATHS) == 2 * paths, "paths");
        FUZZ_CHECK(count(m, KL_REMOTE_DEFINITIONS) == defs, "definitions");
        count(m, KL_REMOTE_PARAMETERS);
    }
    kl_oa_merge_free(m);
    return 0;
}
