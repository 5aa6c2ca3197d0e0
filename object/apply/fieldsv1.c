// SPDX-License-Identifier: Apache-2.0
// FieldsV1: {"f:spec":{".":{},"k:{\"name\":\"a\"}":{"f:image":{}}}}. Read and written by hand,
// since every write to an object reads some and writes one.
#include "object/apply/fieldset.h"
#include "object/json.h"

struct reader {
    struct kl_arena *a;
    const char *p, *end;
    struct kl_error *err;
};

static int refuse(struct reader *r, const char *what)
{
    return kl_error_set(r->err, KL_EBADREQUEST, "managedFields parsing: %s", what);
}

static int no_memory(struct reader *r)
{
    return kl_error_set(r->err, KL_ENOMEM, "out of memory");
}

static void skip_space(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
}

static bool take(struct reader *r, char c)
{
    skip_space(r);
    if (r->p == r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

// ---- strings

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

static char *put_rune(char *to, uint32_t c)
{
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *to++ = (char)(0xe0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 63));
        *to++ = (char)(0x80 | (c & 63));
    } else {
        *to++ = (char)(0xf0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 63));
        *to++ = (char)(0x80 | (c >> 6 & 63));
        *to++ = (char)(0x80 | (c & 63));
    }
    return to;
}

// p stands behind "\u"; a lone surrogate becomes U+FFFD.
static const char *read_unicode(const char *p, const char *end, char **to)
{
    int c = end - p >= 4 ? hex4(p) : -1;
    if (c < 0)
        return NULL;
    p += 4;
    if (c >= 0xd800 && c < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
        int low = hex4(p + 2);
        if (low >= 0xdc00 && low < 0xe000) {
            *to =
                put_rune(*to, 0x10000 + ((uint32_t)(c - 0xd800) << 10) + (uint32_t)(low - 0xdc00));
            return p + 6;
        }
    }
    *to = put_rune(*to, c >= 0xd800 && c < 0xe000 ? 0xfffd : (uint32_t)c);
    return p;
}

// From the first backslash on.
static int unescape(struct reader *r, const char *start, const char *backslash, struct kl_str *ret)
{
    const char *close = backslash;
    while (close < r->end && *close != '"')
        close += *close == '\\' ? 2 : 1;
    if (close >= r->end)
        return refuse(r, "unterminated string");
    char *text = kl_arena_alloc(r->a, (size_t)(close - start)), *to = text;
    if (!text)
        return no_memory(r);
    memcpy(to, start, (size_t)(backslash - start));
    to += backslash - start;
    for (const char *p = backslash; p < close;) {
        static const char from[] = "\"\\/bfnrt", as[] = "\"\\/\b\f\n\r\t";
        if ((unsigned char)*p < 0x20)
            return refuse(r, "control character in string");
        if (*p != '\\') {
            *to++ = *p++;
            continue;
        }
        const char *known = p[1] && p[1] != 'u' ? strchr(from, p[1]) : NULL;
        if (known)
            *to++ = as[known - from];
        else if (p[1] != 'u' || !(p = read_unicode(p + 2, close, &to)))
            return refuse(r, "invalid escape in string");
        if (known)
            p += 2;
    }
    r->p = close + 1;
    *ret = (struct kl_str){text, (size_t)(to - text)};
    return 0;
}

// r->p stands behind the opening quote.
static int read_string(struct reader *r, struct kl_str *ret)
{
    const char *start = r->p;
    for (const char *p = start; p < r->end; p++) {
        if (*p == '"') {
            *ret = (struct kl_str){start, (size_t)(p - start)};
            r->p = p + 1;
            return 0;
        }
        if (*p == '\\')
            return unescape(r, start, p, ret);
        if ((unsigned char)*p < 0x20)
            return refuse(r, "control character in string");
    }
    return refuse(r, "unterminated string");
}

// ---- elements

