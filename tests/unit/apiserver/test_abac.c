// SPDX-License-Identifier: Apache-2.0
// ABAC against what upstream's authorizer read and decided (abac_vectors/main.go).
#include "apiserver/auth/abac.h"
#include "apiserver/auth/auth.h"
#include "object/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *vectors;

static struct kl_str text(const struct kl_value *row, size_t i)
{
    return kl_text(kl_at(row, i));
}

static void says(struct kl_arena *a, struct kl_str file, struct kl_str want)
{
    struct kl_abac b;
    struct kl_error err = {.msg = "<nil>"};
    kl_abac_parse(a, "FILE", file, &b, &err);
    if (!kl_str_eqz(want, err.msg))
        fail_msg("%.*s\nwant %.*s\ngot  %s", KL_PRI(file), KL_PRI(want), err.msg);
}

static void reads(struct kl_arena *a, const struct kl_value *row)
{
    struct kl_abac b;
    struct kl_error err = {0};
    if (kl_abac_parse(a, "FILE", text(row, 1), &b, &err))
        fail_msg("%.*s: %s", KL_PRI(text(row, 1)), err.msg);
    assert_int_equal(b.n, 1);
    const struct kl_str got[] = {
        b.v->user,      b.v->group,    b.v->readonly ? KL_STR("true") : KL_STR("false"),
        b.v->api_group, b.v->resource, b.v->ns,
        b.v->path};
    for (size_t i = 0; i < KL_COUNT(got); i++)
        if (!kl_str_eq(got[i], text(row, 2 + i)))
            fail_msg("%.*s: field %zu: want \"%.*s\", got \"%.*s\"", KL_PRI(text(row, 1)), i,
                     KL_PRI(text(row, 2 + i)), KL_PRI(got[i]));
}

// A comment of so many bytes.
static struct kl_str comment(struct kl_arena *a, const struct kl_value *row, bool ends)
{
    int64_t n = 0;
    assert_true(kl_str_to_i64(text(row, 1), &n));
    char *p = kl_arena_alloc(a, (size_t)n + 1);
    memset(p, 'x', (size_t)n);
    p[0] = '#';
    p[n] = '\n';
    return (struct kl_str){p, (size_t)n + ends};
}

static void decides(const struct kl_abac *b, const struct kl_value *row)
{
    static const struct {
        const char *name, *group;
    } users[] = {{"admin", NULL},       {"alice", NULL},         {"bob", NULL},
                 {"debbie", NULL},      {"scheduler", "team-a"}, {"scheduler", "team-b"},
                 {"kubelet", "team-a"}, {"apigroupuser", NULL},  {"system:anonymous", NULL}};
    static const char *const verbs[] = {"get", "list", "watch", "create", "update", "delete"};
    static const char *const namespaces[] = {"projectCaribou", "projectAnyGroup",
                                             "projectEmptyGroup", "projectXGroup", ""};
    static const char *const resources[][2] = {
        {"", "pods"}, {"", "events"}, {"", "bindings"}, {"x", "pods"}, {"", "nodes"}};
    static const char *const paths[] = {"/version", "/healthz", "/debug", "/debug/", "/debug/pprof",
                                        "/logs",    "/logs/a",  "/logsx", "/x",      "/"};
    int64_t i = 0;
    assert_true(kl_str_to_i64(text(row, 1), &i) && i < (int64_t)KL_COUNT(users));
    struct kl_str group = users[i].group ? kl_str(users[i].group) : KL_STR("");
    struct kl_user *u =
        kl_user_new(kl_str(users[i].name), KL_STR(""), &group, group.n != 0, NULL, 0);
    struct kl_str want = text(row, 2);
    size_t k = 0, all = KL_COUNT(namespaces) * KL_COUNT(resources);
    for (size_t v = 0; v < KL_COUNT(verbs); v++)
        for (size_t q = 0; q < all + KL_COUNT(paths); q++, k++) {
            struct kl_attrs t = {.user = u, .verb = kl_str(verbs[v]), .is_resource = q < all};
            if (t.is_resource) {
                t.ns = kl_str(namespaces[q / KL_COUNT(resources)]);
                t.group = kl_str(resources[q % KL_COUNT(resources)][0]);
                t.plural = kl_str(resources[q % KL_COUNT(resources)][1]);
            } else {
                t.path = kl_str(paths[q - all]);
            }
            assert_true(k < want.n);
            if (kl_abac_allows(b, &t) != (want.p[k] == 'y'))
                fail_msg("user %s: %s %.*s %.*s/%.*s %.*s: want %c", users[i].name, verbs[v],
                         KL_PRI(t.ns), KL_PRI(t.group), KL_PRI(t.plural), KL_PRI(t.path),
                         want.p[k]);
        }
    assert_int_equal(k, want.n);
    kl_user_unref(u);
}

static void test_vectors(void **state)
{
    FILE *f = fopen(vectors, "r");
    struct kl_arena a;
    struct kl_abac file = {0};
    struct kl_error err = {0};
    char *line = NULL;
    size_t room = 0, rows = 0;
    (void)state;
    assert_non_null(f);
    kl_arena_init(&a, 64 << 20);
    for (ssize_t n; (n = getline(&line, &room, f)) > 0; rows++) {
        struct kl_value row;
        struct kl_str copy = kl_arena_dup(&a, (struct kl_str){line, (size_t)n});
        assert_int_equal(kl_json_parse(&a, copy, NULL, &row, &err), 0);
        struct kl_str what = text(&row, 0);
        if (kl_str_eqz(what, "line"))
            reads(&a, &row);
        else if (kl_str_eqz(what, "bad") || kl_str_eqz(what, "lines"))
            says(&a, text(&row, 1), text(&row, 2));
        else if (kl_str_eqz(what, "comment") || kl_str_eqz(what, "last"))
            says(&a, comment(&a, &row, kl_str_eqz(what, "comment")), text(&row, 2));
        else if (kl_str_eqz(what, "file"))
            assert_int_equal(kl_abac_parse(&a, "FILE", text(&row, 1), &file, &err), 0);
        else
            decides(&file, &row);
    }
    assert_true(rows > 100);
    free(line);
    fclose(f);
    kl_arena_fini(&a);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors)};
    vectors = argc > 1 ? argv[1] : "abac_vectors.txt";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
