// SPDX-License-Identifier: Apache-2.0
// The JSON decoder and encoder: cases that upstream's decoder answered (decode.tsv), limits, and
// the smaller functions.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "object/json.h"
#include "object/resource.h"

static const char *cases_path;
static const struct kl_type any = {.kind = KL_T_ANY};

static struct kl_str without_prefix(const char *message)
{
    // Upstream's serializer puts this before, its decoder (which made the cases) does not.
    struct kl_str s = kl_str(message),
                  prefix = KL_STR("couldn't get version/kind; json parse error: ");
    return kl_str_starts(s, prefix) ? kl_str_from(s, prefix.n) : s;
}

// `OK <JSON as stored and given back>[ | <strict finding>]...` or `ERR <message>`
static void decode_case(struct kl_buf *out, const struct kl_type *t, struct kl_str text)
{
    struct kl_arena a;
    struct kl_value v;
    struct kl_error err;
    struct kl_strict strict = {.n = 0};
    kl_arena_init(&a, 0);
    if (kl_json_decode(&a, t, text, &strict, &v, &err)) {
        kl_buf_printf(out, "ERR %.*s", KL_PRI(without_prefix(err.msg)));
        kl_arena_fini(&a);
        return;
    }
    struct kl_object *o = kl_object_freeze(t, &v);
    assert_non_null(o);
    kl_buf_puts(out, KL_STR("OK "));
    kl_json_encode(out, t, &o->root, KL_STR(""));
    for (size_t i = 0; i < strict.n; i++)
        kl_buf_printf(out, " | %.*s", KL_PRI(strict.messages[i]));
    kl_object_unref(o);
    kl_arena_fini(&a);
}

static void test_cases(void **state)
{
    FILE *f = fopen(cases_path, "rb");
    if (!f)
        fail_msg("cannot open %s", cases_path);
    char *line = NULL;
    size_t cap = 0, n = 0, bad = 0;
    for (ssize_t len; (len = getline(&line, &cap, f)) > 0; n++) {
        struct kl_str rest = {line, (size_t)len - 1}, name, text;
        kl_str_split(&rest, '\t', &name);
        kl_str_split(&rest, '\t', &text);
        const struct kl_type *t = kl_str_eqz(name, "any") ? &any : kl_type_by_name(name);
        assert_non_null(t);
        // A copy of its own, so that ASan sees reads beyond the text.
        char *copy = malloc(text.n ? text.n : 1);
        memcpy(copy, text.p, text.n);
        struct kl_buf got;
        kl_buf_init(&got, 1 << 20);
        decode_case(&got, t, (struct kl_str){copy, text.n});
        if (!kl_str_eq(kl_buf_str(&got), rest)) {
            bad++;
            printf("%.*s\n  got  %.*s\n  want %.*s\n", KL_PRI(text), KL_PRI(kl_buf_str(&got)),
                   KL_PRI(rest));
        }
        kl_buf_fini(&got);
        free(copy);
    }
    free(line);
    fclose(f);
    assert_int_equal(bad, 0);
    assert_true(n > 500);
}

static int parse(const char *text, size_t n, struct kl_error *err)
{
    struct kl_arena a;
    struct kl_value v;
    kl_arena_init(&a, 0);
    int r = kl_json_parse(&a, (struct kl_str){text, n}, NULL, &v, err);
    kl_arena_fini(&a);
    return r;
}

static char *nested(size_t depth, const char *open, const char *middle, const char *close,
                    size_t *ret_n)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 << 20);
    for (size_t i = 0; i < depth; i++)
        kl_buf_puts(&b, kl_str(open));
    kl_buf_puts(&b, kl_str(middle));
    for (size_t i = 0; i < depth; i++)
        kl_buf_puts(&b, kl_str(close));
    *ret_n = b.n;
    return b.p;
}

