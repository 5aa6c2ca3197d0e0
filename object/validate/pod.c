// SPDX-License-Identifier: Apache-2.0
// Pods: create, update and the subresources status, ephemeralcontainers, resize and binding.
#include "object/validate/pod_int.h"

#define UPDATABLE                                                                                  \
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"      \
    "`spec.tolerations` (only additions to existing tolerations),"                                 \
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

static const struct kl_value *annotations_of(const struct kl_value *root)
{
    return kl_path(root, KL_F_metadata, KL_F_annotations);
}

static void check_images(struct kl_v *c, kl_sym list)
{
    size_t i = 0;
    for (KL_EACH(ctr, kl_get(kl_v_spec(c), list)))
        kl_v_container_image(c, ctr, I(FS(&c->spec, list), i++));
}

// validatePodMetadataAndSpec
static void check_pod(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c);
    struct kl_pod_ctx x = {.is_pod = true, .spec = spec, .meta = kl_get(c->now, KL_F_metadata)};
    kl_v_meta(c, KL_V_SUBDOMAIN);
    kl_v_pod_annotations(c, annotations_of(c->now), spec, F(&c->meta, annotations));
    kl_v_pod_spec(c, &x, &c->spec);
    if (!kl_text(kl_get(spec, KL_F_serviceAccountName)).n) {
        size_t i = 0;
        for (KL_EACH(v, kl_get(spec, KL_F_volumes))) {
            const struct kl_vpath *p = F(F(I(F(&c->spec, volumes), i++), projected), sources);
            size_t k = 0;
            for (KL_EACH(s, kl_path(v, KL_F_projected, KL_F_sources))) {
                if (kl_get(s, KL_F_serviceAccountToken))
                    kl_v_forbidden(c, F(I(p, k), serviceAccountToken),
                                   "must not be specified when serviceAccountName is not set");
                k++;
            }
        }
    }
    check_images(c, KL_F_containers);
    check_images(c, KL_F_initContainers);
}

static void create_pod(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c);
    check_pod(c);
    if (kl_len(kl_get(spec, KL_F_ephemeralContainers)))
        kl_v_forbidden(c, F(&c->spec, ephemeralContainers), "cannot be set on create");
    if (kl_text(kl_get(spec, KL_F_nodeName)).n && kl_len(kl_get(spec, KL_F_schedulingGates)))
        kl_v_forbidden(c, F(&c->spec, nodeName),
                       "cannot be set until all schedulingGates have been cleared");
    kl_v_profile_annotations(c, annotations_of(c->now), spec, &c->spec);
}

// ValidatePodSpecificAnnotationUpdates
static void check_annotation_changes(struct kl_v *c)
{
    static const char apparmor[] = "container.apparmor.security.beta.kubernetes.io/";
    static const char mirror[] = "kubernetes.io/config.mirror";
    const struct kl_value *now = annotations_of(c->now), *old = annotations_of(c->old);
    const struct kl_vpath *p = F(&c->meta, annotations);
    for (KL_MAP_EACH_KEY(kv, old)) {
        const struct kl_value *v = kl_map_value(now, kl_text(kv));
        if (v && kl_str_eq(kl_text(v), kl_text(kv + 1)))
            continue;
        if (kl_str_starts(kl_text(kv), kl_str(apparmor)))
            kl_v_forbidden(c, K(p, kl_text(kv)), "may not remove or update AppArmor annotations");
        if (kl_str_eqz(kl_text(kv), mirror))
            kl_v_forbidden(c, K(p, kl_text(kv)), "may not remove or update mirror pod annotation");
    }
    for (KL_MAP_EACH_KEY(kv, now)) {
        if (kl_map_value(old, kl_text(kv)))
            continue;
        if (kl_str_starts(kl_text(kv), kl_str(apparmor)))
            kl_v_forbidden(c, K(p, kl_text(kv)), "may not add AppArmor annotations");
        if (kl_str_eqz(kl_text(kv), mirror))
            kl_v_forbidden(c, K(p, kl_text(kv)), "may not add mirror pod annotation");
    }
    kl_v_pod_annotations(c, now, kl_v_spec(c), p);
}

