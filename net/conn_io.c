// SPDX-License-Identifier: Apache-2.0
// Reading and writing of a connection. TLS reads straight from the socket and writes records into a
// staging area on the stack, so that several records leave with one send.
#include "net/conn_io.h"
#include "net/tls_int.h"
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    READS_PER_TURN = 4,           // then other connections get their turn
    WRITE_PER_TURN = 1024 * 1024, // the same for writing
    IOV_MAX_USED = 256,
    RECORD = 16 * 1024,         // largest TLS record
    STAGE = 4 * (RECORD + 512), // records of one send, with their overhead
};

// ---- The BIO under OpenSSL

static int bio_write(BIO *b, const char *p, int n)
{
    struct kl_conn *c = BIO_get_data(b);
    if (c->stage && c->cipher.n == 0 && c->stage_n + (size_t)n <= STAGE) {
        memcpy(c->stage + c->stage_n, p, (size_t)n);
        c->stage_n += (size_t)n;
        return n;
    }
    if (c->stage_n) { // keep the order of bytes
        if (kl_buf_append(&c->cipher, c->stage, c->stage_n))
            return -1;
        c->stage_n = 0;
    }
    return kl_buf_append(&c->cipher, p, (size_t)n) ? -1 : n;
}

static int bio_read(BIO *b, char *p, int n)
{
    struct kl_conn *c = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    ssize_t r;
    if (c->drained) { // polling is level-triggered: no need to be told EAGAIN
        BIO_set_retry_read(b);
        return -1;
    }
    do
        r = recv(c->fd, p, (size_t)n, 0);
    while (r < 0 && errno == EINTR);
    if (r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        BIO_set_retry_read(b);
    else if (r == 0)
        BIO_set_flags(b, BIO_FLAGS_IN_EOF);
    else if (r < n)
        c->drained = true;
    return (int)r;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    switch (cmd) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;
    case BIO_CTRL_EOF:
        return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0;
    default:
        return 0;
    }
}

static int bio_create(BIO *b)
{
    BIO_set_init(b, 1);
    return 1;
}

int kl_conn_attach_bio(struct kl_conn *c, struct kl_error *err)
{
    // A method of its own for each connection costs 100 bytes and saves a global.
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "kinglet socket");
    BIO *b = NULL;
    if (m && BIO_meth_set_write(m, bio_write) && BIO_meth_set_read(m, bio_read) &&
        BIO_meth_set_ctrl(m, bio_ctrl) && BIO_meth_set_create(m, bio_create))
        b = BIO_new(m);
    if (!b) {
        BIO_meth_free(m);
        return kl_tls_error(err, KL_ENOMEM, "TLS connection");
    }
    BIO_set_data(b, c);
    SSL_set_bio(c->ssl, b, b);
    c->bio_method = m;
    return 0;
}

// ---- Reading

// Bytes read, 0 at the end, -1 nothing now, -2 broken (err is filled).
static ssize_t read_plain(struct kl_conn *c, char *p, size_t n, struct kl_error *err)
{
    ssize_t r;
    do
        r = recv(c->fd, p, n, 0);
    while (r < 0 && errno == EINTR);
    if (r >= 0)
        return r;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return -1;
    kl_error_errno(err, errno, "read");
    return -2;
}

static ssize_t read_tls(struct kl_conn *c, char *p, size_t n, struct kl_error *err)
{
    size_t got = 0;
    int r = 1;
    ERR_clear_error();
    while (got < n && (r = SSL_read(c->ssl, p + got, (int)(n - got))) > 0)
        got += (size_t)r;
    if (got)
        return (ssize_t)got; // an end or an error comes again with the next call
    switch (SSL_get_error(c->ssl, r)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        kl_error_errno(err, errno ? errno : ECONNRESET, "TLS read");
        ERR_clear_error();
        return -2;
    default:
        kl_tls_error(err, KL_EIO, "TLS read");
        return -2;
    }
}

