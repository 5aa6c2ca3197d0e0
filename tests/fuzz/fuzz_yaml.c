// SPDX-License-Identifier: Apache-2.0
// What reads as YAML is written as YAML that reads as the same, and as valid JSON.
#include "fuzz.h"
#include "object/yaml.h"

static void check(struct kl_arena *a, const struct kl_value *v)
{
    struct kl_buf yaml, json;
    struct kl_value again;
    struct kl_error err = {0};
    kl_buf_init(&yaml, 1 << 28);
    kl_buf_init(&json, 1 << 28);
    kl_json_write(&json, v);
    FUZZ_CHECK(kl_json_compact(NULL, kl_buf_str(&json)), "%.*s", KL_PRI(kl_buf_str(&json)));
    // libyaml writes no byte that its reader refuses, but refuses what is no text.
    if (kl_yaml_write(&yaml, v) == 0) {
        FUZZ_CHECK(kl_yaml_parse(a, kl_buf_str(&yaml), NULL, &again, &err) == 0, "%s\n%.*s",
                   err.msg, KL_PRI(kl_buf_str(&yaml)));
        FUZZ_CHECK(kl_value_equal(v, &again), "%.*s\n%.*s", KL_PRI(kl_buf_str(&json)),
                   KL_PRI(kl_buf_str(&yaml)));
    }
    kl_buf_fini(&yaml);
    kl_buf_fini(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_str text = {(const char *)data, size}, rest = text, document;
    struct kl_arena a;
    struct kl_value v;
    struct kl_error err = {0};
    struct kl_strict strict = {.n = 0};
    kl_arena_init(&a, 64 << 20);
    int r = kl_yaml_parse(&a, text, &strict, &v, &err);
    FUZZ_CHECK(r == 0 || err.msg[0], "an error without words");
    if (r == 0)
        check(&a, &v);
    while (kl_yaml_next_document(&rest, &document))
        FUZZ_CHECK(document.n <= size, "a document longer than its stream");
    kl_arena_fini(&a);
    return 0;
}
