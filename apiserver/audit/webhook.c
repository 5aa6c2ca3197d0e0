// SPDX-License-Identifier: Apache-2.0
// EventLists to the server that a kubeconfig names. The sink's thread waits for the answer, which
// comes on a loop of its own; what can pass (no connection, 5xx, 429) is tried again, each time
// later, five times in all. When the server ends each batch is sent once, up to the first that
// fails: what is left then is lost, so that a receiver that is away keeps nobody from stopping.
#include "apiserver/audit/audit_int.h"
#include "apiserver/auth/remote_int.h"
#include "base/cond.h"
#include "base/log.h"
#include "net/http_client.h"
#include <stdlib.h>

enum { TRIES = 5, TIMEOUT_MS = 30000, MAX_ANSWER = 1 << 20 };
#define FACTOR 1.5

struct hook {
    struct kl_loop *loop;
    struct kl_remote *to;
    int64_t backoff_ms;
    struct kl_http_client *http; // the loop's
    struct kl_task begin, end, post;
    pthread_mutex_t mu;
    pthread_cond_t answered;
    struct kl_bytes *body;
    bool done, ending;
    bool said, given_up; // the sink's thread
    size_t lost;         // after it gave up
    int status;
    char why[200];
};

static void answer(struct hook *k, int status, const struct kl_error *err)
{
    pthread_mutex_lock(&k->mu);
    k->status = status;
    if (err)
        snprintf(k->why, sizeof k->why, "%.199s", err->msg);
    else
        snprintf(k->why, sizeof k->why, "HTTP status %d", status);
    k->done = true;
    pthread_cond_signal(&k->answered);
    pthread_mutex_unlock(&k->mu);
}

static void on_answer(void *arg, int status, struct kl_str body, const struct kl_error *err)
{
    (void)body;
    answer(arg, status, status < 0 ? err : NULL);
}

static void run_post(struct kl_task *t)
{
    struct hook *k = KL_CONTAINER_OF(t, struct hook, post);
    struct kl_http_header h[3] = {KL_HTTP_HEADER("accept", "application/json, */*"),
                                  KL_HTTP_HEADER("content-type", "application/json")};
    size_t n = 2;
    if (k->to->authorization)
        h[n++] = (struct kl_http_header){KL_STR("authorization"), kl_str(k->to->authorization)};
    struct kl_http_call_spec c = {.host = k->to->host,
                                  .port = k->to->port,
                                  .tls = k->to->tls,
                                  .method = KL_STR("POST"),
                                  .target = kl_str(k->to->target),
                                  .headers = h,
                                  .nheaders = n,
                                  .body = k->body,
                                  .timeout_ms = TIMEOUT_MS};
    struct kl_error bad = {0};
    if (!k->http)
        kl_error_set(&bad, KL_ENOMEM, "out of memory");
    if (!bad.code && k->to->exec)
        kl_exec_fetch(k->to->exec, k->to->exec_tls, k->http, &c, MAX_ANSWER, on_answer, k, NULL,
                      &bad);
    else if (!bad.code)
        kl_http_fetch(k->http, &c, MAX_ANSWER, on_answer, k, NULL, &bad);
    if (bad.code)
        answer(k, KL_EUNAVAILABLE, &bad);
}

static int post_once(struct hook *k)
{
    k->done = false;
    k->post.run = run_post;
    kl_loop_post(k->loop, &k->post);
    pthread_mutex_lock(&k->mu);
    while (!k->done)
        pthread_cond_wait(&k->answered, &k->mu);
    pthread_mutex_unlock(&k->mu);
    return k->status;
}

// False: it ends, there is no time to try again.
static bool pause_ms(struct hook *k, int64_t ms)
{
    struct timespec until = kl_cond_until(ms);
    pthread_mutex_lock(&k->mu);
    while (!k->ending && !pthread_cond_timedwait(&k->answered, &k->mu, &until))
        ;
    bool ending = k->ending;
    pthread_mutex_unlock(&k->mu);
    return !ending;
}

