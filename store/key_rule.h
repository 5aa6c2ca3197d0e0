// SPDX-License-Identifier: Apache-2.0
// Which keys the tables of a datastore hold. Ours take any bytes; those that kine made keep its
// column of text, so that the way back stays open.
#pragma once
#include "base/err.h"
#include "base/str.h"

enum kl_key_text {
    KL_KEY_BYTES,  // anything
    KL_KEY_NO_NUL, // any byte but 0
    KL_KEY_ASCII,  // 0 to 127
    KL_KEY_UTF8,   // UTF-8 without U+0000
};

struct kl_key_rule {
    size_t max_bytes; // 0: any length
    enum kl_key_text text;
};

// KL_ETOOLARGE, KL_EBADREQUEST: one sentence. For keys that are to be stored.
int kl_key_rule_check(const struct kl_key_rule *rule, struct kl_str key, struct kl_error *err);

// The smallest key of the rule that is not less than `bound`, into `out` of at least bound.n + 4
// bytes: the same for every comparison with keys of the rule. Returns its length, or -1 when every
// key of the rule is less.
ptrdiff_t kl_key_rule_bound(const struct kl_key_rule *rule, struct kl_str bound, char *out);
