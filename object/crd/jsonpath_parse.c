// SPDX-License-Identifier: Apache-2.0
// The parser of JSONPath templates (client-go util/jsonpath/parser.go).
#include "object/crd/jsonpath_int.h"
#include "object/json_int.h"
#include <ctype.h>

struct parser {
    struct kl_arena *a;
    struct kl_str in;
    size_t pos, start;
    int depth;
    struct kl_error *err;
};

static int parse(struct kl_arena *a, struct kl_str text, int depth, struct jsonpath_nodes *root,
                 struct kl_error *err);

static int oom(struct parser *p)
{
    return kl_error_set(p->err, KL_ENOMEM, "out of memory");
}

static struct jsonpath_node *append(struct parser *p, struct jsonpath_nodes *to,
                                    enum jsonpath_kind kind)
{
    struct jsonpath_node *n = KL_ARENA_NEW(p->a, struct jsonpath_node);
    if (!n)
        return NULL;
    if (to->n == to->cap) {
        uint32_t cap = to->cap ? 2 * to->cap : 4;
        struct jsonpath_node **more = kl_arena_alloc(p->a, cap * sizeof(void *));
        if (!more)
            return NULL;
        if (to->n)
            memcpy(more, to->of, to->n * sizeof(void *));
        to->of = more;
        to->cap = cap;
    }
    n->kind = kind;
    to->of[to->n++] = n;
    return n;
}

static int append_text(struct parser *p, struct jsonpath_nodes *to, enum jsonpath_kind kind,
                       struct kl_str text)
{
    struct jsonpath_node *n = append(p, to, kind);
    if (!n)
        return oom(p);
    n->text = text;
    return 0;
}

static struct kl_str consume(struct parser *p)
{
    struct kl_str s = {p->in.p + p->start, p->pos - p->start};
    p->start = p->pos;
    return s;
}

static int peek(const struct parser *p)
{
    return p->pos < p->in.n ? (unsigned char)p->in.p[p->pos] : -1;
}

static int next(struct parser *p)
{
    int c = peek(p);
    p->pos += c >= 0;
    return c;
}

static bool starts(const struct parser *p, const char *z)
{
    return kl_str_starts(kl_str_from(p->in, p->pos), kl_str(z));
}

static bool is_terminator(int c)
{
    return c < 0 || (c && strchr(" \t\r\n.,[]$@{}", c));
}

static bool is_word(int c)
{
    return c == '_' || c >= 0x80 || (c >= 0 && isalnum(c));
}

// One expression by itself: "[0]" of a union, a side of a filter.
static int parse_action(struct parser *p, const char *before, struct kl_str text, const char *after,
                        struct jsonpath_nodes *ret)
{
    struct jsonpath_nodes root = {0};
    struct kl_str s = kl_arena_printf(p->a, "{%s%.*s%s}", before, KL_PRI(text), after);
    if (!s.p)
        return oom(p);
    int r = parse(p->a, s, p->depth + 1, &root, p->err);
    if (!r && (!root.n || root.of[0]->kind != JP_LIST))
        return kl_error_set(p->err, KL_EINVALID, "unexpected expression %.*s", KL_PRI(text));
    if (!r)
        *ret = root.of[0]->list;
    return r;
}

// ---- [...]
static bool read_int(struct kl_str *s, struct kl_str *ret)
{
    size_t n = 0;
    if (n < s->n && s->p[n] == '-')
        n++;
    while (n < s->n && isdigit((unsigned char)s->p[n]))
        n++;
    *ret = (struct kl_str){s->p, n};
    *s = kl_str_from(*s, n);
    return n > 0;
}

static int parse_slice(struct parser *p, struct jsonpath_nodes *cur, struct kl_str text)
{
    struct kl_str rest = text, part[3] = {{"", 0}, {"", 0}, {"", 0}};
    bool there[3] = {false};
    struct jsonpath_node *n;
    there[0] = read_int(&rest, &part[0]);
    for (int i = 1; i < 3 && rest.n && rest.p[0] == ':'; i++) {
        there[i] = true;
        rest = kl_str_from(rest, 1);
        read_int(&rest, &part[i]);
    }
    if (rest.n)
        return kl_error_set(p->err, KL_EINVALID, "invalid array index %.*s", KL_PRI(text));
    if (!(n = append(p, cur, JP_ARRAY)))
        return oom(p);
    for (int i = 0; i < 3; i++) {
        struct jsonpath_param *q = &n->params[i];
        if (part[i].n) {
            q->known = true;
            if (!kl_str_to_i64(part[i], &q->value) || q->value > INT32_MAX || q->value < INT32_MIN)
                return kl_error_set(p->err, KL_EINVALID, "array index %.*s is not a number",
                                    KL_PRI(part[i]));
        } else if (i == 1 && !there[1]) {
            *q = (struct jsonpath_param){n->params[0].value + 1, true, true};
        }
    }
    return 0;
}

