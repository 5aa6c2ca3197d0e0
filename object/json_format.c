// SPDX-License-Identifier: Apache-2.0
// JSON text to JSON text: pretty, compact, and a look at a document's apiVersion and kind.
#include "object/json_int.h"

static void put_break(struct kl_buf *out, size_t depth, int indent)
{
    kl_buf_putc(out, '\n');
    for (size_t i = 0; i < depth * (size_t)indent; i++)
        kl_buf_putc(out, ' ');
}

void kl_json_pretty(struct kl_buf *out, struct kl_str text, int indent)
{
    size_t depth = 0;
    const char *p = text.p, *end = p + text.n;
    while (p < end) {
        char c = *p;
        if (c == '"') {
            unsigned flags = 0;
            const char *close = kl_json_string_end(p + 1, end, &flags);
            close = close ? close + 1 : end;
            kl_buf_append(out, p, (size_t)(close - p));
            p = close;
            continue;
        }
        p++;
        if (kl_json_is_space((unsigned char)c))
            continue;
        if (c == '{' || c == '[') {
            kl_buf_putc(out, c);
            p = kl_json_space(p, end);
            if (p < end && (*p == '}' || *p == ']'))
                kl_buf_putc(out, *p++);
            else
                put_break(out, ++depth, indent);
        } else if (c == '}' || c == ']') {
            put_break(out, depth ? --depth : 0, indent);
            kl_buf_putc(out, c);
        } else {
            kl_buf_putc(out, c);
            if (c == ',')
                put_break(out, depth, indent);
            else if (c == ':')
                kl_buf_putc(out, ' ');
        }
    }
}

bool kl_json_compact(struct kl_buf *out, struct kl_str text)
{
    unsigned flags = 0;
    const char *end = text.p + text.n, *p = kl_json_space(text.p, end);
    const char *from = p;
    p = kl_json_skip(p, end, 0, &flags);
    if (!p || kl_json_space(p, end) != end)
        return false;
    struct kl_str value = {from, (size_t)(p - from)};
    if (out && (flags & KL_JSON_SPACED))
        kl_json_put_compact(out, value);
    else if (out)
        kl_buf_puts(out, value);
    return true;
}

// The string at p without its quotes; false when it is none or has escapes, which no apiVersion or
// kind of ours needs.
static bool plain_string(const char *p, const char *end, struct kl_str *ret)
{
    unsigned flags = 0;
    if (p == end || *p != '"')
        return false;
    const char *close = kl_json_string_end(p + 1, end, &flags);
    if (!close || flags)
        return false;
    *ret = (struct kl_str){p + 1, (size_t)(close - p - 1)};
    return true;
}

int kl_json_peek_gvk(struct kl_str text, struct kl_str *ret_api_version, struct kl_str *ret_kind)
{
    const char *end = text.p + text.n, *p = kl_json_space(text.p, end);
    struct kl_str api_version = {"", 0}, kind = {"", 0}, key;
    unsigned flags = 0;
    int found = 0;
    if (p == end || *p != '{')
        return KL_EBADREQUEST;
    p = kl_json_space(p + 1, end);
    while (p < end && *p != '}') {
        if (*p != '"')
            return KL_EBADREQUEST;
        const char *close = kl_json_string_end(p + 1, end, &flags);
        if (!close)
            return KL_EBADREQUEST;
        key = (struct kl_str){p + 1, (size_t)(close - p - 1)};
        p = kl_json_space(close + 1, end);
        if (p == end || *p != ':')
            return KL_EBADREQUEST;
        p = kl_json_space(p + 1, end);
        bool is_version = kl_str_eqz(key, "apiVersion"), is_kind = kl_str_eqz(key, "kind");
        if ((is_version || is_kind) && p < end && *p != 'n') {
            if (!plain_string(p, end, is_version ? &api_version : &kind))
                return KL_EBADREQUEST;
            found |= is_version ? 1 : 2;
            if (found == 3)
                break;
        }
        p = p < end ? kl_json_skip(p, end, 1, &flags) : NULL;
        if (!p)
            return KL_EBADREQUEST;
        p = kl_json_space(p, end);
        if (p < end && *p == ',')
            p = kl_json_space(p + 1, end);
        else if (p == end || *p != '}')
            return KL_EBADREQUEST;
    }
    if (p == end)
        return KL_EBADREQUEST;
    *ret_api_version = api_version;
    *ret_kind = kind;
    return 0;
}
