// SPDX-License-Identifier: Apache-2.0
// The server's side of `kinglet certificate`: the keys of apiserver/auth/revoke.h.
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "store/store.h"

// GET: lists as lines "KIND SECONDS NAME". POST: revokes `who`, "user/NAME" or "serial/HEX".
// DELETE: what was revoked under that name is good again; KL_ENOTFOUND. Blocks; not on a loop.
int kl_revoke_command(struct kl_store *s, struct kl_str method, const char *who,
                      struct kl_buf *answer, struct kl_error *err);
