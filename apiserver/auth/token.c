// SPDX-License-Identifier: Apache-2.0
// serviceaccounts/token: signs a token for an account (kubernetes pkg/registry/core/serviceaccount
// storage/token.go, with --service-account-extend-token-expiration as by default).
#include "apiserver/admission/admission.h"
#include "apiserver/auth/authn_int.h"
#include "base/clock.h"
#include "base/rand.h"
#include "object/defaults.h"
#include <inttypes.h>

enum {
    MIN_AGE_S = 600,
    WARN_ONLY_AGE_S = 3607,           // what the admission plug-in asks for pods
    EXTENDED_AGE_S = 365 * 24 * 3600, // what such tokens get, with a warning time
};
#define MAX_AGE_S (INT64_C(1) << 32)

struct mint {
    struct kl_req *r;
    struct kl_admit ad;
    struct kl_value body;
    const struct kl_value *account, *pod, *secret, *node;
    struct kl_str pod_node; // a pod's node that is not there any more
    struct kl_str bound_uid;
};

static const struct kl_value *read_object(struct kl_req *r, uint16_t res, struct kl_str ns,
                                          struct kl_str name)
{
    struct kl_object *o = kl_api_object(r->al, r->arena, res, ns, name);
    return o ? &o->root : NULL;
}

static const struct kl_value *find(struct kl_req *r, uint16_t res, struct kl_str ns,
                                   struct kl_str name)
{
    const struct kl_value *o = name.n ? read_object(r, res, ns, name) : NULL;
    if (!o)
        kl_fail_not_found_of(r, kl_str(kl_res(res)->group), kl_str(kl_res(res)->plural), name);
    return o;
}

static int invalid(struct kl_req *r, struct kl_str name, struct kl_field_errors *e)
{
    kl_fail_invalid(r, KL_STR("TokenRequest"), KL_STR("authentication.k8s.io"), name, e);
    return KL_EINVALID;
}

static int conflict(struct kl_req *r, const char *group, struct kl_str kind, struct kl_str name,
                    struct kl_str why)
{
    struct kl_str n = kl_arena_printf(r->arena, "%.*s%s%s", KL_PRI(kind), *group ? "." : "", group);
    struct kl_fail *f =
        kl_fail_set(r, 409, "Conflict", "Operation cannot be fulfilled on %.*s \"%.*s\": %.*s",
                    KL_PRI(n), KL_PRI(name), KL_PRI(why));
    f->group = kl_str(group);
    f->kind = kind;
    f->name = name;
    return KL_ECONFLICT;
}

static int check_meta(struct mint *m)
{
    struct kl_req *r = m->r;
    struct kl_field_errors e = {.arena = r->arena};
    struct kl_str name = kl_meta_name(&m->body), uid = kl_meta_uid(&m->body);
    if (name.n && !kl_str_eq(name, r->info.name)) {
        kl_field_invalid(&e, KL_STR("metadata.name"), name,
                         "must match the service account name if specified");
        return invalid(r, r->info.name, &e);
    }
    if (!(m->account = find(r, KL_RES_core_v1_serviceaccounts, r->info.ns, r->info.name)))
        return KL_ENOTFOUND;
    struct kl_str real = kl_meta_uid(m->account);
    if (uid.n && !kl_str_eq(uid, real))
        return conflict(
            r, "authentication.k8s.io", KL_STR("TokenRequest"), r->info.name,
            kl_arena_printf(r->arena,
                            "the UID in the token request (%.*s) does not match the UID "
                            "of the service account (%.*s)",
                            KL_PRI(uid), KL_PRI(real)));
    return 0;
}

static int check_age(struct mint *m, int64_t age)
{
    struct kl_field_errors e = {.arena = m->r->arena};
    const char *why = age < MIN_AGE_S   ? "may not specify a duration less than 10 minutes"
                      : age > MAX_AGE_S ? "may not specify a duration larger than 2^32 seconds"
                                        : NULL;
    if (!why)
        return 0;
    kl_field_error(&e, "FieldValueInvalid", KL_STR("spec.expirationSeconds"),
                   "Invalid value: %" PRId64 ": %s", age, why);
    return invalid(m->r, KL_STR(""), &e);
}

static int bind_pod(struct mint *m, struct kl_str name)
{
    struct kl_req *r = m->r;
    if (!(m->pod = find(r, KL_RES_core_v1_pods, r->info.ns, name)))
        return KL_ENOTFOUND;
    if (!kl_str_eq(kl_text_at(m->pod, KL_F_spec, KL_F_serviceAccountName), r->info.name)) {
        kl_fail_bad(r,
                    "cannot bind token for serviceaccount \"%.*s\" to pod running with different "
                    "serviceaccount name.",
                    KL_PRI(r->info.name));
        return KL_EBADREQUEST;
    }
    m->bound_uid = kl_meta_uid(m->pod);
    m->pod_node = kl_text_at(m->pod, KL_F_spec, KL_F_nodeName);
    if (m->pod_node.n)
        m->node = read_object(r, KL_RES_core_v1_nodes, KL_STR(""), m->pod_node);
    return 0;
}

