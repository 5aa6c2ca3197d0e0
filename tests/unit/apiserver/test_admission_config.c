// SPDX-License-Identifier: Apache-2.0
// Replays what upstream says of sections of the admission configuration (made by config_vectors).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "apiserver/admission/config_int.h"
#include "apiserver/admission/event_limits.h"
#include "object/json.h"

static const char *path;

static kl_config_reader *reader_of(struct kl_str plugin)
{
    static const struct {
        const char *plugin;
        kl_config_reader *read;
    } readers[] = {{"PodSecurity", kl_config_pod_security},
                   {"ResourceQuota", kl_config_quota},
                   {"EventRateLimit", kl_config_events},
                   {"MutatingAdmissionWebhook", kl_config_mutating_webhooks}};
    for (size_t i = 0; i < KL_COUNT(readers); i++)
        if (kl_str_eqz(plugin, readers[i].plugin))
            return readers[i].read;
    return NULL;
}

static bool agrees(char *line)
{
    struct kl_admit_config c = {0};
    struct kl_error err = {0}, bad = {0};
    struct kl_value v;
    kl_arena_init(&c.arena, 16 << 20);
    assert_int_equal(kl_json_parse(&c.arena, kl_str(line), NULL, &v, &bad), 0);
    struct kl_str text = kl_text(kl_map_value(&v, KL_STR("text"))),
                  want = kl_text(kl_map_value(&v, KL_STR("error")));
    int rc = reader_of(kl_text(kl_map_value(&v, KL_STR("plugin"))))(&c, text, &err);
    bool same = (rc != 0) == (want.n != 0) && (!rc || kl_str_eqz(want, err.msg));
    if (!same)
        fprintf(stderr, "%.*s\n got  %s\n want %.*s\n", KL_PRI(text), rc ? err.msg : "",
                KL_PRI(want));
    kl_event_limits_free(c.events);
    kl_arena_fini(&c.arena);
    return same;
}

static void test_vectors(void **state)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    int n = 0, bad = 0;
    (void)state;
    assert_non_null(f);
    for (; getline(&line, &room, f) > 0; n++)
        bad += !agrees(line);
    free(line);
    fclose(f);
    assert_true(n > 30);
    assert_int_equal(bad, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors)};
    path = argc > 1 ? argv[1] : "config_vectors.txt";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
