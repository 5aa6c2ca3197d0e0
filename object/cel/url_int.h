// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "object/cel/value_int.h"

// url.ParseRequestURI, and with `ret` url.Parse as well. NULL or Go's whole message.
const char *cel_url_parse(struct kl_arena *a, struct kl_str s, struct cel_url *ret);
