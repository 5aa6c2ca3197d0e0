// SPDX-License-Identifier: Apache-2.0
// RFC 6455 section 4: the opening handshake, both roles.
#include "base/rand.h"
#include "net/ws_int.h"
#include <openssl/evp.h>
#include <stdlib.h>

bool kl_ws_is_upgrade(const struct kl_http_req *r)
{
    return kl_http_is_upgrade(r) && kl_str_eqz(kl_http_method(r), "GET") &&
           kl_http_header_has_token(r, KL_STR("upgrade"), KL_STR("websocket")) &&
           kl_str_eqz(kl_http_header(r, KL_STR("sec-websocket-version")), "13") &&
           kl_http_header(r, KL_STR("sec-websocket-key")).n == 24;
}

int kl_ws_choose_protocol(const struct kl_http_req *r, const struct kl_str *protocols, size_t n)
{
    size_t nh;
    const struct kl_http_header *h = kl_http_headers(r, &nh);
    for (size_t i = 0; i < nh; i++) {
        if (!kl_str_eqz(h[i].name, "sec-websocket-protocol"))
            continue;
        struct kl_str list = h[i].value, offered;
        while (kl_str_split(&list, ',', &offered))
            for (size_t j = 0; j < n; j++)
                if (kl_str_eq(kl_str_trim(offered), protocols[j]))
                    return (int)j;
    }
    return -1;
}

int kl_ws_accept(struct kl_http_req *r, struct kl_str protocol, const struct kl_http_header *h,
                 size_t nh, const struct kl_ws_opts *o, struct kl_ws **ret, struct kl_error *err)
{
    char accept[32];
    struct kl_duplex *d;
    if (!kl_ws_is_upgrade(r))
        return kl_error_set(err, KL_EBADREQUEST, "not a WebSocket handshake");
    struct kl_http_header *all = kl_arena_alloc(kl_http_req_arena(r), (nh + 2) * sizeof(*all));
    if (!all)
        return kl_error_set(err, KL_ENOMEM, "WebSocket: out of memory");
    size_t n = 0;
    kl_ws_accept_key(kl_http_header(r, KL_STR("sec-websocket-key")), accept);
    all[n++] = (struct kl_http_header){KL_STR("sec-websocket-accept"), kl_str(accept)};
    if (protocol.n)
        all[n++] = (struct kl_http_header){KL_STR("sec-websocket-protocol"), protocol};
    for (size_t i = 0; i < nh; i++)
        all[n++] = h[i];
    int rc = kl_http_upgrade(r, KL_STR("websocket"), all, n, &d, err);
    return rc ? rc : kl_ws_new(d, false, o, ret, err);
}

// ---- The client's side

struct dial {
    struct kl_ws_opts opts;
    kl_ws_dial_cb cb;
    void *arg;
    char accept[32];
    char protocol[128];
    int http_status;
    bool good;
    struct kl_ws *ws;
    struct kl_buf body;
    struct kl_error err;
};

static void on_headers(void *arg, struct kl_http_call *call, int status,
                       const struct kl_http_header *h, size_t nh)
{
    struct dial *dl = arg;
    dl->http_status = status;
    struct kl_str accept = kl_http_call_header(call, KL_STR("sec-websocket-accept"));
    struct kl_str protocol = kl_http_call_header(call, KL_STR("sec-websocket-protocol"));
    dl->good = status == 101 && kl_str_eqz(accept, dl->accept) &&
               kl_str_ieq(kl_http_call_header(call, KL_STR("upgrade")), KL_STR("websocket")) &&
               protocol.n < sizeof(dl->protocol);
    if (dl->good && protocol.n)
        memcpy(dl->protocol, protocol.p, protocol.n);
}

static void on_data(void *arg, struct kl_http_call *call, struct kl_str data)
{
    struct dial *dl = arg;
    size_t room = 4096 - (dl->body.n < 4096 ? dl->body.n : 4096);
    kl_buf_append(&dl->body, data.p, data.n < room ? data.n : room);
}