// ValidateContainerUpdates: false when nothing more can be said.
static bool check_container_updates(struct kl_v *c, kl_sym list)
{
    const struct kl_value *now = kl_get(kl_v_spec(c), list);
    const struct kl_vpath *p = FS(&c->spec, list);
    if (kl_len(now) != kl_len(kl_get(kl_v_old_spec(c), list))) {
        kl_v_forbidden(c, p, "pod updates may not add or remove containers");
        return false;
    }
    for (size_t i = 0; i < kl_len(now); i++) {
        if (!kl_text(kl_get(kl_at(now, i), KL_F_image)).n)
            kl_v_required(c, F(I(p, i), image), "");
        kl_v_container_image(c, kl_at(now, i), I(p, i));
    }
    return true;
}

static bool check_deadline(struct kl_v *c)
{
    const struct kl_value *now = kl_get(kl_v_spec(c), KL_F_activeDeadlineSeconds);
    const struct kl_value *old = kl_get(kl_v_old_spec(c), KL_F_activeDeadlineSeconds);
    const struct kl_vpath *p = F(&c->spec, activeDeadlineSeconds);
    int64_t n = kl_int_or(now, 0);
    if (!now && old) {
        kl_v_invalid(c, p, NULL, "must not update from a positive integer to nil value");
    } else if (now && (n < 0 || n > INT32_MAX)) {
        kl_v_range(c, p, n, 0, INT32_MAX);
        return false;
    } else if (now && old && kl_int_or(old, 0) < n) {
        kl_v_invalid_int(c, p, n, "must be less than or equal to previous value");
        return false;
    }
    return true;
}

static bool same_but(const struct kl_value *a, const struct kl_value *b, const kl_sym *but,
                     size_t nbut);

static void check_tolerations(struct kl_v *c)
{
    static const kl_sym seconds[] = {KL_F_tolerationSeconds};
    const struct kl_value *now = kl_get(kl_v_spec(c), KL_F_tolerations);
    for (KL_EACH(old, kl_get(kl_v_old_spec(c), KL_F_tolerations))) {
        bool found = false;
        for (KL_EACH(t, now))
            found |= same_but(t, old, seconds, 1);
        if (!found) {
            kl_v_forbidden(c, F(&c->spec, tolerations),
                           "existing toleration can not be modified except its tolerationSeconds");
            return;
        }
    }
    kl_v_tolerations(c, now, F(&c->spec, tolerations));
}

static bool has_name(const struct kl_value *list, struct kl_str name)
{
    for (KL_EACH(x, list))
        if (kl_str_eq(kl_text(kl_get(x, KL_F_name)), name))
            return true;
    return false;
}

static void check_gates(struct kl_v *c)
{
    const struct kl_value *now = kl_get(kl_v_spec(c), KL_F_schedulingGates);
    const struct kl_value *old = kl_get(kl_v_old_spec(c), KL_F_schedulingGates);
    for (size_t i = 0; i < kl_len(now); i++) {
        struct kl_str name = kl_text(kl_get(kl_at(now, i), KL_F_name));
        bool later = false; // the last of a name counts
        for (size_t k = i + 1; k < kl_len(now); k++)
            later |= kl_str_eq(kl_text(kl_get(kl_at(now, k), KL_F_name)), name);
        if (!later && !has_name(old, name))
            kl_v_forbidden(c, F(I(F(&c->spec, schedulingGates), i), name),
                           kl_v_text(c,
                                     "only deletion is allowed, but found new scheduling gate "
                                     "'%.*s'",
                                     KL_PRI(name)));
    }
}

static bool is_one_of(kl_sym f, const kl_sym *set, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (set[i] == f)
            return true;
    return false;
}

