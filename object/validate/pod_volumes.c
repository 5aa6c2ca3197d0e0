// SPDX-License-Identifier: Apache-2.0
// Volumes of pods. What a source asks for by itself is a table that PersistentVolumes share.
#include "object/validate/pod_int.h"

#define MODE_TEXT "must be a number between 0 and 0777 (octal), both inclusive"

void kl_v_file_mode(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    int64_t mode = kl_int_or(v, 0);
    if (mode < 0 || mode > 0777)
        kl_v_invalid_int(c, p, mode, MODE_TEXT);
}

static bool absolute(struct kl_str path)
{
    return path.n && path.p[0] == '/';
}

static void check_host_path(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const types[] = {
        "",     "BlockDevice",  "CharDevice", "Directory", "DirectoryOrCreate",
        "File", "FileOrCreate", "Socket",     NULL};
    struct kl_str path = kl_text(kl_get(v, KL_F_path));
    const struct kl_value *type = kl_get(v, KL_F_type);
    if (!path.n) {
        kl_v_required(c, F(p, path), "");
        return;
    }
    kl_v_no_backsteps(c, F(p, path), path);
    if (type && !kl_v_in(kl_text(type), types))
        kl_v_unsupported(c, F(p, type), kl_text(type), types);
}

static void check_directory(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    kl_v_relative_path(c, p, kl_text(v));
}

static void check_partition(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    int64_t n = kl_int_or(v, 0);
    if (n < 0 || n > 255)
        kl_v_invalid_int(c, p, n, "must be between 1 and 255, inclusive");
}

void kl_v_key_to_path(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const struct kl_rule head[] = {R_REQUIRED(key, ""), R_REQUIRED(path, ""), R_END};
    const struct kl_value *mode = kl_get(v, KL_F_mode);
    kl_v_walk(c, head, v, p);
    kl_v_local_path(c, F(p, path), kl_text(kl_get(v, KL_F_path)));
    if (mode)
        kl_v_file_mode(c, mode, F(p, mode));
}

static void check_nfs(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str path = kl_text(kl_get(v, KL_F_path));
    if (!absolute(path))
        kl_v_invalid_str(c, F(p, path), path, "must be an absolute path");
}

static void check_quobyte(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char pairs[] = "must be a host:port pair or multiple pairs separated by commas";
    struct kl_str registry = kl_text(kl_get(v, KL_F_registry)), rest = registry, part;
    if (!registry.n)
        kl_v_required(c, F(p, registry), pairs);
    else if (kl_text(kl_get(v, KL_F_tenant)).n >= 65)
        kl_v_required(c, F(p, tenant),
                      "must be a UUID and may not exceed a length of 64 characters");
    else
        while (kl_str_split(&rest, ',', &part))
            if (kl_str_chr(part, ':') < 0)
                kl_v_invalid_str(c, F(p, registry), registry, pairs);
    if (!kl_text(kl_get(v, KL_F_volume)).n)
        kl_v_required(c, F(p, volume), "");
}

static void check_flocker(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str name = kl_text(kl_get(v, KL_F_datasetName));
    struct kl_str uuid = kl_text(kl_get(v, KL_F_datasetUUID));
    if (!name.n && !uuid.n)
        kl_v_required(c, p, "one of datasetName and datasetUUID is required");
    if (name.n && uuid.n)
        kl_v_invalid_str(c, p, KL_STR("resource"),
                         "datasetName and datasetUUID can not be specified simultaneously");
    if (kl_str_chr(name, '/') >= 0)
        kl_v_invalid_str(c, F(p, datasetName), name, "must not contain '/'");
}

static void check_fc(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *wwns = kl_get(v, KL_F_targetWWNs), *lun = kl_get(v, KL_F_lun);
    size_t wwids = kl_len(kl_get(v, KL_F_wwids));
    if (!kl_len(wwns) && !wwids)
        kl_v_required(c, F(p, targetWWNs), "must specify either targetWWNs or wwids, but not both");
    if (kl_len(wwns) && wwids)
        kl_v_invalid(c, F(p, targetWWNs), wwns,
                     "targetWWNs and wwids can not be specified simultaneously");
    if (kl_len(wwns) && !lun)
        kl_v_required(c, F(p, lun), "lun is required if targetWWNs is specified");
    else if (kl_len(wwns))
        kl_v_range(c, F(p, lun), kl_int_or(lun, 0), 0, 255);
}

