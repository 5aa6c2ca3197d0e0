// SPDX-License-Identifier: Apache-2.0
#include "kubelet/pull_auth.h"
#include "kubelet/cri.h"
#include "object/json.h"
#include <openssl/evp.h>

enum { MAX_AUTH_BYTES = 64 * 1024 };

static bool is_default_registry(struct kl_str image)
{
    ptrdiff_t slash = kl_str_chr(image, '/');
    struct kl_str host = {image.p, slash < 0 ? 0 : (size_t)slash};
    return slash < 0 || kl_str_eqz(host, "docker.io") || kl_str_eqz(host, "index.docker.io") ||
           (kl_str_chr(host, '.') < 0 && kl_str_chr(host, ':') < 0 &&
            !kl_str_eqz(host, "localhost"));
}

// Host names part by part; a part may be "*" or begin or end with it.
static bool part_matches(struct kl_str glob, struct kl_str part)
{
    ptrdiff_t star = kl_str_chr(glob, '*');
    if (star < 0)
        return kl_str_eq(glob, part);
    struct kl_str head = {glob.p, (size_t)star}, tail = kl_str_from(glob, (size_t)star + 1);
    return part.n >= head.n + tail.n && kl_str_starts(part, head) && kl_str_ends(part, tail);
}

static bool host_matches(struct kl_str glob, struct kl_str host)
{
    struct kl_str g, h;
    for (;;) {
        bool more_g = kl_str_split(&glob, '.', &g), more_h = kl_str_split(&host, '.', &h);
        if (more_g != more_h)
            return false;
        if (!more_g)
            return true;
        if (!part_matches(g, h))
            return false;
    }
}

static struct kl_str cut(struct kl_str *s, char sep)
{
    ptrdiff_t at = kl_str_chr(*s, sep);
    struct kl_str head = at < 0 ? *s : (struct kl_str){s->p, (size_t)at};
    *s = at < 0 ? KL_STR("") : kl_str_from(*s, (size_t)at + 1);
    return head;
}

// "https://host[:port][/path]" against "host[:port]/path...".
static bool key_matches(struct kl_str key, struct kl_str image)
{
    static const struct kl_str schemes[] = {KL_STR_INIT("https://"), KL_STR_INIT("http://")};
    for (size_t i = 0; i < KL_COUNT(schemes); i++)
        if (kl_str_starts(key, schemes[i]))
            key = kl_str_from(key, schemes[i].n);
    struct kl_str host = cut(&key, '/');
    if (kl_str_eqz(key, "v1") || kl_str_eqz(key, "v2") || kl_str_eqz(key, "v1/") ||
        kl_str_eqz(key, "v2/"))
        key = KL_STR(""); // an API's address says nothing of a path
    if (is_default_registry(image) &&
        (kl_str_eqz(host, "index.docker.io") || kl_str_eqz(host, "docker.io")))
        return !key.n || kl_str_starts(image, key);
    struct kl_str image_host = cut(&image, '/');
    struct kl_str name = cut(&host, ':'), image_name = cut(&image_host, ':');
    return host_matches(name, image_name) && kl_str_eq(host, image_host) &&
           kl_str_starts(image, key);
}

// base64 of "USER:PASSWORD"
static void split_auth(struct kl_arena *a, struct kl_str auth, struct kl_cri_auth_config *c)
{
    if (!auth.n || auth.n % 4 || auth.n > MAX_AUTH_BYTES)
        return;
    unsigned char *out = kl_arena_alloc(a, auth.n);
    int n = out ? EVP_DecodeBlock(out, (const unsigned char *)auth.p, (int)auth.n) : -1;
    if (n < 0)
        return;
    for (size_t i = auth.n; i-- > 0 && auth.p[i] == '=';)
        n--; // padding is decoded as zeros
    struct kl_str text = {(const char *)out, n > 0 ? (size_t)n : 0};
    ptrdiff_t colon = kl_str_chr(text, ':');
    if (colon < 0)
        return;
    c->username = (struct kl_str){text.p, (size_t)colon};
    c->password = kl_str_from(text, (size_t)colon + 1);
}

static struct kl_str member(const struct kl_value *map, const char *key)
{
    return kl_text(kl_map_value(map, kl_str(key)));
}

void kl_pull_auths(struct kl_arena *a, const struct kl_value *secret, struct kl_str image,
                   struct kl_cri_auth_config *list, size_t *n, size_t max)
{
    const struct kl_value *data = kl_get(secret, KL_F_data);
    struct kl_str text = member(data, ".dockerconfigjson");
    bool wrapped = text.n > 0;
    struct kl_value root;
    if (!wrapped)
        text = member(data, ".dockercfg");
    if (!text.n || kl_json_parse(a, text, NULL, &root, NULL))
        return;
    const struct kl_value *auths = wrapped ? kl_map_value(&root, KL_STR("auths")) : &root;
    for (KL_MAP_EACH_KEY(key, kl_is(auths, KL_MAP) ? auths : NULL)) {
        if (*n == max || !key_matches(kl_text(key), image))
            continue;
        struct kl_cri_auth_config c = {.username = member(key + 1, "username"),
                                       .password = member(key + 1, "password"),
                                       .identity_token = member(key + 1, "identitytoken"),
                                       .registry_token = member(key + 1, "registrytoken")};
        split_auth(a, member(key + 1, "auth"), &c);
        list[(*n)++] = c;
    }
}
