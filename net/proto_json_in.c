// SPDX-License-Identifier: Apache-2.0
// JSON into a message's bytes, in one pass and without a tree.
#include "net/proto_json_int.h"
#include <stdio.h>

enum { MAX_FIELDS = 64, MAX_NUMBER = 400 };

// ---- values

static bool decode_base64(struct kl_str s, struct kl_buf *out)
{
    uint32_t v = 0;
    unsigned bits = 0;
    while (s.n && s.p[s.n - 1] == '=') // none, or what is missing to four
        s.n--;
    if (s.n % 4 == 1 || kl_buf_reserve(out, s.n / 4 * 3 + 3))
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        int d = c >= 'A' && c <= 'Z'   ? c - 'A'
                : c >= 'a' && c <= 'z' ? c - 'a' + 26
                : c >= '0' && c <= '9' ? c - '0' + 52
                : c == '+' || c == '-' ? 62
                : c == '/' || c == '_' ? 63
                                       : -1;
        if (d < 0)
            return false;
        v = v << 6 | (uint32_t)d;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            kl_buf_putc(out, (char)(v >> bits));
        }
    }
    return true;
}

static size_t count_digits(struct kl_str s, size_t at)
{
    size_t n = 0;
    while (at + n < s.n && s.p[at + n] >= '0' && s.p[at + n] <= '9')
        n++;
    return n;
}

// How much of `s` is a number as JSON writes it, up to something else that could end one; 0: none.
static size_t number_length(struct kl_str s)
{
    size_t i = s.n && s.p[0] == '-', n = count_digits(s, i), k;
    if (!n || (n > 1 && s.p[i] == '0'))
        return 0;
    i += n;
    if (i < s.n && s.p[i] == '.' && (n = count_digits(s, i + 1)))
        i += 1 + n;
    if (i < s.n && (s.p[i] == 'e' || s.p[i] == 'E')) {
        k = i + 1 + (i + 1 < s.n && (s.p[i + 1] == '-' || s.p[i + 1] == '+'));
        if (!(n = count_digits(s, k)))
            return 0;
        i = k + n;
    }
    bool more = i < s.n && (strchr("-+._", s.p[i]) || (s.p[i] >= '0' && s.p[i] <= '9') ||
                            ((s.p[i] | 32) >= 'a' && (s.p[i] | 32) <= 'z'));
    return more && s.p[i] ? 0 : i;
}

// As Go's unicode.IsSpace.
static bool ends_in_space(struct kl_str s)
{
    static const char *const spaces[] = {
        "\t",     "\n",     "\v",     "\f",     "\r",     " ",      "\xc2\x85", "\u00a0", "\u1680",
        "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006",   "\u2007", "\u2008",
        "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};
    for (size_t i = 0; i < KL_COUNT(spaces); i++)
        if (kl_str_ends(s, kl_str(spaces[i])))
            return true;
    return false;
}

// A number as JSON writes it, which must be whole: "1.50e2" is 150. Negative ones by *ret_minus.
static bool whole_number(struct kl_str s, uint64_t *ret, bool *ret_minus)
{
    char digits[MAX_NUMBER];
    size_t n = 0, i = 0;
    long point = 0, exponent = 0;
    bool fraction = false, minus_exponent = false;
    *ret_minus = s.n && s.p[0] == '-';
    i += *ret_minus;
    if (s.n - i == 0 || s.n >= sizeof(digits))
        return false;
    for (; i < s.n && s.p[i] != 'e' && s.p[i] != 'E'; i++) {
        if (s.p[i] == '.') {
            if (fraction)
                return false;
            fraction = true;
            continue;
        }
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        digits[n++] = s.p[i];
        point += fraction;
    }
    if (i < s.n && ++i < s.n && (s.p[i] == '-' || s.p[i] == '+'))
        minus_exponent = s.p[i++] == '-';
    for (; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (exponent < 10000) // with more no number but 0 fits
            exponent = exponent * 10 + (s.p[i] - '0');
    }
    long zeros = (minus_exponent ? -exponent : exponent) - point;
    for (; zeros < 0 && n && digits[n - 1] == '0'; zeros++)
        n--;
    uint64_t v = 0;
    for (size_t k = 0; k < n; k++)
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(digits[k] - '0'), &v))
            return false;
    for (; v && zeros > 0; zeros--)
        if (__builtin_mul_overflow(v, 10, &v))
            return false;
    *ret = v;
    return zeros >= 0 || !v;
}

static bool number_of(const struct kl_proto_field *f, struct kl_str s, uint64_t *ret)
{
    bool minus;
    uint64_t most = f->kind == KL_PROTO_INT32      ? INT32_MAX
                    : f->kind == KL_PROTO_UINT32   ? UINT32_MAX
                    : f->flags & KL_PROTO_UNSIGNED ? UINT64_MAX
                                                   : INT64_MAX;
    bool can_minus = f->kind != KL_PROTO_UINT32 && !(f->flags & KL_PROTO_UNSIGNED);
    // Of what is in quotes protojson reads the first token: what follows is not looked at, but no
    // space may stand around it all.
    size_t n = number_length(s);
    if (n < s.n && ends_in_space(s))
        return false;
    s.n = n;
    if (!whole_number(s, ret, &minus) || *ret > most + (minus && can_minus) ||
        (minus && *ret && !can_minus))
        return false;
    *ret = minus ? 0 - *ret : *ret;
    return true;
}

