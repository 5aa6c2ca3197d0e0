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
#include <pthread.h>

#include "object/cel/cel.h"
#include "object/cel/re2_int.h"
#include "object/json.h"
#include "object/schema.h"

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

// ---- what no vector has: the interface
struct bench {
    struct kl_arena arena;
    struct kl_cel_env *env;
};

static struct bench *new_bench(unsigned flags)
{
    struct bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->env = kl_cel_env_new(flags);
    assert_non_null(b->env);
    kl_arena_init(&b->arena, 0);
    return b;
}

static void free_bench(struct bench *b)
{
    kl_cel_env_unref(b->env);
    kl_arena_fini(&b->arena);
    free(b);
}

// The value as CEL text, or "error: ...".
static const char *run(struct bench *b, const char *expr, const struct kl_cel_eval *with)
{
    struct kl_cel_program *p = NULL;
    struct kl_str issues;
    struct kl_error err;
    struct kl_cel_val v;
    if (kl_cel_compile(b->env, kl_str(expr), &b->arena, &p, &issues, &err))
        return kl_arena_printf(&b->arena, "issues: %.*s", KL_PRI(issues)).p;
    int r = kl_cel_eval(p, with, &b->arena, &v, NULL, &err);
    const char *text = r ? kl_arena_printf(&b->arena, "error %d: %s", r, err.msg).p
                         : kl_cel_format(&b->arena, v).p;
    kl_cel_program_unref(p);
    return text;
}

static void authorize(void *ctx, struct kl_arena *a, const struct kl_cel_authz *q,
                      struct kl_cel_decision *ret)
{
    int *calls = ctx;
    ++*calls;
    ret->allowed = kl_str_eqz(q->verb, "get");
    ret->errored = kl_str_eqz(q->verb, "fail");
    ret->error = KL_STR("broken");
    ret->reason = kl_arena_printf(a, "%.*s/%.*s/%.*s/%.*s/%.*s as %.*s", KL_PRI(q->group),
                                  KL_PRI(q->resource), KL_PRI(q->subresource), KL_PRI(q->ns),
                                  KL_PRI(q->path), KL_PRI(q->sa_name));
}

static void the_authorizer_is_asked(void **state)
{
    struct bench *b = new_bench(0);
    int calls = 0;
    struct kl_cel_authorizer authorizer = {.ctx = &calls, .authorize = authorize};
    kl_cel_env_var(b->env, KL_STR("authorizer"), kl_cel_decl_simple(b->env, KL_CEL_T_AUTHORIZER));
    kl_cel_env_var(b->env, KL_STR("authorizer.requestResource"),
                   kl_cel_decl_simple(b->env, KL_CEL_T_RESOURCE_CHECK));
    struct kl_cel_val vars[] = {kl_cel_authorizer(&b->arena),
                                kl_cel_resource_check(&b->arena, KL_STR("g"), KL_STR("r"),
                                                      KL_STR("s"), KL_STR("n"), KL_STR("x"))};
    struct kl_cel_eval with = {.vars = vars, .authorizer = &authorizer};
    assert_string_equal(run(b, "authorizer.path('/x').check('get').allowed()", &with), "true");
    assert_string_equal(
        run(b, "authorizer.group('g').resource('r').namespace('n').check('put').reason()", &with),
        "\"g/r//n/ as \"");
    assert_string_equal(run(b, "authorizer.requestResource.check('get').reason()", &with),
                        "\"g/r/s/n/ as \"");
    assert_string_equal(
        run(b, "authorizer.serviceAccount('n', 'me').path('/x').check('get').reason()", &with),
        "\"/////x as me\"");
    assert_string_equal(run(b, "authorizer.path('/x').check('fail').error()", &with), "\"broken\"");
    assert_string_equal(
        run(b, "authorizer.serviceAccount('N', 'me').path('/').check('get')", &with),
        "error -8: Invalid service account namespace");
    assert_string_equal(run(b, "authorizer.path(' ')", &with), "error -8: path must not be empty");
    assert_int_equal(calls, 5);
    free_bench(b);
}

