// SPDX-License-Identifier: Apache-2.0
// ServiceAccount: every pod runs as one, with its token mounted and its pull secrets; an account
// may ask that its pods use no other Secrets than its own.
#include "apiserver/admission/plugins_int.h"
#include "base/rand.h"

#define TOKEN_PATH KL_STR("/var/run/secrets/kubernetes.io/serviceaccount")
#define VOLUME "kube-api-access-"

// ---- the volume with token, CA and namespace

static struct kl_value key_to_path(struct kl_arena *a, const char *key)
{
    struct kl_value v = kl_new_struct();
    kl_set(a, &v, KL_F_key, kl_stringz(key));
    kl_set(a, &v, KL_F_path, kl_stringz(key));
    return v;
}

static struct kl_value one_of(struct kl_arena *a, kl_sym field, struct kl_value v)
{
    struct kl_value s = kl_new_struct();
    kl_set(a, &s, field, v);
    return s;
}

static struct kl_value token_volume(struct kl_arena *a, struct kl_str name)
{
    struct kl_value token = kl_new_struct(), cm = kl_new_struct(), items = kl_new_array();
    struct kl_value down = kl_new_struct(), file = kl_new_struct(), ref = kl_new_struct();
    struct kl_value sources = kl_new_array(), proj = kl_new_struct(), v = kl_new_struct();
    kl_set(a, &token, KL_F_expirationSeconds, kl_int(3607));
    kl_set(a, &token, KL_F_path, kl_stringz("token"));
    kl_append(a, &sources, one_of(a, KL_F_serviceAccountToken, token));
    kl_append(a, &items, key_to_path(a, "ca.crt"));
    kl_set(a, &cm, KL_F_name, kl_stringz("kube-root-ca.crt"));
    kl_set(a, &cm, KL_F_items, items);
    kl_append(a, &sources, one_of(a, KL_F_configMap, cm));
    kl_set(a, &ref, KL_F_apiVersion, kl_stringz("v1"));
    kl_set(a, &ref, KL_F_fieldPath, kl_stringz("metadata.namespace"));
    kl_set(a, &file, KL_F_path, kl_stringz("namespace"));
    kl_set(a, &file, KL_F_fieldRef, ref);
    items = kl_new_array();
    kl_append(a, &items, file);
    kl_set(a, &down, KL_F_items, items);
    kl_append(a, &sources, one_of(a, KL_F_downwardAPI, down));
    kl_set(a, &proj, KL_F_sources, sources);
    kl_set(a, &proj, KL_F_defaultMode, kl_int(0644));
    kl_set(a, &v, KL_F_name, kl_string(name));
    kl_set(a, &v, KL_F_projected, proj);
    return v;
}

// Something is mounted where the token goes, by the user or by an earlier admission.
static bool mounts_token(const struct kl_value *c)
{
    for (KL_EACH(m, kl_get(c, KL_F_volumeMounts)))
        if (kl_str_eq(kl_text(kl_get(m, KL_F_mountPath)), TOKEN_PATH))
            return true;
    return false;
}

static int mount_in(struct kl_admit *ad, struct kl_value *container, struct kl_str volume)
{
    struct kl_arena *a = ad->r->arena;
    struct kl_value m = kl_new_struct();
    kl_set(a, &m, KL_F_name, kl_string(volume));
    kl_set(a, &m, KL_F_readOnly, kl_bool(true));
    kl_set(a, &m, KL_F_mountPath, kl_string(TOKEN_PATH));
    struct kl_value *ms = kl_edit(a, container, KL_F_volumeMounts, KL_ARRAY);
    return !ms || kl_append(a, ms, m) ? kl_admit_oom(ad) : 0;
}

static int mount_token(struct kl_admit *ad, struct kl_value *spec)
{
    static const kl_sym lists[] = {KL_F_initContainers, KL_F_containers};
    struct kl_arena *a = ad->r->arena;
    struct kl_str volume = {NULL, 0};
    for (KL_EACH(v, kl_get(spec, KL_F_volumes)))
        if (!volume.p && kl_str_starts(kl_text(kl_get(v, KL_F_name)), KL_STR(VOLUME)))
            volume = kl_text(kl_get(v, KL_F_name));
    bool has = volume.p, needs = false;
    if (!has) {
        char suffix[6];
        kl_rand_name(suffix, 5);
        volume = kl_arena_printf(a, VOLUME "%s", suffix);
    }
    for (size_t l = 0; l < KL_COUNT(lists); l++) {
        size_t n = kl_len(kl_get(spec, lists[l]));
        for (size_t i = 0; i < n; i++) {
            if (mounts_token(kl_at(kl_get(spec, lists[l]), i)))
                continue;
            struct kl_value *c = kl_edit_at(a, kl_edit(a, spec, lists[l], KL_ARRAY), i);
            if (!c || mount_in(ad, c, volume))
                return kl_admit_oom(ad);
            needs = true;
        }
    }
    if (has || !needs)
        return 0;
    struct kl_value *vs = kl_edit(a, spec, KL_F_volumes, KL_ARRAY);
    return !vs || kl_append(a, vs, token_volume(a, volume)) ? kl_admit_oom(ad) : 0;
}

