// SPDX-License-Identifier: Apache-2.0
// Streams: each is a connection of its own, so that TCP slows the writer down and no message waits
// behind it. The serving side has a thread that fills a bounded queue which the connection
// empties; the asking side is the caller's thread, which empties a bounded list that the connection
// fills.
#include "store/peer/peers_int.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>

enum { OUT_SLOTS = 64, MAX_NAME = 1024 };

// ---- serving

struct kl_peer_out {
    struct kl_peers *p;
    struct kl_peer_out *next; // of p->serving, under p->lock
    kl_peer_serve serve;
    void *arg;
    uint64_t from;
    char name[MAX_NAME + 1];
    pthread_t thread;
    struct kl_peer_link *link; // the loop's; NULL: the asker is gone
    bool end_said;             // the loop's
    pthread_mutex_t lock;      // over what follows
    pthread_cond_t room;
    struct kl_bytes *v[OUT_SLOTS]; // frames
    unsigned head, count;
    size_t bytes;
    bool gone, cancel, done, flush_posted;
    int code;
    struct kl_error err;
    struct kl_task flush;
};

static void post_flush(struct kl_peer_out *o)
{
    if (o->flush_posted)
        return;
    o->flush_posted = true;
    kl_loop_post(o->p->loop, &o->flush);
}

static int write_piece(struct kl_peer_out *o, const void *p, uint32_t n)
{
    struct kl_bytes *b = kl_bytes_alloc(KL_FRAME_HEAD + n);
    if (!b)
        return KL_ENOMEM;
    kl_frame_put_head((unsigned char *)b->p, (struct kl_frame_head){n, KL_FRAME_DATA, 0});
    memcpy(b->p + KL_FRAME_HEAD, p, n);
    pthread_mutex_lock(&o->lock);
    while (!o->gone && (o->bytes >= KL_PEER_STREAM_HIGH || o->count == OUT_SLOTS))
        pthread_cond_wait(&o->room, &o->lock);
    bool gone = o->gone;
    if (!gone) {
        o->v[(o->head + o->count++) % OUT_SLOTS] = b;
        o->bytes += n;
        post_flush(o);
    }
    pthread_mutex_unlock(&o->lock);
    if (gone)
        kl_bytes_unref(b);
    return gone ? KL_EIO : 0;
}

int kl_peer_out_write(struct kl_peer_out *o, const void *p, size_t n)
{
    const char *from = p;
    int rc = 0;
    while (n && !rc) {
        uint32_t take = n < KL_FRAME_DATA_MAX ? (uint32_t)n : KL_FRAME_DATA_MAX;
        rc = write_piece(o, from, take);
        from += take;
        n -= take;
    }
    return rc;
}

