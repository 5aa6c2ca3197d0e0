// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/csr.h"
#include "base/clock.h"
#include "net/csr.h"
#include "object/names.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

enum { MIN_EXPIRATION_S = 600, MAX_USAGES = 64 };

static const char *const usages[] = {"any",
                                     "cert sign",
                                     "client auth",
                                     "code signing",
                                     "content commitment",
                                     "crl sign",
                                     "data encipherment",
                                     "decipher only",
                                     "digital signature",
                                     "email protection",
                                     "encipher only",
                                     "ipsec end system",
                                     "ipsec tunnel",
                                     "ipsec user",
                                     "key agreement",
                                     "key encipherment",
                                     "microsoft sgc",
                                     "netscape sgc",
                                     "ocsp signing",
                                     "s/mime",
                                     "server auth",
                                     "signing",
                                     "timestamping",
                                     NULL};

// ---- what was sent

static int check_request(struct kl_str pem, struct kl_error *err)
{
    struct kl_csr c;
    int rc = kl_csr_parse(pem, &c, err);
    if (rc)
        return rc;
    rc = kl_csr_verify(&c, err);
    kl_csr_fini(&c);
    return rc;
}

static void check_usages(struct kl_field_errors *e, const struct kl_value *list)
{
    struct kl_str at = KL_STR("spec.usages");
    if (!kl_len(list))
        kl_field_required(e, at, "");
    for (size_t i = 0; i < kl_len(list) && i < MAX_USAGES; i++) {
        struct kl_str s = kl_text(kl_at(list, i)),
                      here = kl_arena_printf(e->arena, "spec.usages[%zu]", i);
        size_t k = 0;
        while (usages[k] && !kl_str_eqz(s, usages[k]))
            k++;
        if (!usages[k])
            kl_field_unsupported(e, here, s, usages);
        for (size_t j = 0; j < i; j++)
            if (kl_str_eq(s, kl_text(kl_at(list, j)))) {
                kl_field_duplicate(e, here, s);
                break;
            }
    }
}

// DOMAIN/PATH: example.com/one.two
static void check_signer(struct kl_field_errors *e, struct kl_str name)
{
    struct kl_str at = KL_STR("spec.signerName");
    ptrdiff_t slash = kl_str_chr(name, '/');
    if (!name.n) {
        kl_field_required(e, at, "");
        return;
    }
    if (slash < 0) {
        kl_field_invalid(e, at, name,
                         "must be a fully qualified domain and path of the form "
                         "'example.com/signer-name'");
        return;
    }
    struct kl_str domain = {name.p, (size_t)slash}, path = kl_str_from(name, (size_t)slash + 1);
    const char *why = kl_name_dns1123_subdomain(domain);
    if (why)
        kl_field_invalid(e, at, domain, why);
    else if (kl_str_chr(domain, '.') < 0)
        kl_field_invalid(e, at, domain,
                         "should be a domain with at least two segments separated by dots");
    if ((why = kl_name_dns1123_subdomain(path)))
        kl_field_invalid(e, at, path, why);
    if (kl_str_eqz(name, "kubernetes.io/legacy-unknown"))
        kl_field_invalid(e, at, name, "the legacy signerName is not allowed via this API version");
}

static int check_spec(struct kl_req *r, const struct kl_value *csr)
{
    struct kl_field_errors e = {.arena = r->arena};
    const struct kl_value *spec = kl_get(csr, KL_F_spec),
                          *expiration = kl_get(spec, KL_F_expirationSeconds);
    struct kl_error why = {0};
    if (check_request(kl_text(kl_get(spec, KL_F_request)), &why))
        kl_field_error(&e, "FieldValueInvalid", KL_STR("spec.request"),
                       "Invalid value: \"<omitted>\": %s", why.msg);
    check_usages(&e, kl_get(spec, KL_F_usages));
    check_signer(&e, kl_text(kl_get(spec, KL_F_signerName)));
    if (expiration && expiration->kind != KL_NULL && kl_int_or(expiration, 0) < MIN_EXPIRATION_S)
        kl_field_error(&e, "FieldValueInvalid", KL_STR("spec.expirationSeconds"),
                       "Invalid value: %lld: may not specify a duration less than 600 seconds (10 "
                       "minutes)",
                       (long long)kl_int_or(expiration, 0));
    if (!e.n)
        return 0;
    kl_fail_invalid(r, KL_STR("CertificateSigningRequest"), KL_STR("certificates.k8s.io"),
                    kl_meta_name(csr), &e);
    return KL_EINVALID;
}

