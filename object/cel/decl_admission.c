// SPDX-License-Identifier: Apache-2.0
// The types of `request` and `namespaceObject` in admission policies.
#include "object/cel/env_int.h"

// "name type": s string, b bool, t timestamp, i int, d dyn, l list(string), m map(string, string),
// M map(string, list(string)), or the index of an object made before.
struct member {
    const char *name;
    char type;
};

static const struct kl_cel_decl *of_letter(struct kl_cel_env *e, char type,
                                           const struct kl_cel_decl *const *made)
{
    const struct kl_cel_decl *s = kl_cel_decl_simple(e, KL_CEL_T_STRING);
    switch (type) {
    case 's':
        return s;
    case 'b':
        return kl_cel_decl_simple(e, KL_CEL_T_BOOL);
    case 't':
        return kl_cel_decl_simple(e, KL_CEL_T_TIMESTAMP);
    case 'i':
        return kl_cel_decl_simple(e, KL_CEL_T_INT);
    case 'd':
        return kl_cel_decl_simple(e, KL_CEL_T_DYN);
    case 'l':
        return kl_cel_decl_list(e, s, -1);
    case 'm':
        return kl_cel_decl_map(e, s, -1);
    case 'M':
        return kl_cel_decl_map(e, kl_cel_decl_list(e, s, -1), -1);
    case 'c': // conditions
        return kl_cel_decl_list(e, made[0], -1);
    default:
        return made[type - '0'];
    }
}

static const struct kl_cel_decl *build(struct kl_cel_env *e, const char *name,
                                       const struct member *members, size_t n,
                                       const struct kl_cel_decl *const *made)
{
    struct kl_cel_field fields[16];
    for (size_t i = 0; i < n; i++)
        fields[i] =
            (struct kl_cel_field){kl_str(members[i].name), of_letter(e, members[i].type, made)};
    return kl_cel_decl_object(e, kl_str(name), fields, n);
}

const struct kl_cel_decl *kl_cel_decl_request(struct kl_cel_env *e)
{
    static const struct member gvk[] = {{"group", 's'}, {"version", 's'}, {"kind", 's'}};
    static const struct member gvr[] = {{"group", 's'}, {"version", 's'}, {"resource", 's'}};
    static const struct member user[] = {
        {"username", 's'}, {"uid", 's'}, {"groups", 'l'}, {"extra", 'M'}};
    static const struct member request[] = {
        {"kind", '0'},        {"resource", '1'},        {"subResource", 's'},
        {"requestKind", '0'}, {"requestResource", '1'}, {"requestSubResource", 's'},
        {"name", 's'},        {"namespace", 's'},       {"operation", 's'},
        {"userInfo", '2'},    {"dryRun", 'b'},          {"options", 'd'}};
    const struct kl_cel_decl *made[3];
    made[0] = build(e, "kubernetes.GroupVersionKind", gvk, KL_COUNT(gvk), NULL);
    made[1] = build(e, "kubernetes.GroupVersionResource", gvr, KL_COUNT(gvr), NULL);
    made[2] = build(e, "kubernetes.UserInfo", user, KL_COUNT(user), NULL);
    return build(e, "kubernetes.AdmissionRequest", request, KL_COUNT(request), made);
}

const struct kl_cel_decl *kl_cel_decl_namespace(struct kl_cel_env *e)
{
    static const struct member condition[] = {{"status", 's'},
                                              {"type", 's'},
                                              {"lastTransitionTime", 't'},
                                              {"message", 's'},
                                              {"reason", 's'}};
    static const struct member spec[] = {{"finalizers", 'l'}};
    static const struct member status[] = {{"conditions", 'c'}, {"phase", 's'}};
    static const struct member meta[] = {{"name", 's'},
                                         {"generateName", 's'},
                                         {"namespace", 's'},
                                         {"labels", 'm'},
                                         {"annotations", 'm'},
                                         {"UID", 's'},
                                         {"creationTimestamp", 't'},
                                         {"deletionGracePeriodSeconds", 'i'},
                                         {"deletionTimestamp", 't'},
                                         {"generation", 'i'},
                                         {"resourceVersion", 's'},
                                         {"finalizers", 'l'}};
    static const struct member ns[] = {{"metadata", '1'}, {"spec", '2'}, {"status", '3'}};
    const struct kl_cel_decl *made[4];
    made[0] = build(e, "kubernetes.NamespaceCondition", condition, KL_COUNT(condition), NULL);
    made[1] = build(e, "kubernetes.NamespaceMetadata", meta, KL_COUNT(meta), NULL);
    made[2] = build(e, "kubernetes.NamespaceSpec", spec, KL_COUNT(spec), NULL);
    made[3] = build(e, "kubernetes.NamespaceStatus", status, KL_COUNT(status), made);
    return build(e, "kubernetes.Namespace", ns, KL_COUNT(ns), made);
}
