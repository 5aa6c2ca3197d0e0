// SPDX-License-Identifier: Apache-2.0
// A patch in part gives what patching the whole untyped object gives: random objects of every kind
// and random patches, both ways. Arguments: how many rounds over all kinds, the first seed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "object/defaults.h"
#include "object/freeze.h"
#include "object/patch.h"
#include "object/resource.h"

enum { DEPTH_MAX = 9 };

static uint64_t first_seed = 1;
static unsigned rounds = 4;

struct maker {
    struct kl_arena *a;
    uint64_t state;
    bool patch; // nulls, directives and what does not fit, now and then
    bool spoil;
};

static uint32_t pick(struct maker *m, uint32_t n) // xorshift
{
    m->state ^= m->state << 13;
    m->state ^= m->state >> 7;
    m->state ^= m->state << 17;
    return (uint32_t)(m->state >> 33) % n;
}

static struct kl_value text_of(struct maker *m, const char *const *of, uint32_t n)
{
    return kl_stringz(of[pick(m, n)]);
}

static struct kl_value make(struct maker *m, const struct kl_type *t, int depth);

static void put(struct maker *m, struct kl_value *map, struct kl_str key, struct kl_value v)
{
    if (m->patch && pick(m, 6) == 0)
        v = kl_null();
    else if (m->spoil && pick(m, 12) == 0)
        v = pick(m, 2) ? kl_stringz("odd") : kl_new_map();
    assert_int_equal(kl_map_set_value(m->a, map, key, v), 0);
}

// How many of a struct's members there are: fewer the deeper, and few in a patch.
static bool is_left_out(struct maker *m, const struct kl_field *f, int depth)
{
    bool container = f->type->kind >= KL_T_STRUCT && f->type->kind <= KL_T_MAP;
    uint32_t left_out = m->patch ? 3 : container && depth > 3 ? 2 : 1;
    return f->sym == KL_F_apiVersion || f->sym == KL_F_kind || pick(m, left_out + 2) < left_out;
}

static struct kl_value make_struct(struct maker *m, const struct kl_type *t, int depth)
{
    static const char *const directives[] = {"$patch", "$retainKeys", "unheardOf", "Metadata"};
    struct kl_value map = kl_new_map();
    for (uint16_t i = 0; i < t->nfields && depth < DEPTH_MAX; i++)
        if (!is_left_out(m, &t->fields[i], depth))
            put(m, &map, kl_sym_name(t->fields[i].sym), make(m, t->fields[i].type, depth + 1));
    if (m->spoil && pick(m, 8) == 0)
        put(m, &map, kl_str(directives[pick(m, 4)]),
            pick(m, 2) ? kl_stringz("replace") : kl_new_array());
    return map;
}

// What is no struct's own business to shape: RawExtension, JSON, ...
static struct kl_value make_open(struct maker *m)
{
    struct kl_value map = kl_new_map();
    put(m, &map, KL_STR("a"), kl_int(pick(m, 3)));
    put(m, &map, KL_STR("b"), kl_stringz("c"));
    return map;
}

static struct kl_value make(struct maker *m, const struct kl_type *t, int depth)
{
    static const char *const texts[] = {"", "a", "b", "Always", "Running", "v1", "10.0.0.1"};
    static const char *const times[] = {"2024-01-02T03:04:05Z", "1999-12-31T23:59:59Z"};
    static const char *const micro[] = {"2024-01-02T03:04:05.000006Z",
                                        "1999-12-31T23:59:59.500000Z"};
    static const char *const sizes[] = {"0", "1", "1500m", "64Mi", "1e3", "0.5"};
    struct kl_value v;
    uint32_t n = pick(m, 3);
    switch (t->kind) {
    case KL_T_STRUCT:
        return make_struct(m, t, depth);
    case KL_T_ARRAY:
        v = kl_new_array();
        for (uint32_t i = 0; i < n && depth < DEPTH_MAX; i++)
            assert_int_equal(kl_append(m->a, &v, make(m, t->elem, depth + 1)), 0);
        return v;
    case KL_T_MAP:
        v = kl_new_map();
        for (uint32_t i = 0; i < n && depth < DEPTH_MAX; i++)
            put(m, &v, kl_str(texts[1 + pick(m, 4)]), make(m, t->elem, depth + 1));
        return v;
    case KL_T_STRING:
        return text_of(m, texts, KL_COUNT(texts));
    case KL_T_QUANTITY:
        return text_of(m, sizes, KL_COUNT(sizes));
    case KL_T_TIME:
        return text_of(m, times, KL_COUNT(times));
    case KL_T_MICROTIME:
        return text_of(m, micro, KL_COUNT(micro));
    case KL_T_DURATION:
        return kl_stringz(pick(m, 2) ? "0s" : "1m30s");
    case KL_T_BYTES:
        return kl_stringz(pick(m, 2) ? "" : "aGVsbG8=");
    case KL_T_BOOLEAN:
    case KL_T_SCHEMA_OR_BOOL:
        return kl_bool(pick(m, 2));
    case KL_T_INTEGER:
    case KL_T_INT_OR_STRING:
    case KL_T_NUMBER:
        return kl_int(pick(m, 3));
    default:
        return make_open(m);
    }
}