// A number or string without escapes, as nearly all keys are; false: the slow way must read it.
static bool read_plain(struct kl_str *s, struct kl_value *ret)
{
    size_t i = 0;
    if (s->n && s->p[0] == '"') {
        for (i = 1; i < s->n && s->p[i] != '"'; i++)
            if (s->p[i] == '\\' || (unsigned char)s->p[i] < 0x20)
                return false;
        if (i == s->n)
            return false;
        *ret = kl_string((struct kl_str){s->p + 1, i - 1});
        *s = kl_str_from(*s, i + 1);
        return true;
    }
    int64_t number = 0;
    for (; i < s->n && i < 18 && s->p[i] >= '0' && s->p[i] <= '9'; i++)
        number = number * 10 + (s->p[i] - '0');
    if (!i || (i > 1 && s->p[0] == '0') || (i < s->n && s->p[i] != ',' && s->p[i] != '}'))
        return false;
    *ret = kl_int(number);
    *s = kl_str_from(*s, i);
    return true;
}

static int cmp_key_names(const struct kl_elem_key *a, const struct kl_elem_key *b)
{
    return kl_str_cmp(a->name, b->name);
}

static void sort_keys(struct kl_elem_key *k, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t j = i; j && cmp_key_names(&k[j - 1], &k[j]) > 0; j--) {
            struct kl_elem_key t = k[j];
            k[j] = k[j - 1];
            k[j - 1] = t;
        }
}

static int read_keys_slowly(struct reader *r, struct kl_str text, struct kl_elem *ret)
{
    struct kl_value v;
    struct kl_error err;
    int rc = kl_json_parse(r->a, text, NULL, &v, &err);
    if (rc == KL_ENOMEM)
        return no_memory(r);
    if (rc || v.kind != KL_MAP)
        return refuse(r, "keys are not a JSON object");
    struct kl_elem_key *keys = kl_arena_alloc(r->a, (v.n + 1) * sizeof *keys);
    if (!keys)
        return no_memory(r);
    for (uint32_t i = 0; i < v.n; i++)
        keys[i] = (struct kl_elem_key){kl_text(&v.items[2 * i]), v.items[2 * i + 1]};
    sort_keys(keys, v.n);
    *ret = (struct kl_elem){.kind = KL_ELEM_KEY, .n = v.n, .keys = keys};
    return 0;
}

enum { PLAIN_KEYS = 4 };

static int read_keys(struct reader *r, struct kl_str text, struct kl_elem *ret)
{
    struct kl_elem_key keys[PLAIN_KEYS], *kept;
    struct kl_str s = kl_str_from(text, 1);
    struct kl_value name;
    uint32_t n = 0;
    if (!text.n || text.p[0] != '{')
        return read_keys_slowly(r, text, ret);
    for (;;) {
        if (n == PLAIN_KEYS || !s.n || s.p[0] != '"' || !read_plain(&s, &name) || !s.n ||
            s.p[0] != ':')
            return read_keys_slowly(r, text, ret);
        s = kl_str_from(s, 1);
        keys[n].name = kl_text(&name);
        if (!read_plain(&s, &keys[n].value) || !s.n)
            return read_keys_slowly(r, text, ret);
        n++;
        char c = s.p[0];
        s = kl_str_from(s, 1);
        if (c == '}' && !s.n)
            break;
        if (c != ',')
            return read_keys_slowly(r, text, ret);
    }
    if (!(kept = kl_arena_alloc(r->a, n * sizeof *kept)))
        return no_memory(r);
    memcpy(kept, keys, n * sizeof *kept);
    sort_keys(kept, n);
    *ret = (struct kl_elem){.kind = KL_ELEM_KEY, .n = n, .keys = kept};
    return 0;
}

