// SPDX-License-Identifier: Apache-2.0
// Audit policies: verdicts against upstream's (fair_vectors/main.go), and what a policy is refused
// for.
#include "apiserver/audit/audit_int.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *dir;

static char *read_file(const char *name)
{
    char path[4096];
    static char text[1 << 17];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("%s: cannot open", path);
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    fclose(f);
    return text;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void words_of(const struct kl_audit_verdict *v, char *out, size_t size)
{
    const char *stages[KL_AUDIT_STAGES];
    int n = 0;
    for (int i = 0; i < KL_AUDIT_STAGES; i++)
        if (v->omit >> i & 1)
            stages[n++] = kl_audit_stage_names[i];
    qsort(stages, (size_t)n, sizeof *stages, by_text);
    size_t at = (size_t)snprintf(out, size, "%s %s ", kl_audit_level_names[v->level],
                                 v->omit_managed_fields ? "true" : "false");
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", i ? "," : "", stages[i]);
}

static void test_vectors(void **state)
{
    struct kl_audit_policy *p;
    struct kl_error err = {0};
    int n = 0;
    (void)state;
    if (kl_audit_policy_parse(kl_str(read_file("audit_policy.yaml")), &p, &err))
        fail_msg("%s", err.msg);
    struct kl_str rest = kl_str(read_file("audit.txt")), line;
    while (kl_str_split(&rest, '\n', &line) && line.n) {
        struct kl_str f[10], left = line, answer = kl_str_from(line, (size_t)kl_str_chr(line, ' '));
        left.n -= answer.n;
        for (int i = 0; i < 10; i++)
            kl_str_split(&left, ';', &f[i]);
        struct kl_user *u = calloc(1, sizeof *u); // without the group that kl_user_new adds
        u->name = f[0];
        u->groups = &f[1];
        u->ngroups = f[1].n > 0;
        struct kl_audit_attrs t = {.user = u,
                                   .verb = f[2],
                                   .is_resource = kl_str_eqz(f[3], "true"),
                                   .group = f[4],
                                   .plural = f[5],
                                   .sub = f[6],
                                   .ns = f[7],
                                   .name = f[8],
                                   .path = f[9]};
        struct kl_audit_verdict v;
        char got[200];
        kl_audit_policy_ask(p, &t, &v);
        words_of(&v, got, sizeof got);
        if (!kl_str_eqz(kl_str_from(answer, 1), got))
            fail_msg("%.*s: got %s", KL_PRI(line), got);
        free(u);
        n++;
    }
    assert_int_equal(n, 600);
    kl_audit_policy_free(p);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []\n", "illegal policy with 0 rules"},
        {"apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]\n",
         "unknown group version"},
        {"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: All}]\n",
         "rules[0].level: Unsupported value: \"All\""},
        {"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{users: [x]}]\n",
         "rules[0].level: Required value"},
        {"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, nonResourceURLs: "
         "[x]}]\n",
         "must begin with a '/' character"},
        {"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, nonResourceURLs: "
         "['/a*b']}]\n",
         "must be the final character"},
        {"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, nonResourceURLs: "
         "['/a'], namespaces: [x]}]\n",
         "both regular resources and non-resource URLs"},
        {"apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [Never]\nrules: [{level: None}]\n",
         "omitStages[0]: Invalid value: \"Never\""},
        {"rules: [", ""},
    };
    (void)state;
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_audit_policy *p = NULL;
        struct kl_error err = {0};
        assert_true(kl_audit_policy_parse(kl_str(rows[i].text), &p, &err) < 0);
        if (!strstr(err.msg, rows[i].why))
            fail_msg("row %zu: got %s, want %s", i, err.msg, rows[i].why);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_refused),
    };
    dir = argc > 1 ? argv[1] : "fair_vectors";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
