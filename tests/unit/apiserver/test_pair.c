// SPDX-License-Identifier: Apache-2.0
// Replays what Go says of certificates and keys (pair_vectors.txt, made by pair_vectors/main.go).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "apiserver/auth/pair.h"
#include "object/json.h"

static const char *vectors;

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

static struct kl_str text_of(struct kl_arena *a, struct kl_str *line)
{
    struct kl_str part;
    struct kl_value v;
    struct kl_error err = {0};
    assert_true(kl_str_split(line, '\t', &part));
    assert_int_equal(kl_json_parse(a, part, NULL, &v, &err), 0);
    return kl_text(&v);
}

static void test_vectors(void **state)
{
    char *text = read_file(vectors);
    struct kl_str rest = kl_str(text), line;
    size_t all = 0, good = 0;
    (void)state;
    while (kl_str_split(&rest, '\n', &line) && line.n) {
        struct kl_arena a;
        kl_arena_init(&a, 0);
        struct kl_str cert = text_of(&a, &line), key = text_of(&a, &line),
                      want = text_of(&a, &line);
        const char *have = kl_tls_pair_bad(&a, cert, key);
        all++;
        // Go tells apart what is wrong with a certificate that cannot be read.
        if (kl_str_starts(want, KL_STR("x509: ")) && have && !strncmp(have, "x509: ", 6))
            good++;
        else if (kl_str_eqz(want, have ? have : ""))
            good++;
        else
            print_message("%zu: want %.*s\n   have %s\n", all, KL_PRI(want), have ? have : "");
        kl_arena_fini(&a);
    }
    free(text);
    assert_true(all > 40);
    assert_int_equal(good, all);
}

// Whatever is cut off, and whatever memory there is.
static void test_hostile(void **state)
{
    char *text = read_file(vectors);
    struct kl_str rest = kl_str(text), line;
    struct kl_arena a;
    (void)state;
    assert_true(kl_str_split(&rest, '\n', &line));
    kl_arena_init(&a, 0);
    struct kl_str cert = text_of(&a, &line), key = text_of(&a, &line);
    for (size_t n = 0; n + 1 < cert.n; n++) { // the last newline is nobody's
        struct kl_arena small;
        kl_arena_init(&small, 1 + n * 8);
        assert_non_null(kl_tls_pair_bad(&small, (struct kl_str){cert.p, n}, key));
        kl_arena_fini(&small);
    }
    kl_arena_fini(&a);
    free(text);
}

// Blocks whose headers would go on to the end of the text: each is read as far as its own end. Of a
// secret's size this took ten seconds.
static void test_headers_without_end(void **state)
{
    static const char block[] = "-----BEGIN :-----\n-----END :\n";
    enum { BLOCKS = 36000, EACH = sizeof block - 1 };
    struct kl_arena a;
    char *text = malloc(BLOCKS * EACH);
    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < BLOCKS; i++)
        memcpy(text + i * EACH, block, EACH);
    kl_arena_init(&a, 0);
    assert_string_equal(kl_tls_pair_bad(&a, (struct kl_str){text, BLOCKS * EACH}, KL_STR("")),
                        "tls: failed to find any PEM data in certificate input");
    kl_arena_fini(&a);
    free(text);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors),
                                       cmocka_unit_test(test_hostile),
                                       cmocka_unit_test(test_headers_without_end)};
    if (argc < 2)
        return 2;
    vectors = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