static void on_upgrade(void *arg, struct kl_http_call *call, struct kl_duplex *d)
{
    struct dial *dl = arg;
    if (!dl->good)
        kl_duplex_close(d);
    else if (kl_ws_new(d, true, &dl->opts, &dl->ws, &dl->err))
        dl->ws = NULL;
}

static void on_end(void *arg, struct kl_http_call *call, int status, const struct kl_error *err)
{
    struct dial *dl = arg;
    struct kl_str body = kl_buf_str(&dl->body);
    if (dl->ws) {
        dl->cb(dl->arg, 0, dl->ws, kl_str(dl->protocol), 101, NULL);
    } else {
        if (err)
            dl->err = *err;
        else if (dl->http_status == 101)
            kl_error_set(&dl->err, KL_EPROTO, "websocket: bad handshake");
        else
            kl_error_set(&dl->err, KL_EPROTO, "%.*s", (int)(body.n < 1000 ? body.n : 1000), body.p);
        dl->cb(dl->arg, dl->err.code, NULL, KL_STR(""), dl->http_status, &dl->err);
    }
    kl_buf_fini(&dl->body);
    free(dl);
}

static const struct kl_http_call_cbs call_cbs = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_upgrade = on_upgrade,
    .on_end = on_end,
};

static int join_protocols(const struct kl_str *protocols, size_t n, struct kl_buf *out)
{
    for (size_t i = 0; i < n; i++) {
        if (i)
            kl_buf_puts(out, KL_STR(", "));
        kl_buf_puts(out, protocols[i]);
    }
    return out->err;
}

int kl_ws_dial(struct kl_http_client *c, const struct kl_http_call_spec *spec,
               const struct kl_str *protocols, size_t nprotocols, const struct kl_ws_opts *o,
               kl_ws_dial_cb cb, void *arg, struct kl_error *err)
{
    unsigned char nonce[16];
    char key[32];
    struct kl_buf list;
    struct kl_http_call *call;
    struct dial *dl = calloc(1, sizeof(*dl));
    struct kl_http_header *h = calloc(spec->nheaders + 5, sizeof(*h));
    kl_buf_init(&list, 4096);
    int rc = dl && h && !join_protocols(protocols, nprotocols, &list)
                 ? 0
                 : kl_error_set(err, KL_ENOMEM, "WebSocket: out of memory");
    if (!rc) {
        size_t n = 0;
        kl_rand_bytes(nonce, sizeof(nonce));
        EVP_EncodeBlock((unsigned char *)key, nonce, sizeof(nonce));
        kl_ws_accept_key(kl_str(key), dl->accept);
        kl_buf_init(&dl->body, 8192);
        if (o)
            dl->opts = *o;
        dl->cb = cb;
        dl->arg = arg;
        for (; n < spec->nheaders; n++)
            h[n] = spec->headers[n];
        h[n++] = (struct kl_http_header){KL_STR("upgrade"), KL_STR("websocket")};
        h[n++] = (struct kl_http_header){KL_STR("connection"), KL_STR("Upgrade")};
        h[n++] = (struct kl_http_header){KL_STR("sec-websocket-version"), KL_STR("13")};
        h[n++] = (struct kl_http_header){KL_STR("sec-websocket-key"), kl_str(key)};
        if (list.n)
            h[n++] = (struct kl_http_header){KL_STR("sec-websocket-protocol"), kl_buf_str(&list)};
        struct kl_http_call_spec up = *spec;
        up.method = KL_STR("GET");
        up.headers = h;
        up.nheaders = n;
        up.upgrade = true;
        rc = kl_http_call_start(c, &up, &call_cbs, dl, &call, err);
    }
    kl_buf_fini(&list);
    free(h);
    if (rc)
        free(dl);
    return rc;
}
