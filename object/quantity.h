// SPDX-License-Identifier: Apache-2.0
// resource.Quantity (apimachinery): exact decimal with suffix; parse, canonical text, arithmetic.
#pragma once
#include "base/arena.h"
#include "base/err.h"

struct kl_quantity {
    __int128 nano;  // value in 10^-9, exact within Quantity's range; larger values saturate
    uint8_t format; // 0 DecimalSI, 1 BinarySI, 2 DecimalExponent
};

// Parses as ParseQuantity does; the error text is upstream's. Values below 1n round up.
int kl_quantity_parse(struct kl_str s, struct kl_quantity *ret, struct kl_error *err);
// What upstream prints for a quantity read from this text: the text itself where ParseQuantity
// keeps it ("1.500" stays), else the canonical form ("1.5" gives "1500m"); also exact beyond the
// range of `nano`. *ret refers to s, a constant or the arena. Callers that read JSON trim white
// space before.
int kl_quantity_normalize(struct kl_arena *a, struct kl_str s, struct kl_str *ret,
                          struct kl_error *err);
// Canonical form ("1500m", "64Mi", "1e3"); at most KL_QUANTITY_TEXT bytes with the NUL.
#define KL_QUANTITY_TEXT 48
size_t kl_quantity_text(const struct kl_quantity *q, char ret[KL_QUANTITY_TEXT]);
int kl_quantity_cmp(const struct kl_quantity *a, const struct kl_quantity *b);
int64_t kl_quantity_value(const struct kl_quantity *q); // rounded up to whole units
int64_t kl_quantity_milli(const struct kl_quantity *q); // rounded up to thousandths
void kl_quantity_add(struct kl_quantity *a, const struct kl_quantity *b);
void kl_quantity_sub(struct kl_quantity *a, const struct kl_quantity *b);
// Reads a canonical text of a value; 0 when NULL.
int64_t kl_quantity_milli_of(struct kl_str s);
int64_t kl_quantity_value_of(struct kl_str s);
