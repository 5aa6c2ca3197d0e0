// SPDX-License-Identifier: Apache-2.0
// Bytes sealed with a secret that people choose: the key is derived by scrypt (RFC 7914), the
// sealing is AES-256-GCM. Whoever reads the datastore has to guess the secret, at the price of one
// scrypt for each guess, and cannot change a byte unnoticed.
#pragma once
#include "base/buf.h"
#include "base/err.h"

// Appends the sealed form to out. Blocking: some tens of milliseconds.
int kl_seal(struct kl_str secret, struct kl_str plain, struct kl_buf *out, struct kl_error *err);
// Appends the plain bytes to out, which the caller wipes. KL_EUNAUTHORIZED: another secret, or
// changed bytes; KL_EUNSUPPORTED: a later format; KL_ECORRUPT: no sealed bytes.
int kl_unseal(struct kl_str secret, struct kl_str sealed, struct kl_buf *out, struct kl_error *err);