static int bind_object(struct mint *m, const struct kl_value *ref)
{
    struct kl_req *r = m->r;
    struct kl_str kind = kl_text(kl_get(ref, KL_F_kind)), name = kl_text(kl_get(ref, KL_F_name)),
                  av = kl_text(kl_get(ref, KL_F_apiVersion)), uid = kl_text(kl_get(ref, KL_F_uid));
    int rc = 0;
    bool core = kl_str_chr(av, '/') < 0;
    if (core && kl_str_eqz(kind, "Pod")) {
        rc = bind_pod(m, name);
    } else if (core && kl_str_eqz(kind, "Node")) {
        if ((m->node = find(r, KL_RES_core_v1_nodes, KL_STR(""), name)))
            m->bound_uid = kl_meta_uid(m->node);
        else
            rc = KL_ENOTFOUND;
    } else if (core && kl_str_eqz(kind, "Secret")) {
        if ((m->secret = find(r, KL_RES_core_v1_secrets, r->info.ns, name)))
            m->bound_uid = kl_meta_uid(m->secret);
        else
            rc = KL_ENOTFOUND;
    } else {
        ptrdiff_t slash = kl_str_chr(av, '/');
        struct kl_str group = {av.p, slash < 0 ? 0 : (size_t)slash},
                      version = slash < 0 ? av : kl_str_from(av, (size_t)slash + 1);
        kl_fail_bad(r, "cannot bind token to object of type %.*s/%.*s, Kind=%.*s", KL_PRI(group),
                    KL_PRI(version), KL_PRI(kind));
        return KL_EBADREQUEST;
    }
    if (rc || !uid.n || kl_str_eq(uid, m->bound_uid))
        return rc;
    return conflict(
        r, "", kind, name,
        kl_arena_printf(r->arena,
                        "the UID in the bound object reference (%.*s) does not match the "
                        "UID in record. The object might have been deleted and then "
                        "recreated",
                        KL_PRI(uid)));
}

static const struct kl_str *audiences_of(struct mint *m, struct kl_value *spec, size_t *ret_n)
{
    struct kl_arena *a = m->r->arena;
    const struct kl_value *given = kl_get(spec, KL_F_audiences);
    size_t n = kl_len(given);
    struct kl_str *s = kl_arena_alloc(a, (n + 1) * sizeof *s);
    if (!s)
        return NULL;
    for (size_t i = 0; i < n; i++)
        s[i] = kl_text(kl_at(given, i));
    if (!n) {
        const struct kl_authn *au = m->r->srv->authn;
        struct kl_value list = kl_new_array();
        if (!(s = kl_arena_alloc(a, au->naudiences * sizeof *s)))
            return NULL;
        for (; n < au->naudiences; n++) {
            s[n] = au->audiences[n];
            if (kl_append(a, &list, kl_string(s[n])))
                return NULL;
        }
        if (kl_set(a, spec, KL_F_audiences, list))
            return NULL;
    }
    *ret_n = n;
    return s;
}

static bool only_own(const struct kl_authn *n, const struct kl_str *aud, size_t naud)
{
    for (size_t i = 0; i < naud; i++) {
        size_t k = 0;
        while (k < n->naudiences && !kl_str_eq(aud[i], n->audiences[k]))
            k++;
        if (k == n->naudiences)
            return false;
    }
    return true;
}

static struct kl_claims_ref ref_of(const struct kl_value *o)
{
    return (struct kl_claims_ref){kl_meta_name(o), kl_meta_uid(o)};
}

static int sign(struct mint *m, int64_t now_s, int64_t age, const struct kl_str *aud, size_t naud,
                struct kl_str *ret_token)
{
    struct kl_req *r = m->r;
    const struct kl_authn *n = r->srv->authn;
    char id[37];
    kl_uuid(id);
    struct kl_claims c = {.issuer = n->issuers[0],
                          .id = kl_str(id),
                          .ns = r->info.ns,
                          .account = ref_of(m->account),
                          .issued_s = now_s,
                          .not_before_s = now_s,
                          .expires_s = now_s + age,
                          .audiences = aud,
                          .naudiences = naud};
    c.subject = kl_arena_printf(r->arena, "system:serviceaccount:%.*s:%.*s", KL_PRI(c.ns),
                                KL_PRI(c.account.name));
    if (m->pod)
        c.pod = ref_of(m->pod);
    if (m->secret)
        c.secret = ref_of(m->secret);
    if (m->node)
        c.node = ref_of(m->node);
    else
        c.node.name = m->pod_node;
    if (n->settings->service_account_extend_token_expiration && m->pod && age == WARN_ONLY_AGE_S &&
        only_own(n, aud, naud)) {
        c.warn_after_s = now_s + age;
        c.expires_s = now_s + EXTENDED_AGE_S;
    }
    struct kl_buf claims, out;
    struct kl_error err = {0};
    kl_buf_init(&claims, KL_TOKEN_MAX_BYTES / 2);
    kl_buf_init(&out, KL_TOKEN_MAX_BYTES);
    kl_claims_write(&c, &claims);
    int rc = claims.err ? kl_error_set(&err, KL_ETOOLARGE, "token is too long")
                        : kl_jwt_sign(n, kl_buf_str(&claims), &out, &err);
    if (!rc) {
        *ret_token = kl_arena_dup(r->arena, kl_buf_str(&out));
        if (!ret_token->p)
            rc = kl_error_set(&err, KL_ENOMEM, "token: out of memory");
    }
    kl_buf_fini(&claims);
    kl_buf_fini(&out);
    if (rc)
        kl_fail_err(r, &err);
    return rc;
}