// ---- accounts

static int find_account(struct kl_admit *ad, struct kl_str name, struct kl_object **ret)
{
    *ret = kl_admit_find(ad->r, KL_RES_core_v1_serviceaccounts, ad->ns, name);
    if (*ret)
        return 0;
    return kl_admit_forbid(ad,
                           "error looking up service account %.*s/%.*s: serviceaccount \"%.*s\" "
                           "not found",
                           KL_PRI(ad->ns), KL_PRI(name), KL_PRI(name));
}

static int check_mirror(struct kl_admit *ad)
{
    const struct kl_value *spec = kl_get(ad->object, KL_F_spec);
    if (kl_text(kl_get(spec, KL_F_serviceAccountName)).n)
        return kl_admit_forbid(ad, "a mirror pod may not reference service accounts");
    if (kl_pod_refers_secret(spec))
        return kl_admit_forbid(ad, "a mirror pod may not reference secrets");
    for (KL_EACH(v, kl_get(spec, KL_F_volumes)))
        for (KL_EACH(s, kl_path(v, KL_F_projected, KL_F_sources)))
            if (kl_get(s, KL_F_serviceAccountToken))
                return kl_admit_forbid(
                    ad, "a mirror pod may not use ServiceAccountToken volume projections");
    return 0;
}

// strconv.ParseBool
static bool is_true(struct kl_str s)
{
    static const char *const words[] = {"1", "t", "T", "TRUE", "true", "True"};
    for (size_t i = 0; i < KL_COUNT(words); i++)
        if (kl_str_eqz(s, words[i]))
            return true;
    return false;
}

static bool limits_secrets(const struct kl_value *account)
{
    return is_true(kl_text(kl_map_value(kl_meta_annotations(account),
                                        KL_STR("kubernetes.io/enforce-mountable-secrets"))));
}

static bool listed(const struct kl_value *list, struct kl_str name)
{
    for (KL_EACH(s, list))
        if (kl_str_eq(kl_text(kl_get(s, KL_F_name)), name))
            return true;
    return false;
}

static int check_containers(struct kl_admit *ad, const struct kl_value *account, kl_sym list,
                            const char *what)
{
    const struct kl_value *own = kl_get(account, KL_F_secrets);
    struct kl_str who = kl_meta_name(account);
    for (KL_EACH(c, kl_path(ad->object, KL_F_spec, list))) {
        struct kl_str name = kl_text(kl_get(c, KL_F_name));
        for (KL_EACH(e, kl_get(c, KL_F_env))) {
            const struct kl_value *ref = kl_path(e, KL_F_valueFrom, KL_F_secretKeyRef);
            struct kl_str secret = kl_text(kl_get(ref, KL_F_name));
            struct kl_str env = kl_text(kl_get(e, KL_F_name));
            if (ref && !listed(own, secret))
                return kl_admit_forbid(ad,
                                       "%s %.*s with envVar %.*s referencing "
                                       "secret.secretName=\"%.*s\" is not allowed because service "
                                       "account %.*s does not reference that secret",
                                       what, KL_PRI(name), KL_PRI(env), KL_PRI(secret),
                                       KL_PRI(who));
        }
        for (KL_EACH(e, kl_get(c, KL_F_envFrom))) {
            const struct kl_value *ref = kl_get(e, KL_F_secretRef);
            struct kl_str secret = kl_text(kl_get(ref, KL_F_name));
            if (ref && !listed(own, secret))
                return kl_admit_forbid(ad,
                                       "%s %.*s with envFrom referencing "
                                       "secret.secretName=\"%.*s\" is not allowed because service "
                                       "account %.*s does not reference that secret",
                                       what, KL_PRI(name), KL_PRI(secret), KL_PRI(who));
        }
    }
    return 0;
}

