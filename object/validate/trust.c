// SPDX-License-Identifier: Apache-2.0
// certificates.k8s.io: ClusterTrustBundles and PodCertificateRequests, but for what takes a library
// for certificates: the API server looks at keys, signatures and chains (auth/trust.c).
#include "object/schema.h"
#include "object/conditions.h"
#include "object/types_gen.h"
#include "object/validate/pod_int.h"

enum {
    UID_MAX = 128,
    MIN_AGE_S = 3600,
    MAX_AGE_S = 91 * 24 * 3600,
    KUBERNETES_AGE_S = 24 * 3600, // of signers in *.kubernetes.io
};

// ---- ClusterTrustBundles

// signer.example:path:NAME
static size_t bundle_name(struct kl_v *c, struct kl_str name, const char *ret[])
{
    struct kl_str signer = kl_text(kl_get(kl_v_spec(c), KL_F_signerName));
    if (!signer.n && kl_str_chr(name, ':') >= 0) {
        ret[0] = "ClusterTrustBundle without signer name must not have \":\" in its name";
        return 1;
    }
    if (!signer.n)
        return kl_v_messages(KL_V_SUBDOMAIN, name, ret);
    char *prefix = (char *)kl_v_text(c, "%.*s:", KL_PRI(signer));
    for (char *p = prefix; *p; p++)
        if (*p == '/')
            *p = ':';
    if (!kl_str_starts(name, kl_str(prefix))) {
        ret[0] = kl_v_text(c, "ClusterTrustBundle for signerName %.*s must be named with prefix %s",
                           KL_PRI(signer), prefix);
        return 1;
    }
    return kl_v_messages(KL_V_SUBDOMAIN, kl_str_from(name, strlen(prefix)), ret);
}

static void create_bundle(struct kl_v *c)
{
    struct kl_str signer = kl_text(kl_get(kl_v_spec(c), KL_F_signerName));
    c->name_rule = bundle_name;
    kl_v_meta(c, KL_V_OWN);
    if (signer.n)
        kl_v_signer_name(c, F(&c->spec, signerName), signer);
}

static void update_bundle(struct kl_v *c)
{
    struct kl_str signer = kl_text(kl_get(kl_v_spec(c), KL_F_signerName));
    create_bundle(c);
    kl_v_meta_update(c);
    if (!kl_str_eq(signer, kl_text(kl_get(kl_v_old_spec(c), KL_F_signerName))))
        kl_v_invalid_str(c, F(&c->spec, signerName), signer, "field is immutable");
}

// ---- PodCertificateRequests

static void check_party(struct kl_v *c, kl_sym name, kl_sym uid)
{
    const struct kl_value *spec = kl_v_spec(c);
    struct kl_str id = kl_text(kl_get(spec, uid));
    kl_v_format(c, FS(&c->spec, name), kl_text(kl_get(spec, name)), KL_V_SUBDOMAIN);
    if (!id.n)
        kl_v_invalid_str(c, FS(&c->spec, uid), id, "must not be empty");
    if (id.n > UID_MAX)
        kl_v_too_long(c, FS(&c->spec, uid), UID_MAX);
}

static void check_user_annotations(struct kl_v *c, const struct kl_value *map,
                                   const struct kl_vpath *p)
{
    enum { MAX = 256 * 1024 };
    size_t total = 0;
    for (KL_MAP_EACH_KEY(kv, map)) {
        struct kl_str key = kl_text(kv);
        char *low = (char *)kl_v_text(c, "%.*s", KL_PRI(key));
        for (size_t i = 0; low[i]; i++)
            if (low[i] >= 'A' && low[i] <= 'Z')
                low[i] = (char)(low[i] + 32);
        kl_v_domain_key(c, p, kl_str(low));
        total += key.n + kl_text(kv + 1).n;
    }
    if (total > MAX)
        kl_v_too_long(c, p, MAX);
}