static int read_value(struct reader *r, struct kl_str text, struct kl_elem *ret)
{
    struct kl_str s = text;
    struct kl_error err;
    *ret = (struct kl_elem){.kind = KL_ELEM_VALUE};
    if (read_plain(&s, &ret->value) && !s.n)
        return 0;
    int rc = kl_json_parse(r->a, text, NULL, &ret->value, &err);
    return rc == KL_ENOMEM ? no_memory(r) : rc ? refuse(r, "value is not JSON") : 0;
}

// 1: an element of a kind that nobody knows.
static int read_elem(struct reader *r, struct kl_str key, struct kl_elem *ret)
{
    struct kl_str rest = kl_str_from(key, 2);
    if (key.n < 2)
        return refuse(r, "key must be 2 characters long");
    if (key.p[1] != ':')
        return refuse(r, "missing colon");
    switch (key.p[0]) {
    case 'f':
        *ret = (struct kl_elem){.kind = KL_ELEM_FIELD, .name = rest};
        return 0;
    case 'k':
        return read_keys(r, rest, ret);
    case 'v':
        return read_value(r, rest, ret);
    case 'i':
        *ret = (struct kl_elem){.kind = KL_ELEM_INDEX};
        return kl_str_to_i64(rest, &ret->index) ? 0 : refuse(r, "index is no number");
    default:
        return 1;
    }
}

// ---- sets

// Any JSON value, its depth bounded too.
static int skip_value(struct reader *r)
{
    struct kl_str ignored;
    size_t depth = 0;
    do {
        skip_space(r);
        if (r->p == r->end)
            return refuse(r, "unexpected end");
        char c = *r->p++;
        if (c == '"') {
            int rc = read_string(r, &ignored);
            if (rc)
                return rc;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            if (!depth)
                return refuse(r, "unexpected end of an object");
            depth--;
        } else if (!depth) { // a scalar: up to what can end it
            while (r->p < r->end && !strchr(",}] \t\r\n", *r->p))
                r->p++;
        }
    } while (depth);
    return 0;
}

static int read_set(struct reader *r, size_t depth, const struct kl_fieldset **ret, bool *ret_self);

static int read_member(struct reader *r, size_t depth, struct kl_fieldset_builder *b, bool *self)
{
    struct kl_str key;
    struct kl_elem e;
    const struct kl_fieldset *below;
    bool member;
    int rc = read_string(r, &key);
    if (rc)
        return rc;
    if (!take(r, ':'))
        return refuse(r, "expect : after object field");
    if (key.n == 1 && key.p[0] == '.') {
        *self = true;
        return skip_value(r);
    }
    if ((rc = read_elem(r, key, &e)) < 0)
        return rc;
    if (rc)
        return skip_value(r);
    if ((rc = read_set(r, depth + 1, &below, &member)))
        return rc;
    kl_fieldset_add(r->a, b, &e, member, below);
    return 0;
}

// An object without anything below it is a member of the level above.
static int read_set(struct reader *r, size_t depth, const struct kl_fieldset **ret, bool *ret_self)
{
    struct kl_fieldset_builder b = {0};
    *ret = NULL;
    *ret_self = true;
    if (depth > KL_FIELDSET_DEPTH)
        return refuse(r, "exceeded max depth");
    skip_space(r);
    if (r->end - r->p >= 4 && memcmp(r->p, "null", 4) == 0) {
        r->p += 4;
        return 0;
    }
    if (!take(r, '{'))
        return refuse(r, "expect { or n");
    if (take(r, '}'))
        return 0;
    *ret_self = false;
    do {
        if (!take(r, '"'))
            return refuse(r, "expect \" at the start of a field");
        int rc = read_member(r, depth, &b, ret_self);
        if (rc)
            return rc;
    } while (take(r, ','));
    if (!take(r, '}'))
        return refuse(r, "expect }");
    *ret = kl_fieldset_build(r->a, &b);
    if (*ret == &kl_fieldset_oom)
        return no_memory(r);
    *ret_self |= !*ret;
    return 0;
}

