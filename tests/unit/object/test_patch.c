// SPDX-License-Identifier: Apache-2.0
// Replays recorded patches (tests/fixtures/patches: one case a line, made with upstream's own
// libraries from random documents) and compares results and error texts. Arguments: the files.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "object/patch.h"

static char **files;
static int nfiles;

static struct kl_str show(struct kl_buf *b, const struct kl_value *v)
{
    kl_buf_clear(b);
    kl_json_write(b, v);
    return kl_buf_str(b);
}

static int apply(struct kl_arena *a, const struct kl_value *row, struct kl_value *ret,
                 struct kl_error *err)
{
    struct kl_str kind = kl_text(kl_map_value(row, KL_STR("kind")));
    const struct kl_value *doc = kl_map_value(row, KL_STR("doc"));
    const struct kl_value *patch = kl_map_value(row, KL_STR("patch"));
    const struct kl_type *type = kl_type_by_name(kl_text(kl_map_value(row, KL_STR("type"))));
    if (kl_str_eq(kind, KL_STR("merge")))
        return kl_patch_merge(a, doc, patch, ret, err);
    if (kl_str_eq(kind, KL_STR("json")))
        return kl_patch_json(a, doc, patch, ret, err);
    assert_non_null(type);
    return kl_patch_strategic(a, type, doc, patch, ret, err);
}

// True when the case gives what upstream gave.
static bool replay(struct kl_str line)
{
    struct kl_arena a;
    struct kl_value row, before, got = kl_null();
    struct kl_error err = {0};
    struct kl_buf text;
    kl_arena_init(&a, 0);
    kl_buf_init(&text, 1 << 24);
    assert_int_equal(kl_json_parse(&a, line, NULL, &row, &err), 0);
    assert_int_equal(kl_copy(&a, &row, &before), 0);
    const struct kl_value *want = kl_map_value(&row, KL_STR("want"));
    const struct kl_value *error = kl_map_value(&row, KL_STR("error"));
    int r = apply(&a, &row, &got, &err);
    bool ok;
    if (error) {
        struct kl_str e = kl_text(error);
        size_t n = e.n < 1000 ? e.n : 1000; // err.msg is bounded
        ok = r != 0 && strlen(err.msg) >= n && memcmp(err.msg, e.p, n) == 0 &&
             (n == 1000 || err.msg[n] == 0);
    } else {
        ok = r == 0 && kl_value_equal(&got, want);
    }
    if (!ok) {
        print_error("%.*s\n", (int)(line.n < 3000 ? line.n : 3000), line.p);
        if (error)
            print_error("  upstream fails: %.*s\n", KL_PRI(kl_text(error)));
        else
            print_error("  upstream: %.*s\n", KL_PRI(show(&text, want)));
        if (r)
            print_error("  got error %d: %s\n", r, err.msg);
        else
            print_error("  got: %.*s\n", KL_PRI(show(&text, &got)));
    }
    if (!kl_value_equal(&row, &before)) {
        print_error("inputs changed: %.*s\n", KL_PRI(line));
        ok = false;
    }
    kl_buf_fini(&text);
    kl_arena_fini(&a);
    return ok;
}

static char *read_all(const char *path, size_t *ret_n)
{
    FILE *f = fopen(path, "rb");
    size_t cap = 1 << 20, n = 0, got;
    char *p = malloc(cap);
    if (!f)
        fail_msg("cannot open %s", path);
    while ((got = fread(p + n, 1, cap - n, f)) > 0) {
        n += got;
        if (n == cap)
            p = realloc(p, cap *= 2);
    }
    fclose(f);
    *ret_n = n;
    return p;
}

static void recorded_patches(void **state)
{
    (void)state;
    size_t total = 0, bad = 0;
    for (int i = 0; i < nfiles; i++) {
        size_t n;
        char *all = read_all(files[i], &n);
        struct kl_str rest = {all, n}, line;
        while (kl_str_split(&rest, '\n', &line)) {
            if (!line.n)
                continue;
            total++;
            bad += !replay(line);
        }
        free(all);
    }
    if (bad)
        fail_msg("%zu of %zu cases differ", bad, total);
    assert_true(total > 0);
}

