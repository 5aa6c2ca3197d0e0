// SPDX-License-Identifier: Apache-2.0
// Between grpc_server.c and grpc_out.c.
#pragma once
#include "net/grpc_server.h"

// The message's slices, prefix included. NULL when it failed.
struct kl_http_chunk *kl_grpc_out_end(struct kl_grpc_out *o, uint32_t *ret_n);
