// SPDX-License-Identifier: Apache-2.0
// Volumes of what the API knows: the downward API and projections.
#include "object/validate/pod_int.h"

static const char *const downward_fields[] = {"metadata.annotations", "metadata.labels",
                                              "metadata.name",        "metadata.namespace",
                                              "metadata.uid",         NULL};

static void check_downward_file(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str path = kl_text(kl_get(v, KL_F_path));
    const struct kl_value *field = kl_get(v, KL_F_fieldRef);
    const struct kl_value *resource = kl_get(v, KL_F_resourceFieldRef);
    const struct kl_value *mode = kl_get(v, KL_F_mode);
    if (!path.n)
        kl_v_required(c, F(p, path), "");
    kl_v_local_path(c, F(p, path), path);
    if (field) {
        kl_v_field_ref(c, field, downward_fields, F(p, fieldRef));
        if (resource)
            kl_v_invalid_str(c, p, KL_STR("resource"),
                             "fieldRef and resourceFieldRef can not be specified simultaneously");
    } else if (resource) {
        kl_v_resource_ref(c, resource, true, F(p, resourceFieldRef));
    } else {
        kl_v_required(c, p, "one of fieldRef and resourceFieldRef is required");
    }
    if (mode)
        kl_v_file_mode(c, mode, F(p, mode));
}

void kl_v_downward(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    for (KL_EACH(file, kl_get(v, KL_F_items)))
        check_downward_file(c, file, p);
}

