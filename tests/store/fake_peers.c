// SPDX-License-Identifier: Apache-2.0
#include "fake_peers.h"
#include "harness.h"
#include <stdlib.h>

struct kl_peers {
    struct fp_net *net;
    uint64_t id;
    struct kl_peer_handler h; // loop NULL: none
    bool running;
};

struct fp_net {
    pthread_mutex_t mu;
    pthread_cond_t cond;
    struct kl_peers node[FP_NODES];
    bool cut[FP_NODES][FP_NODES];
    unsigned epoch[FP_NODES][FP_NODES]; // rises with each cut
    int lose;
    int lost[FP_NODES][FP_NODES]; // in a row, of what one sent to another
    uint64_t rand;
};

// On its way to a node: a message, or (NULL) news of a connection.
struct parcel {
    struct kl_task task;
    struct kl_peers *from, *to;
    struct kl_bytes *msg;
    unsigned epoch;
    bool connected;
};

static unsigned *epoch_of(struct fp_net *n, const struct kl_peers *a, const struct kl_peers *b)
{
    int i = (int)a->id - 1, k = (int)b->id - 1;
    return i < k ? &n->epoch[i][k] : &n->epoch[k][i];
}

static bool *cut_of(struct fp_net *n, const struct kl_peers *a, const struct kl_peers *b)
{
    int i = (int)a->id - 1, k = (int)b->id - 1;
    return i < k ? &n->cut[i][k] : &n->cut[k][i];
}

static void deliver(struct kl_task *t)
{
    struct parcel *p = KL_CONTAINER_OF(t, struct parcel, task);
    struct fp_net *n = p->to->net;
    pthread_mutex_lock(&n->mu);
    struct kl_peer_handler h = p->to->h;
    bool good = h.loop && (!p->msg || p->epoch == *epoch_of(n, p->from, p->to));
    p->to->running = good;
    pthread_mutex_unlock(&n->mu);
    if (good && p->msg)
        h.message(h.arg, p->from->id, kl_bytes_str(p->msg));
    else if (good)
        h.state(h.arg, p->from->id, p->connected);
    pthread_mutex_lock(&n->mu);
    p->to->running = false;
    pthread_cond_broadcast(&n->cond);
    pthread_mutex_unlock(&n->mu);
    kl_bytes_unref(p->msg);
    free(p);
}

// Called with mu.
static void post(struct kl_peers *from, struct kl_peers *to, struct kl_bytes *msg, bool connected)
{
    if (!to->h.loop)
        return;
    struct parcel *p = calloc(1, sizeof(*p));
    *p = (struct parcel){{.run = deliver}, from, to, kl_bytes_ref(msg), 0, connected};
    p->epoch = *epoch_of(to->net, from, to);
    kl_loop_post(to->h.loop, &p->task);
}

struct fp_net *fp_new(void)
{
    struct fp_net *n = calloc(1, sizeof(*n));
    pthread_mutex_init(&n->mu, NULL);
    pthread_cond_init(&n->cond, NULL);
    n->rand = hs_seed();
    for (int i = 0; i < FP_NODES; i++)
        n->node[i] = (struct kl_peers){.net = n, .id = (uint64_t)i + 1};
    return n;
}

void fp_free(struct fp_net *n)
{
    pthread_mutex_destroy(&n->mu);
    pthread_cond_destroy(&n->cond);
    free(n);
}

struct kl_peers *fp_node(struct fp_net *n, int i)
{
    return &n->node[i];
}

static void set_cut(struct fp_net *n, int a, int b, bool cut)
{
    struct kl_peers *x = &n->node[a], *y = &n->node[b];
    pthread_mutex_lock(&n->mu);
    if (*cut_of(n, x, y) != cut) {
        *cut_of(n, x, y) = cut;
        *epoch_of(n, x, y) += cut;
        post(x, y, NULL, !cut);
        post(y, x, NULL, !cut);
    }
    pthread_mutex_unlock(&n->mu);
}

void fp_cut(struct fp_net *n, int a, int b)
{
    set_cut(n, a, b, true);
}

void fp_join(struct fp_net *n, int a, int b)
{
    set_cut(n, a, b, false);
}

void fp_lose(struct fp_net *n, int per_mille)
{
    pthread_mutex_lock(&n->mu);
    n->lose = per_mille;
    pthread_mutex_unlock(&n->mu);
}

// ---- in the place of store/peer ----

uint64_t __wrap_kl_peers_id(const struct kl_peers *p);
bool __wrap_kl_peers_connected(const struct kl_peers *p, uint64_t id);
int __wrap_kl_peers_send(struct kl_peers *p, uint64_t to, enum kl_peer_channel c,
                         struct kl_bytes *msg);
void __wrap_kl_peers_handle(struct kl_peers *p, enum kl_peer_channel c,
                            const struct kl_peer_handler *h);

uint64_t __wrap_kl_peers_id(const struct kl_peers *p)
{
    return p->id;
}

bool __wrap_kl_peers_connected(const struct kl_peers *p, uint64_t id)
{
    pthread_mutex_lock(&p->net->mu);
    bool up = id - 1 < FP_NODES && !*cut_of(p->net, p, &p->net->node[id - 1]);
    pthread_mutex_unlock(&p->net->mu);
    return up;
}

int __wrap_kl_peers_send(struct kl_peers *p, uint64_t to, enum kl_peer_channel c,
                         struct kl_bytes *msg)
{
    struct fp_net *n = p->net;
    int r = KL_EUNAVAILABLE;
    pthread_mutex_lock(&n->mu);
    if (to - 1 < FP_NODES && !*cut_of(n, p, &n->node[to - 1])) {
        int *lost = &n->lost[p->id - 1][to - 1];
        r = 0;
        // Not so many in a row that whoever waits is not patient enough, but where all are lost.
        if (n->lose >= 1000 || (*lost < 2 && (int)(hs_rand(&n->rand) % 1000) < n->lose)) {
            ++*lost;
        } else {
            *lost = 0;
            post(p, &n->node[to - 1], msg, true);
        }
    }
    pthread_mutex_unlock(&n->mu);
    return r;
}

void __wrap_kl_peers_handle(struct kl_peers *p, enum kl_peer_channel c,
                            const struct kl_peer_handler *h)
{
    struct fp_net *n = p->net;
    pthread_mutex_lock(&n->mu);
    p->h = h ? *h : (struct kl_peer_handler){0};
    while (!h && p->running)
        pthread_cond_wait(&n->cond, &n->mu);
    pthread_mutex_unlock(&n->mu);
}
