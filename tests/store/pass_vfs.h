// SPDX-License-Identifier: Apache-2.0
// What tests' VFSs do not change of SQLite's files: it goes through to the file of the real VFS.
#pragma once
#include <sqlite3.h>

// First in a test's own kind of file.
struct pass_file {
    sqlite3_file base;
    sqlite3_file *real;
};

static inline sqlite3_file *pass_real(sqlite3_file *f)
{
    return ((struct pass_file *)f)->real;
}

// Makes `v` a copy of the VFS `of` (NULL: the default) under `name`, which is the default from then
// on. Returns that one.
sqlite3_vfs *pass_install(sqlite3_vfs *v, const char *of, const char *name, int file_bytes,
                          int (*open)(sqlite3_vfs *, const char *, sqlite3_file *, int, int *));
// A file of the real VFS under f.
int pass_open(sqlite3_vfs *real, const char *name, struct pass_file *f, int flags, int *out,
              const sqlite3_io_methods *methods);
int pass_close(sqlite3_file *f);
int pass_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at);
int pass_size(sqlite3_file *f, sqlite3_int64 *n);
int pass_lock(sqlite3_file *f, int l);
int pass_unlock(sqlite3_file *f, int l);
int pass_check(sqlite3_file *f, int *out);
int pass_control(sqlite3_file *f, int op, void *p);
int pass_sector(sqlite3_file *f);
int pass_device(sqlite3_file *f);
