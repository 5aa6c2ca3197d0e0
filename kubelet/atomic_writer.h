// SPDX-License-Identifier: Apache-2.0
// Writes a set of files into a volume so that a reader sees either the old set or the new one
// (pkg/volume/util/atomic_writer.go): the files lie in a timestamped directory, `..data` links to
// it and is replaced by a rename, and each visible name links through `..data`.
#pragma once
#include "base/err.h"
#include "base/str.h"
#include <stdbool.h>
#include <sys/types.h>

struct kl_atomic_file {
    struct kl_str path; // relative, "a/b"; no ".." component
    struct kl_str data;
    mode_t mode;
};
// Blocking. Does nothing when the content is already there. gid: -1 or the group of every file.
// *ret_changed may be NULL.
int kl_atomic_write(const char *dir, const struct kl_atomic_file *files, size_t n, gid_t gid,
                    bool *ret_changed, struct kl_error *err);
