// SPDX-License-Identifier: Apache-2.0
// Encryption at rest: what upstream's providers sealed is opened (fair_vectors/main.go), what is
// changed is not; configurations and what they are refused for; the cluster's own record; a KMS
// plug-in on a socket.
#include "apiserver/encryption/encryption_int.h"
#include "base/loop.h"
#include "net/grpc_server.h"
#include "net/http_server.h"
#include "net/proto.h"
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const char *dir;

static enum kl_box kind_of(const char *name)
{
    return !strcmp(name, "aesgcm")      ? KL_BOX_AESGCM
           : !strcmp(name, "aescbc")    ? KL_BOX_AESCBC
           : !strcmp(name, "secretbox") ? KL_BOX_SECRETBOX
                                        : KL_BOX_SEED;
}

static struct kl_str from_base64(const char *text, unsigned char *out)
{
    size_t len = strlen(text);
    int n = len ? EVP_DecodeBlock(out, (const unsigned char *)text, (int)len) : 0;
    assert_true(n >= 0);
    for (size_t i = len; i && text[i - 1] == '='; i--)
        n--;
    return (struct kl_str){(char *)out, (size_t)n};
}

static void test_vectors(void **state)
{
    char path[4096], name[16], key64[64], where[128], plain64[2048], stored64[4096];
    static unsigned char key[64], plain[2048], stored[4096];
    int n = 0;
    (void)state;
    plain64[0] = 0;
    snprintf(path, sizeof path, "%s/encryption.txt", dir);
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("%s: cannot open", path);
    while (fscanf(f, "%15s %63s %127s %2047[^.]. %4095s ", name, key64, where, plain64, stored64) ==
               5 ||
           fscanf(f, ". %4095s ", stored64) == 1) {
        // An empty text has nothing before the dot.
        struct kl_str k = from_base64(key64, key), p = from_base64(plain64, plain);
        struct kl_str s = from_base64(stored64, stored), at = kl_str(where);
        struct kl_error err = {0};
        struct kl_buf out, again;
        kl_buf_init(&out, 1 << 20);
        kl_buf_init(&again, 1 << 20);
        if (kl_box_open(kind_of(name), k, at, s, &out, &err))
            fail_msg("%s %s: %s", name, where, err.msg);
        assert_true(kl_str_eq(kl_buf_str(&out), p));
        // What is sealed here is opened here, and is as long as upstream's.
        assert_int_equal(kl_box_seal(kind_of(name), k, at, p, &again, &err), 0);
        assert_int_equal(again.n, s.n);
        kl_buf_clear(&out);
        assert_int_equal(kl_box_open(kind_of(name), k, at, kl_buf_str(&again), &out, &err), 0);
        assert_true(kl_str_eq(kl_buf_str(&out), p));
        if (strcmp(name, "aescbc")) {
            for (size_t i = 0; i < s.n; i += 1 + s.n / 16) {
                stored[i] ^= 1;
                kl_buf_clear(&out);
                assert_int_equal(kl_box_open(kind_of(name), k, at, s, &out, &err), KL_ECORRUPT);
                stored[i] ^= 1;
            }
        }
        if (!strcmp(name, "aesgcm") || !strcmp(name, "seed"))
            assert_int_equal(
                kl_box_open(kind_of(name), k, KL_STR("/registry/secrets/else"), s, &out, &err),
                KL_ECORRUPT);
        for (size_t cut = 0; cut < s.n && cut < 40; cut += 7)
            assert_true(kl_box_open(kind_of(name), k, at, (struct kl_str){s.p, cut}, &out, &err) ||
                        !strcmp(name, "aescbc"));
        key[0] ^= 1;
        kl_buf_clear(&out);
        int rc = kl_box_open(kind_of(name), k, at, s, &out, &err);
        assert_true(rc == KL_ECORRUPT ||
                    (!strcmp(name, "aescbc") && !kl_str_eq(kl_buf_str(&out), p)) || !p.n);
        kl_buf_fini(&out);
        kl_buf_fini(&again);
        plain64[0] = 0;
        n++;
    }
    fclose(f);
    assert_int_equal(n, 240);
}