static struct kl_cel_val compute(void *ctx, struct kl_arena *a, struct kl_str name)
{
    int *calls = ctx;
    ++*calls;
    return kl_str_eqz(name, "bad") ? kl_cel_error(KL_STR("composited variable fails"))
                                   : kl_cel_int((int64_t)name.n);
}

static void variables_are_computed_once(void **state)
{
    struct bench *b = new_bench(0);
    int calls = 0;
    const struct kl_cel_decl *d =
        kl_cel_decl_object(b->env, KL_STR("kubernetes.variables"), NULL, 0);
    const struct kl_cel_decl *number = kl_cel_decl_simple(b->env, KL_CEL_T_INT);
    kl_cel_env_var(b->env, KL_STR("variables"), d);
    assert_int_equal(kl_cel_decl_add_field(b->env, d, KL_STR("four"), number), 0);
    assert_int_equal(kl_cel_decl_add_field(b->env, d, KL_STR("bad"), number), 0);
    assert_int_equal(kl_cel_decl_add_field(b->env, d, KL_STR("bad"), number), KL_EEXISTS);
    struct kl_cel_val vars[] = {kl_cel_lazy(&b->arena, compute, &calls)};
    struct kl_cel_eval with = {.vars = vars};
    assert_string_equal(run(b, "variables.four + variables.four", &with), "8");
    assert_int_equal(calls, 1);
    assert_string_equal(run(b, "variables.bad > 1", &with), "error -8: composited variable fails");
    assert_string_equal(run(b, "variables.bad > 1 || variables.four == 4", &with), "true");
    assert_int_equal(calls, 2);
    assert_string_equal(run(b, "variables.none", &with),
                        "issues: ERROR: <input>:1:10: undefined field 'none'\n | variables.none\n "
                        "| .........^");
    free_bench(b);
}

static void patches_are_made(void **state)
{
    struct bench *b = new_bench(KL_CEL_PATCH_TYPES);
    struct kl_cel_eval with = {0};
    struct kl_cel_program *p = NULL;
    struct kl_cel_json_patch patch;
    struct kl_cel_val v;
    struct kl_value tree;
    struct kl_str issues;
    struct kl_error err;
    const char *expr = "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c~'), value: "
                       "Object.spec{n: 1, ?gone: optional.none(), l: [1.5, 2.0]}}]";
    assert_int_equal(kl_cel_compile(b->env, kl_str(expr), &b->arena, &p, &issues, &err), 0);
    assert_string_equal(kl_cel_program_type(p).p, "list(JSONPatch)");
    assert_int_equal(kl_cel_eval(p, &with, &b->arena, &v, NULL, &err), 0);
    assert_int_equal(kl_cel_len(v), 1);
    assert_true(kl_cel_as_json_patch(kl_cel_at(&b->arena, v, 0), &patch));
    assert_true(kl_str_eqz(patch.op, "add") && kl_str_eqz(patch.path, "/a/b~1c~0"));
    assert_true(patch.has_value && !patch.from.n);
    assert_int_equal(kl_cel_to_value(&b->arena, patch.value, &tree, &err), 0);
    struct kl_buf out;
    kl_buf_init(&out, 4096);
    kl_json_write(&out, &tree);
    assert_true(kl_str_eqz(kl_buf_str(&out), "{\"n\":1,\"l\":[1.5,2]}"));
    kl_buf_fini(&out);
    kl_cel_program_unref(p);
    assert_string_equal(run(b, "JSONPatch{op: 1}", &with),
                        "issues: ERROR: <input>:1:13: expected type of field 'op' is 'string' but "
                        "provided type is 'int'\n | JSONPatch{op: 1}\n | ............^");
    assert_string_equal(run(b, "has(Object{a: 1}.b) || Object{a: 1}.a == 1", &with), "true");
    free_bench(b);
}

