// SPDX-License-Identifier: Apache-2.0
// A call whose whole answer is wanted in one piece.
#include "net/client_int.h"
#include <stdlib.h>

struct fetch {
    struct kl_buf body;
    size_t max;
    bool too_large;
    int status;
    kl_http_fetch_cb cb;
    void *arg;
};

static void on_headers(void *arg, struct kl_http_call *call, int status,
                       const struct kl_http_header *h, size_t nh)
{
    struct fetch *f = arg;
    f->status = status;
}

static void on_data(void *arg, struct kl_http_call *call, struct kl_str data)
{
    struct fetch *f = arg;
    if (f->body.n + data.n > f->max || kl_buf_append(&f->body, data.p, data.n)) {
        f->too_large = true;
        kl_http_call_cancel(call);
    }
}

static void on_end(void *arg, struct kl_http_call *call, int status, const struct kl_error *err)
{
    struct fetch *f = arg;
    struct kl_error large;
    if (f->too_large) {
        status = kl_error_set(&large, KL_ETOOLARGE, "the answer is larger than %zu bytes", f->max);
        err = &large;
    }
    f->cb(f->arg, status ? status : f->status, status ? KL_STR("") : kl_buf_str(&f->body), err);
    kl_buf_fini(&f->body);
    free(f);
}

static const struct kl_http_call_cbs cbs = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_end = on_end,
};

int kl_http_fetch(struct kl_http_client *c, const struct kl_http_call_spec *spec, size_t max_bytes,
                  kl_http_fetch_cb cb, void *arg, struct kl_http_call **ret_or_null,
                  struct kl_error *err)
{
    struct kl_http_call *call;
    struct fetch *f = calloc(1, sizeof(*f));
    if (!f)
        return kl_error_set(err, KL_ENOMEM, "HTTP call: out of memory");
    kl_buf_init(&f->body, max_bytes);
    f->max = max_bytes;
    f->cb = cb;
    f->arg = arg;
    int rc = kl_http_call_start(c, spec, &cbs, f, &call, err);
    if (rc)
        free(f);
    else if (ret_or_null)
        *ret_or_null = call;
    return rc;
}
