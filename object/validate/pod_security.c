// SPDX-License-Identifier: Apache-2.0
// Security contexts of pods and containers, Windows' included.
#include "object/validate/pod_int.h"

static void check_id(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    kl_v_range(c, p, kl_int_or(v, 0), 0, INT32_MAX);
}

static void check_seccomp(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const types[] = {"Localhost", "RuntimeDefault", "Unconfined", NULL};
    struct kl_str type = kl_text(kl_get(v, KL_F_type));
    const struct kl_value *local = kl_get(v, KL_F_localhostProfile);
    if (!type.n)
        kl_v_required(c, F(p, type), "type is required when seccompProfile is set");
    else if (!kl_v_in(type, types))
        kl_v_unsupported(c, F(p, type), type, types);
    if (kl_str_eqz(type, "Localhost")) {
        if (!local)
            kl_v_required(c, F(p, localhostProfile), "must be set when seccomp type is Localhost");
        else
            kl_v_relative_path(c, F(p, localhostProfile), kl_text(local));
    } else if (local) {
        kl_v_invalid_json(c, F(p, localhostProfile), kl_type(KL_TYPE_core_v1_SeccompProfile), v,
                          true, "can only be set when seccomp type is Localhost");
    }
}

static void check_apparmor(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const types[] = {"Localhost", "RuntimeDefault", "Unconfined", NULL};
    static const char must[] = "must be set when AppArmor type is Localhost";
    struct kl_str type = kl_text(kl_get(v, KL_F_type));
    const struct kl_value *local = kl_get(v, KL_F_localhostProfile);
    struct kl_str s = kl_text(local), trimmed = kl_str_trim(s);
    const struct kl_vpath *lp = F(p, localhostProfile);
    if (!type.n) {
        kl_v_required(c, F(p, type), "type is required when appArmorProfile is set");
    } else if (!kl_v_in(type, types)) {
        kl_v_unsupported(c, F(p, type), type, types);
    } else if (!kl_str_eqz(type, "Localhost")) {
        if (local)
            kl_v_invalid(c, lp, local, "can only be set when AppArmor type is Localhost");
    } else if (!local) {
        kl_v_required(c, lp, must);
    } else {
        if (trimmed.n != s.n)
            kl_v_invalid_str(c, lp, s, "must not be padded with whitespace");
        else if (!s.n)
            kl_v_required(c, lp, must);
        if (s.n > 4095)
            kl_v_too_long(c, lp, 4095);
    }
}

// ---- Windows

static bool only_of(struct kl_str s, const char *set)
{
    for (size_t i = 0; i < s.n; i++)
        if (!s.p[i] || !strchr(set, s.p[i]))
            return false;
    return s.n > 0;
}

static bool any_of(struct kl_str s, const char *set)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] && strchr(set, s.p[i]))
            return true;
    return false;
}