// Typed trees show what Go writes.
static void typed_trees_read_as_json(void **state)
{
    struct bench *b = new_bench(0);
    struct kl_value pod;
    struct kl_error err;
    const struct kl_type *type = kl_type(KL_TYPE_core_v1_Pod);
    const char *text = "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\","
                       "\"creationTimestamp\":\"2024-01-02T03:04:05Z\",\"labels\":{\"a\":\"b\"}},"
                       "\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"resources\":{"
                       "\"limits\":{\"cpu\":\"1500m\"}},\"ports\":[{\"containerPort\":80}]}]}}";
    assert_int_equal(kl_json_decode(&b->arena, type, kl_str(text), NULL, &pod, &err), 0);
    kl_cel_env_var(b->env, KL_STR("object"), kl_cel_decl_simple(b->env, KL_CEL_T_DYN));
    struct kl_cel_val vars[] = {kl_cel_node(&b->arena, &pod, type)};
    struct kl_cel_eval with = {.vars = vars};
    assert_string_equal(run(b, "object.metadata.creationTimestamp", &with),
                        "\"2024-01-02T03:04:05Z\"");
    assert_string_equal(
        run(b,
            "quantity(object.spec.containers[0].resources.limits.cpu).compareTo(quantity('1.5'))",
            &with),
        "0");
    assert_string_equal(run(b, "has(object.status) && !has(object.status.phase)", &with), "true");
    assert_string_equal(run(b, "object.spec.containers.map(c, c.ports[0].containerPort)", &with),
                        "[80]");
    assert_string_equal(run(b, "object.metadata.labels == {'a': 'b'}", &with), "true");
    assert_string_equal(run(b, "object.spec.nope", &with), "error -8: no such key: nope");
    free_bench(b);
}

static bool always(void *ctx)
{
    ++*(int *)ctx;
    return true;
}

static void limits_hold(void **state)
{
    struct bench *b = new_bench(0);
    int asked = 0;
    struct kl_cel_eval with = {.cost_limit = 50};
    char deep[2000];
    assert_string_equal(run(b, "lists.range(1000).all(x, x >= 0)", &with),
                        "error -28: operation cancelled: actual cost limit exceeded");
    with = (struct kl_cel_eval){.interrupted = always, .interrupted_ctx = &asked};
    assert_string_equal(run(b, "lists.range(1000).all(x, x >= 0)", &with),
                        "error -20: operation interrupted");
    assert_int_equal(asked, 1);
    assert_string_equal(run(b, "lists.range(99).all(x, x >= 0)", &with), "true");
    memset(deep, '(', 300);
    memset(deep + 300, '1', 1);
    memset(deep + 301, ')', 300);
    deep[601] = 0;
    assert_non_null(strstr(run(b, deep, &with), "expression recursion limit exceeded: 250"));
    struct kl_arena small;
    struct kl_cel_program *p;
    struct kl_str issues;
    struct kl_error err;
    struct kl_cel_val v;
    assert_int_equal(kl_cel_compile(b->env, KL_STR("lists.range(100000).map(x, [x])"), &b->arena,
                                    &p, &issues, &err),
                     0);
    kl_arena_init(&small, 1 << 20);
    with = (struct kl_cel_eval){0};
    assert_int_equal(kl_cel_eval(p, &with, &small, &v, NULL, &err), KL_ENOMEM);
    kl_arena_fini(&small);
    kl_cel_program_unref(p);
    // Each optMap copies its target: many in a chain must not take all memory.
    struct kl_str chain = KL_STR("optional.of(1)");
    for (int i = 0; i < 60; i++)
        chain = kl_arena_printf(&b->arena, "%.*s.optMap(x, x)", KL_PRI(chain));
    assert_int_equal(kl_cel_compile(b->env, chain, &b->arena, &p, &issues, &err), KL_ENOMEM);
    free_bench(b);
}

