// SPDX-License-Identifier: Apache-2.0
// fields.ParseSelector: terms of =, == and != joined by commas, with backslash escapes.
#include "object/selector_int.h"

// Cuts the next term at an unescaped comma.
static bool next_term(struct kl_str *rest, struct kl_str *ret)
{
    if (!rest->p)
        return false;
    bool escaped = false;
    for (size_t i = 0; i < rest->n; i++) {
        if (escaped) {
            escaped = false;
        } else if (rest->p[i] == '\\') {
            escaped = true;
        } else if (rest->p[i] == ',') {
            *ret = (struct kl_str){rest->p, i};
            *rest = kl_str_from(*rest, i + 1);
            return true;
        }
    }
    *ret = *rest;
    *rest = (struct kl_str){NULL, 0};
    return true;
}

static bool split_term(struct kl_str term, struct kl_str *ret_key, enum kl_selector_op *ret_op,
                       struct kl_str *ret_value)
{
    for (size_t i = 0; i < term.n; i++) {
        size_t n = 0;
        bool equals_next = i + 1 < term.n && term.p[i + 1] == '=';
        *ret_op = KL_OP_EQ;
        if (term.p[i] == '!' && equals_next) {
            *ret_op = KL_OP_NOT_EQ;
            n = 2;
        } else if (term.p[i] == '=') {
            n = equals_next ? 2 : 1;
        }
        if (n) {
            *ret_key = (struct kl_str){term.p, i};
            *ret_value = kl_str_from(term, i + n);
            return true;
        }
    }
    return false;
}

static size_t rune_length(struct kl_str s)
{
    unsigned char c = s.n ? (unsigned char)s.p[0] : 0;
    size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
    return n < s.n ? n : s.n;
}

static int unescape(struct kl_arena *a, struct kl_str s, struct kl_str *ret, struct kl_error *err)
{
    if (kl_str_chr(s, '\\') < 0 && kl_str_chr(s, ',') < 0 && kl_str_chr(s, '=') < 0) {
        *ret = s;
        return 0;
    }
    char *out = kl_arena_alloc(a, s.n + 1);
    size_t n = 0;
    if (!out)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == ',' || c == '=')
            return kl_error_set(err, KL_EBADREQUEST,
                                "invalid field selector: unescaped character in value: %d", c);
        if (c == '\\') {
            struct kl_str next = kl_str_from(s, i + 1);
            if (next.n == 0 || !next.p[0] || !strchr("\\,=", next.p[0]))
                return kl_error_set(err, KL_EBADREQUEST,
                                    "invalid field selector: invalid escape sequence: \\%.*s",
                                    (int)rune_length(next), next.p);
            c = s.p[++i];
        }
        out[n++] = c;
    }
    *ret = (struct kl_str){out, n};
    return 0;
}

int kl_field_selector_parse(struct kl_arena *a, struct kl_str text, struct kl_selector *ret,
                            struct kl_error *err)
{
    struct kl_str rest = text, term;
    size_t room = 1, nterms = 0, n = 0;
    for (size_t i = 0; i < text.n; i++)
        room += text.p[i] == ',';
    // terms, then one value for each requirement
    struct kl_str *terms = kl_arena_alloc(a, 2 * room * sizeof(*terms));
    struct kl_requirement *reqs = kl_arena_alloc(a, room * sizeof(*reqs));
    if (!terms || !reqs)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    while (next_term(&rest, &term))
        if (term.n)
            terms[nterms++] = term;
    kl_sort_strs(terms, nterms);
    for (size_t i = 0; i < nterms; i++) {
        struct kl_str *value = &terms[room + n];
        if (!split_term(terms[i], &reqs[n].key, &reqs[n].op, value))
            return kl_error_set(err, KL_EBADREQUEST,
                                "invalid selector: '%.*s'; can't understand '%.*s'", KL_PRI(text),
                                KL_PRI(terms[i]));
        int r = unescape(a, *value, value, err);
        if (r)
            return r;
        reqs[n].values = value;
        reqs[n].nvalues = 1;
        n += reqs[n].key.n || value->n; // a bare "=" asks for nothing
    }
    *ret = (struct kl_selector){.reqs = n ? reqs : NULL, .n = n};
    return 0;
}