// ---- configurations

#define HEAD "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
#define KEY16 "MDEyMzQ1Njc4OWFiY2RlZg=="
#define KEY32 "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

static struct kl_enc_config *parse(const char *text)
{
    struct kl_enc_config *c = NULL;
    struct kl_error err = {0};
    if (kl_enc_config_parse(kl_str(text), NULL, &c, &err))
        fail_msg("%s", err.msg);
    return c;
}

static void test_config(void **state)
{
    struct kl_enc_config *one = parse(
        HEAD "- resources: [secrets, deployments.apps]\n  providers:\n"
             "  - aescbc: {keys: [{name: k1, secret: " KEY16 "}, {name: k2, secret: " KEY32 "}]}\n"
             "  - identity: {}\n- resources: ['*.apps']\n  providers:\n"
             "  - secretbox: {keys: [{name: b, secret: " KEY32 "}]}\n");
    struct kl_enc_config *two = parse(HEAD "- resources: [secrets]\n  providers:\n"
                                           "  - secretbox: {keys: [{name: b, secret: " KEY32 "}]}\n"
                                           "  - aescbc: {keys: [{name: k2, secret: " KEY32
                                           "}, {name: k1, secret: " KEY16 "}]}\n");
    const struct kl_enc_rule *r = kl_enc_rule_of(one, kl_res(KL_RES_core_v1_secrets));
    struct kl_str key = KL_STR("/registry/secrets/a/b"), text = KL_STR("a text");
    struct kl_error err = {0};
    struct kl_buf sealed, out;
    bool stale;
    (void)state;
    kl_buf_init(&sealed, 4096);
    kl_buf_init(&out, 4096);
    assert_ptr_equal(r, kl_enc_rule_of(one, kl_res(KL_RES_apps_v1_deployments)));
    assert_ptr_equal(&one->rules[1], kl_enc_rule_of(one, kl_res(KL_RES_apps_v1_daemonsets)));
    assert_null(kl_enc_rule_of(one, kl_res(KL_RES_core_v1_configmaps)));
    assert_int_equal(kl_enc_seal(r, key, text, &sealed, &err), 0);
    assert_true(kl_str_starts(kl_buf_str(&sealed), KL_STR("k8s:enc:aescbc:v1:k1:")));
    assert_int_equal(kl_enc_open(r, key, kl_buf_str(&sealed), &out, &stale, &err), 0);
    assert_true(kl_str_eq(kl_buf_str(&out), text) && !stale);
    // The other configuration has the key, but would seal otherwise.
    kl_buf_clear(&out);
    assert_int_equal(kl_enc_open(&two->rules[0], key, kl_buf_str(&sealed), &out, &stale, &err), 0);
    assert_true(kl_str_eq(kl_buf_str(&out), text) && stale);
    // What is in plain text is read, and stale.
    kl_buf_clear(&out);
    assert_int_equal(kl_enc_open(r, key, text, &out, &stale, &err), 0);
    assert_true(kl_str_eq(kl_buf_str(&out), text) && stale);
    assert_int_equal(kl_enc_open(&one->rules[1], key, kl_buf_str(&sealed), &out, &stale, &err),
                     KL_ECORRUPT);
    assert_string_equal(err.msg, "no matching prefix found");
    assert_int_equal(kl_enc_open(NULL, key, kl_buf_str(&sealed), &out, &stale, &err), KL_ECORRUPT);
    assert_string_equal(err.msg, "identity transformer tried to read encrypted data");
    kl_buf_fini(&sealed);
    kl_buf_fini(&out);
    kl_enc_config_unref(one);
    kl_enc_config_unref(two);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"kind: Pod\n", "no EncryptionConfiguration"},
        {HEAD "- resources: []\n  providers: [{identity: {}}]\n",
         "resources[0].resources: Required value: at least one resources[0].resources is required"},
        {HEAD "- resources: [secrets]\n  providers: []\n",
         "resources[0].providers: Required value"},
        {HEAD "- resources: [Secrets]\n  providers: [{identity: {}}]\n",
         "resource name should not contain capital letters"},
        {HEAD "- resources: ['*']\n  providers: [{identity: {}}]\n", "use '*.' to encrypt"},
        {HEAD "- resources: [secrets, '*.']\n  providers: [{identity: {}}]\n",
         "using overlapping resources"},
        {HEAD "- resources: [secrets, secrets]\n  providers: [{identity: {}}]\n",
         "the same resource cannot be specified multiple times"},
        {HEAD "- resources: [events.events.k8s.io]\n  providers: [{identity: {}}]\n",
         "Use 'events' instead"},
        {HEAD "- resources: [secrets]\n  providers: [{}]\n",
         "provider does not contain any of the expected providers"},
        {HEAD "- resources: [secrets]\n  providers: [{identity: {}, aescbc: {keys: []}}]\n",
         "more than one provider specified in a single element"},
        {HEAD "- resources: [secrets]\n  providers: [{aescbc: {keys: []}}]\n",
         "resources[0].providers[0].aescbc.keys: Required value: at least one keys is required"},
        {HEAD "- resources: [secrets]\n  providers: [{aescbc: {keys: [{name: a, secret: '!'}]}}]\n",
         "keys[0].secret: Invalid value: \"REDACTED\": secrets must be base64 encoded"},
        {HEAD "- resources: [secrets]\n  providers: [{secretbox: {keys: [{name: a, secret: " KEY16
              "}]}}]\n",
         "secret is not of the expected length, got 16, expected one of [32]"},
        {HEAD "- resources: [secrets]\n  providers: [{kms: {name: x, endpoint: 'unix:///s'}}]\n",
         "KMSv1 is deprecated"},
        {HEAD "- resources: [secrets]\n  providers: [{kms: {apiVersion: v2, name: 'x:y', endpoint: "
              "'unix:///s'}}]\n",
         "must not contain ':'"},
        {HEAD "- resources: [secrets]\n  providers: [{kms: {apiVersion: v2, name: x, endpoint: "
              "'http://h'}}]\n",
         "only unix is supported"},
    };
    (void)state;
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_enc_config *c = NULL;
        struct kl_error err = {0};
        assert_true(kl_enc_config_parse(kl_str(rows[i].text), NULL, &c, &err) < 0);
        if (!strstr(err.msg, rows[i].why))
            fail_msg("row %zu: got %s, want %s", i, err.msg, rows[i].why);
        assert_null(strstr(err.msg, KEY16));
    }
}

