// SPDX-License-Identifier: Apache-2.0
// Replays what upstream's own strategies said of mutated samples (vectors.txt, made by gen/main.go)
// and prints how much of it is said here too, kind by kind: all of it, but for what is excused.
// Arguments: vectors... [-- kind: prints every difference of that kind].
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "object/defaults.h"
#include "object/json.h"
#include "object/validate/earlier_int.h"

// Where the canonical form does not tell an empty map from none, and upstream does.
static const struct {
    const char *kind, *op, *pointer;
} excused[] = {
    {"PersistentVolumeClaim", "uE", "/spec/resources/requests"},
    {"PersistentVolumeClaim", "ud", "/spec/resources/requests/storage"},
};

enum { KINDS_MAX = 128, MESSAGES_MAX = 16384, FINDINGS_SHOWN = 64 };

static char *const *paths;
static int npaths;
static const char *shown_kind;

struct tally {
    char kind[64];
    size_t good, all, ordered;
};

static struct replay {
    struct kl_str messages[MESSAGES_MAX];
    size_t nmessages;
    struct tally tallies[KINDS_MAX];
    size_t ntallies;
    struct kl_arena sample_arena, arena;
    struct kl_value sample; // untyped
    const struct kl_resource *res;
    struct kl_gate_set gates;
    struct tally *tally;
    struct kl_str pointer;
    char op;
} r;

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

static struct tally *tally_of(struct kl_str kind)
{
    for (size_t i = 0; i < r.ntallies; i++)
        if (kl_str_eqz(kind, r.tallies[i].kind))
            return &r.tallies[i];
    assert_true(r.ntallies < KINDS_MAX && kind.n < sizeof r.tallies->kind);
    struct tally *t = &r.tallies[r.ntallies++];
    memcpy(t->kind, kind.p, kind.n);
    return t;
}

// ---- mutations, as gen/main.go has them

static struct kl_str repeated(struct kl_arena *a, char ch, size_t n)
{
    char *p = kl_arena_alloc(a, n + 1);
    assert_non_null(p);
    memset(p, ch, n);
    return (struct kl_str){p, n};
}

static bool mutate(struct kl_arena *a, char code, const struct kl_value *v, struct kl_value *ret)
{
    switch (code) {
    case 'e':
        *ret = kl_stringz("");
        return true;
    case 'b':
        *ret = kl_stringz("Bad Value!");
        return true;
    case 'l':
        *ret = kl_string(repeated(a, 'a', 300));
        return true;
    case 'x':
        *ret = kl_stringz("x");
        return true;
    case 'h':
        *ret = kl_stringz("-a/b");
        return true;
    case '1':
        *ret = kl_is(v, KL_STRING) ? kl_stringz("1") : kl_int(1);
        return true;
    case 'n':
        *ret = kl_int(-1);
        return true;
    case 'z':
        *ret = kl_int(0);
        return true;
    case 'm':
        *ret = kl_int(70000);
        return true;
    case 'g':
        *ret = kl_int(3000000000);
        return true;
    case 'f':
        *ret = kl_bool(!kl_is_true(v));
        return true;
    case 'E':
        *ret = kl_is(v, KL_ARRAY) ? kl_new_array() : kl_new_map();
        return true;
    case 'K': // in front: what stays as it was sent is sent in order
        *ret = kl_new_map();
        assert_int_equal(kl_map_set_value(a, ret, KL_STR("Bad Key!"), kl_stringz("Bad Value!")), 0);
        for (KL_MAP_EACH_KEY(kv, v))
            assert_int_equal(kl_map_set_value(a, ret, kl_text(kv), kv[1]), 0);
        return true;
    case 'D':
    case 'O':
        *ret = *v;
        ret->owned = 0;
        if (code == 'D')
            assert_int_equal(kl_append(a, ret, *kl_at(v, 0)), 0);
        else
            assert_int_equal(kl_remove_at(a, ret, 0), 0);
        return true;
    case '2':
        *ret = kl_stringz("2");
        return true;
    default: // 'd'
        return false;
    }
}

static struct kl_str unescaped(struct kl_arena *a, struct kl_str s)
{
    char *p = kl_arena_alloc(a, s.n + 1);
    size_t n = 0;
    assert_non_null(p);
    for (size_t i = 0; i < s.n; i++) {
        bool tilde = s.p[i] == '~' && i + 1 < s.n;
        p[n++] = tilde ? (s.p[++i] == '1' ? '/' : '~') : s.p[i];
    }
    return (struct kl_str){p, n};
}

