// SPDX-License-Identifier: Apache-2.0
#include "kine_rows.h"
#include "harness.h"
#include "store/transfer/access.h"
#include <stdio.h>

enum { OLD = 100 };

void kine_fill(const struct kine_table *t, int keys)
{
    char name[64], value[64];
    t->write(t->arg, "/registry/health", "{\"health\":\"true\"}", 0);
    t->write(t->arg, "/bootstrap/2e4b1d", "AES sealed", 0);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < keys; i++) {
            snprintf(name, sizeof(name), "/registry/configmaps/default/cm-%03d", i);
            snprintf(value, sizeof(value), "k8s\n%d of %d", round, i);
            if (round == 0 || i % (round + 1) == 0)
                t->write(t->arg, name, round == 2 && i % 5 == 0 ? NULL : value, 0);
            if (i % 40 == 7)
                t->gap(t->arg);
        }
    }
    t->write(t->arg, "/registry/events/default/e1", "event", 3600);
    t->write(t->arg, "/registry/events/default/e2", "event", 3600);
    t->write(t->arg, "/registry/masterleases/10.0.0.1", "lease", 15);
    t->write(t->arg, "/registry/events/default/gone", "event", 3600);
    t->write(t->arg, "/registry/events/default/gone", NULL, 0);
    t->write(t->arg, "/registry/empty", "", 0);
}

void kine_same_keys(struct kl_store *s, const struct kine_row *w, size_t n)
{
    struct kl_access a;
    struct kl_view *v;
    struct kl_iter it;
    assert_int_equal(kl_access_open(&a, s, NULL), 0);
    assert_int_equal(kl_access_view(&a, &v, NULL), 0);
    kl_iter_init(&it, v, KL_STR("\0"), KL_RANGE_TO_LAST);
    assert_int_equal(it.left, n);
    for (size_t i = 0; i < n; i++) {
        struct kl_kv *kv = kl_iter_next(&it);
        assert_string_equal(kv->key, w[i].name);
        assert_int_equal(kv->mod_rev, w[i].id);
        assert_int_equal(kv->create_rev, w[i].create);
        assert_int_equal(kv->lease, w[i].lease);
        assert_true(kv->version >= 1);
        assert_true((kv->version == 1) == (kv->create_rev == kv->mod_rev));
        if (!kl_str_eqz(kl_kv_value(kv), w[i].value))
            fail_msg("%s: %.*s, not %s", kv->key, KL_PRI(kl_kv_value(kv)), w[i].value);
    }
    kl_view_unref(v);
    kl_access_close(&a);
}

void kine_same_rows(const struct kine_row *have, const struct kine_row *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(have[i].name, want[i].name);
        assert_string_equal(have[i].value, want[i].value);
        assert_int_equal(have[i].id, want[i].id);
        assert_int_equal(have[i].create, want[i].create);
    }
}

void kine_old_tokens(const struct kine_table *t)
{
    for (int i = 0; i < OLD; i++) {
        char name[32];
        snprintf(name, sizeof(name), "/bootstrap/old%03d", i);
        t->write(t->arg, name, "sealed", 0);
    }
}

static int count_records(void *arg, const struct kl_kine_record *v, size_t n, struct kl_error *err)
{
    bool *seen = arg;
    for (size_t i = 0; i < n; i++) {
        char key[32];
        int k;
        snprintf(key, sizeof(key), "%.*s", KL_PRI(v[i].key));
        if (sscanf(key, "/bootstrap/old%03d", &k) == 1 && kl_str_eqz(v[i].value, "sealed"))
            seen[k] = true;
    }
    return kl_error_set(err, KL_EUNAUTHORIZED, "the check says no");
}

void kine_check_sees_all(const char *url)
{
    bool seen[OLD] = {false};
    struct kl_store_options o = {
        .take_over = true, .take_over_check = count_records, .take_over_arg = seen};
    struct kl_store *s = NULL;
    struct kl_error err = {0};
    assert_int_equal(kl_store_open(url, &o, &s, &err), KL_EUNAUTHORIZED);
    assert_string_equal(err.msg, "the check says no");
    for (int i = 0; i < OLD; i++)
        assert_true(seen[i]);
}
