// SPDX-License-Identifier: Apache-2.0
// Requests to a server that is there: pinned to its CA, with the token. Blocking; each has a loop
// of its own in the caller's thread.
#include "cli/join.h"
#include "apiserver/identity.h"
#include "base/clock.h"
#include "base/log.h"
#include "net/http_client.h"
#include "store/raft/members.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    ANSWER_MAX = 1 << 20,
    CALL_MS = 20 * 1000, // longer than a change of members takes at most
    CONNECT_MS = 10 * 1000,
    PATIENCE_MS = 60 * 1000, // for a leader
    RETRY_MS = 500,
    SECRET_MAX = 512,
};

struct call {
    struct kl_loop *loop;
    struct kl_http_client *client;
    const struct kl_http_call_spec *spec;
    struct kl_task task;
    int status; // HTTP's, or negative
    struct kl_buf *out;
    struct kl_error err;
};

static void run_end(struct kl_task *t)
{
    struct call *c = KL_CONTAINER_OF(t, struct call, task);
    if (c->client)
        kl_http_client_close(c->client);
    kl_loop_stop(c->loop);
}

static void on_answer(void *arg, int status, struct kl_str body, const struct kl_error *err)
{
    struct call *c = arg;
    c->status = status;
    if (status < 0)
        c->err = *err;
    else if (kl_buf_puts(c->out, body))
        c->status = kl_error_set(&c->err, c->out->err, "answer: %s", kl_err_text(c->out->err));
    c->task.run = run_end;
    kl_loop_post(c->loop, &c->task);
}

static void run_start(struct kl_task *t)
{
    struct call *c = KL_CONTAINER_OF(t, struct call, task);
    struct kl_http_client_opts o = {.loop = c->loop, .connect_timeout_ms = CONNECT_MS};
    int rc = kl_http_client_new(&o, &c->client, &c->err);
    if (!rc)
        rc = kl_http_fetch(c->client, c->spec, ANSWER_MAX, on_answer, c, NULL, &c->err);
    if (rc) {
        c->status = rc;
        run_end(t);
    }
}

// https://HOST[:PORT]
static int split_url(const char *url, char *host, size_t n, int *ret_port, struct kl_error *err)
{
    struct kl_str u = kl_str(url);
    int64_t port = 6443;
    if (!kl_str_starts(u, KL_STR("https://")))
        return kl_error_set(err, KL_EINVALID, "%s is no https://HOST:PORT", url);
    u = kl_str_from(u, 8);
    while (u.n && u.p[u.n - 1] == '/')
        u.n--;
    bool v6 = u.n && *u.p == '[';
    const char *close = v6 ? memchr(u.p, ']', u.n) : NULL;
    struct kl_str name = close ? (struct kl_str){u.p + 1, (size_t)(close - u.p - 1)} : u;
    struct kl_str rest = close ? kl_str_from(u, (size_t)(close + 1 - u.p)) : u;
    ptrdiff_t colon = kl_str_chr(rest, ':');
    if (!close && colon >= 0)
        name.n = (size_t)colon;
    if ((v6 && !close) || !name.n || name.n >= n ||
        (colon >= 0 &&
         (!kl_str_to_i64(kl_str_from(rest, (size_t)colon + 1), &port) || port < 1 || port > 65535)))
        return kl_error_set(err, KL_EINVALID, "%s is no https://HOST:PORT", url);
    memcpy(host, name.p, name.n);
    host[name.n] = 0;
    *ret_port = (int)port;
    return 0;
}

static int basic_auth(const char *token, char *ret, size_t n, struct kl_error *err)
{
    struct kl_str secret = kl_token_secret(kl_str(token), NULL);
    char plain[SECRET_MAX + 8] = "server:";
    if (!secret.n || secret.n > SECRET_MAX || n < 2 * SECRET_MAX)
        return kl_error_set(err, KL_EINVALID, "a token is needed (--token)");
    memcpy(plain + 7, secret.p, secret.n);
    memcpy(ret, "Basic ", 6);
    EVP_EncodeBlock((unsigned char *)ret + 6, (unsigned char *)plain, (int)(7 + secret.n));
    OPENSSL_cleanse(plain, sizeof plain);
    return 0;
}

