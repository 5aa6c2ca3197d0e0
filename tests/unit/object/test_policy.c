// SPDX-License-Identifier: Apache-2.0
// Pod Security Standards, quotas and what pods sum up to, against what upstream's own code said
// (policy_vectors.txt, made by policy_vectors/main.go, which says what its lines are).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "object/gotext_int.h"
#include "object/json.h"
#include "object/podsecurity/podsecurity.h"
#include "object/quota/limits.h"
#include "object/quota/quota.h"
#include "object/resource.h"

enum { MESSAGES_MAX = 2048, QUOTAS_MAX = 8 };

static const char *path;
static struct kl_str messages[MESSAGES_MAX];
static size_t nmessages;
static char *text;

static int load(void **state)
{
    FILE *f = fopen(path, "rb");
    (void)state;
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    text = malloc((size_t)n + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)n, f), (size_t)n);
    text[n] = 0;
    fclose(f);
    return 0;
}

static int unload(void **state)
{
    (void)state;
    free(text);
    return 0;
}

static struct kl_value parse(struct kl_arena *a, const struct kl_type *type, struct kl_str json)
{
    struct kl_value raw, typed;
    struct kl_error err = {0};
    assert_int_equal(kl_json_parse(a, json, NULL, &raw, &err), 0);
    assert_int_equal(kl_typed_from_untyped(a, type, &raw, NULL, &typed, &err), 0);
    return typed;
}

static void same(struct kl_str want, struct kl_str have, const char *what, struct kl_str of)
{
    if (kl_str_eq(want, have))
        return;
    print_message("%s of %.*s\n want %.*s\n have %.*s\n", what, KL_PRI(of), KL_PRI(want),
                  KL_PRI(have));
    fail();
}

static int64_t number(struct kl_str *line)
{
    struct kl_str word;
    int64_t n = -1;
    assert_true(kl_str_split(line, ' ', &word));
    assert_true(kl_str_to_i64(word, &n));
    return n;
}

// ---- Pod Security

static void check_versions(struct kl_arena *a, const struct kl_value *pod, struct kl_str line)
{
    struct kl_str all = line, reasons = KL_STR(""), details = KL_STR("");
    enum kl_ps_level level = (enum kl_ps_level)number(&line);
    int64_t from = number(&line), to = number(&line);
    while (line.p && line.n) {
        struct kl_str detail = messages[number(&line)], reason;
        kl_str_split(&detail, '\t', &reason);
        const char *sep = reasons.n ? ", " : "";
        reasons = kl_arena_printf(a, "%.*s%s%.*s", KL_PRI(reasons), sep, KL_PRI(reason));
        details = kl_arena_printf(a, "%.*s%s%.*s%s%.*s%s", KL_PRI(details), sep, KL_PRI(reason),
                                  detail.n ? " (" : "", KL_PRI(detail), detail.n ? ")" : "");
    }
    for (int64_t v = from; v <= to; v++) {
        struct kl_ps_policy p = {level, v == 36 ? KL_PS_LATEST : (uint32_t)v};
        struct kl_ps_verdict have;
        assert_int_equal(
            kl_ps_check(a, p, kl_get(pod, KL_F_metadata), kl_get(pod, KL_F_spec), &have), 0);
        same(reasons, have.reasons, "reasons", all);
        same(details, have.details, "details", all);
        assert_int_equal(have.allowed, reasons.n == 0);
    }
}

static void test_pod_security(void **state)
{
    struct kl_arena a, pods;
    struct kl_str rest = kl_str(text), line;
    struct kl_value pod = {0};
    size_t n = 0;
    (void)state;
    kl_arena_init(&a, 0);
    kl_arena_init(&pods, 0);
    while (kl_str_split(&rest, '\n', &line)) {
        kl_arena_reset(&a);
        if (kl_str_starts(line, KL_STR("P "))) {
            kl_arena_reset(&pods);
            pod = parse(&pods, kl_type(KL_TYPE_core_v1_Pod), kl_str_from(line, 2));
        } else if (kl_str_starts(line, KL_STR("M "))) {
            assert_true(nmessages < MESSAGES_MAX);
            messages[nmessages++] = kl_str_from(line, 2);
        } else if (kl_str_starts(line, KL_STR("V "))) {
            check_versions(&a, &pod, kl_str_from(line, 2));
            n++;
        }
    }
    assert_true(n > 500);
    kl_arena_fini(&pods);
    kl_arena_fini(&a);
}

