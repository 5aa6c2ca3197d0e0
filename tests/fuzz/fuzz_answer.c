// SPDX-License-Identifier: Apache-2.0
// What programs that a server asks answer; the first byte says which: M and V a mutating and a
// validating webhook's AdmissionReview (m and v: v1beta1), S any failed call's body, D an
// aggregated server's APIResourceList, O its index of OpenAPI documents, T the user of a
// TokenReview, R a TokenReview, A a SubjectAccessReview (a: of a webhook whose failure denies),
// E a program's ExecCredential (e: v1beta1), P an issuer's discovery document, K its keys; 1, 2 and
// 3 a KMS plug-in's Status, its answers to Encrypt and to Decrypt, 4 what is stored with its seed.
#include "fuzz.h"
#include "apiserver/admission/hooks_int.h"
#include "apiserver/aggregate/aggregate_int.h"
#include "apiserver/auth/authn_int.h"
#include "apiserver/auth/authz_int.h"
#include "apiserver/auth/exec_int.h"
#include "apiserver/auth/oidc_int.h"
#include "apiserver/encryption/kms_message.h"
#include "object/json.h"

static volatile unsigned sum;

static void try_review(struct kl_arena *a, struct kl_str body, bool mutating, int version)
{
    const struct kl_hook h = {.name = KL_STR("h.example.com"), .review = version};
    struct kl_review v;
    struct kl_error err = {0};
    int rc = kl_review_read(a, &h, mutating, "u", 200, body, &v, &err);
    if (rc) {
        FUZZ_CHECK(err.msg[0], "%d without words", rc);
        return;
    }
    FUZZ_CHECK(mutating || !v.patch.n, "a patch of a validating webhook");
    for (size_t i = 0; i < v.patch.n; i++) // it has all these bytes
        sum += (uint8_t)v.patch.p[i];
    struct kl_req r = {.arena = a};
    kl_review_deny(&r, h.name, v.result);
    FUZZ_CHECK(r.fail.http >= 400 && r.fail.http < 600 && r.fail.message.n, "%d", r.fail.http);
}

static void try_status(struct kl_arena *a, struct kl_str body)
{
    for (int status = 100; status < 700; status += 50)
        kl_webhook_status_text(a, status, body);
}

static void try_discovery(struct kl_arena *a, struct kl_str body)
{
    struct kl_bytes *b = kl_aggregate_resources(a, body, KL_STR("g.example.com"), KL_STR("v1"));
    struct kl_buf all;
    struct kl_str text = b ? kl_bytes_str(b) : KL_STR("");
    kl_buf_init(&all, 64 << 20);
    kl_buf_printf(&all, "[%.*s]", KL_PRI(text));
    FUZZ_CHECK(all.err || kl_json_compact(NULL, kl_buf_str(&all)), "no JSON: %.*s", KL_PRI(text));
    kl_buf_fini(&all);
    kl_bytes_unref(b);
}

static void try_openapi(struct kl_arena *a, struct kl_str body)
{
    struct kl_bytes *b = kl_aggregate_openapi_hash(a, body, "g.example.com", "v1");
    struct kl_str text = b ? kl_bytes_str(b) : KL_STR("");
    struct kl_str whole = kl_arena_printf(a, "\"%.*s\"", KL_PRI(text));
    FUZZ_CHECK(!whole.p || kl_json_compact(NULL, whole), "no JSON: %.*s", KL_PRI(text));
    kl_bytes_unref(b);
}

static void look_at(struct kl_str s) // it has all these bytes
{
    for (size_t i = 0; i < s.n; i++)
        sum += (uint8_t)s.p[i];
}

static void read_user(const struct kl_user *u)
{
    for (size_t i = 0; u && i < u->ngroups; i++)
        for (size_t k = 0; k < u->groups[i].n; k++)
            sum += (uint8_t)u->groups[i].p[k];
    for (size_t i = 0; u && i < u->nextra; i++)
        for (size_t k = 0; k < u->extra[i].nvalues; k++)
            sum += (unsigned)u->extra[i].key.n + (unsigned)u->extra[i].values[k].n;
}

static void try_user(struct kl_arena *a, struct kl_str body)
{
    struct kl_value v;
    struct kl_error err = {0};
    if (kl_json_parse(a, body, NULL, &v, &err))
        return;
    struct kl_user *u = kl_user_from(a, &v);
    read_user(u);
    kl_user_unref(u);
}

// Whatever it says, who asked is told why not, or who it is.
static void try_token_review(struct kl_str body)
{
    struct kl_reply out = {0};
    kl_arena_init(&out.arena, 64 << 20);
    kl_token_review_read(&out, body, 1000);
    FUZZ_CHECK(!out.code || (out.text.n && !out.known && !out.until_ms), "%d", out.code);
    FUZZ_CHECK(out.known == (out.user != NULL), "known: %d", out.known);
    look_at(out.text);
    read_user(out.user);
    for (size_t i = 0; i < out.naudiences; i++)
        look_at(out.audiences[i]);
    kl_user_unref(out.user);
    kl_arena_fini(&out.arena);
}

static void try_access_review(struct kl_str body, bool deny_on_failure)
{
    const struct kl_authorizer z = {
        .name = KL_STR("z"), .yes_ttl_ms = 1000, .deny_on_failure = deny_on_failure};
    struct kl_reply out = {0};
    kl_arena_init(&out.arena, 64 << 20);
    kl_access_review_read(&z, &out, body);
    FUZZ_CHECK(!out.code || (out.text.n && !out.until_ms && out.decision != KL_ALLOW), "%d of %d",
               out.decision, out.code);
    FUZZ_CHECK(!out.code || !deny_on_failure || out.decision == KL_DENY, "%d", out.decision);
    FUZZ_CHECK(out.decision == KL_ALLOW || !out.until_ms, "kept");
    look_at(out.text);
    kl_arena_fini(&out.arena);
}

