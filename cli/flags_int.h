// SPDX-License-Identifier: Apache-2.0
// What flags.c (where values come from) and flags_value.c (what they are) share.
#pragma once
#include "cli/flags.h"

enum kl_flag_source { KL_FROM_DEFAULT = 1, KL_FROM_FILE, KL_FROM_ENV, KL_FROM_ARGV };

struct kl_flag_run {
    const struct kl_flag_parse *o;
    uint8_t *set_by; // who set each flag last: lists of a stronger source replace those of a weaker
    struct kl_error *err;
};

// A flag and where its value goes.
struct kl_flag_at {
    const struct kl_flag *flag;
    void *options;
    size_t index; // over all tables
};

// Reads the value, whose text lives as long as the options. first: the first of its source, so that
// a list begins anew. KL_EINVALID says what is wrong with it.
int kl_flag_set(struct kl_flag_run *p, const struct kl_flag_at *at, struct kl_str text, bool first);
