// SPDX-License-Identifier: Apache-2.0
// CEL: any text may be compiled, what compiles may be evaluated, and both say the same twice.
#include "fuzz.h"
#include "object/cel/cel.h"
#include "object/json.h"

enum { COST_LIMIT = 20000, EVAL_BYTES = 64 << 20 };

static const char schema_text[] =
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"},"
    "\"t\":{\"type\":\"string\",\"format\":\"date-time\"},\"l\":{\"type\":\"array\","
    "\"x-kubernetes-list-type\":\"set\",\"items\":{\"type\":\"string\"}},\"m\":{\"type\":"
    "\"object\",\"additionalProperties\":{\"type\":\"integer\"}},\"p\":{"
    "\"x-kubernetes-int-or-string\":true},\"any\":{\"type\":\"object\","
    "\"x-kubernetes-preserve-unknown-fields\":true}}}";
static const char object_text[] =
    "{\"a\":\"text\",\"n\":7,\"t\":\"2024-02-03T04:05:06Z\",\"l\":[\"x\",\"y\"],\"m\":{\"k\":1},"
    "\"p\":\"http\",\"any\":{\"z\":[1,2.5,null]}}";

static struct kl_value *parse(struct kl_arena *a, const char *text)
{
    struct kl_value *v = kl_arena_alloc(a, sizeof *v);
    FUZZ_CHECK(v && !kl_json_parse(a, kl_str(text), NULL, v, NULL), "%s", text);
    return v;
}

static void decide(void *ctx, struct kl_arena *a, const struct kl_cel_authz *q,
                   struct kl_cel_decision *ret)
{
    ret->allowed = kl_str_eqz(q->verb, "get");
    ret->reason = KL_STR("because");
}

static void evaluate(const struct kl_cel_program *p, const struct kl_cel_eval *with)
{
    struct kl_arena a[2];
    struct kl_cel_val v[2];
    struct kl_error err[2];
    uint64_t cost[2];
    int r[2];
    for (int i = 0; i < 2; i++) {
        kl_arena_init(&a[i], EVAL_BYTES);
        r[i] = kl_cel_eval(p, with, &a[i], &v[i], &cost[i], &err[i]);
    }
    FUZZ_CHECK(r[0] == r[1] && cost[0] == cost[1], "%d %d", r[0], r[1]);
    if (!r[0]) {
        struct kl_value out;
        struct kl_str one = kl_cel_format(&a[0], v[0]), two = kl_cel_format(&a[1], v[1]);
        FUZZ_CHECK(kl_str_eq(one, two), "%.*s and %.*s", KL_PRI(one), KL_PRI(two));
        kl_cel_to_value(&a[0], v[0], &out, NULL);
    }
    for (int i = 0; i < 2; i++)
        kl_arena_fini(&a[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_arena a;
    struct kl_str text = {(const char *)data, size}, issues;
    struct kl_cel_program *p = NULL;
    struct kl_error err;
    const struct kl_cel_decl *d = NULL;
    struct kl_cel_env *e = kl_cel_env_new(KL_CEL_PATCH_TYPES);
    const struct kl_cel_authorizer authorizer = {.authorize = decide};
    kl_arena_init(&a, 64 << 20);
    FUZZ_CHECK(e && !kl_cel_decl_schema(e, KL_STR("self"), parse(&a, schema_text), true, &d, &err),
               "no schema");
    kl_cel_env_var(e, KL_STR("self"), d);
    kl_cel_env_var(e, KL_STR("dyno"), kl_cel_decl_simple(e, KL_CEL_T_DYN));
    kl_cel_env_var(e, KL_STR("authorizer"), kl_cel_decl_simple(e, KL_CEL_T_AUTHORIZER));
    kl_cel_env_var(e, KL_STR("i"), kl_cel_decl_simple(e, KL_CEL_T_INT));
    const struct kl_cel_val vars[] = {kl_cel_typed(&a, parse(&a, object_text), d),
                                      kl_cel_node(&a, parse(&a, object_text), NULL),
                                      kl_cel_authorizer(&a), kl_cel_int(5)};
    if (size > 0 && !kl_cel_compile(e, text, &a, &p, &issues, &err)) {
        struct kl_cel_eval with = {
            .vars = vars, .cost_limit = COST_LIMIT, .authorizer = &authorizer};
        evaluate(p, &with);
        kl_cel_program_unref(p);
    }
    kl_cel_env_unref(e);
    kl_arena_fini(&a);
    return 0;
}
