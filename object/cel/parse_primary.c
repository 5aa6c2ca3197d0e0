// SPDX-License-Identifier: Apache-2.0
// Primaries: literals, names, calls, lists, maps, messages, and what all rules share. Where a token
// cannot stand, the message is the one ANTLR's error strategy gives at that point of the grammar; a
// token too many or too few is passed over as it does, anything else ends the parse.
#include "object/cel/parse_int.h"
#include "object/cel/value_int.h"
#include "base/buf.h"
#include <errno.h>
#include <stdlib.h>

struct cel_expr *cel_parse_fail(struct parser *p)
{
    p->failed = true;
    return NULL;
}

static void syntax_error(struct parser *p, const struct cel_token *at, const char *what,
                         struct kl_str shown, uint64_t expecting)
{
    struct kl_buf set;
    kl_buf_init(&set, 4096);
    int n = 0;
    for (int t = 0; t < 64; t++)
        if (expecting & TK_BIT(t))
            kl_buf_printf(&set, "%s%s", n++ ? ", " : "", cel_token_names[t]);
    cel_issue_at(p->b.issues, at->offset, "Syntax error: %s '%.*s' expecting %s%.*s%s", what,
                 KL_PRI(shown), n > 1 ? "{" : "", KL_PRI(kl_buf_str(&set)), n > 1 ? "}" : "");
    kl_buf_fini(&set);
}

const struct cel_token *cel_parse_peek(const struct parser *p, size_t n)
{
    return p->tok + n < p->end ? p->tok + n : p->end - 1;
}

void cel_parse_advance(struct parser *p)
{
    if (p->tok + 1 < p->end)
        p->tok++;
}

// A decision of the grammar: one token too many is passed over.
bool cel_parse_sync(struct parser *p, uint64_t set)
{
    if (is_in(p->tok->kind, set))
        return true;
    if (p->tok->kind != TK_EOF && is_in(cel_parse_peek(p, 1)->kind, set)) {
        syntax_error(p, p->tok, "extraneous input", p->tok->text, set);
        cel_parse_advance(p);
        return true;
    }
    syntax_error(p, p->tok, "mismatched input", p->tok->text, set);
    return false;
}

// A token that must come. `follow` is what may come behind it.
bool cel_parse_match(struct parser *p, enum token kind, uint64_t follow)
{
    if (p->tok->kind == kind) {
        if (kind != TK_EOF)
            cel_parse_advance(p);
        return true;
    }
    if (p->tok->kind != TK_EOF && cel_parse_peek(p, 1)->kind == kind) {
        syntax_error(p, p->tok, "extraneous input", p->tok->text, TK_BIT(kind));
        cel_parse_advance(p);
        if (kind != TK_EOF)
            cel_parse_advance(p);
        return true;
    }
    if (is_in(p->tok->kind, follow)) {
        cel_issue_at(p->b.issues, p->tok->offset, "Syntax error: missing %s at '%.*s'",
                     cel_token_names[kind], KL_PRI(p->tok->text));
        return true;
    }
    syntax_error(p, p->tok, "mismatched input", p->tok->text, TK_BIT(kind));
    return false;
}

bool cel_parse_enter(struct parser *p, enum rule r)
{
    if (++p->depth[r] > CEL_MAX_DEPTH) {
        cel_issue_at(p->b.issues, -1, "expression recursion limit exceeded: %d", CEL_MAX_DEPTH);
        p->failed = true;
        return false;
    }
    return true;
}

struct cel_expr *cel_parse_call(struct parser *p, int32_t offset, struct kl_str function,
                                struct cel_expr *target, size_t n, struct cel_expr **args)
{
    struct cel_expr *made = NULL;
    p->b.offset = offset;
    if (cel_expand(&p->b, offset, function, target, n, args, &made)) {
        if (made || p->b.issues->out_of_memory)
            return made;
        made = cel_new(&p->b, E_BAD, offset); // reported; the parse goes on
        return made;
    }
    made = cel_call(&p->b, "", target, n, args);
    if (made)
        made->name = function;
    return made;
}

static struct cel_expr *literal(struct parser *p, const struct cel_token *start,
                                struct kl_cel_val v)
{
    p->b.offset = start->offset;
    return cel_literal(&p->b, v);
}

static struct cel_expr *bad_node(struct parser *p, const struct cel_token *at, const char *what)
{
    cel_issue_at(p->b.issues, at->offset, "%s", what);
    return cel_new(&p->b, E_BAD, at->offset);
}

