// SPDX-License-Identifier: Apache-2.0
#include "store/big.h"
#include "store/view_int.h"
#include <stdlib.h>

struct kl_batch *kl_batch_new(void)
{
    struct kl_batch *b = calloc(1, sizeof(*b));
    if (b)
        b->txns_tail = &b->txns;
    return b;
}

void kl_batch_free(struct kl_batch *b)
{
    if (!b)
        return;
    kl_big_free(b);
    for (size_t i = 0; i < b->nrows; i++) {
        kl_kv_unref(b->rows[i].kv);
        kl_kv_unref(b->rows[i].prev);
    }
    free(b->rows);
    free(b->leases);
    free(b->forwarded);
    kl_node_unref(b->root);
    free(b->view); // still empty: a published one belongs to the store
    free(b);
}

int kl_batch_row(struct kl_batch *b, struct kl_row **ret_row)
{
    if (b->nrows == b->cap_rows) {
        size_t cap = b->cap_rows ? b->cap_rows * 2 : 32;
        struct kl_row *rows = realloc(b->rows, cap * sizeof(*rows));
        if (!rows)
            return KL_ENOMEM;
        b->rows = rows;
        b->cap_rows = cap;
    }
    *ret_row = &b->rows[b->nrows++];
    **ret_row = (struct kl_row){0};
    return 0;
}

int kl_batch_add_row(struct kl_batch *b, struct kl_kv *kv)
{
    struct kl_row *row;
    if (!kv || kl_batch_row(b, &row)) {
        kl_kv_unref(kv);
        return KL_ENOMEM;
    }
    row->kv = kv;
    b->bytes += kv->key_len + kl_kv_value(kv).n + 64;
    return 0;
}

int kl_batch_add_lease(struct kl_batch *b, struct kl_lease_op op)
{
    if (b->nleases == b->cap_leases) {
        size_t cap = b->cap_leases ? b->cap_leases * 2 : 8;
        struct kl_lease_op *p = realloc(b->leases, cap * sizeof(*p));
        if (!p)
            return KL_ENOMEM;
        b->leases = p;
        b->cap_leases = cap;
    }
    b->leases[b->nleases++] = op;
    return 0;
}

int kl_batch_add_forwarded(struct kl_batch *b, struct kl_forwarded f)
{
    if (b->nforwarded == b->cap_forwarded) {
        size_t cap = b->cap_forwarded ? b->cap_forwarded * 2 : 8;
        struct kl_forwarded *p = realloc(b->forwarded, cap * sizeof(*p));
        if (!p)
            return KL_ENOMEM;
        b->forwarded = p;
        b->cap_forwarded = cap;
    }
    b->forwarded[b->nforwarded++] = f;
    return 0;
}
