// SPDX-License-Identifier: Apache-2.0
// What re2.cc gives to regex.c: C types only, as the C++ compiler reads this.
#pragma once
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cel_re2_error {
    const char *words; // Go's; NULL: the library is missing or memory ran out
    bool whole;        // Go shows the whole pattern
    bool too_large;
    const char *piece; // as long as the pattern is not freed
    size_t piece_n;
};

// Always gives an object to free, unless the library is missing or memory ran out.
void *cel_re2_new(const char *pattern, size_t n, bool *ret_ok, struct cel_re2_error *ret_error);
void cel_re2_free(void *re);
bool cel_re2_match(const void *re, const char *text, size_t n, size_t from, bool want_place,
                   size_t *ret_begin, size_t *ret_end);

#ifdef __cplusplus
}
#endif
