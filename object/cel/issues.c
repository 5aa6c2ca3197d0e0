// SPDX-License-Identifier: Apache-2.0
// The findings of one compilation, sorted and shown with the line they are about as cel-go does.
#include "object/cel/ast_int.h"
#include "object/cel/value_int.h"
#include "base/buf.h"
#include <stdlib.h>

enum { MAX_SNIPPET = 16384 };

int cel_source_init(struct cel_source *s, struct kl_arena *a, struct kl_str text)
{
    size_t n = cel_rune_count(text), i = 0;
    *s = (struct cel_source){.text = text};
    s->bytes = kl_arena_alloc(a, (n + 1) * sizeof *s->bytes);
    s->lines = kl_arena_alloc(a, (n + 1) * sizeof *s->lines);
    if (!s->bytes || !s->lines)
        return KL_ENOMEM;
    while (i < text.n) {
        s->bytes[s->n++] = (uint32_t)i;
        if (cel_rune(text, &i) == '\n')
            s->lines[s->nlines++] = s->n;
    }
    s->bytes[s->n] = (uint32_t)text.n;
    return 0;
}

void cel_issue_at(struct cel_issues *is, int32_t offset, const char *fmt, ...)
{
    va_list ap;
    if (is->total++ >= CEL_MAX_ISSUES)
        return;
    if (!is->items)
        is->items = kl_arena_alloc(is->arena, CEL_MAX_ISSUES * sizeof *is->items);
    va_start(ap, fmt);
    struct kl_str message = kl_arena_vprintf(is->arena, fmt, ap);
    va_end(ap);
    if (!is->items || !message.p) {
        is->out_of_memory = true;
        return;
    }
    struct cel_issue issue = {.line = -1, .column = -1, .message = message};
    if (offset >= 0) {
        uint32_t line = 0;
        while (line < is->src->nlines && is->src->lines[line] <= (uint32_t)offset)
            line++;
        issue.line = (int)line + 1;
        issue.column = offset - (int)(line ? is->src->lines[line - 1] : 0);
        if (!is->src->n) // ANTLR puts the end of nothing before it
            issue.column = -1;
    }
    // Insertion keeps what was found first in front among equals.
    uint32_t at = is->n++;
    for (; at; at--) {
        const struct cel_issue *before = &is->items[at - 1];
        if (before->line < issue.line ||
            (before->line == issue.line && before->column <= issue.column))
            break;
        is->items[at] = *before;
    }
    is->items[at] = issue;
}

// The line with a pointer below; wide characters get wide dots.
static void show_snippet(struct kl_buf *out, const struct cel_source *src,
                         const struct cel_issue *issue)
{
    if (issue->line < 1 || !src->n || (uint32_t)issue->line > src->nlines + 1)
        return;
    uint32_t line = (uint32_t)issue->line - 1;
    uint32_t from = line ? src->lines[line - 1] : 0;
    uint32_t to = line < src->nlines ? src->lines[line] - 1 : src->n;
    if (src->bytes[to] - src->bytes[from] > MAX_SNIPPET)
        return;
    kl_buf_puts(out, KL_STR("\n | "));
    for (uint32_t i = src->bytes[from]; i < src->bytes[to]; i++)
        kl_buf_putc(out, src->text.p[i] == '\t' ? ' ' : src->text.p[i]);
    kl_buf_puts(out, KL_STR("\n | "));
    uint32_t at = from;
    for (int i = 0; i < issue->column && at < to; i++, at++)
        kl_buf_puts(out,
                    src->bytes[at + 1] - src->bytes[at] > 1 ? KL_STR("\xef\xbc\x8e") : KL_STR("."));
    kl_buf_puts(out, at < to && src->bytes[at + 1] - src->bytes[at] > 1 ? KL_STR("\xef\xbc\xbe")
                                                                        : KL_STR("^"));
}

struct kl_str cel_issues_text(struct cel_issues *is)
{
    struct kl_buf out;
    struct kl_str text = {NULL, 0};
    kl_buf_init(&out, 16 << 20);
    for (uint32_t i = 0; i < is->n; i++) {
        const struct cel_issue *issue = &is->items[i];
        kl_buf_printf(&out, "%sERROR: <input>:%d:%d: %.*s", i ? "\n" : "", issue->line,
                      issue->column + 1, KL_PRI(issue->message));
        show_snippet(&out, is->src, issue);
    }
    if (is->total > CEL_MAX_ISSUES)
        kl_buf_printf(&out, "\n%u more errors were truncated", is->total - CEL_MAX_ISSUES);
    if (!out.err && !is->out_of_memory)
        text = kl_arena_dup(is->arena, kl_buf_str(&out));
    kl_buf_fini(&out);
    return text;
}