static void check_flex(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    for (KL_MAP_EACH_KEY(kv, kl_get(v, KL_F_options))) {
        struct kl_str key = kl_text(kv), rest = key, ns;
        kl_str_split(&rest, '/', &ns);
        const char *dotted = kl_v_text(c, ".%.*s", KL_PRI(ns));
        size_t n = strlen(dotted);
        static const char *const reserved[] = {".kubernetes.io", ".k8s.io"};
        for (size_t i = 0; i < KL_COUNT(reserved); i++) {
            size_t m = strlen(reserved[i]);
            if (n >= m && kl_str_ieq(kl_str(dotted + n - m), kl_str(reserved[i])))
                kl_v_invalid_str(c, K(F(p, options), key), key,
                                 "kubernetes.io and k8s.io namespaces are reserved");
        }
    }
}

static void check_azure_disk(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const modes[] = {"None", "ReadOnly", "ReadWrite", NULL};
    static const char *const kinds[] = {"Dedicated", "Managed", "Shared", NULL};
    static const char *const managed[] = {
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/"
        "{disk-id}",
        NULL};
    static const char *const blob[] = {
        "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd", NULL};
    const struct kl_value *mode = kl_get(v, KL_F_cachingMode), *kind = kl_get(v, KL_F_kind);
    struct kl_str uri = kl_text(kl_get(v, KL_F_diskURI));
    bool is_managed = kl_str_eqz(kl_text(kind), "Managed");
    if (mode && !kl_v_in(kl_text(mode), modes))
        kl_v_unsupported(c, F(p, cachingMode), kl_text(mode), modes);
    if (kind && !kl_v_in(kl_text(kind), kinds))
        kl_v_unsupported(c, F(p, kind), kl_text(kind), kinds);
    if (kind && is_managed && !kl_str_starts(uri, KL_STR("/subscriptions/")))
        kl_v_unsupported(c, F(p, diskURI), uri, managed);
    if (kind && !is_managed && !kl_str_starts(uri, KL_STR("https://")))
        kl_v_unsupported(c, F(p, diskURI), uri, blob);
}