static int parse_union(struct parser *p, struct jsonpath_nodes *cur, struct kl_str text)
{
    struct kl_str part;
    struct jsonpath_node *n = append(p, cur, JP_UNION);
    if (!n)
        return oom(p);
    while (kl_str_split(&text, ',', &part)) {
        while (part.n && part.p[0] == ' ')
            part = kl_str_from(part, 1);
        while (part.n && part.p[part.n - 1] == ' ')
            part.n--;
        struct jsonpath_node *list = append(p, &n->list, JP_LIST);
        int r = list ? parse_action(p, "[", part, "]", &list->list) : oom(p);
        if (r)
            return r;
    }
    return 0;
}

static int parse_array(struct parser *p, struct jsonpath_nodes *cur)
{
    for (int c = next(p); c != ']'; c = next(p))
        if (c < 0 || c == '\n')
            return kl_error_set(p->err, KL_EINVALID, "unterminated array");
    struct kl_str text = consume(p);
    text = (struct kl_str){text.p + 1, text.n - 2};
    if (kl_str_eqz(text, "*"))
        text = KL_STR(":");
    if (kl_str_chr(text, ',') >= 0)
        return parse_union(p, cur, text);
    if (text.n >= 2 && text.p[0] == '\'' && text.p[text.n - 1] == '\'' &&
        !memchr(text.p + 1, '\'', text.n - 2)) {
        struct jsonpath_nodes list = {0};
        int r = parse_action(p, ".", (struct kl_str){text.p + 1, text.n - 2}, "", &list);
        for (uint32_t i = 0; !r && i < list.n; i++) {
            struct jsonpath_node *n = append(p, cur, JP_TEXT);
            if (!n)
                return oom(p);
            *n = *list.of[i];
        }
        return r;
    }
    return parse_slice(p, cur, text);
}

// ---- [?(...)]
static bool is_operator(char c)
{
    return strchr("!<>=", c) && c;
}

static int parse_filter(struct parser *p, struct jsonpath_nodes *cur)
{
    bool begin = false, end = false;
    int pair = 0;
    p->pos += 3;
    consume(p);
    for (;;) {
        int c = next(p);
        if (c < 0 || c == '\n')
            return kl_error_set(p->err, KL_EINVALID, "unterminated filter");
        if (c == '"' || c == '\'') {
            if (!begin) {
                begin = true;
                pair = c;
            } else if (p->in.p[p->pos - 2] != '\\' && c == pair) {
                end = true;
            }
        } else if (c == ')' && begin == end) {
            break;
        }
    }
    if (next(p) != ']')
        return kl_error_set(p->err, KL_EINVALID, "unclosed array expect ]");
    struct kl_str text = consume(p);
    size_t from = 0, to;
    text.n -= 2;
    while (from < text.n && !is_operator(text.p[from]))
        from++;
    for (to = from; to < text.n && is_operator(text.p[to]); to++)
        ;
    if (to == text.n && to > from + 1)
        to--; // what stands right has one character at least
    struct jsonpath_node *n = append(p, cur, JP_FILTER);
    if (!n)
        return oom(p);
    if (!from || from == text.n || to == text.n) {
        n->text = KL_STR("exists");
        return parse_action(p, "", text, "", &n->list);
    }
    n->text = (struct kl_str){text.p + from, to - from};
    int r = parse_action(p, "", (struct kl_str){text.p, from}, "", &n->list);
    return r ? r : parse_action(p, "", kl_str_from(text, to), "", &n->right);
}

// ---- tokens
static int parse_number(struct parser *p, struct jsonpath_nodes *cur)
{
    struct jsonpath_node *n;
    int64_t i;
    double d;
    if (peek(p) == '+' || peek(p) == '-')
        p->pos++;
    while (peek(p) == '.' || (peek(p) >= 0 && isdigit(peek(p))))
        p->pos++;
    struct kl_str s = consume(p), digits = s;
    if (digits.n && digits.p[0] == '+')
        digits = kl_str_from(digits, 1);
    if (!(n = append(p, cur, JP_SCALAR)))
        return oom(p);
    if (kl_str_to_i64(digits, &i)) {
        n->value = kl_int(i);
        return 0;
    }
    size_t dots = 0;
    for (size_t k = 0; k < digits.n; k++)
        dots += digits.p[k] == '.';
    if (dots != 1 || digits.n < 2 || !kl_json_to_double(p->a, digits, &d))
        return kl_error_set(p->err, KL_EINVALID, "cannot parse number %.*s", KL_PRI(s));
    n->value = kl_float(d);
    return 0;
}

