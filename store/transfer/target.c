// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/target.h"
#include "store/store_int.h"
#include <stdlib.h>

enum {
    BATCH_ROWS = 1000,
    BATCH_BYTES = 4 << 20,
    GROUP_MAX = 100000, // rows of one revision
};

// From the source's revision `rev` on, revisions are higher by `by`.
struct shift {
    kl_rev rev, by;
};

struct kl_target {
    struct kl_store *store; // made, not begun
    const struct kl_backend_ops *ops;
    struct kl_import im;
    struct kl_batch *batch;
    kl_rev last_id; // of the source; the newest row's
    size_t group;   // rows at the batch's end that share it
    struct shift *shifts;
    size_t nshifts, cap_shifts;
    int64_t rows, bytes, shared;
};

int kl_target_open(const char *url, const struct kl_store_options *o, struct kl_target **ret_t,
                   struct kl_error *err)
{
    struct kl_target *t = calloc(1, sizeof(*t));
    if (!t)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    struct kl_store_options options = o ? *o : (struct kl_store_options){0};
    options.create = true;
    int r = kl_store_make(url, &options, &t->store, err);
    if (!r && !t->store->ops->import_begin)
        r = kl_error_set(err, KL_EUNSUPPORTED, "a datastore of kind %s:// cannot be filled",
                         t->store->ops->scheme);
    if (r) {
        kl_target_close(t);
        return r;
    }
    t->ops = t->store->ops;
    *ret_t = t;
    return 0;
}

void kl_target_close(struct kl_target *t)
{
    if (!t)
        return;
    kl_store_unmake(t->store);
    if (t->batch)
        kl_batch_free(t->batch);
    free(t->shifts);
    free(t);
}

int kl_target_begin(struct kl_target *t, struct kl_import *im, struct kl_error *err)
{
    int r = t->ops->import_begin(t->store->backend, im, err);
    t->im = *im;
    return r;
}

// ---- renumbering ----