static void try_exec(struct kl_arena *a, struct kl_str body, const char *version)
{
    struct kl_exec_cred *c = calloc(1, sizeof *c);
    struct kl_error err = {0};
    FUZZ_CHECK(c, "no memory");
    atomic_init(&c->refs, 1);
    int rc = kl_exec_read_output(a, body, version, c, &err);
    FUZZ_CHECK(!rc == !err.msg[0], "%d: %s", rc, err.msg);
    FUZZ_CHECK(rc || (!c->cert == !c->key && (c->cert || c->authorization)), "half of a pair");
    FUZZ_CHECK(rc || !c->authorization || !strpbrk(c->authorization, "\r\n"), "two headers");
    kl_exec_cred_unref(c);
}

static void try_discovery_document(struct kl_arena *a, struct kl_str body)
{
    struct kl_str uri = {NULL, 0};
    struct kl_error err = {0};
    int rc = kl_oidc_discovery_read(a, body, KL_STR("https://i.example.com"), &uri, &err);
    FUZZ_CHECK(rc ? err.msg[0] != 0 : uri.n > 0, "%d", rc);
    look_at(uri);
}

static void try_keys(struct kl_str body)
{
    struct kl_jwt_keys keys = {0};
    struct kl_error err = {0};
    int rc = kl_jwt_keys_from_jwks(&keys, body, &err);
    FUZZ_CHECK(keys.n <= KL_JWT_KEYS_MAX && !rc == !err.msg[0], "%d: %s", rc, err.msg);
    for (size_t i = 0; i < keys.n; i++)
        FUZZ_CHECK(keys.v[i].kid && kl_jwt_key_alg(&keys.v[i]) &&
                       keys.v[i].ec_bytes == kl_jwt_ec_bytes(keys.v[i].key),
                   "key %zu", i);
    kl_jwt_keys_fini(&keys);
}

static void check_object(struct kl_arena *a, struct kl_kms_object *o, const unsigned char *id)
{
    unsigned char again_id[KL_KMS_ID_BYTES];
    struct kl_kms_object again;
    struct kl_error err = {0};
    struct kl_buf b;
    kl_buf_init(&b, 64 << 20);
    if (!o->data.n)
        o->data = KL_STR("x");
    kl_kms_object_write(&b, o);
    FUZZ_CHECK(!b.err && !kl_kms_object_read(a, kl_buf_str(&b), &again, again_id, &err), "%s",
               err.msg);
    FUZZ_CHECK(!memcmp(id, again_id, sizeof again_id) && kl_str_eq(o->data, again.data) &&
                   kl_str_eq(o->source, again.source) && kl_str_eq(o->key_id, again.key_id) &&
                   o->n_annotations == again.n_annotations,
               "another one");
    for (size_t i = 0; i < o->n_annotations; i++)
        FUZZ_CHECK(kl_str_eq(o->annotations[i].key, again.annotations[i].key) &&
                       kl_str_eq(o->annotations[i].value, again.annotations[i].value),
                   "annotation %zu", i);
    kl_buf_fini(&b);
}

static void try_kms(struct kl_arena *a, struct kl_str body, char what)
{
    unsigned char bytes[KL_KMS_ID_BYTES];
    struct kl_kms_object o;
    struct kl_str key_id = {NULL, 0};
    struct kl_error err = {0};
    int rc = what == '1'   ? kl_kms_read_status(a, body, &key_id, &err)
             : what == '2' ? kl_kms_read_encrypted(a, body, &o, bytes, &err)
             : what == '3' ? kl_kms_read_decrypted(a, body, bytes, &err)
                           : kl_kms_object_read(a, body, &o, bytes, &err);
    FUZZ_CHECK(!rc == !err.msg[0], "%d: %s", rc, err.msg);
    look_at(key_id);
    if (rc)
        return;
    if (what == '1')
        FUZZ_CHECK(key_id.n && key_id.n <= KL_KMS_KEY_ID_MAX, "%zu", key_id.n);
    else if (what == '2' || what == '4')
        check_object(a, &o, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_arena a;
    if (!size)
        return 0;
    struct kl_str body = {(const char *)data + 1, size - 1};
    kl_arena_init(&a, 64 << 20);
    switch (data[0]) {
    case 'M':
    case 'm':
    case 'V':
    case 'v':
        try_review(&a, body, data[0] == 'M' || data[0] == 'm', data[0] < 'a' ? 1 : 2);
        break;
    case 'S':
        try_status(&a, body);
        break;
    case 'D':
        try_discovery(&a, body);
        break;
    case 'O':
        try_openapi(&a, body);
        break;
    case 'T':
        try_user(&a, body);
        break;
    case 'R':
        try_token_review(body);
        break;
    case 'A':
    case 'a':
        try_access_review(body, data[0] == 'a');
        break;
    case 'E':
    case 'e':
        try_exec(&a, body,
                 data[0] == 'E' ? "client.authentication.k8s.io/v1"
                                : "client.authentication.k8s.io/v1beta1");
        break;
    case 'P':
        try_discovery_document(&a, body);
        break;
    case 'K':
        try_keys(body);
        break;
    case '1':
    case '2':
    case '3':
    case '4':
        try_kms(&a, body, (char)data[0]);
        break;
    default:
        break;
    }
    kl_arena_fini(&a);
    return 0;
}
