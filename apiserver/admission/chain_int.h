// SPDX-License-Identifier: Apache-2.0
// The table of plug-ins, and what runs between its two halves.
#pragma once
#include "apiserver/admission/admission.h"

// Rows of the table that are no functions: policies and webhooks, which hooks.c runs.
enum kl_admit_stage {
    KL_STAGE_PLUGIN,
    KL_STAGE_MAP,
    KL_STAGE_MUTATING_WEBHOOKS,
    KL_STAGE_VAP,
    KL_STAGE_VALIDATING_WEBHOOKS,
};

struct kl_plugin {
    const char *name;
    int (*mutate)(struct kl_admit *ad);
    int (*validate)(struct kl_admit *ad);
    unsigned operations; // enum kl_admit_op
    bool default_on;
    bool last;                 // behind policies and webhooks
    enum kl_admit_stage stage; // of policies and webhooks
};

extern const struct kl_plugin kl_plugins[];
extern const size_t kl_nplugins;
bool kl_admit_is_on(const struct kl_admit *ad, enum kl_admit_stage stage);
// What comes of the draft once all have changed it: 0, or KL_ENOMEM with r->fail set.
int kl_admit_mutated(struct kl_admit *ad);
