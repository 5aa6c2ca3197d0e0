// SPDX-License-Identifier: Apache-2.0
#include "object/gates.h"
#include "base/buf.h"

static void set_row(struct kl_gate_set *s, uint16_t row, bool on)
{
    uint64_t bit = (uint64_t)1 << (row % 64);
    s->on[row / 64] = on ? s->on[row / 64] | bit : s->on[row / 64] & ~bit;
}

void kl_gate_set_default(struct kl_gate_set *s)
{
    *s = (struct kl_gate_set){0};
    for (uint16_t i = 0; i < kl_ngate_rows && i < KL_GATE_ROWS_MAX; i++)
        set_row(s, i, kl_gates[i].on);
}

static int find_gate(struct kl_str name)
{
    for (uint16_t i = 0; i < kl_ngates; i++)
        if (kl_str_eqz(name, kl_gates[i].name))
            return i;
    return -1;
}

bool kl_gate_named_on(const struct kl_gate_set *s, const char *name)
{
    int row = find_gate(kl_str(name));
    return row >= 0 && kl_gate_on(s, (uint16_t)row);
}

// strconv.ParseBool
static bool parse_bool(struct kl_str v, bool *ret)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
    for (size_t i = 0; i < KL_COUNT(yes); i++) {
        if (kl_str_eqz(v, yes[i]) || kl_str_eqz(v, no[i])) {
            *ret = kl_str_eqz(v, yes[i]);
            return true;
        }
    }
    return false;
}

// What upstream ties together: the first is not to be on without the second. By name; gates that
// are always on are left out.
static const struct {
    const char *gate, *needs;
} ties[] = {
    {"AuthorizeNodeWithSelectors", "AuthorizeWithSelectors"},
    {"ClusterTrustBundleProjection", "ClusterTrustBundle"},
    {"DRADeviceBindingConditions", "DRAResourceClaimDeviceStatus"},
    {"DRADeviceTaintRules", "DRADeviceTaints"},
    {"DRAResourceClaimGranularStatusAuthorization", "DRAResourceClaimDeviceStatus"},
    {"DRAWorkloadResourceClaims", "GenericWorkload"},
    {"DeclarativeValidationBeta", "DeclarativeValidation"},
    {"DeclarativeValidationTakeover", "DeclarativeValidation"},
    {"DisableAllocatorDualWrite", "MultiCIDRServiceAllocator"},
    {"ExtendWebSocketsToKubelet", "NodeDeclaredFeatures"},
    {"GangScheduling", "GenericWorkload"},
    {"GracefulNodeShutdownBasedOnPodPriority", "GracefulNodeShutdown"},
    {"ImageVolumeWithDigest", "ImageVolume"},
    {"InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScaling"},
    {"InPlacePodLevelResourcesVerticalScaling", "NodeDeclaredFeatures"},
    {"InPlacePodLevelResourcesVerticalScaling", "PodLevelResources"},
    {"InPlacePodVerticalScalingExclusiveCPUs", "InPlacePodVerticalScaling"},
    {"InPlacePodVerticalScalingExclusiveMemory", "InPlacePodVerticalScaling"},
    {"InPlacePodVerticalScalingInitContainers", "InPlacePodVerticalScaling"},
    {"InPlacePodVerticalScalingInitContainers", "NodeDeclaredFeatures"},
    {"MatchLabelKeysInPodTopologySpreadSelectorMerge", "MatchLabelKeysInPodTopologySpread"},
    {"PodCertificateRequest", "AuthorizeNodeWithSelectors"},
    {"PodLevelResourceManagers", "PodLevelResources"},
    {"PodLifecycleSleepActionAllowZero", "PodLifecycleSleepAction"},
    {"ProcMountType", "UserNamespacesSupport"},
    {"ResourceHealthStatusMessage", "ResourceHealthStatus"},
    {"RestartAllContainersOnContainerExits", "ContainerRestartRules"},
    {"RestartAllContainersOnContainerExits", "NodeDeclaredFeatures"},
    {"ServiceAccountTokenNodeBinding", "ServiceAccountTokenNodeBindingValidation"},
    {"StaleControllerConsistencyDaemonSet", "AtomicFIFO"},
    {"StaleControllerConsistencyJob", "AtomicFIFO"},
    {"StaleControllerConsistencyReplicaSet", "AtomicFIFO"},
    {"StaleControllerConsistencyStatefulSet", "AtomicFIFO"},
    {"StorageVersionAPI", "APIServerIdentity"},
    {"StructuredAuthenticationConfigurationEgressSelector",
     "StructuredAuthenticationConfiguration"},
    {"StructuredAuthenticationConfigurationJWKSMetrics", "StructuredAuthenticationConfiguration"},
    {"TopologyAwareWorkloadScheduling", "GenericWorkload"},
    {"UnknownVersionInteroperabilityProxy", "APIServerIdentity"},
    {"UserNamespacesHostNetworkSupport", "NodeDeclaredFeatures"},
    {"UserNamespacesHostNetworkSupport", "UserNamespacesSupport"},
    {"WindowsGracefulNodeShutdown", "GracefulNodeShutdown"},
    {"WorkloadAwarePreemption", "GangScheduling"},
    {"WorkloadWithJob", "GenericWorkload"},
};

