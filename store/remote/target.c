// SPDX-License-Identifier: Apache-2.0
// etcd://HOST[:PORT][,HOST[:PORT]...], TLS with the options' files; etcd+unix://PATH. And why
// something cannot be opened, in one sentence.
#include "store/remote/remote_int.h"
#include "store/store.h"
#include "net/tls.h"
#include <stdio.h>
#include <stdlib.h>

static int bad_url(struct kl_backend *b, const char *why, struct kl_error *err)
{
    return kl_error_set(err, KL_EINVALID, "datastore %s: %s; want etcd://HOST:PORT[,HOST:PORT...]",
                        b->name, why);
}

static int add_target(struct kl_backend *b, struct kl_str s, struct kl_error *err)
{
    if (b->ntargets == KL_REMOTE_TARGETS)
        return bad_url(b, "too many servers", err);
    if (!s.n)
        return bad_url(b, "a server is missing", err);
    bool bracket = s.p[0] == '[';
    const char *colon = memrchr(s.p, ':', s.n), *close = memrchr(s.p, ']', s.n);
    bool port = colon && (!bracket || (close && colon > close));
    uint64_t n;
    if (port && (!kl_str_to_u64(kl_str_from(s, (size_t)(colon + 1 - s.p)), &n) || !n || n > 65535))
        return bad_url(b, "a port is no number", err);
    size_t cap = s.n + 8;
    char *t = malloc(cap);
    if (!t)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    snprintf(t, cap, port ? "%.*s" : "%.*s:2379", KL_PRI(s));
    b->targets[b->ntargets++] = t;
    return 0;
}

static int add_unix(struct kl_backend *b, struct kl_str s, struct kl_error *err)
{
    if (!s.n || s.p[0] != '/')
        return kl_error_set(err, KL_EINVALID, "datastore %s: want etcd+unix:///PATH", b->name);
    b->targets[b->ntargets++] = strndup(s.p, s.n);
    return b->targets[0] ? 0 : kl_error_set(err, KL_ENOMEM, "out of memory");
}

static int add_targets(struct kl_backend *b, struct kl_str s, struct kl_error *err)
{
    int r = 0;
    if (s.n && s.p[s.n - 1] == '/')
        s.n--;
    for (size_t from = 0; !r && from <= s.n;) {
        const char *comma = memchr(s.p + from, ',', s.n - from);
        size_t end = comma ? (size_t)(comma - s.p) : s.n;
        r = add_target(b, (struct kl_str){s.p + from, end - from}, err);
        from = end + 1;
    }
    return r;
}

int kl_remote_parse(struct kl_backend *b, struct kl_str rest, bool is_unix, struct kl_error *err)
{
    const struct kl_store_options *o = kl_core_options(b->core);
    if (memchr(rest.p, '@', rest.n)) {
        snprintf(b->name, sizeof(b->name), "etcd://");
        return bad_url(b, "users and passwords are not supported, client certificates are", err);
    }
    snprintf(b->name, sizeof(b->name), "%s://%.*s", is_unix ? "etcd+unix" : "etcd",
             (int)(rest.n < 200 ? rest.n : 200), rest.p);
    int r = is_unix ? add_unix(b, rest, err) : add_targets(b, rest, err);
    if (r || is_unix || (!o->cafile && !o->certfile && !o->keyfile))
        return r;
    struct kl_tls_client_opts t = {
        .ca.file = o->cafile, .cert.file = o->certfile, .key.file = o->keyfile};
    r = kl_tls_client_new(&t, &b->tls, err);
    return r ? kl_error_wrap(err, "datastore %s", b->name) : 0;
}

// What net/grpc.h puts around the cause of a connection's failure.
static struct kl_str cause(const char *msg)
{
    static const char *const frames[] = {
        "rpc error: code = ", " desc = ", "connection error: desc = \"transport: ",
        "error reading from server: "};
    const char *p = strstr(msg, frames[1]);
    p = p ? p + strlen(frames[1]) : msg;
    for (size_t i = 2; i < KL_COUNT(frames); i++) {
        if (strncmp(p, frames[i], strlen(frames[i])) == 0)
            p += strlen(frames[i]);
    }
    size_t n = strlen(p);
    if (n && p[n - 1] == '"')
        n--;
    return (struct kl_str){p, n};
}

int kl_remote_explain(const struct kl_remote_call *c, struct kl_error *err)
{
    const struct kl_backend *b = c->b;
    struct kl_str why = cause(c->err.msg);
    if (strstr(c->err.msg, "user name is empty") || c->code == KL_GRPC_UNAUTHENTICATED ||
        c->code == KL_GRPC_PERMISSION_DENIED)
        return kl_error_set(
            err, KL_EUNAUTHORIZED,
            "datastore %s: authentication is enabled there and refuses us: a client "
            "certificate whose name may read and write everything is needed "
            "(--datastore-certfile, --datastore-keyfile)",
            b->name);
    if (c->code == KL_GRPC_DEADLINE_EXCEEDED)
        return kl_error_set(err, KL_EUNAVAILABLE,
                            "datastore %s: no answer within %d s: has it a leader?", b->name,
                            KL_REMOTE_CALL_MS / 1000);
    if (c->code == KL_GRPC_UNAVAILABLE && !c->sent)
        return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s cannot be reached: %.*s", b->name,
                            (int)why.n, why.p);
    if (c->code == KL_GRPC_UNIMPLEMENTED)
        return kl_error_set(err, KL_EUNSUPPORTED, "datastore %s: this is no etcd v3: %.*s", b->name,
                            (int)why.n, why.p);
    if (c->code == KL_GRPC_UNAVAILABLE && !b->tls)
        return kl_error_set(err, KL_EUNAVAILABLE,
                            "datastore %s closed the connection: %.*s (if it wants TLS: "
                            "--datastore-cafile)",
                            b->name, (int)why.n, why.p);
    return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s: %.*s", b->name, (int)why.n, why.p);
}
