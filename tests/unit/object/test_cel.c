// SPDX-License-Identifier: Apache-2.0
// object/cel against what Kubernetes' own environment says: every line of vectors.jsonl is an
// expression with its type, value or error, runtime cost and estimate (cel_vectors/ makes them).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "object/cel/cel.h"
#include "object/json.h"

static const char *vectors_path, *schema_path;

struct world {
    struct kl_arena arena; // of the whole run
    struct kl_cel_env *env;
    struct kl_cel_val vars[9];
};

static struct kl_cel_val tree(struct kl_arena *a, const char *text)
{
    struct kl_value *v = kl_arena_alloc(a, sizeof *v);
    assert_non_null(v);
    assert_int_equal(kl_json_parse(a, kl_str(text), NULL, v, NULL), 0);
    return kl_cel_node(a, v, NULL);
}

static int open_world(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct kl_cel_env *e = kl_cel_env_new(0);
    kl_arena_init(&w->arena, 0);
    const struct kl_cel_decl *text = kl_cel_decl_simple(e, KL_CEL_T_STRING);
    const struct kl_cel_decl *number = kl_cel_decl_simple(e, KL_CEL_T_INT);
    kl_cel_env_var(e, KL_STR("i"), number);
    kl_cel_env_var(e, KL_STR("u"), kl_cel_decl_simple(e, KL_CEL_T_UINT));
    kl_cel_env_var(e, KL_STR("d"), kl_cel_decl_simple(e, KL_CEL_T_DOUBLE));
    kl_cel_env_var(e, KL_STR("s"), text);
    kl_cel_env_var(e, KL_STR("b"), kl_cel_decl_simple(e, KL_CEL_T_BOOL));
    kl_cel_env_var(e, KL_STR("li"), kl_cel_decl_list(e, number, -1));
    kl_cel_env_var(e, KL_STR("ls"), kl_cel_decl_list(e, text, -1));
    kl_cel_env_var(e, KL_STR("ms"), kl_cel_decl_map(e, text, -1));
    kl_cel_env_var(e, KL_STR("dyno"), kl_cel_decl_simple(e, KL_CEL_T_DYN));
    w->env = e;
    w->vars[0] = kl_cel_int(5);
    w->vars[1] = kl_cel_uint(7);
    w->vars[2] = kl_cel_double(2.5);
    w->vars[3] = kl_cel_string(KL_STR("hello wörld"));
    w->vars[4] = kl_cel_bool(true);
    w->vars[5] = tree(&w->arena, "[1,2,3]");
    w->vars[6] = tree(&w->arena, "[\"a\",\"bb\",\"ccc\"]");
    w->vars[7] = tree(&w->arena, "{\"a\":\"x\"}");
    w->vars[8] = tree(&w->arena, "{\"name\":\"web\",\"replicas\":3,\"ratio\":0.5,\"on\":true,"
                                 "\"none\":null,\"labels\":{\"app\":\"web\"},\"items\":[{\"name\":"
                                 "\"one\",\"n\":1},{\"name\":\"two\"}]}");
    *state = w;
    return 0;
}

static int close_world(void **state)
{
    struct world *w = *state;
    kl_cel_env_unref(w->env);
    kl_arena_fini(&w->arena);
    free(w);
    return 0;
}

struct tally {
    int lines, bad;
};

static void differs(struct tally *t, struct kl_str expr, const char *what, struct kl_str ours,
                    struct kl_str theirs)
{
    t->bad++;
    print_error("%.*s\n  %s\n    ours:   %.*s\n    theirs: %.*s\n", KL_PRI(expr), what,
                KL_PRI(ours), KL_PRI(theirs));
}

static struct kl_str number(struct kl_arena *a, uint64_t u)
{
    return kl_arena_printf(a, "%llu", (unsigned long long)u);
}

// Behind a syntax error upstream goes on and may find more; we stop.
static bool same_issues(struct kl_str ours, struct kl_str theirs)
{
    bool syntax = memmem(theirs.p, theirs.n, "Syntax error", 12) != NULL;
    return kl_str_eq(ours, theirs) || (syntax && kl_str_starts(theirs, ours));
}

static void check_line(struct world *w, struct kl_arena *a, const struct kl_value *line,
                       struct tally *t)
{
    struct kl_str expr = kl_text(kl_at(line, 0)), type = kl_text(kl_at(line, 1)), issues;
    struct kl_cel_program *p = NULL;
    struct kl_error err;
    struct kl_cel_val v;
    uint64_t cost;
    int r = kl_cel_compile(w->env, expr, a, &p, &issues, &err);
    t->lines++;
    if (r || !type.n) {
        if (!r)
            differs(t, expr, "compiles", kl_cel_program_type(p), kl_text(kl_at(line, 2)));
        else if (!same_issues(issues, kl_text(kl_at(line, 2))))
            differs(t, expr, "issues", issues, kl_text(kl_at(line, 2)));
        kl_cel_program_unref(p);
        return;
    }
    if (!kl_str_eq(kl_cel_program_type(p), type))
        differs(t, expr, "type", kl_cel_program_type(p), type);
    struct kl_cel_eval with = {.vars = w->vars, .cost_limit = 1000000};
    r = kl_cel_eval(p, &with, a, &v, &cost, &err);
    struct kl_str ours = r ? kl_str(err.msg) : kl_cel_format(a, v);
    struct kl_str theirs = kl_text(kl_at(line, kl_is(kl_at(line, 2), KL_NULL) ? 6 : 2));
    if (!kl_str_eq(ours, theirs) || (r != 0) != kl_is(kl_at(line, 2), KL_NULL))
        differs(t, expr, r ? "error" : "value", ours, theirs);
    else if (!kl_str_eq(number(a, cost), kl_text(kl_at(line, 3))))
        differs(t, expr, "cost", number(a, cost), kl_text(kl_at(line, 3)));
    struct kl_cel_cost est = kl_cel_program_cost(p);
    if (!kl_str_eq(number(a, est.min), kl_text(kl_at(line, 4))) ||
        !kl_str_eq(number(a, est.max), kl_text(kl_at(line, 5))))
        differs(t, expr, "estimate",
                kl_arena_printf(a, "%llu..%llu", (unsigned long long)est.min,
                                (unsigned long long)est.max),
                kl_arena_printf(a, "%.*s..%.*s", KL_PRI(kl_text(kl_at(line, 4))),
                                KL_PRI(kl_text(kl_at(line, 5)))));
    kl_cel_program_unref(p);
}

