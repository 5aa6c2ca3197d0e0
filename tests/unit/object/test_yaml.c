// SPDX-License-Identifier: Apache-2.0
// YAML as sigs.k8s.io/yaml answered it (yaml.json): value, error, strict finding, written form.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "object/yaml.h"

static const char *cases_path;

static struct kl_str read_file(struct kl_arena *a, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("cannot open %s", path);
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    char *p = kl_arena_alloc(a, n + 1);
    assert_int_equal(fread(p, 1, n, f), n);
    fclose(f);
    return (struct kl_str){p, n};
}

static void show(const char *name, const struct kl_value *v)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_json_write(&b, v);
    printf("  %s %.*s\n", name, KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
}

static bool check_case(struct kl_arena *a, const struct kl_value *c)
{
    struct kl_str text = kl_text(kl_map_value(c, KL_STR("yaml")));
    struct kl_str error = kl_text(kl_map_value(c, KL_STR("error")));
    struct kl_str finding = kl_text(kl_map_value(c, KL_STR("strict")));
    const struct kl_value *want = kl_map_value(c, KL_STR("json"));
    struct kl_strict strict = {.n = 0};
    struct kl_error err = {0};
    struct kl_value got;
    char *exact = malloc(text.n ? text.n : 1);
    memcpy(exact, text.p, text.n);
    int r = kl_yaml_parse(a, (struct kl_str){exact, text.n}, &strict, &got, &err);
    free(exact);
    if (r) {
        // What follows a key or value in Go's own notation is left out of our message.
        struct kl_str message = kl_str(err.msg);
        bool same = error.n && (kl_str_eq(message, error) || kl_str_starts(error, message));
        if (!same)
            printf("%.*s  error %s\n  want  %.*s\n", KL_PRI(text), err.msg, KL_PRI(error));
        return same;
    }
    struct kl_str found = strict.n ? strict.messages[0] : (struct kl_str){"", 0};
    if (error.n || !kl_value_equal(&got, want) || !kl_str_eq(found, finding)) {
        printf("%.*s", KL_PRI(text));
        show("got ", &got);
        show("want", want);
        printf("  error %.*s\n  strict %.*s\n  want   %.*s\n", KL_PRI(error), KL_PRI(found),
               KL_PRI(finding));
        return false;
    }
    return true;
}

static bool check_written(struct kl_arena *a, const struct kl_value *c)
{
    const struct kl_value *v = kl_map_value(c, KL_STR("json"));
    const struct kl_value *written = kl_map_value(c, KL_STR("written"));
    if (!v || !written)
        return true;
    struct kl_buf b;
    struct kl_value again;
    kl_buf_init(&b, 1 << 20);
    assert_int_equal(kl_yaml_write(&b, v), 0);
    bool same = kl_str_eq(kl_buf_str(&b), kl_text(written));
    if (!same)
        printf("wrote\n%.*swant\n%.*s", KL_PRI(kl_buf_str(&b)), KL_PRI(kl_text(written)));
    assert_int_equal(kl_yaml_parse(a, kl_buf_str(&b), NULL, &again, NULL), 0);
    assert_true(kl_value_equal(v, &again));
    kl_buf_fini(&b);
    return same;
}

static void test_cases(void **state)
{
    struct kl_arena a;
    struct kl_value cases;
    struct kl_error err = {0};
    size_t bad = 0;
    kl_arena_init(&a, 0);
    if (kl_json_parse(&a, read_file(&a, cases_path), NULL, &cases, &err))
        fail_msg("%s", err.msg);
    assert_true(cases.n >= 90);
    for (KL_EACH(c, &cases)) {
        bad += !check_case(&a, c);
        bad += !check_written(&a, c);
    }
    assert_int_equal(bad, 0);
    kl_arena_fini(&a);
}

static int parse_nested(size_t depth, struct kl_error *err)
{
    struct kl_arena a;
    struct kl_value v;
    char *text = malloc(2 * depth);
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    kl_arena_init(&a, 0);
    int r = kl_yaml_parse(&a, (struct kl_str){text, 2 * depth}, NULL, &v, err);
    kl_arena_fini(&a);
    free(text);
    return r;
}

static void test_depth(void **state)
{
    struct kl_error err = {0};
    assert_int_equal(parse_nested(900, &err), 0);
    assert_int_equal(parse_nested(10001, &err), KL_EBADREQUEST);
    assert_non_null(strstr(err.msg, "exceeded max depth"));
}

static void test_documents(void **state)
{
    struct kl_str rest = KL_STR("---\na: 1\n--- # second\nb: 2\n---\n\n---\nc: |\n  x\n  ---y\n"),
                  doc;
    static const char *const want[] = {"---\na: 1", "\nb: 2", "\nc: |\n  x\n  ---y\n"};
    for (size_t i = 0; i < 3; i++) {
        assert_true(kl_yaml_next_document(&rest, &doc));
        assert_int_equal(doc.n, strlen(want[i]));
        assert_memory_equal(doc.p, want[i], doc.n);
    }
    assert_false(kl_yaml_next_document(&rest, &doc));
}

// The time that the library takes for them grows with the square of their number.
static void test_tag_directives(void **state)
{
    static const struct {
        size_t n;
        const char *format, *end;
        int rc;
    } rows[] = {
        {200, "%%TAG !a%zu! x\n", "---\na", 0},
        {300, "%%TAG !a%zu! x\n", "---\na", KL_EBADREQUEST},
        {300, "%%TAG !a%zu! x\xe2\x80\xa8", "---\na", KL_EBADREQUEST},
        {300, "- '%%TAG !a%zu! x'\n", "", 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct kl_arena a;
        struct kl_buf text;
        struct kl_value v;
        struct kl_error err = {0};
        kl_buf_init(&text, 1 << 20);
        for (size_t k = 0; k < rows[i].n; k++) {
            char line[64];
            snprintf(line, sizeof(line), rows[i].format, k);
            kl_buf_puts(&text, kl_str(line));
        }
        kl_buf_puts(&text, kl_str(rows[i].end));
        kl_arena_init(&a, 0);
        int rc = kl_yaml_parse(&a, kl_buf_str(&text), NULL, &v, &err);
        if (rc != rows[i].rc)
            fail_msg("row %zu: %d %s", i, rc, err.msg);
        if (rc)
            assert_string_equal(err.msg, "yaml: too many %TAG directives");
        kl_arena_fini(&a);
        kl_buf_fini(&text);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_tag_directives),
    };
    if (argc != 2)
        return 2;
    cases_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
