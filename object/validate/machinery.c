// SPDX-License-Identifier: Apache-2.0
// Kinds of the control plane's own: APIServices, LeaseCandidates, StorageVersionMigrations,
// StorageVersions.
#include "base/buf.h"
#include "object/schema.h"
#include "object/types_gen.h"
#include "object/validate/earlier_int.h"
#include "object/validate/pod_int.h"
#include "object/cel/cel.h"

// All messages of one value as one.
static const char *joined(struct kl_v *c, enum kl_v_format format, struct kl_str s)
{
    const char *msg[KL_V_MESSAGES], *all = "";
    size_t n = kl_v_messages(format, s, msg);
    for (size_t i = 0; i < n; i++)
        all = i ? kl_v_text(c, "%s,%s", all, msg[i]) : msg[i];
    return n ? all : NULL;
}

// ---- APIServices

static size_t service_name(struct kl_v *c, struct kl_str name, const char *ret[])
{
    struct kl_str version = kl_text(kl_get(kl_v_spec(c), KL_F_version));
    struct kl_str group = kl_text(kl_get(kl_v_spec(c), KL_F_group));
    const char *wanted = kl_v_text(c, "%.*s.%.*s", KL_PRI(version), KL_PRI(group));
    size_t n = kl_v_messages(KL_V_PATH_SEGMENT, name, ret);
    if (n || kl_str_eqz(name, wanted))
        return n;
    ret[0] = kl_v_text(c, "must be `spec.version+\".\"+spec.group`: \"%s\"", wanted);
    return 1;
}

static void check_service(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c), *service = kl_get(spec, KL_F_service);
    struct kl_str group = kl_text(kl_get(spec, KL_F_group));
    struct kl_str version = kl_text(kl_get(spec, KL_F_version));
    int64_t group_priority = kl_int_at(spec, 0, KL_F_groupPriorityMinimum);
    int64_t priority = kl_int_at(spec, 0, KL_F_versionPriority);
    size_t bundle = kl_text(kl_get(spec, KL_F_caBundle)).n;
    bool insecure = kl_is_true(kl_get(spec, KL_F_insecureSkipTLSVerify));
    const struct kl_vpath *p = &c->spec, *sp = F(p, service);
    c->name_rule = service_name;
    kl_v_meta_plain(c, KL_V_OWN);
    if (!group.n && !kl_str_eqz(version, "v1"))
        kl_v_required(c, F(p, group),
                      "only v1 may have an empty group and it better be legacy kube");
    if (group.n)
        kl_v_format(c, F(p, group), group, KL_V_SUBDOMAIN);
    kl_v_format(c, F(p, version), version, KL_V_DNS1035);
    if (group_priority <= 0 || group_priority > 20000)
        kl_v_invalid_int(c, F(p, groupPriorityMinimum), group_priority,
                         "must be positive and less than 20000");
    if (priority <= 0 || priority > 1000)
        kl_v_invalid_int(c, F(p, versionPriority), priority, "must be positive and less than 1000");
    if (!service) {
        if (bundle)
            kl_v_invalid_str(c, F(p, caBundle), kl_str(kl_v_text(c, "%zu bytes", bundle)),
                             "local APIServices may not have a caBundle");
        if (insecure)
            kl_v_invalid_text(c, F(p, insecureSkipTLSVerify), KL_STR("true"),
                              "local APIServices may not have insecureSkipTLSVerify");
        return;
    }
    if (!kl_text(kl_get(service, KL_F_namespace)).n)
        kl_v_required(c, F(sp, namespace), "");
    if (!kl_text(kl_get(service, KL_F_name)).n)
        kl_v_required(c, F(sp, name), "");
    int64_t port = kl_int_at(service, 0, KL_F_port);
    if (port < 1 || port > 65535)
        kl_v_invalid_int(c, F(sp, port), port,
                         "port is not valid: must be between 1 and 65535, inclusive");
    if (insecure && bundle)
        kl_v_invalid_text(c, F(p, insecureSkipTLSVerify), KL_STR("true"),
                          "may not be true if caBundle is present");
}

