// SPDX-License-Identifier: Apache-2.0
// Tokens: signed and verified, tampered with, expired, bound to objects that go away; TokenRequest.
#include "fixture.h"
#include "apiserver/auth/authn_int.h"
#include "base/clock.h"
#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char ISSUER[] = "https://kubernetes.default.svc.cluster.local";

// ---- JWS

static void test_base64url(void **state)
{
    static const char *const pairs[][2] = {
        {"", ""},           {"f", "Zg"},         {"fo", "Zm8"},      {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"\xff\xfe", "__4"}, {"\xfb\xff", "-_8"}};
    struct kl_buf b;
    for (size_t i = 0; i < KL_COUNT(pairs); i++) {
        kl_buf_init(&b, 64);
        kl_base64url(&b, pairs[i][0], strlen(pairs[i][0]));
        assert_true(kl_str_eqz(kl_buf_str(&b), pairs[i][1]));
        kl_buf_clear(&b);
        assert_int_equal(kl_base64url_decode(&b, kl_str(pairs[i][1])), 0);
        assert_true(kl_str_eqz(kl_buf_str(&b), pairs[i][0]));
        kl_buf_fini(&b);
    }
    static const char *const bad[] = {"Z", "Zg==", "Zm8=", "Z g", "Zm+v", "Zm/v", "Zh", "Zm9"};
    for (size_t i = 0; i < KL_COUNT(bad); i++) {
        kl_buf_init(&b, 64);
        if (!kl_base64url_decode(&b, kl_str(bad[i])))
            fail_msg("%s was taken", bad[i]);
        kl_buf_fini(&b);
    }
}

static struct kl_authn *authn_of(EVP_PKEY *key)
{
    char pem[8192];
    BIO *b = BIO_new(BIO_s_mem());
    struct kl_error err = {0};
    struct kl_pki pki = {0};
    PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL);
    pki.service_key = (struct kl_str){pem, (size_t)BIO_read(b, pem, sizeof pem)};
    BIO_free(b);
    EVP_PKEY_free(key);
    struct kl_authn *n = kl_authn_new(&pki, NULL, &err);
    if (!n)
        fail_msg("%s", err.msg);
    return n;
}

static int verify(const struct kl_authn *n, struct kl_str token, struct kl_error *err)
{
    struct kl_arena a;
    struct kl_value v;
    kl_arena_init(&a, 0);
    int rc = kl_jwt_verify(n, &a, token, &v, err);
    kl_arena_fini(&a);
    return rc;
}

static void round_trip(struct kl_authn *n, const char *alg)
{
    struct kl_authn *other = authn_of(EVP_EC_gen("P-256"));
    struct kl_error err;
    struct kl_buf t;
    assert_string_equal(n->alg, alg);
    kl_buf_init(&t, KL_TOKEN_MAX_BYTES);
    assert_int_equal(kl_jwt_sign(n, KL_STR("{\"a\":\"b\"}"), &t, &err), 0);
    assert_int_equal(verify(n, kl_buf_str(&t), &err), 0);
    assert_int_equal(verify(other, kl_buf_str(&t), &err), KL_EUNAUTHORIZED);
    assert_string_equal(err.msg, "invalid signature, no keys found");
    // No byte of it can be another one.
    for (size_t i = 0; i < t.n; i += n->ec_bytes ? 1 : 7) {
        char was = t.p[i];
        t.p[i] = was == 'A' ? 'B' : 'A';
        if (!verify(n, kl_buf_str(&t), &err))
            fail_msg("byte %zu of %zu may be changed", i, t.n);
        t.p[i] = was;
    }
    for (size_t cut = 0; cut < t.n; cut += 3)
        assert_int_equal(verify(n, (struct kl_str){t.p, cut}, &err), KL_EUNAUTHORIZED);
    kl_buf_fini(&t);
    kl_authn_free(other);
    kl_authn_free(n);
}

