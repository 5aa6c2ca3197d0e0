// SPDX-License-Identifier: Apache-2.0
// ConversionReview of apiextensions.k8s.io/v1 and v1beta1: what a conversion webhook is asked, and
// what of its answer may be believed (apiextensions-apiserver pkg/apiserver/conversion). Pure; any
// thread.
#pragma once
#include "base/buf.h"
#include "object/json.h"
#include "object/value.h"

// The first of spec.conversion.webhook.conversionReviewVersions that is known.
enum kl_conversion_review { KL_REVIEW_NONE, KL_REVIEW_V1, KL_REVIEW_V1BETA1 };

// What upstream counts failures by (conversion_webhook_..._failure); in this order in metrics.
enum kl_conversion_failure {
    KL_CONVERSION_OK,
    KL_CONVERSION_CALL,      // no answer, or none that can be read
    KL_CONVERSION_MALFORMED, // the answer refuses, or is no answer to this question
    KL_CONVERSION_PARTIAL,   // not as many objects as were sent
    KL_CONVERSION_INVALID,   // an object that cannot be what was sent
};

// The text in front of the objects, which follow with commas between them, and behind them.
void kl_conversion_begin(struct kl_buf *out, enum kl_conversion_review v, struct kl_str uid,
                         struct kl_str desired);
void kl_conversion_end(struct kl_buf *out);

// What was asked, for messages and checks.
struct kl_conversion_ask {
    enum kl_conversion_review review;
    struct kl_str uid;
    struct kl_str desired; // apiVersion
    struct kl_str of;      // "example.com/v1, Kind=Widget"; of a list its own
    size_t n;              // objects that were sent
    bool list;             // messages name the index
};

// The objects of an answer (an untyped array with ask->n elements) in the arena; what they refer
// to is `body`. 0; else err has upstream's words and *ret_failure says what it counts as.
int kl_conversion_read(struct kl_arena *a, const struct kl_conversion_ask *ask, struct kl_str body,
                       const struct kl_value **ret_objects, enum kl_conversion_failure *ret_failure,
                       struct kl_error *err);
// One of them against what was sent (untyped roots): it is of the desired version and the same
// kind, name, namespace and uid; its metadata becomes that of `was` but for labels and annotations.
// *now is changed in place; it may then refer to `was`. KL_EINVALID with upstream's words.
int kl_conversion_take(struct kl_arena *a, const struct kl_conversion_ask *ask, size_t index,
                       const struct kl_value *was, struct kl_value *now, struct kl_error *err);