static void test_depth(void **state)
{
    size_t n;
    struct kl_error err;
    char *text = nested(10000, "[", "1", "]", &n);
    assert_int_equal(parse(text, n, &err), 0);
    assert_true(kl_json_compact(NULL, (struct kl_str){text, n}));
    free(text);
    text = nested(10001, "[", "1", "]", &n);
    assert_int_equal(parse(text, n, &err), KL_EBADREQUEST);
    assert_string_equal(err.msg, "invalid character '[' exceeded max depth");
    assert_false(kl_json_compact(NULL, (struct kl_str){text, n}));
    free(text);
    text = nested(300000, "{\"a\":", "1", "}", &n);
    assert_int_equal(parse(text, n, &err), KL_EBADREQUEST);
    assert_string_equal(err.msg, "invalid character '{' exceeded max depth");
    free(text);
    // Deep in a typed, recursive schema; frozen, written and compared as well.
    const struct kl_type *t = kl_type(KL_TYPE_apiextensions_v1_JSONSchemaProps);
    struct kl_arena a;
    struct kl_value v;
    kl_arena_init(&a, 0);
    text = nested(4999, "{\"properties\":{\"a\":", "{\"type\":\"string\"}", "}}", &n);
    assert_int_equal(kl_json_decode(&a, t, (struct kl_str){text, n}, NULL, &v, &err), 0);
    struct kl_object *o = kl_object_freeze(t, &v);
    struct kl_buf out;
    kl_buf_init(&out, 1 << 20);
    kl_json_encode(&out, t, &o->root, KL_STR(""));
    assert_int_equal(out.n, n);
    assert_memory_equal(out.p, text, n);
    assert_true(kl_value_equal(&v, &o->root));
    struct kl_value untyped, typed;
    assert_int_equal(kl_untyped_from_typed(&a, t, &o->root, &untyped), 0);
    assert_int_equal(kl_typed_from_untyped(&a, t, &untyped, NULL, &typed, &err), 0);
    assert_true(kl_value_equal(&typed, &o->root));
    kl_buf_fini(&out);
    kl_object_unref(o);
    kl_arena_fini(&a);
    free(text);
}

// Every beginning of a valid document is refused, or is a document itself; none reads too far.
static void test_truncation(void **state)
{
    static const char text[] =
        " {\"metadata\":{\"name\":\"a\\u00e9\xc3\xa9\",\"labels\":{\"a\":\"b\"},"
        "\"generation\":-12,\"creationTimestamp\":null},\"spec\":{"
        "\"hostNetwork\":true,\"containers\":[{\"name\":\"c\",\"resources\":"
        "{\"limits\":{\"cpu\":\"1\",\"memory\":1.5e3}},\"x\":[1,{\"y\":0.1}]}]}} ";
    size_t n = sizeof(text) - 1;
    for (size_t len = 0; len <= n; len++) {
        char *copy = malloc(len ? len : 1);
        memcpy(copy, text, len);
        struct kl_arena a;
        struct kl_value v;
        struct kl_error err = {0};
        kl_arena_init(&a, 0);
        int r = kl_json_decode(&a, kl_type(KL_TYPE_core_v1_Pod), (struct kl_str){copy, len}, NULL,
                               &v, &err);
        assert_int_equal(r, len >= n - 1 ? 0 : KL_EBADREQUEST);
        assert_int_equal(kl_json_compact(NULL, (struct kl_str){copy, len}), len >= n - 1);
        kl_arena_fini(&a);
        free(copy);
    }
}

static void test_bad_utf8(void **state)
{
    struct kl_arena a;
    struct kl_value v;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"\"a\xff"
         "b\"",
         "a\xef\xbf\xbd"
         "b"},
        {"\"\xc0\x80\"", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\"\xed\xa0\x80\"", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\"\xe2\x82\"", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\"\xf0\x9f\x98\x80\"", "\xf0\x9f\x98\x80"},
        {"\"\xf4\x90\x80\x80\"", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\"0123456789abcdef\\u0041\x80\"", "0123456789abcdefA\xef\xbf\xbd"},
    };
    kl_arena_init(&a, 0);
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        assert_int_equal(kl_json_parse(&a, kl_str(cases[i].in), NULL, &v, NULL), 0);
        assert_int_equal(v.n, strlen(cases[i].out));
        assert_memory_equal(v.s, cases[i].out, v.n);
    }
    kl_arena_fini(&a);
}

static struct kl_str written(struct kl_arena *a, const struct kl_value *v)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_json_write(&b, v);
    assert_int_equal(b.err, 0);
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

static void assert_written(struct kl_arena *a, struct kl_value v, const char *want)
{
    assert_string_equal(written(a, &v).p, want);
}

