// SPDX-License-Identifier: Apache-2.0
// CRC-32C (RFC 3720) for what lies on the disk or comes over the wire, and a 64-bit sum for the
// chain of entries and the hash of the state. Both are part of the formats; neither is a
// cryptographic hash: peers are authenticated by TLS.
#pragma once
#include <stddef.h>
#include <stdint.h>

uint32_t kl_crc32c(uint32_t seed, const void *p, size_t n);
uint64_t kl_sum64(uint64_t seed, const void *p, size_t n);
