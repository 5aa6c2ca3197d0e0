// SPDX-License-Identifier: Apache-2.0
// Two bytes choose the type (unless the input is an envelope), the rest is a message. What decodes
// must encode, decode again to the same, and print as valid JSON.
#include "fuzz.h"
#include "object/json.h"
#include "object/protobuf.h"

static const struct kl_type *choose_type(struct kl_str *data)
{
    struct kl_envelope e;
    if (kl_pb_is_envelope(*data)) {
        if (kl_pb_open(*data, &e, NULL) < 0)
            return NULL;
        struct kl_str version = e.api_version, group = {"", 0};
        ptrdiff_t slash = kl_str_chr(version, '/');
        if (slash >= 0) {
            group = (struct kl_str){version.p, (size_t)slash};
            version = kl_str_from(version, (size_t)slash + 1);
        }
        *data = e.raw;
        return kl_type_by_kind(group, version, e.kind);
    }
    if (data->n < 2)
        return NULL;
    size_t index = ((size_t)(uint8_t)data->p[0] << 8 | (uint8_t)data->p[1]) % kl_ntypes;
    *data = kl_str_from(*data, 2);
    return kl_types[index];
}

static void check(const struct kl_type *t, struct kl_arena *a, const struct kl_value *v)
{
    struct kl_buf first, second, json;
    struct kl_value again;
    struct kl_error err = {0};
    kl_buf_init(&first, 1 << 28);
    kl_buf_init(&second, 1 << 28);
    kl_buf_init(&json, 1 << 28);
    kl_pb_encode(&first, t, v);
    FUZZ_CHECK(first.err == 0, "%s: %d", t->name, first.err);
    FUZZ_CHECK(kl_pb_decode(a, t, kl_buf_str(&first), &again, &err) == 0, "%s: %s", t->name,
               err.msg);
    kl_pb_encode(&second, t, &again);
    FUZZ_CHECK(kl_str_eq(kl_buf_str(&first), kl_buf_str(&second)), "%s: not a fixed point",
               t->name);
    struct kl_object *o = kl_object_freeze(t, &again);
    if (o) {
        kl_json_encode(&json, t, &o->root, KL_STR(""));
        FUZZ_CHECK(kl_json_compact(NULL, kl_buf_str(&json)), "%s: %.*s", t->name,
                   KL_PRI(kl_buf_str(&json)));
        kl_buf_clear(&second);
        kl_pb_encode(&second, t, &o->root);
        FUZZ_CHECK(kl_str_eq(kl_buf_str(&first), kl_buf_str(&second)), "%s: frozen", t->name);
        kl_object_unref(o);
    }
    kl_buf_fini(&first);
    kl_buf_fini(&second);
    kl_buf_fini(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_str text = {(const char *)data, size};
    const struct kl_type *t = choose_type(&text);
    struct kl_arena a;
    struct kl_value v;
    if (!t || t->kind != KL_T_STRUCT)
        return 0;
    kl_arena_init(&a, 64 << 20);
    if (kl_pb_decode(&a, t, text, &v, NULL) == 0)
        check(t, &a, &v);
    (void)kl_pb_decode_trusted(&a, t, text, &v, NULL);
    kl_arena_fini(&a);
    return 0;
}