// ---- the cluster's record

static void test_record(void **state)
{
    struct kl_enc_record r = {.enabled = true, .rotation = 3, .finished = 2, .nkeys = 2}, got;
    struct kl_enc_root root = {.sealed = NULL}, other = {.sealed = NULL};
    struct kl_str secret = KL_STR("the token's secret");
    struct kl_error err = {0};
    struct kl_buf b;
    (void)state;
    snprintf(r.keys[0].name, sizeof r.keys[0].name, "key-new");
    snprintf(r.keys[1].name, sizeof r.keys[1].name, "key-old");
    memset(r.keys[0].secret, 0xa5, 32);
    memset(r.keys[1].secret, 0x5a, 32);
    kl_buf_init(&b, 64 << 10);
    assert_int_equal(kl_enc_record_write(&r, secret, &root, &b, &err), 0);
    assert_int_equal(kl_enc_record_read(kl_buf_str(&b), KL_STR("another"), &other, &got, &err),
                     KL_EUNAUTHORIZED);
    assert_int_equal(kl_enc_record_read(kl_buf_str(&b), secret, &other, &got, &err), 0);
    assert_true(got.enabled && got.rotation == 3 && got.finished == 2 && got.nkeys == 2);
    assert_string_equal(got.keys[1].name, "key-old");
    assert_memory_equal(got.keys[0].secret, r.keys[0].secret, 32);
    b.p[b.n - 1] ^= 1;
    assert_int_equal(kl_enc_record_read(kl_buf_str(&b), secret, &other, &got, &err), KL_ECORRUPT);
    b.n = 20;
    assert_true(kl_enc_record_read(kl_buf_str(&b), secret, &other, &got, &err) < 0);
    struct kl_enc_config *c = kl_enc_record_config(&r, 7);
    assert_int_equal(c->rules[0].providers[0].kind, KL_ENC_SECRETBOX);
    assert_int_equal(c->record, 7);
    kl_enc_config_unref(c);
    kl_buf_fini(&b);
    kl_bytes_unref(root.sealed);
    kl_bytes_unref(other.sealed);
}

