// SPDX-License-Identifier: Apache-2.0
#include "cli/machine.h"
#include "base/cidr.h"
#include "object/names.h"
#include "object/quantity.h"
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#define BUDGET_MAX ((int64_t)2 << 30)

// The interface of the default route, from /proc/net/route.
static bool default_interface(char name[IFNAMSIZ])
{
    FILE *f = fopen("/proc/net/route", "re");
    char line[256], dest[16];
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f))
        found = sscanf(line, "%15s %15s", name, dest) == 2 && !strcmp(dest, "00000000");
    if (f)
        fclose(f);
    return found;
}

static bool is_ours(const char *name)
{
    return !strncmp(name, "kinglet", 7) || !strncmp(name, "veth", 4) || !strncmp(name, "cni", 3) ||
           !strncmp(name, "docker", 6);
}

const char *kl_machine_address(struct kl_arena *a)
{
    char want[IFNAMSIZ] = "", text[INET_ADDRSTRLEN] = "127.0.0.1";
    bool has_default = default_interface(want);
    struct ifaddrs *all;
    if (getifaddrs(&all))
        return "127.0.0.1";
    bool found = false;
    for (struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP) ||
            (i->ifa_flags & IFF_LOOPBACK) || is_ours(i->ifa_name))
            continue;
        if (has_default && strcmp(i->ifa_name, want))
            continue;
        inet_ntop(AF_INET, &((struct sockaddr_in *)i->ifa_addr)->sin_addr, text, sizeof text);
        found = true;
    }
    freeifaddrs(all);
    return kl_arena_dup(a, kl_str(text)).p;
}

int kl_machine_node_name(const char *given, char *ret, size_t n, struct kl_error *err)
{
    char host[256];
    if (given && *given)
        snprintf(host, sizeof host, "%s", given);
    else if (gethostname(host, sizeof host))
        return kl_error_errno(err, errno, "host name");
    size_t len = strlen(host);
    if (len >= n)
        return kl_error_set(err, KL_EINVALID, "node name %s is longer than %zu", host, n - 1);
    for (size_t i = 0; i <= len; i++)
        ret[i] = host[i] >= 'A' && host[i] <= 'Z' ? (char)(host[i] + 32) : host[i];
    const char *why = kl_name_dns1123_subdomain(kl_str(ret));
    return why ? kl_error_set(err, KL_EINVALID, "node name %s: %s", ret, why) : 0;
}

static const char *address_text(struct kl_arena *a, uint32_t ip, const char *suffix)
{
    return kl_arena_printf(a, "%u.%u.%u.%u%s", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255,
                           suffix)
        .p;
}

// ---- ranges of Services

enum { V4_SHORTEST = 8, V4_LONGEST = 30, V6_SHORTEST = 64, V6_LONGEST = 126 };

struct range {
    unsigned char ip[16];
    int bytes, bits;
};

static bool read_range(struct kl_str cidr, struct range *r)
{
    ptrdiff_t slash = kl_str_chr(cidr, '/');
    char text[64];
    int64_t bits;
    if (slash < 0 || (size_t)slash >= sizeof text ||
        !kl_str_to_i64(kl_str_from(cidr, (size_t)slash + 1), &bits))
        return false;
    memcpy(text, cidr.p, (size_t)slash);
    text[slash] = 0;
    bool v6 = strchr(text, ':') != NULL;
    *r = (struct range){.bytes = v6 ? 16 : 4, .bits = (int)bits};
    if (bits < (v6 ? V6_SHORTEST : V4_SHORTEST) || bits > (v6 ? V6_LONGEST : V4_LONGEST) ||
        inet_pton(v6 ? AF_INET6 : AF_INET, text, r->ip) != 1)
        return false;
    for (int i = r->bits; i < 8 * r->bytes; i++)
        r->ip[i / 8] &= (unsigned char)~(0x80 >> (i % 8));
    return true;
}

const char *kl_nth_address(struct kl_arena *a, const char *cidr, unsigned n)
{
    struct kl_str rest = kl_str(cidr), first;
    struct range r;
    char text[64];
    if (!kl_str_split(&rest, ',', &first) || !read_range(first, &r))
        return NULL;
    int free_bits = 8 * r.bytes - r.bits;
    if (free_bits < 32 && n >= (1u << free_bits) - 1)
        return NULL;
    uint64_t carry = n;
    for (int i = r.bytes; i--; carry >>= 8) {
        carry += r.ip[i];
        r.ip[i] = (unsigned char)(carry & 0xff);
    }
    return inet_ntop(r.bytes == 16 ? AF_INET6 : AF_INET, r.ip, text, sizeof text)
               ? kl_arena_dup(a, kl_str(text)).p
               : NULL;
}

int kl_service_ranges_check(const char *cidrs, const char *flag, const char *advertise,
                            struct kl_error *err)
{
    static const char *const what[] = {"a valid cidr", "an ip net"};
    struct kl_str rest = kl_str(cidrs), one, first = KL_STR("");
    struct range r[2] = {{.bytes = 0}};
    size_t n = 0;
    for (; kl_str_split(&rest, ',', &one); n++) {
        if (n < KL_COUNT(r) && !read_range(one, &r[n]))
            return kl_error_set(err, KL_EINVALID, "%s[%zu] is not %s", flag, n, what[n]);
        if (!n)
            first = one;
    }
    if (n > KL_COUNT(r))
        return kl_error_set(err, KL_EUNSUPPORTED, "--%s must not contain more than two entries",
                            flag);
    if (r[0].bytes == r[1].bytes)
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "--%s[0] and --%s[1] must be of different IP family", flag, flag);
    if (advertise && (r[0].bytes == 16) != (strchr(advertise, ':') != NULL))
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "service IP family \"%.*s\" must match public address family \"%s\"",
                            KL_PRI(first), advertise);
    return 0;
}

const char *kl_first_node_cidr(struct kl_arena *a, const char *cidr)
{
    uint32_t base;
    int bits;
    if (!kl_cidr4_parse(cidr, &base, &bits))
        return NULL;
    return bits >= 24 ? cidr : address_text(a, base, "/24");
}

int kl_make_dirs(struct kl_arena *a, const char *base, const char *rel, struct kl_error *err)
{
    struct kl_str path = kl_arena_printf(a, "%s/%s/", base, rel);
    char *p = (char *)path.p;
    if (!p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (size_t i = 1; i < path.n; i++) {
        if (p[i] != '/')
            continue;
        p[i] = 0;
        if (mkdir(p, 0700) && errno != EEXIST)
            return kl_error_errno(err, errno, "cannot make %s", p);
        p[i] = '/';
    }
    return 0;
}

void kl_notify_systemd(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    if (!n || n >= sizeof to.sun_path)
        return;
    memcpy(to.sun_path, path, n);
    if (to.sun_path[0] == '@')
        to.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}

int kl_memory_budget(const char *text, int64_t *ret, struct kl_error *err)
{
    struct kl_quantity q;
    if (!text) {
        uint64_t all = uv_get_total_memory(), ours = uv_get_constrained_memory();
        uint64_t quarter = (ours && ours < all ? ours : all) / 4;
        *ret = quarter && quarter < BUDGET_MAX ? (int64_t)quarter : BUDGET_MAX;
        return 0;
    }
    if (kl_quantity_parse(kl_str(text), &q, err) || (*ret = kl_quantity_value(&q)) < 0)
        return kl_error_set(err, KL_EINVALID,
                            "--memory-budget %s: not a number of bytes, such as 512Mi", text);
    return 0;
}