static void *serve_main(void *arg)
{
    struct kl_peer_out *o = arg;
    struct kl_error err = {0};
    pthread_setname_np(pthread_self(), "peer-stream");
    int rc = o->serve(o->arg, o->from, kl_str(o->name), o, &err);
    pthread_mutex_lock(&o->lock);
    o->done = true;
    o->code = rc;
    o->err = err;
    post_flush(o);
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

static void unlist(struct kl_peer_out *o) // with the list's lock
{
    struct kl_peers *p = o->p;
    for (struct kl_peer_out **at = &p->serving; *at; at = &(*at)->next) {
        if (*at == o) {
            *at = o->next;
            break;
        }
    }
    p->nserving--;
    pthread_cond_broadcast(&p->idle);
}

static void free_out(struct kl_peer_out *o)
{
    for (unsigned i = 0; i < o->count; i++)
        kl_bytes_unref(o->v[(o->head + i) % OUT_SLOTS]);
    pthread_cond_destroy(&o->room);
    pthread_mutex_destroy(&o->lock);
    free(o);
}

// When nobody needs it any more: neither the thread, nor the connection, nor the mailbox. Nobody
// finds it in the list then, who would put it into the mailbox again.
static void end_out(struct kl_peer_out *o)
{
    struct kl_peers *p = o->p;
    pthread_mutex_lock(&p->lock);
    pthread_mutex_lock(&o->lock);
    bool over = o->done && !o->link && !o->flush_posted;
    pthread_mutex_unlock(&o->lock);
    if (over)
        unlist(o);
    pthread_mutex_unlock(&p->lock);
    if (!over)
        return;
    pthread_join(o->thread, NULL); // it is past its last line
    free_out(o);
}

static void run_out_flush(struct kl_task *t)
{
    struct kl_peer_out *o = KL_CONTAINER_OF(t, struct kl_peer_out, flush);
    pthread_mutex_lock(&o->lock);
    o->flush_posted = false;
    bool cancel = o->cancel;
    pthread_mutex_unlock(&o->lock);
    if (o->link && cancel)
        kl_peer_link_close(o->link); // may end it
    else if (o->link)
        kl_peer_link_flush(o->link);
    else
        end_out(o);
}

void kl_peer_serve_fill(struct kl_peer_link *l)
{
    struct kl_peer_out *o = l->serving;
    struct kl_outq *q = kl_conn_queue(l->conn);
    if (!o)
        return;
    pthread_mutex_lock(&o->lock);
    while (o->count && q->bytes < KL_CONN_OUT_HIGH) {
        struct kl_bytes *b = o->v[o->head];
        o->head = (o->head + 1) % OUT_SLOTS;
        o->count--;
        o->bytes -= b->n - KL_FRAME_HEAD;
        kl_outq_take(q, b, 0, b->n);
    }
    if (o->bytes < KL_PEER_STREAM_HIGH)
        pthread_cond_signal(&o->room);
    if (o->done && !o->count && !o->end_said) {
        unsigned char f[KL_FRAME_CONTROL_MAX];
        kl_outq_append(q, f, kl_end_encode(o->code, kl_str(o->code ? o->err.msg : ""), f));
        o->end_said = true;
    }
    pthread_mutex_unlock(&o->lock);
}

void kl_peer_serve_gone(struct kl_peer_link *l)
{
    struct kl_peer_out *o = l->serving;
    if (!o)
        return;
    l->serving = NULL;
    o->link = NULL;
    pthread_mutex_lock(&o->lock);
    o->gone = true;
    pthread_cond_signal(&o->room);
    pthread_mutex_unlock(&o->lock);
    end_out(o);
}

static int start_thread(struct kl_peer_out *o, struct kl_error *err)
{
    struct kl_peers *p = o->p;
    int rc = 0;
    pthread_mutex_lock(&p->lock);
    o->serve = p->serve;
    o->arg = p->serve_arg;
    if (!o->serve)
        rc = kl_error_set(err, KL_EUNSUPPORTED, "nothing is served here");
    else if (p->nserving == KL_PEER_MAX_SERVING)
        rc = kl_error_set(err, KL_ETOOMANY, "%d streams are being served already", p->nserving);
    else if ((rc = pthread_create(&o->thread, NULL, serve_main, o)))
        rc = kl_error_errno(err, rc, "start thread");
    if (!rc) {
        o->next = p->serving;
        p->serving = o;
        p->nserving++;
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

int kl_peer_serve_start(struct kl_peer_link *l, struct kl_str name, struct kl_error *err)
{
    struct kl_peer_out *o = name.n <= MAX_NAME ? calloc(1, sizeof *o) : NULL;
    if (!o)
        return kl_error_set(err, KL_ENOMEM, "stream: out of memory");
    o->p = l->p;
    o->from = l->peer_id;
    memcpy(o->name, name.p, name.n);
    o->link = l;
    o->flush.run = run_out_flush;
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->room, NULL);
    int rc = start_thread(o, err);
    if (rc)
        free_out(o);
    else
        l->serving = o;
    return rc;
}

void kl_peers_serve(struct kl_peers *p, kl_peer_serve serve, void *arg)
{
    pthread_mutex_lock(&p->lock);
    p->serve = serve;
    p->serve_arg = arg;
    // Who runs for the old one ends before its owner goes on.
    for (struct kl_peer_out *o = p->serving; o; o = o->next) {
        pthread_mutex_lock(&o->lock);
        o->gone = o->cancel = true;
        pthread_cond_signal(&o->room);
        post_flush(o);
        pthread_mutex_unlock(&o->lock);
    }
    while (p->nserving)
        pthread_cond_wait(&p->idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

// ---- asking

struct kl_peer_chunk {
    struct kl_peer_chunk *next;
    uint32_t n;
    char p[];
};

enum { DO_START = 1, DO_RESUME = 2, DO_CANCEL = 4 };

struct kl_peer_fetch {
    struct kl_peers *p;
    uint64_t from;
    struct kl_str name;
    struct kl_peer_link *link; // the loop's
    pthread_mutex_t lock;      // over what follows
    pthread_cond_t changed;
    struct kl_peer_chunk *first, **end;
    size_t bytes;
    bool full, ended, posted;
    int todo; // what the loop is to do
    struct kl_error err;
    struct kl_task task;
};

struct kl_peer_chunk *kl_peer_chunk_new(uint32_t n, char **ret_room)
{
    struct kl_peer_chunk *c = malloc(sizeof *c + n);
    if (!c)
        return NULL;
    c->next = NULL;
    c->n = n;
    *ret_room = c->p;
    return c;
}

void kl_peer_chunk_free(struct kl_peer_chunk *c)
{
    free(c);
}

struct kl_str kl_peer_fetch_name(const struct kl_peer_fetch *f)
{
    return f->name;
}

static void end_fetch(struct kl_peer_fetch *f, int code, struct kl_str text)
{
    pthread_mutex_lock(&f->lock);
    if (!f->ended) {
        f->ended = true;
        if (code)
            kl_error_set(&f->err, code, "%.*s", KL_PRI(text));
    }
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

void kl_peer_fetch_end(struct kl_peer_link *l, int code, struct kl_str text)
{
    struct kl_peer_fetch *f = l->fetch;
    if (!f)
        return;
    l->fetch = NULL;
    f->link = NULL;
    end_fetch(f, code, text);
}

void kl_peer_fetch_data(struct kl_peer_link *l, struct kl_peer_chunk *c)
{
    struct kl_peer_fetch *f = l->fetch;
    if (!f) {
        kl_peer_chunk_free(c);
        return;
    }
    pthread_mutex_lock(&f->lock);
    *f->end = c;
    f->end = &c->next;
    f->bytes += c->n;
    bool full = f->full = f->full || f->bytes >= KL_PEER_STREAM_HIGH;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
    if (full)
        kl_peer_link_pause(l, KL_LINK_PAUSE_FULL, true);
}

static void start_fetch(struct kl_peer_fetch *f)
{
    struct kl_error err;
    struct kl_peer *e = f->p->closing ? NULL : kl_peer_find(f->p, f->from);
    struct kl_peer_link *l;
    int rc = 0;
    if (!e)
        rc = kl_error_set(&err, KL_ENOTFOUND, "no peer %016llx", (unsigned long long)f->from);
    else
        rc = kl_peer_link_dial(f->p, KL_LINK_FETCH, e->id, e->address, e->attempt, &l, &err);
    if (rc) {
        end_fetch(f, rc, kl_str(err.msg));
        return;
    }
    l->fetch = f;
    f->link = l;
}

static void run_fetch(struct kl_task *t)
{
    struct kl_peer_fetch *f = KL_CONTAINER_OF(t, struct kl_peer_fetch, task);
    pthread_mutex_lock(&f->lock);
    while (f->todo) {
        int todo = f->todo;
        f->todo = 0;
        pthread_mutex_unlock(&f->lock);
        if (todo & DO_START)
            start_fetch(f);
        if (todo & DO_RESUME && f->link)
            kl_peer_link_pause(f->link, KL_LINK_PAUSE_FULL, false);
        if (todo & DO_CANCEL && f->link)
            kl_peer_link_close(f->link);
        pthread_mutex_lock(&f->lock);
    }
    f->posted = false; // from here on the asker may free it, once it has the lock
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

// Under its lock.
static void ask_loop(struct kl_peer_fetch *f, int what)
{
    f->todo |= what;
    if (f->posted)
        return;
    f->posted = true;
    kl_loop_post(f->p->loop, &f->task);
}

static int sink_chunks(struct kl_peer_chunk *c, int (*sink)(void *arg, const void *data, size_t n),
                       void *arg, size_t *ret_bytes)
{
    int rc = 0;
    *ret_bytes = 0;
    while (c) {
        struct kl_peer_chunk *next = c->next;
        if (!rc)
            rc = sink(arg, c->p, c->n);
        *ret_bytes += c->n;
        kl_peer_chunk_free(c);
        c = next;
    }
    return rc;
}

static int skip_chunk(void *arg, const void *data, size_t n)
{
    return 0;
}

// Under its lock. Until the end, or until the sink fails.
static int pump(struct kl_peer_fetch *f, int (*sink)(void *arg, const void *data, size_t n),
                void *arg)
{
    int rc = 0;
    while (!rc) {
        struct kl_peer_chunk *c = f->first;
        size_t n;
        if (!c && f->ended)
            return 0;
        if (!c) {
            pthread_cond_wait(&f->changed, &f->lock);
            continue;
        }
        f->first = NULL;
        f->end = &f->first;
        pthread_mutex_unlock(&f->lock);
        rc = sink_chunks(c, sink, arg, &n);
        pthread_mutex_lock(&f->lock);
        f->bytes -= n;
        if (f->full && f->bytes < KL_PEER_STREAM_LOW) {
            f->full = false;
            ask_loop(f, DO_RESUME);
        }
    }
    return rc;
}

static int enter(struct kl_peers *p, struct kl_error *err)
{
    pthread_mutex_lock(&p->lock);
    bool refused = p->refusing;
    p->nfetching += !refused;
    pthread_mutex_unlock(&p->lock);
    return refused ? kl_error_set(err, KL_ECANCELED, "the peers are being closed") : 0;
}

static void leave(struct kl_peers *p)
{
    pthread_mutex_lock(&p->lock);
    p->nfetching--;
    pthread_cond_broadcast(&p->idle);
    pthread_mutex_unlock(&p->lock);
}

int kl_peers_fetch(struct kl_peers *p, uint64_t from, const char *name,
                   int (*sink)(void *arg, const void *data, size_t n), void *arg,
                   struct kl_error *err)
{
    struct kl_peer_fetch f = {.p = p, .from = from, .name = kl_str(name), .task.run = run_fetch};
    size_t ignored;
    if (f.name.n > MAX_NAME)
        return kl_error_set(err, KL_EINVALID, "the name of the stream is too long");
    int rc = enter(p, err);
    if (rc)
        return rc;
    f.end = &f.first;
    pthread_mutex_init(&f.lock, NULL);
    pthread_cond_init(&f.changed, NULL);
    pthread_mutex_lock(&f.lock);
    ask_loop(&f, DO_START);
    rc = pump(&f, sink, arg);
    if (!f.ended)
        ask_loop(&f, DO_CANCEL);
    while (!f.ended || f.posted)
        pthread_cond_wait(&f.changed, &f.lock);
    pthread_mutex_unlock(&f.lock);
    sink_chunks(f.first, skip_chunk, NULL, &ignored);
    if (rc)
        kl_error_set(err, rc, "stream %s: %s", name, kl_err_text(rc));
    else if (f.err.code)
        rc = kl_error_set(err, f.err.code, "stream %s: %s", name, f.err.msg);
    pthread_cond_destroy(&f.changed);
    pthread_mutex_destroy(&f.lock);
    leave(p);
    return rc;
}