// Equal but for some members.
static bool same_but(const struct kl_value *a, const struct kl_value *b, const kl_sym *but,
                     size_t nbut)
{
    for (KL_EACH(x, a))
        if (!is_one_of(x->sym, but, nbut) && !kl_value_equal(x, kl_get(b, x->sym)))
            return false;
    for (KL_EACH(y, b))
        if (!is_one_of(y->sym, but, nbut) && !kl_get(a, y->sym) && !kl_is(y, KL_NULL))
            return false;
    return true;
}

static bool same_containers(const struct kl_value *a, const struct kl_value *b)
{
    static const kl_sym image[] = {KL_F_image};
    for (size_t i = 0; i < kl_len(a); i++)
        if (!same_but(kl_at(a, i), kl_at(b, i), image, 1))
            return false;
    return true;
}

// Of a gated pod node selectors may grow.
static bool check_gated(struct kl_v *c, const struct kl_value *now, const struct kl_value *old)
{
    const struct kl_value *was = kl_get(old, KL_F_nodeSelector),
                          *is = kl_get(now, KL_F_nodeSelector);
    const struct kl_value *node = kl_path(now, KL_F_affinity, KL_F_nodeAffinity);
    const struct kl_value *old_node = kl_path(old, KL_F_affinity, KL_F_nodeAffinity);
    static const kl_sym affinity[] = {KL_F_nodeAffinity};
    for (KL_MAP_EACH_KEY(kv, was)) {
        const struct kl_value *v = kl_map_value(is, kl_text(kv));
        if (v && kl_str_eq(kl_text(v), kl_text(kv + 1)))
            continue;
        kl_v_invalid_text(
            c, F(&c->spec, nodeSelector), is ? kl_v_json(c, NULL, is, false) : KL_STR("null"),
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)");
        break;
    }
    if (!kl_value_equal(node, old_node))
        kl_v_node_affinity_change(c, node, old_node, F(F(&c->spec, affinity), nodeAffinity));
    return same_but(kl_get(now, KL_F_affinity), kl_get(old, KL_F_affinity), affinity, 1);
}

static void check_same(struct kl_v *c)
{
    static const kl_sym open[] = {KL_F_activeDeadlineSeconds, KL_F_tolerations,
                                  KL_F_schedulingGates,       KL_F_containers,
                                  KL_F_initContainers,        KL_F_terminationGracePeriodSeconds,
                                  KL_F_nodeSelector,          KL_F_affinity};
    const struct kl_value *now = kl_v_spec(c), *old = kl_v_old_spec(c);
    if (kl_value_equal(now, old))
        return;
    const struct kl_value *grace = kl_get(now, KL_F_terminationGracePeriodSeconds);
    const struct kl_value *was = kl_get(old, KL_F_terminationGracePeriodSeconds);
    bool gated = kl_len(kl_get(old, KL_F_schedulingGates)) != 0;
    bool same =
        same_but(now, old, open, KL_COUNT(open)) &&
        same_containers(kl_get(now, KL_F_containers), kl_get(old, KL_F_containers)) &&
        same_containers(kl_get(now, KL_F_initContainers), kl_get(old, KL_F_initContainers)) &&
        (kl_value_equal(grace, was) || (kl_int_or(was, 0) < 0 && kl_int_or(grace, 0) == 1) ||
         (kl_int_or(was, 0) == 1 && kl_int_or(grace, 0) < 0));
    if (gated)
        same &= check_gated(c, now, old);
    else
        same &= kl_value_equal(kl_get(now, KL_F_nodeSelector), kl_get(old, KL_F_nodeSelector)) &&
                kl_value_equal(kl_get(now, KL_F_affinity), kl_get(old, KL_F_affinity));
    // Upstream adds a diff behind the newline.
    if (!same)
        kl_v_forbidden(c, &c->spec, "pod updates may not change fields other than " UPDATABLE "\n");
}

static void update_pod(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_pod(c);
    check_annotation_changes(c);
    if (!check_container_updates(c, KL_F_containers) ||
        !check_container_updates(c, KL_F_initContainers) || !check_deadline(c))
        return;
    check_tolerations(c);
    check_gates(c);
    check_same(c);
}

// ---- ephemeralcontainers, resize