static void change(struct kl_arena *a, struct kl_value *at, struct kl_str pointer, char code)
{
    struct kl_str rest = kl_str_from(pointer, 1), part;
    if (code == '=')
        return; // the sample itself
    while (kl_str_split(&rest, '/', &part)) {
        bool last = !rest.p;
        struct kl_str key = unescaped(a, part);
        int64_t i = 0;
        struct kl_value to;
        if (kl_is(at, KL_ARRAY)) {
            assert_true(kl_str_to_i64(key, &i));
            if (!last) {
                at = kl_edit_at(a, at, (size_t)i);
                continue;
            }
            if (mutate(a, code, kl_at(at, (size_t)i), &to))
                *kl_edit_at(a, at, (size_t)i) = to;
            else
                assert_int_equal(kl_remove_at(a, at, (size_t)i), 0);
            return;
        }
        const struct kl_value *v = kl_map_value(at, key);
        assert_non_null(v);
        if (!last)
            at = kl_edit_map(a, at, key, v->kind);
        else if (mutate(a, code, v, &to))
            assert_int_equal(kl_map_set_value(a, at, key, to), 0);
        else
            assert_int_equal(kl_map_unset(a, at, key), 0);
    }
}

// ---- one case

static struct kl_object *object_of(const struct kl_value *untyped, bool status)
{
    struct kl_value draft;
    struct kl_error err = {0};
    if (kl_typed_from_untyped(&r.arena, r.res->type, untyped, NULL, &draft, &err))
        return NULL;
    if (!status && kl_resource_sub(r.res, KL_STR("status")) && r.res->index != KL_RES_core_v1_nodes)
        kl_unset(&r.arena, &draft, KL_F_status);
    assert_int_equal(kl_default_object(&r.arena, r.res->type, &draft), 0);
    kl_drop_gated(&r.arena, r.res->type, &draft, NULL, &r.gates);
    struct kl_object *o = kl_object_freeze(r.res->type, &draft);
    assert_non_null(o);
    return o;
}

struct expected {
    struct kl_str field, type, message;
};

static size_t parse_expected(struct kl_str line, struct expected *e)
{
    size_t n = 0;
    struct kl_str field, what, type;
    while (kl_str_split(&line, '\t', &field)) {
        int64_t id;
        assert_true(kl_str_split(&line, '\t', &what));
        assert_true(kl_str_split(&what, '#', &type));
        assert_true(kl_str_to_i64(what, &id) && (size_t)id < r.nmessages && n < FINDINGS_SHOWN);
        // Said with a library for certificates, by the API server (tests/unit/apiserver).
        if (kl_str_eqz(field, "spec.trustBundle") ||
            (kl_str_eqz(field, "spec.stubPKCS10Request") && r.op != 'u'))
            continue;
        e[n++] = (struct expected){field, type, r.messages[id]};
    }
    return n;
}

// The canonical form does not tell an empty list or map from none: all show alike.
static bool same_message(struct kl_str want, struct kl_str have)
{
    while (want.n && have.n) {
        bool w = kl_str_starts(want, KL_STR("[]")) || kl_str_starts(want, KL_STR("{}"));
        bool h = kl_str_starts(have, KL_STR("null"));
        if (w && h) {
            want = kl_str_from(want, 2);
            have = kl_str_from(have, 4);
        } else if (want.p[0] == have.p[0]) {
            want = kl_str_from(want, 1);
            have = kl_str_from(have, 1);
        } else {
            return false;
        }
    }
    return !want.n && !have.n;
}

static bool same(const struct expected *e, const struct kl_field_finding *f)
{
    struct kl_str m = f->message, reason = kl_str(f->reason);
    ptrdiff_t line = kl_str_chr(m, '\n'); // behind it upstream has a diff
    if (line >= 0)
        m.n = (size_t)line;
    if (kl_str_starts(reason, KL_STR("FieldValue")))
        reason = kl_str_from(reason, 10);
    return kl_str_eq(e->field, f->field) && same_message(e->message, m) &&
           kl_str_eq(e->type, reason);
}

