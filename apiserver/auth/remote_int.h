// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "apiserver/auth/ask.h"
#include "net/tls.h"
#include <stdatomic.h>

struct kl_remote {
    atomic_uint refs;
    char *url, *host, *target, *authorization;
    int port;
    bool plain;
    struct kl_tls_ctx *tls;
};
