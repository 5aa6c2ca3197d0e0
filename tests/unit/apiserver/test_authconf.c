// SPDX-License-Identifier: Apache-2.0
// Structured configurations with upstream's findings, key sets, and JWTs recorded from elsewhere.
#include "apiserver/auth/authn_int.h"
#include "apiserver/auth/oidc_int.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define AUTHN "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"
#define AUTHZ "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n"
#define JWT(rest) AUTHN "jwt:\n- issuer: {url: 'https://a.b', audiences: [x]}\n" rest
#define MAPPED(rest) JWT("  claimMappings: {username: {claim: sub, prefix: ''}" rest "}\n")
#define HOOK(rest)                                                                                 \
    AUTHZ "authorizers:\n- type: Webhook\n  name: w\n  webhook: {timeout: 3s, authorizedTTL: 1m, " \
          "unauthorizedTTL: 1m, subjectAccessReviewVersion: v1, failurePolicy: Deny, "             \
          "connectionInfo: {type: KubeConfigFile, kubeConfigFile: /nowhere}" rest "}\n"

static int load(const char *authn, const char *authz, struct kl_auth_conf **ret,
                struct kl_error *err)
{
    static const struct kl_str own[] = {KL_STR_INIT("https://own.example.org")};
    struct kl_auth_conf_input in = {
        .settings = &kl_api_settings_default, .anonymous = true, .issuers = own, .nissuers = 1};
    if (authn)
        in.authentication = kl_str(authn);
    if (authz)
        in.authorization = kl_str(authz);
    *ret = NULL;
    return kl_auth_conf_new(&in, ret, err);
}

static void refused(const char *authn, const char *authz, const char *part)
{
    struct kl_auth_conf *c;
    struct kl_error err = {0};
    if (!load(authn, authz, &c, &err)) {
        kl_auth_conf_unref(c);
        fail_msg("taken: %s", authn ? authn : authz);
    }
    if (!strstr(err.msg, part))
        fail_msg("no \"%s\" in \"%s\"", part, err.msg);
}

