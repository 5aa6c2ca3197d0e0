// SPDX-License-Identifier: Apache-2.0
// How Go's fmt shows values: what upstream's error texts are made of.
#pragma once
#include "object/gotext.h"
#include "object/value.h"

// "%v" of an untyped value: map[a:1 b:[x y]], <nil>.
void kl_go_print(struct kl_buf *out, const struct kl_value *v);
// "%s" of an untyped value: strings as they are, others in fmt's complaint (%!s(int64=1)).
void kl_go_print_s(struct kl_buf *out, const struct kl_value *v);
// "%s" of its reflect.TypeOf: string, int64, map[string]interface {}; of nothing %!s(<nil>).
const char *kl_go_value_type(const struct kl_value *v);
// Both keep a message within what struct kl_error holds.
enum { KL_GO_TEXT_MAX_BYTES = 4096 };