kl_rev kl_target_renumber(void *arg, kl_rev rev)
{
    const struct kl_target *t = arg;
    size_t lo = 0, hi = t->nshifts;
    while (lo < hi) { // the first that begins after rev
        size_t mid = (lo + hi) / 2;
        if (t->shifts[mid].rev <= rev)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? rev + t->shifts[lo - 1].by : rev;
}

static kl_rev current_shift(const struct kl_target *t)
{
    return t->nshifts ? t->shifts[t->nshifts - 1].by : 0;
}

// One more row of the revision that the newest has: the whole group's revision moves up.
static int shift_group(struct kl_target *t, struct kl_kv *kv, struct kl_error *err)
{
    if (t->group > GROUP_MAX)
        return kl_error_set(err, KL_ELIMIT, "more than %d keys share revision %lld", GROUP_MAX,
                            (long long)kv->id);
    if (!t->nshifts || t->shifts[t->nshifts - 1].rev != t->last_id) {
        if (t->nshifts == t->cap_shifts) {
            size_t cap = t->cap_shifts ? 2 * t->cap_shifts : 64;
            struct shift *p = realloc(t->shifts, cap * sizeof(*p));
            if (!p)
                return kl_error_set(err, KL_ENOMEM, "out of memory");
            t->shifts = p;
            t->cap_shifts = cap;
        }
        t->shifts[t->nshifts] = (struct shift){t->last_id, current_shift(t)};
        t->nshifts++;
        t->shared++;
    }
    t->shared++;
    kl_rev by = ++t->shifts[t->nshifts - 1].by, mod = t->last_id + by;
    for (size_t i = t->batch->nrows - t->group; i < t->batch->nrows; i++) {
        struct kl_kv *other = t->batch->rows[i].kv;
        if (other->create_rev == other->mod_rev)
            other->create_rev = mod;
        other->mod_rev = mod;
    }
    return 0;
}

// ---- rows ----

static struct kl_kv *make_kv(const struct kl_record_row *row)
{
    struct kl_bytes *value = row->deleted ? NULL : kl_bytes_new(row->value);
    struct kl_kv *kv = row->deleted || value ? kl_kv_new(row->key, value) : NULL;
    kl_bytes_unref(value);
    if (!kv)
        return NULL;
    kv->id = row->id;
    kv->mod_rev = row->mod_rev;
    kv->create_rev = row->create_rev;
    kv->version = row->version;
    kv->lease = row->lease;
    kv->deleted = row->deleted;
    return kv;
}

static struct kl_kv *make_prev(const struct kl_target *t, const struct kl_record_row *row)
{
    struct kl_kv *prev = kl_kv_new(row->key, NULL);
    if (prev) {
        prev->id = prev->mod_rev = kl_target_renumber((void *)t, row->prev_id);
        prev->create_rev = kl_target_renumber((void *)t, row->prev_create);
    }
    return prev;
}

static int add_row(struct kl_target *t, const struct kl_record_row *row, struct kl_error *err)
{
    if (row->id < t->last_id)
        return kl_error_set(err, KL_ECORRUPT, "row %lld comes after row %lld", (long long)row->id,
                            (long long)t->last_id);
    bool same = row->id == t->last_id;
    if (!same && (t->batch->nrows >= BATCH_ROWS || t->batch->bytes >= BATCH_BYTES)) {
        int r = kl_target_flush(t, err);
        if (r)
            return r;
    }
    struct kl_kv *kv = make_kv(row);
    if (!kv || kl_batch_add_row(t->batch, kv)) {
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    t->batch->nrows--; // not in the group yet
    t->group = same ? t->group : 0;
    int r = same ? shift_group(t, kv, err) : 0;
    t->batch->nrows++;
    if (r)
        return r;
    t->group++;
    t->last_id = row->id;
    kl_rev by = current_shift(t);
    bool created = kv->create_rev == kv->mod_rev;
    kv->id += by;
    kv->mod_rev += by;
    kv->create_rev = created ? kv->mod_rev : kl_target_renumber(t, kv->create_rev);
    struct kl_row *last = &t->batch->rows[t->batch->nrows - 1];
    if (row->prev_id && !(last->prev = make_prev(t, row)))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    t->rows++;
    t->bytes += (int64_t)(row->key.n + row->value.n);
    return 0;
}

int kl_target_add(struct kl_target *t, const struct kl_record *r, struct kl_error *err)
{
    if (!t->batch && !(t->batch = kl_batch_new()))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if (r->kind == KL_RECORD_ROW)
        return add_row(t, &r->row, err);
    struct kl_lease_op op = {.id = r->lease.id,
                             .ttl_ms = r->lease.ttl_ms,
                             .deadline_wall_ms =
                                 kl_store_wall_ms(t->store) + r->lease.remaining_ms};
    if (t->batch->nleases >= BATCH_ROWS) {
        int rc = kl_target_flush(t, err);
        if (rc)
            return rc;
    }
    if (!t->batch && !(t->batch = kl_batch_new()))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    return kl_batch_add_lease(t->batch, op) ? kl_error_set(err, KL_ENOMEM, "out of memory") : 0;
}

int kl_target_flush(struct kl_target *t, struct kl_error *err)
{
    struct kl_batch *b = t->batch;
    if (!b || (!b->nrows && !b->nleases))
        return 0;
    if (b->nrows) {
        b->base_rev = b->rows[0].kv->id - 1;
        b->last_rev = b->rows[b->nrows - 1].kv->id;
    }
    int r = t->ops->import_rows(t->store->backend, b, err);
    kl_batch_free(b);
    t->batch = kl_batch_new();
    t->group = 0;
    if (!r && !t->batch)
        r = kl_error_set(err, KL_ENOMEM, "out of memory");
    return r;
}

int kl_target_end(struct kl_target *t, kl_rev rev, kl_rev compact_rev, int64_t bump,
                  struct kl_store **ret_store, struct kl_error *err)
{
    t->im.rev = kl_target_renumber(t, rev) + bump;
    t->im.compact_rev = bump ? t->im.rev : kl_target_renumber(t, compact_rev);
    int r = kl_target_flush(t, err);
    if (!r)
        r = t->ops->import_end(t->store->backend, &t->im, err);
    if (r || !ret_store)
        return r;
    struct kl_store *s = t->store;
    t->store = NULL;
    r = kl_store_begin(s, err);
    if (!r)
        *ret_store = s;
    return r;
}

int64_t kl_target_rows(const struct kl_target *t)
{
    return t->rows;
}

int64_t kl_target_bytes(const struct kl_target *t)
{
    return t->bytes;
}

int64_t kl_target_shared(const struct kl_target *t)
{
    return t->shared;
}