// As apiserver/update.c patches a whole object. False when anything is wrong, warnings included.
static bool patch_whole(struct kl_arena *a, const struct kl_resource *res, bool strategic,
                        const struct kl_value *typed, const struct kl_value *patch,
                        struct kl_value *ret)
{
    struct kl_error err = {0};
    struct kl_strict strict = {.n = 0};
    struct kl_value was, now;
    assert_int_equal(kl_untyped_from_typed(a, res->type, typed, &was), 0);
    kl_map_set_value(a, &was, KL_STR("apiVersion"), kl_stringz(res->api_version));
    kl_map_set_value(a, &was, KL_STR("kind"), kl_stringz(res->kind));
    int rc = strategic ? kl_patch_strategic(a, res->type, &was, patch, &now, &err)
                       : kl_patch_merge(a, &was, patch, &now, &err);
    return !rc && !kl_typed_from_untyped(a, res->type, &now, &strict, ret, &err) && !strict.n;
}

static struct kl_object *settle(struct kl_arena *a, const struct kl_type *t, struct kl_value *draft)
{
    assert_int_equal(kl_default_object(a, t, draft), 0);
    return kl_object_freeze(t, draft);
}

// What is shared with the object does not make the tree another one.
static void check_canonical(struct kl_arena *a, const struct kl_type *t,
                            const struct kl_object *base, const struct kl_value *draft,
                            const struct kl_object *want)
{
    struct kl_value tree;
    struct kl_buf x, y;
    if (!want)
        return;
    kl_buf_init(&x, 16 << 20);
    kl_buf_init(&y, 16 << 20);
    assert_int_equal(kl_draft_canonical(a, t, base, draft, &tree), 0);
    kl_json_encode(&x, t, &tree, KL_STR(""));
    kl_json_encode(&y, t, &want->root, KL_STR(""));
    if (!kl_str_eq(kl_buf_str(&x), kl_buf_str(&y)) || !kl_value_equal(&tree, &want->root))
        fail_msg("canonical: %.*s\nfrozen: %.*s", KL_PRI(kl_buf_str(&x)), KL_PRI(kl_buf_str(&y)));
    kl_buf_fini(&x);
    kl_buf_fini(&y);
}

static struct kl_str show(struct kl_buf *b, const struct kl_type *t, const struct kl_object *o)
{
    kl_buf_init(b, 16 << 20);
    if (o)
        kl_json_encode(b, t, &o->root, KL_STR(""));
    else
        kl_buf_puts(b, KL_STR("refused"));
    return kl_buf_str(b);
}

struct tally {
    size_t in_part, whole, refused;
};