static void test_authentication(void **state)
{
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"", "empty configuration"},
        {"kind: X\napiVersion: v9\n", "no kind \"X\" is registered for version \"v9\""},
        {AUTHN "nope: 1\n", "strict decoding error: unknown field \"nope\""},
        {AUTHN "jwt:\n- issuer: {audiences: [x]}\n", "jwt[0].issuer.url: Required value"},
        {AUTHN "jwt:\n- issuer: {url: 'http://a', audiences: [x]}\n",
         "jwt[0].issuer.url: Invalid value: \"http://a\": URL scheme must be https"},
        {AUTHN "jwt:\n- issuer: {url: 'https://own.example.org', audiences: [x]}\n",
         "URL must not overlap with disallowed issuers"},
        {AUTHN "jwt:\n- issuer: {url: 'https://a', audiences: []}\n",
         "jwt[0].issuer.audiences: Required value"},
        {AUTHN "jwt:\n- issuer: {url: 'https://a', audiences: [x, x]}\n",
         "jwt[0].issuer.audiences[1]: Duplicate value: \"x\""},
        {AUTHN "jwt:\n- issuer: {url: 'https://a', audiences: [x, y]}\n",
         "audienceMatchPolicy must be MatchAny for multiple audiences"},
        {AUTHN "jwt:\n- issuer: {url: 'https://a', audiences: [x], discoveryURL: 'https://a/'}\n",
         "discoveryURL must be different from URL"},
        {AUTHN "jwt:\n- issuer: {url: 'https://a', audiences: [x], certificateAuthority: junk}\n",
         "jwt[0].issuer.certificateAuthority: Invalid value: \"<omitted>\""},
        {JWT(""), "jwt[0].claimMappings.username: Required value: claim or expression is required"},
        {JWT("  claimMappings: {username: {claim: sub}}\n"),
         "username.prefix: Required value: prefix is required when claim is set"},
        {JWT("  claimMappings: {username: {claim: sub, expression: claims.sub, prefix: ''}}\n"),
         "claim and expression can't both be set"},
        {JWT("  claimMappings: {username: {expression: 'claims.'}}\n"),
         "username.expression: Invalid value: \"claims.\": compilation failed"},
        {JWT("  claimMappings: {username: {expression: claims.email}}\n"),
         "claims.email_verified must be used"},
        {MAPPED(", extra: [{key: foo, valueExpression: claims.x}]"), "domain-prefixed path"},
        {MAPPED(", extra: [{key: a.kubernetes.io/x, valueExpression: claims.x}]"),
         "reserved for Kubernetes use"},
        {MAPPED("") "  claimValidationRules: [{expression: '1'}]\n", "must evaluate to bool"},
        {MAPPED("") "  claimValidationRules: [{claim: a}, {claim: a}]\n",
         "claimValidationRules[1].claim: Duplicate value: \"a\""},
        {MAPPED("") "  userValidationRules: [{expression: user.nope}]\n", "undefined field 'nope'"},
        {AUTHN "anonymous: {enabled: false, conditions: [{path: /x}]}\n",
         "enabled should be set to true when conditions are defined"},
    };
    struct kl_auth_conf *c;
    struct kl_error err = {0};
    for (size_t i = 0; i < KL_COUNT(bad); i++)
        refused(bad[i].text, NULL, bad[i].part);
    if (load(JWT("  claimMappings: {username: {expression: \"claims.email_verified ? claims.email "
                 ": 'claims.email'\"}}\n") "anonymous: {enabled: true, conditions: [{path: /x}]}\n",
             NULL, &c, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(c->njwt, 1);
    assert_int_equal(c->nanonymous_paths, 1);
    assert_true(c->by_roles);
    kl_auth_conf_unref(c);
}

#define LONG_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define LONG_512 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64 LONG_64
#define LONG_1536 LONG_512 LONG_512 LONG_512

static void test_authorization(void **state)
{
    static const struct {
        const char *text, *part;
    } bad[] = {
        {AUTHZ, "at least one authorization mode must be defined"},
        {AUTHZ "authorizers: [{name: x}]\n", "authorizers[0].type: Required value"},
        {AUTHZ "authorizers: [{type: Foo, name: x}]\n",
         "authorizers[0].type: Unsupported value: \"Foo\""},
        {AUTHZ "authorizers: [{type: RBAC, name: a}, {type: RBAC, name: b}]\n",
         "authorizers[1].type: Duplicate value: \"RBAC\""},
        {AUTHZ "authorizers: [{type: RBAC, name: a}, {type: Node, name: a}]\n",
         "authorizers[1].name: Duplicate value: \"a\""},
        {AUTHZ "authorizers: [{type: RBAC, name: A_}]\n", "authorizer name is invalid"},
        // What is longer than a message is cut, not left out.
        {AUTHZ "authorizers: [{type: " LONG_1536 ", name: a}]\n",
         "authorizers[0].type: Unsupported value: \"0123456789"},
        {AUTHZ "authorizers: [{type: Webhook, name: a}]\n",
         "authorizers[0].webhook: Required value: required when type=Webhook"},
        {HOOK(""),
         "connectionInfo.kubeConfigFile: Invalid value: \"/nowhere\": error loading file"},
        {HOOK(", matchConditions: [{expression: 'true'}]"),
         "matchConditionSubjectAccessReviewVersion: Required value"},
        {HOOK(", matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{expression: "
              "request.nope}]"),
         "undefined field 'nope'"},
    };
    struct kl_auth_conf *c;
    struct kl_error err = {0};
    for (size_t i = 0; i < KL_COUNT(bad); i++)
        refused(NULL, bad[i].text, bad[i].part);
    assert_int_equal(
        load(NULL, AUTHZ "authorizers: [{type: AlwaysDeny, name: alwaysdeny}]\n", &c, &err), 0);
    assert_int_equal(c->authz[0].kind, KL_AUTHZ_ALWAYS_DENY);
    assert_false(c->by_roles);
    kl_auth_conf_unref(c);
}

// kubeapiserver/authorizer: what a file may take away from a server that runs, or give it.
static void test_authorization_again(void **state)
{
    enum { ABAC = 1u << KL_AUTHZ_ABAC, NODE = 1u << KL_AUTHZ_NODE, RBAC = 1u << KL_AUTHZ_RBAC };
    static const struct kl_abac none = {.n = 0};
    static const struct {
        const char *list;
        unsigned started_with;
        bool policies;
        const char *says; // NULL: taken
    } rows[] = {
        {"{type: RBAC, name: rbac}, {type: Node, name: nn}", 0, false,
         "expected name node for authorizer Node instead of nn"},
        {"{type: RBAC, name: r}, {type: Node, name: nn}", 0, false,
         "[expected name rbac for authorizer RBAC instead of r, expected name node for authorizer "
         "Node instead of nn]"},
        {"{type: ABAC, name: abac}", 0, false, "open : no such file or directory"},
        {"{type: ABAC, name: abac}", 0, true, NULL},
        {"{type: RBAC, name: rbac}", NODE | RBAC | ABAC, true,
         "missing required types: [ABAC Node]"},
        {"{type: RBAC, name: rbac}, {type: ABAC, name: abac}", RBAC, true,
         "authorizer type ABAC is not allowed if it was not enabled at initial server startup"},
        {"{type: RBAC, name: rbac}, {type: Node, name: node}", RBAC, false,
         "authorizer type Node is not allowed if it was not enabled at initial server startup"},
        {"{type: RBAC, name: rbac}, {type: AlwaysDeny, name: alwaysdeny}", RBAC, false, NULL},
    };
    (void)state;
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_auth_conf *c = NULL;
        struct kl_error err = {0};
        char text[512];
        snprintf(text, sizeof text, AUTHZ "authorizers: [%s]\n", rows[i].list);
        struct kl_auth_conf_input in = {.settings = &kl_api_settings_default,
                                        .abac = rows[i].policies ? &none : NULL,
                                        .started_with = rows[i].started_with,
                                        .authorization = kl_str(text)};
        int rc = kl_auth_conf_new(&in, &c, &err);
        if (rows[i].says) {
            assert_int_equal(rc, KL_EINVALID);
            assert_string_equal(err.msg, rows[i].says);
        } else if (rc) {
            fail_msg("%s: %s", rows[i].list, err.msg);
        }
        kl_auth_conf_unref(c);
    }
}