static void update_service(struct kl_v *c)
{
    kl_v_meta_update_plain(c);
    check_service(c);
}

static void status_service(struct kl_v *c)
{
    static const char *const statuses[] = {"True", "False", "Unknown", NULL};
    size_t i = 0;
    kl_v_meta_update_plain(c);
    for (KL_EACH(x, kl_path(c->now, KL_F_status, KL_F_conditions))) {
        struct kl_str s = kl_text(kl_get(x, KL_F_status));
        if (!kl_v_in(s, statuses))
            kl_v_unsupported(c, F(I(F(&c->status, conditions), i), status), s, statuses);
        i++;
    }
}

// ---- LeaseCandidates

void kl_v_lease_strategy(struct kl_v *c, struct kl_str strategy, const struct kl_vpath *p)
{
    static const char *const strategies[] = {"OldestEmulationVersion", NULL};
    if (kl_str_chr(strategy, '/') >= 0)
        kl_v_format(c, F(p, strategy), strategy, KL_V_QUALIFIED);
    else if (!kl_v_in(strategy, strategies))
        kl_v_unsupported(c, F(p, strategy), strategy, strategies);
}

static bool check_version(struct kl_v *c, struct kl_str s, const struct kl_vpath *p)
{
    int order;
    if (kl_cel_semver_cmp(c->f->arena, s, s, &order))
        return true;
    kl_v_invalid_str(c, p, s, "must be a valid semantic version");
    return false;
}

static void check_candidate(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c);
    struct kl_str strategy = kl_text(kl_get(spec, KL_F_strategy));
    struct kl_str emulated = kl_text(kl_get(spec, KL_F_emulationVersion));
    struct kl_str binary = kl_text(kl_get(spec, KL_F_binaryVersion));
    static const struct kl_str none = KL_STR_INIT("0.0.0");
    const struct kl_vpath *p = &c->spec;
    int order = 0;
    if (!kl_text(kl_get(spec, KL_F_leaseName)).n)
        kl_v_required(c, F(p, leaseName), "");
    // A version that is none counts as the lowest one from here on.
    struct kl_str ev = emulated, bv = binary;
    if (!emulated.n || !check_version(c, emulated, F(p, emulationVersion)))
        ev = none;
    if (!binary.n)
        kl_v_required(c, F(p, binaryVersion), "");
    if (!binary.n || !check_version(c, binary, F(p, binaryVersion)))
        bv = none;
    (void)kl_cel_semver_cmp(c->f->arena, bv, ev, &order);
    if (binary.n && emulated.n && order < 0)
        kl_v_invalid_str(c, F(p, binaryVersion), binary,
                         "must be greater than or equal to `emulationVersion`");
    if (!strategy.n) {
        kl_v_required(c, F(p, strategy), "");
        return;
    }
    (void)kl_cel_semver_cmp(c->f->arena, ev, none, &order);
    if (kl_str_eqz(strategy, "OldestEmulationVersion") && !order)
        kl_v_required(c, F(p, emulationVersion),
                      "must be specified when `strategy` is 'OldestEmulationVersion'");
    kl_v_lease_strategy(c, strategy, F(p, strategy));
}

static void create_candidate(struct kl_v *c)
{
    kl_v_meta_plain(c, KL_V_CONFIG_KEY);
    check_candidate(c);
}

static void update_candidate(struct kl_v *c)
{
    struct kl_str name = kl_text(kl_get(kl_v_spec(c), KL_F_leaseName));
    kl_v_meta_update_plain(c);
    check_candidate(c);
    if (!kl_str_eq(name, kl_text(kl_get(kl_v_old_spec(c), KL_F_leaseName))))
        kl_v_invalid_str(c, F(&c->spec, leaseName), name, "field is immutable");
}

// ---- StorageVersionMigrations

