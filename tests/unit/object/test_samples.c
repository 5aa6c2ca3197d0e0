// SPDX-License-Identifier: Apache-2.0
// Samples NAME.pb and NAME.json of the directory given as argument: what upstream's Go code wrote
// for one object. Each of the ways between the two must give the same bytes.
//   pb -> draft -> pb      json -> object -> pb      pb -> object -> json
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "object/json.h"
#include "object/protobuf.h"
#include "object/freeze.h"

#define FILE_MAX (8 << 20)

static const char *directory;

struct counts {
    size_t same, different, no_type;
};

struct sample {
    const char *name;
    struct kl_buf pb, json; // the file's; json compact
    struct kl_envelope head;
    const struct kl_type *type;
    struct kl_arena arena;
    struct counts *counts;
};

static bool read_file(const char *name, const char *ending, struct kl_buf *out)
{
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s%s", directory, name, ending);
    FILE *f = fopen(path, "rb");
    kl_buf_init(out, FILE_MAX);
    if (!f)
        return false;
    char chunk[65536];
    for (size_t n; (n = fread(chunk, 1, sizeof(chunk), f)) > 0;)
        kl_buf_append(out, chunk, n);
    fclose(f);
    return out->err == 0;
}

// The type of an apiVersion and kind; kinds that are registered in no group go by the Go package.
static const struct kl_type *find_type(const struct kl_envelope *e)
{
    struct kl_str version = e->api_version, group = {"", 0};
    ptrdiff_t slash = kl_str_chr(version, '/');
    if (slash >= 0) {
        group = (struct kl_str){version.p, (size_t)slash};
        version = kl_str_from(version, (size_t)slash + 1);
    }
    const struct kl_type *t = kl_type_by_kind(group, version, e->kind);
    if (t)
        return t;
    struct kl_str package = group, rest = group;
    kl_str_split(&rest, '.', &package);
    char name[256];
    snprintf(name, sizeof(name), "io.k8s.api.%.*s.%.*s.%.*s", group.n ? (int)package.n : 4,
             group.n ? package.p : "core", KL_PRI(version), KL_PRI(e->kind));
    t = kl_type_by_name(kl_str(name));
    if (t)
        return t;
    snprintf(name, sizeof(name), "io.k8s.apimachinery.pkg.apis.meta.v1.%.*s", KL_PRI(e->kind));
    return kl_type_by_name(kl_str(name));
}

static void compare(struct sample *s, const char *way, struct kl_str got, struct kl_str want)
{
    if (kl_str_eq(got, want)) {
        s->counts->same++;
        return;
    }
    size_t at = 0;
    while (at < got.n && at < want.n && got.p[at] == want.p[at])
        at++;
    size_t from = at > 40 ? at - 40 : 0;
    printf("%s: %s differs at byte %zu of %zu (want %zu)\n", s->name, way, at, got.n, want.n);
    printf("  got  ...%.*s\n", (int)(got.n - from > 80 ? 80 : got.n - from), got.p + from);
    printf("  want ...%.*s\n", (int)(want.n - from > 80 ? 80 : want.n - from), want.p + from);
    s->counts->different++;
}

static void failed(struct sample *s, const char *way, const struct kl_error *err)
{
    printf("%s: %s: %s\n", s->name, way, err->msg);
    s->counts->different++;
}

static void check_message(struct sample *s, const char *way, const struct kl_value *v)
{
    struct kl_buf out;
    kl_buf_init(&out, FILE_MAX);
    kl_pb_encode_object(&out, s->head.api_version, s->head.kind, s->type, v);
    compare(s, way, kl_buf_str(&out), kl_buf_str(&s->pb));
    kl_buf_clear(&out);
    kl_pb_begin_envelope(&out, s->head.api_version, s->head.kind, kl_pb_size(s->type, v));
    kl_pb_encode(&out, s->type, v);
    kl_pb_end_envelope(&out);
    compare(s, "envelope in parts", kl_buf_str(&out), kl_buf_str(&s->pb));
    kl_buf_fini(&out);
}

