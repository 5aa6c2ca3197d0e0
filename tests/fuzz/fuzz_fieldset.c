// SPDX-License-Identifier: Apache-2.0
// FieldsV1: what parses is written to a text that parses to the same set; two sets (a line each)
// obey the laws of sets. Behind a '!': a configuration that is applied to a pod.
#include "fuzz.h"
#include "object/apply/managed.h"
#include "object/json.h"

static const struct kl_fieldset *reread(struct kl_arena *a, const struct kl_fieldset *s)
{
    const struct kl_fieldset *again = NULL;
    struct kl_error err = {0};
    struct kl_buf b;
    kl_buf_init(&b, 64 << 20);
    kl_fieldset_write(&b, s);
    struct kl_str text = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    int rc = kl_fieldset_parse(a, text, &again, &err);
    FUZZ_CHECK(rc == 0, "%.*s: %s", KL_PRI(text), err.msg);
    FUZZ_CHECK(kl_fieldset_equal(s, again), "%.*s", KL_PRI(text));
    return again;
}

static void check_laws(struct kl_arena *a, const struct kl_fieldset *s, const struct kl_fieldset *t)
{
    const struct kl_fieldset *both = kl_fieldset_union(a, s, t);
    const struct kl_fieldset *common = kl_fieldset_intersection(a, s, t);
    const struct kl_fieldset *rest = kl_fieldset_difference(a, s, t);
    FUZZ_CHECK(kl_fieldset_covers(both, s) && kl_fieldset_covers(both, t), "union");
    FUZZ_CHECK(kl_fieldset_covers(s, common) && kl_fieldset_covers(t, common), "intersection");
    FUZZ_CHECK(!kl_fieldset_meets(rest, t), "difference");
    FUZZ_CHECK(kl_fieldset_meets(s, t) == (common != NULL), "meets");
    FUZZ_CHECK(kl_fieldset_equal(kl_fieldset_union(a, rest, common), s), "parts");
    FUZZ_CHECK(kl_fieldset_covers(rest, kl_fieldset_recursive_difference(a, s, t)), "recursive");
    FUZZ_CHECK(kl_fieldset_covers(s, kl_fieldset_leaves(a, s)), "leaves");
    FUZZ_CHECK(kl_fieldset_size(both) + kl_fieldset_size(common) ==
                   kl_fieldset_size(s) + kl_fieldset_size(t),
               "sizes");
}

static void try_sets(struct kl_arena *a, struct kl_str text)
{
    const struct kl_fieldset *s, *t;
    struct kl_error err;
    struct kl_str first;
    kl_str_split(&text, '\n', &first);
    if (kl_fieldset_parse(a, first, &s, &err))
        return;
    if (kl_utf8_valid(first)) // else values are written with U+FFFD in place of what is none
        reread(a, s);
    if (!text.p || kl_fieldset_parse(a, text, &t, &err))
        return;
    check_laws(a, s, t);
    // Parsing overlooks, as upstream's does, what is no JSON within what it skips.
    FUZZ_CHECK(!kl_json_compact(NULL, first) || kl_fieldset_text_may_meet(first, t) ||
                   !kl_fieldset_meets(s, t),
               "%.*s", KL_PRI(first));
}

static void try_apply(struct kl_arena *a, struct kl_str text)
{
    static const char live[] =
        "{\"metadata\":{\"name\":\"p\",\"managedFields\":[{\"manager\":\"x\",\"operation\":"
        "\"Apply\",\"apiVersion\":\"v1\",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":{\"f:spec\":{"
        "\"f:containers\":{\"k:{\\\"name\\\":\\\"a\\\"}\":{\".\":{},\"f:name\":{},\"f:image\":{}}}"
        "}}}]},\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"i\",\"ports\":[{"
        "\"containerPort\":1,\"protocol\":\"TCP\"}]},{\"name\":\"b\"}]}}";
    const struct kl_resource *pods = kl_res(KL_RES_core_v1_pods);
    struct kl_managed_env env = {.arena = a, .res = pods, .manager = KL_STR("x")};
    struct kl_value draft, config, typed;
    struct kl_apply_result res;
    struct kl_error err;
    if (kl_json_parse(a, text, NULL, &config, &err) || config.kind != KL_MAP ||
        kl_json_decode(a, pods->type, kl_str(live), NULL, &draft, &err))
        return;
    struct kl_object *o = kl_object_freeze(pods->type, &draft);
    for (int force = 0; o && force < 2; force++)
        if (!kl_managed_apply(&env, &o->root, &config, force, &res, &err) && res.changed)
            kl_typed_from_untyped(a, pods->type, &res.object, NULL, &typed, &err);
    kl_object_unref(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_arena a;
    struct kl_str text = {(const char *)data, size};
    kl_arena_init(&a, 256 << 20);
    if (size && data[0] == '!')
        try_apply(&a, kl_str_from(text, 1));
    else
        try_sets(&a, text);
    kl_arena_fini(&a);
    return 0;
}