static void test_es256(void **state)
{
    round_trip(authn_of(EVP_EC_gen("P-256")), "ES256");
}

static void test_es384(void **state)
{
    round_trip(authn_of(EVP_EC_gen("P-384")), "ES384");
}

static void test_rs256(void **state)
{
    round_trip(authn_of(EVP_RSA_gen(2048)), "RS256"); // K3s' service.key
}

static void put_part(struct kl_buf *t, const char *json)
{
    if (t->n)
        kl_buf_putc(t, '.');
    kl_base64url(t, json, strlen(json));
}

static void test_algorithms(void **state)
{
    struct kl_authn *n = authn_of(EVP_EC_gen("P-256"));
    struct kl_error err;
    static const char *const headers[] = {"{\"alg\":\"none\"}",
                                          "{\"alg\":\"HS256\"}",
                                          "{}",
                                          "[]",
                                          "{\"alg\":\"ES256\",\"crit\":[\"x\"]}",
                                          "null",
                                          "\"x\""};
    for (size_t i = 0; i < KL_COUNT(headers); i++) {
        struct kl_buf t;
        kl_buf_init(&t, 4096);
        put_part(&t, headers[i]);
        put_part(&t, "{\"sub\":\"x\"}");
        kl_buf_putc(&t, '.');
        assert_int_equal(verify(n, kl_buf_str(&t), &err), KL_EUNAUTHORIZED);
        kl_buf_fini(&t);
    }
    kl_authn_free(n);
}

static void test_jwks(void **state)
{
    struct kl_authn *n = authn_of(EVP_EC_gen("P-256"));
    struct kl_arena a;
    struct kl_value v;
    struct kl_error err;
    kl_arena_init(&a, 0);
    assert_int_equal(kl_json_parse(&a, kl_str(n->jwks), NULL, &v, &err), 0);
    const struct kl_value *k = kl_at(kl_map_value(&v, KL_STR("keys")), 0);
    assert_true(kl_str_eqz(kl_text(kl_map_value(k, KL_STR("kid"))), n->kid));
    assert_int_equal(strlen(n->kid), 43);
    assert_true(kl_str_eqz(kl_text(kl_map_value(k, KL_STR("crv"))), "P-256"));
    assert_int_equal(kl_text(kl_map_value(k, KL_STR("x"))).n, 43);
    assert_int_equal(kl_text(kl_map_value(k, KL_STR("y"))).n, 43);
    assert_null(kl_map_value(k, KL_STR("d")));
    kl_arena_fini(&a);
    kl_authn_free(n);
}

// ---- claims

static struct kl_claims some_claims(const struct kl_str *aud, int64_t now)
{
    return (struct kl_claims){.issuer = kl_str(ISSUER),
                              .subject = KL_STR("system:serviceaccount:ns1:robot"),
                              .id = KL_STR("J"),
                              .ns = KL_STR("ns1"),
                              .account = {KL_STR("robot"), KL_STR("u-robot")},
                              .issued_s = now,
                              .not_before_s = now,
                              .expires_s = now + 3600,
                              .audiences = aud,
                              .naudiences = 1};
}