static void test_write(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    assert_written(&a, kl_null(), "null");
    assert_written(&a, kl_int(INT64_MIN), "-9223372036854775808");
    assert_written(&a, kl_float(0.1), "0.1");
    assert_written(&a, kl_float(100), "100");
    assert_written(&a, kl_float(-1e21), "-1e+21");
    assert_written(&a, kl_float(1.25e-9), "1.25e-9");
    assert_written(&a, kl_float(123456.789), "123456.789");
    assert_written(&a, kl_time(0), "\"1970-01-01T00:00:00Z\"");
    assert_written(&a, kl_stringz("<a> & \"b\" \\ \b\f\n\r\t\x01\x7f"),
                   "\"\\u003ca\\u003e \\u0026 \\\"b\\\" \\\\ \\b\\f\\n\\r\\t\\u0001\x7f\"");
    assert_written(&a,
                   kl_stringz("a\xe2\x80\xa8"
                              "b\xe2\x80\xa9\xe2\x80\xaa\xc3\xa9"),
                   "\"a\\u2028b\\u2029\xe2\x80\xaa\xc3\xa9\"");
    assert_written(&a, kl_stringz("x\xff"), "\"x\\ufffd\"");
    // Every length around the width of the vectors, the odd byte at each place.
    for (size_t n = 1; n < 70; n++)
        for (size_t at = 0; at <= n; at++) {
            char in[80], want[90];
            memset(in, 'a', n);
            in[n] = 0;
            char *w = want;
            *w++ = '"';
            if (at < n)
                in[at] = '\n';
            for (size_t i = 0; i < n; i++) {
                if (i == at)
                    *w++ = '\\';
                *w++ = i == at ? 'n' : 'a';
            }
            *w++ = '"';
            *w = 0;
            char *exact = malloc(n);
            memcpy(exact, in, n);
            assert_written(&a, kl_string((struct kl_str){exact, n}), want);
            free(exact);
        }
    struct kl_value bytes = {.kind = KL_BYTES, .n = 4, .s = "\xff\x00\x10z"};
    assert_written(&a, bytes, "\"/wAQeg==\"");
    assert_written(&a, kl_raw_json(KL_STR("{\"a<\":\"\xe2\x80\xa8\"}")),
                   "{\"a\\u003c\":\"\\u2028\"}");
    kl_arena_fini(&a);
}

// A buffer that is too small gives its error and nothing else.
static void test_full_buffer(void **state)
{
    struct kl_arena a;
    struct kl_value v;
    kl_arena_init(&a, 0);
    assert_int_equal(kl_json_parse(&a,
                                   KL_STR("{\"a\":[\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\",1.5]}"),
                                   NULL, &v, NULL),
                     0);
    for (size_t max = 1; max < 40; max++) {
        struct kl_buf b;
        kl_buf_init(&b, max);
        kl_json_write(&b, &v);
        assert_int_equal(b.err, KL_ELIMIT);
        kl_buf_fini(&b);
    }
    kl_arena_fini(&a);
}

// Memory that ends in the middle is an error, not a crash.
static void test_small_arena(void **state)
{
    static const char text[] =
        "{\"metadata\":{\"labels\":{\"a\\n\":\"b\\n\"}},\"spec\":{\"containers\":"
        "[{\"name\":\"a\"},{\"name\":\"b\"}]}}";
    size_t ok = 0, failed = 0;
    for (size_t max = 1; max < 20000; max += 7) {
        struct kl_arena a;
        struct kl_value v;
        struct kl_error err = {0};
        kl_arena_init(&a, max);
        int r = kl_json_decode(&a, kl_type(KL_TYPE_core_v1_Pod), kl_str(text), NULL, &v, &err);
        assert_true(r == 0 || r == KL_ENOMEM);
        ok += r == 0;
        failed += r != 0;
        kl_arena_fini(&a);
    }
    assert_true(ok > 0 && failed > 0);
}