static int with_flags(const struct kl_api_settings *s, struct kl_auth_conf **ret,
                      struct kl_error *err)
{
    static const struct kl_abac none = {.n = 0};
    const struct kl_auth_conf_input in = {
        .settings = s, .anonymous = true, .abac = s->authorization_policy_file ? &none : NULL};
    *ret = NULL;
    return kl_auth_conf_new(&in, ret, err);
}

static void test_flags(void **state)
{
    static const char *const allow[] = {"RBAC,AlwaysAllow", NULL},
                             *const twice[] = {"RBAC", "RBAC", NULL},
                             *const strange[] = {"Foo", NULL}, *const hook[] = {"Webhook", NULL},
                             *const claim[] = {"hd", NULL};
    struct kl_api_settings s = kl_api_settings_default;
    struct kl_auth_conf *c;
    struct kl_error err = {0};
    assert_int_equal(with_flags(&s, &c, &err), 0);
    assert_true(c->by_roles && c->anonymous && !c->njwt);
    kl_auth_conf_unref(c);
    s.authorization_mode = allow;
    assert_int_equal(with_flags(&s, &c, &err), 0);
    assert_int_equal(c->nauthz, 2);
    assert_false(c->by_roles || c->anonymous);
    kl_auth_conf_unref(c);
    static const char *const abac[] = {"ABAC", "RBAC", NULL};
    s.authorization_mode = abac;
    assert_int_equal(with_flags(&s, &c, &err), KL_EINVALID);
    assert_string_equal(err.msg, "authorization-mode ABAC's authorization policy file not passed");
    s.authorization_policy_file = "policies";
    assert_int_equal(with_flags(&s, &c, &err), 0);
    assert_int_equal(c->authz[0].kind, KL_AUTHZ_ABAC);
    kl_auth_conf_unref(c);
    s.authorization_mode = NULL;
    assert_int_equal(with_flags(&s, &c, &err), KL_EINVALID);
    assert_string_equal(err.msg, "cannot specify --authorization-policy-file without mode ABAC");
    s.authorization_policy_file = NULL;
    s.authorization_mode = twice;
    assert_int_equal(with_flags(&s, &c, &err), KL_EINVALID);
    assert_string_equal(err.msg, "authorization-mode \"RBAC\" has been specified more than once");
    s.authorization_mode = strange;
    assert_int_equal(with_flags(&s, &c, &err), KL_EINVALID);
    assert_string_equal(err.msg, "authorization-mode \"Foo\" is not a valid mode");
    s.authorization_mode = hook;
    assert_int_equal(with_flags(&s, &c, &err), KL_EINVALID);
    s.authorization_mode = NULL;
    s.oidc_issuer_url = "https://a.b";
    assert_int_equal(with_flags(&s, &c, &err), KL_EINVALID);
    assert_string_equal(err.msg, "oidc-issuer-url and oidc-client-id must be specified together");
    s.oidc_client_id = "x";
    assert_int_equal(with_flags(&s, &c, &err), 0);
    assert_true(kl_str_eqz(c->jwt[0].username.prefix, "https://a.b#"));
    assert_int_equal(c->jwt[0].nalgs, 1);
    kl_auth_conf_unref(c);
    s.oidc_username_prefix = "-";
    assert_int_equal(with_flags(&s, &c, &err), 0);
    assert_int_equal(c->jwt[0].username.prefix.n, 0);
    kl_auth_conf_unref(c);
    s.oidc_required_claim = claim;
    assert_int_equal(with_flags(&s, &c, &err), KL_EINVALID);
}