static int check_secrets(struct kl_admit *ad, const struct kl_value *account)
{
    struct kl_str who = kl_meta_name(account);
    int rc, i = 0;
    for (KL_EACH(v, kl_path(ad->object, KL_F_spec, KL_F_volumes))) {
        const struct kl_value *s = kl_get(v, KL_F_secret);
        struct kl_str name = kl_text(kl_get(s, KL_F_secretName));
        if (s && !listed(kl_get(account, KL_F_secrets), name))
            return kl_admit_forbid(ad,
                                   "volume with secret.secretName=\"%.*s\" is not allowed because "
                                   "service account %.*s does not reference that secret",
                                   KL_PRI(name), KL_PRI(who));
    }
    if ((rc = check_containers(ad, account, KL_F_initContainers, "init container")) ||
        (rc = check_containers(ad, account, KL_F_containers, "container")))
        return rc;
    for (KL_EACH(s, kl_path(ad->object, KL_F_spec, KL_F_imagePullSecrets))) {
        struct kl_str name = kl_text(kl_get(s, KL_F_name));
        if (!listed(kl_get(account, KL_F_imagePullSecrets), name))
            return kl_admit_forbid(ad,
                                   "imagePullSecrets[%d].name=\"%.*s\" is not allowed because "
                                   "service account %.*s does not reference that imagePullSecret",
                                   i, KL_PRI(name), KL_PRI(who));
        i++;
    }
    return 0;
}

int kl_service_account_validate(struct kl_admit *ad)
{
    bool debug = kl_admit_sub(ad, "ephemeralcontainers") && ad->op == KL_ADMIT_UPDATE;
    struct kl_object *account;
    if (!kl_admit_of(ad, KL_RES_core_v1_pods) ||
        (!debug && (ad->sub.n || ad->op != KL_ADMIT_CREATE)))
        return 0;
    if (!debug && kl_admit_mirror(ad->object))
        return check_mirror(ad);
    struct kl_str name = kl_text_at(ad->object, KL_F_spec, KL_F_serviceAccountName);
    struct kl_str pod = kl_meta_name(ad->object);
    if (!name.n)
        return kl_admit_forbid(ad, "no service account specified for pod %.*s/%.*s", KL_PRI(ad->ns),
                               KL_PRI(pod));
    int rc = find_account(ad, name, &account);
    if (rc || !limits_secrets(&account->root))
        return rc;
    return debug ? check_containers(ad, &account->root, KL_F_ephemeralContainers,
                                    "ephemeral container")
                 : check_secrets(ad, &account->root);
}

int kl_service_account_mutate(struct kl_admit *ad)
{
    struct kl_arena *a = ad->r->arena;
    struct kl_object *account;
    int rc;
    // A Pod keeps its account, whatever became of that one, and can be updated until it goes.
    if (!kl_admit_is(ad, KL_RES_core_v1_pods) || ad->op != KL_ADMIT_CREATE)
        return 0;
    if (kl_admit_mirror(ad->draft))
        return check_mirror(ad);
    struct kl_value *spec = kl_edit(a, ad->draft, KL_F_spec, KL_STRUCT);
    if (!spec)
        return kl_admit_oom(ad);
    struct kl_str name = kl_text(kl_get(spec, KL_F_serviceAccountName));
    if (!name.n) {
        name = KL_STR("default");
        kl_set(a, spec, KL_F_serviceAccountName, kl_string(name));
    }
    if (kl_set(a, spec, KL_F_serviceAccount, kl_string(name)))
        return kl_admit_oom(ad);
    if ((rc = find_account(ad, name, &account)))
        return rc;
    const struct kl_value *mount = kl_get(spec, KL_F_automountServiceAccountToken);
    if (!kl_is(mount, KL_BOOL))
        mount = kl_get(&account->root, KL_F_automountServiceAccountToken);
    if ((!mount || kl_is_true(mount)) && (rc = mount_token(ad, spec)))
        return rc;
    const struct kl_value *secrets = kl_get(&account->root, KL_F_imagePullSecrets);
    struct kl_value copy;
    if (!kl_len(kl_get(spec, KL_F_imagePullSecrets)) && secrets &&
        (kl_copy(a, secrets, &copy) || kl_set(a, spec, KL_F_imagePullSecrets, copy)))
        return kl_admit_oom(ad);
    return kl_service_account_validate(ad);
}
