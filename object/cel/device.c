// SPDX-License-Identifier: Apache-2.0
#include "object/cel/device.h"
#include "object/cel/env_int.h"

enum { // resource.k8s.io's limits, which make estimates finite
    DOMAIN_MAX = 63,
    ID_MAX = 32,
    DRIVER_MAX = 63,
    VALUE_MAX = 64,
    PER_DEVICE_MAX = 32,
};

static const struct kl_cel_decl *text(struct kl_cel_env *e, int64_t max)
{
    return kl_cel_decl_sized(e, kl_cel_decl_simple(e, KL_CEL_T_STRING), max);
}

// By domain, then by name.
static const struct kl_cel_decl *by_name(struct kl_cel_env *e, const struct kl_cel_decl *value)
{
    const struct kl_cel_decl *inner = kl_cel_decl_map_of(e, text(e, ID_MAX), value, PER_DEVICE_MAX);
    return kl_cel_decl_map_of(e, text(e, DOMAIN_MAX), inner, PER_DEVICE_MAX);
}

struct kl_cel_env *kl_cel_device_env(void)
{
    struct kl_cel_env *e = kl_cel_env_new(KL_CEL_BINDINGS);
    if (!e)
        return NULL;
    const struct kl_cel_decl *any =
        kl_cel_decl_sized(e, kl_cel_decl_simple(e, KL_CEL_T_ANY), VALUE_MAX);
    const struct kl_cel_field fields[] = {
        {KL_STR("allowMultipleAllocations"),
         kl_cel_decl_sized(e, kl_cel_decl_simple(e, KL_CEL_T_BOOL), 1)},
        {KL_STR("attributes"), by_name(e, any)},
        {KL_STR("capacity"), by_name(e, kl_cel_decl_simple(e, KL_CEL_T_QUANTITY))},
        {KL_STR("driver"), text(e, DRIVER_MAX)},
    };
    const struct kl_cel_decl *device = NULL;
    if (fields[0].decl && fields[1].decl && fields[2].decl && fields[3].decl)
        device = kl_cel_decl_object(e, KL_STR("kubernetes.DRADevice"), fields, KL_COUNT(fields));
    if (device)
        ((struct kl_cel_decl *)device)->flags |= DF_ROOT;
    if (device && kl_cel_env_var(e, KL_STR("device"), device) >= 0)
        return e;
    kl_cel_env_unref(e);
    return NULL;
}

int kl_cel_device_compile(struct kl_cel_env *e, struct kl_str expression, struct kl_arena *a,
                          struct kl_cel_program **ret, struct kl_str *ret_why)
{
    struct kl_cel_program *p = NULL;
    struct kl_str issues = KL_STR("");
    struct kl_error err = {0};
    int rc = kl_cel_compile(e, expression, a, &p, &issues, &err);
    if (rc == KL_EINVALID)
        *ret_why = kl_arena_printf(a, "compilation failed: %.*s", KL_PRI(issues));
    if (rc)
        return rc;
    struct kl_str type = kl_cel_program_type(p);
    if (!kl_str_eqz(type, "bool") && p->type->kind != T_ANY) {
        *ret_why =
            kl_arena_printf(a, "must evaluate to bool or the unknown type, not %.*s", KL_PRI(type));
        rc = KL_EINVALID;
    } else if (kl_cel_program_cost(p).max > KL_DEVICE_COST_MAX) {
        rc = KL_ELIMIT;
    }
    if (rc)
        kl_cel_program_unref(p);
    else
        *ret = p;
    return rc;
}
