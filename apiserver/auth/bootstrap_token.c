// SPDX-License-Identifier: Apache-2.0
// Bootstrap tokens ID.SECRET: Secrets bootstrap-token-ID in kube-system (kubernetes
// plugin/pkg/auth/authenticator/token/bootstrap).
#include "apiserver/auth/authn_int.h"
#include "base/clock.h"
#include "object/timestamp.h"
#include <openssl/crypto.h>

enum { ID_LEN = 6, SECRET_LEN = 16, MAX_GROUPS = 64 };
#define GROUP KL_STR("system:bootstrappers")

static bool is_token(struct kl_str t)
{
    if (t.n != ID_LEN + 1 + SECRET_LEN || t.p[ID_LEN] != '.')
        return false;
    for (size_t i = 0; i < t.n; i++)
        if (i != ID_LEN && !(t.p[i] >= 'a' && t.p[i] <= 'z') && !(t.p[i] >= '0' && t.p[i] <= '9'))
            return false;
    return true;
}

static struct kl_str data(const struct kl_value *secret, const char *key)
{
    return kl_text(kl_map_value(kl_get(secret, KL_F_data), kl_str(key)));
}

static bool equal(struct kl_str a, struct kl_str b)
{
    return a.n == b.n && !CRYPTO_memcmp(a.p, b.p, a.n);
}

static bool has_expired(const struct kl_value *secret)
{
    struct kl_str text = data(secret, "expiration");
    struct kl_error err;
    int64_t us;
    if (!text.n)
        return false;
    return kl_time_parse(text, &us, &err) || us / 1000 <= kl_wall_ms(); // unreadable: it has
}

// system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]
static bool is_group(struct kl_str g)
{
    const struct kl_str prefix = KL_STR("system:bootstrappers:");
    if (!kl_str_starts(g, prefix))
        return false;
    struct kl_str rest = kl_str_from(g, prefix.n);
    if (!rest.n || rest.n > 256)
        return false;
    for (size_t i = 0; i < rest.n; i++) {
        char c = rest.p[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!word && (i + 1 == rest.n || (c != ':' && c != '-')))
            return false;
    }
    return true;
}

// Sorted and unique, as upstream's set gives them; false: one is none.
static bool groups_of(const struct kl_value *secret, struct kl_str g[MAX_GROUPS], size_t *ret_n)
{
    struct kl_str rest = data(secret, "auth-extra-groups"), one;
    size_t n = 0;
    g[n++] = GROUP;
    bool extra = rest.n > 0;
    while (extra && kl_str_split(&rest, ',', &one)) {
        if (!is_group(one) || n == MAX_GROUPS)
            return false;
        size_t at = 0;
        while (at < n && kl_str_cmp(g[at], one) < 0)
            at++;
        if (at < n && kl_str_eq(g[at], one))
            continue;
        memmove(g + at + 1, g + at, (n - at) * sizeof *g);
        g[at] = one;
        n++;
    }
    *ret_n = n;
    return true;
}

int kl_bootstrap_token(struct kl_token_ask *t, struct kl_user **ret, struct kl_error *err)
{
    struct kl_str groups[MAX_GROUPS], token = t->token;
    size_t n;
    if (!t->al->srv->authn->settings->bootstrap_token_auth || !is_token(token))
        return 0;
    struct kl_str id = {token.p, ID_LEN},
                  name = kl_arena_printf(t->arena, "bootstrap-token-%.*s", KL_PRI(id));
    struct kl_object *o =
        kl_api_object(t->al, t->arena, KL_RES_core_v1_secrets, KL_STR("kube-system"), name);
    if (!o || kl_meta_deleting(&o->root) ||
        !kl_str_eqz(kl_text(kl_get(&o->root, KL_F_type)), "bootstrap.kubernetes.io/token") ||
        !equal(data(&o->root, "token-secret"), kl_str_from(token, ID_LEN + 1)) ||
        !equal(data(&o->root, "token-id"), id) || has_expired(&o->root) ||
        !kl_str_eqz(data(&o->root, "usage-bootstrap-authentication"), "true") ||
        !groups_of(&o->root, groups, &n))
        return 0;
    struct kl_str user = kl_arena_printf(t->arena, "system:bootstrap:%.*s", KL_PRI(id));
    *ret = user.p ? kl_user_new(user, KL_STR(""), groups, n, NULL, 0) : NULL;
    return *ret ? 1 : kl_error_set(err, KL_ENOMEM, "token: out of memory");
}
