// SPDX-License-Identifier: Apache-2.0
// What OpenAPI documents show of custom resources: the seam of apiserver/openapi/openapi.h.
#include "apiserver/openapi/openapi.h"
#include "apiserver/crd/crd.h"

static void each(void *arg, struct kl_api_loop *al, struct kl_str group, struct kl_str version,
                 void (*row)(void *row_arg, const struct kl_openapi_custom *c), void *row_arg)
{
    struct kl_arena a;
    size_t n;
    (void)arg;
    kl_arena_init(&a, KL_MAX_ARENA_BYTES);
    struct kl_crd_row *rows = kl_crds_rows(al, &a, group, &n);
    for (size_t i = 0; i < n; i++) {
        if (group.p && version.p && !kl_str_eqz(version, rows[i].res->version))
            continue;
        struct kl_openapi_custom c = {.res = rows[i].res,
                                      .list_kind = rows[i].res->custom->list_kind,
                                      .selectable = kl_str(rows[i].res->custom->fields_json),
                                      .keep = rows[i].kv};
        row(row_arg, &c);
    }
    kl_arena_fini(&a);
}

static int schema(void *arg, const struct kl_openapi_custom *c, struct kl_buf *out)
{
    struct kl_error err = {0};
    struct kl_object *o =
        kl_cache_object(c->keep, kl_res(KL_RES_apiextensions_v1_customresourcedefinitions), &err);
    (void)arg;
    if (!o)
        return KL_ENOMEM;
    for (KL_EACH(v, kl_path(&o->root, KL_F_spec, KL_F_versions))) {
        const struct kl_value *s = kl_path(v, KL_F_schema, KL_F_openAPIV3Schema);
        if (s && kl_str_eqz(kl_text(kl_get(v, KL_F_name)), c->res->version))
            kl_json_encode(out, kl_type(KL_TYPE_apiextensions_v1_JSONSchemaProps), s, KL_STR(""));
    }
    return out->err;
}

static void ref(void *arg, void *keep)
{
    (void)arg;
    kl_kv_ref(keep);
}

static void unref(void *arg, void *keep)
{
    (void)arg;
    kl_kv_unref(keep);
}

static uint64_t stamp(void *arg, struct kl_api_loop *al, struct kl_str group, struct kl_str version)
{
    const struct kl_crd *crd;
    struct kl_kv *kv;
    uint64_t sum = 0;
    (void)arg;
    for (size_t it = 0; al->crds && kl_crds_next(al, &it, &kv, &crd);)
        if (crd->plain && (!group.p || (kl_str_eqz(group, crd->plain->rows[0].group) &&
                                        kl_custom_row(crd->plain, version))))
            sum += crd->stamp; // of all, in whatever order
    return sum;
}

static const struct kl_openapi_source source = {
    .each = each, .schema = schema, .ref = ref, .unref = unref, .stamp = stamp};

void kl_crd_openapi_init(struct kl_apiserver *s)
{
    kl_openapi_set_source(s, &source);
}
