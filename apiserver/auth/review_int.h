// SPDX-License-Identifier: Apache-2.0
// What the files of reviews share.
#pragma once
#include "apiserver/server_int.h"

// The question that was sent, with defaults. Negative: r->fail is set.
int kl_review_decode(struct kl_req *r, struct kl_value *ret);
void kl_review_answer(struct kl_req *r, struct kl_value v); // ends the request
void kl_review_rules(struct kl_req *r);
