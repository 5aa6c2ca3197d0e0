// SPDX-License-Identifier: Apache-2.0
// The checks of the restricted level: what hardening asks for.
#include "object/podsecurity/checks_int.h"
#include "object/schema.h"

// From 1.25 on pods of Windows need not say what means nothing there.
static bool windows(const struct kl_ps_run *r)
{
    return r->minor >= 25 && kl_str_eqz(kl_text_at(r->spec, KL_F_os, KL_F_name), "windows");
}

// From 1.35 on root in a user namespace is nobody outside.
static bool own_users(const struct kl_ps_run *r)
{
    const struct kl_value *v = kl_get(r->spec, KL_F_hostUsers);
    return r->minor >= 35 && kl_is(v, KL_BOOL) && !v->b;
}

void kl_ps_escalation(struct kl_ps_run *r)
{
    struct kl_ps_names bad = {0};
    struct kl_ps_walk w = {0};
    const struct kl_value *c;
    if (windows(r))
        return;
    while ((c = kl_ps_next(r, &w))) {
        const struct kl_value *v = kl_path(c, KL_F_securityContext, KL_F_allowPrivilegeEscalation);
        if (!kl_is(v, KL_BOOL) || v->b)
            kl_ps_add(r, &bad, kl_ps_name(c));
    }
    if (!bad.n)
        return;
    struct kl_str who = kl_ps_containers(r, &bad);
    kl_ps_forbid(r, "allowPrivilegeEscalation != false",
                 "%.*s must set securityContext.allowPrivilegeEscalation=false", KL_PRI(who));
}

void kl_ps_drop_all(struct kl_ps_run *r)
{
    struct kl_ps_names keeping = {0}, adding = {0}, added = {0};
    struct kl_ps_walk w = {0};
    const struct kl_value *c;
    if (windows(r))
        return;
    while ((c = kl_ps_next(r, &w))) {
        const struct kl_value *caps = kl_path(c, KL_F_securityContext, KL_F_capabilities);
        bool all = false, bad = false;
        for (KL_EACH(x, kl_get(caps, KL_F_drop)))
            all |= kl_str_eqz(kl_text(x), "ALL");
        if (!all)
            kl_ps_add(r, &keeping, kl_ps_name(c));
        for (KL_EACH(x, kl_get(caps, KL_F_add)))
            if (!kl_str_eqz(kl_text(x), "NET_BIND_SERVICE")) {
                bad = true;
                kl_ps_insert(r, &added, kl_text(x));
            }
        if (bad)
            kl_ps_add(r, &adding, kl_ps_name(c));
    }
    struct kl_ps_names details = {0};
    if (keeping.n) {
        struct kl_str who = kl_ps_containers(r, &keeping);
        kl_ps_add(r, &details,
                  kl_ps_printf(r, "%.*s must set securityContext.capabilities.drop=[\"ALL\"]",
                               KL_PRI(who)));
    }
    if (adding.n) {
        struct kl_str who = kl_ps_containers(r, &adding), what = kl_ps_quoted(r, &added);
        kl_ps_add(r, &details,
                  kl_ps_printf(r, "%.*s must not include %.*s in securityContext.capabilities.add",
                               KL_PRI(who), KL_PRI(what)));
    }
    if (!details.n)
        return;
    struct kl_str text = kl_ps_joined(r, &details, "; ");
    kl_ps_forbid(r, "unrestricted capabilities", "%.*s", KL_PRI(text));
}

void kl_ps_volumes(struct kl_ps_run *r)
{
    static const kl_sym allowed[] = {
        KL_F_configMap, KL_F_csi,   KL_F_downwardAPI,           KL_F_emptyDir,
        KL_F_ephemeral, KL_F_image, KL_F_persistentVolumeClaim, KL_F_projected,
        KL_F_secret};
    static const kl_sym known[] = {KL_F_hostPath,
                                   KL_F_gcePersistentDisk,
                                   KL_F_awsElasticBlockStore,
                                   KL_F_gitRepo,
                                   KL_F_nfs,
                                   KL_F_iscsi,
                                   KL_F_glusterfs,
                                   KL_F_rbd,
                                   KL_F_flexVolume,
                                   KL_F_cinder,
                                   KL_F_cephfs,
                                   KL_F_flocker,
                                   KL_F_fc,
                                   KL_F_azureFile,
                                   KL_F_vsphereVolume,
                                   KL_F_quobyte,
                                   KL_F_azureDisk,
                                   KL_F_photonPersistentDisk,
                                   KL_F_portworxVolume,
                                   KL_F_scaleIO,
                                   KL_F_storageos};
    struct kl_ps_names bad = {0}, types = {0};
    for (KL_EACH(v, kl_get(r->spec, KL_F_volumes))) {
        bool good = false;
        for (size_t i = 0; i < KL_COUNT(allowed) && !good; i++)
            good = kl_ps_get(v, allowed[i]);
        if (good)
            continue;
        struct kl_str type = KL_STR("unknown");
        for (size_t i = KL_COUNT(known); i-- > 0;)
            if (kl_ps_get(v, known[i]))
                type = kl_sym_name(known[i]);
        kl_ps_add(r, &bad, kl_ps_name(v));
        kl_ps_insert(r, &types, type);
    }
    if (!bad.n)
        return;
    struct kl_str names = kl_ps_quoted(r, &bad), what = kl_ps_quoted(r, &types);
    kl_ps_forbid(
        r, "restricted volume types", "%s %.*s %s %s %.*s",
        kl_ps_plural("volume", "volumes", bad.n), KL_PRI(names), kl_ps_plural("uses", "use", bad.n),
        kl_ps_plural("restricted volume type", "restricted volume types", types.n), KL_PRI(what));
}

