// SPDX-License-Identifier: Apache-2.0
#include "store/raft/wire.h"
#include "store/raft/coding.h"
#include "store/raft/log.h"
#include <stdlib.h>

enum { HEAD = 8, ENTRY_HEAD = 16, MAX_SERVERS = 64 };

static uint8_t *put(uint8_t *p, uint64_t v)
{
    kl_put_u64(p, v);
    return p + 8;
}

static uint8_t *put_bytes(uint8_t *p, const void *q, size_t n)
{
    if (n)
        memcpy(p, q, n);
    return p + n;
}

static size_t append_size(const struct raft_append_entries *a)
{
    size_t n = 4 * 8 + 8;
    for (unsigned i = 0; i < a->n_entries; i++)
        n += ENTRY_HEAD + a->entries[i].buf.len;
    return n;
}

static void put_append(uint8_t *p, const struct raft_append_entries *a)
{
    p = put(p, a->term);
    p = put(p, a->prev_log_index);
    p = put(p, a->prev_log_term);
    p = put(p, a->leader_commit);
    p = put(p, a->n_entries);
    for (unsigned i = 0; i < a->n_entries; i++) {
        const struct raft_entry *e = &a->entries[i];
        p = put(p, e->term);
        kl_put_u32(p, e->type);
        kl_put_u32(p + 4, (uint32_t)e->buf.len);
        p += 8;
    }
    for (unsigned i = 0; i < a->n_entries; i++)
        p = put_bytes(p, a->entries[i].buf.base, a->entries[i].buf.len);
}

static struct kl_bytes *encode_install(const struct raft_install_snapshot *a, uint8_t **ret_p)
{
    struct raft_buffer conf;
    if (raft_configuration_encode(&a->conf, &conf))
        return NULL;
    struct kl_bytes *b = kl_bytes_alloc(HEAD + 4 * 8 + 8 + conf.len + a->data.len);
    if (b) {
        uint8_t *p = (uint8_t *)b->p + HEAD;
        p = put(p, a->term);
        p = put(p, a->last_index);
        p = put(p, a->last_term);
        p = put(p, a->conf_index);
        kl_put_u32(p, (uint32_t)conf.len);
        kl_put_u32(p + 4, (uint32_t)a->data.len);
        p = put_bytes(p + 8, conf.base, conf.len);
        put_bytes(p, a->data.base, a->data.len);
        *ret_p = (uint8_t *)b->p;
    }
    raft_free(conf.base);
    return b;
}

struct kl_bytes *kl_raft_encode(const struct raft_message *m)
{
    struct kl_bytes *b = NULL;
    uint8_t *p = NULL;
    if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
        b = encode_install(&m->install_snapshot, &p);
    } else {
        size_t n = m->type == RAFT_IO_APPEND_ENTRIES ? append_size(&m->append_entries) : 5 * 8;
        b = kl_bytes_alloc(HEAD + n);
        if (b)
            p = (uint8_t *)b->p;
    }
    if (!b)
        return NULL;
    memset(p, 0, HEAD);
    p[0] = KL_RAFT_WIRE_VERSION;
    p[1] = (uint8_t)m->type;
    uint8_t *q = p + HEAD;
    switch (m->type) {
    case RAFT_IO_APPEND_ENTRIES:
        put_append(q, &m->append_entries);
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        q = put(q, m->append_entries_result.term);
        q = put(q, m->append_entries_result.rejected);
        q = put(q, m->append_entries_result.last_log_index);
        q = put(put(q, 0), 0);
        break;
    case RAFT_IO_REQUEST_VOTE:
        q = put(q, m->request_vote.term);
        q = put(q, m->request_vote.candidate_id);
        q = put(q, m->request_vote.last_log_index);
        q = put(q, m->request_vote.last_log_term);
        q = put(q,
                (uint64_t)m->request_vote.disrupt_leader | (uint64_t)m->request_vote.pre_vote << 1);
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        q = put(q, m->request_vote_result.term);
        q = put(q, m->request_vote_result.vote_granted);
        q = put(q, m->request_vote_result.pre_vote);
        q = put(put(q, 0), 0);
        break;
    case RAFT_IO_TIMEOUT_NOW:
        q = put(q, m->timeout_now.term);
        q = put(q, m->timeout_now.last_log_index);
        q = put(q, m->timeout_now.last_log_term);
        q = put(put(q, 0), 0);
        break;
    default:
        break;
    }
    return b;
}

