// SPDX-License-Identifier: Apache-2.0
// Between proto_json_text.c, which knows JSON, and proto_json_in.c, which knows messages. What
// returns an int has set the error.
#pragma once
#include "net/proto_json.h"

struct kl_jtext {
    struct kl_str s;
    size_t at;
    struct kl_error *err;
    struct kl_buf *scratch; // an unescaped string, until the next
};
enum kl_jtext_kind {
    KL_JTEXT_STRING,
    KL_JTEXT_NUMBER,
    KL_JTEXT_TRUE,
    KL_JTEXT_FALSE,
    KL_JTEXT_NUL,
};

static inline bool kl_jtext_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
char kl_jtext_peek(struct kl_jtext *t); // the next that is no space; 0: the end
// "invalid character 'x' CONTEXT": what stands at the cursor, as encoding/json names it.
int kl_jtext_bad_syntax(struct kl_jtext *t, const char *context);
// "proto: (line 1:8): WHAT NAME AFTER" of what begins at `at`, and "proto: syntax error (line ...".
int kl_jtext_bad_value(struct kl_jtext *t, size_t at, const char *what, struct kl_str name,
                       const char *after);
int kl_jtext_unexpected(struct kl_jtext *t, size_t at, struct kl_str token);
int kl_jtext_take_word(struct kl_jtext *t, const char *word);
// A value that is no object or array: its kind, and of texts and numbers what it says.
int kl_jtext_take_scalar(struct kl_jtext *t, enum kl_jtext_kind *kind, struct kl_str *ret);
// The next name of an object, with its colon; *ret_end: there is none, and the brace was taken.
int kl_jtext_next_name(struct kl_jtext *t, bool first, struct kl_str *ret, bool *ret_end);
int kl_jtext_next_element(struct kl_jtext *t, bool first, bool *ret_end);
int kl_jtext_skip(struct kl_jtext *t, int depth); // any value
