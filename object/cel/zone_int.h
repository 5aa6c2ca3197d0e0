// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/str.h"

// Seconds east of UTC of a zone of the IANA database at a time. False: there is no such zone.
bool cel_zone_offset(struct kl_str name, int64_t seconds, int64_t *ret_offset);
