// SPDX-License-Identifier: Apache-2.0
// object/crd against what apiextensions-apiserver made of the same schemas, objects, definitions
// and paths (gen/ records it).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <pthread.h>

#include "object/apply/managed.h"
#include "object/crd/crd.h"
#include "object/crd/definition.h"
#include "object/crd/jsonpath.h"
#include "object/defaults.h"
#include "object/json.h"

static const char *files[4];

struct tally {
    int lines, bad;
};

static struct kl_str json(struct kl_arena *a, const struct kl_value *v)
{
    struct kl_buf b;
    kl_buf_init(&b, 16 << 20);
    kl_json_write(&b, v);
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

static void differs(struct tally *t, const char *what, struct kl_str theirs, struct kl_str ours)
{
    t->bad++;
    if (t->bad <= 60)
        print_error("line %d: %s\n  theirs: %.*s\n  ours:   %.*s\n", t->lines, what, KL_PRI(theirs),
                    KL_PRI(ours));
}

static const struct kl_value *at(const struct kl_value *v, const char *name)
{
    return kl_map_value(v, kl_str(name));
}

static struct kl_value parse(struct kl_arena *a, struct kl_str text)
{
    struct kl_value v;
    struct kl_error err = {0};
    if (kl_json_parse(a, text, NULL, &v, &err))
        fail_msg("%s", err.msg);
    return v;
}

// Calls fn for each line of a file.
static void each_line(const char *path,
                      void (*fn)(struct tally *t, const struct kl_value *line, struct kl_arena *a,
                                 void *ctx),
                      void *ctx)
{
    struct tally t = {0, 0};
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    assert_non_null(f);
    while ((n = getline(&line, &cap, f)) > 0) {
        struct kl_arena a;
        kl_arena_init(&a, 0);
        struct kl_value v = parse(&a, (struct kl_str){line, (size_t)n});
        t.lines++;
        fn(&t, &v, &a, ctx);
        kl_arena_fini(&a);
    }
    free(line);
    fclose(f);
    print_message("%s: %d lines, %d differences\n", path, t.lines, t.bad);
    assert_true(t.lines > 0);
    assert_int_equal(t.bad, 0);
}

static int by_text(const void *x, const void *y)
{
    return kl_str_cmp(*(const struct kl_str *)x, *(const struct kl_str *)y);
}

// Findings or upstream's list, one line each, sorted.
static struct kl_str joined(struct kl_arena *a, struct kl_str *list, size_t n)
{
    struct kl_buf b;
    kl_buf_init(&b, 16 << 20);
    if (n)
        qsort(list, n, sizeof *list, by_text);
    for (size_t i = 0; i < n; i++)
        kl_buf_printf(&b, "\n    %.*s", KL_PRI(list[i]));
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

static void compare_findings(struct tally *t, struct kl_arena *a, const struct kl_findings *f,
                             const struct kl_value *errors)
{
    struct kl_str *ours = kl_arena_alloc(a, (f->n + 1) * sizeof *ours);
    struct kl_str *theirs = kl_arena_alloc(a, (kl_len(errors) + 1) * sizeof *theirs);
    for (size_t i = 0; i < f->n; i++) {
        struct kl_str m = f->list[i].message;
        const char *dump = m.n ? memmem(m.p, m.n, "only [Description", 17) : NULL;
        for (size_t k = 0; !dump && k + 8 < m.n; k++)
            if (!memcmp(m.p + k, "}]: must", 8))
                dump = m.p + k;
        if (dump) // upstream shows Go's internal struct before it
            m = (struct kl_str){dump, (size_t)(m.p + m.n - dump)};
        ours[i] = kl_arena_printf(a, "%s | %.*s | %.*s", f->list[i].reason,
                                  KL_PRI(f->list[i].field), KL_PRI(m));
    }
    for (size_t i = 0; i < kl_len(errors); i++) {
        const struct kl_value *e = &errors->items[i];
        theirs[i] = kl_arena_printf(a, "%.*s | %.*s | %.*s", KL_PRI(kl_text(kl_at(e, 0))),
                                    KL_PRI(kl_text(kl_at(e, 1))), KL_PRI(kl_text(kl_at(e, 2))));
    }
    struct kl_str x = joined(a, ours, f->n), y = joined(a, theirs, kl_len(errors));
    if (!kl_str_eq(x, y))
        differs(t, "errors", y, x);
}

// ---- objects
struct group {
    struct kl_crd_schema *schema;
};

static void open_schema(struct group *g, struct kl_arena *a, const struct kl_value *schema)
{
    struct kl_value typed;
    struct kl_error err = {0};
    const struct kl_type *type = kl_type(KL_TYPE_apiextensions_v1_JSONSchemaProps);
    if (kl_typed_from_untyped(a, type, schema, NULL, &typed, &err))
        fail_msg("%s", err.msg);
    struct kl_crd_version from = {.group = KL_STR("example.com"),
                                  .version = KL_STR("v1"),
                                  .kind = KL_STR("Widget"),
                                  .list_kind = KL_STR("WidgetList"),
                                  .schema = &typed};
    kl_crd_schema_unref(g->schema);
    if (kl_crd_schema_new(&from, &g->schema, &err))
        fail_msg("%s", err.msg);
}

static struct kl_object *read_object(struct kl_arena *a, const struct kl_crd_schema *s,
                                     const struct kl_value *v, bool defaults,
                                     struct kl_strict *strict, struct kl_error *err)
{
    struct kl_value draft;
    const struct kl_type *type = kl_crd_schema_type(s);
    if (kl_json_decode(a, type, json(a, v), strict, &draft, err))
        return NULL;
    if (defaults)
        assert_int_equal(kl_default_object(a, type, &draft), 0);
    struct kl_object *o = kl_object_freeze(type, &draft);
    assert_non_null(o);
    return o;
}

static void compare_tree(struct tally *t, struct kl_arena *a, const struct kl_crd_schema *s,
                         const char *what, const struct kl_object *o, const struct kl_value *wanted)
{
    struct kl_value untyped;
    assert_int_equal(kl_crd_untyped(a, s, &o->root, &untyped), 0);
    if (!kl_value_equal(&untyped, wanted))
        differs(t, what, json(a, wanted), json(a, &untyped));
    // The encoder gives the same tree.
    struct kl_buf b;
    kl_buf_init(&b, 16 << 20);
    kl_json_encode(&b, o->type, &o->root,
                   KL_STR("\"apiVersion\":\"example.com/v1\",\"kind\":\"Widget\","));
    struct kl_value again = parse(a, kl_arena_dup(a, kl_buf_str(&b)));
    kl_buf_fini(&b);
    if (!kl_value_equal(&again, wanted))
        differs(t, "encoded", json(a, wanted), json(a, &again));
}

static void check_object(struct tally *t, const struct kl_value *line, struct kl_arena *a,
                         void *ctx)
{
    struct group *g = ctx;
    if (at(line, "schema"))
        open_schema(g, a, at(line, "schema"));
    const struct kl_crd_schema *s = g->schema;
    const struct kl_value *object = at(line, "object"), *old = at(line, "old");
    const struct kl_value *pruned = at(line, "pruned"), *defaulted = at(line, "defaulted");
    struct kl_strict strict = {.n = 0};
    struct kl_error err = {0};
    struct kl_object *plain = read_object(a, s, object, false, &strict, &err);
    struct kl_str refused = kl_text(at(line, "refused"));
    if (!plain || refused.n) {
        if (!kl_str_eqz(refused, err.msg))
            differs(t, "refused", refused, kl_str(err.msg));
        kl_object_unref(plain);
        return;
    }
    pruned = pruned ? pruned : object;
    compare_tree(t, a, s, "pruned", plain, pruned);
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    for (size_t i = 0; i < kl_len(at(line, "unknown")); i++)
        kl_buf_printf(&b, "unknown field \"%.*s\"\n",
                      KL_PRI(kl_text(&at(line, "unknown")->items[i])));
    struct kl_str theirs = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_clear(&b);
    for (size_t i = 0; i < strict.n; i++)
        kl_buf_printf(&b, "%.*s\n", KL_PRI(strict.messages[i]));
    if (!kl_str_eq(theirs, kl_buf_str(&b)))
        differs(t, "unknown", theirs, kl_buf_str(&b));
    kl_buf_fini(&b);
    struct kl_object *now = read_object(a, s, object, true, NULL, &err);
    struct kl_object *was = old ? read_object(a, s, old, true, NULL, &err) : NULL;
    compare_tree(t, a, s, "defaulted", now, defaulted ? defaulted : pruned);
    struct kl_findings f = {.arena = a}, warnings = {.arena = a};
    bool scale = kl_is_true(at(line, "scale"));
    struct kl_crd_check check = {
        .now = &now->root,
        .old = was ? &was->root : NULL,
        .namespaced = true,
        .status = kl_is_true(at(line, "status")),
        .scale_spec_replicas = scale ? KL_STR(".spec.replicas") : KL_STR(""),
        .scale_status_replicas = scale ? KL_STR(".status.replicas") : KL_STR(""),
        .scale_label_selector = scale ? KL_STR(".status.selector") : KL_STR(""),
        .warnings = &warnings};
    assert_int_equal(kl_crd_validate(&f, s, &check), 0);
    compare_findings(t, a, &f, at(line, "errors"));
    const struct kl_value *told = at(line, "warnings");
    struct kl_str x[64], y[64];
    size_t n = kl_len(told) < 64 ? kl_len(told) : 64, m = warnings.n < 64 ? warnings.n : 64;
    for (size_t i = 0; i < n; i++)
        x[i] = kl_text(&told->items[i]);
    for (size_t i = 0; i < m; i++)
        y[i] = kl_arena_printf(a, "%.*s: %.*s", KL_PRI(warnings.list[i].field),
                               KL_PRI(warnings.list[i].message));
    struct kl_str tx = joined(a, x, n), ty = joined(a, y, m);
    if (!kl_str_eq(tx, ty))
        differs(t, "warnings", tx, ty);
    kl_object_unref(plain);
    kl_object_unref(now);
    kl_object_unref(was);
}

static void test_objects(void **state)
{
    struct group g = {NULL};
    (void)state;
    each_line(files[0], check_object, &g);
    kl_crd_schema_unref(g.schema);
}

// ---- definitions
static struct kl_object *read_definition(struct kl_arena *a, const struct kl_value *v)
{
    const struct kl_type *type = kl_type(KL_TYPE_apiextensions_v1_CustomResourceDefinition);
    struct kl_value draft;
    struct kl_error err = {0};
    if (!v)
        return NULL;
    if (kl_typed_from_untyped(a, type, v, NULL, &draft, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(kl_default_object(a, type, &draft), 0);
    struct kl_object *o = kl_object_freeze(type, &draft);
    assert_non_null(o);
    return o;
}

static void check_definition(struct tally *t, const struct kl_value *line, struct kl_arena *a,
                             void *ctx)
{
    struct kl_object *now = read_definition(a, at(line, "now"));
    struct kl_object *old = read_definition(a, at(line, "old"));
    struct kl_findings f = {.arena = a};
    (void)ctx;
    assert_int_equal(kl_crd_definition_validate(&f, &now->root, old ? &old->root : NULL), 0);
    compare_findings(t, a, &f, at(line, "errors"));
    struct kl_str *ours, theirs[64];
    size_t n, wanted = kl_len(at(line, "warnings"));
    assert_int_equal(kl_crd_definition_warnings(a, &now->root, old ? &old->root : NULL, &ours, &n),
                     0);
    assert_true(wanted < KL_COUNT(theirs));
    for (size_t i = 0; i < wanted; i++)
        theirs[i] = kl_text(&at(line, "warnings")->items[i]);
    struct kl_str x = joined(a, theirs, wanted), y = joined(a, ours, n);
    if (!kl_str_eq(x, y))
        differs(t, "warnings", x, y);
    kl_object_unref(now);
    kl_object_unref(old);
}

static void test_definitions(void **state)
{
    (void)state;
    each_line(files[1], check_definition, NULL);
}

// ---- paths
struct tree {
    struct kl_arena arena;
    struct kl_value v;
};

static void check_path(struct tally *t, const struct kl_value *line, struct kl_arena *a, void *ctx)
{
    struct tree *tree = ctx;
    const struct kl_value *given = at(line, "tree"), *results = at(line, "results");
    struct kl_jsonpath *p;
    struct kl_error err = {0};
    const struct kl_value *const *found = NULL;
    size_t n = 0;
    if (given) {
        tree->v = parse(&tree->arena, json(&tree->arena, given));
        return;
    }
    struct kl_str path = kl_text(at(line, "path")), bad = kl_text(at(line, "bad"));
    struct kl_str whole = kl_arena_printf(a, "{%.*s}", KL_PRI(path));
    int r = kl_jsonpath_parse(a, whole, &p, &err);
    if (r || bad.n) {
        if (!r || !kl_str_eqz(bad, err.msg))
            differs(t, whole.p, bad, kl_str(err.msg));
        return;
    }
    r = kl_jsonpath_find(p, a, &tree->v, &found, &n, &err);
    if ((r != 0) != kl_is_true(at(line, "failed")) || (!r && n != kl_len(results))) {
        differs(t, whole.p, json(a, line), kl_str(r ? err.msg : "found"));
        return;
    }
    struct kl_str *texts = kl_arena_alloc(a, (n + 1) * sizeof *texts);
    for (size_t i = 0; !r && i < n; i++)
        assert_int_equal(kl_jsonpath_text(a, found[i], &texts[i]), 0);
    if (!r && (strstr(whole.p, "..") || strstr(whole.p, ".*")))
        qsort(texts, n, sizeof *texts, by_text);
    for (size_t i = 0; !r && i < n; i++)
        if (!kl_str_eq(texts[i], kl_text(&results->items[i])))
            differs(t, whole.p, kl_text(&results->items[i]), texts[i]);
}

static void test_paths(void **state)
{
    struct tree tree;
    (void)state;
    kl_arena_init(&tree.arena, 0);
    each_line(files[2], check_path, &tree);
    kl_arena_fini(&tree.arena);
}

static void test_cells(void **state)
{
    static const struct {
        const char *path, *type, *wanted;
    } cells[] = {
        {"{.i}", "integer", "3"},       {"{.i}", "string", "\"3\""},
        {"{.i}", "number", "3"},        {"{.f}", "integer", "2"},
        {"{.f}", "number", "2.5"},      {"{.b}", "boolean", "true"},
        {"{.s}", "boolean", "null"},    {"{.s}", "string", "\"x\""},
        {"{.t}", "date", "\"5d\""},     {"{.s}", "date", "\"\\u003cinvalid\\u003e\""},
        {"{.none}", "integer", "null"}, {"{.l}", "string", "\"[1,2]\""},
        {"{.l[9]}", "string", "null"},  {"{.n}", "string", "\"\\u003cno value\\u003e\""},
        {"{.l[1]}", "integer", "2"},
    };
    struct kl_arena a;
    (void)state;
    kl_arena_init(&a, 0);
    struct kl_value tree = parse(&a, KL_STR("{\"i\":3,\"f\":2.5,\"b\":true,\"s\":\"x\",\"l\":[1,2],"
                                            "\"n\":null,\"t\":\"2020-01-01T00:00:00Z\"}"));
    for (size_t i = 0; i < KL_COUNT(cells); i++) {
        struct kl_jsonpath *p;
        struct kl_value v;
        assert_int_equal(kl_jsonpath_parse(&a, kl_str(cells[i].path), &p, NULL), 0);
        assert_int_equal(kl_jsonpath_cell(p, kl_str(cells[i].type), &a, &tree,
                                          INT64_C(1578268800) * 1000000, &v),
                         0);
        assert_string_equal(json(&a, &v).p, cells[i].wanted);
    }
    kl_arena_fini(&a);
}

// ---- managedFields and server-side apply
static struct kl_object *canonical_entries(struct kl_arena *a, const struct kl_value *entries)
{
    struct kl_value meta = kl_new_struct();
    if (entries)
        assert_int_equal(kl_set(a, &meta, KL_F_managedFields, *entries), 0);
    return kl_object_freeze(kl_type(KL_TYPE_meta_v1_ObjectMeta), &meta);
}

static void compare_entries(struct tally *t, struct kl_arena *a, const struct kl_value *ours,
                            const struct kl_value *theirs)
{
    const struct kl_type *type = kl_type(KL_TYPE_meta_v1_ObjectMeta);
    struct kl_value map = kl_new_map(), typed, x, y;
    if (theirs)
        assert_int_equal(kl_map_set_value(a, &map, KL_STR("managedFields"), *theirs), 0);
    assert_int_equal(kl_typed_from_untyped(a, type, &map, NULL, &typed, NULL), 0);
    struct kl_object *mine = canonical_entries(a, ours), *wanted = kl_object_freeze(type, &typed);
    if (!kl_managed_same_but_times(kl_get(&mine->root, KL_F_managedFields),
                                   kl_get(&wanted->root, KL_F_managedFields))) {
        assert_int_equal(kl_untyped_from_typed(a, type, &mine->root, &x), 0);
        assert_int_equal(kl_untyped_from_typed(a, type, &wanted->root, &y), 0);
        differs(t, "managedFields", json(a, &y), json(a, &x));
    }
    kl_object_unref(mine);
    kl_object_unref(wanted);
}

static void apply_one(struct tally *t, const struct kl_value *line, struct kl_arena *a,
                      const struct kl_crd_schema *s, const struct kl_managed_env *env,
                      const struct kl_object *live)
{
    struct kl_apply_result r;
    struct kl_error err = {0};
    struct kl_str wanted = kl_arena_dup(a, kl_text(at(line, "error")));
    const struct kl_type *type = kl_crd_schema_type(s);
    int rc = kl_managed_apply(env, live ? &live->root : NULL, at(line, "new"),
                              kl_is_true(at(line, "force")), &r, &err);
    if (rc || wanted.n) {
        struct kl_str is = rc == KL_ECONFLICT ? r.message : kl_str(rc ? err.msg : "");
        // Of several findings upstream gives what it comes to first, in no order.
        const char *first = strstr(wanted.p, "): .");
        bool one_of =
            first && rc == KL_EINVALID && strstr(err.msg, "): errors:") &&
            strstr(err.msg, kl_arena_dup(a, kl_str_from(wanted, (size_t)(first - wanted.p) + 3)).p);
        if (!kl_str_eq(is, wanted) && !one_of)
            differs(t, "apply", wanted, is);
        return;
    }
    compare_entries(t, a, &r.entries, at(line, "managed"));
    if (!r.changed) { // upstream gives the live object
        const struct kl_value *was = at(line, "live"), *is = at(line, "object");
        if (!kl_value_equal(at(was, "spec"), at(is, "spec")) ||
            !kl_value_equal(at(at(was, "metadata"), "labels"), at(at(is, "metadata"), "labels")))
            differs(t, "changed", json(a, is), json(a, was));
        return;
    }
    struct kl_value draft;
    assert_int_equal(kl_typed_from_untyped(a, type, &r.object, NULL, &draft, &err), 0);
    assert_int_equal(kl_default_object(a, type, &draft), 0);
    struct kl_object *o = kl_object_freeze(type, &draft);
    compare_tree(t, a, s, "applied", o, at(line, "object"));
    kl_object_unref(o);
}

static void check_write(struct tally *t, const struct kl_value *line, struct kl_arena *a, void *ctx)
{
    struct group *g = ctx;
    struct kl_error err = {0};
    if (at(line, "schema"))
        open_schema(g, a, at(line, "schema"));
    const struct kl_crd_schema *s = g->schema;
    const struct kl_value *live = at(line, "live");
    struct kl_resource res = {.group = "example.com",
                              .version = "v1",
                              .plural = "widgets",
                              .kind = "Widget",
                              .api_version = "example.com/v1",
                              .type = kl_crd_schema_type(s)};
    struct kl_managed_env env = {
        .arena = a,
        .res = &res,
        .manager = kl_text(at(line, "manager")),
        .now_us = INT64_C(1767225600) * 1000000, // as all entries have it
    };
    struct kl_object *was = live ? read_object(a, s, live, false, NULL, &err) : NULL;
    if (kl_str_eqz(kl_text(at(line, "op")), "apply")) {
        apply_one(t, line, a, s, &env, was);
    } else {
        struct kl_object *now = read_object(a, s, at(line, "new"), true, NULL, &err);
        const struct kl_value *sent =
            kl_path(was ? &was->root : NULL, KL_F_metadata, KL_F_managedFields);
        struct kl_value entries;
        int rc = kl_managed_update(&env, was ? &was->root : NULL, &now->root, sent, &entries, &err);
        struct kl_str wanted = kl_text(at(line, "error"));
        if (rc || wanted.n) {
            if (!rc != !wanted.n)
                differs(t, "update", wanted, kl_str(err.msg));
        } else {
            compare_entries(t, a, &entries, at(line, "managed"));
        }
        kl_object_unref(now);
    }
    kl_object_unref(was);
}

static void test_writes(void **state)
{
    struct group g = {NULL};
    (void)state;
    each_line(files[3], check_write, &g);
    kl_crd_schema_unref(g.schema);
}

// ---- one schema, many threads
static const char shared_schema[] =
    "{\"type\":\"object\",\"properties\":{\"spec\":{\"type\":\"object\","
    "\"x-kubernetes-validations\":[{\"rule\":\"self.n > 3\"}],\"properties\":{"
    "\"n\":{\"type\":\"integer\",\"x-kubernetes-validations\":[{\"rule\":\"self % 2 == 0\"}]},"
    "\"s\":{\"type\":\"string\",\"pattern\":\"^a+$\"}}}}}";

static void *validate_often(void *arg)
{
    struct kl_object *o = arg;
    intptr_t bad = 0;
    for (int i = 0; i < 40; i++) {
        struct kl_arena a;
        kl_arena_init(&a, 0);
        struct kl_findings f = {.arena = &a};
        struct kl_crd_check check = {.now = &o->root, .namespaced = true};
        struct kl_object *held = kl_object_ref(o);
        bad += kl_crd_validate(&f, kl_crd_of_type(o->type), &check) != 0 || f.n != 3;
        kl_object_unref(held);
        kl_arena_fini(&a);
    }
    return (void *)bad;
}

static void test_threads(void **state)
{
    struct group g = {NULL};
    struct kl_arena a;
    struct kl_error err = {0};
    pthread_t threads[4];
    (void)state;
    kl_arena_init(&a, 0);
    struct kl_value schema = parse(&a, kl_str(shared_schema));
    struct kl_value object = parse(&a, KL_STR("{\"metadata\":{\"name\":\"x\",\"namespace\":\"d\"},"
                                              "\"spec\":{\"n\":1,\"s\":\"b\"}}"));
    open_schema(&g, &a, &schema);
    struct kl_object *o = read_object(&a, g.schema, &object, true, NULL, &err);
    assert_non_null(o);
    kl_crd_schema_unref(g.schema); // the object holds it
    for (size_t i = 0; i < KL_COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, validate_often, o), 0);
    for (size_t i = 0; i < KL_COUNT(threads); i++) {
        void *bad;
        assert_int_equal(pthread_join(threads[i], &bad), 0);
        assert_null(bad);
    }
    kl_object_unref(o);
    kl_arena_fini(&a);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects), cmocka_unit_test(test_definitions),
        cmocka_unit_test(test_paths),   cmocka_unit_test(test_cells),
        cmocka_unit_test(test_writes),  cmocka_unit_test(test_threads),
    };
    if (argc < 5)
        return 2;
    for (int i = 0; i < 4; i++)
        files[i] = argv[i + 1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