int kl_fieldset_parse(struct kl_arena *a, struct kl_str text, const struct kl_fieldset **ret_set,
                      struct kl_error *err)
{
    struct reader r = {.a = a, .p = text.p, .end = text.p + text.n, .err = err};
    bool self;
    int rc = read_set(&r, 0, ret_set, &self);
    if (rc)
        return rc;
    skip_space(&r);
    return r.p == r.end ? 0 : refuse(&r, "unexpected trailing data after JSON object");
}

// ---- looking without reading

// Behind the closing brace of the object whose opening one p stands behind; NULL: not to be found.
static const char *skip_object(const char *p, const char *end)
{
    for (size_t depth = 1; p < end; p++) {
        if (*p == '"') {
            for (p++; p < end && *p != '"'; p++)
                if (*p == '\\')
                    p++;
        } else if (*p == '{') {
            depth++;
        } else if (*p == '}' && --depth == 0) {
            return p + 1;
        }
    }
    return NULL;
}

// One level of compact text, p behind its opening brace. Whatever is not as we write it may meet.
static bool may_meet(const char **at, const char *end, const struct kl_fieldset *t)
{
    const char *p = *at;
    while (p < end && *p != '}') {
        if (*p == ',')
            p++;
        if (end - p < 4 || *p != '"')
            return true;
        const char *name = p + 1, *close = memchr(name, '"', (size_t)(end - name));
        if (!close || end - close < 4 || close[1] != ':' || close[2] != '{')
            return true;
        if (close - name == 1 && *name == '.') {
            p = close + 4;
            continue;
        }
        if (name[0] != 'f' || name[1] != ':' || memchr(name, '\\', (size_t)(close - name)))
            return true;
        struct kl_elem e = {.kind = KL_ELEM_FIELD, .name = {name + 2, (size_t)(close - name - 2)}};
        const struct kl_fieldset_node *n = kl_fieldset_find(t, &e);
        p = close + 3;
        if (!n) {
            if (!(p = skip_object(p, end)))
                return true;
            continue;
        }
        bool leaf = *p == '}' || (end - p > 6 && memcmp(p, "\".\":{}", 6) == 0);
        if ((n->member && leaf) || may_meet(&p, end, n->children))
            return true;
        if (p == end)
            return true;
        p++;
    }
    *at = p;
    return false;
}

// Whether a character is written by its number.
static bool has_code(struct kl_str text)
{
    const char *p = text.p, *end = text.p + text.n;
    while (p < end && (p = memchr(p, '\\', (size_t)(end - p))) && end - p > 1) {
        if (p[1] == 'u')
            return true;
        p += 2;
    }
    return false;
}

enum { NEEDLE_MAX = 64 };

// Whether none of the set's first names stands anywhere in the text, which a plain search tells
// faster than any reading.
static bool is_foreign(struct kl_str text, const struct kl_fieldset *t)
{
    char needle[NEEDLE_MAX + 8] = "\"f:";
    for (uint32_t i = 0; i < t->n; i++) {
        const struct kl_elem *e = &t->nodes[i].elem;
        if (e->kind != KL_ELEM_FIELD || e->name.n > NEEDLE_MAX)
            return false;
        for (size_t k = 0; k < e->name.n; k++) // what could be written in more than one way
            if ((unsigned char)e->name.p[k] <= ' ' || (unsigned char)e->name.p[k] >= 0x7f ||
                strchr("\"\\/<>&", e->name.p[k]))
                return false;
        memcpy(needle + 3, e->name.p, e->name.n);
        needle[3 + e->name.n] = '"';
        if (memmem(text.p, text.n, needle, e->name.n + 4))
            return false;
    }
    return !has_code(text);
}

bool kl_fieldset_text_may_meet(struct kl_str text, const struct kl_fieldset *t)
{
    const char *p = text.p + 1;
    if (!t || is_foreign(text, t))
        return false;
    return text.n < 2 || text.p[0] != '{' || may_meet(&p, text.p + text.n, t);
}

