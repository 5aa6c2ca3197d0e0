// SPDX-License-Identifier: Apache-2.0
// Everything the remote has at one revision, in pages; and how far it is compacted, which etcd does
// not tell: the oldest revision that it still reads is looked for.
#include "store/remote/remote_int.h"
#include "base/clock.h"
#include <stdlib.h>

enum { FIRST_PAGE = 200, PAGE_MAX = 5000, PAGE_BYTES = 8 << 20 };

struct kl_remote_load {
    struct kl_backend *b;
    struct kl_remote_call call;
    kl_remote_loaded_cb done;
    struct kl_remote_state *st;
    struct kl_buf from; // the next page's first key
    int64_t limit;
    bool searching;
    kl_rev lo, hi; // the oldest revision that is there lies in (lo, hi]
};

void kl_remote_state_free(struct kl_remote_state *st)
{
    if (!st)
        return;
    for (size_t i = 0; i < st->n; i++)
        kl_kv_unref(st->kvs[i]);
    free(st->kvs);
    free(st);
}

int kl_remote_state_give(void *arg, struct kl_loaded *l)
{
    struct kl_remote_state *st = arg;
    l->rev = st->rev;
    l->compact_rev = l->physical_rev = st->compact_rev;
    l->cluster_id = st->cluster_id;
    l->member_id = st->member_id;
    for (size_t i = 0; i < st->n; i++) {
        if (l->kv(l->arg, kl_kv_ref(st->kvs[i])))
            return KL_ENOMEM;
    }
    return 0;
}

int kl_remote_kv(const struct kl_etcd_key_value *m, bool deleted, struct kl_kv **ret)
{
    if (!m->key.n || m->mod_revision < 1 || m->mod_revision > KL_REMOTE_REV_MAX ||
        (!deleted &&
         (m->version < 1 || m->create_revision < 1 || m->create_revision > m->mod_revision)))
        return KL_EPROTO;
    struct kl_bytes *value = deleted ? NULL : kl_bytes_new(m->value);
    struct kl_kv *kv = deleted || value ? kl_kv_new(m->key, value) : NULL;
    kl_bytes_unref(value);
    if (!kv)
        return KL_ENOMEM;
    kv->id = kv->mod_rev = m->mod_revision;
    kv->deleted = deleted;
    if (!deleted) {
        kv->create_rev = m->create_revision;
        kv->version = m->version;
        kv->lease = m->lease;
    }
    *ret = kv;
    return 0;
}

static void end_load(struct kl_remote_load *ld, int code, const struct kl_error *err)
{
    struct kl_backend *b = ld->b;
    struct kl_remote_state *st = ld->st;
    kl_remote_loaded_cb done = ld->done;
    b->load = NULL;
    kl_buf_fini(&ld->from);
    free(ld);
    if (code) {
        kl_remote_state_free(st);
        st = NULL;
    }
    done(b, st, code, err);
}

static void next_page(struct kl_remote_load *ld);
static void next_look(struct kl_remote_load *ld);

static int add_kvs(struct kl_remote_state *st, const struct kl_etcd_range_response *r)
{
    if (st->n + r->n_kvs > st->cap) {
        size_t cap = st->cap ? st->cap * 2 : 1024;
        while (cap < st->n + r->n_kvs)
            cap *= 2;
        struct kl_kv **p = realloc(st->kvs, cap * sizeof(struct kl_kv *));
        if (!p)
            return KL_ENOMEM;
        st->kvs = p;
        st->cap = cap;
    }
    for (size_t i = 0; i < r->n_kvs; i++) {
        const struct kl_kv *last = st->n ? st->kvs[st->n - 1] : NULL;
        if (last && kl_str_cmp(kl_kv_key(last), r->kvs[i].key) >= 0)
            return KL_EPROTO;
        int rc = kl_remote_kv(&r->kvs[i], false, &st->kvs[st->n]);
        if (rc)
            return rc;
        st->n++;
    }
    return 0;
}

static void looked(struct kl_remote_load *ld, kl_rev rev, bool there)
{
    if (there)
        ld->hi = rev;
    else
        ld->lo = rev;
    if (ld->hi - ld->lo > 1) {
        next_look(ld);
        return;
    }
    ld->st->compact_rev = ld->hi > 1 ? ld->hi : 0;
    end_load(ld, 0, NULL);
}

