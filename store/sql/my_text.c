// SPDX-License-Identifier: Apache-2.0
// Values as SQL text. The session's sql_mode is ours (my_conn.c), so that a backslash escapes; its
// character set is binary, so that a literal is what its bytes are.
#include "store/sql/my_int.h"
#include <assert.h>

void kl_my_put_str(struct kl_buf *b, const char *s)
{
    kl_buf_puts(b, kl_str(s));
}

void kl_my_put_int(struct kl_buf *b, int64_t v)
{
    char digits[24], *p = digits + sizeof(digits);
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do {
        *--p = (char)('0' + u % 10);
        u /= 10;
    } while (u);
    if (v < 0)
        *--p = '-';
    kl_buf_append(b, p, (size_t)(digits + sizeof(digits) - p));
}

// Only the quote and the backslash are special: the server goes by length, so that a NUL is a byte
// as any other.
static void put_escaped(struct kl_buf *b, struct kl_str s)
{
    if (kl_buf_reserve(b, s.n + 2))
        return;
    size_t from = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '\'' && s.p[i] != '\\')
            continue;
        kl_buf_append(b, s.p + from, i - from);
        kl_buf_putc(b, '\\');
        from = i; // it goes with the next run
    }
    kl_buf_append(b, s.p + from, s.n - from);
}

void kl_my_put_bytes(struct kl_buf *b, struct kl_str s)
{
    kl_my_put_str(b, "_binary'");
    put_escaped(b, s);
    kl_buf_putc(b, '\'');
}

// A binary literal beside a column of text would make the index useless.
void kl_my_put_name(struct kl_buf *b, const struct kl_my *c, struct kl_str s)
{
    kl_my_put_str(b, c->name_text ? "_ascii'" : "_binary'");
    put_escaped(b, s);
    kl_buf_putc(b, '\'');
}

static void put_value(struct kl_buf *b, const struct kl_my *c, const struct kl_sql_value *v)
{
    switch (v->type) {
    case KL_SQL_NULL:
        kl_my_put_str(b, "NULL");
        break;
    case KL_SQL_INT:
        kl_my_put_int(b, v->i);
        break;
    case KL_SQL_BYTES:
        kl_my_put_bytes(b, v->s);
        break;
    case KL_SQL_NAME:
        kl_my_put_name(b, c, v->s);
        break;
    }
}

void kl_my_put_sql(struct kl_buf *b, const struct kl_my *c, const char *sql,
                   const struct kl_sql_value *params, size_t nparams)
{
    for (const char *p = sql;;) {
        const char *mark = strchr(p, '$');
        kl_buf_append(b, p, mark ? (size_t)(mark - p) : strlen(p));
        if (!mark)
            return;
        size_t at = (size_t)(mark[1] - '1');
        assert(at < nparams);
        put_value(b, c, &params[at]);
        p = mark + 2;
    }
}
