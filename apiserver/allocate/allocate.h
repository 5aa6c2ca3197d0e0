// SPDX-License-Identifier: Apache-2.0
// What Services are given: cluster IPs from the ranges of ServiceCIDR objects and node ports. The
// claim on an address is its IPAddress object, on a port a bit of the range allocation; both are
// written in the Service's own transaction, so no crash or race leaves one without the other.
#pragma once
#include "apiserver/strategy.h"
#include "watchcache/filter.h"

// ---- ranges (range.c). Addresses are numbers: IPv4's in the low 32 bits.
typedef unsigned __int128 kl_ip;
struct kl_ip_range {
    bool v6;
    int bits;          // of the prefix
    kl_ip first, last; // what may be given: not the network's, nor IPv4's broadcast address
    uint64_t size;     // how many, at most UINT64_MAX
    uint64_t band;     // the first so many are for those who ask for one: taken last
    char text[64];     // as written
};
// The address of a text, "10.0.0.1" or "fd00::1"; false when it is none.
bool kl_ip_parse(struct kl_str text, kl_ip *ret, bool *ret_v6);
// In canonical form, in the arena.
struct kl_str kl_ip_text(struct kl_arena *a, kl_ip ip, bool v6);
// A range; IPv6 prefixes shorter than 64 bits are refused, as upstream's allocator does.
bool kl_ip_range_parse(struct kl_str cidr, struct kl_ip_range *ret);
bool kl_ip_range_has(const struct kl_ip_range *r, kl_ip ip, bool v6); // the whole network
// The ranges that the server was started with ("a,b"): one, or one of each family. How many.
enum { KL_MAX_FAMILIES = 2 };
size_t kl_service_ranges(const struct kl_apiserver *s, struct kl_ip_range ret[KL_MAX_FAMILIES]);

// Those of ServiceCIDR objects that are ready and not going; of all when `any`. In the arena, NULL
// and n 0 when there are none or no memory. Until the first object is there, the server's own.
const struct kl_ip_range *kl_ip_ranges_of(struct kl_api_loop *al, struct kl_arena *a, bool any,
                                          size_t *ret_n);

// ---- address.c
// Fills spec.clusterIP and clusterIPs for the families in spec.ipFamilies from `from` on, claiming
// what is named there and choosing the rest. Negative: r->fail is set.
int kl_claim_addresses(struct kl_req *r, const struct kl_value *draft, struct kl_value *spec,
                       size_t from);
// Lets go of spec.clusterIPs from `from` on.
void kl_release_addresses(struct kl_req *r, const struct kl_value *spec, size_t from);
// The IPAddress of a Service, as stored (sealed where the configuration says so; e may be NULL).
// NULL: err says why.
struct kl_bytes *kl_ip_object(struct kl_encryption *e, struct kl_arena *a, struct kl_str ip,
                              bool v6, struct kl_str ns, struct kl_str service, int64_t created_us,
                              struct kl_error *err);
struct kl_str kl_ip_key(struct kl_arena *a, struct kl_str ip);

// ---- family.c
// spec.ipFamilies and ipFamilyPolicy as upstream's initIPFamilyFields leaves them. 1: the spec is
// malformed, which validation will say. Negative: r->fail is set.
int kl_service_families(struct kl_req *r, const struct kl_value *draft, struct kl_value *spec,
                        const struct kl_value *old_spec);

// ---- ports.c
// Node ports and the health check's for the new spec, in place of the old one's (NULL: none).
int kl_claim_ports(struct kl_req *r, struct kl_value *spec, const struct kl_value *old_spec);
bool kl_needs_node_ports(const struct kl_value *spec);
bool kl_needs_health_port(const struct kl_value *spec);
// Sets the node port of spec.ports[i]; 0 takes it away.
int kl_set_node_port(struct kl_req *r, struct kl_value *spec, size_t i, int64_t port);
#define KL_NODE_PORTS_KEY KL_STR("/registry/ranges/servicenodeports")

// ---- port_range.c: --service-node-port-range.
struct kl_port_range {
    uint32_t first, count; // count >= 1
};
// "30000-32767", "30000+2767" or "30000"; "" is the default. KL_EINVALID with upstream's words.
int kl_port_range_parse(const char *text, struct kl_port_range *ret, struct kl_error *err);
// That of the server, which began with a good one.
struct kl_port_range kl_node_ports(const struct kl_apiserver *s);
enum { KL_PORT_RANGE_TEXT = 16 };
void kl_port_range_text(const struct kl_port_range *r, char ret[KL_PORT_RANGE_TEXT]);
// The first so many are for those who ask for one: taken last.
uint32_t kl_port_band(const struct kl_port_range *r);
static inline bool kl_port_range_has(const struct kl_port_range *r, int64_t port)
{
    return port >= r->first && port - r->first < r->count;
}

// ---- bitmap.c: the stored form of the ports that are taken, and bits by rising port.
static inline size_t kl_port_bytes(const struct kl_port_range *r)
{
    return (r->count + 7) / 8;
}
// Fills kl_port_bytes(r) bytes. 0; 1: it was written for another range, whose ports in this one
// are set; KL_EINVALID: damaged.
int kl_ports_read(struct kl_str stored, const struct kl_port_range *r, uint8_t *bits);
struct kl_bytes *kl_ports_write(const struct kl_port_range *r, const uint8_t *bits); // NULL: memory

// A claim is another operation of the request's write.
void kl_claim(struct kl_req *r, struct kl_str key, kl_rev expect, struct kl_bytes *value);