// RFC 7515 A.2 and A.3: the examples' keys, token and signatures.
#define RFC_CLAIMS                                                                                 \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl" \
    "fQ"
static const char rfc_keys[] =
    "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"ec\","
    "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
    "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"},"
    "{\"kty\":\"RSA\",\"kid\":\"rsa\",\"e\":\"AQAB\",\"n\":"
    "\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0"
    "Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5"
    "z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7a"
    "GhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ\"},"
    "{\"kty\":\"oct\",\"k\":\"AAAA\"}]}";
static const char rfc_es256[] =
    "eyJhbGciOiJFUzI1NiJ9." RFC_CLAIMS
    ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
static const char rfc_rs256[] =
    "eyJhbGciOiJSUzI1NiJ9." RFC_CLAIMS
    ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5"
    "jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1"
    "L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYE"
    "UipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

static void test_tokens(void **state)
{
    struct kl_jwt_keys keys = {0};
    struct kl_arena a;
    struct kl_jwt t;
    struct kl_error err = {0};
    const char *good[] = {rfc_es256, rfc_rs256};
    kl_arena_init(&a, 1 << 20);
    assert_int_equal(kl_jwt_keys_from_jwks(&keys, kl_str(rfc_keys), &err), 0);
    assert_int_equal(keys.n, 2);
    for (size_t i = 0; i < KL_COUNT(good); i++) {
        assert_int_equal(kl_jwt_parse(&a, kl_str(good[i]), KL_TOKEN_MAX_BYTES, &t, &err), 0);
        assert_int_equal(kl_jwt_check(&t, &keys, &err), 0);
        assert_true(kl_str_eqz(kl_text(kl_map_value(&t.claims, KL_STR("iss"))), "joe"));
        // Another claim, the other key, another algorithm of the same key: none of them.
        t.signed_part.n--;
        assert_int_equal(kl_jwt_check(&t, &keys, &err), KL_EUNAUTHORIZED);
        t.signed_part.n++;
        t.kid = i ? KL_STR("ec") : KL_STR("rsa");
        assert_int_equal(kl_jwt_check(&t, &keys, &err), KL_EUNAUTHORIZED);
        t.kid = KL_STR("unknown");
        assert_int_equal(kl_jwt_check(&t, &keys, &err), KL_EUNAUTHORIZED);
        assert_string_equal(err.msg, "invalid signature, no keys found");
        t.kid = KL_STR("");
        t.alg = i ? KL_STR("RS512") : KL_STR("HS256");
        assert_int_equal(kl_jwt_check(&t, &keys, &err), KL_EUNAUTHORIZED);
    }
    assert_int_equal(kl_jwt_keys_from_jwks(&keys, KL_STR("{\"keys\":1}"), &err), KL_EINVALID);
    kl_jwt_keys_fini(&keys);
    kl_arena_fini(&a);
}

