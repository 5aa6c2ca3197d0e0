// SPDX-License-Identifier: Apache-2.0
// What the server asks of the machine it runs on.
#pragma once
#include "base/arena.h"
#include "base/err.h"

// The IPv4 address that others reach this machine at: of the default route's interface, else of the
// first interface that is up, else 127.0.0.1.
const char *kl_machine_address(struct kl_arena *a);
// `given`, or the host name, as a lower-case DNS-1123 subdomain. KL_EINVALID when it is none.
int kl_machine_node_name(const char *given, char *ret, size_t n, struct kl_error *err);
// Ranges of Services, "10.43.0.0/16" or "fd00::/108,10.43.0.0/16": one, or one of each family, the
// first of the family of the address that the server tells others (NULL: it has none). With
// upstream's words about --FLAG: KL_EINVALID, or KL_EUNSUPPORTED when each is a range, but they do
// not go together.
int kl_service_ranges_check(const char *cidrs, const char *flag, const char *advertise,
                            struct kl_error *err);
// The n-th address of the first range; NULL when the text is no range or too small.
const char *kl_nth_address(struct kl_arena *a, const char *cidr, unsigned n);
// The first /24 of a cluster range, or the range itself when it is smaller; NULL when it is none.
const char *kl_first_node_cidr(struct kl_arena *a, const char *cidr);
// Makes base and every part of rel below it, mode 0700.
int kl_make_dirs(struct kl_arena *a, const char *base, const char *rel, struct kl_error *err);
// --memory-budget: a quantity of bytes; "0" is no limit, NULL a quarter of the memory that there is
// for this process, at most 2 GiB.
int kl_memory_budget(const char *text, int64_t *ret, struct kl_error *err);
// sd_notify(3) without its library; nothing when systemd did not start us.
void kl_notify_systemd(const char *state);
