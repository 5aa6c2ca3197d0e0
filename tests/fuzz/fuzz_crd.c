// SPDX-License-Identifier: Apache-2.0
// Custom resources: {"schema", "object", "old"} of any content may be compiled, read, validated and
// applied; {"now", "old"} are definitions, {"path"} is a JSONPath over the document itself. What
// was pruned and defaulted once stays as it is, and validation says the same twice.
#include "fuzz.h"
#include "object/apply/managed.h"
#include "object/crd/crd.h"
#include "object/crd/definition.h"
#include "object/crd/jsonpath.h"
#include "object/defaults.h"

enum { ARENA_BYTES = 256 << 20 };

static const struct kl_value *at(const struct kl_value *v, const char *name)
{
    return kl_map_value(v, kl_str(name));
}

static struct kl_object *freeze(struct kl_arena *a, const struct kl_type *type,
                                const struct kl_value *v, struct kl_strict *strict, bool defaults)
{
    struct kl_value draft;
    struct kl_error err;
    if (!v || kl_typed_from_untyped(a, type, v, strict, &draft, &err) ||
        (defaults && kl_default_object(a, type, &draft)))
        return NULL;
    return kl_object_freeze(type, &draft);
}

// What was read is read again as it is; defaults add nothing twice.
static void check_stable(struct kl_arena *a, const struct kl_type *type, const struct kl_value *v,
                         const struct kl_object *defaulted)
{
    struct kl_strict strict = {.n = 0};
    struct kl_object *once = freeze(a, type, v, NULL, false);
    struct kl_value untyped, draft = kl_object_draft(defaulted);
    FUZZ_CHECK(once && !kl_untyped_from_typed(a, type, &once->root, &untyped), "%s", "untyped");
    struct kl_object *again = freeze(a, type, &untyped, &strict, false);
    FUZZ_CHECK(again, "%s", "a pruned object is not read again");
    FUZZ_CHECK(!strict.n, "still unknown: %.*s", KL_PRI(strict.messages[0]));
    FUZZ_CHECK(kl_value_equal(&once->root, &again->root), "%s", "pruned again");
    FUZZ_CHECK(!kl_default_object(a, type, &draft) && kl_value_equal(&draft, &defaulted->root),
               "%s", "defaulted again");
    kl_object_unref(once);
    kl_object_unref(again);
}

static void validate(struct kl_arena *a, const struct kl_crd_schema *s, const struct kl_object *now,
                     const struct kl_object *old)
{
    size_t n[2];
    for (int i = 0; i < 2; i++) {
        struct kl_findings f = {.arena = a}, warnings = {.arena = a};
        struct kl_crd_check c = {.now = &now->root,
                                 .old = old ? &old->root : NULL,
                                 .scale_spec_replicas = KL_STR(".spec.replicas"),
                                 .scale_status_replicas = KL_STR(".status.replicas"),
                                 .warnings = &warnings};
        int r = kl_crd_validate(&f, s, &c);
        FUZZ_CHECK(!r || r == KL_ENOMEM || r == KL_ELIMIT, "%d", r);
        n[i] = f.n;
    }
    FUZZ_CHECK(n[0] == n[1], "%zu findings, then %zu", n[0], n[1]);
}

static void apply(struct kl_arena *a, const struct kl_crd_schema *s, const struct kl_object *live,
                  const struct kl_value *config)
{
    struct kl_resource res = {.group = "g",
                              .version = "v1",
                              .plural = "ks",
                              .kind = "K",
                              .api_version = "g/v1",
                              .type = kl_crd_schema_type(s)};
    struct kl_managed_env env = {.arena = a, .res = &res, .manager = KL_STR("m")};
    struct kl_apply_result r;
    struct kl_error err;
    struct kl_value entries;
    kl_managed_update(&env, NULL, &live->root, NULL, &entries, &err);
    if (config->kind == KL_MAP)
        kl_managed_apply(&env, &live->root, config, true, &r, &err);
}

static void run_objects(struct kl_arena *a, const struct kl_value *v)
{
    struct kl_value schema;
    struct kl_crd_schema *s = NULL;
    struct kl_error err;
    if (kl_typed_from_untyped(a, kl_type(KL_TYPE_apiextensions_v1_JSONSchemaProps), at(v, "schema"),
                              NULL, &schema, &err))
        return;
    struct kl_crd_version from = {.group = KL_STR("g"),
                                  .version = KL_STR("v1"),
                                  .kind = KL_STR("K"),
                                  .list_kind = KL_STR("KList"),
                                  .schema = &schema};
    if (schema.kind != KL_STRUCT || kl_crd_schema_new(&from, &s, &err))
        return;
    const struct kl_type *type = kl_crd_schema_type(s);
    struct kl_object *now = freeze(a, type, at(v, "object"), NULL, true);
    struct kl_object *old = freeze(a, type, at(v, "old"), NULL, true);
    kl_crd_schema_unref(s); // the objects hold it
    if (now) {
        s = (struct kl_crd_schema *)(uintptr_t)kl_crd_of_type(now->type);
        check_stable(a, now->type, at(v, "object"), now);
        validate(a, s, now, old);
        apply(a, s, now, at(v, "object"));
    }
    kl_object_unref(now);
    kl_object_unref(old);
}

static void run_definition(struct kl_arena *a, const struct kl_value *v)
{
    const struct kl_type *type = kl_type(KL_TYPE_apiextensions_v1_CustomResourceDefinition);
    struct kl_object *now = freeze(a, type, at(v, "now"), NULL, true);
    struct kl_object *old = freeze(a, type, at(v, "old"), NULL, true);
    struct kl_findings f = {.arena = a};
    if (now) {
        int r = kl_crd_definition_validate(&f, &now->root, old ? &old->root : NULL);
        FUZZ_CHECK(!r || r == KL_ENOMEM || r == KL_ELIMIT, "%d", r);
    }
    kl_object_unref(now);
    kl_object_unref(old);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_arena a;
    struct kl_value v;
    struct kl_jsonpath *p;
    kl_arena_init(&a, ARENA_BYTES);
    if (size < 65536 &&
        !kl_json_parse(&a, (struct kl_str){(const char *)data, size}, NULL, &v, NULL)) {
        if (at(&v, "path") && !kl_jsonpath_parse(&a, kl_text(at(&v, "path")), &p, NULL)) {
            const struct kl_value *const *found;
            size_t n;
            if (!kl_jsonpath_find(p, &a, &v, &found, &n, NULL))
                FUZZ_CHECK(n <= KL_JSONPATH_RESULTS_MAX, "%zu", n);
        }
        if (at(&v, "schema"))
            run_objects(&a, &v);
        if (at(&v, "now"))
            run_definition(&a, &v);
    }
    kl_arena_fini(&a);
    return 0;
}