static void upstream_says_the_same(void **state)
{
    struct world *w = *state;
    struct tally t = {0};
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    FILE *f = fopen(vectors_path, "re");
    assert_non_null(f);
    while ((n = getline(&line, &cap, f)) > 0) {
        struct kl_arena a;
        struct kl_value v;
        kl_arena_init(&a, 0);
        assert_int_equal(kl_json_parse(&a, (struct kl_str){line, (size_t)n}, NULL, &v, NULL), 0);
        check_line(w, &a, &v, &t);
        kl_arena_fini(&a);
    }
    free(line);
    fclose(f);
    print_message("%d vectors, %d differ\n", t.lines, t.bad);
    assert_true(t.lines > 1000);
    assert_int_equal(t.bad, 0);
}

// A rule on the schema of the first line: its estimate and cost, what compiling or validating says.
static void check_rule(struct kl_cel_env *e, struct kl_arena *a, const struct kl_cel_val vars[2],
                       const struct kl_value *line, struct tally *t)
{
    struct kl_str rule = kl_text(kl_at(line, 0)), max = kl_text(kl_at(line, 1)), issues, said;
    struct kl_str theirs = kl_text(kl_at(line, 3));
    struct kl_cel_program *p = NULL;
    struct kl_error err;
    struct kl_cel_val v = kl_cel_null();
    uint64_t cost;
    t->lines++;
    int r = kl_cel_compile(e, rule, a, &p, &issues, &err);
    if (r || !max.n) {
        said = kl_arena_printf(a, "compilation failed: %.*s", KL_PRI(issues));
        if (!r || !kl_str_eq(said, kl_text(kl_at(line, 2))))
            differs(t, rule, "compiling", r ? said : KL_STR("fine"), kl_text(kl_at(line, 2)));
        kl_cel_program_unref(p);
        return;
    }
    if (!kl_str_eq(number(a, kl_cel_program_cost(p).max), max))
        differs(t, rule, "estimate", number(a, kl_cel_program_cost(p).max), max);
    struct kl_cel_eval with = {.vars = vars, .cost_limit = 1000000};
    r = kl_cel_eval(p, &with, a, &v, &cost, &err);
    if (r)
        said = kl_str(err.msg);
    else
        said = v.b ? KL_STR("") : kl_arena_printf(a, "failed rule: %.*s", KL_PRI(rule));
    // Upstream wraps an error in more words.
    if (r ? !memmem(theirs.p, theirs.n, said.p, said.n) : !kl_str_eq(said, theirs))
        differs(t, rule, "result", said, theirs);
    if (!kl_str_eq(number(a, cost), kl_text(kl_at(line, 2))))
        differs(t, rule, "cost", number(a, cost), kl_text(kl_at(line, 2)));
    kl_cel_program_unref(p);
}

static void schemas_are_seen_as_upstream(void **state)
{
    struct kl_arena a;
    struct kl_cel_env *e = kl_cel_env_new(0);
    const struct kl_cel_decl *d = NULL;
    struct kl_cel_val vars[2];
    struct tally t = {0};
    struct kl_value first, v;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    FILE *f = fopen(schema_path, "re");
    assert_non_null(f);
    kl_arena_init(&a, 0);
    n = getline(&line, &cap, f);
    struct kl_str head = kl_arena_dup(&a, (struct kl_str){line, (size_t)n});
    assert_int_equal(kl_json_parse(&a, head, NULL, &first, NULL), 0);
    assert_int_equal(kl_cel_decl_schema(e, KL_STR("selfType"), kl_at(&first, 0), false, &d, NULL),
                     0);
    assert_non_null(d);
    assert_int_equal(kl_cel_env_var(e, KL_STR("self"), d), 0);
    assert_int_equal(kl_cel_env_var(e, KL_STR("oldSelf"), d), 1);
    vars[0] = vars[1] = kl_cel_typed(&a, kl_at(&first, 1), d);
    while ((n = getline(&line, &cap, f)) > 0) {
        struct kl_str kept = kl_arena_dup(&a, (struct kl_str){line, (size_t)n});
        assert_int_equal(kl_json_parse(&a, kept, NULL, &v, NULL), 0);
        check_rule(e, &a, vars, &v, &t);
    }
    free(line);
    fclose(f);
    print_message("%d rules, %d differ\n", t.lines, t.bad);
    assert_true(t.lines > 50);
    assert_int_equal(t.bad, 0);
    kl_cel_env_unref(e);
    kl_arena_fini(&a);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(upstream_says_the_same, open_world, close_world),
        cmocka_unit_test(schemas_are_seen_as_upstream),
    };
    vectors_path = argc > 1 ? argv[1] : "";
    schema_path = argc > 2 ? argv[2] : "";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