static void compare(const struct kl_findings *f, struct kl_str line, char op, char code)
{
    struct expected e[FINDINGS_SHOWN];
    bool used[FINDINGS_SHOWN] = {0}, ordered = true, good;
    size_t n = parse_expected(line, e), found = 0;
    for (size_t i = 0; i < f->n; i++) {
        ordered &= i < n && same(&e[i], &f->list[i]);
        for (size_t k = 0; k < n; k++)
            if (!used[k] && same(&e[k], &f->list[i])) {
                used[k] = true;
                found++;
                break;
            }
    }
    good = found == n && f->n == n;
    for (size_t i = 0; i < KL_COUNT(excused); i++)
        if (!strcmp(excused[i].kind, r.tally->kind) && excused[i].op[0] == op &&
            excused[i].op[1] == code && kl_str_eqz(r.pointer, excused[i].pointer)) {
            assert_false(good); // an excuse that is not needed
            return;
        }
    r.tally->all++;
    r.tally->good += good;
    r.tally->ordered += good && ordered;
    if (good || !shown_kind || strcmp(shown_kind, r.tally->kind) != 0)
        return;
    print_message("%c%c %.*s\n", op, code, KL_PRI(r.pointer));
    for (size_t k = 0; k < n; k++)
        if (!used[k])
            print_message("  want %.*s: %.*s (%.*s)\n", KL_PRI(e[k].field), KL_PRI(e[k].message),
                          KL_PRI(e[k].type));
    for (size_t i = 0; i < f->n; i++)
        print_message("  have %.*s: %.*s (%s)\n", KL_PRI(f->list[i].field),
                      KL_PRI(f->list[i].message), f->list[i].reason);
}

static void run_case(char op, char code, struct kl_str line)
{
    struct kl_value next = r.sample;
    struct kl_findings f = {.arena = &r.arena, .gates = &r.gates};
    r.op = op;
    kl_arena_reset(&r.arena);
    next.owned = 0;
    assert_int_equal(kl_copy(&r.arena, &r.sample, &next), 0);
    change(&r.arena, &next, r.pointer, code);
    struct kl_object *now = object_of(&next, op != 'c'), *old = object_of(&r.sample, true);
    assert_non_null(old);
    if (now && op == 'c') {
        kl_validate_create(&f, kl_resource_storage(r.res), &now->root);
    } else if (now) {
        // What rest.BeforeUpdate takes from the stored object.
        struct kl_value draft = kl_object_draft(now);
        struct kl_value *m = kl_edit(&r.arena, &draft, KL_F_metadata, KL_STRUCT);
        static const kl_sym kept[] = {KL_F_generation, KL_F_creationTimestamp, KL_F_uid,
                                      KL_F_namespace};
        for (size_t i = 0; i < KL_COUNT(kept); i++) {
            const struct kl_value *v = kl_path(&old->root, KL_F_metadata, kept[i]);
            if (i >= 2 && kl_get(m, kept[i]))
                continue;
            if (v)
                kl_set(&r.arena, m, kept[i], *v);
            else
                kl_unset(&r.arena, m, kept[i]);
        }
        kl_validate_update(&f, kl_resource_storage(r.res),
                           op == 's'   ? KL_STR("status")
                           : op == 'r' ? KL_STR("resize")
                                       : KL_STR(""),
                           &draft, &old->root);
    }
    if (now)
        compare(&f, line, op, code);
    kl_object_unref(now);
    kl_object_unref(old);
}

static void take_sample(struct kl_str line)
{
    struct kl_str version, kind, group;
    struct kl_error err = {0};
    kl_str_split(&line, ' ', &version);
    kl_str_split(&line, ' ', &kind);
    group = KL_STR("");
    if (kl_str_chr(version, '/') >= 0)
        kl_str_split(&version, '/', &group);
    r.res = NULL; // those that are not served by default as well
    for (uint16_t i = 0; i < kl_nresources; i++)
        if (kl_str_eqz(kind, kl_resources[i].kind) && kl_str_eqz(group, kl_resources[i].group) &&
            kl_str_eqz(version, kl_resources[i].version))
            r.res = &kl_resources[i];
    assert_non_null(r.res);
    assert_non_null(r.res->type);
    r.tally = tally_of(kind);
    kl_arena_reset(&r.sample_arena);
    assert_int_equal(kl_json_parse(&r.sample_arena, line, NULL, &r.sample, &err), 0);
}

static void switch_gates(struct kl_str line)
{
    char text[512];
    const char *list[16] = {NULL};
    struct kl_error err = {0};
    size_t n = 0;
    assert_true(line.n < sizeof text);
    memcpy(text, line.p, line.n);
    text[line.n] = 0;
    for (char *p = text; p; p = strchr(p, ',')) {
        if (*p == ',')
            *p++ = 0;
        assert_true(n + 1 < KL_COUNT(list));
        list[n++] = p;
    }
    assert_int_equal(kl_gate_set_parse(&r.gates, list, &err), 0);
}

