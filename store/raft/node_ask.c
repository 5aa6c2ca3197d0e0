// SPDX-License-Identifier: Apache-2.0
// What is asked of the leader: proposals, and one change of the configuration at a time.
#include "store/raft/node_int.h"
#include <stdio.h>
#include <stdlib.h>

int kl_raft_code(int rv)
{
    switch (rv) {
    case 0:
        return 0;
    case RAFT_NOMEM:
        return KL_ENOMEM;
    case RAFT_NOTLEADER:
    case RAFT_LEADERSHIPLOST:
    case RAFT_SHUTDOWN:
    case RAFT_CANCELED:
        return KL_EUNAVAILABLE;
    case RAFT_BADID:
    case RAFT_NOTFOUND:
        return KL_ENOTFOUND;
    case RAFT_DUPLICATEID:
    case RAFT_DUPLICATEADDRESS:
        return KL_EEXISTS;
    case RAFT_BADROLE:
        return KL_EINVALID;
    case RAFT_CANTCHANGE:
    case RAFT_BUSY:
        return KL_ECONFLICT;
    case RAFT_NOCONNECTION:
        return KL_ETIMEOUT;
    case RAFT_IOERR:
        return KL_EIO;
    case RAFT_NOSPACE:
        return KL_ENOSPC;
    default:
        return KL_EINTERNAL;
    }
}

// ---- proposals ----

void kl_raft_node_fail_proposals(struct kl_raft_node *n)
{
    for (struct kl_raft_proposal *p; (p = n->proposals);) {
        n->proposals = p->next;
        if (!n->proposals)
            n->proposals_end = &n->proposals;
        for (size_t i = 0; i < p->nbufs; i++)
            raft_free(p->bufs[i].base);
        free(p->bufs);
        p->index = 0;
        p->cb(p, KL_EUNAVAILABLE);
    }
}

static void proposal_done(struct raft_apply *req, int status, void *result)
{
    struct kl_raft_proposal *p = req->data;
    p->cb(p, kl_raft_code(status));
}

bool kl_raft_node_start_proposal(struct kl_raft_node *n)
{
    struct kl_raft_proposal *p = n->proposals;
    if (!p)
        return false;
    n->proposals = p->next;
    if (!n->proposals)
        n->proposals_end = &n->proposals;
    p->index = raft_last_index(&n->raft) + 1;
    p->term = n->meta.term;
    void (*cb)(struct kl_raft_proposal *, int) = p->cb;
    struct raft_buffer *bufs = p->bufs;
    size_t k = p->nbufs;
    p->bufs = NULL;
    int rv =
        n->ready ? raft_apply(&n->raft, &p->req, bufs, (unsigned)k, proposal_done) : RAFT_NOTLEADER;
    if (rv) {
        for (size_t i = 0; i < k; i++)
            raft_free(bufs[i].base);
        p->index = 0;
        cb(p, kl_raft_code(rv));
    }
    free(bufs);
    return true;
}

void kl_raft_node_propose(struct kl_raft_node *n, struct kl_raft_proposal *p,
                          struct raft_buffer *bufs, size_t nbufs)
{
    p->node = n;
    p->bufs = bufs;
    p->nbufs = nbufs;
    p->next = NULL;
    p->req.data = p;
    *n->proposals_end = p;
    n->proposals_end = &p->next;
    if (n->stopping || n->failed)
        kl_raft_node_fail_proposals(n);
    else
        kl_raft_node_event(n);
}

// ---- changes ----

static void end_change(struct kl_raft_node_change *c, int code)
{
    if (c->node->change == c)
        c->node->change = NULL;
    c->cb(c, code);
}

static void changed(struct raft_change *req, int status)
{
    end_change(req->data, kl_raft_code(status));
}

static void transferred(struct raft_transfer *req)
{
    struct kl_raft_node_change *c = req->data;
    raft_id leader = 0;
    const char *address;
    raft_leader(&c->node->raft, &leader, &address);
    end_change(c, leader != c->node->o.id && (!c->id || leader == c->id) ? 0 : KL_ETIMEOUT);
}

int kl_raft_node_change(struct kl_raft_node *n, struct kl_raft_node_change *c)
{
    char address[24];
    int rv;
    if (!n->ready || n->stopping || n->restarting)
        return KL_EUNAVAILABLE;
    if (n->change || n->writing || n->busy)
        return KL_ECONFLICT;
    c->node = n;
    c->req.data = c->transfer.data = c;
    n->busy = true;
    snprintf(address, sizeof(address), "%016llx", (unsigned long long)c->id);
    switch (c->op) {
    case KL_RAFT_NODE_ADD:
        rv = raft_add(&n->raft, &c->req, c->id, address, changed);
        break;
    case KL_RAFT_NODE_ROLE:
        rv = raft_assign(&n->raft, &c->req, c->id, c->role, changed);
        break;
    case KL_RAFT_NODE_REMOVE:
        rv = raft_remove(&n->raft, &c->req, c->id, changed);
        break;
    case KL_RAFT_NODE_TRANSFER:
    default:
        rv = raft_transfer(&n->raft, &c->transfer, c->id, transferred);
        break;
    }
    if (!rv)
        n->change = c;
    n->busy = false;
    kl_raft_node_event(n);
    return kl_raft_code(rv);
}
