// SPDX-License-Identifier: Apache-2.0
// Volumes, claims and their classes.
#include "object/table_int.h"

static const struct kl_value *spec_of(const struct kl_row *r, kl_sym field)
{
    return kl_path(r->root, KL_F_spec, field);
}

static bool annotated(const struct kl_row *r, struct kl_str key)
{
    return kl_text_is(kl_map_value(kl_meta_annotations(r->root), key), "true");
}

static void access_modes(struct kl_row *r, const struct kl_value *modes)
{
    static const struct {
        const char *mode, *text;
    } known[] = {{"ReadWriteOnce", "RWO"},
                 {"ReadOnlyMany", "ROX"},
                 {"ReadWriteMany", "RWX"},
                 {"ReadWriteOncePod", "RWOP"}};
    bool first = true;
    kl_cell_begin(r);
    for (size_t i = 0; i < KL_COUNT(known); i++) {
        bool found = false;
        for (KL_EACH(mode, modes))
            found = found || kl_text_is(mode, known[i].mode);
        if (!found)
            continue;
        kl_cell_put(r, first ? KL_STR("") : KL_STR(","));
        kl_cell_put(r, kl_str(known[i].text));
        first = false;
    }
    kl_cell_end(r);
}

static void storage_class(struct kl_row *r)
{
    const struct kl_value *beta = kl_map_value(kl_meta_annotations(r->root),
                                               KL_STR("volume.beta.kubernetes.io/storage-class"));
    kl_cell(r, kl_text(beta ? beta : spec_of(r, KL_F_storageClassName)));
}

static void phase(struct kl_row *r)
{
    kl_cell(r, kl_meta_deleting(r->root) ? KL_STR("Terminating")
                                         : kl_text_at(r->root, KL_F_status, KL_F_phase));
}

void kl_print_volume(struct kl_row *r)
{
    const struct kl_value *claim = spec_of(r, KL_F_claimRef);
    kl_cell_name(r);
    kl_cell_quantity(r, spec_of(r, KL_F_capacity), KL_STR("storage"));
    access_modes(r, spec_of(r, KL_F_accessModes));
    kl_cell(r, kl_text(spec_of(r, KL_F_persistentVolumeReclaimPolicy)));
    phase(r);
    kl_cell_begin(r);
    if (claim) {
        kl_cell_put(r, kl_text(kl_get(claim, KL_F_namespace)));
        kl_cell_puts(r, "/");
        kl_cell_put(r, kl_text(kl_get(claim, KL_F_name)));
    }
    kl_cell_end(r);
    storage_class(r);
    kl_cell_or(r, spec_of(r, KL_F_volumeAttributesClassName), "<unset>");
    kl_cell(r, kl_text_at(r->root, KL_F_status, KL_F_reason));
    kl_cell_age(r);
    kl_cell_or(r, spec_of(r, KL_F_volumeMode), "<unset>");
}

void kl_print_claim(struct kl_row *r)
{
    const struct kl_value *volume = spec_of(r, KL_F_volumeName);
    kl_cell_name(r);
    phase(r);
    kl_cell(r, kl_text(volume));
    if (kl_text(volume).n) {
        kl_cell_quantity(r, kl_path(r->root, KL_F_status, KL_F_capacity), KL_STR("storage"));
        access_modes(r, kl_path(r->root, KL_F_status, KL_F_accessModes));
    } else {
        kl_cell(r, KL_STR(""));
        kl_cell(r, KL_STR(""));
    }
    storage_class(r);
    kl_cell_or(r, spec_of(r, KL_F_volumeAttributesClassName), "<unset>");
    kl_cell_age(r);
    kl_cell_or(r, spec_of(r, KL_F_volumeMode), "<unset>");
}

void kl_print_storage_class(struct kl_row *r)
{
    bool is_default = annotated(r, KL_STR("storageclass.kubernetes.io/is-default-class")) ||
                      annotated(r, KL_STR("storageclass.beta.kubernetes.io/is-default-class"));
    kl_cell_begin(r);
    kl_cell_put(r, kl_meta_name(r->root));
    kl_cell_put(r, is_default ? KL_STR(" (default)") : KL_STR(""));
    kl_cell_end(r);
    kl_cell(r, kl_text(kl_get(r->root, KL_F_provisioner)));
    kl_cell_or(r, kl_get(r->root, KL_F_reclaimPolicy), "Delete");
    kl_cell_or(r, kl_get(r->root, KL_F_volumeBindingMode), "Immediate");
    kl_cell_bool(r, kl_is_true(kl_get(r->root, KL_F_allowVolumeExpansion)));
    kl_cell_age(r);
}

void kl_print_attributes_class(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell(r, kl_text(kl_get(r->root, KL_F_driverName)));
    kl_cell_age(r);
}

void kl_print_attachment(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell(r, kl_text(spec_of(r, KL_F_attacher)));
    kl_cell(r, kl_text_at(r->root, KL_F_spec, KL_F_source, KL_F_persistentVolumeName));
    kl_cell(r, kl_text(spec_of(r, KL_F_nodeName)));
    kl_cell_bool(r, kl_true_at(r->root, KL_F_status, KL_F_attached));
    kl_cell_age(r);
}

void kl_print_csi_node(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell_int(r, (int64_t)kl_len(spec_of(r, KL_F_drivers)));
    kl_cell_age(r);
}

void kl_print_csi_driver(struct kl_row *r)
{
    const struct kl_value *attach = spec_of(r, KL_F_attachRequired);
    const struct kl_value *tokens = spec_of(r, KL_F_tokenRequests);
    kl_cell_name(r);
    kl_cell_bool(r, !attach || kl_is_true(attach));
    kl_cell_bool(r, kl_is_true(spec_of(r, KL_F_podInfoOnMount)));
    kl_cell_bool(r, kl_is_true(spec_of(r, KL_F_storageCapacity)));
    kl_cell_begin(r);
    if (!tokens)
        kl_cell_puts(r, "<unset>");
    for (size_t i = 0; i < kl_len(tokens); i++) {
        kl_cell_put(r, i ? KL_STR(",") : KL_STR(""));
        kl_cell_put(r, kl_text(kl_get(&tokens->items[i], KL_F_audience)));
    }
    kl_cell_end(r);
    kl_cell_bool(r, kl_is_true(spec_of(r, KL_F_requiresRepublish)));
    kl_cell_list(r, spec_of(r, KL_F_volumeLifecycleModes), "<none>");
    kl_cell_age(r);
}
