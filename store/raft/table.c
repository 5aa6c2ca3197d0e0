// SPDX-License-Identifier: Apache-2.0
// What libraft's log in memory holds, as far as the node must know: the term and size of each
// entry, and the configurations.
#include "store/raft/node_int.h"
#include "store/raft/wire.h"
#include <stdlib.h>
#include <string.h>

uint64_t kl_raft_table_last(const struct kl_raft_node *n)
{
    return n->first + n->nslots - 1;
}

uint64_t kl_raft_table_term(const struct kl_raft_node *n, uint64_t index)
{
    if (index >= n->first && index < n->first + n->nslots)
        return n->slot[index - n->first].term;
    return index == n->manifest.index ? n->manifest.term : 0;
}

// Members follow the newest configuration.
static int take_members(struct kl_raft_node *n)
{
    struct raft_configuration c;
    if (!n->nconf) {
        n->nmembers = 0;
        return 0;
    }
    const struct raft_buffer *b = &n->conf[n->nconf - 1].buf;
    int r = kl_raft_conf_decode(b->base, b->len, &c);
    if (r)
        return r;
    struct kl_raft_node_member *m = calloc(c.n, sizeof(*m));
    if (m) {
        free(n->member);
        n->member = m;
        n->nmembers = c.n;
        for (unsigned i = 0; i < c.n; i++)
            m[i] = (struct kl_raft_node_member){c.servers[i].id, c.servers[i].role, 0};
    }
    raft_configuration_close(&c);
    return m ? 0 : KL_ENOMEM;
}

int kl_raft_table_conf(struct kl_raft_node *n, uint64_t index, const void *p, size_t len)
{
    if (n->nconf == n->cap_conf) {
        size_t cap = n->cap_conf ? n->cap_conf * 2 : 8;
        struct kl_raft_conf *v = realloc(n->conf, cap * sizeof(*v));
        if (!v)
            return KL_ENOMEM;
        n->conf = v;
        n->cap_conf = cap;
    }
    void *q = raft_malloc(len);
    if (!q)
        return KL_ENOMEM;
    memcpy(q, p, len);
    n->conf[n->nconf++] = (struct kl_raft_conf){index, {q, len}};
    return take_members(n);
}

int kl_raft_table_push(struct kl_raft_node *n, uint64_t index, uint64_t term, unsigned short type,
                       const void *p, size_t len)
{
    if (n->nslots == n->cap_slots) {
        size_t cap = n->cap_slots ? n->cap_slots * 2 : 256;
        struct kl_raft_slot *v = realloc(n->slot, cap * sizeof(*v));
        if (!v)
            return KL_ENOMEM;
        n->slot = v;
        n->cap_slots = cap;
    }
    n->slot[n->nslots++] = (struct kl_raft_slot){term, (uint32_t)len};
    n->log_bytes += (int64_t)len + 64;
    n->since_snapshot += (int64_t)len + 64;
    return type == RAFT_CHANGE ? kl_raft_table_conf(n, index, p, len) : 0;
}

void kl_raft_table_cut(struct kl_raft_node *n, uint64_t from)
{
    while (n->nslots && kl_raft_table_last(n) >= from) {
        int64_t b = (int64_t)n->slot[--n->nslots].bytes + 64;
        n->log_bytes -= b;
        n->since_snapshot -= n->since_snapshot < b ? n->since_snapshot : b;
    }
    if (n->durable >= from)
        n->durable = from - 1;
    bool changed = false;
    while (n->nconf && n->conf[n->nconf - 1].index >= from) {
        raft_free(n->conf[--n->nconf].buf.base);
        changed = true;
    }
    if (changed)
        take_members(n);
}

void kl_raft_table_drop(struct kl_raft_node *n, uint64_t before)
{
    size_t k = before > n->first ? before - n->first : 0;
    k = k < n->nslots ? k : n->nslots;
    for (size_t i = 0; i < k; i++)
        n->log_bytes -= (int64_t)n->slot[i].bytes + 64;
    memmove(n->slot, n->slot + k, (n->nslots - k) * sizeof(*n->slot));
    n->nslots -= k;
    n->first += k;
    // The one that held at the beginning stays.
    size_t gone = 0;
    while (gone + 1 < n->nconf && n->conf[gone + 1].index < before)
        raft_free(n->conf[gone++].buf.base);
    memmove(n->conf, n->conf + gone, (n->nconf - gone) * sizeof(*n->conf));
    n->nconf -= gone;
}

void kl_raft_table_clear(struct kl_raft_node *n, uint64_t first)
{
    for (size_t i = 0; i < n->nconf; i++)
        raft_free(n->conf[i].buf.base);
    n->nconf = n->nslots = n->nmembers = 0;
    n->log_bytes = n->since_snapshot = 0;
    n->first = first;
    n->durable = first - 1;
}

const struct raft_buffer *kl_raft_node_conf(const struct kl_raft_node *n, uint64_t index,
                                            uint64_t *ret_conf_index)
{
    for (size_t i = n->nconf; i-- > 0;) {
        if (n->conf[i].index <= index) {
            *ret_conf_index = n->conf[i].index;
            return &n->conf[i].buf;
        }
    }
    return NULL;
}

struct kl_raft_peer *kl_raft_node_peer(struct kl_raft_node *n, uint64_t id)
{
    for (size_t i = 0; i < n->npeers; i++) {
        if (n->peer[i].id == id)
            return &n->peer[i];
    }
    struct kl_raft_peer *v = realloc(n->peer, (n->npeers + 1) * sizeof(*v));
    if (!v)
        return NULL;
    n->peer = v;
    v[n->npeers] = (struct kl_raft_peer){.id = id};
    return &v[n->npeers++];
}

const struct kl_raft_node_member *kl_raft_node_members(const struct kl_raft_node *n, size_t *ret_n)
{
    for (size_t i = 0; i < n->nmembers; i++) {
        n->member[i].match = n->member[i].id == n->o.id ? kl_raft_table_last(n) : 0;
        for (size_t k = 0; k < n->npeers; k++) {
            if (n->peer[k].id == n->member[i].id)
                n->member[i].match = n->peer[k].match;
        }
    }
    *ret_n = n->nmembers;
    return n->member;
}