// ---- who sent it

static int put_user(struct kl_req *r, struct kl_value *spec)
{
    struct kl_arena *a = r->arena;
    const struct kl_user *u = r->user;
    struct kl_value groups = kl_new_array(), extra = kl_new_map();
    int rc = kl_set(a, spec, KL_F_username, kl_string(u->name));
    if (!rc)
        rc = kl_set(a, spec, KL_F_uid, kl_string(u->uid));
    for (size_t i = 0; i < u->ngroups && !rc; i++)
        rc = kl_append(a, &groups, kl_string(u->groups[i]));
    if (!rc)
        rc = kl_set(a, spec, KL_F_groups, groups);
    for (size_t i = 0; i < u->nextra && !rc; i++) {
        struct kl_value list = kl_new_array();
        for (size_t k = 0; k < u->extra[i].nvalues && !rc; k++)
            rc = kl_append(a, &list, kl_string(u->extra[i].values[k]));
        if (!rc)
            rc = kl_map_set_value(a, &extra, u->extra[i].key, list);
    }
    if (!rc)
        rc = u->nextra ? kl_set(a, spec, KL_F_extra, extra) : kl_unset(a, spec, KL_F_extra);
    return rc;
}

int kl_csr_prepare_create(struct kl_req *r, struct kl_value *draft)
{
    struct kl_value *spec = kl_edit(r->arena, draft, KL_F_spec, KL_STRUCT);
    if (!spec || put_user(r, spec)) {
        kl_fail_oom(r);
        return KL_ENOMEM;
    }
    return check_spec(r, draft);
}

// ---- conditions

static bool is_decision(struct kl_str type)
{
    return kl_str_eqz(type, "Approved") || kl_str_eqz(type, "Denied");
}

static const struct kl_value *find(const struct kl_value *list, struct kl_str type)
{
    for (KL_EACH(c, list))
        if (kl_str_eq(kl_text(kl_get(c, KL_F_type)), type))
            return c;
    return NULL;
}

static int set_times(struct kl_req *r, struct kl_value *list, const struct kl_value *old)
{
    struct kl_arena *a = r->arena;
    struct kl_value now = kl_time(kl_wall_ms() / 1000 * 1000000);
    for (size_t i = 0; i < kl_len(list); i++) {
        struct kl_value *c = kl_edit_at(a, list, i);
        const struct kl_value *was = find(old, kl_text(kl_get(c, KL_F_type))),
                              *since = kl_get(was, KL_F_lastTransitionTime);
        if (!c)
            return KL_ENOMEM;
        bool same = was && since &&
                    kl_str_eq(kl_text(kl_get(was, KL_F_status)), kl_text(kl_get(c, KL_F_status)));
        if (!kl_get(c, KL_F_lastUpdateTime) && kl_set(a, c, KL_F_lastUpdateTime, now))
            return KL_ENOMEM;
        if (!kl_get(c, KL_F_lastTransitionTime) &&
            kl_set(a, c, KL_F_lastTransitionTime, same ? *since : now))
            return KL_ENOMEM;
    }
    return 0;
}

