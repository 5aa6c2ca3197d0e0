// SPDX-License-Identifier: Apache-2.0
#include "base/cidr.h"
#include "base/str.h"
#include <arpa/inet.h>

bool kl_cidr4_parse(const char *cidr, uint32_t *ret_base, int *ret_bits)
{
    char text[INET_ADDRSTRLEN];
    const char *slash = strchr(cidr, '/');
    struct in_addr in;
    int64_t bits;
    if (!slash || (size_t)(slash - cidr) >= sizeof text ||
        !kl_str_to_i64(kl_str(slash + 1), &bits) || bits < 8 || bits > 30)
        return false;
    memcpy(text, cidr, (size_t)(slash - cidr));
    text[slash - cidr] = 0;
    if (inet_pton(AF_INET, text, &in) != 1)
        return false;
    *ret_bits = (int)bits;
    *ret_base = ntohl(in.s_addr) & ~((1u << (32 - bits)) - 1);
    return true;
}
