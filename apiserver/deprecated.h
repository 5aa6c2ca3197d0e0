// SPDX-License-Identifier: Apache-2.0
// Kinds that are served and should not be used any more: a warning with each answer, an annotation
// of the audit event, a gauge that says which were asked for.
#pragma once
#include "apiserver/server_int.h"
#include "base/buf.h"

// A request that was authorised; r->info.res is set.
void kl_deprecated_note(struct kl_req *r);
// apiserver_requested_deprecated_apis. Any thread.
void kl_deprecated_metrics(struct kl_apiserver *s, struct kl_buf *b);
