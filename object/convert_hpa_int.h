// SPDX-License-Identifier: Apache-2.0
// What both directions of the HorizontalPodAutoscaler's conversion share.
#pragma once
#include "object/convert_int.h"
#include "object/json.h"

// The annotations that hold what autoscaling/v1 has no fields for.
extern const struct kl_str kl_hpa_metrics_note, kl_hpa_behavior_note, kl_hpa_statuses_note,
    kl_hpa_conditions_note;

// How a field of v1's flat metric types is written.
enum kl_hpa_part_kind {
    KL_HPA_TEXT, // always
    KL_HPA_REFERENCE,
    KL_HPA_QUANTITY, // always: "0" when v2 has none
    KL_HPA_QUANTITY_OR_NONE,
    KL_HPA_INTEGER_OR_NONE,
    KL_HPA_SELECTOR_OR_NONE,
};

// A field of v1 and where v2 has it.
struct kl_hpa_part {
    struct kl_str name;
    enum kl_hpa_part_kind kind;
    uint32_t outer, inner; // v2's outer.inner; inner 0: v2's outer itself
};

#define KL_HPA_PARTS 5
struct kl_hpa_shape {
    uint32_t field; // of a MetricSpec or MetricStatus
    struct kl_hpa_part parts[KL_HPA_PARTS];
};

#define KL_HPA_SHAPES 5
extern const struct kl_hpa_shape kl_hpa_sources[KL_HPA_SHAPES], kl_hpa_statuses[KL_HPA_SHAPES];

const struct kl_type *kl_hpa_field_type(enum kl_type_index of, uint32_t field);
// Takes the annotations above, and two of earlier versions, out of the object.
int kl_hpa_drop_notes(struct kl_arena *a, struct kl_value *root);
// metadata, and the parts of spec and status that both versions have.
int kl_hpa_copy_common(struct kl_arena *a, const struct kl_value *in, struct kl_value *root,
                       struct kl_value *spec, struct kl_value *status);
int kl_hpa_join(struct kl_arena *a, struct kl_value *root, struct kl_value spec,
                struct kl_value status);