static void test_labels(void **state)
{
    struct kl_arena a;
    struct kl_str rest = kl_str(text), line, json, part;
    size_t n = 0;
    (void)state;
    kl_arena_init(&a, 0);
    while (kl_str_split(&rest, '\n', &line)) {
        struct kl_value labels;
        struct kl_error err = {0};
        struct kl_ps_policies p;
        struct kl_ps_bad_label bad[KL_PS_LABELS];
        char e[KL_PS_TEXT], u[KL_PS_TEXT], w[KL_PS_TEXT];
        if (!kl_str_starts(line, KL_STR("L ")))
            continue;
        struct kl_str all = line;
        line = kl_str_from(line, 2);
        kl_arena_reset(&a);
        kl_str_split(&line, '\t', &json);
        assert_int_equal(kl_json_parse(&a, json, NULL, &labels, &err), 0);
        size_t nbad = kl_ps_policies_of(&labels, NULL, &p, bad);
        struct kl_str have = kl_arena_printf(&a, "%s %s %s", kl_ps_text(p.enforce, e),
                                             kl_ps_text(p.audit, u), kl_ps_text(p.warn, w));
        kl_str_split(&line, '\t', &part);
        same(part, have, "policies", all);
        for (size_t i = 0; i < nbad; i++) {
            struct kl_buf b;
            kl_buf_init(&b, 4096);
            kl_buf_printf(&b, "metadata.labels[%.*s] ", KL_PRI(bad[i].key));
            kl_go_quote(&b, bad[i].value);
            kl_buf_printf(&b, ": %s", bad[i].why);
            assert_true(kl_str_split(&line, '\t', &part));
            same(part, kl_buf_str(&b), "bad label", all);
            kl_buf_fini(&b);
        }
        assert_null(line.p);
        n++;
    }
    assert_true(n > 100);
    kl_arena_fini(&a);
}

// ---- quotas

struct asked {
    struct kl_quota_meter meter;
    const struct kl_type *type;
};

// "GROUP PLURAL", "-" for the core group.
static struct asked resource_of(struct kl_arena *a, struct kl_str words)
{
    struct kl_str group, plural;
    struct asked x;
    kl_str_split(&words, ' ', &group);
    kl_str_split(&words, ' ', &plural);
    if (kl_str_eqz(group, "-"))
        group = KL_STR("");
    assert_true(kl_quota_meter_of(a, group, plural, &x.meter));
    const struct kl_resource *res = kl_resource_find(group, KL_STR("v1"), plural);
    assert_non_null(res);
    x.type = res->type;
    return x;
}

static void test_usage(void **state)
{
    struct kl_arena a;
    struct kl_str rest = kl_str(text), line, json;
    size_t n = 0;
    (void)state;
    kl_arena_init(&a, 0);
    while (kl_str_split(&rest, '\n', &line)) {
        struct kl_amounts used;
        if (!kl_str_starts(line, KL_STR("U ")))
            continue;
        struct kl_str all = line;
        line = kl_str_from(line, 2);
        kl_arena_reset(&a);
        kl_str_split(&line, '\t', &json);
        struct asked x = resource_of(&a, json);
        kl_str_split(&line, '\t', &json);
        struct kl_value o = parse(&a, x.type, json);
        kl_quota_usage(&used, &a, &x.meter, &o, 1600000000LL * 1000000);
        same(line, kl_amounts_text(&used), "usage", all);
        n++;
    }
    assert_true(n > 100);
    kl_arena_fini(&a);
}

