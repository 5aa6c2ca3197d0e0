// SPDX-License-Identifier: Apache-2.0
// certificates.k8s.io: CertificateSigningRequests.
#include "object/schema.h"
#include "object/types_gen.h"
#include "object/validate/pod_int.h"

enum { MIN_DURATION_S = 600 };

static const char *const decided[] = {"Approved", "Denied", "Failed", NULL};

// What an update may do; what is bad already may stay.
struct allowed {
    bool approval, certificate;
    bool both, duplicates, empty_type, odd_certificate, odd_usages, duplicate_usages, legacy_signer;
};

// ---- PEM: the type of the next block, which ends before *rest; false when there is none

static bool next_block(struct kl_str *rest, struct kl_str *type)
{
    static const char begin[] = "-----BEGIN ", end[] = "-----END ", dashes[] = "-----";
    const char *p = rest->p, *stop = rest->p + rest->n;
    while (p && (p = memmem(p, (size_t)(stop - p), begin, sizeof begin - 1))) {
        const char *name = p + sizeof begin - 1;
        const char *close = memmem(name, (size_t)(stop - name), dashes, 5);
        const char *last =
            close ? memmem(close, (size_t)(stop - close), end, sizeof end - 1) : NULL;
        size_t n = close ? (size_t)(close - name) : 0;
        bool line = p == rest->p || p[-1] == '\n';
        if (line && last && (size_t)(stop - last) >= sizeof end - 1 + n + 5 &&
            !memcmp(last + sizeof end - 1, name, n) &&
            !memcmp(last + sizeof end - 1 + n, dashes, 5)) {
            *type = (struct kl_str){name, n};
            const char *after = last + sizeof end - 1 + n + 5;
            *rest = (struct kl_str){after, (size_t)(stop - after)};
            return true;
        }
        p = name;
    }
    return false;
}

static void check_request(struct kl_v *c)
{
    const struct kl_value *request = kl_get(kl_v_spec(c), KL_F_request);
    struct kl_str rest = kl_text(request), type;
    const char *why = "PEM block type must be CERTIFICATE REQUEST";
    if (next_block(&rest, &type) && kl_str_eqz(type, "CERTIFICATE REQUEST"))
        why = c->f->bad_pem ? c->f->bad_pem(c->f->arena, true, kl_text(request)) : NULL;
    if (why)
        kl_v_invalid_json(
            c, F(&c->spec, request),
            kl_type_field(kl_type(KL_TYPE_certificates_v1_CertificateSigningRequestSpec),
                          KL_F_request)
                ->type,
            request, false, why);
}

static void check_certificate(struct kl_v *c)
{
    const struct kl_value *v = kl_path(c->now, KL_F_status, KL_F_certificate);
    struct kl_str rest = kl_text(v), type;
    const char *why = NULL;
    size_t blocks = 0;
    if (!rest.n)
        return;
    for (; !why && next_block(&rest, &type); blocks++)
        if (!kl_str_eqz(type, "CERTIFICATE"))
            why = kl_v_text(c, "only CERTIFICATE PEM blocks are allowed, found \"%.*s\"",
                            KL_PRI(type));
    if (!why && !blocks)
        why = "must contain at least one CERTIFICATE PEM block";
    if (!why && c->f->bad_pem)
        why = c->f->bad_pem(c->f->arena, false, kl_text(v));
    if (why)
        kl_v_invalid_str(c, F(&c->status, certificate), KL_STR("<certificate data>"), why);
}

// ---- usages

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

static bool seen_before(const struct kl_value *list, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (kl_value_equal(kl_at(list, k), kl_at(list, i)))
            return true;
    return false;
}

static bool odd_usages(const struct kl_value *root, bool *duplicates)
{
    const struct kl_value *list = kl_path(root, KL_F_spec, KL_F_usages);
    bool odd = false;
    *duplicates = false;
    for (size_t i = 0; i < kl_len(list); i++) {
        odd |= !kl_v_in(kl_text(kl_at(list, i)), usages);
        *duplicates |= seen_before(list, i);
    }
    return odd;
}

static void check_usages(struct kl_v *c, const struct allowed *a)
{
    const struct kl_value *list = kl_get(kl_v_spec(c), KL_F_usages);
    const struct kl_vpath *p = F(&c->spec, usages);
    if (!kl_len(list))
        kl_v_required(c, p, "");
    for (size_t i = 0; !a->odd_usages && i < kl_len(list); i++)
        if (!kl_v_in(kl_text(kl_at(list, i)), usages))
            kl_v_unsupported(c, I(p, i), kl_text(kl_at(list, i)), usages);
    for (size_t i = 0; !a->duplicate_usages && i < kl_len(list); i++)
        if (seen_before(list, i))
            kl_v_duplicate(c, I(p, i), kl_text(kl_at(list, i)));
}

// ---- conditions

static struct kl_str type_of(const struct kl_value *condition)
{
    return kl_text(kl_get(condition, KL_F_type));
}

static bool same_type_before(const struct kl_value *list, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (kl_str_eq(type_of(kl_at(list, k)), type_of(kl_at(list, i))))
            return true;
    return false;
}

