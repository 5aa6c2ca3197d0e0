// SPDX-License-Identifier: Apache-2.0
// Patterns: RE2 with Go's messages.
#include "object/cel/re2_int.h"
#include "object/cel/re2_cc_int.h"

void *cel_regex_new(struct kl_str pattern, struct kl_arena *a, struct kl_str *ret_error)
{
    struct cel_re2_error error;
    struct kl_str shown = pattern;
    bool ok;
    void *re = cel_re2_new(pattern.p, pattern.n, &ok, &error);
    if ((ok || (error.words && error.too_large)) && cel_regex_is_deep(pattern)) {
        ok = false;
        error = (struct cel_re2_error){.words = "expression nests too deeply", .whole = true};
    }
    if (ok)
        return re;
    if (!error.words) {
        *ret_error = KL_STR("regular expressions need libre2.so.9 (package libre2-9)");
        return NULL;
    }
    if (!error.whole)
        shown = (struct kl_str){error.piece, error.piece_n};
    *ret_error = kl_arena_printf(a, "error parsing regexp: %s: `%.*s`", error.words, KL_PRI(shown));
    if (!ret_error->p)
        *ret_error = KL_STR("out of memory");
    cel_re2_free(re);
    return NULL;
}

void cel_regex_free(void *regex)
{
    cel_re2_free(regex);
}

bool cel_regex_find(const void *regex, struct kl_str text, size_t from, size_t *ret_begin,
                    size_t *ret_end)
{
    return cel_re2_match(regex, text.p, text.n, from, ret_begin != NULL, ret_begin, ret_end);
}