static void test_claims_text(void **state)
{
    struct kl_str aud = KL_STR("a");
    struct kl_claims c = some_claims(&aud, 1000), back;
    struct kl_arena a;
    struct kl_value v;
    struct kl_error err;
    struct kl_buf b;
    c.pod = (struct kl_claims_ref){KL_STR("p"), KL_STR("u-p")};
    c.node = (struct kl_claims_ref){KL_STR("n"), KL_STR("")};
    c.warn_after_s = 5;
    kl_buf_init(&b, 4096);
    kl_arena_init(&a, 0);
    kl_claims_write(&c, &b);
    kl_buf_putc(&b, 0);
    assert_string_equal(
        b.p,
        "{\"aud\":[\"a\"],\"exp\":4600,\"iat\":1000,\"iss\":\"https://kubernetes.default.svc."
        "cluster.local\",\"jti\":\"J\",\"kubernetes.io\":{\"namespace\":\"ns1\",\"node\":{"
        "\"name\":\"n\"},\"pod\":{\"name\":\"p\",\"uid\":\"u-p\"},\"serviceaccount\":{\"name\":"
        "\"robot\",\"uid\":\"u-robot\"},\"warnafter\":5},\"nbf\":1000,\"sub\":\"system:"
        "serviceaccount:ns1:robot\"}");
    assert_int_equal(kl_json_parse(&a, (struct kl_str){b.p, b.n - 1}, NULL, &v, &err), 0);
    assert_int_equal(kl_claims_read(&a, &v, &back, &err), 0);
    assert_true(kl_str_eqz(back.pod.uid, "u-p"));
    assert_int_equal(back.expires_s, 4600);
    assert_int_equal(back.naudiences, 1);

    assert_int_equal(kl_claims_check_time(&back, 4660, &err), 0);
    assert_int_equal(kl_claims_check_time(&back, 4661, &err), KL_EUNAUTHORIZED);
    assert_string_equal(err.msg, "service account token has expired");
    assert_int_equal(kl_claims_check_time(&back, 940, &err), 0);
    assert_int_equal(kl_claims_check_time(&back, 939, &err), KL_EUNAUTHORIZED);
    assert_string_equal(err.msg, "service account token is not valid yet");
    kl_buf_fini(&b);
    kl_arena_fini(&a);
}

// ---- with objects

#define SA "{\"metadata\":{\"name\":\"robot\",\"namespace\":\"ns1\",\"uid\":\"u-robot\"}}"
#define POD(uid, more)                                                                             \
    "{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns1\",\"uid\":\"" uid "\"" more                 \
    "},\"spec\":{\"serviceAccountName\":\"robot\",\"nodeName\":\"n\",\"containers\":[{\"name\":"   \
    "\"c\",\"image\":\"i\"}]}}"

static const char *sign(struct fixture *f, const struct kl_claims *c)
{
    struct kl_buf claims, t;
    struct kl_error err;
    kl_buf_init(&claims, KL_TOKEN_MAX_BYTES);
    kl_buf_init(&t, KL_TOKEN_MAX_BYTES);
    kl_claims_write(c, &claims);
    assert_int_equal(kl_jwt_sign(f->srv.authn, kl_buf_str(&claims), &t, &err), 0);
    const char *s = kl_arena_dup(&f->arena, kl_buf_str(&t)).p;
    kl_buf_fini(&claims);
    kl_buf_fini(&t);
    return s;
}

// "" or what is wrong with it.
static const char *try(struct fixture *f, const char *token, struct kl_user **ret)
{
    struct kl_error err = {0};
    struct kl_user *u = NULL;
    int rc = kl_token_authenticate(&f->srv.loops[0], NULL, &f->arena, kl_str(token), NULL, 0, &u,
                                   NULL, NULL, &err);
    if (ret)
        *ret = u;
    else
        kl_user_unref(u);
    return rc ? kl_arena_dup(&f->arena, kl_str(err.msg)).p : "";
}