static bool is_static(const struct kl_v *c)
{
    return kl_map_value(annotations_of(c->old), KL_STR("kubernetes.io/config.mirror")) != NULL;
}

static void update_ephemeral(struct kl_v *c)
{
    const struct kl_value *now = kl_get(kl_v_spec(c), KL_F_ephemeralContainers);
    if (is_static(c)) {
        kl_v_forbidden(c, N(NULL, "[]"), "static pods do not support ephemeral containers");
        return;
    }
    kl_v_meta_update(c);
    check_pod(c);
    check_annotation_changes(c);
    for (KL_EACH(old, kl_get(kl_v_old_spec(c), KL_F_ephemeralContainers))) {
        struct kl_str name = kl_text(kl_get(old, KL_F_name));
        const struct kl_value *found = NULL;
        for (KL_EACH(x, now))
            if (kl_str_eq(kl_text(kl_get(x, KL_F_name)), name))
                found = x;
        if (!found || !kl_value_equal(found, old))
            kl_v_forbidden(c, F(&c->spec, ephemeralContainers),
                           kl_v_text(c, "existing ephemeral containers \"%.*s\" may not be %s\n",
                                     KL_PRI(name), found ? "changed" : "removed"));
    }
}

// ---- status

static void check_conditions(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    static const char *const ours[] = {"PodScheduled", "Ready", "Initialized", NULL};
    size_t i = 0;
    for (KL_EACH(v, list)) {
        const struct kl_vpath *at = I(p, i++);
        struct kl_str type = kl_text(kl_get(v, KL_F_type));
        int64_t generation = kl_int_at(v, 0, KL_F_observedGeneration);
        if (generation < 0)
            kl_v_invalid_int(c, F(at, observedGeneration), generation,
                             "must be a non-negative integer");
        if (!kl_v_in(type, ours))
            kl_v_format(c, N(at, "Type"), type, KL_V_QUALIFIED);
    }
}

static const struct kl_value *named(const struct kl_value *list, struct kl_str name)
{
    for (KL_EACH(x, list))
        if (kl_str_eq(kl_text(kl_get(x, KL_F_name)), name))
            return x;
    return NULL;
}

// podutil.AllContainersCouldRestart
static bool all_may_restart(const struct kl_value *spec)
{
    static const kl_sym lists[] = {KL_F_containers, KL_F_initContainers};
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (KL_EACH(ctr, kl_get(spec, lists[l])))
            for (KL_EACH(r, kl_get(ctr, KL_F_restartPolicyRules)))
                if (kl_v_is(r, KL_F_action, "RestartAllContainers"))
                    return true;
    return false;
}

// podutil.ContainerShouldRestart
static bool may_restart(const struct kl_value *spec, const struct kl_value *ctr, int64_t code)
{
    for (KL_EACH(r, kl_get(ctr, KL_F_restartPolicyRules))) {
        const struct kl_value *codes = kl_get(r, KL_F_exitCodes);
        bool in = false;
        for (KL_EACH(x, kl_get(codes, KL_F_values)))
            in |= kl_int_or(x, 0) == code;
        if (codes && in == kl_v_is(codes, KL_F_operator, "In") &&
            kl_v_is(r, KL_F_action, "Restart"))
            return true;
    }
    struct kl_str policy = kl_text(kl_get(ctr, KL_F_restartPolicy));
    if (!policy.n)
        policy = kl_text(kl_get(spec, KL_F_restartPolicy));
    return kl_str_eqz(policy, "Always") || (kl_str_eqz(policy, "OnFailure") && code != 0);
}

