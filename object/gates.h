// SPDX-License-Identifier: Apache-2.0
// The feature gates of one server: which of object/schema/gates.json are on. Plain data, set before
// it serves.
#pragma once
#include "base/err.h"
#include "object/schema.h"

enum { KL_GATE_ROWS_MAX = 512 };

struct kl_gate_set {
    uint64_t on[KL_GATE_ROWS_MAX / 64]; // by row of kl_gates
    bool changed;                       // something is not as it is by default
};

void kl_gate_set_default(struct kl_gate_set *s);
// NAME=BOOL of --feature-gates on top of what is set; NULL-ended or NULL; `kube:` before a name is
// its component. AllAlpha and AllBeta first, whatever the order. KL_EINVALID in upstream's words:
// `unrecognized feature gate: X`, `cannot set feature gate X to false, feature is locked to true`,
// `X is enabled, but depends on features that are disabled: [Y]`.
int kl_gate_set_parse(struct kl_gate_set *s, const char *const *list, struct kl_error *err);
// row: an index into kl_gates.
static inline bool kl_gate_on(const struct kl_gate_set *s, uint16_t row)
{
    return s->on[row / 64] >> (row % 64) & 1;
}
// By name, for what is asked once; false for what is no gate.
bool kl_gate_named_on(const struct kl_gate_set *s, const char *name);
