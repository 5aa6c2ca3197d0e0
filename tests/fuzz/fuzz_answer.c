// SPDX-License-Identifier: Apache-2.0
// What programs that a server asks answer; the first byte says which: M and V a mutating and a
// validating webhook's AdmissionReview (m and v: v1beta1), S any failed call's body, D an
// aggregated server's APIResourceList, O its index of OpenAPI documents, T the user of a
// TokenReview.
#include "fuzz.h"
#include "apiserver/admission/hooks_int.h"
#include "apiserver/aggregate/aggregate_int.h"
#include "apiserver/auth/authn_int.h"
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

static void try_user(struct kl_arena *a, struct kl_str body)
{
    struct kl_value v;
    struct kl_error err = {0};
    if (kl_json_parse(a, body, NULL, &v, &err))
        return;
    struct kl_user *u = kl_user_from(a, &v);
    for (size_t i = 0; u && i < u->ngroups; i++)
        for (size_t k = 0; k < u->groups[i].n; k++)
            sum += (uint8_t)u->groups[i].p[k];
    for (size_t i = 0; u && i < u->nextra; i++)
        for (size_t k = 0; k < u->extra[i].nvalues; k++)
            sum += (unsigned)u->extra[i].key.n + (unsigned)u->extra[i].values[k].n;
    kl_user_unref(u);
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
    default:
        break;
    }
    kl_arena_fini(&a);
    return 0;
}