static int parse_quote(struct parser *p, struct jsonpath_nodes *cur, int quote)
{
    for (int c = next(p);; c = next(p)) {
        if (c < 0 || c == '\n')
            return kl_error_set(p->err, KL_EINVALID, "unterminated quoted string");
        if (c == quote && p->in.p[p->pos - 2] != '\\')
            break;
    }
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    struct kl_str s = consume(p);
    char *out = kl_arena_alloc(p->a, s.n + 1);
    size_t n = 0;
    if (!out)
        return oom(p);
    for (size_t i = 1; i + 1 < s.n; i++) {
        const char *at = s.p[i] == '\\' && i + 2 < s.n ? strchr(from, s.p[i + 1]) : NULL;
        if (s.p[i] == '\\' && (!at || !*at))
            return kl_error_set(p->err, KL_EINVALID, "unquote string %.*s error invalid syntax",
                                KL_PRI(s));
        out[n++] = at ? to[at - from] : s.p[i];
        i += at != NULL;
    }
    return append_text(p, cur, JP_TEXT, (struct kl_str){out, n});
}

static int parse_field(struct parser *p, struct jsonpath_nodes *cur)
{
    consume(p);
    while (!is_terminator(peek(p)))
        if (next(p) == '\\')
            next(p);
    struct kl_str s = consume(p);
    if (kl_str_eqz(s, "*"))
        return append(p, cur, JP_WILDCARD) ? 0 : oom(p);
    char *name = kl_arena_alloc(p->a, s.n + 1);
    size_t n = 0;
    if (!name)
        return oom(p);
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '\\')
            name[n++] = s.p[i];
    return append_text(p, cur, JP_FIELD, (struct kl_str){name, n});
}

static int parse_identifier(struct parser *p, struct jsonpath_nodes *cur)
{
    while (!is_terminator(peek(p)))
        p->pos++;
    struct kl_str s = consume(p);
    if (!kl_str_eqz(s, "true") && !kl_str_eqz(s, "false"))
        return append_text(p, cur, JP_IDENTIFIER, s);
    struct jsonpath_node *n = append(p, cur, JP_SCALAR);
    if (!n)
        return oom(p);
    n->value = kl_bool(s.n == 4);
    return 0;
}

// What stands between braces, up to the closing one.
static int parse_inside(struct parser *p, struct jsonpath_nodes *cur)
{
    int r = 0;
    while (!r) {
        if (starts(p, "}")) {
            p->pos++;
            consume(p);
            return 0;
        }
        if (starts(p, "[?(")) {
            r = parse_filter(p, cur);
            continue;
        }
        if (starts(p, "..")) {
            if (cur->n && cur->of[cur->n - 1]->kind == JP_RECURSIVE)
                return kl_error_set(p->err, KL_EINVALID, "invalid multiple recursive descent");
            p->pos += 2;
            consume(p);
            r = append(p, cur, JP_RECURSIVE) ? 0 : oom(p);
            if (!r && is_word(peek(p)))
                r = parse_field(p, cur);
            continue;
        }
        int c = next(p);
        if (c < 0 || c == '\r' || c == '\n')
            return kl_error_set(p->err, KL_EINVALID, "unclosed action");
        if (c == ' ' || c == '@' || c == '$')
            consume(p);
        else if (c == '[')
            r = parse_array(p, cur);
        else if (c == '"' || c == '\'')
            r = parse_quote(p, cur, c);
        else if (c == '.')
            r = parse_field(p, cur);
        else if (c == '+' || c == '-' || isdigit(c)) {
            p->pos--;
            r = parse_number(p, cur);
        } else if (is_word(c)) {
            p->pos--;
            r = parse_identifier(p, cur);
        } else {
            return kl_error_set(p->err, KL_EINVALID,
                                "unrecognized character in action: U+%04X '%c'", (unsigned)c, c);
        }
    }
    return r;
}

static int parse(struct kl_arena *a, struct kl_str text, int depth, struct jsonpath_nodes *root,
                 struct kl_error *err)
{
    struct parser p = {.a = a, .in = text, .depth = depth, .err = err};
    int r = 0;
    if (depth > KL_JSONPATH_DEPTH_MAX)
        return kl_error_set(err, KL_EINVALID, "filters are nested too deeply");
    while (!r && p.pos < p.in.n) {
        if (!starts(&p, "{")) {
            p.pos++;
            continue;
        }
        if (p.pos > p.start)
            r = append_text(&p, root, JP_TEXT, consume(&p));
        p.pos++;
        consume(&p);
        struct jsonpath_node *list = r ? NULL : append(&p, root, JP_LIST);
        if (!r)
            r = list ? parse_inside(&p, &list->list) : oom(&p);
    }
    if (!r && p.pos > p.start)
        r = append_text(&p, root, JP_TEXT, consume(&p));
    return r;
}

int kl_jsonpath_parse(struct kl_arena *a, struct kl_str text, struct kl_jsonpath **ret,
                      struct kl_error *err)
{
    struct kl_jsonpath *p = KL_ARENA_NEW(a, struct kl_jsonpath);
    struct kl_str kept = kl_arena_dup(a, text);
    if (!p || !kept.p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int r = parse(a, kept, 0, &p->root, err);
    if (!r)
        *ret = p;
    return r;
}
