// SPDX-License-Identifier: Apache-2.0
// Listening TCP sockets.
#pragma once
#include "base/err.h"

// A non-blocking listening socket. address: a literal one; NULL or "": every address, IPv6 and IPv4
// (dual stack). port 0: the kernel's choice. KL_EEXISTS: the address is in use.
int kl_listen_tcp(const char *address, int port, int *ret_fd, struct kl_error *err);
int kl_listen_port(int fd); // that it is bound to; 0 for other sockets
