// SPDX-License-Identifier: Apache-2.0
// Upstream's name formats and their messages (apimachinery util/validation).
#pragma once
#include "base/arena.h"

// Each returns NULL when valid, else upstream's message (constant or in the arena).
const char *kl_name_dns1123_label(struct kl_str s);
const char *kl_name_dns1123_subdomain(struct kl_str s);
const char *kl_name_dns1035_label(struct kl_str s);
const char *kl_name_path_segment(struct kl_str s);
const char *kl_name_qualified(struct kl_arena *a, struct kl_str s); // label and annotation keys
const char *kl_name_label_value(struct kl_str s);