static bool good_iqn(struct kl_str s)
{
    static const char *const hex[] = {"eui", "naa"};
    for (size_t k = 0; k < 2; k++)
        if (kl_str_starts(s, kl_str(hex[k]))) {
            bool good = s.n == 4 + (k ? 32u : 16u);
            for (size_t i = 4; good && i < s.n; i++)
                good = (s.p[i] >= '0' && s.p[i] <= '9') ||
                       ((s.p[i] | 32) >= 'a' && (s.p[i] | 32) <= 'z');
            return good;
        }
    // iqn.YYYY-MM.name:rest
    if (s.n < 12 || s.p[3] != '.' || s.p[8] != '-' || s.p[11] != '.')
        return false;
    for (size_t i = 4; i < 11; i++)
        if (i != 8 && (s.p[i] < '0' || s.p[i] > '9'))
            return false;
    struct kl_str rest = kl_str_from(s, 12);
    ptrdiff_t colon = kl_str_chr(rest, ':');
    if (colon < 1 || (size_t)colon + 1 >= rest.n)
        return false;
    for (size_t i = 0; i < rest.n; i++) {
        char ch = rest.p[i];
        bool word = (ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z');
        if (i < (size_t)colon ? !word && ch != '-' && ch != '.'
                              : i > (size_t)colon && strchr(",;*&$| \t\n\r\f\v", ch) != NULL)
            return false;
    }
    return true;
}

static bool known_iqn(struct kl_str s)
{
    return kl_str_starts(s, KL_STR("iqn")) || kl_str_starts(s, KL_STR("eui")) ||
           kl_str_starts(s, KL_STR("naa"));
}

void kl_v_iscsi(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p, bool of_pv)
{
    struct kl_str iqn = kl_text(kl_get(v, KL_F_iqn));
    const struct kl_value *secret = kl_get(v, KL_F_secretRef);
    const struct kl_value *initiator = kl_get(v, KL_F_initiatorName);
    struct kl_str who = kl_text(initiator);
    if (!kl_text(kl_get(v, KL_F_targetPortal)).n)
        kl_v_required(c, F(p, targetPortal), "");
    if (of_pv && initiator &&
        kl_meta_name(c->now).n + 1 + kl_text(kl_get(v, KL_F_targetPortal)).n > 64)
        kl_v_invalid(c, N(p, "targetportal"), kl_get(v, KL_F_targetPortal),
                     "Total length of <volume name>:<iscsi.targetPortal> must be under 64 "
                     "characters if iscsi.initiatorName is specified.");
    if (!iqn.n)
        kl_v_required(c, F(p, iqn), "");
    else if (!known_iqn(iqn))
        kl_v_invalid_str(c, F(p, iqn), iqn,
                         of_pv ? "must be valid format"
                               : "must be valid format starting with iqn, eui, or naa");
    else if (!good_iqn(iqn))
        kl_v_invalid_str(c, F(p, iqn), iqn, "must be valid format");
    kl_v_range(c, F(p, lun), kl_int_at(v, 0, KL_F_lun), 0, 255);
    if ((kl_is_true(kl_get(v, KL_F_chapAuthDiscovery)) ||
         kl_is_true(kl_get(v, KL_F_chapAuthSession))) &&
        !secret)
        kl_v_required(c, F(p, secretRef), "");
    if (of_pv && secret && !kl_text(kl_get(secret, KL_F_name)).n)
        kl_v_required(c, F(F(p, secretRef), name), "");
    if (initiator && !known_iqn(who))
        kl_v_invalid_str(c, N(p, "initiatorname"), who,
                         of_pv ? "must be valid format"
                               : "must be valid format starting with iqn, eui, or naa");
    else if (initiator && !good_iqn(who))
        kl_v_invalid_str(c, N(p, "initiatorname"), who, "must be valid format");
}

void kl_v_driver_name(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str name = kl_text(v);
    if (!name.n) {
        kl_v_required(c, p, "");
        return;
    }
    if (name.n > 63)
        kl_v_too_long(c, p, 63);
    kl_v_format(c, p, name, KL_V_SUBDOMAIN_CASELESS);
}

static void check_csi(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *ref = kl_get(v, KL_F_nodePublishSecretRef);
    kl_v_driver_name(c, kl_get(v, KL_F_driver), F(p, driver));
    if (ref && !kl_text(kl_get(ref, KL_F_name)).n)
        kl_v_required(c, F(F(p, nodePublishSecretRef), name), "");
    else if (ref)
        kl_v_format(c, F(p, name), kl_text(kl_get(ref, KL_F_name)), KL_V_SUBDOMAIN);
}

static void check_empty_dir(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *limit = kl_get(v, KL_F_sizeLimit);
    if (limit && kl_v_compare(limit, NULL) < 0)
        kl_v_forbidden(c, F(p, sizeLimit), "SizeLimit field must be a valid resource quantity");
}

// ---- claims

static const char *const access_modes[] = {"ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce",
                                           "ReadWriteOncePod", NULL};

void kl_v_access_modes(struct kl_v *c, const struct kl_value *modes, const struct kl_vpath *p)
{
    bool once_pod = false, other = false;
    for (KL_EACH(m, modes)) {
        struct kl_str s = kl_text(m);
        bool known = kl_v_in(s, access_modes);
        if (!known)
            kl_v_unsupported(c, p, s, access_modes);
        if (kl_str_eqz(s, "ReadWriteOncePod"))
            once_pod = true;
        else
            other |= known;
    }
    if (once_pod && other)
        kl_v_forbidden(c, p, "may not use ReadWriteOncePod with other access modes");
}

static void check_data_source(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p,
                              bool allow_bad_group)
{
    struct kl_str group = kl_text(kl_get(v, KL_F_apiGroup)), kind = kl_text(kl_get(v, KL_F_kind));
    const struct kl_value *ns = kl_get(v, KL_F_namespace);
    if (!kl_text(kl_get(v, KL_F_name)).n)
        kl_v_required(c, F(p, name), "");
    if (!kind.n)
        kl_v_required(c, F(p, kind), "");
    if (!group.n && !kl_str_eqz(kind, "PersistentVolumeClaim"))
        kl_v_invalid_str(c, p, kind,
                         "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    if (group.n && !allow_bad_group)
        kl_v_format(c, F(p, apiGroup), group, KL_V_SUBDOMAIN);
    if (kl_text(ns).n)
        kl_v_format(c, F(p, namespace), kl_text(ns), KL_V_LABEL);
}

void kl_v_claim_spec(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p,
                     bool allow_bad_group)
{
    static const char *const modes[] = {"Block", "Filesystem", NULL};
    const struct kl_value *storage =
        kl_map_value(kl_path(spec, KL_F_resources, KL_F_requests), KL_STR("storage"));
    const struct kl_value *mode = kl_get(spec, KL_F_volumeMode);
    const struct kl_value *src = kl_get(spec, KL_F_dataSource),
                          *ref = kl_get(spec, KL_F_dataSourceRef);
    const struct kl_vpath *sp = K(F(p, resources), KL_STR("storage"));
    struct kl_str class = kl_text(kl_get(spec, KL_F_storageClassName));
    struct kl_str attrs = kl_text(kl_get(spec, KL_F_volumeAttributesClassName));
    if (!kl_len(kl_get(spec, KL_F_accessModes)))
        kl_v_required(c, F(p, accessModes), "at least 1 access mode is required");
    kl_v_selector(c, F(p, selector), kl_get(spec, KL_F_selector));
    kl_v_access_modes(c, kl_get(spec, KL_F_accessModes), F(p, accessModes));
    if (!storage)
        kl_v_required(c, sp, "");
    else
        kl_v_positive_quantity(c, storage, sp);
    if (class.n)
        kl_v_format(c, F(p, storageClassName), class, KL_V_SUBDOMAIN);
    if (mode && !kl_v_in(kl_text(mode), modes))
        kl_v_unsupported(c, F(p, volumeMode), kl_text(mode), modes);
    if (src)
        check_data_source(c, src, F(p, dataSource), allow_bad_group);
    if (ref)
        check_data_source(c, ref, F(p, dataSourceRef), allow_bad_group);
    // Upstream shows a field.Path for the value: a struct without public fields.
    if (src && ref && kl_text(kl_get(ref, KL_F_namespace)).n)
        kl_v_invalid_text(c, p, KL_STR("{}"),
                          "may not be specified when dataSourceRef.namespace is specified");
    else if (src && ref &&
             (!kl_value_equal(kl_get(src, KL_F_apiGroup), kl_get(ref, KL_F_apiGroup)) ||
              !kl_value_equal(kl_get(src, KL_F_kind), kl_get(ref, KL_F_kind)) ||
              !kl_value_equal(kl_get(src, KL_F_name), kl_get(ref, KL_F_name))))
        kl_v_invalid_text(c, p, KL_STR("{}"), "must match dataSourceRef");
    if (attrs.n)
        kl_v_format(c, F(p, volumeAttributesClassName), attrs, KL_V_SUBDOMAIN);
}

static void check_ephemeral(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *t = kl_get(v, KL_F_volumeClaimTemplate);
    const struct kl_vpath *at = F(p, volumeClaimTemplate);
    if (!t) {
        kl_v_required(c, at, "");
        return;
    }
    kl_v_template_meta(c, kl_get(t, KL_F_metadata), F(at, metadata));
    kl_v_claim_spec(c, kl_get(t, KL_F_spec), F(at, spec), false);
}

static void check_image(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    if (c->pod->is_pod && !kl_text(kl_get(v, KL_F_reference)).n)
        kl_v_required(c, F(p, reference), "");
    kl_v_pull_policy(c, kl_get(v, KL_F_pullPolicy), F(p, pullPolicy));
}

static void check_pod_iscsi(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    kl_v_iscsi(c, v, p, false);
}

// ---- the sources, in upstream's order

#define TABLE(name, ...) static const struct kl_rule name[] = {__VA_ARGS__, R_END}
TABLE(secret_ref_rules, R_REQUIRED(name, ""));
TABLE(empty_dir, R_CALL(check_empty_dir));
TABLE(host_path, R_CALL(check_host_path));
TABLE(git_repo, R_REQUIRED(repository, ""), R_ON(directory, check_directory));
TABLE(gce, R_REQUIRED(pdName, ""), R_ON(partition, check_partition));
TABLE(aws, R_REQUIRED(volumeID, ""), R_ON(partition, check_partition));
TABLE(secret, R_REQUIRED(secretName, ""), R_ON(defaultMode, kl_v_file_mode),
      R_EACH_ON(items, kl_v_key_to_path));
TABLE(nfs, R_REQUIRED(server, ""), R_REQUIRED(path, ""), R_CALL(check_nfs));
TABLE(iscsi, R_CALL(check_pod_iscsi));
TABLE(glusterfs, R_REQUIRED(endpoints, ""), R_REQUIRED(path, ""));
TABLE(flocker, R_CALL(check_flocker));
TABLE(claim, R_REQUIRED(claimName, ""));
TABLE(rbd, R_REQUIRED(monitors, ""), R_REQUIRED(image, ""));
TABLE(cinder, R_REQUIRED(volumeID, ""), R_SUB(secretRef, secret_ref_rules));
TABLE(cephfs, R_REQUIRED(monitors, ""));
TABLE(quobyte, R_CALL(check_quobyte));
TABLE(downward, R_ON(defaultMode, kl_v_file_mode), R_CALL(kl_v_downward));
TABLE(fc, R_CALL(check_fc));
TABLE(flex, R_REQUIRED(driver, ""), R_CALL(check_flex));
TABLE(config_map, R_REQUIRED(name, ""), R_ON(defaultMode, kl_v_file_mode),
      R_EACH_ON(items, kl_v_key_to_path));
TABLE(azure_file, R_REQUIRED(secretName, ""), R_REQUIRED(shareName, ""));
TABLE(vsphere, R_REQUIRED(volumePath, ""));
TABLE(photon, R_REQUIRED(pdID, ""));
TABLE(portworx, R_REQUIRED(volumeID, ""));
TABLE(azure_disk, R_REQUIRED(diskName, ""), R_REQUIRED(diskURI, ""), R_CALL(check_azure_disk));
TABLE(storage_os, R_NAME(volumeName, KL_V_LABEL), R_FORMAT(volumeNamespace, KL_V_LABEL),
      R_SUB(secretRef, secret_ref_rules));
TABLE(projected, R_ON(defaultMode, kl_v_file_mode), R_CALL(kl_v_projected));
TABLE(scale_io, R_REQUIRED(gateway, ""), R_REQUIRED(system, ""), R_REQUIRED(volumeName, ""));
TABLE(csi, R_CALL(check_csi));
TABLE(ephemeral, R_CALL(check_ephemeral));
TABLE(image, R_CALL(check_image));

static const struct source {
    kl_sym sym;
    const struct kl_rule *rules;
    const char *path, *refused; // where upstream's paths are not the field's name
} sources[] = {
    {KL_F_emptyDir, empty_dir, NULL, NULL},
    {KL_F_hostPath, host_path, NULL, NULL},
    {KL_F_gitRepo, git_repo, NULL, NULL},
    {KL_F_gcePersistentDisk, gce, "persistentDisk", NULL},
    {KL_F_awsElasticBlockStore, aws, NULL, NULL},
    {KL_F_secret, secret, NULL, NULL},
    {KL_F_nfs, nfs, NULL, NULL},
    {KL_F_iscsi, iscsi, NULL, NULL},
    {KL_F_glusterfs, glusterfs, NULL, NULL},
    {KL_F_flocker, flocker, NULL, NULL},
    {KL_F_persistentVolumeClaim, claim, NULL, NULL},
    {KL_F_rbd, rbd, NULL, NULL},
    {KL_F_cinder, cinder, NULL, NULL},
    {KL_F_cephfs, cephfs, NULL, "cephFS"},
    {KL_F_quobyte, quobyte, NULL, NULL},
    {KL_F_downwardAPI, downward, NULL, "downwarAPI"},
    {KL_F_fc, fc, NULL, NULL},
    {KL_F_flexVolume, flex, NULL, NULL},
    {KL_F_configMap, config_map, NULL, NULL},
    {KL_F_azureFile, azure_file, NULL, NULL},
    {KL_F_vsphereVolume, vsphere, NULL, NULL},
    {KL_F_photonPersistentDisk, photon, NULL, NULL},
    {KL_F_portworxVolume, portworx, NULL, NULL},
    {KL_F_azureDisk, azure_disk, NULL, NULL},
    {KL_F_storageos, storage_os, NULL, NULL},
    {KL_F_projected, projected, NULL, NULL},
    {KL_F_scaleIO, scale_io, NULL, NULL},
    {KL_F_csi, csi, NULL, NULL},
    {KL_F_ephemeral, ephemeral, NULL, NULL},
    {KL_F_image, image, NULL, NULL},
};

const struct kl_rule *kl_v_volume_rules(kl_sym member)
{
    for (size_t i = 0; i < KL_COUNT(sources); i++)
        if (sources[i].sym == member)
            return sources[i].rules;
    return NULL;
}

static void check_names(struct kl_v *c, const struct kl_value *v, kl_sym member,
                        const struct kl_vpath *p)
{
    const struct kl_value *m = kl_get(v, member);
    struct kl_str name = kl_text(kl_get(v, KL_F_name));
    if (member == KL_F_iscsi && kl_get(m, KL_F_initiatorName) &&
        name.n + 1 + kl_text(kl_get(m, KL_F_targetPortal)).n > 64)
        kl_v_invalid_str(c, F(p, name), name,
                         "Total length of <volume name>:<iscsi.targetPortal> must be under 64 "
                         "characters if iscsi.initiatorName is specified.");
    struct kl_str pod = kl_text(kl_get(c->pod->meta, KL_F_name));
    if (member == KL_F_ephemeral && pod.n && name.n) {
        const char *msg[KL_V_MESSAGES], *pvc;
        enum { LONG = 600 };
        char text[LONG];
        if (pod.n + name.n + 1 >= sizeof text)
            return;
        memcpy(text, pod.p, pod.n);
        text[pod.n] = '-';
        memcpy(text + pod.n + 1, name.p, name.n);
        struct kl_str whole = {text, pod.n + 1 + name.n};
        size_t n = kl_v_messages(KL_V_SUBDOMAIN, whole, msg);
        pvc = n ? kl_v_text(c, "%.*s", KL_PRI(whole)) : "";
        for (size_t i = 0; i < n; i++)
            kl_v_invalid_str(c, F(p, name), name, kl_v_text(c, "PVC name \"%s\": %s", pvc, msg[i]));
    }
}

static void check_source(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    size_t n = 0;
    for (size_t i = 0; i < KL_COUNT(sources); i++) {
        const struct source *s = &sources[i];
        const struct kl_value *m = kl_get(v, s->sym);
        if (!m)
            continue;
        if (n++) {
            kl_v_forbidden(c, s->refused ? N(p, s->refused) : FS(p, s->sym),
                           "may not specify more than 1 volume type");
            continue;
        }
        kl_v_walk(c, s->rules, m, s->path ? N(p, s->path) : FS(p, s->sym));
        check_names(c, v, s->sym, p);
    }
    if (!n)
        kl_v_required(c, p, "must specify a volume type");
}

static bool is_bad(const struct kl_pod_ctx *x, size_t i)
{
    for (size_t k = 0; k < x->nbad; k++)
        if (x->bad[k] == i)
            return true;
    return false;
}

const struct kl_value *kl_v_volume(const struct kl_pod_ctx *x, struct kl_str name)
{
    const struct kl_value *list = kl_get(x->spec, KL_F_volumes);
    for (size_t i = kl_len(list); i--;) // the last of a name counts
        if (kl_str_eq(kl_text(kl_get(kl_at(list, i), KL_F_name)), name) && !is_bad(x, i))
            return kl_at(list, i);
    return NULL;
}

static bool good_before(const struct kl_pod_ctx *x, const struct kl_value *list, size_t i,
                        struct kl_str name)
{
    for (size_t k = 0; k < i; k++)
        if (!is_bad(x, k) && kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_name)), name))
            return true;
    return false;
}