static void check_conditions(struct kl_v *c, const struct allowed *a)
{
    static const char *const any[] = {"False", "True", "Unknown", NULL}, *const only[] = {"True",
                                                                                          NULL};
    const struct kl_value *list = kl_path(c->now, KL_F_status, KL_F_conditions);
    const struct kl_vpath *p = F(&c->status, conditions);
    bool approved = false, denied = false;
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *x = kl_at(list, i);
        struct kl_str type = type_of(x), status = kl_text(kl_get(x, KL_F_status));
        const char *const *values = kl_v_in(type, decided) ? only : any;
        if (!a->empty_type && !type.n)
            kl_v_required(c, F(I(p, i), type), "");
        if (!status.n)
            kl_v_required(c, F(I(p, i), status), "");
        else if (!kl_v_in(status, values))
            kl_v_unsupported(c, F(I(p, i), status), status, values);
        bool yes = kl_str_eqz(type, "Approved"), no = kl_str_eqz(type, "Denied");
        if (!a->both && ((yes && denied) || (no && approved)))
            kl_v_invalid_str(c, p, type, "Approved and Denied conditions are mutually exclusive");
        approved |= yes;
        denied |= no;
        if (!a->duplicates && same_type_before(list, i))
            kl_v_duplicate(c, F(I(p, i), type), type);
    }
}

static size_t count_of(const struct kl_value *root, const char *type)
{
    size_t n = 0;
    for (KL_EACH(x, kl_path(root, KL_F_status, KL_F_conditions)))
        n += kl_str_eqz(type_of(x), type);
    return n;
}

static bool same_of(const struct kl_value *a, const struct kl_value *b, const char *type)
{
    const struct kl_value *l = kl_path(a, KL_F_status, KL_F_conditions),
                          *m = kl_path(b, KL_F_status, KL_F_conditions);
    size_t k = 0;
    for (KL_EACH(x, l)) {
        if (!kl_str_eqz(type_of(x), type))
            continue;
        while (k < kl_len(m) && !kl_str_eqz(type_of(kl_at(m, k)), type))
            k++;
        if (!kl_value_equal(x, kl_at(m, k++)))
            return false;
    }
    return true;
}

// ---- the whole

static struct allowed allowed_of(const struct kl_v *c)
{
    struct allowed a = {0};
    const struct kl_value *old = c->old;
    const struct kl_value *list = kl_path(old, KL_F_status, KL_F_conditions);
    if (!old)
        return a;
    a.both = count_of(old, "Approved") && count_of(old, "Denied");
    for (size_t i = 0; i < kl_len(list); i++) {
        a.duplicates |= same_type_before(list, i);
        a.empty_type |= !type_of(kl_at(list, i)).n;
    }
    a.odd_usages = odd_usages(old, &a.duplicate_usages);
    a.legacy_signer =
        kl_str_eqz(kl_text_at(old, KL_F_spec, KL_F_signerName), "kubernetes.io/legacy-unknown");
    a.odd_certificate = kl_value_equal(kl_path(old, KL_F_status, KL_F_certificate),
                                       kl_path(c->now, KL_F_status, KL_F_certificate));
    return a;
}

static void check(struct kl_v *c, const struct allowed *a)
{
    const struct kl_value *spec = kl_v_spec(c), *age = kl_get(spec, KL_F_expirationSeconds);
    struct kl_str signer = kl_text(kl_get(spec, KL_F_signerName));
    kl_v_meta(c, KL_V_NO_CHECK);
    check_request(c);
    check_usages(c, a);
    if (!a->legacy_signer && kl_str_eqz(signer, "kubernetes.io/legacy-unknown"))
        kl_v_invalid_str(c, F(&c->spec, signerName), signer,
                         "the legacy signerName is not allowed via this API version");
    else
        kl_v_signer_name(c, F(&c->spec, signerName), signer);
    if (kl_is(age, KL_INT) && age->i < MIN_DURATION_S)
        kl_v_invalid_int(c, F(&c->spec, expirationSeconds), age->i,
                         "may not specify a duration less than 600 seconds (10 minutes)");
    check_conditions(c, a);
    if (!a->odd_certificate)
        check_certificate(c);
}

static void check_update(struct kl_v *c, const struct allowed *a)
{
    const struct kl_vpath *p = F(&c->status, conditions), *cert = F(&c->status, certificate);
    check(c, a);
    for (size_t i = 0; decided[i]; i++)
        if (count_of(c->now, decided[i]) < count_of(c->old, decided[i]))
            kl_v_forbidden(
                c, p,
                kl_v_text(c, "updates may not remove a condition of type \"%s\"", decided[i]));
    for (size_t i = 0; !a->approval && i < 2; i++) {
        size_t now = count_of(c->now, decided[i]), old = count_of(c->old, decided[i]);
        if (now > old)
            kl_v_forbidden(
                c, p, kl_v_text(c, "updates may not add a condition of type \"%s\"", decided[i]));
        else if (now == old && !same_of(c->now, c->old, decided[i]))
            kl_v_forbidden(
                c, p,
                kl_v_text(c, "updates may not modify a condition of type \"%s\"\n", decided[i]));
    }
    const struct kl_value *was = kl_path(c->old, KL_F_status, KL_F_certificate);
    if (!kl_value_equal(kl_path(c->now, KL_F_status, KL_F_certificate), was)) {
        if (!a->certificate)
            kl_v_forbidden(c, cert, "updates may not set certificate content");
        else if (kl_text(was).n)
            kl_v_forbidden(c, cert, "updates may not modify existing certificate content");
    }
    kl_v_meta_update(c);
}

static void create_request(struct kl_v *c)
{
    check(c, &(struct allowed){0});
}

static void update_request(struct kl_v *c)
{
    struct allowed a = allowed_of(c);
    check_update(c, &a);
}

static void update_status(struct kl_v *c)
{
    struct allowed a = allowed_of(c);
    a.certificate = true;
    check_update(c, &a);
}

static void update_approval(struct kl_v *c)
{
    struct allowed a = allowed_of(c);
    a.approval = true;
    check_update(c, &a);
}

const struct kl_v_kind kl_v_certificates[] = {
    {KL_RES_certificates_v1_certificatesigningrequests, create_request, update_request,
     update_status, "approval", update_approval},
    {0},
};