static int run_call(const char *url, struct kl_tls_ctx *tls, const char *auth, const char *method,
                    const char *target, struct kl_buf *out, struct kl_error *err)
{
    char host[256];
    struct kl_http_header h = {KL_STR("authorization"), kl_str(auth)};
    struct kl_http_call_spec spec = {.host = host,
                                     .tls = tls,
                                     .proto = KL_HTTP_1,
                                     .method = kl_str(method),
                                     .target = kl_str(target),
                                     .headers = &h,
                                     .nheaders = auth ? 1 : 0,
                                     .timeout_ms = CALL_MS};
    struct call c = {.out = out, .spec = &spec, .task.run = run_start};
    int rc = split_url(url, host, sizeof host, &spec.port, err);
    if (rc || (rc = kl_loop_new("join", &c.loop, err)))
        return rc;
    kl_loop_post(c.loop, &c.task);
    kl_loop_run(c.loop);
    kl_loop_unref(c.loop);
    if (c.status < 0)
        rc = kl_error_set(err, c.status, "%s", c.err.msg);
    else if (c.status >= 300)
        rc = kl_error_set(err,
                          c.status == 401   ? KL_EUNAUTHORIZED
                          : c.status == 404 ? KL_ENOTFOUND
                          : c.status == 409 ? KL_ECONFLICT
                          : c.status >= 500 ? KL_EUNAVAILABLE
                                            : KL_EINVALID,
                          "%.*s", KL_PRI(kl_str_trim(kl_buf_str(out))));
    return rc ? kl_error_wrap(err, "server %s", url) : 0;
}

// ---- the CA

static int fetch_ca(const struct kl_join *j, struct kl_buf *ca, struct kl_error *err)
{
    struct kl_tls_client_opts o = {.insecure_skip_verify = true, .no_http2 = true};
    struct kl_tls_ctx *tls;
    struct kl_str pinned;
    char hash[65];
    kl_token_secret(kl_str(j->token), &pinned);
    int rc = kl_tls_client_new(&o, &tls, err);
    if (rc)
        return rc;
    rc = run_call(j->url, tls, NULL, "GET", "/cacerts", ca, err);
    kl_tls_ctx_unref(tls);
    if (rc || (rc = kl_ca_hash(kl_buf_str(ca), hash, err)))
        return rc;
    if (!pinned.n) {
        kl_log(KL_LOG_WARN, "server",
               "the token does not name the CA (K10...): trusting %s with hash=%s", j->url, hash);
        return 0;
    }
    return kl_str_eqz(pinned, hash)
               ? 0
               : kl_error_set(err, KL_EUNAUTHORIZED,
                              "server %s is of another cluster: its CA is not the token's", j->url);
}

static int local_ca(const struct kl_join *j, struct kl_tls_client_opts *o, char *path, size_t n,
                    struct kl_error *err)
{
    if (snprintf(path, n, "%s/server/tls/server-ca.crt", j->data_dir) >= (int)n)
        return kl_error_set(err, KL_EINVALID, "%s: name too long", j->data_dir);
    o->ca.file = path;
    return 0;
}

int kl_join_call(const struct kl_join *j, const char *method, const char *target,
                 struct kl_buf *out, struct kl_error *err)
{
    struct kl_tls_client_opts o = {.no_http2 = true};
    struct kl_tls_ctx *tls = NULL;
    char path[4096], auth[2 * SECRET_MAX + 64];
    int rc = basic_auth(j->token, auth, sizeof auth, err);
    if (rc || (rc = local_ca(j, &o, path, sizeof path, err)) ||
        (rc = kl_tls_client_new(&o, &tls, err)))
        return rc;
    rc = run_call(j->url, tls, auth, method, target, out, err);
    kl_tls_ctx_unref(tls);
    OPENSSL_cleanse(auth, sizeof auth);
    return rc;
}

