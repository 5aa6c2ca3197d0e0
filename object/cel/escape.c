// SPDX-License-Identifier: Apache-2.0
// Property names as CEL identifiers: reserved words and characters that a name cannot have.
#include "object/cel/escape_int.h"
#include "object/cel/cel.h"
#include "base/buf.h"

bool cel_is_reserved(struct kl_str s)
{
    static const char *const words[] = {
        "true",     "false",   "null",      "in",       "as",  "break",  "const",
        "continue", "else",    "for",       "function", "if",  "import", "let",
        "loop",     "package", "namespace", "return",   "var", "void",   "while"};
    for (size_t i = 0; i < KL_COUNT(words); i++)
        if (kl_str_eqz(s, words[i]))
            return true;
    return false;
}

static int finish(struct kl_arena *a, struct kl_buf *out, int r, struct kl_str *ret)
{
    struct kl_str text = r ? KL_STR("") : kl_arena_dup(a, kl_buf_str(out));
    kl_buf_fini(out);
    if (!r)
        *ret = text;
    return r ? r : text.p ? 0 : KL_ENOMEM;
}

int kl_cel_escape(struct kl_arena *a, struct kl_str name, struct kl_str *ret)
{
    struct kl_buf out;
    int r = 0;
    if (!name.n || (name.p[0] >= '0' && name.p[0] <= '9'))
        return KL_EINVALID;
    kl_buf_init(&out, 1 << 20);
    if (cel_is_reserved(name)) {
        kl_buf_printf(&out, "__%.*s__", KL_PRI(name));
        return finish(a, &out, 0, ret);
    }
    for (size_t i = 0; !r && i < name.n; i++) {
        char c = name.p[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (c == '_' && i + 1 < name.n && name.p[i + 1] == '_') {
            kl_buf_puts(&out, KL_STR("__underscores__"));
            i++;
        } else if (word || c == '_') {
            kl_buf_putc(&out, c);
        } else if (c == '.' || c == '-' || c == '/') {
            kl_buf_puts(&out, kl_str(c == '.' ? "__dot__" : c == '-' ? "__dash__" : "__slash__"));
        } else {
            r = KL_EINVALID;
        }
    }
    return finish(a, &out, r, ret);
}

// __[^_]+__ at i: where it ends, else 0.
static size_t escape_end(struct kl_str s, size_t i)
{
    size_t k = i + 2;
    if (i + 4 >= s.n || s.p[i] != '_' || s.p[i + 1] != '_')
        return 0;
    while (k < s.n && s.p[k] != '_')
        k++;
    return k > i + 2 && k + 1 < s.n && s.p[k + 1] == '_' ? k + 2 : 0;
}

int kl_cel_unescape(struct kl_arena *a, struct kl_str name, struct kl_str *ret)
{
    static const char *const words[][2] = {
        {"underscores", "__"}, {"dot", "."}, {"dash", "-"}, {"slash", "/"}};
    struct kl_buf out;
    int r = 0;
    size_t end, i = 0;
    while (i + 1 < name.n && !(name.p[i] == '_' && name.p[i + 1] == '_'))
        i++;
    if (i + 1 >= name.n) {
        *ret = name;
        return 0;
    }
    kl_buf_init(&out, 1 << 20);
    for (i = 0; !r && i < name.n;) {
        if (!(end = escape_end(name, i))) {
            kl_buf_putc(&out, name.p[i++]);
            continue;
        }
        struct kl_str inside = {name.p + i + 2, end - i - 4};
        const char *plain = NULL;
        for (size_t k = 0; k < KL_COUNT(words); k++)
            if (kl_str_eqz(inside, words[k][0]))
                plain = words[k][1];
        if (plain)
            kl_buf_puts(&out, kl_str(plain));
        else if (cel_is_reserved(inside) && i == 0 && end == name.n)
            kl_buf_puts(&out, inside);
        else
            r = KL_EINVALID;
        i = end;
    }
    return finish(a, &out, r, ret);
}
