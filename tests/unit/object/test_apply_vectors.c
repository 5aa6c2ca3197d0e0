// SPDX-License-Identifier: Apache-2.0
// Replays what upstream's field manager said to creates, updates and applies (made by gen_apply):
// managedFields and merged objects byte for byte, conflicts and refusals word for word.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "object/apply/managed.h"
#include "object/json.h"

static char **files;
static int nfiles;

struct row {
    struct kl_arena *a;
    struct kl_value v;
    struct kl_managed_env env;
    struct kl_object *live, *now;
    struct kl_value sent; // as it was decoded, not canonical
};

static struct kl_str text(const struct row *r, const char *key)
{
    return kl_text(kl_map_value(&r->v, kl_str(key)));
}

static struct kl_object *decode(struct row *r, struct kl_str json, struct kl_value *ret_draft)
{
    struct kl_error err = {0};
    if (kl_json_decode(r->a, r->env.res->type, json, NULL, ret_draft, &err)) {
        fprintf(stderr, "%.*s\n%s\n", KL_PRI(json), err.msg);
        return NULL;
    }
    return kl_object_freeze(r->env.res->type, ret_draft);
}

static bool same(const struct row *r, const char *what, struct kl_str got, struct kl_str want)
{
    if (kl_str_eq(got, want))
        return true;
    fprintf(stderr, "%.*s %.*s by %.*s: %s\n live %.*s\n new %.*s\n got  %.*s\n want %.*s\n",
            KL_PRI(text(r, "op")), KL_PRI(text(r, "kind")), KL_PRI(text(r, "manager")), what,
            KL_PRI(text(r, "live")), KL_PRI(text(r, "new")), KL_PRI(got), KL_PRI(want));
    return false;
}

static bool same_entries(struct row *r, const struct kl_value *entries)
{
    // As a member of an object, so that it gets the canonical form.
    struct kl_value meta = kl_new_struct(), root = kl_new_struct();
    kl_set(r->a, &meta, KL_F_managedFields, *entries);
    kl_set(r->a, &root, KL_F_metadata, meta);
    struct kl_object *o = kl_object_freeze(r->env.res->type, &root);
    const struct kl_value *list = kl_path(&o->root, KL_F_metadata, KL_F_managedFields);
    const struct kl_field *f =
        kl_type_field(kl_type(KL_TYPE_meta_v1_ObjectMeta), KL_F_managedFields);
    struct kl_buf b;
    kl_buf_init(&b, 1 << 22);
    if (list)
        kl_json_encode(&b, f->type, list, KL_STR(""));
    struct kl_str want = text(r, "managed");
    bool ok =
        same(r, "managedFields", kl_buf_str(&b), kl_str_eqz(want, "null") ? KL_STR("") : want);
    kl_buf_fini(&b);
    kl_object_unref(o);
    return ok;
}

static bool same_object(struct row *r, const struct kl_value *untyped)
{
    struct kl_value draft;
    struct kl_error err = {0};
    struct kl_buf head, b;
    int rc = kl_typed_from_untyped(r->a, r->env.res->type, untyped, NULL, &draft, &err);
    if (rc)
        return same(r, "object", kl_str(err.msg), text(r, "object"));
    struct kl_object *o = kl_object_freeze(r->env.res->type, &draft);
    kl_buf_init(&head, 1024);
    kl_buf_init(&b, 1 << 22);
    kl_buf_printf(&head, "\"kind\":\"%s\",\"apiVersion\":\"%s\",", r->env.res->kind,
                  r->env.res->api_version);
    kl_json_encode(&b, r->env.res->type, &o->root, kl_buf_str(&head));
    bool ok = same(r, "object", kl_buf_str(&b), text(r, "object"));
    kl_buf_fini(&b);
    kl_buf_fini(&head);
    kl_object_unref(o);
    return ok;
}

// Within one manager upstream's order is ours; between managers its order is random in the list of
// causes, so that both are taken by manager.
static bool same_causes(struct row *r, const struct kl_apply_result *got)
{
    const struct kl_value *want = kl_map_value(&r->v, KL_STR("causes"));
    size_t found = 0;
    for (size_t i = 0; i < kl_len(want); i++) {
        struct kl_str m = kl_text(kl_at(kl_at(want, i), 0)), f = kl_text(kl_at(kl_at(want, i), 1));
        for (size_t k = 0; k < got->nconflicts; k++) {
            struct kl_str show =
                kl_arena_printf(r->a, "conflict with %.*s", KL_PRI(got->conflicts[k].manager));
            if (kl_str_eq(show, m) && kl_str_eq(got->conflicts[k].path, f)) {
                found++;
                break;
            }
        }
    }
    return found == kl_len(want) && found == got->nconflicts;
}