static void compare(struct kl_arena *a, const struct kl_resource *res, uint64_t seed,
                    bool strategic, const struct kl_object *o, const struct kl_value *patch,
                    struct tally *tally)
{
    struct kl_value part, whole;
    struct kl_buf got = {0}, want = {0}, was = {0}, is = {0};
    struct kl_str before = show(&was, res->type, o);
    bool done = kl_patch_in_part(a, res->type, strategic, &o->root, patch, &part);
    bool fine = patch_whole(a, res, strategic, &o->root, patch, &whole);
    struct kl_object *x = done ? settle(a, res->type, &part) : NULL;
    struct kl_object *y = fine ? settle(a, res->type, &whole) : NULL;
    assert_true(kl_str_eq(before, show(&is, res->type, o)));
    check_canonical(a, res->type, o, &part, x);
    check_canonical(a, res->type, o, &whole, y);
    struct kl_str a_part = show(&got, res->type, x), a_whole = show(&want, res->type, y);
    if (done && (!fine || !kl_str_eq(a_part, a_whole) || !kl_value_equal(&x->root, &y->root))) {
        struct kl_buf text;
        kl_buf_init(&text, 16 << 20);
        kl_json_write(&text, patch);
        print_error("%s %s, seed %llu\n", res->kind, strategic ? "strategic" : "merge",
                    (unsigned long long)seed);
        printf("object %.*s\npatch %.*s\nin part %.*s\nwhole %.*s\n", KL_PRI(before),
               KL_PRI(kl_buf_str(&text)), KL_PRI(a_part), KL_PRI(a_whole));
        fail();
    }
    tally->in_part += done;
    tally->whole += !done && fine;
    tally->refused += !fine;
    kl_object_unref(x);
    kl_object_unref(y);
    kl_buf_fini(&got);
    kl_buf_fini(&want);
    kl_buf_fini(&was);
    kl_buf_fini(&is);
}

static void try_kind(const struct kl_resource *res, uint64_t seed, struct tally *tally)
{
    struct kl_arena a;
    struct kl_value untyped, draft, patch;
    struct kl_error err = {0};
    kl_arena_init(&a, 0);
    struct maker m = {.a = &a, .state = seed * UINT64_C(0x9e3779b97f4a7c15) + res->index + 1};
    untyped = make(&m, res->type, 0);
    if (kl_typed_from_untyped(&a, res->type, &untyped, NULL, &draft, &err))
        fail_msg("%s, seed %llu: %s", res->kind, (unsigned long long)seed, err.msg);
    struct kl_object *o = settle(&a, res->type, &draft);
    assert_non_null(o);
    m.patch = true;
    m.spoil = seed % 4 == 0;
    patch = make(&m, res->type, 0);
    compare(&a, res, seed, false, o, &patch, tally);
    compare(&a, res, seed, true, o, &patch, tally);
    kl_object_unref(o);
    kl_arena_fini(&a);
}

static void both_ways(void **state)
{
    (void)state;
    struct tally tally = {0};
    for (uint64_t seed = first_seed; seed < first_seed + rounds; seed++)
        for (uint16_t i = 0; i < kl_nresources; i++)
            if (kl_resources[i].type)
                try_kind(&kl_resources[i], seed, &tally);
    print_message("%zu in part, %zu whole, %zu refused\n", tally.in_part, tally.whole,
                  tally.refused);
    assert_true(tally.in_part > tally.whole); // it is the usual way
    assert_true(tally.refused > 0);
}

// What the part must not decide.
static void left_to_the_whole(void **state)
{
    (void)state;
    static const char *const patches[] = {
        "null",
        "[]",
        "{\"apiVersion\":\"v2\"}",
        "{\"kind\":\"Node\"}",
        "{\"unheardOf\":1}",
        "{\"spec\":{\"unheardOf\":{}}}",
        "{\"spec\":{\"hostNetwork\":\"yes\"}}",
        "{\"spec\":{\"$patch\":\"replace\"}}",
        "{\"metadata\":{\"$retainKeys\":[\"name\"]}}",
        "{\"Metadata\":{\"labels\":{\"a\":\"b\"}}}",
        "{\"spec\":{\"$setElementOrder/containers\":[{\"name\":\"a\"}]}}"};
    const struct kl_type *pod = kl_type_by_name(KL_STR("io.k8s.api.core.v1.Pod"));
    for (size_t i = 0; i < 2 * KL_COUNT(patches); i++) {
        struct kl_arena a;
        struct kl_value draft, patch, ret;
        struct kl_error err = {0};
        kl_arena_init(&a, 0);
        assert_int_equal(kl_json_decode(&a, pod,
                                        KL_STR("{\"metadata\":{\"name\":\"p\"},\"spec\":{"
                                               "\"containers\":[{\"name\":\"a\"}]}}"),
                                        NULL, &draft, &err),
                         0);
        assert_int_equal(kl_json_parse(&a, kl_str(patches[i / 2]), NULL, &patch, &err), 0);
        if (kl_patch_in_part(&a, pod, i % 2, &draft, &patch, &ret))
            fail_msg("%s was patched in part", patches[i / 2]);
        kl_arena_fini(&a);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rounds = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways),
        cmocka_unit_test(left_to_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