static void body_bound(struct fixture *f)
{
    struct kl_str own = kl_str(ISSUER), other = KL_STR("vault");
    int64_t now = kl_wall_ms() / 1000;
    struct kl_claims c = some_claims(&own, now);
    const char *plain = sign(f, &c);
    struct kl_user *u;
    assert_string_equal(try(f, plain, NULL), "serviceaccounts \"robot\" not found");
    struct kl_str sa = fixture_put(f, KL_RES_core_v1_serviceaccounts, SA);
    assert_string_equal(try(f, plain, &u), "");
    assert_true(kl_str_eqz(u->name, "system:serviceaccount:ns1:robot"));
    assert_true(kl_str_eqz(u->uid, "u-robot"));
    assert_int_equal(u->ngroups, 3);
    assert_true(kl_str_eqz(u->groups[0], "system:serviceaccounts"));
    assert_true(kl_str_eqz(u->groups[1], "system:serviceaccounts:ns1"));
    assert_true(kl_str_eqz(u->groups[2], "system:authenticated"));
    assert_int_equal(u->nextra, 1);
    assert_true(kl_str_eqz(u->extra[0].key, "authentication.kubernetes.io/credential-id"));
    assert_true(kl_str_eqz(u->extra[0].values[0], "JTI=J"));
    struct kl_user *again;
    assert_string_equal(try(f, plain, &again), "");
    assert_ptr_equal(again, u); // from the cache
    kl_user_unref(u);
    kl_user_unref(again);

    c.audiences = &other;
    assert_string_equal(try(f, sign(f, &c), NULL),
                        "token audiences [\"vault\"] is invalid for the target audiences "
                        "[\"https://kubernetes.default.svc.cluster.local\"]");
    c.audiences = &own;
    c.expires_s = now - 100;
    assert_string_equal(try(f, sign(f, &c), NULL), "service account token has expired");
    c.expires_s = now + 3600;
    c.issuer = KL_STR("https://elsewhere");
    assert_string_equal(try(f, sign(f, &c), NULL), "invalid bearer token");
    c.issuer = own;
    c.subject = KL_STR("system:serviceaccount:kube-system:robot");
    assert_string_equal(try(f, sign(f, &c), NULL), "invalid bearer token");
    c.subject = KL_STR("system:serviceaccount:ns1:robot");

    // Bound to a pod: it must be there, be the same, and not be gone for a minute.
    c.pod = (struct kl_claims_ref){KL_STR("p"), KL_STR("u-p")};
    c.node = (struct kl_claims_ref){KL_STR("n"), KL_STR("u-n")};
    const char *bound = sign(f, &c);
    assert_string_equal(try(f, bound, NULL), "service account token has been invalidated");
    struct kl_str pod = fixture_put(f, KL_RES_core_v1_pods, POD("u-p", ""));
    assert_string_equal(try(f, bound, &u), "");
    assert_int_equal(u->nextra, 5);
    kl_user_unref(u);
    fixture_put(f, KL_RES_core_v1_pods,
                POD("u-p", ",\"deletionTimestamp\":\"2020-01-01T00:00:00Z\""));
    assert_string_equal(try(f, bound, NULL), "service account token has been invalidated");
    fixture_put(f, KL_RES_core_v1_pods, POD("u-new", ""));
    assert_string_equal(try(f, bound, NULL),
                        "pod UID (u-new) does not match service account pod ref claim (u-p)");
    fixture_put(f, KL_RES_core_v1_pods, POD("u-p", ""));
    assert_string_equal(try(f, bound, NULL), "");
    fixture_delete(f, pod);
    assert_string_equal(try(f, bound, NULL), "service account token has been invalidated");

    assert_string_equal(try(f, plain, NULL), "");
    fixture_put(f, KL_RES_core_v1_serviceaccounts,
                "{\"metadata\":{\"name\":\"robot\",\"namespace\":\"ns1\",\"uid\":\"u-2\"}}");
    assert_string_equal(try(f, plain, NULL),
                        "service account UID (u-2) does not match claim (u-robot)");
    fixture_delete(f, sa);
    assert_string_equal(try(f, plain, NULL), "serviceaccounts \"robot\" not found");
}

static const char *request(struct fixture *f, const char *body)
{
    struct kl_user *root = fixture_user("root", (const char *[]){"system:masters", NULL});
    struct fixture_req q;
    fixture_req_init(f, &q, root, KL_VERB_CREATE, KL_RES_core_v1_serviceaccounts, "token", "ns1",
                     "robot", body);
    kl_token_request_run(&q.r);
    const char *s = fixture_req_json(f, &q);
    fixture_req_fini(&q);
    kl_user_unref(root);
    return s;
}