static struct cel_expr *parse_number(struct parser *p)
{
    const struct cel_token *start = p->tok;
    char text[512];
    size_t n = 0;
    if (p->tok->kind == TK_MINUS) {
        text[n++] = '-';
        cel_parse_advance(p);
    }
    const struct cel_token *t = p->tok;
    bool hex = t->kind != TK_FLOAT && kl_str_starts(t->text, KL_STR("0x"));
    struct kl_str digits = kl_str_from(t->text, hex ? 2 : 0);
    cel_parse_advance(p);
    if (t->kind == TK_FLOAT) {
        struct kl_str all = kl_arena_printf(p->b.arena, "%s%.*s", n ? "-" : "", KL_PRI(t->text));
        double d;
        return all.p && cel_parse_double(all, &d) ? literal(p, start, kl_cel_double(d))
                                                  : bad_node(p, start, "invalid double literal");
    }
    if (digits.n > sizeof text - 4) // leading zeros are the only way to be valid
        while (digits.n > 64 && digits.p[0] == '0')
            digits = kl_str_from(digits, 1);
    const char *bad = t->kind == TK_UINT ? "invalid uint literal" : "invalid int literal";
    if (digits.n > sizeof text - 4)
        return bad_node(p, start, bad);
    memcpy(text + n, digits.p, digits.n);
    n += digits.n;
    if (t->kind == TK_UINT)
        n--;
    text[n] = 0;
    errno = 0;
    if (t->kind == TK_UINT) {
        uint64_t u = strtoull(text, NULL, hex ? 16 : 10);
        return errno ? bad_node(p, start, bad) : literal(p, start, kl_cel_uint(u));
    }
    int64_t i = strtoll(text, NULL, hex ? 16 : 10);
    return errno ? bad_node(p, start, bad) : literal(p, start, kl_cel_int(i));
}

static struct cel_expr *parse_text(struct parser *p)
{
    const struct cel_token *t = p->tok;
    bool bytes = t->kind == TK_BYTES;
    struct kl_str s = t->text;
    cel_parse_advance(p);
    const char *bad = cel_unquote(p->b.arena, kl_str_from(t->text, bytes), bytes, &s);
    if (bad)
        return bad_node(p, t, bad);
    struct kl_cel_val v = cel_str(s);
    if (bytes)
        v.kind = KL_CEL_BYTES;
    return literal(p, t, v);
}

// ---- lists of things

void *cel_parse_push(struct parser *p, struct items *items)
{
    if (items->n == items->cap) {
        size_t cap = items->cap ? 2 * items->cap : 8;
        void *more = kl_arena_alloc(p->b.arena, cap * items->size);
        if (!more) {
            p->b.issues->out_of_memory = true;
            return cel_parse_fail(p);
        }
        if (items->n)
            memcpy(more, items->p, items->n * items->size);
        items->p = more;
        items->cap = cap;
    }
    return memset((char *)items->p + items->size * items->n++, 0, items->size);
}

// exprList? ')'
bool cel_parse_args(struct parser *p, struct items *args)
{
    *args = (struct items){.size = sizeof(struct cel_expr *)};
    if (!cel_parse_sync(p, EXPR_FIRST | TK_BIT(TK_RPAREN)))
        return false;
    if (p->tok->kind != TK_RPAREN) {
        for (;;) {
            struct cel_expr *e = cel_parse_expr(p), **slot = e ? cel_parse_push(p, args) : NULL;
            if (!slot)
                return false;
            *slot = e;
            if (p->tok->kind != TK_COMMA)
                break;
            cel_parse_advance(p);
        }
    }
    return cel_parse_match(p, TK_RPAREN, FOLLOW_MEMBER);
}

uint16_t cel_parse_depth(const struct items *args)
{
    uint16_t d = 0;
    for (size_t i = 0; i < args->n; i++)
        d = ((struct cel_expr **)args->p)[i]->depth > d ? ((struct cel_expr **)args->p)[i]->depth
                                                        : d;
    return d;
}