void kl_ps_non_root(struct kl_ps_run *r)
{
    struct kl_ps_names wrong = {0}, silent = {0};
    struct kl_ps_walk w = {0};
    const struct kl_value *c, *pod = kl_get(r->pod_context, KL_F_runAsNonRoot);
    if (own_users(r))
        return;
    while ((c = kl_ps_next(r, &w))) {
        const struct kl_value *v = kl_path(c, KL_F_securityContext, KL_F_runAsNonRoot);
        if (kl_is(v, KL_BOOL) && !v->b)
            kl_ps_add(r, &wrong, kl_ps_name(c));
        else if (!kl_is(v, KL_BOOL) && !kl_is_true(pod))
            kl_ps_add(r, &silent, kl_ps_name(c));
    }
    bool pod_wrong = kl_is(pod, KL_BOOL) && !pod->b;
    if (pod_wrong || wrong.n) {
        struct kl_str who = kl_ps_setters(r, pod_wrong, &wrong);
        kl_ps_forbid(r, "runAsNonRoot != true",
                     "%.*s must not set securityContext.runAsNonRoot=false", KL_PRI(who));
    } else if (silent.n) {
        struct kl_str who = kl_ps_containers(r, &silent);
        kl_ps_forbid(r, "runAsNonRoot != true",
                     "pod or %.*s must set securityContext.runAsNonRoot=true", KL_PRI(who));
    }
}

void kl_ps_user_zero(struct kl_ps_run *r)
{
    struct kl_ps_names bad = {0};
    struct kl_ps_walk w = {0};
    const struct kl_value *c;
    if (own_users(r))
        return;
    bool pod = kl_int_or(kl_get(r->pod_context, KL_F_runAsUser), -1) == 0;
    while ((c = kl_ps_next(r, &w)))
        if (kl_int_at(c, -1, KL_F_securityContext, KL_F_runAsUser) == 0)
            kl_ps_add(r, &bad, kl_ps_name(c));
    if (!pod && !bad.n)
        return;
    struct kl_str who = kl_ps_setters(r, pod, &bad);
    kl_ps_forbid(r, "runAsUser=0", "%.*s must not set runAsUser=0", KL_PRI(who));
}

static bool good_seccomp(struct kl_str type)
{
    return kl_str_eqz(type, "RuntimeDefault") || kl_str_eqz(type, "Localhost");
}

void kl_ps_seccomp_required(struct kl_ps_run *r)
{
    struct kl_ps_names wrong = {0}, silent = {0}, values = {0};
    struct kl_ps_walk w = {0};
    const struct kl_value *c, *pod = kl_ps_get(r->pod_context, KL_F_seccompProfile);
    if (windows(r))
        return;
    struct kl_str type = kl_text(kl_get(pod, KL_F_type));
    bool set = pod && good_seccomp(type), pod_wrong = pod && !set;
    if (pod_wrong)
        kl_ps_insert(r, &values, type);
    while ((c = kl_ps_next(r, &w))) {
        const struct kl_value *p = kl_ps_get(kl_get(c, KL_F_securityContext), KL_F_seccompProfile);
        type = kl_text(kl_get(p, KL_F_type));
        if (p && !good_seccomp(type)) {
            kl_ps_add(r, &wrong, kl_ps_name(c));
            kl_ps_insert(r, &values, type);
        } else if (!p && !set) {
            kl_ps_add(r, &silent, kl_ps_name(c));
        }
    }
    if (pod_wrong || wrong.n) {
        struct kl_str who = kl_ps_setters(r, pod_wrong, &wrong), what = kl_ps_quoted(r, &values);
        kl_ps_forbid(r, "seccompProfile",
                     "%.*s must not set securityContext.seccompProfile.type to %.*s", KL_PRI(who),
                     KL_PRI(what));
    } else if (silent.n) {
        struct kl_str who = kl_ps_containers(r, &silent);
        kl_ps_forbid(r, "seccompProfile",
                     "pod or %.*s must set securityContext.seccompProfile.type to "
                     "\"RuntimeDefault\" or \"Localhost\"",
                     KL_PRI(who));
    }
}
