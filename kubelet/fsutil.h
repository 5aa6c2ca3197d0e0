// SPDX-License-Identifier: Apache-2.0
// Files, trees and child processes, blocking: for the worker pool and for start-up.
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <sys/types.h>

#define KL_PATH_MAX 1024
// A path in a fixed buffer; longer ones are cut and flagged.
struct kl_path {
    char s[KL_PATH_MAX];
};
bool kl_path_set(struct kl_path *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

int kl_fs_mkdirs(const char *path, mode_t mode, struct kl_error *err); // all missing parents
// Appends the whole file. KL_ENOTFOUND, KL_ELIMIT over the buffer's maximum.
int kl_fs_read(const char *path, struct kl_buf *out, struct kl_error *err);
// Beside the target, then renamed over it; the directory must exist.
int kl_fs_write_atomic(const char *path, struct kl_str data, mode_t mode, struct kl_error *err);
// In place, for files that are mounted into containers (the inode must stay).
int kl_fs_write_in_place(const char *path, struct kl_str data, mode_t mode, struct kl_error *err);
// Removes a tree without leaving its file system and without following links. Absent is fine.
int kl_fs_remove_tree(const char *path, struct kl_error *err);
bool kl_fs_exists(const char *path);
bool kl_fs_is_mount_point(const char *path);
// Unmounts everything mounted at or below the path, deepest first.
int kl_fs_unmount_below(const char *path, struct kl_error *err);

// Runs a program to its end: argv[0] is looked up in PATH, `input` is its stdin, what it prints on
// stdout and stderr goes to `output` (may be NULL; cut at its maximum). Killed after timeout_ms.
// 0, or KL_EINTERNAL with the status and the output's first line, KL_ENOTFOUND, KL_ETIMEOUT.
int kl_run(const char *const *argv, struct kl_str input, struct kl_buf *output, int timeout_ms,
           struct kl_error *err);
