// SPDX-License-Identifier: Apache-2.0
// fieldPath of a rule, jsonPath of a selectable field (ValidFieldPath of
// apiserver/schema/cel/validation.go).
#include "object/crd/cel_int.h"

// The next of the tokens ".", "[", "]", a quoted string or what stands between them.
static bool next_token(struct kl_str *rest, struct kl_str *ret)
{
    struct kl_str s = *rest;
    size_t n = 0;
    if (!s.n)
        return false;
    if (s.p[0] == '\'') {
        for (n = 1; n < s.n && !(s.p[n] == '\'' && s.p[n - 1] != '\\'); n++)
            ;
        n += n < s.n;
    } else {
        while (n < s.n && s.p[n] != '.' && s.p[n] != '[' && s.p[n] != ']')
            n++;
        n += n == 0;
    }
    *ret = (struct kl_str){s.p, n};
    *rest = kl_str_from(s, n);
    return true;
}

static int unescape(struct kl_arena *a, struct kl_str s, struct kl_str *ret, struct kl_error *err)
{
    static const char from[] = "abfnrtv'\\", to[] = "\a\b\f\n\r\t\v'\\";
    char *out = kl_arena_alloc(a, s.n + 1);
    size_t n = 0;
    if (!out)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '\\' || i + 1 == s.n) {
            out[n++] = s.p[i];
            continue;
        }
        const char *at = s.p[++i] ? strchr(from, s.p[i]) : NULL;
        if (!at)
            return kl_error_set(err, KL_EINVALID,
                                "invalid string literal: invalid escape char \\%c", s.p[i]);
        out[n++] = to[at - from];
    }
    *ret = (struct kl_str){out, n};
    return 0;
}

int crd_field_path(struct kl_arena *a, const struct crd_words *s, crd_ref node, struct kl_str text,
                   bool brackets, struct kl_str *ret_path, crd_ref *ret_node, struct kl_error *err)
{
    struct kl_str tok, name, path = KL_STR("");
    while (next_token(&text, &tok)) {
        bool bracket = kl_str_eqz(tok, "[");
        if (!bracket && !kl_str_eqz(tok, "."))
            return kl_error_set(err, KL_EINVALID, "expected [ or . but got: %.*s", KL_PRI(tok));
        if (bracket && !brackets)
            return kl_error_set(err, KL_EINVALID, "array notation is not allowed");
        if (!next_token(&text, &name))
            return kl_error_set(err, KL_EINVALID, "unexpected end of JSON path");
        if (bracket) {
            if (name.n < 2 || name.p[0] != '\'' || name.p[name.n - 1] != '\'')
                return kl_error_set(err, KL_EINVALID, "expected single quoted string but got %.*s",
                                    KL_PRI(name));
            int r = unescape(a, (struct kl_str){name.p + 1, name.n - 2}, &name, err);
            if (r)
                return r;
        }
        crd_ref extra = node ? crd_attr(s, node, CRD_EXTRA) : 0;
        bool named = node && crd_nprops(s, node);
        crd_ref below = named ? crd_prop(s, node, name) : extra;
        if (!below)
            return kl_error_set(err, KL_EINVALID, "does not refer to a valid field");
        path = named
                   ? kl_arena_printf(a, "%.*s%s%.*s", KL_PRI(path), path.n ? "." : "", KL_PRI(name))
                   : kl_arena_printf(a, "%.*s[%.*s]", KL_PRI(path), KL_PRI(name));
        if (!path.p)
            return kl_error_set(err, KL_ENOMEM, "out of memory");
        node = below;
        if (bracket) {
            if (!next_token(&text, &tok))
                return kl_error_set(err, KL_EINVALID, "unexpected end of JSON path");
            if (!kl_str_eqz(tok, "]"))
                return kl_error_set(err, KL_EINVALID, "expected ] but got %.*s", KL_PRI(tok));
        }
    }
    *ret_path = path;
    *ret_node = node;
    return 0;
}
