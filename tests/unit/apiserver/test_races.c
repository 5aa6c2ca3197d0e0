// SPDX-License-Identifier: Apache-2.0
// Many clients on several loops at once: claims are unique, no update is lost, watches see
// everything, clients that go away in the middle leave nothing behind. Clean under ThreadSanitizer.
#include "rig.h"
#include "client/client.h"
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { THREADS = 4, EACH = 12 };
#define NS "/api/v1/namespaces/default"

static struct rig rig;

struct worker {
    pthread_t thread;
    int id, failed;
    char what[EACH][2][32];
};

static void run_all(void *(*run)(void *), struct worker *w)
{
    for (int i = 0; i < THREADS; i++) {
        w[i] = (struct worker){.id = i};
        assert_int_equal(pthread_create(&w[i].thread, NULL, run, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(w[i].thread, NULL);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(w[i].failed, 0);
}

static int ask(const char *method, const char *path, const char *headers, const char *body,
               struct rig_answer *a)
{
    rig_request(&rig, method, path, headers, body, strlen(body), a);
    return a->status;
}

// ---- Services: each gets an address and a port of its own

static void *make_services(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < EACH; i++) {
        struct rig_answer a;
        char body[256];
        snprintf(body, sizeof body,
                 "{\"metadata\":{\"name\":\"s%d-%d\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{"
                 "\"port\":80}]}}",
                 w->id, i);
        w->failed += ask("POST", NS "/services", NULL, body, &a) != 201;
        rig_member(&a, "clusterIP", w->what[i][0], sizeof w->what[i][0]);
        const char *port = a.body ? strstr(a.body, "\"nodePort\":") : NULL;
        snprintf(w->what[i][1], sizeof w->what[i][1], "%.5s", port ? port + 11 : "");
        rig_answer_fini(&a);
    }
    return NULL;
}

static void *delete_services(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < EACH; i++) {
        struct rig_answer a;
        char path[128];
        snprintf(path, sizeof path, NS "/services/s%d-%d", w->id, i);
        w->failed += ask("DELETE", path, NULL, "", &a) != 200;
        rig_answer_fini(&a);
    }
    return NULL;
}

static void test_services(void **state)
{
    static struct worker w[THREADS];
    struct rig_answer a;
    (void)state;
    run_all(make_services, w);
    for (int i = 0; i < THREADS * EACH; i++)
        for (int k = 0; k < i; k++)
            for (int n = 0; n < 2; n++)
                assert_string_not_equal(w[i / EACH].what[i % EACH][n],
                                        w[k / EACH].what[k % EACH][n]);
    run_all(delete_services, w);
    // All of it is free again: only the API server's own address is taken.
    assert_int_equal(ask("GET", "/apis/networking.k8s.io/v1/ipaddresses", NULL, "", &a), 200);
    int left = 0;
    for (const char *p = a.body; (p = strstr(p, "\"parentRef\"")); p++)
        left++;
    assert_int_equal(left, 1);
    rig_answer_fini(&a);
}

// ---- patches of one object, while in-process and HTTPS watches look on

struct watcher {
    struct kl_task start, stop;
    struct kl_client *client;
    struct kl_watch_call call;
    sem_t listed, stopped;
    int seen, members;
    bool ended;
};

static void on_event(struct kl_watch_call *c, enum kl_event_type type, struct kl_object *o)
{
    struct watcher *x = c->arg;
    if (type == KL_EVENT_BOOKMARK) {
        sem_post(&x->listed);
        return;
    }
    x->seen++;
    x->members = (int)kl_len(kl_get(&o->root, KL_F_data));
}

static void on_end(struct kl_watch_call *c)
{
    ((struct watcher *)c->arg)->ended = true;
}

static void start_watcher(struct kl_task *t)
{
    struct watcher *x = KL_CONTAINER_OF(t, struct watcher, start);
    static const char *const groups[] = {"system:masters", NULL};
    x->client = kl_apiserver_client(rig.srv, rig.client_loop, "admin", groups, "test");
    x->call = (struct kl_watch_call){.res = kl_res(KL_RES_core_v1_configmaps),
                                     .ns = KL_STR("default"),
                                     .field_selector = KL_STR("metadata.name=shared"),
                                     .send_initial_events = true,
                                     .event_cb = on_event,
                                     .end_cb = on_end,
                                     .arg = x};
    kl_client_watch(x->client, &x->call);
}

// Stops once the last change was seen.
static void stop_watcher(struct kl_task *t)
{
    struct watcher *x = KL_CONTAINER_OF(t, struct watcher, stop);
    if (!x->ended && x->members < THREADS * EACH) {
        kl_loop_post(rig.client_loop, t);
        return;
    }
    kl_client_watch_stop(x->client, &x->call);
    kl_client_free(x->client);
    sem_post(&x->stopped);
}

static void *patch_shared(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < EACH; i++) {
        struct rig_answer a;
        char body[128];
        snprintf(body, sizeof body, "{\"data\":{\"k%d-%d\":\"v\"}}", w->id, i);
        w->failed += ask("PATCH", NS "/configmaps/shared",
                         "content-type: application/merge-patch+json\r\n", body, &a) != 200;
        rig_answer_fini(&a);
    }
    return NULL;
}

