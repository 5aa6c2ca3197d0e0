// SPDX-License-Identifier: Apache-2.0
// AuthenticationConfiguration, AuthorizationConfiguration and key sets: whatever is in them, a
// configuration is there or a message is; claims go through the mapping of one that is there.
#include "fuzz.h"
#include "apiserver/auth/authn_int.h"
#include "apiserver/auth/oidc_int.h"

static void check_claims(const struct kl_oidc *o, struct kl_str text)
{
    struct kl_arena a;
    struct kl_value claims;
    struct kl_user *u = NULL;
    struct kl_error err = {0};
    kl_arena_init(&a, 64 << 20);
    if (!kl_json_parse(&a, text, NULL, &claims, &err) && claims.kind == KL_MAP) {
        int rc = kl_oidc_user(o, &a, &claims, &u, &err);
        FUZZ_CHECK(rc ? !u && err.msg[0] : u && u->name.p, "%d %s", rc, err.msg);
    }
    kl_user_unref(u);
    kl_arena_fini(&a);
}

static void check_conf(struct kl_auth_conf_input in)
{
    static const char *const claims[] = {
        "{}", "{\"sub\":\"a\",\"roles\":[\"b\"],\"jti\":\"c\"}",
        "{\"sub\":1,\"roles\":{},\"email\":\"x\",\"email_verified\":\"yes\",\"groups\":[1]}"};
    struct kl_auth_conf *c = NULL;
    struct kl_error err = {0};
    if (kl_auth_conf_new(&in, &c, &err)) {
        FUZZ_CHECK(!c && err.msg[0], "no message");
        return;
    }
    FUZZ_CHECK(c->nauthz, "nobody authorises");
    for (size_t i = 0; i < c->njwt; i++)
        for (size_t k = 0; k < KL_COUNT(claims); k++)
            check_claims(&c->jwt[i], kl_str(claims[k]));
    kl_auth_conf_unref(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_str text = {(const char *)data, size};
    struct kl_auth_conf_input in = {.settings = &kl_api_settings_default, .anonymous = true};
    struct kl_jwt_keys keys = {0};
    struct kl_error err = {0};
    in.authentication = text;
    check_conf(in);
    in.authentication = (struct kl_str){NULL, 0};
    in.authorization = text;
    check_conf(in);
    if (kl_jwt_keys_from_jwks(&keys, text, &err))
        FUZZ_CHECK(err.msg[0], "no message");
    kl_jwt_keys_fini(&keys);
    return 0;
}
