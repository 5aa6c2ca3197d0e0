// SPDX-License-Identifier: Apache-2.0
#include "net/conn_duplex.h"
#include "net/conn_io.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

struct conn_duplex {
    struct kl_duplex d;
    struct kl_conn *c; // NULL once its memory is gone
    struct kl_buf early;
    bool destroyed, early_queued;
    void (*gone)(void *arg);
    void *gone_arg;
    struct kl_task early_task;
};

static struct conn_duplex *of(struct kl_duplex *d)
{
    return (struct conn_duplex *)d;
}

static void free_if_done(struct conn_duplex *cd)
{
    if (!cd->destroyed || cd->c || cd->early_queued)
        return;
    kl_buf_fini(&cd->early);
    free(cd);
}

static void end_if_both(struct conn_duplex *cd)
{
    if (cd->d.eof && cd->c->shut && !cd->d.closed) {
        kl_conn_close(cd->c);
        kl_duplex_closed(&cd->d, 0);
    }
}

static void on_read(void *arg, struct kl_str data)
{
    struct conn_duplex *cd = arg;
    cd->d.cbs->on_data(cd->d.arg, data);
}

static void on_eof(void *arg)
{
    struct conn_duplex *cd = arg;
    if (cd->d.eof)
        return;
    cd->d.eof = true;
    cd->d.cbs->on_eof(cd->d.arg);
    end_if_both(cd);
}

static void on_drained(void *arg)
{
    struct conn_duplex *cd = arg;
    kl_duplex_drained(&cd->d);
    end_if_both(cd);
}

static void on_deadline(void *arg)
{
}

static void on_broken(void *arg, int status, const struct kl_error *err)
{
    struct conn_duplex *cd = arg;
    kl_conn_close(cd->c);
    kl_duplex_closed(&cd->d, status);
}

static void on_free(void *arg)
{
    struct conn_duplex *cd = arg;
    cd->c = NULL;
    kl_duplex_closed(&cd->d, 0); // the end of a drain
    if (cd->gone)
        cd->gone(cd->gone_arg);
    free_if_done(cd);
}

static const struct kl_conn_ops conn_ops = {
    .on_read = on_read,
    .on_eof = on_eof,
    .on_drained = on_drained,
    .on_deadline = on_deadline,
    .on_broken = on_broken,
    .on_free = on_free,
};

static void run_early(struct kl_task *t)
{
    struct conn_duplex *cd = KL_CONTAINER_OF(t, struct conn_duplex, early_task);
    cd->early_queued = false;
    if (!cd->d.closed && !cd->d.paused) {
        struct kl_buf early = cd->early;
        kl_buf_init(&cd->early, early.max);
        cd->d.cbs->on_data(cd->d.arg, kl_buf_str(&early));
        kl_buf_fini(&early);
        if (!cd->d.closed && !cd->d.paused)
            kl_conn_pause(cd->c, false);
    }
    free_if_done(cd);
}

static void read_on(struct conn_duplex *cd)
{
    if (!cd->early.n) {
        kl_conn_pause(cd->c, false);
    } else if (!cd->early_queued) {
        cd->early_queued = true;
        cd->early_task.run = run_early;
        kl_loop_defer(cd->d.loop, &cd->early_task);
    }
}

static void op_start(struct kl_duplex *d)
{
    if (!d->paused)
        read_on(of(d));
}

static void op_pause(struct kl_duplex *d, bool paused)
{
    if (paused)
        kl_conn_pause(of(d)->c, true);
    else
        read_on(of(d));
}

static int op_write(struct kl_duplex *d, struct kl_str data, struct kl_bytes *b)
{
    struct kl_outq *q = kl_conn_out(of(d)->c);
    int rc = b ? kl_outq_take(q, kl_bytes_ref(b), (uint32_t)(data.p - b->p), (uint32_t)data.n)
               : kl_outq_append(q, data.p, data.n);
    kl_conn_flush_soon(of(d)->c);
    return rc;
}

static size_t op_pending(const struct kl_duplex *d)
{
    const struct conn_duplex *cd = (const struct conn_duplex *)d;
    return cd->c ? cd->c->out.bytes + cd->c->cipher.n : 0;
}