static void test_patches(void **state)
{
    static struct worker w[THREADS];
    struct watcher x = {.start.run = start_watcher, .stop.run = stop_watcher};
    struct rig_answer a;
    (void)state;
    sem_init(&x.listed, 0, 0);
    sem_init(&x.stopped, 0, 0);
    assert_int_equal(
        ask("POST", NS "/configmaps", NULL, "{\"metadata\":{\"name\":\"shared\"}}", &a), 201);
    rig_answer_fini(&a);
    kl_loop_post(rig.client_loop, &x.start);
    sem_wait(&x.listed);
    run_all(patch_shared, w);
    kl_loop_post(rig.client_loop, &x.stop);
    sem_wait(&x.stopped);
    assert_false(x.ended);
    assert_int_equal(x.members, THREADS * EACH);
    assert_int_equal(x.seen, 1 + THREADS * EACH);
}

// ---- clients that leave in the middle of what they asked for

static void *leave(void *arg)
{
    static const char *const asked[] = {
        "GET " NS "/configmaps?watch=1 HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET " NS "/configmaps?resourceVersion=99999999 HTTP/1.1\r\nhost: h\r\n\r\n",
        "POST " NS "/configmaps HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n"
        "content-length: 34\r\n\r\n{\"metadata\":{\"generateName\":\"x-\"}}",
        "POST " NS "/configmaps HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n{\"meta"};
    struct worker *w = arg;
    for (int i = 0; i < EACH; i++) {
        SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
        SSL *ssl = SSL_new(ctx);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)rig.port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        const char *text = asked[(i + w->id) % (int)KL_COUNT(asked)];
        rig_use_admin(&rig, ssl);
        w->failed += connect(fd, (struct sockaddr *)&to, sizeof to) || SSL_set_fd(ssl, fd) != 1 ||
                     SSL_connect(ssl) != 1 || SSL_write(ssl, text, (int)strlen(text)) <= 0;
        close(fd);
        SSL_free(ssl);
        SSL_CTX_free(ctx);
    }
    return NULL;
}

static void test_leaving(void **state)
{
    static struct worker w[THREADS];
    struct rig_answer a;
    (void)state;
    run_all(leave, w);
    assert_int_equal(ask("GET", "/readyz", NULL, "", &a), 200);
    rig_answer_fini(&a);
}

// ---- a collection is deleted while it grows

static void *grow_or_clear(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < EACH; i++) {
        struct rig_answer a;
        if (w->id % 2)
            w->failed += ask("POST", NS "/secrets", NULL,
                             "{\"metadata\":{\"generateName\":\"g-\"}}", &a) != 201;
        else
            w->failed += ask("DELETE", NS "/secrets", NULL, "", &a) != 200;
        rig_answer_fini(&a);
    }
    return NULL;
}

static void test_collection(void **state)
{
    static struct worker w[THREADS];
    struct rig_answer a;
    (void)state;
    run_all(grow_or_clear, w);
    assert_int_equal(ask("DELETE", NS "/secrets", NULL, "", &a), 200);
    rig_answer_fini(&a);
    assert_int_equal(ask("GET", NS "/secrets", NULL, "", &a), 200);
    assert_non_null(strstr(a.body, "\"items\":[]"));
    rig_answer_fini(&a);
}

static int set_up(void **state)
{
    (void)state;
    rig_start(&rig, 3);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rig_stop(&rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_services), cmocka_unit_test(test_patches),
        cmocka_unit_test(test_leaving), cmocka_unit_test(test_collection)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