static bool replay_apply(struct row *r)
{
    struct kl_value config;
    struct kl_apply_result got;
    struct kl_error err = {0};
    assert_int_equal(kl_json_parse(r->a, text(r, "new"), NULL, &config, &err), 0);
    bool force = kl_is_true(kl_map_value(&r->v, KL_STR("force")));
    int64_t code = kl_int_or(kl_map_value(&r->v, KL_STR("code")), 0);
    int rc = kl_managed_apply(&r->env, r->live ? &r->live->root : NULL, &config, force, &got, &err);
    if (rc == KL_ECONFLICT)
        return same(r, "conflict", got.message, text(r, "error")) && same_causes(r, &got) &&
               code == 409;
    if (rc)
        return same(r, "error", kl_str(err.msg), text(r, "error")) &&
               code == (rc == KL_EBADREQUEST ? 400 : 500);
    if (code)
        return same(r, "no error", KL_STR(""), text(r, "error"));
    return same_entries(r, &got.entries) && same_object(r, &got.object);
}

static bool replay_update(struct row *r)
{
    struct kl_value draft, entries;
    struct kl_error err = {0};
    r->now = decode(r, text(r, "new"), &draft);
    assert_non_null(r->now);
    const struct kl_value *sent = kl_path(&draft, KL_F_metadata, KL_F_managedFields);
    int rc = kl_managed_update(&r->env, r->live ? &r->live->root : NULL, &r->now->root, sent,
                               &entries, &err);
    if (rc)
        return same(r, "error", kl_str(err.msg), text(r, "error"));
    return same_entries(r, &entries);
}

static bool replay(struct kl_str line)
{
    struct kl_arena a;
    struct kl_error err = {0};
    struct row r = {.a = &a};
    struct kl_value draft;
    kl_arena_init(&a, 0);
    assert_int_equal(kl_json_parse(&a, line, NULL, &r.v, &err), 0);
    const struct kl_resource *res =
        kl_resource_by_kind(text(&r, "group"), text(&r, "version"), text(&r, "kind"));
    assert_non_null(res);
    r.env = (struct kl_managed_env){
        .arena = &a,
        .res = res,
        .manager = text(&r, "manager"),
        .subresource = text(&r, "subresource"),
        .reset =
            text(&r, "reset").n ? kl_arena_printf(&a, "%.*s", KL_PRI(text(&r, "reset"))).p : NULL,
        .now_us = kl_int_or(kl_map_value(&r.v, KL_STR("now")), 0) * 1000000};
    if (text(&r, "live").n) {
        r.live = decode(&r, text(&r, "live"), &draft);
        assert_non_null(r.live);
    }
    bool ok = kl_str_eqz(text(&r, "op"), "apply") ? replay_apply(&r) : replay_update(&r);
    kl_object_unref(r.live);
    kl_object_unref(r.now);
    kl_arena_fini(&a);
    return ok;
}

// "@x1000@" stands for as many letters.
static void expand(struct kl_str line, struct kl_buf *out)
{
    const char *at;
    kl_buf_clear(out);
    while ((at = memmem(line.p, line.n, "@x", 2))) {
        char *end;
        size_t n = strtoul(at + 2, &end, 10);
        assert_true(*end == '@' && n < 1 << 20);
        kl_buf_append(out, line.p, (size_t)(at - line.p));
        assert_int_equal(kl_buf_reserve(out, n), 0);
        memset(out->p + out->n, 'x', n);
        out->n += n;
        line = kl_str_from(line, (size_t)(end + 1 - line.p));
    }
    kl_buf_puts(out, line);
    assert_int_equal(out->err, 0);
}

static void recorded(void **state)
{
    (void)state;
    size_t lines = 0, bad = 0;
    for (int i = 0; i < nfiles; i++) {
        FILE *f = fopen(files[i], "r");
        assert_non_null(f);
        char *line = NULL;
        size_t cap = 0;
        ssize_t n;
        struct kl_buf text;
        kl_buf_init(&text, 16 << 20);
        while ((n = getline(&line, &cap, f)) > 1) {
            lines++;
            expand((struct kl_str){line, (size_t)n - 1}, &text);
            bad += !replay(kl_buf_str(&text));
        }
        kl_buf_fini(&text);
        free(line);
        fclose(f);
    }
    assert_true(lines > 150);
    if (bad)
        fail_msg("%zu of %zu differ", bad, lines);
}

int main(int argc, char **argv)
{
    files = argv + 1;
    nfiles = argc - 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(recorded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