static void op_shutdown(struct kl_duplex *d)
{
    kl_conn_shutdown(of(d)->c);
}

static void op_close(struct kl_duplex *d, bool drain)
{
    struct conn_duplex *cd = of(d);
    if (drain) {
        kl_conn_drain(cd->c);
        return;
    }
    kl_conn_close(cd->c);
    kl_duplex_closed(d, 0);
}

static void op_destroy(struct kl_duplex *d)
{
    of(d)->destroyed = true;
    free_if_done(of(d));
}

static const struct kl_duplex_ops duplex_ops = {
    .start = op_start,
    .pause = op_pause,
    .write = op_write,
    .pending = op_pending,
    .shutdown = op_shutdown,
    .close = op_close,
    .destroy = op_destroy,
};

static struct conn_duplex *make(struct kl_loop *l)
{
    struct conn_duplex *cd = calloc(1, sizeof(*cd));
    if (!cd)
        return NULL;
    cd->d.ops = &duplex_ops;
    cd->d.loop = l;
    kl_buf_init(&cd->early, KL_DUPLEX_MAX);
    return cd;
}

int kl_conn_duplex_new(struct kl_conn *c, struct kl_str early, void (*gone)(void *arg),
                       void *gone_arg, struct kl_duplex **ret)
{
    struct conn_duplex *cd = make(c->loop);
    if (!cd || kl_buf_append(&cd->early, early.p, early.n)) {
        free(cd);
        return KL_ENOMEM;
    }
    cd->c = c;
    cd->gone = gone;
    cd->gone_arg = gone_arg;
    c->watch_hup = false; // an end must not overtake the bytes before it
    kl_conn_pause(c, true);
    kl_conn_set_deadline(c, 0);
    kl_conn_set_ops(c, &conn_ops, cd);
    kl_conn_update_events(c);
    *ret = &cd->d;
    return 0;
}

int kl_conn_duplex_add_early(struct kl_duplex *d, struct kl_str early)
{
    struct conn_duplex *cd = of(d);
    if (d->closed)
        return 0;
    if (kl_buf_append(&cd->early, early.p, early.n))
        return KL_ENOMEM;
    kl_conn_pause(cd->c, true);
    if (d->started && !d->paused)
        read_on(cd);
    return 0;
}

int kl_duplex_open_fd(struct kl_loop *l, int fd, struct kl_duplex **ret, struct kl_error *err)
{
    struct conn_duplex *cd = make(l);
    if (!cd) {
        close(fd);
        return kl_error_set(err, KL_ENOMEM, "duplex: out of memory");
    }
    int rc = kl_conn_accept(l, fd, NULL, 0, &conn_ops, cd, &cd->c, err);
    if (rc) {
        free(cd);
        return rc;
    }
    cd->c->watch_hup = false;
    kl_conn_pause(cd->c, true);
    *ret = &cd->d;
    return 0;
}

int kl_duplex_dial(struct kl_loop *l, const char *host, int port, struct kl_duplex **ret,
                   struct kl_error *err)
{
    struct sockaddr_storage ss = {0};
    socklen_t n = 0;
    struct sockaddr_in *in = (struct sockaddr_in *)&ss;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;
    struct sockaddr_un *un = (struct sockaddr_un *)&ss;
    if (port == 0) {
        if (strlen(host) >= sizeof(un->sun_path))
            return kl_error_set(err, KL_EINVALID, "dial unix %s: path too long", host);
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, host, strlen(host) + 1);
        n = sizeof(*un);
    } else if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        n = sizeof(*in);
    } else if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        n = sizeof(*in6);
    } else {
        return kl_error_set(err, KL_EINVALID, "dial %s: not an IP address", host);
    }
    struct conn_duplex *cd = make(l);
    if (!cd)
        return kl_error_set(err, KL_ENOMEM, "dial: out of memory");
    int rc = kl_conn_connect(l, (struct sockaddr *)&ss, n, NULL, NULL, false, 0, &conn_ops, cd,
                             &cd->c, err);
    if (rc) {
        free(cd);
        return kl_error_wrap(err, port ? "dial tcp %s:%d" : "dial unix %s", host, port);
    }
    cd->c->watch_hup = false;
    kl_conn_pause(cd->c, true);
    *ret = &cd->d;
    return 0;
}
