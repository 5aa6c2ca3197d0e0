// SPDX-License-Identifier: Apache-2.0
// The hash under a key of the caller's choosing, so that tests can check it against known vectors.
#pragma once
#include "base/str.h"

uint64_t kl_siphash13(const uint64_t key[2], struct kl_str s);
