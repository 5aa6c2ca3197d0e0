// SPDX-License-Identifier: Apache-2.0
#include "store/etcd/pages.h"
#include <stdlib.h>
#include <string.h>

static void page_came(struct kl_range_at *q)
{
    struct kl_etcd_pages *p = KL_CONTAINER_OF(q, struct kl_etcd_pages, q);
    p->busy = false;
    p->came(p);
}

static int ask(struct kl_etcd_pages *p, struct kl_str key, bool want_count, struct kl_error *err)
{
    p->q = (struct kl_range_at){.key = key,
                                .end = p->end,
                                .rev = p->rev,
                                .limit = p->left,
                                .want_count = want_count,
                                .cb = page_came};
    int rc = kl_store_range_at(p->store, &p->q, err);
    p->busy = !rc;
    return rc;
}

int kl_etcd_pages_start(struct kl_etcd_pages *p, struct kl_store *s, struct kl_str key,
                        struct kl_str end, kl_rev rev, int64_t limit, bool want_count,
                        struct kl_error *err)
{
    p->store = s;
    p->end = end;
    p->rev = rev;
    p->left = limit > 0 ? limit : 0;
    return ask(p, key, want_count, err);
}

bool kl_etcd_pages_more(const struct kl_etcd_pages *p)
{
    return p->q.more && p->q.nkvs && (!p->left || p->left > (int64_t)p->q.nkvs);
}

int kl_etcd_pages_next(struct kl_etcd_pages *p, struct kl_error *err)
{
    struct kl_str last = kl_kv_key(p->q.kvs[p->q.nkvs - 1]);
    char *from = malloc(last.n + 1);
    if (!from)
        return KL_ENOMEM;
    memcpy(from, last.p, last.n);
    from[last.n] = 0;
    if (p->left)
        p->left -= (int64_t)p->q.nkvs;
    kl_range_at_fini(&p->q);
    free(p->from);
    p->from = from;
    return ask(p, (struct kl_str){from, last.n + 1}, false, err);
}

void kl_etcd_pages_fini(struct kl_etcd_pages *p)
{
    kl_range_at_fini(&p->q);
    free(p->from);
    p->from = NULL;
}