static bool good_domain(struct kl_str s)
{
    if (s.n >= 1 && s.n <= 15 && s.p[0] != '.' && !any_of(s, "\\/:*?\"<>|"))
        return true;
    struct kl_str rest = s, part;
    bool good = s.n > 0 && s.p[s.n - 1] != '.';
    while (good && kl_str_split(&rest, '.', &part)) {
        good = part.n > 0 && part.n <= 63 && part.p[0] != '-' && part.p[part.n - 1] != '-';
        for (size_t i = 0; good && i < part.n; i++) {
            char ch = part.p[i];
            good = ch == '-' || (ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z');
        }
    }
    return good;
}

static void check_user_name(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str s = kl_text(v);
    size_t slashes = 0;
    bool control = false;
    for (size_t i = 0; i < s.n; i++) {
        slashes += s.p[i] == '\\';
        control |= (unsigned char)s.p[i] < 32 || s.p[i] == 127;
    }
    const char *why = !s.n          ? "runAsUserName cannot be an empty string"
                      : control     ? "runAsUserName cannot contain control characters"
                      : slashes > 1 ? "runAsUserName cannot contain more than one backslash"
                                    : NULL;
    if (why) {
        kl_v_invalid_str(c, p, s, why);
        return;
    }
    ptrdiff_t at = kl_str_chr(s, '\\');
    struct kl_str domain = {s.p, at < 0 ? 0 : (size_t)at}, user = kl_str_from(s, (size_t)(at + 1));
    if (domain.n >= 256)
        kl_v_invalid_str(c, p, s, "runAsUserName's Domain length must be under 256 characters");
    if (at >= 0 && !good_domain(domain))
        kl_v_invalid_str(c, p, s,
                         "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    if (!user.n)
        kl_v_invalid_str(c, p, s, "runAsUserName's User cannot be empty");
    else if (user.n > 104)
        kl_v_invalid_str(c, p, s,
                         "runAsUserName's User length must not be longer than 104 characters");
    if (only_of(user, ". "))
        kl_v_invalid_str(c, p, s, "runAsUserName's User cannot contain only periods or spaces");
    if (any_of(user, "\"/\\:;|=,+*?<>@[]"))
        kl_v_invalid_str(c, p, s,
                         "runAsUserName's User cannot contain the following characters: "
                         "\"/\\:;|=,+*?<>@[]");
}

static void check_windows_options(struct kl_v *c, const struct kl_value *v,
                                  const struct kl_vpath *p)
{
    const struct kl_value *name = kl_get(v, KL_F_gmsaCredentialSpecName);
    const struct kl_value *gmsa = kl_get(v, KL_F_gmsaCredentialSpec);
    const struct kl_value *user = kl_get(v, KL_F_runAsUserName);
    if (name)
        kl_v_format(c, F(p, gmsaCredentialSpecName), kl_text(name), KL_V_SUBDOMAIN);
    if (gmsa && !kl_text(gmsa).n)
        kl_v_invalid_str(c, F(p, gmsaCredentialSpec), KL_STR(""),
                         "gmsaCredentialSpec cannot be an empty string");
    else if (gmsa && kl_text(gmsa).n > 64 * 1024)
        kl_v_invalid(c, F(p, gmsaCredentialSpec), gmsa,
                     "gmsaCredentialSpec size must be under 64 KiB");
    if (user)
        check_user_name(c, user, F(p, runAsUserName));
}

struct host_process {
    const struct kl_value *pod;
    size_t containers, hosts;
};

static void count_host_process(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p,
                               void *arg)
{
    struct host_process *h = arg;
    const struct kl_value *own =
        kl_path(ctr, KL_F_securityContext, KL_F_windowsOptions, KL_F_hostProcess);
    h->containers++;
    if (h->pod && own && kl_is_true(h->pod) != kl_is_true(own))
        kl_v_invalid(c, F(F(F(p, securityContext), windowsOptions), hostProcess), own,
                     kl_v_text(c,
                               "pod hostProcess value must be identical if both are "
                               "specified, was %s",
                               kl_is_true(h->pod) ? "true" : "false"));
    h->hosts += kl_is_true(own ? own : h->pod);
}

void kl_v_windows(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p)
{
    struct host_process h = {
        .pod = kl_path(spec, KL_F_securityContext, KL_F_windowsOptions, KL_F_hostProcess)};
    kl_v_visit_containers(c, spec, p, count_host_process, &h);
    if (!h.hosts)
        return;
    if (h.hosts != h.containers)
        kl_v_invalid_str(c, p, KL_STR(""),
                         "If pod contains any hostProcess containers then all containers must be "
                         "HostProcess containers");
    if (!kl_is_true(kl_get(spec, KL_F_hostNetwork)))
        kl_v_invalid_text(c, F(p, hostNetwork), KL_STR("false"),
                          "hostNetwork must be true if pod contains any hostProcess containers");
}

// ---- containers

static struct kl_str whole_context(struct kl_v *c, const struct kl_value *sc)
{
    return kl_v_json(c, kl_type(KL_TYPE_core_v1_SecurityContext), sc, true);
}

void kl_v_security_context(struct kl_v *c, const struct kl_value *sc, const struct kl_vpath *p)
{
    static const char *const mounts[] = {"Default", "Unmasked", NULL};
    const struct kl_value *v, *escalate = kl_get(sc, KL_F_allowPrivilegeEscalation);
    if (!sc)
        return;
    if ((v = kl_get(sc, KL_F_runAsUser)))
        check_id(c, v, F(p, runAsUser));
    if ((v = kl_get(sc, KL_F_runAsGroup)))
        check_id(c, v, F(p, runAsGroup));
    if ((v = kl_get(sc, KL_F_procMount))) {
        if (!kl_v_in(kl_text(v), mounts))
            kl_v_unsupported(c, F(p, procMount), kl_text(v), mounts);
        if (c->pod->host_users && kl_str_eqz(kl_text(v), "Unmasked"))
            kl_v_invalid(c, F(p, procMount), v, "`hostUsers` must be false to use `Unmasked`");
    }
    if ((v = kl_get(sc, KL_F_seccompProfile)))
        check_seccomp(c, v, F(p, seccompProfile));
    if (escalate && !kl_is_true(escalate)) {
        if (kl_is_true(kl_get(sc, KL_F_privileged)))
            kl_v_invalid_text(
                c, p, whole_context(c, sc),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        for (KL_EACH(cap, kl_path(sc, KL_F_capabilities, KL_F_add)))
            if (kl_str_eqz(kl_text(cap), "CAP_SYS_ADMIN"))
                kl_v_invalid_text(c, p, whole_context(c, sc),
                                  "cannot set `allowPrivilegeEscalation` to false and "
                                  "`capabilities.Add` CAP_SYS_ADMIN");
    }
    if ((v = kl_get(sc, KL_F_windowsOptions)))
        check_windows_options(c, v, F(p, windowsOptions));
    if ((v = kl_get(sc, KL_F_appArmorProfile)))
        check_apparmor(c, v, F(p, appArmorProfile));
}

// ---- pods

#define SEGMENT_RE "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"

static bool good_sysctl(struct kl_str s)
{
    if (!s.n || s.n > 253)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char ch = s.p[i];
        bool word = (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');
        bool edge = i == 0 || i + 1 == s.n || strchr("./", s.p[i - 1]) || strchr("./", s.p[i + 1]);
        if (!word && (edge || !strchr("-_./", ch)))
            return false;
    }
    return true;
}

// sysctl.GetNamespace: slashes may stand for dots.
static const char *sysctl_namespace(struct kl_str s)
{
    static const struct {
        const char *prefix, *ns;
        bool whole;
    } known[] = {{"kernel.sem", "ipc", true},
                 {"kernel.shm", "ipc", false},
                 {"kernel.msg", "ipc", false},
                 {"fs.mqueue.", "ipc", false},
                 {"net.", "net", false}};
    char text[256];
    if (s.n >= sizeof text)
        return "";
    for (size_t i = 0; i < s.n; i++)
        text[i] = s.p[i] == '/' ? '.' : s.p[i];
    for (size_t i = 0; i < KL_COUNT(known); i++) {
        size_t n = strlen(known[i].prefix);
        if (s.n >= n && !memcmp(text, known[i].prefix, n) && (!known[i].whole || s.n == n))
            return known[i].ns;
    }
    return "";
}

static void check_sysctls(struct kl_v *c, const struct kl_value *list, const struct kl_value *spec,
                          const struct kl_vpath *p)
{
    for (size_t i = 0; i < kl_len(list); i++) {
        struct kl_str name = kl_text(kl_get(kl_at(list, i), KL_F_name));
        const struct kl_vpath *at = F(I(p, i), name);
        bool twice = false;
        for (size_t k = 0; k < i; k++)
            twice |= kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_name)), name);
        if (!name.n)
            kl_v_required(c, at, "");
        else if (!good_sysctl(name))
            kl_v_invalid_str(c, at, name,
                             "must have at most 253 characters and match regex ^(" SEGMENT_RE
                             "[\\./])*" SEGMENT_RE "$");
        else if (twice)
            kl_v_duplicate(c, at, name);
        const char *ns = sysctl_namespace(name);
        if (kl_is_true(kl_get(spec, KL_F_hostNetwork)) && !strcmp(ns, "net"))
            kl_v_invalid_str(c, at, name, "may not be specified when 'hostNetwork' is true");
        else if (kl_is_true(kl_get(spec, KL_F_hostIPC)) && !strcmp(ns, "ipc"))
            kl_v_invalid_str(c, at, name, "may not be specified when 'hostIPC' is true");
    }
}

