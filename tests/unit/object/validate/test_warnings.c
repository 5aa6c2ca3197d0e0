// SPDX-License-Identifier: Apache-2.0
// Replays what upstream's strategies warned of (warnings.txt, made by gen/warnings.go): the same
// texts in the same order, and no memory for objects that nothing is said of.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "object/json.h"
#include "object/validate/warn.h"

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

static const struct kl_resource *find(struct kl_str version, struct kl_str kind)
{
    struct kl_str group = KL_STR("");
    if (kl_str_chr(version, '/') >= 0)
        kl_str_split(&version, '/', &group);
    for (uint16_t i = 0; i < kl_nresources; i++)
        if (kl_str_eqz(kind, kl_resources[i].kind) && kl_str_eqz(group, kl_resources[i].group) &&
            kl_str_eqz(version, kl_resources[i].version))
            return &kl_resources[i];
    return NULL;
}

static struct kl_object *object_of(const struct kl_resource *res, struct kl_str json)
{
    struct kl_arena a;
    struct kl_value v;
    struct kl_error err = {0};
    kl_arena_init(&a, 0);
    if (kl_json_decode(&a, res->type, json, NULL, &v, &err))
        fail_msg("%s: %s", res->kind, err.msg);
    struct kl_object *o = kl_object_freeze(res->type, &v);
    assert_non_null(o);
    kl_arena_fini(&a);
    return o;
}

static bool matches(struct kl_str want, struct kl_str have)
{
    size_t k = 0;
    for (size_t i = 0; i < want.n; i++, k++) {
        char ch = want.p[i];
        if (ch == '\\' && i + 1 < want.n && want.p[i + 1] == 'n' && k < have.n &&
            have.p[k] == '\n') {
            ch = '\n';
            i++;
        }
        if (k >= have.n || have.p[k] != ch)
            return false;
    }
    return k == have.n;
}

static bool compare(const struct kl_warnings *w, struct kl_str *rest)
{
    struct kl_str line, at;
    size_t n = 0;
    bool good = true;
    for (at = *rest; kl_str_split(&at, '\n', &line) && kl_str_starts(line, KL_STR("W ")); n++) {
        *rest = at;
        if (n < w->n && matches(kl_str_from(line, 2), w->list[n]))
            continue;
        good = false;
        print_message("  want %.*s\n", KL_PRI(kl_str_from(line, 2)));
        print_message("  have %.*s\n", KL_PRI(n < w->n ? w->list[n] : KL_STR("nothing")));
    }
    for (size_t i = n; i < w->n; i++)
        print_message("  have %.*s\n", KL_PRI(w->list[i]));
    return good && n == w->n;
}

// The one sample with a certificate has none: the rest is the API server's (tests/unit/apiserver).
static const char *no_certificate(struct kl_arena *a, struct kl_str cert, struct kl_str key)
{
    (void)a;
    (void)key;
    assert_false(kl_str_starts(cert, KL_STR("-----BEGIN")));
    return "tls: failed to find any PEM data in certificate input";
}

static int64_t generation(const struct kl_object *o)
{
    return kl_int_at(&o->root, 0, KL_F_metadata, KL_F_generation);
}

static void run_line(struct kl_str line, struct kl_str *rest, size_t *all, size_t *good)
{
    struct kl_str op, version, kind, was;
    struct kl_arena a;
    struct kl_gate_set gates;
    kl_gate_set_default(&gates);
    kl_arena_init(&a, 0);
    struct kl_warnings w = {.arena = &a, .gates = &gates, .bad_pair = no_certificate};
    assert_true(kl_str_split(&line, ' ', &op) && kl_str_split(&line, ' ', &version) &&
                kl_str_split(&line, ' ', &kind));
    const struct kl_resource *res = find(version, kind);
    assert_non_null(res);
    struct kl_object *old = NULL, *now;
    if (op.p[0] != 'c') {
        assert_true(kl_str_split(&line, '\t', &was));
        old = object_of(res, was);
    }
    now = object_of(res, line);
    if (op.p[0] == 'c')
        kl_warn_create(&w, res, &now->root);
    else
        kl_warn_update(&w, res, op.p[0] == 's' ? KL_STR("status") : KL_STR(""), &now->root,
                       &old->root, generation(now) != generation(old));
    bool same = compare(&w, rest);
    if (!same)
        print_message("%.*s of %.*s\n", KL_PRI(op), KL_PRI(line));
    else
        assert_true(w.n || !a.used_bytes);
    ++*all;
    *good += same;
    kl_arena_fini(&a);
    kl_object_unref(old);
    kl_object_unref(now);
}