void kl_v_signer_name(struct kl_v *c, const struct kl_vpath *p, struct kl_str name)
{
    const char *msg[KL_V_MESSAGES];
    if (!name.n) {
        kl_v_required(c, p, "");
        return;
    }
    ptrdiff_t slash = kl_str_chr(name, '/');
    struct kl_str path = kl_str_from(name, (size_t)(slash + 1));
    if (slash < 0 || kl_str_chr(path, '/') >= 0) {
        kl_v_invalid_str(
            c, p, name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'");
        return;
    }
    struct kl_str domain = {name.p, (size_t)slash}, rest = domain, part;
    size_t labels = 1, n = 0;
    if (domain.n > 253)
        kl_v_too_long(c, p, 253);
    for (size_t i = 0; i < domain.n; i++)
        labels += domain.p[i] == '.';
    bool any = domain.n == 0;
    for (part = domain; any || kl_str_split(&rest, '.', &part); any = false) {
        if ((n = kl_v_messages(KL_V_LABEL, part, msg)) == 0)
            continue;
        for (size_t i = 0; i < n; i++)
            kl_v_invalid_str(c, p, domain,
                             kl_v_text(c, "validating label \"%.*s\": %s", KL_PRI(part), msg[i]));
        break;
    }
    if (labels < 2)
        kl_v_invalid_str(c, p, domain,
                         "should be a domain with at least two segments separated by dots");
    rest = path;
    any = path.n == 0;
    for (part = path; any || kl_str_split(&rest, '.', &part); any = false) {
        if ((n = kl_v_messages(KL_V_SUBDOMAIN, part, msg)) == 0)
            continue;
        for (size_t i = 0; i < n; i++)
            kl_v_invalid_str(c, p, path,
                             kl_v_text(c, "validating label \"%.*s\": %s", KL_PRI(part), msg[i]));
        break;
    }
    if (name.n > 571)
        kl_v_too_long(c, p, 571);
}

// Paths of a projected volume must differ: is this one there before (source i, item k)?
static bool path_seen(const struct kl_value *sources, size_t i, size_t list, size_t k,
                      struct kl_str path)
{
    static const kl_sym lists[] = {KL_F_secret, KL_F_configMap, KL_F_downwardAPI};
    for (size_t s = 0; s <= i; s++)
        for (size_t l = 0; l < KL_COUNT(lists); l++) {
            if (s == i && l > list)
                return false;
            const struct kl_value *items = kl_path(kl_at(sources, s), lists[l], KL_F_items);
            size_t n = s == i && l == list ? k : kl_len(items);
            for (size_t x = 0; x < n; x++)
                if (kl_str_eq(kl_text(kl_get(kl_at(items, x), KL_F_path)), path))
                    return true;
        }
    return false;
}

static void check_token(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p,
                        const struct kl_vpath *volume)
{
    int64_t seconds = kl_int_at(v, 0, KL_F_expirationSeconds);
    struct kl_str path = kl_text(kl_get(v, KL_F_path));
    if (seconds < 600)
        kl_v_invalid_int(c, F(p, expirationSeconds), seconds,
                         "may not specify a duration less than 10 minutes");
    if (seconds > INT64_C(1) << 32)
        kl_v_invalid_int(c, F(p, expirationSeconds), seconds,
                         "may not specify a duration larger than 2^32 seconds");
    if (!path.n)
        kl_v_required(c, F(volume, path), "");
    else
        kl_v_local_path(c, F(volume, path), path);
}

static void check_trust_bundle(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *name = kl_get(v, KL_F_name), *signer = kl_get(v, KL_F_signerName);
    const struct kl_value *selector = kl_get(v, KL_F_labelSelector);
    struct kl_str path = kl_text(kl_get(v, KL_F_path)), s = kl_text(name);
    if (name && signer) {
        kl_v_invalid_json(c, p, kl_type(KL_TYPE_core_v1_ClusterTrustBundleProjection), v, true,
                          "only one of name and signerName may be used");
    } else if (name) {
        const char *msg[KL_V_MESSAGES];
        if (!s.n)
            kl_v_required(c, F(p, name), "must be a valid object name");
        size_t n = kl_v_messages(KL_V_SUBDOMAIN, s, msg);
        for (size_t i = 0; i < n; i++)
            kl_v_invalid_str(c, F(p, name), s,
                             kl_v_text(c, "not a valid clustertrustbundlename: %s", msg[i]));
        if (selector)
            kl_v_invalid_json(c, F(p, labelSelector), kl_type(KL_TYPE_meta_v1_LabelSelector),
                              selector, false, "labelSelector must be unset if name is specified");
    } else if (signer) {
        if (!kl_text(signer).n)
            kl_v_required(c, F(p, signerName), "must be a valid signer name");
        kl_v_signer_name(c, F(p, signerName), kl_text(signer));
        kl_v_selector(c, F(p, labelSelector), selector);
    } else {
        kl_v_required(c, p, "either name or signerName must be specified");
    }
    if (!path.n)
        kl_v_required(c, F(p, path), "");
    kl_v_local_path(c, F(p, path), path);
}

static void check_pod_certificate(struct kl_v *c, const struct kl_value *v,
                                  const struct kl_vpath *p)
{
    static const char *const types[] = {"RSA3072",   "RSA4096", "ECDSAP256", "ECDSAP384",
                                        "ECDSAP521", "ED25519", NULL};
    static const kl_sym paths[] = {KL_F_credentialBundlePath, KL_F_keyPath,
                                   KL_F_certificateChainPath};
    const struct kl_value *max = kl_get(v, KL_F_maxExpirationSeconds);
    struct kl_str signer = kl_text(kl_get(v, KL_F_signerName)), rest = signer, host;
    struct kl_str type = kl_text(kl_get(v, KL_F_keyType));
    size_t n = 0;
    kl_v_signer_name(c, F(p, signerName), signer);
    for (KL_MAP_EACH_KEY(kv, kl_get(v, KL_F_userAnnotations)))
        kl_v_domain_key(c, F(p, userAnnotations), kl_text(kv));
    if (!kl_v_in(type, types))
        kl_v_unsupported(c, F(p, keyType), type, types);
    kl_str_split(&rest, '/', &host);
    int64_t limit = kl_str_eqz(host, "kubernetes.io") || kl_str_ends(host, KL_STR(".kubernetes.io"))
                        ? 24 * 60 * 60
                        : 91 * 24 * 60 * 60;
    if (max && kl_int_or(max, 0) < 3600)
        kl_v_invalid_int(c, F(p, maxExpirationSeconds), kl_int_or(max, 0),
                         "if provided, maxExpirationSeconds must be >= 3600");
    if (max && kl_int_or(max, 0) > limit)
        kl_v_invalid_int(
            c, F(p, maxExpirationSeconds), kl_int_or(max, 0),
            kl_v_text(c, "if provided, maxExpirationSeconds must be <= %lld", (long long)limit));
    for (size_t i = 0; i < KL_COUNT(paths); i++) {
        struct kl_str path = kl_text(kl_get(v, paths[i]));
        if (path.n)
            n++, kl_v_local_path(c, FS(p, paths[i]), path);
    }
    if (!n)
        kl_v_required(
            c, p,
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath");
}

static void check_items(struct kl_v *c, const struct kl_value *sources, size_t i, size_t list,
                        const struct kl_vpath *p, const struct kl_vpath *volume)
{
    static const kl_sym lists[] = {KL_F_secret, KL_F_configMap, KL_F_downwardAPI};
    const struct kl_value *source = kl_get(kl_at(sources, i), lists[list]);
    const struct kl_value *items = kl_get(source, KL_F_items);
    struct kl_str name = kl_text(kl_get(source, KL_F_name));
    const struct kl_vpath *at = FS(p, lists[list]);
    if (list < 2 && !name.n)
        kl_v_required(c, F(at, name), "");
    for (size_t k = 0; k < kl_len(items); k++) {
        const struct kl_value *item = kl_at(items, k);
        struct kl_str path = kl_text(kl_get(item, KL_F_path));
        if (list < 2)
            kl_v_key_to_path(c, item, I(F(at, items), k));
        else
            check_downward_file(c, item, at);
        if (path.n && path_seen(sources, i, list, k, path))
            kl_v_invalid_str(c, volume, list < 2 ? name : path, "conflicting duplicate paths");
    }
}

void kl_v_projected(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *sources = kl_get(v, KL_F_sources);
    for (size_t i = 0; i < kl_len(sources); i++) {
        const struct kl_value *s = kl_at(sources, i), *x;
        const struct kl_vpath *at = I(F(p, sources), i);
        size_t n = 0;
        if (kl_get(s, KL_F_secret))
            n++, check_items(c, sources, i, 0, at, p);
        if (kl_get(s, KL_F_configMap))
            n++, check_items(c, sources, i, 1, at, p);
        if (kl_get(s, KL_F_downwardAPI))
            n++, check_items(c, sources, i, 2, at, p);
        if ((x = kl_get(s, KL_F_serviceAccountToken)))
            n++, check_token(c, x, F(at, serviceAccountToken), p);
        if ((x = kl_get(s, KL_F_clusterTrustBundle)))
            n++, check_trust_bundle(c, x, F(at, clusterTrustBundle));
        if ((x = kl_get(s, KL_F_podCertificate)))
            n++, check_pod_certificate(c, x, F(at, podCertificate));
        if (n > 1)
            kl_v_forbidden(c, at, "may not specify more than 1 volume type per source");
    }
}