int kl_join_identity(const struct kl_join *j, struct kl_error *err)
{
    struct kl_tls_client_opts o = {.no_http2 = true};
    struct kl_tls_ctx *tls = NULL;
    struct kl_buf ca, packed;
    char auth[2 * SECRET_MAX + 64];
    kl_buf_init(&ca, ANSWER_MAX);
    kl_buf_init(&packed, ANSWER_MAX);
    int rc = basic_auth(j->token ? j->token : "", auth, sizeof auth, err);
    if (!rc)
        rc = fetch_ca(j, &ca, err);
    o.ca.pem = kl_buf_str(&ca);
    if (!rc)
        rc = kl_tls_client_new(&o, &tls, err);
    if (!rc)
        rc = run_call(j->url, tls, auth, "GET", "/v1-kinglet/bootstrap", &packed, err);
    if (!rc)
        rc = kl_identity_place(j->data_dir, kl_buf_str(&packed), false, err);
    kl_tls_ctx_unref(tls);
    OPENSSL_cleanse(auth, sizeof auth);
    if (packed.p)
        OPENSSL_cleanse(packed.p, packed.cap);
    kl_buf_fini(&packed);
    kl_buf_fini(&ca);
    return rc;
}

// ---- members

// "id role leader connected address"
static bool parse_member(struct kl_str line, struct kl_raft_member *m)
{
    struct kl_str id, role, leader, connected;
    char text[20] = "", *end;
    *m = (struct kl_raft_member){0};
    if (!kl_str_split(&line, ' ', &id) || !kl_str_split(&line, ' ', &role) ||
        !kl_str_split(&line, ' ', &leader) || !kl_str_split(&line, ' ', &connected) || !line.p ||
        id.n != 16 || line.n >= sizeof m->address)
        return false;
    memcpy(text, id.p, id.n);
    m->id = strtoull(text, &end, 16);
    m->role = kl_str_eqz(role, "voter")     ? KL_RAFT_VOTER
              : kl_str_eqz(role, "learner") ? KL_RAFT_STANDBY
                                            : KL_RAFT_SPARE;
    m->leader = kl_str_eqz(leader, "leader");
    m->connected = kl_str_eqz(connected, "connected");
    if (!kl_str_eqz(line, "-"))
        memcpy(m->address, line.p, line.n);
    return m->id && !*end;
}

size_t kl_join_parse_members(struct kl_str list, struct kl_raft_member *ret, size_t max)
{
    struct kl_str line;
    size_t n = 0;
    while (n < max && kl_str_split(&list, '\n', &line))
        n += parse_member(line, &ret[n]);
    return n;
}

int kl_join_members(const struct kl_join *j, uint64_t id, const char *address,
                    struct kl_raft_member *ret, size_t max, size_t *ret_n, struct kl_error *err)
{
    char target[600];
    struct kl_buf b;
    struct timespec pause = {0, RETRY_MS * 1000 * 1000};
    int64_t until = kl_mono_ms() + PATIENCE_MS;
    int rc;
    snprintf(target, sizeof target, "/v1-kinglet/members?id=%016llx&address=%s",
             (unsigned long long)id, address);
    kl_buf_init(&b, ANSWER_MAX);
    for (;;) {
        kl_buf_clear(&b);
        rc = kl_join_call(j, "POST", target, &b, err);
        if ((rc != KL_EUNAVAILABLE && rc != KL_ECONFLICT && rc != KL_ETIMEOUT) ||
            kl_mono_ms() > until)
            break;
        nanosleep(&pause, NULL);
    }
    size_t n = rc ? 0 : kl_join_parse_members(kl_buf_str(&b), ret, max), kept = 0;
    for (size_t i = 0; i < n; i++)
        if (ret[i].id != id && *ret[i].address)
            ret[kept++] = ret[i];
    // The leader has everything that is committed.
    for (size_t i = 1; i < kept; i++) {
        if (ret[i].leader) {
            struct kl_raft_member first = ret[0];
            ret[0] = ret[i];
            ret[i] = first;
        }
    }
    kl_buf_fini(&b);
    *ret_n = kept;
    if (!rc && !kept)
        rc = kl_error_set(err, KL_EUNAVAILABLE, "server %s knows no address of a member", j->url);
    return rc;
}