// ---- back ----

int kl_raft_conf_decode(const void *p, size_t n, struct raft_configuration *ret)
{
    struct kl_cursor c = {p, (const uint8_t *)p + n, false};
    raft_configuration_init(ret);
    uint8_t format = kl_take_u8(&c);
    uint64_t count = kl_take_u64(&c);
    int r = c.bad || format != 1 || count == 0 || count > MAX_SERVERS ? KL_ECORRUPT : 0;
    for (uint64_t i = 0; !r && i < count; i++) {
        uint64_t id = kl_take_u64(&c);
        const uint8_t *nul = c.bad ? NULL : memchr(c.p, 0, (size_t)(c.end - c.p));
        if (!nul || !id) {
            r = KL_ECORRUPT;
            break;
        }
        const char *address = (const char *)c.p;
        c.p = nul + 1;
        uint8_t role = kl_take_u8(&c);
        if (c.bad || role > RAFT_SPARE) {
            r = KL_ECORRUPT;
            break;
        }
        int rv = raft_configuration_add(ret, id, address, role);
        r = rv == RAFT_NOMEM ? KL_ENOMEM : rv ? KL_ECORRUPT : 0;
    }
    if (r)
        raft_configuration_close(ret);
    return r;
}

static int decode_entries(struct kl_cursor *c, struct raft_append_entries *a, uint64_t count)
{
    size_t total = 0;
    struct kl_cursor heads = *c;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t term = kl_take_u64(c);
        uint32_t type = kl_take_u32(c);
        uint32_t n = kl_take_u32(c);
        if (c->bad || !term || type < RAFT_COMMAND || type > RAFT_CHANGE || n > KL_RAFT_ENTRY_MAX)
            return KL_EPROTO;
        total += (n + 7) & ~(size_t)7;
        if (total > (size_t)KL_RAFT_ENTRY_MAX * 4)
            return KL_EPROTO;
    }
    a->entries = raft_calloc(count, sizeof(*a->entries));
    uint8_t *batch = raft_malloc(total + 1);
    if (!a->entries || !batch) {
        raft_free(a->entries);
        raft_free(batch);
        a->entries = NULL;
        return KL_ENOMEM;
    }
    size_t at = 0;
    int r = 0;
    for (uint64_t i = 0; !r && i < count; i++) {
        struct raft_entry *e = &a->entries[i];
        e->term = kl_take_u64(&heads);
        e->type = (unsigned short)kl_take_u32(&heads);
        e->buf.len = kl_take_u32(&heads);
        e->buf.base = batch + at;
        e->batch = batch;
        struct kl_str s = kl_take_str(c, e->buf.len);
        if (!c->bad && s.n)
            memcpy(e->buf.base, s.p, s.n);
        at += (e->buf.len + 7) & ~(size_t)7;
        struct raft_configuration conf;
        if (!c->bad && e->type == RAFT_CHANGE) {
            r = kl_raft_conf_decode(e->buf.base, e->buf.len, &conf);
            if (!r)
                raft_configuration_close(&conf);
            r = r == KL_ECORRUPT ? KL_EPROTO : r;
        }
    }
    r = c->bad ? KL_EPROTO : r;
    if (r) {
        raft_free(batch);
        raft_free(a->entries);
        a->entries = NULL;
        return r;
    }
    a->n_entries = (unsigned)count;
    return 0;
}