static void create_migration(struct kl_v *c)
{
    const struct kl_value *r = kl_get(kl_v_spec(c), KL_F_resource);
    struct kl_str name = kl_text(kl_get(r, KL_F_resource)), group = kl_text(kl_get(r, KL_F_group));
    const struct kl_vpath *p = F(&c->spec, resource);
    const char *why;
    kl_v_meta(c, KL_V_SUBDOMAIN);
    if (!name.n)
        kl_v_required(c, F(p, resource), "resource is required to be set");
    else if ((why = joined(c, KL_V_DNS1035, name)))
        kl_v_invalid_str(c, F(p, resource), name, why);
    if (group.n && (why = joined(c, KL_V_SUBDOMAIN, group)))
        kl_v_invalid_str(c, F(p, group), group, why);
}

static void update_migration(struct kl_v *c)
{
    create_migration(c);
    kl_v_meta_update(c);
    kl_v_immutable(c, &c->spec,
                   kl_type(KL_TYPE_storagemigration_v1beta1_StorageVersionMigrationSpec),
                   kl_v_or_empty(kl_v_spec(c)), kl_v_or_empty(kl_v_old_spec(c)), true);
}

static bool is_true(const struct kl_value *root, const char *type)
{
    for (KL_EACH(x, kl_path(root, KL_F_status, KL_F_conditions)))
        if (kl_v_is(x, KL_F_type, type))
            return kl_v_is(x, KL_F_status, "True");
    return false;
}

static void refuse_conditions(struct kl_v *c, const char *why)
{
    const struct kl_value *list = kl_path(c->now, KL_F_status, KL_F_conditions);
    const struct kl_type *t =
        kl_type(KL_TYPE_storagemigration_v1beta1_StorageVersionMigrationStatus);
    kl_v_invalid_json(c, F(&c->status, conditions), kl_type_field(t, KL_F_conditions)->type, list,
                      false, why);
}

static void status_migration(struct kl_v *c)
{
    struct kl_str rv = kl_text_at(c->now, KL_F_status, KL_F_resourceVersion);
    struct kl_str was = kl_text_at(c->old, KL_F_status, KL_F_resourceVersion);
    const struct kl_vpath *p = &c->status;
    bool formed = rv.n && rv.p[0] != '0';
    kl_v_meta_update(c);
    for (size_t i = 0; i < rv.n; i++)
        formed &= rv.p[i] >= '0' && rv.p[i] <= '9';
    if (rv.n && !formed)
        kl_v_invalid_str(c, F(p, resourceVersion), rv,
                         kl_v_text(c, "resource version is not well formed: %.*s", KL_PRI(rv)));
    kl_v_conditions(c, F(p, conditions), kl_path(c->now, KL_F_status, KL_F_conditions));
    if (was.n && !kl_str_eq(was, rv))
        kl_v_invalid_str(c, F(p, resourceVersion), rv, "field is immutable");
    if (is_true(c->now, "Succeeded") && is_true(c->now, "Failed"))
        refuse_conditions(c, "Both success and failed conditions cannot be true at the same time");
    if (is_true(c->old, "Succeeded") && !is_true(c->now, "Succeeded"))
        refuse_conditions(c, "Success condition cannot be set to false once it is true");
    if (is_true(c->old, "Failed") && !is_true(c->now, "Failed"))
        refuse_conditions(c, "Failed condition cannot be set to false once it is true");
}

// ---- StorageVersions

enum { LIST_MAX_BYTES = 4 << 20 }; // more than a request has

static size_t storage_version_name(struct kl_v *c, struct kl_str name, const char *ret[])
{
    const char *msg[KL_V_MESSAGES];
    size_t n = 0, dot = name.n;
    while (dot && name.p[dot - 1] != '.')
        dot--;
    if (!dot) {
        ret[0] = "name must be in the form of <group>.<resource>";
        return 1;
    }
    size_t found = kl_v_messages(KL_V_SUBDOMAIN, (struct kl_str){name.p, dot - 1}, msg);
    for (size_t i = 0; i < found && n < KL_V_MESSAGES; i++)
        ret[n++] = kl_v_text(c, "the group segment %s", msg[i]);
    found = kl_v_messages(KL_V_DNS1035, kl_str_from(name, dot), msg);
    for (size_t i = 0; i < found && n < KL_V_MESSAGES; i++)
        ret[n++] = kl_v_text(c, "the resource segment %s", msg[i]);
    return n;
}

