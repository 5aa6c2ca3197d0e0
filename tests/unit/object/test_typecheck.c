// SPDX-License-Identifier: Apache-2.0
// Replays what upstream's type checker says of policies (made by typecheck_vectors): the warnings
// of their status, word for word.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "object/cel/typecheck.h"
#include "object/json.h"

static const char *path;

// The warnings as the vectors have them.
static struct kl_str shown(struct kl_arena *a, const struct kl_value *list, bool typed)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    for (KL_EACH(w, list)) {
        struct kl_str ref = typed ? kl_text(kl_get(w, KL_F_fieldRef))
                                  : kl_text(kl_map_value(w, KL_STR("fieldRef")));
        struct kl_str text =
            typed ? kl_text(kl_get(w, KL_F_warning)) : kl_text(kl_map_value(w, KL_STR("warning")));
        kl_buf_printf(&b, "%.*s\n%.*s\n", KL_PRI(ref), KL_PRI(text));
    }
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

static bool agrees(char *line, int number)
{
    struct kl_arena a;
    struct kl_value v, root = kl_new_map(), policy, got;
    struct kl_error err = {0};
    kl_arena_init(&a, 256 << 20);
    assert_int_equal(kl_json_parse(&a, kl_str(line), NULL, &v, &err), 0);
    assert_int_equal(kl_map_set_value(&a, &root, KL_STR("spec"), *kl_map_value(&v, KL_STR("spec"))),
                     0);
    assert_int_equal(kl_typed_from_untyped(
                         &a, kl_type(KL_TYPE_admissionregistration_v1_ValidatingAdmissionPolicy),
                         &root, NULL, &policy, &err),
                     0);
    assert_int_equal(kl_policy_typecheck(&a, &policy, NULL, 0, 0, &got), 0);
    struct kl_str want = shown(&a, kl_map_value(&v, KL_STR("warnings")), false),
                  is = shown(&a, &got, true);
    bool same = kl_str_eq(want, is);
    if (!same)
        fprintf(stderr, "line %d: %.*s\n--- got\n%.*s\n--- want\n%.*s\n", number,
                (int)strcspn(line, "\n") > 300 ? 300 : (int)strcspn(line, "\n"), line, KL_PRI(is),
                KL_PRI(want));
    kl_arena_fini(&a);
    return same;
}

static void test_vectors(void **state)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    int n = 0, bad = 0;
    assert_non_null(f);
    while (getline(&line, &room, f) > 0)
        bad += !agrees(line, ++n);
    free(line);
    fclose(f);
    assert_true(n > 20);
    assert_int_equal(bad, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors)};
    path = argc > 1 ? argv[1] : "typecheck_vectors.txt";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