void kl_v_pod_security(struct kl_v *c, const struct kl_value *sc, const struct kl_value *spec,
                       const struct kl_vpath *p)
{
    static const char *const changes[] = {"Always", "OnRootMismatch", NULL};
    static const char *const groups[] = {"Merge", "Strict", NULL};
    static const char *const selinux[] = {"MountOption", "Recursive", NULL};
    static const char *const recursive[] = {"Recursive", NULL};
    static const struct kl_rule ids[] = {R_ON(fsGroup, check_id), R_ON(runAsUser, check_id),
                                         R_ON(runAsGroup, check_id),
                                         R_EACH_ON(supplementalGroups, check_id), R_END};
    static const struct kl_rule rest[] = {
        R_ON(seccompProfile, check_seccomp), R_ON(windowsOptions, check_windows_options),
        R_ON(appArmorProfile, check_apparmor), R_ENUM(supplementalGroupsPolicy, groups), R_END};
    static const struct kl_rule change[] = {R_ENUM(fsGroupChangePolicy, changes), R_END};
    // Here upstream's internal type keeps what v1 has beside the security context.
    if (sc)
        kl_v_walk(c, ids, sc, p);
    if (kl_is_true(kl_get(spec, KL_F_shareProcessNamespace)) &&
        kl_is_true(kl_get(spec, KL_F_hostPID)))
        kl_v_invalid_text(c, F(p, shareProcessNamespace), KL_STR("true"),
                          "ShareProcessNamespace and HostPID cannot both be enabled");
    if (!sc)
        return;
    check_sysctls(c, kl_get(sc, KL_F_sysctls), spec, F(p, sysctls));
    kl_v_walk(c, change, sc, p);
    kl_v_walk(c, rest, sc, p);
    // Without SELinuxMount the other value is only kept.
    const struct kl_value *policy = kl_get(sc, KL_F_seLinuxChangePolicy);
    const char *const *allowed =
        kl_path(c->old, KL_F_spec, KL_F_securityContext, KL_F_seLinuxChangePolicy) ? selinux
                                                                                   : recursive;
    if (policy && !kl_v_in(kl_text(policy), allowed))
        kl_v_unsupported(c, F(p, seLinuxChangePolicy), kl_text(policy), allowed);
}
