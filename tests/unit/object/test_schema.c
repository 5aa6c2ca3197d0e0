// SPDX-License-Identifier: Apache-2.0
// The generated tables and the look-ups in them.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "object/resource.h"

static void test_every_name(void **state)
{
    size_t fields = 0;
    for (uint16_t i = 0; i < kl_ntypes; i++) {
        const struct kl_type *t = kl_types[i];
        assert_ptr_equal(kl_type_by_name(kl_str(t->name)), t);
        for (uint16_t j = 0; j < t->nfields; j++) {
            const struct kl_field *f = &t->fields[j];
            struct kl_str name = kl_sym_name(f->sym);
            assert_true(name.n > 0);
            assert_int_equal(kl_sym_find(name), f->sym);
            assert_ptr_equal(kl_type_field(t, f->sym), f);
            assert_ptr_equal(kl_type_field_named(t, name), f);
            if (j) {
                struct kl_str a = kl_sym_name(t->fields[t->by_name[j - 1]].sym);
                assert_true(kl_str_cmp(a, kl_sym_name(t->fields[t->by_name[j]].sym)) < 0);
            }
            fields++;
        }
        assert_null(kl_type_field_named(t, KL_STR("no such field")));
        assert_null(kl_type_field_named(t, KL_STR("")));
    }
    assert_int_equal(kl_ntypes, 838);
    assert_true(fields >= 3430);
    assert_null(kl_type_by_name(KL_STR("io.k8s.api.core.v1.Po")));
    assert_int_equal(kl_sym_find(KL_STR("noSuchField")), KL_SYM_NONE);
    assert_int_equal(kl_sym_name(1u << 23).n, 0);
}

static void test_facts(void **state)
{
    const struct kl_type *spec = kl_type(KL_TYPE_core_v1_PodSpec);
    const struct kl_field *f = kl_type_field(spec, KL_F_containers);
    assert_int_equal(f->type->kind, KL_T_ARRAY);
    assert_string_equal(f->type->elem->name, "io.k8s.api.core.v1.Container");
    assert_int_equal(f->pb, 2);
    assert_int_equal(f->pb_type, KL_PB_MESSAGE);
    assert_int_equal(f->list_type, KL_LIST_MAP);
    assert_int_equal(f->list_map_keys[0], KL_F_name);
    assert_int_equal(f->list_map_keys[1], 0);
    assert_int_equal(f->merge_key, KL_F_name);
    assert_true((f->flags & KL_FIELD_PATCH_MERGE) && (f->flags & KL_FIELD_EMIT_ALWAYS));
    f = kl_type_field(kl_type(KL_TYPE_core_v1_Volume), KL_F_hostPath);
    assert_true(f->flags & KL_FIELD_INLINE_PB);
    assert_int_equal(f->pb_in[0], 2);
    assert_int_equal(f->pb_in[1], 0);
    f = kl_type_field(kl_type(KL_TYPE_core_v1_ContainerPort), KL_F_protocol);
    assert_string_equal(f->default_json, "\"TCP\"");
    assert_string_equal(f->values[0], "SCTP");
    assert_true(f->flags & KL_FIELD_ENUM_CLOSED);
    f = kl_type_field(kl_type(KL_TYPE_core_v1_ResourceRequirements), KL_F_limits);
    assert_int_equal(f->type->kind, KL_T_MAP);
    assert_int_equal(f->type->elem->kind, KL_T_QUANTITY);
    assert_int_equal(f->pb_type, KL_PB_MAP);
    // Wire numbers rise, those of inlined messages by the outermost.
    const struct kl_type *pv = kl_type(KL_TYPE_core_v1_PersistentVolumeSpec);
    int last = 0;
    for (uint16_t i = 0; i < pv->nfields; i++) {
        f = &pv->fields[pv->by_pb[i]];
        int outer = f->flags & KL_FIELD_INLINE_PB ? f->pb_in[0] : f->pb;
        assert_true(outer >= last);
        last = outer;
    }
    bool found = false;
    for (uint16_t i = 0; i < kl_ngates; i++)
        found |= strcmp(kl_gates[i].name, "InPlacePodVerticalScaling") == 0;
    assert_true(found);
}

