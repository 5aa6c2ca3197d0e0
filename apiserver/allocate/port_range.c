// SPDX-License-Identifier: Apache-2.0
// Ranges of node ports (apimachinery pkg/util/net/port_range.go, portallocator).
#include "apiserver/allocate/allocate.h"
#include <stdio.h>

enum { PORT_MAX = 65535, BAND_MIN = 16, BAND_MAX = 128, BAND_STEP = 32 };

static const struct kl_port_range usual = {30000, 2768};

// strconv.Atoi, which also takes a sign.
static int read_number(struct kl_str s, int64_t *ret, struct kl_error *err)
{
    bool sign = s.n && (*s.p == '-' || *s.p == '+');
    struct kl_str digits = kl_str_from(s, sign);
    bool all = digits.n > 0;
    for (size_t i = 0; i < digits.n; i++)
        all &= digits.p[i] >= '0' && digits.p[i] <= '9';
    if (!all)
        return kl_error_set(err, KL_EINVALID, "strconv.Atoi: parsing \"%.*s\": invalid syntax",
                            KL_PRI(s));
    if (!kl_str_to_i64(digits, ret))
        return kl_error_set(err, KL_EINVALID, "strconv.Atoi: parsing \"%.*s\": value out of range",
                            KL_PRI(s));
    if (sign && *s.p == '-')
        *ret = -*ret;
    return 0;
}

int kl_port_range_parse(const char *text, struct kl_port_range *ret, struct kl_error *err)
{
    struct kl_str s = kl_str_trim(kl_str(text ? text : ""));
    ptrdiff_t minus = kl_str_chr(s, '-'), plus = kl_str_chr(s, '+'), at = minus >= 0 ? minus : plus;
    int64_t low, high;
    int rc;
    if (!s.n) {
        *ret = usual;
        return 0;
    }
    if (minus >= 0 && plus >= 0)
        return kl_error_set(err, KL_EINVALID, "unable to parse port range: %.*s", KL_PRI(s));
    struct kl_str left = {s.p, at < 0 ? s.n : (size_t)at};
    if ((rc = read_number(left, &low, err)))
        return rc;
    high = low;
    if (at >= 0 && (rc = read_number(kl_str_from(s, (size_t)at + 1), &high, err)))
        return rc;
    if (low > PORT_MAX || high > PORT_MAX || (plus >= 0 && (high += low) > PORT_MAX))
        return kl_error_set(err, KL_EINVALID, "the port range cannot be greater than 65535: %.*s",
                            KL_PRI(s));
    if (high < low)
        return kl_error_set(err, KL_EINVALID, "end port cannot be less than start port: %.*s",
                            KL_PRI(s));
    *ret = (struct kl_port_range){(uint32_t)low, (uint32_t)(1 + high - low)};
    return 0;
}

struct kl_port_range kl_node_ports(const struct kl_apiserver *s)
{
    struct kl_port_range r;
    struct kl_error err;
    return kl_port_range_parse(s->o.settings->service_node_port_range, &r, &err) ? usual : r;
}

void kl_port_range_text(const struct kl_port_range *r, char ret[KL_PORT_RANGE_TEXT])
{
    snprintf(ret, KL_PORT_RANGE_TEXT, "%u-%u", r->first & 0xffff,
             (r->first + r->count - 1) & 0xffff);
}

// calculateRangeOffset: min(max(16, size / 32), 128), nothing of what is smaller than that.
uint32_t kl_port_band(const struct kl_port_range *r)
{
    uint32_t n = r->count / BAND_STEP;
    if (r->count <= BAND_MIN)
        return 0;
    return n < BAND_MIN ? BAND_MIN : n > BAND_MAX ? BAND_MAX : n;
}
