// SPDX-License-Identifier: Apache-2.0
// The state machine as libraft sees it.
#include "store/raft/node_int.h"
#include <string.h>

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    struct kl_raft_node *n = fsm->data;
    uint64_t index = raft_last_applied(&n->raft) + 1;
    *result = NULL;
    int r = n->failed
                ? KL_EIO
                : n->m.apply(n->m.arg, index, kl_raft_table_term(n, index), buf->base, buf->len);
    n->unapplied = n->unapplied || r == KL_ENOMEM;
    return r == KL_ENOMEM ? RAFT_NOMEM : r ? RAFT_INVALID : 0;
}

// How many entries stay behind a snapshot, for followers that are a little late.
static unsigned count_trailing(const struct kl_raft_node *n, uint64_t index)
{
    size_t bytes = 0, k = 0;
    while (k < n->o.snapshot_entries && index - k >= n->first && k < index) {
        bytes += n->slot[index - k - n->first].bytes;
        if (bytes > n->o.snapshot_bytes / 2)
            break;
        k++;
    }
    return k < KL_RAFT_TRAILING_MIN ? KL_RAFT_TRAILING_MIN : (unsigned)k;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct kl_raft_node *n = fsm->data;
    uint64_t index = raft_last_applied(&n->raft);
    // libraft would put a configuration into it that is not committed.
    bool changing = n->nconf && n->conf[n->nconf - 1].index > index;
    if (changing || n->fetching || n->has_install || !n->m.may_snapshot(n->m.arg, index))
        return RAFT_BUSY;
    *bufs = raft_calloc(1, sizeof(**bufs));
    uint64_t *p = raft_malloc(sizeof(*p));
    if (!*bufs || !p) {
        raft_free(*bufs);
        raft_free(p);
        return RAFT_NOMEM;
    }
    *p = index;
    **bufs = (struct raft_buffer){p, sizeof(*p)};
    *n_bufs = 1;
    raft_set_snapshot_threshold(&n->raft, KL_RAFT_SNAPSHOT_NEVER);
    raft_set_snapshot_trailing(&n->raft, count_trailing(n, index));
    return 0;
}

static int fsm_snapshot_async(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct kl_raft_node *n = fsm->data;
    uint64_t index;
    memcpy(&index, (*bufs)->base, sizeof(index));
    return n->m.save(n->m.arg, index) ? RAFT_IOERR : 0;
}

static int fsm_snapshot_finalize(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    if (*bufs)
        raft_free((*bufs)->base);
    raft_free(*bufs);
    *bufs = NULL;
    *n_bufs = 0;
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    struct kl_raft_node *n = fsm->data;
    int r = n->m.restored(n->m.arg, n->manifest.index);
    if (!r)
        raft_free(buf->base);
    return r == KL_ENOMEM ? RAFT_NOMEM : r ? RAFT_CORRUPT : 0;
}

void kl_raft_node_fsm_init(struct kl_raft_node *n)
{
    n->fsm = (struct raft_fsm){
        .version = 3,
        .data = n,
        .apply = fsm_apply,
        .snapshot = fsm_snapshot,
        .restore = fsm_restore,
        .snapshot_finalize = fsm_snapshot_finalize,
        .snapshot_async = fsm_snapshot_async,
    };
}
