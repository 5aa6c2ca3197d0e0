// SPDX-License-Identifier: Apache-2.0
// Ranges of addresses, and those that are in use (registry/core/service/ipallocator).
#include "apiserver/allocate/allocate.h"
#include <arpa/inet.h>
#include <stdio.h>

enum { BAND_MIN = 16, BAND_MAX = 256, BAND_STEP = 16, V6_SHORTEST = 64, MAX_RANGES = 1024 };

bool kl_ip_parse(struct kl_str text, kl_ip *ret, bool *ret_v6)
{
    char buf[64];
    unsigned char raw[16];
    if (text.n >= sizeof buf)
        return false;
    memcpy(buf, text.p, text.n);
    buf[text.n] = 0;
    bool v6 = kl_str_chr(text, ':') >= 0;
    if (inet_pton(v6 ? AF_INET6 : AF_INET, buf, raw) != 1)
        return false;
    kl_ip ip = 0;
    for (int i = 0; i < (v6 ? 16 : 4); i++)
        ip = ip << 8 | raw[i];
    *ret = ip;
    *ret_v6 = v6;
    return true;
}

struct kl_str kl_ip_text(struct kl_arena *a, kl_ip ip, bool v6)
{
    char buf[64];
    unsigned char raw[16];
    int n = v6 ? 16 : 4;
    for (int i = n; i--; ip >>= 8)
        raw[i] = (unsigned char)(ip & 0xff);
    if (!inet_ntop(v6 ? AF_INET6 : AF_INET, raw, buf, sizeof buf))
        return (struct kl_str){NULL, 0};
    return kl_arena_dup(a, kl_str(buf));
}

// calculateRangeOffset: min(max(16, size / 16), 256), nothing of what is smaller than that.
static uint64_t band_of(uint64_t size)
{
    if (size <= BAND_MIN)
        return 0;
    uint64_t n = size / BAND_STEP;
    return n < BAND_MIN ? BAND_MIN : n > BAND_MAX ? BAND_MAX : n;
}

bool kl_ip_range_parse(struct kl_str cidr, struct kl_ip_range *ret)
{
    ptrdiff_t slash = kl_str_chr(cidr, '/');
    int64_t bits;
    kl_ip base;
    *ret = (struct kl_ip_range){0};
    if (slash < 0 || cidr.n >= sizeof ret->text ||
        !kl_ip_parse((struct kl_str){cidr.p, (size_t)slash}, &base, &ret->v6) ||
        !kl_str_to_i64(kl_str_from(cidr, (size_t)slash + 1), &bits))
        return false;
    int width = ret->v6 ? 128 : 32;
    if (bits < (ret->v6 ? V6_SHORTEST : 0) || bits > width)
        return false;
    int free_bits = width - (int)bits;
    kl_ip mask = free_bits ? ((kl_ip)1 << free_bits) - 1 : 0;
    ret->bits = (int)bits;
    ret->first = (base & ~mask) + 1;
    ret->last = (base | mask) - (ret->v6 ? 0 : 1);
    // A network of one address, or IPv4's of two, has none to give.
    ret->size = ret->last < ret->first ? 0
                : free_bits >= 64      ? UINT64_MAX
                                       : (uint64_t)(ret->last - ret->first) + 1;
    ret->band = band_of(ret->size);
    memcpy(ret->text, cidr.p, cidr.n);
    return true;
}

bool kl_ip_range_has(const struct kl_ip_range *r, kl_ip ip, bool v6)
{
    int free_bits = (r->v6 ? 128 : 32) - r->bits;
    return v6 == r->v6 && ip >> free_bits == (r->first - 1) >> free_bits;
}

size_t kl_service_ranges(const struct kl_apiserver *s, struct kl_ip_range ret[KL_MAX_FAMILIES])
{
    struct kl_str rest = kl_str(s->o.service_cidr ? s->o.service_cidr : ""), part;
    size_t n = 0;
    while (n < KL_MAX_FAMILIES && kl_str_split(&rest, ',', &part))
        n += kl_ip_range_parse(kl_str_trim(part), &ret[n]);
    return n;
}

static bool is_ready(const struct kl_value *cidr)
{
    if (kl_meta_deleting(cidr))
        return false;
    for (KL_EACH(c, kl_path(cidr, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_type)), "Ready"))
            return kl_str_eqz(kl_text(kl_get(c, KL_F_status)), "True");
    return false;
}

const struct kl_ip_range *kl_ip_ranges_of(struct kl_api_loop *al, struct kl_arena *a, bool any,
                                          size_t *ret_n)
{
    const struct kl_resource *res = kl_res(KL_RES_networking_v1_servicecidrs);
    struct kl_str prefix = kl_arena_printf(a, "%s/", res->etcd_prefix);
    char end[64];
    struct kl_iter it;
    struct kl_error err;
    *ret_n = 0;
    if (!prefix.p)
        return NULL;
    kl_iter_init(&it, kl_reader_view(al->reader), prefix, kl_prefix_end(prefix, end));
    size_t max = KL_MAX_FAMILIES * (size_t)(it.left > 0 ? it.left : 1), n = 0;
    if (max > MAX_RANGES)
        max = MAX_RANGES;
    struct kl_ip_range *list = kl_arena_alloc(a, max * sizeof *list);
    if (!list)
        return NULL;
    bool found = it.left > 0;
    for (struct kl_kv *kv; n < max && (kv = kl_iter_next(&it));) {
        struct kl_object *o = kl_cache_object(kv, res, &err);
        if (!o || (!any && !is_ready(&o->root)))
            continue;
        size_t before = n;
        for (KL_EACH(x, kl_path(&o->root, KL_F_spec, KL_F_cidrs)))
            if (n < max)
                n += kl_ip_range_parse(kl_text(x), &list[n]);
        // The cluster's own ranges are asked first.
        for (size_t i = 0; before && kl_str_eqz(kl_meta_name(&o->root), "kubernetes") &&
                           before + i < n && i < before;
             i++) {
            struct kl_ip_range t = list[i];
            list[i] = list[before + i];
            list[before + i] = t;
        }
    }
    if (!found)
        n = kl_service_ranges(al->srv, list);
    *ret_n = n;
    return list;
}