// ---- a plug-in: it "seals" by turning bits over, with the number of its key in front

struct bytes_message {
    struct kl_str a, b, c;
};
static const struct kl_proto_field message_fields[] = {
    {1, KL_PROTO_STRING, 0, offsetof(struct bytes_message, a), 0, 0, NULL},
    {2, KL_PROTO_STRING, 0, offsetof(struct bytes_message, b), 0, 0, NULL},
    {3, KL_PROTO_STRING, 0, offsetof(struct bytes_message, c), 0, 0, NULL}};
static const struct kl_proto_desc message_desc = {
    "message", message_fields, 3, sizeof(struct bytes_message), 0, 0};

struct plugin {
    struct kl_loop *loop;
    struct kl_http_server *http;
    struct kl_grpc_server *grpc;
    char path[128];
    atomic_int key, encrypted, decrypted, sick, refuse, refused;
};
static struct plugin plugin;

static void reply(struct kl_grpc_rpc *c, struct kl_str x, struct kl_str y, struct kl_str z)
{
    struct bytes_message m = {x, y, z};
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    kl_proto_encode(&b, &message_desc, &m);
    kl_grpc_rpc_send_str(c, kl_buf_str(&b));
    kl_buf_fini(&b);
    kl_grpc_rpc_finish(c, KL_GRPC_OK, NULL);
}

static struct kl_str key_id(struct kl_grpc_rpc *c)
{
    return kl_arena_printf(kl_grpc_rpc_arena(c), "key-%d", atomic_load(&plugin.key));
}

static void on_status(struct kl_grpc_rpc *c, struct kl_str msg)
{
    (void)msg;
    reply(c, KL_STR("v2"), atomic_load(&plugin.sick) ? KL_STR("sick") : KL_STR("ok"), key_id(c));
}

static struct kl_str turn(struct kl_grpc_rpc *c, struct kl_str s)
{
    char *p = kl_arena_alloc(kl_grpc_rpc_arena(c), s.n + 1);
    for (size_t i = 0; i < s.n; i++)
        p[i] = (char)~s.p[i];
    return (struct kl_str){p, s.n};
}

static void answer_turned(struct kl_grpc_rpc *c, struct kl_str msg, bool encrypt)
{
    void *m;
    struct kl_error err = {0};
    assert_int_equal(kl_proto_decode(kl_grpc_rpc_arena(c), &message_desc, msg, &m, &err), 0);
    struct kl_str out = turn(c, ((struct bytes_message *)m)->a);
    atomic_fetch_add(encrypt ? &plugin.encrypted : &plugin.decrypted, 1);
    reply(c, out, encrypt ? key_id(c) : KL_STR(""), KL_STR(""));
}

static void on_encrypt(struct kl_grpc_rpc *c, struct kl_str msg)
{
    answer_turned(c, msg, true);
}

enum { REFUSE = 1, SAY_NOTHING };

static void on_decrypt(struct kl_grpc_rpc *c, struct kl_str msg)
{
    int refuse = atomic_load(&plugin.refuse);
    if (refuse) {
        atomic_fetch_add(&plugin.refused, 1);
        if (refuse == REFUSE)
            kl_grpc_rpc_finish(c, KL_GRPC_INTERNAL, "no such key");
        return;
    }
    answer_turned(c, msg, false);
}

static void on_request(void *arg, struct kl_http_req *req)
{
    (void)arg;
    kl_grpc_serve(plugin.grpc, req);
}