static void test_peek(void **state)
{
    struct kl_str av, kind;
    assert_int_equal(
        kl_json_peek_gvk(
            KL_STR(" {\"metadata\":{\"kind\":\"x\"}, \"kind\" : \"Pod\",\"apiVersion\":\"v1\""),
            &av, &kind),
        0);
    assert_true(kl_str_eqz(av, "v1") && kl_str_eqz(kind, "Pod"));
    assert_int_equal(kl_json_peek_gvk(KL_STR("{\"kind\":null}"), &av, &kind), 0);
    assert_true(av.n == 0 && kind.n == 0);
    assert_int_equal(kl_json_peek_gvk(KL_STR("{\"kind\":1}"), &av, &kind), KL_EBADREQUEST);
    assert_int_equal(kl_json_peek_gvk(KL_STR("{\"kind\":"), &av, &kind), KL_EBADREQUEST);
    assert_int_equal(kl_json_peek_gvk(KL_STR("[]"), &av, &kind), KL_EBADREQUEST);
}

static void test_format(void **state)
{
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    kl_json_pretty(&b, KL_STR("{\"a\":[],\"b\":{ },\"c\":[1,\"x:{,\"],\"d\":null}"), 2);
    kl_buf_putc(&b, 0);
    assert_string_equal(b.p,
                        "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1,\n    \"x:{,\"\n  ],\n"
                        "  \"d\": null\n}");
    kl_buf_clear(&b);
    assert_true(kl_json_compact(&b, KL_STR(" { \"a b\" : [ 1 , \"\\\" \" ] } ")));
    kl_buf_putc(&b, 0);
    assert_string_equal(b.p, "{\"a b\":[1,\"\\\" \"]}");
    assert_false(kl_json_compact(NULL, KL_STR("{} x")));
    kl_buf_fini(&b);
}

// A schema made at run time, as for a custom resource: no perfect hash, names of its own, and more
// fields than the decoder's bit set holds.
static void test_dynamic_type(void **state)
{
    enum { FIELDS = 100 };
    static const struct kl_type string = {.kind = KL_T_STRING};
    static struct kl_field fields[FIELDS];
    static uint16_t order[FIELDS];
    struct kl_buf text, out;
    kl_buf_init(&text, 1 << 16);
    kl_buf_init(&out, 1 << 16);
    for (int i = 0; i < FIELDS; i++) {
        char name[80];
        snprintf(name, sizeof(name), "customFieldWithAQuiteLongNameThatIsNoSymbolYet%02d", i);
        fields[i] = (struct kl_field){
            .type = &string, .sym = kl_sym_intern(kl_str(name)), .flags = KL_FIELD_PTR};
        order[i] = (uint16_t)i;
        kl_buf_printf(&text, "%c\"%s\":\"%d\"", i ? ',' : '{', name, i);
    }
    struct kl_type t = {.kind = KL_T_STRUCT, .fields = fields, .by_name = order, .nfields = FIELDS};
    struct kl_str last = kl_sym_name(fields[FIELDS - 1].sym);
    kl_buf_printf(&text, ",\"%.*s\":\"x\",\"other\":1}", KL_PRI(last));
    struct kl_arena a;
    struct kl_value v;
    struct kl_error err;
    struct kl_strict strict = {.n = 0};
    kl_arena_init(&a, 0);
    assert_int_equal(kl_json_decode(&a, &t, kl_buf_str(&text), &strict, &v, &err), 0);
    assert_int_equal(v.n, FIELDS);
    assert_int_equal(strict.n, 2);
    assert_true(kl_str_starts(strict.messages[0], KL_STR("duplicate field \"customField")));
    assert_string_equal(strict.messages[1].p, "unknown field \"other\"");
    struct kl_object *o = kl_object_freeze(&t, &v);
    kl_json_encode(&out, &t, &o->root, KL_STR(""));
    assert_true(kl_json_compact(NULL, kl_buf_str(&out)));
    assert_true(kl_str_ends(kl_buf_str(&out), KL_STR("Yet99\":\"x\"}")));
    kl_object_unref(o);
    kl_buf_fini(&text);
    kl_buf_fini(&out);
    kl_arena_fini(&a);
}