// Deeper than the walks go: an answer, never a crash.
static void deep_trees_are_no_trap(void **state)
{
    enum { DEPTH = 9000 };
    struct bench *b = new_bench(0);
    char *text = malloc(2 * DEPTH + 1);
    assert_non_null(text);
    memset(text, '[', DEPTH);
    memset(text + DEPTH, ']', DEPTH);
    text[2 * DEPTH] = 0;
    struct kl_cel_val vars[2];
    for (int i = 0; i < 2; i++) {
        vars[i] = tree(&b->arena, text);
        kl_cel_env_var(b->env, i ? KL_STR("y") : KL_STR("x"),
                       kl_cel_decl_simple(b->env, KL_CEL_T_DYN));
    }
    struct kl_cel_eval with = {.vars = vars};
    assert_string_equal(run(b, "x == y", &with), "true");
    run(b, "[x].flatten(100000)", &with);
    run(b, "'%s'.format([x])", &with);
    assert_string_equal(run(b, "x.size()", &with), "1");
    free(text);
    free_bench(b);
}

static struct kl_str repeated(struct kl_arena *a, const char *head, const char *middle,
                              const char *tail, int n)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    for (int i = 0; i < n; i++)
        kl_buf_puts(&b, kl_str(head));
    kl_buf_puts(&b, kl_str(middle));
    for (int i = 0; i < n; i++)
        kl_buf_puts(&b, kl_str(tail));
    struct kl_str text = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return text;
}

// regexp.Compile of Go 1.26: `least` repetitions are too deep, one less is not.
static void patterns_are_as_deep_as_in_go(void **state)
{
    static const struct {
        const char *head, *middle, *tail;
        int least; // 0: none of 4,000
    } shapes[] = {{"(", "a", ")", 1000},
                  {"(?:", "a", ")*", 1000},
                  {"(?:", "a", ")", 0},
                  {"(x", "", ")", 501},
                  {"(?:x|", "yz", ")", 0},
                  {"(?:x|", "y", ")+", 501},
                  {"(?:(?:", "a", "*)+)", 500},
                  {"[(]", "", "", 0},
                  {"[]([:alpha:]*)]", "", "", 0},
                  {"\\Q(((\\E", "", "", 0},
                  {"\\(\\x{28}\\050\\x28\\pL", "", "", 0},
                  {"(?i:", "a", "b)?", 501},
                  {"(?P<n>", "a", ")", 1000},
                  {"(?:", "\\d", "){1}", 1000},
                  {"((x)", "y", "|z)", 333}};
    struct kl_arena a;
    struct kl_str why;
    kl_arena_init(&a, 0);
    for (size_t i = 0; i < KL_COUNT(shapes); i++) {
        int n = shapes[i].least ? shapes[i].least : 4000;
        for (int k = n - 1; k <= n; k++) {
            struct kl_str p = repeated(&a, shapes[i].head, shapes[i].middle, shapes[i].tail, k);
            if (cel_regex_is_deep(p) != (shapes[i].least && k == n))
                fail_msg("%s * %d", shapes[i].head, k);
        }
    }
    struct kl_str deep = repeated(&a, "(", "a", ")", 1000);
    assert_null(cel_regex_new(deep, &a, &why));
    assert_true(
        kl_str_starts(why, KL_STR("error parsing regexp: expression nests too deeply: `((")));
    void *re = cel_regex_new(repeated(&a, "(", "a", ")", 999), &a, &why);
    assert_non_null(re);
    cel_regex_free(re);
    kl_arena_fini(&a);
}

static const struct kl_cel_program *shared;

static void *evaluate_often(void *arg)
{
    struct kl_cel_val *vars = arg, v;
    struct kl_cel_eval with = {.vars = vars};
    size_t good = 0;
    for (int i = 0; i < 200; i++) {
        struct kl_arena a;
        struct kl_error err;
        kl_arena_init(&a, 0);
        good += !kl_cel_eval(shared, &with, &a, &v, NULL, &err) && v.kind == KL_CEL_BOOL && v.b;
        kl_arena_fini(&a);
    }
    return good == 200 ? arg : NULL;
}

