// SPDX-License-Identifier: Apache-2.0
// Kinds of the control plane's own: APIServices, LeaseCandidates, StorageVersionMigrations.
#include "object/schema.h"
#include "object/types_gen.h"
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

const struct kl_v_kind kl_v_machinery[] = {
    {KL_RES_apiregistration_v1_apiservices, check_service, update_service, status_service, NULL,
     NULL},
    {KL_RES_coordination_v1beta1_leasecandidates, create_candidate, update_candidate, NULL, NULL,
     NULL},
    {KL_RES_storagemigration_v1beta1_storageversionmigrations, create_migration, update_migration,
     status_migration, NULL, NULL},
    {0},
};