static void test_claims(void **state)
{
    static const struct {
        const char *claims, *user, *error; // user: name uid groups...
    } rows[] = {
        {"{\"sub\":\"a\"}", "p:a ", NULL},
        {"{\"sub\":\"a\",\"uid\":\"7\",\"groups\":[\"x\",\"y\"],\"hd\":\"ok\"}", "p:a 7 x y", NULL},
        {"{\"sub\":\"a\",\"groups\":\"x\"}", "p:a  x", NULL},
        {"{}", NULL, "oidc: parse username claims \"sub\": claim not present"},
        {"{\"sub\":\"root\"}", NULL,
         "oidc: error evaluating user info validation rule: validation expression "
         "'user.username != \"p:root\"' failed: not root"},
        {"{\"sub\":\"a\",\"groups\":[1]}", NULL, "oidc: error evaluating group claim expression"},
        {"{\"sub\":\"a\",\"old\":true}", NULL,
         "oidc: error evaluating claim validation expression: validation expression "
         "'!has(claims.old)' failed: too old"},
    };
    struct kl_auth_conf *c;
    struct kl_error err = {0};
    if (load(JWT("  claimMappings: {username: {claim: sub, prefix: 'p:'}, groups: {expression: "
                 "\"has(claims.groups) ? claims.groups : null\"}, uid: {expression: "
                 "\"claims.?uid.orValue('')\"}}\n"
                 "  claimValidationRules: [{expression: '!has(claims.old)', message: too old}]\n"
                 "  userValidationRules: [{expression: 'user.username != \"p:root\"', message: not "
                 "root}]\n"),
             NULL, &c, &err))
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_arena a;
        struct kl_value claims;
        struct kl_user *u = NULL;
        char text[256] = "";
        kl_arena_init(&a, 1 << 20);
        assert_int_equal(kl_json_parse(&a, kl_str(rows[i].claims), NULL, &claims, &err), 0);
        int rc = kl_oidc_user(&c->jwt[0], &a, &claims, &u, &err);
        if (rows[i].error) {
            assert_int_equal(rc, KL_EUNAUTHORIZED);
            if (!strstr(err.msg, rows[i].error))
                fail_msg("no \"%s\" in \"%s\"", rows[i].error, err.msg);
        } else if (rc) {
            fail_msg("%s: %s", rows[i].claims, err.msg);
        } else {
            snprintf(text, sizeof text, "%s %s", u->name.p, u->uid.p);
            for (size_t g = 0; g + 1 < u->ngroups; g++) { // the last is system:authenticated
                size_t n = strlen(text);
                snprintf(text + n, sizeof text - n, " %s", u->groups[g].p);
            }
            assert_string_equal(text, rows[i].user);
        }
        kl_user_unref(u);
        kl_arena_fini(&a);
    }
    kl_auth_conf_unref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_authentication),
                                       cmocka_unit_test(test_authorization),
                                       cmocka_unit_test(test_authorization_again),
                                       cmocka_unit_test(test_flags),
                                       cmocka_unit_test(test_tokens),
                                       cmocka_unit_test(test_claims)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
