// SPDX-License-Identifier: Apache-2.0
// What members tell each other of themselves, as etcd's publish their attributes: a name and the
// URLs for clients, for MemberList. Each tells who connects, and asks for the same, so that it does
// not matter whose server was there first; what was heard is kept while this process runs.
//
//   'a' or 'r' (an answer is asked for, or this is one), then etcdserverpb.Member
#include "store/etcd/cluster_int.h"
#include "base/log.h"
#include "store/peer/peers.h"
#include <stdlib.h>

enum { MAX_TOLD = 64 * 1024, KNOWN = KL_RAFT_MEMBERS_MAX };

struct kl_etcd_roster {
    struct kl_etcd *e;
    struct kl_bytes *ask, *answer;
    pthread_mutex_t lock; // of what follows
    struct {
        uint64_t id;
        struct kl_bytes *told; // the Member
        bool member;           // it was seen as one: until then it may be about to be added
    } known[KNOWN];
    size_t n;
};

static struct kl_bytes *make_message(const struct kl_etcd *e, char kind)
{
    struct kl_buf b;
    struct kl_arena a;
    struct kl_etcd_member m = {.id = e->member_id};
    kl_arena_init(&a, MAX_TOLD);
    kl_buf_init(&b, MAX_TOLD);
    kl_etcd_fill_self(e, &a, &m);
    kl_buf_putc(&b, kind);
    kl_proto_encode(&b, &kl_etcd_member_desc, &m);
    struct kl_bytes *ret = kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    kl_arena_fini(&a);
    return ret;
}

static void on_state(void *arg, uint64_t id, bool connected)
{
    struct kl_etcd_roster *r = arg;
    if (connected)
        kl_peers_send(r->e->o.peers, id, KL_PEER_MEMBER, r->ask); // lost: it asks itself
}

// The arena's copy of a member that says who it is; NULL: it is none.
static struct kl_etcd_member *decode(struct kl_arena *a, uint64_t id, struct kl_str told)
{
    void *m;
    if (kl_proto_decode(a, &kl_etcd_member_desc, told, &m, NULL))
        return NULL;
    return ((struct kl_etcd_member *)m)->id == id ? m : NULL;
}

static void keep(struct kl_etcd_roster *r, uint64_t id, struct kl_str told)
{
    struct kl_bytes *b = kl_bytes_new(told);
    size_t i = 0;
    if (!b)
        return;
    pthread_mutex_lock(&r->lock);
    while (i < r->n && r->known[i].id != id)
        i++;
    if (i == KNOWN)
        i = KNOWN - 1; // there are no more members at once
    r->n += i == r->n;
    kl_bytes_unref(r->known[i].told);
    r->known[i].member &= r->known[i].id == id;
    r->known[i].id = id;
    r->known[i].told = b;
    pthread_mutex_unlock(&r->lock);
}

static void on_message(void *arg, uint64_t from, struct kl_str msg)
{
    struct kl_etcd_roster *r = arg;
    struct kl_arena a;
    if (!msg.n || msg.n > MAX_TOLD || (msg.p[0] != 'a' && msg.p[0] != 'r'))
        return;
    kl_arena_init(&a, 4 * MAX_TOLD);
    struct kl_str told = kl_str_from(msg, 1);
    if (decode(&a, from, told))
        keep(r, from, told);
    else
        kl_log(KL_LOG_WARN, "etcd", "member=%016llx says nothing sensible of itself",
               (unsigned long long)from);
    kl_arena_fini(&a);
    if (msg.p[0] == 'a')
        kl_peers_send(r->e->o.peers, from, KL_PEER_MEMBER, r->answer);
}

int kl_etcd_roster_open(struct kl_etcd *e)
{
    if (!e->o.peers)
        return 0;
    struct kl_etcd_roster *r = calloc(1, sizeof(*r));
    if (!r)
        return KL_ENOMEM;
    pthread_mutex_init(&r->lock, NULL);
    r->e = e;
    r->ask = make_message(e, 'a');
    r->answer = make_message(e, 'r');
    e->roster = r;
    if (!r->ask || !r->answer)
        return KL_ENOMEM; // kl_etcd_roster_free
    kl_peers_handle(e->o.peers, KL_PEER_MEMBER,
                    &(struct kl_peer_handler){
                        .loop = e->o.loops[0], .message = on_message, .state = on_state, .arg = r});
    return 0;
}

void kl_etcd_roster_close(struct kl_etcd *e)
{
    if (e->roster)
        kl_peers_handle(e->o.peers, KL_PEER_MEMBER, NULL);
}

void kl_etcd_roster_free(struct kl_etcd *e)
{
    struct kl_etcd_roster *r = e->roster;
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++)
        kl_bytes_unref(r->known[i].told);
    kl_bytes_unref(r->ask);
    kl_bytes_unref(r->answer);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void kl_etcd_roster_forget(struct kl_etcd *e, const struct kl_raft_status *st)
{
    struct kl_etcd_roster *r = e->roster;
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->n;) {
        size_t k = 0;
        while (k < st->nmembers && st->members[k].id != r->known[i].id)
            k++;
        if (k < st->nmembers || !r->known[i].member) {
            r->known[i++].member |= k < st->nmembers;
            continue;
        }
        kl_bytes_unref(r->known[i].told);
        r->known[i] = r->known[--r->n];
        r->known[r->n].told = NULL;
        r->known[r->n].member = false;
    }
    pthread_mutex_unlock(&r->lock);
}

bool kl_etcd_roster_fill(const struct kl_etcd *e, struct kl_arena *a, struct kl_etcd_member *m)
{
    struct kl_etcd_roster *r = e->roster;
    struct kl_str told = {0};
    if (!r)
        return false;
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->n; i++)
        if (r->known[i].id == m->id)
            told = kl_arena_dup(a, kl_bytes_str(r->known[i].told));
    pthread_mutex_unlock(&r->lock);
    struct kl_etcd_member *from = told.p ? decode(a, m->id, told) : NULL;
    if (!from)
        return false;
    m->name = from->name;
    m->client_urls = from->client_urls;
    m->n_client_urls = from->n_client_urls;
    return true;
}