static struct cel_expr *parse_list(struct parser *p)
{
    const struct cel_token *open = p->tok;
    struct items elems = {.size = sizeof(struct cel_expr *)}, opts = {.size = sizeof(bool)};
    bool any = false;
    cel_parse_advance(p);
    if (!cel_parse_sync(p,
                        EXPR_FIRST | TK_BIT(TK_RBRACKET) | TK_BIT(TK_COMMA) | TK_BIT(TK_QUESTION)))
        return cel_parse_fail(p);
    while (p->tok->kind != TK_RBRACKET && !(p->tok->kind == TK_COMMA && !elems.n)) {
        bool optional = p->tok->kind == TK_QUESTION;
        if (optional)
            cel_parse_advance(p);
        struct cel_expr *e = cel_parse_expr(p), **slot = e ? cel_parse_push(p, &elems) : NULL;
        bool *opt = slot ? cel_parse_push(p, &opts) : NULL;
        if (!opt)
            return cel_parse_fail(p);
        *slot = e;
        *opt = optional;
        any |= optional;
        if (p->tok->kind != TK_COMMA ||
            !is_in(cel_parse_peek(p, 1)->kind, EXPR_FIRST | TK_BIT(TK_QUESTION)))
            break;
        cel_parse_advance(p);
    }
    if (!cel_parse_sync(p, TK_BIT(TK_RBRACKET) | TK_BIT(TK_COMMA)))
        return cel_parse_fail(p);
    if (p->tok->kind == TK_COMMA)
        cel_parse_advance(p);
    if (!cel_parse_match(p, TK_RBRACKET, FOLLOW_MEMBER))
        return cel_parse_fail(p);
    p->b.offset = open->offset;
    struct cel_expr *list = cel_list(&p->b, elems.n, elems.p);
    if (!list)
        return cel_parse_fail(p);
    if (any)
        list->optional = opts.p;
    list->depth = cel_parse_depth(&elems);
    return list;
}

bool cel_parse_name(struct parser *p, struct kl_str *ret)
{
    const struct cel_token *t = p->tok;
    cel_parse_advance(p);
    *ret = t->text;
    if (t->kind == TK_ESC_IDENT) // not enabled in Kubernetes
        cel_issue_at(p->b.issues, t->offset, "unsupported syntax: '`'");
    return true;
}

// The entries of a map or a message up to the closing brace. `fields`: names instead of keys.
static struct cel_expr *parse_entries(struct parser *p, struct cel_expr *made, bool fields)
{
    struct items entries = {.size = sizeof(struct cel_entry)};
    uint64_t first = fields ? TK_BIT(TK_IDENT) | TK_BIT(TK_ESC_IDENT) : EXPR_FIRST;
    uint16_t depth = 0;
    if (!cel_parse_sync(p, first | TK_BIT(TK_RBRACE) | TK_BIT(TK_COMMA) | TK_BIT(TK_QUESTION)))
        return cel_parse_fail(p);
    while (p->tok->kind != TK_RBRACE && !(p->tok->kind == TK_COMMA && !entries.n)) {
        struct cel_entry *e = cel_parse_push(p, &entries);
        if (!e)
            return NULL;
        e->optional = p->tok->kind == TK_QUESTION;
        if (e->optional)
            cel_parse_advance(p);
        if (fields) {
            if (!cel_parse_sync(p, first) || !cel_parse_name(p, &e->field))
                return cel_parse_fail(p);
        } else if (!(e->key = cel_parse_expr(p))) {
            return NULL;
        }
        e->offset = p->tok->offset;
        if (!cel_parse_match(p, TK_COLON, EXPR_FIRST))
            return cel_parse_fail(p);
        struct cel_expr *value = cel_parse_expr(p);
        if (!value)
            return NULL;
        e = (struct cel_entry *)entries.p + entries.n - 1;
        e->value = value;
        depth = value->depth > depth ? value->depth : depth;
        if (e->key)
            depth = e->key->depth > depth ? e->key->depth : depth;
        if (p->tok->kind != TK_COMMA ||
            !is_in(cel_parse_peek(p, 1)->kind, first | TK_BIT(TK_QUESTION)))
            break;
        cel_parse_advance(p);
    }
    if (!cel_parse_sync(p, TK_BIT(TK_RBRACE) | TK_BIT(TK_COMMA)))
        return cel_parse_fail(p);
    if (p->tok->kind == TK_COMMA)
        cel_parse_advance(p);
    if (!cel_parse_match(p, TK_RBRACE, FOLLOW_MEMBER))
        return cel_parse_fail(p);
    made->n = (uint32_t)entries.n;
    made->entries = entries.p;
    made->depth = depth;
    return made;
}

// Whether names with dots lead to a brace here: a message.
static bool is_message(const struct parser *p)
{
    size_t i = cel_parse_peek(p, 0)->kind == TK_DOT;
    while (cel_parse_peek(p, i)->kind == TK_IDENT) {
        i++;
        if (cel_parse_peek(p, i)->kind == TK_LBRACE)
            return true;
        if (cel_parse_peek(p, i)->kind != TK_DOT)
            return false;
        i++;
    }
    return false;
}

static struct cel_expr *parse_message(struct parser *p)
{
    struct kl_buf name;
    kl_buf_init(&name, 1 << 20);
    while (p->tok->kind != TK_LBRACE) {
        kl_buf_puts(&name, p->tok->text);
        cel_parse_advance(p);
    }
    struct cel_expr *made = cel_new(&p->b, E_STRUCT, p->tok->offset);
    if (made)
        made->name = kl_arena_dup(p->b.arena, kl_buf_str(&name));
    kl_buf_fini(&name);
    if (!made || !made->name.p) {
        p->b.issues->out_of_memory = true;
        return cel_parse_fail(p);
    }
    cel_parse_advance(p);
    return parse_entries(p, made, true);
}