// A block copied with another resourceVersion is what freezing such a draft gives.
static void check_restamp(struct sample *s, const struct kl_object *o)
{
    static const char *const versions[] = {"7", "", "123456789012", "8"};
    struct kl_object *now = NULL;
    for (size_t i = 0; i < KL_COUNT(versions) && kl_get(&o->root, KL_F_metadata); i++) {
        struct kl_value draft = kl_object_draft(o), *meta;
        meta = kl_edit(&s->arena, &draft, KL_F_metadata, KL_STRUCT);
        assert_non_null(meta);
        struct kl_str rv = kl_str(versions[i]);
        assert_int_equal(rv.n ? kl_set(&s->arena, meta, KL_F_resourceVersion, kl_string(rv))
                              : kl_unset(&s->arena, meta, KL_F_resourceVersion),
                         0);
        struct kl_object *want = kl_object_freeze(s->type, &draft);
        struct kl_object *made = kl_object_restamp(now ? now : o, rv);
        kl_object_unref(now); // nothing of the copy lies in what it was copied from
        now = made;
        if (!now) { // a list's metadata, or one with nothing else in it
            kl_object_unref(want);
            break;
        }
        struct kl_buf x, y;
        kl_buf_init(&x, FILE_MAX);
        kl_buf_init(&y, FILE_MAX);
        kl_json_encode(&x, s->type, &now->root, KL_STR(""));
        kl_json_encode(&y, s->type, &want->root, KL_STR(""));
        compare(s, "another version", kl_buf_str(&x), kl_buf_str(&y));
        assert_true(kl_value_equal(&now->root, &want->root));
        kl_buf_fini(&x);
        kl_buf_fini(&y);
        kl_object_unref(want);
    }
    kl_object_unref(now);
}

static void check_from_json(struct sample *s)
{
    struct kl_error err = {0};
    struct kl_value draft;
    if (kl_json_decode(&s->arena, s->type, kl_buf_str(&s->json), NULL, &draft, &err) < 0) {
        failed(s, "JSON", &err);
        return;
    }
    struct kl_object *o = kl_object_freeze(s->type, &draft);
    check_message(s, "JSON to protobuf", &o->root);
    check_restamp(s, o);
    kl_object_unref(o);
}

static void check_from_protobuf(struct sample *s)
{
    struct kl_error err = {0};
    struct kl_value draft, trusted;
    if (kl_pb_decode(&s->arena, s->type, s->head.raw, &draft, &err) < 0 ||
        kl_pb_decode_trusted(&s->arena, s->type, s->head.raw, &trusted, &err) < 0) {
        failed(s, "protobuf", &err);
        return;
    }
    check_message(s, "protobuf to protobuf", &draft);
    assert_true(kl_value_equal(&draft, &trusted));
    struct kl_object *o = kl_object_freeze(s->type, &draft);
    char head[512];
    snprintf(head, sizeof(head), "\"kind\":\"%.*s\",\"apiVersion\":\"%.*s\",", KL_PRI(s->head.kind),
             KL_PRI(s->head.api_version));
    struct kl_buf out;
    kl_buf_init(&out, FILE_MAX);
    kl_json_encode(&out, s->type, &o->root, kl_str(head));
    compare(s, "protobuf to JSON", kl_buf_str(&out), kl_buf_str(&s->json));
    kl_buf_fini(&out);
    kl_object_unref(o);
}

static void check_sample(const char *name, struct counts *counts)
{
    struct sample s = {.name = name, .counts = counts};
    struct kl_error err = {0};
    struct kl_buf json;
    kl_arena_init(&s.arena, 0);
    kl_buf_init(&s.json, FILE_MAX);
    bool read = read_file(name, ".pb", &s.pb);
    if (!read_file(name, ".json", &json) || !read)
        fail_msg("%s: cannot read both files", name);
    assert_true(kl_json_compact(&s.json, kl_buf_str(&json)));
    if (kl_pb_open(kl_buf_str(&s.pb), &s.head, &err) < 0)
        fail_msg("%s: %s", name, err.msg);
    s.type = find_type(&s.head);
    if (s.type) {
        check_from_json(&s);
        check_from_protobuf(&s);
    } else {
        counts->no_type++;
    }
    kl_buf_fini(&s.pb);
    kl_buf_fini(&s.json);
    kl_buf_fini(&json);
    kl_arena_fini(&s.arena);
}

static void test_samples(void **state)
{
    struct counts counts = {0};
    DIR *dir = opendir(directory);
    if (!dir)
        fail_msg("cannot open %s", directory);
    for (struct dirent *e; (e = readdir(dir));) {
        char name[300];
        size_t n = strlen(e->d_name);
        if (n < 4 || n >= sizeof(name) || strcmp(e->d_name + n - 3, ".pb") != 0)
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)n - 3, e->d_name);
        check_sample(name, &counts);
    }
    closedir(dir);
    printf("%zu comparisons the same, %zu not; %zu samples of kinds that are not served\n",
           counts.same, counts.different, counts.no_type);
    assert_int_equal(counts.different, 0);
    assert_true(counts.same > 50);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_samples)};
    if (argc != 2)
        return 2;
    directory = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
