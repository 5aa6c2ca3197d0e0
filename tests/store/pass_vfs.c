// SPDX-License-Identifier: Apache-2.0
#include "pass_vfs.h"
#include <stdlib.h>

sqlite3_vfs *pass_install(sqlite3_vfs *v, const char *of, const char *name, int file_bytes,
                          int (*open)(sqlite3_vfs *, const char *, sqlite3_file *, int, int *))
{
    sqlite3_initialize();
    sqlite3_vfs *real = sqlite3_vfs_find(of);
    *v = *real;
    v->szOsFile = file_bytes;
    v->zName = name;
    v->pNext = NULL;
    v->xOpen = open;
    sqlite3_vfs_register(v, 1);
    return real;
}

int pass_open(sqlite3_vfs *real, const char *name, struct pass_file *f, int flags, int *out,
              const sqlite3_io_methods *methods)
{
    f->real = calloc(1, (size_t)real->szOsFile);
    if (!f->real)
        abort();
    int rc = real->xOpen(real, name, f->real, flags, out);
    f->base.pMethods = rc ? NULL : methods;
    if (rc)
        free(f->real);
    return rc;
}

int pass_close(sqlite3_file *f)
{
    sqlite3_file *r = pass_real(f);
    int rc = r->pMethods ? r->pMethods->xClose(r) : SQLITE_OK;
    free(r);
    return rc;
}

int pass_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    return pass_real(f)->pMethods->xRead(pass_real(f), p, n, at);
}

int pass_size(sqlite3_file *f, sqlite3_int64 *n)
{
    return pass_real(f)->pMethods->xFileSize(pass_real(f), n);
}

int pass_lock(sqlite3_file *f, int l)
{
    return pass_real(f)->pMethods->xLock(pass_real(f), l);
}

int pass_unlock(sqlite3_file *f, int l)
{
    return pass_real(f)->pMethods->xUnlock(pass_real(f), l);
}

int pass_check(sqlite3_file *f, int *out)
{
    return pass_real(f)->pMethods->xCheckReservedLock(pass_real(f), out);
}

int pass_control(sqlite3_file *f, int op, void *p)
{
    return pass_real(f)->pMethods->xFileControl(pass_real(f), op, p);
}

int pass_sector(sqlite3_file *f)
{
    return pass_real(f)->pMethods->xSectorSize(pass_real(f));
}

int pass_device(sqlite3_file *f)
{
    return pass_real(f)->pMethods->xDeviceCharacteristics(pass_real(f));
}