static struct kl_bytes *make_list(struct kl_bytes *const *events, size_t n)
{
    struct kl_buf b;
    kl_buf_init(&b, (size_t)128 << 20);
    kl_buf_puts(&b,
                KL_STR("{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":"
                       "{},\"items\":["));
    for (size_t i = 0; i < n; i++) {
        if (i)
            kl_buf_putc(&b, ',');
        kl_buf_puts(&b, kl_str_trim(kl_bytes_str(events[i])));
    }
    kl_buf_puts(&b, KL_STR("]}\n"));
    struct kl_bytes *out = kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    return out;
}

static int write_hook(void *arg, struct kl_bytes *const *events, size_t n)
{
    struct hook *k = arg;
    if (k->given_up) {
        k->lost += n;
        return KL_EUNAVAILABLE;
    }
    if (!(k->body = make_list(events, n)))
        return KL_ENOMEM;
    int64_t wait = k->backoff_ms;
    int status = 0;
    for (int i = 0; i < TRIES; i++) {
        status = post_once(k);
        if (status > 0 && status < 500 && status != 429)
            break;
        if (i + 1 < TRIES && !pause_ms(k, wait)) {
            k->given_up = true;
            break;
        }
        wait = (int64_t)((double)wait * FACTOR);
    }
    kl_bytes_unref(k->body);
    k->body = NULL;
    bool good = status >= 200 && status < 300;
    if (!good && !k->said)
        kl_log(KL_LOG_ERROR, "audit", "webhook: %zu events are lost: %s", n, k->why);
    k->said = !good;
    return good ? 0 : KL_EUNAVAILABLE;
}

static void run_begin(struct kl_task *t)
{
    struct hook *k = KL_CONTAINER_OF(t, struct hook, begin);
    struct kl_http_client_opts o = {.loop = k->loop};
    struct kl_error err = {0};
    if (kl_http_client_new(&o, &k->http, &err))
        kl_log(KL_LOG_ERROR, "audit", "webhook: %s", err.msg);
}

static void run_end(struct kl_task *t)
{
    struct hook *k = KL_CONTAINER_OF(t, struct hook, end);
    if (k->http)
        kl_http_client_close(k->http);
}

static void end_hook(void *arg)
{
    struct hook *k = arg;
    pthread_mutex_lock(&k->mu);
    k->ending = true;
    pthread_cond_signal(&k->answered);
    pthread_mutex_unlock(&k->mu);
}

static void free_hook(void *arg)
{
    struct hook *k = arg;
    if (k->lost)
        kl_log(KL_LOG_ERROR, "audit", "webhook: %zu more events are lost at the end", k->lost);
    kl_loop_post(k->loop, &k->end);
    kl_loop_stop(k->loop);
    kl_loop_join(k->loop);
    kl_loop_unref(k->loop);
    kl_remote_unref(k->to);
    pthread_mutex_destroy(&k->mu);
    pthread_cond_destroy(&k->answered);
    free(k);
}

const struct kl_audit_sink_ops kl_audit_webhook_ops = {
    .write = write_hook, .end = end_hook, .free = free_hook};

int kl_audit_webhook_new(const struct kl_api_settings *o, void **ret, struct kl_error *err)
{
    struct hook *k = calloc(1, sizeof *k);
    if (!k)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    pthread_mutex_init(&k->mu, NULL);
    kl_cond_init(&k->answered);
    k->backoff_ms = o->audit_webhook_initial_backoff_ms;
    k->begin.run = run_begin;
    k->end.run = run_end;
    int rc = kl_remote_from_kubeconfig(o->audit_webhook_config_file, &k->to, err);
    if (!rc && !(rc = kl_loop_new("audit", &k->loop, err)) && (rc = kl_loop_start(k->loop, err)))
        kl_loop_unref(k->loop);
    if (rc) {
        kl_remote_unref(k->to);
        free(k);
        return rc;
    }
    kl_loop_post(k->loop, &k->begin);
    *ret = k;
    return 0;
}