static void create_request(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c), *age = kl_get(spec, KL_F_maxExpirationSeconds);
    struct kl_str signer = kl_text(kl_get(spec, KL_F_signerName)), rest = signer, host = signer;
    const struct kl_vpath *p = &c->spec;
    bool stub = kl_text(kl_get(spec, KL_F_stubPKCS10Request)).n != 0;
    bool key = kl_text(kl_get(spec, KL_F_pkixPublicKey)).n != 0;
    bool proof = kl_text(kl_get(spec, KL_F_proofOfPossession)).n != 0;
    kl_v_meta(c, KL_V_SUBDOMAIN);
    kl_v_signer_name(c, F(p, signerName), signer);
    check_user_annotations(c, kl_get(spec, KL_F_unverifiedUserAnnotations),
                           F(p, unverifiedUserAnnotations));
    check_party(c, KL_F_podName, KL_F_podUID);
    check_party(c, KL_F_serviceAccountName, KL_F_serviceAccountUID);
    check_party(c, KL_F_nodeName, KL_F_nodeUID);
    if (!age) {
        kl_v_required(c, F(p, maxExpirationSeconds), "must be set");
        return;
    }
    kl_str_split(&rest, '/', &host);
    int limit = kl_str_eqz(host, "kubernetes.io") || kl_str_ends(host, KL_STR(".kubernetes.io"))
                    ? KUBERNETES_AGE_S
                    : MAX_AGE_S;
    if (kl_int_or(age, 0) < MIN_AGE_S || kl_int_or(age, 0) > limit)
        kl_v_invalid_int(c, F(p, maxExpirationSeconds), kl_int_or(age, 0),
                         kl_v_text(c, "must be in the range [%d, %d]", MIN_AGE_S, limit));
    if (stub ? key || proof : !key || !proof)
        kl_v_invalid_omitted(c, p,
                             "exactly one of (stubPKCS10Request) or (pkixPublicKey, "
                             "proofOfPossession) must be set");
}

static void update_request(struct kl_v *c)
{
    kl_v_meta_update(c);
    kl_v_immutable(c, &c->spec, kl_type(KL_TYPE_certificates_v1beta1_PodCertificateRequestSpec),
                   kl_v_or_empty(kl_v_spec(c)), kl_v_or_empty(kl_v_old_spec(c)), true);
}

static const char *const ends[] = {"Issued", "Denied", "Failed", NULL};

// The indexes are names in these paths: conditions.[0].type.
static void check_conditions(struct kl_v *c)
{
    static const char *const only[] = {"True", NULL};
    const struct kl_value *list = kl_path(c->now, KL_F_status, KL_F_conditions);
    size_t known = 0;
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_vpath *p = N(F(&c->status, conditions), kl_v_text(c, "[%zu]", i));
        struct kl_str type = kl_text(kl_get(kl_at(list, i), KL_F_type));
        struct kl_str status = kl_text(kl_get(kl_at(list, i), KL_F_status));
        if (!kl_v_in(type, ends)) {
            kl_v_unsupported(c, F(p, type), type, ends);
            continue;
        }
        if (++known > 1)
            kl_v_invalid_str(c, F(p, type), type,
                             "There may be at most one condition with type \"Issued\", \"Denied\", "
                             "or \"Failed\"");
        if (!kl_str_eqz(status, "True"))
            kl_v_unsupported(c, F(p, status), status, only);
    }
    kl_v_conditions(c, F(&c->status, conditions), list);
}

static void status_request(struct kl_v *c)
{
    static const kl_sym rest[] = {KL_F_certificateChain, KL_F_notBefore, KL_F_beginRefreshAt,
                                  KL_F_notAfter};
    const struct kl_value *now = kl_get(c->now, KL_F_status), *old = kl_get(c->old, KL_F_status);
    size_t before = c->f->n, more = 0;
    kl_v_meta_update(c);
    if (c->f->n == before)
        check_conditions(c);
    if (c->f->n > before)
        return;
    for (size_t i = 0; i < KL_COUNT(rest); i++)
        more += kl_get(now, rest[i]) != NULL;
    bool same = kl_value_equal(now, old);
    bool ended = kl_has_true_condition(c->old, "Issued") ||
                 kl_has_true_condition(c->old, "Denied") || kl_has_true_condition(c->old, "Failed");
    bool refused =
        kl_has_true_condition(c->now, "Denied") || kl_has_true_condition(c->now, "Failed");
    if (ended && !same)
        kl_v_invalid_omitted(c, &c->status,
                             "immutable after PodCertificateRequest is issued, denied, or failed");
    else if (!ended && refused && more)
        kl_v_invalid_omitted(c, &c->status,
                             "non-condition status fields must be empty when denying or failing "
                             "the PodCertificateRequest");
    else if (!ended && !refused && !kl_has_true_condition(c->now, "Issued") && !same)
        kl_v_invalid_omitted(c, &c->status,
                             "status is immutable unless transitioning to \"Issued\", \"Denied\", "
                             "or \"Failed\"");
}

const struct kl_v_kind kl_v_trust[] = {
    {KL_RES_certificates_v1beta1_clustertrustbundles, create_bundle, update_bundle, NULL, NULL,
     NULL},
    {KL_RES_certificates_v1beta1_podcertificaterequests, create_request, update_request,
     status_request, NULL, NULL},
    {0},
};
