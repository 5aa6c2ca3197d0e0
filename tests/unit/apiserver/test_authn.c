// SPDX-License-Identifier: Apache-2.0
// Over real TLS: client certificates of the right and of a strange CA, bearer tokens, nobody, and
// Impersonate headers. The clients are blocking threads beside the server's loop.
#include "fixture.h"
#include "apiserver/auth/authn_int.h"
#include "base/clock.h"
#include <arpa/inet.h>
#include <ftw.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

struct client {
    struct kl_task task; // back to the loop when it is done
    struct kl_loop *loop;
    int port;
    struct kl_str cert, key; // none: anonymous
    const char *headers;     // lines that end in CRLF
    int requests;            // on one connection
    char answer[4096];       // body of the last
    bool done;
};

static void client_done(struct kl_task *t)
{
    KL_CONTAINER_OF(t, struct client, task)->done = true;
}

static void use_certificate(SSL *ssl, const struct client *c)
{
    BIO *b = BIO_new_mem_buf(c->cert.p, (int)c->cert.n);
    X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
    BIO_free(b);
    b = BIO_new_mem_buf(c->key.p, (int)c->key.n);
    EVP_PKEY *k = PEM_read_bio_PrivateKey(b, NULL, NULL, NULL);
    BIO_free(b);
    SSL_use_certificate(ssl, x);
    SSL_use_PrivateKey(ssl, k);
    X509_free(x);
    EVP_PKEY_free(k);
}

// Reads until the whole body of a content-length answer is there.
static void read_answer(SSL *ssl, struct client *c)
{
    char buf[8192];
    size_t n = 0;
    for (;;) {
        int got = SSL_read(ssl, buf + n, (int)(sizeof buf - 1 - n));
        if (got <= 0)
            break;
        n += (size_t)got;
        buf[n] = 0;
        char *body = strstr(buf, "\r\n\r\n"), *len = strcasestr(buf, "content-length: ");
        if (body && len && n - (size_t)(body + 4 - buf) >= (size_t)atoi(len + 16)) {
            snprintf(c->answer, sizeof c->answer, "%s", body + 4);
            return;
        }
    }
    snprintf(c->answer, sizeof c->answer, "no answer");
}

static void *run_client(void *arg)
{
    struct client *c = arg;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)c->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    snprintf(c->answer, sizeof c->answer, "no connection");
    if (c->cert.n)
        use_certificate(ssl, c);
    if (!connect(fd, (struct sockaddr *)&to, sizeof to) && SSL_set_fd(ssl, fd) == 1 &&
        SSL_connect(ssl) == 1) {
        for (int i = 0; i < c->requests; i++) {
            char req[4096];
            int n = snprintf(req, sizeof req, "GET /x HTTP/1.1\r\nHost: h\r\n%s\r\n",
                             c->headers ? c->headers : "");
            SSL_write(ssl, req, n);
            read_answer(ssl, c);
        }
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
    kl_loop_post(c->loop, &c->task);
    return NULL;
}

// Answers who it was.
static void handle(void *arg, struct kl_http_req *hr)
{
    struct fixture *f = arg;
    struct kl_req r = {.srv = &f->srv, .al = &f->srv.loops[0], .arena = kl_http_req_arena(hr)};
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    kl_req_info_parse(r.arena, kl_http_method(hr), kl_http_path(hr), kl_http_query(hr), &r.info);
    if (kl_authenticate(r.al, hr, &r.ask, &r.user)) {
        kl_buf_puts(&b, KL_STR("401"));
    } else if (kl_impersonate(&r, hr)) {
        kl_buf_printf(&b, "%d %.*s", r.fail.http, KL_PRI(r.fail.message));
    } else {
        const struct kl_user *u = r.user;
        kl_buf_printf(&b, "%.*s", KL_PRI(u->name));
        for (size_t i = 0; i < u->ngroups; i++)
            kl_buf_printf(&b, " %.*s", KL_PRI(u->groups[i]));
        for (size_t i = 0; i < u->nextra; i++)
            kl_buf_printf(&b, " %.*s=%.*s", KL_PRI(u->extra[i].key),
                          KL_PRI(u->extra[i].values[u->extra[i].nvalues - 1]));
    }
    kl_req_fini(&r);
    kl_http_respond(hr, 200, NULL, 0, kl_buf_str(&b));
    kl_buf_fini(&b);
}

