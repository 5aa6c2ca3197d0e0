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
// A phase is over with rc (nothing happens while it waits): what comes of the draft once all have
// changed it. The phase's answer.
int kl_admit_end(struct kl_admit *ad, bool validating, int rc);
// The time of policies and webhooks, which are no functions of the table.
void kl_admit_count_stage(struct kl_admit *ad, enum kl_admit_stage stage, bool validating,
                          bool rejected, int64_t began_ns);