static const char *token_in(struct fixture *f, const char *answer)
{
    const char *at = strstr(answer, "\"token\":\"");
    if (!at)
        fail_msg("%s", answer);
    at += strlen("\"token\":\"");
    return kl_arena_dup(&f->arena, (struct kl_str){at, strcspn(at, "\"")}).p;
}

static void body_request(struct fixture *f)
{
    assert_string_equal(request(f, "{}"), "404 NotFound: serviceaccounts \"robot\" not found");
    fixture_put(f, KL_RES_core_v1_serviceaccounts, SA);
    const char *a = request(f, "{}");
    assert_non_null(strstr(a, "\"audiences\":[\"https://kubernetes.default.svc.cluster.local\"]"));
    assert_non_null(strstr(a, "\"expirationSeconds\":3600"));
    assert_non_null(strstr(a, "\"expirationTimestamp\":\"20"));
    assert_string_equal(try(f, token_in(f, a), NULL), "");
    assert_string_equal(
        request(f, "{\"spec\":{\"expirationSeconds\":599}}"),
        "422 Invalid: TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: "
        "Invalid value: 599: may not specify a duration less than 10 minutes");
    assert_string_equal(
        request(f, "{\"spec\":{\"expirationSeconds\":4294967297}}"),
        "422 Invalid: TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: "
        "Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds");
#define REF(kind, more)                                                                            \
    "{\"spec\":{\"audiences\":null,\"expirationSeconds\":3607,\"boundObjectRef\":{\"apiVersion\":" \
    "\"v1\",\"kind\":\"" kind "\",\"name\":\"p\"" more "}}}"
    assert_string_equal(request(f, REF("Pod", "")), "404 NotFound: pods \"p\" not found");
    assert_string_equal(request(f, REF("Thing", "")),
                        "400 BadRequest: cannot bind token to object of type /v1, Kind=Thing");
    fixture_put(f, KL_RES_core_v1_pods, POD("u-p", ""));
    assert_string_equal(
        request(f, REF("Pod", ",\"uid\":\"u-x\"")),
        "409 Conflict: Operation cannot be fulfilled on Pod \"p\": the UID in the bound object "
        "reference (u-x) does not match the UID in record. The object might have been deleted and "
        "then recreated");
    // A pod's token lives for a year but warns after what was asked for.
    a = request(f, REF("Pod", ",\"uid\":\"u-p\""));
    struct kl_user *u;
    assert_string_equal(try(f, token_in(f, a), &u), "");
    assert_int_equal(u->nextra, 4); // the node is not there: its name alone
    kl_user_unref(u);
    struct kl_value v;
    struct kl_claims c;
    struct kl_error err;
    assert_int_equal(kl_jwt_verify(f->srv.authn, &f->arena, kl_str(token_in(f, a)), &v, &err), 0);
    assert_int_equal(kl_claims_read(&f->arena, &v, &c, &err), 0);
    assert_int_equal(c.expires_s - c.issued_s, 365 * 24 * 3600);
    assert_int_equal(c.warn_after_s - c.issued_s, 3607);
    assert_true(kl_str_eqz(c.node.name, "n"));
    assert_string_equal(
        request(f, "{\"metadata\":{\"name\":\"x\"}}"),
        "422 Invalid: TokenRequest.authentication.k8s.io \"robot\" is invalid: "
        "metadata.name: Invalid value: \"x\": must match the service account name if "
        "specified");
}

#define ON_LOOP(name)                                                                              \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        fixture_run(body_##name);                                                                  \
    }
ON_LOOP(bound)
ON_LOOP(request)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64url),   cmocka_unit_test(test_es256),
        cmocka_unit_test(test_es384),       cmocka_unit_test(test_rs256),
        cmocka_unit_test(test_algorithms),  cmocka_unit_test(test_jwks),
        cmocka_unit_test(test_claims_text), cmocka_unit_test(test_bound),
        cmocka_unit_test(test_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
