// SPDX-License-Identifier: Apache-2.0
#include "power_vfs.h"
#include "harness.h"
#include "pass_vfs.h"
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SECTOR = 512, MAX_FILES = 8 };

struct change {
    struct change *next;
    int64_t at, n; // a write
    bool truncate; // to n
    unsigned char data[];
};

// The real file is the page cache; this is the platter.
struct disk_file {
    char name[256];
    unsigned char *disk;
    int64_t size, cap;
    struct change *first, **end; // not synced
    bool named;                  // its directory entry is synced
    bool deleted;                // its deletion is not
    unsigned errors;             // syncs that failed: each descriptor is told of them once
};

static struct {
    pthread_mutex_t mu;
    uint64_t rand;
    long ops, cut, fail;
    bool off, failed;
    struct disk_file file[MAX_FILES];
    int n;
} power = {.mu = PTHREAD_MUTEX_INITIALIZER};

static sqlite3_vfs *real_vfs;

struct file {
    struct pass_file pass;
    struct disk_file *d; // NULL: a temporary one
    unsigned told;       // of its errors
};

// ---- the disk ----

static void disk_write(struct disk_file *d, int64_t at, const unsigned char *p, int64_t n)
{
    if (at + n > d->cap) {
        d->cap = (at + n) * 2;
        d->disk = realloc(d->disk, (size_t)d->cap);
        if (!d->disk)
            abort();
    }
    if (at > d->size)
        memset(d->disk + d->size, 0, (size_t)(at - d->size));
    memcpy(d->disk + at, p, (size_t)n);
    if (at + n > d->size)
        d->size = at + n;
}

static void disk_truncate(struct disk_file *d, int64_t n)
{
    if (n < d->size)
        d->size = n;
}

// What of an unsynced change reached the disk.
static void arrive_partly(struct disk_file *d, const struct change *c, int luck_of_all)
{
    if (luck_of_all == 0)
        return;
    if (c->truncate) {
        if (luck_of_all == 1 || hs_rand(&power.rand) % 2)
            disk_truncate(d, c->n);
        return;
    }
    int mood = luck_of_all == 1
                   ? 1
                   : (int)(hs_rand(&power.rand) % 4); // 0: none, 1: all, else sector by sector
    for (int64_t at = c->at, end = c->at + c->n; at < end;) {
        int64_t next = (at / SECTOR + 1) * SECTOR;
        next = next < end ? next : end;
        int luck = mood < 2 ? mood * 7 : (int)(hs_rand(&power.rand) % 8);
        int64_t n = luck < 4 ? 0 : luck == 4 ? (next - at) / 2 : next - at; // 4: torn
        if (n)
            disk_write(d, at, c->data + (at - c->at), n);
        at = next;
    }
}

static void drop_changes(struct disk_file *d)
{
    for (struct change *c = d->first, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    d->first = NULL;
    d->end = &d->first;
}

static void add_change(struct disk_file *d, bool truncate, int64_t at, const void *p, int64_t n)
{
    struct change *c = malloc(sizeof(*c) + (truncate ? 0 : (size_t)n));
    if (!c)
        abort();
    *c = (struct change){.at = at, .n = n, .truncate = truncate};
    if (!truncate)
        memcpy(c->data, p, (size_t)n);
    *d->end = c;
    d->end = &c->next;
}

static void sync_file(struct disk_file *d)
{
    for (const struct change *c = d->first; c; c = c->next) {
        if (c->truncate)
            disk_truncate(d, c->n);
        else
            disk_write(d, c->at, c->data, c->n);
    }
    drop_changes(d);
    d->named = true;
}

static void arrive_all_partly(struct disk_file *d)
{
    int luck = (int)(hs_rand(&power.rand) % 4); // 0: nothing arrives, 1: everything
    for (const struct change *c = d->first; c; c = c->next)
        arrive_partly(d, c, luck);
    drop_changes(d);
}

// Called with the mutex. True when the power is off; the operation at which it goes is `cutting`:
// it is under way and may arrive.
static bool count_op(bool *cutting)
{
    *cutting = false;
    if (power.off)
        return true;
    power.ops++;
    if (power.cut > 0 && power.ops == power.cut) {
        *cutting = true;
        power.off = true;
    }
    return power.off;
}

static struct disk_file *find_file(const char *name, bool make)
{
    for (int i = 0; i < power.n; i++) {
        if (strcmp(power.file[i].name, name) == 0)
            return &power.file[i];
    }
    if (!make)
        return NULL;
    if (power.n == MAX_FILES)
        abort();
    struct disk_file *d = &power.file[power.n++];
    memset(d, 0, sizeof(*d));
    snprintf(d->name, sizeof(d->name), "%s", name);
    d->end = &d->first;
    FILE *f = fopen(name, "rb");
    if (!f)
        return d;
    unsigned char buf[8192];
    for (size_t n; (n = fread(buf, 1, sizeof(buf), f));)
        disk_write(d, d->size, buf, (int64_t)n);
    fclose(f);
    d->named = true; // it was there before this power-on
    return d;
}

void power_on(uint64_t seed, long cut, long fail)
{
    pthread_mutex_lock(&power.mu);
    for (int i = 0; i < power.n; i++) {
        drop_changes(&power.file[i]);
        free(power.file[i].disk);
    }
    power.n = 0;
    power.rand = seed | 1;
    power.ops = 0;
    power.cut = cut;
    power.fail = fail;
    power.off = power.failed = false;
    pthread_mutex_unlock(&power.mu);
}

bool power_is_off(void)
{
    pthread_mutex_lock(&power.mu);
    bool off = power.off;
    pthread_mutex_unlock(&power.mu);
    return off;
}

bool power_sync_failed(void)
{
    pthread_mutex_lock(&power.mu);
    bool failed = power.failed;
    pthread_mutex_unlock(&power.mu);
    return failed;
}

void power_settle(void)
{
    pthread_mutex_lock(&power.mu);
    for (int i = 0; i < power.n; i++) {
        struct disk_file *d = &power.file[i];
        arrive_all_partly(d);
        bool there = d->named ? !d->deleted || hs_rand(&power.rand) % 2
                              : !d->deleted && hs_rand(&power.rand) % 2;
        unlink(d->name);
        if (!there)
            continue;
        FILE *f = fopen(d->name, "wb");
        size_t n = (size_t)d->size;
        if (!f || (n && fwrite(d->disk, 1, n, f) != n) || fclose(f))
            abort();
    }
    pthread_mutex_unlock(&power.mu);
}

// ---- files ----

static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    return power_is_off() ? SQLITE_IOERR_READ
                          : pass_real(f)->pMethods->xRead(pass_real(f), p, n, at);
}

