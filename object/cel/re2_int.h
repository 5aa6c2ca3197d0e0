// SPDX-License-Identifier: Apache-2.0
// RE2 behind a C interface. The library is opened when the first pattern is compiled; where it is
// missing the error names its package. Patterns are immutable and may be used by many threads.
#pragma once
#include "base/arena.h"

// NULL with a message as Go's regexp package words it, in the arena.
void *cel_regex_new(struct kl_str pattern, struct kl_arena *a, struct kl_str *ret_error);
// Go's tree of it would be higher than Go allows. For patterns that RE2 takes.
bool cel_regex_is_deep(struct kl_str pattern);
void cel_regex_free(void *regex); // accepts NULL
// Whether the pattern is somewhere in the text from `from` on; where, unless the pointers are NULL.
bool cel_regex_find(const void *regex, struct kl_str text, size_t from, size_t *ret_begin,
                    size_t *ret_end);