static void test_resources(void **state)
{
    const struct kl_resource *r =
        kl_resource_find(KL_STR("apps"), KL_STR("v1"), KL_STR("deployments"));
    assert_ptr_equal(r, kl_res(KL_RES_apps_v1_deployments));
    assert_string_equal(r->api_version, "apps/v1");
    assert_string_equal(r->etcd_prefix, "/registry/deployments");
    assert_string_equal(r->storage_hash, "8aSe+NMegvE=");
    assert_string_equal(r->short_names[0], "deploy");
    assert_ptr_equal(r->type, kl_type(KL_TYPE_apps_v1_Deployment));
    assert_ptr_equal(r->list_type, kl_type(KL_TYPE_apps_v1_DeploymentList));
    assert_true(r->namespaced && r->enabled && r->preferred && !r->json_in_store);
    const struct kl_subresource *s = kl_resource_sub(r, KL_STR("scale"));
    assert_string_equal(s->kind, "Scale");
    assert_int_equal(s->verbs, KL_VERB_BIT(KL_VERB_GET) | KL_VERB_BIT(KL_VERB_UPDATE) |
                                   KL_VERB_BIT(KL_VERB_PATCH));
    assert_null(kl_resource_sub(r, KL_STR("exec")));
    assert_ptr_equal(kl_resource_by_kind(KL_STR(""), KL_STR("v1"), KL_STR("Pod")),
                     kl_res(KL_RES_core_v1_pods));
    assert_string_equal(kl_res(KL_RES_core_v1_pods)->api_version, "v1");
    // Not served by default: there is a row, but it is not found.
    assert_null(kl_resource_find(KL_STR("certificates.k8s.io"), KL_STR("v1alpha1"),
                                 KL_STR("clustertrustbundles")));
    const struct kl_resource *hpa =
        kl_resource_find(KL_STR("autoscaling"), KL_STR("v1"), KL_STR("horizontalpodautoscalers"));
    assert_string_equal(kl_resource_storage(hpa)->version, hpa->storage_version);
    size_t enabled = 0;
    for (uint16_t i = 0; i < kl_nresources; i++) {
        assert_int_equal(kl_resources[i].index, i);
        enabled += kl_resources[i].enabled;
        if (kl_resources[i].enabled)
            assert_non_null(kl_resource_storage(&kl_resources[i])->type);
    }
    assert_int_equal(enabled, 68);
    assert_int_equal(kl_ngroups, 23);
    assert_ptr_equal(kl_type_by_kind(KL_STR(""), KL_STR("v1"), KL_STR("PodList")),
                     kl_type(KL_TYPE_core_v1_PodList));
    assert_ptr_equal(kl_type_by_kind(KL_STR("apps"), KL_STR("v1"), KL_STR("DeleteOptions")),
                     kl_type(KL_TYPE_meta_v1_DeleteOptions));
    assert_null(kl_type_by_kind(KL_STR("apps"), KL_STR("v1"), KL_STR("Pod")));
}

enum { THREADS = 4, NAMES = 3000 };

static void *intern_all(void *arg)
{
    uint32_t *syms = arg;
    for (int i = 0; i < NAMES; i++) {
        char name[40];
        int n = snprintf(name, sizeof(name), "dynamicField%d", i);
        syms[i] = kl_sym_intern((struct kl_str){name, (size_t)n});
        struct kl_str back = kl_sym_name(syms[i]);
        if (back.n != (size_t)n || memcmp(back.p, name, back.n) != 0)
            syms[i] = 0;
    }
    return NULL;
}

// Threads that intern the same names get the same symbols, and read them without a lock.
static void test_interning(void **state)
{
    static uint32_t syms[THREADS][NAMES];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, intern_all, syms[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < NAMES; i++) {
        assert_true(syms[0][i] >= KL_SYM_BUILTIN_END);
        for (int t = 1; t < THREADS; t++)
            assert_int_equal(syms[t][i], syms[0][i]);
    }
    assert_int_equal(kl_sym_intern(KL_STR("metadata")), KL_F_metadata);
    assert_int_equal(kl_sym_find(KL_STR("dynamicField7")), syms[0][7]);
    assert_int_equal(kl_sym_find(KL_STR("dynamicField")), KL_SYM_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_name),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_resources),
        cmocka_unit_test(test_interning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