static const char *ask(struct fixture *f, int port, struct kl_str cert, struct kl_str key,
                       const char *headers)
{
    struct client c = {.task.run = client_done,
                       .loop = f->loop,
                       .port = port,
                       .cert = cert,
                       .key = key,
                       .headers = headers,
                       .requests = 2};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, run_client, &c), 0);
    fixture_wait(f, &c.done);
    pthread_join(t, NULL);
    return kl_arena_dup(&f->arena, kl_str(c.answer)).p;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static struct kl_pki *open_pki(char *dir)
{
    struct kl_pki *p = NULL;
    struct kl_error err = {0};
    assert_non_null(mkdtemp(dir));
    const struct kl_pki_options o = {.data_dir = dir, .node_name = "n", .service_ip = "10.43.0.1"};
    if (kl_pki_open(&o, &p, &err))
        fail_msg("%s", err.msg);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return p;
}

static void set_true(void *arg)
{
    *(bool *)arg = true;
}

static const char *some_token(struct fixture *f)
{
    struct kl_str aud = f->srv.authn->issuers[0];
    int64_t now = kl_wall_ms() / 1000;
    const struct kl_claims c = {.issuer = aud,
                                .subject = KL_STR("system:serviceaccount:ns1:robot"),
                                .ns = KL_STR("ns1"),
                                .account = {KL_STR("robot"), KL_STR("u")},
                                .issued_s = now,
                                .expires_s = now + 600,
                                .audiences = &aud,
                                .naudiences = 1};
    struct kl_buf json, t;
    struct kl_error err;
    kl_buf_init(&json, 4096);
    kl_buf_init(&t, KL_TOKEN_MAX_BYTES);
    kl_claims_write(&c, &json);
    assert_int_equal(kl_jwt_sign(f->srv.authn, kl_buf_str(&json), &t, &err), 0);
    const char *s = kl_arena_printf(&f->arena, "Authorization: bearer %.*s\r\n", (int)t.n, t.p).p;
    kl_buf_fini(&json);
    kl_buf_fini(&t);
    return s;
}

