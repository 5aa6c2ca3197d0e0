// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/str.h"

bool cel_is_reserved(struct kl_str s); // a word that no identifier can be
