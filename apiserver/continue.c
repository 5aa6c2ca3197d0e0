// SPDX-License-Identifier: Apache-2.0
// Continue tokens: base64url of {"v":"meta.k8s.io/v1","rv":N,"start":"KEY"}, as upstream's, so
// that a token survives a change of server. The start is relative to the prefix of what was asked
// for, never to more: a token made up by a client reaches nothing that the request may not.
#include "apiserver/gather.h"
#include "object/json_kind.h"
#include <openssl/evp.h>

enum { CONTINUE_MAX = 4096 };

struct kl_str kl_continue_make(struct kl_arena *a, kl_rev rev, struct kl_str start)
{
    struct kl_buf b;
    kl_buf_init(&b, CONTINUE_MAX);
    kl_buf_printf(&b, "{\"v\":\"meta.k8s.io/v1\",\"rv\":%lld,\"start\":", (long long)rev);
    kl_json_write_string(&b, start);
    kl_buf_putc(&b, '}');
    char *out = b.err ? NULL : kl_arena_alloc(a, 4 * b.n / 3 + 8);
    size_t n = 0;
    if (out)
        n = (size_t)EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)b.p, (int)b.n);
    kl_buf_fini(&b);
    while (n && out[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++)
        out[i] = out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i];
    return (struct kl_str){out, n};
}

static int bad_token(struct kl_req *r, const char *why)
{
    kl_fail_bad(r, "invalid continue token: continue key is not valid%s", why ? why : "");
    return KL_EBADREQUEST;
}

// path.Clean leaves it as it is: what is appended to a prefix then stays below it.
static bool is_clean(struct kl_str start)
{
    struct kl_str part;
    if (start.n && start.p[0] == '/')
        start = kl_str_from(start, 1);
    while (kl_str_split(&start, '/', &part))
        if (!part.n || kl_str_eqz(part, ".") || kl_str_eqz(part, ".."))
            return false;
    return true;
}

// base64.RawURLEncoding; *ret_at is the first byte that is wrong.
static bool is_base64url(struct kl_str s, size_t *ret_at)
{
    for (*ret_at = 0; *ret_at < s.n; ++*ret_at) {
        char c = s.p[*ret_at];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_'))
            return false;
    }
    return s.n % 4 != 1;
}

// json.Unmarshal into the token's struct: its first member of another type.
static const char *wrong_member(struct kl_arena *a, const struct kl_value *v)
{
    static const struct {
        const char *name, *type;
        enum kl_value_kind kind;
    } members[] = {
        {"v", "string", KL_STRING}, {"rv", "int64", KL_INT}, {"start", "string", KL_STRING}};
    if (v->kind != KL_MAP)
        return v->kind == KL_NULL
                   ? NULL
                   : kl_arena_printf(a,
                                     ": json: cannot unmarshal %s into Go value of type "
                                     "storage.continueToken",
                                     kl_json_kind(v))
                         .p;
    for (size_t i = 0; i < KL_COUNT(members); i++) {
        const struct kl_value *m = kl_map_value(v, kl_str(members[i].name));
        if (m && m->kind != KL_NULL && m->kind != (uint32_t)members[i].kind)
            return kl_arena_printf(a,
                                   ": json: cannot unmarshal %s into Go struct field "
                                   "continueToken.%s of type %s",
                                   kl_json_kind(m), members[i].name, members[i].type)
                .p;
    }
    return NULL;
}

int kl_continue_parse(struct kl_req *r, struct kl_str token, kl_rev *ret_rev,
                      struct kl_str *ret_start)
{
    size_t n = token.n, padded = (n + 3) / 4 * 4, at;
    if (!n || n > CONTINUE_MAX)
        return bad_token(r, ": illegal base64 data");
    if (!is_base64url(token, &at))
        return bad_token(
            r, kl_arena_printf(r->arena, ": illegal base64 data at input byte %zu", at).p);
    char *in = kl_arena_alloc(r->arena, padded);
    unsigned char *out = in ? kl_arena_alloc(r->arena, padded) : NULL;
    struct kl_value v;
    struct kl_error err = {0};
    if (!out)
        return kl_fail_oom(r), KL_ENOMEM;
    for (size_t i = 0; i < padded; i++) {
        char ch = i < n ? token.p[i] : '=';
        in[i] = (char)(ch == '-' ? '+' : ch == '_' ? '/' : ch);
    }
    int got = EVP_DecodeBlock(out, (const unsigned char *)in, (int)padded);
    if (got < (int)(padded - n))
        return bad_token(r, ": illegal base64 data");
    struct kl_str text = {(char *)out, (size_t)got - (padded - n)};
    if (kl_json_parse(r->arena, text, NULL, &v, &err))
        return bad_token(r, kl_arena_printf(r->arena, ": %s", err.msg).p);
    const char *wrong = wrong_member(r->arena, &v);
    if (wrong)
        return bad_token(r, wrong);
    kl_rev rev = kl_int_or(kl_map_value(&v, KL_STR("rv")), 0);
    struct kl_str start = kl_text(kl_map_value(&v, KL_STR("start")));
    struct kl_str version = kl_text(kl_map_value(&v, KL_STR("v")));
    if (!kl_str_eqz(version, "meta.k8s.io/v1"))
        return bad_token(r, kl_arena_printf(r->arena,
                                            ": server does not recognize this encoded version %.*s",
                                            KL_PRI(version))
                                .p);
    if (!rev)
        return bad_token(r, ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)");
    if (!start.n)
        return bad_token(r, ": encoded start key empty (version meta.k8s.io/v1)");
    if (!is_clean(start))
        return bad_token(r, kl_arena_printf(r->arena, ": %.*s", KL_PRI(start)).p);
    *ret_rev = rev;
    *ret_start = start.p[0] == '/' ? kl_str_from(start, 1) : start;
    return 0;
}