static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    struct disk_file *d = ((struct file *)f)->d;
    bool cutting;
    pthread_mutex_lock(&power.mu);
    bool off = count_op(&cutting);
    if (d && (!off || cutting))
        add_change(d, false, at, p, n);
    pthread_mutex_unlock(&power.mu);
    return off ? SQLITE_IOERR_WRITE : pass_real(f)->pMethods->xWrite(pass_real(f), p, n, at);
}

static int f_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    struct disk_file *d = ((struct file *)f)->d;
    bool cutting;
    pthread_mutex_lock(&power.mu);
    bool off = count_op(&cutting);
    if (d && (!off || cutting))
        add_change(d, true, 0, NULL, n);
    pthread_mutex_unlock(&power.mu);
    return off ? SQLITE_IOERR_TRUNCATE : pass_real(f)->pMethods->xTruncate(pass_real(f), n);
}

static int f_sync(sqlite3_file *f, int flags)
{
    struct disk_file *d = ((struct file *)f)->d;
    bool cutting, fails = false;
    pthread_mutex_lock(&power.mu);
    bool off = count_op(&cutting);
    if (d && !off) {
        fails = power.fail && !power.failed && power.ops >= power.fail;
        power.failed |= fails;
        if (fails && power.cut < 0)
            power.cut = power.ops - power.cut;
        if (fails) {
            arrive_all_partly(d);
            d->errors++;
        } else {
            sync_file(d);
        }
        fails = ((struct file *)f)->told != d->errors;
        ((struct file *)f)->told = d->errors;
    }
    pthread_mutex_unlock(&power.mu);
    return off || fails ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int f_control(sqlite3_file *f, int op, void *p)
{
    if (op == SQLITE_FCNTL_SIZE_HINT || op == SQLITE_FCNTL_CHUNK_SIZE)
        return SQLITE_OK; // would change the size behind our back
    return pass_real(f)->pMethods->xFileControl(pass_real(f), op, p);
}

static int f_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **p)
{
    return pass_real(f)->pMethods->xShmMap(pass_real(f), page, size, extend, p);
}

static int f_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
    return pass_real(f)->pMethods->xShmLock(pass_real(f), at, n, flags);
}

static void f_shm_barrier(sqlite3_file *f)
{
    pass_real(f)->pMethods->xShmBarrier(pass_real(f));
}

static int f_shm_unmap(sqlite3_file *f, int del)
{
    return pass_real(f)->pMethods->xShmUnmap(pass_real(f), del);
}

static const sqlite3_io_methods methods = {
    2,           pass_close, f_read,      f_write,       f_truncate,  f_sync,
    pass_size,   pass_lock,  pass_unlock, pass_check,    f_control,   pass_sector,
    pass_device, f_shm_map,  f_shm_lock,  f_shm_barrier, f_shm_unmap,
};

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    struct file *p = (struct file *)f;
    memset(p, 0, sizeof(*p));
    if (power_is_off())
        return SQLITE_CANTOPEN;
    pthread_mutex_lock(&power.mu);
    if (name) {
        p->d = find_file(name, true); // before it is made
        if (p->d->deleted) {          // a new one of that name
            drop_changes(p->d);
            p->d->size = 0;
            p->d->deleted = p->d->named = false;
        }
        p->told = p->d->errors;
    }
    pthread_mutex_unlock(&power.mu);
    return pass_open(real_vfs, name, &p->pass, flags, out, &methods);
}

static int v_delete(sqlite3_vfs *v, const char *name, int sync)
{
    bool cutting;
    pthread_mutex_lock(&power.mu);
    bool off = count_op(&cutting);
    struct disk_file *d = find_file(name, true);
    if (!off || cutting)
        d->deleted = true;
    if (!off && sync)
        d->named = false; // gone for good
    pthread_mutex_unlock(&power.mu);
    return off ? SQLITE_IOERR_DELETE : real_vfs->xDelete(real_vfs, name, sync);
}

const char *power_vfs_install(void)
{
    static sqlite3_vfs vfs;
    // As it is without us: connections of this process share the file (store/sqlite/schema.c).
    real_vfs = pass_install(&vfs, "unix-excl", "power-excl", sizeof(struct file), v_open);
    vfs.xDelete = v_delete;
    return real_vfs->zName;
}