static void threads_share_a_program(void **state)
{
    struct bench *b = new_bench(0);
    struct kl_cel_program *p = NULL;
    struct kl_str issues;
    struct kl_error err;
    pthread_t threads[4];
    kl_cel_env_var(b->env, KL_STR("x"), kl_cel_decl_simple(b->env, KL_CEL_T_DYN));
    struct kl_cel_val vars[] = {tree(&b->arena, "{\"a\":[\"b1\",\"b2\"],\"n\":3}")};
    assert_int_equal(kl_cel_compile(b->env,
                                    KL_STR("x.a.all(s, s.matches('^b[0-9]$')) && x.n in [1, "
                                           "2, 3] && x.a.map(s, s + 'x').size() == 2"),
                                    &b->arena, &p, &issues, &err),
                     0);
    shared = p;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, evaluate_often, vars), 0);
    for (int i = 0; i < 4; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        assert_non_null(result);
    }
    kl_cel_program_unref(p);
    free_bench(b);
}

static void programs_know_their_variables(void **state)
{
    struct bench *b = new_bench(0);
    struct kl_cel_program *p;
    struct kl_str issues, name;
    struct kl_error err;
    const struct kl_cel_decl *number = kl_cel_decl_simple(b->env, KL_CEL_T_INT);
    kl_cel_env_var(b->env, KL_STR("self"), number);
    kl_cel_env_var(b->env, KL_STR("oldSelf"), number);
    kl_cel_env_var(b->env, KL_STR("request"), kl_cel_decl_request(b->env));
    kl_cel_env_var(b->env, KL_STR("namespaceObject"), kl_cel_decl_namespace(b->env));
    assert_int_equal(kl_cel_env_var(b->env, KL_STR("self"), number), KL_EEXISTS);
    assert_int_equal(kl_cel_compile(b->env,
                                    KL_STR("self > 1 && request.userInfo.groups.size() > 0 "
                                           "&& namespaceObject.status.conditions.all(c, "
                                           "c.lastTransitionTime.getHours() > 1)"),
                                    &b->arena, &p, &issues, &err),
                     0);
    assert_true(kl_cel_program_uses(p, KL_STR("self")) &&
                !kl_cel_program_uses(p, KL_STR("oldSelf")));
    assert_true(kl_cel_program_is(p, KL_CEL_T_BOOL) && !kl_cel_program_is(p, KL_CEL_T_INT));
    kl_cel_program_unref(p);
    assert_int_equal(kl_cel_escape(&b->arena, KL_STR("a-b.c/d__e"), &name), 0);
    assert_string_equal(name.p, "a__dash__b__dot__c__slash__d__underscores__e");
    assert_int_equal(kl_cel_unescape(&b->arena, name, &name), 0);
    assert_true(kl_str_eqz(name, "a-b.c/d__e"));
    assert_int_equal(kl_cel_escape(&b->arena, KL_STR("a b"), &name), KL_EINVALID);
    free_bench(b);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(upstream_says_the_same, open_world, close_world),
        cmocka_unit_test(schemas_are_seen_as_upstream),
        cmocka_unit_test(the_authorizer_is_asked),
        cmocka_unit_test(variables_are_computed_once),
        cmocka_unit_test(patches_are_made),
        cmocka_unit_test(typed_trees_read_as_json),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(deep_trees_are_no_trap),
        cmocka_unit_test(patterns_are_as_deep_as_in_go),
        cmocka_unit_test(threads_share_a_program),
        cmocka_unit_test(programs_know_their_variables),
    };
    vectors_path = argc > 1 ? argv[1] : "";
    schema_path = argc > 2 ? argv[2] : "";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