static void check_write(struct kl_arena *a, const struct kl_value *quotas, struct kl_str line)
{
    struct kl_str all = line, json, part;
    struct kl_quota_charge charges[QUOTAS_MAX] = {0};
    kl_str_split(&line, '\t', &part);
    struct asked x = resource_of(a, part);
    struct kl_quota_write w = {
        .meter = x.meter, .quotas = charges, .now_us = 1600000000LL * 1000000};
    w.status = kl_str_ends(part, KL_STR(" 1"));
    kl_str_split(&line, '\t', &json);
    struct kl_value object = parse(a, x.type, json), old;
    kl_str_split(&line, '\t', &json);
    w.object = &object;
    if (!kl_str_eqz(json, "null")) {
        old = parse(a, x.type, json);
        w.old = &old;
    }
    for (KL_EACH(q, quotas))
        charges[w.nquotas++].quota = q;
    int rc = kl_quota_check(a, &w);
    kl_str_split(&line, '\t', &part);
    if (part.n) {
        assert_int_equal(rc, KL_QUOTA_EXCEEDS);
        const char *why = memmem(part.p, part.n, "is forbidden: ", 14);
        assert_non_null(why);
        why += 14;
        same((struct kl_str){why, (size_t)(part.p + part.n - why)}, w.why, "refusal", all);
        return;
    }
    if (rc)
        print_message("refused %.*s\n because %.*s\n", KL_PRI(all), KL_PRI(w.why));
    assert_int_equal(rc, KL_QUOTA_FITS);
    for (size_t i = 0; i < w.nquotas; i++) {
        struct kl_amounts used;
        kl_amounts_read(&used, a, kl_path(charges[i].quota, KL_F_status, KL_F_used));
        assert_true(kl_str_split(&line, '\t', &part));
        same(part, kl_amounts_text(charges[i].charged ? &charges[i].used : &used), "used", all);
    }
}

static void test_quotas(void **state)
{
    struct kl_arena a, qa;
    struct kl_str rest = kl_str(text), line;
    struct kl_value quotas = {0};
    size_t n = 0;
    (void)state;
    kl_arena_init(&a, 0);
    kl_arena_init(&qa, 0);
    while (kl_str_split(&rest, '\n', &line)) {
        if (kl_str_starts(line, KL_STR("Q "))) {
            struct kl_error err = {0};
            struct kl_value raw;
            kl_arena_reset(&qa);
            assert_int_equal(kl_json_parse(&qa, kl_str_from(line, 2), NULL, &raw, &err), 0);
            quotas = kl_new_array();
            for (KL_EACH(q, &raw)) {
                struct kl_value typed;
                assert_int_equal(kl_typed_from_untyped(&qa, kl_type(KL_TYPE_core_v1_ResourceQuota),
                                                       q, NULL, &typed, &err),
                                 0);
                assert_int_equal(kl_append(&qa, &quotas, typed), 0);
            }
        } else if (kl_str_starts(line, KL_STR("C "))) {
            kl_arena_reset(&a);
            check_write(&a, &quotas, kl_str_from(line, 2));
            n++;
        }
    }
    assert_true(n > 100);
    kl_arena_fini(&qa);
    kl_arena_fini(&a);
}

// ---- LimitRanges

static int by_text(const void *a, const void *b)
{
    return kl_str_cmp(*(const struct kl_str *)a, *(const struct kl_str *)b);
}