// What the server checks before a patch is looked at.
static void malformed(void **state)
{
    (void)state;
    static const struct {
        char kind; // j, m, s
        const char *patch;
        int code;
        const char *error;
    } rows[] = {
        {'m', "null", KL_EBADREQUEST, "Invalid JSON Patch"},
        {'m', "[]", KL_EBADREQUEST,
         "error decoding patch: json: cannot unmarshal array into Go value of type "
         "map[string]interface {}"},
        {'j', "{}", KL_EBADREQUEST,
         "error decoding patch: json: cannot unmarshal object into Go value of type "
         "[]handlers.jsonPatchOp"},
        {'j', "[1]", KL_EBADREQUEST,
         "error decoding patch: json: cannot unmarshal number into Go value of type "
         "handlers.jsonPatchOp"},
        {'j', "[{\"op\":1}]", KL_EBADREQUEST,
         "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.op "
         "of type string"},
        {'j', "[null]", KL_EINVALID, "Unexpected kind: unknown"},
        {'j', "[{\"op\":\"replace\",\"path\":\"\",\"value\":1}]", KL_EINVALID,
         "replace operation value must be object or array: %!w(<nil>)"},
        {'j', "[{\"op\":\"replace\",\"path\":\"\",\"value\":{\"a\":1}}]", 0, NULL},
        {'j', "null", 0, NULL},
        {'s', "[]", KL_EBADREQUEST,
         "json: cannot unmarshal array into Go value of type map[string]interface {}"},
        {'s', "{\"$retainKeys\":1}", KL_EBADREQUEST, "invalid patch format of retainKeys"},
        {'s', "{\"$setElementOrder\":[]}", KL_EBADREQUEST,
         "invalid patch format of setElementOrder list"},
        {'s', "{\"metadata\":{\"$deleteFromPrimitiveList\":[]}}", 0, NULL},
        {'s', "{\"$deleteFromPrimitiveList\":[]}", KL_EBADREQUEST,
         "invalid patch format of primitive list"},
    };
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_arena a;
        struct kl_value doc = kl_new_map(), patch, got;
        struct kl_error err = {0};
        kl_arena_init(&a, 0);
        assert_int_equal(kl_json_parse(&a, kl_str(rows[i].patch), NULL, &patch, &err), 0);
        int r = rows[i].kind == 'm' ? kl_patch_merge(&a, &doc, &patch, &got, &err)
                : rows[i].kind == 'j'
                    ? kl_patch_json(&a, &doc, &patch, &got, &err)
                    : kl_patch_strategic(&a, kl_type_by_name(KL_STR("io.k8s.api.core.v1.Pod")),
                                         &doc, &patch, &got, &err);
        if (r != rows[i].code || (r && strcmp(err.msg, rows[i].error) != 0))
            fail_msg("%s: got %d %s, expected %d %s", rows[i].patch, r, err.msg, rows[i].code,
                     rows[i].error ? rows[i].error : "");
        kl_arena_fini(&a);
    }
}

static struct kl_value many_copies(struct kl_arena *a, size_t n)
{
    struct kl_value ops = kl_new_array(), op = kl_new_map();
    kl_map_set_value(a, &op, KL_STR("op"), kl_stringz("copy"));
    kl_map_set_value(a, &op, KL_STR("from"), kl_stringz("/a"));
    kl_map_set_value(a, &op, KL_STR("path"), kl_stringz("/a/b"));
    for (size_t i = 0; i < n; i++)
        assert_int_equal(kl_append(a, &ops, op), 0);
    return ops;
}

static void bounded(void **state)
{
    (void)state;
    struct kl_arena a;
    struct kl_value doc, got;
    struct kl_error err = {0};
    kl_arena_init(&a, 512 << 20);
    assert_int_equal(kl_json_parse(&a, KL_STR("{\"a\":{\"c\":[1,2,3]}}"), NULL, &doc, &err), 0);
    struct kl_value ops = many_copies(&a, 10001);
    assert_int_equal(kl_patch_json(&a, &doc, &ops, &got, &err), KL_ETOOLARGE);
    assert_string_equal(err.msg, "Request entity too large: The allowed maximum operations in a "
                                 "JSON patch is 10000, got 10001");
    // each copy puts the whole into itself: it must stop at the limit, not at the end of memory
    ops = many_copies(&a, 1000);
    assert_int_equal(kl_patch_json(&a, &doc, &ops, &got, &err), KL_EINVALID);
    assert_non_null(strstr(err.msg, "exceeding the limit 3145728"));
    kl_arena_fini(&a);
}

int main(int argc, char **argv)
{
    files = argv + 1;
    nfiles = argc - 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_patches),
        cmocka_unit_test(malformed),
        cmocka_unit_test(bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
