// SPDX-License-Identifier: Apache-2.0
// What the files of the plain driver share.
#pragma once
#include "fuzz.h"
#include <stdbool.h>

enum { FUZZ_INPUT_MAX = 1 << 20 };

// ---- fuzz_main.c
size_t fuzz_below(size_t n); // 0 when n is 0
uint64_t fuzz_random(void);
void fuzz_seed(uint64_t seed);
// One small change in place; `data` has room for FUZZ_INPUT_MAX + 64. The new length.
size_t fuzz_change(uint8_t *data, size_t n);
void fuzz_run_once(const uint8_t *data, size_t n);
// Calls `each` for the file, or for the files of the directory.
void fuzz_read(const char *path, void (*each)(void *arg, const uint8_t *data, size_t n), void *arg);

// ---- fuzz_guide.c
// Runs `inputs` changes of the paths' files, led by what they reach (a build with
// -fsanitize-coverage=trace-pc,trace-cmp); without that, blindly. What reached something new goes
// to the directory `keep` (may be NULL), a finding to the current one. Prints a line of figures.
void fuzz_guided(uint64_t inputs, uint64_t seed, const char *keep, char *const *paths, int npaths);
