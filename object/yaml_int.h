// SPDX-License-Identifier: Apache-2.0
// Shared by the reader and the writer of YAML.
#pragma once
#include "object/yaml.h"

// The value of a scalar. `implicit`: written plainly, so that its text decides. KL_EBADREQUEST.
int kl_yaml_resolve(struct kl_arena *a, const char *tag, struct kl_str text, bool implicit,
                    struct kl_value *ret, struct kl_error *err);
// Whether a string stays a string when it is written without quotes.
bool kl_yaml_is_plain(struct kl_str s);
// Go's strconv.FormatFloat(d, 'g', -1, 64 or 32): the fewest digits that read back.
size_t kl_yaml_float_text(double d, bool single, char ret[64]);
