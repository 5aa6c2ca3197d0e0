// SPDX-License-Identifier: Apache-2.0
// What an untyped value is in encoding/json's words, which its errors show.
#pragma once
#include "object/value.h"

// "object", "array", "string", "number", "bool" or "null".
const char *kl_json_kind(const struct kl_value *v);