// The order within a row of a LimitRange is a map's upstream: compared sorted.
static void check_limits(struct kl_arena *a, const struct kl_value *range, struct kl_str line)
{
    enum { MAX = 64 };
    struct kl_str all = line, kind, json, part, have[MAX], why;
    size_t n = 0;
    kl_str_split(&line, '\t', &kind);
    kl_str_split(&line, '\t', &json);
    bool pod = kl_str_eqz(kind, "pods");
    struct kl_value o =
        parse(a, kl_type(pod ? KL_TYPE_core_v1_Pod : KL_TYPE_core_v1_PersistentVolumeClaim), json);
    assert_int_equal((pod ? kl_limits_check_pod : kl_limits_check_claim)(a, range, &o, &why), 0);
    if (why.n && why.p[0] == '[')
        why = (struct kl_str){why.p + 1, why.n - 2};
    while (why.n) {
        const char *mid = why.p;
        for (const char *p = why.p; p + 2 < why.p + why.n; p++)
            if (!strncmp(p, ", m", 3) || !strncmp(p, ", cpu max", 9)) {
                mid = p;
                break;
            }
        assert_true(n < MAX);
        have[n].p = why.p;
        have[n++].n = mid == why.p ? why.n : (size_t)(mid - why.p);
        why = mid == why.p ? (struct kl_str){"", 0} : kl_str_from(why, (size_t)(mid - why.p) + 2);
    }
    qsort(have, n, sizeof *have, by_text);
    for (size_t i = 0; i < n; i++) {
        assert_true(kl_str_split(&line, '\t', &part));
        same(part, have[i], "limits", all);
    }
    if (line.p)
        print_message("not found: %.*s\n of %.*s\n", KL_PRI(line), KL_PRI(all));
    assert_null(line.p);
}

static void check_fill(struct kl_arena *a, const struct kl_value *range, struct kl_str line)
{
    static const kl_sym lists[] = {KL_F_containers, KL_F_initContainers};
    struct kl_str all = line, json;
    struct kl_value shown;
    struct kl_error err = {0};
    kl_str_split(&line, '\t', &json);
    struct kl_value pod = parse(a, kl_type(KL_TYPE_core_v1_Pod), json);
    assert_int_equal(kl_json_parse(a, line, NULL, &shown, &err), 0);
    assert_int_equal(kl_limits_fill(a, range, &pod), 0);
    const struct kl_value *want = kl_map_value(&shown, KL_STR("annotations"));
    same(kl_text(kl_map_value(want, KL_STR("kubernetes.io/limit-ranger"))),
         kl_text(kl_map_value(kl_meta_annotations(&pod), KL_STR("kubernetes.io/limit-ranger"))),
         "annotation", all);
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (KL_EACH(c, kl_path(&pod, KL_F_spec, lists[l]))) {
            struct kl_amounts requests, limits;
            kl_amounts_read(&requests, a, kl_path(c, KL_F_resources, KL_F_requests));
            kl_amounts_read(&limits, a, kl_path(c, KL_F_resources, KL_F_limits));
            struct kl_str r = kl_amounts_text(&requests), m = kl_amounts_text(&limits);
            same(kl_text(kl_map_value(kl_map_value(&shown, KL_STR("containers")),
                                      kl_text(kl_get(c, KL_F_name)))),
                 kl_arena_printf(a, "%.*s|%.*s", KL_PRI(r), KL_PRI(m)), "filled", all);
        }
}

static void test_limits(void **state)
{
    struct kl_arena a, ra;
    struct kl_str rest = kl_str(text), line;
    struct kl_value range = {0};
    size_t n = 0;
    (void)state;
    kl_arena_init(&a, 0);
    kl_arena_init(&ra, 0);
    while (kl_str_split(&rest, '\n', &line)) {
        kl_arena_reset(&a);
        if (kl_str_starts(line, KL_STR("R "))) {
            kl_arena_reset(&ra);
            range = parse(&ra, kl_type(KL_TYPE_core_v1_LimitRange), kl_str_from(line, 2));
        } else if (kl_str_starts(line, KL_STR("E "))) {
            check_limits(&a, &range, kl_str_from(line, 2));
            n++;
        } else if (kl_str_starts(line, KL_STR("D "))) {
            check_fill(&a, &range, kl_str_from(line, 2));
            n++;
        }
    }
    assert_true(n > 200);
    kl_arena_fini(&ra);
    kl_arena_fini(&a);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pod_security), cmocka_unit_test(test_labels),
        cmocka_unit_test(test_usage),        cmocka_unit_test(test_quotas),
        cmocka_unit_test(test_limits),
    };
    if (argc < 2)
        return 2;
    path = argv[1];
    return cmocka_run_group_tests(tests, load, unload);
}