// Every gate that is on without what it needs, as Go shows an aggregate of errors.
static int check_ties(const struct kl_gate_set *s, struct kl_error *err)
{
    struct kl_buf all;
    size_t n = 0;
    kl_buf_init(&all, sizeof err->msg);
    for (size_t i = 0; i < KL_COUNT(ties);) {
        size_t first = i, missing = 0;
        for (; i < KL_COUNT(ties) && !strcmp(ties[i].gate, ties[first].gate); i++) {
            if (!kl_gate_named_on(s, ties[i].gate) || kl_gate_named_on(s, ties[i].needs))
                continue;
            if (!missing++)
                kl_buf_printf(&all, "%s%s is enabled, but depends on features that are disabled: [",
                              n++ ? ", " : "", ties[i].gate);
            kl_buf_printf(&all, "%s%s", missing > 1 ? " " : "", ties[i].needs);
        }
        if (missing)
            kl_buf_putc(&all, ']');
    }
    int rc = 0;
    if (n)
        rc = kl_error_set(err, KL_EINVALID, n > 1 ? "[%.*s]" : "%.*s", KL_PRI(kl_buf_str(&all)));
    kl_buf_fini(&all);
    return rc;
}

// "kube:Name=true" or "Name=true".
static int split(const char *text, struct kl_str *name, bool *on, struct kl_error *err)
{
    struct kl_str s = kl_str_trim(kl_str(text));
    ptrdiff_t eq = kl_str_chr(s, '=');
    *name = eq < 0 ? s : kl_str_trim((struct kl_str){s.p, (size_t)eq});
    ptrdiff_t colon = kl_str_chr(*name, ':');
    if (colon >= 0) {
        struct kl_str component = {name->p, (size_t)colon};
        if (!kl_str_eqz(component, "kube"))
            return kl_error_set(err, KL_EINVALID, "component not registered: %.*s",
                                KL_PRI(component));
        *name = kl_str_from(*name, (size_t)colon + 1);
    }
    if (eq < 0)
        return kl_error_set(err, KL_EINVALID, "missing bool value for %.*s", KL_PRI(*name));
    struct kl_str value = kl_str_trim(kl_str_from(s, (size_t)eq + 1));
    if (!parse_bool(value, on))
        return kl_error_set(err, KL_EINVALID,
                            "invalid value of %.*s=%.*s, err: strconv.ParseBool: parsing "
                            "\"%.*s\": invalid syntax",
                            KL_PRI(*name), KL_PRI(value), KL_PRI(value));
    return 0;
}

static bool stage_of(struct kl_str name, enum kl_gate_stage *ret)
{
    *ret = kl_str_eqz(name, "AllAlpha") ? KL_GATE_STAGE_ALPHA : KL_GATE_STAGE_BETA;
    return kl_str_eqz(name, "AllAlpha") || kl_str_eqz(name, "AllBeta");
}

static int set_one(struct kl_gate_set *s, struct kl_str name, bool on, struct kl_error *err)
{
    int row = find_gate(name);
    if (row < 0)
        return kl_error_set(err, KL_EINVALID, "unrecognized feature gate: %.*s", KL_PRI(name));
    if (kl_gates[row].locked && kl_gates[row].on != on)
        return kl_error_set(
            err, KL_EINVALID, "cannot set feature gate %.*s to %s, feature is locked to %s",
            KL_PRI(name), on ? "true" : "false", kl_gates[row].on ? "true" : "false");
    set_row(s, (uint16_t)row, on);
    return 0;
}

// A pair is on when both are.
static void set_pairs(struct kl_gate_set *s)
{
    for (uint16_t i = kl_ngates; i < kl_ngate_rows; i++) {
        struct kl_str rest = kl_str(kl_gates[i].name), part;
        bool on = true;
        while (kl_str_split(&rest, ',', &part)) {
            int row = find_gate(part);
            on = on && row >= 0 && kl_gate_on(s, (uint16_t)row);
        }
        set_row(s, i, on);
    }
}

int kl_gate_set_parse(struct kl_gate_set *s, const char *const *list, struct kl_error *err)
{
    enum kl_gate_stage stage;
    struct kl_str name;
    bool on;
    int rc = 0;
    for (const char *const *p = list; p && *p; p++) {
        if ((rc = split(*p, &name, &on, err)))
            return rc;
        for (uint16_t i = 0; stage_of(name, &stage) && i < kl_ngates; i++)
            if (kl_gates[i].stage == stage && !kl_gates[i].locked)
                set_row(s, i, on);
    }
    for (const char *const *p = list; p && *p && !rc; p++)
        if (!(rc = split(*p, &name, &on, err)) && !stage_of(name, &stage))
            rc = set_one(s, name, on, err);
    set_pairs(s);
    for (uint16_t i = 0; i < kl_ngate_rows; i++)
        s->changed = s->changed || kl_gate_on(s, i) != kl_gates[i].on;
    return rc || !s->changed ? rc : check_ties(s, err);
}