// Sends what is there of TLS records without a flush: alerts of a connection that fails.
static void send_cipher_once(struct kl_conn *c)
{
    if (c->cipher.n) {
        ssize_t r = send(c->fd, c->cipher.p, c->cipher.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r > 0)
            kl_buf_consume(&c->cipher, (size_t)r);
    }
}

static void fail_handshake(struct kl_conn *c, int r)
{
    struct kl_error err;
    unsigned long e = ERR_peek_last_error();
    long verify = SSL_get_verify_result(c->ssl);
    int why = SSL_get_error(c->ssl, r);
    send_cipher_once(c);
    if (ERR_GET_REASON(e) == SSL_R_HTTP_REQUEST && SSL_is_server(c->ssl)) {
        static const char msg[] = "HTTP/1.0 400 Bad Request\r\n\r\n"
                                  "Client sent an HTTP request to an HTTPS server.\n";
        // Best effort, as net/http does it.
        if (send(c->fd, msg, sizeof(msg) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            errno = 0;
    }
    if (!SSL_is_server(c->ssl) && verify != X509_V_OK) {
        char said[512];
        if (!kl_tls_said_why(said, sizeof said))
            snprintf(said, sizeof said, "%s", X509_verify_cert_error_string(verify));
        kl_error_set(&err, KL_EUNAUTHORIZED, "tls: failed to verify certificate: x509: %s", said);
    } else if (why == SSL_ERROR_SYSCALL && !e) {
        kl_error_set(&err, KL_EUNAVAILABLE, "TLS handshake: connection closed");
    } else {
        kl_tls_error(&err, KL_EUNAVAILABLE, "TLS handshake");
    }
    kl_conn_break(c, err.code, &err);
}

static void set_open(struct kl_conn *c)
{
    c->state = KL_CONN_OPEN;
    if (c->ops->on_open)
        c->ops->on_open(c->arg);
}

static void handshake(struct kl_conn *c)
{
    ERR_clear_error();
    int r = SSL_do_handshake(c->ssl);
    if (c->cipher.n)
        kl_conn_flush(c);
    if (c->state == KL_CONN_CLOSED)
        return;
    if (r == 1) {
        set_open(c);
        if (c->state == KL_CONN_OPEN) {
            kl_conn_flush_soon(c); // what was queued before
            if (!c->paused)
                kl_conn_read(c); // early bytes are in OpenSSL's buffer already
        }
        return;
    }
    int why = SSL_get_error(c->ssl, r);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
        fail_handshake(c, r);
}

void kl_conn_connected(struct kl_conn *c)
{
    int e = 0;
    socklen_t n = sizeof(e);
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &n);
    if (e) {
        struct kl_error err;
        kl_error_errno(&err, e, "connect");
        kl_conn_break(c, KL_EUNAVAILABLE, &err);
        return;
    }
    if (c->ssl) {
        c->state = KL_CONN_HANDSHAKE;
        handshake(c);
    } else {
        set_open(c);
        if (c->state == KL_CONN_OPEN)
            kl_conn_flush_soon(c);
    }
    kl_conn_update_events(c);
}

static void saw_end(struct kl_conn *c)
{
    c->eof = true;
    if (c->state == KL_CONN_LINGER)
        kl_conn_close(c);
    else if (c->state == KL_CONN_OPEN)
        c->ops->on_eof(c->arg);
}

void kl_conn_read(struct kl_conn *c)
{
    char buf[KL_CONN_READ_BYTES];
    struct kl_error err;
    if (c->state == KL_CONN_HANDSHAKE) {
        handshake(c);
        return;
    }
    for (int i = 0; i < READS_PER_TURN; i++) {
        ssize_t n =
            c->ssl ? read_tls(c, buf, sizeof(buf), &err) : read_plain(c, buf, sizeof(buf), &err);
        // Reading TLS can produce records: key updates, alerts.
        if (c->cipher.n)
            kl_conn_flush_soon(c);
        if (n == -1)
            return;
        if (n == -2) {
            send_cipher_once(c);
            kl_conn_break(c, KL_EIO, &err);
            return;
        }
        if (n == 0) {
            saw_end(c);
            if (c->state != KL_CONN_CLOSED)
                kl_conn_update_events(c);
            return;
        }
        if (c->state == KL_CONN_OPEN)
            c->ops->on_read(c->arg, (struct kl_str){buf, (size_t)n});
        if (c->state == KL_CONN_CLOSED || (c->paused && c->state != KL_CONN_LINGER))
            return;
        if (c->rest_until)
            return; // what OpenSSL holds is read with the rest
        if (!c->ssl && (size_t)n < sizeof(buf))
            return; // level-triggered: more will be announced
    }
    if (c->ssl)
        kl_conn_reread_soon(c);
}

// ---- Writing

enum progress { WROTE, BLOCKED, FAILED };

static enum progress send_bytes(struct kl_conn *c, const char *p, size_t n, size_t *ret_sent,
                                struct kl_error *err)
{
    *ret_sent = 0;
    while (*ret_sent < n) {
        ssize_t r = send(c->fd, p + *ret_sent, n - *ret_sent, MSG_NOSIGNAL);
        if (r >= 0) {
            *ret_sent += (size_t)r;
            if (*ret_sent < n)
                return BLOCKED; // a short write means a full socket: save the call that says so
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return BLOCKED;
        } else if (errno != EINTR) {
            kl_error_errno(err, errno, "write");
            return FAILED;
        }
    }
    return WROTE;
}

static enum progress write_plain(struct kl_conn *c, size_t *ret_n, struct kl_error *err)
{
    struct iovec iov[IOV_MAX_USED];
    struct msghdr m = {.msg_iov = iov};
    size_t total = 0;
    for (uint32_t i = 0; i < c->out.count && m.msg_iovlen < IOV_MAX_USED; i++) {
        struct kl_slice *s = kl_outq_at(&c->out, i);
        iov[m.msg_iovlen++] = (struct iovec){s->bytes->p + s->off, s->n};
        total += s->n;
    }
    ssize_t r;
    do
        r = sendmsg(c->fd, &m, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    if (r < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return BLOCKED;
        kl_error_errno(err, errno, "write");
        return FAILED;
    }
    kl_outq_consume(&c->out, (size_t)r);
    *ret_n = (size_t)r;
    return (size_t)r < total ? BLOCKED : WROTE;
}

// One record out of the queue: straight from a big slice, or gathered.
static int encrypt_record(struct kl_conn *c, struct kl_error *err)
{
    char gathered[RECORD];
    const struct kl_slice *first = kl_outq_at(&c->out, 0);
    const char *p = first->bytes->p + first->off;
    size_t n = first->n < RECORD ? first->n : RECORD;
    if (n < RECORD && c->out.count > 1) {
        n = 0;
        for (uint32_t i = 0; i < c->out.count && n < RECORD; i++) {
            const struct kl_slice *s = kl_outq_at(&c->out, i);
            size_t take = s->n < RECORD - n ? s->n : RECORD - n;
            memcpy(gathered + n, s->bytes->p + s->off, take);
            n += take;
        }
        p = gathered;
    }
    int r = SSL_write(c->ssl, p, (int)n);
    if (r <= 0)
        return kl_tls_error(err, KL_EIO, "TLS write");
    kl_outq_consume(&c->out, (size_t)r);
    return 0;
}

static enum progress write_tls(struct kl_conn *c, size_t *ret_n, struct kl_error *err)
{
    char stage[STAGE];
    size_t sent;
    if (c->cipher.n) {
        enum progress p = send_bytes(c, c->cipher.p, c->cipher.n, &sent, err);
        kl_buf_consume(&c->cipher, sent);
        *ret_n += sent;
        if (p != WROTE)
            return p;
        kl_buf_fini(&c->cipher);
        kl_buf_init(&c->cipher, 4 * KL_CONN_OUT_MAX);
    }
    if (c->state == KL_CONN_HANDSHAKE || !c->out.bytes)
        return WROTE;
    c->stage = stage;
    c->stage_n = 0;
    ERR_clear_error(); // no record that succeeds leaves one
    int rc = 0;
    while (!rc && c->out.bytes && c->cipher.n == 0 && c->stage_n + RECORD + 512 <= STAGE)
        rc = encrypt_record(c, err);
    c->stage = NULL;
    if (rc)
        return FAILED;
    enum progress p = send_bytes(c, stage, c->stage_n, &sent, err);
    *ret_n += sent;
    if (p == BLOCKED && kl_buf_append(&c->cipher, stage + sent, c->stage_n - sent)) {
        kl_error_set(err, KL_ENOMEM, "write: out of memory");
        p = FAILED;
    }
    c->stage_n = 0;
    return p;
}

static void shut_now(struct kl_conn *c)
{
    if (c->shut || c->state == KL_CONN_CLOSED)
        return;
    c->shut = true;
    if (c->ssl && c->state != KL_CONN_HANDSHAKE) {
        ERR_clear_error();
        SSL_shutdown(c->ssl);
        ERR_clear_error();
        send_cipher_once(c); // the socket just took everything: one more small record fits
    }
    shutdown(c->fd, SHUT_WR);
}

void kl_conn_shutdown(struct kl_conn *c)
{
    c->want_shut = true;
    kl_conn_flush_soon(c);
}

static void after_flush(struct kl_conn *c, size_t wrote)
{
    if (c->write_blocked) {
        if (c->stall_ms && (wrote || !c->stall_deadline))
            c->stall_deadline = kl_conn_now(c) + c->stall_ms;
        kl_conn_arm_timer(c);
        kl_conn_update_events(c);
        return;
    }
    c->stall_deadline = 0;
    kl_conn_update_events(c);
    if (c->state == KL_CONN_DRAINING) {
        shut_now(c);
        kl_conn_linger(c);
        return;
    }
    bool ended = c->want_shut && !c->shut && c->state == KL_CONN_OPEN;
    if (ended)
        shut_now(c);
    if ((wrote || ended) && c->ops->on_drained && c->state == KL_CONN_OPEN)
        c->ops->on_drained(c->arg);
}

void kl_conn_flush(struct kl_conn *c)
{
    struct kl_error err;
    size_t wrote = 0;
    enum progress p = WROTE;
    if (c->in_flush || c->state == KL_CONN_CONNECTING || c->state == KL_CONN_CLOSED)
        return;
    c->in_flush = true;
    for (;;) {
        if (c->state == KL_CONN_OPEN && c->ops->on_fill && c->out.bytes < KL_CONN_OUT_LOW)
            c->ops->on_fill(c->arg);
        if (c->state == KL_CONN_CLOSED)
            return;
        if (c->out.failed) {
            kl_error_set(&err, KL_ENOMEM, "write: out of memory");
            p = FAILED;
            break;
        }
        if (c->cipher.n == 0 && (c->out.bytes == 0 || c->state == KL_CONN_HANDSHAKE))
            break;
        size_t n = 0;
        p = c->ssl ? write_tls(c, &n, &err) : write_plain(c, &n, &err);
        wrote += n;
        if (p == WROTE && wrote >= WRITE_PER_TURN)
            p = BLOCKED; // others first; the socket says at once that it takes more
        if (p != WROTE)
            break;
    }
    c->in_flush = false;
    if (p == FAILED) {
        kl_conn_break(c, err.code, &err);
        return;
    }
    c->write_blocked = p == BLOCKED;
    after_flush(c, wrote);
}