// Afterwards the page's key of the next one.
static void took_page(struct kl_remote_load *ld, const struct kl_etcd_range_response *r)
{
    struct kl_remote_state *st = ld->st;
    struct kl_error err;
    if (!st->rev) {
        st->rev = r->header->revision;
        st->cluster_id = r->header->cluster_id;
        st->member_id = r->header->member_id;
    }
    size_t bytes = 0;
    for (size_t i = 0; i < r->n_kvs; i++)
        bytes += r->kvs[i].key.n + r->kvs[i].value.n + 64;
    int rc = add_kvs(st, r);
    if (rc) {
        end_load(ld, kl_error_set(&err, rc, "%s", kl_err_text(rc)), &err);
        return;
    }
    if (!r->more || !r->n_kvs) {
        ld->searching = true;
        ld->lo = 0;
        ld->hi = st->rev;
        next_look(ld);
        return;
    }
    int64_t limit = (int64_t)(PAGE_BYTES / (bytes / r->n_kvs + 1));
    ld->limit = limit < 10 ? 10 : limit > PAGE_MAX ? PAGE_MAX : limit;
    struct kl_str last = r->kvs[r->n_kvs - 1].key;
    kl_buf_clear(&ld->from);
    kl_buf_puts(&ld->from, last);
    kl_buf_putc(&ld->from, 0);
    next_page(ld);
}

static void on_range(struct kl_remote_call *c)
{
    struct kl_remote_load *ld = KL_CONTAINER_OF(c, struct kl_remote_load, call);
    struct kl_remote_call got = *c;
    struct kl_etcd_range_response *r = got.reply;
    struct kl_error err;
    *c = (struct kl_remote_call){0};
    bool compacted = got.code == KL_GRPC_OUT_OF_RANGE && strstr(got.err.msg, "compacted");
    if (ld->searching && (!got.code || compacted)) {
        looked(ld, ld->lo + (ld->hi - ld->lo) / 2, !got.code);
    } else if (compacted) { // behind us: from the beginning
        kl_remote_state_free(ld->st);
        ld->st = calloc(1, sizeof(*ld->st));
        kl_buf_clear(&ld->from);
        if (ld->st)
            next_page(ld);
        else
            end_load(ld, kl_error_set(&err, KL_ENOMEM, "out of memory"), &err);
    } else if (got.code) {
        int code = kl_remote_error(&got, &err);
        end_load(ld, code, &err);
    } else if (!r->header || r->header->revision < 1 || r->header->revision > KL_REMOTE_REV_MAX) {
        end_load(ld, kl_error_set(&err, KL_EPROTO, "an answer without a revision"), &err);
    } else {
        took_page(ld, r);
    }
    kl_remote_call_fini(&got);
}

static void next_page(struct kl_remote_load *ld)
{
    struct kl_etcd_range_request rq = {.key = ld->from.n ? kl_buf_str(&ld->from) : KL_RANGE_TO_LAST,
                                       .range_end = KL_RANGE_TO_LAST,
                                       .limit = ld->limit,
                                       .revision = ld->st->rev};
    ld->call = (struct kl_remote_call){
        .done = on_range,
        .retry = true,
        .request = ld->from.err ? NULL : kl_remote_encode(&kl_etcd_range_request_desc, &rq)};
    kl_remote_call(ld->b, &ld->call, KL_ETCD_RANGE);
}

static void next_look(struct kl_remote_load *ld)
{
    struct kl_etcd_range_request rq = {
        .key = KL_RANGE_TO_LAST, .count_only = true, .revision = ld->lo + (ld->hi - ld->lo) / 2};
    if (rq.revision < 1 || ld->hi - ld->lo <= 1) {
        ld->st->compact_rev = ld->hi > 1 ? ld->hi : 0;
        end_load(ld, 0, NULL);
        return;
    }
    ld->call =
        (struct kl_remote_call){.done = on_range,
                                .retry = true,
                                .request = kl_remote_encode(&kl_etcd_range_request_desc, &rq)};
    kl_remote_call(ld->b, &ld->call, KL_ETCD_RANGE);
}

void kl_remote_load(struct kl_backend *b, kl_remote_loaded_cb done)
{
    struct kl_error err;
    struct kl_remote_load *ld = calloc(1, sizeof(*ld));
    struct kl_remote_state *st = calloc(1, sizeof(*st));
    if (!ld || !st) {
        free(ld);
        free(st);
        done(b, NULL, kl_error_set(&err, KL_ENOMEM, "out of memory"), &err);
        return;
    }
    *ld = (struct kl_remote_load){.b = b, .done = done, .st = st, .limit = FIRST_PAGE};
    kl_buf_init(&ld->from, 64 << 20);
    b->load = ld;
    next_page(ld);
}