// ---- writing

// A JSON string's inside within an outer string: what is written by `put` is escaped once more.
// Unlike the values inside, the outer string keeps < > & and U+2028 as they are.
static void put_escaped(struct kl_buf *out, struct kl_str s)
{
    size_t from = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        kl_buf_append(out, s.p + from, i - from);
        from = i + 1;
        if (c == '"' || c == '\\')
            kl_buf_printf(out, "\\%c", c);
        else if (c == '\n' || c == '\r' || c == '\t')
            kl_buf_puts(out, c == '\n' ? KL_STR("\\n") : c == '\r' ? KL_STR("\\r") : KL_STR("\\t"));
        else
            kl_buf_printf(out, "\\u%04x", c);
    }
    kl_buf_append(out, s.p + from, s.n - from);
}

static bool is_plain(struct kl_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&')
            return false;
    }
    return true;
}

static void put_value(struct kl_buf *out, const struct kl_value *v)
{
    if (v->kind == KL_STRING && is_plain(kl_text(v))) {
        kl_buf_puts(out, KL_STR("\\\""));
        kl_buf_puts(out, kl_text(v));
        kl_buf_puts(out, KL_STR("\\\""));
        return;
    }
    struct kl_buf inner;
    kl_buf_init(&inner, out->max);
    kl_json_write(&inner, v);
    put_escaped(out, kl_buf_str(&inner));
    if (inner.err && !out->err)
        out->err = inner.err;
    kl_buf_fini(&inner);
}

// A name in there: not escaped for HTML, as upstream does not.
static void put_name(struct kl_buf *out, struct kl_str name)
{
    struct kl_buf inner;
    kl_buf_init(&inner, out->max);
    kl_buf_putc(&inner, '"');
    put_escaped(&inner, name);
    kl_buf_putc(&inner, '"');
    put_escaped(out, kl_buf_str(&inner));
    if (inner.err && !out->err)
        out->err = inner.err;
    kl_buf_fini(&inner);
}

static void put_elem(struct kl_buf *out, const struct kl_elem *e)
{
    switch (e->kind) {
    case KL_ELEM_FIELD:
        kl_buf_puts(out, KL_STR("\"f:"));
        put_escaped(out, e->name);
        break;
    case KL_ELEM_KEY:
        kl_buf_puts(out, KL_STR("\"k:{"));
        for (uint32_t i = 0; i < e->n; i++) {
            struct kl_value name = kl_string(e->keys[i].name);
            kl_buf_puts(out, i ? KL_STR(",") : KL_STR(""));
            if (is_plain(e->keys[i].name))
                put_value(out, &name);
            else
                put_name(out, e->keys[i].name);
            kl_buf_putc(out, ':');
            put_value(out, &e->keys[i].value);
        }
        kl_buf_putc(out, '}');
        break;
    case KL_ELEM_VALUE:
        kl_buf_puts(out, KL_STR("\"v:"));
        put_value(out, &e->value);
        break;
    default:
        kl_buf_printf(out, "\"i:%lld", (long long)e->index);
    }
    kl_buf_puts(out, KL_STR("\":{"));
}

static void put_set(struct kl_buf *out, const struct kl_fieldset *s, bool self)
{
    if (self)
        kl_buf_puts(out, KL_STR("\".\":{}"));
    for (uint32_t i = 0; s && i < s->n && !out->err; i++) {
        if (i || self)
            kl_buf_putc(out, ',');
        put_elem(out, &s->nodes[i].elem);
        if (s->nodes[i].children)
            put_set(out, s->nodes[i].children, s->nodes[i].member);
        kl_buf_putc(out, '}');
    }
}

void kl_fieldset_write(struct kl_buf *out, const struct kl_fieldset *s)
{
    kl_buf_putc(out, '{');
    put_set(out, s, false);
    kl_buf_putc(out, '}');
}