static void check_made_claim(struct kl_v *c, const struct kl_pod_ctx *x, const struct kl_value *v,
                             const struct kl_vpath *p)
{
    const struct kl_value *pvc = kl_get(v, KL_F_persistentVolumeClaim);
    struct kl_str claim_name = kl_text(kl_get(pvc, KL_F_claimName));
    struct kl_str pod = kl_text(kl_get(x->meta, KL_F_name));
    if (!pvc || !pod.n || !kl_str_starts(claim_name, pod) || claim_name.n <= pod.n ||
        claim_name.p[pod.n] != '-')
        return;
    for (KL_EACH(o, kl_get(x->spec, KL_F_volumes)))
        if (kl_get(o, KL_F_ephemeral) &&
            kl_str_eq(kl_text(kl_get(o, KL_F_name)), kl_str_from(claim_name, pod.n + 1)))
            kl_v_invalid_str(c, F(F(p, persistentVolumeClaim), claimName), claim_name,
                             "must not reference a PVC that gets created for an ephemeral volume");
}

void kl_v_volumes(struct kl_v *c, struct kl_pod_ctx *x, const struct kl_vpath *p)
{
    const struct kl_value *list = kl_get(x->spec, KL_F_volumes);
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *v = kl_at(list, i);
        const struct kl_vpath *at = I(p, i);
        struct kl_str name = kl_text(kl_get(v, KL_F_name));
        size_t before = c->f->n;
        check_source(c, v, at);
        if (!name.n)
            kl_v_required(c, F(at, name), "");
        else
            kl_v_format(c, F(at, name), name, KL_V_LABEL);
        if (good_before(x, list, i, name))
            kl_v_duplicate(c, F(at, name), name);
        if (c->f->n != before) {
            if (!x->bad)
                x->bad = kl_arena_alloc(c->f->arena, kl_len(list) * sizeof *x->bad);
            if (x->bad)
                x->bad[x->nbad++] = (uint32_t)i;
        }
        check_made_claim(c, x, v, at);
    }
}