static void test_vectors(void **state)
{
    size_t all = 0, good = 0;
    char *text = read_file(vectors);
    struct kl_str rest = kl_str(text), line;
    (void)state;
    while (kl_str_split(&rest, '\n', &line))
        if (line.n)
            run_line(line, &rest, &all, &good);
    print_message("%zu of %zu\n", good, all);
    assert_true(all > 150);
    assert_int_equal(good, all);
    free(text);
}

// Texts beyond what an answer may carry are not made, however much there is to say.
static void test_bounds(void **state)
{
    static const char head[] =
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\"},"
        "\"spec\":{\"containers\":[{\"name\":\"c\",\"ports\":[";
    static const char port[] = "{\"containerPort\":1,\"protocol\":\"TCP\"},";
    enum { PORTS = 20000 };
    char *text = malloc(sizeof head + PORTS * sizeof port + 16);
    size_t n = sizeof head - 1;
    struct kl_arena a;
    (void)state;
    assert_non_null(text);
    memcpy(text, head, n);
    for (size_t i = 0; i < PORTS; i++, n += sizeof port - 1)
        memcpy(text + n, port, sizeof port - 1);
    memcpy(text + n - 1, "]}]}}", 6);
    kl_arena_init(&a, 0);
    struct kl_warnings w = {.arena = &a};
    const struct kl_resource *pods = kl_res(KL_RES_core_v1_pods);
    struct kl_object *o = object_of(pods, kl_str(text));
    kl_warn_create(&w, pods, &o->root);
    assert_int_equal(w.n, KL_WARNINGS_MAX);
    kl_object_unref(o);
    kl_arena_fini(&a);
    free(text);
}

static const char *odd_pair(struct kl_arena *a, struct kl_str cert, struct kl_str key)
{
    return kl_arena_printf(a, "%.*s and %.*s", KL_PRI(cert), KL_PRI(key)).p;
}

static void test_pair(void **state)
{
    struct kl_str text =
        KL_STR("{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"type\":\"kubernetes.io/"
               "tls\",\"data\":{\"tls.crt\":\"YQ==\",\"tls.key\":\"Yg==\"}}");
    const struct kl_resource *secrets = kl_res(KL_RES_core_v1_secrets);
    struct kl_arena a;
    (void)state;
    kl_arena_init(&a, 0);
    struct kl_warnings w = {.arena = &a, .bad_pair = odd_pair};
    struct kl_object *o = object_of(secrets, text);
    kl_warn_create(&w, secrets, &o->root);
    assert_int_equal(w.n, 1);
    assert_true(kl_str_eqz(w.list[0], "a and b"));
    kl_object_unref(o);
    kl_arena_fini(&a);
}

// Whatever memory there is: what is said is whole.
static void test_no_memory(void **state)
{
    struct kl_str text =
        KL_STR("{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"n\"},\"spec\":{"
               "\"externalID\":\"x\",\"configSource\":{},\"podCIDRs\":[\"10.01.0.0/16\"]}}");
    const struct kl_resource *nodes = kl_res(KL_RES_core_v1_nodes);
    struct kl_object *o = object_of(nodes, text);
    size_t most = 0;
    (void)state;
    for (size_t room = 1; room < 8192; room += 64) {
        struct kl_arena a;
        kl_arena_init(&a, room);
        struct kl_warnings w = {.arena = &a};
        kl_warn_create(&w, nodes, &o->root);
        for (size_t i = 0; i < w.n; i++)
            assert_true(w.list[i].n > 0);
        most = w.n > most ? w.n : most;
        kl_arena_fini(&a);
    }
    assert_true(most >= 2);
    kl_object_unref(o);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_pair),
        cmocka_unit_test(test_no_memory),
    };
    if (argc < 2)
        return 2;
    vectors = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