static int decode_append(struct kl_cursor *c, struct raft_append_entries *a)
{
    a->term = kl_take_u64(c);
    a->prev_log_index = kl_take_u64(c);
    a->prev_log_term = kl_take_u64(c);
    a->leader_commit = kl_take_u64(c);
    uint64_t n = kl_take_u64(c);
    if (c->bad || n > KL_RAFT_WIRE_ENTRIES || !a->term ||
        (a->prev_log_index == 0) != (a->prev_log_term == 0) || a->prev_log_index > UINT64_MAX / 2)
        return KL_EPROTO;
    // What is known to be the leader's ends with this message, whatever stands behind it here.
    if (a->leader_commit > a->prev_log_index + n)
        a->leader_commit = a->prev_log_index + n;
    return n ? decode_entries(c, a, n) : 0;
}

static int decode_install(struct kl_cursor *c, struct raft_install_snapshot *a)
{
    a->term = kl_take_u64(c);
    a->last_index = kl_take_u64(c);
    a->last_term = kl_take_u64(c);
    a->conf_index = kl_take_u64(c);
    uint32_t nconf = kl_take_u32(c), ndata = kl_take_u32(c);
    struct kl_str conf = kl_take_str(c, nconf), data = kl_take_str(c, ndata);
    if (c->bad || !a->term || !a->last_index || !a->last_term)
        return KL_EPROTO;
    int r = kl_raft_conf_decode(conf.p, conf.n, &a->conf);
    if (r)
        return r == KL_ECORRUPT ? KL_EPROTO : r;
    a->data.len = data.n;
    a->data.base = raft_malloc(data.n + 1);
    if (!a->data.base) {
        raft_configuration_close(&a->conf);
        return KL_ENOMEM;
    }
    memcpy(a->data.base, data.p, data.n);
    return 0;
}

int kl_raft_decode(struct kl_str s, struct raft_message *ret)
{
    struct kl_cursor c = {(const uint8_t *)s.p, (const uint8_t *)s.p + s.n, false};
    memset(ret, 0, sizeof(*ret));
    uint8_t version = kl_take_u8(&c);
    ret->type = kl_take_u8(&c);
    kl_take(&c, HEAD - 2);
    if (c.bad || version != KL_RAFT_WIRE_VERSION)
        return KL_EPROTO;
    int r = 0;
    uint64_t flags;
    switch (ret->type) {
    case RAFT_IO_APPEND_ENTRIES:
        r = decode_append(&c, &ret->append_entries);
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        ret->append_entries_result.term = kl_take_u64(&c);
        ret->append_entries_result.rejected = kl_take_u64(&c);
        ret->append_entries_result.last_log_index = kl_take_u64(&c);
        break;
    case RAFT_IO_REQUEST_VOTE:
        ret->request_vote.term = kl_take_u64(&c);
        ret->request_vote.candidate_id = kl_take_u64(&c);
        ret->request_vote.last_log_index = kl_take_u64(&c);
        ret->request_vote.last_log_term = kl_take_u64(&c);
        flags = kl_take_u64(&c);
        ret->request_vote.disrupt_leader = flags & 1;
        ret->request_vote.pre_vote = flags & 2;
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        ret->request_vote_result.term = kl_take_u64(&c);
        ret->request_vote_result.vote_granted = kl_take_u64(&c) != 0;
        flags = kl_take_u64(&c);
        ret->request_vote_result.pre_vote =
            flags == raft_tribool_true ? raft_tribool_true : raft_tribool_false;
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        r = decode_install(&c, &ret->install_snapshot);
        break;
    case RAFT_IO_TIMEOUT_NOW:
        ret->timeout_now.term = kl_take_u64(&c);
        ret->timeout_now.last_log_index = kl_take_u64(&c);
        ret->timeout_now.last_log_term = kl_take_u64(&c);
        break;
    default:
        return KL_EPROTO;
    }
    return r ? r : c.bad ? KL_EPROTO : 0;
}

void kl_raft_message_fini(struct raft_message *m)
{
    if (m->type == RAFT_IO_APPEND_ENTRIES && m->append_entries.entries) {
        raft_free(m->append_entries.entries[0].batch);
        raft_free(m->append_entries.entries);
    } else if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
        raft_configuration_close(&m->install_snapshot.conf);
        raft_free(m->install_snapshot.data.base);
    }
}
