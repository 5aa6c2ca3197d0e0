// SPDX-License-Identifier: Apache-2.0
// Texts as Go's fmt writes them, for messages that must be upstream's.
#pragma once
#include "base/buf.h"

// strconv.Quote, as "%q" gives: "a\tb".
void kl_go_quote(struct kl_buf *out, struct kl_str s);
