// SPDX-License-Identifier: Apache-2.0
// The HTTP server: input that starts with '2' goes in behind an HTTP/2 preface, all else as it is.
// Every request that a handler saw is closed exactly once, and nothing is left of the connection.
#include "fuzz_net.h"
#include "net/http_server.h"

struct state {
    struct fuzz_net net;
    struct kl_http_server *server;
    long opened, closed;
};

static int pull(void *arg, struct kl_http_chunk *c, int max, bool *ret_end)
{
    int *left = arg;
    int n = 0;
    for (; n<max && * left> 0; n++, --*left) {
        c[n] = (struct kl_http_chunk){kl_bytes_alloc(3000), 0, 3000};
        memset(c[n].bytes->p, 'x', 3000);
    }
    *ret_end = *left == 0;
    return n;
}

static const struct kl_http_source source = {pull, free};

static void on_close(void *arg, struct kl_http_req *r, int status)
{
    struct state *s = arg;
    s->closed++;
}

static void on_body(void *arg, struct kl_http_req *r, int status, struct kl_str body)
{
    if (status == 0 || status == KL_ETOOLARGE)
        kl_http_respond(r, status ? 413 : 200, NULL, 0, body);
}

static void on_data(void *arg, struct kl_http_req *r, int status, struct kl_str data, bool end)
{
    if (status)
        return;
    kl_http_body_consumed(r, data.n);
    if (end)
        kl_http_respond(r, 204, NULL, 0, KL_STR(""));
}

static void duplex_data(void *arg, struct kl_str data)
{
    kl_duplex_write(*(struct kl_duplex **)arg, data);
}

static void duplex_eof(void *arg)
{
    kl_duplex_shutdown(*(struct kl_duplex **)arg);
}

static void duplex_close(void *arg, int status)
{
    kl_duplex_close(*(struct kl_duplex **)arg);
    free(arg);
}

static const struct kl_duplex_cbs tunnel = {duplex_data, duplex_eof, NULL, duplex_close};

static void handle(void *arg, struct kl_http_req *r)
{
    struct state *s = arg;
    struct kl_str path = kl_http_path(r);
    s->opened++;
    kl_http_req_on_close(r, on_close, s);
    FUZZ_CHECK(path.n && !memchr(kl_http_authority(r).p ? kl_http_authority(r).p : "", '\n',
                                 kl_http_authority(r).n),
               "a line end in the authority");
    size_t n;
    const struct kl_http_header *h = kl_http_headers(r, &n);
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK(kl_http_header_ok(&h[i]), "header %.*s", KL_PRI(h[i].name));
    if (kl_http_is_upgrade(r) && !kl_http_has_body(r)) {
        struct kl_duplex **d = malloc(sizeof(*d));
        if (kl_http_upgrade(r, KL_STR("x"), NULL, 0, d, NULL) == 0) {
            kl_duplex_start(*d, &tunnel, d);
            return;
        }
        free(d);
    }
    switch (path.n % 5) {
    case 0:
        kl_http_read_body(r, 1000, on_body, s);
        break;
    case 1:
        kl_http_read_stream(r, on_data, s);
        break;
    case 2: {
        int *left = malloc(sizeof(*left));
        *left = 20;
        kl_http_respond_stream(r, 200, NULL, 0, &source, left);
        break;
    }
    case 3:
        break; // hangs until the client goes
    default:
        kl_http_respond(r, 200, NULL, 0, KL_STR("hello"));
    }
}

static void begin(struct fuzz_net *net, int fd)
{
    struct state *s = (struct state *)net;
    struct sockaddr_storage peer = {.ss_family = AF_UNIX};
    atomic_fetch_add(&s->server->workers[0].nconns, 1);
    kl_http_adopt(&s->server->workers[0], fd, &peer);
}

static bool over(struct fuzz_net *net)
{
    struct state *s = (struct state *)net;
    return s->server->workers[0].nlive == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct state s;
    static uint8_t copy[100000];
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    if (!s.server) {
        struct kl_error err;
        FUZZ_CHECK(kl_loop_new("fuzz", &s.net.loop, &err) == 0, "%s", err.msg);
        struct kl_http_server_opts o = {.loops = &s.net.loop,
                                        .nloops = 1,
                                        .address = "127.0.0.1",
                                        .handler = handle,
                                        .arg = &s};
        FUZZ_CHECK(kl_http_server_start(&o, &s.server, &err) == 0, "%s", err.msg);
        s.net.begin = begin;
        s.net.over = over;
    }
    if (size > sizeof(copy) - sizeof(preface))
        size = sizeof(copy) - sizeof(preface);
    bool h2 = size && data[0] == '2';
    size_t n = 0;
    if (h2) {
        memcpy(copy, preface, 24);
        n = 24;
        data++;
        size--;
    }
    memcpy(copy + n, data, size);
    s.opened = s.closed = 0;
    fuzz_net_run(&s.net, copy, n + size);
    FUZZ_CHECK(s.opened == s.closed, "%ld requests, %ld closed", s.opened, s.closed);
    return 0;
}
