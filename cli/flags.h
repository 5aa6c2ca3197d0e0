// SPDX-License-Identifier: Apache-2.0
// Flags as a table: one row is a flag, its environment variable, its key in the config file, its
// line in --help. Precedence as in K3s: command line over environment over file over default.
#pragma once
#include "base/arena.h"
#include "base/err.h"

enum kl_flag_kind { KL_FLAG_STRING, KL_FLAG_BOOL, KL_FLAG_INT, KL_FLAG_LIST };

struct kl_flag {
    const char *name; // "data-dir"
    char letter;      // 'd', or 0
    const char *env;  // "KINGLET_DATA_DIR", or NULL
    enum kl_flag_kind kind;
    size_t offset;     // of const char *, bool, int, or struct kl_flag_list in the options
    const char *value; // "DIR" for help
    const char *def;   // default as text, or NULL
    const char *group; // "listener", "data", ...
    const char *help;
};

enum { KL_FLAG_LIST_MAX = 64 };
struct kl_flag_list {
    const char *v[KL_FLAG_LIST_MAX + 1]; // NULL-ended
    int n;
};

// Fills `options` from defaults, the config file (--config or `config_file`; a missing default file
// is no error), the environment and argv[1..]. Texts live in the arena or in argv.
// KL_EINVALID: unknown flag, bad value; the message names it.
int kl_flags_parse(const struct kl_flag *flags, size_t n, void *options, struct kl_arena *a,
                   int argc, char **argv, const char *config_file, struct kl_error *err);
void kl_flags_help(const struct kl_flag *flags, size_t n);
