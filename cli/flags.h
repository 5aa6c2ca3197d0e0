// SPDX-License-Identifier: Apache-2.0
// Flags as a table: one row is a flag, its environment variable, its key in the config file, its
// line in --help. Precedence as in K3s: command line over environment over file over default.
#pragma once
#include "base/arena.h"
#include "base/err.h"

enum kl_flag_kind {
    KL_FLAG_STRING,   // const char *
    KL_FLAG_BOOL,     // bool
    KL_FLAG_INT,      // int
    KL_FLAG_LIST,     // struct kl_flag_list
    KL_FLAG_STRINGS,  // const char *const *, NULL-ended; commas separate, repeating adds
    KL_FLAG_ARRAY,    // the same without the commas
    KL_FLAG_DURATION, // int64_t, milliseconds, in Go's form
    KL_FLAG_FLOAT,    // double
    KL_FLAG_IGNORED,  // taken, and means nothing here
    KL_FLAG_IGNORED_BOOL,
    KL_FLAG_REFUSED, // known, and an error to give: `help` says why
};

struct kl_flag {
    const char *name; // "data-dir"
    char letter;      // 'd', or 0
    const char *env;  // "KINGLET_DATA_DIR", or NULL
    enum kl_flag_kind kind;
    size_t offset;     // in the options, of what the kind says
    const char *value; // "DIR" for help
    const char *def;   // default as text, or NULL
    const char *group; // "listener", "data", ...
    const char *help;  // NULL: not shown
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

// The same with several tables, each with options of its own; what comes first hides what has its
// name in a later one.
struct kl_flag_table {
    const struct kl_flag *flags;
    size_t n;
    void *options;
};
struct kl_flag_parse {
    const struct kl_flag_table *tables;
    size_t ntables;
    struct kl_arena *arena;
    const char *config_file;
    // Syntax and wording of github.com/spf13/pflag, as upstream's programs have them: -x is a
    // letter,
    // `_` in names is `-`, a message is `unknown flag: --x`. Neither file nor environment.
    const char *pflag; // the program's name; NULL: Go's own flag package, as K3s
};
int kl_flags_parse_tables(const struct kl_flag_parse *o, int argc, char **argv,
                          struct kl_error *err);
void kl_flags_help(const struct kl_flag *flags, size_t n);
// Go's strconv.ParseBool: 1, t, T, true, TRUE, True and their opposites; false for anything else.
bool kl_go_bool(struct kl_str text, bool *ret);
