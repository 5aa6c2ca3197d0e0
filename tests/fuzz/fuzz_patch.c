// SPDX-License-Identifier: Apache-2.0
// The three patch types on one line of the recorded cases, {"type", "doc", "patch"}: no crash, the
// inputs unchanged, and a result that can be written.
#include "fuzz.h"
#include "object/patch.h"

static void write_result(const struct kl_value *v)
{
    struct kl_buf out;
    kl_buf_init(&out, 64 << 20);
    kl_json_write(&out, v);
    FUZZ_CHECK(out.err || kl_json_compact(NULL, kl_buf_str(&out)), "%.*s",
               KL_PRI(kl_buf_str(&out)));
    kl_buf_fini(&out);
}

static void try_line(struct kl_str line)
{
    struct kl_arena a;
    struct kl_value row, before, got;
    struct kl_error err;
    kl_arena_init(&a, 256 << 20);
    if (!kl_json_parse(&a, line, NULL, &row, &err) && row.kind == KL_MAP &&
        !kl_copy(&a, &row, &before)) {
        static const struct kl_value nothing = {.kind = KL_MAP};
        const struct kl_value *doc = kl_map_value(&row, KL_STR("doc"));
        const struct kl_value *patch = kl_map_value(&row, KL_STR("patch"));
        const struct kl_type *type = kl_type_by_name(kl_text(kl_map_value(&row, KL_STR("type"))));
        if (!kl_is(doc, KL_MAP))
            doc = &nothing;
        if (!kl_patch_merge(&a, doc, patch, &got, &err))
            write_result(&got);
        if (!kl_patch_json(&a, doc, patch, &got, &err))
            write_result(&got);
        if (!kl_patch_strategic(&a, type ? type : kl_type_by_name(KL_STR("io.k8s.api.core.v1.Pod")),
                                doc, patch, &got, &err))
            write_result(&got);
        FUZZ_CHECK(kl_value_equal(&row, &before), "an input changed");
    }
    kl_arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_str rest = {(const char *)data, size}, line;
    while (kl_str_split(&rest, '\n', &line))
        try_line(line);
    return 0;
}
