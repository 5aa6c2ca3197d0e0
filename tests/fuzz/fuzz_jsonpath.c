// SPDX-License-Identifier: Apache-2.0
// JSONPath: a line with a template, then a JSON document. What is found lies within the document
// and the limits, the same twice; a cell of each type is a value of that type or nothing.
#include "fuzz.h"
#include "object/crd/jsonpath.h"
#include "object/json.h"

static const char *const types[] = {"integer", "number", "boolean", "string", "date", "odd"};

static void check_cells(struct kl_arena *a, const struct kl_jsonpath *p,
                        const struct kl_value *root)
{
    for (size_t i = 0; i < KL_COUNT(types); i++) {
        struct kl_value cell = {.kind = KL_NULL};
        struct kl_buf b;
        int rc = kl_jsonpath_cell(p, kl_str(types[i]), a, root, 1700000000000000, &cell);
        FUZZ_CHECK(!rc || rc == KL_ENOMEM, "%d", rc);
        if (rc)
            continue;
        FUZZ_CHECK(i != 0 || cell.kind == KL_INT || cell.kind == KL_NULL, "kind %d",
                   (int)cell.kind);
        FUZZ_CHECK(i != 2 || cell.kind == KL_BOOL || cell.kind == KL_NULL, "kind %d",
                   (int)cell.kind);
        kl_buf_init(&b, 64 << 20);
        kl_json_write(&b, &cell);
        FUZZ_CHECK(b.err || kl_json_compact(NULL, kl_buf_str(&b)), "%.*s", KL_PRI(kl_buf_str(&b)));
        kl_buf_fini(&b);
    }
}

static void check_template(struct kl_arena *a, struct kl_str text, const struct kl_value *root)
{
    struct kl_jsonpath *p;
    const struct kl_value *const *found, *const *again;
    size_t n = 0, m = 0;
    struct kl_error err = {0};
    int rc = kl_jsonpath_parse(a, text, &p, &err);
    if (rc) {
        FUZZ_CHECK(err.msg[0], "%d without words", rc);
        return;
    }
    rc = kl_jsonpath_find(p, a, root, &found, &n, &err);
    if (!rc) {
        FUZZ_CHECK(n <= KL_JSONPATH_RESULTS_MAX, "%zu results", n);
        FUZZ_CHECK(!kl_jsonpath_find(p, a, root, &again, &m, &err) && n == m, "%zu, then %zu", n,
                   m);
        for (size_t i = 0; i < n; i++) {
            struct kl_str shown;
            FUZZ_CHECK(kl_value_equal(found[i], again[i]), "result %zu", i); // text is made anew
            kl_jsonpath_text(a, found[i], &shown);
        }
    }
    check_cells(a, p, root);
}

static void check_simple(struct kl_arena *a, struct kl_str text, const struct kl_value *root)
{
    struct kl_str *path;
    size_t n;
    struct kl_error err = {0};
    if (kl_simple_path(a, text, &path, &n, &err))
        FUZZ_CHECK(err.msg[0], "no words");
    else
        kl_simple_path_get(root, path, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_str rest = {(const char *)data, size}, text = KL_STR("");
    struct kl_arena a;
    struct kl_value root = {.kind = KL_NULL};
    if (size > 20000)
        return 0;
    kl_arena_init(&a, 64 << 20);
    kl_str_split(&rest, '\n', &text);
    if (rest.p && kl_json_parse(&a, rest, NULL, &root, NULL))
        root = (struct kl_value){.kind = KL_NULL};
    check_template(&a, text, &root);
    check_simple(&a, text, &root);
    kl_arena_fini(&a);
    return 0;
}
