// SPDX-License-Identifier: Apache-2.0
#include "apiserver/joining.h"
#include "apiserver/identity.h"
#include "store/raft/members.h"
#include "base/log.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

enum { SECRET_MAX = 512, LIST_MAX = 64 << 10 };

static const struct kl_str root = KL_STR_INIT("/v1-kinglet/");

bool kl_is_joining(struct kl_str path)
{
    return kl_str_eqz(path, "/cacerts") || kl_str_starts(path, root);
}

static void answer(struct kl_api_call *c, int status, struct kl_str text)
{
    kl_http_answer_text(&c->req, status, "text/plain; charset=utf-8", text);
}

// An error is its sentence.
static void answer_error(struct kl_api_call *c, int code, const struct kl_error *err)
{
    struct kl_str text = kl_arena_printf(c->req.arena, "%s\n", err->msg);
    answer(c, kl_err_http(code), text.p ? text : KL_STR("out of memory\n"));
}

static bool may(struct kl_api_call *c)
{
    struct kl_str given = kl_http_header(c->hr, KL_STR("authorization"));
    struct kl_str secret = kl_token_secret(c->req.srv->o.pki->token, NULL);
    char plain[SECRET_MAX + 8], want[2 * SECRET_MAX];
    if (!secret.n || secret.n > SECRET_MAX || !kl_str_starts(given, KL_STR("Basic ")))
        return false;
    given = kl_str_from(given, 6);
    memcpy(plain, "server:", 7);
    memcpy(plain + 7, secret.p, secret.n);
    int n = EVP_EncodeBlock((unsigned char *)want, (unsigned char *)plain, (int)(7 + secret.n));
    bool yes = given.n == (size_t)n && !CRYPTO_memcmp(given.p, want, given.n);
    OPENSSL_cleanse(plain, sizeof plain);
    OPENSSL_cleanse(want, sizeof want);
    return yes;
}

static void run_bootstrap(struct kl_api_call *c)
{
    struct kl_buf b;
    kl_buf_init(&b, KL_IDENTITY_MAX_BYTES);
    kl_identity_write(c->req.srv->o.pki, &b);
    if (b.err)
        answer(c, 500, KL_STR("out of memory\n"));
    else
        kl_http_answer_text(&c->req, 200, "application/octet-stream", kl_buf_str(&b));
    if (b.p)
        OPENSSL_cleanse(b.p, b.cap);
    kl_buf_fini(&b);
}

// ---- members

static const char *role_name(enum kl_raft_role r)
{
    return r == KL_RAFT_VOTER ? "voter" : r == KL_RAFT_STANDBY ? "learner" : "spare";
}

static void answer_members(struct kl_api_call *c)
{
    struct kl_raft_status *st = kl_arena_zalloc(c->req.arena, sizeof *st);
    struct kl_error err = {0};
    struct kl_buf b;
    int rc = st ? kl_raft_status(c->req.srv->o.store, st, &err)
                : kl_error_set(&err, KL_ENOMEM, "out of memory");
    if (rc) {
        answer_error(c, rc, &err);
        return;
    }
    kl_buf_init(&b, LIST_MAX);
    for (size_t i = 0; i < st->nmembers; i++) {
        const struct kl_raft_member *m = &st->members[i];
        kl_buf_printf(&b, "%016llx %s %s %s %s\n", (unsigned long long)m->id, role_name(m->role),
                      m->leader ? "leader" : "-", m->connected || m->self ? "connected" : "-",
                      *m->address ? m->address : "-");
    }
    answer(c, 200, kl_buf_str(&b));
    kl_buf_fini(&b);
}

struct change {
    struct kl_raft_change raft;
    struct kl_api_call *call;
};

static void on_changed(struct kl_raft_change *r)
{
    struct change *x = KL_CONTAINER_OF(r, struct change, raft);
    struct kl_api_call *c = x->call;
    if (r->code) {
        if (!r->err.code)
            kl_error_set(&r->err, r->code, "%s", kl_err_text(r->code));
        answer_error(c, r->code, &r->err);
    } else {
        kl_log(KL_LOG_INFO, "apiserver", "members changed op=%d id=%016llx address=%s", r->op,
               (unsigned long long)r->id, r->address);
        answer_members(c);
    }
}

static bool take_params(struct kl_api_call *c, struct kl_raft_change *r)
{
    struct kl_str rest = kl_http_query(c->hr), n, v;
    while (kl_query_next(c->req.arena, &rest, &n, &v)) {
        char text[20] = "", *end;
        if (kl_str_eqz(n, "id") && v.n == 16) {
            memcpy(text, v.p, v.n);
            r->id = strtoull(text, &end, 16);
            if (*end)
                return false;
        } else if (kl_str_eqz(n, "address") && v.n < sizeof r->address) {
            memcpy(r->address, v.p, v.n);
        } else {
            return false;
        }
    }
    return r->id && (r->op != KL_RAFT_ADD || *r->address);
}

static void run_members(struct kl_api_call *c)
{
    static const struct {
        const char *method;
        enum kl_raft_change_op op;
    } ops[] = {{"POST", KL_RAFT_ADD}, {"PUT", KL_RAFT_PROMOTE}, {"DELETE", KL_RAFT_REMOVE}};
    struct change *x = KL_ARENA_NEW(c->req.arena, struct change);
    struct kl_error err = {0};
    size_t i = 0;
    if (kl_str_eqz(kl_http_method(c->hr), "GET")) {
        answer_members(c);
        return;
    }
    while (i < KL_COUNT(ops) && !kl_str_eqz(kl_http_method(c->hr), ops[i].method))
        i++;
    if (!x || i == KL_COUNT(ops)) {
        answer(c, 405, KL_STR("GET, POST, PUT or DELETE\n"));
        return;
    }
    x->raft.op = ops[i].op;
    x->raft.cb = on_changed;
    x->call = c;
    if (!take_params(c, &x->raft)) {
        answer(c, 400, KL_STR("id=ID (16 hexadecimal digits) and, to add, address=HOST:PORT\n"));
        return;
    }
    int rc = kl_raft_change(c->req.srv->o.store, &x->raft, &err);
    if (rc)
        answer_error(c, rc, &err);
}

void kl_joining_run(struct kl_api_call *c)
{
    struct kl_str path = kl_http_path(c->hr);
    if (kl_str_eqz(path, "/cacerts")) {
        answer(c, 200, c->req.srv->o.pki->server_ca);
        return;
    }
    if (!may(c)) {
        answer(c, 401, KL_STR("the token is not that of this cluster\n"));
        return;
    }
    path = kl_str_from(path, root.n);
    if (kl_str_eqz(path, "bootstrap"))
        run_bootstrap(c);
    else if (kl_str_eqz(path, "members"))
        run_members(c);
    else
        answer(c, 404, KL_STR("404 page not found\n"));
}