static const char *kind_name(const struct kl_proto_field *f, const struct kl_proto_name *name)
{
    if (name->values)
        return "enum";
    switch (f->kind) {
    case KL_PROTO_STRING:
        return f->flags & KL_PROTO_BYTES ? "bytes" : "string";
    case KL_PROTO_BOOL:
        return "bool";
    case KL_PROTO_INT32:
        return "int32";
    case KL_PROTO_UINT32:
        return "uint32";
    default:
        return f->flags & KL_PROTO_UNSIGNED ? "uint64" : "int64";
    }
}

static int misfit(struct kl_jtext *t, size_t at, const struct kl_proto_field *f,
                  const struct kl_proto_name *name)
{
    char what[160];
    snprintf(what, sizeof(what), "invalid value for %s field %s: ", kind_name(f, name), name->name);
    return kl_jtext_bad_value(t, at, what, (struct kl_str){t->s.p + at, t->at - at}, "");
}

static void put_varint(struct kl_buf *b, uint64_t v)
{
    if (!kl_buf_reserve(b, 10))
        b->n = (size_t)(kl_proto_put_varint(b->p + b->n, v) - b->p);
}

static size_t open_nested(struct kl_buf *out, uint32_t n)
{
    put_varint(out, (uint64_t)n << 3 | 2);
    kl_buf_putc(out, 0); // widened when it was too small
    return out->n;
}

static void close_nested(struct kl_buf *out, size_t start)
{
    if (out->err)
        return;
    size_t len = out->n - start, more = kl_proto_varint_size(len) - 1;
    if (more && kl_buf_reserve(out, more))
        return;
    if (more) {
        memmove(out->p + start + more, out->p + start, len);
        out->n += more;
    }
    kl_proto_put_varint(out->p + start - 1, len);
}

static void put_text(struct kl_buf *out, const struct kl_proto_field *f, struct kl_str s, bool keep)
{
    if (!s.n && !keep)
        return;
    size_t start = open_nested(out, f->n);
    kl_buf_puts(out, s);
    close_nested(out, start);
}

// False: an enum's name that is not known.
static bool enum_value(const struct kl_proto_value *v, struct kl_str s, uint64_t *ret)
{
    while (v->name && !kl_str_eqz(s, v->name))
        v++;
    *ret = (uint64_t)(int64_t)v->n;
    return v->name != NULL;
}

static int put_scalar(struct kl_jtext *t, const struct kl_proto_field *f,
                      const struct kl_proto_name *name, struct kl_buf *out)
{
    bool keep = f->flags & (KL_PROTO_REPEATED | KL_PROTO_ONEOF), fits = true;
    struct kl_str s;
    enum kl_jtext_kind kind;
    uint64_t v = 0;
    char c = kl_jtext_peek(t);
    size_t at = t->at;
    if (c == '{' || c == '[') {
        t->at++;
        return misfit(t, at, f, name);
    }
    int rc = kl_jtext_take_scalar(t, &kind, &s);
    if (rc)
        return rc;
    if (kind == KL_JTEXT_NUL && !(f->flags & KL_PROTO_REPEATED))
        return 0;
    if (f->kind == KL_PROTO_STRING && kind == KL_JTEXT_STRING) {
        if (!(f->flags & KL_PROTO_BYTES)) {
            put_text(out, f, s, keep);
            return 0;
        }
        size_t start = out->n, body = open_nested(out, f->n);
        if (!decode_base64(s, out))
            return out->err ? out->err : misfit(t, at, f, name);
        close_nested(out, body);
        if (!keep && !s.n)
            out->n = start;
        return 0;
    }
    if (f->kind == KL_PROTO_STRING)
        fits = false;
    else if (f->kind == KL_PROTO_BOOL)
        fits = (v = kind == KL_JTEXT_TRUE) || kind == KL_JTEXT_FALSE;
    else if (name->values && kind == KL_JTEXT_STRING && !enum_value(name->values, s, &v))
        return 0;
    else if (!(name->values && kind == KL_JTEXT_STRING))
        fits = (kind == KL_JTEXT_STRING || kind == KL_JTEXT_NUMBER) && number_of(f, s, &v);
    if (!fits)
        return misfit(t, at, f, name);
    if (v || keep) {
        put_varint(out, (uint64_t)f->n << 3);
        put_varint(out, v);
    }
    return 0;
}

// ---- messages

// `name` as it stands, or in lowerCamelCase.
static bool names_field(struct kl_str s, const char *name)
{
    if (kl_str_eqz(s, name))
        return true;
    size_t i = 0;
    for (; *name && i < s.n; name++, i++) {
        char c = *name;
        if (c == '_' && name[1]) {
            c = *++name;
            c = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
        }
        if (s.p[i] != c)
            return false;
    }
    return !*name && i == s.n;
}