static const char *add_part(struct kl_v *c, const char *all, const char *part, struct kl_str s,
                            enum kl_v_format format)
{
    const char *msg[KL_V_MESSAGES] = {"must be non-empty"};
    size_t n = s.n ? kl_v_messages(format, s, msg) : 1;
    for (size_t i = 0; i < n; i++)
        all = kl_v_text(c, "%s%s%s: %s", all ? all : "", all ? "," : "", part, msg[i]);
    return all;
}

// What is wrong with an apiVersion; NULL: nothing.
static const char *version_error(struct kl_v *c, struct kl_str s)
{
    const char *all = NULL;
    ptrdiff_t slash = kl_str_chr(s, '/');
    struct kl_str version = slash < 0 ? s : kl_str_from(s, (size_t)slash + 1);
    if (kl_str_chr(version, '/') >= 0)
        return "an apiVersion is a DNS-1035 label, which must consist of lower case alphanumeric "
               "characters or '-', start with an alphabetic character, and end with an "
               "alphanumeric character (e.g. 'my-name', or 'abc-123', regex used for validation "
               "is '[a-z]([-a-z0-9]*[a-z0-9])?') with an optional DNS subdomain prefix and '/' "
               "(e.g. 'example.com/MyVersion')";
    if (slash >= 0)
        all = add_part(c, NULL, "group part", (struct kl_str){s.p, (size_t)slash}, KL_V_SUBDOMAIN);
    return add_part(c, all, "version part", version, KL_V_DNS1035);
}

static void check_api_version(struct kl_v *c, struct kl_str s, const struct kl_vpath *p)
{
    const char *why = version_error(c, s);
    if (why)
        kl_v_invalid_str(c, p, s, why);
}

