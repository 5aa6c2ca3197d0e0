// SPDX-License-Identifier: Apache-2.0
// A connection as a duplex: upgraded HTTP connections, plain sockets.
#pragma once
#include "net/conn_int.h"
#include "net/duplex.h"

// Takes the connection over from its protocol. `early`: bytes that were read already (copied).
// `gone` (may be NULL) is called once, when the socket is closed and its memory goes. KL_ENOMEM:
// nothing has changed.
int kl_conn_duplex_new(struct kl_conn *c, struct kl_str early, void (*gone)(void *arg),
                       void *gone_arg, struct kl_duplex **ret);
// More bytes that were read already, before anything is read from the socket.
int kl_conn_duplex_add_early(struct kl_duplex *d, struct kl_str early);
