// SPDX-License-Identifier: Apache-2.0
// Dead entries of kv_name. Compaction deletes rows in their order; their entries lie in the order
// of names, so they stay until they are a good part of the table, and then one pass takes them
// all. An entry is dead when a newer one of its name is not above the revision compacted to, so
// nothing need be remembered, and no query meets one: whoever asks gets the newest.
#include "store/sqlite/sqlite_int.h"
#include "base/clock.h"
#include "base/fault.h"
#include <stdlib.h>

enum {
    LEAST = 1024, // dead entries for which a pass is worth it,
    PART = 4,     // and which part of all they are
    RUNS = 64,    // of one part of a step, and how much it reads
    READ = 256,
};

// Entries of one name that go.
struct run {
    char *name;
    int len;
    kl_rev from, to;
};

struct part {
    struct run run[RUNS + 2]; // an entry may end a name and begin a run
    int n, read;
};

bool kl_sq_sweep_due(const struct kl_backend *b)
{
    return b->sweep.on || (b->stale >= LEAST && b->stale * PART >= b->entries);
}

static int copy_name(char **p, const void *name, int len)
{
    char *n = realloc(*p, (size_t)len + 1);
    if (!n)
        return SQLITE_NOMEM;
    if (len)
        memcpy(n, name, (size_t)len);
    *p = n;
    return SQLITE_OK;
}

static int add_run(struct part *p, const char *name, int len, kl_rev from, kl_rev to)
{
    struct run *r = &p->run[p->n];
    *r = (struct run){.len = len, .from = from, .to = to};
    int rc = copy_name(&r->name, name, len);
    p->n += !rc;
    return rc;
}

// A deletion goes when nothing older of its name is left: before, that would become the newest.
static int end_name(struct kl_sq_sweep *s, struct part *p)
{
    int rc = s->lone ? add_run(p, s->name, s->len, s->newest, s->newest) : SQLITE_OK;
    s->newest = 0;
    s->lone = false;
    return rc;
}

static int read_entry(struct kl_sq_sweep *s, sqlite3_stmt *st, struct part *p)
{
    const char *name = (const char *)sqlite3_column_text(st, 0); // "", not NULL, when empty
    int len = sqlite3_column_bytes(st, 0), rc = SQLITE_OK;
    if (!name)
        return SQLITE_NOMEM;
    kl_rev id = sqlite3_column_int64(st, 1);
    if (!s->name || s->len != len || memcmp(s->name, name, (size_t)len) != 0) {
        if ((rc = end_name(s, p)) || (rc = copy_name(&s->name, name, len)))
            return rc;
        s->len = len;
    }
    s->id = id;
    p->read++;
    if (id > s->until)
        return SQLITE_OK;
    if (!s->newest) {
        s->newest = id;
        s->lone = sqlite3_column_int(st, 2) != 0;
        return SQLITE_OK;
    }
    s->lone = false;
    struct run *last = p->n ? &p->run[p->n - 1] : NULL;
    if (last && last->to < s->newest && last->len == len &&
        memcmp(last->name, name, (size_t)len) == 0)
        last->from = id;
    else
        rc = add_run(p, s->name, len, id, id);
    return rc;
}

static int read_from(struct kl_backend *b, enum kl_sq_stmt which, struct part *p,
                     struct kl_error *err)
{
    struct kl_sq_sweep *s = &b->sweep;
    sqlite3_stmt *st = kl_sq_get(b, which, err);
    int rc = SQLITE_OK;
    if (!st)
        return err->code;
    if (which != KL_SQ_SWEEP_FIRST)
        sqlite3_bind_text(st, 1, s->name, s->len, SQLITE_TRANSIENT); // it moves on meanwhile
    if (which == KL_SQ_SWEEP_NAME)
        sqlite3_bind_int64(st, 2, s->id);
    while (!rc && p->read < READ && p->n < RUNS && (rc = sqlite3_step(st)) == SQLITE_ROW)
        rc = read_entry(s, st, p);
    sqlite3_reset(st);
    s->name_done = rc == SQLITE_DONE; // or all of them
    return !rc || rc == SQLITE_DONE ? 0 : kl_sq_error(b, rc, err, "names");
}

static int read_part(struct kl_backend *b, struct part *p, bool *ret_end, struct kl_error *err)
{
    struct kl_sq_sweep *s = &b->sweep;
    int r = 0;
    *ret_end = false;
    if (s->name && !s->name_done)
        r = read_from(b, KL_SQ_SWEEP_NAME, p, err);
    if (r || (s->name && !s->name_done))
        return r;
    r = read_from(b, s->name ? KL_SQ_SWEEP_NEXT : KL_SQ_SWEEP_FIRST, p, err);
    *ret_end = !r && s->name_done;
    if (*ret_end && end_name(s, p))
        r = kl_error_set(err, KL_ENOMEM, "out of memory");
    s->name_done = false; // of the name it stands in
    return r;
}

static int delete_part(struct kl_backend *b, const struct part *p, int64_t *rows,
                       struct kl_error *err)
{
    sqlite3_stmt *st = p->n ? kl_sq_get(b, KL_SQ_NAME_DEL, err) : NULL;
    if (p->n && !st)
        return err->code;
    for (int i = 0; i < p->n; i++) {
        sqlite3_bind_text(st, 1, p->run[i].name, p->run[i].len, SQLITE_STATIC);
        sqlite3_bind_int64(st, 2, p->run[i].from);
        sqlite3_bind_int64(st, 3, p->run[i].to);
        kl_fault_crash("sqlite.sweep.name");
        int r = kl_sq_run(b, KL_SQ_NAME_DEL, err);
        if (r)
            return r;
        *rows += sqlite3_changes(b->db);
    }
    return 0;
}

static void begin_pass(struct kl_backend *b)
{
    struct kl_sq_sweep *s = &b->sweep;
    free(s->name);
    *s = (struct kl_sq_sweep){.on = true, .until = b->physical, .stale = b->stale};
}

// In a transaction. The place that it came to is forgotten when that is rolled back.
int kl_sq_sweep(struct kl_backend *b, int64_t until_ns, struct kl_error *err)
{
    struct kl_sq_sweep *s = &b->sweep;
    if (!s->on)
        begin_pass(b);
    s->swept = 0;
    s->ends = false;
    int r = 0;
    do {
        struct part p = {.n = 0};
        r = read_part(b, &p, &s->ends, err);
        if (!r)
            r = delete_part(b, &p, &s->swept, err);
        for (int i = 0; i < p.n; i++)
            free(p.run[i].name);
    } while (!r && !s->ends && kl_mono_ns() < until_ns);
    return r;
}

void kl_sq_sweep_ended(struct kl_backend *b, bool committed)
{
    struct kl_sq_sweep *s = &b->sweep;
    if (committed) {
        b->entries -= s->swept;
        if (!s->ends)
            return;
        b->stale = b->stale > s->stale ? b->stale - s->stale : 0; // what died meanwhile
    }
    free(s->name);
    *s = (struct kl_sq_sweep){.on = false};
}