// Texts made to cost much more than their length end soon, one way or the other.
static void test_hostile(void **state)
{
    static const struct {
        const char *open, *repeat, *close;
        int result;
    } cases[] = {
        {"{\"metadata\":{\"labels\":{", "\"k%zu\":\"\",", "\"k1\":\"\"}}}", 0},
        {"{\"metadata\":{\"labels\":{", "\"k\":\"\",", "\"k\":\"\"}}}", 0},
        {"{", "\"unknown\":[1,2],", "\"x\":1}", 0},
        {"{", "\"unknown%zu\":{},", "\"x\":1}", 0},
        {"{\"metadata\":{", "\"labels\":{\"k%zu\":\"\"},", "\"name\":\"x\"}}", KL_ELIMIT},
        {"{\"spec\":{", "\"nodeName\":\"a\",", "\"nodeName\":\"b\"}}", 0},
        {"{\"spec\":{\"containers\":[", "{},", "{}]}}", 0},
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_buf text;
        struct kl_arena a;
        struct kl_value v;
        struct kl_error err;
        struct kl_strict strict = {.n = 0};
        kl_buf_init(&text, 16 << 20);
        kl_buf_puts(&text, kl_str(cases[i].open));
        struct kl_str repeat = kl_str(cases[i].repeat);
        ptrdiff_t number = kl_str_chr(repeat, '%');
        for (size_t n = 0; text.n < (3 << 20); n++) {
            if (number < 0) {
                kl_buf_puts(&text, repeat);
                continue;
            }
            kl_buf_append(&text, repeat.p, (size_t)number);
            kl_buf_printf(&text, "%zu", n);
            kl_buf_puts(&text, kl_str_from(repeat, (size_t)number + 3));
        }
        kl_buf_puts(&text, kl_str(cases[i].close));
        kl_arena_init(&a, 256 << 20);
        int r =
            kl_json_decode(&a, kl_type(KL_TYPE_core_v1_Pod), kl_buf_str(&text), &strict, &v, &err);
        assert_int_equal(r, cases[i].result);
        kl_arena_fini(&a);
        kl_buf_fini(&text);
    }
}

// What upstream writes for an object that holds nothing.
static void test_empty_objects(void **state)
{
    static const struct {
        enum kl_type_index type;
        const char *want;
    } cases[] = {
        {KL_TYPE_core_v1_Pod, "{K,\"metadata\":{},\"spec\":{\"containers\":null},\"status\":{}}"},
        {KL_TYPE_apps_v1_Deployment,
         "{K,\"metadata\":{},\"spec\":{\"selector\":null,\"template\":{\"metadata\":{},\"spec\":"
         "{\"containers\":null}},\"strategy\":{}},\"status\":{}}"},
        {KL_TYPE_core_v1_ConfigMap, "{K,\"metadata\":{}}"},
        {KL_TYPE_rbac_v1_ClusterRole, "{K,\"metadata\":{},\"rules\":null}"},
        {KL_TYPE_meta_v1_DeleteOptions, "{K}"},
    };
    static const struct kl_value empty = {.kind = KL_STRUCT};
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_buf b;
        kl_buf_init(&b, 4096);
        kl_json_encode(&b, kl_type(cases[i].type), &empty, KL_STR("K,"));
        kl_buf_putc(&b, 0);
        assert_string_equal(b.p, cases[i].want);
        kl_buf_fini(&b);
    }
}

// A client may send as many as a request holds: the stack does not know of them.
static void test_very_many_escapes(void **state)
{
    enum { N = 400000 };
    struct kl_arena a;
    struct kl_value v;
    struct kl_error err = {0};
    char *text = malloc(3 * N + 2);
    assert_non_null(text);
    text[0] = '"';
    for (size_t i = 0; i < N; i++)
        memcpy(text + 1 + 3 * i, "\\nx", 3);
    text[3 * N + 1] = '"';
    kl_arena_init(&a, 0);
    if (kl_json_parse(&a, (struct kl_str){text, 3 * N + 2}, NULL, &v, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(kl_text(&v).n, 2 * N);
    assert_memory_equal(kl_text(&v).p + 2 * N - 2, "\nx", 2);
    kl_arena_fini(&a);
    free(text);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dynamic_type),  cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_cases),         cmocka_unit_test(test_depth),
        cmocka_unit_test(test_truncation),    cmocka_unit_test(test_bad_utf8),
        cmocka_unit_test(test_write),         cmocka_unit_test(test_full_buffer),
        cmocka_unit_test(test_small_arena),   cmocka_unit_test(test_peek),
        cmocka_unit_test(test_format),        cmocka_unit_test(test_very_many_escapes),
        cmocka_unit_test(test_empty_objects),
    };
    if (argc != 2)
        return 2;
    cases_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
