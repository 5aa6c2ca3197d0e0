// SPDX-License-Identifier: Apache-2.0
// The claims of bound service account tokens (kubernetes pkg/serviceaccount/claims.go), members in
// the order upstream's library writes them: sorted.
#include "apiserver/auth/authn_int.h"
#include <inttypes.h>

static void put_ref(struct kl_buf *out, const char *name, const struct kl_claims_ref *r)
{
    kl_buf_printf(out, ",\"%s\":{\"name\":", name);
    kl_json_write_string(out, r->name);
    if (r->uid.n) {
        kl_buf_puts(out, KL_STR(",\"uid\":"));
        kl_json_write_string(out, r->uid);
    }
    kl_buf_putc(out, '}');
}

void kl_claims_write(const struct kl_claims *c, struct kl_buf *out)
{
    kl_buf_puts(out, KL_STR("{\"aud\":["));
    for (size_t i = 0; i < c->naudiences; i++) {
        if (i)
            kl_buf_putc(out, ',');
        kl_json_write_string(out, c->audiences[i]);
    }
    kl_buf_printf(out, "],\"exp\":%" PRId64 ",\"iat\":%" PRId64 ",\"iss\":", c->expires_s,
                  c->issued_s);
    kl_json_write_string(out, c->issuer);
    kl_buf_puts(out, KL_STR(",\"jti\":"));
    kl_json_write_string(out, c->id);
    kl_buf_puts(out, KL_STR(",\"kubernetes.io\":{\"namespace\":"));
    kl_json_write_string(out, c->ns);
    if (c->node.name.n)
        put_ref(out, "node", &c->node);
    if (c->pod.name.n)
        put_ref(out, "pod", &c->pod);
    if (c->secret.name.n)
        put_ref(out, "secret", &c->secret);
    put_ref(out, "serviceaccount", &c->account);
    if (c->warn_after_s)
        kl_buf_printf(out, ",\"warnafter\":%" PRId64, c->warn_after_s);
    kl_buf_printf(out, "},\"nbf\":%" PRId64 ",\"sub\":", c->not_before_s);
    kl_json_write_string(out, c->subject);
    kl_buf_putc(out, '}');
}

static int64_t date(const struct kl_value *v)
{
    if (kl_is(v, KL_FLOAT))
        return v->d > -9e15 && v->d < 9e15 ? (int64_t)v->d : 0;
    return kl_is(v, KL_INT) && v->i > -INT64_C(9000000000000000) && v->i < INT64_C(9000000000000000)
               ? v->i
               : 0;
}

static struct kl_claims_ref read_ref(const struct kl_value *v)
{
    return (struct kl_claims_ref){kl_text(kl_map_value(v, KL_STR("name"))),
                                  kl_text(kl_map_value(v, KL_STR("uid")))};
}

static int read_audiences(struct kl_arena *a, const struct kl_value *v, struct kl_claims *c)
{
    size_t n = kl_is(v, KL_STRING) ? 1 : kl_is(v, KL_ARRAY) ? kl_len(v) : 0;
    struct kl_str *s = kl_arena_zalloc(a, (n + 1) * sizeof *s);
    if (!s)
        return KL_ENOMEM;
    for (size_t i = 0; i < n; i++)
        s[i] = kl_text(kl_is(v, KL_STRING) ? v : kl_at(v, i));
    c->audiences = s;
    c->naudiences = n;
    return 0;
}

// kubernetes pkg/serviceaccount/legacy.go
static int read_legacy(const struct kl_value *json, struct kl_claims *c, struct kl_error *err)
{
    static const struct {
        const char *claim, *missing;
    } need[] = {
        {"sub", "sub claim is missing"},
        {"kubernetes.io/serviceaccount/namespace", "namespace claim is missing"},
        {"kubernetes.io/serviceaccount/secret.name", "secretName claim is missing"},
        {"kubernetes.io/serviceaccount/service-account.name",
         "serviceAccountName claim is missing"},
        {"kubernetes.io/serviceaccount/service-account.uid", "serviceAccountUID claim is missing"}};
    struct kl_str v[KL_COUNT(need)];
    for (size_t i = 0; i < KL_COUNT(need); i++)
        if (!(v[i] = kl_text(kl_map_value(json, kl_str(need[i].claim)))).n)
            return kl_error_set(err, KL_EUNAUTHORIZED, "%s", need[i].missing);
    c->ns = v[1];
    c->secret.name = v[2];
    c->account = (struct kl_claims_ref){v[3], v[4]};
    c->legacy = true;
    return 0;
}

int kl_claims_read(struct kl_arena *a, const struct kl_value *json, struct kl_claims *c,
                   struct kl_error *err)
{
    const struct kl_value *k = kl_map_value(json, KL_STR("kubernetes.io"));
    *c = (struct kl_claims){.issuer = kl_text(kl_map_value(json, KL_STR("iss"))),
                            .subject = kl_text(kl_map_value(json, KL_STR("sub"))),
                            .id = kl_text(kl_map_value(json, KL_STR("jti"))),
                            .expires_s = date(kl_map_value(json, KL_STR("exp"))),
                            .not_before_s = date(kl_map_value(json, KL_STR("nbf"))),
                            .issued_s = date(kl_map_value(json, KL_STR("iat"))),
                            .ns = kl_text(kl_map_value(k, KL_STR("namespace"))),
                            .account = read_ref(kl_map_value(k, KL_STR("serviceaccount"))),
                            .pod = read_ref(kl_map_value(k, KL_STR("pod"))),
                            .secret = read_ref(kl_map_value(k, KL_STR("secret"))),
                            .node = read_ref(kl_map_value(k, KL_STR("node"))),
                            .warn_after_s = date(kl_map_value(k, KL_STR("warnafter")))};
    if (read_audiences(a, kl_map_value(json, KL_STR("aud")), c))
        return kl_error_set(err, KL_ENOMEM, "token: out of memory");
    if (kl_str_eq(c->issuer, KL_LEGACY_ISSUER) && read_legacy(json, c, err))
        return KL_EUNAUTHORIZED;
    struct kl_str want = kl_arena_printf(a, "system:serviceaccount:%.*s:%.*s", KL_PRI(c->ns),
                                         KL_PRI(c->account.name));
    if (c->legacy && !kl_str_eq(want, c->subject))
        return kl_error_set(err, KL_EUNAUTHORIZED, "sub claim is invalid");
    if (!c->ns.n || !c->account.name.n || !c->account.uid.n || (!c->expires_s && !c->legacy) ||
        !kl_str_eq(want, c->subject))
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid bearer token");
    return 0;
}

int kl_claims_check_time(const struct kl_claims *c, int64_t now, struct kl_error *err)
{
    if (now + KL_CLAIMS_LEEWAY_S < c->not_before_s)
        return kl_error_set(err, KL_EUNAUTHORIZED, "service account token is not valid yet");
    if (now - KL_CLAIMS_LEEWAY_S > c->expires_s)
        return kl_error_set(err, KL_EUNAUTHORIZED, "service account token has expired");
    if (now + KL_CLAIMS_LEEWAY_S < c->issued_s)
        return kl_error_set(err, KL_EUNAUTHORIZED, "service account token is issued in the future");
    return 0;
}
