// SPDX-License-Identifier: Apache-2.0
// Randomness from the kernel.
#pragma once
#include <stddef.h>
#include <stdint.h>

void kl_rand_bytes(void *p, size_t n); // aborts when the kernel refuses
uint64_t kl_rand_u64(void);
void kl_uuid(char ret[37]); // RFC 4122 version 4, lower case
// n characters of Kubernetes' alphabet bcdfghjklmnpqrstvwxz2456789 and a NUL (apimachinery
// rand.String)
void kl_rand_name(char *ret, size_t n);
