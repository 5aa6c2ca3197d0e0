// SPDX-License-Identifier: Apache-2.0
// ClusterTrustBundles and PodCertificateRequests: keys, signatures and chains, as recorded from
// upstream (trust_vectors).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "apiserver/auth/trust.h"
#include "object/defaults.h"
#include "object/json.h"
#include "object/validate/validate.h"

static const char *path;
static struct kl_arena arena;

static char *read_file(const char *name)
{
    FILE *f = fopen(name, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *text = malloc((size_t)n + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)n, f), (size_t)n);
    text[n] = 0;
    fclose(f);
    return text;
}

static const struct kl_resource *resource_of(struct kl_str kind)
{
    for (uint16_t i = 0; i < kl_nresources; i++)
        if (kl_str_eqz(kind, kl_resources[i].kind) && !strcmp(kl_resources[i].version, "v1beta1") &&
            kl_resources[i].type)
            return &kl_resources[i];
    return NULL;
}

static struct kl_object *object_of(const struct kl_resource *res, struct kl_str json)
{
    struct kl_value untyped, draft;
    struct kl_error err = {0};
    if (kl_str_eqz(json, "null"))
        return NULL;
    assert_int_equal(kl_json_parse(&arena, json, NULL, &untyped, &err), 0);
    assert_int_equal(kl_typed_from_untyped(&arena, res->type, &untyped, NULL, &draft, &err), 0);
    assert_int_equal(kl_default_object(&arena, res->type, &draft), 0);
    struct kl_object *o = kl_object_freeze(res->type, &draft);
    assert_non_null(o);
    return o;
}

// Both halves of what is said, as rules.c puts them together.
static void check(const struct kl_resource *res, struct kl_str sub, const struct kl_value *now,
                  const struct kl_value *old, int64_t now_us, struct kl_field_errors *e)
{
    struct kl_findings f = {.arena = &arena};
    if (old)
        kl_validate_update(&f, res, sub, now, old);
    else
        kl_validate_create(&f, res, now);
    for (size_t i = 0; i < f.n; i++)
        kl_field_error(e, f.list[i].reason, f.list[i].field, "%.*s", KL_PRI(f.list[i].message));
    kl_trust_check(res, sub, now, old, now_us, e);
}

static struct kl_str member(const struct kl_value *v, const char *name)
{
    return kl_text(kl_map_value(v, kl_str(name)));
}

static bool run_case(struct kl_str line, size_t number)
{
    struct kl_str head, json[3], kind, sub;
    int64_t now_s;
    struct kl_value want;
    struct kl_error err = {0};
    kl_arena_reset(&arena);
    assert_true(kl_str_split(&line, '\t', &head));
    for (size_t i = 0; i < 3; i++)
        assert_true(kl_str_split(&line, '\t', &json[i]));
    kl_str_split(&head, ' ', &kind);
    kl_str_split(&head, ' ', &sub);
    assert_true(kl_str_to_i64(head, &now_s));
    const struct kl_resource *res = resource_of(kind);
    assert_non_null(res);
    struct kl_object *now = object_of(res, json[0]), *old = object_of(res, json[1]);
    assert_int_equal(kl_json_parse(&arena, json[2], NULL, &want, &err), 0);
    struct kl_field_errors e = {.arena = &arena};
    check(res, kl_str_from(sub, 1), &now->root, old ? &old->root : NULL, now_s * 1000000, &e);
    bool same = e.n == kl_len(&want);
    for (size_t i = 0; same && i < e.n; i++) {
        const struct kl_value *w = kl_at(&want, i);
        same = kl_str_eq(member(w, "Field"), e.causes[i].field) &&
               kl_str_eq(member(w, "Message"), e.causes[i].message);
    }
    if (!same) {
        print_message("line %zu: want %.*s\n", number, (int)(json[2].n < 600 ? json[2].n : 600),
                      json[2].p);
        for (size_t i = 0; i < e.n; i++)
            print_message("  have %.*s: %.*s\n", KL_PRI(e.causes[i].field),
                          (int)(e.causes[i].message.n < 500 ? e.causes[i].message.n : 500),
                          e.causes[i].message.p);
    }
    kl_object_unref(now);
    kl_object_unref(old);
    return same;
}

static void test_vectors(void **state)
{
    (void)state;
    char *text = read_file(path);
    struct kl_str rest = kl_str(text), line;
    size_t n = 0, bad = 0;
    while (kl_str_split(&rest, '\n', &line))
        if (line.n)
            bad += !run_case(line, ++n);
    free(text);
    assert_true(n > 80);
    assert_int_equal(bad, 0);
}

static void test_sizes(void **state)
{
    (void)state;
    static const size_t max = 1 << 20;
    const struct kl_resource *res = resource_of(KL_STR("ClusterTrustBundle"));
    char *text = malloc(max + 1);
    assert_non_null(text);
    memset(text, 'x', max + 1);
    for (size_t n = max; n <= max + 1; n++) {
        struct kl_value now = kl_new_struct(), spec = kl_new_struct();
        struct kl_field_errors e = {.arena = &arena};
        kl_arena_reset(&arena);
        kl_set(&arena, &spec, KL_F_trustBundle, kl_string((struct kl_str){text, n}));
        kl_set(&arena, &now, KL_F_spec, spec);
        kl_trust_check(res, KL_STR(""), &now, NULL, 0, &e);
        assert_int_equal(e.n, 1);
        assert_true(kl_str_starts(
            e.causes[0].message, n > max ? KL_STR("Too long: may not be more than 1048576 bytes")
                                         : KL_STR("Invalid value: \"<value omitted>\": at least")));
    }
    free(text);
}

// An error that cannot be kept for want of memory is one all the same.
static void test_no_memory(void **state)
{
    (void)state;
    for (size_t room = 1; room < 2048; room += 16) {
        struct kl_arena a;
        kl_arena_init(&a, room);
        struct kl_field_errors e = {.arena = &a};
        for (size_t i = 0; i < 40; i++)
            kl_field_error(&e, "FieldValueInvalid", KL_STR("spec"), "Invalid value: %zu", i);
        assert_true(e.n > 0);
        kl_arena_fini(&a);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors), cmocka_unit_test(test_sizes),
                                       cmocka_unit_test(test_no_memory)};
    if (argc < 2)
        return 2;
    path = argv[1];
    kl_arena_init(&arena, 0);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    kl_arena_fini(&arena);
    return rc;
}
