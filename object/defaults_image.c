// SPDX-License-Identifier: Apache-2.0
// Image references as github.com/distribution/reference reads them: which tag they end up with.
#include "object/defaults_int.h"

enum { MAX_NAME = 255, MAX_TAG = 128 };

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_lower(c) || is_digit(c) || (c >= 'A' && c <= 'Z');
}

static bool all_hex(struct kl_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_digit(s.p[i]) && !(s.p[i] >= 'a' && s.p[i] <= 'f'))
            return false;
    return true;
}

// [a-z0-9]+ joined by one of . _ __ or any number of dashes
static bool is_path_component(struct kl_str s)
{
    size_t i = 0;
    for (;;) {
        size_t start = i;
        while (i < s.n && (is_lower(s.p[i]) || is_digit(s.p[i])))
            i++;
        if (i == start)
            return false;
        if (i == s.n)
            return true;
        if (s.p[i] == '-') {
            while (i < s.n && s.p[i] == '-')
                i++;
        } else if (s.p[i] == '_') {
            i += i + 1 < s.n && s.p[i + 1] == '_' ? 2 : 1;
        } else if (s.p[i] == '.') {
            i++;
        } else {
            return false;
        }
    }
}

static bool is_path(struct kl_str s)
{
    struct kl_str part;
    if (s.n == 0 || s.p[s.n - 1] == '/')
        return false;
    while (kl_str_split(&s, '/', &part))
        if (!is_path_component(part))
            return false;
    return true;
}

static bool is_domain_part(struct kl_str s)
{
    if (s.n == 0 || !is_alnum(s.p[0]) || !is_alnum(s.p[s.n - 1]))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!is_alnum(s.p[i]) && s.p[i] != '-')
            return false;
    return true;
}

// host or [IPv6 address], then an optional port
static bool is_domain(struct kl_str s)
{
    struct kl_str host = s, port = {NULL, 0}, part;
    size_t end = 0;
    if (s.n && s.p[0] == '[') {
        ptrdiff_t close = kl_str_chr(s, ']');
        if (close < 2)
            return false;
        for (ptrdiff_t i = 1; i < close; i++)
            if (!is_digit(s.p[i]) && s.p[i] != ':' && !(s.p[i] >= 'a' && s.p[i] <= 'f') &&
                !(s.p[i] >= 'A' && s.p[i] <= 'F'))
                return false;
        end = (size_t)close + 1;
        if (end < s.n && s.p[end] != ':')
            return false;
        host.n = 0;
    } else {
        ptrdiff_t colon = kl_str_chr(s, ':');
        end = colon < 0 ? s.n : (size_t)colon;
        host.n = end;
        if (host.n == 0 || host.p[host.n - 1] == '.')
            return false;
    }
    if (end < s.n) {
        port = kl_str_from(s, end + 1);
        if (port.n == 0)
            return false;
    }
    for (size_t i = 0; i < port.n; i++)
        if (!is_digit(port.p[i]))
            return false;
    while (host.n && kl_str_split(&host, '.', &part))
        if (!is_domain_part(part))
            return false;
    return true;
}

static bool is_tag(struct kl_str s)
{
    if (s.n == 0 || s.n > MAX_TAG || (!is_alnum(s.p[0]) && s.p[0] != '_'))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!is_alnum(s.p[i]) && !strchr("_.-", s.p[i]))
            return false;
    return true;
}

static bool is_digest(struct kl_str s)
{
    static const struct {
        struct kl_str name;
        size_t digits;
    } known[] = {
        {KL_STR_INIT("sha256:"), 64}, {KL_STR_INIT("sha384:"), 96}, {KL_STR_INIT("sha512:"), 128}};
    for (size_t i = 0; i < KL_COUNT(known); i++)
        if (kl_str_starts(s, known[i].name))
            return s.n == known[i].name.n + known[i].digits &&
                   all_hex(kl_str_from(s, known[i].name.n));
    return false;
}

// Whether the first of several path components is a registry's host.
static bool names_host(struct kl_str s)
{
    if (kl_str_eq(s, KL_STR("localhost")) || kl_str_chr(s, '.') >= 0 || kl_str_chr(s, ':') >= 0)
        return true;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= 'A' && s.p[i] <= 'Z')
            return true;
    return false;
}

bool kl_image_is_latest(struct kl_str reference)
{
    static const struct kl_str hub = KL_STR_INIT("docker.io"), library = KL_STR_INIT("library/");
    if (reference.n == 64 && all_hex(reference))
        return false; // an identifier
    struct kl_str host = hub, path = reference, digest = {NULL, 0}, tag = {NULL, 0};
    ptrdiff_t slash = kl_str_chr(reference, '/');
    if (slash >= 0 && names_host((struct kl_str){reference.p, (size_t)slash})) {
        host = (struct kl_str){reference.p, (size_t)slash};
        path = kl_str_from(reference, (size_t)slash + 1);
        if (kl_str_eq(host, KL_STR("index.docker.io")))
            host = hub;
    }
    ptrdiff_t at = kl_str_chr(path, '@');
    if (at >= 0) {
        digest = kl_str_from(path, (size_t)at + 1);
        path.n = (size_t)at;
        if (!is_digest(digest))
            return false;
    }
    ptrdiff_t colon = kl_str_chr(path, ':');
    if (colon >= 0) {
        tag = kl_str_from(path, (size_t)colon + 1);
        path.n = (size_t)colon;
        if (!is_tag(tag))
            return false;
    }
    size_t official = kl_str_eq(host, hub) && kl_str_chr(path, '/') < 0 ? library.n : 0;
    if ((!is_domain(host) && !is_path_component(host)) || !is_path(path) ||
        path.n + official > MAX_NAME)
        return false;
    return tag.n ? kl_str_eq(tag, KL_STR("latest")) : digest.n == 0;
}
