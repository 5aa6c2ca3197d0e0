// SPDX-License-Identifier: Apache-2.0
// How deep Go's tree of a pattern would be (regexp/syntax, checkHeight): RE2 has no such limit. The
// pattern is one that RE2 takes, so its groups and classes end. Single characters beside each other
// are one node there, those of an alternation a class; that common beginnings of an alternation are
// drawn out, which may make it two deeper, is not repeated here.
#include "object/cel/re2_int.h"
#include <stdlib.h>

enum {
    HEIGHT_MAX = 1000,
    GROUPS_MAX = 4096, // open at once: those that do not capture make nothing deeper
};

enum op { CHAR, TEXT, CLASS, CONCAT, ALTERNATE, OTHER };

struct node {
    enum op op;
    bool fold; // of CHAR and TEXT: those of a kind are joined
    uint32_t height;
};

// Nodes of one operation: how many, the one if there is one only, how high the highest is.
struct heap {
    struct node only;
    uint32_t n, height;
};

struct group {
    struct heap pieces, branches; // of the branch that is being read; before it
    struct node top;              // the piece that a repetition takes
    bool has_top, captures;
    bool fold; // before it
};

struct scan {
    const unsigned char *p, *end;
    struct group *groups;
    size_t n, cap;
    size_t captures; // of them
    bool fold, deep;
};

static void add(struct heap *h, struct node x, enum op op)
{
    // What is of the same operation is part of this one.
    uint32_t height = x.height - (x.op == op);
    h->only = x;
    h->n += x.op == op ? 2 : 1;
    h->height = height > h->height ? height : h->height;
}

static struct node joined(const struct heap *h, enum op op)
{
    return !h->n       ? (struct node){.op = OTHER, .height = 1}
           : h->n == 1 ? h->only
                       : (struct node){.op = op, .height = h->height + 1};
}

static bool is_text(const struct node *x)
{
    return x->op == CHAR || x->op == TEXT;
}

static void settle(struct group *g)
{
    struct heap *h = &g->pieces;
    if (g->has_top && h->n && is_text(&h->only) && is_text(&g->top) && h->only.fold == g->top.fold)
        h->only.op = TEXT;
    else if (g->has_top)
        add(h, g->top, CONCAT);
    g->has_top = false;
}

static void check(struct scan *s, struct node x)
{
    s->deep |= x.height > HEIGHT_MAX;
}

static void push(struct scan *s, struct node x)
{
    struct group *g = &s->groups[s->n - 1];
    settle(g);
    g->top = x;
    g->has_top = true;
    check(s, x);
}

static void push_op(struct scan *s, enum op op)
{
    push(s, (struct node){.op = op, .fold = s->fold, .height = 1});
}

static void repeat(struct scan *s)
{
    struct group *g = &s->groups[s->n - 1];
    if (!g->has_top)
        return;
    g->top = (struct node){.op = OTHER, .height = g->top.height + 1};
    check(s, g->top);
}

static void end_branch(struct scan *s)
{
    struct group *g = &s->groups[s->n - 1];
    settle(g);
    struct node x = joined(&g->pieces, CONCAT);
    struct heap *b = &g->branches;
    check(s, x);
    if (b->n && (b->only.op == CHAR || b->only.op == CLASS) && (x.op == CHAR || x.op == CLASS))
        b->only.op = CLASS;
    else
        add(b, x, ALTERNATE);
    g->pieces = (struct heap){0};
}

static bool open_group(struct scan *s, bool captures, bool fold_before)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 32;
        struct group *more = realloc(s->groups, cap * sizeof *more);
        if (!more)
            return false;
        s->groups = more;
        s->cap = cap;
    }
    s->groups[s->n++] = (struct group){.captures = captures, .fold = fold_before};
    s->captures += captures;
    s->deep |= s->captures > HEIGHT_MAX || s->n > GROUPS_MAX;
    return true;
}

static void close_group(struct scan *s)
{
    if (s->n < 2)
        return;
    end_branch(s);
    const struct group g = s->groups[--s->n];
    struct node x = joined(&g.branches, ALTERNATE);
    check(s, x);
    s->fold = g.fold;
    s->captures -= g.captures;
    push(s, g.captures ? (struct node){.op = OTHER, .height = x.height + 1} : x);
}

static void skip_past(struct scan *s, char c)
{
    const unsigned char *at = memchr(s->p, c, (size_t)(s->end - s->p));
    s->p = at ? at + 1 : s->end;
}