static bool is_reserved(struct kl_str s)
{
    static const char *const words[] = {
        "as",  "break", "const",     "continue", "else",   "for", "function", "if",   "import",
        "let", "loop",  "namespace", "package",  "return", "var", "void",     "while"};
    for (size_t i = 0; i < KL_COUNT(words); i++)
        if (kl_str_eqz(s, words[i]))
            return true;
    return false;
}

struct cel_expr *cel_parse_no_alternative(struct parser *p, const struct cel_token *from,
                                          const struct cel_token *to)
{
    const char *end =
        to->kind == TK_EOF ? p->src->text.p + p->src->text.n : to->text.p + to->text.n;
    // Dots before a reserved word read better as what they are.
    bool word = to == from + 1 && from->text.n == 1 && to->text.p == from->text.p + 1 &&
                (to->kind == TK_TRUE || to->kind == TK_FALSE || to->kind == TK_NULL);
    if (word)
        cel_issue_at(p->b.issues, to->offset,
                     "Syntax error: mismatched input '%.*s' expecting IDENTIFIER",
                     KL_PRI(to->text));
    else
        cel_issue_at(p->b.issues, to->offset, "Syntax error: no viable alternative at input '%.*s'",
                     (int)(end - from->text.p), from->text.p);
    return cel_parse_fail(p);
}

static struct cel_expr *parse_name(struct parser *p)
{
    const struct cel_token *start = p->tok;
    if (is_message(p))
        return parse_message(p);
    if (start->kind == TK_DOT)
        cel_parse_advance(p);
    if (p->tok->kind != TK_IDENT)
        return cel_parse_no_alternative(p, start, p->tok);
    const struct cel_token *id = p->tok;
    cel_parse_advance(p);
    struct kl_str name = id->text;
    bool reserved = is_reserved(name);
    if (reserved)
        cel_issue_at(p->b.issues, start->offset, "reserved identifier: %.*s", KL_PRI(name));
    if (start->kind == TK_DOT)
        name = kl_arena_printf(p->b.arena, ".%.*s", KL_PRI(id->text));
    if (p->tok->kind == TK_LPAREN) {
        int32_t offset = p->tok->offset;
        struct items args;
        cel_parse_advance(p);
        if (!cel_parse_args(p, &args))
            return cel_parse_fail(p);
        struct cel_expr *call = reserved ? cel_new(&p->b, E_BAD, offset)
                                         : cel_parse_call(p, offset, name, NULL, args.n, args.p);
        if (!call)
            return cel_parse_fail(p);
        call->depth = cel_parse_depth(&args);
        return call;
    }
    p->b.offset = id->offset;
    return reserved ? cel_new(&p->b, E_BAD, start->offset) : cel_ident(&p->b, name);
}

struct cel_expr *cel_parse_primary(struct parser *p)
{
    struct cel_expr *e;
    const struct cel_token *t = p->tok;
    if (!cel_parse_enter(p, R_PRIMARY) || !cel_parse_sync(p, PRIMARY_FIRST))
        return cel_parse_fail(p);
    t = p->tok;
    switch (t->kind) {
    case TK_LPAREN:
        cel_parse_advance(p);
        e = cel_parse_expr(p);
        if (!e || !cel_parse_match(p, TK_RPAREN, FOLLOW_MEMBER))
            return cel_parse_fail(p);
        break;
    case TK_LBRACKET:
        e = parse_list(p);
        break;
    case TK_LBRACE:
        e = cel_new(&p->b, E_MAP, t->offset);
        cel_parse_advance(p);
        e = e ? parse_entries(p, e, false) : NULL;
        break;
    case TK_DOT:
    case TK_IDENT:
        e = parse_name(p);
        break;
    case TK_MINUS:
        if (cel_parse_peek(p, 1)->kind != TK_INT && cel_parse_peek(p, 1)->kind != TK_FLOAT)
            return cel_parse_no_alternative(p, t, t + 1 < p->end ? t + 1 : t);
        e = parse_number(p);
        break;
    case TK_INT:
    case TK_UINT:
    case TK_FLOAT:
        e = parse_number(p);
        break;
    case TK_STRING:
    case TK_BYTES:
        e = parse_text(p);
        break;
    default:
        cel_parse_advance(p);
        e = literal(p, t, t->kind == TK_NULL ? kl_cel_null() : kl_cel_bool(t->kind == TK_TRUE));
        break;
    }
    p->depth[R_PRIMARY]--;
    return e ? e : cel_parse_fail(p);
}
