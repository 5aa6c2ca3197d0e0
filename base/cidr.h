// SPDX-License-Identifier: Apache-2.0
// IPv4 ranges as "10.43.0.0/16".
#pragma once
#include <stdbool.h>
#include <stdint.h>

// The first address (host byte order, bits behind the prefix cleared) and the prefix's length, 8 to
// 30. False for anything else.
bool kl_cidr4_parse(const char *cidr, uint32_t *ret_base, int *ret_bits);