static void check_all(struct fixture *f, const struct kl_pki *p, const struct kl_pki *q, int port)
{
    const struct kl_str none = {NULL, 0};
    fixture_put(f, KL_RES_core_v1_serviceaccounts,
                "{\"metadata\":{\"name\":\"robot\",\"namespace\":\"ns1\",\"uid\":\"u\"}}");
    fixture_assert_has(
        ask(f, port, p->admin_cert, p->admin_key, NULL),
        "system:admin system:masters system:authenticated authentication.kubernetes.io/"
        "credential-id=X509SHA256=");
    assert_string_equal(ask(f, port, none, none, NULL), "system:anonymous system:unauthenticated");
    assert_string_equal(ask(f, port, q->admin_cert, q->admin_key, NULL), "401");
    assert_string_equal(ask(f, port, p->serving_cert, p->serving_key, NULL), "401");
    const char *robot = "system:serviceaccount:ns1:robot system:serviceaccounts "
                        "system:serviceaccounts:ns1 system:authenticated",
               *token = some_token(f);
    assert_string_equal(ask(f, port, none, none, token), robot);
    // A token speaks for one whose certificate does not; a good certificate comes first.
    assert_string_equal(ask(f, port, q->admin_cert, q->admin_key, token), robot);
    fixture_assert_has(ask(f, port, p->admin_cert, p->admin_key, token), "system:admin ");
    assert_string_equal(ask(f, port, none, none, "Authorization: Bearer x.y.z\r\n"), "401");
    // Upstream leaves other schemes alone.
    fixture_assert_has(ask(f, port, none, none, "Authorization: Basic eA==\r\n"),
                       "system:anonymous");
    f->srv.o.anonymous = false;
    assert_string_equal(ask(f, port, none, none, NULL), "401");
    f->srv.o.anonymous = true;

    assert_string_equal(ask(f, port, p->admin_cert, p->admin_key,
                            "Impersonate-User: jane\r\nImpersonate-Group: dev\r\n"
                            "Impersonate-Group: ops\r\nImpersonate-Extra-Scopes: a\r\n"
                            "Impersonate-Extra-Acme.com%2fproject: b\r\n"),
                        "jane dev ops system:authenticated scopes=a acme.com/project=b");
    assert_string_equal(ask(f, port, p->admin_cert, p->admin_key,
                            "Impersonate-User: system:serviceaccount:a:b\r\n"),
                        "system:serviceaccount:a:b system:serviceaccounts system:serviceaccounts:a "
                        "system:authenticated");
    // What the first mode that applies says, as upstream.
    assert_string_equal(ask(f, port, none, none, "Impersonate-User: jane\r\n"),
                        "403 forbidden: User \"system:anonymous\" cannot "
                        "impersonate-on:user-info:get path \"/x\"");
    fixture_assert_has(ask(f, port, p->admin_cert, p->admin_key, "Impersonate-Group: dev\r\n"),
                       "without impersonating a user");
}

static void body_https(struct fixture *f)
{
    char dir[2][32] = {"/tmp/kl-authn-XXXXXX", "/tmp/kl-authn-XXXXXX"};
    struct kl_pki *p = open_pki(dir[0]), *q = open_pki(dir[1]);
    struct kl_tls_ctx *tls = NULL;
    struct kl_http_server *s = NULL;
    struct kl_error err = {0};
    struct kl_tls_server_opts t = {
        .cert.pem = p->serving_cert, .key.pem = p->serving_key, .client_ca.pem = p->client_ca};
    if (kl_tls_server_new(&t, &tls, &err))
        fail_msg("%s", err.msg);
    struct kl_http_server_opts o = {.loops = &f->loop,
                                    .nloops = 1,
                                    .address = "127.0.0.1",
                                    .tls = tls,
                                    .handler = handle,
                                    .arg = f};
    if (kl_http_server_start(&o, &s, &err))
        fail_msg("%s", err.msg);
    check_all(f, p, q, kl_http_server_port(s));
    bool stopped = false;
    kl_http_server_stop(s, 100, set_true, &stopped);
    fixture_wait(f, &stopped);
    kl_tls_ctx_unref(tls);
    kl_pki_free(p);
    kl_pki_free(q);
}

static void test_https(void **state)
{
    fixture_run(body_https);
}

// What a webhook says of a user, in shapes that upstream's types do not have.
static void users_of_other_shapes(void **state)
{
    static const char *const texts[] = {
        "{\"username\":\"u\",\"extra\":[\"a\",[\"b\"]]}",
        "{\"username\":\"u\",\"extra\":[\"a\",[\"b\"],\"c\"],\"groups\":{}}",
        "{\"username\":\"u\",\"extra\":\"a\",\"groups\":\"g\"}",
        "[\"username\",\"u\"]",
        "null",
    };
    for (size_t i = 0; i < KL_COUNT(texts); i++) {
        struct kl_arena a;
        struct kl_value v;
        kl_arena_init(&a, 1 << 20);
        assert_int_equal(kl_json_parse(&a, kl_str(texts[i]), NULL, &v, NULL), 0);
        struct kl_user *u = kl_user_from(&a, &v);
        assert_non_null(u);
        assert_int_equal(u->nextra, 0);
        kl_user_unref(u);
        kl_arena_fini(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_https),
        cmocka_unit_test(users_of_other_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
