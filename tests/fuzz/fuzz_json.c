// SPDX-License-Identifier: Apache-2.0
// The first byte chooses what the rest is decoded as. The decoder, the skipping scanner and the
// slow one that words errors must agree on what JSON is; what decodes must encode to valid JSON
// that decodes to the same.
#include "fuzz.h"
#include "object/json_int.h"

static const struct kl_type any = {.kind = KL_T_ANY};

static const struct kl_type *choose_type(uint8_t byte)
{
    static const enum kl_type_index types[] = {
        KL_TYPE_core_v1_Pod,
        KL_TYPE_core_v1_Secret,
        KL_TYPE_apps_v1_Deployment,
        KL_TYPE_apiextensions_v1_CustomResourceDefinition,
        KL_TYPE_meta_v1_Table,
        KL_TYPE_policy_v1_PodDisruptionBudget,
        KL_TYPE_apps_v1_ControllerRevision,
    };
    size_t i = byte % (KL_COUNT(types) + 1);
    return i ? kl_type(types[i - 1]) : &any;
}

static void check(const struct kl_type *t, struct kl_arena *a, const struct kl_value *v)
{
    struct kl_buf first, second;
    struct kl_value again;
    struct kl_error err = {0};
    kl_buf_init(&first, 1 << 28);
    kl_buf_init(&second, 1 << 28);
    struct kl_object *o = kl_object_freeze(t, v), *p;
    FUZZ_CHECK(o, "out of memory");
    kl_json_encode(&first, t, &o->root, KL_STR(""));
    FUZZ_CHECK(kl_json_compact(NULL, kl_buf_str(&first)), "%.*s", KL_PRI(kl_buf_str(&first)));
    FUZZ_CHECK(kl_json_decode(a, t, kl_buf_str(&first), NULL, &again, &err) == 0, "%s", err.msg);
    p = kl_object_freeze(t, &again);
    FUZZ_CHECK(p, "out of memory");
    kl_json_encode(&second, t, &p->root, KL_STR(""));
    // As upstream: -0.0 is written as -0, which reads as the integer 0.
    bool minus_zero = memmem(first.p, first.n, "-0", 2) != NULL;
    FUZZ_CHECK(minus_zero || kl_str_eq(kl_buf_str(&first), kl_buf_str(&second)), "%.*s\n%.*s",
               KL_PRI(kl_buf_str(&first)), KL_PRI(kl_buf_str(&second)));
    kl_buf_clear(&second);
    kl_json_pretty(&second, kl_buf_str(&first), 2);
    struct kl_buf compact;
    kl_buf_init(&compact, 1 << 28);
    FUZZ_CHECK(kl_json_compact(&compact, kl_buf_str(&second)), "pretty is no JSON");
    FUZZ_CHECK(kl_str_eq(kl_buf_str(&compact), kl_buf_str(&first)), "pretty and back");
    kl_buf_fini(&compact);
    kl_object_unref(o);
    kl_object_unref(p);
    kl_buf_fini(&first);
    kl_buf_fini(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const struct kl_type *t = choose_type(data[0]);
    struct kl_str text = {(const char *)data + 1, size - 1}, av, kind;
    struct kl_arena a;
    struct kl_value v;
    struct kl_error err = {0};
    struct kl_strict strict = {.n = 0};
    kl_arena_init(&a, 64 << 20);
    bool valid = kl_json_syntax_error(text, NULL) == 0;
    FUZZ_CHECK(valid == kl_json_compact(NULL, text), "scanners differ on %.*s", KL_PRI(text));
    int r = kl_json_decode(&a, t, text, &strict, &v, &err);
    FUZZ_CHECK(r == 0 || err.msg[0], "an error without words");
    FUZZ_CHECK(r != KL_EINTERNAL, "%s", err.msg);
    FUZZ_CHECK(valid || r == KL_EBADREQUEST || r == KL_ENOMEM, "took %.*s", KL_PRI(text));
    if (r == 0)
        check(t, &a, &v);
    (void)kl_json_peek_gvk(text, &av, &kind);
    kl_arena_fini(&a);
    return 0;
}
