// SPDX-License-Identifier: Apache-2.0
#include "client/helpers.h"
#include "client/https_int.h"
#include "net/http.h"
#include "object/json.h"
#include "object/protobuf.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PODS kl_res(KL_RES_core_v1_pods)
#define MAPS kl_res(KL_RES_core_v1_configmaps)

// ---- the codec

static void expect_target(const struct kl_call *call, const char *expected)
{
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    kl_https_target(&b, KL_STR("/pre"), call);
    kl_buf_putc(&b, 0);
    assert_string_equal(b.p, expected);
    kl_buf_fini(&b);
}

static void targets(void **state)
{
    expect_target(&(struct kl_call){.verb = KL_VERB_GET,
                                    .res = PODS,
                                    .ns = KL_STR("ns"),
                                    .name = KL_STR("a"),
                                    .sub = "status"},
                  "/pre/api/v1/namespaces/ns/pods/a/status");
    expect_target(&(struct kl_call){.verb = KL_VERB_LIST,
                                    .res = kl_res(KL_RES_apps_v1_deployments),
                                    .label_selector = KL_STR("a in (b,c)"),
                                    .field_selector = KL_STR("metadata.name=x"),
                                    .limit = 500,
                                    .cont = KL_STR("t=k")},
                  "/pre/apis/apps/v1/deployments?labelSelector=a%20in%20%28b%2Cc%29&fieldSelector="
                  "metadata.name%3Dx&continue=t%3Dk&limit=500");
    expect_target(&(struct kl_call){.verb = KL_VERB_CREATE,
                                    .res = PODS,
                                    .ns = KL_STR("ns"),
                                    .name = KL_STR("a"),
                                    .dry_run = true},
                  "/pre/api/v1/namespaces/ns/pods?dryRun=All");
    expect_target(&(struct kl_call){.verb = KL_VERB_CREATE,
                                    .res = PODS,
                                    .ns = KL_STR("ns"),
                                    .name = KL_STR("a"),
                                    .sub = "binding"},
                  "/pre/api/v1/namespaces/ns/pods/a/binding");
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    kl_https_watch_target(&b, KL_STR(""),
                          &(struct kl_watch_call){.res = PODS, .send_initial_events = true}, 300);
    kl_buf_putc(&b, 0);
    assert_string_equal(b.p, "/api/v1/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds=300&"
                             "sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    kl_buf_fini(&b);
}

static void delete_options(void **state)
{
    struct kl_call call = {.verb = KL_VERB_DELETE,
                           .res = PODS,
                           .grace_seconds = 0,
                           .propagation = KL_PROPAGATE_FOREGROUND,
                           .precondition_uid = KL_STR("u"),
                           .precondition_rv = KL_STR("5")};
    struct kl_buf b;
    const char *type;
    kl_buf_init(&b, 4096);
    assert_int_equal(kl_https_body(&b, &call, false, &type, NULL), 0);
    kl_buf_putc(&b, 0);
    assert_string_equal(type, "application/json");
    assert_string_equal(b.p, "{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\","
                             "\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"u\","
                             "\"resourceVersion\":\"5\"},\"propagationPolicy\":\"Foreground\"}");
    kl_buf_fini(&b);
}

static void statuses_become_errors(void **state)
{
    static const struct {
        const char *text;
        int http, code;
        const char *message;
    } cases[] = {
        {"{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"message\":\"pods "
         "\\\"a\\\" already exists\",\"reason\":\"AlreadyExists\",\"code\":409}",
         409, KL_EEXISTS, "pods \"a\" already exists"},
        {"{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"message\":\"too "
         "old\","
         "\"reason\":\"Expired\",\"code\":410}",
         200, KL_EEXPIRED, "too old"},
        {"{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Success\"}", 200, 0, ""},
        {"<html>", 502, KL_EINTERNAL, "the server answered 502: <html>"},
        {"", 404, KL_ENOTFOUND, "the server answered 404: "},
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_arena a;
        struct kl_error err = {0};
        kl_arena_init(&a, 1 << 20);
        assert_int_equal(kl_https_status(&a, kl_str(cases[i].text), cases[i].http, &err),
                         cases[i].code);
        assert_string_equal(err.msg, cases[i].message);
        kl_arena_fini(&a);
    }
}

static void put_frame(struct kl_buf *out, const char *type, const struct kl_object *o)
{
    struct kl_buf object, event;
    kl_buf_init(&object, 1 << 20);
    kl_buf_init(&event, 1 << 20);
    kl_pb_encode_object(&object, KL_STR("v1"), KL_STR("ConfigMap"), o->type, &o->root);
    kl_buf_putc(&event, 0x0a);
    kl_pb_put_varint(&event, strlen(type));
    kl_buf_puts(&event, kl_str(type));
    struct kl_buf raw;
    kl_buf_init(&raw, 1 << 20);
    kl_buf_putc(&raw, 0x0a);
    kl_pb_put_varint(&raw, object.n);
    kl_buf_puts(&raw, kl_buf_str(&object));
    kl_buf_putc(&event, 0x12);
    kl_pb_put_varint(&event, raw.n);
    kl_buf_puts(&event, kl_buf_str(&raw));
    for (int i = 3; i >= 0; i--)
        kl_buf_putc(out, (char)(event.n >> (8 * i)));
    kl_buf_puts(out, kl_buf_str(&event));
    kl_buf_fini(&raw);
    kl_buf_fini(&object);
    kl_buf_fini(&event);
}

static struct kl_object *make_map(const char *name, const char *value)
{
    struct kl_arena a;
    kl_arena_init(&a, 1 << 20);
    struct kl_value root = kl_new_struct(), meta = kl_new_struct(), data = kl_new_map();
    kl_set_z(&a, &meta, KL_F_name, name);
    kl_set_z(&a, &meta, KL_F_namespace, "ns");
    kl_set(&a, &root, KL_F_metadata, meta);
    kl_map_set_value(&a, &data, KL_STR("k"), kl_stringz(value));
    kl_set(&a, &root, KL_F_data, data);
    struct kl_object *o = kl_object_freeze(MAPS->type, &root);
    kl_arena_fini(&a);
    return o;
}

static void frames_of_both_kinds(void **state)
{
    struct kl_object *map = make_map("m", "v"), *got = NULL;
    struct kl_buf pb;
    struct kl_arena a;
    struct kl_frame fr;
    struct kl_error err = {0};
    kl_buf_init(&pb, 1 << 20);
    kl_arena_init(&a, 1 << 20);
    put_frame(&pb, "MODIFIED", map);
    size_t whole = pb.n;
    kl_buf_puts(&pb, KL_STR("\0\0"));
    for (size_t n = 0; n < whole; n++)
        assert_int_equal(kl_https_frame(&a, true, (struct kl_str){pb.p, n}, &fr, &err), 0);
    assert_int_equal(kl_https_frame(&a, true, kl_buf_str(&pb), &fr, &err), 1);
    assert_int_equal(fr.bytes, whole);
    assert_int_equal(fr.type, KL_EVENT_MODIFIED);
    assert_int_equal(kl_https_object(&a, MAPS->type, fr.object, &got, &err), 0);
    assert_true(kl_value_equal(&got->root, &map->root));
    kl_object_unref(got);
    // Nothing cut short or bent is taken for a frame, and none is read past its end.
    for (size_t i = 4; i < whole; i++) {
        char was = pb.p[i];
        pb.p[i] = (char)0xff;
        int rc = kl_https_frame(&a, true, (struct kl_str){pb.p, whole}, &fr, &err);
        assert_true(rc == 1 || rc < 0);
        pb.p[i] = was;
    }
    const char *json = "{\"type\":\"DELETED\",\"object\":{\"kind\":\"ConfigMap\",\"apiVersion\":"
                       "\"v1\",\"metadata\":{\"name\":\"m\",\"namespace\":\"ns\"},\"data\":{\"k\":"
                       "\"v\"}}}\n{\"type\"";
    assert_int_equal(kl_https_frame(&a, false, kl_str(json), &fr, &err), 1);
    assert_int_equal(fr.type, KL_EVENT_DELETED);
    assert_int_equal(kl_https_object(&a, MAPS->type, fr.object, &got, &err), 0);
    assert_true(kl_value_equal(&got->root, &map->root));
    assert_int_equal(kl_https_frame(&a, false, kl_str_from(kl_str(json), fr.bytes), &fr, &err), 0);
    kl_object_unref(got);
    kl_object_unref(map);
    kl_buf_fini(&pb);
    kl_arena_fini(&a);
}

static void urls(void **state)
{
    struct kl_url u;
    struct kl_error err;
    assert_int_equal(kl_url_parse(KL_STR("https://[::1]:6443/k8s/"), &u, &err), 0);
    assert_string_equal(u.host, "::1");
    assert_int_equal(u.port, 6443);
    assert_true(kl_str_eqz(u.path, "/k8s") && u.tls);
    assert_int_equal(kl_url_parse(KL_STR("http://host"), &u, &err), 0);
    assert_int_equal(u.port, 80);
    assert_int_equal(kl_url_parse(KL_STR("ftp://host"), &u, &err), KL_EINVALID);
    assert_int_equal(kl_url_parse(KL_STR("https://host:0"), &u, &err), KL_EINVALID);
    assert_int_equal(kl_url_parse(KL_STR("https://:6443"), &u, &err), KL_EINVALID);
}

// ---- against a server on the same loop

static struct {
    struct kl_loop *loop;
    struct kl_http_server *server;
    struct kl_client *client;
    struct kl_call call;
    struct kl_watch_call watch;
    char seen[512], body[4096], auth[64];
    size_t body_n;
    int step, events;
    bool protobuf;
} t;

static void respond(struct kl_http_req *r, int status, const char *type, struct kl_str body)
{
    struct kl_http_header h = {KL_STR("content-type"), kl_str(type)};
    assert_int_equal(kl_http_respond(r, status, &h, 1, body), 0);
}

static void answer(struct kl_http_req *r)
{
    struct kl_str target = kl_http_target(r);
    struct kl_object *map = make_map("m", "v");
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    if (memmem(target.p, target.n, "watch=true", 10)) {
        put_frame(&b, "ADDED", map);
        put_frame(&b, "MODIFIED", map);
        respond(r, 200, "application/vnd.kubernetes.protobuf;stream=watch", kl_buf_str(&b));
    } else if (kl_str_ends(target, KL_STR("/missing"))) {
        respond(r, 404, "application/json",
                KL_STR("{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\","
                       "\"message\":\"configmaps \\\"missing\\\" not found\",\"reason\":"
                       "\"NotFound\",\"code\":404}"));
    } else if (kl_str_eqz(kl_http_method(r), "GET")) {
        respond(r, 200, "application/json",
                KL_STR("{\"kind\":\"ConfigMapList\",\"apiVersion\":\"v1\",\"metadata\":{"
                       "\"resourceVersion\":\"9\",\"continue\":\"more\"},\"items\":[{\"metadata\":"
                       "{\"name\":\"a\"}},{\"metadata\":{\"name\":\"b\"}}]}"));
    } else {
        kl_pb_encode_object(&b, KL_STR("v1"), KL_STR("ConfigMap"), map->type, &map->root);
        respond(r, 201, "application/vnd.kubernetes.protobuf", kl_buf_str(&b));
    }
    kl_buf_fini(&b);
    kl_object_unref(map);
}

static void on_body(void *arg, struct kl_http_req *r, int status, struct kl_str body)
{
    assert_int_equal(status, 0);
    assert_true(body.n < sizeof(t.body));
    memcpy(t.body, body.p, body.n);
    t.body_n = body.n;
    answer(r);
}

static void on_request(void *arg, struct kl_http_req *r)
{
    struct kl_str target = kl_http_target(r), method = kl_http_method(r);
    struct kl_str auth = kl_http_header(r, KL_STR("authorization"));
    snprintf(t.seen, sizeof(t.seen), "%.*s %.*s", KL_PRI(method), KL_PRI(target));
    snprintf(t.auth, sizeof(t.auth), "%.*s", KL_PRI(auth));
    kl_http_read_body(r, KL_HTTP_MAX_BODY, on_body, NULL);
}

static void on_stopped(void *arg)
{
    kl_loop_stop(t.loop);
}

static void next_step(struct kl_call *call);

static void on_event(struct kl_watch_call *w, enum kl_event_type type, struct kl_object *o)
{
    assert_int_equal(type, t.events == 0 ? KL_EVENT_ADDED : KL_EVENT_MODIFIED);
    assert_true(kl_str_eqz(kl_meta_name(&o->root), "m"));
    t.events++;
}

static void on_watch_end(struct kl_watch_call *w)
{
    assert_int_equal(w->err.code, 0);
    assert_int_equal(t.events, 2);
    kl_client_free(t.client);
    kl_http_server_stop(t.server, 1000, on_stopped, NULL);
}

static void start(enum kl_verb verb, const char *name, struct kl_object *body)
{
    t.call = (struct kl_call){.verb = verb,
                              .res = MAPS,
                              .ns = KL_STR("ns"),
                              .name = kl_str(name),
                              .body = body,
                              .done_cb = next_step};
    kl_client_start(t.client, &t.call);
}

static void next_step(struct kl_call *call)
{
    static struct kl_object *body;
    switch (t.step++) {
    case 0: // LIST
        assert_int_equal(call->err.code, 0);
        assert_string_equal(t.seen, "GET /api/v1/namespaces/ns/configmaps");
        assert_string_equal(t.auth, "Bearer secret");
        assert_int_equal(call->n_items, 2);
        assert_true(kl_str_eqz(kl_meta_name(&call->items[1]->root), "b"));
        assert_true(kl_str_eqz(call->list_rv, "9"));
        assert_true(kl_str_eqz(call->list_continue, "more"));
        kl_call_fini(call);
        start(KL_VERB_GET, "missing", NULL);
        break;
    case 1: // GET of nothing
        assert_int_equal(call->err.code, KL_ENOTFOUND);
        assert_string_equal(call->err.msg, "configmaps \"missing\" not found");
        assert_int_equal(call->http_status, 404);
        kl_call_fini(call);
        body = make_map("m", "v");
        start(KL_VERB_CREATE, "m", body);
        break;
    case 2: // CREATE, as protobuf both ways
        assert_int_equal(call->err.code, 0);
        assert_string_equal(t.seen, "POST /api/v1/namespaces/ns/configmaps");
        assert_true(kl_pb_is_envelope((struct kl_str){t.body, t.body_n}));
        assert_true(kl_value_equal(&call->object->root, &body->root));
        kl_call_fini(call);
        kl_object_unref(body);
        start(KL_VERB_GET, "slow", NULL);
        kl_client_cancel(t.client, &t.call);
        break;
    case 3: // cancelled
        assert_int_equal(call->err.code, KL_ECANCELED);
        kl_call_fini(call);
        t.watch = (struct kl_watch_call){
            .res = MAPS, .send_initial_events = true, .event_cb = on_event, .end_cb = on_watch_end};
        kl_client_watch(t.client, &t.watch);
        break;
    }
}

static void on_begin(struct kl_task *task)
{
    start(KL_VERB_LIST, "", NULL);
}

static void against_a_server(void **state)
{
    struct kl_task begin = {.run = on_begin};
    struct kl_error err = {0};
    char url[64];
    assert_int_equal(kl_loop_new("test", &t.loop, NULL), 0);
    struct kl_http_server_opts so = {
        .loops = &t.loop, .nloops = 1, .address = "127.0.0.1", .handler = on_request};
    if (kl_http_server_start(&so, &t.server, &err) < 0)
        fail_msg("%s", err.msg);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d", kl_http_server_port(t.server));
    struct kl_https_options o = {
        .loop = t.loop, .server = kl_str(url), .bearer_token = KL_STR("secret")};
    if (kl_https_client_new(&o, &t.client, &err) < 0)
        fail_msg("%s", err.msg);
    kl_loop_post(t.loop, &begin);
    kl_loop_run(t.loop);
    assert_int_equal(t.step, 4);
    kl_loop_unref(t.loop);
}

static void a_kubeconfig_is_read(void **state)
{
    static const char text[] =
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: "
        "{cluster: k, user: u}\n- name: lost\n  context: {cluster: none, user: u}\nclusters:\n- "
        "name: k\n  cluster: {server: 'http://127.0.0.1:1'}\nusers:\n- name: u\n  user: {token: "
        "t, '': '@'}\n"; // a key without a name is nobody's data
    char path[] = "/tmp/kubeconfigXXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, sizeof(text) - 1) == sizeof(text) - 1);
    close(fd);
    struct kl_loop *loop;
    struct kl_client *c;
    struct kl_error err = {0};
    assert_int_equal(kl_loop_new("test", &loop, NULL), 0);
    if (kl_client_from_kubeconfig(loop, path, NULL, "kubelet/1", &c, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(c->user_agent, "kubelet/1");
    kl_client_free(c);
    assert_int_equal(kl_client_from_kubeconfig(loop, path, "lost", NULL, &c, &err), KL_ENOTFOUND);
    assert_int_equal(kl_client_from_kubeconfig(loop, path, "none", NULL, &c, &err), KL_ENOTFOUND);
    unlink(path);
    assert_int_equal(kl_client_from_kubeconfig(loop, path, NULL, NULL, &c, &err), KL_ENOTFOUND);
    kl_loop_stop(loop);
    kl_loop_run(loop);
    kl_loop_unref(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets),
        cmocka_unit_test(delete_options),
        cmocka_unit_test(statuses_become_errors),
        cmocka_unit_test(frames_of_both_kinds),
        cmocka_unit_test(urls),
        cmocka_unit_test(against_a_server),
        cmocka_unit_test(a_kubeconfig_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