static int answer(struct mint *m, int64_t now_s, int64_t age, struct kl_str token)
{
    struct kl_arena *a = m->r->arena;
    struct kl_value status = kl_new_struct(),
                    *meta = kl_edit(a, &m->body, KL_F_metadata, KL_STRUCT);
    if (!meta || kl_set(a, meta, KL_F_name, kl_string(kl_meta_name(m->account))) ||
        kl_set(a, meta, KL_F_namespace, kl_string(m->r->info.ns)) ||
        kl_set(a, meta, KL_F_uid, kl_string(kl_meta_uid(m->account))) ||
        kl_set(a, meta, KL_F_creationTimestamp, kl_time(now_s * 1000000)) ||
        kl_set(a, &status, KL_F_token, kl_string(token)) ||
        kl_set(a, &status, KL_F_expirationTimestamp, kl_time((now_s + age) * 1000000)) ||
        kl_set(a, &m->body, KL_F_status, status)) {
        kl_fail_oom(m->r);
        return KL_ENOMEM;
    }
    return 0;
}

// --service-account-max-token-expiration
static int shorten(struct mint *m, struct kl_value *spec, int64_t most, int64_t *age)
{
    struct kl_arena *a = m->r->arena;
    if (most <= 0 || *age <= most)
        return 0;
    struct kl_str why = kl_arena_printf(
        a, "requested expiration of %" PRId64 " seconds shortened to %" PRId64 " seconds", *age,
        most);
    if (!why.p || kl_set(a, spec, KL_F_expirationSeconds, kl_int(most))) {
        kl_fail_oom(m->r);
        return KL_ENOMEM;
    }
    kl_req_warn(m->r, why);
    *age = most;
    return 0;
}

static int read_body(struct mint *m)
{
    struct kl_req *r = m->r;
    struct kl_error err = {0};
    int rc = kl_body_decode(r, r->info.subres->type, r->info.res, &m->body, &err);
    if (rc || (rc = kl_default_object(r->arena, r->info.subres->type, &m->body))) {
        if (!err.code)
            kl_error_set(&err, rc, "%s", kl_err_text(rc));
        kl_fail_err(r, &err);
    }
    return rc;
}

static int run(struct mint *m)
{
    struct kl_req *r = m->r;
    int64_t now_s = kl_wall_ms() / 1000;
    size_t naud;
    struct kl_str token;
    int rc;
    struct kl_value *spec = kl_edit(r->arena, &m->body, KL_F_spec, KL_STRUCT);
    const struct kl_str *aud = spec ? audiences_of(m, spec, &naud) : NULL;
    if (!aud) {
        kl_fail_oom(r);
        return KL_ENOMEM;
    }
    int64_t age = kl_int_or(kl_get(spec, KL_F_expirationSeconds), 3600),
            most = r->srv->authn->settings->service_account_max_token_expiration_ms / 1000;
    const struct kl_value *ref = kl_get(spec, KL_F_boundObjectRef);
    if ((rc = check_meta(m)) || (rc = check_age(m, age)) ||
        (ref && ref->kind != KL_NULL && (rc = bind_object(m, ref))) ||
        (rc = shorten(m, spec, most, &age)) || (rc = sign(m, now_s, age, aud, naud, &token)))
        return rc;
    return answer(m, now_s, age, token);
}

static void admitted(struct kl_admit *ad)
{
    struct mint *m = KL_CONTAINER_OF(ad, struct mint, ad);
    struct kl_req *r = m->r;
    if (run(m))
        kl_req_fail(r);
    else
        kl_req_ok_value(r, 201, r->info.subres->type, "authentication.k8s.io/v1", "TokenRequest",
                        m->body);
}

void kl_token_request_run(struct kl_req *r)
{
    struct mint *m = KL_ARENA_NEW(r->arena, struct mint);
    if (m)
        *m = (struct mint){.r = r, .pod_node = KL_STR("")};
    else
        kl_fail_oom(r);
    if (!m || read_body(m)) {
        kl_req_fail(r);
        return;
    }
    kl_admit_init(&m->ad, r, KL_ADMIT_CREATE);
    kl_admit_own_kind(&m->ad, r->info.subres->type, "authentication.k8s.io/v1", "TokenRequest");
    m->ad.draft = &m->body;
    kl_admit_run(&m->ad, admitted);
}