static void check_transitions(struct kl_v *c, kl_sym list, kl_sym containers)
{
    const struct kl_value *spec = kl_v_old_spec(c);
    const struct kl_value *old = kl_path(c->old, KL_F_status, list);
    const struct kl_value *now = kl_path(c->now, KL_F_status, list);
    if (containers && all_may_restart(spec))
        return;
    for (size_t i = 0; i < kl_len(old); i++) {
        const struct kl_value *o = kl_at(old, i), *t = kl_path(o, KL_F_state, KL_F_terminated);
        struct kl_str name = kl_text(kl_get(o, KL_F_name));
        const struct kl_value *n = t ? named(now, name) : NULL;
        if (!n || kl_path(n, KL_F_state, KL_F_terminated))
            continue;
        const struct kl_value *ctr = containers ? named(kl_get(spec, containers), name) : NULL;
        if (!ctr || !may_restart(spec, ctr, kl_int_at(t, 0, KL_F_exitCode)))
            kl_v_forbidden(c, F(I(FS(&c->status, list), i), state),
                           "may not be transitioned to non-terminated state");
    }
}

static void check_ips(struct kl_v *c, kl_sym list)
{
    const struct kl_value *now = kl_path(c->now, KL_F_status, list);
    const struct kl_value *old = kl_path(c->old, KL_F_status, list);
    const struct kl_vpath *p = FS(&c->status, list);
    for (size_t i = 0; i < kl_len(now); i++) {
        struct kl_str ip = kl_text(kl_get(kl_at(now, i), KL_F_ip));
        bool had = false;
        for (KL_EACH(x, old))
            had |= kl_str_eq(kl_text(kl_get(x, KL_F_ip)), ip);
        if (!had)
            kl_v_ip(c, I(p, i), ip, false);
    }
    if (kl_len(now) < 2)
        return;
    bool v4 = false, v6 = false, bad = false;
    for (size_t i = 0; i < kl_len(now) && !bad; i++) {
        struct kl_str ip = kl_text(kl_get(kl_at(now, i), KL_F_ip));
        int family = kl_v_ip_family(ip);
        bad = !family;
        if (bad)
            kl_v_internal(c, p,
                          kl_v_text(c,
                                    "failed to check for dual stack with error:invalid IP[%zu]: "
                                    "%.*s",
                                    i, KL_PRI(ip)));
        v4 |= family == 4;
        v6 |= family == 6;
    }
    if (kl_len(now) > 2 || bad || !v4 || !v6)
        kl_v_invalid_json(c, p, kl_type_field(kl_type(KL_TYPE_core_v1_PodStatus), list)->type, now,
                          true, "may specify no more than one IP for each IP family");
}

static void check_claim_statuses(struct kl_v *c, const struct kl_value *list,
                                 const struct kl_vpath *p)
{
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *v = kl_at(list, i), *claim = kl_get(v, KL_F_resourceClaimName);
        struct kl_str name = kl_text(kl_get(v, KL_F_name));
        const struct kl_vpath *at = I(p, i);
        if (!named(kl_get(kl_v_spec(c), KL_F_resourceClaims), name))
            kl_v_invalid_str(c, F(at, name), name,
                             "must match the name of an entry in `spec.resourceClaims`");
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_name)), name)) {
                kl_v_duplicate(c, F(at, name), name);
                break;
            }
        if (claim)
            kl_v_format(c, F(at, resourceClaimName), kl_text(claim), KL_V_SUBDOMAIN);
    }
}

static void check_users(struct kl_v *c, kl_sym list)
{
    static const struct kl_rule ids[] = {R_RANGE_ANY(uid, 0, INT32_MAX),
                                         R_RANGE_ANY(gid, 0, INT32_MAX), R_END};
    const struct kl_value *os = kl_path(kl_v_spec(c), KL_F_os);
    bool windows = kl_v_is(os, KL_F_name, "windows");
    size_t i = 0;
    for (KL_EACH(s, kl_path(c->now, KL_F_status, list))) {
        const struct kl_value *user = kl_path(s, KL_F_user, KL_F_linux);
        const struct kl_vpath *p = F(F(I(FS(&c->status, list), i++), user), linux);
        size_t g = 0;
        if (!user)
            continue;
        if (windows) {
            kl_v_forbidden(c, p, "cannot be set for a windows pod");
            continue;
        }
        kl_v_walk(c, ids, user, p);
        for (KL_EACH(x, kl_get(user, KL_F_supplementalGroups)))
            kl_v_range(c, I(F(p, supplementalGroups), g++), kl_int_or(x, 0), 0, INT32_MAX);
    }
}