// fmt's %s of a []string
static const char *go_list(struct kl_v *c, const struct kl_value *list)
{
    struct kl_buf b;
    kl_buf_init(&b, LIST_MAX_BYTES);
    for (size_t i = 0; i < kl_len(list); i++)
        kl_buf_printf(&b, "%s%.*s", i ? " " : "", KL_PRI(kl_text(kl_at(list, i))));
    const char *all = kl_v_text(c, "[%.*s]", KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
    return all;
}

static void check_server(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_type *t = kl_type(KL_TYPE_apiserverinternal_v1alpha1_ServerStorageVersion);
    struct kl_str encoding = kl_text(kl_get(v, KL_F_encodingVersion));
    const struct kl_value *decodable = kl_get(v, KL_F_decodableVersions);
    const struct kl_value *served = kl_get(v, KL_F_servedVersions);
    const char *all = NULL; // of them, once somebody is to be told
    struct kl_v_texts known;
    if (!kl_v_texts_init(c, &known, decodable))
        return;
    kl_v_format(c, F(p, apiServerID), kl_text(kl_get(v, KL_F_apiServerID)), KL_V_SUBDOMAIN);
    check_api_version(c, encoding, F(p, encodingVersion));
    for (size_t i = 0; i < kl_len(decodable); i++)
        check_api_version(c, kl_text(kl_at(decodable, i)), I(F(p, decodableVersions), i));
    if (!kl_v_texts_has(&known, encoding))
        kl_v_invalid_json(
            c, F(p, decodableVersions), kl_type_field(t, KL_F_decodableVersions)->type, decodable,
            false,
            kl_v_text(c, "decodableVersions must include encodingVersion %.*s", KL_PRI(encoding)));
    for (size_t i = 0; i < kl_len(served); i++) {
        struct kl_str s = kl_text(kl_at(served, i));
        check_api_version(c, s, I(F(p, servedVersions), i));
        bool is_known = kl_v_texts_has(&known, s);
        if (!is_known && !all)
            all = go_list(c, decodable);
        if (!is_known)
            kl_v_invalid_str(c, I(F(p, servedVersions), i), s,
                             kl_v_text(c,
                                       "individual served version : %.*s must be included in "
                                       "decodableVersions : %s",
                                       KL_PRI(s), all));
    }
}

static void check_common_version(struct kl_v *c, const struct kl_value *status)
{
    const struct kl_value *list = kl_get(status, KL_F_storageVersions);
    const struct kl_value *said = kl_get(status, KL_F_commonEncodingVersion);
    const struct kl_vpath *p = F(&c->status, commonEncodingVersion);
    struct kl_str first = kl_text(kl_get(kl_at(list, 0), KL_F_encodingVersion));
    bool agreed = kl_len(list) > 0;
    for (KL_EACH(v, list))
        agreed &= kl_str_eq(kl_text(kl_get(v, KL_F_encodingVersion)), first);
    if (!agreed && said)
        kl_v_invalid(c, p, said,
                     "should be nil if servers do not agree on the same encoding version, or if "
                     "there is no server reporting the supported versions yet");
    else if (agreed && !said)
        kl_v_invalid_text(c, p, KL_STR("null"),
                          kl_v_text(c, "the common encoding version is %.*s", KL_PRI(first)));
    else if (agreed && !kl_str_eq(kl_text(said), first))
        kl_v_invalid(c, p, said,
                     kl_v_text(c, "the actual common encoding version is %.*s", KL_PRI(first)));
}

static void status_storage_version(struct kl_v *c)
{
    const struct kl_value *status = kl_get(c->now, KL_F_status);
    const struct kl_value *list = kl_get(status, KL_F_storageVersions);
    const struct kl_vpath *p = F(&c->status, storageVersions);
    const uint32_t *ids = kl_v_earlier(c, list, (const kl_sym[]){KL_F_apiServerID}, 1);
    for (size_t i = 0; ids && i < kl_len(list); i++) {
        if (ids[i] != KL_V_NONE)
            kl_v_duplicate(c, F(I(p, i), apiServerID),
                           kl_text(kl_get(kl_at(list, i), KL_F_apiServerID)));
        check_server(c, kl_at(list, i), I(p, i));
    }
    check_common_version(c, status);
    list = kl_get(status, KL_F_conditions);
    const uint32_t *types = kl_v_earlier(c, list, (const kl_sym[]){KL_F_type}, 1);
    for (size_t i = 0; types && i < kl_len(list); i++) {
        const struct kl_value *v = kl_at(list, i);
        const struct kl_vpath *at = I(&c->status, i); // upstream leaves "conditions" out
        if (types[i] != KL_V_NONE)
            kl_v_invalid(c, F(at, type), kl_get(v, KL_F_type),
                         kl_v_text(c,
                                   "the type of the condition is not unique, it also appears in "
                                   "conditions[%u]",
                                   types[i]));
        kl_v_format(c, F(at, type), kl_text(kl_get(v, KL_F_type)), KL_V_QUALIFIED);
        kl_v_format(c, F(at, status), kl_text(kl_get(v, KL_F_status)), KL_V_QUALIFIED);
        if (!kl_text(kl_get(v, KL_F_reason)).n)
            kl_v_required(c, F(at, reason), "");
        if (!kl_text(kl_get(v, KL_F_message)).n)
            kl_v_required(c, F(at, message), "");
    }
}

static void create_storage_version(struct kl_v *c)
{
    c->name_rule = storage_version_name;
    kl_v_meta(c, KL_V_OWN);
}

// Its spec is empty: there is nothing that an update could break.
static void update_storage_version(struct kl_v *c)
{
    (void)c;
}

const struct kl_v_kind kl_v_machinery[] = {
    {KL_RES_apiregistration_v1_apiservices, check_service, update_service, status_service, NULL,
     NULL},
    {KL_RES_coordination_v1beta1_leasecandidates, create_candidate, update_candidate, NULL, NULL,
     NULL},
    {KL_RES_storagemigration_v1beta1_storageversionmigrations, create_migration, update_migration,
     status_migration, NULL, NULL},
    {KL_RES_internal_v1alpha1_storageversions, create_storage_version, update_storage_version,
     status_storage_version, NULL, NULL},
    {0},
};
