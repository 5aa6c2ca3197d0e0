// SPDX-License-Identifier: Apache-2.0
// url(), isURL() and what a URL is asked.
#include "object/cel/lib_int.h"
#include "object/cel/url_int.h"

CEL_FN(cel_fn_url)
{
    struct cel_url *u = KL_ARENA_NEW(cel_arena(r), struct cel_url);
    if (!u)
        return CEL_NO_MEMORY;
    const char *bad = cel_url_parse(cel_arena(r), cel_text(args[0]), u);
    if (bad)
        return cel_errf(cel_arena(r), "URL parse error during conversion from string: %s", bad);
    return (struct kl_cel_val){.kind = KL_CEL_URL, .p = u};
}

CEL_FN(cel_fn_is_url)
{
    return cel_ok(!cel_url_parse(cel_arena(r), cel_text(args[0]), NULL));
}

static const struct cel_url *url_of(const struct kl_cel_val *args)
{
    return args[0].p;
}

CEL_FN(cel_fn_url_scheme)
{
    return cel_str(url_of(args)->scheme);
}

CEL_FN(cel_fn_url_host)
{
    return cel_str(url_of(args)->host);
}

CEL_FN(cel_fn_url_path)
{
    return cel_str(url_of(args)->path);
}

// Host and port apart; brackets go away.
static void split_host(struct kl_str host, struct kl_str *ret_name, struct kl_str *ret_port)
{
    ptrdiff_t colon = -1;
    *ret_port = KL_STR("");
    for (size_t i = 0; i < host.n; i++)
        colon = host.p[i] == ':' ? (ptrdiff_t)i : colon;
    bool digits = colon >= 0;
    for (size_t i = (size_t)colon + 1; colon >= 0 && i < host.n; i++)
        digits &= host.p[i] >= '0' && host.p[i] <= '9';
    if (digits) {
        *ret_port = kl_str_from(host, (size_t)colon + 1);
        host.n = (size_t)colon;
    }
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = (struct kl_str){host.p + 1, host.n - 2};
    *ret_name = host;
}

CEL_FN(cel_fn_url_hostname)
{
    struct kl_str name, port;
    split_host(url_of(args)->host, &name, &port);
    return cel_str(name);
}

CEL_FN(cel_fn_url_port)
{
    struct kl_str name, port;
    split_host(url_of(args)->host, &name, &port);
    return cel_str(port);
}

// False when an escape is broken: such a pair is left out.
static bool unescape(struct cel_run *r, struct kl_str s, struct kl_str *ret)
{
    char *p = kl_arena_alloc(cel_arena(r), s.n + 1);
    size_t n = 0;
    if (!p)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        int hi = i + 2 < s.n ? kl_str_chr(KL_STR("0123456789abcdef"), (char)(s.p[i + 1] | 32)) : -1;
        int lo = i + 2 < s.n ? kl_str_chr(KL_STR("0123456789abcdef"), (char)(s.p[i + 2] | 32)) : -1;
        if (s.p[i] != '%') {
            p[n++] = s.p[i] == '+' ? ' ' : s.p[i];
            continue;
        }
        if (hi < 0 || lo < 0)
            return false;
        p[n++] = (char)(hi << 4 | lo);
        i += 2;
    }
    *ret = (struct kl_str){p, n};
    return true;
}

CEL_FN(cel_fn_url_query)
{
    struct kl_cel_val map = cel_new_growing(cel_arena(r), KL_CEL_MAP), list;
    struct cel_growing *g = (struct cel_growing *)map.p;
    struct kl_str rest = url_of(args)->query, pair;
    if (!g)
        return CEL_NO_MEMORY;
    while (rest.n && kl_str_split(&rest, '&', &pair)) {
        struct kl_str key, value = KL_STR("");
        if (!pair.n || kl_str_chr(pair, ';') >= 0)
            continue;
        ptrdiff_t equals = kl_str_chr(pair, '=');
        struct kl_str raw = equals < 0 ? KL_STR("") : kl_str_from(pair, (size_t)equals + 1);
        if (equals >= 0)
            pair.n = (size_t)equals;
        if (!unescape(r, pair, &key) || !unescape(r, raw, &value))
            continue;
        if (!cel_find(cel_arena(r), map, cel_str(key), &list)) {
            list = cel_new_growing(cel_arena(r), KL_CEL_LIST);
            if (!list.p || !cel_put(cel_arena(r), g, cel_str(key), list))
                return CEL_NO_MEMORY;
        }
        if (!cel_push(cel_arena(r), (struct cel_growing *)list.p, cel_str(value)))
            return CEL_NO_MEMORY;
    }
    for (uint32_t i = 0; i < g->n; i++)
        g->items[2 * (size_t)i + 1] = cel_settled(g->items[2 * (size_t)i + 1]);
    return cel_settled(map);
}