// Behind "(".
static bool read_group(struct scan *s)
{
    bool before = s->fold, on = true;
    if (s->p == s->end || *s->p != '?')
        return open_group(s, true, before);
    if (s->end - s->p > 1 && (s->p[1] == 'P' || s->p[1] == '<')) {
        skip_past(s, '>');
        return open_group(s, true, before);
    }
    for (s->p++; s->p < s->end && *s->p != ')' && *s->p != ':'; s->p++) {
        on = on && *s->p != '-';
        s->fold = *s->p == 'i' ? on : s->fold;
    }
    bool group = s->p < s->end && *s->p == ':';
    s->p += s->p < s->end;
    return !group || open_group(s, false, before);
}

// Behind "[".
static void read_class(struct scan *s)
{
    s->p += s->p < s->end && *s->p == '^';
    for (bool first = true; s->p < s->end && (first || *s->p != ']'); first = false) {
        const unsigned char *name = s->p + 2;
        if (*s->p == '\\') {
            s->p += s->end - s->p > 1 ? 2 : 1;
        } else if (s->end - s->p > 1 && *s->p == '[' && s->p[1] == ':') {
            const unsigned char *end = memmem(name, (size_t)(s->end - name), ":]", 2);
            s->p = end ? end + 2 : s->p + 1;
        } else {
            s->p++;
        }
    }
    s->p += s->p < s->end;
    push_op(s, CLASS);
}

// Behind "\".
static void read_escape(struct scan *s)
{
    if (s->p == s->end)
        return;
    unsigned char c = *s->p++;
    if (c == 'Q') {
        const unsigned char *end = memmem(s->p, (size_t)(s->end - s->p), "\\E", 2);
        for (; s->p < (end ? end : s->end); s->p++)
            if ((*s->p & 0xc0) != 0x80)
                push_op(s, CHAR);
        s->p += end ? 2 : 0;
        return;
    }
    bool braces = s->p < s->end && *s->p == '{';
    if (c == 'x' && !braces)
        s->p += s->end - s->p > 2 ? 2 : s->end - s->p;
    if ((c == 'p' || c == 'P') && !braces)
        s->p += s->p < s->end;
    if ((c == 'x' || c == 'p' || c == 'P') && braces)
        skip_past(s, '}');
    for (int i = 0; c >= '0' && c <= '7' && i < 2 && s->p < s->end; i++)
        s->p += *s->p >= '0' && *s->p <= '7';
    push_op(s, strchr("AbBz", c) ? OTHER : strchr("pPdDsSwW", c) ? CLASS : CHAR);
}

// A repetition's numbers behind "{"; without them it is a character.
static void read_count(struct scan *s)
{
    const unsigned char *p = s->p;
    while (p < s->end && *p >= '0' && *p <= '9')
        p++;
    bool counts = p > s->p;
    if (counts && p < s->end && *p == ',')
        for (p++; p < s->end && *p >= '0' && *p <= '9';)
            p++;
    if (!counts || p == s->end || *p != '}') {
        push_op(s, CHAR);
        return;
    }
    s->p = p + 1;
    repeat(s);
    s->p += s->p < s->end && *s->p == '?';
}

static bool read_one(struct scan *s)
{
    unsigned char c = *s->p++;
    switch (c) {
    case '(':
        return read_group(s);
    case ')':
        close_group(s);
        break;
    case '|':
        end_branch(s);
        break;
    case '[':
        read_class(s);
        break;
    case '\\':
        read_escape(s);
        break;
    case '{':
        read_count(s);
        break;
    case '*':
    case '+':
    case '?':
        repeat(s);
        s->p += s->p < s->end && *s->p == '?';
        break;
    case '^':
    case '$':
        push_op(s, OTHER);
        break;
    case '.':
        push_op(s, CLASS);
        break;
    default:
        while (s->p < s->end && (*s->p & 0xc0) == 0x80)
            s->p++;
        push_op(s, CHAR);
    }
    return true;
}

bool cel_regex_is_deep(struct kl_str pattern)
{
    if (pattern.n <= HEIGHT_MAX) // no level without a byte
        return false;
    struct scan s = {.p = (const unsigned char *)pattern.p};
    s.end = s.p + pattern.n;
    bool ok = open_group(&s, false, false);
    while (ok && !s.deep && s.p < s.end)
        ok = read_one(&s);
    if (ok && !s.deep && s.n == 1) {
        end_branch(&s);
        check(&s, joined(&s.groups[0].branches, ALTERNATE));
    }
    free(s.groups);
    return s.deep || !ok;
}