// A decision, once made, stays; only approval makes one; and the certificate is the signer's.
static void check_conditions(struct kl_field_errors *e, bool approval, const struct kl_value *now,
                             const struct kl_value *old)
{
    static const char *const types[] = {"Approved", "Denied", "Failed"};
    const struct kl_str at = KL_STR("status.conditions");
    for (size_t i = 0; i < KL_COUNT(types); i++) {
        struct kl_str t = kl_str(types[i]);
        bool has = find(now, t), had = find(old, t);
        if (had && !has)
            kl_field_error(e, "FieldValueForbidden", at,
                           "Forbidden: updates may not remove a condition of type \"%s\"",
                           types[i]);
        if (has && !had && is_decision(t) && !approval)
            kl_field_error(e, "FieldValueForbidden", at,
                           "Forbidden: updates may not add a condition of type \"%s\"", types[i]);
    }
    if (find(now, KL_STR("Approved")) && find(now, KL_STR("Denied")))
        kl_field_error(e, "FieldValueInvalid", at,
                       "Invalid value: \"Approved\": Approved and Denied conditions are mutually "
                       "exclusive");
    for (size_t i = 0; i < kl_len(now); i++) {
        const struct kl_value *c = kl_at(now, i);
        struct kl_str type = kl_text(kl_get(c, KL_F_type)),
                      status = kl_text(kl_get(c, KL_F_status));
        bool own = is_decision(type) || kl_str_eqz(type, "Failed");
        struct kl_str sat = kl_arena_printf(e->arena, "status.conditions[%zu].status", i);
        if (!type.n)
            kl_field_required(e, kl_arena_printf(e->arena, "status.conditions[%zu].type", i), "");
        if (!status.n)
            kl_field_required(e, sat, "");
        else if (own && !kl_str_eqz(status, "True"))
            kl_field_error(e, "FieldValueNotSupported", sat,
                           "Unsupported value: \"%.*s\": supported values: \"True\"",
                           KL_PRI(status));
    }
}

static const char *bad_certificate(struct kl_str pem)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    X509 *x = b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
    bool ok = x != NULL;
    X509_free(x);
    BIO_free(b);
    ERR_clear_error();
    return ok ? NULL : "must contain at least one CERTIFICATE PEM block";
}

int kl_csr_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    struct kl_arena *a = r->arena;
    bool approval = kl_str_eqz(r->info.sub, "approval"), status = kl_str_eqz(r->info.sub, "status");
    const struct kl_value *was = kl_get(old, KL_F_status),
                          *conditions_were = kl_get(was, KL_F_conditions),
                          *cert_was = kl_get(was, KL_F_certificate);
    if (!approval && !status) { // requests do not change
        const struct kl_value *spec = kl_get(old, KL_F_spec);
        if (spec && kl_set(a, draft, KL_F_spec, *spec))
            return kl_fail_oom(r), KL_ENOMEM;
        return 0;
    }
    struct kl_value *now = kl_edit(a, draft, KL_F_status, KL_STRUCT),
                    *list = now ? kl_edit(a, now, KL_F_conditions, KL_ARRAY) : NULL;
    if (!list || set_times(r, list, conditions_were))
        return kl_fail_oom(r), KL_ENOMEM;
    if (approval && (cert_was ? kl_set(a, now, KL_F_certificate, *cert_was)
                              : kl_unset(a, now, KL_F_certificate)))
        return kl_fail_oom(r), KL_ENOMEM;
    struct kl_field_errors e = {.arena = a};
    struct kl_str cert = kl_text(kl_get(now, KL_F_certificate));
    list = kl_edit(a, now, KL_F_conditions, KL_ARRAY);
    check_conditions(&e, approval, list, conditions_were);
    if (status && kl_text(cert_was).n && !kl_str_eq(cert, kl_text(cert_was)))
        kl_field_error(&e, "FieldValueForbidden", KL_STR("status.certificate"),
                       "Forbidden: updates may not %s a set certificate value",
                       cert.n ? "modify" : "clear");
    else if (status && cert.n && !kl_text(cert_was).n && bad_certificate(cert))
        kl_field_error(&e, "FieldValueInvalid", KL_STR("status.certificate"),
                       "Invalid value: \"<certificate data>\": %s", bad_certificate(cert));
    if (!e.n)
        return 0;
    kl_fail_invalid(r, KL_STR("CertificateSigningRequest"), KL_STR("certificates.k8s.io"),
                    kl_meta_name(old), &e);
    return KL_EINVALID;
}
