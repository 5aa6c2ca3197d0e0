// SPDX-License-Identifier: Apache-2.0
// resource.k8s.io/v1beta1, whose requests have the fields of `exactly` themselves and whose devices
// have theirs in `basic` (pkg/apis/resource/v1beta1/conversion.go).
#include "object/convert_int.h"
#include "object/schema.h"
#include "object/types_gen.h"

// What Go does not tell from unset; drafts may have it.
static bool is_zero(const struct kl_value *v)
{
    return v->kind == KL_NULL || (v->kind == KL_INT && !v->i) || (v->kind >= KL_STRING && !v->n);
}

// Takes the members that belong to `type` from the item into its member `sub`.
static int pack(struct kl_arena *a, struct kl_value *item, kl_sym sub, const struct kl_type *type,
                bool always)
{
    struct kl_value packed = kl_new_struct();
    bool any = always;
    for (uint16_t i = 0; i < type->nfields; i++) {
        kl_sym f = type->fields[i].sym;
        const struct kl_value *v = kl_get(item, f);
        any |= v && !is_zero(v);
        if (v && (kl_set(a, &packed, f, *v) || kl_unset(a, item, f)))
            return KL_ENOMEM;
    }
    return any ? kl_set(a, item, sub, packed) : 0;
}

// The other way.
static int unpack(struct kl_arena *a, struct kl_value *item, kl_sym sub)
{
    const struct kl_value *from = kl_get(item, sub);
    if (!from)
        return 0;
    const struct kl_value packed = *from;
    if (kl_unset(a, item, sub))
        return KL_ENOMEM;
    for (KL_EACH(m, &packed))
        if (kl_set(a, item, m->sym, *m))
            return KL_ENOMEM;
    return 0;
}

int kl_convert_devices(struct kl_arena *a, const char *kind, bool to_v1beta1,
                       const struct kl_value *in, struct kl_value *ret)
{
    bool slice = strcmp(kind, "ResourceSlice") == 0;
    bool template = strcmp(kind, "ResourceClaimTemplate") == 0;
    const kl_sym path[] = {KL_F_spec, template ? KL_F_spec : KL_F_devices,
                           template ? KL_F_devices : KL_F_requests, KL_F_requests};
    size_t depth = slice ? 2 : template ? 4 : 3;
    const struct kl_type *type = kl_type(slice ? KL_TYPE_resource_v1beta1_BasicDevice
                                               : KL_TYPE_resource_v1_ExactDeviceRequest);
    kl_sym sub = slice ? KL_F_basic : KL_F_exactly;
    struct kl_value *at = ret;
    *ret = *in;
    ret->owned = 0;
    if (!kl_len(kl_path_list(in, path, depth)))
        return 0;
    for (size_t i = 0; i < depth; i++)
        at = kl_edit(a, at, path[i], i + 1 < depth ? KL_STRUCT : KL_ARRAY);
    for (size_t i = 0; at && i < kl_len(at); i++) {
        struct kl_value *item = kl_edit_at(a, at, i);
        int rc = !item                 ? KL_ENOMEM
                 : slice == to_v1beta1 ? pack(a, item, sub, type, slice)
                                       : unpack(a, item, sub);
        if (rc)
            return rc;
    }
    return at ? 0 : KL_ENOMEM;
}