static void replay(const char *path)
{
    struct kl_str rest, line;
    char *text = read_file(path);
    r.nmessages = 0;
    kl_gate_set_default(&r.gates);
    for (rest = kl_str(text); kl_str_split(&rest, '\n', &line);)
        if (kl_str_starts(line, KL_STR("M "))) {
            assert_true(r.nmessages < MESSAGES_MAX);
            r.messages[r.nmessages++] = kl_str_from(line, 2);
        }
    for (rest = kl_str(text); kl_str_split(&rest, '\n', &line);) {
        if (line.n < 2 || line.p[0] == 'M')
            continue;
        if (line.p[0] == 'S')
            take_sample(kl_str_from(line, 2));
        else if (line.p[0] == 'G')
            switch_gates(kl_str_from(line, 2));
        else if (line.p[0] == 'P')
            r.pointer = kl_str_from(line, 2);
        else
            run_case(line.p[0], line.p[1],
                     line.n > 3 ? kl_str_from(line, 3) : (struct kl_str){NULL, 0});
    }
    free(text);
}

static void test_vectors(void **state)
{
    (void)state;
    kl_arena_init(&r.arena, 0);
    kl_arena_init(&r.sample_arena, 0);
    for (int i = 0; i < npaths; i++)
        replay(paths[i]);
    size_t good = 0, all = 0;
    for (size_t i = 0; i < r.ntallies; i++) {
        const struct tally *t = &r.tallies[i];
        print_message("%-34s %5zu of %5zu, %zu in upstream's order\n", t->kind, t->good, t->all,
                      t->ordered);
        good += t->good;
        all += t->all;
    }
    print_message("%zu of %zu vectors, %.1f %%\n", good, all, 100.0 * (double)good / (double)all);
    kl_arena_fini(&r.arena);
    kl_arena_fini(&r.sample_arena);
    assert_true(all > 1000);
    assert_int_equal(good, all);
}

// What cannot be said for want of memory is wrong all the same.
static void test_no_memory(void **state)
{
    (void)state;
    for (size_t room = 1; room < 4096; room += 16) {
        struct kl_arena a;
        struct kl_value nameless = kl_new_struct();
        kl_arena_init(&a, room);
        struct kl_findings f = {.arena = &a};
        kl_validate_create(&f, kl_res(KL_RES_core_v1_configmaps), &nameless);
        assert_true(f.n > 0);
        assert_true(f.list[0].message.n > 0);
        kl_arena_fini(&a);
    }
}

// Against the plain search, on lists in which much is said again.
static void test_earlier(void **state)
{
    static const kl_sym fields[] = {KL_F_port, KL_F_protocol};
    static const char *const protocols[] = {"TCP", "UDP", ""};
    (void)state;
    for (unsigned n = 0; n < 60; n++) {
        struct kl_arena a;
        struct kl_value list = kl_new_array();
        kl_arena_init(&a, 1 << 20);
        struct kl_findings f = {.arena = &a};
        struct kl_v c = {.f = &f};
        for (unsigned i = 0; i < n; i++) {
            struct kl_value v = kl_new_struct();
            unsigned x = (i + 1) * (n + 7) * 2654435761u >> 20;
            kl_set(&a, &v, KL_F_protocol, kl_stringz(protocols[x % 3]));
            if (x % 5)
                kl_set(&a, &v, KL_F_port, kl_int(x % 7));
            kl_append(&a, &list, v);
        }
        const uint32_t *is = kl_v_earlier(&c, &list, fields, KL_COUNT(fields));
        assert_non_null(is);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t want = KL_V_NONE;
            for (uint32_t k = 0; k < i; k++)
                if (kl_int_at(kl_at(&list, k), 0, KL_F_port) ==
                        kl_int_at(kl_at(&list, i), 0, KL_F_port) &&
                    kl_str_eq(kl_text(kl_get(kl_at(&list, k), KL_F_protocol)),
                              kl_text(kl_get(kl_at(&list, i), KL_F_protocol))))
                    want = k;
            assert_int_equal(is[i], want);
        }
        kl_arena_fini(&a);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors),
                                       cmocka_unit_test(test_no_memory),
                                       cmocka_unit_test(test_earlier)};
    if (argc < 2)
        return 2;
    for (npaths = 0, paths = argv + 1; paths[npaths] && strcmp(paths[npaths], "--") != 0;)
        npaths++;
    shown_kind = paths[npaths] ? paths[npaths + 1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