static void start_plugin(void)
{
    static const struct kl_grpc_method methods[] = {
        {.path = "/v2.KeyManagementService/Status", .message = on_status},
        {.path = "/v2.KeyManagementService/Encrypt", .message = on_encrypt},
        {.path = "/v2.KeyManagementService/Decrypt", .message = on_decrypt},
        {.path = NULL}};
    static const struct kl_grpc_method *const tables[] = {methods, NULL};
    struct kl_grpc_server_opts g = {.methods = tables};
    struct kl_error err = {0};
    snprintf(plugin.path, sizeof plugin.path, "/tmp/kinglet-kms-%d.sock", (int)getpid());
    assert_int_equal(kl_loop_new("plugin", &plugin.loop, &err), 0);
    assert_int_equal(kl_grpc_server_new(&g, &plugin.grpc, &err), 0);
    struct kl_http_server_opts h = {
        .loops = &plugin.loop, .nloops = 1, .unix_path = plugin.path, .handler = on_request};
    if (kl_http_server_start(&h, &plugin.http, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(kl_loop_start(plugin.loop, &err), 0);
}

static void http_gone(void *arg)
{
    (void)arg;
    kl_loop_stop(plugin.loop);
}

static void run_stop(struct kl_task *t)
{
    (void)t;
    kl_http_server_stop(plugin.http, 100, http_gone, NULL);
}

static void stop_plugin(void)
{
    struct kl_task t = {.run = run_stop};
    kl_loop_post(plugin.loop, &t);
    kl_loop_join(plugin.loop);
    kl_loop_unref(plugin.loop);
    kl_grpc_server_free(plugin.grpc);
    unlink(plugin.path);
}

static struct kl_kms *connect_kms(void)
{
    char endpoint[160];
    struct kl_kms *k;
    struct kl_error err = {0};
    snprintf(endpoint, sizeof endpoint, "unix://%s", plugin.path);
    assert_int_equal(kl_kms_new(KL_STR("p"), kl_str(endpoint), 3000, &k, &err), 0);
    return k;
}

// Opens again and again until a failure comes without a call to the plug-in.
static void wait_for_refusal(struct kl_kms *k, struct kl_str at, struct kl_str sealed,
                             const char *want)
{
    bool stale, asked;
    do {
        struct kl_error err = {0};
        struct kl_buf out;
        int was = atomic_load(&plugin.refused);
        kl_buf_init(&out, 4096);
        assert_true(kl_kms_open(k, at, sealed, &out, &stale, &err) < 0);
        kl_buf_fini(&out);
        if (!strstr(err.msg, want))
            fail_msg("%s", err.msg);
        asked = atomic_load(&plugin.refused) != was;
    } while (asked);
}

// A server's loop waits for a seed: what failed is not asked for each time it is wanted.
static void test_kms_that_fails(void **state)
{
    struct kl_str at = KL_STR("/registry/secrets/a/b"), text = KL_STR("a text");
    struct kl_error err = {0};
    struct kl_buf one, two, out;
    bool stale;
    (void)state;
    start_plugin();
    atomic_store(&plugin.sick, 0);
    kl_buf_init(&one, 4096);
    kl_buf_init(&two, 4096);
    kl_buf_init(&out, 4096);
    struct kl_buf *sealed[] = {&one, &two};
    for (int i = 0; i < 2; i++) { // of two seeds
        struct kl_kms *k = connect_kms();
        if (kl_kms_seal(k, at, text, sealed[i], &err))
            fail_msg("%s", err.msg);
        kl_kms_unref(k);
    }
    struct kl_kms *k = connect_kms();
    assert_int_equal(kl_kms_seal(k, at, text, &out, &err), 0); // it has been well
    kl_buf_clear(&out);
    atomic_store(&plugin.refuse, REFUSE);
    wait_for_refusal(k, at, kl_buf_str(&one), "code = Internal desc = no such key");
    atomic_store(&plugin.refuse, 0);
    if (kl_kms_open(k, at, kl_buf_str(&two), &out, &stale, &err)) // another seed is asked for
        fail_msg("%s", err.msg);
    assert_true(kl_str_eq(kl_buf_str(&out), text));
    kl_kms_unref(k);
    // No answer at all: not asked for any seed.
    k = connect_kms();
    kl_buf_clear(&out);
    assert_int_equal(kl_kms_seal(k, at, text, &out, &err), 0);
    atomic_store(&plugin.refuse, SAY_NOTHING);
    wait_for_refusal(k, at, kl_buf_str(&one), "failed to decrypt DEK, error: ");
    wait_for_refusal(k, at, kl_buf_str(&two), "failed to decrypt DEK, error: ");
    kl_kms_unref(k);
    // The probe failed: nothing is asked.
    atomic_store(&plugin.refuse, REFUSE);
    atomic_store(&plugin.sick, 1);
    k = connect_kms();
    kl_buf_clear(&out);
    assert_int_equal(kl_kms_seal(k, at, text, &out, &err), KL_EUNAVAILABLE);
    wait_for_refusal(k, at, kl_buf_str(&one), "unexpected healthz status: sick");
    kl_kms_unref(k);
    kl_buf_fini(&one);
    kl_buf_fini(&two);
    kl_buf_fini(&out);
    stop_plugin();
}

static void test_kms(void **state)
{
    struct kl_str at = KL_STR("/registry/secrets/a/b"), text = KL_STR("a text");
    struct kl_error err = {0};
    struct kl_buf one, two, out;
    bool stale;
    (void)state;
    start_plugin();
    kl_buf_init(&one, 4096);
    kl_buf_init(&two, 4096);
    kl_buf_init(&out, 4096);
    struct kl_kms *k = connect_kms();
    if (kl_kms_seal(k, at, text, &one, &err) || kl_kms_seal(k, at, text, &two, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(plugin.encrypted, 1); // the seed, not the values
    assert_false(kl_str_eq(kl_buf_str(&one), kl_buf_str(&two)));
    assert_int_equal(kl_kms_open(k, at, kl_buf_str(&one), &out, &stale, &err), 0);
    assert_true(kl_str_eq(kl_buf_str(&out), text) && !stale);
    assert_int_equal(plugin.decrypted, 0); // its own is known
    assert_int_equal(kl_kms_health(k, &err), 0);
    kl_kms_unref(k);
    // Another server, after the plug-in's key became another: the seed is asked for, once.
    atomic_store(&plugin.key, 2);
    k = connect_kms();
    for (int i = 0; i < 3; i++) {
        kl_buf_clear(&out);
        if (kl_kms_open(k, at, kl_buf_str(i ? &two : &one), &out, &stale, &err))
            fail_msg("%s", err.msg);
        assert_true(kl_str_eq(kl_buf_str(&out), text));
    }
    assert_int_equal(plugin.decrypted, 1);
    kl_buf_clear(&one);
    assert_int_equal(kl_kms_seal(k, at, text, &one, &err), 0);
    kl_buf_clear(&out);
    assert_int_equal(kl_kms_open(k, at, kl_buf_str(&two), &out, &stale, &err), 0);
    assert_true(stale);
    assert_true(kl_kms_open(k, KL_STR("/registry/secrets/a/c"), kl_buf_str(&two), &out, &stale,
                            &err) == KL_ECORRUPT);
    assert_true(kl_kms_open(k, at, KL_STR("\x0a\x05"), &out, &stale, &err) < 0);
    kl_kms_unref(k);
    // One that says it is not well seals nothing.
    atomic_store(&plugin.sick, 1);
    k = connect_kms();
    assert_int_equal(kl_kms_seal(k, at, text, &out, &err), KL_EUNAVAILABLE);
    assert_non_null(strstr(err.msg, "got unexpected healthz status: sick"));
    assert_int_equal(kl_kms_health(k, &err), KL_EUNAVAILABLE);
    kl_kms_unref(k);
    kl_buf_fini(&one);
    kl_buf_fini(&two);
    kl_buf_fini(&out);
    stop_plugin();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_config),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_record),
        cmocka_unit_test(test_kms),     cmocka_unit_test(test_kms_that_fails),
    };
    dir = argc > 1 ? argv[1] : "fair_vectors";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
