// SPDX-License-Identifier: Apache-2.0
// Whether a certificate and a key belong together (crypto/tls.X509KeyPair): what the registry asks
// of Secrets of TLS.
#pragma once
#include "base/arena.h"

// kl_warnings.bad_pair: NULL when they do, else why not in Go's words, in the arena or constant.
// What exactly is wrong with a certificate that cannot be read is not told apart. Any thread.
const char *kl_tls_pair_bad(struct kl_arena *a, struct kl_str cert, struct kl_str key);
