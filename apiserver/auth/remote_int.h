// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "apiserver/auth/ask.h"
#include "apiserver/auth/exec.h"
#include "net/tls.h"
#include <stdatomic.h>

struct kl_remote {
    atomic_uint refs;
    char *url, *host, *target, *authorization;
    int port;
    bool plain;
    struct kl_tls_ctx *tls;
    struct kl_exec *exec; // NULL: none; else credentials and TLS (NULL: plain) are its
    struct kl_exec_tls *exec_tls;
};