static void status_pod(struct kl_v *c)
{
    const struct kl_value *now = kl_get(c->now, KL_F_status), *old = kl_get(c->old, KL_F_status);
    struct kl_str nominated = kl_text(kl_get(now, KL_F_nominatedNodeName));
    struct kl_str was = kl_text(kl_get(old, KL_F_nominatedNodeName));
    struct kl_str node = kl_text(kl_get(kl_v_old_spec(c), KL_F_nodeName));
    int64_t generation = kl_int_at(now, 0, KL_F_observedGeneration);
    const struct kl_vpath *p = &c->status;
    kl_v_meta_update(c);
    check_annotation_changes(c);
    check_conditions(c, kl_get(now, KL_F_conditions), F(p, conditions));
    if (!kl_str_eq(nominated, was) && nominated.n)
        kl_v_format(c, F(p, nominatedNodeName), nominated, KL_V_SUBDOMAIN);
    if (node.n && nominated.n && !kl_str_eq(nominated, was))
        kl_v_forbidden(c, F(p, nominatedNodeName),
                       "may not be set on pods that are already bound to a node");
    if (generation < 0)
        kl_v_invalid_int(c, F(p, observedGeneration), generation, "must be a non-negative integer");
    struct kl_str qos = kl_text(kl_get(now, KL_F_qosClass));
    if (qos.n && !kl_str_eq(qos, kl_text(kl_get(old, KL_F_qosClass))))
        kl_v_invalid_str(c, F(p, qosClass), qos, "field is immutable");
    check_transitions(c, KL_F_containerStatuses, KL_F_containers);
    check_transitions(c, KL_F_initContainerStatuses, KL_F_initContainers);
    check_transitions(c, KL_F_ephemeralContainerStatuses, KL_SYM_NONE);
    check_claim_statuses(c, kl_get(now, KL_F_resourceClaimStatuses), F(p, resourceClaimStatuses));
    check_ips(c, KL_F_podIPs);
    const struct kl_value *first = kl_at(kl_get(now, KL_F_hostIPs), 0);
    if (first && !kl_str_eq(kl_text(kl_get(first, KL_F_ip)), kl_text(kl_get(now, KL_F_hostIP))))
        kl_v_invalid_str(c, F(I(F(p, hostIPs), 0), ip), kl_text(kl_get(first, KL_F_ip)),
                         "must be equal to `hostIP`");
    check_ips(c, KL_F_hostIPs);
    check_users(c, KL_F_containerStatuses);
    check_users(c, KL_F_initContainerStatuses);
    check_users(c, KL_F_ephemeralContainerStatuses);
}

static void update_resize(struct kl_v *c)
{
    if (is_static(c)) {
        kl_v_forbidden(c, N(NULL, "[]"), "static pods cannot be resized");
        return;
    }
    if (kl_v_is(kl_get(kl_v_old_spec(c), KL_F_os), KL_F_name, "windows")) {
        kl_v_forbidden(c, N(NULL, "[]"), "windows pods cannot be resized");
        return;
    }
    kl_v_meta_update(c);
    check_pod(c);
    kl_v_pod_resize(c);
}

static void create_pod_template(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    kl_v_pod_template(c, kl_get(c->now, KL_F_template), F(NULL, template));
}

static void update_pod_template(struct kl_v *c)
{
    kl_v_meta_update(c);
    kl_v_pod_template(c, kl_get(c->now, KL_F_template), F(NULL, template));
}

const struct kl_v_kind kl_v_pods[] = {
    {KL_RES_core_v1_pods, create_pod, update_pod, status_pod, "ephemeralcontainers",
     update_ephemeral},
    {KL_RES_core_v1_pods, create_pod, NULL, NULL, "resize", update_resize},
    {KL_RES_core_v1_podtemplates, create_pod_template, update_pod_template, NULL, NULL, NULL},
    {0},
};
