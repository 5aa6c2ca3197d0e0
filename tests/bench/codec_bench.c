// SPDX-License-Identifier: Apache-2.0
// JSON on pods: ours against the schema beside json-c's parser and writer, on the same texts in the
// same run. usage: codec_bench FIXTURES [SECONDS-PER-ROW]
#include "base/clock.h"
#include "object/json.h"
#include "object/resource.h"
#include <stdio.h>
#include <stdlib.h>
#ifdef KL_HAVE_JSON_C
#include <json-c/json.h>
#endif

enum { COPIES = 64 }; // different pods, so that not everything stays in the first cache

struct bench {
    const struct kl_type *type;
    char *texts[COPIES];
    size_t lens[COPIES];
    struct kl_object *objects[COPIES];
    struct kl_arena arena;
    struct kl_buf out;
#ifdef KL_HAVE_JSON_C
    struct json_object *trees[COPIES];
#endif
};

static char *read_file(const char *path, size_t *ret_n)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    char *p = malloc(n + 1);
    if (!p || fread(p, 1, n, f) != n)
        exit(1);
    p[n] = 0;
    fclose(f);
    while (n && p[n - 1] == '\n')
        p[--n] = 0;
    *ret_n = n;
    return p;
}

static void decode(struct bench *b, int i)
{
    struct kl_value v;
    struct kl_error err;
    kl_arena_reset(&b->arena);
    if (kl_json_decode(&b->arena, b->type, (struct kl_str){b->texts[i], b->lens[i]}, NULL, &v,
                       &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
}

static void decode_strict(struct bench *b, int i)
{
    struct kl_value v;
    struct kl_strict strict = {.n = 0};
    kl_arena_reset(&b->arena);
    kl_json_decode(&b->arena, b->type, (struct kl_str){b->texts[i], b->lens[i]}, &strict, &v, NULL);
}

static void decode_and_freeze(struct bench *b, int i)
{
    struct kl_value v;
    kl_arena_reset(&b->arena);
    kl_json_decode(&b->arena, b->type, (struct kl_str){b->texts[i], b->lens[i]}, NULL, &v, NULL);
    kl_object_unref(kl_object_freeze(b->type, &v));
}

static void parse_untyped(struct bench *b, int i)
{
    struct kl_value v;
    kl_arena_reset(&b->arena);
    kl_json_parse(&b->arena, (struct kl_str){b->texts[i], b->lens[i]}, NULL, &v, NULL);
}

static void encode(struct bench *b, int i)
{
    kl_buf_clear(&b->out);
    kl_json_encode(&b->out, b->type, &b->objects[i]->root,
                   KL_STR("\"kind\":\"Pod\",\"apiVersion\":\"v1\","));
}

#ifdef KL_HAVE_JSON_C
static void jsonc_parse(struct bench *b, int i)
{
    struct json_tokener *tok = json_tokener_new();
    json_object_put(json_tokener_parse_ex(tok, b->texts[i], (int)b->lens[i]));
    json_tokener_free(tok);
}

static void jsonc_write(struct bench *b, int i)
{
    size_t n;
    json_object_to_json_string_length(b->trees[i], JSON_C_TO_STRING_PLAIN, &n);
}
#endif

static double row(struct bench *b, const char *name, void (*work)(struct bench *, int),
                  double seconds)
{
    int64_t n = 0, bytes = 0, start = kl_mono_ns(), took;
    for (int i = 0; i < COPIES; i++)
        work(b, i);
    start = kl_mono_ns();
    do {
        for (int i = 0; i < COPIES; i++, n++) {
            work(b, i);
            bytes += (int64_t)b->lens[i];
        }
        took = kl_mono_ns() - start;
    } while (took < (int64_t)(seconds * 1e9));
    printf("%-28s %9.2f us %8.0f MB/s\n", name, (double)took / (double)n / 1e3,
           (double)bytes / (double)took * 1e3);
    return (double)took / (double)n;
}

int main(int argc, char **argv)
{
    struct bench b = {.type = kl_type(KL_TYPE_core_v1_Pod)};
    double seconds = argc > 2 ? atof(argv[2]) : 0.5;
    char path[4096];
    if (argc < 2) {
        fprintf(stderr, "usage: codec_bench FIXTURES [SECONDS-PER-ROW]\n");
        return 2;
    }
    snprintf(path, sizeof(path), "%s/json/running-pod.json", argv[1]);
    kl_arena_init(&b.arena, 0);
    kl_buf_init(&b.out, 16 << 20);
    for (int i = 0; i < COPIES; i++) {
        b.texts[i] = read_file(path, &b.lens[i]);
        char *name = strstr(b.texts[i], "-x2x7q");
        name[1] = (char)('a' + i % 26);
        decode(&b, i);
        struct kl_value v;
        kl_arena_reset(&b.arena);
        kl_json_decode(&b.arena, b.type, (struct kl_str){b.texts[i], b.lens[i]}, NULL, &v, NULL);
        b.objects[i] = kl_object_freeze(b.type, &v);
#ifdef KL_HAVE_JSON_C
        b.trees[i] = json_tokener_parse(b.texts[i]);
#endif
    }
    printf("one running pod, %zu bytes of JSON, %u bytes as an object\n", b.lens[0],
           b.objects[0]->size_bytes);
    double decoded = row(&b, "decode against the schema", decode, seconds);
    row(&b, "the same, strict", decode_strict, seconds);
    row(&b, "the same, and freeze", decode_and_freeze, seconds);
    row(&b, "parse untyped", parse_untyped, seconds);
    double encoded = row(&b, "encode", encode, seconds);
#ifdef KL_HAVE_JSON_C
    double parsed = row(&b, "json-c parse", jsonc_parse, seconds);
    double written = row(&b, "json-c write", jsonc_write, seconds);
    printf("decoding %.1f times json-c's parser, encoding %.1f times its writer\n",
           parsed / decoded, written / encoded);
#else
    (void)decoded;
    (void)encoded;
#endif
    for (int i = 0; i < COPIES; i++) {
        kl_object_unref(b.objects[i]);
        free(b.texts[i]);
#ifdef KL_HAVE_JSON_C
        json_object_put(b.trees[i]);
#endif
    }
    kl_buf_fini(&b.out);
    kl_arena_fini(&b.arena);
    return 0;
}