static const struct kl_proto_field *find_named(const struct kl_proto_desc *d, struct kl_str s)
{
    for (size_t i = 0; i < d->nfields; i++)
        if (names_field(s, d->names[i].name))
            return &d->fields[i];
    return NULL;
}

static int put_message(struct kl_jtext *t, const struct kl_proto_desc *d, struct kl_buf *out,
                       int depth);

static int unexpected(struct kl_jtext *t)
{
    size_t at = t->at;
    struct kl_str s = {t->s.p + at, 1};
    enum kl_jtext_kind kind;
    if (*s.p != '{' && *s.p != '[') {
        int rc = kl_jtext_take_scalar(t, &kind, &s);
        if (rc)
            return rc;
        s = (struct kl_str){t->s.p + at, t->at - at};
    }
    return kl_jtext_unexpected(t, at, s);
}

static int put_one(struct kl_jtext *t, const struct kl_proto_field *f,
                   const struct kl_proto_name *name, struct kl_buf *out, int depth)
{
    if (f->kind != KL_PROTO_MESSAGE)
        return put_scalar(t, f, name, out);
    if (kl_jtext_peek(t) != '{')
        return t->at < t->s.n ? unexpected(t) : kl_jtext_bad_syntax(t, "");
    size_t start = open_nested(out, f->n);
    int rc = put_message(t, f->sub, out, depth + 1);
    close_nested(out, start);
    return rc;
}

static int put_array(struct kl_jtext *t, const struct kl_proto_field *f,
                     const struct kl_proto_name *name, struct kl_buf *out, int depth)
{
    bool end;
    if (kl_jtext_peek(t) != '[')
        return t->at < t->s.n ? unexpected(t) : kl_jtext_bad_syntax(t, "");
    t->at++;
    int rc = 0;
    for (bool first = true; !rc; first = false) {
        rc = kl_jtext_next_element(t, first, &end);
        if (rc || end)
            return rc;
        rc = put_one(t, f, name, out, depth);
    }
    return rc;
}

static int put_field(struct kl_jtext *t, const struct kl_proto_desc *d,
                     const struct kl_proto_field *f, struct kl_buf *out, int depth)
{
    const struct kl_proto_name *name = &d->names[f - d->fields];
    if (f->flags & KL_PROTO_REPEATED)
        return put_array(t, f, name, out, depth);
    return put_one(t, f, name, out, depth);
}

static bool is_null(struct kl_jtext *t)
{
    return kl_jtext_peek(t) == 'n';
}

static int put_message(struct kl_jtext *t, const struct kl_proto_desc *d, struct kl_buf *out,
                       int depth)
{
    uint64_t seen = 0;
    bool oneof = false, end;
    struct kl_str name;
    if (depth > KL_PROTO_JSON_DEPTH || d->nfields > MAX_FIELDS)
        return kl_error_set(t->err, KL_EBADREQUEST, "exceeded max recursion depth");
    t->at++; // the brace
    int rc = 0;
    for (bool first = true; !rc; first = false) {
        kl_jtext_peek(t);
        size_t at = t->at + (!first && t->at < t->s.n && t->s.p[t->at] == ',');
        rc = kl_jtext_next_name(t, first, &name, &end);
        if (rc || end)
            return rc;
        const struct kl_proto_field *f = find_named(d, name);
        if (!f) {
            rc = kl_jtext_skip(t, depth);
            continue;
        }
        while (at < t->at && kl_jtext_is_space(t->s.p[at]))
            at++;
        uint64_t bit = 1ull << (f - d->fields);
        struct kl_str quoted = {t->s.p + at, name.n + 2};
        if (seen & bit)
            return kl_jtext_bad_value(t, at, "duplicate field ", quoted, "");
        seen |= bit;
        bool null = is_null(t);
        if (null) {
            rc = kl_jtext_take_word(t, "null");
            continue;
        }
        if (f->flags & KL_PROTO_ONEOF && oneof)
            return kl_jtext_bad_value(t, at, "error parsing ", quoted, ", oneof is already set");
        oneof = oneof || f->flags & KL_PROTO_ONEOF;
        rc = put_field(t, d, f, out, depth);
    }
    return rc;
}

int kl_proto_from_json(struct kl_buf *out, const struct kl_proto_desc *d, struct kl_str json,
                       struct kl_error *err)
{
    struct kl_buf scratch;
    struct kl_jtext t = {.s = json, .err = err, .scratch = &scratch};
    kl_buf_init(&scratch, json.n + 8);
    // What is no JSON at all is found first, as encoding/json's decoder stands before protojson.
    int rc = kl_jtext_skip(&t, 0);
    if (!rc && kl_jtext_peek(&t))
        rc = kl_jtext_bad_syntax(&t, "after top-level value");
    t.at = 0;
    if (!rc && kl_jtext_peek(&t) != '{')
        rc = unexpected(&t);
    if (!rc)
        rc = put_message(&t, d, out, 1);
    int full = out->err ? out->err : scratch.err; // wherever it was noticed
    if (full)
        rc = kl_error_set(err, full, "%s", kl_err_text(full));
    kl_buf_fini(&scratch);
    return rc;
}
